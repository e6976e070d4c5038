//! The failed and slow exchanges of late, so that somebody who quotes a request id can be told what happened.
//!
//! Two floods are kept off it. A cause that strikes ten thousand times a second gives a few records a second and no more
//! ([`Sampler`], on each worker); and when the ring is full the oldest record of the most frequent kind makes room, so that
//! what happens once a day is still there when somebody looks. One queue for all, as a plain ring is, would hold the
//! last second of the loudest trouble and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use evenkeel_model::exchange::{ExchangeId, Outcome, Record};
use evenkeel_model::{Cause, Instant, limits};

/// One for each cause, and one for exchanges that were slow and went well.
const KINDS: usize = Cause::ALL.len() + 1;

fn kind(cause: Option<Cause>) -> usize {
    cause.map_or(KINDS - 1, Cause::index)
}

/// Decides which exchanges of a flood are kept: the first few of each kind in each second.
#[derive(Debug)]
pub struct Sampler {
    until: Instant,
    taken: [u8; KINDS],
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler { until: Instant::START, taken: [0; KINDS] }
    }
}

impl Sampler {
    /// Whether to keep this one. Asked once for each that could be.
    pub fn keeps(&mut self, outcome: &Outcome<'_>) -> bool {
        if outcome.times.ended >= self.until {
            self.until = outcome.times.ended + std::time::Duration::from_secs(1);
            self.taken = [0; KINDS];
        }
        let taken = &mut self.taken[kind(outcome.cause)];
        let keeps = u64::from(*taken) < limits::KEPT_A_SECOND.value;
        *taken += u8::from(keeps);
        keeps
    }
}

#[derive(Debug)]
pub struct Ring {
    room: usize,
    /// By kind, the oldest first, with numbers that say the order over all kinds.
    kinds: Vec<VecDeque<(u64, Arc<Record>)>>,
    len: usize,
    next: u64,
}

impl Ring {
    pub fn new(room: usize) -> Self {
        Ring { room, kinds: vec![VecDeque::new(); KINDS], len: 0, next: 0 }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A reload may change how many are kept.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
        self.make_room();
    }

    pub fn keep(&mut self, record: Record) {
        self.kinds[kind(record.cause)].push_back((self.next, Arc::new(record)));
        self.next += 1;
        self.len += 1;
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.len > self.room {
            // Of two as frequent the one whose oldest record is older gives way.
            let oldest = |kind: &VecDeque<(u64, _)>| kind.front().map_or(u64::MAX, |(number, _)| *number);
            let loudest = self.kinds.iter_mut().max_by_key(|kind| (kind.len(), std::cmp::Reverse(oldest(kind))));
            if loudest.and_then(VecDeque::pop_front).is_none() {
                return;
            }
            self.len -= 1;
        }
    }

    pub fn find(&self, id: ExchangeId) -> Option<Arc<Record>> {
        let mut all = self.kinds.iter().flatten();
        all.find(|(_, record)| record.id == id).map(|(_, record)| Arc::clone(record))
    }

    /// Those that `wanted` says, the newest first, at most `most`.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let mut found: Vec<_> = self.kinds.iter().flatten().filter(|(_, record)| wanted(record)).collect();
        found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.into_iter().take(most).map(|(_, record)| Arc::clone(record)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::outcome;
    use std::time::Duration;

    fn failed(sequence: u64, cause: Cause, at_ms: u64) -> Outcome<'static> {
        let ended = Instant::START + Duration::from_millis(at_ms);
        let mut outcome = outcome(ended);
        outcome.id = ExchangeId { process: 1, sequence };
        outcome.cause = Some(cause);
        outcome
    }

    #[test]
    fn a_noisy_cause_does_not_push_out_a_rare_one() {
        let mut ring = Ring::new(100);
        ring.keep(Record::of(&failed(0, Cause::BackendTlsFailed, 0)));
        for sequence in 1..10_000 {
            ring.keep(Record::of(&failed(sequence, Cause::BackendConnectRefused, sequence)));
        }
        assert_eq!(ring.len(), 100);
        assert!(ring.find(ExchangeId { process: 1, sequence: 0 }).is_some());
        let newest = ring.newest(3, |_| true);
        assert_eq!(newest.iter().map(|record| record.id.sequence).collect::<Vec<_>>(), [9999, 9998, 9997]);
        assert_eq!(ring.newest(10, |record| record.cause == Some(Cause::BackendTlsFailed)).len(), 1);
    }

    #[test]
    fn two_noisy_causes_share_the_room() {
        let mut ring = Ring::new(10);
        for sequence in 0..100 {
            let cause = if sequence < 90 { Cause::ClientAborted } else { Cause::BackendQueueFull };
            ring.keep(Record::of(&failed(sequence, cause, sequence)));
        }
        let of = |cause| ring.newest(100, |record| record.cause == Some(cause)).len();
        assert_eq!((of(Cause::ClientAborted), of(Cause::BackendQueueFull)), (5, 5));
    }

    #[test]
    fn less_room_after_a_reload_lets_go_of_the_rest() {
        let mut ring = Ring::new(10);
        for sequence in 0..10 {
            ring.keep(Record::of(&failed(sequence, Cause::ClientAborted, sequence)));
        }
        ring.set_room(2);
        assert_eq!(ring.len(), 2);
        ring.set_room(0);
        assert!(ring.is_empty());
        ring.keep(Record::of(&failed(10, Cause::ClientAborted, 10)));
        assert!(ring.is_empty());
    }

    #[test]
    fn of_a_flood_a_few_of_each_cause_are_kept_each_second() {
        let most = limits::KEPT_A_SECOND.value as usize;
        let mut sampler = Sampler::default();
        let mut kept = |cause, from_ms: u64, count: u64| {
            (0..count).filter(|n| sampler.keeps(&failed(*n, cause, from_ms + n / 100))).count()
        };
        assert_eq!(kept(Cause::BackendConnectRefused, 1000, 50_000), most);
        assert_eq!(kept(Cause::BackendTlsFailed, 1500, 3), 3, "the other causes have their own places");
        assert_eq!(kept(Cause::BackendConnectRefused, 2600, 50_000), most, "a second later there is room again");
    }
}
