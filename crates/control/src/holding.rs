//! What the suspicion of the node against itself does: it is told, and, where the plan allows it, verdicts are held.
//!
//! How long is the hold's own affair ([`evenkeel_health::hold`]), which verdict waits the judges'. Here both are brought
//! together, and every backend that is kept in service gets a word in the log.

use std::sync::Arc;

use evenkeel_health::ProbeKey;
use evenkeel_health::hold::{self, End};
use evenkeel_health::judge;
use evenkeel_health::suspicion::{self, Own, Why};
use evenkeel_model::TargetId;
use evenkeel_model::event::{HeldBack, What};
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeResult, Proof, Void};

use crate::control::Control;

/// Of Linux: the interface is down, there is no route.
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;

impl Control {
    /// Lets the suspicion hear of a probe.
    pub(crate) fn suspect_by(&mut self, key: ProbeKey, finding: &Finding) {
        let event = match &finding.result {
            // Silence passes without proof: a node cut off from its network hears it from everybody.
            ProbeResult::Passed(Pass::Silent(Proof::None)) => return,
            ProbeResult::Passed(_) => suspicion::Event::Passed(key),
            ProbeResult::Failed(failure) => suspicion::Event::Failed { key, why: why(failure) },
            ProbeResult::Void(Void::Late { .. }) => suspicion::Event::Void { key, why: Own::Late },
            ProbeResult::Void(Void::NoResources { .. }) => suspicion::Event::Void { key, why: Own::Shortage },
            ProbeResult::Void(_) => return,
        };
        self.suspect(event);
    }

    /// Tells the suspicion and does what it concludes.
    pub(crate) fn suspect(&mut self, event: suspicion::Event) {
        self.suspicion.handle(event, self.now);
        while let Some(output) = self.suspicion.poll_output() {
            match output {
                suspicion::Output::Suspected(ground) => {
                    self.record(self.now, What::SelfSuspected(ground));
                    self.hold.handle(hold::Event::Suspected, self.now);
                }
                suspicion::Output::Over { lasted } => {
                    self.record(self.now, What::SuspicionOver { lasted });
                    self.hold.handle(hold::Event::SuspicionOver, self.now);
                }
            }
            self.obey_hold();
        }
    }

    /// A new plan: what it allows holds for a suspicion that is there already, and for its new checks.
    pub(crate) fn adopt_hold(&mut self) {
        self.hold.handle(hold::Event::Allowed(self.plan.node.hold_on_suspicion), self.now);
        self.obey_hold();
        if self.hold.holds() {
            self.tell_judges(judge::Event::HoldBegan);
        }
    }

    /// Ends a hold whose time is up.
    pub(crate) fn review_hold(&mut self) {
        self.hold.handle_timeout(self.now);
        self.obey_hold();
    }

    /// Says that a verdict is held back, once for each run.
    pub(crate) fn tell_held_back(&mut self, id: TargetId, last: &Finding) {
        let target = &self.targets[id.index()];
        let probes = target.judge.progress().map_or(0, |progress| progress.results);
        for position in 0..self.targets[id.index()].backends.len() {
            let resting = self.targets[id.index()].backends[position];
            let backend = &self.backends[resting.index()];
            let held = HeldBack {
                pool: Arc::clone(&backend.pool),
                backend: backend.address,
                check: self.check_of(resting, id),
                probes,
                last: last.clone(),
            };
            self.record(last.ended, What::VerdictHeldBack(held));
        }
    }

    fn obey_hold(&mut self) {
        while let Some(output) = self.hold.poll_output() {
            match output {
                hold::Output::Began { at_most } => {
                    self.record(self.now, What::HoldBegan { at_most });
                    self.tell_judges(judge::Event::HoldBegan);
                }
                hold::Output::Ended { lasted, by } => {
                    let held = self.targets.iter().filter(|target| target.judge.is_held_back());
                    let held_back = held.map(|target| target.backends.len()).sum();
                    let (turned, event) = match by {
                        End::TimeUp => (true, judge::Event::HoldTimeUp { at: self.now }),
                        End::SuspicionOver => (false, judge::Event::HoldLifted),
                    };
                    self.record(self.now, What::HoldEnded { lasted, held_back, turned });
                    self.tell_judges(event);
                }
            }
        }
    }

    fn tell_judges(&mut self, event: judge::Event<'_>) {
        for position in 0..self.targets.len() {
            self.targets[position].judge.handle(event);
            self.hear_judge(TargetId::from_index(position));
        }
    }
}

fn why(failure: &Failure) -> Why {
    match failure.reason {
        FailureReason::Unreachable { errno: ENETDOWN | ENETUNREACH } => Why::NoRoute,
        _ => Why::Other,
    }
}
