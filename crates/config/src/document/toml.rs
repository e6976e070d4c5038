//! TOML into the document, with every syntax error the parser can recover from.
//!
//! Uses the parser's spanned tables, which keep going after an error; its serde side stops at the first
//! and loses the places. Says nothing of what the keys mean.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEPTH, Entry, Node, Table, Value};
use crate::problem::{Note, Notes, Quoted};

pub(super) fn parse(text: &str, notes: &mut Notes) -> Node {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let doubled = text.get(span.clone()).filter(|_| error.message() == "duplicate key");
        notes.add(match doubled {
            Some(key) => Note::error("syntax", span, format!("key {} is here twice", Quoted(key.trim_matches('"'))))
                .help(match key {
                    "listener" | "pool" => format!("for more than one write [[{key}]], with two brackets"),
                    "rule" | "certificate" => {
                        format!("for more than one write [[listener.{key}]], with two brackets")
                    }
                    _ => "keep one of them".to_owned(),
                }),
            None => Note::error("syntax", span, format!("this is not TOML: {}", error.message())),
        });
    }
    let value = Value::Table(table(root.get_ref(), 0, notes));
    Node { value, span: 0..0 }
}

fn table(table: &DeTable<'_>, depth: usize, notes: &mut Notes) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: node(value, depth + 1, notes),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    let mut table = Table::default();
    for entry in entries {
        table.add(entry);
    }
    table
}

fn node(value: &Spanned<DeValue<'_>>, depth: usize, notes: &mut Notes) -> Node {
    let span = value.span();
    if depth > DEPTH {
        notes.add(Note::error("too_deep", span.clone(), format!("values are nested deeper than {DEPTH} levels")));
        return Node { value: Value::Nothing, span };
    }
    let value = match value.get_ref() {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Integer(integer) => Value::Integer(i128::from_str_radix(integer.as_str(), integer.radix()).ok()),
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(item, depth + 1, notes)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, depth + 1, notes)),
    };
    Node { value, span }
}
