//! `evenkeel check FILE`, and reading a config for the other commands.
//!
//! All problems are shown at once. Exit code 1 means the file has an error, 2 that it could not be read;
//! warnings alone are a 0, or scripts would stop for advice. What this host lacks for the plan is said behind them and is never
//! more than a warning: the config may be meant for another host.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use evenkeel::files::DiskFiles;
use evenkeel_config::{Compiled, Files, Format, Recipe, Severity, Source, compile_with, render, render_json};
use evenkeel_diagnose::host::{self, Missing};
use evenkeel_model::event::Counted;
use evenkeel_plan::{NameAsked, Plan, Resolved};
use serde_json::Value;

pub fn check(file: &Path, json: bool, host: Host) -> ExitCode {
    let Some((name, text)) = read(file) else { return ExitCode::from(2) };
    let source = Source { name: &name, text: &text, format: Format::of_path(&name) };
    let Compiled { plan, problems, .. } = compile_with(&source, &mut DiskFiles::beside(file));
    let missing = plan.as_ref().filter(|_| host == Host::Included).map(missing).unwrap_or_default();
    if json {
        println!("{}", with_host(&render_json(&source, &problems), &missing));
    } else {
        print!("{}", render(&source, &problems, std::io::stdout().is_terminal()));
        print!("{}", host::text(&missing));
        let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning) + missing.len());
        match &plan {
            Some(plan) => println!(
                "{name}: good: {}, {}, {}, {}{}; {}",
                counted(plan.listeners.len(), "listener"),
                counted(plan.pools.len(), "pool"),
                counted(plan.backends.len(), "backend"),
                counted(plan.targets.len(), "check"),
                unresolved(plan).map(|names| format!(" ({names})")).unwrap_or_default(),
                counted(warnings, "warning"),
            ),
            None => println!("{name}: {}, {}", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
    if plan.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn counted(number: usize, noun: &'static str) -> Counted {
    Counted(number as u64, noun)
}

/// Whether this host is looked at as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Included,
    LeftOut,
}

/// What this host lacks for the plan.
pub fn missing(plan: &Plan) -> Vec<Missing> {
    host::missing(plan, &evenkeel::host::facts(plan))
}

/// One list of both.
fn with_host(problems: &str, missing: &[Missing]) -> String {
    let mut list: Vec<Value> = serde_json::from_str(problems).expect("problems are a JSON list");
    list.extend(host::json(missing));
    serde_json::to_string_pretty(&list).expect("strings and numbers are always JSON")
}

/// Compiles a file and prints its problems to standard error; warnings only when there is a plan.
pub fn plan(file: &Path) -> Result<Plan, ExitCode> {
    let plan = recipe_with(file, &mut DiskFiles::beside(file))?.plan(&Resolved::new());
    if let Some(names) = unresolved(&plan) {
        eprintln!("{names}; pools have no backends of these names here");
    }
    Ok(plan)
}

/// Names are asked by a running node only: what one says here and now need not be what it says there.
fn unresolved(plan: &Plan) -> Option<String> {
    let names: Vec<&str> = plan.names.iter().map(|NameAsked { name, .. }| &**name).collect();
    (!names.is_empty()).then(|| format!("not resolved: {}", names.join(", ")))
}

/// What plans are made of, with files that outlive it.
pub fn recipe_with(file: &Path, files: &mut dyn Files) -> Result<Arc<Recipe>, ExitCode> {
    let (name, text) = read(file).ok_or(ExitCode::from(2))?;
    let source = Source { name: &name, text: &text, format: Format::of_path(&name) };
    let compiled = compile_with(&source, files);
    eprint!("{}", render(&source, &compiled.problems, std::io::stderr().is_terminal()));
    compiled.recipe.ok_or(ExitCode::from(1))
}

fn read(file: &Path) -> Option<(String, String)> {
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Some((name, text)),
        Err(error) => {
            eprintln!("cannot read \"{name}\": {error}");
            None
        }
    }
}
