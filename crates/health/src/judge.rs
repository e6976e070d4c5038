//! Decides the verdict of one target from what its probes found.
//!
//! The judge is told findings one by one and says when the verdict changes and why. It starts no
//! probe, has no timer (of the four verbs only `handle` and `poll_output` remain) and knows nothing
//! of orders or weights, so a day of flapping is a test that runs in a millisecond.
//!
//! While the node suspects itself it may be told to hold: runs are counted as ever, but no verdict turns unhealthy before
//! the hold ends, and none at all where a pass has ended the run by then or comes next.
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

use crate::gap::Pace;
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
    /// Gap between the probes of a run.
    transition_interval: Duration,
    verdict: Verdict,
    since: Instant,
    decides: Decides,
    run: Run,
    /// Whether a verdict may not turn unhealthy now.
    held: bool,
    /// The run has come far enough, by this threshold, and only the hold keeps the verdict.
    overdue: Option<Overdue>,
    counts: Counts,
    changes: VecDeque<Change>,
}

#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    ProbeEnded(&'a Finding),
    /// Probing had stopped for a while (order `maintain`) and goes on. What was known is old, so the
    /// next result alone decides, as on joining.
    ProbingResumed,
    /// From now on the verdict does not turn unhealthy. Runs are counted as ever.
    HoldBegan,
    /// The verdict may turn again, and does at once where the run still stands.
    HoldTimeUp {
        at: Instant,
    },
    /// The verdict may turn again. Where the run still stands the next result decides.
    HoldLifted,
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
    /// Silence under `silence = "keep"`, or that nothing proves, so neither.
    pub kept: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thresholds {
    healthy: u32,
    unhealthy: u32,
}

/// `None` when the first result alone decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overdue(Option<u32>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decides {
    FirstResult,
    Run,
}

/// Results in a row that contradict the verdict. Empty, and without memory, while they agree.
#[derive(Clone, Debug, Default)]
struct Run {
    /// The verdict it leads to; `Unknown` while it is empty.
    toward: Verdict,
    length: u32,
    started: Instant,
    ended: Instant,
    probing: Duration,
    void: u32,
    findings: VecDeque<Finding>,
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

    /// A judge of an earlier process, as far as it was kept: verdict and counts, without the run it was in.
    pub fn recalled(check: &CheckSettings, verdict: Verdict, since: Instant, counts: Counts) -> Self {
        Judge { counts, ..Judge::carried(check, verdict, since) }
    }

    fn starting(check: &CheckSettings, verdict: Verdict, since: Instant, decides: Decides) -> Self {
        Judge {
            thresholds: Thresholds {
                healthy: check.timing.healthy_threshold,
                unhealthy: check.timing.unhealthy_threshold,
            },
            transition_interval: check.timing.transition_interval,
            verdict,
            since,
            decides,
            run: Run::default(),
            held: false,
            overdue: None,
            counts: Counts::default(),
            changes: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::ProbeEnded(finding) => self.hear(finding),
            Event::ProbingResumed => {
                self.forget_run();
                self.decides = Decides::FirstResult;
            }
            Event::HoldBegan => self.held = true,
            Event::HoldLifted => {
                self.held = false;
                self.overdue = None;
            }
            Event::HoldTimeUp { at } => {
                self.held = false;
                if let Some(Overdue(threshold)) = self.overdue {
                    self.change(Verdict::Unhealthy, threshold, at);
                }
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
        let needed = match self.run.toward {
            Verdict::Unhealthy => self.thresholds.unhealthy,
            Verdict::Healthy | Verdict::Unknown => self.thresholds.healthy,
        };
        Some(Progress { toward: self.run.toward, results: self.run.length, needed })
    }

    /// Whether only a hold keeps the verdict from turning unhealthy.
    pub const fn is_held_back(&self) -> bool {
        self.overdue.is_some()
    }

    /// How closely the target is to be watched now.
    pub const fn pace(&self) -> Pace {
        // Enough is known, and a node that is in trouble as it is need not probe faster for it.
        if self.is_held_back() {
            return Pace::Steady;
        }
        match (self.decides, self.run.length, self.verdict) {
            (Decides::FirstResult, _, _) | (Decides::Run, 1.., _) => Pace::Transition,
            (Decides::Run, 0, Verdict::Unhealthy) => Pace::Unhealthy,
            (Decides::Run, 0, Verdict::Healthy | Verdict::Unknown) => Pace::Steady,
        }
    }

    /// The findings of the current run against the verdict, oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = &Finding> {
        self.run.findings.iter()
    }

    fn hear(&mut self, finding: &Finding) {
        self.counts.count(&finding.result);
        let opinion = finding.verdict();
        if opinion == Verdict::Unknown {
            // Counted only inside a run, where it explains why the window is longer than computed.
            self.run.void += u32::from(self.run.length > 0);
            return;
        }
        let decides = std::mem::replace(&mut self.decides, Decides::Run);
        if opinion == self.verdict {
            self.forget_run();
            return;
        }
        // An unknown verdict that is held can be contradicted both ways.
        if self.run.toward != opinion {
            self.forget_run();
            self.run.toward = opinion;
        }
        self.run.push(finding);
        let threshold = match (decides, opinion) {
            (Decides::FirstResult, _) => None,
            (Decides::Run, Verdict::Unhealthy) => Some(self.thresholds.unhealthy),
            (Decides::Run, Verdict::Healthy | Verdict::Unknown) => Some(self.thresholds.healthy),
        };
        if self.run.length < threshold.unwrap_or(1) {
            return;
        }
        if self.held && opinion == Verdict::Unhealthy {
            // The first threshold that was reached is the one that counts.
            self.overdue.get_or_insert(Overdue(threshold));
            self.decides = decides;
            return;
        }
        self.change(opinion, threshold, self.run.ended);
    }

    fn forget_run(&mut self) {
        self.run = Run::default();
        self.overdue = None;
    }

    fn change(&mut self, to: Verdict, threshold: Option<u32>, at: Instant) {
        let run = std::mem::take(&mut self.run);
        self.overdue = None;
        self.decides = Decides::Run;
        let from = std::mem::replace(&mut self.verdict, to);
        self.since = at;
        let evidence = run.into_evidence(self.transition_interval);
        self.changes.push_back(Change { from, to, at: self.since, threshold, evidence });
    }
}

impl Counts {
    const fn count(&mut self, result: &ProbeResult) {
        let counter = match result {
            ProbeResult::Passed(_) => &mut self.passed,
            ProbeResult::Failed(_) => &mut self.failed,
            ProbeResult::Void(Void::Silent | Void::Doubtful(_)) => &mut self.kept,
            ProbeResult::Void(Void::Late { .. } | Void::NoResources { .. } | Void::EchoForbidden | Void::Cancelled) => {
                &mut self.void
            }
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

    fn into_evidence(self, gap: Duration) -> Evidence {
        Evidence {
            probes: self.length,
            void: self.void,
            window: self.ended - self.started,
            computed: self.probing.saturating_add(gap.saturating_mul(self.length.saturating_sub(1))),
            findings: self.findings.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ProbeSettings, TcpProbe, Timing};
    use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbeKind, ProbePhase};

    const HEALTHY_THRESHOLD: u32 = 2;
    const UNHEALTHY_THRESHOLD: u32 = 3;

    fn check() -> CheckSettings {
        CheckSettings {
            probe: ProbeSettings::Tcp(TcpProbe::HalfOpen),
            timing: Timing::new(Duration::from_secs(5), Duration::from_secs(2), HEALTHY_THRESHOLD, UNHEALTHY_THRESHOLD),
            sources: Default::default(),
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Input {
        Pass,
        Fail,
        Late,
        KeptSilence,
        Resume,
    }

    impl Input {
        const ALL: [Input; 5] = [Input::Pass, Input::Fail, Input::Late, Input::KeptSilence, Input::Resume];
    }

    fn result(input: Input) -> ProbeResult {
        let reason = FailureReason::Refused;
        match input {
            Input::Pass => ProbeResult::Passed(Pass::Connected),
            Input::Fail => ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason }),
            Input::Late => ProbeResult::Void(Void::Late { by: Duration::from_secs(1) }),
            Input::KeptSilence | Input::Resume => ProbeResult::Void(Void::Silent),
        }
    }

    /// Every state the judge can be in with the thresholds above: a verdict, and how many results
    /// contradict it, or that the next result alone decides.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Unknown,
        HealthyAfter { failures: u32 },
        HealthyResumed,
        UnhealthyAfter { passes: u32 },
        UnhealthyResumed,
    }

    impl State {
        const ALL: [State; 8] = [
            State::Unknown,
            State::HealthyAfter { failures: 0 },
            State::HealthyAfter { failures: 1 },
            State::HealthyAfter { failures: 2 },
            State::HealthyResumed,
            State::UnhealthyAfter { passes: 0 },
            State::UnhealthyAfter { passes: 1 },
            State::UnhealthyResumed,
        ];

        fn road(self) -> Vec<Input> {
            let then = |first, input, count: u32| {
                let mut road = vec![first];
                road.extend((0..count).map(|_| input));
                road
            };
            match self {
                State::Unknown => vec![],
                State::HealthyAfter { failures } => then(Input::Pass, Input::Fail, failures),
                State::HealthyResumed => vec![Input::Pass, Input::Fail, Input::Resume],
                State::UnhealthyAfter { passes } => then(Input::Fail, Input::Pass, passes),
                State::UnhealthyResumed => vec![Input::Fail, Input::Pass, Input::Resume],
            }
        }

        /// How closely a target in this state is watched.
        fn pace(self) -> Pace {
            match self {
                State::HealthyAfter { failures: 0 } => Pace::Steady,
                State::UnhealthyAfter { passes: 0 } => Pace::Unhealthy,
                State::Unknown
                | State::HealthyAfter { .. }
                | State::HealthyResumed
                | State::UnhealthyAfter { .. }
                | State::UnhealthyResumed => Pace::Transition,
            }
        }

        fn of(judge: &Judge) -> State {
            let length = judge.progress().map_or(0, |progress| progress.results);
            match (judge.verdict, judge.decides) {
                (Verdict::Unknown, _) => State::Unknown,
                (Verdict::Healthy, Decides::Run) => State::HealthyAfter { failures: length },
                (Verdict::Healthy, Decides::FirstResult) => State::HealthyResumed,
                (Verdict::Unhealthy, Decides::Run) => State::UnhealthyAfter { passes: length },
                (Verdict::Unhealthy, Decides::FirstResult) => State::UnhealthyResumed,
            }
        }
    }

    /// Tells a judge one input after the other, a probe of 10 ms every 2 s.
    struct Court {
        judge: Judge,
        now: Instant,
    }

    impl Court {
        fn new() -> Self {
            Court { judge: Judge::new(&check(), Instant::START), now: Instant::START }
        }

        fn tell(&mut self, input: Input) -> Option<Change> {
            if input == Input::Resume {
                self.judge.handle(Event::ProbingResumed);
            } else {
                let started = self.now;
                let ended = started + Duration::from_millis(10);
                self.now = ended + Duration::from_secs(2);
                let finding = Finding { kind: ProbeKind::Tcp, started, ended, result: result(input) };
                self.judge.handle(Event::ProbeEnded(&finding));
            }
            let change = self.judge.poll_output();
            assert_eq!(self.judge.poll_output(), None, "one result changes a verdict once at most");
            change
        }
    }

    // Walks every state and every input, and fails on a missing row, so a new state cannot slip in
    // without someone saying what it means.
    #[test]
    fn every_state_answers_every_input_as_the_table_says() {
        use Input::{Fail, KeptSilence, Late, Pass, Resume};
        use State::{HealthyAfter, HealthyResumed, UnhealthyAfter, UnhealthyResumed, Unknown};
        let (h0, h1, h2) = (HealthyAfter { failures: 0 }, HealthyAfter { failures: 1 }, HealthyAfter { failures: 2 });
        let (u0, u1) = (UnhealthyAfter { passes: 0 }, UnhealthyAfter { passes: 1 });
        let table = [
            (Unknown, Pass, h0, Some(Verdict::Healthy)),
            (Unknown, Fail, u0, Some(Verdict::Unhealthy)),
            (Unknown, Late, Unknown, None),
            (Unknown, KeptSilence, Unknown, None),
            (Unknown, Resume, Unknown, None),
            (h0, Pass, h0, None),
            (h0, Fail, h1, None),
            (h0, Late, h0, None),
            (h0, KeptSilence, h0, None),
            (h0, Resume, HealthyResumed, None),
            (h1, Pass, h0, None),
            (h1, Fail, h2, None),
            (h1, Late, h1, None),
            (h1, KeptSilence, h1, None),
            (h1, Resume, HealthyResumed, None),
            (h2, Pass, h0, None),
            (h2, Fail, u0, Some(Verdict::Unhealthy)),
            (h2, Late, h2, None),
            (h2, KeptSilence, h2, None),
            (h2, Resume, HealthyResumed, None),
            (HealthyResumed, Pass, h0, None),
            (HealthyResumed, Fail, u0, Some(Verdict::Unhealthy)),
            (HealthyResumed, Late, HealthyResumed, None),
            (HealthyResumed, KeptSilence, HealthyResumed, None),
            (HealthyResumed, Resume, HealthyResumed, None),
            (u0, Pass, u1, None),
            (u0, Fail, u0, None),
            (u0, Late, u0, None),
            (u0, KeptSilence, u0, None),
            (u0, Resume, UnhealthyResumed, None),
            (u1, Pass, h0, Some(Verdict::Healthy)),
            (u1, Fail, u0, None),
            (u1, Late, u1, None),
            (u1, KeptSilence, u1, None),
            (u1, Resume, UnhealthyResumed, None),
            (UnhealthyResumed, Pass, h0, Some(Verdict::Healthy)),
            (UnhealthyResumed, Fail, u0, None),
            (UnhealthyResumed, Late, UnhealthyResumed, None),
            (UnhealthyResumed, KeptSilence, UnhealthyResumed, None),
            (UnhealthyResumed, Resume, UnhealthyResumed, None),
        ];
        for state in State::ALL {
            for input in Input::ALL {
                let row = table.iter().find(|row| (row.0, row.1) == (state, input));
                let &(_, _, next, verdict) = row.unwrap_or_else(|| panic!("no row for {state:?} {input:?}"));
                let mut court = Court::new();
                for step in state.road() {
                    court.tell(step);
                }
                assert_eq!(State::of(&court.judge), state, "the road to {state:?}");
                assert_eq!(court.judge.pace(), state.pace(), "{state:?}");
                let change = court.tell(input);
                assert_eq!(State::of(&court.judge), next, "{state:?} then {input:?}");
                assert_eq!(change.map(|change| change.to), verdict, "{state:?} then {input:?}");
            }
        }
    }

    #[test]
    fn a_change_carries_the_findings_of_its_run_and_nothing_else() {
        let mut court = Court::new();
        for input in [Input::Pass, Input::Fail, Input::Pass, Input::Fail, Input::Late, Input::Fail] {
            assert!(court.tell(input).is_none() || input == Input::Pass);
        }
        assert_eq!(court.judge.evidence().count(), 2);
        assert_eq!(
            court.judge.progress(),
            Some(Progress { toward: Verdict::Unhealthy, results: 2, needed: UNHEALTHY_THRESHOLD })
        );
        let change = court.tell(Input::Fail).expect("the third failure in a row");
        assert_eq!((change.from, change.to, change.threshold), (Verdict::Healthy, Verdict::Unhealthy, Some(3)));
        let evidence = change.evidence;
        assert!(evidence.findings.iter().all(|finding| finding.result.failed()));
        assert_eq!((evidence.findings.len(), evidence.probes, evidence.void), (3, 3, 1));
        assert_eq!(evidence.computed, Duration::from_millis(3 * 10 + 2 * 2000));
        assert_eq!(evidence.window, evidence.computed + Duration::from_millis(10 + 2000), "one void probe and its gap");
        assert_eq!(change.at, evidence.findings[2].ended);
        assert_eq!(court.judge.since(), change.at);
        assert_eq!((court.judge.evidence().count(), court.judge.progress()), (0, None));
    }

    #[test]
    fn results_are_counted_by_what_they_say() {
        let mut court = Court::new();
        for input in [Input::Pass, Input::Fail, Input::Fail, Input::Late, Input::KeptSilence, Input::KeptSilence] {
            court.tell(input);
        }
        assert_eq!(court.judge.counts(), Counts { passed: 1, failed: 2, void: 1, kept: 2 });
    }

    #[test]
    fn a_carried_verdict_needs_a_whole_run_to_change() {
        let mut check = check();
        check.timing.healthy_threshold = 2;
        let mut court =
            Court { judge: Judge::carried(&check, Verdict::Unhealthy, Instant::START), now: Instant::START };
        assert_eq!(court.tell(Input::Pass), None);
        assert_eq!(court.tell(Input::Pass).map(|change| change.to), Some(Verdict::Healthy));
        let mut court = Court { judge: Judge::carried(&check, Verdict::Healthy, Instant::START), now: Instant::START };
        assert_eq!(court.tell(Input::Fail), None);
        assert_eq!(court.tell(Input::Fail), None);
        assert_eq!(court.tell(Input::Fail).map(|change| change.to), Some(Verdict::Unhealthy));
    }

    #[test]
    fn a_carried_unknown_is_decided_by_the_first_result() {
        let judge = Judge::carried(&check(), Verdict::Unknown, Instant::START);
        let mut court = Court { judge, now: Instant::START };
        assert_eq!(court.tell(Input::Fail).map(|change| change.to), Some(Verdict::Unhealthy));
    }

    #[test]
    fn evidence_of_a_long_run_keeps_the_last_findings_and_the_whole_window() {
        let mut check = check();
        check.timing.unhealthy_threshold = 25;
        let mut court = Court { judge: Judge::carried(&check, Verdict::Healthy, Instant::START), now: Instant::START };
        let change = (0..25).find_map(|_| court.tell(Input::Fail)).expect("25 failures");
        assert_eq!(change.evidence.findings.len() as u64, limits::RECENT_FINDINGS.value);
        assert_eq!(change.evidence.findings.last().map(|last| last.ended), Some(change.at));
        assert_eq!((change.evidence.probes, change.evidence.window), (25, Duration::from_millis(25 * 10 + 24 * 2000)));
    }
    #[test]
    fn while_held_no_verdict_turns_unhealthy_and_the_end_of_the_hold_lets_it_where_the_run_still_stands() {
        use Input::{Fail, Late, Pass, Resume};
        // What was before the hold, what comes in it; is the verdict held back at its end, and what is it then.
        let table: [(&[Input], &[Input], bool, Verdict); 14] = [
            (&[Pass], &[Fail, Fail], false, Verdict::Healthy),
            (&[Pass], &[Fail, Fail, Fail], true, Verdict::Unhealthy),
            (&[Pass, Fail, Fail], &[Fail], true, Verdict::Unhealthy),
            (&[Pass], &[Fail, Fail, Fail, Fail, Fail], true, Verdict::Unhealthy),
            (&[Pass], &[Fail, Fail, Fail, Late], true, Verdict::Unhealthy),
            (&[Pass], &[Fail, Fail, Fail, Pass], false, Verdict::Healthy),
            (&[Pass], &[Fail, Fail, Fail, Pass, Fail], false, Verdict::Healthy),
            (&[Pass], &[Fail, Fail, Fail, Resume], false, Verdict::Healthy),
            // One result decides, and it is kept back as well.
            (&[], &[Fail], true, Verdict::Unhealthy),
            (&[], &[Fail, Fail], true, Verdict::Unhealthy),
            (&[], &[Fail, Pass], false, Verdict::Healthy),
            (&[Pass, Resume], &[Fail], true, Verdict::Unhealthy),
            // Who is unhealthy stays so, and nothing keeps it from getting better.
            (&[Fail], &[Fail, Fail], false, Verdict::Unhealthy),
            (&[Fail], &[Pass, Pass], false, Verdict::Healthy),
        ];
        for (before, during, held_back, after) in table {
            let mut court = Court::new();
            for input in before {
                court.tell(*input);
            }
            court.judge.handle(Event::HoldBegan);
            for input in during {
                let change = court.tell(*input);
                assert_ne!(change.map(|change| change.to), Some(Verdict::Unhealthy), "{before:?} {during:?}");
            }
            assert_eq!(court.judge.is_held_back(), held_back, "{before:?} {during:?}");
            assert!(!held_back || court.judge.pace() == Pace::Steady, "{before:?} {during:?}: watched in vain");
            court.judge.handle(Event::HoldTimeUp { at: court.now });
            assert_eq!((court.judge.verdict(), court.judge.is_held_back()), (after, false), "{before:?} {during:?}");
            let change = court.judge.poll_output();
            assert_eq!(change.map(|change| (change.to, change.at)), held_back.then_some((after, court.now)));
            // And then everything is as it always was.
            let next = [Fail, Fail, Fail].map(|input| court.tell(input).map(|change| change.to));
            assert_eq!(court.judge.verdict(), Verdict::Unhealthy, "{before:?} {during:?}: {next:?}");
        }
    }

    #[test]
    fn where_the_hold_is_lifted_the_next_result_decides() {
        use Input::{Fail, Late, Pass};
        for (before, during) in [(&[Pass][..], &[Fail; 4][..]), (&[], &[Fail]), (&[Pass, Input::Resume], &[Fail])] {
            for (next, verdict) in [(Fail, Verdict::Unhealthy), (Pass, Verdict::Healthy)] {
                let mut court = Court::new();
                for input in before {
                    court.tell(*input);
                }
                court.judge.handle(Event::HoldBegan);
                for input in during {
                    assert_eq!(court.tell(*input), None);
                }
                court.judge.handle(Event::HoldLifted);
                assert_eq!((court.judge.poll_output(), court.judge.is_held_back()), (None, false));
                assert_eq!(court.tell(Late), None, "that says nothing");
                court.tell(next);
                assert_eq!(court.judge.verdict(), verdict, "{before:?} {during:?} {next:?}");
            }
        }
    }

    #[test]
    fn a_change_that_was_held_back_shows_the_whole_run_and_dates_from_the_end_of_the_hold() {
        let mut court = Court::new();
        court.tell(Input::Pass);
        court.judge.handle(Event::HoldBegan);
        for _ in 0..5 {
            assert_eq!(court.tell(Input::Fail), None);
        }
        assert_eq!(
            court.judge.progress(),
            Some(Progress { toward: Verdict::Unhealthy, results: 5, needed: UNHEALTHY_THRESHOLD })
        );
        let at = court.now + Duration::from_secs(1);
        court.judge.handle(Event::HoldTimeUp { at });
        let change = court.judge.poll_output().expect("the run still stands");
        assert_eq!((change.threshold, change.evidence.probes, change.at), (Some(UNHEALTHY_THRESHOLD), 5, at));
        assert_eq!(court.judge.since(), at);
    }
}
