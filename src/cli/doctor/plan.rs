//! What the config says of the request: listener, rule, pool, and the head that a backend would get.
//!
//! The rules are asked by the code that serves, and the head is written by it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use evenkeel::files::DiskFiles;
use evenkeel::route;
use evenkeel_config::{Format, Source as Text, compile_with};
use evenkeel_control::Control;
use evenkeel_diagnose::doctor::facts::{self, Facts, Scheme};
use evenkeel_diagnose::route::{Outcome, RulePlace};
use evenkeel_health::settings::ProbeSettings;
use evenkeel_model::Instant;
use evenkeel_plan::Resolved;
use evenkeel_plan::{Action, Listener, Plan, Pool, Protocol, Rate, Rule, Source, Speaks};
use evenkeel_wire::{
    FieldSlots, Forwarding, HeaderEdits, Parsed, RequestEdits, parse_request, rewrite_path, write_request_edited,
};
use serde_json::Value;

use super::{Arguments, Url, node, straight};

/// # Errors
/// Says why there is no plan.
pub fn read(file: &Path) -> Result<Plan, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("the config {name} cannot be read: {error}"))?;
    let source = Text { name: &name, text: &text, format: Format::of_path(&name) };
    let compiled = compile_with(&source, &mut DiskFiles::beside(file));
    match compiled.recipe {
        Some(recipe) => Ok(recipe.plan(&Resolved::new())),
        None => Err(format!("the config {name} has errors; `evenkeel check {name}` shows them")),
    }
}

pub fn look(
    plan: &Plan,
    url: &Url,
    to: Option<SocketAddr>,
    head: &[u8],
    arguments: &Arguments,
    status: Option<&Value>,
    facts: &mut Facts,
) {
    let Some(listener) = listener(plan, url, to) else {
        facts.no_config = Some(format!("the config has no listener for {} port {}", url.scheme.word(), url.port));
        return;
    };
    facts.listener = Some(told(listener));
    let (pool, rule) = match destination(plan, listener, url, arguments, facts) {
        Some(found) => found,
        None => return,
    };
    facts.pool = Some(pool_told(plan, listener, pool, rule, status));
    let standings = status.and_then(|status| node::pool(status, &pool.name)).map(node::backends).unwrap_or_default();
    let request = backend_head(listener, rule, head, to);
    straight::look(plan, listener, pool, &standings, &request, arguments, facts);
}

/// The listener that a client with this URL reaches.
fn listener<'p>(plan: &'p Plan, url: &Url, to: Option<SocketAddr>) -> Option<&'p Listener> {
    let address = to.map(|to| to.ip().to_canonical());
    let fits = |listener: &&&'p Arc<Listener>| match url.scheme {
        Scheme::Udp => listener.protocol == Protocol::Udp,
        Scheme::Tcp => listener.protocol.is_stream(),
        Scheme::Http => matches!(listener.protocol, Protocol::Http | Protocol::Tcp),
        Scheme::Https => matches!(listener.protocol, Protocol::Https | Protocol::TlsPassthrough | Protocol::Tcp),
    };
    let at = |listener: &Listener, taken: &dyn Fn(IpAddr) -> bool| {
        listener.listen.iter().any(|at| at.port() == url.port && taken(at.ip().to_canonical()))
    };
    let candidates: Vec<_> = plan.listeners.iter().collect();
    let of = |taken: &dyn Fn(IpAddr) -> bool| candidates.iter().filter(fits).find(|listener| at(listener, taken));
    let exact = address.and_then(|address| of(&|at| at == address));
    let found = exact.or_else(|| of(&|at| at.is_unspecified()));
    // Behind translated addresses only the port tells, if even that.
    let found = found.or_else(|| {
        let mut on_port = candidates.iter().filter(fits).filter(|listener| at(listener, &|_| true));
        on_port.next().filter(|_| on_port.next().is_none())
    });
    let found = found.or_else(|| {
        let mut all = candidates.iter().filter(fits);
        all.next().filter(|_| all.next().is_none())
    });
    found.map(|listener| &***listener)
}

fn told(listener: &Listener) -> facts::Listener {
    let rates = &listener.rates;
    let rate = |what: &str, rate: Option<Rate>| {
        rate.map(|rate| format!("{what}: {} a second, {} at once", rate.per_second, rate.burst))
    };
    let most = |what: &str, most: Option<u32>| most.map(|most| format!("{what}: {most} at once"));
    let limits = [
        rate("connections", rates.connections),
        rate("connections of one client", rates.client_connections),
        rate("requests", rates.requests),
        rate("requests of one client", rates.client_requests),
        most("connections", rates.concurrency),
        most("connections of one client", rates.client_concurrency),
    ];
    facts::Listener {
        name: listener.name.to_string(),
        protocol: listener.protocol.word().to_owned(),
        listen: listener.listen.iter().map(ToString::to_string).collect(),
        header_limit: listener.http.header_limit,
        has_access_list: !listener.access.allow.is_empty() || !listener.access.deny.is_empty(),
        silent_refusal: listener.refuse == evenkeel_plan::Refuse::Silence,
        limits: limits.into_iter().flatten().collect(),
        expects_proxy: !listener.proxies.is_empty(),
    }
}

/// The pool that the rules lead to, and the rule that did.
fn destination<'p>(
    plan: &'p Plan,
    listener: &'p Listener,
    url: &Url,
    arguments: &Arguments,
    facts: &mut Facts,
) -> Option<(&'p Pool, Option<&'p Rule>)> {
    let own = || listener.pool.map(|pool| &*plan.pools[pool.index()]);
    if matches!(listener.protocol, Protocol::Tcp | Protocol::Udp) {
        return own().map(|pool| (pool, None));
    }
    let (method, url) = match listener.protocol {
        Protocol::TlsPassthrough => (None, format!("tls://{}:{}", url.host, url.port)),
        _ => (Some(arguments.method.clone()), format!("{}://{}{}", listener.protocol.word(), url.authority, url.path)),
    };
    let fields = arguments.headers.iter().filter_map(|field| field.split_once(':'));
    let question = route::Question {
        method,
        url,
        headers: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        alpn: vec!["http/1.1".to_owned()],
        client: None,
        listener: Some(listener.name.to_string()),
    };
    let snapshot = Control::new(Arc::new(plan.clone()), Instant::START, 0).snapshot();
    let report = route::ask(&snapshot, &question);
    let found = report.as_ref().ok().and_then(|report| match &report.outcome {
        Outcome::Pool(sent) => {
            let pool = plan.pools.iter().find(|pool| *pool.name == *sent.pool)?;
            let taken = report.rules.iter().find(|rule| rule.place == RulePlace::Taken);
            let named = |rule: &&Rule| {
                taken.is_some_and(|taken| *rule.name == *taken.name) && matches!(rule.action, Action::Pool(_))
            };
            Some((&**pool, listener.rules.iter().find(named)))
        }
        Outcome::Refused(_) | Outcome::Redirect { .. } | Outcome::Answer { .. } => None,
    });
    // A pool without a backend to offer is refused by the rules too; its backends are what is of interest then.
    let found = found.or_else(|| {
        let only = listener.pools();
        match (&report, &only[..]) {
            (Ok(report), [only]) if report.cause().is_some_and(is_about_pool) => {
                Some((&*plan.pools[only.index()], None))
            }
            _ => None,
        }
    });
    facts.route = Some(report);
    found
}

const fn is_about_pool(cause: evenkeel_model::Cause) -> bool {
    use evenkeel_model::Cause;
    matches!(cause, Cause::NoBackendConfigured | Cause::AllBackendsDrained | Cause::AllBackendsUnhealthy)
}

fn pool_told(
    plan: &Plan,
    listener: &Listener,
    pool: &Pool,
    rule: Option<&Rule>,
    status: Option<&Value>,
) -> facts::Pool {
    let told = status.and_then(|status| node::pool(status, &pool.name));
    facts::Pool {
        name: pool.name.to_string(),
        backends: told.and_then(|told| told["backends"].as_array()).map_or(pool.backend_count as usize, Vec::len),
        refusal: told.and_then(|told| told["refusal"].as_str()).map(str::to_owned),
        panic: told.is_some_and(|told| told["panic"] == true),
        connect_timeout: pool.connect_timeout,
        response_timeout: rule.and_then(|rule| rule.response_timeout).unwrap_or(pool.response_timeout),
        body_timeout: rule.and_then(|rule| rule.body_timeout).unwrap_or(pool.body_timeout),
        idle_timeout: pool.idle_timeout,
        retries: rule.and_then(|rule| rule.retries).unwrap_or(pool.retries),
        backend_limit: pool.backend_limit,
        header_limit: header_limit(listener),
        tls: pool.tls.is_some(),
        tls_verify: pool.tls.is_some(),
        http2: pool.speaks == Speaks::Http2 && listener.protocol.is_http(),
        sends_proxy: pool.proxy_protocol.is_some(),
        transparent: pool.source == Source::Client,
        sources: match &pool.source {
            Source::Own(own) => own.to_vec(),
            Source::Kernel | Source::Client => Vec::new(),
        },
        checks: (0..pool.checks.len()).map(|number| check(plan, pool, number)).collect(),
        passive: pool.passive.is_some(),
    }
}

/// What the listener takes of an answer's head; other listeners read none.
pub fn header_limit(listener: &Listener) -> usize {
    if listener.protocol.is_http() { listener.http.header_limit } else { super::usual_header_limit() }
}

fn check(plan: &Plan, pool: &Pool, number: usize) -> facts::Check {
    let named = &pool.checks[number];
    let settings = &named.settings;
    // The port of a check is known of its targets only.
    let first = plan.backends.get(pool.first_backend.index()).filter(|_| pool.backend_count > 0);
    let port = first.and_then(|backend| {
        let target = plan.targets.get(backend.targets.get(number)?.index())?;
        (target.address.port() != backend.address.port()).then_some(target.address.port())
    });
    let (request, host) = match &settings.probe {
        ProbeSettings::Http(http) => (Some((http.method.clone(), http.path.clone())), http.host.clone()),
        _ => (None, None),
    };
    facts::Check {
        name: named.name.to_string(),
        kind: settings.probe.kind().word().to_owned(),
        request,
        host,
        port,
        sources: settings.sources.to_vec(),
        timeout: settings.timing.timeout,
    }
}

/// The head as the balancer would write it for a backend. Listeners that read none pass it on as it is.
fn backend_head(listener: &Listener, rule: Option<&Rule>, head: &[u8], to: Option<SocketAddr>) -> Vec<u8> {
    if !listener.protocol.is_http() {
        return head.to_vec();
    }
    let mut slots = FieldSlots::new();
    let Parsed::Whole(request) = parse_request(head, &mut slots, head.len().max(listener.http.header_limit)) else {
        return head.to_vec();
    };
    let local = to.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let forwarding = Forwarding {
        client: local.ip(),
        client_port: 0,
        local,
        scheme: listener.protocol.word(),
        trusted_peer: false,
        trusted: &listener.http.trusted,
        x_forwarded: listener.http.x_forwarded,
        forwarded: listener.http.forwarded,
        loop_id: b"evenkeel-doctor",
        default_host: b"",
    };
    let mut path = Vec::new();
    if let Some((rule, replacement)) = rule.and_then(|rule| Some((rule, rule.rewrite_path.as_ref()?))) {
        rewrite_path(request.path, rule.path.as_bytes(), replacement.as_bytes(), &mut path);
    }
    let edits = RequestEdits {
        path: (!path.is_empty()).then_some(&path[..]),
        headers: rule.map_or(HeaderEdits::NONE, |rule| {
            let edits = &rule.request_headers;
            HeaderEdits { remove: &edits.remove, set: &edits.set, add: &edits.add }
        }),
        close: true,
        ..RequestEdits::NONE
    };
    let mut out = Vec::new();
    write_request_edited(&request, &forwarding, &edits, &mut out);
    out
}
