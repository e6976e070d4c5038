//! The answers we give ourselves: a status, the cause in `Proxy-Status` (RFC 9209), and one sentence.
//!
//! Always a whole message with a length, so it can go out on a connection that goes on. It names no backend and
//! repeats nothing the client sent.

use std::io::Write;

use evenkeel_model::Cause;
use evenkeel_model::exchange::{Detail, ExchangeId};

/// The reason phrase of a status we send (RFC 9110 section 15, RFC 6585, RFC 5842).
pub const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        _ => "",
    }
}

/// Writes a whole answer. `head_only`: the request was HEAD. The sentence names the cause's meaning and never
/// a backend's address: who calls from outside learns whose fault it was, not how the inside looks.
pub fn write_own_answer(
    out: &mut Vec<u8>,
    cause: Cause,
    detail: Option<Detail>,
    status: u16,
    close: bool,
    head_only: bool,
    id: ExchangeId,
) {
    let entry = cause.entry();
    let mut body = Vec::with_capacity(256);
    let phrase = reason(status);
    // Writing to a Vec cannot fail.
    let _ = writeln!(body, "{status} {phrase}\n\n{}: {}", entry.code, entry.meaning);
    if let Some(Detail::Text(text)) = detail
        && entry.blame == evenkeel_model::Blame::Client
    {
        let _ = writeln!(body, "detail: {text}");
    }
    let _ = writeln!(body, "id: {:016x}{:016x}", id.process, id.sequence);
    let _ = write!(out, "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n");
    let _ = write!(out, "Content-Length: {}\r\nCache-Control: no-store\r\nProxy-Status: evenkeel", body.len());
    if let Some(token) = entry.token {
        let _ = write!(out, "; error={token}");
    }
    let _ = write!(out, "; details=\"{}\"\r\n", entry.code);
    if status == 503 || status == 429 {
        out.extend_from_slice(b"Retry-After: 1\r\n");
    }
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(&body);
    }
}

/// The `Proxy-Status` member that marks an error as the backend's own.
pub(crate) fn proxy_status_received(status: u16, space: &mut [u8; 40]) -> &[u8] {
    let mut rest = &mut space[..];
    let before = rest.len();
    // Forty bytes hold the text with any status of three digits.
    let _ = write!(rest, "evenkeel; received-status={status}");
    let written = before - rest.len();
    &space[..written]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_with_a_status_has_a_reason_phrase() {
        for cause in Cause::ALL {
            // 499 stands in the log only.
            if let Some(status) = cause.entry().status.filter(|&status| status != 499) {
                assert_ne!(reason(status), "", "{}", cause.code());
            }
        }
    }

    #[test]
    fn an_own_answer_carries_the_code_and_is_framed() {
        let mut out = Vec::new();
        let id = ExchangeId { process: 1, sequence: 2 };
        write_own_answer(&mut out, Cause::AllBackendsUnhealthy, None, 502, true, false, id);
        let text = String::from_utf8(out).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains("Proxy-Status: evenkeel; error=destination_unavailable; details=\"all_backends_unhealthy\"")
        );
        assert!(head.contains("Connection: close"));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }

    #[test]
    fn a_backends_own_error_is_marked_as_received() {
        assert_eq!(proxy_status_received(503, &mut [0; 40]), b"evenkeel; received-status=503");
    }
}
