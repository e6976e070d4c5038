//! The settings of one check: what to send, what to expect, how often, and how many make a verdict.
//!
//! They are valid when they get here: config refuses a threshold of 0 or a timeout of nothing with a word to
//! the operator, so that nothing downstream checks again.
//!
//! Parsing, defaults and ranges are the config room's; a value that exists here is one that can be probed with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_model::standing::Harm;

/// How to probe and how to judge. Two checks with equal settings against one address and port are
/// one target and are probed once (SPEC 4.1), which is why this is `Eq` and `Hash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckSettings {
    pub probe: ProbeSettings,
    pub timing: Timing,
    /// Addresses probes are sent from, one after the other; the kernel's choice when empty.
    pub sources: Arc<[IpAddr]>,
}

mod probes;

pub use probes::{
    AgentProbe, BodyMatch, CommandProbe, DnsProbe, GrpcProbe, HttpProbe, HttpVersion, IcmpProbe, ProbeSettings, Record,
    Silence, Step, StepsProbe, TcpProbe, TlsProbe, UdpProbe,
};

/// When to probe and how many results make a verdict (SPEC 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    pub timeout: Duration,
    /// Gap between probes while nothing contradicts the verdict and it is not `unhealthy`.
    pub interval: Duration,
    /// Gap while the verdict is `unhealthy` and nothing contradicts it.
    pub unhealthy_interval: Duration,
    /// Gap while results contradict the verdict: between the probes of a window.
    pub transition_interval: Duration,
    /// Percent by which each gap is longer or shorter at random.
    pub jitter: u32,
    /// Gap in the place of `interval` while real traffic passes; `None`: traffic changes nothing.
    pub trust_traffic: Option<Duration>,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
}

impl Timing {
    /// The four numbers of the window: the same gap in every state, to the nanosecond.
    pub const fn new(timeout: Duration, interval: Duration, healthy_threshold: u32, unhealthy_threshold: u32) -> Self {
        Timing {
            timeout,
            interval,
            unhealthy_interval: interval,
            transition_interval: interval,
            jitter: 0,
            trust_traffic: None,
            healthy_threshold,
            unhealthy_threshold,
        }
    }
}

/// When traffic speaks against a backend, and for how long it is set aside then (see [`crate::passive`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassiveSettings {
    pub runs: Runs,
    /// Percent of a backend's attempts within one interval; `None`: whatever it fails.
    pub failure_percent: Option<u32>,
    /// So many times the mean of the rest of the pool; `None`: however long it takes.
    pub latency_factor: Option<u32>,
    /// Means below this are never too long.
    pub latency_floor: Duration,
    /// Attempts within one interval below which rates and means say nothing.
    pub min_requests: u64,
    pub interval: Duration,
    pub ejection_time: Duration,
    pub ejection_max: Duration,
    /// Percent of a pool's backends that may be ejected at once.
    pub max_ejected: u32,
}

impl Default for PassiveSettings {
    fn default() -> Self {
        PassiveSettings {
            runs: Runs {
                connect_failures: limits::PASSIVE_CONNECT_FAILURES.default as u32,
                server_errors: limits::PASSIVE_SERVER_ERRORS.default as u32,
                resets: limits::PASSIVE_RESETS.default as u32,
                timeouts: limits::PASSIVE_TIMEOUTS.default as u32,
            },
            failure_percent: None,
            latency_factor: None,
            latency_floor: limits::PASSIVE_LATENCY_FLOOR.default,
            min_requests: limits::PASSIVE_MIN_REQUESTS.default,
            interval: limits::PASSIVE_INTERVAL.default,
            ejection_time: limits::EJECTION_TIME.default,
            ejection_max: limits::EJECTION_MAX.default,
            max_ejected: limits::MAX_EJECTED.default as u32,
        }
    }
}

/// Failures of one kind in a row, of all workers together, that eject a backend; 0 ignores the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    pub connect_failures: u32,
    pub server_errors: u32,
    pub resets: u32,
    pub timeouts: u32,
}

impl Runs {
    pub const fn of(&self, harm: Harm) -> u32 {
        match harm {
            Harm::Connect => self.connect_failures,
            Harm::ServerError => self.server_errors,
            Harm::Reset => self.resets,
            Harm::Timeout => self.timeouts,
        }
    }
}

/// A set of HTTP status codes 100..=599, as inclusive ranges in ascending order without overlap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    pub fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        StatusSet(merged)
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(low, high)| low <= status && status <= high)
    }

    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl Default for StatusSet {
    /// 2xx and 3xx, the modelled service's default.
    fn default() -> Self {
        StatusSet(vec![(200, 399)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_written_differently_are_equal() {
        let classes = StatusSet::from_ranges(vec![(300, 399), (200, 299)]);
        assert_eq!(classes, StatusSet::default());
        assert!(classes.contains(200) && classes.contains(399));
        assert!(!classes.contains(199) && !classes.contains(400));
    }
}
