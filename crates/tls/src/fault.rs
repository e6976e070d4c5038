//! What is wrong with files and settings, in words a config problem can carry.
//!
//! The room does not know where in the config a file was named; it says which of the files it was given is meant, and
//! the caller adds the place.

use std::fmt;

/// Which of the given bytes a fault or warning speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The certificate and those that vouch for it.
    Chain,
    Key,
    Ocsp,
    /// The authorities that vouch for clients.
    ClientCa,
    /// The authorities that vouch for backends.
    Ca,
    /// The name a backend is expected to have.
    Name,
    /// The settings taken together.
    Settings,
}

/// No settings can be made of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub part: Part,
    /// Stable, for example `key_mismatch`.
    pub code: &'static str,
    /// Follows the file or key it speaks of: "is …, but …".
    pub what: String,
    /// The next step.
    pub help: String,
}

/// It works, and somebody should look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub part: Part,
    pub code: &'static str,
    pub what: String,
    pub help: String,
}

impl Fault {
    pub(crate) fn new(part: Part, code: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Fault { part, code, what: what.into(), help: help.into() }
    }
}

impl Warning {
    pub(crate) fn new(part: Part, code: &'static str, what: impl Into<String>, help: impl Into<String>) -> Self {
        Warning { part, code, what: what.into(), help: help.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.code)
    }
}

impl std::error::Error for Fault {}
