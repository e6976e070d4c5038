//! SPEC W5 and W6 hold to the nanosecond, whatever the probes take and however results are mixed.
//!
//! Timetable and judge run together under a virtual clock, as control runs them. What the judge says
//! is compared with a recount that shares no code with it: a walk backwards over the log of probes.

use std::time::Duration;

use evenkeel_health::ProbeKey;
use evenkeel_health::gap::{Pace, Witness};
use evenkeel_health::judge::{Change, Event, Judge};
use evenkeel_health::settings::{CheckSettings, ProbeSettings, TcpProbe, Timing};
use evenkeel_health::timetable::{self, Timetable};
use evenkeel_health::window::{self, Failing};
use evenkeel_model::Instant;
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult};
use evenkeel_model::standing::Verdict;
use proptest::prelude::*;

const KEY: ProbeKey = ProbeKey(7);

fn check(timing: Timing) -> CheckSettings {
    CheckSettings { probe: ProbeSettings::Tcp(TcpProbe::HalfOpen), timing, sources: Default::default() }
}

fn failed(reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason })
}

/// One target under a virtual clock, whose steady health rests on what `witness` says. `answer` says how long the probe that
/// starts now takes and how it ends; the run stops after `probes`.
fn run(
    timing: Timing,
    witness: Witness,
    probes: usize,
    mut answer: impl FnMut(usize, Instant) -> (Duration, ProbeResult),
) -> (Vec<Finding>, Vec<Change>) {
    let check = check(timing);
    let mut now = Instant::from_nanos(123);
    let mut judge = Judge::new(&check, now);
    let mut timetable = Timetable::new(timing.interval.as_nanos() as u64);
    timetable.handle(timetable::Event::Joined(vec![(KEY, timing.interval)]), now);
    let (mut log, mut changes) = (Vec::new(), Vec::new());
    while log.len() < probes {
        now = timetable.poll_timeout().expect("the only target is either due or answered below");
        timetable.handle_timeout(now);
        assert_eq!(timetable.poll_output(), Some(timetable::Output::Start { key: KEY }));
        let (takes, result) = answer(log.len(), now);
        let finding = Finding { kind: ProbeKind::Tcp, started: now, ended: now + takes, result };
        now = finding.ended;
        judge.handle(Event::ProbeEnded(&finding));
        let gap = timing.gap(judge.pace(), witness);
        timetable.handle(timetable::Event::ProbeEnded { key: KEY, at: now, gap }, now);
        log.push(finding);
        changes.extend(std::iter::from_fn(|| judge.poll_output()));
    }
    (log, changes)
}

/// The verdict changes that a log of probes without void ones must cause: position of the deciding
/// probe, verdict, and length of the run.
fn recount(log: &[Finding], timing: &Timing) -> Vec<(usize, Verdict, usize)> {
    let mut expected = Vec::new();
    let mut verdict = None;
    for position in 0..log.len() {
        let passed = log[position].result.passed();
        let same = log[..=position].iter().rev().take_while(|finding| finding.result.passed() == passed).count();
        let threshold = if passed { timing.healthy_threshold } else { timing.unhealthy_threshold } as usize;
        let says = if passed { Verdict::Healthy } else { Verdict::Unhealthy };
        match verdict {
            None => expected.push((position, says, 1)),
            Some(held) if held != says && same >= threshold => expected.push((position, says, same)),
            Some(_) => continue,
        }
        verdict = Some(says);
    }
    expected
}

fn nanos(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_nanos)
}

/// Every gap and the jitter, as far from each other as they like. Thresholds are those of [`every_threshold`].
fn timings() -> impl Strategy<Value = Timing> {
    let gap = || nanos(1..60 * SECOND);
    let trusted = prop::option::of(gap());
    (nanos(SECOND..300 * SECOND), [gap(), gap(), gap()], trusted, prop_oneof![Just(0), 1..=50u32]).prop_map(
        |(timeout, [interval, unhealthy_interval, transition_interval], trust_traffic, jitter)| Timing {
            unhealthy_interval,
            transition_interval,
            trust_traffic,
            jitter,
            ..Timing::new(timeout, interval, 1, 1)
        },
    )
}

/// Thresholds 1 to 5 in every combination.
fn every_threshold(timing: Timing) -> impl Iterator<Item = Timing> {
    (1..=5).flat_map(move |healthy_threshold| {
        (1..=5).map(move |unhealthy_threshold| Timing { healthy_threshold, unhealthy_threshold, ..timing })
    })
}

/// Whether a run of these probes took as long as their durations and the gaps between, jitter and all.
fn took(timing: &Timing, run: &[Finding], window: Duration) -> bool {
    let gap = timing.gap(Pace::Transition, Witness::Probes);
    let takes = |between| window::window_of(run.iter().map(Finding::duration), between);
    takes(gap.shortest()) <= window && window <= takes(gap.longest())
}

const SECOND: u64 = 1_000_000_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// W4, W5, W6, W8: verdicts change exactly when a recount says so, and each after exactly the
    /// durations of its run plus the gaps between.
    #[test]
    fn every_verdict_comes_exactly_after_the_window_of_its_run(
        timing in timings(),
        trusting in any::<bool>(),
        script in prop::collection::vec((prop::bool::weighted(0.5), 0.0..=1.0f64), 10..80),
    ) {
        let witness = if trusting { Witness::Traffic } else { Witness::Probes };
        for timing in every_threshold(timing) {
            let (timeout, between) = (timing.timeout, timing.transition_interval);
            let (log, changes) = run(timing, witness, script.len(), |position, _| {
                let (passes, share) = script[position];
                let result =
                    if passes { ProbeResult::Passed(Pass::Connected) } else { failed(FailureReason::Refused) };
                (timeout.mul_f64(share).min(timeout), result)
            });
            let expected = recount(&log, &timing);
            let seen: Vec<(Instant, Verdict)> = changes.iter().map(|change| (change.at, change.to)).collect();
            let wanted: Vec<(Instant, Verdict)> =
                expected.iter().map(|&(position, verdict, _)| (log[position].ended, verdict)).collect();
            prop_assert_eq!(seen, wanted, "{:?}", timing);
            for (change, (position, _, length)) in changes.iter().zip(expected) {
                let run = &log[position + 1 - length..=position];
                let formula = run.iter().map(Finding::duration).sum::<Duration>() + between * (length as u32 - 1);
                let observed = change.at - run[0].started;
                prop_assert_eq!((change.evidence.window, change.evidence.computed), (observed, formula));
                prop_assert_eq!(formula, window::window_of(run.iter().map(Finding::duration), between));
                prop_assert!(took(&timing, run, observed), "{timing:?}: {observed:?} for {formula:?}");
                prop_assert!(timing.jitter > 0 || observed == formula, "{timing:?}: {observed:?} for {formula:?}");
                prop_assert_eq!(&change.evidence.findings[..], run);
            }
        }
    }

    /// W5's second half, and the figures of `evenkeel window`: a healthy backend fails at some moment,
    /// refusing, silent, or answering badly after a time of its own for each probe.
    #[test]
    fn from_failure_to_verdict_takes_at_most_the_window_a_gap_and_a_probe(
        timing in timings(),
        trusting in any::<bool>(),
        response in 0.0..=1.0f64,
        moment in 0.0..=1.0f64,
        takes in prop::collection::vec(0.0..=1.0f64, 8),
        answered_before_it_failed in any::<bool>(),
        mode in 0..4,
    ) {
        let timeout = timing.timeout;
        let witness = if trusting { Witness::Traffic } else { Witness::Probes };
        let response = timeout.mul_f64(response).min(timeout);
        let badly = timeout.mul_f64(takes[0]).min(timeout);
        let before = timing.gap(Pace::Steady, witness);
        let cycle = response + before.length;
        for timing in every_threshold(timing) {
            // Some cycle in the healthy life of the backend; the clock of `run` starts at 123.
            let fails_at = Instant::from_nanos(123) + cycle * 4 + cycle.mul_f64(moment);
            let mut bad = 0;
            let (log, changes) = run(timing, witness, 30, |_, started| {
                let doomed = match started + response {
                    _ if started > fails_at => true,
                    // Under way when it failed: the answer may have been sent already.
                    ends if ends > fails_at => !answered_before_it_failed,
                    _ => false,
                };
                if !doomed {
                    return (response, ProbeResult::Passed(Pass::Connected));
                }
                bad += 1;
                match mode {
                    // One that was under way is reset at the moment of failure.
                    0 => (fails_at - started, failed(FailureReason::Refused)),
                    1 => (timeout, failed(FailureReason::TimedOut)),
                    // One that was under way answers when it would have, but wrongly.
                    2 if started <= fails_at => (badly.max(fails_at - started), failed(FailureReason::Status { got: 500 })),
                    2 => (badly, failed(FailureReason::Status { got: 500 })),
                    // A probe that was under way cannot fail before the backend did.
                    _ => (timeout.mul_f64(takes[bad % takes.len()]).min(timeout).max(fails_at - started), failed(FailureReason::Closed)),
                }
            });
            let verdict = changes.iter().find(|change| change.to == Verdict::Unhealthy).expect("it failed for good");
            let observed = verdict.at - fails_at;
            prop_assert!(observed <= verdict.evidence.window + before.longest() + response, "{timing:?}");
            let failing = match mode { 0 => Failing::Refused, 1 => Failing::Silent, 2 => Failing::After(badly), _ => continue };
            let span = window::detection_with(&timing, witness, failing, response);
            prop_assert!(span.best <= observed && observed <= span.worst, "{timing:?}: {observed:?} in {span:?}");
            if timing.trust_traffic.is_none() || !trusting {
                prop_assert_eq!(span, window::detection(&timing, failing, response));
            }
            if mode == 1 || verdict.evidence.findings[0].started >= fails_at {
                prop_assert_eq!(verdict.evidence.computed, window::fail_window(&timing, failing));
            }
            if mode == 1 {
                let n = timing.unhealthy_threshold;
                let between = timing.transition_interval;
                prop_assert_eq!(verdict.evidence.computed, timeout * n + between * (n - 1), "{:?}", timing);
                prop_assert!(log.iter().rev().take(n as usize).all(|finding| finding.duration() == timeout));
            }
        }
    }

    /// W6 from the backend's side: it comes back at some moment, after it was refusing or silent.
    #[test]
    fn from_recovery_to_verdict_takes_at_most_the_window_a_gap_and_a_probe(
        timing in timings(),
        trusting in any::<bool>(),
        response in 0.0..=1.0f64,
        moment in 0.0..=1.0f64,
        silent in any::<bool>(),
    ) {
        let timeout = timing.timeout;
        let witness = if trusting { Witness::Traffic } else { Witness::Probes };
        let response = timeout.mul_f64(response).min(timeout);
        let (takes, failing) = if silent { (timeout, Failing::Silent) } else { (Duration::ZERO, Failing::Refused) };
        let cycle = takes + timing.unhealthy_interval;
        for timing in every_threshold(timing) {
            let recovers_at = Instant::from_nanos(123) + cycle * 4 + cycle.mul_f64(moment);
            let (_, changes) = run(timing, witness, 30, |_, started| {
                if started < recovers_at {
                    return (takes, failed(if silent { FailureReason::TimedOut } else { FailureReason::Refused }));
                }
                (response, ProbeResult::Passed(Pass::Connected))
            });
            let verdict = changes.iter().find(|change| change.to == Verdict::Healthy).expect("it recovered for good");
            let n = timing.healthy_threshold;
            let computed = response * n + timing.transition_interval * (n - 1);
            prop_assert_eq!(verdict.evidence.computed, computed, "{:?}", timing);
            prop_assert_eq!(verdict.evidence.computed, window::success_window(&timing, response));
            let observed = verdict.at - recovers_at;
            let span = window::recovery(&timing, failing, response);
            prop_assert!(span.best <= observed && observed <= span.worst, "{timing:?}: {observed:?} in {span:?}");
        }
    }
}
