//! What attackers and broken programs send, each row with its exact outcome.
//!
//! Every row is read whole, cut in two at each position, and byte by byte; the outcome must be the
//! same each time, since an attacker chooses the packets too. Accepted heads are read a second time by
//! `naive`, which shares no code with the crate, and must get the same framing there.

#[path = "hostile/bodies.rs"]
mod bodies;
mod naive;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/responses.rs"]
mod responses;

use evenkeel_model::Cause;
use evenkeel_wire::{Asked, BodyReader, FieldSlots, Framing, Parsed, parse_request, parse_response};

/// The default of `listener.header_limit` would make rows about limits unreadable.
const LIMIT: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted(Framing),
    /// The kind of refusal a malformed message gets: 400, or 502 for a response.
    Malformed(&'static str),
    TooLarge(&'static str),
    TooLong(&'static str),
    /// More input is needed to tell.
    Partial,
}

type Row = (Vec<u8>, Outcome);

fn outcome_of_refusal(cause: Cause, detail: &'static str) -> Outcome {
    match cause {
        Cause::ClientMalformedRequest | Cause::BackendMalformedResponse => Outcome::Malformed(detail),
        Cause::ClientHeaderTooLarge | Cause::BackendHeaderTooLarge => Outcome::TooLarge(detail),
        Cause::ClientUriTooLong => Outcome::TooLong(detail),
        other => panic!("a parser has no business with {}", other.entry().code),
    }
}

/// The outcome and, when accepted, the length of the head.
fn read_request(input: &[u8]) -> (Outcome, usize) {
    match parse_request(input, &mut FieldSlots::new(), LIMIT) {
        Parsed::Whole(head) => (Outcome::Accepted(head.framing), head.len),
        Parsed::Partial => (Outcome::Partial, 0),
        Parsed::Refused(refusal) => (outcome_of_refusal(refusal.cause, refusal.detail), 0),
    }
}

fn read_response(input: &[u8], asked: Asked) -> (Outcome, usize) {
    match parse_response(input, &mut FieldSlots::new(), LIMIT, asked) {
        Parsed::Whole(head) => (Outcome::Accepted(head.framing), head.len),
        Parsed::Partial => (Outcome::Partial, 0),
        Parsed::Refused(refusal) => (outcome_of_refusal(refusal.cause, refusal.detail), 0),
    }
}

/// Heads are read from the start each time, so every way of cutting the input is a series of its
/// prefixes: each must give `Partial` or the final outcome, and never fall back to `Partial`.
fn assert_same_for_every_cut(input: &[u8], read: impl Fn(&[u8]) -> (Outcome, usize)) {
    let whole = read(input);
    let mut decided = false;
    for cut in 0..input.len() {
        let part = read(&input[..cut]);
        if part.0 == Outcome::Partial {
            assert!(!decided, "undecided again after {cut} bytes: {}", input.escape_ascii());
            continue;
        }
        decided = true;
        assert_eq!(part, whole, "after {cut} bytes: {}", input.escape_ascii());
    }
    if let Outcome::Accepted(_) = whole.0 {
        assert_eq!(read(&input[..whole.1 - 1]).0, Outcome::Partial, "{}", input.escape_ascii());
    }
}

#[test]
fn every_hostile_request_is_refused_by_name_and_every_odd_one_read_in_one_way() {
    for (input, expected) in requests::rows() {
        let (outcome, length) = read_request(&input);
        assert_eq!(outcome, expected, "{}", input.escape_ascii());
        assert_same_for_every_cut(&input, read_request);
        if let Outcome::Accepted(framing) = outcome {
            let naive = naive::request(&input).unwrap_or_else(|why| panic!("{why}: {}", input.escape_ascii()));
            assert_eq!((naive.framing, naive.length), (framing, length), "{}", input.escape_ascii());
        }
    }
}

#[test]
fn every_hostile_response_is_refused_by_name_and_every_odd_one_read_in_one_way() {
    for (asked, (input, expected)) in responses::rows() {
        let (outcome, length) = read_response(&input, asked);
        assert_eq!(outcome, expected, "{asked:?} {}", input.escape_ascii());
        assert_same_for_every_cut(&input, |input| read_response(input, asked));
        if let Outcome::Accepted(framing) = outcome {
            let naive =
                naive::response(&input, asked.head).unwrap_or_else(|why| panic!("{why}: {}", input.escape_ascii()));
            assert_eq!((naive.framing, naive.length), (framing, length), "{}", input.escape_ascii());
        }
    }
}

/// How a body went: payload and bytes consumed, or the broken rule, or that it is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BodyOutcome {
    Done { payload: Vec<u8>, consumed: usize },
    Open,
    Refused(&'static str),
}

/// Feeds `parts` in order to both roads, which must agree.
fn read_body(framing: Framing, parts: &[&[u8]]) -> BodyOutcome {
    let mut body = BodyReader::new(framing);
    let mut decoding = BodyReader::new(framing);
    let mut payload = Vec::new();
    let mut consumed = 0;
    for part in parts {
        let progress = body.advance(part);
        assert_eq!(progress, decoding.advance_decoding(part, &mut payload));
        match progress {
            Ok(progress) => {
                assert_eq!(progress.done, body.is_done());
                assert!(progress.done || progress.consumed == part.len(), "input left although the body is open");
                consumed += progress.consumed;
            }
            Err(detail) => {
                assert_eq!(body.advance(b"0\r\n\r\n"), Err(detail), "an error must stay");
                assert_eq!(body.end_of_stream(), Err(detail), "an error must stay");
                return BodyOutcome::Refused(detail);
            }
        }
    }
    assert_eq!(body.payload_bytes(), payload.len() as u64);
    if body.is_done() { BodyOutcome::Done { payload, consumed } } else { BodyOutcome::Open }
}

#[test]
fn every_hostile_body_is_refused_by_name_and_every_odd_one_read_in_one_way() {
    for (framing, input, expected) in bodies::rows() {
        assert_eq!(read_body(framing, &[&input]), expected, "{}", input.escape_ascii());
        // Rows about limits are long and dull in the middle.
        let step = if input.len() > 1024 { 61 } else { 1 };
        for cut in (0..=input.len()).step_by(step) {
            let (first, second) = input.split_at(cut);
            let outcome = read_body(framing, &[first, second]);
            assert_eq!(outcome, expected, "cut at {cut}: {}", input.escape_ascii());
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(read_body(framing, &bytes), expected, "byte by byte: {}", input.escape_ascii());
    }
}

#[test]
fn the_tables_hold_at_least_150_different_attacks() {
    let requests = requests::rows().into_iter().map(|row| ("request", row.0));
    let responses = responses::rows().into_iter().map(|(_, row)| ("response", row.0));
    let bodies = bodies::rows().into_iter().map(|row| ("body", row.1));
    let mut inputs: Vec<_> = requests.chain(responses).chain(bodies).collect();
    inputs.sort();
    inputs.dedup();
    assert!(inputs.len() >= 150, "{}", inputs.len());
}
