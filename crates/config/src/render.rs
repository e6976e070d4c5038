//! Problems as an operator reads them, and as a program does.
//!
//! Adds nothing and leaves nothing out: code, place, words and help were all decided where the problem
//! was found. Drawing is left to annotate-snippets, which draws rustc's own errors.

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::problem::{Problem, Severity};
use crate::source::{Lines, Place, Source};

/// One block for each problem: code and text, `file:line:column`, the line with a caret, the help.
/// Empty when there are none.
pub fn render(source: &Source<'_>, problems: &[Problem], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let lines = Lines::new(source.text);
    let mut out = String::new();
    for problem in problems {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let primary = annotation(&lines, &problem.place, AnnotationKind::Primary);
        let title = level.primary_title(&problem.text).id(problem.code);
        let first = snippet(source, &lines, problem.place.line).annotation(primary);
        let mut group = match &problem.related {
            None => title.element(first),
            Some((place, text)) => {
                let context = annotation(&lines, place, AnnotationKind::Context).label(text);
                if place.line == problem.place.line {
                    title.element(first.annotation(context))
                } else {
                    title.element(first).element(snippet(source, &lines, place.line).annotation(context))
                }
            }
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help));
        }
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

/// Only the one line: the rest of a long table tells nothing, and a file with a thousand problems is not
/// searched a thousand times.
fn snippet<'a>(source: &Source<'a>, lines: &Lines<'a>, line: usize) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(lines.line(line).0).path(source.name).line_start(line)
}

fn annotation<'a>(lines: &Lines<'_>, place: &Place, kind: AnnotationKind) -> Annotation<'a> {
    let (line, begin) = lines.line(place.line);
    let start = (place.span.start - begin).min(line.len());
    let end = (place.span.end - begin).min(line.len()).max(start);
    kind.span(start..end)
}

/// A JSON list with one object for each problem.
pub fn render_json(source: &Source<'_>, problems: &[Problem]) -> String {
    let place = |place: &Place| {
        json!({
            "line": place.line,
            "column": place.column,
            "start": place.span.start,
            "end": place.span.end,
        })
    };
    let list: Vec<Value> = problems
        .iter()
        .map(|problem| {
            json!({
                "severity": problem.severity.word(),
                "code": problem.code,
                "file": source.name,
                "place": place(&problem.place),
                "text": problem.text,
                "help": problem.help,
                "related": problem.related.as_ref().map(|(at, text)| json!({ "place": place(at), "text": text })),
            })
        })
        .collect();
    let mut out = serde_json::to_string_pretty(&list).expect("strings and numbers are always JSON");
    out.push('\n');
    out
}
