//! HTTP/2 as real clients speak it: curl, h2load, grpcio on both sides, a WebSocket inside a stream.
//!
//! The mixes are those operators run: HTTP/2 over TLS and with prior knowledge in front, HTTP/1.1 and HTTP/2 behind. Frames
//! are not looked at here; that is the h2 room's matter. What is asked is whether such a client notices anything at
//! all, and whether the access log tells the same story.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::backend::{backend, polite, read_head};
use crate::daemon::{Daemon, Folder, free_address, own_ip, until};
use crate::tools::{Authority, Key, Peer, Said, have_all, https, mirror, pool, python, run};

/// Larger than every window and buffer on the way.
const LARGE: usize = 5 * 1024 * 1024;

/// A plain and a TLS listener in front of the pool "web".
struct Site {
    daemon: Daemon,
    plain: SocketAddr,
    tls: SocketAddr,
    authority: Authority,
}

impl Site {
    fn start(name: &str, pool: &str) -> Site {
        let (authority, plain, tls) = (Authority::new(name), free_address(), free_address());
        let pair = authority.issue("localhost", Key::Ecdsa, &["localhost"]);
        let text = format!("[[listener]]\nname = \"plain\"\nlisten = \"{plain}\"\npool = \"web\"\n")
            + &https("tls", tls, &[&pair], "")
            + pool;
        Site { daemon: Daemon::start(name, &text), plain, tls, authority }
    }

    fn ca(&self) -> String {
        self.authority.file().to_string_lossy().into_owned()
    }

    /// curl, which finds "localhost" at the TLS listener.
    fn curl(&self, arguments: &[&str]) -> Said {
        let (ca, at) = (self.ca(), format!("localhost:{}:{}", self.tls.port(), self.tls.ip()));
        run("curl", &[&["-sS", "--max-time", "50", "--cacert", &ca, "--resolve", &at], arguments].concat(), "")
    }

    fn over_tls(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls.port())
    }

    fn in_plain(&self, path: &str) -> String {
        format!("http://{}{path}", self.plain)
    }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count.div_ceil(8))
        .flat_map(|word| (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(count)
        .collect()
}

/// Answers with the body it was sent, taken out of its chunks if it came in any.
fn echo(mut stream: TcpStream) {
    let mut input = Vec::new();
    loop {
        let Some(head) = until_found(&mut stream, &mut input, b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let mut body = Vec::new();
        if let Some(length) = length {
            if !fill(&mut stream, &mut input, length) {
                return;
            }
            body.extend(input.drain(..length));
        } else if head.contains("transfer-encoding: chunked") {
            loop {
                let Some(line) = until_found(&mut stream, &mut input, b"\r\n") else { return };
                let line = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
                if !fill(&mut stream, &mut input, size + 2) {
                    return;
                }
                body.extend(input.drain(..size));
                input.drain(..2);
                if size == 0 {
                    break;
                }
            }
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

fn fill(stream: &mut TcpStream, input: &mut Vec<u8>, count: usize) -> bool {
    let mut space = vec![0; 65536];
    while input.len() < count {
        match stream.read(&mut space) {
            Ok(read @ 1..) => input.extend_from_slice(&space[..read]),
            _ => return false,
        }
    }
    true
}

fn until_found(stream: &mut TcpStream, input: &mut Vec<u8>, what: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = input.windows(what.len()).position(|window| window == what) {
            return Some(input.drain(..at + what.len()).collect());
        }
        let more = input.len() + 1;
        if !fill(stream, input, more) {
            return None;
        }
    }
}

#[test]
fn curl_gets_the_same_in_every_version_and_the_log_tells_which() {
    if !have_all("curl-versions", &["curl", "openssl"], &[]) {
        return;
    }
    let site = Site::start("curl-versions", &pool(&[backend(mirror)], ""));
    let table = [
        ("--http1.1", site.over_tls("/tls1"), "1.1", "HTTP/1.1", "https"),
        ("--http2", site.over_tls("/tls2"), "2", "HTTP/2.0", "https"),
        ("--http1.1", site.in_plain("/plain1"), "1.1", "HTTP/1.1", "http"),
        ("--http2-prior-knowledge", site.in_plain("/plain2"), "2", "HTTP/2.0", "http"),
    ];
    for (option, url, told, logged, scheme) in table {
        let path = &url[url.rfind('/').expect("a path")..];
        let words = [option, "-H", "X-Sent: by curl", "-H", "Cookie: a=1", "-w", "%{http_version} %{http_code}", &url];
        let said = site.curl(&words);
        assert!(said.fine, "{option} {url}: {}", said.err);
        let (head, told_by_curl) = said.out.rsplit_once("\r\n\r\n").expect("the mirrored head");
        assert_eq!(told_by_curl, format!("{told} 200"), "{option} {url}");
        // What reaches the backend is HTTP/1.1, whatever was spoken in front.
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        let head = head.to_ascii_lowercase();
        for field in ["x-sent: by curl", "cookie: a=1", &format!("x-forwarded-proto: {scheme}"), "accept: */*"] {
            assert!(head.contains(field), "{option} {url}: the backend did not see {field:?}: {head}");
        }
        assert_eq!(head.matches("\nhost: ").count(), 1, "{head}");
        let line = site.daemon.wait_log(path);
        assert_eq!((&line["version"], &line["status"]), (&logged.into(), &200.into()), "{line}");
        assert_eq!((&line["method"], &line["cause"]), (&"GET".into(), &Value::Null), "{line}");
    }
}

#[test]
fn bodies_cross_http2_byte_for_byte_both_ways() {
    if !have_all("curl-bodies", &["curl", "openssl"], &[]) {
        return;
    }
    let site = Site::start("curl-bodies", &pool(&[backend(echo)], ""));
    let folder = Folder::new("curl-bodies-files");
    let (up, down) = (folder.0.join("up"), folder.0.join("down"));
    fs::write(&up, pattern(LARGE)).expect("the folder can be written");
    let (data, out) = (format!("@{}", up.display()), down.to_string_lossy().into_owned());
    let table: [(&str, String, &[&str]); 3] = [
        ("--http2", site.over_tls("/length"), &[]),
        ("--http2-prior-knowledge", site.in_plain("/plain"), &[]),
        // Without a length, so the backend gets chunks.
        ("--http2", site.over_tls("/unknown"), &["-H", "Content-Length:"]),
    ];
    for (option, url, more) in table {
        let path = &url[url.rfind('/').expect("a path")..];
        let words = [option, "-X", "POST", "-H", "Expect:", "--data-binary", &data, "-o", &out, &url];
        let said = site.curl(&[&words, more].concat());
        assert!(said.fine, "{url}: {}", said.err);
        assert!(fs::read(&down).expect("curl wrote it") == pattern(LARGE), "{url}: the body came back different");
        let line = site.daemon.wait_log(path);
        assert_eq!((&line["status"], &line["version"]), (&200.into(), &"HTTP/2.0".into()), "{line}");
        let bytes = |key: &str| line[key].as_u64().expect("a count");
        assert!(bytes("bytes_in") > LARGE as u64 && bytes("bytes_out") > LARGE as u64, "{line}");
    }
}

/// One number of h2load's summary line, such as the 2000 of "2000 succeeded".
fn count(said: &Said, word: &str) -> u64 {
    let line = said.out.lines().find(|line| line.starts_with("requests: ")).unwrap_or_default();
    let found = line.split(", ").find_map(|part| part.strip_prefix("requests: ").unwrap_or(part).strip_suffix(word));
    found.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {word}: {}{}", said.out, said.err))
}

#[test]
fn h2load_sees_no_failure_over_many_streams() {
    if !have_all("h2load", &["h2load", "openssl"], &[]) {
        return;
    }
    let site = Site::start("h2load", &pool(&[backend(polite), backend(polite)], ""));
    // The certificate is for the name, the listener is at the address.
    let (connect, plain) = (format!("--connect-to={}", site.tls), site.in_plain("/in-plain"));
    let table: [(&str, &[&str]); 2] =
        [("/over-tls", &[&connect, "https://localhost/over-tls"]), ("/in-plain", &[&plain])];
    for (path, words) in table {
        let said = run("h2load", &[&["-n3000", "-c8", "-m20", "-t1"], words].concat(), "");
        assert_eq!(count(&said, "succeeded"), 3000, "{}{}", said.out, said.err);
        assert_eq!((count(&said, "failed"), count(&said, "errored")), (0, 0), "{}", said.out);
        let lines = until("a log line for each request", || {
            let lines: Vec<Value> = site.daemon.log().into_iter().filter(|line| line["target"] == path).collect();
            (lines.len() >= 3000).then_some(lines)
        });
        assert_eq!(lines.len(), 3000);
        let good = |line: &&Value| line["status"] == 200 && line["version"] == "HTTP/2.0" && line["cause"].is_null();
        assert_eq!(lines.iter().filter(good).count(), 3000);
    }
    // Streams are requests, not connections.
    assert_eq!(site.daemon.metric("evenkeel_listener_connections_total", &["listener=\"tls\""]), 8.0);
}

#[test]
fn grpc_calls_of_every_kind_pass_with_their_status_and_trailers() {
    if !have_all("grpc", &["openssl"], &["grpc"]) {
        return;
    }
    let host = own_ip().to_string();
    let peer = Peer::start("grpc_peer.py", &host, &["serve", &format!("{host}:0")]);
    let direct = python("grpc_peer.py", &["call", &peer.address.to_string()]);
    let ok = |said: Value| json!({"status": "OK", "said": said});
    let trailing = json!({"x-trailing": "kept", "x-heard": "hello", "x-raw-bin": "00ff"});
    for (kind, expected) in [
        ("unary", ok(json!(["cba", trailing]))),
        ("large", ok(json!(true))),
        ("server_stream", ok(json!(500))),
        ("client_stream", ok(json!(["abc", "3"]))),
        ("conversation", ok(json!(["heard one", "heard two", "heard three"]))),
        ("fail_midway", ok(json!([["first"], "DATA_LOSS", "lost after the first"]))),
        ("health", ok(json!("0801"))),
        ("health_watch", ok(json!("0801"))),
    ] {
        assert_eq!(direct[kind], expected, "{kind}, straight to the server");
    }
    assert_eq!(direct["deadline"]["status"], "DEADLINE_EXCEEDED");
    assert_eq!(direct["fail"]["status"], "NOT_FOUND");

    let site = Site::start("grpc", &pool(&[peer.address], "protocol = \"h2\"\n"));
    let ca = site.ca();
    for (listener, words) in [
        ("plain", vec!["call".to_owned(), site.plain.to_string()]),
        ("tls", vec!["call".to_owned(), site.tls.to_string(), ca, "localhost".to_owned()]),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut through = python("grpc_peer.py", &words);
        // An answer without a body gets a length on its way through HTTP/1.1 text, and grpcio shows it among the
        // trailing metadata. It says what is true, so a client is allowed to see it.
        for told in through.as_object_mut().expect("an object").values_mut() {
            told.get_mut("trailing").and_then(Value::as_object_mut).map(|trailing| trailing.remove("content-length"));
        }
        assert_eq!(through, direct, "through the listener {listener}, and without it");
        let line = |target: &str| {
            site.daemon.wait_log_where(target, |line| line["listener"] == listener && line["target"] == target)
        };
        for method in ["Unary", "Large", "CountUp", "Join", "Converse", "Fail", "FailMidway", "Nobody"] {
            let line = line(&format!("/evenkeel.Test/{method}"));
            assert_eq!((&line["status"], &line["version"]), (&200.into(), &"HTTP/2.0".into()), "{line}");
            assert_eq!(line["cause"], Value::Null, "what the server itself says of a call is not a failure: {line}");
        }
        let line = line("/evenkeel.Test/Hang");
        // Client and server know the same deadline: either may act on it first.
        let ended = line["cause"] == "client_aborted" || line["cause"].is_null() && line["status"] == 200;
        assert!(ended, "the deadline passed at the client, or at the server: {line}");
    }
}

#[test]
fn a_grpc_client_of_a_dead_backend_is_told_unavailable() {
    if !have_all("grpc-dead", &["openssl"], &["grpc"]) {
        return;
    }
    let site = Site::start("grpc-dead", &pool(&[free_address()], "protocol = \"h2\"\n"));
    let told = python("grpc_peer.py", &["ask", &site.plain.to_string()]);
    assert_eq!(told["status"], "UNAVAILABLE", "{told}");
    let details = told["details"].as_str().expect("grpc gives the status a text");
    assert!(details.contains("backend_connect_refused"), "the text names the cause: {told}");
    let line = site.daemon.wait_log("/evenkeel.Test/Unary");
    assert_eq!(line["cause"], "backend_connect_refused", "{line}");
    let (tls, ca) = (site.tls.to_string(), site.ca());
    assert_eq!(python("grpc_peer.py", &["ask", &tls, &ca, "localhost"])["status"], "UNAVAILABLE");
    for listener in ["listener=\"plain\"", "listener=\"tls\""] {
        let labels = [listener, "cause=\"backend_connect_refused\""];
        assert_eq!(site.daemon.metric("evenkeel_failures_total", &labels), 1.0, "{listener}");
    }
}

#[test]
fn a_websocket_runs_inside_a_stream() {
    if !have_all("websocket-h2", &["openssl"], &["websockets", "h2"]) {
        return;
    }
    let host = own_ip().to_string();
    let peer = Peer::start("websocket_peer.py", &host, &["serve", &host]);
    let site = Site::start("websocket-h2", &pool(&[peer.address], ""));
    let ca = site.ca();
    for (address, path, more) in [(site.plain, "/plain-chat", vec![]), (site.tls, "/tls-chat", vec![ca.as_str()])] {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let told = python("websocket_peer.py", &[&["http2", &ip, &port, path], more.as_slice()].concat());
        let expected = json!({
            "offered": 1, "status": "200", "text": "grüße", "large": true, "closed": [4001, "as told"], "ended": "in order",
        });
        assert_eq!(told, expected, "{path}");
        let line = site.daemon.wait_log(path);
        assert_eq!((&line["version"], &line["cause"]), (&"HTTP/2.0".into(), &Value::Null), "{line}");
        let bytes = |key: &str| line[key].as_u64().expect("a count");
        assert!(bytes("bytes_in") > 1 << 20 && bytes("bytes_out") > 1 << 20, "{line}");
    }
}

#[test]
fn a_drain_lets_a_running_stream_end_and_then_the_node_goes() {
    if !have_all("h2-drain", &["curl", "openssl"], &[]) {
        return;
    }
    // The second half of the body comes when the drain is under way, which the test says.
    static DRAINING: AtomicBool = AtomicBool::new(false);
    let server = backend(|mut stream| {
        while read_head(&mut stream).is_some() {
            let half = pattern(LARGE / 2);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * half.len());
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&half)).is_err() {
                return;
            }
            until("the drain", || DRAINING.load(Ordering::Acquire).then_some(()));
            if stream.write_all(&half).is_err() {
                return;
            }
        }
    });
    let mut site = Site::start("h2-drain", &pool(&[server], ""));
    let folder = Folder::new("h2-drain-files");
    let out = folder.0.join("down");
    let (ca, at) = (site.ca(), format!("localhost:{}:{}", site.tls.port(), site.tls.ip()));
    let mut curl = Command::new("curl")
        .args(["-sS", "--http2", "--max-time", "50", "--cacert", &ca, "--resolve", &at, "-N", "-o"])
        .arg(&out)
        .arg(site.over_tls("/slow"))
        .stdin(Stdio::null())
        .spawn()
        .expect("curl was found before");
    until("the first half", || (fs::metadata(&out).ok()?.len() >= (LARGE / 2) as u64).then_some(()));
    site.daemon.signal(Signal::TERM);
    site.daemon.wait_event(0, &[" node.draining "]);
    until("the listening sockets to close", || site.daemon.listening_inodes(site.tls).is_empty().then_some(()));
    DRAINING.store(true, Ordering::Release);
    assert!(curl.wait().expect("it is our child").success(), "curl had the whole answer");
    let half = pattern(LARGE / 2);
    assert!(fs::read(&out).expect("curl wrote it") == [half.as_slice(), &half].concat(), "the download differs");
    assert_eq!(site.daemon.wait_exit().code(), Some(0));
    let lines: Vec<Value> = site.daemon.log().into_iter().filter(|line| line["target"] == "/slow").collect();
    assert_eq!((lines.len(), &lines[0]["status"], &lines[0]["cause"]), (1, &200.into(), &Value::Null), "{lines:?}");
}
