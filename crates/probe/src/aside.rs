//! What a udp probe does beside its datagram to learn what silence will be worth: an echo request to the host, and a
//! datagram to a port that is known to be closed.
//!
//! Both leave right behind the probe's own datagram and have the same time (SPEC W3). They never decide against an answer
//! or a refusal of the service; they are asked only when it was silent:
//!
//! | the host's echo | the closed port   | silence                            |
//! |-----------------|-------------------|------------------------------------|
//! | did not come    |                   | fails: the host is gone            |
//! | we may not ask  |                   | says nothing                       |
//! | came, not asked | was refused       | passes: we would have heard        |
//! | came, not asked | was silent too    | says nothing: nobody would have    |
//! | came, not asked | has no number     | passes, and is marked as unmeasured |

use std::net::{IpAddr, SocketAddr};

use evenkeel_health::refusals::Refusals;
use evenkeel_health::settings::{ProbeSettings, Silence};
use evenkeel_model::Instant;
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Void};
use evenkeel_reactor::{Close, Driver, Errno, Recv, Send, Sock, Source, Token, errno};

use crate::icmp::Icmp;
use crate::machine::Fact;

/// Which of a probe's sockets an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Probe,
    Echo,
    Closed,
}

impl Lane {
    /// The lane stands above the slot of the probe.
    const SHIFT: u32 = 32;

    pub fn token(self, slot: usize) -> Token {
        Token(slot as u64 | (self as u64) << Lane::SHIFT)
    }

    pub fn of(token: Token) -> Option<(usize, Lane)> {
        let slot = usize::try_from(token.0 & ((1 << Lane::SHIFT) - 1)).ok()?;
        let lane = match token.0 >> Lane::SHIFT {
            0 => Lane::Probe,
            1 => Lane::Echo,
            2 => Lane::Closed,
            _ => return None,
        };
        Some((slot, lane))
    }
}

#[derive(Debug)]
pub struct Aside {
    to: SocketAddr,
    from: Source,
    ping: bool,
    closed_port: Option<u16>,
    echo: Echo,
    /// To the closed port.
    control: Option<Sock>,
    /// When the probe's datagram and ours behind it left.
    sent: Option<Instant>,
}

#[derive(Debug)]
enum Echo {
    NotAsked,
    Awaited(Sock, Icmp),
    Came,
    Failed(Failure),
    Void(Void),
}

impl Aside {
    /// `None` where silence is worth the same whatever else is so: it fails, or the check asks for nothing beside.
    pub fn of(probe: &ProbeSettings, to: SocketAddr, from: Source) -> Option<Self> {
        let ProbeSettings::Udp(udp) = probe else { return None };
        let silence_fails = udp.expect.is_some() || udp.silence == Silence::Fail;
        let closed_port = udp.closed_port.filter(|_| udp.silence == Silence::Pass);
        if silence_fails || (closed_port.is_none() && !udp.ping) {
            return None;
        }
        Some(Aside { to, from, ping: udp.ping, closed_port, echo: Echo::NotAsked, control: None, sent: None })
    }

    /// Whose refusals it is about.
    pub fn host(&self) -> (IpAddr, Source) {
        (self.to.ip(), self.from)
    }

    pub fn has_started(&self) -> bool {
        self.sent.is_some()
    }

    /// The probe's datagram has left. `number` is for the echo request.
    pub fn start<D: Driver>(&mut self, driver: &mut D, slot: usize, refusals: &mut Refusals, number: u64) {
        let now = driver.now();
        self.sent = Some(now);
        // First: the less time between the two datagrams, the less can change between them.
        if let Some(port) = self.closed_port.filter(|_| refusals.wants(self.to.port(), now)) {
            let (to, token) = (SocketAddr::new(self.to.ip(), port), Lane::Closed.token(slot));
            if let Ok(sock) = driver.dial_udp(to, self.from, token) {
                self.control = Some(sock);
                // On our own host it may be given that very port, and would find itself.
                if driver.local_address(sock) != Some(to) && driver.send(sock, &[]) == Send::Taken(0) {
                    refusals.asked(now);
                }
            }
        }
        if self.ping {
            self.echo = match driver.dial_icmp(self.to.ip(), self.from, Lane::Echo.token(slot)) {
                Err(errno::EPERM) => Echo::Void(Void::EchoForbidden),
                Err(errno) => Echo::of(crate::failure::failed(ProbePhase::Connect, errno)),
                Ok(sock) => {
                    let mut icmp = Icmp::new(self.to.ip(), number);
                    let said = match driver.send(sock, icmp.to_send()) {
                        Send::Taken(0) => Some(icmp.handle_deadline()),
                        Send::Taken(_) => {
                            icmp.sent();
                            None
                        }
                        Send::Failed(errno) => icmp.handle(Fact::Failed(errno)),
                    };
                    match said {
                        None => Echo::Awaited(sock, icmp),
                        Some(said) => {
                            driver.close(sock, Close::Orderly);
                            Echo::of(said)
                        }
                    }
                }
            };
        }
    }

    /// Something came at one of the two sockets.
    pub fn hear<D: Driver>(&mut self, driver: &mut D, lane: Lane, refusals: Option<&mut Refusals>, scratch: &mut [u8]) {
        match lane {
            Lane::Probe => {}
            Lane::Echo => self.hear_echo(driver, scratch),
            Lane::Closed => {
                if let (Some(sent), Some(refusals)) = (self.sent, refusals) {
                    self.hear_closed(driver, sent, refusals);
                }
            }
        }
    }

    fn hear_echo<D: Driver>(&mut self, driver: &mut D, scratch: &mut [u8]) {
        while let Echo::Awaited(sock, icmp) = &mut self.echo {
            let sock = *sock;
            let said = match driver.recv(sock, scratch) {
                Recv::Bytes(bytes) => icmp.handle(Fact::Received(&scratch[..bytes])),
                Recv::Failed(errno) => icmp.handle(Fact::Failed(errno)),
                Recv::End => None,
                Recv::Dry => return,
            };
            if let Some(said) = said {
                driver.close(sock, Close::Orderly);
                self.echo = Echo::of(said);
            }
        }
    }

    fn hear_closed<D: Driver>(&mut self, driver: &mut D, sent: Instant, refusals: &mut Refusals) {
        let Some(sock) = self.control else { return };
        match driver.peek(sock) {
            Recv::Failed(errno::ECONNREFUSED) => refusals.refused(sent, driver.now()),
            // An answer, be it an empty one.
            Recv::Bytes(_) | Recv::End => refusals.answered(),
            // Other errors are of the way, and the probe's own datagram meets them too.
            Recv::Failed(Errno(_)) | Recv::Dry => return,
        }
        driver.close(sock, Close::Orderly);
        self.control = None;
    }

    /// What `result` of the probe is worth by what was heard beside it, at its deadline.
    pub fn weigh(&mut self, result: ProbeResult, refusals: Option<&mut Refusals>, now: Instant) -> ProbeResult {
        let (ProbeResult::Passed(Pass::Silent(_)) | ProbeResult::Void(Void::Silent)) = result else { return result };
        let Some(sent) = self.sent else { return result };
        match &self.echo {
            Echo::NotAsked | Echo::Came => {}
            Echo::Awaited(..) => return silent(None),
            Echo::Failed(Failure { reason: FailureReason::Unreachable { errno }, .. }) => return silent(Some(*errno)),
            Echo::Failed(failure) => return ProbeResult::Failed(failure.clone()),
            Echo::Void(void) => return ProbeResult::Void(*void),
        }
        match (self.closed_port, refusals) {
            (Some(port), Some(refusals)) => {
                if self.control.is_some() {
                    refusals.in_vain(sent);
                }
                match refusals.weigh(port, self.to.port(), sent, now) {
                    Ok(proof) => ProbeResult::Passed(Pass::Silent(proof)),
                    Err(doubt) => ProbeResult::Void(Void::Doubtful(doubt)),
                }
            }
            (None, _) | (_, None) => result,
        }
    }

    /// The probe is over.
    pub fn end<D: Driver>(mut self, driver: &mut D, refusals: Option<&mut Refusals>) {
        if let (Some(sent), Some(refusals)) = (self.sent, refusals) {
            // What has come counts for the other probes of the host.
            self.hear_closed(driver, sent, refusals);
            refusals.given_up(sent);
        }
        if let Some(sock) = self.control {
            driver.close(sock, Close::Orderly);
        }
        if let Echo::Awaited(sock, _) = self.echo {
            driver.close(sock, Close::Orderly);
        }
    }
}

impl Echo {
    fn of(said: ProbeResult) -> Self {
        match said {
            ProbeResult::Passed(_) => Echo::Came,
            ProbeResult::Failed(failure) => Echo::Failed(failure),
            ProbeResult::Void(void) => Echo::Void(void),
        }
    }
}

fn silent(errno: Option<i32>) -> ProbeResult {
    ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::NoEcho { errno } })
}
