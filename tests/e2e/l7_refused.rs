//! Clients that are turned away before they have a request, and those that break TLS or HTTP/2.
//!
//! Each loses its own connection, or only the one stream, and the log says by which rule. Whoever behaves is served
//! meanwhile: that is asked after every row.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use evenkeel_model::Cause;

use crate::backend::{backend, polite};
use crate::causes::explains;
use crate::client::Wire;
use crate::daemon::{Daemon, PATIENCE, free_address, until};
use crate::l7_speak::{
    ACK, DATA, END_HEADERS, END_STREAM, Forge, Frame, Frames, Front, GOAWAY, HEADERS, NAME, PING, PREFACE, RST_STREAM,
    SETTINGS, Site, Talk, block, frame,
};

/// What a listener does with a connection that it does not let in.
#[test]
fn connections_that_are_turned_away_are_told_why_where_they_can_be() {
    let forge = Forge::new("turned-away");
    let certificate = forge.issue("listener", &[NAME]);
    let table = [
        ("denied", "access = { deny = [\"127.0.0.0/8\"] }", Cause::ClientDeniedByAcl, "deny"),
        ("not-allowed", "access = { allow = [\"192.0.2.0/24\"] }", Cause::ClientDeniedByAcl, "allow"),
        (
            "client-often",
            "limit = { client_connections_per_second = { rate = 1, burst = 1 } }",
            Cause::ClientRateLimited,
            "client_connections_per_second",
        ),
        (
            "often",
            "limit = { connections_per_second = { rate = 1, burst = 1 } }",
            Cause::ClientRateLimited,
            "connections_per_second",
        ),
        ("client-many", "limit = { client_connections = 1 }", Cause::ClientTooManyConnections, "client_connections"),
        ("many", "limit = { connections = 1 }", Cause::ClientTooManyConnections, "connections"),
    ];
    let sites = table.map(|_| Site { plain: free_address(), tls: free_address() });
    let mut body = format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(polite));
    for ((name, keys, ..), site) in table.iter().zip(&sites) {
        body += &forge.listeners(name, *site, &certificate, &format!("pool = \"web\"\n{keys}"));
    }
    let daemon = Daemon::start("turned-away", &body);
    for ((name, _, cause, word), site) in table.iter().zip(&sites) {
        let entry = cause.entry();
        // Who comes first keeps what there is, if there is anything; a rate may let in some more.
        let mut held = Vec::new();
        let answer = (0..20).find_map(|_| {
            let mut wire = Wire::open(site.plain);
            let _ = wire.stream.write_all(b"GET / HTTP/1.1\r\nHost: e\r\n\r\n");
            let answer = wire.answer().unwrap_or_else(|end| panic!("{name}: {end:?}"));
            held.push(wire);
            (answer.status != 200).then_some(answer)
        });
        let answer = answer.unwrap_or_else(|| panic!("{name}: twenty connections were let in"));
        assert_eq!(Some(answer.status), entry.status, "{name}: {}", answer.head);
        let status = answer.field("proxy-status").unwrap_or_default();
        assert!(status.contains(&format!("details=\"{}\"", entry.code)), "{name}: {status}");
        assert!(answer.says_close(), "{name}: {}", answer.head);
        // Inside TLS there is no session yet in which something could be said.
        let talks: Vec<_> = (0..20).map(|_| Talk::open_as(Front::Http1Tls, site.tls, &forge, NAME)).collect();
        assert!(talks.iter().any(Result::is_err), "{name}: twenty handshakes went through");
        for listener in [(*name).to_owned(), format!("{name}-tls")] {
            let line =
                daemon.wait_log_where(&listener, |line| line["listener"] == *listener && !line["cause"].is_null());
            assert_eq!((&line["cause"], &line["phase"]), (&entry.code.into(), &"accept".into()), "{line}");
            assert!(line["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{name}: {line}");
            let labels = [format!("listener=\"{listener}\""), format!("cause=\"{}\"", entry.code)];
            assert!(daemon.metric("evenkeel_failures_total", &labels.each_ref().map(String::as_str)) >= 1.0, "{name}");
        }
        explains(entry.code);
    }
}

#[test]
fn a_failed_handshake_says_what_was_wrong_and_only_its_connection_goes() {
    let forge = Forge::new("handshakes");
    let certificate = forge.issue("listener", &[NAME]);
    let (strict, usual) = (free_address(), free_address());
    let listener = |name, address, keys: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"https\"\npool = \"web\"\n\
             [[listener.certificate]]\n{}[listener.tls]\nhandshake_timeout = \"300ms\"\n{keys}\n",
            certificate.keys()
        )
    };
    let body = listener("usual", usual, "")
        + &listener("strict", strict, &format!("client_ca = \"{}\"", forge.ca()))
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(polite));
    let daemon = Daemon::start("handshakes", &body);
    let stranger = Forge::new("handshakes-stranger");
    let begun = |bytes: &[u8]| {
        let mut wire = Wire::open(usual);
        let _ = wire.stream.write_all(bytes);
        wire
    };
    // A ClientHello's first bytes, which announce more than comes.
    let hello = [0x16, 0x03, 0x01, 0x01, 0x00, 0x01, 0x00];
    let table: [(&str, Cause, &dyn Fn()); 6] = [
        ("plain HTTP", Cause::TlsHandshakeFailed, &|| {
            let (said, _) = begun(b"GET / HTTP/1.1\r\nHost: e\r\n\r\n").rest();
            assert!(said.starts_with(b"HTTP/1.1 400"), "told in its own words: {}", String::from_utf8_lossy(&said));
            let told = String::from_utf8_lossy(&said);
            assert!(told.contains("plain HTTP where TLS was expected"), "{told}");
        }),
        ("half a hello, then silence", Cause::TlsHandshakeFailed, &|| {
            begun(&hello).rest();
        }),
        ("half a hello, then gone", Cause::TlsHandshakeFailed, &|| drop(begun(&hello))),
        ("a client that does not trust us", Cause::TlsHandshakeFailed, &|| {
            assert!(Talk::open_as(Front::Http1Tls, usual, &stranger, NAME).is_err());
        }),
        ("no client certificate", Cause::TlsHandshakeFailed, &|| {
            // With TLS 1.3 the client hears of it when it first reads.
            if let Ok(mut talk) = Talk::open_as(Front::Http1Tls, strict, &forge, NAME) {
                talk.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
                assert!(talk.answer().is_err(), "served without a certificate");
            }
        }),
        ("a name without a certificate", Cause::TlsNoCertificateForName, &|| {
            assert!(Talk::open_as(Front::Http1Tls, usual, &forge, "nobody.test").is_err());
        }),
    ];
    let mut details = BTreeSet::new();
    let mut seen = 0;
    for (what, cause, play) in table {
        eprintln!("handshake: {what}");
        play();
        let line = until(&format!("the line of {what}"), || daemon.log().into_iter().nth(seen));
        seen += 1;
        assert_eq!((&line["cause"], &line["phase"]), (&cause.code().into(), &"tls".into()), "{what}: {line}");
        // Only who speaks plain HTTP can be told anything.
        let told = if what == "plain HTTP" { 400.into() } else { serde_json::Value::Null };
        assert_eq!(line["status"], told, "{what}: {line}");
        let unknown = cause == Cause::TlsNoCertificateForName;
        assert!(!unknown || line["sni"] == "nobody.test", "{what}: {line}");
        details.insert(format!("{} {} {}", line["detail"], line["errno"], line["timeout_ms"]));
        // Others are served meanwhile.
        let mut other = Talk::open_as(Front::Http2Tls, usual, &forge, NAME).expect("the listener goes on");
        assert_eq!(other.get(&format!("/{seen}"), "").status, 200, "after {what}");
        daemon.wait_log(&format!("/{seen}"));
        seen += 1;
    }
    assert!(details.len() >= 5, "different faults have different words: {details:?}");
    assert_eq!(
        daemon.metric("evenkeel_failures_total", &["listener=\"usual\"", "cause=\"tls_handshake_failed\""]),
        4.0
    );
    explains("tls_handshake_failed");
    explains("tls_no_certificate_for_name");
}

/// A client of HTTP/2 that was never taught manners.
struct Rough {
    stream: TcpStream,
    frames: Frames<TcpStream>,
}

impl Rough {
    fn open(address: SocketAddr) -> Rough {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        stream.write_all(PREFACE).expect("it reads");
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("it reads");
        let frames = Frames { pipe: stream.try_clone().expect("a socket can be cloned") };
        Rough { stream, frames }
    }

    fn request(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "e2e.test"), (":path", "/")];
        fields.extend(more);
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    }

    /// The next frame that says something of streams or of the end.
    fn verdict(&mut self) -> Option<Frame> {
        self.frames.by_ref().find(|frame| [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind))
    }
}

#[test]
fn a_request_that_breaks_a_rule_of_http2_costs_its_stream_only() {
    let forge = Forge::new("malformed-h2");
    let site = Site { plain: free_address(), tls: free_address() };
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), "pool = \"web\"")
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(polite));
    let daemon = Daemon::start("malformed-h2", &body);
    let good = [(":method", "GET"), (":scheme", "http"), (":authority", "e2e.test"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| [&good, more].concat();
    let table: [(&str, Vec<(&str, &str)>); 9] = [
        ("an uppercase name", with(&[("Upper", "x")])),
        ("a field of connections", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te that is not trailers", with(&[("te", "gzip")])),
        ("two paths", with(&[(":path", "/other")])),
        ("a pseudo-field behind others", [&good[..3], &[("a", "b"), (":path", "/")]].concat()),
        ("no path", good[..3].to_vec()),
        ("a host that is another", with(&[("host", "other.test")])),
        ("a line end in a value", with(&[("a", "b\r\nc: d")])),
    ];
    let mut rough = Rough::open(site.plain);
    let mut stream = 1;
    for (count, (what, fields)) in table.iter().enumerate() {
        rough.stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))).expect("it reads");
        let verdict = rough.verdict().unwrap_or_else(|| panic!("{what}: the connection ended"));
        assert_eq!((verdict.kind, verdict.stream), (RST_STREAM, stream), "{what}: {verdict:?}");
        assert_eq!(verdict.payload, 1u32.to_be_bytes(), "{what}: PROTOCOL_ERROR");
        let malformed = || daemon.log().into_iter().filter(|line| line["cause"] == "client_malformed_request");
        let line = until(&format!("the line of {what}"), || malformed().nth(count));
        assert!(line["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {line}");
        // The next stream of the connection is served.
        rough.stream.write_all(&Rough::request(stream + 2, &[])).expect("it reads");
        let verdict = rough.verdict().expect("the connection goes on");
        assert_eq!((verdict.kind, verdict.stream), (HEADERS, stream + 2), "after {what}: {verdict:?}");
        stream += 4;
    }
    let labels = ["listener=\"web\"", "cause=\"client_malformed_request\""];
    assert_eq!(daemon.metric("evenkeel_failures_total", &labels), table.len() as f64);
}

#[test]
fn a_client_that_breaks_http2_or_floods_loses_its_connection_and_nobody_elses() {
    let forge = Forge::new("rough");
    let site = Site { plain: free_address(), tls: free_address() };
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), "pool = \"web\"")
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n", backend(polite));
    let daemon = Daemon::start("rough", &body);
    let violation = Cause::ClientHttp2Violation;
    let flood = Cause::ClientHttp2Flood;
    let repeated = |count: u32, one: &dyn Fn(u32) -> Vec<u8>| (0..count).flat_map(one).collect::<Vec<u8>>();
    let begun = frame(HEADERS, 0, 1, &block(&[(":method", "GET")]));
    let table: [(&str, Cause, Vec<u8>); 10] = [
        ("data on stream 0", violation, frame(DATA, 0, 0, b"x")),
        ("a stream of the server's", violation, Rough::request(2, &[])),
        ("data on a stream that never was", violation, frame(DATA, 0, 7, b"x")),
        ("a frame that is too large", violation, frame(DATA, 0, 1, &[0; 16_385])),
        ("a header block that cannot be read", violation, frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 8])),
        ("a window of nothing", violation, frame(8, 0, 0, &[0; 4])),
        (
            "rapid reset",
            flood,
            repeated(3000, &|turn| {
                [Rough::request(1 + 2 * turn, &[]), frame(RST_STREAM, 0, 1 + 2 * turn, &8u32.to_be_bytes())].concat()
            }),
        ),
        ("pings", flood, repeated(20_000, &|_| frame(PING, 0, 0, &[0; 8]))),
        ("settings", flood, repeated(20_000, &|_| frame(SETTINGS, 0, 0, &[]))),
        ("empty continuations", flood, [begun, repeated(20_000, &|_| frame(9, 0, 1, &[]))].concat()),
    ];
    let mut steady = Talk::open(Front::Http2, site, &forge);
    for (what, cause, bytes) in table {
        eprintln!("rough: {what}");
        let mut rough = Rough::open(site.plain);
        let mut writing = rough.stream.try_clone().expect("a socket can be cloned");
        // It may be shut while it still writes.
        let writer = std::thread::spawn(move || {
            let _ = writing.write_all(&bytes);
        });
        let code = rough.frames.by_ref().find(|frame| frame.kind == GOAWAY).map(|frame| frame.payload[7]);
        let line = daemon.wait_log_where(what, |line| line["cause"] == cause.code());
        // A reset behind our GOAWAY may overtake it while the other side still floods.
        assert!(code.is_some() || cause == flood, "{what}: no GOAWAY: {line}");
        assert!(code.is_none_or(|code| code != 0), "{what}: GOAWAY without an error");
        assert!(cause != flood || code.is_none_or(|code| code == 11), "{what}: {code:?} is not ENHANCE_YOUR_CALM");
        assert_eq!(rough.frames.by_ref().filter(|frame| frame.flags & ACK == 0).count(), 0, "{what}: it goes on");
        drop(rough);
        writer.join().expect("the writer does not panic");
        assert!(line["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {line}");
        assert_eq!(steady.get("/steady", "").status, 200, "after {what}");
    }
    let count = |cause: Cause| {
        daemon.metric("evenkeel_failures_total", &["listener=\"web\"", &format!("cause=\"{}\"", cause.code())])
    };
    assert_eq!((count(violation), count(flood)), (6.0, 4.0));
    explains(violation.code());
    explains(flood.code());
}
