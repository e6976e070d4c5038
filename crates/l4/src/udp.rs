//! UDP sessions: the hands of udp listeners.
//!
//! ```text
//!   clients ──recv_many──► inbox ──a run of one client──► session ──send_many──► its own socket ──► backend
//!   clients ◄──send_many── outbox, once a turn ◄────────── session ◄──recv_many── its own socket ◄── backend
//! ```
//!
//! A session has a socket of its own towards its backend, connected, so that answers and ICMP errors belong to exactly
//! one session and nothing has to be told apart afterwards. Towards the clients a worker has one socket for each address;
//! the kernel gives all datagrams of one client to the same worker (`SO_REUSEPORT`), so no table is shared.
//!
//! Nothing waits: a datagram that a full socket does not take is lost and counted. When a session is over, and whether
//! its client moves, is said by [`machine::Session`].
//!
//! | file | question it answers |
//! |---|---|
//! | `table` | which session a datagram belongs to |
//! | `life` | how a session begins, moves to another backend, and ends |
//! | `carry` | how datagrams get to the backend and back |
//! | `header` | who the client is where a PROXY header says so |
//! | `outbox` | what is on its way to the clients |
//! | `refusals` | what is said of datagrams that nobody gets |

mod carry;
mod header;
mod life;
mod outbox;
mod refusals;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use evenkeel_model::exchange::{Attempt, Datagrams, ExchangeId, Outcome, Question, Times};
use evenkeel_model::{Instant, limits};
use evenkeel_plan::{Protocol, Snapshot};
use evenkeel_reactor::{Batch, Close, Driver, Errno, Sock};

use crate::arena::{Arena, Key, Owner, token};
use crate::core::Core;
use crate::gate::Pass;
use crate::machine;
use crate::roster::{ListenerSlot, Picked, PoolSlot};
use header::Announced;
use outbox::Outbox;
use refusals::{Refusals, Refused};
use table::{Name, Table};

/// Batches taken from one socket before others get their turn.
const BATCHES: u64 = limits::UDP_TURN.value / limits::UDP_BATCH.value;

/// All sessions of one worker, and the sockets their clients send to.
pub struct Sessions {
    listening: Arena<Listening>,
    sessions: Arena<Session>,
    table: Table,
    /// When the earliest timer of each place fires. Timers are of places and not of sessions: one that sessions come and go
    /// under fires once for whoever is there, so short sessions leave no heap of timers behind.
    armed: Vec<Instant>,
    crowded: Vec<Crowded>,
    refusals: Refusals,
    /// Listeners whose address another has taken over, and when their sessions must be gone.
    leaving: Vec<(Instant, Rc<ListenerSlot>)>,
    /// Another process hears what clients send. Answers still leave by our sockets, which are the same.
    deaf: bool,
    /// A listening socket may have lost its last session, and is to be closed at the end of the turn.
    unused: bool,
    /// What clients sent. Taken for the length of one read, as are the next two; made when first needed, since most
    /// workers never are.
    inbox: Option<Batch>,
    /// Datagrams that have to be looked at one by one.
    singles: Option<Batch>,
    /// Datagrams with a PROXY header before them.
    headed: Option<Batch>,
    outbox: Option<Outbox>,
}

/// Sockets that may have more waiting than one turn took.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowded {
    Listening(Key),
    Session(Key),
}

struct Listening {
    sock: Sock,
    address: SocketAddr,
    /// Whose new sessions these are.
    slot: Rc<ListenerSlot>,
    sessions: usize,
    /// The address is no longer in the plan: it stays open for its sessions, until then at most.
    closes: Option<Instant>,
}

struct Session {
    id: ExchangeId,
    machine: machine::Session,
    listening: Key,
    listener: Rc<ListenerSlot>,
    pool: Rc<PoolSlot>,
    name: Name,
    whose: Whose,
    sock: Sock,
    picked: Picked,
    /// Answers may teach the pool where connection ids lead.
    teaches: bool,
    /// What the client's datagrams began with so far, see [`PoolSlot::leads_elsewhere`].
    shown: u64,
    announced: Option<Announced>,
    /// Generation of the snapshot in which the backend was last looked up.
    seen: u64,
    attempt_started: Instant,
    /// What came and went before the backend of now.
    before: (u64, u64),
    attempts: Vec<Attempt>,
    times: Times,
    /// The right to be there.
    _pass: Pass,
}

/// Whose datagrams they are, and where the answers go.
#[derive(Clone, Copy, Debug)]
struct Whose {
    /// Who sends them.
    peer: SocketAddr,
    /// The address of ours they were sent to, where the socket has several: answers leave from it.
    local: Option<IpAddr>,
    /// Who the client is: the sender, or whom its PROXY header names.
    client: SocketAddr,
    /// Where the client meant to go.
    reached: SocketAddr,
    how: Known,
}

/// How a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// By its own address.
    Sender,
    /// By a PROXY header.
    Named,
    /// Not at all: a sender of PROXY headers has sent none. Only a session that it named before can be meant.
    Before,
}

impl Sessions {
    pub fn new<D: Driver>(core: &Core<D>) -> Self {
        Sessions {
            listening: Arena::default(),
            sessions: Arena::default(),
            table: Table::new(core.roster.table_seed()),
            armed: Vec::new(),
            crowded: Vec::new(),
            refusals: Refusals::default(),
            leaving: Vec::new(),
            deaf: false,
            unused: false,
            inbox: None,
            singles: None,
            headed: None,
            outbox: None,
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Names under which datagrams find their sessions: no more than two for each.
    pub fn names(&self) -> usize {
        self.table.len()
    }

    /// Whether something waits that needs no event.
    pub fn is_crowded(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// Hears what is sent to an address, for the listener of this slot. A socket that the address has already, left
    /// from an earlier plan for its sessions, is used on: two would share the clients between them.
    ///
    /// # Errors
    /// When the kernel cannot watch one more file.
    pub fn listen<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        slot: &Rc<ListenerSlot>,
        address: SocketAddr,
        bound: D::Bound,
    ) -> Result<(), Errno> {
        let kept = self.listening.keys().into_iter().find(|key| self.is_at(*key, address));
        if let Some(listening) = kept.and_then(|key| self.listening.get_mut(key)) {
            listening.slot = Rc::clone(slot);
            listening.closes = None;
            return Ok(());
        }
        let key = self.listening.try_insert_with(|key| {
            let sock = core.driver.listen_udp(bound, token(Owner::UdpListener, key))?;
            Ok(Listening { sock, address, slot: Rc::clone(slot), sessions: 0, closes: None })
        })?;
        self.crowded.push(Crowded::Listening(key));
        Ok(())
    }

    /// Another plan: addresses that are in it go on, for whichever listener has them now. The others are heard for their
    /// sessions only, for as long as the plan lets connections drain.
    pub fn plan_changed<D: Driver>(&mut self, core: &mut Core<D>, snapshot: &Snapshot, now: Instant) {
        let until = now + snapshot.plan.node.drain_timeout;
        for key in self.listening.keys() {
            let Some(listening) = self.listening.get_mut(key) else { continue };
            let named =
                snapshot.plan.listeners.iter().find(|listener| {
                    listener.protocol == Protocol::Udp && listener.listen.contains(&listening.address)
                });
            match named.and_then(|listener| core.roster.listener(&listener.name)) {
                Some(slot) => {
                    listening.closes = None;
                    let before = std::mem::replace(&mut listening.slot, Rc::clone(slot));
                    if before.is_removed() {
                        self.leaving.push((until, before));
                    }
                }
                None => {
                    listening.closes.get_or_insert(until);
                    self.close_unless_used(core, key);
                }
            }
        }
    }

    /// The node stops: clients without a session are not served any more.
    pub fn drain<D: Driver>(&mut self, core: &mut Core<D>) {
        for key in self.listening.keys() {
            if let Some(listening) = self.listening.get_mut(key) {
                listening.closes.get_or_insert(Instant::NEVER);
            }
            self.close_unless_used(core, key);
        }
    }

    /// Leaves what clients send to another process that has the same sockets. Sessions stay for the answers they wait for.
    pub fn stop_hearing(&mut self) {
        self.deaf = true;
    }

    /// Takes what waits at the sockets that had more than their share last turn.
    pub fn go_on<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        for crowded in std::mem::take(&mut self.crowded) {
            match crowded {
                Crowded::Listening(key) => self.arrived(core, key, now),
                Crowded::Session(key) => self.answered(core, key, now),
            }
        }
    }

    /// A timer of the place at which `key` was when it was set.
    pub fn timer<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let place = key.index();
        if let Some(armed) = self.armed.get_mut(place)
            && now >= *armed
        {
            *armed = Instant::NEVER;
        }
        let Some(key) = self.sessions.at(place) else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.machine.handle_timeout(now) {
            Some(over) => self.end(core, key, over, now),
            None => self.arm(core, key),
        }
    }

    /// When [`Sessions::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let closes = self.listening.iter().filter_map(|listening| listening.closes).filter(|at| *at != Instant::NEVER);
        let leaving = self.leaving.iter().map(|(at, _)| *at);
        closes.chain(leaving).chain(self.refusals.poll_timeout()).min()
    }

    pub fn handle_timeout<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        while let Some(refused) = self.refusals.due(now) {
            tell(core, &refused);
        }
        for key in self.listening.keys() {
            if self.listening.get(key).and_then(|listening| listening.closes).is_some_and(|at| now >= at) {
                self.end_where(core, now, |session| session.listening == key);
                self.close_unless_used(core, key);
            }
        }
        for (_, slot) in self.leaving.extract_if(.., |(at, _)| now >= *at).collect::<Vec<_>>() {
            self.end_where(core, now, |session| Rc::ptr_eq(&session.listener, &slot));
        }
    }

    /// Ends every session of the listeners for which `which` says so: the drain deadline has passed.
    pub fn end_all<D: Driver>(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&ListenerSlot) -> bool) {
        self.end_where(core, now, |session| which(&session.listener));
    }

    /// The worker ends: what was gathered for the log is told.
    pub fn finish<D: Driver>(&mut self, core: &mut Core<D>) {
        self.flush(core);
        for refused in self.refusals.take() {
            tell(core, &refused);
        }
    }

    fn end_where<D: Driver>(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&Session) -> bool) {
        for key in self.sessions.keys() {
            if let Some(session) = self.sessions.get(key).filter(|session| which(session)) {
                let over = session.machine.drained();
                self.end(core, key, over, now);
            }
        }
    }

    fn is_at(&self, key: Key, address: SocketAddr) -> bool {
        self.listening.get(key).is_some_and(|listening| listening.address == address)
    }

    /// Sets the timer of a session's place, unless one is set that fires early enough.
    fn arm<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        if self.armed.len() <= key.index() {
            self.armed.resize(key.index() + 1, Instant::NEVER);
        }
        core.arm(token(Owner::UdpSession, key), session.machine.poll_timeout(), &mut self.armed[key.index()]);
    }

    fn close_unless_used<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        let unused = |listening: &Listening| listening.closes.is_some() && listening.sessions == 0;
        if self.listening.get(key).is_some_and(unused) {
            self.send_gathered(core);
            if let Some(listening) = self.listening.remove(key) {
                core.driver.close(listening.sock, Close::Orderly);
            }
        }
    }
}

/// Writes the line of refused datagrams.
fn tell<D: Driver>(core: &mut Core<D>, refused: &Refused) {
    let id = core.next_id();
    core.observer.ended(&Outcome {
        id,
        listener: &refused.listener.name,
        pool: None,
        client: refused.client,
        backend: None,
        request: None,
        sni: None,
        tls: None,
        status: None,
        cause: Some(refused.turned.cause),
        phase: None,
        detail: Some(refused.turned.detail),
        bytes_in: refused.bytes,
        bytes_out: 0,
        datagrams: Some(Datagrams { received: refused.datagrams, sent: 0 }),
        times: Times { started: refused.since, ended: refused.last, ..Times::default() },
        attempts: &[],
        reuse: None,
        client_requests: 0,
        rule: None,
        timer: None,
        then: Question::NOTHING,
        trace: None,
    });
}
