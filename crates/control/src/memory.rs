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
//! Orders and weights are kept where that was asked for, an order with a time limit for the rest of it; an ejection for the rest of its time, a slow start where it was. Findings are not
//! kept. What the plan does not have waits until the memory is too old, and is part of the next one: backends given by
//! name join when their name has been answered. Each is recalled once, so that one that leaves a plan is forgotten.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::gap::{Pace, Witness};
use evenkeel_health::judge::{self, Counts, Judge};
use evenkeel_health::passive::Conduct;
use evenkeel_health::ramp::SlowStart;
use evenkeel_model::event::{Operation, Recalled, What};
use evenkeel_model::standing::{AgentWord, Order, Traffic, Verdict};
use evenkeel_model::{BackendId, Instant, TargetId};

use crate::control::Control;
use crate::operate::{Given, Weighed};
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
    /// Other than `serve`.
    pub order: Option<OrderMemory>,
    /// Other than the config's.
    pub weight: Option<WeightMemory>,
    /// How far a slow start has come.
    pub climbed: Option<Duration>,
    /// What is left of an ejection.
    pub ejected_for: Option<Duration>,
    /// Ejections not yet made good.
    pub ejections: u32,
    /// By the pool's checks.
    pub checks: Vec<CheckMemory>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderMemory {
    pub order: Order,
    pub by: Arc<str>,
    /// How long it has stood.
    pub held_for: Duration,
    /// What is left of its time; nothing when it is over.
    pub left: Option<Duration>,
    pub kept: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightMemory {
    pub weight: u32,
    pub by: Arc<str>,
    pub held_for: Duration,
    pub kept: bool,
}

/// What a memory has to outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlives {
    /// A restart: orders and weights that were asked to be kept.
    Restart,
    /// A new binary that takes over while the node runs: all of them.
    Upgrade,
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

/// What no plan has had so far.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    /// When its ages were right.
    at: Instant,
    /// When it is too old as a whole.
    until: Instant,
    max_age: Duration,
    /// How long it had lain then.
    lay: Duration,
    backends: BTreeMap<(Arc<str>, SocketAddr), BackendMemory>,
}

impl BackendMemory {
    fn older_by(mut self, age: Duration) -> BackendMemory {
        if let Some(order) = &mut self.order {
            order.held_for = order.held_for.saturating_add(age);
            order.left = order.left.map(|left| left.saturating_sub(age));
        }
        if let Some(weight) = &mut self.weight {
            weight.held_for = weight.held_for.saturating_add(age);
        }
        self.climbed = self.climbed.map(|climbed| climbed.saturating_add(age));
        self.ejected_for = self.ejected_for.and_then(|left| left.checked_sub(age));
        for check in &mut self.checks {
            check.held_for = check.held_for.saturating_add(age);
            check.heard = check.heard.map(|heard| heard.saturating_add(age));
        }
        self
    }
}

impl Control {
    /// What there is to remember now.
    pub fn memory(&self, now: Instant, outlives: Outlives) -> Memory {
        let plan = &self.plan;
        let stays = |kept: bool| kept || outlives == Outlives::Upgrade;
        let present = plan.backends.iter().enumerate().map(|(position, backend)| {
            let (state, standing) = (&self.backends[position], &self.standings[position]);
            let checks = plan.pools[backend.pool.index()].checks.iter().zip(&backend.targets);
            BackendMemory {
                pool: Arc::clone(&state.pool),
                address: state.address,
                order: state.given.as_deref().filter(|given| stays(given.kept)).map(|given| OrderMemory {
                    order: standing.order,
                    by: Arc::clone(&given.by),
                    held_for: now - state.ordered_at,
                    left: given.until.map(|until| until - now),
                    kept: given.kept,
                }),
                weight: standing.weight.zip(state.weighed.as_deref()).filter(|(_, weighed)| stays(weighed.kept)).map(
                    |(weight, weighed)| WeightMemory {
                        weight,
                        by: Arc::clone(&weighed.by),
                        held_for: now - weighed.at,
                        kept: weighed.kept,
                    },
                ),
                climbed: state.climb.map(|climb| climb.climbed(now)),
                ejected_for: state.conduct.ejected_until().map(|until| until - now),
                ejections: state.conduct.ejections(),
                checks: checks.map(|(check, &target)| self.memory_of(&check.name, target, now)).collect(),
            }
        });
        let remembered = self.remembered.iter().filter(|it| now <= it.until);
        let waiting = remembered.flat_map(|it| it.backends.values().map(|one| one.clone().older_by(now - it.at)));
        let waiting = waiting.map(|mut one| {
            one.order = one.order.filter(|order| stays(order.kept));
            one.weight = one.weight.filter(|weight| stays(weight.kept));
            one
        });
        Memory { age: Duration::ZERO, backends: present.chain(waiting).collect() }
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

    /// Keeps what an earlier process knew for the plans to come.
    pub(crate) fn remember(&mut self, memory: &Memory, max_age: Duration) {
        let Some(left) = max_age.checked_sub(memory.age) else {
            return self.record(self.now, What::StateTooOld { age: memory.age, max_age });
        };
        let backends = memory.backends.iter().map(|one| ((Arc::clone(&one.pool), one.address), one.clone()));
        let (at, until) = (self.now, self.now + left);
        let backends = backends.map(|(name, one)| (name, one.older_by(memory.age))).collect();
        self.remembered = Some(Remembered { at, until, max_age, lay: memory.age, backends });
    }

    /// Gives the backends and targets that a plan brought what is remembered of them; both are said by position.
    pub(crate) fn recall(&mut self, joined: impl Iterator<Item = bool>, fresh: &[bool]) {
        let Some(mut remembered) = self.remembered.take().filter(|it| self.now <= it.until) else { return };
        let age = self.now - remembered.at;
        let known: Vec<Option<BackendMemory>> = joined
            .zip(&self.backends)
            .map(|(joined, backend)| {
                let name = (Arc::clone(&backend.pool), backend.address);
                let found = if joined { remembered.backends.remove(&name) } else { None };
                found.map(|found| found.older_by(age))
            })
            .collect();
        let mut recalled = Recalled { age: remembered.lay + age, ..Recalled::default() };
        for position in (0..fresh.len()).filter(|&position| fresh[position]) {
            let found = self.recall_check(TargetId::from_index(position), &known, remembered.max_age);
            recalled.checks += usize::from(found);
        }
        for (position, known) in known.iter().enumerate() {
            if let Some(known) = known {
                recalled.backends += 1;
                let ordered = self.recall_backend(BackendId::from_index(position), known);
                recalled.orders += usize::from(ordered);
            }
        }
        recalled.absent = remembered.backends.len();
        // Told at the start, and when somebody was found later.
        if age.is_zero() || recalled.backends > 0 {
            self.record(self.now, What::StateRecalled(recalled));
        }
        self.remembered = Some(remembered).filter(|it| !it.backends.is_empty());
    }

    /// The verdict and the agent's word of one target, where the backends that rest on it remember the same. Says whether
    /// there was any.
    fn recall_check(&mut self, id: TargetId, known: &[Option<BackendMemory>], max_age: Duration) -> bool {
        let target = &self.targets[id.index()];
        let of_backend = |backend: &BackendId| {
            let name = self.check_of(*backend, id)?;
            known[backend.index()].as_ref()?.checks.iter().find(|check| check.name == name)
        };
        let confirmed = |check: &&CheckMemory| check.heard.is_some_and(|heard| heard <= max_age);
        let mut memories = target.backends.iter().filter_map(of_backend).filter(confirmed);
        // What a backend that was there already brought along is younger than any memory.
        let Some(first) = memories.next().cloned().filter(|_| target.judge.verdict() == Verdict::Unknown) else {
            return false;
        };
        if !memories.all(|other| (other.verdict, other.word) == (first.verdict, first.word)) {
            return false;
        }
        let (held, unheard) = (first.held_for, first.heard.unwrap_or_default());
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

    /// Says whether it has an order other than `serve`.
    fn recall_backend(&mut self, id: BackendId, known: &BackendMemory) -> bool {
        let (verdict, _) = self.resting_on(id);
        let until = known.ejected_for.map(|left| self.now + left);
        let ordered = self.recall_order(id, known.order.as_ref());
        if let Some(WeightMemory { weight, by, held_for, kept }) = &known.weight {
            let at = self.ago(*held_for);
            self.backends[id.index()].weighed = Some(Box::new(Weighed { by: Arc::clone(by), at, kept: *kept }));
            self.standings[id.index()].weight = Some(*weight);
        }
        let backend = &mut self.backends[id.index()];
        backend.conduct = Conduct::recalled(until, known.ejections, self.now);
        let standing = &mut self.standings[id.index()];
        standing.traffic = until.map_or(Traffic::Good, |until| Traffic::Ejected { until });
        let over = self.plan.pools[self.plan.backends[id.index()].pool.index()].slow_start;
        let fit = verdict != Verdict::Unhealthy && until.is_none();
        let climbed = known.climbed.filter(|_| fit);
        self.set_climb(id, climbed.and_then(|climbed| SlowStart::resumed(over, climbed, self.now)));
        ordered
    }

    /// An order whose time ran out while nobody ran is told of and not taken up: nobody may wait for its end twice.
    fn recall_order(&mut self, id: BackendId, known: Option<&OrderMemory>) -> bool {
        let Some(OrderMemory { order, by, held_for, left, kept }) = known else { return false };
        if left.is_some_and(|left| left.is_zero()) {
            self.tell_operated(id, by, Operation::OrderOver { from: *order });
            return false;
        }
        let until = left.map(|left| self.now + left);
        let ordered_at = self.ago(*held_for);
        let backend = &mut self.backends[id.index()];
        backend.ordered_at = ordered_at;
        backend.given = Some(Box::new(Given { by: Arc::clone(by), until, kept: *kept }));
        self.ends.extend(until.map(|until| (until, id)));
        self.standings[id.index()].order = *order;
        true
    }

    /// A moment so long ago, or the start of the process where it was before that.
    fn ago(&self, age: Duration) -> Instant {
        Instant::START + (self.now - Instant::START).saturating_sub(age)
    }
}
