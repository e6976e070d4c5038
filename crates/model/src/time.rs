//! Time as the deciding rooms know it: nanoseconds since the node started.
//!
//! `std::time::Instant` cannot be made from a number, so a simulator could not hand one out. This
//! one can, and it is eight bytes, totally ordered and the same in every replay of a seed.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment on the node's monotonic clock. Reactors read the clock; everyone else is told.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    pub const START: Instant = Instant(0);
    /// Later than anything a node lives to see; the neutral element of `min`.
    pub const NEVER: Instant = Instant(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here, zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::NEVER`]: a timeout of "a thousand years" must not wrap into the past.
    fn add(self, rhs: Duration) -> Instant {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Instant::NEVER { f.write_str("never") } else { write!(f, "{:?}", Duration::from_nanos(self.0)) }
    }
}

/// Wall-clock time of [`Instant::START`], so that events can be dated without reading a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    pub unix_nanos: u64,
}

impl Epoch {
    /// Nanoseconds since 1970-01-01 UTC at `at`.
    pub const fn unix_nanos_at(self, at: Instant) -> u64 {
        self.unix_nanos.saturating_add(at.as_nanos())
    }

    /// `at` as RFC 3339 in UTC with milliseconds, the form every log, event and status uses.
    pub fn rfc3339(self, at: Instant) -> String {
        let nanos = self.unix_nanos_at(at);
        let mut text = String::with_capacity(24);
        write_rfc3339_seconds(&mut text, nanos / 1_000_000_000);
        let millis = nanos / 1_000_000 % 1000;
        text.push('.');
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            text.push(char::from(b'0' + digit as u8));
        }
        text.push('Z');
        text
    }
}

/// Appends `2026-11-22T17:18:15` for a count of seconds since 1970.
pub fn write_rfc3339_seconds(text: &mut String, unix_seconds: u64) {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let two = |text: &mut String, n: u64| {
        text.push(char::from(b'0' + (n / 10 % 10) as u8));
        text.push(char::from(b'0' + (n % 10) as u8));
    };
    two(text, year / 100);
    two(text, year % 100);
    text.push('-');
    two(text, month);
    text.push('-');
    two(text, day);
    text.push('T');
    two(text, second / 3600);
    text.push(':');
    two(text, second / 60 % 60);
    text.push(':');
    two(text, second % 60);
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar: years are
/// counted from March so that the leap day comes last and needs no special case.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Reference values from `date -u -d @N +%FT%T`.
        let table = [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_795_368_695, "2026-11-22T17:31:35"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ];
        for (seconds, expected) in table {
            let mut text = String::new();
            write_rfc3339_seconds(&mut text, seconds);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn adding_an_age_saturates_instead_of_wrapping_into_the_past() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(u64::MAX), Instant::NEVER);
        assert_eq!(Instant::START.since(late), Duration::ZERO);
    }
}
