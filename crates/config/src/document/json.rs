//! Strict JSON (RFC 8259) into the document, with places.
//!
//! Written by hand because `serde_json` keeps no places and takes the last of two equal keys
//! silently. A test compares what is accepted with `serde_json`, so that strict means the same.

use std::ops::Range;

use super::{DEPTH, Entry, Node, Table, Value};
use crate::problem::{Note, Notes, Quoted};

pub(super) fn parse(text: &str, notes: &mut Notes) -> Node {
    let mut reader = Reader { text, at: 0, notes };
    let root = reader.document();
    root.unwrap_or_else(|broken| {
        reader.notes.add(Note::error("syntax", broken.span, format!("this is not JSON: {}", broken.what)));
        Node { value: Value::Table(Table::default()), span: 0..0 }
    })
}

/// The first thing that is not JSON. There is no second: after it nothing can be trusted.
struct Broken {
    span: Range<usize>,
    what: String,
}

struct Reader<'a, 'n> {
    text: &'a str,
    at: usize,
    notes: &'n mut Notes,
}

impl Reader<'_, '_> {
    fn document(&mut self) -> Result<Node, Broken> {
        let root = self.value(0)?;
        self.blank();
        match self.peek() {
            None => Ok(root),
            Some(_) => Err(self.broken("expected nothing after the first value")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        self.blank();
        let start = self.at;
        if depth > DEPTH {
            return Err(self.broken(&format!("values are nested deeper than {DEPTH} levels")));
        }
        let value = match self.peek() {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Flag(true))?,
            Some(b'f') => self.word("false", Value::Flag(false))?,
            Some(b'n') => self.word("null", Value::Nothing)?,
            _ => return Err(self.broken("expected a value")),
        };
        Ok(Node { value, span: start..self.at })
    }

    fn table(&mut self, depth: usize) -> Result<Value, Broken> {
        self.at += 1;
        let mut table = Table::default();
        self.blank();
        if self.take(b'}') {
            return Ok(Value::Table(table));
        }
        loop {
            self.blank();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.broken("expected a key in double quotes"));
            }
            let key = self.string()?;
            let key_span = start..self.at;
            self.blank();
            if !self.take(b':') {
                return Err(self.broken("expected \":\" after the key"));
            }
            let node = self.value(depth + 1)?;
            if let Some(first) = table.get(&key) {
                self.notes.add(
                    Note::error("syntax", key_span, format!("key {} is here twice", Quoted(&key)))
                        .related(first.key_span.clone(), "the first one")
                        .help("keep one of them"),
                );
            } else {
                table.add(Entry { key, key_span, node });
            }
            self.blank();
            if self.take(b'}') {
                return Ok(Value::Table(table));
            }
            if !self.take(b',') {
                return Err(self.broken("expected \",\" or \"}\""));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Broken> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return Err(self.broken("expected \",\" or \"]\""));
            }
        }
    }

    fn string(&mut self) -> Result<String, Broken> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(character) = self.text[self.at..].chars().next() else {
                return Err(Broken { span: start..start + 1, what: "the string has no end".into() });
            };
            match character {
                '"' => {
                    self.at += 1;
                    return Ok(out);
                }
                '\\' => out.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(self.broken("a string cannot hold a raw control character")),
                _ => {
                    self.at += character.len_utf8();
                    out.push(character);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Broken> {
        let start = self.at;
        self.at += 1;
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => {
                self.at = start;
                return Err(self.broken("JSON has no such escape"));
            }
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self, start: usize) -> Result<char, Broken> {
        self.at += 1;
        let first = self.hex4(start)?;
        let code = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                let second = self.hex4(start)?;
                // A pair that does not fit gives a number no character has, which is refused below.
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
                low.map_or(u32::MAX, |low| 0x10000 + ((first - 0xd800) << 10) + low)
            }
            code => code,
        };
        char::from_u32(code)
            .ok_or_else(|| Broken { span: start..self.at, what: "half of a surrogate pair is not a character".into() })
    }

    fn hex4(&mut self, start: usize) -> Result<u32, Broken> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(digits) = digits else {
            return Err(Broken { span: start..self.at, what: "expected four hex digits after \"\\u\"".into() });
        };
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16).unwrap_or(u32::MAX))
    }

    fn number(&mut self) -> Result<Value, Broken> {
        let start = self.at;
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.broken("a number cannot begin with 0"));
            }
        } else {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        Ok(if whole { Value::Integer(text.parse().ok()) } else { Value::Float(text.parse().unwrap_or(f64::NAN)) })
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.broken("expected a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Broken> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.broken("expected a value; strings stand in double quotes"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn broken(&self, what: &str) -> Broken {
        let rest = &self.text[self.at..];
        match rest.chars().next() {
            Some(next) => Broken {
                span: self.at..self.at + next.len_utf8(),
                what: format!("{what}, but {} is here", Quoted(next.encode_utf8(&mut [0; 4]))),
            },
            None => Broken { span: self.at..self.at, what: format!("{what}, but the file ends here") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> bool {
        let mut notes = Notes::default();
        parse(text, &mut notes);
        !notes.failed()
    }

    #[test]
    fn strict_means_what_serde_json_calls_strict() {
        let texts = [
            "{}",
            "{\"a\":[1,-0,0.5,1e9,-1.5E-3,true,false,null,\"\\u00e9\\ud83d\\ude00\\/\"]}",
            " \t\r\n[ ] ",
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "\"\\x41\"",
            "\"\\ud83d\"",
            "\"\\ud83dx\"",
            "\"\\ude00\"",
            "\"\\u12g4\"",
            "\"\t\"",
            "\"open",
            "tru",
            "nul",
            "NaN",
            "// no\n{}",
            "{} {}",
            "\u{feff}{}",
            "\u{a0}{}",
            "[1 2]",
            "{\"a\" 1}",
            "\"\\",
            "\"\\u12",
        ];
        for text in texts {
            let oracle = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(accepted(text), oracle, "{text:?}");
        }
    }

    #[test]
    fn a_pair_of_surrogates_is_one_character() {
        let mut notes = Notes::default();
        let node = parse("\"\\ud83d\\ude00\"", &mut notes);
        assert_eq!(node.value, Value::Text("\u{1f600}".into()));
    }

    #[test]
    fn a_key_written_twice_is_refused() {
        assert!(!accepted("{\"a\":1,\"a\":2}"));
    }

    #[test]
    fn hostile_depth_is_refused_not_recursed_into() {
        assert!(!accepted(&"[".repeat(200_000)));
    }
}
