//! Decides when the state file is written.
//!
//! At once when an operator gave an order, since whoever gave it was told that it is kept. Every few seconds if something has changed that matters at a restart: a verdict, an order, an ejection. Else now and then, for a
//! verdict counts less the longer nobody has looked; counts and the age of the last probe change all the time and are no reason of
//! their own. And once more at the end. One writing at a time: on a disk that stalls they would pile up.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::Memory;
use evenkeel_model::event::Beside;
use evenkeel_model::{Instant, limits};
use evenkeel_plan::StateFile;

const INTERVAL: Duration = Duration::from_secs(limits::STATE_INTERVAL.value);
const REFRESH: Duration = Duration::from_secs(limits::STATE_REFRESH.value);

#[derive(Debug, Default)]
pub struct Keeper {
    file: Option<StateFile>,
    state: State,
    /// What was written last, and when.
    written: Option<(u64, Instant)>,
    failing: bool,
    /// An order was given after what is being written was looked at.
    hurried: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// There is nothing to write to, or there was.
    #[default]
    Idle,
    Resting {
        until: Instant,
    },
    /// What there is to remember was asked for.
    Looking(When),
    Writing(When),
    /// The last writing is done.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Meanwhile,
    /// The end was told of: this one is followed by the last.
    BeforeLast,
    Last,
}

#[derive(Debug)]
pub enum Event {
    /// A plan has this file, or none.
    Wanted(Option<StateFile>),
    /// Somebody else's file lies there: nothing is written in its place.
    Forbidden(Arc<str>),
    Remembered(Memory),
    Written,
    Failed(Arc<str>),
    /// An operator gave an order.
    Operated,
    /// The node ends.
    Ending,
}

#[derive(Debug, PartialEq)]
pub enum Output {
    /// Find out whether the file may be replaced; only a refusal is answered, by [`Event::Forbidden`].
    Examine(PathBuf),
    /// Answer with [`Event::Remembered`].
    Look,
    /// Answer with [`Event::Written`] or [`Event::Failed`].
    Write(PathBuf, Memory),
    Note(Beside),
}

impl Keeper {
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Wanted(file) => self.wanted(file, now),
            Event::Forbidden(why) => {
                let why = format!("{why}; nothing is kept until a restart, or a reload with another file").into();
                self.note(|path| Beside::StateIgnored { path, why });
                self.file = None;
                self.state = State::Idle;
            }
            Event::Remembered(memory) => self.remembered(memory, now),
            Event::Written => {
                if std::mem::take(&mut self.failing) {
                    self.note(|path| Beside::StateRecovered { path });
                }
                self.ended(now);
            }
            Event::Failed(why) => {
                self.written = None;
                if !std::mem::replace(&mut self.failing, true) {
                    self.note(|path| Beside::StateFailed { path, why });
                }
                self.ended(now);
            }
            Event::Operated => match self.state {
                State::Resting { .. } => self.look(When::Meanwhile),
                State::Looking(_) | State::Writing(_) => self.hurried = true,
                State::Idle | State::Over => {}
            },
            Event::Ending => match self.state {
                State::Idle => self.state = State::Over,
                State::Resting { .. } => self.look(When::Last),
                State::Looking(_) => self.state = State::Looking(When::Last),
                State::Writing(_) => self.state = State::Writing(When::BeforeLast),
                State::Over => {}
            },
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Resting { until } if until <= now) {
            self.look(When::Meanwhile);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Idle | State::Looking(_) | State::Writing(_) | State::Over => None,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether what was known at the end is written, or cannot be.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn wanted(&mut self, file: Option<StateFile>, now: Instant) {
        let same = self.file.as_ref().map(|file| &file.path) == file.as_ref().map(|file| &file.path);
        self.file = file;
        if same {
            return;
        }
        (self.written, self.failing) = (None, false);
        match (&self.file, &self.state) {
            (_, State::Over) => {}
            // The end of what is under way finds the new one, or none.
            (Some(file), State::Looking(_) | State::Writing(_)) => {
                self.outputs.push_back(Output::Examine(file.path.clone()));
            }
            (None, State::Looking(_) | State::Writing(_)) => {}
            (Some(file), State::Idle | State::Resting { .. }) => {
                self.outputs.push_back(Output::Examine(file.path.clone()));
                self.state = State::Resting { until: now + INTERVAL };
            }
            (None, State::Idle | State::Resting { .. }) => self.state = State::Idle,
        }
    }

    fn look(&mut self, when: When) {
        self.state = State::Looking(when);
        self.outputs.push_back(Output::Look);
    }

    fn remembered(&mut self, memory: Memory, now: Instant) {
        let State::Looking(when) = self.state else { return };
        let Some(file) = &self.file else { return self.rest(when, now) };
        let gist = gist(&memory, now);
        // However short the ages are that still count, a few writings fall within.
        let refresh = REFRESH.min(file.max_age / 4);
        let is_fresh = self.written.is_some_and(|(written, at)| written == gist && now - at < refresh);
        if is_fresh && when == When::Meanwhile {
            return self.rest(when, now);
        }
        self.written = Some((gist, now));
        self.outputs.push_back(Output::Write(file.path.clone(), memory));
        self.state = State::Writing(when);
    }

    fn ended(&mut self, now: Instant) {
        let State::Writing(when) = self.state else { return };
        self.rest(when, now);
    }

    fn rest(&mut self, when: When, now: Instant) {
        match when {
            When::Last => self.state = State::Over,
            When::BeforeLast => self.look(When::Last),
            When::Meanwhile if self.file.is_none() => self.state = State::Idle,
            // A disk that fails is not hurried.
            When::Meanwhile if std::mem::take(&mut self.hurried) && !self.failing => self.look(When::Meanwhile),
            When::Meanwhile => self.state = State::Resting { until: now + INTERVAL },
        }
    }

    fn note(&mut self, beside: impl FnOnce(Arc<str>) -> Beside) {
        if let Some(file) = &self.file {
            let path = file.path.display().to_string().into();
            self.outputs.push_back(Output::Note(beside(path)));
        }
    }
}

/// The same as long as nothing happens: moments instead of ages, and nothing that each probe moves.
fn gist(memory: &Memory, now: Instant) -> u64 {
    let mut hasher = DefaultHasher::new();
    let before = |age: Duration| now.as_nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
    for backend in &memory.backends {
        (&backend.pool, backend.address).hash(&mut hasher);
        let order = backend
            .order
            .as_ref()
            .map(|it| (it.order, &it.by, before(it.held_for), it.left.map(|left| (now + left).as_nanos()), it.kept));
        let weight = backend.weight.as_ref().map(|it| (it.weight, &it.by, before(it.held_for), it.kept));
        (order, weight).hash(&mut hasher);
        let until = backend.ejected_for.map(|left| (now + left).as_nanos());
        (backend.climbed.is_some(), until, backend.ejections).hash(&mut hasher);
        for check in &backend.checks {
            (&check.name, check.verdict, before(check.held_for), check.word).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use evenkeel_control::memory::{BackendMemory, CheckMemory};
    use evenkeel_model::standing::Verdict;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a node knows at `now` of a backend that turned to `verdict` at second 1 and is probed all the time.
    fn memory(verdict: Verdict, now: Instant) -> Memory {
        let check = CheckMemory {
            name: "http".into(),
            verdict,
            held_for: now - (Instant::START + SECOND),
            heard: Some(Duration::from_millis(now.as_nanos() % 997)),
            counts: evenkeel_health::judge::Counts { passed: now.as_nanos() / 1000, ..Default::default() },
            word: None,
        };
        let backend = BackendMemory {
            pool: "web".into(),
            address: "10.0.0.1:80".parse().expect("an address"),
            order: None,
            weight: None,
            climbed: None,
            ejected_for: None,
            ejections: 0,
            checks: vec![check],
        };
        Memory { age: Duration::ZERO, backends: vec![backend] }
    }

    struct Story {
        keeper: Keeper,
        now: Instant,
    }

    impl Story {
        fn begin() -> Self {
            let mut story = Story { keeper: Keeper::default(), now: Instant::START + 10 * SECOND };
            assert_eq!(story.handle(Event::Wanted(Some(file("/state")))), ["examine /state"]);
            story
        }

        fn handle(&mut self, event: Event) -> Vec<String> {
            self.keeper.handle(event, self.now);
            self.outputs()
        }

        fn outputs(&mut self) -> Vec<String> {
            let outputs = std::iter::from_fn(|| self.keeper.poll_output());
            let words = outputs.map(|output| match output {
                Output::Examine(path) => format!("examine {}", path.display()),
                Output::Look => "look".to_owned(),
                Output::Write(path, _) => format!("write {}", path.display()),
                Output::Note(beside) => beside.name().to_owned(),
            });
            words.collect()
        }

        fn remembers(&mut self, verdict: Verdict) -> Vec<String> {
            let memory = memory(verdict, self.now);
            self.handle(Event::Remembered(memory))
        }

        /// One interval on, where it looks.
        fn wait(&mut self) {
            self.now = self.keeper.poll_timeout().expect("it rests");
            self.keeper.handle_timeout(self.now);
            assert_eq!(self.outputs(), ["look"]);
        }
    }

    fn file(path: &str) -> StateFile {
        StateFile { path: path.into(), max_age: 600 * SECOND }
    }

    #[test]
    fn it_is_written_when_a_verdict_changed_and_now_and_then_when_none_did() {
        let mut story = Story::begin();
        story.wait();
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
        assert!(story.handle(Event::Written).is_empty());
        let written = story.now;
        loop {
            story.wait();
            if !story.remembers(Verdict::Healthy).is_empty() {
                break;
            }
        }
        assert_eq!(story.now - written, REFRESH, "probes alone are no reason");
        story.handle(Event::Written);
        story.wait();
        assert_eq!(story.remembers(Verdict::Unhealthy), ["write /state"]);
    }

    #[test]
    fn an_order_is_written_at_once_and_one_that_comes_meanwhile_right_after() {
        let mut story = Story::begin();
        assert_eq!(story.handle(Event::Operated), ["look"]);
        assert!(story.handle(Event::Operated).is_empty(), "one look at a time");
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
        assert_eq!(story.handle(Event::Written), ["look"], "the second order may have come after the look");
        assert!(story.remembers(Verdict::Healthy).is_empty(), "and it had not");
        assert!(story.keeper.poll_timeout().is_some_and(|at| at > story.now), "it rests");
    }

    #[test]
    fn orders_do_not_hurry_a_disk_that_fails() {
        let mut story = Story::begin();
        story.handle(Event::Operated);
        story.remembers(Verdict::Healthy);
        story.handle(Event::Operated);
        assert_eq!(story.handle(Event::Failed("full".into())), ["state.failed"]);
        story.wait();
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
    }

    #[test]
    fn a_disk_that_fails_is_told_of_once_and_tried_again() {
        let mut story = Story::begin();
        story.wait();
        story.remembers(Verdict::Healthy);
        assert_eq!(story.handle(Event::Failed("full".into())), ["state.failed"]);
        story.wait();
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"], "what was not written is written");
        assert!(story.handle(Event::Failed("full".into())).is_empty());
        story.wait();
        story.remembers(Verdict::Healthy);
        assert_eq!(story.handle(Event::Written), ["state.recovered"]);
    }

    #[test]
    fn at_the_end_it_is_written_once_more_whatever_was_under_way() {
        // Resting.
        let mut story = Story::begin();
        assert_eq!(story.handle(Event::Ending), ["look"]);
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
        assert!(!story.keeper.is_over());
        story.handle(Event::Written);
        assert!(story.keeper.is_over());
        // Looking.
        let mut story = Story::begin();
        story.wait();
        assert!(story.handle(Event::Ending).is_empty());
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
        story.handle(Event::Failed("full".into()));
        assert!(story.keeper.is_over());
        // Writing: that one may lack the last change.
        let mut story = Story::begin();
        story.wait();
        story.remembers(Verdict::Healthy);
        assert!(story.handle(Event::Ending).is_empty());
        assert_eq!(story.handle(Event::Written), ["look"]);
        assert_eq!(story.remembers(Verdict::Healthy), ["write /state"]);
        story.handle(Event::Written);
        assert!(story.keeper.is_over());
        // Nothing to write to.
        let mut keeper = Keeper::default();
        keeper.handle(Event::Ending, Instant::START);
        assert!(keeper.is_over());
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let mut story = Story::begin();
        assert_eq!(story.handle(Event::Forbidden("no state file".into())), ["state.ignored"]);
        assert_eq!(story.keeper.poll_timeout(), None);
        story.handle(Event::Ending);
        assert!(story.keeper.is_over());
    }

    #[test]
    fn a_reload_moves_the_file_or_ends_it() {
        let mut story = Story::begin();
        story.wait();
        assert!(story.handle(Event::Wanted(Some(file("/state")))).is_empty(), "the same");
        story.remembers(Verdict::Healthy);
        story.handle(Event::Written);
        assert_eq!(story.handle(Event::Wanted(Some(file("/other")))), ["examine /other"]);
        story.wait();
        assert_eq!(story.remembers(Verdict::Healthy), ["write /other"]);
        assert!(story.handle(Event::Wanted(None)).is_empty());
        story.handle(Event::Written);
        assert_eq!(story.keeper.poll_timeout(), None);
    }
}
