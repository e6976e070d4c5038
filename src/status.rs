//! The status document and the health metrics, made from the control room's views.
//!
//! Names and words are those of the config and the log. It reads and changes nothing; orders have a way of their own.

use std::fmt::Write;
use std::time::Duration;

use evenkeel_control::{Control, Probing, TargetStatus};
use evenkeel_model::event::{Event, Value as Field};
use evenkeel_model::finding::{Finding, Pass, ProbeResult, Trust, Void};
use evenkeel_model::standing::{AgentWord, Ramp, Traffic, Verdict};
use evenkeel_model::{BackendId, Epoch, Instant, ListenerId};
use evenkeel_observe::Registry;
use evenkeel_observe::metrics::{BackendLabel, escape};
use evenkeel_plan::{Pool, StickyMode};
use serde_json::{Value, json};

/// Events shown in the status document; the whole ring is the events page's.
const EVENTS_SHOWN: usize = 50;

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

/// Everything the node knows, as one document.
pub fn document(control: &Control, registry: &Registry, epoch: Epoch, now: Instant) -> Value {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let listeners: Vec<Value> =
        (0..plan.listeners.len()).map(|index| listener(&snapshot, registry, ListenerId::from_index(index))).collect();
    let pools: Vec<Value> = plan
        .pools
        .iter()
        .enumerate()
        .map(|(index, pool)| {
            let view = &snapshot.pools[index];
            let id = evenkeel_model::PoolId::from_index(index);
            let backends: Vec<Value> =
                plan.backends_of(id).map(|(id, _)| backend(control, registry, epoch, now, id)).collect();
            json!({
                "name": *pool.name,
                "schedule": pool.schedule.word(),
                "sticky": sticky_word(pool),
                "eligible": view.candidates.members().len(),
                "refusal": view.refusal.map(evenkeel_model::Cause::code),
                "panic": view.panic,
                "backends": backends,
            })
        })
        .collect();
    let events: Vec<Value> = control.events().rev().take(EVENTS_SHOWN).map(|shown| event(shown, epoch)).collect();
    json!({
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
    })
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

/// Families about health, one row per backend and per target.
pub fn health_metrics(control: &Control) -> String {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let mut out = String::new();
    let labels = |id: BackendId| {
        let backend = &plan.backends[id.index()];
        format!("pool=\"{}\",backend=\"{}\"", escape(&plan.pools[backend.pool.index()].name), backend.address)
    };
    out.push_str("# HELP evenkeel_backend_verdict Verdict of the backend: 1 for the word that holds.\n");
    out.push_str("# TYPE evenkeel_backend_verdict gauge\n");
    for index in 0..plan.backends.len() {
        let id = BackendId::from_index(index);
        for verdict in Verdict::ALL {
            let holds = u8::from(control.standing(id).verdict == verdict);
            let _ = writeln!(out, "evenkeel_backend_verdict{{{},verdict=\"{}\"}} {holds}", labels(id), verdict.word());
        }
    }
    out.push_str("# HELP evenkeel_backend_ejected Whether traffic spoke against the backend and it is set aside.\n");
    out.push_str("# TYPE evenkeel_backend_ejected gauge\n");
    for index in 0..plan.backends.len() {
        let id = BackendId::from_index(index);
        let ejected = u8::from(control.standing(id).traffic.is_ejected());
        let _ = writeln!(out, "evenkeel_backend_ejected{{{}}} {ejected}", labels(id));
    }
    out.push_str("# HELP evenkeel_pool_panic Whether too little of the pool may be used and new work goes to unhealthy backends too.\n");
    out.push_str("# TYPE evenkeel_pool_panic gauge\n");
    for (pool, view) in plan.pools.iter().zip(&snapshot.pools) {
        let _ = writeln!(out, "evenkeel_pool_panic{{pool=\"{}\"}} {}", escape(&pool.name), u8::from(view.panic));
    }
    out.push_str("# HELP evenkeel_suspects_itself Whether most checks turned to failing, or became void, together.\n");
    out.push_str("# TYPE evenkeel_suspects_itself gauge\n");
    let _ = writeln!(out, "evenkeel_suspects_itself {}", u8::from(control.suspects_itself_since().is_some()));
    out.push_str("# HELP evenkeel_holds_verdicts Whether no verdict turns unhealthy for that reason.\n");
    out.push_str("# TYPE evenkeel_holds_verdicts gauge\n");
    let _ = writeln!(out, "evenkeel_holds_verdicts {}", u8::from(control.holds_verdicts()));
    out.push_str("# HELP evenkeel_backend_effective_weight Weight that schedules see: 0 takes no new work.\n");
    out.push_str("# TYPE evenkeel_backend_effective_weight gauge\n");
    for (index, backend) in plan.backends.iter().enumerate() {
        let id = BackendId::from_index(index);
        let weight = control.standing(id).effective_weight(backend.weight);
        let _ = writeln!(out, "evenkeel_backend_effective_weight{{{}}} {weight}", labels(id));
    }
    // Rows of a target that several backends rest on say the same: people look for their backend, not for our targets.
    let checks = || {
        plan.backends.iter().enumerate().flat_map(|(index, backend)| {
            let names = plan.pools[backend.pool.index()].checks.iter().map(|check| escape(&check.name));
            let labels = labels(BackendId::from_index(index));
            let row = move |(name, &target)| (format!("{labels},check=\"{name}\""), control.target(target));
            names.zip(&backend.targets).map(row)
        })
    };
    out.push_str("# HELP evenkeel_check_verdict Verdict of one check of the backend: 1 for the word that holds.\n");
    out.push_str("# TYPE evenkeel_check_verdict gauge\n");
    for (labels, target) in checks() {
        for verdict in Verdict::ALL {
            let holds = u8::from(target.verdict() == verdict);
            let _ = writeln!(out, "evenkeel_check_verdict{{{labels},verdict=\"{}\"}} {holds}", verdict.word());
        }
    }
    out.push_str(
        "# HELP evenkeel_backend_rests_on_silence Whether the last word of a check that takes silence for health was silence, and whether it can be trusted.\n",
    );
    out.push_str("# TYPE evenkeel_backend_rests_on_silence gauge\n");
    for (labels, target) in checks().filter(|(_, target)| target.check().probe.takes_silence()) {
        for trust in Trust::ALL {
            let holds = u8::from(target.silence() == Some(trust));
            let word = trust.word();
            let _ = writeln!(out, "evenkeel_backend_rests_on_silence{{{labels},silence=\"{word}\"}} {holds}");
        }
    }
    out.push_str(
        "# HELP evenkeel_check_probe_seconds How long the last probe of the check took that passed or failed.\n",
    );
    out.push_str("# TYPE evenkeel_check_probe_seconds gauge\n");
    for (labels, target) in checks() {
        let counts = |finding: &&Finding| finding.result.passed() || finding.result.failed();
        if let Some(last) = target.recent().rev().find(counts) {
            let _ = writeln!(out, "evenkeel_check_probe_seconds{{{labels}}} {}", last.duration().as_secs_f64());
        }
    }
    lateness(control, &mut out);
    out.push_str("# HELP evenkeel_probes_total Probes ended, by result.\n# TYPE evenkeel_probes_total counter\n");
    // Two checks of one address differ in their settings only; their numbers are added up.
    let mut sums: std::collections::BTreeMap<(String, &str), [u64; 3]> = std::collections::BTreeMap::new();
    for target in control.targets() {
        let counts = target.counts();
        let key = (target.address().to_string(), target.check().probe.kind().word());
        let sum = sums.entry(key).or_default();
        for (total, more) in sum.iter_mut().zip([counts.passed, counts.failed, counts.void]) {
            *total += more;
        }
    }
    for ((address, kind), sum) in sums {
        for (result, count) in ["passed", "failed", "void"].into_iter().zip(sum) {
            let _ = writeln!(
                out,
                "evenkeel_probes_total{{target=\"{address}\",kind=\"{kind}\",result=\"{result}\"}} {count}"
            );
        }
    }
    out
}

/// How long after their time probes started, as a histogram.
fn lateness(control: &Control, out: &mut String) {
    const NAME: &str = "evenkeel_probe_lateness_seconds";
    let waits = control.probe_waits();
    let _ =
        writeln!(out, "# HELP {NAME} How long due probes waited for the node to start them.\n# TYPE {NAME} histogram");
    for (bound, probes) in waits.up_to() {
        let _ = writeln!(out, "{NAME}_bucket{{le=\"{}\"}} {probes}", bound.as_secs_f64());
    }
    let _ = writeln!(out, "{NAME}_bucket{{le=\"+Inf\"}} {}", waits.probes);
    let _ = writeln!(out, "{NAME}_sum {}\n{NAME}_count {}", waits.total.as_secs_f64(), waits.probes);
    let longest = "evenkeel_probe_lateness_longest_seconds";
    let _ = writeln!(out, "# HELP {longest} The longest of these waits.\n# TYPE {longest} gauge");
    let _ = writeln!(out, "{longest} {}", waits.longest.as_secs_f64());
}

fn millis(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
