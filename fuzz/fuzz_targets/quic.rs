//! Packets of QUIC: a long header is the bytes it was read from, and everything cut short is nothing.
//!
//! There is no second reader here: the format is five fields, and writing them again is the proof.
#![no_main]

use evenkeel_wire::quic::{Packet, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Some(Packet::Short { rest }) => assert!(data[0] < 0x80 && rest == &data[1..]),
        Some(Packet::Long { version, dcid, scid, initial }) => {
            let lengths = [dcid.len() as u8, scid.len() as u8];
            let head = [&data[..1], &version.to_be_bytes(), &lengths[..1], dcid, &lengths[1..], scid].concat();
            assert!(data[0] >= 0x80 && data.starts_with(&head));
            assert!(!initial || [1, 0x6b33_43cf].contains(&version) && dcid.len().max(scid.len()) <= 20);
            for cut in 1..head.len() {
                assert_eq!(parse(&data[..cut]), None);
            }
        }
        None => {}
    }
});
