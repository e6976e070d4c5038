//! HTTPS and plain HTTP beside each other: what each needs, and what of a site can still be read on the way.
//!
//! Whether certificates are any good is not asked here; files are looked at last ([`crate::material`]).

use evenkeel_plan::{HostPattern, Protocol};

use crate::config::{Action, Config, Listener, place_of};
use crate::problem::{Note, Notes, Quoted};

/// The shortest age that the preload lists of browsers take, in seconds.
const PRELOAD_SECONDS: u64 = 31_536_000;

pub(super) fn check(config: &Config, notes: &mut Notes) {
    for listener in &config.listeners {
        match listener.protocol {
            Some(Protocol::Https) => secure(listener, notes),
            Some(Protocol::Http) if listener.redirect_to_https.is_some() => redirecting(config, listener, notes),
            Some(Protocol::Http) => plain(config, listener, notes),
            Some(Protocol::Tcp | Protocol::Udp | Protocol::TlsPassthrough) | None => {}
        }
    }
}

fn secure(listener: &Listener, notes: &mut Notes) {
    if listener.certificates.is_empty() && !listener.certificates_incomplete {
        let text = format!("{}: certificate is missing, and https needs one", listener.label);
        notes.add(
            Note::error("missing_key", listener.head.clone(), text)
                .help("add [[listener.certificate]] with certificate = \"…\" and key = \"…\"")
                .about_the_file(),
        );
    }
    if listener.tls.client_ca.is_none()
        && let Some(span) = place_of(&listener.tls.written, "client_certificate")
    {
        let text =
            format!("{}: tls.client_certificate is set, but nothing says whose certificates are good", listener.label);
        notes.add(Note::error("missing_key", span, text).help("add client_ca = \"…\", or remove client_certificate"));
    }
    let Some(hsts) = &listener.hsts else { return };
    if let Some(span) = &hsts.preload
        && (!hsts.subdomains || hsts.max_age.as_secs() < PRELOAD_SECONDS)
    {
        let text =
            format!("{}: hsts.preload is set, but the lists take only a year with all subdomains", listener.label);
        notes.add(
            Note::warning("hsts_not_for_preload", span.clone(), text)
                .help("write max_age = \"365d\" and subdomains = true, or remove preload"),
        );
    }
}

fn redirecting(config: &Config, listener: &Listener, notes: &mut Notes) {
    let Some(port) = &listener.redirect_to_https else { return };
    for key in ["pool", "rule", "compression"] {
        if let Some(span) = place_of(&listener.written, key) {
            let text =
                format!("{}: {key} has no effect, because redirect_to_https takes every request", listener.label);
            let help = format!("remove {key}, or redirect with rules and remove redirect_to_https");
            notes.add(Note::warning("setting_without_effect", span, text).help(help));
        }
    }
    let known = config.listeners.iter().all(|other| other.protocol.is_some());
    let listens = config
        .listeners
        .iter()
        .filter(|other| other.protocol == Some(Protocol::Https))
        .any(|other| other.listen.iter().any(|at| at.value.port() == port.value));
    if known && !listens {
        let text = format!(
            "{}: redirect_to_https leads to port {}, where no https listener listens",
            listener.label, port.value
        );
        notes.add(
            Note::warning("redirect_to_nowhere", port.span.clone(), text)
                .help("add the https listener, or write the port it has; good only if something in front changes the port")
                .about_the_file(),
        );
    }
}

/// A site that can be asked for without TLS is one that can be read and changed on the way.
fn plain(config: &Config, listener: &Listener, notes: &mut Notes) {
    let served = served(listener);
    for other in config.listeners.iter().filter(|other| other.protocol == Some(Protocol::Https)) {
        let both = served.iter().find_map(|host| {
            let met = self::served(other).into_iter().filter(|theirs| meet(*host, *theirs));
            met.map(|theirs| narrower(*host, theirs)).find(|met| !redirected(listener, *met))
        });
        let Some(host) = both else { continue };
        let host = host.map_or_else(|| "every host".to_owned(), |host| Quoted(&host.to_string()).to_string());
        let text = format!("{}: {host} is served in plain HTTP too, beside {}", listener.label, other.label);
        notes.add(
            Note::warning("plain_http_beside_https", listener.head.clone(), text)
                .related(other.head.clone(), "here it is served over TLS")
                .help("add redirect_to_https = true, or redirect this host with a rule")
                .about_the_file(),
        );
        return;
    }
}

/// What is answered with more than a redirect; `None` is any host.
fn served(listener: &Listener) -> Vec<Option<&HostPattern>> {
    let mut hosts = Vec::new();
    if listener.pool.is_some() {
        hosts.push(None);
    }
    for rule in &listener.rules {
        match &rule.action {
            None | Some(Action::Redirect { .. }) => continue,
            Some(Action::Pool(_) | Action::Answer { .. }) => {}
        }
        if rule.hosts.is_empty() {
            hosts.push(None);
        }
        hosts.extend(rule.hosts.iter().map(|host| Some(&host.value)));
    }
    hosts
}

/// Whether a rule sends the whole host on; what is still served beside it was chosen path by path.
fn redirected(listener: &Listener, host: Option<&HostPattern>) -> bool {
    listener.rules.iter().any(|rule| {
        let of_host = match host {
            None => rule.hosts.is_empty(),
            Some(host) => rule.hosts.iter().any(|known| known.value == *host),
        };
        of_host
            && matches!(rule.action, Some(Action::Redirect { .. }))
            && rule.path == "/"
            && rule.methods.is_empty()
            && rule.headers.is_empty()
    })
}

fn meet(one: Option<&HostPattern>, other: Option<&HostPattern>) -> bool {
    match (one, other) {
        (None, _) | (_, None) => true,
        (Some(HostPattern::Exact(one)), Some(HostPattern::Exact(other))) => one == other,
        (Some(HostPattern::Wildcard(behind)), Some(HostPattern::Exact(host)))
        | (Some(HostPattern::Exact(host)), Some(HostPattern::Wildcard(behind))) => below(host, behind),
        (Some(HostPattern::Wildcard(one)), Some(HostPattern::Wildcard(other))) => {
            one == other || below(one, other) || below(other, one)
        }
    }
}

fn below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

fn narrower<'h>(one: Option<&'h HostPattern>, other: Option<&'h HostPattern>) -> Option<&'h HostPattern> {
    match (one, other) {
        (None, host) | (host, None) => host,
        (Some(HostPattern::Exact(_)), _) => one,
        (_, Some(HostPattern::Exact(_))) => other,
        (Some(HostPattern::Wildcard(one_behind)), Some(HostPattern::Wildcard(other_behind))) => {
            if one_behind.len() >= other_behind.len() { one } else { other }
        }
    }
}
