//! Bytes on their way out: appended at the end, taken from the front, given back when large and empty.
//!
//! Most sessions are idle most of the time, so an empty one must cost nothing; a ring buffer would keep its memory.

use evenkeel_model::limits;

#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
}

impl Outgoing {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// To append to; what is in it already stays as it is.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.sent = 0;
            empty(&mut self.bytes);
        }
    }
}

/// Empties a buffer and gives it back when it is large.
pub(crate) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() as u64 > limits::TLS_IDLE_BUFFER.value {
        *buffer = Vec::new();
    }
}
