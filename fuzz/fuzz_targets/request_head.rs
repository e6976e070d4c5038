//! Request heads: no panic, the same result for every way of cutting the input, one reading for a naive
//! reader too, and what we send on is read alike.
//!
//! The first two bytes choose the settings and a place to cut.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_wire::{FieldSlots, Forwarding, Parsed, Version, has_loop, parse_request, write_request};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/wire/tests/naive/mod.rs"]
mod naive;

const LIMIT: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let [settings, cut, input @ ..] = data else { return };
    let mut slots = FieldSlots::new();
    let whole = parse_request(input, &mut slots, LIMIT);

    let part = &input[..input.len() * usize::from(*cut) / 256];
    let mut part_slots = FieldSlots::new();
    match (parse_request(part, &mut part_slots, LIMIT), &whole) {
        (Parsed::Partial, _) => {}
        (Parsed::Refused(early), Parsed::Refused(late)) => assert_eq!(early, *late),
        (Parsed::Whole(early), Parsed::Whole(late)) => assert_eq!((early.framing, early.len), (late.framing, late.len)),
        _ => panic!("another result for {} of {} bytes", part.len(), input.len()),
    }

    let head = match whole {
        Parsed::Whole(head) => head,
        Parsed::Partial => return,
        Parsed::Refused(refusal) => {
            assert!(!refusal.detail.contains("is not http/1.1 (RFC 9112)"), "refused without a rule");
            return;
        }
    };
    let reading = naive::request(input).expect("a naive reader must accept it too");
    assert_eq!((reading.framing, reading.length), (head.framing, head.len));

    let forwarding = Forwarding {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_port: 1,
        local: SocketAddr::from(([127, 0, 0, 1], 80)),
        scheme: "http",
        trusted_peer: settings & 1 != 0,
        trusted: &[],
        x_forwarded: settings & 2 != 0,
        forwarded: settings & 4 != 0,
        loop_id: b"keel",
        default_host: b"default.example",
    };
    let mut out = Vec::new();
    write_request(&head, &forwarding, &mut out);
    let sent = naive::request(&out).expect("a naive reader must accept what we send");
    assert_eq!((sent.framing, sent.length), (head.framing, out.len()));
    let mut sent_slots = FieldSlots::new();
    // We add fields, so a head near the limit of their number may go over it.
    if head.fields.len() < 110 {
        let Parsed::Whole(again) = parse_request(&out, &mut sent_slots, usize::MAX) else { panic!("refused our own") };
        assert_eq!((again.version, again.framing, again.len), (Version::Http11, head.framing, out.len()));
        assert_eq!((again.method, again.path, again.upgrade), (head.method, head.path, head.upgrade));
        assert_eq!(again.host, Some(head.host.unwrap_or(forwarding.default_host)));
        assert!(has_loop(&again, forwarding.loop_id));
    }
});
