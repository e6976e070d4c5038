//! Counters at one moment, and what lies between two of them.
//!
//! Percentiles are those of buckets: the bound that a request was under. What lies between two bounds is not guessed.

use std::collections::BTreeMap;

use evenkeel_model::{Cause, Instant};
use evenkeel_observe::metrics::{BUCKETS_US, Causes, Count, Histogram};
use evenkeel_observe::{BackendMetrics, ListenerMetrics};
use serde::Serialize;
use utoipa::ToSchema;

/// What was added in one step.
#[derive(Debug)]
pub struct Sample {
    pub at: Instant,
    pub listeners: BTreeMap<String, ListenerSample>,
    pub pools: BTreeMap<String, BackendSample>,
    /// By `pool/address`.
    pub backends: BTreeMap<String, BackendSample>,
    /// Those that came at all.
    pub causes: Vec<(Cause, u64)>,
}

impl Sample {
    pub fn cause(&self, cause: Cause) -> u64 {
        self.causes.iter().find(|(one, _)| *one == cause).map_or(0, |(_, count)| *count)
    }
}

/// What a listener did in one step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ListenerSample {
    /// Requests, or connections of tcp and sessions of udp that ended.
    pub requests: u64,
    /// Those with a cause.
    pub failed: u64,
    /// Open at its end.
    pub connections: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Upper bound of the bucket that has the median; `null` when nothing ended.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// What a backend, or all of a pool, did in one step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BackendSample {
    pub attempts: u64,
    /// Attempts that failed with a cause, and answers of class 5xx.
    pub failed: u64,
    /// At its end.
    pub in_flight: u64,
    /// To the first byte.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

type Buckets = [u64; BUCKETS_US.len() + 1];

#[derive(Clone, Debug, Default)]
pub struct ListenerCounts {
    failed: u64,
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    duration: Buckets,
}

#[derive(Clone, Debug, Default)]
pub struct BackendCounts {
    attempts: u64,
    failed: u64,
    in_flight: u64,
    first_byte: Buckets,
}

/// By [`Cause::index`].
#[derive(Default)]
pub struct CauseCounts(Vec<u64>);

impl ListenerCounts {
    pub fn add(&mut self, set: &ListenerMetrics) {
        self.failed += failed(&set.causes);
        more(&mut self.connections, &set.connections_now);
        more(&mut self.bytes_in, &set.bytes_in);
        more(&mut self.bytes_out, &set.bytes_out);
        fill(&mut self.duration, &set.duration);
    }

    pub fn since(&self, before: Option<&ListenerCounts>) -> ListenerSample {
        let nothing = ListenerCounts::default();
        let before = before.unwrap_or(&nothing);
        let added = added(&self.duration, &before.duration);
        ListenerSample {
            requests: added.iter().sum(),
            failed: self.failed.saturating_sub(before.failed),
            connections: self.connections,
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            p50_ms: percentile(&added, 50),
            p99_ms: percentile(&added, 99),
        }
    }
}

impl BackendCounts {
    pub fn add(&mut self, set: &BackendMetrics) {
        more(&mut self.attempts, &set.attempts);
        self.failed += failed(&set.causes) + set.responses[4].read();
        more(&mut self.in_flight, &set.in_flight);
        fill(&mut self.first_byte, &set.first_byte);
    }

    pub fn join(&mut self, other: &BackendCounts) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.in_flight = self.in_flight.wrapping_add(other.in_flight);
        for (bucket, more) in self.first_byte.iter_mut().zip(other.first_byte) {
            *bucket += more;
        }
    }

    pub fn since(&self, before: Option<&BackendCounts>) -> BackendSample {
        let nothing = BackendCounts::default();
        let before = before.unwrap_or(&nothing);
        let added = added(&self.first_byte, &before.first_byte);
        BackendSample {
            attempts: self.attempts.saturating_sub(before.attempts),
            failed: self.failed.saturating_sub(before.failed),
            in_flight: self.in_flight,
            p50_ms: percentile(&added, 50),
            p99_ms: percentile(&added, 99),
        }
    }
}

impl CauseCounts {
    pub fn add(&mut self, causes: &Causes) {
        self.0.resize(Cause::ALL.len(), 0);
        for cause in Cause::ALL {
            self.0[cause.index()] += causes.read(*cause);
        }
    }

    /// A reload that takes a listener away takes its counts along, so less than before is nothing new.
    pub fn since(&self, before: &CauseCounts) -> Vec<(Cause, u64)> {
        let count = |counts: &CauseCounts, cause: Cause| counts.0.get(cause.index()).copied().unwrap_or(0);
        let added = Cause::ALL.iter().map(|cause| (*cause, count(self, *cause).saturating_sub(count(before, *cause))));
        added.filter(|(_, added)| *added > 0).collect()
    }
}

fn failed(causes: &Causes) -> u64 {
    Cause::ALL.iter().map(|cause| causes.read(*cause)).sum()
}

/// Gauges wrap below zero in one worker's set and cancel out in the sum.
fn more(sum: &mut u64, count: &Count) {
    *sum = sum.wrapping_add(count.read());
}

fn fill(buckets: &mut Buckets, histogram: &Histogram) {
    for (bucket, count) in buckets.iter_mut().zip(histogram.counts()) {
        *bucket += count;
    }
}

fn added(now: &Buckets, before: &Buckets) -> Buckets {
    std::array::from_fn(|bucket| now[bucket].saturating_sub(before[bucket]))
}

/// The upper bound of the bucket in which it lies; of the last one, which has none, the bound below it.
fn percentile(buckets: &Buckets, percent: u64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let mut left = (all * percent).div_ceil(100);
    let position = buckets.iter().position(|&count| {
        left = left.saturating_sub(count);
        left == 0
    });
    let bound = BUCKETS_US[position.unwrap_or(usize::MAX).min(BUCKETS_US.len() - 1)];
    Some(bound as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_bound_of_the_bucket_it_lies_in() {
        let mut buckets: Buckets = Default::default();
        assert_eq!(percentile(&buckets, 50), None);
        buckets[0] = 98;
        buckets[3] = 1;
        buckets[BUCKETS_US.len()] = 1;
        assert_eq!(percentile(&buckets, 50), Some(0.5));
        assert_eq!(percentile(&buckets, 99), Some(5.0));
        assert_eq!(percentile(&buckets, 100), Some(180_000.0));
    }
}
