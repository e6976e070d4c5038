//! From all facts to one judgement: the first question of the checklist that has a bad answer decides.
//!
//! The order is the order of a client's journey, since what fails early hides what comes later: name, connect, handshake,
//! request. Only then come faults that no client felt this time: a certificate that browsers refuse, a backend that
//! retries and verdicts keep clients away from.
//!
//! A cause that the balancer named is believed; what is looked for then is why. Where the backends, asked straight, do not
//! show it, that is said instead of a guess.

mod backends;
mod cause;
mod front;
mod through;

use evenkeel_model::Cause;

pub(in crate::doctor) use backends::last_failure;

use super::facts::{Facts, Node};
use super::seen::{Condition, tally};
use super::{Confidence, Judgement, Outcome, Whose};

pub fn judge(facts: &Facts) -> Judgement {
    let mut judgement = front::name(facts)
        .or_else(|| front::connect(facts))
        .or_else(|| front::handshake(facts))
        .or_else(|| through::failing(facts))
        .or_else(|| through::offers_nobody(facts))
        .or_else(|| front::certificate(facts))
        .or_else(|| backends::hidden(facts))
        .unwrap_or_else(|| well(facts));
    judgement.beside.extend(beside(facts, &judgement));
    judgement
}

impl Judgement {
    pub(super) fn new(outcome: Outcome, sentence: impl Into<String>) -> Self {
        Judgement {
            outcome,
            cause: None,
            about: None,
            confidence: Confidence::Sure,
            sentence: sentence.into(),
            evidence: Vec::new(),
            next: Vec::new(),
            beside: Vec::new(),
        }
    }

    pub(super) fn fault(whose: Whose, sentence: impl Into<String>) -> Self {
        Judgement::new(Outcome::Fault(whose), sentence)
    }

    pub(super) fn cause(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    pub(super) fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    pub(super) const fn confidence(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }

    pub(super) fn because(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    pub(super) fn because_all(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    pub(super) fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}

fn well(facts: &Facts) -> Judgement {
    let asked = facts.through.len();
    if asked == 0 {
        return Judgement::new(
            Outcome::CannotTell,
            "Nothing was sent through the balancer, so nothing can be said of it.",
        )
        .confidence(Confidence::Guess);
    }
    let tallied = tally(&facts.through);
    let seen: Vec<String> = tallied.iter().map(|(condition, _)| condition.does()).collect();
    let times = if asked == 1 { "One request".to_owned() } else { format!("{asked} requests") };
    let judgement = Judgement::new(
        Outcome::NothingWrong,
        format!("Nothing wrong was seen. {times} through the balancer: it {}.", seen.join("; ")),
    );
    let judgement = match (&facts.node, facts.backends.is_empty()) {
        (Node::Answered(_), false) => judgement.because(format!(
            "straight to {} of the pool's backends there is nothing to see either",
            facts.backends.len()
        )),
        (Node::Answered(_) | Node::Absent { .. } | Node::NotAsked, _) => judgement
            .confidence(Confidence::Likely)
            .because("only the way of a client was looked at: no node and no config told of the backends behind"),
    };
    judgement
        .next("if it fails now and then, ask more often: --count 50")
        .next("if it fails for others only, run this where they are; the step \"clients\" says what tells them apart")
        .next("if it failed earlier, look into the access log: evenkeel doctor --log FILE URL")
}

/// True things that are not the judgement.
fn beside(facts: &Facts, judgement: &Judgement) -> Vec<String> {
    let mut found = Vec::new();
    if let Node::Answered(told) = &facts.node {
        if let Some(since) = &told.suspects_itself_since {
            found.push(format!("the node has suspected itself since {since}: most of what it checks failed at once"));
        }
        if told.config_differs {
            found.push("the config file is not what runs: it was changed and not reloaded".to_owned());
        }
        if let Some(skew) = told.time.map(|time| time.abs_diff(facts.now)).filter(|skew| *skew > CLOCK_SKEW) {
            found.push(format!("the node's clock and this host's differ by {skew} s"));
        }
    }
    let is_about = |name: &str| judgement.about.as_deref() == Some(name);
    for backend in &facts.backends {
        let name = backend.address.to_string();
        let Some(standing) = backend.standing.as_ref().filter(|_| !is_about(&name)) else { continue };
        if standing.order != "serve" {
            found.push(format!("backend {name} is under order {}", standing.order));
        } else if standing.verdict == "unhealthy" && judgement.cause != Some(Cause::AllBackendsUnhealthy) {
            let last = backends::last_failure(standing).map_or_else(String::new, |last| format!(": {last}"));
            found.push(format!("backend {name} is unhealthy since {}{last}", standing.since));
        } else if let Some(until) = &standing.ejected_until {
            found.push(format!("backend {name} is ejected until {until}, because its traffic failed"));
        } else if standing.weight == 0 {
            found.push(format!("backend {name} has weight 0 and gets nothing"));
        }
    }
    if facts.pool.as_ref().is_some_and(|pool| pool.panic) {
        found.push("the pool is in panic: too little of it may be used, so verdicts are ignored".to_owned());
    }
    found.extend(super::steps::host_complaints(facts));
    found
}

/// Seconds by which clocks may differ before it is told: certificates and logs are read by the minute.
pub(in crate::doctor) const CLOCK_SKEW: u64 = 60;

/// Whether what was seen straight from here may differ from what the balancer sees, since it runs elsewhere.
fn is_elsewhere(facts: &Facts) -> bool {
    !matches!(&facts.node, Node::Answered(told) if told.is_here)
}

/// Conditions of requests through the balancer that are no success, most frequent first.
fn unfit(facts: &Facts) -> Vec<(Condition, usize)> {
    tally(&facts.through).into_iter().filter(|(condition, _)| !condition.is_fit()).collect()
}
