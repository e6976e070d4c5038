//! Requests: a client's header list to text, and text to the header list for a backend.
//!
//! Read with the eyes of an attacker: what is checked here is all that stands between a header list, in which any bytes may be
//! written, and a line of text, in which some of them end the line.

use super::rules::{
    CONNECTION, LENGTH_TWICE, Lines, Meaning, PSEUDO_LATE, PSEUDO_TWICE, PSEUDO_UNKNOWN, check_host, check_name,
    check_path, check_value, content_length, is_token, malformed, meaning, put_field,
};
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

/// The key in the text of every tunnel: 16 bytes, coded. It proves nothing here, since no browser sees the answer to it;
/// a text without one would be refused by backends.
const TUNNEL_KEY: &WebSocketKey = b"ZXZlbmtlZWwtdHVubmVsIQ==";

/// Room for the lines we add.
const ADDED: usize = 256;

/// Appends the head of the request that a client's header list means.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn request_text(fields: &FieldList, options: RequestOptions, out: &mut Vec<u8>) -> Result<RequestShape, Malformed> {
    let start = out.len();
    out.reserve(fields.text_size() + ADDED);
    let written = write_text(fields, options, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_text(fields: &FieldList, options: RequestOptions, out: &mut Vec<u8>) -> Result<RequestShape, Malformed> {
    let mut fields_left = fields.iter().peekable();
    let mut pseudo = Pseudo::default();
    while let Some((name, value)) = fields_left.next_if(|(name, _)| name.first() == Some(&b':')) {
        pseudo.read(name, value)?;
    }
    let asked = pseudo.judge(options)?;
    for part in [asked.method, b" ", asked.path, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    if let Some(authority) = asked.authority {
        check_host(authority)?;
        put_field(b"host", authority, out);
    }

    let (mut hosts, mut cookies, mut expects, mut length) = (0, 0, false, None);
    for (name, value) in fields_left {
        if name.first() == Some(&b':') {
            return malformed(PSEUDO_LATE);
        }
        check_name(name)?;
        check_value(value)?;
        match meaning(name) {
            Meaning::Plain | Meaning::WebSocketAccept => {}
            Meaning::Host => {
                hosts += 1;
                match asked.authority {
                    _ if hosts > 1 => return malformed("more than one host (RFC 9110 7.2)"),
                    Some(authority) if authority.eq_ignore_ascii_case(value) => continue,
                    Some(_) => return malformed(":authority disagrees with host (RFC 9113 8.3.1)"),
                    None => check_host(value)?,
                }
            }
            Meaning::ContentLength if length.is_some() => return malformed(LENGTH_TWICE),
            Meaning::ContentLength => length = Some(content_length(value)?),
            // RFC 9113 §8.2.3: all crumbs make one line, written when all are known.
            Meaning::Cookie => {
                cookies += 1;
                continue;
            }
            Meaning::Expect if expects => return malformed("more than one expectation (RFC 9110 10.1.1)"),
            Meaning::Expect if value.eq_ignore_ascii_case(b"100-continue") => expects = true,
            Meaning::Expect => return malformed("expectation other than 100-continue (RFC 9110 10.1.1)"),
            Meaning::Te if value.eq_ignore_ascii_case(b"trailers") => {}
            Meaning::Te => return malformed("te other than trailers (RFC 9113 8.2.2)"),
            Meaning::TransferEncoding | Meaning::Upgrade | Meaning::Connection => return malformed(CONNECTION),
            // RFC 8441 has none, and ours is written instead.
            Meaning::WebSocketKey if asked.tunnel => continue,
            Meaning::WebSocketKey => {}
        }
        put_field(name, value, out);
    }
    if asked.authority.is_none() && hosts == 0 {
        return malformed("neither :authority nor host (RFC 9113 8.3.1)");
    }
    if cookies > 0 {
        put_cookies(fields, out);
    }
    let body = end_head(&asked, length, options, out)?;
    Ok(RequestShape { body, is_head: asked.method == b"HEAD" })
}

/// Writes what says where the body ends, and the empty line.
fn end_head(
    asked: &Target<'_>,
    length: Option<u64>,
    options: RequestOptions,
    out: &mut Vec<u8>,
) -> Result<Body, Malformed> {
    let body = match length {
        Some(_) if asked.tunnel => return malformed("content-length in a connect (RFC 9110 9.3.6)"),
        Some(1..) if options.end_stream => {
            return malformed("content-length above 0 without a body (RFC 9113 8.1.1)");
        }
        Some(length) => Body::Length(length),
        None if asked.tunnel => {
            out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
            put_field(b"sec-websocket-key", TUNNEL_KEY, out);
            Body::Tunnel
        }
        None if !options.end_stream => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Body::Chunked
        }
        // RFC 9110 §8.6: methods that usually have a body say that this one has none.
        None if matches!(asked.method, b"POST" | b"PUT" | b"PATCH") => {
            out.extend_from_slice(b"content-length: 0\r\n");
            Body::Empty
        }
        None => Body::Empty,
    };
    out.extend_from_slice(b"\r\n");
    Ok(body)
}

fn put_cookies(fields: &FieldList, out: &mut Vec<u8>) {
    let crumbs = fields.iter().filter(|(name, _)| *name == b"cookie").map(|(_, value)| value);
    for (position, crumb) in crumbs.enumerate() {
        out.extend_from_slice(if position == 0 { b"cookie: " } else { b"; " });
        out.extend_from_slice(crumb);
    }
    out.extend_from_slice(b"\r\n");
}

/// The pseudo-headers of a request, each as it came.
#[derive(Default)]
struct Pseudo<'f> {
    method: Option<&'f [u8]>,
    scheme: Option<&'f [u8]>,
    authority: Option<&'f [u8]>,
    path: Option<&'f [u8]>,
    protocol: Option<&'f [u8]>,
}

/// What the request is for; method and path as the text has them.
struct Target<'f> {
    method: &'f [u8],
    path: &'f [u8],
    authority: Option<&'f [u8]>,
    tunnel: bool,
}

impl<'f> Pseudo<'f> {
    fn read(&mut self, name: &[u8], value: &'f [u8]) -> Result<(), Malformed> {
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            b":status" => return malformed("response pseudo-header in a request (RFC 9113 8.3)"),
            _ => return malformed(PSEUDO_UNKNOWN),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => malformed(PSEUDO_TWICE),
        }
    }

    fn judge(&self, options: RequestOptions) -> Result<Target<'f>, Malformed> {
        let Some(method) = self.method else { return malformed("no :method (RFC 9113 8.3.1)") };
        if !is_token(method) {
            return malformed(":method is not a token (RFC 9110 9.1)");
        }
        let connect = method == b"CONNECT";
        if connect && self.protocol.is_none() {
            return malformed("connect is for forward proxies (RFC 9113 8.5)");
        }
        let Some(scheme) = self.scheme else { return malformed("no :scheme (RFC 9113 8.3.1)") };
        if scheme != b"http" && scheme != b"https" {
            return malformed(":scheme is neither http nor https (RFC 9113 8.3.1)");
        }
        let Some(path) = self.path else { return malformed("no :path (RFC 9113 8.3.1)") };
        if path != b"*" || method != b"OPTIONS" {
            check_path(path)?;
        }
        let authority = self.authority;
        let Some(protocol) = self.protocol else { return Ok(Target { method, path, authority, tunnel: false }) };
        if !options.tunnels {
            return malformed(":protocol that we did not offer (RFC 8441 3)");
        }
        if !connect {
            return malformed(":protocol in a request that is no connect (RFC 8441 4)");
        }
        if !protocol.eq_ignore_ascii_case(b"websocket") {
            return malformed(":protocol other than websocket (RFC 8441 4)");
        }
        if authority.is_none() {
            return malformed("extended connect without :authority (RFC 8441 4)");
        }
        if options.end_stream {
            return malformed("extended connect that ends at once (RFC 8441 5)");
        }
        Ok(Target { method: b"GET", path, authority, tunnel: true })
    }
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
/// An upgrade that the backend did not offer to carry is left out, and the request is an ordinary one, which
/// RFC 9110 section 7.8 allows.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed.
pub fn request_fields(
    head: &[u8],
    options: SendOptions<'_>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<SentRequest, Malformed> {
    encoder.block(out, |list| {
        let (head, sent) = read_text(head, options, list)?;
        let method = if sent.key.is_some() { b"CONNECT" } else { head.method };
        let protocol = sent.key.map(|_| (b":protocol".as_slice(), b"websocket".as_slice()));
        let pseudo = [
            Some((b":method".as_slice(), method)),
            protocol,
            Some((b":scheme", options.scheme.as_bytes())),
            Some((b":authority", head.host)),
            Some((b":path", head.target)),
        ];
        Ok((pseudo, sent))
    })
}

/// The parts of a request's text that become pseudo-headers.
struct TextHead<'t> {
    method: &'t [u8],
    target: &'t [u8],
    host: &'t [u8],
}

/// Reads the text and lists its regular fields.
fn read_text<'t>(
    head: &'t [u8],
    options: SendOptions<'_>,
    list: &mut FieldList,
) -> Result<(TextHead<'t>, SentRequest), Malformed> {
    const LINE: &str = "request line is not one of ours (RFC 9112 3)";
    let mut lines = Lines::new(head);
    let mut words = lines.line()?.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(b"HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return malformed(LINE);
    };
    if !is_token(method) || method == b"CONNECT" {
        return malformed(LINE);
    }
    if target != b"*" || method != b"OPTIONS" {
        check_path(target)?;
    }

    let (mut host, mut length, mut chunked, mut websocket) = (None, None, false, false);
    let mut key = None;
    while let Some((name, value)) = lines.field()? {
        let name = list.push_lower(name, value);
        let kept = match meaning(name) {
            Meaning::Plain | Meaning::Cookie | Meaning::Expect | Meaning::WebSocketAccept => true,
            Meaning::Host if host.is_some() => return malformed("more than one host (RFC 9110 7.2)"),
            Meaning::Host => {
                check_host(value)?;
                host = Some(value);
                false
            }
            Meaning::ContentLength if length.is_some() => return malformed(LENGTH_TWICE),
            Meaning::ContentLength => {
                length = Some(content_length(value)?);
                true
            }
            Meaning::Te => value.eq_ignore_ascii_case(b"trailers"),
            Meaning::TransferEncoding => {
                chunked = true;
                false
            }
            Meaning::Upgrade => {
                websocket |= value.eq_ignore_ascii_case(b"websocket");
                false
            }
            Meaning::Connection => false,
            Meaning::WebSocketKey => {
                key = WebSocketKey::try_from(value).ok();
                true
            }
        };
        if !kept {
            list.pop();
        }
    }
    let Some(host) = host else { return malformed("no host (RFC 9112 3.2)") };
    let framing = match (length, chunked) {
        (Some(_), true) => return malformed("both content-length and transfer-encoding (RFC 9112 6.3)"),
        (Some(length), false) => Body::Length(length),
        (None, true) => Body::Chunked,
        (None, false) => Body::Empty,
    };
    let is_tunnel = websocket && options.tunnels && method == b"GET" && framing.is_empty();
    let key = key.filter(|_| is_tunnel);
    if key.is_some() {
        list.remove(b"sec-websocket-key");
        list.remove(b"content-length");
    }
    let body = if key.is_some() { Body::Tunnel } else { framing };
    Ok((TextHead { method, target, host }, SentRequest { body, is_head: method == b"HEAD", key }))
}
