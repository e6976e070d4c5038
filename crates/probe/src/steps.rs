//! A conversation: sends and expectations in their order, passed when the last one is done.
//!
//! An expectation is met as soon as what has come matches, and the next one looks behind the match: what came beyond it
//! is kept. A stream has no end of its own, so an expectation that is not met yet may be met by the next byte. Only the
//! backend's close, a reset, the timeout or too many bytes end it, and the evidence then names the step and shows what
//! came in the place of the expected.
//!
//! Everything that was heard is kept, bounded, and not only what is behind the last match: `^` has to know whether the
//! line began there.

use std::sync::Arc;

use evenkeel_health::pattern::Pattern;
use evenkeel_health::settings::Step;
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, StepEnd};
use evenkeel_model::limits;

use crate::failure;
use crate::machine::Fact;

const KEPT: usize = limits::PROBE_CONVERSATION.value as usize;

#[derive(Debug)]
pub struct Steps {
    steps: Arc<[Step]>,
    /// `None` until the connection stands, then the step that is being done.
    at: Option<usize>,
    /// Bytes of the current step that have left.
    sent: usize,
    heard: Vec<u8>,
    /// Where in it the next expectation begins.
    from: usize,
    /// The backend has said all it will say.
    ended: bool,
}

impl Steps {
    pub fn new(steps: Arc<[Step]>) -> Self {
        Steps { steps, at: None, sent: 0, heard: Vec::new(), from: 0, ended: false }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => self.at = Some(0),
            Fact::Received(bytes) => {
                let room = KEPT - self.heard.len();
                self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Fact::Ended => self.ended = true,
            Fact::Failed(errno) => {
                let result = failure::failed(self.phase(), errno);
                return Some(match (result, self.expected()) {
                    (ProbeResult::Failed(Failure { reason: FailureReason::Reset, .. }), Some(pattern)) => {
                        self.missed(pattern, StepEnd::Reset)
                    }
                    (other, _) => other,
                });
            }
        }
        self.advance()
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        match self.expected() {
            Some(pattern) => self.missed(pattern, StepEnd::TimedOut),
            None => ProbeResult::Failed(Failure { phase: self.phase(), reason: FailureReason::TimedOut }),
        }
    }

    pub fn phase(&self) -> ProbePhase {
        match self.at.map(|at| self.steps.get(at)) {
            None => ProbePhase::Connect,
            Some(Some(Step::Send(_))) => ProbePhase::Write,
            Some(Some(Step::Expect(_)) | None) => ProbePhase::Read,
        }
    }

    pub fn to_send(&self) -> &[u8] {
        match self.at.and_then(|at| self.steps.get(at)) {
            Some(Step::Send(words)) => &words[self.sent..],
            Some(Step::Expect(_)) | None => &[],
        }
    }

    pub fn sent(&mut self, bytes: usize) -> Option<ProbeResult> {
        self.sent += bytes;
        self.advance()
    }

    /// The last word is ours: a reset right behind it could overtake it.
    pub fn ends_with_our_word(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Send(_)))
    }

    /// Does all steps that can be done now.
    fn advance(&mut self) -> Option<ProbeResult> {
        let mut at = self.at?;
        let result = loop {
            match self.steps.get(at) {
                None => break Some(ProbeResult::Passed(Pass::Answered)),
                Some(Step::Send(words)) if self.sent < words.len() => break None,
                Some(Step::Send(_)) => self.sent = 0,
                Some(Step::Expect(pattern)) => match pattern.find(&self.heard, self.from) {
                    Some(found) => self.from = found.end,
                    None => break self.stuck().map(|end| self.missed_at(at, pattern, end)),
                },
            }
            at += 1;
        };
        self.at = Some(at);
        result
    }

    /// Why nothing more can come for an expectation; `None` while it can.
    fn stuck(&self) -> Option<StepEnd> {
        if self.heard.len() == KEPT {
            return Some(StepEnd::TooLong);
        }
        self.ended.then_some(StepEnd::Closed)
    }

    /// What we are waiting for.
    fn expected(&self) -> Option<&Pattern> {
        match self.steps.get(self.at?) {
            Some(Step::Expect(pattern)) => Some(pattern),
            Some(Step::Send(_)) | None => None,
        }
    }

    /// What came in the place of the expected. Where we spoke last, the rest of the line before that is no part of it.
    fn instead(&self, at: usize) -> &[u8] {
        let rest = &self.heard[self.from..];
        let spoke = at.checked_sub(1).is_some_and(|before| matches!(self.steps[before], Step::Send(_)));
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) if spoke && self.from > 0 => &rest[end + 1..],
            _ => rest,
        }
    }

    fn missed(&self, pattern: &Pattern, end: StepEnd) -> ProbeResult {
        self.missed_at(self.at.unwrap_or_default(), pattern, end)
    }

    fn missed_at(&self, at: usize, pattern: &Pattern, end: StepEnd) -> ProbeResult {
        let got = self.instead(at);
        let kept = got.len().min(limits::PROBE_EVIDENCE.value as usize);
        let reason = FailureReason::Step {
            // Config bounds the steps far below what a u16 holds.
            step: (at + 1) as u16,
            of: self.steps.len() as u16,
            wanted: pattern.shown(),
            got: got[..kept].to_vec(),
            end,
        };
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_health::pattern::Covers;
    use evenkeel_model::finding::Void;
    use evenkeel_reactor::errno;

    fn send(words: &str) -> Step {
        Step::Send(words.into())
    }

    fn text(wanted: &str) -> Step {
        Step::Expect(Pattern::literal(wanted.as_bytes(), Covers::Part))
    }

    fn regex(wanted: &str) -> Step {
        Step::Expect(Pattern::regex(wanted).expect("valid"))
    }

    fn passed() -> ProbeResult {
        ProbeResult::Passed(Pass::Answered)
    }

    fn missed(step: u16, of: u16, wanted: &str, got: &[u8], end: StepEnd) -> ProbeResult {
        let reason = FailureReason::Step { step, of, wanted: wanted.into(), got: got.to_vec(), end };
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
    }

    /// Says all that is ours to say now, in pieces of `piece` bytes, and notes it.
    fn say(steps: &mut Steps, said: &mut Vec<u8>, piece: usize) -> Option<ProbeResult> {
        while steps.phase() == ProbePhase::Write {
            let words = steps.to_send();
            assert!(!words.is_empty(), "a turn to write without a word");
            let bytes = words.len().min(piece);
            said.extend_from_slice(&words[..bytes]);
            if let Some(result) = steps.sent(bytes) {
                return Some(result);
            }
        }
        None
    }

    /// The whole conversation with a backend whose words come in these pieces, and then its end.
    fn talk(steps: &[Step], words: &[&[u8]], piece: usize) -> (ProbeResult, Vec<u8>) {
        let mut said = Vec::new();
        let mut machine = Steps::new(steps.into());
        assert_eq!(machine.phase(), ProbePhase::Connect);
        let mut result = machine.handle(Fact::Connected).or_else(|| say(&mut machine, &mut said, piece));
        for words in words {
            result = result
                .or_else(|| machine.handle(Fact::Received(words)))
                .or_else(|| say(&mut machine, &mut said, piece));
        }
        let result = result.or_else(|| machine.handle(Fact::Ended)).or_else(|| say(&mut machine, &mut said, piece));
        (result.expect("the end of the stream decides"), said)
    }

    /// Steps, what the backend says, what is found, what we said.
    type Case<'a> = (&'a [Step], &'a [u8], ProbeResult, &'a [u8]);

    #[test]
    fn a_conversation_decides_however_it_is_cut() {
        let smtp = [text("220 "), send("HELO probe\r\n"), regex("^250"), send("QUIT\r\n"), regex("^221")];
        let redis = [send("PING\r\n"), text("+PONG\r\n")];
        let table: [Case<'_>; 10] = [
            (&smtp, b"220 mail ESMTP\r\n250 hello\r\n221 bye\r\n", passed(), b"HELO probe\r\nQUIT\r\n"),
            // A line that only begins with 250 somewhere in its middle is no answer.
            (
                &smtp,
                b"220 250 there\r\n550 no 250\r\n",
                missed(3, 5, "/^250/", b"550 no 250\r\n", StepEnd::Closed),
                b"HELO probe\r\n",
            ),
            (&smtp, b"421 busy\r\n", missed(1, 5, "\"220 \"", b"421 busy\r\n", StepEnd::Closed), b""),
            (&smtp, b"", missed(1, 5, "\"220 \"", b"", StepEnd::Closed), b""),
            (&redis, b"+PONG\r\n", passed(), b"PING\r\n"),
            (
                &redis,
                b"-NOAUTH Authentication required.\r\n",
                missed(2, 2, "\"+PONG\\r\\n\"", b"-NOAUTH Authentication required.\r\n", StepEnd::Closed),
                b"PING\r\n",
            ),
            // The same words twice are two matches, and one of them is not two.
            (&[text("ok"), text("ok")], b"ok ok", passed(), b""),
            (
                &[text("is "), text("ready")],
                b"is dead\nsorry",
                missed(2, 2, "\"ready\"", b"dead\nsorry", StepEnd::Closed),
                b"",
            ),
            (&[text("ok"), text("ok")], b"ok o k", missed(2, 2, "\"ok\"", b" o k", StepEnd::Closed), b""),
            (&[send("bye"), send(" now")], b"", passed(), b"bye now"),
        ];
        for (steps, words, expected, said) in &table {
            let name = words.escape_ascii();
            let expected = (expected.clone(), said.to_vec());
            for piece in [1, 100] {
                assert_eq!(talk(steps, &[words], piece), expected, "whole: {name}");
                for cut in 1..words.len() {
                    assert_eq!(talk(steps, &[&words[..cut], &words[cut..]], piece), expected, "cut at {cut}: {name}");
                }
                let bytes: Vec<&[u8]> = words.chunks(1).collect();
                assert_eq!(talk(steps, &bytes, piece), expected, "byte by byte: {name}");
            }
        }
    }

    #[test]
    fn a_failure_names_the_step_it_met() {
        let steps: Arc<[Step]> = [send("a"), text("b"), text("c")].into();
        let failed = |phase, reason| ProbeResult::Failed(Failure { phase, reason });

        let mut dialing = Steps::new(Arc::clone(&steps));
        assert_eq!(dialing.handle_deadline(), failed(ProbePhase::Connect, FailureReason::TimedOut));
        let refused = dialing.handle(Fact::Failed(errno::ECONNREFUSED));
        assert_eq!(refused, Some(failed(ProbePhase::Connect, FailureReason::Refused)));

        let mut writing = Steps::new(Arc::clone(&steps));
        writing.handle(Fact::Connected);
        assert_eq!(writing.handle_deadline(), failed(ProbePhase::Write, FailureReason::TimedOut));
        let reset = writing.handle(Fact::Failed(errno::EPIPE));
        assert_eq!(reset, Some(failed(ProbePhase::Write, FailureReason::Reset)));

        let mut reading = Steps::new(steps);
        reading.handle(Fact::Connected);
        reading.sent(1);
        reading.handle(Fact::Received(b"-b-x"));
        assert_eq!(reading.handle_deadline(), missed(3, 3, "\"c\"", b"-x", StepEnd::TimedOut));
        let reset = reading.handle(Fact::Failed(errno::ECONNRESET));
        assert_eq!(reset, Some(missed(3, 3, "\"c\"", b"-x", StepEnd::Reset)));
        let gone = reading.handle(Fact::Failed(errno::EHOSTUNREACH));
        assert_eq!(gone, Some(failed(ProbePhase::Read, FailureReason::Unreachable { errno: 113 })));
        let ours = reading.handle(Fact::Failed(errno::ENOBUFS));
        assert_eq!(ours, Some(ProbeResult::Void(Void::NoResources { errno: 105 })));
    }

    #[test]
    fn what_came_before_our_turn_is_not_lost() {
        let mut steps = Steps::new([send("hello"), text("a"), send("again"), text("b")].into());
        steps.handle(Fact::Connected);
        steps.sent(2);
        assert_eq!(steps.handle(Fact::Received(b"ab")), None);
        assert_eq!(steps.handle(Fact::Ended), None, "it may still listen");
        assert_eq!(steps.to_send(), b"llo");
        assert_eq!(steps.sent(3), None);
        assert_eq!(steps.to_send(), b"again");
        assert_eq!(steps.sent(5), Some(passed()));
    }

    #[test]
    fn a_backend_that_talks_without_end_is_given_up() {
        let limit = limits::PROBE_CONVERSATION.value as usize;
        for piece in [7, 1000, limit * 2] {
            let mut steps = Steps::new([text("never")].into());
            steps.handle(Fact::Connected);
            let flood = vec![b'x'; limit * 2];
            let result = flood.chunks(piece).find_map(|bytes| steps.handle(Fact::Received(bytes)));
            assert_eq!(result, Some(missed(1, 1, "\"never\"", &[b'x'; 64], StepEnd::TooLong)), "pieces of {piece}");
        }
        // The last byte that is kept still counts.
        let mut steps = Steps::new([text("end")].into());
        steps.handle(Fact::Connected);
        let mut words = vec![b'x'; limit - 3];
        words.extend_from_slice(b"end");
        assert_eq!(steps.handle(Fact::Received(&words)), Some(passed()));
    }
}
