//! Decides when a name of backends is asked again, and what it stands for.
//!
//! The last good answer is kept when there is none: not only when no server answers, but also when one says that the name does not exist
//! or has no records. A zone that was emptied by mistake must not take a site down, and who wants a backend gone can say so in the
//! config. It is told as an event, once.
//!
//! Answers are kept sorted, so that a server which turns them round, as most do, changes nothing.
//!
//! ```text
//!            asked                answered: its TTL, within bounds
//!   wanted ───────► asking ─────────────────────────────────────► resting
//!                   ▲   │         failed: a wait that doubles        │
//!                   │   └───────────────────────────────────────────►│
//!                   └────────────────────────────────────────────────┘ the time has come
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::event::Beside;
use evenkeel_model::{Instant, limits};
use evenkeel_plan::{Answer, NameAsked, Resolved, Resolver};

const WAIT: Duration = Duration::from_secs(limits::NAME_RETRY.value);
const WAIT_MAX: Duration = Duration::from_secs(limits::NAME_RETRY_MAX.value);

#[derive(Debug, Default)]
pub struct Names {
    entries: BTreeMap<NameAsked, Entry>,
    min_ttl: Duration,
    max_ttl: Duration,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Entry {
    /// The last good ones, sorted; empty before the first.
    answers: Vec<Answer>,
    state: State,
    /// Since the last answer.
    failures: u32,
    failing_since: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Asking,
    Resting { until: Instant },
}

#[derive(Debug)]
pub enum Event {
    /// A plan wants these names, and was compiled with these answers.
    Wanted {
        names: Vec<NameAsked>,
        known: Resolved,
        resolver: Resolver,
    },
    Answered {
        name: NameAsked,
        found: Found,
    },
    Failed {
        name: NameAsked,
        why: Arc<str>,
    },
}

/// What name servers said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one.
    pub answers: Vec<Answer>,
    /// Of the record that ends first.
    pub ttl: Duration,
    pub lacks: Lacks,
}

/// What could not be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacks {
    Nothing,
    /// Addresses of one kind; those that were known of it stay.
    V4,
    V6,
    /// The addresses of a name that an SRV record names. Before there is a good answer a part of one is better than none.
    Targets {
        why: Arc<str>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Answer with [`Event::Answered`] or [`Event::Failed`].
    Ask(NameAsked),
    /// What names stand for is another than before, see [`Names::resolved`].
    Changed,
    Note(Beside),
}

impl Names {
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Wanted { names, known, resolver } => self.wanted(names, &known, &resolver, now),
            Event::Answered { name, found } => self.answered(&name, found, now),
            Event::Failed { name, why } => self.failed(&name, why, now),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for (name, entry) in &mut self.entries {
            if matches!(entry.state, State::Resting { until } if until <= now) {
                entry.state = State::Asking;
                self.outputs.push_back(Output::Ask(name.clone()));
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let rests = self.entries.values().filter_map(|entry| match entry.state {
            State::Resting { until } => Some(until),
            State::Asking => None,
        });
        rests.min()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What the names stand for now. One that never had an answer is not among them.
    pub fn resolved(&self) -> Resolved {
        let answered = self.entries.iter().filter(|(_, entry)| !entry.answers.is_empty());
        answered.map(|(name, entry)| (name.clone(), entry.answers.clone())).collect()
    }

    fn wanted(&mut self, names: Vec<NameAsked>, known: &Resolved, resolver: &Resolver, now: Instant) {
        (self.min_ttl, self.max_ttl) = (resolver.min_ttl.max(MIN_TTL), resolver.max_ttl.max(resolver.min_ttl));
        self.entries.retain(|name, _| names.contains(name));
        for name in names {
            if self.entries.contains_key(&name) {
                continue;
            }
            let answers = known.get(&name).cloned().unwrap_or_default();
            // It was asked a moment ago. How long that answer holds was not kept, so the shortest time is taken.
            let state = if answers.is_empty() {
                self.outputs.push_back(Output::Ask(name.clone()));
                State::Asking
            } else {
                State::Resting { until: now + self.min_ttl }
            };
            self.entries.insert(name, Entry { answers, state, failures: 0, failing_since: now });
        }
    }

    fn answered(&mut self, name: &NameAsked, found: Found, now: Instant) {
        // A plan that no longer wants it has come in between.
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Found { mut answers, ttl, lacks } = found;
        match lacks {
            Lacks::Nothing => {}
            Lacks::V4 => answers.extend(entry.answers.iter().filter(|answer| answer.address.is_ipv4())),
            Lacks::V6 => answers.extend(entry.answers.iter().filter(|answer| answer.address.is_ipv6())),
            Lacks::Targets { why } if !entry.answers.is_empty() => return self.failed(name, why, now),
            Lacks::Targets { .. } => {}
        }
        answers.sort_unstable();
        // Two records may name one address; the first, of the least weight, stands for it.
        answers.dedup_by_key(|answer| answer.address);
        entry.state = State::Resting { until: now + ttl.clamp(self.min_ttl, self.max_ttl.max(self.min_ttl)) };
        if std::mem::take(&mut entry.failures) > 0 {
            let failed_for = now - entry.failing_since;
            let recovered = Beside::NameRecovered { name: Arc::clone(&name.name), failed_for };
            self.outputs.push_back(Output::Note(recovered));
        }
        if answers == entry.answers {
            return;
        }
        let is_in = |list: &[Answer], answer: &Answer| list.iter().any(|other| other.address == answer.address);
        let added = answers.iter().filter(|answer| !is_in(&entry.answers, answer)).count();
        let removed = entry.answers.iter().filter(|answer| !is_in(&answers, answer)).count();
        let backends = answers.len();
        entry.answers = answers;
        let changed = Beside::NameChanged { name: Arc::clone(&name.name), backends, added, removed };
        self.outputs.push_back(Output::Note(changed));
        self.outputs.push_back(Output::Changed);
    }

    fn failed(&mut self, name: &NameAsked, why: Arc<str>, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.failures == 0 {
            entry.failing_since = now;
            let failed = Beside::NameFailed { name: Arc::clone(&name.name), why, kept: entry.answers.len() };
            self.outputs.push_back(Output::Note(failed));
        }
        let wait = WAIT.saturating_mul(1 << entry.failures.min(16)).min(WAIT_MAX);
        entry.failures = entry.failures.saturating_add(1);
        entry.state = State::Resting { until: now + wait };
    }
}

/// Below every bound that config lets through; a plan made by hand must not make a loop of questions without a pause.
const MIN_TTL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use evenkeel_plan::Records;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> NameAsked {
        NameAsked { name: text.into(), port: Some(80), records: Records::A }
    }

    fn answer(host: u8) -> Answer {
        Answer { address: SocketAddr::from(([10, 0, 0, host], 80)), weight: None }
    }

    fn v6() -> Answer {
        Answer { address: "[2001:db8::1]:80".parse().expect("an address"), weight: None }
    }

    fn resolver() -> Resolver {
        Resolver { servers: Vec::new(), timeout: SECOND, min_ttl: 2 * SECOND, max_ttl: 60 * SECOND }
    }

    struct Story {
        names: Names,
        now: Instant,
    }

    impl Story {
        fn of(wanted: &[&str]) -> Self {
            let mut story = Story { names: Names::default(), now: Instant::START };
            story.wants(wanted, Resolved::new());
            story
        }

        fn wants(&mut self, wanted: &[&str], known: Resolved) -> Vec<String> {
            let names = wanted.iter().map(|text| name(text)).collect();
            self.handle(Event::Wanted { names, known, resolver: resolver() })
        }

        fn handle(&mut self, event: Event) -> Vec<String> {
            self.names.handle(event, self.now);
            let outputs = std::iter::from_fn(|| self.names.poll_output());
            let words = outputs.map(|output| match output {
                Output::Ask(name) => format!("ask {}", name.name),
                Output::Changed => "changed".to_owned(),
                Output::Note(beside) => beside.name().to_owned(),
            });
            words.collect()
        }

        fn finds(&mut self, answers: &[Answer], ttl: u64, lacks: Lacks) -> Vec<String> {
            let found = Found { answers: answers.to_vec(), ttl: Duration::from_secs(ttl), lacks };
            self.handle(Event::Answered { name: name("app"), found })
        }

        fn fails(&mut self) -> Vec<String> {
            self.handle(Event::Failed { name: name("app"), why: "NXDOMAIN".into() })
        }

        fn rest(&self) -> u64 {
            self.names.poll_timeout().map_or(0, |until| until.since(self.now).as_secs())
        }

        /// To the end of the rest; it asks again then and not before.
        fn wait(&mut self) {
            let until = self.names.poll_timeout().expect("it rests");
            self.names.handle_timeout(Instant::from_nanos(until.as_nanos() - 1));
            assert_eq!(self.names.poll_output(), None);
            self.now = until;
            self.names.handle_timeout(until);
            assert_eq!(self.names.poll_output(), Some(Output::Ask(name("app"))));
            assert_eq!(self.names.poll_output(), None);
        }

        fn hosts(&self) -> Vec<String> {
            let resolved = self.names.resolved();
            let answers = resolved.get(&name("app")).into_iter().flatten();
            answers.map(|answer| answer.address.ip().to_string()).collect()
        }
    }

    #[test]
    fn a_name_is_asked_when_it_is_wanted_and_again_when_its_answer_ends_within_the_bounds() {
        let table = [(0, 2), (1, 2), (30, 30), (86_400, 60)];
        for (ttl, rest) in table {
            let mut story = Story::of(&[]);
            assert_eq!(story.wants(&["app"], Resolved::new()), ["ask app"]);
            assert_eq!(story.finds(&[answer(1)], ttl, Lacks::Nothing), ["name.changed", "changed"]);
            assert_eq!(story.rest(), rest, "a TTL of {ttl}");
            story.wait();
        }
    }

    #[test]
    fn the_order_of_answers_changes_nothing_and_another_answer_does() {
        let mut story = Story::of(&["app"]);
        story.finds(&[answer(2), answer(1)], 5, Lacks::Nothing);
        assert_eq!(story.hosts(), ["10.0.0.1", "10.0.0.2"]);
        story.wait();
        assert!(story.finds(&[answer(1), answer(2), answer(1)], 5, Lacks::Nothing).is_empty());
        story.wait();
        assert_eq!(story.finds(&[answer(3), answer(2)], 5, Lacks::Nothing), ["name.changed", "changed"]);
        assert_eq!(story.hosts(), ["10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn a_changed_weight_is_a_change() {
        let mut story = Story::of(&["app"]);
        story.finds(&[answer(1)], 5, Lacks::Nothing);
        story.wait();
        let heavier = Answer { weight: Some(50), ..answer(1) };
        assert_eq!(story.finds(&[heavier], 5, Lacks::Nothing), ["name.changed", "changed"]);
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_is_told_once_and_tried_again_with_longer_waits() {
        let mut story = Story::of(&["app"]);
        story.finds(&[answer(1)], 5, Lacks::Nothing);
        story.wait();
        assert_eq!(story.fails(), ["name.failed"]);
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(story.rest(), wait);
            story.wait();
            assert!(story.fails().is_empty());
            assert_eq!(story.hosts(), ["10.0.0.1"]);
        }
        story.wait();
        assert_eq!(story.finds(&[answer(1)], 5, Lacks::Nothing), ["name.recovered"]);
        story.wait();
        assert_eq!(story.fails(), ["name.failed"], "told anew");
        assert_eq!(story.rest(), 1);
    }

    #[test]
    fn a_name_that_never_had_an_answer_stands_for_nothing_until_it_has() {
        let mut story = Story::of(&["app"]);
        assert_eq!(story.fails(), ["name.failed"]);
        assert!(story.names.resolved().is_empty());
        story.wait();
        assert_eq!(story.finds(&[answer(1)], 5, Lacks::Nothing), ["name.recovered", "name.changed", "changed"]);
    }

    #[test]
    fn addresses_of_a_kind_that_could_not_be_asked_for_stay() {
        let mut story = Story::of(&["app"]);
        story.finds(&[answer(1), v6()], 5, Lacks::Nothing);
        story.wait();
        assert_eq!(story.finds(&[answer(2)], 5, Lacks::V6), ["name.changed", "changed"]);
        assert_eq!(story.hosts(), ["10.0.0.2", "2001:db8::1"]);
        story.wait();
        assert!(story.finds(&[v6()], 5, Lacks::V4).is_empty());
        story.wait();
        assert_eq!(story.finds(&[v6()], 5, Lacks::Nothing), ["name.changed", "changed"]);
    }

    #[test]
    fn a_part_of_the_targets_counts_only_while_there_is_nothing_better() {
        let lacks = || Lacks::Targets { why: "timed out".into() };
        let mut story = Story::of(&["app"]);
        assert_eq!(story.finds(&[answer(1)], 5, lacks()), ["name.changed", "changed"]);
        story.wait();
        assert_eq!(story.finds(&[answer(2)], 5, lacks()), ["name.failed"]);
        assert_eq!(story.hosts(), ["10.0.0.1"]);
    }

    #[test]
    fn a_reload_keeps_the_answers_of_the_names_that_stay_and_takes_those_that_came_with_it() {
        let mut story = Story::of(&["app", "gone"]);
        story.finds(&[answer(1)], 5, Lacks::Nothing);
        let known = Resolved::from([(name("app"), vec![answer(9)]), (name("new"), vec![answer(7)])]);
        assert!(story.wants(&["app", "new"], known).is_empty(), "both have an answer");
        assert_eq!(story.hosts(), ["10.0.0.1"]);
        let resolved = story.names.resolved();
        assert_eq!(resolved.keys().map(|name| &*name.name).collect::<Vec<_>>(), ["app", "new"]);
        assert_eq!(story.rest(), 2, "the shortest time, since nobody knows how long it holds");
        // An answer to a question of before.
        let found = Found { answers: vec![answer(3)], ttl: SECOND, lacks: Lacks::Nothing };
        assert!(story.handle(Event::Answered { name: name("gone"), found }).is_empty());
        assert!(story.handle(Event::Failed { name: name("gone"), why: "late".into() }).is_empty());
    }
}
