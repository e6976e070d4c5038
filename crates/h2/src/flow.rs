//! Windows: how many bytes of DATA may still go each way (RFC 9113 section 5.2).
//!
//! Windows are signed: a smaller initial window announced later can push those of running streams below zero (section
//! 6.9.2). Credit is given back when half a window was consumed: each byte by itself would answer crumbs with
//! crumbs, the whole window at once would make the sender wait for a round trip.

use crate::frame::WINDOW_MAX;

/// What we may still send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

/// The window would have grown beyond 2^31-1 (RFC 9113 section 6.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    pub(crate) const fn new(size: u32) -> SendWindow {
        SendWindow(size as i64)
    }

    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// `bytes` were sent; never more than [`available`](Self::available).
    pub(crate) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    pub(crate) fn shift(&mut self, by: i64) -> Result<(), Overflow> {
        let shifted = self.0 + by;
        if shifted > i64::from(WINDOW_MAX) {
            return Err(Overflow);
        }
        self.0 = shifted;
        Ok(())
    }
}

/// What the other side may still send, and what it is owed back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    left: i64,
    size: u32,
    owed: u32,
}

impl ReceiveWindow {
    /// `left` can differ from `size` at first, while the other side does not know our settings.
    pub(crate) const fn new(left: u32, size: u32) -> ReceiveWindow {
        ReceiveWindow { left: left as i64, size, owed: 0 }
    }

    /// Whether the other side was allowed to send these bytes.
    pub(crate) fn accept(&mut self, bytes: u32) -> bool {
        if i64::from(bytes) > self.left {
            return false;
        }
        self.left -= i64::from(bytes);
        true
    }

    /// These bytes are no longer held by us.
    pub(crate) fn give_back(&mut self, bytes: u32) {
        self.owed += bytes;
    }

    /// The increment to announce now, once it is worth a frame.
    pub(crate) fn due(&mut self) -> Option<u32> {
        if self.owed == 0 || self.owed < self.size / 2 {
            return None;
        }
        let increment = self.owed;
        self.left += i64::from(increment);
        self.owed = 0;
        Some(increment)
    }

    pub(crate) fn shift(&mut self, by: i64) {
        self.left += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_comes_back_at_half_a_window_and_covers_all_that_is_owed() {
        let mut window = ReceiveWindow::new(100, 100);
        assert!(window.accept(100));
        assert!(!window.accept(1), "a full window takes no more");
        window.give_back(49);
        assert_eq!(window.due(), None);
        window.give_back(11);
        assert_eq!(window.due(), Some(60));
        assert!(window.accept(60));
        assert!(!window.accept(1));
    }

    #[test]
    fn a_window_can_sink_below_zero_and_must_be_climbed_out_of() {
        let mut window = SendWindow::new(10);
        window.take(10);
        window.shift(-4).expect("sinking is allowed");
        assert_eq!(window.available(), 0);
        window.shift(5).expect("far from the end");
        assert_eq!(window.available(), 1);
        assert_eq!(window.shift(i64::from(WINDOW_MAX)), Err(Overflow));
    }
}
