//! A checked [`Config`] into the [`Plan`]: names become indices, and what is probed is listed once.
//!
//! It finds no problems and has no way to report one; whatever could be wrong was said before. The
//! questions both sides ask (who uses a pool, how it is probed) are answered here so that a check can never be
//! judged as one kind and probed as another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_health::settings::{CheckSettings, HttpProbe, ProbeSettings, Timing, UdpProbe};
use evenkeel_model::finding::ProbeKind;
use evenkeel_model::{BackendId, PoolId, TargetId, limits};
use evenkeel_plan::{
    Access, Admin, Backend, HashOn, HttpSettings, Listener, Node, Plan, Pool, Protocol, Rates, Rules, Speaks,
    StreamLimits, Target,
};

use crate::config::{self, Check, Config};

/// # Panics
/// When the config has errors: what this needs was then not read.
pub(crate) fn plan(config: &Config) -> Plan {
    let mut plan = Plan {
        node: Node {
            workers: small(config.node.workers),
            connections: small(config.node.connections),
            drain_timeout: config.node.drain_timeout,
            access_log: config.node.access_log.clone(),
            cluster: config.node.cluster.as_deref().map(Arc::from),
            sticky_secret: None,
        },
        admin: config.admin.as_ref().map(|at| Admin { listen: at.value }),
        listeners: config.listeners.iter().map(|listener| Arc::new(lower_listener(config, listener))).collect(),
        pools: Vec::with_capacity(config.pools.len()),
        backends: Vec::new(),
        targets: Vec::new(),
    };
    let mut known = HashMap::new();
    for (position, pool) in config.pools.iter().enumerate() {
        let id = PoolId::from_index(position);
        let settings = pool.check.as_ref().map(|check| Arc::new(check_settings(check, kind_of(config, position))));
        let first_backend = BackendId::from_index(plan.backends.len());
        for backend in &pool.backends {
            let address = backend.address.value;
            let target = settings.as_ref().map(|settings| {
                let port = pool.check.as_ref().and_then(|check| check.port).unwrap_or(address.port());
                let target = Target { address: SocketAddr::new(address.ip(), port), check: Arc::clone(settings) };
                *known.entry(target).or_insert_with_key(|target| {
                    plan.targets.push(target.clone());
                    TargetId::from_index(plan.targets.len() - 1)
                })
            });
            plan.backends.push(Backend { pool: id, address, weight: narrow(backend.weight), target });
        }
        plan.pools.push(Arc::new(Pool {
            name: name_of(pool.name.as_ref()).into(),
            schedule: pool.schedule,
            first_backend,
            backend_count: narrow(pool.backends.len() as u64),
            connect_timeout: pool.connect_timeout,
            response_timeout: pool.response_timeout,
            body_timeout: pool.body_timeout,
            idle_timeout: pool.idle_timeout,
            idle_connections: small(pool.idle_connections),
            retries: narrow(pool.retries),
            retry_budget: narrow(pool.retry_budget),
            slow_start: pool.slow_start,
            speaks: Speaks::Http1,
            tls: None,
            sticky: None,
            hash_on: HashOn::Address,
            bounded_load: None,
            try_timeout: None,
            hedge_after: None,
            backend_limit: None,
            queue: 0,
            queue_timeout: std::time::Duration::from_secs(1),
            check: settings,
        }));
    }
    plan
}

/// How a pool is probed: as it says, else as its listeners speak.
pub(crate) fn kind_of(config: &Config, pool: usize) -> ProbeKind {
    let pool = &config.pools[pool];
    if let Some(kind) = pool.check.as_ref().and_then(|check| check.kind) {
        return kind;
    }
    if used_by_http(config, pool) { ProbeKind::Http } else { ProbeKind::Tcp }
}

pub(crate) fn users<'c>(config: &'c Config, pool: &'c config::Pool) -> impl Iterator<Item = &'c config::Listener> {
    config.listeners.iter().filter(|listener| match (&listener.pool, &pool.name) {
        (Some(used), Some(name)) => used.value == name.value,
        _ => false,
    })
}

pub(crate) fn used_by_http(config: &Config, pool: &config::Pool) -> bool {
    users(config, pool).any(|listener| listener.protocol == Some(Protocol::Http))
}

/// The name a listener has in the plan: its own, or its first address.
pub(crate) fn listener_name(listener: &config::Listener) -> Option<String> {
    match &listener.name {
        Some(name) => Some(name.value.clone()),
        None => listener.listen.first().map(|at| at.value.to_string()),
    }
}

fn lower_listener(config: &Config, listener: &config::Listener) -> Listener {
    let pool = config.pools.iter().position(|pool| match (&listener.pool, &pool.name) {
        (Some(used), Some(name)) => used.value == name.value,
        _ => false,
    });
    Listener {
        name: listener_name(listener).expect("a config without errors has a listen address").into(),
        listen: listener.listen.iter().map(|at| at.value).collect(),
        protocol: listener.protocol.expect("a config without errors has a known protocol"),
        pool: pool.map(PoolId::from_index),
        backlog: narrow(listener.backlog),
        idle_timeout: listener.idle_timeout,
        access: Access::default(),
        rates: Rates {
            connections: None,
            client_connections: None,
            requests: None,
            client_requests: None,
            concurrency: None,
            client_concurrency: None,
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        },
        tls: None,
        rules: Rules::default(),
        http: HttpSettings {
            handshake_timeout: limits::HANDSHAKE_TIMEOUT.default,
            keep_alive_timeout: listener.keep_alive_timeout,
            header_timeout: listener.header_timeout,
            body_timeout: listener.body_timeout,
            header_limit: small(listener.header_limit),
            body_limit: listener.body_limit,
            trusted: listener.trusted.iter().map(|at| at.value).collect(),
            x_forwarded: listener.x_forwarded,
            forwarded: listener.forwarded,
            http2: true,
            streams: StreamLimits {
                streams: narrow(limits::STREAMS.default),
                stream_window: narrow(limits::STREAM_WINDOW.default),
                connection_window: narrow(limits::STREAMS_WINDOW.default),
            },
            redirect_to_https: None,
            hsts: None,
            compression: None,
        },
    }
}

fn check_settings(check: &Check, kind: ProbeKind) -> CheckSettings {
    let probe = match kind {
        ProbeKind::Http => ProbeSettings::Http(HttpProbe {
            method: check.method.clone(),
            path: check.path.clone(),
            host: check.host.clone(),
            expect_status: check.expect_status.clone(),
        }),
        ProbeKind::Tcp => ProbeSettings::Tcp(check.handshake),
        ProbeKind::Udp => ProbeSettings::Udp(UdpProbe {
            send: check.send.clone(),
            expect: check.expect.clone(),
            silence: check.silence,
        }),
    };
    CheckSettings {
        probe,
        timing: Timing {
            timeout: check.timeout,
            interval: check.interval,
            healthy_threshold: narrow(check.healthy_threshold),
            unhealthy_threshold: narrow(check.unhealthy_threshold),
        },
        source: check.source.as_ref().map(|at| at.value),
    }
}

fn name_of(name: Option<&config::At<String>>) -> &str {
    &name.expect("a config without errors names every pool").value
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("its range in the limits fits every machine we build for")
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("its range in the limits fits 32 bits")
}
