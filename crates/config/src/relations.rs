//! What the parts of a config mean for each other: names that must exist, things that cannot both
//! be, settings that undo each other.
//!
//! Errors are what cannot work or would serve clients wrongly; warnings are what works and is
//! probably not meant. A part that could not be read is passed over: it has its own problem already.

mod addresses;
mod checks;

use std::ops::Range;

use crate::config::{At, Config, Listener, Pool, Written};
use crate::keys::Only;
use crate::lower::{listener_name, used_by_http, users};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::{all_of, closest};
use evenkeel_plan::Protocol;

pub(crate) fn check(config: &Config, notes: &mut Notes) {
    listener_names(config, notes);
    pool_names(config, notes);
    for listener in &config.listeners {
        pool_exists(config, listener, notes);
        protocol_keys(listener, notes);
        trust(listener, notes);
    }
    let users_known = !config.listeners.is_empty()
        && config.listeners.iter().all(|listener| listener.pool.is_some() && listener.protocol.is_some())
        && config.listeners.iter().all(|listener| used_pool(config, listener).is_some());
    for pool in &config.pools {
        pool_alone(pool, notes);
        if users_known {
            pool_in_use(config, pool, notes);
        }
    }
    addresses::check(config, notes);
    checks::check(config, users_known, notes);
}

fn used_pool<'c>(config: &'c Config, listener: &Listener) -> Option<&'c Pool> {
    let used = listener.pool.as_ref()?;
    config.pools.iter().find(|pool| pool.name.as_ref().is_some_and(|name| name.value == used.value))
}

fn listener_names(config: &Config, notes: &mut Notes) {
    let mut seen: Vec<(String, Range<usize>)> = Vec::new();
    for listener in &config.listeners {
        let Some(name) = listener_name(listener) else { continue };
        let span = listener.name.as_ref().map_or_else(|| listener.head.clone(), |name| name.span.clone());
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            // Two nameless listeners share a name when they share an address, which is a problem of its own.
            if listener.name.is_some() {
                notes.add(twice("listener", &name, span, first.clone()));
            }
        } else {
            seen.push((name, span));
        }
    }
}

fn pool_names(config: &Config, notes: &mut Notes) {
    let mut seen: Vec<&At<String>> = Vec::new();
    for name in config.pools.iter().filter_map(|pool| pool.name.as_ref()) {
        match seen.iter().find(|other| other.value == name.value) {
            Some(first) => notes.add(twice("pool", &name.value, name.span.clone(), first.span.clone())),
            None => seen.push(name),
        }
    }
}

fn twice(what: &str, name: &str, span: Range<usize>, first: Range<usize>) -> Note {
    Note::error("duplicate_name", span, format!("there are two {what}s called {}", Quoted(name)))
        .related(first, "the first one")
        .help("give each a name of its own")
        .about_the_file()
}

fn pool_exists(config: &Config, listener: &Listener, notes: &mut Notes) {
    let Some(used) = &listener.pool else { return };
    if used_pool(config, listener).is_some() {
        return;
    }
    let names = || config.pools.iter().filter_map(|pool| pool.name.as_ref());
    let text = format!("{}: pool {} does not exist", listener.label, Quoted(&used.value));
    let note = Note::error("unknown_pool", used.span.clone(), text).about_the_file();
    let near = closest(&used.value, names().map(|name| name.value.as_str()));
    let near = near.and_then(|near| names().find(|name| name.value == near));
    // The pool may be the one whose name could not be read.
    if near.is_none() && config.pools.iter().any(|pool| pool.name.is_none()) {
        return;
    }
    notes.add(match near {
        Some(near) => note
            .help(format!("did you mean {}?", Quoted(&near.value)))
            .related(near.span.clone(), format!("{} is defined here", Quoted(&near.value))),
        None if config.pools.is_empty() => note.help(format!("add [[pool]] with name = {}", Quoted(&used.value))),
        None => note.help(format!("there is {}", all_of(names().map(|name| name.value.as_str())))),
    });
}

/// Keys of http on a listener that never looks into what it relays.
fn protocol_keys(listener: &Listener, notes: &mut Notes) {
    if listener.protocol != Some(Protocol::Tcp) {
        return;
    }
    for (key, span) in &listener.written {
        if key.only == Only::HttpListener {
            let text = format!("{}: {} has no meaning on a tcp listener", listener.label, Quoted(key.name));
            notes.add(
                Note::error("key_of_other_protocol", span.clone(), text)
                    .help("it works where protocol = \"http\"; remove it, or change the protocol"),
            );
        }
    }
}

fn trust(listener: &Listener, notes: &mut Notes) {
    for range in &listener.trusted {
        if matches!(range.value.to_string().as_str(), "0.0.0.0/0" | "::/0") {
            let text = format!("{}: trusted has \"{}\", which is everybody", listener.label, range.value);
            notes.add(
                Note::warning("trusts_everybody", range.span.clone(), text)
                    .help("any client can then claim any address; name the proxies in front of this listener"),
            );
        }
    }
}

/// What can be said of a pool without its listeners.
fn pool_alone(pool: &Pool, notes: &mut Notes) {
    if pool.backends.is_empty() && !pool.backends_incomplete {
        let span = place(&pool.written, "backends", &pool.head);
        let text = format!("{}: there are no backends, so every client gets no_backend_configured", pool.label);
        notes
            .add(Note::warning("no_backends", span, text).help("add backends = [\"10.0.0.11:8080\"]").about_the_file());
    } else if !pool.backends_incomplete && pool.backends.iter().all(|backend| backend.weight == 0) {
        let span = place(&pool.written, "backends", &pool.head);
        let text = format!("{}: every backend has weight 0, so none gets new work", pool.label);
        notes.add(Note::warning("all_weights_zero", span, text).help("give at least one a weight from 1 to 100"));
    }
    if pool.retries > 0 && pool.retry_budget == 0 {
        let span = place(&pool.written, "retry_budget", &pool.head);
        let text = format!("{}: retry_budget is 0, so none of the {} retries is made", pool.label, pool.retries);
        notes.add(
            Note::warning("retries_without_budget", span, text)
                .help("raise the budget, or write retries = 0 to say it"),
        );
    }
    let keeps_none = [
        (pool.idle_timeout.is_zero(), "idle_timeout", "idle_connections"),
        (pool.idle_connections == 0, "idle_connections", "idle_timeout"),
    ];
    for (none, because, undone) in keeps_none {
        if none && let Some((_, span)) = pool.written.iter().find(|(key, _)| key.name == undone) {
            let text =
                format!("{}: {undone} has no effect, because {because} is 0 and no connection is kept", pool.label);
            notes.add(Note::warning("setting_without_effect", span.clone(), text).help(format!("remove {undone}")));
            break;
        }
    }
}

fn pool_in_use(config: &Config, pool: &Pool, notes: &mut Notes) {
    let Some(name) = &pool.name else { return };
    if users(config, pool).next().is_none() {
        let text = format!("{}: no listener uses it", pool.label);
        notes.add(
            Note::warning("unused_pool", name.span.clone(), text)
                .help(format!("write pool = {} in a listener, or remove it", Quoted(&name.value)))
                .about_the_file(),
        );
        return;
    }
    if used_by_http(config, pool) {
        return;
    }
    for (key, span) in &pool.written {
        if key.only == Only::HttpPool {
            let text =
                format!("{}: {} has no effect, because only tcp listeners use the pool", pool.label, Quoted(key.name));
            notes.add(
                Note::warning("setting_without_effect", span.clone(), text)
                    .help(format!("remove {}; relayed connections have the listener's idle_timeout", key.name))
                    .about_the_file(),
            );
        }
    }
}

/// The key that was written, or the head of its table.
fn place(written: &Written, name: &str, head: &Range<usize>) -> Range<usize> {
    crate::config::place_of(written, name).unwrap_or_else(|| head.clone())
}
