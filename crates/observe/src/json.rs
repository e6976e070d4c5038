//! Writes JSON into a byte buffer without an intermediate tree.
//!
//! The access log writes a line per request, so this counts in the CPU figure of every request; a
//! general serializer costs several times as much. It knows one object level at a time and no more.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// An open JSON object. Close it with [`Json::end`].
pub struct Json<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Json<'a> {
    pub fn object(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Json { out, first: true }
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Writes the key; the caller writes the value. Keys are our own words and need no escaping.
    pub fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A text of our own that needs no escaping.
    pub fn word(&mut self, key: &'static str, word: &str) {
        let out = self.key(key);
        out.push(b'"');
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }

    /// Bytes somebody else chose: escaped, made valid UTF-8, cut at `limit` with a mark.
    pub fn text(&mut self, key: &'static str, text: &[u8], limit: usize) {
        let out = self.key(key);
        out.push(b'"');
        write_escaped(out, &text[..text.len().min(limit)]);
        if text.len() > limit {
            out.extend_from_slice("…".as_bytes());
        }
        out.push(b'"');
    }

    pub fn number(&mut self, key: &'static str, number: u64) {
        write_number(self.key(key), number);
    }

    pub fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn address(&mut self, key: &'static str, address: SocketAddr) {
        let out = self.key(key);
        out.push(b'"');
        write_address(out, address);
        out.push(b'"');
    }

    /// Milliseconds with three decimals.
    pub fn millis(&mut self, key: &'static str, duration: Duration) {
        write_millis(self.key(key), duration);
    }
}

pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub fn write_millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    write_number(out, micros / 1000);
    let rest = micros % 1000;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

pub fn write_address(out: &mut Vec<u8>, address: SocketAddr) {
    if let IpAddr::V4(v4) = address.ip() {
        for (position, octet) in v4.octets().into_iter().enumerate() {
            if position > 0 {
                out.push(b'.');
            }
            write_number(out, u64::from(octet));
        }
        out.push(b':');
        write_number(out, u64::from(address.port()));
    } else {
        let mut text = String::new();
        write!(text, "{address}").expect("writing to a String cannot fail");
        out.extend_from_slice(text.as_bytes());
    }
}

fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    // Nearly every value is plain ASCII: copy it in one go.
    if text.iter().all(|&byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
        out.extend_from_slice(text);
        return;
    }
    for piece in text.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                control if (control as u32) < 0x20 || control == '\u{7f}' => {
                    out.extend_from_slice(format!("\\u{:04x}", control as u32).as_bytes());
                }
                plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in piece.invalid() {
            // Not UTF-8: shown as the code point of the same number, as ISO 8859-1 would read it.
            out.extend_from_slice(format!("\\u{:04x}", u32::from(*byte)).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_client_sends_the_line_stays_one_valid_line() {
        let hostile: Vec<u8> = (0..=255).chain("ü€😀\u{2028}".bytes()).collect();
        let mut out = Vec::new();
        let mut object = Json::object(&mut out);
        object.text("target", &hostile, 4096);
        object.text("cut", b"abcdef", 3);
        object.end();
        assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
        let text = String::from_utf8(out).expect("valid UTF-8");
        assert!(text.starts_with("{\"target\":\"\\u0000"), "{text}");
        assert!(text.ends_with("\"cut\":\"abc…\"}"), "{text}");
    }

    #[test]
    fn numbers_and_times_are_written_exactly() {
        let mut out = Vec::new();
        write_number(&mut out, u64::MAX);
        out.push(b' ');
        write_number(&mut out, 0);
        out.push(b' ');
        write_millis(&mut out, Duration::from_micros(12_034));
        out.push(b' ');
        write_address(&mut out, "10.0.200.3:8080".parse().expect("address"));
        out.push(b' ');
        write_address(&mut out, "[2001:db8::1]:443".parse().expect("address"));
        assert_eq!(out, b"18446744073709551615 0 12.034 10.0.200.3:8080 [2001:db8::1]:443");
    }
}
