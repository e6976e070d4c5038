//! `hold_on_suspicion`: what is kept from turning unhealthy while the node suspects itself, and what follows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Control, Output, ProbeKey};
use evenkeel_model::event::What;
use evenkeel_model::finding::{Finding, ProbeKind, ProbeResult};
use evenkeel_model::standing::Verdict;
use evenkeel_model::{BackendId, Instant};
use evenkeel_plan::Plan;

use crate::support::{late, pass, plan, pool, refusal};
use crate::{Event, INTERVAL, Node, SECOND};

const LIMIT: Duration = Duration::from_secs(30);

/// Three unrelated pools of two backends each.
fn holding(limit: Option<Duration>) -> Arc<Plan> {
    let mut plan = Arc::unwrap_or_clone(plan(&[pool("web", &[1, 2]), pool("api", &[3, 4]), pool("img", &[5, 6])]));
    plan.node.hold_on_suspicion = limit;
    Arc::new(plan)
}

fn all(node: &mut Node, result: &ProbeResult) {
    for host in 1..=6 {
        node.answer(host, result.clone());
    }
    node.wait(INTERVAL);
}

/// A node that suspects itself, every backend two failures from where it was healthy.
fn suspicious(limit: Option<Duration>) -> Node {
    let mut node = Node::of(holding(limit));
    all(&mut node, &pass());
    all(&mut node, &refusal());
    all(&mut node, &refusal());
    assert!(node.names().contains(&"node.suspects_itself"));
    node.events.clear();
    node
}

fn unhealthy(node: &Node) -> usize {
    node.snapshot().standings.iter().filter(|standing| standing.verdict == Verdict::Unhealthy).count()
}

#[test]
fn without_the_option_a_suspicion_holds_nothing() {
    let mut node = suspicious(None);
    all(&mut node, &refusal());
    assert_eq!((unhealthy(&node), node.control.holds_verdicts()), (6, false));
}

#[test]
fn what_is_held_back_is_told_once_and_turns_when_the_time_is_up() {
    let mut node = suspicious(Some(LIMIT));
    all(&mut node, &refusal());
    all(&mut node, &refusal());
    assert_eq!((unhealthy(&node), node.control.holds_verdicts()), (0, true));
    assert_eq!(node.names(), ["backend.verdict_held_back"; 6]);
    assert_eq!(
        node.events[0].to_string(),
        "backend 10.0.0.1:8080 of pool \"web\" would be unhealthy (3 probes in a row failed, last: connect refused after 0.0ms), but this node suspects itself"
    );
    node.events.clear();
    let until = node.control.poll_timeout().expect("the hold ends");
    node.wait(LIMIT);
    assert!(until <= node.now);
    assert_eq!((unhealthy(&node), node.control.holds_verdicts()), (6, false));
    assert_eq!(node.names()[0], "node.hold_over");
    assert!(node.events[0].to_string().ends_with("; 6 verdicts that still fail turn now"), "{}", node.events[0]);
    assert_eq!(&node.names()[1..], ["backend.unhealthy"; 6]);
    assert_eq!(node.standing(0).verdict_since, node.now, "it dates from when it was let through");
    assert!(node.control.suspects_itself_since().is_some(), "the suspicion itself goes on");
}

#[test]
fn when_the_suspicion_passes_the_next_probe_of_each_decides() {
    let mut node = suspicious(Some(LIMIT));
    all(&mut node, &refusal());
    node.events.clear();
    for host in 1..=6 {
        assert_eq!(
            (unhealthy(&node), host <= 3),
            (0, node.control.holds_verdicts()),
            "half of them are back at the third"
        );
        node.answer(host, if host == 6 { refusal() } else { pass() });
    }
    assert_eq!((unhealthy(&node), node.verdict(5)), (1, Verdict::Unhealthy), "only the one that still fails");
    assert_eq!(node.names(), ["node.suspicion_over", "node.hold_over", "backend.unhealthy"]);
    assert!(
        node.events[1].to_string().ends_with("; 4 verdicts held back are decided by their next probe"),
        "{}",
        node.events[1]
    );
}

#[test]
fn a_check_that_a_reload_brings_in_mid_hold_is_held_too() {
    let mut node = suspicious(Some(LIMIT));
    let mut more = Arc::unwrap_or_clone(plan(&[
        pool("web", &[1, 2]),
        pool("api", &[3, 4]),
        pool("img", &[5, 6]),
        pool("new", &[7]),
    ]));
    more.node.hold_on_suspicion = Some(LIMIT);
    node.handle(Event::PlanChanged(Arc::new(more)));
    node.answer(7, refusal());
    assert_eq!(node.verdict(6), Verdict::Unknown, "its first failure decides nothing now");
    node.wait(LIMIT);
    assert_eq!(node.verdict(6), Verdict::Unhealthy);
}

#[test]
fn a_reload_without_the_option_lets_everything_through_at_once() {
    let mut node = suspicious(Some(LIMIT));
    all(&mut node, &refusal());
    node.handle(Event::PlanChanged(holding(None)));
    assert_eq!((unhealthy(&node), node.control.holds_verdicts()), (6, false));
}

#[test]
fn a_node_that_is_late_for_most_probes_says_so_and_holds() {
    let mut node = Node::of(holding(Some(LIMIT)));
    all(&mut node, &pass());
    all(&mut node, &late());
    let told = node.events.iter().find(|event| event.name() == "node.suspects_itself").expect("most probes are void");
    assert!(told.to_string().contains("say nothing, 4 because it was late"), "{told}");
    assert!(node.control.holds_verdicts());
}

/// Two nodes hear the same findings, and only one may hold. It is never harder on a backend than the other, never turns one
/// unhealthy while it holds, holds no longer than it may, and is of one mind with the other when things have calmed down.
#[test]
fn a_node_that_holds_differs_from_one_that_does_not_only_in_patience() {
    let (mut held_back, mut holds) = (0, 0);
    for seed in 1..=60u64 {
        let (told, begun) = Twins::new(seed).live();
        held_back += told;
        holds += begun;
    }
    assert!(held_back > 100 && holds > 60, "a dull life: {held_back} held back in {holds} holds");
}

struct Twins {
    free: Control,
    patient: Control,
    now: Instant,
    /// Their keys are the same, since they start the same probes.
    in_flight: BTreeMap<ProbeKey, SocketAddr>,
    dice: u64,
    holding_since: Option<Instant>,
    held_back: usize,
    holds: usize,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let now = Instant::from_nanos(seed);
        let free = Control::new(holding(None), now, seed);
        let patient = Control::new(holding(Some(LIMIT)), now, seed);
        let (in_flight, dice) = (BTreeMap::new(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut twins = Twins { free, patient, now, in_flight, dice, holding_since: None, held_back: 0, holds: 0 };
        twins.drain();
        twins
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn live(mut self) -> (usize, usize) {
        // Mostly well, sometimes lost from the network for a while, and some hosts die for themselves.
        let (mut lost, mut dead) = (false, None);
        for step in 0..600 {
            if step % 20 == 0 {
                lost = self.roll(4) == 0;
                dead = (self.roll(3) == 0).then(|| self.roll(6) as u8 + 1);
            }
            let calm = step >= 560;
            while let Some((&key, &address)) = self.in_flight.first_key_value() {
                self.in_flight.remove(&key);
                let host = match address {
                    SocketAddr::V4(address) => address.ip().octets()[3],
                    SocketAddr::V6(_) => unreachable!("all backends are IPv4"),
                };
                let fails = !calm && ((lost && self.roll(10) > 0) || dead == Some(host) || self.roll(30) == 0);
                let result = if fails { refusal() } else { pass() };
                self.tell(key, result);
            }
            self.now += INTERVAL / 4;
            for control in [&mut self.free, &mut self.patient] {
                control.handle_timeout(self.now);
            }
            self.drain();
        }
        assert_eq!(self.verdicts(true), self.verdicts(false), "all has been well for many windows");
        (self.held_back, self.holds)
    }

    fn tell(&mut self, key: ProbeKey, result: ProbeResult) {
        let finding = Finding { kind: ProbeKind::Tcp, started: self.now, ended: self.now, result };
        for control in [&mut self.free, &mut self.patient] {
            control.handle(Event::ProbeDone { key, finding: finding.clone() }, self.now);
        }
        self.drain();
    }

    fn verdicts(&self, patient: bool) -> Vec<Verdict> {
        let control = if patient { &self.patient } else { &self.free };
        (0..6).map(|backend| control.standing(BackendId(backend)).verdict).collect()
    }

    fn drain(&mut self) {
        let mut started = Vec::new();
        while let Some(output) = self.free.poll_output() {
            if let Output::StartProbe { key, address, .. } = output {
                started.push((key, address));
            }
        }
        while let Some(output) = self.patient.poll_output() {
            match output {
                Output::StartProbe { key, address, .. } => {
                    assert_eq!((key, address), started.remove(0), "they no longer probe alike");
                    self.in_flight.insert(key, address);
                }
                Output::Record(event) => self.hear(&event.what),
                Output::CancelProbe { .. }
                | Output::LookAtTraffic { .. }
                | Output::Publish(_)
                | Output::Answered(_) => {}
            }
        }
        assert_eq!(started, [], "they no longer probe alike");
        if let Some(since) = self.holding_since {
            assert!(self.now - since < LIMIT + SECOND, "held for longer than allowed");
        }
        assert_eq!(self.holding_since.is_some(), self.patient.holds_verdicts());
        for (patient, free) in self.verdicts(true).into_iter().zip(self.verdicts(false)) {
            assert!(patient != Verdict::Unhealthy || free == Verdict::Unhealthy, "patience made it worse");
        }
    }

    fn hear(&mut self, what: &What) {
        match what {
            What::HoldBegan { at_most } => {
                assert_eq!((self.holding_since.replace(self.now), *at_most), (None, LIMIT));
                self.holds += 1;
            }
            What::HoldEnded { .. } => assert!(self.holding_since.take().is_some()),
            What::VerdictHeldBack(_) => {
                assert!(self.holding_since.is_some());
                self.held_back += 1;
            }
            What::VerdictChanged(changed) if changed.to == Verdict::Unhealthy => {
                assert_eq!(self.holding_since, None, "it turned unhealthy in mid-hold");
            }
            _ => {}
        }
    }
}
