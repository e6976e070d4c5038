//! Our own text to header lists.

use evenkeel_h2::text::{
    Body, ResponseAsked, ResponseShape, SendOptions, SentRequest, head_length, request_fields, response_fields,
    trailer_fields,
};

use super::{encoded, owned};

const TUNNELS: SendOptions<'_> = SendOptions { scheme: "https", tunnels: true };
const NO_TUNNELS: SendOptions<'_> = SendOptions { scheme: "http", tunnels: false };

fn sent(body: Body) -> SentRequest {
    SentRequest { body, is_head: false, key: None }
}

#[test]
fn a_request_loses_what_was_for_one_connection() {
    let head = b"POST /a?b HTTP/1.1\r\nX-First: 1\r\nHost: Shop.example:8080\r\nTE: trailers\r\nConnection: TE\r\n\
        Cookie: a=1; b=2\r\nTransfer-Encoding: chunked\r\nX-Empty:\r\nKeep-Alive: 5\r\nExpect: 100-continue\r\n\r\n";
    let expected = owned(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "Shop.example:8080"),
        (":path", "/a?b"),
        ("x-first", "1"),
        ("te", "trailers"),
        ("cookie", "a=1; b=2"),
        ("x-empty", ""),
        ("expect", "100-continue"),
    ]);
    let read = encoded(|encoder, out| request_fields(head, NO_TUNNELS, encoder, out));
    assert_eq!(read, Ok((expected, sent(Body::Chunked))));
}

#[test]
fn lengths_and_methods_are_kept() {
    let read = |head: &[u8]| encoded(|encoder, out| request_fields(head, TUNNELS, encoder, out)).map(|read| read.1);
    assert_eq!(read(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n"), Ok(sent(Body::Length(7))));
    assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(sent(Body::Empty)));
    let head = SentRequest { body: Body::Empty, is_head: true, key: None };
    assert_eq!(read(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(head));
    assert_eq!(read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(sent(Body::Empty)));
}

const HANDSHAKE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_handshake_becomes_an_extended_connect() {
    let expected = owned(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ]);
    let tunnel = SentRequest { body: Body::Tunnel, is_head: false, key: Some(*b"dGhlIHNhbXBsZSBub25jZQ==") };
    let read = encoded(|encoder, out| request_fields(HANDSHAKE, TUNNELS, encoder, out));
    assert_eq!(read, Ok((expected, tunnel)));
}

#[test]
fn an_upgrade_that_cannot_be_carried_is_left_out() {
    let (fields, sent) = encoded(|encoder, out| request_fields(HANDSHAKE, NO_TUNNELS, encoder, out)).expect("fine");
    assert_eq!((fields[0].1.as_str(), sent.body, sent.key), ("GET", Body::Empty, None));
    assert!(!fields.iter().any(|(name, _)| name == "upgrade" || name == "connection"));
    let other = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let (fields, sent) = encoded(|encoder, out| request_fields(other, TUNNELS, encoder, out)).expect("fine");
    assert_eq!((fields.len(), sent.body), (4, Body::Empty));
}

#[test]
fn text_that_is_not_ours_is_refused_before_anything_is_encoded() {
    const LINE: &str = "request line is not one of ours (RFC 9112 3)";
    const TEXT: &str = "text that is not lines of http/1.1 (RFC 9112 2)";
    let rows: &[(&[u8], &str)] = &[
        (b"", LINE),
        (b"GET /\r\n\r\n", LINE),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", LINE),
        (b"GET / / HTTP/1.1\r\nHost: a\r\n\r\n", LINE),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", LINE),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", ":path does not start with a slash (RFC 9113 8.3.1)"),
        (b"GET / HTTP/1.1\r\n\r\n", "no host (RFC 9112 3.2)"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one host (RFC 9110 7.2)"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx y: b\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\r\n:path: /evil\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: y\rz\r\n\r\n", TEXT),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: y\0\r\n\r\n", TEXT),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both content-length and transfer-encoding (RFC 9112 6.3)",
        ),
    ];
    for (head, detail) in rows {
        let read = encoded(|encoder, out| request_fields(head, TUNNELS, encoder, out));
        assert_eq!(read.map(|_| ()), Err(*detail), "{}", head.escape_ascii());
    }
}

#[test]
fn a_response_is_read_with_what_was_asked() {
    let plain = ResponseAsked::default();
    let head = ResponseAsked { is_head: true, tunnel: false };
    let tunnel = ResponseAsked { is_head: false, tunnel: true };
    type Row =
        (ResponseAsked, &'static [u8], Result<(&'static [(&'static str, &'static str)], u16, Body), &'static str>);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        (plain, b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n",
            Ok((&[(":status", "200"), ("server", "x"), ("content-length", "2")], 200, Body::Length(2)))),
        (plain, b"HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
            Ok((&[(":status", "404"), ("trailer", "X")], 404, Body::Chunked))),
        (plain, b"HTTP/1.1 200\r\nConnection: close\r\n\r\n", Ok((&[(":status", "200")], 200, Body::UntilClose))),
        (plain, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Ok((&[(":status", "103"), ("link", "</a>")], 103, Body::Empty))),
        (plain, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Ok((&[(":status", "204")], 204, Body::Empty))),
        (plain, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            Ok((&[(":status", "304"), ("content-length", "9")], 304, Body::Empty))),
        (head, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Ok((&[(":status", "200"), ("content-length", "9")], 200, Body::Empty))),
        (head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((&[(":status", "200")], 200, Body::Empty))),
        (plain, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            Err("101 where nothing can be switched (RFC 9113 8.6)")),
        (tunnel, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
            Ok((&[(":status", "200"), ("sec-websocket-protocol", "chat")], 200, Body::Tunnel))),
        (tunnel, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Err("success other than 101 for a tunnel (RFC 8441 5)")),
        (tunnel, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n",
            Ok((&[(":status", "403"), ("content-length", "2")], 403, Body::Length(2)))),
        (plain, b"HTTP/1.0 200 OK\r\n\r\n", Err("status line is not one of ours (RFC 9112 4)")),
        (plain, b"", Err("status line is not one of ours (RFC 9112 4)")),
        (plain, b"HTTP/1.1 2000 OK\r\n\r\n", Err("status outside 100 to 599 (RFC 9110 15)")),
        (plain, b"HTTP/1.1 20\r\n\r\n", Err("status outside 100 to 599 (RFC 9110 15)")),
        (plain, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
            Err("content-length given more than once (RFC 9110 8.6)")),
        (plain, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err("both content-length and transfer-encoding (RFC 9112 6.3)")),
    ];
    for (asked, head, expected) in rows {
        let read = encoded(|encoder, out| response_fields(head, *asked, encoder, out));
        let expected = expected.map(|(fields, status, body)| (owned(fields), ResponseShape { status, body }));
        assert_eq!(read, expected, "{}", head.escape_ascii());
    }
}

#[test]
fn trailer_lines_become_a_list() {
    let read = |lines: &[u8]| encoded(|encoder, out| trailer_fields(lines, encoder, out)).map(|read| read.0);
    let expected = owned(&[("grpc-status", "0"), ("grpc-message", "")]);
    assert_eq!(read(b"Grpc-Status: 0\r\ngrpc-message:\r\n"), Ok(expected));
    assert_eq!(read(b""), Ok(Vec::new()));
    assert_eq!(read(b"Content-Length: 0\r\n"), Err("trailer that belongs into the head (RFC 9110 6.5.1)"));
    assert_eq!(read(b"Transfer-Encoding: x\r\n"), Err("field that is about one connection (RFC 9113 8.2.2)"));
    assert_eq!(read(b"no colon\r\n"), Err("text that is not lines of http/1.1 (RFC 9112 2)"));
}

#[test]
fn the_end_of_a_head_is_found_in_any_pieces() {
    let text = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nbody\r\n\r\n";
    let end = text.len() - 8;
    for seen in 0..=text.len() {
        assert_eq!(head_length(&text[..seen], 0), (seen >= end).then_some(end));
        if seen < end {
            assert_eq!(head_length(text, seen), Some(end), "{seen} bytes looked at");
        }
    }
}
