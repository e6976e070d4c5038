//! Decides which backend takes the next piece of work. Pure: told the candidates, the client and the
//! load, it answers with a backend.
//!
//! The one writer prepares [`Candidates`] whenever a verdict, an order or the plan changes. Each worker
//! asks its own [`Picker`] for every piece of work, holds a [`Ticket`] while the work runs, and asks
//! its own [`RetryBudget`] before it tries again.
//!
//! Promised: a pick succeeds whenever there is a candidate with room, never names a backend that is not one, and allocates
//! nothing. It never looks at verdicts or orders (the writer has done that), never waits, and never
//! shares a word of memory between workers.
//!
//! Around the pick stand [`sticky`] (whether a client stays with its backend), [`AffinityTable`] and [`quic`] (which that was), [`silence`] (whether a backend has stopped
//! answering), [`Queue`] (who waits for room) and [`rate`] (how much a client may ask). What is remembered of clients is
//! shared by workers: the limits are those of the node, and a client may come back to another worker.

mod affinity;
mod candidates;
mod draw;
pub mod hash;
mod in_flight;
mod maglev;
mod picker;
pub mod prefix;
mod queue;
pub mod quic;
pub mod rate;
mod retry_budget;
pub mod silence;
pub mod sticky;
mod wrr;

pub use affinity::AffinityTable;
pub use candidates::{Candidates, Member, Schedule};
pub use hash::BackendKey;
pub use in_flight::{InFlight, Load, Ticket};
pub use picker::{Picker, Wanted};
pub use queue::{Queue, Woken};
pub use retry_budget::RetryBudget;
pub use silence::Silence;
