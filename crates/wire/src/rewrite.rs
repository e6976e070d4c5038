//! The texts a rule makes of a request: the path a backend sees, and where a redirect leads.
//!
//! A redirect sends a browser, with what it knows, to a place that partly a stranger wrote. So its host comes from the
//! config or from a Host that a rule or listener answers to, never from a path: `//evil.example` and `/\evil.example` are
//! hosts to a browser, and none of them gets through as one. What cannot be said safely is refused rather than repaired.
//!
//! It is told the path as it came and does not decode it (docs/decisions/0015). Whatever fails leaves `out` as it was.

use evenkeel_model::Cause;

use crate::address::write_decimal;
use crate::host::host_fault;
use crate::message::Refusal;

/// Puts `replacement` in the place of `prefix` at the front of a path, which may have a query.
///
/// Both begin with `/`. Where they meet the rest there is exactly one slash, whether either ends with one or not; the rest
/// and the query stay as they are. The server as a whole (`*`) has no path to rewrite.
pub fn rewrite_path(path: &[u8], prefix: &[u8], replacement: &[u8], out: &mut Vec<u8>) {
    let matched = without_last_slash(prefix);
    let Some(rest) = path.strip_prefix(matched).filter(|_| path != b"*") else {
        out.extend_from_slice(path);
        return;
    };
    match rest {
        [b'/', ..] => {
            let front = without_last_slash(replacement);
            out.extend_from_slice(front);
            // With nothing in front of them, two slashes would make a host of what follows.
            out.extend_from_slice(if front.is_empty() { one_slash(rest) } else { rest });
        }
        _ => {
            out.extend_from_slice(if replacement.is_empty() { b"/" } else { replacement });
            out.extend_from_slice(rest);
        }
    }
}

fn without_last_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// The path from the last of its leading slashes on.
fn one_slash(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|&&byte| byte == b'/').count();
    &path[slashes.saturating_sub(1)..]
}

/// The Location of a rule's redirect.
///
/// `template` is a URL or a path. In it `{path}` stands for the request's path and query, `{host}` for its host without
/// a port and `{scheme}` for `scheme`. A path stays a path, which the client joins to what it asked for.
///
/// # Errors
/// `client_malformed_request` when host or path cannot be put into a URL, `balancer_internal` when the template does not
/// make a URL of http or https with a host that the path has no part in.
pub fn redirect_location(
    template: &[u8],
    scheme: &[u8],
    host: Option<&[u8]>,
    path: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let from = out.len();
    let written =
        fill_in(template, scheme, host, path, out).and_then(|()| match leads_safely(template, &out[from..]) {
            Shape::Url => Ok(()),
            // Browsers take every slash and backslash in front for one of the two that begin a host.
            Shape::Path { slashes } => {
                out.drain(from..from + slashes);
                out.insert(from, b'/');
                Ok(())
            }
            Shape::Neither => Err(BAD_TEMPLATE),
        });
    if written.is_err() {
        out.truncate(from);
    }
    written
}

/// The Location that sends a plain request to its HTTPS twin.
///
/// # Errors
/// When the request names no host, or one that is no host, or a path that is none.
pub fn https_location(host: Option<&[u8]>, port: u16, path: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (host, path) = (host_alone(host)?, sound_path(path)?);
    out.extend_from_slice(b"https://");
    out.extend_from_slice(host);
    if port != HTTPS_PORT {
        out.push(b':');
        write_decimal(out, u64::from(port));
    }
    out.extend_from_slice(path);
    Ok(())
}

/// RFC 9110 section 4.2.2.
const HTTPS_PORT: u16 = 443;

const fn malformed(detail: &'static str) -> Refusal {
    Refusal { cause: Cause::ClientMalformedRequest, detail }
}

const BAD_TEMPLATE: Refusal =
    Refusal { cause: Cause::BalancerInternal, detail: "the redirect of the rule leads to no host of its own" };

/// What was asked for, without its port.
fn host_alone(host: Option<&[u8]>) -> Result<&[u8], Refusal> {
    let Some(host) = host else { return Err(malformed("no host to redirect to (RFC 9112 3.2)")) };
    if let Some(detail) = host_fault(host) {
        return Err(malformed(detail));
    }
    let end = match host {
        [b'[', ..] => host.iter().position(|&byte| byte == b']').map_or(host.len(), |close| close + 1),
        _ => host.iter().position(|&byte| byte == b':').unwrap_or(host.len()),
    };
    Ok(&host[..end])
}

/// What may stand behind a host as it is. `*` has no place there, so it becomes the root.
fn sound_path(path: &[u8]) -> Result<&[u8], Refusal> {
    match path {
        b"*" => Ok(b"/"),
        [b'/', ..] if path.iter().all(u8::is_ascii_graphic) && !path.contains(&b'#') => Ok(path),
        _ => Err(malformed("path cannot stand in a url (RFC 3986 3.3)")),
    }
}

/// Unknown braces stay as they are: they may be meant.
fn fill_in(template: &[u8], scheme: &[u8], host: Option<&[u8]>, path: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut rest = template;
    while let Some(brace) = rest.iter().position(|&byte| byte == b'{') {
        out.extend_from_slice(&rest[..brace]);
        rest = &rest[brace..];
        if let Some(behind) = rest.strip_prefix(b"{path}") {
            out.extend_from_slice(sound_path(path)?);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(b"{host}") {
            out.extend_from_slice(host_alone(host)?);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(b"{scheme}") {
            out.extend_from_slice(scheme);
            rest = behind;
        } else {
            out.push(b'{');
            rest = &rest[1..];
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

enum Shape {
    Url,
    /// With so many slashes and backslashes in front.
    Path {
        slashes: usize,
    },
    Neither,
}

/// Whether a location that was made of a template leads where the template says.
fn leads_safely(template: &[u8], location: &[u8]) -> Shape {
    // Browsers take out tabs and line ends before they read on, so "/<tab>/evil" is a host to them.
    if !location.iter().all(u8::is_ascii_graphic) {
        return Shape::Neither;
    }
    if template.starts_with(b"/") || template.starts_with(b"{path}") {
        let slashes = location.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        return Shape::Path { slashes };
    }
    // The template itself says where the host begins; else the path could: "https:/" in front of "/evil".
    let schemes: [&[u8]; 3] = [b"http://", b"https://", b"{scheme}://"];
    if !schemes.iter().any(|scheme| template.starts_with(scheme)) {
        return Shape::Neither;
    }
    let Some(behind) = location.strip_prefix(b"https://").or_else(|| location.strip_prefix(b"http://")) else {
        return Shape::Neither;
    };
    let end = behind.iter().position(|byte| matches!(byte, b'/' | b'\\' | b'?' | b'#')).unwrap_or(behind.len());
    if host_fault(&behind[..end]).is_some() { Shape::Neither } else { Shape::Url }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_replaced_and_slashes_meet_as_one() {
        let table = [
            ("/api", "/api", "/v2", "/v2"),
            ("/api/x", "/api", "/v2", "/v2/x"),
            ("/api/x?q=/api", "/api", "/v2", "/v2/x?q=/api"),
            ("/api?q", "/api", "/v2", "/v2?q"),
            ("/api/", "/api", "/v2", "/v2/"),
            ("/api/x", "/api/", "/v2", "/v2/x"),
            ("/api/x", "/api", "/v2/", "/v2/x"),
            ("/api/x", "/api/", "/v2/", "/v2/x"),
            ("/api", "/api", "/v2/", "/v2/"),
            ("/x", "/", "/v2", "/v2/x"),
            ("/", "/", "/v2", "/v2/"),
            ("/?q", "/", "/v2", "/v2/?q"),
            ("/api", "/api", "/", "/"),
            ("/api?q", "/api", "/", "/?q"),
            ("/api/x", "/api", "/", "/x"),
            ("/api/x", "/api", "", "/x"),
            ("/api", "/api", "", "/"),
            // No host is made of a path.
            ("/api//evil.example", "/api", "/", "/evil.example"),
            ("/api///evil.example/x", "/api", "/", "/evil.example/x"),
            ("//evil.example", "/", "/", "/evil.example"),
            // With something in front the rest stays as it is.
            ("/api//x", "/api", "/v2", "/v2//x"),
            ("/api/../x", "/api", "/v2", "/v2/../x"),
            ("/api/%2e%2e/x", "/api", "/v2", "/v2/%2e%2e/x"),
            ("*", "/", "/v2", "*"),
            // No rule matches so; then nothing is changed.
            ("/other", "/api", "/v2", "/other"),
        ];
        for (path, prefix, replacement, expected) in table {
            let mut out = b"GET ".to_vec();
            rewrite_path(path.as_bytes(), prefix.as_bytes(), replacement.as_bytes(), &mut out);
            assert_eq!(out.escape_ascii().to_string(), format!("GET {expected}"), "{path} {prefix} {replacement}");
        }
    }

    fn redirect(template: &str, host: Option<&str>, path: &str) -> Result<String, Cause> {
        let mut out = b"before".to_vec();
        let host = host.map(str::as_bytes);
        let result = redirect_location(template.as_bytes(), b"https", host, path.as_bytes(), &mut out);
        let text = String::from_utf8(out).expect("only ASCII is written");
        let written = text.strip_prefix("before").expect("what was there stays").to_string();
        match result {
            Ok(()) => Ok(written),
            Err(refusal) => {
                assert_eq!(written, "", "a refusal writes nothing");
                Err(refusal.cause)
            }
        }
    }

    #[test]
    fn a_redirect_fills_in_what_the_template_asks_for() {
        let table = [
            ("https://new.example/", "/x?y", "https://new.example/"),
            ("https://new.example{path}", "/x?y=1&z", "https://new.example/x?y=1&z"),
            ("https://new.example/old{path}", "/x", "https://new.example/old/x"),
            ("https://{host}:8443{path}", "/x", "https://www.example.com:8443/x"),
            ("{scheme}://m.{host}{path}", "/", "https://m.www.example.com/"),
            ("https://login.example/?back={path}", "/x", "https://login.example/?back=/x"),
            ("/new", "/x", "/new"),
            ("/new{path}", "/x?y", "/new/x?y"),
            ("{path}", "/x", "/x"),
            ("/{other}{", "/x", "/{other}{"),
            ("https://new.example{path}", "*", "https://new.example/"),
        ];
        for (template, path, expected) in table {
            assert_eq!(redirect(template, Some("www.example.com:80"), path), Ok(expected.to_string()), "{template}");
        }
        assert_eq!(redirect("https://{host}/", Some("[::1]:80"), "/"), Ok("https://[::1]/".to_string()));
        // A host that is not asked for may be missing.
        assert_eq!(redirect("https://a.example{path}", None, "/x"), Ok("https://a.example/x".to_string()));
    }

    #[test]
    fn no_path_becomes_the_host_of_a_redirect() {
        let table = [
            ("{path}", "//evil.example", "/evil.example"),
            ("{path}", "///evil.example", "/evil.example"),
            ("{path}", "/\\evil.example", "/evil.example"),
            ("{path}", "/\\/\\evil.example/x", "/evil.example/x"),
            ("/{path}", "/evil.example", "/evil.example"),
            ("//{path}", "/evil.example", "/evil.example"),
            ("{path}", "/%5cevil.example", "/%5cevil.example"),
            ("{path}", "/@evil.example", "/@evil.example"),
            ("https://good.example{path}", "//evil.example", "https://good.example//evil.example"),
            ("https://good.example{path}", "/@evil.example", "https://good.example/@evil.example"),
            ("https://good.example{path}", "/\\@evil.example", "https://good.example/\\@evil.example"),
            ("https://{host}{path}", "//evil.example", "https://www.example.com//evil.example"),
        ];
        for (template, path, expected) in table {
            assert_eq!(
                redirect(template, Some("www.example.com"), path),
                Ok(expected.to_string()),
                "{template} {path}"
            );
        }
    }

    #[test]
    fn what_cannot_be_said_safely_is_refused() {
        let (client, operator) = (Cause::ClientMalformedRequest, Cause::BalancerInternal);
        let good = Some("www.example.com");
        let table = [
            // Paths that no head parser lets through.
            ("https://a.example{path}", good, "", client),
            ("https://a.example{path}", good, "evil", client),
            ("https://a.example{path}", good, "@evil.example/", client),
            ("https://a.example{path}", good, ".evil.example/", client),
            ("https://a.example{path}", good, "/\r\nSet-Cookie: a=b", client),
            ("{path}", good, "/\t/evil.example", client),
            ("{path}", good, "/\n/evil.example", client),
            ("{path}", good, "/x#y", client),
            ("{path}", good, "/\u{e9}", client),
            // Hosts that are none.
            ("https://{host}/", None, "/", client),
            ("https://{host}/", Some(""), "/", client),
            ("https://{host}/", Some("user@evil.example"), "/", client),
            ("https://{host}/", Some("good.example:80@evil.example"), "/", client),
            ("https://{host}/", Some("a\\b"), "/", client),
            ("https://{host}/", Some("a/b"), "/", client),
            ("https://{host}/", Some("a b"), "/", client),
            ("https://{host}/", Some("a\r\nb"), "/", client),
            ("https://{host}/", Some("a,b"), "/", client),
            // Templates that give the choice of the host away.
            ("https:/{path}", good, "/evil.example", operator),
            ("https://{path}", good, "/evil.example", operator),
            ("https:{path}", good, "//evil.example", operator),
            ("https://", good, "/", operator),
            ("https://user@a.example{path}", good, "/", operator),
            ("https://a.example:x{path}", good, "/", operator),
            ("javascript:alert(1)", good, "/", operator),
            ("ftp://a.example/", good, "/", operator),
            ("{host}{path}", good, "/", operator),
            ("\\\\evil.example", good, "/", operator),
            (" https://a.example/", good, "/", operator),
            ("/x\r\nSet-Cookie: a=b", good, "/", operator),
            ("/\t/evil.example", good, "/", operator),
            ("", good, "/", operator),
        ];
        for (template, host, path, expected) in table {
            assert_eq!(redirect(template, host, path), Err(expected), "{template:?} {host:?} {path:?}");
        }
    }

    #[test]
    fn the_https_twin_has_the_same_host_and_path() {
        let twin = |host: Option<&str>, port, path: &str| {
            let mut out = Vec::new();
            let result = https_location(host.map(str::as_bytes), port, path.as_bytes(), &mut out);
            assert!(result.is_ok() || out.is_empty());
            result.map(|()| String::from_utf8(out).expect("only ASCII is written")).map_err(|refusal| refusal.cause)
        };
        let table = [
            (Some("www.example.com"), 443, "/x?y", "https://www.example.com/x?y"),
            (Some("www.example.com:80"), 443, "/", "https://www.example.com/"),
            (Some("www.example.com:8080"), 8443, "/", "https://www.example.com:8443/"),
            (Some("WWW.example.com."), 443, "/", "https://WWW.example.com./"),
            (Some("192.0.2.1:80"), 443, "/", "https://192.0.2.1/"),
            (Some("[2001:db8::1]:80"), 8443, "/", "https://[2001:db8::1]:8443/"),
            (Some("a"), 443, "*", "https://a/"),
            (Some("a"), 443, "//evil.example", "https://a//evil.example"),
            (Some("a"), 443, "/\\evil.example", "https://a/\\evil.example"),
            (Some("a"), 443, "/@evil.example", "https://a/@evil.example"),
        ];
        for (host, port, path, expected) in table {
            assert_eq!(twin(host, port, path), Ok(expected.to_string()), "{host:?} {path}");
        }
        let refused = [
            (None, "/"),
            (Some(""), "/"),
            (Some("a@evil.example"), "/"),
            (Some("a:80@evil.example"), "/"),
            (Some("a:b"), "/"),
            (Some("a/evil.example"), "/"),
            (Some("a\\evil.example"), "/"),
            (Some("a?x"), "/"),
            (Some("a#x"), "/"),
            (Some("a\r\nx: y"), "/"),
            (Some("a"), "x"),
            (Some("a"), ""),
            (Some("a"), "@evil.example"),
            (Some("a"), "/\r\nx: y"),
            (Some("a"), "/ x"),
        ];
        for (host, path) in refused {
            assert_eq!(twin(host, 443, path), Err(Cause::ClientMalformedRequest), "{host:?} {path:?}");
        }
    }
}
