//! Addresses and numbers as text, without the machinery of `fmt` where it would show in a profile.
//!
//! Every forwarded request carries the client's address twice, so IPv4 is written by hand; the rarer and
//! harder IPv6 form is left to std.
//!
//! One value at a time; which one of a list to believe is `forward`'s question.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A v4-mapped IPv6 address is written as the IPv4 address it maps: a dual-stack socket must not
/// change how backends see IPv4 clients.
pub fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => write_v4(out, v4),
        IpAddr::V6(v6) => write_v6(out, v6),
    }
}

fn write_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let mut text = [0_u8; 15];
    let mut at = 0;
    for (position, octet) in address.octets().into_iter().enumerate() {
        if position > 0 {
            text[at] = b'.';
            at += 1;
        }
        if octet >= 100 {
            text[at] = b'0' + octet / 100;
            at += 1;
        }
        if octet >= 10 {
            text[at] = b'0' + octet / 10 % 10;
            at += 1;
        }
        text[at] = b'0' + octet % 10;
        at += 1;
    }
    out.extend_from_slice(&text[..at]);
}

fn write_v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    struct Text<'a>(&'a mut Vec<u8>);
    impl Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    write!(Text(out), "{address}").expect("a vector takes every text");
}

/// The address of one X-Forwarded-For entry, which some proxies write with a port.
pub fn read_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        let address: Ipv6Addr = address.parse().ok()?;
        return port_fits.then(|| IpAddr::V6(address).to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    port.parse::<u16>().is_ok().then_some(IpAddr::V4(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_std_writes_them() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for (address, text) in [
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("10.100.9.99", "10.100.9.99"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            let mut out = Vec::new();
            write_address(&mut out, address.parse().expect("test address"));
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn an_entry_of_the_chain_may_carry_a_port_but_no_other_decoration() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"192.0.2.1", Some("192.0.2.1")),
            (b"192.0.2.1:4711", Some("192.0.2.1")),
            (b"2001:db8::1", Some("2001:db8::1")),
            (b"[2001:db8::1]", Some("2001:db8::1")),
            (b"[2001:db8::1]:443", Some("2001:db8::1")),
            (b"::ffff:192.0.2.1", Some("192.0.2.1")),
            (b"[2001:db8::1]443", None),
            (b"[192.0.2.1]", None),
            (b"192.0.2.1:x", None),
            (b"unknown", None),
            (b"", None),
            (b"\xff", None),
        ];
        for (entry, expected) in table {
            let expected = expected.map(|text| text.parse::<IpAddr>().expect("test address"));
            assert_eq!(read_address(entry), expected, "{}", entry.escape_ascii());
        }
    }
}
