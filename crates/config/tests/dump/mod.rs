//! A plan as text that a reviewer can read. Settings at their defaults are left out, so that a case
//! shows what its config changed.

mod check;
mod listener;

use std::fmt::Write as _;

use evenkeel_model::limits;
use evenkeel_plan::{HashOn, OnUnhealthy, Plan, SocketTcp, Source, Speaks};
use evenkeel_tls::Client;

pub fn dump(plan: &Plan) -> String {
    let mut out = String::new();
    let node = &plan.node;
    let mut line = Line::new("node".into());
    line.number("workers", node.workers as u64, limits::WORKERS.default);
    line.number("connections", node.connections as u64, limits::CONNECTIONS.default);
    line.other("drain", node.drain_timeout, limits::DRAIN_TIMEOUT.default);
    line.always("log", format!("{:?}", node.access_log));
    line.always("cluster", format!("{:?}", node.cluster));
    if let Some(secret) = &node.sticky_secret {
        line.always("sticky_secret", format!("{} bytes", secret.len()));
    }
    if let Some(state) = &node.state {
        line.always("state", format!("{} for {:?}", state.path.display(), state.max_age));
    }
    line.other("hold_on_suspicion", node.hold_on_suspicion, None);
    line.end(&mut out);
    for hook in &node.hooks {
        let _ = writeln!(out, "hook {:?} {:?} timeout={:?}", hook.to, hook.on, hook.timeout);
    }
    if !plan.names.is_empty() {
        let _ = writeln!(out, "{:?}", node.resolver);
    }
    for asked in &plan.names {
        let port = asked.port.map_or_else(String::new, |port| format!(":{port}"));
        let _ = writeln!(out, "name {}{port} {}", asked.name, asked.records.word());
    }
    let listen = plan.admin.as_ref().and_then(|admin| admin.listen);
    let mut line = Line::new(format!("admin {}", listen.map_or("off".into(), |listen| listen.to_string())));
    if let Some(admin) = &plan.admin {
        line.other("socket", admin.socket.as_ref().map(|socket| socket.display().to_string()), None);
        line.other("tokens", &admin.tokens, &Vec::new());
        line.other("tls", admin.tls.is_some(), false);
    }
    line.end(&mut out);
    for listener in &plan.listeners {
        listener::dump(&mut out, plan, listener);
    }
    for (index, pool) in plan.pools.iter().enumerate() {
        let mut line = Line::new(format!("pool {} {}", pool.name, pool.schedule.word()));
        line.other("connect", pool.connect_timeout, limits::CONNECT_TIMEOUT.default);
        line.other("response", pool.response_timeout, limits::RESPONSE_TIMEOUT.default);
        line.other("body", pool.body_timeout, limits::BACKEND_BODY_TIMEOUT.default);
        line.other("idle", pool.idle_timeout, limits::BACKEND_IDLE_TIMEOUT.default);
        line.number("idle_connections", pool.idle_connections as u64, limits::BACKEND_IDLE_CONNECTIONS.default);
        line.number("retries", u64::from(pool.retries), limits::RETRIES.default);
        line.number("retry_budget", u64::from(pool.retry_budget), limits::RETRY_BUDGET.default);
        line.other("panic_below", pool.panic_below, None);
        line.other("slow_start", pool.slow_start, limits::SLOW_START.default);
        line.other("hash_on", pool.hash_on.clone(), HashOn::Address);
        line.other("bounded_load", pool.bounded_load, None);
        line.other("speaks", pool.speaks, Speaks::Http1);
        if let Some(tls) = &pool.tls {
            line.always("tls", tls_name(tls));
        }
        line.other("try_timeout", pool.try_timeout, None);
        line.other("hedge_after", pool.hedge_after, None);
        line.other("backend_limit", pool.backend_limit, None);
        line.number("queue", u64::from(pool.queue), limits::QUEUE.default);
        line.other("queue_timeout", pool.queue_timeout, limits::QUEUE_TIMEOUT.default);
        if let Some(sticky) = &pool.sticky {
            line.always("sticky", format!("{:?}", sticky.mode));
            line.always("cookie", sticky.cookie.to_string());
            line.other("max_age", sticky.max_age, None);
            line.other("drain", sticky.drain_timeout, limits::STICKY_DRAIN_TIMEOUT.default);
        }
        line.other("affinity", pool.affinity, None);
        line.other("source", pool.source.clone(), Source::Kernel);
        line.other("proxy_protocol", pool.proxy_protocol, None);
        line.other("on_unhealthy", pool.on_unhealthy, OnUnhealthy::Keep);
        line.other("tcp", pool.tcp, SocketTcp::default());
        if let Some(passive) = &pool.passive {
            line.always("passive", format!("{passive:?}"));
        }
        line.end(&mut out);
        for named in &pool.checks {
            check::dump(&mut out, named);
        }
        if pool.checks.is_empty() {
            out.push_str("  check off\n");
        }
        for (_, backend) in plan.backends_of(evenkeel_model::PoolId::from_index(index)) {
            let mut line = Line::new(format!("  backend {}", backend.address));
            line.number("weight", u64::from(backend.weight), limits::WEIGHT.default);
            if let Some(id) = &backend.server_id {
                let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
                line.always("server_id", hex.concat());
            }
            for target in &backend.targets {
                line.always("target", target.0.to_string());
            }
            line.end(&mut out);
        }
    }
    for (index, target) in plan.targets.iter().enumerate() {
        let _ = writeln!(out, "target {index}: {} {}", target.check.probe.kind().word(), target.address);
    }
    out
}

fn tls_name(tls: &Client) -> String {
    tls.name.as_ref().map_or("(address)".into(), |name| name.to_str().into_owned())
}

struct Line(String);

impl Line {
    fn new(start: String) -> Self {
        Line(start)
    }

    fn always(&mut self, name: &str, value: String) {
        let _ = write!(self.0, " {name}={value}");
    }

    fn number(&mut self, name: &str, value: u64, default: u64) {
        self.other(name, value, default);
    }

    fn other<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, value: T, default: T) {
        if value != default {
            let _ = write!(self.0, " {name}={value:?}");
        }
    }

    fn end(self, out: &mut String) {
        let _ = writeln!(out, "{}", self.0);
    }
}
