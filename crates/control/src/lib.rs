//! The one writer: joins plan, probes and orders into the snapshots that workers read. Pure.
//!
//! The wiring calls it: it hands in events, starts and cancels probes as told, publishes
//! snapshots and records events. One [`Control`] per node, owned by one thread.
//!
//! It promises that every snapshot is of one generation (plan, standings and candidates made
//! together), that an order is never overruled by a probe, and that what did not change in a reload keeps its
//! verdict, its run and its place in the timetable. It never opens a socket and never reads a clock.

mod adopt;
mod agents;
mod backends;
mod control;
mod holding;
mod journal;
pub mod memory;
mod operate;
mod passive;
mod silence;
mod status;
mod targets;
mod trust;
mod view;

pub use control::{Control, Event, Output};
pub use evenkeel_health::ProbeKey;
pub use memory::Memory;
pub use operate::{Changed, Obeyed, RuntimeChange};
pub use passive::{Look, Totals};
pub use status::{Probing, TargetStatus};
