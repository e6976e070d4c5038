//! What the workers of one node share, because a limit that each of them counted for itself would be as many limits as there
//! are workers.
//!
//! Everything in here costs nothing until it is configured: a counter that nobody limits is never touched.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One per node, handed to the [`crate::Roster`] of each worker.
///
/// What it hands out lives as long as a roster holds it, so that counts survive a reload and end with their listener or
/// backend.
pub struct Gates {
    /// Drawn by the process. Nobody outside can know how tables hash, or make up a cookie.
    random: [u8; 32],
    backends: Mutex<HashMap<(Arc<str>, SocketAddr), Weak<Occupancy>>>,
}

impl Gates {
    pub fn new(random: [u8; 32]) -> Self {
        Gates { random, backends: Mutex::default() }
    }

    /// The secret of sticky cookies where the config names none.
    pub fn secret(&self) -> &[u8] {
        &self.random
    }

    pub(crate) fn backend(&self, pool: &Arc<str>, address: SocketAddr) -> Arc<Occupancy> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let known = backends.get(&(Arc::clone(pool), address)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            backends.retain(|_, occupancy| occupancy.strong_count() > 0);
            let occupancy = Arc::new(Occupancy::default());
            backends.insert((Arc::clone(pool), address), Arc::downgrade(&occupancy));
            occupancy
        })
    }
}

/// Requests at one backend over all workers, counted only where the pool has a `backend_limit`.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(AtomicU32);

impl Occupancy {
    pub(crate) fn is_full(&self, limit: u32) -> bool {
        self.0.load(Ordering::Relaxed) >= limit
    }

    /// One more, unless `limit` are there already.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<Occupant> {
        let one_more = |count: u32| (count < limit).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Occupant(Arc::clone(self)))
    }
}

/// A place taken; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Occupant(Arc<Occupancy>);

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
