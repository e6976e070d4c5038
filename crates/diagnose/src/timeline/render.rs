//! A timeline for a terminal.

use std::fmt::Write;

use evenkeel_model::Epoch;
use evenkeel_model::exchange::Record;

use super::words::{shown, span};
use super::{Step, Timeline};
use crate::explain::wrapped;

const INDENT: usize = 15;

/// The whole story of `record`, ready to print.
pub fn text(record: &Record, timeline: &Timeline, epoch: Epoch) -> String {
    let mut text = String::new();
    let times = &record.times;
    let _ = writeln!(text, "{}  {}", record.id, epoch.rfc3339(times.started));
    let what = match &record.request {
        Some(request) => format!("{} {}{}", shown(&request.method), shown(&request.host), shown(&request.target)),
        None if record.datagrams.is_some() => "udp session".to_owned(),
        None => "connection".to_owned(),
    };
    let status = record.status.map_or(String::new(), |status| format!(": {status}"));
    let _ = writeln!(text, "{what}{status} after {}\n", span(times.ended - times.started));
    let mut field = |label: &str, value: &str| wrapped(&mut text, &format!("  {label}"), value, INDENT);
    if let (Some(cause), Some(phase)) = (record.cause, record.phase()) {
        field("cause", cause.code());
        field("blame", cause.entry().blame.word());
        field("phase", phase.word());
    }
    field("client", &record.client.to_string());
    field("listener", &record.listener);
    if let Some(pool) = &record.pool {
        field("pool", pool);
    }
    if let Some(backend) = record.backend {
        field("backend", &backend.to_string());
    }
    text.push('\n');
    let at = |step: &Step| format!("{:.3}", step.at_ms);
    let took = |step: &Step| step.took_ms.map_or(String::new(), |took| format!("{took:.3}"));
    let wide = |of: &dyn Fn(&Step) -> String, least: usize| {
        timeline.steps.iter().map(|step| of(step).len()).max().unwrap_or(0).max(least)
    };
    let (at_wide, took_wide) = (wide(&at, 5), wide(&took, 7));
    let _ = writeln!(text, "  {:>at_wide$}  {:>took_wide$}", "at ms", "took ms");
    for step in &timeline.steps {
        let mark = if step.cause.is_some() { '!' } else { ' ' };
        let label = format!("{mark} {:>at_wide$}  {:>took_wide$}  {:10}  ", at(step), took(step), step.phase);
        let indent = label.chars().count();
        wrapped(&mut text, &label, &step.what, indent);
        if let Some(evidence) = &step.evidence {
            wrapped(&mut text, "", evidence, indent);
        }
    }
    text.push('\n');
    for line in &timeline.explanation {
        wrapped(&mut text, "", line, 2);
    }
    text
}
