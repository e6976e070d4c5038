//! What the rules of a listener mean for each other: which can never be asked, which ask for the same.
//!
//! Which of two rules comes first is decided by `evenkeel_plan::Rules`: by host, then by the longer path, then by the
//! number of conditions, then by the order of the file. On tls-passthrough listeners `evenkeel_plan::Names` decides: by
//! host, then those that ask for a protocol, then by the order. So only rules with a host and the same path in common can hide each
//! other, and only when the later one asks for no less than the earlier.

use std::collections::HashMap;

use evenkeel_plan::HostPattern;

use crate::config::{Action, Asks, Config, Listener, Pool, Rule, place_of};
use crate::problem::{Note, Notes, Quoted};
use crate::values::show_duration;

pub(super) fn check(config: &Config, listener: &Listener, notes: &mut Notes) {
    names(listener, notes);
    hidden(listener, notes);
    default_pool(listener, notes);
    for rule in &listener.rules {
        without_pool(rule, notes);
        timeouts(config, rule, notes);
    }
}

/// As logs and `route test` call it: its name, else its hosts and path.
pub(crate) fn name_of(rule: &Rule) -> String {
    if let Some(name) = &rule.name {
        return name.value.clone();
    }
    let hosts: Vec<String> = rule.hosts.iter().map(|host| host.value.to_string()).collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") };
    match (rule.asks, rule.alpn.is_empty()) {
        (Asks::Request, _) => format!("{hosts}{}", rule.path),
        (Asks::Hello, true) => hosts,
        (Asks::Hello, false) => format!("{hosts} {}", rule.alpn.join(",")),
    }
}

fn names(listener: &Listener, notes: &mut Notes) {
    let mut seen: HashMap<&str, &Rule> = HashMap::new();
    for rule in &listener.rules {
        let Some(name) = &rule.name else { continue };
        match seen.get(name.value.as_str()).and_then(|first| first.name.as_ref()) {
            Some(first) => {
                let text = format!("{}: there are two rules called {}", listener.label, Quoted(&name.value));
                notes.add(
                    Note::error("duplicate_name", name.span.clone(), text)
                        .related(first.span.clone(), "the first one")
                        .help("give each a name of its own"),
                );
            }
            None => {
                seen.insert(&name.value, rule);
            }
        }
    }
}

fn hidden(listener: &Listener, notes: &mut Notes) {
    let mut by_place: HashMap<(Option<&HostPattern>, &str), Vec<usize>> = HashMap::new();
    // Of each rule, by how many of its hosts it is hidden, and by which rule.
    let mut hidden_by: HashMap<usize, (usize, usize)> = HashMap::new();
    for (position, rule) in listener.rules.iter().enumerate() {
        if rule.incomplete {
            continue;
        }
        let hosts: Vec<Option<&HostPattern>> = match rule.hosts.as_slice() {
            [] => vec![None],
            hosts => hosts.iter().map(|host| Some(&host.value)).collect(),
        };
        let mut doubled = false;
        for host in hosts {
            let earlier = by_place.entry((host, &rule.path)).or_default();
            let hides = earlier.iter().copied().find(|&first| takes_all_of(&listener.rules[first], rule));
            if let Some(first) = hides {
                if same(&listener.rules[first], rule) {
                    if !doubled {
                        notes.add(twice(&listener.rules[first], rule, host));
                    }
                    doubled = true;
                } else {
                    hidden_by.entry(position).or_insert((0, first)).0 += 1;
                }
            }
            earlier.push(position);
        }
    }
    for (position, (hosts, first)) in hidden_by {
        let (rule, first) = (&listener.rules[position], &listener.rules[first]);
        if hosts == rule.hosts.len().max(1) {
            let (who, help) = match rule.asks {
                Asks::Request => (
                    "request",
                    "put it in front of that rule, give it another path or one more condition, or remove it",
                ),
                Asks::Hello => ("client", "put it in front of that rule, give it another alpn, or remove it"),
            };
            let text =
                format!("{}: no {who} gets here, because rule {} takes them all", rule.label, Quoted(&name_of(first)));
            notes.add(
                Note::warning("rule_never_asked", rule.head.clone(), text)
                    .related(first.head.clone(), "this one comes first and asks for less")
                    .help(help),
            );
        }
    }
}

/// For two rules of one host and path, of which `first` stands in front: whether `second` is never asked.
fn takes_all_of(first: &Rule, second: &Rule) -> bool {
    let methods = takes_all(&first.methods, &second.methods);
    methods
        && takes_all(&first.alpn, &second.alpn)
        && first.headers.len() == second.headers.len()
        && first
            .headers
            .iter()
            .zip(&second.headers)
            .all(|(first, second)| first.name == second.name && (first.value.is_none() || first.value == second.value))
}

fn takes_all(first: &[String], second: &[String]) -> bool {
    match (first, second) {
        ([], []) => true,
        // A rule with one condition more is asked before.
        ([], _) | (_, []) => false,
        (first, second) => second.iter().all(|asked| first.contains(asked)),
    }
}

fn same(first: &Rule, second: &Rule) -> bool {
    first.methods == second.methods && first.headers == second.headers && first.alpn == second.alpn
}

fn twice(first: &Rule, rule: &Rule, host: Option<&HostPattern>) -> Note {
    let host = host.map_or_else(|| "any host".to_owned(), |host| Quoted(&host.to_string()).to_string());
    let alone = rule.methods.is_empty() && rule.headers.is_empty() && rule.alpn.is_empty();
    let with = if alone { "" } else { " and the same conditions" };
    let path = match rule.asks {
        Asks::Request => format!(", path {}", Quoted(&rule.path)),
        Asks::Hello => String::new(),
    };
    let text = format!("{}: asks for {host}{path}{with}, and so does rule {}", rule.label, Quoted(&name_of(first)));
    Note::error("duplicate_rule", rule.head.clone(), text).related(first.head.clone(), "the other one").help(match rule
        .asks
    {
        Asks::Request => {
            "only one of them can take a request; remove one, or tell them apart by path, method or headers"
        }
        Asks::Hello => "only one of them can take a client; remove one, or tell them apart by alpn",
    })
}

/// A default that a rule for everything leaves nothing to.
fn default_pool(listener: &Listener, notes: &mut Notes) {
    let Some(pool) = &listener.pool else { return };
    let all = listener.rules.iter().find(|rule| {
        !rule.incomplete
            && rule.hosts.is_empty()
            && rule.path == "/"
            && rule.methods.is_empty()
            && rule.headers.is_empty()
            && rule.alpn.is_empty()
    });
    if let Some(all) = all {
        let text = format!(
            "{}: pool has no effect, because rule {} takes what no other does",
            listener.label,
            Quoted(&name_of(all))
        );
        notes.add(
            Note::warning("setting_without_effect", pool.span.clone(), text)
                .related(all.head.clone(), "the rule for everything")
                .help("remove pool, or that rule"),
        );
    }
}

/// Settings of the way to a backend on a rule that has none.
fn without_pool(rule: &Rule, notes: &mut Notes) {
    let action = match &rule.action {
        None | Some(Action::Pool(_)) => return,
        Some(Action::Redirect { .. }) => "redirect",
        Some(Action::Answer { .. }) => "answer",
    };
    let of_backends = ["rewrite_path", "request_headers", "response_timeout", "body_timeout", "try_timeout", "retries"];
    for key in of_backends {
        if let Some(span) = place_of(&rule.written, key) {
            let text = format!("{}: {key} has no effect, because {action} asks no backend", rule.label);
            notes.add(Note::warning("setting_without_effect", span, text).help(format!("remove {key}")));
        }
    }
}

/// Only where the rule itself says something; the pool's own are looked at with the pool.
fn timeouts(config: &Config, rule: &Rule, notes: &mut Notes) {
    let Some(Action::Pool(used)) = &rule.action else { return };
    let Some(pool) = pool_called(config, &used.value) else { return };
    if rule.try_timeout.is_none() && rule.response_timeout.is_none() {
        return;
    }
    let response = rule.response_timeout.as_ref().map_or(pool.response_timeout, |at| at.value);
    let Some(attempt) = rule.try_timeout.as_ref().or(pool.try_timeout.as_ref()) else { return };
    if attempt.value >= response {
        let place = rule.try_timeout.as_ref().or(rule.response_timeout.as_ref());
        let span = place.map_or_else(|| rule.head.clone(), |at| at.span.clone());
        let text = format!(
            "{}: try_timeout is {}, and the response_timeout of {} is not longer, so no attempt ends by it",
            rule.label,
            show_duration(attempt.value),
            show_duration(response)
        );
        notes.add(
            Note::warning("setting_without_effect", span, text)
                .help("make try_timeout the shorter one: half of response_timeout leaves room for a second attempt")
                .about_the_file(),
        );
    }
}

pub(super) fn pool_called<'c>(config: &'c Config, name: &str) -> Option<&'c Pool> {
    config.pools.iter().find(|pool| pool.name.as_ref().is_some_and(|known| known.value == name))
}
