//! What is known of one target, and when it is probed at all.
//!
//! A target is probed while at least one backend rests on it that is not under order `maintain` of the operator. When
//! probing stops and starts again it gets a new key, and its next result alone decides: the old
//! verdict still stands until then, but nobody has looked for a while.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::judge::{self, Judge};
use evenkeel_health::settings::CheckSettings;
use evenkeel_health::timetable::Turn;
use evenkeel_health::{ProbeKey, suspicion, timetable};
use evenkeel_model::finding::Finding;
use evenkeel_model::standing::{AgentWord, Order, Verdict};
use evenkeel_model::{BackendId, Instant, TargetId, limits};

use crate::control::{Control, Output};
use crate::silence::Doubted;

#[derive(Clone, Debug)]
pub(crate) struct TargetState {
    pub address: SocketAddr,
    pub check: Arc<CheckSettings>,
    /// `None` while it is not probed.
    pub key: Option<ProbeKey>,
    pub judge: Judge,
    /// What its agent said last, where it has one.
    pub word: Option<AgentWord>,
    /// When a probe last said anything of it.
    pub heard: Option<Instant>,
    /// How long the verdict had held, and how long nothing had been heard, when the process began.
    pub before_start: BeforeStart,
    /// Whether its probes meet silence that says nothing.
    pub doubted: Doubted,
    /// Oldest first.
    pub recent: VecDeque<Finding>,
    /// Those that rest on it.
    pub backends: Vec<BackendId>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BeforeStart {
    pub held: Duration,
    pub unheard: Duration,
}

impl TargetState {
    pub(crate) fn remember(&mut self, finding: Finding) {
        if finding.verdict() != Verdict::Unknown {
            self.heard = Some(finding.ended);
            self.before_start.unheard = Duration::ZERO;
        }
        if self.recent.len() == limits::RECENT_FINDINGS.value as usize {
            self.recent.pop_front();
        } else if self.recent.is_empty() {
            // Grown by itself it would end with room for sixteen, at every target.
            self.recent.reserve_exact(limits::RECENT_FINDINGS.value as usize);
        }
        self.recent.push_back(finding);
    }
}

impl Control {
    /// Starts or stops probing after an order.
    pub(crate) fn review_probing(&mut self, id: TargetId) {
        let target = &self.targets[id.index()];
        match (target.key, self.is_wanted(id)) {
            (Some(key), false) => {
                self.targets[id.index()].key = None;
                self.stop_probing(key);
            }
            (None, true) => {
                let (host, interval) = (target.address.ip(), target.check.timing.interval);
                let key = self.assign_key(id);
                self.targets[id.index()].judge.handle(judge::Event::ProbingResumed);
                self.timetable.handle(timetable::Event::Joined(vec![(key, interval)]), self.now);
                let interval = self.targets[id.index()].check.timing.longest_steady();
                // Turned checks count until the slowest of them could have turned too.
                self.suspect(suspicion::Event::Joined { key, host, interval });
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    /// Whether anybody wants to know how the target is.
    pub(crate) fn is_wanted(&self, id: TargetId) -> bool {
        let backends = &self.targets[id.index()].backends;
        backends.iter().any(|backend| self.standings[backend.index()].order != Order::Maintain)
    }

    /// What the checks of a backend say together, and since when.
    pub(crate) fn resting_on(&self, id: BackendId) -> (Verdict, Instant) {
        let targets = &self.plan.backends[id.index()].targets;
        let judges = || targets.iter().map(|target| &self.targets[target.index()].judge);
        let verdict = Verdict::of_checks(judges().map(Judge::verdict));
        let since = judges().filter(|judge| judge.verdict() == verdict).map(Judge::since);
        // The first check that failed was enough; all had to pass.
        let since = if verdict == Verdict::Unhealthy { since.min() } else { since.max() };
        (verdict, since.unwrap_or(self.now))
    }

    /// What the pool of a backend calls the check by which it rests on a target.
    pub(crate) fn check_of(&self, backend: BackendId, target: TargetId) -> Option<Arc<str>> {
        let backend = &self.plan.backends[backend.index()];
        let position = backend.targets.iter().position(|&one| one == target)?;
        Some(Arc::clone(&self.plan.pools[backend.pool.index()].checks[position].name))
    }

    pub(crate) fn assign_key(&mut self, id: TargetId) -> ProbeKey {
        let key = ProbeKey(self.next_key);
        self.next_key += 1;
        self.targets[id.index()].key = Some(key);
        self.target_of_key.insert(key, id);
        key
    }

    pub(crate) fn stop_probing(&mut self, key: ProbeKey) {
        if matches!(self.timetable.turn(key), Some(Turn::InFlight { .. })) {
            self.outputs.push_back(Output::CancelProbe { key });
        }
        self.timetable.handle(timetable::Event::Left(key), self.now);
        self.target_of_key.remove(&key);
        self.suspect(suspicion::Event::Left(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::BackendState;
    use evenkeel_model::standing::Standing;

    // docs/health-checks.md states what a check takes; a word that grows here grows a hundred thousand times.
    #[test]
    fn what_is_kept_of_a_target_stays_small() {
        let findings = size_of::<Finding>() * limits::RECENT_FINDINGS.value as usize;
        let all = size_of::<TargetState>() + findings + size_of::<BackendState>() + 2 * size_of::<Standing>();
        assert!(all <= 1800, "{all} bytes");
    }
}
