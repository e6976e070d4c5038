//! The parts of TCP relaying that decide. No sockets, no clock.

mod flow;

pub use flow::{Flow, Received};
