//! What real traffic says of a backend: when it is set aside, for how long, and when it comes back.
//!
//! Probes ask a health page; clients ask for the application. A page that is served by a front server stays green
//! while the application behind it fails, and only traffic shows that (SPEC 4.3). So this is a fact of its own beside
//! the verdict: a passing probe does not bring an ejected backend back, and an ejection does not touch the verdict.
//!
//! ```text
//!             a run or an outlier                    time over
//!   serving ─────────────────────► ejected ────────────────────────► on trial
//!      ▲                              ▲                                 │  │
//!      │                              └────── the first failure ────────┘  │
//!      └──────────────────────────── the first success ────────────────────┘
//! ```
//!
//! Each ejection is longer than the one before, by `ejection_time`, up to `ejection_max`; serving well for as long as
//! one `ejection_time` takes one step back. The share of a pool that may be ejected is bounded, because a fault that
//! strikes them all is mostly not theirs.

use std::time::Duration;

use evenkeel_model::standing::Harm;
use evenkeel_model::time::Instant;

use crate::settings::PassiveSettings;

/// One backend, as its traffic shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    state: State,
    /// Ejections not yet made good.
    ejections: u32,
    /// Since when the last step back counts.
    good_since: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Serving,
    Ejected {
        until: Instant,
    },
    /// Came back; nothing has been heard of it since.
    OnTrial,
}

/// What one backend did within one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Attempts that ended.
    pub attempts: u64,
    /// Those among them that failed through the backend: no connection, reset, timeout, 5xx.
    pub failed: u64,
    /// Time to the first byte, of all that brought one.
    pub waited: Duration,
    pub answered: u64,
}

/// Why traffic speaks against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// So many failures of one kind in a row.
    Run { harm: Harm, failures: u32 },
    /// The first attempt after an ejection failed.
    Trial { harm: Harm },
    /// It fails more than it may and more than twice as often as the rest of its pool.
    FailureRate { percent: u32, others_percent: u32 },
    /// It takes so many times longer than the rest of its pool.
    Latency { mean: Duration, others_mean: Duration },
}

impl Conduct {
    pub const fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    /// When the ejection is over.
    pub const fn until(&self) -> Option<Instant> {
        match self.state {
            State::Ejected { until } => Some(until),
            State::Serving | State::OnTrial => None,
        }
    }

    /// Ejections that make the next one longer.
    pub const fn ejections(&self) -> u32 {
        self.ejections
    }

    /// A run of failures has come to `failures` of one kind. `Some` when it is to be ejected for that.
    pub const fn failed(&self, settings: &PassiveSettings, harm: Harm, failures: u32) -> Option<Against> {
        match self.state {
            State::Ejected { .. } => None,
            State::OnTrial => Some(Against::Trial { harm }),
            State::Serving => {
                let threshold = settings.runs.of(harm);
                if threshold > 0 && failures >= threshold { Some(Against::Run { harm, failures }) } else { None }
            }
        }
    }

    /// Something went well.
    pub fn succeeded(&mut self, now: Instant) {
        if self.state == State::OnTrial {
            self.state = State::Serving;
            self.good_since = now;
        }
    }

    /// Sets it aside; says for how long.
    pub fn eject(&mut self, settings: &PassiveSettings, now: Instant) -> Duration {
        self.forgive(settings, now);
        self.ejections += 1;
        let lasts = settings.ejection_time.saturating_mul(self.ejections).min(settings.ejection_max);
        self.state = State::Ejected { until: now + lasts };
        lasts
    }

    /// Brings it back when its time is over; true when it did.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let over = self.until().is_some_and(|until| until <= now);
        if over {
            self.state = State::OnTrial;
            self.good_since = now;
        }
        over
    }

    /// Lets it serve again at once: the operator turned passive checks off.
    pub fn pardon(&mut self) {
        *self = Conduct::default();
    }

    /// One ejection is made good by each `ejection_time` of serving without another.
    fn forgive(&mut self, settings: &PassiveSettings, now: Instant) {
        if self.state != State::Serving || settings.ejection_time.is_zero() {
            return;
        }
        let good = now - self.good_since;
        let steps = u32::try_from(good.as_nanos() / settings.ejection_time.as_nanos()).unwrap_or(u32::MAX);
        self.ejections = self.ejections.saturating_sub(steps);
    }
}

impl PassiveSettings {
    /// Whether one more of a pool of `all` may be ejected while `out` receive no new work for whatever reason and
    /// `ejected` of these for this one. The last that serves never goes: somebody who fails sometimes is better than nobody.
    pub const fn may_eject(&self, all: usize, out: usize, ejected: usize) -> bool {
        all > out + 1 && (ejected + 1) * 100 <= all * self.max_ejected as usize
    }

    /// Who of a pool stands out in the interval that is over, by position, worst first. The ejected are not among the samples.
    pub fn outliers(&self, samples: &[Sample]) -> Vec<(usize, Against)> {
        let all = samples.iter().fold(Sample::default(), |sum, sample| sum.plus(sample));
        let mut found: Vec<(usize, u128, Against)> = Vec::new();
        for (position, sample) in samples.iter().enumerate() {
            let others = all.minus(sample);
            // Nothing to compare with is no reason.
            if sample.attempts < self.min_requests || others.attempts < self.min_requests {
                continue;
            }
            let against = self.fails_too_often(sample, &others).or_else(|| self.takes_too_long(sample, &others));
            if let Some((badness, against)) = against {
                found.push((position, badness, against));
            }
        }
        found.sort_by_key(|(position, badness, _)| (std::cmp::Reverse(*badness), *position));
        found.into_iter().map(|(position, _, against)| (position, against)).collect()
    }

    fn fails_too_often(&self, sample: &Sample, others: &Sample) -> Option<(u128, Against)> {
        let limit = self.failure_percent?;
        let (percent, others_percent) = (sample.failed_percent(), others.failed_percent());
        // Where all fail alike, none of them is the reason.
        let stands_out = percent >= limit && percent > 2 * others_percent;
        stands_out.then(|| (u128::MAX - u128::from(100 - percent), Against::FailureRate { percent, others_percent }))
    }

    fn takes_too_long(&self, sample: &Sample, others: &Sample) -> Option<(u128, Against)> {
        let factor = self.latency_factor?;
        let (mean, others_mean) = (sample.mean()?, others.mean()?);
        let stands_out = mean >= others_mean.saturating_mul(factor) && mean >= self.latency_floor;
        stands_out.then_some((mean.as_nanos(), Against::Latency { mean, others_mean }))
    }
}

impl Sample {
    fn plus(self, other: &Sample) -> Sample {
        Sample {
            attempts: self.attempts + other.attempts,
            failed: self.failed + other.failed,
            waited: self.waited + other.waited,
            answered: self.answered + other.answered,
        }
    }

    /// `other` is part of it.
    fn minus(self, other: &Sample) -> Sample {
        Sample {
            attempts: self.attempts - other.attempts,
            failed: self.failed - other.failed,
            waited: self.waited - other.waited,
            answered: self.answered - other.answered,
        }
    }

    fn failed_percent(&self) -> u32 {
        (self.failed.min(self.attempts) * 100).checked_div(self.attempts).unwrap_or(0) as u32
    }

    fn mean(&self) -> Option<Duration> {
        let answered = u32::try_from(self.answered).ok().filter(|answered| *answered > 0)?;
        Some(self.waited / answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Runs;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn settings() -> PassiveSettings {
        PassiveSettings { failure_percent: Some(50), latency_factor: Some(3), ..PassiveSettings::default() }
    }

    fn lasts(conduct: &mut Conduct, now: Instant) -> u64 {
        conduct.eject(&settings(), now).as_secs()
    }

    #[test]
    fn each_kind_of_failure_has_its_own_run_and_none_at_zero() {
        let settings = PassiveSettings {
            runs: Runs { connect_failures: 2, server_errors: 4, resets: 0, timeouts: 1 },
            ..settings()
        };
        let conduct = Conduct::default();
        let ejects_from = |harm| (1..=9).find(|&failures| conduct.failed(&settings, harm, failures).is_some());
        assert_eq!(Harm::ALL.map(ejects_from), [Some(2), Some(4), None, Some(1)]);
    }

    #[test]
    fn on_trial_the_first_failure_is_enough_and_the_first_success_ends_it() {
        let settings = settings();
        let mut conduct = Conduct::default();
        assert_eq!(lasts(&mut conduct, at(0)), 30);
        assert_eq!(conduct.failed(&settings, Harm::Reset, 99), None, "it is out already; what ran there may fail");
        assert!(!conduct.handle_timeout(at(29)));
        assert!(conduct.handle_timeout(at(30)));
        let trial = Against::Trial { harm: Harm::ServerError };
        assert_eq!(conduct.failed(&settings, Harm::ServerError, 1), Some(trial));
        conduct.succeeded(at(31));
        assert_eq!(conduct.failed(&settings, Harm::ServerError, 1), None);
    }

    #[test]
    fn ejections_grow_are_bounded_and_are_forgiven_step_by_step() {
        let mut conduct = Conduct::default();
        let mut now = 0;
        let mut times = Vec::new();
        for _ in 0..12 {
            let lasted = lasts(&mut conduct, at(now));
            times.push(lasted);
            now += lasted;
            assert!(conduct.handle_timeout(at(now)));
        }
        assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        conduct.succeeded(at(now));
        // Ten steps of thirty seconds are made good; two of twelve are left, and this is the third.
        assert_eq!(lasts(&mut conduct, at(now + 300)), 90);
        conduct.handle_timeout(at(now + 400));
        conduct.succeeded(at(now + 400));
        assert_eq!(lasts(&mut conduct, at(now + 100_000)), 30);
    }

    #[test]
    fn time_on_trial_makes_nothing_good() {
        let mut conduct = Conduct::default();
        lasts(&mut conduct, at(0));
        conduct.handle_timeout(at(30));
        assert_eq!(lasts(&mut conduct, at(3000)), 60, "nobody asked it anything in between");
    }

    #[test]
    fn the_last_one_that_serves_is_never_ejected_and_no_more_than_the_share() {
        let half = settings();
        let all = PassiveSettings { max_ejected: 100, ..settings() };
        let none = PassiveSettings { max_ejected: 0, ..settings() };
        // all, out, ejected among these
        let table = [
            (&half, (1, 0, 0), false),
            (&half, (2, 0, 0), true),
            (&half, (2, 1, 0), false),
            (&half, (3, 0, 0), true),
            (&half, (3, 1, 1), false),
            (&half, (3, 1, 0), true),
            (&half, (3, 2, 0), false),
            (&half, (4, 1, 1), true),
            (&half, (4, 2, 2), false),
            (&all, (4, 2, 2), true),
            (&all, (4, 3, 3), false),
            (&none, (4, 0, 0), false),
        ];
        for (settings, (all, out, ejected), expected) in table {
            assert_eq!(settings.may_eject(all, out, ejected), expected, "{all} {out} {ejected} {settings:?}");
        }
    }

    fn sample(attempts: u64, failed: u64, mean_ms: u64) -> Sample {
        let answered = attempts - failed;
        Sample { attempts, failed, answered, waited: Duration::from_millis(mean_ms * answered) }
    }

    #[test]
    fn who_fails_more_than_the_rest_stands_out_but_not_when_all_fail() {
        let rate = |percent, others_percent| Against::FailureRate { percent, others_percent };
        let table = [
            (vec![sample(100, 60, 5), sample(100, 1, 5), sample(100, 0, 5)], vec![(0, rate(60, 0))]),
            (vec![sample(100, 60, 5), sample(100, 40, 5), sample(100, 40, 5)], vec![]),
            (
                vec![sample(100, 90, 5), sample(100, 95, 5), sample(200, 0, 5)],
                vec![(1, rate(95, 30)), (0, rate(90, 31))],
            ),
            (vec![sample(19, 19, 5), sample(100, 0, 5)], vec![]),
            (vec![sample(100, 100, 5), sample(19, 0, 5)], vec![]),
            (vec![sample(100, 100, 5)], vec![]),
            (vec![sample(100, 49, 5), sample(100, 0, 5)], vec![]),
            (vec![], vec![]),
        ];
        for (samples, expected) in table {
            assert_eq!(settings().outliers(&samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn who_takes_many_times_longer_than_the_rest_stands_out() {
        let late = |mean, others| Against::Latency {
            mean: Duration::from_millis(mean),
            others_mean: Duration::from_millis(others),
        };
        let table = [
            (vec![sample(100, 0, 300), sample(100, 0, 90), sample(100, 0, 110)], vec![(0, late(300, 100))]),
            (vec![sample(100, 0, 299), sample(100, 0, 90), sample(100, 0, 110)], vec![]),
            // Slow beside the others, and yet fast enough.
            (vec![sample(100, 0, 49), sample(100, 0, 1), sample(100, 0, 1)], vec![]),
            // Nothing was answered: there is no mean.
            (vec![sample(100, 100, 0), sample(100, 80, 1)], vec![]),
        ];
        for (samples, expected) in table {
            assert_eq!(settings().outliers(&samples), expected, "{samples:?}");
        }
        let off = PassiveSettings { latency_factor: None, failure_percent: None, ..settings() };
        assert_eq!(off.outliers(&[sample(100, 100, 0), sample(100, 0, 1)]), []);
    }
}
