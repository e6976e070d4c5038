//! One stream: what waits to be read as HTTP/1.1 text, what was promised to be sent, and who has ended what.
//!
//! Payload is kept as it came, and chunk framing is made while it is read. So a client that sends a byte per frame
//! makes us keep a byte per byte, and what is held never exceeds the window we gave.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::ErrorCode;
use crate::text::{Body, ChunkReader, WebSocketKey};

/// Names a stream for as long as its user has not closed it, and never another one after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
}

/// What [`crate::Connection::recv`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRecv {
    Bytes(usize),
    /// Nothing yet; a `Readable` event will come.
    Dry,
    /// The other side ended its message in good order and all of it was read.
    End,
    /// The stream was reset, by either side or with its connection.
    Reset(ErrorCode),
}

/// How far the other side's message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Final head awaited.
    Head,
    Body,
    Ended,
    Reset(ErrorCode),
}

/// How far our message has come.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// Final head awaited from the user.
    Head,
    Length(u64),
    Chunked(ChunkReader),
    /// Until `finish`: answers without a length, and tunnels.
    Open,
    Ended,
    /// Reset, by either side.
    Reset(ErrorCode),
    /// The other side has all it wants and we still hear the rest from our user: taken and dropped.
    Unwanted,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) serial: u32,
    /// Number on the wire; 0 until our HEADERS were sent.
    pub(crate) wire: u32,
    pub(crate) tag: u64,
    /// The user knows of it and will close it.
    pub(crate) told: bool,
    /// Over as far as HTTP/2 is concerned: no frame can concern it any more.
    pub(crate) closed: bool,
    pub(crate) readable_queued: bool,
    /// In the queue of those who wait to send.
    pub(crate) waiting: bool,
    /// Waits for its own window, so it is in no queue.
    pub(crate) parked: bool,
    /// It was told that it can go on, and has not yet.
    pub(crate) granted: bool,
    /// Our final head was sent.
    pub(crate) answered: bool,

    pub(crate) incoming: Incoming,
    pub(crate) body: Body,
    /// Payload that content-length still promises.
    pub(crate) promised: Option<u64>,
    pub(crate) inbox: Inbox,
    pub(crate) receive: ReceiveWindow,

    pub(crate) outgoing: Outgoing,
    pub(crate) send: SendWindow,
    /// Start of a head whose end the user has not written yet.
    pub(crate) head_part: Vec<u8>,
    pub(crate) is_head: bool,
    pub(crate) tunnel: bool,
    pub(crate) key: Option<WebSocketKey>,
}

impl Stream {
    pub(crate) fn new(serial: u32, receive: ReceiveWindow, send: SendWindow, inbox: Inbox) -> Stream {
        Stream {
            serial,
            wire: 0,
            tag: 0,
            told: false,
            closed: false,
            readable_queued: false,
            waiting: false,
            parked: false,
            granted: false,
            answered: false,
            incoming: Incoming::Head,
            body: Body::Empty,
            promised: None,
            inbox,
            receive,
            outgoing: Outgoing::Head,
            send,
            head_part: Vec::new(),
            is_head: false,
            tunnel: false,
            key: None,
        }
    }

    /// The other side's final head said how its body goes.
    pub(crate) fn body_is(&mut self, body: Body) {
        self.body = body;
        self.incoming = Incoming::Body;
        self.promised = match body {
            Body::Empty => Some(0),
            Body::Length(length) => Some(length),
            Body::Chunked | Body::UntilClose | Body::Tunnel => None,
        };
    }

    pub(crate) const fn incoming_over(&self) -> bool {
        matches!(self.incoming, Incoming::Ended | Incoming::Reset(_))
    }

    pub(crate) const fn outgoing_over(&self) -> bool {
        matches!(self.outgoing, Outgoing::Ended | Outgoing::Reset(_) | Outgoing::Unwanted)
    }

    /// Copies text into `into`; says how much of it, and how many bytes of payload were used for it.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> (usize, usize) {
        let ended = self.incoming == Incoming::Ended;
        self.inbox.read(into, self.body == Body::Chunked, ended)
    }

    /// Whether [`read`](Self::read) would give something.
    pub(crate) fn has_text(&self) -> bool {
        let ended = self.incoming == Incoming::Ended;
        self.inbox.has_text(self.body == Body::Chunked, ended)
    }
}

/// Received and not read by the user.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Heads as text, read up to `head_at`.
    pub(crate) head: Vec<u8>,
    head_at: usize,
    /// As it came in DATA, without chunk framing.
    pub(crate) payload: VecDeque<u8>,
    /// The end of a chunked body, when there are trailers.
    pub(crate) tail: Vec<u8>,
    tail_at: usize,
    end_given: bool,
    /// Payload left of the chunk whose size was already given.
    chunk: usize,
    edge: Edge,
}

impl Inbox {
    /// Empty, and worth being kept for the next stream.
    pub(crate) fn recycle(mut self) -> Option<Inbox> {
        // Larger ones are rare, and a connection that is done with them should not pay for them.
        const KEPT: usize = 16 * 1024;
        let used = self.head.capacity() + self.payload.capacity() > 0;
        if !used || self.head.capacity() > KEPT || self.payload.capacity() > 4 * KEPT {
            return None;
        }
        self.head.clear();
        self.payload.clear();
        Some(Inbox { head: self.head, payload: self.payload, ..Inbox::default() })
    }

    /// Bytes of heads that wait.
    pub(crate) fn head_bytes(&self) -> usize {
        self.head.len() - self.head_at
    }

    /// Bytes of memory its buffers take.
    pub(crate) fn footprint(&self) -> usize {
        self.head.capacity() + self.payload.capacity() + self.tail.capacity()
    }

    /// Forgets everything; says how much payload that was.
    pub(crate) fn discard(&mut self) -> usize {
        let payload = self.payload.len();
        *self = Inbox::default();
        payload
    }

    fn has_text(&self, chunked: bool, ended: bool) -> bool {
        self.head_at < self.head.len()
            || !self.payload.is_empty()
            || !self.edge.is_empty()
            || self.tail_at < self.tail.len()
            || chunked && ended && !self.end_given
    }

    fn read(&mut self, into: &mut [u8], chunked: bool, ended: bool) -> (usize, usize) {
        let (mut at, mut payload) = (0, 0);
        while at < into.len() {
            let space = &mut into[at..];
            if self.head_at < self.head.len() {
                at += copy(&self.head, &mut self.head_at, space);
                if self.head_at == self.head.len() {
                    self.head.clear();
                    self.head_at = 0;
                }
            } else if !self.edge.is_empty() {
                at += self.edge.read(space);
            } else if !self.payload.is_empty() {
                if chunked && self.chunk == 0 {
                    self.chunk = self.payload.len();
                    self.edge.write_size(self.chunk);
                    continue;
                }
                let wanted = if chunked { self.chunk } else { self.payload.len() };
                let length = wanted.min(space.len());
                let taken = take(&mut self.payload, &mut space[..length]);
                (at, payload) = (at + taken, payload + taken);
                if chunked {
                    self.chunk -= taken;
                    if self.chunk == 0 {
                        self.edge.write("\r\n");
                    }
                }
            } else if self.tail_at < self.tail.len() {
                at += copy(&self.tail, &mut self.tail_at, space);
            } else if chunked && ended && !self.end_given {
                self.end_given = true;
                if self.tail.is_empty() {
                    self.edge.write("0\r\n\r\n");
                }
            } else {
                break;
            }
        }
        (at, payload)
    }
}

fn copy(from: &[u8], at: &mut usize, into: &mut [u8]) -> usize {
    let length = into.len().min(from.len() - *at);
    into[..length].copy_from_slice(&from[*at..*at + length]);
    *at += length;
    length
}

/// Moves the front of `payload` into `into`, which is not longer.
fn take(payload: &mut VecDeque<u8>, into: &mut [u8]) -> usize {
    let length = into.len().min(payload.len());
    let (front, back) = payload.as_slices();
    let first = length.min(front.len());
    into[..first].copy_from_slice(&front[..first]);
    into[first..length].copy_from_slice(&back[..length - first]);
    payload.drain(..length);
    length
}

/// A few bytes of chunk framing that may be read one by one.
#[derive(Debug, Default)]
struct Edge {
    /// A size of 16 digits and two line ends are the most.
    bytes: [u8; 20],
    at: u8,
    end: u8,
}

impl Edge {
    const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    fn write(&mut self, text: &str) {
        let room = &mut self.bytes[usize::from(self.end)..];
        room[..text.len()].copy_from_slice(text.as_bytes());
        self.end += text.len() as u8;
    }

    fn write_size(&mut self, size: usize) {
        write!(self, "{size:x}\r\n").expect("18 bytes are enough for any size");
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let text = &self.bytes[usize::from(self.at)..usize::from(self.end)];
        let length = text.len().min(into.len());
        into[..length].copy_from_slice(&text[..length]);
        self.at += length as u8;
        if self.is_empty() {
            (self.at, self.end) = (0, 0);
        }
        length
    }
}

impl std::fmt::Write for Edge {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.write(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(head: &str, payload: &str, tail: &str) -> Inbox {
        Inbox {
            head: head.as_bytes().to_vec(),
            payload: payload.bytes().collect(),
            tail: tail.as_bytes().to_vec(),
            ..Inbox::default()
        }
    }

    fn all(mut inbox: Inbox, piece: usize, chunked: bool) -> (String, usize) {
        let (mut text, mut payload) = (Vec::new(), 0);
        let mut space = vec![0; piece];
        loop {
            let (read, used) = inbox.read(&mut space, chunked, true);
            if read == 0 {
                break;
            }
            text.extend_from_slice(&space[..read]);
            payload += used;
        }
        assert!(!inbox.has_text(chunked, true));
        (String::from_utf8(text).expect("text"), payload)
    }

    #[test]
    fn text_is_the_same_however_little_is_read_at_once() {
        let table = [
            (inbox as fn(&str, &str, &str) -> Inbox, "h\r\n\r\n", "0123456789abcdefg", "", true),
            (inbox, "h\r\n\r\n", "", "", true),
            (inbox, "h\r\n\r\n", "ab", "0\r\nx: y\r\n\r\n", true),
            (inbox, "h\r\n\r\n", "ab", "", false),
        ];
        let expected = [
            "h\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n",
            "h\r\n\r\n0\r\n\r\n",
            "h\r\n\r\n2\r\nab\r\n0\r\nx: y\r\n\r\n",
            "h\r\n\r\nab",
        ];
        for ((make, head, payload, tail, chunked), expected) in table.into_iter().zip(expected) {
            for piece in 1..60 {
                let (text, used) = all(make(head, payload, tail), piece, chunked);
                assert_eq!(text, expected, "in pieces of {piece}");
                assert_eq!(used, payload.len());
            }
        }
    }
}
