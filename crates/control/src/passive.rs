//! What traffic shows reaches the standings: ejections, their end, and when rates are looked at.
//!
//! An ejection and a verdict are two facts of one backend. Neither touches the other, and whoever is out by one of them
//! gets no new work; see [`evenkeel_health::passive`] for when and how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::passive::Sample;
use evenkeel_health::settings::PassiveSettings;
use evenkeel_model::event::{Against, TrafficFailed, What};
use evenkeel_model::standing::{Harm, Share, Traffic};
use evenkeel_model::{BackendId, Instant, PoolId};

use crate::control::{Control, Output};
use crate::trust;

/// What one backend has done since the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    pub backend: SocketAddr,
    pub totals: Sample,
}

/// What totals are asked for. Each kind compares with its own last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// To compare the backends of a pool with each other.
    Rates,
    /// To see whose traffic passes.
    Trust,
}

impl Control {
    /// A run of failures at one backend has come to so many.
    pub(crate) fn harmed(&mut self, pool: &str, address: SocketAddr, harm: Harm, failures: u32) {
        let Some(pool) = self.plan.pools.iter().position(|one| *one.name == *pool).map(PoolId::from_index) else {
            return;
        };
        let Some(settings) = self.plan.pools[pool.index()].passive.clone() else { return };
        let is_run = settings.is_run(harm, failures);
        let plan = Arc::clone(&self.plan);
        for (id, _) in plan.backends_of(pool).filter(|(_, backend)| backend.address == address) {
            self.show(id, trust::Traffic::Failed);
            if !is_run {
                continue;
            }
            self.speak_against(&settings, pool, id, Against::Run { harm, failures });
        }
    }

    /// The answer to a look.
    pub(crate) fn sampled(&mut self, pool: &str, look: Look, totals: &[Totals]) {
        let Some(pool) = self.plan.pools.iter().position(|one| *one.name == *pool).map(PoolId::from_index) else {
            return;
        };
        match look {
            Look::Rates => self.compare_rates(pool, totals),
            Look::Trust => self.weigh_traffic(pool, totals),
        }
    }

    /// Compares the backends of a pool by what they did since the last time.
    fn compare_rates(&mut self, pool: PoolId, totals: &[Totals]) {
        let plan = Arc::clone(&self.plan);
        let mut ids = Vec::new();
        let mut samples = Vec::new();
        for (id, backend) in plan.backends_of(pool) {
            let Some(now) = totals.iter().find(|totals| totals.backend == backend.address) else { continue };
            let before = self.backends[id.index()].totals.replace(now.totals);
            // The first look has nothing to compare with; whoever is out does nothing worth comparing.
            let Some(before) = before else { continue };
            if !self.standings[id.index()].traffic.is_ejected() {
                ids.push(id);
                samples.push(now.totals.minus(&before));
            }
        }
        let Some(settings) = plan.pools[pool.index()].passive.clone() else { return };
        for (position, against) in settings.outliers(&samples) {
            self.speak_against(&settings, pool, ids[position], against);
        }
    }

    fn speak_against(&mut self, settings: &Arc<PassiveSettings>, pool: PoolId, id: BackendId, against: Against) {
        if self.standings[id.index()].traffic.is_ejected() {
            return;
        }
        let members: Vec<BackendId> = self.plan.backends_of(pool).map(|(id, _)| id).collect();
        let weight = |id: &BackendId| self.plan.backends[id.index()].weight;
        let out = members.iter().filter(|id| self.standings[id.index()].effective_weight(weight(id)) == 0).count();
        let ejected = members.iter().filter(|id| self.standings[id.index()].traffic.is_ejected()).count();
        let is_out = self.standings[id.index()].effective_weight(weight(&id)) == 0;
        // Whoever gets no new work anyway leaves nobody worse off.
        let may = is_out || settings.may_eject(members.len(), out, ejected);
        let backend = &mut self.backends[id.index()];
        let ejected_for = may.then(|| backend.conduct.eject(settings, self.now));
        if ejected_for.is_none() {
            // Told once an ejection time, not with every request.
            if backend.held_back_until > self.now {
                return;
            }
            backend.held_back_until = self.now + settings.ejection_time;
        }
        let told = TrafficFailed { pool: Arc::clone(&backend.pool), backend: backend.address, against, ejected_for };
        if let Some(until) = backend.conduct.ejected_until() {
            self.returns.insert((until, id));
            self.standings[id.index()].traffic = Traffic::Ejected { until };
            self.set_climb(id, None);
            self.touch(id);
        }
        self.record(self.now, What::TrafficFailed(told));
    }

    /// Ends the ejections that are over.
    pub(crate) fn bring_back(&mut self) {
        while let Some(&(at, id)) = self.returns.first() {
            if at > self.now {
                return;
            }
            self.returns.pop_first();
            let backend = &mut self.backends[id.index()];
            backend.conduct.bring_back(self.now);
            let over = What::EjectionOver { pool: Arc::clone(&backend.pool), backend: backend.address };
            let standing = &mut self.standings[id.index()];
            standing.traffic = Traffic::Good;
            let serves = standing.share() != Share::NONE;
            self.touch(id);
            if serves {
                self.start_climb(id);
            }
            self.record(self.now, over);
        }
    }

    /// Lets ejections of the plan before go on, where the pool still ejects anybody.
    pub(crate) fn adopt_ejections(&mut self) {
        self.returns.clear();
        for position in 0..self.backends.len() {
            let id = BackendId::from_index(position);
            let pool = self.plan.backends[position].pool;
            let Some(until) = self.backends[position].conduct.ejected_until() else { continue };
            if self.plan.pools[pool.index()].passive.is_some() {
                self.returns.insert((until, id));
            } else {
                self.returns.insert((self.now, id));
            }
        }
        self.looks.clear();
        for (position, pool) in self.plan.pools.iter().enumerate() {
            if let Some(passive) = pool.passive.as_ref().filter(|passive| passive.looks_at_rates()) {
                self.looks.insert((next_look(passive.interval, self.now), PoolId::from_index(position)));
            }
        }
        self.bring_back();
    }

    /// Asks for the numbers of the pools whose interval is over.
    pub(crate) fn look_at_rates(&mut self) {
        while let Some(&(at, id)) = self.looks.first() {
            if at > self.now {
                return;
            }
            self.looks.pop_first();
            let pool = &self.plan.pools[id.index()];
            if let Some(passive) = &pool.passive {
                self.looks.insert((next_look(passive.interval, self.now), id));
            }
            self.outputs.push_back(Output::LookAtTraffic { pool: Arc::clone(&pool.name), look: Look::Rates });
        }
    }

    pub(crate) fn next_of_traffic(&self) -> Option<Instant> {
        let back = self.returns.first().map(|&(at, _)| at);
        let look = self.looks.first().map(|&(at, _)| at);
        [back, look, self.next_trust_look()].into_iter().flatten().min()
    }
}

/// Looks fall on multiples of the interval, so that reloads in between do not put them off.
pub(crate) fn next_look(every: Duration, now: Instant) -> Instant {
    let passed = (now - Instant::START).as_nanos() / every.as_nanos().max(1);
    let looks = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
    Instant::START + every.saturating_mul(looks)
}
