//! Requests.
use super::{Body, Malformed, WebSocketKey};
use crate::hpack::{Encoder, FieldList};

#[derive(Clone, Copy, Debug)]
pub struct RequestOptions {
    /// HEADERS carried END_STREAM.
    pub end_stream: bool,
    /// We announced SETTINGS_ENABLE_CONNECT_PROTOCOL.
    pub tunnels: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestShape {
    /// Never `UntilClose`.
    pub body: Body,
    /// The answer will have no body.
    pub is_head: bool,
}

/// Appends the head of the request that a client's header list means.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn request_text(fields: &FieldList, options: RequestOptions, out: &mut Vec<u8>) -> Result<RequestShape, Malformed> {
    let _ = (fields, options, out);
    Err(Malformed { detail: "" })
}

#[derive(Clone, Copy, Debug)]
pub struct SendOptions<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The backend announced SETTINGS_ENABLE_CONNECT_PROTOCOL.
    pub tunnels: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentRequest {
    pub body: Body,
    pub is_head: bool,
    /// Of a tunnel: hand it to [`super::response_text`].
    pub key: Option<WebSocketKey>,
}

/// Appends the header block for a request head as [`evenkeel_wire::write_request`] writes it.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed.
pub fn request_fields(
    head: &[u8],
    options: SendOptions<'_>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<SentRequest, Malformed> {
    let _ = (head, options, encoder, out);
    Err(Malformed { detail: "" })
}
