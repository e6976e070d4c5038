//! A routing report as text for a terminal and as JSON.
//!
//! The text answers first and argues afterwards; of many rules that have nothing to do with the request it shows a few.
//! JSON has all of them.

use std::fmt::Write;

use evenkeel_plan::{Miss, Protocol};
use serde_json::{Value, json as value};

use super::{Outcome, Pick, Report, RuleLine, RulePlace, Sent};

/// Rules shown that do not take the request. More do not help a reader.
const OTHERS_SHOWN: usize = 10;

/// Column at which the values begin.
const LABEL: usize = 11;

/// `evenkeel route test`.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    line(&mut text, "listener", &format!("\"{}\" ({})", report.listener, report.protocol));
    let of = |place| report.rules.iter().filter(move |rule| rule.place == place);
    for rule in of(RulePlace::Taken) {
        line(&mut text, "rule", &format!("\"{}\": {}", rule.name, rule.sentence));
    }
    match &report.outcome {
        Outcome::Refused(refused) => {
            let entry = refused.cause.entry();
            // Where TLS is not ended here, no status can be sent.
            let status = entry.status.filter(|_| report.protocol != Protocol::TlsPassthrough.word());
            let status = status.map_or_else(String::new, |status| format!(" ({status})"));
            line(&mut text, "refused", &format!("{}{status}: {}", entry.code, refused.detail));
            line(&mut text, "what to do", entry.advice);
        }
        Outcome::Redirect { status, location } => line(&mut text, "redirect", &format!("{status} to {location}")),
        Outcome::Answer { status, content_type, bytes } => {
            line(&mut text, "answer", &format!("{status}, {content_type}, {bytes} bytes"));
        }
        Outcome::Pool(sent) => pool(&mut text, sent),
    }
    some(&mut text, "runners-up", of(RulePlace::RunnerUp).collect());
    some(&mut text, "others", of(RulePlace::Out).collect());
    text
}

fn pool(text: &mut String, sent: &Sent) {
    let by_default = sent.by_default.map_or("", |miss| match miss {
        Miss::Host => ", the listener's own, since no rule names the host",
        Miss::Rule => ", the listener's own, since no rule takes the request",
    });
    line(text, "pool", &format!("\"{}\" ({}){by_default}", sent.pool, sent.schedule.word()));
    if let Some(path) = &sent.path {
        line(text, "path", &format!("{path} is what the backend sees"));
    }
    match &sent.pick {
        Pick::Backend(backend) => line(text, "backend", &format!("{backend}: {}", sent.because)),
        Pick::Shares(shares) => {
            line(text, "backend", &format!("one of {}: {}", shares.len(), sent.because));
            for (backend, percent) in shares {
                line(text, "", &format!("  {backend:<24}{percent:>5.1} %"));
            }
        }
    }
    for (backend, why) in &sent.aside {
        line(text, "", &format!("not {backend}, which {why}"));
    }
    for note in &sent.notes {
        line(text, "note", note);
    }
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:<LABEL$}{value}");
}

fn some(text: &mut String, label: &str, rules: Vec<&RuleLine>) {
    for (position, rule) in rules.iter().take(OTHERS_SHOWN).enumerate() {
        line(text, if position == 0 { label } else { "" }, &format!("\"{}\": {}", rule.name, rule.sentence));
    }
    if rules.len() > OTHERS_SHOWN {
        line(text, "", &format!("and {} more; --json lists all", rules.len() - OTHERS_SHOWN));
    }
}

/// `evenkeel route test --json`: what is not the case is `null`.
pub fn json(report: &Report) -> String {
    let rule = report.rules.iter().find(|rule| rule.place == RulePlace::Taken);
    let rules: Vec<Value> = report
        .rules
        .iter()
        .map(|rule| {
            let place = match rule.place {
                RulePlace::Taken => "taken",
                RulePlace::RunnerUp => "runner_up",
                RulePlace::Out => "out",
            };
            value!({ "name": rule.name, "place": place, "reason": rule.reason, "sentence": rule.sentence })
        })
        .collect();
    let (action, refused, redirect, answer, pool) = match &report.outcome {
        Outcome::Refused(refused) => {
            let entry = refused.cause.entry();
            let refused = value!({ "cause": entry.code, "status": entry.status, "detail": refused.detail });
            ("refuse", refused, Value::Null, Value::Null, Value::Null)
        }
        Outcome::Redirect { status, location } => {
            let redirect = value!({ "status": status, "location": location });
            ("redirect", Value::Null, redirect, Value::Null, Value::Null)
        }
        Outcome::Answer { status, content_type, bytes } => {
            let answer = value!({ "status": status, "content_type": content_type, "bytes": bytes });
            ("answer", Value::Null, Value::Null, answer, Value::Null)
        }
        Outcome::Pool(sent) => ("pool", Value::Null, Value::Null, Value::Null, pool_json(sent)),
    };
    let document = value!({
        "listener": report.listener,
        "protocol": report.protocol,
        "rule": rule.map(|rule| &rule.name),
        "action": action,
        "refused": refused,
        "redirect": redirect,
        "answer": answer,
        "pool": pool,
        "rules": rules,
    });
    serde_json::to_string_pretty(&document).expect("texts and numbers always have a JSON form")
}

fn pool_json(sent: &Sent) -> Value {
    let share = |backend: &std::net::SocketAddr, percent: f64| value!({ "address": backend.to_string(), "percent": (percent * 10.0).round() / 10.0 });
    let (backend, shares) = match &sent.pick {
        Pick::Backend(backend) => (Some(backend.to_string()), vec![share(backend, 100.0)]),
        Pick::Shares(shares) => (None, shares.iter().map(|(backend, percent)| share(backend, *percent)).collect()),
    };
    let aside: Vec<Value> =
        sent.aside.iter().map(|(backend, why)| value!({ "address": backend.to_string(), "why": why })).collect();
    value!({
        "name": sent.pool,
        "schedule": sent.schedule.word(),
        "by_default": sent.by_default.map(|miss| miss.cause().code()),
        "path": sent.path,
        "backend": backend,
        "because": sent.because,
        "candidates": shares,
        "aside": aside,
        "notes": sent.notes,
    })
}
