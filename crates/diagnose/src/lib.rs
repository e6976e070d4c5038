//! Explains: what a cause means, how long a check takes to notice, where a request goes, and what a host lacks for a plan.
//!
//! The command line asks and prints; so will the dashboard. Everything comes from the tables in `model`
//! and from a plan, so an explanation can never disagree with what the data plane sends and logs.
//! It never touches a running node and never decides anything.

pub mod doctor;
mod evidence;
pub mod explain;
pub mod host;
pub mod redact;
pub mod route;
pub mod timeline;
pub mod window;
