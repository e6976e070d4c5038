//! Ejections as control carries them out: who gets new work, what is told, and what a reload keeps.
//!
//! When an ejection is due and how long it lasts is the health room's and tested there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::memory::Outlives;
use evenkeel_control::{Control, Event, Look, Output, Totals};
use evenkeel_health::passive::Sample;
use evenkeel_health::settings::PassiveSettings;
use evenkeel_model::standing::{Harm, Order, Ramp};
use evenkeel_model::{BackendId, Instant, PoolId};
use evenkeel_plan::{AccessLog, Backend, Plan, Pool};

const SECOND: Duration = Duration::from_secs(1);

struct Node {
    control: Control,
    now: Instant,
    told: Vec<String>,
    looks: usize,
}

fn settings() -> PassiveSettings {
    PassiveSettings { failure_percent: Some(50), ..PassiveSettings::default() }
}

fn address(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 8080).into()
}

/// One pool without a check.
fn watched(backends: &[u8], passive: Option<PassiveSettings>) -> Arc<Plan> {
    let pool =
        Pool { backend_count: backends.len() as u32, passive: passive.map(Arc::new), ..Pool::with_defaults("web") };
    Arc::new(Plan {
        node: evenkeel_plan::Node {
            workers: 1,
            connections: 0,
            drain_timeout: SECOND,
            access_log: AccessLog::Off,
            cluster: None,
            sticky_secret: None,
            hold_on_suspicion: None,
            slow_request: None,
            shutdown_delay: Duration::ZERO,
            watch: false,
            kept_requests: 0,
            traces: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        },
        admin: None,
        listeners: Vec::new(),
        pools: vec![Arc::new(pool)],
        backends: backends.iter().map(|host| Backend::new(PoolId(0), address(*host), 100)).collect(),
        targets: Vec::new(),
        names: Vec::new(),
    })
}

impl Node {
    fn new(backends: &[u8]) -> Self {
        let now = Instant::from_nanos(1_000);
        let control = Control::new(watched(backends, Some(settings())), now, 1);
        let mut node = Node { control, now, told: Vec::new(), looks: 0 };
        node.drain();
        node
    }

    fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Record(event) => self.told.push(event.to_string()),
                Output::LookAtTraffic { .. } => self.looks += 1,
                Output::StartProbe { .. } | Output::CancelProbe { .. } | Output::Publish(_) | Output::Answered(_) => {}
            }
        }
    }

    fn handle(&mut self, event: Event) {
        self.control.handle(event, self.now);
        self.drain();
    }

    fn harm(&mut self, host: u8, harm: Harm, failures: u32) {
        self.handle(Event::Harmed { pool: "web".into(), backend: address(host), harm, failures });
    }

    /// Lets time pass as the control thread does: never later than it asked for.
    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.control.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.control.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn candidates(&self) -> Vec<u32> {
        self.control.snapshot().pool(PoolId(0)).candidates.members().iter().map(|member| member.backend.0).collect()
    }

    /// `failed` of a hundred further attempts at each.
    fn sample(&mut self, round: u64, failed: &[u64]) {
        let totals = failed.iter().enumerate().map(|(position, failed)| Totals {
            backend: address(position as u8 + 1),
            totals: Sample { attempts: 100 * round, failed: *failed, ..Sample::default() },
        });
        let totals = totals.collect();
        self.handle(Event::Sampled { pool: "web".into(), look: Look::Rates, totals });
    }
}

#[test]
fn a_run_of_failures_ejects_for_a_time_that_is_told_and_then_it_serves_again() {
    let mut node = Node::new(&[1, 2]);
    node.harm(1, Harm::ServerError, 4);
    assert_eq!(node.candidates(), [0, 1], "one short of the threshold");
    node.harm(1, Harm::ServerError, 5);
    assert_eq!(node.candidates(), [1]);
    assert_eq!(
        node.told,
        ["backend 10.0.0.1:8080 of pool \"web\" ejected for 30.0s: it answered 5xx (5 times in a row)"]
    );
    node.harm(1, Harm::ServerError, 6);
    assert_eq!(node.told.len(), 1, "what was under way fails too and changes nothing");
    node.wait(29 * SECOND);
    assert_eq!(node.candidates(), [1]);
    node.wait(SECOND);
    assert_eq!(node.candidates(), [0, 1]);
    assert_eq!(node.told[1], "backend 10.0.0.1:8080 of pool \"web\": its ejection is over, it gets new work again");
    // The run was not ended by any success, so the first failure is enough, and the time is longer.
    node.harm(1, Harm::ServerError, 7);
    assert_eq!(node.candidates(), [1]);
    node.wait(59 * SECOND);
    assert_eq!(node.candidates(), [1]);
    node.wait(SECOND);
    assert_eq!(node.candidates(), [0, 1]);
}

#[test]
fn the_share_of_a_pool_is_not_exceeded_and_that_is_told_once() {
    let mut node = Node::new(&[1, 2, 3]);
    node.harm(1, Harm::Connect, 3);
    node.harm(2, Harm::Connect, 3);
    node.harm(2, Harm::Connect, 4);
    assert_eq!(node.candidates(), [1, 2]);
    assert_eq!(node.told.len(), 2);
    assert!(node.told[1].contains("stays, for too many of its pool would be out"), "{}", node.told[1]);
    let mut lone = Node::new(&[1]);
    lone.harm(1, Harm::Connect, 99);
    assert_eq!(lone.candidates(), [0], "the last that serves is never ejected");
}

#[test]
fn a_drained_backend_counts_as_out() {
    let mut node = Node::new(&[1, 2]);
    node.handle(Event::Ordered {
        pool: "web".into(),
        backend: address(2),
        order: Order::Drain,
        until: None,
        keep: false,
        by: "ops".into(),
    });
    node.harm(1, Harm::Timeout, 3);
    assert_eq!(node.candidates(), [0]);
    node.harm(2, Harm::Timeout, 3);
    node.handle(Event::Ordered {
        pool: "web".into(),
        backend: address(2),
        order: Order::Serve,
        until: None,
        keep: false,
        by: "ops".into(),
    });
    assert_eq!(node.candidates(), [0], "its traffic spoke against it while it was drained");
}

#[test]
fn a_reload_keeps_ejections_and_a_plan_without_passive_checks_ends_them() {
    let mut node = Node::new(&[1, 2]);
    node.harm(1, Harm::Reset, 5);
    node.wait(10 * SECOND);
    node.handle(Event::PlanChanged(watched(&[2, 1, 3], Some(settings()))));
    assert_eq!(node.candidates(), [0, 2]);
    node.wait(20 * SECOND);
    assert_eq!(node.candidates(), [0, 1, 2], "its time went on");
    node.harm(1, Harm::Reset, 5);
    node.handle(Event::PlanChanged(watched(&[1, 2], None)));
    assert_eq!(node.candidates(), [0, 1]);
    node.harm(1, Harm::Reset, 5);
    assert_eq!(node.candidates(), [0, 1]);
}

#[test]
fn rates_are_asked_for_once_an_interval_and_compare_what_came_since() {
    let mut node = Node::new(&[1, 2, 3]);
    node.wait(10 * SECOND);
    assert_eq!(node.looks, 1);
    node.sample(1, &[100, 0, 0]);
    assert_eq!(node.candidates(), [0, 1, 2], "the first look has nothing to compare with");
    node.wait(10 * SECOND);
    assert_eq!(node.looks, 2);
    node.sample(2, &[110, 0, 0]);
    assert_eq!(node.candidates(), [0, 1, 2], "only a tenth failed since");
    node.sample(3, &[170, 0, 0]);
    assert_eq!(node.candidates(), [1, 2]);
    assert!(node.told[0].ends_with("60 % of its attempts failed, and 0 % of those at the others"), "{}", node.told[0]);
}

#[test]
fn reloads_do_not_put_looks_off() {
    let mut node = Node::new(&[1, 2]);
    for _ in 0..20 {
        node.wait(SECOND);
        node.handle(Event::PlanChanged(watched(&[1, 2], Some(settings()))));
    }
    assert_eq!(node.looks, 2);
}

#[test]
fn it_comes_back_by_slow_start() {
    let mut node = Node::new(&[1, 2]);
    let mut plan = Arc::unwrap_or_clone(watched(&[1, 2], Some(settings())));
    Arc::make_mut(&mut plan.pools[0]).slow_start = 10 * SECOND;
    node.handle(Event::PlanChanged(Arc::new(plan)));
    node.harm(1, Harm::Connect, 3);
    node.wait(30 * SECOND);
    assert!(matches!(node.control.standing(BackendId(0)).ramp, Ramp::At(_)));
    node.wait(10 * SECOND);
    assert_eq!(node.control.standing(BackendId(0)).ramp, Ramp::Full);
}

#[test]
fn an_ejection_in_mid_climb_ends_the_climb_and_it_starts_over_after_it() {
    let mut node = Node::new(&[1, 2]);
    let mut plan = Arc::unwrap_or_clone(watched(&[1, 2], Some(settings())));
    Arc::make_mut(&mut plan.pools[0]).slow_start = 90 * SECOND;
    node.handle(Event::PlanChanged(Arc::new(plan)));
    let ramp = |node: &Node| node.control.standing(BackendId(0)).ramp;
    node.harm(1, Harm::Connect, 3);
    node.wait(30 * SECOND);
    node.wait(20 * SECOND);
    assert_eq!(ramp(&node), Ramp::At(30));
    node.harm(1, Harm::Connect, 3);
    assert_eq!((node.candidates(), ramp(&node)), (vec![1], Ramp::Full), "set aside, there is nothing to climb");
    node.wait(60 * SECOND);
    assert_eq!((node.candidates(), ramp(&node)), (vec![0, 1], Ramp::At(10)), "from the bottom");
}

#[test]
fn an_ejection_counts_only_while_others_serve() {
    let mut node = Node::new(&[1, 2]);
    let mut plan = Arc::unwrap_or_clone(watched(&[1, 2], Some(settings())));
    plan.backends[1].weight = 0;
    node.harm(1, Harm::Connect, 3);
    node.handle(Event::PlanChanged(Arc::new(plan)));
    assert_eq!(node.candidates(), [0], "the other has no weight any more");
    node.handle(Event::PlanChanged(watched(&[1, 2], Some(settings()))));
    assert_eq!(node.candidates(), [1], "and it still is ejected");
}

#[test]
fn an_ejection_outlives_a_restart_for_the_rest_of_its_time() {
    let mut node = Node::new(&[1, 2]);
    node.harm(1, Harm::ServerError, 5);
    node.wait(10 * SECOND);
    let mut memory = node.control.memory(node.now, Outlives::Restart);
    memory.age = 5 * SECOND;
    let restarted = |memory: &evenkeel_control::Memory| {
        let now = Instant::from_nanos(1_000);
        let plan = watched(&[1, 2], Some(settings()));
        let control = Control::with_memory(plan, memory, 600 * SECOND, now, 1);
        let mut node = Node { control, now, told: Vec::new(), looks: 0 };
        node.drain();
        node
    };
    let mut node = restarted(&memory);
    assert_eq!(node.candidates(), [1]);
    node.wait(settings().ejection_time - 16 * SECOND);
    assert_eq!(node.candidates(), [1]);
    node.wait(SECOND);
    assert_eq!(node.candidates(), [0, 1]);
    node.harm(1, Harm::ServerError, 6);
    assert!(node.told.last().is_some_and(|told| told.contains("ejected for 60.0s")), "the second: {:?}", node.told);
    memory.age = settings().ejection_time;
    assert_eq!(restarted(&memory).candidates(), [0, 1], "over while nobody ran");
}
