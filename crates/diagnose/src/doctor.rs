//! The checklist that an engineer walks for a URL that fails, and one judgement at its end: whose error it is.
//!
//! [`Facts`] in, a [`Diagnosis`] out. It touches nothing, so each fault that a doctor should know is a row of a table of
//! tests. Steps say what was seen and what that means, one by one; the judgement is made of the facts and not of the steps,
//! since a fault is often two facts that are each innocent (a green page of health, and an application that fails).
//!
//! "Nothing wrong was seen" and "this cannot be told, because" are judgements too. A doctor who always finds something is
//! not believed when it matters.

pub mod facts;
mod judge;
mod log;
mod render;
mod report;
mod seen;
mod steps;

use evenkeel_model::{Blame, Cause};

pub use facts::Facts;
pub use judge::judge;
pub use log::{Log, Wanted};
pub use render::{json, text};
pub use report::{Extra, report};

#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    pub steps: Vec<Step>,
    pub judgement: Judgement,
}

/// One item of the checklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    pub mark: Mark,
    pub seen: Vec<String>,
    /// Empty where what was seen speaks for itself.
    pub means: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Looked at and as it should be.
    Good,
    /// Nothing to look at here, or it could not be looked at.
    Skipped,
    /// Worth knowing, no fault by itself.
    Note,
    Bad,
}

impl Mark {
    pub const fn word(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Skipped => "skipped",
            Mark::Note => "note",
            Mark::Bad => "bad",
        }
    }
}

/// What the facts come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub outcome: Outcome,
    /// The one of the closed list that fits.
    pub cause: Option<Cause>,
    /// The backend, listener or name it is about.
    pub about: Option<String>,
    pub confidence: Confidence,
    pub sentence: String,
    pub evidence: Vec<String>,
    /// In the order in which one would do it.
    pub next: Vec<String>,
    /// What else was seen and may matter.
    pub beside: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    NothingWrong,
    CannotTell,
    Fault(Whose),
}

impl Outcome {
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::NothingWrong => "nothing_wrong",
            Outcome::CannotTell => "cannot_tell",
            Outcome::Fault(_) => "fault",
        }
    }
}

/// Whose error it is. [`Blame`], with the rules of a listener apart: they are the operator's, but somebody else mends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Client,
    Rule,
    Balancer,
    Network,
    Backend,
    Operator,
}

impl Whose {
    pub const fn word(self) -> &'static str {
        match self {
            Whose::Client => "client",
            Whose::Rule => "rule",
            Whose::Balancer => "balancer",
            Whose::Network => "network",
            Whose::Backend => "backend",
            Whose::Operator => "operator",
        }
    }

    /// For a reader who has not read the manual.
    pub const fn phrase(self) -> &'static str {
        match self {
            Whose::Client => "the client's side",
            Whose::Rule => "the rules of the listener",
            Whose::Balancer => "the balancer",
            Whose::Network => "the network",
            Whose::Backend => "the backends' side",
            Whose::Operator => "the configuration",
        }
    }
}

impl From<Cause> for Whose {
    fn from(cause: Cause) -> Self {
        match (cause, cause.entry().blame) {
            (Cause::HostNotConfigured | Cause::RuleNotFound, _) => Whose::Rule,
            (_, Blame::Client) => Whose::Client,
            (_, Blame::Balancer) => Whose::Balancer,
            (_, Blame::Backend) => Whose::Backend,
            (_, Blame::Network) => Whose::Network,
            (_, Blame::Operator) => Whose::Operator,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Other explanations remain; they are named.
    Guess,
    Likely,
    /// Seen from two sides, or said by the one who knows.
    Sure,
}

impl Confidence {
    pub const fn word(self) -> &'static str {
        match self {
            Confidence::Guess => "guess",
            Confidence::Likely => "likely",
            Confidence::Sure => "sure",
        }
    }
}

/// Walks the checklist and judges.
pub fn diagnose(facts: &Facts) -> Diagnosis {
    Diagnosis { steps: steps::steps(facts), judgement: judge(facts) }
}
