//! A connection to a backend: dialling, in use by one exchange, or kept for the next.
//!
//! Plain data; who may use it is decided where requests and answers are. A connection in the middle of anything
//! is never kept: what is left of one exchange must not reach another.

use std::rc::Rc;

use evenkeel_l4::{BackendSlot, Key};
use evenkeel_model::Instant;
use evenkeel_reactor::Sock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Dialing,
    Busy,
    /// Nobody's. Whatever it reports now means that it is of no more use.
    Idle,
}

pub(crate) struct Backend {
    pub sock: Sock,
    pub slot: Rc<BackendSlot>,
    pub state: State,
    pub client: Option<Key>,
    /// A part of a response head.
    pub input: Vec<u8>,
    pub readable: bool,
    pub hangup: bool,
    /// Answered at least one request before.
    pub reused: bool,
    pub idle_since: Instant,
    /// When an idle connection is closed.
    pub deadline: Instant,
    pub armed: Instant,
}
