//! How datagrams travel: each by itself, so they overtake each other, get lost and come twice.
//!
//! Batches are sent one by one here. What the real driver puts together must look the same to whoever receives it, so
//! only the receiving side has packets of several, by the dice.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::net::Way;
use super::socket::{Datagram, Owner};
use super::trace::Fact;
use super::world::{Happening, World};
use crate::{Batch, Errno, RecvMany, SendMany, errno};

/// The sender at a dialled socket, of which the real driver does not tell.
const UNSAID: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Where echo requests go: to a host, and to no port of it.
pub(super) const ECHO_PORT: u16 = 0;

/// How long a full socket stays full at most.
const FULL_MAX: Duration = Duration::from_millis(5);

impl World {
    pub fn send_datagram(&mut self, by: u32, datagram: Datagram) {
        self.mark(by, Fact::DatagramSent(datagram.bytes.len()));
        if self.dice.happens(self.faults.datagram_loss) {
            return self.mark(by, Fact::DatagramLost);
        }
        if self.dice.happens(self.faults.datagram_double) {
            let at = self.now + self.travel();
            let again = Datagram { bytes: datagram.bytes.clone(), ..datagram };
            self.schedule(at, Happening::Datagram { by, datagram: again });
        }
        let at = self.now + self.travel();
        self.schedule(at, Happening::Datagram { by, datagram });
    }

    pub fn datagram_arrived(&mut self, by: u32, datagram: Datagram) {
        let refusal = match self.way(datagram.to) {
            Way::Open => errno::ECONNREFUSED,
            Way::BlackHole => return,
            Way::Unreachable | Way::NoRoute => errno::EHOSTUNREACH,
        };
        let open = self.way(datagram.to) == Way::Open;
        if open && datagram.to.port() == ECHO_PORT {
            return self.echo(by, datagram);
        }
        let Some(receiver) = self.receiver_of(&datagram).filter(|_| open) else {
            if self.dice.happens(self.faults.datagram_loss) {
                return self.mark(by, Fact::DatagramLost);
            }
            if open && !self.may_refuse(datagram.to.ip(), datagram.from.ip()) {
                return self.mark(by, Fact::RefusalHeldBack);
            }
            let at = self.now + self.travel();
            return self.schedule(at, Happening::Icmp { to: by, error: refusal });
        };
        self.mark(receiver, Fact::DatagramArrived(datagram.bytes.len()));
        if let Some(udp) = self.udp(receiver) {
            udp.inbox.push_back(datagram);
        }
        self.notify(receiver);
    }

    /// A host answers an echo request with the same bytes, as a reply.
    fn echo(&mut self, by: u32, request: Datagram) {
        let Datagram { from, to, mut bytes } = request;
        // Anything else is not for us to answer.
        let Some(kind @ (8 | 128)) = bytes.first_mut() else { return };
        *kind = if *kind == 8 { 0 } else { 129 };
        self.send_datagram(by, Datagram { from: to, to: from, bytes });
    }

    /// A connected socket hears only the address it is connected to. Of several that hear everybody, each sender
    /// always meets the same one, as long as their number stays (`SO_REUSEPORT`).
    fn receiver_of(&mut self, datagram: &Datagram) -> Option<u32> {
        let at_address = self.udp_receivers(datagram.to).to_vec();
        let mut everybody = Vec::new();
        for id in at_address {
            match self.udp(id)?.remote {
                Some(remote) if remote == datagram.from => return Some(id),
                Some(_) => {}
                None => everybody.push(id),
            }
        }
        let mut hash = DefaultHasher::new();
        (datagram.from, datagram.to).hash(&mut hash);
        let turn = hash.finish().checked_rem(everybody.len() as u64)?;
        Some(everybody[turn as usize])
    }

    pub fn receive_datagrams(&mut self, id: u32, into: &mut Batch) -> RecvMany {
        if !into.has_room() {
            return RecvMany::Some { packets: 0, drained: false };
        }
        let chance = self.faults.datagram_together;
        let mut packets = 0;
        loop {
            let Some(udp) = self.udp(id) else { panic!("recv_many on {}", self.describe(id)) };
            if packets == 0
                && let Some(error) = udp.error.take()
            {
                return RecvMany::Failed(error);
            }
            if udp.inbox.is_empty() {
                return if packets == 0 { RecvMany::Dry } else { RecvMany::Some { packets, drained: true } };
            }
            if !into.has_room() {
                return RecvMany::Some { packets, drained: false };
            }
            let together = self.dice.happens(chance);
            let everywhere = self.socket(id).local.ip().is_unspecified();
            let Some(udp) = self.udp(id) else { continue };
            let dialled = udp.remote.is_some();
            let Some(Datagram { from, to, mut bytes }) = udp.inbox.pop_front() else { continue };
            let segment = bytes.len();
            let mut length = segment;
            while together && segment > 0 && length == segment && bytes.len() + segment <= crate::datagrams::ROOM {
                let fits =
                    |next: &Datagram| next.from == from && next.to == to && (1..=segment).contains(&next.bytes.len());
                if !udp.inbox.front().is_some_and(fits) {
                    break;
                }
                let Some(next) = udp.inbox.pop_front() else { break };
                length = next.bytes.len();
                bytes.extend(next.bytes);
            }
            if let Some(place) = into.place() {
                place[..bytes.len()].copy_from_slice(&bytes);
            }
            let sender = if dialled { UNSAID } else { from };
            into.received(bytes.len(), segment, sender, everywhere.then(|| to.ip()));
            self.mark(id, Fact::Received(bytes.len()));
            packets += 1;
        }
    }

    pub fn send_datagrams(&mut self, id: u32, batch: &Batch, packets: Range<usize>) -> SendMany {
        for at in packets.clone() {
            for datagram in batch.each(at) {
                let taken = at - packets.start;
                match self.send_from(id, Some((batch.peer(at), batch.local(at))), datagram) {
                    Ok(()) => {}
                    Err(errno::EAGAIN) => return SendMany { taken, failed: None },
                    Err(error) => return SendMany { taken, failed: Some(error) },
                }
            }
        }
        SendMany { taken: packets.len(), failed: None }
    }

    /// Sends one datagram of a node's socket. `way`: to whom and from which address, for a socket that listens.
    pub fn send_from(&mut self, id: u32, way: Option<(SocketAddr, Option<IpAddr>)>, bytes: &[u8]) -> Result<(), Errno> {
        let socket = self.socket(id);
        let (mut from, owner) = (socket.local, socket.owner);
        let Some(udp) = self.udp(id) else { panic!("datagrams sent on {}", self.describe(id)) };
        if let Some(error) = udp.error.take() {
            return Err(error);
        }
        let Some(to) = udp.remote.or(way.map(|(peer, _)| peer)) else { return Err(errno::EDESTADDRREQ) };
        if bytes.len() > evenkeel_model::limits::UDP_PAYLOAD.value as usize {
            return Err(errno::EMSGSIZE);
        }
        if self.dice.happens(self.faults.datagram_full) {
            if let Some(udp) = self.udp(id) {
                udp.room_wanted = true;
            }
            let at = self.now + self.dice.up_to(FULL_MAX);
            self.schedule(at, Happening::Room { at: id });
            return Err(errno::EAGAIN);
        }
        if let Some(udp) = self.udp(id) {
            udp.room_wanted = false;
        }
        if from.ip().is_unspecified() {
            let kernels_choice = match owner {
                Owner::Driver(driver) => self.driver(driver).host,
                Owner::Actor => from.ip(),
            };
            from.set_ip(way.and_then(|(_, local)| local).unwrap_or(kernels_choice));
        }
        self.send_datagram(id, Datagram { from, to, bytes: bytes.to_vec() });
        Ok(())
    }
}
