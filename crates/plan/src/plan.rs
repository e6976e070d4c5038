//! The compiled configuration: indices instead of names, defaults filled in, nothing left to check.
//!
//! Plain values that can be compared, since a reload is the difference of two. No config type is in it: the hot path
//! must not know how a file looks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::CheckSettings;
use evenkeel_model::{BackendId, Cidr, PoolId, TargetId};

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub node: Node,
    pub admin: Option<Admin>,
    pub listeners: Vec<Arc<Listener>>,
    pub pools: Vec<Arc<Pool>>,
    /// All backends of all pools; a pool names its own by range.
    pub backends: Vec<Backend>,
    /// What is probed, each once.
    pub targets: Vec<Target>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Workers to start; 0 means one per CPU.
    pub workers: usize,
    /// Client connections at once; 0 derives it from the file limit.
    pub connections: usize,
    pub drain_timeout: Duration,
    pub access_log: AccessLog,
    /// Name this cluster signs CDN-Loop with; a random one per process when `None`.
    pub cluster: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Http,
}

impl Protocol {
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Http => "http",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique among listeners; what a reload recognises it by.
    pub name: Arc<str>,
    pub listen: Vec<SocketAddr>,
    pub protocol: Protocol,
    pub pool: PoolId,
    pub backlog: u32,
    /// Relayed connections: tcp listeners and upgraded requests.
    pub idle_timeout: Duration,
    /// Read by http listeners only.
    pub http: HttpSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    pub keep_alive_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub header_limit: usize,
    /// 0 means no limit.
    pub body_limit: u64,
    /// Proxies whose X-Forwarded-* and Forwarded fields are believed and extended.
    pub trusted: Vec<Cidr>,
    /// Whether to send X-Forwarded-For/-Proto/-Host/-Port and X-Real-IP to backends.
    pub x_forwarded: bool,
    /// Whether to send RFC 7239 Forwarded to backends.
    pub forwarded: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Unique among pools.
    pub name: Arc<str>,
    pub schedule: Schedule,
    /// Its backends are `plan.backends[first..first + count]`.
    pub first_backend: BackendId,
    pub backend_count: u32,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub idle_connections: usize,
    pub retries: u32,
    /// Percent of requests.
    pub retry_budget: u32,
    pub slow_start: Duration,
    /// `None` when the check is off.
    pub check: Option<Arc<CheckSettings>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub pool: PoolId,
    pub address: SocketAddr,
    pub weight: u32,
    /// `None` when the pool's check is off.
    pub target: Option<TargetId>,
}

/// One (address, port, settings) that is probed once, however many backends rest on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The backend's address with the check's port.
    pub address: SocketAddr,
    pub check: Arc<CheckSettings>,
}

impl Plan {
    pub fn backends_of(&self, pool: PoolId) -> impl Iterator<Item = (BackendId, &Backend)> {
        let pool = &self.pools[pool.index()];
        let first = pool.first_backend.index();
        let range = first..first + pool.backend_count as usize;
        range.map(|index| (BackendId::from_index(index), &self.backends[index]))
    }
}
