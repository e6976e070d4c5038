//! How a finding reads: one line of evidence that an operator can take to whoever runs the backend.
//!
//! Bytes of the backend are quoted and escaped, so that what it answers can neither break a log line nor be taken for
//! our own words.

use std::fmt;
use std::time::Duration;

use super::{
    AgentSays, BodyFault, FailureReason, Finding, Pass, ProbeResult, StepEnd, Void, dns_code_word, grpc_status_word,
};
use crate::standing::Order;

impl fmt::Display for Finding {
    /// One line an operator can read: `tcp failed in connect after 1ms: refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.word();
        let took = Millis(self.duration());
        match &self.result {
            ProbeResult::Passed(pass) => write!(f, "{kind} passed after {took}: {pass}"),
            ProbeResult::Failed(failure) => {
                write!(f, "{kind} failed in {} after {took}: {}", failure.phase.word(), failure.reason)
            }
            ProbeResult::Void(void) => write!(f, "{kind} void after {took}: {void}"),
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pass::Status(status) => write!(f, "status {status}"),
            Pass::Connected => f.write_str("connected"),
            Pass::Secured { days_left: Some(days) } => write!(f, "handshake done, {}", DaysLeft(*days)),
            Pass::Secured { days_left: None } => f.write_str("handshake done"),
            Pass::Answered => f.write_str("expected answer"),
            Pass::Agent(says) => write!(f, "agent says {says}"),
            Pass::Dns { code, answers } => write!(f, "{}, {}", DnsCode(*code), Records(*answers)),
            Pass::Echoed => f.write_str("echo reply"),
            Pass::Silent(proof) => proof.fmt(f),
            Pass::Serving => f.write_str("SERVING"),
            Pass::Exited { output } => write!(f, "exit status 0{}", Output(output)),
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureReason::TimedOut => f.write_str("timed out"),
            FailureReason::Refused => f.write_str("refused"),
            FailureReason::Reset => f.write_str("reset by backend"),
            FailureReason::Closed => f.write_str("closed by backend before a whole answer"),
            FailureReason::Unreachable { errno } => write!(f, "unreachable (errno {errno})"),
            FailureReason::NoEcho { errno: None } => {
                f.write_str("silence, and the host answers no echo request (ping)")
            }
            FailureReason::NoEcho { errno: Some(errno) } => {
                write!(f, "silence, and an echo request (ping) to the host is unreachable (errno {errno})")
            }
            FailureReason::TrafficRefused { sessions: 1 } => {
                f.write_str("silence, but a session of a client was refused")
            }
            FailureReason::TrafficRefused { sessions } => {
                write!(f, "silence, but {sessions} sessions of clients were refused")
            }
            FailureReason::Socket { errno } => write!(f, "socket error (errno {errno})"),
            FailureReason::Tls { why } => f.write_str(why),
            FailureReason::Expiring { days_left, least } => {
                write!(f, "{}, and {least} are wanted", DaysLeft(*days_left))
            }
            FailureReason::Status { got } => write!(f, "status {got} is not expected"),
            FailureReason::NotHttp { why } => write!(f, "answer is not http: {why}"),
            FailureReason::NotHttp2 { why } => write!(f, "answer is not http/2: {why}"),
            FailureReason::StreamReset { code } => write!(f, "stream reset by backend: {code}"),
            FailureReason::GoingAway { code } => write!(f, "goodbye (GOAWAY) instead of an answer: {code}"),
            FailureReason::Grpc { status, message } => {
                write!(f, "grpc status {status}")?;
                if let Some(word) = grpc_status_word(*status) {
                    write!(f, " ({word})")?;
                }
                if message.is_empty() { Ok(()) } else { write!(f, ": \"{}\"", message.escape_ascii()) }
            }
            FailureReason::NotServing { said } => write!(f, "service says {said}"),
            FailureReason::NotGrpc { why } => write!(f, "answer is not grpc: {why}"),
            FailureReason::Mismatch { got } => write!(f, "unexpected answer \"{}\"", got.escape_ascii()),
            FailureReason::Unfinished { part, bytes } => {
                write!(f, "timed out in the middle of its {part}, after {bytes} bytes")
            }
            FailureReason::Body { fault, pattern, got } => match fault {
                BodyFault::Lacks if got.is_empty() => write!(f, "body lacks {pattern}: it is empty"),
                BodyFault::Lacks => write!(f, "body lacks {pattern}: it begins with \"{}\"", got.escape_ascii()),
                BodyFault::LacksWithin { bytes } => {
                    write!(f, "the first {bytes} bytes of the body lack {pattern}: they begin with ")?;
                    write!(f, "\"{}\"", got.escape_ascii())
                }
                BodyFault::Has => write!(f, "body has {pattern}: \"{}\"", got.escape_ascii()),
            },
            FailureReason::Step { step, of, wanted, got, end } => {
                write!(f, "step {step} of {of} expected {wanted}, got ")?;
                match got.as_slice() {
                    [] => f.write_str("nothing")?,
                    got => write!(f, "\"{}\"", got.escape_ascii())?,
                }
                f.write_str(match end {
                    StepEnd::TimedOut => " until the timeout",
                    StepEnd::Closed => " and then the backend closed",
                    StepEnd::Reset => " and then a reset",
                    StepEnd::TooLong => " and more than a probe keeps",
                })
            }
            FailureReason::AgentDown { word, because, .. } if because.is_empty() => write!(f, "agent says {word}"),
            FailureReason::AgentDown { word, because, .. } => {
                write!(f, "agent says {word}: \"{}\"", because.escape_ascii())
            }
            FailureReason::NotAgent { why, got } => {
                write!(f, "answer is no line of an agent: {why}, \"{}\"", got.escape_ascii())
            }
            FailureReason::DnsCode { got } => write!(f, "{} is not expected", DnsCode(*got)),
            FailureReason::DnsAddresses { answers } => {
                write!(f, "none of the expected addresses in {}", Records(*answers))
            }
            FailureReason::NotDns { why } => write!(f, "answer is not dns: {why}"),
            FailureReason::Exited { status, output } => write!(f, "exit status {status}{}", Output(output)),
            FailureReason::Killed { signal, output } => write!(f, "ended by signal {signal}{}", Output(output)),
            FailureReason::NotStarted { errno } => {
                let why = match errno {
                    2 => "there is no such file",
                    8 => "it is no program (a script needs #! in its first line)",
                    13 => "permission denied",
                    _ => "the system refuses",
                };
                write!(f, "cannot be started: {why} (errno {errno})")
            }
        }
    }
}

impl fmt::Display for AgentSays {
    /// In the agent's own words; `up` when there is nothing to add to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.order.map(|order| match order {
            Order::Serve => "ready",
            Order::Drain => "drain",
            Order::Maintain => "maint",
        });
        if self.weight.is_none() && order.is_none() && self.maxconn.is_none() {
            return f.write_str("up");
        }
        let mut between = "";
        if let Some(order) = order {
            f.write_str(order)?;
            between = " ";
        }
        if let Some(weight) = self.weight {
            write!(f, "{between}{weight}%")?;
            between = " ";
        }
        match self.maxconn {
            Some(limit) => write!(f, "{between}maxconn:{limit} (which is not acted upon)"),
            None => Ok(()),
        }
    }
}

/// An answer code by its name in the IANA registry.
struct DnsCode(u16);

impl fmt::Display for DnsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match dns_code_word(self.0) {
            Some(word) => f.write_str(word),
            None => write!(f, "code {}", self.0),
        }
    }
}

/// Records in the answer section.
struct Records(u16);

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 answer"),
            many => write!(f, "{many} answers"),
        }
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Void::Late { by } => write!(f, "our timer fired {} late", Millis(*by)),
            Void::NoResources { errno } => write!(f, "we could not start it (errno {errno})"),
            Void::EchoForbidden => {
                f.write_str("we may not send echo requests (net.ipv4.ping_group_range leaves our group out)")
            }
            Void::Cancelled => f.write_str("cancelled by a change of plan"),
            Void::Silent => f.write_str("silence, which this check keeps out of the verdict"),
            Void::Doubtful(doubt) => doubt.fmt(f),
        }
    }
}

/// What a command said, behind how it ended. It was made fit to be shown when it was read.
struct Output<'a>(&'a str);

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", it said \"{}\"", self.0) }
    }
}

/// How long a certificate lives, as evidence shows it.
struct DaysLeft(i64);

impl fmt::Display for DaysLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ..=-1 => write!(f, "certificate ended {} days ago", self.0.unsigned_abs()),
            1 => f.write_str("certificate has 1 day left"),
            days => write!(f, "certificate has {days} days left"),
        }
    }
}

/// A duration in milliseconds with one decimal, as evidence shows it.
pub struct Millis(pub Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_micros() / 100;
        write!(f, "{}.{}ms", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_reads_as_a_sentence() {
        let got = |bytes: &[u8]| bytes.to_vec();
        let body = |fault, bytes: &[u8]| FailureReason::Body { fault, pattern: "\"ready\"".into(), got: got(bytes) };
        let step =
            |end, bytes: &[u8]| FailureReason::Step { step: 2, of: 4, wanted: "/^250/".into(), got: got(bytes), end };
        let down = |because: &[u8]| FailureReason::AgentDown {
            says: AgentSays::default(),
            word: "stopped",
            because: got(because),
        };
        let table = [
            (
                FailureReason::Unfinished { part: "body", bytes: 12 },
                "timed out in the middle of its body, after 12 bytes",
            ),
            (body(BodyFault::Lacks, b"<html>"), "body lacks \"ready\": it begins with \"<html>\""),
            (body(BodyFault::Lacks, b""), "body lacks \"ready\": it is empty"),
            (
                body(BodyFault::LacksWithin { bytes: 65_536 }, b"\n"),
                "the first 65536 bytes of the body lack \"ready\": they begin with \"\\n\"",
            ),
            (body(BodyFault::Has, b"ready?"), "body has \"ready\": \"ready?\""),
            (step(StepEnd::TimedOut, b""), "step 2 of 4 expected /^250/, got nothing until the timeout"),
            (step(StepEnd::Closed, b"421 "), "step 2 of 4 expected /^250/, got \"421 \" and then the backend closed"),
            (step(StepEnd::Reset, b"\xff"), "step 2 of 4 expected /^250/, got \"\\xff\" and then a reset"),
            (step(StepEnd::TooLong, b"x"), "step 2 of 4 expected /^250/, got \"x\" and more than a probe keeps"),
            (down(b"disk full"), "agent says stopped: \"disk full\""),
            (down(b""), "agent says stopped"),
            (
                FailureReason::Grpc { status: 5, message: got(b"unknown service") },
                "grpc status 5 (NOT_FOUND): \"unknown service\"",
            ),
            (FailureReason::Grpc { status: 12, message: Vec::new() }, "grpc status 12 (UNIMPLEMENTED)"),
            (FailureReason::Grpc { status: 17, message: got(b"\n") }, "grpc status 17: \"\\n\""),
            (FailureReason::NotServing { said: "NOT_SERVING" }, "service says NOT_SERVING"),
            (FailureReason::DnsCode { got: 2 }, "SERVFAIL is not expected"),
            (FailureReason::DnsCode { got: 23 }, "code 23 is not expected"),
            (FailureReason::DnsAddresses { answers: 1 }, "none of the expected addresses in 1 answer"),
        ];
        for (reason, expected) in table {
            assert_eq!(reason.to_string(), expected);
        }
        assert_eq!(Pass::Dns { code: 3, answers: 0 }.to_string(), "NXDOMAIN, 0 answers");
    }

    #[test]
    fn a_command_is_told_with_how_it_ended_and_what_it_said() {
        let exited = |status, output: &str| FailureReason::Exited { status, output: output.into() };
        assert_eq!(Pass::Exited { output: "".into() }.to_string(), "exit status 0");
        assert_eq!(Pass::Exited { output: "OK".into() }.to_string(), "exit status 0, it said \"OK\"");
        let table = [
            (exited(2, "CRITICAL"), "exit status 2, it said \"CRITICAL\""),
            (exited(127, ""), "exit status 127"),
            (FailureReason::Killed { signal: 11, output: "".into() }, "ended by signal 11"),
            (FailureReason::NotStarted { errno: 2 }, "cannot be started: there is no such file (errno 2)"),
            (FailureReason::NotStarted { errno: 40 }, "cannot be started: the system refuses (errno 40)"),
        ];
        for (reason, expected) in table {
            assert_eq!(reason.to_string(), expected);
        }
    }

    #[test]
    fn an_agent_is_quoted_in_its_own_words() {
        let table = [
            (AgentSays::default(), "up"),
            (AgentSays { weight: Some(75), ..AgentSays::default() }, "75%"),
            (AgentSays { weight: Some(0), order: Some(Order::Drain), maxconn: None }, "drain 0%"),
            (
                AgentSays { maxconn: Some(30), order: Some(Order::Serve), weight: None },
                "ready maxconn:30 (which is not acted upon)",
            ),
        ];
        for (says, expected) in table {
            assert_eq!(says.to_string(), expected);
        }
    }
}
