//! Several checks on one backend: what they say together, and what an edit of them changes.

use evenkeel_model::TargetId;
use evenkeel_model::event::{Because, What};
use evenkeel_model::standing::{Order, Verdict};

use crate::support::{CheckSpec, PoolSpec, check, pass, pool, refusal};
use crate::{INTERVAL, Node};

/// A pool of one backend whose checks probe port 1, port 2, and so on.
fn checked(names: &[&str]) -> PoolSpec {
    let check = |(name, port): (&&str, u16)| CheckSpec { port: Some(port), ..CheckSpec::new(name, check(2, 3)) };
    PoolSpec { checks: names.iter().zip(1..).map(check).collect(), ..pool("web", &[1]) }
}

#[test]
fn one_failing_check_is_enough_and_all_must_pass() {
    let mut node = Node::new(&[checked(&["front", "login"])]);
    node.answer_at(1, pass());
    assert_eq!((node.verdict(0), node.candidates(0)), (Verdict::Unknown, vec![0]), "the other has found nothing yet");
    assert!(node.events.is_empty());
    node.answer_at(2, pass());
    assert_eq!((node.verdict(0), node.names()), (Verdict::Healthy, vec!["backend.healthy"]));
    for _ in 0..3 {
        node.wait(INTERVAL);
        node.answer_at(2, refusal());
    }
    assert_eq!(node.verdict(0), Verdict::Unhealthy);
    let What::VerdictChanged(changed) = &node.events[1].what else { panic!("{:?}", node.events) };
    assert_eq!((changed.check.as_deref(), changed.checks), (Some("login"), 2));
    assert!(matches!(&changed.because, Because::Run { threshold: 3, evidence } if evidence.probes == 3));
}

#[test]
fn the_first_result_that_fails_makes_a_backend_of_several_checks_unhealthy_at_once() {
    let mut node = Node::new(&[checked(&["front", "login"])]);
    node.answer_at(2, refusal());
    assert_eq!((node.verdict(0), node.candidates(0)), (Verdict::Unhealthy, vec![]));
    node.answer_at(1, pass());
    assert_eq!((node.verdict(0), node.names()), (Verdict::Unhealthy, vec!["backend.unhealthy"]));
}

#[test]
fn a_backend_that_fails_two_checks_comes_back_with_the_second_and_status_shows_the_first() {
    let mut node = Node::new(&[checked(&["front", "login"])]);
    node.answer_at(1, refusal());
    node.answer_at(2, refusal());
    let since = node.standing(0).verdict_since;
    node.events.clear();
    for _ in 0..2 {
        node.wait(INTERVAL);
        node.answer_at(1, pass());
    }
    assert_eq!((node.verdict(0), node.standing(0).verdict_since), (Verdict::Unhealthy, since));
    assert!(node.events.is_empty(), "{:?}", node.events);
    let said = [0, 1].map(|target| node.control.target(TargetId(target)).verdict());
    assert_eq!(said, [Verdict::Healthy, Verdict::Unhealthy]);
    for _ in 0..2 {
        node.wait(INTERVAL);
        node.answer_at(2, pass());
    }
    assert_eq!((node.verdict(0), node.names()), (Verdict::Healthy, vec!["backend.healthy"]));
}

#[test]
fn an_order_to_maintain_stops_every_check_of_a_backend() {
    let mut node = Node::new(&[checked(&["front", "login"])]);
    node.order("web", 1, Order::Maintain);
    assert_eq!((node.cancelled.len(), node.in_flight.len()), (2, 0));
    node.order("web", 1, Order::Serve);
    assert_eq!(node.in_flight.len(), 2);
}

/// What an edit of the checks does to a backend whose checks had found so much.
struct Edit {
    what: &'static str,
    /// Verdicts of the old checks, by port.
    old: &'static [(&'static str, Verdict)],
    /// Names and ports of the new ones; one of a known port is the check that was there.
    new: &'static [(&'static str, u16)],
    /// What the new checks say before any of their probes has ended, and the backend with them.
    said: &'static [Verdict],
    backend: Verdict,
}

// An edit alone takes nobody's traffic and gives nobody any; what was taken away takes its verdict along.
#[test]
fn edits_of_checks_inherit_as_the_table_says() {
    use Verdict::{Healthy, Unhealthy, Unknown};
    let table = [
        Edit {
            what: "added",
            old: &[("a", Healthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Healthy, Healthy],
            backend: Healthy,
        },
        Edit {
            what: "added",
            old: &[("a", Unhealthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Unhealthy, Unknown],
            backend: Unhealthy,
        },
        Edit {
            what: "added",
            old: &[("a", Unknown)],
            new: &[("a", 1), ("b", 9)],
            said: &[Unknown, Unknown],
            backend: Unknown,
        },
        Edit { what: "the first", old: &[], new: &[("a", 9)], said: &[Unknown], backend: Unknown },
        Edit {
            what: "edited",
            old: &[("a", Healthy), ("b", Healthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Healthy, Healthy],
            backend: Healthy,
        },
        Edit {
            what: "edited",
            old: &[("a", Healthy), ("b", Unhealthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Healthy, Unhealthy],
            backend: Unhealthy,
        },
        Edit {
            what: "edited",
            old: &[("a", Unhealthy), ("b", Healthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Unhealthy, Healthy],
            backend: Unhealthy,
        },
        Edit {
            what: "edited",
            old: &[("a", Unhealthy), ("b", Unhealthy)],
            new: &[("a", 1), ("b", 9)],
            said: &[Unhealthy, Unhealthy],
            backend: Unhealthy,
        },
        Edit {
            what: "edited",
            old: &[("a", Healthy), ("b", Unknown)],
            new: &[("a", 1), ("b", 9)],
            said: &[Healthy, Unknown],
            backend: Unknown,
        },
        Edit {
            what: "both edited",
            old: &[("a", Unhealthy), ("b", Healthy)],
            new: &[("a", 8), ("b", 9)],
            said: &[Unhealthy, Healthy],
            backend: Unhealthy,
        },
        Edit {
            what: "renamed",
            old: &[("a", Unhealthy), ("b", Healthy)],
            new: &[("c", 1), ("b", 2)],
            said: &[Unhealthy, Healthy],
            backend: Unhealthy,
        },
        Edit {
            what: "replaced",
            old: &[("a", Healthy), ("b", Unhealthy)],
            new: &[("a", 1), ("c", 9)],
            said: &[Healthy, Unhealthy],
            backend: Unhealthy,
        },
        Edit {
            what: "replaced",
            old: &[("a", Unhealthy), ("b", Unhealthy)],
            new: &[("a", 1), ("c", 9)],
            said: &[Unhealthy, Unknown],
            backend: Unhealthy,
        },
        Edit {
            what: "replaced",
            old: &[("a", Healthy), ("b", Healthy)],
            new: &[("a", 1), ("c", 9)],
            said: &[Healthy, Healthy],
            backend: Healthy,
        },
        Edit {
            what: "taken away",
            old: &[("a", Healthy), ("b", Unhealthy)],
            new: &[("a", 1)],
            said: &[Healthy],
            backend: Healthy,
        },
        Edit {
            what: "taken away",
            old: &[("a", Healthy), ("b", Unhealthy)],
            new: &[("b", 2)],
            said: &[Unhealthy],
            backend: Unhealthy,
        },
        Edit {
            what: "taken away",
            old: &[("a", Healthy), ("b", Healthy)],
            new: &[("a", 1)],
            said: &[Healthy],
            backend: Healthy,
        },
        Edit {
            what: "all taken away",
            old: &[("a", Healthy), ("b", Unhealthy)],
            new: &[],
            said: &[],
            backend: Unknown,
        },
    ];
    for Edit { what, old, new, said, backend } in table {
        let at_port = |&(name, port): &(&str, u16)| CheckSpec { port: Some(port), ..CheckSpec::new(name, check(2, 3)) };
        let names: Vec<&str> = old.iter().map(|(name, _)| *name).collect();
        let mut node = Node::new(&[checked(&names)]);
        for ((_, verdict), port) in old.iter().zip(1..) {
            match verdict {
                Unknown => {}
                Healthy => node.answer_at(port, pass()),
                Unhealthy => node.answer_at(port, refusal()),
            }
        }
        let before = node.candidates(0);
        node.reload(&[PoolSpec { checks: new.iter().map(at_port).collect(), ..pool("web", &[1]) }]);
        let found: Vec<Verdict> = node.control.targets().map(|target| target.verdict()).collect();
        assert_eq!((&found[..], node.verdict(0)), (said, backend), "{what}: {old:?} to {new:?}");
        assert_eq!(node.candidates(0).is_empty(), backend == Unhealthy);
        let taken_away = new.len() < old.len();
        assert!(taken_away || node.candidates(0) == before, "{what}: {old:?} to {new:?} moved traffic");
        // Whatever is inherited, a whole run confirms or changes it.
        for _ in 0..3 {
            node.wait(INTERVAL);
            for port in new.iter().map(|(_, port)| *port) {
                node.answer_at(port, pass());
            }
        }
        assert_eq!(node.verdict(0), if new.is_empty() { Unknown } else { Healthy });
    }
}
