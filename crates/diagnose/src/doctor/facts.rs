//! What was found out about a URL, a node, its backends and this host, before anybody says what it means.
//!
//! Plain values: the binary fills them in from sockets, the admin API and `/proc`; a test writes them down. What could not
//! be found out is `None` or says why, and is never guessed. Texts that others chose are bounded before they get here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_model::Cause;

use crate::route;

/// Everything that one diagnosis rests on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub question: Question,
    /// Seconds since 1970 on this host.
    pub now: u64,
    pub name: Option<Resolution>,
    /// A connect to each address of the URL.
    pub connects: Vec<Connect>,
    /// The handshake at the URL, for https.
    pub tls: Option<Handshake>,
    /// The same request, several times, as a client sends it.
    pub through: Vec<Try>,
    pub node: Node,
    /// Why nothing is known of listeners, rules and pools; `None` where it is.
    pub no_config: Option<String>,
    pub listener: Option<Listener>,
    /// What the rules make of the request, or why they could not be asked.
    pub route: Option<Result<route::Report, String>>,
    pub pool: Option<Pool>,
    /// Those that were looked at; a large pool has more.
    pub backends: Vec<Backend>,
    pub host: Option<Host>,
}

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub url: String,
    pub scheme: Scheme,
    pub method: String,
    /// Host and port as written.
    pub authority: String,
    pub host: String,
    pub port: u16,
    /// With its query.
    pub path: String,
    /// Bytes of the head that was sent.
    pub head_bytes: usize,
    /// How long each request may take.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
    Tcp,
    Udp,
}

impl Scheme {
    pub const fn word(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => "tcp",
            Scheme::Udp => "udp",
        }
    }

    pub const fn is_http(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https)
    }
}

/// What the URL's host stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The URL has an address itself.
    Address(IpAddr),
    /// `--resolve` said so.
    Given(Vec<IpAddr>),
    Found(Vec<IpAddr>),
    /// There is no such name.
    Unknown(String),
    /// The name servers could not be asked.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub to: SocketAddr,
    /// The address it was sent from, where one was chosen; `None`: the kernel's choice.
    pub from: Option<IpAddr>,
    pub result: Result<Duration, Failure>,
}

/// One request, or for tcp one connection, from connect to end.
#[derive(Clone, Debug)]
pub struct Try {
    /// `None` where it did not come so far.
    pub connected: Option<Duration>,
    /// From the start to the head of the answer.
    pub head: Option<Duration>,
    pub whole: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Answered(Answer),
    Failed(Failure),
    /// Tcp and udp: what came, if anything.
    Relayed(Relayed),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A reset for our SYN, or an ICMP port unreachable for our datagram.
    Refused,
    /// No answer to our SYN.
    NoAnswerToSyn,
    /// The network says no: no route, host unreachable, a firewall that rejects.
    Unreachable {
        errno: i32,
        text: String,
    },
    Tls(String),
    /// After the request, before any byte of an answer.
    Reset,
    Closed,
    /// Nothing within the time we gave.
    Silent,
    /// A head that does not end within what we read.
    HeadEndless {
        bytes: usize,
    },
    NotHttp {
        begins: Begins,
    },
    /// Something of this host: no permission, no file descriptors.
    Here(String),
}

/// What an answer that is no HTTP begins like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    Tls,
    Ssh,
    Http2,
    /// HTTP/0.9 and the like: a page without a head.
    Markup,
    Other(String),
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub head_bytes: usize,
    pub body_bytes: u64,
    /// Of the bytes that were read.
    pub body_hash: u64,
    pub end: End,
    pub looks: Looks,
    /// What the balancer's own parser says against the head, by its cause and detail.
    pub refused: Option<(Cause, String)>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How a body came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Whole,
    /// Closed before as many bytes had come as were promised, or before the last chunk.
    Short,
    Reset,
    /// Nothing more within the time we gave.
    Stalled,
    BrokenChunks,
    /// Longer than we read; nothing is known of its end.
    NotReadOn,
}

/// Who seems to have written the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Looks {
    #[default]
    Other,
    Empty,
    /// An error page that nginx makes itself.
    NginxError,
    ApacheError,
    PhpError,
    /// "The plain HTTP request was sent to HTTPS port", in one server's words or another's.
    WantsTls,
    /// What php-fpm says of a script that is not there: it runs, and has a worker.
    PhpNotFound,
    /// Our own explanation of a failure.
    Evenkeel,
    Markup,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// The connection stayed; nobody said anything.
    Quiet,
    Said(usize),
    ClosedAtOnce,
    ResetAtOnce,
}

/// A handshake whose certificates were recorded, whatever they are worth.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// Asked for by SNI; none with an address.
    pub name: Option<String>,
    pub took: Duration,
    pub version: Option<String>,
    /// Leaf first.
    pub chain: Vec<Certificate>,
    /// Why a client that verifies would refuse, in the verifier's words.
    pub untrusted: Option<String>,
    /// Why there was no handshake at all.
    pub failed: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

#[derive(Clone, Debug, Default)]
pub enum Node {
    #[default]
    NotAsked,
    /// Where it was looked for, and what came of it.
    Absent {
        place: String,
        why: String,
    },
    Answered(Box<Told>),
}

/// What the node says of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub place: String,
    pub version: String,
    /// Seconds since 1970 by the node's clock, when it answered.
    pub time: Option<u64>,
    pub started: String,
    pub generation: u64,
    pub suspects_itself_since: Option<String>,
    pub probe_lateness_p99_ms: f64,
    /// It is this host's, so that what is read here is read where it runs.
    pub is_here: bool,
    /// The file on disk is not what runs.
    pub config_differs: bool,
    /// The last events, newest first: time and line.
    pub events: Vec<(String, String)>,
    /// Failures of the asked listener so far, by cause.
    pub causes: Vec<(String, u64)>,
}

#[derive(Clone, Debug, Default)]
pub struct Listener {
    pub name: String,
    pub protocol: String,
    pub listen: Vec<String>,
    pub header_limit: usize,
    pub has_access_list: bool,
    pub silent_refusal: bool,
    /// `[listener.limit]` in words, one for each that is set.
    pub limits: Vec<String>,
    /// Only senders of PROXY headers are expected from some addresses.
    pub expects_proxy: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    pub backends: usize,
    /// As the node says: why it offers nobody.
    pub refusal: Option<String>,
    pub panic: bool,
    pub connect_timeout: Duration,
    /// In force for this request: the rule's, or the pool's.
    pub response_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub retries: u32,
    pub backend_limit: Option<u32>,
    pub header_limit: usize,
    pub tls: bool,
    pub tls_verify: bool,
    /// HTTP/2 is spoken to its backends, so that nothing was sent to them straight.
    pub http2: bool,
    pub sends_proxy: bool,
    pub transparent: bool,
    pub sources: Vec<IpAddr>,
    pub checks: Vec<Check>,
    pub passive: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Check {
    pub name: String,
    pub kind: String,
    /// Of an http check.
    pub request: Option<(String, String)>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub sources: Vec<IpAddr>,
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pub address: SocketAddr,
    /// What the node says of it.
    pub standing: Option<Standing>,
    /// Its port and those of the checks, from the kernel's choice of address and from those that probes and traffic use.
    pub connects: Vec<Connect>,
    /// Whether the host answers an echo request; `None`: not asked.
    pub echo: Option<bool>,
    pub tls: Option<Handshake>,
    /// The request as the balancer would write it.
    pub straight: Vec<Try>,
    /// The request of its http check.
    pub probe: Option<ProbeLike>,
    /// The request for a script beside it that is not there: whether the application runs at all.
    pub neighbour: Option<Try>,
    /// The request with another Host: the check's, where it differs.
    pub other_host: Option<(String, Try)>,
    /// The listener of this very balancer that has the same address.
    pub is_listener: Option<String>,
}

impl Backend {
    pub const fn new(address: SocketAddr) -> Self {
        Backend {
            address,
            standing: None,
            connects: Vec::new(),
            echo: None,
            tls: None,
            straight: Vec::new(),
            probe: None,
            neighbour: None,
            other_host: None,
            is_listener: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProbeLike {
    pub method: String,
    pub path: String,
    pub host: Option<String>,
    pub seen: Try,
    /// Whether the check would take that for a pass.
    pub passes: bool,
}

/// A backend in the node's words.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub verdict: String,
    pub since: String,
    pub order: String,
    pub ejected_until: Option<String>,
    pub weight: u64,
    pub effective_weight: u64,
    pub in_flight: u64,
    pub checks: Vec<CheckStanding>,
}

#[derive(Clone, Debug, Default)]
pub struct CheckStanding {
    pub name: String,
    pub verdict: String,
    /// Newest first.
    pub recent: Vec<Finding>,
}

#[derive(Clone, Debug, Default)]
pub struct Finding {
    pub started: String,
    pub result: String,
    pub phase: Option<String>,
    pub reason: Option<String>,
    pub status: Option<u16>,
    pub text: String,
}

/// Settings and counters of the kernel on this host; `None` where they could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The stricter of `all` and the interface's own, by interface.
    pub rp_filter: Vec<(String, u64)>,
    pub accept_queue: Option<u64>,
    pub abort_on_overflow: Option<u64>,
    pub reuse_time_wait: Option<u64>,
    /// Since the host came up.
    pub listen_overflows: Option<u64>,
    pub listen_drops: Option<u64>,
    /// Since the diagnosis began.
    pub overflows_meanwhile: Option<u64>,
    pub source_ports: Option<(u16, u16)>,
    /// Connections that use a port of that range, TIME_WAIT included.
    pub ports_in_use: Option<u64>,
    pub conntrack: Option<(u64, u64)>,
    /// Of the node's process, where it was found: open files and its limit.
    pub files: Option<(u64, u64)>,
    /// File handles of the whole host, and their limit.
    pub files_of_host: Option<(u64, u64)>,
    /// Bytes of memory free for use, and in all.
    pub memory: Option<(u64, u64)>,
    /// Load of the last minute times 100, and CPUs.
    pub load: Option<(u64, u64)>,
}
