//! Whether a pool's check can do what was asked of it, and means what was meant.
//!
//! A key of another kind of probe is an error: the operator believes in something that is not looked at.
//! Timing is only ever a warning, for no timing is wrong everywhere.

use evenkeel_health::settings::Silence;
use evenkeel_model::Cidr;
use evenkeel_model::finding::ProbeKind;
use evenkeel_plan::Protocol;

use super::transport::protocols;
use crate::config::{At, Check, CheckTls, Config, Pool, Sources, place_of};
use crate::keys::Only;
use crate::lower::{beyond_probes, kind_of, timing, used_by_streams, users};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::one_of;
use crate::values::show_duration;

pub(super) fn check(config: &Config, users_known: bool, notes: &mut Notes) {
    for (position, pool) in config.pools.iter().enumerate() {
        let Some(check) = &pool.check else { continue };
        if let Some(sources) = &check.source {
            source_family(pool, "check.source", sources, "probed", notes);
        }
        if check.kind_unreadable || (check.kind.is_none() && !users_known) {
            continue;
        }
        let kind = kind_of(config, position);
        keys_of_kind(config, pool, check, kind, notes);
        not_understood(pool, check, kind, notes);
        other_protocol(config, pool, check, kind, notes);
        rests_on_silence(pool, check, kind, notes);
        slower_than_traffic(pool, check, kind, notes);
        tls_without_tls(pool, check, kind, notes);
        if kind == ProbeKind::Udp
            && check.expect.is_some()
            && check.silence != Silence::Fail
            && let Some(span) = place_of(&check.written, "silence")
        {
            let text =
                format!("{}: check.silence has no effect, because expect is set and silence then fails", pool.label);
            notes.add(Note::warning("setting_without_effect", span, text).help("remove silence, or remove expect"));
        }
    }
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
            format!("{} makes this a {} check", listener.label, kind.word())
        } else {
            format!("no listener uses the pool, so its check is {}", kind.word())
        };
        let words = || theirs.iter().map(|kind| kind.word());
        let kinds = words().collect::<Vec<_>>().join(" and ");
        let text = format!("{}: {} is a key of {kinds} checks, and {because}", pool.label, Quoted(key.name));
        let help = format!("remove it, or write kind = {} in the check", one_of(words()));
        notes.add(Note::error("key_of_other_kind", span.clone(), text).help(help).about_the_file());
    }
}

/// An http probe is HTTP/1.1, whatever traffic speaks.
fn not_understood(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let span = place_of(&check.written, "kind").unwrap_or_else(|| pool.head.clone());
    if kind == ProbeKind::Udp && pool.proxy_protocol.is_some() && check.expect.is_some() && check.port.is_none() {
        let text = format!("{}: probes carry no PROXY header, and backends that want one may not answer", pool.label);
        notes.add(
            Note::warning("check_not_understood", span, text)
                .help("give a port where no header is expected, or remove expect"),
        );
        return;
    }
    let beyond = match kind {
        ProbeKind::Http => beyond_probes(pool),
        ProbeKind::Tls if pool.proxy_protocol.is_some() => beyond_probes(pool),
        _ => None,
    };
    let Some(speaks) = beyond.filter(|_| check.port.is_none()) else { return };
    let spoken = if kind == ProbeKind::Tls { "TLS from the first byte" } else { "HTTP/1.1" };
    let text = format!("{}: probes speak {spoken}, which backends with {speaks} may not understand", pool.label);
    let kind = if pool.tls.is_some() && pool.proxy_protocol.is_none() { ProbeKind::Tls } else { ProbeKind::Tcp };
    let help = format!("write kind = \"{}\", or give a port where {spoken} is understood", kind.word());
    notes.add(Note::warning("check_not_understood", span, text).help(help));
}

/// A handshake that is not to be made.
fn tls_without_tls(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let Some(At { value: CheckTls::Off, span }) = &check.tls else { return };
    if kind == ProbeKind::Tls {
        let text = format!("{}: check.tls is false, and a tls check is a TLS handshake", pool.label);
        notes.add(Note::error("tls_check_without_tls", span.clone(), text).help("remove tls, or write kind = \"tcp\""));
    }
}

/// A check of one protocol for backends that are used by another too, or alone.
fn other_protocol(config: &Config, pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let udp = users(config, pool).find(|listener| listener.protocol == Some(Protocol::Udp));
    let Some(udp) = udp else { return };
    if check.kind.is_none() && used_by_streams(config, pool) {
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
                    "a backend that fails for udp alone stays in; write kind = \"{}\" in the check to say so, or give udp a \
                     pool of its own",
                    kind.word()
                ))
                .about_the_file(),
        );
    } else if matches!(check.kind, Some(ProbeKind::Http | ProbeKind::Tls))
        && check.port.is_none()
        && !used_by_streams(config, pool)
    {
        let span = place_of(&check.written, "kind").unwrap_or_else(|| pool.head.clone());
        let text = format!("{}: {} probes go by tcp, to the ports that backends have for udp", pool.label, kind.word());
        notes.add(
            Note::warning("check_not_understood", span, text)
                .related(udp.head.clone(), "this listener uses the pool")
                .help("give the port where health is served")
                .about_the_file(),
        );
    }
}

/// Silence passes unless something else is asked for, and a dead host is silent too.
fn rests_on_silence(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let said = place_of(&check.written, "silence").is_some();
    if kind != ProbeKind::Udp || said || check.expect.is_some() {
        return;
    }
    let span = place_of(&check.written, "kind")
        .or_else(|| place_of(&pool.written, "check"))
        .unwrap_or_else(|| pool.head.clone());
    let text = format!("{}: its verdicts rest on silence: a host that is off passes every udp probe", pool.label);
    notes.add(
        Note::warning("verdict_rests_on_silence", span, text)
            .help("write send and expect, or another kind with the port where it is served; silence = \"pass\" says that it is meant")
            .about_the_file(),
    );
}

/// A check more patient than traffic keeps a backend that no client can use.
fn slower_than_traffic(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    let (patience, keys) = match kind {
        ProbeKind::Tcp | ProbeKind::Tls => (pool.connect_timeout, "connect_timeout"),
        ProbeKind::Http => (
            pool.connect_timeout.saturating_add(pool.response_timeout),
            "connect_timeout and response_timeout together",
        ),
        // Traffic of a pool with a udp check has no timeout to compare with.
        _ => return,
    };
    let timeout = timing(check, kind).timeout;
    if timeout <= patience {
        return;
    }
    let span = place_of(&check.written, "timeout")
        .or_else(|| place_of(&pool.written, "connect_timeout"))
        .or_else(|| place_of(&pool.written, "response_timeout"))
        .unwrap_or_else(|| pool.head.clone());
    let text = format!(
        "{}: check.timeout is {}, longer than the {} that traffic waits ({keys})",
        pool.label,
        show_duration(timeout),
        show_duration(patience)
    );
    notes.add(
        Note::warning("check_outwaits_traffic", span, text)
            .help("a backend slower than traffic waits for would pass its probes and fail its clients; make check.timeout the shorter one"),
    );
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
    let text =
        format!("{}: {key} \"{shown}\" is {family}, and backend \"{}\" is not", pool.label, backend.address.value);
    notes.add(
        Note::error("source_of_other_family", first.span.clone(), text)
            .related(backend.address.span.clone(), format!("this backend cannot be {verb} from there"))
            .help("add a source of that family, leave source out, or keep the two families in two pools"),
    );
}
