//! Which rule a request falls under: hosts first, then the longest path prefix, then the other conditions.
//!
//! Pure values and one question. The data plane and `evenkeel route test` ask the same one, so that what is explained is
//! what happens. The order of the file decides last, and only between rules that ask for the same: an operator who
//! adds a rule need not think about where to put it.
//!
//! Paths are compared as they are sent on, undecoded and with their dots, so that rule and backend see the same text.
//! Rules choose where a request goes; who may ask for a path is the backend's to say (docs/decisions/0015).

mod explain;
mod index;

use std::time::Duration;

use evenkeel_model::{Cause, PoolId};

use crate::asked::Asked;

pub use explain::{Candidate, Reason};
use index::Index;

/// The rules of one listener, with an index made for asking.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Follows from the rules.
    index: Index,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

/// Why no rule takes a request. A listener's default pool, if it has one, takes it instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// No rule names the host, though others are named, and those for any host do not take the request either.
    Host,
    /// Rules name the host, or none names any host; none of them takes the request.
    Rule,
}

impl Miss {
    pub const fn cause(self) -> Cause {
        match self {
            Miss::Host => Cause::HostNotConfigured,
            Miss::Rule => Cause::RuleNotFound,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As the config calls it: its name, else its hosts and path.
    pub name: Box<str>,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// Begins with `/`; matches whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. With a slash at its
    /// end it takes only what is below: `/api/` takes `/api/` and `/api/x`, not `/api`.
    pub path: Box<str>,
    /// Empty: any method.
    pub methods: Vec<Box<str>>,
    /// All must hold.
    pub headers: Vec<HeaderCondition>,
    pub action: Action,
    /// Put in the place of the matched prefix.
    pub rewrite_path: Option<Box<str>>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// In place of the pool's.
    pub response_timeout: Option<Duration>,
    pub body_timeout: Option<Duration>,
    pub try_timeout: Option<Duration>,
    pub retries: Option<u32>,
}

/// In lower case, without a port and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Box<str>),
    /// The part behind `*.`, with any number of labels in front of it: `*.example.com` takes `a.example.com` and
    /// `b.a.example.com`, not `example.com`. (A certificate's wildcard stands for one label only.) The longest one that
    /// takes a host wins.
    Wildcard(Box<str>),
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(behind) => write!(f, "*.{behind}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCondition {
    /// In lower case.
    pub name: Box<str>,
    /// `None`: that it is there is enough.
    pub value: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Pool(PoolId),
    Redirect { status: u16, to: Box<str> },
    Answer { status: u16, content_type: Box<str>, body: Box<str> },
}

/// Removed first, then set (in place of all of that name), then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    pub remove: Vec<Box<str>>,
    pub set: Vec<(Box<str>, Box<str>)>,
    pub add: Vec<(Box<str>, Box<str>)>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

impl Rule {
    /// Whether method and fields are as the rule wants them.
    fn conditions_hold(&self, asked: &impl Asked) -> bool {
        self.takes_method(asked.method()) && self.headers.iter().all(|condition| condition.holds(asked))
    }

    /// Methods are case-sensitive (RFC 9110 section 9.1).
    fn takes_method(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|taken| taken.as_bytes() == method)
    }

    /// How much it asks for besides host and path.
    fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }
}

impl HeaderCondition {
    /// One of several fields of the name is enough. Values are compared byte by byte.
    fn holds(&self, asked: &impl Asked) -> bool {
        let mut values = asked.header(&self.name);
        match &self.value {
            None => values.next().is_some(),
            Some(wanted) => values.any(|value| value == wanted.as_bytes()),
        }
    }
}

impl Rules {
    /// In the order of the file.
    pub fn new(rules: Vec<Rule>) -> Self {
        let index = Index::new(&rules);
        Rules { rules, index }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// As written in the config.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    pub fn get(&self, position: usize) -> Option<&Rule> {
        self.rules.get(position)
    }

    /// The one rule that a request falls under.
    ///
    /// # Errors
    /// When there is none: the listener's default pool takes the request, or else the miss is its cause.
    pub fn route(&self, asked: &impl Asked) -> Result<&Rule, Miss> {
        self.winner(asked).map(|position| &self.rules[position])
    }

    /// The position of [`Rules::route`]'s rule, for whoever has to remember it.
    ///
    /// # Errors
    /// As there.
    pub fn winner(&self, asked: &impl Asked) -> Result<usize, Miss> {
        let named = self.index.naming(asked.host());
        let path = index::compared(asked.path());
        let holds = |position: usize| self.rules[position].conditions_hold(asked);
        // A host that is named is never sent on by the rules of a wider name: who gives `www` rules of its own has said
        // all there is to say of it. Rules for any host are the exception, since they name none.
        let of_host = named.and_then(|paths| paths.longest(path, holds));
        match of_host.or_else(|| self.index.of_any_host().longest(path, holds)) {
            Some(position) => Ok(position),
            // Where no rule names a host, hosts do not matter, and it was something else.
            None if named.is_none() && (self.index.names_hosts() || self.is_empty()) => Err(Miss::Host),
            None => Err(Miss::Rule),
        }
    }
}
