//! Makes snapshots: who of a pool may receive new work, or why nobody may.
//!
//! Only touched pools are rebuilt, and a rebuilt view that equals the old one is thrown away for it, so
//! that workers keep what they derived from an unchanged view.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::sticky::{Aside, Bystander};
use evenkeel_balance::{BackendKey, Candidates, Member, Schedule};
use evenkeel_model::event::{Panic, What};
use evenkeel_model::standing::{Order, Ramp, Share, Standing, Traffic, Verdict};
use evenkeel_model::{BackendId, Cause, PoolId, limits};
use evenkeel_plan::{Backend, Plan, PoolView, Snapshot};

use crate::backends::BackendState;
use crate::control::Control;

impl Control {
    /// Makes the snapshot of this moment the current one.
    pub(crate) fn publish(&mut self) -> Arc<Snapshot> {
        for id in std::mem::take(&mut self.touched) {
            let view = view(&self.plan, id, &self.standings, &self.backends);
            let panicked = self.views[id.index()].panic;
            if panicked != view.panic {
                self.tell_of_panic(id, view.panic);
            }
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

    fn tell_of_panic(&mut self, id: PoolId, panics: bool) {
        let pool = &self.plan.pools[id.index()];
        let usable = Usable::of(&self.plan, id, &self.standings).percent();
        let told = Panic { pool: Arc::clone(&pool.name), usable, below: pool.panic_below };
        self.record(self.now, if panics { What::PoolPanicked(told) } else { What::PoolCalm(told) });
    }
}

/// How much of a pool's weight may be used. What the operator or its agent took out counts on neither side: a pool half of
/// which is drained on purpose has no reason to panic. A backend on its ramp counts whole, or every recovery would end in one.
struct Usable {
    weight: u64,
    of: u64,
}

impl Usable {
    fn of(plan: &Plan, id: PoolId, standings: &[Standing]) -> Self {
        let mut usable = Usable { weight: 0, of: 0 };
        for (backend, settings) in plan.backends_of(id) {
            let standing = &standings[backend.index()];
            if standing.order_in_force() == Order::Serve && standing.agent.percent > 0 {
                let weight = u64::from(standing.weight_given(settings.weight));
                usable.of += weight;
                usable.weight += if standing.share() == Share::NONE { 0 } else { weight };
            }
        }
        usable
    }

    const fn percent(&self) -> u32 {
        match (self.weight * 100).checked_div(self.of) {
            Some(percent) => percent as u32,
            None => 100,
        }
    }

    const fn is_below(&self, percent: u32) -> bool {
        self.weight * 100 < self.of * percent as u64
    }
}

fn view(plan: &Plan, id: PoolId, standings: &[Standing], backends: &[BackendState]) -> PoolView {
    let pool = &plan.pools[id.index()];
    let serving = |standing: Standing, weight| standing.effective_weight(weight) > 0;
    let somebody = plan.backends_of(id).any(|(backend, settings)| serving(standings[backend.index()], settings.weight));
    let panic = pool.panic_below.is_some_and(|below| Usable::of(plan, id, standings).is_below(below));
    // Somebody who fails sometimes is better than nobody: an ejection counts while others serve. In a panic nothing counts
    // but the word of operator and agent, and nobody starts slowly, or the dead would get more than those that have just recovered.
    let seen = |backend: BackendId| match standings[backend.index()] {
        standing if panic && standing.order_in_force() == Order::Serve => {
            Standing { verdict: Verdict::Unknown, traffic: Traffic::Good, ramp: Ramp::Full, ..standing }
        }
        standing if somebody => standing,
        standing => Standing { traffic: Traffic::Good, ..standing },
    };
    let members = plan
        .backends_of(id)
        .map(|(backend, settings)| {
            Member::new(backend, settings.address, seen(backend).effective_weight(settings.weight))
        })
        .collect::<Vec<_>>();
    let bystanders = bystanders(plan, id, seen, backends);
    let candidates =
        Candidates::new(pool.schedule, members).with_bounded_load(pool.bounded_load).with_bystanders(bystanders);
    let refusal = candidates.is_empty().then(|| refusal(plan, id, standings));
    PoolView { candidates, refusal, panic }
}

/// Who is no candidate, and why. Sticky clients may still reach it or have to leave it, and in every pool requests that wait for
/// one whose verdict turned unhealthy are tried elsewhere. Deadlines are moments, so that no snapshot is due when one passes.
fn bystanders(
    plan: &Plan,
    id: PoolId,
    standing: impl Fn(BackendId) -> Standing,
    backends: &[BackendState],
) -> Vec<Bystander> {
    // Where nobody is sticky a drained backend keeps nobody.
    let pool = &plan.pools[id.index()];
    let by_cookie = pool.sticky.as_ref().map(|sticky| sticky.drain_timeout);
    let by_address = pool.affinity.map(|affinity| affinity.drain_timeout);
    // A QUIC connection that stays with its backend under a new address is no new one.
    let by_cid = (pool.schedule == Schedule::QuicCid).then_some(Duration::from_secs(limits::CID_LIFE.value));
    let drain_timeout = by_cookie.max(by_address).max(by_cid).unwrap_or(Duration::ZERO);
    let bystander = |(backend, settings): (BackendId, &Backend)| {
        let standing = standing(backend);
        let drained_until = backends[backend.index()].drained_at(&standing) + drain_timeout;
        let why = Aside::of(&standing, settings.weight, drained_until)?;
        Some(Bystander { backend, key: BackendKey::of(settings.address), why })
    };
    plan.backends_of(id).filter_map(bystander).collect()
}

/// Why a pool without candidates has none. The operator's own doing is named before the backends'.
fn refusal(plan: &Plan, id: PoolId, standings: &[Standing]) -> Cause {
    let weight = |(backend, settings): &(BackendId, &Backend)| standings[backend.index()].weight_given(settings.weight);
    let mut serving = plan.backends_of(id).filter(|one| weight(one) > 0).peekable();
    if serving.peek().is_none() {
        return Cause::NoBackendConfigured;
    }
    let in_force = |backend: BackendId| standings[backend.index()].order_in_force();
    if serving.all(|(backend, _)| in_force(backend) != Order::Serve) {
        return Cause::AllBackendsDrained;
    }
    Cause::AllBackendsUnhealthy
}
