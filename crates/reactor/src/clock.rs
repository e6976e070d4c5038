//! The one place that reads the clock.
//!
//! Wall-clock time is read once, at the start, to date logs; its later jumps must not reach a timeout
//! (docs/decisions/0001).

use std::time::{Instant as Monotonic, SystemTime, UNIX_EPOCH};

use evenkeel_model::{Epoch, Instant};

/// A monotonic clock that starts at zero. Copies share the start, so all threads of a node that got
/// theirs from the same [`Clock::start`] agree on every [`Instant`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Monotonic,
}

impl Clock {
    /// Starts the clock; the epoch says which wall-clock time that was.
    pub fn start() -> (Clock, Epoch) {
        // A wall clock before 1970 dates events wrongly; it must not stop a balancer from starting.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = Epoch { unix_nanos: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX) };
        (Clock { start: Monotonic::now() }, epoch)
    }

    pub fn now(&self) -> Instant {
        Instant::START + self.start.elapsed()
    }
}
