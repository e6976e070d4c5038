//! Which frame may come when: RFC 9113 section by section, with what we must do about it.
//!
//! The order is that of h2spec, so that its report can be laid beside this table. After each row whose connection lives on, a
//! PING must still be answered and a request still be served: "ignored" must not mean "stuck".

use evenkeel_h2::frame::{Kind, PREFACE};
use evenkeel_h2::{Close, Event, Role};

#[path = "machine/raw.rs"]
mod raw;
#[path = "machine/support.rs"]
mod support;

use raw::{ACK, END, GET, OK, PADDED, POST, PRIORITY, Reaction, TRAILER, WHOLE, Wire, frame, post_of_length, setting};
use support::settings;

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION: u32 = 9;

struct Row(&'static str, &'static str, fn() -> Wire, Reaction);

fn server(act: impl FnOnce(&mut Wire)) -> Wire {
    let mut wire = Wire::server();
    act(&mut wire);
    wire
}

fn client(request: &str, act: impl FnOnce(&mut Wire)) -> Wire {
    let mut wire = Wire::client(request);
    act(&mut wire);
    wire
}

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Starting.
    Row("3.4", "no preface", || { let mut w = Wire::silent(Role::Server, &settings()); w.bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); w }, Reaction::Connection(PROTOCOL)),
    Row("3.4", "preface, then no settings", || { let mut w = Wire::silent(Role::Server, &settings()); w.bytes(PREFACE); w.frame(Kind::Ping, 0, 0, &[0; 8]); w }, Reaction::Connection(PROTOCOL)),
    Row("3.4", "preface, then an acknowledgement", || { let mut w = Wire::silent(Role::Server, &settings()); w.bytes(PREFACE); w.frame(Kind::Settings, ACK, 0, &[]); w }, Reaction::Connection(PROTOCOL)),
    Row("3.4", "a server that does not start with settings", || { let mut w = Wire::silent(Role::Client, &settings()); w.frame(Kind::Ping, 0, 0, &[0; 8]); w }, Reaction::Connection(PROTOCOL)),
    // Frame format.
    Row("4.1", "a kind nobody knows", || server(|w| w.frame(Kind::Unknown(0x77), 0xff, 0, b"whatever")), Reaction::None),
    Row("4.1", "a kind nobody knows, on an idle stream", || server(|w| w.frame(Kind::Unknown(0x77), 0, 9, b"")), Reaction::None),
    Row("4.1", "flags that mean nothing", || server(|w| w.frame(Kind::Ping, 0x16, 0, &[0; 8])), Reaction::None),
    Row("4.1", "the reserved bit of a stream number", || server(|w| { let mut f = frame(Kind::Headers, END | WHOLE, 1, GET); f[5] |= 0x80; w.bytes(&f); }), Reaction::None),
    Row("4.2", "data of 2^14 bytes", || server(|w| { w.post(1); w.frame(Kind::Data, END, 1, &[0; 16_384]); }), Reaction::None),
    Row("4.2", "data of one byte more", || server(|w| { w.post(1); w.frame(Kind::Data, END, 1, &[0; 16_385]); }), Reaction::Connection(SIZE)),
    Row("4.2", "headers of one byte more", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[0; 16_385])), Reaction::Connection(SIZE)),
    Row("4.3", "a block that does not decode", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])), Reaction::Connection(COMPRESSION)),
    Row("4.3", "a block interrupted by priority", || server(|w| { w.frame(Kind::Headers, END, 1, GET); w.frame(Kind::Priority, 0, 1, &[0, 0, 0, 3, 9]); }), Reaction::Connection(PROTOCOL)),
    Row("4.3", "a block interrupted by headers of another stream", || server(|w| { w.frame(Kind::Headers, END, 1, GET); w.get(3); }), Reaction::Connection(PROTOCOL)),
    Row("4.3", "a block interrupted by a kind nobody knows", || server(|w| { w.frame(Kind::Headers, END, 1, GET); w.frame(Kind::Unknown(99), 0, 1, &[]); }), Reaction::Connection(PROTOCOL)),
    // Stream states: idle.
    Row("5.1", "idle: data", || server(|w| w.frame(Kind::Data, END, 1, b"x")), Reaction::Connection(PROTOCOL)),
    Row("5.1", "idle: rst_stream", || server(|w| w.frame(Kind::ResetStream, 0, 1, &[0; 4])), Reaction::Connection(PROTOCOL)),
    Row("5.1", "idle: window_update", || server(|w| w.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 9])), Reaction::Connection(PROTOCOL)),
    Row("5.1", "idle: continuation", || server(|w| w.frame(Kind::Continuation, WHOLE, 1, GET)), Reaction::Connection(PROTOCOL)),
    Row("5.1", "idle: priority", || server(|w| w.frame(Kind::Priority, 0, 1, &[0, 0, 0, 0, 9])), Reaction::None),
    Row("5.1", "idle: an answer to nothing", || client(ASK, |w| w.frame(Kind::Headers, END | WHOLE, 3, OK)), Reaction::Connection(PROTOCOL)),
    // Half closed by the client.
    Row("5.1", "half closed: data", || server(|w| { w.get(1); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "half closed: headers", || server(|w| { w.get(1); w.get(1); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "half closed: continuation", || server(|w| { w.get(1); w.frame(Kind::Continuation, WHOLE, 1, GET); }), Reaction::Connection(PROTOCOL)),
    Row("5.1", "half closed: window_update", || server(|w| { w.get(1); w.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 9]); }), Reaction::None),
    Row("5.1", "half closed: priority", || server(|w| { w.get(1); w.frame(Kind::Priority, 0, 1, &[0, 0, 0, 3, 9]); }), Reaction::None),
    Row("5.1", "half closed: rst_stream", || server(|w| { w.get(1); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); }), Reaction::None),
    // Closed.
    Row("5.1", "reset by the client: data", || server(|w| { w.post(1); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "reset by the client: headers", || server(|w| { w.post(1); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); w.get(1); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "reset by the client: continuation", || server(|w| { w.post(1); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); w.frame(Kind::Continuation, WHOLE, 1, GET); }), Reaction::Connection(PROTOCOL)),
    Row("5.1", "reset by the client, twice", || server(|w| { w.post(1); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); w.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]); }), Reaction::None),
    Row("5.1", "both ended: data", || server(|w| { w.get(1); w.answer(0, ANSWER); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "both ended: headers", || server(|w| { w.get(1); w.answer(0, ANSWER); w.get(1); }), Reaction::Connection(CLOSED)),
    Row("5.1", "both ended: window_update, rst_stream and priority under way", || server(|w| { w.get(1); w.answer(0, ANSWER); w.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 9]); w.frame(Kind::ResetStream, 0, 1, &[0; 4]); w.frame(Kind::Priority, 0, 1, &[0, 0, 0, 0, 9]); }), Reaction::None),
    Row("5.1", "reset by us: data and trailers under way", || server(|w| { w.post(1); w.answer(0, ANSWER); w.close(0, Close::Orderly); w.said.clear(); w.frame(Kind::Data, 0, 1, &[0; 9000]); w.frame(Kind::Headers, END | WHOLE, 1, TRAILER); }), Reaction::None),
    // Stream numbers.
    Row("5.1.1", "an even number", || server(|w| w.get(2)), Reaction::Connection(PROTOCOL)),
    Row("5.1.1", "a number below the last", || server(|w| { w.get(5); w.get(3); }), Reaction::Connection(PROTOCOL)),
    Row("5.1.1", "numbers with gaps", || server(|w| { w.get(5); w.get(101); }), Reaction::None),
    Row("5.1.2", "more streams than allowed", || { let mut w = Wire::new(Role::Server, &evenkeel_h2::Settings { streams: 2, ..settings() }); w.get(1); w.get(3); w.get(5); w.close(0, Close::Cut); w.close(0, Close::Cut); w.said.retain(|(head, _)| head.stream == 5); w }, Reaction::Stream(5, REFUSED)),
    Row("5.3.1", "headers that depend on themselves", || server(|w| w.frame(Kind::Headers, END | WHOLE | PRIORITY, 1, &[&[0, 0, 0, 1, 9], GET].concat())), Reaction::Stream(1, PROTOCOL)),
    Row("5.3.1", "priority that depends on itself", || server(|w| { w.post(1); w.frame(Kind::Priority, 0, 1, &[0, 0, 0, 1, 9]); }), Reaction::Stream(1, PROTOCOL)),
    Row("5.5", "a setting nobody knows", || server(|w| w.frame(Kind::Settings, 0, 0, &setting(0xff, 1))), Reaction::None),
    // DATA.
    Row("6.1", "data on stream 0", || server(|w| w.frame(Kind::Data, 0, 0, b"x")), Reaction::Connection(PROTOCOL)),
    Row("6.1", "padding longer than the frame", || server(|w| { w.post(1); w.frame(Kind::Data, END | PADDED, 1, &[6, 0, 0, 0, 0, 0]); }), Reaction::Connection(PROTOCOL)),
    Row("6.1", "padding that fills the frame", || server(|w| { w.post(1); w.frame(Kind::Data, END | PADDED, 1, &[5, 0, 0, 0, 0, 0]); }), Reaction::None),
    Row("6.1", "padded without a padding length", || server(|w| { w.post(1); w.frame(Kind::Data, END | PADDED, 1, &[]); }), Reaction::Connection(SIZE)),
    // HEADERS.
    Row("6.2", "headers on stream 0", || server(|w| w.frame(Kind::Headers, END | WHOLE, 0, GET)), Reaction::Connection(PROTOCOL)),
    Row("6.2", "padding longer than the headers", || server(|w| w.frame(Kind::Headers, END | WHOLE | PADDED, 1, &[&[100], GET].concat())), Reaction::Connection(PROTOCOL)),
    Row("6.2", "padded headers", || server(|w| w.frame(Kind::Headers, END | WHOLE | PADDED, 1, &[&[3], GET, &[0, 0, 0]].concat())), Reaction::None),
    Row("6.2", "headers too short for their priority", || server(|w| w.frame(Kind::Headers, END | WHOLE | PRIORITY, 1, &[0, 0, 0])), Reaction::Connection(SIZE)),
    // PRIORITY, RST_STREAM.
    Row("6.3", "priority on stream 0", || server(|w| w.frame(Kind::Priority, 0, 0, &[0; 5])), Reaction::Connection(PROTOCOL)),
    Row("6.3", "priority of 4 bytes", || server(|w| { w.post(1); w.frame(Kind::Priority, 0, 1, &[0; 4]); }), Reaction::Stream(1, SIZE)),
    Row("6.4", "rst_stream on stream 0", || server(|w| w.frame(Kind::ResetStream, 0, 0, &[0; 4])), Reaction::Connection(PROTOCOL)),
    Row("6.4", "rst_stream of 3 bytes", || server(|w| { w.post(1); w.frame(Kind::ResetStream, 0, 1, &[0; 3]); }), Reaction::Connection(SIZE)),
    // SETTINGS.
    Row("6.5", "acknowledgement with a payload", || server(|w| w.frame(Kind::Settings, ACK, 0, &setting(1, 1))), Reaction::Connection(SIZE)),
    Row("6.5", "settings on a stream", || server(|w| w.frame(Kind::Settings, 0, 1, &[])), Reaction::Connection(PROTOCOL)),
    Row("6.5", "settings of 3 bytes", || server(|w| w.frame(Kind::Settings, 0, 0, &[0; 3])), Reaction::Connection(SIZE)),
    Row("6.5.2", "enable_push of 2", || server(|w| w.frame(Kind::Settings, 0, 0, &setting(2, 2))), Reaction::Connection(PROTOCOL)),
    Row("6.5.2", "a server that enables push", || client(ASK, |w| w.frame(Kind::Settings, 0, 0, &setting(2, 1))), Reaction::Connection(PROTOCOL)),
    Row("6.5.2", "initial_window_size of 2^31", || server(|w| w.frame(Kind::Settings, 0, 0, &setting(4, 1 << 31))), Reaction::Connection(FLOW)),
    Row("6.5.2", "max_frame_size of 16383", || server(|w| w.frame(Kind::Settings, 0, 0, &setting(5, 16_383))), Reaction::Connection(PROTOCOL)),
    Row("6.5.2", "max_frame_size of 2^24", || server(|w| w.frame(Kind::Settings, 0, 0, &setting(5, 1 << 24))), Reaction::Connection(PROTOCOL)),
    Row("6.5.3", "a second acknowledgement", || server(|w| w.frame(Kind::Settings, ACK, 0, &[])), Reaction::None),
    // PUSH_PROMISE, PING, GOAWAY.
    Row("6.6", "a client that pushes", || server(|w| { w.post(1); w.frame(Kind::PushPromise, WHOLE, 1, &[&[0, 0, 0, 2], GET].concat()); }), Reaction::Connection(PROTOCOL)),
    Row("6.6", "a server that pushes", || client(ASK, |w| w.frame(Kind::PushPromise, WHOLE, 1, &[&[0, 0, 0, 2], GET].concat())), Reaction::Connection(PROTOCOL)),
    Row("6.7", "ping on a stream", || server(|w| w.frame(Kind::Ping, 0, 1, &[0; 8])), Reaction::Connection(PROTOCOL)),
    Row("6.7", "ping of 6 bytes", || server(|w| w.frame(Kind::Ping, 0, 0, &[0; 6])), Reaction::Connection(SIZE)),
    Row("6.7", "an answer to no ping", || server(|w| w.frame(Kind::Ping, ACK, 0, &[0; 8])), Reaction::None),
    Row("6.8", "goaway on a stream", || server(|w| w.frame(Kind::GoAway, 0, 1, &[0; 8])), Reaction::Connection(PROTOCOL)),
    Row("6.8", "goaway of 7 bytes", || server(|w| w.frame(Kind::GoAway, 0, 0, &[0; 7])), Reaction::Connection(SIZE)),
    Row("6.8", "a client that goes away", || server(|w| w.frame(Kind::GoAway, 0, 0, &[0; 8])), Reaction::None),
    // WINDOW_UPDATE.
    Row("6.9", "window_update of nothing, connection", || server(|w| w.frame(Kind::WindowUpdate, 0, 0, &[0; 4])), Reaction::Connection(PROTOCOL)),
    Row("6.9", "window_update of nothing, stream", || server(|w| { w.post(1); w.frame(Kind::WindowUpdate, 0, 1, &[0; 4]); }), Reaction::Stream(1, PROTOCOL)),
    Row("6.9", "window_update of 3 bytes", || server(|w| w.frame(Kind::WindowUpdate, 0, 0, &[0; 3])), Reaction::Connection(SIZE)),
    Row("6.9.1", "more data than the stream's window", || server(|w| { w.post(1); for _ in 0..5 { w.frame(Kind::Data, 0, 1, &[0; 16_384]); } }), Reaction::Stream(1, FLOW)),
    Row("6.9.1", "more data than the connection's window", || { let mut w = Wire::new(Role::Server, &evenkeel_h2::Settings { connection_window: 65_535, ..settings() }); w.post(1); w.post(3); for _ in 0..3 { w.frame(Kind::Data, 0, 1, &[0; 16_384]); w.frame(Kind::Data, 0, 3, &[0; 16_384]); } w }, Reaction::Connection(FLOW)),
    Row("6.9.1", "a connection's window above 2^31-1", || server(|w| w.frame(Kind::WindowUpdate, 0, 0, &0x7fff_ffff_u32.to_be_bytes())), Reaction::Connection(FLOW)),
    Row("6.9.1", "a stream's window above 2^31-1", || server(|w| { w.post(1); w.frame(Kind::WindowUpdate, 0, 1, &0x7fff_ffff_u32.to_be_bytes()); }), Reaction::Stream(1, FLOW)),
    Row("6.9.2", "a stream's window above 2^31-1 by settings", || server(|w| { w.post(1); w.frame(Kind::WindowUpdate, 0, 1, &0x7000_0000_u32.to_be_bytes()); w.frame(Kind::Settings, 0, 0, &setting(4, 0x7fff_ffff)); }), Reaction::Connection(FLOW)),
    // CONTINUATION.
    Row("6.10", "a block in two frames", || server(|w| { w.frame(Kind::Headers, END, 1, &GET[..2]); w.frame(Kind::Continuation, WHOLE, 1, &GET[2..]); }), Reaction::None),
    Row("6.10", "a block in four frames, one of them empty", || server(|w| { w.frame(Kind::Headers, END, 1, &GET[..2]); w.frame(Kind::Continuation, 0, 1, &GET[2..4]); w.frame(Kind::Continuation, 0, 1, &[]); w.frame(Kind::Continuation, WHOLE, 1, &GET[4..]); }), Reaction::None),
    Row("6.10", "continuation behind a whole block", || server(|w| { w.post(1); w.frame(Kind::Continuation, WHOLE, 1, GET); }), Reaction::Connection(PROTOCOL)),
    Row("6.10", "continuation of another stream", || server(|w| { w.frame(Kind::Headers, END, 1, GET); w.frame(Kind::Continuation, WHOLE, 3, GET); }), Reaction::Connection(PROTOCOL)),
    Row("6.10", "data within a block", || server(|w| { w.frame(Kind::Headers, 0, 1, GET); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Connection(PROTOCOL)),
    // Messages.
    Row("8.1", "trailers that do not end the stream", || server(|w| { w.post(1); w.frame(Kind::Headers, WHOLE, 1, TRAILER); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "trailers", || server(|w| { w.post(1); w.frame(Kind::Data, 0, 1, b"x"); w.frame(Kind::Headers, END | WHOLE, 1, TRAILER); }), Reaction::None),
    Row("8.1", "trailers with a pseudo-header", || server(|w| { w.post(1); w.frame(Kind::Headers, END | WHOLE, 1, GET); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1.1", "less data than content-length", || server(|w| { w.frame(Kind::Headers, WHOLE, 1, &post_of_length(b'3')); w.frame(Kind::Data, END, 1, b"xy"); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1.1", "more data than content-length", || server(|w| { w.frame(Kind::Headers, WHOLE, 1, &post_of_length(b'3')); w.frame(Kind::Data, 0, 1, b"xy"); w.frame(Kind::Data, 0, 1, b"xy"); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1.1", "less data than content-length, then trailers", || server(|w| { w.frame(Kind::Headers, WHOLE, 1, &post_of_length(b'3')); w.frame(Kind::Data, 0, 1, b"xy"); w.frame(Kind::Headers, END | WHOLE, 1, TRAILER); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1.1", "no data at all, but a content-length", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &post_of_length(b'3'))), Reaction::Stream(1, PROTOCOL)),
    Row("8.1.1", "content-length kept, with padding and an empty end", || server(|w| { w.frame(Kind::Headers, WHOLE, 1, &post_of_length(b'3')); w.frame(Kind::Data, PADDED, 1, &[2, b'x', b'y', b'z', 0, 0]); w.frame(Kind::Data, END, 1, b""); }), Reaction::None),
    Row("8.3", "a request without a path", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[0x82, 0x86, 0x01, 1, b'a'])), Reaction::Stream(1, PROTOCOL)),
    Row("8.3", "a request with two methods", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[&[0x83], GET].concat())), Reaction::Stream(1, PROTOCOL)),
    Row("8.2", "a name in upper case", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[GET, &[0x00, 1, b'X', 1, b'y']].concat())), Reaction::Stream(1, PROTOCOL)),
    Row("8.2.2", "a connection field", || server(|w| w.frame(Kind::Headers, END | WHOLE, 1, &[GET, &[0x00, 10], b"connection", &[5], b"close"].concat())), Reaction::Stream(1, PROTOCOL)),
    // Answers of backends.
    Row("8.1", "an answer: data before the head", || client(ASK, |w| w.frame(Kind::Data, END, 1, b"x")), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "an answer: an interim head that ends the stream", || client(ASK, |w| w.frame(Kind::Headers, END | WHOLE, 1, &[0x08, 3, b'1', b'0', b'0'])), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "an answer: 101", || client(ASK, |w| w.frame(Kind::Headers, WHOLE, 1, &[0x08, 3, b'1', b'0', b'1'])), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "an answer: interim, head, data, trailers", || client(ASK, |w| { w.frame(Kind::Headers, WHOLE, 1, &[0x08, 3, b'1', b'0', b'3']); w.frame(Kind::Headers, WHOLE, 1, OK); w.frame(Kind::Data, 0, 1, b"x"); w.frame(Kind::Headers, END | WHOLE, 1, TRAILER); }), Reaction::None),
    Row("8.1", "an answer: a body to HEAD", || client("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", |w| { w.frame(Kind::Headers, WHOLE, 1, OK); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "an answer: no status", || client(ASK, |w| w.frame(Kind::Headers, END | WHOLE, 1, TRAILER)), Reaction::Stream(1, PROTOCOL)),
    Row("8.1", "an answer: the upload no longer wanted", || client(UPLOAD, |w| { w.frame(Kind::Headers, END | WHOLE, 1, OK); w.frame(Kind::ResetStream, 0, 1, &[0; 4]); }), Reaction::None),
    Row("5.1", "an answer: data behind its end", || client(UPLOAD, |w| { w.frame(Kind::Headers, END | WHOLE, 1, OK); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::Stream(1, CLOSED)),
    Row("5.1", "an answer that was cancelled", || client(ASK, |w| { w.close(0, Close::Cut); assert_eq!(w.reaction(), Reaction::Stream(1, CANCEL)); w.said.clear(); w.frame(Kind::Headers, WHOLE, 1, OK); w.frame(Kind::Data, END, 1, b"x"); }), Reaction::None),
    Row("8.5", "extended connect without a path", || server(|w| w.frame(Kind::Headers, WHOLE, 1, &[&[0x00, 7], b":method".as_slice(), &[7], b"CONNECT", &[0x00, 9], b":protocol", &[9], b"websocket", &[0x86, 0x01, 1, b'a']].concat())), Reaction::Stream(1, PROTOCOL)),
];

#[test]
fn every_frame_gets_the_reaction_the_rfc_asks_for() {
    let mut wrong = Vec::new();
    for Row(section, name, act, expected) in ROWS {
        let mut wire = act();
        let found = wire.reaction();
        let failed = wire.failed.map(|failure| (failure.code.0, failure.detail));
        if found != *expected {
            wrong.push(format!("{section} {name}: {found:?} instead of {expected:?}; {failed:?}"));
        }
        if matches!(expected, Reaction::Connection(_)) {
            let failure = wire.failed.unwrap_or_else(|| panic!("{section} {name}: GOAWAY, but no failure"));
            assert_eq!(Reaction::Connection(failure.code.0), *expected, "{section} {name}");
            assert!(wire.end.is_finished());
            continue;
        }
        wire.said.clear();
        wire.frame(Kind::Ping, 0, 0, b"are you?");
        if wire.said(Kind::Ping).is_empty() {
            wrong.push(format!("{section} {name}: no answer to a ping afterwards; {failed:?}"));
            continue;
        }
        if wire.said(Kind::GoAway).is_empty() && wire.end.open(1).is_none() {
            wire.heard.clear();
            wire.get(1001);
            if !wire.heard.iter().any(|event| matches!(event, Event::Opened(_))) {
                wrong.push(format!("{section} {name}: no request is taken afterwards"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(ROWS.len() >= 60);
}

#[test]
fn a_table_row_means_the_same_however_its_bytes_are_cut() {
    // One byte at a time, where the row above was fed frame by frame.
    let table = [
        (frame(Kind::Headers, END | WHOLE, 1, GET), Reaction::None),
        (frame(Kind::Headers, END | WHOLE | PADDED, 1, &[&[3], GET, &[0, 0, 0]].concat()), Reaction::None),
        (frame(Kind::Data, 0, 0, b"x"), Reaction::Connection(PROTOCOL)),
        (
            [frame(Kind::Headers, WHOLE, 1, POST), frame(Kind::Data, END | PADDED, 1, &[2, b'x', 0, 0])].concat(),
            Reaction::None,
        ),
    ];
    for (bytes, expected) in table {
        let mut wire = Wire::server();
        for byte in bytes {
            wire.bytes(&[byte]);
        }
        assert_eq!(wire.reaction(), expected);
        assert_eq!(wire.opened.len(), usize::from(expected == Reaction::None));
    }
}
