//! Trailers.
use super::Malformed;
use crate::hpack::{Encoder, FieldList};

/// Appends the end of a chunked body with these trailers: last chunk, lines, empty line.
///
/// # Errors
/// Names the rule; `out` is as it was.
pub fn trailer_text(fields: &FieldList, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let _ = (fields, out);
    Err(Malformed { detail: "" })
}

/// Appends the header block for trailer lines as [`super::ChunkReader::trailers`] gives them.
///
/// # Errors
/// Names the rule; neither `encoder` nor `out` changed.
pub fn trailer_fields(lines: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let _ = (lines, encoder, out);
    Err(Malformed { detail: "" })
}
