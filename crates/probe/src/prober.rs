//! The hands: opens the sockets of running probes, moves their bytes, keeps their deadlines.
//!
//! What is late (SPEC W7) is decided here, for all kinds alike:
//!
//! | looked at                              | answer there                       | nothing there          |
//! |----------------------------------------|------------------------------------|------------------------|
//! | before the deadline                    | counts                             | go on                  |
//! | up to `LATENESS` after it              | too late, as if nothing were there | the deadline's meaning |
//! | later than that: we were not looking   | counts                             | void                   |
//!
//! In the last row nobody can say when the answer came. It counts because it is a fact about the backend, where
//! the silence beside it may be our own; and for a node that is overloaded for long, answers are then all it has.
//! It counts whether it passes or fails, so lateness cannot lean to one side. The result
//! depends on the time of looking only, not on whether event or timer is served first.
//!
//! A connection may rest between two probes of one check and carry the next one (`keep_alive` of http). What dies at rest, or
//! under a probe before a byte has come, says nothing of the backend: the probe begins again on a new connection, once,
//! with the deadline it had.
//!
//! Deadlines are kept to the nanosecond in an ordered set and not in the millisecond wheel: the window (W5) is
//! promised, and at most some thousand probes run at once.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::keys::ByNumber;
use evenkeel_health::settings::CheckSettings;
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult, Void};
use evenkeel_model::{Instant, limits};
use evenkeel_reactor::{Close, Dial, Driver, Errno, Event, Life, Recv, Send, Sock, Source, Token, errno};
use slab::Slab;

use crate::aside::{Aside, Lane};
use crate::failure;
use crate::hosts::Hosts;
use crate::machine::{Fact, Machine, Opens, Turn, opens};

/// One probe to run. The key is the caller's; no two running probes may share one (SPEC W2).
#[derive(Clone, Debug)]
pub struct Job {
    pub key: u64,
    pub address: SocketAddr,
    pub check: Arc<CheckSettings>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub key: u64,
    pub finding: Finding,
}

/// All running probes of a probing thread. Drive it like any machine: after [`Prober::start`], [`Prober::handle`] and
/// [`Prober::handle_timeout`] take what [`Prober::poll_done`] has, then wait until [`Prober::poll_timeout`].
///
/// The driver must be the same one every time. How many probes run at once is the caller's to bound
/// (`limits::PROBES_AT_ONCE`).
pub struct Prober {
    /// Running probes, and connections that rest until the next probe of their check.
    runs: Slab<Run>,
    slots: ByNumber<u64, usize>,
    resting: ByNumber<u64, usize>,
    /// When probes have to be decided, and until when connections may rest.
    deadlines: BTreeSet<(Instant, usize)>,
    done: VecDeque<Done>,
    /// Probes started so far: whose turn it is among several sources.
    turn: usize,
    /// What is known of the refusals of hosts whose silence is measured.
    hosts: Hosts,
    /// Makes numbers that nobody can guess.
    secret: RandomState,
    scratch: Box<[u8]>,
}

struct Run {
    key: u64,
    address: SocketAddr,
    check: Arc<CheckSettings>,
    kind: ProbeKind,
    sock: Sock,
    started: Instant,
    deadline: Instant,
    machine: Machine,
    dialled: Instant,
    carries: Carries,
    from: Source,
    /// What goes on beside it, to learn what silence will be worth.
    aside: Option<Box<Aside>>,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// The probe it was opened for.
    First,
    /// A later one, which is repeated on a new connection when this one dies: the backend may have closed this one before it heard of the probe.
    Another,
    /// None, until the next one is due.
    Nothing,
}

/// Holds the largest datagram there is, so that an answer is never compared cut short.
const SCRATCH: usize = 65_536;

const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);

/// How old a connection may get that is kept from probe to probe.
const KEPT: Duration = Duration::from_secs(limits::PROBE_KEPT.value);

impl Default for Prober {
    fn default() -> Self {
        Prober::new()
    }
}

impl Prober {
    pub fn new() -> Self {
        Prober {
            runs: Slab::new(),
            slots: ByNumber::default(),
            resting: ByNumber::default(),
            deadlines: BTreeSet::new(),
            done: VecDeque::new(),
            turn: 0,
            hosts: Hosts::new(),
            secret: RandomState::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        }
    }

    fn source(&mut self, sources: &[IpAddr]) -> Source {
        self.turn = self.turn.wrapping_add(1);
        match sources {
            [] => Source::Kernel,
            some => Source::Own(some[self.turn % some.len()]),
        }
    }

    /// Another one for each probe, and not the next one: nobody should learn from one question how to answer another.
    fn number(&self) -> u64 {
        self.secret.hash_one(self.turn)
    }

    /// Starts a probe. One that cannot be started is done at once: failed where the network or the host says
    /// no, void where we are short of something.
    ///
    /// # Panics
    /// When a probe of the same key is running: its target would be probed twice at once.
    pub fn start<D: Driver>(&mut self, driver: &mut D, job: Job) {
        let Job { key, address, check } = job;
        assert!(!self.slots.contains_key(&key), "probe {key} is running already (W2)");
        let started = driver.now();
        if let Some(slot) = self.rested(driver, key, address, &check, started) {
            let run = &mut self.runs[slot];
            let begun = run.machine.again();
            return self.begin(driver, slot, begun);
        }
        let token = Lane::Probe.token(self.runs.vacant_key());
        let kind = check.probe.kind();
        let from = self.source(&check.sources);
        let sock = match open(driver, address, &check, from, token) {
            Ok(sock) => sock,
            Err(errno) => {
                let result = match (opens(&check.probe), errno) {
                    (Opens::Echo, errno::EPERM) => ProbeResult::Void(Void::EchoForbidden),
                    _ => failure::failed(ProbePhase::Connect, errno),
                };
                let finding = Finding { kind, started, ended: driver.now(), result };
                self.done.push_back(Done { key, finding });
                return;
            }
        };
        let deadline = started + check.timing.timeout;
        let machine = Machine::new(&check.probe, address, self.number());
        let (dialled, carries) = (started, Carries::First);
        let aside = Aside::of(&check.probe, address, from).map(Box::new);
        let run = Run { key, address, check, kind, sock, started, deadline, machine, dialled, carries, from, aside };
        let slot = self.runs.insert(run);
        self.slots.insert(key, slot);
        self.deadlines.insert((deadline, slot));
        self.begin(driver, slot, None);
    }

    /// Sends what can be sent before any event. A datagram needs no connection; bytes of a stream wait for the event that says
    /// how the dial was decided, unless the connection stands already.
    fn begin<D: Driver>(&mut self, driver: &mut D, slot: usize, begun: Option<ProbeResult>) {
        let run = &mut self.runs[slot];
        let result = match begun {
            None if run.machine.turn() == Turn::Write => {
                match run.other_than_us(driver).and_then(|()| run.write(driver)) {
                    Ok(result) => result,
                    Err(errno) => run.machine.handle(Fact::Failed(errno)),
                }
            }
            begun => begun,
        };
        match result {
            Some(result) => self.decided(driver, slot, driver.now(), result, false),
            None => self.start_aside(driver, slot),
        }
    }

    /// Starts what goes on beside a probe, once its datagram has left.
    fn start_aside<D: Driver>(&mut self, driver: &mut D, slot: usize) {
        let number = self.number();
        let run = &mut self.runs[slot];
        if let Some(aside) = &mut run.aside
            && !aside.has_started()
            && run.machine.turn() == Turn::Read
        {
            let refusals = self.hosts.entry(aside.host(), driver.now());
            aside.start(driver, slot, refusals, number);
        }
    }

    /// The connection that was kept for this probe, made ready for it. One that was kept for what the key meant
    /// before, or that is too old, is let go.
    fn rested<D: Driver>(
        &mut self,
        driver: &mut D,
        key: u64,
        address: SocketAddr,
        check: &Arc<CheckSettings>,
        now: Instant,
    ) -> Option<usize> {
        let slot = self.resting.remove(&key)?;
        let run = &mut self.runs[slot];
        if run.address != address || run.check != *check || now >= run.deadline {
            self.drop_rested(driver, slot, Close::Reset);
            return None;
        }
        self.deadlines.remove(&(run.deadline, slot));
        run.started = now;
        run.deadline = now + check.timing.timeout;
        run.carries = Carries::Another;
        self.deadlines.insert((run.deadline, slot));
        self.slots.insert(key, slot);
        Some(slot)
    }

    /// Lets a connection go that carries nothing.
    fn drop_rested<D: Driver>(&mut self, driver: &mut D, slot: usize, how: Close) {
        let run = self.runs.remove(slot);
        self.resting.remove(&run.key);
        self.deadlines.remove(&(run.deadline, slot));
        driver.close(run.sock, how);
    }

    /// Ends a probe without a finding: the caller no longer wants one, so after this returns nothing more is heard
    /// of the key, not even a result that was waiting in [`Prober::poll_done`]. The key may be started again.
    pub fn cancel<D: Driver>(&mut self, driver: &mut D, key: u64) {
        if let Some(slot) = self.slots.get(&key) {
            let run = self.release(*slot);
            driver.close(run.sock, Close::Reset);
            if let Some(aside) = run.aside {
                let refusals = self.hosts.known(aside.host());
                aside.end(driver, refusals);
            }
            return;
        }
        self.done.retain(|done| done.key != key);
        if let Some(slot) = self.resting.get(&key) {
            self.drop_rested(driver, *slot, Close::Reset);
        }
    }

    /// Takes an event; one whose token is not of a running probe is ignored. An event is a hint to look and no
    /// more, so that of a finished probe does no harm to the next one in its slot.
    pub fn handle<D: Driver>(&mut self, driver: &mut D, event: Event) {
        let Some((slot, lane)) = Lane::of(event.token) else { return };
        let Some(run) = self.runs.get_mut(slot) else { return };
        let now = driver.now();
        if run.carries == Carries::Nothing {
            // Nothing is due to us, so whatever came means that the connection cannot be relied on.
            if event.readable || event.hangup {
                self.drop_rested(driver, slot, if event.hangup { Close::Orderly } else { Close::Reset });
            }
        } else if now >= run.deadline {
            self.expire(driver, slot, now);
        } else if lane != Lane::Probe {
            if let Some(aside) = &mut run.aside {
                let refusals = self.hosts.known(aside.host());
                aside.hear(driver, lane, refusals, &mut self.scratch);
            }
        } else if let Some(result) = run.advance(driver, event, &mut self.scratch) {
            self.decided(driver, slot, now, result, event.hangup);
        } else if run.aside.is_some() {
            self.start_aside(driver, slot);
        }
    }

    /// Ends every probe whose deadline has come.
    pub fn handle_timeout<D: Driver>(&mut self, driver: &mut D, now: Instant) {
        while let Some(&(deadline, slot)) = self.deadlines.first()
            && deadline <= now
        {
            self.expire(driver, slot, now);
        }
    }

    /// When [`Prober::handle_timeout`] wants to be called; the exact deadline, not a tick after it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    pub fn poll_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// Probes that have started and not ended.
    pub fn running(&self) -> usize {
        self.runs.len() - self.resting.len()
    }

    /// Connections kept for the next probe of their check.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// The table at the top, from the second row on.
    fn expire<D: Driver>(&mut self, driver: &mut D, slot: usize, now: Instant) {
        let run = &mut self.runs[slot];
        if run.carries == Carries::Nothing {
            return self.drop_rested(driver, slot, Close::Reset);
        }
        let by = now.since(run.deadline);
        let result = if by <= LATENESS {
            let result = run.machine.handle_deadline();
            match &mut run.aside {
                Some(aside) => {
                    let refusals = self.hosts.known(aside.host());
                    aside.weigh(result, refusals, now)
                }
                None => result,
            }
        } else {
            // There is no time left to repeat a probe on a new connection.
            let found = run.look(driver, &mut self.scratch).filter(|found| !run.is_stale(found));
            found.unwrap_or(ProbeResult::Void(Void::Late { by }))
        };
        self.finish(driver, slot, now, result, Close::Reset);
    }

    /// A probe is decided before its deadline, unless its connection was.
    fn decided<D: Driver>(&mut self, driver: &mut D, slot: usize, now: Instant, result: ProbeResult, hangup: bool) {
        let run = &mut self.runs[slot];
        if run.is_stale(&result) {
            self.redial(driver, slot, now);
        } else if !hangup && run.machine.is_idle() && now < run.dialled + KEPT {
            self.rest(slot, now, result);
        } else {
            let how = run.machine.farewell(hangup);
            self.finish(driver, slot, now, result, how);
        }
    }

    /// Repeats a probe on a new connection within the time that it has. What may still be heard of the old one under
    /// the same token is a hint to look, and finds that the dial is not decided.
    fn redial<D: Driver>(&mut self, driver: &mut D, slot: usize, now: Instant) {
        let run = &self.runs[slot];
        driver.close(run.sock, Close::Reset);
        let (address, check) = (run.address, Arc::clone(&run.check));
        let from = self.source(&check.sources);
        let opened = open(driver, address, &check, from, Lane::Probe.token(slot));
        let number = self.number();
        let run = &mut self.runs[slot];
        match opened {
            Ok(sock) => {
                run.sock = sock;
                run.machine = Machine::new(&check.probe, address, number);
                run.dialled = now;
                run.carries = Carries::First;
            }
            Err(errno) => {
                let Run { key, kind, started, .. } = self.release(slot);
                let result = failure::failed(ProbePhase::Connect, errno);
                self.done.push_back(Done { key, finding: Finding { kind, started, ended: now, result } });
            }
        }
    }

    /// Ends a probe and keeps its connection for the next one.
    fn rest(&mut self, slot: usize, ended: Instant, result: ProbeResult) {
        let run = &mut self.runs[slot];
        let Run { key, kind, started, .. } = *run;
        self.deadlines.remove(&(run.deadline, slot));
        run.deadline = run.dialled + KEPT;
        run.carries = Carries::Nothing;
        self.deadlines.insert((run.deadline, slot));
        self.slots.remove(&key);
        self.resting.insert(key, slot);
        self.done.push_back(Done { key, finding: Finding { kind, started, ended, result } });
    }

    fn finish<D: Driver>(&mut self, driver: &mut D, slot: usize, ended: Instant, result: ProbeResult, how: Close) {
        let Run { key, address, kind, sock, started, from, aside, .. } = self.release(slot);
        driver.close(sock, how);
        if kind == ProbeKind::Udp
            && let Some(refusals) = self.hosts.known((address.ip(), from))
        {
            match &result {
                ProbeResult::Failed(Failure { reason: FailureReason::Refused, .. }) => {
                    refusals.service_refused(address.port(), ended);
                }
                ProbeResult::Passed(Pass::Answered) => refusals.service_answered(address.port()),
                ProbeResult::Passed(_) | ProbeResult::Failed(_) | ProbeResult::Void(_) => {}
            }
        }
        if let Some(aside) = aside {
            let refusals = self.hosts.known(aside.host());
            aside.end(driver, refusals);
        }
        self.done.push_back(Done { key, finding: Finding { kind, started, ended, result } });
    }

    fn release(&mut self, slot: usize) -> Run {
        let run = self.runs.remove(slot);
        self.slots.remove(&run.key);
        self.deadlines.remove(&(run.deadline, slot));
        run
    }
}

fn open<D: Driver>(
    driver: &mut D,
    address: SocketAddr,
    check: &CheckSettings,
    from: Source,
    token: Token,
) -> Result<Sock, Errno> {
    match opens(&check.probe) {
        Opens::Connection(handshake) => {
            driver.dial(Dial { from, handshake, life: Life::Again, ..Dial::to(address) }, token)
        }
        Opens::Datagrams => driver.dial_udp(address, from, token).inspect(|&sock| driver.hear_unreachable(sock)),
        Opens::Echo => driver.dial_icmp(address.ip(), from, token),
    }
}

/// How far to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Until less came than there was room for: the socket is empty then, or an event comes for what follows.
    Short,
    /// Until the socket has nothing, not even its end.
    Dry,
    /// The same, but not beyond the point where the backend waits for us.
    OurTurn,
}

impl Run {
    /// Whether this says only that the connection of an earlier probe has died: a backend may close what lies idle.
    fn is_stale(&self, result: &ProbeResult) -> bool {
        let broken =
            matches!(result, ProbeResult::Failed(Failure { reason: FailureReason::Reset | FailureReason::Closed, .. }));
        broken && self.carries == Carries::Another && self.machine.has_heard_nothing()
    }

    /// Does all that `event` allows. `Some` ends the probe.
    fn advance<D: Driver>(&mut self, driver: &mut D, event: Event, scratch: &mut [u8]) -> Option<ProbeResult> {
        if self.machine.turn() == Turn::Connect {
            let result = self.connected(driver);
            if result.is_some() || self.machine.turn() == Turn::Connect {
                return result;
            }
        }
        let mut look = event.readable || event.hangup;
        loop {
            let written = self.write(driver);
            if let Ok(Some(result)) = written {
                return Some(result);
            }
            if look || written.is_err() {
                // A backend may answer and close without reading our request. The answer then lies
                // before the error and counts.
                let until = if event.hangup || written.is_err() { Until::Dry } else { Until::Short };
                if let Some(result) = self.read(driver, scratch, until) {
                    return Some(result);
                }
            }
            if let Err(errno) = written {
                return self.machine.handle(Fact::Failed(errno));
            }
            // What was read may ask for an answer, as a handshake does; without one it was all for now.
            if !std::mem::take(&mut look) || self.machine.turn() != Turn::Write {
                return None;
            }
        }
    }

    /// Takes what is there and asks for nothing more. A backend that has not had all we have to say owes no
    /// answer, so its silence, and its losing patience with us, are ours.
    fn look<D: Driver>(&mut self, driver: &mut D, scratch: &mut [u8]) -> Option<ProbeResult> {
        match self.machine.turn() {
            Turn::Connect => self.connected(driver),
            Turn::Write => None,
            Turn::Read => self.read(driver, scratch, Until::OurTurn),
        }
    }

    /// Asks how the dial was decided, and tells the machine if it was.
    fn connected<D: Driver>(&mut self, driver: &mut D) -> Option<ProbeResult> {
        let decided = driver.connected(self.sock)?;
        match decided.and_then(|()| self.other_than_us(driver)) {
            Ok(()) => self.machine.handle(Fact::Connected),
            Err(errno) => self.machine.handle(Fact::Failed(errno)),
        }
    }

    /// A probe of an address of our own host may be given the probed port as its source port, if nobody
    /// listens there, and then finds itself: TCP connects to itself, UDP answers itself. What it has
    /// found is a closed port.
    fn other_than_us<D: Driver>(&self, driver: &D) -> Result<(), Errno> {
        // A socket for echo requests has its identifier in the place of a port.
        let has_port = self.kind != ProbeKind::Icmp;
        if has_port && driver.local_address(self.sock) == Some(self.address) {
            Err(errno::ECONNREFUSED)
        } else {
            Ok(())
        }
    }

    /// Sends until all is sent or the socket is full; then `writable` calls again.
    fn write<D: Driver>(&mut self, driver: &mut D) -> Result<Option<ProbeResult>, Errno> {
        while self.machine.turn() == Turn::Write {
            let rest = self.machine.to_send();
            let whole = rest.is_empty();
            match driver.send(self.sock, rest) {
                // Of an empty datagram all of its 0 bytes were taken.
                Send::Taken(0) if !whole => return Ok(None),
                Send::Taken(bytes) => {
                    let result = self.machine.sent(bytes);
                    if result.is_some() {
                        return Ok(result);
                    }
                }
                Send::Failed(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Reads until something is decided or nothing is left.
    fn read<D: Driver>(&mut self, driver: &mut D, scratch: &mut [u8], until: Until) -> Option<ProbeResult> {
        let datagrams = matches!(self.kind, ProbeKind::Udp | ProbeKind::Dns);
        loop {
            let (fact, short) = match driver.recv(self.sock, scratch) {
                Recv::Bytes(bytes) => (Fact::Received(&scratch[..bytes]), bytes < scratch.len()),
                Recv::Dry => return None,
                // The driver cannot tell the end of a stream from an empty datagram; we can.
                Recv::End if datagrams => (Fact::Received(&[]), true),
                // It comes again however often one asks.
                Recv::End => return self.machine.handle(Fact::Ended),
                Recv::Failed(errno) => (Fact::Failed(errno), true),
            };
            let result = self.machine.handle(fact);
            let enough = match until {
                // A short datagram says nothing of those behind it.
                Until::Short => short && !datagrams,
                Until::Dry => false,
                Until::OurTurn => self.machine.turn() == Turn::Write,
            };
            if result.is_some() || enough {
                return result;
            }
        }
    }
}
