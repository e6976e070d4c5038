//! How much a client, or all clients together, may ask of a listener: so many per second, so many at once.
//!
//! Rates follow the generic cell rate algorithm (ITU-T I.371, virtual scheduling). All that is kept of a client is one
//! moment: when it would be back at nothing had it kept exactly to its rate. A request moves it on by the
//! time one request is worth; a request that finds it further ahead than the burst allows is over. A count per
//! window lost: it lets twice the rate through at the edge of two windows, and a token bucket keeps two numbers where
//! one will do.
//!
//! These are the only values of this room that threads share: a client's connections are spread over all
//! workers, and each worker for itself would let through its own rate. Locks are taken for a few dozen instructions.

mod table;

use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel_model::Instant;

pub use table::{ConcurrencyTable, RateTable};
pub(crate) use table::{Seeded, locked, shard_of};

const SECOND: u64 = 1_000_000_000;

/// A rate, prepared for asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Nanoseconds that one request is worth.
    interval: u64,
    /// How far ahead of now the theoretical arrival time may be for one more to be let through.
    tolerance: u64,
}

impl Gcra {
    /// `burst` at once, `per_second` in the long run. A rate of 0 would be no rate but a ban; it counts as 1, and so does
    /// a burst of 0.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = SECOND / u64::from(per_second.max(1));
        Gcra { interval, tolerance: interval * u64::from(burst.max(1) - 1) }
    }

    /// Lets one more through, or leaves `tat`, the theoretical arrival time of the next one, alone. Whoever is over is not
    /// punished for asking: what was refused costs nothing.
    #[must_use]
    pub fn allow(self, tat: &mut u64, now: Instant) -> bool {
        match self.next(*tat, now) {
            Some(next) => {
                *tat = next;
                true
            }
            None => false,
        }
    }

    fn next(self, tat: u64, now: Instant) -> Option<u64> {
        let now = now.as_nanos();
        (tat <= now.saturating_add(self.tolerance)).then(|| tat.max(now).saturating_add(self.interval))
    }
}

/// One rate over all workers.
#[derive(Debug, Default)]
pub struct SharedRate(AtomicU64);

impl SharedRate {
    #[must_use]
    pub fn allow(&self, gcra: Gcra, now: Instant) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tat| gcra.next(tat, now)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn allowed(gcra: Gcra, asks: impl IntoIterator<Item = Instant>) -> Vec<bool> {
        let mut tat = 0;
        asks.into_iter().map(|now| gcra.allow(&mut tat, now)).collect()
    }

    #[test]
    fn a_burst_goes_through_at_once_and_then_one_for_each_interval() {
        // Ten a second, three at once: one each 100 ms.
        let gcra = Gcra::new(10, 3);
        let table = [
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (99, false),
            (100, true),
            (100, false),
            (200, true),
            // Half a second of rest fills the burst and no more.
            (1000, true),
            (1000, true),
            (1000, true),
            (1000, false),
        ];
        let got = allowed(gcra, table.map(|(millis, _)| at(millis)));
        assert_eq!(got, table.map(|(_, allowed)| allowed));
    }

    #[test]
    fn being_refused_does_not_lengthen_the_wait() {
        let gcra = Gcra::new(1, 1);
        let asks: Vec<Instant> = (0..=1000).map(at).collect();
        let got = allowed(gcra, asks);
        assert_eq!(got.iter().filter(|allowed| **allowed).count(), 2);
        assert!(got[0] && got[1000]);
    }

    #[test]
    fn extreme_rates_neither_overflow_nor_ban() {
        for (per_second, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 1), (0, 0)] {
            let gcra = Gcra::new(per_second, burst);
            assert_eq!(allowed(gcra, [at(0)]), [true], "{per_second} {burst}");
            assert_eq!(allowed(gcra, [Instant::NEVER]), [true], "{per_second} {burst}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_refuses_rather_than_gives_away() {
        let gcra = Gcra::new(10, 1);
        assert_eq!(allowed(gcra, [at(1000), at(500), at(1100)]), [true, false, true]);
    }

    proptest! {
        // The promise of the algorithm: in any stretch of time at most burst + rate × length are let through, and one
        // that keeps to the rate is never refused.
        #[test]
        fn no_stretch_of_time_holds_more_than_burst_and_rate_allow(
            per_second in 1u32..2000,
            burst in 1u32..100,
            gaps in prop::collection::vec(0u64..50_000_000, 1..200),
        ) {
            let gcra = Gcra::new(per_second, burst);
            let mut now = 0;
            let asks: Vec<Instant> = gaps.iter().map(|gap| { now += gap; Instant::from_nanos(now) }).collect();
            let through: Vec<Instant> =
                asks.iter().zip(allowed(gcra, asks.iter().copied())).filter(|(_, ok)| *ok).map(|(at, _)| *at).collect();
            for (first, start) in through.iter().enumerate() {
                for (count, end) in through[first..].iter().enumerate() {
                    // The interval is rounded down by less than a nanosecond, which is what the last term grants.
                    let length = end.as_nanos() - start.as_nanos();
                    let most = u64::from(burst) + (length + count as u64) / (SECOND / u64::from(per_second));
                    prop_assert!((count as u64) < most, "{} within {} ns", count + 1, length);
                }
            }
        }

        #[test]
        fn whoever_keeps_to_the_rate_is_never_refused(per_second in 1u32..5000, burst in 1u32..10, count in 1u64..300) {
            let gcra = Gcra::new(per_second, burst);
            let interval = SECOND.div_ceil(u64::from(per_second));
            let got = allowed(gcra, (0..count).map(|turn| Instant::from_nanos(turn * interval)));
            prop_assert!(got.iter().all(|allowed| *allowed));
        }
    }
}
