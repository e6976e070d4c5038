//! The answers we give ourselves: failures explained, redirects, and what a rule says.
//!
//! A failure is a status, the cause in `Proxy-Status` (RFC 9209), and one sentence. It names no backend and repeats
//! nothing the client sent: who calls from outside learns whose fault it was, not how the inside looks. A gRPC client
//! gets the same as `grpc-status` in a 200; the log then has 200 too, since `status` there is what was sent, beside the
//! cause, whose own status everybody can look up.
//!
//! Always a whole message with a length, so it can go out on a connection that goes on.

use std::io::Write;

use evenkeel_model::Cause;
use evenkeel_model::exchange::{Detail, ExchangeId};

use crate::machine::{GrpcStatus, answer_type, write_message};

/// The reason phrase of a status (IANA's registry of HTTP status codes), empty for one nobody registered.
pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// How an answer of ours goes out, whatever it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sending<'a> {
    /// The client's connection ends with it.
    pub close: bool,
    /// The request was HEAD.
    pub head_only: bool,
    /// On https listeners that have a policy: our own answers tell it too.
    pub strict_transport_security: Option<&'a [u8]>,
}

/// What an answer to a failed request explains.
#[derive(Clone, Copy, Debug)]
pub struct Explained<'a> {
    pub cause: Cause,
    pub detail: Option<Detail>,
    pub status: u16,
    pub id: ExchangeId,
    /// The request's Content-Type if it was a gRPC one.
    pub grpc: Option<&'a [u8]>,
}

/// Writes the answer to a failed request and says which status it has: 200 for gRPC.
pub fn write_explained(out: &mut Vec<u8>, explained: &Explained<'_>, sending: &Sending<'_>) -> u16 {
    if let Some(content_type) = explained.grpc {
        write_grpc(out, explained, content_type, sending);
        return 200;
    }
    let Explained { cause, status, .. } = *explained;
    let mut body = Vec::with_capacity(256);
    // Writing to a Vec cannot fail.
    let _ = writeln!(body, "{status} {}\n\n{}: {}", reason(status), cause.code(), cause.entry().meaning);
    if let Some(text) = told_detail(explained) {
        let _ = writeln!(body, "detail: {text}");
    }
    let _ = writeln!(body, "id: {:016x}{:016x}", explained.id.process, explained.id.sequence);
    begin(out, status);
    put(out, "Content-Type", b"text/plain; charset=utf-8");
    put_length(out, body.len());
    put(out, "Cache-Control", b"no-store");
    put_proxy_status(out, cause);
    if status == 503 || status == 429 {
        put(out, "Retry-After", b"1");
    }
    end(out, &body, sending);
    status
}

/// HTTP/2 makes Trailers-Only of it, since there is no body.
fn write_grpc(out: &mut Vec<u8>, explained: &Explained<'_>, content_type: &[u8], sending: &Sending<'_>) {
    let Explained { cause, status, id, .. } = *explained;
    begin(out, 200);
    put(out, "Content-Type", answer_type(content_type));
    put_length(out, 0);
    put(out, "Cache-Control", b"no-store");
    let _ = write!(out, "grpc-status: {}\r\ngrpc-message: ", GrpcStatus::of(cause, status).number());
    let mut message = format!("{}: {}", cause.code(), cause.entry().meaning);
    if let Some(text) = told_detail(explained) {
        message.push_str(" detail: ");
        message.push_str(text);
    }
    write_message(out, &message);
    let _ = write!(out, " id: {:016x}{:016x}\r\n", id.process, id.sequence);
    put_proxy_status(out, cause);
    end(out, &[], sending);
}

/// Clients are told what they did wrong, and nothing of what goes on behind us.
fn told_detail(explained: &Explained<'_>) -> Option<&'static str> {
    match explained.detail {
        Some(Detail::Text(text)) if explained.cause.entry().blame == evenkeel_model::Blame::Client => Some(text),
        _ => None,
    }
}

/// Sends the client elsewhere. `location` was made of what a request said, so that bytes no URL may hold are
/// percent-encoded here rather than trusted to be absent.
pub fn write_redirect(out: &mut Vec<u8>, status: u16, location: &[u8], sending: &Sending<'_>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let body = format!("{status} {}\n", reason(status));
    begin(out, status);
    out.extend_from_slice(b"Location: ");
    for &byte in location {
        if matches!(byte, b'!'..=b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(b"\r\n");
    put(out, "Content-Type", b"text/plain; charset=utf-8");
    put_length(out, body.len());
    end(out, body.as_bytes(), sending);
}

/// Writes what a rule says. 204, 205 and 304 have no body whatever it says.
pub fn write_fixed(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8], sending: &Sending<'_>) {
    begin(out, status);
    let body = if matches!(status, 204 | 205 | 304) { &[] } else { body };
    if !body.is_empty() {
        put(out, "Content-Type", content_type.as_bytes());
    }
    // RFC 9110 section 8.6: not in a 204, and in a 304 it would speak of another answer.
    if !matches!(status, 204 | 304) {
        put_length(out, body.len());
    }
    end(out, body, sending);
}

fn begin(out: &mut Vec<u8>, status: u16) {
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let _ = write!(out, "Content-Length: {length}\r\n");
}

fn put_proxy_status(out: &mut Vec<u8>, cause: Cause) {
    out.extend_from_slice(b"Proxy-Status: evenkeel");
    if let Some(token) = cause.entry().token {
        let _ = write!(out, "; error={token}");
    }
    let _ = write!(out, "; details=\"{}\"\r\n", cause.code());
}

fn end(out: &mut Vec<u8>, body: &[u8], sending: &Sending<'_>) {
    if let Some(policy) = sending.strict_transport_security {
        put(out, "Strict-Transport-Security", policy);
    }
    if sending.close {
        put(out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !sending.head_only {
        out.extend_from_slice(body);
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
        let explained = Explained { cause: Cause::AllBackendsUnhealthy, detail: None, status: 502, id, grpc: None };
        write_explained(&mut out, &explained, &Sending { close: true, ..Sending::default() });
        let text = String::from_utf8(out).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains("Proxy-Status: evenkeel; error=destination_unavailable; details=\"all_backends_unhealthy\"")
        );
        assert!(head.contains("Connection: close"));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }

    const ID: ExchangeId = ExchangeId { process: 1, sequence: 2 };

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_grpc_client_gets_a_grpc_status_in_a_200_without_a_body() {
        let explained = Explained {
            cause: Cause::AllBackendsUnhealthy,
            detail: None,
            status: 502,
            id: ID,
            grpc: Some(b"application/grpc+proto"),
        };
        let mut sent = 0;
        let text = text(|out| sent = write_explained(out, &explained, &Sending::default()));
        assert_eq!(sent, 200);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\
             grpc-status: 14\r\n\
             grpc-message: all_backends_unhealthy: Every backend that may serve has the verdict unhealthy. \
             id: 00000000000000010000000000000002\r\n\
             Proxy-Status: evenkeel; error=destination_unavailable; details=\"all_backends_unhealthy\"\r\n\r\n"
        );
    }

    #[test]
    fn every_cause_can_be_explained_in_both_languages_as_one_whole_message() {
        for &cause in Cause::ALL {
            let Some(status) = cause.entry().status else { continue };
            for grpc in [None, Some(b"application/grpc".as_slice())] {
                let explained = Explained { cause, detail: Some(Detail::Text("why")), status, id: ID, grpc };
                let text = text(|out| {
                    write_explained(out, &explained, &Sending::default());
                });
                let (head, body) = text.split_once("\r\n\r\n").expect("a head");
                assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", cause.code());
                assert!(head.contains(&format!("details=\"{}\"", cause.code())));
                assert!(head.lines().all(|line| !line.is_empty() && line.bytes().all(|byte| byte >= b' ')));
                let told = cause.entry().blame == evenkeel_model::Blame::Client;
                assert_eq!(text.contains("why"), told, "{}", cause.code());
            }
        }
    }

    #[test]
    fn a_redirect_holds_one_location_even_if_a_byte_got_in_that_no_url_has() {
        let hsts = Sending { strict_transport_security: Some(b"max-age=31536000"), ..Sending::default() };
        assert_eq!(
            text(|out| write_redirect(out, 308, b"https://a/b?c=d%20e", &hsts)),
            "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://a/b?c=d%20e\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 23\r\n\
             Strict-Transport-Security: max-age=31536000\r\n\r\n308 Permanent Redirect\n"
        );
        let close = Sending { close: true, head_only: true, ..Sending::default() };
        assert_eq!(
            text(|out| write_redirect(out, 301, b"/a\r\nSet-Cookie: \xff", &close)),
            "HTTP/1.1 301 Moved Permanently\r\nLocation: /a%0D%0ASet-Cookie:%20%FF\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_fixed_answer_has_a_body_only_where_http_allows_one() {
        let table = [
            (200, "hello", "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello"),
            (200, "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            (204, "hello", "HTTP/1.1 204 No Content\r\n\r\n"),
            (205, "hello", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
            (304, "hello", "HTTP/1.1 304 Not Modified\r\n\r\n"),
            (599, "", "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"),
        ];
        for (status, body, expected) in table {
            let text = text(|out| write_fixed(out, status, "text/x", body.as_bytes(), &Sending::default()));
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_backends_own_error_is_marked_as_received() {
        assert_eq!(proxy_status_received(503, &mut [0; 40]), b"evenkeel; received-status=503");
    }
}
