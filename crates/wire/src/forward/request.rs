//! The head for the backend.
//!
//! Who the client is, is said by us alone: what a stranger claims in X-Forwarded-For, X-Real-IP or
//! Forwarded never reaches a backend. A trusted proxy's claims are kept and extended. About certificates nobody else
//! is believed at all: a proxy before us does not say whose CA it asked.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::Cidr;

use super::edits::{HeaderEdits, ours};
use super::{ADDED, Rewrite, put_field, tidy_length};
use crate::address::{read_address, write_address, write_decimal};
use crate::field::{Fields, Kind, list, trim};
use crate::message::{Framing, Version};
use crate::request::RequestHead;
use crate::scan::is_token;

/// What we know about the client's connection and what the listener wants told to backends.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    pub client: IpAddr,
    pub client_port: u16,
    /// The address the client connected to.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Whether the connection comes from one of `trusted`, so that its claims are believed.
    pub trusted_peer: bool,
    pub trusted: &'a [Cidr],
    /// Whether to write X-Forwarded-For, -Proto, -Host, -Port and X-Real-IP.
    pub x_forwarded: bool,
    /// Whether to write Forwarded (RFC 7239).
    pub forwarded: bool,
    /// Our name in CDN-Loop (RFC 8586).
    pub loop_id: &'a [u8],
    /// Host for HTTP/1.0 requests that name none.
    pub default_host: &'a [u8],
}

/// What rules, stickiness and TLS change in one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// Path and query, in the place of those received. Only bytes that a target may hold.
    pub path: Option<&'a [u8]>,
    /// A set Host takes the place of the client's; Host cannot be removed or added to.
    pub headers: HeaderEdits<'a>,
    /// A piece of a field's value that is left out, borrowed from the head: our token in a cookie. A field of which
    /// nothing is left goes out.
    pub cut: Option<&'a [u8]>,
    pub client_certificate: Option<ClientCertificate<'a>>,
    /// The backend's connection serves no further request.
    pub close: bool,
    pub trace: TraceField<'a>,
}

/// What becomes of `traceparent` and `tracestate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceField<'a> {
    #[default]
    AsIs,
    Removed,
    /// A trace of our own, with this `traceparent`.
    Begun(&'a [u8]),
    /// The client's trace, with this `traceparent` in the place of its own; its `tracestate` stays.
    Continued(&'a [u8]),
}

impl TraceField<'_> {
    /// Whether a field that the client sent stays behind.
    fn takes(self, name: &[u8]) -> bool {
        match self {
            TraceField::AsIs => false,
            TraceField::Continued(_) => name.eq_ignore_ascii_case(b"traceparent"),
            TraceField::Removed | TraceField::Begun(_) => {
                name.eq_ignore_ascii_case(b"traceparent") || name.eq_ignore_ascii_case(b"tracestate")
            }
        }
    }
}

impl RequestEdits<'_> {
    pub const NONE: RequestEdits<'static> = RequestEdits {
        path: None,
        headers: HeaderEdits::NONE,
        cut: None,
        client_certificate: None,
        close: false,
        trace: TraceField::AsIs,
    };
}

/// What became of asking the client for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate<'a> {
    Missing,
    Verified { subject: &'a [u8], fingerprint: &'a [u8] },
}

/// Appends the head to send to a backend.
pub fn write_request(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
    write_request_edited(head, forwarding, &RequestEdits::NONE, out);
}

/// The same with edits.
pub fn write_request_edited(
    head: &RequestHead<'_, '_>,
    forwarding: &Forwarding<'_>,
    edits: &RequestEdits<'_>,
    out: &mut Vec<u8>,
) {
    let fields = head.fields;
    let edited = !edits.headers.is_empty() || edits.cut.is_some();
    let traced = edits.trace != TraceField::AsIs;
    let host = if edited { edits.headers.sets(b"host") } else { None };
    out.reserve(fields.head.len() + ADDED);
    let mut copy = Rewrite { fields, out, from: 0 };
    if head.absolute_form || head.version == Version::Http10 || edits.path.is_some() {
        for part in [head.method, b" ", edits.path.unwrap_or(head.path), b" HTTP/1.1\r\n"] {
            copy.out.extend_from_slice(part);
        }
        copy.from = fields.line_start(0);
    }
    if !head.has_host_field {
        copy.up_to(fields.line_start(0));
        put_field(copy.out, &[b"Host: "], host.or(head.host).unwrap_or(forwarding.default_host));
    }
    let keep_x_forwarded = forwarding.trusted_peer && !forwarding.x_forwarded;
    let keep_forwarded = forwarding.trusted_peer && !forwarding.forwarded;
    for (position, kind) in fields.kinds.iter().enumerate() {
        let kept = match kind {
            kind if edited
                && !ours(*kind)
                && *kind != Kind::Host
                && edits.headers.replaces(fields.headers[position].name.as_bytes()) =>
            {
                false
            }
            Kind::Plain if traced && edits.trace.takes(fields.headers[position].name.as_bytes()) => false,
            Kind::Plain if edited && cut_out(&mut copy, position, edits.cut) => continue,
            Kind::Plain | Kind::UserAgent | Kind::CdnLoop | Kind::Trailer => true,
            Kind::Host => {
                if head.absolute_form || host.is_some() {
                    copy.replace(position, host.or(head.host).unwrap_or_default());
                    continue;
                }
                true
            }
            Kind::ContentLength => {
                let value = fields.headers[position].value;
                let tidy = tidy_length(value);
                if tidy.len() < value.len() {
                    copy.replace(position, tidy);
                    continue;
                }
                true
            }
            Kind::Expect => head.expect_continue,
            Kind::Forwarded => keep_forwarded,
            Kind::XForwardedFor
            | Kind::XForwardedProto
            | Kind::XForwardedHost
            | Kind::XForwardedPort
            | Kind::XRealIp => keep_x_forwarded,
            Kind::XForwardedOther => forwarding.trusted_peer,
            Kind::Connection
            | Kind::HopByHop
            | Kind::TransferEncoding
            | Kind::Te
            | Kind::Upgrade
            | Kind::Nominated
            | Kind::ClientCertificate => false,
        };
        if kept { copy.keep(position) } else { copy.skip(position) }
    }
    copy.up_to(fields.head.len() - 2);

    if forwarding.x_forwarded {
        write_x_forwarded(head, forwarding, &edits.headers, out);
    }
    if forwarding.forwarded && !edits.headers.replaces(b"forwarded") {
        write_forwarded(head, forwarding, out);
    }
    if let Some(certificate) = edits.client_certificate {
        write_client_certificate(certificate, out);
    }
    if let TraceField::Begun(value) | TraceField::Continued(value) = edits.trace {
        put_field(out, &[b"traceparent: "], value);
    }
    if edited {
        edits.headers.write(out, |name| name.eq_ignore_ascii_case(b"host"));
    }
    put_field(out, &[b"CDN-Loop: "], forwarding.loop_id);
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    write_connection(head, edits.close, out);
    out.extend_from_slice(b"\r\n");
}

/// Leaves `piece` out of the field at `position` if it lies in its value.
#[cold]
fn cut_out(copy: &mut Rewrite<'_, '_, '_>, position: usize, piece: Option<&[u8]>) -> bool {
    let Some(piece) = piece else { return false };
    let value = copy.fields.headers[position].value;
    // Wraps for a piece in front of the value, which the check of its end then refuses.
    let start = piece.as_ptr().addr().wrapping_sub(value.as_ptr().addr());
    let Some(end) = start.checked_add(piece.len()).filter(|&end| end <= value.len()) else { return false };
    if trim(&value[..start]).is_empty() && trim(&value[end..]).is_empty() {
        copy.skip(position);
    } else {
        copy.replace_with(position, &[&value[..start], &value[end..]]);
    }
    true
}

fn write_connection(head: &RequestHead<'_, '_>, close: bool, out: &mut Vec<u8>) {
    let upgrade = head.upgrade.is_some();
    if !close && !upgrade && !head.trailers_accepted {
        return;
    }
    let options = [(close, "close"), (upgrade, "upgrade"), (head.trailers_accepted, "TE")];
    let mut between: &[u8] = b"Connection: ";
    for (_, option) in options.iter().filter(|(said, _)| *said) {
        out.extend_from_slice(between);
        out.extend_from_slice(option.as_bytes());
        between = b", ";
    }
    out.extend_from_slice(b"\r\n");
    if head.trailers_accepted {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if let Some(protocol) = head.upgrade {
        put_field(out, &[b"Upgrade: "], protocol);
    }
}

#[cold]
fn write_client_certificate(certificate: ClientCertificate<'_>, out: &mut Vec<u8>) {
    match certificate {
        ClientCertificate::Missing => out.extend_from_slice(b"X-Client-Verify: NONE\r\n"),
        ClientCertificate::Verified { subject, fingerprint } => {
            out.extend_from_slice(b"X-Client-Verify: SUCCESS\r\nX-Client-Cert-Subject: ");
            write_escaped(subject, out);
            out.extend_from_slice(b"\r\nX-Client-Cert-Fingerprint: ");
            write_escaped(fingerprint, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A name is whatever its CA let pass, line ends included; what is not plain ASCII is written as `\0A`, which RFC 4514
/// section 2.4 allows for any byte.
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if matches!(byte, b' '..=b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'\\', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn write_x_forwarded(
    head: &RequestHead<'_, '_>,
    forwarding: &Forwarding<'_>,
    edits: &HeaderEdits<'_>,
    out: &mut Vec<u8>,
) {
    // Of a claim made twice the last one counts: it was added by the proxy nearest to us.
    let claimed = |kind| match forwarding.trusted_peer {
        true => head.fields.of_kind(kind).rfind(|value| !value.is_empty()),
        false => None,
    };
    let said = |name: &[u8]| edits.is_empty() || !edits.replaces(name);
    if said(b"x-forwarded-for") {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if forwarding.trusted_peer {
            write_chain(&head.fields, Kind::XForwardedFor, out);
        }
        write_address(out, forwarding.client);
        out.extend_from_slice(b"\r\n");
    }
    if said(b"x-forwarded-proto") {
        let scheme = claimed(Kind::XForwardedProto).unwrap_or(forwarding.scheme.as_bytes());
        put_field(out, &[b"X-Forwarded-Proto: "], scheme);
    }
    if let Some(host) = claimed(Kind::XForwardedHost).or(head.host)
        && said(b"x-forwarded-host")
    {
        put_field(out, &[b"X-Forwarded-Host: "], host);
    }
    if said(b"x-forwarded-port") {
        out.extend_from_slice(b"X-Forwarded-Port: ");
        match claimed(Kind::XForwardedPort) {
            Some(port) => out.extend_from_slice(port),
            None => write_decimal(out, u64::from(forwarding.local.port())),
        }
        out.extend_from_slice(b"\r\n");
    }
    if said(b"x-real-ip") {
        out.extend_from_slice(b"X-Real-IP: ");
        write_address(out, client_address(head, forwarding));
        out.extend_from_slice(b"\r\n");
    }
}

/// The values of all fields of a kind as one list, with the comma for what follows.
#[cold]
fn write_chain(fields: &Fields<'_, '_>, kind: Kind, out: &mut Vec<u8>) {
    for value in fields.of_kind(kind).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// RFC 7239. An address with colons and a host with a port are no tokens, so they are quoted.
fn write_forwarded(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Forwarded: ");
    if forwarding.trusted_peer {
        write_chain(&head.fields, Kind::Forwarded, out);
    }
    out.extend_from_slice(b"for=");
    match forwarding.client.to_canonical() {
        IpAddr::V4(_) => write_address(out, forwarding.client),
        IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            write_address(out, forwarding.client);
            out.extend_from_slice(b"]\"");
        }
    }
    if let Some(host) = head.host {
        let quote: &[u8] = if host.iter().all(|&byte| is_token(byte)) { b"" } else { b"\"" };
        for part in [b";host=", quote, host, quote] {
            out.extend_from_slice(part);
        }
    }
    put_field(out, &[b";proto="], forwarding.scheme.as_bytes());
}

/// Who the client is: the connection's other end, or, when that is a trusted proxy, the
/// rightmost address of the X-Forwarded-For chain that is not trusted.
///
/// An entry that is no address ends the search at the last one that was: what stands left of it was
/// written by somebody we know nothing about.
pub fn client_address(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>) -> IpAddr {
    let mut client = forwarding.client.to_canonical();
    if !forwarding.trusted_peer {
        return client;
    }
    for entry in head.fields.of_kind(Kind::XForwardedFor).rev().flat_map(|value| list(value).rev()) {
        let Some(address) = read_address(entry) else { break };
        client = address;
        if !forwarding.trusted.iter().any(|cidr| cidr.contains(address)) {
            break;
        }
    }
    client
}

/// Whether the request has been through us before (RFC 8586).
pub fn has_loop(head: &RequestHead<'_, '_>, loop_id: &[u8]) -> bool {
    head.fields.of_kind(Kind::CdnLoop).any(|value| {
        let mut quoted = false;
        let mut entries = value.split(|&byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        entries.any(|entry| {
            let name = entry.split(|&byte| byte == b';').next().unwrap_or(entry);
            trim(name).eq_ignore_ascii_case(loop_id)
        })
    })
}
