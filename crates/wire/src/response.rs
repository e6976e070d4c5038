//! Reads a response head, or says which rule it breaks.
//!
//! As strict as for requests: a backend that can be made to answer ambiguously is the other half of a
//! smuggling attack, and a broken answer must not reach a client as if it were good. Choices beyond the RFC:
//!
//! - A missing space before an empty reason is accepted; many servers leave it out and nothing can
//!   be misread.
//! - 1xx and 204 with Transfer-Encoding or a Content-Length above 0 are refused: RFC 9110 forbids them, and a
//!   backend that sends them may really send a body, which would be read as the next answer.
//!   `Content-Length: 0` is accepted there and not passed on.
//! - 101 is refused unless the request asked to switch and the answer names the protocol.

use evenkeel_model::Cause;
use httparse::Status;

use crate::field::{
    self, BOTH_LENGTHS, CODING_IN_HTTP10, CODING_TWICE, CODING_UNKNOWN, ConnectionOptions, FieldSlots, Fields, Kind,
    LENGTH_TWICE, offset,
};
use crate::message::{Framing, Parsed, Refusal, Version};
use crate::scan::{Fault, response_fault};

/// What the request was, since the framing of an answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It was a HEAD.
    pub head: bool,
    /// It asked the backend to switch protocols.
    pub upgrade: bool,
}

#[derive(Clone, Copy)]
pub struct ResponseHead<'h, 'b> {
    /// 100 to 599.
    pub status: u16,
    pub reason: &'b [u8],
    pub version: Version,
    pub fields: Fields<'h, 'b>,
    pub framing: Framing,
    /// Whether the backend's connection may be used again after this message.
    pub keep_alive: bool,
    /// The protocol switched to; `Some` exactly when the status is 101.
    pub upgrade: Option<&'b [u8]>,
    /// Bytes of the head.
    pub len: usize,
}

impl ResponseHead<'_, '_> {
    /// An answer before the answer: 100, 102, 103. The final head follows on the same connection.
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads the response at the start of `input`.
///
/// Call again with all bytes from the start when more have come.
pub fn parse_response<'h, 'b>(
    input: &'b [u8],
    slots: &'h mut FieldSlots<'b>,
    header_limit: usize,
    asked: Asked,
) -> Parsed<ResponseHead<'h, 'b>> {
    let window = &input[..input.len().min(header_limit)];
    if let Some(b'\r' | b'\n') = window.first() {
        return broken(window);
    }
    let FieldSlots { headers, kinds } = slots;
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let len = match config.parse_response_with_uninit_headers(&mut response, window, headers) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return undecided(window, header_limit),
        Err(_) => return broken(window),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else { return broken(window) };
    let fields: &'h [httparse::Header<'b>] = response.headers;
    let head = &window[..len];
    if !head.ends_with(b"\r\n\r\n") {
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
        read.field(kind, header.value);
    }
    if let Some(detail) = read.fault {
        return malformed(detail);
    }
    if read.connection.others {
        field::nominate(fields, kinds);
    }
    let framing = match judge(status, version, asked, &read) {
        Ok(framing) => framing,
        Err(detail) => return malformed(detail),
    };
    let fields = Fields { head, headers: fields, kinds };
    let connection = read.connection;
    let persistent = !connection.close && (version == Version::Http11 || connection.keep_alive);
    Parsed::Whole(ResponseHead {
        status,
        reason: reason(head, fields.line_start(0)),
        version,
        fields,
        framing,
        keep_alive: persistent && framing != Framing::UntilClose,
        upgrade: read.upgrade.filter(|_| status == 101),
        len,
    })
}

/// What stands behind `HTTP/1.1 200 `. httparse does not tell when it holds obs-text.
fn reason(head: &[u8], line_end: usize) -> &[u8] {
    const REASON_AT: usize = "HTTP/1.1 200 ".len();
    head.get(REASON_AT..line_end - 2).unwrap_or_default()
}

fn malformed<T>(detail: &'static str) -> Parsed<T> {
    Parsed::Refused(Refusal { cause: Cause::BackendMalformedResponse, detail })
}

/// Something about the syntax is wrong; the slow reader knows what.
#[cold]
fn broken<T>(window: &[u8]) -> Parsed<T> {
    match response_fault(window) {
        Some(fault) => refused(fault),
        None => malformed("response head is not http/1.1 (RFC 9112)"),
    }
}

#[cold]
fn undecided<T>(window: &[u8], header_limit: usize) -> Parsed<T> {
    if let Some(fault) = response_fault(window) {
        return refused(fault);
    }
    if window.len() < header_limit {
        return Parsed::Partial;
    }
    let cause = Cause::BackendHeaderTooLarge;
    Parsed::Refused(Refusal { cause, detail: "response head is larger than header_limit" })
}

fn refused<T>(fault: Fault) -> Parsed<T> {
    match fault {
        Fault::Syntax(detail) => malformed(detail),
        Fault::TooManyFields => {
            let cause = Cause::BackendHeaderTooLarge;
            Parsed::Refused(Refusal { cause, detail: "more fields than a head may have" })
        }
    }
}

/// What the fields with a meaning of their own said. The first fault by position wins.
#[derive(Default)]
struct FieldReader<'b> {
    length: Option<u64>,
    coding: Option<&'b [u8]>,
    connection: ConnectionOptions,
    upgrade: Option<&'b [u8]>,
    fault: Option<&'static str>,
}

impl<'b> FieldReader<'b> {
    fn field(&mut self, kind: Kind, value: &'b [u8]) {
        match kind {
            Kind::ContentLength if self.length.is_some() => self.fail(LENGTH_TWICE),
            Kind::ContentLength => match field::content_length(value) {
                Ok(length) => self.length = Some(length),
                Err(detail) => self.fail(detail),
            },
            Kind::TransferEncoding if self.coding.is_some() => self.fail(CODING_TWICE),
            Kind::TransferEncoding => self.coding = Some(value),
            Kind::Connection => self.connection.read(value),
            Kind::Upgrade => self.upgrade = Some(value),
            Kind::Plain
            | Kind::Host
            | Kind::HopByHop
            | Kind::Te
            | Kind::Trailer
            | Kind::Expect
            | Kind::UserAgent
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

/// RFC 9112 section 6.3, after refusing what can be read in two ways.
fn judge(status: u16, version: Version, asked: Asked, read: &FieldReader<'_>) -> Result<Framing, &'static str> {
    if !(100..=599).contains(&status) {
        return Err("status outside 100 to 599 (RFC 9110 15)");
    }
    let declared = match (read.length, read.coding) {
        (Some(_), Some(_)) => return Err(BOTH_LENGTHS),
        (_, Some(_)) if version == Version::Http10 => return Err(CODING_IN_HTTP10),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (None, Some(_)) => return Err(CODING_UNKNOWN),
        (Some(length), None) => Framing::Length(length),
        (None, None) => Framing::UntilClose,
    };
    match status {
        100..=199 | 204 => match declared {
            Framing::Chunked => return Err("transfer-encoding in a 1xx or 204 answer (RFC 9112 6.1)"),
            Framing::Length(1..) => return Err("content-length above 0 in a 1xx or 204 answer (RFC 9110 8.6)"),
            Framing::Length(0) | Framing::Empty | Framing::UntilClose => {}
        },
        304 => return Ok(Framing::Empty),
        _ if asked.head => return Ok(Framing::Empty),
        _ => return Ok(declared),
    }
    if status == 101 {
        if !asked.upgrade {
            return Err("101 that nobody asked for (RFC 9110 15.2.2)");
        }
        if !read.upgrade.is_some_and(field::carried_protocol) {
            return Err("101 without one protocol in upgrade (RFC 9110 15.2.2)");
        }
    }
    Ok(Framing::Empty)
}
