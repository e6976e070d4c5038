//! The http probe: one request with the configured Host, passed when the answer's status is in the list.
//!
//! The whole head has to arrive before the timeout, not only the status line: traffic could do nothing with half
//! a head. A body is never read; the default method HEAD has none.

use std::net::SocketAddr;

use evenkeel_health::settings::{HttpProbe, StatusSet};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_model::limits;

use crate::failure;
use crate::head::{self, Head};
use crate::machine::Fact;

const TOO_LONG: &str = "its head is longer than a probe reads";

#[derive(Debug)]
pub struct Http {
    method: String,
    request: Vec<u8>,
    expect: StatusSet,
    phase: ProbePhase,
    sent: usize,
    /// The head so far; interim ones are taken out.
    head: Vec<u8>,
    /// Bytes received, interim heads included: these are bounded too.
    received: usize,
}

impl Http {
    pub fn new(settings: &HttpProbe, to: SocketAddr) -> Self {
        Http {
            method: settings.method.clone(),
            request: request(settings, to),
            expect: settings.expect_status.clone(),
            phase: ProbePhase::Connect,
            sent: 0,
            head: Vec::new(),
            received: 0,
        }
    }

    pub fn handle(&mut self, fact: Fact<'_>) -> Option<ProbeResult> {
        match fact {
            Fact::Connected => {
                self.phase = ProbePhase::Write;
                None
            }
            Fact::Received(bytes) => self.read(bytes),
            Fact::Ended => Some(self.failed(FailureReason::Closed)),
            Fact::Failed(errno) => Some(failure::failed(self.phase, errno)),
        }
    }

    pub fn handle_deadline(&self) -> ProbeResult {
        self.failed(FailureReason::TimedOut)
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

    /// An answer that comes before our request is whole counts like any other: "503, go away" is
    /// one, and a greeting in another protocol tells at once what is wrong.
    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        let room = limits::PROBE_HEAD.value as usize - self.received;
        let bytes = &bytes[..bytes.len().min(room)];
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
                Head::Final { status } if self.expect.contains(status) => {
                    return Some(ProbeResult::Passed(Pass::Status(status)));
                }
                Head::Final { status } => return Some(Http::answered(FailureReason::Status { got: status })),
            }
        }
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
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
