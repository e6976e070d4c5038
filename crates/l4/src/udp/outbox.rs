//! Datagrams of the backends on their way to the clients.
//!
//! All sessions read into one batch, which goes out when it is full and at the end of the worker's turn: what many backends
//! answered in one turn leaves in a few calls.

use std::ops::Range;

use evenkeel_reactor::Batch;

use crate::arena::Key;

pub struct Outbox {
    pub batch: Batch,
    /// Which listening socket they leave from.
    runs: Vec<(Key, Range<usize>)>,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { batch: Batch::new(), runs: Vec::new() }
    }
}

impl Outbox {
    /// The last packets of the batch, from `first` on, leave from this socket.
    pub fn addressed(&mut self, listening: Key, first: usize) {
        let end = self.batch.len();
        match self.runs.last_mut() {
            Some((before, range)) if *before == listening => range.end = end,
            _ => self.runs.push((listening, first..end)),
        }
    }

    /// Where what goes next leaves from; `None` empties the batch.
    pub fn next(&mut self) -> Option<(Key, Range<usize>)> {
        if self.runs.is_empty() {
            self.batch.clear();
            return None;
        }
        Some(self.runs.remove(0))
    }
}

/// Datagrams and bytes of some packets.
pub fn measure(batch: &Batch, packets: Range<usize>) -> (u64, u64) {
    packets.fold((0, 0), |(datagrams, bytes), at| {
        (datagrams + u64::from(batch.datagrams(at)), bytes + batch.bytes(at).len() as u64)
    })
}
