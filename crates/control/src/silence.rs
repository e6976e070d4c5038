//! Marks backends whose probes meet silence that says nothing, once for each time that begins and ends.
//!
//! A verdict that does not change is no event, so without this a log would show a healthy backend of which nobody knows anything. A
//! single such probe is not worth a line; as many as would have changed the verdict are.

use evenkeel_model::event::{Silence, What};
use evenkeel_model::finding::{Finding, ProbeResult, Trust, Void};
use evenkeel_model::{Instant, TargetId};

use crate::control::Control;

/// How far a run of such probes has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubted {
    probes: u32,
    since: Instant,
    told: bool,
}

impl Control {
    /// Takes the last finding of a target, which the judge has heard.
    pub(crate) fn mark_silence(&mut self, id: TargetId, finding: &Finding) {
        let target = &mut self.targets[id.index()];
        if finding.result.trust() == Some(Trust::Untrusted) {
            if target.doubted.probes == 0 {
                target.doubted.since = finding.started;
            }
            target.doubted.probes = target.doubted.probes.saturating_add(1);
            if target.doubted.told || target.doubted.probes < target.check.timing.unhealthy_threshold {
                return;
            }
            target.doubted.told = true;
            let probes = target.doubted.probes;
            self.tell_silence(id, probes, None, finding);
            return;
        }
        // Our own faults say nothing either way.
        if matches!(&finding.result, ProbeResult::Void(void) if *void != Void::Silent) {
            return;
        }
        let Doubted { probes, since, told } = std::mem::take(&mut target.doubted);
        if told {
            self.tell_silence(id, probes, Some(since), finding);
        }
    }

    fn tell_silence(&mut self, id: TargetId, probes: u32, over_since: Option<Instant>, last: &Finding) {
        for position in 0..self.targets[id.index()].backends.len() {
            let resting = self.targets[id.index()].backends[position];
            let backend = &self.backends[resting.index()];
            let silence = Silence {
                pool: std::sync::Arc::clone(&backend.pool),
                backend: backend.address,
                check: self.check_of(resting, id),
                verdict: self.standings[resting.index()].verdict,
                probes,
                lasted: over_since.map(|since| last.ended - since),
                last: last.clone(),
            };
            self.record(last.ended, What::Silence(silence));
        }
    }
}
