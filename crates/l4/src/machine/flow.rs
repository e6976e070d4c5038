//! One direction of a relay: what may be read, what must be sent, when the end is passed on.
//!
//! ```text
//!   open ──end of source──► ending ──backlog sent──► finished
//! ```
//!
//! Reading stops while bytes wait for the sink, so the memory of a relay is one read at most, and a slow
//! receiver slows its sender down through TCP itself.
//!
//! Bytes travel through a buffer or, once a read was large, through a pipe in the kernel: copying is cheaper for
//! little, splicing for much.

use evenkeel_model::limits;

const SPLICE_FROM: usize = limits::SPLICE_FROM.value as usize;

/// A pipe run of fewer bytes than this in one go goes back to copying.
const SPLICE_UNTIL: usize = SPLICE_FROM / 4;

/// One direction. Told what was read and sent, it says what to do next.
#[derive(Debug, Default)]
pub struct Flow {
    /// Read and not yet sent; the first `sent` bytes are gone.
    backlog: Vec<u8>,
    sent: usize,
    /// Bytes that wait in the pipe.
    piped: usize,
    bulk: bool,
    source: Source,
    sink_full: bool,
    finished: bool,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    /// Nothing to read until the next edge.
    #[default]
    Dry,
    /// An edge came, and nothing said "read up" since.
    Readable,
    /// The same, and the other side has closed: only the end itself means "read up".
    ReadableToEnd,
    Ended,
}

/// How a read went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The buffer was filled, or the bytes went into a pipe: there may be more.
    Full,
    /// Less than the buffer: read up, unless the end lies right behind.
    Short,
    Dry,
    End,
}

impl Flow {
    /// The source became readable; with `hangup` its end is near.
    pub fn readable(&mut self, hangup: bool) {
        self.source = match self.source {
            Source::Ended => Source::Ended,
            Source::ReadableToEnd => Source::ReadableToEnd,
            Source::Dry | Source::Readable if hangup => Source::ReadableToEnd,
            Source::Dry | Source::Readable => Source::Readable,
        };
    }

    /// The sink takes bytes again.
    pub fn writable(&mut self) {
        self.sink_full = false;
    }

    /// Whether to read from the source now.
    pub fn wants_read(&self) -> bool {
        matches!(self.source, Source::Readable | Source::ReadableToEnd) && self.is_clear()
    }

    /// Bytes of the buffer to send now; empty when there are none or the sink is full.
    pub fn to_send(&self) -> &[u8] {
        if self.sink_full { &[] } else { &self.backlog[self.sent..] }
    }

    /// Bytes of the pipe to send now; behind those of the buffer.
    pub fn to_drain(&self) -> usize {
        if self.sink_full { 0 } else { self.piped }
    }

    /// Whether nothing waits for the sink.
    pub fn is_clear(&self) -> bool {
        self.sent == self.backlog.len() && self.piped == 0
    }

    /// Whether the next read should go through a pipe.
    pub const fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// There is no pipe to be had: goes on with copying.
    pub fn copy(&mut self) {
        self.bulk = false;
    }

    /// Tells how a read went, whatever becomes of the bytes.
    pub fn received(&mut self, received: Received) {
        self.source = match (received, self.source) {
            (Received::End, _) | (_, Source::Ended) => Source::Ended,
            (Received::Dry, _) | (Received::Short, Source::Readable | Source::Dry) => Source::Dry,
            (Received::Short, Source::ReadableToEnd) => Source::ReadableToEnd,
            (Received::Full, source) => source,
        };
    }

    /// Tells that of `bytes`, fresh from the source, `taken` went to the sink at once; keeps the rest.
    pub fn passed(&mut self, bytes: &[u8], taken: usize) {
        self.bytes += bytes.len() as u64;
        self.bulk = bytes.len() >= SPLICE_FROM;
        if taken < bytes.len() {
            self.sink_full = true;
            self.keep(&bytes[taken..]);
        }
    }

    /// `bytes` went from the source into the pipe.
    pub fn piped(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.piped = bytes;
        self.bulk = bytes >= SPLICE_UNTIL;
        self.received(Received::Full);
    }

    /// `taken` of [`Flow::to_drain`] went to the sink.
    pub fn drained(&mut self, taken: usize) {
        self.piped -= taken;
        self.sink_full = self.piped > 0;
    }

    /// Puts bytes into the direction that did not come from a read of its source: what was read
    /// before the relay began.
    pub fn preload(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.keep(bytes);
    }

    /// Puts bytes of our own in front of everything; they do not count as the source's. Only before the first byte of the
    /// direction was sent.
    pub fn lead(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.sent, 0, "our bytes would stand in the middle of the source's");
        self.backlog.splice(..0, bytes.iter().copied());
    }

    /// The sink is gone: what waits for it is thrown away, so that the source can be read on.
    pub fn abandon(&mut self) {
        self.backlog = Vec::new();
        (self.sent, self.piped, self.sink_full) = (0, 0, false);
    }

    /// Tells that `taken` of [`Flow::to_send`] went to the sink.
    pub fn sent(&mut self, taken: usize) {
        self.sent += taken;
        if self.sent == self.backlog.len() {
            // An idle relay holds no memory for what passed through it once.
            self.backlog = Vec::new();
            self.sent = 0;
        } else {
            self.sink_full = true;
        }
    }

    /// Nothing more comes from the source.
    pub fn is_ended(&self) -> bool {
        self.source == Source::Ended
    }

    /// True once, when the source has ended and everything before the end was sent: pass the end on.
    pub fn take_finish(&mut self) -> bool {
        let finish = self.source == Source::Ended && self.is_clear() && !self.finished;
        self.finished |= finish;
        finish
    }

    /// The end was passed on.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Changes whenever bytes have come or gone.
    pub fn progress(&self) -> (u64, usize) {
        (self.bytes, self.backlog.len() - self.sent + self.piped)
    }

    /// Bytes that came from the source.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.sent == self.backlog.len() {
            self.backlog.clear();
            self.sent = 0;
        }
        self.backlog.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_passed_on_once_and_only_behind_the_last_byte() {
        let mut flow = Flow::default();
        flow.readable(true);
        flow.received(Received::Short);
        flow.passed(b"abc", 1);
        flow.received(Received::End);
        assert!(!flow.take_finish(), "two bytes still wait");
        assert_eq!(flow.to_send(), b"", "the sink is full");
        flow.writable();
        assert_eq!(flow.to_send(), b"bc");
        flow.sent(2);
        assert!(flow.take_finish());
        assert!(!flow.take_finish());
        assert_eq!(flow.bytes(), 3);
    }

    #[test]
    fn the_end_waits_for_the_pipe_too() {
        let mut flow = Flow::default();
        flow.readable(true);
        flow.piped(SPLICE_FROM);
        flow.received(Received::End);
        flow.drained(1);
        assert!(!flow.take_finish());
        assert_eq!(flow.to_drain(), 0, "a short drain means the sink is full");
        flow.writable();
        flow.drained(SPLICE_FROM - 1);
        assert!(flow.take_finish());
    }

    #[test]
    fn what_leads_is_sent_first_and_counts_for_nobody() {
        let mut flow = Flow::default();
        flow.preload(b"hello");
        flow.lead(b"PROXY ");
        assert_eq!(flow.to_send(), b"PROXY hello");
        assert_eq!(flow.bytes(), 5);
        flow.sent(11);
        flow.readable(false);
        assert!(flow.wants_read());
    }

    #[test]
    fn a_direction_without_sink_holds_nothing_and_reads_on() {
        let mut flow = Flow::default();
        flow.readable(false);
        flow.received(Received::Full);
        flow.passed(b"abcd", 2);
        flow.abandon();
        assert!(flow.is_clear() && flow.wants_read());
    }

    #[test]
    fn a_slow_sink_stops_the_reading() {
        let mut flow = Flow::default();
        flow.readable(false);
        flow.received(Received::Full);
        flow.passed(b"abcd", 2);
        assert!(!flow.wants_read());
        flow.writable();
        flow.sent(1);
        assert!(!flow.wants_read(), "a short write means the sink is full again");
        flow.writable();
        flow.sent(1);
        assert!(flow.wants_read(), "the source was not read up");
        flow.piped(10);
        assert!(!flow.wants_read(), "the pipe is not empty");
    }

    #[test]
    fn large_reads_lead_to_the_pipe_and_small_ones_back() {
        let mut flow = Flow::default();
        flow.passed(&vec![0; SPLICE_FROM], SPLICE_FROM);
        assert!(flow.is_bulk());
        flow.piped(SPLICE_UNTIL);
        assert!(flow.is_bulk());
        flow.piped(SPLICE_UNTIL - 1);
        assert!(!flow.is_bulk());
    }

    #[test]
    fn a_short_read_means_dry_unless_the_end_lies_behind_it() {
        let table = [
            (false, Received::Full, true),
            (false, Received::Short, false),
            (false, Received::Dry, false),
            (true, Received::Full, true),
            (true, Received::Short, true),
            (true, Received::Dry, false),
            (true, Received::End, false),
        ];
        for (hangup, received, reads_on) in table {
            let mut flow = Flow::default();
            flow.readable(hangup);
            flow.received(received);
            assert_eq!(flow.wants_read(), reads_on, "{hangup} {received:?}");
        }
    }

    #[test]
    fn an_edge_after_the_end_does_not_reopen_the_source() {
        let mut flow = Flow::default();
        flow.readable(true);
        flow.received(Received::End);
        flow.readable(true);
        assert!(!flow.wants_read());
    }
}
