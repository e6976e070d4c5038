//! What clients' traffic says of a udp service that was silent to a probe.
//!
//! Whatever uses up a host's ICMP budget towards our address, our own clients' datagrams are the likeliest: then the refusals that
//! the probe misses have come to their sessions, and tell the same. And a service that answers its clients is alive, whatever
//! it keeps from a probe that it does not understand.
//!
//! Traffic is heard only where a probe has nothing: an answer, a refusal, or silence beside a refused closed port is newer than
//! what happened since the last probe. Where traffic says both, the service died or came back in between, and neither counts.

use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Proof, Trust};

/// Sessions of clients with one backend, since the node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Ended by an ICMP refusal.
    pub refused: u64,
    /// Got their first answer.
    pub answered: u64,
}

/// What a probe found, with what clients met between the probe before it and its end.
pub fn weigh(result: ProbeResult, before: Sessions, now: Sessions) -> ProbeResult {
    match result.trust() {
        Some(Trust::Unmeasured | Trust::Untrusted) => {}
        Some(Trust::Trusted) | None => return result,
    }
    // Counts begin anew when a backend leaves the plan and comes back.
    let refused = now.refused.saturating_sub(before.refused);
    let answered = now.answered.saturating_sub(before.answered);
    match (refused, answered) {
        (0, 0) | (1.., 1..) => result,
        (sessions, 0) => {
            let reason = FailureReason::TrafficRefused { sessions };
            ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
        }
        (0, answers) => ProbeResult::Passed(Pass::Silent(Proof::Traffic { answers })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::finding::{Doubt, Void};
    use std::time::Duration;

    #[test]
    fn traffic_decides_only_where_a_probe_heard_nothing() {
        let refused = |sessions| {
            let reason = FailureReason::TrafficRefused { sessions };
            ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
        };
        let answered = |answers| ProbeResult::Passed(Pass::Silent(Proof::Traffic { answers }));
        let doubtful = ProbeResult::Void(Void::Doubtful(Doubt::NothingRefused { port: 1, last: None }));
        let silences = [ProbeResult::Passed(Pass::Silent(Proof::None)), doubtful];
        let decided = [
            ProbeResult::Passed(Pass::Answered),
            ProbeResult::Passed(Pass::Silent(Proof::Refusal { apart: Duration::ZERO })),
            ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::Refused }),
            ProbeResult::Void(Void::Silent),
            ProbeResult::Void(Void::Late { by: Duration::from_secs(1) }),
        ];
        let before = Sessions { refused: 10, answered: 100 };
        let table = [
            // refused  answered  what a silent probe has found
            (10, 100, None),
            (13, 100, Some(refused(3))),
            (10, 104, Some(answered(4))),
            (13, 104, None),
            // The counters began anew.
            (2, 7, None),
        ];
        for (refused, answered, found) in table {
            let now = Sessions { refused, answered };
            for silence in &silences {
                let expected = found.clone().unwrap_or_else(|| silence.clone());
                assert_eq!(weigh(silence.clone(), before, now), expected, "{silence:?} {now:?}");
            }
            for result in &decided {
                assert_eq!(weigh(result.clone(), before, now), *result, "{now:?}");
            }
        }
    }
}
