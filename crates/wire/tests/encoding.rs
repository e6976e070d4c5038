//! Which answers may be compressed for whom: every condition by itself, beside the answer that meets them all.
//!
//! A row that says "as it is" where compression would have been right costs bytes; the other way round it breaks a
//! download, so each refusal has its row.

use evenkeel_wire::encoding::{Accepted, Negotiated, is_of_type, may_compress, write_chunk, write_last_chunk};
use evenkeel_wire::{
    Asked, BodyReader, FieldSlots, Framing, Parsed, RequestHead, ResponseHead, parse_request, parse_response,
};

const LIMIT: usize = 4096;
const CODINGS: [(usize, &str); 3] = [(0, "zstd"), (1, "br"), (2, "gzip")];

fn with_request<T>(method: &str, lines: &[&str], use_head: impl FnOnce(&RequestHead<'_, '_>) -> T) -> T {
    let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n", joined(lines));
    let mut slots = FieldSlots::new();
    let Parsed::Whole(head) = parse_request(text.as_bytes(), &mut slots, LIMIT) else { panic!("{text}") };
    use_head(&head)
}

fn with_response<T>(status: &str, lines: &[&str], use_head: impl FnOnce(&ResponseHead<'_, '_>) -> T) -> T {
    let text = format!("HTTP/1.1 {status}\r\n{}\r\n", joined(lines));
    let mut slots = FieldSlots::new();
    let Parsed::Whole(head) = parse_response(text.as_bytes(), &mut slots, LIMIT, Asked::default()) else {
        panic!("{text}")
    };
    use_head(&head)
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

#[test]
fn a_client_gets_the_coding_it_weighs_highest_and_ours_among_equals() {
    let table: &[(&[&str], Accepted<usize>)] = &[
        (&["Accept-Encoding: gzip, deflate, br, zstd"], Accepted::Coded(0)),
        (&["accept-encoding: GZIP"], Accepted::Coded(2)),
        (&["Accept-Encoding: x-gzip"], Accepted::Coded(2)),
        (&["Accept-Encoding: br;q=0.9, gzip;q=1.0"], Accepted::Coded(2)),
        (&["Accept-Encoding: br ; Q=0.001,gzip;q=0"], Accepted::Coded(1)),
        (&["Accept-Encoding: gzip", "Accept-Encoding: br"], Accepted::Coded(1)),
        (&["Accept-Encoding: *"], Accepted::Coded(0)),
        (&["Accept-Encoding: zstd;q=0, *"], Accepted::Coded(1)),
        (&["Accept-Encoding: *;q=0.5, gzip;q=0.2"], Accepted::Coded(0)),
        (&["Accept-Encoding: identity, gzip"], Accepted::Coded(2)),
        (&["Accept-Encoding: identity;q=0, gzip;q=0.1"], Accepted::Coded(2)),
        // The client prefers it plain.
        (&["Accept-Encoding: identity, gzip;q=0.5"], Accepted::Plain),
        (&["Accept-Encoding: identity"], Accepted::Plain),
        (&["Accept-Encoding: gzip;q=0"], Accepted::Plain),
        (&["Accept-Encoding: gzip, gzip;q=0"], Accepted::Plain),
        (&["Accept-Encoding: *;q=0"], Accepted::Plain),
        // Nothing acceptable that we have: plain is better than an error.
        (&["Accept-Encoding: deflate, identity;q=0"], Accepted::Plain),
        (&["Accept-Encoding: "], Accepted::Plain),
        (&["Accept-Encoding: gzipped, brotli"], Accepted::Plain),
        (&[], Accepted::Plain),
        // A weight that cannot be read is no consent.
        (&["Accept-Encoding: gzip;q=1.5"], Accepted::Plain),
        (&["Accept-Encoding: gzip;q=0.1234"], Accepted::Plain),
        (&["Accept-Encoding: gzip;q=x"], Accepted::Plain),
        (&["Accept-Encoding: gzip;q="], Accepted::Plain),
        (&["Accept-Encoding: gzip;q=2"], Accepted::Plain),
        (&["Accept-Encoding: gzip", "Cache-Control: max-age=0, No-Transform"], Accepted::AsIs),
    ];
    for (lines, expected) in table {
        with_request("GET", lines, |head| assert_eq!(Accepted::read(head, CODINGS), *expected, "{lines:?}"));
    }
    with_request("HEAD", &["Accept-Encoding: gzip"], |head| {
        assert_eq!(Accepted::read(head, CODINGS), Accepted::AsIs);
    });
    with_request("POST", &["Accept-Encoding: gzip"], |head| {
        assert_eq!(Accepted::read(head, CODINGS), Accepted::Coded(2));
        assert_eq!(Accepted::<usize>::read(head, []), Accepted::Plain, "a listener without codings");
    });
}

#[test]
fn an_answer_is_compressed_when_nothing_speaks_against_it() {
    let types = ["text/*".into(), "application/json".into()];
    let table: &[(&str, &[&str], bool)] = &[
        ("200 OK", &["Content-Type: text/html; charset=utf-8", "Content-Length: 1000"], true),
        ("200 OK", &["Content-Type: TEXT/css", "Transfer-Encoding: chunked"], true),
        ("200 OK", &["Content-Type: application/json"], true),
        ("404 Not Found", &["Content-Type: text/html", "Content-Length: 1000"], true),
        ("200 OK", &["Content-Type: text/html", "Cache-Control: public, max-age=5"], true),
        // Too small to be worth it.
        ("200 OK", &["Content-Type: text/html", "Content-Length: 999"], false),
        ("200 OK", &["Content-Type: text/html", "Content-Length: 0"], false),
        // Of another type, or nobody knows of which.
        ("200 OK", &["Content-Type: image/png"], false),
        ("200 OK", &["Content-Type: textual/html"], false),
        ("200 OK", &["Content-Type: application/jsonp"], false),
        ("200 OK", &["Content-Length: 1000"], false),
        ("200 OK", &["Content-Type:"], false),
        ("200 OK", &["Content-Type: text/html", "Content-Type: text/html"], false),
        // Coded already, or not to be touched.
        ("200 OK", &["Content-Type: text/html", "Content-Encoding: gzip"], false),
        ("200 OK", &["Content-Type: text/html", "content-encoding: identity"], false),
        ("200 OK", &["Content-Type: text/html", "Cache-Control: public", "cache-control: no-transform"], false),
        // A part of something.
        ("206 Partial Content", &["Content-Type: text/html", "Content-Length: 1000"], false),
        ("200 OK", &["Content-Type: text/html", "Content-Range: bytes 0-999/2000"], false),
        // Trailers were announced, and chunks of ours carry none.
        ("200 OK", &["Content-Type: text/html", "Transfer-Encoding: chunked", "Trailer: Digest"], false),
        // No body.
        ("204 No Content", &["Content-Type: text/html"], false),
        ("304 Not Modified", &["Content-Type: text/html", "Content-Length: 1000"], false),
        ("103 Early Hints", &["Content-Type: text/html"], false),
    ];
    for (status, lines, expected) in table {
        with_response(status, lines, |head| {
            let coding = expected.then_some(7);
            let negotiated = may_compress(Accepted::Coded(7), head, &types, 1000);
            assert_eq!(negotiated, Negotiated { coding, vary: *expected }, "{status} {lines:?}");
            // Another client's bytes would differ, which caches must be told even with this one's answer.
            let negotiated = may_compress(Accepted::<u8>::Plain, head, &types, 1000);
            assert_eq!(negotiated, Negotiated { coding: None, vary: *expected }, "{status} {lines:?}");
            let negotiated = may_compress(Accepted::<u8>::AsIs, head, &types, 1000);
            assert_eq!(negotiated, Negotiated { coding: None, vary: false }, "{status} {lines:?}");
        });
    }
}

#[test]
fn media_types_match_whole_or_by_their_first_half() {
    let table = [
        ("text/html", "text/html", true),
        ("text/html", "Text/HTML ;charset=x", true),
        ("text/html", "text/htmlx", false),
        ("text/*", "text/plain", true),
        ("text/*", "text", false),
        ("text/*", "texts/plain", false),
        ("*/*", "image/png", true),
        ("*/*", "image", false),
        ("application/json", "application/problem+json", false),
    ];
    for (pattern, content_type, expected) in table {
        assert_eq!(is_of_type(content_type.as_bytes(), &[pattern.into()]), expected, "{pattern} {content_type}");
    }
    assert!(!is_of_type(b"text/html", &[]));
}

#[test]
fn chunks_of_ours_are_read_back_by_our_strict_reader() {
    let mut out = Vec::new();
    let mut payload = Vec::new();
    for size in [0, 1, 15, 16, 255, 256, 4096, 70_000] {
        let piece = vec![b'x'; size];
        write_chunk(&mut out, &piece);
        payload.extend_from_slice(&piece);
    }
    assert!(out.starts_with(b"1\r\nx\r\nf\r\n"), "a piece of no bytes is no chunk, since that would end the body");
    write_last_chunk(&mut out, &[(b"Grpc-Status", b"0"), (b"X", b"")]);
    assert!(out.ends_with(b"\r\n0\r\nGrpc-Status: 0\r\nX: \r\n\r\n"));
    let mut read = Vec::new();
    let progress = BodyReader::new(Framing::Chunked).advance_decoding(&out, &mut read).expect("good chunks");
    assert!(progress.done && progress.consumed == out.len());
    assert!(read == payload);
}
