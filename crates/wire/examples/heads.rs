//! How long reading and rewriting heads takes here: `cargo run --release -p evenkeel-wire --example heads`.
//!
//! A look, not a test: timed assertions fail on busy machines and teach people to ignore them. The
//! figure to compare with is the budget of about 1.5 µs for all our work on one request.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use evenkeel_wire::{
    Asked, BodyReader, Connection, FieldSlots, Forwarding, Framing, OutFraming, Parsed, ResponseEdits, Version,
    has_loop, parse_request, parse_response, write_request, write_response,
};

const LIMIT: usize = 32 * 1024;

const REQUEST: &[u8] = b"GET /static/app.js?v=17 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/\r\n\
    Cookie: session=8d969eef6ecad3c29a3a629280e686cf; theme=dark\r\n\
    Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sun, 22 Nov 2026 18:00:00 GMT\r\n\
    Content-Type: application/javascript\r\n\
    Content-Length: 1024\r\n\
    Last-Modified: Sun, 22 Nov 2026 17:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    ETag: \"6740a2f0-400\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";

fn measure(what: &str, mut work: impl FnMut()) {
    // Many short batches, of which the best counts: some of them escape the other programs on the machine.
    const ROUNDS: u32 = 500;
    let mut best = f64::INFINITY;
    for _ in 0..2000 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    println!("{what:<44} {best:>8.1} ns");
}

fn main() {
    let forwarding = Forwarding {
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)),
        client_port: 50_123,
        local: SocketAddr::from(([192, 0, 2, 1], 80)),
        scheme: "http",
        trusted_peer: false,
        trusted: &[],
        x_forwarded: true,
        forwarded: false,
        loop_id: b"evenkeel-0123456789abcdef",
        default_host: b"www.example.com",
    };
    let edits = ResponseEdits {
        client_version: Version::Http11,
        connection: Connection::KeepAlive,
        framing: OutFraming::AsIs,
        proxy_status: None,
    };
    let mut out = Vec::with_capacity(4096);

    measure("request: httparse alone", || {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; 128];
        let mut request = httparse::Request::new(&mut []);
        black_box(request.parse_with_uninit_headers(black_box(REQUEST), &mut headers)).expect("a good request");
        black_box(&request);
    });
    measure("request: parse", || {
        let mut slots = FieldSlots::new();
        black_box(matches!(parse_request(black_box(REQUEST), &mut slots, LIMIT), Parsed::Whole(_)));
    });
    measure("request: parse, loop check, rewrite", || {
        let mut slots = FieldSlots::new();
        let Parsed::Whole(head) = parse_request(black_box(REQUEST), &mut slots, LIMIT) else { panic!("refused") };
        out.clear();
        black_box(has_loop(&head, forwarding.loop_id));
        write_request(&head, &forwarding, &mut out);
        black_box(&out);
    });
    measure("response: parse", || {
        let mut slots = FieldSlots::new();
        let parsed = parse_response(black_box(RESPONSE), &mut slots, LIMIT, Asked::default());
        black_box(matches!(parsed, Parsed::Whole(_)));
    });
    measure("response: parse, rewrite", || {
        let mut slots = FieldSlots::new();
        let parsed = parse_response(black_box(RESPONSE), &mut slots, LIMIT, Asked::default());
        let Parsed::Whole(head) = parsed else { panic!("refused") };
        out.clear();
        write_response(&head, &edits, &mut out);
        black_box(&out);
    });
    measure("request: half a head, told to wait", || {
        let mut slots = FieldSlots::new();
        let half = black_box(&REQUEST[..REQUEST.len() / 2]);
        black_box(matches!(parse_request(half, &mut slots, LIMIT), Parsed::Partial));
    });
    let mut chunks = Vec::new();
    for _ in 0..8 {
        chunks.extend_from_slice(b"2000\r\n");
        chunks.resize(chunks.len() + 0x2000, b'x');
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    measure("body: 64 KiB in 8 chunks", || {
        let mut body = BodyReader::new(Framing::Chunked);
        black_box(body.advance(black_box(&chunks))).expect("a good body");
    });
}
