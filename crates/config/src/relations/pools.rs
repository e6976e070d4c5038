//! What the settings of one pool mean for each other and for the listeners that use it.
//!
//! A setting that does nothing is a warning; one that the operator's safety rests on, such as TLS where bytes are only
//! relayed, is an error.

use std::ops::Range;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_plan::{HashOn, Records, StickyMode};

use super::{place, transport};
use crate::config::{Config, Pool, StickyBy, place_of};
use crate::keys::Only;
use crate::lower::{used_by, used_by_http, users};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::one_of;
use crate::values::show_duration;

/// What can be said of a pool without its listeners.
pub(super) fn alone(config: &Config, pool: &Pool, notes: &mut Notes) {
    backends(pool, notes);
    if pool.retries > 0 && pool.retry_budget == 0 {
        let span = place(&pool.written, "retry_budget", &pool.head);
        let text = format!("{}: retry_budget is 0, so none of the {} retries is made", pool.label, pool.retries);
        notes.add(
            Note::warning("retries_without_budget", span, text)
                .help("raise the budget, or write retries = 0 to say it"),
        );
    }
    kept_connections(pool, notes);
    hashing(pool, notes);
    attempts(pool, notes);
    passive(pool, notes);
    queue(pool, notes);
    names_twice(pool, notes);
    panic(pool, notes);
    stickiness(config, pool, notes);
    if let Some(tls) = pool.tls.as_ref().filter(|tls| !tls.verify.value) {
        let text = format!("{}: tls.verify is false, so anybody in between can pose as a backend", pool.label);
        notes.add(
            Note::warning("backend_not_verified", tls.verify.span.clone(), text)
                .help("name the authority of the backends' certificates: ca = \"…\""),
        );
        if let Some(ca) = &tls.ca {
            without_effect(pool, "tls.ca", "tls.verify is false", &ca.span, notes);
        }
    }
}

fn backends(pool: &Pool, notes: &mut Notes) {
    let none = pool.backends.is_empty() && pool.names.is_empty();
    // The weights of SRV records are not known here.
    let idle = pool.backends.iter().all(|backend| backend.weight == 0)
        && pool.names.iter().all(|named| named.weight == 0 && named.asked.value.records != Records::Srv);
    if none && !pool.backends_incomplete {
        let span = place(&pool.written, "backends", &pool.head);
        let text = format!("{}: there are no backends, so every client gets no_backend_configured", pool.label);
        notes
            .add(Note::warning("no_backends", span, text).help("add backends = [\"10.0.0.11:8080\"]").about_the_file());
    } else if !pool.backends_incomplete && idle {
        let span = place(&pool.written, "backends", &pool.head);
        let text = format!("{}: every backend has weight 0, so none gets new work", pool.label);
        notes.add(Note::warning("all_weights_zero", span, text).help("give at least one a weight from 1 to 100"));
    }
}

fn kept_connections(pool: &Pool, notes: &mut Notes) {
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

/// Keys of hash schedules on others: the operator believes in something that is not looked at.
fn hashing(pool: &Pool, notes: &mut Notes) {
    if pool.schedule_unreadable {
        return;
    }
    for (key, span) in &pool.written {
        let Only::Schedules(schedules) = key.only else { continue };
        let works = schedules.contains(&pool.schedule);
        let with = one_of(schedules.iter().map(|schedule| schedule.word()));
        if works {
            continue;
        }
        let text =
            format!("{}: {} has no meaning with schedule = \"{}\"", pool.label, Quoted(key.name), pool.schedule.word());
        notes.add(
            Note::error("key_of_other_schedule", span.clone(), text)
                .help(format!("remove it, or write schedule = {with}")),
        );
    }
}

/// Timeouts of attempts that nothing can end by.
fn attempts(pool: &Pool, notes: &mut Notes) {
    if let Some(attempt) = &pool.try_timeout {
        if attempt.value >= pool.response_timeout {
            let because = longer("response_timeout", pool.response_timeout);
            let text = format!("{}: try_timeout is {}, {because}", pool.label, show_duration(attempt.value));
            notes.add(
                Note::warning("setting_without_effect", attempt.span.clone(), text).help(
                    "make try_timeout the shorter one: half of response_timeout leaves room for a second attempt",
                ),
            );
        } else if pool.retries == 0 {
            without_effect(pool, "try_timeout", "retries is 0 and there is only one attempt", &attempt.span, notes);
        }
    }
    if let Some(hedge) = &pool.hedge_after {
        let sooner = [
            pool.try_timeout.as_ref().map(|at| ("try_timeout", at.value)),
            Some(("response_timeout", pool.response_timeout)),
        ];
        if let Some((key, value)) = sooner.into_iter().flatten().find(|(_, value)| hedge.value >= *value) {
            let text = format!("{}: hedge_after is {}, {}", pool.label, show_duration(hedge.value), longer(key, value));
            notes.add(
                Note::warning("setting_without_effect", hedge.span.clone(), text)
                    .help(format!("make hedge_after shorter than {key}")),
            );
        } else if pool.retry_budget == 0 {
            without_effect(pool, "hedge_after", "retry_budget is 0", &hedge.span, notes);
        }
    }
}

fn longer(key: &str, value: Duration) -> String {
    format!("and the {key} of {} is not longer, so it never comes to that", show_duration(value))
}

fn queue(pool: &Pool, notes: &mut Notes) {
    let limit_unreadable = pool.backend_limit.is_none() && place_of(&pool.written, "backend_limit").is_some();
    if limit_unreadable {
        return;
    }
    for key in ["queue", "queue_timeout"] {
        let because = match (pool.backend_limit, pool.queue, key) {
            (None, ..) => "backend_limit is not set and nothing has to wait",
            (Some(_), 0, "queue_timeout") => "queue is 0 and nothing waits",
            (Some(_), ..) => continue,
        };
        if let Some(span) = place_of(&pool.written, key) {
            without_effect(pool, key, because, &span, notes);
        }
    }
}

/// Passive checks that can eject nobody, or not as written.
fn passive(pool: &Pool, notes: &mut Notes) {
    let Some(passive) = &pool.passive else { return };
    let settings = &passive.settings;
    if pool.backends.len() == 1 && pool.names.is_empty() && !pool.backends_incomplete {
        if let Some(span) = place_of(&pool.written, "passive") {
            without_effect(
                pool,
                "passive",
                "the pool has one backend, and the last that serves is never ejected",
                &span,
                notes,
            );
        }
        return;
    }
    let rates = settings.failure_percent.is_some() || settings.latency_factor.is_some();
    for (key, used, because) in [
        ("ejection_max", settings.ejection_max >= settings.ejection_time, "it is shorter than ejection_time"),
        ("latency_floor", settings.latency_factor.is_some(), "latency_factor is not set"),
        ("min_requests", rates, "neither failure_percent nor latency_factor is set"),
        ("interval", rates, "neither failure_percent nor latency_factor is set"),
    ] {
        if let Some(span) = place_of(&passive.written, key).filter(|_| !used) {
            without_effect(pool, &format!("passive.{key}"), because, &span, notes);
        }
    }
}

/// One name that is asked for the same twice is one answer.
fn names_twice(pool: &Pool, notes: &mut Notes) {
    for (position, named) in pool.names.iter().enumerate() {
        let asked = &named.asked;
        if let Some(first) = pool.names[..position].iter().find(|first| first.asked.value == asked.value) {
            let text = format!("{}: backend {} is here twice", pool.label, named.label);
            notes.add(
                Note::error("duplicate_backend", asked.span.clone(), text)
                    .related(first.asked.span.clone(), "the first one")
                    .help("remove one; for a larger share of the work give it a higher weight"),
            );
        }
    }
}

/// A share of backends of which none is ever left out.
fn panic(pool: &Pool, notes: &mut Notes) {
    if let Some(share) = &pool.panic_below
        && pool.checks.is_empty()
        && !pool.checks_incomplete
        && place_of(&pool.written, "passive").is_none()
    {
        let because = "check is off and passive is not on, so no backend is left out";
        without_effect(pool, "panic_below", because, &share.span, notes);
    }
}

fn stickiness(config: &Config, pool: &Pool, notes: &mut Notes) {
    let Some(sticky) = &pool.sticky else { return };
    let StickyBy::Cookie { mode, max_age, .. } = &sticky.by else { return };
    if let (StickyMode::Rewrite, Some(max_age)) = (mode, max_age) {
        without_effect(pool, "sticky.max_age", "the backend says how long its cookie lives", &max_age.span, notes);
    }
    if config.node.sticky_secret.is_none() {
        let span = place(&pool.written, "sticky", &pool.head);
        let text = format!(
            "{}: it is sticky, and without sticky_secret a restart or another node does not know its cookies",
            pool.label
        );
        notes.add(
            Note::warning("sticky_without_secret", span, text)
                .help("write 32 random bytes to a file and name it: [node] with sticky_secret = \"/etc/evenkeel/sticky.key\"")
                .about_the_file(),
        );
    }
}

pub(super) fn without_effect(pool: &Pool, key: &str, because: &str, span: &Range<usize>, notes: &mut Notes) {
    let text = format!("{}: {key} has no effect, because {because}", pool.label);
    notes.add(Note::warning("setting_without_effect", span.clone(), text).help(format!("remove {key}")));
}

pub(super) fn in_use(config: &Config, pool: &Pool, notes: &mut Notes) {
    let Some(name) = &pool.name else { return };
    if users(config, pool).next().is_none() {
        let text = format!("{}: no listener uses it", pool.label);
        notes.add(
            Note::warning("unused_pool", name.span.clone(), text)
                .help(format!("write pool = {} in a listener or a rule, or remove it", Quoted(&name.value)))
                .about_the_file(),
        );
        return;
    }
    let relayed = users(config, pool).find(|listener| listener.protocol.is_some_and(|protocol| !protocol.is_http()));
    if let (Some(tls), Some(listener)) = (&pool.tls, relayed) {
        let text = format!("{}: tls cannot be, because {} relays bytes as they are", pool.label, listener.label);
        notes.add(
            Note::error("tls_on_tcp", tls.head.clone(), text)
                .related(listener.head.clone(), "this listener uses the pool")
                .help("give that listener a pool without tls; its clients speak TLS with the backends themselves")
                .about_the_file(),
        );
    }
    for (key, span) in &pool.written {
        let idle = match key.only {
            // That was an error already.
            Only::PoolsOf(_) if key.name == "tls" && relayed.is_some() => false,
            Only::PoolsOf(protocols) => !protocols.iter().any(|protocol| used_by(config, pool, *protocol)),
            _ => {
                key.name == "hash_on"
                    && pool.schedule == Schedule::Maglev
                    && pool.hash_on != HashOn::Address
                    && !used_by_http(config, pool)
            }
        };
        if idle {
            let text = format!(
                "{}: {} has no effect, because only {} listeners use the pool",
                pool.label,
                Quoted(key.name),
                transport::protocols(config, pool)
            );
            let help = if ["response_timeout", "body_timeout", "idle_timeout", "try_timeout", "queue_timeout"]
                .contains(&key.name)
            {
                format!("remove {}; relayed connections have the listener's idle_timeout", key.name)
            } else {
                format!("remove {}", key.name)
            };
            notes.add(Note::warning("setting_without_effect", span.clone(), text).help(help).about_the_file());
        }
    }
}
