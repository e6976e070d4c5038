//! One process takes the place of another: another binary, the same sockets, no client that notices.
//!
//! ```text
//!   old process                                       new process
//!   ───────────                                       ───────────
//!   starts it, says what it leaves  ── legacy ──────► reads the config, makes threads, binds what is new
//!                                   ◄── ready ──────
//!   gives its datagrams up          ── go ──────────► listens
//!                                   ◄── serving ────
//!   tells systemd who is in charge  ── farewell ────► says READY
//!   drains and ends
//! ```
//!
//! Until `serving` the old process serves as if nothing happened, and goes on doing so when the new one ends, refuses or says nothing for
//! too long (`limits::UPGRADE_WAIT`). Both hold the same listening sockets, so no moment is without somebody who accepts, and nothing that
//! waits in a queue is lost. The new process inherits what clients would miss: verdicts, orders and ejections, ticket keys, the
//! secret of sticky cookies, the name in CDN-Loop.
//!
//! The two speak over a socket pair that is the new one's standard input: it needs no number that is told, no flag that is cleared,
//! and cannot be mistaken. A supervisor process that holds the sockets for ever lost: it would be the one binary that cannot be
//! upgraded.
//!
//! | file | question it answers |
//! |---|---|
//! | `legacy` | what is left, and how it is written |
//! | `passage` | how words and sockets cross |
//! | `successor` | the old process's side: starting the new one, and giving up on it |
//! | `predecessor` | the new process's side |

mod legacy;
mod passage;
mod predecessor;
mod successor;

pub use legacy::Legacy;
pub use predecessor::Predecessor;
pub use successor::{Failed, Successor};
