//! What one probe found, with the evidence an operator needs to believe it.
//!
//! Made by the prober, judged by `health`, shown in events and status. It carries numbers and fixed words
//! rather than sentences, so that each reader words it in one place: the `Display` at its end.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

/// One execution of a check against one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: ProbeKind,
    pub started: Instant,
    pub ended: Instant,
    pub result: ProbeResult,
}

impl Finding {
    pub fn duration(&self) -> Duration {
        self.ended - self.started
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Http,
    Tcp,
    Tls,
    Udp,
    Icmp,
    Grpc,
    Agent,
    Dns,
    Command,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 9] = [
        ProbeKind::Http,
        ProbeKind::Tcp,
        ProbeKind::Tls,
        ProbeKind::Udp,
        ProbeKind::Icmp,
        ProbeKind::Grpc,
        ProbeKind::Agent,
        ProbeKind::Dns,
        ProbeKind::Command,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            ProbeKind::Http => "http",
            ProbeKind::Tcp => "tcp",
            ProbeKind::Tls => "tls",
            ProbeKind::Udp => "udp",
            ProbeKind::Icmp => "icmp",
            ProbeKind::Grpc => "grpc",
            ProbeKind::Agent => "agent",
            ProbeKind::Dns => "dns",
            ProbeKind::Command => "command",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    Passed(Pass),
    Failed(Failure),
    /// Neither: this probe says nothing of the backend, mostly because the prober itself was at fault (W7).
    Void(Void),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// HTTP status that the status list accepts.
    Status(u16),
    /// SYN+ACK.
    Connected,
    /// A whole TLS handshake. The days until the backend's certificate ends, where it can be read; negative after its end,
    /// which a check that verifies nothing lets pass.
    Secured { days_left: Option<i64> },
    /// The expected datagram.
    Answered,
    /// Nothing came back before the timeout and `silence = "pass"`: the verdict rests on silence.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub phase: ProbePhase,
    pub reason: FailureReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbePhase {
    Connect,
    Tls,
    Write,
    Read,
}

impl ProbePhase {
    pub const fn word(self) -> &'static str {
        match self {
            ProbePhase::Connect => "connect",
            ProbePhase::Tls => "tls",
            ProbePhase::Write => "write",
            ProbePhase::Read => "read",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureReason {
    TimedOut,
    /// RST to our SYN, or ICMP port unreachable to our datagram.
    Refused,
    Reset,
    /// The peer closed before a whole answer.
    Closed,
    /// No route, network or host unreachable, administratively prohibited.
    Unreachable {
        errno: i32,
    },
    /// Any other error of the socket.
    Socket {
        errno: i32,
    },
    /// TLS failed, in fixed words: the certificate, its name or authority, an alert, something that is no TLS.
    Tls {
        why: &'static str,
    },
    /// The certificate ends sooner than the check allows.
    Expiring {
        days_left: i64,
        least: u32,
    },
    /// HTTP status outside the list.
    Status {
        got: u16,
    },
    /// The answer is not HTTP; says what was wrong with it.
    NotHttp {
        why: &'static str,
    },
    /// A datagram came back that the expectation does not match; the first bytes of it.
    Mismatch {
        got: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// Our timer fired this late.
    Late { by: Duration },
    /// We could not start it: no file descriptor, no source port, no memory.
    NoResources { errno: i32 },
    /// The check was changed or removed while the probe ran.
    Cancelled,
    /// Nothing came back before the timeout and `silence = "keep"`. The one void that is nobody's
    /// fault: the operator said that silence means nothing.
    Silent,
}

impl ProbeResult {
    pub const fn passed(&self) -> bool {
        matches!(self, ProbeResult::Passed(_))
    }

    pub const fn failed(&self) -> bool {
        matches!(self, ProbeResult::Failed(_))
    }

    /// Stable word for metrics and JSON: never carries a value, so labels stay bounded.
    pub const fn word(&self) -> &'static str {
        match self {
            ProbeResult::Passed(_) => "passed",
            ProbeResult::Failed(_) => "failed",
            ProbeResult::Void(_) => "void",
        }
    }
}

impl FailureReason {
    /// Stable word for metrics and JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            FailureReason::TimedOut => "timed_out",
            FailureReason::Refused => "refused",
            FailureReason::Reset => "reset",
            FailureReason::Closed => "closed",
            FailureReason::Unreachable { .. } => "unreachable",
            FailureReason::Socket { .. } => "socket",
            FailureReason::Tls { .. } => "tls",
            FailureReason::Expiring { .. } => "expiring",
            FailureReason::Status { .. } => "status",
            FailureReason::NotHttp { .. } => "not_http",
            FailureReason::Mismatch { .. } => "mismatch",
        }
    }
}

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
            Pass::Silent => f.write_str("silence, no icmp refusal"),
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
            FailureReason::Socket { errno } => write!(f, "socket error (errno {errno})"),
            FailureReason::Tls { why } => f.write_str(why),
            FailureReason::Expiring { days_left, least } => {
                write!(f, "{}, and {least} are wanted", DaysLeft(*days_left))
            }
            FailureReason::Status { got } => write!(f, "status {got} is not expected"),
            FailureReason::NotHttp { why } => write!(f, "answer is not http: {why}"),
            FailureReason::Mismatch { got } => write!(f, "unexpected answer \"{}\"", got.escape_ascii()),
        }
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Void::Late { by } => write!(f, "our timer fired {} late", Millis(*by)),
            Void::NoResources { errno } => write!(f, "we could not start it (errno {errno})"),
            Void::Cancelled => f.write_str("cancelled by a change of plan"),
            Void::Silent => f.write_str("silence, which this check keeps out of the verdict"),
        }
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
