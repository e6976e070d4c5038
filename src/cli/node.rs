//! Asks a running node for its status document.
//!
//! One request in HTTP/1.0 over a blocking socket: a command that asks one question needs no client library and no
//! runtime. Everything is bounded, since whatever answers there may be something else.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For the connection, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For all of it.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(10);
/// Largest document: 100,000 checks with ten findings each are less.
const SIZE_MAX: usize = 1 << 28;

/// Where to ask a node that listens on `address`: one that listens everywhere is asked on this host.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, address.port())
}

/// The status document, or why there is none.
pub fn status(address: SocketAddr) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("no node answers on {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let until = Instant::now() + PATIENCE_IN_ALL;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut piece).map_err(failed)? {
            0 => return document(&answer).ok_or_else(|| format!("what answers on {address} is no evenkeel node")),
            read => answer.extend_from_slice(&piece[..read]),
        }
        if answer.len() > SIZE_MAX || Instant::now() > until {
            return Err(format!("the answer of {address} does not end"));
        }
    }
}

/// The body of an answer with status 200, when it is a status document.
fn document(answer: &[u8]) -> Option<Value> {
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..head_end]).ok()?;
    let status_line = head.lines().next()?;
    if !status_line.starts_with("HTTP/1.") || status_line.split(' ').nth(1) != Some("200") {
        return None;
    }
    let document: Value = serde_json::from_slice(&answer[head_end + 4..]).ok()?;
    document["events"].is_array().then_some(document)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_a_status_document_is_taken_for_one() {
        let good = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"events\":[]}";
        assert!(document(good).is_some());
        let strange: [&[u8]; 7] = [
            b"",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/1.0 404 Not Found\r\n\r\n{\"events\":[]}",
            b"HTTP/1.0 200 OK\r\n\r\n{\"events\":1}",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"SSH-2.0-OpenSSH\r\n\r\n{\"events\":[]}",
            b"\xff\r\n\r\n{}",
        ];
        for answer in strange {
            assert_eq!(document(answer), None, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_node_is_asked_over_a_socket_and_one_that_is_not_there_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"events\":[],\"version\":\"x\"}").unwrap();
            String::from_utf8(request[..read].to_vec()).unwrap()
        });
        assert_eq!(status(address).map(|document| document["version"].clone()), Ok("x".into()));
        assert!(node.join().unwrap().starts_with("GET /status HTTP/1.0\r\n"));
        let why = status(address).expect_err("the listener is gone");
        assert!(why.starts_with(&format!("no node answers on {address}: ")), "{why}");
    }

    #[test]
    fn a_node_that_listens_everywhere_is_asked_here() {
        let table =
            [("0.0.0.0:9900", "127.0.0.1:9900"), ("[::]:9900", "[::1]:9900"), ("10.1.2.3:9900", "10.1.2.3:9900")];
        for (listens, asked) in table {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
