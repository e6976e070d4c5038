//! The prober on real sockets: what Linux says on loopback, through the epoll driver.
//!
//! Servers are threads that follow a script and hold their connection until the prober has decided, so
//! nothing here depends on how fast a machine is.

mod real;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{CheckSettings, ProbeSettings, Silence, StatusSet, TcpProbe, UdpProbe};
use evenkeel_model::finding::{FailureReason, Pass, ProbePhase, ProbeResult, Proof, Void};
use real::{BRIEF, PATIENT, failed, probe, settings, udp};

fn http(method: &str, host: Option<&str>) -> ProbeSettings {
    real::http(method, host, StatusSet::default())
}

/// A server that plays `script` on every connection until the test is over.
struct Server {
    address: SocketAddr,
    heads: Receiver<String>,
}

/// `script` gets each connection with its request head read; what it returns is kept open.
fn server(script: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (heard, heads) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            if heard.send(String::from_utf8_lossy(&head).into_owned()).is_err() {
                return;
            }
            kept.extend(script(stream));
        }
    });
    Server { address, heads }
}

fn says(answer: &'static [u8]) -> Server {
    server(move |mut stream| stream.write_all(answer).is_ok().then_some(stream))
}

/// A port on which nothing listens: the kernel chose it, and it was let go.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

fn udp_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

/// Answers every datagram with `answer`.
fn udp_answers(answer: &'static [u8]) -> SocketAddr {
    let (socket, address) = udp_server();
    thread::spawn(move || {
        let mut asked = [0; 100];
        while let Ok((length, from)) = socket.recv_from(&mut asked) {
            assert_eq!(&asked[..length], b"ping");
            if socket.send_to(answer, from).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn the_status_in_the_answer_decides() {
    let table: [(&[u8], ProbeResult); 6] = [
        (b"HTTP/1.1 200 OK\r\n\r\n", ProbeResult::Passed(Pass::Status(200))),
        (b"HTTP/1.1 301 \r\nLocation: /\r\n\r\n", ProbeResult::Passed(Pass::Status(301))),
        (b"HTTP/1.1 100 \r\n\r\nHTTP/1.0 204 \r\n\r\n", ProbeResult::Passed(Pass::Status(204))),
        (b"HTTP/1.1 404 \r\n\r\n", failed(ProbePhase::Read, FailureReason::Status { got: 404 })),
        (b"HTTP/1.1 500 \r\n\r\n", failed(ProbePhase::Read, FailureReason::Status { got: 500 })),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            failed(ProbePhase::Read, FailureReason::NotHttp { why: "the port speaks tls" }),
        ),
    ];
    for (answer, expected) in table {
        let finding = probe(says(answer).address, settings(http("HEAD", None), PATIENT));
        assert_eq!(finding.result, expected, "{}", answer.escape_ascii());
    }
}

#[test]
fn the_backend_sees_the_configured_request() {
    let server = says(b"HTTP/1.1 200 OK\r\n\r\n");
    let agent = concat!("User-Agent: evenkeel-probe/", env!("CARGO_PKG_VERSION"));
    let own = server.address.to_string();
    for (method, host, seen) in [("HEAD", None, own.as_str()), ("OPTIONS", Some("shop.example"), "shop.example")] {
        probe(server.address, settings(http(method, host), PATIENT));
        let head = server.heads.recv().expect("the server heard a request");
        let expected =
            format!("{method} /health?deep=1 HTTP/1.1\r\nHost: {seen}\r\n{agent}\r\nConnection: close\r\n\r\n");
        assert_eq!(head, expected);
    }
}

#[test]
fn a_head_in_single_writes_is_put_together() {
    let server = server(|mut stream| {
        stream.set_nodelay(true).expect("a tcp socket takes the option");
        for byte in b"HTTP/1.1 200 OK\r\nServer: slow\r\n\r\n" {
            // The prober is gone after the last one, not before.
            stream.write_all(&[*byte]).expect("the prober still reads");
        }
        Some(stream)
    });
    let finding = probe(server.address, settings(http("HEAD", None), PATIENT));
    assert_eq!(finding.result, ProbeResult::Passed(Pass::Status(200)));
}

#[test]
fn a_head_that_never_ends_is_a_timeout_in_reading() {
    let server = says(b"HTTP/1.1 200 OK\r\nServer: stuck\r\n");
    let finding = probe(server.address, settings(http("HEAD", None), BRIEF));
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Unfinished { part: "head", bytes: 32 }));
    assert!(finding.duration() >= BRIEF, "{finding}: ended before its timeout");
}

#[test]
fn a_close_and_a_reset_instead_of_an_answer_are_told_apart() {
    let closes = server(|_| None);
    let finding = probe(closes.address, settings(http("HEAD", None), PATIENT));
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Closed));

    let resets = server(|stream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a tcp socket takes the option");
        None
    });
    let finding = probe(resets.address, settings(http("HEAD", None), PATIENT));
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Reset));
}

#[test]
fn an_answer_followed_by_a_reset_still_counts() {
    // It closes with the request unread, so the kernel sends a reset right behind the answer.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection waits");
            // Wait for the request without taking it, so that it is unread for certain.
            stream.peek(&mut [0]).expect("the prober sends a request");
            stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").expect("the prober still reads");
        }
    });
    let finding = probe(address, settings(http("HEAD", None), PATIENT));
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::Status { got: 503 }));
}

#[test]
fn a_greeting_in_another_protocol_is_named_at_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection waits");
            stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").expect("the prober still reads");
            kept.push(stream);
        }
    });
    let finding = probe(address, settings(http("HEAD", None), PATIENT));
    assert_eq!(finding.result, failed(ProbePhase::Read, FailureReason::NotHttp { why: "the port speaks ssh" }));
}

#[test]
fn a_closed_tcp_port_refuses_and_an_open_one_passes_without_an_accept() {
    for probing in [ProbeSettings::Tcp(TcpProbe::HalfOpen), ProbeSettings::Tcp(TcpProbe::Full), http("HEAD", None)] {
        let finding = probe(closed_port(), settings(probing, PATIENT));
        assert_eq!(finding.result, failed(ProbePhase::Connect, FailureReason::Refused));
    }
    for (probing, accepted) in [(TcpProbe::HalfOpen, false), (TcpProbe::Full, true)] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let finding = probe(address, settings(ProbeSettings::Tcp(probing), PATIENT));
        assert_eq!(finding.result, ProbeResult::Passed(Pass::Connected));
        // On loopback all packets of a probe have arrived when its close returns.
        listener.set_nonblocking(true).expect("a listener takes the option");
        assert_eq!(listener.accept().is_ok(), accepted, "{probing:?}");
    }
}

#[test]
fn a_full_accept_queue_is_a_timeout_in_connecting() {
    // Room for one connection that is never accepted; the kernel then drops further SYNs.
    let fd = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
        .expect("the process has files left");
    rustix::net::bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("loopback has a free port");
    rustix::net::listen(&fd, 0).expect("a bound socket can listen");
    let address = rustix::net::getsockname(&fd).expect("a bound socket has an address");
    let address = SocketAddr::try_from(address).expect("it is an internet address");
    let _waiting = TcpStream::connect(address).expect("the first one has room");
    let finding = probe(address, settings(ProbeSettings::Tcp(TcpProbe::HalfOpen), BRIEF));
    assert_eq!(finding.result, failed(ProbePhase::Connect, FailureReason::TimedOut));
}

#[test]
fn a_closed_udp_port_refuses() {
    let (socket, address) = udp_server();
    drop(socket);
    for check in [udp(None, Silence::Pass), udp(Some(b"pong"), Silence::Keep)] {
        let finding = probe(address, settings(check, PATIENT));
        // In reading, unless the kernel gave us that very port and we met ourselves in writing.
        assert!(
            matches!(&finding.result, ProbeResult::Failed(failure) if failure.reason == FailureReason::Refused),
            "{finding}"
        );
    }
}

#[test]
fn a_datagram_is_compared_whole() {
    let answered = ProbeResult::Passed(Pass::Answered);
    let mismatch = |got: &[u8]| failed(ProbePhase::Read, FailureReason::Mismatch { got: got.to_vec() });
    static LONG: [u8; 65_507] = [b'x'; 65_507];
    let table = [
        (&b"pong"[..], None, answered.clone()),
        (b"pong", Some(&b"pong"[..]), answered.clone()),
        (b"", None, answered.clone()),
        (b"wrong", Some(b"pong"), mismatch(b"wrong")),
        (b"", Some(b"pong"), mismatch(b"")),
        (&LONG, Some(&LONG), answered),
    ];
    for (answer, expect, expected) in table {
        let finding = probe(udp_answers(answer), settings(udp(expect, Silence::Fail), PATIENT));
        assert_eq!(finding.result, expected, "{}", answer[..answer.len().min(9)].escape_ascii());
    }
    let finding = probe(udp_answers(&LONG), settings(udp(Some(&LONG[1..]), Silence::Fail), PATIENT));
    assert_eq!(finding.result, mismatch(&LONG[..64]));
}

#[test]
fn silence_of_an_open_udp_port_means_what_the_operator_said() {
    let (_socket, address) = udp_server();
    let timed_out = || failed(ProbePhase::Read, FailureReason::TimedOut);
    for (expect, silence, expected) in [
        (None, Silence::Pass, ProbeResult::Passed(Pass::Silent(Proof::None))),
        (None, Silence::Fail, timed_out()),
        (None, Silence::Keep, ProbeResult::Void(Void::Silent)),
        (Some(&b"pong"[..]), Silence::Pass, timed_out()),
    ] {
        let finding = probe(address, settings(udp(expect, silence), BRIEF));
        assert_eq!(finding.result, expected, "{silence:?}");
        assert!(finding.duration() >= BRIEF, "{finding}: ended before its timeout");
    }
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    let (socket, address) = udp_server();
    let answering = thread::spawn(move || {
        let (length, from) = socket.recv_from(&mut [0; 100]).expect("the probe comes");
        socket.send_to(b"", from).expect("its socket is open");
        length
    });
    let check = ProbeSettings::Udp(UdpProbe {
        send: Vec::new(),
        expect: Some(Pattern::literal(b"", Covers::Whole)),
        silence: Silence::Fail,
        ..UdpProbe::default()
    });
    assert_eq!(probe(address, settings(check, PATIENT)).result, ProbeResult::Passed(Pass::Answered));
    assert_eq!(answering.join().expect("the server does not panic"), 0);
}

#[test]
fn the_source_address_is_used_and_one_that_is_not_ours_is_void() {
    let (socket, address) = udp_server();
    let mut check = settings(udp(None, Silence::Pass), PATIENT);
    check.sources = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77))].into();
    let answering = thread::spawn(move || {
        let (_, from) = socket.recv_from(&mut [0; 100]).expect("the probe comes");
        socket.send_to(b"pong", from).expect("its socket is open");
        from
    });
    assert_eq!(probe(address, check.clone()).result, ProbeResult::Passed(Pass::Answered));
    assert_eq!(answering.join().expect("the server does not panic").ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let tcp_address = listener.local_addr().expect("a bound socket has an address");
    let tcp_check = CheckSettings { probe: ProbeSettings::Tcp(TcpProbe::Full), ..check.clone() };
    assert_eq!(probe(tcp_address, tcp_check).result, ProbeResult::Passed(Pass::Connected));
    let (_, from) = listener.accept().expect("the connection waits");
    assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)));

    // 192.0.2.0/24 is reserved for documentation: no host has an address in it.
    check.sources = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))].into();
    assert_eq!(probe(address, check).result, ProbeResult::Void(Void::NoResources { errno: 99 }));
}
