//! Drawing lots: a small generator that starts from a seed it was given.
//!
//! Deciding rooms may not fetch randomness, so the caller seeds it and a simulation replays it. The
//! steps are splitmix64 (Steele, Lea, Flood 2014): eight bytes of state, a few instructions per
//! draw. Nothing here is a secret, so a stronger generator would buy nothing.

use crate::hash::mix;

#[derive(Clone, Debug)]
pub struct Lots {
    state: u64,
}

impl Lots {
    pub fn new(seed: u64) -> Self {
        // Seeds are often 0, 1, 2; mixing keeps neighbours from drawing alike.
        Lots { state: mix(seed) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, or 0 when `bound` is 0.
    ///
    /// Multiply-and-shift instead of a remainder: no division, and a bias below `bound` in 2^32,
    /// which nobody will ever measure in traffic.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_replay_and_neighbouring_seeds_do_not_march_in_step() {
        let draws = |seed| {
            let mut lots = Lots::new(seed);
            (0..32).map(|_| lots.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        let same = draws(7).iter().zip(draws(8)).filter(|(a, b)| **a == *b).count();
        assert!(same < 3, "{same} of 32 draws of seeds 7 and 8 agree");
    }

    #[test]
    fn draws_stay_below_the_bound_and_reach_every_number() {
        let mut lots = Lots::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[lots.below(7) as usize] += 1;
        }
        // Each count is binomial with mean 1000 and deviation 29.
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        assert_eq!(lots.below(0), 0);
    }
}
