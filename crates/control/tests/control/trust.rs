//! `trust_traffic`: whose traffic passes is probed less often, and as often as ever as soon as it does not.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Look, Probing, Totals};
use evenkeel_health::passive::Sample;
use evenkeel_health::settings::PassiveSettings;
use evenkeel_model::TargetId;
use evenkeel_model::standing::Harm;
use evenkeel_plan::Plan;

use crate::support::{PoolSpec, address, check, one, pass, plan, pool, refusal};
use crate::{Event, INTERVAL, Node, SECOND};

const TRUSTED: Duration = Duration::from_secs(30);

/// A pool that trusts traffic and hears of harm.
fn trusting(hosts: &[u8]) -> Arc<Plan> {
    let mut settings = check(2, 3);
    settings.timing.trust_traffic = Some(TRUSTED);
    let mut plan = Arc::unwrap_or_clone(plan(&[PoolSpec { checks: one(settings), ..pool("web", hosts) }]));
    Arc::make_mut(&mut plan.pools[0]).passive = Some(Arc::new(PassiveSettings::default()));
    Arc::new(plan)
}

impl Node {
    /// Has the first backend done so much in all, the others nothing.
    fn sample(&mut self, answered: u64, failed: u64) {
        let count = self.snapshot().plan.backends.len() as u8;
        let totals = (1..=count).map(|host| {
            let done = Sample { attempts: answered, failed, answered, waited: Duration::ZERO };
            Totals { backend: address(host), totals: if host == 1 { done } else { Sample::default() } }
        });
        let totals = totals.collect();
        self.handle(Event::Sampled { pool: "web".into(), look: Look::Trust, totals });
    }

    /// From now to the next probe.
    fn next_probe(&self, target: u32) -> Duration {
        match self.control.target(TargetId(target)).probing() {
            Probing::Due(at) => at - self.now,
            other => panic!("nothing is due: {other:?}"),
        }
    }
}

/// Backend 1 is healthy and has answered 10 requests in all.
fn trusted() -> Node {
    let mut node = Node::of(trusting(&[1, 2]));
    node.answer(1, pass());
    node.answer(2, pass());
    node.sample(5, 0);
    node.sample(10, 0);
    node.wait(INTERVAL);
    node.answer(1, pass());
    node.answer(2, pass());
    node
}

#[test]
fn who_answers_and_fails_nothing_is_probed_at_the_longer_gap_and_others_are_not() {
    let node = trusted();
    assert_eq!((node.next_probe(0), node.next_probe(1)), (TRUSTED, INTERVAL));
}

#[test]
fn one_look_proves_nothing() {
    let mut node = Node::of(trusting(&[1]));
    node.sample(1000, 0);
    node.answer(1, pass());
    assert_eq!(node.next_probe(0), INTERVAL, "all of it may be long ago");
}

#[test]
fn looks_are_an_interval_apart_and_only_where_traffic_is_trusted() {
    let mut node = Node::of(trusting(&[1]));
    for _ in 0..10 {
        node.wait(SECOND);
    }
    assert_eq!(node.looks, vec![("web".into(), Look::Trust); 5]);
    let mut node = Node::new(&[pool("web", &[1])]);
    node.wait(100 * SECOND);
    assert_eq!(node.looks, []);
}

#[test]
fn a_failure_among_the_traffic_brings_the_next_probe_forward() {
    let mut node = trusted();
    node.now += SECOND;
    node.sample(20, 1);
    assert_eq!(node.next_probe(0), SECOND, "an interval after the end of the last one");
    node.now += SECOND / 2;
    node.sample(30, 1);
    assert_eq!(node.next_probe(0), SECOND / 2, "what was brought forward stays");
}

#[test]
fn harm_that_is_told_between_looks_does_so_at_once_and_overdue_is_now() {
    let mut node = trusted();
    node.now += 10 * SECOND;
    assert_eq!(node.in_flight.len(), 0);
    node.handle(Event::Harmed { pool: "web".into(), backend: address(1), harm: Harm::Timeout, failures: 1 });
    assert!(node.in_flight.values().any(|probed| *probed == address(1)), "the interval is long over");
}

#[test]
fn traffic_that_ceases_ends_the_trust_too() {
    let mut node = trusted();
    node.now += SECOND;
    node.sample(10, 0);
    assert_eq!(node.next_probe(0), SECOND);
}

#[test]
fn a_probe_that_fails_is_followed_up_as_fast_as_ever_and_trust_returns_with_the_next_pass() {
    let mut node = trusted();
    node.wait(TRUSTED);
    node.answer(1, refusal());
    assert_eq!(node.next_probe(0), INTERVAL, "the gap of a transition");
    node.wait(INTERVAL);
    node.answer(1, pass());
    assert_eq!(node.next_probe(0), TRUSTED);
}

#[test]
fn a_reload_keeps_what_traffic_has_shown() {
    let mut node = trusted();
    node.handle(Event::PlanChanged(trusting(&[1, 2, 3])));
    node.wait(TRUSTED);
    node.answer(1, pass());
    assert_eq!(node.next_probe(0), TRUSTED);
}
