//! The value of Strict-Transport-Security (RFC 6797), made once when the plan is, since it stands in every answer over TLS.
//!
//! It is held in place and can be copied: a worker that reads it from its settings touches no count that others share.

use std::fmt::{self, Debug, Formatter};
use std::io::Write;
use std::time::Duration;

/// `max-age=` with any number of seconds, and both words.
const LONGEST: usize = "max-age=18446744073709551615; includeSubDomains; preload".len();

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    text: [u8; LONGEST],
    length: u8,
}

impl Hsts {
    pub fn new(max_age: Duration, subdomains: bool, preload: bool) -> Self {
        let mut text = [0; LONGEST];
        let mut rest = &mut text[..];
        // There is room for the longest.
        let _ = write!(rest, "max-age={}", max_age.as_secs());
        let _ = rest.write_all(if subdomains { b"; includeSubDomains" } else { b"" });
        let _ = rest.write_all(if preload { b"; preload" } else { b"" });
        let length = LONGEST - rest.len();
        Hsts { text, length: length as u8 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl Debug for Hsts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_said_in_full() {
        let table = [
            (Duration::ZERO, false, false, "max-age=0"),
            (Duration::from_millis(86_400_900), true, false, "max-age=86400; includeSubDomains"),
            (Duration::from_secs(60), false, true, "max-age=60; preload"),
            (Duration::MAX, true, true, "max-age=18446744073709551615; includeSubDomains; preload"),
        ];
        for (max_age, subdomains, preload, expected) in table {
            assert_eq!(Hsts::new(max_age, subdomains, preload).as_bytes(), expected.as_bytes());
        }
    }
}
