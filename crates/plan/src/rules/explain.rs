//! Why each rule does or does not take a request.
//!
//! The winner is the one that [`Rules::route`] names; the reasons of the others are found by looking at one rule
//! at a time, so they are true even of a rule that the index never came near.

use std::cmp::Reverse;
use std::fmt;

use evenkeel_model::limits;

use super::index::{compared, host_name, takes_path, wider};
use super::{HeaderCondition, HostPattern, Rule, Rules};
use crate::asked::Asked;

/// One rule, and why it was or was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'r> {
    pub rule: &'r Rule,
    pub reason: Reason<'r>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason<'r> {
    /// This one it is.
    Taken,
    // From here on it would take the request if `winner` were not there.
    /// The winner asks for the same host and path; it has more conditions.
    FewerConditions {
        winner: &'r str,
    },
    /// The winner asks for the same and as much; it stands in front of it in the file.
    Later {
        winner: &'r str,
    },
    ShorterPath {
        winner: &'r str,
    },
    /// It is for any host; the winner names this one.
    AnyHost {
        winner: &'r str,
    },
    // From here on it does not take the request.
    /// It names the host, but others name it more narrowly, and only those are asked.
    WiderHost {
        narrowest: &'r HostPattern,
    },
    OtherMethod,
    HeaderMissing(&'r HeaderCondition),
    HeaderDiffers(&'r HeaderCondition),
    OtherPath,
    OtherHost,
}

impl Reason<'_> {
    /// Whether the rule would take the request if the winner were not there.
    pub const fn is_runner_up(&self) -> bool {
        match self {
            Reason::FewerConditions { .. }
            | Reason::Later { .. }
            | Reason::ShorterPath { .. }
            | Reason::AnyHost { .. } => true,
            Reason::Taken
            | Reason::WiderHost { .. }
            | Reason::OtherMethod
            | Reason::HeaderMissing(_)
            | Reason::HeaderDiffers(_)
            | Reason::OtherPath
            | Reason::OtherHost => false,
        }
    }

    pub const fn word(&self) -> &'static str {
        match self {
            Reason::Taken => "taken",
            Reason::FewerConditions { .. } => "fewer_conditions",
            Reason::Later { .. } => "later",
            Reason::ShorterPath { .. } => "shorter_path",
            Reason::AnyHost { .. } => "any_host",
            Reason::WiderHost { .. } => "wider_host",
            Reason::OtherMethod => "other_method",
            Reason::HeaderMissing(_) => "header_missing",
            Reason::HeaderDiffers(_) => "header_differs",
            Reason::OtherPath => "other_path",
            Reason::OtherHost => "other_host",
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Taken => f.write_str("it has the narrowest host, then the longest path, then the most conditions"),
            Reason::FewerConditions { winner } => {
                write!(f, "it would take the request, but \"{winner}\" has the same host and path and more conditions")
            }
            Reason::Later { winner } => {
                write!(f, "it would take the request, but \"{winner}\" asks for as much and comes first in the file")
            }
            Reason::ShorterPath { winner } => {
                write!(f, "it would take the request, but the path of \"{winner}\" is longer")
            }
            Reason::AnyHost { winner } => {
                write!(f, "it would take the request, but it is for any host and \"{winner}\" names this one")
            }
            Reason::WiderHost { narrowest } => {
                write!(f, "there are rules for \"{narrowest}\", which is narrower, and so only those are asked")
            }
            Reason::OtherMethod => f.write_str("it is for other methods"),
            Reason::HeaderMissing(condition) => write!(f, "it wants a field \"{}\"", condition.name),
            Reason::HeaderDiffers(condition) => {
                let wanted = condition.value.as_deref().unwrap_or_default();
                write!(f, "it wants the field \"{}\" to be \"{wanted}\"", condition.name)
            }
            Reason::OtherPath => f.write_str("it is for other paths"),
            Reason::OtherHost => f.write_str("it is for other hosts"),
        }
    }
}

impl Rules {
    /// Every rule with its reason: the one taken, those that would be taken next in their order, then the others as
    /// written.
    pub fn explain(&self, asked: &impl Asked) -> Vec<Candidate<'_>> {
        let mut room = [0; limits::HOST_NAME.value as usize];
        let name = host_name(asked.host(), &mut room);
        let narrowest = name.and_then(|name| self.narrowest(name));
        let winner = self.winner(asked).ok().map(|position| (position, &self.rules[position]));

        let judge = |position: usize, rule| self.judge(asked, name, narrowest, winner, position, rule);
        let mut candidates: Vec<Candidate<'_>> = self
            .rules
            .iter()
            .enumerate()
            .map(|(position, rule)| Candidate { rule, reason: judge(position, rule) })
            .collect();
        // Stable: the order of the file decides last.
        candidates.sort_by_key(|candidate| {
            let Candidate { rule, reason } = candidate;
            match reason {
                Reason::Taken => (0, false, Reverse((0, 0))),
                _ if reason.is_runner_up() => (1, rule.hosts.is_empty(), Reverse((rule.path.len(), rule.conditions()))),
                _ => (2, false, Reverse((0, 0))),
            }
        });
        candidates
    }

    /// The pattern whose rules are asked for a host.
    fn narrowest(&self, name: &[u8]) -> Option<&HostPattern> {
        let patterns = || self.rules.iter().flat_map(|rule| &rule.hosts);
        let exact = patterns().find(|pattern| matches!(pattern, HostPattern::Exact(host) if host.as_bytes() == name));
        let behind = |behind: &[u8]| {
            patterns().find(|pattern| matches!(pattern, HostPattern::Wildcard(suffix) if suffix.as_bytes() == behind))
        };
        exact.or_else(|| wider(name).find_map(behind))
    }

    fn judge<'r>(
        &'r self,
        asked: &impl Asked,
        name: Option<&[u8]>,
        narrowest: Option<&'r HostPattern>,
        winner: Option<(usize, &'r Rule)>,
        position: usize,
        rule: &'r Rule,
    ) -> Reason<'r> {
        if winner.is_some_and(|(at, _)| at == position) {
            return Reason::Taken;
        }
        let is_narrowest = narrowest.is_some_and(|narrowest| rule.hosts.contains(narrowest));
        let names_host = |pattern: &HostPattern| name.is_some_and(|name| takes_host(pattern, name));
        if !rule.hosts.is_empty() && !rule.hosts.iter().any(names_host) {
            return Reason::OtherHost;
        }
        if !takes_path(rule.path.as_bytes(), compared(asked.path())) {
            return Reason::OtherPath;
        }
        if !rule.takes_method(asked.method()) {
            return Reason::OtherMethod;
        }
        if let Some(condition) = rule.headers.iter().find(|condition| !condition.holds(asked)) {
            return match asked.header(&condition.name).next() {
                None => Reason::HeaderMissing(condition),
                Some(_) => Reason::HeaderDiffers(condition),
            };
        }
        if let Some(narrowest) = narrowest
            && !rule.hosts.is_empty()
            && !is_narrowest
        {
            return Reason::WiderHost { narrowest };
        }
        let (_, taken) = winner.expect("a rule that takes the request loses only to another that does");
        let winner = &*taken.name;
        if rule.hosts.is_empty() != taken.hosts.is_empty() {
            Reason::AnyHost { winner }
        } else if rule.path != taken.path {
            Reason::ShorterPath { winner }
        } else if rule.conditions() != taken.conditions() {
            Reason::FewerConditions { winner }
        } else {
            Reason::Later { winner }
        }
    }
}

/// `name` is in lower case, without port and final dot.
fn takes_host(pattern: &HostPattern, name: &[u8]) -> bool {
    match pattern {
        HostPattern::Exact(host) => host.as_bytes() == name,
        HostPattern::Wildcard(suffix) => wider(name).any(|behind| behind == suffix.as_bytes()),
    }
}
