//! `[[pool]]` and its tables: where work goes and how.
//!
//! Says nothing of a pool's listeners, which decide what of it has an effect.

use std::ops::Range;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{PassiveSettings, Runs};
use evenkeel_model::limits;
use evenkeel_plan::{HashOn, OnUnhealthy, Speaks, StickyMode};

use super::backends::{self, Backends};
use super::{check, inner, label, tls, transport};
use crate::config::{Passive, Pool, Sticky, StickyBy};
use crate::document::Table;
use crate::keys::Section;
use crate::problem::Notes;
use crate::reader::Reader;
use crate::values::{self, http};

pub(super) fn pool(position: usize, table: &Table, head: Range<usize>, notes: &mut Notes) -> Pool {
    let label = label("pool", position, table);
    let mut reader = Reader::new(Section::Pool, &label, table, head.clone(), notes);
    let name = reader.required_text("name", "add the name listeners refer to: name = \"web\"", values::name);
    let word = reader.word("schedule");
    let schedule = Schedule::ALL.into_iter().find(|schedule| Some(schedule.word()) == word).unwrap_or_default();
    let schedule_unreadable = word.is_none();
    let hash_on = reader.text("hash_on", http::hash_on).map_or(HashOn::Address, |at| at.value);
    let Backends { addresses: backends, names, incomplete: backends_incomplete } = backends::of_pool(&mut reader);
    let (checks, checks_incomplete) = check::checks(&mut reader, &head);
    let pool = Pool {
        label: label.clone(),
        head,
        name,
        schedule,
        schedule_unreadable,
        hash_on,
        bounded_load: reader.optional_count(limits::BOUNDED_LOAD).map(|at| at.value),
        speaks: match reader.word("protocol") {
            Some("h2") => Speaks::Http2,
            _ => Speaks::Http1,
        },
        tls: tls::of_pool(&mut reader),
        panic_below: reader.optional_share(limits::PANIC_BELOW),
        backends,
        names,
        backends_incomplete,
        source: transport::sources(&mut reader),
        transparent: transport::transparent(&mut reader),
        proxy_protocol: transport::proxy_to(&mut reader),
        on_unhealthy: match reader.word("on_unhealthy") {
            Some("reset") => OnUnhealthy::Reset,
            _ => OnUnhealthy::Keep,
        },
        tcp: transport::of_pool(&mut reader),
        connect_timeout: reader.duration(limits::CONNECT_TIMEOUT),
        response_timeout: reader.duration(limits::RESPONSE_TIMEOUT),
        body_timeout: reader.duration(limits::BACKEND_BODY_TIMEOUT),
        idle_timeout: reader.duration(limits::BACKEND_IDLE_TIMEOUT),
        idle_connections: reader.count(limits::BACKEND_IDLE_CONNECTIONS),
        retries: reader.count(limits::RETRIES),
        retry_budget: reader.count(limits::RETRY_BUDGET),
        try_timeout: reader.optional_duration(limits::TRY_TIMEOUT),
        hedge_after: reader.optional_duration(limits::HEDGE_AFTER),
        backend_limit: reader.optional_count(limits::BACKEND_LIMIT).map(|at| at.value),
        queue: reader.count(limits::QUEUE),
        queue_timeout: reader.duration(limits::QUEUE_TIMEOUT),
        slow_start: reader.duration(limits::SLOW_START),
        sticky: sticky(&mut reader),
        passive: passive(&mut reader),
        checks,
        checks_incomplete,
        written: Vec::new(),
    };
    Pool { written: reader.finish(), ..pool }
}

/// `None` when it is off.
fn sticky(pool: &mut Reader<'_, '_>) -> Option<Sticky> {
    let help = "write sticky = {} to insert a cookie with the defaults, or sticky = { mode = \"address\" }";
    let (table, head) = inner(pool, "sticky", help)?;
    let label = pool.label().to_owned();
    let mut reader = Reader::new(Section::Sticky, &label, table, head.clone(), pool.notes());
    let mode = reader.word("mode");
    let rewrites = mode == Some("rewrite");
    let cookie = match (rewrites, reader.was_written("cookie")) {
        (false, false) => {
            reader.entry("cookie");
            Some("SERVERID".to_owned())
        }
        (true, false) => {
            reader.entry("cookie");
            reader.missing("cookie", "add the name of the cookie that the backends set: cookie = \"JSESSIONID\"");
            None
        }
        (_, true) => reader.text("cookie", http::cookie_name).map(|at| at.value),
    };
    let max_age = reader.optional_duration(limits::STICKY_MAX_AGE);
    let address = StickyBy::Address {
        timeout: reader.duration(limits::AFFINITY_TIMEOUT),
        ipv4_prefix: reader.count(limits::AFFINITY_IPV4_PREFIX),
        ipv6_prefix: reader.count(limits::AFFINITY_IPV6_PREFIX),
    };
    let by = match mode {
        Some("insert") => StickyBy::Cookie { mode: StickyMode::Insert, cookie, max_age },
        Some("rewrite") => StickyBy::Cookie { mode: StickyMode::Rewrite, cookie, max_age },
        Some("address") => address,
        _ => StickyBy::Unreadable,
    };
    let drain_timeout = reader.duration(limits::STICKY_DRAIN_TIMEOUT);
    Some(Sticky { head, by, drain_timeout, written: reader.finish() })
}

/// `None` when it is off.
fn passive(pool: &mut Reader<'_, '_>) -> Option<Passive> {
    let help = "write passive = {} to turn it on with the defaults; leave it out to have none";
    let (table, head) = inner(pool, "passive", help)?;
    let label = pool.label().to_owned();
    let mut reader = Reader::new(Section::Passive, &label, table, head, pool.notes());
    // Their ranges in the limits fit.
    let mut count = |setting| reader.count(setting) as u32;
    let runs = Runs {
        connect_failures: count(limits::PASSIVE_CONNECT_FAILURES),
        server_errors: count(limits::PASSIVE_SERVER_ERRORS),
        resets: count(limits::PASSIVE_RESETS),
        timeouts: count(limits::PASSIVE_TIMEOUTS),
    };
    let max_ejected = count(limits::MAX_EJECTED);
    let settings = PassiveSettings {
        runs,
        failure_percent: reader.optional_count(limits::PASSIVE_FAILURE_PERCENT).map(|at| at.value as u32),
        latency_factor: reader.optional_count(limits::PASSIVE_LATENCY_FACTOR).map(|at| at.value as u32),
        latency_floor: reader.duration(limits::PASSIVE_LATENCY_FLOOR),
        min_requests: reader.count(limits::PASSIVE_MIN_REQUESTS),
        interval: reader.duration(limits::PASSIVE_INTERVAL),
        ejection_time: reader.duration(limits::EJECTION_TIME),
        ejection_max: reader.duration(limits::EJECTION_MAX),
        max_ejected,
    };
    Some(Passive { settings, written: reader.finish() })
}
