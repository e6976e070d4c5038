//! ClientHellos: the same answer for the same bytes in any packets and any records.
//!
//! The first byte says how large the records are into which the handshake's bytes are put; 0 leaves them as they came.
#![no_main]

use evenkeel_wire::client_hello::{Parsed, parse};
use libfuzzer_sys::fuzz_target;

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let head = |chunk: &[u8]| [&[22, 3, 1][..], &(chunk.len() as u16).to_be_bytes()].concat();
    message.chunks(size).flat_map(|chunk| [&head(chunk), chunk].concat()).collect()
}

fn check(input: &[u8]) -> Parsed {
    let whole = parse(input);
    let mut decided = false;
    for cut in 0..input.len() {
        let part = parse(&input[..cut]);
        if part == Parsed::Partial {
            assert!(!decided, "undecided again after {cut} bytes");
            continue;
        }
        decided = true;
        assert_eq!(part, whole, "after {cut} bytes");
    }
    if let Parsed::Whole(hello) = &whole {
        assert!(hello.alpn().all(|protocol| !protocol.is_empty()));
        if let Some(name) = &hello.name {
            assert!(!name.is_empty() && name.len() <= 253 && !name.ends_with('.'));
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')));
        }
    }
    whole
}

fuzz_target!(|data: &[u8]| {
    let [size, input @ ..] = data else { return };
    // Every prefix is read, which long inputs would make slow without showing anything new.
    if input.len() > 2000 {
        return;
    }
    if *size == 0 {
        check(input);
        return;
    }
    let whole = check(&records(input, 1 << 14));
    let cut = check(&records(input, usize::from(*size) * 2));
    assert_eq!(whole, cut);
});
