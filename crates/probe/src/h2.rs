//! A probe inside a stream of HTTP/2: the one stream of a connection of its own.
//!
//! A stream reads and writes like a connection with one HTTP/1.1 exchange on it (room `h2`), so the probe within is the
//! one that would speak HTTP/1.1, and the machine that carries traffic over HTTP/2 carries it. A backend that traffic could
//! not use fails in the same words. Frames that are answered (PING, SETTINGS, credit for what was read) are answered here.
//!
//! The connection is a new one, so a backend that takes no more streams on it, or resets the first, has no excuse and fails.

use std::fmt;

use evenkeel_h2::frame::ErrorCode;
use evenkeel_h2::{Connection, Event, Role, SendFault, Settings, StreamId, StreamRecv};
use evenkeel_model::finding::{Failure, FailureReason, ProbePhase, ProbeResult};
use evenkeel_model::{Instant, limits};
use evenkeel_reactor::Errno;

use crate::failure;
use crate::machine::{Fact, Machine, Turn};

pub struct Streamed {
    scheme: Scheme,
    /// `None` until the connection stands.
    carried: Option<(Connection, StreamId)>,
    inside: Machine,
    /// All of the request has left.
    asked: bool,
    /// The first bytes that came: they tell who speaks here if it is not HTTP/2.
    opening: Vec<u8>,
    /// The backend's word that it takes no more streams.
    going: Option<ErrorCode>,
    /// The rule the backend broke on our stream.
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// What is agreed on inside TLS by ALPN.
pub const ALPN: &[u8] = b"h2";

/// Why a handshake that ended well leads nowhere.
pub const NOT_AGREED: &str = "the backend does not offer HTTP/2 (ALPN h2)";

/// A head of a frame; no greeting of another protocol needs more to be known.
const OPENING: usize = 9;

/// A probe is over before any rate could be counted, so all its frames come at one moment: a flood is one without a clock too.
const NOW: Instant = Instant::START;

impl fmt::Debug for Streamed {
    /// Without the connection, whose tables say nothing to a reader.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("inside", &self.inside).field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Streamed {
    pub fn new(scheme: Scheme, inside: Machine) -> Self {
        Streamed { scheme, carried: None, inside, asked: false, opening: Vec::new(), going: None, broken: None }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => self.begin(),
            Fact::Received(bytes) => self.read(bytes),
            Fact::Ended => Some(self.cut_off(FailureReason::Closed)),
            Fact::Failed(errno) => Some(self.failed_socket(errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        match self.phase() {
            ProbePhase::Read => self.inside.handle_deadline(),
            phase => failed(phase, FailureReason::TimedOut),
        }
    }

    pub fn phase(&self) -> ProbePhase {
        match &self.carried {
            None => ProbePhase::Connect,
            Some(_) if !self.asked => ProbePhase::Write,
            Some(_) => self.inside.phase(),
        }
    }

    /// Answers to frames are ours to send in mid-answer too.
    pub fn turn(&self) -> Turn {
        match &self.carried {
            None => Turn::Connect,
            Some((connection, _)) if connection.output().is_empty() => Turn::Read,
            Some(_) => Turn::Write,
        }
    }

    pub fn to_send(&self) -> &[u8] {
        self.carried.as_ref().map_or(&[], |(connection, _)| connection.output())
    }

    pub fn sent(&mut self, bytes: usize) -> Option<ProbeResult> {
        let (connection, _) = self.carried.as_mut()?;
        connection.sent(bytes);
        // There may be room now for the rest of a long request.
        let result = self.carry();
        self.asked |= self.turn() == Turn::Read && self.inside.turn() == Turn::Read;
        result
    }

    fn begin(&mut self) -> Option<ProbeResult> {
        let settings = Settings {
            streams: 0,
            stream_window: WINDOW,
            connection_window: WINDOW,
            header_limit: limits::PROBE_HEAD.value as u32,
            max_frame: limits::HTTP2_FRAME.value as u32,
            extended_connect: false,
            secure: self.scheme == Scheme::Https,
        };
        let mut connection = Connection::new(Role::Client, &settings, NOW);
        // Until the backend has spoken its limit of streams is a hundred.
        let stream = connection.open(0)?;
        self.carried = Some((connection, stream));
        self.inside.handle(Fact::Connected).or_else(|| self.carry())
    }

    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        let missing = OPENING - self.opening.len();
        self.opening.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        let (connection, _) = self.carried.as_mut()?;
        // Why it refuses is asked for where the stream's end is read.
        let _ = connection.receive(bytes, NOW);
        self.carry()
    }

    /// Takes what the probe within says to its stream, and what the stream says to the probe.
    fn carry(&mut self) -> Option<ProbeResult> {
        let (connection, stream) = self.carried.as_mut()?;
        while let Some(event) = connection.next_event() {
            match event {
                Event::PeerGoingAway { code } => self.going = Some(code),
                Event::Reset { detail, .. } => self.broken = detail,
                // What can be read or written is read and written below.
                Event::Readable { .. } | Event::Writable { .. } | Event::SettingsKnown => {}
                // A server's.
                Event::Opened(_) | Event::Malformed { .. } => {}
            }
        }
        while self.inside.turn() == Turn::Write {
            match connection.send(*stream, self.inside.to_send()) {
                Ok(0) => break,
                Ok(bytes) => {
                    if let Some(result) = self.inside.sent(bytes) {
                        return Some(result);
                    }
                }
                // What ended the stream is read below; a request of ours that cannot be said in HTTP/2 has ended it too.
                Err(SendFault::Reset(_)) => break,
                Err(SendFault::Malformed(why)) => {
                    self.broken = Some(why);
                    break;
                }
            }
        }
        let mut text = [0; TEXT];
        loop {
            let result = match connection.recv(*stream, &mut text) {
                StreamRecv::Bytes(bytes) => self.inside.handle(Fact::Received(&text[..bytes])),
                StreamRecv::Dry => return None,
                StreamRecv::End => self.inside.handle(Fact::Ended),
                StreamRecv::Reset(code) => return Some(self.reset(code)),
            };
            if result.is_some() {
                return result;
            }
        }
    }

    /// The stream has ended before its answer was whole.
    fn reset(&self, code: ErrorCode) -> ProbeResult {
        let failure = self.carried.as_ref().and_then(|(connection, _)| connection.failure());
        let reason = match (failure, self.broken, self.going) {
            (Some(failure), ..) => FailureReason::NotHttp2 { why: foreign(&self.opening).unwrap_or(failure.detail) },
            (None, Some(why), _) => FailureReason::NotHttp2 { why },
            (None, None, Some(code)) => FailureReason::GoingAway { code: code.name() },
            (None, None, None) => FailureReason::StreamReset { code: code.name() },
        };
        failed(ProbePhase::Read, reason)
    }

    /// The connection is over. An answer that had come whole would have decided when it came.
    fn cut_off(&self, reason: FailureReason) -> ProbeResult {
        match self.going {
            Some(code) => failed(self.phase(), FailureReason::GoingAway { code: code.name() }),
            None => failed(self.phase(), reason),
        }
    }

    fn failed_socket(&self, errno: Errno) -> ProbeResult {
        match failure::failed(self.phase(), errno) {
            // Who says goodbye and hangs up at once resets what we had sent meanwhile.
            ProbeResult::Failed(Failure { reason, .. }) => self.cut_off(reason),
            void => void,
        }
    }
}

/// Read at once; a body is matched piece by piece.
const TEXT: usize = 4096;

/// What a stream may send ahead: the least HTTP/2 can be held to.
const WINDOW: u32 = 65_535;

/// Names what else speaks on the port, where the first bytes give it away.
fn foreign(opening: &[u8]) -> Option<&'static str> {
    match opening {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some("the port speaks http/1"),
        // RFC 8446 §5.1: alert or handshake record, version 3.x. A frame of that length would be refused.
        [0x15 | 0x16, 0x03, ..] => Some("the port speaks tls"),
        [b'S', b'S', b'H', b'-', ..] => Some("the port speaks ssh"),
        _ => None,
    }
}

fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase, reason })
}

#[cfg(test)]
mod tests;
