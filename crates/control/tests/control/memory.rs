//! What outlives a restart, and what does not.

use std::time::Duration;

use evenkeel_control::memory::{Memory, Outlives};
use evenkeel_control::{Control, Probing};
use evenkeel_model::event::What;
use evenkeel_model::standing::{Order, Ramp, Verdict};
use evenkeel_model::{BackendId, Instant, TargetId};

use crate::support::{CheckSpec, PoolSpec, check, one, pass, plan, pool, refusal};
use crate::{INTERVAL, Node, SECOND};

const MAX_AGE: Duration = Duration::from_secs(600);

/// The next process, whose clock has just begun, after so long without one.
fn restarted(mut memory: Memory, away: Duration, pools: &[PoolSpec]) -> Node {
    memory.age += away;
    let now = Instant::from_nanos(1_000);
    let control = Control::with_memory(plan(pools), &memory, MAX_AGE, now, 2);
    Node::with(control, now)
}

/// One pool with a healthy backend and one that fails.
fn known() -> Node {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    for _ in 0..3 {
        node.answer(1, pass());
        node.answer(2, refusal());
        node.wait(INTERVAL);
    }
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Healthy, Verdict::Unhealthy));
    node
}

fn memory_of(node: &Node) -> Memory {
    node.control.memory(node.now, Outlives::Restart)
}

#[test]
fn an_unhealthy_backend_gets_no_traffic_after_a_restart_before_its_first_probe() {
    let node = restarted(memory_of(&known()), SECOND, &[pool("web", &[1, 2])]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Healthy, Verdict::Unhealthy));
    assert_eq!(node.candidates(0), [0]);
    assert!(node.published.is_empty(), "nobody has ever seen a snapshot without it");
    assert_eq!(node.in_flight.len(), 2, "and both are probed at once");
    assert_eq!(node.names(), ["state.recalled"]);
    let What::StateRecalled(recalled) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!((recalled.backends, recalled.checks, recalled.orders, recalled.absent), (2, 2, 0, 0));
}

#[test]
fn after_a_restart_that_missed_no_probe_a_verdict_needs_a_whole_run() {
    let mut node = restarted(memory_of(&known()), SECOND, &[pool("web", &[1, 2])]);
    node.answer(1, refusal());
    node.answer(2, pass());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Healthy, Verdict::Unhealthy));
    node.wait(INTERVAL);
    node.answer(2, pass());
    assert_eq!(node.verdict(1), Verdict::Healthy);
}

#[test]
fn after_a_longer_restart_the_verdict_stands_until_the_next_result_decides() {
    // Interval 2 s and timeout 5 s: somebody would have looked within the minute.
    let mut node = restarted(memory_of(&known()), 60 * SECOND, &[pool("web", &[1, 2])]);
    assert_eq!(node.candidates(0), [0]);
    node.answer(1, refusal());
    node.answer(2, pass());
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unhealthy, Verdict::Healthy));
}

#[test]
fn a_verdict_keeps_its_age_and_counts_through_restarts() {
    let mut node = known();
    node.wait(100 * SECOND);
    for away in [10, 20] {
        node = restarted(memory_of(&node), away * SECOND, &[pool("web", &[1, 2])]);
        node.wait(30 * SECOND);
    }
    // Three rounds and 100 s, 10 s away, 30 s, 20 s away, 30 s, of which the last process saw 30 s.
    let held = node.control.held_before(BackendId(1)) + (node.now - node.standing(1).verdict_since);
    assert_eq!(held, 3 * INTERVAL + 190 * SECOND);
    let target = node.control.target(TargetId(1));
    assert_eq!((target.held_before() + (node.now - target.since()), target.counts().failed), (held, 3));
    node.answer(2, pass());
    assert_eq!((node.verdict(1), node.control.held_before(BackendId(1))), (Verdict::Healthy, Duration::ZERO));
}

#[test]
fn memory_that_lay_too_long_is_ignored_as_a_whole() {
    let mut old = known();
    old.order_to_keep("web", 1, Order::Drain);
    let node = restarted(memory_of(&old), MAX_AGE + SECOND, &[pool("web", &[1, 2])]);
    assert_eq!((node.verdict(1), node.candidates(0)), (Verdict::Unknown, vec![0, 1]));
    assert_eq!(node.names(), ["state.too_old"]);
}

#[test]
fn a_verdict_nobody_confirmed_for_too_long_is_ignored_though_the_memory_is_fresh() {
    let mut old = known();
    old.order_to_keep("web", 2, Order::Maintain);
    old.in_flight.clear();
    old.wait(MAX_AGE);
    let mut node = restarted(memory_of(&old), SECOND, &[pool("web", &[1, 2])]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unknown, Verdict::Unknown));
    assert_eq!(node.standing(1).order, Order::Maintain, "an order does not age before its memory does");
    // Nor does it count as younger after a second restart.
    node = restarted(memory_of(&node), SECOND, &[pool("web", &[1, 2])]);
    assert_eq!(node.verdict(1), Verdict::Unknown);
}

#[test]
fn what_the_plan_no_longer_has_is_dropped_and_what_it_never_had_starts_as_unknown() {
    let node = restarted(memory_of(&known()), SECOND, &[pool("web", &[2, 3]), pool("api", &[2])]);
    let found = [0, 1, 2].map(|backend| node.verdict(backend));
    assert_eq!(found, [Verdict::Unhealthy, Verdict::Unknown, Verdict::Unhealthy], "api rests on the same target");
    let What::StateRecalled(recalled) = &node.events[0].what else { panic!("{:?}", node.events) };
    assert_eq!((recalled.backends, recalled.checks, recalled.absent), (1, 1, 1));
}

#[test]
fn a_backend_whose_name_is_answered_later_finds_its_memory_once() {
    let mut old = known();
    old.order_to_keep("web", 1, Order::Drain);
    let mut node = restarted(memory_of(&old), SECOND, &[pool("web", &[])]);
    node.wait(30 * SECOND);
    // Whoever is still awaited is part of the next memory, thirty seconds older.
    let waiting = memory_of(&node);
    assert_eq!(waiting.backends.len(), 2);
    assert_eq!(waiting.backends[1].checks[0].held_for, 3 * INTERVAL + 31 * SECOND);
    node.reload(&[pool("web", &[2])]);
    assert_eq!(
        (node.verdict(0), node.names()[1..].to_vec()),
        (Verdict::Unhealthy, vec!["state.recalled", "plan.changed"])
    );
    node.reload(&[pool("web", &[1])]);
    assert_eq!((node.verdict(0), node.standing(0).order), (Verdict::Healthy, Order::Drain));
    node.reload(&[pool("web", &[2])]);
    assert_eq!(node.verdict(0), Verdict::Unknown, "it left the plan and is forgotten");
    let mut late = restarted(memory_of(&known()), SECOND, &[pool("web", &[])]);
    late.wait(MAX_AGE);
    late.reload(&[pool("web", &[2])]);
    assert_eq!((late.verdict(0), memory_of(&late).backends.len()), (Verdict::Unknown, 1), "too late");
}

#[test]
fn a_check_edited_while_nobody_ran_has_the_verdict_of_the_one_with_its_name() {
    let edited = |name| PoolSpec {
        checks: vec![CheckSpec { port: Some(9000), ..CheckSpec::new(name, check(5, 5)) }],
        ..pool("web", &[1, 2])
    };
    let node = restarted(memory_of(&known()), SECOND, &[edited("tcp")]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Healthy, Verdict::Unhealthy));
    let node = restarted(memory_of(&known()), SECOND, &[edited("other")]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unknown, Verdict::Unknown));
}

#[test]
fn backends_that_remember_differently_start_a_common_check_as_unknown() {
    let mut old = Node::new(&[pool("web", &[1]), PoolSpec { checks: one(check(2, 9)), ..pool("api", &[1]) }]);
    let keys: Vec<_> = old.in_flight.keys().copied().collect();
    old.answer_key(keys[0], pass());
    old.answer_key(keys[1], refusal());
    let node = restarted(memory_of(&old), SECOND, &[pool("web", &[1]), pool("api", &[1])]);
    assert_eq!((node.verdict(0), node.verdict(1)), (Verdict::Unknown, Verdict::Unknown));
}

#[test]
fn kept_orders_are_there_after_a_restart_and_maintained_backends_are_not_probed() {
    let mut old = known();
    old.order_to_keep("web", 1, Order::Drain);
    old.order_to_keep("web", 2, Order::Maintain);
    let mut node = restarted(memory_of(&old), SECOND, &[pool("web", &[1, 2])]);
    assert_eq!((node.standing(0).order, node.standing(1).order), (Order::Drain, Order::Maintain));
    assert!(node.candidates(0).is_empty());
    assert_eq!((node.in_flight.len(), node.control.probes_in_flight()), (1, 1));
    assert_eq!(node.control.target(TargetId(1)).probing(), Probing::Stopped);
    node.order("web", 2, Order::Serve);
    assert_eq!(node.in_flight.len(), 2);
}

#[test]
fn a_slow_start_goes_on_where_it_was() {
    let slow = || PoolSpec { slow_start: 90 * SECOND, checks: one(check(1, 1)), ..pool("web", &[1]) };
    let mut old = Node::new(&[slow()]);
    old.answer(1, refusal());
    old.wait(INTERVAL);
    old.answer(1, pass());
    old.wait(45 * SECOND);
    let ramp = old.standing(0).ramp;
    assert!(matches!(ramp, Ramp::At(_)), "{ramp:?}");
    let mut node = restarted(memory_of(&old), Duration::ZERO, &[slow()]);
    assert_eq!(node.standing(0).ramp, ramp);
    node.answer(1, pass());
    node.wait(45 * SECOND);
    assert_eq!(node.standing(0).ramp, Ramp::Full);
}
