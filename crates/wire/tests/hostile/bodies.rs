//! Bodies whose end two readers might see in different places, and odd ones that are fine.
//!
//! An accepted row gives the payload and the bytes consumed, so that nothing of the next message is
//! taken for this one.
//!
//! Each row: the framing, the bytes, and what becomes of them: payload and bytes taken, or the broken rule.

use evenkeel_wire::Framing::{self, Chunked, Empty, Length, UntilClose};

use super::BodyOutcome::{self, Open, Refused};

const BARE_CR: &str = "carriage return without a line feed (RFC 9112 2.2)";
const BARE_LF: &str = "line feed without a carriage return (RFC 9112 2.2)";
const NO_DIGIT: &str = "chunk size does not start with a hex digit (RFC 9112 7.1)";
const NOT_HEX: &str = "chunk size is not a hex number (RFC 9112 7.1)";
const SPACE: &str = "whitespace behind a chunk size (RFC 9112 7.1)";
const DIGITS: &str = "chunk size has more than 16 digits";
const LONG_LINE: &str = "chunk-size line is too long";
const EXTENSION: &str = "bad chunk extension (RFC 9112 7.1.1)";
const LONGER: &str = "chunk is longer than its size (RFC 9112 7.1)";
const BELONGS: &str = "trailer that belongs into the head (RFC 9110 6.5.1)";
const LARGE: &str = "trailer section is too large";

fn done(payload: &[u8], consumed: usize) -> BodyOutcome {
    BodyOutcome::Done { payload: payload.to_vec(), consumed }
}

/// A chunk of one byte whose size line is `length` bytes long, and the end.
fn size_line_of(length: usize) -> Vec<u8> {
    let mut body = b"1;".to_vec();
    body.resize(length - 2, b'x');
    body.extend_from_slice(b"\r\nA\r\n0\r\n\r\n");
    body
}

/// An empty body with a trailer section of `length` bytes, its empty line included.
fn trailers_of(length: usize) -> Vec<u8> {
    let mut body = b"0\r\nX: ".to_vec();
    body.resize(3 + length - 4, b'x');
    body.extend_from_slice(b"\r\n\r\n");
    body
}

#[rustfmt::skip]
pub fn rows() -> Vec<(Framing, Vec<u8>, BodyOutcome)> {
    let chunked: Vec<(&[u8], BodyOutcome)> = vec![
        (b"0\r\n\r\n", done(b"", 5)),
        (b"5\r\nhello\r\n0\r\n\r\n", done(b"hello", 15)),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", done(b"hello world", 26)),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", done(b"01234567890123456789", 35)),
        (b"5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\n", done(b"hello", 15)),
        (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", done(b"hello", 45)),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", Refused(DIGITS)),
        (b"FFFFFFFFFFFFFFFF\r\nhello", Open),
        (b"10000000000000000\r\nhello", Refused(DIGITS)),
        (b"1FFFFFFFFFFFFFFFF0\r\n", Refused(DIGITS)),
        (b"fffffffffffffffff\r\n", Refused(DIGITS)),
        (b"\r\n", Refused(NO_DIGIT)),
        (b"\n", Refused(NO_DIGIT)),
        (b" 5\r\nhello\r\n", Refused(NO_DIGIT)),
        (b"+5\r\nhello\r\n", Refused(NO_DIGIT)),
        (b"-1\r\n", Refused(NO_DIGIT)),
        (b"x5\r\n", Refused(NO_DIGIT)),
        (b"\x005\r\n", Refused(NO_DIGIT)),
        (b";x\r\n", Refused(NO_DIGIT)),
        (b"\"5\"\r\n", Refused(NO_DIGIT)),
        (b"0x5\r\nhello\r\n", Refused(NOT_HEX)),
        (b"5h\r\nhello\r\n", Refused(NOT_HEX)),
        (b"5,5\r\nhello\r\n", Refused(NOT_HEX)),
        (b"5_0\r\n", Refused(NOT_HEX)),
        (b"5\0\r\n", Refused(NOT_HEX)),
        (b"5\xb2\r\n", Refused(NOT_HEX)),
        (b"5 \r\nhello\r\n", Refused(SPACE)),
        (b"5\t\r\nhello\r\n", Refused(SPACE)),
        (b"5 ;x\r\nhello\r\n", Refused(SPACE)),
        (b"5\nhello\r\n", Refused(BARE_LF)),
        (b"5\rhello\r\n", Refused(BARE_CR)),
        (b"5\r\r\nhello\r\n", Refused(BARE_CR)),
        (b"5\r\nhello\n0\r\n\r\n", Refused(BARE_LF)),
        (b"5\r\nhello\r0\r\n\r\n", Refused(BARE_CR)),
        (b"5\r\nhello0\r\n\r\n", Refused(LONGER)),
        (b"5\r\nhello!\r\n0\r\n\r\n", Refused(LONGER)),
        (b"6\r\nhello\r\n0\r\n\r\n", Refused(BARE_LF)),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", Refused(NO_DIGIT)),
        (b"0\r\n", Open),
        (b"0\r\n\r", Open),
        (b"5\r\nhel", Open),
        (b"5\r\nhello", Open),
        (b"5\r\nhello\r\n", Open),
        (b"0\n\r\n", Refused(BARE_LF)),
        (b"0\r\n\n", Refused(BARE_LF)),
        (b"0\r\n\rX", Refused(BARE_CR)),
        // Extensions.
        (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", done(b"hello", 21)),
        (b"5;a=b;c=\"d e\\\"f\";g\r\nhello\r\n0\r\n\r\n", done(b"hello", 32)),
        (b"5;a=\"\"\r\nhello\r\n0\r\n\r\n", done(b"hello", 20)),
        (b"5;\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;;a\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;=b\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=b=c\r\nhello\r\n", Refused(EXTENSION)),
        (b"5; a\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a \r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a= b\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=\"b\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=\"b\"c\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=\"b\x01\"\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a=\"b\\\r\nhello\r\n", Refused(EXTENSION)),
        (b"5;a\x00\r\nhello\r\n", Refused(EXTENSION)),
        // One reader ends the line at the bare LF, another reads on: the second request hides in between.
        (b"5;a\nhello\r\n", Refused(BARE_LF)),
        (b"5;\nhello\r\n", Refused(BARE_LF)),
        (b"5;a=\"\nhello\r\n", Refused(BARE_LF)),
        (b"5;a\rhello\r\n", Refused(BARE_CR)),
        // Trailers.
        (b"0\r\nX: y\r\n\r\n", done(b"", 11)),
        (b"0\r\nX:\r\nGrpc-Status: 0\r\nA-name-longer-than-any-refused-one: \t\xe9\r\n\r\n", done(b"", 65)),
        (b"0\r\nContent-Length: 5\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nX: y\r\ntransfer-ENCODING: chunked\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nHost: b\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nConnection: close\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nX-Forwarded-Anything-At-All: 1\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nX-Real-IP: 192.0.2.1\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nAuthorization: x\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nProxy-Authorization: x\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nTE: trailers\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nTrailer: X\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nSet-Cookie: a=b\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nCDN-Loop: x\r\n\r\n", Refused(BELONGS)),
        (b"0\r\nHostess: b\r\n\r\n", done(b"", 17)),
        (b"0\r\nX: y\n\r\n", Refused(BARE_LF)),
        (b"0\r\nX: y\rZ: z\r\n", Refused(BARE_CR)),
        (b"0\r\nX: y\r\n z\r\n\r\n", Refused("folded trailer line (RFC 9112 5.2)")),
        (b"0\r\n X: y\r\n\r\n", Refused("folded trailer line (RFC 9112 5.2)")),
        (b"0\r\n: y\r\n\r\n", Refused("trailer without a name (RFC 9112 5)")),
        (b"0\r\nX\r\n\r\n", Refused("trailer line without a colon (RFC 9112 5)")),
        (b"0\r\nX : y\r\n\r\n", Refused("whitespace between trailer name and colon (RFC 9112 5.1)")),
        (b"0\r\nX(: y\r\n\r\n", Refused("trailer name holds a byte that is no token character (RFC 9110 5.1)")),
        (b"0\r\n\x00X: y\r\n\r\n", Refused("trailer name holds a byte that is no token character (RFC 9110 5.1)")),
        (b"0\r\nX: a\x00b\r\n\r\n", Refused("control byte in a trailer value (RFC 9110 5.5)")),
        (b"0\r\nX: a\x7fb\r\n\r\n", Refused("control byte in a trailer value (RFC 9110 5.5)")),
        (b"0\r\nGET /admin HTTP/1.1\r\n\r\n", Refused("whitespace between trailer name and colon (RFC 9112 5.1)")),
    ];
    let mut rows: Vec<_> = chunked.into_iter().map(|(input, outcome)| (Chunked, input.to_vec(), outcome)).collect();
    rows.extend([
        (Chunked, size_line_of(256), done(b"A", 256 + 8)),
        (Chunked, size_line_of(257), Refused(LONG_LINE)),
        (Chunked, trailers_of(8192), done(b"", 3 + 8192)),
        (Chunked, trailers_of(8193), Refused(LARGE)),
        (Length(5), b"helloGET / HTTP/1.1".to_vec(), done(b"hello", 5)),
        (Length(5), b"hell".to_vec(), Open),
        (Length(0), b"x".to_vec(), done(b"", 0)),
        (Length(u64::MAX), b"x".to_vec(), Open),
        (Empty, b"x".to_vec(), done(b"", 0)),
        (UntilClose, b"anything\0".to_vec(), Open),
    ]);
    rows
}
