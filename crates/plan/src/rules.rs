//! Which rule a request falls under: hosts first, then the longest path prefix, then the other conditions.
//!
//! Pure values and one question. The data plane and `evenkeel route test` ask the same one, so that what is explained is
//! what happens.

use std::time::Duration;

use evenkeel_model::PoolId;

/// The rules of one listener, in an order made for asking.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As the config calls it: its name, else its hosts and path.
    pub name: Box<str>,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// Begins with `/`; matches whole segments: `/api` takes `/api` and `/api/x`, not `/apix`.
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

/// In lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(Box<str>),
    /// The part behind `*.`, one label in front of it: `*.example.com` takes `a.example.com`.
    Wildcard(Box<str>),
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

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Self {
        Rules { rules }
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// As written in the config.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}
