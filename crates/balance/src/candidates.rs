//! The backends of a pool that may receive new work now, with what their schedule needs precomputed.
//!
//! Built by the one writer when a verdict, order or plan changes, then shared read-only by all
//! workers; everything that moves per pick lives in each worker's [`crate::Picker`].

use std::net::SocketAddr;

use evenkeel_model::BackendId;

use crate::hash::{BackendKey, mix};
use crate::maglev::Table;
use crate::sticky::{Bystander, Place};
use crate::wrr;

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
    /// Consistent hash of a key chosen in the config: a header, a cookie, the URI. The client's address where a
    /// request has none.
    Maglev,
    /// Consistent hash of the client's address and port and the listener's: the connections of one client are spread.
    Tuple,
    /// For QUIC over a udp listener: by the connection id the client sends, see [`crate::quic`].
    QuicCid,
}

impl Schedule {
    pub const ALL: [Schedule; 8] = [
        Schedule::Wrr,
        Schedule::Rr,
        Schedule::Wlc,
        Schedule::P2c,
        Schedule::Source,
        Schedule::Maglev,
        Schedule::Tuple,
        Schedule::QuicCid,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Schedule::Wrr => "wrr",
            Schedule::Rr => "rr",
            Schedule::Wlc => "wlc",
            Schedule::P2c => "p2c",
            Schedule::Source => "source",
            Schedule::Maglev => "maglev",
            Schedule::Tuple => "tuple",
            Schedule::QuicCid => "quic-cid",
        }
    }

    /// Whether a key, and not turn or load, says where work goes.
    pub const fn is_hashed(self) -> bool {
        match self {
            Schedule::Source | Schedule::Maglev | Schedule::Tuple | Schedule::QuicCid => true,
            Schedule::Wrr | Schedule::Rr | Schedule::Wlc | Schedule::P2c => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub backend: BackendId,
    /// What hash schedules know it by, the same in every plan and on every node.
    pub key: BackendKey,
    /// Effective weight, above 0.
    pub weight: u32,
}

impl Member {
    pub fn new(backend: BackendId, address: SocketAddr, weight: u32) -> Self {
        Member { backend, key: BackendKey::of(address), weight }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    schedule: Schedule,
    members: Vec<Member>,
    prepared: Prepared,
    shape: Shape,
    /// Percent of the mean load, see [`Candidates::with_bounded_load`].
    bound: Option<u32>,
    bystanders: Vec<Bystander>,
}

/// What a pick needs at hand, by schedule. Positions are those of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// One after the other: `rr`, and `wrr` with equal weights.
    Rotation,
    /// `wrr` with a short period: the smooth order itself.
    Sequence(Box<[u16]>),
    /// `wrr` with a long period: how far apart the picks of each member are.
    Strides(Box<[u32]>),
    /// `wlc` looks at every member.
    Everyone,
    /// `p2c` with equal weights.
    EqualPair,
    /// `p2c`: sums of the weights up to and including each member.
    WeightedPair(Box<[u32]>),
    /// The hash schedules.
    Hashed(Table),
}

/// Tells a picker whether its position still means anything: equal for equal keys and weights in
/// the same order, whatever the plan numbers the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(u64);

impl Candidates {
    /// Members with weight 0 are left out.
    pub fn new(schedule: Schedule, members: impl IntoIterator<Item = Member>) -> Self {
        let members: Vec<Member> = members.into_iter().filter(|member| member.weight > 0).collect();
        let prepared = prepare(schedule, &members);
        let shape = Shape::of(schedule, &members);
        Candidates { schedule, members, prepared, shape, bound: None, bystanders: Vec::new() }
    }

    /// Hash schedules pass over a member that has `percent` of its share of the load or more (Mirrokni, Thorup,
    /// Zadimoghaddam 2016, "Consistent hashing with bounded loads"; HAProxy's `hash-balance-factor`). Others take
    /// no notice.
    #[must_use]
    pub fn with_bounded_load(mut self, percent: Option<u32>) -> Self {
        // Below the mean there would be loads that nobody may take.
        self.bound = percent.filter(|_| self.schedule.is_hashed()).map(|percent| percent.max(100));
        self
    }

    /// Backends that are no candidates, and why: a sticky client of theirs may still be let through.
    #[must_use]
    pub fn with_bystanders(mut self, bystanders: Vec<Bystander>) -> Self {
        self.bystanders = bystanders;
        self
    }

    /// Who is known by `key`, and where it stands.
    pub fn find(&self, key: BackendKey) -> Option<(BackendId, Place)> {
        let member = self.members.iter().find(|member| member.key == key);
        let candidate = member.map(|member| (member.backend, Place::Candidate));
        let bystander = || self.bystanders.iter().find(|bystander| bystander.key == key);
        candidate.or_else(|| bystander().map(|bystander| (bystander.backend, Place::Aside(bystander.why))))
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

    pub(crate) const fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(crate) const fn bound(&self) -> Option<u32> {
        self.bound
    }

    pub(crate) const fn shape(&self) -> Shape {
        self.shape
    }
}

impl Shape {
    fn of(schedule: Schedule, members: &[Member]) -> Self {
        let start = mix(schedule as u64);
        Shape(members.iter().fold(start, |hash, member| mix(mix(hash ^ member.key.0) ^ u64::from(member.weight))))
    }
}

fn prepare(schedule: Schedule, members: &[Member]) -> Prepared {
    let weights = || reduced(members.iter().map(|member| member.weight).collect());
    let equal = members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    match schedule {
        Schedule::Rr => Prepared::Rotation,
        Schedule::Wrr if equal => Prepared::Rotation,
        Schedule::Wrr => {
            let weights = weights();
            match wrr::smooth_sequence(&weights) {
                Some(sequence) => Prepared::Sequence(sequence),
                None => Prepared::Strides(wrr::strides(&weights)),
            }
        }
        Schedule::Wlc => Prepared::Everyone,
        Schedule::P2c if equal => Prepared::EqualPair,
        Schedule::P2c => {
            let sums = weights().into_iter().scan(0u32, |sum, weight| {
                *sum += weight;
                Some(*sum)
            });
            Prepared::WeightedPair(sums.collect())
        }
        Schedule::Source | Schedule::Maglev | Schedule::Tuple | Schedule::QuicCid if members.is_empty() => {
            Prepared::Rotation
        }
        Schedule::Source | Schedule::Maglev | Schedule::Tuple | Schedule::QuicCid => {
            Prepared::Hashed(Table::new(members, &weights()))
        }
    }
}

/// The same proportions in smaller numbers, so that sums of them fit in 32 bits. Exact for all
/// weights a config can hold; only absurdly large ones lose their last bits.
fn reduced(mut weights: Vec<u32>) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| greatest_common_divisor(a, *b)).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    // 2^30 leaves room for the ones that are rounded up from nothing.
    let shift = (64 - total.leading_zeros()).saturating_sub(30).min(31);
    for weight in &mut weights {
        *weight = ((*weight / divisor) >> shift).max(1);
    }
    weights
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_without_weight_are_no_candidates() {
        let address = "10.0.0.1:80".parse().unwrap();
        for schedule in Schedule::ALL {
            let candidates = Candidates::new(schedule, [Member::new(BackendId(0), address, 0)]);
            assert!(candidates.is_empty(), "{schedule:?}");
        }
    }

    #[test]
    fn reduced_weights_keep_their_proportions_and_never_vanish() {
        assert_eq!(reduced(vec![100, 50, 25]), [4, 2, 1]);
        assert_eq!(reduced(vec![7]), [1]);
        assert_eq!(reduced(vec![]), Vec::<u32>::new());
        let huge = reduced(vec![u32::MAX, u32::MAX - 1, 1]);
        assert_eq!(huge[2], 1);
        assert!(huge.iter().map(|weight| u64::from(*weight)).sum::<u64>() < u64::from(u32::MAX));
    }

    #[test]
    fn the_shape_follows_addresses_and_weights_and_not_ids() {
        let member = |id, port, weight| Member::new(BackendId(id), SocketAddr::from(([10, 0, 0, 1], port)), weight);
        let shape = |members: [Member; 2]| Candidates::new(Schedule::Wrr, members).shape();
        let before = shape([member(0, 80, 1), member(1, 81, 1)]);
        assert_eq!(shape([member(5, 80, 1), member(6, 81, 1)]), before);
        assert_ne!(shape([member(0, 80, 1), member(1, 81, 2)]), before);
        assert_ne!(shape([member(0, 80, 1), member(1, 82, 1)]), before);
    }
}
