//! Each file in `tests/cases` is a config, a line of dashes, and what is said of it.
//!
//! The first line is a comment whose first word may name the format (`# yaml`, `# json`); TOML otherwise. For JSON, which
//! has no comments, the line is not part of the config. Files that make a plan also show it. `UPDATE_GOLDEN=1`
//! rewrites what is expected; the difference is reviewed like code. The files that cases name are made up in `support`.

mod dump;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_config::{Format, Severity, Source, compile_with, render, render_json};
use support::MadeUp;

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
            // In one step, because the other test reads the same files at the same time.
            let new = path.with_extension("new");
            fs::write(&new, format!("{config}{DASHES}{got}")).expect("the case can be rewritten");
            fs::rename(new, &path).expect("the case can be replaced");
        } else {
            let _ = writeln!(wrong, "== {}\n-- expected\n{expected}\n-- got\n{got}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nreview, then rewrite with UPDATE_GOLDEN=1");
}

#[test]
fn there_are_enough_cases_and_half_of_them_are_errors() {
    let (mut all, mut errors) = (0, 0);
    for path in cases() {
        let case = fs::read_to_string(&path).expect("a case is UTF-8 text");
        let (config, _) = case.split_once(DASHES).expect("a case has its line of dashes");
        let (format, text) = parts(config);
        let compiled = compile_with(&Source { name: "case", text, format }, &mut files_of(config));
        all += 1;
        errors += usize::from(compiled.plan.is_none());
        let has_error = compiled.problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(
            compiled.plan.is_none(),
            has_error,
            "{}: a plan exists exactly when there is no error",
            path.display()
        );
    }
    assert!(all >= 170 && errors * 2 >= all, "{all} cases, {errors} of them errors");
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

/// A first line with these words is compiled on a system that trusts nobody.
fn files_of(config: &str) -> MadeUp {
    let first = config.lines().next().unwrap_or_default();
    if first.contains("without authorities") { MadeUp::without_authorities() } else { MadeUp::default() }
}

fn said_of(config: &str) -> String {
    let (format, text) = parts(config);
    let name = format!("case.{}", format.word());
    let source = Source { name: &name, text, format };
    let compiled = compile_with(&source, &mut files_of(config));
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
