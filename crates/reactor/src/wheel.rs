//! Timers of a worker: a hierarchical wheel of one-millisecond slots.
//!
//! Setting a timer costs a push. There is no cancel: connections keep their own deadline and compare it
//! when an entry fires ("lazy" timers), so the many deadlines that are moved and never reached
//! cost nothing at all. A heap was the alternative; with a timer per connection and 15 s keep-alive
//! it holds hundreds of thousands of dead entries and pays a logarithm for each.

use std::time::Duration;

use evenkeel_model::Instant;

use crate::Token;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Four levels of 64 slots cover 2^24 ms, about 4.6 hours; later entries wait in the last slot and
/// are put in again when it comes round.
const LEVELS: usize = 4;
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Wheel {
    /// Ticks that have been served. Entries due at or before it have fired.
    served: u64,
    levels: [Level; LEVELS],
    entries: usize,
}

#[derive(Debug)]
struct Level {
    slots: [Vec<Entry>; SLOTS],
    /// A bit for each slot that is not empty.
    occupied: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: u64,
    token: Token,
}

impl Wheel {
    pub fn new(now: Instant) -> Self {
        Wheel {
            served: now.as_nanos() / TICK.as_nanos() as u64,
            levels: std::array::from_fn(|_| Level { slots: std::array::from_fn(|_| Vec::new()), occupied: 0 }),
            entries: 0,
        }
    }

    /// Entries that have not fired yet.
    pub const fn len(&self) -> usize {
        self.entries
    }

    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Fires `token` at `at`, rounded up to a whole millisecond: never early.
    pub fn set(&mut self, at: Instant, token: Token) {
        let due = at.as_nanos().div_ceil(TICK.as_nanos() as u64).max(self.served + 1);
        self.put(Entry { due, token });
        self.entries += 1;
    }

    /// When [`Wheel::fire`] has something to do next: never later than the earliest entry, though it may be
    /// earlier, when entries only move down a level.
    pub fn next(&self) -> Option<Instant> {
        let mut earliest: Option<u64> = None;
        for (level, content) in self.levels.iter().enumerate() {
            if content.occupied == 0 {
                continue;
            }
            let shift = SLOT_BITS * level as u32;
            let hand = self.served >> shift;
            // The slot under the hand of level 0 has been served; those of higher levels were
            // emptied when the hand came to them, so what is there now is a whole turn away.
            let behind = ((hand + 1) % SLOTS as u64) as u32;
            let distance = u64::from(content.occupied.rotate_right(behind).trailing_zeros()) + 1;
            let tick = (hand + distance) << shift;
            earliest = Some(earliest.map_or(tick, |other| other.min(tick)));
        }
        earliest.map(|tick| Instant::from_nanos(tick.saturating_mul(TICK.as_nanos() as u64)))
    }

    /// Appends the tokens due at `now` to `fired`, in order of their ticks.
    pub fn fire(&mut self, now: Instant, fired: &mut Vec<Token>) {
        let target = now.as_nanos() / TICK.as_nanos() as u64;
        while let Some(next) = self.next() {
            let tick = next.as_nanos() / TICK.as_nanos() as u64;
            if tick > target {
                break;
            }
            self.served = tick;
            self.turn(fired);
        }
        self.served = self.served.max(target);
    }

    /// Serves the slot under each hand that has just moved: higher levels are dealt out again first.
    fn turn(&mut self, fired: &mut Vec<Token>) {
        for level in (1..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if self.served & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (self.served >> shift) as usize % SLOTS;
            if self.levels[level].occupied & (1 << slot) == 0 {
                continue;
            }
            self.levels[level].occupied &= !(1 << slot);
            let mut dealt = std::mem::take(&mut self.levels[level].slots[slot]);
            for entry in dealt.drain(..) {
                self.put(entry);
            }
            // Give the allocation back; `put` cannot have used this slot unless it is a turn away.
            if self.levels[level].slots[slot].is_empty() {
                self.levels[level].slots[slot] = dealt;
            }
        }
        let slot = self.served as usize % SLOTS;
        let level = &mut self.levels[0];
        level.occupied &= !(1 << slot);
        self.entries -= level.slots[slot].len();
        fired.extend(level.slots[slot].drain(..).map(|entry| entry.token));
    }

    fn put(&mut self, entry: Entry) {
        let ahead = entry.due.saturating_sub(self.served);
        let (level, slot) = if ahead < SLOTS as u64 {
            (0, entry.due.max(self.served) as usize % SLOTS)
        } else {
            let mut level = 1;
            while level + 1 < LEVELS && ahead >= 1 << (SLOT_BITS * (level as u32 + 1)) {
                level += 1;
            }
            let shift = SLOT_BITS * level as u32;
            let hand = self.served >> shift;
            // Never more than a turn ahead, or the slot would be met too early.
            let position = (entry.due >> shift).min(hand + SLOTS as u64 - 1);
            (level, position as usize % SLOTS)
        };
        self.levels[level].slots[slot].push(entry);
        self.levels[level].occupied |= 1 << slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn no_timer_fires_early_or_a_tick_late_whatever_its_distance() {
        // A linear congruential generator is random enough here and replays by itself.
        let mut state = 12345_u64;
        let mut draw = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for start in [0, 63, 64, 4095, 4096, 262_143, 999_999_937] {
            let mut wheel = Wheel::new(at(start));
            let mut expected: Vec<u64> =
                (0..400).map(|index| start + 1 + draw([50, 100, 5000, 300_000, 40_000_000][index % 5])).collect();
            for &due in &expected {
                wheel.set(at(due), Token(due));
            }
            let mut seen = Vec::new();
            while let Some(next) = wheel.next() {
                let mut fired = Vec::new();
                wheel.fire(next, &mut fired);
                for token in fired {
                    assert_eq!(at(token.0), next, "fired at another time than it was set for");
                    seen.push(token.0);
                }
            }
            expected.sort_unstable();
            assert_eq!(seen, expected);
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_late_caller_gets_all_that_is_due_and_nothing_else() {
        let mut wheel = Wheel::new(at(0));
        for due in [1, 70, 5000, 5001, 300_000] {
            wheel.set(at(due), Token(due));
        }
        let mut fired = Vec::new();
        wheel.fire(at(5000), &mut fired);
        assert_eq!(fired, [Token(1), Token(70), Token(5000)]);
        assert_eq!(wheel.len(), 2);
    }

    #[test]
    fn a_timer_set_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::new(at(100));
        wheel.set(at(3), Token(1));
        assert_eq!(wheel.next(), Some(at(101)));
    }
}
