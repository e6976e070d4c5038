//! The PROXY protocol: the lines or bytes before a connection's own that say whose connection it is.
//!
//! Answers who the client was, or that what stands there is no header of HAProxy's specification ("The PROXY protocol,
//! versions 1 & 2"; sections below are its own). Whoever can write such a header chooses the address that lists, limits
//! and logs see, so nothing is guessed or repaired: another reader must not see another client. Which addresses may
//! send one at all is not asked here.
//!
//! Bytes are looked at from left to right, so a header told in pieces ends as it does when told at once.

mod checksum;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

pub use write::{Sent, write_v1, write_v2};

/// How far a header could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Nothing wrong so far; call again with more input behind the same bytes.
    Partial,
    /// The broken rule. More input cannot make it right.
    Refused(&'static str),
    /// The header and its length; what follows is the connection's own.
    Whole(Header<'a>, usize),
}

/// What one header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Who connected, and to which address of the sender. `None` when the header names nobody (LOCAL, UNKNOWN, families
    /// without addresses): then the connection's own addresses count.
    pub client: Option<(SocketAddr, SocketAddr)>,
    /// The client speaks UDP. Version 1 knows TCP only.
    pub datagram: bool,
    /// The name the client asked for.
    pub authority: Option<&'a [u8]>,
    /// The protocol that was agreed upon.
    pub alpn: Option<&'a [u8]>,
    /// At most 128 bytes (section 2.2.5).
    pub unique_id: Option<&'a [u8]>,
}

/// Both versions, told apart by their first byte.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match bytes.first() {
        None => Parsed::Partial,
        Some(&first) if first == v1::PREFIX[0] => v1::parse(bytes),
        Some(&first) if first == v2::SIGNATURE[0] => v2::parse(bytes),
        Some(_) => Parsed::Refused(NEITHER),
    }
}

const NEITHER: &str = "no PROXY header: neither signature begins like this (PROXY protocol, 2)";

/// A dual-stack sender writes IPv4 clients as mapped addresses; lists, limits and logs know them by their own.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Compares as much of `expected` as is there: its whole length, less so far, or something else.
fn begins(bytes: &[u8], expected: &[u8]) -> Option<bool> {
    let there = bytes.len().min(expected.len());
    if bytes[..there] != expected[..there] {
        return Some(false);
    }
    (there == expected.len()).then_some(true)
}
