//! A plan joined with what is known of its backends: the only thing workers read.
//!
//! One value and not two, because a plan of one generation beside the health of another would send work to the
//! wrong backend by index.

use std::sync::Arc;

use evenkeel_balance::Candidates;
use evenkeel_model::standing::Standing;
use evenkeel_model::{Cause, Instant, PoolId};

use crate::plan::Plan;

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows by one with every publication.
    pub generation: u64,
    /// When this snapshot was made.
    pub made: Instant,
    pub plan: Arc<Plan>,
    /// By [`evenkeel_model::BackendId`].
    pub standings: Vec<Standing>,
    /// By [`PoolId`]. Pools that did not change share their view with the snapshot before.
    pub pools: Vec<Arc<PoolView>>,
}

/// Who of a pool may receive new work, or why nobody may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    pub candidates: Candidates,
    /// Set exactly when there is no candidate.
    pub refusal: Option<Cause>,
    /// Too little of the pool's weight may be used (`panic_below`), so unhealthy and ejected backends are candidates too.
    pub panic: bool,
}

impl Snapshot {
    pub fn pool(&self, pool: PoolId) -> &Arc<PoolView> {
        &self.pools[pool.index()]
    }
}
