//! What the tests of the connection share: drawn numbers, settings, two ends joined in memory, and reading text back.
#![allow(dead_code, reason = "each test binary uses its part")]

use evenkeel_h2::{Close, Connection, Event, Failure, Role, Settings, StreamId, StreamRecv};
use evenkeel_model::time::Instant;
use evenkeel_wire::response::Asked;
use evenkeel_wire::{BodyReader, FieldSlots, Framing, Parsed, parse_request, parse_response};

pub const NOW: Instant = Instant::START;

/// xorshift: the same numbers for the same seed everywhere.
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

pub fn settings() -> Settings {
    Settings {
        streams: 128,
        stream_window: 65_536,
        connection_window: 1 << 20,
        header_limit: 32 * 1024,
        max_frame: 16_384,
        extended_connect: true,
        secure: false,
    }
}

/// Payload that differs by seed and position.
pub fn payload(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + seed * 7 + at / 251) as u8).collect()
}

/// Text of a chunked body in chunks of drawn sizes.
pub fn chunked(payload: &[u8], trailers: &str, draw: &mut Draw) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + draw.below(20_000)).min(rest.len()));
        text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        text.extend_from_slice(piece);
        text.extend_from_slice(b"\r\n");
        rest = behind;
    }
    text.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    text
}

/// Feeds bytes in drawn pieces.
pub fn feed(to: &mut Connection, bytes: &[u8], draw: &mut Draw) -> Result<(), Failure> {
    let largest = [1, 7, 100, 3000, 100_000][draw.below(5)];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + draw.below(largest)).min(rest.len()));
        to.receive(piece, NOW)?;
        rest = behind;
    }
    Ok(())
}

/// Moves what one end owes to the other, or a drawn part of it. Whether anything moved.
pub fn carry(from: &mut Connection, to: &mut Connection, draw: &mut Draw) -> bool {
    let owed = from.output().len();
    if owed == 0 {
        return false;
    }
    let part = if draw.one_in(3) { 1 + draw.below(owed) } else { owed };
    let bytes = from.output()[..part].to_vec();
    from.sent(part);
    feed(to, &bytes, draw).expect("neither end breaks a rule");
    true
}

/// Moves everything both ends owe, again and again until both are quiet.
pub fn settle(one: &mut Connection, other: &mut Connection, draw: &mut Draw) {
    while carry(one, other, draw) | carry(other, one, draw) {}
}

/// Both ends after their greetings.
pub fn joined(server: &Settings, client: &Settings) -> (Connection, Connection) {
    let mut ends = (Connection::new(Role::Server, server, NOW), Connection::new(Role::Client, client, NOW));
    settle(&mut ends.0, &mut ends.1, &mut Draw::new(1));
    while ends.0.next_event().is_some() {}
    while ends.1.next_event().is_some() {}
    ends
}

pub fn events(of: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| of.next_event()).collect()
}

/// Everything that can be read now, and how it ended.
pub fn read(of: &mut Connection, stream: StreamId) -> (Vec<u8>, StreamRecv) {
    let (mut text, mut space) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        match of.recv(stream, &mut space) {
            StreamRecv::Bytes(length) => text.extend_from_slice(&space[..length]),
            other => return (text, other),
        }
    }
}

pub fn read_text(of: &mut Connection, stream: StreamId) -> String {
    String::from_utf8(read(of, stream).0).expect("text")
}

/// Sends all of a text that is known to fit.
pub fn say(of: &mut Connection, stream: StreamId, text: &str) {
    assert_eq!(of.send(stream, text.as_bytes()), Ok(text.len()), "{text}");
}

/// The one stream that was opened.
pub fn opened(of: &mut Connection) -> StreamId {
    let found = events(of);
    let opened = found.iter().find_map(|event| if let Event::Opened(id) = event { Some(*id) } else { None });
    opened.unwrap_or_else(|| panic!("nothing was opened: {found:?}"))
}

pub fn release(of: &mut Connection, stream: StreamId) {
    of.close(stream, Close::Orderly);
}

/// First line and payload of a request's text, which must be one whole message.
pub fn request(text: &[u8]) -> (String, Vec<u8>) {
    let mut slots = FieldSlots::new();
    let Parsed::Whole(head) = parse_request(text, &mut slots, 64 * 1024) else {
        panic!("not a request: {:?}", String::from_utf8_lossy(&text[..text.len().min(300)]));
    };
    (first_line(text), body(head.framing, &text[head.len..]))
}

/// First line and payload of an answer's text, which must be one whole message; interim heads are skipped.
pub fn response(mut text: &[u8], head_asked: bool) -> (String, Vec<u8>) {
    loop {
        let mut slots = FieldSlots::new();
        let asked = Asked { head: head_asked, upgrade: false };
        let Parsed::Whole(head) = parse_response(text, &mut slots, 64 * 1024, asked) else {
            panic!("not an answer: {:?}", String::from_utf8_lossy(&text[..text.len().min(300)]));
        };
        if !head.is_interim() {
            return (first_line(text), body(head.framing, &text[head.len..]));
        }
        text = &text[head.len..];
    }
}

fn first_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().next().unwrap_or_default().to_owned()
}

fn body(framing: Framing, text: &[u8]) -> Vec<u8> {
    let (mut reader, mut payload) = (BodyReader::new(framing), Vec::new());
    let progress = reader.advance_decoding(text, &mut payload).expect("a sound body");
    if framing == Framing::UntilClose {
        reader.end_of_stream().expect("the end ends it");
    }
    assert!(reader.is_done(), "cut short after {} of {} bytes", progress.consumed, text.len());
    assert_eq!(progress.consumed, text.len(), "bytes behind the message");
    payload
}
