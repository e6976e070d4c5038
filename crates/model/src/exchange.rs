//! The record of one request or relayed connection, made once when it ends.
//!
//! Data plane rooms fill it, `observe` turns it into a log line and counters. It borrows its texts
//! so that a request without a fault allocates nothing for its own record.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cause::{Cause, Phase};
use crate::limits;
use crate::time::Instant;

/// How one request or connection went.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub id: ExchangeId,
    pub listener: &'a str,
    pub pool: Option<&'a str>,
    pub client: SocketAddr,
    /// The backend that answered or was tried last.
    pub backend: Option<SocketAddr>,
    pub request: Option<RequestLine<'a>>,
    /// The name a client asked for in a TLS handshake that failed.
    pub sni: Option<&'a str>,
    /// How the client's connection was secured; `None` without TLS.
    pub tls: Option<Secured>,
    /// What the client was sent; 499 when it left before an answer; `None` on tcp listeners.
    pub status: Option<u16>,
    pub cause: Option<Cause>,
    /// Where it was when the cause struck, which can be later than the cause's usual phase.
    pub phase: Option<Phase>,
    /// A fixed text naming the broken rule, or an errno; never client-chosen bytes.
    pub detail: Option<Detail>,
    /// Bytes received from the client, heads included.
    pub bytes_in: u64,
    /// Bytes sent to the client, heads included.
    pub bytes_out: u64,
    /// Of a UDP session, or how many datagrams a refusal stands for.
    pub datagrams: Option<Datagrams>,
    pub times: Times,
    pub attempts: &'a [Attempt],
    pub reuse: Option<Reuse>,
    /// Requests served before on the same client connection.
    pub client_requests: u32,
}

/// Unique within a cluster with overwhelming likelihood: a random half for the process, then worker
/// and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    pub process: u64,
    pub sequence: u64,
}

/// As the access log writes it.
impl fmt::Display for ExchangeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}{:016x}", self.process, self.sequence)
    }
}

/// How many of each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

/// What client and listener agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secured {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// IANA's name of the cipher suite.
    pub suite: &'static str,
    /// An earlier session was taken up again.
    pub resumed: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    pub host: &'a [u8],
    /// Path and query as received.
    pub target: &'a [u8],
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: &'static str,
    pub user_agent: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Text(&'static str),
    Errno(i32),
    Limit(u64),
    Timeout(Duration),
}

/// Moments of the journey; a phase that was not reached is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub started: Instant,
    pub head: Option<Instant>,
    pub picked: Option<Instant>,
    pub connected: Option<Instant>,
    pub request_sent: Option<Instant>,
    pub first_byte: Option<Instant>,
    pub ended: Instant,
}

/// One try at one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub backend: SocketAddr,
    /// `None` for the attempt that brought the answer, and for one that was let go because another brought it first.
    pub cause: Option<Cause>,
    pub took: Duration,
}

/// Longest list of attempts one exchange can have.
pub const ATTEMPTS_MAX: usize = limits::ATTEMPTS.value as usize;

/// Whether the backend connection had served before, and how long it had lain idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    Reused { idle: Duration },
}
