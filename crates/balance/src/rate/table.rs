//! What is remembered of each client, by its address cut to a prefix.
//!
//! Bounded, whatever addresses an attacker has. A client that has rested long enough is the same as one never seen, so
//! its entry may go; that is looked for only when a shard is full, and at most once a second.
//!
//! When a table is full of clients that are all busy, a new one is let through uncounted. Refusing it would lock
//! honest newcomers out for as long as the attack lasts, and a limit per client is no help against a million clients anyway: the
//! listener's own limit is, and it needs no table. HAProxy's stick tables do the same; nginx refuses.
//!
//! Sharded, so that workers seldom meet at a lock. Hashed with a seed that nobody outside knows, because whoever
//! has a whole IPv6 prefix could otherwise choose addresses that fall into one bucket.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_model::{Instant, limits};

use super::Gcra;
use crate::hash::mix;

const SHARDS: usize = 64;
const SWEEP_AFTER: Duration = Duration::from_secs(1);

type Map<V> = HashMap<u128, V, Seeded>;

/// The rate of each client over all workers.
#[derive(Debug)]
pub struct RateTable {
    seed: u64,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug)]
struct Shard {
    entries_max: usize,
    /// Theoretical arrival times.
    clients: Map<u64>,
    /// Not before then is it worth looking for clients that may be forgotten.
    sweep: Instant,
}

impl RateTable {
    pub fn new(seed: u64) -> Self {
        RateTable::with_room_for(limits::RATE_CLIENTS.value as usize, seed)
    }

    fn with_room_for(clients: usize, seed: u64) -> Self {
        let entries_max = clients / SHARDS;
        let shard = || Shard { entries_max, clients: HashMap::with_hasher(Seeded(seed)), sweep: Instant::START };
        RateTable { seed, shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    /// Lets one more of `client` through, or not.
    #[must_use]
    pub fn allow(&self, client: u128, gcra: Gcra, now: Instant) -> bool {
        let mut shard = locked(&self.shards[shard_of(self.seed, client, SHARDS)]);
        if let Some(tat) = shard.clients.get_mut(&client) {
            return gcra.allow(tat, now);
        }
        let mut tat = 0;
        if shard.has_room(now) && gcra.allow(&mut tat, now) {
            shard.clients.insert(client, tat);
        }
        true
    }

    /// Clients remembered now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).clients.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    /// Whether one more client can be remembered, if need be after forgetting those that have rested.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.clients.len() < self.entries_max {
            return true;
        }
        if now >= self.sweep {
            self.clients.retain(|_, tat| *tat > now.as_nanos());
            self.sweep = now + SWEEP_AFTER;
        }
        self.clients.len() < self.entries_max
    }
}

/// How many of each client there are at once over all workers. A client is in it while it has at least one, so the node's
/// own limit of connections bounds it.
#[derive(Debug)]
pub struct ConcurrencyTable {
    seed: u64,
    shards: Box<[Mutex<Map<u32>>]>,
}

impl ConcurrencyTable {
    pub fn new(seed: u64) -> Self {
        let shard = || Mutex::new(HashMap::with_hasher(Seeded(seed)));
        ConcurrencyTable { seed, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// Counts one more of `client` in, unless it has `limit` already. Each one counted in must be counted out with
    /// [`ConcurrencyTable::leave`].
    #[must_use = "who was counted in must be counted out"]
    pub fn enter(&self, client: u128, limit: u32) -> bool {
        let mut shard = locked(&self.shards[shard_of(self.seed, client, SHARDS)]);
        match shard.entry(client) {
            Entry::Occupied(mut counted) if *counted.get() < limit => *counted.get_mut() += 1,
            Entry::Vacant(entry) if limit > 0 => {
                entry.insert(1);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => return false,
        }
        true
    }

    pub fn leave(&self, client: u128) {
        let mut shard = locked(&self.shards[shard_of(self.seed, client, SHARDS)]);
        if let Entry::Occupied(mut counted) = shard.entry(client) {
            match counted.get() {
                0 | 1 => drop(counted.remove()),
                _ => *counted.get_mut() -= 1,
            }
        }
    }

    /// Clients counted now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A thread that panicked in between has left a count that is at most one off.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By other bits than those by which the map of a shard places its entries.
pub(crate) fn shard_of(seed: u64, client: u128, shards: usize) -> usize {
    (Seeded(seed.rotate_left(32)).hash_one(client) >> 32) as usize % shards
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(mix(self.0))
    }
}

pub(crate) struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn write_u128(&mut self, client: u128) {
        self.0 = mix(mix(self.0 ^ (client >> 64) as u64) ^ client as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = mix(self.0 ^ crate::hash::of_bytes(bytes));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn one_client_over_its_rate_takes_nothing_from_another() {
        let table = RateTable::new(7);
        let gcra = Gcra::new(1, 2);
        assert_eq!([(); 3].map(|()| table.allow(1, gcra, at(0))), [true, true, false]);
        assert_eq!([(); 3].map(|()| table.allow(2, gcra, at(0))), [true, true, false]);
        assert!(table.allow(1, gcra, at(1000)));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_full_table_stays_bounded_and_lets_newcomers_through() {
        const ROOM: usize = 6400;
        let table = RateTable::with_room_for(ROOM, 1);
        let gcra = Gcra::new(1, 1);
        let clients = 2 * ROOM as u128;
        for client in 0..clients {
            assert!(table.allow(client, gcra, at(0)));
        }
        assert_eq!(table.len(), ROOM);
        // Those remembered are still held to their rate; newcomers come through.
        let held = (0..clients).filter(|client| !table.allow(*client, gcra, at(500))).count();
        assert_eq!(held, ROOM);
        // When all have rested, they are forgotten for new ones.
        assert!(table.allow(u128::MAX, gcra, at(2000)));
        assert!(!table.allow(u128::MAX, gcra, at(2000)), "the newcomer was not remembered");
        assert!(table.len() < ROOM);
    }

    #[test]
    fn who_has_left_is_forgotten_and_who_is_at_its_limit_is_told() {
        let table = ConcurrencyTable::new(3);
        assert_eq!([(); 3].map(|()| table.enter(9, 2)), [true, true, false]);
        assert!(table.enter(10, 2) && !table.enter(11, 0));
        table.leave(9);
        assert!(table.enter(9, 2));
        table.leave(9);
        table.leave(9);
        table.leave(10);
        assert!(table.is_empty());
    }

    #[test]
    fn neighbouring_addresses_are_spread_over_the_shards() {
        let table = ConcurrencyTable::new(5);
        for low in 0..6400u128 {
            // Hosts of one /64, and hosts whose /64s differ, as two kinds of attackers have them.
            assert!(table.enter((0x2001_0db8 << 96) | low, 1));
            assert!(table.enter((0x2001_0db8 << 96) | (low + 1) << 64, 1));
        }
        // Mean 200, deviation 14.
        let sizes: Vec<usize> = table.shards.iter().map(|shard| locked(shard).len()).collect();
        assert!(sizes.iter().all(|size| (120..290).contains(size)), "{sizes:?}");
    }
}
