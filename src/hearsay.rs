//! Asks the workers' counters what clients met at a backend that was silent to a udp probe.
//!
//! What that means is for `health::hearsay` to say. Only backends whose own port is probed are asked about, in pools that serve
//! nothing but udp listeners: elsewhere the counters tell of another service.

use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_control::{Control, ProbeKey};
use evenkeel_health::hearsay::{self, Sessions};
use evenkeel_model::Cause;
use evenkeel_model::finding::{Finding, Trust};
use evenkeel_observe::Registry;
use evenkeel_observe::metrics::BackendLabel;

/// What was heard at the silent probe before, by probe.
#[derive(Debug, Default)]
pub struct Hearsay {
    heard: HashMap<u64, Heard>,
}

#[derive(Debug)]
struct Heard {
    backends: Vec<BackendLabel>,
    before: Option<Sessions>,
}

impl Hearsay {
    /// Weighs what a probe found, in silence, by what clients met since the one before. The first one has nothing to compare.
    pub fn weigh(&mut self, control: &Control, registry: &Registry, key: u64, finding: &mut Finding) {
        if !matches!(finding.result.trust(), Some(Trust::Unmeasured | Trust::Untrusted)) {
            return;
        }
        let heard = self.heard.entry(key).or_insert_with(|| Heard { backends: backends(control, key), before: None });
        let sum = |number: fn(&evenkeel_observe::BackendMetrics) -> u64| {
            heard.backends.iter().map(|label| registry.sum_backend(label, number)).sum()
        };
        let now = Sessions {
            refused: sum(|set| set.causes.read(Cause::BackendConnectRefused)),
            answered: sum(|set| set.first_byte.count()),
        };
        if let Some(before) = heard.before.replace(now) {
            finding.result = hearsay::weigh(finding.result.clone(), before, now);
        }
    }

    /// A probe may be of other backends now, whose counts are others.
    pub fn plan_changed(&mut self, control: &Control) {
        self.heard.retain(|&key, heard| {
            let backends = backends(control, key);
            if heard.backends != backends {
                *heard = Heard { backends, before: None };
            }
            control.target_of(ProbeKey(key)).is_some()
        });
    }
}

fn backends(control: &Control, key: u64) -> Vec<BackendLabel> {
    let Some(target) = control.target_of(ProbeKey(key)) else { return Vec::new() };
    let plan = Arc::clone(&control.snapshot().plan);
    let of_datagrams = |pool| {
        let mut users = plan.listeners.iter().filter(|listener| listener.pools().contains(&pool));
        users.all(|listener| !listener.protocol.is_stream())
    };
    let resting = target.backends().iter().map(|id| &plan.backends[id.index()]);
    let asked = resting.filter(|backend| backend.address == target.address() && of_datagrams(backend.pool));
    let label = |backend: &evenkeel_plan::Backend| BackendLabel {
        pool: Arc::clone(&plan.pools[backend.pool.index()].name),
        backend: backend.address.to_string().into(),
    };
    asked.map(label).collect()
}
