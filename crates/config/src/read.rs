//! The document into a [`Config`]: walks the tables and asks for each key, once.
//!
//! Judges every value by itself and nothing by another. The key table says what exists; this file says
//! where each value goes. A derive macro over the config types lost: it would need to be taught places, ranges
//! and proposals, and is then larger than this.

mod admin;
mod backends;
mod check;
mod listener;
mod node;
mod payload;
mod pool;
mod rule;
mod tls;
mod transport;

use std::ops::Range;

use evenkeel_model::Cidr;

use crate::config::{At, Config, File, Listener};
use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::{Note, Notes, Quoted};
use crate::reader::{Reader, wrong_type};
use crate::values::{self, Refusal};

pub(crate) fn config(document: &Node, notes: &mut Notes) -> Config {
    let empty = Table::default();
    let root = match &document.value {
        Value::Table(table) => table,
        Value::Nothing => &empty,
        other => {
            let text = format!("a config is a table of keys, and this is {}", other.described());
            notes.add(Note::error("wrong_type", document.span.clone(), text).help("begin with a listener and a pool"));
            &empty
        }
    };
    let mut top = Reader::new(Section::Top, "", root, 0..0, notes);
    let node = node::node(&mut top, &empty);
    let admin = admin::admin(&mut top, &empty);
    let listeners: Vec<Listener> = tables(&mut top, "listener", "[[listener]]")
        .into_iter()
        .enumerate()
        .map(|(position, (table, head))| listener::listener(position, table, head, top.notes()))
        .collect();
    // A listener that could not be read has its own problem.
    let tried = root.get("listener").is_some_and(|entry| entry.node.value != Value::List(Vec::new()));
    if listeners.is_empty() && !tried {
        let text = "there is no listener, so nothing can arrive";
        let help = "add [[listener]] with listen = \"0.0.0.0:80\" and pool = \"…\"";
        top.notes().add(Note::error("no_listener", 0..0, text).help(help).about_the_file());
    }
    let pools = tables(&mut top, "pool", "[[pool]]")
        .into_iter()
        .enumerate()
        .map(|(position, (table, head))| pool::pool(position, table, head, top.notes()))
        .collect();
    top.finish();
    Config { node, admin, listeners, pools }
}

/// The one table under a key, or an empty one.
fn table<'d>(top: &mut Reader<'d, '_>, name: &'static str, empty: &'d Table) -> (&'d Table, Range<usize>) {
    let Some(entry) = top.entry(name) else { return (empty, 0..0) };
    match &entry.node.value {
        Value::Table(table) => (table, entry.node.span.clone()),
        other => {
            let help = format!("write [{name}] and its keys below it");
            let what = format!("is {}, but it takes a table", other.described());
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            (empty, 0..0)
        }
    }
}

/// A table that has a meaning by being there, under a key that takes nothing else.
fn inner<'d>(reader: &mut Reader<'d, '_>, name: &'static str, help: &str) -> Option<(&'d Table, Range<usize>)> {
    let entry = reader.entry(name)?;
    match &entry.node.value {
        Value::Table(table) => Some((table, entry.node.span.clone())),
        other => {
            reader.refuse(wrong_type(other, "a table", help), name, &entry.node);
            None
        }
    }
}

/// The same, where what is left out has defaults.
fn inner_or_empty<'d: 'e, 'e>(
    reader: &mut Reader<'d, '_>,
    name: &'static str,
    help: &str,
    empty: &'e Table,
) -> (&'e Table, Range<usize>) {
    inner(reader, name, help).unwrap_or((empty, 0..0))
}

fn file(reader: &mut Reader<'_, '_>, name: &'static str) -> Option<File> {
    reader.text(name, values::file)
}

/// The tables under a key that takes a list of them.
fn tables<'d>(top: &mut Reader<'d, '_>, name: &'static str, header: &str) -> Vec<(&'d Table, Range<usize>)> {
    let Some(entry) = top.entry(name) else { return Vec::new() };
    let help = format!("in TOML write {header} above the keys of each one; in YAML begin each one with \"- \"");
    match &entry.node.value {
        Value::List(items) => {
            let mut found = Vec::with_capacity(items.len());
            for item in items {
                match &item.value {
                    Value::Table(table) => found.push((table, item.span.clone())),
                    other => {
                        let what = format!("has {} in its list, but it takes tables", other.described());
                        top.refuse(Refusal { code: "wrong_type", what, help: help.clone() }, name, item);
                    }
                }
            }
            found
        }
        Value::Table(table) => {
            let what = "is one table, but it takes a list of tables".into();
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            vec![(table, entry.node.span.clone())]
        }
        other => {
            let what = format!("is {}, but it takes a list of tables", other.described());
            top.refuse(Refusal { code: "wrong_type", what, help }, name, &entry.node);
            Vec::new()
        }
    }
}

fn cidr(text: &str) -> Result<Cidr, Refusal> {
    text.parse().map_err(|why: String| {
        let text = Quoted(text).to_string();
        let (why, help) = why.split_once("; ").unwrap_or((&why, "write for example \"10.0.0.0/8\" or \"10.0.0.7\""));
        let what = match why.strip_prefix(&text) {
            Some(rest) => format!("has {text}, which{rest}"),
            None => format!("has {text}, but {why}"),
        };
        Refusal { code: "invalid_cidr", what, help: help.to_owned() }
    })
}

/// One path or a list of them.
fn files(reader: &mut Reader<'_, '_>, name: &'static str) -> Vec<File> {
    list(reader, name, values::file)
}

/// One string or a list of them.
fn list<T>(reader: &mut Reader<'_, '_>, name: &'static str, parse: impl Fn(&str) -> Result<T, Refusal>) -> Vec<At<T>> {
    let Some(entry) = reader.entry(name) else { return Vec::new() };
    let items: &[Node] = match &entry.node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.node),
    };
    if items.is_empty() && name == "listen" {
        let what = "is an empty list".into();
        reader.refuse(
            Refusal { code: "missing_key", what, help: "add an address and a port".into() },
            name,
            &entry.node,
        );
    }
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let read = match &item.value {
            Value::Text(text) => parse(text),
            // A bare port is a common slip, and is answered as an address would be.
            Value::Integer(Some(number)) => parse(&number.to_string()),
            other => Err(Refusal {
                code: "wrong_type",
                what: format!("has {}, but it takes strings", other.described()),
                help: "write each one in quotes".into(),
            }),
        };
        if let Some(value) = reader.accept(read, name, item) {
            found.push(At { value, span: item.span.clone() });
        }
    }
    found
}

/// What problems call it: by its name when that is a string, else by its position.
fn label(what: &str, position: usize, table: &Table) -> String {
    let named = |key: &str| {
        let value = table.get(key).map(|entry| &entry.node.value);
        let first = match value {
            Some(Value::List(items)) => items.first().map(|item| &item.value),
            value => value,
        };
        match first {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    };
    let name = named("name").or_else(|| if what == "listener" { named("listen") } else { None });
    match name {
        Some(name) => format!("{what} {}", Quoted(name)),
        None => format!("{what} {}", position + 1),
    }
}
