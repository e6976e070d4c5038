//! What may leave the house: texts with the secrets taken out.
//!
//! For reports that a stranger reads. What is taken out is what looks like a secret or stands where one may stand; a word too
//! many costs a reader little, a password too many costs an operator much. So whole kinds of values go, whatever they hold:
//! headers that checks send, addresses of hooks, arguments of commands.
//!
//! A config is read as text and not compiled, so that one with an error can be shown too.

mod settings;

use std::sync::LazyLock;

use regex::Regex;

pub use settings::config;

/// Stands where something was.
pub const REMOVED: &str = "(removed)";

/// Fields of heads whose values are no secrets; of others only the size is told.
const PLAIN_FIELDS: &[&str] = &[
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expires",
    "keep-alive",
    "last-modified",
    "proxy-status",
    "retry-after",
    "server",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "via",
    "x-cache",
    "x-powered-by",
];

struct Rule {
    finds: Regex,
    leaves: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rules = [
        // Keys and certificates in PEM, whole or cut off.
        (r"(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)", "(removed)"),
        // user:password@ of a URL.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"'@?#]*@"#, "${1}(removed)@"),
        // Values in a query.
        (r#"([?&;][A-Za-z0-9_.~%+\[\]-]+=)[^&;\s"'#<>]+"#, "${1}(removed)"),
        // Heads, as far as their line goes.
        (
            r#"(?i)\b((?:set-)?cookie2?|(?:proxy-)?authorization|x-[a-z-]*(?:key|token|auth)[a-z-]*)(["']?\s*[:=]\s*["']?)[^"'\r\n]+"#,
            "${1}${2}(removed)",
        ),
        (r"(?i)\b(bearer|basic|digest|negotiate)(\s+)[A-Za-z0-9+/=._~:-]{4,}", "${1}${2}(removed)"),
        (
            r#"(?i)\b([a-z0-9_-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|credential|session|sessid|private[_-]?key)[a-z0-9_-]*)(["']?\s*[:=]\s*)(\(removed\)|"[^"\n]*"|'[^'\n]*'|[^\s,;}\])"']+)"#,
            "${1}${2}(removed)",
        ),
        // Three parts of base64 with dots between them.
        (r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", "(removed)"),
        // What nobody writes by hand. Ids of requests are shorter.
        (r"\b[A-Za-z0-9_+-]{40,}={0,2}", "(removed)"),
    ];
    let made = rules.into_iter().map(|(finds, leaves)| {
        let finds = Regex::new(finds).expect("the expressions are ours, and a test runs them all");
        Rule { finds, leaves }
    });
    made.collect()
});

/// Any text: what looks like a secret is taken out.
pub fn text(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, rule| rule.finds.replace_all(&text, rule.leaves).into_owned())
}

/// The same, and these very texts wherever they stand.
pub fn text_and(given: &str, secrets: &[String]) -> String {
    let mut out = text(given);
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_MIN) {
        out = out.replace(secret.as_str(), REMOVED);
    }
    out
}

/// Shorter ones would take letters out of every word.
const SECRET_MIN: usize = 4;

/// A URL that keeps scheme, host and path; parts of the path that look like tokens go too.
pub fn url(given: &str) -> String {
    let given = text(given);
    let Some((scheme, rest)) = given.split_once("://") else { return given };
    let parts = rest.split('/').map(|part| if looks_random(part) { REMOVED } else { part });
    format!("{scheme}://{}", parts.collect::<Vec<_>>().join("/"))
}

/// Long, and neither words nor a number: `T0B1xYz9Kq2LmN8p`.
fn looks_random(part: &str) -> bool {
    let word = part.split(['?', '#']).next().unwrap_or(part);
    let has = |of: fn(&u8) -> bool| word.as_bytes().iter().any(of);
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    word.len() >= 16 && plain && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

/// One field of a head.
pub fn field(name: &str, value: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if PLAIN_FIELDS.contains(&lower.as_str()) {
        return format!("{name}: {}", text(value));
    }
    if lower == "location" {
        return format!("{name}: {}", url(value));
    }
    format!("{name}: ({} bytes, removed)", value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_any_text_and_words_stay() {
        let table = [
            (
                "see https://me:hunter2@h.example/x?a=1&token=abc#t",
                "see https://(removed)@h.example/x?a=(removed)&token=(removed)#t",
            ),
            ("Authorization: Bearer abc.def", "Authorization: (removed)"),
            ("Set-Cookie: SID=1234; Path=/", "Set-Cookie: (removed)"),
            ("got \"cookie\": \"a=b\" there", "got \"cookie\": \"(removed)\" there"),
            ("password=hunter2, next", "password=(removed), next"),
            ("{\"db_password\":\"hunter 2\"}", "{\"db_password\":(removed)}"),
            ("x-api-key: 77", "x-api-key: (removed)"),
            ("bearer abcdef", "bearer (removed)"),
            ("a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- b", "a (removed) b"),
            ("a -----BEGIN PRIVATE KEY-----\nMIIE", "a (removed)"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln end", "jwt (removed) end"),
            (
                "backend 10.0.0.1:80 unhealthy: 3 probes in a row failed",
                "backend 10.0.0.1:80 unhealthy: 3 probes in a row failed",
            ),
            ("id 0000000000000abc0000000000000007", "id 0000000000000abc0000000000000007"),
        ];
        for (given, expected) in table {
            assert_eq!(text(given), expected);
        }
    }

    #[test]
    fn of_a_url_the_place_stays_and_tokens_in_its_path_go() {
        let table = [
            ("https://hooks.example/services/T0/B0/xK9dL2mQ7pRs4tVw", "https://hooks.example/services/T0/B0/(removed)"),
            ("http://shop.example/basket/42", "http://shop.example/basket/42"),
        ];
        for (given, expected) in table {
            assert_eq!(url(given), expected);
        }
    }

    #[test]
    fn fields_that_nobody_knows_show_their_size_only() {
        assert_eq!(field("Server", "nginx/1.22"), "Server: nginx/1.22");
        assert_eq!(field("Set-Cookie", "SID=1"), "Set-Cookie: (5 bytes, removed)");
        assert_eq!(field("X-Trace", "abc"), "X-Trace: (3 bytes, removed)");
        assert_eq!(field("Location", "/login?next=%2Fme"), "Location: /login?next=(removed)");
    }

    #[test]
    fn a_secret_that_is_known_goes_wherever_it_stands() {
        let secrets = ["tok-99".to_owned(), "abc".to_owned()];
        assert_eq!(
            text_and("it said tok-99abc", &secrets),
            "it said (removed)abc",
            "three letters are too few to look for"
        );
    }
}
