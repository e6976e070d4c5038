//! Sends spans to a collector: OTLP over HTTP, in batches, on the trace thread.
//!
//! A collector that is slow or dead costs traces and nothing else: what waits is bounded, what does not fit is dropped and
//! counted, and a batch is tried a few times with growing waits. Statuses mean what the protocol says: 429, 502, 503 and 504
//! ask to be tried again, every other failure would be the same next time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel_model::exchange::Record;
use evenkeel_model::{Epoch, limits};
use evenkeel_plan::Traces;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::spans;
use crate::files;
use crate::side::post::{Failure, post};

/// Longest time the first record of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// What became of traced requests.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
    /// Batches that a collector did not take, retries included.
    pub failed: AtomicU64,
}

pub(super) struct Exporter {
    pub records: mpsc::Receiver<Record>,
    pub traces: watch::Receiver<Option<Arc<Traces>>>,
    pub epoch: Epoch,
    pub counts: Arc<Counts>,
}

impl Exporter {
    /// Until nobody hands records over any more; what waits then is tried once.
    pub async fn run(mut self) {
        let most = limits::TRACES_BATCH.value as usize;
        let mut batch = Vec::new();
        while self.records.recv_many(&mut batch, most).await > 0 {
            let until = Instant::now() + GATHER;
            while batch.len() < most {
                let room = most - batch.len();
                match timeout_at(until, self.records.recv_many(&mut batch, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[Record]) {
        let mut wait = Duration::from_secs(limits::TRACES_WAIT.value);
        for _ in 0..limits::TRACES_TRIES.value {
            // A reload may have moved the collector.
            let Some(traces) = self.traces.borrow_and_update().clone() else { break };
            let spans = spans::batch(batch, &traces.service, self.epoch);
            let body = ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec();
            let sending = post(&traces.url, "application/x-protobuf", body, files::authorities);
            let may_be_tried_again = match timeout(traces.timeout, sending).await {
                Ok(Ok(())) => {
                    self.counts.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    return;
                }
                Ok(Err(Failure::Status(status))) => matches!(status, 429 | 502..=504),
                Ok(Err(Failure::Absent(_))) | Err(_) => true,
            };
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            if !may_be_tried_again || self.records.is_closed() {
                break;
            }
            sleep(wait).await;
            wait = (2 * wait).min(Duration::from_secs(limits::TRACES_WAIT_MAX.value));
        }
        self.counts.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}
