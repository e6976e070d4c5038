//! The steps behind the balancer: verdicts, the backends asked straight, and what the two ways tell when compared.
//!
//! Each says what it compares with what. None of them accuses anybody: whose error it is takes several of them together.

use std::net::SocketAddr;

use evenkeel_model::Cause;

use super::super::facts::{Backend, Facts, Failure, Looks, Relayed, Scheme, Try};
use super::super::judge::last_failure;
use super::super::seen::{Condition, answer, failed, list, time, waited, worst};
use super::super::{Mark, Step};
use super::front::tallied;

/// Of nginx and most others: what the first line and all fields of a head may take before its proxies refuse it.
const USUAL_HEAD: usize = 4 << 10;
const USUAL_HEAD_LARGE: usize = 8 << 10;

pub(super) fn verdicts(facts: &Facts) -> Step {
    let told: Vec<&Backend> = facts.backends.iter().filter(|backend| backend.standing.is_some()).collect();
    if told.is_empty() {
        return Step::skipped("verdicts", "no node says how its backends are");
    }
    let mut bad = 0;
    let lines: Vec<String> = told
        .iter()
        .filter_map(|backend| {
            let standing = backend.standing.as_ref()?;
            let mut line = format!("{} {} since {}", backend.address, standing.verdict, standing.since);
            if standing.order != "serve" {
                line += &format!(", order {}", standing.order);
            }
            if let Some(until) = &standing.ejected_until {
                line += &format!(", ejected until {until}");
            }
            if standing.weight == 0 {
                line += ", weight 0";
            }
            if let Some(last) = last_failure(standing) {
                line += &format!(": {last}");
            }
            bad += usize::from(
                standing.verdict == "unhealthy"
                    || standing.ejected_until.is_some()
                    || standing.order != "serve"
                    || standing.weight == 0,
            );
            Some(line)
        })
        .collect();
    let refusal = facts.pool.as_ref().and_then(|pool| Cause::from_code(pool.refusal.as_deref()?));
    let (mark, means) = match (refusal, bad) {
        (Some(cause), _) => (Mark::Bad, format!("the pool offers nobody: {}", cause.code())),
        (None, 0) => (Mark::Good, String::new()),
        (None, bad) => (Mark::Note, format!("{bad} of {} get no new work", told.len())),
    };
    let more = facts.pool.as_ref().map_or(0, |pool| pool.backends.saturating_sub(facts.backends.len()));
    let step = Step::new("verdicts", mark, means).saw_all(lines);
    if more > 0 { step.saw(format!("and {more} more that were not looked at")) } else { step }
}

pub(super) fn backends(facts: &Facts) -> Step {
    if facts.backends.is_empty() {
        let why = facts.no_config.clone().unwrap_or_else(|| "no pool is known for this request".to_owned());
        return Step::skipped("backends", why);
    }
    if facts.pool.as_ref().is_some_and(|pool| pool.http2)
        && facts.backends.iter().all(|backend| backend.straight.is_empty())
    {
        return Step::skipped(
            "backends",
            "the pool speaks HTTP/2 to its backends; only connects were tried (step \"layer4\")",
        );
    }
    if facts.backends.iter().all(|backend| backend.straight.is_empty()) {
        return Step::skipped("backends", "nothing could be sent to them");
    }
    let lines = facts.backends.iter().flat_map(|backend| {
        tallied(&backend.straight).into_iter().map(move |line| format!("{}: {line}", backend.address))
    });
    let bad: Vec<SocketAddr> = facts
        .backends
        .iter()
        .filter(|backend| worst(backend).is_some_and(|condition| !condition.is_fit()))
        .map(|backend| backend.address)
        .collect();
    let (mark, means) = match (bad.len(), differences(facts)) {
        (0, None) => (Mark::Good, "straight and through the balancer the answers are alike".to_owned()),
        (0, Some(difference)) => (Mark::Note, difference),
        (count, _) if count == facts.backends.len() => {
            (Mark::Bad, "all of them fail without the balancer too".to_owned())
        }
        (_, _) => (Mark::Bad, format!("it is {} and not the others", list(&bad))),
    };
    Step::new("backends", mark, means).saw_all(lines)
}

/// How the balancer's answer differs from the backends' own, when all of them are fit.
fn differences(facts: &Facts) -> Option<String> {
    let first = |tries: &[Try]| tries.iter().find_map(|attempt| answer(attempt).cloned());
    let through = first(&facts.through)?;
    let straight: Vec<_> = facts.backends.iter().filter_map(|backend| first(&backend.straight)).collect();
    if straight.is_empty() {
        return None;
    }
    if !straight.iter().any(|answer| answer.status == through.status) {
        return Some(format!(
            "the status differs: {} through the balancer, {} straight",
            through.status, straight[0].status
        ));
    }
    let coded = |answer: &super::super::facts::Answer| answer.field("content-encoding").is_some();
    if coded(&through) || straight.iter().any(coded) {
        return None;
    }
    if straight.len() > 1 && straight.iter().any(|answer| answer.body_hash != straight[0].body_hash) {
        return Some(
            "the backends' bodies differ from each other: pages made anew each time, or different versions".to_owned(),
        );
    }
    (!straight.iter().any(|answer| answer.body_hash == through.body_hash))
        .then(|| "the body differs through the balancer and straight: a page made anew each time, or something in between changes it".to_owned())
}

pub(super) fn health_page(facts: &Facts) -> Step {
    let probed: Vec<(&Backend, _)> =
        facts.backends.iter().filter_map(|backend| Some((backend, backend.probe.as_ref()?))).collect();
    if probed.is_empty() {
        return Step::skipped("health page", "the pool has no http check, or its request was not sent");
    }
    let lines = probed.iter().map(|(backend, probe)| {
        let static_page = answer(&probe.seen)
            .is_some_and(|answer| answer.field("etag").is_some() && answer.field("last-modified").is_some());
        let hint = if static_page { "; ETag and Last-Modified are those of a file" } else { "" };
        format!(
            "{}: {} {} {}, after {}{hint}",
            backend.address,
            probe.method,
            probe.path,
            Condition::of(&probe.seen).does(),
            time(waited(&probe.seen))
        )
    });
    let green = |backend: &&(&Backend, &super::super::facts::ProbeLike)| {
        backend.1.passes && worst(backend.0).is_some_and(|condition| !condition.is_fit())
    };
    let (mark, means) = if probed.iter().any(|pair| green(&pair)) {
        (Mark::Bad, "the check's page is fine while the application fails: probes cannot see this fault".to_owned())
    } else if probed
        .iter()
        .any(|(backend, probe)| !probe.passes && worst(backend).is_some_and(|it| matches!(it, Condition::Good(_))))
    {
        (
            Mark::Bad,
            "the application answers and the check's page does not: the check asks for the wrong thing".to_owned(),
        )
    } else if probed.iter().any(|(_, probe)| !probe.passes) {
        (
            Mark::Bad,
            "where the check's page fails, the application does too: probes and clients see the same".to_owned(),
        )
    } else {
        (Mark::Good, String::new())
    };
    Step::new("health page", mark, means).saw_all(lines)
}

pub(super) fn application(facts: &Facts) -> Step {
    let asked: Vec<_> =
        facts.backends.iter().filter_map(|backend| Some((backend, backend.neighbour.as_ref()?))).collect();
    if asked.is_empty() {
        return Step::skipped("application", "asked only where a .php page ends in 502, 503, 504 or silence");
    }
    let lines = asked.iter().map(|(backend, attempt)| {
        let runs = answer(attempt).is_some_and(|answer| answer.looks == Looks::PhpNotFound);
        let by = if runs { " by php-fpm itself" } else { "" };
        format!(
            "{}: a script that is not there: it {}{by}, after {}",
            backend.address,
            Condition::of(attempt).does(),
            time(waited(attempt))
        )
    });
    let runs = asked.iter().all(|(_, attempt)| Condition::of(attempt).is_fit());
    let (mark, means) = if runs {
        (Mark::Note, "the application runs: it is this request that fails")
    } else {
        (Mark::Bad, "no script is run at all")
    };
    Step::new("application", mark, means).saw_all(lines)
}

pub(super) fn other_host(facts: &Facts) -> Step {
    let asked: Vec<_> =
        facts.backends.iter().filter_map(|backend| Some((backend, backend.other_host.as_ref()?))).collect();
    if asked.is_empty() {
        return Step::skipped("host name", "check and clients send the same Host, or none is known");
    }
    let lines = asked.iter().map(|(backend, (host, attempt))| {
        format!("{} with Host: {host} {}", backend.address, Condition::of(attempt).does())
    });
    let differs = asked
        .iter()
        .any(|(backend, (_, attempt))| worst(backend).is_some_and(|condition| condition != Condition::of(attempt)));
    let (mark, means) = if differs {
        (Mark::Note, "the answer depends on the Host that is sent")
    } else {
        (Mark::Good, "the Host makes no difference")
    };
    Step::new("host name", mark, means).saw_all(lines)
}

pub(super) fn sizes(facts: &Facts) -> Step {
    let heads =
        facts.through.iter().chain(facts.backends.iter().flat_map(|backend| &backend.straight)).filter_map(answer);
    let largest = heads.map(|answer| answer.head_bytes).max();
    let limit = facts
        .pool
        .as_ref()
        .map(|pool| pool.header_limit)
        .or_else(|| facts.listener.as_ref().map(|listener| listener.header_limit));
    let sent = facts.question.head_bytes;
    let Some(largest) = largest else { return Step::skipped("sizes", "no head of an answer was seen") };
    let step = |mark, means: &str| {
        let step = Step::new("sizes", mark, means)
            .saw(format!("request head {sent} bytes, largest answer head {largest} bytes"));
        match limit {
            Some(limit) => step.saw(format!("header_limit is {limit} bytes")),
            None => step,
        }
    };
    if limit.is_some_and(|limit| limit > 0 && largest > limit) {
        return step(Mark::Bad, "the answer's head is larger than the balancer takes");
    }
    match largest.max(sent) {
        USUAL_HEAD_LARGE.. => step(
            Mark::Note,
            "larger than the 8 KiB that nginx takes for a long head (large_client_header_buffers, fastcgi_buffer_size)",
        ),
        USUAL_HEAD.. => step(
            Mark::Note,
            "larger than the 4 KiB that nginx takes in one buffer (proxy_buffer_size, fastcgi_buffer_size)",
        ),
        _ => step(Mark::Good, ""),
    }
}

pub(super) fn times(facts: &Facts) -> Step {
    let slowest = |tries: &[Try]| tries.iter().map(waited).max();
    let straight: Vec<_> =
        facts.backends.iter().filter_map(|backend| Some((backend.address, slowest(&backend.straight)?))).collect();
    let Some(through) = slowest(&facts.through) else { return Step::skipped("times", "nothing was sent") };
    let mut step =
        Step::new("times", Mark::Good, "").saw(format!("through the balancer {} at most to the head", time(through)));
    if let Some((address, longest)) = straight.iter().max_by_key(|(_, took)| *took) {
        step = step.saw(format!("straight {} at most, at {address}", time(*longest)));
    }
    let Some(pool) = &facts.pool else { return step };
    step = step.saw(format!(
        "response_timeout is {}, connect_timeout {}",
        time(pool.response_timeout),
        time(pool.connect_timeout)
    ));
    let longest = straight.iter().map(|(_, took)| *took).max().unwrap_or(through).max(through);
    if !pool.response_timeout.is_zero() && longest >= pool.response_timeout {
        step.mark = Mark::Bad;
        step.means = "answers come later than the balancer waits".to_owned();
    } else if !pool.response_timeout.is_zero() && longest * 2 >= pool.response_timeout {
        step.mark = Mark::Note;
        step.means = "answers take more than half of what the balancer waits".to_owned();
    }
    step
}

pub(super) fn layer4(facts: &Facts) -> Step {
    let lines: Vec<(bool, String)> = facts
        .backends
        .iter()
        .flat_map(|backend| &backend.connects)
        .filter(|connect| connect.from.is_none())
        .map(|connect| match &connect.result {
            Ok(took) => (true, format!("{} takes a TCP connection in {}", connect.to, time(*took))),
            Err(failure) => (false, format!("{} {}", connect.to, failed(failure))),
        })
        .collect();
    if lines.is_empty() {
        return Step::skipped("layer 4", "no backend to connect to");
    }
    let connected = lines.iter().filter(|(worked, _)| *worked).count();
    let failing = facts.backends.iter().any(|backend| {
        worst(backend).is_some_and(|condition| {
            !condition.is_fit()
                && !matches!(
                    condition,
                    Condition::Failed(Failure::Refused | Failure::NoAnswerToSyn | Failure::Unreachable { .. })
                        | Condition::Relayed(Relayed::ResetAtOnce)
                )
        })
    });
    let (mark, means) = if connected < lines.len() {
        (Mark::Bad, "plain TCP does not work either: it is the network, a firewall or a service that is down, not HTTP")
    } else if failing {
        (
            Mark::Note,
            "plain TCP works: the fault is above it, in the service itself. A tcp listener would carry it to the client unchanged",
        )
    } else {
        (Mark::Good, "")
    };
    Step::new("layer 4", mark, means).saw_all(lines.into_iter().map(|(_, line)| line))
}

pub(super) fn loops(facts: &Facts) -> Step {
    let looped = |tries: &[Try]| {
        tries.iter().any(|attempt| {
            matches!(
                Condition::of(attempt),
                Condition::Explained(_, Cause::LoopDetected)
                    | Condition::ServerError(508, _)
                    | Condition::PassedOn(508, _)
            )
        })
    };
    let own: Vec<String> = facts
        .backends
        .iter()
        .filter_map(|backend| {
            Some(format!("{} is listener \"{}\" of this balancer", backend.address, backend.is_listener.as_ref()?))
        })
        .collect();
    if looped(&facts.through) {
        return Step::new("loop", Mark::Bad, "the request comes back to the balancer")
            .saw("508 through the balancer")
            .saw_all(own);
    }
    if !own.is_empty() {
        return Step::new("loop", Mark::Bad, "the balancer is its own backend").saw_all(own);
    }
    if facts.backends.is_empty() {
        return Step::skipped("loop", "no backend is known");
    }
    if facts.question.scheme == Scheme::Tcp || facts.question.scheme == Scheme::Udp {
        return Step::new("loop", Mark::Good, "").saw("no backend is a listener of this balancer");
    }
    Step::new("loop", Mark::Good, "").saw("no 508, and no backend is a listener of this balancer")
}

pub(super) fn firewall(facts: &Facts) -> Step {
    let chosen: Vec<_> =
        facts.backends.iter().flat_map(|backend| &backend.connects).filter(|connect| connect.from.is_some()).collect();
    if chosen.is_empty() {
        return Step::skipped(
            "firewall",
            "probes and traffic come from the kernel's choice of address, as this command does (step \"layer 4\")",
        );
    }
    let from = |connect: &&super::super::facts::Connect| connect.from.map_or_else(String::new, |from| from.to_string());
    let lines = chosen.iter().map(|connect| match &connect.result {
        Ok(took) => format!("from {} to {}: connects in {}", from(connect), connect.to, time(*took)),
        Err(failure) => format!("from {} to {}: it {}", from(connect), connect.to, failed(failure)),
    });
    let other = |connect: &&super::super::facts::Connect| {
        let mut all = facts.backends.iter().flat_map(|backend| &backend.connects);
        connect.result.is_err()
            && all.any(|other| other.to == connect.to && other.from != connect.from && other.result.is_ok())
    };
    if chosen.iter().any(other) {
        return Step::new("firewall", Mark::Bad, "something lets one source address pass and not the other")
            .saw_all(lines);
    }
    Step::new("firewall", Mark::Good, "").saw_all(lines)
}
