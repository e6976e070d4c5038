//! The configs that a stranger copies, in README.md and on every page of docs/, are compiled like any example. Files that they name are
//! made up in `support`.
//!
//! A block that is fenced as `toml` is a whole config and has no problem, warnings included: who copies it should not be told
//! to change it. A part of one is fenced as `toml part`; it has to be TOML at least. Recipes may be unusual, with the reason beside the value.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_config::{Format, Source, compile_with, render};
use evenkeel_plan::Plan;
use support::MadeUp;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(workspace().join(name)).expect("the file is part of the project")
}

/// Every page below a folder, as paths from the project's root.
fn pages(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(workspace().join(folder)).expect("the folder is part of the project") {
        let entry = entry.expect("a page can be listed");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(pages(&path));
        } else if path.ends_with(".md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn plan_of(name: &str, text: &str, may_warn: &[&str]) -> Plan {
    let source = Source { name, text, format: Format::Toml };
    let compiled = compile_with(&source, &mut MadeUp::default());
    let unwelcome: Vec<_> = compiled.problems.into_iter().filter(|problem| !may_warn.contains(&problem.code)).collect();
    let help = "(a part of a config is fenced as `toml part`)";
    assert!(unwelcome.is_empty(), "{name} {help}\n{}", render(&source, &unwelcome, false));
    compiled.plan.expect("a config without errors has a plan")
}

/// The blocks with this fence.
fn blocks<'m>(markdown: &'m str, fence: &str) -> Vec<&'m str> {
    let open = format!("```{fence}\n");
    markdown.split(&open).skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

#[test]
fn every_config_of_the_pages_compiles() {
    let mut whole = 0;
    for page in pages("docs").iter().map(String::as_str).chain(["README.md"]) {
        let text = read(page);
        let may_warn: &[&str] = if page.starts_with("docs/recipes/") { &["unusual_value"] } else { &[] };
        for block in blocks(&text, "toml") {
            plan_of(page, block, may_warn);
            whole += 1;
        }
        for block in blocks(&text, "toml part") {
            assert!(block.parse::<toml::Table>().is_ok(), "{page}: this part is no TOML:\n{block}");
        }
    }
    assert!(whole > 20, "{whole} configs");
}

#[test]
fn each_recipe_has_a_page_with_exactly_its_config() {
    let mut seen = 0;
    for entry in fs::read_dir(workspace().join("examples/recipes")).expect("there are recipes") {
        let name = entry.expect("a recipe can be listed").file_name().to_string_lossy().into_owned();
        let (config, page) = (read(&format!("examples/recipes/{name}")), name.replace(".toml", ".md"));
        plan_of(&name, &config, &["unusual_value"]);
        let text = read(&format!("docs/recipes/{page}"));
        assert!(
            blocks(&text, "toml").contains(&&*config),
            "docs/recipes/{page} does not hold the text of examples/recipes/{name}"
        );
        seen += 1;
    }
    assert!(seen >= 8, "{seen} recipes");
}

#[test]
fn the_first_config_of_the_readme_is_the_web_example_in_ten_lines() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "toml");
    let first = blocks.first().expect("the README has a config");
    assert_eq!(plan_of("README.md", first, &[]), plan_of("web.toml", &read("examples/web.toml"), &[]));
    assert!(first.lines().count() <= 10, "{} lines", first.lines().count());
}

/// Addresses of links on a page, without those to other hosts.
fn links(markdown: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        if !in_block {
            found.extend(line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        }
    }
    found.retain(|link| !link.contains("://") && !link.starts_with("mailto:"));
    found
}

/// What a heading is called in a link: as GitHub and mdBook make it.
fn anchors(markdown: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        }
        let title = line.trim_start_matches('#');
        if in_block || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.push(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect());
    }
    found
}

#[test]
fn every_link_between_pages_leads_to_a_page_and_a_heading_that_are_there() {
    let mut broken = String::new();
    let mut seen = 0;
    let others =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "bench/README.md", "packaging/README.md"].map(str::to_owned);
    for page in pages("docs").into_iter().chain(others) {
        let text = read(&page);
        for link in links(&text) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = workspace().join(&page).parent().expect("a page is in a folder").to_owned();
            let target = if path.is_empty() { workspace().join(&page) } else { folder.join(path) };
            let lacks = if !target.exists() {
                Some("there is no such file")
            } else if !heading.is_empty() && target.extension().is_some_and(|end| end == "md") {
                let there = fs::read_to_string(&target).expect("a page is UTF-8 text");
                (!anchors(&there).iter().any(|anchor| anchor == heading)).then_some("there is no such heading")
            } else {
                None
            };
            if let Some(lacks) = lacks {
                broken.push_str(&format!("{page}: {link}: {lacks}\n"));
            }
            seen += 1;
        }
    }
    assert!(broken.is_empty(), "{broken}");
    assert!(seen > 100, "{seen} links");
}

#[test]
fn the_book_has_every_page_once() {
    let summary = read("docs/SUMMARY.md");
    let listed = links(&summary);
    // Written for who changes the program, not for who runs it; ARCHITECTURE.md leads there.
    let for_builders = |page: &str| {
        ["docs/decisions/", "docs/lifecycle/", "docs/SUMMARY.md"].iter().any(|start| page.starts_with(start))
    };
    for page in pages("docs").iter().filter(|page| !for_builders(page)) {
        let path = page.trim_start_matches("docs/");
        let times = listed.iter().filter(|link| **link == path).count();
        assert_eq!(times, 1, "{page} stands {times} times in docs/SUMMARY.md");
    }
}
