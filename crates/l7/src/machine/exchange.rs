//! One request and its answer, from the first byte of the head to the last of the body.
//!
//! ```text
//!   Connecting ─► Awaiting ─► Answering ─► Flushing ─► over
//!       ▲             │            │
//!       └── retry ────┘            └─► Relaying (101) ─► over
//! ```
//!
//! The request side is a buffer of what the backend is owed, with a mark how much of it was sent. While
//! the whole request fits the buffer a failed attempt can be made again from its start; once it has outgrown it, what
//! was sent is let go and the exchange is no longer replayable.

use evenkeel_model::exchange::{Detail, ExchangeId, Times, Traced};
use evenkeel_model::{Cause, Instant, Phase, limits};
use evenkeel_wire::trace_context::{SPAN_AT, write_hex};
use evenkeel_wire::{Asked, BodyReader, Framing, RequestHead, ResponseHead, Version};

use super::line::Line;
use super::retry::{Failure, Retry, Tried};
use super::wait::Wait;

const REPLAY: usize = limits::REPLAY_BYTES.value as usize;
const BACKLOG: usize = limits::BACKLOG_BYTES.value as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No connection to a backend yet.
    Connecting,
    /// The request is on its way or sent; no final head has come.
    Awaiting,
    /// The head of the answer was passed on.
    Answering,
    /// The answer is complete; the client has not taken all of it.
    Flushing,
    /// 101: bytes go both ways until one side ends.
    Relaying,
}

/// How a final response head is to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The client's connection ends with this answer.
    pub close: bool,
    /// The chunked coding is taken off for a client of HTTP/1.0.
    pub decode: bool,
}

#[derive(Debug)]
pub struct Exchange {
    pub id: ExchangeId,
    pub line: Line,
    pub times: Times,
    pub stage: Stage,
    pub status: Option<u16>,
    pub failure: Option<(Cause, Option<Detail>)>,
    pub trace: Option<Traced>,
    /// Where in the request's bytes the span of the try stands.
    span_at: usize,
    pub bytes_in: u64,
    pub bytes_out: u64,
    request: Vec<u8>,
    sent: usize,
    replayable: bool,
    body: BodyReader,
    body_limit: u64,
    idempotent: bool,
    asked: Asked,
    client_version: Version,
    client_keep_alive: bool,
    answer: BodyReader,
    answer_until_close: bool,
    decode: bool,
    /// The payload is compressed and goes out in chunks of our own.
    chunked_anew: bool,
    backend_keep_alive: bool,
    close: bool,
    stale_before: bool,
    backend_blocked: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            id: ExchangeId { process: 0, sequence: 0 },
            line: Line::default(),
            times: Times::default(),
            stage: Stage::Connecting,
            status: None,
            failure: None,
            trace: None,
            span_at: 0,
            bytes_in: 0,
            bytes_out: 0,
            request: Vec::new(),
            sent: 0,
            replayable: true,
            body: BodyReader::new(Framing::Empty),
            body_limit: 0,
            idempotent: false,
            asked: Asked { head: false, upgrade: false },
            client_version: Version::Http11,
            client_keep_alive: false,
            answer: BodyReader::new(Framing::Empty),
            answer_until_close: false,
            decode: false,
            chunked_anew: false,
            backend_keep_alive: false,
            close: false,
            stale_before: false,
            backend_blocked: false,
        }
    }
}

impl Exchange {
    /// Makes ready for a request whose first byte came at `started`. Buffers are kept.
    pub fn reset(&mut self, id: ExchangeId, started: Instant) {
        let request = std::mem::take(&mut self.request);
        let line = std::mem::take(&mut self.line);
        *self = Exchange { id, request, line, times: Times { started, ..Times::default() }, ..Exchange::default() };
        self.request.clear();
        self.line.clear();
    }

    /// Takes a head in. The caller writes the rewritten head into [`Exchange::request_buffer`].
    pub fn begin(&mut self, head: &RequestHead<'_, '_>, body_limit: u64, now: Instant) {
        self.line.set(head.method, head.host.unwrap_or_default(), head.target, head.user_agent, head.version.word());
        self.times.head = Some(now);
        self.bytes_in += head.len as u64;
        self.body = BodyReader::new(head.framing);
        self.body_limit = if body_limit == 0 { u64::MAX } else { body_limit };
        self.idempotent = head.idempotent;
        self.asked = Asked { head: head.is_head, upgrade: head.upgrade.is_some() };
        self.client_version = head.version;
        self.client_keep_alive = head.keep_alive;
    }

    /// Where the head goes before any of the body is taken in.
    pub fn request_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.request
    }

    /// The head for the backend is in [`Exchange::request_buffer`], with `traceparent` as its value.
    pub fn traced(&mut self, traceparent: &[u8]) {
        let mut windows = self.request.windows(traceparent.len());
        self.span_at = windows.position(|window| window == traceparent).map_or(0, |at| at + SPAN_AT);
    }

    /// Try number `number`, from 1 on, begins: its span takes the place of the one before. All the request's bytes are there
    /// still, or there would be no further try.
    pub fn try_begins(&mut self, number: u64) {
        if let Some(digits) = self.request.get_mut(self.span_at..self.span_at + 16).filter(|_| self.span_at > 0) {
            write_hex(&Traced::span(self.id, number), digits);
        }
    }

    /// Whether the head announces a body that is over the limit.
    pub fn announces_too_much(&self, framing: Framing) -> bool {
        matches!(framing, Framing::Length(length) if length > self.body_limit)
    }

    /// Takes body bytes in and says how many were this request's.
    ///
    /// # Errors
    /// The cause and its detail, when the body is malformed or over the limit.
    pub fn body(&mut self, bytes: &[u8]) -> Result<usize, (Cause, Detail)> {
        if self.body.is_done() {
            return Ok(0);
        }
        let refuse = |detail| (Cause::ClientMalformedRequest, Detail::Text(detail));
        let progress = self.body.advance(bytes).map_err(refuse)?;
        if self.body.payload_bytes() > self.body_limit {
            return Err((Cause::ClientBodyTooLarge, Detail::Limit(self.body_limit)));
        }
        self.bytes_in += progress.consumed as u64;
        self.request.extend_from_slice(&bytes[..progress.consumed]);
        Ok(progress.consumed)
    }

    pub fn request_complete(&self) -> bool {
        self.body.is_done()
    }

    /// Whether to read more of the body now: what waits for the backend is bounded.
    pub fn wants_body(&self) -> bool {
        !self.body.is_done()
            && self.request.len() - self.sent < BACKLOG
            && matches!(self.stage, Stage::Connecting | Stage::Awaiting | Stage::Answering)
    }

    /// What the backend is owed and was not sent.
    pub fn unsent(&self) -> &[u8] {
        &self.request[self.sent..]
    }

    /// Whether the backend has been sent the whole request.
    pub fn all_sent(&self) -> bool {
        self.body.is_done() && self.sent == self.request.len()
    }

    /// `taken` bytes of [`Exchange::unsent`] went out at `now`.
    pub fn sent(&mut self, taken: usize, now: Instant) {
        self.sent += taken;
        self.backend_blocked = self.sent < self.request.len();
        if self.all_sent() {
            self.times.request_sent = Some(now);
        }
        if self.request.len() > REPLAY {
            self.replayable = false;
            self.request.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// A connection stands: from here on the request is on its way.
    pub fn connected(&mut self, now: Instant) {
        self.stage = Stage::Awaiting;
        self.times.connected = Some(now);
    }

    pub fn asked(&self) -> Asked {
        self.asked
    }

    pub fn idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether the request may be made again, and can be: all its bytes are still held.
    pub fn is_repeatable(&self) -> bool {
        self.idempotent && self.replayable && self.body.is_done()
    }

    pub fn client_version(&self) -> Version {
        self.client_version
    }

    /// An attempt failed before an answer was passed on: what may be done. When it may be done again, the
    /// request starts from its first byte.
    pub fn attempt_failed(&mut self, cause: Cause, tried: Tried) -> Retry {
        let retry = Failure { cause, tried }.retry(self.replayable, self.idempotent, self.stale_before);
        if retry != Retry::No {
            self.stale_before |= tried == Tried::Reused;
            self.start_over();
        }
        retry
    }

    /// The request will be sent again from its first byte.
    pub fn start_over(&mut self) {
        self.stage = Stage::Connecting;
        self.sent = 0;
        self.backend_blocked = false;
        self.times.connected = None;
        self.times.request_sent = None;
    }

    /// All bytes of a request that is repeatable.
    pub fn whole_request(&self) -> &[u8] {
        &self.request
    }

    /// The final head came at `now`. `draining`: connections of this listener are to end.
    /// `coded`: the body will be compressed.
    pub fn begin_answer(&mut self, head: &ResponseHead<'_, '_>, coded: bool, draining: bool, now: Instant) -> Begun {
        self.stage = Stage::Answering;
        self.times.first_byte = Some(now);
        self.status = Some(head.status);
        self.answer = BodyReader::new(head.framing);
        self.backend_keep_alive = head.keep_alive;
        self.answer_until_close = head.framing == Framing::UntilClose;
        let http10 = self.client_version == Version::Http10;
        self.decode = coded || http10 && head.framing == Framing::Chunked;
        self.chunked_anew = coded && !http10;
        // An answer to a request that is still being sent leaves the rest of it unread behind it, so nothing
        // can follow on this connection.
        self.close = draining || !self.client_keep_alive || self.ends_by_closing() || !self.body.is_done();
        Begun { close: self.close, decode: self.decode }
    }

    /// Whether the client knows the end of the answer by the end of the connection.
    fn ends_by_closing(&self) -> bool {
        (self.answer_until_close || self.decode) && !self.chunked_anew
    }

    pub fn is_chunked_anew(&self) -> bool {
        self.chunked_anew
    }

    /// Body bytes of the answer: how many were this answer's, and whether it is complete. With
    /// [`Begun::decode`] the payload is appended to `decoded`, otherwise the consumed bytes are passed on as
    /// they are.
    ///
    /// # Errors
    /// Names the rule the backend broke.
    pub fn answer_body(&mut self, bytes: &[u8], decoded: &mut Vec<u8>) -> Result<(usize, bool), &'static str> {
        let progress =
            if self.decode { self.answer.advance_decoding(bytes, decoded)? } else { self.answer.advance(bytes)? };
        Ok((progress.consumed, progress.done))
    }

    pub fn decodes(&self) -> bool {
        self.decode
    }

    pub fn answer_complete(&self) -> bool {
        self.answer.is_done()
    }

    /// The backend closed while it answered: whether that was the end it meant.
    pub fn answer_ended(&mut self) -> bool {
        self.answer.end_of_stream().is_ok()
    }

    /// Whether the backend's connection can serve another request. `rest`: it sent more than its answer.
    pub fn backend_reusable(&self, rest: bool) -> bool {
        self.backend_keep_alive && !self.answer_until_close && self.all_sent() && !rest
    }

    /// An answer of our own goes out instead of a backend's. True when the connection ends with it.
    pub fn begin_own_answer(&mut self, status: u16, cause: Cause, detail: Option<Detail>, draining: bool) -> bool {
        self.stage = Stage::Flushing;
        self.status = Some(status);
        self.failure = Some((cause, detail));
        self.answer = BodyReader::new(Framing::Empty);
        self.close = draining
            || !self.client_keep_alive
            || !self.body.is_done()
            || cause.entry().phase == Phase::RequestHead
            || matches!(cause, Cause::ClientBodyTooLarge);
        self.close
    }

    /// An answer of our own that is no failure: a redirect, or what a rule says. True when the connection ends with it.
    pub fn begin_plain_answer(&mut self, status: u16, draining: bool) -> bool {
        self.stage = Stage::Flushing;
        self.status = Some(status);
        self.answer = BodyReader::new(Framing::Empty);
        self.close = draining || !self.client_keep_alive || !self.body.is_done();
        self.close
    }

    /// Whether the client's connection ends with this exchange.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Whether the client said that this request is its last on the connection. A head that was not understood
    /// says nothing.
    pub fn client_asked_to_close(&self) -> bool {
        self.times.head.is_some() && !self.client_keep_alive
    }

    /// The client must see that the answer is cut; an orderly end would look like its proper one.
    pub fn must_cut(&self) -> bool {
        self.ends_by_closing()
    }

    /// Whom the exchange waits for now. `client_reading`: something waits for the client to take it.
    pub fn wait(&self, client_reading: bool) -> Wait {
        match self.stage {
            Stage::Connecting => Wait::Connect,
            Stage::Flushing => Wait::ClientRead,
            Stage::Relaying => Wait::Relay,
            // An interim answer that the client does not take holds the backend's next bytes up.
            Stage::Awaiting if self.all_sent() && client_reading => Wait::ClientRead,
            Stage::Awaiting if self.all_sent() => Wait::Response,
            Stage::Awaiting if self.backend_blocked => Wait::BackendWrite,
            Stage::Awaiting => Wait::ClientBody,
            Stage::Answering if client_reading => Wait::ClientRead,
            Stage::Answering => Wait::BackendBody,
        }
    }

    /// The phase the exchange is in, for a cause that can strike anywhere.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Connecting if self.times.head.is_none() => Phase::RequestHead,
            Stage::Connecting => Phase::Connect,
            Stage::Awaiting if self.all_sent() => Phase::ResponseHead,
            Stage::Awaiting => Phase::RequestBody,
            Stage::Answering | Stage::Flushing => Phase::ResponseBody,
            Stage::Relaying => Phase::Relay,
        }
    }

    /// Lets go of memory a large request needed; an idle connection keeps little.
    pub fn trim(&mut self) {
        const KEPT: usize = 4096;
        self.request.clear();
        self.sent = 0;
        if self.request.capacity() > KEPT {
            self.request = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_wire::{FieldSlots, Parsed, parse_request};

    fn begun(request: &[u8]) -> Exchange {
        let mut exchange = Exchange::default();
        let mut slots = FieldSlots::new();
        let Parsed::Whole(head) = parse_request(request, &mut slots, 4096) else { panic!("a good request") };
        exchange.begin(&head, 0, Instant::START);
        exchange.request_buffer().extend_from_slice(&request[..head.len]);
        exchange.body(&request[head.len..]).expect("a good body");
        exchange.connected(Instant::START);
        exchange
    }

    #[test]
    fn a_sent_request_waits_for_the_backend_unless_the_client_holds_an_interim_answer_up() {
        let mut exchange = begun(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        exchange.sent(exchange.unsent().len(), Instant::START);
        assert_eq!(exchange.wait(false), Wait::Response);
        assert_eq!(exchange.wait(true), Wait::ClientRead);
    }

    #[test]
    fn an_upload_waits_for_whoever_holds_it_up() {
        let mut exchange = begun(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
        exchange.sent(5, Instant::START);
        assert_eq!(exchange.wait(false), Wait::BackendWrite, "a part of what is there was not taken");
        exchange.sent(exchange.unsent().len(), Instant::START);
        assert_eq!(exchange.wait(false), Wait::ClientBody, "all that is there was taken, and there is more to come");
        assert_eq!(exchange.body(b"defghiNEXT").expect("the rest"), 6, "what follows is another request's");
        exchange.sent(6, Instant::START);
        assert_eq!(exchange.wait(false), Wait::Response);
    }
}
