//! Shows that the simulated driver behaves like the real one, and that its faults can be trusted.
//!
//! `contract` runs one table of scripts on both drivers and compares what the code behind them sees, `datagrams` another
//! one about batches, beside what only simulated datagrams do. `echo`
//! is a small server; `serving` runs it on both drivers and under every fault. `network` covers what
//! only the simulation can do.

mod contract;
mod datagrams;
mod echo;
mod network;
mod serving;
mod worlds;
