//! Chunked coding, for text that we wrote or checked ourselves.

use super::Malformed;

/// Starts a chunk of `length` bytes, which is above 0; a length of 0 would end the body.
pub fn write_chunk_head(length: usize, out: &mut Vec<u8>) {
    let _ = (length, out);
}

/// Ends a chunk.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    let _ = out;
}

/// Appends one chunk; nothing for no bytes.
pub fn write_chunk(payload: &[u8], out: &mut Vec<u8>) {
    let _ = (payload, out);
}

/// Ends a body that has no trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    let _ = out;
}

/// Takes chunked text apart into payload and trailers.
#[derive(Clone, Debug, Default)]
pub struct ChunkReader {}

impl ChunkReader {
    pub const fn new() -> ChunkReader {
        ChunkReader {}
    }

    /// How many bytes of `input` were used, and the payload among them. Call again with the rest until it uses none.
    ///
    /// # Errors
    /// Names the rule the chunked coding breaks.
    pub fn advance<'i>(&mut self, input: &'i [u8]) -> Result<(usize, &'i [u8]), Malformed> {
        let _ = input;
        Ok((0, &[]))
    }

    /// The body and its trailers are over.
    pub fn is_done(&self) -> bool {
        false
    }

    /// The trailer lines, each with its line end, without the empty line; complete when done.
    pub fn trailers(&self) -> &[u8] {
        &[]
    }
}
