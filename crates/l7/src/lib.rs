//! Serves HTTP: takes requests apart, finds them a backend, and streams both ways.
//!
//! `machine` decides; the files beside it are its hands on the reactor. Called by the worker's loop
//! with events and timers of its tokens. It promises exactly one `Outcome` for each request, that no byte of
//! one exchange gets into another, and that what it cannot delimit without doubt is refused.

mod answering;
mod backend;
mod carriers;
mod carrying;
mod client;
mod coding;
mod dialing;
mod ending;
mod hedging;
mod http;
mod introducing;
mod link;
pub mod machine;
mod multiplexing;
mod own_answer;
mod policy;
mod queueing;
mod requesting;
mod routing;
mod secured;
mod securing;
mod traced;
mod trying;
mod tunnel;

pub use http::Http;
