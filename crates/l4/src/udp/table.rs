//! Which session a datagram belongs to.
//!
//! Asked once for each run of datagrams that came one behind the other from one client. Hashed with a seed that nobody
//! outside knows: whoever sends datagrams chooses their source, and could fill one bucket with sessions otherwise.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::arena::Key;

/// What makes a session: the socket its datagrams come in by, who sends them, the address of ours they are sent to, and
/// behind a sender of PROXY headers whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    words: [u64; 4],
    ends: u64,
    named: Option<SocketAddr>,
}

impl Name {
    /// `local`: where the socket has several addresses. `named`: the client of a PROXY header.
    pub fn new(listening: Key, peer: SocketAddr, local: Option<IpAddr>, named: Option<SocketAddr>) -> Self {
        let [a, b] = words(peer.ip());
        let [c, d] = local.map_or([0, 0], words);
        Name { words: [a, b, c, d], ends: u64::from(listening.raw_index()) << 16 | u64::from(peer.port()), named }
    }

    /// The same without whom a PROXY header named.
    pub fn of_sender(self) -> Self {
        Name { named: None, ..self }
    }
}

/// The upper half tells the families apart: no IPv6 address begins with these bits.
fn words(ip: IpAddr) -> [u64; 2] {
    match ip {
        IpAddr::V4(v4) => [u64::MAX, u64::from(v4.to_bits())],
        IpAddr::V6(v6) => [(v6.to_bits() >> 64) as u64, v6.to_bits() as u64],
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.words {
            state.write_u64(word);
        }
        state.write_u64(self.ends);
        if let Some(named) = self.named {
            let [a, b] = words(named.ip());
            state.write_u64(a);
            state.write_u64(b);
            state.write_u64(named.port().into());
        }
    }
}

#[derive(Debug)]
pub struct Table {
    sessions: HashMap<Name, Key, Seeded>,
}

impl Table {
    pub fn new(seed: u64) -> Self {
        Table { sessions: HashMap::with_hasher(Seeded(seed)) }
    }

    pub fn find(&self, name: &Name) -> Option<Key> {
        self.sessions.get(name).copied()
    }

    /// From now on datagrams of this name are the session's.
    pub fn insert(&mut self, name: Name, session: Key) {
        self.sessions.insert(name, session);
    }

    /// Forgets the name, if it still is the session's.
    pub fn remove(&mut self, name: Name, session: Key) {
        if let Entry::Occupied(entry) = self.sessions.entry(name)
            && *entry.get() == session
        {
            entry.remove();
        }
    }

    /// Names known now.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }
}

#[derive(Clone, Copy, Debug)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// Multiplies to 128 bits and folds: one multiplication for each word, where the mixing of the hash schedules takes two and
/// more. Those must agree between nodes and releases; this one is asked for every datagram and agrees with nobody.
struct Folding(u64);

/// Odd, with bits in all places: the fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Folding {
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(SPREAD ^ self.0.rotate_left(32));
        self.0 = self.0.rotate_left(23) ^ (product as u64) ^ ((product >> 64) as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(evenkeel_balance::hash::of_bytes(bytes));
    }

    fn finish(&self) -> u64 {
        evenkeel_balance::hash::mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::arena::Arena;

    fn key() -> Key {
        Arena::default().insert_with(|_| ())
    }

    #[test]
    fn every_part_of_a_name_makes_another_session() {
        let mut arena = Arena::default();
        let [one, other] = [(); 2].map(|()| arena.insert_with(|_| ()));
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let local = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        let peer = address("192.0.2.1:53");
        let names = [
            Name::new(one, peer, None, None),
            Name::new(other, peer, None, None),
            Name::new(one, address("192.0.2.2:53"), None, None),
            Name::new(one, address("192.0.2.1:54"), None, None),
            Name::new(one, address("[2001:db8::c000:201]:53"), None, None),
            Name::new(one, address("[::ffff:192.0.2.1]:53"), None, None),
            Name::new(one, address("[::192.0.2.1]:53"), None, None),
            Name::new(one, peer, local("10.0.0.1"), None),
            Name::new(one, peer, local("10.0.0.2"), None),
            Name::new(one, peer, local("::1"), None),
            Name::new(one, peer, None, Some(peer)),
            Name::new(one, peer, None, Some(address("192.0.2.9:53"))),
            Name::new(one, peer, None, Some(address("192.0.2.9:54"))),
        ];
        let mut table = Table::new(7);
        for (at, name) in names.iter().enumerate() {
            assert_eq!(table.find(name), None, "{at}");
            table.insert(*name, one);
            assert_eq!(table.find(name), Some(one));
        }
        for name in names {
            assert_eq!(name.of_sender().named, None);
            table.remove(name, other);
            assert_eq!(table.find(&name), Some(one), "it is not the other's to forget");
            table.remove(name, one);
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn neighbouring_clients_are_spread_and_another_seed_spreads_them_anew() {
        let key = key();
        let hashes = |seed: u64| -> Vec<u64> {
            let name = |at: u32| {
                // Ports of one host, hosts of one network, and networks of one provider.
                let ip = match at % 3 {
                    0 => IpAddr::from([10, 0, 0, 1]),
                    1 => IpAddr::from([10, (at >> 16) as u8, (at >> 8) as u8, at as u8]),
                    _ => IpAddr::from([0x2001, 0xdb8, at as u16, 0, 0, 0, 0, 1]),
                };
                Name::new(key, SocketAddr::new(ip, at as u16), None, None)
            };
            (0..30_000).map(|at| Seeded(seed).hash_one(name(at))).collect()
        };
        let one = hashes(1);
        assert!(one.iter().collect::<HashSet<_>>().len() > 29_999 - 3);
        // The map of the standard library goes by the lowest and the highest bits.
        for shift in [0, 57] {
            let mut buckets = [0; 128];
            one.iter().for_each(|hash| buckets[(hash >> shift) as usize % 128] += 1);
            // Mean 234, deviation 15.
            assert!(buckets.iter().all(|count| (150..320).contains(count)), "{shift}: {buckets:?}");
        }
        let same = one.iter().zip(hashes(2)).filter(|(one, other)| **one % 128 == other % 128).count();
        assert!((100..400).contains(&same), "{same} of 30000 fell into the same of 128 buckets");
    }
}
