//! Accepts, picks, dials and relays TCP and UDP; keeps what all connections of one worker share.
//!
//! `machine` holds the parts that decide, as plain structs without sockets. Everything else is their
//! hands: it moves bytes between the reactor and the machines. One worker owns one [`Core`]; nothing here is
//! shared between threads but counters that only their owner writes.

mod arena;
mod core;
mod gate;
mod harm;
pub mod machine;
mod pump;
mod relay;
mod roster;
mod udp;

pub use arena::{Arena, Key, Owner, owner_of, token};
pub use core::{Accepted, Core, Origin, dial_failure};
pub use gate::{Gate, Gates, Homes, Pass, Turned};
pub use harm::{Harmed, Harms};
pub use pump::{Ends, Then, pump};
pub use relay::Relays;
pub use roster::{Arrival, Asked, BackendSlot, ListenerSlot, PickFor, Picked, PoolSlot, Refused, Roster};
pub use udp::Sessions;
