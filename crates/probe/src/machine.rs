//! What the three kinds of probe have in common: the facts they are told and the questions they answer.
//!
//! A machine is told facts until it answers with a result, and is never asked again after that. It has no
//! deadline of its own: one timeout covers the whole probe (SPEC W3), so the prober keeps it for all kinds and
//! asks the machine only what its passing means.

use std::net::SocketAddr;

use evenkeel_health::settings::ProbeSettings;
use evenkeel_model::finding::{ProbePhase, ProbeResult};
use evenkeel_reactor::{Errno, Handshake};

use crate::http::Http;
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

#[derive(Debug)]
pub enum Machine {
    Http(Http),
    Tcp(Tcp),
    Udp(Udp),
}

impl Machine {
    pub fn new(probe: &ProbeSettings, to: SocketAddr) -> Self {
        match probe {
            ProbeSettings::Http(settings) => Machine::Http(Http::new(settings, to)),
            ProbeSettings::Tcp(_) => Machine::Tcp(Tcp),
            ProbeSettings::Udp(settings) => Machine::Udp(Udp::new(settings)),
        }
    }

    /// `Some` ends the probe.
    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match self {
            Machine::Http(http) => http.handle(fact),
            Machine::Tcp(tcp) => tcp.handle(fact),
            Machine::Udp(udp) => udp.handle(fact),
        }
    }

    /// What the deadline means when nothing was decided before it.
    pub fn handle_deadline(&self) -> ProbeResult {
        match self {
            Machine::Http(http) => http.handle_deadline(),
            Machine::Tcp(tcp) => tcp.handle_deadline(),
            Machine::Udp(udp) => udp.handle_deadline(),
        }
    }

    /// `Connect` while the connection is open to decide, `Write` while [`Machine::to_send`] has something, then `Read`.
    pub fn phase(&self) -> ProbePhase {
        match self {
            Machine::Http(http) => http.phase(),
            Machine::Tcp(_) => ProbePhase::Connect,
            Machine::Udp(udp) => udp.phase(),
        }
    }

    /// The rest of what is to be sent; one whole datagram for udp, which may be empty.
    pub fn to_send(&self) -> &[u8] {
        match self {
            Machine::Http(http) => http.to_send(),
            Machine::Tcp(_) => &[],
            Machine::Udp(udp) => udp.to_send(),
        }
    }

    /// So many bytes of [`Machine::to_send`] were taken.
    pub fn sent(&mut self, bytes: usize) {
        match self {
            Machine::Http(http) => http.sent(bytes),
            Machine::Tcp(_) => {}
            Machine::Udp(udp) => udp.sent(),
        }
    }
}

/// How a probe of this kind opens its connection.
pub fn handshake(probe: &ProbeSettings) -> Option<Handshake> {
    use evenkeel_health::settings::TcpProbe;
    match probe {
        ProbeSettings::Http(_) | ProbeSettings::Tcp(TcpProbe::Full) => Some(Handshake::Full),
        ProbeSettings::Tcp(TcpProbe::HalfOpen) => Some(Handshake::HalfOpen),
        ProbeSettings::Udp(_) => None,
    }
}
