//! Connections to backends on their way: dialled, secured, ready for a request or for streams.
//!
//! How one that does not come about counts, and what is tried then, is decided where requests are.

use std::rc::Rc;
use std::sync::Arc;

use evenkeel_l4::{BackendSlot, Core, Key, Owner, dial_failure, token};
use evenkeel_model::exchange::{Detail, Reuse};
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Dial, Driver, Event, Source};

use crate::backend::{Backend, State};
use crate::http::Http;
use crate::link::Link;

impl Http {
    pub(crate) fn dial_for<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        slot: &Rc<BackendSlot>,
        now: Instant,
    ) -> Result<(), i32> {
        let pool = self.clients.get(key).and_then(|client| client.attempt.pool.as_ref());
        let tls = pool.and_then(|pool| pool.read(|settings| settings.tls.clone()));
        let made = self.dial(core, slot, Some(key), tls)?;
        if let Some(client) = self.clients.get_mut(key) {
            client.attempt.backend = Some(made);
            client.attempt.reuse = Some(Reuse::Fresh);
            client.wait_on_exchange(now);
        }
        Ok(())
    }

    /// Starts a connection to `slot`, for one client or for nobody yet.
    pub(crate) fn dial<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        slot: &Rc<BackendSlot>,
        client: Option<Key>,
        tls: Option<Arc<evenkeel_tls::Client>>,
    ) -> Result<Key, i32> {
        slot.metrics.connections.one();
        let dial = Dial::to(slot.address);
        let mut dialed = Err(0);
        let made = self.backends.insert_with(|made| {
            dialed = core.driver.dial(dial, token(Owner::HttpBackend, made)).map_err(|errno| errno.0);
            // A failed dial has no socket; the entry is taken out again below.
            let link = Link::Plain(dialed.unwrap_or(evenkeel_reactor::Sock(u32::MAX)));
            Backend { client, tls, ..Backend::new(link, Rc::clone(slot)) }
        });
        if let Err(errno) = dialed {
            self.backends.remove(made);
            return Err(errno);
        }
        Ok(made)
    }

    pub(crate) fn dial_decided<D: Driver>(&mut self, core: &mut Core<D>, made: Key, event: Event, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Some(sock) = backend.link.sock() else { return };
        match core.dialed(sock, backend.slot.address, event) {
            None => {}
            Some(Ok(())) => match backend.tls.take() {
                Some(tls) => self.begin_securing_backend(core, made, sock, &tls, now),
                None => self.backend_ready(core, made, now),
            },
            Some(Err(errno)) => {
                self.backend_not_made(
                    core,
                    made,
                    dial_failure(errno, Source::Kernel),
                    Some(Detail::Errno(errno.0)),
                    now,
                );
            }
        }
    }

    /// The connection stands, with TLS if the pool wants it.
    pub(crate) fn backend_ready<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Some(key) = backend.client else {
            self.begin_carrying_backend(core, made, now);
            return;
        };
        backend.state = State::Busy;
        backend.slot.heard();
        backend.slot.asked(now);
        if self.is_hedge(made) {
            self.send_hedge(core, key);
            return;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.connected(now);
        }
        self.send_request(core, key, now);
        self.read_answer(core, key, now);
        self.drive(core, key, now);
    }

    /// The connection did not come about.
    pub(crate) fn backend_not_made<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        made: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        match self.backends.get(made).map(|backend| backend.client) {
            None => {}
            Some(Some(key)) if self.is_hedge(made) => self.drop_hedge(core, key),
            Some(Some(key)) => {
                self.attempt_failed(core, key, cause, detail, now);
                self.drive(core, key, now);
            }
            Some(None) => self.drop_unmade_carrier(core, made, cause, detail, now),
        }
    }
}
