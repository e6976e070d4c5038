//! Header blocks: gathered, decoded, and made a request, the head of an answer, or trailers.
//!
//! A block is decoded whatever becomes of its stream, because both sides' tables must stay in step. What a block may cost
//! is bounded before: in bytes and frames while it is gathered, in decoded size by the decoder.

use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::connection::{Connection, Leaving, Note, Role, Stop};
use crate::defence::{self, Cheap, Flood};
use crate::frame::{self, ErrorCode, Fault, Head, flag};
use crate::hpack::Decoded;
use crate::receiving::{LENGTH_WRONG, STREAM_OVER, protocol};
use crate::stream::{Incoming, StreamId};
use crate::table::Ending;
use crate::text::{self, Body, RequestOptions, ResponseOptions};

/// A header block that is being gathered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) wire: u32,
    end_stream: bool,
    depends_on_itself: bool,
    continuations: u64,
}

impl Connection {
    pub(crate) fn headers(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        if head.stream.is_multiple_of(2) {
            return Err(protocol("headers on a stream with an even number (RFC 9113 5.1.1)"));
        }
        if self.role == Role::Client && self.is_unused(head.stream) {
            return Err(protocol("headers on a stream that was not opened (RFC 9113 5.1)"));
        }
        let headers = frame::headers(&head, payload)?;
        let block = Block {
            wire: head.stream,
            end_stream: head.has(flag::END_STREAM),
            depends_on_itself: headers.depends_on_itself,
            continuations: 0,
        };
        if head.has(flag::END_HEADERS) {
            return self.list(block, headers.block, now);
        }
        self.block_bytes.extend_from_slice(headers.block);
        self.block = Some(block);
        Ok(())
    }

    pub(crate) fn continuation(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Stop> {
        let Some(block) = &mut self.block else {
            return Err(protocol("continuation without a header block to continue (RFC 9113 6.10)"));
        };
        block.continuations += 1;
        let header_limit = u64::from(self.settings.header_limit);
        let frames = limits::H2_CONTINUATIONS.value + header_limit / u64::from(frame::FRAME_SIZE_DEFAULT);
        if block.continuations > frames {
            return Err(Stop::Flood(Flood { detail: defence::CONTINUATION_FRAMES, limit: frames }));
        }
        let bytes = header_limit * limits::H2_HEADER_EXCESS.value;
        if (self.block_bytes.len() + payload.len()) as u64 > bytes {
            return Err(Stop::Flood(Flood { detail: defence::CONTINUATION_BYTES, limit: bytes }));
        }
        self.block_bytes.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        let block = *block;
        self.block = None;
        let bytes = std::mem::take(&mut self.block_bytes);
        self.list(block, &bytes, now)
    }

    /// A header block is whole. It is decoded whatever becomes of it, or the tables would be out of step.
    fn list(&mut self, block: Block, bytes: &[u8], now: Instant) -> Result<(), Stop> {
        let mut fields = std::mem::take(&mut self.fields);
        let decoded = self.decoder.decode(bytes, &mut fields);
        self.fields = fields;
        let too_large = decoded? == Decoded::TooLarge;
        // A fault of a block that CONTINUATION ended is that of the stream where it began, which is the same one.
        match self.table.on_wire(block.wire) {
            Some(id) => self.list_on(id, block, too_large),
            None if self.role == Role::Server && block.wire > self.last_seen => self.request(block, too_large, now),
            None => match self.table.ending_of(block.wire) {
                // It was under way when we reset the stream.
                Some(Ending::ByUs) => Ok(()),
                Some(Ending::ByThem) => Err(Fault::stream(ErrorCode::STREAM_CLOSED, STREAM_OVER).into()),
                Some(Ending::Both) => Err(Fault::connection(ErrorCode::STREAM_CLOSED, STREAM_OVER).into()),
                None if self.role == Role::Client => Ok(()),
                None => Err(protocol("stream numbers must rise (RFC 9113 5.1.1)")),
            },
        }
    }

    /// A client opens a stream.
    fn request(&mut self, block: Block, too_large: bool, now: Instant) -> Result<(), Stop> {
        self.last_seen = block.wire;
        if self.leaving == Leaving::Left {
            self.refuse(block.wire);
            return Ok(());
        }
        // The second bound is for a user that is slow to close what is over.
        let streams = self.settings.streams as usize;
        if self.table.active() >= streams || self.streams() >= 2 * streams {
            self.refuse(block.wire);
            return self.count(Cheap::Reset, 1, now);
        }
        if block.depends_on_itself {
            let detail = "stream that depends on itself (RFC 7540 5.3.1)";
            return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, detail).into());
        }
        let mut stream = self.new_stream();
        if too_large {
            // Dearer for us than a reset, so it counts for more.
            self.count(Cheap::Reset, 10, now)?;
            let limit = self.settings.header_limit as usize;
            oversized(b"GET / HTTP/1.1\r\n", limit, &mut stream.inbox.head);
            stream.body_is(Body::Chunked);
        } else {
            let options = RequestOptions { end_stream: block.end_stream, tunnels: self.settings.extended_connect };
            match text::request_text(&self.fields, options, &mut stream.inbox.head) {
                Ok(shape) => {
                    stream.body_is(shape.body);
                    stream.is_head = shape.is_head;
                    stream.tunnel = shape.body == Body::Tunnel;
                }
                Err(malformed) => {
                    return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, malformed.detail).into());
                }
            }
        }
        if block.end_stream {
            if stream.promised.is_some_and(|left| left > 0) {
                return Err(Fault::stream(ErrorCode::PROTOCOL_ERROR, LENGTH_WRONG).into());
            }
            stream.incoming = Incoming::Ended;
        }
        // The user reads from the start, so a `Readable` before `Opened` would say nothing.
        stream.readable_queued = true;
        let id = self.table.insert(stream);
        self.table.put_on_wire(id, block.wire);
        self.notes.push_back(Note::Opened(id));
        self.defence.request_came();
        Ok(())
    }

    fn refuse(&mut self, wire: u32) {
        self.table.remember(wire, Ending::ByUs);
        self.control(|out| frame::write_reset_stream(wire, ErrorCode::REFUSED_STREAM, out));
    }

    /// A further header list on a stream: an answer's head, an interim one, or trailers.
    fn list_on(&mut self, id: StreamId, block: Block, too_large: bool) -> Result<(), Stop> {
        let limit = self.settings.header_limit as usize;
        let fields = std::mem::take(&mut self.fields);
        let Some(stream) = self.stream_mut(id) else { return Ok(()) };
        let fault = |code, detail| Err(Fault::stream(code, detail));
        let result = match stream.incoming {
            Incoming::Ended | Incoming::Reset(_) => fault(ErrorCode::STREAM_CLOSED, STREAM_OVER),
            Incoming::Head if too_large => {
                oversized(b"HTTP/1.1 200 \r\n", limit, &mut stream.inbox.head);
                stream.body_is(Body::Chunked);
                Ok(())
            }
            Incoming::Head if stream.inbox.head_bytes() > 2 * limit => {
                fault(ErrorCode::ENHANCE_YOUR_CALM, "interim answers pile up unread")
            }
            Incoming::Head => {
                let options =
                    ResponseOptions { end_stream: block.end_stream, is_head: stream.is_head, key: stream.key };
                match text::response_text(&fields, options, &mut stream.inbox.head) {
                    Ok(shape) if shape.is_interim() && block.end_stream => {
                        fault(ErrorCode::PROTOCOL_ERROR, "interim answer that ends the stream (RFC 9113 8.1)")
                    }
                    Ok(shape) => {
                        if !shape.is_interim() {
                            stream.body_is(shape.body);
                        }
                        Ok(())
                    }
                    Err(malformed) => fault(ErrorCode::PROTOCOL_ERROR, malformed.detail),
                }
            }
            Incoming::Body if !block.end_stream => {
                fault(ErrorCode::PROTOCOL_ERROR, "trailers that do not end the stream (RFC 9113 8.1)")
            }
            Incoming::Body if stream.body == Body::Tunnel => {
                fault(ErrorCode::PROTOCOL_ERROR, "trailers in a tunnel (RFC 9113 8.5)")
            }
            Incoming::Body if too_large => fault(ErrorCode::ENHANCE_YOUR_CALM, "trailer section is too large"),
            Incoming::Body => match text::trailer_text(&fields, &mut stream.inbox.tail) {
                Ok(()) => {
                    // Text with a length has no place for them.
                    if stream.body != Body::Chunked {
                        stream.inbox.tail.clear();
                    }
                    Ok(())
                }
                Err(malformed) => fault(ErrorCode::PROTOCOL_ERROR, malformed.detail),
            },
        };
        self.fields = fields;
        result?;
        if block.end_stream { self.end_incoming(id) } else { self.readable(id) }
    }
}

/// A head that every reader with this limit refuses as too large: whoever reads the stream then answers 431 and
/// records it as for HTTP/1.1, instead of a reset that explains nothing.
fn oversized(first_line: &[u8], header_limit: usize, text: &mut Vec<u8>) {
    text.clear();
    text.extend_from_slice(first_line);
    text.extend_from_slice(b"x: ");
    text.resize(header_limit + 1, b'x');
}
