//! Says what an error of a probe's socket means: whose fault, and which reason goes into the finding.
//!
//! The errno stays in the finding wherever the reason does not already say it, because it is what
//! an operator compares with a capture: a firewall that rejects shows as 113 (EHOSTUNREACH) and not as a timeout.

use evenkeel_model::finding::{Failure, FailureReason, ProbePhase, ProbeResult, Void};
use evenkeel_reactor::{Errno, errno};

/// What `errno`, met in `phase`, says of the backend; void when it says something of us instead.
pub fn failed(phase: ProbePhase, errno: Errno) -> ProbeResult {
    if is_our_shortage(errno) {
        return ProbeResult::Void(Void::NoResources { errno: errno.0 });
    }
    ProbeResult::Failed(Failure { phase, reason: reason(errno) })
}

fn reason(errno: Errno) -> FailureReason {
    match errno {
        // A firewall that rejects with a TCP reset looks the same, to us as to every client.
        errno::ECONNREFUSED => FailureReason::Refused,
        // EPIPE is what a write gets when the reset was noticed before it.
        errno::ECONNRESET | errno::ECONNABORTED | errno::EPIPE => FailureReason::Reset,
        // The kernel gave up before a long timeout did: after six SYNs, about two minutes.
        errno::ETIMEDOUT => FailureReason::TimedOut,
        errno if errno.is_unreachable() => FailureReason::Unreachable { errno: errno.0 },
        Errno(errno) => FailureReason::Socket { errno },
    }
}

/// EAGAIN is how the kernel says that a UDP socket found no free source port; TCP says EADDRNOTAVAIL.
/// Waiting for readiness is not an error to the driver, so it never arrives here as that.
fn is_our_shortage(errno: Errno) -> bool {
    errno.is_our_shortage() || errno == errno::EAGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_blames_the_side_it_comes_from() {
        let backend = |reason| ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason });
        let ours = |errno| ProbeResult::Void(Void::NoResources { errno });
        let unreachable = |errno| backend(FailureReason::Unreachable { errno });
        let table = [
            (errno::ECONNREFUSED, backend(FailureReason::Refused)),
            (errno::ECONNRESET, backend(FailureReason::Reset)),
            (errno::ECONNABORTED, backend(FailureReason::Reset)),
            (errno::EPIPE, backend(FailureReason::Reset)),
            (errno::ETIMEDOUT, backend(FailureReason::TimedOut)),
            (errno::ENETUNREACH, unreachable(101)),
            (errno::EHOSTUNREACH, unreachable(113)),
            (errno::ENETDOWN, unreachable(100)),
            (errno::EACCES, unreachable(13)),
            (errno::EPERM, unreachable(1)),
            (Errno(71), backend(FailureReason::Socket { errno: 71 })),
            (errno::EMFILE, ours(24)),
            (errno::ENFILE, ours(23)),
            (errno::ENOMEM, ours(12)),
            (errno::ENOBUFS, ours(105)),
            (errno::EADDRNOTAVAIL, ours(99)),
            (errno::EAGAIN, ours(11)),
        ];
        for (errno, expected) in table {
            assert_eq!(failed(ProbePhase::Connect, errno), expected, "{errno:?}");
        }
    }
}
