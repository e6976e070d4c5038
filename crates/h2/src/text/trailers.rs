//! Trailers: HEADERS behind DATA, and the lines behind a last chunk.
//!
//! They come when everything has been decided, so nothing in them may decide anything.

use evenkeel_model::limits;

use super::Malformed;
use super::rules::put_field;
use super::rules::{CONNECTION, Lines, Meaning, check_name, check_value, malformed, meaning};
use crate::hpack::{Encoder, FieldList};

const REFUSED: &str = "trailer that belongs into the head (RFC 9110 6.5.1)";

/// Appends the end of a chunked body with these trailers: last chunk, lines, empty line.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn trailer_text(fields: &FieldList, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    let written = write_text(fields, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_text(fields: &FieldList, out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.extend_from_slice(b"0\r\n");
    let section = out.len();
    for (name, value) in fields.iter() {
        check_trailer(name)?;
        check_value(value)?;
        put_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
    if out.len() - section > limits::TRAILER_BLOCK.value as usize {
        return malformed("trailer section is too large");
    }
    Ok(())
}

fn check_trailer(name: &[u8]) -> Result<(), Malformed> {
    if name.first() == Some(&b':') {
        return malformed("pseudo-header in trailers (RFC 9113 8.1)");
    }
    check_name(name)?;
    match meaning(name) {
        Meaning::Te | Meaning::TransferEncoding | Meaning::Upgrade | Meaning::Connection => malformed(CONNECTION),
        Meaning::Plain
        | Meaning::Host
        | Meaning::ContentLength
        | Meaning::Cookie
        | Meaning::Expect
        | Meaning::WebSocketKey
        | Meaning::WebSocketAccept => {
            if evenkeel_wire::is_refused_trailer(name) {
                return malformed(REFUSED);
            }
            Ok(())
        }
    }
}

/// Appends the header block for trailer lines as [`super::ChunkReader::trailers`] gives them.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed.
pub fn trailer_fields(lines: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) -> Result<(), Malformed> {
    encoder.block(out, |list| {
        let mut lines = Lines::new(lines);
        while let Some((name, value)) = lines.field()? {
            check_trailer(list.push_lower(name, value))?;
        }
        Ok(([], ()))
    })
}
