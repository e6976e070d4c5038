//! What is done beside traffic and probes: hooks on changes of verdict, the state file, names of backends asked of DNS.
//!
//! Values only. A plan is compiled with the answers there are; a changed answer makes another plan, which goes the way of a
//! reload, so nothing behind this room knows that a backend came by a name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Told of changes of verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hook {
    pub to: HookTo,
    pub on: HookOn,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HookTo {
    /// The event as JSON is posted there.
    Url(String),
    /// The program, by absolute path, and its arguments; it gets the event as JSON on its standard input.
    Command(Vec<String>),
}

/// Which events a hook hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookOn {
    pub unhealthy: bool,
    pub healthy: bool,
    pub ejected: bool,
}

impl Default for HookOn {
    fn default() -> Self {
        HookOn { unhealthy: true, healthy: true, ejected: true }
    }
}

/// Where what is known of the backends outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    pub path: PathBuf,
    /// What is older is forgotten.
    pub max_age: Duration,
}

/// How names of backends are asked. Where no backend is given by name, nothing of it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Of one question to one server.
    pub timeout: Duration,
    /// An answer holds as long as its records say, but within these bounds.
    pub min_ttl: Duration,
    pub max_ttl: Duration,
}

/// A name that stands for backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameAsked {
    /// In lower case, without the dot at the end.
    pub name: Arc<str>,
    /// `None` for [`Records::Srv`], whose records have one.
    pub port: Option<u16>,
    pub records: Records,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Records {
    A,
    Aaaa,
    /// Addresses of either kind.
    Any,
    /// Names with ports and weights, then the addresses of these names.
    Srv,
}

impl Records {
    pub const ALL: [Records; 4] = [Records::A, Records::Aaaa, Records::Any, Records::Srv];

    pub const fn word(self) -> &'static str {
        match self {
            Records::A => "a",
            Records::Aaaa => "aaaa",
            Records::Any => "any",
            Records::Srv => "srv",
        }
    }
}

/// One backend that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    pub address: SocketAddr,
    /// Of an SRV record, within the range of weights; `None`: that of the config.
    pub weight: Option<u32>,
}

/// The answers there are, each sorted and without repetition. A name that is not in it has no answer yet.
pub type Resolved = BTreeMap<NameAsked, Vec<Answer>>;

/// Where spans of requests are sent, and of which requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector's, whole: `http://127.0.0.1:4318/v1/traces`.
    pub url: Arc<str>,
    /// Of requests whose client does not say.
    pub per_million: u32,
    /// What the node is called there.
    pub service: Arc<str>,
    pub timeout: Duration,
    /// Whether a client may say that its request belongs to a trace of its own, and whether that is recorded.
    pub trust_traceparent: bool,
}
