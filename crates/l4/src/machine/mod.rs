//! The parts of TCP relaying that decide. No sockets, no clock.

mod flow;
mod prelude;

pub use flow::{Flow, Received};
pub use prelude::{Asked, Prelude, Refusal, Step, Told};
