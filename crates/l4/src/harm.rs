//! Failures of backends in a row, as all workers together see them, and who is told of them.
//!
//! A run is counted where it happens and not by whoever acts on it, because only here is it known what came in between. It costs
//! a look at a shared number for each success, and a write only where a run ends; pools without passive checks have neither.
//!
//! What is told again before anybody listened replaces what was told, so a storm of failures is one entry for each backend.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use evenkeel_model::standing::Harm;
use evenkeel_plan::PassiveSettings;

/// Runs that have reached their threshold and wait to be heard of.
#[derive(Default)]
pub struct Harms {
    told: Mutex<Told>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Failures by pool, backend and kind.
type Told = BTreeMap<(Arc<str>, SocketAddr, Harm), u32>;

/// One run that has reached its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harmed {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub harm: Harm,
    pub failures: u32,
}

impl Harms {
    /// Who listens: called once for each time that something is there after nothing was.
    pub fn wake_with(&self, wake: Box<dyn Fn() + Send + Sync>) {
        // Whoever listens first stays; a process has one control thread.
        let _ = self.wake.set(wake);
    }

    pub fn take(&self) -> Vec<Harmed> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        told.into_iter().map(|((pool, backend, harm), failures)| Harmed { pool, backend, harm, failures }).collect()
    }

    fn tell(&self, harmed: Harmed) {
        let Harmed { pool, backend, harm, failures } = harmed;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = told.is_empty();
        told.insert((pool, backend, harm), failures);
        drop(told);
        if was_empty && let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// How many failures of each kind a backend has had in a row.
#[derive(Debug, Default)]
pub(crate) struct Runs([AtomicU32; Harm::ALL.len()]);

impl Runs {
    fn one_more(&self, harm: Harm) -> u32 {
        let before = self.0[harm as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |run| run.checked_add(1));
        before.map_or(u32::MAX, |before| before + 1)
    }

    fn end(&self, harm: Harm) {
        let run = &self.0[harm as usize];
        if run.load(Ordering::Relaxed) > 0 {
            run.store(0, Ordering::Relaxed);
        }
    }
}

/// One worker's eye on one backend of a pool with passive checks.
pub(crate) struct Watch {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub settings: Arc<PassiveSettings>,
    pub runs: Arc<Runs>,
    pub harms: Arc<Harms>,
}

impl Watch {
    pub fn failed(&self, harm: Harm) {
        let failures = self.runs.one_more(harm);
        if self.settings.is_run(harm, failures) {
            self.harms.tell(Harmed { pool: Arc::clone(&self.pool), backend: self.backend, harm, failures });
        }
    }

    /// A connection to it stood.
    pub fn connected(&self) {
        self.runs.end(Harm::Connect);
    }

    /// It answered, and whether with 5xx.
    pub fn answered(&self, with_error: bool) {
        self.runs.end(Harm::Reset);
        self.runs.end(Harm::Timeout);
        if with_error {
            self.failed(Harm::ServerError);
        } else {
            self.runs.end(Harm::ServerError);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(harms: &Arc<Harms>, runs: &Arc<Runs>) -> Watch {
        Watch {
            pool: "web".into(),
            backend: "10.0.0.1:80".parse().expect("an address"),
            settings: Arc::new(PassiveSettings::default()),
            runs: Arc::clone(runs),
            harms: Arc::clone(harms),
        }
    }

    fn told(harms: &Harms) -> Vec<(Harm, u32)> {
        harms.take().into_iter().map(|one| (one.harm, one.failures)).collect()
    }

    #[test]
    fn a_run_is_that_of_all_workers_together_and_any_success_ends_it() {
        let (harms, runs) = (Arc::new(Harms::default()), Arc::new(Runs::default()));
        let (one, other) = (watch(&harms, &runs), watch(&harms, &runs));
        one.answered(true);
        one.answered(true);
        other.answered(true);
        one.answered(true);
        assert_eq!(told(&harms), []);
        other.answered(true);
        assert_eq!(told(&harms), [(Harm::ServerError, 5)]);
        one.answered(false);
        other.answered(true);
        assert_eq!(told(&harms), [], "the success in between was seen by the other worker");
    }

    #[test]
    fn each_kind_is_ended_by_what_disproves_it() {
        type Happened = fn(&Watch);
        let (harms, runs) = (Arc::new(Harms::default()), Arc::new(Runs::default()));
        let watch = watch(&harms, &runs);
        // An answer of 5xx is an answer: neither a reset nor a timeout, and yet an error.
        let ends: [(Happened, [bool; 4]); 3] = [
            (Watch::connected, [true, false, false, false]),
            (|watch| watch.answered(false), [false, true, true, true]),
            (|watch| watch.answered(true), [false, false, true, true]),
        ];
        for (happened, ended) in ends {
            for harm in Harm::ALL {
                watch.failed(harm);
            }
            happened(&watch);
            let runs: Vec<bool> = runs.0.iter().map(|run| run.swap(0, Ordering::Relaxed) == 0).collect();
            assert_eq!(runs, ended);
        }
    }

    #[test]
    fn the_listener_is_woken_once_and_hears_the_longest_run() {
        let (harms, runs) = (Arc::new(Harms::default()), Arc::new(Runs::default()));
        let woken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&woken);
        harms.wake_with(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let watch = watch(&harms, &runs);
        for _ in 0..9 {
            watch.failed(Harm::Connect);
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(told(&harms), [(Harm::Connect, 9)]);
        watch.failed(Harm::Connect);
        assert_eq!((woken.load(Ordering::Relaxed), told(&harms)), (2, vec![(Harm::Connect, 10)]));
    }
}
