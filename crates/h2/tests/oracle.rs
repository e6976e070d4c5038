//! The `h2` crate on the other end, in memory, in both roles: what it writes we read and the other way round.
//!
//! Our end is pumped through pipes that cut the bytes where a seed says. Bodies are larger than the windows, so that flow
//! control of both implementations has to work together.

use std::collections::HashMap;

use bytes::Bytes;
use evenkeel_h2::frame::ErrorCode;
use evenkeel_h2::{Close, Connection, Event, Role, Settings, StreamId, StreamRecv};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[path = "machine/support.rs"]
mod support;

use support::{Draw, NOW, events, payload, settings};

/// Our user of a connection: has a turn whenever bytes came or went.
trait User {
    fn turn(&mut self, of: &mut Connection);
    /// Nothing more is expected to happen.
    fn is_done(&self, of: &Connection) -> bool;
}

/// Carries bytes between our end and the pipe until the user is done or the pipe is shut.
async fn pump<U: User>(mut end: Connection, pipe: DuplexStream, mut user: U, mut draw: Draw) -> (Connection, U) {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let mut buffer = vec![0; 70_000];
    loop {
        user.turn(&mut end);
        if user.is_done(&end) && end.output().is_empty() {
            return (end, user);
        }
        let part = end.output()[..end.output().len().min(1 + draw.below(30_000))].to_vec();
        let largest = [1, 50, 9000, 70_000][draw.below(4)];
        let space = &mut buffer[..1 + draw.below(largest)];
        tokio::select! {
            // In this order, so that a seed means the same each time.
            biased;
            written = writer.write(&part), if !part.is_empty() => {
                let Ok(written) = written else { return (end, user) };
                end.sent(written);
            }
            read = reader.read(space) => {
                let Ok(read @ 1..) = read else { return (end, user) };
                end.receive(&buffer[..read], NOW).expect("h2 breaks no rule");
            }
        }
    }
}

/// Text that is written as far as the other side takes it, and text that was heard.
struct Talk {
    id: StreamId,
    text: Vec<u8>,
    written: usize,
    heard: Vec<u8>,
    ended: bool,
}

impl Talk {
    fn new(id: StreamId, text: Vec<u8>) -> Talk {
        Talk { id, text, written: 0, heard: Vec::new(), ended: false }
    }

    fn turn(&mut self, of: &mut Connection) {
        if self.written < self.text.len() {
            self.written += of.send(self.id, &self.text[self.written..]).expect("not reset");
        }
        let mut space = [0; 5000];
        while !self.ended {
            match of.recv(self.id, &mut space) {
                StreamRecv::Bytes(length) => self.heard.extend_from_slice(&space[..length]),
                StreamRecv::End => self.ended = true,
                StreamRecv::Dry => break,
                StreamRecv::Reset(code) => panic!("reset with {code:?}"),
            }
        }
    }
}

/// A server that sends every body back, with the path it was asked for.
#[derive(Default)]
struct Echo {
    talks: Vec<Talk>,
    served: usize,
    resets: Vec<ErrorCode>,
    /// Leave after so many requests.
    leave_after: Option<usize>,
}

impl User for Echo {
    fn turn(&mut self, of: &mut Connection) {
        for event in events(of) {
            match event {
                Event::Opened(id) => self.talks.push(Talk::new(id, Vec::new())),
                Event::Reset { stream, code, .. } => {
                    self.resets.push(code);
                    self.talks.retain(|talk| talk.id != stream);
                    of.close(stream, Close::Cut);
                }
                Event::Malformed { .. } => panic!("{event:?}"),
                Event::Readable { .. } | Event::Writable { .. } => {}
                Event::PeerGoingAway { .. } | Event::SettingsKnown => {}
            }
        }
        for talk in &mut self.talks {
            talk.turn(of);
            if talk.ended && talk.text.is_empty() {
                let (line, body) = support::request(&talk.heard);
                let path = line.split(' ').nth(1).expect("a path");
                talk.text = if path.ends_with("length") {
                    format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes()
                } else {
                    format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
                };
                if path.ends_with("length") {
                    talk.text.extend_from_slice(&body);
                } else {
                    talk.text.extend(support::chunked(&body, "x-sum: right\r\n", &mut Draw::new(body.len() as u64)));
                }
                talk.turn(of);
            }
        }
        let over = |talk: &Talk| talk.ended && !talk.text.is_empty() && talk.written == talk.text.len();
        self.talks.retain(|talk| {
            if over(talk) {
                of.close(talk.id, Close::Orderly);
                self.served += 1;
            }
            !over(talk)
        });
        if self.leave_after.is_some_and(|after| self.served >= after) {
            of.go_away(ErrorCode::NO_ERROR, NOW);
        }
    }

    fn is_done(&self, of: &Connection) -> bool {
        of.is_finished()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn small_windows() -> Settings {
    Settings { stream_window: 20_000, connection_window: 65_535, ..settings() }
}

/// Sends as the windows allow; `h2` wants to be asked for capacity.
async fn upload(mut to: h2::SendStream<Bytes>, body: Vec<u8>, trailers: bool) {
    let mut rest = Bytes::from(body);
    while !rest.is_empty() {
        to.reserve_capacity(rest.len());
        let granted = std::future::poll_fn(|context| to.poll_capacity(context)).await;
        let granted = granted.expect("open").expect("no reset");
        let piece = rest.split_to(granted.min(rest.len()));
        to.send_data(piece, rest.is_empty() && !trailers).expect("open");
    }
    if trailers {
        let mut fields = http::HeaderMap::new();
        fields.insert("x-checksum", "17".parse().expect("a value"));
        to.send_trailers(fields).expect("open");
    }
}

async fn download(mut from: h2::RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut body = Vec::new();
    while let Some(piece) = from.data().await {
        let piece = piece.expect("no reset");
        from.flow_control().release_capacity(piece.len()).expect("ours");
        body.extend_from_slice(&piece);
    }
    (body, from.trailers().await.expect("no reset"))
}

fn length(number: usize, draw: &mut Draw) -> usize {
    [0, 1, 500, 20_000, 150_000][number % 5] + draw.below(100)
}

#[test]
fn a_client_of_h2_is_served() {
    for seed in 1..=6 {
        runtime().block_on(served(seed));
    }
}

async fn served(seed: u64) {
    let mut draw = Draw::new(seed);
    let (ours, theirs) = tokio::io::duplex(1 + draw.below(100_000));
    let end = Connection::new(Role::Server, &small_windows(), NOW);
    let serving = tokio::spawn(pump(end, ours, Echo::default(), Draw::new(seed + 100)));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(30_000).initial_connection_window_size(70_000);
    let (mut client, connection) = builder.handshake::<_, Bytes>(theirs).await.expect("greeting");
    let connection = tokio::spawn(connection);
    let mut calls = Vec::new();
    for number in 0..40 {
        client = client.ready().await.expect("room");
        let body = payload(number, length(number, &mut draw));
        let kind = if number % 2 == 0 { "chunked" } else { "length" };
        let mut request = http::Request::post(format!("http://shop.example/{number}/{kind}"));
        if number % 3 == 0 {
            request = request.header("content-length", body.len());
        }
        let trailers = number % 3 == 1;
        let ends = body.is_empty() && !trailers;
        let (answer, stream) = client.send_request(request.body(()).expect("a request"), ends).expect("room");
        calls.push(tokio::spawn(async move {
            let sending = async {
                if !ends {
                    upload(stream, body.clone(), trailers).await;
                }
            };
            let ((), answer) = tokio::join!(sending, answer);
            let answer = answer.unwrap_or_else(|error| panic!("seed {seed}, request {number}: {error}"));
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["x-path"], format!("/{number}/{kind}"));
            let (echoed, trailers) = download(answer.into_body()).await;
            assert!(echoed == body, "seed {seed}: body {number} differs");
            assert_eq!(trailers.is_some(), kind == "chunked");
        }));
    }
    for call in calls {
        call.await.expect("answered");
    }
    drop(client);
    connection.await.expect("ends").expect("in good order");
    let (end, echo) = serving.await.expect("ends");
    assert_eq!(echo.served, 40);
    assert!(end.is_idle() && echo.resets.is_empty());
}

#[test]
fn a_client_of_h2_that_cancels_hurts_nobody_else() {
    runtime().block_on(async {
        let mut draw = Draw::new(5);
        let (ours, theirs) = tokio::io::duplex(10_000);
        let end = Connection::new(Role::Server, &small_windows(), NOW);
        let serving = tokio::spawn(pump(end, ours, Echo::default(), Draw::new(6)));
        let (mut client, connection) = h2::client::handshake(theirs).await.expect("greeting");
        let connection = tokio::spawn(connection);
        for number in 0..30 {
            client = client.ready().await.expect("room");
            let request = http::Request::post(format!("http://shop.example/{number}/length")).body(()).expect("one");
            let (answer, mut stream) = client.send_request(request, false).expect("room");
            let body = payload(number, length(number, &mut draw));
            if number % 3 == 0 {
                // In the middle of the upload.
                stream.send_data(Bytes::from(body), false).expect("open");
                stream.send_reset(h2::Reason::CANCEL);
                drop(answer);
            } else {
                upload(stream, body.clone(), true).await;
                let (echoed, _) = download(answer.await.expect("an answer").into_body()).await;
                assert!(echoed == body, "body {number} differs");
            }
        }
        drop(client);
        connection.await.expect("ends").expect("in good order");
        let (end, echo) = serving.await.expect("ends");
        assert_eq!(echo.served, 20);
        assert!(echo.resets.iter().all(|code| *code == ErrorCode::CANCEL));
        assert!(end.is_idle());
    });
}

#[test]
fn a_client_of_h2_is_told_to_leave_and_loses_nothing() {
    runtime().block_on(async {
        let (ours, theirs) = tokio::io::duplex(10_000);
        let end = Connection::new(Role::Server, &small_windows(), NOW);
        let user = Echo { leave_after: Some(3), ..Echo::default() };
        let serving = tokio::spawn(pump(end, ours, user, Draw::new(6)));
        let (client, connection) = h2::client::handshake(theirs).await.expect("greeting");
        let connection = tokio::spawn(connection);
        let mut answered = 0;
        for number in 0..20 {
            let Ok(mut ready) = client.clone().ready().await else { break };
            let request = http::Request::post(format!("http://shop.example/{number}/length")).body(()).expect("one");
            let Ok((answer, stream)) = ready.send_request(request, false) else { break };
            let body = payload(number, 30_000);
            upload(stream, body.clone(), false).await;
            let (echoed, _) = download(answer.await.expect("what was begun is answered").into_body()).await;
            assert!(echoed == body);
            answered += 1;
        }
        assert!((3..20).contains(&answered), "{answered}");
        drop(client);
        connection.await.expect("ends").expect("in good order");
        let (end, echo) = serving.await.expect("ends");
        assert_eq!(echo.served, answered);
        assert!(end.is_finished());
    });
}

/// A client with a list of requests.
struct Asker {
    /// Path and body.
    wanted: Vec<(usize, Vec<u8>)>,
    talks: HashMap<u64, Talk>,
    answered: HashMap<u64, (String, Vec<u8>)>,
    refused: Vec<u64>,
    reset: Vec<(u64, ErrorCode)>,
    going: bool,
}

impl Asker {
    fn new(bodies: impl IntoIterator<Item = Vec<u8>>) -> Asker {
        let wanted = bodies.into_iter().enumerate().collect();
        Asker {
            wanted,
            talks: HashMap::new(),
            answered: HashMap::new(),
            refused: Vec::new(),
            reset: Vec::new(),
            going: false,
        }
    }
}

impl User for Asker {
    fn turn(&mut self, of: &mut Connection) {
        for event in events(of) {
            match event {
                Event::Reset { stream, tag, code, refused, .. } => {
                    if refused {
                        self.refused.push(tag);
                    } else {
                        self.reset.push((tag, code));
                    }
                    self.talks.remove(&tag);
                    of.close(stream, Close::Cut);
                }
                Event::PeerGoingAway { .. } => self.going = true,
                Event::Opened(_) | Event::Malformed { .. } => panic!("{event:?}"),
                Event::Readable { .. } | Event::Writable { .. } | Event::SettingsKnown => {}
            }
        }
        while let Some((number, body)) = self.wanted.last() {
            // Earlier we would not know how many it takes, and the rest would be refused.
            if !of.settings_known() {
                break;
            }
            let Some(id) = of.open(*number as u64) else { break };
            let mut text = format!("POST /{number} HTTP/1.1\r\nHost: shop.example\r\n").into_bytes();
            if number % 2 == 0 {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                text.extend(support::chunked(body, "x-checksum: 17\r\n", &mut Draw::new(*number as u64)));
            } else {
                text.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                text.extend_from_slice(body);
            }
            self.talks.insert(*number as u64, Talk::new(id, text));
            self.wanted.pop();
        }
        for talk in self.talks.values_mut() {
            talk.turn(of);
        }
        let over: Vec<u64> = self.talks.iter().filter(|(_, talk)| talk.ended).map(|(tag, _)| *tag).collect();
        for tag in over {
            let talk = self.talks.remove(&tag).expect("just seen");
            self.answered.insert(tag, support::response(&talk.heard, false));
            of.close(talk.id, Close::Orderly);
        }
    }

    fn is_done(&self, of: &Connection) -> bool {
        self.talks.is_empty() && (self.wanted.is_empty() || !of.accepts_streams() && self.going)
    }
}

/// What a server of `h2` does with request number so and so.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Echo,
    Refuse,
    Break,
}

/// Serves until the client is gone, or until it was told to leave after `leave_after` requests.
async fn h2_server(pipe: DuplexStream, mood: fn(usize) -> Mood, leave_after: usize) -> usize {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(25_000).initial_connection_window_size(66_000).max_concurrent_streams(7);
    let mut server = builder.handshake::<_, Bytes>(pipe).await.expect("greeting");
    let mut served = 0;
    while let Some(request) = server.accept().await {
        let Ok((request, mut answer)) = request else { break };
        served += 1;
        if served == leave_after {
            server.graceful_shutdown();
        }
        let number: usize = request.uri().path()[1..].parse().expect("a number");
        tokio::spawn(async move {
            match mood(number) {
                Mood::Refuse => answer.send_reset(h2::Reason::REFUSED_STREAM),
                Mood::Break => {
                    let head = http::Response::builder().status(200).body(()).expect("a head");
                    let mut stream = answer.send_response(head, false).expect("open");
                    stream.send_data(Bytes::from_static(b"begun"), false).expect("open");
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                }
                Mood::Echo => {
                    let (body, trailers) = download(request.into_body()).await;
                    assert_eq!(trailers.is_some(), number.is_multiple_of(2), "trailers of {number}");
                    let mut head = http::Response::builder().status(200);
                    if number.is_multiple_of(3) {
                        head = head.header("content-length", body.len());
                    }
                    let ends = body.is_empty();
                    let stream = answer.send_response(head.body(()).expect("a head"), ends).expect("open");
                    if !ends {
                        upload(stream, body, !number.is_multiple_of(3)).await;
                    }
                }
            }
        });
    }
    served
}

#[test]
fn a_server_of_h2_is_asked() {
    for seed in 1..=6 {
        runtime().block_on(async {
            let mut draw = Draw::new(seed);
            let (ours, theirs) = tokio::io::duplex(1 + draw.below(100_000));
            let serving = tokio::spawn(h2_server(theirs, |_| Mood::Echo, usize::MAX));
            let bodies: Vec<Vec<u8>> = (0..40).map(|number| payload(number, length(number, &mut draw))).collect();
            let end = Connection::new(Role::Client, &small_windows(), NOW);
            let (end, asker) = pump(end, ours, Asker::new(bodies.clone()), Draw::new(seed + 50)).await;
            for (number, body) in bodies.iter().enumerate() {
                let (line, echoed) = &asker.answered[&(number as u64)];
                assert!(line.starts_with("HTTP/1.1 200"), "{line}");
                assert!(echoed == body, "seed {seed}: body {number} differs");
            }
            assert!(asker.refused.is_empty(), "its limit of streams was kept");
            assert!(end.is_idle());
            drop(end);
            assert_eq!(serving.await.expect("ends"), 40);
        });
    }
}

#[test]
fn a_server_of_h2_that_refuses_and_breaks_is_understood() {
    runtime().block_on(async {
        let (ours, theirs) = tokio::io::duplex(20_000);
        let mood = |number| [Mood::Echo, Mood::Refuse, Mood::Break][number % 3];
        let serving = tokio::spawn(h2_server(theirs, mood, usize::MAX));
        let bodies: Vec<Vec<u8>> = (0..30).map(|number| payload(number, 100)).collect();
        let end = Connection::new(Role::Client, &small_windows(), NOW);
        let (end, mut asker) = pump(end, ours, Asker::new(bodies), Draw::new(8)).await;
        asker.refused.sort_unstable();
        asker.reset.sort_unstable_by_key(|(tag, _)| *tag);
        assert_eq!(asker.answered.len(), 10);
        assert_eq!(asker.refused, (0..10).map(|round| round * 3 + 1).collect::<Vec<_>>());
        assert_eq!(asker.reset, (0..10).map(|round| (round * 3 + 2, ErrorCode::INTERNAL_ERROR)).collect::<Vec<_>>());
        assert!(end.is_idle());
        assert_eq!(serving.await.expect("ends"), 30);
    });
}

#[test]
fn a_server_of_h2_that_leaves_has_answered_what_it_took() {
    runtime().block_on(async {
        let (ours, theirs) = tokio::io::duplex(20_000);
        let serving = tokio::spawn(h2_server(theirs, |_| Mood::Echo, 5));
        let bodies: Vec<Vec<u8>> = (0..30).map(|number| payload(number, 40_000)).collect();
        let end = Connection::new(Role::Client, &small_windows(), NOW);
        let (end, asker) = pump(end, ours, Asker::new(bodies), Draw::new(8)).await;
        assert!(asker.going && asker.reset.is_empty());
        let (answered, left) = (asker.answered.len(), asker.wanted.len() + asker.refused.len());
        assert_eq!(answered + left, 30);
        assert!(answered >= 5 && left > 0, "{answered} answered, {left} to be sent elsewhere");
        assert!(end.is_finished());
        drop(end);
        assert!(serving.await.expect("ends") >= answered);
    });
}
