//! What is kept of one backend besides its standing: who it is, and its slow start.
//!
//! A backend starts slowly when it comes back from `unhealthy` or from an ejection, when it comes back from `maintain`, and
//! when a reload adds it to a pool that was there before. All backends of a new pool, and all at the
//! start of the node, begin together, so that none would be spared anything by a slow start.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_health::passive::{Conduct, Sample};
use evenkeel_health::ramp::SlowStart;
use evenkeel_model::standing::{Order, Ramp, Standing};
use evenkeel_model::{BackendId, Instant};

use crate::control::Control;
use crate::operate::{Given, Weighed};
use crate::trust::Shown;

/// Pool name and address are the backend's identity over reloads.
#[derive(Clone, Debug)]
pub(crate) struct BackendState {
    pub pool: Arc<str>,
    pub address: SocketAddr,
    /// When its order was given last; what a drain timeout counts from.
    pub ordered_at: Instant,
    /// What else there is to say of an order other than `serve`.
    pub given: Option<Box<Given>>,
    /// The same of a weight that is not the config's.
    pub weighed: Option<Box<Weighed>>,
    /// When the order of its agent was another last.
    pub agent_ordered_at: Instant,
    pub conduct: Conduct,
    /// Until then nobody is told again that it would have been ejected.
    pub held_back_until: Instant,
    /// What it had done when its pool was last looked at.
    pub totals: Option<Sample>,
    /// What its traffic shows, where it is trusted.
    pub shown: Shown,
    pub climb: Option<SlowStart>,
    /// Its entry in `steps`.
    pub next_step: Option<Instant>,
}

impl BackendState {
    /// Since when it has been drained, where it is.
    pub(crate) fn drained_at(&self, standing: &Standing) -> Instant {
        match (standing.order, standing.agent.order) {
            (Order::Drain, Order::Drain) => self.ordered_at.min(self.agent_ordered_at),
            (_, Order::Drain) => self.agent_ordered_at,
            (_, Order::Serve | Order::Maintain) => self.ordered_at,
        }
    }
}

impl Control {
    pub(crate) fn start_climb(&mut self, id: BackendId) {
        let pool = self.plan.backends[id.index()].pool;
        let over = self.plan.pools[pool.index()].slow_start;
        self.set_climb(id, SlowStart::new(over, self.now));
    }

    pub(crate) fn set_climb(&mut self, id: BackendId, climb: Option<SlowStart>) {
        let backend = &mut self.backends[id.index()];
        if let Some(at) = backend.next_step.take() {
            self.steps.remove(&(at, id));
        }
        let next = climb.and_then(|climb| climb.poll_timeout(self.now));
        // At the top there is nothing left to climb.
        backend.climb = climb.filter(|_| next.is_some());
        backend.next_step = next;
        if let Some(at) = next {
            self.steps.insert((at, id));
        }
        let ramp = backend.climb.map_or(Ramp::Full, |climb| climb.ramp(self.now));
        let standing = &mut self.standings[id.index()];
        if standing.ramp != ramp {
            standing.ramp = ramp;
            self.touch(id);
        }
    }

    /// Takes the steps that are due.
    pub(crate) fn climb(&mut self) {
        while let Some(&(at, id)) = self.steps.first() {
            if at > self.now {
                return;
            }
            let climb = self.backends[id.index()].climb;
            self.set_climb(id, climb);
        }
    }
}
