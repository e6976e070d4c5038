//! What the health tests measure with: verdicts as the daemon logs them, and how late this machine is with everything.
//!
//! Computed bounds hold for a machine that does what is due when it is due. What is allowed beyond them is stated here and
//! nowhere else: `LATENESS`, by which a probe may be served late and still count, for the first and the last one; and what a
//! thread that only wakes up and looks at the clock was late by at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_health::settings::Timing;
use evenkeel_model::limits;

use crate::daemon::{Daemon, unix_time};
use crate::lab::Lab;

/// What was wrong in one play, by who it was wrong with.
pub type Faults = BTreeMap<String, String>;

/// Plays up to three times, each on hosts of its own, until nothing is wrong. What is wrong with the program is wrong with
/// the same one each time; a machine that was busy with something else for a moment is not.
pub fn hold(test: &str, play: impl Fn(&Lab) -> Faults + Sync) {
    let mut ever: Option<Faults> = None;
    for _ in 0..3 {
        let Some(lab) = Lab::build(test) else { return };
        let now = lab.on_front(|| play(&lab));
        let mut still = now.clone();
        if let Some(before) = &ever {
            still.retain(|who, _| before.contains_key(who));
        }
        if still.is_empty() {
            return;
        }
        eprintln!("{} wrong this time, {} each time: {now:#?}", now.len(), still.len());
        ever = Some(still);
    }
    panic!("wrong in each of three plays: {ever:#?}");
}

/// Since 1970, as the daemon dates its events.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A change of verdict that the daemon logged.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Duration,
    pub unhealthy: bool,
    pub pool: String,
    /// Behind `unhealthy: ` or `healthy: `.
    pub because: String,
}

impl Change {
    fn read(line: &str) -> Option<Change> {
        let (time, rest) = line.split_once(' ')?;
        let unhealthy = rest.starts_with("warn backend.unhealthy ");
        if !unhealthy && !rest.starts_with("info backend.healthy ") {
            return None;
        }
        let (_, rest) = rest.split_once(" of pool \"")?;
        let (pool, rest) = rest.split_once("\" ")?;
        let (_, because) = rest.split_once(": ")?;
        Some(Change { at: unix_time(time), unhealthy, pool: pool.to_owned(), because: because.to_owned() })
    }

    /// Whether a whole run led to it and no probe more: `3 probes in a row failed, … (unhealthy_threshold = 3)`.
    pub fn counts(&self, threshold: u32) -> bool {
        let (key, did) = if self.unhealthy { ("unhealthy", "failed") } else { ("healthy", "passed") };
        let run = match threshold {
            1 => format!("1 probe {did}, "),
            many => format!("{many} probes in a row {did}, "),
        };
        self.because.starts_with(&run) && self.because.ends_with(&format!("({key}_threshold = {threshold})"))
    }

    /// What its last probe found, without the time that took: `connect refused`.
    pub fn last_finding(&self) -> &str {
        let found = self.because.split_once("last: ").map_or(self.because.as_str(), |(_, last)| last);
        found.rfind(" after ").map_or(found, |end| &found[..end])
    }
}

/// All changes of verdict so far.
pub fn changes(daemon: &Daemon) -> Vec<Change> {
    daemon.events().iter().filter_map(|line| Change::read(line)).collect()
}

/// The first change of a pool to this verdict that is not older than `since`, whose date is in whole milliseconds.
pub fn first<'a>(changes: &'a [Change], pool: &str, unhealthy: bool, since: Duration) -> Option<&'a Change> {
    changes.iter().find(|change| {
        change.pool == pool && change.unhealthy == unhealthy && change.at + Duration::from_millis(1) >= since
    })
}

/// The newest change of a pool.
pub fn last<'a>(changes: &'a [Change], pool: &str) -> Option<&'a Change> {
    changes.iter().rfind(|change| change.pool == pool)
}

/// How long the probes of a pool took at most, and how many were void.
#[derive(Clone, Copy, Debug)]
pub struct Lasted {
    pub passed: Duration,
    pub failed: Duration,
    pub void: u64,
    /// When the newest one that failed was started, since 1970.
    pub last_failed: Duration,
}

/// Probes are taken to last this long at least: what is shorter says nothing on a machine that others use too.
const RESPONSE: Duration = Duration::from_millis(50);

impl Default for Lasted {
    fn default() -> Self {
        Lasted { passed: RESPONSE, failed: RESPONSE, void: 0, last_failed: Duration::ZERO }
    }
}

/// The probes that the status page still knew when it was looked at.
#[derive(Debug, Default)]
pub struct Probes(BTreeMap<String, Lasted>);

impl Probes {
    pub fn look(&mut self, daemon: &Daemon) {
        for pool in daemon.status()["pools"].as_array().expect("a status page has pools") {
            let lasted = self.0.entry(pool["name"].as_str().expect("a pool has a name").to_owned()).or_default();
            let check = &pool["backends"][0]["checks"][0];
            lasted.void = check["void_total"].as_u64().expect("a check has a count");
            for finding in check["recent"].as_array().expect("a check has recent findings") {
                let took = Duration::from_secs_f64(finding["duration_ms"].as_f64().expect("it took a time") / 1000.0);
                if finding["result"] == "failed" {
                    let started = unix_time(finding["started"].as_str().expect("it was started"));
                    lasted.last_failed = started.max(lasted.last_failed);
                }
                let longest = if finding["result"] == "passed" { &mut lasted.passed } else { &mut lasted.failed };
                *longest = took.max(*longest);
            }
        }
    }

    pub fn of(&self, pool: &str) -> Lasted {
        self.0.get(pool).copied().unwrap_or_default()
    }
}

/// What is computed for a verdict: no sooner, and no later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub best: Duration,
    pub worst: Duration,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", millis(self.best), millis(self.worst))
    }
}

pub fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// A thread that wakes every few milliseconds and writes down how late.
pub struct Metronome {
    stop: Arc<AtomicBool>,
    late: Arc<Mutex<Vec<(Duration, Duration)>>>,
    thread: Option<JoinHandle<()>>,
}

const BEAT: Duration = Duration::from_millis(2);

impl Metronome {
    pub fn start() -> Metronome {
        let (stop, late) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&late));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let due = now() + BEAT;
                std::thread::park_timeout(BEAT);
                let by = now().saturating_sub(due);
                if by >= Duration::from_millis(1) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((due, by));
                }
            }
        });
        Metronome { stop, late, thread: Some(thread) }
    }

    /// The `count` worst latenesses between two moments, added up.
    pub fn late(&self, from: Duration, to: Duration, count: usize) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let mut within: Vec<Duration> =
            late.iter().filter(|(at, by)| *at + *by >= from && *at <= to).map(|(_, by)| *by).collect();
        within.sort_unstable_by(|a, b| b.cmp(a));
        within.iter().take(count).sum()
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From a fault or its end, which lies between two moments of ours, to a verdict.
pub struct Observed<'a> {
    pub begun: Duration,
    pub done: Duration,
    pub verdict: &'a Change,
    /// Probes of this target that were void since the test began.
    pub void: u64,
}

/// How an observation lies to its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// From the end of the command that made or healed the fault to the verdict.
    pub took: Duration,
    /// What was allowed beyond the span's worst.
    pub allowed: Duration,
}

impl Observed<'_> {
    /// # Errors
    /// Says in what the bound was missed.
    pub fn within(
        &self,
        bounds: &Bounds,
        timing: &Timing,
        threshold: u32,
        metronome: &Metronome,
    ) -> Result<Within, String> {
        let took = self.verdict.at.saturating_sub(self.done);
        // Each probe of the window, and the doomed one before it, starts and ends when a thread gets to run.
        let stalls = metronome.late(self.begun, self.verdict.at, 2 * (threshold as usize + 1));
        let longest = timing.timeout + timing.interval.max(timing.transition_interval).max(timing.unhealthy_interval);
        let void = longest * self.void as u32;
        let allowed = 2 * Duration::from_millis(limits::LATENESS.value) + stalls + void;
        let Bounds { best, worst } = *bounds;
        if took > worst + allowed {
            return Err(format!(
                "took {took:?}, and {worst:?} is the worst, with {allowed:?} allowed beyond it ({stalls:?} of stalls, {} void): {}",
                self.void, self.verdict.because
            ));
        }
        let since_begun = self.verdict.at.saturating_sub(self.begun) + Duration::from_millis(1);
        if since_begun < best {
            return Err(format!("took {since_begun:?}, and {best:?} is the best: {}", self.verdict.because));
        }
        Ok(Within { took, allowed })
    }
}
