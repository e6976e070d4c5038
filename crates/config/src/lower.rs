//! A checked [`Config`] into the [`Plan`]: names become indices, and what is probed is listed once.
//!
//! It finds no problems and has no way to report one; whatever could be wrong was said before. The
//! questions both sides ask (who uses a pool, how it is probed) are answered here so that a check can never be
//! judged as one kind and probed as another.

pub(crate) mod checks;
mod named;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use evenkeel_model::{BackendId, CidrSet, PoolId, TargetId};
use evenkeel_plan::{
    Access, Action, Admin, Affinity, Backend, Compression, Datagrams, HeaderCondition, HeaderEdits, Hook, Hsts,
    HttpSettings, Listener, NameRule, Names, Node, Plan, Pool, Protocol, ProxyProtocol, Rate, Rates, Resolved,
    Resolver, Rule, Rules, Source, StateFile, Sticky, StreamLimits, Target, Traces,
};
use evenkeel_tls::Server;

use crate::config::{self, At, Config, StickyBy, Tlv};
use crate::material::Material;
use crate::relations::rule_name;

/// # Panics
/// When the config has errors: what this needs was then not read.
pub(crate) fn plan(config: &Config, material: &Material, resolved: &Resolved) -> Plan {
    let mut plan = Plan {
        node: Node {
            workers: small(config.node.workers),
            connections: small(config.node.connections),
            drain_timeout: config.node.drain_timeout,
            shutdown_delay: config.node.shutdown_delay,
            watch: config.node.watch,
            access_log: config.node.access_log.clone(),
            cluster: config.node.cluster.as_deref().map(Arc::from),
            sticky_secret: material.sticky_secret.clone(),
            hold_on_suspicion: config.node.hold_on_suspicion,
            state: config
                .node
                .state_file
                .as_ref()
                .map(|file| StateFile { path: file.value.as_str().into(), max_age: config.node.state_max_age }),
            hooks: config.node.hooks.iter().map(hook).collect(),
            resolver: resolver(&config.node.resolver),
            slow_request: config.node.slow_request,
            kept_requests: small(config.node.kept_requests),
            traces: config.node.traces.as_ref().and_then(traces),
        },
        admin: admin(config, material),
        listeners: config
            .listeners
            .iter()
            .zip(&material.servers)
            .zip(&material.access)
            .map(|((listener, tls), access)| Arc::new(lower_listener(config, listener, tls.clone(), access.clone())))
            .collect(),
        pools: Vec::with_capacity(config.pools.len()),
        backends: Vec::new(),
        targets: Vec::new(),
        names: named::asked(config),
    };
    let mut known = HashMap::new();
    for (position, pool) in config.pools.iter().enumerate() {
        let id = PoolId::from_index(position);
        let checks: Vec<evenkeel_plan::Check> = pool
            .checks
            .iter()
            .zip(&material.probing[position])
            .map(|(check, probing)| evenkeel_plan::Check {
                name: checks::name_of(config, pool, check).into(),
                settings: Arc::new(checks::settings(config, pool, check, probing)),
            })
            .collect();
        let first_backend = BackendId::from_index(plan.backends.len());
        let backends = named::backends(pool, resolved);
        for (address, weight, server_id) in &backends {
            let (address, weight) = (*address, *weight);
            let targets = checks.iter().zip(&pool.checks).map(|(check, written)| {
                let port = written.port.unwrap_or(address.port());
                let check = Arc::clone(&check.settings);
                let target = Target { address: SocketAddr::new(address.ip(), port), check };
                *known.entry(target).or_insert_with_key(|target| {
                    plan.targets.push(target.clone());
                    TargetId::from_index(plan.targets.len() - 1)
                })
            });
            let targets = targets.collect();
            let server_id = server_id.map(Box::from);
            plan.backends.push(Backend { targets, server_id, ..Backend::new(id, address, weight) });
        }
        plan.pools.push(Arc::new(Pool {
            name: name_of(pool.name.as_ref()).into(),
            schedule: pool.schedule,
            first_backend,
            backend_count: narrow(backends.len() as u64),
            connect_timeout: pool.connect_timeout,
            response_timeout: pool.response_timeout,
            body_timeout: pool.body_timeout,
            idle_timeout: pool.idle_timeout,
            idle_connections: small(pool.idle_connections),
            retries: narrow(pool.retries),
            retry_budget: narrow(pool.retry_budget),
            slow_start: pool.slow_start,
            speaks: pool.speaks,
            tls: material.clients[position].clone(),
            sticky: pool.sticky.as_ref().and_then(sticky),
            affinity: pool.sticky.as_ref().and_then(affinity),
            hash_on: pool.hash_on.clone(),
            bounded_load: pool.bounded_load.map(narrow),
            try_timeout: pool.try_timeout.as_ref().map(|at| at.value),
            hedge_after: pool.hedge_after.as_ref().map(|at| at.value),
            backend_limit: pool.backend_limit.map(narrow),
            queue: narrow(pool.queue),
            queue_timeout: pool.queue_timeout,
            source: source(pool, &material.sources[position]),
            proxy_protocol: pool.proxy_protocol.as_ref().map(proxy_protocol),
            on_unhealthy: pool.on_unhealthy,
            tcp: pool.tcp,
            panic_below: pool.panic_below.as_ref().map(|at| narrow(at.value)),
            passive: pool.passive.as_ref().map(|passive| Arc::new(passive.settings.clone())),
            checks,
        }));
    }
    plan
}

/// The listeners whose traffic can reach a pool.
pub(crate) fn users<'c>(config: &'c Config, pool: &'c config::Pool) -> impl Iterator<Item = &'c config::Listener> {
    config.listeners.iter().filter(|listener| match &pool.name {
        Some(name) => pools_of(listener).any(|used| used.value == name.value),
        None => false,
    })
}

/// Every pool a listener names, by its default or its rules.
pub(crate) fn pools_of(listener: &config::Listener) -> impl Iterator<Item = &At<String>> {
    let ruled = listener.rules.iter().filter_map(|rule| match &rule.action {
        Some(config::Action::Pool(used)) => Some(used),
        Some(config::Action::Redirect { .. } | config::Action::Answer { .. }) | None => None,
    });
    listener.pool.iter().chain(ruled)
}

pub(crate) fn used_by_http(config: &Config, pool: &config::Pool) -> bool {
    users(config, pool).any(|listener| listener.protocol.is_some_and(Protocol::is_http))
}

pub(crate) fn used_by(config: &Config, pool: &config::Pool, protocol: Protocol) -> bool {
    users(config, pool).any(|listener| listener.protocol == Some(protocol))
}

/// Whether a listener uses the pool whose clients open TCP connections.
pub(crate) fn used_by_streams(config: &Config, pool: &config::Pool) -> bool {
    users(config, pool).any(|listener| listener.protocol.is_some_and(Protocol::is_stream))
}

/// The name a listener has in the plan: its own, or its first address. A udp listener's tells it from one for tcp that
/// may stand at the same address.
pub(crate) fn listener_name(listener: &config::Listener) -> Option<String> {
    let first = || listener.listen.first().map(|at| at.value);
    match (&listener.name, listener.protocol) {
        (Some(name), _) => Some(name.value.clone()),
        (None, Some(Protocol::Udp)) => first().map(|address| format!("{address}/udp")),
        (None, _) => first().map(|address| address.to_string()),
    }
}

fn lower_listener(config: &Config, listener: &config::Listener, tls: Option<Arc<Server>>, access: Access) -> Listener {
    let protocol = listener.protocol.expect("a config without errors has a known protocol");
    let passthrough = protocol == Protocol::TlsPassthrough;
    let (ruled, named) = if passthrough { (&[][..], &listener.rules[..]) } else { (&listener.rules[..], &[][..]) };
    let limit = &listener.limit;
    Listener {
        name: listener_name(listener).expect("a config without errors has a listen address").into(),
        listen: listener.listen.iter().map(|at| at.value).collect(),
        protocol,
        pool: listener.pool.as_ref().map(|used| pool_called(config, &used.value)),
        backlog: narrow(listener.backlog),
        idle_timeout: listener.idle_timeout,
        lifetime: listener.lifetime,
        header_timeout: listener.header_timeout,
        refuse: listener.refuse,
        proxies: CidrSet::new(listener.proxies.iter().flatten().map(|at| at.value)),
        tcp: listener.tcp,
        datagrams: Datagrams {
            requests: listener.requests.as_ref().map(|at| narrow(at.value)),
            responses: listener.responses.as_ref().map(|at| narrow(at.value)),
        },
        names: Names::new(named.iter().map(|rule| lower_name_rule(config, rule)).collect()),
        access,
        rates: Rates {
            connections: limit.connections_per_second.map(rate),
            client_connections: limit.client_connections_per_second.map(rate),
            requests: limit.requests_per_second.map(rate),
            client_requests: limit.client_requests_per_second.map(rate),
            concurrency: limit.connections.as_ref().map(|at| narrow(at.value)),
            client_concurrency: limit.client_connections.as_ref().map(|at| narrow(at.value)),
            ipv4_prefix: limit.ipv4_prefix as u8,
            ipv6_prefix: limit.ipv6_prefix as u8,
        },
        tls,
        rules: Rules::new(ruled.iter().map(|rule| lower_rule(config, rule)).collect()),
        http: http_settings(listener),
    }
}

fn hook(hook: &config::Hook) -> Hook {
    let to = hook.to.clone().expect("a config without errors says whom a hook tells");
    Hook { to, on: hook.on, timeout: hook.timeout }
}

/// `None` when nobody can come in.
fn admin(config: &Config, material: &Material) -> Option<Admin> {
    let listen = config.admin.listen.as_ref().map(|at| at.value);
    let socket = config.admin.socket.as_ref().map(|at| at.value.as_str().into());
    if listen.is_none() && socket.is_none() {
        return None;
    }
    Some(Admin { listen, socket, tokens: material.admin.tokens.clone(), tls: material.admin.tls.clone() })
}

fn resolver(resolver: &config::Resolver) -> Resolver {
    Resolver {
        servers: resolver.servers.clone(),
        timeout: resolver.timeout,
        min_ttl: resolver.min_ttl,
        max_ttl: resolver.max_ttl,
    }
}

fn traces(traces: &config::Traces) -> Option<Traces> {
    Some(Traces {
        url: traces.url.as_deref()?.into(),
        per_million: traces.per_million,
        service: traces.service.as_str().into(),
        timeout: traces.timeout,
        trust_traceparent: traces.trust_traceparent,
    })
}

fn http_settings(listener: &config::Listener) -> HttpSettings {
    HttpSettings {
        handshake_timeout: listener.tls.handshake_timeout,
        keep_alive_timeout: listener.keep_alive_timeout,
        body_timeout: listener.body_timeout,
        header_limit: small(listener.header_limit),
        body_limit: listener.body_limit,
        trusted: listener.trusted.iter().map(|at| at.value).collect(),
        x_forwarded: listener.x_forwarded,
        forwarded: listener.forwarded,
        http2: listener.http2.enabled,
        streams: StreamLimits {
            streams: narrow(listener.http2.streams),
            stream_window: narrow(listener.http2.stream_window),
            connection_window: narrow(listener.http2.connection_window),
        },
        redirect_to_https: listener.redirect_to_https.as_ref().map(|at| at.value),
        hsts: listener.hsts.as_ref().map(|hsts| Hsts::new(hsts.max_age, hsts.subdomains, hsts.preload.is_some())),
        compression: listener.compression.as_ref().map(|compression| Compression {
            codings: compression.codings.clone(),
            min_size: compression.min_size,
            types: compression.types.iter().map(|kind| kind.as_str().into()).collect(),
            level: narrow(compression.level),
        }),
    }
}

fn rate(rate: config::Rate) -> Rate {
    Rate { per_second: narrow(rate.rate), burst: narrow(rate.burst) }
}

fn lower_rule(config: &Config, rule: &config::Rule) -> Rule {
    Rule {
        name: rule_name(rule).into(),
        hosts: rule.hosts.iter().map(|at| at.value.clone()).collect(),
        path: rule.path.as_str().into(),
        methods: rule.methods.iter().map(|method| method.as_str().into()).collect(),
        headers: rule
            .headers
            .iter()
            .map(|condition| HeaderCondition {
                name: condition.name.as_str().into(),
                value: condition.value.as_deref().map(Box::from),
            })
            .collect(),
        action: match rule.action.as_ref().expect("a rule without errors has an action") {
            config::Action::Pool(used) => Action::Pool(pool_called(config, &used.value)),
            config::Action::Redirect { to, status } => {
                Action::Redirect { status: *status, to: to.value.as_str().into() }
            }
            config::Action::Answer { status, body, content_type } => Action::Answer {
                status: *status,
                content_type: content_type.as_str().into(),
                body: body.as_str().into(),
            },
        },
        rewrite_path: rule.rewrite_path.as_ref().map(|at| at.value.as_str().into()),
        request_headers: edits(&rule.request_headers),
        response_headers: edits(&rule.response_headers),
        response_timeout: rule.response_timeout.as_ref().map(|at| at.value),
        body_timeout: rule.body_timeout.as_ref().map(|at| at.value),
        try_timeout: rule.try_timeout.as_ref().map(|at| at.value),
        retries: rule.retries.as_ref().map(|at| narrow(at.value)),
    }
}

fn lower_name_rule(config: &Config, rule: &config::Rule) -> NameRule {
    let Some(config::Action::Pool(used)) = &rule.action else {
        unreachable!("rules of a tls-passthrough listener lead to a pool, or the config has errors");
    };
    NameRule {
        name: rule_name(rule).into(),
        hosts: rule.hosts.iter().map(|at| at.value.clone()).collect(),
        alpn: rule.alpn.iter().map(|protocol| protocol.as_bytes().into()).collect(),
        pool: pool_called(config, &used.value),
    }
}

fn edits(edits: &config::HeaderEdits) -> HeaderEdits {
    let fields = |fields: &[(At<String>, String)]| -> Vec<(Box<str>, Box<str>)> {
        fields.iter().map(|(name, value)| (name.value.as_str().into(), value.as_str().into())).collect()
    };
    HeaderEdits {
        remove: edits.remove.iter().map(|at| at.value.as_str().into()).collect(),
        set: fields(&edits.set),
        add: fields(&edits.add),
    }
}

fn sticky(sticky: &config::Sticky) -> Option<Sticky> {
    let StickyBy::Cookie { mode, cookie, max_age } = &sticky.by else { return None };
    Some(Sticky {
        mode: *mode,
        cookie: cookie.as_deref().expect("a config without errors names the cookie").into(),
        max_age: max_age.as_ref().map(|at| at.value),
        drain_timeout: sticky.drain_timeout,
    })
}

/// With a timeout of 0 nobody is kept.
fn affinity(sticky: &config::Sticky) -> Option<Affinity> {
    let StickyBy::Address { timeout, ipv4_prefix, ipv6_prefix } = sticky.by else { return None };
    let (ipv4_prefix, ipv6_prefix) = (ipv4_prefix as u8, ipv6_prefix as u8);
    let kept = Affinity { timeout, ipv4_prefix, ipv6_prefix, drain_timeout: sticky.drain_timeout };
    (!timeout.is_zero()).then_some(kept)
}

fn source(pool: &config::Pool, own: &Arc<[IpAddr]>) -> Source {
    match (&pool.transparent, own.is_empty()) {
        (Some(_), _) => Source::Client,
        (None, true) => Source::Kernel,
        (None, false) => Source::Own(Arc::clone(own)),
    }
}

fn proxy_protocol(to: &config::ProxyTo) -> ProxyProtocol {
    let tells = |tlv: Tlv| to.tlvs.iter().any(|told| told.value == tlv);
    ProxyProtocol {
        version: to.version.expect("a config without errors has a known version"),
        authority: tells(Tlv::Authority),
        alpn: tells(Tlv::Alpn),
        unique_id: tells(Tlv::UniqueId),
        datagrams: to.datagrams,
    }
}

fn pool_called(config: &Config, name: &str) -> PoolId {
    let called = |pool: &config::Pool| pool.name.as_ref().is_some_and(|known| known.value == name);
    let position = config.pools.iter().position(called);
    PoolId::from_index(position.expect("in a config without errors every pool that is named exists"))
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
