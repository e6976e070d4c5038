//! A config after reading: typed, every value valid by itself, defaults filled in, places kept.
//!
//! Nothing here knows of anything else: that a pool exists, or that two listeners want one address,
//! is for [`crate::relations`] to say. A value that could not be read is `None` and was noted; later
//! checks pass over it rather than complain twice.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{Silence, StatusSet, TcpProbe};
use evenkeel_model::Cidr;
use evenkeel_model::finding::ProbeKind;
use evenkeel_plan::{AccessLog, Protocol};

use crate::keys::Key;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Config {
    pub node: Node,
    /// `None` when it is off.
    pub admin: Option<At<SocketAddr>>,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub workers: u64,
    pub connections: u64,
    pub drain_timeout: Duration,
    pub access_log: AccessLog,
    pub cluster: Option<String>,
}

/// Keys that were written, with the places of the keys.
pub(crate) type Written = Vec<(&'static Key, Range<usize>)>;

pub(crate) fn place_of(written: &Written, name: &str) -> Option<Range<usize>> {
    written.iter().find(|(key, _)| key.name == name).map(|(_, span)| span.clone())
}

#[derive(Debug)]
pub(crate) struct Listener {
    /// As problems call it: `listener "web"`.
    pub label: String,
    pub head: Range<usize>,
    pub name: Option<At<String>>,
    pub listen: Vec<At<SocketAddr>>,
    pub protocol: Option<Protocol>,
    pub pool: Option<At<String>>,
    pub backlog: u64,
    pub idle_timeout: Duration,
    pub keep_alive_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub header_limit: u64,
    pub body_limit: u64,
    pub trusted: Vec<At<Cidr>>,
    pub x_forwarded: bool,
    pub forwarded: bool,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub label: String,
    pub head: Range<usize>,
    pub name: Option<At<String>>,
    pub schedule: Schedule,
    pub backends: Vec<Backend>,
    /// Whether an entry of `backends` could not be read.
    pub backends_incomplete: bool,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub idle_connections: u64,
    pub retries: u64,
    pub retry_budget: u64,
    pub slow_start: Duration,
    /// `None` when it is off.
    pub check: Option<Check>,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct Backend {
    pub address: At<SocketAddr>,
    pub weight: u64,
}

#[derive(Debug)]
pub(crate) struct Check {
    /// `None`: by the listeners that use the pool.
    pub kind: Option<ProbeKind>,
    /// Whether a kind was written that could not be read.
    pub kind_unreadable: bool,
    pub path: String,
    pub method: String,
    pub host: Option<String>,
    pub expect_status: StatusSet,
    pub handshake: TcpProbe,
    pub send: Vec<u8>,
    pub expect: Option<Vec<u8>>,
    pub silence: Silence,
    pub port: Option<u16>,
    pub source: Option<At<IpAddr>>,
    pub timeout: Duration,
    pub interval: Duration,
    pub healthy_threshold: u64,
    pub unhealthy_threshold: u64,
    pub written: Written,
}
