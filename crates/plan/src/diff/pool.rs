//! Of pools, their backends and their checks.
//!
//! Backends are known by their address, checks by their name, as in a reload.

use std::net::SocketAddr;

use evenkeel_health::settings::{
    AgentProbe, BodyMatch, CheckSettings, CommandProbe, DnsProbe, GrpcProbe, HttpProbe, HttpVersion, IcmpProbe,
    PassiveSettings, ProbeSettings, Runs, Silence, StepsProbe, TcpProbe, Timing, TlsProbe, UdpProbe,
};

use super::PlanDiff;
use super::listener::socket;
use super::say::{Say, Sentences, Word, compare};
use crate::plan::{
    Affinity, Backend, Check, HashOn, OnUnhealthy, Plan, Pool, ProxyDatagrams, ProxyProtocol, ProxyVersion, Source,
    Speaks, Sticky, StickyMode,
};

/// A check, and the port that it asks where that is not the backend's own.
struct Asking<'a> {
    check: &'a Check,
    port: Option<u16>,
}

pub(super) fn compare(old: &Plan, new: &Plan, diff: &mut PlanDiff) {
    diff.pools.pair(&pools(old), &pools(new), |old, new, to| {
        pool(old, new, to);
    });
    diff.backends.pair(&backends(old), &backends(new), |old, new, to| {
        let Backend { pool: _, address: _, weight, server_id, targets: _ } = old;
        to.compare("weight", weight, &new.weight);
        let hex = |id: &Option<Box<[u8]>>| {
            id.as_ref().map(|id| Word(id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        };
        to.compare("server_id", &hex(server_id), &hex(&new.server_id));
    });
    diff.checks.pair(&checks(old), &checks(new), |old, new, to| {
        let Check { name: _, settings } = old.check;
        to.compare("port", &old.port, &new.port);
        check(settings, &new.check.settings, to);
    });
}

fn pools(plan: &Plan) -> Vec<(String, &Pool)> {
    plan.pools.iter().map(|pool| (pool.name.to_string(), &**pool)).collect()
}

fn backends(plan: &Plan) -> Vec<(String, &Backend)> {
    let name = |backend: &Backend| format!("{}/{}", plan.pools[backend.pool.index()].name, backend.address);
    plan.backends.iter().map(|backend| (name(backend), backend)).collect()
}

fn checks(plan: &Plan) -> Vec<(String, Asking<'_>)> {
    let mut all = Vec::new();
    for (position, pool) in plan.pools.iter().enumerate() {
        let first = plan.backends_of(evenkeel_model::PoolId::from_index(position)).next();
        for (place, check) in pool.checks.iter().enumerate() {
            // A check has one port for all its backends, or each is asked on its own.
            let asked = |(_, backend): (_, &Backend)| -> (SocketAddr, SocketAddr) {
                (backend.address, plan.targets[backend.targets[place].index()].address)
            };
            let port =
                first.map(asked).filter(|(own, asked)| own.port() != asked.port()).map(|(_, asked)| asked.port());
            all.push((format!("{}/{}", pool.name, check.name), Asking { check, port }));
        }
    }
    all
}

fn pool(old: &Pool, new: &Pool, to: &mut Sentences) {
    to.compare("schedule", &Word::of(old.schedule.word()), &Word::of(new.schedule.word()));
    compare!(to, old, new, Pool {
        connect_timeout, response_timeout, body_timeout, idle_timeout, idle_connections, retries, retry_budget,
        slow_start, speaks as "protocol", hash_on, bounded_load, try_timeout, hedge_after, backend_limit, queue,
        queue_timeout, source, on_unhealthy, panic_below;
        name, schedule, first_backend, backend_count, tls, sticky, affinity, proxy_protocol, tcp, passive, checks
    });
    match (&old.tls, &new.tls) {
        (Some(_), Some(_)) => to.compare_unseen("tls", &old.tls, &new.tls),
        (None, None) => {}
        (None, Some(_)) => to.push("speaks TLS to its backends from now on".to_owned()),
        (Some(_), None) => to.push("speaks TLS to its backends no longer".to_owned()),
    }
    let by_cookie = |pool: &Pool| pool.sticky.as_ref().map(|sticky| sticky.mode);
    to.compare("sticky.mode", &by_cookie(old), &by_cookie(new));
    if let (Some(old), Some(new)) = (&old.sticky, &new.sticky) {
        compare!(to, old, new, Sticky {
            cookie as "sticky.cookie", max_age as "sticky.max_age", drain_timeout as "sticky.drain_timeout";
            mode
        });
    }
    let by_address = |pool: &Pool| pool.affinity.map(|affinity| affinity.timeout);
    to.compare("sticky by address", &by_address(old), &by_address(new));
    if let (Some(old), Some(new)) = (&old.affinity, &new.affinity) {
        compare!(to, old, new, Affinity {
            ipv4_prefix as "sticky.ipv4_prefix", ipv6_prefix as "sticky.ipv6_prefix",
            drain_timeout as "sticky.drain_timeout";
            timeout
        });
    }
    let version = |pool: &Pool| pool.proxy_protocol.map(|proxy| proxy.version);
    to.compare("proxy_protocol", &version(old), &version(new));
    if let (Some(old), Some(new)) = (&old.proxy_protocol, &new.proxy_protocol) {
        compare!(to, old, new, ProxyProtocol {
            authority as "proxy_protocol.authority", alpn as "proxy_protocol.alpn",
            unique_id as "proxy_protocol.unique_id", datagrams as "proxy_protocol.datagrams";
            version
        });
    }
    socket(&old.tcp, &new.tcp, to);
    match (&old.passive, &new.passive) {
        (None, None) => {}
        (None, Some(_)) => to.push("backends are ejected for their traffic from now on".to_owned()),
        (Some(_), None) => to.push("backends are ejected for their traffic no longer".to_owned()),
        (Some(old), Some(new)) => passive(old, new, to),
    }
}

fn passive(old: &PassiveSettings, new: &PassiveSettings, to: &mut Sentences) {
    compare!(to, &old.runs, &new.runs, Runs {
        connect_failures as "passive.connect_failures", server_errors as "passive.server_errors",
        resets as "passive.resets", timeouts as "passive.timeouts";
    });
    compare!(to, old, new, PassiveSettings {
        failure_percent as "passive.failure_percent", latency_factor as "passive.latency_factor",
        latency_floor as "passive.latency_floor", min_requests as "passive.min_requests",
        interval as "passive.interval", ejection_time as "passive.ejection_time",
        ejection_max as "passive.ejection_max", max_ejected as "passive.max_ejected";
        runs
    });
}

fn check(old: &CheckSettings, new: &CheckSettings, to: &mut Sentences) {
    compare!(to, old, new, CheckSettings { sources; probe, timing });
    compare!(to, &old.timing, &new.timing, Timing {
        timeout, interval, unhealthy_interval, transition_interval, jitter, trust_traffic, healthy_threshold,
        unhealthy_threshold;
    });
    probe(&old.probe, &new.probe, to);
}

fn probe(old: &ProbeSettings, new: &ProbeSettings, to: &mut Sentences) {
    use ProbeSettings::{Agent, Command, Dns, Grpc, Http, Icmp, Steps, Tcp, Tls, Udp};
    match (old, new) {
        (Http(old), Http(new)) => {
            compare!(to, old, new, HttpProbe { method, path, host, version, keep_alive; headers, expect_status, expect_body, tls });
            let names = |probe: &HttpProbe| probe.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            if names(old) == names(new) {
                to.compare_unseen("a value in headers", &old.headers, &new.headers);
            } else {
                to.compare("headers", &names(old), &names(new));
            }
            let statuses = |probe: &HttpProbe| {
                let range = |&(low, high): &(u16, u16)| match low == high {
                    true => Word::of(low),
                    false => Word(format!("{low}-{high}")),
                };
                probe.expect_status.ranges().iter().map(range).collect::<Vec<_>>()
            };
            to.compare("expect_status", &statuses(old), &statuses(new));
            to.compare("body", &old.expect_body, &new.expect_body);
            to.compare_unseen("tls", &old.tls, &new.tls);
        }
        (Tcp(old), Tcp(new)) => to.compare("handshake", old, new),
        (Steps(old), Steps(new)) => {
            let StepsProbe { steps, tls } = old;
            to.compare_unseen("steps", steps, &new.steps);
            to.compare_unseen("tls", tls, &new.tls);
        }
        (Tls(old), Tls(new)) => {
            compare!(to, old, new, TlsProbe { min_days_left; client });
            to.compare_unseen("tls", &old.client, &new.client);
        }
        (Udp(old), Udp(new)) => {
            compare!(to, old, new, UdpProbe { silence, closed_port, ping; send, expect });
            to.compare_unseen("send", &old.send, &new.send);
            to.compare_unseen("expect", &old.expect, &new.expect);
        }
        (Icmp(IcmpProbe), Icmp(IcmpProbe)) => {}
        (Grpc(old), Grpc(new)) => {
            compare!(to, old, new, GrpcProbe { service, host; tls });
            to.compare_unseen("tls", &old.tls, &new.tls);
        }
        (Agent(AgentProbe { send }), Agent(new)) => to.compare_unseen("send", send, &new.send),
        (Dns(old), Dns(new)) => {
            compare!(to, old, new, DnsProbe { name, expect_codes, expect_addresses; record });
            to.compare("record", &Word(format!("{:?}", old.record)), &Word(format!("{:?}", new.record)));
        }
        (Command(CommandProbe { command }), Command(new)) => to.compare_unseen("command", command, &new.command),
        (Http(_) | Tcp(_) | Steps(_) | Tls(_) | Udp(_) | Icmp(_) | Grpc(_) | Agent(_) | Dns(_) | Command(_), _) => {
            let kind = |probe: &ProbeSettings| match probe {
                Steps(_) => Word("tcp with steps".to_owned()),
                other => Word::of(other.kind().word()),
            };
            to.compare("kind", &kind(old), &kind(new));
        }
    }
}

impl Say for Speaks {
    fn say(&self) -> String {
        match self {
            Speaks::Http1 => "http/1.1",
            Speaks::Http2 => "h2",
        }
        .to_owned()
    }
}

impl Say for HashOn {
    fn say(&self) -> String {
        match self {
            HashOn::Address => "address".to_owned(),
            HashOn::Header(name) => format!("header {name}"),
            HashOn::Cookie(name) => format!("cookie {name}"),
            HashOn::Uri => "uri".to_owned(),
        }
    }
}

impl Say for Source {
    fn say(&self) -> String {
        match self {
            Source::Kernel => "the kernel's choice".to_owned(),
            Source::Own(addresses) => addresses.say(),
            Source::Client => "the client's own".to_owned(),
        }
    }
}

impl Say for OnUnhealthy {
    fn say(&self) -> String {
        match self {
            OnUnhealthy::Keep => "keep",
            OnUnhealthy::Reset => "reset",
        }
        .to_owned()
    }
}

impl Say for StickyMode {
    fn say(&self) -> String {
        match self {
            StickyMode::Insert => "insert",
            StickyMode::Rewrite => "rewrite",
        }
        .to_owned()
    }
}

impl Say for ProxyVersion {
    fn say(&self) -> String {
        match self {
            ProxyVersion::V1 => "v1",
            ProxyVersion::V2 => "v2",
        }
        .to_owned()
    }
}

impl Say for ProxyDatagrams {
    fn say(&self) -> String {
        match self {
            ProxyDatagrams::First => "first",
            ProxyDatagrams::Each => "each",
        }
        .to_owned()
    }
}

impl Say for TcpProbe {
    fn say(&self) -> String {
        match self {
            TcpProbe::HalfOpen => "half-open",
            TcpProbe::Full => "full",
        }
        .to_owned()
    }
}

impl Say for HttpVersion {
    fn say(&self) -> String {
        match self {
            HttpVersion::Http1 => "http/1.1",
            HttpVersion::Http2 => "h2",
        }
        .to_owned()
    }
}

impl Say for Silence {
    fn say(&self) -> String {
        match self {
            Silence::Pass => "pass",
            Silence::Fail => "fail",
            Silence::Keep => "keep",
        }
        .to_owned()
    }
}

impl Say for BodyMatch {
    fn say(&self) -> String {
        match self {
            BodyMatch::Has(pattern) => format!("has {pattern}"),
            BodyMatch::HasNot(pattern) => format!("has not {pattern}"),
        }
    }
}
