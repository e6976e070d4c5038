//! One file that a stranger can read: the judgement first, then everything it rests on, with secrets taken out.
//!
//! Plain text of at most a hundred columns. A page of HTML would look better, and would be stripped by mail clients, refused
//! as an attachment, and hard to quote in an answer; a ticket's reader wants to search and quote.
//!
//! Every text that others chose passes [`redact`] on its way in here; nothing is copied that a reader of a ticket does not
//! need. Bodies are not in it at all, since nobody can say what an application prints.

use std::fmt::Write as _;

use evenkeel_model::time::write_rfc3339_seconds;

use super::facts::{Backend, Facts, Node, Try};
use super::render::{put_judgement, put_step, wrap};
use super::seen::{Condition, answer, time};
use super::{Diagnosis, Judgement, Step};
use crate::redact;

/// What stands in a report besides facts and diagnosis.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Of this command.
    pub version: String,
    /// Kernel and the like, in one line.
    pub system: String,
    /// Name and text of the config.
    pub config: Option<(String, String)>,
    /// Texts that must not be in it wherever they stand: tokens, what `--header` and `--data` said.
    pub secrets: Vec<String>,
}

pub fn report(facts: &Facts, diagnosis: &Diagnosis, extra: &Extra) -> String {
    let mut out = String::new();
    let mut now = String::new();
    write_rfc3339_seconds(&mut now, facts.now);
    let _ = writeln!(out, "evenkeel doctor: report\n=======================\n");
    for (name, text) in [
        ("url", redact::url(&facts.question.url)),
        ("method", facts.question.method.clone()),
        ("made", format!("{now}Z")),
        ("doctor", format!("evenkeel {}", extra.version)),
        ("node", node(facts)),
        ("host", extra.system.clone()),
    ] {
        wrap(&mut out, &format!("{name}:"), &text, 10);
    }
    out.push('\n');
    put_judgement(&mut out, &judgement(&diagnosis.judgement));
    section(&mut out, "Steps");
    for step in &diagnosis.steps {
        put_step(&mut out, &cleaned(step));
    }
    section(&mut out, "Requests through the balancer");
    tries(&mut out, &facts.through);
    for backend in &facts.backends {
        section(&mut out, &format!("Backend {}", backend.address));
        put_backend(&mut out, backend);
    }
    if let Node::Answered(told) = &facts.node {
        section(&mut out, "Last events of the node, newest first");
        for (when, what) in &told.events {
            wrap(&mut out, when, &redact::text(what), 29);
        }
        if !told.causes.is_empty() {
            section(&mut out, "Failures so far, by cause");
            for (code, count) in &told.causes {
                let _ = writeln!(out, "{count:>10}  {code}");
            }
        }
    }
    if let Some((name, text)) = &extra.config {
        section(&mut out, &format!("Config {name}"));
        out.push_str(&redact::config(text));
        out.push('\n');
    }
    section(&mut out, "What was left out");
    wrap(
        &mut out,
        "",
        "Bodies of answers. Values of all header fields that may hold a secret, of queries, of users and passwords in URLs; addresses of hooks, arguments of commands, headers and sends of checks, digests of tokens and keys in the config. \"(removed)\" stands in their place.",
        0,
    );
    // Whatever a text above let through, what is known to be secret goes last.
    redact::text_and(&out, &extra.secrets)
}

fn node(facts: &Facts) -> String {
    match &facts.node {
        Node::NotAsked => "not asked".to_owned(),
        Node::Absent { place, why } => format!("nobody answers at {place}: {why}"),
        Node::Answered(told) => {
            format!("evenkeel {} at {}, since {}, plan {}", told.version, told.place, told.started, told.generation)
        }
    }
}

fn section(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n\n{title}\n{}\n", "-".repeat(title.chars().count()));
}

fn judgement(judgement: &Judgement) -> Judgement {
    let clean = |lines: &[String]| lines.iter().map(|line| redact::text(line)).collect();
    Judgement {
        sentence: redact::text(&judgement.sentence),
        evidence: clean(&judgement.evidence),
        next: clean(&judgement.next),
        beside: clean(&judgement.beside),
        ..judgement.clone()
    }
}

fn cleaned(step: &Step) -> Step {
    Step {
        seen: step.seen.iter().map(|line| redact::text(line)).collect(),
        means: redact::text(&step.means),
        ..step.clone()
    }
}

fn put_backend(out: &mut String, backend: &Backend) {
    if let Some(standing) = &backend.standing {
        let _ = writeln!(
            out,
            "verdict {} since {}, order {}, weight {} (in force {}), in flight {}{}",
            standing.verdict,
            standing.since,
            standing.order,
            standing.weight,
            standing.effective_weight,
            standing.in_flight,
            standing.ejected_until.as_ref().map_or_else(String::new, |until| format!(", ejected until {until}"))
        );
        for check in &standing.checks {
            let _ = writeln!(out, "check \"{}\": {}", check.name, check.verdict);
            for finding in &check.recent {
                wrap(out, &format!("  {}", finding.started), &redact::text(&finding.text), 31);
            }
        }
    }
    for connect in &backend.connects {
        let from = connect.from.map_or_else(String::new, |from| format!(" from {from}"));
        let how = match &connect.result {
            Ok(took) => format!("connects in {}", time(*took)),
            Err(failure) => super::seen::failed(failure),
        };
        let _ = writeln!(out, "to {}{from}: {how}", connect.to);
    }
    if !backend.straight.is_empty() {
        let _ = writeln!(out, "\nThe request straight:");
        tries(out, &backend.straight);
    }
    if let Some(probe) = &backend.probe {
        let _ = writeln!(out, "The check's request, {} {}:", probe.method, redact::url(&probe.path));
        tries(out, std::slice::from_ref(&probe.seen));
    }
    if let Some((host, attempt)) = &backend.other_host {
        let _ = writeln!(out, "With Host: {host}:");
        tries(out, std::slice::from_ref(attempt));
    }
}

fn tries(out: &mut String, tries: &[Try]) {
    for (number, attempt) in tries.iter().enumerate() {
        let part = |name: &str, took: Option<std::time::Duration>| {
            took.map_or_else(String::new, |took| format!(", {name} {}", time(took)))
        };
        wrap(
            out,
            &format!("{:>3}.", number + 1),
            &redact::text(&format!(
                "it {}{}{}, whole {}",
                Condition::of(attempt).does(),
                part("connect", attempt.connected),
                part("head", attempt.head),
                time(attempt.whole)
            )),
            5,
        );
        // The fields of equal requests are mostly the same.
        let Some(answer) = answer(attempt).filter(|answer| number == 0 || answer.status >= 400) else { continue };
        let _ = writeln!(
            out,
            "     head {} bytes, body {} bytes, hash {:016x}",
            answer.head_bytes, answer.body_bytes, answer.body_hash
        );
        for (name, value) in &answer.fields {
            wrap(out, "", &redact::field(&printable(name), &printable(value)), 7);
        }
    }
}

/// A server may send anything as a field.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
