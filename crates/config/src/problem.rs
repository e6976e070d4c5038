//! What is wrong with a config, said so that it can be mended without looking anything up.
//!
//! Readers and checks note problems and go on, because the operator wants all of them in one run.
//! Nobody aborts; whether there is a plan is decided by [`Notes::failed`] at the end.

use std::fmt;
use std::ops::Range;

use crate::source::{Lines, Place};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No plan is made.
    Error,
    /// A plan is made, and the operator should look.
    Warning,
}

impl Severity {
    pub const fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Stable, for example `unknown_key`.
    pub code: &'static str,
    pub place: Place,
    /// Lower case, without a full stop.
    pub text: String,
    /// The next step.
    pub help: Option<String>,
    /// A second place the problem speaks of, and what is there.
    pub related: Option<(Place, String)>,
}

/// What a problem needs the rest of the file for. After a syntax error only the first kind is
/// reported: the missing half of a relation may be in the part that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Value,
    File,
}

/// A problem while it is being written down.
#[derive(Debug)]
pub(crate) struct Note {
    severity: Severity,
    code: &'static str,
    span: Range<usize>,
    text: String,
    help: Option<String>,
    related: Option<(Range<usize>, String)>,
    reach: Reach,
}

impl Note {
    pub(crate) fn error(code: &'static str, span: Range<usize>, text: impl Into<String>) -> Self {
        let text = text.into();
        Note { severity: Severity::Error, code, span, text, help: None, related: None, reach: Reach::Value }
    }

    pub(crate) fn warning(code: &'static str, span: Range<usize>, text: impl Into<String>) -> Self {
        Note { severity: Severity::Warning, ..Note::error(code, span, text) }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub(crate) fn related(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.related = Some((span, text.into()));
        self
    }

    /// Marks a problem that other lines of the file could cure.
    pub(crate) fn about_the_file(mut self) -> Self {
        self.reach = Reach::File;
        self
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    notes: Vec<Note>,
    syntax: usize,
}

impl Notes {
    pub(crate) fn add(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// What has been noted so far is syntax.
    pub(crate) fn end_of_syntax(&mut self) {
        self.syntax = self.notes.len();
    }

    pub(crate) fn failed(&self) -> bool {
        self.errors() > 0
    }

    /// How many there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.notes.iter().filter(|note| note.severity == Severity::Error).count()
    }

    pub(crate) fn into_problems(mut self, lines: &Lines<'_>) -> Vec<Problem> {
        if self.syntax > 0 {
            let broken: Vec<usize> =
                self.notes[..self.syntax].iter().map(|note| lines.place(note.span.clone()).line).collect();
            let mut position = 0;
            self.notes.retain(|note| {
                position += 1;
                let line = lines.place(note.span.clone()).line;
                position <= self.syntax || (note.reach == Reach::Value && !broken.contains(&line))
            });
        }
        let mut problems: Vec<Problem> = self
            .notes
            .into_iter()
            .map(|note| Problem {
                severity: note.severity,
                code: note.code,
                place: lines.place(note.span),
                text: note.text,
                help: note.help,
                related: note.related.map(|(span, text)| (lines.place(span), text)),
            })
            .collect();
        problems
            .sort_by(|a, b| (a.place.span.start, a.severity, a.code).cmp(&(b.place.span.start, b.severity, b.code)));
        problems
    }
}

/// A value of the file, quoted for an error text: control characters made visible, long ones cut.
pub(crate) struct Quoted<'a>(pub &'a str);

/// Longest value an error text repeats; longer ones are recognised by their beginning.
const QUOTED_CHARACTERS: usize = 80;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for (position, character) in self.0.chars().enumerate() {
            if position == QUOTED_CHARACTERS {
                f.write_str("…")?;
                break;
            }
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        f.write_str("\"")
    }
}
