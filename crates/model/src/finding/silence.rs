//! What it is worth that nothing came back from a udp service.
//!
//! A closed port shows itself by an ICMP refusal, and a host sends few of them: about one a second to each address
//! that asks. So silence speaks for a service only while refusals of its host are known to come through.

use std::fmt;
use std::time::Duration;

use super::{Pass, ProbeResult, Void};

/// What makes silence pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing does: the check has no closed port to compare with.
    None,
    /// A datagram to the closed port was refused, so far in time from the one that met silence.
    Refusal { apart: Duration },
    /// The backend answered clients meanwhile.
    Traffic { answers: u64 },
}

/// Why silence neither passes nor fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The closed port was not refused either. `last`: so long ago one was.
    NothingRefused { port: u16, last: Option<Duration> },
    /// The port that should be closed answered.
    PortAnswers { port: u16 },
    /// Nobody asked the closed port near enough in time to compare.
    NotAsked { port: u16 },
}

/// The mark on a verdict that rests on silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Nobody asked whether a refusal would come through.
    Unmeasured,
    /// It would have.
    Trusted,
    /// It would not: a dead service looks like this one.
    Untrusted,
}

impl Trust {
    pub const ALL: [Trust; 3] = [Trust::Unmeasured, Trust::Trusted, Trust::Untrusted];

    pub const fn word(self) -> &'static str {
        match self {
            Trust::Unmeasured => "unmeasured",
            Trust::Trusted => "trusted",
            Trust::Untrusted => "untrusted",
        }
    }
}

impl ProbeResult {
    /// The mark on a verdict whose last word is this result; `None` when it rests on something that was heard.
    pub const fn trust(&self) -> Option<Trust> {
        match self {
            ProbeResult::Passed(Pass::Silent(Proof::None)) => Some(Trust::Unmeasured),
            ProbeResult::Passed(Pass::Silent(Proof::Refusal { .. })) => Some(Trust::Trusted),
            ProbeResult::Void(Void::Doubtful(_)) => Some(Trust::Untrusted),
            ProbeResult::Passed(_) | ProbeResult::Failed(_) | ProbeResult::Void(_) => None,
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::None => f.write_str("silence, no icmp refusal"),
            Proof::Refusal { apart } => {
                write!(f, "silence, while the closed port was refused ({} apart)", super::Millis(*apart))
            }
            Proof::Traffic { answers } => write!(f, "silence, while clients got {answers} answers"),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::NothingRefused { port, last } => {
                write!(f, "silence that cannot be trusted: closed port {port} was not refused either ")?;
                match last {
                    Some(last) => write!(f, "(it was {} ago: the host has used up its icmp)", super::Millis(*last)),
                    None => f.write_str("(it never was: a firewall keeps icmp back, or the port is open)"),
                }
            }
            Doubt::NotAsked { port } => {
                write!(f, "silence that cannot be trusted yet: closed port {port} was not asked at that time")
            }
            Doubt::PortAnswers { port } => {
                write!(f, "silence that cannot be measured: port {port} should be closed and answers")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Failure, FailureReason, ProbePhase};

    #[test]
    fn each_kind_of_silence_bears_its_mark_and_reads_as_what_it_is_worth() {
        let secs = Duration::from_secs;
        let silent = |proof| ProbeResult::Passed(Pass::Silent(proof));
        let doubtful = |doubt| ProbeResult::Void(Void::Doubtful(doubt));
        let refused = ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::Refused });
        let table = [
            (silent(Proof::None), Some(Trust::Unmeasured), "silence, no icmp refusal"),
            (
                silent(Proof::Refusal { apart: secs(1) }),
                Some(Trust::Trusted),
                "silence, while the closed port was refused (1000.0ms apart)",
            ),
            (silent(Proof::Traffic { answers: 7 }), None, "silence, while clients got 7 answers"),
            (
                doubtful(Doubt::NothingRefused { port: 1, last: Some(secs(9)) }),
                Some(Trust::Untrusted),
                "silence that cannot be trusted: closed port 1 was not refused either (it was 9000.0ms \
                 ago: the host has used up its icmp)",
            ),
            (
                doubtful(Doubt::NothingRefused { port: 1, last: None }),
                Some(Trust::Untrusted),
                "silence that cannot be trusted: closed port 1 was not refused either (it never was: \
                 a firewall keeps icmp back, or the port is open)",
            ),
            (
                doubtful(Doubt::PortAnswers { port: 1 }),
                Some(Trust::Untrusted),
                "silence that cannot be measured: port 1 should be closed and answers",
            ),
            (
                doubtful(Doubt::NotAsked { port: 1 }),
                Some(Trust::Untrusted),
                "silence that cannot be trusted yet: closed port 1 was not asked at that time",
            ),
            (ProbeResult::Void(Void::Silent), None, "silence, which this check keeps out of the verdict"),
            (refused, None, "refused"),
        ];
        for (result, mark, text) in table {
            assert_eq!(result.trust(), mark, "{text}");
            let said = match result {
                ProbeResult::Passed(pass) => pass.to_string(),
                ProbeResult::Failed(failure) => failure.reason.to_string(),
                ProbeResult::Void(void) => void.to_string(),
            };
            assert_eq!(said, text);
        }
    }
}
