//! What the keys of one kind of check mean for each other and for what the pool's backends speak.
//!
//! Keys of other kinds, and timing, are judged next door.

use evenkeel_health::settings::{HttpVersion, Silence};
use evenkeel_model::finding::ProbeKind;

use crate::config::{At, Check, CheckTls, Config, Pool, place_of};
use crate::lower::checks::{kind_of, method_of, version_of};
use crate::lower::users;
use crate::problem::{Note, Notes, Quoted};

pub(super) fn check(config: &Config, pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    match kind {
        ProbeKind::Http => {
            body_of_head(check, notes);
            kept_over_streams(pool, check, notes);
        }
        ProbeKind::Tcp => conversation(check, notes),
        ProbeKind::Tls => tls_without_tls(check, notes),
        ProbeKind::Udp => {
            silence(check, notes);
            closed_port(pool, check, notes);
        }
        ProbeKind::Agent => agent_at_traffic_port(config, pool, check, notes),
        ProbeKind::Dns => addresses(check, notes),
        ProbeKind::Command => allowed(config, check, notes),
        ProbeKind::Icmp | ProbeKind::Grpc => {}
    }
    not_understood(pool, check, kind, notes);
}

/// What all checks of a pool together cannot see.
pub(super) fn together(config: &Config, pool: &Pool, notes: &mut Notes) {
    let kinds: Vec<ProbeKind> = pool.checks.iter().map(|check| kind_of(config, pool, check)).collect();
    match (kinds.as_slice(), pool.checks.as_slice()) {
        ([ProbeKind::Udp], [check]) => rests_on_silence(pool, check, notes),
        ([ProbeKind::Agent, ..], [first, ..]) if kinds.iter().all(|kind| *kind == ProbeKind::Agent) => {
            let text = format!("{}: agents are all that is asked, and whether the service answers is not", pool.label);
            notes.add(
                Note::warning("agent_alone", first.place("kind"), text)
                    .help("add a second [[pool.check]] of the kind that traffic speaks"),
            );
        }
        ([ProbeKind::Icmp, ..], [first, ..]) if kinds.iter().all(|kind| *kind == ProbeKind::Icmp) => {
            let text = format!("{}: an echo says that the host is there, and nothing of the service on it", pool.label);
            notes.add(
                Note::warning("check_of_host_alone", first.place("kind"), text)
                    .help("add a second [[pool.check]] of the kind that traffic speaks"),
            );
        }
        _ => {}
    }
}

fn body_of_head(check: &Check, notes: &mut Notes) {
    let looked_at = ["expect_body", "reject_body"].into_iter().find(|key| check.wrote(key));
    if let (Some(key), Some(method), "HEAD") = (looked_at, &check.http.method, method_of(check)) {
        let text = format!("{} is set, and the answer to HEAD has no body", check.says(key));
        notes.add(
            Note::error("body_of_head", check.place(key), text)
                .related(method.span.clone(), "the method is written here")
                .help("write method = \"GET\", or leave it out: with a key of the body it is GET"),
        );
    }
}

/// Connections of HTTP/2 are not kept.
fn kept_over_streams(pool: &Pool, check: &Check, notes: &mut Notes) {
    if check.http.keep_alive && version_of(pool, check) == HttpVersion::Http2 {
        let text =
            format!("{} has no effect over HTTP/2: each probe has a connection of its own", check.says("keep_alive"));
        notes.add(
            Note::warning("setting_without_effect", check.place("keep_alive"), text)
                .help("remove keep_alive, or write version = \"http1\" where the backends speak both"),
        );
    }
}

fn conversation(check: &Check, notes: &mut Notes) {
    if check.wrote("steps") {
        if let Some(span) = check.place_of("handshake") {
            let text =
                format!("{} has no effect, because a conversation needs the whole handshake", check.says("handshake"));
            notes.add(Note::warning("setting_without_effect", span, text).help("remove handshake"));
        }
    } else if let Some(At { value: CheckTls::On | CheckTls::Own(_) | CheckTls::Off, span }) = &check.tls {
        let text = format!("{} has no meaning in a tcp check without steps", check.says("tls"));
        notes.add(
            Note::error("key_of_other_kind", span.clone(), text)
                .help("write kind = \"tls\" for a TLS handshake, or give steps for a conversation over TLS"),
        );
    }
}

/// A handshake that is not to be made.
fn tls_without_tls(check: &Check, notes: &mut Notes) {
    if let Some(At { value: CheckTls::Off, span }) = &check.tls {
        let text = format!("{} is false, and a tls check is a TLS handshake", check.says("tls"));
        notes.add(Note::error("tls_check_without_tls", span.clone(), text).help("remove tls, or write kind = \"tcp\""));
    }
}

/// Keys about silence in a check that silence fails.
fn silence(check: &Check, notes: &mut Notes) {
    let because = match (check.wrote("expect"), check.udp.silence) {
        (true, _) => "expect is set and silence then fails",
        (false, Silence::Fail) => "silence fails",
        (false, Silence::Pass | Silence::Keep) => return,
    };
    let idle = [
        ("silence", check.wrote("expect") && check.udp.silence != Silence::Fail, "remove silence, or remove expect"),
        ("closed_port", true, "remove closed_port: it says how far silence may be believed"),
    ];
    for (key, idle, help) in idle {
        if let Some(span) = check.place_of(key).filter(|_| idle) {
            let text = format!("{} has no effect, because {because}", check.says(key));
            notes.add(Note::warning("setting_without_effect", span, text).help(help));
        }
    }
}

/// A port that is to be closed, where something is probed.
fn closed_port(pool: &Pool, check: &Check, notes: &mut Notes) {
    let Some(closed) = check.udp.closed_port else { return };
    let probed = |port: u16| check.port.unwrap_or(port) == closed;
    let Some(backend) = pool.backends.iter().find(|backend| probed(backend.address.value.port())) else { return };
    let text = format!("{} is {closed}, the port that is probed", check.says("closed_port"));
    notes.add(
        Note::error("closed_port_is_probed", check.place("closed_port"), text)
            .related(backend.address.span.clone(), "this backend is probed there")
            .help("name a udp port of the backends' hosts where nothing listens"),
    );
}

/// Silence passes unless something else is asked for, and a dead host is silent too.
fn rests_on_silence(pool: &Pool, check: &Check, notes: &mut Notes) {
    if ["silence", "expect", "closed_port", "ping"].into_iter().any(|key| check.wrote(key)) {
        return;
    }
    let span = check.place_of("kind").or_else(|| place_of(&pool.written, "check")).unwrap_or_else(|| pool.head.clone());
    let text = format!("{}: its verdicts rest on silence: a host that is off passes every udp probe", pool.label);
    notes.add(
        Note::warning("verdict_rests_on_silence", span, text)
            .help(
                "write send and expect; or ping = true and closed_port, which find a host that is off or says nothing; or \
                 another kind with the port where it is served; silence = \"pass\" says that it is meant",
            )
            .about_the_file(),
    );
}

/// The line of an agent, asked for where clients are served.
fn agent_at_traffic_port(config: &Config, pool: &Pool, check: &Check, notes: &mut Notes) {
    if check.wrote("port") || users(config, pool).next().is_none() {
        return;
    }
    let text = format!("{}: the agent is asked at the backends' own ports, where clients are served", check.label);
    notes.add(
        Note::warning("agent_at_traffic_port", check.place("kind"), text)
            .help("give the port where the agent listens: port = 9777")
            .about_the_file(),
    );
}

/// Addresses that no answer of this kind has.
fn addresses(check: &Check, notes: &mut Notes) {
    use evenkeel_health::settings::Record::{A, Aaaa};
    let Some(first) = check.dns.addresses.first() else { return };
    let says = check.says("expect_addresses");
    if !check.dns.codes.contains(&crate::values::dns::NOERROR) {
        let text = format!("{says} is set, and expect_codes lets no answer pass that has addresses");
        let note = Note::error("check_cannot_pass", first.span.clone(), text);
        notes.add(note.help("add \"NOERROR\" to expect_codes, or remove expect_addresses"));
        return;
    }
    if !matches!(check.dns.record, A | Aaaa) {
        let text = format!("{says} is set, and answers with such records have no addresses");
        let note = Note::error("check_cannot_pass", first.span.clone(), text);
        notes.add(note.help("write record = \"A\" or \"AAAA\", or remove expect_addresses"));
        return;
    }
    let is_ipv4 = check.dns.record == A;
    for other in check.dns.addresses.iter().filter(|at| at.value.is_ipv4() != is_ipv4) {
        let (record, family) = if is_ipv4 { ("A", "IPv4") } else { ("AAAA", "IPv6") };
        let text = format!("{says} has {}, and {record} records are {family}", Quoted(&other.value.to_string()));
        let note = Note::error("check_cannot_pass", other.span.clone(), text);
        notes.add(note.help("remove it, or ask for the other record in a second check"));
    }
}

fn allowed(config: &Config, check: &Check, notes: &mut Notes) {
    if !config.node.allow_commands {
        let text = format!("{}: commands are not allowed on this node", check.label);
        notes.add(
            Note::error("commands_not_allowed", check.place("kind"), text)
                .help("write allow_commands = true in [node]: whoever may write this file may then run programs as evenkeel")
                .about_the_file(),
        );
    }
}

/// Probes that begin otherwise than traffic does, where they go where traffic goes.
fn not_understood(pool: &Pool, check: &Check, kind: ProbeKind, notes: &mut Notes) {
    if check.port.is_some() {
        return;
    }
    let span = check.place_of("kind").unwrap_or_else(|| pool.head.clone());
    let proxied = pool.proxy_protocol.is_some();
    let warning = |text: String, help: &str| Note::warning("check_not_understood", span.clone(), text).help(help);
    let answered = match kind {
        ProbeKind::Udp => check.wrote("expect"),
        ProbeKind::Dns => true,
        ProbeKind::Tcp => !check.steps.is_empty(),
        ProbeKind::Http | ProbeKind::Tls | ProbeKind::Grpc => false,
        ProbeKind::Icmp | ProbeKind::Agent | ProbeKind::Command => return,
    };
    if answered && proxied {
        let text = format!("{}: probes carry no PROXY header, and backends that want one may not answer", check.label);
        let help = match kind {
            ProbeKind::Udp => "give a port where no header is expected, or remove expect",
            _ => "give a port where no header is expected",
        };
        notes.add(warning(text, help));
        return;
    }
    let spoken = match kind {
        ProbeKind::Tls => "TLS from the first byte",
        ProbeKind::Grpc => "gRPC",
        ProbeKind::Http => match version_of(pool, check) {
            HttpVersion::Http1 => "HTTP/1.1",
            HttpVersion::Http2 => "HTTP/2",
        },
        _ => return,
    };
    let speaks_http2 = pool.speaks == evenkeel_plan::Speaks::Http2;
    let another = if pool.tls.is_some() && !proxied { "tls" } else { "tcp" };
    let (beyond, help) = if proxied {
        let help = format!("write kind = \"{another}\", or give a port where {spoken} is understood");
        ("proxy_protocol", help)
    } else if speaks_http2 && spoken == "HTTP/1.1" {
        let help = format!("write version = \"h2\", or give a port where {spoken} is understood");
        ("protocol = \"h2\"", help)
    } else {
        return;
    };
    let text = format!("{}: probes speak {spoken}, which backends with {beyond} may not understand", check.label);
    notes.add(warning(text, &help));
}
