//! Responses that broken or captured backends send, and odd ones that are fine.
//!
//! The same head can mean different things to different requests, so each row says what was asked.
//!
//! Backends get no more trust than clients: an ambiguous answer poisons the next one on the same connection.

use evenkeel_wire::Asked;
use evenkeel_wire::Framing::{Chunked, Empty, Length, UntilClose};

use super::Outcome::{Accepted, Malformed, Partial, TooLarge};
use super::{LIMIT, Row};

const GET: Asked = Asked { head: false, upgrade: false };
const HEAD: Asked = Asked { head: true, upgrade: false };
const UPGRADE: Asked = Asked { head: false, upgrade: true };

const BARE_CR: &str = "carriage return without a line feed (RFC 9112 2.2)";
const BARE_LF: &str = "line feed without a carriage return (RFC 9112 2.2)";
const BOTH: &str = "both content-length and transfer-encoding (RFC 9112 6.3)";
const LENGTH_TWICE: &str = "content-length given more than once (RFC 9112 6.3)";
const LENGTH_LIST: &str = "content-length is a list (RFC 9112 6.3)";
const LENGTH_SIGN: &str = "content-length with a sign (RFC 9110 8.6)";
const LENGTH_BIG: &str = "content-length does not fit 64 bits (RFC 9110 8.6)";
const LENGTH_NUMBER: &str = "content-length is not a decimal number (RFC 9110 8.6)";
const CODING: &str = "transfer-encoding is not exactly chunked (RFC 9112 6.1)";
const CODING_TWICE: &str = "transfer-encoding given more than once (RFC 9112 6.1)";
const CODING_10: &str = "transfer-encoding in http/1.0 (RFC 9112 6.1)";
const CONTROL: &str = "control byte in a field value (RFC 9110 5.5)";
const NOT_STATUS: &str = "answer does not start with a status line (RFC 9112 4)";
const DIGITS: &str = "status is not three digits (RFC 9112 4)";
const RANGE: &str = "status outside 100 to 599 (RFC 9110 15)";
const VERSION: &str = "http version is neither 1.0 nor 1.1";
const TLS: &str = "the backend speaks tls, not plain http";
const BINARY: &str = "the backend speaks http/2 or another binary protocol";
const NO_BODY_CODING: &str = "transfer-encoding in a 1xx or 204 answer (RFC 9112 6.1)";
const NO_BODY_LENGTH: &str = "content-length above 0 in a 1xx or 204 answer (RFC 9110 8.6)";
const UNASKED: &str = "101 that nobody asked for (RFC 9110 15.2.2)";
const UNNAMED: &str = "101 without one protocol in upgrade (RFC 9110 15.2.2)";

/// An answer with this status and these field lines.
fn with(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}\r\n").into_bytes()
}

fn ok(fields: &str) -> Vec<u8> {
    with("200 OK", fields)
}

fn bytes(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

#[rustfmt::skip]
pub fn rows() -> Vec<(Asked, Row)> {
    let plain = vec![
        // Lengths.
        (ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Malformed(BOTH)),
        (ok("Content-Length: 5\r\nContent-Length: 5\r\n"), Malformed(LENGTH_TWICE)),
        (ok("Content-Length: 5\r\nContent-Length: 7\r\n"), Malformed(LENGTH_TWICE)),
        (ok("Content-Length: 5, 5\r\n"), Malformed(LENGTH_LIST)),
        (ok("Content-Length: -5\r\n"), Malformed(LENGTH_SIGN)),
        (ok("Content-Length: 18446744073709551616\r\n"), Malformed(LENGTH_BIG)),
        (ok("Content-Length: five\r\n"), Malformed(LENGTH_NUMBER)),
        (ok("Transfer-Encoding: gzip, chunked\r\n"), Malformed(CODING)),
        (ok("Transfer-Encoding: identity\r\n"), Malformed(CODING)),
        (ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Malformed(CODING_TWICE)),
        (bytes(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Malformed(CODING_10)),
        (ok("Content-Length: 5\r\n"), Accepted(Length(5))),
        (ok("Content-Length: 0\r\n"), Accepted(Length(0))),
        (ok("Transfer-Encoding: Chunked\r\n"), Accepted(Chunked)),
        (ok(""), Accepted(UntilClose)),
        (bytes(b"HTTP/1.0 200 OK\r\n\r\n"), Accepted(UntilClose)),
        (with("205 Reset Content", "Content-Length: 0\r\n"), Accepted(Length(0))),
        // Statuses without a body.
        (with("204 No Content", ""), Accepted(Empty)),
        (with("204 No Content", "Content-Length: 0\r\n"), Accepted(Empty)),
        (with("204 No Content", "Content-Length: 5\r\n"), Malformed(NO_BODY_LENGTH)),
        (with("204 No Content", "Transfer-Encoding: chunked\r\n"), Malformed(NO_BODY_CODING)),
        (with("304 Not Modified", "Content-Length: 5\r\n"), Accepted(Empty)),
        (with("304 Not Modified", "Transfer-Encoding: chunked\r\n"), Accepted(Empty)),
        (with("304 Not Modified", "Content-Length: 5\r\nContent-Length: 6\r\n"), Malformed(LENGTH_TWICE)),
        (with("100 Continue", ""), Accepted(Empty)),
        (with("103 Early Hints", "Link: </a>; rel=preload\r\n"), Accepted(Empty)),
        (with("103 Early Hints", "Content-Length: 5\r\n"), Malformed(NO_BODY_LENGTH)),
        (with("100 Continue", "Transfer-Encoding: chunked\r\n"), Malformed(NO_BODY_CODING)),
        (with("101 Switching Protocols", "Connection: upgrade\r\nUpgrade: websocket\r\n"), Malformed(UNASKED)),
        // Status lines.
        (bytes(b"HTTP/1.1 200\r\n\r\n"), Accepted(UntilClose)),
        (bytes(b"HTTP/1.1 200 \r\n\r\n"), Accepted(UntilClose)),
        (bytes(b"HTTP/1.1 200 tr\xc3\xa8s\tbien \r\n\r\n"), Accepted(UntilClose)),
        (bytes(b"HTTP/1.1 200 a\x00b\r\n\r\n"), Malformed("control byte in the reason phrase (RFC 9112 4)")),
        (bytes(b"HTTP/1.1 200 a\x7fb\r\n\r\n"), Malformed("control byte in the reason phrase (RFC 9112 4)")),
        (with("099 Low", ""), Malformed(RANGE)),
        (with("000 Zero", ""), Malformed(RANGE)),
        (with("600 High", ""), Malformed(RANGE)),
        (with("999 Higher", ""), Malformed(RANGE)),
        (with("20 OK", ""), Malformed(DIGITS)),
        (with("2000 OK", ""), Malformed(DIGITS)),
        (with("+20 OK", ""), Malformed(DIGITS)),
        (with("2x0 OK", ""), Malformed(DIGITS)),
        (with(" 200 OK", ""), Malformed(DIGITS)),
        (with("200\tOK", ""), Malformed(DIGITS)),
        (bytes(b"HTTP/1.1\t200 OK\r\n\r\n"), Malformed("status line without a space behind the version (RFC 9112 4)")),
        (bytes(b"HTTP/1.1\r\n\r\n"), Malformed("status line without a space behind the version (RFC 9112 4)")),
        (bytes(b"HTTP/1.2 200 OK\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"HTTP/2.0 200 OK\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"HTTP/2 200\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"http/1.1 200 OK\r\n\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"ICY 200 OK\r\n\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"<html>"), Malformed(NOT_STATUS)),
        (bytes(b"\r\nHTTP/1.1 200 OK\r\n\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"\nHTTP/1.1 200 OK\r\n\r\n"), Malformed(NOT_STATUS)),
        (bytes(b" HTTP/1.1 200 OK\r\n\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"220 mail.example.com ESMTP\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"-ERR unknown command\r\n"), Malformed(NOT_STATUS)),
        (bytes(b"\x15\x03\x01\x00\x02\x02\x16"), Malformed(TLS)),
        (bytes(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"), Malformed(BINARY)),
        // Line ends and fields.
        (bytes(b"HTTP/1.1 200 OK\n\n"), Malformed(BARE_LF)),
        (bytes(b"HTTP/1.1 200\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"HTTP/1.1 200 OK\nX: y\r\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"HTTP/1.1 200 OK\r\nX: y\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"HTTP/1.1 200 OK\r\nX: y\r\n\n"), Malformed(BARE_LF)),
        (bytes(b"HTTP/1.1 200 O\rK\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"HTTP/1.1 200\rX\r\n\r\n"), Malformed(BARE_CR)),
        (ok("X: a\rb\r\n"), Malformed(BARE_CR)),
        (ok("X: a\r\n\tb\r\n"), Malformed("folded field line (RFC 9112 5.2)")),
        (ok(" X: a\r\n"), Malformed("whitespace before the first field (RFC 9112 2.2)")),
        (ok("Content-Length : 5\r\n"), Malformed("whitespace between field name and colon (RFC 9112 5.1)")),
        (ok(": y\r\n"), Malformed("field without a name (RFC 9112 5)")),
        (ok("X\r\n"), Malformed("field line without a colon (RFC 9112 5)")),
        (ok("X;Y: z\r\n"), Malformed("field name holds a byte that is no token character (RFC 9110 5.1)")),
        (ok("X: a\0b\r\n"), Malformed(CONTROL)),
        (ok("X: a\u{7f}b\r\n"), Malformed(CONTROL)),
        (ok("Set-Cookie: a=\u{1}\r\n"), Malformed(CONTROL)),
        (ok("X: \u{e9}\r\nContent-Length: 1\r\n"), Accepted(Length(1))),
        (ok("Connection: content-length\r\nContent-Length: 5\r\n"), Accepted(Length(5))),
        // Sizes.
        (ok(&format!("X: {}\r\n", "x".repeat(LIMIT))), TooLarge("response head is larger than header_limit")),
        (ok(&"A:\r\n".repeat(128)), Accepted(UntilClose)),
        (ok(&"A:\r\n".repeat(129)), TooLarge("more fields than a head may have")),
        // Not decided yet.
        (bytes(b""), Partial),
        (bytes(b"HTTP/1.1 2"), Partial),
        (bytes(b"HTTP/1.1 200 OK\r\nX: y\r\n"), Partial),
    ];
    let to_head = vec![
        (ok("Content-Length: 5\r\n"), Accepted(Empty)),
        (ok("Transfer-Encoding: chunked\r\n"), Accepted(Empty)),
        (ok(""), Accepted(Empty)),
        (ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Malformed(BOTH)),
        (ok("Content-Length: x\r\n"), Malformed(LENGTH_NUMBER)),
        (with("404 Not Found", "Content-Length: 18446744073709551615\r\n"), Accepted(Empty)),
    ];
    let to_upgrade = vec![
        (with("101 Switching Protocols", "Connection: upgrade\r\nUpgrade: websocket\r\n"), Accepted(Empty)),
        (with("101 Switching Protocols", "Connection: upgrade\r\n"), Malformed(UNNAMED)),
        (with("101 Switching Protocols", "Upgrade: websocket, h2c\r\n"), Malformed(UNNAMED)),
        (with("101 Switching Protocols", "Upgrade: h2c\r\n"), Malformed(UNNAMED)),
        (with("101 Switching Protocols", "Upgrade: websocket\r\nContent-Length: 5\r\n"), Malformed(NO_BODY_LENGTH)),
        (with("101 Switching Protocols", "Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n"), Malformed(NO_BODY_CODING)),
        (with("200 OK", "Content-Length: 2\r\n"), Accepted(Length(2))),
    ];
    let asked = |asked: Asked| move |row: Row| (asked, row);
    let plain = plain.into_iter().map(asked(GET));
    plain.chain(to_head.into_iter().map(asked(HEAD))).chain(to_upgrade.into_iter().map(asked(UPGRADE))).collect()
}
