//! One of our ends against frames written byte by byte.
#![allow(dead_code, reason = "each test binary uses its part")]

use evenkeel_h2::frame::{HEAD_BYTES, Head, Kind, PREFACE, flag};
use evenkeel_h2::{Connection, Event, Failure, Role, Settings, StreamId};
use evenkeel_model::time::Instant;

use crate::support::{events, read, settings};

/// `GET http://a/`, in static entries as far as there are any.
pub const GET: &[u8] = &[0x82, 0x84, 0x86, 0x01, 1, b'a'];
pub const POST: &[u8] = &[0x83, 0x84, 0x86, 0x01, 1, b'a'];
/// `content-length` of one digit, without touching the table.
pub fn post_of_length(digit: u8) -> Vec<u8> {
    [POST, &[0x0f, 0x0d, 1, digit]].concat()
}
/// `:status: 200`.
pub const OK: &[u8] = &[0x88];
/// `x: y`.
pub const TRAILER: &[u8] = &[0x00, 1, b'x', 1, b'y'];

pub const END: u8 = flag::END_STREAM;
pub const WHOLE: u8 = flag::END_HEADERS;
pub const PADDED: u8 = flag::PADDED;
pub const PRIORITY: u8 = flag::PRIORITY;
pub const ACK: u8 = flag::ACK;

pub fn frame(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { length: payload.len() as u32, kind, flags, stream }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

pub fn setting(name: u16, value: u32) -> Vec<u8> {
    [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat()
}

/// What we said, frame by frame.
pub fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(head) = bytes.first_chunk::<HEAD_BYTES>() {
        let head = Head::read(head);
        let end = HEAD_BYTES + head.length as usize;
        found.push((head, bytes[HEAD_BYTES..end].to_vec()));
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty(), "half a frame in the output");
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The connection ended with this code.
    Connection(u32),
    /// The stream was reset with this code.
    Stream(u32, u32),
    /// Neither.
    None,
}

pub struct Wire {
    pub end: Connection,
    pub now: Instant,
    pub failed: Option<Failure>,
    pub said: Vec<(Head, Vec<u8>)>,
    pub opened: Vec<StreamId>,
    pub heard: Vec<Event>,
}

impl Wire {
    pub fn silent(role: Role, settings: &Settings) -> Wire {
        let end = Connection::new(role, settings, Instant::START);
        Wire { end, now: Instant::START, failed: None, said: Vec::new(), opened: Vec::new(), heard: Vec::new() }
    }

    /// After greetings, settings acknowledged both ways.
    pub fn new(role: Role, settings: &Settings) -> Wire {
        let mut wire = Wire::silent(role, settings);
        if role == Role::Server {
            wire.bytes(PREFACE);
        }
        wire.frame(Kind::Settings, 0, 0, &[]);
        wire.frame(Kind::Settings, ACK, 0, &[]);
        wire.said.clear();
        wire.heard.clear();
        wire
    }

    pub fn server() -> Wire {
        Wire::new(Role::Server, &settings())
    }

    /// Our end as a client that has sent one request on stream 1, and its id.
    pub fn client(request: &str) -> Wire {
        let mut wire = Wire::new(Role::Client, &settings());
        wire.ask(request);
        wire
    }

    pub fn ask(&mut self, request: &str) {
        let id = self.end.open(7).expect("allowed");
        assert_eq!(self.end.send(id, request.as_bytes()), Ok(request.len()));
        self.opened.push(id);
        self.collect();
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.end.receive(bytes, self.now).err();
        }
        self.collect();
    }

    pub fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame(kind, flags, stream, payload));
    }

    /// A request without a body, or the start of one with.
    pub fn get(&mut self, stream: u32) {
        self.frame(Kind::Headers, END | WHOLE, stream, GET);
    }

    pub fn post(&mut self, stream: u32) {
        self.frame(Kind::Headers, WHOLE, stream, POST);
    }

    /// Our user answers the request that came as number `position`.
    pub fn answer(&mut self, position: usize, text: &str) {
        let id = self.opened[position];
        assert_eq!(self.end.send(id, text.as_bytes()), Ok(text.len()), "{text}");
        self.collect();
    }

    pub fn text(&mut self, position: usize) -> String {
        let text = String::from_utf8(read(&mut self.end, self.opened[position]).0).expect("text");
        self.collect();
        text
    }

    pub fn close(&mut self, position: usize, how: evenkeel_h2::Close) {
        self.end.close(self.opened[position], how);
        self.collect();
    }

    pub fn collect(&mut self) {
        let said = self.end.output().to_vec();
        self.end.sent(said.len());
        if said.starts_with(PREFACE) {
            self.said.extend(frames(&said[PREFACE.len()..]));
        } else {
            self.said.extend(frames(&said));
        }
        for event in events(&mut self.end) {
            if let Event::Opened(id) = event {
                self.opened.push(id);
            }
            self.heard.push(event);
        }
    }

    pub fn said(&self, kind: Kind) -> Vec<&(Head, Vec<u8>)> {
        self.said.iter().filter(|(head, _)| head.kind == kind).collect()
    }

    /// The code of our GOAWAY.
    pub fn reaction_of_connection(&self) -> Option<u32> {
        let (_, payload) = self.said.iter().find(|(head, _)| head.kind == Kind::GoAway)?;
        Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")))
    }

    /// What became of one stream.
    pub fn reaction_on(&self, stream: u32) -> Reaction {
        let mut resets = self.said(Kind::ResetStream).into_iter().filter(|(head, _)| head.stream == stream);
        resets.next().map_or(Reaction::None, |(_, code)| Reaction::Stream(stream, u32::from(code[3])))
    }

    pub fn reaction(&self) -> Reaction {
        let code = |payload: &[u8]| u32::from_be_bytes(payload[payload.len() - 4..].try_into().expect("four bytes"));
        for (head, payload) in &self.said {
            match head.kind {
                Kind::GoAway => return Reaction::Connection(code(&payload[..8])),
                Kind::ResetStream => return Reaction::Stream(head.stream, code(payload)),
                _ => {}
            }
        }
        Reaction::None
    }
}
