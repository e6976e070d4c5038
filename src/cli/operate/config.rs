//! `evenkeel diff|apply|reload`: what runs, what the file says, and the way from one to the other.
//!
//! The node compares and judges, since the files that a config names are on its host; this sends and prints.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use evenkeel_config::Format;
use serde_json::Value;

use super::client::{Body, Client, Failure};

#[derive(clap::Args)]
pub struct Diff {
    /// Compare this file with what runs, in place of the node's own.
    file: Option<PathBuf>,
    /// End with 1 when there is a difference, for scripts.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    pub node: super::Node,
}

#[derive(clap::Args)]
pub struct Apply {
    /// The config: TOML, or YAML or JSON by its name.
    file: PathBuf,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make it the node's config file too; the one before stays beside it. Without, it runs until the next reload or restart.
    #[arg(long, conflicts_with = "dry_run")]
    keep: bool,
    #[command(flatten)]
    pub node: super::Node,
}

#[derive(clap::Args)]
pub struct Reload {
    #[command(flatten)]
    pub node: super::Node,
}

pub fn diff(client: &Client, arguments: &Diff) -> Result<ExitCode, Failure> {
    let difference = match &arguments.file {
        None => client.get("/api/v1/config/diff")?,
        Some(file) => put(client, file, "?dry_run=true")?["diff"].take(),
    };
    let same = difference["same"] == true;
    if arguments.node.json {
        println!("{difference:#}");
    } else {
        print!("{}", text(&difference, "no difference: what runs is as the file says"));
    }
    Ok(if same || !arguments.exit_code { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

pub fn apply(client: &Client, arguments: &Apply) -> Result<ExitCode, Failure> {
    let query = match (arguments.dry_run, arguments.keep) {
        (true, _) => "?dry_run=true",
        (false, true) => "?keep=true",
        (false, false) => "",
    };
    let taken = put(client, &arguments.file, query)?;
    if arguments.node.json {
        println!("{taken:#}");
        return Ok(ExitCode::SUCCESS);
    }
    warn(&taken);
    print!("{}", text(&taken["diff"], "no difference: it runs already"));
    match (arguments.dry_run, arguments.keep) {
        (true, _) => println!("nothing was changed"),
        (false, true) => println!("applied, and written to the node's config file"),
        (false, false) => println!("applied; it runs until the next reload or restart (--keep writes the file)"),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn reload(client: &Client, arguments: &Reload) -> Result<ExitCode, Failure> {
    let taken = client.ask("POST", "/api/v1/config/reload", None)?;
    if arguments.node.json {
        println!("{taken:#}");
    } else {
        warn(&taken);
        print!("{}", text(&taken["diff"], "no difference: what runs was as the file says"));
        println!("reloaded");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be looked at in a config that was taken all the same.
fn warn(taken: &Value) {
    for warning in taken["warnings"].as_array().into_iter().flatten() {
        let text = |key: &str| warning[key].as_str().unwrap_or_default();
        eprintln!("{}: {}:{}: {}", text("severity"), warning["line"], warning["column"], text("text"));
    }
}

fn put(client: &Client, file: &Path, query: &str) -> Result<Value, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read(file).map_err(|error| Failure::Usage(format!("cannot read \"{name}\": {error}")))?;
    let media_type = match Format::of_path(&name) {
        Format::Toml => "application/toml",
        Format::Yaml => "application/yaml",
        Format::Json => "application/json",
    };
    client.ask("PUT", &format!("/api/v1/config{query}"), Some(Body { media_type, bytes: &text }))
}

/// The difference for people, and what operators changed at run time.
fn text(difference: &Value, none: &str) -> String {
    let mut text = difference["text"].as_str().unwrap_or_default().to_owned();
    if text.is_empty() {
        text = format!("{none}\n");
    } else if !text.ends_with('\n') {
        text.push('\n');
    }
    for change in difference["runtime"].as_array().into_iter().flatten() {
        let word = |key: &str| match &change[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let until = change["until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
        let kept = if change["kept"] == true { ", kept over a restart" } else { "" };
        text.push_str(&format!(
            "* backend {}/{}: {} {}{until} since {}, by {}{kept}\n",
            word("pool"),
            word("backend"),
            word("what"),
            word("value"),
            word("since"),
            word("by"),
        ));
    }
    text
}
