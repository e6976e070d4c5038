//! Our two roles against each other: drawn traffic through drawn cuts and windows comes out byte for byte, and nothing is
//! left behind.

use std::collections::HashMap;

use evenkeel_h2::{Close, Connection, Event, Settings, StreamId, StreamRecv};

#[path = "machine/support.rs"]
mod support;

use support::{Draw, carry, chunked, events, joined, payload, settings, settle};

/// One exchange as one end sees it.
struct Half {
    id: StreamId,
    /// What is still to be written.
    text: Vec<u8>,
    written: usize,
    heard: Vec<u8>,
    ended: bool,
    /// Our text is to end with `finish`.
    until_close: bool,
    finished: bool,
    writable: bool,
    /// Only who was told reads, so that a missing event is seen as a standstill.
    readable: bool,
}

impl Half {
    fn new(id: StreamId, text: Vec<u8>, until_close: bool) -> Half {
        Half {
            id,
            text,
            written: 0,
            heard: Vec::new(),
            ended: false,
            until_close,
            finished: false,
            writable: true,
            readable: true,
        }
    }

    /// Writes and reads as much as a drawn mood allows.
    fn turn(&mut self, of: &mut Connection, draw: &mut Draw) -> bool {
        let mut moved = false;
        if self.writable && self.written < self.text.len() {
            let rest = &self.text[self.written..];
            let piece = &rest[..rest.len().min(1 + draw.below(40_000))];
            let taken = of.send(self.id, piece).expect("nobody resets");
            self.writable = taken == piece.len();
            self.written += taken;
            moved |= taken > 0;
        }
        if self.until_close && !self.finished && self.written == self.text.len() {
            of.finish(self.id);
            self.finished = true;
            moved = true;
        }
        // A slow reader from time to time.
        if !self.ended && self.readable && !draw.one_in(4) {
            let mut space = vec![0; 1 + draw.below(30_000)];
            match of.recv(self.id, &mut space) {
                StreamRecv::Bytes(length) => {
                    self.heard.extend_from_slice(&space[..length]);
                    moved = true;
                }
                StreamRecv::End => {
                    self.ended = true;
                    moved = true;
                }
                StreamRecv::Dry => self.readable = false,
                StreamRecv::Reset(code) => panic!("reset with {code:?}"),
            }
        }
        moved
    }

    fn is_over(&self) -> bool {
        self.ended && self.written == self.text.len()
    }
}

struct Message {
    text: Vec<u8>,
    payload: Vec<u8>,
    until_close: bool,
}

fn drawn_length(draw: &mut Draw) -> usize {
    let bound = [2, 300, 20_000, 200_000][draw.below(4)];
    draw.below(bound)
}

fn drawn_request(number: usize, draw: &mut Draw) -> Message {
    let payload = payload(number, drawn_length(draw));
    let head = format!("POST /{number} HTTP/1.1\r\nHost: shop.example\r\n");
    let text = match draw.below(3) {
        0 => format!("GET /{number} HTTP/1.1\r\nHost: shop.example\r\n\r\n").into_bytes(),
        1 => {
            let mut text = format!("{head}Content-Length: {}\r\n\r\n", payload.len()).into_bytes();
            text.extend_from_slice(&payload);
            return Message { text, payload, until_close: false };
        }
        _ => {
            let mut text = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            let trailers = if draw.one_in(2) { "x-checksum: 17\r\n" } else { "" };
            text.extend_from_slice(&chunked(&payload, trailers, draw));
            return Message { text, payload, until_close: false };
        }
    };
    Message { text, payload: Vec::new(), until_close: false }
}

fn drawn_response(number: usize, draw: &mut Draw) -> Message {
    let payload = payload(number + 1000, drawn_length(draw));
    let interim = if draw.one_in(4) { "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" } else { "" };
    let head = format!("{interim}HTTP/1.1 200 OK\r\nServer: test\r\n");
    match draw.below(4) {
        0 => {
            let text = format!("{interim}HTTP/1.1 204 No Content\r\n\r\n").into_bytes();
            Message { text, payload: Vec::new(), until_close: false }
        }
        1 => {
            let mut text = format!("{head}Content-Length: {}\r\n\r\n", payload.len()).into_bytes();
            text.extend_from_slice(&payload);
            Message { text, payload, until_close: false }
        }
        2 => {
            let mut text = format!("{head}\r\n").into_bytes();
            text.extend_from_slice(&payload);
            Message { text, payload, until_close: true }
        }
        _ => {
            let mut text = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            let trailers = if draw.one_in(2) { "grpc-status: 0\r\n" } else { "" };
            text.extend_from_slice(&chunked(&payload, trailers, draw));
            Message { text, payload, until_close: false }
        }
    }
}

fn drawn_settings(draw: &mut Draw) -> Settings {
    Settings {
        streams: [1, 5, 128][draw.below(3)],
        // Smaller ones would be told from an attack only by their purpose.
        stream_window: [600, 5000, 65_535, 200_000][draw.below(4)],
        connection_window: [65_535, 70_000, 1 << 20][draw.below(3)],
        ..settings()
    }
}

fn drawn_traffic(seed: u64) {
    let mut draw = Draw::new(seed);
    let (mut server, mut client) = joined(&drawn_settings(&mut draw), &drawn_settings(&mut draw));
    let total = 1 + draw.below(30);
    let requests: Vec<Message> = (0..total).map(|number| drawn_request(number, &mut draw)).collect();
    let responses: Vec<Message> = (0..total).map(|number| drawn_response(number, &mut draw)).collect();

    let mut started = 0;
    let mut asking: HashMap<u64, Half> = HashMap::new();
    let mut serving: Vec<Option<Half>> = Vec::new();
    let mut answered = vec![false; total];
    let mut quiet = 0;
    while answered.iter().any(|answered| !answered) || !asking.is_empty() || serving.iter().any(Option::is_some) {
        let mut moved = false;
        if started < total
            && let Some(id) = client.open(started as u64)
        {
            asking.insert(started as u64, Half::new(id, requests[started].text.clone(), false));
            started += 1;
            moved = true;
        }
        for event in events(&mut server) {
            match event {
                Event::Opened(id) => {
                    server.set_tag(id, serving.len() as u64);
                    serving.push(Some(Half::new(id, Vec::new(), false)));
                }
                Event::Writable { tag, .. } => {
                    if let Some(half) = &mut serving[tag as usize] {
                        half.writable = true;
                    }
                }
                Event::Readable { tag, .. } => {
                    if let Some(half) = &mut serving[tag as usize] {
                        half.readable = true;
                    }
                }
                Event::PeerGoingAway { .. } | Event::SettingsKnown => {}
                Event::Reset { .. } | Event::Malformed { .. } => panic!("seed {seed}: {event:?}"),
            }
        }
        for event in events(&mut client) {
            match event {
                Event::Writable { tag, .. } => {
                    if let Some(half) = asking.get_mut(&tag) {
                        half.writable = true;
                    }
                }
                Event::Readable { tag, .. } => {
                    if let Some(half) = asking.get_mut(&tag) {
                        half.readable = true;
                    }
                }
                Event::PeerGoingAway { .. } | Event::SettingsKnown => {}
                Event::Opened(_) | Event::Reset { .. } | Event::Malformed { .. } => panic!("seed {seed}: {event:?}"),
            }
        }
        for half in asking.values_mut() {
            moved |= half.turn(&mut client, &mut draw);
        }
        for half in serving.iter_mut().flatten() {
            moved |= half.turn(&mut server, &mut draw);
            // Who was asked is known once the head was read; the answer then starts while the request still comes.
            if half.text.is_empty() && half.heard.windows(4).any(|four| four == b"\r\n\r\n") {
                let line = String::from_utf8_lossy(&half.heard);
                let number: usize = line.split(['/', ' ']).nth(2).expect("a path").parse().expect("a number");
                half.text = responses[number].text.clone();
                half.until_close = responses[number].until_close;
            }
        }
        for slot in &mut serving {
            if let Some(half) = slot.take_if(|half| half.is_over() && !half.text.is_empty()) {
                let (line, body) = support::request(&half.heard);
                let number: usize = line.split(['/', ' ']).nth(2).expect("a path").parse().expect("a number");
                assert!(body == requests[number].payload, "seed {seed}: body of request {number} differs");
                server.close(half.id, Close::Orderly);
            }
        }
        let over: Vec<u64> = asking.iter().filter(|(_, half)| half.is_over()).map(|(tag, _)| *tag).collect();
        for tag in over {
            let half = asking.remove(&tag).expect("just seen");
            let (_, body) = support::response(&half.heard, false);
            assert!(body == responses[tag as usize].payload, "seed {seed}: body of answer {tag} differs");
            answered[tag as usize] = true;
            client.close(half.id, Close::Orderly);
        }
        moved |= carry(&mut server, &mut client, &mut draw) | carry(&mut client, &mut server, &mut draw);
        quiet = if moved { 0 } else { quiet + 1 };
        assert!(quiet < 100, "seed {seed}: stands still with {} asking", asking.len());
    }
    settle(&mut server, &mut client, &mut draw);
    assert!(server.is_idle() && client.is_idle(), "seed {seed}: streams are left behind");
    assert!(events(&mut server).is_empty() && events(&mut client).is_empty(), "seed {seed}: events are left behind");
}

#[test]
fn drawn_traffic_arrives_byte_for_byte_and_releases_everything() {
    let rounds = std::env::var("SIM_ROUNDS").map_or(30, |rounds| rounds.parse().expect("a number"));
    match std::env::var("SIM_SEED") {
        Ok(seed) => drawn_traffic(seed.parse().expect("a number")),
        Err(_) => (1..=rounds).for_each(drawn_traffic),
    }
}
