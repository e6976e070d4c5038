//! A config as a tree of values that know where they stand, whatever format it was written in.
//!
//! Three parsers make the same tree, so that a rule about a key is written once and an error in a
//! YAML file is as exact as one in a TOML file. Deserializing with serde straight into structs lost:
//! it stops at the first error and keeps no places.

mod json;
mod toml;
mod yaml;

use std::collections::HashMap;
use std::ops::Range;

use crate::problem::Notes;
use crate::source::{Format, Source};

/// Deepest nesting read. A config needs four levels; the bound keeps recursion off hostile depth.
pub(crate) const DEPTH: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    /// As it was written: whole, perhaps signed, perhaps larger than any number of ours.
    Integer(Option<i128>),
    Float(f64),
    Flag(bool),
    /// YAML and JSON `null`.
    Nothing,
    /// TOML dates, which no key takes.
    Date,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// With its article, as an error says it.
    pub(crate) const fn described(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Flag(true) => "true",
            Value::Flag(false) => "false",
            Value::Nothing => "nothing",
            Value::Date => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// In the order of the file. Keys are unique: the parsers refuse a second one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// Positions in `entries`, so that a file with very many keys costs no more per key than a small one.
    by_key: HashMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.by_key.get(key).map(|&position| &self.entries[position])
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The caller has refused the key if it was there already.
    fn add(&mut self, entry: Entry) {
        self.by_key.insert(entry.key.clone(), self.entries.len());
        self.entries.push(entry);
    }
}

/// Reads what can be read. Notes every syntax error; the rest of the tree is still worth checking.
pub(crate) fn parse(source: &Source<'_>, notes: &mut Notes) -> Node {
    let root = match source.format {
        Format::Toml => toml::parse(source.text, notes),
        Format::Yaml => yaml::parse(source.text, notes),
        Format::Json => json::parse(source.text, notes),
    };
    notes.end_of_syntax();
    root
}
