//! A config after reading: typed, every value valid by itself, defaults filled in, places kept.
//!
//! Nothing here knows of anything else: that a pool exists, or that two listeners want one address,
//! is for [`crate::relations`] to say. A value that could not be read is `None` and was noted; later
//! checks pass over it rather than complain twice.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::PassiveSettings;
use evenkeel_model::Cidr;
use evenkeel_plan::{
    AccessLog, Coding, HashOn, HookOn, HookTo, HostPattern, ListenerTcp, NameAsked, OnUnhealthy, Protocol,
    ProxyDatagrams, ProxyVersion, Refuse, Role, SocketTcp, Speaks, StickyMode,
};
use evenkeel_tls::Policy;

use crate::keys::Key;

mod check;

pub(crate) use check::{Check, CheckTls, DnsKeys, HttpKeys, UdpKeys};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Config {
    pub node: Node,
    pub admin: Admin,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub workers: u64,
    pub connections: u64,
    pub drain_timeout: Duration,
    pub shutdown_delay: Duration,
    pub watch: bool,
    pub access_log: AccessLog,
    pub cluster: Option<String>,
    pub sticky_secret: Option<At<String>>,
    pub allow_commands: bool,
    /// An absolute path.
    pub state_file: Option<At<String>>,
    pub state_max_age: Duration,
    pub hold_on_suspicion: Option<Duration>,
    pub hooks: Vec<Hook>,
    pub resolver: Resolver,
    pub slow_request: Option<Duration>,
    pub kept_requests: u64,
    pub traces: Option<Traces>,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct Admin {
    /// `None` when it is off.
    pub listen: Option<At<SocketAddr>>,
    /// An absolute path.
    pub socket: Option<At<String>>,
    pub tokens: Vec<AdminToken>,
    /// Whether there are tokens, read or not.
    pub tokens_written: bool,
    pub certificates: Vec<Certificate>,
    /// Whether there are certificates, read or not.
    pub certificates_written: bool,
}

#[derive(Debug)]
pub(crate) struct AdminToken {
    pub label: String,
    pub head: Range<usize>,
    pub name: At<String>,
    pub role: Role,
    pub of: TokenOf,
}

/// Where the digest of a token comes from.
#[derive(Debug)]
pub(crate) enum TokenOf {
    Sha256([u8; 32]),
    /// The token itself stands there.
    File(File),
}

#[derive(Debug)]
pub(crate) struct Hook {
    pub head: Range<usize>,
    /// `None` when it could not be read.
    pub to: Option<HookTo>,
    pub on: HookOn,
    pub timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Traces {
    /// `None` when it could not be read.
    pub url: Option<String>,
    pub per_million: u32,
    pub service: String,
    pub timeout: Duration,
    pub trust_traceparent: bool,
}

#[derive(Debug)]
pub(crate) struct Resolver {
    pub head: Range<usize>,
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    pub written: Written,
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
    pub lifetime: Option<Duration>,
    pub requests: Option<At<u64>>,
    pub responses: Option<At<u64>>,
    pub keep_alive_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub header_limit: u64,
    pub body_limit: u64,
    pub trusted: Vec<At<Cidr>>,
    pub x_forwarded: bool,
    pub forwarded: bool,
    pub certificates: Vec<Certificate>,
    /// Whether a certificate was written that could not be read.
    pub certificates_incomplete: bool,
    pub tls: ListenerTls,
    pub redirect_to_https: Option<At<u16>>,
    pub hsts: Option<Hsts>,
    pub http2: Http2,
    pub access: Access,
    pub refuse: Refuse,
    pub tcp: ListenerTcp,
    /// Where `tcp.defer_accept` stands.
    pub defer_accept: Option<Range<usize>>,
    /// `None` when nobody sends PROXY headers.
    pub proxies: Option<Vec<At<Cidr>>>,
    pub limit: Limit,
    pub compression: Option<Compression>,
    pub rules: Vec<Rule>,
    pub written: Written,
}

/// A path, as it is written.
pub(crate) type File = At<String>;

#[derive(Debug)]
pub(crate) struct Certificate {
    pub certificate: File,
    pub key: File,
    pub ocsp: Option<File>,
}

#[derive(Debug)]
pub(crate) struct ListenerTls {
    pub policy: Policy,
    pub client_ca: Option<File>,
    pub client_certificate: ClientCertificate,
    pub handshake_timeout: Duration,
    pub tickets: bool,
    pub written: Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    Required,
    Optional,
}

#[derive(Debug)]
pub(crate) struct Hsts {
    pub max_age: Duration,
    pub subdomains: bool,
    /// Its place, when it is on.
    pub preload: Option<Range<usize>>,
}

#[derive(Debug)]
pub(crate) struct Http2 {
    pub enabled: bool,
    pub streams: u64,
    pub stream_window: u64,
    pub connection_window: u64,
    pub written: Written,
}

#[derive(Debug, Default)]
pub(crate) struct Access {
    pub allow: Vec<At<Cidr>>,
    pub deny: Vec<At<Cidr>>,
    pub allow_files: Vec<File>,
    pub deny_files: Vec<File>,
}

#[derive(Debug)]
pub(crate) struct Limit {
    pub connections_per_second: Option<Rate>,
    pub client_connections_per_second: Option<Rate>,
    pub requests_per_second: Option<Rate>,
    pub client_requests_per_second: Option<Rate>,
    pub connections: Option<At<u64>>,
    pub client_connections: Option<At<u64>>,
    pub ipv4_prefix: u64,
    pub ipv6_prefix: u64,
    pub written: Written,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub rate: u64,
    pub burst: u64,
}

#[derive(Debug)]
pub(crate) struct Compression {
    pub codings: Vec<Coding>,
    pub min_size: u64,
    pub types: Vec<String>,
    pub level: u64,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Request,
    /// The greeting of TLS, on tls-passthrough listeners.
    Hello,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub asks: Asks,
    /// `listener "web" rule "api"`.
    pub label: String,
    pub head: Range<usize>,
    pub name: Option<At<String>>,
    pub hosts: Vec<At<HostPattern>>,
    /// Whether a host or condition was written that could not be read; what the rule takes is then unknown.
    pub incomplete: bool,
    pub path: String,
    pub methods: Vec<String>,
    /// By name.
    pub headers: Vec<HeaderCondition>,
    /// Sorted.
    pub alpn: Vec<String>,
    pub action: Option<Action>,
    pub rewrite_path: Option<At<String>>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub response_timeout: Option<At<Duration>>,
    pub body_timeout: Option<At<Duration>>,
    pub try_timeout: Option<At<Duration>>,
    pub retries: Option<At<u64>>,
    pub written: Written,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeaderCondition {
    /// In lower case.
    pub name: String,
    /// `None`: any.
    pub value: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Pool(At<String>),
    Redirect { to: At<String>, status: u16 },
    Answer { status: u16, body: String, content_type: String },
}

#[derive(Debug, Default)]
pub(crate) struct HeaderEdits {
    pub remove: Vec<At<String>>,
    pub set: Vec<(At<String>, String)>,
    pub add: Vec<(At<String>, String)>,
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub label: String,
    pub head: Range<usize>,
    pub name: Option<At<String>>,
    pub schedule: Schedule,
    /// Whether a schedule was written that could not be read.
    pub schedule_unreadable: bool,
    pub hash_on: HashOn,
    pub bounded_load: Option<u64>,
    pub speaks: Speaks,
    pub tls: Option<PoolTls>,
    pub panic_below: Option<At<u64>>,
    pub backends: Vec<Backend>,
    /// Entries that stand for as many backends as their names have answers.
    pub names: Vec<NamedBackends>,
    /// Whether an entry of `backends` could not be read.
    pub backends_incomplete: bool,
    pub source: Option<Sources>,
    /// Its place, when it is on.
    pub transparent: Option<Range<usize>>,
    pub proxy_protocol: Option<ProxyTo>,
    pub on_unhealthy: OnUnhealthy,
    pub tcp: SocketTcp,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub idle_connections: u64,
    pub retries: u64,
    pub retry_budget: u64,
    pub try_timeout: Option<At<Duration>>,
    pub hedge_after: Option<At<Duration>>,
    pub backend_limit: Option<u64>,
    pub queue: u64,
    pub queue_timeout: Duration,
    pub slow_start: Duration,
    pub sticky: Option<Sticky>,
    pub passive: Option<Passive>,
    /// None when they are off.
    pub checks: Vec<Check>,
    /// Whether a check was written that is no table.
    pub checks_incomplete: bool,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct Backend {
    pub address: At<SocketAddr>,
    pub weight: u64,
    pub server_id: Option<At<Vec<u8>>>,
}

#[derive(Debug)]
pub(crate) struct NamedBackends {
    pub asked: At<NameAsked>,
    pub weight: u64,
    /// How many entries with addresses stand before it.
    pub position: usize,
    /// As problems call it.
    pub label: String,
}

/// Addresses of this host, or prefixes that stand for those of them that lie inside.
pub(crate) type Sources = Vec<At<Cidr>>;

#[derive(Debug)]
pub(crate) struct ProxyTo {
    /// Where it stands.
    pub span: Range<usize>,
    /// `None` when it could not be read.
    pub version: Option<ProxyVersion>,
    pub tlvs: Vec<At<Tlv>>,
    pub datagrams: ProxyDatagrams,
    pub written: Written,
}

/// Facts that a PROXY header of version 2 may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tlv {
    Authority,
    Alpn,
    UniqueId,
}

impl Tlv {
    pub(crate) const ALL: [Tlv; 3] = [Tlv::Authority, Tlv::Alpn, Tlv::UniqueId];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Tlv::Authority => "authority",
            Tlv::Alpn => "alpn",
            Tlv::UniqueId => "unique_id",
        }
    }
}

#[derive(Debug)]
pub(crate) struct PoolTls {
    pub head: Range<usize>,
    pub name: Option<At<String>>,
    pub ca: Option<File>,
    /// Its place, when it is written.
    pub verify: At<bool>,
    pub certificate: Option<File>,
    pub key: Option<File>,
}

#[derive(Debug)]
pub(crate) struct Passive {
    pub settings: PassiveSettings,
    pub written: Written,
}

#[derive(Debug)]
pub(crate) struct Sticky {
    pub head: Range<usize>,
    pub by: StickyBy,
    pub drain_timeout: Duration,
    pub written: Written,
}

/// What a client is known by.
#[derive(Debug)]
pub(crate) enum StickyBy {
    Cookie {
        mode: StickyMode,
        /// `None` when it could not be read.
        cookie: Option<String>,
        max_age: Option<At<Duration>>,
    },
    Address {
        timeout: Duration,
        ipv4_prefix: u64,
        ipv6_prefix: u64,
    },
    /// A word was written that is none.
    Unreadable,
}

impl Sticky {
    pub(crate) const fn is_by_cookie(&self) -> bool {
        matches!(self.by, StickyBy::Cookie { .. })
    }

    pub(crate) const fn is_by_address(&self) -> bool {
        matches!(self.by, StickyBy::Address { .. })
    }
}
