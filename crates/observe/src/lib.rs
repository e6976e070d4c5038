//! Turns what happened into counters and lines.
//!
//! Called by the data plane for each ended exchange and by the admin side for each scrape. It promises
//! that the hot path takes no lock and waits for no disk, and that labels come from the plan and the
//! closed list of causes only, so their number is bounded.

mod access_log;
mod digest;
mod json;
mod line_buffer;
pub mod metrics;
mod ring;

pub use access_log::write_line;
pub use digest::{Digest, Place, Struck, Tallied, Tally};
pub use json::Json;
pub use line_buffer::{LineBuffer, LogWriter};
pub use metrics::{BackendMetrics, ListenerMetrics, Registry};
pub use ring::{Ring, Sampler};

use evenkeel_model::Instant;
use evenkeel_model::exchange::Outcome;

/// Hears of each exchange exactly once, when it has ended.
pub trait Observer {
    fn ended(&mut self, outcome: &Outcome<'_>);

    /// When [`Observer::handle_timeout`] is due, for those who gather before they write.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}

/// For nodes without an access log.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn ended(&mut self, _outcome: &Outcome<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::exchange::{ExchangeId, Question, Times};

    /// A connection of which nothing else is known.
    pub(crate) fn outcome(ended: Instant) -> Outcome<'static> {
        Outcome {
            id: ExchangeId { process: 1, sequence: 2 },
            listener: "web",
            pool: None,
            client: "192.0.2.1:5000".parse().expect("address"),
            backend: None,
            request: None,
            sni: None,
            tls: None,
            status: None,
            cause: None,
            phase: None,
            detail: None,
            bytes_in: 0,
            bytes_out: 0,
            datagrams: None,
            times: Times { ended, ..Times::default() },
            attempts: &[],
            reuse: None,
            client_requests: 0,
            rule: None,
            timer: None,
            then: Question::NOTHING,
            trace: None,
        }
    }
}
