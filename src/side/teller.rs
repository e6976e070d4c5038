//! Decides what a hook is told next, when it is tried again, and which events it never hears of.
//!
//! One event at a time and in their order: a receiver that hears of a recovery before the failure would page somebody for a backend
//! that is well. One that does not answer is tried again, with longer and longer waits, and each event only so often; otherwise one that
//! the receiver cannot digest would stand before all others for ever.
//!
//! ```text
//!            happened                     told, queue empty
//!  idle ───────────────► telling ──────────────────────────► idle
//!                        │    ▲ ▲ told, more in the queue │
//!                 failed │    │ └─────────────────────────┘
//!                        ▼    │ the time has come
//!                       waiting
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::event::{Beside, Lost};
use evenkeel_model::{Instant, limits};

const QUEUE: usize = limits::HOOK_QUEUE.value as usize;
const TRIES: u32 = limits::HOOK_TRIES.value as u32;
const WAIT: Duration = Duration::from_secs(limits::HOOK_WAIT.value);
const WAIT_MAX: Duration = Duration::from_secs(limits::HOOK_WAIT_MAX.value);

/// An event on its way to hooks.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// Of the event: `backend.unhealthy`.
    pub name: &'static str,
    /// The event as JSON.
    pub json: String,
    /// What a command finds in its environment.
    pub pool: String,
    pub backend: std::net::SocketAddr,
}

#[derive(Debug)]
pub struct Teller {
    /// How the hook is called in events.
    name: Arc<str>,
    /// Being told, or waiting for it: the first in the queue is the one of the state.
    queue: VecDeque<Arc<News>>,
    state: State,
    /// Of the first in the queue.
    tries: u32,
    /// Failures since the last success.
    failures: u32,
    /// Events lost since the last success.
    lost: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Idle,
    Telling,
    Waiting { until: Instant },
}

#[derive(Debug)]
pub enum Event {
    Happened(Arc<News>),
    Told,
    Failed { why: Arc<str> },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Answer with [`Event::Told`] or [`Event::Failed`].
    Tell(Arc<News>),
    Note(Beside),
}

impl Teller {
    pub fn new(name: Arc<str>) -> Self {
        Teller {
            name,
            queue: VecDeque::new(),
            state: State::Idle,
            tries: 0,
            failures: 0,
            lost: 0,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Happened(news) => self.happened(news),
            Event::Told => self.told(),
            Event::Failed { why } => self.failed(why, now),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            self.tell();
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Idle | State::Telling => None,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether it waits for an answer, which at the end is worth a moment's patience.
    pub fn is_telling(&self) -> bool {
        self.state == State::Telling
    }

    fn happened(&mut self, news: Arc<News>) {
        self.queue.push_back(news);
        if self.queue.len() > QUEUE {
            // The first one may be on its way, and is heard of then.
            let oldest = usize::from(self.state != State::Idle);
            let gone = self.queue.remove(oldest).expect("a full queue has more than one");
            self.lose(&gone, Lost::Crowded(QUEUE));
        }
        if self.state == State::Idle {
            self.tell();
        }
    }

    fn told(&mut self) {
        self.queue.pop_front();
        self.tries = 0;
        let lost = std::mem::take(&mut self.lost);
        if std::mem::take(&mut self.failures) > 0 || lost > 0 {
            self.outputs.push_back(Output::Note(Beside::HookRecovered { hook: Arc::clone(&self.name), lost }));
        }
        self.tell();
    }

    fn failed(&mut self, why: Arc<str>, now: Instant) {
        if self.failures == 0 {
            self.outputs.push_back(Output::Note(Beside::HookFailed { hook: Arc::clone(&self.name), why }));
        }
        let wait = WAIT.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.tries += 1;
        if self.tries == TRIES {
            self.tries = 0;
            if let Some(gone) = self.queue.pop_front() {
                self.lose(&gone, Lost::Tried(TRIES));
            }
        }
        self.state = if self.queue.is_empty() { State::Idle } else { State::Waiting { until: now + wait } };
    }

    fn lose(&mut self, gone: &News, why: Lost) {
        self.lost += 1;
        if self.lost == 1 {
            let lost = Beside::HookLost { hook: Arc::clone(&self.name), event: gone.name, why };
            self.outputs.push_back(Output::Note(lost));
        }
    }

    fn tell(&mut self) {
        match self.queue.front() {
            Some(news) => {
                self.outputs.push_back(Output::Tell(Arc::clone(news)));
                self.state = State::Telling;
            }
            None => self.state = State::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(number: usize) -> Arc<News> {
        let backend = "10.0.0.1:80".parse().expect("an address");
        Arc::new(News { name: "backend.unhealthy", json: number.to_string(), pool: "web".to_owned(), backend })
    }

    /// A teller and what it did, in words.
    struct Story {
        teller: Teller,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            Story { teller: Teller::new("hook".into()), now: Instant::START }
        }

        fn handle(&mut self, event: Event) -> Vec<String> {
            self.teller.handle(event, self.now);
            self.outputs()
        }

        fn happens(&mut self, number: usize) -> Vec<String> {
            self.handle(Event::Happened(news(number)))
        }

        fn fails(&mut self) -> Vec<String> {
            self.handle(Event::Failed { why: "refused".into() })
        }

        /// To the moment it waits for; says how long that was.
        fn wait(&mut self) -> (u64, Vec<String>) {
            let until = self.teller.poll_timeout().expect("it waits");
            let waited = until.since(self.now).as_secs();
            self.now = until;
            self.teller.handle_timeout(self.now);
            (waited, self.outputs())
        }

        fn outputs(&mut self) -> Vec<String> {
            let outputs = std::iter::from_fn(|| self.teller.poll_output());
            let words = outputs.map(|output| match output {
                Output::Tell(news) => format!("tell {}", news.json),
                Output::Note(beside) => beside.name().to_owned(),
            });
            words.collect()
        }
    }

    #[test]
    fn events_are_told_one_at_a_time_and_in_their_order() {
        let mut story = Story::new();
        assert_eq!(story.happens(1), ["tell 1"]);
        assert!(story.happens(2).is_empty());
        assert!(story.happens(3).is_empty());
        assert_eq!(story.handle(Event::Told), ["tell 2"]);
        assert_eq!(story.handle(Event::Told), ["tell 3"]);
        assert!(story.handle(Event::Told).is_empty());
        assert_eq!(story.happens(4), ["tell 4"]);
    }

    #[test]
    fn a_failure_is_noted_once_and_tried_again_with_longer_waits_until_the_event_is_given_up() {
        let mut story = Story::new();
        story.happens(1);
        story.happens(2);
        assert_eq!(story.fails(), ["hook.failed"]);
        assert_eq!(story.wait(), (1, vec!["tell 1".to_owned()]));
        assert!(story.fails().is_empty());
        assert_eq!(story.wait(), (2, vec!["tell 1".to_owned()]));
        assert!(story.fails().is_empty());
        assert_eq!(story.wait(), (4, vec!["tell 1".to_owned()]));
        assert_eq!(story.fails(), ["hook.lost"]);
        assert_eq!(story.wait(), (8, vec!["tell 2".to_owned()]));
        assert_eq!(story.handle(Event::Told), ["hook.recovered"]);
    }

    #[test]
    fn waits_stop_growing_and_nothing_is_told_before_they_end() {
        let mut story = Story::new();
        for number in 0..20 {
            story.happens(number);
        }
        let mut longest = 0;
        for _ in 0..40 {
            story.fails();
            assert!(story.happens(99).is_empty());
            story.teller.handle_timeout(story.now);
            assert!(story.outputs().is_empty());
            longest = story.wait().0.max(longest);
        }
        assert_eq!(longest, limits::HOOK_WAIT_MAX.value);
    }

    #[test]
    fn with_a_full_queue_the_oldest_that_is_not_on_its_way_is_lost_and_counted() {
        let mut story = Story::new();
        for number in 0..QUEUE {
            story.happens(number);
        }
        assert_eq!(story.happens(QUEUE), ["hook.lost"]);
        assert!(story.happens(QUEUE + 1).is_empty(), "noted once");
        assert_eq!(story.teller.lost, 2);
        assert_eq!(story.handle(Event::Told), ["hook.recovered", "tell 3"]);
    }

    #[test]
    fn a_hook_that_lost_its_only_event_is_idle_and_hears_of_the_next_at_once() {
        let mut story = Story::new();
        story.happens(1);
        for _ in 1..TRIES {
            story.fails();
            story.wait();
        }
        assert_eq!(story.fails(), ["hook.lost"]);
        assert_eq!(story.teller.poll_timeout(), None);
        assert_eq!(story.happens(2), ["tell 2"]);
    }
}
