//! What a rule changes in the fields of a head, and what no rule may.
//!
//! Slices instead of a plan: this room knows no config. Names and values hold only bytes that a field may hold;
//! whoever compiles them has seen to that.
//!
//! Framing, connection and loop protection stay ours whatever a rule says. A removed Content-Length or a second
//! Transfer-Encoding is how requests are smuggled, so such an edit has no effect.

use super::put_field;
use crate::field::{Kind, kind_of};

/// Removed first, then set (in place of all of that name), then added. Names match in any case.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderEdits<'a> {
    pub remove: &'a [Box<str>],
    pub set: &'a [(Box<str>, Box<str>)],
    pub add: &'a [(Box<str>, Box<str>)],
}

impl<'a> HeaderEdits<'a> {
    pub const NONE: HeaderEdits<'static> = HeaderEdits { remove: &[], set: &[], add: &[] };

    pub const fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether fields of that name do not stay as they are.
    pub(super) fn replaces(&self, name: &[u8]) -> bool {
        self.remove.iter().any(|removed| is(removed, name)) || self.sets(name).is_some()
    }

    /// The value that fields of that name get.
    pub(super) fn sets(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.set.iter().rfind(|(set, _)| is(set, name)).map(|(_, value)| value.as_bytes())
    }

    /// Writes what was set and added, except fields of a kind that is `ours` or answers `spared`.
    pub(super) fn write(&self, out: &mut Vec<u8>, spared: impl Fn(&[u8]) -> bool) {
        for (name, value) in self.set.iter().chain(self.add) {
            let name = name.as_bytes();
            if !ours(kind_of(name)) && !spared(name) {
                put_field(out, &[name, b": "], value.as_bytes());
            }
        }
    }
}

fn is(edited: &str, name: &[u8]) -> bool {
    edited.as_bytes().eq_ignore_ascii_case(name)
}

/// Whether fields of that kind are written by nobody but us.
pub(super) const fn ours(kind: Kind) -> bool {
    match kind {
        Kind::Connection
        | Kind::HopByHop
        | Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Te
        | Kind::Trailer
        | Kind::Upgrade
        | Kind::Expect
        | Kind::CdnLoop
        | Kind::ClientCertificate
        | Kind::Nominated => true,
        Kind::Plain
        | Kind::Host
        | Kind::UserAgent
        | Kind::Forwarded
        | Kind::XForwardedFor
        | Kind::XForwardedProto
        | Kind::XForwardedHost
        | Kind::XForwardedPort
        | Kind::XForwardedOther
        | Kind::XRealIp => false,
    }
}
