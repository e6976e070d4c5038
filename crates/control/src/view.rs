//! Makes snapshots: who of a pool may receive new work, or why nobody may.
//!
//! Only touched pools are rebuilt, and a rebuilt view that equals the old one is thrown away for it, so
//! that workers keep what they derived from an unchanged view.

use std::sync::Arc;

use evenkeel_balance::{Candidates, Member};
use evenkeel_model::standing::{Order, Standing};
use evenkeel_model::{Cause, PoolId};
use evenkeel_plan::{Plan, PoolView, Snapshot};

use crate::control::Control;

impl Control {
    /// Makes the snapshot of this moment the current one.
    pub(crate) fn publish(&mut self) -> Arc<Snapshot> {
        for id in std::mem::take(&mut self.touched) {
            let view = view(&self.plan, id, &self.standings);
            let slot = &mut self.views[id.index()];
            if **slot != view {
                *slot = Arc::new(view);
            }
        }
        self.stale = false;
        self.snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation + 1,
            made: self.now,
            plan: Arc::clone(&self.plan),
            standings: self.standings.clone(),
            pools: self.views.clone(),
        });
        Arc::clone(&self.snapshot)
    }
}

fn view(plan: &Plan, id: PoolId, standings: &[Standing]) -> PoolView {
    let members = plan.backends_of(id).map(|(backend, settings)| {
        let weight = standings[backend.index()].effective_weight(settings.weight);
        Member::new(backend, settings.address, weight)
    });
    let candidates = Candidates::new(plan.pools[id.index()].schedule, members);
    let refusal = candidates.is_empty().then(|| refusal(plan, id, standings));
    PoolView { candidates, refusal }
}

/// Why a pool without candidates has none. The operator's own doing is named before the backends'.
fn refusal(plan: &Plan, id: PoolId, standings: &[Standing]) -> Cause {
    let mut serving = plan.backends_of(id).filter(|(_, settings)| settings.weight > 0).peekable();
    if serving.peek().is_none() {
        return Cause::NoBackendConfigured;
    }
    if serving.all(|(backend, _)| standings[backend.index()].order != Order::Serve) {
        return Cause::AllBackendsDrained;
    }
    Cause::AllBackendsUnhealthy
}
