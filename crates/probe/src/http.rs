//! The http probe: one request with the configured Host, passed when the answer's status is in the list and its body, where
//! the check asks about it, is as wanted.
//!
//! The whole head has to arrive before the timeout, not only the status line: traffic could do nothing with half
//! a head. A body is read only where the check asks about it; the default method HEAD has none.
//!
//! With `keep_alive` the connection may carry the next probe too, when this one's answer has come to its end by the time the
//! probe is decided. It is never waited for: what a probe finds must not depend on how it is carried.

use std::fmt::Write;
use std::net::SocketAddr;

use evenkeel_health::settings::{BodyMatch, HttpProbe, StatusSet};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_model::limits;

use crate::body::{Body, Come};
use crate::failure;
use crate::head::{self, Head};
use crate::machine::Fact;

const TOO_LONG: &str = "its head is longer than a probe reads";

#[derive(Debug)]
pub struct Http {
    method: String,
    request: Vec<u8>,
    expect: StatusSet,
    expect_body: Option<BodyMatch>,
    keep_alive: bool,
    phase: ProbePhase,
    sent: usize,
    /// The head so far; interim ones are taken out.
    head: Vec<u8>,
    /// Bytes of heads received, interim ones included: these are bounded too.
    received: usize,
    answer: Option<Box<Answer>>,
    /// The answer is over, nothing lies behind it, and both sides would go on.
    idle: bool,
}

/// What follows a head that is as expected.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Body,
    /// The backend lets the connection be used again.
    keep_alive: bool,
}

impl Http {
    pub fn new(settings: &HttpProbe, to: SocketAddr) -> Self {
        Http {
            method: settings.method.clone(),
            request: request(settings, to),
            expect: settings.expect_status.clone(),
            expect_body: settings.expect_body.clone(),
            keep_alive: settings.keep_alive,
            phase: ProbePhase::Connect,
            sent: 0,
            head: Vec::new(),
            received: 0,
            answer: None,
            idle: false,
        }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => {
                self.phase = ProbePhase::Write;
                None
            }
            Fact::Received(bytes) => self.read(bytes),
            Fact::Ended => Some(self.end()),
            Fact::Failed(errno) => Some(failure::failed(self.phase, errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        match (&self.answer, self.phase) {
            (Some(answer), _) => Http::answered(FailureReason::Unfinished { part: "body", bytes: answer.body.bytes() }),
            (None, ProbePhase::Read) if self.received > 0 => {
                Http::answered(FailureReason::Unfinished { part: "head", bytes: self.received as u64 })
            }
            (None, _) => self.failed(FailureReason::TimedOut),
        }
    }

    pub fn phase(&self) -> ProbePhase {
        self.phase
    }

    pub fn to_send(&self) -> &[u8] {
        &self.request[self.sent..]
    }

    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.request.len() {
            self.phase = ProbePhase::Read;
        }
    }

    /// Whether the connection may carry another probe; only asked of one that is decided.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Begins the next probe on the same connection.
    pub fn again(&mut self) {
        self.phase = ProbePhase::Write;
        self.sent = 0;
        self.head.clear();
        self.received = 0;
        self.answer = None;
        self.idle = false;
    }

    pub fn has_heard_nothing(&self) -> bool {
        self.received == 0
    }

    /// An answer that comes before our request is whole counts like any other: "503, go away" is
    /// one, and a greeting in another protocol tells at once what is wrong.
    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        if let Some(answer) = &mut self.answer {
            let come = answer.body.take(bytes);
            return self.look(come, bytes.len());
        }
        let room = limits::PROBE_HEAD.value as usize - self.received;
        let (bytes, beyond) = bytes.split_at(bytes.len().min(room));
        self.received += bytes.len();
        self.head.extend_from_slice(bytes);
        loop {
            match head::read(&self.head, &self.method) {
                Head::Partial if bytes.len() == room => {
                    return Some(Http::answered(FailureReason::NotHttp { why: TOO_LONG }));
                }
                Head::Partial => return None,
                Head::Broken { why } => return Some(Http::answered(FailureReason::NotHttp { why })),
                Head::Interim { length } => {
                    self.head.drain(..length);
                }
                Head::Final { status, length, framing, keep_alive } => {
                    let mut rest = self.head.split_off(length);
                    rest.extend_from_slice(beyond);
                    let mut body = Body::new(framing);
                    let come = body.take(&rest);
                    self.answer = Some(Box::new(Answer { status, body, keep_alive }));
                    return self.look(come, rest.len());
                }
            }
        }
    }

    /// Decides as soon as enough of the answer is there, its last `bytes` just now.
    fn look(&mut self, come: Come, bytes: usize) -> Option<ProbeResult> {
        let Answer { status, body, keep_alive } = self.answer.as_deref()?;
        let both = self.keep_alive && *keep_alive && self.phase == ProbePhase::Read;
        self.idle = both && come == Come::Whole { consumed: bytes };
        if !self.expect.contains(*status) {
            return Some(Http::answered(FailureReason::Status { got: *status }));
        }
        let passed = ProbeResult::Passed(Pass::Status(*status));
        let Some(wanted) = &self.expect_body else { return Some(passed) };
        match come {
            Come::Partly => None,
            Come::Broken { why } => Some(Http::answered(FailureReason::NotHttp { why })),
            Come::Whole { .. } | Come::TooFar => Some(body.judge(wanted).map_or_else(Http::answered, |()| passed)),
        }
    }

    /// Only a body that has no other end may end with the connection.
    fn end(&mut self) -> ProbeResult {
        if let Some(answer) = &mut self.answer
            && answer.body.end()
            && let Some(result) = self.look(Come::Whole { consumed: 0 }, 0)
        {
            self.idle = false;
            return result;
        }
        self.failed(FailureReason::Closed)
    }

    /// Whatever we were doing, it was in reading that we learnt this.
    fn answered(reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
    }

    fn failed(&self, reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: self.phase, reason })
    }
}

/// The settings are valid (no control bytes in them), so the request cannot be split by its own parts.
fn request(settings: &HttpProbe, to: SocketAddr) -> Vec<u8> {
    let HttpProbe { method, path, host, .. } = settings;
    let target;
    let host = match host {
        Some(host) => host,
        None => {
            target = to.to_string();
            &target
        }
    };
    let agent = concat!("evenkeel-probe/", env!("CARGO_PKG_VERSION"));
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n");
    if !settings.keep_alive {
        head.push_str("Connection: close\r\n");
    }
    for (name, value) in &settings.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_health::pattern::{Covers, Pattern};
    use evenkeel_model::finding::BodyFault;
    use evenkeel_reactor::errno;

    fn settings() -> HttpProbe {
        HttpProbe { path: "/health".to_owned(), ..HttpProbe::default() }
    }

    fn target() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 7], 8080))
    }

    /// A probe whose request is sent.
    fn asked() -> Http {
        let mut http = Http::new(&settings(), target());
        assert_eq!(http.handle(Fact::Connected), None);
        http.sent(http.to_send().len());
        assert_eq!(http.phase(), ProbePhase::Read);
        http
    }

    fn passed(status: u16) -> ProbeResult {
        ProbeResult::Passed(Pass::Status(status))
    }

    fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase, reason })
    }

    fn status(got: u16) -> ProbeResult {
        failed(ProbePhase::Read, FailureReason::Status { got })
    }

    fn not_http(why: &'static str) -> ProbeResult {
        failed(ProbePhase::Read, FailureReason::NotHttp { why })
    }

    #[test]
    fn the_request_names_the_configured_host_or_else_the_target() {
        let text = |settings: &HttpProbe, to| String::from_utf8(request(settings, to)).expect("settings are text");
        let agent = format!("User-Agent: evenkeel-probe/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            text(&settings(), target()),
            format!("HEAD /health HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n{agent}\r\nConnection: close\r\n\r\n")
        );
        let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80));
        assert!(text(&settings(), six).contains("\r\nHost: [::1]:80\r\n"));
        let named = HttpProbe { method: "GET".to_owned(), host: Some("shop.example.com".to_owned()), ..settings() };
        assert!(text(&named, target()).starts_with("GET /health HTTP/1.1\r\nHost: shop.example.com\r\n"));
    }

    #[test]
    fn headers_of_the_check_come_behind_ours() {
        let headers = vec![("Authorization".to_owned(), "Bearer x".to_owned()), ("X-Probe".to_owned(), "1".to_owned())];
        let check = HttpProbe { headers, keep_alive: true, ..settings() };
        let agent = format!("User-Agent: evenkeel-probe/{}", env!("CARGO_PKG_VERSION"));
        let expected = format!(
            "HEAD /health HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n{agent}\r\nAuthorization: Bearer x\r\nX-Probe: 1\r\n\r\n"
        );
        assert_eq!(String::from_utf8(request(&check, target())).expect("settings are text"), expected);
    }

    #[test]
    fn the_answer_decides_however_it_is_cut() {
        let table: [(&[u8], Option<ProbeResult>); 12] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(passed(200))),
            (b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", Some(passed(302))),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Some(status(404))),
            (b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nabc", Some(status(500))),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Some(not_http(""))),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n", Some(passed(204))),
            (b"HTTP/1.1 103 \r\nLink: </a>\r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 503 \r\n\r\n", Some(status(503))),
            (b"HTTP/1.1 100 Continue\r\n\r\n", None),
            (b"HTTP/1.1 200 OK\r\nServer: slow\r\n", None),
            (b"HTTP/1.1 100 Continue\r\n\r\nwhat", Some(not_http(""))),
            (b"+OK ready\r\n", Some(not_http(""))),
            (b"HTTP/1.1 200 OK\nServer: old\n\n", Some(not_http(""))),
        ];
        // Which rule is broken first may depend on the cut; that one is broken may not.
        let tell = |http: &mut Http, bytes: &[u8]| match http.handle(Fact::Received(bytes)) {
            Some(ProbeResult::Failed(Failure { reason: FailureReason::NotHttp { .. }, .. })) => Some(not_http("")),
            other => other,
        };
        for (answer, expected) in table {
            let name = answer.escape_ascii();
            assert_eq!(tell(&mut asked(), answer), expected, "whole: {name}");
            for cut in 1..answer.len() {
                let mut http = asked();
                let early = tell(&mut http, &answer[..cut]);
                let result = early.or_else(|| tell(&mut http, &answer[cut..]));
                assert_eq!(result, expected, "cut at {cut}: {name}");
            }
            let mut http = asked();
            let bytewise = answer.iter().find_map(|byte| tell(&mut http, &[*byte]));
            assert_eq!(bytewise, expected, "byte by byte: {name}");
        }
    }

    #[test]
    fn the_status_list_decides_not_the_class() {
        let only_418 = HttpProbe { expect_status: StatusSet::from_ranges(vec![(418, 418)]), ..settings() };
        for (answer, expected) in
            [(&b"HTTP/1.1 418 Teapot\r\n\r\n"[..], passed(418)), (b"HTTP/1.1 200 OK\r\n\r\n", status(200))]
        {
            let mut http = Http::new(&only_418, target());
            http.handle(Fact::Connected);
            assert_eq!(http.handle(Fact::Received(answer)), Some(expected));
        }
    }

    #[test]
    fn a_failure_names_the_phase_it_met() {
        let mut dialing = Http::new(&settings(), target());
        assert_eq!(dialing.handle_deadline(), failed(ProbePhase::Connect, FailureReason::TimedOut));
        assert_eq!(
            dialing.handle(Fact::Failed(errno::ECONNREFUSED)),
            Some(failed(ProbePhase::Connect, FailureReason::Refused))
        );

        let mut writing = Http::new(&settings(), target());
        writing.handle(Fact::Connected);
        writing.sent(5);
        assert!(writing.to_send().starts_with(b"/health"));
        assert_eq!(writing.handle_deadline(), failed(ProbePhase::Write, FailureReason::TimedOut));
        assert_eq!(writing.handle(Fact::Failed(errno::EPIPE)), Some(failed(ProbePhase::Write, FailureReason::Reset)));

        assert_eq!(asked().handle_deadline(), failed(ProbePhase::Read, FailureReason::TimedOut));
        assert_eq!(asked().handle(Fact::Ended), Some(failed(ProbePhase::Read, FailureReason::Closed)));
        assert_eq!(
            asked().handle(Fact::Failed(errno::ECONNRESET)),
            Some(failed(ProbePhase::Read, FailureReason::Reset))
        );
    }

    #[test]
    fn a_close_in_mid_head_is_no_answer() {
        let mut http = asked();
        assert_eq!(http.handle(Fact::Received(b"HTTP/1.1 200 OK\r\nServer: x\r\n")), None);
        assert_eq!(http.handle(Fact::Ended), Some(failed(ProbePhase::Read, FailureReason::Closed)));
    }

    #[test]
    fn a_head_without_end_is_given_up_at_the_limit_and_one_just_under_it_passes() {
        let limit = limits::PROBE_HEAD.value as usize;
        let start = b"HTTP/1.1 200 OK\r\nX: ";
        let mut fits = start.to_vec();
        fits.resize(limit - 4, b'a');
        fits.extend_from_slice(b"\r\n\r\n");
        assert_eq!(fits.len(), limit);
        assert_eq!(asked().handle(Fact::Received(&fits)), Some(passed(200)));

        let mut endless = start.to_vec();
        endless.resize(limit, b'a');
        endless.extend_from_slice(b"\r\n\r\n");
        for step in [7, 1000, endless.len()] {
            let mut http = asked();
            let result = endless.chunks(step).find_map(|bytes| http.handle(Fact::Received(bytes)));
            assert_eq!(result, Some(not_http(TOO_LONG)), "steps of {step}");
        }

        let mut interim = asked();
        let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(limit / 20);
        assert_eq!(interim.handle(Fact::Received(&hints)), Some(not_http(TOO_LONG)));
    }

    /// A probe with GET that looks for `ready`, and has asked.
    fn looking() -> Http {
        let ready = Pattern::literal(b"ready", Covers::Part);
        let expect_body = Some(BodyMatch::Has(ready));
        let mut http = Http::new(&HttpProbe { method: "GET".to_owned(), expect_body, ..settings() }, target());
        http.handle(Fact::Connected);
        http.sent(http.to_send().len());
        http
    }

    fn lacks(got: &[u8]) -> ProbeResult {
        let (fault, pattern) = (BodyFault::Lacks, "\"ready\"".into());
        failed(ProbePhase::Read, FailureReason::Body { fault, pattern, got: got.to_vec() })
    }

    #[test]
    fn a_body_is_read_to_its_end_however_it_is_framed_and_cut() {
        let closed = failed(ProbePhase::Read, FailureReason::Closed);
        let whole = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").into_bytes();
        let table = [
            (whole("Content-Length: 9\r\n", "all ready"), passed(200)),
            (whole("Content-Length: 9\r\n", "all read"), closed.clone()),
            (whole("Content-Length: 8\r\n", "all ready"), lacks(b"all read")),
            (whole("Content-Length: 0\r\n", ""), lacks(b"")),
            (whole("Transfer-Encoding: chunked\r\n", "3\r\nrea\r\n2;x=y\r\ndy\r\n0\r\nA: b\r\n\r\n"), passed(200)),
            (whole("Transfer-Encoding: chunked\r\n", "5\r\nready\r\n"), closed),
            (whole("Transfer-Encoding: chunked\r\n", "5\r\nreadyX"), not_http("")),
            (whole("", "not re\nady"), lacks(b"not re\nady")),
            (whole("", "ready"), passed(200)),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nready".to_vec(), passed(200)),
            (b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nready".to_vec(), status(500)),
            (b"HTTP/1.1 204 None\r\n\r\n".to_vec(), lacks(b"")),
        ];
        for (answer, expected) in table {
            let name = answer.escape_ascii().to_string();
            let find = |pieces: &[&[u8]]| {
                let mut http = looking();
                let result = pieces.iter().find_map(|piece| http.handle(Fact::Received(piece)));
                match result.or_else(|| http.handle(Fact::Ended)) {
                    Some(ProbeResult::Failed(Failure { reason: FailureReason::NotHttp { .. }, .. })) => not_http(""),
                    other => other.expect("the end of the stream decides"),
                }
            };
            assert_eq!(find(&[&answer]), expected, "whole: {name}");
            for cut in 1..answer.len() {
                assert_eq!(find(&[&answer[..cut], &answer[cut..]]), expected, "cut at {cut}: {name}");
            }
            assert_eq!(find(&answer.chunks(1).collect::<Vec<_>>()), expected, "byte by byte: {name}");
        }
    }

    #[test]
    fn a_page_without_end_is_looked_into_as_far_as_the_limit() {
        let limit = limits::PROBE_BODY.value as usize;
        let page = |at: usize| {
            let mut page = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            page.resize(page.len() + at, b'x');
            page.extend_from_slice(b"ready and so on");
            page
        };
        let fault = BodyFault::LacksWithin { bytes: limit as u64 };
        let beyond = FailureReason::Body { fault, pattern: "\"ready\"".into(), got: vec![b'x'; 64] };
        for (at, expected) in [(limit - 5, passed(200)), (limit - 4, failed(ProbePhase::Read, beyond))] {
            for step in [1000, 1_000_000] {
                let mut http = looking();
                let result = page(at).chunks(step).find_map(|bytes| http.handle(Fact::Received(bytes)));
                assert_eq!(result, Some(expected.clone()), "at {at} in steps of {step}");
            }
        }
    }

    #[test]
    fn what_did_not_come_in_time_is_named() {
        let unfinished = |part, bytes| failed(ProbePhase::Read, FailureReason::Unfinished { part, bytes });
        let mut http = looking();
        assert_eq!(http.handle_deadline(), failed(ProbePhase::Read, FailureReason::TimedOut));
        http.handle(Fact::Received(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(http.handle_deadline(), unfinished("head", 17));
        http.handle(Fact::Received(b"Content-Length: 9\r\n\r\n"));
        assert_eq!(http.handle_deadline(), unfinished("body", 0));
        http.handle(Fact::Received(b"all "));
        assert_eq!(http.handle_deadline(), unfinished("body", 4));
    }

    #[test]
    fn a_connection_is_idle_when_the_answer_is_over_and_both_would_go_on() {
        let kept = |method: &str| {
            let check = HttpProbe { method: method.to_owned(), keep_alive: true, ..settings() };
            let mut http = Http::new(&check, target());
            http.handle(Fact::Connected);
            http.sent(http.to_send().len());
            http
        };
        let table: [(&str, &[u8], bool); 10] = [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
            ("HEAD", b"HTTP/1.1 503 Busy\r\n\r\n", true),
            ("HEAD", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false),
            ("HEAD", b"HTTP/1.0 200 OK\r\n\r\n", false),
            ("HEAD", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1", false),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", false),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", false),
            ("GET", b"HTTP/1.1 200 OK\r\n\r\nok", false),
            ("GET", b"what", false),
        ];
        for (method, answer, idle) in table {
            let mut http = kept(method);
            assert!(http.handle(Fact::Received(answer)).is_some());
            assert_eq!(http.is_idle(), idle, "{method}: {}", answer.escape_ascii());
            http.again();
            assert_eq!((http.phase(), http.has_heard_nothing()), (ProbePhase::Write, true));
            assert!(http.to_send().starts_with(method.as_bytes()));
            http.sent(http.to_send().len());
            let again = http.handle(Fact::Received(b"HTTP/1.1 204 None\r\n\r\n"));
            assert_eq!(again, Some(passed(204)), "nothing is left of the answer before");
        }
        let mut close = asked();
        close.handle(Fact::Received(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!close.is_idle(), "we have asked it to close");
        let mut early = Http::new(&HttpProbe { keep_alive: true, ..settings() }, target());
        early.handle(Fact::Connected);
        early.handle(Fact::Received(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!early.is_idle(), "our request is not whole");
    }
}
