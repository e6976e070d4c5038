//! evenkeel as a library: the node that the binary runs, the demo shows and the tests start.
//!
//! This room wires the others together and executes what they order. It decides nothing: verdicts are
//! `control`'s, picks `balance`'s, framing `wire`'s.

pub mod admin;
pub mod boss;
pub mod demo;
pub mod files;
pub mod health_metrics;
mod hearsay;
pub mod host;
pub mod node;
pub mod ports;
pub mod route;
pub mod service;
pub mod side;
pub mod status;
mod systemd;
pub mod trace;
pub mod upgrade;
pub mod worker;
