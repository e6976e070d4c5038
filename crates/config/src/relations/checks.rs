//! Whether a pool's checks can do what was asked of them, and mean what was meant.
//!
//! A key of another kind of probe is an error: the operator believes in something that is not looked at.
//! Timing is only ever a warning, for no timing is wrong everywhere.

mod kinds;

use evenkeel_model::Cidr;
use evenkeel_model::finding::ProbeKind;
use evenkeel_plan::Protocol;

use super::transport::protocols;
use crate::config::{At, Check, CheckTls, Config, Pool, Sources, place_of};
use crate::keys::Only;
use crate::lower::checks::{beyond_probes, kind_of, method_of, name_of, timing, version_of};
use crate::lower::{used_by_streams, users};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::one_of;
use crate::values::show_duration;

pub(super) fn check(config: &Config, users_known: bool, notes: &mut Notes) {
    for pool in &config.pools {
        for check in &pool.checks {
            if let Some(sources) = &check.source {
                source_family(pool, &check.says("source"), sources, "probed", notes);
            }
            if is_known(check, users_known) {
                let kind = kind_of(config, pool, check);
                keys_of_kind(config, pool, check, kind, notes);
                other_protocol(config, pool, check, kind, notes);
                slower_than_traffic(pool, check, kind, notes);
                kinds::check(config, pool, check, kind, notes);
            }
            trusted_traffic(config, pool, check, users_known, notes);
        }
        if pool.checks.iter().all(|check| is_known(check, users_known)) {
            names(config, pool, notes);
            twice(config, pool, notes);
            if !pool.checks_incomplete {
                kinds::together(config, pool, notes);
            }
        }
    }
}

/// Whether it can be said what kind of check it is.
pub(super) fn is_known(check: &Check, users_known: bool) -> bool {
    !check.kind_unreadable && (check.kind.is_some() || users_known)
}

fn names(config: &Config, pool: &Pool, notes: &mut Notes) {
    for (position, check) in pool.checks.iter().enumerate() {
        let name = name_of(config, pool, check);
        let first = pool.checks[..position].iter().find(|other| name_of(config, pool, other) == name);
        if let Some(first) = first {
            let at = |check: &Check| check.name.as_ref().map_or_else(|| check.head.clone(), |at| at.span.clone());
            let text = format!("{}: there are two checks called {}", pool.label, Quoted(name));
            notes.add(
                Note::error("duplicate_name", at(check), text)
                    .related(at(first), "the first one")
                    .help("give each a name of its own: name = \"…\"; left out, it is the check's kind")
                    .about_the_file(),
            );
        }
    }
}

/// Two checks that ask the same of the same port are one target, and one verdict counted twice.
fn twice(config: &Config, pool: &Pool, notes: &mut Notes) {
    let read: Vec<&Check> = pool.checks.iter().filter(|check| !check.incomplete).collect();
    for (position, check) in read.iter().enumerate() {
        let first = read[..position].iter().find(|other| asks_the_same(config, pool, check, other));
        if let Some(first) = first {
            let text = format!("{} asks what {} asks already", check.label, first.label);
            notes.add(
                Note::warning("check_twice", check.head.clone(), text)
                    .related(first.head.clone(), "the first one")
                    .help("remove one of them, or let it ask for something else"),
            );
        }
    }
}

fn asks_the_same(config: &Config, pool: &Pool, one: &Check, other: &Check) -> bool {
    let tls = |check: &Check| match &check.tls {
        None => Some(0),
        Some(At { value: CheckTls::Off, .. }) => Some(1),
        Some(At { value: CheckTls::On, .. }) => Some(2),
        Some(At { value: CheckTls::Own(_), .. }) => None,
    };
    let http = |check: &Check| {
        let http = &check.http;
        let answer = (http.expect_status.clone(), http.body.clone());
        (http.path.clone(), method_of(check).to_owned(), http.headers.clone(), answer, version_of(pool, check))
    };
    let dns = |check: &Check| {
        let addresses: Vec<_> = check.dns.addresses.iter().map(|at| at.value).collect();
        (check.dns.query.clone(), check.dns.record, check.dns.codes.clone(), addresses)
    };
    let udp = |check: &Check| (check.udp.expect.clone(), check.udp.silence, check.udp.closed_port, check.udp.ping);
    kind_of(config, pool, one) == kind_of(config, pool, other)
        && (one.port, &one.host, tls(one)) == (other.port, &other.host, tls(other))
        && tls(one).is_some()
        && http(one) == http(other)
        && (one.handshake, &one.steps, &one.send) == (other.handshake, &other.steps, &other.send)
        && udp(one) == udp(other)
        && (&one.service, &one.command, one.min_days_left) == (&other.service, &other.command, other.min_days_left)
        && dns(one) == dns(other)
}

/// `path` on a tcp check and the like.
fn keys_of_kind(config: &Config, pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    for (key, span) in &check.written {
        let Only::Checks(theirs) = key.only else { continue };
        if theirs.contains(&kind) {
            continue;
        }
        let because = if check.kind.is_some() {
            format!("this check is {}", kind.word())
        } else if let (Some(other), ProbeKind::Tcp) = (beyond_probes(pool), kind) {
            format!("{other} makes this a tcp check")
        } else if let Some(listener) = users(config, pool).next() {
            format!("{} makes this {} {} check", listener.label, article(kind), kind.word())
        } else {
            format!("no listener uses the pool, so its check is {}", kind.word())
        };
        let words = || theirs.iter().map(|kind| kind.word());
        let note = if theirs.len() > MANY {
            let text = format!("{}: {} has no meaning here: {because}", check.label, Quoted(key.name));
            Note::error("key_of_other_kind", span.clone(), text).help("remove it")
        } else {
            let kinds = words().collect::<Vec<_>>().join(" and ");
            let text = format!("{}: {} is a key of {kinds} checks, and {because}", check.label, Quoted(key.name));
            let help = match (key.name, kind) {
                ("send" | "expect", ProbeKind::Tcp) => {
                    "write steps = [{ send = \"…\" }, { expect = \"…\" }]".to_owned()
                }
                _ => format!("remove it, or write kind = {} in the check", one_of(words())),
            };
            Note::error("key_of_other_kind", span.clone(), text).help(help)
        };
        notes.add(note.about_the_file());
    }
}

/// Kinds of one key, beyond which a list of them explains nothing.
const MANY: usize = 4;

const fn article(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Http | ProbeKind::Tcp | ProbeKind::Tls | ProbeKind::Udp => "a",
        ProbeKind::Grpc | ProbeKind::Dns | ProbeKind::Command => "a",
        ProbeKind::Icmp | ProbeKind::Agent => "an",
    }
}

/// A check of one protocol for backends that are used by another too, or alone.
fn other_protocol(config: &Config, pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let udp = users(config, pool).find(|listener| listener.protocol == Some(Protocol::Udp));
    let streams = used_by_streams(config, pool);
    let at_traffic = check.kind.is_some() && check.port.is_none();
    if let (ProbeKind::Dns, true, None, Some(user)) = (kind, at_traffic, udp, users(config, pool).next()) {
        let text = format!("{}: dns probes go by udp, to the ports that backends have for tcp", check.label);
        notes.add(
            Note::warning("check_not_understood", check.place("kind"), text)
                .related(user.head.clone(), "this listener uses the pool")
                .help("give the port where DNS is served by udp")
                .about_the_file(),
        );
    }
    let Some(udp) = udp else { return };
    let by_streams = match kind {
        ProbeKind::Http | ProbeKind::Tls | ProbeKind::Grpc => true,
        ProbeKind::Tcp => !check.steps.is_empty(),
        ProbeKind::Udp | ProbeKind::Icmp | ProbeKind::Agent | ProbeKind::Dns | ProbeKind::Command => false,
    };
    if check.kind.is_none() && streams && pool.checks.len() == 1 {
        let text = format!(
            "{}: {} listeners use it, and its check is {} alone",
            pool.label,
            protocols(config, pool),
            kind.word()
        );
        notes.add(
            Note::warning("check_of_one_protocol", pool.head.clone(), text)
                .related(udp.head.clone(), "this one is not looked at by the check")
                .help(format!(
                    "a backend that fails for udp alone stays in; add a second [[pool.check]] for it, or write kind = \"{}\" \
                     in the check to say so",
                    kind.word()
                ))
                .about_the_file(),
        );
    } else if by_streams && at_traffic && !streams {
        let text =
            format!("{}: {} probes go by tcp, to the ports that backends have for udp", check.label, kind.word());
        notes.add(
            Note::warning("check_not_understood", check.place("kind"), text)
                .related(udp.head.clone(), "this listener uses the pool")
                .help("give the port where health is served")
                .about_the_file(),
        );
    }
}

/// A check more patient than traffic keeps a backend that no client can use.
fn slower_than_traffic(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let (patience, keys) = match kind {
        ProbeKind::Tcp if !check.steps.is_empty() => return,
        ProbeKind::Tcp | ProbeKind::Tls => (pool.connect_timeout, "connect_timeout"),
        ProbeKind::Http | ProbeKind::Grpc => (
            pool.connect_timeout.saturating_add(pool.response_timeout),
            "connect_timeout and response_timeout together",
        ),
        // What they ask has no counterpart in traffic, or traffic no timeout to compare with.
        ProbeKind::Udp | ProbeKind::Icmp | ProbeKind::Agent | ProbeKind::Dns | ProbeKind::Command => return,
    };
    let timeout = timing(check, kind).timeout;
    if timeout <= patience {
        return;
    }
    let span = check
        .place_of("timeout")
        .or_else(|| place_of(&pool.written, "connect_timeout"))
        .or_else(|| place_of(&pool.written, "response_timeout"))
        .unwrap_or_else(|| pool.head.clone());
    let text = format!(
        "{} is {}, longer than the {} that traffic waits ({keys})",
        check.says("timeout"),
        show_duration(timeout),
        show_duration(patience)
    );
    let help = format!(
        "a backend slower than traffic waits for would pass its probes and fail its clients; make {}timeout the shorter one",
        check.prefix
    );
    notes.add(Note::warning("check_outwaits_traffic", span, text).help(help));
}

/// Traffic that cannot be trusted, because there is none or it would make nothing slower.
fn trusted_traffic(config: &Config, pool: &Pool, check: &Check, users_known: bool, notes: &mut Notes) {
    let Some(trust) = &check.trust_traffic else { return };
    let interval = if is_known(check, users_known) {
        timing(check, kind_of(config, pool, check)).interval
    } else {
        check.interval
    };
    let because = if users_known && users(config, pool).next().is_none() {
        "no listener uses the pool, so it has no traffic".to_owned()
    } else if trust.value <= interval {
        format!("it is no longer than the interval of {}", show_duration(interval))
    } else {
        return;
    };
    let text = format!("{} has no effect, because {because}", check.says("trust_traffic"));
    let help = "remove it, or make it longer: it is the gap between probes while traffic passes";
    notes.add(Note::warning("setting_without_effect", trust.span.clone(), text).help(help).about_the_file());
}

/// A backend of a family that no source has.
pub(super) fn source_family(pool: &Pool, key: &str, sources: &Sources, verb: &str, notes: &mut Notes) {
    let Some(first) = sources.first() else { return };
    let is_ipv4 = |source: &At<Cidr>| source.value.network().is_ipv4();
    let alone = pool
        .backends
        .iter()
        .find(|backend| !sources.iter().any(|source| is_ipv4(source) == backend.address.value.is_ipv4()));
    let Some(backend) = alone else { return };
    let family = if is_ipv4(first) { "IPv4" } else { "IPv6" };
    let shown = first.value.only().map_or_else(|| first.value.to_string(), |address| address.to_string());
    let text = format!("{key} \"{shown}\" is {family}, and backend \"{}\" is not", backend.address.value);
    notes.add(
        Note::error("source_of_other_family", first.span.clone(), text)
            .related(backend.address.span.clone(), format!("this backend cannot be {verb} from there"))
            .help("add a source of that family, leave source out, or keep the two families in two pools"),
    );
}
