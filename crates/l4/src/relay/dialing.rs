//! Finds a backend for a relay and connects to it, the next one if that fails.
//!
//! What the backend is told of its client goes out the moment the connection stands, in front of everything else. A
//! connection that failed has carried nothing, so the next try costs the client time and no byte.

use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_balance::Schedule;
use evenkeel_model::exchange::{Attempt, Detail, Timer};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{self as plan, ProxyProtocol, ProxyVersion};
use evenkeel_reactor::{Close, Driver, Source};
use evenkeel_wire::proxy::{self, Sent};

use crate::arena::{Key, Owner, token};
use crate::core::{Core, dial_failure};
use crate::roster::PickFor;

use super::{Ending, Relay, Relays, Stage};

impl<D: Driver> Relays<D> {
    /// Dials the next backend after an attempt failed with `cause`, if there is one and a try is left.
    pub(super) fn dial_next_after(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) -> Option<Ending> {
        let relay = self.relays.get_mut(key)?;
        if relay.may_try_again() { self.dial_next(core, key, now) } else { Some(Ending::reset(cause, detail)) }
    }

    /// Picks and dials until a connect is under way or nobody is left.
    pub(super) fn dial_next(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> Option<Ending> {
        loop {
            let relay = self.relays.get_mut(key)?;
            let pool = relay.pool.as_ref()?;
            let client = relay.client.ip();
            let is_tuple = pool.read(|settings| settings.schedule == Schedule::Tuple);
            let wanted = PickFor {
                // The address it came to is asked of the kernel, so only where somebody wants to know it.
                key: if is_tuple { pool.tuple_key(relay.client, relay.local(core)) } else { None },
                sticky: pool.affine(client, now),
                ..PickFor::new(client, &relay.tried, now)
            };
            let picked = match pool.pick(&wanted) {
                Ok(picked) => picked,
                Err(refused) => return Some(Ending::reset(refused.cause(), None)),
            };
            let dial = pool.dial(client, picked.backend.address);
            let timeout = pool.read(|settings| settings.connect_timeout);
            relay.times.picked = relay.times.picked.or(Some(now));
            relay.attempt_started = now;
            picked.backend.metrics.connections.one();
            relay.picked = Some(picked);
            match core.driver.dial(dial, token(Owner::RelayBackend, key)) {
                Ok(sock) => {
                    relay.backend_sock = Some(sock);
                    relay.deadline = now + timeout;
                    return None;
                }
                Err(errno) => {
                    let cause = dial_failure(errno, dial.from);
                    relay.attempt_failed(core, cause, Some(Detail::Errno(errno.0)), now);
                    if !relay.may_try_again() {
                        return Some(Ending::reset(cause, Some(Detail::Errno(errno.0))));
                    }
                }
            }
        }
    }
}

impl<D: Driver> Relay<D> {
    /// Never to the same backend again: it would most likely fail alike, and the client has waited long enough.
    fn may_try_again(&self) -> bool {
        let Some(pool) = &self.pool else { return false };
        self.tried.len() <= pool.read(|settings| settings.retries) as usize && pool.has_other(&self.tried)
    }

    pub(super) fn attempt_failed(&mut self, core: &mut Core<D>, cause: Cause, detail: Option<Detail>, now: Instant) {
        if let Some(sock) = self.backend_sock.take() {
            core.driver.close(sock, Close::Reset);
        }
        if let Some(picked) = self.picked.take() {
            picked.backend.failed(cause);
            let failed = Attempt::new(picked.backend.address, self.attempt_started, now);
            self.attempts.push(Attempt { cause: Some(cause), detail, timer: Timer::of(cause, detail), ..failed });
            self.tried.push(Rc::clone(&picked.backend));
        }
    }

    /// Where dials come from, as far as it matters for what their failure means.
    pub(super) fn named_source(&self) -> Source {
        let Some(pool) = &self.pool else { return Source::Kernel };
        pool.read(|settings| match &settings.source {
            plan::Source::Kernel => Source::Kernel,
            plan::Source::Own(addresses) => addresses.first().map_or(Source::Kernel, |first| Source::Own(*first)),
            plan::Source::Client => Source::Foreign(self.client.ip()),
        })
    }

    /// The address the client came to: ours, or what a PROXY header said.
    fn local(&self, core: &Core<D>) -> Option<SocketAddr> {
        let told = self.told.as_ref().and_then(|told| told.client);
        told.map(|(_, local)| local).or_else(|| core.driver.local_address(self.client_sock))
    }

    pub(super) fn established(&mut self, core: &mut Core<D>, now: Instant) {
        self.stage = Stage::Relaying;
        self.times.connected = Some(now);
        let (idle, lifetime) = self.listener.read(|settings| (settings.idle_timeout, settings.lifetime));
        self.ends = lifetime.map_or(Instant::NEVER, |lifetime| self.times.started + lifetime);
        self.deadline = (now + idle).min(self.ends);
        let Some(picked) = &self.picked else { return };
        picked.backend.metrics.first_byte.record(now - self.attempt_started);
        picked.backend.connected();
        let Some(pool) = &self.pool else { return };
        pool.settled(self.client.ip(), &picked.backend, now);
        if let Some(asked) = pool.read(|settings| settings.proxy_protocol) {
            // At once and not with the client's first byte: in some protocols the server speaks first.
            let header = self.header(core, asked);
            self.up.lead(&header);
        }
    }

    fn header(&self, core: &Core<D>, asked: ProxyProtocol) -> Vec<u8> {
        let mut header = Vec::new();
        let local = self.local(core).unwrap_or(SocketAddr::from(([0; 4], 0)));
        if asked.version == ProxyVersion::V1 {
            proxy::write_v1(&mut header, self.client, local);
            return header;
        }
        let told = self.told.as_deref();
        let own_id = self.id.to_string();
        let unique_id = told.and_then(|told| told.unique_id()).unwrap_or(own_id.as_bytes());
        proxy::write_v2(
            &mut header,
            &Sent {
                client: self.client,
                local,
                datagram: false,
                authority: told.and_then(|told| told.authority()).filter(|_| asked.authority),
                alpn: told.and_then(|told| told.alpn()).filter(|_| asked.alpn),
                unique_id: Some(unique_id).filter(|_| asked.unique_id),
            },
        );
        header
    }
}
