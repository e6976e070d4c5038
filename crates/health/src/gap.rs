//! How long after a probe of a target its next one starts.
//!
//! Three states, three gaps. While results contradict the verdict every probe counts, so they come fast; while a backend is
//! known to be dead nobody waits for the next word as long as it stays dead; in between is the ordinary `interval`,
//! or a longer one while real traffic proves what probes would.
//!
//! Jitter is drawn from numbers the caller has, not from chance of its own, so that a day replays from its seed.
//! Alternatives that lost: a gap that doubles from probe to probe (its window cannot be told in one number), and probing
//! faster after a success too (the state that calls for haste is doubt, not health).

use std::time::Duration;

use crate::settings::Timing;

/// What the results of a target amount to, as far as it says how soon to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// A run contradicts the verdict, or the next result alone decides it.
    Transition,
    /// The verdict is `unhealthy`, and nothing contradicts it.
    Unhealthy,
    /// The verdict is another, and nothing contradicts it.
    Steady,
}

impl Pace {
    pub const ALL: [Pace; 3] = [Pace::Transition, Pace::Unhealthy, Pace::Steady];
}

/// What steady health rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Witness {
    /// On probes alone: no traffic passes, some of it fails, or nobody looked.
    #[default]
    Probes,
    /// On traffic too: some was answered since the last look, and none failed.
    Traffic,
}

impl Witness {
    pub const ALL: [Witness; 2] = [Witness::Probes, Witness::Traffic];
}

/// A gap and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub length: Duration,
    /// Percent by which it is longer or shorter at random.
    pub jitter: u32,
}

impl Timing {
    pub const fn gap(&self, pace: Pace, witness: Witness) -> Gap {
        let length = match (pace, witness, self.trust_traffic) {
            (Pace::Transition, _, _) => self.transition_interval,
            (Pace::Unhealthy, _, _) => self.unhealthy_interval,
            (Pace::Steady, Witness::Traffic, Some(longer)) => longer,
            (Pace::Steady, Witness::Traffic, None) | (Pace::Steady, Witness::Probes, _) => self.interval,
        };
        Gap { length, jitter: self.jitter }
    }

    /// The longest gap between two probes of a healthy target.
    pub fn longest_steady(&self) -> Duration {
        let longest = |witness| self.gap(Pace::Steady, witness).longest();
        longest(Witness::Probes).max(longest(Witness::Traffic))
    }
}

impl Gap {
    /// One that is exact.
    pub const fn exact(length: Duration) -> Self {
        Gap { length, jitter: 0 }
    }

    pub fn shortest(self) -> Duration {
        self.length.saturating_sub(self.swing())
    }

    pub fn longest(self) -> Duration {
        self.length.saturating_add(self.swing())
    }

    /// The gap that `draw` gives: evenly spread from [`Gap::shortest`] to [`Gap::longest`] over all draws.
    pub fn drawn(self, draw: u64) -> Duration {
        let width = (self.longest() - self.shortest()).as_nanos() + 1;
        // The high half of the product: as even as a remainder, and without a division.
        let part = (u128::from(draw) * width) >> 64;
        self.shortest().saturating_add(nanos(part))
    }

    fn swing(self) -> Duration {
        nanos(self.length.as_nanos() * u128::from(self.jitter.min(100)) / 100)
    }
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    // Walks every state, with and without traffic, with and without trust in it.
    #[test]
    fn every_state_has_the_gap_the_table_says() {
        let plain = Timing {
            unhealthy_interval: millis(10_000),
            transition_interval: millis(500),
            ..Timing::new(millis(5000), millis(2000), 3, 3)
        };
        let trusting = Timing { trust_traffic: Some(millis(30_000)), ..plain };
        let table = [
            // state, what it rests on, gap, gap where traffic is trusted
            (Pace::Transition, Witness::Probes, 500, 500),
            (Pace::Transition, Witness::Traffic, 500, 500),
            (Pace::Unhealthy, Witness::Probes, 10_000, 10_000),
            // A backend that nobody may use has no traffic; what is left from before proves nothing.
            (Pace::Unhealthy, Witness::Traffic, 10_000, 10_000),
            (Pace::Steady, Witness::Probes, 2000, 2000),
            (Pace::Steady, Witness::Traffic, 2000, 30_000),
        ];
        for pace in Pace::ALL {
            for witness in Witness::ALL {
                let row = table.iter().find(|row| (row.0, row.1) == (pace, witness));
                let &(_, _, without, with) = row.unwrap_or_else(|| panic!("no row for {pace:?} {witness:?}"));
                assert_eq!(plain.gap(pace, witness), Gap::exact(millis(without)), "{pace:?} {witness:?}");
                assert_eq!(trusting.gap(pace, witness), Gap::exact(millis(with)), "{pace:?} {witness:?}, trusting");
            }
        }
        let shaken = Timing { jitter: 20, ..trusting };
        assert_eq!(shaken.gap(Pace::Transition, Witness::Traffic), Gap { length: millis(500), jitter: 20 });
    }

    #[test]
    fn a_gap_without_jitter_is_itself_whatever_is_drawn() {
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(Gap::exact(millis(2000)).drawn(draw), millis(2000));
        }
    }

    #[test]
    fn draws_reach_both_ends_of_the_jitter_and_nothing_beyond() {
        let gap = Gap { length: millis(2000), jitter: 25 };
        assert_eq!((gap.drawn(0), gap.drawn(u64::MAX)), (millis(1500), millis(2500)));
        let mut before = Duration::ZERO;
        for step in 0..1000u64 {
            let drawn = gap.drawn(step * (u64::MAX / 1000));
            assert!(before <= drawn && gap.shortest() <= drawn && drawn <= gap.longest(), "{drawn:?}");
            before = drawn;
        }
        let tiny = Gap { length: Duration::from_nanos(3), jitter: 50 };
        assert_eq!((tiny.shortest(), tiny.longest()), (Duration::from_nanos(2), Duration::from_nanos(4)));
        let all = Gap { length: millis(10), jitter: 100 };
        assert_eq!((all.shortest(), all.longest()), (Duration::ZERO, millis(20)));
    }
}
