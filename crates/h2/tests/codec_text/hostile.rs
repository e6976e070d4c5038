//! Header lists that attackers and broken programs send, and odd ones that are fine.

use evenkeel_h2::text::{Body, RequestOptions, ResponseOptions, trailer_text};
use evenkeel_wire::{BodyReader, Framing};

use super::{list, request, response};

type Fields = &'static [(&'static str, &'static str)];

const NAMELESS: &str = "field without a name (RFC 9113 8.2.1)";
const UPPER: &str = "field name with an upper-case letter (RFC 9113 8.2.1)";
const COLON: &str = "field name with a colon (RFC 9113 8.2.1)";
const NAME_SPACE: &str = "field name with whitespace (RFC 9113 8.2.1)";
const NO_TOKEN: &str = "field name holds a byte that is no token character (RFC 9113 8.2.1)";
const AROUND: &str = "field value with whitespace around it (RFC 9113 8.2.1)";
const LINE_END: &str = "field value with a line end or a zero byte (RFC 9113 8.2.1)";
const CONTROL: &str = "control byte in a field value (RFC 9110 5.5)";
const ONE_CONNECTION: &str = "field that is about one connection (RFC 9113 8.2.2)";
const TE: &str = "te other than trailers (RFC 9113 8.2.2)";
const LATE: &str = "pseudo-header behind a regular field (RFC 9113 8.3)";
const TWICE: &str = "pseudo-header given more than once (RFC 9113 8.3)";
const UNKNOWN: &str = "unknown pseudo-header (RFC 9113 8.3)";
const OF_RESPONSE: &str = "response pseudo-header in a request (RFC 9113 8.3)";
const OF_REQUEST: &str = "request pseudo-header in a response (RFC 9113 8.3)";
const LENGTH_TWICE: &str = "content-length given more than once (RFC 9110 8.6)";
const LENGTH_LIE: &str = "content-length above 0 without a body (RFC 9113 8.1.1)";
const LENGTH_SIGN: &str = "content-length with a sign (RFC 9110 8.6)";
const LENGTH_LIST: &str = "content-length is a list (RFC 9112 6.3)";
const LENGTH_NUMBER: &str = "content-length is not a decimal number (RFC 9110 8.6)";
const DISAGREES: &str = ":authority disagrees with host (RFC 9113 8.3.1)";
const TWO_HOSTS: &str = "more than one host (RFC 9110 7.2)";
const NO_HOST: &str = "neither :authority nor host (RFC 9113 8.3.1)";
const EMPTY_HOST: &str = "empty host (RFC 9110 7.2)";
const USERINFO: &str = "host with userinfo (RFC 9110 4.2.4)";
const SLASH: &str = ":path does not start with a slash (RFC 9113 8.3.1)";
const PATH_CONTROL: &str = ":path with a control byte (RFC 9113 8.3.1)";
const ASTERISK: &str = ":path is an asterisk without options (RFC 9113 8.3.1)";
const SCHEME: &str = ":scheme is neither http nor https (RFC 9113 8.3.1)";
const METHOD: &str = ":method is not a token (RFC 9110 9.1)";
const CONNECT: &str = "connect is for forward proxies (RFC 9113 8.5)";
const STATUS: &str = "status outside 100 to 599 (RFC 9110 15)";
const NO_101: &str = "101 where nothing can be switched (RFC 9113 8.6)";
const IN_HEAD: &str = "trailer that belongs into the head (RFC 9110 6.5.1)";

#[derive(Clone, Copy, Debug)]
enum Expected {
    Text(&'static str, Body),
    Refused(&'static str),
}

use Expected::{Refused, Text};

/// A GET of `/` at `a` that ends at once, with these fields behind it.
#[rustfmt::skip]
const FIELDS: &[(Fields, Expected)] = &[
    (&[], Text("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (&[("x-a", "b"), ("x-a", "c")], Text("GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\nx-a: c\r\n\r\n", Body::Empty)),
    (&[("x-empty", "")], Text("GET / HTTP/1.1\r\nhost: a\r\nx-empty: \r\n\r\n", Body::Empty)),
    (&[("!#$%&'*+-.^_`|~09az", "\t".trim_ascii())], Text("GET / HTTP/1.1\r\nhost: a\r\n!#$%&'*+-.^_`|~09az: \r\n\r\n", Body::Empty)),
    (&[("x-a", "one\ttwo \u{e9}\u{ff}:;,\"")], Text("GET / HTTP/1.1\r\nhost: a\r\nx-a: one\ttwo \u{e9}\u{ff}:;,\"\r\n\r\n", Body::Empty)),
    // Names.
    (&[("", "b")], Refused(NAMELESS)),
    (&[("X-A", "b")], Refused(UPPER)),
    (&[("x-A", "b")], Refused(UPPER)),
    (&[("Host", "evil")], Refused(UPPER)),
    (&[("Content-Length", "0")], Refused(UPPER)),
    (&[("x-a:", "b")], Refused(COLON)),
    (&[("x:a", "b")], Refused(COLON)),
    (&[("x-a: b\r\nevil", "c")], Refused(COLON)),
    (&[("transfer-encoding: chunked\r\nx", "c")], Refused(COLON)),
    (&[("x a", "b")], Refused(NAME_SPACE)),
    (&[("x-a ", "b")], Refused(NAME_SPACE)),
    (&[(" x-a", "b")], Refused(NAME_SPACE)),
    (&[("transfer-encoding ", "chunked")], Refused(NAME_SPACE)),
    (&[("x-a\t", "b")], Refused(NAME_SPACE)),
    (&[("x-a\r\nhost", "b")], Refused(NO_TOKEN)),
    (&[("x-a\n", "b")], Refused(NO_TOKEN)),
    (&[("x-a\0", "b")], Refused(NO_TOKEN)),
    (&[("\r\n", "")], Refused(NO_TOKEN)),
    (&[("x\u{e9}", "b")], Refused(NO_TOKEN)),
    (&[("x(a)", "b")], Refused(NO_TOKEN)),
    (&[("x,a", "b")], Refused(NO_TOKEN)),
    (&[("x/a", "b")], Refused(NO_TOKEN)),
    (&[("x\x7f", "b")], Refused(NO_TOKEN)),
    // Values.
    (&[("x-a", "b\r\nevil: c")], Refused(LINE_END)),
    (&[("x-a", "b\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n")], Refused(LINE_END)),
    (&[("x-a", "b\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\nx")], Refused(LINE_END)),
    (&[("x-a", "b\nc")], Refused(LINE_END)),
    (&[("x-a", "b\rc")], Refused(LINE_END)),
    (&[("x-a", "\r")], Refused(LINE_END)),
    (&[("x-a", "b\0")], Refused(LINE_END)),
    (&[("x-a", " b")], Refused(AROUND)),
    (&[("x-a", "b ")], Refused(AROUND)),
    (&[("x-a", "\tb")], Refused(AROUND)),
    (&[("x-a", "b\t")], Refused(AROUND)),
    (&[("x-a", " ")], Refused(AROUND)),
    (&[("x-a", "b\x01c")], Refused(CONTROL)),
    (&[("x-a", "b\x7f")], Refused(CONTROL)),
    (&[("x-a", "b\x0bc")], Refused(CONTROL)),
    // Fields of one connection.
    (&[("connection", "close")], Refused(ONE_CONNECTION)),
    (&[("connection", "keep-alive, te")], Refused(ONE_CONNECTION)),
    (&[("connection", "")], Refused(ONE_CONNECTION)),
    (&[("keep-alive", "timeout=5")], Refused(ONE_CONNECTION)),
    (&[("proxy-connection", "keep-alive")], Refused(ONE_CONNECTION)),
    (&[("transfer-encoding", "chunked")], Refused(ONE_CONNECTION)),
    (&[("transfer-encoding", "identity")], Refused(ONE_CONNECTION)),
    (&[("transfer-encoding", "")], Refused(ONE_CONNECTION)),
    (&[("upgrade", "websocket")], Refused(ONE_CONNECTION)),
    (&[("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], Refused(ONE_CONNECTION)),
    (&[("http2-settings", "AAMAAABk")], Refused(ONE_CONNECTION)),
    (&[("te", "trailers")], Text("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n", Body::Empty)),
    (&[("te", "gzip")], Refused(TE)),
    (&[("te", "trailers, deflate;q=0.5")], Refused(TE)),
    (&[("te", "chunked")], Refused(TE)),
    (&[("te", "")], Refused(TE)),
    // Lengths; the stream has ended.
    (&[("content-length", "0")], Text("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Body::Length(0))),
    (&[("content-length", "00")], Text("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 00\r\n\r\n", Body::Length(0))),
    (&[("content-length", "5")], Refused(LENGTH_LIE)),
    (&[("content-length", "0"), ("content-length", "0")], Refused(LENGTH_TWICE)),
    (&[("content-length", "0"), ("content-length", "5")], Refused(LENGTH_TWICE)),
    (&[("content-length", "0, 0")], Refused(LENGTH_LIST)),
    (&[("content-length", "+0")], Refused(LENGTH_SIGN)),
    (&[("content-length", "-1")], Refused(LENGTH_SIGN)),
    (&[("content-length", "0x0")], Refused(LENGTH_NUMBER)),
    (&[("content-length", "0;a")], Refused(LENGTH_NUMBER)),
    (&[("content-length", "")], Refused("empty content-length (RFC 9110 8.6)")),
    (&[("content-length", "1 0")], Refused("content-length with whitespace inside (RFC 9110 8.6)")),
    (&[("content-length", "18446744073709551616")], Refused("content-length does not fit 64 bits (RFC 9110 8.6)")),
    // Host beside :authority `a`.
    (&[("host", "a")], Text("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (&[("host", "A")], Text("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (&[("host", "b")], Refused(DISAGREES)),
    (&[("host", "a:80")], Refused(DISAGREES)),
    (&[("host", "a.")], Refused(DISAGREES)),
    (&[("host", "")], Refused(DISAGREES)),
    (&[("host", "a"), ("host", "a")], Refused(TWO_HOSTS)),
    (&[("host", "a"), ("host", "b")], Refused(TWO_HOSTS)),
    // Expectations and cookies.
    (&[("expect", "100-continue")], Text("GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n", Body::Empty)),
    (&[("expect", "200-ok")], Refused("expectation other than 100-continue (RFC 9110 10.1.1)")),
    (&[("expect", "100-continue"), ("expect", "100-continue")], Refused("more than one expectation (RFC 9110 10.1.1)")),
    (&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")],
        Text("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2; c=3\r\n\r\n", Body::Empty)),
    (&[("cookie", "a=1; b=2")], Text("GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2\r\n\r\n", Body::Empty)),
    (&[("cookie", "a=1"), ("cookie", "b=\r\nx: y")], Refused(LINE_END)),
    // Pseudo-headers behind fields.
    (&[("x", "y"), (":path", "/evil")], Refused(LATE)),
    (&[("x", "y"), (":evil", "/evil")], Refused(LATE)),
    (&[("x", "y"), (":", "")], Refused(LATE)),
];

/// Whole lists, with END_STREAM.
#[rustfmt::skip]
const LISTS: &[(Fields, Expected)] = &[
    (&[], Refused("no :method (RFC 9113 8.3.1)")),
    (&[("host", "a")], Refused("no :method (RFC 9113 8.3.1)")),
    (&[(":scheme", "http"), (":path", "/"), (":authority", "a")], Refused("no :method (RFC 9113 8.3.1)")),
    (&[(":method", "GET"), (":path", "/"), (":authority", "a")], Refused("no :scheme (RFC 9113 8.3.1)")),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a")], Refused("no :path (RFC 9113 8.3.1)")),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/")], Refused(NO_HOST)),
    (&[(":path", "/"), (":method", "GET"), (":scheme", "http"), ("x", "y"), ("host", "a")],
        Text("GET / HTTP/1.1\r\nx: y\r\nhost: a\r\n\r\n", Body::Empty)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")], Refused(TWO_HOSTS)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a@b")], Refused(USERINFO)),
    (&[(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], Refused(TWICE)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/evil"), (":authority", "a")], Refused(TWICE)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":authority", "b")], Refused(TWICE)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":scheme", "https")], Refused(TWICE)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":status", "200")], Refused(OF_RESPONSE)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":evil", "x")], Refused(UNKNOWN)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":", "x")], Refused(UNKNOWN)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":Method", "x")], Refused(UNKNOWN)),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), (":path ", "/x")], Refused(UNKNOWN)),
    (&[("x", "y"), (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], Refused("no :method (RFC 9113 8.3.1)")),
    (&[(":method", "GET"), ("x", "y"), (":scheme", "http"), (":path", "/"), (":authority", "a")], Refused("no :scheme (RFC 9113 8.3.1)")),
];

/// Method, scheme, authority and path of a list with END_STREAM.
#[rustfmt::skip]
const TARGETS: &[([&str; 4], Expected)] = &[
    (["GET", "http", "a", "/"], Text("GET / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (["get", "https", "a", "/"], Text("get / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (["HEAD", "https", "[::1]:8443", "/a?b=c&d"], Text("HEAD /a?b=c&d HTTP/1.1\r\nhost: [::1]:8443\r\n\r\n", Body::Empty)),
    (["OPTIONS", "http", "a", "*"], Text("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (["GET", "http", "a", "//evil.example/"], Text("GET //evil.example/ HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    (["POST", "http", "a", "/"], Text("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Body::Empty)),
    (["PUT", "http", "a", "/"], Text("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Body::Empty)),
    (["PATCH", "http", "a", "/"], Text("PATCH / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Body::Empty)),
    (["DELETE", "http", "a", "/"], Text("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n", Body::Empty)),
    // Methods.
    (["", "http", "a", "/"], Refused(METHOD)),
    (["GET /evil HTTP/1.1\r\nhost: b\r\n\r\nGET", "http", "a", "/"], Refused(METHOD)),
    (["GET ", "http", "a", "/"], Refused(METHOD)),
    (["GET\r\n", "http", "a", "/"], Refused(METHOD)),
    (["G\u{e9}T", "http", "a", "/"], Refused(METHOD)),
    (["CONNECT", "http", "a", "/"], Refused(CONNECT)),
    // Schemes.
    (["GET", "", "a", "/"], Refused(SCHEME)),
    (["GET", "ftp", "a", "/"], Refused(SCHEME)),
    (["GET", "HTTP", "a", "/"], Refused(SCHEME)),
    (["GET", "http://evil/", "a", "/"], Refused(SCHEME)),
    (["GET", "http ", "a", "/"], Refused(SCHEME)),
    (["GET", "https\r\nx: y", "a", "/"], Refused(SCHEME)),
    // Authorities.
    (["GET", "http", "", "/"], Refused(EMPTY_HOST)),
    (["GET", "http", "user@a", "/"], Refused(USERINFO)),
    (["GET", "http", "user:pass@a", "/"], Refused(USERINFO)),
    (["GET", "http", "a\r\nx: y", "/"], Refused("host with whitespace (RFC 9110 7.2)")),
    (["GET", "http", "a\r\nx:y", "/"], Refused("host holds a character that no name has (RFC 1123 2.1)")),
    (["GET", "http", "a b", "/"], Refused("host with whitespace (RFC 9110 7.2)")),
    (["GET", "http", " a", "/"], Refused("host with whitespace (RFC 9110 7.2)")),
    (["GET", "http", "a/b", "/"], Refused("host with path characters (RFC 9110 7.2)")),
    (["GET", "http", "a#b", "/"], Refused("host with path characters (RFC 9110 7.2)")),
    (["GET", "http", "a,b", "/"], Refused("host is a list (RFC 9112 3.2)")),
    (["GET", "http", "a:", "/"], Refused("host with a bad port (RFC 3986 3.2.3)")),
    (["GET", "http", "a:99999", "/"], Refused("host with a bad port (RFC 3986 3.2.3)")),
    (["GET", "http", "a:85555555555555555555555555", "/"], Refused("host with a bad port (RFC 3986 3.2.3)")),
    (["GET", "http", "a..b", "/"], Refused("host with an empty label (RFC 1034 3.1)")),
    (["GET", "http", "[::1", "/"], Refused("host with a bad ip literal (RFC 3986 3.2.2)")),
    (["GET", "http", "[::1]x", "/"], Refused("host holds a character that no name has (RFC 1123 2.1)")),
    (["GET", "http", "\u{e9}", "/"], Refused("host with an empty label (RFC 1034 3.1)")),
    // Paths.
    (["GET", "http", "a", ""], Refused("empty :path (RFC 9113 8.3.1)")),
    (["GET", "http", "a", "*"], Refused(ASTERISK)),
    (["OPTIONS", "http", "a", "**"], Refused(ASTERISK)),
    (["GET", "http", "a", "http://evil/"], Refused(SLASH)),
    (["GET", "http", "a", "evil"], Refused(SLASH)),
    (["GET", "http", "a", "?a"], Refused(SLASH)),
    (["GET", "http", "a", " /"], Refused(SLASH)),
    (["GET", "http", "a", "/ HTTP/1.1\r\nx: y"], Refused(":path with a space (RFC 9113 8.3.1)")),
    (["GET", "http", "a", "/a b"], Refused(":path with a space (RFC 9113 8.3.1)")),
    (["GET", "http", "a", "/#top"], Refused(":path with a fragment (RFC 9113 8.3.1)")),
    (["GET", "http", "a", "/\r\nx: y"], Refused(PATH_CONTROL)),
    (["GET", "http", "a", "/\t"], Refused(PATH_CONTROL)),
    (["GET", "http", "a", "/\0"], Refused(PATH_CONTROL)),
    (["GET", "http", "a", "/\x7f"], Refused(PATH_CONTROL)),
    (["GET", "http", "a", "/\u{e9}"], Refused(":path with a byte outside ascii (RFC 3986 2)")),
];

fn judge(fields: &[(&str, &str)], options: RequestOptions, expected: Expected) {
    let read = request(&list(fields.iter().copied()), options);
    let read = read.as_ref().map(|(text, shape)| (text.as_str(), shape.body)).map_err(|detail| *detail);
    match expected {
        Text(text, body) => assert_eq!(read, Ok((text, body)), "{fields:?}"),
        Refused(detail) => assert_eq!(read, Err(detail), "{fields:?}"),
    }
}

const ENDED: RequestOptions = RequestOptions { end_stream: true, tunnels: false };

#[test]
fn a_request_is_what_its_list_says_or_is_refused() {
    const GET: Fields = &[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    for (fields, expected) in FIELDS {
        judge(&[GET, fields].concat(), ENDED, *expected);
    }
    for (fields, expected) in LISTS {
        judge(fields, ENDED, *expected);
    }
    for ([method, scheme, authority, path], expected) in TARGETS {
        let fields = [(":method", *method), (":scheme", *scheme), (":authority", *authority), (":path", *path)];
        judge(&fields, ENDED, *expected);
    }
}

#[test]
#[rustfmt::skip]
fn a_body_that_follows_is_announced() {
    let rows: &[(Fields, Expected)] = &[
        (&[], Text("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", Body::Chunked)),
        (&[("content-length", "5")], Text("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n", Body::Length(5))),
        (&[("content-length", "0")], Text("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Body::Length(0))),
        (&[("content-length", "5"), ("transfer-encoding", "chunked")], Refused(ONE_CONNECTION)),
        (&[("content-length", "5"), ("content-length", "5")], Refused(LENGTH_TWICE)),
    ];
    for (fields, expected) in rows {
        let post: Fields = &[(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
        judge(&[post, fields].concat(), RequestOptions { end_stream: false, tunnels: false }, *expected);
    }
}

#[test]
#[rustfmt::skip]
fn a_tunnel_is_a_get_that_asks_to_switch() {
    let going = RequestOptions { end_stream: false, tunnels: true };
    let websocket = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/chat"), (":authority", "a")];
    let own = [("sec-websocket-version", "13"), ("sec-websocket-key", "forged"), ("origin", "https://a")];
    judge(&[&websocket[..], &own].concat(), going, Text(
        "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\norigin: https://a\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ZXZlbmtlZWwtdHVubmVsIQ==\r\n\r\n",
        Body::Tunnel,
    ));
    let rows: &[(Fields, Expected)] = &[
        (&[(":method", "CONNECT"), (":authority", "a:443")], Refused(CONNECT)),
        (&[(":method", "CONNECT"), (":scheme", "https"), (":path", "/"), (":authority", "a")], Refused(CONNECT)),
        (&[(":method", "CONNECT"), (":protocol", "websocket"), (":authority", "a")], Refused("no :scheme (RFC 9113 8.3.1)")),
        (&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")], Refused("no :path (RFC 9113 8.3.1)")),
        (&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), ("host", "a")],
            Refused("extended connect without :authority (RFC 8441 4)")),
        (&[(":method", "CONNECT"), (":protocol", "h2c"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            Refused(":protocol other than websocket (RFC 8441 4)")),
        (&[(":method", "CONNECT"), (":protocol", "websocket\r\nx: y"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            Refused(":protocol other than websocket (RFC 8441 4)")),
        (&[(":method", "CONNECT"), (":protocol", ""), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            Refused(":protocol other than websocket (RFC 8441 4)")),
        (&[(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            Refused(":protocol in a request that is no connect (RFC 8441 4)")),
        (&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("content-length", "5")],
            Refused("content-length in a connect (RFC 9110 9.3.6)")),
        (&[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("upgrade", "websocket")],
            Refused(ONE_CONNECTION)),
    ];
    for (fields, expected) in rows {
        judge(fields, going, *expected);
    }
    judge(&websocket, RequestOptions { end_stream: true, tunnels: true }, Refused("extended connect that ends at once (RFC 8441 5)"));
    judge(&websocket, RequestOptions { end_stream: false, tunnels: false }, Refused(":protocol that we did not offer (RFC 8441 3)"));
}

#[test]
#[rustfmt::skip]
fn a_response_is_what_its_list_says_or_is_refused() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let going = ResponseOptions { end_stream: false, is_head: false, key: None };
    let ended = ResponseOptions { end_stream: true, ..going };
    let to_head = ResponseOptions { is_head: true, ..going };
    let tunnel = ResponseOptions { key: Some(*b"dGhlIHNhbXBsZSBub25jZQ=="), ..going };
    let rows: &[(ResponseOptions, Fields, Expected)] = &[
        (going, &[(":status", "200")], Text(CHUNKED, Body::Chunked)),
        (ended, &[(":status", "200")], Text("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Body::Empty)),
        (going, &[(":status", "200"), ("content-length", "7"), ("x", "y")], Text("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nx: y\r\n\r\n", Body::Length(7))),
        (going, &[(":status", "599")], Text("HTTP/1.1 599 \r\ntransfer-encoding: chunked\r\n\r\n", Body::Chunked)),
        (ended, &[(":status", "200"), ("content-length", "7")], Refused(LENGTH_LIE)),
        (going, &[(":status", "204")], Text("HTTP/1.1 204 No Content\r\n\r\n", Body::Empty)),
        (ended, &[(":status", "204"), ("content-length", "0")], Text("HTTP/1.1 204 No Content\r\n\r\n", Body::Empty)),
        (ended, &[(":status", "204"), ("content-length", "7")], Refused("content-length above 0 in a 1xx or 204 answer (RFC 9110 8.6)")),
        (ended, &[(":status", "304"), ("content-length", "7")], Text("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", Body::Empty)),
        (to_head, &[(":status", "200"), ("content-length", "7")], Text("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", Body::Empty)),
        (to_head, &[(":status", "200")], Text("HTTP/1.1 200 OK\r\n\r\n", Body::Empty)),
        (going, &[(":status", "103"), ("link", "</a>")], Text("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", Body::Empty)),
        (going, &[(":status", "100")], Text("HTTP/1.1 100 Continue\r\n\r\n", Body::Empty)),
        (ended, &[(":status", "100")], Refused("interim answer that ends the stream (RFC 9113 8.1)")),
        (going, &[(":status", "103"), ("content-length", "3")], Refused("content-length above 0 in a 1xx or 204 answer (RFC 9110 8.6)")),
        (going, &[(":status", "101")], Refused(NO_101)),
        (tunnel, &[(":status", "101")], Refused(NO_101)),
        (tunnel, &[(":status", "200"), ("sec-websocket-accept", "forged"), ("content-length", "7"), ("sec-websocket-protocol", "chat")], Text(
            "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-protocol: chat\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", Body::Tunnel)),
        (tunnel, &[(":status", "403"), ("content-length", "2")], Text("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n", Body::Length(2))),
        (going, &[], Refused("no :status (RFC 9113 8.3.2)")),
        (going, &[("x", "y"), (":status", "200")], Refused("no :status (RFC 9113 8.3.2)")),
        (going, &[(":status", "200"), (":status", "200")], Refused(TWICE)),
        (going, &[(":status", "200"), ("x", "y"), (":status", "200")], Refused(LATE)),
        (going, &[(":status", "200"), (":path", "/")], Refused(OF_REQUEST)),
        (going, &[(":method", "GET")], Refused(OF_REQUEST)),
        (going, &[(":status", "200"), (":evil", "x")], Refused(UNKNOWN)),
        (going, &[(":status", "")], Refused(STATUS)),
        (going, &[(":status", "20")], Refused(STATUS)),
        (going, &[(":status", "2000")], Refused(STATUS)),
        (going, &[(":status", "099")], Refused(STATUS)),
        (going, &[(":status", "600")], Refused(STATUS)),
        (going, &[(":status", "200 OK\r\nx: y")], Refused(STATUS)),
        (going, &[(":status", "+20")], Refused(STATUS)),
        (going, &[(":status", "200"), ("X", "y")], Refused(UPPER)),
        (going, &[(":status", "200"), ("x", "y\r\n\r\nHTTP/1.1 200 OK\r\n")], Refused(LINE_END)),
        (going, &[(":status", "200"), ("x", "y\r\nset-cookie: evil")], Refused(LINE_END)),
        (going, &[(":status", "200"), ("connection", "close")], Refused(ONE_CONNECTION)),
        (going, &[(":status", "200"), ("transfer-encoding", "chunked")], Refused(ONE_CONNECTION)),
        (going, &[(":status", "200"), ("te", "trailers")], Refused(ONE_CONNECTION)),
        (going, &[(":status", "200"), ("content-length", "7"), ("content-length", "7")], Refused(LENGTH_TWICE)),
        (going, &[(":status", "200"), ("content-length", "+7")], Refused(LENGTH_SIGN)),
    ];
    for (options, fields, expected) in rows {
        let read = response(&list(fields.iter().copied()), *options);
        let read = read.as_ref().map(|(text, shape)| (text.as_str(), shape.body)).map_err(|detail| *detail);
        match expected {
            Text(text, body) => assert_eq!(read, Ok((*text, *body)), "{fields:?}"),
            Refused(detail) => assert_eq!(read, Err(*detail), "{fields:?}"),
        }
    }
}

#[test]
#[rustfmt::skip]
fn trailers_decide_nothing() {
    let rows: &[(Fields, Result<&str, &str>)] = &[
        (&[], Ok("0\r\n\r\n")),
        (&[("grpc-status", "0"), ("grpc-message", "")], Ok("0\r\ngrpc-status: 0\r\ngrpc-message: \r\n\r\n")),
        (&[(":status", "200")], Err("pseudo-header in trailers (RFC 9113 8.1)")),
        (&[(":path", "/")], Err("pseudo-header in trailers (RFC 9113 8.1)")),
        (&[("X", "y")], Err(UPPER)),
        (&[("x y", "z")], Err(NAME_SPACE)),
        (&[("x", "y\r\n\r\nGET / HTTP/1.1\r\n")], Err(LINE_END)),
        (&[("x", "y\r\n\r\nGET / HTTP/1.1")], Err(LINE_END)),
        (&[("x", " y")], Err(AROUND)),
        (&[("content-length", "5")], Err(IN_HEAD)),
        (&[("host", "a")], Err(IN_HEAD)),
        (&[("authorization", "x")], Err(IN_HEAD)),
        (&[("x-forwarded-for", "x")], Err(IN_HEAD)),
        (&[("set-cookie", "x")], Err(IN_HEAD)),
        (&[("transfer-encoding", "chunked")], Err(ONE_CONNECTION)),
        (&[("te", "trailers")], Err(ONE_CONNECTION)),
        (&[("connection", "close")], Err(ONE_CONNECTION)),
    ];
    for (fields, expected) in rows {
        let mut out = b"before".to_vec();
        let written = trailer_text(&list(fields.iter().copied()), &mut out).map_err(|malformed| malformed.detail);
        assert_eq!(written.map(|()| super::text(&out[6..])), expected.map(str::to_owned), "{fields:?}");
        if written.is_ok() {
            let progress = BodyReader::new(Framing::Chunked).advance(&out[6..]).expect("wire accepts it");
            assert!(progress.done && progress.consumed == out.len() - 6);
        } else {
            assert_eq!(out, b"before");
        }
    }
    let mut out = Vec::new();
    let big = "x".repeat(8192);
    let written = trailer_text(&list([("x", big.as_str())]), &mut out).map_err(|malformed| malformed.detail);
    assert_eq!(written, Err("trailer section is too large"));
}

#[test]
fn the_table_is_long_enough_to_be_one() {
    assert!(FIELDS.len() + LISTS.len() + TARGETS.len() >= 80);
}
