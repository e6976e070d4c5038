//! Requests that attackers, broken clients and other protocols send, and odd ones that are fine.
//!
//! Grouped by the rule they try. Each row stands alone, so that a new attack is one more line.
//!
//! Rows that are accepted stand among them, so that strictness is not bought with refusing what is right.

use evenkeel_wire::Framing::{Chunked, Empty, Length};

use super::Outcome::{Accepted, Malformed, Partial, TooLarge, TooLong};
use super::{LIMIT, Row};

const BARE_CR: &str = "carriage return without a line feed (RFC 9112 2.2)";
const BARE_LF: &str = "line feed without a carriage return (RFC 9112 2.2)";
const BOTH: &str = "both content-length and transfer-encoding (RFC 9112 6.3)";
const LENGTH_TWICE: &str = "content-length given more than once (RFC 9112 6.3)";
const LENGTH_LIST: &str = "content-length is a list (RFC 9112 6.3)";
const LENGTH_SIGN: &str = "content-length with a sign (RFC 9110 8.6)";
const LENGTH_SPACE: &str = "content-length with whitespace inside (RFC 9110 8.6)";
const LENGTH_NUMBER: &str = "content-length is not a decimal number (RFC 9110 8.6)";
const LENGTH_EMPTY: &str = "empty content-length (RFC 9110 8.6)";
const LENGTH_BIG: &str = "content-length does not fit 64 bits (RFC 9110 8.6)";
const CODING: &str = "transfer-encoding is not exactly chunked (RFC 9112 6.1)";
const CODING_TWICE: &str = "transfer-encoding given more than once (RFC 9112 6.1)";
const CODING_10: &str = "transfer-encoding in http/1.0 (RFC 9112 6.1)";
const FOLDED: &str = "folded field line (RFC 9112 5.2)";
const SPACE_COLON: &str = "whitespace between field name and colon (RFC 9112 5.1)";
const BAD_NAME: &str = "field name holds a byte that is no token character (RFC 9110 5.1)";
const NO_COLON: &str = "field line without a colon (RFC 9112 5)";
const CONTROL: &str = "control byte in a field value (RFC 9110 5.5)";
const NOT_METHOD: &str = "request does not start with a method (RFC 9110 9.1)";
const BAD_METHOD: &str = "method holds a byte that is no token character (RFC 9110 9.1)";
const NO_TARGET: &str = "request line without a target (RFC 9112 3)";
const NO_VERSION: &str = "request line without a version (RFC 9112 3)";
const TARGET_CONTROL: &str = "target with a control byte (RFC 9112 3.2)";
const TARGET_ASCII: &str = "target with a byte outside ascii (RFC 3986 2)";
const TARGET_FORM: &str = "target is neither a path nor a url (RFC 9112 3.2)";
const VERSION: &str = "http version is neither 1.0 nor 1.1";
const VERSION_WORD: &str = "request line does not end in an http version (RFC 9112 3)";
const AFTER_VERSION: &str = "bytes between version and line end (RFC 9112 3)";
const EMPTY_LINES: &str = "more than one empty line before the request (RFC 9112 2.2)";
const NO_HOST: &str = "no host in http/1.1 (RFC 9112 3.2)";
const TWO_HOSTS: &str = "more than one host (RFC 9112 3.2)";
const DISAGREES: &str = "absolute target disagrees with host (RFC 9112 3.2.2)";
const USERINFO: &str = "host with userinfo (RFC 9110 4.2.4)";
const PORT: &str = "host with a bad port (RFC 3986 3.2.3)";
const SCHEME: &str = "absolute target with a scheme other than http and https (RFC 9110 4.2)";
const EXPECT: &str = "expectation other than 100-continue (RFC 9110 10.1.1)";
const CONNECT: &str = "connect is for forward proxies (RFC 9110 9.3.6)";
const TLS: &str = "tls handshake on a listener that speaks plain http";
const HEAD_LIMIT: &str = "request head is larger than header_limit";
const LINE_LIMIT: &str = "request line is larger than header_limit";

/// A POST with these field lines behind Host.
fn post(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

/// A GET of this target with these hosts.
fn get(target: &str, host: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

fn bytes(text: &[u8]) -> Vec<u8> {
    text.to_vec()
}

/// A head of exactly `length` bytes.
fn head_of(length: usize) -> Vec<u8> {
    let mut head = bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    head.resize(length - 4, b'x');
    head.extend_from_slice(b"\r\n\r\n");
    head
}

fn head_with_fields(count: usize) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost:a\r\n{}\r\n", "A:\r\n".repeat(count - 1)).into_bytes()
}

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        // Lengths that two readers could read differently.
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Malformed(BOTH)),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Malformed(BOTH)),
        (post("Content-Length: 0\r\nTransfer-Encoding: identity\r\n"), Malformed(BOTH)),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), Malformed(LENGTH_TWICE)),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), Malformed(LENGTH_TWICE)),
        (post("Content-Length: 5\r\ncontent-length: 05\r\n"), Malformed(LENGTH_TWICE)),
        (post("Content-Length: 5, 5\r\n"), Malformed(LENGTH_LIST)),
        (post("Content-Length: 5,6\r\n"), Malformed(LENGTH_LIST)),
        (post("Content-Length: ,5\r\n"), Malformed(LENGTH_LIST)),
        (post("Content-Length: +5\r\n"), Malformed(LENGTH_SIGN)),
        (post("Content-Length: -1\r\n"), Malformed(LENGTH_SIGN)),
        (post("Content-Length: 1 2\r\n"), Malformed(LENGTH_SPACE)),
        (post("Content-Length: 1\t2\r\n"), Malformed(LENGTH_SPACE)),
        (post("Content-Length:\r\n"), Malformed(LENGTH_EMPTY)),
        (post("Content-Length:  \t \r\n"), Malformed(LENGTH_EMPTY)),
        (post("Content-Length: 0x10\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: 1e3\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: 5.0\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: \"5\"\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: 5;\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: \u{0665}\r\n"), Malformed(LENGTH_NUMBER)),
        (post("Content-Length: 18446744073709551616\r\n"), Malformed(LENGTH_BIG)),
        (post("Content-Length: 99999999999999999999999999\r\n"), Malformed(LENGTH_BIG)),
        (post("Content-Length: 18446744073709551615\r\n"), Accepted(Length(u64::MAX))),
        (post("Content-Length: 0\r\n"), Accepted(Length(0))),
        (post("Content-Length: 0005\r\n"), Accepted(Length(5))),
        (post("Content-Length:5\r\n"), Accepted(Length(5))),
        (post("CONTENT-LENGTH: \t 5 \t\r\n"), Accepted(Length(5))),
        // A name that is not Content-Length to anybody.
        (post("Content_Length: 5\r\n"), Accepted(Empty)),
        (post("Content-Length2: 5\r\n"), Accepted(Empty)),
        // Transfer codings.
        (post("Transfer-Encoding: chunked\r\n"), Accepted(Chunked)),
        (post("transfer-encoding:CHUNKED\r\n"), Accepted(Chunked)),
        (post("Transfer-Encoding: \t chunked \r\n"), Accepted(Chunked)),
        (post("Transfer-Encoding: chunked, chunked\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: gzip, chunked\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: chunked, gzip\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: gzip\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: identity\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: xchunked\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: chunked;q=1\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: \"chunked\"\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: ,chunked\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: chunked,\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding:\r\n"), Malformed(CODING)),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Malformed(CODING_TWICE)),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), Malformed(CODING_TWICE)),
        (bytes(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Malformed(CODING_10)),
        (post("Transfer-Encoding : chunked\r\n"), Malformed(SPACE_COLON)),
        (post("Transfer-Encoding\t: chunked\r\n"), Malformed(SPACE_COLON)),
        (post("Transfer-Encoding: chun\u{b}ked\r\n"), Malformed(CONTROL)),
        (post("Transfer-Encoding:\u{b}chunked\r\n"), Malformed(CONTROL)),
        (post("Transfer-Encoding: chunked\0\r\n"), Malformed(CONTROL)),
        (post("X: y\r\n Transfer-Encoding: chunked\r\n"), Malformed(FOLDED)),
        (post("X: y\nTransfer-Encoding: chunked\r\n"), Malformed(BARE_LF)),
        (post("X: y\rTransfer-Encoding: chunked\r\n"), Malformed(BARE_CR)),
        // Line ends.
        (bytes(b"GET / HTTP/1.1\nHost: a\n\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\n\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\n\r\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"GET / HTTP/1.1\rHost: a\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: \r y\r\n\r\n"), Malformed(BARE_CR)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"), Malformed(BARE_CR)),
        // Lines that are no field lines.
        (post("X: y\r\n\tz\r\n"), Malformed(FOLDED)),
        (post("X:\r\n y\r\n"), Malformed(FOLDED)),
        (bytes(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), Malformed("whitespace before the first field (RFC 9112 2.2)")),
        (post(": y\r\n"), Malformed("field without a name (RFC 9112 5)")),
        (post("X\r\n"), Malformed(NO_COLON)),
        (post("GET /admin HTTP/1.1\r\n"), Malformed(SPACE_COLON)),
        (post("X Y: z\r\n"), Malformed(SPACE_COLON)),
        (post("X/Y: z\r\n"), Malformed(BAD_NAME)),
        (post("(X): z\r\n"), Malformed(BAD_NAME)),
        (post("X\0: z\r\n"), Malformed(BAD_NAME)),
        (post("\"X\": z\r\n"), Malformed(BAD_NAME)),
        (post("X\u{e9}: z\r\n"), Malformed(BAD_NAME)),
        (post("X: a\0b\r\n"), Malformed(CONTROL)),
        (post("X: a\u{7f}b\r\n"), Malformed(CONTROL)),
        (post("X: a\u{1b}[2Jb\r\n"), Malformed(CONTROL)),
        (post("X: a\u{c}b\r\n"), Malformed(CONTROL)),
        (post("X: a long value, so that wide compares are used, then \u{1} one of them\r\n"), Malformed(CONTROL)),
        (post("X: a long value, so that wide compares are used, then \u{7f} another one\r\n"), Malformed(CONTROL)),
        (post("X: tab\there, and obs-text \u{e9}\u{ff}\r\n"), Accepted(Empty)),
        (post("X:\r\n"), Accepted(Empty)),
        (post("!#$%&'*+-.^_`|~0aZ: y\r\n"), Accepted(Empty)),
        // Request lines.
        (bytes(b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(NOT_METHOD)),
        (bytes(b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(NOT_METHOD)),
        (bytes(b"\x80\x2e\x01\x03\x01"), Malformed(NOT_METHOD)),
        (bytes(b"{\"json\": \"rpc\"}\n"), Malformed(NOT_METHOD)),
        (bytes(b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(BAD_METHOD)),
        (bytes(b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(BAD_METHOD)),
        (bytes(b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(BAD_METHOD)),
        (bytes(b"GET\r\n\r\n"), Malformed(NO_TARGET)),
        (bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Malformed(NO_TARGET)),
        (bytes(b"GET /\r\n"), Malformed(NO_VERSION)),
        (bytes(b"EHLO mail.example.com\r\n"), Malformed(NO_VERSION)),
        (bytes(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed("more than one space between method and target (RFC 9112 3)")),
        (bytes(b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed("more than one space between target and version (RFC 9112 3)")),
        (bytes(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(VERSION_WORD)),
        (bytes(b"GET / http/1.1\r\nHost: a\r\n\r\n"), Malformed(VERSION_WORD)),
        (bytes(b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n"), Malformed(VERSION_WORD)),
        (bytes(b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), Malformed(AFTER_VERSION)),
        (bytes(b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"), Malformed(AFTER_VERSION)),
        (bytes(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"GET / HTTP/11\r\nHost: a\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"), Malformed(VERSION)),
        (bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Malformed("http/2 preface on a listener that speaks http/1.1")),
        (bytes(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\nGET / HTTP/1.1\r\n"), Malformed("proxy protocol header on a listener that does not expect one")),
        (bytes(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), Malformed(EMPTY_LINES)),
        (bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), Malformed(TLS)),
        (bytes(b"\x16"), Malformed(TLS)),
        (bytes(b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_CONTROL)),
        (bytes(b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_CONTROL)),
        (bytes(b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_CONTROL)),
        (bytes(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_ASCII)),
        (bytes(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_ASCII)),
        (get("/a#/../admin", "a"), Malformed("target with a fragment (RFC 9112 3.2)")),
        // Empty lines in front.
        (bytes(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Accepted(Empty)),
        (bytes(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(EMPTY_LINES)),
        (bytes(b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(EMPTY_LINES)),
        (bytes(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(BARE_LF)),
        (bytes(b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(BARE_CR)),
        // Hosts and targets.
        (bytes(b"GET / HTTP/1.1\r\n\r\n"), Malformed(NO_HOST)),
        (bytes(b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"), Malformed(NO_HOST)),
        (bytes(b"GET http://a/ HTTP/1.1\r\n\r\n"), Malformed(NO_HOST)),
        (bytes(b"GET / HTTP/1.0\r\n\r\n"), Accepted(Empty)),
        (bytes(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Malformed(TWO_HOSTS)),
        (bytes(b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"), Malformed("host with path characters (RFC 9110 7.2)")),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Malformed(TWO_HOSTS)),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), Malformed(TWO_HOSTS)),
        (get("/", ""), Malformed("empty host (RFC 9110 7.2)")),
        (get("/", "a, b"), Malformed("host is a list (RFC 9112 3.2)")),
        (get("/", "a b"), Malformed("host with whitespace (RFC 9110 7.2)")),
        (get("/", "a,b"), Malformed("host is a list (RFC 9112 3.2)")),
        (get("/", "me@a"), Malformed(USERINFO)),
        (get("/", "a:80@b"), Malformed(USERINFO)),
        (get("/", "a:http"), Malformed(PORT)),
        (get("/", "a:"), Malformed(PORT)),
        (get("/", "a:65536"), Malformed(PORT)),
        (get("/", "a:-1"), Malformed(PORT)),
        (get("/", "[::1"), Malformed("host with a bad ip literal (RFC 3986 3.2.2)")),
        (get("/", "[::1]:80"), Accepted(Empty)),
        (get("/", "a%00"), Malformed("host holds a character that no name has (RFC 1123 2.1)")),
        (get("/", "a\u{e9}"), Malformed("host holds a character that no name has (RFC 1123 2.1)")),
        (get("http://a/x", "b"), Malformed(DISAGREES)),
        (get("http://a:80/x", "a"), Malformed(DISAGREES)),
        (get("http://A/x", "a"), Accepted(Empty)),
        (get("HTTPS://a/x?y=://z", "a"), Accepted(Empty)),
        (get("http://a", "a"), Accepted(Empty)),
        (get("http://a?x", "a"), Malformed("absolute target with a query but no path (RFC 9112 3.2.2)")),
        (get("http://me:pw@a/", "a"), Malformed(USERINFO)),
        (get("http:///x", "a"), Malformed("empty host (RFC 9110 7.2)")),
        (get("ftp://a/x", "a"), Malformed(SCHEME)),
        (get("file:///etc/passwd", "a"), Malformed(SCHEME)),
        (get("://a/", "a"), Malformed(SCHEME)),
        (get("http:/a", "a"), Malformed(TARGET_FORM)),
        (get("a:80", "a:80"), Malformed(TARGET_FORM)),
        (get("x", "a"), Malformed(TARGET_FORM)),
        (get("@evil.example/", "a"), Malformed(TARGET_FORM)),
        (get("?x", "a"), Malformed(TARGET_FORM)),
        (get("*", "a"), Malformed("asterisk target without options (RFC 9112 3.2.4)")),
        (get("//evil.example/x", "a"), Accepted(Empty)),
        (bytes(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Accepted(Empty)),
        (bytes(b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(TARGET_FORM)),
        (bytes(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), Malformed(CONNECT)),
        (bytes(b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"), Malformed(CONNECT)),
        // Expectations and upgrades.
        (post("Expect: 100-continue\r\nContent-Length: 5\r\n"), Accepted(Length(5))),
        (post("Expect: 100-Continue\r\n"), Accepted(Empty)),
        (post("Expect: 200-ok\r\n"), Malformed(EXPECT)),
        (post("Expect: 100-continue, x\r\n"), Malformed(EXPECT)),
        (post("Expect:\r\n"), Malformed(EXPECT)),
        (post("Expect: 100-continue\r\nExpect: 100-continue\r\n"), Malformed("more than one expectation (RFC 9110 10.1.1)")),
        (post("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"), Accepted(Length(5))),
        (post("Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n"), Accepted(Chunked)),
        // Connection cannot talk us out of a length or a host.
        (post("Connection: content-length\r\nContent-Length: 5\r\n"), Accepted(Length(5))),
        (post("Connection: transfer-encoding, host\r\nTransfer-Encoding: chunked\r\n"), Accepted(Chunked)),
        // Sizes.
        (head_of(LIMIT), Accepted(Empty)),
        (head_of(LIMIT + 1), TooLarge(HEAD_LIMIT)),
        (head_of(LIMIT * 2), TooLarge(HEAD_LIMIT)),
        ([b"\r\n".as_slice(), &head_of(LIMIT - 1)].concat(), TooLarge(HEAD_LIMIT)),
        ([b"GET /".as_slice(), &[b'a'; LIMIT]].concat(), TooLong(LINE_LIMIT)),
        ([b"\r\nGET /".as_slice(), &[b'a'; LIMIT]].concat(), TooLong(LINE_LIMIT)),
        (vec![b'A'; LIMIT], TooLong(LINE_LIMIT)),
        (head_with_fields(128), Accepted(Empty)),
        (head_with_fields(129), TooLarge("more fields than a head may have")),
        (head_with_fields(300), TooLarge("more fields than a head may have")),
        // Not decided yet.
        (vec![], Partial),
        (bytes(b"\r"), Partial),
        (bytes(b"\r\n"), Partial),
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Partial),
        (vec![b'A'; LIMIT - 1], Partial),
        // What follows the head is none of its business.
        (bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /\nnonsense"), Accepted(Empty)),
    ];
    // Each control byte in each place where a byte-wise and a wide compare may differ.
    for control in (0..=31_u8).chain([127]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for padding in [0, 7, 15, 31, 40] {
            let mut head = post("X: ");
            head.truncate(head.len() - 2);
            head.extend(std::iter::repeat_n(b'x', padding));
            head.push(control);
            head.extend_from_slice(b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n");
            rows.push((head, Malformed(CONTROL)));
        }
    }
    rows
}
