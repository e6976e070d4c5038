//! The status document, made from the control room's views.
//!
//! Names and words are those of the config and the log. It reads and changes nothing; orders have a way of their own.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Control, Probing, TargetStatus};
use evenkeel_model::event::{Event, Value as Field, What};
use evenkeel_model::finding::{FailureReason, Finding, Pass, ProbeResult, Trust, Void};
use evenkeel_model::standing::{AgentWord, Ramp, Traffic};
use evenkeel_model::{BackendId, Epoch, Instant, ListenerId, PoolId};
use evenkeel_observe::Registry;
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_plan::{Plan, Pool, Snapshot, StickyMode};
use evenkeel_reactor::Clock;
use serde_json::{Map, json};

use crate::boss::Boss;

mod rules;
pub mod shape;

use shape::Status;

/// Events shown in the status document, whatever they tell.
const EVENTS_SHOWN: usize = 50;
/// Changed verdicts shown beside them, though they be older: what `window` measures must not be lost among reloads.
const VERDICTS_SHOWN: usize = 50;

/// Whether the node can do its job: every pool that a listener serves has somebody to offer.
pub fn ready(control: &Control) -> shape::Ready {
    let snapshot = control.snapshot();
    let mut refusing = Vec::new();
    for listener in &snapshot.plan.listeners {
        for pool in listener.pools() {
            if let Some(cause) = snapshot.pool(pool).refusal {
                let pool = snapshot.plan.pools[pool.index()].name.to_string();
                refusing.push(shape::Refusing { listener: listener.name.to_string(), pool, cause: cause.code() });
            }
        }
    }
    shape::Ready { ready: refusing.is_empty(), stopping: false, refusing }
}

/// Everything the node knows, as one document. `None` when it has stopped.
///
/// It is put together from short looks at the control room. With 100,000 targets a single one would take a second, in which no
/// probe could start or end.
pub fn document(boss: &Boss, registry: &Arc<Registry>, epoch: Epoch, clock: Clock) -> Option<Status> {
    loop {
        let of = Arc::clone(registry);
        let (plan, mut document) = boss.look(move |control| outline(control, &of, epoch, clock.now()))?;
        if let Some(backends) = backends_by_pool(boss, &plan, registry, epoch, clock)? {
            for (pool, backends) in document.pools.iter_mut().zip(backends) {
                pool.backends = backends;
            }
            return Some(document);
        }
    }
}

/// One pool; when there is none of the name, the names there are. `None` when the node has stopped.
pub fn one_pool(
    boss: &Boss,
    registry: &Arc<Registry>,
    epoch: Epoch,
    clock: Clock,
    name: &str,
) -> Option<Result<shape::Pool, Vec<String>>> {
    loop {
        let wanted = name.to_owned();
        let (plan, found) = boss.look(move |control| {
            let snapshot = control.snapshot();
            let found = pool_named(&snapshot.plan, &wanted).map(|id| (id, pool(&snapshot, id)));
            (Arc::clone(&snapshot.plan), found)
        })?;
        let Some((id, mut told)) = found else { return Some(Err(pool_names(&plan))) };
        let of_pool = plan.backends_of(id).map(|(id, _)| id).collect::<Vec<_>>();
        let mut whole = true;
        for part in of_pool.chunks(AT_ONCE) {
            let (part, registry) = (part.to_vec(), Arc::clone(registry));
            let looked = look_at(boss, &plan, move |control| {
                let now = clock.now();
                part.into_iter().map(|id| backend(control, &registry, epoch, now, id)).collect::<Vec<_>>()
            })?;
            match looked {
                Some(backends) => told.backends.extend(backends),
                None => whole = false,
            }
        }
        if whole {
            return Some(Ok(told));
        }
    }
}

/// What is not there of a pool and a backend in it.
pub enum Absent {
    /// The names there are.
    Pool(Vec<String>),
    /// The addresses there are.
    Backend(Vec<String>),
}

/// One backend of a pool. `None` when the node has stopped.
pub fn one_backend(
    boss: &Boss,
    registry: &Arc<Registry>,
    epoch: Epoch,
    clock: Clock,
    (name, address): (&str, SocketAddr),
) -> Option<Result<shape::Backend, Absent>> {
    let (name, registry) = (name.to_owned(), Arc::clone(registry));
    boss.look(move |control| {
        let snapshot = control.snapshot();
        let plan = &snapshot.plan;
        let Some(pool) = pool_named(plan, &name) else { return Err(Absent::Pool(pool_names(plan))) };
        match plan.backends_of(pool).find(|(_, backend)| backend.address == address) {
            Some((id, _)) => Ok(backend(control, &registry, epoch, clock.now(), id)),
            None => Err(Absent::Backend(plan.backends_of(pool).map(|(_, one)| one.address.to_string()).collect())),
        }
    })
}

/// The listeners alone. `None` when the node has stopped.
pub fn all_listeners(boss: &Boss, registry: &Arc<Registry>) -> Option<Vec<shape::Listener>> {
    let registry = Arc::clone(registry);
    let (snapshot, mut listeners) = boss.look(move |control| {
        let snapshot = control.snapshot();
        let listeners = listeners(&snapshot, &registry);
        (snapshot, listeners)
    })?;
    for (told, listener) in listeners.iter_mut().zip(&snapshot.plan.listeners) {
        told.rules = Some(rules::told(&snapshot.plan, listener));
    }
    Some(listeners)
}

fn pool_named(plan: &Plan, name: &str) -> Option<PoolId> {
    plan.pools.iter().position(|pool| *pool.name == *name).map(PoolId::from_index)
}

fn pool_names(plan: &Plan) -> Vec<String> {
    plan.pools.iter().map(|pool| pool.name.to_string()).collect()
}

/// The inner one is `None` when another plan came in between, so that the pages of both would be mixed.
fn backends_by_pool(
    boss: &Boss,
    plan: &Arc<Plan>,
    registry: &Arc<Registry>,
    epoch: Epoch,
    clock: Clock,
) -> Option<Option<Vec<Vec<shape::Backend>>>> {
    let mut pools: Vec<Vec<shape::Backend>> = plan.pools.iter().map(|_| Vec::new()).collect();
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
fn outline(control: &Control, registry: &Registry, epoch: Epoch, now: Instant) -> (Arc<Plan>, Status) {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let document = Status {
        version: env!("CARGO_PKG_VERSION"),
        time: epoch.rfc3339(now),
        started: epoch.rfc3339(Instant::START),
        generation: snapshot.generation,
        suspects_itself_since: control.suspects_itself_since().map(|since| epoch.rfc3339(since)),
        holds_verdicts: control.holds_verdicts(),
        probing: probing(control),
        config: None,
        node: shape::NodeFacts { pid: std::process::id() },
        listeners: listeners(&snapshot, registry),
        pools: (0..plan.pools.len()).map(|index| pool(&snapshot, PoolId::from_index(index))).collect(),
        events: latest(control.events().rev()).map(|shown| event(shown, epoch)).collect(),
    };
    (Arc::clone(plan), document)
}

fn listeners(snapshot: &Snapshot, registry: &Registry) -> Vec<shape::Listener> {
    let ids = (0..snapshot.plan.listeners.len()).map(ListenerId::from_index);
    ids.map(|id| listener(snapshot, registry, id)).collect()
}

/// All but its backends.
fn pool(snapshot: &Snapshot, id: PoolId) -> shape::Pool {
    let (pool, view) = (&snapshot.plan.pools[id.index()], snapshot.pool(id));
    shape::Pool {
        name: pool.name.to_string(),
        schedule: pool.schedule.word(),
        sticky: sticky_word(pool),
        eligible: view.candidates.members().len(),
        refusal: view.refusal.map(evenkeel_model::Cause::code),
        panic: view.panic,
        backends: Vec::new(),
    }
}

/// How the node keeps up with its probes.
fn probing(control: &Control) -> shape::ProbingNode {
    let waits = control.probe_waits();
    shape::ProbingNode {
        targets: control.targets().len(),
        in_flight: control.probes_in_flight(),
        lateness: shape::Lateness {
            probes: waits.probes,
            p50_ms: millis(waits.percentile(50)),
            p99_ms: millis(waits.percentile(99)),
            longest_ms: millis(waits.longest),
        },
    }
}

/// How the pool's clients find their backend again, in the words of `pool.sticky.mode`.
fn sticky_word(pool: &Pool) -> Option<&'static str> {
    let by_cookie = pool.sticky.as_ref().map(|sticky| match sticky.mode {
        StickyMode::Insert => "insert",
        StickyMode::Rewrite => "rewrite",
    });
    by_cookie.or(pool.affinity.filter(|affinity| !affinity.timeout.is_zero()).map(|_| "address"))
}

fn listener(snapshot: &Snapshot, registry: &Registry, id: ListenerId) -> shape::Listener {
    let plan = &snapshot.plan;
    let listener = &plan.listeners[id.index()];
    let number = |of: fn(&evenkeel_observe::ListenerMetrics) -> u64| registry.sum_listener(&listener.name, of);
    shape::Listener {
        name: listener.name.to_string(),
        protocol: listener.protocol.word(),
        listen: listener.listen.iter().map(ToString::to_string).collect(),
        pool: listener.pool.map(|pool| plan.pools[pool.index()].name.to_string()),
        connections: number(|set| set.connections_now.read()),
        connections_total: number(|set| set.connections.read()),
        requests_total: number(|set| set.requests.iter().map(evenkeel_observe::metrics::Count::read).sum()),
        rules: None,
    }
}

fn backend(control: &Control, registry: &Registry, epoch: Epoch, now: Instant, id: BackendId) -> shape::Backend {
    let snapshot = control.snapshot();
    let plan = &snapshot.plan;
    let backend = &plan.backends[id.index()];
    let standing = control.standing(id);
    let label = BackendLabel {
        pool: plan.pools[backend.pool.index()].name.clone(),
        backend: backend.address.to_string().into(),
    };
    let number = |of: fn(&evenkeel_observe::BackendMetrics) -> u64| registry.sum_backend(&label, of);
    let (order_until, order_kept) = control.order_of(id).unwrap_or_default();
    shape::Backend {
        address: backend.address.to_string(),
        weight: standing.weight_given(backend.weight),
        weight_of_file: backend.weight,
        server_id: backend.server_id.as_deref().map(hex),
        effective_weight: standing.effective_weight(backend.weight),
        verdict: standing.verdict.word(),
        since: since(epoch, standing.verdict_since, control.held_before(id)),
        order: standing.order.word(),
        order_until: order_until.map(|until| epoch.rfc3339(until)),
        order_kept,
        agent: says_more(standing.agent),
        ejected_until: match standing.traffic {
            Traffic::Good => None,
            Traffic::Ejected { until } => Some(epoch.rfc3339(until)),
        },
        ramp_percent: match standing.ramp {
            Ramp::Full => 100,
            Ramp::At(percent) => percent,
        },
        in_flight: number(|set| set.in_flight.read()),
        attempts_total: number(|set| set.attempts.read()),
        checks: plan.pools[backend.pool.index()]
            .checks
            .iter()
            .zip(&backend.targets)
            .map(|(named, &target)| check(&named.name, &control.target(target), epoch, now))
            .collect(),
    }
}

/// A moment that may have been before the process began, by so much.
fn since(epoch: Epoch, at: Instant, before_start: Duration) -> String {
    let earlier = u64::try_from(before_start.as_nanos()).unwrap_or(u64::MAX);
    Epoch { unix_nanos: epoch.unix_nanos.saturating_sub(earlier) }.rfc3339(at)
}

/// What the agents of a backend say together; `None` when that changes nothing.
fn says_more(word: AgentWord) -> Option<shape::Agent> {
    (word != AgentWord::default()).then(|| shape::Agent { order: word.order.word(), percent: word.percent })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(name: &str, target: &TargetStatus<'_>, epoch: Epoch, now: Instant) -> shape::Check {
    let counts = target.counts();
    let (state, next_in_ms, for_ms) = match target.probing() {
        Probing::Stopped => ("stopped", None, None),
        Probing::Due(at) => ("waiting", Some(millis(at - now)), None),
        Probing::InFlight { since } => ("in_flight", None, Some(millis(now - since))),
    };
    let silence = target.silence();
    shape::Check {
        name: name.to_owned(),
        kind: target.check().probe.kind().word(),
        address: target.address().to_string(),
        verdict: target.verdict().word(),
        since: since(epoch, target.since(), target.held_before()),
        agent: target.word().map(|word| word.to_string()),
        rests_on_silence: silence.is_some(),
        silence: silence.map(Trust::word),
        progress: target.progress().map(|progress| shape::Progress {
            toward: progress.toward.word(),
            results: progress.results,
            needed: progress.needed,
        }),
        passed_total: counts.passed,
        failed_total: counts.failed,
        void_total: counts.void,
        kept_total: counts.kept,
        probing: shape::ProbingTarget { state, next_in_ms, for_ms },
        recent: target.recent().rev().map(|shown| finding(shown, epoch)).collect(),
    }
}

fn finding(finding: &Finding, epoch: Epoch) -> shape::Finding {
    let mut told = shape::Finding {
        kind: finding.kind.word(),
        started: epoch.rfc3339(finding.started),
        duration_ms: millis(finding.duration()),
        result: finding.result.word(),
        text: finding.to_string(),
        ..shape::Finding::default()
    };
    match &finding.result {
        ProbeResult::Passed(pass) => passed(&mut told, pass),
        ProbeResult::Failed(failure) => {
            told.phase = Some(failure.phase.word());
            told.reason = Some(failure.reason.word());
            failed(&mut told, &failure.reason);
        }
        ProbeResult::Void(Void::NoResources { errno }) => told.errno = Some(*errno),
        ProbeResult::Void(_) => {}
    }
    told
}

fn passed(told: &mut shape::Finding, pass: &Pass) {
    match pass {
        Pass::Status(status) => told.status = Some(*status),
        Pass::Secured { days_left } => told.days_left = *days_left,
        Pass::Agent(says) => told.agent = Some(says.to_string()),
        Pass::Dns { code, answers } => {
            told.dns_code = Some(*code);
            told.answers = Some(*answers);
        }
        Pass::Exited { output } => told.output = Some(output.to_string()),
        Pass::Connected | Pass::Answered | Pass::Echoed | Pass::Silent(_) | Pass::Serving => {}
    }
}

fn failed(told: &mut shape::Finding, reason: &FailureReason) {
    match reason {
        FailureReason::Unreachable { errno }
        | FailureReason::Socket { errno }
        | FailureReason::NotStarted { errno } => told.errno = Some(*errno),
        FailureReason::NoEcho { errno } => told.errno = *errno,
        FailureReason::Exited { status, output } => {
            told.exit_status = Some(*status);
            told.output = Some(output.to_string());
        }
        FailureReason::Killed { signal, output } => {
            told.signal = Some(*signal);
            told.output = Some(output.to_string());
        }
        FailureReason::Status { got } => told.status = Some(*got),
        FailureReason::Expiring { days_left, .. } => told.days_left = Some(*days_left),
        FailureReason::Step { step, .. } => told.step = Some(*step),
        FailureReason::Grpc { status, .. } => told.grpc_status = Some(*status),
        FailureReason::DnsCode { got } => told.dns_code = Some(*got),
        FailureReason::TimedOut
        | FailureReason::Refused
        | FailureReason::Reset
        | FailureReason::Closed
        | FailureReason::Tls { .. }
        | FailureReason::NotHttp { .. }
        | FailureReason::NotHttp2 { .. }
        | FailureReason::StreamReset { .. }
        | FailureReason::GoingAway { .. }
        | FailureReason::NotServing { .. }
        | FailureReason::NotGrpc { .. }
        | FailureReason::Mismatch { .. }
        | FailureReason::TrafficRefused { .. }
        | FailureReason::Unfinished { .. }
        | FailureReason::Body { .. }
        | FailureReason::AgentDown { .. }
        | FailureReason::NotAgent { .. }
        | FailureReason::DnsAddresses { .. }
        | FailureReason::NotDns { .. } => {}
    }
}

/// An event as JSON: time, name, level, its fields and the line a person reads.
pub fn event(event: &Event, epoch: Epoch) -> shape::Event {
    let mut fields = Map::new();
    event.fields(&mut |key, field| {
        let value = match field {
            Field::Text(text) => json!(text),
            Field::Address(address) => json!(address.to_string()),
            Field::Count(count) => json!(count),
            Field::Signed(number) => json!(number),
            Field::Time(duration) => json!(millis(duration)),
            Field::Truth(truth) => json!(truth),
            Field::Findings(findings) => {
                json!(findings.iter().map(|shown| finding(shown, epoch)).collect::<Vec<_>>())
            }
        };
        fields.insert(key.to_owned(), value);
    });
    shape::Event {
        seq: event.seq,
        time: epoch.rfc3339(event.at),
        event: event.name(),
        level: event.level().word(),
        text: event.to_string(),
        fields,
    }
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
        let other = Event { seq: 1, at, what: What::ProbesVoid(Voids::default()) };
        let changed = VerdictChanged {
            pool: "web".into(),
            backend: "10.0.3.7:8080".parse().expect("a valid address"),
            from: Verdict::Healthy,
            to: Verdict::Unknown,
            check: None,
            checks: 1,
            because: Because::CheckOff,
        };
        let verdict = Event { seq: 1, at, what: What::VerdictChanged(changed) };
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
