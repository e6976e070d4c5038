//! Reads the keys of one table of the document, as the key table describes them.
//!
//! Each verb takes one key, notes what is wrong with its value and answers with something to go on
//! with, so that the next key is read too. [`Reader::finish`] then refuses what nobody asked for.

use std::ops::Range;
use std::time::Duration;

use evenkeel_model::limits::{Optional, Setting};

use crate::config::{At, Written};
use crate::document::{Entry, Node, Table, Value};
use crate::keys::{ELSEWHERE, FOREIGN_WORDS, Key, Kind, LATER, LeftOut, Section};
use crate::problem::{Note, Notes, Quoted};
use crate::values::{self, Refusal};

pub(crate) struct Reader<'d, 'n> {
    section: Section,
    table: &'d Table,
    /// Whose table it is, as problems call it; empty for the file itself.
    label: String,
    /// What stands in front of its keys: `check.`
    prefix: String,
    /// Where to point when something is missing.
    head: Range<usize>,
    notes: &'n mut Notes,
    asked: Vec<&'static str>,
    written: Written,
}

impl<'d, 'n> Reader<'d, 'n> {
    pub(crate) fn new(
        section: Section,
        label: &str,
        table: &'d Table,
        head: Range<usize>,
        notes: &'n mut Notes,
    ) -> Self {
        let (label, prefix) = (label.to_owned(), section.prefix().to_owned());
        Reader { section, table, label, prefix, head, notes, asked: Vec::new(), written: Vec::new() }
    }

    /// For a table that stands under several keys.
    pub(crate) fn under(mut self, prefix: String) -> Self {
        self.prefix = prefix;
        self
    }

    pub(crate) fn notes(&mut self) -> &mut Notes {
        self.notes
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// As problems call a key of this table: `check.expect`.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What is written for a key, of whatever type.
    ///
    /// # Panics
    /// When the key is not in the table: the reader and the manual would then disagree.
    pub(crate) fn entry(&mut self, name: &'static str) -> Option<&'d Entry> {
        let key = self.section.key(name).expect("the reader asks only for keys of the table");
        self.asked.push(name);
        let entry = self.table.get(name)?;
        self.written.push((key, entry.key_span.clone()));
        Some(entry)
    }

    pub(crate) fn table(&self) -> &'d Table {
        self.table
    }

    pub(crate) fn was_written(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    pub(crate) fn duration(&mut self, setting: &'static Setting<Duration>) -> Duration {
        let name = last_part(setting.key);
        let Some(entry) = self.entry(name) else { return setting.default };
        self.duration_of(setting, name, &entry.node)
    }

    /// The same, when the value stands under another name than the setting's own.
    pub(crate) fn duration_of(&mut self, setting: &'static Setting<Duration>, name: &str, node: &Node) -> Duration {
        match self.accept(duration_in(node), name, node) {
            Some(value) => self.in_range(setting, value, values::show_duration, node),
            None => setting.default,
        }
    }

    pub(crate) fn optional_duration(&mut self, setting: &'static Optional<Duration>) -> Option<At<Duration>> {
        let name = last_part(setting.key);
        let entry = self.entry(name)?;
        let value = self.accept(duration_in(&entry.node), name, &entry.node)?;
        if value < setting.min || value > setting.max {
            let show = values::show_duration;
            self.outside_optional(name, &show(value), &show(setting.min), &show(setting.max), &entry.node);
            return None;
        }
        Some(At { value, span: entry.node.span.clone() })
    }

    pub(crate) fn optional_count(&mut self, setting: &'static Optional<u64>) -> Option<At<u64>> {
        let name = last_part(setting.key);
        let entry = self.entry(name)?;
        self.optional_count_of(setting, name, &entry.node)
    }

    /// The same, when the value stands under another name than the setting's own.
    pub(crate) fn optional_count_of(
        &mut self,
        setting: &'static Optional<u64>,
        name: &str,
        node: &Node,
    ) -> Option<At<u64>> {
        let number = self.whole(name, node)?;
        let value = u64::try_from(number).ok().filter(|value| (setting.min..=setting.max).contains(value));
        if value.is_none() {
            self.outside_optional(name, &number.to_string(), &setting.min.to_string(), &setting.max.to_string(), node);
        }
        value.map(|value| At { value, span: node.span.clone() })
    }

    /// A part of one, in percent.
    pub(crate) fn optional_share(&mut self, setting: &'static Optional<u64>) -> Option<At<u64>> {
        let name = last_part(setting.key);
        let entry = self.entry(name)?;
        let node = &entry.node;
        let part = match &node.value {
            Value::Float(part) => *part,
            Value::Integer(Some(number)) => *number as f64,
            Value::Text(text) if text.ends_with('%') && text.trim_end_matches('%').parse::<u64>().is_ok() => {
                let percent = text.trim_end_matches('%').parse::<u64>().unwrap_or_default();
                let help = format!("write {}", percent as f64 / 100.0);
                self.refuse(wrong_type(&node.value, "a part of one", &help), name, node);
                return None;
            }
            other => {
                self.refuse(wrong_type(other, "a part of one", "write for example 0.5"), name, node);
                return None;
            }
        };
        let show = |percent: u64| (percent as f64 / 100.0).to_string();
        let percent = part * 100.0;
        if !(percent >= setting.min as f64 && percent <= setting.max as f64) {
            let what = format!("is {part}, outside {} to {}", show(setting.min), show(setting.max));
            let help = if part > 1.0 && part <= 100.0 {
                format!("write {} for {part} percent", part / 100.0)
            } else {
                "left out: off".to_owned()
            };
            self.refuse(Refusal { code: "out_of_range", what, help }, name, node);
            return None;
        }
        Some(At { value: percent.round() as u64, span: node.span.clone() })
    }

    fn outside_optional(&mut self, name: &str, got: &str, min: &str, max: &str, node: &Node) {
        let what = format!("is {got}, outside {min} to {max}");
        let without = match self.section.key(name).map(|key| key.default) {
            Some(LeftOut::Is("(required)")) | None => "write a number in this range".to_owned(),
            Some(LeftOut::Is(without)) => format!("left out: {}", without.replace('`', "")),
            Some(_) => "leave it out".to_owned(),
        };
        self.refuse(Refusal { code: "out_of_range", what, help: without }, name, node);
    }

    pub(crate) fn size(&mut self, setting: &'static Setting<u64>) -> u64 {
        let name = last_part(setting.key);
        let Some(entry) = self.entry(name) else { return setting.default };
        let read = match &entry.node.value {
            Value::Text(text) => values::size(text),
            Value::Integer(number) => Err(without_unit(*number, "B", "bytes", "B, KiB, MiB, GiB")),
            other => Err(wrong_type(other, "a string with a unit", "write for example \"32KiB\" or \"1MiB\"")),
        };
        let Some(value) = self.accept(read, name, &entry.node) else { return setting.default };
        self.in_range(setting, value, values::show_size, &entry.node)
    }

    pub(crate) fn count(&mut self, setting: &'static Setting<u64>) -> u64 {
        let name = last_part(setting.key);
        let Some(entry) = self.entry(name) else { return setting.default };
        match self.whole(name, &entry.node) {
            Some(number) => self.count_in_range(setting, number, &entry.node),
            None => setting.default,
        }
    }

    fn count_in_range(&mut self, setting: &'static Setting<u64>, number: i128, node: &Node) -> u64 {
        match u64::try_from(number) {
            Ok(value) => self.in_range(setting, value, |value| value.to_string(), node),
            Err(_) => {
                self.outside(setting, &number.to_string(), |value: u64| value.to_string(), node);
                setting.default
            }
        }
    }

    /// A whole number from 1 to 65535.
    pub(crate) fn port(&mut self, name: &'static str) -> Option<u16> {
        self.a_port(name, "leave it out to use the backend's own port")
    }

    /// The same with another way out.
    pub(crate) fn a_port(&mut self, name: &'static str, help: &str) -> Option<u16> {
        let entry = self.entry(name)?;
        self.port_of(name, &entry.node, help)
    }

    pub(crate) fn port_of(&mut self, name: &str, node: &Node, help: &str) -> Option<u16> {
        let number = self.whole(name, node)?;
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            let what = format!("is {number}, outside 1 to {}", u16::MAX);
            self.refuse(Refusal { code: "out_of_range", what, help: help.to_owned() }, name, node);
        }
        port
    }

    pub(crate) fn whole(&mut self, name: &str, node: &Node) -> Option<i128> {
        let read = match &node.value {
            Value::Integer(Some(number)) => Ok(*number),
            Value::Integer(None) => Err(Refusal {
                code: "out_of_range",
                what: "is larger than any number here".into(),
                help: "write a smaller one".into(),
            }),
            Value::Text(text) if text.parse::<u64>().is_ok() => Err(Refusal {
                code: "wrong_type",
                what: format!("is {}, a string where a whole number belongs", Quoted(text)),
                help: format!("write {text} without quotes"),
            }),
            other => {
                let help = match other {
                    Value::Nothing => "give it a value, or remove the key",
                    Value::Float(_) => "write it without a fraction",
                    _ => "write a number without quotes and unit",
                };
                Err(wrong_type(other, "a whole number", help))
            }
        };
        self.accept(read, name, node)
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> bool {
        let entry = self.entry(name);
        let Some(Key { default: LeftOut::Flag(default), .. }) = self.section.key(name) else {
            unreachable!("a flag has a default of true or false in the table");
        };
        let Some(entry) = entry else { return *default };
        match &entry.node.value {
            Value::Flag(value) => *value,
            other => {
                let refusal = wrong_type(other, "true or false", "write true or false without quotes");
                self.refuse(refusal, name, &entry.node);
                *default
            }
        }
    }

    /// One of the words the table lists, or its default. `None` when something else is written.
    pub(crate) fn word(&mut self, name: &'static str) -> Option<&'static str> {
        let Some(Key { kind: Kind::Words(words), default, .. }) = self.section.key(name) else {
            unreachable!("the table lists the words of the key");
        };
        let Some(entry) = self.entry(name) else {
            return match default {
                LeftOut::Text(word) => Some(word),
                _ => None,
            };
        };
        let known = || words.iter().map(|word| word.word);
        let Value::Text(text) = &entry.node.value else {
            let refusal = wrong_type(&entry.node.value, "a word", &format!("use {}", one_of(known())));
            self.refuse(refusal, name, &entry.node);
            return None;
        };
        if let Some(word) = known().find(|word| *word == text) {
            return Some(word);
        }
        let foreign = FOREIGN_WORDS
            .iter()
            .find(|(key, theirs, ours)| *key == name && *theirs == text && known().any(|word| word == *ours));
        let meant = foreign.map(|(_, _, ours)| *ours).or_else(|| closest(text, known()));
        let refusal = Refusal {
            code: "unknown_word",
            what: format!("is {}, but it takes {}", Quoted(text), one_of(known())),
            help: meant.map_or_else(|| "write one of these".into(), |word| format!("did you mean \"{word}\"?")),
        };
        self.refuse(refusal, name, &entry.node);
        None
    }

    /// A string that `parse` understands. `None` when it is left out or was refused.
    pub(crate) fn text<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<At<T>> {
        let entry = self.entry(name)?;
        let text = self.text_of(name, &entry.node)?;
        let value = self.accept(parse(text), name, &entry.node)?;
        Some(At { value, span: entry.node.span.clone() })
    }

    pub(crate) fn required_text<T>(
        &mut self,
        name: &'static str,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<At<T>> {
        if !self.was_written(name) {
            self.missing(name, help);
        }
        self.text(name, parse)
    }

    /// A string, or the default of the table.
    pub(crate) fn text_or_default(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<String, Refusal>,
    ) -> String {
        let Some(Key { default: LeftOut::Text(default), .. }) = self.section.key(name) else {
            unreachable!("the table has a text as the default of the key");
        };
        self.text(name, parse).map_or_else(|| (*default).to_owned(), |at| at.value)
    }

    pub(crate) fn text_of<'v>(&mut self, name: &str, node: &'v Node) -> Option<&'v str> {
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                let help = match other {
                    Value::Nothing => "give it a value, or remove the key",
                    Value::List(_) | Value::Table(_) => "write one string in quotes",
                    _ => "write it in quotes",
                };
                self.refuse(wrong_type(other, "a string", help), name, node);
                None
            }
        }
    }

    pub(crate) fn missing(&mut self, name: &str, help: &str) {
        let text = self.sentence(name, "is missing");
        self.notes.add(Note::error("missing_key", self.head.clone(), text).help(help).about_the_file());
    }

    /// The value, or `None` with the refusal noted.
    pub(crate) fn accept<T>(&mut self, read: Result<T, Refusal>, name: &str, node: &Node) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.refuse(refusal, name, node);
                None
            }
        }
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal, name: &str, node: &Node) {
        let text = self.sentence(name, &refusal.what);
        self.notes.add(Note::error(refusal.code, node.span.clone(), text).help(refusal.help));
    }

    pub(crate) fn warn(&mut self, refusal: Refusal, name: &str, node: &Node) {
        let text = self.sentence(name, &refusal.what);
        self.notes.add(Note::warning(refusal.code, node.span.clone(), text).help(refusal.help));
    }

    fn sentence(&self, name: &str, what: &str) -> String {
        let name = format!("{}{name}", self.prefix);
        if self.label.is_empty() { format!("{name} {what}") } else { format!("{}: {name} {what}", self.label) }
    }

    fn in_range<T: PartialOrd + Copy>(
        &mut self,
        setting: &'static Setting<T>,
        value: T,
        show: impl Fn(T) -> String,
        node: &Node,
    ) -> T {
        if value < setting.min || value > setting.max {
            self.outside(setting, &show(value), show, node);
            return setting.default;
        }
        if let Some((low, high)) = setting.usual
            && (value < low || value > high)
        {
            let refusal = Refusal {
                code: "unusual_value",
                what: format!("is {}, outside the usual {} to {}", show(value), show(low), show(high)),
                help: format!(
                    "that is the range of the service evenkeel is modelled on; the default is {}",
                    show(setting.default)
                ),
            };
            self.warn(refusal, last_part(setting.key), node);
        }
        value
    }

    fn outside<T: Copy>(&mut self, setting: &'static Setting<T>, got: &str, show: impl Fn(T) -> String, node: &Node) {
        let refusal = Refusal {
            code: "out_of_range",
            what: format!("is {got}, outside {} to {}", show(setting.min), show(setting.max)),
            help: format!("the default is {}", show(setting.default)),
        };
        self.refuse(refusal, last_part(setting.key), node);
    }

    /// Refuses the keys nobody asked for; hands out those that were written.
    pub(crate) fn finish(self) -> Written {
        debug_assert!(
            self.section.keys().all(|key| self.asked.contains(&key.name)),
            "a key of {} is in the table and is not read: {:?}",
            self.section.header(),
            self.section.keys().find(|key| !self.asked.contains(&key.name)),
        );
        for entry in self.table.entries() {
            if self.section.key(&entry.key).is_none() {
                let note = unknown_key(self.section, &self.label, &self.prefix, entry);
                // Behind a broken header the keys of its table fall to the file itself.
                self.notes.add(if self.section == Section::Top { note.about_the_file() } else { note });
            }
        }
        self.written
    }
}

fn unknown_key(section: Section, label: &str, under: &str, entry: &Entry) -> Note {
    let key = &entry.key;
    let span = entry.key_span.clone();
    let prefix = match (label, under.trim_end_matches(['.', ':', ' '])) {
        ("", _) => String::new(),
        (label, "") => format!("{label}: "),
        (label, under) => format!("{label} {under}: "),
    };
    if LATER.contains(&(section, key.as_str())) {
        let text = format!("{prefix}{} is not available in this version", Quoted(key));
        return Note::error("not_in_this_version", span, text).help("remove it");
    }
    let names = || section.keys().map(|key| key.name);
    let elsewhere: Vec<&str> = Section::ALL
        .into_iter()
        .filter(|other| *other != section && *other != Section::Top && other.key(key).is_some())
        .map(Section::header)
        .collect();
    let foreign = ELSEWHERE.iter().find(|(place, theirs, _)| *place == section && theirs == key);
    let help = if let Some((_, _, ours)) = foreign {
        format!("did you mean \"{ours}\"?")
    } else if !elsewhere.is_empty() {
        format!("{} is a key of {}", Quoted(key), elsewhere.join(" and of "))
    } else if let Some(near) = closest(key, names()) {
        format!("did you mean \"{near}\"?")
    } else {
        format!("keys here: {}", names().collect::<Vec<_>>().join(", "))
    };
    Note::error("unknown_key", span, format!("{prefix}unknown key {}", Quoted(key))).help(help)
}

fn duration_in(node: &Node) -> Result<Duration, Refusal> {
    match &node.value {
        Value::Text(text) => values::duration(text),
        Value::Integer(number) => Err(without_unit(*number, "s", "seconds", "ms, s, m, h, d")),
        other => Err(wrong_type(other, "a string with a unit", "write for example \"5s\" or \"500ms\"")),
    }
}

pub(crate) fn wrong_type(got: &Value, wanted: &str, help: &str) -> Refusal {
    Refusal {
        code: "wrong_type",
        what: format!("is {}, but it takes {wanted}", got.described()),
        help: help.to_owned(),
    }
}

fn without_unit(number: Option<i128>, unit: &str, meaning: &str, units: &str) -> Refusal {
    let number = number.map_or_else(|| "a number".to_owned(), |number| number.to_string());
    let help = format!("write \"{number}{unit}\" for {meaning}, or another unit: {units}");
    Refusal { code: "unit_missing", what: format!("is {number}, which has no unit"), help }
}

fn last_part(key: &'static str) -> &'static str {
    let key = key.split(' ').next().unwrap_or(key);
    key.rsplit('.').next().unwrap_or(key)
}

/// The candidate an operator most likely meant, when one is near enough to be a slip.
pub fn closest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // One slip for each three letters: "crat" still finds "cart", "xyz" finds nothing.
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
pub(crate) fn one_of<'c>(words: impl Iterator<Item = &'c str>) -> String {
    listed(words, "or")
}

/// `"a"`, `"a" and "b"`, `"a", "b" and "c"`.
pub(crate) fn all_of<'c>(words: impl Iterator<Item = &'c str>) -> String {
    listed(words, "and")
}

fn listed<'c>(words: impl Iterator<Item = &'c str>, join: &str) -> String {
    let words: Vec<String> = words.map(|word| Quoted(word).to_string()).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {join} {last}", rest.join(", ")),
    }
}
