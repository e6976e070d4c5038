//! Read-only looks at what control knows, for `/status`. Borrowed, because a status page of 100,000
//! targets should not copy them before it knows which are asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::ProbeKey;
use evenkeel_health::judge::{Counts, Progress};
use evenkeel_health::settings::CheckSettings;
use evenkeel_health::timetable::Turn;
use evenkeel_model::finding::{Finding, ProbeResult, Trust, Void};
use evenkeel_model::standing::{AgentWord, Standing, Verdict};
use evenkeel_model::{BackendId, Instant, TargetId};

use crate::control::Control;
use crate::targets::TargetState;

/// One target as it stands now.
#[derive(Clone, Copy, Debug)]
pub struct TargetStatus<'a> {
    target: &'a TargetState,
    probing: Probing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// Every backend that rests on it is under order `maintain`.
    Stopped,
    /// The next probe starts then, or waits for a place since then.
    Due(Instant),
    InFlight {
        since: Instant,
    },
}

impl<'a> TargetStatus<'a> {
    pub const fn address(&self) -> SocketAddr {
        self.target.address
    }

    pub const fn check(&self) -> &'a Arc<CheckSettings> {
        &self.target.check
    }

    pub const fn verdict(&self) -> Verdict {
        self.target.judge.verdict()
    }

    /// Since when the verdict holds.
    pub const fn since(&self) -> Instant {
        self.target.judge.since()
    }

    /// How much longer it has held already, in processes before this one.
    pub const fn held_before(&self) -> Duration {
        self.target.before_start.held
    }

    /// `None` while no result contradicts the verdict.
    pub const fn progress(&self) -> Option<Progress> {
        self.target.judge.progress()
    }

    /// Last findings, oldest first, void ones included.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &'a Finding> + ExactSizeIterator + use<'a> {
        self.target.recent.iter()
    }

    /// Whether the last finding that says anything of the backend is silence, and what that is worth.
    pub fn silence(&self) -> Option<Trust> {
        let is_telling = |finding: &&Finding| match &finding.result {
            ProbeResult::Void(void) => matches!(void, Void::Doubtful(_)),
            ProbeResult::Passed(_) | ProbeResult::Failed(_) => true,
        };
        self.target.recent.iter().rev().find(is_telling)?.result.trust()
    }

    pub const fn counts(&self) -> Counts {
        self.target.judge.counts()
    }

    pub const fn probing(&self) -> Probing {
        self.probing
    }

    /// What its agent said last.
    pub const fn word(&self) -> Option<AgentWord> {
        self.target.word
    }

    /// Backends that rest on it.
    pub fn backends(&self) -> &'a [BackendId] {
        &self.target.backends
    }
}

impl Control {
    /// All targets of the plan, in its order.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = TargetStatus<'_>> {
        self.targets.iter().map(|target| self.status_of(target))
    }

    /// # Panics
    /// When `id` is not of the current plan.
    pub fn target(&self, id: TargetId) -> TargetStatus<'_> {
        self.status_of(&self.targets[id.index()])
    }

    /// Verdict, order and ramp of a backend right now; the snapshot shows the same once outputs are polled.
    ///
    /// # Panics
    /// When `id` is not of the current plan.
    pub fn standing(&self, id: BackendId) -> Standing {
        self.standings[id.index()]
    }

    /// How much longer than it shows the verdict of a backend has held already, in processes before this one.
    ///
    /// # Panics
    /// When `id` is not of the current plan.
    pub fn held_before(&self, id: BackendId) -> Duration {
        let standing = self.standings[id.index()];
        let targets = self.plan.backends[id.index()].targets.iter().map(|target| &self.targets[target.index()]);
        let held =
            targets.filter(|it| (it.judge.verdict(), it.judge.since()) == (standing.verdict, standing.verdict_since));
        let held = held.map(|target| target.before_start.held);
        // As with the moments themselves, see `resting_on`.
        let held = if standing.verdict == Verdict::Unhealthy { held.max() } else { held.min() };
        held.unwrap_or_default()
    }

    /// The target of a running probe.
    pub fn target_of(&self, key: ProbeKey) -> Option<TargetStatus<'_>> {
        self.target_of_key.get(&key).map(|&id| self.target(id))
    }

    fn status_of<'a>(&self, target: &'a TargetState) -> TargetStatus<'a> {
        let turn = target.key.and_then(|key| self.timetable.turn(key));
        let probing = match turn {
            None => Probing::Stopped,
            Some(Turn::Due(at)) => Probing::Due(at),
            Some(Turn::InFlight { since }) => Probing::InFlight { since },
        };
        TargetStatus { target, probing }
    }
}
