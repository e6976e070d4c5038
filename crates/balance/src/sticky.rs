//! Whether a client stays with the backend its cookie names.
//!
//! The whole answer is [`choose`], a table without a gap: it is told where the backend stands now and says stay, wait or
//! move. It is also written out in `docs/reference/stickiness.md`, and a test holds the two together.
//!
//! Staying is worth more than evenness: what a client left at its backend (a basket, a login) is lost by a move. So it stays
//! with one that is drained for as long as the operator allows, with one of weight 0, with one that is slow to answer,
//! and waits for one that is at its limit. It is moved only when the backend cannot or must not serve it.

mod token;

use evenkeel_model::standing::{Order, Standing, Verdict};
use evenkeel_model::{BackendId, Instant};

use crate::hash::BackendKey;
pub use token::{Held, Sticky, TOKEN_LENGTH, Token};

/// A backend of the pool that is no candidate for new work, as far as stickiness cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bystander {
    pub backend: BackendId,
    pub key: BackendKey,
    pub why: Aside,
}

/// Why a backend is no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    Unhealthy,
    /// Set aside for what its traffic showed.
    Ejected,
    Maintained,
    /// Order `drain`; its sticky clients stay until then.
    Drained {
        until: Instant,
    },
    /// Weight 0 in the config or from the operator, or 0 % from its agent: no new clients, and no end for the old ones.
    NoWeight,
}

impl Aside {
    /// `None` for a candidate. `weight` is the configured one, `drained_until` is when the drain timeout ends, should the order in force be `drain`.
    pub fn of(standing: &Standing, weight: u32, drained_until: Instant) -> Option<Self> {
        // Weight 0 from the config, the operator or the agent means the same.
        let weight = standing.weight_given(weight).min(u32::from(standing.agent.percent));
        match (standing.order_in_force(), standing.verdict, weight) {
            (Order::Maintain, _, _) => Some(Aside::Maintained),
            (Order::Serve | Order::Drain, Verdict::Unhealthy, _) => Some(Aside::Unhealthy),
            (Order::Serve | Order::Drain, _, _) if standing.traffic.is_ejected() => Some(Aside::Ejected),
            (Order::Drain, Verdict::Unknown | Verdict::Healthy, _) => Some(Aside::Drained { until: drained_until }),
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, 0) => Some(Aside::NoWeight),
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, _) => None,
        }
    }
}

/// Where the backend that a client's cookie names stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Candidate,
    Aside(Aside),
    /// No backend of the pool has that address.
    Gone,
}

/// The backend a client wants to stay with, as one request finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub place: Place,
    pub tries: Tries,
    pub room: Room,
}

/// Whether this very request was sent there already, and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    None,
    Failed,
}

/// Whether its limit (`backend_limit`) leaves room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Left,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stick {
    /// Its backend takes it.
    Stay,
    /// Its backend will take it when it has room.
    Wait,
    /// The schedule picks another, and the cookie is set anew.
    Move(Moved),
}

/// Why a client could not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moved {
    Unhealthy,
    Ejected,
    Maintained,
    /// For longer than the drain timeout.
    Drained,
    Removed,
    /// It failed this request a moment ago.
    Failed,
}

impl Moved {
    pub const fn word(self) -> &'static str {
        match self {
            Moved::Unhealthy => "unhealthy",
            Moved::Ejected => "ejected",
            Moved::Maintained => "maintained",
            Moved::Drained => "drained",
            Moved::Removed => "removed",
            Moved::Failed => "failed",
        }
    }
}

/// A client without a cookie that could be read has no `Known`, and nothing to choose.
pub fn choose(known: Known, now: Instant) -> Stick {
    match known.place {
        Place::Gone => return Stick::Move(Moved::Removed),
        Place::Aside(Aside::Unhealthy) => return Stick::Move(Moved::Unhealthy),
        Place::Aside(Aside::Ejected) => return Stick::Move(Moved::Ejected),
        Place::Aside(Aside::Maintained) => return Stick::Move(Moved::Maintained),
        Place::Aside(Aside::Drained { until }) if until <= now => return Stick::Move(Moved::Drained),
        Place::Candidate | Place::Aside(Aside::Drained { .. } | Aside::NoWeight) => {}
    }
    match (known.tries, known.room) {
        (Tries::Failed, _) => Stick::Move(Moved::Failed),
        (Tries::None, Room::Full) => Stick::Wait,
        (Tries::None, Room::Left) => Stick::Stay,
    }
}
