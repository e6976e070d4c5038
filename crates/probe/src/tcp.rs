//! The tcp probe: passes when the backend's host answers our SYN with a SYN+ACK.
//!
//! It sends and reads nothing. Whether the final ACK goes out before our reset (`full`) or not (`half-open`) is
//! the driver's doing; this machine hears the same in both cases.

use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_reactor::errno;

use crate::failure;
use crate::machine::Fact;

#[derive(Debug)]
pub struct Tcp;

impl Tcp {
    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => Some(ProbeResult::Passed(Pass::Connected)),
            // A reset before the SYN+ACK is ECONNREFUSED. These two come after it: an application that
            // accepts and hangs up at once would otherwise pass or fail by who of us is quicker.
            Fact::Failed(errno::ECONNRESET | errno::EPIPE) => Some(ProbeResult::Passed(Pass::Connected)),
            Fact::Failed(errno) => Some(failure::failed(ProbePhase::Connect, errno)),
            // Nothing is read before `Connected`, and `Connected` ends the probe.
            Fact::Received(_) | Fact::Ended => None,
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason: FailureReason::TimedOut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::finding::Void;

    #[test]
    fn only_a_syn_ack_passes() {
        let failed = |reason| Some(ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason }));
        let passed = Some(ProbeResult::Passed(Pass::Connected));
        let table = [
            (Fact::Connected, passed.clone()),
            (Fact::Failed(errno::ECONNRESET), passed.clone()),
            (Fact::Failed(errno::EPIPE), passed),
            (Fact::Failed(errno::ECONNREFUSED), failed(FailureReason::Refused)),
            (Fact::Failed(errno::EHOSTUNREACH), failed(FailureReason::Unreachable { errno: 113 })),
            (Fact::Failed(errno::ETIMEDOUT), failed(FailureReason::TimedOut)),
            (Fact::Failed(errno::ENOBUFS), Some(ProbeResult::Void(Void::NoResources { errno: 105 }))),
        ];
        for (fact, expected) in table {
            assert_eq!(Tcp.handle(fact), expected, "{fact:?}");
        }
        assert_eq!(Some(Tcp.handle_deadline()), failed(FailureReason::TimedOut));
    }
}
