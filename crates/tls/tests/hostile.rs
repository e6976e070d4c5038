//! What anybody can send without keys. Nothing of it may panic, go round in circles or be kept without bound; all of it
//! ends with a reason an operator understands.

mod support;

use evenkeel_tls::{Failed, Session};
use support::{Authority, BACKEND, plain_client, plain_server};

/// More than a session ever keeps: a handshake message with its records around it.
const MOST: usize = 200_000;

/// Feeds `bytes` in pieces; what the session said and how many bytes in.
fn feed(session: &mut Session, bytes: &[u8], size: usize) -> Option<(Failed, usize)> {
    let mut heard = Vec::new();
    let mut fed = 0;
    for piece in bytes.chunks(size) {
        fed += piece.len();
        let outcome = session.receive(&mut piece.to_vec(), &mut heard);
        assert!(session.memory() < MOST, "{} bytes kept after {fed}", session.memory());
        assert!(heard.is_empty(), "nobody with keys has spoken");
        if let Err(failed) = outcome {
            return Some((failed, fed));
        }
    }
    None
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn everything_that_is_no_handshake_is_named() {
    let authority = Authority::new("Test authority");
    let (client, server) = (plain_client(&authority, "a.example"), plain_server(&authority));
    let http = "plain HTTP where TLS was expected";
    let misplaced = "TLS message at a moment where it has no place";
    let crumbs: Vec<u8> = std::iter::once(record(22, &[1, 0, 0xff, 0xff]))
        .chain((0..60_000).map(|_| record(22, &[0])))
        .flatten()
        .collect();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), http),
        ("POST", b"POST / HTTP/1.1\r\n\r\n".to_vec(), http),
        ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http),
        ("an answer", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), http),
        ("PROXY", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), "a PROXY protocol header where TLS was expected"),
        ("PROXY v2", b"\r\n\r\n\0\r\nQUIT\n".to_vec(), "a PROXY protocol header where TLS was expected"),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "SSH where TLS was expected"),
        ("SSL 2.0", b"\x80\x2e\x01\x00\x02\x00\x15".to_vec(), "an SSL 2.0 hello; TLS 1.2 or 1.3 is expected"),
        ("zeros", vec![0; 1000], "something that is not TLS"),
        ("noise", (0..1000).map(|at| (at * 89 + 31) as u8).collect(), "something that is not TLS"),
        ("a record longer than any", [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat(), "record too long"),
        ("an empty record", record(22, &[]), "malformed TLS message"),
        ("a message of 16 MiB", record(22, &[1, 0xff, 0xff, 0xff]), "handshake message too long"),
        ("a message in crumbs", crumbs, "handshake message too long"),
        ("data first", record(23, b"data"), misplaced),
        ("a finish first", record(22, &[20, 0, 0, 0]), misplaced),
        ("an alert", record(21, &[2, 40]), "alert received: handshake_failure"),
        ("a goodbye", record(21, &[1, 0]), "too many warnings"),
        ("warnings", record(21, &[1, 90]).repeat(100), "too many warnings"),
        ("change of cipher", record(20, &[1]).repeat(100), misplaced),
        ("half an alert", record(21, &[2]), "malformed TLS message"),
        ("heartbeat", record(24, &[1, 0xff, 0xff]), "something that is not TLS"),
    ];
    for (what, bytes, expected) in table {
        for size in [usize::MAX, 1, 7] {
            for mut session in
                [Session::server(&server).expect("ours"), Session::client(&client, BACKEND).expect("ours")]
            {
                // One goodbye is a warning before there are keys; a hundred are too many.
                let bytes = if what == "a goodbye" { bytes.repeat(100) } else { bytes.clone() };
                let (failed, _) = feed(&mut session, &bytes, size.min(bytes.len())).unwrap_or_else(|| panic!("{what}"));
                assert_eq!(failed.detail, expected, "{what}, in pieces of {size}");
                assert_eq!(failed.plain_http, expected == http);
                assert!(!failed.unknown_name && failed.sni.is_none());
                assert_eq!(session.receive(&mut [0; 10], &mut Vec::new()), Err(failed), "it stays failed");
            }
        }
    }
}

#[test]
fn http_gets_no_alert_and_others_do() {
    let authority = Authority::new("Test authority");
    let server = plain_server(&authority);
    let mut session = Session::server(&server).expect("ours");
    feed(&mut session, b"GET / HTTP/1.0\r\n\r\n", 100).expect("refused");
    assert_eq!(session.output(), b"", "so that it can be told in its own words");
    let mut session = Session::server(&server).expect("ours");
    feed(&mut session, &record(22, &[20, 0, 0, 0]), 100).expect("refused");
    assert_eq!(session.output(), [21, 3, 3, 0, 2, 2, 10], "unexpected_message");
}

#[test]
fn a_hello_that_never_ends_is_kept_only_so_far() {
    let authority = Authority::new("Test authority");
    let server = plain_server(&authority);
    for size in [1, 100, 16_384] {
        let mut session = Session::server(&server).expect("ours");
        // A message of 65535 bytes is announced, as long as one may be, and then come empty promises of it.
        let mut bytes = record(22, &[1, 0, 0xff, 0xff]);
        let piece = record(22, &vec![0; size]);
        let mut fed = 0;
        let outcome = loop {
            fed += bytes.len();
            if let Some((failed, _)) = feed(&mut session, &bytes, 4096) {
                break failed;
            }
            assert!(fed < 1_000_000, "still waiting");
            bytes.clone_from(&piece);
        };
        assert!(["handshake message too long", "malformed TLS message"].contains(&outcome.detail), "{outcome:?}");
    }
}

#[test]
fn a_flight_with_any_byte_changed_ends_or_waits_but_never_panics() {
    let authority = Authority::new("Test authority");
    let (client, server) = (plain_client(&authority, "a.example"), plain_server(&authority));
    let hello = Session::client(&client, BACKEND).expect("ours").output().to_vec();
    let mut details = std::collections::BTreeSet::new();
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= [1, 0x80, 0xff][at % 3];
        let mut session = Session::server(&server).expect("ours");
        if let Some((failed, _)) = feed(&mut session, &changed, 5000) {
            details.insert(failed.detail);
        }
        assert!(session.output().len() < 10_000);
    }
    assert!(details.len() > 5, "many ways to be wrong were found: {details:?}");
    assert!(!details.contains("TLS failed within our own library"), "{details:?}");
    // The answer to a hello, changed on its way to a client.
    for at in (0..2000).step_by(3) {
        let mut near = Session::client(&client, BACKEND).expect("ours");
        let mut far = Session::server(&server).expect("ours");
        far.receive(&mut near.output().to_vec(), &mut Vec::new()).expect("the hello is right");
        let mut answer = far.output().to_vec();
        let at = at % answer.len();
        answer[at] ^= 0x41;
        let mut heard = Vec::new();
        let failed = near.receive(&mut answer, &mut heard);
        assert!(heard.is_empty());
        if let Err(failed) = failed {
            assert_ne!(failed.detail, "TLS failed within our own library", "byte {at}");
        }
    }
}
