//! How long detection and recovery take: the arithmetic of SPEC W5 and W6.
//!
//! `evenkeel window` and the manual print these figures, the demo and the tests compare them with
//! what they observe. Pure arithmetic on a check's timing; nothing here knows a backend.
//!
//! The *window* runs from the start of the first probe of a run to the verdict. What an operator
//! feels starts earlier, when the backend fails: that moment falls somewhere between two probes,
//! hence best, typical and worst.

use std::time::Duration;

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

/// W5: durations of the failing probes plus one interval between each two.
pub fn fail_window(timing: &Timing, failing: Failing) -> Duration {
    equal_probes(failing.takes(timing), timing.interval, timing.unhealthy_threshold)
}

/// W6: response times plus one interval between each two.
pub fn success_window(timing: &Timing, response: Duration) -> Duration {
    equal_probes(response.min(timing.timeout), timing.interval, timing.healthy_threshold)
}

/// W5 and W6 for a run of given durations.
pub fn window_of(durations: impl IntoIterator<Item = Duration>, interval: Duration) -> Duration {
    let mut window = Duration::ZERO;
    for (position, duration) in durations.into_iter().enumerate() {
        let gap = if position == 0 { Duration::ZERO } else { interval };
        window = window.saturating_add(gap).saturating_add(duration);
    }
    window
}

/// From the moment of failure to `unhealthy`, for a backend whose probes took `response` before.
///
/// Worst: it fails right after it has answered a probe that is still under way; then that probe's
/// duration and one interval pass before the window begins. Best: it fails just before it would
/// have answered, so the failing probe has been under way for `response` already.
pub fn detection(timing: &Timing, failing: Failing, response: Duration) -> Span {
    let takes = failing.takes(timing);
    span(timing, fail_window(timing, failing), takes, response)
}

/// From the moment of recovery to `healthy`, for a backend whose probes failed as `failing` before.
///
/// Worst: a doomed probe has just begun; its duration and one interval pass before the window begins.
pub fn recovery(timing: &Timing, failing: Failing, response: Duration) -> Span {
    span(timing, success_window(timing, response), response, failing.takes(timing))
}

/// `new` is how long each probe of the window takes, `old` how long each took before.
fn span(timing: &Timing, window: Duration, new: Duration, old: Duration) -> Span {
    let (new, old) = (new.min(timing.timeout), old.min(timing.timeout));
    let before = timing.interval.saturating_add(old);
    Span {
        best: window.saturating_sub(new.min(old)),
        typical: window.saturating_add(before / 2),
        worst: window.saturating_add(before),
    }
}

fn equal_probes(takes: Duration, interval: Duration, count: u32) -> Duration {
    takes.saturating_mul(count).saturating_add(interval.saturating_mul(count.saturating_sub(1)))
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
        let udp = Timing { timeout: secs(10), interval: secs(5), ..DEFAULTS };
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

    #[test]
    fn a_threshold_of_one_has_no_interval_inside() {
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
