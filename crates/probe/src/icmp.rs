//! The icmp probe: one echo request, passed by its reply.
//!
//! The kernel hands a "ping socket" the replies to its own identifier only, but gives the identifier of a closed one out
//! again, and does not compare hosts. So each request bears a number of its own, and what comes back without it is
//! somebody else's: it decides nothing.
//!
//! How long the reply took is the finding's duration.

use std::net::IpAddr;

use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Void};
use evenkeel_reactor::errno;

use crate::failure;
use crate::machine::Fact;

/// Type, code, checksum, identifier, sequence. The kernel fills in the third and fourth.
const HEADER: usize = 8;

/// For whoever looks at a capture.
const NAME: &[u8; 8] = b"evenkeel";

const LENGTH: usize = HEADER + NAME.len() + size_of::<u64>();

#[derive(Debug)]
pub struct Icmp {
    request: [u8; LENGTH],
    reply_type: u8,
    sent: bool,
}

impl Icmp {
    /// `number` is one that nobody can guess and no other request bears.
    pub fn new(to: IpAddr, number: u64) -> Self {
        let (request_type, reply_type) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
        let mut request = [0; LENGTH];
        request[0] = request_type;
        request[HEADER - 1] = 1;
        request[HEADER..HEADER + NAME.len()].copy_from_slice(NAME);
        request[HEADER + NAME.len()..].copy_from_slice(&number.to_be_bytes());
        Icmp { request, reply_type, sent: false }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Received(message) => self.is_reply(message).then_some(ProbeResult::Passed(Pass::Echoed)),
            Fact::Failed(errno) => Some(failure::failed(self.phase(), errno)),
            // Connecting only names the host, and there is no stream that could end.
            Fact::Connected | Fact::Ended => None,
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        if !self.sent {
            // A fresh socket that takes no request for a whole timeout is our kernel's doing.
            return ProbeResult::Void(Void::NoResources { errno: errno::ENOBUFS.0 });
        }
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::TimedOut })
    }

    pub fn phase(&self) -> ProbePhase {
        if self.sent { ProbePhase::Read } else { ProbePhase::Write }
    }

    pub fn to_send(&self) -> &[u8] {
        &self.request
    }

    /// It goes whole or not at all.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    fn is_reply(&self, message: &[u8]) -> bool {
        let Some((head, payload)) = message.split_at_checked(HEADER) else { return false };
        head[0] == self.reply_type && payload == &self.request[HEADER..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> Icmp {
        let mut icmp = Icmp::new(host.parse().expect("an address"), 0x0102_0304_0506_0708);
        assert_eq!(icmp.phase(), ProbePhase::Write);
        icmp.sent();
        icmp
    }

    #[test]
    fn a_request_is_of_its_family_and_bears_our_name_and_number() {
        for (host, kind) in [("192.0.2.1", 8), ("2001:db8::1", 128)] {
            let icmp = asked(host);
            assert_eq!(icmp.to_send()[..8], [kind, 0, 0, 0, 0, 0, 0, 1]);
            assert_eq!(icmp.to_send()[8..], *b"evenkeel\x01\x02\x03\x04\x05\x06\x07\x08");
        }
    }

    #[test]
    fn only_the_reply_to_this_request_passes() {
        for (host, reply, of_the_other_family) in [("192.0.2.1", 0, 129), ("2001:db8::1", 129, 0)] {
            let mut icmp = asked(host);
            let mut message = icmp.to_send().to_vec();
            // Its own request, which a capture-happy kernel or a loop could bring back.
            assert_eq!(icmp.handle(Fact::Received(&message)), None);
            message[0] = of_the_other_family;
            assert_eq!(icmp.handle(Fact::Received(&message)), None);
            message[0] = reply;
            // Checksum and identifier are the kernel's.
            message[2..6].copy_from_slice(&[9, 9, 9, 9]);
            let mut of_another = message.clone();
            *of_another.last_mut().expect("it has bytes") ^= 1;
            for other in [&of_another[..], &message[..message.len() - 1], &message[..7], &[]] {
                assert_eq!(icmp.handle(Fact::Received(other)), None, "{other:?}");
            }
            assert_eq!(icmp.handle(Fact::Received(&message)), Some(ProbeResult::Passed(Pass::Echoed)));
        }
    }

    #[test]
    fn what_comes_instead_of_a_reply_is_a_failure_unless_it_is_our_own_shortage() {
        let failed = |phase, reason| ProbeResult::Failed(Failure { phase, reason });
        let mut icmp = asked("192.0.2.1");
        assert_eq!(icmp.handle_deadline(), failed(ProbePhase::Read, FailureReason::TimedOut));
        let unreachable = failed(ProbePhase::Read, FailureReason::Unreachable { errno: 113 });
        assert_eq!(icmp.handle(Fact::Failed(errno::EHOSTUNREACH)), Some(unreachable));

        let mut unsent = Icmp::new([192, 0, 2, 1].into(), 1);
        let void = ProbeResult::Void(Void::NoResources { errno: errno::ENOBUFS.0 });
        assert_eq!(unsent.handle_deadline(), void);
        assert_eq!(unsent.handle(Fact::Failed(errno::ENOBUFS)), Some(void));
        let unreachable = failed(ProbePhase::Write, FailureReason::Unreachable { errno: 101 });
        assert_eq!(unsent.handle(Fact::Failed(errno::ENETUNREACH)), Some(unreachable));
    }
}
