//! The times that can run out on a request or connection, by the key that an operator would change.
//!
//! A cause says that something took too long; this says which line of the config decided what too long is. A rule may have
//! its own times in place of the pool's, so the same cause can point to two keys.

use crate::cause::Cause;

use super::Detail;

macro_rules! timers {
    ($($name:ident = $key:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Timer { $($name),* }

        impl Timer {
            pub const ALL: &'static [Timer] = &[$(Timer::$name),*];

            /// Place in the config file.
            pub const fn key(self) -> &'static str {
                match self {
                    $(Timer::$name => $key),*
                }
            }
        }
    };
}

timers! {
    Handshake = "listener.tls.handshake_timeout";
    Header = "listener.header_timeout";
    ClientBody = "listener.body_timeout";
    Idle = "listener.idle_timeout";
    Lifetime = "listener.lifetime";
    Connect = "pool.connect_timeout";
    Queue = "pool.queue_timeout";
    Try = "pool.try_timeout";
    Response = "pool.response_timeout";
    BackendBody = "pool.body_timeout";
    RuleTry = "listener.rule.try_timeout";
    RuleResponse = "listener.rule.response_timeout";
    RuleBackendBody = "listener.rule.body_timeout";
}

impl Timer {
    pub fn from_key(key: &str) -> Option<Timer> {
        Timer::ALL.iter().copied().find(|timer| timer.key() == key)
    }

    /// Which time ran out when `cause` struck with `detail`; `None` when it was no time.
    pub const fn of(cause: Cause, detail: Option<Detail>) -> Option<Timer> {
        let Some(Detail::Timeout(_)) = detail else { return None };
        Some(match cause {
            Cause::TlsHandshakeFailed => Timer::Handshake,
            Cause::ClientHeaderTimeout | Cause::ClientProxyHeaderInvalid => Timer::Header,
            Cause::ClientBodyTimeout | Cause::ClientStalled => Timer::ClientBody,
            Cause::RelayIdleTimeout | Cause::BackendNoReply => Timer::Idle,
            Cause::RelayLifetimeOver => Timer::Lifetime,
            Cause::BackendConnectTimeout | Cause::BackendTlsFailed => Timer::Connect,
            Cause::BackendQueueTimeout => Timer::Queue,
            Cause::BackendResponseTimeout => Timer::Response,
            Cause::BackendBodyTimeout | Cause::BackendWriteTimeout => Timer::BackendBody,
            _ => return None,
        })
    }

    /// The rule's own, where a rule can have one.
    #[must_use]
    pub const fn of_rule(self) -> Timer {
        match self {
            Timer::Try => Timer::RuleTry,
            Timer::Response => Timer::RuleResponse,
            Timer::BackendBody => Timer::RuleBackendBody,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn keys_are_found_again() {
        for timer in Timer::ALL {
            assert_eq!(Timer::from_key(timer.key()), Some(*timer));
        }
        assert_eq!(Timer::from_key("pool.retries"), None);
    }

    #[test]
    fn every_cause_that_has_a_timeout_for_evidence_has_its_timer() {
        let detail = Some(Detail::Timeout(Duration::from_secs(1)));
        for &cause in Cause::ALL {
            let told = cause.entry().evidence.contains(&"timeout");
            assert!(!told || Timer::of(cause, detail).is_some(), "{}", cause.code());
            assert_eq!(Timer::of(cause, None), None);
        }
    }
}
