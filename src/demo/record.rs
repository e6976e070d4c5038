//! What was seen during one telling of the story, as plain values.
//!
//! The client fills the samples, the node's events the rulings, the story the orders. Screen and claims read
//! the same record, so a claim cannot rest on anything that was not shown.

use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, detection, recovery};
use evenkeel_model::standing::Verdict;
use evenkeel_model::{Cause, Instant};

use super::{PROBE_TAKES, TOLERANCE};

/// How a backend behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Its port refuses; connections that stood were reset.
    Killed,
    /// Accepts and reads, answers nobody.
    Hangs,
    /// The health page answers 500, everything else works.
    HealthFails,
}

impl Mode {
    /// How probes of a backend in this mode end, where one that is answered takes `takes`; `None` when they pass.
    const fn failing(self, takes: Duration) -> Option<Failing> {
        match self {
            Mode::Works => None,
            Mode::Killed => Some(Failing::Refused),
            Mode::Hangs => Some(Failing::Silent),
            Mode::HealthFails => Some(Failing::After(takes)),
        }
    }

    /// The one cause that requests may fail with in the window of this fault; `None`: none may fail at all.
    ///
    /// A refused connect goes to the next backend, and so does a GET whose connection was reset before an answer.
    /// A backend that took a request and is silent had its whole time; asking another would double the wait.
    pub const fn expected_cause(self) -> Option<Cause> {
        match self {
            Mode::Hangs => Some(Cause::BackendResponseTimeout),
            Mode::Works | Mode::Killed | Mode::HealthFails => None,
        }
    }
}

/// One request of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub started: Instant,
    pub ended: Instant,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A 2xx with the name of one of our backends in it.
    Served { backend: usize },
    /// Any other answer; `code` is what `details` of its `Proxy-Status` said.
    Failed { status: u16, code: Option<String> },
    /// No whole answer: nothing tells the client why.
    Broken { why: String },
}

impl Answer {
    /// The entry of the closed list, if the answer named one.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Answer::Failed { code: Some(code), .. } => Cause::from_code(code),
            Answer::Failed { code: None, .. } | Answer::Served { .. } | Answer::Broken { .. } => None,
        }
    }

    pub const fn is_failure(&self) -> bool {
        !matches!(self, Answer::Served { .. })
    }
}

/// A backend was given another mode, and the verdict that followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub backend: usize,
    pub from: Mode,
    pub to: Mode,
    pub ordered: Instant,
    pub ruling: Option<Ruling>,
}

/// A change of verdict, as the node's event told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub at: Instant,
    pub to: Verdict,
    /// Length of the run that led to it.
    pub probes: u32,
    /// Void probes of this backend since the order (W7). The evidence counts only those inside the run.
    pub voids: u64,
    /// How long this process was kept from running since the order.
    pub stalled: Duration,
}

/// A span that the observed time from order to verdict must lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub best: Duration,
    pub worst: Duration,
}

impl Change {
    pub const fn is_fault(&self) -> bool {
        !matches!(self.to, Mode::Works)
    }

    pub const fn expected_verdict(&self) -> Verdict {
        if self.is_fault() { Verdict::Unhealthy } else { Verdict::Healthy }
    }

    pub fn observed(&self) -> Option<Duration> {
        self.ruling.as_ref().map(|ruling| ruling.at - self.ordered)
    }

    /// W5 or W6 and what may come before the window: one interval and one probe. From settings alone.
    pub fn bounds(&self, timing: &Timing) -> Bounds {
        let of = |takes| match (self.to.failing(takes), self.from.failing(takes)) {
            (Some(failing), _) => detection(timing, failing, takes),
            (None, Some(failed)) => recovery(timing, failed, takes),
            (None, None) => recovery(timing, Failing::After(takes), takes),
        };
        // A probe may take no time at all, or as long as we grant a well backend.
        Bounds { best: of(Duration::ZERO).best.min(of(PROBE_TAKES).best), worst: of(PROBE_TAKES).worst }
    }

    /// What is allowed above the worst case: scheduling, measured standstills, and for each void probe its
    /// whole timeout and the interval after it.
    pub fn allowance(&self, timing: &Timing) -> Duration {
        let voids = self.ruling.as_ref().map_or(0, |ruling| u32::try_from(ruling.voids).unwrap_or(u32::MAX));
        self.slack() + (timing.timeout + timing.interval).saturating_mul(voids)
    }

    /// The part of the allowance that has nothing to do with probes.
    pub fn slack(&self) -> Duration {
        TOLERANCE + self.ruling.as_ref().map_or(Duration::ZERO, |ruling| ruling.stalled)
    }

    /// Until when a request may have been sent and still fail by this fault.
    pub fn window_end(&self) -> Instant {
        self.ruling.as_ref().map_or(Instant::NEVER, |ruling| ruling.at + self.slack())
    }

    /// Whether this request was under way between the fault and its verdict.
    pub fn touches(&self, sample: &Sample) -> bool {
        self.is_fault() && sample.ended >= self.ordered && sample.started <= self.window_end()
    }
}

/// One telling of the story.
#[derive(Clone, Debug)]
pub struct Record {
    pub timing: Timing,
    pub samples: Vec<Sample>,
    /// Requests that could not be sent because `CONNECTIONS_MAX` were waiting.
    pub unsent: u64,
    /// How long this process was kept from running, in all.
    pub stalled: Duration,
    /// In order; each fault is followed by its return.
    pub changes: Vec<Change>,
    /// Changes of verdict that no order explains.
    pub strays: Vec<String>,
    /// What the node itself counted for its listener, for every cause that is not 0.
    pub counted: Vec<(Cause, u64)>,
}

impl Record {
    pub const fn new(timing: Timing) -> Record {
        Record {
            timing,
            samples: Vec::new(),
            unsent: 0,
            stalled: Duration::ZERO,
            changes: Vec::new(),
            strays: Vec::new(),
            counted: Vec::new(),
        }
    }

    pub fn failures(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.answer.is_failure())
    }

    pub fn failures_in<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = &'a Sample> {
        self.failures().filter(|sample| change.touches(sample))
    }
}

/// The `percent`-th percentile by the nearest-rank method; sorts what it is given.
pub fn percentile(latencies: &mut [Duration], percent: usize) -> Option<Duration> {
    latencies.sort_unstable();
    let rank = (latencies.len() * percent).div_ceil(100);
    latencies.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const TIMING: Timing = Timing::new(millis(1000), millis(500), 3, 3);

    fn bounds(from: Mode, to: Mode) -> (u128, u128) {
        let change = Change { backend: 0, from, to, ordered: Instant::START, ruling: None };
        let Bounds { best, worst } = change.bounds(&TIMING);
        (best.as_millis(), worst.as_millis())
    }

    #[test]
    fn bounds_are_the_window_and_at_most_one_interval_and_one_probe_more() {
        // Two intervals, up to one more, and 10 ms for a probe that a well backend may take.
        assert_eq!(bounds(Mode::Works, Mode::Killed), (1000, 1510));
        // Three timeouts and two intervals. A probe under way when it hangs has waited up to 10 ms of its timeout.
        assert_eq!(bounds(Mode::Works, Mode::Hangs), (3990, 4510));
        assert_eq!(bounds(Mode::Works, Mode::HealthFails), (1000, 1540));
        assert_eq!(bounds(Mode::Killed, Mode::Works), (1000, 1530));
        // A probe that will time out may just have begun.
        assert_eq!(bounds(Mode::Hangs, Mode::Works), (1000, 2530));
        assert_eq!(bounds(Mode::HealthFails, Mode::Works), (1000, 1540));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut seen: Vec<Duration> = (1..=200).rev().map(millis).collect();
        assert_eq!(percentile(&mut seen, 50), Some(millis(100)));
        assert_eq!(percentile(&mut seen, 99), Some(millis(198)));
        assert_eq!(percentile(&mut seen, 100), Some(millis(200)));
        assert_eq!(percentile(&mut [millis(7)], 99), Some(millis(7)));
        assert_eq!(percentile(&mut [], 50), None);
    }
}
