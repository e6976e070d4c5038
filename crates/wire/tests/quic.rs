//! Packets of QUIC as RFC 8999 lets everybody see them; the samples are those of the RFCs.
//!
//! A balancer that read the wrong bytes as a connection id would scatter one client over all backends, so every length
//! is tried.

use evenkeel_wire::quic::{Packet, parse};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

fn long(first: u8, version: u32, dcid: &[u8], scid: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = |cid: &[u8]| u8::try_from(cid.len()).expect("test id");
    [&[first], &version.to_be_bytes()[..], &[length(dcid)], dcid, &[length(scid)], scid, rest].concat()
}

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

#[test]
fn packets_of_the_rfcs_are_read() {
    let dcid: &[u8] = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    let scid: &[u8] = &[0xf0, 0x67, 0xa5, 0x50, 0x2a, 0x42, 0x62, 0xb5];
    let behind = b"\0\x44\x9e\x7b\x9a\xec\x34";
    let table: Vec<(Vec<u8>, Packet<'_>)> = vec![
        // RFC 9001 A.2: a client's Initial; A.3: the server's; A.4: Retry.
        (long(0xc0, V1, dcid, &[], behind), Packet::Long { version: V1, dcid, scid: &[], initial: true }),
        (long(0xcf, V1, &[], scid, behind), Packet::Long { version: V1, dcid: &[], scid, initial: true }),
        (long(0xff, V1, &[], scid, behind), Packet::Long { version: V1, dcid: &[], scid, initial: false }),
        // RFC 9369 A.2, A.3, A.4: the same in version 2, whose types have other numbers.
        (long(0xd3, V2, dcid, &[], behind), Packet::Long { version: V2, dcid, scid: &[], initial: true }),
        (long(0xdc, V2, &[], scid, behind), Packet::Long { version: V2, dcid: &[], scid, initial: true }),
        (long(0xcf, V2, &[], scid, behind), Packet::Long { version: V2, dcid: &[], scid, initial: false }),
        // 0-RTT and Handshake of both.
        (long(0xd0, V1, dcid, scid, &[]), Packet::Long { version: V1, dcid, scid, initial: false }),
        (long(0xe0, V1, dcid, scid, &[]), Packet::Long { version: V1, dcid, scid, initial: false }),
        (long(0xe0, V2, dcid, scid, &[]), Packet::Long { version: V2, dcid, scid, initial: false }),
        (long(0xf0, V2, dcid, scid, &[]), Packet::Long { version: V2, dcid, scid, initial: false }),
        // Without the fixed bit (RFC 9287).
        (long(0x80, V1, dcid, scid, &[]), Packet::Long { version: V1, dcid, scid, initial: true }),
        // Version negotiation, and a version nobody knows yet.
        (long(0x80, 0, dcid, scid, &[0, 0, 0, 1]), Packet::Long { version: 0, dcid, scid, initial: false }),
        (
            long(0xc0, 0x1a2a_3a4a, dcid, scid, behind),
            Packet::Long { version: 0x1a2a_3a4a, dcid, scid, initial: false },
        ),
        // RFC 9001 A.5: a short header, of an empty connection id.
        (b"\x4c\xfe\x41\x89\x65".into(), Packet::Short { rest: b"\xfe\x41\x89\x65" }),
        (b"\0".into(), Packet::Short { rest: &[] }),
    ];
    for (datagram, expected) in table {
        assert_eq!(parse(&datagram), Some(expected), "{}", datagram.escape_ascii());
    }
}

#[test]
fn what_is_cut_or_has_ids_of_no_version_is_nothing() {
    let longest = [7; 255];
    assert_eq!(parse(b""), None);
    for (dcid, scid) in [(20, 20), (0, 20), (20, 0), (0, 0)] {
        let datagram = long(0xc0, V1, &longest[..dcid], &longest[..scid], &[]);
        assert!(parse(&datagram).is_some(), "{dcid} {scid}");
        for cut in 1..datagram.len() {
            assert_eq!(parse(&datagram[..cut]), None, "{dcid} {scid}, cut at {cut}");
        }
    }
    // RFC 9000 section 17.2: longer ids than 20 bytes are of another version.
    for version in [V1, V2] {
        for (dcid, scid) in [(21, 0), (0, 21), (255, 255)] {
            assert_eq!(parse(&long(0xc0, version, &longest[..dcid], &longest[..scid], &[])), None);
        }
    }
    assert_eq!(
        parse(&long(0xc0, 9, &longest, &longest, &[])),
        Some(Packet::Long { version: 9, dcid: &longest, scid: &longest, initial: false })
    );
}

proptest! {
    #[test]
    fn every_version_is_read_alike_but_for_its_longest_id(
        first: u8, version: u32, known: Option<bool>, dcid in vec(any::<u8>(), 0..=255),
        scid in vec(any::<u8>(), 0..=255), rest in vec(any::<u8>(), 0..50),
    ) {
        let version = known.map_or(version, |first| if first { V1 } else { V2 });
        let datagram = long(first, version, &dcid, &scid, &rest);
        let fits = ![V1, V2].contains(&version) || dcid.len().max(scid.len()) <= 20;
        match parse(&datagram) {
            Some(Packet::Short { rest }) => {
                prop_assert!(first < 0x80);
                prop_assert_eq!(rest, &datagram[1..]);
            }
            Some(Packet::Long { version: read, dcid: to, scid: from, .. }) => {
                prop_assert!(first >= 0x80 && fits);
                prop_assert_eq!((read, to, from), (version, &dcid[..], &scid[..]));
            }
            None => prop_assert!(!fits),
        }
    }

    #[test]
    fn noise_never_panics_and_ids_lie_within_it(noise in vec(any::<u8>(), 0..60)) {
        if let Some(Packet::Long { dcid, scid, .. }) = parse(&noise) {
            prop_assert!(7 + dcid.len() + scid.len() <= noise.len());
        }
    }
}
