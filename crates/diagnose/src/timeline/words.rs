//! Numbers and foreign bytes as people read them.
//!
//! What a client chose is escaped here and not by whoever prints it, because one place that forgets is enough for a request to
//! write on an operator's terminal.

use std::fmt::Write;
use std::time::Duration;

/// With as many digits as help: `640 µs`, `12.3 ms`, `1.204 s`, `3 m 20 s`, `2 h 5 m`.
pub fn span(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
        100_000..1_000_000 => format!("{} ms", micros / 1000),
        1_000_000..60_000_000 => format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000),
        60_000_000..3_600_000_000 => format!("{} m {} s", micros / 60_000_000, micros / 1_000_000 % 60),
        3_600_000_000..86_400_000_000 => format!("{} h {} m", micros / 3_600_000_000, micros / 60_000_000 % 60),
        _ => format!("{} d {} h", micros / 86_400_000_000, micros / 3_600_000_000 % 24),
    }
}

/// As a config writes a duration.
pub(super) fn setting(value: Duration) -> String {
    let millis = value.as_millis();
    match (millis % 1000, millis / 1000) {
        (0, seconds) if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (0, seconds) if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (0, seconds) => format!("{seconds}s"),
        (_, _) => format!("{millis}ms"),
    }
}

/// Bytes that somebody else chose, for a terminal: nothing in them can move the cursor or hide a part of the line.
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let mut text = String::new();
    for piece in bytes[..bytes.len().min(MOST)].utf8_chunks() {
        for character in piece.valid().chars() {
            if matches!(character, '"' | '\'') {
                text.push(character);
            } else {
                text.extend(character.escape_debug());
            }
        }
        for byte in piece.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if bytes.len() > MOST {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_digits_that_help() {
        let table = [
            (0, "0 µs"),
            (640, "640 µs"),
            (12_345, "12.3 ms"),
            (345_600, "345 ms"),
            (1_204_000, "1.204 s"),
            (200_000_000, "3 m 20 s"),
            (7_500_000_000, "2 h 5 m"),
            (180_000_000_000, "2 d 2 h"),
        ];
        for (micros, expected) in table {
            assert_eq!(span(Duration::from_micros(micros)), expected);
        }
        for (millis, expected) in
            [(250, "250ms"), (1000, "1s"), (1500, "1500ms"), (60_000, "1m"), (7_200_000, "2h"), (0, "0s")]
        {
            assert_eq!(setting(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn foreign_bytes_cannot_reach_the_terminal() {
        assert_eq!(shown(b"/a?b=\"c\""), "/a?b=\"c\"");
        assert_eq!(shown(b"/\x1b[2J\r\n\x07\xff\x00"), "/\\u{1b}[2J\\r\\n\\u{7}\\xff\\0");
        assert_eq!(shown("/\u{202e}gpj.exe\u{2066}".as_bytes()), "/\\u{202e}gpj.exe\\u{2066}");
        assert_eq!(shown("/größe".as_bytes()), "/größe");
        assert_eq!(shown(&[b'a'; 400]).chars().count(), 301);
        // Cut in the middle of a character.
        assert!(shown("ü".repeat(200).as_bytes()).ends_with('…'));
        let mut odd = b"a".to_vec();
        odd.extend("ü".repeat(200).bytes());
        assert!(shown(&odd).ends_with("\\xc3…"));
    }
}
