//! What the parts of a config mean for each other: names that must exist, things that cannot both
//! be, settings that undo each other.
//!
//! Errors are what cannot work or would serve clients wrongly; warnings are what works and is
//! probably not meant. A part that could not be read is passed over: it has its own problem already.

mod addresses;
mod admin;
mod checks;
mod https;
mod node;
mod pools;
mod rules;
mod transport;
mod windows;

use std::ops::Range;

use evenkeel_plan::Protocol;

use crate::config::{Action, At, Config, Listener, Rule, Written, place_of};
use crate::keys::{Key, Only};
use crate::lower::{listener_name, pools_of};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::{all_of, closest, one_of};
use crate::values::show_size;

pub(crate) use rules::name_of as rule_name;

pub(crate) fn check(config: &Config, notes: &mut Notes) {
    listener_names(config, notes);
    pool_names(config, notes);
    for listener in &config.listeners {
        for (label, used) in pools_named(listener) {
            pool_exists(config, label, used, notes);
        }
        protocol_keys(listener, notes);
        trust(listener, notes);
        transport::of_listener(listener, notes);
        http2(listener, notes);
        if listener.protocol.is_none_or(|protocol| protocol.is_http() || protocol == Protocol::TlsPassthrough) {
            rules::check(config, listener, notes);
        }
    }
    https::check(config, notes);
    let users_known = !config.listeners.is_empty()
        && config.listeners.iter().all(|listener| {
            let unread = place_of(&listener.written, "pool").is_some() && listener.pool.is_none();
            listener.protocol.is_some()
                && !unread
                && listener.rules.iter().all(|rule| rule.action.is_some())
                && pools_of(listener).all(|used| rules::pool_called(config, &used.value).is_some())
                && (pools_of(listener).next().is_some()
                    || !listener.rules.is_empty()
                    || listener.redirect_to_https.is_some())
        });
    for pool in &config.pools {
        pools::alone(config, pool, notes);
        transport::of_pool(pool, notes);
        if users_known {
            pools::in_use(config, pool, notes);
            transport::in_use(config, pool, notes);
        }
    }
    addresses::check(config, notes);
    admin::check(config, notes);
    node::check(config, notes);
    checks::check(config, users_known, notes);
    windows::check(config, users_known, notes);
}

/// The pools a listener names, and by whom.
fn pools_named(listener: &Listener) -> impl Iterator<Item = (&str, &At<String>)> {
    let ruled = listener.rules.iter().filter_map(|rule| match &rule.action {
        Some(Action::Pool(used)) => Some((rule.label.as_str(), used)),
        Some(Action::Redirect { .. } | Action::Answer { .. }) | None => None,
    });
    listener.pool.iter().map(|used| (listener.label.as_str(), used)).chain(ruled)
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

fn pool_exists(config: &Config, label: &str, used: &At<String>, notes: &mut Notes) {
    if rules::pool_called(config, &used.value).is_some() {
        return;
    }
    let names = || config.pools.iter().filter_map(|pool| pool.name.as_ref());
    let text = format!("{label}: pool {} does not exist", Quoted(&used.value));
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

/// Keys of one protocol on a listener that speaks another.
fn protocol_keys(listener: &Listener, notes: &mut Notes) {
    let Some(protocol) = listener.protocol else { return };
    let label = listener.label.as_str();
    let limits = listener.limit.written.iter().map(|(key, span)| (label, key, span, "limit."));
    let own = listener.written.iter().map(|(key, span)| (label, key, span, ""));
    // Where there can be no rules, that is said once and not of each of their keys.
    let rules: &[Rule] =
        if matches!(protocol, Protocol::Tcp | Protocol::Udp) { &[] } else { listener.rules.as_slice() };
    let ruled =
        rules.iter().flat_map(|rule| rule.written.iter().map(|(key, span)| (rule.label.as_str(), key, span, "")));
    for (label, key, span, under) in own.chain(limits).chain(ruled) {
        let Some(works) = works_elsewhere(key, protocol) else { continue };
        let name = format!("{under}{}", key.name);
        let text = format!("{label}: {} has no meaning on {}", Quoted(&name), article(protocol));
        notes.add(
            Note::error("key_of_other_protocol", span.clone(), text)
                .help(format!("it works where protocol = {works}; remove it, or change the protocol")),
        );
    }
}

/// Where the key would work, when it does not work here.
fn works_elsewhere(key: &Key, protocol: Protocol) -> Option<String> {
    let Only::Listeners(protocols) = key.only else { return None };
    (!protocols.contains(&protocol)).then(|| one_of(protocols.iter().map(|protocol| protocol.word())))
}

const fn article(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "a tcp listener",
        Protocol::Udp => "a udp listener",
        Protocol::TlsPassthrough => "a tls-passthrough listener",
        Protocol::Http => "an http listener",
        Protocol::Https => "an https listener",
    }
}

fn http2(listener: &Listener, notes: &mut Notes) {
    let http2 = &listener.http2;
    if http2.enabled {
        if let Some(span) = place_of(&http2.written, "stream_window")
            && http2.stream_window > http2.connection_window
        {
            let text = format!(
                "{}: http2.stream_window is {}, more than the connection_window of {} that all streams share",
                listener.label,
                show_size(http2.stream_window),
                show_size(http2.connection_window)
            );
            notes.add(
                Note::warning("setting_without_effect", span, text)
                    .help("raise connection_window too; it is what one connection can make us hold"),
            );
        }
        return;
    }
    for (key, span) in listener.http2.written.iter().filter(|(key, _)| key.name != "enabled") {
        let text = format!("{}: http2.{} has no effect, because http2.enabled is false", listener.label, key.name);
        notes.add(Note::warning("setting_without_effect", span.clone(), text).help(format!("remove {}", key.name)));
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

/// The key that was written, or the head of its table.
fn place(written: &Written, name: &str, head: &Range<usize>) -> Range<usize> {
    place_of(written, name).unwrap_or_else(|| head.clone())
}
