//! The status document, made from the control room's views.
//!
//! Names and words are those of the config and the log. It reads and changes nothing; orders have a way of their own.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Control, Probing, TargetStatus};
use evenkeel_model::event::{Event, Value as Field, What};
use evenkeel_model::finding::{Finding, Pass, ProbeResult, Trust, Void};
use evenkeel_model::standing::{AgentWord, Ramp, Traffic};
use evenkeel_model::{BackendId, Epoch, Instant, ListenerId};
use evenkeel_observe::Registry;
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_plan::{Plan, Pool, StickyMode};
use evenkeel_reactor::Clock;
use serde_json::{Value, json};

use crate::boss::Boss;

/// Events shown in the status document, whatever they tell.
const EVENTS_SHOWN: usize = 50;
/// Changed verdicts shown beside them, though they be older: what `window` measures must not be lost among reloads.
const VERDICTS_SHOWN: usize = 50;

/// Whether the node can do its job: every pool that a listener serves has somebody to offer.
pub fn ready(control: &Control) -> Value {
    let snapshot = control.snapshot();
    let mut refusing = Vec::new();
    for listener in &snapshot.plan.listeners {
        for pool in listener.pools() {
            if let Some(cause) = snapshot.pool(pool).refusal {
                let pool = &snapshot.plan.pools[pool.index()].name;
                refusing.push(json!({ "listener": *listener.name, "pool": **pool, "cause": cause.code() }));
            }
        }
    }
    json!({ "ready": refusing.is_empty(), "refusing": refusing })
}

/// Everything the node knows, as one document. `None` when it has stopped.
///
/// It is put together from short looks at the control room. With 100,000 targets a single one would take a second, in which no
/// probe could start or end.
pub fn document(boss: &Boss, registry: &Arc<Registry>, epoch: Epoch, clock: Clock) -> Option<Value> {
    loop {
        let of = Arc::clone(registry);
        let (plan, mut document) = boss.look(move |control| outline(control, &of, epoch, clock.now()))?;
        if let Some(backends) = backends_by_pool(boss, &plan, registry, epoch, clock)? {
            for (pool, backends) in backends.into_iter().enumerate() {
                document["pools"][pool]["backends"] = Value::Array(backends);
            }
            return Some(document);
        }
    }
}

/// The inner one is `None` when another plan came in between, so that the pages of both would be mixed.
fn backends_by_pool(
    boss: &Boss,
    plan: &Arc<Plan>,
    registry: &Arc<Registry>,
    epoch: Epoch,
    clock: Clock,
) -> Option<Option<Vec<Vec<Value>>>> {
    let mut pools = vec![Vec::new(); plan.pools.len()];
    for part in parts(plan.backends.len()) {
        let (registry, told_of) = (Arc::clone(registry), part.clone());
        let told = look_at(boss, plan, move |control| {
            let now = clock.now();
            part.map(|index| backend(control, &registry, epoch, now, BackendId::from_index(index))).collect::<Vec<_>>()
        })?;
        let Some(told) = told else { return Some(None) };
        for (number, value) in told_of.zip(told) {
            pools[plan.backends[number].pool.index()].push(value);
        }
    }
    Some(Some(pools))
}

/// Backends or targets that one look tells of: a millisecond or two of the control thread.
const AT_ONCE: usize = 100;

/// All of so many, in pieces.
pub fn parts(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(AT_ONCE).map(move |first| first..count.min(first + AT_ONCE))
}

/// Looks at the control room if it still has this plan. The outer `None` says that the node has stopped.
pub fn look_at<T: Send + 'static>(
    boss: &Boss,
    plan: &Arc<Plan>,
    look: impl FnOnce(&Control) -> T + Send + 'static,
) -> Option<Option<T>> {
    let plan = Arc::clone(plan);
    boss.look(move |control| Arc::ptr_eq(&control.snapshot().plan, &plan).then(|| look(control)))
}

/// All but the backends.
fn outline(control: &Control, registry: &Registry, epoch: Epoch, now: Instant) -> (Arc<Plan>, Value) {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let listeners: Vec<Value> =
        (0..plan.listeners.len()).map(|index| listener(&snapshot, registry, ListenerId::from_index(index))).collect();
    let pools: Vec<Value> = plan
        .pools
        .iter()
        .zip(&snapshot.pools)
        .map(|(pool, view)| {
            json!({
                "name": *pool.name,
                "schedule": pool.schedule.word(),
                "sticky": sticky_word(pool),
                "eligible": view.candidates.members().len(),
                "refusal": view.refusal.map(evenkeel_model::Cause::code),
                "panic": view.panic,
                "backends": [],
            })
        })
        .collect();
    let events: Vec<Value> = latest(control.events().rev()).map(|shown| event(shown, epoch)).collect();
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": epoch.rfc3339(now),
        "started": epoch.rfc3339(Instant::START),
        "generation": snapshot.generation,
        "suspects_itself_since": control.suspects_itself_since().map(|since| epoch.rfc3339(since)),
        "holds_verdicts": control.holds_verdicts(),
        "probing": probing(control),
        "listeners": listeners,
        "pools": pools,
        "events": events,
    });
    (Arc::clone(plan), document)
}

/// How the node keeps up with its probes.
fn probing(control: &Control) -> Value {
    let waits = control.probe_waits();
    json!({
        "targets": control.targets().len(),
        "in_flight": control.probes_in_flight(),
        "lateness": {
            "probes": waits.probes,
            "p50_ms": millis(waits.percentile(50)),
            "p99_ms": millis(waits.percentile(99)),
            "longest_ms": millis(waits.longest),
        },
    })
}

/// How the pool's clients find their backend again, in the words of `pool.sticky.mode`.
fn sticky_word(pool: &Pool) -> Option<&'static str> {
    let by_cookie = pool.sticky.as_ref().map(|sticky| match sticky.mode {
        StickyMode::Insert => "insert",
        StickyMode::Rewrite => "rewrite",
    });
    by_cookie.or(pool.affinity.filter(|affinity| !affinity.timeout.is_zero()).map(|_| "address"))
}

fn listener(snapshot: &evenkeel_plan::Snapshot, registry: &Registry, id: ListenerId) -> Value {
    let plan = &snapshot.plan;
    let listener = &plan.listeners[id.index()];
    let number = |of: fn(&evenkeel_observe::ListenerMetrics) -> u64| registry.sum_listener(&listener.name, of);
    json!({
        "name": *listener.name,
        "protocol": listener.protocol.word(),
        "listen": listener.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "pool": listener.pool.map(|pool| &*plan.pools[pool.index()].name),
        "connections": number(|set| set.connections_now.read()),
        "connections_total": number(|set| set.connections.read()),
        "requests_total": number(|set| set.requests.iter().map(evenkeel_observe::metrics::Count::read).sum()),
    })
}

fn backend(control: &Control, registry: &Registry, epoch: Epoch, now: Instant, id: BackendId) -> Value {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let backend = &plan.backends[id.index()];
    let standing = control.standing(id);
    let label = BackendLabel {
        pool: plan.pools[backend.pool.index()].name.clone(),
        backend: backend.address.to_string().into(),
    };
    let number = |of: fn(&evenkeel_observe::BackendMetrics) -> u64| registry.sum_backend(&label, of);
    json!({
        "address": backend.address.to_string(),
        "weight": backend.weight,
        "server_id": backend.server_id.as_deref().map(hex),
        "effective_weight": standing.effective_weight(backend.weight),
        "verdict": standing.verdict.word(),
        "since": since(epoch, standing.verdict_since, control.held_before(id)),
        "order": standing.order.word(),
        "agent": says_more(standing.agent),
        "ejected_until": match standing.traffic {
            Traffic::Good => None,
            Traffic::Ejected { until } => Some(epoch.rfc3339(until)),
        },
        "ramp_percent": match standing.ramp { Ramp::Full => 100, Ramp::At(percent) => percent },
        "in_flight": number(|set| set.in_flight.read()),
        "attempts_total": number(|set| set.attempts.read()),
        "checks": plan.pools[backend.pool.index()]
            .checks
            .iter()
            .zip(&backend.targets)
            .map(|(named, &target)| check(&named.name, &control.target(target), epoch, now))
            .collect::<Vec<_>>(),
    })
}

/// A moment that may have been before the process began, by so much.
fn since(epoch: Epoch, at: Instant, before_start: Duration) -> String {
    let earlier = u64::try_from(before_start.as_nanos()).unwrap_or(u64::MAX);
    Epoch { unix_nanos: epoch.unix_nanos.saturating_sub(earlier) }.rfc3339(at)
}

/// What the agents of a backend say together; `null` when that changes nothing.
fn says_more(word: AgentWord) -> Option<Value> {
    (word != AgentWord::default()).then(|| json!({ "order": word.order.word(), "percent": word.percent }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(name: &str, target: &TargetStatus<'_>, epoch: Epoch, now: Instant) -> Value {
    let settings = target.check();
    let counts = target.counts();
    let probing = match target.probing() {
        Probing::Stopped => json!({ "state": "stopped" }),
        Probing::Due(at) => json!({ "state": "waiting", "next_in_ms": millis(at - now) }),
        Probing::InFlight { since } => json!({ "state": "in_flight", "for_ms": millis(now - since) }),
    };
    let recent: Vec<&Finding> = target.recent().collect();
    let silence = target.silence();
    json!({
        "name": name,
        "kind": settings.probe.kind().word(),
        "address": target.address().to_string(),
        "verdict": target.verdict().word(),
        "since": since(epoch, target.since(), target.held_before()),
        "agent": target.word().map(|word| word.to_string()),
        "rests_on_silence": silence.is_some(),
        "silence": silence.map(Trust::word),
        "progress": target.progress().map(|progress| json!({
            "toward": progress.toward.word(),
            "results": progress.results,
            "needed": progress.needed,
        })),
        "passed_total": counts.passed,
        "failed_total": counts.failed,
        "void_total": counts.void,
        "kept_total": counts.kept,
        "probing": probing,
        "recent": recent.iter().rev().map(|shown| finding(shown, epoch)).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding, epoch: Epoch) -> Value {
    let mut value = json!({
        "kind": finding.kind.word(),
        "started": epoch.rfc3339(finding.started),
        "duration_ms": millis(finding.duration()),
        "result": finding.result.word(),
        "text": finding.to_string(),
    });
    match &finding.result {
        ProbeResult::Passed(Pass::Status(status)) => value["status"] = json!(status),
        ProbeResult::Passed(Pass::Secured { days_left }) => value["days_left"] = json!(days_left),
        ProbeResult::Passed(Pass::Agent(says)) => value["agent"] = json!(says.to_string()),
        ProbeResult::Passed(Pass::Dns { code, answers }) => {
            value["dns_code"] = json!(code);
            value["answers"] = json!(answers);
        }
        ProbeResult::Passed(Pass::Exited { output }) => value["output"] = json!(**output),
        ProbeResult::Passed(Pass::Connected | Pass::Answered | Pass::Echoed | Pass::Silent(_) | Pass::Serving) => {}
        ProbeResult::Failed(failure) => {
            use evenkeel_model::finding::FailureReason as Reason;
            value["phase"] = json!(failure.phase.word());
            value["reason"] = json!(failure.reason.word());
            match &failure.reason {
                Reason::Unreachable { errno } | Reason::Socket { errno } | Reason::NotStarted { errno } => {
                    value["errno"] = json!(errno);
                }
                Reason::NoEcho { errno } => value["errno"] = json!(errno),
                Reason::Exited { status, output } => {
                    value["exit_status"] = json!(status);
                    value["output"] = json!(**output);
                }
                Reason::Killed { signal, output } => {
                    value["signal"] = json!(signal);
                    value["output"] = json!(**output);
                }
                Reason::Status { got } => value["status"] = json!(got),
                Reason::Expiring { days_left, .. } => value["days_left"] = json!(days_left),
                Reason::Step { step, .. } => value["step"] = json!(step),
                Reason::Grpc { status, .. } => value["grpc_status"] = json!(status),
                Reason::DnsCode { got } => value["dns_code"] = json!(got),
                Reason::TimedOut
                | Reason::Refused
                | Reason::Reset
                | Reason::Closed
                | Reason::Tls { .. }
                | Reason::NotHttp { .. }
                | Reason::NotHttp2 { .. }
                | Reason::StreamReset { .. }
                | Reason::GoingAway { .. }
                | Reason::NotServing { .. }
                | Reason::NotGrpc { .. }
                | Reason::Mismatch { .. }
                | Reason::TrafficRefused { .. }
                | Reason::Unfinished { .. }
                | Reason::Body { .. }
                | Reason::AgentDown { .. }
                | Reason::NotAgent { .. }
                | Reason::DnsAddresses { .. }
                | Reason::NotDns { .. } => {}
            }
        }
        ProbeResult::Void(Void::NoResources { errno }) => value["errno"] = json!(errno),
        ProbeResult::Void(_) => {}
    }
    value
}

/// An event as JSON: time, name, level, its fields and the line a person reads.
pub fn event(event: &Event, epoch: Epoch) -> Value {
    let mut value = json!({
        "time": epoch.rfc3339(event.at),
        "event": event.name(),
        "level": event.level().word(),
        "text": event.to_string(),
    });
    event.fields(&mut |key, field| {
        value[key] = match field {
            Field::Text(text) => json!(text),
            Field::Address(address) => json!(address.to_string()),
            Field::Count(count) => json!(count),
            Field::Signed(number) => json!(number),
            Field::Time(duration) => json!(millis(duration)),
            Field::Findings(findings) => json!(findings.iter().map(|shown| finding(shown, epoch)).collect::<Vec<_>>()),
        };
    });
    value
}

/// Of events that are newest first, those that are shown.
fn latest<'a>(events: impl Iterator<Item = &'a Event>) -> impl Iterator<Item = &'a Event> {
    let mut verdicts = 0;
    events.enumerate().filter_map(move |(place, event)| {
        let verdict = matches!(event.what, What::VerdictChanged(_));
        verdicts += usize::from(verdict);
        (place < EVENTS_SHOWN || verdict && verdicts <= VERDICTS_SHOWN).then_some(event)
    })
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::event::{Because, VerdictChanged, Voids};
    use evenkeel_model::standing::Verdict;

    #[test]
    fn the_latest_events_are_shown_and_changed_verdicts_that_others_would_have_pushed_out() {
        let at = Instant::START;
        let other = Event { at, what: What::ProbesVoid(Voids::default()) };
        let changed = VerdictChanged {
            pool: "web".into(),
            backend: "10.0.3.7:8080".parse().expect("a valid address"),
            from: Verdict::Healthy,
            to: Verdict::Unknown,
            check: None,
            checks: 1,
            because: Because::CheckOff,
        };
        let verdict = Event { at, what: What::VerdictChanged(changed) };
        let shown = |others: usize, verdicts: usize| {
            let events = std::iter::repeat_n(&other, others).chain(std::iter::repeat_n(&verdict, verdicts));
            let names: Vec<_> = latest(events).map(Event::name).collect();
            (names.iter().filter(|name| **name == other.name()).count(), names.len())
        };
        assert_eq!(shown(10, 1), (10, 11));
        assert_eq!(shown(200, 3), (EVENTS_SHOWN, EVENTS_SHOWN + 3));
        assert_eq!(shown(200, 300), (EVENTS_SHOWN, EVENTS_SHOWN + VERDICTS_SHOWN));
        assert_eq!(shown(0, 300), (0, EVENTS_SHOWN.max(VERDICTS_SHOWN)));
    }
}
