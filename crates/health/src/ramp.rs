//! Slow start: how a recovered backend is let back in.
//!
//! The weight climbs in equal steps from a tenth to the whole and reaches the whole exactly when
//! the configured time is over. Steps rather than a smooth line, because each step costs a new
//! table of candidates for every worker, and nobody can tell ten steps from a line.

use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_model::standing::Ramp;
use evenkeel_model::time::Instant;

/// A climb in progress. Told the time, it says how far the backend is and when the next step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    started: Instant,
    /// How far it had come before that, in an earlier process.
    ahead: Duration,
    over: Duration,
}

const STEPS: u32 = limits::RAMP_STEPS.value as u32;

impl SlowStart {
    /// `None` when the pool gives the whole weight at once.
    pub const fn new(over: Duration, now: Instant) -> Option<Self> {
        if over.is_zero() { None } else { Some(SlowStart { started: now, ahead: Duration::ZERO, over }) }
    }

    /// The same climb under another `slow_start`, for a reload in the middle of it.
    pub const fn over(self, over: Duration) -> Option<Self> {
        if over.is_zero() { None } else { Some(SlowStart { over, ..self }) }
    }

    /// One that an earlier process had begun.
    pub const fn resumed(over: Duration, climbed: Duration, now: Instant) -> Option<Self> {
        if over.is_zero() { None } else { Some(SlowStart { started: now, ahead: climbed, over }) }
    }

    /// How long it has been climbing.
    pub fn climbed(&self, now: Instant) -> Duration {
        (now - self.started).saturating_add(self.ahead)
    }

    pub fn ramp(&self, now: Instant) -> Ramp {
        match self.step(now) {
            STEPS => Ramp::Full,
            step => Ramp::At((step * 100 / STEPS) as u8),
        }
    }

    /// When the next step is due; `None` at the top.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let step = self.step(now);
        (step < STEPS).then(|| self.reached(step + 1))
    }

    /// Moment at which `step` (from 1) is reached: the first at once, the last when the time is over.
    fn reached(&self, step: u32) -> Instant {
        // Divided first: `over` is at most hours, and a nanosecond per step is no loss. The last
        // step takes the remainder, so that the end is exact.
        let climbed = if step >= STEPS { self.over } else { self.over / (STEPS - 1) * (step - 1) };
        self.started + climbed.saturating_sub(self.ahead)
    }

    /// The highest step reached, 1 to [`STEPS`].
    fn step(&self, now: Instant) -> u32 {
        (2..=STEPS).rev().find(|&step| self.reached(step) <= now).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_climb_visits_every_tenth_and_ends_on_time() {
        for over in [Duration::from_nanos(1), Duration::from_nanos(9), Duration::from_secs(7), Duration::from_secs(90)]
        {
            let start = Instant::from_nanos(5_000);
            let climb = SlowStart::new(over, start).expect("not zero");
            let mut now = start;
            let mut seen = vec![climb.ramp(now)];
            while let Some(next) = climb.poll_timeout(now) {
                assert!(next > now, "{over:?}: a step that is due at once would spin");
                now = next;
                seen.push(climb.ramp(now));
            }
            assert_eq!((now, seen.last()), (start + over, Some(&Ramp::Full)), "{over:?}");
            // One that is resumed half way takes the other half.
            let resumed = SlowStart::resumed(over, over / 2, start).expect("not zero");
            let ends = start + (over - over / 2);
            assert_eq!((resumed.ramp(ends), resumed.climbed(ends)), (Ramp::Full, over), "{over:?}");
            assert_eq!(resumed.ramp(start), climb.ramp(start + over / 2), "{over:?}");
            if over >= Duration::from_secs(1) {
                let tenths = (1..10).map(|tenth| Ramp::At(tenth * 10));
                assert_eq!(seen, tenths.chain([Ramp::Full]).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_step_is_not_reached_a_nanosecond_early() {
        let climb = SlowStart::new(Duration::from_secs(9), Instant::START).expect("not zero");
        assert_eq!(climb.ramp(Instant::from_nanos(1_000_000_000 - 1)), Ramp::At(10));
        assert_eq!(climb.ramp(Instant::from_nanos(1_000_000_000)), Ramp::At(20));
        assert_eq!(climb.ramp(Instant::from_nanos(9_000_000_000 - 1)), Ramp::At(90));
        assert_eq!(climb.ramp(Instant::from_nanos(9_000_000_000)), Ramp::Full);
    }

    #[test]
    fn no_slow_start_means_the_whole_weight_at_once() {
        assert_eq!(SlowStart::new(Duration::ZERO, Instant::START), None);
        let climb = SlowStart::new(Duration::from_secs(9), Instant::START).expect("not zero");
        assert_eq!(climb.over(Duration::ZERO), None);
    }
}
