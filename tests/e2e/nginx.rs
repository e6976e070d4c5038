//! HTTP as real software speaks it: a Debian nginx behind the balancer, curl and raw clients in front.
//!
//! Each exchange is compared with what nginx itself answers, and with its line in the access log.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::backend::{backend, read_head};
use crate::client::{Answer, End, Wire};
use crate::daemon::{Daemon, Folder, free_address, has, skipped, until};

/// Larger than every buffer on the way.
const LARGE: usize = 20 * 1024 * 1024;

struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(folder: &Path) -> Nginx {
        let address = free_address();
        let place = folder.display();
        fs::create_dir_all(folder.join("root")).expect("the folder can be written");
        fs::write(folder.join("root/large"), pattern(LARGE)).expect("the folder can be written");
        fs::write(folder.join("root/small"), "small\n").expect("the folder can be written");
        let config = folder.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log {place}/nginx.log; client_max_body_size 100m; client_body_temp_path {place}/body;\n\
             server {{ listen {address}; root {place}/root;\n\
             location = /nothing {{ return 204; }} }} }}\n"
        );
        fs::write(&config, text).expect("the folder can be written");
        let child = Command::new("nginx")
            .args(["-p", &place.to_string(), "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx was found before");
        let nginx = Nginx { child, address };
        until("nginx to listen", || TcpStream::connect(address).ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that differ from place to place, so that a lost or doubled piece is seen.
fn pattern(count: usize) -> Vec<u8> {
    (0..count.div_ceil(8))
        .flat_map(|word| (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(count)
        .collect()
}

fn daemon(name: &str, address: SocketAddr, server: SocketAddr, keys: &str) -> Daemon {
    let text = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\npool = \"web\"\n{keys}\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n"
    );
    Daemon::start(name, &text)
}

/// nginx, a balancer in front of it, and the folder of both.
fn stage(test: &str) -> Option<(Nginx, Daemon, SocketAddr, Folder)> {
    if let Some(tool) = ["nginx", "curl"].into_iter().find(|tool| !has(tool)) {
        skipped(test, tool);
        return None;
    }
    let (folder, address) = (Folder::new("nginx"), free_address());
    let nginx = Nginx::start(&folder.0);
    let daemon = daemon(test, address, nginx.address, "");
    Some((nginx, daemon, address, folder))
}

fn exchange(address: SocketAddr, request: &str, head_only: bool) -> Answer {
    let mut wire = Wire::open(address);
    wire.send(request);
    wire.answer_to(head_only).unwrap_or_else(|end| panic!("no answer to {request:?}: {end:?}"))
}

#[test]
fn what_nginx_answers_arrives_as_it_is() {
    let Some((nginx, daemon, address, _folder)) = stage("nginx-as-is") else { return };
    let etag = exchange(nginx.address, "HEAD /small HTTP/1.1\r\nHost: e\r\n\r\n", true);
    let etag = etag.field("etag").expect("nginx sends one").to_owned();
    let table = [
        ("get", "GET /small?get HTTP/1.1\r\nHost: e\r\n\r\n".to_owned(), false, 200),
        ("head", "HEAD /small?head HTTP/1.1\r\nHost: e\r\n\r\n".to_owned(), true, 200),
        (
            "range",
            "GET /large?range HTTP/1.1\r\nHost: e\r\nRange: bytes=1000000-1000099\r\n\r\n".to_owned(),
            false,
            206,
        ),
        ("ranges", "GET /small?ranges HTTP/1.1\r\nHost: e\r\nRange: bytes=90-99\r\n\r\n".to_owned(), false, 416),
        ("not modified", format!("GET /small?304 HTTP/1.1\r\nHost: e\r\nIf-None-Match: {etag}\r\n\r\n"), false, 304),
        ("no content", "GET /nothing?204 HTTP/1.1\r\nHost: e\r\n\r\n".to_owned(), false, 204),
        ("missing", "GET /missing?404 HTTP/1.1\r\nHost: e\r\n\r\n".to_owned(), false, 404),
        ("not allowed", "POST /small?405 HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\n\r\nabc".to_owned(), false, 405),
        ("http/1.0", "GET /small?10 HTTP/1.0\r\nHost: e\r\n\r\n".to_owned(), false, 200),
        ("close", "GET /small?close HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n".to_owned(), false, 200),
    ];
    let mut ended = [0.0; 6];
    for (what, request, head_only, status) in table {
        let direct = exchange(nginx.address, &request, head_only);
        let through = exchange(address, &request, head_only);
        assert_eq!((direct.status, through.status), (status, status), "{what}");
        assert_eq!(direct.body, through.body, "{what}");
        for field in ["content-length", "content-type", "content-range", "etag", "last-modified", "server"] {
            assert_eq!(direct.field(field), through.field(field), "{what}: {field}");
        }
        let mut words = request.split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let line = daemon.wait_log(target);
        assert_eq!((&line["method"], &line["status"]), (&method.into(), &status.into()), "{what}: {line}");
        assert!(line["cause"].is_null(), "{what}: {line}");
        assert_eq!(line["backend"], nginx.address.to_string(), "{what}: {line}");
        ended[usize::from(status) / 100] += 1.0;
    }
    for class in [2, 3, 4] {
        let label = format!("status=\"{class}xx\"");
        assert_eq!(daemon.metric("evenkeel_requests_total", &["listener=\"web\"", &label]), ended[class], "{label}");
    }
}

#[test]
fn connections_are_kept_and_closed_as_the_client_asked() {
    let Some((_nginx, daemon, address, _folder)) = stage("nginx-keep-alive") else { return };
    let mut kept = Wire::open(address);
    for _ in 0..5 {
        let answer = kept.get("/small");
        assert_eq!((answer.status, answer.says_close()), (200, false), "{}", answer.head);
    }
    let line = daemon.wait_log_where("the fifth request", |line| line["client_requests"] == 4);
    assert_eq!(line["reused"], true, "the backend's connection was kept too: {line}");
    kept.send("GET /small HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n");
    let answer = kept.answer().expect("an answer");
    assert!(answer.says_close(), "{}", answer.head);
    assert_eq!(kept.rest(), (Vec::new(), End::Closed));

    // HTTP/1.0 closes unless it asks otherwise.
    let mut old = Wire::open(address);
    old.send("GET /small HTTP/1.0\r\nHost: e\r\n\r\n");
    assert_eq!(old.answer().expect("an answer").body, b"small\n");
    assert_eq!(old.rest(), (Vec::new(), End::Closed));

    // Sent in one piece, answered in order.
    let mut pipelined = Wire::open(address);
    pipelined.send(
        "GET /small?1 HTTP/1.1\r\nHost: e\r\n\r\nGET /missing?2 HTTP/1.1\r\nHost: e\r\n\r\nGET /nothing?3 HTTP/1.1\r\nHost: e\r\n\r\n",
    );
    let answers: Vec<u16> = (0..3).map(|_| pipelined.answer().expect("an answer").status).collect();
    assert_eq!(answers, [200, 404, 204]);
}

#[test]
fn large_bodies_arrive_byte_for_byte() {
    let Some((_nginx, daemon, address, folder)) = stage("nginx-large") else { return };
    let out = folder.0.join("downloaded");
    curl(&["-o", &out.to_string_lossy(), &format!("http://{address}/large")]);
    assert!(fs::read(&out).expect("curl wrote it") == pattern(LARGE), "the download differs");
    let line = daemon.wait_log("/large");
    assert!(line["bytes_out"].as_u64().expect("a count") > LARGE as u64, "{line}");
}

#[test]
fn uploads_arrive_byte_for_byte_with_length_and_in_chunks() {
    if !has("curl") {
        return skipped("uploads", "curl");
    }
    let (address, server) = (free_address(), backend(echo_body));
    let daemon = daemon("uploads", address, server, "");
    let folder = Folder::new("uploads");
    let (file, out) = (folder.0.join("up"), folder.0.join("down"));
    fs::write(&file, pattern(LARGE)).expect("the folder can be written");
    let table: [(&str, &[&str]); 3] = [
        ("/length", &["-H", "Expect:"]),
        ("/chunked", &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]),
        ("/expect", &["-H", "Expect: 100-continue", "--expect100-timeout", "30"]),
    ];
    for (target, more) in table {
        let (data, url) = (format!("@{}", file.display()), format!("http://{address}{target}"));
        let out = out.to_string_lossy().into_owned();
        let said = curl(&[&["-v", "-X", "POST", "--data-binary", &data, "-o", &out, &url], more].concat());
        assert!(fs::read(&out).expect("curl wrote it") == pattern(LARGE), "{target}: the upload came back different");
        let continued = said.contains("100 Continue");
        assert_eq!(continued, target == "/expect", "{target}: {said}");
        let line = daemon.wait_log(target);
        assert!(line["cause"].is_null() && line["bytes_in"].as_u64() > Some(LARGE as u64), "{target}: {line}");
    }
}

/// curl's story of an exchange; it must end well.
fn curl(arguments: &[&str]) -> String {
    let done = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output().expect("curl is here");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "curl {arguments:?}: {said}");
    said
}

/// Answers with the body it was sent, chunks and all, after a 100 where one is expected.
fn echo_body(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let mut space = vec![0; 65536];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut space) {
            Ok(count @ 1..) => bytes.extend_from_slice(&space[..count]),
            _ => return,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    if head.contains("expect: 100-continue") && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
        return;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let complete = |body: &[u8]| match length {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"\r\n0\r\n\r\n"),
    };
    while !complete(&bytes[head_end..]) {
        match stream.read(&mut space) {
            Ok(count @ 1..) => bytes.extend_from_slice(&space[..count]),
            _ => return,
        }
    }
    let framing = length.map_or("Transfer-Encoding: chunked".to_owned(), |length| format!("Content-Length: {length}"));
    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}\r\n\r\n").as_bytes());
    let _ = stream.write_all(&bytes[head_end..]);
}

#[test]
fn interim_answers_reach_clients_that_know_them() {
    let server = backend(|mut stream| {
        while read_head(&mut stream).is_some() {
            let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let address = free_address();
    let daemon = daemon("interim", address, server, "");
    let mut wire = Wire::open(address);
    let early = wire.get("/new");
    assert_eq!((early.status, early.field("link")), (103, Some("</a.css>; rel=preload")), "{}", early.head);
    assert_eq!(wire.answer().expect("the answer proper").status, 200);
    assert_eq!(daemon.wait_log("/new")["status"], 200);
    // RFC 9110 section 15.2: never to HTTP/1.0.
    assert_eq!(exchange(address, "GET /old HTTP/1.0\r\n\r\n", false).status, 200);
}

#[test]
fn an_upgraded_request_is_a_tunnel_both_ways() {
    let server = backend(|mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        assert!(head.to_ascii_lowercase().contains("upgrade: websocket"), "the backend is asked to switch: {head}");
        let _ = stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello");
        let mut space = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut space) {
            if stream.write_all(&space[..count]).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"bye");
    });
    let address = free_address();
    let daemon = daemon("upgrade", address, server, "");
    let mut wire = Wire::open(address);
    wire.send("GET /chat HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    let answer = wire.answer().expect("an answer");
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")), "{}", answer.head);
    // What comes behind either head is the tunnel's.
    let mut got = wire.exactly(10);
    got.sort_unstable();
    let mut expected = b"helloearly".to_vec();
    expected.sort_unstable();
    assert_eq!(got, expected);
    for round in 0..20_u8 {
        wire.send([round; 1000]);
        assert_eq!(wire.exactly(1000), [round; 1000]);
    }
    // The client's end is passed on; the backend's last word still arrives.
    wire.stream.shutdown(std::net::Shutdown::Write).expect("the tunnel stands");
    assert_eq!(wire.rest(), (b"bye".to_vec(), End::Closed));
    let line = daemon.wait_log("/chat");
    assert_eq!((&line["status"], &line["cause"]), (&101.into(), &serde_json::Value::Null), "{line}");
    assert!(line["bytes_in"].as_u64() > Some(20_000), "{line}");
}

#[test]
fn backends_learn_who_the_client_is_and_strangers_cannot_lie_about_it() {
    let mirror = || {
        backend(|mut stream| {
            while let Some(head) = read_head(&mut stream) {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    };
    let claims = "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
                  X-Real-IP: 203.0.113.9\r\nForwarded: for=203.0.113.9;proto=https\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n";
    let seen = |keys: &str| {
        let address = free_address();
        let daemon = daemon("forwarded", address, mirror(), keys);
        let answer = exchange(address, claims, false);
        drop(daemon);
        let head = String::from_utf8(answer.body).expect("ASCII");
        (Answer { head, status: 0, body: Vec::new(), end: End::Framed }, address)
    };

    let (stranger, address) = seen("forwarded = true");
    assert_eq!(stranger.field("x-forwarded-for"), Some("127.0.0.1"), "{}", stranger.head);
    assert_eq!(stranger.field("x-real-ip"), Some("127.0.0.1"), "{}", stranger.head);
    assert_eq!(stranger.field("x-forwarded-proto"), Some("http"), "{}", stranger.head);
    assert_eq!(stranger.field("x-forwarded-host"), Some("shop.example"), "{}", stranger.head);
    assert_eq!(stranger.field("x-forwarded-port"), Some(address.port().to_string().as_str()), "{}", stranger.head);
    assert!(!stranger.head.contains("203.0.113.9"), "a stranger's claim reached the backend: {}", stranger.head);
    assert!(stranger.field("forwarded").is_some_and(|value| value.contains("for=127.0.0.1")), "{}", stranger.head);
    assert_eq!(stranger.field("x-secret"), None, "a field named in Connection is for us alone: {}", stranger.head);

    let (trusted, _) = seen("forwarded = true\ntrusted = [\"127.0.0.0/8\"]");
    assert_eq!(trusted.field("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"), "{}", trusted.head);
    assert_eq!(trusted.field("x-forwarded-proto"), Some("https"), "{}", trusted.head);
    assert_eq!(trusted.field("x-real-ip"), Some("203.0.113.9"), "{}", trusted.head);
    let forwarded = trusted.field("forwarded").expect("it was asked for");
    assert!(forwarded.starts_with("for=203.0.113.9;proto=https, for=127.0.0.1"), "{}", trusted.head);

    let (off, _) = seen("x_forwarded = false");
    for field in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        assert!(!off.field(field).is_some_and(|value| value.contains("203.0.113.9")), "{field}: {}", off.head);
    }
}
