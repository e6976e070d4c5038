//! One worker's place in one pool's schedule: everything that moves from pick to pick.
//!
//! The candidates are shared and never change; the picker remembers where in their order it is. When
//! it sees candidates of another shape it goes on from a place drawn by lot. Starting over at the
//! first member would send a burst to it at every flap, and carrying the old number over lets a
//! regular flap starve a member for ever; a drawn place gives everyone its share in the mean,
//! however often the candidates change.
//!
//! A retry draws among the members that were not tried and leaves the rotation where it is. If it took the
//! next turn, then in a pool of two with one of them dead every first attempt would
//! meet the dead one, instead of every second.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::IpAddr;

use evenkeel_model::BackendId;

use crate::candidates::{Candidates, Member, Prepared, Schedule, Shape};
use crate::draw::Lots;
use crate::hash;
use crate::in_flight::Load;
use crate::maglev::Table;

/// Lots drawn before a retry looks at every member. With one of two tried, 94 % end here.
const QUICK_DRAWS: u32 = 4;

/// Who asks, and whom it should not get.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub client: IpAddr,
    /// What `maglev`, `tuple` and `quic-cid` hash; the client's address where there is none.
    pub key: Option<u64>,
    /// In the order they were tried. None of them while there is another.
    pub tried: &'a [BackendId],
    /// None of them while there is another that was not tried.
    pub avoid: &'a [BackendId],
    /// None of them at all.
    pub full: &'a [BackendId],
}

impl Wanted<'static> {
    /// A first attempt on behalf of `client`.
    pub const fn first(client: IpAddr) -> Self {
        Wanted { client, key: None, tried: &[], avoid: &[], full: &[] }
    }
}

impl Wanted<'_> {
    /// Whether anybody will do.
    const fn is_open(&self) -> bool {
        self.tried.is_empty() && self.avoid.is_empty() && self.full.is_empty()
    }

    #[inline]
    fn hash(&self, schedule: Schedule) -> u64 {
        match self.key {
            Some(key) if schedule != Schedule::Source => key,
            Some(_) | None => hash::of_address(self.client),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Picker {
    lots: Lots,
    /// Shape of the candidates that `turn` and `due` belong to.
    shape: Option<Shape>,
    /// Next place in a rotation or sequence.
    turn: usize,
    /// Moment (in strides) and position of each member's next pick. Filled for long periods only.
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Picker {
    /// Give every worker another `seed`: equal ones would march in step and meet at one backend.
    pub fn new(seed: u64) -> Self {
        Picker { lots: Lots::new(seed), shape: None, turn: 0, due: BinaryHeap::new() }
    }

    /// A backend for one attempt; `None` only when every candidate is full, or there is none. When all others were
    /// tried already, the one tried longest ago.
    pub fn pick(
        &mut self,
        candidates: &Candidates,
        load: &(impl Load + ?Sized),
        wanted: &Wanted<'_>,
    ) -> Option<BackendId> {
        if candidates.is_empty() {
            return None;
        }
        if self.shape != Some(candidates.shape()) {
            self.start_anywhere(candidates);
        }
        let members = candidates.members();
        if wanted.is_open() {
            return Some(members[self.first_attempt(candidates, load, wanted)].backend);
        }
        self.pick_passing_over(candidates, load, wanted)
    }

    /// Apart from [`Picker::pick`], so that the common pick stays small.
    #[inline(never)]
    fn pick_passing_over(
        &mut self,
        candidates: &Candidates,
        load: &(impl Load + ?Sized),
        wanted: &Wanted<'_>,
    ) -> Option<BackendId> {
        let members = candidates.members();
        let is_open = |position: usize| {
            let backend = &members[position].backend;
            !wanted.tried.contains(backend) && !wanted.full.contains(backend)
        };
        let mut found = None;
        if !wanted.avoid.is_empty() {
            let is_welcome = |position: usize| is_open(position) && !wanted.avoid.contains(&members[position].backend);
            found = self.pick_where(candidates, load, wanted, is_welcome);
        }
        match found.or_else(|| self.pick_where(candidates, load, wanted, is_open)) {
            Some(position) => Some(members[position].backend),
            None => tried_longest_ago(members, wanted),
        }
    }

    fn first_attempt(&mut self, candidates: &Candidates, load: &(impl Load + ?Sized), wanted: &Wanted<'_>) -> usize {
        let members = candidates.members();
        match candidates.prepared() {
            Prepared::Rotation => self.take_turn(members.len()),
            Prepared::Sequence(sequence) => usize::from(sequence[self.take_turn(sequence.len())]),
            Prepared::Strides(strides) => self.take_due(strides),
            Prepared::Everyone => {
                self.least_loaded(members, load, |_| true).expect("there are candidates and anybody will do")
            }
            Prepared::EqualPair => {
                let count = members.len() as u32;
                let first = self.lots.below(count);
                // Any of the others: those behind the first move up by one.
                let second = self.lots.below(count - 1);
                let second = if count > 1 && second >= first { second + 1 } else { second };
                less_loaded(members, load, first as usize, second as usize)
            }
            Prepared::WeightedPair(sums) => {
                let (first, second) = self.draw_pair(sums);
                less_loaded(members, load, first, second)
            }
            Prepared::Hashed(table) => {
                let hash = wanted.hash(candidates.schedule());
                match Bounds::of(candidates, load) {
                    None => table.home(hash) as usize,
                    Some(bounds) => bounds.first_with_room(table, hash, members, load),
                }
            }
        }
    }

    /// One of those that `allowed` allows, if there is one.
    fn pick_where(
        &mut self,
        candidates: &Candidates,
        load: &(impl Load + ?Sized),
        wanted: &Wanted<'_>,
        allowed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let members = candidates.members();
        match candidates.prepared() {
            Prepared::Rotation | Prepared::Sequence(_) | Prepared::Strides(_) => self.draw_where(candidates, allowed),
            Prepared::Everyone => self.least_loaded(members, load, allowed),
            Prepared::EqualPair | Prepared::WeightedPair(_) => {
                let first = self.draw_where(candidates, &allowed)?;
                let second = self.draw_where(candidates, |position| position != first && allowed(position));
                Some(less_loaded(members, load, first, second.unwrap_or(first)))
            }
            Prepared::Hashed(table) => {
                let hash = wanted.hash(candidates.schedule());
                let first = |suits: &dyn Fn(usize) -> bool| {
                    // Looked for among the members first: a walk for nobody would go through the whole table.
                    let whoever = (0..members.len()).find(|position| suits(*position))?;
                    let mut onwards = table.home_onwards(hash).map(|position| position as usize);
                    // With more members than slots some are not on the table.
                    onwards.find(|position| suits(*position)).or(Some(whoever))
                };
                let bounds = Bounds::of(candidates, load);
                let in_bounds =
                    bounds.and_then(|bounds| first(&|at| allowed(at) && bounds.leave_room_at(&members[at], load)));
                in_bounds.or_else(|| first(&allowed))
            }
        }
    }

    /// Forgets its place and draws another, because the old one belongs to other candidates.
    fn start_anywhere(&mut self, candidates: &Candidates) {
        self.shape = Some(candidates.shape());
        self.due.clear();
        match candidates.prepared() {
            Prepared::Rotation => self.turn = self.lots.below(candidates.members().len() as u32) as usize,
            Prepared::Sequence(sequence) => self.turn = self.lots.below(sequence.len() as u32) as usize,
            // Each member at a drawn point of its own stride: the state a long run comes to, and
            // one in which a member is picked first with a likelihood in proportion to its weight.
            Prepared::Strides(strides) => {
                let lots = &mut self.lots;
                let phases = strides
                    .iter()
                    .zip(0..)
                    .map(|(stride, position)| Reverse((u64::from(lots.below(*stride)), position)));
                self.due.extend(phases);
            }
            Prepared::Everyone | Prepared::EqualPair | Prepared::WeightedPair(_) | Prepared::Hashed(_) => {}
        }
    }

    fn take_turn(&mut self, length: usize) -> usize {
        // Compared rather than trusted: the shape is a hash, and hashes can collide.
        let turn = if self.turn < length { self.turn } else { 0 };
        self.turn = turn + 1;
        turn
    }

    fn take_due(&mut self, strides: &[u32]) -> usize {
        let Some(mut next) = self.due.peek_mut() else { return 0 };
        let Reverse((moment, position)) = *next;
        let Some(stride) = strides.get(position as usize) else { return 0 };
        *next = Reverse((moment + u64::from(*stride), position));
        position as usize
    }

    /// Two different members drawn by weight, or the same twice when there is only one.
    fn draw_pair(&mut self, sums: &[u32]) -> (usize, usize) {
        let total = sums[sums.len() - 1];
        let first = place_of(self.lots.below(total), sums);
        let start = if first == 0 { 0 } else { sums[first - 1] };
        let width = sums[first] - start;
        if width == total {
            return (first, first);
        }
        // A lot among the others: from the start of the first on, its width is stepped over.
        let lot = self.lots.below(total - width);
        (first, place_of(if lot < start { lot } else { lot + width }, sums))
    }

    /// One of the allowed members, drawn by weight (by count where the schedule ignores weights).
    fn draw_where(&mut self, candidates: &Candidates, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        // Mostly few were tried, and a lot that falls to one of those is simply drawn again.
        for _ in 0..QUICK_DRAWS {
            match self.draw(candidates) {
                Some(position) if allowed(position) => return Some(position),
                Some(_) => {}
                None => break,
            }
        }
        let weights = || {
            let members = candidates.members().iter().enumerate().filter(|(position, _)| allowed(*position));
            members.map(|(position, member)| match candidates.schedule() {
                Schedule::Rr => (position, 1),
                _ => (position, member.weight),
            })
        };
        let total = weights().fold(0u32, |sum, (_, weight)| sum.saturating_add(weight));
        let mut lot = self.lots.below(total);
        let mut last = None;
        for (position, weight) in weights() {
            last = Some(position);
            match lot.checked_sub(weight) {
                Some(rest) => lot = rest,
                None => break,
            }
        }
        last
    }

    /// One member drawn by weight, where that takes no look at all of them.
    fn draw(&mut self, candidates: &Candidates) -> Option<usize> {
        match candidates.prepared() {
            Prepared::Rotation | Prepared::EqualPair => {
                Some(self.lots.below(candidates.members().len() as u32) as usize)
            }
            Prepared::Sequence(sequence) => {
                Some(usize::from(sequence[self.lots.below(sequence.len() as u32) as usize]))
            }
            Prepared::WeightedPair(sums) => Some(place_of(self.lots.below(sums[sums.len() - 1]), sums)),
            Prepared::Strides(_) | Prepared::Everyone | Prepared::Hashed(_) => None,
        }
    }

    /// Least in flight relative to weight; ties are drawn by weight, so that in a pool without load
    /// weights still count and the first member is not everybody's favourite.
    ///
    /// Looks at every member. Pools of many hundreds are better served by `p2c`.
    fn least_loaded(
        &mut self,
        members: &[Member],
        load: &(impl Load + ?Sized),
        allowed: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let allowed = || members.iter().enumerate().filter(|(position, _)| allowed(*position));
        let mut least: Option<(usize, Burden)> = None;
        let mut weight_of_ties = 0u32;
        for (position, member) in allowed() {
            let burden = Burden::of(member, load);
            match least.map_or(Ordering::Less, |(_, least)| burden.cmp(&least)) {
                Ordering::Less => {
                    least = Some((position, burden));
                    weight_of_ties = member.weight;
                }
                Ordering::Equal => weight_of_ties = weight_of_ties.saturating_add(member.weight),
                Ordering::Greater => {}
            }
        }
        let (first, least) = least?;
        let mut lot = self.lots.below(weight_of_ties);
        for (position, member) in allowed().skip_while(|(position, _)| *position < first) {
            if Burden::of(member, load).cmp(&least).is_eq() {
                match lot.checked_sub(member.weight) {
                    Some(rest) => lot = rest,
                    None => return Some(position),
                }
            }
        }
        Some(first)
    }
}

/// Work in flight relative to weight, compared without dividing.
#[derive(Clone, Copy)]
struct Burden {
    running: u32,
    weight: u32,
}

impl Burden {
    fn of(member: &Member, load: &(impl Load + ?Sized)) -> Self {
        Burden { running: load.in_flight(member.backend), weight: member.weight }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |one: &Burden, two: &Burden| u64::from(one.running) * u64::from(two.weight);
        cross(self, other).cmp(&cross(other, self))
    }
}

/// How much each member may have at most, where loads are bounded.
///
/// Reckoned with the piece of work that is about to be placed, and rounded up, so that in an idle pool nobody's
/// bound is 0 and there is always a member below its own.
struct Bounds {
    percent: u128,
    /// Pieces of work in flight on all members, and one more.
    total: u128,
    weights: u128,
}

impl Bounds {
    /// Looks at every member, as `wlc` does.
    fn of(candidates: &Candidates, load: &(impl Load + ?Sized)) -> Option<Self> {
        let percent = u128::from(candidates.bound()?);
        let members = candidates.members();
        let total = 1 + members.iter().map(|member| u128::from(load.in_flight(member.backend))).sum::<u128>();
        let weights = members.iter().map(|member| u128::from(member.weight)).sum();
        Some(Bounds { percent, total, weights })
    }

    /// From the home of `hash` on. Somebody is always below its bound.
    #[inline(never)]
    fn first_with_room(&self, table: &Table, hash: u64, members: &[Member], load: &(impl Load + ?Sized)) -> usize {
        let mut onwards = table.home_onwards(hash).map(|position| position as usize);
        let found = onwards.find(|position| self.leave_room_at(&members[*position], load));
        found.unwrap_or_else(|| table.home(hash) as usize)
    }

    fn leave_room_at(&self, member: &Member, load: &(impl Load + ?Sized)) -> bool {
        let most = (self.percent * self.total * u128::from(member.weight)).div_ceil(100 * self.weights);
        u128::from(load.in_flight(member.backend)) < most
    }
}

/// Position of the member that a lot below the sum of weights falls to.
fn place_of(lot: u32, sums: &[u32]) -> usize {
    sums.partition_point(|sum| *sum <= lot)
}

/// The first on a tie, because it was drawn by weight and the second only by what was left.
fn less_loaded(members: &[Member], load: &(impl Load + ?Sized), first: usize, second: usize) -> usize {
    let burden = |position: usize| Burden::of(&members[position], load);
    if first != second && burden(second).cmp(&burden(first)).is_lt() { second } else { first }
}

fn tried_longest_ago(members: &[Member], wanted: &Wanted<'_>) -> Option<BackendId> {
    let oldest_first = wanted.tried.iter().enumerate();
    let mut last_tries = oldest_first.filter(|(at, backend)| !wanted.tried[at + 1..].contains(backend));
    let may_come =
        |backend: BackendId| !wanted.full.contains(&backend) && members.iter().any(|member| member.backend == backend);
    last_tries.find(|(_, backend)| may_come(**backend)).map(|(_, backend)| *backend)
}
