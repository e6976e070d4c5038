//! Finds the end of a body while it streams by, and checks every byte of its framing.
//!
//! A chunked body is checked byte for byte (sizes, extensions, line ends, trailers) so that what we
//! passed on has one reading, and is not buffered: each byte is judged when it comes, with a few
//! bytes of state. That also makes the result independent of how the input was cut.
//!
//! Refused beyond RFC 9112: whitespace around chunk extensions, more than 16 digits of size, and trailers that
//! could change framing, routing or identity after these were decided.

use evenkeel_model::limits;

use crate::message::Framing;
use crate::scan::{BARE_CR, BARE_LF, is_field_value, is_token};

/// How far [`BodyReader::advance`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to this message.
    pub consumed: usize,
    /// The message is over; what follows in the input is the next one.
    pub done: bool,
}

/// Reads one body. Once an error was returned every further call returns it again.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    /// Payload bytes left: of the whole body, or of the current chunk.
    left: u64,
    payload: u64,
    /// Bytes of the current chunk-size line.
    line: u64,
    digits: u8,
    /// Bytes of the trailer section.
    trailers: u64,
    /// Lower-case start of the current trailer's name; `name_length` counts all of it.
    name: [u8; NAME_BYTES],
    name_length: usize,
}

/// One more than the longest refused trailer name, so that no longer name can equal one.
const NAME_BYTES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Payload of known length.
    Length,
    UntilClose,
    Size,
    Extension(Extension),
    SizeLineFeed,
    Chunk,
    ChunkReturn,
    ChunkLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
    Failed(&'static str),
}

/// `;name`, `;name=token`, `;name="quoted"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
}

impl BodyReader {
    pub const fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::Empty | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        let name = [0; NAME_BYTES];
        BodyReader { state, left, payload: 0, line: 0, digits: 0, trailers: 0, name, name_length: 0 }
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Payload seen so far, chunk framing and trailers not counted.
    pub const fn payload_bytes(&self) -> u64 {
        self.payload
    }

    /// Payload bytes still to come, when the framing tells.
    pub const fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length => Some(self.left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Checks as much of `input` as belongs to this message. Everything in `input[..consumed]` may be
    /// passed on as it is.
    ///
    /// # Errors
    /// Names the rule the chunked coding breaks.
    pub fn advance(&mut self, input: &[u8]) -> Result<Progress, &'static str> {
        self.walk(input, |_| {})
    }

    /// The same, appending payload only (no chunk framing, no trailers) to `out`: for HTTP/1.0 clients.
    ///
    /// # Errors
    /// Names the rule the chunked coding breaks; payload in front of it was appended.
    pub fn advance_decoding(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, &'static str> {
        self.walk(input, |payload| out.extend_from_slice(payload))
    }

    /// Tells that the stream ended.
    ///
    /// # Errors
    /// When that cut the message short.
    pub const fn end_of_stream(&mut self) -> Result<(), &'static str> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(detail) => Err(detail),
            State::Length => Err("stream ended before content-length was reached (RFC 9112 8)"),
            _ => Err("stream ended inside a chunked body (RFC 9112 8)"),
        }
    }

    fn walk(&mut self, input: &[u8], mut payload: impl FnMut(&[u8])) -> Result<Progress, &'static str> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Done => break,
                State::Failed(detail) => return Err(detail),
                _ if rest.is_empty() => break,
                State::UntilClose => {
                    self.payload += rest.len() as u64;
                    payload(rest);
                    at = input.len();
                }
                State::Length | State::Chunk => {
                    let take = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.left -= take as u64;
                    self.payload += take as u64;
                    payload(&rest[..take]);
                    at += take;
                    if self.left == 0 {
                        self.state = if self.state == State::Length { State::Done } else { State::ChunkReturn };
                    }
                }
                // Nearly every chunk has a plain size line that lies in one piece: skip the byte-wise road.
                State::ChunkReturn if rest.starts_with(b"\r\n") => {
                    self.state = State::Size;
                    at += 2;
                }
                State::Size
                    if self.line == 0
                        && let Some((size, length)) = plain_size_line(rest) =>
                {
                    self.left = size;
                    self.state = if size == 0 { State::TrailerStart } else { State::Chunk };
                    at += length;
                }
                _ => {
                    at += 1;
                    match self.framing_byte(rest[0]) {
                        Ok(next) => self.state = next,
                        Err(detail) => {
                            self.state = State::Failed(detail);
                            return Err(detail);
                        }
                    }
                }
            }
        }
        Ok(Progress { consumed: at, done: self.is_done() })
    }

    /// One byte of chunk framing or trailers.
    fn framing_byte(&mut self, byte: u8) -> Result<State, &'static str> {
        match self.state {
            State::Size | State::Extension(_) | State::SizeLineFeed => {
                self.line += 1;
                if self.line > limits::CHUNK_LINE.value {
                    return Err("chunk-size line is too long");
                }
            }
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::LastLineFeed => {
                self.trailers += 1;
                if self.trailers > limits::TRAILER_BLOCK.value {
                    return Err("trailer section is too large");
                }
            }
            State::ChunkReturn
            | State::ChunkLineFeed
            | State::Length
            | State::UntilClose
            | State::Chunk
            | State::Done
            | State::Failed(_) => {}
        }
        match self.state {
            State::Size => self.size_byte(byte),
            State::Extension(extension) => extension_byte(extension, byte),
            State::SizeLineFeed => {
                expect_line_feed(byte)?;
                (self.line, self.digits) = (0, 0);
                Ok(if self.left == 0 { State::TrailerStart } else { State::Chunk })
            }
            State::ChunkReturn if byte == b'\r' => Ok(State::ChunkLineFeed),
            State::ChunkReturn if byte == b'\n' => Err(BARE_LF),
            State::ChunkReturn => Err("chunk is longer than its size (RFC 9112 7.1)"),
            State::ChunkLineFeed => expect_line_feed(byte).map(|()| State::Size),
            State::TrailerStart => self.trailer_start(byte),
            State::TrailerName => self.trailer_name(byte),
            State::TrailerValue => match byte {
                b'\r' => Ok(State::TrailerLineFeed),
                b'\n' => Err(BARE_LF),
                _ if is_field_value(byte) => Ok(State::TrailerValue),
                _ => Err("control byte in a trailer value (RFC 9110 5.5)"),
            },
            State::TrailerLineFeed => expect_line_feed(byte).map(|()| State::TrailerStart),
            State::LastLineFeed => expect_line_feed(byte).map(|()| State::Done),
            State::Length | State::UntilClose | State::Chunk | State::Done | State::Failed(_) => Ok(self.state),
        }
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, &'static str> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err("chunk size does not start with a hex digit (RFC 9112 7.1)"),
            b'\r' => return Ok(State::SizeLineFeed),
            b'\n' => return Err(BARE_LF),
            b';' => return Ok(State::Extension(Extension::NameStart)),
            b' ' | b'\t' => return Err("whitespace behind a chunk size (RFC 9112 7.1)"),
            _ => return Err("chunk size is not a hex number (RFC 9112 7.1)"),
        };
        // Sixteen hex digits are 64 bits, so the shift below loses nothing.
        if self.digits == 16 {
            return Err("chunk size has more than 16 digits");
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn trailer_start(&mut self, byte: u8) -> Result<State, &'static str> {
        match byte {
            b'\r' => Ok(State::LastLineFeed),
            b'\n' => Err(BARE_LF),
            b' ' | b'\t' => Err("folded trailer line (RFC 9112 5.2)"),
            b':' => Err("trailer without a name (RFC 9112 5)"),
            _ if is_token(byte) => {
                self.name_length = 0;
                self.remember(byte);
                Ok(State::TrailerName)
            }
            _ => Err("trailer name holds a byte that is no token character (RFC 9110 5.1)"),
        }
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, &'static str> {
        match byte {
            b':' if self.name_is_refused() => Err("trailer that belongs into the head (RFC 9110 6.5.1)"),
            b':' => Ok(State::TrailerValue),
            b' ' | b'\t' => Err("whitespace between trailer name and colon (RFC 9112 5.1)"),
            b'\r' | b'\n' => Err("trailer line without a colon (RFC 9112 5)"),
            _ if is_token(byte) => {
                self.remember(byte);
                Ok(State::TrailerName)
            }
            _ => Err("trailer name holds a byte that is no token character (RFC 9110 5.1)"),
        }
    }

    fn remember(&mut self, byte: u8) {
        if let Some(slot) = self.name.get_mut(self.name_length) {
            *slot = byte.to_ascii_lowercase();
        }
        self.name_length += 1;
    }

    fn name_is_refused(&self) -> bool {
        is_refused_trailer(&self.name[..self.name_length.min(NAME_BYTES)])
    }
}

/// Whether a field of that name, in lower case, has no place behind a body.
pub fn is_refused_trailer(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded-") || REFUSED_TRAILERS.iter().any(|refused| refused.as_bytes() == name)
}

/// What decides framing, routing, identity or caching must be known before the body, so it is not
/// believed after it.
const REFUSED_TRAILERS: &[&str] = &[
    "authorization",
    "cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
];

/// Size and length of a line that is nothing but 1 to 16 hex digits and CRLF.
fn plain_size_line(input: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (digits, &byte) in input.iter().enumerate().take(17) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 && input.get(digits + 1) == Some(&b'\n') => return Some((size, digits + 2)),
            _ => return None,
        };
        // A seventeenth digit would be lost here, but the loop then ends without a line.
        size = size << 4 | u64::from(digit);
    }
    None
}

fn expect_line_feed(byte: u8) -> Result<(), &'static str> {
    if byte == b'\n' { Ok(()) } else { Err(BARE_CR) }
}

fn extension_byte(extension: Extension, byte: u8) -> Result<State, &'static str> {
    const BAD: &str = "bad chunk extension (RFC 9112 7.1.1)";
    let next = match (extension, byte) {
        (_, b'\n') => return Err(BARE_LF),
        (Extension::Name | Extension::Token | Extension::AfterQuoted, b'\r') => return Ok(State::SizeLineFeed),
        (Extension::Name | Extension::Token | Extension::AfterQuoted, b';') => Extension::NameStart,
        (Extension::Name, b'=') => Extension::ValueStart,
        (Extension::NameStart | Extension::Name, _) if is_token(byte) => Extension::Name,
        (Extension::ValueStart, b'"') => Extension::Quoted,
        (Extension::ValueStart | Extension::Token, _) if is_token(byte) => Extension::Token,
        (Extension::Quoted, b'"') => Extension::AfterQuoted,
        (Extension::Quoted, b'\\') => Extension::Escaped,
        (Extension::Quoted | Extension::Escaped, _) if is_field_value(byte) => Extension::Quoted,
        _ => return Err(BAD),
    };
    Ok(State::Extension(next))
}
