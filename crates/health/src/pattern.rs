//! What an answer has to look like: text, bytes with wildcards, or a regular expression, all compiled to one thing.
//!
//! The engine runs in time linear in the answer whatever the pattern (crate `regex`), so a hostile backend cannot make
//! a probe expensive. Two patterns are equal when they were made from the same words.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

#[derive(Clone, Debug)]
pub struct Pattern {
    /// As evidence and status show it.
    shown: Arc<str>,
    regex: Regex,
}

/// How much of the answer a pattern has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Covers {
    /// All of it, as with a datagram.
    Whole,
    /// Any part of it, as in a page or a stream.
    Part,
}

/// One byte of a pattern written in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Byte {
    Is(u8),
    /// Any one byte, written `??`.
    Any,
    /// Any number of bytes, written `*`.
    Run,
}

impl Pattern {
    /// These bytes and no others.
    pub fn literal(literal: &[u8], covers: Covers) -> Self {
        let bytes: Vec<Byte> = literal.iter().copied().map(Byte::Is).collect();
        Pattern::made(format!("\"{}\"", literal.escape_ascii()), &source(&bytes), covers)
    }

    /// Bytes, some of them free.
    pub fn bytes(bytes: &[Byte], covers: Covers) -> Self {
        let mut shown = String::new();
        for byte in bytes {
            let _ = match byte {
                Byte::Is(byte) => write!(shown, "{byte:02x}"),
                Byte::Any => write!(shown, "??"),
                Byte::Run => write!(shown, "*"),
            };
        }
        Pattern::made(shown, &source(bytes), covers)
    }

    /// A regular expression as the operator wrote it, in the syntax of the crate `regex`. `^` and `$` are the beginning and
    /// the end of a line, whether LF or CRLF ends it: what is probed with expressions speaks in lines, and a page that
    /// ends with a line feed should match `^ok$`. `\A` and `\z` are those of the whole answer.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn regex(written: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(written).multi_line(true).crlf(true).size_limit(SIZE_LIMIT).build();
        let regex = regex.map_err(|error| error.to_string())?;
        Ok(Pattern { shown: format!("/{written}/").into(), regex })
    }

    pub fn matches(&self, answer: &[u8]) -> bool {
        self.regex.is_match(answer)
    }

    /// Where the first match from `start` on lies. What is in front of `start` is seen by `^` and its like.
    pub fn find(&self, answer: &[u8], start: usize) -> Option<Range<usize>> {
        self.regex.find_at(answer, start).map(|found| found.range())
    }

    /// As evidence shows it.
    pub fn shown(&self) -> Arc<str> {
        Arc::clone(&self.shown)
    }

    fn made(shown: String, source: &str, covers: Covers) -> Self {
        let source = match covers {
            Covers::Whole => format!("^(?:{source})$"),
            Covers::Part => source.to_owned(),
        };
        let built = RegexBuilder::new(&source).unicode(false).dot_matches_new_line(true).size_limit(SIZE_LIMIT).build();
        // Made of escaped bytes and dots only; config bounds their number far below the size limit.
        let regex = built.expect("escaped bytes are a regular expression");
        Pattern { shown: shown.into(), regex }
    }
}

/// Memory a compiled pattern may take. A datagram's worth of escaped bytes needs less.
const SIZE_LIMIT: usize = 16 * 1024 * 1024;

fn source(bytes: &[Byte]) -> String {
    let mut source = String::new();
    for byte in bytes {
        let _ = match byte {
            Byte::Is(byte) => write!(source, "\\x{byte:02x}"),
            Byte::Any => write!(source, "."),
            Byte::Run => write!(source, ".*?"),
        };
    }
    source
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.shown == other.shown
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.regex.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_pattern_means_what_it_says() {
        let is = |bytes: &[u8]| bytes.iter().copied().map(Byte::Is).collect::<Vec<_>>();
        let version = [&is(b"\x00\xff")[..], &[Byte::Any], &is(b"\n")[..]].concat();
        let regex = |written| Pattern::regex(written).expect("valid");
        let table: [(Pattern, &[u8], bool); 16] = [
            (Pattern::literal(b"pong", Covers::Whole), b"pong", true),
            (Pattern::literal(b"pong", Covers::Whole), b"pong\n", false),
            (Pattern::literal(b"pong", Covers::Part), b"ping-pong\n", true),
            (Pattern::literal(b"a.c", Covers::Part), b"abc", false),
            (Pattern::literal(b"", Covers::Whole), b"", true),
            (Pattern::literal(b"", Covers::Whole), b"x", false),
            (Pattern::bytes(&version, Covers::Whole), b"\x00\xff\n\n", true),
            (Pattern::bytes(&version, Covers::Whole), b"\x00\xff\xfe\n", true),
            (Pattern::bytes(&version, Covers::Whole), b"\x00\xff\n", false),
            (Pattern::bytes(&[Byte::Run, Byte::Is(b'z')], Covers::Whole), b"\xffa\nz", true),
            (regex("^ok|ready$"), b"not ready", true),
            (regex("^ok|ready$"), b"not ready yet", false),
            (regex("^250 OK$"), b"220 hello\r\n250 OK\r\n", true),
            (regex("^OK$"), b"all is\nOK\n", true),
            (regex(r"\AOK\z"), b"OK\n", false),
            (regex("^OK$"), b"NOT OK\n", false),
        ];
        for (pattern, answer, expected) in table {
            assert_eq!(pattern.matches(answer), expected, "{pattern} against {}", answer.escape_ascii());
        }
    }

    #[test]
    fn a_search_that_begins_in_mid_line_knows_so() {
        let pattern = Pattern::regex("^221").expect("valid");
        assert_eq!(pattern.find(b"220 221 there\r\n", 4), None);
        assert_eq!(pattern.find(b"220 221 there\r\n221 bye\r\n", 4), Some(15..18));
    }

    #[test]
    fn a_pattern_shows_itself_as_it_was_meant() {
        assert_eq!(Pattern::literal(b"a\n", Covers::Part).to_string(), "\"a\\n\"");
        let bytes = [Byte::Is(0xde), Byte::Any, Byte::Run];
        assert_eq!(Pattern::bytes(&bytes, Covers::Whole).to_string(), "de??*");
        assert_eq!(Pattern::regex("a+").expect("valid").to_string(), "/a+/");
        assert!(Pattern::regex("a(").expect_err("unclosed").contains("unclosed group"));
    }

    #[test]
    fn what_must_cover_all_differs_from_what_may_lie_inside() {
        assert_ne!(Pattern::literal(b"a", Covers::Whole), Pattern::literal(b"a", Covers::Part));
        assert_eq!(Pattern::literal(b"a", Covers::Whole), Pattern::literal(b"a", Covers::Whole));
    }
}
