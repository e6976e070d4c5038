//! Answers of HTTP/2 in whole, in pieces, broken and hostile.
//!
//! The backend's end is the machine that serves our own clients, or frames by hand where that one would never say such a thing.

use std::net::SocketAddr;

use evenkeel_h2::frame::{
    self, HEAD_BYTES, Head, Kind, write_data_head, write_go_away, write_ping, write_reset_stream, write_settings,
};
use evenkeel_h2::{Connection, Event, Role};
use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{BodyMatch, GrpcProbe, HttpProbe};
use evenkeel_model::finding::Pass;
use evenkeel_reactor::errno;

use super::*;
use crate::grpc::Grpc;
use crate::http::Http;

fn target() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 7], 8080))
}

fn head_request() -> Machine {
    Machine::Http(Http::new(&HttpProbe { path: "/health".to_owned(), ..HttpProbe::default() }, target()))
}

fn call() -> Machine {
    Machine::Grpc(Grpc::new(&GrpcProbe { service: "a.B".to_owned(), host: None, tls: None }, target()))
}

/// A probe whose request is sent, and what it sent.
fn asked(inside: Machine) -> (Streamed, Vec<u8>) {
    let mut streamed = Streamed::new(Scheme::Http, inside);
    assert_eq!(streamed.handle(Fact::Connected), None);
    assert_eq!(streamed.phase(), ProbePhase::Write);
    let said = streamed.to_send().to_vec();
    assert_eq!(streamed.sent(said.len()), None);
    assert_eq!((streamed.phase(), streamed.turn()), (ProbePhase::Read, Turn::Read));
    (streamed, said)
}

/// Hands over what came and takes what is said to that, as the prober does.
fn tell(streamed: &mut Streamed, bytes: &[u8]) -> Option<ProbeResult> {
    let result = streamed.handle(Fact::Received(bytes));
    if result.is_none() {
        let owed = streamed.to_send().len();
        return streamed.sent(owed);
    }
    result
}

fn server() -> Connection {
    let settings = Settings {
        streams: 10,
        stream_window: WINDOW,
        connection_window: WINDOW,
        header_limit: 32 * 1024,
        max_frame: 16_384,
        extended_connect: false,
        secure: false,
    };
    Connection::new(Role::Server, &settings, NOW)
}

/// What a server that was asked so says when its user writes `text`; and the request as that user read it.
fn answered(said: &[u8], text: &[u8]) -> (Vec<u8>, String) {
    let mut server = server();
    server.receive(said, NOW).expect("what we say is HTTP/2");
    let stream = loop {
        match server.next_event() {
            Some(Event::Opened(stream)) => break stream,
            Some(_) => {}
            None => panic!("no request in what we say"),
        }
    };
    let mut request = [0; 2048];
    let StreamRecv::Bytes(bytes) = server.recv(stream, &mut request) else { panic!("no head can be read") };
    assert_eq!(server.send(stream, text), Ok(text.len()));
    (server.output().to_vec(), String::from_utf8_lossy(&request[..bytes]).into_owned())
}

fn passed(status: u16) -> ProbeResult {
    ProbeResult::Passed(Pass::Status(status))
}

fn read_failed(reason: FailureReason) -> ProbeResult {
    failed(ProbePhase::Read, reason)
}

fn not_http2(why: &'static str) -> ProbeResult {
    read_failed(FailureReason::NotHttp2 { why })
}

/// The greeting of a server.
fn greeting() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_settings(&[(frame::setting::MAX_CONCURRENT_STREAMS, 100)], &mut bytes);
    bytes
}

fn headers(flags: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: block.len() as u32, kind: Kind::Headers, flags, stream: 1 }.write(&mut bytes);
    bytes.extend_from_slice(block);
    bytes
}

const WHOLE: u8 = frame::flag::END_HEADERS | frame::flag::END_STREAM;
/// `:status: 200`, from the static table.
const OK: &[u8] = &[0x88];

/// The same result in one piece, cut once anywhere, and byte by byte.
fn assert_decides(inside: fn() -> Machine, answer: &[u8], expected: &ProbeResult) {
    let name = answer.escape_ascii();
    assert_eq!(tell(&mut asked(inside()).0, answer).as_ref(), Some(expected), "whole: {name}");
    for cut in 1..answer.len() {
        let (mut streamed, _) = asked(inside());
        let result = tell(&mut streamed, &answer[..cut]).or_else(|| tell(&mut streamed, &answer[cut..]));
        assert_eq!(result.as_ref(), Some(expected), "cut at {cut}: {name}");
    }
    let (mut streamed, _) = asked(inside());
    let bytewise = answer.iter().find_map(|byte| tell(&mut streamed, &[*byte]));
    assert_eq!(bytewise.as_ref(), Some(expected), "byte by byte: {name}");
}

#[test]
fn the_request_arrives_as_the_settings_have_it() {
    let (_, said) = asked(head_request());
    let (_, request) = answered(&said, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(request.starts_with("HEAD /health HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: 10.0.0.7:8080\r\n"), "{request}");
    let (_, said) = asked(call());
    let (_, request) = answered(&said, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(request.starts_with("POST /grpc.health.v1.Health/Check HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("te: trailers\r\n"), "{request}");
    assert!(!request.contains("content-length"), "clients of gRPC announce none: {request}");
}

#[test]
fn the_answer_decides_however_it_is_cut() {
    type Row = (fn() -> Machine, &'static [u8], ProbeResult);
    let table: [Row; 7] = [
        (head_request, b"HTTP/1.1 200 OK\r\ncontent-length: 700\r\n\r\n", passed(200)),
        (head_request, b"HTTP/1.1 103 \r\nlink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\n", passed(204)),
        (
            head_request,
            b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
            read_failed(FailureReason::Status { got: 503 }),
        ),
        (
            call,
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
              7\r\n\0\0\0\0\x02\x08\x01\r\n0\r\ngrpc-status: 0\r\n\r\n",
            ProbeResult::Passed(Pass::Serving),
        ),
        (
            call,
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\ntransfer-encoding: chunked\r\n\r\n\
              7\r\n\0\0\0\0\x02\x08\x02\r\n0\r\ngrpc-status: 0\r\n\r\n",
            read_failed(FailureReason::NotServing { said: "NOT_SERVING" }),
        ),
        (
            call,
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\n\
              grpc-message: unknown service\r\ncontent-length: 0\r\n\r\n",
            read_failed(FailureReason::Grpc { status: 5, message: b"unknown service".to_vec() }),
        ),
        (call, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", read_failed(FailureReason::Status { got: 404 })),
    ];
    for (inside, text, expected) in table {
        let (_, said) = asked(inside());
        let (answer, _) = answered(&said, text);
        assert_decides(inside, &answer, &expected);
    }
}

#[test]
fn who_speaks_something_else_is_named() {
    let mut early = headers(WHOLE, OK);
    early.extend_from_slice(&greeting());
    let table: [(&[u8], ProbeResult); 6] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", not_http2("the port speaks http/1")),
        (b"HTTP/1.0 505 \r\n\r\n", not_http2("the port speaks http/1")),
        (b"\x15\x03\x01\x00\x02\x02\x46\0\0\0", not_http2("the port speaks tls")),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", not_http2("the port speaks ssh")),
        (b"220 mail.example.com ESMTP\r\n", not_http2("first frame is not settings (RFC 9113 3.4)")),
        (&early, not_http2("first frame is not settings (RFC 9113 3.4)")),
    ];
    for (answer, expected) in table {
        assert_decides(head_request, answer, &expected);
    }
}

#[test]
fn a_stream_or_connection_that_ends_early_says_how() {
    let reset = |code| {
        let mut bytes = greeting();
        write_reset_stream(1, code, &mut bytes);
        bytes
    };
    let goodbye = |last, code| {
        let mut bytes = greeting();
        write_go_away(last, code, "", &mut bytes);
        bytes
    };
    let going = |code| read_failed(FailureReason::GoingAway { code });
    let stream = |code| read_failed(FailureReason::StreamReset { code });
    let pushed = {
        let mut bytes = greeting();
        Head { length: 5, kind: Kind::PushPromise, flags: 4, stream: 1 }.write(&mut bytes);
        bytes.extend_from_slice(&[0, 0, 0, 2, 0x82]);
        bytes
    };
    let two_heads = [greeting(), headers(frame::flag::END_HEADERS, &[0x88, 0x88])].concat();
    for (answer, expected) in [
        (reset(ErrorCode::REFUSED_STREAM), stream("refused_stream")),
        (reset(ErrorCode::HTTP_1_1_REQUIRED), stream("http_1_1_required")),
        (goodbye(0, ErrorCode::NO_ERROR), going("no_error")),
        (goodbye(0, ErrorCode::ENHANCE_YOUR_CALM), going("enhance_your_calm")),
        (pushed, not_http2("push that nobody may send us (RFC 9113 8.4)")),
        (two_heads, not_http2("pseudo-header given more than once (RFC 9113 8.3)")),
    ] {
        assert_decides(head_request, &answer, &expected);
    }
    // Our stream is still to be answered, and is not.
    for (fact, bare) in [(Fact::Ended, FailureReason::Closed), (Fact::Failed(errno::ECONNRESET), FailureReason::Reset)]
    {
        let (mut streamed, _) = asked(head_request());
        assert_eq!(tell(&mut streamed, &goodbye(1, ErrorCode::NO_ERROR)), None);
        assert_eq!(streamed.handle(fact), Some(going("no_error")));
        let (mut streamed, _) = asked(head_request());
        assert_eq!(tell(&mut streamed, &greeting()), None);
        assert_eq!(streamed.handle(fact), Some(read_failed(bare)));
    }
}

#[test]
fn an_answer_counts_though_goodbye_is_said_around_it() {
    let mut answer = greeting();
    write_go_away(1, ErrorCode::NO_ERROR, "", &mut answer);
    answer.extend_from_slice(&headers(WHOLE, OK));
    assert_decides(head_request, &answer, &passed(200));
    // RFC 9113 §8.1: a server that has answered may say that it wants no more of the request.
    let mut answer = [greeting(), headers(WHOLE, OK)].concat();
    write_reset_stream(1, ErrorCode::NO_ERROR, &mut answer);
    assert_decides(head_request, &answer, &passed(200));
}

#[test]
fn a_body_beyond_every_window_is_read_because_credit_is_given_for_what_was_read() {
    // As far as a probe reads, and one byte more than a stream may send without being allowed more.
    let dots = limits::PROBE_BODY.value as usize - 5;
    assert_eq!(dots + 5, WINDOW as usize + 1);
    let body = [vec![b'.'; dots], b"ready".to_vec()].concat();
    let settings = HttpProbe {
        method: "GET".to_owned(),
        expect_body: Some(BodyMatch::Has(Pattern::literal(b"y", Covers::Part))),
        ..HttpProbe::default()
    };
    let (mut streamed, said) = asked(Machine::Http(Http::new(&settings, target())));
    let mut server = server();
    server.receive(&said, NOW).expect("what we say is HTTP/2");
    let opened = std::iter::from_fn(|| server.next_event()).find_map(|event| match event {
        Event::Opened(stream) => Some(stream),
        _ => None,
    });
    let stream = opened.expect("a request is in what we say");
    let text = [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let mut given = 0;
    for _ in 0..100 {
        given += server.send(stream, &text[given..]).expect("the stream stands");
        let out = server.output().to_vec();
        server.sent(out.len());
        if let Some(result) = streamed.handle(Fact::Received(&out)) {
            assert_eq!(result, passed(200));
            assert!(given == text.len(), "the last byte decides");
            return;
        }
        let back = streamed.to_send().to_vec();
        assert_eq!(streamed.sent(back.len()), None);
        server.receive(&back, NOW).expect("what we say is HTTP/2");
        while server.next_event().is_some() {}
    }
    panic!("{given} bytes of {} were taken, and no more credit came", text.len());
}

#[test]
fn settings_and_pings_are_answered_while_the_answer_is_awaited() {
    let (mut streamed, _) = asked(head_request());
    let mut bytes = greeting();
    write_ping(*b"are you?", &mut bytes);
    assert_eq!(streamed.handle(Fact::Received(&bytes)), None);
    assert_eq!(streamed.turn(), Turn::Write);
    let mut expected = Vec::new();
    frame::write_settings_ack(&mut expected);
    frame::write_ping_ack(*b"are you?", &mut expected);
    assert_eq!(streamed.to_send(), expected);
    assert_eq!(streamed.phase(), ProbePhase::Read, "the request has left");
    assert_eq!(streamed.sent(expected.len()), None);
    assert_eq!(streamed.turn(), Turn::Read);
}

#[test]
fn a_failure_names_the_phase_it_met() {
    let mut dialing = Streamed::new(Scheme::Http, head_request());
    assert_eq!(dialing.handle_deadline(), failed(ProbePhase::Connect, FailureReason::TimedOut));
    let refused = dialing.handle(Fact::Failed(errno::ECONNREFUSED));
    assert_eq!(refused, Some(failed(ProbePhase::Connect, FailureReason::Refused)));

    let mut writing = Streamed::new(Scheme::Http, head_request());
    assert_eq!(writing.handle(Fact::Connected), None);
    assert_eq!(writing.sent(5), None);
    assert_eq!(writing.handle_deadline(), failed(ProbePhase::Write, FailureReason::TimedOut));
    let reset = writing.handle(Fact::Failed(errno::EPIPE));
    assert_eq!(reset, Some(failed(ProbePhase::Write, FailureReason::Reset)));

    assert_eq!(asked(head_request()).0.handle_deadline(), read_failed(FailureReason::TimedOut));
    // A server that greets and then hangs.
    let (mut streamed, _) = asked(call());
    assert_eq!(tell(&mut streamed, &greeting()), None);
    assert_eq!(streamed.handle_deadline(), read_failed(FailureReason::TimedOut));
}

/// xorshift: the same numbers for the same seed everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

#[test]
fn hostile_bytes_end_a_probe_at_most_and_make_it_hold_little() {
    let (_, said) = asked(call());
    let text = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n\
                 7\r\n\0\0\0\0\x02\x08\x01\r\n0\r\ngrpc-status: 0\r\n\r\n";
    let (good, _) = answered(&said, text);
    let (mut ended, mut running) = (0, 0);
    for seed in 1..3000 {
        let mut draw = Draw(seed);
        let (mut streamed, _) = asked(call());
        let mut bytes = good.clone();
        for _ in 0..=draw.below(4) {
            let at = draw.below(bytes.len());
            match draw.below(4) {
                0 => bytes[at] = draw.below(256) as u8,
                1 => bytes[at] ^= 1 << draw.below(8),
                2 => drop(bytes.splice(at..at, good[..draw.below(good.len())].to_vec())),
                _ => bytes.truncate(at + 1),
            }
        }
        let step = 1 + draw.below(40);
        match bytes.chunks(step).find_map(|piece| tell(&mut streamed, piece)) {
            Some(_) => ended += 1,
            None => running += 1,
        }
        let held = streamed.carried.as_ref().map_or(0, |(connection, _)| connection.footprint());
        assert!(held < 200_000, "seed {seed}: {held} bytes held");
    }
    assert!(ended > 500 && running > 100, "{ended} ended and {running} went on: the bytes are not what they should be");
}

#[test]
fn floods_end_in_a_failure_and_not_in_memory() {
    let mut pings = greeting();
    for _ in 0..100_000 {
        write_ping([7; 8], &mut pings);
    }
    let mut crumbs = [greeting(), headers(frame::flag::END_HEADERS, OK)].concat();
    for _ in 0..100_000 {
        write_data_head(1, 0, false, &mut crumbs);
    }
    for flood in [pings, crumbs] {
        let (mut streamed, _) = asked(call());
        let result = flood.chunks(100 * HEAD_BYTES).find_map(|bytes| streamed.handle(Fact::Received(bytes)));
        let Some(ProbeResult::Failed(Failure { reason, .. })) = result else { panic!("{result:?} of a flood") };
        assert!(matches!(reason, FailureReason::NotHttp2 { .. } | FailureReason::NotGrpc { .. }), "{reason}");
    }
}
