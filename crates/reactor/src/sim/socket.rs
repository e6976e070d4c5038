//! What one virtual socket remembers, and when it is ready.
//!
//! A connection is two of these, one for each end, alike for nodes, clients and backends.

use std::collections::VecDeque;
use std::net::SocketAddr;

use evenkeel_model::Instant;

use super::net::DriverId;
use crate::{Close, Errno, Event, Handshake, Token};

pub(super) struct Socket {
    pub owner: Owner,
    pub local: SocketAddr,
    pub opened_at: Instant,
    /// The owner has a handle; not so while a connection waits to be accepted.
    pub held: bool,
    /// Set when the owner let it go. The connection may live on: bytes and a FIN are still to be
    /// delivered, as in a kernel.
    pub closed: Option<(Close, Instant)>,
    /// Who is told of its readiness; `None` before `watch`.
    pub token: Option<Token>,
    /// It stands in its driver's list of sockets with news.
    pub queued: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Driver(DriverId),
    /// A client or backend that the test plays.
    Actor,
}

pub(super) enum Kind {
    Listener(Listener),
    Tcp(Box<Tcp>),
    Udp(Udp),
}

pub(super) struct Listener {
    pub backlog: usize,
    /// Connections not yet accepted.
    pub waiting: VecDeque<u32>,
    /// SYN+ACK was sent and the last ACK never came: what the application never saw.
    pub half_open: u64,
    /// Handshakes that were completed, accepted or not.
    pub completed: u64,
}

/// ```text
/// dialling side    Dialling ──SYN+ACK──> Answered ──ACK sent──> Established ──RST──> Dead
///                                        (at once, unless the ACK is withheld)
/// listening side   Greeted ──ACK──> Established ──RST──> Dead
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// SYN is out.
    Dialling,
    /// SYN+ACK is in, our ACK is withheld.
    Answered,
    /// SYN is in, the ACK is awaited.
    Greeted,
    Established,
    /// Refused, reset or given up.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fin {
    No,
    /// Waits behind the bytes that were sent before it.
    Queued,
    Sent,
}

/// Whether the test's end of a connection takes bytes as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Only when asked; also how a node's sockets read.
    Paused,
    Eager,
}

pub(super) struct Tcp {
    pub remote: SocketAddr,
    /// The other end; unknown until the SYN arrived.
    pub other: Option<u32>,
    /// The listener whose connection this is.
    pub listener: Option<u32>,
    pub phase: Phase,
    pub handshake: Handshake,
    /// Arrived and unread.
    pub inbox: VecDeque<u8>,
    pub window: usize,
    /// Sent by the owner, not on the way yet.
    pub outbox: VecDeque<u8>,
    /// On the way or arrived, not acknowledged.
    pub in_flight: usize,
    pub send_buffer: usize,
    /// `SO_ERROR`: told once, to whoever asks first.
    pub error: Option<Errno>,
    /// Why the connection never came to be. Told as often as it is asked.
    pub refusal: Option<Errno>,
    pub fin: Fin,
    pub saw_fin: bool,
    pub saw_reset: bool,
    /// The owner was told that it is full, so it is told when it no longer is (`SOCK_NOSPACE`).
    pub told_full: bool,
    /// A black hole: nothing leaves or arrives any more.
    pub lost: bool,
    /// When the last packet of ours arrives; the next one comes after it.
    pub last_arrival: Instant,
    pub reading: Reading,
    /// What an actor has read so far.
    pub received: Vec<u8>,
}

pub(super) struct Udp {
    /// `None` for a socket that hears everybody: a listener's, or a service of the test.
    pub remote: Option<SocketAddr>,
    pub inbox: VecDeque<Datagram>,
    pub error: Option<Errno>,
    /// The owner was told that it is full and waits to hear of room.
    pub room_wanted: bool,
}

impl Udp {
    pub fn new(remote: Option<SocketAddr>) -> Self {
        Udp { remote, inbox: VecDeque::new(), error: None, room_wanted: false }
    }
}

pub(super) struct Datagram {
    pub from: SocketAddr,
    /// The address it was sent to, of those the receiver listens at.
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Tcp {
    pub fn new(remote: SocketAddr, phase: Phase) -> Self {
        Tcp {
            remote,
            other: None,
            listener: None,
            phase,
            handshake: Handshake::Full,
            inbox: VecDeque::new(),
            window: usize::MAX,
            outbox: VecDeque::new(),
            in_flight: 0,
            send_buffer: usize::MAX,
            error: None,
            refusal: None,
            fin: Fin::No,
            saw_fin: false,
            saw_reset: false,
            told_full: false,
            lost: false,
            last_arrival: Instant::START,
            reading: Reading::Paused,
            received: Vec::new(),
        }
    }

    /// Bytes that `send` would take now.
    pub fn room(&self) -> usize {
        self.send_buffer - (self.outbox.len() + self.in_flight).min(self.send_buffer)
    }

    /// Linux calls a socket writable again only when a third of its buffer is free, so that a writer is
    /// not woken for every byte.
    pub fn is_writable(&self) -> bool {
        let used = self.outbox.len() + self.in_flight;
        self.room() > 0 && self.room() >= used / 2
    }

    fn readiness(&mut self) -> Readiness {
        if self.phase == Phase::Dialling {
            return Readiness::default();
        }
        let dead = self.phase == Phase::Dead;
        // Linux calls a socket writable whose sending side is shut: a write says `EPIPE` at once.
        let writable = dead || self.fin != Fin::No || self.is_writable();
        self.told_full |= !writable;
        let hangup = self.saw_fin || dead;
        Readiness { readable: !self.inbox.is_empty() || hangup, writable, hangup }
    }
}

#[derive(Clone, Copy, Default)]
struct Readiness {
    readable: bool,
    writable: bool,
    hangup: bool,
}

impl Socket {
    /// What an event of this socket says now; `None` when there is nothing to say. Asking has the
    /// side effect it has in Linux: a socket that was reported full will report room.
    pub fn event(&mut self) -> Option<Event> {
        let ready = match &mut self.kind {
            Kind::Listener(listener) => Readiness { readable: !listener.waiting.is_empty(), ..Readiness::default() },
            Kind::Tcp(tcp) => tcp.readiness(),
            Kind::Udp(udp) => {
                let failed = udp.error.is_some();
                let readable = !udp.inbox.is_empty() || failed;
                Readiness { readable, writable: udp.room_wanted || failed, hangup: failed }
            }
        };
        let Readiness { readable, writable, hangup } = ready;
        let token = self.token?;
        (readable || writable || hangup).then_some(Event { token, readable, writable, hangup })
    }
}
