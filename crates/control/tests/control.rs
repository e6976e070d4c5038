//! What control promises, one sentence each, with one story of a few events for each promise.
//!
//! Stories are chosen, so they find what somebody thought of. `sim.rs` looks for the rest.
//!
//! Each test hands in events one by one and looks at what comes out. Times are virtual, so no test waits.

mod support;

#[path = "control/agents.rs"]
mod agents;
#[path = "control/checks.rs"]
mod checks;
#[path = "control/holding.rs"]
mod holding;
#[path = "control/memory.rs"]
mod memory;
#[path = "control/operate.rs"]
mod operate;
#[path = "control/panic.rs"]
mod panic;
#[path = "control/silence.rs"]
mod silence;
#[path = "control/trust.rs"]
mod trust;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::sticky::{Aside, Place};
use evenkeel_balance::{BackendKey, Schedule};
use evenkeel_control::{Control, Event, Look, Obeyed, Output, ProbeKey, Probing};
use evenkeel_model::event::{Because, Refused, What};
use evenkeel_model::finding::{Finding, ProbeKind, ProbeResult};
use evenkeel_model::standing::{Order, Ramp, Standing, Verdict};
use evenkeel_model::{BackendId, Cause, Instant, PoolId, TargetId, limits};
use evenkeel_plan::{
    Affinity, Backend, OnUnhealthy, Plan, Pool, ProxyDatagrams, ProxyProtocol, ProxyVersion, Snapshot, SocketTcp,
    Source, Sticky, StickyMode,
};
use support::{CheckSpec, PoolSpec, address, check, late, one, pass, plan, pool, refusal};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(2);

/// Control under a virtual clock, with its outputs sorted by kind.
struct Node {
    control: Control,
    now: Instant,
    in_flight: BTreeMap<ProbeKey, SocketAddr>,
    cancelled: Vec<SocketAddr>,
    events: Vec<evenkeel_model::event::Event>,
    published: Vec<Arc<Snapshot>>,
    looks: Vec<(Arc<str>, Look)>,
    answers: Vec<Result<Obeyed, Refused>>,
}

impl Node {
    fn new(pools: &[PoolSpec]) -> Self {
        Node::of(plan(pools))
    }

    fn of(plan: Arc<Plan>) -> Self {
        let now = Instant::from_nanos(1_000);
        Node::with(Control::new(plan, now, 1), now)
    }

    fn with(control: Control, now: Instant) -> Self {
        let (in_flight, cancelled, events) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (published, looks, answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut node = Node { control, now, in_flight, cancelled, events, published, looks, answers };
        node.drain();
        node
    }

    fn handle(&mut self, event: Event) {
        self.control.handle(event, self.now);
        self.drain();
    }

    fn reload(&mut self, pools: &[PoolSpec]) {
        self.handle(Event::PlanChanged(plan(pools)));
    }

    fn order(&mut self, pool: &str, host: u8, order: Order) {
        self.ordered(pool, host, order, None, false);
    }

    fn order_to_keep(&mut self, pool: &str, host: u8, order: Order) {
        self.ordered(pool, host, order, None, true);
    }

    fn ordered(&mut self, pool: &str, host: u8, order: Order, lasts: Option<Duration>, keep: bool) {
        let (backend, until) = (address(host), lasts.map(|lasts| self.now + lasts));
        self.handle(Event::Ordered { pool: pool.into(), backend, order, until, keep, by: "ops".into() });
    }

    fn weigh(&mut self, host: u8, weight: Option<u32>, keep: bool) {
        let backend = address(host);
        self.handle(Event::Weighed { pool: "web".into(), backend, weight, keep, by: "ops".into() });
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.control.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::StartProbe { key, address, .. } => {
                    assert_eq!(self.in_flight.insert(key, address), None, "two probes under one key");
                }
                Output::CancelProbe { key } => {
                    self.cancelled.push(self.in_flight.remove(&key).expect("only a running probe is cancelled"));
                }
                Output::Publish(snapshot) => self.published.push(snapshot),
                Output::Answered(answer) => self.answers.push(answer),
                Output::LookAtTraffic { pool, look } => self.looks.push((pool, look)),
                Output::Record(event) => self.events.push(event),
            }
        }
    }

    /// Ends the probe that runs against a host, without taking time.
    fn answer(&mut self, host: u8, result: ProbeResult) {
        let key = self.key_of(host);
        self.in_flight.remove(&key);
        self.answer_key(key, result);
    }

    fn answer_key(&mut self, key: ProbeKey, result: ProbeResult) {
        let finding = Finding { kind: ProbeKind::Tcp, started: self.now, ended: self.now, result };
        self.handle(Event::ProbeDone { key, finding });
    }

    /// The same for the probe that runs against a port.
    fn answer_at(&mut self, port: u16, result: ProbeResult) {
        let found = self.in_flight.iter().find(|(_, to)| to.port() == port);
        let key = *found.unwrap_or_else(|| panic!("no probe runs against port {port}")).0;
        self.in_flight.remove(&key);
        self.answer_key(key, result);
    }

    fn key_of(&self, host: u8) -> ProbeKey {
        let found = self.in_flight.iter().find(|(_, to)| to.ip() == address(host).ip());
        *found.unwrap_or_else(|| panic!("no probe runs against host {host}")).0
    }

    /// Probes a host so many times, an interval apart, and lets the next probe start.
    fn answers(&mut self, host: u8, count: usize, result: &ProbeResult) {
        for _ in 0..count {
            self.answer(host, result.clone());
            self.wait(INTERVAL);
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot()
    }

    fn standing(&self, backend: u32) -> Standing {
        self.snapshot().standings[backend as usize]
    }

    fn verdict(&self, backend: u32) -> Verdict {
        self.standing(backend).verdict
    }

    /// Backends that may receive new work from the first pool.
    fn candidates(&self, pool: u32) -> Vec<u32> {
        let snapshot = self.snapshot();
        snapshot.pool(PoolId(pool)).candidates.members().iter().map(|member| member.backend.0).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(evenkeel_model::event::Event::name).collect()
    }
}

#[test]
fn the_first_snapshot_is_ready_before_any_probe_ended_and_unknown_takes_traffic() {
    let node = Node::new(&[pool("web", &[1, 2])]);
    assert_eq!(node.snapshot().generation, 1);
    assert_eq!(node.candidates(0), [0, 1]);
    assert_eq!(node.in_flight.len(), 2, "first probes start at once");
    assert!(node.published.is_empty(), "the wiring takes the first snapshot itself");
}

#[test]
fn an_unhealthy_backend_leaves_the_candidates_and_returns_when_healthy() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.answers(1, 1, &pass());
    node.answers(1, 2, &refusal());
    assert_eq!(node.candidates(0), [0, 1], "inside the window it still takes traffic");
    node.answer(1, refusal());
    assert_eq!(node.candidates(0), [1]);
    assert_eq!(node.standing(0).verdict_since, node.now);
    node.wait(INTERVAL);
    node.answers(1, 2, &pass());
    assert_eq!(node.candidates(0), [0, 1]);
    assert_eq!(node.names(), ["backend.healthy", "backend.unhealthy", "backend.healthy"]);
    let texts: Vec<String> = node.events.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[1],
        "backend 10.0.0.1:8080 of pool \"web\" unhealthy: 3 probes in a row failed, last: connect refused after 0.0ms (unhealthy_threshold = 3)"
    );
}

#[test]
fn an_empty_pool_says_whose_doing_it_is() {
    use Order::{Drain, Maintain, Serve};
    // (weight, order, unhealthy) of each backend of the pool.
    type Row = (&'static [(u32, Order, bool)], Option<Cause>);
    let table: [Row; 11] = [
        (&[], Some(Cause::NoBackendConfigured)),
        (&[(0, Serve, false)], Some(Cause::NoBackendConfigured)),
        (&[(0, Serve, true), (0, Drain, false)], Some(Cause::NoBackendConfigured)),
        (&[(100, Drain, false)], Some(Cause::AllBackendsDrained)),
        (&[(100, Drain, true), (100, Maintain, false)], Some(Cause::AllBackendsDrained)),
        (&[(100, Drain, false), (0, Serve, false)], Some(Cause::AllBackendsDrained)),
        (&[(100, Serve, true)], Some(Cause::AllBackendsUnhealthy)),
        (&[(100, Serve, true), (100, Drain, false)], Some(Cause::AllBackendsUnhealthy)),
        (&[(100, Serve, true), (0, Serve, false)], Some(Cause::AllBackendsUnhealthy)),
        (&[(100, Serve, true), (1, Serve, false)], None),
        (&[(100, Serve, false)], None),
    ];
    for (backends, refusal_cause) in table {
        let mut spec = pool("web", &[]);
        spec.backends = (1..).zip(backends).map(|(host, &(weight, _, _))| (address(host), weight)).collect();
        let mut node = Node::new(&[spec]);
        for (host, &(_, order, unhealthy)) in (1..).zip(backends) {
            if unhealthy {
                node.answer(host, refusal());
            }
            node.order("web", host, order);
        }
        let snapshot = node.snapshot();
        let view = snapshot.pool(PoolId(0));
        assert_eq!(view.refusal, refusal_cause, "{backends:?}");
        assert_eq!(view.candidates.is_empty(), refusal_cause.is_some(), "{backends:?}");
    }
}

#[test]
fn drain_is_not_undone_by_a_passing_probe() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.order("web", 1, Order::Drain);
    assert_eq!(node.candidates(0), [1]);
    node.answers(1, 5, &pass());
    assert_eq!((node.verdict(0), node.standing(0).order), (Verdict::Healthy, Order::Drain));
    assert_eq!(node.candidates(0), [1], "probes go on, work does not");
    node.order("web", 1, Order::Serve);
    assert_eq!(node.candidates(0), [0, 1]);
}

#[test]
fn sticky_clients_reach_a_drained_backend_until_its_deadline_which_a_reload_does_not_move() {
    let sticky_plan = |hosts: &[u8]| {
        let mut plan = plan(&[pool("web", hosts)]);
        let pools = &mut Arc::make_mut(&mut plan).pools;
        Arc::make_mut(&mut pools[0]).sticky = Some(Sticky {
            mode: StickyMode::Insert,
            cookie: "SERVERID".into(),
            max_age: None,
            drain_timeout: 60 * SECOND,
        });
        plan
    };
    let mut node = Node::new(&[]);
    node.handle(Event::PlanChanged(sticky_plan(&[1, 2])));
    let place = |node: &Node, host| node.snapshot().pools[0].candidates.find(BackendKey::of(address(host)));
    assert_eq!(place(&node, 2), Some((BackendId(1), Place::Candidate)));
    node.order("web", 2, Order::Drain);
    let until = node.now + 60 * SECOND;
    assert_eq!(place(&node, 2), Some((BackendId(1), Place::Aside(Aside::Drained { until }))));
    assert_eq!(place(&node, 9), None);
    // A second order of the same kind is none, and a reload that numbers anew keeps the first.
    node.wait(10 * SECOND);
    node.order("web", 2, Order::Drain);
    node.handle(Event::PlanChanged(sticky_plan(&[2, 1])));
    assert_eq!(place(&node, 2), Some((BackendId(0), Place::Aside(Aside::Drained { until }))));
    node.answers(2, 3, &refusal());
    assert_eq!(place(&node, 2), Some((BackendId(0), Place::Aside(Aside::Unhealthy))));
    node.order("web", 2, Order::Maintain);
    assert_eq!(place(&node, 2), Some((BackendId(0), Place::Aside(Aside::Maintained))));
}

/// Views of pools without stickiness once did not say it: requests stuck at a stopped backend waited for their whole
/// `response_timeout`, although the verdict had fallen long before.
#[test]
fn clients_known_by_address_or_connection_id_may_stay_with_a_drained_backend_as_well() {
    let minute = Duration::from_secs(60);
    let affinity = Affinity { timeout: minute, ipv4_prefix: 32, ipv6_prefix: 64, drain_timeout: 2 * minute };
    let day = Duration::from_secs(limits::CID_LIFE.value);
    let table = [
        // How clients are known, and how long a drained backend keeps them.
        (Schedule::Wrr, None, Duration::ZERO),
        (Schedule::Source, None, Duration::ZERO),
        (Schedule::Wrr, Some(affinity), 2 * minute),
        (Schedule::QuicCid, None, day),
        (Schedule::QuicCid, Some(affinity), day),
    ];
    for (schedule, affinity, stay) in table {
        let mut edited = Plan::clone(&plan(&[PoolSpec { schedule, ..pool("web", &[1, 2]) }]));
        edited.pools = edited.pools.iter().map(|pool| Arc::new(Pool { affinity, ..Pool::clone(pool) })).collect();
        let mut node = Node::new(&[]);
        node.handle(Event::PlanChanged(Arc::new(edited)));
        node.wait(SECOND);
        node.order("web", 2, Order::Drain);
        let place = node.snapshot().pool(PoolId(0)).candidates.find(BackendKey::of(address(2))).map(|(_, place)| place);
        assert_eq!(place, Some(Place::Aside(Aside::Drained { until: node.now + stay })), "{schedule:?} {affinity:?}");
    }
}

#[test]
fn every_setting_of_a_pool_that_changes_alone_is_published() {
    let header = |version| ProxyProtocol {
        version,
        authority: true,
        alpn: false,
        unique_id: false,
        datagrams: ProxyDatagrams::First,
    };
    let affinity = Affinity { timeout: SECOND, ipv4_prefix: 32, ipv6_prefix: 64, drain_timeout: SECOND };
    let tcp = SocketTcp { keepalive: Some(SECOND), user_timeout: None };
    type Edit = Box<dyn Fn(&mut Pool, &mut Backend)>;
    let edits: [(&str, Edit); 9] = [
        ("proxy_protocol", Box::new(move |pool, _| pool.proxy_protocol = Some(header(ProxyVersion::V2)))),
        ("its version", Box::new(move |pool, _| pool.proxy_protocol = Some(header(ProxyVersion::V1)))),
        ("source", Box::new(|pool, _| pool.source = Source::Own([address(9).ip()].into()))),
        ("transparent", Box::new(|pool, _| pool.source = Source::Client)),
        ("on_unhealthy", Box::new(|pool, _| pool.on_unhealthy = OnUnhealthy::Reset)),
        ("affinity", Box::new(move |pool, _| pool.affinity = Some(affinity))),
        ("tcp", Box::new(move |pool, _| pool.tcp = tcp)),
        ("schedule", Box::new(|pool, _| pool.schedule = Schedule::Tuple)),
        ("server_id", Box::new(|_, backend| backend.server_id = Some([7].into()))),
    ];
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.answers(1, 1, &pass());
    for (what, edit) in edits {
        let mut edited = Plan::clone(&node.snapshot().plan);
        let mut web = Pool::clone(&edited.pools[0]);
        edit(&mut web, &mut edited.backends[1]);
        edited.pools = vec![Arc::new(web)];
        assert_ne!(edited, *node.snapshot().plan, "{what}: a reload would be taken for none");
        let (before, published) = (node.snapshot(), node.published.len());
        node.handle(Event::PlanChanged(Arc::new(edited.clone())));
        assert_eq!(node.published.len(), published + 1, "{what}");
        assert_eq!(*node.snapshot().plan, edited, "{what}");
        // Nothing that is known of the backends is touched by it.
        assert_eq!(node.snapshot().standings, before.standings, "{what}");
    }
    assert!(node.cancelled.is_empty());
}

#[test]
fn that_a_backend_turned_unhealthy_can_be_told_where_nobody_is_sticky() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    let place = |node: &Node| node.snapshot().pools[0].candidates.find(BackendKey::of(address(2)));
    node.answers(2, 1, &pass());
    assert_eq!(place(&node), Some((BackendId(1), Place::Candidate)));
    node.answers(2, 3, &refusal());
    assert_eq!(place(&node), Some((BackendId(1), Place::Aside(Aside::Unhealthy))));
}

#[test]
fn serve_does_not_make_an_unhealthy_backend_eligible() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.answer(1, refusal());
    node.order("web", 1, Order::Drain);
    node.order("web", 1, Order::Serve);
    assert_eq!(node.candidates(0), [1]);
}

#[test]
fn maintain_stops_probes_and_the_first_result_after_it_decides() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.answers(1, 1, &pass());
    let stale = node.key_of(1);
    node.order("web", 1, Order::Maintain);
    assert_eq!(node.cancelled, [address(1)]);
    assert_eq!(node.control.target(TargetId(0)).probing(), Probing::Stopped);
    node.wait(100 * SECOND);
    assert!(node.in_flight.is_empty());
    node.order("web", 1, Order::Serve);
    assert_eq!(node.verdict(0), Verdict::Healthy, "the old verdict stands until somebody has looked");
    node.answer_key(stale, refusal());
    assert_eq!(node.verdict(0), Verdict::Healthy, "the answer to a cancelled probe is nobody's");
    node.answer(1, refusal());
    assert_eq!(node.verdict(0), Verdict::Unhealthy, "one result is enough after a while without probes");
    assert_eq!(node.names(), ["backend.healthy", "backend.ordered", "backend.ordered", "backend.unhealthy"]);
}

#[test]
fn maintain_in_one_pool_does_not_stop_probes_another_pool_rests_on() {
    let mut node = Node::new(&[pool("web", &[1]), pool("api", &[1])]);
    assert_eq!(node.in_flight.len(), 1, "one check is probed once");
    node.order("web", 1, Order::Maintain);
    assert!(node.cancelled.is_empty());
    node.answer(1, refusal());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unhealthy, Verdict::Unhealthy));
    node.wait(INTERVAL);
    node.order("api", 1, Order::Maintain);
    assert_eq!(node.cancelled, [address(1)]);
}

#[test]
fn a_target_of_two_pools_changes_both_backends_with_an_event_each() {
    let mut node = Node::new(&[pool("web", &[1]), pool("api", &[1])]);
    node.answer(1, refusal());
    assert_eq!(node.names(), ["backend.unhealthy", "backend.unhealthy"]);
    assert_eq!(node.published.len(), 1, "one snapshot shows both");
    assert_eq!(node.snapshot().pool(PoolId(1)).refusal, Some(Cause::AllBackendsUnhealthy));
}

#[test]
fn an_order_for_nobody_is_refused_and_the_same_order_twice_is_no_event() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.order("wbe", 1, Order::Drain);
    node.order("web", 9, Order::Drain);
    assert_eq!(node.names(), ["order.refused", "order.refused"]);
    assert!(node.published.is_empty());
    node.order("web", 1, Order::Drain);
    node.order("web", 1, Order::Drain);
    assert_eq!(node.names(), ["order.refused", "order.refused", "backend.ordered"]);
}

#[test]
fn a_reload_keeps_verdict_run_schedule_and_probe_in_flight_of_unchanged_targets() {
    let mut node = Node::new(&[pool("web", &[1, 2]), pool("api", &[3])]);
    node.answers(1, 1, &pass());
    node.answers(1, 2, &refusal());
    node.answer(2, refusal());
    node.order("api", 3, Order::Drain);
    let (key, since) = (node.key_of(1), node.standing(1).verdict_since);
    let due = node.control.target(TargetId(1)).probing();
    // Everything moves: pools change places, a backend joins in front.
    node.reload(&[pool("api", &[3]), pool("web", &[4, 2, 1])]);
    assert_eq!(node.key_of(1), key, "the probe in flight goes on");
    assert!(node.cancelled.is_empty());
    assert_eq!(node.standing(0).order, Order::Drain);
    assert_eq!((node.verdict(2), node.standing(2).verdict_since), (Verdict::Unhealthy, since));
    assert_eq!(node.control.target(TargetId(2)).probing(), due);
    let run = node.control.target(TargetId(3)).progress().expect("two failures so far");
    assert_eq!((run.results, run.needed), (2, 3));
    node.answer(1, refusal());
    assert_eq!(node.verdict(3), Verdict::Unhealthy, "the third failure, the first after the reload");
    assert_eq!(node.verdict(1), Verdict::Unknown, "the new one");
}

#[test]
fn a_probe_of_a_removed_backend_is_cancelled_and_its_order_forgotten() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    let stale = node.key_of(2);
    node.order("web", 2, Order::Drain);
    node.reload(&[pool("web", &[1])]);
    assert_eq!(node.cancelled, [address(2)]);
    node.answer_key(stale, refusal());
    node.reload(&[pool("web", &[1, 2])]);
    assert_eq!(node.standing(1).order, Order::Serve);
    assert_eq!(node.verdict(1), Verdict::Unknown);
    let What::PlanChanged(change) = &node.events.last().expect("two reloads").what else { panic!("{:?}", node.events) };
    assert_eq!((change.backends, change.backends_added, change.backends_removed), (2, 1, 0));
    assert_eq!((change.checks, change.checks_added, change.checks_removed), (2, 1, 0));
}

#[test]
fn an_edited_check_moves_no_traffic_until_a_whole_run_says_so() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.answers(1, 1, &pass());
    node.answer(2, refusal());
    let mut edited = pool("web", &[1, 2]);
    edited.checks = vec![CheckSpec { port: Some(9000), ..CheckSpec::new("tcp", check(2, 2)) }];
    node.events.clear();
    node.reload(std::slice::from_ref(&edited));
    assert_eq!(node.candidates(0), [0], "healthy stays, unhealthy does not get traffic by an edit");
    assert_eq!(node.names(), ["plan.changed"]);
    assert_eq!(node.in_flight.len(), 2, "the new check is probed at once");
    node.answer(1, refusal());
    assert_eq!(node.verdict(0), Verdict::Healthy, "1 of 2");
    node.answer(2, pass());
    assert_eq!(node.verdict(1), Verdict::Unhealthy, "1 of 2");
    node.wait(INTERVAL);
    node.answer(1, refusal());
    node.answer(2, pass());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unhealthy, Verdict::Healthy));
}

#[test]
fn backends_that_disagreed_start_a_common_check_as_unknown() {
    let mut strict = pool("api", &[1]);
    strict.checks = vec![CheckSpec { port: Some(9000), ..CheckSpec::new("tcp", check(2, 4)) }];
    let mut node = Node::new(&[pool("web", &[1]), strict]);
    let keys: Vec<ProbeKey> = node.in_flight.keys().copied().collect();
    for key in keys {
        let healthy = node.in_flight.remove(&key).expect("listed").port() == 8080;
        node.answer_key(key, if healthy { pass() } else { refusal() });
    }
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Healthy, Verdict::Unhealthy));
    let common = |name| PoolSpec { checks: one(check(5, 5)), ..pool(name, &[1]) };
    node.events.clear();
    node.reload(&[common("web"), common("api")]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unknown, Verdict::Unknown));
    assert_eq!(node.names(), ["backend.unknown", "backend.unknown", "plan.changed"]);
    node.answer(1, refusal());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unhealthy, Verdict::Unhealthy));
}

#[test]
fn a_check_turned_off_leaves_unknown_which_takes_traffic() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.answer(1, refusal());
    assert!(node.candidates(0).is_empty());
    node.events.clear();
    node.reload(&[PoolSpec { checks: Vec::new(), ..pool("web", &[1]) }]);
    assert_eq!((node.verdict(0), node.candidates(0)), (Verdict::Unknown, vec![0]));
    assert_eq!(node.names(), ["backend.unknown", "plan.changed"]);
    let What::VerdictChanged(changed) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!(changed.because, Because::CheckOff);
    node.wait(1000 * SECOND);
    assert!(node.in_flight.is_empty());
    assert_eq!(node.control.poll_timeout(), None);
    node.reload(&[pool("web", &[1])]);
    node.answer(1, refusal());
    assert_eq!(node.verdict(0), Verdict::Unhealthy, "on again, the first result decides");
}

#[test]
fn a_backend_that_moves_under_a_known_check_takes_its_verdict_with_an_event() {
    let other = PoolSpec { checks: one(check(2, 9)), ..pool("api", &[1]) };
    let mut node = Node::new(&[pool("web", &[1]), other]);
    let keys: Vec<ProbeKey> = node.in_flight.keys().copied().collect();
    node.answer_key(keys[0], refusal());
    node.answer_key(keys[1], pass());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unhealthy, Verdict::Healthy));
    node.events.clear();
    node.in_flight.clear();
    node.reload(&[pool("web", &[1]), pool("api", &[1])]);
    assert_eq!(node.verdict(1), Verdict::Unhealthy);
    let What::VerdictChanged(changed) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!((&*changed.pool, &changed.because), ("api", &Because::CheckChanged));
}

#[test]
fn pools_that_did_not_change_share_their_view_with_the_snapshot_before() {
    let mut node = Node::new(&[pool("web", &[1, 2]), pool("api", &[3])]);
    let before = node.snapshot();
    node.answer(1, refusal());
    let after = node.snapshot();
    assert_eq!(after.generation, before.generation + 1);
    assert!(!Arc::ptr_eq(before.pool(PoolId(0)), after.pool(PoolId(0))));
    assert!(Arc::ptr_eq(before.pool(PoolId(1)), after.pool(PoolId(1))));
    node.answer(2, pass());
    let healthy = node.snapshot();
    assert_eq!(healthy.generation, after.generation + 1, "the verdict is news");
    assert!(Arc::ptr_eq(healthy.pool(PoolId(0)), after.pool(PoolId(0))), "who may receive work is not");
    node.reload(&[pool("web", &[1, 2]), pool("api", &[3, 4])]);
    let reloaded = node.snapshot();
    assert!(Arc::ptr_eq(healthy.pool(PoolId(0)), reloaded.pool(PoolId(0))));
    assert!(!Arc::ptr_eq(healthy.pool(PoolId(1)), reloaded.pool(PoolId(1))));
}

#[test]
fn events_handed_in_together_cost_one_snapshot() {
    let mut node = Node::new(&[pool("web", &[1, 2, 3])]);
    for (key, _) in std::mem::take(&mut node.in_flight) {
        let finding = Finding { kind: ProbeKind::Tcp, started: node.now, ended: node.now, result: refusal() };
        node.control.handle(Event::ProbeDone { key, finding }, node.now);
    }
    node.drain();
    assert_eq!(node.published.len(), 1);
    assert_eq!(node.events.len(), 3);
    assert!(node.candidates(0).is_empty());
}

#[test]
fn a_recovered_backend_climbs_step_by_step_to_its_whole_weight() {
    let slow = PoolSpec { slow_start: 9 * SECOND, ..pool("web", &[1, 2]) };
    let mut node = Node::new(&[slow]);
    assert_eq!(node.standing(0).ramp, Ramp::Full, "all begin together, so nobody needs to be spared");
    node.answer(1, refusal());
    node.wait(INTERVAL);
    node.answers(1, 1, &pass());
    node.answer(1, pass());
    node.order("web", 2, Order::Maintain);
    let recovered = node.now;
    let mut weights = Vec::new();
    loop {
        let snapshot = node.snapshot();
        weights.push(((node.now - recovered).as_secs(), snapshot.pool(PoolId(0)).candidates.members()[0].weight));
        if node.standing(0).ramp == Ramp::Full {
            break;
        }
        // Nothing but steps is due: the only probe starts together with the third and stays in flight.
        let next = node.control.poll_timeout().expect("a step is due");
        node.wait(next - node.now);
    }
    let tenth_a_second: Vec<(u64, u32)> = (0..10).map(|second| (second, 10 + 10 * second as u32)).collect();
    assert_eq!(weights, tenth_a_second);
}

#[test]
fn a_climb_ends_when_the_backend_fails_again_and_starts_over_after_it() {
    let slow = PoolSpec { slow_start: 90 * SECOND, checks: one(check(1, 1)), ..pool("web", &[1]) };
    let mut node = Node::new(&[slow]);
    node.answers(1, 1, &refusal());
    node.answers(1, 1, &pass());
    node.wait(20 * SECOND);
    assert_eq!(node.standing(0).ramp, Ramp::At(30));
    node.answers(1, 1, &refusal());
    assert_eq!(node.standing(0).ramp, Ramp::Full);
    node.answer(1, pass());
    assert_eq!(node.standing(0).ramp, Ramp::At(10));
}

#[test]
fn a_reload_keeps_the_climb_and_new_backends_of_an_old_pool_climb_too() {
    let slow = |seconds, hosts: &[u8]| PoolSpec { slow_start: seconds * SECOND, ..pool("web", hosts) };
    let mut node = Node::new(&[slow(90, &[1])]);
    node.answers(1, 1, &refusal());
    node.answers(1, 1, &pass());
    node.answer(1, pass());
    node.wait(20 * SECOND);
    node.reload(&[slow(90, &[1, 2]), PoolSpec { name: "api".into(), ..slow(90, &[3]) }]);
    assert_eq!(node.standing(0).ramp, Ramp::At(30));
    assert_eq!(node.standing(1).ramp, Ramp::At(10), "it joins a pool that serves");
    assert_eq!(node.standing(2).ramp, Ramp::Full, "its whole pool is new");
    node.reload(&[slow(45, &[1, 2])]);
    assert_eq!(node.standing(0).ramp, Ramp::At(50), "20 s into 45");
    node.reload(&[slow(0, &[1, 2])]);
    assert_eq!((node.standing(0).ramp, node.standing(1).ramp), (Ramp::Full, Ramp::Full));
}

#[test]
fn a_backend_back_from_maintain_climbs() {
    let mut node = Node::new(&[PoolSpec { slow_start: 90 * SECOND, ..pool("web", &[1, 2]) }]);
    node.order("web", 1, Order::Drain);
    node.order("web", 1, Order::Serve);
    assert_eq!(node.standing(0).ramp, Ramp::Full, "drain is a pause, not an absence");
    node.order("web", 1, Order::Maintain);
    node.order("web", 1, Order::Serve);
    assert_eq!(node.standing(0).ramp, Ramp::At(10));
}

#[test]
fn void_probes_change_nothing_and_are_told_together_once_per_period() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.answers(1, 1, &pass());
    node.events.clear();
    node.answers(1, 4, &late());
    assert_eq!(node.verdict(0), Verdict::Healthy);
    assert!(node.events.is_empty());
    node.wait(Duration::from_secs(limits::VOID_REPORT.value) - 4 * INTERVAL);
    assert_eq!(node.names(), ["probes.void"]);
    let What::ProbesVoid(voids) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!((voids.late, voids.late_by), (4, Duration::from_millis(300)));
    assert_eq!(node.control.target(TargetId(0)).counts().void, 4);
    node.wait(1000 * SECOND);
    assert_eq!(node.events.len(), 1, "no news, no event");
}

#[test]
fn echo_requests_that_we_may_not_send_are_no_want_of_resources() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.answers(1, 1, &pass());
    node.events.clear();
    node.answers(1, 4, &ProbeResult::Void(evenkeel_model::finding::Void::EchoForbidden));
    node.wait(Duration::from_secs(limits::VOID_REPORT.value) - 4 * INTERVAL);
    let What::ProbesVoid(voids) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!((voids.forbidden, voids.no_resources, voids.errno), (4, 0, None));
}

#[test]
fn a_node_that_loses_its_network_suspects_itself_until_it_is_back() {
    let mut node = Node::new(&[pool("a", &[1, 2]), pool("b", &[3, 4]), pool("c", &[5, 6])]);
    for host in 1..=6 {
        node.answer(host, pass());
    }
    node.wait(INTERVAL);
    for host in 1..=6 {
        node.answer(host, refusal());
    }
    assert_eq!(node.names().last(), Some(&"node.suspects_itself"));
    assert_eq!(node.control.suspects_itself_since(), Some(node.now));
    node.wait(INTERVAL);
    for host in 1..=3 {
        node.answer(host, pass());
    }
    assert_eq!(node.names().last(), Some(&"node.suspicion_over"));
}

#[test]
fn recent_findings_and_events_are_bounded() {
    let mut node = Node::new(&[PoolSpec { checks: one(check(1, 1)), ..pool("web", &[1]) }]);
    for _ in 0..limits::RECENT_EVENTS.value {
        node.answers(1, 1, &pass());
        node.answers(1, 1, &refusal());
    }
    let status = node.control.target(TargetId(0));
    assert_eq!(status.recent().len() as u64, limits::RECENT_FINDINGS.value);
    assert_eq!(node.control.events().count() as u64, limits::RECENT_EVENTS.value);
    let newest = node.control.events().next_back().map(|event| event.at);
    assert_eq!(newest, Some(status.since()));
    assert_eq!(node.control.standing(BackendId(0)).verdict_since, status.since());
}
