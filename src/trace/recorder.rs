//! A worker's end: hears of each exchange when it ends, and keeps what somebody will want to know of it.
//!
//! A good exchange that nobody watches passes three comparisons. Of the others the counts are exact and the copies are few:
//! a flood of failures is sampled here, on the worker that makes it, before it costs memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evenkeel_model::exchange::{Outcome, Record};
use evenkeel_model::{Epoch, Instant, limits};
use evenkeel_observe::{LineBuffer, Observer, Sampler, Tallied, Tally, write_line};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Shared, nanos};

const GATHERED: Duration = Duration::from_millis(limits::KEPT_GATHERED.value);
/// Most text of live lines in one batch; more in a tenth of a second is more than anybody reads.
const LIVE_BYTES: usize = limits::ACCESS_LOG_BUFFER.value as usize;

/// Most traced requests in one batch.
const TRACED: usize = limits::TRACES_QUEUE.value as usize;

/// What a worker gathered since the last time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub records: Vec<Record>,
    pub tallies: Vec<Tallied>,
    /// For the collector of traces.
    pub traced: Vec<Record>,
    text: Vec<u8>,
    /// Where each line of the text ends, and whether it is one of a failure.
    ends: Vec<(usize, bool)>,
}

impl Batch {
    pub fn lines(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut begin = 0;
        self.ends.iter().filter_map(move |&(end, failed)| {
            let line = &self.text[begin..end];
            begin = end;
            // The log writes nothing that is not UTF-8.
            Some((std::str::from_utf8(line).ok()?.trim_end(), failed))
        })
    }
}

#[derive(Debug)]
pub struct Recorder {
    lines: Option<LineBuffer>,
    epoch: Epoch,
    shared: Arc<Shared>,
    batches: mpsc::Sender<Batch>,
    sampler: Sampler,
    tally: Tally,
    batch: Batch,
    /// When what was gathered is handed over; `None` while there is nothing.
    due: Option<Instant>,
}

impl Recorder {
    pub(super) fn new(
        lines: Option<LineBuffer>,
        epoch: Epoch,
        shared: Arc<Shared>,
        batches: mpsc::Sender<Batch>,
    ) -> Self {
        Recorder {
            lines,
            epoch,
            shared,
            batches,
            sampler: Sampler::default(),
            tally: Tally::default(),
            batch: Batch::default(),
            due: None,
        }
    }

    fn is_watched(&self, failed: bool) -> bool {
        self.shared.readers_of_all.load(Ordering::Relaxed) > 0
            || failed && self.shared.readers_of_failed.load(Ordering::Relaxed) > 0
    }

    #[cold]
    fn attend(&mut self, outcome: &Outcome<'_>, slow: bool) {
        let failed = outcome.cause.is_some();
        self.tally.count(outcome);
        if self.is_watched(failed) {
            self.show(outcome, failed);
        }
        if outcome.trace.is_some() {
            if self.batch.traced.len() < TRACED {
                self.batch.traced.push(Record::of(outcome));
            } else {
                self.shared.traced.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        if failed || slow {
            if self.sampler.keeps(outcome) {
                self.batch.records.push(Record::of(outcome));
            } else {
                self.shared.sampled_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.due.get_or_insert(outcome.times.ended + GATHERED);
    }

    fn show(&mut self, outcome: &Outcome<'_>, failed: bool) {
        if self.batch.text.len() >= LIVE_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write_line(outcome, self.epoch, &mut self.batch.text);
        self.batch.ends.push((self.batch.text.len(), failed));
    }

    fn hand_over(&mut self) {
        self.due = None;
        let mut batch = std::mem::take(&mut self.batch);
        batch.tallies = self.tally.take();
        if let Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) = self.batches.try_send(batch) {
            let lost = batch.records.len() + batch.ends.len();
            self.shared.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            self.shared.traced.dropped.fetch_add(batch.traced.len() as u64, Ordering::Relaxed);
            // Counts are never lost: they go with the next batch.
            self.tally.give_back(batch.tallies);
        }
    }
}

impl Observer for Recorder {
    fn ended(&mut self, outcome: &Outcome<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.ended(outcome);
        }
        let failed = outcome.cause.is_some();
        let slow = nanos(outcome.times.ended - outcome.times.started) >= self.shared.slow.load(Ordering::Relaxed);
        // What is relayed, over tcp, udp or an upgraded request, is long when it is used long, which is no news.
        let slow = slow && outcome.request.is_some() && outcome.status != Some(101);
        if failed || slow || outcome.trace.is_some() || self.is_watched(false) {
            self.attend(outcome, slow);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let lines = self.lines.as_ref().and_then(Observer::poll_timeout);
        [lines, self.due].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(lines) = &mut self.lines {
            lines.handle_timeout(now);
        }
        if self.due.is_some_and(|due| now >= due) {
            self.hand_over();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.due.is_some() {
            self.hand_over();
        }
    }
}
