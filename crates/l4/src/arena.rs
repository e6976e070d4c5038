//! Connections by key, and keys as tokens.
//!
//! The kernel may still report an event for a socket that was closed a moment ago in the same batch,
//! and a timer may fire for a connection that is long gone. A key carries a generation, so such a late word
//! finds nobody instead of the connection that took the place.

use evenkeel_reactor::Token;
use slab::Slab;

/// Who a token belongs to: its top eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Listener,
    RelayClient,
    RelayBackend,
    HttpClient,
    HttpBackend,
    UdpListener,
    UdpSession,
}

const OWNERS: [Owner; 7] = [
    Owner::Listener,
    Owner::RelayClient,
    Owner::RelayBackend,
    Owner::HttpClient,
    Owner::HttpBackend,
    Owner::UdpListener,
    Owner::UdpSession,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    /// 24 bits. It would take sixteen million connections on one place between two turns of the loop
    /// to mistake one for another.
    generation: u32,
}

impl Key {
    pub const fn index(self) -> usize {
        self.index as usize
    }

    pub(crate) const fn raw_index(self) -> u32 {
        self.index
    }
}

pub const fn token(owner: Owner, key: Key) -> Token {
    Token((owner as u64) << 56 | (key.generation as u64) << 32 | key.index as u64)
}

/// The owner and key of a token, `None` for tokens this module did not make.
pub fn owner_of(token: Token) -> Option<(Owner, Key)> {
    let owner = *OWNERS.get((token.0 >> 56) as usize)?;
    Some((owner, Key { index: token.0 as u32, generation: (token.0 >> 32) as u32 & GENERATION_MASK }))
}

const GENERATION_MASK: u32 = (1 << 24) - 1;

#[derive(Debug)]
pub struct Arena<T> {
    slab: Slab<(u32, T)>,
    next_generation: u32,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Arena { slab: Slab::new(), next_generation: 0 }
    }
}

impl<T> Arena<T> {
    /// Inserts what `make` builds from the key it will have.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let generation = self.next_generation;
        self.next_generation = (generation + 1) & GENERATION_MASK;
        let entry = self.slab.vacant_entry();
        let index = u32::try_from(entry.key()).expect("a worker has fewer than 2^32 connections");
        let key = Key { index, generation };
        entry.insert((generation, make(key)));
        key
    }

    /// The same where making it can fail.
    ///
    /// # Errors
    /// What `make` says; nothing is inserted then.
    pub fn try_insert_with<E>(&mut self, make: impl FnOnce(Key) -> Result<T, E>) -> Result<Key, E> {
        let index = u32::try_from(self.slab.vacant_key()).expect("a worker has fewer than 2^32 connections");
        let key = Key { index, generation: self.next_generation };
        let value = make(key)?;
        self.next_generation = (self.next_generation + 1) & GENERATION_MASK;
        self.slab.insert((key.generation, value));
        Ok(key)
    }

    /// Who is at this place now, see [`Key::index`].
    pub fn at(&self, index: usize) -> Option<Key> {
        let (generation, _) = self.slab.get(index)?;
        Some(Key { index: u32::try_from(index).ok()?, generation: *generation })
    }

    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.get(key.index()).filter(|(generation, _)| *generation == key.generation).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slab.get_mut(key.index()).filter(|(generation, _)| *generation == key.generation).map(|(_, value)| value)
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.slab.remove(key.index()).1)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The keys of all present, for the rare walks over everything: drain, plan changes.
    pub fn keys(&self) -> Vec<Key> {
        self.slab.iter().map(|(index, (generation, _))| Key { index: index as u32, generation: *generation }).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().map(|(_, (_, value))| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_word_for_a_closed_connection_finds_nobody() {
        let mut arena = Arena::default();
        let first = arena.insert_with(|_| "first");
        let late = token(Owner::HttpClient, first);
        assert_eq!(arena.remove(first), Some("first"));
        let second = arena.insert_with(|_| "second");
        assert_eq!(second.index(), first.index());
        let (owner, key) = owner_of(late).expect("our own token");
        assert_eq!(owner, Owner::HttpClient);
        assert_eq!(arena.get(key), None);
        assert_eq!(arena.remove(key), None);
        assert_eq!(arena.get(second), Some(&"second"));
    }

    #[test]
    fn what_could_not_be_made_takes_no_place() {
        let mut arena: Arena<Key> = Arena::default();
        assert_eq!(arena.try_insert_with(|_| Err("no")), Err("no"));
        assert!(arena.is_empty() && arena.at(0).is_none());
        let key = arena.try_insert_with(Ok::<_, &str>).expect("nothing fails");
        assert_eq!((arena.get(key), arena.at(key.index())), (Some(&key), Some(key)));
    }

    #[test]
    fn every_owner_survives_the_way_through_a_token() {
        for owner in OWNERS {
            let key = Key { index: u32::MAX, generation: GENERATION_MASK };
            assert_eq!(owner_of(token(owner, key)), Some((owner, key)));
        }
        assert_eq!(owner_of(evenkeel_reactor::WOKEN), None);
    }
}
