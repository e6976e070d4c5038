//! Where a QUIC packet goes, by its destination connection id, so that a client whose address changed stays with its backend.
//!
//! Three ways, the surest first:
//!
//! 1. The id names the backend: behind its first byte stands the server id that the config gives to a backend, as in the plaintext
//!    form of draft-ietf-quic-load-balancers. This needs a server that puts it there. It alone works for ids that a server
//!    hands out in protected packets, and so for clients that change their id as well as their address, and on every node.
//!    The first byte is not looked at: the draft keeps a version of the config in it, and there is only one here.
//! 2. A backend has used the id as its own a while ago, in a packet that shows it (the long headers of a handshake). Only this node
//!    knows it. This is enough where only the address changes: a NAT that forgot, a phone in another network.
//! 3. The hash of the id. A new client chooses its first one at random and sends it again until it is answered, so all its
//!    packets of that time meet at one backend, whichever worker or node they come to.
//!
//! Ids are chosen by strangers, so nothing is believed of them: whoever makes one up reaches some backend of the pool, as
//! by trying, and what it reaches there is between the two of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_model::{Instant, limits};

use crate::hash::{self, BackendKey};
use crate::rate::{Seeded, locked, shard_of};

/// RFC 9000 section 17.2. No version that anybody speaks uses longer ones.
const CID_MAX: usize = 20;

const SHARDS: usize = 16;

/// The destination connection id of a packet, as far as the packet shows where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dcid<'a> {
    /// Of a long header.
    Whole(&'a [u8]),
    /// Of a short header: these bytes begin with it, and only who made it knows how long it is.
    Leading(&'a [u8]),
}

/// What a pick is asked for on behalf of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What the schedule hashes.
    pub key: Option<u64>,
    /// The backend that the connection is at.
    pub sticky: Option<BackendKey>,
}

/// The ways of one pool. Each worker has one; what they learn is shared.
#[derive(Debug)]
pub struct CidRoutes {
    servers: BTreeMap<Box<[u8]>, BackendKey>,
    /// Of the server ids; the config makes them all alike.
    server_lengths: BTreeSet<usize>,
    learned: Arc<CidTable>,
}

impl CidRoutes {
    pub fn new(servers: impl IntoIterator<Item = (Box<[u8]>, BackendKey)>, learned: Arc<CidTable>) -> Self {
        let servers: BTreeMap<Box<[u8]>, BackendKey> = servers.into_iter().collect();
        let server_lengths = servers.keys().map(|id| id.len()).collect();
        CidRoutes { servers, server_lengths, learned }
    }

    /// Where a packet goes that comes from where no session is known.
    pub fn of(&self, dcid: Dcid<'_>, now: Instant) -> Asked {
        match dcid {
            Dcid::Whole(cid) => {
                let sticky = self.named(cid).or_else(|| self.learned.find(cid, now));
                // All clients that send none would meet at one backend; they can be told apart by address at least.
                Asked { key: (!cid.is_empty()).then(|| hash::of_bytes(cid)), sticky }
            }
            Dcid::Leading(bytes) => {
                let known = || self.learned.lengths().find_map(|length| self.learned.find(bytes.get(..length)?, now));
                Asked { key: None, sticky: self.named(bytes).or_else(known) }
            }
        }
    }

    /// A packet from or to `backend` shows `cid` as one of its own.
    pub fn learn(&self, cid: &[u8], backend: BackendKey, now: Instant) {
        self.learned.learn(cid, backend, now);
    }

    fn named(&self, cid: &[u8]) -> Option<BackendKey> {
        let mut ids = self.server_lengths.iter().filter_map(|length| cid.get(1..1 + length));
        ids.find_map(|id| self.servers.get(id)).copied()
    }
}

/// Which backend has used which connection id, over all workers.
///
/// In two generations: when the younger one is full the older one is forgotten, and what was found in it lives on in the younger. So
/// nothing is ever walked through, and a flood of handshakes shortens the memory instead of shutting it.
#[derive(Debug)]
pub struct CidTable {
    seed: u64,
    shards: Box<[Mutex<Shard>]>,
    /// A bit for each length that a backend's ids have had.
    lengths: AtomicU32,
}

#[derive(Debug)]
struct Shard {
    generation_max: usize,
    young: Ids,
    old: Ids,
}

/// By hash. Two ids of one hash are one in 2^64, and then a packet goes astray.
type Ids = HashMap<u64, Home, Seeded>;

#[derive(Clone, Copy, Debug)]
struct Home {
    backend: BackendKey,
    since: Instant,
}

impl CidTable {
    pub fn new(seed: u64) -> Self {
        CidTable::with_room_for(limits::CID_MEMORY.value as usize, seed)
    }

    fn with_room_for(ids: usize, seed: u64) -> Self {
        let generation = || HashMap::with_hasher(Seeded(seed));
        let generation_max = ids / SHARDS / 2;
        let shard = || Mutex::new(Shard { generation_max, young: generation(), old: generation() });
        CidTable { seed, shards: (0..SHARDS).map(|_| shard()).collect(), lengths: AtomicU32::new(0) }
    }

    fn learn(&self, cid: &[u8], backend: BackendKey, now: Instant) {
        if cid.is_empty() || cid.len() > CID_MAX {
            return;
        }
        let length = 1 << cid.len();
        if self.lengths.load(Ordering::Relaxed) & length == 0 {
            self.lengths.fetch_or(length, Ordering::Relaxed);
        }
        let id = hash::of_bytes(cid);
        self.shard(id).insert(id, Home { backend, since: now });
    }

    /// Being asked for keeps an id from being forgotten: a packet has come with it from a new address.
    fn find(&self, cid: &[u8], now: Instant) -> Option<BackendKey> {
        if cid.is_empty() || cid.len() > CID_MAX {
            return None;
        }
        let id = hash::of_bytes(cid);
        let mut shard = self.shard(id);
        let home = shard.young.get(&id).or_else(|| shard.old.get(&id)).copied()?;
        if now >= home.since + Duration::from_secs(limits::CID_LIFE.value) {
            return None;
        }
        shard.insert(id, Home { since: now, ..home });
        Some(home.backend)
    }

    /// The lengths that a backend's ids have had, the longest first: a shorter one is found by chance sooner.
    fn lengths(&self) -> impl Iterator<Item = usize> {
        let lengths = self.lengths.load(Ordering::Relaxed);
        (1..=CID_MAX).rev().filter(move |length| lengths & 1 << length != 0)
    }

    fn shard(&self, id: u64) -> std::sync::MutexGuard<'_, Shard> {
        locked(&self.shards[shard_of(self.seed, id.into(), SHARDS)])
    }

    /// Ids remembered now, those in both generations twice.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard)).map(|shard| shard.young.len() + shard.old.len()).sum()
    }
}

impl Shard {
    fn insert(&mut self, id: u64, home: Home) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&id) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(id, home);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    const ONE: BackendKey = BackendKey(11);
    const TWO: BackendKey = BackendKey(22);

    fn routes(servers: &[(&[u8], BackendKey)]) -> CidRoutes {
        let servers = servers.iter().map(|(id, backend)| (Box::from(*id), *backend));
        CidRoutes::new(servers, Arc::new(CidTable::new(5)))
    }

    #[test]
    fn the_server_id_stands_behind_the_first_byte() {
        let routes = routes(&[(&[0x0a, 0x01], ONE), (&[0x0a, 0x02], TWO)]);
        let table: [(&[u8], Option<BackendKey>); 8] = [
            (&[0x00, 0x0a, 0x01, 9, 9, 9, 9, 9], Some(ONE)),
            (&[0xff, 0x0a, 0x02, 9, 9, 9, 9, 9], Some(TWO)),
            (&[0x00, 0x0a, 0x01], Some(ONE)),
            (&[0x00, 0x0a, 0x03, 9, 9, 9, 9, 9], None),
            // Cut off, and at the wrong place.
            (&[0x00, 0x0a], None),
            (&[0x0a, 0x01, 9, 9, 9, 9, 9, 9], None),
            (&[0x00], None),
            (&[], None),
        ];
        for (cid, backend) in table {
            assert_eq!(routes.of(Dcid::Whole(cid), at(0)).sticky, backend, "{cid:?}");
            assert_eq!(routes.of(Dcid::Leading(cid), at(0)).sticky, backend, "{cid:?}");
        }
        // More bytes follow in a short header.
        let packet = [&[0x40, 0x0a, 0x02][..], &[7; 1000]].concat();
        assert_eq!(routes.of(Dcid::Leading(&packet), at(0)), Asked { key: None, sticky: Some(TWO) });
    }

    #[test]
    fn an_id_that_a_backend_used_is_found_whatever_its_length() {
        let routes = routes(&[]);
        for length in 1..=CID_MAX {
            routes.learn(&vec![length as u8; length], BackendKey(length as u64), at(0));
        }
        for length in 1..=CID_MAX {
            let cid = vec![length as u8; length];
            let expected = Some(BackendKey(length as u64));
            assert_eq!(routes.of(Dcid::Whole(&cid), at(1)).sticky, expected);
            let packet = [&cid[..], &[0xee; 30]].concat();
            assert_eq!(routes.of(Dcid::Leading(&packet), at(1)).sticky, expected);
            // Whole means whole.
            assert_eq!(routes.of(Dcid::Whole(&packet), at(1)).sticky, None);
        }
        assert_eq!(routes.of(Dcid::Leading(&[0xdd; 40]), at(1)), Asked::default());
    }

    #[test]
    fn what_nobody_can_name_is_spread_by_its_hash() {
        let routes = routes(&[(&[1], ONE)]);
        let cid = [8u8, 7, 6, 5, 4, 3, 2, 1];
        let asked = routes.of(Dcid::Whole(&cid), at(0));
        assert_eq!(asked, Asked { key: Some(hash::of_bytes(&cid)), sticky: None });
        // Another worker, another node, later: the same.
        let elsewhere = CidRoutes::new([], Arc::new(CidTable::new(77)));
        assert_eq!(elsewhere.of(Dcid::Whole(&cid), at(999)), asked);
        assert_eq!(routes.of(Dcid::Whole(&[]), at(0)), Asked::default());
        // A short header of a connection nobody knows: its client's address is as good as anything.
        assert_eq!(routes.of(Dcid::Leading(&cid), at(0)), Asked::default());
    }

    #[test]
    fn the_name_in_the_id_counts_more_than_what_was_learned() {
        let routes = routes(&[(&[1], ONE), (&[2], TWO)]);
        let cid = [0, 2, 3, 4];
        routes.learn(&cid, ONE, at(0));
        assert_eq!(routes.of(Dcid::Whole(&cid), at(0)).sticky, Some(TWO));
    }

    #[test]
    fn workers_share_what_they_learn() {
        let table = Arc::new(CidTable::new(5));
        let [one, other] = [(); 2].map(|()| CidRoutes::new([], Arc::clone(&table)));
        one.learn(&[1, 2, 3, 4], TWO, at(0));
        assert_eq!(other.of(Dcid::Leading(&[1, 2, 3, 4, 5, 6]), at(0)).sticky, Some(TWO));
        // A server that restarted may use an id again.
        other.learn(&[1, 2, 3, 4], ONE, at(1));
        assert_eq!(one.of(Dcid::Whole(&[1, 2, 3, 4]), at(1)).sticky, Some(ONE));
    }

    #[test]
    fn an_id_lives_on_while_packets_with_it_come_from_new_addresses() {
        let routes = routes(&[]);
        let life = limits::CID_LIFE.value;
        let cid = Dcid::Whole(&[1, 2, 3, 4]);
        routes.learn(&[1, 2, 3, 4], ONE, at(0));
        assert_eq!(routes.of(cid, at(life - 1)).sticky, Some(ONE));
        assert_eq!(routes.of(cid, at(2 * life - 2)).sticky, Some(ONE));
        assert_eq!(routes.of(cid, at(3 * life - 2)).sticky, None);
    }

    #[test]
    fn a_flood_of_handshakes_shortens_the_memory_and_neither_fills_nor_shuts_it() {
        const ROOM: usize = 3200;
        let table = CidTable::with_room_for(ROOM, 9);
        let kept = [1u8, 2, 3];
        let lost = [4u8, 5, 6];
        table.learn(&kept, ONE, at(0));
        table.learn(&lost, ONE, at(0));
        for flood in 0..20 * ROOM as u64 {
            table.learn(&flood.to_be_bytes(), TWO, at(0));
            assert!(table.len() <= ROOM);
            // Somebody's address changes again and again.
            if flood % 100 == 0 {
                assert_eq!(table.find(&kept, at(0)), Some(ONE), "after {flood}");
            }
        }
        assert_eq!(table.find(&lost, at(0)), None);
        // The newest are there: all of the last quarter, however unevenly the shards fill.
        for flood in 20 * ROOM as u64 - ROOM as u64 / 4..20 * ROOM as u64 {
            assert_eq!(table.find(&flood.to_be_bytes(), at(0)), Some(TWO), "{flood}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_stranger_do_more_than_reach_some_backend(
            learned in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<u64>()), 0..20),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let routes = routes(&[(&[1], ONE), (&[2], TWO)]);
            for (cid, backend) in &learned {
                routes.learn(cid, BackendKey(*backend), at(0));
            }
            for dcid in [Dcid::Whole(&bytes), Dcid::Leading(&bytes)] {
                let asked = routes.of(dcid, at(1));
                let known = |key: BackendKey| [ONE, TWO].contains(&key) || learned.iter().any(|(_, at)| *at == key.0);
                prop_assert!(asked.sticky.is_none_or(known));
                prop_assert_eq!(asked, routes.of(dcid, at(2)));
            }
            prop_assert!(routes.learned.len() <= 2 * learned.len());
        }
    }
}
