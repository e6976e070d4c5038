//! Single exchanges, told frame by frame: where END_STREAM stands, how a stream is let go of, how a connection leaves, who
//! waits for whom.

use std::time::Duration;

use evenkeel_h2::frame::{ErrorCode, Kind};
use evenkeel_h2::{Close, Connection, Event, Role, SendFault, Settings, StreamRecv};
use evenkeel_model::limits;

#[path = "machine/raw.rs"]
mod raw;
#[path = "machine/support.rs"]
mod support;

use raw::{ACK, END, GET, OK, Reaction, TRAILER, WHOLE, Wire, setting};
use support::{Draw, events, joined, opened, read, read_text, release, say, settings, settle};

/// Kind, flags and length of everything our end said.
fn shape(wire: &Wire) -> Vec<(Kind, u8, u32)> {
    wire.said.iter().map(|(head, _)| (head.kind, head.flags, head.length)).collect()
}

#[test]
fn the_end_of_an_answer_stands_on_its_last_frame_and_never_on_an_extra_one() {
    let table = [
        ("HTTP/1.1 204 No Content\r\n\r\n", vec![(Kind::Headers, END | WHOLE)]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", vec![(Kind::Headers, END | WHOLE)]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", vec![(Kind::Headers, WHOLE), (Kind::Data, END)]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
            vec![(Kind::Headers, WHOLE), (Kind::Data, END)],
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", vec![(Kind::Headers, END | WHOLE)]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
            vec![(Kind::Headers, WHOLE), (Kind::Data, 0), (Kind::Headers, END | WHOLE)],
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            vec![(Kind::Headers, WHOLE), (Kind::Headers, END | WHOLE)],
        ),
    ];
    for (text, expected) in table {
        let mut wire = Wire::server();
        wire.get(1);
        wire.answer(0, text);
        let found: Vec<_> = shape(&wire).into_iter().map(|(kind, flags, _)| (kind, flags)).collect();
        assert_eq!(found, expected, "{text:?}");
        wire.said.clear();
        wire.close(0, Close::Orderly);
        assert!(wire.said.is_empty(), "{text:?}: both sides have ended, so nothing is left to say");
    }
}

#[test]
fn an_answer_is_the_same_frames_when_its_text_comes_byte_by_byte() {
    let mut wire = Wire::server();
    wire.get(1);
    for byte in "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n".chars() {
        wire.answer(0, &byte.to_string());
    }
    let headers = wire.said(Kind::Headers).len();
    let payload: Vec<u8> = wire.said(Kind::Data).iter().flat_map(|(_, payload)| payload.clone()).collect();
    assert_eq!((headers, &payload[..]), (2, &b"hi"[..]));
    assert_eq!(wire.said.last().map(|(head, _)| head.flags), Some(END | WHOLE));
}

#[test]
fn an_answer_to_head_has_no_data_whatever_its_length_says() {
    let mut wire = Wire::server();
    let head = [&[0x02, 4], &b"HEAD"[..], &GET[1..]].concat();
    wire.frame(Kind::Headers, END | WHOLE, 1, &head);
    wire.answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
    assert_eq!(shape(&wire).len(), 1);
    assert_eq!(shape(&wire)[0].1, END | WHOLE);
}

#[test]
fn an_answer_without_a_length_ends_when_its_user_says_so() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\n\r\nhello");
    wire.end.finish(wire.opened[0]);
    wire.collect();
    let flags: Vec<_> = shape(&wire).into_iter().map(|(kind, flags, length)| (kind, flags, length > 0)).collect();
    assert_eq!(flags, [(Kind::Headers, WHOLE, true), (Kind::Data, 0, true), (Kind::Data, END, false)]);
}

#[test]
fn letting_go_says_what_is_missing_and_whose_fault_it_is() {
    struct Row(&'static str, fn() -> Wire, Close, Reaction);
    fn asked(post: bool, answer: &str) -> Wire {
        let mut wire = Wire::server();
        if post {
            wire.post(1)
        } else {
            wire.get(1)
        }
        if !answer.is_empty() {
            wire.answer(0, answer);
        }
        wire
    }
    const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const PART: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart";
    const OPEN: &str = "HTTP/1.1 200 OK\r\n\r\npart";
    const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart";
    let table = [
        Row("both have ended", || asked(false, DONE), Close::Orderly, Reaction::None),
        Row("the rest of the upload is not needed", || asked(true, DONE), Close::Orderly, Reaction::Stream(1, 0)),
        Row("the answer is cut short", || asked(false, PART), Close::Orderly, Reaction::Stream(1, 2)),
        Row("the answer ends with the stream", || asked(false, OPEN), Close::Orderly, Reaction::None),
        Row("the answer is cut though it could have ended", || asked(false, OPEN), Close::Cut, Reaction::Stream(1, 2)),
        Row("there is no answer", || asked(false, ""), Close::Orderly, Reaction::Stream(1, 2)),
        Row("nobody wants the answer", || Wire::client(ASK), Close::Orderly, Reaction::Stream(1, 8)),
        Row("the request is given up", || Wire::client(UPLOAD), Close::Cut, Reaction::Stream(1, 8)),
        Row(
            "the answer is whole",
            || {
                let mut wire = Wire::client(ASK);
                wire.frame(Kind::Headers, END | WHOLE, 1, OK);
                wire
            },
            Close::Orderly,
            Reaction::None,
        ),
    ];
    for Row(name, make, how, expected) in table {
        let mut wire = make();
        assert_eq!(wire.reaction(), Reaction::None, "{name}: before");
        wire.close(0, how);
        assert_eq!(wire.reaction(), expected, "{name}");
        assert!(wire.end.is_idle(), "{name}");
        assert_eq!(wire.end.recv(wire.opened[0], &mut [0; 9]), StreamRecv::Reset(ErrorCode::STREAM_CLOSED));
    }
}

#[test]
fn a_stream_that_was_never_spoken_on_leaves_no_trace() {
    let mut wire = Wire::new(Role::Client, &settings());
    let id = wire.end.open(1).expect("allowed");
    wire.end.close(id, Close::Cut);
    wire.collect();
    assert!(wire.said.is_empty() && wire.end.is_idle());
}

#[test]
fn streams_get_their_numbers_in_the_order_in_which_they_speak() {
    let mut wire = Wire::new(Role::Client, &settings());
    let (first, second) = (wire.end.open(1).expect("allowed"), wire.end.open(2).expect("allowed"));
    for (id, path) in [(second, "b"), (first, "a")] {
        let text = format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.end.send(id, text.as_bytes()).expect("open");
    }
    wire.collect();
    let streams: Vec<u32> = wire.said.iter().map(|(head, _)| head.stream).collect();
    assert_eq!(streams, [1, 3]);
    wire.frame(Kind::Headers, END | WHOLE, 1, OK);
    assert!(wire.heard.contains(&Event::Readable { stream: second, tag: 2 }), "{:?}", wire.heard);
}

#[test]
fn what_the_backend_never_looked_at_may_be_sent_elsewhere() {
    let ask = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // Refused one by one.
    let mut wire = Wire::client(ask);
    wire.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 7]);
    assert!(matches!(wire.heard[..], [Event::Reset { refused: true, tag: 7, .. }]), "{:?}", wire.heard);
    // Any other reset may have had effects.
    let mut wire = Wire::client(ask);
    wire.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 2]);
    assert!(matches!(wire.heard[..], [Event::Reset { refused: false, .. }]), "{:?}", wire.heard);
    // Above the last stream of a GOAWAY; what is below goes on.
    let mut wire = Wire::client(ask);
    wire.ask(ask);
    wire.frame(Kind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(
        matches!(wire.heard[..], [Event::PeerGoingAway { .. }, Event::Reset { stream, refused: true, .. }] if stream == wire.opened[1]),
        "{:?}",
        wire.heard
    );
    assert!(wire.end.open(1).is_none() && !wire.end.accepts_streams());
    wire.frame(Kind::Headers, END | WHOLE, 1, OK);
    assert!(wire.text(0).starts_with("HTTP/1.1 200"));
    assert!(!wire.end.is_finished());
    wire.close(0, Close::Orderly);
    wire.close(1, Close::Orderly);
    assert!(wire.end.is_finished());
}

#[test]
fn the_backends_limit_of_streams_is_kept() {
    let mut wire = Wire::new(Role::Client, &settings());
    wire.frame(Kind::Settings, 0, 0, &setting(3, 2));
    let first = wire.end.open(1).expect("allowed");
    wire.end.open(2).expect("allowed");
    assert!(wire.end.open(3).is_none());
    wire.end.close(first, Close::Cut);
    wire.end.open(3).expect("allowed again");
}

#[test]
fn a_server_announces_its_end_waits_for_what_is_under_way_and_lets_the_rest_finish() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.end.go_away(ErrorCode::NO_ERROR, wire.now);
    wire.collect();
    let last =
        |wire: &Wire| wire.said(Kind::GoAway).iter().map(|(_, payload)| payload[..4].to_vec()).collect::<Vec<_>>();
    assert_eq!(last(&wire), [[0x7f, 0xff, 0xff, 0xff].to_vec()]);
    let ping = wire.said(Kind::Ping)[0].1.clone();
    // This one was under way.
    wire.get(3);
    assert_eq!(wire.opened.len(), 2);
    wire.frame(Kind::Ping, ACK, 0, &ping);
    assert_eq!(last(&wire)[1..], [[0, 0, 0, 3].to_vec()]);
    wire.get(5);
    assert_eq!(wire.reaction_on(5), Reaction::Stream(5, 7));
    assert_eq!(wire.opened.len(), 2);
    for position in 0..2 {
        assert!(!wire.end.is_finished());
        wire.answer(position, "HTTP/1.1 204 No Content\r\n\r\n");
        wire.close(position, Close::Orderly);
    }
    assert!(wire.end.is_finished());
}

#[test]
fn a_client_that_does_not_answer_the_announcement_is_not_waited_for() {
    let mut wire = Wire::server();
    wire.end.go_away(ErrorCode::NO_ERROR, wire.now);
    let due = wire.end.poll_timeout().expect("a deadline");
    assert_eq!(due, wire.now + Duration::from_secs(limits::H2_GOAWAY_GRACE.value));
    wire.end.handle_timeout(due).expect("no fault");
    wire.collect();
    assert_eq!(wire.said(Kind::GoAway).len(), 2);
    assert!(wire.end.is_finished() && wire.end.poll_timeout().is_none());
}

#[test]
fn waiting_streams_take_turns() {
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 1 << 20));
    let body = vec![b'x'; 1 << 20];
    for stream in [1, 3, 5] {
        wire.get(stream);
    }
    let streams = std::mem::take(&mut wire.opened);
    for id in &streams {
        wire.end.send(*id, b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n").expect("open");
    }
    // The connection's window lets the first one through and shuts in its middle.
    let mut sent = [0; 3];
    for (id, sent) in streams.iter().zip(&mut sent) {
        *sent += wire.end.send(*id, &body).expect("open");
    }
    assert_eq!(sent, [65_535, 0, 0]);
    wire.heard.clear();
    for _ in 0..12 {
        wire.frame(Kind::WindowUpdate, 0, 0, &32_768_u32.to_be_bytes());
        let ready: Vec<_> = wire.heard.drain(..).collect();
        for event in ready {
            let Event::Writable { stream, .. } = event else { panic!("{event:?}") };
            let position = streams.iter().position(|id| *id == stream).expect("one of them");
            sent[position] += wire.end.send(stream, &body[sent[position]..]).expect("open");
        }
        wire.collect();
    }
    let later = [sent[0] - 65_535, sent[1], sent[2]];
    assert_eq!(later.iter().sum::<usize>(), 12 * 32_768, "the window was used");
    assert!(later.iter().all(|sent| *sent == 4 * 32_768), "{later:?}");
}

#[test]
fn who_is_closed_instead_of_going_on_passes_its_turn_on() {
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 1 << 20));
    let body = vec![b'x'; 100_000];
    for (position, stream) in [1, 3, 5].into_iter().enumerate() {
        wire.get(stream);
        wire.answer(position, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        wire.end.send(wire.opened[position], &body).expect("open");
    }
    wire.collect();
    wire.heard.clear();
    wire.frame(Kind::WindowUpdate, 0, 0, &1000_u32.to_be_bytes());
    assert_eq!(wire.heard, [Event::Writable { stream: wire.opened[0], tag: 0 }]);
    wire.heard.clear();
    wire.end.close(wire.opened[0], Close::Cut);
    assert_eq!(wire.end.next_event(), Some(Event::Writable { stream: wire.opened[1], tag: 0 }));
    // What it sends now is all it has, so the last one is next.
    assert_eq!(wire.end.send(wire.opened[1], &body[..500]), Ok(500));
    assert_eq!(wire.end.next_event(), Some(Event::Writable { stream: wire.opened[2], tag: 0 }));
}

#[test]
fn a_stream_with_a_shut_window_holds_nobody_up() {
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 10));
    wire.get(1);
    wire.get(3);
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234567890123456789";
    let taken = wire.end.send(wire.opened[0], text).expect("open");
    assert_eq!(text.len() - taken, 10);
    assert_eq!(wire.end.room(wire.opened[0]), 0);
    wire.frame(Kind::WindowUpdate, 0, 3, &[0, 0, 0, 10]);
    assert_eq!(wire.end.send(wire.opened[1], text), Ok(text.len()), "the other one is not held up");
    wire.heard.clear();
    wire.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 10]);
    assert!(matches!(wire.heard[..], [Event::Writable { stream, .. }] if stream == wire.opened[0]), "{:?}", wire.heard);
    assert_eq!(wire.end.send(wire.opened[0], &text[taken..]), Ok(10));
}

#[test]
fn the_end_of_a_chunked_body_needs_no_window() {
    let mut wire = Wire::server();
    wire.frame(Kind::Settings, 0, 0, &setting(4, 2));
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    wire.answer(0, "0\r\nx: y\r\n\r\n");
    assert_eq!(wire.said.last().map(|(head, _)| head.flags), Some(END | WHOLE));
}

#[test]
fn a_shrunken_window_is_waited_out() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.answer(0, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
    // 65535 less 10 were sent; the window sinks to 5 less 10.
    wire.frame(Kind::Settings, 0, 0, &setting(4, 5));
    assert_eq!(wire.end.send(wire.opened[0], &[b'x'; 90]), Ok(0));
    wire.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 5]);
    assert_eq!(wire.end.send(wire.opened[0], &[b'x'; 90]), Ok(0));
    wire.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 5]);
    assert_eq!(wire.end.send(wire.opened[0], &[b'x'; 90]), Ok(5));
}

#[test]
fn an_answer_that_comes_before_the_upload_is_over_is_kept_and_the_upload_dropped() {
    let mut wire = Wire::client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\npart");
    wire.frame(Kind::Headers, WHOLE, 1, OK);
    wire.frame(Kind::Data, END, 1, b"too much");
    wire.frame(Kind::ResetStream, 0, 1, &[0; 4]);
    assert_eq!(wire.end.send(wire.opened[0], &[b'x'; 400]), Ok(400), "taken and dropped");
    assert!(wire.text(0).contains("too much"));
    assert_eq!(wire.end.recv(wire.opened[0], &mut [0; 9]), StreamRecv::End);
    assert!(wire.said(Kind::Data).len() <= 1);
}

#[test]
fn a_reset_drops_what_was_not_read_and_says_so() {
    let mut wire = Wire::server();
    wire.post(1);
    wire.frame(Kind::Data, 0, 1, b"half");
    wire.heard.clear();
    wire.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]);
    assert!(matches!(wire.heard[..], [Event::Reset { code: ErrorCode::CANCEL, refused: false, detail: None, .. }]));
    assert_eq!(wire.end.recv(wire.opened[0], &mut [0; 99]), StreamRecv::Reset(ErrorCode::CANCEL));
    assert_eq!(wire.end.send(wire.opened[0], b"HTTP/1.1 200 OK\r\n\r\n"), Err(SendFault::Reset(ErrorCode::CANCEL)));
}

#[test]
fn text_that_is_no_answer_resets_the_stream_and_spoils_no_other() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.get(3);
    assert!(matches!(wire.end.send(wire.opened[0], b"nonsense\r\n\r\n"), Err(SendFault::Malformed(_))));
    wire.collect();
    assert_eq!(wire.reaction(), Reaction::Stream(1, 2));
    wire.said.clear();
    wire.answer(1, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(shape(&wire).len(), 1);
}

fn exchange(server: &mut Connection, client: &mut Connection, request: &str, answer: &str) -> (String, String) {
    let draw = &mut Draw::new(3);
    let asking = client.open(5).expect("allowed");
    say(client, asking, request);
    settle(server, client, draw);
    let serving = opened(server);
    let heard = read_text(server, serving);
    say(server, serving, answer);
    settle(server, client, draw);
    let (answered, ending) = read(client, asking);
    assert_eq!(ending, StreamRecv::End);
    release(server, serving);
    release(client, asking);
    settle(server, client, draw);
    assert!(server.is_idle() && client.is_idle());
    (heard, String::from_utf8(answered).expect("text"))
}

#[test]
fn trailers_and_interim_answers_pass_both_ways() {
    let (mut server, mut client) = joined(&settings(), &settings());
    let (heard, answered) = exchange(
        &mut server,
        &mut client,
        "POST /rpc HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nask\r\n0\r\nx-sum: 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n",
    );
    assert!(
        heard.starts_with("POST /rpc HTTP/1.1\r\n") && heard.ends_with("3\r\nask\r\n0\r\nx-sum: 1\r\n\r\n"),
        "{heard}"
    );
    assert!(heard.contains("te: trailers\r\n"), "{heard}");
    assert!(answered.starts_with("HTTP/1.1 103 "), "{answered}");
    assert!(
        answered.contains("HTTP/1.1 200 ") && answered.ends_with("2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n"),
        "{answered}"
    );
}

#[test]
fn a_websocket_is_a_tunnel_of_bytes_both_ways() {
    let (mut server, mut client) = joined(&settings(), &settings());
    let draw = &mut Draw::new(9);
    assert!(client.accepts_tunnels());
    let asking = client.open(5).expect("allowed");
    say(
        &mut client,
        asking,
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    settle(&mut server, &mut client, draw);
    let serving = opened(&mut server);
    let heard = read_text(&mut server, serving).to_ascii_lowercase();
    assert!(heard.starts_with("get /chat http/1.1\r\n") && heard.contains("upgrade: websocket"), "{heard}");
    say(
        &mut server,
        serving,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: whatever\r\n\r\n",
    );
    settle(&mut server, &mut client, draw);
    let answered = read_text(&mut client, asking);
    assert!(answered.starts_with("HTTP/1.1 101 "), "{answered}");
    assert!(answered.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the key of this client is answered: {answered}");
    for round in 0..5 {
        say(&mut client, asking, &format!("to {round}"));
        say(&mut server, serving, &format!("fro {round}"));
        settle(&mut server, &mut client, draw);
        assert_eq!(read_text(&mut server, serving), format!("to {round}"));
        assert_eq!(read_text(&mut client, asking), format!("fro {round}"));
    }
    client.finish(asking);
    settle(&mut server, &mut client, draw);
    assert_eq!(read(&mut server, serving).1, StreamRecv::End);
    say(&mut server, serving, "last words");
    server.finish(serving);
    settle(&mut server, &mut client, draw);
    assert_eq!(read_text(&mut client, asking), "last words");
    assert_eq!(read(&mut client, asking).1, StreamRecv::End);
    release(&mut server, serving);
    release(&mut client, asking);
    settle(&mut server, &mut client, draw);
    assert!(server.is_idle() && client.is_idle() && events(&mut server).is_empty());
}

#[test]
fn a_client_that_believes_in_the_default_window_is_not_at_fault_before_it_knows_ours() {
    let small = Settings { stream_window: 16_384, ..settings() };
    let mut wire = Wire::silent(Role::Server, &small);
    wire.bytes(evenkeel_h2::frame::PREFACE);
    wire.frame(Kind::Settings, 0, 0, &[]);
    wire.post(1);
    for _ in 0..3 {
        wire.frame(Kind::Data, 0, 1, &[0; 16_384]);
    }
    assert_eq!(wire.reaction(), Reaction::None);
    // From its acknowledgement on it knows, and has overdrawn already.
    wire.frame(Kind::Settings, ACK, 0, &[]);
    wire.frame(Kind::Data, 0, 1, &[0; 1]);
    assert_eq!(wire.reaction(), Reaction::Stream(1, 3));
}

#[test]
fn a_failure_ends_every_stream_but_keeps_what_came_whole() {
    let mut wire = Wire::server();
    wire.get(1);
    wire.post(3);
    wire.frame(Kind::Ping, 0, 1, &[0; 8]);
    assert!(wire.text(0).starts_with("GET / "), "what came whole can be read");
    assert_eq!(wire.end.recv(wire.opened[1], &mut [0; 9]), StreamRecv::Reset(ErrorCode::PROTOCOL_ERROR));
    for position in 0..2 {
        assert!(wire.end.send(wire.opened[position], b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        wire.close(position, Close::Cut);
    }
    assert!(wire.end.is_idle() && wire.end.poll_timeout().is_none());
    let failure = wire.failed.expect("an end");
    assert_eq!(wire.end.receive(b"more", wire.now), Err(failure));
    let (_, last) = wire.said(Kind::GoAway)[0];
    assert_eq!(last[..4], [0, 0, 0, 3], "streams up to the last one were looked at");
    assert_eq!(String::from_utf8_lossy(&last[8..]), failure.detail);
}

#[test]
fn trailers_of_an_answer_with_a_length_are_judged_and_left_out() {
    let mut wire = Wire::client("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.frame(Kind::Headers, WHOLE, 1, &[OK, &[0x0f, 0x0d, 1, b'2']].concat());
    wire.frame(Kind::Data, 0, 1, b"hi");
    wire.frame(Kind::Headers, END | WHOLE, 1, TRAILER);
    let text = wire.text(0);
    assert!(text.ends_with("\r\n\r\nhi"), "{text}");
    assert_eq!(wire.end.recv(wire.opened[0], &mut [0; 9]), StreamRecv::End);
}
