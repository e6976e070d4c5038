//! The balancer said which cause it was; here it is found out why, by what else was seen.
//!
//! A cause without an entry of its own here is explained by the table of causes, which is never wrong but knows nothing of
//! this case.

use std::net::SocketAddr;

use evenkeel_model::Cause;

use super::super::facts::{Backend, Check, Facts, Failure, Scheme, Standing};
use super::super::seen::{Condition, list, time, waited, worst};
use super::super::steps;
use super::{Confidence, Judgement, Whose, backends, is_elsewhere, through};
use crate::route::Outcome as Routed;

pub(super) fn explained(facts: &Facts, cause: Cause) -> Judgement {
    match cause {
        Cause::AllBackendsUnhealthy => all_unhealthy(facts),
        Cause::HostNotConfigured | Cause::RuleNotFound => no_rule(facts, cause),
        Cause::LoopDetected => looped(facts),
        Cause::ClientDeniedByAcl | Cause::ClientRateLimited | Cause::ClientTooManyConnections => {
            some_clients(facts, cause)
        }
        Cause::ClientHeaderTooLarge | Cause::ClientUriTooLong => too_large(facts, cause),
        Cause::AllBackendsDrained | Cause::NoBackendConfigured => out_of_service(facts, cause),
        Cause::RetryBudgetExhausted => backends::sick(facts, None).unwrap_or_else(|| by_table(facts, cause)),
        Cause::BackendResponseTimeout => {
            backends::sick(facts, Some(cause)).unwrap_or_else(|| comes_and_goes(facts, cause))
        }
        Cause::BackendConnectRefused
        | Cause::BackendConnectTimeout
        | Cause::BackendUnreachable
        | Cause::BackendTlsFailed
        | Cause::BackendResetBeforeResponse
        | Cause::BackendClosedBeforeResponse
        | Cause::BackendMalformedResponse
        | Cause::BackendHeaderTooLarge
        | Cause::BackendResetMidResponse
        | Cause::BackendBodyTimeout
        | Cause::BackendMalformedBody
        | Cause::BackendAnsweredError => {
            backends::sick(facts, Some(cause)).unwrap_or_else(|| comes_and_goes(facts, cause))
        }
        Cause::BackendQueueFull | Cause::BackendQueueTimeout => queued(facts, cause),
        Cause::ClientMalformedRequest
        | Cause::ClientBodyTooLarge
        | Cause::ClientHeaderTimeout
        | Cause::ClientBodyTimeout
        | Cause::ClientStalled
        | Cause::ClientAborted
        | Cause::ClientHttp2Violation
        | Cause::ClientHttp2Flood
        | Cause::ClientProxyHeaderInvalid
        | Cause::TlsHandshakeFailed
        | Cause::TlsNoCertificateForName
        | Cause::BackendWriteTimeout
        | Cause::RelayIdleTimeout
        | Cause::RelayLifetimeOver
        | Cause::BackendTurnedUnhealthy
        | Cause::BackendNoReply
        | Cause::SourceUnusable
        | Cause::BackendResetRelay
        | Cause::BalancerOverloaded
        | Cause::BalancerDraining
        | Cause::BalancerInternal => by_table(facts, cause),
    }
}

fn by_table(facts: &Facts, cause: Cause) -> Judgement {
    let entry = cause.entry();
    if cause == Cause::TlsHandshakeFailed && facts.question.scheme == Scheme::Http {
        return Judgement::fault(Whose::Client, "Plain HTTP was sent to a port that speaks TLS.")
            .cause(cause)
            .next("ask with https://; a listener for port 80 with redirect_to_https sends browsers there");
    }
    let judgement = Judgement::fault(cause.into(), entry.meaning).cause(cause).next(entry.advice);
    match &facts.pool {
        Some(pool) => judgement.about(format!("pool \"{}\"", pool.name)),
        None => judgement,
    }
}

/// The balancer met it; asked straight, nobody shows it now.
fn comes_and_goes(facts: &Facts, cause: Cause) -> Judgement {
    let judgement = by_table(facts, cause);
    if facts.backends.iter().all(|backend| backend.straight.is_empty()) {
        return judgement
            .confidence(Confidence::Likely)
            .because(facts.no_config.clone().unwrap_or_else(|| "the backends could not be asked straight".to_owned()));
    }
    let mut judgement = judgement
        .confidence(Confidence::Likely)
        .because("asked straight just now, with the same request, every backend answers: it comes and goes, or only the balancer's connections meet it");
    if matches!(cause, Cause::BackendResetBeforeResponse | Cause::BackendClosedBeforeResponse)
        && let Some(pool) = &facts.pool
    {
        judgement = judgement.because(format!(
            "the balancer keeps connections for idle_timeout = {}; a backend that closes them sooner ends some just as a request goes out",
            time(pool.idle_timeout)
        ));
    }
    if cause == Cause::BackendResponseTimeout
        && let Some(slowest) = facts.backends.iter().flat_map(|backend| &backend.straight).map(waited).max()
    {
        judgement = judgement.because(format!("straight, the slowest answer took {}", time(slowest)));
    }
    if is_elsewhere(facts) {
        judgement =
            judgement.because("this command does not run beside the node, so its way to the backends is another one");
    }
    judgement.next("evenkeel doctor --log FILE URL says when, and at which backends, it happened")
}

fn all_unhealthy(facts: &Facts) -> Judgement {
    let cause = Cause::AllBackendsUnhealthy;
    let findings: Vec<String> = facts
        .backends
        .iter()
        .filter_map(|backend| {
            let last = backends::last_failure(backend.standing.as_ref()?)?;
            Some(format!("last probe of {}: {last}", backend.address))
        })
        .take(4)
        .collect();
    let judgement = returning(facts)
        .or_else(|| firewall(facts))
        .or_else(|| wrong_check(facts))
        .or_else(|| turned_away(facts))
        .or_else(|| backends::sick(facts, None))
        .unwrap_or_else(|| {
            let entry = cause.entry();
            Judgement::fault(Whose::Backend, "Every backend fails its check, so there is nobody to send requests to.")
                .confidence(Confidence::Likely)
                .next(entry.advice)
        });
    // What is wrong is said by the sentence; what the client was told by the cause.
    judgement.cause(cause).because_all(findings)
}

/// Backends that were down, and pass their probes again: the run that makes a verdict is not long enough yet.
fn returning(facts: &Facts) -> Option<Judgement> {
    let passes = |backend: &&Backend| {
        let last_passed = |standing: &Standing| {
            let mut newest = standing.checks.iter().map(|check| check.recent.first());
            !standing.checks.is_empty() && newest.all(|finding| finding.is_some_and(|one| one.result == "passed"))
        };
        let out = backend.standing.as_ref().filter(|standing| standing.verdict == "unhealthy");
        out.is_some_and(last_passed) && matches!(worst(backend), Some(Condition::Good(_)))
    };
    let back: Vec<SocketAddr> = facts.backends.iter().filter(passes).map(|backend| backend.address).collect();
    if back.is_empty() {
        return None;
    }
    Some(
        Judgement::fault(
            Whose::Backend,
            format!(
                "{} of {} backends were down and are on their way back: they pass their probes again, and get work when the run is as long as healthy_threshold.",
                back.len(),
                facts.backends.len()
            ),
        )
        .about(list(&back))
        .because(format!("{} answers well when asked straight, and its last probe passed", list(&back)))
        .next("wait for the window, and ask again: evenkeel status shows how many passes are missing, evenkeel window FILE how long it takes")
        .next("to have them back sooner: a smaller healthy_threshold or transition_interval of [pool.check]"),
    )
}

/// The check's request and the client's end in the same 4xx: whoever is there refuses us, and not a page.
fn turned_away(facts: &Facts) -> Option<Judgement> {
    let alike = |backend: &Backend| {
        let Condition::ClientError(status) = worst(backend)? else { return None };
        let probe = backend.probe.as_ref().filter(|probe| !probe.passes)?;
        (Condition::of(&probe.seen) == Condition::ClientError(status)).then_some(status)
    };
    let status = alike(facts.backends.first()?)?;
    if facts.backends.iter().any(|backend| alike(backend) != Some(status)) {
        return None;
    }
    let judgement = Judgement::fault(
        Whose::Backend,
        format!(
            "The backends answer {status} to everything that comes from here: to the check's page and to the request alike."
        ),
    );
    Some(match status {
        401 | 403 | 407 => judgement
            .next("look for the balancer's address in their access lists: allow and deny of nginx, Require of Apache, fail2ban, a web application firewall"),
        _ => judgement.next("ask them what they serve, and under which name: the Host that the check and the clients send may not be theirs"),
    })
}

/// Probes end in silence, or are refused by the network, where the same port answers another source address.
fn firewall(facts: &Facts) -> Option<Judgement> {
    let (backend, blocked, free) = facts.backends.iter().find_map(|backend| {
        let dropped = |failure: &Failure| {
            matches!(failure, Failure::NoAnswerToSyn | Failure::Unreachable { .. } | Failure::Refused)
        };
        let blocked = backend
            .connects
            .iter()
            .find(|connect| connect.from.is_some() && connect.result.as_ref().is_err_and(dropped))?;
        let free = backend
            .connects
            .iter()
            .find(|other| other.to == blocked.to && other.from != blocked.from && other.result.is_ok())?;
        Some((backend, blocked, free))
    })?;
    let source = blocked.from.map_or_else(String::new, |from| from.to_string());
    let how = match &blocked.result {
        Err(Failure::NoAnswerToSyn) => "drops what comes from it without a word",
        Err(Failure::Refused) => "answers it with resets",
        _ => "answers it with an ICMP refusal",
    };
    Some(
        Judgement::fault(
            Whose::Network,
            format!("A firewall or security software at {} is in the way of the source address {source}, which the probes come from: it {how}.", backend.address.ip()),
        )
        .about(backend.address.to_string())
        .because(format!("a connect from {source} to {} {}", blocked.to, blocked.result.as_ref().err().map_or_else(String::new, super::super::seen::failed)))
        .because(format!("a connect from {} to the same port works", free.from.map_or_else(|| "the address the kernel chooses".to_owned(), |from| from.to_string())))
        .next(format!("let {source} in on the backends: nft list ruleset; iptables -S; the whitelist of the security software"))
        .next("or leave `source` out of the check, so that probes come from where traffic comes from"),
    )
}

/// The application answers what was asked; only the check's own request is refused.
fn wrong_check(facts: &Facts) -> Option<Judgement> {
    let fit = |backend: &&Backend| worst(backend).is_some_and(|condition| matches!(condition, Condition::Good(_)));
    if facts.backends.is_empty() || !facts.backends.iter().all(|backend| fit(&backend)) {
        return None;
    }
    let answer_well = "asked straight, every backend answers the request itself well";
    let check = facts.pool.as_ref().and_then(|pool| pool.checks.first());
    if let Some((backend, probe)) =
        facts.backends.iter().find_map(|backend| Some((backend, backend.probe.as_ref().filter(|probe| !probe.passes)?)))
    {
        let seen = Condition::of(&probe.seen).does();
        let asked = probe.host.as_ref().map_or_else(String::new, |host| format!(" with Host: {host}"));
        // The asked path with the check's Host tells whether it is the Host or the path.
        let host_matters = backend
            .other_host
            .as_ref()
            .is_some_and(|(_, attempt)| !matches!(Condition::of(attempt), Condition::Good(_)));
        let judgement = Judgement::fault(
            Whose::Operator,
            format!(
                "The backends work; the check asks for something they refuse: {} {}{asked} {seen}.",
                probe.method, probe.path
            ),
        )
        .about(backend.address.to_string())
        .because(answer_well)
        .because(format!("the check's request, sent straight to {}: it {seen}", backend.address));
        return Some(if host_matters {
            judgement
                .next(format!(
                    "set the check's host to the name the site is known by: host = \"{}\"",
                    facts.question.host
                ))
                .next("or choose a path that answers 2xx or 3xx without a name; expect_status takes others")
        } else {
            judgement
                .next("choose a path that the application answers with 2xx or 3xx, or name the status in expect_status")
        });
    }
    let port_fails = facts.backends.iter().find_map(|backend| {
        let connect = backend
            .connects
            .iter()
            .find(|connect| connect.to.port() != backend.address.port() && connect.result.is_err())?;
        Some((backend, connect))
    });
    if let (Some((_, connect)), Some(Check { port: Some(port), .. })) = (port_fails, check) {
        return Some(
            Judgement::fault(
                Whose::Operator,
                format!("The backends work; the check asks port {port}, where they do not answer."),
            )
            .because(answer_well)
            .because(format!(
                "{} {}",
                connect.to,
                connect.result.as_ref().err().map_or_else(String::new, super::super::seen::failed)
            ))
            .next("leave port out of the check, or open that port for the balancer"),
        );
    }
    Some(
        Judgement::fault(
            Whose::Operator,
            "The backends answer the request well when asked straight, and yet their probes fail: the check, or the way of its probes, is what is wrong.",
        )
        .confidence(Confidence::Likely)
        .because(answer_well)
        .next("compare the last findings below with what the check sends: path, host, port, source, timeout")
        .next("if they were healed just now, the verdict follows after the window: evenkeel window FILE"),
    )
}

fn no_rule(facts: &Facts, cause: Cause) -> Judgement {
    let entry = cause.entry();
    let listener = facts
        .listener
        .as_ref()
        .map_or_else(|| "the listener".to_owned(), |listener| format!("listener \"{}\"", listener.name));
    let sentence = match cause {
        Cause::HostNotConfigured => format!(
            "No rule of {listener} names the host \"{}\", and it has no pool for the rest.",
            facts.question.host
        ),
        _ => format!(
            "Rules of {listener} name the host \"{}\", but none takes {} {}.",
            facts.question.host, facts.question.method, facts.question.path
        ),
    };
    let mut judgement =
        Judgement::fault(Whose::Rule, sentence).cause(cause).about(&facts.question.authority).next(entry.advice);
    if let Some(Ok(report)) = &facts.route {
        if let Routed::Refused(refused) = &report.outcome {
            judgement = judgement.because(format!("the rules say so themselves: {}", refused.detail));
        }
        judgement = judgement
            .because_all(report.rules.iter().take(3).map(|rule| format!("rule \"{}\": {}", rule.name, rule.sentence)));
    }
    judgement
}

fn looped(facts: &Facts) -> Judgement {
    let cause = Cause::LoopDetected;
    let own: Vec<String> = facts
        .backends
        .iter()
        .filter_map(|backend| {
            Some(format!("{} is listener \"{}\" of this balancer", backend.address, backend.is_listener.as_ref()?))
        })
        .collect();
    let judgement = Judgement::fault(Whose::Operator, "The request comes back to the balancer that sent it: a circle.")
        .cause(cause);
    let judgement = match own.first() {
        Some(_) => judgement.because_all(own).next("take the balancer's own address out of the pool's backends"),
        None => {
            let calls: Vec<std::net::SocketAddr> = facts
                .backends
                .iter()
                .filter(|backend| {
                    matches!(
                        worst(backend),
                        Some(Condition::Explained(..) | Condition::PassedOn(508, _) | Condition::ServerError(508, _))
                    )
                })
                .map(|backend| backend.address)
                .collect();
            let judgement = if calls.is_empty() {
                judgement
            } else {
                judgement.because(format!(
                    "asked straight, {} answers with the balancer's own 508: it calls the balancer",
                    list(&calls)
                ))
            };
            judgement.next("a backend calls the balancer's address (a proxy_pass, an API it uses): let it call the other backend, or itself, directly")
        }
    };
    judgement.because("CDN-Loop in the request names this balancer").next(cause.entry().advice)
}

fn some_clients(facts: &Facts, cause: Cause) -> Judgement {
    let entry = cause.entry();
    let judgement = Judgement::fault(
        cause.into(),
        format!("The listener turns this client away; others may be served. {}", entry.meaning),
    )
    .cause(cause)
    .because(format!("it has {}", through::what_it_limits(facts)))
    .next(entry.advice)
    .next("compare from an address that is let in: only some clients are affected");
    let total: u64 = steps::refusals(facts).iter().map(|(_, count)| count).sum();
    if total > 0 { judgement.because(format!("it has turned away {total} so far")) } else { judgement }
}

fn too_large(facts: &Facts, cause: Cause) -> Judgement {
    let entry = cause.entry();
    let judgement = Judgement::fault(Whose::Client, entry.meaning)
        .cause(cause)
        .because(format!("this request's head has {} bytes", facts.question.head_bytes));
    let judgement = match &facts.listener {
        Some(listener) => judgement
            .because(format!("header_limit of listener \"{}\" is {} bytes", listener.name, listener.header_limit)),
        None => judgement,
    };
    judgement.next(entry.advice)
}

fn out_of_service(facts: &Facts, cause: Cause) -> Judgement {
    let entry = cause.entry();
    let mut judgement = Judgement::fault(Whose::Operator, entry.meaning).cause(cause).next(entry.advice);
    if let Some(pool) = &facts.pool {
        judgement = judgement.about(format!("pool \"{}\"", pool.name));
        if cause == Cause::AllBackendsDrained
            && let Some(backend) = facts.backends.first()
        {
            judgement = judgement.next(format!("evenkeel serve {}/{}", pool.name, backend.address));
        }
    }
    let standing = facts.backends.iter().filter_map(|backend| {
        let standing = backend.standing.as_ref()?;
        Some(format!("{}: order {}, weight {}", backend.address, standing.order, standing.weight))
    });
    judgement.because_all(standing.take(4))
}

fn queued(facts: &Facts, cause: Cause) -> Judgement {
    let judgement = by_table(facts, cause);
    let judgement = match facts.pool.as_ref().and_then(|pool| pool.backend_limit) {
        Some(limit) => judgement.because(format!("backend_limit is {limit}")),
        None => judgement,
    };
    let busy = facts.backends.iter().filter_map(|backend| {
        Some(format!("{} has {} requests in flight", backend.address, backend.standing.as_ref()?.in_flight))
    });
    judgement.because_all(busy.take(4))
}
