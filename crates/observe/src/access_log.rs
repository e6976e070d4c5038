//! One JSON line per ended exchange. The fields are listed in the manual; their names are the lexicon's.
//!
//! What a client or backend chose is escaped and cut here, so that no header can forge a line. Fields
//! that do not apply are left out rather than filled with a dash.

use evenkeel_model::exchange::{Detail, Outcome, Reuse};
use evenkeel_model::time::write_rfc3339_seconds;
use evenkeel_model::{Epoch, Instant, limits};

use crate::json::{Json, write_address, write_millis};

/// The last second's date, so that a busy worker formats it once a second and not once a line.
#[derive(Debug, Default)]
pub(crate) struct DateCache {
    second: u64,
    text: String,
}

impl DateCache {
    fn write(&mut self, out: &mut Vec<u8>, unix_nanos: u64) {
        let second = unix_nanos / 1_000_000_000;
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            write_rfc3339_seconds(&mut self.text, second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let micros = unix_nanos / 1000 % 1_000_000;
        out.push(b'.');
        for scale in [100_000, 10_000, 1000, 100, 10, 1] {
            out.push(b'0' + (micros / scale % 10) as u8);
        }
        out.push(b'Z');
    }
}

/// Appends the line for `outcome`, newline included.
pub fn write_line(outcome: &Outcome<'_>, epoch: Epoch, out: &mut Vec<u8>) {
    write_line_with(outcome, epoch, &mut DateCache::default(), out);
}

pub(crate) fn write_line_with(outcome: &Outcome<'_>, epoch: Epoch, date: &mut DateCache, out: &mut Vec<u8>) {
    const FIELD: usize = limits::LOG_FIELD.value as usize;
    let times = &outcome.times;
    let mut line = Json::object(out);
    let value = line.key("time");
    value.push(b'"');
    date.write(value, epoch.unix_nanos_at(times.started));
    value.push(b'"');
    let value = line.key("id");
    value.push(b'"');
    write_hex(value, outcome.id.process);
    write_hex(value, outcome.id.sequence);
    value.push(b'"');
    line.text("listener", outcome.listener.as_bytes(), FIELD);
    line.address("client", outcome.client);
    if let Some(request) = &outcome.request {
        line.text("method", request.method, FIELD);
        line.text("host", request.host, FIELD);
        line.text("target", request.target, FIELD);
        line.word("version", request.version);
        if !request.user_agent.is_empty() {
            line.text("user_agent", request.user_agent, FIELD);
        }
    }
    if let Some(sni) = outcome.sni {
        line.text("sni", sni.as_bytes(), FIELD);
    }
    if let Some(tls) = outcome.tls {
        line.word("tls", tls.version);
        line.word("tls_suite", tls.suite);
        line.boolean("tls_resumed", tls.resumed);
    }
    if let Some(status) = outcome.status {
        line.number("status", u64::from(status));
    }
    line.number("bytes_in", outcome.bytes_in);
    line.number("bytes_out", outcome.bytes_out);
    if let Some(datagrams) = outcome.datagrams {
        line.number("datagrams_in", datagrams.received);
        line.number("datagrams_out", datagrams.sent);
    }
    line.millis("duration_ms", times.ended - times.started);
    if let Some(pool) = outcome.pool {
        line.text("pool", pool.as_bytes(), FIELD);
    }
    if let Some(backend) = outcome.backend {
        line.address("backend", backend);
    }
    match outcome.reuse {
        Some(Reuse::Reused { idle }) => {
            line.boolean("reused", true);
            line.millis("idle_ms", idle);
        }
        Some(Reuse::Fresh) => line.boolean("reused", false),
        None => {}
    }
    // Time from the start to each mark, so that the gaps between them are the phases.
    let mark = |line: &mut Json<'_>, key, at: Option<Instant>| {
        if let Some(at) = at {
            line.millis(key, at - times.started);
        }
    };
    mark(&mut line, "head_ms", times.head);
    mark(&mut line, "queued_ms", times.queued);
    mark(&mut line, "dequeued_ms", times.dequeued);
    mark(&mut line, "picked_ms", times.picked);
    mark(&mut line, "connected_ms", times.connected);
    mark(&mut line, "sent_ms", times.request_sent);
    mark(&mut line, "first_byte_ms", times.first_byte);
    // Only where the client took longer than the backend.
    mark(&mut line, "answered_ms", times.answered.filter(|answered| *answered < times.ended));
    if outcome.client_requests > 0 {
        line.number("client_requests", u64::from(outcome.client_requests));
    }
    if let Some(cause) = outcome.cause {
        let entry = cause.entry();
        line.word("cause", entry.code);
        line.word("blame", entry.blame.word());
        line.word("phase", outcome.phase.unwrap_or(entry.phase).word());
        match outcome.detail {
            Some(Detail::Text(text)) => line.text("detail", text.as_bytes(), FIELD),
            Some(Detail::Errno(errno)) => line.number("errno", u64::from(errno.unsigned_abs())),
            Some(Detail::Limit(limit)) => line.number("limit", limit),
            Some(Detail::Timeout(timeout)) => line.millis("timeout_ms", timeout),
            None => {}
        }
        if let Some(timer) = outcome.timer {
            line.word("timer", timer.key());
        }
        if let Some(rule) = outcome.rule {
            line.text("rule", rule.name.as_bytes(), FIELD);
        }
    }
    // A single good attempt says nothing the line does not say already.
    if outcome.attempts.len() > 1 || outcome.attempts.iter().any(|attempt| attempt.cause.is_some()) {
        let value = line.key("attempts");
        value.push(b'[');
        for (position, attempt) in outcome.attempts.iter().enumerate() {
            if position > 0 {
                value.push(b',');
            }
            value.extend_from_slice(b"{\"backend\":\"");
            write_address(value, attempt.backend);
            value.extend_from_slice(b"\",\"at_ms\":");
            write_millis(value, attempt.started - times.started);
            value.extend_from_slice(b",\"ms\":");
            write_millis(value, attempt.took);
            if let Some(cause) = attempt.cause {
                value.extend_from_slice(b",\"cause\":\"");
                value.extend_from_slice(cause.code().as_bytes());
                value.push(b'"');
            }
            value.push(b'}');
        }
        value.push(b']');
    }
    line.end();
    out.push(b'\n');
}

fn write_hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..16).rev() {
        out.push(DIGITS[(number >> (4 * shift) & 15) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::Cause;
    use evenkeel_model::exchange::{Attempt, ExchangeId, Question, RequestLine, Timer, Times};
    use std::time::Duration;

    fn at(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }

    /// A request that came to nothing.
    fn failed(attempts: &[Attempt]) -> Outcome<'_> {
        Outcome {
            id: ExchangeId { process: 0xabc, sequence: 7 },
            listener: "web",
            pool: Some("shop"),
            client: "192.0.2.1:5000".parse().expect("address"),
            backend: attempts.last().map(|attempt| attempt.backend),
            request: Some(RequestLine {
                method: b"GET",
                host: b"example.com",
                target: b"/a?b=\"",
                version: "HTTP/1.1",
                user_agent: b"",
            }),
            sni: None,
            tls: None,
            status: Some(504),
            cause: Some(Cause::BackendResponseTimeout),
            phase: None,
            detail: Some(Detail::Timeout(Duration::from_secs(60))),
            bytes_in: 120,
            bytes_out: 300,
            datagrams: None,
            times: Times { started: at(1000), head: Some(at(1000)), ended: at(61_001), ..Times::default() },
            attempts,
            reuse: Some(Reuse::Reused { idle: Duration::from_millis(1500) }),
            client_requests: 2,
            rule: None,
            timer: Some(Timer::Response),
            then: Question::NOTHING,
            trace: None,
        }
    }

    #[test]
    fn a_failed_request_says_who_broke_it_in_which_phase_and_what_was_tried() {
        let attempts = [
            Attempt {
                cause: Some(Cause::BackendConnectRefused),
                took: Duration::from_micros(250),
                ..Attempt::new("10.0.0.1:80".parse().expect("address"), at(1000), at(1000))
            },
            Attempt {
                cause: Some(Cause::BackendResponseTimeout),
                ..Attempt::new("10.0.0.2:80".parse().expect("address"), at(1001), at(61_001))
            },
        ];
        let outcome = failed(&attempts);
        let mut out = Vec::new();
        write_line(&outcome, Epoch { unix_nanos: 1_795_368_695_000_000_000 }, &mut out);
        let expected = concat!(
            r#"{"time":"2026-11-22T17:31:36.000000Z","id":"0000000000000abc0000000000000007","listener":"web","#,
            r#""client":"192.0.2.1:5000","method":"GET","host":"example.com","target":"/a?b=\"","version":"HTTP/1.1","#,
            r#""status":504,"bytes_in":120,"bytes_out":300,"duration_ms":60001.000,"pool":"shop","backend":"10.0.0.2:80","#,
            r#""reused":true,"idle_ms":1500.000,"head_ms":0.000,"client_requests":2,"cause":"backend_response_timeout","#,
            r#""blame":"backend","phase":"response_head","timeout_ms":60000.000,"timer":"pool.response_timeout","#,
            r#""attempts":[{"backend":"10.0.0.1:80","at_ms":0.000,"ms":0.250,"cause":"backend_connect_refused"},"#,
            r#"{"backend":"10.0.0.2:80","at_ms":1.000,"ms":60000.000,"cause":"backend_response_timeout"}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).expect("utf-8"), expected);
    }
    #[test]
    fn who_was_asked_beside_the_one_that_answered_is_named() {
        let attempt = |backend: &str| Attempt::new(backend.parse().expect("address"), at(1000), at(1050));
        let attempts = [attempt("10.0.0.1:80"), attempt("10.0.0.2:80")];
        let tried = |attempts| {
            let outcome = Outcome { status: Some(200), cause: None, detail: None, ..failed(attempts) };
            let mut out = Vec::new();
            write_line(&outcome, Epoch { unix_nanos: 0 }, &mut out);
            let line = String::from_utf8(out).expect("utf-8");
            line.split_once(",\"attempts\":").map(|(_, attempts)| attempts.trim_end().to_owned())
        };
        assert_eq!(tried(&attempts[1..]), None);
        let both = r#"[{"backend":"10.0.0.1:80","at_ms":0.000,"ms":50.000},{"backend":"10.0.0.2:80","at_ms":0.000,"ms":50.000}]}"#;
        assert_eq!(tried(&attempts).as_deref(), Some(both));
    }
}
