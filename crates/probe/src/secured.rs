//! A probe inside TLS: carries out the handshake, then hands on plain bytes to the probe within and seals what it says.
//!
//! With nothing within, the handshake is the probe (kind `tls`): it passes when the handshake is over and the days left of the
//! certificate suffice. A probe over TLS is otherwise the plain one; only here is it known that there is TLS.
//!
//! In TLS 1.3 our side of the handshake ends before the backend has looked at the certificate we show. A backend that
//! refuses it says so afterwards, which an http probe hears and a mere handshake does not.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_tls::{Client, Failed, Session};

use crate::failure;
use crate::h2;
use crate::machine::{Fact, Machine, Turn};

pub struct Secured {
    client: Arc<Client>,
    address: IpAddr,
    /// `None` until the connection stands: a refused one needs no keys.
    session: Option<Session>,
    inside: Inside,
    /// What the backend said, in plain; empty between two facts.
    plain: Vec<u8>,
    /// What the probe within found by its last word, which has not left yet.
    parting: Option<ProbeResult>,
}

#[derive(Debug)]
pub enum Inside {
    /// A probe that speaks over a stream of bytes and hears nothing of TLS.
    Probe(Machine),
    Nothing {
        min_days_left: Option<u32>,
    },
}

impl fmt::Debug for Secured {
    /// Without the session, which holds keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("address", &self.address).field("inside", &self.inside).finish_non_exhaustive()
    }
}

impl Secured {
    pub fn new(client: Arc<Client>, address: IpAddr, inside: Inside) -> Self {
        Secured { client, address, session: None, inside, plain: Vec::new(), parting: None }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        let phase = self.phase();
        match fact {
            Fact::Connected => match Session::client(&self.client, self.address) {
                Ok(session) => {
                    self.session = Some(session);
                    None
                }
                Err(refused) => Some(tls(&refused)),
            },
            Fact::Received(bytes) => self.read(bytes),
            // Without a goodbye somebody may have cut the answer short, so this is no end the probe within could count on.
            // HTTP/2 counts on none, and may have been told why; a conversation never passes by an end.
            Fact::Ended => match (&mut self.inside, phase) {
                (Inside::Probe(Machine::Streamed(streamed)), ProbePhase::Read) => streamed.handle(Fact::Ended),
                (Inside::Probe(Machine::Steps(steps)), ProbePhase::Read) => steps.handle(Fact::Ended),
                _ => Some(failed(phase, FailureReason::Closed)),
            },
            Fact::Failed(errno) => match (&mut self.inside, phase) {
                (Inside::Probe(probe), ProbePhase::Read) => probe.handle(fact),
                _ => Some(failure::failed(phase, errno)),
            },
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        match (&self.inside, self.phase()) {
            (Inside::Probe(probe), ProbePhase::Read) => probe.handle_deadline(),
            (_, phase) => failed(phase, FailureReason::TimedOut),
        }
    }

    pub fn turn(&self) -> Turn {
        match &self.session {
            None => Turn::Connect,
            Some(session) if session.output().is_empty() => Turn::Read,
            Some(_) => Turn::Write,
        }
    }

    pub fn to_send(&self) -> &[u8] {
        self.session.as_ref().map_or(&[], Session::output)
    }

    pub fn sent(&mut self, bytes: usize) -> Option<ProbeResult> {
        if let Some(session) = &mut self.session {
            session.sent(bytes);
            if session.output().is_empty() && self.parting.is_some() {
                return self.parting.take();
            }
        }
        self.shaken()
    }

    /// Where we are, as evidence has it.
    pub fn phase(&self) -> ProbePhase {
        match (&self.session, &self.inside) {
            (None, _) => ProbePhase::Connect,
            (Some(session), _) if session.is_handshaking() => ProbePhase::Tls,
            (Some(_), Inside::Nothing { .. }) => ProbePhase::Tls,
            (Some(session), Inside::Probe(_)) if !session.output().is_empty() => ProbePhase::Write,
            (Some(_), Inside::Probe(probe)) => probe.phase(),
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        let session = self.session.as_mut()?;
        let received = session.receive(&mut bytes.to_vec(), &mut self.plain);
        if received.as_ref().is_ok_and(|progress| progress.established)
            && let Some(result) = self.established()
        {
            return Some(result);
        }
        // What came before a failure or a goodbye was received rightly and counts.
        let plain = std::mem::take(&mut self.plain);
        if !plain.is_empty()
            && let Some(result) = self.tell(Fact::Received(&plain))
        {
            return Some(result);
        }
        match received {
            Err(refused) => Some(tls(&refused)),
            Ok(progress) if progress.closed => self.tell(Fact::Ended).or_else(|| self.shaken()),
            Ok(_) => self.shaken(),
        }
    }

    /// The handshake has just ended: the probe within may begin.
    fn established(&mut self) -> Option<ProbeResult> {
        let session = self.session.as_mut()?;
        match &mut self.inside {
            Inside::Probe(Machine::Streamed(_)) if session.alpn() != Some(h2::ALPN) => {
                Some(failed(ProbePhase::Tls, FailureReason::NotHttp2 { why: h2::NOT_AGREED }))
            }
            Inside::Probe(_) => self.tell(Fact::Connected),
            Inside::Nothing { min_days_left: Some(least) } => match self.client.days_left(session) {
                Some(days_left) if days_left < i64::from(*least) => {
                    Some(failed(ProbePhase::Tls, FailureReason::Expiring { days_left, least: *least }))
                }
                Some(_) => None,
                None => Some(failed(ProbePhase::Tls, FailureReason::Tls { why: "certificate that cannot be read" })),
            },
            Inside::Nothing { min_days_left: None } => None,
        }
    }

    /// Whether the probe within is, and there is nothing of TLS left to send.
    pub fn is_idle(&self) -> bool {
        let sent = self.session.as_ref().is_some_and(|session| session.output().is_empty());
        matches!(&self.inside, Inside::Probe(probe) if sent && probe.is_idle())
    }

    pub fn again(&mut self) -> Option<ProbeResult> {
        match &mut self.inside {
            Inside::Probe(probe) => probe.again().or_else(|| self.say()),
            Inside::Nothing { .. } => None,
        }
    }

    pub fn has_heard_nothing(&self) -> bool {
        matches!(&self.inside, Inside::Probe(probe) if probe.has_heard_nothing())
    }

    /// Hands a fact to the probe within, and seals all it has to say to that.
    fn tell(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        let Inside::Probe(probe) = &mut self.inside else { return None };
        let result = probe.handle(fact);
        if result.is_some() || self.parting.is_some() {
            return result;
        }
        self.say()
    }

    /// Seals all that the probe within has to say now.
    fn say(&mut self) -> Option<ProbeResult> {
        let (Some(session), Inside::Probe(probe)) = (&mut self.session, &mut self.inside) else { return None };
        while probe.turn() == Turn::Write {
            let words = probe.to_send();
            let (bytes, sealed) = (words.len(), session.send(words));
            if let Err(refused) = sealed {
                return Some(tls(&refused));
            }
            self.parting = probe.sent(bytes);
            if self.parting.is_some() {
                break;
            }
        }
        None
    }

    /// Whether the probe within ends with something that we say.
    pub fn ends_with_our_word(&self) -> bool {
        matches!(&self.inside, Inside::Probe(Machine::Steps(steps)) if steps.ends_with_our_word())
    }

    /// A mere handshake passes when its last message has left: gone before that, we would look like a client that failed.
    fn shaken(&self) -> Option<ProbeResult> {
        match (&self.session, &self.inside) {
            (Some(session), Inside::Nothing { .. }) if !session.is_handshaking() && session.output().is_empty() => {
                let days_left = self.client.days_left(session);
                Some(ProbeResult::Passed(Pass::Secured { days_left }))
            }
            _ => None,
        }
    }
}

fn tls(refused: &Failed) -> ProbeResult {
    failed(ProbePhase::Tls, FailureReason::Tls { why: refused.detail })
}

fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase, reason })
}
