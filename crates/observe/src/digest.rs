//! What failed, how often, where and when: the causes of the last hour as an operator asks for them.
//!
//! Workers count what fails in a [`Tally`] of their own and hand it over a few times a second; the [`Digest`] adds
//! up. Counters of metrics know no pool and backend together and no time, and a table that workers shared would be a
//! lock in the middle of a flood.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::exchange::{ExchangeId, Outcome};
use evenkeel_model::{Cause, Instant, limits};

/// Width of one step of the past.
const STEP: Duration = Duration::from_secs(10);
/// An hour of them.
const STEPS: usize = 360;

/// Where a cause struck.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub cause: Cause,
    pub listener: Box<str>,
    pub pool: Option<Box<str>>,
    pub backend: Option<SocketAddr>,
}

/// How often it struck there, and when last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    pub place: Place,
    pub count: u64,
    pub last: Instant,
    /// The exchange that it struck last.
    pub id: ExchangeId,
}

/// What one worker counted since it was last handed over.
#[derive(Debug, Default)]
pub struct Tally(HashMap<u64, Tallied>);

impl Tally {
    /// Counts a failed exchange. Places are told apart by a hash of 64 bits, which spares the copy of their names.
    pub fn count(&mut self, outcome: &Outcome<'_>) {
        let Some(cause) = outcome.cause else { return };
        // What was refused with one line for many datagrams struck once.
        let (mut pool, mut backend) = (outcome.pool, outcome.backend);
        let mut key = hash(cause, outcome.listener, pool, backend);
        if self.0.len() >= limits::CAUSE_PLACES.value as usize && !self.0.contains_key(&key) {
            (pool, backend) = (None, None);
            key = hash(cause, outcome.listener, None, None);
        }
        let tallied = self.0.entry(key).or_insert_with(|| Tallied {
            place: Place { cause, listener: outcome.listener.into(), pool: pool.map(Into::into), backend },
            count: 0,
            last: outcome.times.ended,
            id: outcome.id,
        });
        tallied.count += 1;
        (tallied.last, tallied.id) = (outcome.times.ended, outcome.id);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it; counting begins anew.
    pub fn take(&mut self) -> Vec<Tallied> {
        self.0.drain().map(|(_, tallied)| tallied).collect()
    }

    /// Takes back what could not be handed over.
    pub fn give_back(&mut self, tallies: Vec<Tallied>) {
        for tallied in tallies {
            let Place { cause, listener, pool, backend } = &tallied.place;
            let key = hash(*cause, listener, pool.as_deref(), *backend);
            self.0.entry(key).and_modify(|have| have.count += tallied.count).or_insert(tallied);
        }
    }
}

fn hash(cause: Cause, listener: &str, pool: Option<&str>, backend: Option<SocketAddr>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (cause, listener, pool, backend).hash(&mut hasher);
    hasher.finish()
}

/// All causes that struck since the node started.
#[derive(Debug)]
pub struct Digest {
    since: Instant,
    causes: Vec<Option<Box<OfCause>>>,
    /// Over all causes.
    places: usize,
}

#[derive(Debug)]
struct OfCause {
    total: u64,
    /// Counts of the last hour; the step of a moment is its number modulo the length.
    steps: Box<[u32; STEPS]>,
    /// The newest step that was counted in.
    step: u64,
    by: HashMap<Place, u64>,
    last: (Instant, ExchangeId),
}

/// One cause, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    pub cause: Cause,
    pub total: u64,
    pub last_minute: u64,
    pub last_15_minutes: u64,
    pub last_hour: u64,
    /// The most frequent first. Places beyond the bound are counted under their listener.
    pub by: Vec<(Place, u64)>,
    pub last: Instant,
    pub id: ExchangeId,
}

impl Digest {
    pub fn new(since: Instant) -> Self {
        Digest { since, causes: Cause::ALL.iter().map(|_| None).collect(), places: 0 }
    }

    pub const fn since(&self) -> Instant {
        self.since
    }

    pub fn add(&mut self, tallied: Tallied) {
        let Tallied { place, count, last, id } = tallied;
        let of = self.causes[place.cause.index()].get_or_insert_with(|| {
            Box::new(OfCause {
                total: 0,
                steps: Box::new([0; STEPS]),
                step: step(last),
                by: HashMap::new(),
                last: (last, id),
            })
        });
        of.total += count;
        of.advance(step(last));
        // One that came late, from a worker that was busy, still counts in its own step.
        if of.step - step(last) < STEPS as u64 {
            let slot = &mut of.steps[(step(last) % STEPS as u64) as usize];
            *slot = slot.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if last >= of.last.0 {
            of.last = (last, id);
        }
        let place = if of.by.contains_key(&place) || self.places < limits::CAUSE_PLACES.value as usize {
            place
        } else {
            Place { pool: None, backend: None, ..place }
        };
        let before = of.by.len();
        *of.by.entry(place).or_default() += count;
        self.places += of.by.len() - before;
    }

    /// Every cause that has struck, the one that struck most in the last hour first.
    pub fn causes(&self, now: Instant) -> Vec<Struck> {
        let mut struck: Vec<Struck> = Cause::ALL
            .iter()
            .zip(&self.causes)
            .filter_map(|(cause, of)| {
                let of = of.as_ref()?;
                let mut by: Vec<(Place, u64)> = of.by.iter().map(|(place, count)| (place.clone(), *count)).collect();
                by.sort_by(|one, other| {
                    let order = |(place, count): &(Place, u64)| {
                        (std::cmp::Reverse(*count), place.listener.clone(), place.pool.clone(), place.backend)
                    };
                    order(one).cmp(&order(other))
                });
                Some(Struck {
                    cause: *cause,
                    total: of.total,
                    last_minute: of.since(now, Duration::from_secs(60)),
                    last_15_minutes: of.since(now, Duration::from_secs(900)),
                    last_hour: of.since(now, Duration::from_secs(3600)),
                    by,
                    last: of.last.0,
                    id: of.last.1,
                })
            })
            .collect();
        struck.sort_by_key(|struck| (std::cmp::Reverse(struck.last_hour), std::cmp::Reverse(struck.last)));
        struck
    }
}

fn step(at: Instant) -> u64 {
    at.as_nanos() / STEP.as_nanos() as u64
}

impl OfCause {
    /// Empties the steps that begin anew.
    fn advance(&mut self, to: u64) {
        let passed = to.saturating_sub(self.step).min(STEPS as u64);
        for gone in 1..=passed {
            self.steps[((to - passed + gone) % STEPS as u64) as usize] = 0;
        }
        self.step = self.step.max(to);
    }

    /// Counted in the whole steps before `now` that make up `span`, and in the one under way.
    fn since(&self, now: Instant, span: Duration) -> u64 {
        let now = step(now).max(self.step);
        let wide = (span.as_secs() / STEP.as_secs()).min(STEPS as u64 - 1);
        let from = now.saturating_sub(wide);
        // Steps that nobody has counted in since they came round hold an older hour.
        let oldest = self.step.saturating_sub(STEPS as u64 - 1);
        (from.max(oldest)..=self.step).map(|step| u64::from(self.steps[(step % STEPS as u64) as usize])).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::outcome;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn failed(cause: Cause, seconds: u64) -> Outcome<'static> {
        let mut outcome = outcome(at(seconds));
        outcome.cause = Some(cause);
        outcome
    }

    fn digest_of(strikes: &[(Cause, u64)]) -> Digest {
        let mut digest = Digest::new(Instant::START);
        for (cause, seconds) in strikes {
            let mut tally = Tally::default();
            tally.count(&failed(*cause, *seconds));
            tally.take().into_iter().for_each(|tallied| digest.add(tallied));
        }
        digest
    }

    #[test]
    fn the_past_is_counted_by_minute_quarter_and_hour() {
        let refused = Cause::BackendConnectRefused;
        let digest = digest_of(&[(refused, 5), (refused, 2000), (refused, 3000), (refused, 3590)]);
        let table =
            [(3599, 1, 2, 4), (3650, 1, 2, 3), (3700, 0, 2, 3), (4000, 0, 1, 3), (7180, 0, 0, 1), (9000, 0, 0, 0)];
        for (now, minute, quarter, hour) in table {
            let struck = &digest.causes(at(now))[0];
            let counted = (struck.last_minute, struck.last_15_minutes, struck.last_hour);
            assert_eq!(counted, (minute, quarter, hour), "at {now} s");
            assert_eq!(struck.total, 4);
        }
    }

    #[test]
    fn an_hour_that_came_round_does_not_count_the_hour_before() {
        let aborted = Cause::ClientAborted;
        let strikes: Vec<(Cause, u64)> = (0..3600).step_by(10).map(|second| (aborted, second)).collect();
        let mut digest = digest_of(&strikes);
        assert_eq!(digest.causes(at(3599))[0].last_hour, 360);
        let mut tally = Tally::default();
        tally.count(&failed(aborted, 20_000));
        tally.take().into_iter().for_each(|tallied| digest.add(tallied));
        assert_eq!(digest.causes(at(20_000))[0].last_hour, 1);
    }

    #[test]
    fn a_worker_that_was_late_still_counts_in_its_own_time() {
        let refused = Cause::BackendConnectRefused;
        let digest = digest_of(&[(refused, 1000), (refused, 980)]);
        let struck = &digest.causes(at(1055))[0];
        assert_eq!((struck.last_minute, struck.last_hour, struck.last), (1, 2, at(1000)));
    }

    #[test]
    fn causes_say_where_they_struck_and_the_most_frequent_place_comes_first() {
        let mut digest = Digest::new(Instant::START);
        let mut tally = Tally::default();
        for (pool, port, times) in [("a", 1, 2), ("b", 2, 5), ("a", 3, 1)] {
            for _ in 0..times {
                let backend: SocketAddr = ([10, 0, 0, 1], port).into();
                let mut outcome = failed(Cause::BackendConnectRefused, 10);
                (outcome.pool, outcome.backend) = (Some(pool), Some(backend));
                tally.count(&outcome);
            }
        }
        let first = tally.take();
        assert!(tally.is_empty());
        tally.give_back(first);
        tally.take().into_iter().for_each(|tallied| digest.add(tallied));
        let by: Vec<(u16, u64)> = digest.causes(at(10))[0]
            .by
            .iter()
            .map(|(place, count)| (place.backend.expect("a backend").port(), *count))
            .collect();
        assert_eq!(by, [(2, 5), (1, 2), (3, 1)]);
    }

    #[test]
    fn more_places_than_can_be_told_apart_are_counted_under_their_listener() {
        let most = limits::CAUSE_PLACES.value;
        let mut digest = Digest::new(Instant::START);
        let mut tally = Tally::default();
        for number in 0..most + 500 {
            let backend = SocketAddr::new(std::net::Ipv4Addr::from(number as u32).into(), 80);
            let mut outcome = failed(Cause::BackendConnectTimeout, 10);
            (outcome.pool, outcome.backend) = (Some("a"), Some(backend));
            tally.count(&outcome);
        }
        let tallied = tally.take();
        assert_eq!(tallied.len() as u64, most + 1);
        tallied.into_iter().for_each(|tallied| digest.add(tallied));
        let struck = &digest.causes(at(10))[0];
        assert_eq!(struck.total, most + 500);
        assert_eq!(struck.by.iter().map(|(_, count)| count).sum::<u64>(), most + 500);
        assert!(struck.by.len() as u64 <= most + 1);
    }
}
