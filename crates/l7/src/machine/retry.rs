//! Whether a failed attempt may be made again.
//!
//! RFC 9110 section 9.2.2: a proxy must not repeat a request that is not idempotent. So the question is
//! what may have reached the backend. Nothing can have before a connection stands; after that only an
//! idempotent request whose bytes we still hold is repeated, and only while no byte of an answer has been
//! passed on.
//!
//! A kept connection that turns out dead says nothing about its backend: one such try is free, on a fresh
//! connection. Connects that fail cost nobody any work and are free too. What reached a backend and
//! failed is paid for by the pool's retry budget, or an outage would be multiplied by its own retries.

use evenkeel_model::Cause;

/// What is known of an attempt that failed before an answer was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    pub tried: Tried,
}

/// How far the attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// No connection came about.
    Connecting,
    /// The request, or a part of it, was sent on a kept connection.
    Reused,
    /// The same on a connection made for it.
    Fresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not safe or of no use: answer the client with the cause.
    No,
    /// On another backend, if there is one.
    Other,
    /// On another backend, if there is one and the budget allows it.
    OtherOnBudget,
    /// On a fresh connection to any backend, the same one too: once for each exchange.
    FreshConnection,
}

impl Failure {
    /// `replayable`: every byte sent is still held. `idempotent`: the method's word. `stale_before`:
    /// a dead kept connection was met in this exchange already.
    pub const fn retry(self, replayable: bool, idempotent: bool, stale_before: bool) -> Retry {
        match self.cause {
            Cause::BackendConnectRefused
            | Cause::BackendConnectTimeout
            | Cause::BackendUnreachable
            | Cause::BackendTlsFailed => Retry::Other,
            Cause::BackendResetBeforeResponse | Cause::BackendClosedBeforeResponse => match self.tried {
                Tried::Connecting => Retry::Other,
                _ if !replayable || !idempotent => Retry::No,
                Tried::Reused if !stale_before => Retry::FreshConnection,
                Tried::Reused | Tried::Fresh => Retry::OtherOnBudget,
            },
            // The backend had its whole time, or said something: trying again would double the wait
            // or ask the same question twice. Our own shortage is not mended by more work.
            _ => Retry::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Cause::{
        BackendClosedBeforeResponse, BackendConnectRefused, BackendConnectTimeout, BackendResetBeforeResponse,
    };
    use Tried::{Connecting, Fresh, Reused};

    #[test]
    fn nothing_that_may_have_been_done_is_done_twice() {
        // Walks every failure that can be retried at all, by every fact that matters.
        for cause in [BackendResetBeforeResponse, BackendClosedBeforeResponse] {
            for tried in [Reused, Fresh] {
                for replayable in [true, false] {
                    for idempotent in [true, false] {
                        for stale_before in [true, false] {
                            let expected = match (replayable && idempotent, tried, stale_before) {
                                (false, _, _) => Retry::No,
                                (true, Reused, false) => Retry::FreshConnection,
                                (true, _, _) => Retry::OtherOnBudget,
                            };
                            let failure = Failure { cause, tried };
                            assert_eq!(
                                failure.retry(replayable, idempotent, stale_before),
                                expected,
                                "{failure:?} {replayable} {idempotent} {stale_before}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_connection_that_never_stood_carried_nothing_so_even_a_post_goes_elsewhere() {
        for cause in [BackendConnectRefused, BackendConnectTimeout, Cause::BackendUnreachable, Cause::BackendTlsFailed]
        {
            let failure = Failure { cause, tried: Connecting };
            assert_eq!(failure.retry(true, false, false), Retry::Other);
        }
    }

    #[test]
    fn answers_and_timeouts_are_final() {
        for &cause in Cause::ALL {
            let retried = [
                BackendConnectRefused,
                BackendConnectTimeout,
                Cause::BackendUnreachable,
                Cause::BackendTlsFailed,
                BackendResetBeforeResponse,
                BackendClosedBeforeResponse,
            ];
            if !retried.contains(&cause) {
                assert_eq!(Failure { cause, tried: Fresh }.retry(true, true, false), Retry::No, "{cause:?}");
            }
        }
    }
}
