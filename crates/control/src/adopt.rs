//! Takes over a new plan without forgetting what is still true (SPEC W9).
//!
//! Ids mean nothing across plans; state is found again by identity:
//!
//! - A *target* is (address and port, check settings). One that is in both plans keeps verdict, run, recent
//!   findings, its place in the timetable and even the probe in flight.
//! - A *backend* is (pool name, address). It keeps its order and the weight it was given, its slow start and what its traffic showed. One that leaves a plan is
//!   forgotten, order included.
//! - A new target of a backend that was there before *inherits* a verdict and needs a whole run to change it: a healthy
//!   backend must not lose its traffic, nor an unhealthy one gain any, by an edit. The run itself starts anew, for its
//!   findings came from another check. It inherits,
//!   1. where the pool had a check of the same name (somebody edited threshold, path, port, …): that one's verdict;
//!   2. else, where the backend was healthy: `healthy`;
//!   3. else, where it was unhealthy, and by no check that is still there: `unhealthy`. The check that failed was renamed
//!      or replaced, and this one has to show that all is well.
//!
//!   Nothing is inherited in any other case, and where backends that share the target would have it inherit different
//!   verdicts: it starts as unknown, and the first probe, sent at once, decides.
//!   An edited agent check inherits the agent's word in the same way (`Found::word`).
//! - A check taken away takes its verdict with it, also where it was the one that failed: the operator asked for that.
//!   Without any check the verdict is unknown, and the backend takes traffic (SPEC 4.1). Turned on again it starts like a
//!   new one.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Candidates;
use evenkeel_health::judge::{self, Judge};
use evenkeel_health::ramp::SlowStart;
use evenkeel_health::settings::CheckSettings;
use evenkeel_health::suspicion::{self, Checked};
use evenkeel_health::{ProbeKey, timetable};
use evenkeel_model::event::{Because, PlanChange};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::standing::{AgentWord, Ramp, Standing, Verdict};
use evenkeel_model::{BackendId, Cause, Instant, PoolId, TargetId};
use evenkeel_plan::{Backend, Check, Plan, Pool, PoolView};

use crate::backends::BackendState;
use crate::control::Control;
use crate::silence::Doubted;
use crate::targets::{BeforeStart, TargetState};

/// Fixed keys instead of random ones: the same reload must do the same in every replay of a seed.
type Index<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// A backend as the old plan left it.
#[derive(Clone, Copy)]
struct Before {
    id: BackendId,
    standing: Standing,
    climb: Option<SlowStart>,
}

/// What the checks of the old plan had found.
struct Found<'a> {
    plan: &'a Plan,
    /// By the old plan's [`TargetId`].
    verdicts: Vec<(Verdict, Instant)>,
}

impl Control {
    pub(crate) fn adopt(&mut self, plan: Arc<Plan>) -> PlanChange {
        let old_plan = std::mem::replace(&mut self.plan, Arc::clone(&plan));
        self.adopt_views(&old_plan);
        let judged = |target: &TargetState| (target.judge.verdict(), target.judge.since());
        let found = Found { plan: &old_plan, verdicts: self.targets.iter().map(judged).collect() };
        let (before, backends_removed) = self.adopt_backends();
        let (fresh, checks_removed) = self.adopt_targets(&before, &found);
        self.adopt_ends();
        self.adopt_climbs(&before);
        self.recall(before.iter().map(Option::is_none), &fresh);
        self.adopt_verdicts(&before);
        self.adopt_ejections();
        self.adopt_trust();
        self.adopt_probing(&fresh);
        self.regroup();
        self.adopt_hold();
        PlanChange {
            listeners: plan.listeners.len(),
            pools: plan.pools.len(),
            backends: plan.backends.len(),
            backends_added: before.iter().filter(|before| before.is_none()).count(),
            backends_removed,
            checks: plan.targets.len(),
            checks_added: fresh.iter().filter(|&&fresh| fresh).count(),
            checks_removed,
        }
    }

    /// Lines the old views up with the new pools, by name, and marks all pools to be rebuilt.
    fn adopt_views(&mut self, old_plan: &Plan) {
        let views = std::mem::take(&mut self.views);
        let old: Index<&str, &Arc<PoolView>> = old_plan.pools.iter().map(|pool| &*pool.name).zip(&views).collect();
        let line_up = |pool: &Arc<Pool>| {
            let nobody = || PoolView {
                candidates: Candidates::new(pool.schedule, []),
                refusal: Some(Cause::NoBackendConfigured),
                panic: false,
            };
            old.get(&*pool.name).map_or_else(|| Arc::new(nobody()), |view| Arc::clone(view))
        };
        self.views = self.plan.pools.iter().map(line_up).collect();
        self.touched = (0..self.plan.pools.len()).map(PoolId::from_index).collect();
        self.stale = true;
    }

    /// Gives every backend of the new plan the standing it had; says what that was, and how
    /// many old ones are gone.
    fn adopt_backends(&mut self) -> (Vec<Option<Before>>, usize) {
        let old_backends = std::mem::take(&mut self.backends);
        let old_standings = std::mem::take(&mut self.standings);
        let identities = old_backends.iter().map(|old| (&*old.pool, old.address));
        let index: Index<(&str, SocketAddr), usize> = identities.zip(0..).collect();
        let mut found = BTreeSet::new();
        let mut before = Vec::with_capacity(self.plan.backends.len());
        for backend in &self.plan.backends {
            let pool = Arc::clone(&self.plan.pools[backend.pool.index()].name);
            let old = index.get(&(&*pool, backend.address)).copied();
            before.push(old.map(|old| Before {
                id: BackendId::from_index(old),
                standing: old_standings[old],
                climb: old_backends[old].climb,
            }));
            found.extend(old);
            let new = Standing { verdict_since: self.now, ..Standing::default() };
            // The ramp is set again from the climb, under the pool's present `slow_start`.
            let standing = old.map_or(new, |old| Standing { ramp: Ramp::Full, ..old_standings[old] });
            self.standings.push(standing);
            let kept = old.map(|old| &old_backends[old]);
            self.backends.push(BackendState {
                pool,
                address: backend.address,
                ordered_at: kept.map_or(self.now, |old| old.ordered_at),
                given: kept.and_then(|old| old.given.clone()),
                weighed: kept.and_then(|old| old.weighed.clone()),
                agent_ordered_at: kept.map_or(self.now, |old| old.agent_ordered_at),
                conduct: kept.map(|old| old.conduct).unwrap_or_default(),
                held_back_until: kept.map_or(self.now, |old| old.held_back_until),
                totals: kept.and_then(|old| old.totals),
                shown: kept.map(|old| old.shown).unwrap_or_default(),
                climb: None,
                next_step: None,
            });
        }
        (before, old_backends.len() - found.len())
    }

    /// Moves kept targets over, makes new ones, lets go of the rest; says which are new, and how
    /// many are gone.
    fn adopt_targets(&mut self, before: &[Option<Before>], found: &Found<'_>) -> (Vec<bool>, usize) {
        let plan = Arc::clone(&self.plan);
        let mut resting = resting(&plan);
        let old_checks: Vec<_> = self.targets.iter().map(|old| (old.address, Arc::clone(&old.check))).collect();
        let index: Index<(SocketAddr, &CheckSettings), usize> =
            old_checks.iter().map(|(address, check)| (*address, &**check)).zip(0..).collect();
        let mut old: Vec<Option<TargetState>> = std::mem::take(&mut self.targets).into_iter().map(Some).collect();
        let mut fresh = Vec::with_capacity(self.plan.targets.len());
        self.target_of_key.clear();
        let known = |target: TargetId| {
            let target = &plan.targets[target.index()];
            index.get(&(target.address, &*target.check)).copied()
        };
        for (position, target) in plan.targets.iter().enumerate() {
            let id = TargetId::from_index(position);
            let backends = std::mem::take(&mut resting[position]);
            let kept = known(id).and_then(|at| old[at].take());
            fresh.push(kept.is_none());
            let state = match kept {
                Some(state) => TargetState { backends, ..state },
                None => {
                    let heirs = || backends.iter().filter_map(|&id| Some((id, before[id.index()].as_ref()?)));
                    let votes = heirs().filter_map(|(backend, old)| found.inherits(&plan, backend, id, old, &known));
                    TargetState {
                        address: target.address,
                        check: Arc::clone(&target.check),
                        key: None,
                        judge: first_judge(&target.check, votes, self.now),
                        word: found.word(&target.check, heirs().map(|(_, old)| old)),
                        heard: None,
                        before_start: BeforeStart::default(),
                        doubted: Doubted::default(),
                        recent: VecDeque::new(),
                        backends,
                    }
                }
            };
            if let Some(key) = state.key {
                self.target_of_key.insert(key, TargetId::from_index(position));
            }
            self.targets.push(state);
        }
        let gone: Vec<TargetState> = old.into_iter().flatten().collect();
        for key in gone.iter().filter_map(|target| target.key) {
            self.stop_probing(key);
        }
        (fresh, gone.len())
    }

    fn adopt_climbs(&mut self, before: &[Option<Before>]) {
        self.steps.clear();
        let old_pools: BTreeSet<Arc<str>> = self
            .backends
            .iter()
            .zip(before)
            .filter(|(_, before)| before.is_some())
            .map(|(backend, _)| Arc::clone(&backend.pool))
            .collect();
        for (position, before) in before.iter().enumerate() {
            let id = BackendId::from_index(position);
            match before {
                Some(before) => {
                    let over = self.plan.pools[self.plan.backends[position].pool.index()].slow_start;
                    self.set_climb(id, before.climb.and_then(|climb| climb.over(over)));
                }
                None if old_pools.contains(&self.backends[position].pool) => self.start_climb(id),
                None => {}
            }
        }
    }

    /// Brings every backend's verdict in line with the target it rests on now.
    fn adopt_verdicts(&mut self, before: &[Option<Before>]) {
        let plan = Arc::clone(&self.plan);
        for (position, backend) in plan.backends.iter().enumerate() {
            let id = BackendId::from_index(position);
            let (verdict, since) = self.resting_on(id);
            let agent = self.agents_of(id);
            let standing = &mut self.standings[position];
            if before[position].is_none() {
                (standing.verdict, standing.verdict_since) = (verdict, since);
                standing.agent = agent;
                if verdict == Verdict::Unhealthy {
                    self.set_climb(id, None);
                }
                continue;
            }
            if standing.verdict != verdict {
                let because = if backend.targets.is_empty() { Because::CheckOff } else { Because::CheckChanged };
                self.set_verdict(id, verdict, since, None, because);
            }
            self.heed_agents(id);
        }
    }

    /// Starts and stops probing where the new plan asks for it, all starts in one batch so that they
    /// are spread.
    fn adopt_probing(&mut self, fresh: &[bool]) {
        let mut joins: Vec<(ProbeKey, Duration)> = Vec::new();
        for (position, &fresh) in fresh.iter().enumerate() {
            let id = TargetId::from_index(position);
            match (self.targets[position].key, self.is_wanted(id)) {
                (Some(key), false) => {
                    self.targets[position].key = None;
                    self.stop_probing(key);
                }
                (None, true) => {
                    let key = self.assign_key(id);
                    let target = &mut self.targets[position];
                    joins.push((key, target.check.timing.interval));
                    if !fresh {
                        target.judge.handle(judge::Event::ProbingResumed);
                    }
                }
                (Some(_), true) | (None, false) => {}
            }
        }
        self.timetable.handle(timetable::Event::Joined(joins), self.now);
    }

    fn regroup(&mut self) {
        let row = |(backend, id): (&Backend, TargetId)| {
            let target = &self.targets[id.index()];
            let (host, interval) = (target.address.ip(), target.check.timing.longest_steady());
            Checked { key: target.key, host, pool: backend.pool.0, interval }
        };
        let pairs = self.plan.backends.iter().flat_map(|one| one.targets.iter().map(move |&target| (one, target)));
        let checked = pairs.map(row).collect();
        self.suspect(suspicion::Event::Regrouped(checked));
    }
}

impl Found<'_> {
    /// The verdict that a backend would have a new target inherit. `known` finds a target of the new plan in the old one.
    fn inherits(
        &self,
        plan: &Plan,
        backend: BackendId,
        target: TargetId,
        before: &Before,
        known: &impl Fn(TargetId) -> Option<usize>,
    ) -> Option<(Verdict, Instant)> {
        let settings = &plan.backends[backend.index()];
        let checks = &plan.pools[settings.pool.index()].checks;
        let old = &self.plan.backends[before.id.index()];
        let old_checks = &self.plan.pools[old.pool.index()].checks;
        let edited = |check: &Check| {
            let position = old_checks.iter().position(|one| one.name == check.name)?;
            Some(self.verdicts[old.targets[position].index()])
        };
        let mut rests = checks.iter().zip(&settings.targets);
        let (check, _) = rests.clone().find(|(_, one)| **one == target)?;
        if let Some(found) = edited(check) {
            return Some(found);
        }
        let said = |(check, &target): (&Check, &TargetId)| known(target).map(|at| self.verdicts[at]).or(edited(check));
        match before.standing.verdict {
            Verdict::Unhealthy if rests.any(|one| said(one).is_some_and(|it| it.0 == Verdict::Unhealthy)) => None,
            verdict => Some((verdict, before.standing.verdict_since)),
        }
    }
}

impl Found<'_> {
    /// The word that a new agent check starts with: that of the agents its backends had, where they agree on one.
    fn word<'b>(&self, check: &CheckSettings, heirs: impl Iterator<Item = &'b Before>) -> Option<AgentWord> {
        let is_agent = |check: &CheckSettings| check.probe.kind() == ProbeKind::Agent;
        if !is_agent(check) {
            return None;
        }
        let pool_of = |id: BackendId| &self.plan.pools[self.plan.backends[id.index()].pool.index()];
        let had_one = |old: &&Before| pool_of(old.id).checks.iter().any(|check| is_agent(&check.settings));
        let mut words = heirs.filter(had_one).map(|old| old.standing.agent);
        let first = words.next()?;
        words.all(|other| other == first).then_some(first)
    }
}

/// The backends that rest on each target of a plan.
fn resting(plan: &Plan) -> Vec<Vec<BackendId>> {
    let mut resting: Vec<Vec<BackendId>> = vec![Vec::new(); plan.targets.len()];
    for (position, backend) in plan.backends.iter().enumerate() {
        let id = BackendId::from_index(position);
        for target in &backend.targets {
            // Two checks that ask the same of the same port are one target.
            if resting[target.index()].last() != Some(&id) {
                resting[target.index()].push(id);
            }
        }
    }
    resting
}

/// The judge of a target that the old plan did not have: it takes over the verdict that it inherits, when its backends
/// agree on one.
fn first_judge(check: &CheckSettings, votes: impl Iterator<Item = (Verdict, Instant)>, now: Instant) -> Judge {
    let mut known = votes.filter(|&(verdict, _)| verdict != Verdict::Unknown);
    let Some((first, mut since)) = known.next() else { return Judge::new(check, now) };
    for (other, other_since) in known {
        if other != first {
            return Judge::new(check, now);
        }
        since = since.max(other_since);
    }
    Judge::carried(check, first, since)
}
