//! What one probe sends and what it takes for an answer, by kind.
//!
//! Values and no behaviour: how a kind is spoken is the room probe's, and which of these a file may say is config's.

use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_model::finding::ProbeKind;
use evenkeel_tls::Client;

use super::StatusSet;
use crate::pattern::Pattern;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeSettings {
    Http(HttpProbe),
    Tcp(TcpProbe),
    /// Kind tcp with a conversation behind the handshake.
    Steps(StepsProbe),
    Tls(TlsProbe),
    Udp(UdpProbe),
    Icmp(IcmpProbe),
    Grpc(GrpcProbe),
    Agent(AgentProbe),
    Dns(DnsProbe),
    Command(CommandProbe),
}

impl ProbeSettings {
    /// Whether a verdict may rest on silence.
    pub fn takes_silence(&self) -> bool {
        matches!(self, ProbeSettings::Udp(UdpProbe { expect: None, silence: Silence::Pass, .. }))
    }

    pub const fn kind(&self) -> ProbeKind {
        match self {
            ProbeSettings::Http(_) => ProbeKind::Http,
            ProbeSettings::Tcp(_) | ProbeSettings::Steps(_) => ProbeKind::Tcp,
            ProbeSettings::Tls(_) => ProbeKind::Tls,
            ProbeSettings::Udp(_) => ProbeKind::Udp,
            ProbeSettings::Icmp(_) => ProbeKind::Icmp,
            ProbeSettings::Grpc(_) => ProbeKind::Grpc,
            ProbeSettings::Agent(_) => ProbeKind::Agent,
            ProbeSettings::Dns(_) => ProbeKind::Dns,
            ProbeSettings::Command(_) => ProbeKind::Command,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    pub method: String,
    pub path: String,
    /// Value of the Host header; the target's own address and port when `None`.
    pub host: Option<String>,
    /// Sent after our own fields, in this order. Names are unique and none of ours.
    pub headers: Vec<(String, String)>,
    pub expect_status: StatusSet,
    /// What the body has to hold, beside the status.
    pub expect_body: Option<BodyMatch>,
    pub version: HttpVersion,
    /// One connection for one probe after the other, instead of one each. A probe that cannot use it any more dials anew.
    pub keep_alive: bool,
    /// Over TLS with these settings, made by [`Client::for_probes`].
    pub tls: Option<Arc<Client>>,
}

impl Default for HttpProbe {
    /// What config says when nothing is written.
    fn default() -> Self {
        HttpProbe {
            method: "HEAD".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            expect_status: StatusSet::default(),
            expect_body: None,
            version: HttpVersion::Http1,
            keep_alive: false,
            tls: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    #[default]
    Http1,
    /// Over TLS by ALPN, otherwise with prior knowledge.
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyMatch {
    Has(Pattern),
    HasNot(Pattern),
}

/// A handshake and nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsProbe {
    /// Made by [`Client::for_probes`].
    pub client: Arc<Client>,
    /// A certificate with fewer days to live fails.
    pub min_days_left: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TcpProbe {
    /// SYN, SYN+ACK, RST: the application never sees a connection.
    #[default]
    HalfOpen,
    /// SYN, SYN+ACK, ACK, RST: the application may see a reset.
    Full,
}

/// A conversation: each step in its turn, passed when the last one is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepsProbe {
    pub steps: Arc<[Step]>,
    /// Made by [`Client::for_probes`].
    pub tls: Option<Arc<Client>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Send(Vec<u8>),
    /// Goes on behind the match: what came beyond it belongs to the next step.
    Expect(Pattern),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UdpProbe {
    /// Payload of the datagram; empty sends an empty one.
    pub send: Vec<u8>,
    /// What the answer has to be. `None`: any answer passes, and silence is up to `silence`.
    pub expect: Option<Pattern>,
    pub silence: Silence,
    /// A port of the host that is closed: a datagram to it right behind the probe's says whether a refusal would come
    /// through now. Silence that passes is held against it; other silence needs none.
    pub closed_port: Option<u16>,
    /// An ICMP echo request beside the datagram: silence fails where the host does not answer that either.
    pub ping: bool,
}

/// What a udp probe without an answer means. With `expect` set, silence always fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Silence {
    #[default]
    Pass,
    Fail,
    /// Neither passes nor fails: the verdict and the run stay as they are.
    Keep,
}

/// One echo request, passed by its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IcmpProbe;

/// `grpc.health.v1.Health/Check`, passed by SERVING.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// The service asked about; empty asks about the server.
    pub service: String,
    /// Value of `:authority`; the target's own address and port when `None`.
    pub host: Option<String>,
    /// Made by [`Client::for_probes`].
    pub tls: Option<Arc<Client>>,
}

/// The backend's own word about itself: one line behind a connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AgentProbe {
    /// Sent first, where the agent wants to be asked.
    pub send: Vec<u8>,
}

/// One question over UDP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsProbe {
    /// As it is asked, with or without the dot at the end.
    pub name: String,
    pub record: Record,
    /// Answer codes that pass, as numbers of the IANA registry: 0 is NOERROR, 3 NXDOMAIN.
    pub expect_codes: Vec<u16>,
    /// When not empty, one of these has to be among the answers.
    pub expect_addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Record {
    #[default]
    A,
    Aaaa,
    Ns,
    Soa,
    Txt,
    Mx,
    Srv,
}

/// A program of the operator's: exit status 0 passes, its output is the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandProbe {
    /// The program, by absolute path, and its arguments.
    pub command: Arc<[String]>,
}
