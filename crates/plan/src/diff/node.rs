//! Of the node itself: what stands under `[node]` and `[admin]`.
//!
//! Secrets are said to differ and never shown.

use super::say::{Say, Sentences, Word, compare};
use super::{Altered, Part, PlanDiff};
use crate::beside::{Hook, HookOn, HookTo, NameAsked, Resolver, StateFile, Traces};
use crate::plan::{AccessLog, Admin, AdminToken, Node, Plan};

pub(super) fn compare(old: &Plan, new: &Plan, diff: &mut PlanDiff) {
    let part = &mut diff.node;
    let mut sentences = Sentences::default();
    node(&old.node, &new.node, &mut sentences);
    take("node", sentences, part);
    let mut sentences = Sentences::default();
    admin(old.admin.as_ref(), new.admin.as_ref(), &mut sentences);
    take("admin", sentences, part);
    let mut sentences = Sentences::default();
    let asked = |plan: &Plan| plan.names.iter().map(name).collect::<Vec<_>>();
    sentences.compare("names asked of DNS", &asked(old), &asked(new));
    take("names", sentences, part);
}

fn take(name: &str, sentences: Sentences, part: &mut Part) {
    let what = sentences.into_vec();
    if !what.is_empty() {
        part.changed.push(Altered { name: name.to_owned(), what });
    }
}

fn node(old: &Node, new: &Node, to: &mut Sentences) {
    compare!(to, old, new, Node {
        workers, connections, drain_timeout, shutdown_delay, watch, access_log, cluster, hold_on_suspicion, slow_request, kept_requests;
        sticky_secret, state, hooks, resolver, traces
    });
    to.compare_unseen("sticky_secret", &old.sticky_secret, &new.sticky_secret);
    let path = |node: &Node| node.state.as_ref().map(|state| state.path.clone());
    to.compare("state_file", &path(old), &path(new));
    if let (Some(old), Some(new)) = (&old.state, &new.state) {
        compare!(to, old, new, StateFile { max_age as "state_max_age"; path });
    }
    compare_hooks(&old.hooks, &new.hooks, to);
    compare!(to, &old.resolver, &new.resolver, Resolver {
        servers as "resolver.servers", timeout as "resolver.timeout",
        min_ttl as "resolver.min_ttl", max_ttl as "resolver.max_ttl";
    });
    compare_traces(old.traces.as_ref(), new.traces.as_ref(), to);
}

/// A hook is known by whom it tells, and what is in its URL may be a secret: it is named by its place only.
fn compare_hooks(old: &[Hook], new: &[Hook], to: &mut Sentences) {
    to.compare("hooks", &old.len(), &new.len());
    for (position, (old, new)) in old.iter().zip(new).enumerate() {
        let key = |word: &str| format!("hook {}: {word}", position + 1);
        let Hook { to: heard_by, on: HookOn { unhealthy, healthy, ejected }, timeout } = old;
        match (heard_by, &new.to) {
            (HookTo::Url(_), HookTo::Url(_)) => to.compare_unseen(&key("url"), heard_by, &new.to),
            (HookTo::Command(_), HookTo::Command(_)) => to.compare_unseen(&key("command"), heard_by, &new.to),
            (HookTo::Url(_), HookTo::Command(_)) => to.push(key("a command in place of a url")),
            (HookTo::Command(_), HookTo::Url(_)) => to.push(key("a url in place of a command")),
        }
        to.compare(&key("on unhealthy"), unhealthy, &new.on.unhealthy);
        to.compare(&key("on healthy"), healthy, &new.on.healthy);
        to.compare(&key("on ejected"), ejected, &new.on.ejected);
        to.compare(&key("timeout"), timeout, &new.timeout);
    }
}

fn compare_traces(old: Option<&Traces>, new: Option<&Traces>, to: &mut Sentences) {
    match (old, new) {
        (None, None) => {}
        (None, Some(_)) => to.push("traces are sent from now on".to_owned()),
        (Some(_), None) => to.push("traces are sent no longer".to_owned()),
        (Some(old), Some(new)) => {
            to.compare_unseen("traces.endpoint", &old.url, &new.url);
            compare!(to, old, new, Traces {
                per_million as "traces: requests of a million", service as "traces.service",
                timeout as "traces.timeout", trust_traceparent as "traces.trust_traceparent";
                url
            });
        }
    }
}

fn admin(old: Option<&Admin>, new: Option<&Admin>, to: &mut Sentences) {
    let off = Admin { listen: None, socket: None, tokens: Vec::new(), tls: None };
    let (old, new) = (old.unwrap_or(&off), new.unwrap_or(&off));
    compare!(to, old, new, Admin { listen, socket; tokens, tls });
    let named = |admin: &Admin| admin.tokens.iter().map(token).collect::<Vec<_>>();
    to.compare("tokens", &named(old), &named(new));
    for token in &old.tokens {
        let is_other = |other: &&AdminToken| other.name == token.name && other.sha256 != token.sha256;
        if let Some(other) = new.tokens.iter().find(is_other) {
            to.push(format!("token \"{}\" is another", other.name));
        }
    }
    match (&old.tls, &new.tls) {
        (Some(_), Some(_)) => to.compare_unseen("certificate", &old.tls, &new.tls),
        (None, None) => {}
        (None, Some(_)) => to.push("over TLS from now on".to_owned()),
        (Some(_), None) => to.push("without TLS from now on".to_owned()),
    }
}

fn token(token: &AdminToken) -> Word {
    let AdminToken { name, role, sha256: _ } = token;
    Word(format!("{name} ({})", role.word()))
}

fn name(asked: &NameAsked) -> Word {
    let NameAsked { name, port, records } = asked;
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Word(format!("{name}{port} ({})", records.word()))
}

impl Say for AccessLog {
    fn say(&self) -> String {
        match self {
            AccessLog::Off => "off".to_owned(),
            AccessLog::Stdout => "stdout".to_owned(),
            AccessLog::File(path) => path.say(),
        }
    }
}
