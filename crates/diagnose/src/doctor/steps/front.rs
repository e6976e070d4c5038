//! The steps up to the balancer: name, connect, TLS, the request itself, the node, its rules, whom it lets in.
//!
//! They are in the order of a client's journey, and each is put even where an earlier one failed, as skipped and why.

use super::super::facts::{Facts, Node, Resolution, Scheme, Try};
use super::super::seen::{Condition, answer, failed, list, often, tally, time, waited};
use super::super::{Mark, Step};
use super::{certificate, refusals};
use crate::route::{Outcome, Pick};

/// Differences in days before its end at which a certificate is worth a word.
const DAYS_LEFT: i64 = 14;

pub(super) fn name(facts: &Facts) -> Step {
    let host = &facts.question.host;
    match &facts.name {
        None => Step::skipped("name", "not looked up"),
        Some(Resolution::Address(address)) => Step::new("name", Mark::Good, "")
            .saw(format!("{address}: the URL has an address, so no name was asked for")),
        Some(Resolution::Given(addresses)) => Step::new("name", Mark::Good, "DNS was not asked")
            .saw(format!("{host} is {} by --resolve", list(addresses))),
        Some(Resolution::Found(addresses)) => {
            Step::new("name", Mark::Good, "").saw(format!("{host} is {}", list(addresses)))
        }
        Some(Resolution::Unknown(why)) => Step::new("name", Mark::Bad, "clients do not get as far as the balancer")
            .saw(format!("{host} has no address: {why}")),
        Some(Resolution::Failed(why)) => Step::new("name", Mark::Bad, "the name servers of this host do not answer")
            .saw(format!("{host} could not be looked up: {why}")),
    }
}

pub(super) fn connect(facts: &Facts) -> Step {
    if facts.question.scheme == Scheme::Udp {
        return Step::skipped("connect", "UDP has no connections");
    }
    if facts.connects.is_empty() {
        return Step::skipped("connect", "no address to connect to");
    }
    let bad = facts.connects.iter().filter(|connect| connect.result.is_err()).count();
    let lines = facts.connects.iter().map(|connect| match &connect.result {
        Ok(took) => format!("{} takes the connection in {}", connect.to, time(*took)),
        Err(failure) => format!("{} {}", connect.to, failed(failure)),
    });
    let (mark, means) = match bad {
        0 => (Mark::Good, ""),
        bad if bad == facts.connects.len() => (Mark::Bad, "nobody takes connections there"),
        _ => (Mark::Note, "clients that try a bad address first wait or fail"),
    };
    Step::new("connect", mark, means).saw_all(lines)
}

pub(super) fn tls(facts: &Facts) -> Step {
    let Some(seen) = &facts.tls else { return Step::skipped("tls", "no connection to shake hands on") };
    let shown = seen.chain.iter().map(certificate);
    if let Some(why) = &seen.failed {
        return Step::new("tls", Mark::Bad, "no client gets further")
            .saw(format!("the handshake fails: {why}"))
            .saw_all(shown);
    }
    let version = seen.version.clone().unwrap_or_default();
    let name = seen.name.as_ref().map_or_else(|| "without a name (SNI)".to_owned(), |name| format!("for \"{name}\""));
    let step = |mark, means: String| {
        Step::new("tls", mark, means).saw(format!("{version} {name} in {}", time(seen.took))).saw_all(shown.clone())
    };
    if let Some(why) = &seen.untrusted {
        return step(Mark::Bad, "clients that verify refuse this certificate".to_owned())
            .saw(format!("the verifier says: {why}"));
    }
    let now = i64::try_from(facts.now).unwrap_or(i64::MAX);
    let left = seen.chain.first().map(|leaf| (leaf.not_after - now) / 86_400);
    match left {
        Some(days) if days < DAYS_LEFT => step(Mark::Note, format!("the certificate ends in {days} days")),
        _ => step(Mark::Good, String::new()),
    }
}

/// Statuses and times of several equal requests, in one line each.
pub(super) fn tallied(tries: &[Try]) -> Vec<String> {
    tally(tries)
        .iter()
        .map(|(condition, count)| {
            let mut times: Vec<_> =
                tries.iter().filter(|attempt| Condition::of(attempt) == *condition).map(waited).collect();
            times.sort_unstable();
            let range = match (times.first(), times.last()) {
                (Some(first), Some(last)) if time(*first) != time(*last) => {
                    format!("after {} to {}", time(*first), time(*last))
                }
                (Some(only), _) => format!("after {}", time(*only)),
                (None, _) => String::new(),
            };
            format!("it {}, {}, {range}", condition.does(), often(*count, tries.len()))
        })
        .collect()
}

pub(super) fn request(facts: &Facts) -> Step {
    if facts.through.is_empty() {
        return Step::skipped("request", "nothing could be sent");
    }
    let lines = tallied(&facts.through);
    let unfit = facts.through.iter().filter(|attempt| !Condition::of(attempt).is_fit()).count();
    let refused = facts.through.iter().all(|attempt| matches!(Condition::of(attempt), Condition::ClientError(_)));
    let (mark, means) = match unfit {
        0 if refused => {
            (Mark::Note, "an answer of the application, not of the balancer; is the question right?".to_owned())
        }
        0 => (Mark::Good, String::new()),
        some if some == facts.through.len() => (Mark::Bad, "it fails each time".to_owned()),
        some => (Mark::Bad, format!("it fails {}: one of several backends, or load", often(some, facts.through.len()))),
    };
    let step = Step::new("request", mark, means).saw_all(lines);
    let first = facts.through.iter().find(|attempt| !Condition::of(attempt).is_fit()).or(facts.through.first());
    match first.and_then(answer) {
        Some(answer) => {
            let fields = ["server", "proxy-status", "via", "content-type", "location", "retry-after"];
            let shown = fields.iter().filter_map(|name| Some(format!("{name}: {}", answer.field(name)?)));
            step.saw_all(shown).saw(format!("head {} bytes, body {} bytes", answer.head_bytes, answer.body_bytes))
        }
        None => step,
    }
}

pub(super) fn node(facts: &Facts) -> Step {
    match &facts.node {
        Node::NotAsked => Step::skipped("node", "no admin address was given or found; --admin or --socket names it"),
        Node::Absent { place, why } => Step::new("node", Mark::Note, "verdicts, events and counters are not known")
            .saw(format!("nobody answers at {place}: {why}")),
        Node::Answered(told) => {
            let here = if told.is_here { "on this host" } else { "on another host" };
            let step = |mark, means: &str| {
                Step::new("node", mark, means).saw(format!(
                    "evenkeel {} at {} {here}, since {}, plan {}",
                    told.version, told.place, told.started, told.generation
                ))
            };
            if let Some(since) = &told.suspects_itself_since {
                step(
                    Mark::Bad,
                    "most of what it checks failed at once, so the fault may be the node's own: its network, its host",
                )
                .saw(format!("it suspects itself since {since}"))
            } else if told.config_differs {
                step(Mark::Note, "the file was changed and not reloaded")
            } else {
                step(Mark::Good, "")
            }
        }
    }
}

pub(super) fn rule(facts: &Facts) -> Step {
    let report = match &facts.route {
        None => {
            return Step::skipped("rule", facts.no_config.clone().unwrap_or_else(|| "no config is known".to_owned()));
        }
        Some(Err(why)) => return Step::new("rule", Mark::Note, "the rules could not be asked").saw(why.clone()),
        Some(Ok(report)) => report,
    };
    let step = |mark, means: String| {
        let taken = report.rules.iter().find(|rule| rule.place == crate::route::RulePlace::Taken);
        Step::new("rule", mark, means)
            .saw(format!("listener \"{}\" ({})", report.listener, report.protocol))
            .saw_all(taken.map(|rule| format!("rule \"{}\": {}", rule.name, rule.sentence)))
    };
    match &report.outcome {
        Outcome::Refused(refused) => {
            step(Mark::Bad, format!("the balancer itself refuses it: {}", refused.cause.code()))
                .saw(refused.detail.clone())
        }
        Outcome::Redirect { status, location } => {
            step(Mark::Note, "no backend is asked".to_owned()).saw(format!("redirect {status} to {location}"))
        }
        Outcome::Answer { status, .. } => {
            step(Mark::Note, "no backend is asked".to_owned()).saw(format!("a fixed answer with status {status}"))
        }
        Outcome::Pool(sent) => {
            let by_default =
                if sent.by_default.is_some() { ", the listener's own, since no rule takes the request" } else { "" };
            let step = step(Mark::Good, String::new()).saw(format!(
                "pool \"{}\" ({}){by_default}",
                sent.pool,
                sent.schedule.word()
            ));
            let step = match &sent.path {
                Some(path) => step.saw(format!("the backend sees the path {path}")),
                None => step,
            };
            match &sent.pick {
                Pick::Backend(backend) => step.saw(format!("backend {backend}: {}", sent.because)),
                Pick::Shares(_) => step,
            }
        }
    }
}

pub(super) fn clients(facts: &Facts) -> Step {
    let Some(listener) = &facts.listener else {
        return Step::skipped("clients", "no listener is known, so neither are its access list and limits");
    };
    let refused = refusals(facts);
    let lines = listener
        .has_access_list
        .then(|| "an access list lets in some clients only".to_owned())
        .into_iter()
        .chain(listener.limits.iter().cloned())
        .chain(listener.expects_proxy.then(|| "some senders have to begin with a PROXY header".to_owned()));
    let counted = refused.iter().map(|(cause, count)| format!("turned away so far: {count} by {}", cause.code()));
    let step = |mark, means: &str| Step::new("clients", mark, means).saw_all(lines.clone()).saw_all(counted.clone());
    if !refused.is_empty() {
        return step(Mark::Note, "some clients are refused, so not all see the same");
    }
    if lines.clone().next().is_none() {
        return Step::new("clients", Mark::Good, "")
            .saw(format!("listener \"{}\" has no access list and no limits: all clients are alike", listener.name));
    }
    step(Mark::Good, "nobody was turned away so far")
}
