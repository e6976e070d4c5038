//! Words that requests and responses share: how a parse ended, the version, the framing.
//!
//! A head is either whole or has no fields to look at: there is no half-read head, so nobody can
//! act on one.
//!
//! They say what was read and never what to do about it: the status of a refusal is its cause's.

use evenkeel_model::Cause;

/// Why a message was refused. `detail` names the broken rule and never carries bytes of the message,
/// so it may go into logs and answers as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    pub detail: &'static str,
}

/// How far a head could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    Whole(T),
    /// Nothing wrong so far; call again with more input in front of the same bytes.
    Partial,
    /// More input cannot make it right.
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Http10,
    Http11,
}

impl Version {
    pub const fn word(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// Where the body behind a head ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// No body, whatever the fields say.
    Empty,
    Length(u64),
    Chunked,
    /// Responses only: the end of the stream is the end of the body.
    UntilClose,
}

impl Framing {
    /// Whether at least one byte follows the head when all is well.
    pub const fn has_body(self) -> bool {
        match self {
            Framing::Empty | Framing::Length(0) => false,
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => true,
        }
    }
}
