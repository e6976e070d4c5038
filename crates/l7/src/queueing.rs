//! Requests that wait because every backend of their pool is at its limit.
//!
//! The pool keeps the order and the deadlines. Here its word is carried out, at the end of each turn: whoever freed a place
//! did so within the turn, and places that other workers free are looked for every few milliseconds.

use std::rc::Rc;

use evenkeel_balance::Woken;
use evenkeel_l4::{Arrival, Core, Key, PoolSlot};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::Driver;

use crate::http::Http;
use crate::machine::Wait;
use crate::requesting::Connection;

impl Http {
    /// Gives a request a place in the queue, or refuses it when there is none.
    pub(crate) fn wait_in_queue<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        pool: &Rc<PoolSlot>,
        arrival: Arrival,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let sticky = client.attempt.wants.held.map(|held| held.backend);
        if arrival == Arrival::Woken {
            pool.wait_on(key, sticky, client.deadline);
        } else {
            match pool.wait(key, sticky, now) {
                Ok(deadline) => {
                    client.exchange.times.queued.get_or_insert(now);
                    client.wait = Wait::Queue;
                    client.deadline = deadline;
                }
                Err(cause) => {
                    let limit = u64::from(pool.read(|settings| settings.queue));
                    self.answer(core, key, cause, Some(Detail::Limit(limit)), now);
                    return;
                }
            }
        }
        if !self.queued.iter().any(|queued| Rc::ptr_eq(queued, pool)) {
            self.queued.push(Rc::clone(pool));
        }
    }

    /// Whether somebody's turn has come.
    pub(crate) fn wake_queued<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        for pool in std::mem::take(&mut self.queued) {
            // One that was woken in vain is the first again: then there is nothing more to be had now.
            let mut in_vain = None;
            while let Some(woken) = pool.wake(now) {
                match woken {
                    Woken::Turn(key) => {
                        self.attempt_as(core, key, Connection::Any, Arrival::Woken, now);
                        self.drive(core, key, now);
                        let waits = |client: &crate::client::Client| client.wait == Wait::Queue;
                        if self.clients.get(key).is_some_and(waits) {
                            in_vain = Some(key);
                        }
                    }
                    Woken::TimedOut(key) => self.queued_too_long(core, key, now),
                }
                if in_vain.is_some() {
                    break;
                }
            }
            if pool.waiting() > 0 && !self.queued.iter().any(|queued| Rc::ptr_eq(queued, &pool)) {
                self.queued.push(pool);
            }
        }
    }

    /// When to look at the queues though nothing has happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queued.iter().filter_map(|pool| pool.poll_timeout()).min()
    }

    pub(crate) fn queued_too_long<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(pool) = self.clients.get(key).and_then(|client| client.attempt.pool.clone()) else { return };
        pool.leave(key);
        let timeout = pool.read(|settings| settings.queue_timeout);
        self.answer(core, key, Cause::BackendQueueTimeout, Some(Detail::Timeout(timeout)), now);
        self.drive(core, key, now);
    }
}
