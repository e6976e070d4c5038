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
    use evenkeel_health::pattern::{Byte, Covers};

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
    fn bytes_that_are_no_text_and_bytes_that_are_free_are_compared_too() {
        let is = |bytes: &[u8]| bytes.iter().copied().map(Byte::Is).collect::<Vec<_>>();
        // A DNS answer to this id with any flags, and a game server's reply with its name somewhere in it.
        let dns = [is(b"\xbe\xef"), vec![Byte::Any; 2], is(b"\0\x01"), vec![Byte::Run]].concat();
        let game = [is(b"\xff\xff\xff\xffI"), vec![Byte::Run], is(b"de_dust\0"), vec![Byte::Run]].concat();
        let whole = |bytes: &[Byte]| Pattern::bytes(bytes, Covers::Whole);
        let regex = |written| Pattern::regex(written).expect("valid");
        let table: [(Pattern, &[u8], bool); 11] = [
            (whole(&dns), b"\xbe\xef\x81\x80\0\x01", true),
            (whole(&dns), b"\xbe\xef\n\n\0\x01and more\n\0\xff", true),
            (whole(&dns), b"\xbe\xef\x81\0\x01", false),
            (whole(&dns), b"\xbe\xee\x81\x80\0\x01", false),
            (whole(&game), b"\xff\xff\xff\xffI\x11\nserver\0de_dust\0\x0c", true),
            (whole(&game), b"\xff\xff\xff\xffA\x11\nserver\0de_dust\0\x0c", false),
            (Pattern::literal(b"\0\x01\xfe", Covers::Whole), b"\0\x01\xfe", true),
            (Pattern::literal(b"\0\x01\xfe", Covers::Whole), b"\0\x01\xff", false),
            // Bytes above 7f are written so in an expression, and are no letters.
            (regex(r"(?-u)\A\xff{4}I"), b"\xff\xff\xff\xffI\x11", true),
            (regex("^ready$"), b"load 3\nready\n", true),
            (regex("^ready$"), b"not ready\xff", false),
        ];
        for (expected, datagram, passes) in table {
            let shown = expected.to_string();
            let mut udp = asked(None, Silence::Fail);
            udp.expect = Some(expected);
            let result = udp.handle(Fact::Received(datagram)).expect("the first datagram decides");
            assert_eq!(result.passed(), passes, "{shown} against {}", datagram.escape_ascii());
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
