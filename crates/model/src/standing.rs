//! What is known of a backend: five facts that never overrule each other.
//!
//! The *verdict* is what probes say, *traffic* is what its clients' requests say, the *order* is what the operator says,
//! the *agent's word* is what a program beside it says, the *ramp* is how far a recovered backend has been let back in.
//! Who may receive new work follows from all five, in one place: [`Standing::share`].

use crate::cause::Cause;
use crate::finding::AgentSays;
use crate::limits;
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

/// What the operator says of a backend. Of two the greater is the stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What a program beside the backend says of it (kind `agent`), up and down apart: those are a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AgentWord {
    pub order: Order,
    /// Of the configured weight. 0 takes no new clients.
    pub percent: u16,
}

impl Default for AgentWord {
    fn default() -> Self {
        AgentWord { order: Order::Serve, percent: 100 }
    }
}

impl AgentWord {
    /// The word after one more line of the agent. What a line leaves out stays as it was.
    pub fn after(self, says: AgentSays) -> AgentWord {
        AgentWord { order: says.order.unwrap_or(self.order), percent: says.weight.unwrap_or(self.percent) }
    }

    /// What two agents of one backend say together: the stricter of each.
    pub fn and(self, other: AgentWord) -> AgentWord {
        AgentWord { order: self.order.max(other.order), percent: self.percent.min(other.percent) }
    }
}

impl std::fmt::Display for AgentWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}%", self.order.word(), self.percent)
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

/// The five facts of one backend, the weight it was given while the node runs, and since when the verdict holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub verdict: Verdict,
    pub traffic: Traffic,
    pub order: Order,
    pub agent: AgentWord,
    pub ramp: Ramp,
    /// In place of the configured weight, when the operator gave one to the running node.
    pub weight: Option<u32>,
    pub verdict_since: Instant,
}

impl Standing {
    pub const fn share(&self) -> Share {
        if self.traffic.is_ejected() || self.agent.percent == 0 {
            return Share::NONE;
        }
        match (self.order_in_force(), self.verdict, self.ramp) {
            (Order::Drain | Order::Maintain, _, _) | (Order::Serve, Verdict::Unhealthy, _) => Share::NONE,
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, Ramp::Full) => Share::WHOLE,
            (Order::Serve, Verdict::Unknown | Verdict::Healthy, Ramp::At(percent)) => Share::percent(percent),
        }
    }

    /// The stricter of what the operator and the agent say: neither can take back what the other holds up.
    pub const fn order_in_force(&self) -> Order {
        match (self.order, self.agent.order) {
            (Order::Maintain, _) | (_, Order::Maintain) => Order::Maintain,
            (Order::Drain, _) | (_, Order::Drain) => Order::Drain,
            (Order::Serve, Order::Serve) => Order::Serve,
        }
    }

    /// The weight before anything scales it: what the operator gave while the node runs, or that of the config.
    pub const fn weight_given(&self, configured: u32) -> u32 {
        match self.weight {
            Some(given) => given,
            None => configured,
        }
    }

    /// Weight that schedules see: the given or configured one scaled by the share and by the agent's percentage, and never scaled to
    /// nothing, because a backend that takes 3 % of weight 10 should take little, not nothing. Nor to more than a config
    /// may say: `200%` of the greatest weight is the greatest weight.
    pub fn effective_weight(&self, configured: u32) -> u32 {
        let weight = self.weight_given(configured);
        let share = u64::from(self.share().as_percent());
        if weight == 0 || share == 0 {
            return 0;
        }
        let scaled = u64::from(weight) * share * u64::from(self.agent.percent) / 10_000;
        scaled.clamp(1, limits::WEIGHT.max) as u32
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

    // Walks every pair of orders, so that nobody can lift what the other holds up.
    #[test]
    fn of_the_operators_order_and_the_agents_the_stricter_is_in_force() {
        use Order::{Drain, Maintain, Serve};
        let table = [
            //  order    agent     in force
            (Serve, Serve, Serve, 100),
            (Serve, Drain, Drain, 0),
            (Serve, Maintain, Maintain, 0),
            (Drain, Serve, Drain, 0),
            (Drain, Drain, Drain, 0),
            (Drain, Maintain, Maintain, 0),
            (Maintain, Serve, Maintain, 0),
            (Maintain, Drain, Maintain, 0),
            (Maintain, Maintain, Maintain, 0),
        ];
        for order in Order::ALL {
            for said in Order::ALL {
                let row = table.iter().find(|row| (row.0, row.1) == (order, said));
                let &(_, _, in_force, share) = row.unwrap_or_else(|| panic!("no row for {order:?} {said:?}"));
                for verdict in Verdict::ALL {
                    let agent = AgentWord { order: said, ..AgentWord::default() };
                    let standing = Standing { verdict, order, agent, ..Standing::default() };
                    assert_eq!(standing.order_in_force(), in_force, "{standing:?}");
                    let expected = if verdict == Verdict::Unhealthy { 0 } else { share };
                    assert_eq!(standing.share().as_percent(), expected, "{standing:?}");
                    assert_eq!(in_force, order.max(said), "the derived order of orders says the same");
                }
            }
        }
    }

    #[test]
    fn an_agent_scales_the_weight_and_cannot_make_an_unfit_backend_fit() {
        let table = [
            //  percent, ramp, weight, effective
            (100, Ramp::Full, 60, 60),
            (75, Ramp::Full, 100, 75),
            (50, Ramp::At(50), 100, 25),
            (1, Ramp::At(1), 10, 1),
            (0, Ramp::Full, 100, 0),
            (150, Ramp::Full, 60, 90),
            (u16::MAX, Ramp::Full, 100, 100),
            (100, Ramp::Full, 0, 0),
        ];
        for (percent, ramp, weight, expected) in table {
            let agent = AgentWord { percent, ..AgentWord::default() };
            let standing = Standing { agent, ramp, ..Standing::default() };
            assert_eq!(standing.effective_weight(weight), expected, "{percent} % of {weight}, {ramp:?}");
            for unfit in [
                Standing { verdict: Verdict::Unhealthy, ..standing },
                Standing { order: Order::Drain, ..standing },
                Standing { traffic: Traffic::Ejected { until: Instant::NEVER }, ..standing },
            ] {
                assert_eq!(unfit.effective_weight(weight), 0, "{unfit:?}");
            }
        }
    }

    #[test]
    fn what_an_agent_leaves_out_stays_and_of_two_agents_the_stricter_counts() {
        let says = |order, weight| AgentSays { order, weight, maxconn: None };
        let word = AgentWord::default().after(says(Some(Order::Drain), None)).after(says(None, Some(40)));
        assert_eq!((word, word.to_string().as_str()), (AgentWord { order: Order::Drain, percent: 40 }, "drain 40%"));
        assert_eq!(word.after(says(None, None)), word);
        let ready = word.after(says(Some(Order::Serve), None));
        assert_eq!(ready, AgentWord { order: Order::Serve, percent: 40 });
        assert_eq!(ready.and(AgentWord { order: Order::Maintain, percent: 90 }).to_string(), "maintain 40%");
    }

    #[test]
    fn a_weight_given_at_runtime_stands_in_for_the_configured_one_and_is_scaled_like_it() {
        let agent = |percent| AgentWord { percent, ..AgentWord::default() };
        let table = [
            //  given, configured, percent, ramp, effective
            (None, 60, 100, Ramp::Full, 60),
            (Some(20), 60, 100, Ramp::Full, 20),
            (Some(0), 60, 100, Ramp::Full, 0),
            (Some(80), 0, 100, Ramp::Full, 80),
            (Some(80), 10, 50, Ramp::Full, 40),
            (Some(80), 10, 50, Ramp::At(50), 20),
            (Some(1), 100, 1, Ramp::At(1), 1),
            (Some(100), 1, 300, Ramp::Full, 100),
        ];
        for (weight, configured, percent, ramp, expected) in table {
            let standing = Standing { weight, ramp, agent: agent(percent), ..Standing::default() };
            assert_eq!(standing.effective_weight(configured), expected, "{standing:?}");
            let drained = Standing { order: Order::Drain, ..standing };
            assert_eq!(drained.effective_weight(configured), 0, "no weight lifts an order");
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
