//! Decides which backend takes the next piece of work. Pure: told the candidates, the client and the
//! load, it answers with a backend.

pub mod candidates;

pub use candidates::{Candidates, Member, Schedule};
