//! The record of one request or relayed connection, made once when it ends.
//!
//! Data plane rooms fill it, `observe` turns it into a log line and counters. It borrows its texts
//! so that a request without a fault allocates nothing for its own record.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cause::{Cause, Phase};
use crate::limits;
use crate::standing::{Order, Traffic, Verdict};
use crate::time::Instant;

pub mod record;
pub mod timer;

pub use record::Record;
pub use timer::Timer;

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
    /// The rule that took the request.
    pub rule: Option<RuleTaken<'a>>,
    /// The time that ran out, where one did.
    pub timer: Option<Timer>,
    /// What was known of the backend when the exchange ended. A question and not an answer, because it is asked only of
    /// those that are kept.
    pub then: Question<'a>,
    /// Where the exchange stands in a trace, when it is traced.
    pub trace: Option<Traced>,
}

/// A rule, as the config calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleTaken<'a> {
    /// Its place among the listener's rules, from 0; a log does not have it.
    pub position: Option<usize>,
    pub name: &'a str,
}

/// A question whose answer most exchanges do not need.
#[derive(Clone, Copy)]
pub struct Question<'a>(Option<&'a dyn Fn() -> Option<BackendThen>>);

impl<'a> Question<'a> {
    /// Nothing is known.
    pub const NOTHING: Question<'static> = Question(None);

    pub fn of(answer: &'a dyn Fn() -> Option<BackendThen>) -> Self {
        Question(Some(answer))
    }

    pub fn answer(self) -> Option<BackendThen> {
        self.0.and_then(|answer| answer())
    }
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.answer()).finish()
    }
}

/// A backend as the worker knew it at the end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendThen {
    pub verdict: Verdict,
    pub since: Instant,
    pub order: Order,
    pub traffic: Traffic,
    /// On the worker that served the exchange; others may have had more.
    pub in_flight: u32,
}

/// A place in a trace (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    pub trace: [u8; 16],
    /// The span that the client named as its own; `None` where the trace begins here.
    pub parent: Option<[u8; 8]>,
}

impl Traced {
    /// The trace of an exchange whose client named none.
    pub fn begun(id: ExchangeId) -> Self {
        let halves = [mixed(id.process ^ mixed(id.sequence)), mixed(id.sequence.rotate_left(32) ^ id.process)];
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&halves[0].to_be_bytes());
        trace[8..].copy_from_slice(&halves[1].to_be_bytes());
        // All zeros would be no trace at all.
        trace[15] |= u8::from(trace == [0; 16]);
        Traced { trace, parent: None }
    }

    /// The span of an exchange (0), or of one of its attempts (from 1 on). It follows from the id, so nobody has to keep it.
    pub fn span(id: ExchangeId, number: u64) -> [u8; 8] {
        let span = mixed(mixed(id.process).wrapping_add(id.sequence) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        span.max(1).to_be_bytes()
    }
}

/// Whether the exchange is one of so many in a million, the same for whoever asks.
pub fn is_sampled(id: ExchangeId, per_million: u32) -> bool {
    mixed(id.sequence ^ mixed(id.process)) % 1_000_000 < u64::from(per_million)
}

/// The finisher of splitmix64: neighbours come out far apart.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
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

impl ExchangeId {
    /// From 32 hexadecimal digits, as the access log and our own answers have them.
    pub fn from_hex(text: &str) -> Option<ExchangeId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let half = |digits| u64::from_str_radix(digits, 16).ok();
        Some(ExchangeId { process: half(&text[..16])?, sequence: half(&text[16..])? })
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
    /// When the client's connection was taken; earlier than `started` where it had been idle or served others.
    pub accepted: Option<Instant>,
    /// When its TLS handshake was over.
    pub secured: Option<Instant>,
    pub started: Instant,
    pub head: Option<Instant>,
    /// When it first had to wait for a place at a backend.
    pub queued: Option<Instant>,
    /// When it last got one after a wait.
    pub dequeued: Option<Instant>,
    pub picked: Option<Instant>,
    pub connected: Option<Instant>,
    pub request_sent: Option<Instant>,
    pub first_byte: Option<Instant>,
    /// When the backend had sent its whole answer; the client may have taken longer.
    pub answered: Option<Instant>,
    pub ended: Instant,
}

/// One try at one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub backend: SocketAddr,
    /// `None` for the attempt that brought the answer, and for one that was let go because another brought it first.
    pub cause: Option<Cause>,
    pub detail: Option<Detail>,
    /// The time that ran out, where one did.
    pub timer: Option<Timer>,
    pub started: Instant,
    /// When its connection stood; with a kept one, or a stream of one, the moment it was taken.
    pub connected: Option<Instant>,
    /// When the whole request was sent.
    pub sent: Option<Instant>,
    pub first_byte: Option<Instant>,
    pub took: Duration,
    pub reuse: Option<Reuse>,
}

impl Attempt {
    /// One that is over at `now` and of which nothing else is known.
    pub fn new(backend: SocketAddr, started: Instant, now: Instant) -> Self {
        Attempt {
            backend,
            cause: None,
            detail: None,
            timer: None,
            started,
            connected: None,
            sent: None,
            first_byte: None,
            took: now - started,
            reuse: None,
        }
    }

    pub fn ended(&self) -> Instant {
        self.started + self.took
    }
}

/// Longest list of attempts one exchange can have.
pub const ATTEMPTS_MAX: usize = limits::ATTEMPTS.value as usize;

/// Whether the backend connection had served before, and how long it had lain idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    Reused { idle: Duration },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
        let id = ExchangeId { process: 0x0123_4567_89ab_cdef, sequence: 7 };
        assert_eq!(ExchangeId::from_hex(&id.to_string()), Some(id));
        for strange in [
            "",
            "7",
            "0123456789abcdef000000000000000",
            "0123456789abcdef+00000000000000",
            "é23456789abcdef0000000000000007",
        ] {
            assert_eq!(ExchangeId::from_hex(strange), None, "{strange}");
        }
    }

    #[test]
    fn spans_of_an_exchange_and_of_its_neighbours_all_differ() {
        let ids = (0..50).map(|sequence| ExchangeId { process: 0xabc, sequence });
        let mut spans: Vec<[u8; 8]> = ids.flat_map(|id| (0..12).map(move |number| Traced::span(id, number))).collect();
        let made = spans.len();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), made);
    }

    #[test]
    fn as_many_are_sampled_as_the_share_says() {
        for (per_million, low, high) in
            [(0, 0, 0), (10_000, 80, 120), (500_000, 4800, 5200), (1_000_000, 10_000, 10_000)]
        {
            let ids = (0..10_000).map(|sequence| ExchangeId { process: 0x5eed, sequence });
            let sampled = ids.filter(|id| is_sampled(*id, per_million)).count();
            assert!((low..=high).contains(&sampled), "{per_million}: {sampled}");
        }
    }
}
