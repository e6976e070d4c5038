//! Between header lists and the text of HTTP/1.1, both ways, for both ends.
//!
//! A stream of HTTP/2 is given to the rest of the house as the text of one HTTP/1.1 exchange. That is safe only if
//! nothing can be written in a header list that the text would say differently: a line end in a value, a colon in a name, a
//! second length. So each rule of RFC 9113 section 8 is checked before a byte of text is written, and what passes is
//! accepted by [`evenkeel_wire::parse_request`] with the same meaning.
//!
//! Text becomes a header list only after it was accepted whole, because encoding changes the tables for good.

mod chunks;
mod request;
mod response;
mod rules;
mod trailers;

use evenkeel_wire::Framing;

pub use chunks::{ChunkReader, write_chunk, write_chunk_end, write_chunk_head, write_last_chunk};
pub use request::{RequestOptions, RequestShape, SendOptions, SentRequest, request_fields, request_text};
pub use response::{ResponseAsked, ResponseOptions, ResponseShape, response_fields, response_text};
pub use trailers::{trailer_fields, trailer_text};

/// The broken rule, with the RFC's section; never bytes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub detail: &'static str,
}

/// How the body behind a head is delimited, in the text and by DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// None may come: DATA must be empty, END_STREAM may still be awaited.
    Empty,
    /// DATA must add up to exactly this (RFC 9113 section 8.1.1).
    Length(u64),
    /// The text is chunked; DATA ends it with END_STREAM or trailers.
    Chunked,
    /// Text of a response only: the end of the link is the end of the body.
    UntilClose,
    /// Bytes both ways without framing (RFC 8441).
    Tunnel,
}

impl Body {
    /// What [`evenkeel_wire::BodyReader`] is made of; `None` for a tunnel, which has no end but the end of the link.
    pub const fn framing(self) -> Option<Framing> {
        match self {
            Body::Empty => Some(Framing::Empty),
            Body::Length(length) => Some(Framing::Length(length)),
            Body::Chunked => Some(Framing::Chunked),
            Body::UntilClose => Some(Framing::UntilClose),
            Body::Tunnel => None,
        }
    }

    /// Whether HEADERS may carry END_STREAM at once.
    pub const fn is_empty(self) -> bool {
        matches!(self, Body::Empty | Body::Length(0))
    }
}

/// The `Sec-WebSocket-Key` of one handshake.
pub type WebSocketKey = [u8; 24];

/// Length of the head at the start of `text`, its empty line included; `None` while that has not come.
///
/// `seen` bytes were looked at before without success and are not looked at again.
pub fn head_length(text: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let end = text.get(from..)?.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(from + end + 4)
}
