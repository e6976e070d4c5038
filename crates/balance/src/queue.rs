//! Who waits for a backend that is at its limit, and whose turn it is.
//!
//! First come, first served, with one exception: a request that only one backend will do for does not hold up
//! those behind it that any other will do for. Bounded, and each wait has an end.
//!
//! The limits are counted over all workers, but a queue belongs to one. When work ends on another worker nobody
//! tells this one, since a message for each ending would cost every request of a busy pool something; instead the queue asks
//! to be looked at again every few milliseconds while it holds anybody.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_model::{Instant, limits};

const LOOK_AGAIN: Duration = Duration::from_millis(limits::QUEUE_LOOK.value);

/// `K` is what the caller knows a request by, `W` what it waits for.
#[derive(Clone, Debug)]
pub struct Queue<K, W> {
    waiting: VecDeque<Place<K, W>>,
    /// The earliest of all deadlines.
    earliest: Instant,
    looked: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<K, W> {
    key: K,
    what: W,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken<K> {
    /// There is room for it: ask again now.
    Turn(K),
    /// It has waited to the end of its time.
    TimedOut(K),
}

impl<K, W> Default for Queue<K, W> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), earliest: Instant::NEVER, looked: Instant::START }
    }
}

impl<K: Copy + Eq, W: Copy> Queue<K, W> {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a place at the end. False when `limit` wait already.
    #[must_use = "a request that found no place must be refused"]
    pub fn push(&mut self, key: K, what: W, deadline: Instant, limit: usize) -> bool {
        if self.waiting.len() >= limit {
            return false;
        }
        self.waiting.push_back(Place { key, what, deadline });
        self.earliest = self.earliest.min(deadline);
        true
    }

    /// Takes the place at the front again: it had its turn and somebody of another worker was faster. Beyond the
    /// limit if need be, since it was within it before.
    pub fn push_front(&mut self, key: K, what: W, deadline: Instant) {
        self.waiting.push_front(Place { key, what, deadline });
        self.earliest = self.earliest.min(deadline);
    }

    /// Gives up its place: its client left. False when it had none.
    pub fn remove(&mut self, key: K) -> bool {
        let position = self.waiting.iter().position(|place| place.key == key);
        position.and_then(|position| self.take(position)).is_some()
    }

    /// Who is to be woken, one at a time: those whose time is over, then the first for whom `has_room`. Call until `None`,
    /// whenever work ended and at [`Queue::poll_timeout`].
    pub fn wake(&mut self, now: Instant, has_room: impl FnMut(&W) -> bool) -> Option<Woken<K>> {
        if self.earliest <= now
            && let Some(position) = self.waiting.iter().position(|place| place.deadline <= now)
        {
            return self.take(position).map(|place| Woken::TimedOut(place.key));
        }
        self.looked = now;
        let mut has_room = has_room;
        let position = self.waiting.iter().position(|place| has_room(&place.what))?;
        self.take(position).map(|place| Woken::Turn(place.key))
    }

    /// Whether somebody in it could go now: then whoever comes new has to stand behind.
    pub fn has_turn(&self, has_room: impl FnMut(&W) -> bool) -> bool {
        let mut has_room = has_room;
        self.waiting.iter().any(|place| has_room(&place.what))
    }

    /// When to call [`Queue::wake`] next though nothing has ended here.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.earliest.min(self.looked + LOOK_AGAIN))
    }

    fn take(&mut self, position: usize) -> Option<Place<K, W>> {
        let place = self.waiting.remove(position)?;
        if place.deadline <= self.earliest {
            self.earliest = self.waiting.iter().map(|place| place.deadline).min().unwrap_or(Instant::NEVER);
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn queue_of(places: &[(u32, u64)]) -> Queue<u32, ()> {
        let mut queue = Queue::default();
        for (key, deadline) in places {
            assert!(queue.push(*key, (), at(*deadline), 10));
        }
        queue
    }

    #[test]
    fn turns_come_in_the_order_of_arrival_and_only_while_there_is_room() {
        let mut queue = queue_of(&[(1, 100), (2, 90), (3, 100)]);
        let mut free = 2;
        let mut woken = Vec::new();
        while let Some(one) = queue.wake(at(0), |()| free > 0) {
            free -= 1;
            woken.push(one);
        }
        assert_eq!(woken, [Woken::Turn(1), Woken::Turn(2)]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn whoever_has_waited_long_enough_is_told_before_turns_are_given() {
        let mut queue = queue_of(&[(1, 100), (2, 50), (3, 50)]);
        let mut woken = Vec::new();
        while let Some(one) = queue.wake(at(50), |()| true) {
            woken.push(one);
        }
        assert_eq!(woken, [Woken::TimedOut(2), Woken::TimedOut(3), Woken::Turn(1)]);
        assert_eq!(queue.poll_timeout(), None);
    }

    #[test]
    fn a_full_queue_takes_nobody_but_who_had_a_place_in_it() {
        let mut queue = queue_of(&[(1, 100), (2, 100)]);
        assert!(!queue.push(3, (), at(100), 2));
        assert!(!Queue::default().push(3, (), at(100), 0), "a limit of 0 means no queue");
        assert_eq!(queue.wake(at(1), |()| true), Some(Woken::Turn(1)));
        assert!(queue.push(3, (), at(100), 2));
        // Another worker took the room that 1 was woken for.
        queue.push_front(1, (), at(100));
        assert_eq!((queue.len(), queue.wake(at(2), |()| true)), (3, Some(Woken::Turn(1))));
    }

    #[test]
    fn who_left_is_not_woken_and_its_deadline_is_forgotten() {
        let mut queue = queue_of(&[(1, 3), (2, 100)]);
        assert_eq!(queue.poll_timeout(), Some(at(3)));
        assert!(queue.remove(1) && !queue.remove(1));
        assert_eq!(queue.poll_timeout(), Some(at(5)));
        assert_eq!(queue.wake(at(5), |()| false), None);
        assert_eq!(queue.poll_timeout(), Some(at(10)));
        assert_eq!(queue.wake(at(10), |()| true), Some(Woken::Turn(2)));
    }

    #[test]
    fn one_that_waits_for_a_certain_backend_holds_up_nobody() {
        let mut queue: Queue<u32, Option<u32>> = Queue::default();
        for (key, backend) in [(1, Some(7)), (2, None), (3, Some(8))] {
            assert!(queue.push(key, backend, at(100), 10));
        }
        let room_at_8 = |backend: &Option<u32>| backend.is_none_or(|backend| backend == 8);
        assert_eq!(queue.wake(at(0), room_at_8), Some(Woken::Turn(2)));
        assert_eq!(queue.wake(at(0), room_at_8), Some(Woken::Turn(3)));
        assert_eq!(queue.wake(at(0), room_at_8), None);
    }
}
