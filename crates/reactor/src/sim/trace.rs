//! What happened, in order: the witness that a seed replays, and the story behind a failed test.
//!
//! Marks carry lengths and not bytes; two runs of a seed are the same when their marks are.

use evenkeel_model::Instant;

use super::faults::Strike;
use crate::{Close, Errno, Token};

/// One line of the story. `socket` is a number of the virtual network, which for a node's sockets is
/// that of its [`crate::Sock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: Instant,
    pub socket: u32,
    pub fact: Fact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    Listened,
    Dialled,
    SynLost,
    SynArrived,
    SynAnswered,
    Established,
    Accepted,
    Watched(Token),
    Notified(Token),
    Sent(usize),
    BytesArrived(usize),
    Received(usize),
    Finished,
    FinArrived,
    ResetArrived,
    Failed(Errno),
    Refused(Errno),
    RefusalHeldBack,
    Struck(Strike),
    DatagramSent(usize),
    DatagramLost,
    DatagramArrived(usize),
    Paused,
    Closed(Close),
}
