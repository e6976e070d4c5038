//! What of a config is nobody else's business, and the config without it.
//!
//! Texts of configs are shown: by the admin side, in a log, in a problem that points to a line. Passwords in URLs and headers
//! belong to none of these. Every key that takes free text is in one of two lists, so that a new one has to be thought about; a
//! comment may hold anything, such as the line that worked last week with its password, so none is shown.

use std::ops::Range;

use crate::document::{self, Node, Table, Value};
use crate::problem::Notes;
use crate::source::{Format, Source};

/// What stands in place of a secret.
pub const HIDDEN: &str = "***";

/// A shorter one is in half the words there are, and to take it out of a sentence would tell more than it hides.
const SHORTEST: usize = 4;

/// How much of a value is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// Of a URL everything but scheme and host: a token may be in its path, its query and its user.
    BehindHost,
    /// Of a path its query.
    Query,
    /// Of a list all but its first: the program is known by its name.
    ButFirst,
}

/// Keys that may hold a secret, by their table as TOML writes it. `*` is any key. What clients are sent anyway is none: fields of
/// answers, bodies of fixed answers, redirects.
const SECRET: &[(&str, &str, Part)] = &[
    ("node.hook", "url", Part::BehindHost),
    ("node.hook", "command", Part::ButFirst),
    ("node.traces", "endpoint", Part::BehindHost),
    ("admin.token", "sha256", Part::All),
    ("listener.rule.request_headers.set", "*", Part::All),
    ("listener.rule.request_headers.add", "*", Part::All),
    ("listener.rule.headers", "*", Part::All),
    ("pool.check", "headers", Part::All),
    ("pool.check", "path", Part::Query),
    ("pool.check", "command", Part::ButFirst),
    ("pool.check", "send", Part::All),
    ("pool.check", "expect", Part::All),
    ("pool.check", "expect_body", Part::All),
    ("pool.check", "reject_body", Part::All),
    ("pool.check", "steps", Part::All),
];

/// The secrets of one config.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Where they stand, in order, and what is shown of each.
    places: Vec<(Range<usize>, String)>,
    comments: Vec<Range<usize>>,
    words: Vec<String>,
}

/// Finds them, as far as the text can be read at all.
pub fn secrets(source: &Source<'_>) -> Secrets {
    let document = document::parse(source, &mut Notes::default());
    let mut found = Secrets::default();
    let mut leaves = Vec::new();
    walk(&document, &mut String::new(), &mut found, &mut leaves);
    leaves.sort_by_key(|leaf| leaf.start);
    if source.format != Format::Json {
        found.comments = comments(source.text, &leaves);
    }
    found.places.sort_by_key(|(place, _)| place.start);
    // Longer ones first, so that what is left of one does not hide in another.
    found.words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    found.words.dedup();
    found
}

impl Secrets {
    /// The text they were found in, without them and without comments. Lines stay what they were.
    pub fn hide(&self, text: &str) -> String {
        let cut = self.places.iter().map(|(place, shown)| (place.clone(), shown.as_str()));
        let comments = self.comments.iter().map(|comment| (comment.clone(), ""));
        let mut pieces: Vec<(Range<usize>, &str)> = cut.chain(comments).collect();
        pieces.sort_by_key(|(place, _)| place.start);
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (place, shown) in pieces {
            // Spans come from three parsers; one that does not fit hides the more.
            let (Some(before), true) = (text.get(at..place.start), text.is_char_boundary(place.end)) else { continue };
            out.push_str(before);
            out.push_str(shown);
            at = place.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out.lines().map(str::trim_end).fold(String::new(), |out, line| out + line + "\n")
    }

    /// The same with every byte where it was, so that places in it stay right.
    pub fn mask(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let places = self.places.iter().map(|(place, _)| place).chain(&self.comments);
        for place in places {
            for byte in bytes.iter_mut().take(place.end).skip(place.start).filter(|byte| **byte != b'\n') {
                *byte = b'*';
            }
        }
        // A character is masked whole or not at all, but for a span that ends inside one.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Another text, such as a problem that quotes a value, without them.
    pub fn scrub(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), HIDDEN))
    }

    fn hide_value(&mut self, node: &Node, part: Part) {
        match &node.value {
            Value::Text(text) => {
                let kept = match part {
                    Part::All | Part::ButFirst => 0,
                    Part::BehindHost => host_end(text),
                    Part::Query => text.find('?').map_or(text.len(), |at| at + 1),
                };
                // What is kept may be the user and its password, where a URL has them before the host.
                let (before, secret) = match (part, text.split_once("://")) {
                    (Part::BehindHost, Some((scheme, rest))) => match rest.get(..kept - scheme.len() - 3) {
                        Some(authority) => match authority.rsplit_once('@') {
                            Some((user, host)) => {
                                self.word(user);
                                (format!("{scheme}://{HIDDEN}@{host}"), &text[kept..])
                            }
                            None => (text[..kept].to_owned(), &text[kept..]),
                        },
                        None => (String::new(), text.as_str()),
                    },
                    _ => (text[..kept].to_owned(), &text[kept..]),
                };
                let whole = before == text[..kept];
                if whole && (secret.is_empty() || secret == "/") {
                    return;
                }
                self.word(secret);
                let tail = if secret.is_empty() { "" } else { HIDDEN };
                self.places.push((node.span.clone(), format!("\"{before}{tail}\"")));
            }
            Value::List(items) => {
                let skipped = usize::from(part == Part::ButFirst);
                items.iter().skip(skipped).for_each(|item| self.hide_value(item, Part::All));
            }
            Value::Table(table) => table.entries().iter().for_each(|entry| self.hide_value(&entry.node, Part::All)),
            Value::Integer(_) | Value::Float(_) | Value::Flag(_) | Value::Nothing | Value::Date => {}
        }
    }

    fn word(&mut self, word: &str) {
        if word.len() >= SHORTEST {
            self.words.push(word.to_owned());
            let escaped = word.escape_debug().to_string();
            if escaped != word {
                self.words.push(escaped);
            }
        }
    }
}

/// Where the host of a URL ends; with no host, 0.
fn host_end(url: &str) -> usize {
    let Some(start) = url.find("://").map(|at| at + 3) else { return 0 };
    url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at)
}

fn walk(node: &Node, path: &mut String, found: &mut Secrets, leaves: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Table(table) => walk_table(table, path, found, leaves),
        Value::List(items) => items.iter().for_each(|item| walk(item, path, found, leaves)),
        _ => leaves.push(node.span.clone()),
    }
}

fn walk_table(table: &Table, path: &mut String, found: &mut Secrets, leaves: &mut Vec<Range<usize>>) {
    for entry in table.entries() {
        leaves.push(entry.key_span.clone());
        let secret = SECRET.iter().find(|(table, key, _)| *table == *path && (*key == entry.key || *key == "*"));
        if let Some((_, _, part)) = secret {
            found.hide_value(&entry.node, *part);
        }
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(&entry.key);
        walk(&entry.node, path, found, leaves);
        path.truncate(length);
    }
}

/// From each `#` that is in no value and no key to the end of its line.
fn comments(text: &str, leaves: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut found, mut at, mut leaf): (Vec<Range<usize>>, _, _) = (Vec::new(), 0, 0);
    while let Some(start) = text.get(at..).and_then(|rest| rest.find('#')).map(|found| at + found) {
        while leaves.get(leaf).is_some_and(|leaf| leaf.end <= start) {
            leaf += 1;
        }
        if let Some(inside) = leaves.get(leaf).filter(|leaf| leaf.start <= start) {
            at = inside.end;
            continue;
        }
        let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        found.push(start..end);
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KEYS, Kind, Section};

    fn hidden(text: &str, format: Format) -> (Secrets, String) {
        let found = secrets(&Source { name: "test", text, format });
        let shown = found.hide(text);
        (found, shown)
    }

    /// Every place in which a secret may be written, with one in each.
    const FULL: &str = r#"# the old one was comment-s3cret
[node]
allow_commands = true  # comment-s3cret "in quotes"

[[node.hook]]
url = "https://me:user-s3cret@hooks.example/services/path-s3cret?t=query-s3cret"

[[node.hook]]
command = ["/usr/bin/page", "--token", "argument-s3cret"]

[node.traces]
endpoint = "https://collector.example:4318/v1/traces?key=trace-s3cret"

[[admin.token]]
name = "ops"
role = "operate"
sha256 = "s3cret86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f0"

[[listener]]
name = "web#1"
listen = "0.0.0.0:80"

[[listener.rule]]
host = "www.example.com"
headers = { x-origin = "condition-s3cret" }
pool = "web"
request_headers = { set = { Authorization = "set-s3cret" }, add = { X-Key = "add-s3cret" } }

[[pool]]
name = "web"
backends = ["10.0.0.11:8080"]

[[pool.check]]
path = "/health?token=check-s3cret"
headers = { Authorization = "Bearer header-s3cret" }
expect_body = { regex = "pattern-s3cret" }

[[pool.check]]
reject_body = "reject-s3cret"

[[pool.check]]
kind = "command"
command = ["/usr/lib/checks/db", "-pcommand-s3cret"]

[[pool.check]]
kind = "udp"
send = 'send-s3cret'
expect = 'expect-s3cret'

[[pool.check]]
kind = "tcp"
steps = [{ send = 'AUTH step-s3cret\r\n' }, { expect = "+OK step-s3cret" }]
"#;

    #[test]
    fn nothing_that_may_be_secret_is_shown_and_everything_else_is() {
        let (found, shown) = hidden(FULL, Format::Toml);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(!found.mask(FULL).contains("s3cret"), "{}", found.mask(FULL));
        assert_eq!(found.mask(FULL).len(), FULL.len());
        assert_eq!(shown.lines().count(), FULL.lines().count());
        for kept in [
            "url = \"https://***@hooks.example***\"",
            "command = [\"/usr/bin/page\", \"***\", \"***\"]",
            "endpoint = \"https://collector.example:4318***\"",
            "path = \"/health?***\"",
            "name = \"web#1\"",
            "allow_commands = true\n",
            "backends = [\"10.0.0.11:8080\"]",
        ] {
            assert!(shown.contains(kept), "{kept} is not in {shown}");
        }
    }

    #[test]
    fn a_sentence_that_quotes_one_is_told_without_it() {
        let (found, _) = hidden(FULL, Format::Toml);
        let told =
            found.scrub("hook 1: url is \"https://me:user-s3cret@hooks.example/services/path-s3cret?t=query-s3cret\"");
        assert!(!told.contains("s3cret"), "{told}");
        assert_eq!(found.scrub("pool \"web\" has no backend"), "pool \"web\" has no backend");
    }

    #[test]
    fn other_formats_and_broken_texts_hide_it_too() {
        let yaml = "# comment-s3cret\nnode:\n  hook:\n    - url: https://hooks.example/path-s3cret # comment-s3cret\npool:\n  - name: web\n    check:\n      headers: {Authorization: header-s3cret}\n";
        let (_, shown) = hidden(yaml, Format::Yaml);
        assert!(!shown.contains("s3cret") && shown.contains("name: web"), "{shown}");
        let json = r#"{"node": {"hook": [{"url": "https://hooks.example/path-s3cret"}]}, "pool": [{"check": {"headers": {"a": "header-s3cret"}}}]}"#;
        let (_, shown) = hidden(json, Format::Json);
        assert!(!shown.contains("s3cret") && shown.contains("https://hooks.example***"), "{shown}");
        let broken = "[[node.hook]]\nurl = \"https://hooks.example/path-s3cret\"\ntimeout = \n[[pool]\n";
        let (found, shown) = hidden(broken, Format::Toml);
        assert!(!shown.contains("s3cret") && !found.mask(broken).contains("s3cret"), "{shown}");
    }

    /// Keys that take free text and cannot hold a secret: names, addresses, paths of files, words.
    #[rustfmt::skip]
    const PUBLIC: &[(Section, &[&str])] = &[
        (Section::Top, &["node", "admin", "listener", "pool"]),
        (Section::Node, &["access_log", "cluster", "sticky_secret", "state_file", "hook", "resolver", "traces"]),
        (Section::Hook, &["on"]),
        (Section::Traces, &["service", "sample_percent"]),
        (Section::Resolver, &["servers"]),
        (Section::Admin, &["listen", "socket", "token", "certificate"]),
        (Section::AdminToken, &["name", "file"]),
        (Section::AdminCertificate, &["certificate", "key"]),
        (Section::Listener, &["name", "listen", "pool", "certificate", "redirect_to_https", "hsts", "rule", "trusted", "tls",
            "http2", "access", "limit", "tcp", "proxy_protocol", "compression"]),
        (Section::Certificate, &["certificate", "key", "ocsp"]),
        (Section::ListenerTls, &["client_ca"]),
        (Section::Access, &["allow", "deny", "allow_file", "deny_file"]),
        (Section::Limit, &["connections_per_second", "client_connections_per_second", "requests_per_second",
            "client_requests_per_second"]),
        (Section::ProxyFrom, &["from"]),
        (Section::Compression, &["codings", "types"]),
        (Section::Rule, &["name", "host", "alpn", "path", "method", "pool", "redirect", "answer", "rewrite_path",
            "request_headers", "response_headers"]),
        (Section::Redirect, &["to", "status"]),
        (Section::Answer, &["status", "body", "content_type"]),
        (Section::HeaderEdits, &["remove"]),
        (Section::Pool, &["name", "hash_on", "tls", "backends", "source", "proxy_protocol", "tcp", "sticky", "passive", "check"]),
        (Section::Backend, &["address", "name", "server_id"]),
        (Section::PoolTls, &["name", "ca", "certificate", "key"]),
        (Section::ProxyTo, &["tlvs"]),
        (Section::Sticky, &["cookie"]),
        (Section::Check, &["name", "method", "host", "expect_status", "service", "query", "expect_codes", "expect_addresses",
            "closed_port", "tls", "port", "source"]),
    ];

    #[test]
    fn of_every_key_that_takes_free_text_somebody_has_said_whether_it_may_be_secret() {
        for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::Other(_))) {
            let public = PUBLIC.iter().any(|(section, names)| *section == key.section && names.contains(&key.name));
            let table = match key.section {
                Section::Hook => "node.hook",
                Section::Traces => "node.traces",
                Section::AdminToken => "admin.token",
                Section::Rule => "listener.rule",
                Section::HeaderEdits => "listener.rule.request_headers",
                Section::Check => "pool.check",
                // All of them are below keys that are hidden whole.
                Section::CheckStep | Section::Pattern => continue,
                _ => "none",
            };
            let below = format!("{table}.{}", key.name);
            let secret = SECRET.iter().any(|(at, name, _)| *at == table && *name == key.name || *at == below);
            assert!(public != secret, "{} of {}: is it in one list of this file?", key.name, key.section.header());
        }
    }
}
