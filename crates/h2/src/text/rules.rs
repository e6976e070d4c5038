//! What names, values, hosts and lengths may be, alike for requests, responses and trailers.
//!
//! As strict as the reader of HTTP/1.1 text, and stricter where RFC 9113 is: what passes here stands in a line of
//! text without meaning anything else. Each rule has one sentence, which is all that is ever told of a message.

use super::Malformed;
use crate::hpack::Field;

/// What a field means for the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Passed on as it is.
    Plain,
    Host,
    ContentLength,
    Cookie,
    Expect,
    Te,
    TransferEncoding,
    Upgrade,
    /// About one connection of HTTP/1.1, like the two before it (RFC 9113 section 8.2.2).
    Connection,
    WebSocketKey,
    WebSocketAccept,
}

/// Length first: it tells nearly all names apart. `name` is in lower case.
#[inline]
pub fn meaning(name: &[u8]) -> Meaning {
    match name.len() {
        2 if name == b"te" => Meaning::Te,
        4 if name == b"host" => Meaning::Host,
        6 if name == b"cookie" => Meaning::Cookie,
        6 if name == b"expect" => Meaning::Expect,
        7 if name == b"upgrade" => Meaning::Upgrade,
        10 if name == b"connection" || name == b"keep-alive" => Meaning::Connection,
        14 if name == b"content-length" => Meaning::ContentLength,
        14 if name == b"http2-settings" => Meaning::Connection,
        16 if name == b"proxy-connection" => Meaning::Connection,
        17 if name == b"transfer-encoding" => Meaning::TransferEncoding,
        17 if name == b"sec-websocket-key" => Meaning::WebSocketKey,
        20 if name == b"sec-websocket-accept" => Meaning::WebSocketAccept,
        _ => Meaning::Plain,
    }
}

pub const fn malformed<T>(detail: &'static str) -> Result<T, Malformed> {
    Err(Malformed { detail })
}

pub const CONNECTION: &str = "field that is about one connection (RFC 9113 8.2.2)";
pub const LENGTH_TWICE: &str = "content-length given more than once (RFC 9110 8.6)";
pub const PSEUDO_LATE: &str = "pseudo-header behind a regular field (RFC 9113 8.3)";
pub const PSEUDO_TWICE: &str = "pseudo-header given more than once (RFC 9113 8.3)";
pub const PSEUDO_UNKNOWN: &str = "unknown pseudo-header (RFC 9113 8.3)";

const UPPER: u8 = 1;
const NO_TOKEN: u8 = 2;

/// What speaks against a byte of a name.
static NAME_BYTES: [u8; 256] = {
    let mut bytes = [NO_TOKEN; 256];
    let mut byte = 0;
    while byte < 128 {
        bytes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' => 0,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                0
            }
            b'A'..=b'Z' => UPPER,
            _ => NO_TOKEN,
        };
        byte += 1;
    }
    bytes
};

#[inline]
fn name_bytes(name: &[u8]) -> u8 {
    name.iter().fold(0, |found, &byte| found | NAME_BYTES[usize::from(byte)])
}

/// Whether `method` is a token in any case.
pub fn is_token(method: &[u8]) -> bool {
    !method.is_empty() && name_bytes(method) & NO_TOKEN == 0
}

/// Checks the name of a field that came by HTTP/2.
#[inline]
pub fn check_name(name: &[u8]) -> Result<(), Malformed> {
    if name_bytes(name) == 0 && !name.is_empty() { Ok(()) } else { malformed(name_fault(name)) }
}

#[cold]
fn name_fault(name: &[u8]) -> &'static str {
    if name.is_empty() {
        return "field without a name (RFC 9113 8.2.1)";
    }
    let first = name.iter().find(|&&byte| NAME_BYTES[usize::from(byte)] != 0);
    match first {
        Some(b'A'..=b'Z') => "field name with an upper-case letter (RFC 9113 8.2.1)",
        Some(b':') => "field name with a colon (RFC 9113 8.2.1)",
        Some(b' ' | b'\t') => "field name with whitespace (RFC 9113 8.2.1)",
        _ => "field name holds a byte that is no token character (RFC 9113 8.2.1)",
    }
}

/// Without an early exit, so that the compiler looks at many bytes at once.
#[inline]
fn is_clean(value: &[u8]) -> bool {
    value.iter().fold(true, |clean, &byte| clean & ((byte >= b' ') & (byte != 0x7f) | (byte == b'\t')))
}

/// Checks the value of a field that came by HTTP/2.
#[inline]
pub fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) {
        return malformed("field value with whitespace around it (RFC 9113 8.2.1)");
    }
    if is_clean(value) { Ok(()) } else { malformed(value_fault(value)) }
}

#[cold]
fn value_fault(value: &[u8]) -> &'static str {
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        "field value with a line end or a zero byte (RFC 9113 8.2.1)"
    } else {
        "control byte in a field value (RFC 9110 5.5)"
    }
}

/// Checks a `:path` of a request that is no OPTIONS for `*`.
pub fn check_path(path: &[u8]) -> Result<(), Malformed> {
    let clean = path.iter().fold(true, |clean, &byte| clean & matches!(byte, b'!'..=b'~') & (byte != b'#'));
    if clean && path.first() == Some(&b'/') { Ok(()) } else { malformed(path_fault(path)) }
}

#[cold]
fn path_fault(path: &[u8]) -> &'static str {
    match path.first() {
        None => return "empty :path (RFC 9113 8.3.1)",
        Some(b'*') => return ":path is an asterisk without options (RFC 9113 8.3.1)",
        Some(b'/') => {}
        Some(_) => return ":path does not start with a slash (RFC 9113 8.3.1)",
    }
    match path.iter().find(|&&byte| !matches!(byte, b'!'..=b'~') || byte == b'#') {
        Some(b'#') => ":path with a fragment (RFC 9113 8.3.1)",
        Some(128..) => ":path with a byte outside ascii (RFC 3986 2)",
        Some(b' ') => ":path with a space (RFC 9113 8.3.1)",
        _ => ":path with a control byte (RFC 9113 8.3.1)",
    }
}

/// Checks that `host` is one that `wire` lets through as a Host.
pub fn check_host(host: &[u8]) -> Result<(), Malformed> {
    evenkeel_wire::host_fault(host).map_or(Ok(()), malformed)
}

/// The number a Content-Length field gives, as `wire` reads it.
pub fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    evenkeel_wire::content_length(value).or_else(malformed)
}

/// Appends `name: value`.
#[inline]
pub fn put_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The lines of a head or a trailer section that our own writers made.
///
/// They are checked all the same: what becomes a field must not depend on nobody ever making a mistake.
pub struct Lines<'t> {
    rest: &'t [u8],
}

const TEXT: &str = "text that is not lines of http/1.1 (RFC 9112 2)";

impl<'t> Lines<'t> {
    pub const fn new(text: &'t [u8]) -> Lines<'t> {
        Lines { rest: text }
    }

    /// The next line without its end; empty when there is none.
    pub fn line(&mut self) -> Result<&'t [u8], Malformed> {
        if self.rest.is_empty() {
            return Ok(self.rest);
        }
        let Some(feed) = memchr::memchr(b'\n', self.rest) else { return malformed(TEXT) };
        let (line, rest) = self.rest.split_at(feed + 1);
        self.rest = rest;
        match line.split_last_chunk::<2>() {
            Some((line, b"\r\n")) if is_clean(line) => Ok(line),
            _ => malformed(TEXT),
        }
    }

    /// The next field, its value without surrounding whitespace; `None` at the empty line or the end.
    pub fn field(&mut self) -> Result<Option<Field<'t>>, Malformed> {
        let line = self.line()?;
        if line.is_empty() {
            return Ok(None);
        }
        match line.iter().position(|&byte| NAME_BYTES[usize::from(byte)] & NO_TOKEN != 0) {
            Some(colon) if colon > 0 && line[colon] == b':' => {
                Ok(Some((&line[..colon], line[colon + 1..].trim_ascii())))
            }
            _ => malformed(TEXT),
        }
    }
}
