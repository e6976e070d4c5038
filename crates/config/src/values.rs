//! The words inside values: durations, sizes, addresses, statuses, escaped bytes.
//!
//! Each function takes the text of one value and answers with the value or with a [`Refusal`] that
//! says what is wrong and what to write instead. None knows which key it reads for. The words of HTTP are in
//! [`http`].

pub(crate) mod dns;
pub(crate) mod http;
mod paths;
pub(crate) mod pattern;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use evenkeel_model::{Cidr, limits};

use crate::problem::Quoted;

pub(crate) use paths::{command, file};

/// Why a value was not taken. `what` continues a sentence that begins with the key:
/// `check.interval` … `is "5", which has no unit`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: &'static str,
    pub what: String,
    pub help: String,
}

fn refuse<T>(code: &'static str, what: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, what: what.into(), help: help.into() })
}

const UNITS_OF_TIME: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A whole number and a unit: `500ms`, `5s`, `2m`, `1h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, Refusal> {
    const EXAMPLES: &str = "write a whole number and a unit: \"500ms\", \"5s\", \"2m\", \"1h\" or \"1d\"";
    let (number, unit) = split_unit(text);
    if unit.is_empty() && !number.is_empty() {
        return refuse(
            "unit_missing",
            format!("is {}, which has no unit", Quoted(text)),
            format!("write {} for seconds, or another unit: ms, s, m, h, d", Quoted(&format!("{number}s"))),
        );
    }
    let Some(&(_, millis)) = UNITS_OF_TIME.iter().find(|(known, _)| *known == unit) else {
        return refuse("invalid_duration", format!("is {}, which is not a duration", Quoted(text)), EXAMPLES);
    };
    if let Some(proposal) = fraction_of_time(number, millis) {
        let what = format!("is {}, and durations have no fractions", Quoted(text));
        return refuse("invalid_duration", what, format!("write {}", Quoted(&proposal)));
    }
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
        Some(total) => Ok(Duration::from_millis(total)),
        None => refuse("invalid_duration", format!("is {}, which is not a duration", Quoted(text)), EXAMPLES),
    }
}

/// `1.5` of a unit as a whole number of a smaller one, where that is exact to the millisecond.
fn fraction_of_time(number: &str, millis: u64) -> Option<String> {
    if !number.contains('.') {
        return None;
    }
    let exact = number.parse::<f64>().ok()? * millis as f64;
    // Far below 2^53, where f64 stops counting whole milliseconds.
    (exact.is_finite() && exact < 1e15).then(|| show_duration(Duration::from_millis(exact.round() as u64)))
}

const UNITS_OF_SIZE: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A whole number and a unit: `512B`, `32KiB`, `1MiB`.
pub(crate) fn size(text: &str) -> Result<u64, Refusal> {
    const EXAMPLES: &str = "write a whole number and a unit: \"512B\", \"32KiB\", \"1MiB\" or \"2GiB\"";
    let (number, unit) = split_unit(text);
    if let Some(&(_, bytes)) = UNITS_OF_SIZE.iter().find(|(known, _)| *known == unit) {
        if let Some(total) = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes)) {
            return Ok(total);
        }
    } else if unit.is_empty() && !number.is_empty() {
        return refuse(
            "unit_missing",
            format!("is {}, which has no unit", Quoted(text)),
            format!("write {} for bytes, or another unit: KiB, MiB, GiB", Quoted(&format!("{number}B"))),
        );
    } else if let Some((unit, _)) = UNITS_OF_SIZE.iter().find(|(known, _)| same_initial(known, unit)) {
        return refuse(
            "invalid_size",
            format!("is {}, whose unit is not one of B, KiB, MiB, GiB, TiB", Quoted(text)),
            format!("write {}; units of 1000 are not read", Quoted(&format!("{number}{unit}"))),
        );
    }
    refuse("invalid_size", format!("is {}, which is not a size", Quoted(text)), EXAMPLES)
}

fn same_initial(one: &str, other: &str) -> bool {
    let initial = |text: &str| text.chars().next().map(|character| character.to_ascii_uppercase());
    initial(one) == initial(other)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// The shortest way to write it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let total = duration.as_millis();
    if total == 0 {
        return "0s".into();
    }
    let (unit, millis) = UNITS_OF_TIME
        .iter()
        .rev()
        .find(|(_, millis)| total.is_multiple_of(u128::from(*millis)))
        .unwrap_or(&UNITS_OF_TIME[0]);
    format!("{}{unit}", total / u128::from(*millis))
}

/// The shortest way to write it.
pub(crate) fn show_size(size: u64) -> String {
    if size == 0 {
        return "0B".into();
    }
    let (unit, bytes) =
        UNITS_OF_SIZE.iter().rev().find(|(_, bytes)| size.is_multiple_of(*bytes)).unwrap_or(&UNITS_OF_SIZE[0]);
    format!("{}{unit}", size / bytes)
}

/// What an address is for; decides what is refused and what is proposed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Listen,
    Backend,
}

/// An IP address and a port. A v4-mapped IPv6 address becomes the IPv4 address it maps.
pub(crate) fn address(text: &str, purpose: Purpose) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return usable(text, SocketAddr::new(address.ip().to_canonical(), address.port()), purpose);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let port = if scheme == "https" { 443 } else { 80 };
        let rest = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port).to_string(),
            Err(_) if host.contains(':') => host.to_owned(),
            Err(_) => format!("{host}:{port}"),
        };
        return match (purpose, scheme) {
            (Purpose::Backend, "https") => refuse(
                "invalid_address",
                format!("is {}, a URL where an address belongs", Quoted(text)),
                format!("write {} and give the pool tls = {{}}", Quoted(&rest)),
            ),
            _ => refuse(
                "invalid_address",
                format!("is {}, a URL where an address belongs", Quoted(text)),
                format!("write {}", Quoted(&rest)),
            ),
        };
    }
    if text.starts_with('/') || text.starts_with("unix:") {
        return refuse(
            "not_in_this_version",
            format!("is {}, and unix sockets are not available in this version", Quoted(text)),
            "write an IP address and a port",
        );
    }
    if let Some((ip, port)) = bare_ipv6_and_port(text) {
        return refuse(
            "missing_port",
            format!("is {}, an IPv6 address without brackets", Quoted(text)),
            format!("write \"[{ip}]:{port}\" if {port} is the port"),
        );
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 80);
        return refuse(
            "missing_port",
            format!("is {}, which has no port", Quoted(text)),
            format!("add the port, for example \"{example}\""),
        );
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if purpose == Purpose::Listen && matches!(host, "" | "*") && port.parse::<u16>().is_ok() {
        return refuse(
            "invalid_address",
            format!("is {}, which leaves the address open", Quoted(text)),
            format!("write \"0.0.0.0:{port}\" for every IPv4 address, \"[::]:{port}\" for every IPv6 address"),
        );
    }
    if purpose == Purpose::Listen && text.parse::<u16>().is_ok() {
        return refuse(
            "invalid_address",
            format!("is {}, a port without an address", Quoted(text)),
            format!("write \"0.0.0.0:{text}\" for every IPv4 address, \"127.0.0.1:{text}\" for this host only"),
        );
    }
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return refuse(
            "invalid_port",
            format!("is {}, whose port {} is not a number from 1 to 65535", Quoted(text), Quoted(port)),
            format!("for example \"{}\"", SocketAddr::new(ip, 80)),
        );
    }
    if is_name(host) {
        let written = if port.is_empty() { "80" } else { port };
        let (what, help) = if host.eq_ignore_ascii_case("localhost") {
            ("is a name", format!("write \"127.0.0.1:{written}\" or \"[::1]:{written}\""))
        } else {
            match purpose {
                Purpose::Backend => ("is a name", format!("write name = {}", Quoted(&format!("{host}:{written}")))),
                Purpose::Listen => (
                    "is a name, and a listener opens addresses of this host",
                    format!("write its IP address and the port: \"10.0.0.1:{written}\""),
                ),
            }
        };
        return refuse("name_not_address", format!("is {}, but {} {what}", Quoted(text), Quoted(host)), help);
    }
    refuse(
        "invalid_address",
        format!("is {}, which is not an address and a port", Quoted(text)),
        "write \"10.0.0.11:8080\", or \"[2001:db8::7]:8080\" for IPv6",
    )
}

fn usable(text: &str, address: SocketAddr, purpose: Purpose) -> Result<SocketAddr, Refusal> {
    if address.port() == 0 {
        let why = match purpose {
            Purpose::Listen => "each worker opens the port for itself, so a port the kernel picks would differ",
            Purpose::Backend => "nobody can listen there",
        };
        return refuse(
            "invalid_port",
            format!("is {}, but port 0 is not a port: {why}", Quoted(text)),
            "write a port from 1 to 65535",
        );
    }
    let ip = address.ip();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if purpose == Purpose::Backend && ip.is_unspecified() {
        return refuse(
            "invalid_address",
            format!("is {}, which stands for every address and is no server", Quoted(text)),
            format!("write the server's own address; for a server on this host \"127.0.0.1:{}\"", address.port()),
        );
    }
    if ip.is_multicast() || broadcast {
        return refuse(
            "invalid_address",
            format!("is {}, a multicast or broadcast address", Quoted(text)),
            "write the address of one host",
        );
    }
    Ok(address)
}

/// `2001:db8::7:8080` is an address by itself; more likely its last part was meant as a port.
fn bare_ipv6_and_port(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|_| port.len() > 1)?;
    Some((ip.parse().ok()?, port))
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// `2xx`, `200` or `200-204`, as an inclusive range.
pub(crate) fn statuses(text: &str) -> Result<(u16, u16), Refusal> {
    let class = |text: &str| -> Option<(u16, u16)> {
        let digit = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"))?;
        let hundreds = digit.parse::<u16>().ok().filter(|_| digit.len() == 1)?;
        Some((hundreds * 100, hundreds * 100 + 99))
    };
    let one = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let range = class(text).or_else(|| one(text).map(|status| (status, status))).or_else(|| {
        let (low, high) = text.split_once('-')?;
        Some((one(low.trim())?, one(high.trim())?))
    });
    match range {
        Some((low, high)) if low > high => refuse(
            "invalid_status",
            format!("has {}, a range that runs backwards", Quoted(text)),
            format!("write \"{high}-{low}\""),
        ),
        Some((low, high)) if low < 100 || high > 599 => refuse(
            "invalid_status",
            format!("has {}, and statuses run from 100 to 599", Quoted(text)),
            "write \"2xx\", 200 or \"200-204\"",
        ),
        Some(range) => Ok(range),
        None => refuse(
            "invalid_status",
            format!("has {}, which is not a status", Quoted(text)),
            "write \"2xx\", 200 or \"200-204\"",
        ),
    }
}

/// A token of RFC 9110 §5.6.2: what methods and cluster names are made of.
pub(crate) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(token)
}

/// An address of this host, or a prefix that some of its addresses lie in.
pub(crate) fn source(text: &str) -> Result<Cidr, Refusal> {
    const EXAMPLES: &str = "write an address of this host without a port, \"10.0.0.2\", or a prefix, \"100.64.0.0/28\"";
    if let Some((_, length)) = text.split_once('/') {
        let cidr: Cidr = text.parse().map_err(|why: String| {
            let (why, help) = why.split_once("; ").unwrap_or((&why, EXAMPLES));
            Refusal { code: "invalid_cidr", what: format!("is {}, but {why}", Quoted(text)), help: help.to_owned() }
        })?;
        if length.parse() == Ok(0_u8) {
            let what = format!("is {}, which is every address", Quoted(text));
            return refuse("invalid_cidr", what, "leave it out, and the kernel takes the address of the way there");
        }
        return Ok(cidr);
    }
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => {
            let full = if ip.is_ipv4() { 32 } else { 128 };
            Ok(Cidr::new(ip, full).expect("a whole address has no bits behind it"))
        }
        Ok(_) => refuse(
            "invalid_address",
            format!("is {}, which no packet can come from", Quoted(text)),
            "write one address of this host, or leave the key out",
        ),
        Err(_) => refuse("invalid_address", format!("is {}, which is not an IP address", Quoted(text)), EXAMPLES),
    }
}

/// An address without a port.
pub(crate) fn ip(text: &str) -> Result<IpAddr, Refusal> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| Refusal {
        code: "invalid_address",
        what: format!("has {}, which is not an IP address", Quoted(text)),
        help: "write for example \"192.0.2.7\" or \"2001:db8::7\", without a port".into(),
    })
}

/// Bytes in hex, as many as a QUIC connection id has room for.
pub(crate) fn server_id(text: &str) -> Result<Vec<u8>, Refusal> {
    let longest = limits::SERVER_ID.value;
    let help = format!("write 1 to {longest} bytes in hex: \"0a01\"");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return refuse("invalid_server_id", format!("is {}, which is not hex", Quoted(text)), help);
    }
    if text.len() % 2 == 1 {
        let proposal = Quoted(&format!("0{text}")).to_string();
        let what = format!("is {}, and a byte has two digits", Quoted(text));
        return refuse("invalid_server_id", what, format!("write for example {proposal}"));
    }
    if text.len() as u64 / 2 > longest {
        let what = format!("has {} bytes, and a connection id has room for {longest}", text.len() / 2);
        return refuse("invalid_server_id", what, help);
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two hex digits are a byte");
    Ok((0..text.len()).step_by(2).map(byte).collect())
}

/// A protocol of TLS (ALPN), such as `h2`.
pub(crate) fn alpn(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.len() > 255 {
        let what = format!("is {}, and the name of a protocol has 1 to 255 bytes", Quoted(text));
        return refuse("invalid_alpn", what, "write for example \"h2\", \"http/1.1\" or \"imap\"");
    }
    match text {
        "http2" | "h2c" | "HTTP/2" => {
            refuse("invalid_alpn", format!("is {}, which no TLS client offers", Quoted(text)), "write \"h2\"")
        }
        "http1" | "http" | "HTTP/1.1" => {
            refuse("invalid_alpn", format!("is {}, which no TLS client offers", Quoted(text)), "write \"http/1.1\"")
        }
        _ => Ok(text.to_owned()),
    }
}

/// Names of listeners and pools stand in logs, metric labels and command lines.
pub(crate) fn name(text: &str) -> Result<String, Refusal> {
    let longest = limits::NAME.value;
    if text.is_empty() {
        return refuse("invalid_name", "is empty", "write a word that says what it is for, such as \"web\"");
    }
    if text.chars().count() as u64 > longest {
        return refuse("invalid_name", format!("is longer than {longest} characters"), "write a shorter one");
    }
    if let Some(bad) = text.chars().find(|&character| bad_in_name(character)) {
        let proposal: String = text.chars().map(|c| if bad_in_name(c) { '-' } else { c }).collect();
        return refuse(
            "invalid_name",
            format!("is {}, and {} cannot stand in a name", Quoted(text), Quoted(bad.encode_utf8(&mut [0; 4]))),
            format!("write {}", Quoted(&proposal)),
        );
    }
    Ok(text.to_owned())
}

fn bad_in_name(character: char) -> bool {
    character.is_control() || character.is_whitespace() || "\"'\\{},".contains(character)
}

/// Text with escapes into bytes: `\xHH`, `\n`, `\r`, `\t`, `\0`, `\\`, `\"`. Everything else is UTF-8.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, used) = match escape.bytes().next() {
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(byte @ (b'\\' | b'"')) => (byte, 1),
            Some(b'x') => match escape.get(1..3).and_then(hex) {
                Some(byte) => (byte, 3),
                None => {
                    return refuse(
                        "invalid_escape",
                        format!("is {}, where \"\\x\" is not followed by two hex digits", Quoted(text)),
                        "write for example '\\x0a'",
                    );
                }
            },
            _ => {
                return refuse(
                    "invalid_escape",
                    format!("is {}, which has a backslash without meaning", Quoted(text)),
                    "known are \\xHH, \\n, \\r, \\t, \\0, \\\\ and \\\"; write \\\\ for a backslash",
                );
            }
        };
        out.push(byte);
        rest = &escape[used..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

fn hex(digits: &str) -> Option<u8> {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_whole_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("5 s", 5000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, code, help) in [
            ("5", "unit_missing", "\"5s\""),
            ("0", "unit_missing", "\"0s\""),
            ("1.5s", "invalid_duration", "\"1500ms\""),
            ("0.5h", "invalid_duration", "\"30m\""),
            ("", "invalid_duration", "\"500ms\""),
            ("s", "invalid_duration", "\"500ms\""),
            ("-5s", "invalid_duration", "\"500ms\""),
            ("5sec", "invalid_duration", "\"500ms\""),
            ("1m30s", "invalid_duration", "\"500ms\""),
            ("99999999999999999999s", "invalid_duration", "\"500ms\""),
        ] {
            let refusal = duration(text).expect_err(text);
            assert_eq!(refusal.code, code, "{text}");
            assert!(refusal.help.contains(help), "{text}: {}", refusal.help);
        }
    }

    #[test]
    fn sizes_are_binary_and_say_so() {
        for (text, bytes) in [("512B", 512), ("32KiB", 32_768), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("0B", 0)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, help) in [
            ("32", "\"32B\""),
            ("32KB", "\"32KiB\""),
            ("32k", "\"32KiB\""),
            ("1M", "\"1MiB\""),
            ("x", "\"512B\""),
            ("", "\"512B\""),
            ("99999999TiB", "\"512B\""),
        ] {
            let refusal = size(text).expect_err(text);
            assert!(refusal.help.contains(help), "{text}: {}", refusal.help);
        }
    }

    // The first letter of a unit was once cut off as one byte, and a unit that began with "é" was a panic.
    #[test]
    fn a_unit_of_wide_characters_is_refused_like_any_other() {
        for text in ["5\u{e9}", "\u{a5}", "1\u{1f600}"] {
            assert_eq!(size(text).err().map(|refusal| refusal.code), Some("invalid_size"), "{text}");
            assert_eq!(duration(text).err().map(|refusal| refusal.code), Some("invalid_duration"), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for millis in [0, 1, 500, 1000, 90_000, 120_000, 3_600_000, 86_400_000, 61_001] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, u64::MAX] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn addresses_are_refused_for_the_right_reason() {
        use Purpose::{Backend, Listen};
        let table = [
            ("10.0.0.1:80", Backend, None),
            ("[2001:db8::7]:80", Backend, None),
            ("[::ffff:10.0.0.1]:80", Backend, None),
            ("0.0.0.0:80", Listen, None),
            ("0.0.0.0:80", Backend, Some("invalid_address")),
            ("10.0.0.1", Backend, Some("missing_port")),
            ("2001:db8::7", Backend, Some("missing_port")),
            ("10.0.0.1:0", Backend, Some("invalid_port")),
            ("10.0.0.1:0", Listen, Some("invalid_port")),
            ("10.0.0.1:70000", Backend, Some("invalid_port")),
            ("10.0.0.1:http", Backend, Some("invalid_port")),
            ("app.example.com:80", Backend, Some("name_not_address")),
            ("localhost:80", Backend, Some("name_not_address")),
            ("app", Backend, Some("name_not_address")),
            ("http://10.0.0.1:80/", Backend, Some("invalid_address")),
            ("https://10.0.0.1:443", Backend, Some("invalid_address")),
            ("/run/app.sock", Backend, Some("not_in_this_version")),
            ("*:80", Listen, Some("invalid_address")),
            (":80", Listen, Some("invalid_address")),
            ("80", Listen, Some("invalid_address")),
            ("239.1.2.3:80", Backend, Some("invalid_address")),
            ("255.255.255.255:80", Backend, Some("invalid_address")),
            ("", Backend, Some("invalid_address")),
            (" 10.0.0.1:80", Backend, Some("invalid_address")),
        ];
        for (text, purpose, code) in table {
            assert_eq!(address(text, purpose).err().map(|refusal| refusal.code), code, "{text:?}");
        }
        assert_eq!(address("[::ffff:10.0.0.1]:80", Backend), Ok("10.0.0.1:80".parse().expect("an address")));
    }

    #[test]
    fn statuses_are_classes_numbers_and_ranges() {
        for (text, range) in [("2xx", (200, 299)), ("200", (200, 200)), ("200-204", (200, 204)), ("5XX", (500, 599))] {
            assert_eq!(statuses(text), Ok(range), "{text}");
        }
        for text in ["", "xx", "0xx", "6xx", "22xx", "99", "600", "204-200", "ok", "+200", "2x", "200-", "-"] {
            assert!(statuses(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_make_any_byte() {
        assert_eq!(bytes(r#"a\x00\xff\n\r\t\0\\\"é"#), Ok(b"a\x00\xff\n\r\t\x00\\\"\xc3\xa9".to_vec()));
        for text in [r"\x", r"\x0", r"\xg0", r"\q", r"end\", r"\x+1", r"\xé"] {
            assert_eq!(bytes(text).err().map(|refusal| refusal.code), Some("invalid_escape"), "{text}");
        }
    }
}
