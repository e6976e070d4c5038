//! Clients that take their time, and more requests than the backends can work on.
//!
//! A slow client costs its own connection and a bounded piece of memory. Others are served meanwhile, and those who find
//! no place are told so at once or wait in the order they came.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use evenkeel_model::Cause;

use crate::backend::{backend, hold, read_head};
use crate::daemon::{Daemon, PATIENCE, free_address, until};
use crate::l7_speak::{
    ACK, END_HEADERS, END_STREAM, Forge, Frames, Front, HEADERS, NAME, PREFACE, SETTINGS, Site, Talk, block, frame,
};

const CLIENTS: usize = 500;

/// What one slow client may cost on average: buffers of ours, and of TLS and HTTP/2 where it speaks them.
const EACH: u64 = 128 * 1024;

/// Keeps the connection open until it is dropped.
enum Slow {
    Talking(#[expect(dead_code, reason = "held, not read")] Box<Talk>),
    Raw(TcpStream),
}

fn slow(kind: &str, front: Front, site: Site, forge: &Forge) -> Slow {
    if kind == "head" && front == Front::Http2 {
        // A header block that goes on.
        let mut stream = TcpStream::connect(site.plain).expect("it listens");
        let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
        let begun = [PREFACE, &settings, &frame(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]))];
        stream.write_all(&begun.concat()).expect("it reads");
        return Slow::Raw(stream);
    }
    let mut talk = Talk::open(front, site, forge);
    // Over HTTP/2 each side's settings want an answer, or they would be what is found too slow.
    assert_eq!(talk.get("/", "").status, 200);
    match kind {
        "head" => talk.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Slow: ")),
        "body" => talk.send(format!("POST /body HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000000\r\n\r\nslow")),
        _ => talk.send(format!("GET /endless HTTP/1.1\r\nHost: {NAME}\r\n\r\n")),
    }
    Slow::Talking(Box::new(talk))
}

#[test]
fn five_hundred_slow_clients_cost_their_own_connections_and_little_memory() {
    let forge = Forge::new("slow");
    let site = Site { plain: free_address(), tls: free_address() };
    let server = backend(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("GET /endless") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
                return;
            }
            if head.starts_with("POST") {
                hold(stream);
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
        }
    });
    let body = forge.listeners(
        "web",
        site,
        &forge.issue("listener", &[NAME]),
        "pool = \"web\"\nheader_timeout = \"4s\"\nbody_timeout = \"4s\"\nkeep_alive_timeout = \"60s\"",
    ) + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n");
    let daemon = Daemon::start("slow", &body);
    for front in Front::ALL {
        assert_eq!(Talk::open(front, site, &forge).get("/", "").status, 200);
    }
    let (before, _) = daemon.memory();
    // A head inside TLS is slow as one outside; over HTTP/2 it is a block of frames.
    let kinds = [
        ("head", Front::Http2, Cause::ClientHeaderTimeout),
        ("head", Front::Http1, Cause::ClientHeaderTimeout),
        ("head", Front::Http1Tls, Cause::ClientHeaderTimeout),
        ("body", Front::Http1, Cause::ClientBodyTimeout),
        ("body", Front::Http1Tls, Cause::ClientBodyTimeout),
        ("body", Front::Http2, Cause::ClientBodyTimeout),
        ("body", Front::Http2Tls, Cause::ClientBodyTimeout),
        ("read", Front::Http1, Cause::ClientStalled),
        ("read", Front::Http1Tls, Cause::ClientStalled),
        ("read", Front::Http2, Cause::ClientStalled),
    ];
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut clients = Vec::new();
    for turn in 0..CLIENTS {
        let (kind, front, cause) = kinds[turn % kinds.len()];
        clients.push(slow(kind, front, site, &forge));
        *wanted.entry(cause.code()).or_default() += 1;
    }
    // Others are served meanwhile.
    for front in Front::ALL {
        assert_eq!(Talk::open(front, site, &forge).get("/", "").status, 200, "{}", front.word());
    }
    let ended = || {
        let mut ended: BTreeMap<&str, usize> = wanted.keys().map(|code| (*code, 0)).collect();
        for line in daemon.log() {
            if let Some(code) = line["cause"].as_str() {
                let (_, count) =
                    ended.iter_mut().find(|(known, _)| **known == code).unwrap_or_else(|| panic!("{line}"));
                *count += 1;
            }
        }
        ended
    };
    let mut last = BTreeMap::new();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until("every slow client to be let go", || {
            last = ended();
            (last == wanted).then_some(())
        });
    }));
    assert!(told.is_ok(), "ended {last:?} of {wanted:?}");
    for (code, count) in &wanted {
        let counted: f64 = ["listener=\"web\"", "listener=\"web-tls\""]
            .map(|listener| daemon.metric("evenkeel_failures_total", &[listener, &format!("cause=\"{code}\"")]))
            .iter()
            .sum();
        assert_eq!(counted, *count as f64, "{code}");
    }
    let (_, most) = daemon.memory();
    eprintln!("{} MiB before, {} MiB at most", before >> 20, most >> 20);
    assert!(most - before < EACH * CLIENTS as u64, "{} MiB for {CLIENTS} slow clients", (most - before) >> 20);
    for client in &mut clients {
        if let Slow::Raw(stream) = client {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
            let closed = std::io::copy(stream, &mut std::io::sink());
            assert!(closed.is_ok_and(|bytes| bytes > 0), "an unfinished header block holds its connection for ever");
        }
    }
}

#[test]
fn requests_wait_in_order_for_a_backend_at_its_limit_and_too_many_are_told_so() {
    let forge = Forge::new("queue");
    let site = Site { plain: free_address(), tls: free_address() };
    let (heard, arrivals) = channel::<String>();
    let (go, turns) = channel::<()>();
    let (heard, turns) = (Mutex::new(heard), Arc::new(Mutex::new(turns)));
    let server = backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = heard.lock().expect("no backend panics with it").send(target);
            // Each is answered when the test says so.
            if turns.lock().expect("no backend panics with it").recv().is_err() {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
        }
    });
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), "pool = \"web\"")
        + &format!(
            "[[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n\
             backend_limit = 1\nqueue = 5\nqueue_timeout = \"30s\"\n"
        );
    let daemon = Daemon::start("queue", &body);
    // Nine requests on one connection, so that their order is known: one at the backend, five in the queue.
    let mut stream = TcpStream::connect(site.plain).expect("it listens");
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for number in 0..9u32 {
        let path = format!("/{number}");
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", NAME), (":path", &*path)];
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block(&fields)));
    }
    stream.write_all(&bytes).expect("it reads");
    assert_eq!(arrivals.recv().expect("the backend is asked"), "/0");
    let mut frames = Frames { pipe: stream.try_clone().expect("a socket can be cloned") };
    let mut heads = |count: usize| -> Vec<u32> {
        let heads = frames.by_ref().filter(|frame| frame.kind == HEADERS && frame.flags & END_HEADERS != 0);
        heads.take(count).map(|frame| frame.stream).collect()
    };
    // The last three find the queue full, at once and whoever else waits.
    assert_eq!(heads(3), [13, 15, 17]);
    for number in 6..9 {
        let line = daemon.wait_log(&format!("/{number}"));
        assert_eq!((&line["cause"], &line["status"]), (&"backend_queue_full".into(), &503.into()), "{line}");
    }
    for number in 1..6 {
        assert!(arrivals.try_recv().is_err(), "the backend takes one at a time");
        go.send(()).expect("the backend waits");
        assert_eq!(arrivals.recv().expect("the next one's turn"), format!("/{number}"));
    }
    go.send(()).expect("the backend waits");
    assert_eq!(heads(6), [1, 3, 5, 7, 9, 11]);
    for number in 0..6 {
        let line = daemon.wait_log(&format!("/{number}"));
        assert_eq!((&line["status"], line["cause"].is_null()), (&200.into(), true), "{line}");
    }
    let full = ["listener=\"web\"", "cause=\"backend_queue_full\""];
    assert_eq!(daemon.metric("evenkeel_failures_total", &full), 3.0);
}
