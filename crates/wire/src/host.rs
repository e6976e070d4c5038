//! Whether a Host field or an authority names a host and nothing else.
//!
//! Narrower than RFC 3986: percent escapes, sub-delimiters and non-ASCII are refused, since no name in
//! DNS or /etc/hosts has them and each is read differently by somebody. Underscores are let in, since container
//! networks are full of them.

use std::net::Ipv6Addr;

/// The broken rule, or `None` when `host` is a name, an IPv4 address or a bracketed IPv6
/// address, with or without a port.
pub fn host_fault(host: &[u8]) -> Option<&'static str> {
    let port_at = match host.first() {
        None => return Some("empty host (RFC 9110 7.2)"),
        Some(b'[') => match host.iter().position(|&byte| byte == b']') {
            Some(close) if is_ipv6(&host[1..close]) => close + 1,
            _ => return Some("host with a bad ip literal (RFC 3986 3.2.2)"),
        },
        Some(_) => {
            let end = host.iter().position(|&byte| !is_name(byte)).unwrap_or(host.len());
            if has_empty_label(&host[..end]) {
                return Some(strange(host).unwrap_or("host with an empty label (RFC 1034 3.1)"));
            }
            end
        }
    };
    match &host[port_at..] {
        [] => None,
        [b':', port @ ..] if is_port(port) => None,
        [b':', ..] => Some(strange(host).unwrap_or("host with a bad port (RFC 3986 3.2.3)")),
        _ => Some(strange(host).unwrap_or("host holds a character that no name has (RFC 1123 2.1)")),
    }
}

const fn is_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_')
}

/// A trailing dot is fine, it marks a complete name.
fn has_empty_label(name: &[u8]) -> bool {
    name.is_empty() || name[0] == b'.' || name.windows(2).any(|pair| pair == b"..")
}

fn is_port(port: &[u8]) -> bool {
    // Length first: a port of a hundred digits must not overflow the sum.
    matches!(port.len(), 1..=5)
        && port.iter().all(u8::is_ascii_digit)
        && (1..=65_535).contains(&port.iter().fold(0_u32, |number, &byte| number * 10 + u32::from(byte - b'0')))
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// What is strange about it, in the words of the attack or mistake it usually is.
#[cold]
fn strange(host: &[u8]) -> Option<&'static str> {
    host.iter().find_map(|byte| match byte {
        b'@' => Some("host with userinfo (RFC 9110 4.2.4)"),
        b'/' | b'\\' | b'?' | b'#' => Some("host with path characters (RFC 9110 7.2)"),
        b' ' | b'\t' => Some("host with whitespace (RFC 9110 7.2)"),
        b',' => Some("host is a list (RFC 9112 3.2)"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_perhaps_a_port() {
        let good: &[&[u8]] = &[
            b"example.com",
            b"EXAMPLE.com.",
            b"a",
            b"my_service:8080",
            b"192.0.2.1",
            b"192.0.2.1:1",
            b"[::1]",
            b"[2001:db8::1]:65535",
            b"[::ffff:192.0.2.1]",
            b"xn--bcher-kva.example",
        ];
        for host in good {
            assert_eq!(host_fault(host), None, "{}", host.escape_ascii());
        }
        let userinfo = "host with userinfo (RFC 9110 4.2.4)";
        let port = "host with a bad port (RFC 3986 3.2.3)";
        let literal = "host with a bad ip literal (RFC 3986 3.2.2)";
        let path = "host with path characters (RFC 9110 7.2)";
        let character = "host holds a character that no name has (RFC 1123 2.1)";
        let label = "host with an empty label (RFC 1034 3.1)";
        let bad: &[(&[u8], &str)] = &[
            (b"", "empty host (RFC 9110 7.2)"),
            (b"user@example.com", userinfo),
            (b"user:80@example.com", userinfo),
            (b"a b", "host with whitespace (RFC 9110 7.2)"),
            (b"a,b", "host is a list (RFC 9112 3.2)"),
            (b"a/b", path),
            (b"a\\b", path),
            (b"a?b", path),
            (b"a:", port),
            (b"a:0", port),
            (b"a:65536", port),
            (b"a:000080", port),
            // Found by the fuzzer: the sum overflowed before the length was looked at.
            (b"a:85555555555555555555555555", port),
            (b"a:+80", port),
            (b"a:80:80", port),
            (b":80", label),
            (b".a", label),
            (b"a..b", label),
            (b"[::1", literal),
            (b"[::1%25eth0]", literal),
            (b"[v1.x]", literal),
            (b"[192.0.2.1]", literal),
            (b"[::1]x", character),
            (b"2001:db8::1", port),
            (b"a%2eb", character),
            (b"b\xc3\xbccher.example", character),
            (b"a;b", character),
        ];
        for (host, detail) in bad {
            assert_eq!(host_fault(host), Some(*detail), "{}", host.escape_ascii());
        }
    }
}
