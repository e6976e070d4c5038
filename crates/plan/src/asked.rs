//! What a plan wants to know of a request: for the rules, and for what a hash schedule hashes.
//!
//! The engine answers from the head it has read, `evenkeel route test` from the one it was given, so both come to the same
//! rule and the same backend. This room knows no bytes of HTTP and asks in words.

use evenkeel_balance::hash;

use crate::plan::HashOn;

/// Nothing in it needs preparing: case, port, final dot and query are taken care of by those who ask.
pub trait Asked {
    /// As received; empty when an HTTP/1.0 request names none.
    fn host(&self) -> &[u8];
    /// Path and query, as received.
    fn path(&self) -> &[u8];
    fn method(&self) -> &[u8];
    /// The values of all fields of that name, which is given in lower case.
    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]>;
    /// The value of the first cookie of that name, whose case counts.
    fn cookie(&self, name: &str) -> Option<&[u8]>;
}

impl HashOn {
    /// The key that a request is hashed by. `None` takes the client's address: as set, or since the request lacks the
    /// field or cookie. An empty one is lacking too, or all clients without a name would meet at one backend.
    pub fn key(&self, asked: &impl Asked) -> Option<u64> {
        let value = match self {
            HashOn::Address => None,
            HashOn::Header(name) => asked.header(name).next(),
            HashOn::Cookie(name) => asked.cookie(name),
            HashOn::Uri => Some(asked.path()),
        };
        value.filter(|value| !value.is_empty()).map(hash::of_bytes)
    }
}
