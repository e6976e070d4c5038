//! Version 1: one line of text, `PROXY TCP4 192.0.2.7 198.51.100.1 4711 443`.
//!
//! Section 2.1 gives the exact grammar, and exactly that is taken: one space between the words, no leading zeros, CRLF
//! within 107 bytes. A lenient reader is a second reading.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, NEITHER, Parsed, begins, canonical};

pub const PREFIX: &[u8] = b"PROXY ";

/// The longest line, CRLF included: UNKNOWN with two full IPv6 addresses and ports (section 2.1).
const LINE_MAX: usize = 107;

pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match begins(bytes, PREFIX) {
        None => return Parsed::Partial,
        Some(false) => return Parsed::Refused(NEITHER),
        Some(true) => {}
    }
    let text = &bytes[..bytes.len().min(LINE_MAX - 1)];
    let Some(end) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        if text.len() == LINE_MAX - 1 {
            return Parsed::Refused("PROXY line longer than 107 bytes (PROXY protocol, 2.1)");
        }
        return Parsed::Partial;
    };
    match begins(&bytes[end..], b"\r\n") {
        None => Parsed::Partial,
        Some(false) => Parsed::Refused("PROXY line that does not end in CRLF (PROXY protocol, 2.1)"),
        Some(true) => match line(&bytes[PREFIX.len()..end]) {
            Ok(client) => Parsed::Whole(Header { client, ..Header::default() }, end + 2),
            Err(fault) => Parsed::Refused(fault),
        },
    }
}

/// What stands between `PROXY ` and CRLF.
fn line(line: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, &'static str> {
    // Section 2.1: whatever stands behind UNKNOWN is ignored.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let mut words = line.split(|&byte| byte == b' ');
    let read: fn(&str) -> Option<IpAddr> = match words.next() {
        Some(b"TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some(b"TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err("PROXY line with an unknown protocol (PROXY protocol, 2.1)"),
    };
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let mut address = || word().and_then(read).ok_or("PROXY line with a bad address (PROXY protocol, 2.1)");
    let (source, destination) = (address()?, address()?);
    let mut port = || word().and_then(port).ok_or("PROXY line with a bad port (PROXY protocol, 2.1)");
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err("PROXY line with more words than it has (PROXY protocol, 2.1)");
    }
    let client = canonical(SocketAddr::new(source, source_port));
    Ok(Some((client, canonical(SocketAddr::new(destination, destination_port)))))
}

/// 0 to 65535, digits only, in their shortest form.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = text == "0" || !text.starts_with('0');
    if digits && shortest { text.parse().ok() } else { None }
}
