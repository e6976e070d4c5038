//! The JSON Schema of a config, from the table the reader uses, for editors that complete keys and for tools that write configs.
//!
//! It says which keys there are, what they take and within which bounds. What keys mean for each other, and what files hold, only
//! the compiler knows: a config that the schema takes may still have errors, and never the other way round.

use serde_json::{Map, Value, json};

use crate::keys::{Key, Kind, LeftOut, Section};
use crate::values::{show_duration, show_size};

/// A document of JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert(
        "duration".to_owned(),
        json!({ "type": "string", "pattern": "^ *[0-9]+ *(ms|s|m|h|d) *$", "description": "A whole number and a unit." }),
    );
    definitions.insert(
        "size".to_owned(),
        json!({ "type": "string", "pattern": "^ *[0-9]+ *(B|KiB|MiB|GiB|TiB) *$", "description": "A whole number and a unit." }),
    );
    for section in Section::ALL.into_iter().filter(|section| *section != Section::Top) {
        definitions.insert(name(section), table(section));
    }
    let mut root = table(Section::Top);
    let root_map = root.as_object_mut().expect("a table's schema is an object");
    root_map.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root_map.insert("title".to_owned(), json!("Config of evenkeel"));
    root_map.insert("$defs".to_owned(), Value::Object(definitions));
    root
}

/// What stands between the brackets of its header, or the words of it.
fn name(section: Section) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' };
    let header: String = section.header().chars().filter(|c| !matches!(c, '[' | ']')).map(plain).collect();
    header
}

fn table(section: Section) -> Value {
    let properties: Map<String, Value> = section.keys().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        section.keys().filter(|key| matches!(key.default, LeftOut::Required)).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": section.about(),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let (mut shape, why) = match key.kind {
        Kind::Duration { setting, .. } => {
            (json!({ "$ref": "#/$defs/duration", "default": show_duration(setting.default) }), setting.reason)
        }
        Kind::Size(setting) => {
            (json!({ "$ref": "#/$defs/size", "default": show_size(setting.default) }), setting.reason)
        }
        Kind::Count(setting) => {
            let count = json!({
                "type": "integer", "minimum": setting.min, "maximum": setting.max, "default": setting.default,
            });
            (count, setting.reason)
        }
        Kind::OptionalDuration(setting) => (reference("duration"), setting.reason),
        Kind::OptionalCount(setting) => {
            (json!({ "type": "integer", "minimum": setting.min, "maximum": setting.max }), setting.reason)
        }
        Kind::OptionalShare(setting) => {
            let part = |percent: u64| percent as f64 / 100.0;
            (json!({ "type": "number", "minimum": part(setting.min), "maximum": part(setting.max) }), setting.reason)
        }
        Kind::Flag => (json!({ "type": "boolean" }), key.about),
        Kind::Words(words) => {
            let words: Vec<&str> = words.iter().map(|word| word.word).collect();
            (json!({ "enum": words }), key.about)
        }
        Kind::Other(takes) => (other(key, takes), key.about),
    };
    let shape_map = shape.as_object_mut().expect("a key's schema is an object");
    shape_map.insert("description".to_owned(), json!(why));
    match key.default {
        LeftOut::Text(text) => drop(shape_map.insert("default".to_owned(), json!(text))),
        LeftOut::Flag(flag) => drop(shape_map.insert("default".to_owned(), json!(flag))),
        LeftOut::Required | LeftOut::Is(_) | LeftOut::OfSetting => {}
    }
    shape
}

/// What the reader accepts, by the words in which the table says it.
fn other(key: &Key, takes: &str) -> Value {
    let text = || json!({ "type": "string" });
    let scalar = || json!({ "type": ["string", "integer"] });
    let any = |shapes: Vec<Value>| json!({ "anyOf": shapes });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let below = || reference(&name(below(key)));
    match takes {
        "table" => below(),
        "list of tables" => list(below()),
        "duration or a table" => any(vec![reference("duration"), below()]),
        "count, or a table" => any(vec![json!({ "type": "integer", "minimum": 1 }), below()]),
        "string with escapes, or a table" => any(vec![text(), below()]),
        "`\"v1\"`, `\"v2\"` or a table" => any(vec![json!({ "enum": ["v1", "v2"] }), below()]),
        "`true`, `false` or a table with the keys of `[pool.tls]`" => any(vec![json!({ "type": "boolean" }), below()]),
        "`\"off\"`, a table or a list of tables" => any(vec![json!({ "const": "off" }), below(), list(below())]),
        "list of `\"address:port\"`, `\"name:port\"` or tables" => list(any(vec![text(), below()])),
        "table of names" => {
            json!({ "type": "object", "additionalProperties": { "anyOf": [text(), { "const": true }] } })
        }
        "table of names and values" => {
            json!({ "type": "object", "additionalProperties": any(vec![text(), list(text())]) })
        }
        "true, false or a port" => any(vec![json!({ "type": "boolean" }), port()]),
        "1 to 65535" => port(),
        "200 to 599" => json!({ "type": "integer", "minimum": 200, "maximum": 599 }),
        "301, 302, 303, 307 or 308" => json!({ "enum": [301, 302, 303, 307, 308] }),
        _ if takes.starts_with("percentage") => json!({ "type": "number", "minimum": 0, "maximum": 100 }),
        // One value alone is read as a list of it.
        _ if takes.starts_with("list of ") || takes.contains(" a list of them") => any(vec![scalar(), list(scalar())]),
        _ => text(),
    }
}

fn port() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": 65_535 })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The section that the keys of a table under this key are in, found by its header: `[pool.tls]`, `steps of [pool.check]`.
fn below(key: &Key) -> Section {
    match (key.section, key.name) {
        (Section::Check, "tls") => return Section::PoolTls,
        (Section::Check | Section::CheckStep, "expect" | "expect_body" | "reject_body") => return Section::Pattern,
        (Section::Limit, _) => return Section::Rate,
        _ => {}
    }
    let own = key.section.header();
    let path = own.trim_matches(['[', ']']);
    let full = if key.section == Section::Top { key.name.to_owned() } else { format!("{path}.{}", key.name) };
    let fits = |section: &Section| {
        let header = section.header();
        let of_own = header.strip_suffix(own).and_then(|rest| rest.strip_suffix(" of "));
        header.trim_matches(['[', ']']) == full
            || of_own.is_some_and(|words| words.split(" and ").any(|one| one == key.name))
    };
    let found = Section::ALL.into_iter().find(fits);
    found.unwrap_or_else(|| panic!("{} of {own} takes a table that no section describes", key.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_below_a_key_has_a_section_and_every_section_a_name_of_its_own() {
        let schema = schema();
        let names = schema["$defs"].as_object().expect("definitions are an object").len();
        // Beside the sections stand duration and size; the file itself is the root.
        assert_eq!(names, Section::ALL.len() - 1 + 2);
    }
}
