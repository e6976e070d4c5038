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
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use render::text;
pub use words::{shown, span};

/// What is told of one request: its line of the access log, and behind that the story.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    #[serde(flatten)]
    pub line: Map<String, Value>,
    #[serde(flatten)]
    pub timeline: Timeline,
}

/// The story of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    #[serde(rename = "timeline")]
    pub steps: Vec<Step>,
    /// What was known of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_then: Option<Then>,
    /// The time that ran out, where one did.
    #[serde(rename = "timer", skip_serializing_if = "Option::is_none")]
    pub fired: Option<Fired>,
    /// For people: whose fault it was, and what to do.
    pub explanation: Vec<String>,
}

/// What happened, when, for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// `accept`, `tls`, `head`, `rule`, `pick`, `queue`, `connect`, `request`, `first_byte`, `body` or `relay`.
    pub phase: String,
    /// From the first byte of the request; before it when the connection is older.
    pub at_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What struck here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What the worker knew of the backend at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Then {
    pub verdict: String,
    pub since: String,
    pub for_ms: u64,
    pub order: String,
    /// On the worker that served the request.
    pub in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejected_until: Option<String>,
}

/// A time that ran out, and where it is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fired {
    /// Its place in the config, such as `pool.response_timeout`.
    pub key: String,
    pub value: String,
    pub config: Config,
}

/// Where a setting has its value from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Config {
    Line { file: String, line: usize },
    Word(Unwritten),
}

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unwritten {
    /// It was left out.
    Default,
    /// No config is at hand.
    Unknown,
}

impl Config {
    pub const DEFAULT: Config = Config::Word(Unwritten::Default);
    pub const UNKNOWN: Config = Config::Word(Unwritten::Unknown);
}

/// Whoever has the running config says where a timer of a record is set.
pub type Places<'a> = &'a dyn Fn(Timer, &Record) -> Config;

impl Told {
    /// Reads what a node has told.
    pub fn read(told: Value) -> Option<Told> {
        let timeline: Timeline = serde_json::from_value(told.clone()).ok()?;
        let Value::Object(mut line) = told else { return None };
        line.retain(|key, _| !matches!(key.as_str(), "timeline" | "backend_then" | "timer" | "explanation"));
        Some(Told { line, timeline })
    }
}

impl Timeline {
    pub fn of(record: &Record, epoch: Epoch, places: Places<'_>) -> Timeline {
        let fired = fired(record, places);
        let backend_then = record.then.map(|then| Then {
            verdict: then.verdict.word().to_owned(),
            since: epoch.rfc3339(then.since),
            for_ms: u64::try_from((record.times.ended - then.since).as_millis()).unwrap_or(u64::MAX),
            order: then.order.word().to_owned(),
            in_flight: then.in_flight,
            ejected_until: match then.traffic {
                Traffic::Good => None,
                Traffic::Ejected { until } => Some(epoch.rfc3339(until)),
            },
        });
        let explanation = explanation(record, fired.as_ref());
        Timeline { steps: steps::of(record), backend_then, fired, explanation }
    }
}

fn fired(record: &Record, places: Places<'_>) -> Option<Fired> {
    let timer = record.timer?;
    let Some(Detail::Timeout(value)) = record.detail else { return None };
    Some(Fired { key: timer.key().to_owned(), value: words::setting(value), config: places(timer, record) })
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

fn explanation(record: &Record, fired: Option<&Fired>) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(cause) = record.cause else {
        lines.push(slow::sentence(record));
        lines.extend(then_sentence(record));
        return lines;
    };
    let entry = cause.entry();
    lines.push(format!("Blame: {}. {}", entry.blame.word(), entry.meaning));
    if let Some(fired) = fired {
        lines.push(format!(
            "{} = {} ran out{}.",
            fired.key,
            fired.value,
            match &fired.config {
                Config::Line { file, line } => format!(" ({file}:{line})"),
                Config::Word(Unwritten::Default) => " (the default: it is not written in the config)".to_owned(),
                Config::Word(Unwritten::Unknown) => String::new(),
            }
        ));
    }
    lines.extend(kept_too_long(record, cause));
    lines.extend(waited_in_vain(record, cause));
    lines.extend(then_sentence(record));
    let failed = record.attempts.iter().filter(|attempt| attempt.cause.is_some()).count();
    if record.attempts.len() > 1 {
        lines.push(format!("{} tries at backends were made, {failed} of them failed.", record.attempts.len()));
    }
    lines.push(format!("What to do: {}", entry.advice));
    lines
}

/// A client that leaves is to blame for leaving, and mostly not for the reason.
fn waited_in_vain(record: &Record, cause: Cause) -> Option<String> {
    let (backend, picked) = (record.backend?, record.times.picked?);
    let unanswered = match record.phase()? {
        Phase::Connect | Phase::BackendTls => "connection was not yet made",
        Phase::ResponseHead => "answer had not begun",
        _ => return None,
    };
    let waited = words::span(record.times.ended - picked);
    (cause == Cause::ClientAborted)
        .then(|| format!("It had waited {waited} for backend {backend}, whose {unanswered}: look there first."))
}

/// What was known of the backend, and when that is a reason to look at the checks.
fn then_sentence(record: &Record) -> Option<String> {
    let (then, backend) = (record.then?, record.backend?);
    let age = words::span(record.times.ended - then.since);
    let ejected = if then.traffic.is_ejected() { ", set aside for its traffic," } else { "" };
    let mut sentence = format!(
        "Backend {backend} was {}{ejected} since {age}, under order {}, with {} in flight on this worker.",
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
