//! The HTTP/2 connections of a worker: machines without sockets, and which of them have something to send.
//!
//! A carrier's bytes come and go by the client's or backend's connection that holds it. What its streams write is gathered
//! until the end of the worker's turn, so that many answers leave in one packet.

use evenkeel_h2::frame::ErrorCode;
use evenkeel_h2::{Close as Release, Connection, StreamId, StreamRecv};
use evenkeel_l4::{Arena, Key};
use evenkeel_model::Instant;
use evenkeel_reactor::{Close, Recv, Send, Token, errno};

/// One stream of a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub carrier: Key,
    pub stream: StreamId,
}

/// Whose connection carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Client(Key),
    Backend(Key),
}

pub(crate) struct Carrier {
    pub machine: Connection,
    pub holder: Holder,
    /// Who uses the streams.
    users: Vec<(StreamId, Token)>,
    touched: bool,
    /// Told to take no more streams.
    leaving: bool,
    /// Its connection has ended; what came whole is still read.
    cut_off: bool,
    /// Since when the rest of a head is awaited.
    pub head_since: Option<Instant>,
    /// Since when it has no stream.
    pub idle_since: Option<Instant>,
    /// When the other side last took bytes.
    pub moved: Instant,
}

impl Carrier {
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub fn users(&self) -> Vec<Token> {
        self.users.iter().map(|(_, user)| *user).collect()
    }
}

#[derive(Default)]
pub(crate) struct Carriers {
    all: Arena<Carrier>,
    touched: Vec<Key>,
    /// Where TLS puts what it decrypted, for the length of one read.
    pub plain: Vec<u8>,
}

impl Carriers {
    pub fn insert(&mut self, machine: Connection, holder: Holder) -> Key {
        let key = self.all.insert_with(|_| Carrier {
            machine,
            holder,
            users: Vec::new(),
            touched: false,
            leaving: false,
            cut_off: false,
            head_since: None,
            idle_since: None,
            moved: Instant::START,
        });
        self.touch(key);
        key
    }

    /// Takes the connection out; its streams fail from now on. Returns who used them.
    pub fn remove(&mut self, key: Key) -> Vec<Token> {
        let users = self.all.remove(key).map(|carrier| carrier.users).unwrap_or_default();
        users.into_iter().map(|(_, user)| user).collect()
    }

    /// The connection has ended. Its streams can be read as far as their messages came whole, and the last to be closed
    /// takes the carrier with it. Returns who uses them.
    pub fn cut_off(&mut self, key: Key) -> Vec<Token> {
        let Some(carrier) = self.all.get_mut(key) else { return Vec::new() };
        carrier.cut_off = true;
        carrier.machine.cut_off();
        let users = carrier.users();
        if users.is_empty() {
            self.all.remove(key);
        }
        users
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Carrier> {
        self.all.get_mut(key)
    }

    pub fn get(&self, key: Key) -> Option<&Carrier> {
        self.all.get(key)
    }

    /// From now on `user` is told of the stream's events.
    pub fn assign(&mut self, lane: Lane, user: Token) {
        if let Some(carrier) = self.all.get_mut(lane.carrier) {
            carrier.machine.set_tag(lane.stream, user.0);
            carrier.users.push((lane.stream, user));
        }
    }

    /// Opens a stream to a backend; `None` when the connection takes no more.
    pub fn open(&mut self, key: Key) -> Option<Lane> {
        let stream = self.all.get_mut(key)?.machine.open(0)?;
        Some(Lane { carrier: key, stream })
    }

    /// The connections that may have something to send, each once.
    pub fn take_touched(&mut self) -> Vec<Key> {
        let touched = std::mem::take(&mut self.touched);
        for &key in &touched {
            if let Some(carrier) = self.all.get_mut(key) {
                carrier.touched = false;
            }
        }
        touched
    }

    /// Gives the list back, so that its memory is used again.
    pub fn give_back(&mut self, mut list: Vec<Key>) {
        if self.touched.is_empty() {
            list.clear();
            self.touched = list;
        }
    }

    pub fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    pub fn touch(&mut self, key: Key) {
        if let Some(carrier) = self.all.get_mut(key)
            && !carrier.touched
        {
            carrier.touched = true;
            self.touched.push(key);
        }
    }

    /// Takes no more streams; ends when the last one has.
    pub fn go_away(&mut self, key: Key, now: Instant) {
        if let Some(carrier) = self.all.get_mut(key)
            && !carrier.leaving
        {
            carrier.leaving = true;
            carrier.machine.go_away(ErrorCode::NO_ERROR, now);
            self.touch(key);
        }
    }

    pub fn recv(&mut self, lane: Lane, into: &mut [u8]) -> Recv {
        let Some(carrier) = self.all.get_mut(lane.carrier) else { return Recv::Failed(errno::ECONNRESET) };
        let received = carrier.machine.recv(lane.stream, into);
        if matches!(received, StreamRecv::Bytes(_)) {
            // What was taken is credited to the sender.
            self.touch(lane.carrier);
        }
        told(received)
    }

    pub fn peek(&self, lane: Lane) -> Recv {
        match self.all.get(lane.carrier) {
            Some(carrier) if carrier.machine.is_readable(lane.stream) => Recv::Bytes(1),
            Some(_) => Recv::Dry,
            None => Recv::Failed(errno::ECONNRESET),
        }
    }

    pub fn send(&mut self, lane: Lane, parts: &[&[u8]]) -> Send {
        let Some(carrier) = self.all.get_mut(lane.carrier) else { return Send::Failed(errno::ECONNRESET) };
        let mut taken = 0;
        for part in parts {
            match carrier.machine.send(lane.stream, part) {
                Ok(bytes) => {
                    taken += bytes;
                    if bytes < part.len() {
                        break;
                    }
                }
                Err(_) => return Send::Failed(errno::ECONNRESET),
            }
        }
        self.touch(lane.carrier);
        Send::Taken(taken)
    }

    pub fn finish(&mut self, lane: Lane) {
        if let Some(carrier) = self.all.get_mut(lane.carrier) {
            carrier.machine.finish(lane.stream);
            self.touch(lane.carrier);
        }
    }

    pub fn close(&mut self, lane: Lane, how: Close) {
        let Some(carrier) = self.all.get_mut(lane.carrier) else { return };
        let release = match how {
            Close::Orderly => Release::Orderly,
            Close::Reset | Close::Silent => Release::Cut,
        };
        carrier.machine.close(lane.stream, release);
        if let Some(position) = carrier.users.iter().position(|(stream, _)| *stream == lane.stream) {
            carrier.users.swap_remove(position);
        }
        if carrier.cut_off && carrier.users.is_empty() {
            self.all.remove(lane.carrier);
            return;
        }
        self.touch(lane.carrier);
    }
}

fn told(received: StreamRecv) -> Recv {
    match received {
        StreamRecv::Bytes(bytes) => Recv::Bytes(bytes),
        StreamRecv::Dry => Recv::Dry,
        StreamRecv::End => Recv::End,
        StreamRecv::Reset(_) => Recv::Failed(errno::ECONNRESET),
    }
}
