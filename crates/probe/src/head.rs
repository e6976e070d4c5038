//! Reads the head of an HTTP/1 answer as far as a probe needs it: where it ends and its status.
//!
//! As strict as the road that traffic takes about what makes a head, since a backend whose answers traffic cannot
//! use must not pass: version, three digits, CRLF line ends, no control bytes. It does not look into the
//! fields, because a probe reads no body and so has no use for framing.

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The beginning of a head, so far without fault.
    Partial,
    /// A whole head of so many bytes.
    Whole { status: u16, length: usize },
    /// No HTTP/1 head, whatever follows.
    Broken { why: &'static str },
}

const VERSION: &[u8] = b"HTTP/1.";

/// Looks at the head that `bytes` begin with.
pub fn read(bytes: &[u8]) -> Head {
    let known = bytes.len().min(VERSION.len());
    if bytes[..known] != VERSION[..known] {
        return Head::Broken { why: foreign(bytes) };
    }
    let mut rest = bytes;
    let mut status = None;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Head::Broken { why: "a line of its head does not end with CRLF" };
        };
        if line.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            return Head::Broken { why: "its head has a control byte" };
        }
        rest = &rest[end + 1..];
        match (status, line) {
            (None, line) => match status_of(line) {
                Some(code) => status = Some(code),
                None => return Head::Broken { why: "its status line is malformed" },
            },
            (Some(status), []) => return Head::Whole { status, length: bytes.len() - rest.len() },
            (Some(_), _) => {}
        }
    }
    Head::Partial
}

/// `HTTP/1.x SP 3DIGIT [SP reason]`. The space behind the code is demanded by RFC 9112 §4, but servers
/// without a reason phrase leave it out and every client takes it.
fn status_of(line: &[u8]) -> Option<u16> {
    let [b'0' | b'1', b' ', a, b, c, rest @ ..] = line.strip_prefix(VERSION)? else { return None };
    if !matches!(rest, [] | [b' ', ..]) {
        return None;
    }
    let mut status = 0;
    for digit in [a, b, c] {
        if !digit.is_ascii_digit() {
            return None;
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    (status >= 100).then_some(status)
}

/// Names what else speaks on the port, where the first bytes give it away.
fn foreign(bytes: &[u8]) -> &'static str {
    match bytes {
        // RFC 8446 §5.1: alert or handshake record, version 3.x.
        [0x15 | 0x16, 0x03, ..] => "the port speaks tls",
        // RFC 9113 §6.5: a server's first frame is SETTINGS.
        [0, _, _, 0x04, ..] => "the port speaks http/2",
        [b'S', b'S', b'H', b'-', ..] => "the port speaks ssh",
        _ => "it does not begin with an http/1 status line",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_heads_give_status_and_length() {
        let table: [(&[u8], u16, usize); 6] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", 200, 19),
            (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nbody\r\n\r\n", 404, 37),
            (b"HTTP/1.1 204\r\n\r\n", 204, 16),
            (b"HTTP/1.1 204 \r\n\r\n", 204, 17),
            (b"HTTP/1.1 999 h\xc3\xb6chst\tseltsam\r\n\r\n", 999, 32),
            (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200", 103, 40),
        ];
        for (bytes, status, length) in table {
            assert_eq!(read(bytes), Head::Whole { status, length }, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_head_is_told_from_what_is_not_one_yet() {
        let table: [(&[u8], Option<&str>); 21] = [
            (b"", None),
            (b"H", None),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r", None),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Some("status line")),
            (b"\x15\x03\x03\x00\x02\x02\x46", Some("tls")),
            (b"\x16\x03\x01", Some("tls")),
            (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00", Some("http/2")),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", Some("ssh")),
            (b"220 mail.example.com ESMTP\r\n", Some("status line")),
            (b"http/1.1 200 OK\r\n\r\n", Some("status line")),
            (b"HTTP/2 200\r\n\r\n", Some("status line")),
            (b"HTTP/1.2 200 OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1  200 OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1 20 OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1 020 OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1 2xx OK\r\n\r\n", Some("malformed")),
            (b"HTTP/1.1 200 OK\n\n", Some("CRLF")),
            (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", Some("control")),
            (b"HTTP/1.1 200 O\0K\r\n\r\n", Some("control")),
        ];
        for (bytes, broken) in table {
            match (read(bytes), broken) {
                (Head::Partial, None) => {}
                (Head::Broken { why }, Some(part)) if why.contains(part) => {}
                (got, expected) => panic!("{}: {got:?}, expected {expected:?}", bytes.escape_ascii()),
            }
        }
    }
}
