//! `panic_below`: when too little of a pool may be used, and what becomes of new work then.

use std::sync::Arc;

use evenkeel_model::Cause;
use evenkeel_model::standing::{Order, Ramp, Verdict};
use evenkeel_plan::Plan;

use crate::support::{PoolSpec, address, pass, plan, pool, refusal};
use crate::{Event, INTERVAL, Node, SECOND};

fn panicking(spec: PoolSpec, below: Option<u32>) -> Arc<Plan> {
    let mut plan = Arc::unwrap_or_clone(plan(&[spec]));
    Arc::make_mut(&mut plan.pools[0]).panic_below = below;
    Arc::new(plan)
}

/// Backends 1, 2, … with these weights and orders, of which those named turn out dead.
fn pool_of(backends: &[(u32, Order)], dead: &[u8], below: Option<u32>) -> Node {
    let mut spec = pool("web", &[]);
    spec.backends = (1..).zip(backends).map(|(host, &(weight, _))| (address(host), weight)).collect();
    let mut node = Node::of(panicking(spec, below));
    for (host, &(_, order)) in (1..).zip(backends) {
        node.answer(host, if dead.contains(&host) { refusal() } else { pass() });
        node.order("web", host, order);
    }
    node
}

#[test]
fn below_the_share_everybody_but_the_operators_own_is_a_candidate() {
    use Order::{Drain, Maintain, Serve};
    // weights and orders, the dead, `panic_below`, is it a panic, who is a candidate, what an empty pool says
    type Row = (&'static [(u32, Order)], &'static [u8], Option<u32>, bool, &'static [u32], Option<Cause>);
    let table: [Row; 13] = [
        (&[(1, Serve), (1, Serve)], &[1], None, false, &[1], None),
        (&[(1, Serve), (1, Serve)], &[1, 2], None, false, &[], Some(Cause::AllBackendsUnhealthy)),
        // Half is not less than half.
        (&[(1, Serve), (1, Serve)], &[1], Some(50), false, &[1], None),
        (&[(1, Serve), (1, Serve)], &[1], Some(51), true, &[0, 1], None),
        (&[(1, Serve), (1, Serve)], &[1, 2], Some(50), true, &[0, 1], None),
        (&[(1, Serve), (1, Serve)], &[1, 2], Some(1), true, &[0, 1], None),
        // Weights count, not heads.
        (&[(9, Serve), (1, Serve), (1, Serve)], &[2, 3], Some(50), false, &[0], None),
        (&[(9, Serve), (1, Serve), (1, Serve)], &[1], Some(50), true, &[0, 1, 2], None),
        // The drained count on neither side, and get nothing.
        (&[(1, Serve), (1, Drain), (1, Maintain)], &[], Some(50), false, &[0], None),
        (&[(1, Serve), (1, Serve), (1, Drain), (1, Drain)], &[1, 2], Some(50), true, &[0, 1], None),
        (&[(1, Drain), (1, Drain)], &[1], Some(50), false, &[], Some(Cause::AllBackendsDrained)),
        // Nor those without weight.
        (&[(1, Serve), (0, Serve)], &[1], Some(50), true, &[0], None),
        (&[(0, Serve), (0, Serve)], &[1], Some(50), false, &[], Some(Cause::NoBackendConfigured)),
    ];
    for (backends, dead, below, panics, candidates, refusal) in table {
        let node = pool_of(backends, dead, below);
        let snapshot = node.snapshot();
        assert_eq!(node.candidates(0), candidates, "{backends:?} {dead:?} {below:?}");
        assert_eq!(
            (snapshot.pools[0].panic, snapshot.pools[0].refusal),
            (panics, refusal),
            "{backends:?} {dead:?} {below:?}"
        );
        assert_eq!(node.names().contains(&"pool.panic"), panics, "{backends:?} {dead:?} {below:?}");
    }
}

#[test]
fn a_panic_is_told_once_with_its_numbers_and_so_is_its_end() {
    let mut node = pool_of(&[(1, Order::Serve); 4], &[1, 2, 3], Some(50));
    assert_eq!(node.names().iter().filter(|name| **name == "pool.panic").count(), 1, "{:?}", node.names());
    let told = node.events.iter().find(|event| event.name() == "pool.panic").expect("just counted").to_string();
    assert_eq!(
        told,
        "pool \"web\" panics: 25 % of its weight may be used, less than panic_below (50 %); new work goes to all its backends that are not drained or in maintenance, unhealthy ones too"
    );
    assert_eq!(
        (node.verdict(0), node.candidates(0)),
        (Verdict::Unhealthy, vec![0, 1, 2, 3]),
        "the verdict stays a fact"
    );
    node.wait(INTERVAL);
    node.answers(1, 2, &pass());
    assert_eq!(node.candidates(0), [0, 3], "half of it may be used again");
    let told = node.events.last().expect("the end of it");
    assert_eq!(
        (told.name(), told.to_string().as_str()),
        ("pool.panic_over", "pool \"web\" is over its panic: 50 % of its weight may be used")
    );
}

#[test]
fn in_a_panic_nobody_starts_slowly_and_one_that_does_counts_whole() {
    let spec = PoolSpec { slow_start: 90 * SECOND, ..pool("web", &[1, 2]) };
    let mut node = Node::of(panicking(spec, Some(60)));
    node.answer(1, refusal());
    node.answer(2, refusal());
    node.wait(INTERVAL);
    node.answers(1, 2, &pass());
    let weights = |node: &Node| {
        let snapshot = node.snapshot();
        snapshot.pools[0].candidates.members().iter().map(|member| member.weight).collect::<Vec<u32>>()
    };
    assert_eq!((node.standing(0).ramp, weights(&node)), (Ramp::At(10), vec![100, 100]), "half is less than 60 %");
    node.answers(2, 2, &pass());
    assert_eq!(weights(&node), [10, 10], "all of it may be used, however slowly both begin");
}

#[test]
fn a_reload_may_end_a_panic_and_begin_one() {
    let mut node = pool_of(&[(1, Order::Serve); 2], &[1], Some(80));
    assert!(node.snapshot().pools[0].panic);
    let with =
        |below| panicking(PoolSpec { backends: vec![(address(1), 1), (address(2), 1)], ..pool("web", &[]) }, below);
    node.handle(Event::PlanChanged(with(None)));
    assert_eq!((node.candidates(0), node.snapshot().pools[0].panic), (vec![1], false));
    node.handle(Event::PlanChanged(with(Some(51))));
    assert_eq!((node.candidates(0), node.snapshot().pools[0].panic), (vec![0, 1], true));
    let told: Vec<&str> = node.names().into_iter().filter(|name| name.starts_with("pool.")).collect();
    assert_eq!(told, ["pool.panic", "pool.panic_over", "pool.panic"]);
}
