//! Makes what a command said fit to be shown: its first lines, as one line, with nothing in it that could pass for ours.
//!
//! Pure. What stands in a log line or on a page must neither break it nor turn text around it, so everything that is not
//! printable is escaped, and the quote and the backslash with it.

use std::sync::Arc;

use evenkeel_model::limits;

const LINES: usize = limits::COMMAND_LINES.value as usize;
const CHARACTERS: usize = limits::COMMAND_EVIDENCE.value as usize;

/// The first lines that are not empty, joined by ` | `.
pub fn evidence(output: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(LINES).collect();
    let mut shown = String::new();
    let mut length = 0;
    for character in lines.join(" | ").chars() {
        let escaped: String = match character {
            '\'' => "'".to_owned(),
            other => other.escape_debug().collect(),
        };
        length += escaped.chars().count();
        if length > CHARACTERS {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_shown_and_nothing_in_them_acts() {
        let table: [(&[u8], &str); 9] = [
            (b"", ""),
            (b"\n \n\t\n", ""),
            (b"DISK OK\n", "DISK OK"),
            (b"one\r\n\n two\nthree\nfour\n", "one | two | three"),
            (b"it's \"quoted\"", "it's \\\"quoted\\\""),
            (b"\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            (b"bad \xff byte", "bad \u{fffd} byte"),
            ("übel".as_bytes(), "übel"),
            // Turns the direction of what follows.
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
        ];
        for (output, expected) in table {
            assert_eq!(&*evidence(output), expected, "{output:?}");
        }
    }

    #[test]
    fn long_output_is_cut_and_an_escape_is_never_cut_in_half() {
        let long = evidence(&vec![b'x'; 5000]);
        assert_eq!(long.chars().count(), CHARACTERS + 1);
        assert!(long.ends_with("x…"));
        let bells = evidence(&vec![7; 5000]);
        assert!(bells.ends_with("\\u{7}…"), "{bells}");
        assert!(bells.chars().count() <= CHARACTERS + 1);
    }
}
