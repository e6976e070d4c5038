//! What real traffic says of a backend: when it is set aside, for how long, and when it comes back.
//!
//! Probes ask a health page; clients ask for the application. A page that is served by a front server stays green
//! while the application behind it fails, and only traffic shows that (SPEC 4.3). So this is a fact of its own beside
//! the verdict: a passing probe does not bring an ejected backend back, and an ejection does not touch the verdict.
//!
//! Each ejection is longer than the one before, by `ejection_time`, up to `ejection_max`; serving for as long as one
//! `ejection_time` without another takes one step back. A backend that comes back and fails its first request goes
//! again at once, since nothing has ended its run of failures. The share of a pool that may be ejected is bounded, because a
//! fault that strikes them all is mostly not theirs.

use std::time::Duration;

use evenkeel_model::event::Against;
use evenkeel_model::standing::Harm;
use evenkeel_model::time::Instant;

use crate::settings::PassiveSettings;

/// One backend, as its traffic shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    ejected_until: Option<Instant>,
    /// Ejections not yet made good.
    ejections: u32,
    /// End of the last ejection.
    back_since: Instant,
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

impl Conduct {
    /// What an earlier process kept of it.
    pub const fn recalled(ejected_until: Option<Instant>, ejections: u32, now: Instant) -> Self {
        Conduct { ejected_until, ejections, back_since: now }
    }

    /// When the ejection is over, while there is one.
    pub const fn ejected_until(&self) -> Option<Instant> {
        self.ejected_until
    }

    /// Ejections that make the next one longer.
    pub const fn ejections(&self) -> u32 {
        self.ejections
    }

    /// Sets it aside; says for how long.
    pub fn eject(&mut self, settings: &PassiveSettings, now: Instant) -> Duration {
        let good = (now - self.back_since).as_nanos().checked_div(settings.ejection_time.as_nanos()).unwrap_or(0);
        self.ejections = self.ejections.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX)).saturating_add(1);
        let lasts = settings.ejection_time.saturating_mul(self.ejections).min(settings.ejection_max);
        self.ejected_until = Some(now + lasts);
        lasts
    }

    /// Brings it back.
    pub fn bring_back(&mut self, now: Instant) {
        self.ejected_until = None;
        self.back_since = now;
    }
}

impl PassiveSettings {
    /// Whether so many failures of one kind in a row are too many.
    pub const fn is_run(&self, harm: Harm, failures: u32) -> bool {
        let threshold = self.runs.of(harm);
        threshold > 0 && failures >= threshold
    }

    /// Whether anything has to be sampled.
    pub const fn looks_at_rates(&self) -> bool {
        self.failure_percent.is_some() || self.latency_factor.is_some()
    }

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

    /// What came on top of `other`. Counters that began anew give nothing.
    #[must_use]
    pub fn minus(self, other: &Sample) -> Sample {
        Sample {
            attempts: self.attempts.saturating_sub(other.attempts),
            failed: self.failed.saturating_sub(other.failed),
            waited: self.waited.saturating_sub(other.waited),
            answered: self.answered.saturating_sub(other.answered),
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
        let ejects_from = |harm| (1..=9).find(|&failures| settings.is_run(harm, failures));
        assert_eq!(Harm::ALL.map(ejects_from), [Some(2), Some(4), None, Some(1)]);
    }

    #[test]
    fn ejections_grow_are_bounded_and_are_made_good_step_by_step() {
        let mut conduct = Conduct::default();
        let mut now = 0;
        let mut times = Vec::new();
        for _ in 0..12 {
            let lasted = lasts(&mut conduct, at(now));
            assert_eq!(conduct.ejected_until(), Some(at(now + lasted)));
            times.push(lasted);
            now += lasted;
            conduct.bring_back(at(now));
            assert_eq!(conduct.ejected_until(), None);
        }
        assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        // Ten steps of thirty seconds are made good; two of twelve are left, and this is the third.
        assert_eq!(lasts(&mut conduct, at(now + 300)), 90);
        conduct.bring_back(at(now + 390));
        assert_eq!(lasts(&mut conduct, at(now + 100_000)), 30);
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
