//! How long each pool takes to notice that a backend fails, and that it is back.
//!
//! The arithmetic is `health`'s; this file asks it for each check of a plan and puts the checks of a pool together. It also
//! knows what arithmetic alone does not: what a kind of probe can notice at all. An echo request does not see
//! that the service behind it is gone, a udp check whose verdict rests on silence never notices a silent backend.
//!
//! What a running node has seen stands beside it ([`Seen`]), so that promise and fact are read in one place.

mod json;
mod seen;
mod text;

use std::time::Duration;

use evenkeel_health::gap::Witness;
use evenkeel_health::settings::{CheckSettings, ProbeSettings, Silence, Timing, UdpProbe};
use evenkeel_health::window::{self, Failing, Span};
use evenkeel_plan::{Check, Plan, Pool};

pub use json::json;
pub use seen::{Seen, Transition, seen};
pub use text::text;

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWindows {
    pub pool: String,
    /// Empty when checks are off: nothing is ever noticed.
    pub checks: Vec<CheckWindows>,
    /// What all checks promise as one: the first that notices is enough for a fall, and all have to pass for a recovery.
    pub together: [Row; 3],
}

/// What one check can promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckWindows {
    pub name: String,
    /// As in the config: `http`, `tcp`, `udp`, ….
    pub kind: &'static str,
    pub timing: Timing,
    /// How long the probe of a healthy backend is taken to last.
    pub response: Duration,
    pub rows: [Row; 3],
}

/// How a backend fails, as its checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its host says at once that nothing listens.
    Refuses,
    /// Nothing comes back.
    Silent,
    /// It answers, in its usual time, with something that the check does not accept.
    AnswersWrongly,
}

impl Fault {
    pub const ALL: [Fault; 3] = [Fault::Refuses, Fault::Silent, Fault::AnswersWrongly];
}

/// The windows of one fault; `None`: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub fault: Fault,
    /// From the fault to the verdict.
    pub detection: Option<Span>,
    /// The same where `trust_traffic` has made the gap longer and traffic goes on passing; only where that differs.
    pub detection_in_traffic: Option<Span>,
    /// From the end of the fault to the verdict.
    pub recovery: Option<Span>,
}

/// A row for each pool, in the order of the plan. Healthy backends are taken to answer after `response`.
pub fn table(plan: &Plan, response: Duration) -> Vec<PoolWindows> {
    plan.pools.iter().map(|pool| of_pool(pool, response)).collect()
}

fn of_pool(pool: &Pool, response: Duration) -> PoolWindows {
    let checks: Vec<CheckWindows> = pool.checks.iter().map(|check| of_check(check, response)).collect();
    let together = Fault::ALL.map(|fault| {
        let noticing =
            || checks.iter().flat_map(|check| check.rows).filter(|row| row.fault == fault && row.detection.is_some());
        let trusting = noticing().any(|row| row.detection_in_traffic.is_some());
        let in_traffic = noticing().filter_map(|row| row.detection_in_traffic.or(row.detection)).reduce(earlier);
        Row {
            fault,
            detection: noticing().filter_map(|row| row.detection).reduce(earlier),
            detection_in_traffic: in_traffic.filter(|_| trusting),
            // Whoever did not notice has passed all the time.
            recovery: noticing().filter_map(|row| row.recovery).reduce(later),
        }
    });
    PoolWindows { pool: pool.name.to_string(), checks, together }
}

fn of_check(check: &Check, response: Duration) -> CheckWindows {
    let Check { name, settings } = check;
    let timing = settings.timing;
    let response = match &settings.probe {
        // A good probe waits for what must not come.
        ProbeSettings::Udp(UdpProbe { expect: None, silence: Silence::Pass, .. }) => timing.timeout,
        _ => response.min(timing.timeout),
    };
    let rows = Fault::ALL.map(|fault| {
        let takes = takes(settings, fault, response);
        let bounds = |span: &dyn Fn(Failing) -> Span| takes.map(|(short, long)| between(span(short), span(long)));
        let fall = |witness| bounds(&|failing| window::detection_with(&timing, witness, failing, response));
        let detection = fall(Witness::Probes);
        Row {
            fault,
            detection,
            detection_in_traffic: fall(Witness::Traffic).filter(|span| Some(*span) != detection),
            recovery: bounds(&|failing| window::recovery(&timing, failing, response)),
        }
    });
    CheckWindows { name: name.to_string(), kind: settings.probe.kind().word(), timing, response, rows }
}

/// How short and how long the probe of a backend with this fault may be; `None` when the probe passes all the same, or
/// says nothing.
fn takes(check: &CheckSettings, fault: Fault, response: Duration) -> Option<(Failing, Failing)> {
    let exactly = |failing| Some((failing, failing));
    let wrongly = exactly(Failing::After(response));
    match (fault, &check.probe) {
        // The program decides what it looks at and how long it takes.
        (_, ProbeSettings::Command(_)) => Some((Failing::Refused, Failing::Silent)),
        // An agent that cannot be asked says nothing of the service beside it.
        (Fault::Refuses | Fault::Silent, ProbeSettings::Agent(_)) => None,
        // The host answers, whatever becomes of the service.
        (Fault::Refuses | Fault::AnswersWrongly, ProbeSettings::Icmp(_)) => None,
        (Fault::Refuses, _) => exactly(Failing::Refused),
        (Fault::Silent, ProbeSettings::Udp(udp)) => silence_fails(udp).then_some((Failing::Silent, Failing::Silent)),
        (Fault::Silent, _) => exactly(Failing::Silent),
        // A handshake is no answer.
        (Fault::AnswersWrongly, ProbeSettings::Tcp(_)) => None,
        (Fault::AnswersWrongly, ProbeSettings::Udp(UdpProbe { expect: None, .. })) => None,
        (Fault::AnswersWrongly, _) => wrongly,
    }
}

/// With an expectation silence always fails, and so it does where the host does not answer an echo before.
fn silence_fails(udp: &UdpProbe) -> bool {
    udp.expect.is_some() || udp.ping || udp.silence == Silence::Fail
}

/// The span that covers both.
fn between(short: Span, long: Span) -> Span {
    Span {
        best: short.best.min(long.best),
        typical: (short.typical + long.typical) / 2,
        worst: short.worst.max(long.worst),
    }
}

fn earlier(one: Span, other: Span) -> Span {
    Span { best: one.best.min(other.best), typical: one.typical.min(other.typical), worst: one.worst.min(other.worst) }
}

fn later(one: Span, other: Span) -> Span {
    Span { best: one.best.max(other.best), typical: one.typical.max(other.typical), worst: one.worst.max(other.worst) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use evenkeel_health::pattern::{Covers, Pattern};
    use evenkeel_health::settings::{AgentProbe, CommandProbe, HttpProbe, IcmpProbe, StepsProbe, TcpProbe};
    use evenkeel_plan::{AccessLog, Node};

    use super::*;

    pub(super) const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    pub(super) const TCP: Timing = Timing::new(secs(5), secs(2), 3, 3);
    pub(super) const UDP: Timing = Timing::new(secs(10), secs(5), 3, 3);

    pub(super) fn check(name: &str, probe: ProbeSettings, timing: Timing) -> Check {
        Check { name: name.into(), settings: Arc::new(CheckSettings { probe, timing, sources: Default::default() }) }
    }

    pub(super) fn tcp() -> ProbeSettings {
        ProbeSettings::Tcp(TcpProbe::HalfOpen)
    }

    pub(super) fn http() -> ProbeSettings {
        ProbeSettings::Http(HttpProbe::default())
    }

    pub(super) fn udp(expect: Option<&[u8]>, silence: Silence) -> ProbeSettings {
        ProbeSettings::Udp(UdpProbe {
            expect: expect.map(|expected| Pattern::literal(expected, Covers::Whole)),
            silence,
            ..UdpProbe::default()
        })
    }

    pub(super) fn plan(pools: Vec<(&str, Vec<Check>)>) -> Plan {
        let pool = |(name, checks)| Arc::new(Pool { checks, ..Pool::with_defaults(name) });
        let node = Node {
            workers: 1,
            connections: 0,
            drain_timeout: secs(30),
            access_log: AccessLog::Off,
            cluster: None,
            sticky_secret: None,
            hold_on_suspicion: None,
            slow_request: None,
            shutdown_delay: Duration::ZERO,
            watch: false,
            kept_requests: 0,
            traces: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        };
        let pools = pools.into_iter().map(pool).collect();
        let (listeners, backends, targets, names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Plan { node, admin: None, listeners, pools, backends, targets, names }
    }

    fn rows(checks: Vec<Check>, response: Duration) -> PoolWindows {
        table(&plan(vec![("p", checks)]), response).remove(0)
    }

    #[test]
    fn each_kind_notices_what_it_can_see_and_nothing_else() {
        let icmp = ProbeSettings::Icmp(IcmpProbe);
        let steps = ProbeSettings::Steps(StepsProbe { steps: Arc::from([]), tls: None });
        let pinged = ProbeSettings::Udp(UdpProbe { ping: true, ..UdpProbe::default() });
        let command = ProbeSettings::Command(CommandProbe { command: Arc::from([]) });
        // refuses, silent, answers wrongly
        let table = [
            (tcp(), [true, true, false]),
            (steps, [true, true, true]),
            (http(), [true, true, true]),
            (icmp, [false, true, false]),
            (ProbeSettings::Agent(AgentProbe::default()), [false, false, true]),
            (command, [true, true, true]),
            (udp(None, Silence::Pass), [true, false, false]),
            (udp(None, Silence::Keep), [true, false, false]),
            (udp(None, Silence::Fail), [true, true, false]),
            (pinged, [true, true, false]),
            // With an expectation silence always fails, whatever `silence` says.
            (udp(Some(b"pong"), Silence::Pass), [true, true, true]),
        ];
        for (probe, noticed) in table {
            let windows = rows(vec![check("c", probe.clone(), UDP)], Duration::ZERO);
            let seen = windows.checks[0].rows.map(|row| (row.detection.is_some(), row.recovery.is_some()));
            assert_eq!(seen, noticed.map(|noticed| (noticed, noticed)), "{probe:?}");
            assert_eq!(windows.together, windows.checks[0].rows, "one check is all of them: {probe:?}");
        }
    }

    #[test]
    fn wrong_answers_take_as_long_as_right_ones() {
        let windows = rows(vec![check("c", http(), TCP)], secs(1));
        let [refuses, silent, wrongly] = windows.together.map(|row| row.detection.expect("http sees it all"));
        assert_eq!(refuses, Span { best: secs(4), typical: Duration::from_millis(5500), worst: secs(7) });
        assert_eq!(wrongly, Span { best: secs(6), typical: Duration::from_millis(8500), worst: secs(10) });
        assert_eq!(silent.worst, secs(22));
        let long = rows(vec![check("c", http(), TCP)], secs(60));
        assert_eq!(long.checks[0].response, secs(5), "no probe takes longer than its timeout");
    }

    #[test]
    fn the_first_check_that_notices_makes_the_verdict_and_the_last_one_that_passes_ends_it() {
        let slow = check("slow", http(), Timing::new(secs(5), secs(20), 5, 2));
        let quick = check("quick", tcp(), Timing::new(secs(1), secs(1), 1, 3));
        let windows = rows(vec![slow, quick], Duration::ZERO);
        let [slow, quick] = [0, 1].map(|check| windows.checks[check].rows);
        let [refuses, _, wrongly] = windows.together;
        assert_eq!(refuses.detection, quick[0].detection, "the tcp check is quicker to see it");
        assert_eq!(refuses.recovery, slow[0].recovery, "and the http check slower to believe it is over");
        assert_eq!((wrongly.detection, wrongly.recovery), (slow[2].detection, slow[2].recovery), "tcp never sees it");
    }

    #[test]
    fn trust_in_traffic_is_a_second_figure_and_only_where_it_differs() {
        let trusting = Timing { trust_traffic: Some(secs(30)), ..TCP };
        let windows = rows(vec![check("c", http(), trusting)], Duration::ZERO);
        for row in windows.together {
            let (plain, in_traffic) = (row.detection.unwrap(), row.detection_in_traffic.unwrap());
            assert_eq!((plain.best, plain.worst + secs(28)), (in_traffic.best, in_traffic.worst), "{:?}", row.fault);
        }
        let windows = rows(vec![check("c", http(), TCP)], Duration::ZERO);
        assert!(windows.together.iter().all(|row| row.detection_in_traffic.is_none()));
        // One of two checks trusts: the other goes on looking, and finds the fault in its own time.
        let windows = rows(vec![check("c", http(), trusting), check("d", http(), TCP)], Duration::ZERO);
        let [refuses, ..] = windows.together;
        assert_eq!(refuses.detection_in_traffic, refuses.detection);
    }

    #[test]
    fn a_pool_without_checks_promises_nothing() {
        let windows = rows(Vec::new(), Duration::ZERO);
        assert!(windows.together.iter().all(|row| (row.detection, row.recovery) == (None, None)));
    }

    pub(super) fn transition(pool: &str, address: SocketAddr) -> Transition {
        Transition {
            at: "2026-03-01T12:00:04.000Z".to_owned(),
            pool: pool.to_owned(),
            backend: address.to_string(),
            check: None,
            to: "unhealthy".to_owned(),
            probes: 3,
            void: 0,
            window: Some(Duration::from_millis(4012)),
            computed: Some(Duration::from_millis(4010)),
        }
    }
}
