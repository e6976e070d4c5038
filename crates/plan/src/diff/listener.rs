//! Of listeners, their rules and their certificates.
//!
//! A rule is known by its listener and its name, so that one put before others changes none of them.

use evenkeel_model::PoolId;

use super::say::{Say, Sentences, Word, compare};
use super::{Part, PlanDiff};
use crate::names::NameRule;
use crate::plan::{
    Access, Compression, Datagrams, HttpSettings, Listener, ListenerTcp, Plan, Rate, Rates, Refuse, SocketTcp,
    StreamLimits,
};
use crate::rules::{Action, HeaderCondition, HeaderEdits, HostPattern, Rule};

/// Something of a plan, whose pools have names.
struct Of<'a, T> {
    plan: &'a Plan,
    it: &'a T,
}

impl<T> Of<'_, T> {
    fn pool(&self, id: PoolId) -> &str {
        &self.plan.pools[id.index()].name
    }
}

pub(super) fn compare(old: &Plan, new: &Plan, diff: &mut PlanDiff) {
    diff.listeners.pair(&listeners(old), &listeners(new), |old, new, to| {
        listener(old, new, to);
    });
    diff.rules.pair(&rules(old), &rules(new), |old, new, to| {
        rule(old, new, to);
    });
    diff.rules.pair(&names(old), &names(new), |old, new, to| {
        name_rule(old, new, to);
    });
    certificates(old, new, &mut diff.certificates);
}

fn listeners(plan: &Plan) -> Vec<(String, Of<'_, Listener>)> {
    plan.listeners.iter().map(|it| (it.name.to_string(), Of { plan, it: &**it })).collect()
}

/// By listener and name; of the same name, by their number among them.
fn numbered<'a, T>(plan: &'a Plan, all: impl Iterator<Item = (&'a str, &'a str, &'a T)>) -> Vec<(String, Of<'a, T>)> {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let named = all.map(|(listener, name, it)| {
        let full = format!("{listener}: {name}");
        let count = seen.entry(full.clone()).or_default();
        *count += 1;
        (if *count == 1 { full } else { format!("{full} ({count})") }, Of { plan, it })
    });
    named.collect()
}

fn rules(plan: &Plan) -> Vec<(String, Of<'_, Rule>)> {
    let all = plan.listeners.iter().flat_map(|one| one.rules.iter().map(|rule| (&*one.name, &*rule.name, rule)));
    numbered(plan, all)
}

fn names(plan: &Plan) -> Vec<(String, Of<'_, NameRule>)> {
    let all = plan.listeners.iter().flat_map(|one| one.names.iter().map(|rule| (&*one.name, &*rule.name, rule)));
    numbered(plan, all)
}

fn listener(old: &Of<'_, Listener>, new: &Of<'_, Listener>, to: &mut Sentences) {
    let pool = |of: &Of<'_, Listener>| of.it.pool.map(|pool| of.pool(pool).to_owned());
    let order = |of: &Of<'_, Listener>| {
        let ruled = of.it.rules.iter().map(|rule| rule.name.to_string());
        ruled.chain(of.it.names.iter().map(|rule| rule.name.to_string())).collect::<Vec<_>>()
    };
    let protocol = |of: &Of<'_, Listener>| Word::of(of.it.protocol.word());
    to.compare("listen", &old.it.listen, &new.it.listen);
    to.compare("protocol", &protocol(old), &protocol(new));
    to.compare("pool", &pool(old), &pool(new));
    compare!(to, old.it, new.it, Listener {
        backlog, idle_timeout, lifetime, header_timeout, refuse;
        name, listen, protocol, pool, access, rates, proxies, tcp, datagrams, names, tls, http, rules
    });
    // Whose rules are the same in another order: it decides between those that ask for the same.
    let (before, after) = (order(old), order(new));
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    if before != after && sorted(before) == sorted(after) {
        to.push("its rules stand in another order".to_owned());
    }
    compare!(to, &old.it.access, &new.it.access, Access { ; allow, deny });
    to.compare_unseen("access.allow", &old.it.access.allow, &new.it.access.allow);
    to.compare_unseen("access.deny", &old.it.access.deny, &new.it.access.deny);
    to.compare_unseen("proxy_protocol.from", &old.it.proxies, &new.it.proxies);
    compare!(to, &old.it.rates, &new.it.rates, Rates {
        connections as "rate: connections", client_connections as "rate: connections of a client",
        requests as "rate: requests", client_requests as "rate: requests of a client",
        concurrency as "connections at once", client_concurrency as "connections of a client at once",
        ipv4_prefix, ipv6_prefix;
    });
    compare!(to, &old.it.tcp, &new.it.tcp, ListenerTcp { fast_open as "tcp.fast_open", defer_accept as "tcp.defer_accept"; socket });
    socket(&old.it.tcp.socket, &new.it.tcp.socket, to);
    compare!(to, &old.it.datagrams, &new.it.datagrams, Datagrams { requests, responses; });
    http(&old.it.http, &new.it.http, to);
    tls(old.it, new.it, to);
}

pub(super) fn socket(old: &SocketTcp, new: &SocketTcp, to: &mut Sentences) {
    compare!(to, old, new, SocketTcp { keepalive as "tcp.keepalive", user_timeout as "tcp.user_timeout"; });
}

fn http(old: &HttpSettings, new: &HttpSettings, to: &mut Sentences) {
    compare!(to, old, new, HttpSettings {
        handshake_timeout, keep_alive_timeout, body_timeout, header_limit, body_limit, trusted as "trusted proxies",
        x_forwarded, forwarded, http2, redirect_to_https;
        streams, hsts, compression
    });
    compare!(to, &old.streams, &new.streams, StreamLimits {
        streams as "http2.streams", stream_window as "http2.stream_window",
        connection_window as "http2.connection_window";
    });
    let hsts = |http: &HttpSettings| http.hsts.map(|hsts| String::from_utf8_lossy(hsts.as_bytes()).into_owned());
    to.compare("hsts", &hsts(old), &hsts(new));
    match (&old.compression, &new.compression) {
        (None, None) => {}
        (None, Some(_)) => to.push("answers are compressed from now on".to_owned()),
        (Some(_), None) => to.push("answers are compressed no longer".to_owned()),
        (Some(old), Some(new)) => {
            let codings = |of: &Compression| of.codings.iter().map(|one| Word::of(one.word())).collect::<Vec<_>>();
            to.compare("compression.codings", &codings(old), &codings(new));
            compare!(to, old, new, Compression {
                min_size as "compression.min_size", types as "compression.types", level as "compression.level";
                codings
            });
        }
    }
}

/// Certificates have a place of their own. What else there is to the TLS of a listener is not kept in words.
fn tls(old: &Listener, new: &Listener, to: &mut Sentences) {
    match (&old.tls, &new.tls) {
        (Some(old), Some(new)) if old != new && old.certificates() == new.certificates() => {
            to.push("tls: policy, client certificates, tickets or OCSP answers are others".to_owned());
        }
        // With the protocol, that is told there.
        _ => {}
    }
}

fn certificates(old: &Plan, new: &Plan, part: &mut Part) {
    let shown = |plan: &Plan| {
        let of = |listener: &Listener| {
            let held = listener.tls.as_ref().map(|tls| tls.certificates()).unwrap_or_default();
            let named = |held: &evenkeel_tls::Held| {
                format!("{}: {} (sha256 {})", listener.name, held.names.join(" "), &held.fingerprint[..16])
            };
            held.iter().map(named).collect::<Vec<_>>()
        };
        plan.listeners.iter().flat_map(|listener| of(listener)).collect::<Vec<String>>()
    };
    let (before, after) = (shown(old), shown(new));
    part.removed.extend(before.iter().filter(|one| !after.contains(one)).cloned());
    part.added.extend(after.iter().filter(|one| !before.contains(one)).cloned());
}

fn rule(old: &Of<'_, Rule>, new: &Of<'_, Rule>, to: &mut Sentences) {
    compare!(to, old.it, new.it, Rule {
        hosts as "host", path, methods as "method", headers as "header", rewrite_path, response_timeout, body_timeout,
        try_timeout, retries;
        name, action, request_headers, response_headers
    });
    let action = |of: &Of<'_, Rule>| match &of.it.action {
        Action::Pool(pool) => Word(format!("pool {}", of.pool(*pool).say())),
        Action::Redirect { status, to } => Word(format!("redirect {status} to {}", to.say())),
        Action::Answer { status, content_type, body } => {
            Word(format!("answer {status} ({content_type}, {} bytes)", body.len()))
        }
    };
    let (before, after) = (action(old), action(new));
    let told = before != after;
    to.compare("what becomes of it:", &before, &after);
    if let (Action::Answer { body: before, .. }, Action::Answer { body: after, .. }) = (&old.it.action, &new.it.action)
        && !told
    {
        to.compare_unseen("the body of its answer", before, after);
    }
    edits("request_headers", &old.it.request_headers, &new.it.request_headers, to);
    edits("response_headers", &old.it.response_headers, &new.it.response_headers, to);
}

/// What is put into fields may be a secret: names are told, values are not.
fn edits(key: &str, old: &HeaderEdits, new: &HeaderEdits, to: &mut Sentences) {
    let HeaderEdits { remove, set, add } = old;
    let names = |pairs: &[(Box<str>, Box<str>)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    to.compare(&format!("{key}.remove"), remove, &new.remove);
    for (word, old, new) in [("set", set, &new.set), ("add", add, &new.add)] {
        if names(old) == names(new) {
            to.compare_unseen(&format!("a value in {key}.{word}"), old, new);
        } else {
            to.compare(&format!("{key}.{word}"), &names(old), &names(new));
        }
    }
}

fn name_rule(old: &Of<'_, NameRule>, new: &Of<'_, NameRule>, to: &mut Sentences) {
    let NameRule { name: _, hosts, alpn, pool } = old.it;
    to.compare("host", hosts, &new.it.hosts);
    let said = |alpn: &[Box<[u8]>]| alpn.iter().map(|one| one.escape_ascii().to_string()).collect::<Vec<_>>();
    to.compare("alpn", &said(alpn), &said(&new.it.alpn));
    to.compare("pool", &old.pool(*pool), &new.pool(new.it.pool));
}

impl Say for Refuse {
    fn say(&self) -> String {
        match self {
            Refuse::Reset => "reset",
            Refuse::Silence => "silence",
        }
        .to_owned()
    }
}

impl Say for Rate {
    fn say(&self) -> String {
        let Rate { per_second, burst } = self;
        format!("{per_second}/s (burst {burst})")
    }
}

impl Say for HostPattern {
    fn say(&self) -> String {
        self.to_string().say()
    }
}

impl Say for HeaderCondition {
    fn say(&self) -> String {
        let HeaderCondition { name, value } = self;
        value.as_ref().map_or_else(|| name.to_string(), |value| format!("{name}: {value}"))
    }
}
