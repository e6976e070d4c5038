//! Decides what probes mean: verdicts, windows and when the next probe is due. Pure.
//!
//! The control room calls it: the [`timetable`] says whom to probe now, the [`judge`] of each target
//! what its findings amount to and so how long the next [`gap`] is, [`passive`] what its traffic does, the [`ramp`] how far a recovered backend is let in,
//! the [`suspicion`] whether the node itself is the culprit,
//! the [`hold`] for how long that keeps verdicts from falling. [`window`] is the arithmetic of detection times, for people
//! and tests.
//!
//! It promises that the same findings at the same times give the same verdicts. It never
//! opens a socket, reads a clock or knows what an order is.

pub mod gap;
pub mod hearsay;
pub mod hold;
pub mod judge;
pub mod keys;
pub mod passive;
pub mod pattern;
pub mod ramp;
pub mod refusals;
pub mod settings;
pub mod suspicion;
pub mod timetable;
pub mod waits;
pub mod window;

pub use timetable::ProbeKey;
