//! The head for the client.
//!
//! Framing and connection are said in our own words, since both sides have their own connection to us; what the
//! backend says about the content passes untouched.

use super::{ADDED, Rewrite, put_field, tidy_length};
use crate::field::Kind;
use crate::message::{Framing, Version};
use crate::response::ResponseHead;

/// What the client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    KeepAlive,
    Close,
    /// With a 101 only.
    Upgrade,
}

/// How the body behind the head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFraming {
    /// As it came: [`crate::BodyReader::advance`].
    AsIs,
    /// Without chunk framing, ended by closing: [`crate::BodyReader::advance_decoding`]. For HTTP/1.0 clients.
    Decoded,
}

#[derive(Clone, Copy, Debug)]
pub struct ResponseEdits<'a> {
    pub client_version: Version,
    pub connection: Connection,
    pub framing: OutFraming,
    /// Our own entry, written behind those of the proxies before us.
    pub proxy_status: Option<&'a [u8]>,
}

/// Appends the head to send to the client.
///
/// An interim answer is written with [`Connection::KeepAlive`]: whether the connection stays is said by the
/// final one.
pub fn write_response(head: &ResponseHead<'_, '_>, edits: &ResponseEdits<'_>, out: &mut Vec<u8>) {
    const STATUS_LINE: usize = "HTTP/1.1 200".len();
    let fields = head.fields;
    out.reserve(fields.head.len() + ADDED);
    let mut copy = Rewrite { fields, out, from: 0 };
    if head.version == Version::Http10 {
        let word = Version::Http11.word().as_bytes();
        copy.out.extend_from_slice(word);
        copy.from = word.len();
    }
    if fields.head[STATUS_LINE] != b' ' {
        copy.up_to(STATUS_LINE);
        copy.out.push(b' ');
    }
    let without_length = head.status < 200 || head.status == 204;
    for (position, kind) in fields.kinds.iter().enumerate() {
        let kept = match kind {
            Kind::Plain
            | Kind::Host
            | Kind::Expect
            | Kind::UserAgent
            | Kind::CdnLoop
            | Kind::Forwarded
            | Kind::XForwardedFor
            | Kind::XForwardedProto
            | Kind::XForwardedHost
            | Kind::XForwardedPort
            | Kind::XForwardedOther
            | Kind::XRealIp => true,
            Kind::ContentLength if without_length => false,
            Kind::ContentLength => {
                let value = fields.headers[position].value;
                let tidy = tidy_length(value);
                if tidy.len() < value.len() {
                    copy.replace(position, tidy);
                    continue;
                }
                true
            }
            Kind::Trailer => edits.framing == OutFraming::AsIs,
            Kind::Connection | Kind::HopByHop | Kind::TransferEncoding | Kind::Te | Kind::Upgrade | Kind::Nominated => {
                false
            }
        };
        if kept { copy.keep(position) } else { copy.skip(position) }
    }
    copy.up_to(fields.head.len() - 2);

    if head.framing == Framing::Chunked && edits.framing == OutFraming::AsIs {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(entry) = edits.proxy_status {
        put_field(out, &[b"Proxy-Status: "], entry);
    }
    match (edits.connection, edits.client_version) {
        (Connection::KeepAlive, Version::Http11) => {}
        (Connection::KeepAlive, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Connection::Close, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (Connection::Upgrade, _) => {
            put_field(out, &[b"Connection: upgrade\r\nUpgrade: "], head.upgrade.unwrap_or_default());
        }
    }
    out.extend_from_slice(b"\r\n");
}
