//! Whether an answer's body may be compressed and with what, and the chunks a body of our own making goes out in.
//!
//! Asked twice, because request and answer are never there together: [`Accepted::read`] keeps the request's part in
//! a few bytes, [`may_compress`] adds the answer's. A doubtful answer stays as it is: an uncompressed page costs
//! bytes, one compressed twice or against its sender's word is broken.
//!
//! The compressing itself is done by the l7 room.

use crate::field::{Kind, list, trim};
use crate::message::Framing;
use crate::request::RequestHead;
use crate::response::ResponseHead;

/// What a request says about the codings of its answer. `C` is whatever the caller calls its codings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted<C> {
    /// The answer must stay as it is, whatever it is.
    AsIs,
    /// The answer may be coded and the client wants it plain.
    Plain,
    Coded(C),
}

/// What becomes of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated<C> {
    /// `None`: the body stays as it is.
    pub coding: Option<C>,
    /// Another client would have got other bytes.
    pub vary: bool,
}

/// Whole and thousandths: RFC 9110 section 12.4.2 allows three digits.
const WHOLE: u16 = 1000;

impl<C: Copy> Accepted<C> {
    /// Chooses by the client's weights; among equals the first of `codings` wins, each with its registered name.
    pub fn read<'c>(head: &RequestHead<'_, '_>, codings: impl IntoIterator<Item = (C, &'c str)>) -> Self {
        // The answer to HEAD has no body, and its fields should not promise one that we would have to make.
        if head.is_head || says_no_transform(head.fields.iter()) {
            return Accepted::AsIs;
        }
        let preferences = Preferences { head };
        let mut best: Option<(C, u16)> = None;
        for (coding, name) in codings {
            let weight = preferences.weight(name);
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((coding, weight));
            }
        }
        match best {
            Some((coding, weight)) if weight >= preferences.plain() => Accepted::Coded(coding),
            _ => Accepted::Plain,
        }
    }
}

/// The elements of all Accept-Encoding fields, read anew for each question: there are few of both.
struct Preferences<'h, 'b> {
    head: &'h RequestHead<'h, 'b>,
}

impl Preferences<'_, '_> {
    /// 0 means not acceptable.
    fn weight(&self, coding: &str) -> u16 {
        self.said(coding).or_else(|| self.said("*")).unwrap_or(0)
    }

    /// How much the client wants no coding at all; 0 when it did not say, since it is then merely acceptable.
    fn plain(&self) -> u16 {
        self.weight("identity")
    }

    /// The weight given to one name. Of several the lowest counts: what was refused once is not sent.
    fn said(&self, coding: &str) -> Option<u16> {
        let fields = self.head.fields.iter();
        let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding")).map(|(_, value)| value);
        values.flat_map(list).filter_map(|element| element_weight(element, coding)).min()
    }
}

/// The weight of `gzip;q=0.5` if it is about `coding`.
fn element_weight(element: &[u8], coding: &str) -> Option<u16> {
    let mut parts = element.split(|&byte| byte == b';').map(trim);
    let name = parts.next()?;
    // RFC 9110 section 8.4.1.3: x-gzip is another name of gzip.
    let same = name.eq_ignore_ascii_case(coding.as_bytes()) || coding == "gzip" && name.eq_ignore_ascii_case(b"x-gzip");
    if !same {
        return None;
    }
    let weight = parts.find_map(|part| match part {
        [b'q' | b'Q', b'=', value @ ..] => Some(value),
        _ => None,
    });
    Some(match weight {
        None => WHOLE,
        // What cannot be read is no consent.
        Some(value) => thousandths(value).unwrap_or(0),
    })
}

/// `0.5` as 500.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut weight = u16::from(whole - b'0') * WHOLE;
    let mut place = WHOLE;
    for digit in digits {
        place /= 10;
        weight += match digit {
            b'0'..=b'9' => u16::from(digit - b'0') * place,
            _ => return None,
        };
    }
    (weight <= WHOLE).then_some(weight)
}

/// Whether the answer may be compressed, and with what. `types`: media types in lower case, `text/html` or `text/*`.
pub fn may_compress<C: Copy>(
    accepted: Accepted<C>,
    head: &ResponseHead<'_, '_>,
    types: &[Box<str>],
    min_size: u64,
) -> Negotiated<C> {
    let coding = match accepted {
        Accepted::AsIs => return Negotiated { coding: None, vary: false },
        Accepted::Plain => None,
        Accepted::Coded(coding) => Some(coding),
    };
    if is_compressible(head, types, min_size) {
        Negotiated { coding, vary: true }
    } else {
        Negotiated { coding: None, vary: false }
    }
}

fn is_compressible(head: &ResponseHead<'_, '_>, types: &[Box<str>], min_size: u64) -> bool {
    let worth_it = match head.framing {
        Framing::Empty => false,
        Framing::Length(length) => length > 0 && length >= min_size,
        Framing::Chunked | Framing::UntilClose => true,
    };
    // A part of something cannot be put together with other parts once it is coded.
    if !worth_it || head.status < 200 || head.status == 206 {
        return false;
    }
    let mut content_type = None;
    for ((name, value), kind) in head.fields.iter().zip(head.fields.kinds) {
        match name.len() {
            // Chunks of ours carry no trailers, and what was announced must come.
            _ if *kind == Kind::Trailer => return false,
            // Coded already, or a part under another status.
            16 if name.eq_ignore_ascii_case(b"content-encoding") => return false,
            13 if name.eq_ignore_ascii_case(b"content-range") => return false,
            // Two types are no type.
            12 if name.eq_ignore_ascii_case(b"content-type") && content_type.is_some() => return false,
            12 if name.eq_ignore_ascii_case(b"content-type") => content_type = Some(value),
            _ => {}
        }
    }
    content_type.is_some_and(|content_type| is_of_type(content_type, types)) && !says_no_transform(head.fields.iter())
}

/// Whether the media type of a Content-Type value is one of `types`.
pub fn is_of_type(content_type: &[u8], types: &[Box<str>]) -> bool {
    let media_type = trim(content_type.split(|&byte| byte == b';').next().unwrap_or_default());
    types.iter().any(|pattern| match pattern.as_bytes() {
        b"*/*" => media_type.contains(&b'/'),
        [start @ .., b'/', b'*'] => {
            media_type.get(start.len()) == Some(&b'/') && media_type[..start.len()].eq_ignore_ascii_case(start)
        }
        whole => media_type.eq_ignore_ascii_case(whole),
    })
}

/// Cache-Control: no-transform (RFC 9111 section 5.2.1.6, 5.2.2.6).
fn says_no_transform<'b>(fields: impl Iterator<Item = (&'b [u8], &'b [u8])>) -> bool {
    let mut fields = fields.filter(|(name, _)| name.len() == 13 && name.eq_ignore_ascii_case(b"cache-control"));
    fields.any(|(_, value)| list(value).any(|directive| directive.eq_ignore_ascii_case(b"no-transform")))
}

/// Appends one chunk. Nothing for an empty payload: a chunk of no bytes would end the body.
pub fn write_chunk(out: &mut Vec<u8>, payload: &[u8]) {
    if payload.is_empty() {
        return;
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    let mut size = payload.len();
    while size > 0 {
        at -= 1;
        digits[at] = HEX[size & 15];
        size >>= 4;
    }
    out.reserve(payload.len() + 8);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with its trailers.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[(&[u8], &[u8])]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        for part in [name, b": ".as_slice(), value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}
