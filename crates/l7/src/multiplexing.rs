//! Requests as streams of HTTP/2 connections to backends: finding a connection with room, or making one.
//!
//! While one is being made, further requests wait for it instead of making more of them. When it does not come about, each
//! of them has a failed attempt, and the machine's usual word on what may be tried next.

use std::rc::Rc;

use evenkeel_h2::{Connection, Role, Settings};
use evenkeel_l4::{BackendSlot, Core, Key, Owner, token};
use evenkeel_model::exchange::{Detail, Reuse};
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_reactor::{Close, Driver};

use crate::backend::{Backend, State};
use crate::carriers::Holder;
use crate::carrying::NOTHING_NEW;
use crate::dialing::{Bears, NotDialed};
use crate::http::Http;
use crate::link::Link;

impl Http {
    /// Sends the request of `key` on a connection to `slot` that has room, or has it wait for one that is being made.
    ///
    /// # Errors
    /// When a connection is needed and cannot even be begun.
    pub(crate) fn find_carrier<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        slot: &Rc<BackendSlot>,
        now: Instant,
    ) -> Result<(), NotDialed> {
        let mut coming = None;
        let mut position = 0;
        loop {
            let Some(made) = slot.carriers.borrow().get(position).copied() else { break };
            position += 1;
            match self.backends.get(made).map(|backend| (backend.state, backend.waiting.len())) {
                Some((State::Carrying, _)) if self.join(core, key, made, now) => return Ok(()),
                Some((State::Dialing | State::Greeting | State::Securing, waiting))
                    if waiting < limits::STREAMS.default as usize =>
                {
                    coming.get_or_insert(made);
                }
                Some((State::Carrying, _)) if self.awaits_settings(key, made) => {
                    coming.get_or_insert(made);
                }
                _ => {}
            }
        }
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        let made = match coming {
            Some(made) => made,
            None => {
                let Some(pool) = client.attempt.pool.clone() else { return Ok(()) };
                let connect_timeout = client.timeouts.connect;
                let made = self.dial(core, slot, key, Bears::Streams)?;
                if let Some(backend) = self.backends.get_mut(made) {
                    // Nobody else looks for one that is a client's own.
                    if !backend.exclusive {
                        slot.carriers.borrow_mut().push(made);
                    }
                    backend.pool = Some(pool);
                    backend.deadline = now + connect_timeout;
                    core.arm(token(Owner::HttpBackend, made), backend.deadline, &mut backend.armed);
                }
                made
            }
        };
        if let Some(backend) = self.backends.get_mut(made) {
            backend.waiting.push(key);
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.attempt.awaits = Some(made);
            client.attempt.reuse = Some(Reuse::Fresh);
            client.wait_on_exchange(now);
        }
        Ok(())
    }

    /// Whether a backend takes tunnels is known when its settings are; until then a request for one has to wait, or it would
    /// arrive as an ordinary one.
    fn awaits_settings(&self, key: Key, made: Key) -> bool {
        let asks = self.clients.get(key).is_some_and(|client| client.exchange.asked().upgrade);
        let carrier = self.backends.get(made).and_then(|backend| backend.carries);
        let known = carrier.and_then(|key| self.carriers.get(key)).is_none_or(|it| it.machine.settings_known());
        asks && !known
    }

    /// Opens a stream for the request on a connection that stands. False when that has no room, or not yet.
    fn join<D: Driver>(&mut self, core: &mut Core<D>, key: Key, made: Key, now: Instant) -> bool {
        if self.awaits_settings(key, made) {
            return false;
        }
        let Some(holder) = self.backends.get_mut(made) else { return false };
        let Some(carrier) = holder.carries else { return false };
        let Some(lane) = self.carriers.open(carrier) else { return false };
        let slot = Rc::clone(&holder.slot);
        // One that others are using has shown that it is alive.
        let alone = self.carriers.get(carrier).is_none_or(|carrier| carrier.machine.streams() == 1);
        let reused = std::mem::replace(&mut holder.reused, true);
        let stream = self.backends.insert_with(|_| Backend {
            state: State::Busy,
            client: Some(key),
            reused: reused && alone,
            ..Backend::new(Link::Stream(lane), Rc::clone(&slot))
        });
        self.carriers.assign(lane, token(Owner::HttpBackend, stream));
        if reused {
            slot.metrics.reused.one();
        }
        let Some(client) = self.clients.get_mut(key) else { return true };
        client.attempt.awaits = None;
        client.attempt.backend = Some(stream);
        client.attempt.reuse =
            Some(if reused { Reuse::Reused { idle: std::time::Duration::ZERO } } else { Reuse::Fresh });
        client.exchange.connected(now);
        self.send_request(core, key, now);
        true
    }

    /// The connection stands: those who waited for it get their streams.
    pub(crate) fn begin_carrying_backend<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let settings = Settings {
            streams: 0,
            stream_window: limits::HTTP2_BACKEND_WINDOW.value as u32,
            connection_window: limits::HTTP2_BACKEND_WINDOWS.value as u32,
            header_limit: limits::HEADER_LIMIT.default as u32,
            max_frame: limits::HTTP2_FRAME.value as u32,
            extended_connect: true,
            secure: matches!(backend.link, Link::Tls(_)),
        };
        let carrier = self.carriers.insert(Connection::new(Role::Client, &settings, now), Holder::Backend(made));
        backend.state = State::Carrying;
        backend.carries = Some(carrier);
        self.join_waiting(core, made, now);
        // It may have spoken first.
        self.carry(core, Holder::Backend(made), NOTHING_NEW, now);
    }

    /// Those who wait for this connection get their streams, as far as it can give them.
    pub(crate) fn join_waiting<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let slot = Rc::clone(&backend.slot);
        for key in std::mem::take(&mut backend.waiting) {
            if self.clients.get(key).is_none_or(|client| client.attempt.awaits != Some(made)) {
                continue;
            }
            if self.awaits_settings(key, made) {
                if let Some(backend) = self.backends.get_mut(made) {
                    backend.waiting.push(key);
                }
                continue;
            }
            if let Some(client) = self.clients.get_mut(key) {
                client.attempt.awaits = None;
            }
            if !self.join(core, key, made, now)
                && let Err(NotDialed { cause, errno }) = self.find_carrier(core, key, &slot, now)
            {
                self.attempt_failed(core, key, cause, Some(Detail::Errno(errno)), now);
            }
            self.drive(core, key, now);
        }
    }

    /// The connection did not come about, or is over: each request that waits for it has a failed attempt.
    pub(crate) fn drop_unmade_carrier<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        made: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        let waiting = self.backends.get_mut(made).map(|backend| std::mem::take(&mut backend.waiting));
        self.drop_backend_connection(core, made, Close::Orderly);
        for key in waiting.unwrap_or_default() {
            let Some(client) = self.clients.get_mut(key).filter(|client| client.attempt.awaits == Some(made)) else {
                continue;
            };
            client.attempt.awaits = None;
            self.attempt_failed(core, key, cause, detail, now);
            self.drive(core, key, now);
        }
    }

    /// The time to make a connection that is to carry streams is up.
    pub(crate) fn carrier_not_made<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get(made) else { return };
        let timeout = backend.pool.as_ref().map(|pool| pool.read(|settings| settings.connect_timeout));
        let cause = match backend.state {
            State::Securing => Cause::BackendTlsFailed,
            _ => Cause::BackendConnectTimeout,
        };
        self.drop_unmade_carrier(core, made, cause, timeout.map(Detail::Timeout), now);
    }

    /// Lets a connection go that carries streams, or was to.
    pub(crate) fn drop_backend_connection<D: Driver>(&mut self, core: &mut Core<D>, made: Key, how: Close) {
        if let Some(backend) = self.backends.remove(made) {
            backend.slot.carriers.borrow_mut().retain(|&kept| kept != made);
            backend.link.close(&mut core.driver, &mut self.carriers, how);
        }
    }
}
