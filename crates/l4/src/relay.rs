//! TCP relays: the hands of tcp listeners.
//!
//! ```text
//!   dialing ──connected──► relaying ──both ends passed on──► gone
//!      │ refused, timed out, unreachable: the next backend, while there is one and a try is left
//!      └─ nobody left ──► client reset at once: an L4 client must not hang on a dead pool
//! ```
//!
//! While dialing, the client's bytes stay in the kernel: nothing needs to be kept for a second try. A
//! reset on one side is passed on as a reset, an end as an end, each direction by itself.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_model::exchange::{Attempt, Detail, ExchangeId, Outcome, Times};
use evenkeel_model::{Cause, Instant, Phase};
use evenkeel_reactor::{Close, Dial, Driver, Errno, Event, Recv, Sock, Source};

use crate::arena::{Arena, Key, Owner, token};
use crate::core::{Accepted, Core, dial_failure};
use crate::gate::Pass;
use crate::machine::Flow;
use crate::pump::{Piping, Socks, Then, pump_socks};
use crate::roster::{BackendSlot, ListenerSlot, PickFor, Picked, PoolSlot};

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
    pool: Rc<PoolSlot>,
    client: SocketAddr,
    client_sock: Sock,
    backend_sock: Option<Sock>,
    picked: Option<Picked>,
    tried: Vec<Rc<BackendSlot>>,
    attempts: Vec<Attempt>,
    attempt_started: Instant,
    connected: bool,
    /// Client to backend, and back.
    up: Flow,
    down: Flow,
    up_pipe: Piping<D>,
    down_pipe: Piping<D>,
    times: Times,
    deadline: Instant,
    armed: Instant,
    /// The right to be connected.
    _pass: Pass,
}

/// Why a relay ends before both directions have.
struct Ending {
    cause: Cause,
    detail: Option<Detail>,
    client: Close,
}

/// Which side of a relay broke.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Backend,
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
        // A listener without rules has a pool; should that ever break, a reset beats a panic.
        let Some(pool) = listener.pool() else {
            core.driver.close(sock, Close::Reset);
            core.discharge(&listener);
            return;
        };
        let id = core.next_id();
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
            connected: false,
            up: Flow::default(),
            down: Flow::default(),
            up_pipe: None,
            down_pipe: None,
            times: Times { started: at, ..Times::default() },
            deadline: Instant::NEVER,
            armed: Instant::NEVER,
            _pass: pass,
        });
        let ended = match core.driver.watch(sock, token(Owner::RelayClient, key)) {
            Ok(()) => self.dial_next(core, key, at),
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
        let ended = if relay.connected {
            relay.pump(core, now)
        } else if event.hangup && matches!(core.driver.peek(relay.client_sock), Recv::Failed(_)) {
            // A half-close while we dial is the client's right; a reset is its goodbye.
            Some(Ending::reset(Cause::ClientAborted, None))
        } else {
            None
        };
        self.settle(core, key, ended, now);
    }

    pub fn backend_event(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(sock) = relay.backend_sock else { return };
        let Some(to) = relay.picked.as_ref().map(|picked| picked.backend.address) else { return };
        let ended = if relay.connected {
            relay.backend_ready(event);
            relay.pump(core, now)
        } else {
            match core.dialed(sock, to, event) {
                None => None,
                Some(Ok(())) => {
                    relay.established(now);
                    relay.backend_ready(event);
                    relay.pump(core, now)
                }
                Some(Err(errno)) => {
                    relay.attempt_failed(core, dial_failure(errno, Source::Kernel), now);
                    self.dial_next_after(
                        core,
                        key,
                        dial_failure(errno, Source::Kernel),
                        Some(Detail::Errno(errno.0)),
                        now,
                    )
                }
            }
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
        } else if relay.connected {
            let timeout = relay.listener.read(|settings| settings.idle_timeout);
            Some(Ending::reset(Cause::RelayIdleTimeout, Some(Detail::Timeout(timeout))))
        } else {
            let timeout = relay.pool.read(|settings| settings.connect_timeout);
            relay.attempt_failed(core, Cause::BackendConnectTimeout, now);
            self.dial_next_after(core, key, Cause::BackendConnectTimeout, Some(Detail::Timeout(timeout)), now)
        };
        self.settle(core, key, ended, now);
    }

    /// Ends every relay for which `which` says so: the drain deadline has passed.
    pub fn end_all(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&ListenerSlot) -> bool) {
        for key in self.relays.keys() {
            if self.relays.get(key).is_some_and(|relay| which(&relay.listener)) {
                self.settle(core, key, Some(Ending::reset(Cause::BalancerDraining, None)), now);
            }
        }
    }

    /// Dials the next backend after an attempt failed with `cause`, if there is one and a try is left.
    fn dial_next_after(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) -> Option<Ending> {
        let relay = self.relays.get_mut(key)?;
        let retries = relay.pool.read(|settings| settings.retries) as usize;
        // Never to the same backend first, and for a connection that never came about not at all:
        // it would most likely fail alike, and the client has waited long enough.
        if relay.tried.len() > retries || !relay.pool.has_other(&relay.tried) {
            return Some(Ending::reset(cause, detail));
        }
        self.dial_next(core, key, now)
    }

    /// Picks and dials until a connect is under way or nobody is left.
    fn dial_next(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> Option<Ending> {
        loop {
            let relay = self.relays.get_mut(key)?;
            let picked = match relay.pool.pick(&PickFor::new(relay.client.ip(), &relay.tried, now)) {
                Ok(picked) => picked,
                Err(refused) => return Some(Ending::reset(refused.cause(), None)),
            };
            let backend = Rc::clone(&picked.backend);
            relay.times.picked = relay.times.picked.or(Some(now));
            relay.tried.push(Rc::clone(&backend));
            relay.picked = Some(picked);
            relay.attempt_started = now;
            backend.metrics.connections.one();
            let dial = Dial::to(backend.address);
            match core.driver.dial(dial, token(Owner::RelayBackend, key)) {
                Ok(sock) => {
                    relay.backend_sock = Some(sock);
                    relay.deadline = now + relay.pool.read(|settings| settings.connect_timeout);
                    return None;
                }
                Err(errno) => {
                    let cause = dial_failure(errno, Source::Kernel);
                    relay.attempt_failed(core, cause, now);
                    let retries = relay.pool.read(|settings| settings.retries) as usize;
                    if relay.tried.len() > retries || !relay.pool.has_other(&relay.tried) {
                        return Some(Ending::reset(cause, Some(Detail::Errno(errno.0))));
                    }
                }
            }
        }
    }

    /// Either lets the relay go on with its timer set, or ends it.
    fn settle(&mut self, core: &mut Core<D>, key: Key, ended: Option<Ending>, now: Instant) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let ending = match ended {
            Some(ending) => ending,
            None if relay.up.is_finished() && relay.down.is_finished() => {
                let relay = self.relays.remove(key).expect("found a line above");
                relay.end(core, None, now);
                return;
            }
            None => {
                core.arm(token(Owner::RelayClient, key), relay.deadline, &mut relay.armed);
                return;
            }
        };
        if let Some(relay) = self.relays.remove(key) {
            relay.end(core, Some(ending), now);
        }
    }
}

impl Ending {
    const fn reset(cause: Cause, detail: Option<Detail>) -> Self {
        Ending { cause, detail, client: Close::Reset }
    }
}

impl<D: Driver> Relay<D> {
    fn established(&mut self, now: Instant) {
        self.connected = true;
        self.times.connected = Some(now);
        self.deadline = now + self.idle_timeout();
        let took = now - self.attempt_started;
        if let Some(picked) = &self.picked {
            picked.backend.metrics.first_byte.record(took);
            self.attempts.push(Attempt { backend: picked.backend.address, cause: None, took });
        }
    }

    fn idle_timeout(&self) -> Duration {
        self.listener.read(|settings| settings.idle_timeout)
    }

    fn attempt_failed(&mut self, core: &mut Core<D>, cause: Cause, now: Instant) {
        if let Some(sock) = self.backend_sock.take() {
            core.driver.close(sock, Close::Reset);
        }
        if let Some(picked) = self.picked.take() {
            picked.backend.metrics.causes.one(cause);
            let took = now - self.attempt_started;
            self.attempts.push(Attempt { backend: picked.backend.address, cause: Some(cause), took });
        }
    }

    fn backend_ready(&mut self, event: Event) {
        if event.readable {
            self.down.readable(event.hangup);
        }
        if event.writable {
            self.up.writable();
        }
    }

    /// Moves what can be moved, both ways.
    fn pump(&mut self, core: &mut Core<D>, now: Instant) -> Option<Ending> {
        let backend_sock = self.backend_sock?;
        let before = (self.up.progress(), self.down.progress());
        let up = Socks { from: self.client_sock, to: backend_sock };
        let down = Socks { from: backend_sock, to: self.client_sock };
        let broken = pump_socks(core, &mut self.up, Then::after(&self.down), &mut self.up_pipe, up)
            .map(|broken| if broken.source { Side::Client } else { Side::Backend })
            .or_else(|| {
                pump_socks(core, &mut self.down, Then::after(&self.up), &mut self.down_pipe, down)
                    .map(|broken| if broken.source { Side::Backend } else { Side::Client })
            });
        if (self.up.progress(), self.down.progress()) != before {
            self.deadline = now + self.idle_timeout();
            if self.times.first_byte.is_none() && self.down.bytes() > 0 {
                self.times.first_byte = Some(now);
            }
        }
        match broken? {
            Side::Client => Some(Ending::reset(Cause::ClientAborted, None)),
            Side::Backend => Some(Ending::reset(Cause::BackendResetRelay, None)),
        }
    }

    fn end(mut self, core: &mut Core<D>, ending: Option<Ending>, now: Instant) {
        let close = ending.as_ref().map_or(Close::Orderly, |ending| ending.client);
        core.driver.close(self.client_sock, close);
        if let Some(sock) = self.backend_sock.take() {
            core.driver.close(sock, close);
        }
        self.times.ended = now;
        let metrics = &self.listener.metrics;
        metrics.bytes_in.add(self.up.bytes());
        metrics.bytes_out.add(self.down.bytes());
        metrics.duration.record(now - self.times.started);
        let cause = ending.as_ref().map(|ending| ending.cause);
        if let Some(cause) = cause {
            metrics.causes.one(cause);
        }
        if let Some(picked) = &self.picked {
            let metrics = &picked.backend.metrics;
            metrics.bytes_out.add(self.up.bytes());
            metrics.bytes_in.add(self.down.bytes());
            if cause == Some(Cause::BackendResetRelay) {
                metrics.causes.one(Cause::BackendResetRelay);
            }
        }
        core.discharge(&self.listener);
        core.observer.ended(&Outcome {
            id: self.id,
            listener: &self.listener.name,
            pool: Some(&self.pool.name),
            client: self.client,
            backend: self.tried.last().map(|backend| backend.address),
            request: None,
            sni: None,
            tls: None,
            status: None,
            cause,
            phase: self.connected.then_some(Phase::Relay).filter(|_| cause.is_some()),
            detail: ending.and_then(|ending| ending.detail),
            bytes_in: self.up.bytes(),
            bytes_out: self.down.bytes(),
            datagrams: None,
            times: self.times,
            attempts: &self.attempts,
            reuse: None,
            client_requests: 0,
        });
    }
}
