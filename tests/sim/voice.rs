//! What a peer speaks over, so that its script is the same whatever that is: a connection of its own, plain or inside TLS,
//! or one stream of an HTTP/2 connection.

use std::net::SocketAddr;

use evenkeel_h2::Close;
use evenkeel_reactor::Errno;

use crate::line::Line;
use crate::trunk::Stream;

pub enum Voice {
    Line(Line),
    Stream(Stream),
}

impl Voice {
    pub fn is_stream(&self) -> bool {
        matches!(self, Voice::Stream(_))
    }

    pub fn connected(&self) -> Option<Result<(), Errno>> {
        match self {
            Voice::Line(line) => line.end().connected(),
            Voice::Stream(stream) => stream.trunk.borrow().line.end().connected(),
        }
    }

    pub fn local(&self) -> SocketAddr {
        match self {
            Voice::Line(line) => line.end().local(),
            Voice::Stream(stream) => stream.trunk.borrow().line.end().local(),
        }
    }

    /// The stream cannot be opened any more.
    pub fn is_turned_away(&self) -> bool {
        matches!(self, Voice::Stream(stream) if stream.turned_away)
    }

    /// Whether the node still holds its end.
    pub fn is_held(&self) -> bool {
        match self {
            Voice::Line(line) => line.end().other_side_is_open(),
            Voice::Stream(stream) => stream.trunk.borrow().is_held(),
        }
    }

    pub fn has_received(&mut self) -> bool {
        match self {
            Voice::Line(line) => line.has_received(),
            Voice::Stream(stream) => stream.has_received(),
        }
    }

    pub fn take(&mut self) -> Vec<u8> {
        match self {
            Voice::Line(line) => line.take(),
            Voice::Stream(stream) => stream.take(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match self {
            Voice::Line(line) => line.send(bytes),
            Voice::Stream(stream) => stream.send(bytes),
        }
    }

    /// Whether something waits here that the other side does not take yet. What a connection was given is the network's.
    pub fn owes(&self) -> bool {
        matches!(self, Voice::Stream(stream) if stream.owes())
    }

    pub fn finish(&mut self) {
        match self {
            Voice::Line(line) => line.finish(),
            Voice::Stream(stream) => stream.finish(),
        }
    }

    pub fn close(&mut self) {
        match self {
            Voice::Line(line) => line.close(),
            Voice::Stream(stream) => stream.close(Close::Orderly),
        }
    }

    pub fn reset(&mut self) {
        match self {
            Voice::Line(line) => line.reset(),
            Voice::Stream(stream) => stream.close(Close::Cut),
        }
    }

    pub fn saw_fin(&mut self) -> bool {
        match self {
            Voice::Line(line) => line.saw_fin(),
            Voice::Stream(stream) => stream.saw_fin(),
        }
    }

    pub fn saw_reset(&mut self) -> bool {
        match self {
            Voice::Line(line) => line.saw_reset(),
            Voice::Stream(stream) => stream.saw_reset(),
        }
    }

    pub fn pause_reading(&mut self) {
        match self {
            Voice::Line(line) => line.end().pause_reading(),
            Voice::Stream(stream) => stream.pause_reading(),
        }
    }

    pub fn resume_reading(&mut self) {
        match self {
            Voice::Line(line) => line.end().resume_reading(),
            Voice::Stream(stream) => stream.resume_reading(),
        }
    }
}
