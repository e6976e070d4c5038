//! The words of DNS inside values: names that are asked for, names of backends, codes of answers.
//!
//! Nothing is looked up here: whether a name exists is known by running nodes only, and changes while they run.

use std::net::{IpAddr, SocketAddr};

use evenkeel_model::finding::DNS_CODES;
use evenkeel_plan::{NameAsked, Records};

use super::{Refusal, is_name, refuse};
use crate::problem::Quoted;

/// Answer code of RFC 6895 for "here it is".
pub(crate) const NOERROR: u16 = 0;

/// A name that is asked for: any labels that fit, since servers hold more than names of hosts.
pub(crate) fn query(text: &str) -> Result<String, Refusal> {
    const EXAMPLES: &str = "write the name as DNS has it: \"example.com\", or \".\" for the root";
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or(rest);
        let what = format!("is {}, a URL where a name belongs", Quoted(text));
        return refuse("invalid_dns_name", what, format!("write {}", Quoted(host)));
    }
    if text == "." {
        return Ok(text.to_owned());
    }
    if !text.is_ascii() {
        return refuse(
            "invalid_dns_name",
            format!("is {}, and DNS holds such names in their ASCII form", Quoted(text)),
            "write it in Punycode: \"xn--bcher-kva.example\" for bücher.example",
        );
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
    if !labels(text, good) {
        return refuse("invalid_dns_name", format!("is {}, which is no name in DNS", Quoted(text)), EXAMPLES);
    }
    Ok(text.to_owned())
}

/// Whether a name, with or without the dot at its end, is made of labels that DNS has room for (RFC 1035 §2.3.4).
fn labels(text: &str, good: impl Fn(u8) -> bool) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(&good))
}

/// Whether a backend is written as a name rather than as an address that is wrong. `localhost` is an address by another word.
pub(crate) fn is_meant(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    is_name(host) && !text.contains("://") && !host.eq_ignore_ascii_case("localhost")
}

/// `app.internal:80`, or the name of SRV records, which have ports themselves.
pub(crate) fn backend(text: &str, records: Records) -> Result<NameAsked, Refusal> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let port = if scheme == "https" { 443 } else { 80 };
        let proposal = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
        let what = format!("is {}, a URL where a name belongs", Quoted(text));
        return refuse("invalid_dns_name", what, format!("write {}", Quoted(&proposal)));
    }
    let (host, written) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        let port = written.and_then(|port| port.parse().ok()).unwrap_or(80);
        let proposal = SocketAddr::new(ip, port).to_string();
        let what = format!("is {}, an address where a name belongs", Quoted(text));
        return refuse("invalid_dns_name", what, format!("write address = {}", Quoted(&proposal)));
    }
    let port = match (records, written) {
        (Records::Srv, None) => None,
        (Records::Srv, Some(_)) => {
            let what = format!("is {}, and SRV records have ports of their own", Quoted(text));
            return refuse("invalid_port", what, format!("write name = {}", Quoted(host)));
        }
        (Records::A | Records::Aaaa | Records::Any, None) if host.starts_with('_') => {
            let what = format!("is {}, which has no port, as names of SRV records have none", Quoted(text));
            return refuse("missing_port", what, of_service(host));
        }
        (Records::A | Records::Aaaa | Records::Any, None) => {
            let what = format!("is {}, which has no port", Quoted(text));
            return refuse(
                "missing_port",
                what,
                format!("add the port, for example {}", Quoted(&format!("{host}:80"))),
            );
        }
        (Records::A | Records::Aaaa | Records::Any, Some(written)) => {
            let port = written.parse::<u16>().ok().filter(|port| *port > 0);
            if port.is_none() {
                let what =
                    format!("is {}, whose port {} is not a number from 1 to 65535", Quoted(text), Quoted(written));
                return refuse("invalid_port", what, format!("for example {}", Quoted(&format!("{host}:80"))));
            }
            port
        }
    };
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let underscores = records == Records::Srv;
    if name.contains('_') && !underscores {
        let what = format!("is {}, and names of hosts have no \"_\"", Quoted(text));
        return refuse("invalid_dns_name", what, of_service(host));
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && underscores);
    let hyphens = name.split('.').all(|label| !label.starts_with('-') && !label.ends_with('-'));
    let last = name.rsplit('.').next().unwrap_or_default();
    if !labels(&name, good) || !hyphens || last.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = format!("is {}, and {} is no name of a host", Quoted(text), Quoted(host));
        return refuse("invalid_dns_name", what, "write for example \"app.internal:80\", or an IP address and a port");
    }
    Ok(NameAsked { name: name.into(), port, records })
}

fn of_service(host: &str) -> String {
    format!("for SRV records write {{ name = {}, records = \"srv\" }}", Quoted(host))
}

/// A name server: an address, since names are what it is asked for.
pub(crate) fn server(text: &str) -> Result<SocketAddr, Refusal> {
    const EXAMPLE: &str = "write \"10.0.0.53:53\", or \"[2001:db8::53]:53\" for IPv6";
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return refuse("invalid_address", format!("has {}, where nobody can listen", Quoted(text)), EXAMPLE);
        }
        return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let proposal = SocketAddr::new(ip, 53).to_string();
        let what = format!("has {}, which has no port", Quoted(text));
        return refuse("missing_port", what, format!("write {}", Quoted(&proposal)));
    }
    refuse("invalid_address", format!("has {}, which is not an address and a port", Quoted(text)), EXAMPLE)
}

/// `NOERROR` or `0`.
pub(crate) fn code(text: &str) -> Result<u16, Refusal> {
    let named = DNS_CODES.iter().position(|name| text.eq_ignore_ascii_case(name));
    let number = text.parse::<u16>().ok().filter(|number| *number <= 15 && text.bytes().all(|b| b.is_ascii_digit()));
    match named.map(|position| position as u16).or(number) {
        Some(code) => Ok(code),
        None => refuse(
            "invalid_dns_code",
            format!("has {}, which is no code of an answer", Quoted(text)),
            format!("write a number from 0 to 15, or one of {}", DNS_CODES.join(", ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_asked_for_are_labels_dns_has_room_for() {
        let long = "a".repeat(63);
        for good in ["example.com", "example.com.", ".", "_http._tcp.example.com", "*.example.com", "1", &long] {
            assert!(query(good).is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        let longest = format!("{long}.{long}.{long}.{long}");
        for bad in ["", "..", ".a", "a..b", "exa mple", "bücher.example", "http://example.com/", &longer, &longest] {
            assert_eq!(query(bad).err().map(|refusal| refusal.code), Some("invalid_dns_name"), "{bad}");
        }
    }

    #[test]
    fn backends_are_named_by_hosts_with_a_port_or_by_services_without() {
        use Records::{A, Any, Srv};
        for (text, records, name, port) in [
            ("app.internal:80", Any, "app.internal", Some(80)),
            ("App.Internal.:8080", A, "app.internal", Some(8080)),
            ("app:80", Any, "app", Some(80)),
            ("_http._tcp.app.internal", Srv, "_http._tcp.app.internal", None),
            ("web.service.consul", Srv, "web.service.consul", None),
        ] {
            let asked = backend(text, records).expect(text);
            assert_eq!((&*asked.name, asked.port, asked.records), (name, port, records), "{text}");
        }
        for (text, records, code) in [
            ("app", Any, "missing_port"),
            ("_http._tcp.app", Any, "missing_port"),
            ("app:0", Any, "invalid_port"),
            ("app:http", Any, "invalid_port"),
            ("app:99999", Any, "invalid_port"),
            ("app:80", Srv, "invalid_port"),
            ("my_app:80", A, "invalid_dns_name"),
            ("-app:80", A, "invalid_dns_name"),
            ("app-.internal:80", A, "invalid_dns_name"),
            ("app..internal:80", A, "invalid_dns_name"),
            ("10.0.0.x1.7:80", A, "invalid_dns_name"),
            ("10.0.0.1:80", A, "invalid_dns_name"),
            ("[::1]:80", A, "invalid_dns_name"),
            ("http://app.internal/", A, "invalid_dns_name"),
            ("", Srv, "invalid_dns_name"),
        ] {
            assert_eq!(backend(text, records).err().map(|refusal| refusal.code), Some(code), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_a_name_only_when_it_looks_like_one() {
        for text in ["app.internal:80", "app", "a1:80", "_http._tcp.app", "app.:80"] {
            assert!(is_meant(text), "{text}");
        }
        for text in
            ["10.0.0.1:80", "10.0.0.256:80", "[::1]:80", "localhost:80", "http://app/", "/run/app", "", "a b:80"]
        {
            assert!(!is_meant(text), "{text}");
        }
    }

    #[test]
    fn name_servers_are_addresses_with_a_port() {
        assert!(server("10.0.0.53:53").is_ok() && server("[2001:db8::53]:53").is_ok());
        for (text, code) in [
            ("10.0.0.53", "missing_port"),
            ("2001:db8::53", "missing_port"),
            ("dns.internal:53", "invalid_address"),
            ("0.0.0.0:53", "invalid_address"),
            ("10.0.0.53:0", "invalid_address"),
        ] {
            assert_eq!(server(text).err().map(|refusal| refusal.code), Some(code), "{text}");
        }
    }

    #[test]
    fn codes_are_names_or_numbers_of_a_header() {
        for (text, number) in [("NOERROR", 0), ("nxdomain", 3), ("REFUSED", 5), ("15", 15), ("0", 0)] {
            assert_eq!(code(text), Ok(number), "{text}");
        }
        for text in ["", "16", "-1", "+1", "ok", "BADVERS"] {
            assert_eq!(code(text).err().map(|refusal| refusal.code), Some("invalid_dns_code"), "{text}");
        }
    }
}
