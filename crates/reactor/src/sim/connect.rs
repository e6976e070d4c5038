//! How a connection begins: SYN, SYN+ACK, ACK, and all the ways in which they do not come.
//!
//! A refusal is one of them, so what a router or the other host says (ICMP) is here too, for datagrams as well.

use std::net::SocketAddr;
use std::time::Duration;

use super::faults::Strike;
use super::net::Way;
use super::socket::{Fin, Kind, Owner, Phase, Reading, Tcp};
use super::trace::Fact;
use super::world::{Happening, Packet, World};
use crate::{Errno, Handshake, errno};

/// Linux's `TCP_DELACK_MAX`.
const DELAYED_ACK: Duration = Duration::from_millis(200);

/// `net.ipv4.tcp_syn_retries`: after that many the connection has timed out, about two minutes in.
const SYN_RETRIES: u32 = 6;

impl World {
    /// Sends the SYN of a new connection.
    pub fn connect(
        &mut self,
        owner: Owner,
        from: SocketAddr,
        to: SocketAddr,
        handshake: Handshake,
        token: Option<crate::Token>,
    ) -> u32 {
        let tcp = Tcp { handshake, ..Tcp::new(to, Phase::Dialling) };
        let id = self.open(owner, from, token, Kind::Tcp(Box::new(tcp)));
        self.fit_buffers(id);
        self.mark(id, Fact::Dialled);
        self.send_syn(id, 0);
        id
    }

    fn send_syn(&mut self, from: u32, attempt: u32) {
        let at = self.now + self.travel();
        self.schedule(at, Happening::Syn { from, attempt });
    }

    pub fn syn_arrived(&mut self, from: u32, attempt: u32) {
        let local = self.socket(from).local;
        let closed = self.socket(from).closed.is_some();
        let tcp = self.tcp(from);
        if closed || tcp.phase != Phase::Dialling {
            return;
        }
        let remote = tcp.remote;
        match self.way(remote) {
            Way::Open => {}
            Way::BlackHole => return self.repeat_syn(from, attempt),
            Way::Unreachable | Way::NoRoute => {
                let at = self.now + self.travel();
                return self.schedule(at, Happening::Icmp { to: from, error: errno::EHOSTUNREACH });
            }
        }
        if self.dice.happens(self.faults.syn_loss) {
            self.mark(from, Fact::SynLost);
            return self.repeat_syn(from, attempt);
        }
        let listeners = self.listeners_at(remote).to_vec();
        if listeners.is_empty() {
            let at = self.now + self.travel();
            return self.schedule(at, Happening::Icmp { to: from, error: errno::ECONNREFUSED });
        }
        // SO_REUSEPORT spreads connections over the workers' sockets by a hash of their addresses.
        let listener = self.dice.pick(&listeners);
        if self.listener(listener).waiting.len() >= self.listener(listener).backlog {
            return self.repeat_syn(from, attempt);
        }
        let owner = self.socket(listener).owner;
        let greeted = Tcp { other: Some(from), listener: Some(listener), ..Tcp::new(local, Phase::Greeted) };
        let id = self.open_unaccepted(owner, remote, greeted);
        self.mark(id, Fact::SynArrived);
        self.tcp(from).other = Some(id);
        self.transmit(id, Packet::SynAck);
    }

    /// The connection exists in the kernel, but no node owns it before `accept`.
    fn open_unaccepted(&mut self, owner: Owner, local: SocketAddr, tcp: Tcp) -> u32 {
        let id = self.open(Owner::Actor, local, None, Kind::Tcp(Box::new(tcp)));
        self.socket(id).owner = owner;
        self.socket(id).held = false;
        self.fit_buffers(id);
        id
    }

    /// The nodes' buffers are those of the settings; actors take and hold anything.
    fn fit_buffers(&mut self, id: u32) {
        let (send_buffer, receive_window) = (self.faults.send_buffer, self.faults.receive_window);
        match self.socket(id).owner {
            Owner::Driver(_) => {
                let tcp = self.tcp(id);
                tcp.send_buffer = send_buffer;
                tcp.window = receive_window;
            }
            Owner::Actor => {
                let tcp = self.tcp(id);
                tcp.window = receive_window;
                tcp.reading = Reading::Eager;
            }
        }
    }

    fn repeat_syn(&mut self, from: u32, attempt: u32) {
        let wait = Duration::from_secs(1 << attempt);
        let at = self.now + wait;
        if attempt == SYN_RETRIES {
            self.schedule(at, Happening::Icmp { to: from, error: errno::ETIMEDOUT });
        } else {
            self.schedule(at, Happening::Syn { from, attempt: attempt + 1 });
        }
    }

    pub fn syn_answered(&mut self, id: u32) {
        self.mark(id, Fact::SynAnswered);
        self.tcp(id).phase = Phase::Answered;
        match self.tcp(id).handshake {
            Handshake::Full => self.acknowledge_handshake(id),
            Handshake::HalfOpen => {
                let at = self.now + DELAYED_ACK;
                self.schedule(at, Happening::DelayedAck { of: id });
            }
        }
        self.pump(id);
        self.notify(id);
    }

    /// Sends the last ACK, if it was withheld until now.
    pub fn acknowledge_handshake(&mut self, id: u32) {
        if self.tcp(id).phase == Phase::Answered {
            self.tcp(id).phase = Phase::Established;
            self.transmit(id, Packet::Ack);
        }
    }

    /// The last ACK arrived: the connection waits to be accepted.
    pub fn handshake_completed(&mut self, id: u32) {
        let Some(listener) = self.tcp(id).listener else { return };
        if self.tcp(id).phase != Phase::Greeted {
            return;
        }
        if self.socket(listener).closed.is_some() {
            self.transmit(id, Packet::Reset);
            self.tcp(id).phase = Phase::Dead;
            return;
        }
        self.mark(id, Fact::Established);
        self.tcp(id).phase = Phase::Established;
        let queue = self.listener(listener);
        queue.waiting.push_back(id);
        queue.completed += 1;
        self.notify(listener);
    }

    /// Takes the oldest waiting connection off a listener's queue.
    pub fn accept(&mut self, listener: u32) -> Option<u32> {
        let id = self.listener(listener).waiting.pop_front()?;
        let now = self.now;
        let socket = self.socket(id);
        socket.held = true;
        socket.opened_at = now;
        if let Owner::Driver(driver) = self.socket(id).owner {
            self.driver(driver).totals.opened += 1;
        }
        self.mark(id, Fact::Accepted);
        Some(id)
    }

    /// A refusal from the way or from the other host: for a connection that is being made its end, for
    /// a datagram an error that the next call reports. An established connection shrugs it off.
    pub fn icmp_arrived(&mut self, to: u32, error: Errno) {
        if self.socket(to).closed.is_some() {
            return;
        }
        self.mark(to, Fact::Refused(error));
        match &mut self.socket(to).kind {
            // A socket that hears everybody is not told what one of its datagrams met.
            Kind::Udp(udp) if udp.remote.is_some() => udp.error = Some(error),
            Kind::Tcp(tcp) if tcp.phase == Phase::Dialling => {
                tcp.phase = Phase::Dead;
                tcp.error = Some(error);
                tcp.refusal = Some(error);
                tcp.outbox.clear();
            }
            Kind::Tcp(_) | Kind::Listener(_) | Kind::Udp(_) => return,
        }
        self.notify(to);
    }

    /// What a packet of data or a FIN meets on its way, by the settings.
    pub fn strike(&mut self) -> Option<Strike> {
        let packet = self.packets;
        self.packets += 1;
        let planned = self.faults.strike.filter(|&(at, _)| at == packet).map(|(_, strike)| strike);
        if planned.is_some() {
            return planned;
        }
        if self.dice.happens(self.faults.reset) {
            return Some(Strike::Reset);
        }
        self.dice.happens(self.faults.black_hole).then_some(Strike::BlackHole)
    }

    /// Nothing passes between the two ends from now on.
    pub fn lose(&mut self, id: u32) {
        self.tcp(id).lost = true;
        if let Some(other) = self.tcp(id).other {
            self.tcp(other).lost = true;
        }
    }

    pub fn is_connection_of(&self, id: u32, listener: u32) -> bool {
        matches!(&self.sockets[id as usize].kind, Kind::Tcp(tcp) if tcp.listener == Some(listener))
    }

    /// Whether both FINs are through, after which a connection is over.
    pub fn is_over(&mut self, id: u32) -> bool {
        let tcp = self.tcp(id);
        tcp.phase == Phase::Dead || (tcp.fin == Fin::Sent && tcp.saw_fin)
    }
}
