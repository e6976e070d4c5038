//! TCP listeners: what relays promise to connections that last.
//!
//! Ends, resets, silence and bulk in both directions, seen from both sides and in the connection's line of the access log.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::backend::{backend, reset};
use crate::client::{End, Wire};
use crate::daemon::{Daemon, PATIENCE, Setup, connections_to, free_address, until};
use crate::lab::{BACKENDS, Lab};

const BULK: usize = 200 * 1024 * 1024;

fn config(address: SocketAddr, backends: &[String], listener: &str, pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!(
        "[[listener]]\nname = \"tcp\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"tcp\"\n{listener}\n\
         [[pool]]\nname = \"tcp\"\nschedule = \"rr\"\nbackends = [{}]\n{pool}\n",
        backends.join(", ")
    )
}

fn relay(name: &str, server: SocketAddr, listener: &str) -> (Daemon, SocketAddr) {
    let address = free_address();
    (Daemon::start(name, &config(address, &[server.to_string()], listener, "check = \"off\"")), address)
}

fn echo(mut stream: TcpStream) {
    let mut space = [0; 65536];
    while let Ok(count @ 1..) = stream.read(&mut space) {
        if stream.write_all(&space[..count]).is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"end");
}

/// The only line of the access log, once it is there.
fn line(daemon: &Daemon) -> serde_json::Value {
    daemon.wait_log_where("the connection", |line| line["listener"] == "tcp")
}

#[test]
fn the_clients_end_is_passed_on_and_the_answer_still_comes() {
    let (daemon, address) = relay("half-close-client", backend(echo), "");
    let mut wire = Wire::open(address);
    wire.send("question");
    assert_eq!(wire.exactly(8), b"question");
    wire.stream.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(wire.rest(), (b"end".to_vec(), End::Closed));
    let line = line(&daemon);
    assert!(line["cause"].is_null(), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&8.into(), &11.into()), "{line}");
    let ended = |family| daemon.metric(family, &["listener=\"tcp\""]);
    assert_eq!((ended("evenkeel_listener_connections_total"), ended("evenkeel_listener_connections")), (1.0, 0.0));
}

#[test]
fn the_backends_end_is_passed_on_and_the_client_can_still_speak() {
    let (got, heard) = channel();
    let got = std::sync::Mutex::new(got);
    let server = backend(move |mut stream| {
        let _ = stream.write_all(b"welcome");
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = got.lock().expect("no thread panics with it").send(all);
    });
    let (daemon, address) = relay("half-close-backend", server, "");
    let mut wire = Wire::open(address);
    assert_eq!(wire.rest(), (b"welcome".to_vec(), End::Closed));
    wire.send("still here");
    wire.stream.shutdown(Shutdown::Write).expect("this direction stands");
    assert_eq!(heard.recv_timeout(PATIENCE).expect("the backend reads to the end"), b"still here");
    assert!(line(&daemon)["cause"].is_null());
}

#[test]
fn an_idle_connection_is_cut_on_both_sides_and_a_busy_one_is_not() {
    let server = backend(echo);
    let (daemon, address) = relay("idle", server, "idle_timeout = \"1s\"");
    let mut busy = Wire::open(address);
    let mut idle = Wire::open(address);
    // The busy one outlives several idle timeouts: its clock starts again with every byte.
    let until_cut = std::thread::spawn(move || idle.rest());
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        busy.send("x");
        busy.exactly(1);
    }
    assert_eq!(until_cut.join().expect("no panic"), (Vec::new(), End::Reset));
    let line = daemon.wait_log_where("the idle one", |line| line["cause"] == "relay_idle_timeout");
    assert!(line["duration_ms"].as_f64().expect("a duration") >= 1000.0, "{line}");
    drop(busy);
    until("both sides to close", || (connections_to(server) == 0).then_some(()));
}

#[test]
fn a_reset_of_either_side_reaches_the_other_as_a_reset() {
    let (daemon, address) = relay(
        "reset-backend",
        backend(|mut stream| {
            let _ = stream.read(&mut [0; 16]);
            reset(&stream);
        }),
        "",
    );
    let mut wire = Wire::open(address);
    wire.send("hello");
    assert_eq!(wire.rest().1, End::Reset);
    assert_eq!(line(&daemon)["cause"], "backend_reset_relay");

    let (got, heard) = channel();
    let got = std::sync::Mutex::new(got);
    let server = backend(move |mut stream| {
        let _ = stream.write_all(b"hi");
        let ended = stream.read(&mut [0; 16]).map_err(|error| error.kind());
        let _ = got.lock().expect("no thread panics with it").send(ended);
    });
    let (daemon, address) = relay("reset-client", server, "");
    let mut wire = Wire::open(address);
    wire.exactly(2);
    wire.reset();
    let ended = heard.recv_timeout(PATIENCE).expect("the backend sees the end");
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(line(&daemon)["cause"], "client_aborted");
}

/// Bytes that differ from place to place, in pieces.
fn fill(piece: &mut [u8], from: usize) {
    for (word, bytes) in piece.chunks_mut(8).enumerate() {
        let number = ((from / 8 + word) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]);
    }
}

const PIECE: usize = 256 * 1024;

fn send_bulk(stream: &mut TcpStream) {
    let mut piece = vec![0; PIECE];
    for from in (0..BULK).step_by(PIECE) {
        fill(&mut piece, from);
        stream.write_all(&piece).expect("the other side reads");
    }
    stream.shutdown(Shutdown::Write).expect("the connection stands");
}

/// Compares as it reads; `pause` lies between two reads of a slow reader's first pieces.
fn receive_bulk(stream: &mut TcpStream, pause: Option<Duration>) {
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    for from in (0..BULK).step_by(PIECE) {
        stream.read_exact(&mut piece).unwrap_or_else(|error| panic!("{error} after {from} bytes"));
        fill(&mut expected, from);
        assert!(piece == expected, "the bytes from {from} on differ");
        if let Some(pause) = pause.filter(|_| from < 20 * PIECE) {
            std::thread::park_timeout(pause);
        }
    }
    assert_eq!(stream.read(&mut piece).expect("an orderly end"), 0, "more bytes than were sent");
}

#[test]
fn bulk_goes_both_ways_at_once_byte_for_byte_past_a_slow_reader() {
    let (done, finished) = channel();
    let done = std::sync::Mutex::new(done);
    let server = backend(move |stream| {
        let mut writing = stream.try_clone().expect("a socket can be cloned");
        let mut reading = stream;
        let writer = std::thread::spawn(move || send_bulk(&mut writing));
        receive_bulk(&mut reading, None);
        writer.join().expect("the writer does not panic");
        let _ = done.lock().expect("no thread panics with it").send(());
    });
    let (daemon, address) = relay("bulk", server, "");
    let wire = Wire::open(address);
    let mut writing = wire.stream.try_clone().expect("a socket can be cloned");
    let mut reading = wire.stream;
    let writer = std::thread::spawn(move || send_bulk(&mut writing));
    receive_bulk(&mut reading, Some(Duration::from_millis(25)));
    writer.join().expect("the writer does not panic");
    finished.recv_timeout(PATIENCE).expect("the backend got every byte");
    let line = line(&daemon);
    assert!(line["cause"].is_null(), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&BULK.into(), &BULK.into()), "{line}");
    // Bounded memory: 400 MB went through, half of it past a reader that paused.
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("our own child");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let peak = peak.expect("the kernel tells the peak");
    assert!(peak < 100 * 1024, "the daemon's peak was {peak} kB");
}

#[test]
fn a_backend_behind_a_firewall_that_drops_costs_its_timeout_and_no_connection() {
    let Some(lab) = Lab::build("a_backend_behind_a_firewall_that_drops_costs_its_timeout_and_no_connection") else {
        return;
    };
    let address: SocketAddr = "10.98.0.1:5432".parse().expect("an address");
    let backends: Vec<String> = BACKENDS[..2].iter().map(|backend| format!("{backend}:5432")).collect();
    let keys = "check = \"off\"\nconnect_timeout = \"300ms\"";
    let text = config(address, &backends, "", keys);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::lab::enter(&lab.back);
            let listener = std::net::TcpListener::bind((BACKENDS[0], 5432)).expect("the lab's addresses are ours");
            crate::backend::serve(listener, echo);
        });
    });
    lab.firewall(&format!("ip daddr {} drop", BACKENDS[1]));
    let namespace = Some(lab.front.as_str());
    lab.on_front(|| {
        let daemon = Daemon::start_with(&Setup { name: "black-hole", node: "", body: &text, namespace });
        for _ in 0..6 {
            let mut wire = Wire::open(address);
            wire.send("hello");
            assert_eq!(wire.exactly(5), b"hello");
        }
        // Round robin sent some of the six into the black hole first.
        let line = daemon.wait_log_where("a second attempt", |line| line["attempts"].is_array());
        assert!(line["cause"].is_null(), "the client was served: {line}");
        assert_eq!(line["attempts"][0]["cause"], "backend_connect_timeout", "{line}");
        assert_eq!(line["attempts"][0]["backend"], backends[1], "{line}");
        assert!(line["attempts"][0]["ms"].as_f64().expect("a duration") >= 300.0, "{line}");
        assert_eq!(line["backend"], backends[0], "{line}");
    });
}

#[test]
fn a_listener_without_a_healthy_backend_resets_at_once() {
    let (address, nobody) = (free_address(), free_address());
    let text = config(address, &[nobody.to_string()], "", "check = { interval = \"1s\", timeout = \"1s\" }");
    let daemon = Daemon::start("no-backend", &text);
    daemon.wait_verdict("tcp", &nobody.to_string(), "unhealthy");
    for _ in 0..3 {
        match Wire::try_open(address) {
            Ok(mut wire) => assert_eq!(wire.rest(), (Vec::new(), End::Reset)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    let line = line(&daemon);
    assert_eq!(line["cause"], "all_backends_unhealthy");
    assert!(line["duration_ms"].as_f64().expect("a duration") < 100.0, "at once, not after a timeout: {line}");
}

#[test]
fn a_connection_lives_on_when_its_backend_becomes_unhealthy() {
    let address = free_address();
    // Only the check's port goes away; the service itself goes on.
    let check = std::net::TcpListener::bind((crate::daemon::own_ip(), 0)).expect("loopback has free ports");
    let check_address = check.local_addr().expect("it is bound");
    let service = std::net::TcpListener::bind((check_address.ip(), 0)).expect("loopback has free ports");
    let service_address = service.local_addr().expect("it is bound");
    crate::backend::serve(service, echo);
    let probe = format!(
        "check = {{ kind = \"tcp\", port = {}, interval = \"100ms\", timeout = \"2s\", unhealthy_threshold = 2 }}",
        check_address.port()
    );
    let daemon = Daemon::start("lives-on", &config(address, &[service_address.to_string()], "", &probe));
    daemon.wait_verdict("tcp", &service_address.to_string(), "healthy");
    let mut wire = Wire::open(address);
    wire.send("a");
    wire.exactly(1);
    drop(check);
    daemon.wait_verdict("tcp", &service_address.to_string(), "unhealthy");
    wire.send("still");
    assert_eq!(wire.exactly(5), b"still");
    let refused = Wire::try_open(address).map_or(End::Reset, |mut other| other.rest().1);
    assert_eq!(refused, End::Reset, "new connections are refused");
}
