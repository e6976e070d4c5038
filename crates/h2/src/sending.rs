//! What goes to the other side: HTTP/1.1 text of a stream's user to frames.
//!
//! Text is taken only as far as it can be framed at once: windows, room in the output, and the turn of others
//! decide how far. The rest stays with the user, who is told when it can go on. So there is no second queue per stream,
//! and a slow reader slows down exactly the one who writes to it.

use evenkeel_model::limits;

use crate::connection::{Close, Connection, Event, Role};
use crate::defence::WORTH_A_FRAME;
use crate::frame::{self, ErrorCode, HEAD_BYTES, Head, HeadersInProgress, Kind, flag};
use crate::stream::{Incoming, Outgoing, StreamId};
use crate::table::Ending;
use crate::text::{self, Body, ChunkReader, ResponseAsked, SendOptions};

/// Why text was not taken and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// The stream was reset, or its connection ended.
    Reset(ErrorCode),
    /// The text is not the message it should be. The stream was reset.
    Malformed(&'static str),
}

const OUTPUT: usize = limits::H2_OUTPUT.value as usize;
const QUANTUM: usize = limits::H2_QUANTUM.value as usize;

impl Connection {
    /// Writes text of our message: heads, then the body in the framing the head announced. Says how much was taken; for the
    /// rest the stream waits, and a `Writable` event says when to go on.
    ///
    /// # Errors
    /// No further text of this stream will be taken.
    pub fn send(&mut self, id: StreamId, text: &[u8]) -> Result<usize, SendFault> {
        let mut used = 0;
        while used < text.len() {
            let Some(stream) = self.stream_mut(id) else { return Err(SendFault::Reset(ErrorCode::STREAM_CLOSED)) };
            let rest = &text[used..];
            match &stream.outgoing {
                Outgoing::Reset(code) => return Err(SendFault::Reset(*code)),
                Outgoing::Unwanted => return Ok(text.len()),
                Outgoing::Ended => {
                    return Err(self.spoil(id, "text behind the end of the message"));
                }
                Outgoing::Head => {
                    if self.owed() >= OUTPUT {
                        self.wait(id);
                        break;
                    }
                    used += self.send_head(id, rest)?;
                }
                Outgoing::Length(_) | Outgoing::Open | Outgoing::Chunked(_) => {
                    let (taken, blocked) = self.send_body(id, rest)?;
                    used += taken;
                    if blocked {
                        self.wait(id);
                        break;
                    }
                }
            }
        }
        if used == text.len() {
            self.wait_no_more(id);
        }
        Ok(used)
    }

    /// How many bytes of body [`send`](Self::send) would take at most now.
    pub fn room(&self, id: StreamId) -> usize {
        match self.stream(id) {
            Some(stream) if !stream.outgoing_over() => self.budget(stream.send.available()),
            Some(_) | None => 0,
        }
    }

    /// Our direction ends in good order here, where the framing does not say it by itself: bodies until the end of the
    /// connection, and tunnels. Elsewhere it changes nothing.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.stream_mut(id) else { return };
        if !matches!(stream.outgoing, Outgoing::Open) {
            return;
        }
        let wire = stream.wire;
        stream.outgoing = Outgoing::Ended;
        frame::write_data_head(wire, 0, true, &mut self.output);
        self.conclude_if_over(id);
    }

    /// The user lets go. Whatever is missing on either side becomes a reset that says whose fault it is; the id means
    /// nothing afterwards.
    pub fn close(&mut self, id: StreamId, how: Close) {
        if how == Close::Orderly {
            self.finish(id);
        }
        let role = self.role;
        let Some(stream) = self.stream(id) else { return };
        let code = match role {
            Role::Client => ErrorCode::CANCEL,
            // RFC 9113 section 8.1: the rest of the request is not needed.
            Role::Server if stream.outgoing_over() => ErrorCode::NO_ERROR,
            Role::Server => ErrorCode::INTERNAL_ERROR,
        };
        let wire = stream.wire;
        if !stream.closed && wire != 0 {
            self.control(|out| frame::write_reset_stream(wire, code, out));
            self.conclude(id, Ending::ByUs);
        }
        self.release(id);
    }

    /// The next of those who wait, when there is room for it that was not granted to another one before: who collects
    /// events first and sends afterwards must not give everything to the first each time.
    pub(crate) fn next_writable(&mut self) -> Option<Event> {
        // Waking somebody for a few bytes of room would make crumbs.
        if self.owed() > OUTPUT / 2 {
            return None;
        }
        let room = (OUTPUT - self.owed()).saturating_sub(self.granted);
        let window = self.send.available().saturating_sub(self.granted);
        while let Some(&id) = self.queue.front() {
            let Some(stream) = self.stream_mut(id).filter(|stream| stream.waiting) else {
                self.queue.pop_front();
                continue;
            };
            let needs_window = !matches!(stream.outgoing, Outgoing::Head);
            if room == 0 || needs_window && window == 0 {
                return None;
            }
            stream.waiting = false;
            stream.parked = needs_window && stream.send.available() == 0;
            stream.granted = !stream.parked;
            let (granted, tag) = (stream.granted, stream.tag);
            self.queue.pop_front();
            if granted {
                self.granted += QUANTUM;
                return Some(Event::Writable { stream: id, tag });
            }
        }
        None
    }

    /// Its own window is open again.
    pub(crate) fn unpark(&mut self, id: StreamId) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.parked = false;
        stream.waiting = true;
        self.queue.push_back(id);
    }

    /// Nobody must be told to go on who has nothing more to send: what is granted to it would be missing to others.
    pub(crate) fn wait_no_more(&mut self, id: StreamId) {
        let Some(stream) = self.stream_mut(id) else { return };
        let (waited, granted) = (stream.waiting, stream.granted);
        (stream.waiting, stream.parked, stream.granted) = (false, false, false);
        if waited {
            self.queue.retain(|waiting| *waiting != id);
        }
        if granted {
            self.granted = self.granted.saturating_sub(QUANTUM);
        }
    }

    fn wait(&mut self, id: StreamId) {
        let Some(stream) = self.stream_mut(id) else { return };
        if stream.waiting || stream.parked {
            return;
        }
        if matches!(stream.outgoing, Outgoing::Head) {
            // It needs no window, so it must not stand behind somebody who does.
            stream.waiting = true;
            self.queue.push_front(id);
        } else if stream.send.available() == 0 {
            stream.parked = true;
        } else {
            stream.waiting = true;
            self.queue.push_back(id);
        }
    }

    fn budget(&self, stream_window: usize) -> usize {
        let room = OUTPUT.saturating_sub(self.owed());
        let alone = self.queue.is_empty() && self.granted <= QUANTUM;
        let turn = if alone { OUTPUT } else { QUANTUM };
        stream_window.min(self.send.available()).min(room).min(turn)
    }

    /// Takes all of a head, or its start.
    fn send_head(&mut self, id: StreamId, text: &[u8]) -> Result<usize, SendFault> {
        let Some(stream) = self.stream_mut(id) else { return Ok(text.len()) };
        if stream.head_part.is_empty()
            && let Some(length) = text::head_length(text, 0)
        {
            self.write_head(id, &text[..length], &text[length..])?;
            return Ok(length);
        }
        let seen = stream.head_part.len();
        stream.head_part.extend_from_slice(text);
        let Some(length) = text::head_length(&stream.head_part, seen) else { return Ok(text.len()) };
        let mut head = std::mem::take(&mut stream.head_part);
        head.truncate(length);
        let used = length - seen;
        self.write_head(id, &head, &text[used..])?;
        Ok(used)
    }

    /// `behind` is what the user has behind the head already.
    fn write_head(&mut self, id: StreamId, head: &[u8], behind: &[u8]) -> Result<(), SendFault> {
        match self.role {
            Role::Server => self.write_response(id, head, behind),
            Role::Client => self.write_request(id, head, behind),
        }
    }

    fn write_response(&mut self, id: StreamId, head: &[u8], behind: &[u8]) -> Result<(), SendFault> {
        let Some(stream) = self.stream(id) else { return Ok(()) };
        let asked = ResponseAsked { is_head: stream.is_head, tunnel: stream.tunnel };
        let wire = stream.wire;
        let frames = HeadersInProgress::begin(&mut self.output);
        let shape = match text::response_fields(head, asked, &mut self.encoder, &mut self.output) {
            Ok(shape) => shape,
            Err(malformed) => {
                frames.abandon(&mut self.output);
                return Err(self.spoil(id, malformed.detail));
            }
        };
        if shape.is_interim() {
            frames.finish(wire, false, self.frame_size(), &mut self.output);
            return Ok(());
        }
        let ends = shape.body.is_empty() || shape.body == Body::Chunked && behind == b"0\r\n\r\n";
        frames.finish(wire, ends, self.frame_size(), &mut self.output);
        if let Some(stream) = self.stream_mut(id) {
            stream.answered = true;
        }
        self.body_follows(id, shape.body, ends);
        Ok(())
    }

    fn write_request(&mut self, id: StreamId, head: &[u8], behind: &[u8]) -> Result<(), SendFault> {
        let options =
            SendOptions { scheme: if self.settings.secure { "https" } else { "http" }, tunnels: self.remote.tunnels };
        let frames = HeadersInProgress::begin(&mut self.output);
        let sent = match text::request_fields(head, options, &mut self.encoder, &mut self.output) {
            Ok(sent) => sent,
            Err(malformed) => {
                frames.abandon(&mut self.output);
                return Err(self.spoil(id, malformed.detail));
            }
        };
        // Numbers must rise on the wire, so a stream gets its own only now.
        let wire = self.next_wire;
        self.next_wire += 2;
        self.table.put_on_wire(id, wire);
        if let Some(stream) = self.stream_mut(id) {
            stream.is_head = sent.is_head;
            stream.key = sent.key;
            stream.tunnel = sent.body == Body::Tunnel;
        }
        let ends = sent.body.is_empty() || sent.body == Body::Chunked && behind == b"0\r\n\r\n";
        frames.finish(wire, ends, self.frame_size(), &mut self.output);
        self.body_follows(id, sent.body, ends);
        Ok(())
    }

    fn body_follows(&mut self, id: StreamId, body: Body, ended: bool) {
        let Some(stream) = self.stream_mut(id) else { return };
        stream.outgoing = match body {
            // Its text still has to be taken; nothing of it is left to be sent.
            Body::Chunked if ended => Outgoing::Unwanted,
            _ if ended => Outgoing::Ended,
            Body::Empty => Outgoing::Ended,
            Body::Length(length) => Outgoing::Length(length),
            Body::Chunked => Outgoing::Chunked(ChunkReader::new()),
            Body::UntilClose | Body::Tunnel => Outgoing::Open,
        };
        self.conclude_if_over(id);
    }

    fn frame_size(&self) -> u32 {
        self.remote.max_frame.min(frame::FRAME_SIZE_DEFAULT)
    }

    /// Says how much was taken, and whether the rest has to wait.
    fn send_body(&mut self, id: StreamId, text: &[u8]) -> Result<(usize, bool), SendFault> {
        let Some(stream) = self.stream(id) else { return Ok((0, true)) };
        let budget = self.budget(stream.send.available());
        let wire = stream.wire;
        let mut frames =
            DataFrames { wire, size: self.frame_size() as usize, open: None, written: 0, count: 0, large: 0 };
        let Some(stream) = self.stream_mut(id) else { return Ok((0, true)) };
        let granted = std::mem::take(&mut stream.granted);
        let mut outgoing = std::mem::replace(&mut stream.outgoing, Outgoing::Ended);
        let mut end = End::NotYet;
        let mut fault = None;
        let taken = match &mut outgoing {
            Outgoing::Length(left) => {
                let promised = usize::try_from(*left).unwrap_or(usize::MAX);
                let taken = text.len().min(promised).min(budget);
                frames.write(&text[..taken], &mut self.output);
                *left -= taken as u64;
                if *left == 0 {
                    end = End::WithData;
                }
                taken
            }
            Outgoing::Chunked(reader) => match chunks(reader, text, budget, &mut frames, &mut self.output) {
                Ok(taken) => {
                    if reader.is_done() {
                        end = if reader.trailers().is_empty() { End::WithData } else { End::WithTrailers };
                    }
                    taken
                }
                Err(detail) => {
                    fault = Some(detail);
                    0
                }
            },
            _ => {
                let taken = text.len().min(budget);
                frames.write(&text[..taken], &mut self.output);
                taken
            }
        };
        frames.finish(end == End::WithData, &mut self.output);
        self.send.take(frames.written);
        if granted {
            self.granted = self.granted.saturating_sub(QUANTUM);
        }
        // A small frame pays too when our user had no more; when the window cut it, it is a crumb.
        let paying = if taken == text.len() { frames.count } else { frames.large };
        for _ in 0..paying {
            self.defence.data_moved();
        }
        if let (End::WithTrailers, Outgoing::Chunked(reader)) = (end, &outgoing) {
            let headers = HeadersInProgress::begin(&mut self.output);
            match text::trailer_fields(reader.trailers(), &mut self.encoder, &mut self.output) {
                Ok(()) => headers.finish(wire, true, self.frame_size(), &mut self.output),
                Err(malformed) => {
                    headers.abandon(&mut self.output);
                    fault = Some(malformed.detail);
                }
            }
        }
        if let Some(stream) = self.stream_mut(id) {
            stream.send.take(frames.written);
            stream.outgoing = if end == End::NotYet || fault.is_some() { outgoing } else { Outgoing::Ended };
        }
        if let Some(detail) = fault {
            return Err(self.spoil(id, detail));
        }
        self.conclude_if_over(id);
        Ok((taken, end == End::NotYet && taken < text.len()))
    }

    /// Our own user wrote what is no message: nobody may take the part for the whole.
    #[cold]
    fn spoil(&mut self, id: StreamId, detail: &'static str) -> SendFault {
        let code = if self.role == Role::Client { ErrorCode::CANCEL } else { ErrorCode::INTERNAL_ERROR };
        let Some(stream) = self.stream_mut(id) else { return SendFault::Malformed(detail) };
        let (wire, closed) = (stream.wire, stream.closed);
        if !closed {
            stream.outgoing = Outgoing::Reset(code);
            stream.incoming = Incoming::Reset(code);
            let unread = stream.inbox.discard();
            if unread > 0 {
                self.give_back(unread as u32);
            }
            if wire != 0 {
                self.control(|out| frame::write_reset_stream(wire, code, out));
            }
            self.conclude(id, Ending::ByUs);
        }
        SendFault::Malformed(detail)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    WithData,
    WithTrailers,
}

/// DATA being written: the last frame stays open, so that what is small goes together and the end goes with it.
struct DataFrames {
    wire: u32,
    size: usize,
    /// Where the head of the open frame lies in the output.
    open: Option<usize>,
    written: usize,
    count: u32,
    /// Frames large enough to pay for what the other side sends beside them.
    large: u32,
}

impl DataFrames {
    fn write(&mut self, mut payload: &[u8], out: &mut Vec<u8>) {
        while !payload.is_empty() {
            let at = *self.open.get_or_insert_with(|| {
                out.extend_from_slice(&[0; HEAD_BYTES]);
                out.len() - HEAD_BYTES
            });
            let room = self.size - (out.len() - at - HEAD_BYTES);
            if room == 0 {
                self.shut(0, out);
                continue;
            }
            let (piece, rest) = payload.split_at(room.min(payload.len()));
            out.extend_from_slice(piece);
            self.written += piece.len();
            payload = rest;
        }
    }

    fn shut(&mut self, flags: u8, out: &mut [u8]) {
        let Some(at) = self.open.take() else { return };
        let length = out.len() - at - HEAD_BYTES;
        self.count += 1;
        self.large += u32::from(length >= WORTH_A_FRAME);
        let length = u32::try_from(length).expect("a frame's size has 24 bits");
        let head = Head { length, kind: Kind::Data, flags, stream: self.wire };
        out[at..at + HEAD_BYTES].copy_from_slice(&head.bytes());
    }

    fn finish(&mut self, end_stream: bool, out: &mut Vec<u8>) {
        if self.open.is_some() {
            self.shut(if end_stream { flag::END_STREAM } else { 0 }, out);
        } else if end_stream {
            frame::write_data_head(self.wire, 0, true, out);
        }
    }
}

/// Takes chunked text apart until payload would exceed the budget; says how much of the text was used.
fn chunks(
    reader: &mut ChunkReader,
    text: &[u8],
    budget: usize,
    frames: &mut DataFrames,
    out: &mut Vec<u8>,
) -> Result<usize, &'static str> {
    let mut used = 0;
    while used < text.len() && !reader.is_done() {
        let left = budget - frames.written;
        let rest = &text[used..];
        let (taken, payload) = if left > 0 {
            reader.advance(&rest[..rest.len().min(left)]).map_err(|malformed| malformed.detail)?
        } else {
            // Framing may still go, above all the end. Whether payload comes next only the reader can tell.
            let mut ahead = reader.clone();
            let (taken, payload) = ahead.advance(rest).map_err(|malformed| malformed.detail)?;
            if !payload.is_empty() {
                break;
            }
            *reader = ahead;
            (taken, payload)
        };
        if taken == 0 {
            break;
        }
        frames.write(payload, out);
        used += taken;
    }
    Ok(used)
}
