//! The first config a stranger copies is the one in README.md, so it is compiled like any example.
//!
//! It is compared with `examples/web.toml` by what it means, not by its text: the README has no room for comments.

use std::fs;
use std::path::Path;

use evenkeel_config::{Format, Source, compile, render};
use evenkeel_plan::Plan;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(path).expect("the file is part of the project")
}

fn plan_of(name: &str, text: &str) -> Plan {
    let source = Source { name, text, format: Format::Toml };
    let compiled = compile(&source);
    assert!(compiled.problems.is_empty(), "{}", render(&source, &compiled.problems, false));
    compiled.plan.expect("a config without problems has a plan")
}

/// The blocks that are fenced as TOML.
fn blocks(markdown: &str) -> Vec<&str> {
    markdown.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

#[test]
fn every_config_of_the_readme_compiles_and_the_first_is_the_web_example_in_ten_lines() {
    let readme = read("README.md");
    let blocks = blocks(&readme);
    for block in &blocks {
        plan_of("README.md", block);
    }
    let first = blocks.first().expect("the README has a config");
    assert_eq!(plan_of("README.md", first), plan_of("web.toml", &read("examples/web.toml")));
    assert!(first.lines().count() <= 10, "{} lines", first.lines().count());
}
