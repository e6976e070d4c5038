//! Listeners and their rules, in the same manner.

use std::fmt::{Debug, Write as _};

use evenkeel_model::limits;
use evenkeel_plan::{Action, HeaderEdits, Listener, NameRule, Plan, Rates, Rule, StreamLimits};

use super::Line;

pub(super) fn dump(out: &mut String, plan: &Plan, listener: &Listener) {
    let addresses: Vec<String> = listener.listen.iter().map(ToString::to_string).collect();
    let pool = listener.pool.map_or("(no pool)", |pool| &*plan.pools[pool.index()].name);
    let protocol = listener.protocol.word();
    let mut line = Line::new(format!("listener {} {protocol} on {} -> {pool}", listener.name, addresses.join(" ")));
    line.number("backlog", u64::from(listener.backlog), limits::LISTENER_BACKLOG.default);
    let usual = Listener::with_defaults("usual", listener.protocol);
    line.other("idle", listener.idle_timeout, usual.idle_timeout);
    line.other("lifetime", listener.lifetime, None);
    line.other("requests", listener.datagrams.requests, None);
    line.other("responses", listener.datagrams.responses, None);
    line.other("refuse", listener.refuse, usual.refuse);
    line.other("tcp", listener.tcp, usual.tcp);
    if !listener.proxies.is_empty() {
        line.always("proxies", format!("{:?}", listener.proxies));
    }
    if !listener.protocol.is_http() {
        line.other("header_timeout", listener.header_timeout, usual.header_timeout);
    }
    if listener.protocol.is_http() {
        http(&mut line, listener);
    }
    if listener.tls.is_some() {
        line.other("handshake", listener.http.handshake_timeout, limits::HANDSHAKE_TIMEOUT.default);
        line.always("tls", "yes".into());
    }
    if listener.access != Default::default() {
        line.always("access", format!("{:?}", listener.access));
    }
    rates(&mut line, &listener.rates);
    line.end(out);
    for one in listener.rules.iter() {
        rule(out, plan, one);
    }
    for one in listener.names.iter() {
        name_rule(out, plan, one);
    }
}

fn http(line: &mut Line, listener: &Listener) {
    let http = &listener.http;
    line.other("keep_alive", http.keep_alive_timeout, limits::KEEP_ALIVE_TIMEOUT.default);
    line.other("header_timeout", listener.header_timeout, limits::HEADER_TIMEOUT.default);
    line.other("body_timeout", http.body_timeout, limits::CLIENT_BODY_TIMEOUT.default);
    line.number("header_limit", http.header_limit as u64, limits::HEADER_LIMIT.default);
    line.number("body_limit", http.body_limit, limits::BODY_LIMIT.default);
    line.other("x_forwarded", http.x_forwarded, true);
    line.other("forwarded", http.forwarded, false);
    for trusted in &http.trusted {
        line.always("trusts", trusted.to_string());
    }
    line.other("http2", http.http2, true);
    let usual = StreamLimits {
        streams: limits::STREAMS.default as u32,
        stream_window: limits::STREAM_WINDOW.default as u32,
        connection_window: limits::STREAMS_WINDOW.default as u32,
    };
    line.other("streams", http.streams, usual);
    line.other("redirect_to_https", http.redirect_to_https, None);
    line.other("hsts", http.hsts, None);
    if let Some(compression) = &http.compression {
        let codings: Vec<&str> = compression.codings.iter().map(|coding| coding.word()).collect();
        line.always("compression", codings.join(","));
        line.number("min_size", compression.min_size, limits::COMPRESSION_MIN_SIZE.default);
        line.number("level", u64::from(compression.level), limits::COMPRESSION_LEVEL.default);
        line.always("types", compression.types.join(","));
    }
}

fn rates(line: &mut Line, rates: &Rates) {
    line.other("connections_per_second", rates.connections, None);
    line.other("client_connections_per_second", rates.client_connections, None);
    line.other("requests_per_second", rates.requests, None);
    line.other("client_requests_per_second", rates.client_requests, None);
    line.other("at_once", rates.concurrency, None);
    line.other("client_at_once", rates.client_concurrency, None);
    line.number("ipv4_prefix", u64::from(rates.ipv4_prefix), limits::IPV4_PREFIX.default);
    line.number("ipv6_prefix", u64::from(rates.ipv6_prefix), limits::IPV6_PREFIX.default);
}

fn rule(out: &mut String, plan: &Plan, rule: &Rule) {
    let action = match &rule.action {
        Action::Pool(pool) => plan.pools[pool.index()].name.to_string(),
        Action::Redirect { status, to } => format!("{status} {to}"),
        Action::Answer { status, content_type, body } => format!("{status} {content_type} {body:?}"),
    };
    let mut line = Line::new(format!("  rule {} -> {action}", rule.name));
    let hosts: Vec<String> = rule.hosts.iter().map(ToString::to_string).collect();
    some(&mut line, "hosts", hosts.join(","));
    line.always("path", rule.path.to_string());
    some(&mut line, "methods", rule.methods.join(","));
    for condition in &rule.headers {
        let _ = write!(line.0, " [{}: {}]", condition.name, condition.value.as_deref().unwrap_or("(any)"));
    }
    some(&mut line, "rewrite", rule.rewrite_path.as_deref().unwrap_or_default().to_owned());
    edits(&mut line, "request", &rule.request_headers);
    edits(&mut line, "response", &rule.response_headers);
    given(&mut line, "response_timeout", rule.response_timeout);
    given(&mut line, "body_timeout", rule.body_timeout);
    given(&mut line, "try_timeout", rule.try_timeout);
    given(&mut line, "retries", rule.retries);
    line.end(out);
}

fn name_rule(out: &mut String, plan: &Plan, rule: &NameRule) {
    let mut line = Line::new(format!("  rule {} -> {}", rule.name, plan.pools[rule.pool.index()].name));
    let hosts: Vec<String> = rule.hosts.iter().map(ToString::to_string).collect();
    some(&mut line, "hosts", hosts.join(","));
    let alpn: Vec<String> = rule.alpn.iter().map(|protocol| protocol.escape_ascii().to_string()).collect();
    some(&mut line, "alpn", alpn.join(","));
    line.end(out);
}

fn some(line: &mut Line, name: &str, text: String) {
    if !text.is_empty() {
        line.always(name, text);
    }
}

fn given<T: Debug>(line: &mut Line, name: &str, value: Option<T>) {
    if let Some(value) = value {
        line.always(name, format!("{value:?}"));
    }
}

fn edits(line: &mut Line, name: &str, edits: &HeaderEdits) {
    for removed in &edits.remove {
        let _ = write!(line.0, " {name}-{removed}");
    }
    for (field, value) in &edits.set {
        let _ = write!(line.0, " {name}={field}: {value:?}");
    }
    for (field, value) in &edits.add {
        let _ = write!(line.0, " {name}+{field}: {value:?}");
    }
}
