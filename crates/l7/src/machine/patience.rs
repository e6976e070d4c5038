//! How long an attempt may stay without an answer, and what is tried before the client is told.
//!
//! ```text
//!   sent ──hedge_after──► asked of a second backend too ──try_timeout──► given up for another ──response_timeout──► 504
//! ```
//!
//! Both early steps are for requests that may be made twice and whose bytes we still hold. When an early step cannot
//! be taken (no other backend, no budget left), the attempt simply goes on: giving up without an alternative would make a
//! slow answer into none.

use std::time::Duration;

use evenkeel_model::Instant;

use super::wait::Wait;

/// The steps still open to the attempt under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// From when the request was sent; `None`: not hedged, or hedged already.
    pub hedge_after: Option<Duration>,
    /// From the start of the attempt; `None`: the attempt has its whole time.
    pub try_timeout: Option<Duration>,
}

impl Patience {
    /// What to wait for next, and until when. `since`: when the wait for the head began; `started`: the attempt.
    pub fn next(&self, since: Instant, started: Instant, response: Duration) -> (Wait, Instant) {
        let last = (Wait::Response, since + response);
        let hedge = self.hedge_after.map(|after| (Wait::Hedge, since + after));
        let give_up = self.try_timeout.map(|timeout| (Wait::Try, started + timeout));
        // On equal terms the earlier step of the picture comes first.
        let earlier = |one: (Wait, Instant), other: (Wait, Instant)| if other.1 < one.1 { other } else { one };
        [hedge, give_up].into_iter().flatten().rev().fold(last, |next, step| earlier(step, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_open_step_is_next() {
        let ms = Duration::from_millis;
        let start = Instant::START + ms(1000);
        let sent = start + ms(5);
        let response = ms(1000);
        let table = [
            (None, None, Wait::Response, sent + ms(1000)),
            (Some(ms(50)), None, Wait::Hedge, sent + ms(50)),
            (None, Some(ms(200)), Wait::Try, start + ms(200)),
            (Some(ms(50)), Some(ms(200)), Wait::Hedge, sent + ms(50)),
            (Some(ms(300)), Some(ms(200)), Wait::Try, start + ms(200)),
            (Some(ms(195)), Some(ms(200)), Wait::Hedge, start + ms(200)),
            (Some(ms(5000)), Some(ms(3000)), Wait::Response, sent + ms(1000)),
        ];
        for (hedge_after, try_timeout, wait, until) in table {
            let patience = Patience { hedge_after, try_timeout };
            assert_eq!(patience.next(sent, start, response), (wait, until), "{patience:?}");
        }
    }
}
