//! What an event says of a backend whose probes meet silence that says nothing: that it is so, and that it is over.
//!
//! Beside the changes of verdict, since the verdict is what does not change: it stays as it was, which an operator has to know.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Level, Short, Told, Value};
use crate::finding::Finding;
use crate::standing::Verdict;

/// Probes of a backend began, or ceased, to meet silence that a dead service would show as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub check: Option<Arc<str>>,
    /// What stays as it is meanwhile.
    pub verdict: Verdict,
    /// In a row.
    pub probes: u32,
    /// How long it went on; `None` while it does.
    pub lasted: Option<Duration>,
    pub last: Finding,
}

impl Silence {
    pub const fn name(&self) -> &'static str {
        match self.lasted {
            None => "backend.silence_untrusted",
            Some(_) => "backend.silence_over",
        }
    }

    pub const fn level(&self) -> Level {
        match self.lasted {
            None => Level::Warn,
            Some(_) => Level::Info,
        }
    }

    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        each("pool", Value::Text(&self.pool));
        each("backend", Value::Address(self.backend));
        if let Some(check) = &self.check {
            each("check", Value::Text(check));
        }
        each("verdict", Value::Text(self.verdict.word()));
        each("probes", Value::Count(u64::from(self.probes)));
        if let Some(lasted) = self.lasted {
            each("lasted", Value::Time(lasted));
        }
        each("findings", Value::Findings(std::slice::from_ref(&self.last)));
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probes = Counted(u64::from(self.probes), "probe");
        let (backend, pool, verdict, last) = (self.backend, &self.pool, self.verdict.word(), Told(&self.last));
        match self.lasted {
            None => write!(
                f,
                "backend {backend} of pool \"{pool}\" stays {verdict}, and nobody can say whether it is: {probes} in a row met \
                 silence that says nothing, last: {last}"
            ),
            Some(lasted) => write!(
                f,
                "probes of backend {backend} of pool \"{pool}\" say something again, after {} and {probes}, last: {last}",
                Short(lasted)
            ),
        }
    }
}
