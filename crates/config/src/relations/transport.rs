//! How clients and backends are told of each other, and kept together, below HTTP: PROXY headers, sources, client
//! addresses, connection ids.
//!
//! What a backend or an operator would believe wrongly is an error: a header nobody understands, a client that is not
//! kept. What merely does nothing is a warning.

use std::collections::HashMap;
use std::ops::Range;

use evenkeel_balance::Schedule;
use evenkeel_plan::{HostPattern, Protocol, ProxyVersion, Speaks};

use super::checks::source_family;
use super::pools::without_effect;
use crate::config::{Config, Listener, Pool, ProxyTo, Sticky, StickyBy, place_of};
use crate::lower::{used_by, used_by_http, users};
use crate::problem::{Note, Notes, Quoted};
use crate::reader::one_of;

/// Ports where the server speaks first, and what is spoken there.
const GREETING_PORTS: [(u16, &str); 9] = [
    (21, "FTP"),
    (22, "SSH"),
    (25, "SMTP"),
    (110, "POP3"),
    (119, "NNTP"),
    (143, "IMAP"),
    (587, "SMTP"),
    (2525, "SMTP"),
    (3306, "MySQL"),
];

pub(super) fn of_listener(listener: &Listener, notes: &mut Notes) {
    let label = &listener.label;
    for range in listener.proxies.iter().flatten() {
        if matches!(range.value.to_string().as_str(), "0.0.0.0/0" | "::/0") {
            let text = format!("{label}: proxy_protocol.from has \"{}\", which is everybody", range.value);
            notes.add(
                Note::warning("trusts_everybody", range.span.clone(), text)
                    .help("any client can then claim any address; name the proxies in front of this listener"),
            );
        }
    }
    if listener.protocol == Some(Protocol::Tcp)
        && listener.proxies.is_none()
        && place_of(&listener.written, "proxy_protocol").is_none()
        && let Some(span) = place_of(&listener.written, "header_timeout")
    {
        let text = format!(
            "{label}: header_timeout has no effect, because a tcp listener waits for nothing without proxy_protocol"
        );
        notes.add(Note::warning("setting_without_effect", span, text).help("remove header_timeout"));
    }
    greetings(listener, notes);
    if listener.protocol == Some(Protocol::TlsPassthrough) {
        for rule in &listener.rules {
            let is_address = |host: &HostPattern| match host {
                HostPattern::Exact(name) => name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok(),
                HostPattern::Wildcard(_) => false,
            };
            for host in rule.hosts.iter().filter(|host| is_address(&host.value)) {
                let shown = host.value.to_string();
                let text =
                    format!("{}: host {} is an address, and clients ask for names only", rule.label, Quoted(&shown));
                notes.add(
                    Note::warning("rule_never_asked", host.span.clone(), text)
                        .help("a client that was given an address asks for no name: leave host out to take it"),
                );
            }
        }
    }
}

/// A server that speaks first and a kernel that waits for the client to: each new connection stands still.
fn greetings(listener: &Listener, notes: &mut Notes) {
    // A PROXY header comes at once, whoever speaks first behind it.
    let (Some(span), None) = (&listener.defer_accept, &listener.proxies) else { return };
    let ports = listener.listen.iter().map(|at| at.value.port());
    let mut greeting = ports.filter_map(|port| GREETING_PORTS.into_iter().find(|(known, _)| *known == port));
    if let (Some((port, spoken)), Some(Protocol::Tcp)) = (greeting.next(), listener.protocol) {
        let text = format!(
            "{}: tcp.defer_accept waits for the client to speak, and in {spoken} (port {port}) the server does first",
            listener.label
        );
        notes.add(
            Note::warning("defer_accept_and_greeting", span.clone(), text)
                .help("every client would wait for this time; remove defer_accept"),
        );
    }
}

/// What can be said of a pool without its listeners.
pub(super) fn of_pool(pool: &Pool, notes: &mut Notes) {
    if let Some(sources) = &pool.source {
        source_family(pool, &format!("{}: source", pool.label), sources, "reached", notes);
        if let Some(span) = &pool.transparent {
            let text = format!("{}: transparent stands beside source, and a connection has one sender", pool.label);
            notes.add(
                Note::error("source_and_transparent", span.clone(), text)
                    .help("keep transparent for the client's own address, or source for one of this host"),
            );
        }
    }
    if let Some(to) = &pool.proxy_protocol {
        proxy_to(pool, to, notes);
    }
    if let Some(sticky) = &pool.sticky {
        modes(pool, sticky, notes);
    }
    server_ids(pool, notes);
}

fn proxy_to(pool: &Pool, to: &ProxyTo, notes: &mut Notes) {
    if let (Some(ProxyVersion::V1), Some(tlv)) = (to.version, to.tlvs.first()) {
        let text = format!(
            "{}: proxy_protocol.tlvs has \"{}\", and a header of version 1 holds addresses only",
            pool.label,
            tlv.value.word()
        );
        notes
            .add(Note::error("tlvs_without_v2", tlv.span.clone(), text).help("write version = \"v2\", or remove tlvs"));
    }
    if pool.speaks == Speaks::Http2 {
        let text = format!(
            "{}: proxy_protocol cannot be with protocol = \"h2\", where one connection serves many clients",
            pool.label
        );
        notes.add(
            Note::error("proxy_protocol_on_h2", to.span.clone(), text)
                .help("remove proxy_protocol: X-Forwarded-For tells the backends of each request's client"),
        );
    }
}

fn modes(pool: &Pool, sticky: &Sticky, notes: &mut Notes) {
    let (others, mode): (&[&str], &str) = match sticky.by {
        StickyBy::Cookie { .. } => (&["timeout", "ipv4_prefix", "ipv6_prefix"], "address"),
        StickyBy::Address { .. } => (&["cookie", "max_age"], "insert"),
        StickyBy::Unreadable => return,
    };
    for (key, span) in sticky.written.iter().filter(|(key, _)| others.contains(&key.name)) {
        let name = format!("sticky.{}", key.name);
        let text = format!("{}: {} has no meaning with this mode", pool.label, Quoted(&name));
        let help = match (key.name, mode) {
            ("timeout", _) => "write max_age for the age of the cookie, or mode = \"address\"".to_owned(),
            (_, mode) => format!("remove it, or write mode = \"{mode}\""),
        };
        notes.add(Note::error("key_of_other_mode", span.clone(), text).help(help));
    }
    if let StickyBy::Address { timeout, .. } = sticky.by
        && timeout.is_zero()
        && let Some(span) = place_of(&sticky.written, "timeout")
    {
        without_effect(pool, "sticky", "its timeout is 0 and nobody is kept", &span, notes);
    }
}

/// The ids by which a QUIC packet finds its backend.
fn server_ids(pool: &Pool, notes: &mut Notes) {
    let with = || pool.backends.iter().filter_map(|backend| backend.server_id.as_ref());
    if pool.schedule_unreadable {
        return;
    }
    if pool.schedule != Schedule::QuicCid {
        if let Some(id) = with().next() {
            let text =
                format!("{}: \"server_id\" has no meaning with schedule = \"{}\"", pool.label, pool.schedule.word());
            notes.add(
                Note::error("key_of_other_schedule", id.span.clone(), text)
                    .help("remove it, or write schedule = \"quic-cid\""),
            );
        }
        return;
    }
    let Some(first) = with().next() else {
        if !pool.backends.is_empty() && !pool.backends_incomplete {
            let span = place_of(&pool.written, "schedule").unwrap_or_else(|| pool.head.clone());
            let text =
                format!("{}: no backend has a server_id, so connection ids are learned from traffic", pool.label);
            notes.add(Note::warning("quic_cid_without_server_ids", span, text).help(
                "a client whose address changes is then lost after a restart, and on another node; give each backend \
                     the server_id it writes into its connection ids",
            ));
        }
        return;
    };
    if let Some(named) = pool.names.first() {
        let text = format!("{}: backend {} is a name, and others have a server_id", pool.label, named.label);
        notes.add(
            Note::error("server_id_missing", named.asked.span.clone(), text)
                .related(first.span.clone(), "this one has")
                .help("a name can have none: write the addresses of the servers, or give nobody a server_id"),
        );
    }
    if let Some(backend) = pool.backends.iter().find(|backend| backend.server_id.is_none())
        && !pool.backends_incomplete
    {
        let text = format!("{}: backend \"{}\" has no server_id, and others have", pool.label, backend.address.value);
        notes.add(
            Note::error("server_id_missing", backend.address.span.clone(), text)
                .related(first.span.clone(), "this one has")
                .help("give every backend of the pool one, or none"),
        );
    }
    let mut seen: HashMap<&[u8], &Range<usize>> = HashMap::new();
    for id in with() {
        if id.value.len() != first.value.len() {
            let text = format!(
                "{}: a server_id of {} bytes stands beside one of {}",
                pool.label,
                id.value.len(),
                first.value.len()
            );
            notes.add(
                Note::error("server_id_length", id.span.clone(), text)
                    .related(first.span.clone(), "the first one")
                    .help("a packet does not say how long its id is, so give all of a pool the same length"),
            );
        } else if let Some(other) = seen.insert(&id.value, &id.span) {
            let text = format!("{}: two backends have this server_id", pool.label);
            notes.add(
                Note::error("duplicate_server_id", id.span.clone(), text)
                    .related(other.clone(), "the other one")
                    .help("give each backend an id of its own"),
            );
        }
    }
}

/// What follows from the listeners that use a pool.
pub(super) fn in_use(config: &Config, pool: &Pool, notes: &mut Notes) {
    if users(config, pool).next().is_none() {
        return;
    }
    schedules(config, pool, notes);
    let http = || users(config, pool).find(|listener| listener.protocol.is_some_and(Protocol::is_http));
    if let Some(to) = &pool.proxy_protocol {
        let udp = users(config, pool).find(|listener| listener.protocol == Some(Protocol::Udp));
        if let (Some(ProxyVersion::V1), Some(listener)) = (to.version, udp) {
            let text = format!("{}: a PROXY header of version 1 cannot speak of datagrams", pool.label);
            notes.add(
                Note::error("proxy_v1_on_udp", to.span.clone(), text)
                    .related(listener.head.clone(), "this udp listener uses the pool")
                    .help("write proxy_protocol = \"v2\"")
                    .about_the_file(),
            );
        }
        if udp.is_none()
            && let Some(span) = place_of(&to.written, "datagrams")
        {
            without_effect(pool, "proxy_protocol.datagrams", "no udp listener uses the pool", &span, notes);
        }
        if let (Some(listener), Speaks::Http1) = (http(), pool.speaks) {
            let text = format!(
                "{}: with proxy_protocol each connection serves one request, because the next may be another client's",
                pool.label
            );
            notes.add(
                Note::warning("proxy_protocol_on_http", to.span.clone(), text)
                    .related(listener.head.clone(), "this listener uses the pool")
                    .help("backends that read X-Forwarded-For keep their connections; remove proxy_protocol for them")
                    .about_the_file(),
            );
        }
    }
    if let (Some(span), Some(listener)) = (&pool.transparent, http()) {
        let text = format!(
            "{}: with transparent each connection serves one request, because the next may be another client's",
            pool.label
        );
        notes.add(
            Note::warning("transparent_on_http", span.clone(), text)
                .related(listener.head.clone(), "this listener uses the pool")
                .help("backends that read X-Forwarded-For keep their connections; remove transparent for them")
                .about_the_file(),
        );
    }
    if let (Some(sticky), Some(listener)) = (pool.sticky.as_ref().filter(|sticky| sticky.is_by_address()), http()) {
        let text =
            format!("{}: sticky.mode \"address\" keeps connections, and {} has requests", pool.label, listener.label);
        let span = place_of(&sticky.written, "mode").unwrap_or_else(|| sticky.head.clone());
        notes.add(
            Note::error("sticky_of_other_protocol", span, text)
                .related(listener.head.clone(), "this listener uses the pool")
                .help("write mode = \"insert\" to keep its clients by a cookie, or schedule = \"source\"")
                .about_the_file(),
        );
    }
    if let Some(sticky) = pool.sticky.as_ref().filter(|sticky| sticky.is_by_cookie() && !used_by_http(config, pool)) {
        let span = place_of(&pool.written, "sticky").unwrap_or_else(|| sticky.head.clone());
        let users = protocols(config, pool);
        let text = format!("{}: \"sticky\" has no effect, because only {users} listeners use the pool", pool.label);
        notes.add(
            Note::warning("setting_without_effect", span, text)
                .help("what they relay has no cookies of ours; write mode = \"address\", or remove sticky")
                .about_the_file(),
        );
    }
}

/// Schedules for what a listener of the pool does not have.
fn schedules(config: &Config, pool: &Pool, notes: &mut Notes) {
    if pool.schedule_unreadable {
        return;
    }
    let span = place_of(&pool.written, "schedule").unwrap_or_else(|| pool.head.clone());
    let http = users(config, pool).find(|listener| listener.protocol.is_some_and(Protocol::is_http));
    let (what, help) = match (pool.schedule, http) {
        (Schedule::QuicCid, _) if !used_by(config, pool, Protocol::Udp) => {
            ("goes by the connection ids of QUIC, and no udp listener uses the pool", "source")
        }
        (Schedule::QuicCid, Some(_)) => ("goes by the connection ids of QUIC, and requests have none", "source"),
        (Schedule::Tuple, Some(_)) => {
            ("goes by addresses and ports of a connection, on which many requests come", "source")
        }
        _ => return,
    };
    let text = format!("{}: schedule \"{}\" {what}", pool.label, pool.schedule.word());
    let mut note = Note::error("schedule_of_other_protocol", span, text)
        .help(format!("write schedule = \"{help}\" to go by the client's address, or give the two a pool each"))
        .about_the_file();
    if let Some(listener) = http {
        note = note.related(listener.head.clone(), "this listener uses the pool");
    }
    notes.add(note);
}

/// `tcp`, `udp and tcp`: what the listeners of a pool speak.
pub(super) fn protocols(config: &Config, pool: &Pool) -> String {
    let spoken = Protocol::ALL.into_iter().filter(|protocol| used_by(config, pool, *protocol));
    one_of(spoken.map(Protocol::word)).replace('"', "").replace(" or ", " and ")
}
