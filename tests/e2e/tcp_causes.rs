//! Every cause of relays that is not the backend's alone, each by a real fault: the client is reset or left in silence, and
//! log, metric and explanation name the same reason.
//!
//! What tcp and http listeners can fail of in the same way (refused and silent backends, idle relays, resets of either
//! side) is in `causes`.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use evenkeel_model::{Cause, Phase};

use crate::backend::{backend, hold};
use crate::client::{End, Wire};
use crate::daemon::{Daemon, Setup, free_address, until};
use crate::hello::hello;

type Play = Box<dyn Fn(SocketAddr) -> End>;

struct Row {
    name: &'static str,
    cause: Cause,
    phase: Phase,
    /// Begins with the protocol.
    listener: String,
    pool: &'static str,
    client: Play,
    /// What else the log says of it.
    says: &'static [&'static str],
}

const TCP: &str = "protocol = \"tcp\"\n";
const TLS: &str = "protocol = \"tls-passthrough\"\n";
/// The test's own clients come from 127.0.0.1 or from addresses of their own beside it.
const PROXIED: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }\n";
const V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 443\r\n";

/// Sends the bytes and waits for the end.
fn says(bytes: Vec<u8>) -> Play {
    Box::new(move |address| {
        let mut wire = match Wire::try_open(address) {
            Ok(wire) => wire,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return End::Reset,
            Err(error) => panic!("connect to {address}: {error}"),
        };
        // A refusal may come before all of it was sent.
        let _ = wire.stream.write_all(&bytes);
        wire.rest().1
    })
}

/// One connection that stands, and then another.
fn second() -> Play {
    Box::new(|address| {
        let mut first = Wire::open(address);
        first.send("hello");
        assert_eq!(first.exactly(5), b"hello");
        says(b"hello".to_vec())(address)
    })
}

fn rule(keys: &str) -> String {
    format!("[[listener.rule]]\npool = \"POOL\"\n{keys}\n")
}

fn rows() -> Vec<Row> {
    use Cause as C;
    let row = |name, cause: Cause, listener: String, client: Play| Row {
        name,
        cause,
        phase: cause.entry().phase,
        listener,
        pool: "",
        client,
        says: &[],
    };
    let garbage = || says(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    let tls = |keys: &str| format!("{TLS}{keys}{}", rule("host = \"a.example\"\nalpn = \"h2\""));
    vec![
        row("header-garbage", C::ClientProxyHeaderInvalid, format!("{TCP}{PROXIED}"), garbage()),
        Row {
            says: &["\"timeout_ms\":300"],
            ..row(
                "header-late",
                C::ClientProxyHeaderInvalid,
                format!("{TCP}{PROXIED}header_timeout = \"300ms\"\n"),
                says(b"PROXY TCP4 ".to_vec()),
            )
        },
        Row {
            says: &["\"client\":\"198.51.100.7:4711\""],
            ..row(
                "denied-by-header",
                C::ClientDeniedByAcl,
                format!("{TCP}{PROXIED}[listener.access]\ndeny = [\"198.51.100.0/24\"]\n"),
                says(V1.to_vec()),
            )
        },
        row("tls-garbage", C::TlsHandshakeFailed, tls(""), garbage()),
        Row {
            says: &["\"timeout_ms\":300"],
            ..row("tls-late", C::TlsHandshakeFailed, tls("header_timeout = \"300ms\"\n"), says(vec![22, 3, 1]))
        },
        row("tls-behind-header", C::TlsHandshakeFailed, tls(PROXIED), says([V1, b"EHLO x\r\n"].concat())),
        Row {
            says: &["\"sni\":\"b.example\""],
            ..row("name", C::HostNotConfigured, tls(""), says(hello("b.example", &["h2"])))
        },
        Row {
            says: &["\"sni\":\"a.example\""],
            ..row("protocol", C::RuleNotFound, tls(""), says(hello("a.example", &["imap"])))
        },
        row(
            "denied",
            C::ClientDeniedByAcl,
            format!("{TCP}[listener.access]\ndeny = [\"127.0.0.0/8\"]\n"),
            says(b"hello".to_vec()),
        ),
        row(
            "rate",
            C::ClientRateLimited,
            format!("{TCP}[listener.limit]\nclient_connections_per_second = {{ rate = 1, burst = 1 }}\n"),
            second(),
        ),
        row(
            "at-once",
            C::ClientTooManyConnections,
            format!("{TCP}[listener.limit]\nclient_connections = 1\n"),
            second(),
        ),
        Row { pool: "backend_limit = 1", ..row("full", C::BackendQueueFull, TCP.to_owned(), second()) },
        row(
            "lifetime",
            C::RelayLifetimeOver,
            format!("{TCP}lifetime = \"300ms\"\n"),
            Box::new(|address| {
                let mut wire = Wire::open(address);
                // Busy until the end: the time is over, not the talk.
                loop {
                    match wire.stream.write_all(b"x") {
                        Ok(()) => std::thread::yield_now(),
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return End::Reset,
                        Err(error) => panic!("{error}"),
                    }
                }
            }),
        ),
        Row {
            // An address for documentation, which no host has (RFC 5737).
            pool: "source = \"192.0.2.99\"",
            says: &["\"errno\":99"],
            ..row("source", C::SourceUnusable, TCP.to_owned(), says(b"hello".to_vec()))
        },
    ]
}

fn echo(mut stream: TcpStream) {
    let mut space = [0; 4096];
    while let Ok(count @ 1..) = std::io::Read::read(&mut stream, &mut space) {
        if stream.write_all(&space[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn every_fault_of_a_relay_has_one_name_in_log_metric_and_explanation() {
    let rows = rows();
    let addresses: Vec<SocketAddr> = rows.iter().map(|_| free_address()).collect();
    let server = backend(echo);
    let config: String = rows
        .iter()
        .zip(&addresses)
        .map(|(row, address)| {
            let Row { name, pool, .. } = row;
            let listener = row.listener.replace("POOL", name);
            let default =
                if listener.contains("[[listener.rule]]") { String::new() } else { format!("pool = \"{name}\"\n") };
            format!(
                "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\n{default}{listener}\n\
                 [[pool]]\nname = \"{name}\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n{pool}\n"
            )
        })
        .collect();
    let daemon = Daemon::start("tcp-causes", &config);
    for (row, address) in rows.iter().zip(addresses) {
        let Row { name, cause, .. } = row;
        eprintln!("fault: {name}");
        assert_eq!((row.client)(address), End::Reset, "{name}");
        let code = cause.code();
        let line = daemon.wait_log_where(name, |line| line["listener"] == *name && line["cause"] == code);
        assert_eq!(line["phase"], row.phase.word(), "{name}: {line}");
        let text = line.to_string();
        assert!(row.says.iter().all(|words| text.contains(words)), "{name}: {:?} in {text}", row.says);
        let labels = [&*format!("listener=\"{name}\""), &*format!("cause=\"{code}\"")];
        assert!(daemon.metric("evenkeel_failures_total", &labels) >= 1.0, "{name}: no metric with {labels:?}");
        crate::causes::explains(code);
    }
}

#[test]
fn a_client_turned_away_in_silence_hears_nothing_and_is_logged() {
    let (address, server) = (free_address(), backend(hold));
    let text = format!(
        "[[listener]]\nname = \"tcp\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"tcp\"\nrefuse = \"silence\"\n{PROXIED}\
         [listener.access]\ndeny = [\"198.51.100.0/24\"]\n\
         [[pool]]\nname = \"tcp\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n"
    );
    let daemon = Daemon::start("silence", &text);
    let mut wire = Wire::open(address);
    wire.send(V1);
    let line = daemon.wait_log_where("the refusal", |line| line["listener"] == "tcp");
    assert_eq!((&line["cause"], &line["phase"]), (&"client_denied_by_acl".into(), &"accept".into()), "{line}");
    if rustix::process::geteuid().is_root() {
        // Nothing was sent, so nothing is there to be read: neither an end nor an error.
        wire.stream.set_nonblocking(true).expect("a socket takes the option");
        let error = wire.stream.peek(&mut [0]).expect_err("silence");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    } else {
        assert_eq!(wire.rest().1, End::Reset, "without the right to be silent");
    }
}

#[test]
fn relays_of_a_backend_that_falls_are_reset_where_the_pool_asks_for_it() {
    let address = free_address();
    let check = std::net::TcpListener::bind((crate::daemon::own_ip(), 0)).expect("loopback has free ports");
    let check_address = check.local_addr().expect("it is bound");
    let server = std::net::TcpListener::bind((check_address.ip(), 0)).expect("loopback has free ports");
    let server_address = server.local_addr().expect("it is bound");
    crate::backend::serve(server, echo);
    let text = format!(
        "[[listener]]\nname = \"tcp\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"tcp\"\n\
         [[pool]]\nname = \"tcp\"\nbackends = [\"{server_address}\"]\non_unhealthy = \"reset\"\n\
         check = {{ kind = \"tcp\", port = {}, interval = \"100ms\", timeout = \"2s\", unhealthy_threshold = 2 }}\n",
        check_address.port()
    );
    let daemon = Daemon::start_with(&Setup { name: "reset-policy", node: "", body: &text, namespace: None });
    daemon.wait_verdict("tcp", &server_address.to_string(), "healthy");
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::open(address)).collect();
    for wire in &mut wires {
        wire.send("hello");
        wire.exactly(5);
    }
    drop(check);
    for mut wire in wires {
        assert_eq!(wire.rest(), (Vec::new(), End::Reset));
    }
    let lines = until("four lines of the log", || {
        let lines: Vec<_> = daemon.log().into_iter().filter(|line| line["listener"] == "tcp").collect();
        (lines.len() == 4).then_some(lines)
    });
    for line in lines {
        assert_eq!((&line["cause"], &line["phase"]), (&"backend_turned_unhealthy".into(), &"relay".into()), "{line}");
    }
    let labels = ["listener=\"tcp\"", "cause=\"backend_turned_unhealthy\""];
    assert_eq!(daemon.metric("evenkeel_failures_total", &labels), 4.0);
    crate::causes::explains("backend_turned_unhealthy");
}
