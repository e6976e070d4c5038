//! Checks into what is probed: which kind one is, what its probes speak, when they come.
//!
//! What judges a config asks here too, so that a check can never be judged as one kind and probed as another.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::settings::{
    AgentProbe, BodyMatch, CheckSettings, CommandProbe, DnsProbe, GrpcProbe, HttpProbe, HttpVersion, IcmpProbe,
    ProbeSettings, StepsProbe, Timing, TlsProbe, UdpProbe,
};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::limits::{self, Setting};
use evenkeel_plan::{Protocol, Speaks};
use evenkeel_tls::Client;

use super::{narrow, used_by, used_by_http, used_by_streams};
use crate::config::{At, Check, CheckTls, Config, Pool, PoolTls};

/// What a check is: as it says, else as the listeners of its pool speak.
pub(crate) fn kind_of(config: &Config, pool: &Pool, check: &Check) -> ProbeKind {
    if let Some(kind) = check.kind {
        return kind;
    }
    // A port of its own is one where health is served.
    let understood = beyond_probes(pool).is_none() || check.port.is_some();
    if used_by_http(config, pool) && understood {
        ProbeKind::Http
    } else if used_by(config, pool, Protocol::Udp) && !used_by_streams(config, pool) {
        ProbeKind::Udp
    } else {
        // Where datagrams go to the same port, a SYN+ACK still says more than silence would.
        ProbeKind::Tcp
    }
}

/// What people call it: as it says, else by its kind.
pub(crate) fn name_of<'c>(config: &Config, pool: &Pool, check: &'c Check) -> &'c str {
    check.name.as_ref().map_or_else(|| kind_of(config, pool, check).word(), |name| &name.value)
}

/// What the backends speak that keeps a pool from being probed by http unless it says so.
pub(crate) fn beyond_probes(pool: &Pool) -> Option<&'static str> {
    if pool.proxy_protocol.is_some() {
        return Some("proxy_protocol");
    }
    match pool.speaks {
        Speaks::Http2 => Some("protocol = \"h2\""),
        Speaks::Http1 => None,
    }
}

/// What an http probe speaks: as it says, else as traffic does, where it goes where traffic goes.
pub(crate) fn version_of(pool: &Pool, check: &Check) -> HttpVersion {
    check.http.version.unwrap_or(match (pool.speaks, check.port) {
        (Speaks::Http2, None) => HttpVersion::Http2,
        (Speaks::Http1, _) | (_, Some(_)) => HttpVersion::Http1,
    })
}

/// HEAD, unless the body is looked at.
pub(crate) fn method_of(check: &Check) -> &str {
    match (&check.http.method, &check.http.body) {
        (Some(method), _) => &method.value,
        (None, Some(BodyMatch::Has(_) | BodyMatch::HasNot(_))) => "GET",
        (None, None) => "HEAD",
    }
}

/// Timeout and interval that a check of a kind has when it has none of its own.
pub(crate) const fn timing_of(kind: ProbeKind) -> (&'static Setting<Duration>, &'static Setting<Duration>) {
    match kind {
        ProbeKind::Udp => (limits::UDP_CHECK_TIMEOUT, limits::UDP_CHECK_INTERVAL),
        ProbeKind::Icmp => (limits::ICMP_CHECK_TIMEOUT, limits::CHECK_INTERVAL),
        ProbeKind::Command => (limits::COMMAND_CHECK_TIMEOUT, limits::COMMAND_CHECK_INTERVAL),
        ProbeKind::Http | ProbeKind::Tcp | ProbeKind::Tls | ProbeKind::Grpc | ProbeKind::Agent | ProbeKind::Dns => {
            (limits::CHECK_TIMEOUT, limits::CHECK_INTERVAL)
        }
    }
}

/// The timing of a check; what is left out follows from the kind, which its reader may not have known.
pub(crate) fn timing(check: &Check, kind: ProbeKind) -> Timing {
    let (timeout, interval) = timing_of(kind);
    let timeout = if check.wrote("timeout") { check.timeout } else { timeout.default };
    let interval = if check.wrote("interval") { check.interval } else { interval.default };
    let or_interval = |at: &Option<At<Duration>>| at.as_ref().map_or(interval, |at| at.value);
    Timing {
        unhealthy_interval: or_interval(&check.unhealthy_interval),
        transition_interval: or_interval(&check.transition_interval),
        jitter: narrow(check.jitter),
        trust_traffic: check.trust_traffic.as_ref().map(|at| at.value),
        ..Timing::new(timeout, interval, narrow(check.healthy_threshold), narrow(check.unhealthy_threshold))
    }
}

/// Whose settings the TLS of a probe has.
pub(crate) enum ProbeTls<'c> {
    OfPool,
    Own(&'c PoolTls),
    /// Those of an empty `[pool.tls]` that would stand at this place.
    Defaults(Range<usize>),
}

/// Whether probes speak TLS: as the check says, else as traffic does. A port of its own says nothing of what is spoken there.
pub(crate) fn tls_of_probes<'c>(config: &Config, pool: &'c Pool, check: &'c Check) -> Option<ProbeTls<'c>> {
    let kind = kind_of(config, pool, check);
    let speaks_tls = match kind {
        ProbeKind::Http | ProbeKind::Tls | ProbeKind::Grpc => true,
        ProbeKind::Tcp => !check.steps.is_empty(),
        ProbeKind::Udp | ProbeKind::Icmp | ProbeKind::Agent | ProbeKind::Dns | ProbeKind::Command => false,
    };
    if !speaks_tls {
        return None;
    }
    let of_pool = |span: Range<usize>| match pool.tls {
        Some(_) => ProbeTls::OfPool,
        None => ProbeTls::Defaults(span),
    };
    match &check.tls {
        Some(At { value: CheckTls::Off, .. }) => None,
        Some(At { value: CheckTls::Own(own), .. }) => Some(ProbeTls::Own(own)),
        Some(At { value: CheckTls::On, span }) => Some(of_pool(span.clone())),
        None if kind == ProbeKind::Tls => Some(of_pool(check.place("kind"))),
        None => (pool.tls.is_some() && check.port.is_none()).then_some(ProbeTls::OfPool),
    }
}

/// What probes of a check need besides its text: where they come from, and the TLS they speak.
#[derive(Debug)]
pub(crate) struct Probing {
    pub sources: Arc<[IpAddr]>,
    pub tls: Option<Arc<Client>>,
}

pub(super) fn settings(config: &Config, pool: &Pool, check: &Check, probing: &Probing) -> CheckSettings {
    let kind = kind_of(config, pool, check);
    let tls = probing.tls.clone();
    let host = check.host.clone();
    let probe = match kind {
        ProbeKind::Http => ProbeSettings::Http(HttpProbe {
            method: method_of(check).to_owned(),
            path: check.http.path.clone(),
            host,
            headers: check.http.headers.clone(),
            expect_status: check.http.expect_status.clone(),
            expect_body: check.http.body.clone(),
            version: version_of(pool, check),
            keep_alive: check.http.keep_alive,
            tls,
        }),
        ProbeKind::Tcp if check.steps.is_empty() => ProbeSettings::Tcp(check.handshake),
        ProbeKind::Tcp => ProbeSettings::Steps(StepsProbe { steps: check.steps.as_slice().into(), tls }),
        ProbeKind::Tls => ProbeSettings::Tls(TlsProbe {
            client: tls.expect("a config without errors has settings for a tls check"),
            min_days_left: check.min_days_left.map(narrow),
        }),
        ProbeKind::Udp => ProbeSettings::Udp(UdpProbe {
            send: check.send.clone(),
            expect: check.udp.expect.clone(),
            silence: check.udp.silence,
            closed_port: check.udp.closed_port,
            ping: check.udp.ping,
        }),
        ProbeKind::Icmp => ProbeSettings::Icmp(IcmpProbe),
        ProbeKind::Grpc => ProbeSettings::Grpc(GrpcProbe { service: check.service.clone(), host, tls }),
        ProbeKind::Agent => ProbeSettings::Agent(AgentProbe { send: check.send.clone() }),
        ProbeKind::Dns => ProbeSettings::Dns(DnsProbe {
            name: check.dns.query.clone().expect("a config without errors says what a dns check asks for"),
            record: check.dns.record,
            expect_codes: check.dns.codes.clone(),
            expect_addresses: check.dns.addresses.iter().map(|at| at.value).collect(),
        }),
        ProbeKind::Command => ProbeSettings::Command(CommandProbe { command: check.command.as_slice().into() }),
    };
    CheckSettings { probe, timing: timing(check, kind), sources: Arc::clone(&probing.sources) }
}
