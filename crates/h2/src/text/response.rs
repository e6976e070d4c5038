//! Responses: our text to the header list for a client, and a backend's header list to text.
//!
//! A backend is trusted no more than a client: what it writes into a header list must not become a second answer in
//! the text. The other way the text is ours, but a tunnel has two words for success: 101 in text, 200 in a list.

use sha1::{Digest, Sha1};

use super::rules::{
    CONNECTION, LENGTH_TWICE, Lines, Meaning, PSEUDO_LATE, PSEUDO_TWICE, PSEUDO_UNKNOWN, check_name, check_value,
    content_length, malformed, meaning, put_field,
};
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

const LENGTH_WITHOUT_BODY: &str = "content-length above 0 in a 1xx or 204 answer (RFC 9110 8.6)";
const STATUS: &str = "status outside 100 to 599 (RFC 9110 15)";

/// Appends the header block for a response head as [`evenkeel_wire::write_response`] writes it.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed. One of them is the backend's doing: a handshake for a tunnel
/// answered with 2xx instead of 101. In a list that would be success, so there the stream has to end.
pub fn response_fields(
    head: &[u8],
    asked: ResponseAsked,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<ResponseShape, Malformed> {
    encoder.block(out, |list| {
        let (digits, shape) = read_text(head, asked, list)?;
        Ok(([Some((b":status".as_slice(), digits))], shape))
    })
}

/// Reads the text and lists its regular fields. Also gives the digits of the status.
fn read_text<'t>(
    head: &'t [u8],
    asked: ResponseAsked,
    list: &mut FieldList,
) -> Result<(&'t [u8], ResponseShape), Malformed> {
    let mut lines = Lines::new(head);
    let Some((b"HTTP/1.1 ", line)) = lines.line()?.split_first_chunk::<9>() else {
        return malformed("status line is not one of ours (RFC 9112 4)");
    };
    let mut digits = line.get(..3).unwrap_or(line);
    if !matches!(line.get(3), None | Some(b' ')) {
        return malformed(STATUS);
    }
    let mut status = read_status(digits)?;
    let switched = status == 101;
    match (switched, asked.tunnel) {
        (true, true) => (status, digits) = (200, b"200"),
        (true, false) => return malformed("101 where nothing can be switched (RFC 9113 8.6)"),
        (false, true) if matches!(status, 200..=299) => {
            return malformed("success other than 101 for a tunnel (RFC 8441 5)");
        }
        (false, _) => {}
    }

    let (mut length, mut chunked) = (None, false);
    while let Some((name, value)) = lines.field()? {
        let name = list.push_lower(name, value);
        let kept = match meaning(name) {
            Meaning::Plain | Meaning::Cookie | Meaning::Expect | Meaning::Host | Meaning::WebSocketKey => true,
            Meaning::ContentLength if length.is_some() => return malformed(LENGTH_TWICE),
            Meaning::ContentLength => {
                length = Some(content_length(value)?);
                status >= 200 && status != 204 && !switched
            }
            Meaning::TransferEncoding => {
                chunked = true;
                false
            }
            Meaning::Te | Meaning::Upgrade | Meaning::Connection => false,
            Meaning::WebSocketAccept => !switched,
        };
        if !kept {
            list.pop();
        }
    }
    let body = match (length, chunked) {
        _ if switched => Body::Tunnel,
        _ if has_no_body(status, asked.is_head) => Body::Empty,
        (Some(_), true) => return malformed("both content-length and transfer-encoding (RFC 9112 6.3)"),
        (Some(length), false) => Body::Length(length),
        (None, true) => Body::Chunked,
        (None, false) => Body::UntilClose,
    };
    Ok((digits, ResponseShape { status, body }))
}

const fn has_no_body(status: u16, is_head: bool) -> bool {
    is_head || status < 200 || matches!(status, 204 | 304)
}

fn read_status(digits: &[u8]) -> Result<u16, Malformed> {
    match *digits {
        [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => malformed(STATUS),
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    /// HEADERS carried END_STREAM.
    pub end_stream: bool,
    pub is_head: bool,
    /// Given when an extended CONNECT was sent: [`super::SentRequest::key`].
    pub key: Option<WebSocketKey>,
}

/// Room for the lines we add.
const ADDED: usize = 192;

/// Appends the head of the response that a backend's header list means.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn response_text(
    fields: &FieldList,
    options: ResponseOptions,
    out: &mut Vec<u8>,
) -> Result<ResponseShape, Malformed> {
    let start = out.len();
    out.reserve(fields.text_size() + ADDED);
    let written = write_text(fields, options, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_text(fields: &FieldList, options: ResponseOptions, out: &mut Vec<u8>) -> Result<ResponseShape, Malformed> {
    let mut fields_left = fields.iter().peekable();
    let mut digits = None;
    while let Some((name, value)) = fields_left.next_if(|(name, _)| name.first() == Some(&b':')) {
        match name {
            b":status" if digits.replace(value).is_some() => return malformed(PSEUDO_TWICE),
            b":status" => {}
            b":method" | b":scheme" | b":authority" | b":path" | b":protocol" => {
                return malformed("request pseudo-header in a response (RFC 9113 8.3)");
            }
            _ => return malformed(PSEUDO_UNKNOWN),
        }
    }
    let Some(digits) = digits else { return malformed("no :status (RFC 9113 8.3.2)") };
    let status = read_status(digits)?;
    if status == 101 {
        return malformed("101 where nothing can be switched (RFC 9113 8.6)");
    }
    if status < 200 && options.end_stream {
        return malformed("interim answer that ends the stream (RFC 9113 8.1)");
    }
    let key = options.key.filter(|_| matches!(status, 200..=299));
    if key.is_some() {
        out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    } else {
        for part in [b"HTTP/1.1 ", digits, b" ", reason(status), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    let mut length = None;
    let without_length = status < 200 || status == 204;
    for (name, value) in fields_left {
        if name.first() == Some(&b':') {
            return malformed(PSEUDO_LATE);
        }
        check_name(name)?;
        check_value(value)?;
        match meaning(name) {
            Meaning::Plain | Meaning::Cookie | Meaning::Expect | Meaning::Host | Meaning::WebSocketKey => {}
            Meaning::ContentLength if length.is_some() => return malformed(LENGTH_TWICE),
            Meaning::ContentLength => {
                let said = content_length(value)?;
                length = Some(said);
                if without_length && said > 0 {
                    return malformed(LENGTH_WITHOUT_BODY);
                }
                // RFC 9110 §9.3.6: it says nothing in front of a tunnel.
                if without_length || key.is_some() {
                    continue;
                }
            }
            Meaning::Te | Meaning::TransferEncoding | Meaning::Upgrade | Meaning::Connection => {
                return malformed(CONNECTION);
            }
            Meaning::WebSocketAccept if key.is_some() => continue,
            Meaning::WebSocketAccept => {}
        }
        put_field(name, value, out);
    }
    let body = match (length, key) {
        (_, Some(key)) => {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
            put_field(b"sec-websocket-accept", &accept(&key), out);
            Body::Tunnel
        }
        _ if has_no_body(status, options.is_head) => Body::Empty,
        (Some(1..), None) if options.end_stream => {
            return malformed("content-length above 0 without a body (RFC 9113 8.1.1)");
        }
        (Some(length), None) => Body::Length(length),
        (None, None) if options.end_stream => {
            out.extend_from_slice(b"content-length: 0\r\n");
            Body::Empty
        }
        (None, None) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Body::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(ResponseShape { status, body })
}

/// What proves that a handshake was understood (RFC 6455 section 4.2.2): the SHA-1 of key and a fixed word, in base64.
fn accept(key: &WebSocketKey) -> [u8; 28] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let mut text = [b'='; 28];
    for (three, four) in digest.chunks(3).zip(text.chunks_mut(4)) {
        let bits = three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        // Two bytes fill three digits; the fourth stays the sign of the end.
        for (place, digit) in four.iter_mut().enumerate().take(three.len() + 1) {
            *digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
        }
    }
    text
}

/// HTTP/2 has none; those of RFC 9110 are known to whoever reads a trace.
const fn reason(status: u16) -> &'static [u8] {
    match status {
        100 => b"Continue",
        103 => b"Early Hints",
        200 => b"OK",
        201 => b"Created",
        202 => b"Accepted",
        204 => b"No Content",
        206 => b"Partial Content",
        301 => b"Moved Permanently",
        302 => b"Found",
        303 => b"See Other",
        304 => b"Not Modified",
        307 => b"Temporary Redirect",
        308 => b"Permanent Redirect",
        400 => b"Bad Request",
        401 => b"Unauthorized",
        403 => b"Forbidden",
        404 => b"Not Found",
        405 => b"Method Not Allowed",
        409 => b"Conflict",
        410 => b"Gone",
        412 => b"Precondition Failed",
        413 => b"Content Too Large",
        415 => b"Unsupported Media Type",
        416 => b"Range Not Satisfiable",
        422 => b"Unprocessable Content",
        429 => b"Too Many Requests",
        500 => b"Internal Server Error",
        501 => b"Not Implemented",
        502 => b"Bad Gateway",
        503 => b"Service Unavailable",
        504 => b"Gateway Timeout",
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_rfc_6455() {
        // The example of section 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
