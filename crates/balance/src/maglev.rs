//! A lookup table from hash to member that barely changes when the members do.
//!
//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): every member walks the table in an order of
//! its own and takes the next free slot when it is its turn. Removing one of N moves its own 1/N of
//! the keys and very few others. A ring of points lost: for the same evenness it needs a thousand
//! points per backend and a search per pick.
//!
//! Weights as in Envoy: a member takes its turn in proportion to its weight. Turns go by key and not by
//! place in the config, so that every node and every order of lines makes the same table.

use evenkeel_model::limits;

use crate::candidates::Member;
use crate::hash::mix;

pub const SLOTS: u32 = limits::MAGLEV_TABLE.value as u32;

const FREE: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    /// Positions of members.
    slots: Box<[u32]>,
}

impl Table {
    /// # Panics
    /// When there is no member: nobody could fill the table.
    pub fn new(members: &[Member], weights: &[u32]) -> Self {
        assert!(!members.is_empty(), "a Maglev table needs a member");
        let mut walkers: Vec<Walker> = members
            .iter()
            .zip(weights)
            .enumerate()
            .map(|(position, (member, weight))| Walker::new(position as u32, member.key.0, *weight))
            .collect();
        walkers.sort_unstable_by_key(|walker| (walker.key, walker.position));
        let heaviest = u64::from(weights.iter().copied().max().unwrap_or(1));

        let mut slots = vec![FREE; SLOTS as usize].into_boxed_slice();
        let mut free = SLOTS;
        let mut round = 0;
        while free > 0 {
            round += 1;
            for walker in &mut walkers {
                if free > 0 && walker.is_due(round, heaviest) {
                    walker.take_slot(&mut slots);
                    free -= 1;
                }
            }
        }
        Table { slots }
    }

    /// The position that a hash belongs to.
    pub fn home(&self, hash: u64) -> u32 {
        self.slots[slot_of(hash)]
    }

    /// Positions from the slot of `hash` on, to the end of the table and around: the first is the
    /// home of the hash, those that follow stand in when it cannot be used.
    pub fn home_onwards(&self, hash: u64) -> impl Iterator<Item = u32> {
        let (before, after) = self.slots.split_at(slot_of(hash));
        after.iter().chain(before).copied()
    }
}

/// Multiply-and-shift instead of a remainder: no division.
const fn slot_of(hash: u64) -> usize {
    (((hash >> 32) * SLOTS as u64) >> 32) as usize
}

/// 65537 numbers tell a reader of a log nothing.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} slots)", self.slots.len())
    }
}

/// One member on its way through the table.
struct Walker {
    position: u32,
    key: u64,
    weight: u64,
    /// Turns taken, in units of the heaviest weight.
    spent: u64,
    next: u32,
    skip: u32,
}

impl Walker {
    fn new(position: u32, key: u64, weight: u32) -> Self {
        // Any skip from 1 to SLOTS - 1 reaches every slot, because SLOTS is prime.
        let next = (mix(key ^ 1) % u64::from(SLOTS)) as u32;
        let skip = (mix(key ^ 2) % u64::from(SLOTS - 1)) as u32 + 1;
        Walker { position, key, weight: u64::from(weight), spent: 0, next, skip }
    }

    /// The heaviest member is due in every round, one of half its weight in every second.
    fn is_due(&mut self, round: u64, heaviest: u64) -> bool {
        let due = round * self.weight >= self.spent;
        if due {
            self.spent += heaviest;
        }
        due
    }

    fn take_slot(&mut self, slots: &mut [u32]) {
        while slots[self.next as usize] != FREE {
            self.advance();
        }
        slots[self.next as usize] = self.position;
        self.advance();
    }

    fn advance(&mut self) {
        self.next = (self.next + self.skip) % SLOTS;
    }
}
