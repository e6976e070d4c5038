//! What a client or backend can do to us once it has keys: each attack ends its own session, with its reason, and costs a
//! bounded number of bytes.

use std::sync::Arc;

use rustls::ContentType;
use rustls::version::{TLS12, TLS13};

use crate::records::{RECORD, Sealer};
use crate::session::{Session, Stage};
use crate::support::{Authority, Pair, Trusting, plain_client, plain_server, shaken};

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;

/// A shaken pair whose client does what no client should.
fn pair(version: &'static rustls::SupportedProtocolVersion) -> Pair {
    let authority = Authority::new("Test authority");
    let mut client = plain_client(&authority, "a.example");
    let mut config = rustls::ClientConfig::builder_with_provider(client.config.crypto_provider().clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    client.config = Arc::new(config);
    shaken(&client, &plain_server(&authority))
}

fn sealer(session: &mut Session) -> &mut Sealer {
    match &mut session.stage {
        Stage::Established(established) => &mut established.sealer,
        Stage::Handshake { .. } | Stage::Over => panic!("the session is established"),
    }
}

/// Whom the attack is aimed at.
#[derive(Clone, Copy, Debug)]
enum At {
    Server,
    Client,
}

/// Kind and content of a record.
type Sent<'a> = (u8, &'a [u8]);

/// The reason a session ended for, and whether it sent an alert.
type Ended = Option<(&'static str, bool)>;

/// Sends records; how the other side ended, if it did.
fn attack(pair: &mut Pair, at: At, records: &[Sent<'_>]) -> Ended {
    let (from, to) = match at {
        At::Server => (&mut pair.client, &mut pair.server),
        At::Client => (&mut pair.server, &mut pair.client),
    };
    let mut bytes = Vec::new();
    for (kind, content) in records {
        sealer(from).seal(ContentType::from(*kind), content, &mut bytes);
    }
    let mut heard = Vec::new();
    let failed = to.receive(&mut bytes, &mut heard).err()?;
    assert_eq!(to.receive(&mut [1, 2, 3], &mut heard), Err(failed.clone()), "it stays failed");
    assert!(to.memory() < 100_000);
    Some((failed.detail, !to.output().is_empty()))
}

const MISPLACED: &str = "TLS message at a moment where it has no place";
const IDLE: &str = "too many records without data";

#[test]
fn each_attack_ends_its_own_session_with_its_reason() {
    let ticket: &[u8] = &[4, 0, 0, 1, 0];
    let huge: &[u8] = &[4, 0xff, 0xff, 0xff];
    let half: &[u8] = &[24, 0];
    let many = |record: (u8, &'static [u8])| vec![record; 33];
    let pieces: Vec<(u8, &[u8])> =
        std::iter::once((HANDSHAKE, &[4, 0, 0xff, 0xff][..])).chain(many((HANDSHAKE, &[0]))).collect();
    let table: Vec<(&str, At, Vec<Sent<'_>>, Ended)> = vec![
        ("empty records", At::Server, many((DATA, &[])), Some((IDLE, true))),
        ("as many as allowed", At::Server, vec![(DATA, &[]); 32], None),
        (
            "key update before another message",
            At::Server,
            vec![(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])],
            Some(("key update in the middle of other messages", true)),
        ),
        (
            "key update with a third meaning",
            At::Server,
            vec![(HANDSHAKE, &[24, 0, 0, 1, 2])],
            Some(("malformed key update", true)),
        ),
        (
            "key update of two bytes",
            At::Server,
            vec![(HANDSHAKE, &[24, 0, 0, 2, 0, 0])],
            Some(("malformed key update", true)),
        ),
        (
            "data inside a message",
            At::Server,
            vec![(HANDSHAKE, half), (DATA, b"x")],
            Some(("data in the middle of a handshake message", true)),
        ),
        ("a ticket from a client", At::Server, vec![(HANDSHAKE, ticket)], Some((MISPLACED, true))),
        (
            "a broken ticket from a backend",
            At::Client,
            vec![(HANDSHAKE, ticket)],
            Some(("malformed TLS message", true)),
        ),
        ("a message of 16 MiB", At::Client, vec![(HANDSHAKE, huge)], Some(("handshake message too long", true))),
        ("a message in crumbs", At::Client, pieces, Some((IDLE, true))),
        ("a finish too many", At::Server, vec![(HANDSHAKE, &[20, 0, 0, 0])], Some((MISPLACED, true))),
        ("a hello too many", At::Server, vec![(HANDSHAKE, &[1, 0, 0, 0])], Some((MISPLACED, true))),
        ("an empty message", At::Server, vec![(HANDSHAKE, &[])], Some(("malformed TLS message", true))),
        ("change of cipher", At::Server, vec![(20, &[1])], Some(("a break of the TLS protocol", true))),
        ("a kind nobody knows", At::Server, vec![(99, &[1])], Some(("malformed TLS message", true))),
        ("no kind at all", At::Server, vec![(0, &[0, 0])], Some(("a break of the TLS protocol", true))),
        ("an alert of three bytes", At::Server, vec![(ALERT, &[2, 0, 0])], Some(("malformed TLS message", true))),
        ("a fatal alert", At::Server, vec![(ALERT, &[2, 80])], Some(("alert received: internal_error", false))),
        (
            "an alert that is none",
            At::Server,
            vec![(ALERT, &[2, 200])],
            Some(("alert received: one that we do not know", false)),
        ),
        ("cancelled", At::Server, vec![(ALERT, &[1, 90])], None),
        ("cancelled and cancelled", At::Server, many((ALERT, &[1, 90])), Some((IDLE, true))),
    ];
    for (what, at, records, expected) in table {
        assert_eq!(attack(&mut pair(&TLS13), at, &records), expected, "{what}");
    }
}

#[test]
fn a_flood_of_key_updates_is_ended_and_queues_nothing() {
    let mut pair = pair(&TLS13);
    let flood = |pair: &mut Pair, data: bool| {
        for round in 0..1000 {
            let mut bytes = Vec::new();
            if let Stage::Established(client) = &mut pair.client.stage {
                client.change_keys(1, &mut bytes).expect("TLS 1.3");
                if data {
                    client.sealer.seal(ContentType::ApplicationData, b"x", &mut bytes);
                }
            }
            if let Err(failed) = pair.server.receive(&mut bytes, &mut pair.server_heard) {
                return Some((round, failed.detail));
            }
            assert_eq!(pair.server.output(), b"", "answered only in front of data");
        }
        None
    };
    assert_eq!(flood(&mut pair, true), None, "whoever sends data may change keys with it");
    assert_eq!(flood(&mut pair, false), Some((32, IDLE)));
}

#[test]
fn renegotiation_is_turned_down_once_and_then_ends_the_session() {
    for (at, message) in [(At::Server, &[1, 0, 0, 0][..]), (At::Client, &[0, 0, 0, 0])] {
        let mut pair = pair(&TLS12);
        assert_eq!(attack(&mut pair, at, &[(HANDSHAKE, message)]), None);
        let told = match at {
            At::Server => &pair.server,
            At::Client => &pair.client,
        };
        assert!(!told.output().is_empty(), "it is told no_renegotiation");
        assert_eq!(attack(&mut pair, at, &[(HANDSHAKE, message)]), Some(("renegotiation is not done here", true)));
    }
    let table: [(&str, Vec<Sent<'_>>, Ended); 5] = [
        ("warnings", vec![(ALERT, &[1, 110]); 33], Some((IDLE, true))),
        ("as many as allowed", vec![(ALERT, &[1, 110]); 32], None),
        ("a finish too many", vec![(HANDSHAKE, &[20, 0, 0, 0])], Some(("renegotiation is not done here", true))),
        ("change of cipher", vec![(20, &[1])], Some((MISPLACED, true))),
        ("a fatal alert", vec![(ALERT, &[2, 40])], Some(("alert received: handshake_failure", false))),
    ];
    for (what, records, expected) in table {
        assert_eq!(attack(&mut pair(&TLS12), At::Server, &records), expected, "{what}");
    }
}

#[test]
fn records_that_were_touched_repeated_or_turned_are_not_believed() {
    let damaged = Some("record that cannot be decrypted: damaged or forged on the way");
    for version in [&TLS12, &TLS13] {
        let mut sent = pair(version);
        sent.client.send(b"one").expect("sealed");
        let one = sent.client.output().to_vec();
        for at in 5..one.len() {
            let mut pair = pair(version);
            pair.client.send(b"one").expect("sealed");
            let mut bytes = pair.client.output().to_vec();
            bytes[at] ^= 0x20;
            let failed = pair.server.receive(&mut bytes, &mut pair.server_heard).expect_err("it was touched");
            assert_eq!(Some(failed.detail), damaged, "byte {at}");
            assert!(pair.server_heard.is_empty());
        }
        let mut repeated = one.clone();
        repeated.extend_from_slice(&one);
        let failed = sent.server.receive(&mut repeated, &mut sent.server_heard).expect_err("it was repeated");
        assert_eq!((Some(failed.detail), &sent.server_heard[..]), (damaged, &b"one"[..]));

        let mut sent = pair(version);
        let mut turned = Vec::new();
        for text in ["one", "two"] {
            sent.client.send(text.as_bytes()).expect("sealed");
            let bytes = sent.client.output().to_vec();
            sent.client.sent(bytes.len());
            turned.splice(0..0, bytes);
        }
        let failed = sent.server.receive(&mut turned, &mut sent.server_heard).expect_err("it was turned");
        assert_eq!(Some(failed.detail), damaged);
    }
}

#[test]
fn a_worn_out_key_is_changed_or_the_session_ends() {
    let mut young = pair(&TLS13);
    sealer(&mut young.client).limit = 10;
    let mut expected = Vec::new();
    for round in 0..40_u8 {
        young.client.send(&[round; 100]).expect("keys are changed in time");
        expected.extend_from_slice(&[round; 100]);
    }
    young.settle().expect("the server follows");
    assert!(young.server_heard == expected);

    let mut old = pair(&TLS12);
    sealer(&mut old.client).limit = 10;
    let failed = (0..40).find_map(|_| old.client.send(&[0; 100]).err()).expect("TLS 1.2 cannot change keys");
    assert_eq!(failed.detail, "keys worn out after 16 million records");
    old.settle().expect("what was sealed before is right");
    assert!(old.server.has_closed(), "the goodbye has its place kept");
    assert_eq!(old.server_heard.len() % 100, 0);
}

#[test]
fn an_idle_session_holds_no_large_buffers() {
    for version in [&TLS12, &TLS13] {
        let mut pair = pair(version);
        pair.client.send(&[7; 300_000]).expect("sealed");
        let bytes = pair.client.output().to_vec();
        assert!(pair.client.memory() >= 300_000);
        for piece in bytes.chunks(10_007) {
            pair.client.sent(piece.len());
            pair.server.receive(&mut piece.to_vec(), &mut pair.server_heard).expect("nothing is wrong");
            assert!(pair.server.memory() <= 2 * (RECORD + 300), "{}", pair.server.memory());
        }
        assert_eq!(pair.server_heard.len(), 300_000);
        for session in [&pair.client, &pair.server] {
            assert!(session.memory() <= 4096, "{}", session.memory());
        }
    }
}
