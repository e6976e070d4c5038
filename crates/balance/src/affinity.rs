//! Which backend a client was with, by its address cut to a prefix; for stickiness where there are no cookies.
//!
//! It only remembers. Whether the client stays there is [`crate::sticky::choose`]'s to say, as for those that come with a cookie.
//!
//! Bounded, whatever addresses an attacker has. When it is full, clients whose time is over are forgotten; are there none, then
//! newcomers follow the schedule. To forget somebody whose time is not over would part honest clients from what they have
//! at their backends for as long as the attack lasts.
//!
//! Shared by the workers of a node and sharded, so that they seldom meet at a lock; see [`crate::rate`] for the hashing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use evenkeel_model::{Instant, limits};

use crate::hash::BackendKey;
use crate::rate::{Seeded, locked, shard_of};

const SHARDS: usize = 64;

/// Least time between two walks over a shard to find whom to forget.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// One per pool.
#[derive(Debug)]
pub struct AffinityTable {
    seed: u64,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug)]
struct Shard {
    entries_max: usize,
    clients: HashMap<u128, Home, Seeded>,
    /// Not before then is it worth looking for clients that may be forgotten.
    sweep: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Home {
    backend: BackendKey,
    /// When the client's last connection or session began.
    since: Instant,
}

impl AffinityTable {
    pub fn new(seed: u64) -> Self {
        AffinityTable::with_room_for(limits::AFFINITY_CLIENTS.value as usize, seed)
    }

    fn with_room_for(clients: usize, seed: u64) -> Self {
        let entries_max = clients / SHARDS;
        let shard = || Shard { entries_max, clients: HashMap::with_hasher(Seeded(seed)), sweep: Instant::START };
        AffinityTable { seed, shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    /// Every client and its backend, for a process that takes this one's place.
    pub fn homes(&self) -> Vec<(u128, BackendKey)> {
        let homes = |shard: &Mutex<Shard>| {
            locked(shard).clients.iter().map(|(client, home)| (*client, home.backend)).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(homes).collect()
    }

    /// What another process knew. Its clients have their whole time again, since that one's clock is not ours.
    pub fn recall(&self, homes: &[(u128, BackendKey)]) {
        for &(client, backend) in homes {
            self.settle(client, backend, Duration::ZERO, Instant::START);
        }
    }

    /// The backend that `client` was with less than `timeout` ago.
    pub fn find(&self, client: u128, timeout: Duration, now: Instant) -> Option<BackendKey> {
        let shard = locked(&self.shards[self.shard_of(client)]);
        let home = shard.clients.get(&client)?;
        (now < home.since + timeout).then_some(home.backend)
    }

    /// A connection or session of `client` began at `backend`.
    pub fn settle(&self, client: u128, backend: BackendKey, timeout: Duration, now: Instant) {
        let mut shard = locked(&self.shards[self.shard_of(client)]);
        let home = Home { backend, since: now };
        if let Some(known) = shard.clients.get_mut(&client) {
            *known = home;
        } else if shard.has_room(timeout, now) {
            shard.clients.insert(client, home);
        }
    }

    /// Clients remembered now, some of which may be past their time.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard: &Mutex<Shard>| locked(shard).clients.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, client: u128) -> usize {
        shard_of(self.seed, client, SHARDS)
    }
}

impl Shard {
    /// Whether one more client can be remembered, if need be after forgetting those whose time is over. They are also looked for
    /// before the memory grows, so that a quiet pool does not keep what a busy day brought.
    fn has_room(&mut self, timeout: Duration, now: Instant) -> bool {
        let is_full = self.clients.len() >= self.entries_max;
        if (is_full || self.clients.len() == self.clients.capacity()) && now >= self.sweep {
            self.clients.retain(|_, home| now < home.since + timeout);
            self.clients.shrink_to(2 * self.clients.len());
            self.sweep = now + SWEEP_AFTER;
        }
        self.clients.len() < self.entries_max
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn backend(number: u64) -> BackendKey {
        BackendKey(number)
    }

    #[test]
    fn the_next_process_knows_where_clients_were() {
        let table = AffinityTable::new(1);
        for client in 0..500 {
            table.settle(client, backend(client as u64 % 7), TIMEOUT, at(0));
        }
        let next = AffinityTable::new(2);
        next.recall(&table.homes());
        assert_eq!(next.len(), 500);
        assert!((0..500).all(|client| next.find(client, TIMEOUT, at(299)) == Some(backend(client as u64 % 7))));
    }

    #[test]
    fn a_client_is_remembered_until_its_time_after_its_last_connection_is_over() {
        let table = AffinityTable::new(1);
        assert_eq!(table.find(7, TIMEOUT, at(0)), None);
        table.settle(7, backend(1), TIMEOUT, at(0));
        assert_eq!(table.find(7, TIMEOUT, at(299)), Some(backend(1)));
        assert_eq!(table.find(7, TIMEOUT, at(300)), None);
        // Looking alone does not keep it; another connection does.
        table.settle(7, backend(1), TIMEOUT, at(200));
        assert_eq!(table.find(7, TIMEOUT, at(499)), Some(backend(1)));
        // A reload that shortens the time counts for those who are here.
        assert_eq!(table.find(7, Duration::from_secs(60), at(261)), None);
        assert_eq!(table.find(8, TIMEOUT, at(200)), None);
    }

    #[test]
    fn a_client_that_was_moved_is_remembered_with_its_new_backend() {
        let table = AffinityTable::new(1);
        table.settle(7, backend(1), TIMEOUT, at(0));
        table.settle(7, backend(2), TIMEOUT, at(1));
        assert_eq!(table.find(7, TIMEOUT, at(2)), Some(backend(2)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_full_table_keeps_whom_it_has_and_takes_newcomers_when_time_is_over() {
        const ROOM: usize = 6400;
        let table = AffinityTable::with_room_for(ROOM, 3);
        for client in 0..3 * ROOM as u128 {
            table.settle(client, backend(client as u64), TIMEOUT, at(0));
        }
        assert_eq!(table.len(), ROOM);
        let kept: Vec<u128> =
            (0..3 * ROOM as u128).filter(|client| table.find(*client, TIMEOUT, at(1)).is_some()).collect();
        assert_eq!(kept.len(), ROOM);
        // More of the attack, and then of honest life: whoever is in stays in.
        for client in 0..ROOM as u128 {
            table.settle(u128::MAX - client, backend(0), TIMEOUT, at(100));
        }
        assert!(kept.iter().all(|client| table.find(*client, TIMEOUT, at(101)) == Some(backend(*client as u64))));
        for client in 0..ROOM as u128 {
            table.settle(u128::MAX - client, backend(0), TIMEOUT, at(400));
        }
        let newcomers = (0..ROOM as u128).filter(|client| table.find(u128::MAX - client, TIMEOUT, at(401)).is_some());
        // Shards fill unevenly: a hundred in the mean, deviation ten.
        assert!(newcomers.count() > ROOM * 9 / 10);
    }

    proptest! {
        #[test]
        fn with_room_for_all_it_agrees_with_a_plain_list(
            steps in prop::collection::vec((0u128..40, 0u64..4, 0u64..400, any::<bool>()), 1..400),
        ) {
            let table = AffinityTable::new(2);
            let mut list: BTreeMap<u128, (BackendKey, Instant)> = BTreeMap::new();
            let mut now = at(0);
            for (client, home, pause, settles) in steps {
                now += Duration::from_secs(pause / 10);
                if settles {
                    table.settle(client, backend(home), TIMEOUT, now);
                    list.insert(client, (backend(home), now));
                }
                let known = list.get(&client).filter(|(_, since)| now - *since < TIMEOUT).map(|(home, _)| *home);
                prop_assert_eq!(table.find(client, TIMEOUT, now), known);
            }
        }
    }

    #[test]
    fn a_quiet_pool_gives_back_what_a_busy_day_took() {
        let table = AffinityTable::new(3);
        let capacity =
            || table.shards.iter().map(|shard: &Mutex<Shard>| locked(shard).clients.capacity()).sum::<usize>();
        for client in 0..200_000 {
            table.settle(client, backend(0), TIMEOUT, at(0));
        }
        let busy = capacity();
        // A hundred new clients a second, each remembered for five minutes: about thirty thousand at once.
        for client in 0..200_000 {
            table.settle((1 << 64) | client, backend(0), TIMEOUT, at(1000 + client as u64 / 100));
        }
        assert!(capacity() < busy / 2, "{} of {busy}", capacity());
    }
}
