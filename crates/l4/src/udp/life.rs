//! How a session begins, moves to another backend, and ends.
//!
//! A session that moves keeps its id, its counts and its place: for the client nothing happened. It moves when the client
//! speaks next and not when the verdict falls, so that sessions nobody uses any more cost no socket and no pick, and the
//! survivors are not met by all of them at once.

use std::rc::Rc;

use evenkeel_model::exchange::{Attempt, Detail, Outcome, Question, Timer, Times};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::OnUnhealthy;
use evenkeel_reactor::{Close, Driver, Sock};

use super::header::{self, Announced};
use super::table::Name;
use super::{Known, Session, Sessions, Whose};
use crate::arena::{Key, Owner, token};
use crate::core::{Core, dial_failure};
use crate::gate::Turned;
use crate::machine::{self, Moves, Over, Seen, Terms};
use crate::roster::{BackendSlot, PickFor, Picked, PoolSlot};

/// Whose datagram goes to which pool.
struct Wanted<'a> {
    pool: &'a PoolSlot,
    whose: Whose,
    /// The datagram that the session begins, or goes on, with.
    datagram: &'a [u8],
    now: Instant,
}

/// A backend and the socket to it.
struct Dialled {
    picked: Picked,
    sock: Sock,
}

impl Sessions {
    /// Begins a session with the client's `datagram`.
    pub(super) fn begin<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        listening: Key,
        whose: Whose,
        name: Name,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Key, Turned> {
        let closed = Turned { cause: Cause::BalancerDraining, detail: Detail::Text("no new sessions") };
        let heard = self.listening.get_mut(listening).ok_or(closed)?;
        let listener = Rc::clone(&heard.slot);
        if heard.closes.is_some() || core.is_draining(&listener) {
            return Err(closed);
        }
        let named = match whose.how {
            Known::Sender => None,
            Known::Named => Some(whose.client.ip()),
            Known::Before => {
                let detail = Detail::Text("a datagram without a PROXY header, and none before it had one");
                return Err(Turned { cause: Cause::ClientProxyHeaderInvalid, detail });
            }
        };
        let unserved = Turned { cause: Cause::NoBackendConfigured, detail: Detail::Text("the listener has no pool") };
        let pool = listener.pool().ok_or(unserved)?;
        let pass = core.admit_session(&listener, whose.peer.ip(), named, now)?;
        let id = core.next_id();
        let mut attempts = Vec::new();
        let wanted = Wanted { pool: &pool, whose, datagram, now };
        let begun = self.sessions.try_insert_with(|key| {
            let Dialled { picked, sock } = dial(core, key, &wanted, &mut attempts)?;
            let announced = announced(&pool, whose, id);
            Ok(Session {
                id,
                machine: machine::Session::new(listener.read(Terms::of), now),
                listening,
                listener: Rc::clone(&listener),
                pool: Rc::clone(&pool),
                name,
                whose,
                sock,
                picked,
                teaches: pool.follows_cids(),
                shown: 0,
                announced,
                seen: core.roster.generation(),
                attempt_started: now,
                before: (0, 0),
                attempts,
                times: Times { started: now, picked: Some(now), ..Times::default() },
                _pass: pass,
            })
        });
        match begun {
            Ok(key) => {
                heard.sessions += 1;
                listener.metrics.connections.one();
                self.table.insert(name, key);
                self.arm(core, key);
                Ok(key)
            }
            Err(turned) => {
                core.discharge(&listener);
                Err(turned)
            }
        }
    }

    /// Looks whether the session still belongs to its backend before the client's `datagram` goes there.
    pub(super) fn look<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), Over> {
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let generation = core.roster.generation();
        if session.seen != generation {
            session.seen = generation;
            session.look_up(core, now);
        }
        match session.machine.must_move(now) {
            Some(Moves::Unhealthy) => {
                session.change_backend(core, key, Some(Cause::BackendTurnedUnhealthy), datagram, now)
            }
            Some(Moves::Removed) => session.change_backend(core, key, None, datagram, now),
            None if session.teaches
                && session.pool.leads_elsewhere(datagram, &session.picked.backend, &mut session.shown, now) =>
            {
                session.change_backend(core, key, None, datagram, now)
            }
            None => Ok(()),
        }
    }

    /// New verdicts: ends the sessions whose pool wants that when their backend is unhealthy. The others are looked at when
    /// their client speaks.
    pub fn verdicts_changed<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        if !core.roster.resets_on_unhealthy() {
            return;
        }
        let reset = |session: &Session| {
            session.pool.read(|pool| pool.on_unhealthy) == OnUnhealthy::Reset
                && session.pool.is_unhealthy(&session.picked.backend)
        };
        for key in self.sessions.keys() {
            if self.sessions.get(key).is_some_and(reset) {
                self.end(core, key, machine::Session::reset(), now);
            }
        }
    }

    pub(super) fn end<D: Driver>(&mut self, core: &mut Core<D>, key: Key, over: Over, now: Instant) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.table.remove(session.name, key);
        self.table.remove(session.name.of_sender(), key);
        core.driver.close(session.sock, Close::Orderly);
        session.times.ended = now;
        session.attempt_over(over.cause, now);
        if matches!(over.cause, Some(Cause::BackendConnectRefused | Cause::BackendUnreachable)) {
            session.picked.backend.refused(now);
        }
        let metrics = &session.listener.metrics;
        metrics.duration.record(now - session.times.started);
        if let Some(cause) = over.cause {
            metrics.causes.one(cause);
        }
        core.discharge(&session.listener);
        let then = || core.roster.then(&session.pool, &session.picked.backend);
        core.observer.ended(&Outcome {
            id: session.id,
            listener: &session.listener.name,
            pool: Some(&session.pool.name),
            client: session.whose.client,
            backend: Some(session.picked.backend.address),
            request: None,
            sni: None,
            tls: None,
            status: None,
            cause: over.cause,
            phase: over.phase,
            detail: over.detail,
            bytes_in: session.machine.bytes_in(),
            bytes_out: session.machine.bytes_out(),
            datagrams: Some(session.machine.datagrams()),
            times: session.times,
            attempts: &session.attempts,
            reuse: None,
            client_requests: 0,
            rule: None,
            timer: over.cause.and_then(|cause| Timer::of(cause, over.detail)),
            then: Question::of(&then),
            trace: None,
        });
        if let Some(listening) = self.listening.get_mut(session.listening) {
            listening.sessions -= 1;
            // Not closed here: the rest of a batch may still be on its way through.
            self.unused |= listening.closes.is_some() && listening.sessions == 0;
        }
    }
}

impl Session {
    /// What the newest snapshot says of its backend.
    fn look_up<D: Driver>(&mut self, core: &Core<D>, now: Instant) {
        let backend = &self.picked.backend;
        let seen = if self.pool.is_unhealthy(backend) {
            Seen::Unhealthy
        } else if backend.is_removed() {
            let grace = core.roster.plan().map(|plan| plan.node.drain_timeout).unwrap_or_default();
            Seen::Removed { grace }
        } else {
            Seen::Serving
        };
        self.machine.backend_seen(seen, now);
    }

    /// Goes on with another backend.
    fn change_backend<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Option<Cause>,
        datagram: &[u8],
        now: Instant,
    ) -> Result<(), Over> {
        // Its pool may have left the plan with its backend, and the listener have another.
        let pool = self.listener.pool().unwrap_or_else(|| Rc::clone(&self.pool));
        let wanted = Wanted { pool: &pool, whose: self.whose, datagram, now };
        let mut attempts = Vec::new();
        let dialled = dial(core, key, &wanted, &mut attempts);
        let Dialled { picked, sock } = match dialled {
            Ok(dialled) => dialled,
            Err(turned) => return Err(machine::Session::stranded(turned.cause, turned.detail)),
        };
        self.attempt_over(cause, now);
        // Answers that are still in it were for questions that will be asked again.
        core.driver.close(self.sock, Close::Orderly);
        self.attempts.append(&mut attempts);
        self.attempts.truncate(evenkeel_model::exchange::ATTEMPTS_MAX);
        (self.picked, self.sock, self.attempt_started) = (picked, sock, now);
        self.announced = announced(&pool, self.whose, self.id);
        self.teaches = pool.follows_cids();
        self.pool = pool;
        self.machine.moved();
        Ok(())
    }

    /// The first answer of its backend, perhaps.
    pub(super) fn heard(&mut self, now: Instant) {
        if !self.machine.is_heard() {
            self.picked.backend.metrics.first_byte.record(now - self.attempt_started);
            self.picked.backend.connected();
            self.picked.backend.spoke();
            self.times.first_byte = self.times.first_byte.or(Some(now));
        }
    }

    /// Counts what the backend of now has had and given.
    fn attempt_over(&mut self, cause: Option<Cause>, now: Instant) {
        let backend = &self.picked.backend;
        let all = (self.machine.bytes_in(), self.machine.bytes_out());
        backend.metrics.bytes_out.add(all.0 - self.before.0);
        backend.metrics.bytes_in.add(all.1 - self.before.1);
        self.before = all;
        let of_backend = matches!(
            cause,
            Some(
                Cause::BackendConnectRefused
                    | Cause::BackendUnreachable
                    | Cause::BackendNoReply
                    | Cause::BackendTurnedUnhealthy
            )
        );
        if let Some(cause) = cause.filter(|_| of_backend) {
            backend.failed(cause);
        }
        if self.attempts.len() < evenkeel_model::exchange::ATTEMPTS_MAX {
            let cause = cause.filter(|_| of_backend);
            self.attempts.push(Attempt { cause, ..Attempt::new(backend.address, self.attempt_started, now) });
        }
    }
}

fn announced(pool: &PoolSlot, whose: Whose, id: evenkeel_model::exchange::ExchangeId) -> Option<Announced> {
    pool.read(|pool| header::announced(pool, whose.client, whose.reached, id))
}

/// Picks a backend and opens a socket to it, the next one where that fails at once.
fn dial<D: Driver>(
    core: &mut Core<D>,
    key: Key,
    wanted: &Wanted<'_>,
    attempts: &mut Vec<Attempt>,
) -> Result<Dialled, Turned> {
    let Wanted { pool, whose, datagram, now } = *wanted;
    let client = whose.client;
    let asked = pool.of_datagram(datagram, now);
    let key_of_client = asked.key.or_else(|| pool.tuple_key(client, Some(whose.reached)));
    let sticky = asked.sticky.or_else(|| pool.affine(client.ip(), now));
    let mut tried: Vec<Rc<BackendSlot>> = Vec::new();
    loop {
        let picking = PickFor { key: key_of_client, sticky, datagram: true, ..PickFor::new(client.ip(), &tried, now) };
        let picked = pool.pick(&picking).map_err(|refused| Turned {
            cause: refused.cause(),
            detail: Detail::Text("no backend for a new session"),
        })?;
        let backend = Rc::clone(&picked.backend);
        backend.metrics.connections.one();
        let from = pool.source(client.ip(), backend.address);
        match core.driver.dial_udp(backend.address, from, token(Owner::UdpSession, key)) {
            Ok(sock) => {
                pool.settled(client.ip(), &backend, now);
                pool.sent_datagram(datagram, &backend, now);
                return Ok(Dialled { picked, sock });
            }
            Err(errno) => {
                let cause = dial_failure(errno, from);
                backend.failed(cause);
                let detail = Some(Detail::Errno(errno.0));
                attempts.push(Attempt { cause: Some(cause), detail, ..Attempt::new(backend.address, now, now) });
                tried.push(backend);
                let retries = pool.read(|settings| settings.retries) as usize;
                if tried.len() > retries || !pool.has_other(&tried) {
                    return Err(Turned { cause, detail: Detail::Errno(errno.0) });
                }
            }
        }
    }
}
