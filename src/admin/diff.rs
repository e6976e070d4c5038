//! The difference of two configs, in the shape the API tells it.
//!
//! What is different is for the plan room to find; here it only gets the names that clients read.

use evenkeel_plan::{Part, Plan, diff as compare};
use serde::Serialize;
use utoipa::ToSchema;

use super::config::Change;

/// What is different between two configs, and in what the running node differs from both.
#[derive(Serialize, ToSchema)]
pub struct Diff {
    /// Whether nothing is different; `runtime` does not count.
    same: bool,
    listeners: Differences,
    rules: Differences,
    pools: Differences,
    backends: Differences,
    checks: Differences,
    certificates: Differences,
    /// Of the node itself and its admin address.
    node: Differences,
    /// What operators changed beside the config.
    runtime: Vec<Change>,
    /// The differences for people, one on each line.
    text: String,
}

#[derive(Serialize, ToSchema)]
pub struct Differences {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Difference>,
}

/// One thing that is in both, and what is different about it.
#[derive(Serialize, ToSchema)]
pub struct Difference {
    name: String,
    /// Sentences such as `response_timeout 60s -> 10s`.
    what: Vec<String>,
}

/// `scrub` takes out of a sentence what may be secret.
pub fn diff(old: &Plan, new: &Plan, runtime: Vec<Change>, scrub: impl Fn(&str) -> String) -> Diff {
    let found = compare(old, new);
    let all = |names: &[String]| names.iter().map(|name| scrub(name)).collect();
    let part = |part: &Part| {
        let changed = part.changed.iter().map(|altered| {
            let what = altered.what.iter().map(|sentence| scrub(sentence)).collect();
            Difference { name: scrub(&altered.name), what }
        });
        Differences { added: all(&part.added), removed: all(&part.removed), changed: changed.collect() }
    };
    Diff {
        same: found.is_empty(),
        listeners: part(&found.listeners),
        rules: part(&found.rules),
        pools: part(&found.pools),
        backends: part(&found.backends),
        checks: part(&found.checks),
        certificates: part(&found.certificates),
        node: part(&found.node),
        runtime,
        text: scrub(&found.to_string()),
    }
}
