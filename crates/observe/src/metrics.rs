//! Counters, one set per worker, summed when somebody asks.
//!
//! Each number has one writer, so counting is a load and a store without a locked instruction and no
//! two workers touch one cache line. A scrape adds the workers' sets up and may be a moment out of
//! date, which is what a scrape is anyway.

mod render;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_model::Cause;

pub use render::{escape, render};

/// A number that only its owner writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn less_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets in microseconds: 1-2.5-5 steps from half a millisecond, as
/// Prometheus clients use, up to the longest request timeout of the modelled service.
pub const BUCKETS_US: [u64; 16] = [
    500,
    1000,
    2500,
    5000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    180_000_000,
];

#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last takes everything above.
    buckets: [Count; BUCKETS_US.len() + 1],
    sum_us: Count,
}

impl Histogram {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::read).sum()
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us.read()
    }

    /// By bucket; the last takes everything above the bounds.
    pub fn counts(&self) -> [u64; BUCKETS_US.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].read())
    }

    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|&bound| us <= bound).unwrap_or(BUCKETS_US.len());
        self.buckets[bucket].one();
        self.sum_us.add(us);
    }
}

/// Counters by cause.
#[derive(Debug)]
pub struct Causes([Count; Cause::ALL.len()]);

impl Default for Causes {
    fn default() -> Self {
        Causes(std::array::from_fn(|_| Count::default()))
    }
}

impl Causes {
    pub fn one(&self, cause: Cause) {
        self.add(cause, 1);
    }

    pub fn add(&self, cause: Cause, more: u64) {
        self.0[cause.index()].add(more);
    }

    pub fn read(&self, cause: Cause) -> u64 {
        self.0[cause.index()].read()
    }
}

/// What one worker counts for one listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Sessions on udp listeners.
    pub connections: Count,
    pub connections_now: Count,
    pub bytes_in: Count,
    pub bytes_out: Count,
    /// Received from clients on udp listeners.
    pub datagrams_in: Count,
    pub datagrams_out: Count,
    /// Lost here, either way: a socket was full, or the kernel did not take it. Those refused with a cause are not here.
    pub datagrams_dropped: Count,
    /// Ended requests by class of status: 1xx to 5xx; tcp connections are not here.
    pub requests: [Count; 5],
    /// Ended exchanges that went wrong.
    pub causes: Causes,
    /// From the first byte of a request to the last of its answer; whole life of a tcp connection.
    pub duration: Histogram,
}

impl ListenerMetrics {
    pub fn request(&self, status: u16) {
        let class = (usize::from(status) / 100).clamp(1, 5) - 1;
        self.requests[class].one();
    }
}

/// What one worker counts for one backend.
#[derive(Debug, Default)]
pub struct BackendMetrics {
    pub in_flight: Count,
    pub attempts: Count,
    /// Attempts beyond an exchange's first.
    pub retries: Count,
    pub connections: Count,
    pub reused: Count,
    /// Answers by class of status.
    pub responses: [Count; 5],
    /// Attempts that failed, by what went wrong.
    pub causes: Causes,
    pub bytes_in: Count,
    pub bytes_out: Count,
    /// From the attempt's start to the head of the answer, or to the connection for tcp.
    pub first_byte: Histogram,
}

impl BackendMetrics {
    pub fn response(&self, status: u16) {
        let class = (usize::from(status) / 100).clamp(1, 5) - 1;
        self.responses[class].one();
    }
}

/// A backend's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendLabel {
    pub pool: Arc<str>,
    pub backend: Arc<str>,
}

/// All workers' counters by name. Locked when a plan changes and when somebody scrapes, never on the
/// way of a request.
#[derive(Debug, Default)]
pub struct Registry {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub listeners: BTreeMap<Arc<str>, BTreeMap<usize, Arc<ListenerMetrics>>>,
    pub backends: BTreeMap<BackendLabel, BTreeMap<usize, Arc<BackendMetrics>>>,
}

impl Registry {
    pub fn new() -> Self {
        Registry::default()
    }

    /// The counters of `worker` for the listener, kept over reloads.
    pub fn listener(&self, worker: usize, name: &Arc<str>) -> Arc<ListenerMetrics> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tables.listeners.entry(Arc::clone(name)).or_default().entry(worker).or_default())
    }

    /// The counters of `worker` for the backend, kept over reloads.
    pub fn backend(&self, worker: usize, label: &BackendLabel) -> Arc<BackendMetrics> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tables.backends.entry(label.clone()).or_default().entry(worker).or_default())
    }

    /// Forgets what is no longer in the plan, so that years of reloads do not fill the memory.
    pub fn retain(&self, listener: impl Fn(&str) -> bool, backend: impl Fn(&BackendLabel) -> bool) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.listeners.retain(|name, _| listener(name));
        tables.backends.retain(|label, _| backend(label));
    }

    /// Shows the counters of each listener, a set for each worker.
    pub fn each_listener(&self, mut each: impl FnMut(&Arc<str>, &[&ListenerMetrics])) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, workers) in &tables.listeners {
            each(name, &workers.values().map(|set| &**set).collect::<Vec<_>>());
        }
    }

    /// Shows the counters of each backend, a set for each worker; sorted by pool. With very many they are shown in pieces, so
    /// that nobody waits long for the lock; a backend that comes or goes meanwhile is shown once or not at all.
    pub fn each_backend(&self, mut each: impl FnMut(&BackendLabel, &[&BackendMetrics])) {
        const AT_ONCE: usize = 1000;
        let mut behind: Option<BackendLabel> = None;
        loop {
            let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            let from = behind.take().map_or(Bound::Unbounded, Bound::Excluded);
            let mut shown = 0;
            for (label, workers) in tables.backends.range((from, Bound::Unbounded)).take(AT_ONCE) {
                each(label, &workers.values().map(|set| &**set).collect::<Vec<_>>());
                shown += 1;
                behind = Some(label.clone());
            }
            if shown < AT_ONCE {
                return;
            }
        }
    }

    /// Adds the workers' numbers of one listener up.
    pub fn sum_listener(&self, name: &str, number: impl Fn(&ListenerMetrics) -> u64) -> u64 {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.listeners.get(name).map_or(0, |workers| sum(workers, number))
    }

    /// Adds the workers' numbers of one backend up.
    pub fn sum_backend(&self, label: &BackendLabel, number: impl Fn(&BackendMetrics) -> u64) -> u64 {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.backends.get(label).map_or(0, |workers| sum(workers, number))
    }
}

fn sum<M>(workers: &BTreeMap<usize, Arc<M>>, number: impl Fn(&M) -> u64) -> u64 {
    // Gauges wrap below zero in one worker's set and cancel out in the sum.
    workers.values().fold(0, |total: u64, set| total.wrapping_add(number(set)))
}
