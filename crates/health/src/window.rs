//! How long detection and recovery take: the arithmetic of SPEC W5 and W6.
//!
//! `evenkeel window` and the manual print these figures, the demo and the tests compare them with
//! what they observe. Pure arithmetic on a check's timing; nothing here knows a backend.
//!
//! The *window* runs from the start of the first probe of a run to the verdict. What an operator
//! feels starts earlier, when the backend fails: that moment falls somewhere between two probes,
//! hence best, typical and worst.
//!
//! Which gap lies where follows from [`crate::gap`]: `transition_interval` between the probes of the window, because its
//! first one already contradicts the verdict; before it whatever the old verdict asks for: `interval` or
//! `trust_traffic` before a fall, `unhealthy_interval` before a recovery. Jitter makes the best shorter and
//! the worst longer.

use std::time::Duration;

use crate::gap::{Gap, Pace, Witness};
use crate::settings::Timing;

/// How a probe of a failing backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The host answers at once that nothing listens.
    Refused,
    /// Nothing comes back; every probe takes its whole timeout.
    Silent,
    /// Each probe fails after this time, for example with a bad status.
    After(Duration),
}

/// From the moment something happens to a backend to the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// No observation is shorter.
    pub best: Duration,
    /// When it happens halfway between the starts of two probes.
    pub typical: Duration,
    /// No observation is longer, void probes and waits for a place in flight aside.
    pub worst: Duration,
}

/// All figures of one check, for a backend that answers within `response` while it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    pub refused: Span,
    pub silent: Span,
    pub recovery_from_refused: Span,
    pub recovery_from_silent: Span,
}

impl Windows {
    pub fn of(timing: &Timing, response: Duration) -> Windows {
        Windows {
            refused: detection(timing, Failing::Refused, response),
            silent: detection(timing, Failing::Silent, response),
            recovery_from_refused: recovery(timing, Failing::Refused, response),
            recovery_from_silent: recovery(timing, Failing::Silent, response),
        }
    }
}

/// W5: durations of the failing probes plus one gap between each two, without jitter.
pub fn fail_window(timing: &Timing, failing: Failing) -> Duration {
    equal_probes(failing.takes(timing), timing.transition_interval, timing.unhealthy_threshold)
}

/// W6: response times plus one gap between each two, without jitter.
pub fn success_window(timing: &Timing, response: Duration) -> Duration {
    equal_probes(response.min(timing.timeout), timing.transition_interval, timing.healthy_threshold)
}

/// W5 and W6 for a run of given durations.
pub fn window_of(durations: impl IntoIterator<Item = Duration>, between: Duration) -> Duration {
    let mut window = Duration::ZERO;
    for (position, duration) in durations.into_iter().enumerate() {
        let gap = if position == 0 { Duration::ZERO } else { between };
        window = window.saturating_add(gap).saturating_add(duration);
    }
    window
}

/// From the moment of failure to `unhealthy`, for a backend whose probes took `response` before and whose steady health
/// rests on probes alone.
///
/// Worst: it fails right after it has answered a probe that is still under way; then that probe's
/// duration and one gap pass before the window begins. Best: it fails just before it would
/// have answered, so the failing probe has been under way for `response` already.
pub fn detection(timing: &Timing, failing: Failing, response: Duration) -> Span {
    detection_with(timing, Witness::Probes, failing, response)
}

/// The same where steady health may rest on traffic that goes on passing, as it does while a check fails whose
/// subject clients do not touch. Where traffic fails too, or stops, the gap is `interval` again at once.
pub fn detection_with(timing: &Timing, witness: Witness, failing: Failing, response: Duration) -> Span {
    let before = timing.gap(Pace::Steady, witness);
    span(timing, timing.unhealthy_threshold, before, failing.takes(timing), response)
}

/// From the moment of recovery to `healthy`, for a backend whose probes failed as `failing` before.
///
/// Worst: a doomed probe has just begun; its duration and one gap pass before the window begins.
pub fn recovery(timing: &Timing, failing: Failing, response: Duration) -> Span {
    let before = timing.gap(Pace::Unhealthy, Witness::Probes);
    span(timing, timing.healthy_threshold, before, response, failing.takes(timing))
}

/// A window of `count` probes that take `new` each, after a `before` and probes that took `old` each.
fn span(timing: &Timing, count: u32, before: Gap, new: Duration, old: Duration) -> Span {
    let (new, old) = (new.min(timing.timeout), old.min(timing.timeout));
    let between = timing.gap(Pace::Transition, Witness::Probes);
    let window = |gap| equal_probes(new, gap, count);
    Span {
        best: window(between.shortest()).saturating_sub(new.min(old)),
        typical: window(between.length).saturating_add(before.length.saturating_add(old) / 2),
        worst: window(between.longest()).saturating_add(before.longest()).saturating_add(old),
    }
}

fn equal_probes(takes: Duration, gap: Duration, count: u32) -> Duration {
    takes.saturating_mul(count).saturating_add(gap.saturating_mul(count.saturating_sub(1)))
}

impl Failing {
    /// One timeout covers the whole probe (W3), so none takes longer.
    fn takes(self, timing: &Timing) -> Duration {
        match self {
            Failing::Refused => Duration::ZERO,
            Failing::Silent => timing.timeout,
            Failing::After(duration) => duration.min(timing.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const DEFAULTS: Timing = Timing::new(secs(5), secs(2), 3, 3);

    #[test]
    fn defaults_give_the_windows_of_the_modelled_service() {
        assert_eq!(fail_window(&DEFAULTS, Failing::Refused), secs(4));
        assert_eq!(fail_window(&DEFAULTS, Failing::Silent), secs(19));
        assert_eq!(fail_window(&DEFAULTS, Failing::After(secs(1))), secs(7));
        assert_eq!(success_window(&DEFAULTS, secs(1)), secs(7));
        let udp = Timing::new(secs(10), secs(5), 3, 3);
        assert_eq!(fail_window(&udp, Failing::Silent), secs(40));
    }

    #[test]
    fn a_probe_never_counts_for_more_than_its_timeout() {
        assert_eq!(fail_window(&DEFAULTS, Failing::After(secs(60))), fail_window(&DEFAULTS, Failing::Silent));
        assert_eq!(success_window(&DEFAULTS, secs(60)), secs(19));
    }

    #[test]
    fn what_an_operator_feels_is_the_window_and_up_to_one_interval_and_probe() {
        let windows = Windows::of(&DEFAULTS, secs(1));
        assert_eq!(windows.refused, Span { best: secs(4), typical: secs(5) + secs(1) / 2, worst: secs(7) });
        assert_eq!(windows.silent, Span { best: secs(18), typical: secs(20) + secs(1) / 2, worst: secs(22) });
        assert_eq!(windows.recovery_from_refused, Span { best: secs(7), typical: secs(8), worst: secs(9) });
        assert_eq!(
            windows.recovery_from_silent,
            Span { best: secs(6), typical: secs(10) + secs(1) / 2, worst: secs(14) }
        );
    }

    // The worked example of docs/health-checks.md.
    #[test]
    fn each_gap_has_its_place_in_the_windows() {
        let by_state = Timing {
            unhealthy_interval: secs(10),
            transition_interval: Duration::from_millis(500),
            trust_traffic: Some(secs(30)),
            ..DEFAULTS
        };
        let windows = Windows::of(&by_state, Duration::ZERO);
        let millis = Duration::from_millis;
        assert_eq!(windows.refused, Span { best: secs(1), typical: secs(2), worst: secs(3) });
        assert_eq!(windows.silent, Span { best: secs(16), typical: secs(17), worst: secs(18) });
        assert_eq!(windows.recovery_from_refused, Span { best: secs(1), typical: secs(6), worst: secs(11) });
        assert_eq!(
            windows.recovery_from_silent,
            Span { best: secs(1), typical: millis(8500), worst: secs(16) },
            "a doomed probe of 5 s and a gap of 10 s before the window of 1 s"
        );
        let trusting = detection_with(&by_state, Witness::Traffic, Failing::Refused, Duration::ZERO);
        assert_eq!(trusting, Span { best: secs(1), typical: secs(16), worst: secs(31) });
    }

    #[test]
    fn jitter_makes_the_best_shorter_and_the_worst_longer_and_leaves_the_typical() {
        let shaken = Timing { jitter: 10, ..DEFAULTS };
        let millis = Duration::from_millis;
        let Windows { refused, silent, .. } = Windows::of(&shaken, Duration::ZERO);
        assert_eq!(refused, Span { best: millis(3600), typical: secs(5), worst: millis(6600) });
        assert_eq!(silent, Span { best: millis(18_600), typical: secs(20), worst: millis(21_600) });
        assert_eq!(fail_window(&shaken, Failing::Refused), secs(4), "without it");
    }

    #[test]
    fn a_threshold_of_one_has_no_gap_inside() {
        let timing = Timing { unhealthy_threshold: 1, healthy_threshold: 1, ..DEFAULTS };
        assert_eq!(fail_window(&timing, Failing::Refused), Duration::ZERO);
        assert_eq!(fail_window(&timing, Failing::Silent), secs(5));
        assert_eq!(success_window(&timing, secs(1)), secs(1));
    }

    #[test]
    fn equal_durations_agree_with_given_ones() {
        for threshold in 1..=5 {
            let timing = Timing { unhealthy_threshold: threshold, ..DEFAULTS };
            let given = window_of((0..threshold).map(|_| secs(3)), timing.interval);
            assert_eq!(given, fail_window(&timing, Failing::After(secs(3))), "threshold {threshold}");
        }
    }
}
