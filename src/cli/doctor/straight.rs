//! The same request straight to each backend, and what else is asked of it: its check's page, another Host, plain connects.
//!
//! In the words, over the TLS settings and with the PROXY header that the balancer would use. Unhealthy backends come
//! first, since a large pool is not asked whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_diagnose::doctor::facts::{self, Backend, Connect, Facts, Outcome, ProbeLike, Scheme, Standing};
use evenkeel_health::settings::{HttpProbe, HttpVersion, ProbeSettings};
use evenkeel_plan::{Listener, Plan, Pool, ProxyVersion, Speaks};
use evenkeel_tls::{Offers, Witness};
use evenkeel_wire::proxy::{Sent, write_v1, write_v2};
use rustls::pki_types::ServerName;

use super::client::{self, Way};
use super::{Arguments, CONNECT_PATIENCE, plan, with_body};

/// Backends that are asked; more would be a load, and no more telling.
const BACKENDS_MAX: usize = 24;
/// Requests to each, so that one that comes and goes is seen.
const TRIES: usize = 3;
/// Longer answers are not asked for more often than they must be.
const SLOW: Duration = Duration::from_secs(1);
/// Backends asked at once.
const AT_ONCE: usize = 8;

/// What each of them is asked.
struct Round<'a> {
    plan: &'a Plan,
    listener: &'a Listener,
    pool: &'a Pool,
    request: Vec<u8>,
    method: &'a str,
    scheme: Scheme,
    host: &'a str,
    patience: Duration,
}

pub fn look(
    plan: &Plan,
    listener: &Listener,
    pool: &Pool,
    standings: &[(SocketAddr, Standing)],
    head: &[u8],
    arguments: &Arguments,
    facts: &mut Facts,
) {
    let mut backends: Vec<(SocketAddr, Option<Standing>)> =
        standings.iter().map(|(address, standing)| (*address, Some(standing.clone()))).collect();
    if backends.is_empty() {
        let first = pool.first_backend.index();
        let of_pool = plan.backends.iter().skip(first).take(pool.backend_count as usize);
        backends = of_pool.map(|backend| (backend.address, None)).collect();
    }
    backends.sort_by_key(|(_, standing)| standing.as_ref().is_some_and(|standing| standing.verdict != "unhealthy"));
    backends.truncate(BACKENDS_MAX);
    // With the balancer it waits for response_timeout; a little longer shows who answers only after it.
    let waits = facts.pool.as_ref().map_or(Duration::ZERO, |pool| pool.response_timeout);
    let patience = facts.question.timeout.min(waits.saturating_mul(2).max(Duration::from_secs(5)));
    let round = Round {
        plan,
        listener,
        pool,
        request: with_body(head, arguments),
        method: &arguments.method,
        scheme: facts.question.scheme,
        host: &facts.question.host,
        patience,
    };
    for group in backends.chunks(AT_ONCE) {
        let asked = std::thread::scope(|scope| {
            let started: Vec<_> =
                group.iter().map(|(address, standing)| scope.spawn(|| round.ask(*address, standing.clone()))).collect();
            started.into_iter().filter_map(|asking| asking.join().ok()).collect::<Vec<_>>()
        });
        facts.backends.extend(asked);
    }
}

impl Round<'_> {
    fn ask(&self, address: SocketAddr, standing: Option<Standing>) -> Backend {
        let mut backend = Backend { standing, ..Backend::new(address) };
        backend.is_listener = self.own_listener(address);
        if self.scheme == Scheme::Udp {
            return backend;
        }
        self.connect(address, &mut backend);
        if self.scheme == Scheme::Tcp {
            backend.straight = vec![client::greet(address, self.source(address), CONNECT_PATIENCE)];
            return backend;
        }
        let Some(way) = self.way(address, &mut backend) else { return backend };
        for _ in 0..TRIES {
            let attempt = client::ask(&way, &self.request, self.method);
            let took = attempt.whole;
            backend.straight.push(attempt);
            // One that hangs is asked once.
            if took * 2 > self.patience {
                break;
            }
        }
        self.neighbour(&way, &mut backend);
        self.other_requests(&way, &mut backend);
        backend
    }

    fn own_listener(&self, address: SocketAddr) -> Option<String> {
        let own = evenkeel::files::own_addresses();
        let is_ours = |at: &SocketAddr| {
            at.port() == address.port()
                && (at.ip() == address.ip()
                    || at.ip().is_unspecified() && (own.contains(&address.ip()) || address.ip().is_loopback()))
        };
        let found = self
            .plan
            .listeners
            .iter()
            .find(|listener| listener.protocol.is_stream() && listener.listen.iter().any(is_ours));
        found.map(|listener| listener.name.to_string())
    }

    /// Where traffic to this backend comes from, if that is chosen.
    fn source(&self, address: SocketAddr) -> Option<IpAddr> {
        match &self.pool.source {
            evenkeel_plan::Source::Own(own) => own.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4()),
            evenkeel_plan::Source::Kernel | evenkeel_plan::Source::Client => None,
        }
    }

    fn connect(&self, address: SocketAddr, backend: &mut Backend) {
        let probes = self.pool.checks.iter().enumerate().flat_map(|(number, check)| {
            let port = facts_port(self.plan, self.pool, number, address);
            let to = SocketAddr::new(address.ip(), port);
            let sources = check.settings.sources.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
            std::iter::once((to, None)).chain(sources.map(move |source| (to, Some(*source))))
        });
        let uses_tcp = |check: &evenkeel_plan::Check| {
            !matches!(
                check.settings.probe,
                ProbeSettings::Udp(_) | ProbeSettings::Icmp(_) | ProbeSettings::Dns(_) | ProbeSettings::Command(_)
            )
        };
        let probes: Vec<_> = if self.pool.checks.iter().all(uses_tcp) { probes.collect() } else { Vec::new() };
        let mut wanted = vec![(address, None)];
        wanted.extend(self.source(address).map(|source| (address, Some(source))));
        for connect in probes {
            if !wanted.contains(&connect) {
                wanted.push(connect);
            }
        }
        for (to, from) in wanted {
            let began = Instant::now();
            let result = client::dial(to, from, CONNECT_PATIENCE).map(|_| began.elapsed());
            backend.connects.push(Connect { to, from, result });
        }
        if backend.connects.iter().any(|connect| connect.result == Err(facts::Failure::NoAnswerToSyn)) {
            backend.echo = client::pings(address.ip());
        }
    }

    /// How requests get there; `None` where this command does not speak what the pool does.
    fn way(&self, address: SocketAddr, backend: &mut Backend) -> Option<Way> {
        let header_limit = plan::header_limit(self.listener);
        let mut way = Way {
            to: address,
            from: self.source(address),
            tls: None,
            proxy: None,
            patience: self.patience,
            header_limit,
        };
        if !self.listener.protocol.is_http() {
            if self.scheme == Scheme::Https {
                let (witness, name) = super::witness(self.host)?;
                backend.tls = Some(client::shake_hands(address, way.from, &witness, &name, CONNECT_PATIENCE));
                way.tls = Some((Arc::clone(&witness.config), name));
            }
            return Some(way);
        }
        if self.pool.speaks == Speaks::Http2 {
            return None;
        }
        way.proxy = self.pool.proxy_protocol.map(|proxy| match proxy.version {
            ProxyVersion::V1 => proxy_v1 as fn(SocketAddr, SocketAddr) -> Vec<u8>,
            ProxyVersion::V2 => proxy_v2,
        });
        if let Some(tls) = &self.pool.tls {
            let name = tls.name.clone().unwrap_or_else(|| ServerName::from(address.ip()));
            if let Ok(witness) = Witness::new(None, Offers::Http1, Arc::new(evenkeel::files::WallClock)) {
                backend.tls = Some(client::shake_hands(address, way.from, &witness, &name, CONNECT_PATIENCE));
            }
            way.tls = Some((Arc::clone(&tls.config), name));
        }
        Some(way)
    }

    /// Whether the application behind a web server runs at all, where that is the question.
    fn neighbour(&self, way: &Way, backend: &mut Backend) {
        let doubtful = |attempt: &facts::Try| match &attempt.outcome {
            Outcome::Answered(answer) => matches!(answer.status, 502..=504) || attempt.whole >= SLOW,
            Outcome::Failed(failure) => *failure == facts::Failure::Silent,
            Outcome::Relayed(_) => false,
        };
        if backend.straight.iter().any(doubtful)
            && let Some(request) = beside_script(&self.request, self.method)
        {
            let way = Way { patience: CONNECT_PATIENCE.min(self.patience), ..way.clone() };
            backend.neighbour = Some(client::ask(&way, &request, "GET"));
        }
    }

    /// The check's own request, and the request with the check's Host.
    fn other_requests(&self, way: &Way, backend: &mut Backend) {
        let found = self.pool.checks.iter().enumerate().find_map(|(number, check)| match &check.settings.probe {
            ProbeSettings::Http(http) if http.version == HttpVersion::Http1 => Some((number, check, http)),
            _ => None,
        });
        let Some((number, check, http)) = found else { return };
        let port = facts_port(self.plan, self.pool, number, backend.address);
        let to = SocketAddr::new(backend.address.ip(), port);
        let patience = check.settings.timing.timeout.min(self.patience).max(Duration::from_secs(1));
        let tls = http
            .tls
            .as_ref()
            .map(|tls| (Arc::clone(&tls.config), tls.name.clone().unwrap_or_else(|| ServerName::from(to.ip()))));
        let probing = Way { to, tls, proxy: None, patience, ..way.clone() };
        let host = http.host.clone().unwrap_or_else(|| to.to_string());
        let seen = client::ask(&probing, &probe_head(http, &host), &http.method);
        let passes = matches!(&seen.outcome, Outcome::Answered(answer) if http.expect_status.contains(answer.status) && answer.refused.is_none());
        backend.probe = Some(ProbeLike {
            method: http.method.clone(),
            path: http.path.clone(),
            host: Some(host.clone()),
            seen,
            passes,
        });
        if let Some(request) = with_host(&self.request, &host)
            && !backend.straight.iter().any(|attempt| attempt.whole >= SLOW)
        {
            backend.other_host = Some((host, client::ask(way, &request, self.method)));
        }
    }
}

/// The same head for a script beside the asked one that is surely not there; `None` where no script was asked for.
fn beside_script(request: &[u8], method: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(request);
    let (line, rest) = text.split_once("\r\n")?;
    let target = line.split(' ').nth(1)?;
    let script = target.split('?').next()?;
    let at = script.find(".php")?;
    let folder = &script[..script[..at].rfind('/')? + 1];
    matches!(method, "GET" | "HEAD")
        .then(|| format!("GET {folder}evenkeel-doctor-no-such-script.php HTTP/1.1\r\n{rest}").into_bytes())
}

fn facts_port(plan: &Plan, pool: &Pool, check: usize, address: SocketAddr) -> u16 {
    let of_pool = plan.backends.iter().skip(pool.first_backend.index()).take(pool.backend_count as usize);
    let port = of_pool
        .filter(|backend| backend.address == address)
        .find_map(|backend| Some(plan.targets.get(backend.targets.get(check)?.index())?.address.port()));
    port.unwrap_or_else(|| address.port())
}

fn probe_head(http: &HttpProbe, host: &str) -> Vec<u8> {
    let fields: String = http.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: evenkeel-doctor\r\n{fields}Connection: close\r\n\r\n",
        http.method, http.path
    )
    .into_bytes()
}

/// The request for another Host; `None` where it has that one already.
fn with_host(request: &[u8], host: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(request);
    let (before, rest) = text.split_once("\r\nHost: ")?;
    let (had, after) = rest.split_once("\r\n")?;
    (!had.eq_ignore_ascii_case(host)).then(|| format!("{before}\r\nHost: {host}\r\n{after}").into_bytes())
}

fn proxy_v1(ours: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut out = Vec::new();
    write_v1(&mut out, ours, to);
    out
}

fn proxy_v2(ours: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut out = Vec::new();
    let sent = Sent { client: ours, local: to, datagram: false, authority: None, alpn: None, unique_id: None };
    write_v2(&mut out, &sent);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_is_not_there_is_asked_for_beside_the_one_that_is() {
        let asked = |target: &str, method| {
            let made = beside_script(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), method)?;
            Some(String::from_utf8(made).expect("ASCII").split(' ').nth(1).expect("a target").to_owned())
        };
        assert_eq!(asked("/app.php?x=/y.php", "GET").as_deref(), Some("/evenkeel-doctor-no-such-script.php"));
        assert_eq!(asked("/shop/index.php/cart", "GET").as_deref(), Some("/shop/evenkeel-doctor-no-such-script.php"));
        assert_eq!(asked("/page?x.php", "GET"), None);
        assert_eq!(asked("/app.php", "POST"), None);
    }

    #[test]
    fn a_request_can_be_put_to_another_host_and_keeps_the_rest() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        assert_eq!(with_host(request, "b").as_deref(), Some(&b"GET / HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n"[..]));
        assert_eq!(with_host(request, "A"), None);
    }
}
