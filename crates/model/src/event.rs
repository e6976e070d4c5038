//! What the node records: one event per change, never one per attempt.
//!
//! The control room makes events, logs and `/status` render them; both read the same name, level,
//! fields and text from here, so that a log line and a status page cannot tell two stories.
//!
//! Names are stable: operators alert on them. Texts are for people and may get better.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::finding::{Finding, Millis};
use crate::standing::{AgentWord, Harm, Verdict};
use crate::time::Instant;

mod beside;
mod operated;
mod silence;
mod trouble;
mod verdict;

pub use beside::{Beside, Lost, Way};
pub use operated::{Asked, Operated, Operation, Refused};
pub use silence::Silence;
pub use trouble::{Ground, Hampered, Struck, Voids};
use verdict::Told;
pub use verdict::{Because, Evidence, VerdictChanged};

/// Something that changed, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of the process, from 1 on, so that whoever lost touch knows where to go on.
    pub seq: u64,
    pub at: Instant,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    VerdictChanged(VerdictChanged),
    /// Traffic spoke against a backend, and it was set aside, or would have been.
    TrafficFailed(TrafficFailed),
    /// An ejection is over.
    EjectionOver {
        pool: Arc<str>,
        backend: SocketAddr,
    },
    /// An operator gave an order or a weight, asked for a probe, or was refused.
    Operated(Operated),
    /// Its agents say of a backend, all together, another order than before, or that it takes no new clients at all.
    AgentSaid {
        pool: Arc<str>,
        backend: SocketAddr,
        from: AgentWord,
        to: AgentWord,
    },
    PlanChanged(PlanChange),
    /// What an earlier process knew was taken up.
    StateRecalled(Recalled),
    /// What an earlier process knew has lain for too long.
    StateTooOld {
        age: Duration,
        max_age: Duration,
    },
    /// The new configuration has problems; the old plan stays.
    PlanRefused {
        problems: usize,
        first: Arc<str>,
        /// Who wanted it.
        by: Arc<str>,
    },
    /// Most checks of unrelated pools turned to failing together, or most probes say nothing for faults of our own (SPEC W7).
    SelfSuspected(Ground),
    SuspicionOver {
        lasted: Duration,
    },
    /// From now on no verdict turns unhealthy, since the node suspects itself.
    HoldBegan {
        at_most: Duration,
    },
    /// Probes of a backend meet silence that says nothing, or no longer do.
    Silence(Silence),
    /// A run has reached its threshold, and the hold keeps the verdict.
    VerdictHeldBack(HeldBack),
    /// Verdicts turn again. So many were held back, and either turn now or are decided by their next probe.
    HoldEnded {
        lasted: Duration,
        held_back: usize,
        turned: bool,
    },
    /// Too little of a pool's weight may be used, so that new work goes to all who are not drained or in maintenance.
    PoolPanicked(Panic),
    PoolCalm(Panic),
    /// Probes that say nothing because we were late or out of resources, gathered over a period.
    ProbesVoid(Voids),
    /// Of a hook, a name of backends, or the state file.
    Beside(Beside),
}

/// One backend of one pool failed its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficFailed {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub against: Against,
    /// For how long it is set aside; `None` when it stays, since too many of its pool would be out.
    pub ejected_for: Option<Duration>,
}

/// What of its traffic speaks against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// So many failures of one kind in a row.
    Run { harm: Harm, failures: u32 },
    /// It fails more than it may and more than twice as often as the rest of its pool.
    FailureRate { percent: u32, others_percent: u32 },
    /// It takes so many times longer than the rest of its pool.
    Latency { mean: Duration, others_mean: Duration },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanChange {
    pub listeners: usize,
    pub pools: usize,
    pub backends: usize,
    pub backends_added: usize,
    pub backends_removed: usize,
    pub checks: usize,
    /// New ones, and those whose settings changed.
    pub checks_added: usize,
    pub checks_removed: usize,
}

/// What of a state file this plan still has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// How long it lay.
    pub age: Duration,
    pub backends: usize,
    /// With a verdict or an agent's word.
    pub checks: usize,
    /// Other than `serve`.
    pub orders: usize,
    /// Backends that the plan does not have, or not yet.
    pub absent: usize,
}

/// One backend of one pool would be unhealthy now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    /// The check that says so.
    pub check: Option<Arc<str>>,
    /// Failures in a row.
    pub probes: u32,
    /// The last of them.
    pub last: Finding,
}

/// How much of a pool may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    pub pool: Arc<str>,
    /// Percent of the weight of those that are neither drained nor in maintenance.
    pub usable: u32,
    /// The pool's `panic_below`, in percent; `None`: it has none any more.
    pub below: Option<u32>,
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something changed.
    Info,
    /// Somebody should look today.
    Warn,
    /// We failed our own promise.
    Error,
}

impl Level {
    pub const fn word(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// The value of one field, for whoever writes `key=value` or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Address(SocketAddr),
    Count(u64),
    Signed(i64),
    Time(Duration),
    Truth(bool),
    Findings(&'a [Finding]),
}

impl Event {
    /// The fixed name that alerts are written against.
    pub const fn name(&self) -> &'static str {
        match &self.what {
            What::VerdictChanged(changed) => match changed.to {
                Verdict::Unknown => "backend.unknown",
                Verdict::Healthy => "backend.healthy",
                Verdict::Unhealthy => "backend.unhealthy",
            },
            What::TrafficFailed(TrafficFailed { ejected_for: Some(_), .. }) => "backend.ejected",
            What::TrafficFailed(TrafficFailed { ejected_for: None, .. }) => "backend.ejection_held_back",
            What::EjectionOver { .. } => "backend.ejection_over",
            What::Operated(operated) => operated.name(),
            What::AgentSaid { .. } => "backend.agent",
            What::PlanChanged(_) => "plan.changed",
            What::StateRecalled(_) => "state.recalled",
            What::StateTooOld { .. } => "state.too_old",
            What::PlanRefused { .. } => "plan.refused",
            What::SelfSuspected(_) => "node.suspects_itself",
            What::SuspicionOver { .. } => "node.suspicion_over",
            What::HoldBegan { .. } => "node.holds_verdicts",
            What::VerdictHeldBack(_) => "backend.verdict_held_back",
            What::HoldEnded { .. } => "node.hold_over",
            What::PoolPanicked(_) => "pool.panic",
            What::PoolCalm(_) => "pool.panic_over",
            What::ProbesVoid(_) => "probes.void",
            What::Silence(silence) => silence.name(),
            What::Beside(beside) => beside.name(),
        }
    }

    pub const fn level(&self) -> Level {
        match &self.what {
            What::VerdictChanged(VerdictChanged { to: Verdict::Unhealthy, .. })
            | What::TrafficFailed(_)
            | What::PlanRefused { .. }
            | What::HoldBegan { .. }
            | What::VerdictHeldBack(_)
            | What::PoolPanicked(_)
            | What::ProbesVoid(_) => Level::Warn,
            // Verdicts given while this holds may be wrong, and verdicts are our promise.
            What::SelfSuspected(_) => Level::Error,
            What::VerdictChanged(_)
            | What::EjectionOver { .. }
            | What::AgentSaid { .. }
            | What::StateRecalled(_)
            | What::StateTooOld { .. }
            | What::PlanChanged(_)
            | What::HoldEnded { .. }
            | What::PoolCalm(_)
            | What::SuspicionOver { .. } => Level::Info,
            What::Operated(operated) => operated.level(),
            What::Silence(silence) => silence.level(),
            What::Beside(beside) => beside.level(),
        }
    }

    /// Calls `each` with every field in the order of the log line. `at`, name and level are not
    /// among them.
    pub fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        match &self.what {
            What::VerdictChanged(changed) => changed.fields(each),
            What::TrafficFailed(failed) => failed.fields(each),
            What::EjectionOver { pool, backend } => {
                each("pool", Value::Text(pool));
                each("backend", Value::Address(*backend));
            }
            What::Operated(operated) => operated.fields(each),
            What::AgentSaid { pool, backend, from, to } => {
                each("pool", Value::Text(pool));
                each("backend", Value::Address(*backend));
                each("from", Value::Text(from.order.word()));
                each("to", Value::Text(to.order.word()));
                each("percent", Value::Count(u64::from(to.percent)));
            }
            What::PlanChanged(change) => {
                each("listeners", Value::Count(change.listeners as u64));
                each("pools", Value::Count(change.pools as u64));
                each("backends", Value::Count(change.backends as u64));
                each("backends_added", Value::Count(change.backends_added as u64));
                each("backends_removed", Value::Count(change.backends_removed as u64));
                each("checks", Value::Count(change.checks as u64));
                each("checks_added", Value::Count(change.checks_added as u64));
                each("checks_removed", Value::Count(change.checks_removed as u64));
            }
            What::StateRecalled(recalled) => {
                each("age", Value::Time(recalled.age));
                each("backends", Value::Count(recalled.backends as u64));
                each("checks", Value::Count(recalled.checks as u64));
                each("orders", Value::Count(recalled.orders as u64));
                each("absent", Value::Count(recalled.absent as u64));
            }
            What::StateTooOld { age, max_age } => {
                each("age", Value::Time(*age));
                each("max_age", Value::Time(*max_age));
            }
            What::PlanRefused { problems, first, by } => {
                each("problems", Value::Count(*problems as u64));
                each("first", Value::Text(first));
                each("by", Value::Text(by));
            }
            What::SelfSuspected(ground) => ground.fields(each),
            What::HoldBegan { at_most } => each("at_most", Value::Time(*at_most)),
            What::VerdictHeldBack(held) => {
                each("pool", Value::Text(&held.pool));
                each("backend", Value::Address(held.backend));
                if let Some(check) = &held.check {
                    each("check", Value::Text(check));
                }
                each("probes", Value::Count(u64::from(held.probes)));
                each("findings", Value::Findings(std::slice::from_ref(&held.last)));
            }
            What::HoldEnded { lasted, held_back, turned } => {
                each("because", Value::Text(if *turned { "time_up" } else { "suspicion_over" }));
                each("lasted", Value::Time(*lasted));
                each("held_back", Value::Count(*held_back as u64));
            }
            What::PoolPanicked(panic) | What::PoolCalm(panic) => {
                each("pool", Value::Text(&panic.pool));
                each("usable_percent", Value::Count(u64::from(panic.usable)));
                if let Some(below) = panic.below {
                    each("panic_below_percent", Value::Count(u64::from(below)));
                }
            }
            What::Silence(silence) => silence.fields(each),
            What::Beside(beside) => beside.fields(each),
            What::SuspicionOver { lasted } => each("lasted", Value::Time(*lasted)),
            What::ProbesVoid(voids) => voids.fields(each),
        }
    }
}

impl TrafficFailed {
    fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        each("pool", Value::Text(&self.pool));
        each("backend", Value::Address(self.backend));
        each("because", Value::Text(self.against.word()));
        match self.against {
            Against::Run { failures, .. } => each("failures", Value::Count(u64::from(failures))),
            Against::FailureRate { percent, others_percent } => {
                each("failed_percent", Value::Count(u64::from(percent)));
                each("others_failed_percent", Value::Count(u64::from(others_percent)));
            }
            Against::Latency { mean, others_mean } => {
                each("mean", Value::Time(mean));
                each("others_mean", Value::Time(others_mean));
            }
        }
        if let Some(ejected_for) = self.ejected_for {
            each("ejected_for", Value::Time(ejected_for));
        }
    }
}

impl Against {
    pub const fn word(&self) -> &'static str {
        match self {
            Against::Run { harm, .. } => harm.word(),
            Against::FailureRate { .. } => "failure_percent",
            Against::Latency { .. } => "latency_factor",
        }
    }
}

impl fmt::Display for Event {
    /// The one line an operator reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::VerdictChanged(changed) => changed.fmt(f),
            What::TrafficFailed(failed) => failed.fmt(f),
            What::EjectionOver { pool, backend } => {
                write!(f, "backend {backend} of pool \"{pool}\": its ejection is over, it gets new work again")
            }
            What::Operated(operated) => operated.fmt(f),
            What::AgentSaid { pool, backend, from, to } => {
                write!(f, "backend {backend} of pool \"{pool}\": its agent says {to}, was {from}")
            }
            What::PlanChanged(change) => write!(
                f,
                "plan changed: listeners {}, pools {}, backends {} ({} added, {} removed), checks {} ({} added, {} removed)",
                change.listeners,
                change.pools,
                change.backends,
                change.backends_added,
                change.backends_removed,
                change.checks,
                change.checks_added,
                change.checks_removed,
            ),
            What::StateRecalled(recalled) => write!(
                f,
                "state of {} ago taken up: {}, {}, {} other than serve; the plan does not have {}",
                Short(recalled.age),
                Counted(recalled.backends as u64, "backend"),
                Counted(recalled.checks as u64, "check"),
                Counted(recalled.orders as u64, "order"),
                Counted(recalled.absent as u64, "other backend"),
            ),
            What::StateTooOld { age, max_age } => {
                write!(f, "state of {} ago is older than {} and was forgotten", Short(*age), Short(*max_age))
            }
            What::PlanRefused { problems, first, by: _ } => {
                write!(f, "plan refused, the old one stays: {}, first: {first}", Counted(*problems as u64, "problem"))
            }
            What::SelfSuspected(ground) => write!(f, "this node suspects itself: {ground}"),
            What::HoldBegan { at_most } => {
                write!(f, "while this node suspects itself no verdict turns unhealthy, for at most {}", Short(*at_most))
            }
            What::VerdictHeldBack(held) => write!(
                f,
                "backend {} of pool \"{}\" would be unhealthy ({} in a row failed, last: {}), but this node suspects itself",
                held.backend,
                held.pool,
                Counted(u64::from(held.probes), "probe"),
                Told(&held.last),
            ),
            What::HoldEnded { lasted, held_back: 0, .. } => {
                write!(f, "verdicts turn unhealthy again, after {}; none was held back", Short(*lasted))
            }
            What::HoldEnded { lasted, held_back, turned } => write!(
                f,
                "verdicts turn unhealthy again, after {}; {} {}",
                Short(*lasted),
                Counted(*held_back as u64, "verdict"),
                if *turned { "that still fail turn now" } else { "held back are decided by their next probe" },
            ),
            What::PoolPanicked(panic) => write!(
                f,
                "pool \"{}\" panics: {} % of its weight may be used, less than panic_below ({} %); new work goes to all its backends that are not drained or in maintenance, unhealthy ones too",
                panic.pool,
                panic.usable,
                panic.below.unwrap_or(0),
            ),
            What::PoolCalm(panic) => {
                write!(f, "pool \"{}\" is over its panic: {} % of its weight may be used", panic.pool, panic.usable)
            }
            What::SuspicionOver { lasted } => {
                write!(f, "this node no longer suspects itself, after {}", Short(*lasted))
            }
            What::ProbesVoid(voids) => voids.fmt(f),
            What::Silence(silence) => silence.fmt(f),
            What::Beside(beside) => beside.fmt(f),
        }
    }
}

impl fmt::Display for TrafficFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {} of pool \"{}\" ", self.backend, self.pool)?;
        match self.ejected_for {
            Some(time) => write!(f, "ejected for {}: ", Short(time))?,
            None => f.write_str("stays, for too many of its pool would be out, though ")?,
        }
        match self.against {
            Against::Run { harm, failures } => {
                write!(f, "{} ({} in a row)", harm, Counted(u64::from(failures), "time"))
            }
            Against::FailureRate { percent, others_percent } => {
                write!(f, "{percent} % of its attempts failed, and {others_percent} % of those at the others")
            }
            Against::Latency { mean, others_mean } => {
                write!(f, "it takes {} to the first byte, the others {}", Short(mean), Short(others_mean))
            }
        }
    }
}

/// Milliseconds below a second, seconds from there on, one decimal.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            return Millis(self.0).fmt(f);
        }
        let tenths = self.0.as_millis() / 100;
        write!(f, "{}.{}s", tenths / 10, tenths % 10)
    }
}

/// `1 probe`, `3 probes`, `2 unrelated groups of pools`.
pub struct Counted(pub u64, pub &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = self.1.split_once(" of ").map_or((self.1, None), |(head, tail)| (head, Some(tail)));
        write!(f, "{} {head}", self.0)?;
        if self.0 != 1 {
            f.write_str("s")?;
        }
        tail.map_or(Ok(()), |tail| write!(f, " of {tail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_troubles_are_told_with_their_size() {
        let at = Instant::START;
        let struck = Event {
            seq: 1,
            at,
            what: What::SelfSuspected(Ground::Struck(Struck { failing: 11, of: 12, groups: 3, no_route: 0 })),
        };
        assert_eq!(
            struck.to_string(),
            "this node suspects itself: 11 of 12 checks in 3 unrelated groups of pools turned to failing within one interval; look at its own network first"
        );
        let voids = Voids {
            period: Duration::from_secs(10),
            late: 2,
            late_by: Duration::from_millis(350),
            no_resources: 1,
            errno: Some(24),
            forbidden: 0,
        };
        assert_eq!(
            Event { seq: 1, at, what: What::ProbesVoid(voids) }.to_string(),
            "3 probes void within 10.0s, through no fault of the backends: 2 late, the worst by 350.0ms; 1 not started for want of resources (errno 24)"
        );
        let echoes = Voids { late: 0, no_resources: 0, errno: None, forbidden: 4, ..voids };
        assert_eq!(
            Event { seq: 1, at, what: What::ProbesVoid(echoes) }.to_string(),
            "4 probes void within 10.0s, through no fault of the backends: 4 echo requests we may not send (net.ipv4.ping_group_range leaves our group out)"
        );
    }
}
