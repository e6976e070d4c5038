//! How bytes, FIN and RST travel between the two ends of a connection.
//!
//! As Linux does it where a program could tell: order, half-closes, what a reset destroys, when a buffer is full.
//! No retransmission and no congestion; a lost packet is a connection that stays silent.

use super::faults::{Segments, Strike};
use super::net::Way;
use super::socket::{Fin, Phase, Reading};
use super::trace::Fact;
use super::world::{Happening, Packet, World};
use crate::{Close, Errno, Recv, Send, errno};

use std::time::Duration;

/// Largest piece the network carries at once: what Linux hands on with segmentation offload.
const SEGMENT_MAX: usize = 65_536;

impl World {
    /// Puts a packet on the way to the other end, behind the ones before it.
    pub fn transmit(&mut self, from: u32, packet: Packet) {
        let local = self.socket(from).local;
        let remote = self.tcp(from).remote;
        if self.way(local) == Way::BlackHole || self.way(remote) == Way::BlackHole {
            self.lose(from);
        }
        let travel = self.travel();
        let now = self.now;
        let tcp = self.tcp(from);
        let Some(to) = tcp.other.filter(|_| !tcp.lost) else { return };
        // A nanosecond apart, so that each is a happening of its own time.
        let at = (now + travel).max(tcp.last_arrival + Duration::from_nanos(1));
        tcp.last_arrival = at;
        self.schedule(at, Happening::Packet { to, packet });
    }

    pub fn packet_arrived(&mut self, to: u32, packet: Packet) {
        if self.tcp(to).lost {
            return;
        }
        let local = self.socket(to).local;
        let remote = self.tcp(to).remote;
        if self.way(local) == Way::BlackHole || self.way(remote) == Way::BlackHole {
            return self.lose(to);
        }
        if matches!(packet, Packet::Bytes(_) | Packet::Fin)
            && let Some(strike) = self.strike()
        {
            self.mark(to, Fact::Struck(strike));
            return match strike {
                Strike::Reset => {
                    self.transmit(to, Packet::Reset);
                    self.reset_arrived(to);
                }
                Strike::BlackHole => self.lose(to),
            };
        }
        if self.tcp(to).phase == Phase::Dead {
            // No such connection here: a reset, which is itself never answered.
            return match packet {
                Packet::Reset => {}
                Packet::SynAck | Packet::Ack | Packet::Bytes(_) | Packet::Fin => self.transmit(to, Packet::Reset),
            };
        }
        match packet {
            Packet::SynAck => self.syn_answered(to),
            Packet::Ack => self.handshake_completed(to),
            Packet::Bytes(bytes) => self.bytes_arrived(to, &bytes),
            Packet::Fin => self.fin_arrived(to),
            Packet::Reset => self.reset_arrived(to),
        }
    }

    fn bytes_arrived(&mut self, to: u32, bytes: &[u8]) {
        self.mark(to, Fact::BytesArrived(bytes.len()));
        if self.socket(to).closed.is_some() {
            // Nobody will read them, and the sender has to know.
            self.transmit(to, Packet::Reset);
            return self.die(to);
        }
        let tcp = self.tcp(to);
        match tcp.reading {
            Reading::Eager => tcp.received.extend_from_slice(bytes),
            Reading::Paused => tcp.inbox.extend(bytes),
        }
        let other = tcp.other;
        self.notify(to);
        if let Some(sender) = other {
            self.bytes_acknowledged(sender, bytes.len());
        }
    }

    fn bytes_acknowledged(&mut self, sender: u32, bytes: usize) {
        let tcp = self.tcp(sender);
        tcp.in_flight = tcp.in_flight.saturating_sub(bytes);
        if tcp.told_full && tcp.is_writable() {
            tcp.told_full = false;
            self.notify(sender);
        }
        self.pump(sender);
    }

    fn fin_arrived(&mut self, to: u32) {
        self.mark(to, Fact::FinArrived);
        self.tcp(to).saw_fin = true;
        self.notify(to);
        // The ACK of a FIN is a change of state, and Linux wakes the sender for it.
        if let Some(sender) = self.tcp(to).other {
            self.notify(sender);
        }
    }

    fn reset_arrived(&mut self, to: u32) {
        let tcp = self.tcp(to);
        match tcp.phase {
            Phase::Dead => return,
            // The handshake was never finished; the listener's owner never hears of it.
            Phase::Greeted => {
                tcp.phase = Phase::Dead;
                if let Some(listener) = tcp.listener {
                    self.listener(listener).half_open += 1;
                }
                return self.mark(to, Fact::ResetArrived);
            }
            Phase::Dialling | Phase::Answered | Phase::Established => {}
        }
        if self.is_over(to) {
            return;
        }
        self.mark(to, Fact::ResetArrived);
        let tcp = self.tcp(to);
        tcp.saw_reset = true;
        // After the other side's FIN there is nothing left to read, so Linux complains about writing.
        let half_closed = tcp.saw_fin && tcp.fin == Fin::No;
        tcp.error = Some(if half_closed { errno::EPIPE } else { errno::ECONNRESET });
        self.die(to);
        self.notify(to);
    }

    /// The connection is over at this end. What was not sent is thrown away; what arrived stays readable.
    fn die(&mut self, id: u32) {
        let tcp = self.tcp(id);
        tcp.phase = Phase::Dead;
        tcp.outbox.clear();
        tcp.in_flight = 0;
    }

    /// Sends what the other side's window takes, then the FIN if one waits.
    pub fn pump(&mut self, from: u32) {
        loop {
            let tcp = self.tcp(from);
            if !matches!(tcp.phase, Phase::Answered | Phase::Established) || tcp.outbox.is_empty() {
                break;
            }
            let Some(to) = tcp.other else { break };
            let waiting = tcp.outbox.len();
            let in_flight = tcp.in_flight;
            let receiver = self.tcp(to);
            let window = receiver.window.saturating_sub(receiver.inbox.len() + in_flight);
            let most = waiting.min(window).min(SEGMENT_MAX);
            if most == 0 {
                return;
            }
            let size = self.segment(most);
            self.acknowledge_handshake(from);
            let tcp = self.tcp(from);
            let bytes: Vec<u8> = tcp.outbox.drain(..size).collect();
            tcp.in_flight += size;
            self.transmit(from, Packet::Bytes(bytes));
        }
        let tcp = self.tcp(from);
        if matches!(tcp.phase, Phase::Answered | Phase::Established) && tcp.fin == Fin::Queued {
            tcp.fin = Fin::Sent;
            self.acknowledge_handshake(from);
            self.transmit(from, Packet::Fin);
        }
    }

    fn segment(&mut self, most: usize) -> usize {
        match self.faults.segments {
            Segments::Whole => most,
            Segments::OneByte => 1,
            Segments::Random => {
                // Mostly small pieces, sometimes all of it: sizes near the edges find more than the middle.
                let bound = self.dice.pick(&[1, 2, 16, most, most]).min(most);
                1 + self.dice.below(bound as u64) as usize
            }
        }
    }

    /// `read(2)`: waiting bytes, then the end, then an error once.
    pub fn receive(&mut self, id: u32, into: &mut [u8]) -> Recv {
        let tcp = self.tcp(id);
        if tcp.inbox.is_empty() {
            return self.nothing_to_read(id);
        }
        let size = into.len().min(tcp.inbox.len());
        for (place, byte) in into.iter_mut().zip(tcp.inbox.drain(..size)) {
            *place = byte;
        }
        let other = tcp.other;
        self.mark(id, Fact::Received(size));
        if let Some(sender) = other {
            self.pump(sender);
        }
        Recv::Bytes(size)
    }

    fn nothing_to_read(&mut self, id: u32) -> Recv {
        let tcp = self.tcp(id);
        if tcp.saw_fin {
            return Recv::End;
        }
        if let Some(error) = tcp.error.take() {
            return Recv::Failed(error);
        }
        if tcp.phase == Phase::Dead { Recv::End } else { Recv::Dry }
    }

    /// `recv(2)` with `MSG_PEEK` and room for one byte. Like Linux's it takes a pending error.
    pub fn peek(&mut self, id: u32) -> Recv {
        if self.tcp(id).inbox.is_empty() { self.nothing_to_read(id) } else { Recv::Bytes(1) }
    }

    /// `write(2)`: an error once, then `EPIPE`, or as much as there is room for.
    pub fn send(&mut self, id: u32, from: &[u8]) -> Send {
        let tcp = self.tcp(id);
        if tcp.error.is_some() || tcp.fin != Fin::No || tcp.phase == Phase::Dead {
            return Send::Failed(tcp.error.take().unwrap_or(errno::EPIPE));
        }
        let size = from.len().min(tcp.room());
        if size < from.len() {
            tcp.told_full = true;
        }
        tcp.outbox.extend(&from[..size]);
        self.mark(id, Fact::Sent(size));
        self.pump(id);
        Send::Taken(size)
    }

    /// The kernel found by its own timers that the other side is gone.
    pub fn give_up(&mut self, id: u32, error: Errno) {
        self.mark(id, Fact::Failed(error));
        self.lose(id);
        self.die(id);
        self.tcp(id).error = Some(error);
        self.notify(id);
    }

    /// `shutdown(2)` of the sending side.
    pub fn finish(&mut self, id: u32) {
        let tcp = self.tcp(id);
        if tcp.fin == Fin::No && tcp.phase != Phase::Dead {
            tcp.fin = Fin::Queued;
            self.mark(id, Fact::Finished);
            self.pump(id);
        }
        // Linux wakes whoever waits on the socket, even its own owner.
        self.notify(id);
    }

    /// What happens on the wire when an end is let go.
    pub fn close_connection(&mut self, id: u32, how: Close) {
        let tcp = self.tcp(id);
        let unread = !tcp.inbox.is_empty();
        tcp.inbox.clear();
        match tcp.phase {
            Phase::Dead => {}
            // Nobody is told; a late SYN+ACK will be answered with a reset.
            Phase::Dialling => self.die(id),
            Phase::Greeted => self.reset_now(id),
            Phase::Answered | Phase::Established => {
                if self.is_over(id) {
                    return;
                }
                if how == Close::Silent {
                    // What the other side sends later is answered with a reset.
                    return self.die(id);
                }
                if how == Close::Reset || unread {
                    return self.reset_now(id);
                }
                let tcp = self.tcp(id);
                if tcp.fin == Fin::No {
                    tcp.fin = Fin::Queued;
                }
                self.pump(id);
            }
        }
    }

    fn reset_now(&mut self, id: u32) {
        self.transmit(id, Packet::Reset);
        self.die(id);
    }
}
