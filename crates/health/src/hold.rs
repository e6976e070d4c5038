//! For how long verdicts are kept from turning unhealthy while the node suspects itself.
//!
//! An option, because both ways can be wrong: whoever acts on the suspicion keeps sending clients to backends that may really be
//! dead, whoever does not empties all pools for a fault of its own. So the hold is bounded, and used up it does not
//! come back before the suspicion has been over once.
//!
//! ```text
//!          suspected                   time is up
//!   Idle ------------> Holding { since } ---------> Spent
//!    ^                     | suspicion over           | suspicion over
//!    +---------------------+--------------------------+
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_model::time::Instant;

#[derive(Clone, Debug, Default)]
pub struct Hold {
    /// `None`: nothing is ever held.
    limit: Option<Duration>,
    state: State,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the plan allows.
    Allowed(Option<Duration>),
    Suspected,
    SuspicionOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// From now on no verdict turns unhealthy, for at most so long.
    Began { at_most: Duration },
    /// Verdicts may turn again.
    Ended { lasted: Duration, by: End },
}

/// What becomes of the verdicts that were kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The time is up, and the failures are believed: they turn at once.
    TimeUp,
    /// The suspicion is over, mostly because the network is back. Many have not been probed since, so that for each of
    /// them the next probe decides.
    SuspicionOver,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The node does not suspect itself.
    #[default]
    Idle,
    Holding {
        since: Instant,
    },
    /// It suspects itself, and nothing is held any more.
    Spent,
}

impl Hold {
    pub fn handle(&mut self, event: Event, now: Instant) {
        match (event, self.state) {
            (Event::Allowed(limit), _) => self.limit = limit,
            (Event::Suspected, State::Idle) => self.begin(now),
            (Event::Suspected, State::Holding { .. } | State::Spent) => {}
            (Event::SuspicionOver, State::Holding { since }) => self.end(since, End::SuspicionOver, now),
            (Event::SuspicionOver, State::Idle | State::Spent) => self.state = State::Idle,
        }
        self.handle_timeout(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Holding { since } = self.state
            && self.poll_timeout().is_none_or(|until| until <= now)
        {
            self.end(since, End::TimeUp, now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.state, self.limit) {
            (State::Holding { since }, Some(limit)) => Some(since + limit),
            (State::Holding { .. } | State::Idle | State::Spent, _) => None,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub const fn holds(&self) -> bool {
        matches!(self.state, State::Holding { .. })
    }

    fn begin(&mut self, now: Instant) {
        let Some(at_most) = self.limit else {
            self.state = State::Spent;
            return;
        };
        self.state = State::Holding { since: now };
        self.outputs.push_back(Output::Began { at_most });
    }

    fn end(&mut self, since: Instant, by: End, now: Instant) {
        self.state = match by {
            End::TimeUp => State::Spent,
            End::SuspicionOver => State::Idle,
        };
        self.outputs.push_back(Output::Ended { lasted: now - since, by });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: Duration = Duration::from_secs(30);

    fn at(seconds: u32) -> Instant {
        Instant::START + SECOND * seconds
    }

    fn hold(limit: Option<Duration>) -> Hold {
        let mut hold = Hold::default();
        hold.handle(Event::Allowed(limit), Instant::START);
        hold
    }

    fn told(hold: &mut Hold) -> Vec<Output> {
        std::iter::from_fn(|| hold.poll_output()).collect()
    }

    // Walks every state and every event, time passing included.
    #[test]
    fn every_state_answers_every_event_as_the_table_says() {
        use Event::{Allowed, Suspected, SuspicionOver};
        let (idle, holding, spent) = (State::Idle, State::Holding { since: at(10) }, State::Spent);
        let began = Output::Began { at_most: LIMIT };
        let over = |seconds: u32| Output::Ended { lasted: SECOND * seconds, by: End::SuspicionOver };
        let up = |seconds: u32| Output::Ended { lasted: SECOND * seconds, by: End::TimeUp };
        // state, event (`None`: only time passes), when, next state, what is told
        let table = [
            (idle, Some(Suspected), 10, holding, Some(began)),
            (idle, Some(SuspicionOver), 10, idle, None),
            (idle, Some(Allowed(None)), 10, idle, None),
            (idle, None, 99, idle, None),
            (holding, Some(Suspected), 20, holding, None),
            (holding, Some(SuspicionOver), 20, idle, Some(over(10))),
            (holding, Some(SuspicionOver), 40, idle, Some(over(30))),
            (holding, Some(Allowed(Some(2 * LIMIT))), 20, holding, None),
            (holding, Some(Allowed(Some(SECOND))), 20, spent, Some(up(10))),
            (holding, Some(Allowed(None)), 20, spent, Some(up(10))),
            (holding, None, 39, holding, None),
            (holding, None, 40, spent, Some(up(30))),
            (spent, Some(Suspected), 50, spent, None),
            (spent, Some(SuspicionOver), 50, idle, None),
            (spent, Some(Allowed(Some(2 * LIMIT))), 50, spent, None),
            (spent, None, 99, spent, None),
        ];
        for (state, event, when, next, output) in table {
            let mut hold = Hold { state, ..hold(Some(LIMIT)) };
            match event {
                Some(event) => hold.handle(event, at(when)),
                None => hold.handle_timeout(at(when)),
            }
            assert_eq!((hold.state, told(&mut hold)), (next, Vec::from_iter(output)), "{state:?} {event:?} at {when}");
            assert_eq!(hold.holds(), matches!(next, State::Holding { .. }));
        }
    }

    #[test]
    fn nothing_is_held_where_the_plan_does_not_allow_it() {
        let mut hold = hold(None);
        hold.handle(Event::Suspected, at(1));
        assert_eq!((hold.holds(), hold.poll_timeout(), told(&mut hold)), (false, None, vec![]));
        hold.handle(Event::Allowed(Some(LIMIT)), at(2));
        assert!(!hold.holds(), "allowed in mid-suspicion it waits for the next one");
    }

    #[test]
    fn a_suspicion_that_lasts_is_held_once_and_the_next_one_again() {
        let mut hold = hold(Some(LIMIT));
        hold.handle(Event::Suspected, at(10));
        assert_eq!(hold.poll_timeout(), Some(at(40)));
        hold.handle_timeout(at(40));
        assert_eq!((hold.holds(), hold.poll_timeout()), (false, None));
        hold.handle(Event::SuspicionOver, at(100));
        hold.handle(Event::Suspected, at(101));
        assert!(hold.holds());
    }
}
