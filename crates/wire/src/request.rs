//! Reads a request head, or says which rule it breaks.
//!
//! Accepts what RFC 9112 allows and nothing else. Where the RFC lets a server be generous (listed equal
//! lengths, bare line feeds, lists of transfer codings) we are not: our backend may be generous in
//! another way. Choices beyond the RFC:
//!
//! - An Upgrade next to a body, of a protocol that would hide further requests (`h2c`), of several
//!   protocols at once, or in HTTP/1.0 is not offered on. The request is served as an ordinary one, which RFC
//!   9110 section 7.8 allows and clients that try `h2c` first (Java's) depend on.
//! - An absolute-form target must spell the same authority as Host, apart from case. A query
//!   straight behind the authority is refused: its path would have to be invented.
//! - CONNECT is refused: this is not a forward proxy.

use evenkeel_model::Cause;
use httparse::Status;

use crate::field::{
    self, BOTH_LENGTHS, CODING_IN_HTTP10, CODING_TWICE, CODING_UNKNOWN, ConnectionOptions, FieldSlots, Fields, Kind,
    LENGTH_TWICE, offset,
};
use crate::host::host_fault;
use crate::message::{Framing, Parsed, Refusal, Version};
use crate::scan::{Fault, request_fault};

#[derive(Clone, Copy)]
pub struct RequestHead<'h, 'b> {
    pub method: &'b [u8],
    /// As received.
    pub target: &'b [u8],
    /// Path and query, taken out of absolute-form; `*` for the server as a whole.
    pub path: &'b [u8],
    /// The target's authority, else the Host field; `None` only in HTTP/1.0.
    pub host: Option<&'b [u8]>,
    pub version: Version,
    pub fields: Fields<'h, 'b>,
    /// Never `UntilClose`.
    pub framing: Framing,
    /// Whether the client's connection may be used for another request.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends the body.
    pub expect_continue: bool,
    /// The one protocol the client asks to switch to and that we carry.
    pub upgrade: Option<&'b [u8]>,
    /// Empty when there is none.
    pub user_agent: &'b [u8],
    pub is_head: bool,
    /// RFC 9110 section 9.2.2: may be repeated.
    pub idempotent: bool,
    /// RFC 9110 section 9.2.1: asks for nothing but an answer.
    pub safe: bool,
    /// `TE: trailers`.
    pub trailers_accepted: bool,
    /// Bytes of the head, an empty line in front of it included.
    pub len: usize,
    /// Whether the target's authority stands where Host should.
    pub(crate) absolute_form: bool,
    pub(crate) has_host_field: bool,
}

/// Reads the request at the start of `input`.
///
/// Call again with all bytes from the start when more have come. `header_limit` bounds request line and fields
/// together.
pub fn parse_request<'h, 'b>(
    input: &'b [u8],
    slots: &'h mut FieldSlots<'b>,
    header_limit: usize,
) -> Parsed<RequestHead<'h, 'b>> {
    let window = &input[..input.len().min(header_limit)];
    // RFC 9112 §2.2: one empty line in front is tolerated, for clients that end a body with an extra CRLF.
    let skipped = if window.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &window[skipped..];
    if let Some(b'\r' | b'\n') = text.first() {
        return undecided(window, header_limit);
    }
    let FieldSlots { headers, kinds } = slots;
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(text, headers) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return undecided(window, header_limit),
        Err(_) => return broken(window),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return broken(window);
    };
    let (method, target) = (method.as_bytes(), target.as_bytes());
    let fields: &'h [httparse::Header<'b>] = request.headers;
    let head = &text[..len];
    // httparse takes a bare line feed for a line end, and UTF-8 and fragments in the target.
    if !head.ends_with(b"\r\n\r\n") || !is_plain_target(target) {
        return broken(window);
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let kinds = &mut kinds[..fields.len()];

    let mut read = FieldReader::default();
    for (header, slot) in fields.iter().zip(kinds.iter_mut()) {
        let line_start = offset(head, header.name.as_bytes());
        if head[line_start - 2] != b'\r' {
            return broken(window);
        }
        let kind = field::kind_of(header.name.as_bytes());
        *slot = kind;
        if kind != Kind::Plain {
            read.field(kind, header.value);
        }
    }
    if let Some(detail) = read.fault {
        return malformed(detail);
    }
    if read.connection.others {
        field::nominate(fields, kinds);
    }
    match judge(method, target, version, &read) {
        Ok(Judged { path, authority, framing }) => {
            let http11 = version == Version::Http11;
            let connection = read.connection;
            let upgrade = read
                .upgrade
                .filter(|value| http11 && connection.upgrade && !framing.has_body() && field::carried_protocol(value));
            let (safe, idempotent) = method_traits(method);
            Parsed::Whole(RequestHead {
                method,
                target,
                path,
                host: authority.or(read.host),
                version,
                fields: Fields { head, headers: fields, kinds },
                framing,
                keep_alive: !connection.close && (http11 || connection.keep_alive),
                expect_continue: read.expect && http11,
                upgrade,
                user_agent: read.user_agent,
                is_head: method == b"HEAD",
                idempotent,
                safe,
                trailers_accepted: read.trailers && http11,
                len: skipped + len,
                absolute_form: authority.is_some(),
                has_host_field: read.host.is_some(),
            })
        }
        Err(detail) => malformed(detail),
    }
}

fn malformed<T>(detail: &'static str) -> Parsed<T> {
    Parsed::Refused(Refusal { cause: Cause::ClientMalformedRequest, detail })
}

/// Something about the syntax is wrong; the slow reader knows what.
#[cold]
fn broken<T>(window: &[u8]) -> Parsed<T> {
    match request_fault(window) {
        Some(fault) => refused(fault),
        None => malformed("request head is not http/1.1 (RFC 9112)"),
    }
}

#[cold]
fn undecided<T>(window: &[u8], header_limit: usize) -> Parsed<T> {
    if let Some(fault) = request_fault(window) {
        return refused(fault);
    }
    if window.len() < header_limit {
        return Parsed::Partial;
    }
    let past_empty_line = if window.starts_with(b"\r\n") { 2 } else { 0 };
    if window[past_empty_line..].contains(&b'\n') {
        let cause = Cause::ClientHeaderTooLarge;
        Parsed::Refused(Refusal { cause, detail: "request head is larger than header_limit" })
    } else {
        let cause = Cause::ClientUriTooLong;
        Parsed::Refused(Refusal { cause, detail: "request line is larger than header_limit" })
    }
}

fn refused<T>(fault: Fault) -> Parsed<T> {
    match fault {
        Fault::Syntax(detail) => malformed(detail),
        Fault::TooManyFields => {
            let cause = Cause::ClientHeaderTooLarge;
            Parsed::Refused(Refusal { cause, detail: "more fields than a head may have" })
        }
    }
}

/// Written without an early exit so that the compiler looks at many bytes at once.
fn is_plain_target(target: &[u8]) -> bool {
    target.iter().fold(true, |plain, &byte| plain & (byte < 128) & (byte != b'#'))
}

/// What the fields with a meaning of their own said. The first fault by position wins.
#[derive(Default)]
struct FieldReader<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    coding: Option<&'b [u8]>,
    connection: ConnectionOptions,
    upgrade: Option<&'b [u8]>,
    upgrades: u32,
    expect: bool,
    trailers: bool,
    user_agent: &'b [u8],
    fault: Option<&'static str>,
}

impl<'b> FieldReader<'b> {
    fn field(&mut self, kind: Kind, value: &'b [u8]) {
        match kind {
            Kind::Host if self.host.is_some() => self.fail("more than one host (RFC 9112 3.2)"),
            Kind::Host => self.host = Some(value),
            Kind::ContentLength if self.length.is_some() => self.fail(LENGTH_TWICE),
            Kind::ContentLength => match field::content_length(value) {
                Ok(length) => self.length = Some(length),
                Err(detail) => self.fail(detail),
            },
            Kind::TransferEncoding if self.coding.is_some() => self.fail(CODING_TWICE),
            Kind::TransferEncoding => self.coding = Some(value),
            Kind::Connection => self.connection.read(value),
            Kind::Upgrade => {
                self.upgrades += 1;
                self.upgrade = (self.upgrades == 1).then_some(value);
            }
            Kind::Expect if self.expect => self.fail("more than one expectation (RFC 9110 10.1.1)"),
            Kind::Expect if value.eq_ignore_ascii_case(b"100-continue") => self.expect = true,
            Kind::Expect => self.fail("expectation other than 100-continue (RFC 9110 10.1.1)"),
            Kind::Te => self.trailers |= field::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")),
            Kind::UserAgent => self.user_agent = value,
            Kind::Plain
            | Kind::HopByHop
            | Kind::Trailer
            | Kind::CdnLoop
            | Kind::Forwarded
            | Kind::XForwardedFor
            | Kind::XForwardedProto
            | Kind::XForwardedHost
            | Kind::XForwardedPort
            | Kind::XForwardedOther
            | Kind::XRealIp
            | Kind::ClientCertificate
            | Kind::Nominated => {}
        }
    }

    #[cold]
    fn fail(&mut self, detail: &'static str) {
        self.fault.get_or_insert(detail);
    }
}

struct Judged<'b> {
    path: &'b [u8],
    authority: Option<&'b [u8]>,
    framing: Framing,
}

/// Weighs target, host and lengths against each other.
fn judge<'b>(
    method: &[u8],
    target: &'b [u8],
    version: Version,
    read: &FieldReader<'b>,
) -> Result<Judged<'b>, &'static str> {
    if method == b"CONNECT" {
        return Err("connect is for forward proxies (RFC 9110 9.3.6)");
    }
    let framing = match (read.length, read.coding) {
        (Some(_), Some(_)) => return Err(BOTH_LENGTHS),
        (_, Some(_)) if version == Version::Http10 => return Err(CODING_IN_HTTP10),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (None, Some(_)) => return Err(CODING_UNKNOWN),
        (Some(length), None) => Framing::Length(length),
        (None, None) => Framing::Empty,
    };
    let (path, authority) = match target {
        [b'/', ..] => (target, None),
        b"*" if method == b"OPTIONS" => (target, None),
        b"*" => return Err("asterisk target without options (RFC 9112 3.2.4)"),
        _ => absolute_form(method, target)?,
    };
    match read.host {
        Some(host) => {
            if let Some(detail) = host_fault(host) {
                return Err(detail);
            }
            if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
                return Err("absolute target disagrees with host (RFC 9112 3.2.2)");
            }
        }
        None if version == Version::Http11 => return Err("no host in http/1.1 (RFC 9112 3.2)"),
        None => {}
    }
    Ok(Judged { path, authority, framing })
}

/// Path and authority of `http://authority/path`.
#[cold]
fn absolute_form<'b>(method: &[u8], target: &'b [u8]) -> Result<(&'b [u8], Option<&'b [u8]>), &'static str> {
    let Some(colon) = target.windows(3).position(|three| three == b"://") else {
        return Err("target is neither a path nor a url (RFC 9112 3.2)");
    };
    let scheme = &target[..colon];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err("absolute target with a scheme other than http and https (RFC 9110 4.2)");
    }
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if let Some(detail) = host_fault(authority) {
        return Err(detail);
    }
    match path.first() {
        Some(b'/') => Ok((path, Some(authority))),
        Some(_) => Err("absolute target with a query but no path (RFC 9112 3.2.2)"),
        // RFC 9112 §3.2.4: OPTIONS without a path asks about the server as a whole.
        None if method == b"OPTIONS" => Ok((b"*", Some(authority))),
        None => Ok((b"/", Some(authority))),
    }
}

/// (safe, idempotent) by RFC 9110 section 9.2. Methods we do not know are neither.
fn method_traits(method: &[u8]) -> (bool, bool) {
    match method {
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" => (true, true),
        b"PUT" | b"DELETE" => (false, true),
        _ => (false, false),
    }
}
