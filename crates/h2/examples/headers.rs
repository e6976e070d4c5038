//! How long header blocks and their translation take here: `cargo run --release -p evenkeel-h2 --example headers`.
//!
//! A look, not a test: timed assertions fail on busy machines and teach people to ignore them. The
//! figure to compare with is half a microsecond for decoding and encoding one browser's request.

use std::hint::black_box;
use std::time::Instant;

use evenkeel_h2::hpack::{Decoder, Encoder, FieldList};
use evenkeel_h2::text::{
    RequestOptions, ResponseAsked, ResponseOptions, SendOptions, request_fields, request_text, response_fields,
    response_text,
};

const REQUEST: &[(&str, &str)] = &[
    (":method", "GET"),
    (":authority", "www.example.com"),
    (":scheme", "https"),
    (":path", "/static/app.js?v=17"),
    ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Not A(Brand\";v=\"24\""),
    ("sec-ch-ua-mobile", "?0"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-dest", "script"),
    ("referer", "https://www.example.com/"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cookie", "session=8d969eef6ecad3c29a3a629280e686cf; theme=dark"),
];

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sun, 22 Nov 2026 18:00:00 GMT\r\n\
    Content-Type: application/javascript\r\n\
    Content-Length: 1024\r\n\
    Last-Modified: Sun, 22 Nov 2026 17:00:00 GMT\r\n\
    ETag: \"6740a2f0-400\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";

fn measure(what: &str, mut work: impl FnMut()) {
    // Many short batches, of which the best counts: some of them escape the other programs on the machine.
    const ROUNDS: u32 = 200;
    let mut best = f64::INFINITY;
    for _ in 0..2000 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{what:<60} {best:>8.1} ns");
}

fn encode(encoder: &mut Encoder, list: &FieldList, out: &mut Vec<u8>) {
    out.clear();
    encoder.begin(out);
    for (name, value) in list.iter() {
        encoder.field(name, value, out);
    }
}

fn main() {
    let mut request = FieldList::new();
    for (name, value) in REQUEST {
        request.push(name.as_bytes(), value.as_bytes());
    }
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096, 1 << 20));
    let (mut block, mut list, mut text) = (Vec::new(), FieldList::new(), Vec::new());
    encode(&mut encoder, &request, &mut block);
    let first = block.clone();
    for _ in 0..3 {
        decoder.decode(&block, &mut list).expect("our own block");
        encode(&mut encoder, &request, &mut block);
    }
    println!("first block {} bytes, later ones {} bytes", first.len(), block.len());

    measure("decode a later request", || {
        let _ = black_box(decoder.decode(black_box(&block), &mut list));
    });
    let mut later = Vec::new();
    measure("encode a later request", || encode(&mut encoder, black_box(&request), &mut later));
    measure("decode a first request, a new table each time", || {
        let _ = black_box(Decoder::new(4096, 1 << 20).decode(black_box(&first), &mut list));
    });
    measure("encode a first request, a new table each time", || {
        encode(&mut Encoder::new(), black_box(&request), &mut later);
    });
    let options = RequestOptions { end_stream: true, tunnels: false };
    measure("request list to text", || {
        text.clear();
        let _ = black_box(request_text(black_box(&request), options, &mut text));
    });
    let send = SendOptions { scheme: "https", tunnels: false };
    measure("request text to a later block", || {
        later.clear();
        let _ = black_box(request_fields(black_box(&text), send, &mut encoder, &mut later));
    });
    measure("response text to a later block", || {
        later.clear();
        let _ = black_box(response_fields(black_box(RESPONSE), ResponseAsked::default(), &mut encoder, &mut later));
    });
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(4096, 1 << 20);
    for _ in 0..3 {
        later.clear();
        response_fields(RESPONSE, ResponseAsked::default(), &mut encoder, &mut later).expect("our own text");
        decoder.decode(&later, &mut list).expect("our own block");
    }
    let options = ResponseOptions { end_stream: false, is_head: false, key: None };
    measure("decode a later response and write its text", || {
        let _ = black_box(decoder.decode(black_box(&later), &mut list));
        text.clear();
        let _ = black_box(response_text(&list, options, &mut text));
    });
}
