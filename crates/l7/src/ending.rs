//! How exchanges and connections end: exactly one outcome for each exchange, nothing left behind.
//!
//! An end has many causes and must be recorded once, so all of them meet here. A cut answer is made to look cut:
//! an end that could be taken for the proper one would pass half a body off as the whole.

use std::net::SocketAddr;

use evenkeel_l4::{Core, Key, ListenerSlot, Turned};
use evenkeel_model::exchange::{Detail, Outcome, Question, RuleTaken};
use evenkeel_model::{Cause, Instant, Phase, limits};
use evenkeel_plan::Hsts;
use evenkeel_reactor::{Close, Driver, Sock};

use crate::client::{Follows, Standing};
use crate::http::{Http, listener_timeouts};
use crate::machine::{Stage, Wait};
use crate::own_answer::{Explained, Sending, write_explained, write_fixed, write_redirect};
use crate::policy::strict_transport_security;

const OVERLOADED: u16 = 503;

/// Requests whose buffers are kept for the next: as many as one connection may have at once.
const SPARE: usize = limits::STREAMS.default as usize;

impl Http {
    /// Answers the client ourselves with the cause's status, whatever the exchange was doing.
    pub(crate) fn answer<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(status) = cause.entry().status else {
            self.cut(core, key, cause, detail, now);
            return;
        };
        if matches!(client.exchange.stage, Stage::Answering | Stage::Flushing | Stage::Relaying) {
            // The head of another answer is out already; a second one would be read as its body.
            self.cut(core, key, cause, detail, now);
            return;
        }
        client.standing = Standing::Busy;
        self.drop_backend(core, key);
        let Some(client) = self.clients.get_mut(key) else { return };
        let draining = core.is_draining(&client.listener);
        let close = client.exchange.begin_own_answer(status, cause, detail, draining);
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        let hsts = strict_transport_security(client);
        let sending = Sending {
            close,
            head_only: client.exchange.asked().head,
            strict_transport_security: hsts.as_ref().map(Hsts::as_bytes),
        };
        let grpc = client.attempt.wants.grpc.take();
        let explained = Explained { cause, detail, status, id: client.exchange.id, grpc: grpc.as_deref() };
        client.exchange.status = Some(write_explained(&mut out, &explained, &sending));
        self.send_own(core, key, out, close, now);
    }

    /// Sends the client elsewhere, which is no failure.
    pub(crate) fn answer_redirect<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        status: u16,
        location: &[u8],
        now: Instant,
    ) {
        self.answer_plainly(core, key, status, now, |out, sending| write_redirect(out, status, location, sending));
    }

    /// Answers with what a rule says.
    pub(crate) fn answer_fixed<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        status: u16,
        content_type: &str,
        body: &[u8],
        now: Instant,
    ) {
        self.answer_plainly(core, key, status, now, |out, sending| {
            write_fixed(out, status, content_type, body, sending);
        });
    }

    fn answer_plainly<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        status: u16,
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>, &Sending<'_>),
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let draining = core.is_draining(&client.listener);
        let close = client.exchange.begin_plain_answer(status, draining);
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        let hsts = strict_transport_security(client);
        let sending = Sending {
            close,
            head_only: client.exchange.asked().head,
            strict_transport_security: hsts.as_ref().map(Hsts::as_bytes),
        };
        write(&mut out, &sending);
        self.send_own(core, key, out, close, now);
    }

    /// Sends an answer that needs no backend, in this room's buffer, and goes on from there.
    fn send_own<D: Driver>(&mut self, core: &mut Core<D>, key: Key, mut out: Vec<u8>, close: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let then = if close { Follows::End } else { Follows::More };
        let sent = client.send(&mut core.driver, &mut self.carriers, &mut out, &[], then);
        self.head = out;
        let drained = !client.is_behind();
        client.wait_for(Wait::ClientRead, now);
        if sent.is_err() || drained {
            self.exchange_over(core, key, now);
        }
    }

    /// Tells a client for whom there is no room so, and lets it go without keeping anything of it. Its request is
    /// read first if it is there, because closing over unread bytes would reset the answer away.
    pub fn turn_away<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        sock: Sock,
        client: SocketAddr,
        listener: &ListenerSlot,
        turned: Turned,
        now: Instant,
    ) {
        let mut scratch = core.scratch();
        let _ = core.driver.recv(sock, &mut scratch);
        core.give_back(scratch);
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        let status = turned.cause.entry().status.unwrap_or(OVERLOADED);
        listener.metrics.request(status);
        let id = core.refuse(listener, client, turned, Some(status), now);
        let explained = Explained { cause: turned.cause, detail: Some(turned.detail), status, id, grpc: None };
        let sending = Sending { close: true, ..Sending::default() };
        write_explained(&mut out, &explained, &sending);
        // A client that is gone, or an empty socket that takes nothing, misses what it would have been told. Not held back for
        // the end: a request that comes in between would make the close a reset, and what is held back would go with it.
        let _ = core.driver.send(sock, &out);
        self.head = out;
        core.driver.close(sock, Close::Orderly);
    }

    /// The answer is out: records the exchange and makes the connection ready for the next, or ends it.
    pub(crate) fn exchange_over<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        self.drop_backend(core, key);
        self.record(core, key, now);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.served += 1;
        if let Some(coder) = client.coder.take() {
            self.compressors.give_back(*coder);
        }
        client.attempt.clear();
        client.exchange.trim();
        if client.link.is_stream() {
            client.link.finish(&mut core.driver, &mut self.carriers);
            self.drop_client(core, key, Close::Orderly);
            return;
        }
        if !client.exchange.closes() {
            client.standing = Standing::Idle;
            client.timeouts = listener_timeouts(&client.listener);
            client.wait_for(Wait::KeepAlive, now);
            return;
        }
        // Closing with unread bytes in the socket would reset the connection and could destroy the answer
        // on its way (RFC 9112 section 9.6), so the rest of the request is read and thrown away. A client that did not
        // ask for the end may have sent its next request already.
        let unread = !client.exchange.request_complete()
            || !client.input.is_empty()
            || client.readable
            || !client.exchange.client_asked_to_close();
        if !client.hangup && (unread || !client.link.say_goodbye(&mut core.driver)) {
            client.link.finish(&mut core.driver, &mut self.carriers);
            client.standing = Standing::Lingering;
            client.input = Vec::new();
            client.wait_for(Wait::Linger, now);
        } else {
            self.drop_client(core, key, Close::Orderly);
        }
    }

    /// The client left before it had its answer.
    pub(crate) fn client_gone<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.exchange.failure.is_none() {
            client.exchange.failure = Some((Cause::ClientAborted, None));
            client.exchange.status.get_or_insert(499);
        }
        self.drop_backend(core, key);
        self.record(core, key, now);
        self.drop_client(core, key, Close::Reset);
    }

    /// Ends an exchange whose answer can no longer be completed. The client must be able to tell that.
    pub(crate) fn cut<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.failure = Some((cause, detail));
        let unmistakable = client.exchange.stage == Stage::Answering && !client.exchange.must_cut();
        if let Some(picked) = &client.attempt.picked
            && cause.entry().blame == evenkeel_model::Blame::Backend
        {
            picked.backend.failed(cause);
            // The attempt that brought the head did not bring the whole answer after all.
            let timer = client.timer(cause, detail);
            if let Some(attempt) = client.attempt.attempts.last_mut() {
                (attempt.cause, attempt.detail, attempt.timer) = (Some(cause), detail, timer);
            }
        }
        self.drop_backend(core, key);
        self.record(core, key, now);
        self.drop_client(core, key, if unmistakable { Close::Orderly } else { Close::Reset });
    }

    /// Lets the backend connection of an exchange go, if it still has one. It is in the middle of
    /// something, so nobody can use it again.
    pub(crate) fn drop_backend<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        self.drop_hedge(core, key);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.attempt.awaits = None;
        if let Some(backend) = client.attempt.backend.take().and_then(|made| self.backends.remove(made)) {
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Reset);
        }
    }

    pub(crate) fn drop_client<D: Driver>(&mut self, core: &mut Core<D>, key: Key, how: Close) {
        if let Some(mut client) = self.clients.remove(key) {
            if client.wait == Wait::Queue
                && let Some(pool) = &client.attempt.pool
            {
                pool.leave(key);
            }
            if let Some(coder) = client.coder.take() {
                self.compressors.give_back(*coder);
            }
            let carried = client.link.is_stream();
            if carried && self.spare.len() < SPARE {
                client.exchange.trim();
                client.attempt.clear();
                self.spare.push((std::mem::take(&mut client.exchange), std::mem::take(&mut client.attempt)));
            }
            client.link.close(&mut core.driver, &mut self.carriers, how);
            if !carried {
                core.discharge(&client.listener);
            }
        }
    }

    /// Tells observer and counters of an exchange that is over.
    pub(crate) fn record<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let exchange = &mut client.exchange;
        exchange.times.ended = now;
        (exchange.times.accepted, exchange.times.secured) = (Some(client.accepted), client.secured);
        // A rule may answer with a 5xx by itself: that is nobody's fault, and no backend was asked.
        let passed_on = exchange.times.first_byte.is_some();
        let backends_own =
            passed_on && exchange.status.is_some_and(|status| status >= 500) && exchange.failure.is_none();
        let (cause, detail) = match exchange.failure {
            Some((cause, detail)) => (Some(cause), detail),
            None if backends_own => (Some(Cause::BackendAnsweredError), None),
            None => (None, None),
        };
        let phase: Option<Phase> = match cause {
            Some(Cause::ClientAborted | Cause::BalancerDraining) => Some(exchange.phase()),
            _ => None,
        };
        let metrics = &client.listener.metrics;
        metrics.bytes_in.add(exchange.bytes_in);
        metrics.bytes_out.add(exchange.bytes_out);
        metrics.duration.record(now - exchange.times.started);
        if let Some(status) = exchange.status {
            metrics.request(status);
        }
        if let Some(cause) = cause {
            metrics.causes.one(cause);
        }
        if let Some(picked) = &client.attempt.picked {
            picked.backend.metrics.bytes_out.add(exchange.bytes_in);
        }
        let exchange = &client.exchange;
        let backend = client.attempt.picked.as_ref().map(|picked| &picked.backend).or(client.attempt.tried.last());
        let then = || core.roster.then(client.attempt.pool.as_ref()?, backend?);
        let ruled = client.attempt.wants.ruled.as_ref();
        let outcome = Outcome {
            id: exchange.id,
            listener: &client.listener.name,
            pool: client.attempt.pool.as_ref().map(|pool| &*pool.name),
            client: client.address,
            backend: client
                .attempt
                .picked
                .as_ref()
                .map(|picked| picked.backend.address)
                .or_else(|| client.attempt.attempts.last().map(|attempt| attempt.backend)),
            request: exchange.line.request(),
            sni: client.sni.as_deref(),
            tls: client.tls,
            status: exchange.status,
            cause,
            phase,
            detail,
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
            datagrams: None,
            times: exchange.times,
            attempts: &client.attempt.attempts,
            reuse: client.attempt.reuse,
            client_requests: client.served,
            rule: ruled.and_then(|ruled| Some(RuleTaken { position: Some(ruled.position), name: &ruled.rule()?.name })),
            timer: cause.and_then(|cause| client.timer(cause, detail)),
            then: Question::of(&then),
            trace: exchange.trace,
        };
        core.observer.ended(&outcome);
    }
}
