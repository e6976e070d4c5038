//! Turns what happened into counters and lines.
//!
//! Called by the data plane for each ended exchange and by the admin side for each scrape. It promises
//! that the hot path takes no lock and waits for no disk, and that labels come from the plan and the
//! closed list of causes only, so their number is bounded.

mod access_log;
mod json;
mod line_buffer;
pub mod metrics;

pub use access_log::write_line;
pub use json::Json;
pub use line_buffer::{LineBuffer, LogWriter};
pub use metrics::{BackendMetrics, ListenerMetrics, Registry};

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
