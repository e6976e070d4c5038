//! The bytes of checks: what is sent, what an answer is compared with, conversations made of both.
//!
//! Everything is compiled here, so that what is wrong with a pattern is said at its place.

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::Step;
use evenkeel_model::limits;

use crate::document::{Node, Table, Value};
use crate::keys::Section;
use crate::problem::Quoted;
use crate::reader::{Reader, wrong_type};
use crate::values::{self, Refusal, pattern as words};

/// `send` of a check.
pub(super) fn send(reader: &mut Reader<'_, '_>, longest: u64) -> Option<Vec<u8>> {
    let entry = reader.entry("send")?;
    bytes(reader, "send", &entry.node, longest)
}

/// Text with escapes.
fn bytes(reader: &mut Reader<'_, '_>, name: &'static str, node: &Node, longest: u64) -> Option<Vec<u8>> {
    let text = reader.text_of(name, node)?;
    // TOML 1.1, YAML and JSON have escapes of their own: "\xff" between double quotes is the character U+00FF
    // before we see it, and goes out as two bytes.
    if let Some(character) = text.chars().find(|character| ('\u{80}'..='\u{ff}').contains(character)) {
        let refusal = Refusal {
            code: "character_not_byte",
            what: format!(
                "has the character {}, which is sent as its two bytes of UTF-8",
                Quoted(character.encode_utf8(&mut [0; 4]))
            ),
            help: format!("for the one byte write '\\x{:02x}' between single quotes", u32::from(character)),
        };
        reader.warn(refusal, name, node);
    }
    let bytes = reader.accept(values::bytes(text), name, node)?;
    fits(reader, name, node, bytes.len(), longest).then_some(bytes)
}

fn fits(reader: &mut Reader<'_, '_>, name: &str, node: &Node, length: usize, longest: u64) -> bool {
    let fits = length as u64 <= longest;
    if !fits {
        let what = if longest == limits::UDP_PAYLOAD.value {
            format!("has {length} bytes, and a datagram holds {longest}")
        } else {
            format!("has {length} bytes, and there is room for {longest}")
        };
        reader.refuse(Refusal { code: "out_of_range", what, help: "shorten it".into() }, name, node);
    }
    fits
}

/// Text, `{ regex }` or `{ hex }`.
pub(super) fn pattern(
    reader: &mut Reader<'_, '_>,
    name: &'static str,
    covers: Covers,
    longest: u64,
) -> Option<Pattern> {
    let entry = reader.entry(name)?;
    let node = &entry.node;
    let made = match &node.value {
        Value::Text(_) => bytes(reader, name, node, longest).map(|bytes| Pattern::literal(&bytes, covers))?,
        Value::Table(table) => from_table(reader, name, node, table, covers, longest)?,
        other => {
            let help = "write the text, or { regex = \"…\" }, or { hex = \"…\" }";
            reader.refuse(wrong_type(other, "a string or a table", help), name, node);
            return None;
        }
    };
    if covers == Covers::Part && made.matches(b"") {
        let refusal = Refusal {
            code: "pattern_matches_anything",
            what: format!("is {made}, which is found in anything, even in nothing"),
            help: "write something that only the right answer has".into(),
        };
        reader.warn(refusal, name, node);
    }
    Some(made)
}

fn from_table(
    outer: &mut Reader<'_, '_>,
    name: &'static str,
    node: &Node,
    table: &Table,
    covers: Covers,
    longest: u64,
) -> Option<Pattern> {
    let under = outer.full_name(name) + ".";
    let label = outer.label().to_owned();
    let mut reader = Reader::new(Section::Pattern, &label, table, node.span.clone(), outer.notes()).under(under);
    let one = ["regex", "hex"].into_iter().filter(|key| reader.was_written(key)).count() == 1;
    let regex = reader.text("regex", |text| words::regex(text, limits::PROBE_PATTERN.value));
    let hex = reader.text("hex", words::hex);
    reader.finish();
    if !one {
        let what = "takes exactly one of regex and hex".into();
        let help = "write { regex = \"^ok\" } or { hex = \"00 ?? ff *\" }".into();
        outer.refuse(Refusal { code: "keys_exclude_each_other", what, help }, name, node);
        return None;
    }
    if let Some(regex) = regex {
        return Some(regex.value);
    }
    let bytes = hex?.value;
    fits(outer, name, node, bytes.len(), longest).then(|| Pattern::bytes(&bytes, covers))
}

/// `steps` of a tcp check.
pub(super) fn steps(check: &mut Reader<'_, '_>) -> Vec<Step> {
    const NAME: &str = "steps";
    const HELP: &str = "write [{ expect = \"220 \" }, { send = 'QUIT\\r\\n' }]";
    let Some(entry) = check.entry(NAME) else { return Vec::new() };
    let Value::List(items) = &entry.node.value else {
        check.refuse(wrong_type(&entry.node.value, "a list of tables", HELP), NAME, &entry.node);
        return Vec::new();
    };
    let most = limits::PROBE_STEPS.value;
    if items.is_empty() || items.len() as u64 > most {
        let what = format!("has {} steps, outside 1 to {most}", items.len());
        let help = if items.is_empty() { "leave it out: the handshake alone is a check" } else { "join some of them" };
        check.refuse(Refusal { code: "out_of_range", what, help: help.into() }, NAME, &entry.node);
        return Vec::new();
    }
    let mut found = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let Value::Table(table) = &item.value else {
            check.refuse(wrong_type(&item.value, "tables", HELP), NAME, item);
            continue;
        };
        let under = format!("{} {}: ", check.full_name("step"), position + 1);
        let label = check.label().to_owned();
        let mut reader = Reader::new(Section::CheckStep, &label, table, item.span.clone(), check.notes()).under(under);
        let one = reader.was_written("send") != reader.was_written("expect");
        let longest = limits::PROBE_PATTERN.value;
        let sent = send(&mut reader, longest);
        let expected = pattern(&mut reader, "expect", Covers::Part, longest);
        reader.finish();
        if one {
            found.extend(sent.map(Step::Send).or(expected.map(Step::Expect)));
        } else {
            let what = format!("has a step ({}) that is not exactly one of send and expect", position + 1);
            let refusal = Refusal { code: "keys_exclude_each_other", what, help: HELP.into() };
            check.refuse(refusal, NAME, item);
        }
    }
    found
}
