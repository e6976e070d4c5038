//! Backends with bad manners, and one with good ones: a thread for each connection, a script for each thread.
//!
//! Plain blocking sockets rather than a server library, which would be too well behaved for what is tested here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::daemon::own_ip;

/// Listens on an address of its own and runs `script` with each connection. The threads end with the process.
pub fn backend(script: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((own_ip(), 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    serve(listener, script);
    address
}

pub fn serve(listener: TcpListener, script: impl Fn(TcpStream) + Send + Sync + 'static) {
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = Arc::clone(&script);
            std::thread::spawn(move || {
                // Answers are written in one piece; with Nagle the next would wait for an ACK.
                let _ = stream.set_nodelay(true);
                script(stream);
            });
        }
    });
}

/// Reads one request head, and no byte more than came with it. `None` when the other side ended.
pub fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut space = [0; 4096];
    loop {
        match stream.read(&mut space) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&space[..count]),
        }
        if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// Keeps the connection and says nothing until the other side ends it.
pub fn hold(mut stream: TcpStream) {
    let mut space = [0; 4096];
    while matches!(stream.read(&mut space), Ok(1..)) {}
}

pub fn reset(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).expect("a socket takes the option");
}

/// Answers every request with 200 and a small body, keep-alive.
pub fn polite(mut stream: TcpStream) {
    while read_head(&mut stream).is_some() {
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").is_err() {
            return;
        }
    }
}

/// Answers the first request with `bytes` and closes.
pub fn says(bytes: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(bytes);
        }
    }
}
