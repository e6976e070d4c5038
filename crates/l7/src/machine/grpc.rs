//! What a gRPC client is told when the answer is ours.
//!
//! gRPC knows no HTTP status beside 200: a client that gets a bare 502 guesses a code for it and loses the reason. So an
//! answer of ours to it is 200 with `grpc-status` and `grpc-message` and no body, which HTTP/2 sends as "Trailers-Only"
//! (gRPC's PROTOCOL-HTTP2.md). `http-grpc-status-mapping.md` says what clients make of bare statuses; we keep to it
//! except where we know more than the status says: a timeout is DEADLINE_EXCEEDED, something too large or too often
//! is RESOURCE_EXHAUSTED.
//!
//! gRPC-Web is not gRPC: it has its trailers in the body, and its clients read HTTP statuses.

use evenkeel_model::{Cause, Phase};

/// Codes of gRPC's statuscodes.md that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcStatus {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

impl GrpcStatus {
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// `status`: what a client of plain HTTP would have been sent. A cause alone is not enough, since some can
    /// strike in several phases.
    pub const fn of(cause: Cause, status: u16) -> GrpcStatus {
        // A connect or a queue that took too long is no deadline of the call: it may simply be made again.
        if matches!(cause.entry().phase, Phase::Pick | Phase::Queue | Phase::Connect | Phase::BackendTls) {
            return GrpcStatus::Unavailable;
        }
        match status {
            403 => GrpcStatus::PermissionDenied,
            404 => GrpcStatus::Unimplemented,
            408 | 504 => GrpcStatus::DeadlineExceeded,
            413 | 414 | 429 | 431 => GrpcStatus::ResourceExhausted,
            // What ought to have been impossible; to come round in a loop is one such thing.
            400 | 500 | 508 => GrpcStatus::Internal,
            499 => GrpcStatus::Cancelled,
            502 | 503 => GrpcStatus::Unavailable,
            _ => GrpcStatus::Unknown,
        }
    }
}

const MEDIA_TYPE: &[u8] = b"application/grpc";

/// Whether a request of that Content-Type is gRPC.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((start, rest)) = content_type.split_at_checked(MEDIA_TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The media type an answer to it has: the request's, as far as it is one (`application/grpc+proto`).
pub fn answer_type(content_type: &[u8]) -> &[u8] {
    // Longer than every format there is.
    const LONGEST: usize = 64;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+' | b'-' | b'.' | b'_');
    let end = content_type.iter().position(|byte| !is_name(byte)).unwrap_or(content_type.len());
    if end <= LONGEST && is_grpc(&content_type[..end]) { &content_type[..end] } else { MEDIA_TYPE }
}

/// Appends a text as the value of `grpc-message`: all but printable ASCII, and the percent sign, as `%0A`.
pub fn write_message(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_with_a_status_has_a_grpc_status() {
        for &cause in Cause::ALL {
            if let Some(status) = cause.entry().status {
                assert_ne!(GrpcStatus::of(cause, status), GrpcStatus::Unknown, "{} ({status})", cause.code());
            }
        }
    }

    #[test]
    fn a_cause_tells_a_grpc_client_whether_to_come_again() {
        use GrpcStatus::{
            Cancelled, DeadlineExceeded, Internal, PermissionDenied, ResourceExhausted, Unavailable, Unimplemented,
        };
        let table = [
            (Cause::ClientMalformedRequest, Internal),
            (Cause::ClientHeaderTooLarge, ResourceExhausted),
            (Cause::ClientUriTooLong, ResourceExhausted),
            (Cause::ClientBodyTooLarge, ResourceExhausted),
            (Cause::ClientBodyTimeout, DeadlineExceeded),
            (Cause::ClientAborted, Cancelled),
            (Cause::ClientDeniedByAcl, PermissionDenied),
            (Cause::ClientRateLimited, ResourceExhausted),
            (Cause::HostNotConfigured, Unimplemented),
            (Cause::RuleNotFound, Unimplemented),
            (Cause::LoopDetected, Internal),
            (Cause::AllBackendsUnhealthy, Unavailable),
            (Cause::AllBackendsDrained, Unavailable),
            (Cause::BackendQueueTimeout, Unavailable),
            (Cause::BackendConnectRefused, Unavailable),
            // 504 in HTTP, but the request never left us.
            (Cause::BackendConnectTimeout, Unavailable),
            (Cause::BackendTlsFailed, Unavailable),
            (Cause::BackendResetBeforeResponse, Unavailable),
            (Cause::BackendMalformedResponse, Unavailable),
            (Cause::BackendResponseTimeout, DeadlineExceeded),
            (Cause::BackendWriteTimeout, DeadlineExceeded),
            (Cause::BalancerOverloaded, Unavailable),
            (Cause::BalancerInternal, Internal),
        ];
        for (cause, expected) in table {
            let status = cause.entry().status.expect("a cause with a status");
            assert_eq!(GrpcStatus::of(cause, status), expected, "{}", cause.code());
        }
    }

    #[test]
    fn grpc_is_told_from_its_neighbours_and_answered_in_its_own_format() {
        let table: [(&[u8], bool, &[u8]); 10] = [
            (b"application/grpc", true, b"application/grpc"),
            (b"application/grpc+proto", true, b"application/grpc+proto"),
            (b"Application/GRPC+json; charset=utf-8", true, b"Application/GRPC+json"),
            (b"application/grpc;x", true, b"application/grpc"),
            (b"application/grpc+\xff", true, b"application/grpc+"),
            (&[b"application/grpc+".as_slice(), &[b'x'; 100]].concat(), true, b"application/grpc"),
            (b"application/grpc-web", false, b"application/grpc"),
            (b"application/grpc-web+proto", false, b"application/grpc"),
            (b"application/json", false, b"application/grpc"),
            (b"", false, b"application/grpc"),
        ];
        for (content_type, expected, answered) in table {
            assert_eq!(is_grpc(content_type), expected, "{}", content_type.escape_ascii());
            assert_eq!(answer_type(content_type), answered, "{}", content_type.escape_ascii());
        }
    }

    #[test]
    fn a_message_is_one_line_of_ascii_whatever_it_says() {
        let mut out = Vec::new();
        write_message(&mut out, "50 % of \"ü\"\r\n~");
        assert_eq!(out, b"50 %25 of \"%C3%BC\"%0D%0A~");
    }
}
