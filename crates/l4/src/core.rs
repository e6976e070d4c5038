//! What all connections of one worker share: the driver, the timers, the slots, the scratch buffer.
//!
//! It decides one thing only, whether the worker has room for another client. All else it keeps and hands out.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use evenkeel_model::exchange::{Detail, ExchangeId, Outcome, Question, Times};
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_observe::Observer;
use evenkeel_reactor::{Driver, Errno, Event, Sock, Source, Token, Wheel, errno};

use crate::gate::{Pass, Turned};
use crate::roster::{ListenerSlot, Roster};

/// Lowest port Linux gives to an outgoing connection when it is left to choose (`ip_local_port_range`).
const EPHEMERAL_FROM: u16 = 32_768;

pub struct Core<D: Driver> {
    pub driver: D,
    pub wheel: Wheel,
    pub roster: Roster,
    pub observer: Box<dyn Observer>,
    /// Receive buffer. Taken with [`Core::scratch`] for the length of one read, so that the borrow checker
    /// sees that nobody else writes into it.
    scratch: Vec<u8>,
    /// Empty pipes for relays that splice.
    pub(crate) pipes: Vec<D::Pipe>,
    ids: ExchangeId,
    connections: usize,
    connections_max: usize,
    draining: bool,
}

/// A connection that was let in, on its way to the room that serves it.
pub struct Accepted {
    pub sock: Sock,
    pub client: SocketAddr,
    pub listener: Rc<ListenerSlot>,
    pub at: Instant,
    /// To be kept for as long as the connection is.
    pub pass: Pass,
}

/// Which process and worker an exchange id comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Random for each process.
    pub process: u64,
    pub worker: u16,
}

impl<D: Driver> Core<D> {
    pub fn new(driver: D, roster: Roster, observer: Box<dyn Observer>, origin: Origin, connections_max: usize) -> Self {
        let wheel = Wheel::new(driver.now());
        Core {
            driver,
            wheel,
            roster,
            observer,
            scratch: vec![0; limits::SCRATCH.value as usize],
            pipes: Vec::new(),
            ids: ExchangeId { process: origin.process, sequence: u64::from(origin.worker) << 48 },
            connections: 0,
            connections_max,
            draining: false,
        }
    }

    /// One read may lead to another while its bytes are still being dealt with: a retry, a switch of protocols, an
    /// early answer met in a failed send. The second then gets a buffer of its own, since a read without room
    /// looks like the end of the stream.
    pub fn scratch(&mut self) -> Vec<u8> {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.is_empty() { vec![0; limits::SCRATCH.value as usize] } else { scratch }
    }

    pub fn give_back(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    pub fn next_id(&mut self) -> ExchangeId {
        self.ids.sequence += 1;
        self.ids
    }

    /// The node was told to stop: answers end their connections, nothing new is let in.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether connections of this listener should end after what they are at.
    pub fn is_draining(&self, listener: &ListenerSlot) -> bool {
        self.draining || listener.is_removed()
    }

    /// Client connections open now.
    pub const fn connections(&self) -> usize {
        self.connections
    }

    /// Counts a client connection in, if the listener's gate lets it in and the worker is not full.
    ///
    /// # Errors
    /// Why not: the caller closes it, see [`Core::refuse`].
    pub fn admit(&mut self, listener: &ListenerSlot, client: SocketAddr, now: Instant) -> Result<Pass, Turned> {
        listener.metrics.connections.one();
        let pass = listener.connection(client.ip(), now)?;
        self.count_in(listener, pass)
    }

    /// The same for a UDP session. `named`: whom a PROXY header of `sender` names. That one more was let in is counted here
    /// and not before, because every datagram of a client that is turned away asks again.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_session(
        &mut self,
        listener: &ListenerSlot,
        sender: IpAddr,
        named: Option<IpAddr>,
        now: Instant,
    ) -> Result<Pass, Turned> {
        let mut pass = listener.connection(sender, now)?;
        if let Some(client) = named {
            listener.known(&mut pass, client, now)?;
        }
        self.count_in(listener, pass)
    }

    fn count_in(&mut self, listener: &ListenerSlot, pass: Pass) -> Result<Pass, Turned> {
        if self.connections >= self.connections_max {
            let detail = Detail::Limit(self.connections_max as u64);
            return Err(Turned { cause: Cause::BalancerOverloaded, detail });
        }
        self.connections += 1;
        listener.metrics.connections_now.one();
        Ok(pass)
    }

    /// Counts a client connection out.
    pub fn discharge(&mut self, listener: &ListenerSlot) {
        self.connections -= 1;
        listener.metrics.connections_now.less_one();
    }

    /// How `event` decided a dial to `to`.
    ///
    /// A dial to a closed port of this very host can be given that port as its own and so meet itself (both
    /// sides of a TCP handshake may open at once, RFC 9293 section 3.5). Nobody serves there: it counts as refused.
    pub fn dialed(&mut self, sock: Sock, to: SocketAddr, event: Event) -> Option<Result<(), Errno>> {
        let decided = self.driver.dialed(sock, event)?;
        let may_be_ours = to.ip().is_loopback() && to.port() >= EPHEMERAL_FROM;
        if decided.is_ok() && may_be_ours && self.driver.local_address(sock) == Some(to) {
            return Some(Err(errno::ECONNREFUSED));
        }
        Some(decided)
    }

    /// Sets a timer unless an earlier one of the same owner is set already. `armed` is when the owner's
    /// earliest timer fires.
    pub fn arm(&mut self, token: Token, deadline: Instant, armed: &mut Instant) {
        if deadline < *armed {
            self.wheel.set(deadline, token);
            *armed = deadline;
        }
    }

    /// Records a connection that was turned away, with the status its client is sent if it is sent one.
    pub fn refuse(
        &mut self,
        listener: &ListenerSlot,
        client: SocketAddr,
        turned: Turned,
        status: Option<u16>,
        now: Instant,
    ) -> ExchangeId {
        listener.metrics.causes.one(turned.cause);
        let id = self.next_id();
        self.observer.ended(&Outcome {
            id,
            listener: &listener.name,
            pool: None,
            client,
            backend: None,
            request: None,
            sni: None,
            tls: None,
            status,
            cause: Some(turned.cause),
            phase: None,
            detail: Some(turned.detail),
            bytes_in: 0,
            bytes_out: 0,
            datagrams: None,
            times: Times { accepted: Some(now), started: now, ended: now, ..Times::default() },
            attempts: &[],
            reuse: None,
            client_requests: 0,
            rule: None,
            timer: None,
            then: Question::NOTHING,
            trace: None,
        });
        id
    }
}

/// What a failed dial means: who is to blame depends on what the kernel said, and on whether it was told where the
/// connection is to come from.
///
/// No address to be had means that the kernel has no port left, our own shortage; but where an address was named, that this
/// host does not have it. What is forbidden is mostly a firewall's doing, and with a named address mostly a right that we lack;
/// and an address of the other family than the backend's cannot be named.
pub fn dial_failure(errno: Errno, from: Source) -> Cause {
    let named = match from {
        Source::Kernel => false,
        Source::Own(_) | Source::Foreign(_) => true,
    };
    let unusable = [errno::EADDRNOTAVAIL, errno::EPERM, errno::EACCES, errno::EAFNOSUPPORT, errno::EINVAL];
    if named && unusable.contains(&errno) {
        Cause::SourceUnusable
    } else if errno.is_our_shortage() {
        Cause::BalancerOverloaded
    } else if errno == errno::ETIMEDOUT {
        Cause::BackendConnectTimeout
    } else if errno.is_unreachable() {
        Cause::BackendUnreachable
    } else {
        Cause::BackendConnectRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_source_is_blamed_only_where_one_was_named() {
        let own = Source::Own([192, 0, 2, 1].into());
        let foreign = Source::Foreign([198, 51, 100, 1].into());
        let table = [
            //  errno                without a source            with one
            (errno::EADDRNOTAVAIL, Cause::BalancerOverloaded, Cause::SourceUnusable),
            (errno::EPERM, Cause::BackendUnreachable, Cause::SourceUnusable),
            (errno::EACCES, Cause::BackendUnreachable, Cause::SourceUnusable),
            (errno::EAFNOSUPPORT, Cause::BackendConnectRefused, Cause::SourceUnusable),
            (errno::EINVAL, Cause::BackendConnectRefused, Cause::SourceUnusable),
            (errno::EMFILE, Cause::BalancerOverloaded, Cause::BalancerOverloaded),
            (errno::ETIMEDOUT, Cause::BackendConnectTimeout, Cause::BackendConnectTimeout),
            (errno::EHOSTUNREACH, Cause::BackendUnreachable, Cause::BackendUnreachable),
            (errno::ECONNREFUSED, Cause::BackendConnectRefused, Cause::BackendConnectRefused),
        ];
        for (errno, without, with) in table {
            assert_eq!(dial_failure(errno, Source::Kernel), without, "{errno:?}");
            assert_eq!([own, foreign].map(|from| dial_failure(errno, from)), [with; 2], "{errno:?}");
        }
    }
}
