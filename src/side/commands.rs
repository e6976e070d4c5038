//! Command probes: one run of the operator's program, and what it says of the backend.
//!
//! What is late (SPEC W7) is what is late for every other probe, see the table in the probe room's prober: an end seen before the deadline counts, one
//! seen shortly after it is too late, and where we ourselves looked much too late an end still counts and its absence is void.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, ProbeSettings};
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult, Void};
use evenkeel_model::limits;
use evenkeel_reactor::{Clock, errno};
use tokio::time::Instant;

use super::program::{End, Program, Ran};
use super::said::evidence;

const LATENESS: Duration = Duration::from_millis(limits::LATENESS.value);

/// Runs one probe to its end.
///
/// # Panics
/// When the check is of another kind; those run on the reactor.
pub async fn probe(address: SocketAddr, check: &CheckSettings, clock: Clock) -> Finding {
    let ProbeSettings::Command(settings) = &check.probe else {
        unreachable!("the boss hands over commands only");
    };
    let program = Program {
        words: settings.command.iter().cloned().collect(),
        environment: vec![
            ("EVENKEEL_ADDRESS", address.ip().to_string()),
            ("EVENKEEL_PORT", address.port().to_string()),
        ],
        input: Vec::new(),
    };
    let timeout = check.timing.timeout;
    let started = clock.now();
    let ran = program.run(Instant::now() + timeout).await;
    let ended = clock.now();
    let result = conclude(&ran, ended.since(started + timeout));
    Finding { kind: ProbeKind::Command, started, ended, result }
}

/// What a run says when we looked `late` after the deadline, zero for before it.
pub fn conclude(ran: &Ran, late: Duration) -> ProbeResult {
    let failed = |reason| ProbeResult::Failed(Failure { phase: ProbePhase::Run, reason });
    match &ran.end {
        End::NotStarted(error) => {
            let errno = error.raw_os_error().unwrap_or(errno::EINVAL.0);
            if OURS.contains(&errno) {
                ProbeResult::Void(Void::NoResources { errno })
            } else {
                failed(FailureReason::NotStarted { errno })
            }
        }
        End::NotYetStarted => ProbeResult::Void(Void::NoResources { errno: errno::ETIMEDOUT.0 }),
        End::Exited(_) if !late.is_zero() && late <= LATENESS => failed(FailureReason::TimedOut),
        End::Exited(status) => exited(*status, &ran.output),
        End::Overdue if late <= LATENESS => failed(FailureReason::TimedOut),
        End::Overdue => ProbeResult::Void(Void::Late { by: late }),
    }
}

fn exited(status: ExitStatus, output: &[u8]) -> ProbeResult {
    let output = evidence(output);
    let reason = match (status.code(), status.signal()) {
        (Some(0), _) => return ProbeResult::Passed(Pass::Exited { output }),
        (Some(status), _) => FailureReason::Exited { status, output },
        (None, signal) => FailureReason::Killed { signal: signal.unwrap_or_default(), output },
    };
    ProbeResult::Failed(Failure { phase: ProbePhase::Run, reason })
}

/// What we are short of, which says nothing of the backend: processes, memory, files.
const OURS: [i32; 4] = [errno::EAGAIN.0, errno::ENOMEM.0, errno::EMFILE.0, errno::ENFILE.0];

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_end_counts_when_it_was_seen_in_time_or_when_we_were_not_looking() {
        let exited = |raw| End::Exited(ExitStatus::from_raw(raw));
        let failed = |reason| ProbeResult::Failed(Failure { phase: ProbePhase::Run, reason });
        let passed = || ProbeResult::Passed(Pass::Exited { output: "said".into() });
        let timed_out = || failed(FailureReason::TimedOut);
        let (in_time, soon_after) = (Duration::ZERO, LATENESS);
        let much_later = LATENESS + Duration::from_millis(1);
        let void = |errno| ProbeResult::Void(Void::NoResources { errno });
        let not_started = |errno| End::NotStarted(io::Error::from_raw_os_error(errno));
        let table = [
            (exited(0), in_time, passed()),
            (exited(0), soon_after, timed_out()),
            (exited(0), much_later, passed()),
            (exited(2 << 8), in_time, failed(FailureReason::Exited { status: 2, output: "said".into() })),
            (exited(2 << 8), much_later, failed(FailureReason::Exited { status: 2, output: "said".into() })),
            (exited(9), in_time, failed(FailureReason::Killed { signal: 9, output: "said".into() })),
            (End::Overdue, in_time, timed_out()),
            (End::Overdue, soon_after, timed_out()),
            (End::Overdue, much_later, ProbeResult::Void(Void::Late { by: much_later })),
            (not_started(2), in_time, failed(FailureReason::NotStarted { errno: 2 })),
            (not_started(13), in_time, failed(FailureReason::NotStarted { errno: 13 })),
            (not_started(11), in_time, void(11)),
            (not_started(12), in_time, void(12)),
            (not_started(24), in_time, void(24)),
            (End::NotYetStarted, soon_after, void(110)),
        ];
        for (end, late, expected) in table {
            let ran = Ran { end, output: b"said\n".to_vec() };
            assert_eq!(conclude(&ran, late), expected, "{late:?} after the deadline");
        }
    }
}
