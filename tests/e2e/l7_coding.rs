//! Compressed answers: whoever asks gets the same bytes after decoding, and nothing is compressed that must not be.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use flate2::write::GzDecoder;

use crate::backend::{backend, read_head};
use crate::daemon::{Daemon, free_address};
use crate::l7_speak::{Forge, Front, NAME, Site, Talk};

/// Decodes as far as bytes have come.
enum Decoder {
    Plain(Vec<u8>),
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Br(Box<brotli::DecompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd_safe::DCtx<'static>>, Vec<u8>),
}

impl Decoder {
    fn new(coding: Option<&str>) -> Decoder {
        match coding {
            None => Decoder::Plain(Vec::new()),
            Some("gzip") => Decoder::Gzip(Box::new(GzDecoder::new(Vec::new()))),
            Some("br") => Decoder::Br(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096))),
            Some("zstd") => Decoder::Zstd(Box::new(zstd_safe::DCtx::create()), Vec::new()),
            Some(other) => panic!("nobody asked for {other}"),
        }
    }

    /// All that is known of the payload with these bytes.
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Decoder::Plain(payload) => {
                payload.extend_from_slice(bytes);
                payload.clone()
            }
            Decoder::Gzip(decoder) => {
                decoder.write_all(bytes).and_then(|()| decoder.flush()).expect("gzip");
                decoder.get_ref().clone()
            }
            Decoder::Br(decoder) => {
                decoder.write_all(bytes).and_then(|()| decoder.flush()).expect("brotli");
                decoder.get_ref().clone()
            }
            Decoder::Zstd(decoder, payload) => {
                let mut input = zstd_safe::InBuffer::around(bytes);
                loop {
                    let mut space = vec![0; 65_536];
                    let mut output = zstd_safe::OutBuffer::around(&mut space);
                    decoder.decompress_stream(&mut output, &mut input).expect("zstd");
                    let made = output.pos();
                    payload.extend_from_slice(&space[..made]);
                    if input.pos() == bytes.len() && made < 65_536 {
                        return payload.clone();
                    }
                }
            }
        }
    }
}

/// Words with a little variety, so that there is something to compress.
fn text(length: usize) -> String {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= length {
            break;
        }
        text += &format!("line {number} of a page that says {}\n", number % 97);
    }
    text.truncate(length);
    text
}

/// Answers each path with the bytes that stand beside it.
fn answers(table: Vec<(&'static str, Vec<u8>)>) -> SocketAddr {
    backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            let answer = table.iter().find(|(at, _)| *at == path).map(|(_, answer)| answer.clone());
            let mut answer = answer.unwrap_or_else(|| panic!("no answer for {target}"));
            if head.starts_with("HEAD ") {
                let end = crate::client::find(&answer, b"\r\n\r\n").expect("a head") + 4;
                answer.truncate(end);
            }
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    })
}

fn sized(fields: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {fields}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn chunked(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {fields}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(1000) {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend_from_slice(chunk);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    answer
}

#[test]
fn every_coding_decodes_to_what_the_backend_sent_and_some_answers_stay_as_they_are() {
    let forge = Forge::new("coding");
    let site = Site { plain: free_address(), tls: free_address() };
    let page = text(200_000);
    let page = page.as_bytes();
    let server = answers(vec![
        (
            "/page",
            sized("200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"abc\"\r\nAccept-Ranges: bytes", page),
        ),
        ("/chunks", chunked("200 OK\r\nContent-Type: application/json\r\nETag: W/\"abc\"", page)),
        ("/small", sized("200 OK\r\nContent-Type: text/plain", b"short")),
        ("/image", sized("200 OK\r\nContent-Type: image/png", page)),
        (
            "/part",
            sized("206 Partial Content\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-199999/300000", page),
        ),
        ("/untouched", sized("200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, no-transform", page)),
        ("/coded", sized("200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip", page)),
        ("/varied", sized("200 OK\r\nContent-Type: text/plain\r\nVary: Cookie", page)),
        ("/error", sized("404 Not Found\r\nContent-Type: text/html", page)),
    ]);
    let keys = "pool = \"web\"\ncompression = { min_size = \"1KiB\" }";
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), keys)
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n");
    let daemon = Daemon::start("coding", &body);
    let table: [(&str, &str, Option<&str>, &str); 19] = [
        // path, what the client takes, the coding it gets, its ETag
        ("/page", "gzip", Some("gzip"), "W/\"abc\""),
        ("/page", "br", Some("br"), "W/\"abc\""),
        ("/page", "zstd", Some("zstd"), "W/\"abc\""),
        ("/page", "gzip, deflate, br, zstd", Some("zstd"), "W/\"abc\""),
        ("/page", "gzip;q=1, br;q=0.5, zstd;q=0", Some("gzip"), "W/\"abc\""),
        ("/page", "identity", None, "\"abc\""),
        ("/page", "deflate, compress", None, "\"abc\""),
        ("/page", "", None, "\"abc\""),
        ("/page", "*;q=0, identity", None, "\"abc\""),
        ("/chunks", "gzip", Some("gzip"), "W/\"abc\""),
        ("/chunks", "br", Some("br"), "W/\"abc\""),
        ("/chunks", "zstd", Some("zstd"), "W/\"abc\""),
        ("/small", "gzip", None, ""),
        ("/image", "gzip", None, ""),
        ("/part", "gzip", None, ""),
        ("/untouched", "gzip", None, ""),
        ("/coded", "br, gzip", Some("gzip"), ""),
        ("/varied", "gzip", Some("gzip"), ""),
        ("/error", "gzip", Some("gzip"), ""),
    ];
    for front in Front::ALL {
        let mut talk = Talk::open(front, site, &forge);
        for (row, (path, takes, coding, tag)) in table.into_iter().enumerate() {
            let what = format!("{path} for {takes:?} over {}", front.word());
            let takes = if takes.is_empty() { String::new() } else { format!("Accept-Encoding: {takes}\r\n") };
            let target = format!("{path}?{row}-{}", front.word());
            let answer = talk.get(&target, &takes);
            assert_eq!(answer.field("content-encoding"), coding, "{what}: {}", answer.head);
            assert_eq!(answer.field("etag").unwrap_or_default(), tag, "{what}: {}", answer.head);
            let payload = answer.payload();
            let wanted = if path == "/small" { b"short" } else { page };
            // What was called gzip by the backend is passed on as it came.
            let decoded = if path == "/coded" { payload.clone() } else { Decoder::new(coding).push(&payload) };
            assert!(decoded == wanted, "{what}: {} bytes instead of {}", decoded.len(), wanted.len());
            let ours = coding.is_some() && path != "/coded";
            assert!(!ours || payload.len() < wanted.len() / 3, "{what}: {} bytes", payload.len());
            let varies = answer.fields("vary").any(|line| line.to_ascii_lowercase().contains("accept-encoding"));
            assert!(!ours || varies, "{what}: {}", answer.head);
            assert!(
                !ours || answer.field("accept-ranges").is_none_or(|value| value == "none"),
                "{what}: {}",
                answer.head
            );
            let kept = answer.fields("vary").any(|line| line.contains("Cookie"));
            assert!(path != "/varied" || kept, "{what}: {}", answer.head);
            if front == Front::Http1 {
                let line = daemon.wait_log(&target);
                assert!(line["cause"].is_null(), "{line}");
                let sent = line["bytes_out"].as_u64().expect("a number");
                assert!((sent < 100_000) == (ours || path == "/small"), "{what}: what was sent is logged: {line}");
            }
        }
        // A HEAD says what a GET without compression would.
        talk.send(format!("HEAD /page HTTP/1.1\r\nHost: {NAME}\r\nAccept-Encoding: gzip\r\n\r\n"));
        let answer = talk.answer_to(true).expect("an answer");
        let seen = (answer.field("content-encoding"), answer.field("content-length"), answer.field("etag"));
        assert_eq!(seen, (None, Some("200000"), Some("\"abc\"")), "{}", answer.head);
        assert_eq!(talk.get("/small", "").payload(), b"short", "the connection is in step");
    }
}

#[test]
fn an_event_is_let_out_as_it_comes_though_it_is_compressed() {
    let forge = Forge::new("events");
    let site = Site { plain: free_address(), tls: free_address() };
    // One sender for each stream that is opened, in turn.
    let (opened, streams) = channel::<Sender<String>>();
    let opened = Mutex::new(opened);
    let server = backend(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let (events, orders) = channel::<String>();
            let _ = opened.lock().expect("no thread panics with it").send(events);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            for event in orders {
                let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), "pool = \"web\"\ncompression = {}")
        + &format!("[[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n");
    let _daemon = Daemon::start("events", &body);
    for front in Front::ALL {
        for coding in ["gzip", "br", "zstd"] {
            let what = format!("{coding} over {}", front.word());
            let mut talk = Talk::open(front, site, &forge);
            talk.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nAccept-Encoding: {coding}\r\n\r\n"));
            let events = streams.recv().expect("the backend was asked");
            let mut raw = talk.until(b"\r\n\r\n");
            let end = crate::client::find(&raw, b"\r\n\r\n").expect("it was waited for") + 4;
            let head = String::from_utf8_lossy(&raw[..end]).into_owned();
            assert!(head.to_lowercase().contains(&format!("content-encoding: {coding}")), "{what}: {head}");
            raw.drain(..end);
            let (mut decoder, mut wanted) = (Decoder::new(Some(coding)), String::new());
            for number in 0..5 {
                let event = format!("data: event {number} of {what}\n\n");
                events.send(event.clone()).expect("the backend listens");
                wanted += &event;
                // The next is not sent before this one was read: if it were held back, this would wait in vain.
                loop {
                    let (payload, rest) = whole_chunks(&raw);
                    raw = rest;
                    let so_far = decoder.push(&payload);
                    if so_far.len() >= wanted.len() {
                        assert_eq!(String::from_utf8_lossy(&so_far), wanted, "{what}");
                        break;
                    }
                    raw.extend(talk.next_bytes());
                }
            }
            drop(events);
        }
    }
}

/// The payload of the chunks that are whole, and the bytes behind them.
fn whole_chunks(raw: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut payload, mut rest) = (Vec::new(), raw);
    while let Some(at) = crate::client::find(rest, b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..at]).trim(), 16).expect("a chunk's size");
        let from = at + 2;
        if rest.len() < from + size + 2 {
            break;
        }
        payload.extend_from_slice(&rest[from..from + size]);
        rest = &rest[from + size + 2..];
    }
    (payload, rest.to_vec())
}
