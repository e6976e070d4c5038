//! Between header lists and text: what attackers write into lists, each row with its exact outcome, and
//! what holds for every list.
//!
//! Accepted requests and responses are read again by `wire`, which must find the same in them: that is
//! the whole promise of the translation.

#[path = "codec_text/chunks.rs"]
mod chunks;
#[path = "codec_text/hostile.rs"]
mod hostile;
#[path = "codec_text/properties.rs"]
mod properties;
#[path = "codec_text/sending.rs"]
mod sending;

use evenkeel_h2::hpack::{Decoded, Decoder, Encoder, FieldList};
use evenkeel_h2::text::{Malformed, RequestOptions, RequestShape, ResponseOptions, ResponseShape};
use evenkeel_h2::text::{request_text, response_text};

type Pairs = Vec<(String, String)>;

/// One byte for each character: everything a list can hold can be written as a string.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("latin-1")).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn list<'f>(fields: impl IntoIterator<Item = (&'f str, &'f str)>) -> FieldList {
    let mut list = FieldList::new();
    for (name, value) in fields {
        list.push(&latin1(name), &latin1(value));
    }
    list
}

fn pairs(list: &FieldList) -> Pairs {
    list.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn owned(fields: &[(&str, &str)]) -> Pairs {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Text and shape; what stood in the buffer before must stay.
fn request(fields: &FieldList, options: RequestOptions) -> Result<(String, RequestShape), &'static str> {
    let mut out = b"before".to_vec();
    let result = request_text(fields, options, &mut out);
    let written = text(out.strip_prefix(b"before").expect("untouched"));
    assert!(result.is_ok() || written.is_empty(), "{written:?} was left behind");
    result.map(|shape| (written, shape)).map_err(|Malformed { detail }| detail)
}

fn response(fields: &FieldList, options: ResponseOptions) -> Result<(String, ResponseShape), &'static str> {
    let mut out = b"before".to_vec();
    let result = response_text(fields, options, &mut out);
    let written = text(out.strip_prefix(b"before").expect("untouched"));
    assert!(result.is_ok() || written.is_empty(), "{written:?} was left behind");
    result.map(|shape| (written, shape)).map_err(|Malformed { detail }| detail)
}

/// What the other side decodes, or the broken rule; then nothing may have been encoded.
fn encoded<T>(
    write: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<T, Malformed>,
) -> Result<(Pairs, T), &'static str> {
    let (mut encoder, mut block) = (Encoder::new(), Vec::new());
    match write(&mut encoder, &mut block) {
        Ok(answer) => {
            let mut list = FieldList::new();
            assert_eq!(Decoder::new(4096, usize::MAX).decode(&block, &mut list), Ok(Decoded::Whole));
            Ok((pairs(&list), answer))
        }
        Err(Malformed { detail }) => {
            assert!(block.is_empty(), "a refused head left {} bytes", block.len());
            Err(detail)
        }
    }
}
