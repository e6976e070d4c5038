//! Silence that says nothing: what is told of it, and that it changes no verdict.

use std::time::Duration;

use evenkeel_model::finding::{Doubt, Pass, ProbeResult, Proof, Trust, Void};
use evenkeel_model::standing::Verdict;

use crate::support::{late, plan, pool, refusal};
use crate::{INTERVAL, Node};

fn doubtful() -> ProbeResult {
    ProbeResult::Void(Void::Doubtful(Doubt::NothingRefused { port: 1, last: None }))
}

fn trusted() -> ProbeResult {
    ProbeResult::Passed(Pass::Silent(Proof::Refusal { apart: Duration::ZERO }))
}

fn silence(node: &Node) -> Option<Trust> {
    node.control.targets().next().expect("there is one").silence()
}

fn answer(node: &mut Node, result: ProbeResult) {
    node.answer(1, result);
    node.wait(INTERVAL);
}

#[test]
fn as_many_doubtful_probes_as_would_change_the_verdict_are_told_once_and_so_is_their_end() {
    let mut node = Node::of(plan(&[pool("dns", &[1])]));
    answer(&mut node, trusted());
    assert_eq!((node.names(), silence(&node)), (vec!["backend.healthy"], Some(Trust::Trusted)));
    node.events.clear();
    for probes in 1..=5 {
        answer(&mut node, doubtful());
        // Our own lateness neither adds to the run nor ends it.
        answer(&mut node, late());
        let told = if probes < 3 { vec![] } else { vec!["backend.silence_untrusted"] };
        node.events.retain(|event| event.name() != "probes.void");
        assert_eq!((node.names(), silence(&node)), (told, Some(Trust::Untrusted)), "after {probes}");
    }
    assert_eq!(
        node.events[0].to_string(),
        "backend 10.0.0.1:8080 of pool \"dns\" stays healthy, and nobody can say whether it is: 3 probes in a row met \
         silence that says nothing, last: silence that cannot be trusted: closed port 1 was not refused either (it never \
         was: a firewall keeps icmp back, or the port is open) after 0.0ms"
    );
    node.events.clear();
    answer(&mut node, trusted());
    assert_eq!((node.names(), silence(&node)), (vec!["backend.silence_over"], Some(Trust::Trusted)));
    assert_eq!(node.standing(0).verdict, Verdict::Healthy);
}

#[test]
fn a_doubtful_probe_now_and_then_is_no_event_and_neither_ends_a_run_of_failures() {
    let mut node = Node::of(plan(&[pool("dns", &[1])]));
    answer(&mut node, trusted());
    node.events.clear();
    for result in [doubtful(), doubtful(), trusted(), doubtful(), doubtful(), trusted()] {
        answer(&mut node, result);
    }
    assert_eq!(node.names(), Vec::<&str>::new());
    for result in [refusal(), doubtful(), refusal(), doubtful(), refusal()] {
        answer(&mut node, result);
    }
    assert_eq!((node.names(), silence(&node)), (vec!["backend.unhealthy"], None));
}

#[test]
fn a_backend_of_which_nothing_was_ever_heard_stays_unknown_and_serves() {
    let mut node = Node::of(plan(&[pool("dns", &[1])]));
    for _ in 0..3 {
        answer(&mut node, doubtful());
    }
    assert_eq!(node.names(), ["backend.silence_untrusted"]);
    assert_eq!(node.standing(0).verdict, Verdict::Unknown);
    assert_eq!(node.snapshot().pools[0].candidates.members().len(), 1);
}
