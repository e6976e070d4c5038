//! The first config a stranger copies is the one in README.md, and the next come from the pages in docs/: all of them are
//! compiled like any example. Files that they name are made up in `support`.
//!
//! The first one is compared with `examples/web.toml` by what it means, not by its text: the README has no room for comments.

mod support;

use std::fs;
use std::path::Path;

use evenkeel_config::{Format, Source, compile_with, render};
use evenkeel_plan::Plan;
use support::MadeUp;

/// Pages for operators whose configs are whole.
const PAGES: &[&str] = &[
    "README.md",
    "docs/https.md",
    "docs/http2.md",
    "docs/layer4.md",
    "docs/routing.md",
    "docs/stickiness-and-limits.md",
];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(path).expect("the file is part of the project")
}

/// Without a problem, warnings included: who copies an example should not be told to change it.
fn plan_of(name: &str, text: &str) -> Plan {
    let source = Source { name, text, format: Format::Toml };
    let compiled = compile_with(&source, &mut MadeUp::default());
    assert!(compiled.problems.is_empty(), "{}", render(&source, &compiled.problems, false));
    compiled.plan.expect("a config without problems has a plan")
}

/// The blocks that are fenced as TOML.
fn blocks(markdown: &str) -> Vec<&str> {
    markdown.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

#[test]
fn every_config_of_the_pages_compiles() {
    for page in PAGES {
        let text = read(page);
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{page} has no config");
        for block in blocks {
            plan_of(page, block);
        }
    }
}

#[test]
fn the_first_config_of_the_readme_is_the_web_example_in_ten_lines() {
    let readme = read("README.md");
    let blocks = blocks(&readme);
    let first = blocks.first().expect("the README has a config");
    assert_eq!(plan_of("README.md", first), plan_of("web.toml", &read("examples/web.toml")));
    assert!(first.lines().count() <= 10, "{} lines", first.lines().count());
}
