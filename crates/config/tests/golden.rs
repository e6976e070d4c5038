//! Each file in `tests/cases` is a config, a line of dashes, and what is said of it.
//!
//! The first line is a comment whose first word may name the format (`# yaml`, `# json`); TOML otherwise. For JSON, which
//! has no comments, the line is not part of the config. Files that make a plan also show it. `UPDATE_GOLDEN=1`
//! rewrites what is expected; the difference is reviewed like code.

mod dump;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_config::{Format, Source, compile, render, render_json};

const DASHES: &str = "----------------------------------------------------------------\n";

#[test]
fn every_case_says_what_it_said_when_it_was_reviewed() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for path in cases() {
        let case = fs::read_to_string(&path).expect("a case is UTF-8 text");
        let (config, expected) = case.split_once(DASHES).unwrap_or((&case, ""));
        let got = said_of(config);
        if got == expected {
            continue;
        }
        if update {
            fs::write(&path, format!("{config}{DASHES}{got}")).expect("the case can be rewritten");
        } else {
            let _ = writeln!(wrong, "== {}\n-- expected\n{expected}\n-- got\n{got}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nreview, then rewrite with UPDATE_GOLDEN=1");
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of cases is part of the crate")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    paths.sort();
    paths
}

fn parts(config: &str) -> (Format, &str) {
    let first = config.lines().next().unwrap_or_default();
    match first.strip_prefix("# ").map(|comment| comment.split(':').next().unwrap_or_default()) {
        Some("yaml") => (Format::Yaml, config),
        Some("json") => (Format::Json, config.split_once('\n').map_or("", |(_, rest)| rest)),
        _ => (Format::Toml, config),
    }
}

fn said_of(config: &str) -> String {
    let (format, text) = parts(config);
    let name = format!("case.{}", format.word());
    let source = Source { name: &name, text, format };
    let compiled = compile(&source);
    let mut out = render(&source, &compiled.problems, false);
    // Both renderings show the same problems; the JSON one only has to stay readable for machines.
    let json: serde_json::Value =
        serde_json::from_str(&render_json(&source, &compiled.problems)).expect("problems as JSON are JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(compiled.problems.len()));
    if let Some(plan) = &compiled.plan {
        out.push_str(&dump::dump(plan));
    }
    out
}
