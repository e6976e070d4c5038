//! Decides what probes mean: verdicts, windows and when the next probe is due. Pure.

pub mod settings;
