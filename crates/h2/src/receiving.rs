//! What comes from the other side: bytes to frames, frames to streams, and what is not allowed when.
//!
//! A frame's head is judged before its payload is waited for. DATA is passed on piece by piece as it comes; the payload
//! of any other frame is gathered, because it is small and its meaning is in the whole. A fault ends the stream
//! or the connection as RFC 9113 says at each place.

use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::connection::{Connection, Event, Failure, LEAVING_PING, Leaving, Note, Role, Stop};
use crate::defence::{self, Cheap, Flood};
use crate::frame::{self, ErrorCode, Fault, HEAD_BYTES, Head, Kind, flag, setting};
use crate::stream::{Incoming, Outgoing, StreamId};
use crate::table::Ending;

/// Where in the stream of bytes we are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// Of the client's greeting.
    Preface,
    Head,
    /// A whole payload is gathered.
    Payload(Head),
    Data(Data),
    /// The rest of a frame that means nothing any more.
    Skip(usize),
}

/// The rest of a DATA frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    /// `None` when the stream is gone: then the bytes are only counted.
    stream: Option<StreamId>,
    /// The length of the padding comes first.
    padded: bool,
    end_stream: bool,
    payload: usize,
    padding: usize,
}

pub(crate) const STREAM_OVER: &str = "frame on a stream that its sender has ended (RFC 9113 5.1)";
pub(crate) const LENGTH_WRONG: &str = "data does not add up to content-length (RFC 9113 8.1.1)";

impl Connection {
    /// Takes bytes as they came, in any pieces. Ask for events afterwards.
    ///
    /// # Errors
    /// The connection has to end; why is in the output as GOAWAY.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.granted = 0;
        while !bytes.is_empty() {
            match self.step(bytes, now) {
                Ok(used) => bytes = &bytes[used..],
                Err(stop) => return Err(self.fail(stop)),
            }
        }
        Ok(())
    }

    /// Uses at least one byte.
    fn step(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Stop> {
        match self.reading {
            Reading::Preface => self.preface(bytes),
            Reading::Head => {
                let missing = HEAD_BYTES - self.partial.len();
                let used = missing.min(bytes.len());
                let mut head = [0; HEAD_BYTES];
                if used < missing {
                    self.partial.extend_from_slice(bytes);
                    return Ok(used);
                }
                let begun = self.partial.len();
                head[..begun].copy_from_slice(&self.partial);
                head[begun..].copy_from_slice(&bytes[..used]);
                self.partial.clear();
                self.head(Head::read(&head), now)?;
                Ok(used)
            }
            Reading::Payload(head) => {
                let length = head.length as usize;
                let missing = length - self.partial.len();
                if bytes.len() < missing {
                    self.partial.extend_from_slice(bytes);
                    return Ok(bytes.len());
                }
                self.reading = Reading::Head;
                if self.partial.is_empty() {
                    self.frame(head, &bytes[..length], now)?;
                } else {
                    let mut whole = std::mem::take(&mut self.partial);
                    whole.extend_from_slice(&bytes[..missing]);
                    self.frame(head, &whole, now)?;
                    // A cut header block is rare enough for its memory to be given back.
                    if whole.capacity() <= 1024 {
                        whole.clear();
                        self.partial = whole;
                    }
                }
                Ok(missing)
            }
            Reading::Data(data) => self.data(data, bytes, now),
            Reading::Skip(left) => {
                let used = left.min(bytes.len());
                self.reading = if used == left { Reading::Head } else { Reading::Skip(left - used) };
                Ok(used)
            }
        }
    }

    fn preface(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let expected = &frame::PREFACE[self.partial.len()..];
        let used = expected.len().min(bytes.len());
        if bytes[..used] != expected[..used] {
            return Err(protocol("connection does not start with the preface (RFC 9113 3.4)"));
        }
        self.partial.extend_from_slice(&bytes[..used]);
        if self.partial.len() == frame::PREFACE.len() {
            self.partial.clear();
            self.reading = Reading::Head;
        }
        Ok(used)
    }

    /// Judges what the head alone shows.
    fn head(&mut self, head: Head, now: Instant) -> Result<(), Stop> {
        if let Some(block) = self.block
            && (head.kind != Kind::Continuation || head.stream != block.wire)
        {
            return Err(protocol("header block interrupted by another frame (RFC 9113 6.10)"));
        }
        if !self.remote.known && (head.kind != Kind::Settings || head.has(flag::ACK)) {
            return Err(protocol("first frame is not settings (RFC 9113 3.4)"));
        }
        if let Err(fault) = head.check(self.settings.max_frame) {
            if fault.connection || self.is_unused(head.stream) {
                return Err(Stop::Fault(Fault { connection: true, ..fault }));
            }
            self.stream_fault(head.stream, fault, now)?;
            self.skip(head.length as usize);
            return Ok(());
        }
        if head.kind == Kind::Data {
            return self.data_head(head, now);
        }
        self.reading = Reading::Payload(head);
        if head.length == 0 {
            self.reading = Reading::Head;
            self.frame(head, &[], now)?;
        }
        Ok(())
    }

    fn skip(&mut self, length: usize) {
        self.reading = if length == 0 { Reading::Head } else { Reading::Skip(length) };
    }

    /// A frame other than DATA is whole.
    fn frame(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        match self.act(head, payload, now) {
            Err(Stop::Fault(fault)) if !fault.connection => self.stream_fault(head.stream, fault, now)?,
            other => other?,
        }
        if self.control_owed() > limits::H2_CONTROL_BYTES.value as usize {
            let limit = limits::H2_CONTROL_BYTES.value;
            return Err(Stop::Flood(Flood { detail: defence::UNREAD_ANSWERS, limit }));
        }
        Ok(())
    }

    fn act(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        match head.kind {
            // Takes another road.
            Kind::Data => Ok(()),
            Kind::Headers => self.headers(head, payload, now),
            Kind::Continuation => self.continuation(head, payload, now),
            Kind::Priority => {
                self.count(Cheap::Idle, 1, now)?;
                if frame::priority(&head, payload)? && self.table.on_wire(head.stream).is_some() {
                    let detail = "stream that depends on itself (RFC 7540 5.3.1)";
                    return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, detail).into());
                }
                Ok(())
            }
            Kind::ResetStream => self.reset_stream(head, payload, now),
            Kind::Settings => self.settings(head, payload, now),
            Kind::Ping => {
                let opaque = frame::ping(payload)?;
                self.count(Cheap::Ping, 1, now)?;
                if !head.has(flag::ACK) {
                    self.control(|out| frame::write_ping_ack(opaque, out));
                } else if opaque == LEAVING_PING && matches!(self.leaving, Leaving::Announced { .. }) {
                    self.leave(ErrorCode::NO_ERROR);
                }
                Ok(())
            }
            Kind::GoAway => self.peer_goes(payload, now),
            Kind::WindowUpdate => self.window_update(head, payload, now),
            // `Head::check` has refused it.
            Kind::PushPromise => Err(protocol("push that nobody may send us (RFC 9113 8.4)")),
            Kind::PriorityUpdate | Kind::Unknown(_) => self.count(Cheap::Idle, 1, now),
        }
    }

    /// Whether no frame but HEADERS may be on this stream yet: it is idle (RFC 9113 section 5.1).
    pub(crate) fn is_unused(&self, wire: u32) -> bool {
        match self.role {
            Role::Server => wire.is_multiple_of(2) || wire > self.last_seen,
            Role::Client => wire.is_multiple_of(2) || wire >= self.next_wire,
        }
    }

    // DATA.

    fn data_head(&mut self, head: Head, now: Instant) -> Result<(), Stop> {
        if self.is_unused(head.stream) {
            return Err(protocol("data on a stream that was not opened (RFC 9113 5.1)"));
        }
        if !self.receive.accept(head.length) {
            let detail = "more data than the connection's window allows (RFC 9113 6.9.1)";
            return Err(Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, detail).into());
        }
        let end_stream = head.has(flag::END_STREAM);
        let padded = head.has(flag::PADDED);
        if head.length == 0 && padded {
            let detail = "padded frame without a padding length (RFC 9113 6.1)";
            return Err(Fault::connection(ErrorCode::FRAME_SIZE_ERROR, detail).into());
        }
        let stream = match self.data_stream(head) {
            Ok(stream) => stream,
            Err(fault) => {
                self.stream_fault(head.stream, fault, now)?;
                None
            }
        };
        let data = Data { stream, padded, end_stream, payload: head.length as usize, padding: 0 };
        self.reading = Reading::Data(data);
        if !padded {
            self.data_sized(data, now)?;
        }
        Ok(())
    }

    /// Whom DATA is for; `None` when its bytes only count.
    fn data_stream(&mut self, head: Head) -> Result<Option<StreamId>, Fault> {
        let Some(id) = self.table.on_wire(head.stream) else {
            return match self.table.ending_of(head.stream) {
                Some(Ending::ByUs) => Ok(None),
                Some(Ending::Both | Ending::ByThem) | None => Err(Fault::stream(ErrorCode::STREAM_CLOSED, STREAM_OVER)),
            };
        };
        let Some(stream) = self.stream_mut(id) else { return Ok(None) };
        match stream.incoming {
            Incoming::Body => {}
            Incoming::Head => {
                return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, "data before the head (RFC 9113 8.1)"));
            }
            Incoming::Ended | Incoming::Reset(_) => {
                return Err(Fault::stream(ErrorCode::STREAM_CLOSED, STREAM_OVER));
            }
        }
        if !stream.receive.accept(head.length) {
            let detail = "more data than the stream's window allows (RFC 9113 6.9.1)";
            return Err(Fault::stream(ErrorCode::FLOW_CONTROL_ERROR, detail));
        }
        Ok(Some(id))
    }

    /// How much of the frame is payload is known: weighs it against content-length.
    fn data_sized(&mut self, mut data: Data, now: Instant) -> Result<(), Stop> {
        // Padding is no payload: a frame full of it is as empty as one without.
        if data.payload == 0 && !data.end_stream {
            self.count(Cheap::EmptyData, 1, now)?;
        } else if data.payload >= defence::WORTH_A_FRAME {
            self.defence.data_moved();
        }
        if let Some(id) = data.stream
            && let Some(stream) = self.stream_mut(id)
            && let Some(left) = &mut stream.promised
        {
            let over = data.payload as u64 > *left;
            *left = left.saturating_sub(data.payload as u64);
            if over || data.end_stream && *left > 0 {
                let wire = stream.wire;
                self.stream_fault(wire, Fault::stream(ErrorCode::PROTOCOL_ERROR, LENGTH_WRONG), now)?;
                data.stream = None;
            }
        }
        self.reading = Reading::Data(data);
        self.data_done(data)
    }

    fn data(&mut self, mut data: Data, bytes: &[u8], now: Instant) -> Result<usize, Stop> {
        if data.padded {
            data.padded = false;
            data.padding = usize::from(bytes[0]);
            let Some(payload) = (data.payload - 1).checked_sub(data.padding) else {
                return Err(protocol("padding longer than the frame (RFC 9113 6.1)"));
            };
            data.payload = payload;
            let overhead = 1 + data.padding as u32;
            if let Some(id) = data.stream {
                self.give_back_on(id, overhead);
            } else {
                self.give_back(overhead);
            }
            self.data_sized(data, now)?;
            return Ok(1);
        }
        let used = data.payload.min(bytes.len());
        let skipped = data.padding.min(bytes.len() - used);
        if used > 0 {
            data.payload -= used;
            match data.stream.and_then(|id| self.stream_mut(id)) {
                Some(stream) if stream.incoming == Incoming::Body => {
                    stream.inbox.payload.extend(&bytes[..used]);
                    self.reading = Reading::Data(data);
                    if let Some(id) = data.stream {
                        self.readable(id)?;
                    }
                }
                Some(_) | None => self.give_back(used as u32),
            }
        }
        data.padding -= skipped;
        self.reading = Reading::Data(data);
        self.data_done(data)?;
        Ok(used + skipped)
    }

    fn data_done(&mut self, data: Data) -> Result<(), Stop> {
        if data.payload + data.padding > 0 || data.padded {
            return Ok(());
        }
        self.reading = Reading::Head;
        let Some(id) = data.stream.filter(|_| data.end_stream) else { return Ok(()) };
        if self.stream(id).is_some_and(|stream| stream.incoming == Incoming::Body) {
            return self.end_incoming(id);
        }
        Ok(())
    }

    /// The other side has said all of its message.
    pub(crate) fn end_incoming(&mut self, id: StreamId) -> Result<(), Stop> {
        let Some(stream) = self.stream_mut(id) else { return Ok(()) };
        if stream.promised.is_some_and(|left| left > 0) {
            return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, LENGTH_WRONG).into());
        }
        stream.incoming = Incoming::Ended;
        self.readable(id)?;
        self.conclude_if_over(id);
        Ok(())
    }

    pub(crate) fn readable(&mut self, id: StreamId) -> Result<(), Stop> {
        if let Some(stream) = self.stream_mut(id)
            && !stream.readable_queued
        {
            stream.readable_queued = true;
            self.notes.push_back(Note::Readable(id));
        }
        Ok(())
    }

    // Ends.

    /// Resets a stream for what the other side did.
    fn stream_fault(&mut self, wire: u32, fault: Fault, now: Instant) -> Result<(), Stop> {
        if self.role == Role::Server {
            self.count(Cheap::Reset, 1, now)?;
        }
        self.control(|out| frame::write_reset_stream(wire, fault.code, out));
        let Some(id) = self.table.on_wire(wire) else {
            if self.table.ending_of(wire).is_none() {
                // It never came to life.
                self.table.remember(wire, Ending::ByUs);
                self.notes.push_back(Note::Ready(Event::Malformed { code: fault.code, detail: fault.detail }));
            }
            return Ok(());
        };
        let told = self.stream(id).is_some_and(|stream| stream.told);
        if !told {
            self.notes.push_back(Note::Ready(Event::Malformed { code: fault.code, detail: fault.detail }));
        }
        self.cut(id, fault.code, Ending::ByUs, false, Some(fault.detail));
        Ok(())
    }

    /// The stream is over before its time.
    fn cut(&mut self, id: StreamId, code: ErrorCode, ending: Ending, refused: bool, detail: Option<&'static str>) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.incoming = Incoming::Reset(code);
        stream.outgoing = Outgoing::Reset(code);
        let unread = stream.inbox.discard();
        let (tag, told) = (stream.tag, stream.told);
        if unread > 0 {
            self.give_back(unread as u32);
        }
        if told {
            self.notes.push_back(Note::Ready(Event::Reset { stream: id, tag, code, refused, detail }));
        }
        self.conclude(id, ending);
    }

    fn reset_stream(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        let code = frame::reset_stream(payload)?;
        if self.is_unused(head.stream) {
            return Err(protocol("rst_stream on a stream that was not opened (RFC 9113 6.4)"));
        }
        let Some(id) = self.table.on_wire(head.stream) else { return self.count(Cheap::Idle, 1, now) };
        let role = self.role;
        let Some(stream) = self.stream_mut(id) else { return Ok(()) };
        if role == Role::Client && stream.incoming == Incoming::Ended {
            // RFC 9113 section 8.1: the answer is whole, only our request is no longer wanted.
            stream.outgoing = Outgoing::Unwanted;
            if stream.waiting || stream.parked {
                self.notes.push_back(Note::Writable(id));
            }
            self.conclude(id, Ending::ByThem);
            return Ok(());
        }
        if role == Role::Server && !stream.answered {
            self.count(Cheap::Reset, 1, now)?;
        } else {
            self.count(Cheap::Idle, 1, now)?;
        }
        let refused = self.role == Role::Client && code == ErrorCode::REFUSED_STREAM;
        self.cut(id, code, Ending::ByThem, refused, None);
        Ok(())
    }

    /// GOAWAY.
    fn peer_goes(&mut self, payload: &[u8], now: Instant) -> Result<(), Stop> {
        let said = frame::go_away(payload)?;
        self.count(Cheap::Settings, 1, now)?;
        let (last, code) = (said.last_stream, said.code);
        let last = self.remote.last_stream.map_or(last, |before| before.min(last));
        if self.remote.last_stream.is_none() {
            self.notes.push_back(Note::Ready(Event::PeerGoingAway { code }));
        }
        self.remote.last_stream = Some(last);
        if self.role == Role::Client {
            let unseen: Vec<StreamId> = self
                .table
                .iter_mut()
                .filter(|(_, stream)| !stream.closed && (stream.wire == 0 || stream.wire > last))
                .map(|(id, _)| id)
                .collect();
            for id in unseen {
                self.cut(id, ErrorCode::REFUSED_STREAM, Ending::ByThem, true, None);
            }
        }
        Ok(())
    }

    // Settings and windows.

    fn settings(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        // A frame of many settings costs more than one of a few.
        self.count(Cheap::Settings, 1 + payload.len() as u64 / 384, now)?;
        if head.has(flag::ACK) {
            self.settings_acknowledged();
            return Ok(());
        }
        let mut window = None;
        for (name, value) in frame::settings(payload)? {
            match name {
                setting::HEADER_TABLE_SIZE => self.encoder.set_peer_limit(value),
                setting::ENABLE_PUSH if self.role == Role::Client && value == 1 => {
                    return Err(protocol("a server enables push (RFC 9113 6.5.2)"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.remote.streams = value,
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE => self.remote.max_frame = value,
                setting::ENABLE_CONNECT_PROTOCOL => self.remote.tunnels = value == 1,
                _ => {}
            }
        }
        // Only the last value of a frame is ever seen by a stream.
        if let Some(window) = window {
            self.stream_window_is(window)?;
        }
        self.control(frame::write_settings_ack);
        if !self.remote.known {
            self.remote.known = true;
            self.notes.push_back(Note::Ready(Event::SettingsKnown));
        }
        Ok(())
    }

    /// Streams opened before were given the larger of our window and the default; from here on both know the same.
    fn settings_acknowledged(&mut self) {
        if self.ack_due.take().is_none() {
            return;
        }
        let ours = i64::from(self.settings.stream_window);
        let excess = i64::from(frame::WINDOW_DEFAULT) - ours;
        if excess > 0 {
            for (_, stream) in self.table.iter_mut() {
                stream.receive.shift(-excess);
            }
        }
    }

    fn stream_window_is(&mut self, window: u32) -> Result<(), Stop> {
        let by = i64::from(window) - i64::from(self.remote.stream_window);
        self.remote.stream_window = window;
        let mut released = Vec::new();
        for (id, stream) in self.table.iter_mut().filter(|(_, stream)| !stream.closed) {
            if stream.send.shift(by).is_err() {
                let detail = "initial_window_size makes a window larger than 2^31-1 (RFC 9113 6.9.2)";
                return Err(Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, detail).into());
            }
            if stream.parked && stream.send.available() > 0 {
                released.push(id);
            }
        }
        for id in released {
            self.unpark(id);
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        self.count(Cheap::WindowUpdate, 1, now)?;
        if head.stream != 0 && self.is_unused(head.stream) {
            return Err(protocol("window_update on a stream that was not opened (RFC 9113 5.1)"));
        }
        let increment = i64::from(frame::window_update(&head, payload)?);
        if head.stream == 0 {
            return self.send.shift(increment).map_err(|_| {
                let detail = "window_update makes the connection's window larger than 2^31-1 (RFC 9113 6.9.1)";
                Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, detail).into()
            });
        }
        let Some(id) = self.table.on_wire(head.stream) else { return Ok(()) };
        let Some(stream) = self.stream_mut(id) else { return Ok(()) };
        if stream.send.shift(increment).is_err() {
            let detail = "window_update makes the stream's window larger than 2^31-1 (RFC 9113 6.9.1)";
            return Err(Fault::stream(ErrorCode::FLOW_CONTROL_ERROR, detail).into());
        }
        if stream.parked && stream.send.available() > 0 {
            self.unpark(id);
        }
        Ok(())
    }
}

pub(crate) const fn protocol(detail: &'static str) -> Stop {
    Stop::Fault(Fault::connection(ErrorCode::PROTOCOL_ERROR, detail))
}
