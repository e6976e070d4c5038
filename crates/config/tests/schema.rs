//! The JSON Schema takes every config that the compiler takes, and refuses what has a wrong key, a wrong type or a word that
//! there is not.
//!
//! The schema uses few words of its language; the judge below knows those and refuses others. `packaging/check` has a whole
//! validator say the same of the examples.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_config::{Format, Source, compile_with, schema};
use serde_json::Value;
use support::MadeUp;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a value lacks, with its place; nothing when it is as the schema says.
fn complaint(root: &Value, shape: &Value, value: &Value, place: &str) -> Option<String> {
    for (word, means) in shape.as_object().expect("a schema is an object") {
        let found = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => None,
            "$ref" => {
                let name = means.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a name of ours");
                let to = &root["$defs"][name];
                assert!(to.is_object(), "{means} leads nowhere");
                complaint(root, to, value, place)
            }
            "type" => {
                let fits = |word: &Value| match word.as_str() {
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("number") => value.is_number(),
                    Some("boolean") => value.is_boolean(),
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    _ => panic!("no type: {word}"),
                };
                let fits = means.as_array().map_or_else(|| fits(means), |words| words.iter().any(fits));
                (!fits).then(|| format!("{place}: {value} is no {means}"))
            }
            "enum" => {
                let words = means.as_array().expect("words are a list");
                (!words.contains(value)).then(|| format!("{place}: {value} is none of {means}"))
            }
            "const" => (value != means).then(|| format!("{place}: {value} is not {means}")),
            "minimum" => value
                .as_f64()
                .filter(|number| Some(*number) < means.as_f64())
                .map(|n| format!("{place}: {n} is too low")),
            "maximum" => value
                .as_f64()
                .filter(|number| Some(*number) > means.as_f64())
                .map(|n| format!("{place}: {n} is too high")),
            "pattern" => {
                let units = means
                    .as_str()
                    .and_then(|pattern| pattern.split(['(', ')']).nth(1))
                    .expect("our only kind of pattern");
                let text = value.as_str().unwrap_or_default().trim();
                let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
                let fits = unit.len() < text.len() && units.split('|').any(|known| known == unit.trim());
                (!fits).then(|| format!("{place}: {value} has no unit of {units}"))
            }
            "anyOf" => {
                let shapes = means.as_array().expect("shapes are a list");
                let said: Vec<String> = shapes.iter().map_while(|shape| complaint(root, shape, value, place)).collect();
                (said.len() == shapes.len()).then(|| said.join("; "))
            }
            "items" => value.as_array().into_iter().flatten().find_map(|item| complaint(root, means, item, place)),
            "properties" => value.as_object().into_iter().flatten().find_map(|(key, item)| {
                means.get(key).and_then(|shape| complaint(root, shape, item, &format!("{place}.{key}")))
            }),
            "required" => {
                let names = means.as_array().expect("names are a list");
                let missing = names.iter().find(|name| name.as_str().is_some_and(|name| value.get(name).is_none()));
                missing.map(|name| format!("{place}: there is no {name}"))
            }
            "additionalProperties" => {
                let known = |key: &str| shape.get("properties").is_some_and(|keys| keys.get(key).is_some());
                value.as_object().into_iter().flatten().filter(|(key, _)| !known(key)).find_map(|(key, item)| {
                    match means {
                        Value::Bool(false) => Some(format!("{place}: {key} is no key")),
                        shape => complaint(root, shape, item, &format!("{place}.{key}")),
                    }
                })
            }
            _ => panic!("the judge does not know {word}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn judged(value: &Value) -> Option<String> {
    let root = schema();
    complaint(&root, &root, value, "")
}

fn of_toml(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    serde_json::to_value(table).ok()
}

/// Cases in TOML, with their names.
fn cases() -> impl Iterator<Item = (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let files = fs::read_dir(folder).expect("there are cases").map(|entry| entry.expect("a case can be listed").path());
    files.filter_map(|path| {
        let text = fs::read_to_string(&path).expect("a case is UTF-8 text");
        let (config, _) = text.split_once("--------------------").expect("a case has its line of dashes");
        let foreign = config.starts_with("# yaml") || config.starts_with("# json");
        (!foreign).then(|| (path.file_stem().expect("a name").to_string_lossy().into_owned(), config.to_owned()))
    })
}

#[test]
fn what_the_compiler_takes_the_schema_takes() {
    let mut taken = 0;
    for (name, text) in cases() {
        let source = Source { name: &name, text: &text, format: Format::Toml };
        if compile_with(&source, &mut MadeUp::default()).plan.is_some() {
            let value = of_toml(&text).expect("what compiles can be parsed");
            assert_eq!(judged(&value), None, "{name}");
            taken += 1;
        }
    }
    assert!(taken > 60, "{taken} cases");
}

#[test]
fn the_schema_takes_the_examples() {
    let files = ["examples", "examples/recipes"].into_iter().flat_map(|folder| {
        fs::read_dir(workspace().join(folder)).expect("there are examples").map(|entry| entry.expect("a file").path())
    });
    for path in files.filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).expect("an example is UTF-8 text");
        let value = match path.extension().and_then(|end| end.to_str()) {
            Some("toml") => of_toml(&text),
            Some("json") => serde_json::from_str(&text).ok(),
            _ => continue,
        };
        assert_eq!(judged(&value.expect("an example can be parsed")), None, "{}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_is_wrong_in_a_key_alone() {
    for case in ["err_unknown_keys", "err_wrong_types", "err_unknown_words", "err_missing_keys", "err_units"] {
        let (_, text) = cases().find(|(name, _)| name == case).expect("the case is there");
        let value = of_toml(&text).expect("the case is TOML");
        assert!(judged(&value).is_some(), "{case}");
    }
}

/// Renames one key after another and asks for a complaint each time.
fn rename_each(root: &Value, path: &mut Vec<String>, here: &Value, tried: &mut usize) {
    // Their keys are names of fields that the operator chooses.
    const FREE: [&str; 3] = ["headers", "set", "add"];
    if path.last().is_some_and(|last| FREE.contains(&last.as_str())) {
        return;
    }
    match here {
        Value::Object(table) => {
            for (key, value) in table {
                let mut other = root.clone();
                let place = path.iter().fold(&mut other, |value, step| match step.parse::<usize>() {
                    Ok(index) => &mut value[index],
                    Err(_) => &mut value[step.as_str()],
                });
                let table = place.as_object_mut().expect("the path leads to a table");
                let moved = table.remove(key).expect("it is there");
                table.insert(format!("{key}x"), moved);
                assert!(judged(&other).is_some(), "{}.{key}x is taken", path.join("."));
                *tried += 1;
                path.push(key.clone());
                rename_each(root, path, value, tried);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                rename_each(root, path, item, tried);
                path.pop();
            }
        }
        _ => {}
    }
}

#[test]
fn a_misspelt_key_is_refused_wherever_it_stands() {
    let text = fs::read_to_string(workspace().join("examples/full.toml")).expect("the example is there");
    let full = of_toml(&text).expect("the example is TOML");
    let mut tried = 0;
    rename_each(&full, &mut Vec::new(), &full, &mut tried);
    assert!(tried > 150, "{tried} keys");
}

#[test]
fn the_committed_schema_is_the_one_this_program_prints() {
    let path = workspace().join("docs/reference/config.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("the schema can be rewritten");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/reference/config.schema.json is not current; rewrite it with UPDATE_GOLDEN=1");
}
