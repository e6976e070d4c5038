//! One HTTP/2 connection, for either end, without sockets or clock.
//!
//! ```text
//!  bytes ─► receive ─► frames ─► streams ─► events, recv      (receiving.rs)
//!  bytes ◄─ output  ◄─ frames ◄─ streams ◄─ send, finish      (sending.rs)
//! ```
//!
//! Its user reads and writes each stream as if it were a connection with one HTTP/1.1 exchange on it. Frames are
//! written straight into one output buffer: a queue per stream would copy everything once more, and the user can be
//! made to wait instead.
//!
//! What one connection can make us hold, whatever the other side does:
//!
//! - payload not yet read: `connection_window` (at least 64 KiB), because credit is given when it is read;
//! - heads and trailers not yet read: one `header_limit` and one [`limits::TRAILER_BLOCK`] for each of `streams`;
//! - one frame cut by the network (16 KiB) and one header block ([`limits::H2_HEADER_EXCESS`] times `header_limit`);
//! - output: [`limits::H2_OUTPUT`], one head of ours, and [`limits::H2_CONTROL_BYTES`].
//!
//! Buffers are vectors, which can be up to twice as large as what they hold.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_model::Cause;
use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::blocks::Block;
use crate::defence::{Cheap, Control, Defence, Flood};
use crate::flow::{ReceiveWindow, SendWindow};
use crate::frame::{self, ErrorCode, Fault, WINDOW_DEFAULT, setting};
use crate::hpack::{Decoder, Encoder, FieldList};
use crate::receiving::Reading;
use crate::stream::{Incoming, Outgoing, Stream, StreamId, StreamRecv};
use crate::table::{Ending, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The other side is a client of ours.
    Server,
    /// The other side is a backend.
    Client,
}

/// What we allow the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams at once.
    pub streams: u32,
    pub stream_window: u32,
    /// At least 65535: HTTP/2 starts with that and cannot take it back.
    pub connection_window: u32,
    pub header_limit: u32,
    pub max_frame: u32,
    /// Serve WebSockets by extended CONNECT (RFC 8441).
    pub extended_connect: bool,
    /// The connection is inside TLS, so requests of ours say `https`.
    pub secure: bool,
}

/// Why the connection had to end. GOAWAY is in the output already; send it, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    /// The broken rule, or what was too much; fixed words.
    pub detail: &'static str,
    /// The limit, when there was too much of something.
    pub limit: Option<u64>,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Server: a request's head can be read. Takes a [`Connection::set_tag`] and, in the end, a
    /// [`Connection::close`].
    Opened(StreamId),
    /// Something came for a stream that had been read dry.
    Readable { stream: StreamId, tag: u64 },
    /// A stream whose `send` did not take everything can go on: send, or close it.
    Writable { stream: StreamId, tag: u64 },
    /// The stream ended in a reset, and no answer or the rest of it will come. Close it.
    Reset {
        stream: StreamId,
        tag: u64,
        code: ErrorCode,
        /// The other side never looked at the request, so it may be sent elsewhere.
        refused: bool,
        /// We reset it, because the other side broke this rule.
        detail: Option<&'static str>,
    },
    /// A request that broke a rule and was reset before it was worth an `Opened`.
    Malformed { code: ErrorCode, detail: &'static str },
    /// The other side takes no new streams.
    PeerGoingAway { code: ErrorCode },
    /// The other side's settings are known: its limit of streams and whether it takes extended CONNECT.
    SettingsKnown,
}

/// How a user lets go of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Everything that had to be said was said.
    Orderly,
    /// In the middle; the other side must not take the part for the whole.
    Cut,
}

/// An event that may be outdated when its turn comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    Opened(StreamId),
    Readable(StreamId),
    Writable(StreamId),
    Ready(Event),
}

/// What the other side said of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) known: bool,
    pub(crate) streams: u32,
    pub(crate) stream_window: u32,
    pub(crate) max_frame: u32,
    pub(crate) tunnels: bool,
    /// Highest stream it will look at, once it said so.
    pub(crate) last_stream: Option<u32>,
}

/// How far our own leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// GOAWAY without a last stream was sent; the real one follows an answered PING or a deadline.
    Announced {
        until: Instant,
    },
    Left,
}

#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) settings: Settings,
    pub(crate) remote: Remote,
    pub(crate) failure: Option<Failure>,
    pub(crate) defence: Defence,

    pub(crate) reading: Reading,
    /// Start of something whose rest has not come.
    pub(crate) partial: Vec<u8>,
    pub(crate) block: Option<Block>,
    pub(crate) block_bytes: Vec<u8>,
    pub(crate) decoder: Decoder,
    pub(crate) fields: FieldList,
    pub(crate) receive: ReceiveWindow,

    pub(crate) encoder: Encoder,
    pub(crate) send: SendWindow,
    pub(crate) output: Vec<u8>,
    sent: usize,
    control: Control,

    pub(crate) table: Table,
    /// Highest stream of the other side (server), or the next of ours (client).
    pub(crate) last_seen: u32,
    pub(crate) next_wire: u32,

    pub(crate) notes: VecDeque<Note>,
    /// Who waits to send, in turn.
    pub(crate) queue: VecDeque<StreamId>,
    /// Room promised to those who were told since bytes last came or went.
    pub(crate) granted: usize,
    /// When the settings we sent must be acknowledged.
    pub(crate) ack_due: Option<Instant>,
    pub(crate) leaving: Leaving,
}

/// What our PING says that asks whether our GOAWAY has arrived.
pub(crate) const LEAVING_PING: [u8; 8] = *b"leaving.";

impl Connection {
    /// Greeting and settings are in the output at once.
    pub fn new(role: Role, settings: &Settings, now: Instant) -> Connection {
        let settings = Settings { connection_window: settings.connection_window.max(WINDOW_DEFAULT), ..*settings };
        let mut connection = Connection {
            role,
            settings,
            remote: Remote {
                known: false,
                // RFC 9113 section 6.5.2 recommends that nobody allows less, and what is refused can be repeated.
                streams: 100,
                stream_window: WINDOW_DEFAULT,
                max_frame: frame::FRAME_SIZE_DEFAULT,
                tunnels: false,
                last_stream: None,
            },
            failure: None,
            defence: Defence::new(settings.streams),
            reading: if role == Role::Server { Reading::Preface } else { Reading::Head },
            partial: Vec::new(),
            block: None,
            block_bytes: Vec::new(),
            decoder: Decoder::new(TABLE, settings.header_limit as usize),
            fields: FieldList::new(),
            receive: ReceiveWindow::new(settings.connection_window, settings.connection_window),
            encoder: Encoder::new(),
            send: SendWindow::new(WINDOW_DEFAULT),
            output: Vec::new(),
            sent: 0,
            control: Control::default(),
            table: Table::default(),
            last_seen: 0,
            next_wire: 1,
            notes: VecDeque::new(),
            queue: VecDeque::new(),
            granted: 0,
            ack_due: Some(now + Duration::from_secs(limits::H2_SETTINGS_ACK.value)),
            leaving: Leaving::No,
        };
        connection.greet();
        connection
    }

    fn greet(&mut self) {
        let ours = self.settings;
        if self.role == Role::Client {
            self.output.extend_from_slice(frame::PREFACE);
            let said = [
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW_SIZE, ours.stream_window),
                (setting::MAX_FRAME_SIZE, ours.max_frame),
                (setting::MAX_HEADER_LIST_SIZE, ours.header_limit),
            ];
            frame::write_settings(&said, &mut self.output);
        } else {
            let said = [
                (setting::MAX_CONCURRENT_STREAMS, ours.streams),
                (setting::INITIAL_WINDOW_SIZE, ours.stream_window),
                (setting::MAX_FRAME_SIZE, ours.max_frame),
                (setting::MAX_HEADER_LIST_SIZE, ours.header_limit),
                (setting::NO_RFC7540_PRIORITIES, 1),
                (setting::ENABLE_CONNECT_PROTOCOL, 1),
            ];
            let count = if ours.extended_connect { said.len() } else { said.len() - 1 };
            frame::write_settings(&said[..count], &mut self.output);
        }
        let more = ours.connection_window - WINDOW_DEFAULT;
        if more > 0 {
            frame::write_window_update(0, more, &mut self.output);
        }
    }

    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(note) = self.notes.pop_front() {
            match note {
                Note::Ready(event) => return Some(event),
                Note::Opened(id) => {
                    if let Some(stream) = self.stream_mut(id) {
                        stream.told = true;
                        stream.readable_queued = false;
                        return Some(Event::Opened(id));
                    }
                }
                Note::Readable(id) => {
                    if let Some(stream) = self.stream_mut(id) {
                        stream.readable_queued = false;
                        return Some(Event::Readable { stream: id, tag: stream.tag });
                    }
                }
                Note::Writable(id) => {
                    if let Some(stream) = self.stream_mut(id) {
                        return Some(Event::Writable { stream: id, tag: stream.tag });
                    }
                }
            }
        }
        self.next_writable()
    }

    /// The user's key for a stream, which comes back in its events.
    pub fn set_tag(&mut self, stream: StreamId, tag: u64) {
        if let Some(stream) = self.stream_mut(stream) {
            stream.tag = tag;
        }
    }

    /// Client: a new stream. `None` when the other side allows no more now, or none ever again.
    pub fn open(&mut self, tag: u64) -> Option<StreamId> {
        if !self.accepts_streams() {
            return None;
        }
        let mut stream = self.new_stream();
        stream.tag = tag;
        stream.told = true;
        Some(self.table.insert(stream))
    }

    /// Client: whether [`open`](Self::open) would succeed.
    pub fn accepts_streams(&self) -> bool {
        // Behind the last number a client has to start a new connection (RFC 9113 section 5.1.1).
        let numbers_left = u64::from(self.next_wire) + 2 * self.table.len() as u64 <= u64::from(frame::WINDOW_MAX);
        self.role == Role::Client
            && self.failure.is_none()
            && self.leaving == Leaving::No
            && self.remote.last_stream.is_none()
            && self.table.len() < self.remote.streams as usize
            && numbers_left
    }

    /// Client: whether the backend takes WebSockets; to be asked after [`Event::SettingsKnown`].
    pub const fn accepts_tunnels(&self) -> bool {
        self.remote.tunnels
    }

    pub const fn settings_known(&self) -> bool {
        self.remote.known
    }

    /// Reads text of the other side's message. What is read gives it room to send more.
    pub fn recv(&mut self, id: StreamId, into: &mut [u8]) -> StreamRecv {
        let Some(stream) = self.stream_mut(id) else { return StreamRecv::Reset(ErrorCode::STREAM_CLOSED) };
        if let Incoming::Reset(code) = stream.incoming {
            return StreamRecv::Reset(code);
        }
        let (read, payload) = stream.read(into);
        if payload > 0 {
            self.give_back_on(id, payload as u32);
        } else if read == 0 && !into.is_empty() {
            return if stream.incoming == Incoming::Ended { StreamRecv::End } else { StreamRecv::Dry };
        }
        StreamRecv::Bytes(read)
    }

    /// Whether [`recv`](Self::recv) would give anything else than `Dry`.
    pub fn is_readable(&self, id: StreamId) -> bool {
        self.stream(id).is_none_or(|stream| stream.has_text() || stream.incoming_over())
    }

    /// What the socket is owed.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// The first `bytes` of [`output`](Self::output) are gone. Ask for events afterwards: streams may have waited for the room.
    pub fn sent(&mut self, bytes: usize) {
        self.granted = 0;
        self.sent += bytes;
        self.control.sent(bytes, self.output.len() - self.sent);
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.shrink();
        } else if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Takes no new streams and lets the running ones end; with an error code, at once. When
    /// [`is_finished`](Self::is_finished) the connection can be closed.
    pub fn go_away(&mut self, code: ErrorCode, now: Instant) {
        if self.failure.is_some() || self.leaving != Leaving::No {
            return;
        }
        if self.role == Role::Server && code == ErrorCode::NO_ERROR {
            // RFC 9113 section 6.8: requests are under way that the client could not know to be too late.
            let until = now + Duration::from_secs(limits::H2_GOAWAY_GRACE.value);
            self.leaving = Leaving::Announced { until };
            self.control(|out| {
                frame::write_go_away(frame::WINDOW_MAX, code, "", out);
                frame::write_ping(LEAVING_PING, out);
            });
        } else {
            self.leave(code);
        }
    }

    pub(crate) fn leave(&mut self, code: ErrorCode) {
        self.leaving = Leaving::Left;
        let last = self.last_taken();
        self.control(|out| frame::write_go_away(last, code, "", out));
    }

    /// The last stream of the other side that we looked at. Servers open none.
    pub(crate) const fn last_taken(&self) -> u32 {
        match self.role {
            Role::Server => self.last_seen,
            Role::Client => 0,
        }
    }

    /// Nothing more comes and nothing can be sent: the connection below has ended. Messages that came whole can still be
    /// read, all others were reset.
    pub fn cut_off(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.reset_all(ErrorCode::CANCEL);
        self.output.clear();
        self.sent = 0;
        let cause = match self.role {
            Role::Client => Cause::BackendClosedBeforeResponse,
            Role::Server => Cause::ClientAborted,
        };
        let detail = "the connection ended";
        self.failure = Some(Failure { code: ErrorCode::CANCEL, detail, limit: None, cause });
    }

    /// Streams the user has not closed, and those it has not heard of.
    pub fn streams(&self) -> usize {
        self.table.len()
    }

    pub fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// Nothing is left to do but to send the output and close: after [`go_away`](Self::go_away), a backend's GOAWAY, or a
    /// failure.
    pub fn is_finished(&self) -> bool {
        let told_off = self.role == Role::Client && self.remote.last_stream.is_some();
        let going = self.leaving == Leaving::Left || told_off;
        self.failure.is_some() || going && self.table.is_empty()
    }

    /// Whether the other side is in the middle of a header block. Until its end nothing else can come on the connection.
    pub const fn is_mid_head(&self) -> bool {
        self.block.is_some()
    }

    pub const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = match self.leaving {
            Leaving::Announced { until } => Some(until),
            Leaving::No | Leaving::Left => None,
        };
        self.ack_due.into_iter().chain(leaving).min().filter(|_| self.failure.is_none())
    }

    /// # Errors
    /// When the other side has not acknowledged our settings in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.ack_due.is_some_and(|due| due <= now) {
            let fault = Fault::connection(
                ErrorCode::SETTINGS_TIMEOUT,
                "our settings were not acknowledged in time (RFC 9113 6.5.3)",
            );
            return Err(self.fail(Stop::Fault(fault)));
        }
        if let Leaving::Announced { until } = self.leaving
            && until <= now
        {
            self.leave(ErrorCode::NO_ERROR);
        }
        Ok(())
    }

    // What follows is for receiving.rs and sending.rs.

    pub(crate) fn fail(&mut self, stop: Stop) -> Failure {
        let (code, detail, limit) = match stop {
            // Only the decoder says so, of a list far over the limit.
            Stop::Fault(fault) if fault.code == ErrorCode::ENHANCE_YOUR_CALM => {
                (fault.code, fault.detail, Some(u64::from(self.settings.header_limit)))
            }
            Stop::Fault(fault) => (fault.code, fault.detail, None),
            Stop::Flood(flood) => (ErrorCode::ENHANCE_YOUR_CALM, flood.detail, Some(flood.limit)),
        };
        let cause = match (self.role, limit) {
            (Role::Client, _) => Cause::BackendMalformedResponse,
            (Role::Server, None) => Cause::ClientHttp2Violation,
            (Role::Server, Some(_)) => Cause::ClientHttp2Flood,
        };
        let failure = Failure { code, detail, limit, cause };
        let last = self.last_taken();
        frame::write_go_away(last, code, detail, &mut self.output);
        self.reset_all(code);
        self.failure = Some(failure);
        failure
    }

    fn reset_all(&mut self, code: ErrorCode) {
        for (_, stream) in self.table.iter_mut() {
            stream.closed = true;
            // A message that came whole can still be read.
            if !stream.incoming_over() {
                stream.inbox.discard();
                stream.incoming = Incoming::Reset(code);
            }
            stream.outgoing = Outgoing::Reset(code);
        }
        self.table.clear_wires();
        self.queue.clear();
    }

    /// Appends frames that are not DATA and not our users' heads, and counts what of them nobody reads.
    pub(crate) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.output.len();
        write(&mut self.output);
        self.control.written(self.output.len() - before, self.output.len() - self.sent);
    }

    /// Control frames that nobody reads (see [`limits::H2_CONTROL_BYTES`]).
    pub(crate) const fn control_owed(&self) -> usize {
        self.control.owed()
    }

    pub(crate) fn owed(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Payload of this stream that we no longer hold counts no longer against its window, nor the connection's.
    pub(crate) fn give_back_on(&mut self, id: StreamId, payload: u32) {
        if let Some(stream) = self.stream_mut(id)
            && stream.incoming == Incoming::Body
        {
            stream.receive.give_back(payload);
            let wire = stream.wire;
            if let Some(increment) = stream.receive.due() {
                self.control(|out| frame::write_window_update(wire, increment, out));
            }
        }
        self.give_back(payload);
    }

    /// Payload that we no longer hold counts no longer against the connection.
    pub(crate) fn give_back(&mut self, payload: u32) {
        self.receive.give_back(payload);
        if self.failure.is_none()
            && let Some(increment) = self.receive.due()
        {
            self.control(|out| frame::write_window_update(0, increment, out));
        }
    }

    /// The windows of a stream that starts now.
    fn stream_windows(&self) -> (ReceiveWindow, SendWindow) {
        let ours = self.settings.stream_window;
        // Who has not acknowledged our settings may still believe in the default.
        let believed = if self.ack_due.is_some() { ours.max(WINDOW_DEFAULT) } else { ours };
        (ReceiveWindow::new(believed, ours), SendWindow::new(self.remote.stream_window))
    }

    pub(crate) fn new_stream(&mut self) -> Stream {
        let (receive, send) = self.stream_windows();
        self.table.new_stream(receive, send)
    }

    pub(crate) fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.table.get(id)
    }

    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.table.get_mut(id)
    }

    /// No frame concerns the stream any more. Who was told of it still has to close it.
    pub(crate) fn conclude(&mut self, id: StreamId, ending: Ending) {
        let Some(stream) = self.stream(id).filter(|stream| !stream.closed) else { return };
        let told = stream.told;
        self.wait_no_more(id);
        self.table.take_off_wire(id, ending);
        if !told && ending != Ending::Both {
            self.release(id);
        }
    }

    /// Concludes the stream if both sides have said all.
    pub(crate) fn conclude_if_over(&mut self, id: StreamId) {
        if self.stream(id).is_some_and(|stream| stream.incoming_over() && stream.outgoing_over()) {
            self.conclude(id, Ending::Both);
        }
    }

    /// Frees the stream; its id means nothing from here on.
    pub(crate) fn release(&mut self, id: StreamId) {
        let unread = self.table.remove(id);
        if unread > 0 {
            self.give_back(unread as u32);
        }
        self.shrink();
    }

    /// An idle connection keeps little: there are many of them.
    fn shrink(&mut self) {
        const KEPT: usize = 4096;
        if !self.is_idle() || self.owed() > 0 {
            return;
        }
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        self.table.shrink();
    }

    /// Bytes of memory this connection takes now, itself included; what its HPACK tables hold is counted at their limit.
    pub fn footprint(&self) -> usize {
        const TABLES: usize = 2 * TABLE as usize;
        let buffers = [&self.output, &self.partial, &self.block_bytes].into_iter().map(Vec::capacity).sum::<usize>();
        let lists = self.notes.capacity() * size_of::<Note>() + self.queue.capacity() * size_of::<StreamId>();
        size_of::<Connection>() + TABLES + buffers + lists + self.table.footprint()
    }

    /// # Errors
    /// When the other side did it too often.
    pub(crate) fn count(&mut self, what: Cheap, amount: u64, now: Instant) -> Result<(), Stop> {
        self.defence.count(what, amount, now).map_err(Stop::Flood)
    }
}

/// The SETTINGS_HEADER_TABLE_SIZE we leave at its default.
const TABLE: u32 = 4096;

/// Why reading cannot go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    Flood(Flood),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}
