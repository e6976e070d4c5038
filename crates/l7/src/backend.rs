//! A connection to a backend: dialling, in use by one exchange, or kept for the next.
//!
//! Plain data; who may use it is decided where requests and answers are. A connection in the middle of anything
//! is never kept: what is left of one exchange must not reach another.

use std::rc::Rc;
use std::sync::Arc;

use evenkeel_l4::{BackendSlot, Key, PoolSlot};
use evenkeel_model::Instant;
use evenkeel_reactor::Source;

use crate::link::Link;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Dialing,
    /// Connected; the PROXY header is not out.
    Greeting,
    /// Connected; the TLS handshake is not over.
    Securing,
    /// HTTP/2: it carries streams, which are connections of their own here.
    Carrying,
    Busy,
    /// Nobody's. Whatever it reports now means that it is of no more use.
    Idle,
}

pub(crate) struct Backend {
    pub link: Link,
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
    /// The HTTP/2 connection it carries.
    pub carries: Option<Key>,
    /// Who waits until it can carry streams.
    pub waiting: Vec<Key>,
    /// The backend said that it has not looked at the request.
    pub refused: bool,
    /// The rule of HTTP/2 that it broke on this stream.
    pub broke: Option<&'static str>,
    /// Serves one request and is never kept, see [`crate::dialing::is_one_clients`].
    pub exclusive: bool,
    /// What is still to be sent of its PROXY header.
    pub header: Vec<u8>,
    /// Where it was told to come from.
    pub from: Source,
    /// What the connection is to be secured with, until it is.
    pub tls: Option<Arc<evenkeel_tls::Client>>,
    /// Whose settings hold for a connection that carries streams.
    pub pool: Option<Rc<PoolSlot>>,
}

impl Backend {
    pub fn new(link: Link, slot: Rc<BackendSlot>) -> Self {
        Backend {
            link,
            slot,
            state: State::Dialing,
            client: None,
            input: Vec::new(),
            readable: false,
            hangup: false,
            reused: false,
            idle_since: Instant::START,
            deadline: Instant::NEVER,
            armed: Instant::NEVER,
            carries: None,
            waiting: Vec::new(),
            refused: false,
            broke: None,
            exclusive: false,
            header: Vec::new(),
            from: Source::Kernel,
            tls: None,
            pool: None,
        }
    }
}
