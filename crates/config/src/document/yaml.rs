//! YAML 1.2 (core schema) into the document, with places.
//!
//! Takes the events of `saphyr-parser` rather than a loaded tree, so that places, duplicate keys and
//! depth are ours to watch. What would make a config mean more than it shows is refused: tags, anchors with
//! their aliases, several documents in one file.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{DEPTH, Entry, Node, Table, Value};
use crate::problem::{Note, Notes, Quoted};

pub(super) fn parse(text: &str, notes: &mut Notes) -> Node {
    let mut builder = Builder { bytes: Bytes::new(text), text, open: Vec::new(), root: None, notes };
    builder.run();
    builder.root.unwrap_or(Node { value: Value::Table(Table::default()), span: 0..0 })
}

struct Builder<'a, 'n> {
    text: &'a str,
    bytes: Bytes,
    open: Vec<Open>,
    root: Option<Node>,
    notes: &'n mut Notes,
}

/// A list or mapping whose end was not seen yet.
enum Open {
    List { items: Vec<Node>, start: usize },
    Table { table: Table, key: Option<(String, Range<usize>)>, start: usize },
}

impl Builder<'_, '_> {
    fn run(&mut self) {
        let mut documents = 0;
        let mut parser = Parser::new_from_str(self.text);
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let at = self.bytes.at(error.marker().index());
                    self.refuse(at..at + 1, format!("this is not YAML: {}", error.info()), None);
                    return;
                }
            };
            let span = self.span(span);
            if let Event::DocumentStart(_) = event {
                documents += 1;
                if documents > 1 {
                    self.refuse(span, "a config is one YAML document, and here begins a second".into(), None);
                    return;
                }
            }
            if self.take(event, span).is_err() {
                return;
            }
        }
    }

    /// `Err` when there is no point in reading on.
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), ()> {
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) | Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.is_some())
            }
            _ => (0, false),
        };
        if anchor != 0 {
            self.refuse(
                span.clone(),
                "YAML anchors are not read".into(),
                Some("write the value out where it is needed"),
            );
        }
        if tag {
            self.refuse(span.clone(), "YAML tags are not read".into(), Some("remove the word that begins with \"!\""));
        }
        match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span),
            Event::Alias(_) => {
                self.refuse(
                    span.clone(),
                    "YAML aliases are not read".into(),
                    Some("write the value out where it is needed"),
                );
                self.place(Node { value: Value::Nothing, span });
            }
            Event::SequenceStart(..) => self.open(Open::List { items: Vec::new(), start: span.start })?,
            Event::MappingStart(..) => {
                self.open(Open::Table { table: Table::default(), key: None, start: span.start })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, open: Open) -> Result<(), ()> {
        let (Open::List { start, .. } | Open::Table { start, .. }) = &open;
        let start = *start;
        if let Some(Open::Table { key: None, .. }) = self.open.last() {
            self.refuse(start..start + 1, "a key has to be a plain string".into(), None);
            return Err(());
        }
        if self.open.len() >= DEPTH {
            self.notes.add(Note::error(
                "too_deep",
                start..start + 1,
                format!("values are nested deeper than {DEPTH} levels"),
            ));
            return Err(());
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, end: usize) {
        match self.open.pop() {
            Some(Open::List { items, start }) => self.place(Node { value: Value::List(items), span: start..end }),
            Some(Open::Table { table, start, .. }) => {
                self.place(Node { value: Value::Table(table), span: start..end });
            }
            None => {}
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Range<usize>) {
        if let Some(Open::Table { table, key: key @ None, .. }) = self.open.last_mut() {
            if let Some(first) = table.get(text) {
                let note = Note::error("syntax", span.clone(), format!("key {} is here twice", Quoted(text)))
                    .related(first.key_span.clone(), "the first one")
                    .help("keep one of them");
                self.notes.add(note);
            }
            *key = Some((text.to_owned(), span));
            return;
        }
        let value = if style == ScalarStyle::Plain { resolve(text) } else { Value::Text(text.to_owned()) };
        self.place(Node { value, span });
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Table { table, key, .. }) => {
                // An alias may stand where a key belongs; it was refused, and there is nothing to file.
                if let Some((key, key_span)) = key.take()
                    && table.get(&key).is_none()
                {
                    table.add(Entry { key, key_span, node });
                }
            }
            None => self.root = Some(node),
        }
    }

    fn refuse(&mut self, span: Range<usize>, text: String, help: Option<&str>) {
        self.notes.add(Note::error("syntax", span, text).maybe_help(help.map(str::to_owned)));
    }

    /// In bytes, without the blanks the parser counts to a plain scalar.
    fn span(&self, span: Span) -> Range<usize> {
        let start = self.bytes.at(span.start.index());
        let end = self.bytes.at(span.end.index()).max(start);
        let trimmed = self.text[start..end].trim_end().len();
        start..start + trimmed
    }
}

/// The core schema of YAML 1.2.2, section 10.3.2. `yes`, `no`, `on` and `off` are strings there.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Nothing,
        "true" | "True" | "TRUE" => Value::Flag(true),
        "false" | "False" | "FALSE" => Value::Flag(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(octal) = text.strip_prefix("0o") {
        let valid = !octal.is_empty() && octal.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        return valid.then(|| Value::Integer(i128::from_str_radix(octal, 8).ok()));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        let valid = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        return valid.then(|| Value::Integer(i128::from_str_radix(hex, 16).ok()));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits(unsigned) {
        return Some(Value::Integer(text.parse().ok()));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Value::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits =
        (digits(whole) && (fraction.is_empty() || digits(fraction))) || (whole.is_empty() && digits(fraction));
    let exponent_fits = exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    (mantissa_fits && exponent_fits).then(|| Value::Float(text.parse().unwrap_or(f64::NAN)))
}

/// From character index, which the parser counts in, to byte offset.
enum Bytes {
    /// They are the same.
    Ascii(usize),
    Table(Vec<usize>),
}

impl Bytes {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Bytes::Ascii(text.len());
        }
        Bytes::Table(text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
    }

    fn at(&self, index: usize) -> usize {
        match self {
            Bytes::Ascii(length) => index.min(*length),
            Bytes::Table(offsets) => offsets[index.min(offsets.len() - 1)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema_and_quoted_ones_stay_text() {
        let table = [
            ("12", Value::Integer(Some(12))),
            ("-3", Value::Integer(Some(-3))),
            ("0x10", Value::Integer(Some(16))),
            ("0o17", Value::Integer(Some(15))),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1e3)),
            (".inf", Value::Float(f64::INFINITY)),
            ("true", Value::Flag(true)),
            ("~", Value::Nothing),
            ("off", Value::Text("off".into())),
            ("5s", Value::Text("5s".into())),
            ("2xx", Value::Text("2xx".into())),
            ("200-204", Value::Text("200-204".into())),
            ("10.0.0.1:80", Value::Text("10.0.0.1:80".into())),
            ("0.0.0.0", Value::Text("0.0.0.0".into())),
            ("'12'", Value::Text("12".into())),
            ("\"true\"", Value::Text("true".into())),
        ];
        for (text, expected) in table {
            let mut notes = Notes::default();
            assert_eq!(parse(text, &mut notes).value, expected, "{text}");
            assert!(!notes.failed(), "{text}");
        }
    }

    #[test]
    fn spans_are_bytes_and_leave_trailing_blanks_out() {
        let mut notes = Notes::default();
        let text = "# \u{e9}\u{e9}\nname: w\u{e9}b   \nport: 80 # why\n";
        let Value::Table(table) = parse(text, &mut notes).value else { panic!("a mapping") };
        let spans: Vec<&str> = table.entries().iter().map(|entry| &text[entry.node.span.clone()]).collect();
        assert_eq!(spans, ["w\u{e9}b", "80"]);
        assert_eq!(&text[table.entries()[1].key_span.clone()], "port");
    }

    #[test]
    fn what_hides_its_meaning_is_refused() {
        for text in
            ["a: &x 1\nb: *x\n", "a: !secret b\n", "a: 1\n---\nb: 2\n", "a: 1\na: 2\n", "? [a]\n: 1\n", "a: [1\n"]
        {
            let mut notes = Notes::default();
            parse(text, &mut notes);
            assert!(notes.failed(), "{text:?}");
        }
    }

    #[test]
    fn hostile_depth_is_refused() {
        for text in ["[".repeat(100_000), "- ".repeat(10_000), "? ".repeat(10_000)] {
            let mut notes = Notes::default();
            parse(&text, &mut notes);
            assert!(notes.failed());
        }
    }
}
