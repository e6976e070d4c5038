//! Names the first broken rule of a head, reading it byte by byte.
//!
//! `httparse` reads heads fast but is lenient about line ends and silent about positions. Whenever it
//! balks, waits for more, or accepted something our stricter look rejects, this slow reader decides.
//! It reports the first fault by position, so a head is refused with the same words however it was
//! cut into pieces, and as soon as the faulty byte is there.
//!
//! It knows syntax only. What fields mean (lengths, hosts) is judged when the head is whole.

use evenkeel_model::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Syntax(&'static str),
    TooManyFields,
}

pub const BARE_CR: &str = "carriage return without a line feed (RFC 9112 2.2)";
pub const BARE_LF: &str = "line feed without a carriage return (RFC 9112 2.2)";

type Scan = Result<Option<usize>, Fault>;

/// The first fault of a request head; `None` while there is none, whole or not.
#[cold]
pub fn request_fault(input: &[u8]) -> Option<Fault> {
    match request_line(input) {
        Ok(Some(fields_at)) => field_block(input, fields_at).err(),
        Ok(None) => None,
        Err(fault) => Some(fault),
    }
}

/// The first fault of a response head; `None` while there is none, whole or not.
#[cold]
pub fn response_fault(input: &[u8]) -> Option<Fault> {
    match status_line(input) {
        Ok(Some(fields_at)) => field_block(input, fields_at).err(),
        Ok(None) => None,
        Err(fault) => Some(fault),
    }
}

pub const fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9')
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

pub const fn is_field_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

const fn is_target(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'#'
}

fn syntax<T>(detail: &'static str) -> Result<T, Fault> {
    Err(Fault::Syntax(detail))
}

/// Position behind the first line, `None` when it is not all there.
fn request_line(input: &[u8]) -> Scan {
    let mut at = 0;
    match (input.first(), input.get(1)) {
        (None, _) | (Some(b'\r'), None) => return Ok(None),
        (Some(b'\r'), Some(b'\n')) => at = 2,
        (Some(b'\r'), Some(_)) => return syntax(BARE_CR),
        (Some(b'\n'), _) => return syntax(BARE_LF),
        (Some(0x16), _) => return syntax("tls handshake on a listener that speaks plain http"),
        (Some(_), _) => {}
    }
    let line = &input[at..];
    match line.first() {
        None => return Ok(None),
        Some(b'\r' | b'\n') => return syntax("more than one empty line before the request (RFC 9112 2.2)"),
        Some(&byte) if !is_token(byte) => return syntax("request does not start with a method (RFC 9110 9.1)"),
        Some(_) => {}
    }
    let Some(method) = line.iter().position(|&byte| !is_token(byte)) else { return Ok(None) };
    match line[method] {
        b' ' => {}
        b'\r' | b'\n' => return syntax("request line without a target (RFC 9112 3)"),
        _ => return syntax("method holds a byte that is no token character (RFC 9110 9.1)"),
    }
    let target_at = method + 1;
    let Some(target) = line[target_at..].iter().position(|&byte| !is_target(byte)) else { return Ok(None) };
    let target_end = target_at + target;
    match line[target_end] {
        b' ' if target == 0 => return syntax("more than one space between method and target (RFC 9112 3)"),
        b' ' => {}
        b'\r' | b'\n' => return syntax("request line without a version (RFC 9112 3)"),
        b'#' => return syntax("target with a fragment (RFC 9112 3.2)"),
        128.. => return syntax("target with a byte outside ascii (RFC 3986 2)"),
        _ => return syntax("target with a control byte (RFC 9112 3.2)"),
    }
    let version_at = target_end + 1;
    let Some(end) = version(line, version_at, true)? else { return Ok(None) };
    line_end(line, end, "bytes between version and line end (RFC 9112 3)").map(|end| end.map(|end| at + end))
}

fn status_line(line: &[u8]) -> Scan {
    match line.first() {
        None => return Ok(None),
        Some(0x15 | 0x16) => return syntax("the backend speaks tls, not plain http"),
        // SETTINGS, the first frame of every HTTP/2 server, is never 64 KiB long.
        Some(0) => return syntax("the backend speaks http/2 or another binary protocol"),
        Some(_) => {}
    }
    let Some(at) = version(line, 0, false)? else { return Ok(None) };
    match line.get(at) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return syntax("status line without a space behind the version (RFC 9112 4)"),
    }
    for offset in 1..=3 {
        match line.get(at + offset) {
            None => return Ok(None),
            Some(b'0'..=b'9') => {}
            Some(_) => return syntax("status is not three digits (RFC 9112 4)"),
        }
    }
    let at = at + 4;
    match line.get(at) {
        None => Ok(None),
        Some(b' ') => match line[at..].iter().position(|&byte| !is_field_value(byte)) {
            None => Ok(None),
            Some(reason) => line_end(line, at + reason, "control byte in the reason phrase (RFC 9112 4)"),
        },
        // The space before an empty reason is required, but many servers leave it out and nothing
        // can be misread without it.
        Some(_) => line_end(line, at, "status is not three digits (RFC 9112 4)"),
    }
}

/// Position behind `HTTP/1.x`.
fn version(line: &[u8], at: usize, request: bool) -> Scan {
    const NAME: &[u8] = b"HTTP/";
    for (offset, &expected) in NAME.iter().enumerate() {
        match line.get(at + offset) {
            None => return Ok(None),
            Some(&byte) if byte == expected => {}
            Some(_) if !request => return syntax("answer does not start with a status line (RFC 9112 4)"),
            Some(b' ') if offset == 0 => return syntax("more than one space between target and version (RFC 9112 3)"),
            Some(_) if line.starts_with(b"PROXY ") => {
                return syntax("proxy protocol header on a listener that does not expect one");
            }
            Some(_) => return syntax("request line does not end in an http version (RFC 9112 3)"),
        }
    }
    for (offset, allowed) in [b"1".as_slice(), b".", b"01"].into_iter().enumerate() {
        match line.get(at + NAME.len() + offset) {
            None => return Ok(None),
            Some(byte) if allowed.contains(byte) => {}
            Some(_) if line.starts_with(b"PRI * ") => {
                return syntax("http/2 preface on a listener that speaks http/1.1");
            }
            Some(_) => return syntax("http version is neither 1.0 nor 1.1"),
        }
    }
    Ok(Some(at + NAME.len() + 3))
}

/// Position behind the CRLF that must be at `at`; `otherwise` says what else stands there.
fn line_end(line: &[u8], at: usize, otherwise: &'static str) -> Scan {
    match (line.get(at), line.get(at + 1)) {
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at + 2)),
        (Some(b'\r'), Some(_)) => syntax(BARE_CR),
        (Some(b'\n'), _) => syntax(BARE_LF),
        (Some(_), _) => syntax(otherwise),
    }
}

/// Position behind the empty line that ends the fields starting at `at`.
fn field_block(input: &[u8], mut at: usize) -> Scan {
    let mut fields = 0;
    loop {
        match input.get(at) {
            None => return Ok(None),
            Some(b'\r' | b'\n') => return line_end(input, at, BARE_CR),
            Some(b' ' | b'\t') if fields == 0 => return syntax("whitespace before the first field (RFC 9112 2.2)"),
            Some(b' ' | b'\t') => return syntax("folded field line (RFC 9112 5.2)"),
            Some(b':') => return syntax("field without a name (RFC 9112 5)"),
            Some(_) => {}
        }
        if fields == limits::HEADER_FIELDS.value {
            return Err(Fault::TooManyFields);
        }
        fields += 1;
        let Some(name) = input[at..].iter().position(|&byte| !is_token(byte)) else { return Ok(None) };
        at += name;
        match input[at] {
            b':' => at += 1,
            b' ' | b'\t' => return syntax("whitespace between field name and colon (RFC 9112 5.1)"),
            b'\r' | b'\n' => return syntax("field line without a colon (RFC 9112 5)"),
            _ => return syntax("field name holds a byte that is no token character (RFC 9110 5.1)"),
        }
        let Some(value) = input[at..].iter().position(|&byte| !is_field_value(byte)) else { return Ok(None) };
        match line_end(input, at + value, "control byte in a field value (RFC 9110 5.5)")? {
            Some(end) => at = end,
            None => return Ok(None),
        }
    }
}
