//! How late this process is itself, measured beside the story by threads that want to wake often.
//!
//! A busy machine delays the node's threads as it delays these. What is measured here is allowed on top of the
//! computed bounds and printed, so that a claim neither fails by the machine nor hides behind it.
//!
//! One thread on each CPU: on a virtual machine a single CPU can stand still for seconds while the others run, and
//! threads and timers that happen to be on it stand still too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_model::Instant;
use evenkeel_reactor::Clock;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::STALL;

/// How often each thread wants to wake.
const STEP: Duration = Duration::from_millis(5);
/// On machines with more CPUs so many threads go where the kernel puts them.
const THREADS_MAX: usize = 8;

pub struct Stalls {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Standstills of all threads, laid over each other: two CPUs that stand still together lose the time once.
#[derive(Debug, Default)]
struct Seen {
    until: Instant,
    total: Duration,
}

impl Seen {
    fn add(&mut self, from: Instant, to: Instant) {
        self.total += to - from.max(self.until);
        self.until = self.until.max(to);
    }
}

impl Stalls {
    pub fn start(clock: Clock) -> std::io::Result<Stalls> {
        let mut stalls = Stalls { seen: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        for cpu in cpus() {
            let (seen, stop) = (Arc::clone(&stalls.seen), Arc::clone(&stalls.stop));
            let thread = std::thread::Builder::new().name("stalls".to_owned()).spawn(move || {
                if let Some(cpu) = cpu {
                    let mut only = CpuSet::new();
                    only.set(cpu);
                    // Where it is not allowed the thread goes where the kernel puts it.
                    let _ = sched_setaffinity(None, &only);
                }
                while !stop.load(Ordering::Relaxed) {
                    let wanted = clock.now() + STEP;
                    std::thread::sleep(STEP);
                    let now = clock.now();
                    if now - wanted > STALL {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).add(wanted, now);
                    }
                }
            })?;
            stalls.threads.push(thread);
        }
        Ok(stalls)
    }

    /// Time lost to standstills since the start.
    pub fn total(&self) -> Duration {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // They cannot panic, and nothing depends on their end.
            let _ = thread.join();
        }
    }
}

/// The CPUs to watch, or nameless places if there are too many.
fn cpus() -> Vec<Option<usize>> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let cpus: Vec<Option<usize>> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).map(Some).collect();
    if (1..=THREADS_MAX).contains(&cpus.len()) { cpus } else { vec![None; THREADS_MAX] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_two_cpus_lose_together_is_lost_once() {
        let at = |millis| Instant::START + Duration::from_millis(millis);
        let mut seen = Seen::default();
        seen.add(at(100), at(300));
        seen.add(at(200), at(400));
        seen.add(at(250), at(300));
        seen.add(at(1000), at(1050));
        assert_eq!(seen.total, Duration::from_millis(350));
    }
}
