//! Whether a pool can afford one more retry.
//!
//! When many backends fail at once, retries multiply the load on those that are left. So retries must
//! be paid for by requests. The rule is Finagle's and linkerd's: within the last ten seconds at most
//! a percentage of the requests, plus a small number that needs no requests, so that a quiet pool may
//! retry at all. Both expire: an hour of calm saves nothing up for a storm.
//!
//! gRPC's token count and Envoy's share of requests in flight lost: the first forgets only by
//! succeeding, the second allows a busy pool's whole budget to one burst of slow requests.
//!
//! One budget per worker and pool, like everything that moves.

use evenkeel_model::{Instant, limits};

/// Parts of the window. It slides by one part at a time.
const PARTS: usize = 10;

const PART_NANOS: u64 = limits::RETRY_WINDOW.value * 1_000_000_000 / PARTS as u64;

/// What one retry costs, and what a request deposits at 100 percent.
const RETRY_COST: i64 = 100;

#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: i64,
    /// Deposits less withdrawals, by the part of the window they were made in.
    parts: [i64; PARTS],
    /// Sum of `parts` and the reserve that needs no requests.
    balance: i64,
    /// Number, since the start of time, of the part that is being filled.
    part: u64,
}

impl RetryBudget {
    /// `percent` is the pool's `retry_budget`. At 0 nothing is ever retried, not even from the
    /// reserve: the operator has said so.
    pub fn new(percent: u32) -> Self {
        let reserve = limits::RETRY_MINIMUM.value as i64 * RETRY_COST;
        RetryBudget { percent: i64::from(percent), parts: [0; PARTS], balance: reserve, part: 0 }
    }

    /// A request came in. Its retries are not requests.
    pub fn request(&mut self, now: Instant) {
        self.slide(now);
        self.add(self.percent);
    }

    /// Takes one retry out of the budget if it has one.
    #[must_use = "a retry that was refused must not be made"]
    pub fn try_retry(&mut self, now: Instant) -> bool {
        self.slide(now);
        if self.percent == 0 || self.balance < RETRY_COST {
            return false;
        }
        self.add(-RETRY_COST);
        true
    }

    fn add(&mut self, amount: i64) {
        self.parts[(self.part % PARTS as u64) as usize] += amount;
        self.balance += amount;
    }

    /// Forgets the parts that have left the window.
    fn slide(&mut self, now: Instant) {
        let part = now.as_nanos() / PART_NANOS;
        // A `now` from before the last call is counted in the newest part.
        let passed = part.saturating_sub(self.part);
        for step in 1..=passed.min(PARTS as u64) {
            let left = &mut self.parts[((self.part + step) % PARTS as u64) as usize];
            self.balance -= *left;
            *left = 0;
        }
        self.part += passed;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINIMUM: u64 = limits::RETRY_MINIMUM.value;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn retries_granted(budget: &mut RetryBudget, now: Instant, wanted: u64) -> u64 {
        (0..wanted).filter(|_| budget.try_retry(now)).count() as u64
    }

    #[test]
    fn a_quiet_pool_may_retry_a_little_and_again_after_the_window() {
        let mut budget = RetryBudget::new(20);
        assert_eq!(retries_granted(&mut budget, at(0), 1000), MINIMUM);
        assert_eq!(retries_granted(&mut budget, at(9), 1000), 0);
        assert_eq!(retries_granted(&mut budget, at(10), 1000), MINIMUM);
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let mut budget = RetryBudget::new(20);
        let mut granted = 0;
        for request in 0..10_000 {
            budget.request(at(request / 2000));
            granted += retries_granted(&mut budget, at(request / 2000), 1);
        }
        assert_eq!(granted, 2000 + MINIMUM);
    }

    #[test]
    fn an_hour_of_calm_allows_no_storm() {
        let mut budget = RetryBudget::new(20);
        for second in 0..3600 {
            for _ in 0..100 {
                budget.request(at(second));
            }
        }
        // Ten seconds at 100 requests each, a fifth of them, however long the calm was.
        assert_eq!(retries_granted(&mut budget, at(3599), 100_000), 200 + MINIMUM);
    }

    #[test]
    fn a_budget_of_zero_percent_retries_nothing() {
        let mut budget = RetryBudget::new(0);
        budget.request(at(1));
        assert!(!budget.try_retry(at(1)));
    }

    #[test]
    fn a_clock_that_steps_back_neither_panics_nor_pays_out_twice() {
        let mut budget = RetryBudget::new(20);
        assert_eq!(retries_granted(&mut budget, at(100), 1000), MINIMUM);
        assert_eq!(retries_granted(&mut budget, at(5), 1000), 0);
        assert_eq!(retries_granted(&mut budget, Instant::NEVER, 1000), MINIMUM);
    }

    // Linear congruential steps make a mixed history; after every granted retry the rule is
    // recounted from the history itself.
    #[test]
    fn the_rule_holds_at_every_granted_retry() {
        let mut budget = RetryBudget::new(20);
        let (mut requests, mut retries) = (Vec::new(), Vec::new());
        let (mut now, mut state) = (0u64, 1u64);
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (state >> 40) % 20_000_000;
            let moment = Instant::from_nanos(now);
            let first_part = (now / PART_NANOS).saturating_sub(PARTS as u64 - 1);
            if state >> 62 == 0 {
                requests.push(now);
                budget.request(moment);
            } else if budget.try_retry(moment) {
                retries.push(now);
                let recent = |moments: &[u64]| {
                    moments.iter().rev().take_while(|moment| **moment / PART_NANOS >= first_part).count() as u64
                };
                let allowed = recent(&requests) * 20 / 100 + MINIMUM;
                assert!(recent(&retries) <= allowed, "{} retries at {moment:?}, {allowed} allowed", recent(&retries));
            }
        }
        assert!(retries.len() > 1000, "the history exercised only {} retries", retries.len());
    }
}
