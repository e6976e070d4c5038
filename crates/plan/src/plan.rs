//! The compiled configuration: indices instead of names, defaults filled in, nothing left to check.
//!
//! Plain values that can be compared, since a reload is the difference of two. No config type is in it: the hot path
//! must not know how a file looks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{CheckSettings, PassiveSettings};
use evenkeel_model::{BackendId, Cidr, CidrSet, PoolId, TargetId, limits};

use crate::beside::{Hook, NameAsked, Resolver, StateFile, Traces};
use crate::hsts::Hsts;
use crate::names::Names;
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
    /// Names that backends are asked of, each once, in order.
    pub names: Vec<NameAsked>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Workers to start; 0 means one per CPU.
    pub workers: usize,
    /// Client connections at once; 0 derives it from the file limit.
    pub connections: usize,
    pub drain_timeout: Duration,
    /// After SIGTERM the node is not ready and goes on for so long before it drains.
    pub shutdown_delay: Duration,
    /// Reload when a file has other content.
    pub watch: bool,
    pub access_log: AccessLog,
    /// Name this cluster signs CDN-Loop with; a random one per process when `None`.
    pub cluster: Option<Arc<str>>,
    /// What sticky cookies are authenticated with; a random one per process when `None`.
    pub sticky_secret: Option<Arc<[u8]>>,
    /// How long at most verdicts are kept from turning unhealthy while the node suspects itself; `None`: never.
    pub hold_on_suspicion: Option<Duration>,
    /// `None`: nothing is kept over a restart.
    pub state: Option<StateFile>,
    pub hooks: Vec<Hook>,
    pub resolver: Resolver,
    /// Exchanges that take longer are kept with the failed ones; `None`: only those.
    pub slow_request: Option<Duration>,
    /// How many are kept.
    pub kept_requests: usize,
    /// `None`: nothing is traced.
    pub traces: Option<Traces>,
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

/// At least one of address and socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    pub listen: Option<SocketAddr>,
    /// A socket in the file system. Whoever may open it may operate.
    pub socket: Option<PathBuf>,
    /// Who may come to `listen`. Everybody, where there are none.
    pub tokens: Vec<AdminToken>,
    /// TLS on `listen`.
    pub tls: Option<Arc<evenkeel_tls::Server>>,
}

/// Something that opens the admin address, known by its digest alone.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Stands in events: who gave an order.
    pub name: Arc<str>,
    pub role: Role,
    pub sha256: [u8; 32],
}

/// Who can guess may try digests too, so they are shown nowhere.
impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.role.word())
    }
}

/// What somebody may do at the admin address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Look, give orders and change the config.
    Operate,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Read, Role::Operate];

    pub const fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    /// TLS that is not ended here: where it goes is read from the client's first message.
    TlsPassthrough,
    Http,
    Https,
}

impl Protocol {
    pub const ALL: [Protocol; 5] =
        [Protocol::Tcp, Protocol::Udp, Protocol::TlsPassthrough, Protocol::Http, Protocol::Https];

    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::TlsPassthrough => "tls-passthrough",
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }

    /// Whether requests are balanced rather than connections.
    pub const fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Https)
    }

    /// Whether a client opens a TCP connection.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Protocol::Udp)
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
    /// Relayed connections (tcp and tls-passthrough listeners, upgraded requests) and UDP sessions.
    pub idle_timeout: Duration,
    /// Longest life of a relayed connection or UDP session; `None`: as long as it is used.
    pub lifetime: Option<Duration>,
    /// Time for what must come before a connection can be served: PROXY header, ClientHello, request head.
    pub header_timeout: Duration,
    pub access: Access,
    pub rates: Rates,
    /// What becomes of connections that are turned away where no status can be sent.
    pub refuse: Refuse,
    /// Senders of PROXY headers. Their connections must begin with one, nobody else's may.
    pub proxies: CidrSet,
    pub tcp: ListenerTcp,
    /// Read by udp listeners only.
    pub datagrams: Datagrams,
    /// Read by tls-passthrough listeners only.
    pub names: Names,
    /// Present exactly on https listeners.
    pub tls: Option<Arc<evenkeel_tls::Server>>,
    /// Read by http and https listeners only, as are the rules.
    pub http: HttpSettings,
    pub rules: Rules,
}

impl Listener {
    /// One that listens nowhere yet, with every setting as it is when the config leaves it out.
    pub fn with_defaults(name: &str, protocol: Protocol) -> Self {
        let idle_timeout = match protocol {
            Protocol::Udp => limits::UDP_IDLE_TIMEOUT.default,
            Protocol::Tcp | Protocol::TlsPassthrough | Protocol::Http | Protocol::Https => {
                limits::LISTENER_IDLE_TIMEOUT.default
            }
        };
        Listener {
            name: name.into(),
            listen: Vec::new(),
            protocol,
            pool: None,
            backlog: limits::LISTENER_BACKLOG.default as u32,
            idle_timeout,
            lifetime: None,
            header_timeout: limits::HEADER_TIMEOUT.default,
            access: Access::default(),
            rates: Rates::default(),
            refuse: Refuse::default(),
            proxies: CidrSet::default(),
            tcp: ListenerTcp::default(),
            datagrams: Datagrams::default(),
            names: Names::default(),
            tls: None,
            http: HttpSettings::default(),
            rules: Rules::default(),
        }
    }

    /// Every pool that traffic of this listener can reach, each once.
    pub fn pools(&self) -> Vec<PoolId> {
        let ruled = self.rules.iter().filter_map(|rule| match rule.action {
            Action::Pool(pool) => Some(pool),
            Action::Redirect { .. } | Action::Answer { .. } => None,
        });
        let mut pools: Vec<PoolId> = self.pool.into_iter().chain(ruled).chain(self.names.pools()).collect();
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refuse {
    /// The client learns at once.
    #[default]
    Reset,
    /// The client learns nothing and waits for its own timeout.
    Silence,
}

/// How the kernel treats the connections of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerTcp {
    pub socket: SocketTcp,
    /// Connections that may wait with data in their SYN (RFC 7413); 0 is off.
    pub fast_open: u32,
    /// Clients are accepted only when they have sent something, or after this time.
    pub defer_accept: Option<Duration>,
}

/// How the kernel finds out that the other side is gone; `None` leaves it to the timeouts above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketTcp {
    /// Time of quiet before the kernel asks whether the other side is still there.
    pub keepalive: Option<Duration>,
    /// Longest time that sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// When a UDP session is over before its idle timeout: after so many datagrams of either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    pub requests: Option<u32>,
    pub responses: Option<u32>,
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

impl Default for Rates {
    fn default() -> Self {
        Rates {
            connections: None,
            client_connections: None,
            requests: None,
            client_requests: None,
            concurrency: None,
            client_concurrency: None,
            ipv4_prefix: limits::IPV4_PREFIX.default as u8,
            ipv6_prefix: limits::IPV6_PREFIX.default as u8,
        }
    }
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

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            handshake_timeout: limits::HANDSHAKE_TIMEOUT.default,
            keep_alive_timeout: limits::KEEP_ALIVE_TIMEOUT.default,
            body_timeout: limits::CLIENT_BODY_TIMEOUT.default,
            header_limit: limits::HEADER_LIMIT.default as usize,
            body_limit: limits::BODY_LIMIT.default,
            trusted: Vec::new(),
            x_forwarded: true,
            forwarded: false,
            http2: true,
            streams: StreamLimits {
                streams: limits::STREAMS.default as u32,
                stream_window: limits::STREAM_WINDOW.default as u32,
                connection_window: limits::STREAMS_WINDOW.default as u32,
            },
            redirect_to_https: None,
            hsts: None,
            compression: None,
        }
    }
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
    /// Stickiness by client address: tcp, tls-passthrough and udp listeners.
    pub affinity: Option<Affinity>,
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
    /// Where connections and datagrams to the backends come from.
    pub source: Source,
    /// What the backends are told of the client before its first byte.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What becomes of established connections when their backend's verdict falls.
    pub on_unhealthy: OnUnhealthy,
    /// Of the connections to the backends.
    pub tcp: SocketTcp,
    /// Percent of the pool's weight that may be used; below it new work goes to every backend that is neither drained nor
    /// in maintenance, whatever else is known of it. `None`: never.
    pub panic_below: Option<u32>,
    /// When traffic speaks against a backend; `None`: never.
    pub passive: Option<Arc<PassiveSettings>>,
    /// A backend must pass all of them; empty when they are off.
    pub checks: Vec<Check>,
}

impl Pool {
    /// One without backends and checks, with every setting as it is when the config leaves it out.
    pub fn with_defaults(name: &str) -> Self {
        Pool {
            name: name.into(),
            schedule: Schedule::default(),
            first_backend: BackendId(0),
            backend_count: 0,
            connect_timeout: limits::CONNECT_TIMEOUT.default,
            response_timeout: limits::RESPONSE_TIMEOUT.default,
            body_timeout: limits::BACKEND_BODY_TIMEOUT.default,
            idle_timeout: limits::BACKEND_IDLE_TIMEOUT.default,
            idle_connections: limits::BACKEND_IDLE_CONNECTIONS.default as usize,
            retries: limits::RETRIES.default as u32,
            retry_budget: limits::RETRY_BUDGET.default as u32,
            slow_start: limits::SLOW_START.default,
            speaks: Speaks::Http1,
            tls: None,
            sticky: None,
            affinity: None,
            hash_on: HashOn::Address,
            bounded_load: None,
            try_timeout: None,
            hedge_after: None,
            backend_limit: None,
            queue: limits::QUEUE.default as u32,
            queue_timeout: limits::QUEUE_TIMEOUT.default,
            source: Source::default(),
            proxy_protocol: None,
            on_unhealthy: OnUnhealthy::default(),
            tcp: SocketTcp::default(),
            panic_below: None,
            passive: None,
            checks: Vec::new(),
        }
    }
}

/// Where connections and datagrams to backends come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The kernel's choice.
    #[default]
    Kernel,
    /// One after the other, of the backend's family.
    Own(Arc<[IpAddr]>),
    /// The client's own address (`IP_TRANSPARENT`).
    Client,
}

/// The PROXY protocol towards backends, by the specification of HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProxyProtocol {
    pub version: ProxyVersion,
    /// TLVs of version 2. Each is sent when it is known.
    pub authority: bool,
    pub alpn: bool,
    pub unique_id: bool,
    pub datagrams: ProxyDatagrams,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// Which datagrams of a UDP session carry a PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyDatagrams {
    #[default]
    First,
    Each,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnhealthy {
    /// They go on (SPEC 4.3).
    #[default]
    Keep,
    Reset,
}

/// A client, its address cut to the prefix, stays with its backend for as long after its last connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Affinity {
    pub timeout: Duration,
    pub ipv4_prefix: u8,
    pub ipv6_prefix: u8,
    /// How long a drained backend still gets its sticky clients.
    pub drain_timeout: Duration,
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
    /// What QUIC connection ids of this backend carry behind their first byte; see `Schedule::QuicCid`.
    pub server_id: Option<Box<[u8]>>,
    /// What it rests on, one for each of the pool's checks and in their order.
    pub targets: Box<[TargetId]>,
}

/// One of the checks of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Unique in its pool. What is probed is known by its settings; the name is for people, and for a reload to see that
    /// this is the same check with other settings.
    pub name: Arc<str>,
    pub settings: Arc<CheckSettings>,
}

/// One (address, port, settings) that is probed once, however many backends rest on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The backend's address with the check's port.
    pub address: SocketAddr,
    pub check: Arc<CheckSettings>,
}

impl Backend {
    /// One without a check.
    pub fn new(pool: PoolId, address: SocketAddr, weight: u32) -> Self {
        Backend { pool, address, weight, server_id: None, targets: Box::default() }
    }
}

impl Plan {
    pub fn backends_of(&self, pool: PoolId) -> impl Iterator<Item = (BackendId, &Backend)> {
        let pool = &self.pools[pool.index()];
        let first = pool.first_backend.index();
        let range = first..first + pool.backend_count as usize;
        range.map(|index| (BackendId::from_index(index), &self.backends[index]))
    }
}
