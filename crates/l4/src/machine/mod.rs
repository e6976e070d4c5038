//! The parts of relaying that decide. No sockets, no clock.

mod flow;
mod prelude;
mod session;

pub use flow::{Flow, Received};
pub use prelude::{Asked, Prelude, Refusal, Step, Told};
pub use session::{Icmp, Moves, Over, Seen, Session, Terms};
