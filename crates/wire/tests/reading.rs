//! What an accepted head tells the engine, apart from its framing.
//!
//! These facts decide about reuse, retries and switches of protocol, so a wrong one is a lost request or
//! one that is done twice.
//!
//! Framing has tables of its own in `hostile.rs`; here are keep-alive, upgrades, expectations and the fields.

use evenkeel_wire::{
    Asked, BodyReader, FieldSlots, Framing, Parsed, RequestHead, ResponseHead, Version, parse_request, parse_response,
};

const LIMIT: usize = 4096;

fn with_request<T>(input: &str, use_head: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
    let mut slots = FieldSlots::new();
    match parse_request(input.as_bytes(), &mut slots, LIMIT) {
        Parsed::Whole(head) => use_head(&head),
        Parsed::Partial => panic!("partial: {input:?}"),
        Parsed::Refused(refusal) => panic!("{}: {input:?}", refusal.detail),
    }
}

fn with_response<T>(input: &str, use_head: impl FnOnce(&ResponseHead<'_, '_>) -> T) -> T {
    let mut slots = FieldSlots::new();
    match parse_response(input.as_bytes(), &mut slots, LIMIT, Asked { head: false, upgrade: true }) {
        Parsed::Whole(head) => use_head(&head),
        Parsed::Partial => panic!("partial: {input:?}"),
        Parsed::Refused(refusal) => panic!("{}: {input:?}", refusal.detail),
    }
}

#[test]
fn a_request_says_all_the_engine_asks_for() {
    let input = "POST http://Example.com:81/a?b HTTP/1.1\r\nHost: example.com:81\r\nuser-agent: curl/8\r\n\
        Content-Length: 3\r\nExpect: 100-Continue\r\nTE: gzip, Trailers\r\nX: y\r\n\r\nabc";
    with_request(input, |head| {
        assert_eq!(head.method, b"POST");
        assert_eq!(head.target, b"http://Example.com:81/a?b");
        assert_eq!(head.path, b"/a?b");
        assert_eq!(head.host, Some(b"Example.com:81".as_slice()));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.user_agent, b"curl/8");
        assert_eq!(head.len, input.len() - 3);
        assert!(head.keep_alive && head.expect_continue && head.trailers_accepted);
        assert!(!head.is_head && !head.safe && !head.idempotent);
        assert_eq!(head.upgrade, None);
        assert_eq!(head.fields.len(), 6);
        assert_eq!(head.fields.find("HOST"), Some(b"example.com:81".as_slice()));
        assert_eq!(head.fields.find("Y"), None);
        assert_eq!(head.fields.iter().last(), Some((b"X".as_slice(), b"y".as_slice())));
    });
    with_request("GET / HTTP/1.0\r\n\r\n", |head| {
        assert_eq!((head.version, head.host, head.user_agent), (Version::Http10, None, b"".as_slice()));
        assert!(head.fields.is_empty() && !head.expect_continue && !head.trailers_accepted);
    });
}

#[test]
fn the_server_as_a_whole_has_no_path() {
    for target in ["*", "http://a", "HTTPS://a"] {
        with_request(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n"), |head| assert_eq!(head.path, b"*"));
    }
    with_request("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", |head| assert_eq!(head.path, b"/"));
}

#[test]
fn only_methods_that_are_defined_so_are_safe_or_idempotent() {
    let table = [
        //  method   safe   idempotent
        ("GET", true, true),
        ("HEAD", true, true),
        ("OPTIONS", true, true),
        ("TRACE", true, true),
        ("PUT", false, true),
        ("DELETE", false, true),
        ("POST", false, false),
        ("PATCH", false, false),
        ("get", false, false),
        ("PROPFIND", false, false),
    ];
    for (method, safe, idempotent) in table {
        with_request(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), |head| {
            assert_eq!((head.safe, head.idempotent, head.is_head), (safe, idempotent, method == "HEAD"), "{method}");
        });
    }
}

#[test]
fn a_connection_persists_by_default_in_1_1_and_on_request_in_1_0() {
    let table = [
        //  version    Connection                      persists
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: keep-alive\r\n", true),
        ("HTTP/1.1", "Connection: Close\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.1", "Connection: x\r\nconnection: , close ,\r\n", false),
        ("HTTP/1.1", "Connection: closed\r\n", true),
        ("HTTP/1.1", "Proxy-Connection: close\r\n", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.0", "Proxy-Connection: keep-alive\r\n", false),
    ];
    for (version, connection, persists) in table {
        let case = format!("{version} {connection:?}");
        with_request(&format!("GET / {version}\r\nHost: a\r\n{connection}\r\n"), |head| {
            assert_eq!(head.keep_alive, persists, "{case}");
        });
        with_response(&format!("{version} 200 OK\r\nContent-Length: 0\r\n{connection}\r\n"), |head| {
            assert_eq!(head.keep_alive, persists, "{case}");
        });
        with_response(&format!("{version} 200 OK\r\n{connection}\r\n"), |head| {
            assert!(!head.keep_alive, "a body that ends with the connection: {case}");
        });
    }
}

#[test]
fn an_offer_to_switch_protocols_is_seen_when_it_can_be_carried() {
    let table = [
        ("HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("HTTP/1.1", "Upgrade: X-Tunnel/2\r\nConnection: x, upgrade\r\n", Some("X-Tunnel/2")),
        ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", Some("websocket")),
        ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", None),
        ("HTTP/1.1", "Connection: upgrade\r\n", None),
        ("HTTP/1.1", "Upgrade: websocket\r\n", None),
        ("HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", None),
        ("HTTP/1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ];
    for (version, fields, upgrade) in table {
        with_request(&format!("GET / {version}\r\nHost: a\r\n{fields}\r\n"), |head| {
            assert_eq!(head.upgrade, upgrade.map(str::as_bytes), "{version} {fields:?}");
        });
    }
}

#[test]
fn a_response_says_all_the_engine_asks_for() {
    let input = "HTTP/1.0 404 Not\tFound \r\nContent-Length: 3\r\nX: y\r\n\r\nabc";
    with_response(input, |head| {
        assert_eq!((head.status, head.version), (404, Version::Http10));
        assert_eq!(head.reason, b"Not\tFound ");
        assert_eq!((head.framing, head.len), (Framing::Length(3), input.len() - 3));
        assert_eq!((head.upgrade, head.is_interim()), (None, false));
        assert_eq!(head.fields.find("x"), Some(b"y".as_slice()));
    });
    for (line, reason) in [("HTTP/1.1 200", ""), ("HTTP/1.1 200 ", ""), ("HTTP/1.1 200 \u{e9}", "\u{e9}")] {
        with_response(&format!("{line}\r\n\r\n"), |head| assert_eq!(head.reason, reason.as_bytes()));
    }
}

#[test]
fn interim_answers_are_followed_by_another_head_and_a_switch_is_not() {
    for (status, interim) in [(100, true), (102, true), (103, true), (101, false), (200, false), (204, false)] {
        with_response(&format!("HTTP/1.1 {status} X\r\nUpgrade: websocket\r\n\r\n"), |head| {
            assert_eq!(head.is_interim(), interim, "{status}");
            assert_eq!(head.upgrade.is_some(), status == 101, "{status}");
        });
    }
}

#[test]
fn the_end_of_the_stream_completes_only_a_body_that_ends_with_it() {
    let cut = "stream ended before content-length was reached (RFC 9112 8)";
    let inside = "stream ended inside a chunked body (RFC 9112 8)";
    let table: &[(Framing, &[u8], Result<(), &str>)] = &[
        (Framing::Empty, b"", Ok(())),
        (Framing::Length(0), b"", Ok(())),
        (Framing::Length(2), b"", Err(cut)),
        (Framing::Length(2), b"a", Err(cut)),
        (Framing::Length(2), b"ab", Ok(())),
        (Framing::UntilClose, b"", Ok(())),
        (Framing::UntilClose, b"a", Ok(())),
        (Framing::Chunked, b"", Err(inside)),
        (Framing::Chunked, b"1", Err(inside)),
        (Framing::Chunked, b"1\r\nA\r\n", Err(inside)),
        (Framing::Chunked, b"0\r\n", Err(inside)),
        (Framing::Chunked, b"0\r\nX: y\r\n", Err(inside)),
        (Framing::Chunked, b"0\r\n\r\n", Ok(())),
    ];
    for (framing, input, end) in table {
        let mut body = BodyReader::new(*framing);
        body.advance(input).expect("nothing wrong so far");
        assert_eq!(body.end_of_stream(), *end, "{framing:?} {}", input.escape_ascii());
        assert_eq!(body.is_done(), end.is_ok(), "{framing:?} {}", input.escape_ascii());
    }
}

#[test]
fn a_body_tells_how_much_is_left_when_its_framing_does() {
    let mut body = BodyReader::new(Framing::Length(5));
    assert_eq!(body.remaining(), Some(5));
    body.advance(b"abc").expect("payload");
    assert_eq!((body.remaining(), body.payload_bytes()), (Some(2), 3));
    body.advance(b"de").expect("payload");
    assert_eq!((body.remaining(), body.payload_bytes()), (Some(0), 5));
    assert_eq!(BodyReader::new(Framing::Chunked).remaining(), None);
    assert_eq!(BodyReader::new(Framing::UntilClose).remaining(), None);
    // Chunk framing is not payload, so a body limit counts what the client meant to send.
    let mut body = BodyReader::new(Framing::Chunked);
    body.advance(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n").expect("a good body");
    assert_eq!((body.payload_bytes(), body.is_done()), (5, true));
}
