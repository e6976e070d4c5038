//! The events of the node, for whoever reads them later or follows them live.
//!
//! The control thread puts each event in and goes on; readers take what they have not seen, at their own pace. Nobody has a
//! queue of their own: a reader that is too slow finds a gap and is told how many it missed. A channel for each reader lost,
//! since its length would have to be paid for by each, and the control thread would fill them all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evenkeel_model::event::Event;
use evenkeel_model::limits;
use tokio::sync::watch;

/// Cheap to copy.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    last: u64,
}

/// What a reader had not seen.
#[derive(Debug)]
pub struct News {
    /// Events that were there and are no longer kept.
    pub missed: u64,
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed(Arc::new(Shared { kept: Mutex::default(), last: watch::Sender::new(0) }))
    }
}

impl Feed {
    pub fn put(&self, event: &Event) {
        let event = Arc::new(event.clone());
        let last = {
            let mut kept = self.kept();
            kept.last = event.seq;
            if kept.events.len() as u64 == limits::RECENT_EVENTS.value {
                kept.events.pop_front();
            }
            let seq = event.seq;
            kept.events.push_back(event);
            seq
        };
        self.0.last.send_replace(last);
    }

    /// At most `most` of those behind number `seq`. A number that is not given out yet is of an earlier process, and is
    /// answered with everything.
    pub fn after(&self, seq: u64, most: usize) -> News {
        let kept = self.kept();
        let seq = if seq > kept.last { 0 } else { seq };
        let first = kept.events.front().map_or(kept.last + 1, |first| first.seq);
        let missed = if seq == 0 { 0 } else { first.saturating_sub(seq + 1) };
        let skipped = usize::try_from((seq + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        News { missed, events: kept.events.iter().skip(skipped).take(most).cloned().collect() }
    }

    /// The latest, oldest first.
    pub fn latest(&self, most: usize) -> Vec<Arc<Event>> {
        let kept = self.kept();
        let skipped = kept.events.len().saturating_sub(most);
        kept.events.iter().skip(skipped).cloned().collect()
    }

    pub fn last(&self) -> u64 {
        self.kept().last
    }

    /// Changes with each event; it holds the number of the last one.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::Instant;
    use evenkeel_model::event::{Voids, What};

    fn feed(count: u64) -> Feed {
        let feed = Feed::default();
        for seq in 1..=count {
            feed.put(&Event { seq, at: Instant::START, what: What::ProbesVoid(Voids::default()) });
        }
        feed
    }

    fn numbers(news: &News) -> (u64, Option<u64>, Option<u64>) {
        (news.missed, news.events.first().map(|first| first.seq), news.events.last().map(|last| last.seq))
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_and_hears_how_many_it_missed() {
        let kept = limits::RECENT_EVENTS.value;
        let few = feed(3);
        assert_eq!(numbers(&few.after(0, 10)), (0, Some(1), Some(3)));
        assert_eq!(numbers(&few.after(1, 1)), (0, Some(2), Some(2)));
        assert_eq!(numbers(&few.after(3, 10)), (0, None, None));
        let many = feed(kept + 50);
        assert_eq!(numbers(&many.after(50, 10)), (0, Some(51), Some(60)));
        assert_eq!(numbers(&many.after(40, 10)), (10, Some(51), Some(60)));
        // Who begins has missed nothing.
        assert_eq!(numbers(&many.after(0, 10)), (0, Some(51), Some(60)));
        assert_eq!(many.latest(2).first().map(|first| first.seq), Some(kept + 49));
    }

    #[test]
    fn a_number_of_an_earlier_process_is_answered_with_everything() {
        assert_eq!(numbers(&feed(3).after(900, 10)), (0, Some(1), Some(3)));
        assert_eq!(numbers(&feed(0).after(u64::MAX, 10)), (0, None, None));
    }
}
