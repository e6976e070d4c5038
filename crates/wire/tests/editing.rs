//! The exact heads we send when a rule, a sticky cookie, a certificate, HSTS or compression has a say.
//!
//! Beside each wish stands what no wish may do: touch framing, loop protection, or what we say about the client's
//! certificate.

use std::net::SocketAddr;

use evenkeel_wire::{
    AnswerEdits, Asked, ClientCertificate, Connection, CookieMark, FieldSlots, Forwarding, HeaderEdits, OutFraming,
    Parsed, RequestEdits, ResponseEdits, TraceField, Version, parse_request, parse_response, write_request_edited,
    write_response_edited,
};

const LIMIT: usize = 4096;

fn silent() -> Forwarding<'static> {
    Forwarding {
        client: "192.0.2.7".parse().expect("test address"),
        client_port: 4711,
        local: SocketAddr::from(([198, 51, 100, 1], 443)),
        scheme: "https",
        trusted_peer: false,
        trusted: &[],
        x_forwarded: false,
        forwarded: false,
        loop_id: b"keel",
        default_host: b"default.example",
    }
}

/// `lines` joined by CRLF, with the empty line.
fn head(lines: &[&str]) -> String {
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

fn names(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|&name| name.into()).collect()
}

#[track_caller]
fn assert_request(received: &[&str], forwarding: &Forwarding<'_>, edits: &RequestEdits<'_>, sent: &[&str]) {
    assert_request_cut(received, forwarding, edits, "", sent);
}

/// `cut` is looked up in the head and left out.
#[track_caller]
fn assert_request_cut(
    received: &[&str],
    forwarding: &Forwarding<'_>,
    edits: &RequestEdits<'_>,
    cut: &str,
    sent: &[&str],
) {
    let received = head(received);
    let mut slots = FieldSlots::new();
    let Parsed::Whole(request) = parse_request(received.as_bytes(), &mut slots, LIMIT) else { panic!("{received}") };
    let cut = received.find(cut).filter(|_| !cut.is_empty()).map(|at| &received.as_bytes()[at..at + cut.len()]);
    let mut out = Vec::new();
    write_request_edited(&request, forwarding, &RequestEdits { cut, ..*edits }, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), head(sent));
    let mut slots = FieldSlots::new();
    let Parsed::Whole(again) = parse_request(&out, &mut slots, LIMIT) else { panic!("we refuse our own") };
    assert_eq!(again.framing, request.framing, "no edit touches the framing");
}

#[test]
fn a_rewritten_path_takes_the_targets_place_in_every_form() {
    let edits = RequestEdits { path: Some(b"/v2/x?y"), ..RequestEdits::NONE };
    for received in ["GET /api/x?y HTTP/1.1", "GET http://a/api/x?y HTTP/1.1", "GET /api/x?y HTTP/1.0"] {
        assert_request(
            &[received, "Host: a"],
            &silent(),
            &edits,
            &["GET /v2/x?y HTTP/1.1", "Host: a", "CDN-Loop: keel"],
        );
    }
}

#[test]
fn fields_are_removed_then_set_then_added() {
    let (remove, set) = (names(&["x-secret"]), pairs(&[("x-a", "1"), ("X-New", "n"), ("User-Agent", "us")]));
    let add = pairs(&[("X-B", "2"), ("X-A", "3")]);
    let headers = HeaderEdits { remove: &remove, set: &set, add: &add };
    assert_request(
        &["GET / HTTP/1.1", "X-A: old", "Host: a", "X-Secret: s", "x-a: older", "X-B: theirs", "User-Agent: them"],
        &silent(),
        &RequestEdits { headers, ..RequestEdits::NONE },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-B: theirs",
            "x-a: 1",
            "X-New: n",
            "User-Agent: us",
            "X-B: 2",
            "X-A: 3",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn host_can_be_set_and_neither_removed_nor_doubled() {
    let (remove, set, add) = (names(&["host"]), pairs(&[("host", "inner")]), pairs(&[("Host", "third")]));
    let headers = HeaderEdits { set: &set, ..HeaderEdits::NONE };
    let edits = RequestEdits { headers, ..RequestEdits::NONE };
    let forwarding = Forwarding { x_forwarded: true, ..silent() };
    assert_request(
        &["GET / HTTP/1.1", "Host: outer", "X: y"],
        &forwarding,
        &edits,
        &[
            "GET / HTTP/1.1",
            "Host: inner",
            "X: y",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: outer",
            "X-Forwarded-Port: 443",
            "X-Real-IP: 192.0.2.7",
            "CDN-Loop: keel",
        ],
    );
    let sent = ["GET / HTTP/1.1", "Host: inner", "CDN-Loop: keel"];
    assert_request(&["GET http://outer/ HTTP/1.1", "Host: outer"], &silent(), &edits, &sent);
    assert_request(&["GET / HTTP/1.0"], &silent(), &edits, &sent);
    let headers = HeaderEdits { remove: &remove, add: &add, ..HeaderEdits::NONE };
    assert_request(
        &["GET / HTTP/1.1", "Host: outer"],
        &silent(),
        &RequestEdits { headers, ..RequestEdits::NONE },
        &["GET / HTTP/1.1", "Host: outer", "CDN-Loop: keel"],
    );
}

#[test]
fn no_edit_reaches_framing_connection_loop_protection_or_certificates() {
    let ours = [
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "CDN-Loop",
        "X-Client-Verify",
        "X_Client_Cert_Subject",
    ];
    let all = ours.map(|name| (name, "1"));
    let (remove, set, add) = (names(&ours), pairs(&all), pairs(&all));
    let forged = HeaderEdits { remove: &remove, set: &set, add: &add };
    let request = RequestEdits { headers: forged, ..RequestEdits::NONE };
    assert_request(
        &["POST / HTTP/1.1", "Host: a", "Content-Length: 5", "CDN-Loop: other", "Expect: 100-continue"],
        &silent(),
        &request,
        &[
            "POST / HTTP/1.1",
            "Host: a",
            "Content-Length: 5",
            "CDN-Loop: other",
            "Expect: 100-continue",
            "CDN-Loop: keel",
        ],
    );
    assert_request(
        &["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Trailer: X"],
        &silent(),
        &request,
        &["POST / HTTP/1.1", "Host: a", "Trailer: X", "CDN-Loop: keel", "Transfer-Encoding: chunked"],
    );
    assert_response(
        &["HTTP/1.1 200 OK", "Content-Length: 5"],
        &EDITS,
        &AnswerEdits { headers: forged, ..AnswerEdits::NONE },
        &["HTTP/1.1 200 OK", "Content-Length: 5"],
    );
}

#[test]
fn what_a_rule_says_about_the_client_takes_the_place_of_what_we_say() {
    let (remove, set) = (names(&["X-Real-IP", "Forwarded"]), pairs(&[("X-Forwarded-Proto", "http")]));
    let headers = HeaderEdits { remove: &remove, set: &set, add: &[] };
    assert_request(
        &["GET / HTTP/1.1", "Host: a"],
        &Forwarding { x_forwarded: true, forwarded: true, ..silent() },
        &RequestEdits { headers, ..RequestEdits::NONE },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Host: a",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Proto: http",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn a_piece_of_a_cookie_is_left_out_and_an_empty_field_with_it() {
    let request = |cookie| ["GET / HTTP/1.1", "Host: a", cookie, "X: y"];
    let table = [
        ("Cookie: a=b; ID=token~value; c=d", "token~", Some("Cookie: a=b; ID=value; c=d")),
        ("Cookie:a=b; ID=token", "; ID=token", Some("Cookie: a=b")),
        ("Cookie: ID=token", "ID=token", None),
        ("Cookie: ID=token; a=b", "ID=token; ", Some("Cookie: a=b")),
        ("Cookie: a=b", "X: y", Some("Cookie: a=b")),
    ];
    for (received, cut, sent) in table {
        let mut expected = vec!["GET / HTTP/1.1", "Host: a"];
        expected.extend(sent);
        expected.extend(["X: y", "CDN-Loop: keel"]);
        assert_request_cut(&request(received), &silent(), &RequestEdits::NONE, cut, &expected);
    }
}

#[test]
fn nobody_but_us_says_what_certificate_a_client_has() {
    let received = [
        "GET / HTTP/1.1",
        "X-Client-Verify: SUCCESS",
        "Host: a",
        "x_client_cert_subject: CN=admin",
        "X-Client-Cert-Fingerprint: 00",
        "X-Client-Id: kept",
    ];
    let trusted = Forwarding { trusted_peer: true, ..silent() };
    let plain = ["GET / HTTP/1.1", "Host: a", "X-Client-Id: kept", "CDN-Loop: keel"];
    for forwarding in [silent(), trusted] {
        assert_request(&received, &forwarding, &RequestEdits::NONE, &plain);
    }
    let missing = RequestEdits { client_certificate: Some(ClientCertificate::Missing), ..RequestEdits::NONE };
    assert_request(
        &received,
        &silent(),
        &missing,
        &["GET / HTTP/1.1", "Host: a", "X-Client-Id: kept", "X-Client-Verify: NONE", "CDN-Loop: keel"],
    );
    let subject = "CN=J\u{fc}rgen\r\nX: y".as_bytes();
    let verified = ClientCertificate::Verified { subject, fingerprint: b"ab01" };
    assert_request(
        &received,
        &silent(),
        &RequestEdits { client_certificate: Some(verified), ..RequestEdits::NONE },
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Client-Id: kept",
            "X-Client-Verify: SUCCESS",
            "X-Client-Cert-Subject: CN=J\\C3\\BCrgen\\0D\\0AX: y",
            "X-Client-Cert-Fingerprint: ab01",
            "CDN-Loop: keel",
        ],
    );
}

#[test]
fn a_backend_can_be_told_that_its_connection_ends_beside_what_else_concerns_it() {
    let close = RequestEdits { close: true, ..RequestEdits::NONE };
    assert_request(
        &["GET / HTTP/1.1", "Host: a"],
        &silent(),
        &close,
        &["GET / HTTP/1.1", "Host: a", "CDN-Loop: keel", "Connection: close"],
    );
    assert_request(
        &["GET / HTTP/1.1", "Host: a", "TE: trailers", "Connection: TE"],
        &silent(),
        &close,
        &["GET / HTTP/1.1", "Host: a", "CDN-Loop: keel", "Connection: close, TE", "TE: trailers"],
    );
}

const EDITS: ResponseEdits<'static> = ResponseEdits {
    client_version: Version::Http11,
    connection: Connection::KeepAlive,
    framing: OutFraming::AsIs,
    proxy_status: None,
};

#[track_caller]
fn assert_response(received: &[&str], edits: &ResponseEdits<'_>, answer: &AnswerEdits<'_>, sent: &[&str]) {
    let received = head(received);
    let mut slots = FieldSlots::new();
    let Parsed::Whole(response) = parse_response(received.as_bytes(), &mut slots, LIMIT, Asked::default()) else {
        panic!("{received}")
    };
    let mut out = Vec::new();
    write_response_edited(&response, edits, answer, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), head(sent));
}

#[test]
fn answers_are_edited_like_requests_and_keep_our_own_cookie() {
    let (remove, set, add) = (names(&["server", "set-cookie"]), pairs(&[("X-A", "1")]), pairs(&[("Link", "</a>")]));
    let answer = AnswerEdits {
        headers: HeaderEdits { remove: &remove, set: &set, add: &add },
        set_cookie: Some(b"SERVERID=t; Path=/"),
        ..AnswerEdits::NONE
    };
    assert_response(
        &["HTTP/1.1 200 OK", "Server: x", "x-a: 0", "Set-Cookie: a=b", "Link: </b>", "Content-Length: 0"],
        &EDITS,
        &answer,
        &[
            "HTTP/1.1 200 OK",
            "Link: </b>",
            "Content-Length: 0",
            "X-A: 1",
            "Link: </a>",
            "Set-Cookie: SERVERID=t; Path=/",
        ],
    );
}

#[test]
fn hsts_is_the_listeners_word_unless_a_rule_has_another() {
    let received = ["HTTP/1.1 200 OK", "strict-transport-security: max-age=0", "Content-Length: 0"];
    let listener = AnswerEdits { strict_transport_security: Some(b"max-age=1"), ..AnswerEdits::NONE };
    let plain = ["HTTP/1.1 200 OK", "Content-Length: 0"];
    let sent = [plain.as_slice(), &["Strict-Transport-Security: max-age=1"]].concat();
    assert_response(&received, &EDITS, &listener, &sent);
    assert_response(&plain, &EDITS, &listener, &sent);
    let (remove, set) = (names(&["Strict-Transport-Security"]), pairs(&[("strict-transport-security", "max-age=2")]));
    let removes = AnswerEdits { headers: HeaderEdits { remove: &remove, ..HeaderEdits::NONE }, ..listener };
    assert_response(&received, &EDITS, &removes, &plain);
    let sets = AnswerEdits { headers: HeaderEdits { set: &set, ..HeaderEdits::NONE }, ..listener };
    let sent = [plain.as_slice(), &["strict-transport-security: max-age=2"]].concat();
    assert_response(&received, &EDITS, &sets, &sent);
}

#[test]
fn the_first_cookie_of_that_name_gets_the_token_and_no_other() {
    let answer = AnswerEdits { cookie: Some(CookieMark { name: b"SID", token: b"t" }), ..AnswerEdits::NONE };
    assert_response(
        &[
            "HTTP/1.1 200 OK",
            "Set-Cookie: sid=lower",
            "set-cookie: SID2=x",
            "Set-Cookie:SID = v; Path=/",
            "Set-Cookie: SID=second",
            "Set-Cookie: bare",
            "Content-Length: 0",
        ],
        &EDITS,
        &answer,
        &[
            "HTTP/1.1 200 OK",
            "Set-Cookie: sid=lower",
            "set-cookie: SID2=x",
            "Set-Cookie: SID = t~v; Path=/",
            "Set-Cookie: SID=second",
            "Set-Cookie: bare",
            "Content-Length: 0",
        ],
    );
}

#[test]
fn a_coded_answer_no_longer_says_what_was_true_of_the_plain_bytes() {
    let coded = AnswerEdits { coding: Some(b"br"), vary: true, ..AnswerEdits::NONE };
    let chunked = ResponseEdits { framing: OutFraming::Chunked, ..EDITS };
    let received = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html",
        "Content-Length: 5000",
        "Content-MD5: x",
        "Digest: x",
        "Content-Digest: x",
        "Repr-Digest: x",
        "Accept-Ranges: bytes",
        "ETag: \"1\"",
    ];
    let sent = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html",
        "ETag: W/\"1\"",
        "Content-Encoding: br",
        "Vary: Accept-Encoding",
        "Transfer-Encoding: chunked",
    ];
    assert_response(&received, &chunked, &coded, &sent);
    // For HTTP/1.0 the end of the connection ends the body.
    let old = ResponseEdits { client_version: Version::Http10, connection: Connection::Close, ..chunked };
    let sent_old = [&sent[..5], &["Connection: close"]].concat();
    assert_response(&received, &old, &coded, &sent_old);
    assert_response(&received, &ResponseEdits { framing: OutFraming::Decoded, ..old }, &coded, &sent_old);
    // A backend's own chunks and trailers end here.
    assert_response(
        &["HTTP/1.1 200 OK", "ETag: W/\"1\"", "Transfer-Encoding: chunked", "Trailer: X"],
        &chunked,
        &coded,
        &[
            "HTTP/1.1 200 OK",
            "ETag: W/\"1\"",
            "Content-Encoding: br",
            "Vary: Accept-Encoding",
            "Transfer-Encoding: chunked",
        ],
    );
}

#[test]
fn caches_are_told_once_that_the_answer_varies() {
    let vary = AnswerEdits { vary: true, ..AnswerEdits::NONE };
    let table: &[(&[&str], &[&str])] = &[
        (&[], &["Vary: Accept-Encoding"]),
        (&["vary: Origin", "Vary: Cookie"], &["vary: Origin, Accept-Encoding", "Vary: Cookie"]),
        (&["Vary:"], &["Vary: Accept-Encoding"]),
        (&["Vary: Origin", "Vary: accept-encoding"], &["Vary: Origin", "Vary: accept-encoding"]),
        (&["Vary: *"], &["Vary: *"]),
    ];
    for (received, sent) in table {
        let first = ["HTTP/1.1 200 OK", "Content-Length: 0"];
        assert_response(&[&first, *received].concat(), &EDITS, &vary, &[&first, *sent].concat());
    }
    let set = pairs(&[("Vary", "Origin"), ("Content-Encoding", "gzip")]);
    let headers = HeaderEdits { set: &set, ..HeaderEdits::NONE };
    assert_response(
        &["HTTP/1.1 200 OK", "Vary: Cookie"],
        &ResponseEdits { framing: OutFraming::Chunked, ..EDITS },
        &AnswerEdits { headers, coding: Some(b"br"), ..vary },
        &[
            "HTTP/1.1 200 OK",
            "Vary: Origin",
            "Content-Encoding: br",
            "Vary: Accept-Encoding",
            "Transfer-Encoding: chunked",
        ],
    );
}

#[test]
fn fields_of_a_trace_are_left_removed_or_replaced_and_no_others_are() {
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let received = [
        "GET / HTTP/1.1",
        "Host: a",
        "TraceParent: 00-1",
        "X-A: 1",
        "tracestate: a=b",
        "traceparent: 00-2",
        "Tracestates: c",
    ];
    let ours = parent.strip_prefix("traceparent: ").expect("a value").as_bytes();
    let table: [(TraceField<'_>, Vec<&str>); 4] = [
        (TraceField::AsIs, [&received[..], &["CDN-Loop: keel"]].concat()),
        (TraceField::Removed, vec!["GET / HTTP/1.1", "Host: a", "X-A: 1", "Tracestates: c", "CDN-Loop: keel"]),
        (
            TraceField::Begun(ours),
            vec!["GET / HTTP/1.1", "Host: a", "X-A: 1", "Tracestates: c", parent, "CDN-Loop: keel"],
        ),
        (
            TraceField::Continued(ours),
            vec!["GET / HTTP/1.1", "Host: a", "X-A: 1", "tracestate: a=b", "Tracestates: c", parent, "CDN-Loop: keel"],
        ),
    ];
    for (trace, sent) in table {
        assert_request(&received, &silent(), &RequestEdits { trace, ..RequestEdits::NONE }, &sent);
    }
}
