//! One check of a pool after reading, whatever its kind: the keys of every kind lie side by side, since the kind may
//! follow from listeners that are not known here.
//!
//! Which of them have a meaning is asked in [`crate::relations`].

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use evenkeel_health::pattern::Pattern;
use evenkeel_health::settings::{BodyMatch, HttpVersion, Record, Silence, StatusSet, Step, TcpProbe};
use evenkeel_model::finding::ProbeKind;

use super::{At, PoolTls, Sources, Written, place_of};

#[derive(Debug)]
pub(crate) struct Check {
    /// As problems call it: `pool "web"` for the one of a pool, `pool "web" check "login"` among several.
    pub label: String,
    /// What problems put in front of its keys: `check.` for the one of a pool, nothing among several.
    pub prefix: &'static str,
    /// Its place: that of its table, or of the pool's when it is left out.
    pub head: Range<usize>,
    /// Its kind when it has none.
    pub name: Option<At<String>>,
    /// `None`: by the listeners that use the pool.
    pub kind: Option<ProbeKind>,
    /// Whether a kind was written that could not be read.
    pub kind_unreadable: bool,
    /// Value of the Host field or of `:authority`.
    pub host: Option<String>,
    pub http: HttpKeys,
    pub handshake: TcpProbe,
    pub steps: Vec<Step>,
    /// Of a datagram, or to an agent.
    pub send: Vec<u8>,
    pub udp: UdpKeys,
    pub service: String,
    pub dns: DnsKeys,
    /// Empty when it is left out.
    pub command: Vec<String>,
    /// `None`: as traffic does, where the check goes where traffic goes.
    pub tls: Option<At<CheckTls>>,
    pub min_days_left: Option<u64>,
    pub port: Option<u16>,
    pub source: Option<Sources>,
    pub timeout: Duration,
    pub interval: Duration,
    pub unhealthy_interval: Option<At<Duration>>,
    pub transition_interval: Option<At<Duration>>,
    pub jitter: u64,
    pub trust_traffic: Option<At<Duration>>,
    pub healthy_threshold: u64,
    pub unhealthy_threshold: u64,
    /// Whether some of it could not be read.
    pub incomplete: bool,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct HttpKeys {
    pub path: String,
    /// `None`: HEAD, or GET where the body is looked at.
    pub method: Option<At<String>>,
    pub headers: Vec<(String, String)>,
    pub expect_status: StatusSet,
    pub body: Option<BodyMatch>,
    /// `None`: as traffic does, where the check goes where traffic goes.
    pub version: Option<HttpVersion>,
    pub keep_alive: bool,
}

#[derive(Debug)]
pub(crate) struct UdpKeys {
    pub expect: Option<Pattern>,
    pub silence: Silence,
    pub closed_port: Option<u16>,
    pub ping: bool,
}

#[derive(Debug)]
pub(crate) struct DnsKeys {
    pub query: Option<String>,
    pub record: Record,
    pub codes: Vec<u16>,
    pub addresses: Vec<At<IpAddr>>,
}

/// Whether probes speak TLS.
#[derive(Debug)]
pub(crate) enum CheckTls {
    Off,
    /// With the settings of `[pool.tls]`, or the defaults of that table.
    On,
    Own(PoolTls),
}

impl Check {
    pub(crate) fn wrote(&self, name: &str) -> bool {
        self.place_of(name).is_some()
    }

    /// Where a key of it stands.
    pub(crate) fn place_of(&self, name: &str) -> Option<Range<usize>> {
        place_of(&self.written, name)
    }

    /// The key, or the whole check.
    pub(crate) fn place(&self, name: &str) -> Range<usize> {
        self.place_of(name).unwrap_or_else(|| self.head.clone())
    }

    /// The beginning of a problem that speaks of a key: `pool "web": check.timeout`.
    pub(crate) fn says(&self, name: &str) -> String {
        format!("{}: {}{name}", self.label, self.prefix)
    }
}
