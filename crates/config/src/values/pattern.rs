//! The words of patterns inside values: bytes in hex with some of them free, and regular expressions.
//!
//! An expression is compiled while its file is read, so that what is wrong with it is said at its place.

use evenkeel_health::pattern::{Byte, Pattern};
use evenkeel_model::limits;

use super::{Refusal, hex as two_digits, refuse};
use crate::problem::Quoted;

/// `00 ?? ff *`, with blanks or without.
pub(crate) fn hex(text: &str) -> Result<Vec<Byte>, Refusal> {
    const EXAMPLE: &str = "write two hex digits for a byte, ?? for any one, * for any number: \"00 ?? ff *\"";
    let mut found = Vec::with_capacity(text.len() / 2);
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (byte, used) = match (first, rest.get(..2)) {
            ('*', _) => (Byte::Run, 1),
            (_, Some("??")) => (Byte::Any, 2),
            (_, Some(pair)) => match two_digits(pair) {
                Some(byte) => (Byte::Is(byte), 2),
                None => return refuse("invalid_hex", format!("has {}, which is no byte", Quoted(pair)), EXAMPLE),
            },
            (_, None) => {
                let shown: String = rest.chars().take(2).collect();
                return refuse("invalid_hex", format!("has {}, which is no byte", Quoted(&shown)), EXAMPLE);
            }
        };
        // Two runs side by side say no more than one.
        if byte != Byte::Run || found.last() != Some(&Byte::Run) {
            found.push(byte);
        }
        rest = rest[used..].trim_start();
    }
    if found.is_empty() {
        return refuse("invalid_hex", "is empty", EXAMPLE);
    }
    let runs = found.iter().filter(|byte| **byte == Byte::Run).count();
    let most = limits::PATTERN_RUNS.value;
    if runs as u64 > most {
        let what = format!("has {runs} times \"*\", more than {most}");
        return refuse("out_of_range", what, "compare less, or write a regular expression");
    }
    Ok(found)
}

/// In the syntax of the crate `regex`, whose own words say what is wrong.
pub(crate) fn regex(text: &str, longest: u64) -> Result<Pattern, Refusal> {
    if text.is_empty() {
        return refuse("invalid_regex", "is empty", "write what the answer has, for example \"^ok\"");
    }
    if text.len() as u64 > longest {
        let what = format!("has {} bytes, more than {longest}", text.len());
        return refuse("out_of_range", what, "shorten it");
    }
    Pattern::regex(text).map_err(|why| {
        // Its errors draw the expression with a caret below, and say at the end what it points to.
        let said = why.lines().rev().find_map(|line| line.strip_prefix("error: "));
        let caret = why.lines().rev().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
        let (what, help) = match (said, caret) {
            (Some(said), Some(at)) if !text.contains('\n') => {
                (format!("at character {}: {said}", at.saturating_sub(3)), HELP)
            }
            (Some(said), _) => (said.to_owned(), HELP),
            (None, _) => ("it takes more memory than a pattern may".to_owned(), "write smaller repetitions"),
        };
        let what = format!("is {}, which is no regular expression here: {what}", Quoted(text));
        Refusal { code: "invalid_regex", what, help: help.to_owned() }
    })
}

const HELP: &str =
    "between single quotes a backslash needs no other: '^ok\\s'; [.], [(] and the like stand for themselves";

#[cfg(test)]
mod tests {
    use evenkeel_health::pattern::Covers;

    use super::*;

    #[test]
    fn hex_is_bytes_free_bytes_and_runs() {
        let bytes = [Byte::Is(0), Byte::Any, Byte::Is(0xff), Byte::Run];
        for text in ["00 ?? ff *", "00??FF*", " 00\t??ff * * "] {
            assert_eq!(hex(text).as_deref(), Ok(&bytes[..]), "{text}");
        }
        for text in ["", " ", "0", "0 0", "?", "0g", "00 ?", "00é", "é", "0x00", "+1"] {
            assert_eq!(hex(text).err().map(|refusal| refusal.code), Some("invalid_hex"), "{text}");
        }
    }

    // A pattern of bytes is compiled without a way to refuse it, so the longest that can be written have to fit.
    #[test]
    fn the_longest_patterns_of_bytes_compile_and_match() {
        let longest = limits::UDP_PAYLOAD.value as usize;
        let answer = vec![7; longest];
        for byte in [Byte::Any, Byte::Is(7)] {
            let pattern = Pattern::bytes(&vec![byte; longest], Covers::Whole);
            assert!(pattern.matches(&answer) && !pattern.matches(&answer[1..]));
        }
        let runs = "* 07 ".repeat(limits::PATTERN_RUNS.value as usize);
        let pattern = Pattern::bytes(&hex(&runs).expect("as many as may be"), Covers::Whole);
        assert!(pattern.matches(&answer) && !pattern.matches(&answer[..4]));
        assert_eq!(hex(&format!("{runs} *")).err().map(|refusal| refusal.code), Some("out_of_range"));
    }

    #[test]
    fn a_regular_expression_is_refused_in_the_words_of_its_engine() {
        assert!(regex("^(ok|ready)$", 100).is_ok());
        for (text, words) in [
            ("a(", "at character 2: unclosed group"),
            ("a**)", "unopened group"),
            ("[z-a]", "invalid character class range"),
            ("a{5", "unclosed counted repetition"),
            (r"\q", "unrecognized escape sequence"),
            ("(?=a)", "look-around"),
            ("", "is empty"),
            ("é(", "at character 2: unclosed group"),
            ("(\n", "unclosed group"),
            ("(?:a{1000}){1000}", "more memory"),
            ("^(ok", "at character 2: unclosed group"),
        ] {
            let refusal = regex(text, 100).expect_err(text);
            assert!(refusal.what.contains(words), "{text}: {}", refusal.what);
        }
        assert_eq!(regex("aaa", 2).err().map(|refusal| refusal.code), Some("out_of_range"));
    }
}
