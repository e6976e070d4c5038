//! TCP relays: the hands of tcp and tls-passthrough listeners.
//!
//! ```text
//!   prelude ──done──► dialing ──connected──► relaying ──both ends passed on──► gone
//!      │                 │                      │ the backend resets
//!      │                 │                      ▼
//!      │                 │                   parting ──its last words delivered──► gone
//!      │                 │ refused, timed out, unreachable: the next backend, while there is one and a try is left
//!      └─ refused        └─ nobody left: the client is reset at once, an L4 client must not hang on a dead pool
//! ```
//!
//! Only connections of proxies and of tls-passthrough listeners have a prelude. While dialing, the client's bytes stay in
//! the kernel: nothing needs to be kept for a second try. A reset on one side is passed on as a reset, an end as an end,
//! each direction by itself.

use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_model::exchange::{Attempt, Detail, ExchangeId, Outcome, Question, Timer, Times};
use evenkeel_model::{Cause, Instant, Phase};
use evenkeel_plan::{OnUnhealthy, Protocol, Refuse};
use evenkeel_reactor::{Close, Driver, Errno, Event, Recv, Sock};

use crate::arena::{Arena, Key, Owner, token};
use crate::core::{Accepted, Core, dial_failure};
use crate::gate::Pass;
use crate::machine::{Asked, Flow, Prelude, Told};
use crate::pump::Piping;
use crate::roster::{BackendSlot, ListenerSlot, Picked, PoolSlot};

mod beginning;
mod carrying;
mod dialing;

pub struct Relays<D: Driver> {
    relays: Arena<Relay<D>>,
}

impl<D: Driver> Default for Relays<D> {
    fn default() -> Self {
        Relays { relays: Arena::default() }
    }
}

struct Relay<D: Driver> {
    id: ExchangeId,
    listener: Rc<ListenerSlot>,
    /// `None` until the prelude has told which.
    pool: Option<Rc<PoolSlot>>,
    /// Who connected, or whom a PROXY header named.
    client: SocketAddr,
    client_sock: Sock,
    backend_sock: Option<Sock>,
    picked: Option<Picked>,
    /// Those that failed.
    tried: Vec<Rc<BackendSlot>>,
    attempts: Vec<Attempt>,
    attempt_started: Instant,
    stage: Stage,
    /// `None` for those without a prelude.
    told: Option<Box<Told>>,
    /// Client to backend, and back.
    up: Flow,
    down: Flow,
    up_pipe: Piping<D>,
    down_pipe: Piping<D>,
    times: Times,
    /// When something last came from the backend or went to the client.
    heard: Instant,
    deadline: Instant,
    /// When its lifetime is over.
    ends: Instant,
    armed: Instant,
    /// The right to be connected.
    pass: Pass,
}

enum Stage {
    Prelude(Box<Prelude>),
    Dialing,
    Relaying,
    /// The backend has reset the connection, and the client gets what it had said before. With whether the client was told
    /// of an end in good order before that.
    Parting {
        told_end: bool,
    },
}

/// Why a relay ends before both directions have.
struct Ending {
    cause: Cause,
    detail: Option<Detail>,
    client: Close,
}

impl<D: Driver> Relays<D> {
    pub fn len(&self) -> usize {
        self.relays.len()
    }

    pub fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// Takes over a connection that was admitted.
    pub fn open(&mut self, core: &mut Core<D>, accepted: Accepted) {
        let Accepted { sock, client, listener, at, pass } = accepted;
        let (prelude, timeout) = listener.read(|settings| {
            let asked = |needed| if needed { Asked::Yes } else { Asked::No };
            let header = asked(settings.proxies.contains(client.ip()));
            let hello = asked(settings.protocol == Protocol::TlsPassthrough);
            (Prelude::of(header, hello), settings.header_timeout)
        });
        let pool = listener.pool();
        // Without a prelude nothing else can name the pool; should that ever break, a reset beats a panic.
        if prelude.is_none() && pool.is_none() {
            core.driver.close(sock, Close::Reset);
            core.discharge(&listener);
            return;
        }
        let id = core.next_id();
        let (stage, deadline) = match prelude {
            Some(prelude) => (Stage::Prelude(Box::new(prelude)), at + timeout),
            None => (Stage::Dialing, Instant::NEVER),
        };
        let key = self.relays.insert_with(|_| Relay {
            id,
            listener,
            pool,
            client,
            client_sock: sock,
            backend_sock: None,
            picked: None,
            tried: Vec::new(),
            attempts: Vec::new(),
            attempt_started: at,
            stage,
            told: None,
            up: Flow::default(),
            down: Flow::default(),
            up_pipe: None,
            down_pipe: None,
            times: Times { accepted: Some(at), started: at, ..Times::default() },
            heard: Instant::START,
            deadline,
            ends: Instant::NEVER,
            armed: Instant::NEVER,
            pass,
        });
        let ended = match core.driver.watch(sock, token(Owner::RelayClient, key)) {
            Ok(()) if deadline == Instant::NEVER => self.dial_next(core, key, at),
            Ok(()) => None,
            Err(Errno(errno)) => Some(Ending::reset(Cause::BalancerOverloaded, Some(Detail::Errno(errno)))),
        };
        self.settle(core, key, ended, at);
    }

    pub fn client_event(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if event.readable {
            relay.up.readable(event.hangup);
        }
        if event.writable {
            relay.down.writable();
        }
        let ended = match relay.stage {
            Stage::Relaying => relay.pump(core, now),
            Stage::Prelude(_) => self.hear_prelude(core, key, now),
            Stage::Parting { .. } => relay.part(core, now),
            Stage::Dialing => {
                // A half-close while we dial is the client's right; a reset is its goodbye.
                let is_gone = event.hangup && matches!(core.driver.peek(relay.client_sock), Recv::Failed(_));
                is_gone.then(|| Ending::reset(Cause::ClientAborted, None))
            }
        };
        self.settle(core, key, ended, now);
    }

    pub fn backend_event(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(sock) = relay.backend_sock else { return };
        let Some(to) = relay.picked.as_ref().map(|picked| picked.backend.address) else { return };
        let ended = match relay.stage {
            Stage::Relaying => {
                relay.backend_ready(event);
                relay.pump(core, now)
            }
            Stage::Parting { .. } => {
                relay.backend_ready(event);
                relay.part(core, now)
            }
            Stage::Prelude(_) | Stage::Dialing => match core.dialed(sock, to, event) {
                None => None,
                Some(Ok(())) => {
                    relay.established(core, now);
                    relay.backend_ready(event);
                    relay.pump(core, now)
                }
                Some(Err(errno)) => {
                    let cause = dial_failure(errno, relay.named_source());
                    relay.attempt_failed(core, cause, Some(Detail::Errno(errno.0)), now);
                    self.dial_next_after(core, key, cause, Some(Detail::Errno(errno.0)), now)
                }
            },
        };
        self.settle(core, key, ended, now);
    }

    pub fn timer(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if now >= relay.armed {
            relay.armed = Instant::NEVER;
        }
        let ended = if now < relay.deadline {
            None
        } else {
            match &relay.stage {
                Stage::Prelude(prelude) => {
                    let refusal = prelude.timed_out(relay.listener.read(|settings| settings.header_timeout));
                    Some(Ending::reset(refusal.cause, refusal.detail))
                }
                Stage::Dialing => {
                    let timeout = relay.pool.as_ref().map(|pool| pool.read(|settings| settings.connect_timeout));
                    let (cause, detail) = (Cause::BackendConnectTimeout, timeout.map(Detail::Timeout));
                    relay.attempt_failed(core, cause, detail, now);
                    self.dial_next_after(core, key, cause, detail, now)
                }
                Stage::Relaying => Some(relay.timed_out(now)),
                Stage::Parting { .. } => Some(Ending::reset(Cause::BackendResetRelay, None)),
            }
        };
        self.settle(core, key, ended, now);
    }

    /// Verdicts changed: relays of backends that are out now end where their pool asks for it.
    pub fn verdicts_changed(&mut self, core: &mut Core<D>, now: Instant) {
        let is_struck = |relay: &Relay<D>| {
            let Stage::Relaying = relay.stage else { return false };
            let (Some(pool), Some(picked)) = (&relay.pool, &relay.picked) else { return false };
            pool.read(|settings| settings.on_unhealthy) == OnUnhealthy::Reset && pool.is_unhealthy(&picked.backend)
        };
        if !core.roster.resets_on_unhealthy() {
            return;
        }
        for key in self.relays.keys() {
            if self.relays.get(key).is_some_and(is_struck) {
                self.settle(core, key, Some(Ending::reset(Cause::BackendTurnedUnhealthy, None)), now);
            }
        }
    }

    /// Ends every relay for which `which` says so: the drain deadline has passed.
    pub fn end_all(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&ListenerSlot) -> bool) {
        for key in self.relays.keys() {
            if self.relays.get(key).is_some_and(|relay| which(&relay.listener)) {
                self.settle(core, key, Some(Ending::reset(Cause::BalancerDraining, None)), now);
            }
        }
    }

    /// Either lets the relay go on with its timer set, or ends it.
    fn settle(&mut self, core: &mut Core<D>, key: Key, ended: Option<Ending>, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if ended.is_none() && !relay.is_over() {
            core.arm(token(Owner::RelayClient, key), relay.deadline, &mut relay.armed);
            return;
        }
        if let Some(relay) = self.relays.remove(key) {
            relay.end(core, ended, now);
        }
    }
}

impl Ending {
    const fn reset(cause: Cause, detail: Option<Detail>) -> Self {
        Ending { cause, detail, client: Close::Reset }
    }

    /// For clients that the listener turns away.
    const fn refused(cause: Cause, detail: Detail, how: Refuse) -> Self {
        let client = match how {
            Refuse::Reset => Close::Reset,
            Refuse::Silence => Close::Silent,
        };
        Ending { cause, detail: Some(detail), client }
    }
}

impl<D: Driver> Relay<D> {
    /// Where it was when `cause` struck; `None` is the cause's own place.
    fn phase(&self, cause: Cause) -> Option<Phase> {
        let strikes_anywhere = matches!(cause, Cause::ClientAborted | Cause::BalancerDraining);
        match &self.stage {
            Stage::Relaying | Stage::Parting { .. } => Some(Phase::Relay),
            Stage::Prelude(prelude) if strikes_anywhere => Some(prelude.phase()),
            Stage::Dialing if strikes_anywhere => Some(Phase::Connect),
            Stage::Prelude(_) | Stage::Dialing => None,
        }
    }

    fn end(mut self, core: &mut Core<D>, ending: Option<Ending>, now: Instant) {
        let close = ending.as_ref().map_or(Close::Orderly, |ending| ending.client);
        core.driver.close(self.client_sock, close);
        if let Some(sock) = self.backend_sock.take() {
            core.driver.close(sock, close);
        }
        self.times.ended = now;
        let held = if let Stage::Prelude(prelude) = &self.stage { prelude.held() } else { 0 };
        let (bytes_in, bytes_out) = (self.up.bytes() + held, self.down.bytes());
        let metrics = &self.listener.metrics;
        metrics.bytes_in.add(bytes_in);
        metrics.bytes_out.add(bytes_out);
        metrics.duration.record(now - self.times.started);
        let cause = ending.as_ref().map(|ending| ending.cause);
        if let Some(cause) = cause {
            metrics.causes.one(cause);
        }
        if let Some(picked) = &self.picked {
            let metrics = &picked.backend.metrics;
            metrics.bytes_out.add(bytes_in);
            metrics.bytes_in.add(bytes_out);
            if bytes_out > 0 {
                picked.backend.spoke();
            }
            match cause {
                // Without a word of its own it served nobody; after that a reset may be how its protocol says goodbye.
                Some(cause @ Cause::BackendResetRelay) if bytes_out == 0 => picked.backend.failed(cause),
                Some(cause @ (Cause::BackendResetRelay | Cause::BackendTurnedUnhealthy)) => metrics.causes.one(cause),
                _ => {}
            }
        }
        core.discharge(&self.listener);
        let backend = self.picked.as_ref().map(|picked| &picked.backend).or(self.tried.last());
        // The attempt that stood is only now made into a record: most relays have no other, and then no list either.
        let stood = self.times.connected.and_then(|at| {
            let stood = Attempt::new(self.picked.as_ref()?.backend.address, self.attempt_started, at);
            Some(Attempt { connected: Some(at), ..stood })
        });
        let attempts = match &stood {
            Some(stood) if self.attempts.is_empty() => std::slice::from_ref(stood),
            _ => {
                self.attempts.extend(stood);
                &self.attempts
            }
        };
        let detail = ending.and_then(|ending| ending.detail);
        let then = || core.roster.then(self.pool.as_ref()?, backend?);
        core.observer.ended(&Outcome {
            id: self.id,
            listener: &self.listener.name,
            pool: self.pool.as_ref().map(|pool| &*pool.name),
            client: self.client,
            backend: backend.map(|backend| backend.address),
            request: None,
            sni: self.sni(),
            tls: None,
            status: None,
            cause,
            phase: cause.and_then(|cause| self.phase(cause)),
            detail,
            bytes_in,
            bytes_out,
            datagrams: None,
            times: self.times,
            attempts,
            reuse: None,
            client_requests: 0,
            rule: None,
            timer: cause.and_then(|cause| Timer::of(cause, detail)),
            then: Question::of(&then),
            trace: None,
        });
    }
}
