//! An outcome that is kept, because the exchange failed, was slow, or is traced.
//!
//! It owns what an [`Outcome`] borrows and can be looked at as one again, so that a kept request and its line in the access
//! log can never say different things. What others chose is cut to what the log shows of it: a thousand records of
//! requests with huge heads must not fill the memory.

use std::net::SocketAddr;

use super::{
    Attempt, BackendThen, Datagrams, Detail, ExchangeId, Outcome, Question, RequestLine, Reuse, RuleTaken, Secured,
    Timer, Times, Traced,
};
use crate::cause::{Cause, Phase};
use crate::limits;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: ExchangeId,
    pub listener: Box<str>,
    pub pool: Option<Box<str>>,
    pub client: SocketAddr,
    pub backend: Option<SocketAddr>,
    pub request: Option<Request>,
    pub sni: Option<Box<str>>,
    pub tls: Option<Secured>,
    pub status: Option<u16>,
    pub cause: Option<Cause>,
    pub phase: Option<Phase>,
    pub detail: Option<Detail>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub datagrams: Option<Datagrams>,
    pub times: Times,
    pub attempts: Box<[Attempt]>,
    pub reuse: Option<Reuse>,
    pub client_requests: u32,
    pub rule: Option<Rule>,
    pub timer: Option<Timer>,
    pub then: Option<BackendThen>,
    pub trace: Option<Traced>,
}

/// What was asked for, cut where the log would cut it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Box<[u8]>,
    pub host: Box<[u8]>,
    pub target: Box<[u8]>,
    pub version: &'static str,
    pub user_agent: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub position: Option<usize>,
    pub name: Box<str>,
}

/// One byte more than is shown, so that it shows that something was cut.
fn cut(bytes: &[u8]) -> Box<[u8]> {
    bytes[..bytes.len().min(limits::LOG_FIELD.value as usize + 1)].into()
}

impl Record {
    /// Keeps `outcome`, and what was known of its backend.
    pub fn of(outcome: &Outcome<'_>) -> Record {
        Record {
            id: outcome.id,
            listener: outcome.listener.into(),
            pool: outcome.pool.map(Into::into),
            client: outcome.client,
            backend: outcome.backend,
            request: outcome.request.map(|request| Request {
                method: cut(request.method),
                host: cut(request.host),
                target: cut(request.target),
                version: request.version,
                user_agent: cut(request.user_agent),
            }),
            sni: outcome.sni.map(Into::into),
            tls: outcome.tls,
            status: outcome.status,
            cause: outcome.cause,
            phase: outcome.phase,
            detail: outcome.detail,
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            datagrams: outcome.datagrams,
            times: outcome.times,
            attempts: outcome.attempts.into(),
            reuse: outcome.reuse,
            client_requests: outcome.client_requests,
            rule: outcome.rule.map(|rule| Rule { position: rule.position, name: rule.name.into() }),
            timer: outcome.timer,
            then: outcome.then.answer(),
            trace: outcome.trace,
        }
    }

    /// The outcome it was made of; what was known of the backend is in [`Record::then`] alone.
    pub fn outcome(&self) -> Outcome<'_> {
        Outcome {
            id: self.id,
            listener: &self.listener,
            pool: self.pool.as_deref(),
            client: self.client,
            backend: self.backend,
            request: self.request.as_ref().map(|request| RequestLine {
                method: &request.method,
                host: &request.host,
                target: &request.target,
                version: request.version,
                user_agent: &request.user_agent,
            }),
            sni: self.sni.as_deref(),
            tls: self.tls,
            status: self.status,
            cause: self.cause,
            phase: self.phase,
            detail: self.detail,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            datagrams: self.datagrams,
            times: self.times,
            attempts: &self.attempts,
            reuse: self.reuse,
            client_requests: self.client_requests,
            rule: self.rule.as_ref().map(|rule| RuleTaken { position: rule.position, name: &rule.name }),
            timer: self.timer,
            then: Question::NOTHING,
            trace: self.trace,
        }
    }

    /// Where it was when its cause struck.
    pub fn phase(&self) -> Option<Phase> {
        self.cause.map(|cause| self.phase.unwrap_or(cause.entry().phase))
    }
}
