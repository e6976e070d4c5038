//! Executes probes and reports what they found, with evidence; judges nothing.
//!
//! The probing thread calls it: a [`Job`] goes in, exactly one [`Done`] comes out unless the job is
//! cancelled. Each kind of probe is a pure machine in a file of its own that is told connects, bytes,
//! closes and the passing of its deadline; [`Prober`] is the hands that move bytes for all of them on one
//! reactor driver, the real or the simulated one.
//!
//! It promises that a probe ends at its deadline and that its own lateness never fails a backend
//! (SPEC W7). It will never decide a verdict, wait between probes, share a connection with traffic or repeat a
//! probe that the backend may have heard of: when to probe and what a finding means is `health`'s.

mod agent;
mod aside;
mod body;
mod dns;
mod failure;
mod grpc;
mod h2;
mod head;
mod hosts;
mod http;
mod icmp;
mod machine;
mod prober;
mod secured;
mod steps;
mod tcp;
mod udp;

pub use prober::{Done, Job, Prober};
