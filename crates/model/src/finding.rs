//! What one probe found, with the evidence an operator needs to believe it.
//!
//! Made by the prober, judged by `health`, shown in events and status. It carries numbers and fixed words
//! rather than sentences, so that each reader words it in one place: `evidence`.

use std::sync::Arc;
use std::time::Duration;

use crate::standing::{Order, Verdict};
use crate::time::Instant;

mod evidence;
mod silence;

pub use evidence::Millis;
pub use silence::{Doubt, Proof, Trust};

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

    /// What it says of the backend; `Unknown` when it says nothing. An agent that nobody could ask says nothing: whether
    /// the backend itself can be reached is for its other checks to find out.
    pub const fn verdict(&self) -> Verdict {
        match (&self.result, self.kind) {
            (ProbeResult::Passed(_), _) => Verdict::Healthy,
            (ProbeResult::Void(_), _) => Verdict::Unknown,
            (ProbeResult::Failed(failure), ProbeKind::Agent) => match &failure.reason {
                FailureReason::AgentDown { .. } | FailureReason::NotAgent { .. } => Verdict::Unhealthy,
                _ => Verdict::Unknown,
            },
            (ProbeResult::Failed(_), _) => Verdict::Unhealthy,
        }
    }

    /// The agent's words, where one was heard.
    pub const fn agent(&self) -> Option<AgentSays> {
        match &self.result {
            ProbeResult::Passed(Pass::Agent(says)) => Some(*says),
            ProbeResult::Failed(Failure { reason: FailureReason::AgentDown { says, .. }, .. }) => Some(*says),
            ProbeResult::Passed(_) | ProbeResult::Failed(_) | ProbeResult::Void(_) => None,
        }
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// HTTP status that the status list accepts.
    Status(u16),
    /// SYN+ACK.
    Connected,
    /// A whole TLS handshake. The days until the backend's certificate ends, where it can be read; negative after its end,
    /// which a check that verifies nothing lets pass.
    Secured { days_left: Option<i64> },
    /// The expected datagram, or the whole conversation.
    Answered,
    /// The agent's line, without a word that takes the backend down.
    Agent(AgentSays),
    /// A DNS answer with an accepted code, and how many records it holds.
    Dns { code: u16, answers: u16 },
    /// The reply to our echo request.
    Echoed,
    /// Nothing came back before the timeout and `silence = "pass"`: the verdict rests on silence.
    Silent(Proof),
    /// A gRPC service that says SERVING of itself.
    Serving,
    /// A command ended with status 0. The first lines it said, made fit to be shown.
    Exited { output: Arc<str> },
}

/// What an agent says of its backend, beside up or down. What it leaves out stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AgentSays {
    /// Percent of the configured weight, which may be more than 100.
    pub weight: Option<u16>,
    /// `ready`, `drain` or `maint`.
    pub order: Option<Order>,
    /// A limit of connections was among its words. It is not acted upon.
    pub maxconn: Option<u32>,
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
    /// A command runs: what it does meanwhile is its own affair.
    Run,
}

impl ProbePhase {
    pub const fn word(self) -> &'static str {
        match self {
            ProbePhase::Connect => "connect",
            ProbePhase::Tls => "tls",
            ProbePhase::Write => "write",
            ProbePhase::Read => "read",
            ProbePhase::Run => "run",
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
    /// The host was silent and answered no echo request either; what came in the place of a reply, if anything did.
    NoEcho {
        errno: Option<i32>,
    },
    /// The probe met silence, but so many sessions of clients were refused since the one before.
    TrafficRefused {
        sessions: u64,
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
    /// The answer is not HTTP/2; the rule it broke, or who speaks there.
    NotHttp2 {
        why: &'static str,
    },
    /// Our stream was reset with this error code of HTTP/2.
    StreamReset {
        code: &'static str,
    },
    /// GOAWAY in the place of an answer.
    GoingAway {
        code: &'static str,
    },
    /// A gRPC call that ended in a status other than 0, and the first bytes of what the backend said to it.
    Grpc {
        status: u32,
        message: Vec<u8>,
    },
    /// What a gRPC service says of itself, in its own word.
    NotServing {
        said: &'static str,
    },
    /// The answer is not that of a gRPC call; says what was wrong with it.
    NotGrpc {
        why: &'static str,
    },
    /// A datagram came back that the expectation does not match; the first bytes of it.
    Mismatch {
        got: Vec<u8>,
    },
    /// The time was up in the middle of an answer, named by the part that did not end.
    Unfinished {
        part: &'static str,
        bytes: u64,
    },
    /// The status is as expected, the body is not.
    Body {
        fault: BodyFault,
        pattern: Arc<str>,
        /// Its first bytes, or those that should not be there.
        got: Vec<u8>,
    },
    /// A conversation did not come to its end; counted from 1.
    Step {
        step: u16,
        of: u16,
        wanted: Arc<str>,
        /// The first bytes behind what the steps before it took.
        got: Vec<u8>,
        end: StepEnd,
    },
    /// The agent says that its backend is down.
    AgentDown {
        says: AgentSays,
        /// `down`, `fail` or `stopped`.
        word: &'static str,
        /// What it gave as the reason.
        because: Vec<u8>,
    },
    /// The answer is no line of an agent; its first bytes.
    NotAgent {
        why: &'static str,
        got: Vec<u8>,
    },
    /// A DNS answer whose code is not expected.
    DnsCode {
        got: u16,
    },
    /// A DNS answer with none of the expected addresses; how many records it holds.
    DnsAddresses {
        answers: u16,
    },
    /// The answer is not DNS; says what was wrong with it.
    NotDns {
        why: &'static str,
    },
    /// A command ended with another status than 0. The first lines it said, made fit to be shown.
    Exited {
        status: i32,
        output: Arc<str>,
    },
    /// A signal that was not ours ended a command.
    Killed {
        signal: i32,
        output: Arc<str>,
    },
    /// There is no such command, or it may not be run.
    NotStarted {
        errno: i32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    Lacks,
    /// It goes on behind so many bytes, which is as far as a probe reads.
    LacksWithin {
        bytes: u64,
    },
    Has,
}

/// What ended a conversation that waited for the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    TimedOut,
    Closed,
    Reset,
    /// More came than a probe keeps.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// Our timer fired this late.
    Late { by: Duration },
    /// We could not start it: no file descriptor, no source port, no memory.
    NoResources { errno: i32 },
    /// The kernel does not let us send echo requests (`net.ipv4.ping_group_range`).
    EchoForbidden,
    /// The check was changed or removed while the probe ran.
    Cancelled,
    /// Nothing came back before the timeout and `silence = "keep"`: the operator said that silence means nothing.
    Silent,
    /// Nothing came back, and a closed port would have looked the same.
    Doubtful(Doubt),
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
            FailureReason::TimedOut | FailureReason::Unfinished { .. } => "timed_out",
            FailureReason::Refused => "refused",
            FailureReason::Reset => "reset",
            FailureReason::Closed => "closed",
            FailureReason::Unreachable { .. } => "unreachable",
            FailureReason::NoEcho { .. } => "no_echo",
            FailureReason::TrafficRefused { .. } => "traffic_refused",
            FailureReason::Socket { .. } => "socket",
            FailureReason::Tls { .. } => "tls",
            FailureReason::Expiring { .. } => "expiring",
            FailureReason::Status { .. } => "status",
            FailureReason::NotHttp { .. } => "not_http",
            FailureReason::NotHttp2 { .. } => "not_http2",
            FailureReason::StreamReset { .. } => "stream_reset",
            FailureReason::GoingAway { .. } => "going_away",
            FailureReason::Grpc { .. } => "grpc",
            FailureReason::NotServing { .. } => "not_serving",
            FailureReason::NotGrpc { .. } => "not_grpc",
            FailureReason::Mismatch { .. } => "mismatch",
            FailureReason::Body { .. } => "body",
            FailureReason::Step { end, .. } => end.word(),
            FailureReason::AgentDown { .. } => "agent_down",
            FailureReason::NotAgent { .. } => "not_agent",
            FailureReason::DnsCode { .. } => "dns_code",
            FailureReason::DnsAddresses { .. } => "dns_addresses",
            FailureReason::NotDns { .. } => "not_dns",
            FailureReason::Exited { .. } => "exited",
            FailureReason::Killed { .. } => "killed",
            FailureReason::NotStarted { .. } => "not_started",
        }
    }
}

impl StepEnd {
    /// As the same end of any other probe is called.
    const fn word(self) -> &'static str {
        match self {
            StepEnd::TimedOut => "timed_out",
            StepEnd::Closed => "closed",
            StepEnd::Reset => "reset",
            StepEnd::TooLong => "mismatch",
        }
    }
}

/// The name of a status in gRPC's statuscodes.md.
pub fn grpc_status_word(status: u32) -> Option<&'static str> {
    GRPC_STATUSES.get(usize::try_from(status).ok()?).copied()
}

const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Name of a DNS answer code, of those that an answer without extensions can bear.
pub fn dns_code_word(code: u16) -> Option<&'static str> {
    DNS_CODES.get(usize::from(code)).copied()
}

/// By number (RFC 6895 §2.3).
pub const DNS_CODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE",
];
