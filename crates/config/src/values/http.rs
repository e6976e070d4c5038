//! The words of HTTP inside values: hosts, paths, methods, names and values of fields, where redirects lead.
//!
//! What is let through here is sent or compared byte by byte later, so whatever could end a line, frame a
//! message or mean two things to two readers is refused.

use evenkeel_plan::{HashOn, HostPattern};

use super::{Refusal, is_token, refuse};
use crate::problem::Quoted;

/// A method; `example` is what a refusal proposes.
pub(crate) fn method(text: &str, example: &'static str) -> Result<String, Refusal> {
    if !is_token(text) {
        return refuse("invalid_method", format!("is {}, which is not an HTTP method", Quoted(text)), example);
    }
    if text == "CONNECT" {
        return refuse("invalid_method", "is \"CONNECT\", which asks for a tunnel and not for a page", example);
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return refuse(
            "invalid_method",
            format!("is {}, and methods are case-sensitive", Quoted(text)),
            format!("write {}", Quoted(&text.to_ascii_uppercase())),
        );
    }
    Ok(text.to_owned())
}

pub(crate) fn path(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        // A whole URL is a common slip; its path is what was meant.
        let path = text.split_once("://").map_or(text, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        let proposal = format!("/{}", path.trim_start_matches('/'));
        return refuse(
            "invalid_path",
            format!("is {}, which does not begin with \"/\"", Quoted(text)),
            format!("write {}", Quoted(&proposal)),
        );
    }
    if let Some(bad) = text.chars().find(|&character| !character.is_ascii_graphic() || character == '#') {
        return refuse(
            "invalid_path",
            format!("is {}, and {} cannot stand in a path", Quoted(text), Quoted(bad.encode_utf8(&mut [0; 4]))),
            "write such characters percent-encoded, for example \"%20\" for a space",
        );
    }
    Ok(text.to_owned())
}

/// A path that is compared with the beginning of others, so it has no query and no pattern in it.
pub(crate) fn path_prefix(text: &str) -> Result<String, Refusal> {
    let path = path(text)?;
    if let Some((path, _)) = path.split_once('?') {
        return refuse(
            "invalid_path",
            format!("is {}, and a rule does not look at the query", Quoted(text)),
            format!("write {}", Quoted(path)),
        );
    }
    if let Some(path) = path.strip_suffix('*') {
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        return refuse(
            "invalid_path",
            format!("is {}, and \"*\" is no pattern here", Quoted(text)),
            format!("write {}, which takes everything below it", Quoted(path)),
        );
    }
    Ok(path)
}

pub(crate) fn host(text: &str) -> Result<String, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return refuse(
            "invalid_host",
            format!("is {}, which cannot stand in a Host field", Quoted(text)),
            "write a host name, perhaps with a port: \"www.example.com\" or \"www.example.com:8080\"",
        );
    }
    Ok(text.to_owned())
}

/// `www.example.com` or `*.example.com`, in lower case and without the dot at the end.
pub(crate) fn host_pattern(text: &str) -> Result<HostPattern, Refusal> {
    const EXAMPLES: &str = "write \"www.example.com\", or \"*.example.com\" for every name below example.com";
    if text == "*" {
        let what = "is \"*\"";
        return refuse("invalid_host", what, "leave host out, and the rule takes any host");
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or(rest);
        return refuse(
            "invalid_host",
            format!("is {}, a URL where a host belongs", Quoted(text)),
            if scheme.is_empty() || host.is_empty() { EXAMPLES.into() } else { format!("write {}", Quoted(host)) },
        );
    }
    let lower = text.to_ascii_lowercase();
    let complete = lower.strip_suffix('.').unwrap_or(&lower);
    if let Some(address) = complete.strip_prefix('[') {
        let inside = address.strip_suffix(']').filter(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok());
        return match inside {
            Some(_) => Ok(HostPattern::Exact(complete.into())),
            None => refuse("invalid_host", format!("is {}, which is not a host", Quoted(text)), EXAMPLES),
        };
    }
    if complete.parse::<std::net::Ipv6Addr>().is_ok() {
        return refuse(
            "invalid_host",
            format!("is {}, an IPv6 address without brackets", Quoted(text)),
            format!("write \"[{complete}]\""),
        );
    }
    if let Some((host, port)) = complete.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return refuse(
            "invalid_host",
            format!("is {}, and a rule does not look at the port", Quoted(text)),
            format!("write {}", Quoted(host)),
        );
    }
    let (name, wildcard) = match complete.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (complete, false),
    };
    if name.contains('*') {
        let what = format!("is {}, and \"*\" stands for whole labels at the front only", Quoted(text));
        return refuse("invalid_host", what, EXAMPLES);
    }
    if !name.is_ascii() {
        return refuse(
            "invalid_host",
            format!("is {}, and clients send such names in their ASCII form", Quoted(text)),
            "write it in Punycode: \"xn--bcher-kva.example\" for bücher.example",
        );
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels_good = name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_name));
    if !labels_good || name.len() > 253 {
        return refuse("invalid_host", format!("is {}, which is not a host", Quoted(text)), EXAMPLES);
    }
    Ok(if wildcard { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) })
}

/// Name of a field, in lower case.
pub(crate) fn header_name(text: &str) -> Result<String, Refusal> {
    if is_token(text) {
        return Ok(text.to_ascii_lowercase());
    }
    refuse(
        "invalid_header",
        format!("has {}, which is not the name of a header field", Quoted(text)),
        "write letters, digits and \"-\", for example \"X-Request-Id\"",
    )
}

/// Fields that say where a message ends or belong to one connection (RFC 9110 §7.6.1), and those that routing and loop
/// protection rest on.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Name of a field that may be changed on its way through. Its case is kept: it is sent so over HTTP/1.1.
pub(crate) fn edited_name(text: &str) -> Result<String, Refusal> {
    let lower = header_name(text)?;
    let why = match lower.as_str() {
        framing if FRAMING.contains(&framing) => "it says where the message ends or belongs to one connection",
        "host" => "backends see the host that the client asked for",
        "cdn-loop" => "loops are found by it",
        _ => return Ok(text.to_owned()),
    };
    refuse("forbidden_header", format!("has {}, which cannot be changed: {why}", Quoted(text)), "remove it")
}

/// Name of a field that a check may add to its request. Its case is kept: it is sent so over HTTP/1.1.
pub(crate) fn probe_field(text: &str) -> Result<String, Refusal> {
    let lower = header_name(text)?;
    let (why, help) = match lower.as_str() {
        "host" => ("it has a key of its own", "write host = \"…\" in the check"),
        "connection" | "keep-alive" => ("it belongs to the connection", "write keep_alive = true in the check"),
        "user-agent" => ("probes tell backends who they are by it", "give another field"),
        framing if FRAMING.contains(&framing) => {
            ("it says where the message ends or belongs to one connection", "remove it")
        }
        "expect" => ("probes have no body to hold back", "remove it"),
        _ => return Ok(text.to_owned()),
    };
    refuse("forbidden_header", format!("has {}, which cannot be given: {why}", Quoted(text)), help)
}

/// A service of gRPC, as the server has registered it.
pub(crate) fn service(text: &str) -> Result<String, Refusal> {
    if let Some((service, method)) = text.trim_start_matches('/').split_once('/') {
        return refuse(
            "invalid_service",
            format!("is {}, and {} is a method of a service", Quoted(text), Quoted(method)),
            format!("write {}", Quoted(service)),
        );
    }
    if text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = format!("is {}, which is not the name of a service", Quoted(text));
        return refuse("invalid_service", what, "write it as the server has registered it: \"shop.v1.Orders\"");
    }
    Ok(text.to_owned())
}

/// Value of a field: anything that cannot end the line.
pub(crate) fn header_value(text: &str) -> Result<String, Refusal> {
    if let Some(bad) = text.chars().find(|&character| character.is_control() && character != '\t') {
        return refuse(
            "invalid_header",
            format!("has {} in a value, which cannot stand in a header field", Quoted(bad.encode_utf8(&mut [0; 4]))),
            "write it on one line of printable characters",
        );
    }
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return refuse(
            "invalid_header",
            format!("has {}, and blanks around a value are not sent", Quoted(text)),
            format!("write {}", Quoted(text.trim_matches([' ', '\t']))),
        );
    }
    Ok(text.to_owned())
}

/// Where a redirect leads: a whole URL, or a path on the same host.
///
/// It may ask for `{path}`, `{host}` and `{scheme}` of the request. What it makes is looked at again with each request;
/// here is refused what could never be a place: a path has no part in where the host ends or what it is.
pub(crate) fn target(text: &str) -> Result<String, Refusal> {
    const EXAMPLES: &str = "write \"https://www.example.com{path}\", or \"/path\" for the same host";
    if let Some(bad) = text.chars().find(|character| !character.is_ascii_graphic()) {
        return refuse(
            "invalid_target",
            format!("is {}, and {} cannot stand in a URL", Quoted(text), Quoted(bad.encode_utf8(&mut [0; 4]))),
            "write such characters percent-encoded, for example \"%20\" for a space",
        );
    }
    if let Some(rest) = text.strip_prefix("//") {
        return refuse(
            "invalid_target",
            format!("is {}, which browsers read as another host", Quoted(text)),
            format!("write {}, or one \"/\" for a path", Quoted(&format!("https://{rest}"))),
        );
    }
    let behind = ["https://", "http://", "{scheme}://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    if let Some(behind) = behind {
        let ends = ["/", "\\", "?", "#", "{path}"];
        let end = ends.into_iter().filter_map(|end| behind.find(end)).min().unwrap_or(behind.len());
        let (host, rest) = behind.split_at(end);
        if host.is_empty() && rest.starts_with("{path}") {
            let what = format!("is {}, where the request's path would be the host", Quoted(text));
            let proposal = text.replacen("{path}", "{host}{path}", 1);
            return refuse("invalid_target", what, format!("write {}, or a host of your own", Quoted(&proposal)));
        }
        // Any host that a request can have will do, so one stands for all.
        if !is_host_and_port(&host.replace("{host}", "host")) {
            let what = format!("is {}, whose host {} is none", Quoted(text), Quoted(host));
            return refuse("invalid_target", what, EXAMPLES);
        }
        return Ok(text.to_owned());
    }
    let good = text.starts_with("{path}") || (text.starts_with('/') && !text.starts_with("/\\"));
    if !good {
        let what = format!("is {}, which is neither a URL of http or https nor a path", Quoted(text));
        return refuse("invalid_target", what, EXAMPLES);
    }
    Ok(text.to_owned())
}

/// A whole URL that something is sent to.
pub(crate) fn url(text: &str) -> Result<String, Refusal> {
    const EXAMPLE: &str = "write for example \"https://pager.example.com/events\"";
    if let Some(bad) = text.chars().find(|&character| !character.is_ascii_graphic() || character == '#') {
        return refuse(
            "invalid_url",
            format!("is {}, and {} cannot stand in such a URL", Quoted(text), Quoted(bad.encode_utf8(&mut [0; 4]))),
            "write such characters percent-encoded, for example \"%20\" for a space",
        );
    }
    let Some(behind) = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        let what = format!("is {}, which does not begin with \"http://\" or \"https://\"", Quoted(text));
        return refuse("invalid_url", what, EXAMPLE);
    };
    let host = behind.split(['/', '?']).next().unwrap_or_default();
    if let Some((_, host)) = host.rsplit_once('@') {
        let what = format!("has a user or password in front of {}, which would stand in the log", Quoted(host));
        return refuse("invalid_url", what, "put a secret into the path, or run a command that knows it");
    }
    if !is_host_and_port(host) {
        return refuse("invalid_url", format!("is {}, whose host {} is none", Quoted(text), Quoted(host)), EXAMPLE);
    }
    Ok(text.to_owned())
}

/// A name or an address in brackets, perhaps with a port.
fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons inside brackets are the address's own.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let labels = host.strip_suffix('.').unwrap_or(host).split('.');
            labels.into_iter().all(|label| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        }
    };
    is_host && port.is_none_or(is_port)
}

/// `text/html` or `text/*`, in lower case.
pub(crate) fn media_range(text: &str) -> Result<String, Refusal> {
    let good = text.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && kind != "*" && is_token(sub));
    if good && text.find('*').is_none_or(|at| at + 1 == text.len() && text.ends_with("/*")) {
        return Ok(text.to_ascii_lowercase());
    }
    refuse(
        "invalid_media_type",
        format!("has {}, which is not a media type", Quoted(text)),
        "write for example \"application/json\", or \"text/*\" for all of a kind; without parameters",
    )
}

/// `text/html; charset=utf-8`.
pub(crate) fn content_type(text: &str) -> Result<String, Refusal> {
    let value = header_value(text)?;
    let kind = value.split(';').next().unwrap_or_default().trim_end();
    if kind.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && is_token(sub)) && value.is_ascii() {
        return Ok(value);
    }
    refuse(
        "invalid_media_type",
        format!("is {}, which is not a media type", Quoted(text)),
        "write for example \"text/html; charset=utf-8\" or \"application/json\"",
    )
}

pub(crate) fn cookie_name(text: &str) -> Result<String, Refusal> {
    if is_token(text) {
        return Ok(text.to_owned());
    }
    refuse(
        "invalid_cookie",
        format!("is {}, which is not the name of a cookie", Quoted(text)),
        "write letters, digits, \"-\" and \"_\", for example \"SERVERID\"",
    )
}

pub(crate) fn hash_on(text: &str) -> Result<HashOn, Refusal> {
    let (what, name) = text.split_once(':').map_or((text, None), |(what, name)| (what, Some(name)));
    match (what, name) {
        ("address", None) => Ok(HashOn::Address),
        ("uri", None) => Ok(HashOn::Uri),
        ("header", Some(name)) if is_token(name) => Ok(HashOn::Header(name.to_ascii_lowercase().into())),
        ("cookie", Some(name)) if is_token(name) => Ok(HashOn::Cookie(name.into())),
        ("header", _) => refuse(
            "unknown_word",
            format!("is {}, which names no header field", Quoted(text)),
            "write its name behind the colon: \"header:X-User\"",
        ),
        ("cookie", _) => refuse(
            "unknown_word",
            format!("is {}, which names no cookie", Quoted(text)),
            "write its name behind the colon: \"cookie:session\"",
        ),
        _ => refuse(
            "unknown_word",
            format!("is {}, but it takes \"address\", \"header:name\", \"cookie:name\" or \"uri\"", Quoted(text)),
            match what.to_ascii_lowercase().as_str() {
                "ip" | "source" | "client" => "did you mean \"address\"?",
                "url" | "path" => "did you mean \"uri\"?",
                _ => "write one of these",
            },
        ),
    }
}

/// The name a backend's certificate must have: a host name or an IP address, without a port.
pub(crate) fn server_name(text: &str) -> Result<String, Refusal> {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match host_pattern(text) {
        Ok(HostPattern::Exact(name)) if !name.starts_with('[') => Ok(name.into()),
        _ => refuse(
            "invalid_host",
            format!("is {}, which is not a name a certificate can have", Quoted(text)),
            "write a host name or an IP address, without a port: \"backend.example.com\"",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_words_keep_to_what_can_stand_in_a_request() {
        for text in ["GE T", "", "get", "CONNECT", "G\u{e9}T"] {
            assert!(method(text, "").is_err(), "{text}");
        }
        for text in ["health", "", "/a b", "/\u{e9}", "/a#b", "/a\r\nX: y", "http://h/x"] {
            assert!(path(text).is_err(), "{text}");
        }
        assert!(path("http://h/x").is_err_and(|refusal| refusal.help == "write \"/x\""));
        for text in ["", "a b", "a\r\nX: y", "a/b", "user@host"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(method("GET", "").is_ok() && path("/health?x=1").is_ok() && host("[::1]:80").is_ok());
    }

    #[test]
    fn hosts_are_names_addresses_or_everything_below_a_name() {
        let exact = |text: &str| HostPattern::Exact(text.into());
        let below = |text: &str| HostPattern::Wildcard(text.into());
        for (text, pattern) in [
            ("www.example.com", exact("www.example.com")),
            ("WWW.Example.COM.", exact("www.example.com")),
            ("*.Example.com", below("example.com")),
            ("my_service", exact("my_service")),
            ("192.0.2.1", exact("192.0.2.1")),
            ("[2001:DB8::1]", exact("[2001:db8::1]")),
        ] {
            assert_eq!(host_pattern(text), Ok(pattern), "{text}");
        }
        for (text, help) in [
            ("*", "leave host out"),
            ("", "www.example.com"),
            ("*.", "www.example.com"),
            ("**.a", "www.example.com"),
            ("w*.a", "www.example.com"),
            ("a.*.b", "www.example.com"),
            ("a..b", "www.example.com"),
            ("a b", "www.example.com"),
            ("a/b", "www.example.com"),
            ("https://a.b/c", "write \"a.b\""),
            ("a.b:443", "write \"a.b\""),
            ("2001:db8::1", "write \"[2001:db8::1]\""),
            ("[::1", "www.example.com"),
            ("b\u{fc}cher.example", "xn--"),
        ] {
            let refusal = host_pattern(text).expect_err(text);
            assert!(refusal.help.contains(help), "{text}: {}", refusal.help);
        }
    }

    #[test]
    fn no_value_can_end_a_line_or_frame_a_message() {
        for name in FRAMING.iter().chain(&["host", "CDN-Loop", "Content-LENGTH", "", "X Y", "X:", ":path", "X\r\n"]) {
            assert!(edited_name(name).is_err(), "{name}");
        }
        assert_eq!(edited_name("X-Forwarded-Proto"), Ok("X-Forwarded-Proto".into()));
        for value in ["a\r\nX: y", "a\nb", "a\0b", "\u{7f}", " a", "a\t"] {
            assert!(header_value(value).is_err(), "{value:?}");
        }
        assert!(header_value("").is_ok() && header_value("max-age=1, \"q\"\ta").is_ok());
    }

    #[test]
    fn a_redirect_leads_to_a_url_of_the_web_or_to_a_path() {
        for text in [
            "/",
            "/new?x=1#y",
            "https://a.example/x",
            "http://[::1]:8080",
            "https://a.example:8443{path}",
            "https://{host}:8443{path}",
            "{scheme}://m.{host}{path}",
            "https://login.example/?back={path}",
            "https://a.example./",
            "{path}",
            "/old{path}",
        ] {
            assert!(target(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "a.example",
            "//a.example/",
            "/\\a.example",
            "ftp://a",
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "https://{path}",
            "{scheme}://{path}",
            "https://a..b/",
            "https://user@a.example/",
            "https://a.example:0/",
            "https://a.example:port/",
            "https://{uri}/",
            "https://{scheme}/",
            "https:/{path}",
            "{host}{path}",
            "{scheme}:{path}",
            "ftp://{host}{path}",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
        assert!(target("https://a.example/\r\nX: y").is_err());
    }

    #[test]
    fn media_types_are_whole_or_a_kind() {
        for text in ["text/html", "text/*", "Application/JSON", "image/svg+xml"] {
            assert_eq!(media_range(text), Ok(text.to_ascii_lowercase()), "{text}");
        }
        for text in ["", "text", "*/*", "text/", "/html", "text/html; q=1", "text/h*", "*"] {
            assert!(media_range(text).is_err(), "{text}");
        }
        assert!(content_type("text/html; charset=utf-8").is_ok() && content_type("html").is_err());
    }
}
