//! A second backend asked beside a slow first one: whoever speaks first answers, the other is let go.
//!
//! Only for safe requests, on the pool's retry budget, and to another backend. The second attempt has a cursor of its own over
//! the request's bytes, which are held until an answer begins. Pools that speak HTTP/2 are not hedged.

use std::rc::Rc;

use evenkeel_l4::{Arrival, Core, Key, Picked};
use evenkeel_model::exchange::Reuse;
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::Speaks;
use evenkeel_reactor::{Close, Driver, Event, Recv, Send};

use crate::backend::State;
use crate::dialing::Bears;
use crate::http::Http;
use crate::machine::Stage;

/// The second attempt.
pub(crate) struct Hedge {
    pub backend: Key,
    pub picked: Picked,
    pub started: Instant,
    sent: usize,
}

impl Http {
    /// Asks a second backend, if there is one and the budget allows it.
    pub(crate) fn hedge<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let (Some(pool), Some(picked)) = (client.attempt.pool.clone(), &client.attempt.picked) else { return };
        if client.exchange.stage != Stage::Awaiting
            || !client.exchange.is_repeatable()
            || pool.read(|settings| settings.speaks) != Speaks::Http1
        {
            return;
        }
        let first = Rc::clone(&picked.backend);
        client.attempt.tried.push(first);
        let allowed = pool.has_other(&client.attempt.tried) && pool.budget().try_retry(now);
        let second = allowed.then(|| pool.pick(&client.pick_for(Arrival::New, now)).ok()).flatten();
        client.attempt.tried.pop();
        let Some(picked) = second else { return };
        let slot = Rc::clone(&picked.backend);
        slot.asked(now);
        let kept = self.take_kept(core, key, &slot);
        let made = match kept {
            Some(kept) => {
                if let Some(backend) = self.backends.get_mut(kept) {
                    backend.state = State::Busy;
                    backend.client = Some(key);
                    backend.reused = true;
                }
                kept
            }
            None => match self.dial(core, &slot, key, Bears::Request) {
                Ok(made) => made,
                Err(_) => return,
            },
        };
        let Some(client) = self.clients.get_mut(key) else { return };
        // The first try has sent all its bytes, so that the second may change them.
        if client.exchange.trace.is_some() {
            client.exchange.try_begins(client.attempt.attempts.len() as u64 + 2);
        }
        client.attempt.hedge = Some(Hedge { backend: made, picked, started: now, sent: 0 });
        self.send_hedge(core, key);
    }

    /// Something happened to the second connection.
    pub(crate) fn hedge_event<D: Driver>(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        if event.writable {
            self.send_hedge(core, key);
        }
        if !event.readable && !event.hangup {
            return;
        }
        let hedged = self.clients.get(key).and_then(|client| client.attempt.hedge.as_ref()).map(|hedge| hedge.backend);
        let Some(backend) = hedged.and_then(|made| self.backends.get_mut(made)) else { return };
        match backend.link.peek(&mut core.driver, &mut self.carriers) {
            Recv::Bytes(_) => {
                // The first one is slower, and has done nothing wrong.
                self.promote_hedge(core, key, None, now);
                self.read_answer(core, key, now);
                self.drive(core, key, now);
            }
            Recv::Dry => {}
            Recv::End | Recv::Failed(_) => self.drop_hedge(core, key),
        }
    }

    pub(crate) fn send_hedge<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(hedge) = &mut client.attempt.hedge else { return };
        let Some(backend) = self.backends.get_mut(hedge.backend) else { return };
        if backend.state != State::Busy {
            return;
        }
        // A link that was blocked has been flushed, or will be at its next event.
        let _ = backend.link.flush(&mut core.driver);
        let rest = &client.exchange.whole_request()[hedge.sent..];
        if rest.is_empty() {
            return;
        }
        match backend.link.send(&mut core.driver, &mut self.carriers, rest) {
            Send::Taken(taken) => hedge.sent += taken,
            Send::Failed(_) => self.drop_hedge(core, key),
        }
    }

    /// The first attempt is over, for `cause` if it failed: the second goes on in its place.
    pub(crate) fn promote_hedge<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Option<Cause>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(hedge) = client.attempt.hedge.take() else { return };
        if let Some(first) = client.attempt.backend.take().and_then(|made| self.backends.remove(made)) {
            first.link.close(&mut core.driver, &mut self.carriers, Close::Reset);
        }
        client.abandon(cause, now);
        let Hedge { backend: made, picked, started, sent } = hedge;
        client.attempt.started = started;
        client.attempt.picked = Some(picked);
        client.attempt.backend = Some(made);
        if let Some(backend) = self.backends.get(made) {
            let idle = now - backend.idle_since;
            client.attempt.reuse = Some(if backend.reused { Reuse::Reused { idle } } else { Reuse::Fresh });
            if backend.state == State::Busy {
                client.exchange.connected(started);
                client.exchange.sent(sent, now);
            }
        }
        client.wait_on_exchange(now);
    }

    /// The second attempt is not needed any more, or came to nothing.
    pub(crate) fn drop_hedge<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(hedge) = client.attempt.hedge.take() else { return };
        if let Some(backend) = self.backends.remove(hedge.backend) {
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Reset);
        }
    }

    /// Whether the connection is the second one of its client.
    pub(crate) fn is_hedge(&self, made: Key) -> bool {
        let client = self.backends.get(made).and_then(|backend| backend.client);
        client.and_then(|key| self.clients.get(key)).is_some_and(|client| client.attempt.hedges_on(made))
    }
}
