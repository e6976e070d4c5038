//! The udp probe: one datagram, then an answer, a refusal (ICMP) or silence.
//!
//! The socket is connected, so the kernel hands us only datagrams of the backend's own address and port, and its
//! ICMP errors. The first datagram decides: each probe has a source port of its own, so an answer cannot
//! be a late one to the probe before.
//!
//! What silence means is the operator's choice. It passes by default, which is weak: a busy host holds back its
//! ICMP errors, and a route that eats datagrams is silent too. `Pass::Silent` keeps that visible.

use evenkeel_health::pattern::Pattern;
use evenkeel_health::settings::{Silence, UdpProbe};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Proof, Void};
use evenkeel_model::limits;
use evenkeel_reactor::errno;

use crate::failure;
use crate::machine::Fact;

#[derive(Debug)]
pub struct Udp {
    payload: Vec<u8>,
    expect: Option<Pattern>,
    silence: Silence,
    sent: bool,
}

impl Udp {
    pub fn new(settings: &UdpProbe) -> Self {
        Udp { payload: settings.send.clone(), expect: settings.expect.clone(), silence: settings.silence, sent: false }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            // Connecting a UDP socket only names the other side; nothing has been heard of it.
            Fact::Connected | Fact::Ended => None,
            Fact::Received(datagram) => Some(self.judge(datagram)),
            Fact::Failed(errno) => Some(failure::failed(self.phase(), errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        if !self.sent {
            // A fresh socket that takes no datagram for a whole timeout is our kernel's doing.
            return ProbeResult::Void(Void::NoResources { errno: errno::ENOBUFS.0 });
        }
        let silent = ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::TimedOut });
        if self.expect.is_some() {
            return silent;
        }
        match self.silence {
            Silence::Pass => ProbeResult::Passed(Pass::Silent(Proof::None)),
            Silence::Fail => silent,
            Silence::Keep => ProbeResult::Void(Void::Silent),
        }
    }

    pub fn phase(&self) -> ProbePhase {
        if self.sent { ProbePhase::Read } else { ProbePhase::Write }
    }

    pub fn to_send(&self) -> &[u8] {
        &self.payload
    }

    /// Datagrams go whole or not at all.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    fn judge(&self, datagram: &[u8]) -> ProbeResult {
        match &self.expect {
            Some(expected) if !expected.matches(datagram) => {
                let kept = datagram.len().min(limits::PROBE_EVIDENCE.value as usize);
                let reason = FailureReason::Mismatch { got: datagram[..kept].to_vec() };
                ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
            }
            Some(_) | None => ProbeResult::Passed(Pass::Answered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_health::pattern::Covers;

    fn asked(expect: Option<&[u8]>, silence: Silence) -> Udp {
        let mut udp = Udp::new(&UdpProbe {
            send: b"ping".to_vec(),
            expect: expect.map(|expected| Pattern::literal(expected, Covers::Whole)),
            silence,
            ..UdpProbe::default()
        });
        assert_eq!(udp.to_send(), b"ping");
        udp.sent();
        udp
    }

    fn read_failed(reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
    }

    #[test]
    fn what_comes_back_decides() {
        let answered = ProbeResult::Passed(Pass::Answered);
        let mismatch = |got: &[u8]| read_failed(FailureReason::Mismatch { got: got.to_vec() });
        let long = [b'x'; 200];
        let table: [(Option<&[u8]>, Fact<'_>, ProbeResult); 9] = [
            (None, Fact::Received(b"anything"), answered.clone()),
            (None, Fact::Received(b""), answered.clone()),
            (Some(b"pong"), Fact::Received(b"pong"), answered.clone()),
            (Some(b"pong"), Fact::Received(b"pong "), mismatch(b"pong ")),
            (Some(b"pong"), Fact::Received(b"pon"), mismatch(b"pon")),
            (Some(b"pong"), Fact::Received(b""), mismatch(b"")),
            (Some(b"pong"), Fact::Received(&long), mismatch(&long[..64])),
            (Some(b""), Fact::Received(b""), answered),
            (None, Fact::Failed(errno::ECONNREFUSED), read_failed(FailureReason::Refused)),
        ];
        for (expect, fact, expected) in table {
            assert_eq!(asked(expect, Silence::Pass).handle(fact), Some(expected), "{expect:?} {fact:?}");
        }
    }

    #[test]
    fn silence_means_what_the_operator_said_and_fails_an_expectation() {
        let timed_out = read_failed(FailureReason::TimedOut);
        let table: [(Option<&[u8]>, Silence, ProbeResult); 6] = [
            (None, Silence::Pass, ProbeResult::Passed(Pass::Silent(Proof::None))),
            (None, Silence::Fail, timed_out.clone()),
            (None, Silence::Keep, ProbeResult::Void(Void::Silent)),
            (Some(b"pong"), Silence::Pass, timed_out.clone()),
            (Some(b"pong"), Silence::Fail, timed_out.clone()),
            (Some(b"pong"), Silence::Keep, timed_out),
        ];
        for (expect, silence, expected) in table {
            assert_eq!(asked(expect, silence).handle_deadline(), expected, "{expect:?} {silence:?}");
        }
    }

    #[test]
    fn a_datagram_that_never_left_says_nothing_of_the_backend() {
        let udp = Udp::new(&UdpProbe::default());
        assert_eq!(udp.handle_deadline(), ProbeResult::Void(Void::NoResources { errno: 105 }));
    }

    #[test]
    fn an_error_before_the_datagram_left_is_one_of_writing() {
        let mut udp = Udp::new(&UdpProbe::default());
        let expected =
            Failure { phase: ProbePhase::Write, reason: FailureReason::Unreachable { errno: errno::EPERM.0 } };
        assert_eq!(udp.handle(Fact::Failed(errno::EPERM)), Some(ProbeResult::Failed(expected)));
    }
}
