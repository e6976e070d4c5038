//! The words of DNS inside values: names that are asked for, names of backends, codes of answers.

use evenkeel_model::finding::DNS_CODES;

use super::{Refusal, refuse};
use crate::problem::Quoted;

/// Answer code of RFC 6895 for "here it is".
pub(crate) const NOERROR: u16 = 0;

/// A name that is asked for: any labels that fit, since servers hold more than names of hosts.
pub(crate) fn query(text: &str) -> Result<String, Refusal> {
    const EXAMPLES: &str = "write the name as DNS has it: \"example.com\", or \".\" for the root";
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or(rest);
        let what = format!("is {}, a URL where a name belongs", Quoted(text));
        return refuse("invalid_dns_name", what, format!("write {}", Quoted(host)));
    }
    if text == "." {
        return Ok(text.to_owned());
    }
    if !text.is_ascii() {
        return refuse(
            "invalid_dns_name",
            format!("is {}, and DNS holds such names in their ASCII form", Quoted(text)),
            "write it in Punycode: \"xn--bcher-kva.example\" for bücher.example",
        );
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
    if !labels(text, good) {
        return refuse("invalid_dns_name", format!("is {}, which is no name in DNS", Quoted(text)), EXAMPLES);
    }
    Ok(text.to_owned())
}

/// Whether a name, with or without the dot at its end, is made of labels that DNS has room for (RFC 1035 §2.3.4).
fn labels(text: &str, good: impl Fn(u8) -> bool) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.len() <= 63 && label.bytes().all(&good))
}

/// `NOERROR` or `0`.
pub(crate) fn code(text: &str) -> Result<u16, Refusal> {
    let named = DNS_CODES.iter().position(|name| text.eq_ignore_ascii_case(name));
    let number = text.parse::<u16>().ok().filter(|number| *number <= 15 && text.bytes().all(|b| b.is_ascii_digit()));
    match named.map(|position| position as u16).or(number) {
        Some(code) => Ok(code),
        None => refuse(
            "invalid_dns_code",
            format!("has {}, which is no code of an answer", Quoted(text)),
            format!("write a number from 0 to 15, or one of {}", DNS_CODES.join(", ")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_asked_for_are_labels_dns_has_room_for() {
        let long = "a".repeat(63);
        for good in ["example.com", "example.com.", ".", "_http._tcp.example.com", "*.example.com", "1", &long] {
            assert!(query(good).is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        let longest = format!("{long}.{long}.{long}.{long}");
        for bad in ["", "..", ".a", "a..b", "exa mple", "bücher.example", "http://example.com/", &longer, &longest] {
            assert_eq!(query(bad).err().map(|refusal| refusal.code), Some("invalid_dns_name"), "{bad}");
        }
    }

    #[test]
    fn codes_are_names_or_numbers_of_a_header() {
        for (text, number) in [("NOERROR", 0), ("nxdomain", 3), ("REFUSED", 5), ("15", 15), ("0", 0)] {
            assert_eq!(code(text), Ok(number), "{text}");
        }
        for text in ["", "16", "-1", "+1", "ok", "BADVERS"] {
            assert_eq!(code(text).err().map(|refusal| refusal.code), Some("invalid_dns_code"), "{text}");
        }
    }
}
