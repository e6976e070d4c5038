//! Where real traffic stands in for probes: who may be probed less often, and when that ends.
//!
//! A look compares what the backends of a pool have done with the look before. Whoever answered something and failed
//! nothing is probed at the longer gap, `trust_traffic`, until a look finds otherwise or a failure is told in between;
//! then the gap that runs is cut to `interval` at once. Looks are an `interval` apart, so that a backend whose traffic
//! merely ceased is probed as ever after two of them.
//!
//! Each backend is weighed for itself and not against its pool: that is what ejections do, and they have their own looks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::gap::Witness;
use evenkeel_health::passive::Sample;
use evenkeel_health::timetable;
use evenkeel_model::{BackendId, Instant, PoolId, TargetId};
use evenkeel_plan::Pool;

use crate::control::{Control, Output};
use crate::passive::{Look, Totals, next_look};

/// What the traffic of one backend showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// What it had done at the last look.
    totals: Option<Sample>,
    since_then: Traffic,
}

/// Ordered by weight: of several backends at one address a failure of any counts, then a success of any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    /// Nothing ended, or nobody has looked twice.
    #[default]
    Quiet,
    Answered,
    Failed,
}

impl Control {
    /// Who speaks for the target while nothing contradicts its verdict. For one whose failures are held back it is not traffic.
    pub(crate) fn witness(&self, id: TargetId) -> Witness {
        let target = &self.targets[id.index()];
        if target.check.timing.trust_traffic.is_none() || target.judge.is_held_back() {
            return Witness::Probes;
        }
        let seen = target.backends.iter().map(|backend| self.backends[backend.index()].shown.since_then);
        match seen.max().unwrap_or_default() {
            Traffic::Answered => Witness::Traffic,
            Traffic::Quiet | Traffic::Failed => Witness::Probes,
        }
    }

    /// The answer to a look.
    pub(crate) fn weigh_traffic(&mut self, pool: PoolId, totals: &[Totals]) {
        let by_address: BTreeMap<_, _> = totals.iter().map(|totals| (totals.backend, totals.totals)).collect();
        let plan = Arc::clone(&self.plan);
        for (id, backend) in plan.backends_of(pool) {
            let Some(now) = by_address.get(&backend.address) else { continue };
            // The first look has nothing to compare with.
            let Some(before) = self.backends[id.index()].shown.totals.replace(*now) else { continue };
            let since = now.minus(&before);
            let traffic = match since {
                Sample { failed: 1.., .. } => Traffic::Failed,
                Sample { answered: 1.., .. } => Traffic::Answered,
                Sample { .. } => Traffic::Quiet,
            };
            self.show(id, traffic);
        }
    }

    /// What a backend's traffic shows now; whoever is no longer trusted is probed sooner.
    pub(crate) fn show(&mut self, id: BackendId, traffic: Traffic) {
        let before = std::mem::replace(&mut self.backends[id.index()].shown.since_then, traffic);
        if before != Traffic::Answered || traffic == Traffic::Answered {
            return;
        }
        let plan = Arc::clone(&self.plan);
        for target in &plan.backends[id.index()].targets {
            let state = &self.targets[target.index()];
            if let (Some(key), Witness::Probes) = (state.key, self.witness(*target)) {
                let gap = state.check.timing.gap(state.judge.pace(), Witness::Probes);
                self.timetable.handle(timetable::Event::Hastened { key, gap }, self.now);
            }
        }
    }

    pub(crate) fn adopt_trust(&mut self) {
        self.trust_looks.clear();
        for (position, pool) in self.plan.pools.iter().enumerate() {
            if let Some(every) = looks_every(pool) {
                self.trust_looks.insert((next_look(every, self.now), PoolId::from_index(position)));
            }
        }
    }

    /// Asks for the numbers of the pools that are due.
    pub(crate) fn look_for_trust(&mut self) {
        while let Some(&(at, id)) = self.trust_looks.first() {
            if at > self.now {
                return;
            }
            self.trust_looks.pop_first();
            let pool = &self.plan.pools[id.index()];
            if let Some(every) = looks_every(pool) {
                self.trust_looks.insert((next_look(every, self.now), id));
            }
            self.outputs.push_back(Output::LookAtTraffic { pool: Arc::clone(&pool.name), look: Look::Trust });
        }
    }

    pub(crate) fn next_trust_look(&self) -> Option<Instant> {
        self.trust_looks.first().map(|&(at, _)| at)
    }
}

/// The shortest interval of the pool's checks that trust traffic.
fn looks_every(pool: &Pool) -> Option<Duration> {
    let trusting =
        pool.checks.iter().map(|check| &check.settings.timing).filter(|timing| timing.trust_traffic.is_some());
    trusting.map(|timing| timing.interval).min()
}
