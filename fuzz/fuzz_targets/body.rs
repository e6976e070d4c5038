//! Bodies: no panic, the same result for every way of cutting the input, and chunks mean what
//! a naive reader takes them for.
//!
//! The first byte chooses the framing, the second the size of the pieces.

#![no_main]

use evenkeel_wire::{BodyReader, Framing};
use libfuzzer_sys::fuzz_target;

/// Payload, and bytes consumed or the broken rule.
fn read(framing: Framing, pieces: &[&[u8]]) -> (Vec<u8>, Result<(usize, bool), &'static str>) {
    let mut plain = BodyReader::new(framing);
    let mut decoding = BodyReader::new(framing);
    let (mut payload, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let progress = plain.advance(piece);
        assert_eq!(progress, decoding.advance_decoding(piece, &mut payload));
        match progress {
            Ok(progress) => consumed += progress.consumed,
            Err(detail) => return (payload, Err(detail)),
        }
    }
    assert_eq!(plain.payload_bytes(), payload.len() as u64);
    (payload, Ok((consumed, plain.is_done())))
}

/// The payload of a whole chunked body, read with string functions only.
fn naive_payload(body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut rest = body;
    loop {
        let line_end = rest.windows(2).position(|two| two == b"\r\n").expect("a size line");
        let line = String::from_utf8_lossy(&rest[..line_end]);
        let size = line.split(';').next().expect("a size");
        assert!(size.bytes().all(|byte| byte.is_ascii_hexdigit()), "size {size:?}");
        let size = usize::from_str_radix(size, 16).expect("a size");
        rest = &rest[line_end + 2..];
        if size == 0 {
            break;
        }
        payload.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        rest = &rest[size + 2..];
    }
    assert!(rest == b"\r\n" || rest.ends_with(b"\r\n\r\n"), "trailers end in an empty line");
    payload
}

fuzz_target!(|data: &[u8]| {
    let [framing, size, input @ ..] = data else { return };
    let framing = match framing {
        0..200 => Framing::Chunked,
        200..240 => Framing::Length(u64::from(*framing - 200)),
        240..250 => Framing::UntilClose,
        250.. => Framing::Empty,
    };
    let whole = read(framing, &[input]);
    let pieces: Vec<&[u8]> = input.chunks(usize::from(*size).max(1)).collect();
    assert_eq!(read(framing, &pieces), whole);
    if let (payload, Ok((consumed, true))) = &whole {
        match framing {
            Framing::Chunked => assert_eq!(*payload, naive_payload(&input[..*consumed])),
            Framing::Length(length) => assert_eq!(payload.len() as u64, length),
            Framing::Empty => assert!(payload.is_empty()),
            Framing::UntilClose => panic!("only the end of the stream ends such a body"),
        }
    }
});
