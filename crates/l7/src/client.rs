//! A client's connection: its buffers, and where it stands between two requests.
//!
//! Plain data and the sending of bytes. What a request means is the exchange's, how it ends is `ending`'s.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_balance::silence::Request;
use evenkeel_balance::sticky::Held;
use evenkeel_l4::{Arrival, BackendSlot, Key, ListenerSlot, Pass, PickFor, Picked, PoolSlot};
use evenkeel_model::exchange::{self, Attempt, Detail, Reuse, Timer};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{Coding, Listener, Rule};
use evenkeel_reactor::{Driver, Errno, Send};

use evenkeel_wire::encoding::Accepted;

use crate::carriers::Carriers;
use crate::hedging::Hedge;
use crate::link::Link;
use crate::machine::{Compressor, Exchange, Patience, Stage, Timeouts, Wait};
use crate::secured::Identity;
use crate::tunnel::Tunnel;

/// Where a client's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Whose connection it is has yet to be told, by a PROXY header.
    Unnamed,
    /// The TLS handshake is not over.
    Securing,
    /// HTTP/2: the connection carries streams, which are clients of their own.
    Carrying,
    /// No byte of a request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is being served.
    Busy,
    /// The last answer is out and we have finished; what the client still sends is thrown away until it
    /// has seen the end.
    Lingering,
}

/// Whether the socket reports its readiness.
///
/// A short connection with one request that is answered at once needs no report at all, and doing without
/// saves the registration, its removal and a wake-up. So a new socket is read once and watched only when there is
/// something to wait for from the client, or when the answer takes long enough that the client might leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watching {
    Now,
    /// From then on, if the connection still lives.
    From(Instant),
}

pub(crate) struct Client {
    pub link: Link,
    pub address: SocketAddr,
    pub listener: Rc<ListenerSlot>,
    /// Whether it came by TLS, itself or by what carries it.
    pub secure: bool,
    pub identity: Option<Rc<Identity>>,
    /// What its handshake came to.
    pub tls: Option<exchange::Secured>,
    /// The name asked for in a handshake that failed.
    pub sni: Option<Box<str>>,
    /// The address it was reached at, once somebody asked.
    pub local: Option<SocketAddr>,
    /// The HTTP/2 connection it carries.
    pub carries: Option<Key>,
    pub standing: Standing,
    /// Received and not yet understood: a part of a head, or requests that wait their turn.
    pub input: Vec<u8>,
    pub output: Output,
    pub watching: Watching,
    /// An edge came and nothing said "read up" since.
    pub readable: bool,
    pub hangup: bool,
    pub served: u32,
    /// When its connection was taken, and when the handshake on it was over.
    pub accepted: Instant,
    pub secured: Option<Instant>,
    pub wait: Wait,
    pub deadline: Instant,
    pub armed: Instant,
    pub timeouts: Timeouts,
    pub exchange: Exchange,
    pub attempt: Attempting,
    pub tunnel: Option<Box<Tunnel>>,
    /// Compresses the answer under way.
    pub coder: Option<Box<Compressor>>,
    /// The right to be connected; streams have their connection's.
    pub pass: Option<Pass>,
}

/// What comes behind the bytes being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Other bytes, now or later.
    More,
    /// The end of the connection, at once.
    End,
}

/// Bodies up to this size are copied behind their head.
const COPIED_BODY: usize = 4096;

/// The rule that a request fell under, in the plan of its time.
#[derive(Clone)]
pub(crate) struct Ruled {
    pub settings: Arc<Listener>,
    pub position: usize,
}

impl Ruled {
    pub fn rule(&self) -> Option<&Rule> {
        self.settings.rules.get(self.position)
    }
}

/// What the current request wants of its pool, and of its answer.
#[derive(Default)]
pub(crate) struct Wants {
    pub ruled: Option<Ruled>,
    /// What a hash schedule hashes, when it is not the address.
    pub hash: Option<u64>,
    /// The backend that its cookie names.
    pub held: Option<Held>,
    pub retries: u32,
    pub patience: Patience,
    /// What codings it takes; `None` where the listener compresses nothing.
    pub accepted: Option<Accepted<Coding>>,
    /// The Content-Type of a gRPC request.
    pub grpc: Option<Box<[u8]>>,
}

/// The tries of the current exchange at backends.
#[derive(Default)]
pub(crate) struct Attempting {
    pub pool: Option<Rc<PoolSlot>>,
    pub picked: Option<Picked>,
    /// The connection in use.
    pub backend: Option<Key>,
    /// The connection on the way that will carry the request as a stream.
    pub awaits: Option<Key>,
    pub started: Instant,
    pub reuse: Option<Reuse>,
    pub tried: Vec<Rc<BackendSlot>>,
    pub attempts: Vec<Attempt>,
    pub wants: Wants,
    /// A second attempt beside the first.
    pub hedge: Option<Hedge>,
}

impl Attempting {
    /// Whether the connection is that of the second attempt.
    pub fn hedges_on(&self, made: Key) -> bool {
        self.hedge.as_ref().is_some_and(|hedge| hedge.backend == made)
    }

    pub fn clear(&mut self) {
        self.pool = None;
        self.picked = None;
        self.backend = None;
        self.awaits = None;
        self.reuse = None;
        self.tried.clear();
        self.attempts.clear();
        self.wants = Wants::default();
        self.hedge = None;
    }
}

/// What a client was sent and its socket did not take yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// What waits, for somebody else to send.
    pub fn take(&mut self) -> Vec<u8> {
        let Output { mut bytes, sent } = std::mem::take(self);
        bytes.drain(..sent);
        bytes
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn taken(&mut self, taken: usize) {
        self.sent += taken;
        if self.is_empty() {
            self.bytes = Vec::new();
            self.sent = 0;
        }
    }
}

impl Client {
    /// Sends `head` and `body` behind what still waits; what the socket does not take is kept. A small body is
    /// put into the head's buffer, since one plain send costs less than a gathering one.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn send<D: Driver>(
        &mut self,
        driver: &mut D,
        carriers: &mut Carriers,
        head: &mut Vec<u8>,
        mut body: &[u8],
        then: Follows,
    ) -> Result<(), Errno> {
        self.exchange.bytes_out += (head.len() + body.len()) as u64;
        if !head.is_empty() && body.len() <= COPIED_BODY {
            head.extend_from_slice(body);
            body = &[];
        }
        let mut taken = 0;
        if self.output.is_empty() {
            let sent = match (&head[..], body) {
                ([], []) => return Ok(()),
                ([], only) | (only, []) if then == Follows::More => self.link.send(driver, carriers, only),
                ([], only) | (only, []) => self.link.send_final(driver, carriers, only),
                (head, body) => self.link.send_both(driver, carriers, head, body),
            };
            match sent {
                Send::Taken(bytes) => taken = bytes,
                Send::Failed(errno) => return Err(errno),
            }
        }
        if taken < head.len() {
            self.output.keep(&head[taken..]);
            self.output.keep(body);
        } else if taken < head.len() + body.len() {
            self.output.keep(&body[taken - head.len()..]);
        }
        Ok(())
    }

    /// The socket takes bytes again: sends what waits.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn flush<D: Driver>(&mut self, driver: &mut D, carriers: &mut Carriers) -> Result<(), Errno> {
        self.link.flush(driver)?;
        while !self.output.is_empty() {
            match self.link.send(driver, carriers, &self.output.bytes[self.output.sent..]) {
                Send::Taken(0) => break,
                Send::Taken(taken) => self.output.taken(taken),
                Send::Failed(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Whether it has not taken all that it was sent.
    pub fn is_behind(&self) -> bool {
        !self.output.is_empty() || !self.link.is_flushed()
    }

    /// The attempt under way, which is over at `now`.
    pub fn attempt_over(&self, backend: SocketAddr, now: Instant) -> Attempt {
        let times = &self.exchange.times;
        Attempt {
            connected: times.connected,
            sent: times.request_sent,
            reuse: self.attempt.reuse,
            ..Attempt::new(backend, self.attempt.started, now)
        }
    }

    /// Which time ran out when `cause` struck: the rule's, where it has its own in place of the pool's.
    pub fn timer(&self, cause: Cause, detail: Option<Detail>) -> Option<Timer> {
        let timer = Timer::of(cause, detail)?;
        let rule = self.attempt.wants.ruled.as_ref().and_then(Ruled::rule);
        let own = rule.is_some_and(|rule| match timer {
            Timer::Try => rule.try_timeout.is_some(),
            Timer::Response => rule.response_timeout.is_some(),
            Timer::BackendBody => rule.body_timeout.is_some(),
            _ => false,
        });
        Some(if own { timer.of_rule() } else { timer })
    }

    /// The attempt under way is given up; the request starts from its first byte. Without a cause nothing is held against
    /// its backend.
    pub fn abandon(&mut self, cause: Option<Cause>, now: Instant) {
        let Some(picked) = self.attempt.picked.take() else { return };
        let slot = Rc::clone(&picked.backend);
        drop(picked);
        if let Some(cause) = cause {
            slot.failed(cause);
        }
        let over = self.attempt_over(slot.address, now);
        self.attempt.attempts.push(Attempt { cause, ..over });
        self.attempt.tried.push(slot);
        self.exchange.start_over();
    }

    /// Whom its request may be sent to.
    pub fn pick_for(&self, arrival: Arrival, now: Instant) -> PickFor<'_> {
        PickFor {
            key: self.attempt.wants.hash,
            sticky: self.attempt.wants.held.map(|held| held.backend),
            request: if self.exchange.is_repeatable() { Request::Repeatable } else { Request::Once },
            arrival,
            ..PickFor::new(self.address.ip(), &self.attempt.tried, now)
        }
    }

    /// Whether the connection may turn out to be one of HTTP/2 without TLS having said so.
    pub fn may_carry(&self) -> bool {
        self.served == 0 && matches!(self.link, Link::Plain(_)) && self.listener.read(|settings| settings.http.http2)
    }

    /// Whether nothing the client could do now would change anything, short of leaving.
    pub fn only_the_backend_matters(&self) -> bool {
        self.standing == Standing::Busy
            && !self.is_behind()
            && self.exchange.request_complete()
            && matches!(self.exchange.stage, Stage::Connecting | Stage::Awaiting | Stage::Answering)
    }

    /// Waits for `wait` from `now` on.
    pub fn wait_for(&mut self, wait: Wait, now: Instant) {
        self.wait = wait;
        self.deadline = now + self.timeouts.of(wait);
    }

    /// Waits for whoever the exchange says has to act next.
    pub fn wait_on_exchange(&mut self, now: Instant) {
        let wait = self.exchange.wait(self.is_behind());
        self.wait_for(wait, now);
        if wait == Wait::Response && self.exchange.is_repeatable() {
            let patience = self.attempt.wants.patience;
            (self.wait, self.deadline) = patience.next(now, self.attempt.started, self.timeouts.response);
        }
    }
}
