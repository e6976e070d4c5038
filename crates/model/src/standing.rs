//! What is known of a backend: four facts that never overrule each other.
//!
//! The *verdict* is what probes say, *traffic* is what its clients' requests say, the *order* is what the operator says,
//! the *ramp* is how far a recovered backend has been let back in. Who may receive new work follows from all four, in
//! one place: [`Standing::share`].

use crate::cause::Cause;
use crate::time::Instant;

/// What probes say: of one target, and of a backend by all its checks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No probe has ended yet, or the check is off. Takes traffic.
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Verdict {
    pub const ALL: [Verdict; 3] = [Verdict::Unknown, Verdict::Healthy, Verdict::Unhealthy];

    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy => "unhealthy",
        }
    }

    /// The verdict of a backend from those of its checks. It must pass all of them, so that one that fails is enough
    /// against it, and it is healthy only when nothing of it is unknown. Without a check nothing is known.
    pub fn of_checks(checks: impl IntoIterator<Item = Verdict>) -> Verdict {
        let together = |so_far, verdict| match (so_far, verdict) {
            (Verdict::Unhealthy, _) | (_, Verdict::Unhealthy) => Verdict::Unhealthy,
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
            (Verdict::Healthy, Verdict::Healthy) => Verdict::Healthy,
        };
        checks.into_iter().reduce(together).unwrap_or_default()
    }
}

/// What the operator says of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    #[default]
    Serve,
    /// No new work; what runs may finish.
    Drain,
    /// As if absent; its probes stop.
    Maintain,
}

impl Order {
    pub const ALL: [Order; 3] = [Order::Serve, Order::Drain, Order::Maintain];

    pub const fn word(self) -> &'static str {
        match self {
            Order::Serve => "serve",
            Order::Drain => "drain",
            Order::Maintain => "maintain",
        }
    }
}

/// What real traffic says of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Nothing speaks against it.
    #[default]
    Good,
    /// It failed its clients and is set aside until then.
    Ejected { until: Instant },
}

impl Traffic {
    pub const fn is_ejected(self) -> bool {
        matches!(self, Traffic::Ejected { .. })
    }
}

/// A way in which a backend fails a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// It refused a connection, could not be reached, or did not answer in time.
    Connect,
    /// It answered 5xx.
    ServerError,
    /// It broke a connection, or what it sent was no answer.
    Reset,
    /// It was asked and did not answer in time.
    Timeout,
}

impl Harm {
    /// How a failed attempt speaks against its backend; `None` when it does not: our own shortage, a matter of one request, or
    /// something that happens to healthy backends as well.
    pub const fn of(cause: Cause) -> Option<Harm> {
        match cause {
            Cause::BackendConnectRefused
            | Cause::BackendConnectTimeout
            | Cause::BackendUnreachable
            | Cause::BackendTlsFailed => Some(Harm::Connect),
            Cause::BackendResetBeforeResponse
            | Cause::BackendClosedBeforeResponse
            | Cause::BackendMalformedResponse
            | Cause::BackendResetMidResponse
            | Cause::BackendResetRelay
            | Cause::BackendMalformedBody => Some(Harm::Reset),
            Cause::BackendResponseTimeout
            | Cause::BackendBodyTimeout
            | Cause::BackendWriteTimeout
            | Cause::BackendNoReply => Some(Harm::Timeout),
            _ => None,
        }
    }

    pub const ALL: [Harm; 4] = [Harm::Connect, Harm::ServerError, Harm::Reset, Harm::Timeout];

    pub const fn word(self) -> &'static str {
        match self {
            Harm::Connect => "connect_failures",
            Harm::ServerError => "server_errors",
            Harm::Reset => "resets",
            Harm::Timeout => "timeouts",
        }
    }
}

impl std::fmt::Display for Harm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Harm::Connect => "it could not be connected to",
            Harm::ServerError => "it answered 5xx",
            Harm::Reset => "it broke the connection or sent no answer",
            Harm::Timeout => "it did not answer in time",
        })
    }
}

/// How far a backend has been let back in after recovery (slow start).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ramp {
    #[default]
    Full,
    /// Percent of its weight, 1 to 99.
    At(u8),
}

/// The part of a backend's weight that new work may use, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u8);

impl Share {
    pub const NONE: Share = Share(0);
    pub const WHOLE: Share = Share(100);

    pub const fn percent(percent: u8) -> Share {
        Share(if percent > 100 { 100 } else { percent })
    }

    pub const fn as_percent(self) -> u8 {
        self.0
    }
}

/// The four facts of one backend, and since when the verdict holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub verdict: Verdict,
    pub traffic: Traffic,
    pub order: Order,
    pub ramp: Ramp,
    pub verdict_since: Instant,
}

impl Standing {
    pub const fn share(&self) -> Share {
        if self.traffic.is_ejected() {
            return Share::NONE;
        }
        match (self.order, self.verdict, self.ramp) {
            (Order::Drain | Order::Maintain, _, _) | (Order::Serve, Verdict::Unhealthy, _) => Share::NONE,
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, Ramp::Full) => Share::WHOLE,
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, Ramp::At(percent)) => Share::percent(percent),
        }
    }

    /// Weight that schedules see: the configured one scaled by the share, and never scaled to
    /// nothing, because a backend that takes 3 % of weight 10 should take little, not nothing.
    pub fn effective_weight(&self, weight: u32) -> u32 {
        let share = u32::from(self.share().as_percent());
        if weight == 0 || share == 0 { 0 } else { (weight * share / 100).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Walks every combination, so a new state cannot slip in without someone saying what it means.
    #[test]
    fn only_served_and_not_unhealthy_backends_receive_new_work() {
        use Order::{Drain, Maintain, Serve};
        use Ramp::{At, Full};
        use Verdict::{Healthy, Unhealthy, Unknown};
        let table = [
            (Unknown, Serve, Full, 100),
            (Unknown, Serve, At(30), 30),
            (Healthy, Serve, Full, 100),
            (Healthy, Serve, At(30), 30),
            (Unhealthy, Serve, Full, 0),
            (Unhealthy, Serve, At(30), 0),
            (Unknown, Drain, Full, 0),
            (Unknown, Drain, At(30), 0),
            (Healthy, Drain, Full, 0),
            (Healthy, Drain, At(30), 0),
            (Unhealthy, Drain, Full, 0),
            (Unhealthy, Drain, At(30), 0),
            (Unknown, Maintain, Full, 0),
            (Unknown, Maintain, At(30), 0),
            (Healthy, Maintain, Full, 0),
            (Healthy, Maintain, At(30), 0),
            (Unhealthy, Maintain, Full, 0),
            (Unhealthy, Maintain, At(30), 0),
        ];
        for verdict in Verdict::ALL {
            for order in Order::ALL {
                for ramp in [Full, At(30)] {
                    let row = table.iter().find(|row| (row.0, row.1, row.2) == (verdict, order, ramp));
                    let expected = row.unwrap_or_else(|| panic!("no row for {verdict:?} {order:?} {ramp:?}")).3;
                    let standing = Standing { verdict, order, ramp, ..Standing::default() };
                    assert_eq!(standing.share().as_percent(), expected, "{standing:?}");
                    // A passing probe does not hide failing traffic, nor does an order to serve.
                    let ejected = Standing { traffic: Traffic::Ejected { until: Instant::NEVER }, ..standing };
                    assert_eq!(ejected.share(), Share::NONE, "{ejected:?}");
                }
            }
        }
    }

    // Walks every combination of up to three checks.
    #[test]
    fn a_backend_is_unhealthy_by_one_check_and_healthy_only_by_all() {
        use Verdict::{Healthy, Unhealthy, Unknown};
        let table: &[(&[Verdict], Verdict)] = &[
            (&[], Unknown),
            (&[Unknown], Unknown),
            (&[Healthy], Healthy),
            (&[Unhealthy], Unhealthy),
            (&[Unknown, Unknown], Unknown),
            (&[Unknown, Healthy], Unknown),
            (&[Unknown, Unhealthy], Unhealthy),
            (&[Healthy, Healthy], Healthy),
            (&[Healthy, Unhealthy], Unhealthy),
            (&[Unhealthy, Unhealthy], Unhealthy),
            (&[Unknown, Unknown, Unknown], Unknown),
            (&[Unknown, Unknown, Healthy], Unknown),
            (&[Unknown, Unknown, Unhealthy], Unhealthy),
            (&[Unknown, Healthy, Healthy], Unknown),
            (&[Unknown, Healthy, Unhealthy], Unhealthy),
            (&[Unknown, Unhealthy, Unhealthy], Unhealthy),
            (&[Healthy, Healthy, Healthy], Healthy),
            (&[Healthy, Healthy, Unhealthy], Unhealthy),
            (&[Healthy, Unhealthy, Unhealthy], Unhealthy),
            (&[Unhealthy, Unhealthy, Unhealthy], Unhealthy),
        ];
        let place = |verdict: &Verdict| Verdict::ALL.iter().position(|one| one == verdict);
        let mut cases: Vec<Vec<Verdict>> = vec![Vec::new()];
        for length in 0..3 {
            let shorter: Vec<_> = cases.iter().filter(|case| case.len() == length).cloned().collect();
            cases.extend(shorter.iter().flat_map(|case| Verdict::ALL.map(|one| [&case[..], &[one]].concat())));
        }
        assert_eq!(cases.len(), 1 + 3 + 9 + 27);
        for case in cases {
            // The order of the checks means nothing, so the table has each combination once.
            let mut sorted = case.clone();
            sorted.sort_by_key(place);
            let row = table.iter().find(|row| row.0 == sorted);
            let expected = row.unwrap_or_else(|| panic!("no row for {sorted:?}")).1;
            assert_eq!(Verdict::of_checks(case.iter().copied()), expected, "{case:?}");
        }
    }

    #[test]
    fn a_ramp_never_rounds_a_backend_down_to_nothing() {
        let standing = Standing { ramp: Ramp::At(3), ..Standing::default() };
        assert_eq!(standing.effective_weight(10), 1);
        assert_eq!(standing.effective_weight(0), 0);
        assert_eq!(Standing::default().effective_weight(100), 100);
    }
}
