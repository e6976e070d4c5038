//! Counts what is cheap for the other side and dear for us, and says when it is too much.
//!
//! Each kind has a bucket that leaks: a burst is free, and in [`limits::H2_FLOOD_TIME`] a full bucket runs empty. Useful
//! frames pay for the frames that honest clients send beside them, so a client that moves much data may ping and
//! update windows as often as it needs. A plain count per connection would punish connections for living long; a count
//! per second would punish bursts.
//!
//! What memory is at stake is bounded where the memory is; this is about work.

use evenkeel_model::limits::{self, Fixed};
use evenkeel_model::time::Instant;

const FLOOD_NANOS: u64 = limits::H2_FLOOD_TIME.value * 1_000_000_000;

/// Cheap things. Each has a row in `limits` with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cheap {
    /// Streams that ended in a reset before they were answered, whoever sent the reset.
    Reset,
    Settings,
    Ping,
    EmptyData,
    WindowUpdate,
    /// PRIORITY and frames nobody knows.
    Idle,
}

impl Cheap {
    const COUNT: usize = 6;

    const fn row(self) -> &'static Fixed {
        match self {
            Cheap::Reset => &limits::H2_RESETS,
            Cheap::Settings => &limits::H2_SETTINGS,
            Cheap::Ping => &limits::H2_PINGS,
            Cheap::EmptyData => &limits::H2_EMPTY_DATA,
            Cheap::WindowUpdate => &limits::H2_WINDOW_UPDATES,
            Cheap::Idle => &limits::H2_IDLE_FRAMES,
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Cheap::Reset => "too many streams reset before they were answered (CVE-2023-44487, CVE-2025-8671)",
            Cheap::Settings => "too many settings frames (CVE-2019-9515)",
            Cheap::Ping => "too many ping frames (CVE-2019-9512)",
            Cheap::EmptyData => "too many empty data frames (CVE-2019-9518)",
            Cheap::WindowUpdate => "too many window_update frames (CVE-2019-9511)",
            Cheap::Idle => "too many priority or unknown frames (CVE-2019-9513)",
        }
    }
}

/// More than any honest client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flood {
    pub(crate) detail: &'static str,
    pub(crate) limit: u64,
}

pub(crate) const UNREAD_ANSWERS: &str = "answers to control frames pile up unread (CVE-2019-9512, CVE-2019-9515)";
pub(crate) const CONTINUATION_FRAMES: &str = "header block in too many continuation frames (CVE-2024-27316)";
pub(crate) const CONTINUATION_BYTES: &str = "header block far larger than header_limit (CVE-2024-27316)";

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    level: u64,
    /// Up to when leaking is accounted for.
    leaked: Instant,
}

impl Bucket {
    /// Whether it still fits.
    fn pour(&mut self, amount: u64, burst: u64, now: Instant) -> bool {
        let passed = now.since(self.leaked).as_nanos().min(u128::from(FLOOD_NANOS)) as u64;
        let leak = burst * passed / FLOOD_NANOS;
        if leak >= self.level {
            (self.level, self.leaked) = (0, now);
        } else if leak > 0 {
            self.level -= leak;
            // Not `now`: the part of a unit that has leaked besides must not be forgotten at each call.
            self.leaked += std::time::Duration::from_nanos(leak * FLOOD_NANOS / burst);
        }
        self.level += amount;
        self.level <= burst
    }

    fn pay(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(amount);
    }
}

/// The buckets of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Defence {
    buckets: [Bucket; Cheap::COUNT],
    /// As many streams as the other side may have open may also be reset at once, twice over.
    resets: u64,
}

impl Defence {
    pub(crate) fn new(streams: u32) -> Defence {
        let resets = limits::H2_RESETS.value.max(2 * u64::from(streams));
        Defence { buckets: [Bucket::default(); Cheap::COUNT], resets }
    }

    /// # Errors
    /// When it happened more often than any client needs.
    pub(crate) fn count(&mut self, what: Cheap, amount: u64, now: Instant) -> Result<(), Flood> {
        let limit = if what == Cheap::Reset { self.resets } else { what.row().value };
        if self.buckets[what as usize].pour(amount, limit, now) {
            return Ok(());
        }
        Err(Flood { detail: what.detail(), limit })
    }

    /// DATA worth its frame went one way or the other.
    pub(crate) fn data_moved(&mut self) {
        self.buckets[Cheap::WindowUpdate as usize].pay(10);
        self.buckets[Cheap::Ping as usize].pay(2);
        self.buckets[Cheap::EmptyData as usize].pay(1);
    }

    pub(crate) fn request_came(&mut self) {
        self.buckets[Cheap::Idle as usize].pay(10);
        self.buckets[Cheap::WindowUpdate as usize].pay(2);
        self.buckets[Cheap::Ping as usize].pay(1);
    }
}

/// DATA of at least this size pays for other frames. Crumbs do not, or a client could pay for an attack with
/// the crumbs it makes us send.
pub(crate) const WORTH_A_FRAME: usize = 256;

/// Control frames in the output, by two marks in the stream of bytes: exact would need a list of positions, and
/// a single sum would never be zero again where the output is never empty.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Control bytes written before the mark, and behind it.
    older: usize,
    newer: usize,
    /// Bytes to be sent until the mark is reached.
    mark: usize,
}

impl Control {
    pub(crate) const fn owed(&self) -> usize {
        self.older + self.newer
    }

    pub(crate) const fn written(&mut self, bytes: usize, owed: usize) {
        if self.older == 0 && self.newer == 0 {
            self.mark = owed;
            self.older = bytes;
        } else {
            self.newer += bytes;
        }
    }

    /// A mark that was passed clears what lay before it; what lay behind it gets a mark at the end of the output.
    pub(crate) const fn sent(&mut self, bytes: usize, owed: usize) {
        self.mark = self.mark.saturating_sub(bytes);
        if self.mark == 0 {
            (self.older, self.newer) = (self.newer, 0);
            self.mark = owed;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_free_one_more_is_a_flood() {
        let mut defence = Defence::new(128);
        let now = Instant::START;
        for _ in 0..limits::H2_PINGS.value {
            defence.count(Cheap::Ping, 1, now).expect("within the burst");
        }
        assert_eq!(defence.count(Cheap::Ping, 1, now).expect_err("over it").limit, limits::H2_PINGS.value);
        defence.count(Cheap::Settings, 1, now).expect("other kinds are counted apart");
    }

    #[test]
    fn a_rate_below_the_leak_lasts_for_ever_one_above_does_not() {
        let lasts = |per_second: u64| {
            let mut defence = Defence::new(128);
            let gap = Duration::from_nanos(1_000_000_000 / per_second);
            let mut now = Instant::START;
            (0..200_000).all(|_| {
                now += gap;
                defence.count(Cheap::Reset, 1, now).is_ok()
            })
        };
        let leak = limits::H2_RESETS.value / limits::H2_FLOOD_TIME.value;
        assert!(lasts(leak - 1));
        assert!(!lasts(leak + 2));
    }

    #[test]
    fn many_streams_allow_as_many_cancellations() {
        let mut defence = Defence::new(10_000);
        defence.count(Cheap::Reset, 20_000, Instant::START).expect("everything open, twice");
        defence.count(Cheap::Reset, 1, Instant::START).expect_err("more");
    }
}
