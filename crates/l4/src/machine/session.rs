//! One UDP session: how long it lives, when it is over and why, and when its client moves to another backend.
//!
//! ```text
//!   taking ──`requests` datagrams came──► taken up
//!     │  ▲                                   │   the client's next datagram begins a new session
//!     │  └─ moved: the verdict of its        │
//!     │     backend fell, or its backend     │
//!     │     left the plan long enough ago    │
//!     ▼                                      ▼
//!    over: every answer came · idle · lifetime · refused by the backend's host · ended by order
//! ```
//!
//! UDP has no goodbye, so a session ends when nobody spoke for a while, or when it is known that nobody will: `responses`
//! says how many datagrams answer one of the client's. nginx counts the same way, so its users' numbers mean the same here.
//!
//! It holds no datagram. One that cannot be sent at once is lost, as it would be in any router on the way; a queue here
//! would only deliver late what the client has already sent again.

use std::time::Duration;

use evenkeel_model::exchange::{Datagrams, Detail};
use evenkeel_model::{Cause, Instant, Phase};
use evenkeel_plan::Listener;

/// What the listener says of its sessions; a session keeps what it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub idle_timeout: Duration,
    pub lifetime: Option<Duration>,
    pub requests: Option<u32>,
    pub responses: Option<u32>,
}

impl Terms {
    pub fn of(listener: &Listener) -> Self {
        Terms {
            idle_timeout: listener.idle_timeout,
            lifetime: listener.lifetime,
            requests: listener.datagrams.requests,
            responses: listener.datagrams.responses,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Session {
    terms: Terms,
    started: Instant,
    /// When a datagram came last, of either side.
    last: Instant,
    datagrams: Datagrams,
    bytes_in: u64,
    bytes_out: u64,
    /// Answers that are still to come.
    due: u64,
    /// The backend of now has said something.
    heard: bool,
    /// When the client's next datagram goes to another backend, and why.
    moves: Option<(Instant, Moves)>,
}

/// Why a session goes to another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    Unhealthy,
    Removed,
}

/// What a new snapshot says of a session's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It keeps its sessions: healthy or unknown, and under any order. A drain ends nothing.
    Serving,
    Unhealthy,
    /// No longer in the pool, so that nobody probes it any more. Its sessions may stay for `grace`.
    Removed {
        grace: Duration,
    },
}

/// What the network said of a datagram for the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Its host: nobody listens on that port.
    Port,
    /// A router or a firewall.
    Unreachable,
}

/// How a session ended. Without a cause it went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub cause: Option<Cause>,
    pub phase: Option<Phase>,
    pub detail: Option<Detail>,
}

impl Over {
    const WELL: Over = Over { cause: None, phase: None, detail: None };

    const fn with(cause: Cause, phase: Phase, detail: Option<Detail>) -> Self {
        Over { cause: Some(cause), phase: Some(phase), detail }
    }
}

impl Session {
    pub fn new(terms: Terms, now: Instant) -> Self {
        Session {
            terms,
            started: now,
            last: now,
            datagrams: Datagrams::default(),
            bytes_in: 0,
            bytes_out: 0,
            due: 0,
            heard: false,
            moves: None,
        }
    }

    /// Datagrams of the client that it takes yet.
    pub fn room(&self) -> u64 {
        self.terms.requests.map_or(u64::MAX, |most| u64::from(most).saturating_sub(self.datagrams.received))
    }

    /// Whether the client's next datagram begins a new session. This one goes on for its answers.
    pub fn is_taken_up(&self) -> bool {
        self.room() == 0
    }

    /// Datagrams of the client came for it, [`Session::room`] of them at most.
    pub fn received(&mut self, datagrams: u64, bytes: u64, now: Instant) {
        self.last = now;
        self.datagrams.received += datagrams;
        self.bytes_in += bytes;
        self.due += datagrams * u64::from(self.terms.responses.unwrap_or(0));
    }

    /// Datagrams of the backend came. Those that nobody waited for pay for no later ones.
    pub fn answered(&mut self, datagrams: u64, bytes: u64, now: Instant) {
        self.last = now;
        self.heard = true;
        self.datagrams.sent += datagrams;
        self.bytes_out += bytes;
        self.due = self.due.saturating_sub(datagrams);
    }

    /// Whether it is over because nothing is to come. Asked after datagrams were passed on.
    pub fn poll_over(&self) -> Option<Over> {
        let expects = self.terms.responses.is_some();
        // Where `requests` is set as well the client has as many, however soon the first ones were answered.
        let asked_all = self.terms.requests.is_none() || self.is_taken_up();
        (expects && asked_all && self.due == 0 && self.datagrams.received > 0).then_some(Over::WELL)
    }

    /// A new snapshot was looked at for the backend of this session.
    pub fn backend_seen(&mut self, seen: Seen, now: Instant) {
        self.moves = match (seen, self.moves) {
            (Seen::Serving, _) => None,
            (Seen::Unhealthy, _) => Some((now, Moves::Unhealthy)),
            // The grace runs from the first look, not from each.
            (Seen::Removed { .. }, Some((at, Moves::Removed))) => Some((at, Moves::Removed)),
            (Seen::Removed { grace }, _) => Some((now + grace, Moves::Removed)),
        };
    }

    /// Whether the client's next datagram goes to another backend.
    pub fn must_move(&self, now: Instant) -> Option<Moves> {
        self.moves.filter(|(at, _)| *at <= now).map(|(_, why)| why)
    }

    /// It has another backend. What the one before owes will not come.
    pub fn moved(&mut self) {
        self.moves = None;
        self.due = 0;
        self.heard = false;
    }

    /// A datagram met a refusal instead of the backend.
    pub fn refused(&self, icmp: Icmp, errno: i32) -> Over {
        let cause = match icmp {
            Icmp::Port => Cause::BackendConnectRefused,
            Icmp::Unreachable => Cause::BackendUnreachable,
        };
        Over::with(cause, self.phase(), Some(Detail::Errno(errno)))
    }

    /// There is no backend to move to.
    pub const fn stranded(cause: Cause, detail: Detail) -> Over {
        Over::with(cause, Phase::Pick, Some(detail))
    }

    /// The pool wants sessions of an unhealthy backend ended (`on_unhealthy`).
    pub const fn reset() -> Over {
        Over::with(Cause::BackendTurnedUnhealthy, Phase::Relay, None)
    }

    /// The drain deadline has passed.
    pub fn drained(&self) -> Over {
        Over::with(Cause::BalancerDraining, self.phase(), None)
    }

    /// When [`Session::handle_timeout`] has something to say.
    pub fn poll_timeout(&self) -> Instant {
        let idle = self.last + self.terms.idle_timeout;
        self.terms.lifetime.map_or(idle, |lifetime| idle.min(self.started + lifetime))
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Over> {
        if let Some(lifetime) = self.terms.lifetime
            && now >= self.started + lifetime
        {
            return Some(Over::with(Cause::RelayLifetimeOver, self.phase(), Some(Detail::Timeout(lifetime))));
        }
        let timeout = self.terms.idle_timeout;
        if now < self.last + timeout {
            return None;
        }
        if self.due == 0 {
            // Nobody had anything to say any more: how a session that nothing else ends is meant to end.
            return Some(Over::WELL);
        }
        Some(Over::with(Cause::BackendNoReply, self.phase(), Some(Detail::Timeout(timeout))))
    }

    pub const fn datagrams(&self) -> Datagrams {
        self.datagrams
    }

    pub const fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    pub const fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Whether the backend of now has answered.
    pub const fn is_heard(&self) -> bool {
        self.heard
    }

    const fn phase(&self) -> Phase {
        if self.heard { Phase::Relay } else { Phase::Connect }
    }
}

#[cfg(test)]
mod tests;
