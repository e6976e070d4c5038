//! What happened to one request or connection, step by step, and who is to blame: from its record alone.
//!
//! The API, the command line and the dashboard show the same steps in the same words, because they are made here. It
//! looks at no running node: a record read from an access log of last week gives the same steps, with less known.

mod render;
mod slow;
mod steps;
mod words;

use std::time::Duration;

use evenkeel_model::exchange::{Detail, Record, Timer};
use evenkeel_model::standing::Traffic;
use evenkeel_model::{Cause, Epoch, Phase};
use serde::Serialize;

pub use render::text;
pub use words::{shown, span};

/// The whole story.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    #[serde(rename = "timeline")]
    pub steps: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_then: Option<Then>,
    /// The time that ran out, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<Fired>,
    /// For people: whose fault it was, and what to do.
    pub explanation: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub phase: &'static str,
    /// From the first byte of the request; before it when the connection is older.
    pub at_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What struck here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
}

/// What the worker knew of the backend at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Then {
    pub verdict: &'static str,
    pub since: String,
    pub for_ms: u64,
    pub order: &'static str,
    /// On the worker that served the request.
    pub in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected_until: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fired {
    pub key: &'static str,
    pub value: String,
    pub config: Config,
}

/// Where a setting has its value from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Config {
    Line {
        file: String,
        line: usize,
    },
    /// `default`, or `unknown` where no config is at hand.
    Word(&'static str),
}

impl Config {
    pub const DEFAULT: Config = Config::Word("default");
    pub const UNKNOWN: Config = Config::Word("unknown");
}

/// Whoever has the running config says where a timer of a record is set.
pub type Places<'a> = &'a dyn Fn(Timer, &Record) -> Config;

impl Timeline {
    pub fn of(record: &Record, epoch: Epoch, places: Places<'_>) -> Timeline {
        let timer = fired(record, places);
        let backend_then = record.then.map(|then| Then {
            verdict: then.verdict.word(),
            since: epoch.rfc3339(then.since),
            for_ms: u64::try_from((record.times.ended - then.since).as_millis()).unwrap_or(u64::MAX),
            order: then.order.word(),
            in_flight: then.in_flight,
            ejected_until: match then.traffic {
                Traffic::Good => None,
                Traffic::Ejected { until } => Some(epoch.rfc3339(until)),
            },
        });
        let explanation = explanation(record, timer.as_ref());
        Timeline { steps: steps::of(record), backend_then, timer, explanation }
    }
}

fn fired(record: &Record, places: Places<'_>) -> Option<Fired> {
    let timer = record.timer?;
    let Some(Detail::Timeout(value)) = record.detail else { return None };
    Some(Fired { key: timer.key(), value: words::setting(value), config: places(timer, record) })
}

/// As steps call a phase.
pub(crate) const fn step_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Accept => "accept",
        Phase::Tls => "tls",
        Phase::RequestHead => "head",
        Phase::RequestBody => "request",
        Phase::Rule => "rule",
        Phase::Pick => "pick",
        Phase::Queue => "queue",
        Phase::Connect | Phase::BackendTls => "connect",
        Phase::ResponseHead => "first_byte",
        Phase::ResponseBody => "body",
        Phase::Relay => "relay",
    }
}

fn explanation(record: &Record, timer: Option<&Fired>) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(cause) = record.cause else {
        lines.push(slow::sentence(record));
        lines.extend(then_sentence(record));
        return lines;
    };
    let entry = cause.entry();
    lines.push(format!("Blame: {}. {}", entry.blame.word(), entry.meaning));
    if let Some(fired) = timer {
        lines.push(format!(
            "{} = {} ran out{}.",
            fired.key,
            fired.value,
            match &fired.config {
                Config::Line { file, line } => format!(" ({file}:{line})"),
                Config::Word("default") => " (the default: it is not written in the config)".to_owned(),
                Config::Word(_) => String::new(),
            }
        ));
    }
    lines.extend(kept_too_long(record, cause));
    lines.extend(then_sentence(record));
    let failed = record.attempts.iter().filter(|attempt| attempt.cause.is_some()).count();
    if record.attempts.len() > 1 {
        lines.push(format!("{} tries at backends were made, {failed} of them failed.", record.attempts.len()));
    }
    lines.push(format!("What to do: {}", entry.advice));
    lines
}

/// What was known of the backend, and when that is a reason to look at the checks.
fn then_sentence(record: &Record) -> Option<String> {
    let (then, backend) = (record.then?, record.backend?);
    let age = words::span(record.times.ended - then.since);
    let ejected = if then.traffic.is_ejected() { ", set aside for its traffic," } else { "" };
    let mut sentence = format!(
        "Backend {backend} was {}{ejected} since {age}, under order {}, with {} more in flight on this worker.",
        then.verdict.word(),
        then.order.word(),
        then.in_flight,
    );
    let blamed = record.cause.is_some_and(|cause| cause.entry().blame == evenkeel_model::Blame::Backend);
    if blamed && then.verdict == evenkeel_model::standing::Verdict::Healthy {
        sentence.push_str(" Its check passed all the while: does the check ask for what the requests need?");
    }
    Some(sentence)
}

/// A kept connection that the backend had closed meanwhile is the commonest cause of single resets.
fn kept_too_long(record: &Record, cause: Cause) -> Option<String> {
    let idle = match (cause, record.reuse) {
        (
            Cause::BackendResetBeforeResponse | Cause::BackendClosedBeforeResponse,
            Some(evenkeel_model::exchange::Reuse::Reused { idle }),
        ) => idle,
        _ => return None,
    };
    if idle < Duration::from_millis(100) {
        return Some("The connection was in use a moment before, so it was hardly closed for being idle.".to_owned());
    }
    let idle = words::span(idle);
    Some(format!(
        "The connection was a kept one that had lain idle for {idle}: the backend's keep-alive timeout is probably no longer \
         than that. Keep connections for less (`idle_timeout` of the pool), or raise the backend's."
    ))
}
