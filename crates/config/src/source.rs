//! The text of a config and where things are in it.
//!
//! Everything downstream speaks of byte spans; a span becomes line and column here, once, when a
//! problem is handed out.

use std::ops::Range;

/// How a config is written. All three are read into the same document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    /// By the end of the name; TOML when it says nothing.
    pub fn of_path(path: &str) -> Self {
        let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref() {
            Some("yaml" | "yml") => Format::Yaml,
            Some("json") => Format::Json,
            _ => Format::Toml,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Format::Toml => "toml",
            Format::Yaml => "yaml",
            Format::Json => "json",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As problems name it, usually the path.
    pub name: &'a str,
    pub text: &'a str,
    pub format: Format,
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// Bytes of the text, on character boundaries and inside it.
    pub span: Range<usize>,
}

/// Byte offsets at which lines begin, so that a place costs a binary search.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Spans come from three parsers; whatever they claim, the place lies inside the text.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let start = floor(self.text, span.start);
        let end = floor(self.text, span.end.max(start));
        let line = self.starts.partition_point(|&begin| begin <= start);
        let column = self.text[self.starts[line - 1]..start].chars().count() + 1;
        Place { line, column, span: start..end }
    }

    /// The line without its break, and the byte at which it begins.
    pub(crate) fn line(&self, number: usize) -> (&'a str, usize) {
        let start = self.starts[number - 1];
        let end = self.starts.get(number).map_or(self.text.len(), |&next| next - 1);
        let line = &self.text[start..end];
        (line.strip_suffix('\r').unwrap_or(line), start)
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let lines = Lines::new("a\n名 = 1\r\nlast");
        let place = lines.place(6..7);
        assert_eq!((place.line, place.column), (2, 3));
        assert_eq!(lines.line(2), ("名 = 1", 2));
        assert_eq!(lines.line(3), ("last", 11));
    }

    #[test]
    fn a_span_behind_the_end_or_inside_a_character_is_pulled_back() {
        let lines = Lines::new("ü");
        assert_eq!(lines.place(1..99).span, 0..2);
        assert_eq!(Lines::new("").place(5..9), Place { line: 1, column: 1, span: 0..0 });
    }

    #[test]
    fn the_name_decides_the_format() {
        for (path, format) in [
            ("/etc/evenkeel/evenkeel.toml", Format::Toml),
            ("a.yml", Format::Yaml),
            ("a.YAML", Format::Yaml),
            ("a.json", Format::Json),
            ("-", Format::Toml),
        ] {
            assert_eq!(Format::of_path(path), format, "{path}");
        }
    }
}
