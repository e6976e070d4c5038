//! Cookies as far as a balancer needs them: one by its name, our token in front of its value, and a cookie of our own.
//!
//! Reading is tolerant, as servers are (RFC 6265 section 5.4 makes no promise to them): several Cookie fields, blanks
//! around names, values in quotes, pieces that are no cookie. Names keep their case. Nothing is decoded and nothing is copied.
//!
//! It finds tokens and does not believe them; whether one is ours is for whoever holds the secret to say. A value of a
//! backend's own may look as if it carried one.

use std::time::Duration;

use crate::address::write_decimal;
use crate::field::{Fields, trim};

/// Stands between our token and the backend's value. Allowed in a cookie, and in no token.
pub const SEPARATOR: u8 = b'~';

/// The values of all cookies of that name, in the order sent, without their quotes.
///
/// There can be several: browsers send one for each path and domain that set it, the most specific first, and an attacker
/// on a sister domain may add his own.
pub fn values<'b>(fields: &Fields<'_, 'b>, name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    cookies(fields, name).map(unquoted)
}

/// The first of [`values`].
pub fn find<'b>(fields: &Fields<'_, 'b>, name: &[u8]) -> Option<&'b [u8]> {
    values(fields, name).next()
}

/// A cookie that may carry a token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked<'b> {
    pub token: &'b [u8],
    /// Token and separator, borrowed from the head: without them the field holds what the backend set.
    pub cut: &'b [u8],
    /// What the backend set, a quote at its end included.
    pub value: &'b [u8],
}

/// All cookies of that name with a separator in their value.
pub fn marked<'b>(fields: &Fields<'_, 'b>, name: &[u8]) -> impl Iterator<Item = Marked<'b>> {
    cookies(fields, name).filter_map(|value| {
        // Token and value are inside the quotes, or the quotes are the value's.
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let at = value.iter().position(|&byte| byte == SEPARATOR)?;
        Some(Marked { token: &value[..at], cut: &value[..=at], value: &value[at + 1..] })
    })
}

/// Cuts a Set-Cookie value of that name where token and separator go: in front of the cookie's value, behind its opening
/// quote. `None` when it sets another cookie.
pub fn mark_place<'b>(set_cookie: &'b [u8], name: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let pair = set_cookie.split(|&byte| byte == b';').next().unwrap_or(set_cookie);
    let value = value_of(pair, name)?;
    let quoted = value.len() > unquoted(value).len();
    let value_at = crate::field::offset(set_cookie, value);
    Some(set_cookie.split_at(value_at + usize::from(quoted)))
}

/// Writes a Set-Cookie value with `token` in front of the value the backend gave. False, with nothing written, when it sets
/// another cookie.
pub fn mark(set_cookie: &[u8], name: &[u8], token: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((front, behind)) = mark_place(set_cookie, name) else { return false };
    for part in [front, token, &[SEPARATOR], behind] {
        out.extend_from_slice(part);
    }
    true
}

/// A cookie of our own, for the whole host.
#[derive(Clone, Copy, Debug)]
pub struct SetCookie<'a> {
    pub name: &'a [u8],
    /// Only characters a cookie may hold.
    pub value: &'a [u8],
    /// `None`: for as long as the browser runs.
    pub max_age: Option<Duration>,
    /// Whether the client came by TLS.
    pub secure: bool,
}

impl SetCookie<'_> {
    /// Writes the value of the Set-Cookie field. No script has a use for it, and no other site's forms should move a
    /// client: hence HttpOnly and SameSite. Lax rather than Strict, or a link from elsewhere would lose the client's backend.
    pub fn write(&self, out: &mut Vec<u8>) {
        for part in [self.name, b"=", self.value, b"; Path=/"] {
            out.extend_from_slice(part);
        }
        if let Some(max_age) = self.max_age {
            out.extend_from_slice(b"; Max-Age=");
            write_decimal(out, max_age.as_secs());
        }
        out.extend_from_slice(b"; HttpOnly; SameSite=Lax");
        if self.secure {
            out.extend_from_slice(b"; Secure");
        }
    }
}

/// The values as they were sent.
fn cookies<'b>(fields: &Fields<'_, 'b>, name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    let cookie = fields.iter().filter(|(field, _)| field.len() == 6 && field.eq_ignore_ascii_case(b"cookie"));
    // Browsers do not let quotes protect a semicolon, so neither do we.
    cookie.flat_map(|(_, value)| value.split(|&byte| byte == b';')).filter_map(move |pair| value_of(pair, name))
}

/// The value of `name=value` if it has that name.
fn value_of<'b>(pair: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    (trim(&pair[..equals]) == name).then(|| trim(&pair[equals + 1..]))
}

/// Without the quotes around it; a single quote is part of the value.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inside @ .., b'"'] => inside,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FieldSlots, Parsed, parse_request};

    fn with_fields<R>(lines: &str, read: impl FnOnce(&Fields<'_, '_>) -> R) -> R {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut slots = FieldSlots::new();
        match parse_request(text.as_bytes(), &mut slots, 32_768) {
            Parsed::Whole(head) => read(&head.fields),
            other => panic!("{lines:?} is a head: {}", matches!(other, Parsed::Partial)),
        }
    }

    fn text(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }

    #[test]
    fn a_cookie_is_found_by_its_name_however_it_is_sent() {
        let table: [(&str, &[&str]); 21] = [
            ("", &[]),
            ("Cookie: s=1\r\n", &["1"]),
            ("cOOKIE: a=0; s=1; b=2\r\n", &["1"]),
            ("Cookie: a=0;s=1;b=2\r\n", &["1"]),
            ("Cookie: a=0 ;\t s = 1 ; b=2\r\n", &["1"]),
            ("Cookie: a=0\r\nCookie: s=1\r\nCookie: s=2\r\n", &["1", "2"]),
            ("Cookie: s=1; s=2\r\n", &["1", "2"]),
            ("Cookie: s=\"1\"\r\n", &["1"]),
            ("Cookie: s=\"\r\n", &["\""]),
            ("Cookie: s=\"1\r\n", &["\"1"]),
            ("Cookie: s=\"1;2\"\r\n", &["\"1"]),
            ("Cookie: s=\r\n", &[""]),
            ("Cookie: s==1=\r\n", &["=1="]),
            ("Cookie: s\r\n", &[]),
            ("Cookie: =s\r\n", &[]),
            ("Cookie: ;;=; s=1;;\r\n", &["1"]),
            ("Cookie: S=1; xs=2; sx=3; \"s\"=4\r\n", &[]),
            ("Cookie: a=\"; s=1; b=\"\r\n", &["1"]),
            ("Cookie: $Version=1; s=1; $Path=/\r\n", &["1"]),
            ("Set-Cookie: s=1\r\nX-Cookie: s=1\r\nCookie2: s=1\r\n", &[]),
            ("Cookie:\r\n", &[]),
        ];
        for (lines, expected) in table {
            let found: Vec<String> = with_fields(lines, |fields| values(fields, b"s").map(text).collect());
            let expected: Vec<String> = expected.iter().map(|value| text(value.as_bytes())).collect();
            assert_eq!(found, expected, "{lines:?}");
            assert_eq!(with_fields(lines, |fields| find(fields, b"s").map(text)), expected.first().cloned());
        }
    }

    #[test]
    fn the_token_goes_in_front_of_the_backends_value() {
        let table = [
            ("s=abc; Path=/; HttpOnly", Some("s=t0~abc; Path=/; HttpOnly")),
            ("s=abc", Some("s=t0~abc")),
            ("s=", Some("s=t0~")),
            ("s=; Max-Age=0", Some("s=t0~; Max-Age=0")),
            ("s=\"abc\"; Path=/", Some("s=\"t0~abc\"; Path=/")),
            ("s=\"\"", Some("s=\"t0~\"")),
            ("s=\"", Some("s=t0~\"")),
            (" s = abc ;Path=/", Some(" s = t0~abc ;Path=/")),
            ("s=a=b~c", Some("s=t0~a=b~c")),
            ("S=abc", None),
            ("other=1; s=abc", None),
            ("other; s=abc", None),
            ("s", None),
            ("", None),
            (";s=1", None),
            ("=s", None),
        ];
        for (set_cookie, expected) in table {
            let mut out = Vec::new();
            let marked = mark(set_cookie.as_bytes(), b"s", b"t0", &mut out);
            assert_eq!(marked.then(|| text(&out)), expected.map(|value| text(value.as_bytes())), "{set_cookie}");
            assert!(marked || out.is_empty(), "{set_cookie}");
        }
    }

    #[test]
    fn a_token_is_found_and_what_is_left_is_the_backends() {
        // Token, value and what a backend would be sent, for each cookie that has one.
        type Row<'t> = (&'t str, &'t [(&'t str, &'t str, &'t str)]);
        let table: [Row<'_>; 12] = [
            ("Cookie: s=t0~abc\r\n", &[("t0", "abc", "Cookie: s=abc\r\n")]),
            ("Cookie: a=1; s=t0~abc; b=~\r\n", &[("t0", "abc", "Cookie: a=1; s=abc; b=~\r\n")]),
            ("Cookie: s=\"t0~abc\"\r\n", &[("t0", "abc\"", "Cookie: s=\"abc\"\r\n")]),
            ("Cookie: s=t0~\"abc\"\r\n", &[("t0", "\"abc\"", "Cookie: s=\"abc\"\r\n")]),
            ("Cookie: s=t0~\r\n", &[("t0", "", "Cookie: s=\r\n")]),
            ("Cookie: s=t0~a~b\r\n", &[("t0", "a~b", "Cookie: s=a~b\r\n")]),
            ("Cookie: s=~abc\r\n", &[("", "abc", "Cookie: s=abc\r\n")]),
            ("Cookie: s=abc\r\n", &[]),
            ("Cookie: s=\r\n", &[]),
            ("Cookie: t=t0~abc\r\n", &[]),
            ("Cookie: s=\"\r\n", &[]),
            (
                "Cookie: s=x~1\r\nCookie: s=t0~2\r\n",
                &[("x", "1", "Cookie: s=1\r\nCookie: s=t0~2\r\n"), ("t0", "2", "Cookie: s=x~1\r\nCookie: s=2\r\n")],
            ),
        ];
        for (lines, expected) in table {
            let found: Vec<(String, String, String)> = with_fields(lines, |fields| {
                let left = |cut: &[u8]| {
                    let at = crate::field::offset(fields.head, cut);
                    let all = [&fields.head[..at], &fields.head[at + cut.len()..]].concat();
                    let from = fields.line_start(1);
                    text(&all[from..all.len() - 2])
                };
                marked(fields, b"s").map(|found| (text(found.token), text(found.value), left(found.cut))).collect()
            });
            let expected: Vec<(String, String, String)> = expected
                .iter()
                .map(|(token, value, left)| (text(token.as_bytes()), text(value.as_bytes()), text(left.as_bytes())))
                .collect();
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    // What a client sends back of a marked cookie gives the backend exactly what it had set.
    #[test]
    fn taking_the_token_off_undoes_putting_it_on() {
        for value in ["abc", "", "\"abc\"", "\"\"", "a~b", "=a=", "\"", "\"a", "a\""] {
            let mut set = Vec::new();
            assert!(mark(format!("s={value}; Path=/").as_bytes(), b"s", b"t0", &mut set));
            let sent = String::from_utf8(set).expect("ASCII");
            let sent = sent.split(';').next().expect("a pair").to_string();
            let back = with_fields(&format!("Cookie: {sent}\r\n"), |fields| {
                let found = marked(fields, b"s").next().expect("a token was put on");
                assert_eq!(found.token, b"t0", "{value}");
                sent.replacen(std::str::from_utf8(found.cut).expect("ASCII"), "", 1)
            });
            assert_eq!(back, format!("s={value}"));
        }
    }

    #[test]
    fn our_own_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let write = |max_age: Option<u64>, secure| {
            let mut out = Vec::new();
            let max_age = max_age.map(Duration::from_secs);
            SetCookie { name: b"SERVERID", value: b"t0", max_age, secure }.write(&mut out);
            text(&out)
        };
        assert_eq!(write(None, false), "SERVERID=t0; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(write(Some(3600), true), "SERVERID=t0; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    }
}
