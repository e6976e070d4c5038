//! How datagrams get to the backend and back.
//!
//! They are moved where they lie, many at once: one call takes what many clients sent, one more passes on what one of them
//! sent in a row, and all answers of a turn leave together. The clock was read before, once for the turn.

use std::net::SocketAddr;
use std::ops::Range;

use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_plan::ProxyDatagrams;
use evenkeel_reactor::{Batch, Driver, Errno, RecvMany, SendMany, Sock, errno};

use super::header::{self, Told};
use super::outbox::{Outbox, measure};
use super::table::Name;
use super::{BATCHES, Crowded, Known, Sessions, Whose};
use crate::arena::Key;
use crate::core::Core;
use crate::gate::Turned;
use crate::machine::Icmp;

/// What the kernel said instead of taking a datagram, or for one before.
enum Fate {
    /// The backend cannot be reached: the session is over.
    Refused(Icmp),
    /// This datagram is lost, and the next may not be: too long for the path, or no memory.
    Lost,
}

/// Other words of ICMP for "there is no way".
const UNREACHABLE: [Errno; 3] = [Errno(64), Errno(92), Errno(112)];

fn fate(errno: Errno) -> Fate {
    if errno == errno::ECONNREFUSED {
        Fate::Refused(Icmp::Port)
    } else if errno.is_unreachable() || UNREACHABLE.contains(&errno) {
        Fate::Refused(Icmp::Unreachable)
    } else {
        Fate::Lost
    }
}

/// What became of packets for a backend.
#[derive(Default)]
struct Sent {
    /// Packets that are done with, lost or not.
    done: usize,
    /// Datagrams of them that were lost here.
    lost: u64,
    /// What the packet behind them met.
    refused: Option<(Icmp, Errno)>,
}

impl Sessions {
    /// Datagrams wait at a listening socket.
    pub fn arrived<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        if self.deaf {
            return;
        }
        let mut inbox = self.inbox.take().unwrap_or_default();
        let mut more = false;
        for _ in 0..BATCHES {
            let Some(listening) = self.listening.get(key) else { break };
            inbox.clear();
            more = match core.driver.recv_many(listening.sock, &mut inbox) {
                RecvMany::Some { drained, .. } => {
                    self.distribute(core, key, &inbox, now);
                    !drained
                }
                RecvMany::Dry => false,
                // What an answer of ours met on its way is that client's affair.
                RecvMany::Failed(_) => true,
            };
            if !more {
                break;
            }
        }
        self.inbox = Some(inbox);
        if more && !self.crowded.contains(&Crowded::Listening(key)) {
            self.crowded.push(Crowded::Listening(key));
        }
    }

    /// Hands each run of datagrams of one client on.
    fn distribute<D: Driver>(&mut self, core: &mut Core<D>, listening: Key, inbox: &Batch, now: Instant) {
        let mut at = 0;
        while at < inbox.len() {
            let (peer, local) = (inbox.peer(at), inbox.local(at));
            let first = at;
            at += 1;
            while at < inbox.len() && inbox.peer(at) == peer && inbox.local(at) == local {
                at += 1;
            }
            let Some(heard) = self.listening.get(listening) else { return };
            let (datagrams, bytes) = measure(inbox, first..at);
            heard.slot.metrics.datagrams_in.add(datagrams);
            heard.slot.metrics.bytes_in.add(bytes);
            let (from_proxy, counted) = heard
                .slot
                .read(|settings| (settings.proxies.contains(peer.ip()), settings.datagrams.requests.is_some()));
            let address = heard.address;
            let reached = local.map_or(address, |local| SocketAddr::new(local, address.port()));
            let whose = Whose { peer, local, client: peer, reached, how: Known::Sender };
            if from_proxy {
                self.unwrap(core, listening, whose, inbox, first..at, now);
            } else if counted && (first..at).any(|packet| inbox.segment(packet).is_some()) {
                self.each(inbox, first..at, whose, |sessions, single| {
                    sessions.pass(core, listening, whose, single, 0..single.len(), now);
                });
            } else {
                self.pass(core, listening, whose, inbox, first..at, now);
            }
        }
    }

    /// Takes packets apart that the kernel kept together, for those who must look at each datagram.
    fn each(&mut self, batch: &Batch, packets: Range<usize>, whose: Whose, mut pass: impl FnMut(&mut Self, &Batch)) {
        let mut singles = self.singles.take().unwrap_or_default();
        singles.clear();
        for at in packets {
            for datagram in batch.each(at) {
                if !singles.has_room() {
                    pass(self, &singles);
                    singles.clear();
                }
                singles.push(whose.peer, whose.local, &[datagram]);
            }
        }
        pass(self, &singles);
        self.singles = Some(singles);
    }

    /// Reads the PROXY header of each datagram, and passes on what stands behind it.
    fn unwrap<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        listening: Key,
        whose: Whose,
        batch: &Batch,
        packets: Range<usize>,
        now: Instant,
    ) {
        let mut singles = self.singles.take().unwrap_or_default();
        for datagram in packets.flat_map(|at| batch.each(at)) {
            let (whose, rest) = match header::read(datagram) {
                Told::Nothing => (Whose { how: Known::Before, ..whose }, datagram),
                Told::Itself { rest } => (whose, rest),
                Told::Named { client, reached, rest } => (Whose { client, reached, how: Known::Named, ..whose }, rest),
                Told::Invalid(rule) => {
                    let turned = Turned { cause: Cause::ClientProxyHeaderInvalid, detail: Detail::Text(rule) };
                    self.refuse(listening, turned, whose.peer, (1, datagram.len() as u64), now);
                    continue;
                }
            };
            singles.clear();
            singles.push(whose.peer, whose.local, &[rest]);
            self.pass(core, listening, whose, &singles, 0..1, now);
        }
        self.singles = Some(singles);
    }

    /// Passes packets of one client on, to its session or to one that begins with them.
    fn pass<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        listening: Key,
        whose: Whose,
        batch: &Batch,
        packets: Range<usize>,
        now: Instant,
    ) {
        let named = (whose.how == Known::Named).then_some(whose.client);
        let name = Name::new(listening, whose.peer, whose.local, named);
        let mut rest = packets;
        while !rest.is_empty() {
            let key = match self.table.find(&name) {
                Some(key) => key,
                None => match self.begin(core, listening, whose, name, first_of(batch, rest.start), now) {
                    Ok(key) => key,
                    Err(turned) => {
                        let lost = measure(batch, rest);
                        return self.refuse(listening, turned, whose.client, lost, now);
                    }
                },
            };
            if named.is_some() {
                // What comes from there without a header is this client's, until another is named.
                self.table.insert(name.of_sender(), key);
            }
            rest.start += self.forward(core, key, batch, rest.clone(), now);
        }
    }

    /// Passes packets on to the session's backend. Says how many are done with: fewer than there are when the session is
    /// over or takes no more.
    fn forward<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        batch: &Batch,
        packets: Range<usize>,
        now: Instant,
    ) -> usize {
        if let Err(over) = self.look(core, key, first_of(batch, packets.start), now) {
            self.end(core, key, over, now);
            return 0;
        }
        let Some(session) = self.sessions.get_mut(key) else { return 0 };
        // With a limit every packet is one datagram, see `distribute`.
        let most = usize::try_from(session.machine.room()).unwrap_or(usize::MAX);
        let packets = packets.start..packets.end.min(packets.start.saturating_add(most));
        let is_new = session.machine.datagrams().received == 0;
        let mut sent = match session.announced.take() {
            None => send(core, session.sock, batch, packets.clone()),
            Some(announced) => {
                let mut headed = self.headed.take().unwrap_or_default();
                let sent = send_announced(
                    core,
                    session.sock,
                    &announced.bytes,
                    announced.datagrams,
                    &mut headed,
                    batch,
                    packets.clone(),
                );
                self.headed = Some(headed);
                // With `first` it has served once it has left.
                if announced.datagrams == ProxyDatagrams::Each || sent.done == 0 {
                    session.announced = Some(announced);
                }
                sent
            }
        };
        if sent.refused.is_some() && sent.done == 0 && is_new {
            // A session that could not even begin. Trying on with the same packet might never end.
            sent.done = 1;
            sent.lost += u64::from(batch.datagrams(packets.start));
        }
        let (datagrams, bytes) = measure(batch, packets.start..packets.start + sent.done);
        session.machine.received(datagrams, bytes, now);
        session.listener.metrics.datagrams_dropped.add(sent.lost);
        if let Some((icmp, errno)) = sent.refused {
            // It was for a datagram before: the one at hand begins a session with another backend.
            let over = session.machine.refused(icmp, errno.0);
            self.end(core, key, over, now);
        } else if let Some(over) = session.machine.poll_over() {
            self.end(core, key, over, now);
        } else if session.machine.is_taken_up() {
            let name = session.name;
            self.table.remove(name, key);
            self.table.remove(name.of_sender(), key);
        }
        sent.done
    }

    /// Answers, or a refusal, wait at a session's socket.
    pub fn answered<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let mut outbox = self.outbox.take().unwrap_or_default();
        let mut over = None;
        let mut more = false;
        for _ in 0..BATCHES {
            if !outbox.batch.has_room() {
                self.deliver(core, &mut outbox);
            }
            let Some(session) = self.sessions.get_mut(key) else { break };
            let first = outbox.batch.len();
            more = match core.driver.recv_many(session.sock, &mut outbox.batch) {
                RecvMany::Some { drained, .. } => {
                    let packets = first..outbox.batch.len();
                    for at in packets.clone() {
                        outbox.batch.address(at, session.whose.peer, session.whose.local);
                        if session.teaches {
                            for datagram in outbox.batch.each(at) {
                                session.pool.heard_datagram(datagram, &session.picked.backend, now);
                            }
                        }
                    }
                    session.heard(now);
                    let (datagrams, bytes) = measure(&outbox.batch, packets);
                    session.machine.answered(datagrams, bytes, now);
                    outbox.addressed(session.listening, first);
                    over = over.or(session.machine.poll_over());
                    !drained
                }
                RecvMany::Dry => false,
                RecvMany::Failed(errno) => {
                    if let Fate::Refused(icmp) = fate(errno) {
                        over = over.or(Some(session.machine.refused(icmp, errno.0)));
                    }
                    // Answers may wait behind it.
                    true
                }
            };
            if !more {
                break;
            }
        }
        self.outbox = Some(outbox);
        if let Some(over) = over {
            self.end(core, key, over, now);
        } else if more && !self.crowded.contains(&Crowded::Session(key)) {
            self.crowded.push(Crowded::Session(key));
        }
    }

    /// The end of the worker's turn: sends all that was gathered for the clients, and closes what nobody needs any more.
    pub fn flush<D: Driver>(&mut self, core: &mut Core<D>) {
        self.send_gathered(core);
        if std::mem::take(&mut self.unused) {
            for key in self.listening.keys() {
                self.close_unless_used(core, key);
            }
        }
    }

    pub(super) fn send_gathered<D: Driver>(&mut self, core: &mut Core<D>) {
        if let Some(mut outbox) = self.outbox.take() {
            self.deliver(core, &mut outbox);
            self.outbox = Some(outbox);
        }
    }

    fn deliver<D: Driver>(&mut self, core: &mut Core<D>, outbox: &mut Outbox) {
        while let Some((key, packets)) = outbox.next() {
            // It stays open for as long as it has sessions, and is flushed before it closes.
            let Some(listening) = self.listening.get(key) else { continue };
            let (mut datagrams, mut bytes) = measure(&outbox.batch, packets.clone());
            let mut at = packets.start;
            while at < packets.end {
                let SendMany { taken, failed } = core.driver.send_many(listening.sock, &outbox.batch, at..packets.end);
                at += taken;
                // A full socket loses all the rest; what else can be said is said of one packet.
                let lost = at..if failed.is_some() { at + 1 } else { packets.end };
                at = lost.end;
                let (lost_datagrams, lost_bytes) = measure(&outbox.batch, lost);
                (datagrams, bytes) = (datagrams - lost_datagrams, bytes - lost_bytes);
                listening.slot.metrics.datagrams_dropped.add(lost_datagrams);
            }
            listening.slot.metrics.datagrams_out.add(datagrams);
            listening.slot.metrics.bytes_out.add(bytes);
        }
    }

    /// Counts datagrams that nobody gets.
    fn refuse(&mut self, listening: Key, turned: Turned, client: SocketAddr, lost: (u64, u64), now: Instant) {
        if let Some(listening) = self.listening.get(listening) {
            self.refusals.note(&listening.slot, turned, client, lost, now);
        }
    }
}

/// The first datagram of a packet.
fn first_of(batch: &Batch, at: usize) -> &[u8] {
    batch.each(at).next().unwrap_or_default()
}

/// Sends packets as they are.
fn send<D: Driver>(core: &mut Core<D>, sock: Sock, batch: &Batch, packets: Range<usize>) -> Sent {
    let mut sent = Sent::default();
    let mut at = packets.start;
    while at < packets.end {
        let SendMany { taken, failed } = core.driver.send_many(sock, batch, at..packets.end);
        at += taken;
        match failed.map(|errno| (fate(errno), errno)) {
            None => {
                sent.lost += measure(batch, at..packets.end).0;
                at = packets.end;
            }
            Some((Fate::Lost, _)) => {
                sent.lost += u64::from(batch.datagrams(at));
                at += 1;
            }
            Some((Fate::Refused(icmp), errno)) => {
                sent.refused = Some((icmp, errno));
                break;
            }
        }
    }
    sent.done = at - packets.start;
    sent
}

/// Sends packets with the header before each datagram, or before the first.
fn send_announced<D: Driver>(
    core: &mut Core<D>,
    sock: Sock,
    header: &[u8],
    which: ProxyDatagrams,
    headed: &mut Batch,
    batch: &Batch,
    packets: Range<usize>,
) -> Sent {
    let mut sent = Sent::default();
    let mut before = header;
    for at in packets {
        let mut datagrams = batch.each(at).peekable();
        let mut has_begun = false;
        while datagrams.peek().is_some() {
            headed.clear();
            for datagram in datagrams.by_ref().take(ROOM) {
                // One that is too long with the header is lost, as it would be on the way.
                if !headed.push(batch.peer(at), batch.local(at), &[before, datagram]) {
                    sent.lost += 1;
                }
                if which == ProxyDatagrams::First {
                    before = &[];
                }
            }
            let part = send(core, sock, headed, 0..headed.len());
            sent.lost += part.lost;
            has_begun |= part.done > 0;
            if part.refused.is_some() {
                sent.refused = part.refused;
                // A packet of which a part has left is not sent again.
                sent.done += usize::from(has_begun);
                return sent;
            }
        }
        sent.done += 1;
    }
    sent
}

/// Packets of a batch.
const ROOM: usize = limits::UDP_BATCH.value as usize;
