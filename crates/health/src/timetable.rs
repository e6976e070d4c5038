//! Decides when which target is probed.
//!
//! - Between two probes lies a gap: the next one is due so long after the previous one *ended* (W1). Whoever tells of the
//!   end says how long (see [`crate::gap`]); jitter is drawn here, from the seed, the key and the number of the probe.
//! - A gap that turns out too long is shortened while it runs ([`Event::Hastened`]); it still counts from the same end.
//! - Never two probes of one target at once (W2): a target is either due or in flight.
//! - Targets that join are probed at once (W8). When more than `limits::FIRST_PROBES_AT_ONCE` join
//!   together, the i-th of n waits i/n of its interval, in an order drawn from the seed, so that neither
//!   one host with many ports nor several nodes started together get all first probes at one moment.
//! - At most `limits::PROBES_AT_ONCE` are in flight. A target that is due while all places are taken
//!   keeps its turn, earliest first; that wait is measured, and it is not lateness of a probe.
//!
//! A sorted set of due targets rather than the reactor's wheel: it gives the exact next moment and takes entries
//! out again, both in O(log n), and 20,000 probes a second need no more.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::gap::Gap;
use crate::keys::ByNumber;
pub use crate::waits::Waits;

/// Names one target for as long as it is probed without a break. Never used twice, so that the
/// late answer to a cancelled probe cannot be taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeKey(pub u64);

#[derive(Clone, Debug)]
pub struct Timetable {
    seed: u64,
    places: usize,
    entries: ByNumber<ProbeKey, Entry>,
    /// Targets that wait for their time or for a place. Those in flight are not here.
    due: BTreeSet<(Instant, ProbeKey)>,
    in_flight: usize,
    waits: Waits,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Targets that are probed from now on, with the time their first probes are spread over.
    Joined(Vec<(ProbeKey, Duration)>),
    ProbeEnded {
        key: ProbeKey,
        at: Instant,
        /// From `at` to the next one.
        gap: Gap,
    },
    /// The gap that runs now is to be no longer than this. Whoever was never probed keeps its turn.
    Hastened { key: ProbeKey, gap: Gap },
    /// Somebody does not want to wait: the next probe is due now, or so long after the one before. One in flight is not doubled.
    AskedFor { key: ProbeKey, after: Duration },
    /// No more probes; one in flight counts as gone.
    Left(ProbeKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Start { key: ProbeKey },
}

/// Where one target stands in the timetable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Due(Instant),
    InFlight { since: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    turn: Turn,
    /// End of the last probe; `None` before the first.
    ended: Option<Instant>,
    /// Probes ended.
    probes: u64,
}

impl Timetable {
    pub fn new(seed: u64) -> Self {
        Timetable::with_places(seed, limits::PROBES_AT_ONCE.value as usize)
    }

    pub fn with_places(seed: u64, places: usize) -> Self {
        Timetable {
            seed,
            places,
            entries: ByNumber::default(),
            due: BTreeSet::new(),
            in_flight: 0,
            waits: Waits::new(),
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Joined(targets) => self.join(targets, now),
            Event::ProbeEnded { key, at, gap } => self.end(key, at, gap),
            Event::Hastened { key, gap } => self.hasten(key, gap, now),
            Event::AskedFor { key, after } => self.advance(key, after, now),
            Event::Left(key) => self.leave(key),
        }
    }

    /// Starts what is due, as long as there are places.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.in_flight < self.places {
            let Some(&(at, key)) = self.due.first() else { return };
            if at > now {
                return;
            }
            self.due.pop_first();
            self.entry(key).turn = Turn::InFlight { since: now };
            self.in_flight += 1;
            self.waits.count(now - at);
            self.outputs.push_back(Output::Start { key });
        }
    }

    /// When the next probe is due; `None` while all places are taken, for then only an ended probe
    /// lets another start.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight >= self.places {
            return None;
        }
        self.due.first().map(|&(at, _)| at)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn turn(&self, key: ProbeKey) -> Option<Turn> {
        self.entries.get(&key).map(|entry| entry.turn)
    }

    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub const fn waits(&self) -> Waits {
        self.waits
    }

    fn join(&mut self, mut targets: Vec<(ProbeKey, Duration)>, now: Instant) {
        let count = targets.len();
        let spread = count as u64 > limits::FIRST_PROBES_AT_ONCE.value;
        if spread {
            targets.sort_by_cached_key(|&(key, _)| mix(self.seed ^ key.0));
        }
        for (position, (key, interval)) in targets.into_iter().enumerate() {
            let wait = if spread { fraction(interval, position, count) } else { Duration::ZERO };
            let at = now + wait;
            self.leave(key);
            self.entries.insert(key, Entry { turn: Turn::Due(at), ended: None, probes: 0 });
            self.due.insert((at, key));
        }
    }

    fn end(&mut self, key: ProbeKey, at: Instant, gap: Gap) {
        // Whatever was not in flight has left, or ended before: there is nothing to end.
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Turn::InFlight { .. } = entry.turn else { return };
        entry.ended = Some(at);
        entry.probes += 1;
        let next = at + gap.drawn(draw(self.seed, key, entry.probes));
        entry.turn = Turn::Due(next);
        self.due.insert((next, key));
        self.in_flight -= 1;
    }

    fn hasten(&mut self, key: ProbeKey, gap: Gap, now: Instant) {
        let Some(entry) = self.entries.get(&key) else { return };
        let (Turn::Due(due), Some(ended)) = (entry.turn, entry.ended) else { return };
        // A moment that is over already means now: nobody has waited for it.
        let next = (ended + gap.drawn(draw(self.seed, key, entry.probes))).max(now);
        if next < due {
            self.bring_forward(key, due, next);
        }
    }

    fn advance(&mut self, key: ProbeKey, after: Duration, now: Instant) {
        let Some(entry) = self.entries.get(&key) else { return };
        let Turn::Due(due) = entry.turn else { return };
        let next = entry.ended.map_or(now, |ended| (ended + after).max(now));
        if next < due {
            self.bring_forward(key, due, next);
        }
    }

    fn bring_forward(&mut self, key: ProbeKey, due: Instant, next: Instant) {
        self.entry(key).turn = Turn::Due(next);
        self.due.remove(&(due, key));
        self.due.insert((next, key));
    }

    fn leave(&mut self, key: ProbeKey) {
        match self.entries.remove(&key).map(|entry| entry.turn) {
            None => {}
            Some(Turn::InFlight { .. }) => self.in_flight -= 1,
            Some(Turn::Due(at)) => {
                self.due.remove(&(at, key));
            }
        }
    }

    fn entry(&mut self, key: ProbeKey) -> &mut Entry {
        self.entries.get_mut(&key).expect("`due` holds only keys that have an entry")
    }
}

/// The same for the same probe, so that a gap that is shortened keeps its share of the jitter.
const fn draw(seed: u64, key: ProbeKey, probe: u64) -> u64 {
    mix(mix(seed ^ key.0).wrapping_add(probe.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// `part` / `whole` of `interval`, in whole nanoseconds.
fn fraction(interval: Duration, part: usize, whole: usize) -> Duration {
    let nanos = interval.as_nanos() * part as u128 / whole as u128;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// SplitMix64's finisher (Steele, Lea, Flood 2014): turns a counter into a shuffle.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);

    fn joined(keys: std::ops::Range<u64>, interval: Duration) -> Event {
        Event::Joined(keys.map(|key| (ProbeKey(key), interval)).collect())
    }

    fn started(timetable: &mut Timetable, now: Instant) -> Vec<u64> {
        timetable.handle_timeout(now);
        std::iter::from_fn(|| timetable.poll_output()).map(|Output::Start { key }| key.0).collect()
    }

    /// A probe of `key` ended, and the next comes this long after it.
    fn ended(key: u64, at: Instant, gap: Duration) -> Event {
        Event::ProbeEnded { key: ProbeKey(key), at, gap: Gap::exact(gap) }
    }

    fn at(duration: Duration) -> Instant {
        Instant::START + duration
    }

    #[test]
    fn the_interval_is_a_gap_after_the_end_of_the_probe() {
        let mut timetable = Timetable::new(1);
        timetable.handle(joined(0..1, 2 * SECOND), Instant::START);
        assert_eq!(timetable.poll_timeout(), Some(Instant::START), "the first probe is due at once");
        assert_eq!(started(&mut timetable, Instant::START), [0]);
        assert_eq!(timetable.poll_timeout(), None, "nothing is due while the only probe runs");
        let end = at(7 * SECOND + NANO);
        timetable.handle(ended(0, end, 2 * SECOND), end + SECOND);
        let next = end + 2 * SECOND;
        assert_eq!(timetable.poll_timeout(), Some(next), "counted from its end, not from the news of it");
        assert!(started(&mut timetable, at(9 * SECOND)).is_empty(), "a nanosecond too early");
        assert_eq!(started(&mut timetable, next), [0]);
    }

    #[test]
    fn a_target_in_flight_is_not_started_again() {
        let mut timetable = Timetable::new(1);
        timetable.handle(joined(0..1, SECOND), Instant::START);
        assert_eq!(started(&mut timetable, Instant::START), [0]);
        assert!(started(&mut timetable, at(1000 * SECOND)).is_empty());
        assert_eq!(timetable.turn(ProbeKey(0)), Some(Turn::InFlight { since: Instant::START }));
    }

    #[test]
    fn a_handful_of_first_probes_starts_at_once() {
        let mut timetable = Timetable::new(1);
        let handful = limits::FIRST_PROBES_AT_ONCE.value;
        timetable.handle(joined(0..handful, SECOND), Instant::START);
        assert_eq!(started(&mut timetable, Instant::START).len() as u64, handful);
    }

    #[test]
    fn many_first_probes_are_spread_evenly_over_one_interval() {
        let mut timetable = Timetable::new(1);
        timetable.handle(joined(0..1000, SECOND), Instant::START);
        let mut starts = Vec::new();
        while let Some(next) = timetable.poll_timeout() {
            starts.extend(started(&mut timetable, next).into_iter().map(|key| (next, key)));
        }
        let times: Vec<Instant> = starts.iter().map(|start| start.0).collect();
        let expected: Vec<Instant> = (0..1000).map(|part| at(Duration::from_millis(part))).collect();
        assert_eq!(times, expected);
        let keys: Vec<u64> = starts.iter().map(|start| start.1).collect();
        assert_ne!(keys, (0..1000).collect::<Vec<_>>(), "neighbours in the plan are not neighbours in time");
    }

    #[test]
    fn nodes_with_different_seeds_probe_in_different_order() {
        let order = |seed| {
            let mut timetable = Timetable::new(seed);
            timetable.handle(joined(0..200, SECOND), Instant::START);
            started(&mut timetable, at(SECOND))
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn targets_without_a_place_wait_their_turn_and_the_wait_is_measured() {
        let mut timetable = Timetable::with_places(1, 2);
        timetable.handle(joined(0..2, SECOND), Instant::START);
        assert_eq!(started(&mut timetable, Instant::START).len(), 2);
        timetable.handle(joined(2..3, SECOND), at(SECOND));
        timetable.handle(joined(3..4, SECOND), at(2 * SECOND));
        assert_eq!(timetable.poll_timeout(), None, "no place, so time alone changes nothing");
        assert!(started(&mut timetable, at(5 * SECOND)).is_empty());
        timetable.handle(ended(0, at(5 * SECOND), SECOND), at(5 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(SECOND)), "overdue: at once");
        assert_eq!(started(&mut timetable, at(5 * SECOND)), [2], "the one that waited longest");
        assert_eq!(timetable.in_flight(), 2);
        let waits = timetable.waits();
        assert_eq!((waits.probes, waits.total, waits.longest), (3, 4 * SECOND, 4 * SECOND));
    }

    #[test]
    fn a_target_that_leaves_gives_its_place_back_and_its_late_end_is_ignored() {
        let mut timetable = Timetable::with_places(1, 1);
        timetable.handle(joined(0..2, SECOND), Instant::START);
        assert_eq!(started(&mut timetable, Instant::START), [0]);
        timetable.handle(Event::Left(ProbeKey(0)), at(SECOND));
        assert_eq!(started(&mut timetable, at(SECOND)), [1]);
        timetable.handle(ended(0, at(SECOND), SECOND), at(SECOND));
        assert_eq!((timetable.in_flight(), timetable.turn(ProbeKey(0))), (1, None));
        timetable.handle(ended(1, at(SECOND), SECOND), at(SECOND));
        timetable.handle(ended(1, at(9 * SECOND), SECOND), at(9 * SECOND));
        assert_eq!(timetable.turn(ProbeKey(1)), Some(Turn::Due(at(2 * SECOND))), "an end counts once");
        timetable.handle(Event::Left(ProbeKey(1)), at(9 * SECOND));
        assert_eq!((timetable.poll_timeout(), timetable.in_flight()), (None, 0));
    }
    #[test]
    fn each_gap_is_as_long_as_it_was_said_at_the_end_of_its_probe() {
        let mut timetable = Timetable::new(1);
        timetable.handle(joined(0..1, SECOND), Instant::START);
        let mut now = Instant::START;
        for gap in [2 * SECOND, NANO, 30 * SECOND] {
            assert_eq!(started(&mut timetable, now), [0]);
            timetable.handle(ended(0, now, gap), now);
            assert_eq!(timetable.poll_timeout(), Some(now + gap));
            now += gap;
        }
    }

    #[test]
    fn a_gap_that_is_shortened_counts_from_the_same_end_and_never_gets_longer() {
        let gap = |seconds: u32| Event::Hastened { key: ProbeKey(0), gap: Gap::exact(seconds * SECOND) };
        let mut timetable = Timetable::new(1);
        timetable.handle(joined(0..1, SECOND), Instant::START);
        timetable.handle(gap(0), Instant::START);
        assert_eq!(timetable.turn(ProbeKey(0)), Some(Turn::Due(Instant::START)), "never probed: it keeps its turn");
        assert_eq!(started(&mut timetable, Instant::START), [0]);
        timetable.handle(gap(0), at(SECOND));
        assert_eq!(timetable.turn(ProbeKey(0)), Some(Turn::InFlight { since: Instant::START }), "in flight: it stays");
        timetable.handle(ended(0, at(SECOND), 30 * SECOND), at(SECOND));
        timetable.handle(gap(10), at(2 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(11 * SECOND)));
        timetable.handle(gap(20), at(3 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(11 * SECOND)), "a longer one changes nothing");
        timetable.handle(gap(2), at(9 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(9 * SECOND)), "over already: now");
        assert_eq!(started(&mut timetable, at(9 * SECOND)), [0]);
        assert_eq!(timetable.waits().longest, Duration::ZERO, "nobody was late");
        assert_eq!(started(&mut timetable, at(99 * SECOND)), [0; 0], "once");
    }

    #[test]
    fn a_probe_that_is_asked_for_comes_at_once_but_never_twice_nor_in_a_flood() {
        let asked = || Event::AskedFor { key: ProbeKey(0), after: SECOND };
        let mut timetable = Timetable::with_places(1, 1);
        timetable.handle(asked(), Instant::START);
        assert_eq!(timetable.poll_timeout(), None, "whoever is not probed has no next probe");
        timetable.handle(joined(0..1, SECOND), Instant::START);
        assert_eq!(started(&mut timetable, Instant::START), [0]);
        timetable.handle(asked(), at(SECOND));
        assert_eq!(timetable.turn(ProbeKey(0)), Some(Turn::InFlight { since: Instant::START }), "in flight: it stays");
        timetable.handle(ended(0, at(2 * SECOND), 60 * SECOND), at(2 * SECOND));
        timetable.handle(asked(), at(2 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(3 * SECOND)), "not closer than that to the one before");
        assert_eq!(started(&mut timetable, at(3 * SECOND)), [0]);
        timetable.handle(ended(0, at(4 * SECOND), 60 * SECOND), at(4 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(64 * SECOND)), "the gap after it is whole");
        timetable.handle(asked(), at(30 * SECOND));
        assert_eq!(timetable.poll_timeout(), Some(at(30 * SECOND)));
        timetable.handle(Event::Left(ProbeKey(0)), at(30 * SECOND));
        // Where many joined, the last has to wait for its first turn unless somebody asks.
        timetable.handle(joined(0..1000, 100 * SECOND), at(30 * SECOND));
        let Some(Turn::Due(due)) = timetable.turn(ProbeKey(0)) else { panic!("it has just joined") };
        assert!(due > at(30 * SECOND), "the seed lets another be the first");
        timetable.handle(asked(), at(30 * SECOND));
        assert_eq!(timetable.turn(ProbeKey(0)), Some(Turn::Due(at(30 * SECOND))), "never probed: now");
    }

    #[test]
    fn jitter_is_drawn_anew_for_each_probe_and_the_same_from_the_same_seed() {
        let gap = Gap { length: 10 * SECOND, jitter: 20 };
        let gaps = |seed: u64, key: u64| -> Vec<Duration> {
            let mut timetable = Timetable::new(seed);
            timetable.handle(joined(key..key + 1, SECOND), Instant::START);
            let mut now = Instant::START;
            (0..100)
                .map(|_| {
                    assert_eq!(started(&mut timetable, now), [key]);
                    timetable.handle(Event::ProbeEnded { key: ProbeKey(key), at: now, gap }, now);
                    let next = timetable.poll_timeout().expect("the only target is due");
                    next - std::mem::replace(&mut now, next)
                })
                .collect()
        };
        let one = gaps(1, 0);
        assert!(one.iter().all(|drawn| (8 * SECOND..=12 * SECOND).contains(drawn)), "{one:?}");
        let (low, high) = (one.iter().min().expect("a hundred"), one.iter().max().expect("a hundred"));
        assert!(
            *low < SECOND * 17 / 2 && *high > SECOND * 23 / 2,
            "all of a hundred near the middle: {low:?} to {high:?}"
        );
        assert_eq!(one, gaps(1, 0));
        assert_ne!(one, gaps(2, 0), "another seed");
        assert_ne!(one, gaps(1, 1), "another target");
    }

    /// Probes per hundredth of an interval, over `rounds` intervals from `from` on; each probe takes no time.
    fn crowds(timetable: &mut Timetable, interval: Duration, from: Instant, rounds: u32) -> Vec<usize> {
        let until = from + interval * rounds;
        let mut crowds = vec![0; 100 * rounds as usize];
        while let Some(next) = timetable.poll_timeout().filter(|next| *next < until) {
            for key in started(timetable, next) {
                timetable.handle(ended(key, next, interval), next);
                if next >= from {
                    crowds[((next - from).as_nanos() * 100 / interval.as_nanos()) as usize] += 1;
                }
            }
        }
        crowds
    }

    #[test]
    fn checks_that_were_spread_stay_spread_and_so_do_ten_thousand_that_join_them() {
        let interval = 5 * SECOND;
        let mut timetable = Timetable::new(7);
        timetable.handle(joined(0..5_000, interval), Instant::START);
        let before = crowds(&mut timetable, interval, at(interval), 3);
        assert!(before.iter().all(|crowd| *crowd == 50), "5,000 over a hundred parts: {before:?}");
        // A reload in the middle of it all.
        let reloaded = at(interval * 17 / 4);
        timetable.handle(joined(5_000..15_000, interval), reloaded);
        let after = crowds(&mut timetable, interval, reloaded + interval, 3);
        assert!(after.iter().all(|crowd| (149..=151).contains(crowd)), "15,000 over a hundred parts: {after:?}");
    }
}
