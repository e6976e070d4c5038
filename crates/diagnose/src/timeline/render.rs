//! A story for a terminal, from what a node told or from a line of a log.
//!
//! Whatever a client chose is shown so that it can neither move the cursor nor forge a line.

use std::fmt::Write;

use serde_json::Value;

use super::words::shown;
use super::{Step, Told};
use crate::explain::wrapped;

const INDENT: usize = 15;

/// The whole story, ready to print.
pub fn text(told: &Told) -> String {
    let word = |key: &str| {
        told.line.get(key).map(|value| match value {
            Value::String(text) => shown(text.as_bytes()),
            other => other.to_string(),
        })
    };
    let mut text = format!("{}  {}\n", word("id").unwrap_or_default(), word("time").unwrap_or_default());
    let what = match (word("method"), word("datagrams_in")) {
        (Some(method), _) => {
            format!("{method} {}{}", word("host").unwrap_or_default(), word("target").unwrap_or_default())
        }
        (None, Some(_)) => "udp session".to_owned(),
        (None, None) => "connection".to_owned(),
    };
    let status = word("status").map_or(String::new(), |status| format!(": {status}"));
    let _ = writeln!(text, "{what}{status} after {} ms\n", word("duration_ms").unwrap_or_default());
    for key in ["cause", "blame", "phase", "client", "listener", "pool", "backend"] {
        if let Some(value) = word(key) {
            wrapped(&mut text, &format!("  {key}"), &value, INDENT);
        }
    }
    text.push('\n');
    let steps = &told.timeline.steps;
    let at = |step: &Step| format!("{:.3}", step.at_ms);
    let took = |step: &Step| step.took_ms.map_or(String::new(), |took| format!("{took:.3}"));
    let wide = |of: &dyn Fn(&Step) -> String, least: usize| {
        steps.iter().map(|step| of(step).len()).max().unwrap_or(0).max(least)
    };
    let (at_wide, took_wide) = (wide(&at, 5), wide(&took, 7));
    let _ = writeln!(text, "  {:>at_wide$}  {:>took_wide$}", "at ms", "took ms");
    for step in steps {
        let mark = if step.cause.is_some() { '!' } else { ' ' };
        let label = format!("{mark} {:>at_wide$}  {:>took_wide$}  {:10}  ", at(step), took(step), step.phase);
        let indent = label.chars().count();
        wrapped(&mut text, &label, &step.what, indent);
        if let Some(evidence) = &step.evidence {
            wrapped(&mut text, "", evidence, indent);
        }
    }
    text.push('\n');
    for line in &told.timeline.explanation {
        wrapped(&mut text, "", line, 2);
    }
    text
}
