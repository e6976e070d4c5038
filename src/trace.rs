//! What is known of requests afterwards: the failed and slow ones, their causes over time, their lines as they come, and traces.
//!
//! Workers hand over what they gathered a few times a second ([`Recorder`]); a thread of its own keeps it, so that neither a
//! flood of failures nor somebody who looks at it costs a worker more than a copy. What cannot be handed over is counted.
//!
//! ```text
//!   worker ── Outcome ──► Recorder ── batch, each 100 ms ──► thread ──► Ring, Digest ◄── explain, API, dashboard
//!                 (good: three comparisons)                      ├──► live readers
//!                                                                └──► spans to the collector
//! ```

use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_model::exchange::{ExchangeId, Record};
use evenkeel_model::{Epoch, Instant, limits};
use evenkeel_observe::{Digest, LineBuffer, Ring, Struck};
use evenkeel_plan::{Plan, Traces};
use tokio::sync::{broadcast, mpsc, watch};

mod exporter;
pub mod from_log;
mod live;
mod recorder;
mod spans;
mod told;

pub use live::{Lines, LiveReader, Said};
pub use recorder::Recorder;
pub use told::{Written, told};

use exporter::{Counts, Exporter};
use recorder::Batch;

/// Everything others may ask for; cheap to hand around.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// From here on an exchange is slow, in nanoseconds.
    slow: AtomicU64,
    kept: Mutex<Kept>,
    all: broadcast::Sender<Arc<str>>,
    failed: broadcast::Sender<Arc<str>>,
    /// Readers of the live stream, so that workers know whether anybody listens.
    readers_of_all: AtomicUsize,
    readers_of_failed: AtomicUsize,
    /// Records that were kept, whether or not they have made room for others since.
    taken: AtomicU64,
    /// Records and lines that were not handed over.
    dropped: AtomicU64,
    /// Records that were not kept because others of their cause were.
    sampled_out: AtomicU64,
    traced: Arc<Counts>,
}

#[derive(Debug)]
struct Kept {
    ring: Ring,
    digest: Digest,
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    /// How many failed and slow requests are kept now.
    pub fn kept(&self) -> usize {
        self.0.kept().ring.len()
    }

    pub fn find(&self, id: ExchangeId) -> Option<Arc<Record>> {
        self.0.kept().ring.find(id)
    }

    /// Those that `wanted` says, the newest first, at most `most`.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        self.0.kept().ring.newest(most, wanted)
    }

    /// Every cause that has struck since the node started, and since when that is. The one that struck most in the last hour
    /// comes first.
    pub fn causes(&self, now: Instant) -> (Instant, Vec<Struck>) {
        let kept = self.0.kept();
        (kept.digest.since(), kept.digest.causes(now))
    }

    /// A reader of access-log lines as they come. While nobody reads, none are written for it.
    pub fn live(&self, which: Lines) -> LiveReader {
        LiveReader::new(&self.0, which)
    }

    /// Rows for the metrics page.
    pub fn metrics(&self, out: &mut String) {
        let traced = &self.0.traced;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let families = [
            (
                "evenkeel_kept_requests_total",
                "Failed and slow requests: kept for explain, only counted since others of their cause were kept, or lost on the way.",
                [
                    ("kept", read(&self.0.taken)),
                    ("sampled_out", read(&self.0.sampled_out)),
                    ("dropped", read(&self.0.dropped)),
                ],
            ),
            (
                "evenkeel_traced_requests_total",
                "Traced requests: those that the collector took, those that it never got; and batches that it did not take, each try counted.",
                [
                    ("sent", read(&traced.sent)),
                    ("dropped", read(&traced.dropped)),
                    ("batch_failed", read(&traced.failed)),
                ],
            ),
        ];
        for (family, help, rows) in families {
            // Writing to a String cannot fail.
            let _ = write!(out, "# HELP {family} {help}\n# TYPE {family} counter\n");
            for (result, value) in rows {
                let _ = writeln!(out, "{family}{{result=\"{result}\"}} {value}");
            }
        }
    }

    /// How many failed or slow requests, and lines of the live stream, were lost between worker and thread.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// How many failed or slow requests were counted and not kept, since others of their cause were.
    pub fn sampled_out(&self) -> u64 {
        self.0.sampled_out.load(Ordering::Relaxed)
    }
}

/// Time for the last spans at the end.
const FAREWELL: Duration = Duration::from_millis(limits::HOOK_FAREWELL.value);

/// The running thread.
#[derive(Debug)]
pub struct Trace {
    shared: Arc<Shared>,
    batches: mpsc::Sender<Batch>,
    traces: watch::Sender<Option<Arc<Traces>>>,
    epoch: Epoch,
    thread: JoinHandle<()>,
}

impl Trace {
    /// # Errors
    /// When the process is out of files or threads.
    pub fn start(plan: &Plan, now: Instant, epoch: Epoch) -> io::Result<Trace> {
        let line_room = limits::LIVE_LINES.value as usize;
        let shared = Arc::new(Shared {
            slow: AtomicU64::new(slow(plan)),
            kept: Mutex::new(Kept { ring: Ring::new(plan.node.kept_requests), digest: Digest::new(now) }),
            all: broadcast::Sender::new(line_room),
            failed: broadcast::Sender::new(line_room),
            readers_of_all: AtomicUsize::new(0),
            readers_of_failed: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            sampled_out: AtomicU64::new(0),
            traced: Arc::default(),
        });
        let (batches, mut gathered) = mpsc::channel::<Batch>(limits::KEPT_QUEUE.value as usize);
        let keeping = Arc::clone(&shared);
        let (traces, followed) = watch::channel(traces(plan));
        let (spans, records) = mpsc::channel(limits::TRACES_QUEUE.value as usize);
        let exporter = Exporter { records, traces: followed, epoch, counts: Arc::clone(&shared.traced) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("trace".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut exporting = tokio::spawn(exporter.run());
                // Ends when the last worker is gone.
                while let Some(mut batch) = gathered.recv().await {
                    for record in std::mem::take(&mut batch.traced) {
                        if spans.try_send(record).is_err() {
                            keeping.traced.dropped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    keep(&keeping, batch);
                }
                drop(spans);
                // The collector has a moment for what is left; a node that stops does not wait for it.
                let _ = tokio::time::timeout(FAREWELL, &mut exporting).await;
            });
            runtime.shutdown_background();
        })?;
        Ok(Trace { shared, batches, traces, epoch, thread })
    }

    /// A worker's end. `lines` writes its access log.
    pub fn recorder(&self, lines: Option<LineBuffer>) -> Recorder {
        Recorder::new(lines, self.epoch, Arc::clone(&self.shared), self.batches.clone())
    }

    pub fn requests(&self) -> Requests {
        Requests(Arc::clone(&self.shared))
    }

    /// Takes over what a new plan says.
    pub fn plan(&self, plan: &Plan) {
        self.shared.slow.store(slow(plan), Ordering::Relaxed);
        self.shared.kept().ring.set_room(plan.node.kept_requests);
        self.traces.send_replace(traces(plan));
    }

    /// Waits until all that was handed over is kept. All recorders must be gone by then.
    pub fn stop(self) {
        drop(self.batches);
        // A panic of the thread was printed by itself.
        let _ = self.thread.join();
    }
}

fn traces(plan: &Plan) -> Option<Arc<Traces>> {
    plan.node.traces.clone().map(Arc::new)
}

fn slow(plan: &Plan) -> u64 {
    plan.node.slow_request.map_or(u64::MAX, nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn keep(shared: &Shared, batch: Batch) {
    for (text, failed) in batch.lines() {
        let line: Arc<str> = text.into();
        // Without a reader there is nobody to send to, which is no fault.
        let _ = shared.all.send(Arc::clone(&line));
        if failed {
            let _ = shared.failed.send(line);
        }
    }
    let mut kept = shared.kept();
    for tallied in batch.tallies {
        kept.digest.add(tallied);
    }
    shared.taken.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
    for record in batch.records {
        kept.ring.keep(record);
    }
}
