//! A config with its secrets taken out, in whichever of its three formats, and whether it has errors or not.
//!
//! A scan for keys: behind one whose value may be secret every text goes, to the end of its table, list or block. Names
//! stay, so that a reader sees that a header is sent, and not which word it carries.

use super::{REMOVED, text};

/// Keys under which nothing is shown.
const SECRET: &[&str] = &[
    "url",
    "headers",
    "request_headers",
    "response_headers",
    "send",
    "sha256",
    "set",
    "add",
    "secret",
    "token",
    "password",
];
/// Keys of which the first text is shown: the program, without its arguments.
const FIRST_SHOWN: &[&str] = &["command"];

/// TOML, YAML or JSON.
pub fn config(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    // Set while everything below a `[table]` of headers is secret.
    let mut in_secret_table = false;
    let mut rest = source;
    while !rest.is_empty() {
        let line = first_line(rest);
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') && !trimmed.contains('=') {
            let name = trimmed.trim_matches(|c: char| "[] \t\r\n".contains(c));
            in_secret_table = name.split('.').any(|part| is(SECRET, part) && part != "token");
        } else if in_secret_table && let Some(value) = value_of(trimmed) {
            let value = line.len() - trimmed.len() + value;
            out.push_str(&line[..value]);
            rest = secret_value(&mut out, &rest[value..], line, false);
            rest = behind(&mut out, rest);
            continue;
        }
        rest = behind(&mut out, rest);
    }
    text(&out)
}

/// Puts out what is left of a line, and of the values that begin in it.
fn behind<'s>(out: &mut String, mut rest: &'s str) -> &'s str {
    loop {
        let line = first_line(rest);
        let Some(key) = secret_key(line) else {
            out.push_str(line);
            return &rest[line.len()..];
        };
        out.push_str(&line[..key.value]);
        let block = line[key.value..].trim();
        if block.is_empty() || block.starts_with(['|', '>']) {
            out.push_str(&line[key.value..]);
            return put_block(out, &rest[line.len()..], line.len() - line.trim_start().len());
        }
        rest = secret_value(out, &rest[key.value..], line, key.first_shown);
    }
}

/// YAML: the value is the block below, which is indented deeper; a list may begin where its key does.
fn put_block<'s>(out: &mut String, mut rest: &'s str, indent: usize) -> &'s str {
    while !rest.is_empty() {
        let line = first_line(rest);
        let depth = line.len() - line.trim_start().len();
        let item = depth == indent && line.trim_start().starts_with("- ");
        if depth <= indent && !item && !line.trim().is_empty() {
            break;
        }
        out.push_str(&block_line(line));
        rest = &rest[line.len()..];
    }
    rest
}

/// Puts out a value that `rest` begins with, without its texts, and gives what is behind it.
fn secret_value<'s>(out: &mut String, rest: &'s str, line: &str, first_shown: bool) -> &'s str {
    let end = value_end(rest, line);
    out.push_str(&without_texts(&rest[..end], first_shown));
    &rest[end..]
}

fn first_line(rest: &str) -> &str {
    rest.find('\n').map_or(rest, |end| &rest[..=end])
}

/// Where a value ends that begins behind its `=` or `:`.
fn value_end(rest: &str, line: &str) -> usize {
    let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let value = &rest[spaces..];
    let length = match value.chars().next() {
        Some('"' | '\'') => text_end(value).unwrap_or_else(|| first_line(value).len()),
        Some('{' | '[') => balanced_end(value),
        // A plain word of YAML goes on to the end of its line, commas and all; others end where the next key may begin.
        _ if line.contains('{') => value.find([',', '}', ']', '\n']).unwrap_or(value.len()),
        _ => value.find('\n').unwrap_or(value.len()),
    };
    spaces + length
}

struct SecretKey {
    /// Where its value begins.
    value: usize,
    first_shown: bool,
}

/// The first secret key of a line, wherever it stands in it.
fn secret_key(line: &str) -> Option<SecretKey> {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        // The value of a harmless key may hold the word.
        let begins = at == 0 || !is_word(bytes[at - 1]);
        if begins && is_word(bytes[at]) {
            let end = bytes[at..].iter().position(|byte| !is_word(*byte)).map_or(bytes.len(), |length| at + length);
            let word = &line[at..end];
            let rest = line[end..].trim_start_matches(['"', '\'', ' ', '\t']);
            let first_shown = is(FIRST_SHOWN, word);
            if (first_shown || is(SECRET, word)) && rest.starts_with(['=', ':']) {
                let value = line.len() - rest.len() + 1;
                return Some(SecretKey { value, first_shown });
            }
            at = end;
        } else if bytes[at] == b'#' {
            break;
        } else if let Some(end) = harmless_text(&line[at..]) {
            at += end;
        } else {
            at += 1;
        }
    }
    None
}

/// The length of a text that is no name: what looks like a comment or a key in it is neither.
fn harmless_text(rest: &str) -> Option<usize> {
    let end = rest.starts_with(['"', '\'']).then(|| text_end(rest))??;
    (!rest[end..].trim_start().starts_with(['=', ':'])).then_some(end)
}

fn is(list: &[&str], word: &str) -> bool {
    let word = word.trim_matches(|c: char| c == '"' || c == '\'');
    list.iter().any(|known| known.eq_ignore_ascii_case(word))
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Where the value of `key = value` begins.
fn value_of(line: &str) -> Option<usize> {
    if line.starts_with('#') { None } else { line.find('=').map(|at| at + 1) }
}

/// Where the bracket that `value` begins with is closed again; the end of everything where it is not.
fn balanced_end(value: &str) -> usize {
    let mut depth = 0_i32;
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' | '\'' => {
                rest = &rest[text_end(rest).unwrap_or(rest.len())..];
                continue;
            }
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '#' => {
                rest = rest.find('\n').map_or("", |end| &rest[end..]);
                continue;
            }
            _ => {}
        }
        rest = &rest[first.len_utf8()..];
        if depth <= 0 {
            break;
        }
    }
    value.len() - rest.len()
}

/// Where the text ends that `rest` begins with, quotes included. `None`: not in here.
fn text_end(rest: &str) -> Option<usize> {
    for long in ["\"\"\"", "'''"] {
        if rest.starts_with(long) {
            return rest[3..].find(long).map(|end| end + 6);
        }
    }
    let quote = rest.chars().next()?;
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            '\n' => return None,
            letter if letter == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A value without its texts and bare words; names of inline tables stay.
fn without_texts(value: &str, first_shown: bool) -> String {
    let mut out = String::new();
    let mut rest = value;
    let mut shown = !first_shown;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' | '\'' => {
                let end = text_end(rest).unwrap_or(rest.len());
                let is_name = rest[end..].trim_start().starts_with(['=', ':']);
                if is_name || !shown {
                    out.push_str(&rest[..end]);
                    shown = true;
                } else {
                    out.push_str(&format!("\"{REMOVED}\""));
                }
                rest = &rest[end..];
            }
            '#' => {
                let end = rest.find('\n').unwrap_or(rest.len());
                rest = &rest[end..];
            }
            '{' | '}' | '[' | ']' | ',' | '=' | ':' | ' ' | '\t' | '\r' | '\n' => {
                out.push(first);
                rest = &rest[1..];
            }
            _ => {
                let end = rest.find(['{', '}', '[', ']', ',', '=', '\n']).unwrap_or(rest.len());
                let is_name = rest[end..].starts_with('=');
                out.push_str(if is_name { &rest[..end] } else { REMOVED });
                rest = &rest[end..];
            }
        }
    }
    out
}

/// A line of a YAML block under a secret key.
fn block_line(line: &str) -> String {
    let trimmed = line.trim_start();
    if trimmed.trim().is_empty() {
        return line.to_owned();
    }
    let indent = &line[..line.len() - trimmed.len()];
    match trimmed.split_once(": ") {
        Some((name, _)) => format!("{indent}{name}: {REMOVED}\n"),
        None if trimmed.trim_end().ends_with(':') => line.to_owned(),
        None if trimmed.starts_with("- ") => format!("{indent}- {REMOVED}\n"),
        None => format!("{indent}{REMOVED}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "s3cr3t";

    #[test]
    fn secrets_are_taken_out_of_toml_and_the_rest_stays() {
        let source = format!(
            r#"[node]
sticky_secret = "/etc/evenkeel/sticky.key"
[[node.hook]]
url = "https://hooks.example/services/{S}"
[[node.hook]]
command = ["/usr/bin/page", "--key", "{S}"]
[[admin.token]]
name = "ops"
sha256 = "{S}"
[[listener]]
name = "web"
listen = "0.0.0.0:80"
[[listener.rule]]
headers = {{ "x-door" = "{S}", x-debug = true }}
pool = "web"
request_headers = {{ set = {{ "X-Key" = "{S}" }}, remove = ["Server"] }}
[listener.rule.response_headers]
set = {{ "X-Key" = '{S}' }}
[[pool]]
name = "web"
backends = ["10.0.0.1:80"]
[pool.check]
path = "/health"
headers = {{ Authorization = "Bearer {S}",
  X-More = """a
{S}""" }}
timeout = "3s"
[pool.check.headers]
Cookie = "{S}"
"X-Two" = '{S}'
[[node.hook]]
on = ["a # b"]
hook = {{ name = "a # b", url = "https://h.example/{S}" }}
[[pool.check]]
steps = [ {{ send = 'AUTH {S}\r\n' }}, {{ expect = "+OK" }} ]
"#
        );
        let shown = config(&source);
        assert!(!shown.contains(S), "{shown}");
        for kept in [
            "name = \"ops\"",
            "\"/usr/bin/page\"",
            "listen = \"0.0.0.0:80\"",
            "backends = [\"10.0.0.1:80\"]",
            "path = \"/health\"",
            "timeout = \"3s\"",
            "Authorization",
            "x-door",
            "pool = \"web\"",
        ] {
            assert!(shown.contains(kept), "{kept} is missing in:\n{shown}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_yaml_and_json() {
        let yaml = format!(
            "node:\n  hook:\n    - url: https://h.example/{S}\n    - command:\n        - /usr/bin/page\n        - {S}\npool:\n  - name: web\n    check:\n      path: /health\n      headers:\n        Authorization: Bearer {S}\n        X-Two: {S}\n      timeout: 3s\n"
        );
        let json = format!(
            "{{\"node\":{{\"hook\":[{{\"url\":\"https://h.example/{S}\"}}]}},\n \"pool\":[{{\"name\":\"web\",\"check\":{{\"headers\":{{\"Authorization\":\"{S}\"}},\"path\":\"/health\"}}}}]}}"
        );
        for (source, kept) in [
            (yaml, ["path: /health", "timeout: 3s", "name: web"]),
            (json, ["\"path\":\"/health\"", "\"name\":\"web\"", "\"Authorization\""]),
        ] {
            let shown = config(&source);
            assert!(!shown.contains(S), "{shown}");
            for kept in kept {
                assert!(shown.contains(kept), "{kept} is missing in:\n{shown}");
            }
        }
    }

    #[test]
    fn broken_configs_are_shown_too_and_end() {
        for source in
            ["headers = {", "url = \"", "send = '''x", "headers:", "[", "]", "a = \"\\", "headers = { \u{e9}", ""]
        {
            assert!(config(source).len() <= source.len() + 40, "{source}");
        }
    }
}
