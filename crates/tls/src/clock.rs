//! The time of day as this room is told it.
//!
//! Certificates end at a date, so somebody has to know the date when a handshake runs. It is asked of a clock that the
//! caller hands in with the settings: the binary's is the system's, a simulation moves its own.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub trait Clock: Debug + Send + Sync {
    /// Seconds since 1970-01-01 UTC.
    fn unix_seconds(&self) -> u64;
}

#[derive(Debug)]
pub(crate) struct Told(pub(crate) Arc<dyn Clock>);

impl TimeProvider for Told {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unix_seconds())))
    }
}
