//! Whether a backend that was asked has gone silent: work was sent, and not a byte has come since.
//!
//! Probes need a whole window to find that a backend hangs. Traffic knows sooner: a process that was stopped,
//! or a host that was cut off, takes requests into its kernel's buffers and says nothing, and every request sent
//! there until the verdict is stuck. So a backend that is silent is passed over while others are there. This is
//! no verdict: it changes nothing that an operator sees, and one byte ends it.
//!
//! ```text
//!            asked               limits::SILENCE without a byte
//!  answered ───────► waiting ────────────────────────────────► silent
//!     ▲                 │                                         │
//!     └──── a byte ─────┴───────────── a byte ────────────────────┘
//! ```
//!
//! Waiting counts from the oldest ask since the last byte, not from the newest: under load there is always a new one.
//! One request a second still goes to a silent backend, so that its recovery is noticed when nothing of what it
//! was asked is awaited any more. What waits for an answer there notices by itself, so a request that may not
//! be repeated is spared the trial as long as something does.
//!
//! One per worker and backend, like everything that moves.

use std::time::Duration;

use evenkeel_model::{Instant, limits};

const SILENCE: Duration = Duration::from_millis(limits::SILENCE.value);
const TRIAL: Duration = Duration::from_millis(limits::SILENCE_TRIAL.value);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The oldest ask since the last byte heard; never, when nothing was asked since.
    waiting_since: Instant,
    /// The last request that went there in spite of the silence.
    last_trial: Instant,
}

impl Default for Silence {
    fn default() -> Self {
        Silence { waiting_since: Instant::NEVER, last_trial: Instant::START }
    }
}

impl Silence {
    /// A request was sent, or a connection is being made for one.
    pub fn asked(&mut self, now: Instant) {
        // Not `min`: a silence is judged from its first ask even when the clock is told twice.
        if self.waiting_since == Instant::NEVER {
            self.waiting_since = now;
        }
    }

    /// Anything came: a byte, a finished handshake, a refusal. A backend that refuses is not silent.
    pub fn heard(&mut self) {
        self.waiting_since = Instant::NEVER;
    }

    pub fn is_silent(&self, now: Instant) -> bool {
        // Never minus now is nothing, so one comparison serves both.
        now.since(self.waiting_since) >= SILENCE
    }

    /// Whether this request may go to the silent backend to see whether it still is. Says yes once a second, and
    /// counts on it that the request is then sent.
    pub fn try_again(&mut self, request: Request, awaited: Awaited, now: Instant) -> bool {
        let spared = request == Request::Once && awaited == Awaited::Something;
        let silent_since = self.waiting_since + SILENCE;
        let since = self.last_trial.max(silent_since);
        if spared || now.since(since) < TRIAL {
            return false;
        }
        self.last_trial = now;
        true
    }
}

/// Whether a request can be asked again elsewhere, should it be stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Repeatable,
    Once,
}

/// Whether requests still wait for an answer of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Something,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Did {
        Asked(u64),
        Heard,
    }
    use Did::{Asked, Heard};

    fn at(millis: u64) -> Instant {
        // Some way from the start, as a node's clock is.
        Instant::START + Duration::from_millis(60_000 + millis)
    }

    fn after(story: &[Did]) -> Silence {
        let mut silence = Silence::default();
        for did in story {
            match did {
                Asked(millis) => silence.asked(at(*millis)),
                Heard => silence.heard(),
            }
        }
        silence
    }

    #[test]
    fn silent_is_who_was_asked_and_said_nothing_for_a_second() {
        let table: [(&[Did], u64, bool); 9] = [
            (&[], 100_000, false),
            (&[Asked(0)], 999, false),
            (&[Asked(0)], 1000, true),
            // Newer asks do not put it off.
            (&[Asked(0), Asked(500), Asked(999)], 1000, true),
            // One byte of any answer ends it, for all that was asked before.
            (&[Asked(0), Asked(500), Heard], 1500, false),
            (&[Asked(0), Heard], 5000, false),
            // The next silence counts from the first ask behind the byte.
            (&[Asked(0), Heard, Asked(950)], 1900, false),
            (&[Asked(0), Heard, Asked(950), Asked(1800)], 1950, true),
            // A byte out of the blue is no ask.
            (&[Heard], 100_000, false),
        ];
        for (story, now, silent) in table {
            assert_eq!(after(story).is_silent(at(now)), silent, "{story:?} at {now}");
        }
    }

    #[test]
    fn one_request_a_second_is_sent_to_a_silent_backend() {
        let mut silence = after(&[Asked(0)]);
        // Silent from 1000 on; the requests that made it so were trial enough for the second that follows.
        let mut trials = Vec::new();
        for millis in 1000..5000 {
            assert!(silence.is_silent(at(millis)));
            if silence.try_again(Request::Repeatable, Awaited::Nothing, at(millis)) {
                silence.asked(at(millis));
                trials.push(millis);
            }
        }
        assert_eq!(trials, [2000, 3000, 4000]);
        silence.heard();
        assert!(!silence.is_silent(at(5000)));
    }

    #[test]
    fn what_cannot_be_repeated_is_spared_the_trial_while_others_wait_there() {
        let table = [
            (Request::Repeatable, Awaited::Something, true),
            (Request::Repeatable, Awaited::Nothing, true),
            (Request::Once, Awaited::Something, false),
            // Nobody is left who would notice a recovery: then even this one goes.
            (Request::Once, Awaited::Nothing, true),
        ];
        for (request, awaited, sent) in table {
            let mut silence = after(&[Asked(0)]);
            assert_eq!(silence.try_again(request, awaited, at(3000)), sent, "{request:?} {awaited:?}");
        }
    }
}
