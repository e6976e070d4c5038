//! How late this process is itself, measured beside the story by a thread that wants to wake often.
//!
//! A busy machine delays the node's threads as it delays this one. What is measured here is allowed on top of the
//! computed bounds and printed, so that a claim neither fails by the machine nor hides behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_reactor::Clock;

use super::STALL;

/// How often the thread wants to wake.
const STEP: Duration = Duration::from_millis(5);

pub struct Stalls {
    nanos: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    pub fn start(clock: Clock) -> std::io::Result<Stalls> {
        let (nanos, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (nanos, stop) = (Arc::clone(&nanos), Arc::clone(&stop));
            std::thread::Builder::new().name("stalls".to_owned()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let before = clock.now();
                    std::thread::sleep(STEP);
                    let late = (clock.now() - before).saturating_sub(STEP);
                    if late > STALL {
                        nanos.fetch_add(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                    }
                }
            })?
        };
        Ok(Stalls { nanos, stop, thread: Some(thread) })
    }

    /// Time lost to standstills since the start.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and nothing depends on its end.
            let _ = thread.join();
        }
    }
}
