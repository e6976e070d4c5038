//! Reads the head of an answer as far as a probe needs it: its status, its length, or why it is none.
//!
//! The parser is the one traffic goes through: a backend whose answers traffic would refuse must not pass. Only
//! the words differ, since an operator who probes the wrong port wants to hear what speaks there.

use evenkeel_wire::{Asked, FieldSlots, Framing, Parsed, ResponseHead, parse_response};

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The beginning of a head, so far without fault.
    Partial,
    Interim {
        length: usize,
    },
    Final {
        status: u16,
        length: usize,
        /// How its body ends.
        framing: Framing,
        /// The connection may be used again behind it.
        keep_alive: bool,
    },
    /// No head, whatever follows.
    Broken {
        why: &'static str,
    },
}

/// Looks at the head that `bytes` begin with, an answer to a request with this method.
pub fn read(bytes: &[u8], method: &str) -> Head {
    let asked = Asked { head: method == "HEAD", upgrade: false };
    // The caller bounds the bytes, interim heads included.
    match parse_response(bytes, &mut FieldSlots::new(), usize::MAX, asked) {
        Parsed::Partial => Head::Partial,
        Parsed::Whole(head) if head.is_interim() => Head::Interim { length: head.len },
        Parsed::Whole(head) => {
            let ResponseHead { status, len, framing, keep_alive, .. } = head;
            Head::Final { status, length: len, framing, keep_alive }
        }
        Parsed::Refused(refusal) => Head::Broken { why: foreign(bytes).unwrap_or(refusal.detail) },
    }
}

/// Names what else speaks on the port, where the first bytes give it away.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        // RFC 8446 §5.1: alert or handshake record, version 3.x.
        [0x15 | 0x16, 0x03, ..] => Some("the port speaks tls"),
        // RFC 9113 §3.4: a server's first frame is SETTINGS.
        [0, _, _, 0x04, ..] => Some("the port speaks http/2"),
        [b'S', b'S', b'H', b'-', ..] => Some("the port speaks ssh"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_told_from_what_is_not_one_yet_and_from_what_never_will_be() {
        const BROKEN: Head = Head::Broken { why: "" };
        let named = |why| Head::Broken { why };
        let last = |status, length, framing, keep_alive| Head::Final { status, length, framing, keep_alive };
        let table: [(&[u8], Head); 16] = [
            (b"", Head::Partial),
            (b"H", Head::Partial),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r", Head::Partial),
            (b"HTTP/1.1 200 OK\r\n\r\n", last(200, 19, Framing::Empty, true)),
            (b"HTTP/1.0 404\r\n\r\n", last(404, 16, Framing::Empty, false)),
            (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200", Head::Interim { length: 40 }),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", last(200, 41, Framing::Empty, true)),
            (b"\x15\x03\x03\x00\x02\x02\x46", named("the port speaks tls")),
            (b"\x16\x03\x01", named("the port speaks tls")),
            (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00", named("the port speaks http/2")),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", named("the port speaks ssh")),
            (b"220 mail.example.com ESMTP\r\n", BROKEN),
            (b"HTTP/2 200\r\n\r\n", BROKEN),
            (b"HTTP/1.1 2xx OK\r\n\r\n", BROKEN),
            (b"HTTP/1.1 200 OK\n\n", BROKEN),
            // The sender and we could disagree where its answer ends.
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BROKEN),
        ];
        for (bytes, expected) in table {
            match (read(bytes, "HEAD"), expected) {
                (Head::Broken { why }, BROKEN) => assert!(!why.is_empty(), "{}", bytes.escape_ascii()),
                (got, expected) => assert_eq!(got, expected, "{}", bytes.escape_ascii()),
            }
        }
    }
}
