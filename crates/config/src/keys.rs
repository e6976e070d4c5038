//! Every key of a config, once: where it stands, what it takes, what it is when left out, and why.
//!
//! The reader may only ask for keys of this table and refuses what is not in it; the manual prints
//! it. Numbers stay in [`evenkeel_model::limits`]; a row here points to them.

use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_model::limits::{self, Setting};

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Top,
    Node,
    Admin,
    Listener,
    Pool,
    Backend,
    Check,
}

impl Section {
    pub(crate) const ALL: [Section; 7] = [
        Section::Top,
        Section::Node,
        Section::Admin,
        Section::Listener,
        Section::Pool,
        Section::Backend,
        Section::Check,
    ];

    /// As TOML writes it.
    pub(crate) const fn header(self) -> &'static str {
        match self {
            Section::Top => "the file itself",
            Section::Node => "[node]",
            Section::Admin => "[admin]",
            Section::Listener => "[[listener]]",
            Section::Pool => "[[pool]]",
            Section::Backend => "backends of [[pool]]",
            Section::Check => "[pool.check]",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Section::Top => "The tables a config is made of.",
            Section::Node => "The process as a whole.",
            Section::Admin => "The port for operators and machines: status, readiness, metrics.",
            Section::Listener => {
                "An address, a protocol, and what happens to what arrives there. One table for each listener."
            }
            Section::Pool => {
                "A named set of backends with a schedule and a check. One table for each pool. \
                 `backends` is a list; each entry is a string `\"10.0.0.11:8080\"` or a table with the keys of the next section."
            }
            Section::Backend => "One server of a pool, when it needs more than an address.",
            Section::Check => {
                "How backends are probed and judged. Left out, every setting has its default. `check = \"off\"` in the \
                 pool turns probing off; the backends then take traffic without a verdict."
            }
        }
    }

    pub(crate) fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.section == self)
    }

    pub(crate) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

#[derive(Debug)]
pub(crate) struct Key {
    pub section: Section,
    pub name: &'static str,
    pub kind: Kind,
    /// When left out. For numbers the setting knows.
    pub default: LeftOut,
    pub only: Only,
    /// For numbers the setting knows.
    pub about: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string with a unit. Checks of kind udp have a setting of their own.
    Duration {
        setting: &'static Setting<Duration>,
        udp: Option<&'static Setting<Duration>>,
    },
    /// A string with a unit.
    Size(&'static Setting<u64>),
    Count(&'static Setting<u64>),
    Flag,
    Words(&'static [Word]),
    /// Anything else; says in words what the reader accepts.
    Other(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub word: &'static str,
    pub means: &'static str,
    pub status: WordStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordStatus {
    Works,
    /// A word of the contract that this version cannot do.
    Later,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum LeftOut {
    Required,
    Text(&'static str),
    Flag(bool),
    /// In words.
    Is(&'static str),
    OfSetting,
}

/// Where a key has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    Everywhere,
    /// Listeners with `protocol = "http"`.
    HttpListener,
    /// Pools that an http listener uses.
    HttpPool,
    HttpCheck,
    TcpCheck,
    UdpCheck,
}

const fn works(word: &'static str, means: &'static str) -> Word {
    Word { word, means, status: WordStatus::Works }
}

const fn later(word: &'static str) -> Word {
    Word { word, means: "", status: WordStatus::Later }
}

pub(crate) const PROTOCOLS: &[Word] = &[
    works("tcp", "relays connections without looking into them"),
    works("http", "balances HTTP/1.1 requests"),
    later("https"),
    later("udp"),
    later("tls-passthrough"),
];

pub(crate) const SCHEDULES: &[Word] = &[
    works(Schedule::Wrr.word(), "smooth weighted round robin"),
    works(Schedule::Rr.word(), "round robin; weights are ignored, except that 0 still means none"),
    works(Schedule::Wlc.word(), "least work in flight relative to weight"),
    works(Schedule::P2c.word(), "the less loaded of two drawn by weight"),
    works(Schedule::Source.word(), "consistent hash of the client's address"),
    later("tuple"),
    later("maglev"),
    later("quic-cid"),
];

pub(crate) const CHECK_KINDS: &[Word] = &[
    works("http", "one request; the status decides"),
    works("tcp", "one SYN; the SYN+ACK decides"),
    works("udp", "one datagram; an ICMP refusal or a wrong answer fails"),
    later("tls"),
    later("grpc"),
    later("command"),
    later("agent"),
];

pub(crate) const HANDSHAKES: &[Word] = &[
    works("half-open", "SYN, SYN+ACK, RST: the application never sees a connection"),
    works("full", "SYN, SYN+ACK, ACK, RST: the application may log a reset"),
];

pub(crate) const SILENCES: &[Word] = &[
    works("pass", "silence passes, as a udp service that only listens would be silent"),
    works("fail", "silence fails"),
    works("keep", "silence changes nothing: verdict and run stay as they are"),
];

const fn number(section: Section, name: &'static str, kind: Kind, only: Only) -> Key {
    Key { section, name, kind, default: LeftOut::OfSetting, only, about: "" }
}

const fn duration(setting: &'static Setting<Duration>) -> Kind {
    Kind::Duration { setting, udp: None }
}

const fn key(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: LeftOut,
    only: Only,
    about: &'static str,
) -> Key {
    Key { section, name, kind, default, only, about }
}

use Kind::{Count, Flag, Other, Size, Words};
use LeftOut::{Is, Required, Text};
use Only::{Everywhere, HttpCheck, HttpListener, HttpPool, TcpCheck, UdpCheck};
use Section::{Admin, Backend, Check, Listener, Node, Pool, Top};

/// In the order of the manual.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key(Top, "node", Other("table"), Is("all defaults"), Everywhere, "See `[node]`."),
    key(Top, "admin", Other("table"), Is("all defaults"), Everywhere, "See `[admin]`."),
    key(Top, "listener", Other("list of tables"), Required, Everywhere, "See `[[listener]]`. At least one: without it nothing can arrive."),
    key(Top, "pool", Other("list of tables"), Is("none"), Everywhere, "See `[[pool]]`."),

    number(Node, "workers", Count(limits::WORKERS), Everywhere),
    number(Node, "connections", Count(limits::CONNECTIONS), Everywhere),
    number(Node, "drain_timeout", duration(limits::DRAIN_TIMEOUT), Everywhere),
    key(Node, "access_log", Other("`\"off\"`, `\"stdout\"` or a path with a `/`"), Text("stdout"), Everywhere, "Where one JSON line for each request and each tcp connection goes. A path has a `/`, so that a misspelt word does not become a file."),
    key(Node, "cluster", Other("name of letters, digits and `!#$%&'*+-.^_|~`"), Is("a random name for each process"), Everywhere, "Name signed into CDN-Loop. Nodes that share it refuse a request that one of them has forwarded before, which is how loops over several nodes are found."),

    key(Admin, "listen", Other("`\"address:port\"` or `\"off\"`"), Text(limits::ADMIN_LISTEN), Everywhere, "Loopback by default: there is no authentication in this version, so whoever reaches the port can read everything it shows."),

    key(Listener, "name", Other("name"), Is("its first address"), Everywhere, "Unique. Logs, metrics and a reload know the listener by it."),
    key(Listener, "listen", Other("`\"address:port\"` or a list of them"), Required, Everywhere, "`0.0.0.0` is every IPv4 address of the host, `[::]` every IPv6 address; list both for both."),
    key(Listener, "protocol", Words(PROTOCOLS), Text("http"), Everywhere, "What is spoken on the listener."),
    key(Listener, "pool", Other("name of a pool"), Required, Everywhere, "Where everything that arrives goes."),
    number(Listener, "backlog", Count(limits::LISTENER_BACKLOG), Everywhere),
    number(Listener, "idle_timeout", duration(limits::LISTENER_IDLE_TIMEOUT), Everywhere),
    number(Listener, "keep_alive_timeout", duration(limits::KEEP_ALIVE_TIMEOUT), HttpListener),
    number(Listener, "header_timeout", duration(limits::HEADER_TIMEOUT), HttpListener),
    number(Listener, "body_timeout", duration(limits::CLIENT_BODY_TIMEOUT), HttpListener),
    number(Listener, "header_limit", Size(limits::HEADER_LIMIT), HttpListener),
    number(Listener, "body_limit", Size(limits::BODY_LIMIT), HttpListener),
    key(Listener, "trusted", Other("list of `\"address/length\"`"), Is("`[]`"), HttpListener, "Proxies in front of this listener. From them, `X-Forwarded-*` and `Forwarded` are believed and extended; from anybody else they are replaced, since any client can write them."),
    key(Listener, "x_forwarded", Flag, LeftOut::Flag(true), HttpListener, "Whether backends get `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `X-Real-IP`."),
    key(Listener, "forwarded", Flag, LeftOut::Flag(false), HttpListener, "Whether backends get RFC 7239 `Forwarded`. Off because most backends read only the older fields."),

    key(Pool, "name", Other("name"), Required, Everywhere, "Unique. Listeners refer to it."),
    key(Pool, "schedule", Words(SCHEDULES), Text("wrr"), Everywhere, "How a backend is picked for new work."),
    key(Pool, "backends", Other("list of `\"address:port\"` or tables"), Is("`[]`"), Everywhere, "IP addresses in this version, not names. A pool without backends answers `no_backend_configured`."),
    number(Pool, "connect_timeout", duration(limits::CONNECT_TIMEOUT), Everywhere),
    number(Pool, "response_timeout", duration(limits::RESPONSE_TIMEOUT), HttpPool),
    number(Pool, "body_timeout", duration(limits::BACKEND_BODY_TIMEOUT), HttpPool),
    number(Pool, "idle_timeout", duration(limits::BACKEND_IDLE_TIMEOUT), HttpPool),
    number(Pool, "idle_connections", Count(limits::BACKEND_IDLE_CONNECTIONS), HttpPool),
    number(Pool, "retries", Count(limits::RETRIES), Everywhere),
    number(Pool, "retry_budget", Count(limits::RETRY_BUDGET), Everywhere),
    number(Pool, "slow_start", duration(limits::SLOW_START), Everywhere),
    key(Pool, "check", Other("`\"off\"` or a table"), Is("all defaults"), Everywhere, "See `[pool.check]`."),

    key(Backend, "address", Other("`\"address:port\"`"), Required, Everywhere, "An IP address and a port. IPv6 in brackets: `\"[2001:db8::7]:8080\"`."),
    number(Backend, "weight", Count(limits::WEIGHT), Everywhere),

    key(Check, "kind", Words(CHECK_KINDS), Is("`\"http\"` when an http listener uses the pool, otherwise `\"tcp\"`"), Everywhere, "What one probe is."),
    key(Check, "path", Other("path with a leading `/`"), Text("/"), HttpCheck, "What is asked for, query included. Point it at a page that works only when the application works: a static page stays green in front of a dead application."),
    key(Check, "method", Other("HTTP method"), Text("HEAD"), HttpCheck, "HEAD spares the body. Use GET where an application answers HEAD wrongly."),
    key(Check, "host", Other("host, perhaps with a port"), Is("the probed address and port"), HttpCheck, "Value of the Host field, for backends that serve several names."),
    key(Check, "expect_status", Other("list of `\"2xx\"`, `200`, `\"200-204\"`"), Is("`[\"2xx\", \"3xx\"]`"), HttpCheck, "Statuses that pass."),
    key(Check, "handshake", Words(HANDSHAKES), Text("half-open"), TcpCheck, "How far the probe opens the connection."),
    key(Check, "send", Other("string with escapes"), Is("`''` (an empty datagram)"), UdpCheck, "Payload of the datagram. See \"Bytes\"."),
    key(Check, "expect", Other("string with escapes"), Is("any answer passes"), UdpCheck, "The answer has to equal it, byte for byte; silence then fails. See \"Bytes\"."),
    key(Check, "silence", Words(SILENCES), Text("pass"), UdpCheck, "What no answer before the timeout means. Silence can lie: a busy host sends few ICMP errors."),
    key(Check, "port", Other("1 to 65535"), Is("the backend's own"), Everywhere, "Port that is probed, when health is served on a port of its own."),
    key(Check, "source", Other("IP address of this host"), Is("the kernel's choice"), Everywhere, "Address probes come from, so that backends can allow it in their firewall and leave it out of their logs."),
    number(Check, "timeout", Kind::Duration { setting: limits::CHECK_TIMEOUT, udp: Some(limits::UDP_CHECK_TIMEOUT) }, Everywhere),
    number(Check, "interval", Kind::Duration { setting: limits::CHECK_INTERVAL, udp: Some(limits::UDP_CHECK_INTERVAL) }, Everywhere),
    number(Check, "healthy_threshold", Count(limits::HEALTHY_THRESHOLD), Everywhere),
    number(Check, "unhealthy_threshold", Count(limits::UNHEALTHY_THRESHOLD), Everywhere),
];

/// Keys of the contract that this version does not have. They get an answer of their own, because
/// "unknown key" would send the operator looking for a spelling mistake.
pub(crate) const LATER: &[(Section, &str)] = &[
    (Listener, "rule"),
    (Listener, "certificate"),
    (Listener, "access"),
    (Pool, "sticky"),
    (Pool, "passive"),
    (Pool, "backup"),
    (Pool, "panic_below"),
    (Backend, "backup"),
];

/// Words that operators bring from other balancers, and ours.
pub(crate) const ELSEWHERE: &[(Section, &str, &str)] = &[
    (Top, "frontend", "listener"),
    (Top, "server", "listener"),
    (Top, "upstream", "pool"),
    (Top, "backend", "pool"),
    (Top, "cluster", "pool"),
    (Top, "global", "node"),
    (Listener, "bind", "listen"),
    (Listener, "address", "listen"),
    (Listener, "mode", "protocol"),
    (Listener, "backend", "pool"),
    (Listener, "default_backend", "pool"),
    (Listener, "upstream", "pool"),
    (Listener, "trusted_proxies", "trusted"),
    (Pool, "server", "backends"),
    (Pool, "servers", "backends"),
    (Pool, "balance", "schedule"),
    (Pool, "algorithm", "schedule"),
    (Pool, "lb_policy", "schedule"),
    (Pool, "scheduler", "schedule"),
    (Pool, "health_check", "check"),
    (Pool, "healthcheck", "check"),
    (Pool, "read_timeout", "response_timeout"),
    (Backend, "host", "address"),
    (Backend, "server", "address"),
    (Check, "type", "kind"),
    (Check, "uri", "path"),
    (Check, "url", "path"),
    (Check, "inter", "interval"),
    (Check, "rise", "healthy_threshold"),
    (Check, "fall", "unhealthy_threshold"),
    (Check, "status", "expect_status"),
];

/// The same for words: key, theirs, ours.
pub(crate) const FOREIGN_WORDS: &[(&str, &str, &str)] = &[
    ("schedule", "roundrobin", "wrr"),
    ("schedule", "round_robin", "wrr"),
    ("schedule", "static-rr", "wrr"),
    ("schedule", "leastconn", "wlc"),
    ("schedule", "least_conn", "wlc"),
    ("schedule", "least_request", "wlc"),
    ("schedule", "random", "p2c"),
    ("schedule", "ip_hash", "source"),
    ("schedule", "sh", "source"),
    ("kind", "ping", "tcp"),
    ("kind", "connect", "tcp"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_in_its_section() {
        for (position, key) in KEYS.iter().enumerate() {
            let again = KEYS[..position].iter().any(|other| other.section == key.section && other.name == key.name);
            assert!(!again, "{} {}", key.section.header(), key.name);
        }
    }

    #[test]
    fn every_setting_of_the_limits_is_a_key_under_its_own_name() {
        let named = |setting: &str| {
            KEYS.iter().any(|key| {
                let path = match key.section {
                    Section::Top => "",
                    Section::Node => "node",
                    Section::Admin => "admin",
                    Section::Listener => "listener",
                    Section::Pool => "pool",
                    Section::Backend => "pool.backends",
                    Section::Check => "pool.check",
                };
                let full = format!("{path}.{}", key.name);
                match key.kind {
                    Kind::Duration { setting: own, udp } => {
                        (own.key == setting && own.key == full)
                            || udp.is_some_and(|udp| udp.key == setting && udp.key == format!("{full} (udp)"))
                    }
                    Kind::Size(own) | Kind::Count(own) => own.key == setting && own.key == full,
                    Kind::Flag | Kind::Words(_) | Kind::Other(_) => false,
                }
            })
        };
        for row in limits::ALL {
            assert!(named(row.key()), "{} is a limit, but no key of the file", row.key());
        }
    }

    #[test]
    fn words_of_other_balancers_lead_to_keys_that_exist_and_hide_none() {
        for &(section, theirs, ours) in ELSEWHERE {
            assert!(section.key(ours).is_some(), "{ours}");
            assert!(section.key(theirs).is_none(), "{theirs}");
        }
        for &(name, theirs, ours) in FOREIGN_WORDS {
            let lists = KEYS.iter().filter(|key| key.name == name).filter_map(|key| match key.kind {
                Kind::Words(words) => Some(words),
                _ => None,
            });
            let works = |word: &Word| word.word == ours && word.status == WordStatus::Works;
            assert!(lists.clone().all(|words| words.iter().any(works)), "{ours}");
            assert!(lists.flatten().all(|word| word.word != theirs), "{theirs}");
        }
        for &(section, name) in LATER {
            assert!(section.key(name).is_none(), "{name}");
        }
    }

    #[test]
    fn schedules_of_the_table_are_those_that_can_be_picked_with() {
        let works: Vec<&str> =
            SCHEDULES.iter().filter(|word| word.status == WordStatus::Works).map(|word| word.word).collect();
        assert_eq!(works, Schedule::ALL.map(Schedule::word));
    }
}
