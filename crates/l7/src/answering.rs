//! The answer's way: from the backend's socket to the client's.
//!
//! Nothing is read that the client has not room for, and no byte of an answer goes out before its head was
//! understood: what a backend garbles becomes our 502, not the client's riddle.

use evenkeel_l4::{Core, Key, Owner, token};
use evenkeel_model::exchange::{Attempt, Detail};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{Hsts, StickyMode};
use evenkeel_reactor::{Close, Driver, Recv, errno};
use evenkeel_wire::cookie::SetCookie;
use evenkeel_wire::{
    AnswerEdits, Connection, CookieMark, FieldSlots, OutFraming, Parsed, ResponseEdits, ResponseHead, Version, forward,
    parse_response,
};

use crate::backend::State;
use crate::client::{Follows, Ruled, Standing};
use crate::coding::code_body;
use crate::http::Http;
use crate::machine::{Stage, Wait};
use crate::own_answer::proxy_status_received;
use crate::policy::{due_token, negotiate, strict_transport_security};
use crate::routing::edits_of;

/// Whether the bytes of one read have been dealt with to the end.
#[derive(PartialEq, Eq)]
enum Next {
    /// Read on.
    More,
    /// The exchange is over, failed or waits for the client.
    Stop,
}

impl Http {
    /// Reads from the backend until it is dry, the answer is complete or the client is full.
    pub(crate) fn read_answer<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            let Some(made) = client.attempt.backend else { return };
            let Some(backend) = self.backends.get_mut(made) else { return };
            let stage = client.exchange.stage;
            if !backend.readable || !matches!(stage, Stage::Awaiting | Stage::Answering) {
                return;
            }
            // What the client has not taken is not read from the backend either: memory stays bounded and
            // TCP slows the backend down.
            if client.is_behind() {
                return;
            }
            let mut scratch = core.scratch();
            let received = backend.link.recv(&mut core.driver, &mut self.carriers, &mut scratch);
            let next = match received {
                Recv::Bytes(bytes) => {
                    backend.readable = !backend.link.is_drained(bytes, scratch.len()) || backend.hangup;
                    backend.slot.heard();
                    backend.slot.metrics.bytes_in.add(bytes as u64);
                    if backend.input.is_empty() {
                        self.answer_bytes(core, key, &scratch[..bytes], now)
                    } else {
                        let mut input = std::mem::take(&mut backend.input);
                        input.extend_from_slice(&scratch[..bytes]);
                        self.answer_bytes(core, key, &input, now)
                    }
                }
                Recv::Dry => {
                    backend.readable = false;
                    Next::Stop
                }
                Recv::End => self.answer_ended(core, key, None, now),
                Recv::Failed(errno) => self.answer_ended(core, key, Some(errno.0), now),
            };
            core.give_back(scratch);
            if next == Next::Stop {
                return;
            }
        }
    }

    /// Deals with bytes of the backend: interim heads, the final head, the body.
    fn answer_bytes<D: Driver>(&mut self, core: &mut Core<D>, key: Key, mut bytes: &[u8], now: Instant) -> Next {
        let Some(client) = self.clients.get(key) else { return Next::Stop };
        if client.exchange.stage == Stage::Answering {
            return self.pass_body(core, key, Vec::new(), bytes, now);
        }
        loop {
            let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
            let limit = client.listener.read(|settings| settings.http.header_limit);
            let mut slots = FieldSlots::new();
            match parse_response(bytes, &mut slots, limit, client.exchange.asked()) {
                Parsed::Partial => {
                    if let Some(backend) = client.attempt.backend.and_then(|made| self.backends.get_mut(made)) {
                        backend.input.extend_from_slice(bytes);
                    }
                    return Next::More;
                }
                Parsed::Refused(refusal) => {
                    let detail = match refusal.cause {
                        Cause::BackendHeaderTooLarge => Detail::Limit(limit as u64),
                        _ => Detail::Text(refusal.detail),
                    };
                    self.attempt_failed(core, key, refusal.cause, Some(detail), now);
                    return Next::Stop;
                }
                Parsed::Whole(head) if head.status == 101 => {
                    self.begin_tunnel(core, key, &head, &bytes[head.len..], now);
                    return Next::Stop;
                }
                Parsed::Whole(head) if head.status < 200 => {
                    if !self.pass_interim(core, key, &head, now) {
                        return Next::Stop;
                    }
                    bytes = &bytes[head.len..];
                    if bytes.is_empty() {
                        return Next::More;
                    }
                }
                Parsed::Whole(head) => {
                    let written = self.begin_answer(core, key, &head, now);
                    return self.pass_body(core, key, written, &bytes[head.len..], now);
                }
            }
        }
    }

    /// Passes a 100 or 103 on, to clients that know what it is. False when the client is gone.
    fn pass_interim<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        head: &ResponseHead<'_, '_>,
        now: Instant,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        // RFC 9110 section 15.2: a client of HTTP/1.0 must not be sent one.
        if client.exchange.client_version() == Version::Http10 {
            return true;
        }
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        let edits = ResponseEdits {
            client_version: Version::Http11,
            connection: Connection::KeepAlive,
            framing: OutFraming::AsIs,
            proxy_status: None,
        };
        forward::write_response(head, &edits, &mut out);
        let sent = client.send(&mut core.driver, &mut self.carriers, &mut out, &[], Follows::More);
        self.head = out;
        if sent.is_err() {
            self.client_gone(core, key, now);
        }
        sent.is_ok()
    }

    /// Writes the head for the client into the buffer that is returned.
    fn begin_answer<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        head: &ResponseHead<'_, '_>,
        now: Instant,
    ) -> Vec<u8> {
        self.drop_hedge(core, key);
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        let Some(client) = self.clients.get_mut(key) else { return out };
        let draining = core.is_draining(&client.listener);
        let negotiated = negotiate(client, head);
        let coder = negotiated.coding.and_then(|(coding, level)| self.compressors.take(coding, level).ok());
        let coding = coder.as_ref().and(negotiated.coding);
        client.coder = coder.map(Box::new);
        let begun = client.exchange.begin_answer(head, client.coder.is_some(), draining, now);
        if let Some(picked) = &client.attempt.picked {
            picked.backend.answered(head.status, now - client.attempt.started);
            let answered = client.attempt_over(picked.backend.address, now);
            client.attempt.attempts.push(Attempt { first_byte: Some(now), ..answered });
        }
        let mut received_status = [0_u8; 40];
        let edits = ResponseEdits {
            client_version: client.exchange.client_version(),
            connection: if begun.close { Connection::Close } else { Connection::KeepAlive },
            framing: match (begun.decode, client.exchange.is_chunked_anew()) {
                (_, true) => OutFraming::Chunked,
                (true, false) => OutFraming::Decoded,
                (false, false) => OutFraming::AsIs,
            },
            proxy_status: (head.status >= 500).then(|| proxy_status_received(head.status, &mut received_status)),
        };
        let hsts = strict_transport_security(client);
        let token = self.epoch.unix_nanos_at(now) / 1_000_000_000;
        let token = due_token(client, token);
        let mut own_cookie = Vec::new();
        let mut answer = AnswerEdits {
            strict_transport_security: hsts.as_ref().map(Hsts::as_bytes),
            coding: coding.map(|(coding, _)| coding.word().as_bytes()),
            vary: negotiated.vary,
            ..AnswerEdits::NONE
        };
        if let Some(rule) = client.attempt.wants.ruled.as_ref().and_then(Ruled::rule) {
            answer.headers = edits_of(&rule.response_headers);
        }
        if let Some(due) = &token {
            let name = due.cookie.as_bytes();
            match due.mode {
                StickyMode::Insert => {
                    let value = due.token.as_bytes();
                    let cookie = SetCookie { name, value, max_age: due.max_age, secure: client.secure };
                    cookie.write(&mut own_cookie);
                    answer.set_cookie = Some(&own_cookie);
                }
                StickyMode::Rewrite => {
                    answer.cookie = Some(CookieMark { name, token: due.token.as_bytes() });
                }
            }
        }
        forward::write_response_edited(head, &edits, &answer, &mut out);
        out
    }

    /// Passes body bytes on behind `head`, which may be empty. `head` is this room's buffer and is put back.
    fn pass_body<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        mut head: Vec<u8>,
        bytes: &[u8],
        now: Instant,
    ) -> Next {
        let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
        let coded = client.coder.is_some();
        let mut payload = Vec::new();
        let decoded = if coded { &mut payload } else { &mut head };
        let (consumed, done) = match client.exchange.answer_body(bytes, decoded) {
            Ok(progress) => progress,
            Err(detail) => {
                // The head may have come in the same read. The client gets it whether or not it did, so that what
                // it sees does not hang on how the backend's bytes were split. That it has left is no news here.
                let _ = client.send(&mut core.driver, &mut self.carriers, &mut head, &[], Follows::End);
                self.put_head_back(head);
                self.cut(core, key, Cause::BackendMalformedBody, Some(Detail::Text(detail)), now);
                return Next::Stop;
            }
        };
        if coded && let Err(detail) = code_body(client, &self.backends, &payload, done, &mut head) {
            self.put_head_back(head);
            self.cut(core, key, Cause::BalancerInternal, Some(Detail::Text(detail)), now);
            return Next::Stop;
        }
        let passed = if client.exchange.decodes() { &[] } else { &bytes[..consumed] };
        let then = if done && client.exchange.closes() { Follows::End } else { Follows::More };
        let sent = client.send(&mut core.driver, &mut self.carriers, &mut head, passed, then);
        self.put_head_back(head);
        let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
        if sent.is_err() {
            self.client_gone(core, key, now);
            return Next::Stop;
        }
        if done {
            self.answer_complete(core, key, consumed < bytes.len(), now);
            return Next::Stop;
        }
        client.wait_on_exchange(now);
        Next::More
    }

    pub(crate) fn put_head_back(&mut self, head: Vec<u8>) {
        if head.capacity() > self.head.capacity() {
            self.head = head;
        }
    }

    /// The backend has sent its whole answer. Its connection is free before the client has read everything.
    pub(crate) fn answer_complete<D: Driver>(&mut self, core: &mut Core<D>, key: Key, rest: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let reusable = client.exchange.backend_reusable(rest);
        client.exchange.stage = Stage::Flushing;
        client.exchange.times.answered = Some(now);
        self.release_backend(core, key, reusable, now);
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.is_behind() {
            self.exchange_over(core, key, now);
        } else {
            client.wait_for(Wait::ClientRead, now);
        }
    }

    /// Keeps the connection for the next request if it can serve one, closes it otherwise.
    pub(crate) fn release_backend<D: Driver>(&mut self, core: &mut Core<D>, key: Key, reusable: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(made) = client.attempt.backend.take() else { return };
        let Some(pool) = &client.attempt.pool else { return };
        let (idle_timeout, kept_max) = pool.read(|settings| (settings.idle_timeout, settings.idle_connections));
        let Some(backend) = self.backends.get_mut(made) else { return };
        backend.client = None;
        let keep = reusable
            && !backend.exclusive
            && !backend.link.is_stream()
            && backend.link.is_flushed()
            && !backend.hangup
            && !backend.readable
            && !backend.slot.is_removed()
            && !idle_timeout.is_zero()
            && kept_max > 0;
        if !keep {
            if let Some(backend) = self.backends.remove(made) {
                let how = if reusable { Close::Orderly } else { Close::Reset };
                backend.link.close(&mut core.driver, &mut self.carriers, how);
            }
            return;
        }
        backend.state = State::Idle;
        backend.idle_since = now;
        backend.deadline = now + idle_timeout;
        core.arm(token(Owner::HttpBackend, made), backend.deadline, &mut backend.armed);
        let mut idle = backend.slot.idle.borrow_mut();
        idle.push(made);
        let surplus = if idle.len() > kept_max { Some(idle.remove(0)) } else { None };
        drop(idle);
        if let Some(backend) = surplus.and_then(|surplus| self.backends.remove(surplus)) {
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Orderly);
        }
    }

    /// Closes a kept connection.
    pub(crate) fn discard_idle<D: Driver>(&mut self, core: &mut Core<D>, made: Key) {
        if let Some(backend) = self.backends.remove(made) {
            backend.slot.idle.borrow_mut().retain(|&kept| kept != made);
            backend.link.close(&mut core.driver, &mut self.carriers, Close::Orderly);
        }
    }

    /// The backend closed (`errno` none) or failed while an answer was awaited or under way.
    fn answer_ended<D: Driver>(&mut self, core: &mut Core<D>, key: Key, failed: Option<i32>, now: Instant) -> Next {
        let Some(client) = self.clients.get_mut(key) else { return Next::Stop };
        match client.exchange.stage {
            Stage::Answering => {
                if failed.is_none() && client.exchange.answer_ended() {
                    if !self.finish_coded(core, key, now) {
                        return Next::Stop;
                    }
                    self.answer_complete(core, key, false, now);
                    return Next::Stop;
                }
                self.cut(core, key, Cause::BackendResetMidResponse, failed.map(Detail::Errno), now);
            }
            _ => {
                let broke = client.attempt.backend.and_then(|made| self.backends.get(made)).and_then(|made| made.broke);
                if let Some(detail) = broke {
                    let cause = Cause::BackendMalformedResponse;
                    self.attempt_failed(core, key, cause, Some(Detail::Text(detail)), now);
                    return Next::Stop;
                }
                let cause = match failed {
                    Some(number) if number != errno::EPIPE.0 => Cause::BackendResetBeforeResponse,
                    _ => Cause::BackendClosedBeforeResponse,
                };
                self.attempt_failed(core, key, cause, failed.map(Detail::Errno), now);
            }
        }
        Next::Stop
    }

    /// Throws away what a client still sends after its last answer, until it has seen the end. False: wait.
    pub(crate) fn linger<D: Driver>(&mut self, core: &mut Core<D>, key: Key) -> bool {
        while let Some(client) = self.clients.get_mut(key) {
            if client.standing != Standing::Lingering || !client.readable {
                return false;
            }
            let mut scratch = core.scratch();
            let received = client.link.recv(&mut core.driver, &mut self.carriers, &mut scratch);
            core.give_back(scratch);
            match received {
                Recv::Bytes(_) => {}
                Recv::Dry => client.readable = false,
                Recv::End | Recv::Failed(_) => self.drop_client(core, key, Close::Orderly),
            }
        }
        false
    }
}
