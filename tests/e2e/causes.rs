//! Every cause that tcp and http listeners can produce, each by a real fault.
//!
//! One row is one fault: a backend or client with bad manners, and the cause it must be called by. What the client
//! was sent, `Proxy-Status`, the access log, the metric and `evenkeel explain` have to tell the same story.
//! Left out: causes of things this version does not have (TLS, access lists, rates, rules, queues, orders), and
//! `balancer_internal`, which would need a bug.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use evenkeel_model::{Cause, Phase};

use crate::backend::{backend, hold, polite, read_head, reset, says};
use crate::client::{Answer, End, Wire};
use crate::daemon::{Daemon, Setup, free_address, own_ip};
use crate::lab::Lab;

/// What the client of a row saw.
enum Seen {
    /// A whole answer with the cause's status and `Proxy-Status`.
    Told(Answer),
    /// The backend's own error, passed on.
    Passed(Answer),
    /// A good head, and then the connection ended where the body should have gone on.
    Cut(Answer),
    /// No byte of an answer; the connection was reset.
    Reset(End),
    /// Nothing: the client left, or stopped reading. Kept open until the log has its line.
    Nothing(#[expect(dead_code, reason = "held, not read")] Option<Wire>),
}

type Client = Box<dyn Fn(SocketAddr) -> Seen + Send + Sync>;

struct Row {
    name: &'static str,
    cause: Cause,
    /// The status in the log; what the client was sent before a cut.
    status: Option<u16>,
    phase: Phase,
    /// Keys of listener and pool besides names and addresses.
    listener: &'static str,
    pool: &'static str,
    backends: Vec<SocketAddr>,
    client: Client,
}

impl Row {
    fn new(name: &'static str, cause: Cause, client: impl Fn(SocketAddr) -> Seen + Send + Sync + 'static) -> Row {
        let entry = cause.entry();
        Row {
            name,
            cause,
            status: entry.status,
            phase: entry.phase,
            listener: "",
            pool: "",
            backends: Vec::new(),
            client: Box::new(client),
        }
    }

    fn at(mut self, backend: SocketAddr) -> Row {
        self.backends.push(backend);
        self
    }

    fn listener(mut self, keys: &'static str) -> Row {
        self.listener = keys;
        self
    }

    fn pool(mut self, keys: &'static str) -> Row {
        self.pool = keys;
        self
    }

    fn status(mut self, status: Option<u16>) -> Row {
        self.status = status;
        self
    }

    fn phase(mut self, phase: Phase) -> Row {
        self.phase = phase;
        self
    }
}

fn told(request: impl AsRef<[u8]> + Send + Sync + 'static) -> impl Fn(SocketAddr) -> Seen + Send + Sync {
    move |address| {
        let mut wire = Wire::open(address);
        wire.send(&request);
        Seen::Told(wire.answer().unwrap_or_else(|end| panic!("no answer: {end:?}")))
    }
}

fn get() -> impl Fn(SocketAddr) -> Seen + Send + Sync {
    told("GET / HTTP/1.1\r\nHost: e2e\r\n\r\n")
}

/// Not idempotent, so it is never repeated and the first failure is the answer.
fn post() -> impl Fn(SocketAddr) -> Seen + Send + Sync {
    told("POST / HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n")
}

fn cut() -> impl Fn(SocketAddr) -> Seen + Send + Sync {
    |address| {
        let mut wire = Wire::open(address);
        wire.send("GET / HTTP/1.1\r\nHost: e2e\r\n\r\n");
        Seen::Cut(wire.answer().unwrap_or_else(|end| panic!("no head before the cut: {end:?}")))
    }
}

fn tcp_says(bytes: &'static [u8]) -> impl Fn(SocketAddr) -> Seen + Send + Sync {
    move |address| {
        // A listener with nobody behind it may reset before the socket is even set up.
        let mut wire = match Wire::try_open(address) {
            Ok(wire) => wire,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Seen::Reset(End::Reset),
            Err(error) => panic!("connect to {address}: {error}"),
        };
        let _ = wire.stream.write_all(bytes);
        Seen::Reset(wire.rest().1)
    }
}

/// A backend whose accept queue is full: the kernel drops further SYNs, as a host behind a dropping
/// firewall would.
pub fn deaf() -> SocketAddr {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(own_ip(), 0)).expect("loopback has free ports");
    listen(&socket, 0).expect("a bound socket listens");
    let address = SocketAddr::try_from(getsockname(&socket).expect("it is bound")).expect("IPv4");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
    }
    // Held for the rest of the process, or the queue would have room again.
    std::mem::forget((socket, queued));
    address
}

fn rows() -> Vec<Row> {
    use Cause as C;
    let long = "x".repeat(2000);
    let (got, heard): (_, Receiver<()>) = channel();
    let (got, heard) = (Mutex::new(got), Mutex::new(heard));
    let listens_and_tells = backend(move |mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = got.lock().expect("no thread panics with it").send(());
            hold(stream);
        }
    });
    let hangs_up = || {
        backend(|mut stream| {
            read_head(&mut stream);
        })
    };
    let resets = || {
        backend(|mut stream| {
            read_head(&mut stream);
            reset(&stream);
        })
    };
    let partly = |bytes: &'static [u8]| {
        backend(move |mut stream| {
            if read_head(&mut stream).is_some() {
                let _ = stream.write_all(bytes);
                hold(stream);
            }
        })
    };
    let resets_after = |bytes: &'static [u8]| {
        backend(move |mut stream| {
            if read_head(&mut stream).is_some() {
                let _ = stream.write_all(bytes);
                // The reset must not overtake the bytes: it waits until the balancer has been seen to
                // take them, which is when it has nothing unread in its socket.
                until_taken(&stream);
                reset(&stream);
            }
        })
    };
    vec![
        // The client's own faults.
        Row::new("malformed", C::ClientMalformedRequest, told("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
            .at(backend(polite)),
        Row::new(
            "head-too-large",
            C::ClientHeaderTooLarge,
            told(format!("GET / HTTP/1.1\r\nHost: e\r\nA: {long}\r\n\r\n")),
        )
        .at(backend(polite))
        .listener("header_limit = \"1KiB\""),
        Row::new("uri-too-long", C::ClientUriTooLong, told(format!("GET /{long} HTTP/1.1\r\nHost: e\r\n\r\n")))
            .at(backend(polite))
            .listener("header_limit = \"1KiB\""),
        Row::new(
            "body-too-large",
            C::ClientBodyTooLarge,
            told("POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 11\r\n\r\nhello world"),
        )
        .at(backend(polite))
        .listener("body_limit = \"10B\""),
        Row::new(
            "chunks-too-large",
            C::ClientBodyTooLarge,
            told("POST / HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"),
        )
        .at(backend(hold))
        .listener("body_limit = \"10B\""),
        Row::new("slow-head", C::ClientHeaderTimeout, told("GET / HTTP/1.1\r\nHost: e\r\n"))
            .at(backend(polite))
            .listener("header_timeout = \"150ms\""),
        Row::new("slow-body", C::ClientBodyTimeout, told("POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n\r\nhel"))
            .at(backend(hold))
            .listener("body_timeout = \"150ms\""),
        Row::new("stalls", C::ClientStalled, |address| {
            let mut wire = Wire::open(address);
            wire.send("GET / HTTP/1.1\r\nHost: e\r\n\r\n");
            Seen::Nothing(Some(wire))
        })
        .at(backend(|mut stream| {
            if read_head(&mut stream).is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                while stream.write_all(&[b'x'; 65536]).is_ok() {}
            }
        }))
        .listener("body_timeout = \"300ms\"")
        .status(Some(200)),
        Row::new("leaves", C::ClientAborted, move |address| {
            let mut wire = Wire::open(address);
            wire.send("GET / HTTP/1.1\r\nHost: e\r\n\r\n");
            heard.lock().expect("no thread panics with it").recv().expect("the backend was asked");
            Seen::Nothing(None)
        })
        .at(listens_and_tells),
        // The operator's.
        Row::new("loop", C::LoopDetected, told("GET / HTTP/1.1\r\nHost: e\r\nCDN-Loop: evenkeel-e2e\r\n\r\n"))
            .at(backend(polite)),
        Row::new("empty-pool", C::NoBackendConfigured, get()),
        // The backend's, before a connection.
        Row::new("unhealthy", C::AllBackendsUnhealthy, get())
            .at(free_address())
            .pool("check = { kind = \"tcp\", interval = \"1s\", timeout = \"1s\" }"),
        Row::new("refused", C::BackendConnectRefused, get()).at(free_address()),
        Row::new("all-refused", C::BackendConnectRefused, post()).at(free_address()).at(free_address()),
        Row::new("connect-timeout", C::BackendConnectTimeout, get()).at(deaf()).pool("connect_timeout = \"200ms\""),
        // Before an answer.
        Row::new("reset", C::BackendResetBeforeResponse, post()).at(resets()),
        Row::new("closed", C::BackendClosedBeforeResponse, post()).at(hangs_up()),
        Row::new("closed-in-head", C::BackendClosedBeforeResponse, post())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nCont"))),
        Row::new("not-http", C::BackendMalformedResponse, get()).at(backend(says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))),
        Row::new("two-lengths", C::BackendMalformedResponse, get())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"))),
        Row::new("huge-head", C::BackendHeaderTooLarge, get())
            .at(backend(says(
                format!("HTTP/1.1 200 OK\r\nSet-Cookie: {long}\r\nContent-Length: 0\r\n\r\n").leak().as_bytes(),
            )))
            .listener("header_limit = \"1KiB\""),
        Row::new("silent", C::BackendResponseTimeout, get()).at(backend(hold)).pool("response_timeout = \"150ms\""),
        Row::new("budget", C::RetryBudgetExhausted, |address| {
            // A worker may make thirty retries that no request has paid for; then the budget is empty.
            let mut wire = Wire::open(address);
            for _ in 0..40 {
                let answer = wire.get("/");
                if answer.field("proxy-status").is_some_and(|status| status.contains("retry_budget_exhausted")) {
                    return Seen::Told(answer);
                }
            }
            panic!("forty requests failed twice each and the budget of retries was never used up");
        })
        .at(hangs_up())
        .at(hangs_up())
        .pool("retries = 1\nretry_budget = 0"),
        Row::new("error", C::BackendAnsweredError, |address| Seen::Passed(Wire::open(address).get("/")))
            .at(backend(says(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops")))
            .status(Some(500)),
        Row::new("does-not-read", C::BackendWriteTimeout, |address| {
            let mut wire = Wire::open(address);
            let mut writing = wire.stream.try_clone().expect("a socket can be cloned");
            let writer = std::thread::spawn(move || {
                let _ = writing.write_all(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: 268435456\r\n\r\n");
                // Ends when the balancer has given up and closed.
                while writing.write_all(&[b'x'; 65536]).is_ok() {}
            });
            let answer = wire.answer().unwrap_or_else(|end| panic!("no answer: {end:?}"));
            let _ = wire.stream.shutdown(std::net::Shutdown::Both);
            drop(wire);
            writer.join().expect("the writer does not panic");
            Seen::Told(answer)
        })
        .at(backend(|stream| {
            std::mem::forget(stream);
        }))
        .pool("body_timeout = \"400ms\""),
        // In the middle of an answer: cut, and never a success.
        Row::new("closes-in-body", C::BackendResetMidResponse, cut())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")))
            .status(Some(200)),
        Row::new("closes-in-chunks", C::BackendResetMidResponse, cut())
            .at(backend(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")))
            .status(Some(200)),
        Row::new("resets-in-body", C::BackendResetMidResponse, cut())
            .at(resets_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"))
            .status(Some(200)),
        // No length at all: an orderly end would look like the whole body, so the client must see a reset.
        Row::new("resets-in-endless", C::BackendResetMidResponse, |address| {
            let Seen::Cut(answer) = cut()(address) else { unreachable!("cut() makes nothing else") };
            assert_eq!(answer.end, End::Reset, "an orderly end would pass for the proper one");
            Seen::Cut(answer)
        })
        .at(resets_after(b"HTTP/1.1 200 OK\r\n\r\npart"))
        .status(Some(200)),
        Row::new("stops-in-body", C::BackendBodyTimeout, cut())
            .at(partly(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"))
            .pool("body_timeout = \"150ms\"")
            .status(Some(200)),
        Row::new("bad-chunks", C::BackendMalformedBody, cut())
            .at(partly(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))
            .status(Some(200)),
        // TCP listeners: there is nothing to say, so the client is reset.
        Row::new("tcp-unhealthy", C::AllBackendsUnhealthy, tcp_says(b"hello"))
            .at(free_address())
            .listener("protocol = \"tcp\"")
            .pool("check = { kind = \"tcp\", interval = \"1s\", timeout = \"1s\" }")
            .status(None),
        Row::new("tcp-empty", C::NoBackendConfigured, tcp_says(b"hello")).listener("protocol = \"tcp\"").status(None),
        Row::new("tcp-refused", C::BackendConnectRefused, tcp_says(b"hello"))
            .at(free_address())
            .listener("protocol = \"tcp\"")
            .status(None),
        Row::new("tcp-connect-timeout", C::BackendConnectTimeout, tcp_says(b"hello"))
            .at(deaf())
            .listener("protocol = \"tcp\"")
            .pool("connect_timeout = \"200ms\"")
            .status(None),
        Row::new("tcp-idle", C::RelayIdleTimeout, tcp_says(b"hello"))
            .at(backend(hold))
            .listener("protocol = \"tcp\"\nidle_timeout = \"200ms\""),
        Row::new("tcp-reset", C::BackendResetRelay, tcp_says(b"hello"))
            .at(backend(|mut stream| {
                let _ = stream.read(&mut [0; 16]);
                reset(&stream);
            }))
            .listener("protocol = \"tcp\""),
        Row::new("tcp-client-resets", C::ClientAborted, |address| {
            let mut wire = Wire::open(address);
            wire.send("hello");
            wire.exactly(5);
            wire.reset();
            Seen::Nothing(None)
        })
        .at(backend(|mut stream| {
            let mut space = [0; 5];
            while stream.read_exact(&mut space).is_ok() && stream.write_all(&space).is_ok() {}
        }))
        .listener("protocol = \"tcp\"")
        .phase(Phase::Relay)
        .status(None),
    ]
}

/// Waits until the other side's socket has nothing unread of what was sent here.
pub fn until_taken(stream: &TcpStream) {
    let (local, remote) = (stream.local_addr().expect("connected"), stream.peer_addr().expect("connected"));
    crate::daemon::until("the balancer to read what the backend sent", || {
        let text = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let word = |address: SocketAddr| match address {
            SocketAddr::V4(address) => {
                format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port())
            }
            SocketAddr::V6(_) => unreachable!("backends here are IPv4"),
        };
        let (local, remote) = (word(local), word(remote));
        let row = text.lines().find(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next() == Some(&remote) && words.next() == Some(&local)
        });
        // Fifth word: bytes in the send and receive queues.
        row.is_none_or(|row| row.split_whitespace().nth(4).is_some_and(|queues| queues.ends_with(":00000000")))
            .then_some(())
    });
}

fn config(rows: &[Row], addresses: &[SocketAddr]) -> String {
    let mut config = String::new();
    for (row, address) in rows.iter().zip(addresses) {
        let Row { name, listener, pool, backends, .. } = row;
        let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
        let check = if pool.contains("check =") { "" } else { "check = \"off\"" };
        config.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\npool = \"{name}\"\n{listener}\n\
             [[pool]]\nname = \"{name}\"\nbackends = [{}]\n{check}\n{pool}\n",
            backends.join(", ")
        ));
    }
    config
}

/// Plays one row and compares what client, log, metric and explanation say.
fn check(daemon: &Daemon, row: &Row, address: SocketAddr) {
    let Row { name, cause, .. } = row;
    let entry = cause.entry();
    let code = entry.code;
    eprintln!("fault: {name}");
    let seen = (row.client)(address);
    let token = entry.token.map(|token| format!("error={token}"));
    match &seen {
        Seen::Told(answer) => {
            assert_eq!(Some(answer.status), row.status, "{name}: {}", answer.head);
            let status = answer.field("proxy-status").unwrap_or_default();
            assert!(status.contains(&format!("details=\"{code}\"")), "{name}: Proxy-Status is {status}");
            assert!(token.is_none_or(|token| status.contains(&token)), "{name}: Proxy-Status is {status}");
        }
        Seen::Passed(answer) => {
            assert_eq!(answer.field("proxy-status"), Some("evenkeel; received-status=500"), "{name}");
            assert_eq!((answer.status, answer.end), (500, End::Framed), "{name}");
            assert_eq!(answer.body, b"oops", "{name}: the backend's own words are passed on");
        }
        Seen::Cut(answer) => {
            assert_ne!(answer.end, End::Framed, "{name}: the client took a part for the whole");
        }
        Seen::Reset(end) => assert_eq!(*end, End::Reset, "{name}"),
        Seen::Nothing(_) => {}
    }
    let line = daemon.wait_log_where(name, |line| line["listener"] == *name && line["cause"] == code);
    assert_eq!(line["blame"], entry.blame.word(), "{name}: {line}");
    assert_eq!(line["phase"], row.phase.word(), "{name}: {line}");
    assert_eq!(line["status"].as_u64(), row.status.map(u64::from), "{name}: {line}");
    let labels =
        [format!("listener=\"{name}\""), format!("cause=\"{code}\""), format!("blame=\"{}\"", entry.blame.word())];
    let labels = labels.each_ref().map(String::as_str);
    assert!(daemon.metric("evenkeel_failures_total", &labels) >= 1.0, "{name}: no metric with {labels:?}");
    drop(seen);
}

pub fn explains(code: &str) {
    let explained =
        Command::new(env!("CARGO_BIN_EXE_evenkeel")).args(["explain", code]).output().expect("it was built");
    let text = String::from_utf8_lossy(&explained.stdout);
    assert!(explained.status.success() && text.contains(code), "explain {code}: {text}");
}

#[test]
fn every_fault_has_one_name_in_answer_log_metric_and_explanation() {
    let rows = rows();
    let addresses: Vec<SocketAddr> = rows.iter().map(|_| free_address()).collect();
    let config = config(&rows, &addresses);
    let setup = Setup { name: "causes", node: "cluster = \"e2e\"", body: &config, namespace: None };
    let daemon = Daemon::start_with(&setup);
    for row in rows.iter().filter(|row| row.pool.contains("check =")) {
        daemon.wait_verdict(row.name, &row.backends[0].to_string(), "unhealthy");
    }
    for (row, address) in rows.iter().zip(&addresses) {
        check(&daemon, row, *address);
    }
    // Nobody else failed: each listener has lines of its own cause only.
    for line in daemon.log() {
        let row = rows.iter().find(|row| line["listener"] == row.name).expect("every line has a listener of ours");
        let other = ["backend_closed_before_response"];
        let cause = line["cause"].as_str().unwrap_or("none");
        let retries = row.cause == Cause::RetryBudgetExhausted && other.contains(&cause);
        assert!(cause == row.cause.code() || retries, "{}: {line}", row.name);
    }
    let codes: BTreeSet<&str> = rows.iter().map(|row| row.cause.code()).collect();
    codes.into_iter().for_each(explains);
}

#[test]
fn a_backend_without_a_route_is_unreachable() {
    let Some(lab) = Lab::build("a_backend_without_a_route_is_unreachable") else { return };
    let nowhere: SocketAddr = "192.0.2.1:80".parse().expect("an address");
    let row = Row::new("no-route", Cause::BackendUnreachable, get()).at(nowhere);
    let address: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
    let config = config(std::slice::from_ref(&row), &[address]);
    let namespace = Some(lab.front.as_str());
    lab.on_front(|| {
        let daemon = Daemon::start_with(&Setup { name: "no-route", node: "", body: &config, namespace });
        check(&daemon, &row, address);
    });
    explains(row.cause.code());
}

#[test]
fn a_node_at_its_limit_turns_clients_away_by_name() {
    let (address, backend) = (free_address(), backend(polite));
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{backend}\"]\ncheck = \"off\"\n"
    );
    let daemon = Daemon::start_with(&Setup { name: "limit", node: "connections = 4", body: &body, namespace: None });
    // Two workers, two connections each: of five clients at least one is turned away, perhaps while it opens.
    let mut clients: Vec<Wire> = (0..5).filter_map(|_| Wire::try_open(address).ok()).collect();
    let line = daemon.wait_log_where("an overload", |line| line["cause"] == "balancer_overloaded");
    assert_eq!((&line["blame"], &line["phase"], &line["limit"]), (&"balancer".into(), &"accept".into(), &2.into()));
    assert!(daemon.metric("evenkeel_failures_total", &["listener=\"web\"", "cause=\"balancer_overloaded\""]) >= 1.0);
    let turned_away = daemon.log().iter().filter(|line| line["cause"] == "balancer_overloaded").count();
    // The others are served.
    let mut served = 0;
    for client in &mut clients {
        let _ = client.stream.write_all(b"GET / HTTP/1.1\r\nHost: e\r\n\r\n");
        served += usize::from(client.answer().is_ok_and(|answer| answer.status == 200));
    }
    assert_eq!(served + turned_away, 5);
    explains("balancer_overloaded");
}

#[test]
fn a_kept_connection_that_turns_out_dead_costs_a_get_nothing_and_a_post_its_answer() {
    // Every connection serves one request and is reset when the second arrives: a backend whose keep-alive
    // timeout ends just as we use its connection.
    let server = backend(|mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
            read_head(&mut stream);
            reset(&stream);
        }
    });
    let row = Row::new("kept", Cause::BackendResetBeforeResponse, get()).at(server);
    let address = free_address();
    let daemon = Daemon::start("kept", &config(std::slice::from_ref(&row), &[address]));
    let mut wire = Wire::open(address);
    assert_eq!(wire.get("/first").status, 200);
    assert_eq!(wire.get("/second").status, 200, "asked again on a fresh connection");
    let line = daemon.wait_log("/second");
    assert!(line["cause"].is_null(), "{line}");
    assert_eq!(line["attempts"][0]["cause"], "backend_reset_before_response", "{line}");
    wire.send("POST /third HTTP/1.1\r\nHost: e2e\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.answer().expect("an answer").status, 502, "it may have been done already");
    let line = daemon.wait_log("/third");
    assert_eq!((&line["cause"], &line["reused"]), (&"backend_reset_before_response".into(), &true.into()), "{line}");
    assert!(line["idle_ms"].is_number(), "{line}");
}

#[test]
fn a_request_beyond_the_limit_is_told_503_and_the_id_of_its_log_line() {
    let (address, server) = (free_address(), backend(polite));
    let row = Row::new("full", Cause::BalancerOverloaded, get()).at(server);
    let body = config(std::slice::from_ref(&row), &[address]);
    let daemon = Daemon::start_with(&Setup { name: "full", node: "connections = 2", body: &body, namespace: None });
    // Two workers, one connection each: whoever comes third is turned away wherever the kernel sends it.
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::open(address)).collect();
    daemon.wait_log_where("an overload", |line| line["cause"] == "balancer_overloaded");
    let mut turned_away = 0;
    for client in &mut clients {
        // One that was turned away has its answer already, perhaps with the end behind it.
        let _ = client.stream.write_all(b"GET / HTTP/1.1\r\nHost: e2e\r\n\r\n");
        let answer = client.answer().expect("everybody is answered");
        if answer.status == 200 {
            continue;
        }
        turned_away += 1;
        assert_eq!(answer.status, 503, "{}", answer.head);
        assert!(answer.field("proxy-status").is_some_and(|status| status.contains("details=\"balancer_overloaded\"")));
        assert!(answer.says_close() && answer.field("retry-after").is_some(), "{}", answer.head);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let id =
            text.lines().find_map(|line| line.strip_prefix("id: ")).expect("an answer of ours has an id").to_owned();
        let line = daemon.wait_log_where(&id, |line| line["id"] == *id);
        assert_eq!((&line["cause"], &line["status"]), (&"balancer_overloaded".into(), &503.into()), "{line}");
    }
    assert!(turned_away >= 1);
}
