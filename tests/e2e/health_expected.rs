//! Which probe sees which failure, and in what words: one answer for every pair of kinds.
//!
//! Kinds of probes with the config that makes them and the server they are asked of; kinds of failures with what the server
//! does for them. [`expected`] has no default, so a new kind on either side makes the compiler ask.

use std::path::Path;

use crate::health_servers::{Keys, Mood, NAME, Speaks};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Http,
    Https,
    Http2,
    Grpc,
    GrpcTls,
    Tcp,
    Steps,
    Tls,
    Agent,
    Command,
    Udp,
    Dns,
    Icmp,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::Http,
        Kind::Https,
        Kind::Http2,
        Kind::Grpc,
        Kind::GrpcTls,
        Kind::Tcp,
        Kind::Steps,
        Kind::Tls,
        Kind::Agent,
        Kind::Command,
        Kind::Udp,
        Kind::Dns,
        Kind::Icmp,
    ];

    pub const fn words(self) -> &'static str {
        match self {
            Kind::Http => "http",
            Kind::Https => "http over TLS",
            Kind::Http2 => "http, HTTP/2",
            Kind::Grpc => "grpc",
            Kind::GrpcTls => "grpc over TLS",
            Kind::Tcp => "tcp",
            Kind::Steps => "tcp with steps",
            Kind::Tls => "tls",
            Kind::Agent => "agent",
            Kind::Command => "command",
            Kind::Udp => "udp with expect",
            Kind::Dns => "dns",
            Kind::Icmp => "icmp",
        }
    }

    /// Whom it probes; an echo request is answered by the host itself.
    pub const fn server(self) -> Option<Speaks> {
        Some(match self {
            Kind::Http | Kind::Command => Speaks::Page,
            Kind::Https => Speaks::SecurePage,
            Kind::Http2 => Speaks::Streams,
            Kind::Grpc => Speaks::Grpc,
            Kind::GrpcTls => Speaks::SecureGrpc,
            Kind::Tcp => Speaks::Nothing,
            Kind::Steps => Speaks::Mail,
            Kind::Tls => Speaks::Handshake,
            Kind::Agent => Speaks::Agent,
            Kind::Udp => Speaks::Pong,
            Kind::Dns => Speaks::Names,
            Kind::Icmp => return None,
        })
    }

    pub fn keys(self, keys: &Keys, program: &Path) -> String {
        let tls = format!("tls = {{ name = \"{NAME}\", ca = \"{}\" }}", keys.authority().display());
        let page = "kind = \"http\", method = \"GET\", path = \"/health\", expect_body = \"ready\"";
        match self {
            Kind::Http => page.to_owned(),
            Kind::Https => format!("{page}, {tls}"),
            Kind::Http2 => format!("{page}, version = \"h2\""),
            Kind::Grpc => "kind = \"grpc\", service = \"shop\"".to_owned(),
            Kind::GrpcTls => format!("kind = \"grpc\", service = \"shop\", {tls}"),
            Kind::Tcp => "kind = \"tcp\"".to_owned(),
            Kind::Steps => {
                "kind = \"tcp\", steps = [{ expect = \"220 \" }, { send = \"QUIT\\r\\n\" }, { expect = \"221 \" }]"
                    .to_owned()
            }
            Kind::Tls => format!("kind = \"tls\", {tls}"),
            Kind::Agent => "kind = \"agent\"".to_owned(),
            Kind::Command => format!("kind = \"command\", command = [\"{}\"]", program.display()),
            Kind::Udp => "kind = \"udp\", send = \"ping\", expect = \"pong\"".to_owned(),
            Kind::Dns => {
                "kind = \"dns\", query = \"example.com\", record = \"A\", expect_addresses = [\"10.0.0.1\"]".to_owned()
            }
            Kind::Icmp => "kind = \"icmp\"".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Refuses,
    Drops,
    Rejects,
    Resets,
    HostGone,
    WrongStatus,
    WrongBody,
    SlowHead,
    SlowBody,
    Expired,
    NameGone,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::Refuses,
        Fault::Drops,
        Fault::Rejects,
        Fault::Resets,
        Fault::HostGone,
        Fault::WrongStatus,
        Fault::WrongBody,
        Fault::SlowHead,
        Fault::SlowBody,
        Fault::Expired,
        Fault::NameGone,
    ];

    pub const fn words(self) -> &'static str {
        match self {
            Fault::Refuses => "refused: nobody listens",
            Fault::Drops => "silent: a firewall drops",
            Fault::Rejects => "rejected: a firewall answers by ICMP",
            Fault::Resets => "reset: connections are taken and reset",
            Fault::HostGone => "gone from the wire: no neighbour answers",
            Fault::WrongStatus => "wrong status: it says that it is not well",
            Fault::WrongBody => "wrong body: it says something else",
            Fault::SlowHead => "slow header: the answer begins, or not even that",
            Fault::SlowBody => "slow body: the answer stops in the middle",
            Fault::Expired => "TLS expired: the certificate's time is over",
            Fault::NameGone => "DNS gone: the backend's name no longer resolves",
        }
    }

    /// What the server does; the others are done to its host.
    pub const fn mood(self) -> Option<Mood> {
        match self {
            Fault::Refuses => Some(Mood::Gone),
            Fault::Resets => Some(Mood::Resets),
            Fault::WrongStatus => Some(Mood::Sick),
            Fault::WrongBody => Some(Mood::Babbles),
            Fault::SlowHead => Some(Mood::SlowHead),
            Fault::SlowBody => Some(Mood::SlowBody),
            Fault::Expired => Some(Mood::Expired),
            Fault::Drops | Fault::Rejects | Fault::HostGone | Fault::NameGone => None,
        }
    }
}

/// What a probe makes of a failure.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// The verdict falls. What its last probe says, one of these; and how long its probes take, at least and at most.
    Falls(&'static [&'static str], Took),
    /// The verdict stays: the probe cannot see it.
    Stays(&'static str),
    /// There is no such thing.
    NoSuch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    NoTime,
    Timeout,
    Between,
}

pub fn expected(kind: Kind, fault: Fault) -> Expected {
    use Expected::{Falls, NoSuch, Stays};
    use Took::{Between, NoTime, Timeout};
    const NOT_ASKED: &str = "the application is not asked";
    match (fault, kind) {
        (
            Fault::Refuses | Fault::Drops | Fault::Rejects | Fault::Resets | Fault::HostGone | Fault::SlowHead,
            Kind::Agent,
        ) => Stays("an agent that cannot be asked says nothing of the backend"),
        (Fault::Refuses, Kind::Udp | Kind::Dns) => Falls(&["read refused"], NoTime),
        (Fault::Refuses, Kind::Icmp) => Stays("the host answers by itself"),
        (Fault::Refuses, Kind::Command) => Falls(&["command: exit status 7"], Between),
        (Fault::Refuses, _) => Falls(&["connect refused"], NoTime),

        (Fault::Drops, Kind::Udp | Kind::Dns | Kind::Icmp) => Falls(&["read timed out"], Timeout),
        (Fault::Drops, Kind::Command) => Falls(&["run timed out"], Timeout),
        (Fault::Drops, _) => Falls(&["connect timed out"], Timeout),

        (Fault::Rejects, Kind::Udp | Kind::Dns) => Falls(&["read unreachable (errno 113)"], NoTime),
        (Fault::Rejects, Kind::Icmp) => Falls(&["read unreachable (errno 113)"], NoTime),
        (Fault::Rejects, Kind::Command) => Falls(&["command: exit status 7"], Between),
        (Fault::Rejects, _) => Falls(&["connect unreachable (errno 113)"], NoTime),

        (Fault::Resets, Kind::Http | Kind::Http2 | Kind::Grpc) => Falls(&["read reset by backend"], NoTime),
        (Fault::Resets, Kind::Https | Kind::GrpcTls | Kind::Tls) => Falls(&["tls reset by backend"], NoTime),
        (Fault::Resets, Kind::Steps) => {
            Falls(&["step 1 of 3 expected \"220 \", got nothing and then a reset", "connect reset by backend"], NoTime)
        }
        (Fault::Resets, Kind::Command) => Falls(&["command: exit status 56"], Between),
        (Fault::Resets, Kind::Tcp) => Stays("the kernel answers before the application does"),
        (Fault::Resets, Kind::Udp | Kind::Dns | Kind::Icmp) => NoSuch,

        // Our own host gives up on the neighbour sooner or later than a probe on the backend.
        (Fault::HostGone, Kind::Udp | Kind::Dns | Kind::Icmp) => {
            Falls(&["read unreachable (errno 113)", "read timed out", "write unreachable (errno 113)"], Between)
        }
        (Fault::HostGone, Kind::Command) => Falls(&["command: exit status 7", "run timed out"], Between),
        (Fault::HostGone, _) => Falls(&["connect unreachable (errno 113)", "connect timed out"], Between),

        (Fault::WrongStatus, Kind::Http | Kind::Https | Kind::Http2) => Falls(&["status 500 is not expected"], NoTime),
        (Fault::WrongStatus, Kind::Grpc | Kind::GrpcTls) => Falls(&["service says NOT_SERVING"], NoTime),
        (Fault::WrongStatus, Kind::Steps) => {
            Falls(&["step 1 of 3 expected \"220 \", got \"554 no service\\r\\n\" and then the backend closed"], NoTime)
        }
        (Fault::WrongStatus, Kind::Agent) => Falls(&["agent says down: \"disk full\""], NoTime),
        (Fault::WrongStatus, Kind::Command) => Falls(&["command: exit status 22"], Between),
        (Fault::WrongStatus, Kind::Dns) => Falls(&["SERVFAIL is not expected"], NoTime),
        (Fault::WrongStatus, Kind::Tcp | Kind::Tls) => Stays(NOT_ASKED),
        (Fault::WrongStatus, Kind::Udp | Kind::Icmp) => NoSuch,

        (Fault::WrongBody, Kind::Http | Kind::Https | Kind::Http2) => {
            Falls(&["body lacks \"ready\": it begins with \"asleep\\n\""], NoTime)
        }
        (Fault::WrongBody, Kind::Grpc | Kind::GrpcTls) => {
            Falls(&["grpc status 5 (NOT_FOUND): \"unknown service\""], NoTime)
        }
        (Fault::WrongBody, Kind::Steps) => {
            Falls(&["step 3 of 3 expected \"221 \", got \"500 what?\\r\\n\" and then the backend closed"], NoTime)
        }
        (Fault::WrongBody, Kind::Agent) => {
            Falls(&["answer is no line of an agent: a word it does not know, \"fine\""], NoTime)
        }
        (Fault::WrongBody, Kind::Udp) => Falls(&["unexpected answer \"nope\""], NoTime),
        (Fault::WrongBody, Kind::Dns) => Falls(&["none of the expected addresses in 1 answer"], NoTime),
        (Fault::WrongBody, Kind::Command) => Stays("this program looks at the status only"),
        (Fault::WrongBody, Kind::Tcp | Kind::Tls) => Stays(NOT_ASKED),
        (Fault::WrongBody, Kind::Icmp) => NoSuch,

        (Fault::SlowHead, Kind::Http | Kind::Https) => {
            Falls(&["read timed out in the middle of its head, after 31 bytes"], Timeout)
        }
        (Fault::SlowHead, Kind::Http2 | Kind::Grpc | Kind::GrpcTls | Kind::Udp | Kind::Dns) => {
            Falls(&["read timed out"], Timeout)
        }
        (Fault::SlowHead, Kind::Steps) => {
            Falls(&["step 1 of 3 expected \"220 \", got \"22\" until the timeout"], Timeout)
        }
        (Fault::SlowHead, Kind::Tls) => Falls(&["tls timed out"], Timeout),
        (Fault::SlowHead, Kind::Command) => Falls(&["run timed out"], Timeout),
        (Fault::SlowHead, Kind::Tcp) => Stays(NOT_ASKED),
        (Fault::SlowHead, Kind::Icmp) => NoSuch,

        (Fault::SlowBody, Kind::Http | Kind::Https | Kind::Http2) => {
            Falls(&["read timed out in the middle of its body, after 3 bytes"], Timeout)
        }
        (Fault::SlowBody, Kind::Grpc | Kind::GrpcTls) => Falls(&["read timed out"], Timeout),
        (Fault::SlowBody, Kind::Steps) => {
            Falls(&["step 3 of 3 expected \"221 \", got nothing until the timeout"], Timeout)
        }
        (Fault::SlowBody, Kind::Command) => Falls(&["run timed out"], Timeout),
        (Fault::SlowBody, Kind::Tcp | Kind::Tls) => Stays(NOT_ASKED),
        (Fault::SlowBody, Kind::Agent | Kind::Udp | Kind::Dns | Kind::Icmp) => NoSuch,

        (Fault::NameGone, _) => Stays("the last good answer stays, and is probed on"),

        (Fault::Expired, Kind::Https | Kind::GrpcTls | Kind::Tls) => Falls(&["tls certificate has expired"], NoTime),
        (
            Fault::Expired,
            Kind::Http
            | Kind::Http2
            | Kind::Grpc
            | Kind::Tcp
            | Kind::Steps
            | Kind::Agent
            | Kind::Command
            | Kind::Udp
            | Kind::Dns
            | Kind::Icmp,
        ) => NoSuch,
    }
}
