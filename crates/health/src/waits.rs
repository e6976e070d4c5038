//! How late probes start: how many, how long in all, and how they are spread.
//!
//! It is kept for the whole life of the node in steps of 1, 2 and 5, which a metrics page can tell as they are. Whoever
//! wants the last minute takes the difference of two looks.

use std::time::Duration;

/// How long due probes waited for a place in flight or for us to look. Grows without limit when
/// the node cannot keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub probes: u64,
    pub total: Duration,
    pub longest: Duration,
    /// Waits up to each of [`Waits::BOUNDS`] and above the one before it; the last ones above them all.
    counts: [u64; Waits::BOUNDS.len() + 1],
}

impl Waits {
    pub const BOUNDS: [Duration; 15] = [
        Duration::from_micros(100),
        Duration::from_micros(200),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
    ];

    pub(crate) const fn new() -> Self {
        Waits { probes: 0, total: Duration::ZERO, longest: Duration::ZERO, counts: [0; Waits::BOUNDS.len() + 1] }
    }

    pub(crate) fn count(&mut self, wait: Duration) {
        self.probes += 1;
        self.total = self.total.saturating_add(wait);
        self.longest = self.longest.max(wait);
        self.counts[Waits::BOUNDS.partition_point(|&bound| bound < wait)] += 1;
    }

    /// Each bound, and how many waited no longer.
    pub fn up_to(&self) -> impl Iterator<Item = (Duration, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Waits::BOUNDS.into_iter().zip(sums)
    }

    /// So many percent of all waited no longer than this: the bound above the true figure, and never more than the
    /// longest. Zero when nobody waited yet.
    pub fn percentile(&self, percent: u64) -> Duration {
        let enough = |&(_, sum): &(Duration, u64)| sum * 100 >= self.probes * percent;
        self.up_to().find(enough).map_or(self.longest, |(bound, _)| bound.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_bound_that_so_many_stayed_under() {
        assert_eq!(Waits::new().percentile(99), Duration::ZERO, "nobody waited");
        let mut waits = Waits::new();
        for millis in 1..=100 {
            waits.count(Duration::from_millis(millis));
        }
        let told = [1, 2, 50, 90, 99, 100].map(|percent| waits.percentile(percent).as_millis());
        assert_eq!(told, [1, 2, 50, 100, 100, 100]);
        waits.count(Duration::from_secs(60));
        assert_eq!(waits.percentile(99), Duration::from_millis(100));
        assert_eq!(waits.percentile(100), Duration::from_secs(60), "beyond all bounds it is the longest");
        assert_eq!(waits.up_to().last(), Some((Duration::from_secs(5), 100)));
    }

    #[test]
    fn a_wait_of_exactly_a_bound_is_under_it() {
        for (position, bound) in Waits::BOUNDS.into_iter().enumerate() {
            let mut waits = Waits::new();
            waits.count(bound);
            assert_eq!(waits.up_to().position(|(_, sum)| sum == 1), Some(position));
        }
    }
}
