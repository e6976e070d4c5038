//! The fields of one head: where they are stored while they are read, what each one means to us, and
//! the small grammars (lists, lengths) their values share.
//!
//! Each name is looked up once, when the head is parsed. Rewriting then goes by the stored kind and
//! copies everything between two touched fields in one piece.

use std::mem::MaybeUninit;

use evenkeel_model::limits;
use httparse::Header;

const SLOTS: usize = limits::HEADER_FIELDS.value as usize;

/// Room for the fields of one head, made on the caller's stack. The slots stay uninitialised: writing 4 KiB
/// of zeros per head would cost more than parsing it.
pub struct FieldSlots<'b> {
    pub(crate) headers: [MaybeUninit<Header<'b>>; SLOTS],
    pub(crate) kinds: [Kind; SLOTS],
}

impl FieldSlots<'_> {
    pub const fn new() -> Self {
        FieldSlots { headers: [const { MaybeUninit::uninit() }; SLOTS], kinds: [Kind::Plain; SLOTS] }
    }
}

impl Default for FieldSlots<'_> {
    fn default() -> Self {
        FieldSlots::new()
    }
}

/// The fields of an accepted head, in the order received.
#[derive(Clone, Copy)]
pub struct Fields<'h, 'b> {
    /// From the first byte of the first line to the end of the empty line.
    pub(crate) head: &'b [u8],
    pub(crate) headers: &'h [Header<'b>],
    pub(crate) kinds: &'h [Kind],
}

impl<'h, 'b> Fields<'h, 'b> {
    /// Name in the sender's spelling, value without surrounding whitespace.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'h, 'b> {
        self.headers.iter().map(|header| (header.name.as_bytes(), header.value))
    }

    pub const fn len(&self) -> usize {
        self.headers.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The value of the first field with that name.
    pub fn find(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &'b [u8]> + use<'h, 'b> {
        let headers = self.headers.iter().zip(self.kinds);
        headers.filter(move |(_, found)| **found == kind).map(|(header, _)| header.value)
    }

    /// Where the line of the field at `position` starts in the head, or where the empty line starts
    /// when there is no such field.
    pub(crate) fn line_start(&self, position: usize) -> usize {
        match self.headers.get(position) {
            Some(header) => offset(self.head, header.name.as_bytes()),
            None => self.head.len() - 2,
        }
    }
}

/// Position of `part` in `whole`, which it was borrowed from.
pub(crate) fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// What a field means to a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Passed on untouched.
    Plain,
    Host,
    Connection,
    /// Meant for us alone, with nothing in it that we read.
    HopByHop,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    Expect,
    UserAgent,
    CdnLoop,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    /// Another X-Forwarded field, or one spelt with underscores: backends behind CGI or WSGI cannot tell
    /// `X_Forwarded_For` from the real one, so strangers may not send it.
    XForwardedOther,
    XRealIp,
    /// One of the fields that tell a backend about the client's certificate, in any spelling: nobody but us may
    /// send them.
    ClientCertificate,
    /// Made hop-by-hop by the message's own Connection field.
    Nominated,
}

/// Length first: it tells nearly all names apart, so that most fields cost one comparison or none.
pub(crate) fn kind_of(name: &[u8]) -> Kind {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 if is(b"te") => Kind::Te,
        4 if is(b"host") => Kind::Host,
        6 if is(b"expect") => Kind::Expect,
        7 if is(b"upgrade") => Kind::Upgrade,
        7 if is(b"trailer") => Kind::Trailer,
        8 if is(b"cdn-loop") => Kind::CdnLoop,
        9 if is(b"forwarded") => Kind::Forwarded,
        9 if starts_with_x(name) => x_field(name),
        10 if is(b"user-agent") => Kind::UserAgent,
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"keep-alive") => Kind::HopByHop,
        14 if is(b"content-length") => Kind::ContentLength,
        14 if is(b"http2-settings") => Kind::HopByHop,
        16 if is(b"proxy-connection") => Kind::HopByHop,
        17 if is(b"transfer-encoding") => Kind::TransferEncoding,
        13.. if starts_with_x(name) => x_field(name),
        _ => Kind::Plain,
    }
}

const fn starts_with_x(name: &[u8]) -> bool {
    matches!(name, [b'x' | b'X', b'-' | b'_', b'f' | b'F' | b'r' | b'R' | b'c' | b'C', ..])
}

/// What backends are told about the client's certificate: who it names, what it is, whether it was verified.
pub(crate) const CLIENT_CERTIFICATE: [&str; 3] =
    ["x-client-cert-subject", "x-client-cert-fingerprint", "x-client-verify"];

fn x_field(name: &[u8]) -> Kind {
    const PREFIX: &[u8] = b"x-forwarded-";
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        9 if is(b"x-real-ip") => return Kind::XRealIp,
        15 if is(b"x-forwarded-for") => return Kind::XForwardedFor,
        16 if is(b"x-forwarded-host") => return Kind::XForwardedHost,
        16 if is(b"x-forwarded-port") => return Kind::XForwardedPort,
        17 if is(b"x-forwarded-proto") => return Kind::XForwardedProto,
        _ => {}
    }
    let alike = |known: &[u8]| {
        let spelt = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() >= known.len() && name.iter().zip(known).all(|(&byte, &known)| spelt(byte) == known)
    };
    let whole = |known: &[u8]| name.len() == known.len() && alike(known);
    if alike(PREFIX) || whole(b"x-real-ip") {
        Kind::XForwardedOther
    } else if CLIENT_CERTIFICATE.iter().any(|known| whole(known.as_bytes())) {
        Kind::ClientCertificate
    } else {
        Kind::Plain
    }
}

/// Fields that Connection may name without effect: losing one would change what the message means
/// to the other side. Those of a kind of their own need no row here.
const NOT_TO_BE_NOMINATED: &[&str] = &[
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "location",
    "origin",
    "range",
    "set-cookie",
    "via",
];

/// What the Connection fields of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// It names something else, perhaps a field.
    pub others: bool,
}

impl ConnectionOptions {
    pub fn read(&mut self, value: &[u8]) {
        for option in list(value) {
            let is = |known: &[u8]| option.eq_ignore_ascii_case(known);
            match option.len() {
                10 if is(b"keep-alive") => self.keep_alive = true,
                5 if is(b"close") => self.close = true,
                7 if is(b"upgrade") => self.upgrade = true,
                0 => {}
                2 if is(b"te") => {}
                _ => self.others = true,
            }
        }
    }
}

/// Marks the fields that the Connection fields name.
#[cold]
pub(crate) fn nominate(headers: &[Header<'_>], kinds: &mut [Kind]) {
    for position in 0..headers.len() {
        if kinds[position] != Kind::Connection {
            continue;
        }
        for option in list(headers[position].value) {
            let protected = NOT_TO_BE_NOMINATED.iter().any(|name| option.eq_ignore_ascii_case(name.as_bytes()));
            for (header, kind) in headers.iter().zip(kinds.iter_mut()) {
                if *kind == Kind::Plain && !protected && header.name.as_bytes().eq_ignore_ascii_case(option) {
                    *kind = Kind::Nominated;
                }
            }
        }
    }
}

/// The elements of a comma-separated list without their whitespace; empty ones included.
pub(crate) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Without the spaces and tabs around it.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The number a Content-Length field gives.
///
/// # Errors
/// Names the rule when it is anything but digits that fit 64 bits.
pub fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() {
        return Err("empty content-length (RFC 9110 8.6)");
    }
    let mut length: u64 = 0;
    for &byte in value {
        let digit = match byte {
            b'0'..=b'9' => u64::from(byte - b'0'),
            b',' => return Err("content-length is a list (RFC 9112 6.3)"),
            b'+' | b'-' => return Err("content-length with a sign (RFC 9110 8.6)"),
            b' ' | b'\t' => return Err("content-length with whitespace inside (RFC 9110 8.6)"),
            _ => return Err("content-length is not a decimal number (RFC 9110 8.6)"),
        };
        length = match length.checked_mul(10).and_then(|tens| tens.checked_add(digit)) {
            Some(length) => length,
            None => return Err("content-length does not fit 64 bits (RFC 9110 8.6)"),
        };
    }
    Ok(length)
}

pub(crate) const LENGTH_TWICE: &str = "content-length given more than once (RFC 9112 6.3)";
pub(crate) const BOTH_LENGTHS: &str = "both content-length and transfer-encoding (RFC 9112 6.3)";
pub(crate) const CODING_TWICE: &str = "transfer-encoding given more than once (RFC 9112 6.1)";
pub(crate) const CODING_UNKNOWN: &str = "transfer-encoding is not exactly chunked (RFC 9112 6.1)";
pub(crate) const CODING_IN_HTTP10: &str = "transfer-encoding in http/1.0 (RFC 9112 6.1)";

/// The one protocol an Upgrade field offers, if we can carry it: after the switch we relay bytes, so a
/// protocol in which requests would bypass the rules (`h2c`, another HTTP, TLS inside) is not offered on.
pub(crate) fn carried_protocol(value: &[u8]) -> bool {
    let name = value.split(|&byte| byte == b'/').next().unwrap_or(value);
    let refused: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];
    !name.is_empty()
        && value.iter().all(|&byte| crate::scan::is_token(byte) || byte == b'/')
        && !refused.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_spelling_and_nothing_else_is() {
        let table = [
            ("TE", Kind::Te),
            ("hOsT", Kind::Host),
            ("Expect", Kind::Expect),
            ("Upgrade", Kind::Upgrade),
            ("Trailer", Kind::Trailer),
            ("CDN-Loop", Kind::CdnLoop),
            ("Forwarded", Kind::Forwarded),
            ("X-Real-IP", Kind::XRealIp),
            ("X_Real_IP", Kind::XForwardedOther),
            ("User-Agent", Kind::UserAgent),
            ("Connection", Kind::Connection),
            ("Keep-Alive", Kind::HopByHop),
            ("Content-Length", Kind::ContentLength),
            ("HTTP2-Settings", Kind::HopByHop),
            ("X-Forwarded-For", Kind::XForwardedFor),
            ("X_FORWARDED_FOR", Kind::XForwardedOther),
            ("X-Forwarded_For", Kind::XForwardedOther),
            ("X-Forwarded-Host", Kind::XForwardedHost),
            ("X-Forwarded-Port", Kind::XForwardedPort),
            ("Proxy-Connection", Kind::HopByHop),
            ("X-Forwarded-Proto", Kind::XForwardedProto),
            ("X-Forwarded-Prefix", Kind::XForwardedOther),
            ("Transfer-Encoding", Kind::TransferEncoding),
            ("Transfer_Encoding", Kind::Plain),
            ("X-Request-Id", Kind::Plain),
            ("X-Real-Name", Kind::Plain),
            ("X-Client-Verify", Kind::ClientCertificate),
            ("x_client_verify", Kind::ClientCertificate),
            ("X-Client_Cert-Subject", Kind::ClientCertificate),
            ("X-Client-Cert-Fingerprint", Kind::ClientCertificate),
            ("X-Client-Certificate", Kind::Plain),
            ("X-Correlation-Id", Kind::Plain),
            ("Cookie", Kind::Plain),
            ("x", Kind::Plain),
        ];
        for (name, kind) in table {
            assert_eq!(kind_of(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn only_protocols_that_hide_no_further_requests_are_offered_on() {
        for (value, carried) in [
            ("websocket", true),
            ("WebSocket/13", true),
            ("h2c", false),
            ("H2C", false),
            ("HTTP/2.0", false),
            ("TLS/1.2", false),
            ("websocket, h2c", false),
            ("a b", false),
            ("", false),
            ("/1", false),
        ] {
            assert_eq!(carried_protocol(value.as_bytes()), carried, "{value}");
        }
    }
}
