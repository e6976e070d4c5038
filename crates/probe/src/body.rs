//! Looks into the body of an answer for what has to be there, or must not be.
//!
//! It looks when the body is over, or when as much of it has come as a probe reads, and never before: a match in a body that
//! is then cut short would pass a backend that breaks off in the middle, and `$` would mean whatever piece came last.

use evenkeel_health::pattern::Pattern;
use evenkeel_health::settings::BodyMatch;
use evenkeel_model::finding::{BodyFault, FailureReason};
use evenkeel_model::limits;
use evenkeel_wire::{BodyReader, Framing};

const SEEN: usize = limits::PROBE_BODY.value as usize;

#[derive(Debug)]
pub struct Body {
    reader: BodyReader,
    seen: Vec<u8>,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Come {
    Partly,
    /// To its end; so many bytes of the input belong to it.
    Whole {
        consumed: usize,
    },
    /// Beyond what a probe reads.
    TooFar,
    Broken {
        why: &'static str,
    },
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        Body { reader: BodyReader::new(framing), seen: Vec::new() }
    }

    pub fn take(&mut self, bytes: &[u8]) -> Come {
        match self.reader.advance_decoding(bytes, &mut self.seen) {
            Err(why) => Come::Broken { why },
            Ok(_) if self.seen.len() > SEEN => Come::TooFar,
            Ok(progress) if progress.done => Come::Whole { consumed: progress.consumed },
            Ok(_) => Come::Partly,
        }
    }

    /// The connection is over; whether the body is too.
    pub fn end(&mut self) -> bool {
        self.reader.end_of_stream().is_ok()
    }

    pub fn bytes(&self) -> u64 {
        self.reader.payload_bytes()
    }

    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, wanted: &BodyMatch) -> Result<(), FailureReason> {
        let seen = &self.seen[..self.seen.len().min(SEEN)];
        let fault = |fault, pattern: &Pattern, got: &[u8]| {
            let got = got[..got.len().min(limits::PROBE_EVIDENCE.value as usize)].to_vec();
            Err(FailureReason::Body { fault, pattern: pattern.shown(), got })
        };
        match wanted {
            BodyMatch::Has(pattern) if !pattern.matches(seen) => {
                let bytes = limits::PROBE_BODY.value;
                let whole = self.seen.len() <= SEEN;
                fault(if whole { BodyFault::Lacks } else { BodyFault::LacksWithin { bytes } }, pattern, seen)
            }
            BodyMatch::HasNot(pattern) => match pattern.find(seen, 0) {
                Some(found) => fault(BodyFault::Has, pattern, &seen[found.start..]),
                None => Ok(()),
            },
            BodyMatch::Has(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_health::pattern::Covers;

    fn text(wanted: &str) -> Pattern {
        Pattern::literal(wanted.as_bytes(), Covers::Part)
    }

    fn until_close(seen: &[u8]) -> (Body, Come) {
        let mut body = Body::new(Framing::UntilClose);
        let come = body.take(seen);
        (body, come)
    }

    fn fault(fault: BodyFault, pattern: &str, got: &[u8]) -> Result<(), FailureReason> {
        Err(FailureReason::Body { fault, pattern: format!("\"{pattern}\"").into(), got: got.to_vec() })
    }

    #[test]
    fn what_has_to_be_there_and_what_must_not_are_two_questions() {
        let has = |wanted| BodyMatch::Has(text(wanted));
        let has_not = |wanted| BodyMatch::HasNot(text(wanted));
        let long = [b'x'; 100];
        let table = [
            (&b"all ready"[..], has("ready"), Ok(())),
            (b"starting", has("ready"), fault(BodyFault::Lacks, "ready", b"starting")),
            (b"", has("ready"), fault(BodyFault::Lacks, "ready", b"")),
            (&long, has("ready"), fault(BodyFault::Lacks, "ready", &long[..64])),
            (b"all ready", has_not("error"), Ok(())),
            (b"", has_not("error"), Ok(())),
            (b"an error: no disk", has_not("error"), fault(BodyFault::Has, "error", b"error: no disk")),
        ];
        for (seen, wanted, expected) in table {
            let (body, _) = until_close(seen);
            assert_eq!(body.judge(&wanted), expected, "{wanted:?} in {}", seen.escape_ascii());
        }
    }

    #[test]
    fn what_lies_behind_the_limit_is_not_seen_and_said_so() {
        let mut page = vec![b'x'; SEEN - 5];
        page.extend_from_slice(b"ready");
        let (body, come) = until_close(&page);
        assert_eq!(come, Come::Partly);
        assert_eq!(body.judge(&BodyMatch::Has(text("ready"))), Ok(()));

        page.insert(0, b'x');
        let (body, come) = until_close(&page);
        assert_eq!(come, Come::TooFar);
        let within = BodyFault::LacksWithin { bytes: SEEN as u64 };
        assert_eq!(body.judge(&BodyMatch::Has(text("ready"))), fault(within, "ready", &[b'x'; 64]));
        assert_eq!(body.judge(&BodyMatch::HasNot(text("ready"))), Ok(()));
    }
}
