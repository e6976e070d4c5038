//! What the kinds of probe have in common: the facts they are told and the questions they answer.
//!
//! A machine is told facts until it answers with a result, and is never asked again after that. It has no
//! deadline of its own: one timeout covers the whole probe (SPEC W3), so the prober keeps it for all kinds and
//! asks the machine only what its passing means.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_health::settings::{HttpVersion, ProbeSettings};
use evenkeel_model::finding::{ProbePhase, ProbeResult};
use evenkeel_reactor::{Close, Errno, Handshake};
use evenkeel_tls::Client;

use crate::agent::Agent;
use crate::dns::Dns;
use crate::grpc::Grpc;
use crate::h2::{Scheme, Streamed};
use crate::http::Http;
use crate::icmp::Icmp;
use crate::secured::{Inside, Secured};
use crate::steps::Steps;
use crate::tcp::Tcp;
use crate::udp::Udp;

/// Something that happened to a probe's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    Connected,
    /// Some bytes of a stream, or one whole datagram.
    Received(&'a [u8]),
    /// The stream is over in good order.
    Ended,
    Failed(Errno),
}

/// Whose turn it is: the network's to decide the dial, ours to send, the backend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Connect,
    Write,
    Read,
}

impl From<ProbePhase> for Turn {
    fn from(phase: ProbePhase) -> Self {
        match phase {
            ProbePhase::Connect => Turn::Connect,
            ProbePhase::Write => Turn::Write,
            ProbePhase::Tls | ProbePhase::Read | ProbePhase::Run => Turn::Read,
        }
    }
}

#[derive(Debug)]
pub enum Machine {
    Agent(Agent),
    Dns(Dns),
    Http(Http),
    Icmp(Icmp),
    Grpc(Grpc),
    /// One that speaks HTTP, inside a stream of HTTP/2.
    Streamed(Box<Streamed>),
    /// Any of the others inside TLS.
    Secured(Box<Secured>),
    Steps(Steps),
    Tcp(Tcp),
    Udp(Udp),
}

impl Machine {
    /// `number` is one that nobody can guess, another for each probe.
    pub fn new(probe: &ProbeSettings, to: SocketAddr, number: u64) -> Self {
        match probe {
            ProbeSettings::Http(settings) => {
                let http = Machine::Http(Http::new(settings, to));
                match settings.version {
                    HttpVersion::Http1 => Machine::over(settings.tls.as_ref(), to, http),
                    HttpVersion::Http2 => Machine::streamed(settings.tls.as_ref(), to, http),
                }
            }
            ProbeSettings::Grpc(settings) => {
                Machine::streamed(settings.tls.as_ref(), to, Machine::Grpc(Grpc::new(settings, to)))
            }
            ProbeSettings::Tcp(_) => Machine::Tcp(Tcp),
            ProbeSettings::Steps(settings) => {
                let steps = Steps::new(Arc::clone(&settings.steps));
                Machine::over(settings.tls.as_ref(), to, Machine::Steps(steps))
            }
            ProbeSettings::Agent(settings) => Machine::Agent(Agent::new(settings.send.clone())),
            ProbeSettings::Tls(settings) => {
                let inside = Inside::Nothing { min_days_left: settings.min_days_left };
                Machine::Secured(Box::new(Secured::new(Arc::clone(&settings.client), to.ip(), inside)))
            }
            ProbeSettings::Udp(settings) => Machine::Udp(Udp::new(settings)),
            ProbeSettings::Dns(settings) => Machine::Dns(Dns::new(settings, number as u16)),
            ProbeSettings::Icmp(_) => Machine::Icmp(Icmp::new(to.ip(), number)),
            ProbeSettings::Command(_) => unreachable!("programs are run by the thread that may wait for them"),
        }
    }

    /// The probe itself, or inside TLS.
    fn over(tls: Option<&Arc<Client>>, to: SocketAddr, probe: Machine) -> Self {
        match tls {
            Some(tls) => Machine::Secured(Box::new(Secured::new(Arc::clone(tls), to.ip(), Inside::Probe(probe)))),
            None => probe,
        }
    }

    /// Inside a stream of HTTP/2, which may be inside TLS.
    fn streamed(tls: Option<&Arc<Client>>, to: SocketAddr, probe: Machine) -> Self {
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        Machine::over(tls, to, Machine::Streamed(Box::new(Streamed::new(scheme, probe))))
    }

    /// `Some` ends the probe.
    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match self {
            Machine::Agent(agent) => agent.handle(fact),
            Machine::Http(http) => http.handle(fact),
            Machine::Icmp(icmp) => icmp.handle(fact),
            Machine::Grpc(grpc) => grpc.handle(fact),
            Machine::Streamed(streamed) => streamed.handle(fact),
            Machine::Secured(secured) => secured.handle(fact),
            Machine::Steps(steps) => steps.handle(fact),
            Machine::Tcp(tcp) => tcp.handle(fact),
            Machine::Udp(udp) => udp.handle(fact),
            Machine::Dns(dns) => dns.handle(fact),
        }
    }

    /// What the deadline means when nothing was decided before it.
    pub fn handle_deadline(&self) -> ProbeResult {
        match self {
            Machine::Agent(agent) => agent.handle_deadline(),
            Machine::Http(http) => http.handle_deadline(),
            Machine::Icmp(icmp) => icmp.handle_deadline(),
            Machine::Grpc(grpc) => grpc.handle_deadline(),
            Machine::Streamed(streamed) => streamed.handle_deadline(),
            Machine::Secured(secured) => secured.handle_deadline(),
            Machine::Steps(steps) => steps.handle_deadline(),
            Machine::Tcp(tcp) => tcp.handle_deadline(),
            Machine::Udp(udp) => udp.handle_deadline(),
            Machine::Dns(dns) => dns.handle_deadline(),
        }
    }

    /// Where the probe is, as evidence has it.
    pub fn phase(&self) -> ProbePhase {
        match self {
            Machine::Agent(agent) => agent.phase(),
            Machine::Http(http) => http.phase(),
            Machine::Icmp(icmp) => icmp.phase(),
            Machine::Grpc(grpc) => grpc.phase(),
            Machine::Streamed(streamed) => streamed.phase(),
            Machine::Secured(secured) => secured.phase(),
            Machine::Steps(steps) => steps.phase(),
            Machine::Tcp(_) => ProbePhase::Connect,
            Machine::Udp(udp) => udp.phase(),
            Machine::Dns(dns) => dns.phase(),
        }
    }

    /// What the hands have to do next. Inside TLS it goes back and forth between writing and reading.
    pub fn turn(&self) -> Turn {
        match self {
            Machine::Streamed(streamed) => streamed.turn(),
            Machine::Secured(secured) => secured.turn(),
            Machine::Agent(_)
            | Machine::Dns(_)
            | Machine::Http(_)
            | Machine::Icmp(_)
            | Machine::Grpc(_)
            | Machine::Steps(_)
            | Machine::Tcp(_)
            | Machine::Udp(_) => self.phase().into(),
        }
    }

    /// The rest of what is to be sent; one whole datagram for udp, which may be empty.
    pub fn to_send(&self) -> &[u8] {
        match self {
            Machine::Agent(agent) => agent.to_send(),
            Machine::Http(http) => http.to_send(),
            Machine::Icmp(icmp) => icmp.to_send(),
            Machine::Grpc(grpc) => grpc.to_send(),
            Machine::Streamed(streamed) => streamed.to_send(),
            Machine::Secured(secured) => secured.to_send(),
            Machine::Steps(steps) => steps.to_send(),
            Machine::Tcp(_) => &[],
            Machine::Udp(udp) => udp.to_send(),
            Machine::Dns(dns) => dns.to_send(),
        }
    }

    /// So many bytes of [`Machine::to_send`] were taken. `Some` ends the probe.
    pub fn sent(&mut self, bytes: usize) -> Option<ProbeResult> {
        match self {
            Machine::Agent(agent) => agent.sent(bytes),
            Machine::Http(http) => http.sent(bytes),
            Machine::Icmp(icmp) => icmp.sent(),
            Machine::Grpc(grpc) => grpc.sent(bytes),
            Machine::Streamed(streamed) => return streamed.sent(bytes),
            Machine::Secured(secured) => return secured.sent(bytes),
            Machine::Steps(steps) => return steps.sent(bytes),
            Machine::Tcp(_) => {}
            Machine::Udp(udp) => udp.sent(),
            Machine::Dns(dns) => dns.sent(),
        }
        None
    }

    /// Whether the connection may carry another probe of the same check; only asked of one that is decided.
    pub fn is_idle(&self) -> bool {
        match self {
            Machine::Http(http) => http.is_idle(),
            Machine::Secured(secured) => secured.is_idle(),
            Machine::Agent(_)
            | Machine::Dns(_)
            | Machine::Icmp(_)
            | Machine::Grpc(_)
            | Machine::Streamed(_)
            | Machine::Steps(_)
            | Machine::Tcp(_)
            | Machine::Udp(_) => false,
        }
    }

    /// Begins the next probe on an idle connection, which stands.
    pub fn again(&mut self) -> Option<ProbeResult> {
        match self {
            Machine::Http(http) => http.again(),
            Machine::Secured(secured) => return secured.again(),
            Machine::Agent(_)
            | Machine::Dns(_)
            | Machine::Icmp(_)
            | Machine::Grpc(_)
            | Machine::Streamed(_)
            | Machine::Steps(_)
            | Machine::Tcp(_)
            | Machine::Udp(_) => unreachable!("only idle connections are used again"),
        }
        None
    }

    /// Whether not a byte has come since the probe began; only asked of one that began on an idle connection.
    pub fn has_heard_nothing(&self) -> bool {
        match self {
            Machine::Http(http) => http.has_heard_nothing(),
            Machine::Secured(secured) => secured.has_heard_nothing(),
            Machine::Agent(_)
            | Machine::Dns(_)
            | Machine::Icmp(_)
            | Machine::Grpc(_)
            | Machine::Streamed(_)
            | Machine::Steps(_)
            | Machine::Tcp(_)
            | Machine::Udp(_) => false,
        }
    }

    /// How to part from the backend, which has closed already or not (`hangup`).
    ///
    /// We reset connections, as HAProxy's checks do: an orderly close would leave each probe behind as a minute of
    /// TIME_WAIT on our side, 1.2 million of them at 20,000 probes a second. Where a backend has closed before
    /// us, as `Connection: close` asks of it, the wait would be on its side, and the polite way still costs: two packets and
    /// the wait are a sixth of an http probe on loopback. There the answer is whole and acknowledged, so a reset takes
    /// nothing from anybody. A tcp probe without steps ends in a reset by contract (SPEC 4.1). One with steps whose last is
    /// ours to say pays the price, since a reset would overtake it.
    pub fn farewell(&self, hangup: bool) -> Close {
        let orderly = match self {
            Machine::Http(_) | Machine::Tcp(_) | Machine::Udp(_) | Machine::Dns(_) | Machine::Icmp(_) => false,
            Machine::Steps(steps) => hangup || steps.ends_with_our_word(),
            Machine::Secured(secured) => hangup || secured.ends_with_our_word(),
            Machine::Agent(_) | Machine::Grpc(_) | Machine::Streamed(_) => hangup,
        };
        if orderly { Close::Orderly } else { Close::Reset }
    }
}

/// What a probe goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    Connection(Handshake),
    Datagrams,
    /// Echo requests, to a host and no port of it.
    Echo,
}

pub fn opens(probe: &ProbeSettings) -> Opens {
    use evenkeel_health::settings::TcpProbe;
    match probe {
        ProbeSettings::Tcp(TcpProbe::Full) | ProbeSettings::Steps(_) | ProbeSettings::Agent(_) => {
            Opens::Connection(Handshake::Full)
        }
        ProbeSettings::Tcp(TcpProbe::HalfOpen) => Opens::Connection(Handshake::HalfOpen),
        // These speak first, at once, and their first bytes complete the handshake: one packet less for both sides.
        ProbeSettings::Http(_) | ProbeSettings::Grpc(_) | ProbeSettings::Tls(_) => {
            Opens::Connection(Handshake::HalfOpen)
        }
        ProbeSettings::Udp(_) | ProbeSettings::Dns(_) => Opens::Datagrams,
        ProbeSettings::Icmp(_) => Opens::Echo,
        ProbeSettings::Command(_) => unreachable!("programs are run by the thread that may wait for them"),
    }
}
