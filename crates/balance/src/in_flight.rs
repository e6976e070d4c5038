//! How much work runs on each backend right now.
//!
//! Counters belong to one worker and are plain cells. A count over all workers would be exact, but
//! every pick and every ending would fight for its cache line, which costs more than the pick
//! itself. It is not needed either: connections reach workers at random, so each worker sees a fair sample
//! of the load, and what it balances evenly adds up to what the node balances evenly.

use std::cell::Cell;
use std::rc::Rc;

use evenkeel_model::BackendId;

/// What load-aware schedules ask for.
pub trait Load {
    fn in_flight(&self, backend: BackendId) -> u32;
}

/// Counters in a table by [`BackendId`]. A backend outside the table has nothing in flight.
impl Load for [InFlight] {
    fn in_flight(&self, backend: BackendId) -> u32 {
        self.get(backend.index()).map_or(0, InFlight::count)
    }
}

impl<F: Fn(BackendId) -> u32> Load for F {
    fn in_flight(&self, backend: BackendId) -> u32 {
        self(backend)
    }
}

/// The counter of one backend in one worker. A clone is the same counter, so that it can be carried
/// over to the next plan's table while tickets of the old one are still out.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Rc<Cell<u32>>);

impl InFlight {
    pub fn new() -> Self {
        InFlight::default()
    }

    /// Counts one more piece of work until the ticket is dropped.
    #[must_use = "the work is counted only while the ticket lives"]
    pub fn take(&self) -> Ticket {
        self.0.set(self.0.get() + 1);
        Ticket(Rc::clone(&self.0))
    }

    pub fn count(&self) -> u32 {
        self.0.get()
    }
}

/// One piece of work on one backend. Dropping it says that the work is over, on every path.
#[derive(Debug)]
pub struct Ticket(Rc<Cell<u32>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        // Only `take` makes tickets, each after adding one.
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_ticket_lowers_the_count_even_after_its_table_is_gone() {
        let carried = {
            let old_table = vec![InFlight::new()];
            let ticket = old_table[0].take();
            let new_table = vec![old_table[0].clone()];
            drop(old_table);
            assert_eq!(new_table[0].count(), 1);
            (new_table, ticket)
        };
        let (table, ticket) = carried;
        let second = table[0].take();
        assert_eq!(table.as_slice().in_flight(BackendId(0)), 2);
        drop(ticket);
        drop(second);
        assert_eq!(table[0].count(), 0);
    }

    #[test]
    fn a_backend_without_a_counter_has_nothing_in_flight() {
        let table: Vec<InFlight> = Vec::new();
        assert_eq!(table.as_slice().in_flight(BackendId(3)), 0);
    }
}
