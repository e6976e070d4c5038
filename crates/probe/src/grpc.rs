//! The grpc probe: one call of `grpc.health.v1.Health/Check`, passed when the service says SERVING.
//!
//! It speaks the text of an HTTP/1.1 exchange and is only ever used inside a stream of HTTP/2 (`h2.rs`). The two messages
//! of the call are read and written by hand: one string in the one, one number in the other.
//!
//! Whether the call succeeded stands in the trailers, behind the message, or in the head when there is no message
//! ("Trailers-Only" in gRPC's PROTOCOL-HTTP2.md). Nothing counts before both are there.

use std::net::SocketAddr;

use evenkeel_h2::text::{ChunkReader, write_chunk, write_last_chunk};
use evenkeel_health::settings::GrpcProbe;
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_model::limits;
use evenkeel_wire::{Asked, FieldSlots, Fields, Framing, Parsed, parse_response};

use crate::failure;
use crate::machine::Fact;

#[derive(Debug)]
pub struct Grpc {
    request: Vec<u8>,
    phase: ProbePhase,
    sent: usize,
    /// Bytes received, interim heads included: these are bounded too.
    received: usize,
    /// The head so far; interim ones are taken out.
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug, Default)]
struct Body {
    chunks: ChunkReader,
    payload: Vec<u8>,
}

/// How a call ended, in the words of its trailers.
struct Status {
    code: u32,
    message: Vec<u8>,
}

const TOO_LONG: &str = "it is longer than a probe reads";
const NO_STATUS: &str = "it has no grpc-status";

impl Grpc {
    pub fn new(settings: &GrpcProbe, to: SocketAddr) -> Self {
        Grpc {
            request: request(settings, to),
            phase: ProbePhase::Connect,
            sent: 0,
            received: 0,
            head: Vec::new(),
            body: None,
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

    fn read(&mut self, bytes: &[u8]) -> Option<ProbeResult> {
        self.received += bytes.len();
        let too_long = self.received > limits::PROBE_HEAD.value as usize;
        let decided = match &self.body {
            Some(_) => self.read_body(bytes),
            None => self.read_head(bytes),
        };
        let decided = match decided {
            Ok(None) if too_long => Err(FailureReason::NotGrpc { why: TOO_LONG }),
            decided => decided,
        };
        match decided {
            Ok(pass) => pass.map(ProbeResult::Passed),
            // Whatever we were doing, it was in reading that we learnt this.
            Err(reason) => Some(ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })),
        }
    }

    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<Pass>, FailureReason> {
        self.head.extend_from_slice(bytes);
        loop {
            let mut slots = FieldSlots::new();
            let length = match parse_response(&self.head, &mut slots, usize::MAX, Asked::default()) {
                Parsed::Partial => return Ok(None),
                Parsed::Refused(refusal) => return Err(FailureReason::NotHttp { why: refusal.detail }),
                Parsed::Whole(head) if head.is_interim() => head.len,
                Parsed::Whole(head) => {
                    if head.status != 200 {
                        return Err(FailureReason::Status { got: head.status });
                    }
                    if !head.fields.find("content-type").is_some_and(is_grpc) {
                        return Err(FailureReason::NotGrpc { why: "its content-type is not application/grpc" });
                    }
                    match head.framing {
                        Framing::Chunked => {}
                        Framing::Empty | Framing::Length(0) => {
                            return judge(status_in_head(&head.fields)?, &[]).map(Some);
                        }
                        // No call of gRPC ends so: its trailers could not be told from the body.
                        Framing::Length(_) | Framing::UntilClose => {
                            return Err(FailureReason::NotGrpc { why: NO_STATUS });
                        }
                    }
                    let rest = self.head.split_off(head.len);
                    self.body = Some(Body::default());
                    return self.read_body(&rest);
                }
            };
            self.head.drain(..length);
        }
    }

    fn read_body(&mut self, mut bytes: &[u8]) -> Result<Option<Pass>, FailureReason> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let (used, payload) =
                body.chunks.advance(bytes).map_err(|malformed| FailureReason::NotHttp { why: malformed.detail })?;
            body.payload.extend_from_slice(payload);
            bytes = &bytes[used..];
            if body.chunks.is_done() {
                return judge(status_in_trailers(body.chunks.trailers())?, &body.payload).map(Some);
            }
            if used == 0 {
                return Ok(None);
            }
        }
    }

    fn failed(&self, reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: self.phase, reason })
    }
}

/// The settings are valid (no control bytes in them), so the request cannot be split by its own parts. The body is chunked
/// because clients of gRPC announce no length.
fn request(settings: &GrpcProbe, to: SocketAddr) -> Vec<u8> {
    let host = settings.host.clone().unwrap_or_else(|| to.to_string());
    let agent = concat!("evenkeel-probe/", env!("CARGO_PKG_VERSION"));
    let mut request = format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\
         Content-Type: application/grpc\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    let asked = ask(&settings.service);
    let mut message = vec![0];
    message.extend_from_slice(&(asked.len() as u32).to_be_bytes());
    message.extend_from_slice(&asked);
    write_chunk(&message, &mut request);
    write_last_chunk(&mut request);
    request
}

/// `HealthCheckRequest { service }` in protobuf: field 1, length-delimited. An empty string is left out.
fn ask(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(FIELD_1 | LENGTH_DELIMITED);
        let mut length = service.len();
        while length > 0x7f {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    message
}

fn is_grpc(content_type: &[u8]) -> bool {
    const MEDIA_TYPE: &[u8] = b"application/grpc";
    let Some((start, rest)) = content_type.split_at_checked(MEDIA_TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

fn status_in_head(fields: &Fields<'_, '_>) -> Result<Status, FailureReason> {
    status(fields.find("grpc-status"), fields.find("grpc-message"))
}

fn status_in_trailers(lines: &[u8]) -> Result<Status, FailureReason> {
    let value = |name: &str| {
        lines.split(|&byte| byte == b'\n').find_map(|line| {
            let (start, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?.trim_ascii();
            start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    };
    status(value("grpc-status"), value("grpc-message"))
}

fn status(code: Option<&[u8]>, message: Option<&[u8]>) -> Result<Status, FailureReason> {
    let Some(code) = code else { return Err(FailureReason::NotGrpc { why: NO_STATUS }) };
    let code = std::str::from_utf8(code).ok().and_then(|digits| digits.parse().ok());
    let Some(code) = code else { return Err(FailureReason::NotGrpc { why: "its grpc-status is not a number" }) };
    Ok(Status { code, message: plain(message.unwrap_or_default()) })
}

/// The start of a `grpc-message`, which has anything but printable ASCII as `%0A`. A percent sign without two digits is kept.
fn plain(mut message: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let [first, rest @ ..] = message
        && plain.len() < limits::PROBE_EVIDENCE.value as usize
    {
        let digit = |at: usize| rest.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        let (byte, behind) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => ((high << 4 | low) as u8, &rest[2..]),
            _ => (*first, rest),
        };
        plain.push(byte);
        message = behind;
    }
    plain
}

/// What the call came to.
fn judge(status: Status, payload: &[u8]) -> Result<Pass, FailureReason> {
    if status.code != 0 {
        return Err(FailureReason::Grpc { status: status.code, message: status.message });
    }
    let broken = |why| Err(FailureReason::NotGrpc { why });
    let Some((&[compressed, a, b, c, d], message)) = payload.split_first_chunk() else {
        return broken("it has status 0 and no message");
    };
    if compressed != 0 {
        return broken("its message is compressed, which we did not offer");
    }
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return broken("its message is not as long as it says");
    }
    match serving(message) {
        Some(1) => Ok(Pass::Serving),
        Some(0) => Err(FailureReason::NotServing { said: "UNKNOWN" }),
        Some(2) => Err(FailureReason::NotServing { said: "NOT_SERVING" }),
        Some(3) => Err(FailureReason::NotServing { said: "SERVICE_UNKNOWN" }),
        Some(_) => broken("its message has a status that grpc.health.v1 does not know"),
        None => broken("its message is not protobuf"),
    }
}

const FIELD_1: u8 = 1 << 3;
const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// `HealthCheckResponse { status }` in protobuf: field 1, a varint. The last one counts, left out it is 0, and fields of
/// later versions are passed over.
fn serving(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match (key & 7) as u8 {
            VARINT => Some(varint(&mut message)?),
            1 => skip(&mut message, 8)?,
            LENGTH_DELIMITED => {
                let length = varint(&mut message)?;
                skip(&mut message, usize::try_from(length).ok()?)?
            }
            5 => skip(&mut message, 4)?,
            _ => return None,
        };
        match (key >> 3, value) {
            (0, _) => return None,
            (1, Some(value)) => status = value,
            _ => {}
        }
    }
    Some(status)
}

fn skip(message: &mut &[u8], bytes: usize) -> Option<Option<u64>> {
    *message = message.get(bytes..)?;
    Some(None)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 7], 50051))
    }

    fn settings(service: &str) -> GrpcProbe {
        GrpcProbe { service: service.to_owned(), host: None, tls: None }
    }

    /// A probe whose request is sent.
    fn asked() -> Grpc {
        let mut grpc = Grpc::new(&settings(""), target());
        assert_eq!(grpc.handle(Fact::Connected), None);
        grpc.sent(grpc.to_send().len());
        assert_eq!(grpc.phase(), ProbePhase::Read);
        grpc
    }

    fn failed(reason: FailureReason) -> ProbeResult {
        ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason })
    }

    fn not_grpc(why: &'static str) -> ProbeResult {
        failed(FailureReason::NotGrpc { why })
    }

    /// An answer as room h2 writes it: a message in one chunk, and trailers.
    fn answer(message: &[u8], trailers: &str) -> Vec<u8> {
        let mut text =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let mut framed = vec![0];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        write_chunk(&framed, &mut text);
        text.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        text
    }

    fn trailers_only(fields: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n{fields}content-length: 0\r\n\r\n").into_bytes()
    }

    #[test]
    fn the_request_is_a_unary_call_of_check() {
        let text = request(&settings("shop.Cart"), target());
        let (head, body) = text.split_at(text.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4);
        let head = std::str::from_utf8(head).expect("text");
        assert!(head.starts_with("POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: 10.0.0.7:50051\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/grpc\r\nTE: trailers\r\n"), "{head}");
        assert_eq!(body, b"10\r\n\x00\x00\x00\x00\x0b\x0a\x09shop.Cart\r\n0\r\n\r\n");
        let named = GrpcProbe { host: Some("health.example".to_owned()), ..settings("") };
        let text = request(&named, target());
        assert!(text.windows(23).any(|part| part == b"\r\nHost: health.example\r"), "{}", text.escape_ascii());
        assert!(text.ends_with(b"5\r\n\0\0\0\0\0\r\n0\r\n\r\n"), "an empty name is left out: {}", text.escape_ascii());
        let long = ask(&"s".repeat(300));
        assert_eq!((&long[..3], long.len()), (&[0x0a, 0xac, 0x02][..], 303));
    }

    #[test]
    fn the_answer_decides_however_it_is_cut() {
        let serving = |trailers| answer(b"\x08\x01", trailers);
        let not_serving = |said| failed(FailureReason::NotServing { said });
        let status = |status, message: &[u8]| failed(FailureReason::Grpc { status, message: message.to_vec() });
        let interim = [&b"HTTP/1.1 103 Early Hints\r\n\r\n"[..], &serving("grpc-status: 0\r\n")].concat();
        let json = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        let sized = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        let compressed = {
            let mut text = serving("grpc-status: 0\r\n");
            let at = text.windows(5).position(|part| part == b"7\r\n\0\0").expect("the message") + 3;
            text[at] = 1;
            text
        };
        let table: Vec<(Vec<u8>, ProbeResult)> = vec![
            (serving("grpc-status: 0\r\n"), ProbeResult::Passed(Pass::Serving)),
            (serving("GRPC-Status:0\r\ngrpc-message: \r\nx: y\r\n"), ProbeResult::Passed(Pass::Serving)),
            (interim, ProbeResult::Passed(Pass::Serving)),
            // Fields of later versions, before and behind.
            (
                answer(b"\x12\x02ab\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\x08\x01\x80\x01\x05", "grpc-status: 0\r\n"),
                ProbeResult::Passed(Pass::Serving),
            ),
            (answer(b"\x08\x02", "grpc-status: 0\r\n"), not_serving("NOT_SERVING")),
            (answer(b"\x08\x03", "grpc-status: 0\r\n"), not_serving("SERVICE_UNKNOWN")),
            (answer(b"", "grpc-status: 0\r\n"), not_serving("UNKNOWN")),
            (
                answer(b"\x08\x63", "grpc-status: 0\r\n"),
                not_grpc("its message has a status that grpc.health.v1 does not know"),
            ),
            (answer(b"\x08", "grpc-status: 0\r\n"), not_grpc("its message is not protobuf")),
            (answer(b"\x0a\x7fx", "grpc-status: 0\r\n"), not_grpc("its message is not protobuf")),
            (answer(b"\x08\x01\x0f", "grpc-status: 0\r\n"), not_grpc("its message is not protobuf")),
            (answer(&[0xff; 20], "grpc-status: 0\r\n"), not_grpc("its message is not protobuf")),
            // What stands in the trailers counts, whatever the message was.
            (serving("grpc-status: 14\r\ngrpc-message: shutting down\r\n"), status(14, b"shutting down")),
            (trailers_only("grpc-status: 5\r\ngrpc-message: unknown service\r\n"), status(5, b"unknown service")),
            (trailers_only("grpc-status: 12\r\n"), status(12, b"")),
            (
                trailers_only("grpc-status: 2\r\ngrpc-message: 100%25 g%c3%bcn%zz%\r\n"),
                status(2, "100% gün%zz%".as_bytes()),
            ),
            (trailers_only("grpc-status: 0\r\n"), not_grpc("it has status 0 and no message")),
            (trailers_only(""), not_grpc(NO_STATUS)),
            (trailers_only("grpc-status: five\r\n"), not_grpc("its grpc-status is not a number")),
            (serving(""), not_grpc(NO_STATUS)),
            (sized, not_grpc(NO_STATUS)),
            (compressed, not_grpc("its message is compressed, which we did not offer")),
            (json, not_grpc("its content-type is not application/grpc")),
            (
                b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy".to_vec(),
                failed(FailureReason::Status { got: 503 }),
            ),
        ];
        for (text, expected) in table {
            let name = text.escape_ascii();
            assert_eq!(asked().handle(Fact::Received(&text)), Some(expected.clone()), "whole: {name}");
            for cut in 1..text.len() {
                let mut grpc = asked();
                let early = grpc.handle(Fact::Received(&text[..cut]));
                let result = early.or_else(|| grpc.handle(Fact::Received(&text[cut..])));
                assert_eq!(result, Some(expected.clone()), "cut at {cut}: {name}");
            }
            let mut grpc = asked();
            let bytewise = text.iter().find_map(|byte| grpc.handle(Fact::Received(&[*byte])));
            assert_eq!(bytewise, Some(expected), "byte by byte: {name}");
        }
    }

    #[test]
    fn two_messages_are_not_the_answer_to_one_call() {
        let mut text = answer(b"\x08\x01", "");
        text.truncate(text.len() - 5);
        write_chunk(b"\0\0\0\0\x02\x08\x01", &mut text);
        text.extend_from_slice(b"0\r\ngrpc-status: 0\r\n\r\n");
        let expected = not_grpc("its message is not as long as it says");
        assert_eq!(asked().handle(Fact::Received(&text)), Some(expected));
    }

    #[test]
    fn nothing_counts_before_the_trailers() {
        let mut grpc = asked();
        let text = answer(b"\x08\x01", "");
        assert_eq!(grpc.handle(Fact::Received(&text[..text.len() - 5])), None);
        assert_eq!(grpc.handle_deadline(), failed(FailureReason::TimedOut));
        assert_eq!(grpc.handle(Fact::Ended), Some(failed(FailureReason::Closed)));
    }

    #[test]
    fn an_answer_without_end_is_given_up_at_the_limit() {
        let limit = limits::PROBE_HEAD.value as usize;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n";
        let endless = [&head[..], &b"1\r\nx\r\n".repeat(limit)].concat();
        let headless = [&b"HTTP/1.1 200 OK\r\nx: "[..], &vec![b'a'; limit]].concat();
        for text in [endless, headless] {
            for step in [7, 1000] {
                let mut grpc = asked();
                let result = text.chunks(step).find_map(|bytes| grpc.handle(Fact::Received(bytes)));
                assert_eq!(result, Some(not_grpc(TOO_LONG)), "steps of {step}");
            }
        }
        let mut wordy = trailers_only(&format!("grpc-status: 13\r\ngrpc-message: {}\r\n", "w".repeat(1000)));
        let expected = vec![b'w'; limits::PROBE_EVIDENCE.value as usize];
        let reason = FailureReason::Grpc { status: 13, message: expected };
        assert_eq!(asked().handle(Fact::Received(&wordy)), Some(failed(reason)));
        wordy.truncate(40);
        assert_eq!(asked().handle(Fact::Received(&wordy)), None);
    }
}
