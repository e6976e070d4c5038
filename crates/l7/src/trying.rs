//! Attempts that are given up before their time because another backend may do better.
//!
//! Three things lead here: the time of one try is over, the time has come to ask a second backend beside the first, and the
//! verdict on a backend turned unhealthy while requests waited for it. Only requests that may be made twice are concerned,
//! and only when there is somebody else to ask; the first two are paid for by the budget. If not, the attempt simply goes on.

use std::rc::Rc;

use evenkeel_l4::{BackendSlot, Core, Key, PoolSlot};
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Close, Driver};

use crate::http::Http;
use crate::machine::{Stage, Wait};
use crate::requesting::Connection;

/// What giving an attempt up costs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Price {
    /// A retry of the pool's budget: the backend may merely be slow, and would be asked in vain.
    Budget,
    /// Nothing: the backend is out by its verdict, so what waited for it moves once, and the budget of a pool whose clients
    /// all wait would be empty just then.
    Free,
}

impl Price {
    /// What the attempt that is left is recorded with.
    const fn cause(self) -> Cause {
        match self {
            Price::Budget => Cause::BackendResponseTimeout,
            Price::Free => Cause::BackendTurnedUnhealthy,
        }
    }
}

impl Http {
    /// The time of a step of the attempt's patience has come.
    pub(crate) fn patience_over<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let since = client.exchange.times.request_sent.unwrap_or(now);
        let step = client.wait;
        if step == Wait::Hedge {
            client.attempt.wants.patience.hedge_after = None;
            self.hedge(core, key, now);
        } else {
            if self.give_up(core, key, Price::Budget, now) {
                return;
            }
            // Nobody else can be asked, so there is no more early step: this attempt has the rest of its whole time.
            if let Some(client) = self.clients.get_mut(key) {
                client.attempt.wants.patience.try_timeout = None;
            }
        }
        // On with the rest of its time, counted from where it began.
        if let Some(client) = self.clients.get_mut(key)
            && client.exchange.stage == Stage::Awaiting
        {
            let patience = client.attempt.wants.patience;
            (client.wait, client.deadline) = patience.next(since, client.attempt.started, client.timeouts.response);
        }
    }

    /// Verdicts changed: requests that wait for a backend which is no candidate any more are tried elsewhere.
    pub fn verdicts_changed<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        for key in self.clients.keys() {
            let Some(client) = self.clients.get(key) else { continue };
            if client.exchange.stage != Stage::Awaiting || !client.exchange.is_repeatable() {
                continue;
            }
            let (Some(picked), Some(pool)) = (&client.attempt.picked, &client.attempt.pool) else { continue };
            if !pool.is_unhealthy(&picked.backend) {
                continue;
            }
            if self.give_up(core, key, Price::Free, now) {
                self.drive(core, key, now);
            }
        }
    }

    /// Leaves the attempt under way for another one. False when there is none to be had, and all stays as it is.
    fn give_up<D: Driver>(&mut self, core: &mut Core<D>, key: Key, price: Price, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        if client.attempt.hedge.is_some() {
            // The second one is asked already; the first is let go for it.
            self.promote_hedge(core, key, Some(price.cause()), now);
            return true;
        }
        if !client.exchange.is_repeatable() || client.exchange.stage != Stage::Awaiting {
            return false;
        }
        let Some((pool, slot)) = elsewhere(&client.attempt.pool, client.attempt.picked.as_ref().map(|it| &it.backend))
        else {
            return false;
        };
        let tries_left = client.attempt.attempts.len() < client.attempt.wants.retries as usize;
        client.attempt.tried.push(slot);
        let affordable = || price == Price::Free || pool.budget().try_retry(now);
        if !tries_left || !pool.has_other(&client.attempt.tried) || !affordable() {
            client.attempt.tried.pop();
            return false;
        }
        // Its place among those tried is taken anew by the failed attempt below.
        client.attempt.tried.pop();
        if let Some(backend) = client.attempt.backend.take().and_then(|made| self.backends.remove(made)) {
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Reset);
        }
        let Some(client) = self.clients.get_mut(key) else { return false };
        client.abandon(Some(price.cause()), now);
        self.attempt(core, key, Connection::Fresh, now);
        true
    }
}

fn elsewhere(pool: &Option<Rc<PoolSlot>>, slot: Option<&Rc<BackendSlot>>) -> Option<(Rc<PoolSlot>, Rc<BackendSlot>)> {
    Some((Rc::clone(pool.as_ref()?), Rc::clone(slot?)))
}
