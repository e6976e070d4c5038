//! What the log will say of a request, copied out of its head before the buffer moves on.
//!
//! Copied, because the log is written when the exchange ends and the receive buffer is shared. Cut at what the log
//! shows, so a long target costs no more than that.

use std::ops::Range;

use evenkeel_model::exchange::RequestLine;
use evenkeel_model::limits;

/// Method, host, target and user agent in one buffer that is used again for the next request.
#[derive(Debug, Default)]
pub struct Line {
    text: Vec<u8>,
    method: Range<usize>,
    host: Range<usize>,
    target: Range<usize>,
    user_agent: Range<usize>,
    version: &'static str,
}

impl Line {
    pub fn set(&mut self, method: &[u8], host: &[u8], target: &[u8], user_agent: &[u8], version: &'static str) {
        self.text.clear();
        self.method = self.copy(method);
        self.host = self.copy(host);
        self.target = self.copy(target);
        self.user_agent = self.copy(user_agent);
        self.version = version;
    }

    /// Streams are read as HTTP/1.1 text; what the client spoke is said here.
    pub fn came_by_http2(&mut self) {
        self.version = "HTTP/2.0";
    }

    pub fn clear(&mut self) {
        self.set(b"", b"", b"", b"", "");
    }

    /// `None` when no head was understood.
    pub fn request(&self) -> Option<RequestLine<'_>> {
        let piece = |range: &Range<usize>| &self.text[range.clone()];
        (!self.version.is_empty()).then(|| RequestLine {
            method: piece(&self.method),
            host: piece(&self.host),
            target: piece(&self.target),
            version: self.version,
            user_agent: piece(&self.user_agent),
        })
    }

    /// One byte more than the log shows, so that the log knows that there was more.
    fn copy(&mut self, piece: &[u8]) -> Range<usize> {
        let start = self.text.len();
        let kept = piece.len().min(limits::LOG_FIELD.value as usize + 1);
        self.text.extend_from_slice(&piece[..kept]);
        start..self.text.len()
    }
}
