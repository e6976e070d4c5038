//! What an event says of a verdict that changed: whose, by which check, and the probes that led to it.
//!
//! The line is made for whoever is woken by it: what fails, how often, what was found last, and the setting that made it a
//! verdict.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Short, Value};
use crate::finding::{Failure, FailureReason, Finding, ProbeResult};
use crate::standing::Verdict;

/// One backend of one pool got another verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictChanged {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub from: Verdict,
    pub to: Verdict,
    /// The check whose probes led to it.
    pub check: Option<Arc<str>>,
    /// How many checks the backend has.
    pub checks: usize,
    pub because: Because,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// Nothing was known, or nothing recent, so one result was enough (SPEC W8).
    FirstProbe(Evidence),
    /// A run of equal results reached its threshold (SPEC W4).
    Run { threshold: u32, evidence: Evidence },
    /// The plan no longer checks it.
    CheckOff,
    /// The plan changed its checks, and those that it has now say so.
    CheckChanged,
}

/// The probes that led to a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Oldest first; the last `limits::RECENT_FINDINGS` of a longer run.
    pub findings: Arc<[Finding]>,
    /// Length of the run.
    pub probes: u32,
    /// Void probes in between; each makes the window longer by its duration and one gap.
    pub void: u32,
    /// From the start of the first of these probes to the end of the last.
    pub window: Duration,
    /// What SPEC W5 and W6 say the window should be: durations plus the gaps between, without jitter.
    pub computed: Duration,
}

impl VerdictChanged {
    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        each("pool", Value::Text(&self.pool));
        each("backend", Value::Address(self.backend));
        each("from", Value::Text(self.from.word()));
        each("to", Value::Text(self.to.word()));
        if let Some(check) = &self.check {
            each("check", Value::Text(check));
        }
        each("because", Value::Text(self.because.word()));
        if let Because::Run { threshold, .. } = &self.because {
            each("threshold", Value::Count(u64::from(*threshold)));
        }
        if let Some(evidence) = self.because.evidence() {
            each("probes", Value::Count(u64::from(evidence.probes)));
            each("void", Value::Count(u64::from(evidence.void)));
            each("window", Value::Time(evidence.window));
            each("window_computed", Value::Time(evidence.computed));
            each("findings", Value::Findings(&evidence.findings));
        }
    }
}

impl Because {
    pub const fn word(&self) -> &'static str {
        match self {
            Because::FirstProbe(_) => "first_probe",
            Because::Run { .. } => "run",
            Because::CheckOff => "check_off",
            Because::CheckChanged => "check_changed",
        }
    }

    pub const fn evidence(&self) -> Option<&Evidence> {
        match self {
            Because::FirstProbe(evidence) | Because::Run { evidence, .. } => Some(evidence),
            Because::CheckOff | Because::CheckChanged => None,
        }
    }
}

impl fmt::Display for VerdictChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {} of pool \"{}\" {}: ", self.backend, self.pool, self.to.word())?;
        let (how, threshold_key) = match self.to {
            Verdict::Unhealthy => ("failed", "unhealthy_threshold"),
            Verdict::Healthy | Verdict::Unknown => ("passed", "healthy_threshold"),
        };
        // Where there is but one check its name says nothing.
        let check = self.check.as_ref().filter(|_| self.checks > 1);
        let of_check = check.map(|name| format!(" of check \"{name}\"")).unwrap_or_default();
        match &self.because {
            Because::FirstProbe(evidence) => {
                write!(f, "its first probe{of_check} {how}")?;
                if let Some(last) = evidence.findings.last() {
                    write!(f, ": {}", Told(last))?;
                }
            }
            Because::Run { threshold, evidence } => {
                write!(f, "{}{of_check}", Counted(u64::from(evidence.probes), "probe"))?;
                if evidence.probes > 1 {
                    f.write_str(" in a row")?;
                }
                write!(f, " {how}")?;
                if let Some(last) = evidence.findings.last() {
                    write!(f, ", last: {}", Told(last))?;
                }
                write!(f, " ({threshold_key} = {threshold})")?;
            }
            Because::CheckOff => return f.write_str("its check was turned off, so it takes traffic unprobed"),
            Because::CheckChanged => {
                return f.write_str("the plan changed its checks, and this is the verdict of those it has now");
            }
        }
        match (check, self.to) {
            (None, _) | (_, Verdict::Unhealthy) => Ok(()),
            (Some(_), Verdict::Healthy) => f.write_str("; all its checks pass"),
            (Some(_), Verdict::Unknown) => f.write_str("; another of its checks has found nothing yet"),
        }
    }
}

/// A finding in the middle of a sentence: `connect timed out after 1.0s`.
pub(super) struct Told<'a>(pub &'a Finding);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.result {
            ProbeResult::Passed(pass) => write!(f, "{pass}")?,
            ProbeResult::Failed(Failure { phase, reason }) => {
                match reason {
                    // These say nothing without the place they happened at.
                    FailureReason::TimedOut
                    | FailureReason::Refused
                    | FailureReason::Reset
                    | FailureReason::Closed
                    | FailureReason::Unreachable { .. }
                    | FailureReason::NoEcho { .. }
                    | FailureReason::TrafficRefused { .. }
                    | FailureReason::Socket { .. }
                    | FailureReason::Unfinished { .. }
                    | FailureReason::Tls { .. } => write!(f, "{} ", phase.word())?,
                    FailureReason::Expiring { .. }
                    | FailureReason::Status { .. }
                    | FailureReason::NotHttp { .. }
                    | FailureReason::NotHttp2 { .. }
                    | FailureReason::StreamReset { .. }
                    | FailureReason::GoingAway { .. }
                    | FailureReason::Grpc { .. }
                    | FailureReason::NotServing { .. }
                    | FailureReason::NotGrpc { .. }
                    | FailureReason::Mismatch { .. }
                    | FailureReason::Body { .. }
                    | FailureReason::Step { .. }
                    | FailureReason::AgentDown { .. }
                    | FailureReason::NotAgent { .. }
                    | FailureReason::DnsCode { .. }
                    | FailureReason::DnsAddresses { .. }
                    | FailureReason::NotDns { .. } => {}
                    FailureReason::Exited { .. } | FailureReason::Killed { .. } | FailureReason::NotStarted { .. } => {
                        f.write_str("command: ")?
                    }
                }
                write!(f, "{reason}")?;
            }
            ProbeResult::Void(void) => write!(f, "{void}")?,
        }
        write!(f, " after {}", Short(self.0.duration()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, What};
    use crate::finding::{Pass, ProbeKind, ProbePhase};
    use crate::time::Instant;

    fn finding(millis: u64, result: ProbeResult) -> Finding {
        let started = Instant::START;
        Finding { kind: ProbeKind::Tcp, started, ended: started + Duration::from_millis(millis), result }
    }

    fn verdict(to: Verdict, because: Because) -> Event {
        let from = if to == Verdict::Healthy { Verdict::Unhealthy } else { Verdict::Healthy };
        let backend = "10.0.3.7:8080".parse().expect("a valid address");
        let check = because.evidence().map(|_| "login".into());
        let changed = VerdictChanged { pool: "web".into(), backend, from, to, check, checks: 1, because };
        Event { seq: 1, at: Instant::START, what: What::VerdictChanged(changed) }
    }

    fn evidence(last: Finding, probes: u32) -> Evidence {
        let (window, computed) = (Duration::from_secs(19), Duration::from_secs(19));
        Evidence { findings: vec![last].into(), probes, void: 0, window, computed }
    }

    fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase, reason })
    }

    #[test]
    fn a_verdict_reads_as_one_sentence_with_its_last_probe() {
        let timed_out = finding(1000, failed(ProbePhase::Connect, FailureReason::TimedOut));
        let status = finding(3, failed(ProbePhase::Read, FailureReason::Status { got: 500 }));
        let passed = finding(2, ProbeResult::Passed(Pass::Status(200)));
        let table = [
            (
                verdict(Verdict::Unhealthy, Because::Run { threshold: 3, evidence: evidence(timed_out.clone(), 3) }),
                "backend.unhealthy",
                "backend 10.0.3.7:8080 of pool \"web\" unhealthy: 3 probes in a row failed, last: connect timed out after 1.0s (unhealthy_threshold = 3)",
            ),
            (
                verdict(Verdict::Unhealthy, Because::Run { threshold: 1, evidence: evidence(status, 1) }),
                "backend.unhealthy",
                "backend 10.0.3.7:8080 of pool \"web\" unhealthy: 1 probe failed, last: status 500 is not expected after 3.0ms (unhealthy_threshold = 1)",
            ),
            (
                verdict(Verdict::Healthy, Because::Run { threshold: 2, evidence: evidence(passed, 2) }),
                "backend.healthy",
                "backend 10.0.3.7:8080 of pool \"web\" healthy: 2 probes in a row passed, last: status 200 after 2.0ms (healthy_threshold = 2)",
            ),
            (
                verdict(Verdict::Unhealthy, Because::FirstProbe(evidence(timed_out, 1))),
                "backend.unhealthy",
                "backend 10.0.3.7:8080 of pool \"web\" unhealthy: its first probe failed: connect timed out after 1.0s",
            ),
            (
                verdict(Verdict::Unknown, Because::CheckOff),
                "backend.unknown",
                "backend 10.0.3.7:8080 of pool \"web\" unknown: its check was turned off, so it takes traffic unprobed",
            ),
        ];
        for (event, name, text) in table {
            assert_eq!((event.name(), event.to_string().as_str()), (name, text));
        }
    }

    #[test]
    fn where_a_backend_has_several_checks_the_event_names_the_one_that_decided() {
        let status = finding(3, failed(ProbePhase::Read, FailureReason::Status { got: 500 }));
        let passed = finding(2, ProbeResult::Passed(Pass::Status(200)));
        let run = |last: &Finding| Because::Run { threshold: 2, evidence: evidence(last.clone(), 2) };
        let first = |last: &Finding| Because::FirstProbe(evidence(last.clone(), 1));
        let table = [
            (
                verdict(Verdict::Unhealthy, run(&status)),
                "unhealthy: 2 probes of check \"login\" in a row failed, last: status 500 is not expected after 3.0ms (unhealthy_threshold = 2)",
            ),
            (
                verdict(Verdict::Healthy, run(&passed)),
                "healthy: 2 probes of check \"login\" in a row passed, last: status 200 after 2.0ms (healthy_threshold = 2); all its checks pass",
            ),
            (
                verdict(Verdict::Healthy, first(&passed)),
                "healthy: its first probe of check \"login\" passed: status 200 after 2.0ms; all its checks pass",
            ),
            (
                verdict(Verdict::Unknown, first(&passed)),
                "unknown: its first probe of check \"login\" passed: status 200 after 2.0ms; another of its checks has found nothing yet",
            ),
        ];
        for (mut event, text) in table {
            let What::VerdictChanged(changed) = &mut event.what else { unreachable!("all of them are") };
            changed.checks = 2;
            assert_eq!(event.to_string(), format!("backend 10.0.3.7:8080 of pool \"web\" {text}"));
            let mut names = Vec::new();
            event.fields(&mut |key, value| names.extend((key == "check").then_some(value)));
            assert_eq!(names, [Value::Text("login")]);
        }
    }

    #[test]
    fn fields_of_a_verdict_carry_window_and_findings() {
        let last = finding(1000, failed(ProbePhase::Connect, FailureReason::TimedOut));
        let event = verdict(Verdict::Unhealthy, Because::Run { threshold: 3, evidence: evidence(last.clone(), 3) });
        let mut seen = Vec::new();
        event.fields(&mut |key, value| seen.push((key, value)));
        assert!(seen.contains(&("pool", Value::Text("web"))));
        assert!(seen.contains(&("because", Value::Text("run"))));
        assert!(seen.contains(&("window", Value::Time(Duration::from_secs(19)))));
        assert!(seen.contains(&("findings", Value::Findings(std::slice::from_ref(&last)))));
    }
}
