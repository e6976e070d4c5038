//! The head for the backend.
//!
//! Who the client is, is said by us alone: what a stranger claims in X-Forwarded-For, X-Real-IP or
//! Forwarded never reaches a backend. A trusted proxy's claims are kept and extended.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::Cidr;

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

/// Appends the head to send to a backend.
pub fn write_request(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
    let fields = head.fields;
    out.reserve(fields.head.len() + ADDED);
    let mut copy = Rewrite { fields, out, from: 0 };
    if head.absolute_form || head.version == Version::Http10 {
        for part in [head.method, b" ", head.path, b" HTTP/1.1\r\n"] {
            copy.out.extend_from_slice(part);
        }
        copy.from = fields.line_start(0);
    }
    if !head.has_host_field {
        copy.up_to(fields.line_start(0));
        put_field(copy.out, &[b"Host: "], head.host.unwrap_or(forwarding.default_host));
    }
    let keep_x_forwarded = forwarding.trusted_peer && !forwarding.x_forwarded;
    let keep_forwarded = forwarding.trusted_peer && !forwarding.forwarded;
    for (position, kind) in fields.kinds.iter().enumerate() {
        let kept = match kind {
            Kind::Plain | Kind::UserAgent | Kind::CdnLoop | Kind::Trailer => true,
            Kind::Host => {
                if head.absolute_form {
                    copy.replace(position, head.host.unwrap_or_default());
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
            Kind::Connection | Kind::HopByHop | Kind::TransferEncoding | Kind::Te | Kind::Upgrade | Kind::Nominated => {
                false
            }
        };
        if kept { copy.keep(position) } else { copy.skip(position) }
    }
    copy.up_to(fields.head.len() - 2);

    if forwarding.x_forwarded {
        write_x_forwarded(head, forwarding, out);
    }
    if forwarding.forwarded {
        write_forwarded(head, forwarding, out);
    }
    put_field(out, &[b"CDN-Loop: "], forwarding.loop_id);
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (head.upgrade, head.trailers_accepted) {
        (Some(protocol), true) => {
            put_field(out, &[b"Connection: upgrade, TE\r\nTE: trailers\r\nUpgrade: "], protocol);
        }
        (Some(protocol), false) => put_field(out, &[b"Connection: upgrade\r\nUpgrade: "], protocol),
        (None, true) => out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n"),
        (None, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_x_forwarded(head: &RequestHead<'_, '_>, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
    // Of a claim made twice the last one counts: it was added by the proxy nearest to us.
    let claimed = |kind| match forwarding.trusted_peer {
        true => head.fields.of_kind(kind).rfind(|value| !value.is_empty()),
        false => None,
    };
    out.extend_from_slice(b"X-Forwarded-For: ");
    if forwarding.trusted_peer {
        write_chain(&head.fields, Kind::XForwardedFor, out);
    }
    write_address(out, forwarding.client);
    let scheme = claimed(Kind::XForwardedProto).unwrap_or(forwarding.scheme.as_bytes());
    put_field(out, &[b"\r\nX-Forwarded-Proto: "], scheme);
    if let Some(host) = claimed(Kind::XForwardedHost).or(head.host) {
        put_field(out, &[b"X-Forwarded-Host: "], host);
    }
    out.extend_from_slice(b"X-Forwarded-Port: ");
    match claimed(Kind::XForwardedPort) {
        Some(port) => out.extend_from_slice(port),
        None => write_decimal(out, u64::from(forwarding.local.port())),
    }
    out.extend_from_slice(b"\r\nX-Real-IP: ");
    write_address(out, client_address(head, forwarding));
    out.extend_from_slice(b"\r\n");
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
