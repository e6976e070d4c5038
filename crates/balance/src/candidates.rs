//! The backends of a pool that may receive new work now, with what their schedule needs precomputed.
//!
//! Built by the one writer when a verdict, order or plan changes, then shared read-only by all
//! workers; everything that moves per pick lives in each worker's picker.

use evenkeel_model::BackendId;

/// How a pool picks (SPEC 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Smooth weighted round robin.
    #[default]
    Wrr,
    /// Plain round robin, weights ignored (0 still means none).
    Rr,
    /// Least work in flight relative to weight.
    Wlc,
    /// The less loaded of two drawn by weight.
    P2c,
    /// Consistent hash of the client's address.
    Source,
}

impl Schedule {
    pub const ALL: [Schedule; 5] = [Schedule::Wrr, Schedule::Rr, Schedule::Wlc, Schedule::P2c, Schedule::Source];

    pub const fn word(self) -> &'static str {
        match self {
            Schedule::Wrr => "wrr",
            Schedule::Rr => "rr",
            Schedule::Wlc => "wlc",
            Schedule::P2c => "p2c",
            Schedule::Source => "source",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub backend: BackendId,
    /// Effective weight, above 0.
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    schedule: Schedule,
    members: Vec<Member>,
}

impl Candidates {
    /// Members with weight 0 are left out.
    pub fn new(schedule: Schedule, members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().filter(|member| member.weight > 0).collect();
        Candidates { schedule, members }
    }

    pub const fn schedule(&self) -> Schedule {
        self.schedule
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
