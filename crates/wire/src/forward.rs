//! Writes the head we send for the head we received.
//!
//! What is meant for us alone (hop-by-hop fields) goes out of the copy and what we mean is written instead, so
//! that framing on the other side is ours and not the sender's. Untouched fields are copied in runs, one
//! piece between two touched fields; a line that is not exactly `Name: value` is rewritten so.
//!
//! Here is the copying; what goes out and in is said by `request` and `response`.

mod edits;
mod request;
mod response;

use crate::field::Fields;

pub use edits::HeaderEdits;
pub use request::{
    ClientCertificate, Forwarding, RequestEdits, TraceField, client_address, has_loop, write_request,
    write_request_edited,
};
pub use response::{
    AnswerEdits, Connection, CookieMark, OutFraming, ResponseEdits, write_response, write_response_edited,
};

/// Room for the fields we add. More is fine, it only costs a reallocation the first time.
const ADDED: usize = 512;

/// Copies a head, leaving out and putting in.
struct Rewrite<'h, 'b, 'o> {
    fields: Fields<'h, 'b>,
    out: &'o mut Vec<u8>,
    /// Everything in front of this position of the head has been dealt with.
    from: usize,
}

impl Rewrite<'_, '_, '_> {
    /// Copies what was not dealt with up to `to`.
    fn up_to(&mut self, to: usize) {
        self.out.extend_from_slice(&self.fields.head[self.from..to]);
        self.from = to;
    }

    /// Leaves one field out.
    fn skip(&mut self, position: usize) {
        self.up_to(self.fields.line_start(position));
        self.from = self.fields.line_start(position + 1);
    }

    /// Lets one field through, untouched when it is already spelt `Name: value`.
    fn keep(&mut self, position: usize) {
        let header = &self.fields.headers[position];
        let (start, end) = (self.fields.line_start(position), self.fields.line_start(position + 1));
        // One colon, one space, CRLF. The value was trimmed, so a space behind the colon leaves no
        // room for any other whitespace.
        let tidy = end - start == header.name.len() + header.value.len() + 4
            && self.fields.head[start + header.name.len() + 1] == b' ';
        if !tidy {
            self.replace(position, header.value);
        }
    }

    /// Lets one field through with another value.
    fn replace(&mut self, position: usize, value: &[u8]) {
        self.replace_with(position, &[value]);
    }

    /// The same with a value in pieces.
    fn replace_with(&mut self, position: usize, pieces: &[&[u8]]) {
        self.skip(position);
        let name = self.fields.headers[position].name;
        for part in [name.as_bytes(), b": "].iter().chain(pieces).chain(&[b"\r\n".as_slice()]) {
            self.out.extend_from_slice(part);
        }
    }
}

fn put_field(out: &mut Vec<u8>, start: &[&[u8]], value: &[u8]) {
    for part in start {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A Content-Length without leading zeros, which somebody might read as octal.
fn tidy_length(mut value: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = value
        && !rest.is_empty()
    {
        value = rest;
    }
    value
}
