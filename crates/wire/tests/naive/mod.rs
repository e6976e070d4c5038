//! A second reader of heads, slow and plain, written from RFC 9112 without a look at the first.
//!
//! It cuts heads into lines of text and looks at each with string functions. It is used on accepted heads only:
//! whatever the crate lets through must be good here too and end in the same framing.

#![allow(dead_code)]

use evenkeel_wire::Framing;

#[derive(Debug)]
pub struct Reading {
    pub start: String,
    /// Names in lower case, values trimmed.
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
    pub length: usize,
}

impl Reading {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Latin-1, so that every byte is one character.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn lines(input: &[u8]) -> Result<(Vec<String>, usize), String> {
    let all = text(input);
    let end = all.find("\r\n\r\n").ok_or("no empty line")?;
    let lines: Vec<String> = all[..end].split("\r\n").map(str::to_owned).collect();
    for line in &lines {
        if line.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f') {
            return Err(format!("control character in {line:?}"));
        }
    }
    // One character is one byte of the input, but not of `all`.
    Ok((lines, all[..end].chars().count() + 4))
}

fn fields(lines: &[String]) -> Result<Vec<(String, String)>, String> {
    const MARKS: &str = "!#$%&'*+-.^_`|~";
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c)) {
            return Err(format!("bad name in {line:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(fields)
}

/// `None` when neither length is given.
fn declared(version: &str, fields: &[(String, String)]) -> Result<Option<Framing>, String> {
    let all = |wanted: &str| -> Vec<&String> { fields.iter().filter(|(n, _)| n == wanted).map(|(_, v)| v).collect() };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.chars().all(|c| c.is_ascii_digit()) => {
            length.parse().map(|length| Some(Framing::Length(length))).map_err(|error| error.to_string())
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") && version == "HTTP/1.1" => Ok(Some(Framing::Chunked)),
        _ => Err(format!("lengths {lengths:?}, codings {codings:?} in {version}")),
    }
}

pub fn request(input: &[u8]) -> Result<Reading, String> {
    let skipped = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let (lines, length) = lines(&input[skipped..])?;
    let start = lines[0].clone();
    let words: Vec<&str> = start.split(' ').collect();
    let [_method, target, version] = words[..] else { return Err(format!("request line {start:?}")) };
    if !["HTTP/1.0", "HTTP/1.1"].contains(&version) || target.is_empty() || !target.is_ascii() {
        return Err(format!("request line {start:?}"));
    }
    let fields = fields(&lines[1..])?;
    let hosts = fields.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 || hosts == 0 && version == "HTTP/1.1" {
        return Err(format!("{hosts} hosts"));
    }
    let framing = declared(version, &fields)?.unwrap_or(Framing::Empty);
    Ok(Reading { start, fields, framing, length: skipped + length })
}

pub fn response(input: &[u8], head: bool) -> Result<Reading, String> {
    let (lines, length) = lines(input)?;
    let start = lines[0].clone();
    let mut words = start.splitn(3, ' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["HTTP/1.0", "HTTP/1.1"].contains(&version) || status.len() != 3 {
        return Err(format!("status line {start:?}"));
    }
    let status: u16 = status.parse().map_err(|_| format!("status line {start:?}"))?;
    let fields = fields(&lines[1..])?;
    let declared = declared(version, &fields)?;
    let bodiless = head || status / 100 == 1 || status == 204 || status == 304;
    let framing = if bodiless { Framing::Empty } else { declared.unwrap_or(Framing::UntilClose) };
    Ok(Reading { start, fields, framing, length })
}
