//! One writer, many readers, one pointer.
//!
//! `arc-swap`'s cache makes a reader's look one atomic load while nothing changed, so a worker can
//! look before every piece of work without sharing a written cache line.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::snapshot::Snapshot;

/// The writing end. There is one; it is not `Clone`.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
}

/// A reading end, one per thread.
#[derive(Clone)]
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Publisher {
    pub fn new(first: Snapshot) -> Self {
        Publisher { current: Arc::new(ArcSwap::from_pointee(first)) }
    }

    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }

    pub fn reader(&self) -> Reader {
        Reader { cache: Cache::new(Arc::clone(&self.current)) }
    }
}

impl Reader {
    /// The newest snapshot. Costs an atomic load while it is the one seen last.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.cache.load()
    }
}
