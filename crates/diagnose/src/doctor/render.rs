//! A diagnosis as text for a terminal, and as JSON.
//!
//! Nothing is left out of either: who asked a doctor wants to see what it rests on. Secrets are taken out of reports only,
//! since what is printed here is read by whoever asked.

use std::fmt::Write as _;

use serde_json::{Value, json as value};

use super::{Diagnosis, Judgement, Mark, Outcome, Step};

/// Columns of the text; what is seen is never cut, only broken.
const WIDTH: usize = 100;
/// Where what was seen begins.
const INDENT: usize = 18;

/// The steps, then the judgement.
pub fn text(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    for step in &diagnosis.steps {
        put_step(&mut out, step);
    }
    out.push('\n');
    put_judgement(&mut out, &diagnosis.judgement);
    out
}

pub(super) fn put_step(out: &mut String, step: &Step) {
    let mark = match step.mark {
        Mark::Good => "ok",
        Mark::Skipped => "-",
        Mark::Note => "note",
        Mark::Bad => "BAD",
    };
    let label = format!("{mark:<5}{}", step.name);
    let mut lines = step.seen.iter();
    match lines.next() {
        Some(first) => wrap(out, &label, first, INDENT),
        None => {
            wrap(out, &label, &step.means, INDENT);
            return;
        }
    }
    for line in lines {
        wrap(out, "", line, INDENT);
    }
    if !step.means.is_empty() {
        wrap(out, "", &format!("=> {}", step.means), INDENT);
    }
}

pub(super) fn put_judgement(out: &mut String, judgement: &Judgement) {
    let head = match judgement.outcome {
        Outcome::NothingWrong => "JUDGEMENT: nothing wrong seen".to_owned(),
        Outcome::CannotTell => "JUDGEMENT: this cannot be told".to_owned(),
        Outcome::Fault(whose) => format!("JUDGEMENT: {}", whose.phrase()),
    };
    let cause = judgement.cause.map_or_else(String::new, |cause| format!(", cause {}", cause.code()));
    let _ = writeln!(out, "{head}{cause} ({})", judgement.confidence.word());
    wrap(out, "  ", &judgement.sentence, 2);
    let mut some = |label: &str, lines: &[String]| {
        for (number, line) in lines.iter().enumerate() {
            wrap(out, if number == 0 { label } else { "" }, &format!("- {line}"), 12);
        }
    };
    some("  because", &judgement.evidence);
    some("  do next", &judgement.next);
    some("  besides", &judgement.beside);
    if let Some(cause) = judgement.cause {
        let _ = writeln!(out, "  more      - evenkeel explain {}", cause.code());
    }
}

/// `text` from column `indent` on, behind `label`, in lines of [`WIDTH`].
pub(super) fn wrap(out: &mut String, label: &str, text: &str, indent: usize) {
    let mut line = format!("{label:<indent$}");
    let mut fresh = true;
    // A continued item of a list begins under its text.
    let hang =
        if text.starts_with("- ") || text.starts_with("=> ") { text.find(' ').map_or(0, |space| space + 1) } else { 0 };
    for word in text.split_whitespace() {
        if !fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indent + hang);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// `evenkeel doctor --json`.
pub fn json(diagnosis: &Diagnosis) -> Value {
    let Diagnosis { steps, judgement } = diagnosis;
    value!({
        "steps": steps.iter().map(|step| value!({
            "name": step.name,
            "mark": step.mark.word(),
            "seen": step.seen,
            "means": step.means,
        })).collect::<Vec<_>>(),
        "judgement": judgement_json(judgement),
    })
}

pub(super) fn judgement_json(judgement: &Judgement) -> Value {
    let whose = match judgement.outcome {
        Outcome::Fault(whose) => Some(whose.word()),
        Outcome::NothingWrong | Outcome::CannotTell => None,
    };
    value!({
        "outcome": judgement.outcome.word(),
        "whose": whose,
        "blame": judgement.cause.map(|cause| cause.entry().blame.word()),
        "cause": judgement.cause.map(evenkeel_model::Cause::code),
        "about": judgement.about,
        "confidence": judgement.confidence.word(),
        "sentence": judgement.sentence,
        "evidence": judgement.evidence,
        "next": judgement.next,
        "beside": judgement.beside,
    })
}
