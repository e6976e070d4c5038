//! What operators ask of backends, and what becomes of it over time, reloads and restarts.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::memory::{Memory, Outlives};
use evenkeel_control::{Changed, Control, Event, Obeyed, Probing, RuntimeChange};
use evenkeel_model::event::Refused;
use evenkeel_model::finding::ProbeResult;
use evenkeel_model::standing::{Order, Ramp, Verdict};
use evenkeel_model::{Cause, Instant, PoolId, TargetId};
use evenkeel_plan::Plan;

use crate::support::{PoolSpec, address, check, one, pass, plan, pool, refusal};
use crate::{INTERVAL, Node, SECOND};

const MINUTE: Duration = Duration::from_secs(60);

fn restarted(memory: &Memory, pools: &[PoolSpec]) -> Node {
    let now = Instant::from_nanos(1_000);
    Node::with(Control::with_memory(plan(pools), memory, 10 * MINUTE, now, 2), now)
}

fn probe_now(node: &mut Node, host: u8) {
    node.handle(Event::ProbeNow { pool: "web".into(), backend: address(host), by: "ops".into() });
}

fn last_text(node: &Node) -> String {
    node.events.last().expect("something happened").to_string()
}

#[test]
fn an_order_with_a_time_limit_falls_back_to_serve_by_itself_and_says_so() {
    for order in [Order::Drain, Order::Maintain] {
        let mut node = Node::new(&[PoolSpec { checks: Vec::new(), ..pool("web", &[1, 2]) }]);
        node.ordered("web", 1, order, Some(10 * MINUTE), false);
        assert_eq!(node.answers, [Ok(Obeyed::Changed)]);
        assert_eq!(node.candidates(0), [1]);
        assert_eq!(node.control.poll_timeout(), Some(node.now + 10 * MINUTE), "to the moment");
        node.wait(10 * MINUTE - Duration::from_nanos(1));
        assert_eq!(node.candidates(0), [1], "a nanosecond too early");
        node.wait(Duration::from_nanos(1));
        assert_eq!(node.candidates(0), [0, 1]);
        assert_eq!(node.names(), ["backend.ordered", "backend.order_over"]);
        let word = order.word();
        assert_eq!(
            last_text(&node),
            format!(
                "backend 10.0.0.1:8080 of pool \"web\": the time of its order {word} is over, it serves again; given by ops"
            )
        );
        assert_eq!((node.control.poll_timeout(), node.control.changes().count()), (None, 0));
    }
}

#[test]
fn what_is_ordered_last_holds_as_a_whole() {
    use Order::{Drain, Maintain, Serve};
    // (first order and its minutes), (second), the order after 1, 6, 11 and 21 minutes from the first; the second comes
    // after a minute.
    type Given = (Order, Option<u32>);
    let table: [(Given, Given, [Order; 3]); 8] = [
        ((Drain, Some(5)), (Drain, Some(10)), [Drain, Drain, Serve]),
        ((Drain, Some(10)), (Drain, Some(2)), [Drain, Serve, Serve]),
        ((Drain, Some(5)), (Drain, None), [Drain, Drain, Drain]),
        ((Drain, None), (Drain, Some(5)), [Drain, Serve, Serve]),
        ((Drain, Some(5)), (Maintain, None), [Maintain, Maintain, Maintain]),
        ((Maintain, Some(5)), (Drain, Some(15)), [Drain, Drain, Drain]),
        ((Drain, Some(5)), (Serve, None), [Serve, Serve, Serve]),
        ((Maintain, None), (Serve, None), [Serve, Serve, Serve]),
    ];
    for (first, second, expected) in table {
        let mut node = Node::new(&[PoolSpec { checks: Vec::new(), ..pool("web", &[1, 2]) }]);
        let minutes = |given: Given| given.1.map(|count| count * MINUTE);
        node.ordered("web", 1, first.0, minutes(first), false);
        node.wait(MINUTE);
        node.ordered("web", 1, second.0, minutes(second), false);
        let mut seen = vec![node.standing(0).order];
        for _ in 0..2 {
            // Ends that are passed on the way are heard of late and once.
            node.wait(5 * MINUTE + SECOND);
            seen.push(node.standing(0).order);
        }
        assert_eq!(seen, expected, "{first:?} then {second:?}");
        node.wait(30 * MINUTE);
        let over = node.names().iter().filter(|name| **name == "backend.order_over").count();
        assert_eq!(over, usize::from(second.1.is_some()), "{first:?} then {second:?}");
    }
}

#[test]
fn an_order_that_is_as_before_changes_nothing_and_is_answered() {
    let mut node = Node::new(&[pool("web", &[1])]);
    node.order("web", 1, Order::Serve);
    node.order("web", 1, Order::Drain);
    node.wait(SECOND);
    let published = node.published.len();
    node.order("web", 1, Order::Drain);
    node.weigh(1, None, true);
    let as_before = Ok(Obeyed::AsBefore);
    assert_eq!(node.answers, [as_before, Ok(Obeyed::Changed), as_before, as_before]);
    assert_eq!((node.names(), node.published.len()), (vec!["backend.ordered"], published));
    // To be kept is another thing to ask for.
    node.order_to_keep("web", 1, Order::Drain);
    assert_eq!(node.answers.last(), Some(&Ok(Obeyed::Changed)));
    assert_eq!(
        last_text(&node),
        "backend 10.0.0.1:8080 of pool \"web\": order drain without an end, by ops; kept over a restart"
    );
}

#[test]
fn whoever_asks_for_what_cannot_be_is_told_why_and_nothing_changes() {
    let unchecked = || PoolSpec { checks: Vec::new(), ..pool("bare", &[3]) };
    let mut lasting = Plan::clone(&plan(&[pool("web", &[1, 2]), unchecked()]));
    lasting.node.state = None;
    let mut node = Node::of(Arc::new(lasting));
    node.order("web", 2, Order::Maintain);
    node.answers.clear();
    node.events.clear();
    let order = |pool: &str, host, order, lasts: Option<Duration>, keep| {
        let (pool, backend, until) = (pool.into(), address(host), lasts.map(|lasts| Instant::START + lasts));
        Event::Ordered { pool, backend, order, until, keep, by: "ops".into() }
    };
    let weight = |host, weight, keep| Event::Weighed {
        pool: "web".into(),
        backend: address(host),
        weight,
        keep,
        by: "ops".into(),
    };
    let probe = |pool: &str, host| Event::ProbeNow { pool: pool.into(), backend: address(host), by: "ops".into() };
    let table = [
        (order("wbe", 1, Order::Drain, None, false), Refused::NoSuchPool),
        (order("web", 3, Order::Drain, None, false), Refused::NoSuchBackend),
        (order("web", 1, Order::Drain, None, true), Refused::NoStateFile),
        (order("web", 1, Order::Maintain, Some(MINUTE), true), Refused::NoStateFile),
        (order("web", 1, Order::Serve, Some(MINUTE), false), Refused::ServeHasNoEnd),
        (weight(1, Some(101), false), Refused::WeightOutOfRange { most: 100 }),
        (weight(1, Some(50), true), Refused::NoStateFile),
        (weight(9, Some(50), false), Refused::NoSuchBackend),
        (probe("web", 2), Refused::NotProbed),
        (probe("bare", 3), Refused::NoCheck),
        (probe("bear", 3), Refused::NoSuchPool),
    ];
    let (generation, changes) = (node.snapshot().generation, node.control.changes().count());
    for (event, why) in table {
        node.handle(event.clone());
        assert_eq!(node.answers.pop(), Some(Err(why)), "{event:?}");
        assert!(node.events.pop().is_some_and(|event| event.name().ends_with(".refused")), "{event:?}");
    }
    assert_eq!((node.snapshot().generation, node.control.changes().count()), (generation, changes));
    // There is nothing to be kept of what is as in the config.
    node.handle(order("web", 2, Order::Serve, None, true));
    assert_eq!(node.answers.pop(), Some(Ok(Obeyed::Changed)));
}

#[test]
fn a_weight_given_at_runtime_holds_until_it_is_taken_back_and_the_plan_keeps_its_own() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    let weights = |node: &Node| {
        let snapshot = node.snapshot();
        let members = snapshot.pool(PoolId(0)).candidates.members();
        members.iter().map(|member| (member.backend.0, member.weight)).collect::<Vec<_>>()
    };
    node.weigh(1, Some(20), false);
    assert_eq!(weights(&node), [(0, 20), (1, 100)]);
    assert_eq!(node.snapshot().plan.backends[0].weight, 100, "the plan is the config's");
    // A reload that says another weight is not what the operator asked for.
    let mut edited = pool("web", &[2, 1]);
    edited.backends[1].1 = 70;
    node.reload(&[edited]);
    assert_eq!(weights(&node), [(0, 100), (1, 20)]);
    node.weigh(1, Some(0), false);
    assert_eq!(weights(&node), [(0, 100)]);
    node.weigh(2, Some(0), false);
    assert_eq!(
        node.snapshot().pool(PoolId(0)).refusal,
        Some(Cause::NoBackendConfigured),
        "as with weight 0 in the config"
    );
    node.weigh(1, None, false);
    assert_eq!(weights(&node), [(1, 70)]);
    assert_eq!(last_text(&node), "backend 10.0.0.1:8080 of pool \"web\": weight 70 as in the config, was 0, by ops");
}

#[test]
fn a_weight_given_at_runtime_climbs_in_slow_start() {
    let slow = PoolSpec { slow_start: 90 * SECOND, checks: one(check(1, 1)), ..pool("web", &[1]) };
    let mut node = Node::new(&[slow]);
    node.weigh(1, Some(50), false);
    node.answers(1, 1, &refusal());
    node.answer(1, pass());
    assert_eq!(node.standing(0).ramp, Ramp::At(10));
    let weight = |node: &Node| node.snapshot().pool(PoolId(0)).candidates.members()[0].weight;
    assert_eq!(weight(&node), 5);
    node.weigh(1, Some(80), false);
    assert_eq!((weight(&node), node.standing(0).ramp), (8, Ramp::At(10)), "another weight is no recovery");
}

#[test]
fn a_probe_that_is_asked_for_starts_at_once_and_is_never_doubled() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    probe_now(&mut node, 1);
    assert_eq!((node.in_flight.len(), node.answers.pop()), (2, Some(Ok(Obeyed::Probing { waiting: 0, in_flight: 1 }))));
    node.answer(1, pass());
    node.wait(SECOND);
    assert_eq!(node.in_flight.len(), 1, "it waits for its interval");
    probe_now(&mut node, 1);
    assert_eq!((node.in_flight.len(), node.answers.pop()), (2, Some(Ok(Obeyed::Probing { waiting: 1, in_flight: 0 }))));
    let ended = node.now;
    node.answer(1, refusal());
    assert_eq!(node.control.target(TargetId(0)).probing(), Probing::Due(ended + INTERVAL), "the next gap is whole");
    // The finding counts like any other.
    for _ in 0..2 {
        node.wait(SECOND);
        probe_now(&mut node, 1);
        node.answer(1, refusal());
    }
    assert_eq!(node.verdict(0), Verdict::Unhealthy);
}

#[test]
fn asking_for_probes_without_pause_does_not_flood_a_backend() {
    let mut node = Node::new(&[pool("web", &[1])]);
    let mut probes = 0;
    for _ in 0..1000 {
        probe_now(&mut node, 1);
        if !node.in_flight.is_empty() {
            node.answer(1, pass());
            probes += 1;
        }
        node.wait(Duration::from_millis(1));
    }
    assert!((9..=11).contains(&probes), "{probes} probes in a second");
}

#[test]
fn what_differs_from_the_config_is_listed_with_who_and_when_and_survives_reloads() {
    let mut node = Node::new(&[pool("web", &[1, 2]), pool("api", &[1])]);
    node.wait(MINUTE);
    let ordered = node.now;
    node.ordered("web", 2, Order::Drain, Some(10 * MINUTE), true);
    node.wait(MINUTE);
    let weighed = node.now;
    node.weigh(2, Some(5), false);
    node.order("api", 1, Order::Maintain);
    let change = |pool: &str, host, what, since, until, kept| RuntimeChange {
        pool: pool.into(),
        backend: address(host),
        what,
        by: "ops".into(),
        since,
        until,
        kept,
    };
    let expected = vec![
        change("web", 2, Changed::Order(Order::Drain), ordered, Some(ordered + 10 * MINUTE), true),
        change("web", 2, Changed::Weight { given: 5, configured: 100 }, weighed, None, false),
        change("api", 1, Changed::Order(Order::Maintain), weighed, None, false),
    ];
    assert_eq!(node.control.changes().collect::<Vec<_>>(), expected);
    node.reload(&[pool("web", &[3, 2]), pool("api", &[1])]);
    assert_eq!(node.control.changes().collect::<Vec<_>>(), expected, "ids have changed, backends have not");
    node.reload(&[pool("web", &[3]), pool("api", &[1])]);
    assert_eq!(node.control.changes().collect::<Vec<_>>(), expected[2..], "what is gone takes its changes along");
    node.wait(20 * MINUTE);
    assert!(!node.names().contains(&"backend.order_over"), "of whoever is gone nothing ends any more");
    node.reload(&[pool("web", &[3, 2]), pool("api", &[1])]);
    assert_eq!(node.control.changes().count(), 1);
}

#[test]
fn only_what_was_to_be_kept_outlives_a_restart_and_an_upgrade_takes_all() {
    let web = || [pool("web", &[1, 2, 3, 4])];
    let mut node = Node::new(&web());
    node.order_to_keep("web", 1, Order::Drain);
    node.order("web", 2, Order::Maintain);
    node.weigh(3, Some(7), true);
    node.weigh(4, Some(9), false);
    node.wait(MINUTE);
    let kept = |node: &Node| -> Vec<(std::net::SocketAddr, Changed, bool)> {
        node.control.changes().map(|change| (change.backend, change.what, change.kept)).collect()
    };
    let weight = |given| Changed::Weight { given, configured: 100 };
    let all = [
        (address(1), Changed::Order(Order::Drain), true),
        (address(2), Changed::Order(Order::Maintain), false),
        (address(3), weight(7), true),
        (address(4), weight(9), false),
    ];
    let next = restarted(&node.control.memory(node.now, Outlives::Restart), &web());
    assert_eq!(kept(&next), [all[0], all[2]]);
    let upgraded = restarted(&node.control.memory(node.now, Outlives::Upgrade), &web());
    assert_eq!(kept(&upgraded), all);
    // Also of those whose names nobody has answered yet.
    let waiting = restarted(&node.control.memory(node.now, Outlives::Upgrade), &[pool("web", &[])]);
    let next = restarted(&waiting.control.memory(waiting.now, Outlives::Restart), &web());
    assert_eq!(kept(&next), [all[0], all[2]]);
}

#[test]
fn a_kept_order_that_was_taken_back_or_followed_by_a_passing_one_is_not_there_after_a_restart() {
    let web = || [pool("web", &[1, 2])];
    let mut node = Node::new(&web());
    node.order_to_keep("web", 1, Order::Drain);
    node.order("web", 1, Order::Serve);
    node.order_to_keep("web", 2, Order::Maintain);
    node.order("web", 2, Order::Drain);
    let next = restarted(&node.control.memory(node.now, Outlives::Restart), &web());
    assert_eq!((next.standing(0).order, next.standing(1).order), (Order::Serve, Order::Serve));
}

#[test]
fn a_time_limit_runs_on_while_nobody_runs() {
    let web = || [pool("web", &[1, 2])];
    let mut node = Node::new(&web());
    node.ordered("web", 1, Order::Drain, Some(5 * MINUTE), true);
    node.wait(MINUTE);
    let mut memory = node.control.memory(node.now, Outlives::Restart);
    memory.age = 2 * MINUTE;
    let mut early = restarted(&memory, &web());
    assert_eq!((early.candidates(0), early.names()), (vec![1], vec!["state.recalled"]));
    early.wait(2 * MINUTE);
    assert_eq!((early.candidates(0), early.names()), (vec![0, 1], vec!["state.recalled", "backend.order_over"]));
    memory.age = 4 * MINUTE;
    let late = restarted(&memory, &web());
    assert_eq!((late.candidates(0), late.names()), (vec![0, 1], vec!["backend.order_over", "state.recalled"]));
    assert_eq!(late.snapshot().generation, 1, "nobody has ever seen it drained");
}

#[test]
fn a_drain_that_is_prolonged_does_not_hold_its_sticky_clients_longer() {
    let mut node = Node::new(&[pool("web", &[1, 2])]);
    node.ordered("web", 1, Order::Drain, Some(MINUTE), false);
    let given = node.now;
    node.wait(30 * SECOND);
    node.ordered("web", 1, Order::Drain, Some(5 * MINUTE), false);
    let change = node.control.changes().next().expect("it is drained");
    assert_eq!((change.since, change.until), (given, Some(node.now + 5 * MINUTE)));
}

#[test]
fn events_are_numbered_without_gaps_and_can_be_taken_up_again_after_any_of_them() {
    let mut node = Node::new(&[PoolSpec { checks: one(check(1, 1)), ..pool("web", &[1]) }]);
    let results: [ProbeResult; 2] = [pass(), refusal()];
    for round in 0..20 {
        node.answers(1, 1, &results[round % 2]);
    }
    let seqs: Vec<u64> = node.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    for after in 0..=20 {
        let rest: Vec<u64> = node.control.events_after(after).map(|event| event.seq).collect();
        assert_eq!(rest, (after + 1..=20).collect::<Vec<_>>());
    }
    assert_eq!(node.control.events_after(u64::MAX).count(), 0, "of another process, or made up");
    let first = node.events.len();
    for round in 0..evenkeel_model::limits::RECENT_EVENTS.value as usize {
        node.answers(1, 1, &results[round % 2]);
    }
    let oldest = node.control.events_after(0).next().map(|event| event.seq);
    assert_eq!(oldest, Some(first as u64 + 1), "what is gone is seen by the number of the first");
}
