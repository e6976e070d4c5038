//! Response heads: no panic, the same result for every way of cutting the input, one reading for a naive
//! reader too, and what we send on is read alike.
//!
//! The first two bytes choose the request that was asked and a place to cut.

#![no_main]

use evenkeel_wire::{
    Asked, Connection, FieldSlots, Framing, OutFraming, Parsed, ResponseEdits, Version, parse_response, write_response,
};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/wire/tests/naive/mod.rs"]
mod naive;

const LIMIT: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let [settings, cut, input @ ..] = data else { return };
    let asked = Asked { head: settings & 1 != 0, upgrade: settings & 2 != 0 };
    let mut slots = FieldSlots::new();
    let whole = parse_response(input, &mut slots, LIMIT, asked);

    let part = &input[..input.len() * usize::from(*cut) / 256];
    let mut part_slots = FieldSlots::new();
    match (parse_response(part, &mut part_slots, LIMIT, asked), &whole) {
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
    let reading = naive::response(input, asked.head).expect("a naive reader must accept it too");
    assert_eq!((reading.framing, reading.length), (head.framing, head.len));

    let decoded = settings & 4 != 0;
    let edits = ResponseEdits {
        client_version: if settings & 8 != 0 { Version::Http10 } else { Version::Http11 },
        connection: match (head.upgrade, settings & 16 != 0) {
            (Some(_), _) => Connection::Upgrade,
            (None, true) => Connection::Close,
            (None, false) => Connection::KeepAlive,
        },
        framing: if decoded { OutFraming::Decoded } else { OutFraming::AsIs },
        proxy_status: (settings & 32 != 0).then_some(b"evenkeel; error=connection_refused"),
    };
    let mut out = Vec::new();
    write_response(&head, &edits, &mut out);
    let expected = match head.framing {
        Framing::Chunked if decoded => Framing::UntilClose,
        framing => framing,
    };
    let sent = naive::response(&out, asked.head).expect("a naive reader must accept what we send");
    assert_eq!((sent.framing, sent.length), (expected, out.len()));
    let mut sent_slots = FieldSlots::new();
    // We add fields, so a head near the limit of their number may go over it.
    if head.fields.len() < 110 {
        let Parsed::Whole(again) = parse_response(&out, &mut sent_slots, usize::MAX, asked) else {
            panic!("refused our own")
        };
        assert_eq!((again.status, again.reason, again.upgrade), (head.status, head.reason, head.upgrade));
        assert_eq!((again.framing, again.len), (expected, out.len()));
    }
});
