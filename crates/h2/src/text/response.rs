//! Responses.
use super::{Body, Malformed, WebSocketKey};
use crate::hpack::{Encoder, FieldList};

/// What was asked on the stream whose response text becomes a header list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseAsked {
    pub is_head: bool,
    /// It was an extended CONNECT, so that 101 is success.
    pub tunnel: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseShape {
    /// As on the side of HTTP/2: never 101.
    pub status: u16,
    pub body: Body,
}

impl ResponseShape {
    /// The final head follows; HEADERS must not carry END_STREAM.
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Appends the header block for a response head as [`evenkeel_wire::write_response`] writes it.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed.
pub fn response_fields(
    head: &[u8],
    asked: ResponseAsked,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<ResponseShape, Malformed> {
    let _ = (head, asked, encoder, out);
    Err(Malformed { detail: "" })
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// HEADERS carried END_STREAM.
    pub end_stream: bool,
    pub is_head: bool,
    /// Given when an extended CONNECT was sent: [`super::SentRequest::key`].
    pub key: Option<WebSocketKey>,
}

/// Appends the head of the response that a backend's header list means.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn response_text(
    fields: &FieldList,
    options: ResponseOptions,
    out: &mut Vec<u8>,
) -> Result<ResponseShape, Malformed> {
    let _ = (fields, options, out);
    Err(Malformed { detail: "" })
}
