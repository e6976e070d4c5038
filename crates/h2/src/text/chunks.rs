//! Chunked coding: DATA as chunks, and chunks taken apart for DATA.
//!
//! What is read here was written by us or was passed by [`evenkeel_wire::BodyReader`], which judges every byte. That
//! reader drops trailers, and they are what this one is for; it skips extensions, keeps the trailer lines, and
//! hands payload out where it lies.

use evenkeel_model::limits;

use super::Malformed;
use super::rules::malformed;

/// Starts a chunk of `length` bytes, which is above 0; a length of 0 would end the body.
pub fn write_chunk_head(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    debug_assert!(length > 0, "a chunk of nothing is the last one");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(DIGITS[length >> (4 * place) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Ends a chunk.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk; nothing for no bytes.
pub fn write_chunk(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        return;
    }
    write_chunk_head(payload.len(), out);
    out.extend_from_slice(payload);
    write_chunk_end(out);
}

/// Ends a body that has no trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Takes chunked text apart into payload and trailers.
#[derive(Clone, Debug, Default)]
pub struct ChunkReader {
    state: State,
    /// Bytes left of the chunk, or its size as far as it was read.
    left: u64,
    trailers: Vec<u8>,
    /// Where the trailer line being read starts.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Behind the digits of a size, up to its line feed.
    Extension,
    Payload,
    /// The line end behind a payload.
    PayloadEnd,
    Trailers,
    Done,
}

impl ChunkReader {
    pub const fn new() -> ChunkReader {
        ChunkReader { state: State::Size, left: 0, trailers: Vec::new(), line: 0 }
    }

    /// How many bytes of `input` were used, and the payload among them. Call again with the rest until it uses none.
    ///
    /// # Errors
    /// Names the rule the chunked coding breaks.
    pub fn advance<'i>(&mut self, input: &'i [u8]) -> Result<(usize, &'i [u8]), Malformed> {
        for (at, &byte) in input.iter().enumerate() {
            match self.state {
                State::Payload => {
                    let rest = &input[at..];
                    let take = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.left -= take as u64;
                    if self.left == 0 {
                        self.state = State::PayloadEnd;
                    }
                    return Ok((at + take, &rest[..take]));
                }
                State::Done => return Ok((at, &[])),
                State::Size | State::Extension | State::PayloadEnd | State::Trailers => self.framing_byte(byte)?,
            }
        }
        Ok((input.len(), &[]))
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        match (self.state, byte) {
            (State::Size, _) => match char::from(byte).to_digit(16) {
                Some(_) if self.left >> 60 != 0 => return malformed("chunk size does not fit 64 bits (RFC 9112 7.1)"),
                Some(digit) => self.left = self.left << 4 | u64::from(digit),
                None if matches!(byte, b'\r' | b';') => self.state = State::Extension,
                None => return malformed("chunk size is not a hex number (RFC 9112 7.1)"),
            },
            (State::Extension, b'\n') if self.left == 0 => self.state = State::Trailers,
            (State::Extension, b'\n') => self.state = State::Payload,
            (State::Extension, _) | (State::PayloadEnd, b'\r') => {}
            (State::PayloadEnd, b'\n') => self.state = State::Size,
            (State::PayloadEnd, _) => return malformed("chunk is longer than its size (RFC 9112 7.1)"),
            (State::Trailers, _) => self.trailer_byte(byte)?,
            (State::Payload | State::Done, _) => {}
        }
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.trailers.len() as u64 >= limits::TRAILER_BLOCK.value {
            return malformed("trailer section is too large");
        }
        self.trailers.push(byte);
        if byte == b'\n' {
            if &self.trailers[self.line..] == b"\r\n" {
                self.trailers.truncate(self.line);
                self.state = State::Done;
            }
            self.line = self.trailers.len();
        }
        Ok(())
    }

    /// The body and its trailers are over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer lines, each with its line end, without the empty line; complete when done.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }
}
