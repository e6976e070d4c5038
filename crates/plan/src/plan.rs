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
use evenkeel_model::{BackendId, Cidr, CidrSet, PoolId, TargetId};

use crate::rules::{Action, Rules};

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
    /// What sticky cookies are authenticated with; a random one per process when `None`.
    pub sticky_secret: Option<Arc<[u8]>>,
}

impl Node {
    /// What this cluster writes into CDN-Loop and knows its own requests by; `None` where each process draws a name.
    pub fn loop_id(&self) -> Option<String> {
        self.cluster.as_ref().map(|name| format!("evenkeel-{name}"))
    }
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
    Https,
}

impl Protocol {
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }

    /// Whether requests are balanced rather than connections.
    pub const fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Https)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique among listeners; what a reload recognises it by.
    pub name: Arc<str>,
    pub listen: Vec<SocketAddr>,
    pub protocol: Protocol,
    /// Where everything goes that no rule takes. Listeners without rules have one.
    pub pool: Option<PoolId>,
    pub backlog: u32,
    /// Relayed connections: tcp listeners and upgraded requests.
    pub idle_timeout: Duration,
    pub access: Access,
    pub rates: Rates,
    /// Present exactly on https listeners.
    pub tls: Option<Arc<evenkeel_tls::Server>>,
    /// Read by http and https listeners only, as are the rules.
    pub http: HttpSettings,
    pub rules: Rules,
}

impl Listener {
    /// Every pool that traffic of this listener can reach, each once.
    pub fn pools(&self) -> Vec<PoolId> {
        let ruled = self.rules.iter().filter_map(|rule| match rule.action {
            Action::Pool(pool) => Some(pool),
            Action::Redirect { .. } | Action::Answer { .. } => None,
        });
        let mut pools: Vec<PoolId> = self.pool.into_iter().chain(ruled).collect();
        pools.sort_unstable_by_key(|pool| pool.index());
        pools.dedup();
        pools
    }
}

/// Who may connect. A denied address is refused even when it is allowed as well; with an empty `allow` everybody
/// else may.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    pub allow: CidrSet,
    pub deny: CidrSet,
}

/// How much a listener takes; `None` means no limit. "Client" is the client's address cut to the prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    pub connections: Option<Rate>,
    pub client_connections: Option<Rate>,
    pub requests: Option<Rate>,
    pub client_requests: Option<Rate>,
    /// Connections at once.
    pub concurrency: Option<u32>,
    pub client_concurrency: Option<u32>,
    pub ipv4_prefix: u8,
    pub ipv6_prefix: u8,
}

/// `burst` at once, `per_second` in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// To the end of the TLS handshake; read by https listeners only.
    pub handshake_timeout: Duration,
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
    /// Whether clients may speak HTTP/2: by ALPN on https listeners, with prior knowledge on http listeners.
    pub http2: bool,
    pub streams: StreamLimits,
    /// The port that plain requests are sent on to, instead of being served.
    pub redirect_to_https: Option<u16>,
    pub hsts: Option<Hsts>,
    pub compression: Option<Compression>,
}

/// What one HTTP/2 connection may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Streams at once.
    pub streams: u32,
    /// Bytes a client may send on one stream before we have passed them on.
    pub stream_window: u32,
    /// The same for all streams of a connection together.
    pub connection_window: u32,
}

/// RFC 6797.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    pub max_age: Duration,
    pub subdomains: bool,
    pub preload: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Compression {
    /// In our order of preference; a client's own order wins.
    pub codings: Vec<Coding>,
    /// Answers known to be smaller stay as they are.
    pub min_size: u64,
    /// Media types, in lower case: `text/html`, or `text/*`.
    pub types: Vec<Box<str>>,
    /// 1, fast, to 9, small; each coding takes its own scale's equivalent.
    pub level: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    Gzip,
    Br,
    Zstd,
}

impl Coding {
    pub const ALL: [Coding; 3] = [Coding::Gzip, Coding::Br, Coding::Zstd];

    pub const fn word(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
        }
    }
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
    /// What is spoken to the backends.
    pub speaks: Speaks,
    /// `None`: without TLS.
    pub tls: Option<Arc<evenkeel_tls::Client>>,
    pub sticky: Option<Sticky>,
    /// What hash schedules hash.
    pub hash_on: HashOn,
    /// Percent of the mean load at which a hash schedule passes a backend over; `None` takes no notice.
    pub bounded_load: Option<u32>,
    /// Time one attempt may take to the head of the answer while there may be another; `None`: the whole
    /// response timeout.
    pub try_timeout: Option<Duration>,
    /// When a safe request without an answer is asked of a second backend too; `None`: never.
    pub hedge_after: Option<Duration>,
    /// Requests at once at each backend; `None` is no limit.
    pub backend_limit: Option<u32>,
    /// Requests that may wait, per worker, when every backend is at its limit.
    pub queue: u32,
    pub queue_timeout: Duration,
    /// `None` when the check is off.
    pub check: Option<Arc<CheckSettings>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    Http1,
    Http2,
}

/// How a client finds its backend again (SPEC 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Sticky {
    pub mode: StickyMode,
    /// Name of the cookie.
    pub cookie: Box<str>,
    /// Age of an inserted cookie; `None`: for as long as the browser runs.
    pub max_age: Option<Duration>,
    /// How long a drained backend still gets its sticky clients.
    pub drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StickyMode {
    /// A cookie of our own.
    Insert,
    /// The backend's cookie, with our token in front of its value.
    Rewrite,
}

/// What of a request a hash schedule hashes. Where a request lacks it, the client's address is taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashOn {
    Address,
    Header(Box<str>),
    Cookie(Box<str>),
    /// Path and query.
    Uri,
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
