//! Explains: what a cause means, how long a check takes to notice, and where a request goes.
//!
//! The command line asks and prints; so will the dashboard. Everything comes from the tables in `model`
//! and from a plan, so an explanation can never disagree with what the data plane sends and logs.
//! It never touches a running node and never decides anything.

mod evidence;
pub mod explain;
pub mod route;
pub mod window;
