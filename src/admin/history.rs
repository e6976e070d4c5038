//! What listeners, pools and backends did in the last hour, a sample each five seconds.
//!
//! The counters only grow; what is told is what was added between two samples. Taken on the admin side from the counters of the
//! registry: workers and the control thread do nothing for it. Of very many backends only their pools are kept, so that memory
//! is bounded whatever the config.

mod sample;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evenkeel_model::{Cause, Instant, limits};
use evenkeel_observe::Registry;

pub use sample::{BackendSample, ListenerSample, Sample};

use sample::{BackendCounts, CauseCounts, ListenerCounts};

#[derive(Default)]
pub struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    before: Option<Counts>,
    samples: std::collections::VecDeque<Sample>,
}

/// The counters at one moment.
#[derive(Default)]
struct Counts {
    listeners: BTreeMap<String, ListenerCounts>,
    pools: BTreeMap<String, BackendCounts>,
    backends: BTreeMap<(String, String), BackendCounts>,
    causes: CauseCounts,
}

impl Counts {
    fn read(registry: &Registry) -> Counts {
        let mut counts = Counts::default();
        registry.each_listener(|name, workers| {
            let mut of = ListenerCounts::default();
            for set in workers {
                of.add(set);
                counts.causes.add(&set.causes);
            }
            counts.listeners.insert(name.to_string(), of);
        });
        let most = limits::HISTORY_BACKENDS.value as usize;
        registry.each_backend(|label, workers| {
            let mut of = BackendCounts::default();
            for set in workers {
                of.add(set);
            }
            match counts.pools.get_mut(&*label.pool) {
                Some(pool) => pool.join(&of),
                None => {
                    counts.pools.insert(label.pool.to_string(), of.clone());
                }
            }
            // One more than are kept tells that there are too many.
            if counts.backends.len() <= most {
                counts.backends.insert((label.pool.to_string(), label.backend.to_string()), of);
            }
        });
        if counts.backends.len() > most {
            counts.backends.clear();
        }
        counts
    }
}

impl History {
    /// Takes a sample; the first one only begins.
    pub fn sample(&self, registry: &Registry, at: Instant) {
        let counts = Counts::read(registry);
        let mut kept = self.kept();
        if let Some(before) = &kept.before {
            let sample = between(before, &counts, at);
            if kept.samples.len() as u64 == limits::HISTORY_SAMPLES.value {
                kept.samples.pop_front();
            }
            kept.samples.push_back(sample);
        }
        kept.before = Some(counts);
    }

    /// The last so many, oldest first.
    pub fn last<T>(&self, most: usize, tell: impl Fn(&Sample) -> T) -> Vec<T> {
        let kept = self.kept();
        let skipped = kept.samples.len().saturating_sub(most);
        kept.samples.iter().skip(skipped).map(tell).collect()
    }

    /// How often a cause came within the last so many samples.
    pub fn cause(&self, cause: Cause, samples: usize) -> u64 {
        self.last(samples, |sample| sample.cause(cause)).into_iter().sum()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was added. Whoever was not there before has added all it has: reloads bring counters that begin at zero.
fn between(before: &Counts, now: &Counts, at: Instant) -> Sample {
    let listeners = now.listeners.iter().map(|(name, of)| (name.clone(), of.since(before.listeners.get(name))));
    let pools = now.pools.iter().map(|(name, of)| (name.clone(), of.since(before.pools.get(name))));
    let backends = now.backends.iter().map(|(place, of)| {
        let (pool, backend) = place;
        (format!("{pool}/{backend}"), of.since(before.backends.get(place)))
    });
    Sample {
        at,
        listeners: listeners.collect(),
        pools: pools.collect(),
        backends: backends.collect(),
        causes: now.causes.since(&before.causes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use evenkeel_observe::metrics::BackendLabel;

    use super::*;

    fn label(pool: &str, backend: &str) -> BackendLabel {
        BackendLabel { pool: pool.into(), backend: backend.into() }
    }

    #[test]
    fn a_sample_tells_what_was_added_since_the_one_before() {
        let (registry, history) = (Registry::new(), History::default());
        let listener = registry.listener(0, &Arc::from("web"));
        let (one, other) = (registry.backend(0, &label("p", "a:1")), registry.backend(1, &label("p", "a:1")));
        listener.request(200);
        history.sample(&registry, Instant::START);
        assert_eq!(history.last(10, |_| ()).len(), 0);
        for set in [&one, &other] {
            set.attempts.add(10);
            set.in_flight.one();
            set.causes.one(Cause::BackendConnectRefused);
            set.first_byte.record(Duration::from_millis(3));
        }
        listener.request(502);
        listener.causes.one(Cause::BackendConnectRefused);
        listener.duration.record(Duration::from_millis(70));
        history.sample(&registry, Instant::START);
        let told = history.last(10, |sample| (sample.listeners["web"].clone(), sample.backends["p/a:1"].clone()));
        let (web, backend) = &told[0];
        assert_eq!((web.requests, web.failed, web.p50_ms, web.p99_ms), (1, 1, Some(100.0), Some(100.0)));
        assert_eq!((backend.attempts, backend.failed, backend.in_flight), (20, 2, 2));
        assert_eq!(backend.p50_ms, Some(5.0));
        assert_eq!((history.cause(Cause::BackendConnectRefused, 12), history.cause(Cause::ClientAborted, 12)), (1, 0));
        history.sample(&registry, Instant::START);
        let quiet = history.last(1, |sample| sample.backends["p/a:1"].clone());
        assert_eq!((quiet[0].attempts, quiet[0].in_flight, quiet[0].p50_ms), (0, 2, None));
    }

    #[test]
    fn of_very_many_backends_only_their_pools_are_kept_and_of_samples_an_hour() {
        let (registry, history) = (Registry::new(), History::default());
        let many = limits::HISTORY_BACKENDS.value + 1;
        for number in 0..many {
            registry.backend(0, &label("p", &format!("b{number}:1"))).attempts.one();
        }
        history.sample(&registry, Instant::START);
        registry.backend(0, &label("p", "b0:1")).attempts.add(7);
        for _ in 0..limits::HISTORY_SAMPLES.value + 5 {
            history.sample(&registry, Instant::START);
        }
        let told = history.last(usize::MAX, |sample| (sample.backends.len(), sample.pools.len()));
        assert_eq!(told.len() as u64, limits::HISTORY_SAMPLES.value);
        assert!(told.iter().all(|kept| *kept == (0, 1)), "{:?}", told.first());
    }
}
