//! Datagrams in one buffer, on their way from one socket to another.
//!
//! A batch is filled by [`crate::Driver::recv_many`], looked at, given other addresses and sent by
//! [`crate::Driver::send_many`] from where it lies, so that a datagram is copied by the kernel only.
//!
//! What the kernel hands over at once is a *packet*: one datagram, or several of one sender and one size that it
//! kept together (GRO). They stay together until something has to look at each, because a packet costs the same
//! way through the kernel however many datagrams it has.
//!
//! Every packet has room for the largest there is. A datagram that did not fit would be cut, in silence, and room
//! that nothing was written to costs no memory.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use evenkeel_model::limits;

/// Packets of a batch.
pub(crate) const CAPACITY: usize = limits::UDP_BATCH.value as usize;

/// Bytes of a packet: what the length of a UDP header can say, and what GRO stays below.
pub(crate) const ROOM: usize = 65_535;

/// From one packet to the next. Were it a power of two, the first bytes of all packets would compete for
/// the same few lines of the processor's cache.
const STRIDE: usize = ROOM + 1 + 5 * 64;

pub struct Batch {
    bytes: Box<[u8]>,
    packets: Vec<Packet>,
}

#[derive(Clone, Copy)]
struct Packet {
    peer: SocketAddr,
    local: Option<IpAddr>,
    length: usize,
    segment: Option<NonZeroU16>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Batch {
    pub fn new() -> Self {
        Batch { bytes: vec![0; CAPACITY * STRIDE].into_boxed_slice(), packets: Vec::with_capacity(CAPACITY) }
    }

    /// Packets in it.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether another packet has a place.
    pub fn has_room(&self) -> bool {
        self.packets.len() < CAPACITY
    }

    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// All bytes of a packet.
    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.bytes[at * STRIDE..][..self.packets[at].length]
    }

    /// The datagrams of a packet, one by one.
    pub fn each(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes(at);
        let size = self.segment(at).map_or(bytes.len(), usize::from);
        // An empty datagram is a datagram.
        let empty = bytes.is_empty().then_some(bytes);
        empty.into_iter().chain(bytes.chunks(size.max(1)))
    }

    /// How many datagrams a packet is.
    pub fn datagrams(&self, at: usize) -> u32 {
        let length = self.packets[at].length;
        self.segment(at).map_or(1, |size| u32::try_from(length.div_ceil(usize::from(size))).unwrap_or(u32::MAX).max(1))
    }

    /// Size of a packet's datagrams when it has several; the last of them may be shorter.
    pub fn segment(&self, at: usize) -> Option<u16> {
        self.packets[at].segment.map(NonZeroU16::get)
    }

    /// Who sent it, unless a dialled socket received it, which hears only one; for sending: who gets it.
    pub fn peer(&self, at: usize) -> SocketAddr {
        self.packets[at].peer
    }

    /// Which address of ours it was sent to; for sending: which one it leaves from. `None` where the socket
    /// has only one, or the datagram was for many hosts.
    pub fn local(&self, at: usize) -> Option<IpAddr> {
        self.packets[at].local
    }

    /// Says where a packet goes, and from which address of ours.
    pub fn address(&mut self, at: usize, peer: SocketAddr, local: Option<IpAddr>) {
        let packet = &mut self.packets[at];
        packet.peer = peer;
        packet.local = local;
    }

    /// Adds a datagram of our own making. False when the batch has no room, or the datagram is longer than any
    /// can be.
    pub fn push(&mut self, peer: SocketAddr, local: Option<IpAddr>, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum();
        if !self.has_room() || length > ROOM {
            return false;
        }
        let mut room = &mut self.bytes[self.packets.len() * STRIDE..][..length];
        for part in parts {
            let (here, rest) = room.split_at_mut(part.len());
            here.copy_from_slice(part);
            room = rest;
        }
        self.packets.push(Packet { peer, local, length, segment: None });
        true
    }

    /// The place that [`Batch::received`] fills next.
    pub(crate) fn place(&mut self) -> Option<&mut [u8]> {
        self.bytes.get_mut(self.packets.len() * STRIDE..)?.get_mut(..ROOM)
    }

    /// All free places, in their order.
    pub(crate) fn free(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes[self.packets.len() * STRIDE..].chunks_exact_mut(STRIDE).map(|place| &mut place[..ROOM])
    }

    /// The next free place was filled with so many bytes. A `segment` that is not shorter than they are
    /// says nothing.
    pub(crate) fn received(&mut self, length: usize, segment: usize, peer: SocketAddr, local: Option<IpAddr>) {
        assert!(self.has_room() && length <= ROOM, "a packet was received into a place that is not there");
        let several = u16::try_from(segment).ok().filter(|&size| usize::from(size) < length);
        self.packets.push(Packet { peer, local, length, segment: several.and_then(NonZeroU16::new) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> SocketAddr {
        ([192, 0, 2, 1], 53).into()
    }

    #[test]
    fn parts_are_joined_and_keep_their_address() {
        let mut batch = Batch::new();
        let local = Some([192, 0, 2, 2].into());
        assert!(batch.push(somebody(), local, &[b"head", b"", b"er", b" body"]));
        assert!(batch.push(somebody(), None, &[]));
        assert_eq!((batch.bytes(0), batch.peer(0), batch.local(0)), (&b"header body"[..], somebody(), local));
        assert_eq!((batch.bytes(1), batch.datagrams(1), batch.each(1).count()), (&b""[..], 1, 1));
    }

    #[test]
    fn a_full_batch_takes_no_more_and_a_cleared_one_does() {
        let mut batch = Batch::new();
        while batch.has_room() {
            assert!(batch.push(somebody(), None, &[b"x"]));
        }
        assert_eq!(batch.len(), CAPACITY);
        assert!(!batch.push(somebody(), None, &[b"x"]));
        batch.clear();
        assert!(batch.is_empty() && batch.push(somebody(), None, &[b"y"]));
        assert_eq!(batch.bytes(0), b"y");
    }

    #[test]
    fn what_is_longer_than_any_datagram_is_not_taken() {
        let mut batch = Batch::new();
        let long = vec![7; ROOM];
        assert!(!batch.push(somebody(), None, &[&long, b"x"]));
        assert!(batch.is_empty());
        assert!(batch.push(somebody(), None, &[&long]));
        assert_eq!(batch.bytes(0), long);
    }

    #[test]
    fn datagrams_that_the_kernel_kept_together_are_told_apart() {
        let table = [
            // bytes  segment  datagrams
            ("aabbc", 2, vec!["aa", "bb", "c"]),
            ("aabb", 2, vec!["aa", "bb"]),
            ("aabb", 4, vec!["aabb"]),
            ("aabb", 9, vec!["aabb"]),
            ("aabb", 0, vec!["aabb"]),
            ("", 0, vec![""]),
        ];
        for (bytes, segment, expected) in table {
            let mut batch = Batch::new();
            batch.place().expect("a new batch has room")[..bytes.len()].copy_from_slice(bytes.as_bytes());
            batch.received(bytes.len(), segment, somebody(), None);
            let expected: Vec<&[u8]> = expected.into_iter().map(str::as_bytes).collect();
            assert_eq!(batch.each(0).collect::<Vec<_>>(), expected, "{bytes:?} by {segment}");
            assert_eq!(batch.datagrams(0) as usize, expected.len(), "{bytes:?} by {segment}");
            assert_eq!(batch.segment(0).is_some(), expected.len() > 1, "{bytes:?} by {segment}");
        }
    }
}
