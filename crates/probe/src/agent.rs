//! The agent probe: a program beside the backend says in one line how it is (HAProxy's agent-check protocol).
//!
//! Words between spaces, tabs and commas, in any order and case: `up`, `down`, `fail`, `stopped`; `ready`, `drain`, `maint`; a
//! percentage of the weight; `maxconn:` and a number. Of two words of one kind the last counts. Behind `#` stands why.
//!
//! Where we differ from HAProxy: every line stands for itself, so one without a word of down passes; and a word that is
//! none fails the probe, since a misspelt `drain` that goes unheard is found out by the clients. `failed` is taken for
//! `fail`. `maxconn` is read and not acted upon: a limit that follows each agent's word would be split over nodes by nobody.

use evenkeel_model::finding::{AgentSays, Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_model::limits;
use evenkeel_model::standing::Order;

use crate::failure;
use crate::machine::Fact;

const LINE: usize = limits::PROBE_AGENT_LINE.value as usize;

#[derive(Debug)]
pub struct Agent {
    ask: Vec<u8>,
    sent: usize,
    connected: bool,
    line: Vec<u8>,
}

impl Agent {
    pub fn new(ask: Vec<u8>) -> Self {
        Agent { ask, sent: 0, connected: false, line: Vec::new() }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => {
                self.connected = true;
                None
            }
            Fact::Received(bytes) => self.read(bytes),
            Fact::Ended if self.line.is_empty() => Some(self.failed(FailureReason::Closed)),
            Fact::Ended => Some(not_agent("its line has no end", &self.line)),
            Fact::Failed(errno) => Some(failure::failed(self.phase(), errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        if self.line.is_empty() {
            return self.failed(FailureReason::TimedOut);
        }
        self.failed(FailureReason::Unfinished { part: "line", bytes: self.line.len() as u64 })
    }

    pub fn phase(&self) -> ProbePhase {
        match (self.connected, self.sent < self.ask.len()) {
            (false, _) => ProbePhase::Connect,
            (true, true) => ProbePhase::Write,
            (true, false) => ProbePhase::Read,
        }
    }

    pub fn to_send(&self) -> &[u8] {
        &self.ask[self.sent..]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// The first line counts, also when it comes before we have asked: most agents want no question.
    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        let room = LINE - self.line.len();
        let seen = &bytes[..bytes.len().min(room)];
        match seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            Some(end) => {
                self.line.extend_from_slice(&seen[..end]);
                Some(judge(&self.line))
            }
            None => {
                self.line.extend_from_slice(seen);
                (self.line.len() == LINE).then(|| not_agent("its line is longer than a probe reads", &self.line))
            }
        }
    }

    fn failed(&self, reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: self.phase(), reason })
    }
}

/// What a line without its end says.
fn judge(line: &[u8]) -> ProbeResult {
    let (words, because) = match line.iter().position(|&byte| byte == b'#') {
        Some(at) => (&line[..at], line[at + 1..].trim_ascii()),
        None => (line, &[][..]),
    };
    let mut says = AgentSays::default();
    let mut down = None;
    let mut heard = false;
    for word in words.split(|byte| matches!(byte, b' ' | b'\t' | b',')).filter(|word| !word.is_empty()) {
        heard = true;
        match meaning(word) {
            Some(Word::Up) => down = None,
            Some(Word::Down(word)) => down = Some(word),
            Some(Word::Order(order)) => says.order = Some(order),
            Some(Word::Weight(percent)) => says.weight = Some(percent),
            Some(Word::Limit(limit)) => says.maxconn = Some(limit),
            None => return not_agent("a word it does not know", word),
        }
    }
    if !heard {
        return not_agent("its line has no word", line);
    }
    match down {
        None => ProbeResult::Passed(Pass::Agent(says)),
        Some(word) => {
            let because = evidence(because);
            answered(FailureReason::AgentDown { says, word, because })
        }
    }
}

enum Word {
    Up,
    Down(&'static str),
    Order(Order),
    Weight(u16),
    Limit(u32),
}

fn meaning(word: &[u8]) -> Option<Word> {
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_slice() {
        b"up" => Word::Up,
        b"down" => Word::Down("down"),
        b"fail" | b"failed" => Word::Down("fail"),
        b"stopped" => Word::Down("stopped"),
        b"ready" => Word::Order(Order::Serve),
        b"drain" => Word::Order(Order::Drain),
        b"maint" => Word::Order(Order::Maintain),
        other => {
            if let Some(percent) = other.strip_suffix(b"%") {
                Word::Weight(number(percent)?.min(u16::MAX.into()) as u16)
            } else {
                Word::Limit(number(other.strip_prefix(b"maxconn:")?)?)
            }
        }
    })
}

/// A number of digits alone; `parse` would take a sign too.
fn number(digits: &[u8]) -> Option<u32> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn not_agent(why: &'static str, got: &[u8]) -> ProbeResult {
    answered(FailureReason::NotAgent { why, got: evidence(got) })
}

fn evidence(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(limits::PROBE_EVIDENCE.value as usize)].to_vec()
}

fn answered(reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_reactor::errno;

    fn connected(ask: &[u8]) -> Agent {
        let mut agent = Agent::new(ask.to_vec());
        assert_eq!(agent.handle(Fact::Connected), None);
        agent.sent(agent.to_send().len());
        assert_eq!(agent.phase(), ProbePhase::Read);
        agent
    }

    fn passed(says: AgentSays) -> Option<ProbeResult> {
        Some(ProbeResult::Passed(Pass::Agent(says)))
    }

    fn down(says: AgentSays, word: &'static str, because: &[u8]) -> Option<ProbeResult> {
        Some(answered(FailureReason::AgentDown { says, word, because: because.to_vec() }))
    }

    #[test]
    fn a_line_says_the_same_however_it_is_cut() {
        let nothing = AgentSays::default();
        let weight = |percent| AgentSays { weight: Some(percent), ..nothing };
        let order = |order| AgentSays { order: Some(order), ..nothing };
        let unknown = |word: &[u8]| Some(not_agent("a word it does not know", word));
        let all = AgentSays { weight: Some(75), order: Some(Order::Maintain), maxconn: Some(30) };
        let table: [(&[u8], Option<ProbeResult>); 24] = [
            (b"up\n", passed(nothing)),
            (b"UP\r\n", passed(nothing)),
            (b"75%\n", passed(weight(75))),
            (b"0%\r", passed(weight(0))),
            (b"150%\n", passed(weight(150))),
            (b"4294967295%\n", passed(weight(u16::MAX))),
            (b"10% 20%\n", passed(weight(20))),
            (b"ready\n", passed(order(Order::Serve))),
            (b"\tdrain ,\n", passed(order(Order::Drain))),
            (b"drain ready # again\n", passed(order(Order::Serve))),
            (b"maxconn:30\n", passed(AgentSays { maxconn: Some(30), ..nothing })),
            (b"75%,maxconn:30,maint,down\n", down(all, "down", b"")),
            (b"down up\n", passed(nothing)),
            (b"stopped # disk full \r\nup\n", down(nothing, "stopped", b"disk full")),
            (b"failed#", None),
            (b"failed#why\n", down(nothing, "fail", b"why")),
            (b"drian\n", unknown(b"drian")),
            (b"up 100\n", unknown(b"100")),
            (b"-5%\n", unknown(b"-5%")),
            (b"%\n", unknown(b"%")),
            (b"99999999999%\n", unknown(b"99999999999%")),
            (b"HTTP/1.1 200 OK\r\n", unknown(b"HTTP/1.1")),
            (b"# nothing\n", Some(not_agent("its line has no word", b"# nothing"))),
            (b"\r\n", Some(not_agent("its line has no word", b""))),
        ];
        for (answer, expected) in table {
            let name = answer.escape_ascii();
            assert_eq!(connected(b"").handle(Fact::Received(answer)), expected, "whole: {name}");
            let mut agent = connected(b"state\n");
            let bytewise = answer.iter().find_map(|byte| agent.handle(Fact::Received(&[*byte])));
            assert_eq!(bytewise, expected, "byte by byte: {name}");
            for cut in 1..answer.len() {
                let mut agent = connected(b"");
                let result = agent.handle(Fact::Received(&answer[..cut]));
                let result = result.or_else(|| agent.handle(Fact::Received(&answer[cut..])));
                assert_eq!(result, expected, "cut at {cut}: {name}");
            }
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_told_from_none() {
        let failed = |phase, reason| ProbeResult::Failed(Failure { phase, reason });
        let mut agent = connected(b"");
        assert_eq!(agent.handle_deadline(), failed(ProbePhase::Read, FailureReason::TimedOut));
        assert_eq!(agent.handle(Fact::Ended), Some(failed(ProbePhase::Read, FailureReason::Closed)));
        agent.handle(Fact::Received(b"up"));
        let unfinished = FailureReason::Unfinished { part: "line", bytes: 2 };
        assert_eq!(agent.handle_deadline(), failed(ProbePhase::Read, unfinished));
        assert_eq!(agent.handle(Fact::Ended), Some(not_agent("its line has no end", b"up")));
        let reset = agent.handle(Fact::Failed(errno::ECONNRESET));
        assert_eq!(reset, Some(failed(ProbePhase::Read, FailureReason::Reset)));

        let mut asking = Agent::new(b"state\n".to_vec());
        assert_eq!(asking.handle_deadline(), failed(ProbePhase::Connect, FailureReason::TimedOut));
        asking.handle(Fact::Connected);
        assert_eq!(asking.to_send(), b"state\n");
        assert_eq!(asking.handle_deadline(), failed(ProbePhase::Write, FailureReason::TimedOut));
    }

    #[test]
    fn a_line_without_end_is_given_up_at_the_limit() {
        for piece in [1, 7, LINE * 2] {
            let mut agent = connected(b"");
            let flood = vec![b' '; LINE * 2];
            let result = flood.chunks(piece).find_map(|bytes| agent.handle(Fact::Received(bytes)));
            assert_eq!(result, Some(not_agent("its line is longer than a probe reads", &flood)), "pieces of {piece}");
        }
        let mut agent = connected(b"");
        let mut line = vec![b' '; LINE - 3];
        line.extend_from_slice(b"up\n");
        assert_eq!(agent.handle(Fact::Received(&line)), passed(AgentSays::default()));
    }
}
