//! The request's way: head, pick, connection, body.
//!
//! No byte reaches a backend before the head was read and judged. Whether a failed attempt may be made again is
//! the machine's word; whether there is somebody to make it at, the pool's.

use std::rc::Rc;

use evenkeel_l4::{Arrival, BackendSlot, Core, Key, Refused};
use evenkeel_model::exchange::{Attempt, Detail, Reuse};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::Speaks;
use evenkeel_reactor::{Close, Driver, Recv, Send};
use evenkeel_wire::{FieldSlots, Parsed, parse_request};

use crate::backend::State;
use crate::client::Standing;
use crate::dialing::NotDialed;
use crate::http::Http;
use crate::machine::{Retry, Stage, Tried, Wait};

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Http {
    /// Reads and understands a head. True when something changed and the connection should be driven on.
    pub(crate) fn read_head<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if !client.input.is_empty() && client.standing == Standing::Idle {
            // Sent behind the request before: it has waited its turn.
            let input = std::mem::take(&mut client.input);
            return self.take_head(core, key, &input, now);
        }
        if !client.readable {
            return false;
        }
        let mut scratch = core.scratch();
        let received = client.link.recv(&mut core.driver, &mut self.carriers, &mut scratch);
        let went_on = match received {
            Recv::Bytes(bytes) => {
                client.readable = !client.link.is_drained(bytes, scratch.len()) || client.hangup;
                if client.input.is_empty() {
                    self.take_head(core, key, &scratch[..bytes], now)
                } else {
                    let mut input = std::mem::take(&mut client.input);
                    input.extend_from_slice(&scratch[..bytes]);
                    self.take_head(core, key, &input, now)
                }
            }
            Recv::Dry => {
                client.readable = false;
                false
            }
            Recv::End | Recv::Failed(_) => {
                if client.standing == Standing::Head {
                    self.client_gone(core, key, now);
                } else {
                    self.drop_client(core, key, Close::Orderly);
                }
                false
            }
        };
        core.give_back(scratch);
        went_on
    }

    /// `input` holds all that was received and not yet understood.
    fn take_head<D: Driver>(&mut self, core: &mut Core<D>, key: Key, input: &[u8], now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if client.standing == Standing::Idle {
            client.standing = Standing::Head;
            let id = core.next_id();
            client.exchange.reset(id, now);
            client.wait_for(Wait::Header, now);
        }
        if input.starts_with(&PREFACE[..3]) && client.may_carry() {
            if let Some(rest) = input.get(..PREFACE.len()) {
                if rest == PREFACE {
                    self.begin_carrying(core, key, input, now);
                    return false;
                }
            } else if PREFACE.starts_with(input) {
                client.input.extend_from_slice(input);
                return client.readable;
            }
        }
        let limit = client.listener.read(|settings| settings.http.header_limit);
        let mut slots = FieldSlots::new();
        match parse_request(input, &mut slots, limit) {
            Parsed::Partial => {
                client.input.extend_from_slice(input);
                // Only an edge, or the end behind a hangup, can bring more.
                client.readable
            }
            Parsed::Refused(refusal) => {
                client.exchange.bytes_in += input.len() as u64;
                let detail = match refusal.cause {
                    Cause::ClientMalformedRequest => Detail::Text(refusal.detail),
                    _ => Detail::Limit(limit as u64),
                };
                self.answer(core, key, refusal.cause, Some(detail), now);
                true
            }
            Parsed::Whole(head) => {
                self.begin(core, key, &head, &input[head.len..], now);
                true
            }
        }
    }

    /// Picks a backend and sends the request on a kept connection, or dials.
    pub(crate) fn attempt<D: Driver>(&mut self, core: &mut Core<D>, key: Key, connection: Connection, now: Instant) {
        self.attempt_as(core, key, connection, Arrival::New, now);
    }

    pub(crate) fn attempt_as<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        connection: Connection,
        arrival: Arrival,
        now: Instant,
    ) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            let Some(pool) = client.attempt.pool.clone() else { return };
            let picked = match pool.pick(&client.pick_for(arrival, now)) {
                Ok(picked) => picked,
                Err(Refused::Nobody(cause)) => {
                    self.answer(core, key, cause, None, now);
                    return;
                }
                Err(Refused::Full) => {
                    self.wait_in_queue(core, key, &pool, arrival, now);
                    return;
                }
            };
            let slot = Rc::clone(&picked.backend);
            slot.asked(now);
            client.exchange.times.picked.get_or_insert(now);
            if arrival == Arrival::Woken {
                client.exchange.times.dequeued = Some(now);
            }
            if client.exchange.trace.is_some() {
                client.exchange.try_begins(client.attempt.attempts.len() as u64 + 1);
            }
            client.attempt.started = now;
            client.attempt.picked = Some(picked);
            if connection == Connection::Any
                && let Some(kept) = self.take_kept(core, key, &slot)
            {
                self.use_kept(core, key, kept, now);
                return;
            }
            let begun = match pool.read(|settings| settings.speaks) {
                Speaks::Http1 => self.dial_for(core, key, &slot, now),
                Speaks::Http2 => self.find_carrier(core, key, &slot, now),
            };
            let Err(NotDialed { cause, errno }) = begun else { return };
            let detail = Some(Detail::Errno(errno));
            if !self.may_try_again(key, cause, detail, Tried::Connecting, now) {
                self.answer_failed(core, key, cause, detail, now);
                return;
            }
        }
    }

    /// A kept connection to `slot` that is still good, as far as one can know.
    pub(crate) fn take_kept<D: Driver>(&mut self, core: &mut Core<D>, key: Key, slot: &Rc<BackendSlot>) -> Option<Key> {
        let idempotent = self.clients.get(key)?.exchange.idempotent();
        loop {
            let kept = slot.idle.borrow_mut().pop()?;
            let backend = self.backends.get_mut(kept)?;
            // What cannot be repeated deserves a look first: the backend may have closed since the last
            // turn of the loop. What can be repeated is not worth the call.
            if idempotent || backend.link.peek(&mut core.driver, &mut self.carriers) == Recv::Dry {
                return Some(kept);
            }
            if let Some(backend) = self.backends.remove(kept) {
                backend.link.close(&mut core.driver, &mut self.carriers, Close::Orderly);
            }
        }
    }

    fn use_kept<D: Driver>(&mut self, core: &mut Core<D>, key: Key, kept: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(backend) = self.backends.get_mut(kept) else { return };
        backend.state = State::Busy;
        backend.client = Some(key);
        backend.reused = true;
        backend.slot.metrics.reused.one();
        client.attempt.backend = Some(kept);
        client.attempt.reuse = Some(Reuse::Reused { idle: now - backend.idle_since });
        client.exchange.connected(now);
        self.send_request(core, key, now);
    }

    /// Sends what the backend is owed, as far as its socket takes it.
    pub(crate) fn send_request<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(backend) = client.attempt.backend.and_then(|made| self.backends.get_mut(made)) else { return };
        if backend.state != State::Busy {
            return;
        }
        let unsent = client.exchange.unsent();
        if unsent.is_empty() {
            return;
        }
        match backend.link.send(&mut core.driver, &mut self.carriers, unsent) {
            Send::Taken(taken) => {
                let whom = client.exchange.wait(client.is_behind());
                client.exchange.sent(taken, now);
                // A backend that takes nothing gets no new time, however much the client still sends.
                if taken > 0 || client.exchange.wait(client.is_behind()) != whom {
                    client.wait_on_exchange(now);
                }
            }
            Send::Failed(_) => {
                // It may have answered before it closed (413 to a long upload): reading tells.
                backend.readable = true;
                backend.hangup = true;
                self.read_answer(core, key, now);
            }
        }
    }

    /// Reads more of the request's body, and notices when the client has left.
    pub(crate) fn read_body<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        while let Some(client) = self.clients.get_mut(key) {
            if client.standing != Standing::Busy || client.exchange.stage == Stage::Relaying {
                return;
            }
            if client.hangup && client.exchange.request_complete() {
                self.client_gone(core, key, now);
                return;
            }
            if !client.readable || !client.exchange.wants_body() {
                return;
            }
            let mut scratch = core.scratch();
            match client.link.recv(&mut core.driver, &mut self.carriers, &mut scratch) {
                Recv::Bytes(bytes) => {
                    client.readable = !client.link.is_drained(bytes, scratch.len()) || client.hangup;
                    match client.exchange.body(&scratch[..bytes]) {
                        Ok(consumed) => {
                            client.input.extend_from_slice(&scratch[consumed..bytes]);
                            self.send_request(core, key, now);
                        }
                        Err((cause, detail)) => self.answer(core, key, cause, Some(detail), now),
                    }
                }
                Recv::Dry => client.readable = false,
                Recv::End | Recv::Failed(_) => self.client_gone(core, key, now),
            }
            core.give_back(scratch);
        }
    }

    /// An attempt came to nothing before an answer was passed on: once more, or the client is told.
    pub(crate) fn attempt_failed<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.attempt.hedge.is_some() {
            self.promote_hedge(core, key, Some(cause), now);
            return;
        }
        let made = client.attempt.backend.take().and_then(|made| self.backends.remove(made));
        client.attempt.awaits = None;
        let tried = match (&made, client.exchange.stage) {
            (_, Stage::Connecting) | (None, _) => Tried::Connecting,
            // As good as not connected: the backend has not looked at it.
            (Some(backend), _) if backend.refused => Tried::Connecting,
            (Some(backend), _) if backend.reused => Tried::Reused,
            (Some(_), _) => Tried::Fresh,
        };
        if let Some(backend) = made {
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Reset);
        }
        if self.may_try_again(key, cause, detail, tried, now) {
            let connection = if tried == Tried::Connecting { Connection::Any } else { Connection::Fresh };
            self.attempt(core, key, connection, now);
        } else {
            self.answer_failed(core, key, cause, detail, now);
        }
    }

    /// Writes the failed attempt down and decides with the machine, the pool and the budget whether there is
    /// another.
    fn may_try_again(&mut self, key: Key, cause: Cause, detail: Option<Detail>, tried: Tried, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Some(pool) = client.attempt.pool.clone() else { return false };
        let Some(picked) = client.attempt.picked.take() else { return false };
        let slot = Rc::clone(&picked.backend);
        drop(picked);
        let failed = client.attempt_over(slot.address, now);
        let timer = client.timer(cause, detail);
        client.attempt.attempts.push(Attempt { cause: Some(cause), detail, timer, ..failed });
        let retry = client.exchange.attempt_failed(cause, tried);
        if retry == Retry::FreshConnection {
            // It closed a connection that had lain idle, as it may.
            slot.metrics.causes.one(cause);
        } else {
            slot.failed(cause);
        }
        if retry != Retry::FreshConnection {
            client.attempt.tried.push(slot);
        }
        let retries = client.attempt.wants.retries as usize;
        let tries_left = client.attempt.attempts.len() <= retries;
        let allowed = match retry {
            Retry::No => false,
            // Free, but not one more than the config lets a backend see.
            Retry::FreshConnection => client.attempt.attempts.len() <= retries.max(1),
            Retry::Other => tries_left && pool.has_other(&client.attempt.tried),
            Retry::OtherOnBudget if !(tries_left && pool.has_other(&client.attempt.tried)) => false,
            Retry::OtherOnBudget => {
                let paid = pool.budget().try_retry(now);
                if !paid {
                    client.exchange.failure = Some((Cause::RetryBudgetExhausted, None));
                }
                paid
            }
        };
        if allowed {
            client.wait_on_exchange(now);
        }
        allowed
    }

    /// Tells the client of an attempt that was the last.
    fn answer_failed<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        let out_of_budget = self
            .clients
            .get(key)
            .is_some_and(|client| matches!(client.exchange.failure, Some((Cause::RetryBudgetExhausted, _))));
        if out_of_budget {
            self.answer(core, key, Cause::RetryBudgetExhausted, detail, now);
        } else {
            self.answer(core, key, cause, detail, now);
        }
    }
}

/// Which connection an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Any,
    /// Not a kept one: the last one kept was dead, and its fellows probably are too.
    Fresh,
}
