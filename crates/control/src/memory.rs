//! What a node knows of its backends, made to be kept over a restart. Plain values: whoever writes them to a file chooses
//! how.
//!
//! Moments are ages and times left, because a new process has a new clock. Everything hangs on what an operator calls
//! it (pool, address of the backend, name of the check), as in a reload: a check that was edited while nobody ran
//! has the verdict of the one whose name it bears. A hash of the settings lost: it would name another check with each version that
//! adds a setting, and settings written out would carry secrets into the file.
//!
//! What a restart means for a verdict (SPEC W8, W9):
//!
//! - It stands from the first moment on: an unhealthy backend gets no traffic before its first probe, a healthy one does.
//! - The first probe is sent at once, as to any new target.
//! - If no probe was missed meanwhile, it takes a whole run to change it, as after a reload. If one was, nobody has
//!   looked for a while, and the next result alone decides, as after `maintain` (see `targets`). Runs begin anew.
//! - Of a check whose last result is older than `max_age` nothing is recalled, as when backends that share a target
//!   disagree.
//!
//! Orders are kept as they were given, an ejection for the rest of its time, a slow start where it was. Findings are not
//! kept. What the plan no longer has is dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::gap::{Pace, Witness};
use evenkeel_health::judge::{self, Counts, Judge};
use evenkeel_health::passive::Conduct;
use evenkeel_health::ramp::SlowStart;
use evenkeel_model::event::{Recalled, What};
use evenkeel_model::standing::{AgentWord, Order, Traffic, Verdict};
use evenkeel_model::{BackendId, Instant, TargetId};

use crate::control::Control;
use crate::targets::BeforeStart;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// How long ago it was taken; nothing when [`Control::memory`] gives it. Whoever brings it back says how long it lay.
    pub age: Duration,
    pub backends: Vec<BackendMemory>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BackendMemory {
    pub pool: Arc<str>,
    pub address: SocketAddr,
    pub order: Order,
    /// How long the order has stood.
    pub ordered_for: Duration,
    /// How far a slow start has come.
    pub climbed: Option<Duration>,
    /// What is left of an ejection.
    pub ejected_for: Option<Duration>,
    /// Ejections not yet made good.
    pub ejections: u32,
    /// By the pool's checks.
    pub checks: Vec<CheckMemory>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CheckMemory {
    pub name: Arc<str>,
    pub verdict: Verdict,
    /// How long the verdict has held.
    pub held_for: Duration,
    /// How long ago its last result came in; `None`: none ever did.
    pub heard: Option<Duration>,
    pub counts: Counts,
    pub word: Option<AgentWord>,
}

impl Control {
    /// What there is to remember now.
    pub fn memory(&self, now: Instant) -> Memory {
        let plan = &self.plan;
        let backends = plan.backends.iter().enumerate().map(|(position, backend)| {
            let (state, standing) = (&self.backends[position], &self.standings[position]);
            let checks = plan.pools[backend.pool.index()].checks.iter().zip(&backend.targets);
            BackendMemory {
                pool: Arc::clone(&state.pool),
                address: state.address,
                order: standing.order,
                ordered_for: now - state.ordered_at,
                climbed: state.climb.map(|climb| climb.climbed(now)),
                ejected_for: state.conduct.ejected_until().map(|until| until - now),
                ejections: state.conduct.ejections(),
                checks: checks.map(|(check, &target)| self.memory_of(&check.name, target, now)).collect(),
            }
        });
        Memory { age: Duration::ZERO, backends: backends.collect() }
    }

    fn memory_of(&self, name: &Arc<str>, id: TargetId, now: Instant) -> CheckMemory {
        let target = &self.targets[id.index()];
        CheckMemory {
            name: Arc::clone(name),
            verdict: target.judge.verdict(),
            held_for: (now - target.judge.since()).saturating_add(target.before_start.held),
            heard: target.heard.map(|at| (now - at).saturating_add(target.before_start.unheard)),
            counts: target.judge.counts(),
            word: target.word,
        }
    }

    /// Takes up what an earlier process knew, before anything has begun.
    pub(crate) fn recall(&mut self, memory: &Memory, max_age: Duration) {
        let mut recalled = Recalled { age: memory.age, ..Recalled::default() };
        if memory.age > max_age {
            return self.record(self.now, What::StateTooOld { age: memory.age, max_age });
        }
        let index: BTreeMap<(&str, SocketAddr), &BackendMemory> =
            memory.backends.iter().map(|one| ((&*one.pool, one.address), one)).collect();
        let known: Vec<Option<&BackendMemory>> =
            self.backends.iter().map(|one| index.get(&(&*one.pool, one.address)).copied()).collect();
        for position in 0..self.targets.len() {
            let found = self.recall_check(TargetId::from_index(position), &known, memory.age, max_age);
            recalled.checks += usize::from(found);
        }
        for (position, known) in known.iter().enumerate() {
            let id = BackendId::from_index(position);
            let (verdict, since) = self.resting_on(id);
            let agent = self.agents_of(id);
            let standing = &mut self.standings[position];
            (standing.verdict, standing.verdict_since, standing.agent) = (verdict, since, agent);
            if let Some(known) = known {
                recalled.backends += 1;
                recalled.orders += usize::from(known.order != Order::Serve);
                self.recall_backend(id, known, memory.age);
            }
            self.touch(id);
        }
        self.adopt_ejections();
        for position in 0..self.targets.len() {
            self.review_probing(TargetId::from_index(position));
        }
        recalled.forgotten = memory.backends.len().saturating_sub(recalled.backends);
        self.record(self.now, What::StateRecalled(recalled));
    }

    /// The verdict and the agent's word of one target, where the backends that rest on it remember the same. Says whether
    /// there was any.
    fn recall_check(
        &mut self,
        id: TargetId,
        known: &[Option<&BackendMemory>],
        age: Duration,
        max_age: Duration,
    ) -> bool {
        let target = &self.targets[id.index()];
        let of_backend = |backend: &BackendId| {
            let name = self.check_of(*backend, id)?;
            known[backend.index()]?.checks.iter().find(|check| check.name == name)
        };
        let fresh = |check: &&CheckMemory| check.heard.is_some_and(|heard| heard.saturating_add(age) <= max_age);
        let mut memories = target.backends.iter().filter_map(of_backend).filter(fresh);
        let Some(first) = memories.next().cloned() else { return false };
        if !memories.all(|other| (other.verdict, other.word) == (first.verdict, first.word)) {
            return false;
        }
        let held = first.held_for.saturating_add(age);
        let unheard = first.heard.unwrap_or_default().saturating_add(age);
        let timing = &target.check.timing;
        let gaps =
            Pace::ALL.into_iter().flat_map(|pace| Witness::ALL.map(|witness| timing.gap(pace, witness).longest()));
        let gap = gaps.max().unwrap_or_default();
        let nothing_missed = unheard <= gap.saturating_add(timing.timeout);
        let (since, heard) = (self.ago(held), self.ago(unheard));
        let lived = self.now - Instant::START;
        let target = &mut self.targets[id.index()];
        target.judge = Judge::recalled(&target.check, first.verdict, since, first.counts);
        if !nothing_missed {
            target.judge.handle(judge::Event::ProbingResumed);
        }
        target.heard = Some(heard);
        target.before_start = BeforeStart { held: held.saturating_sub(lived), unheard: unheard.saturating_sub(lived) };
        target.word = first.word;
        true
    }

    fn recall_backend(&mut self, id: BackendId, known: &BackendMemory, age: Duration) {
        let ordered_at = self.ago(known.ordered_for.saturating_add(age));
        let until = known.ejected_for.and_then(|left| left.checked_sub(age)).map(|left| self.now + left);
        let backend = &mut self.backends[id.index()];
        backend.ordered_at = ordered_at;
        backend.conduct = Conduct::recalled(until, known.ejections, self.now);
        let standing = &mut self.standings[id.index()];
        standing.order = known.order;
        standing.traffic = until.map_or(Traffic::Good, |until| Traffic::Ejected { until });
        let over = self.plan.pools[self.plan.backends[id.index()].pool.index()].slow_start;
        let fit = standing.verdict != Verdict::Unhealthy && until.is_none();
        let climbed = known.climbed.filter(|_| fit).map(|climbed| climbed.saturating_add(age));
        self.set_climb(id, climbed.and_then(|climbed| SlowStart::resumed(over, climbed, self.now)));
    }

    /// A moment so long ago, or the start of the process where it was before that.
    fn ago(&self, age: Duration) -> Instant {
        Instant::START + (self.now - Instant::START).saturating_sub(age)
    }
}
