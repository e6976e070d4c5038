//! Chunked coding taken apart in any pieces.

use evenkeel_h2::text::{ChunkReader, write_chunk, write_chunk_head, write_last_chunk};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};

/// What came out of a body, and how many bytes of it were used.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    used: usize,
    done: bool,
}

fn read(pieces: &[&[u8]]) -> Result<Read, &'static str> {
    let mut reader = ChunkReader::new();
    let (mut payload, mut total) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let (used, part) = reader.advance(&piece[at..]).map_err(|malformed| malformed.detail)?;
            payload.extend_from_slice(part);
            at += used;
            if used == 0 {
                break;
            }
        }
        total += at;
    }
    Ok(Read { payload, trailers: reader.trailers().to_vec(), used: total, done: reader.is_done() })
}

#[test]
fn chunks_and_trailers_come_apart() {
    type Row = (&'static [u8], &'static [u8], &'static [u8], bool);
    let rows: &[Row] = &[
        (b"0\r\n\r\n", b"", b"", true),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", true),
        (b"A;x=\"y\"\r\n0123456789\r\n1", b"0123456789", b"", false),
        (b"0\r\nA: b\r\nC:d\r\n\r\n", b"", b"A: b\r\nC:d\r\n", true),
        (b"00;last\r\nA: b\r\n\r\n", b"", b"A: b\r\n", true),
        (b"5\r\nhel", b"hel", b"", false),
    ];
    for (text, payload, trailers, done) in rows {
        let expected =
            Ok(Read { payload: payload.to_vec(), trailers: trailers.to_vec(), used: text.len(), done: *done });
        assert_eq!(read(&[text]), expected);
        assert_eq!(read(&text.chunks(1).collect::<Vec<_>>()), expected);
    }
    assert_eq!(read(&[b"0\r\n\r\nnext"]).map(|read| read.used), Ok(5), "what follows is another message's");
}

#[test]
fn what_is_not_chunked_is_refused() {
    for (text, detail) in [
        (&b"x\r\n"[..], "chunk size is not a hex number (RFC 9112 7.1)"),
        (b"1 \r\n", "chunk size is not a hex number (RFC 9112 7.1)"),
        (b"1\r\nab", "chunk is longer than its size (RFC 9112 7.1)"),
        (b"10000000000000000\r\n", "chunk size does not fit 64 bits (RFC 9112 7.1)"),
    ] {
        assert_eq!(read(&[text]), Err(detail));
    }
    let mut long = b"0\r\nx: ".to_vec();
    long.resize(9000, b'y');
    assert_eq!(read(&[&long]), Err("trailer section is too large"));
}

#[test]
fn sizes_are_written_without_leading_zeros() {
    for length in [1, 9, 15, 16, 255, 256, 65_535, 16_777_215, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_head(length, &mut out);
        assert_eq!(out, format!("{length:x}\r\n").into_bytes());
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(parts in vec(vec(any::<u8>(), 0..40), 0..10), size in 1_usize..30) {
        let mut out = Vec::new();
        for part in &parts {
            write_chunk(part, &mut out);
        }
        write_last_chunk(&mut out);
        let pieces: Vec<&[u8]> = out.chunks(size).collect();
        let expected = Read { payload: parts.concat(), trailers: Vec::new(), used: out.len(), done: true };
        prop_assert_eq!(read(&pieces), Ok(expected));
        let mut wire = evenkeel_wire::BodyReader::new(evenkeel_wire::Framing::Chunked);
        prop_assert!(wire.advance(&out).is_ok_and(|progress| progress.done && progress.consumed == out.len()));
    }
}
