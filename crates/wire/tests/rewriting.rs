//! The exact bytes we send for the bytes we received.
//!
//! Exact, because a backend's parser is not ours: a doubled field or a stray space is where two readings
//! begin.
//!
//! Whole heads are compared, not single fields, so that a byte nobody asked for fails a test too.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::Cidr;
use evenkeel_wire::{
    Asked, Connection, FieldSlots, Forwarding, OutFraming, Parsed, RequestHead, ResponseEdits, Version, client_address,
    has_loop, parse_request, parse_response, write_request, write_response,
};

const LIMIT: usize = 4096;

fn address(text: &str) -> IpAddr {
    text.parse().expect("test address")
}

/// A stranger at 192.0.2.7 on a plain listener that tells backends nothing but CDN-Loop.
fn silent() -> Forwarding<'static> {
    Forwarding {
        client: address("192.0.2.7"),
        client_port: 4711,
        local: SocketAddr::from(([198, 51, 100, 1], 80)),
        scheme: "http",
        trusted_peer: false,
        trusted: &[],
        x_forwarded: false,
        forwarded: false,
        loop_id: b"keel",
        default_host: b"default.example",
    }
}

fn with_request<T>(input: &str, use_head: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
    let mut slots = FieldSlots::new();
    match parse_request(input.as_bytes(), &mut slots, LIMIT) {
        Parsed::Whole(head) => use_head(&head),
        Parsed::Partial => panic!("partial: {input:?}"),
        Parsed::Refused(refusal) => panic!("{}: {input:?}", refusal.detail),
    }
}

/// `lines` joined by CRLF, with the empty line.
fn head(lines: &[&str]) -> String {
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

#[track_caller]
fn assert_request(received: &[&str], forwarding: &Forwarding<'_>, sent: &[&str]) {
    let mut out = Vec::new();
    with_request(&head(received), |head| write_request(head, forwarding, &mut out));
    assert_eq!(String::from_utf8_lossy(&out), head(sent));
}

#[test]
fn an_ordinary_request_is_passed_on_in_the_senders_spelling() {
    assert_request(
        &["GET /a?b=c HTTP/1.1", "host: example.com", "uSER-aGENT: x", "Cookie: a=b", "cookie: c=d"],
        &silent(),
        &["GET /a?b=c HTTP/1.1", "host: example.com", "uSER-aGENT: x", "Cookie: a=b", "cookie: c=d", "CDN-Loop: keel"],
    );
}

#[test]
fn odd_whitespace_around_values_and_leading_zeros_of_lengths_are_not_passed_on() {
    assert_request(
        &["POST / HTTP/1.1", "Host:a", "A:\t1", "B: 2 ", "C:  3", "D:", "E: ", "F: 6\t", "Content-Length: 007"],
        &silent(),
        &[
            "POST / HTTP/1.1",
            "Host: a",
            "A: 1",
            "B: 2",
            "C: 3",
            "D: ",
            "E: ",
            "F: 6",
            "Content-Length: 7",
            "CDN-Loop: keel",
        ],
    );
    assert_request(
        &["POST / HTTP/1.1", "Host: a", "Content-Length: \t000"],
        &silent(),
        &["POST / HTTP/1.1", "Host: a", "Content-Length: 0", "CDN-Loop: keel"],
    );
}

#[test]
fn hop_by_hop_fields_end_here_and_framing_is_written_anew() {
    assert_request(
        &[
            "POST / HTTP/1.1",
            "Connection: keep-alive, X-Secret",
            "Host: a",
            "Keep-Alive: timeout=5",
            "X-Secret: 1",
            "transfer-encoding:  CHUNKED",
            "Proxy-Connection: keep-alive",
            "Trailer: Grpc-Status",
            "x-secret: 2",
            "X-Public: 3",
        ],
        &silent(),
        &[
            "POST / HTTP/1.1",
            "Host: a",
            "Trailer: Grpc-Status",
            "X-Public: 3",
            "CDN-Loop: keel",
            "Transfer-Encoding: chunked",
        ],
    );
}

#[test]
fn connection_cannot_take_away_what_the_message_depends_on() {
    assert_request(
        &[
            "POST / HTTP/1.1",
            "Host: a",
            "Connection: host, content-length, cookie, Authorization, content-type, cdn-loop, expect, user-agent, close",
            "Content-Length: 5",
            "Content-Type: text/plain",
            "Cookie: a=b",
            "Authorization: x",
            "CDN-Loop: other",
            "Expect: 100-continue",
            "User-Agent: x",
        ],
        &silent(),
        &[
            "POST / HTTP/1.1",
            "Host: a",
            "Content-Length: 5",
            "Content-Type: text/plain",
            "Cookie: a=b",
            "Authorization: x",
            "CDN-Loop: other",
            "Expect: 100-continue",
            "User-Agent: x",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn connection_cannot_make_us_send_fewer_facts_about_the_client() {
    assert_request(
        &["GET / HTTP/1.1", "Host: a", "Connection: X-Forwarded-For, X-Real-IP", "X-Real-IP: 203.0.113.1"],
        &Forwarding { x_forwarded: true, ..silent() },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a",
            "X-Forwarded-Port: 80",
            "X-Real-IP: 192.0.2.7",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn an_absolute_target_becomes_a_path_and_its_authority_the_host() {
    assert_request(
        &["GET http://EXAMPLE.com:8080/a?b HTTP/1.1", "X: y", "Host: example.com:8080"],
        &silent(),
        &["GET /a?b HTTP/1.1", "X: y", "Host: EXAMPLE.com:8080", "CDN-Loop: keel"],
    );
    assert_request(
        &["GET http://example.com HTTP/1.0"],
        &silent(),
        &["GET / HTTP/1.1", "Host: example.com", "CDN-Loop: keel"],
    );
    assert_request(
        &["OPTIONS http://example.com HTTP/1.1", "Host: example.com"],
        &silent(),
        &["OPTIONS * HTTP/1.1", "Host: example.com", "CDN-Loop: keel"],
    );
}

#[test]
fn an_http_1_0_request_goes_on_as_http_1_1_with_a_host_and_without_what_1_0_does_not_know() {
    assert_request(
        &["GET / HTTP/1.0", "Connection: keep-alive, upgrade", "Upgrade: websocket", "TE: trailers", "X: y"],
        &silent(),
        &["GET / HTTP/1.1", "Host: default.example", "X: y", "CDN-Loop: keel"],
    );
    assert_request(
        &["POST / HTTP/1.0", "Expect: 100-continue", "host: b", "Content-Length: 3"],
        &silent(),
        &["POST / HTTP/1.1", "host: b", "Content-Length: 3", "CDN-Loop: keel"],
    );
    // No field at all.
    assert_request(&["GET / HTTP/1.0"], &silent(), &["GET / HTTP/1.1", "Host: default.example", "CDN-Loop: keel"]);
}

#[test]
fn an_empty_line_in_front_is_not_passed_on() {
    let mut out = Vec::new();
    let received = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = with_request(received, |head| {
        write_request(head, &silent(), &mut out);
        head.len
    });
    assert_eq!(length, received.len());
    assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\nCDN-Loop: keel\r\n\r\n");
}

#[test]
fn an_upgrade_and_accepted_trailers_are_asked_for_in_our_own_words() {
    assert_request(
        &["GET /chat HTTP/1.1", "Host: a", "connection: keep-alive, Upgrade", "upgrade: WebSocket"],
        &silent(),
        &["GET /chat HTTP/1.1", "Host: a", "CDN-Loop: keel", "Connection: upgrade", "Upgrade: WebSocket"],
    );
    assert_request(
        &["GET / HTTP/1.1", "Host: a", "TE: gzip;q=0.5, trailers", "Connection: TE"],
        &silent(),
        &["GET / HTTP/1.1", "Host: a", "CDN-Loop: keel", "Connection: TE", "TE: trailers"],
    );
    assert_request(
        &["GET / HTTP/1.1", "Host: a", "TE: trailers", "Connection: TE, upgrade", "Upgrade: websocket"],
        &silent(),
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "CDN-Loop: keel",
            "Connection: upgrade, TE",
            "TE: trailers",
            "Upgrade: websocket",
        ],
    );
}

#[test]
fn an_upgrade_that_would_hide_requests_or_has_a_body_is_served_as_an_ordinary_request() {
    let offers: &[&[&str]] = &[
        &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
        &["Connection: upgrade", "Upgrade: websocket, h2c"],
        &["Connection: upgrade", "Upgrade: websocket", "Upgrade: websocket"],
        &["Upgrade: websocket"],
    ];
    for offer in offers {
        let received = [&["GET / HTTP/1.1", "Host: a"], *offer].concat();
        assert_request(&received, &silent(), &["GET / HTTP/1.1", "Host: a", "CDN-Loop: keel"]);
        with_request(&head(&received), |head| assert_eq!(head.upgrade, None));
    }
    assert_request(
        &["POST / HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: websocket", "Content-Length: 5"],
        &silent(),
        &["POST / HTTP/1.1", "Host: a", "Content-Length: 5", "CDN-Loop: keel"],
    );
}

#[test]
fn what_a_stranger_says_about_who_it_is_never_reaches_a_backend() {
    let received = [
        "GET / HTTP/1.1",
        "X-Forwarded-For: 10.0.0.1",
        "X_Forwarded_For: 10.0.0.2",
        "Host: a:8080",
        "x-forwarded-proto: https",
        "X-Forwarded-Host: admin",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Server: z",
        "X-Real-IP: 10.0.0.3",
        "X-Real_IP: 10.0.0.4",
        "Forwarded: for=10.0.0.5",
        "X-Request-Id: 1",
    ];
    assert_request(&received, &silent(), &["GET / HTTP/1.1", "Host: a:8080", "X-Request-Id: 1", "CDN-Loop: keel"]);
    assert_request(
        &received,
        &Forwarding { x_forwarded: true, forwarded: true, ..silent() },
        &[
            "GET / HTTP/1.1",
            "Host: a:8080",
            "X-Request-Id: 1",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a:8080",
            "X-Forwarded-Port: 80",
            "X-Real-IP: 192.0.2.7",
            "Forwarded: for=192.0.2.7;host=\"a:8080\";proto=http",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_extended() {
    let trusted = ["192.0.2.0/24".parse::<Cidr>().expect("prefix")];
    let peer = Forwarding { trusted_peer: true, trusted: &trusted, ..silent() };
    let received = [
        "GET / HTTP/1.1",
        "Host: a",
        "X-Forwarded-For: 10.9.9.9, 203.0.113.5",
        "x-forwarded-for: 192.0.2.200",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: www.example.com",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /shop",
        "X-Real-IP: 10.9.9.9",
        "Forwarded: for=203.0.113.5",
        "Forwarded: for=192.0.2.200",
    ];
    assert_request(
        &received,
        &Forwarding { x_forwarded: true, forwarded: true, ..peer },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-Prefix: /shop",
            "X-Forwarded-For: 10.9.9.9, 203.0.113.5, 192.0.2.200, 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: www.example.com",
            "X-Forwarded-Port: 443",
            "X-Real-IP: 203.0.113.5",
            "Forwarded: for=203.0.113.5, for=192.0.2.200, for=192.0.2.7;host=a;proto=http",
            "CDN-Loop: keel",
        ],
    );
    // A listener that writes none of these fields does not touch them either.
    assert_request(&received, &peer, &[received.as_slice(), &["CDN-Loop: keel"]].concat());
    // A claim made twice: the nearest proxy added the last one.
    assert_request(
        &["GET / HTTP/1.1", "Host: a", "X-Forwarded-Proto: http", "X-Forwarded-Proto: https", "X-Forwarded-For:"],
        &Forwarding { x_forwarded: true, ..peer },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a",
            "X-Forwarded-Port: 80",
            "X-Real-IP: 192.0.2.7",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn ipv6_clients_are_quoted_in_forwarded_and_mapped_ones_are_ipv4_clients() {
    let both = Forwarding { x_forwarded: true, forwarded: true, ..silent() };
    assert_request(
        &["GET / HTTP/1.0"],
        &Forwarding { client: address("2001:db8::7"), scheme: "https", ..both },
        &[
            "GET / HTTP/1.1",
            "Host: default.example",
            "X-Forwarded-For: 2001:db8::7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Port: 80",
            "X-Real-IP: 2001:db8::7",
            "Forwarded: for=\"[2001:db8::7]\";proto=https",
            "CDN-Loop: keel",
        ],
    );
    assert_request(
        &["GET / HTTP/1.1", "Host: [2001:db8::1]"],
        &Forwarding { client: address("::ffff:192.0.2.9"), ..both },
        &[
            "GET / HTTP/1.1",
            "Host: [2001:db8::1]",
            "X-Forwarded-For: 192.0.2.9",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: [2001:db8::1]",
            "X-Forwarded-Port: 80",
            "X-Real-IP: 192.0.2.9",
            "Forwarded: for=192.0.2.9;host=\"[2001:db8::1]\";proto=http",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn the_client_is_the_rightmost_address_that_no_trusted_proxy_has() {
    let trusted = ["192.0.2.0/24".parse::<Cidr>().expect("prefix"), "2001:db8::/32".parse().expect("prefix")];
    let table = [
        //  chain                                      client
        ("203.0.113.5", "203.0.113.5"),
        ("10.9.9.9, 203.0.113.5", "203.0.113.5"),
        ("203.0.113.5, 192.0.2.200", "203.0.113.5"),
        ("203.0.113.5:4711, [2001:db8::5]:80", "203.0.113.5"),
        ("192.0.2.201, 192.0.2.200", "192.0.2.201"),
        ("203.0.113.5, unknown", "192.0.2.7"),
        ("203.0.113.5, unknown, 192.0.2.200", "192.0.2.200"),
        ("203.0.113.5,", "192.0.2.7"),
        ("", "192.0.2.7"),
    ];
    for (chain, client) in table {
        let received = head(&["GET / HTTP/1.1", "Host: a", &format!("X-Forwarded-For: {chain}")]);
        let believed = Forwarding { trusted_peer: true, trusted: &trusted, ..silent() };
        with_request(&received, |head| {
            assert_eq!(client_address(head, &believed), address(client), "{chain}");
            assert_eq!(client_address(head, &silent()), address("192.0.2.7"), "a stranger is not believed");
        });
    }
}

#[test]
fn a_request_that_has_been_here_before_is_recognised_by_its_whole_entry() {
    let table = [
        ("keel", true),
        ("KEEL", true),
        ("other, keel;hops=1", true),
        ("other;note=\"a,b\" , keel ; x", true),
        ("keel2", false),
        ("other;note=keel", false),
        ("other;note=\", keel;\"", false),
        ("", false),
    ];
    for (value, looped) in table {
        let received = head(&["GET / HTTP/1.1", "Host: a", "CDN-Loop: x", &format!("cdn-loop: {value}")]);
        with_request(&received, |head| assert_eq!(has_loop(head, b"keel"), looped, "{value}"));
    }
    with_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |head| assert!(!has_loop(head, b"keel")));
}

const EDITS: ResponseEdits<'static> = ResponseEdits {
    client_version: Version::Http11,
    connection: Connection::KeepAlive,
    framing: OutFraming::AsIs,
    proxy_status: None,
};

#[track_caller]
fn assert_response(received: &[&str], edits: &ResponseEdits<'_>, sent: &[&str]) {
    let mut out = Vec::new();
    let received = head(received);
    let mut slots = FieldSlots::new();
    let asked = Asked { head: false, upgrade: true };
    match parse_response(received.as_bytes(), &mut slots, LIMIT, asked) {
        Parsed::Whole(head) => write_response(&head, edits, &mut out),
        Parsed::Partial => panic!("partial: {received:?}"),
        Parsed::Refused(refusal) => panic!("{}: {received:?}", refusal.detail),
    }
    assert_eq!(String::from_utf8_lossy(&out), head(sent));
}

#[test]
fn an_ordinary_answer_is_passed_on_without_the_backends_view_of_its_connection() {
    assert_response(
        &[
            "HTTP/1.1 200 Fine",
            "Server:x",
            "Connection: keep-alive, x-hop",
            "Keep-Alive: timeout=5",
            "X-Hop: 1",
            "content-length: 5",
            "Forwarded: for=x",
        ],
        &EDITS,
        &["HTTP/1.1 200 Fine", "Server: x", "content-length: 5", "Forwarded: for=x"],
    );
}

#[test]
fn the_client_is_told_about_its_own_connection() {
    let plain = ["HTTP/1.1 200 OK", "Content-Length: 0", "Connection: close"];
    let table = [
        (Connection::KeepAlive, Version::Http11, None),
        (Connection::KeepAlive, Version::Http10, Some("Connection: keep-alive")),
        (Connection::Close, Version::Http11, Some("Connection: close")),
        (Connection::Close, Version::Http10, Some("Connection: close")),
    ];
    for (connection, client_version, told) in table {
        let mut sent = vec!["HTTP/1.1 200 OK", "Content-Length: 0"];
        sent.extend(told);
        assert_response(&plain, &ResponseEdits { connection, client_version, ..EDITS }, &sent);
    }
}

#[test]
fn a_chunked_answer_keeps_its_coding_or_loses_it_with_its_trailers() {
    let received = ["HTTP/1.1 200 OK", "Transfer-Encoding:chunked", "Trailer: X", "ETag: \"1\""];
    assert_response(&received, &EDITS, &["HTTP/1.1 200 OK", "Trailer: X", "ETag: \"1\"", "Transfer-Encoding: chunked"]);
    assert_response(
        &received,
        &ResponseEdits {
            framing: OutFraming::Decoded,
            connection: Connection::Close,
            client_version: Version::Http10,
            ..EDITS
        },
        &["HTTP/1.1 200 OK", "ETag: \"1\"", "Connection: close"],
    );
}

#[test]
fn status_lines_are_completed_and_carry_our_version() {
    assert_response(&["HTTP/1.0 404 Gone fishing"], &EDITS, &["HTTP/1.1 404 Gone fishing"]);
    assert_response(&["HTTP/1.1 500"], &EDITS, &["HTTP/1.1 500 "]);
    assert_response(&["HTTP/1.0 500", "X: y"], &EDITS, &["HTTP/1.1 500 ", "X: y"]);
}

#[test]
fn lengths_where_none_belong_are_dropped_and_others_kept() {
    assert_response(&["HTTP/1.1 204 No Content", "Content-Length: 0"], &EDITS, &["HTTP/1.1 204 No Content"]);
    assert_response(
        &["HTTP/1.1 304 Not Modified", "Content-Length: 0123"],
        &EDITS,
        &["HTTP/1.1 304 Not Modified", "Content-Length: 123"],
    );
    // No body follows, so no coding is announced.
    assert_response(
        &["HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"],
        &EDITS,
        &["HTTP/1.1 304 Not Modified"],
    );
}

#[test]
fn early_hints_pass_and_a_switch_of_protocols_names_the_protocol() {
    assert_response(
        &["HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload"],
        &EDITS,
        &["HTTP/1.1 103 Early Hints", "Link: </a.css>; rel=preload"],
    );
    assert_response(
        &["HTTP/1.1 101 Switching Protocols", "upgrade: WebSocket", "Connection: Upgrade", "Sec-WebSocket-Accept: x"],
        &ResponseEdits { connection: Connection::Upgrade, ..EDITS },
        &["HTTP/1.1 101 Switching Protocols", "Sec-WebSocket-Accept: x", "Connection: upgrade", "Upgrade: WebSocket"],
    );
}

#[test]
fn our_proxy_status_stands_behind_those_of_the_proxies_before_us() {
    assert_response(
        &["HTTP/1.1 502 Bad Gateway", "Proxy-Status: other; error=dns_error", "Content-Length: 0"],
        &ResponseEdits { proxy_status: Some(b"evenkeel; received-status=502"), ..EDITS },
        &[
            "HTTP/1.1 502 Bad Gateway",
            "Proxy-Status: other; error=dns_error",
            "Content-Length: 0",
            "Proxy-Status: evenkeel; received-status=502",
        ],
    );
}

#[test]
fn heads_are_appended_to_what_is_already_there() {
    let mut out = b"before".to_vec();
    with_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", |head| write_request(head, &silent(), &mut out));
    assert_eq!(out, b"beforeGET / HTTP/1.1\r\nHost: a\r\nCDN-Loop: keel\r\n\r\n");
}
