//! The checklist, item by item: what was seen, and what that means.
//!
//! Each step is one question an engineer asks for a 500, 502 or 504, in the order of a client's journey. A step that had
//! nothing to look at says so, so that a reader never has to guess whether it was forgotten.

mod behind;
mod front;
mod host;

use super::facts::{Certificate, Facts};
use super::seen::list;
use super::{Mark, Step};
use evenkeel_model::Cause;
use evenkeel_model::time::write_rfc3339_seconds;

pub(super) use host::complaints as host_complaints;

pub(super) fn steps(facts: &Facts) -> Vec<Step> {
    let http = facts.question.scheme.is_http();
    let mut steps = vec![front::name(facts), front::connect(facts)];
    if facts.question.scheme == super::facts::Scheme::Https {
        steps.push(front::tls(facts));
    }
    steps.push(front::request(facts));
    steps.push(front::node(facts));
    if http {
        steps.push(front::rule(facts));
    }
    steps.push(front::clients(facts));
    steps.push(behind::verdicts(facts));
    steps.push(behind::backends(facts));
    if http {
        steps.extend([
            behind::health_page(facts),
            behind::application(facts),
            behind::other_host(facts),
            behind::sizes(facts),
            behind::times(facts),
        ]);
    }
    steps.extend([
        behind::layer4(facts),
        behind::loops(facts),
        behind::firewall(facts),
        host::host(facts),
        host::clock(facts),
    ]);
    steps
}

impl Step {
    fn new(name: &'static str, mark: Mark, means: impl Into<String>) -> Self {
        Step { name, mark, seen: Vec::new(), means: means.into() }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Step::new(name, Mark::Skipped, why)
    }

    fn saw(mut self, line: impl Into<String>) -> Self {
        self.seen.push(line.into());
        self
    }

    fn saw_all(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.seen.extend(lines);
        self
    }
}

/// A certificate in one line.
pub(super) fn certificate(seen: &Certificate) -> String {
    let names = if seen.names.is_empty() { "no names".to_owned() } else { list(&seen.names) };
    format!(
        "certificate of {} (names: {names}), by {}, valid {} to {}",
        seen.subject,
        seen.issuer,
        day(seen.not_before),
        day(seen.not_after)
    )
}

fn day(seconds: i64) -> String {
    let mut text = String::new();
    write_rfc3339_seconds(&mut text, u64::try_from(seconds).unwrap_or(0));
    text.truncate(10);
    text
}

/// What the listener has turned away so far, by cause.
pub(super) fn refusals(facts: &Facts) -> Vec<(Cause, u64)> {
    let super::facts::Node::Answered(told) = &facts.node else { return Vec::new() };
    let ours = [
        Cause::ClientDeniedByAcl,
        Cause::ClientRateLimited,
        Cause::ClientTooManyConnections,
        Cause::ClientProxyHeaderInvalid,
    ];
    let counted = told.causes.iter().filter_map(|(code, count)| Some((Cause::from_code(code)?, *count)));
    counted.filter(|(cause, count)| *count > 0 && ours.contains(cause)).collect()
}
