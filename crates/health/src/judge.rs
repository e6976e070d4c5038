//! Decides the verdict of one target from what its probes found.
//!
//! The judge is told findings one by one and says when the verdict changes and why. It starts no
//! probe, has no timer (of the four verbs only `handle` and `poll_output` remain) and knows nothing
//! of orders or weights, so a day of flapping is a test that runs in a millisecond.
//!
//! Runs are counted, not averaged: an average forgets slowly, and after an hour of health ten
//! straight failures would still look like a good backend.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_model::event::Evidence;
use evenkeel_model::finding::{Finding, ProbeResult, Void};
use evenkeel_model::limits;
use evenkeel_model::standing::Verdict;
use evenkeel_model::time::Instant;

use crate::settings::CheckSettings;

/// ```text
///             first result passes              first result fails
///      +------------------------- Unknown -------------------------+
///      v                                                           v
///   Healthy -- unhealthy_threshold failures in a row --> Unhealthy
///      ^ ------- healthy_threshold passes in a row ---------'
/// ```
#[derive(Clone, Debug)]
pub struct Judge {
    thresholds: Thresholds,
    interval: Duration,
    verdict: Verdict,
    since: Instant,
    decides: Decides,
    run: Run,
    counts: Counts,
    changes: VecDeque<Change>,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    ProbeEnded(&'a Finding),
    /// Probing had stopped for a while (order `maintain`) and goes on. What was known is old, so the
    /// next result alone decides, as on joining.
    ProbingResumed,
}

/// A new verdict and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: Verdict,
    pub to: Verdict,
    pub at: Instant,
    /// `None` when the first result alone decided.
    pub threshold: Option<u32>,
    pub evidence: Evidence,
}

/// How far the results against the verdict have come: "2 of 3 failures".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The verdict that the run leads to.
    pub toward: Verdict,
    pub results: u32,
    pub needed: u32,
}

/// Results heard since the target exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    /// Our own fault, so neither (SPEC W7).
    pub void: u64,
    /// Silence under `silence = "keep"`, so neither.
    pub kept: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thresholds {
    healthy: u32,
    unhealthy: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decides {
    FirstResult,
    Run,
}

/// Results in a row that contradict the verdict. Empty, and without memory, while they agree.
#[derive(Clone, Debug, Default)]
struct Run {
    length: u32,
    started: Instant,
    ended: Instant,
    probing: Duration,
    void: u32,
    findings: VecDeque<Finding>,
}

/// What one result says.
enum Opinion {
    For(Verdict),
    None,
}

impl Judge {
    pub fn new(check: &CheckSettings, now: Instant) -> Self {
        Judge::starting(check, Verdict::Unknown, now, Decides::FirstResult)
    }

    /// A judge whose check replaces another one of the same backend: it starts with the verdict the
    /// old one had reached, and only a whole run changes it.
    pub fn carried(check: &CheckSettings, verdict: Verdict, since: Instant) -> Self {
        let decides = if verdict == Verdict::Unknown { Decides::FirstResult } else { Decides::Run };
        Judge::starting(check, verdict, since, decides)
    }

    fn starting(check: &CheckSettings, verdict: Verdict, since: Instant, decides: Decides) -> Self {
        Judge {
            thresholds: Thresholds {
                healthy: check.timing.healthy_threshold,
                unhealthy: check.timing.unhealthy_threshold,
            },
            interval: check.timing.interval,
            verdict,
            since,
            decides,
            run: Run::default(),
            counts: Counts::default(),
            changes: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::ProbeEnded(finding) => self.hear(finding),
            Event::ProbingResumed => {
                self.run = Run::default();
                self.decides = Decides::FirstResult;
            }
        }
    }

    pub fn poll_output(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub const fn since(&self) -> Instant {
        self.since
    }

    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// `None` while nothing contradicts the verdict.
    pub const fn progress(&self) -> Option<Progress> {
        if self.run.length == 0 {
            return None;
        }
        let (toward, needed) = match self.verdict {
            Verdict::Healthy => (Verdict::Unhealthy, self.thresholds.unhealthy),
            Verdict::Unhealthy | Verdict::Unknown => (Verdict::Healthy, self.thresholds.healthy),
        };
        Some(Progress { toward, results: self.run.length, needed })
    }

    /// The findings of the current run against the verdict, oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = &Finding> {
        self.run.findings.iter()
    }

    fn hear(&mut self, finding: &Finding) {
        self.counts.count(&finding.result);
        let opinion = match Opinion::of(&finding.result) {
            Opinion::For(opinion) => opinion,
            Opinion::None => {
                // Counted only inside a run, where it explains why the window is longer than computed.
                self.run.void += u32::from(self.run.length > 0);
                return;
            }
        };
        let decides = std::mem::replace(&mut self.decides, Decides::Run);
        if opinion == self.verdict {
            self.run = Run::default();
            return;
        }
        self.run.push(finding);
        let threshold = match (decides, opinion) {
            (Decides::FirstResult, _) => None,
            (Decides::Run, Verdict::Unhealthy) => Some(self.thresholds.unhealthy),
            (Decides::Run, Verdict::Healthy | Verdict::Unknown) => Some(self.thresholds.healthy),
        };
        if self.run.length >= threshold.unwrap_or(1) {
            self.change(opinion, threshold);
        }
    }

    fn change(&mut self, to: Verdict, threshold: Option<u32>) {
        let run = std::mem::take(&mut self.run);
        let from = std::mem::replace(&mut self.verdict, to);
        self.since = run.ended;
        let evidence = run.into_evidence(self.interval);
        self.changes.push_back(Change { from, to, at: self.since, threshold, evidence });
    }
}

impl Opinion {
    const fn of(result: &ProbeResult) -> Self {
        match result {
            ProbeResult::Passed(_) => Opinion::For(Verdict::Healthy),
            ProbeResult::Failed(_) => Opinion::For(Verdict::Unhealthy),
            ProbeResult::Void(_) => Opinion::None,
        }
    }
}

impl Counts {
    const fn count(&mut self, result: &ProbeResult) {
        let counter = match result {
            ProbeResult::Passed(_) => &mut self.passed,
            ProbeResult::Failed(_) => &mut self.failed,
            ProbeResult::Void(Void::Silent) => &mut self.kept,
            ProbeResult::Void(Void::Late { .. } | Void::NoResources { .. } | Void::Cancelled) => &mut self.void,
        };
        *counter += 1;
    }
}

impl Run {
    fn push(&mut self, finding: &Finding) {
        if self.length == 0 {
            self.started = finding.started;
        }
        self.ended = finding.ended;
        self.length += 1;
        self.probing = self.probing.saturating_add(finding.duration());
        if self.findings.len() == limits::RECENT_FINDINGS.value as usize {
            self.findings.pop_front();
        }
        self.findings.push_back(finding.clone());
    }

    fn into_evidence(self, interval: Duration) -> Evidence {
        Evidence {
            probes: self.length,
            void: self.void,
            window: self.ended - self.started,
            computed: self.probing.saturating_add(interval.saturating_mul(self.length.saturating_sub(1))),
            findings: self.findings.into_iter().collect(),
        }
    }
}
