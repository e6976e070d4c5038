//! The code of RFC 7541 appendix B, read and written.
//!
//! The code is canonical: the lengths alone say it all, so they are the only table written down and the others are
//! computed from them when compiling. Reading looks ten bits up at once, which covers every byte that headers
//! usually hold; longer codes take the slow road. A table of nibbles would be smaller and twice as slow, one of
//! whole bytes with states would not stay in the cache.

/// Bits of each byte's code; the last is that of the end-of-string mark.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const END: usize = 256;
const LONGEST: u32 = 30;

/// Bits of the fast lookup.
const PEEK: u32 = 10;

/// Code of each byte, right-aligned; and the symbols in the order of their codes.
const fn codes() -> ([u32; 257], [u16; 257]) {
    let (mut codes, mut order) = ([0; 257], [0; 257]);
    let (mut code, mut placed, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol] as u32 == length {
                codes[symbol] = code;
                order[placed] = symbol as u16;
                placed += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    (codes, order)
}

const CODES: [u32; 257] = codes().0;
static ORDER: [u16; 257] = codes().1;

/// Length in the high byte and symbol in the low one for every ten bits that start with a whole code; else 0.
static FAST: [u16; 1 << PEEK] = {
    let mut fast = [0; 1 << PEEK];
    let mut symbol = 0;
    while symbol < END {
        let length = LENGTHS[symbol] as u32;
        if length <= PEEK {
            let first = (CODES[symbol] << (PEEK - length)) as usize;
            let mut offset = 0;
            while offset < 1 << (PEEK - length) {
                fast[first + offset] = (length as u16) << 8 | symbol as u16;
                offset += 1;
            }
        }
        symbol += 1;
    }
    fast
};

/// The codes of one length: they are consecutive.
#[derive(Clone, Copy)]
struct Row {
    /// The first of them, left-aligned in 32 bits.
    first: u32,
    length: u32,
    /// Place of its symbol in `ORDER`.
    place: u32,
}

/// One row for each length, the shortest first.
static ROWS: [Row; LONGEST as usize] = {
    let mut rows = [Row { first: u32::MAX, length: 0, place: 0 }; LONGEST as usize];
    let (codes, order) = codes();
    let (mut place, mut count) = (0, 0);
    let mut last = 0;
    while place <= END {
        let symbol = order[place] as usize;
        let length = LENGTHS[symbol] as u32;
        if length != last {
            rows[count] = Row { first: codes[symbol] << (32 - length), length, place: place as u32 };
            count += 1;
            last = length;
        }
        place += 1;
    }
    rows
};

/// The symbol at the start of `bits`, and the length of its code. Every 32 bits start with some code.
#[cold]
fn slow_symbol(bits: u32) -> (u16, u32) {
    let row = ROWS.iter().take_while(|row| row.length > 0 && row.first <= bits).last().unwrap_or(&ROWS[0]);
    let place = row.place + ((bits - row.first) >> (32 - row.length));
    (ORDER[place as usize], row.length)
}

/// Appends the text that `input` stands for.
///
/// # Errors
/// Names the rule of RFC 7541 section 5.2; part of the text may have been appended.
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let start = out.len();
    // The shortest code has five bits.
    out.resize(start + input.len() * 8 / 5, 0);
    let mut length = 0;
    let decoded = decode_into(input, &mut out[start..], &mut length);
    out.truncate(start + length);
    decoded
}

/// Reads codes as long as there are; `length` says how many bytes were written, whatever happens.
fn decode_into(input: &[u8], out: &mut [u8], length: &mut usize) -> Result<(), &'static str> {
    const LOOKUPS: u32 = 5;
    // The next bits stand at the top of `bits`; `known` of them have been read.
    let (mut bits, mut known, mut at) = (0_u64, 0_u32, 0);
    loop {
        if let Some(eight) = input.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            // Bits of a byte that does not fit whole are set too and set alike again the next time.
            bits |= u64::from_be_bytes(*eight) >> known;
            let whole = (63 - known) >> 3;
            at += whole as usize;
            known += whole * 8;
        } else {
            while known < 56
                && let Some(&byte) = input.get(at)
            {
                bits |= u64::from(byte) << (56 - known);
                known += 8;
                at += 1;
            }
        }
        // At least 56 bits, unless the input is at its end: five lookups of ten.
        let mut fast = 0;
        while fast < LOOKUPS {
            let found = FAST[(bits >> (64 - PEEK)) as usize];
            let code = u32::from(found >> 8);
            if code == 0 || code > known {
                break;
            }
            out[*length] = found as u8;
            *length += 1;
            bits <<= code;
            known -= code;
            fast += 1;
        }
        if fast == LOOKUPS {
            continue;
        }
        let exhausted = at == input.len();
        if exhausted && known < 8 && bits | u64::MAX >> known == u64::MAX {
            return Ok(());
        }
        // What is missing at the end reads as ones, the start of the end-of-string mark.
        let filled = if exhausted { bits | u64::MAX >> known } else { bits };
        let (symbol, code) = slow_symbol((filled >> 32) as u32);
        if code > known {
            if !exhausted {
                continue;
            }
            return padding(bits, known);
        }
        let Ok(byte) = u8::try_from(symbol) else {
            return Err("huffman text with an end-of-string mark (RFC 7541 5.2)");
        };
        out[*length] = byte;
        *length += 1;
        bits <<= code;
        known -= code;
    }
}

/// Judges the bits behind the last whole code.
fn padding(bits: u64, known: u32) -> Result<(), &'static str> {
    if known > 7 {
        return Err("huffman padding of more than 7 bits (RFC 7541 5.2)");
    }
    if (bits | u64::MAX >> known) != u64::MAX {
        return Err("huffman padding that is not all ones (RFC 7541 5.2)");
    }
    Ok(())
}

/// Bytes that [`encode`] will append.
pub fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

/// Length in the low six bits, code above.
static ENCODE: [u64; 256] = {
    let mut encode = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        encode[byte] = (CODES[byte] as u64) << 6 | LENGTHS[byte] as u64;
        byte += 1;
    }
    encode
};

/// Appends the code of `text`.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut known) = (0_u64, 0_u32);
    for &byte in text {
        let entry = ENCODE[usize::from(byte)];
        let length = (entry & 63) as u32;
        // At most 31 bits wait and a code has at most 30.
        bits = bits << length | entry >> 6;
        known += length;
        if known >= 32 {
            known -= 32;
            out.extend_from_slice(&((bits >> known) as u32).to_be_bytes());
        }
    }
    while known >= 8 {
        known -= 8;
        out.push((bits >> known) as u8);
    }
    if known > 0 {
        out.push((bits << (8 - known)) as u8 | 0xff >> known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        // One row of RFC 7541 appendix B for each length of code.
        let rows = [
            (u32::from(b'0'), 0x0, 5),
            (u32::from(b'%'), 0x15, 6),
            (u32::from(b':'), 0x5c, 7),
            (u32::from(b'&'), 0xf8, 8),
            (u32::from(b'!'), 0x3f8, 10),
            (u32::from(b'+'), 0x7fb, 11),
            (u32::from(b'#'), 0xffa, 12),
            (0, 0x1ff8, 13),
            (u32::from(b'^'), 0x3ffc, 14),
            (u32::from(b'<'), 0x7ffc, 15),
            (u32::from(b'\\'), 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (153, 0x1fffdc, 21),
            (129, 0x3fffd2, 22),
            (1, 0x7fffd8, 23),
            (9, 0xffffea, 24),
            (199, 0x1ffffec, 25),
            (192, 0x3ffffe0, 26),
            (203, 0x7ffffde, 27),
            (2, 0xfffffe2, 28),
            (10, 0x3ffffffc, 30),
            (256, 0x3fffffff, 30),
        ];
        for (symbol, code, length) in rows {
            assert_eq!(CODES[symbol as usize], code, "code of {symbol}");
            assert_eq!(LENGTHS[symbol as usize], length, "length of {symbol}");
        }
    }

    #[test]
    fn every_pair_of_bytes_survives() {
        for first in 0..=255 {
            for second in 0..=255 {
                let text = [first, second, b'a', first];
                let mut code = Vec::new();
                encode(&text, &mut code);
                assert_eq!(code.len(), encoded_length(&text));
                assert_eq!(decoded(&code), Ok(text.to_vec()));
            }
        }
    }

    #[test]
    fn padding_is_the_start_of_the_mark_and_shorter_than_a_byte() {
        const LONG: &str = "huffman padding of more than 7 bits (RFC 7541 5.2)";
        const ZEROS: &str = "huffman padding that is not all ones (RFC 7541 5.2)";
        const MARK: &str = "huffman text with an end-of-string mark (RFC 7541 5.2)";
        type Row = (&'static [u8], Result<&'static [u8], &'static str>);
        let rows: &[Row] = &[
            (&[], Ok(b"")),
            // Five bits of `a`, three of padding.
            (&[0b0001_1111], Ok(b"a")),
            (&[0b0001_1110], Err(ZEROS)),
            (&[0b0001_1000], Err(ZEROS)),
            (&[0xff], Err(LONG)),
            (&[0b0001_1111, 0xff], Err(LONG)),
            // `&` fills its byte, so nothing may follow.
            (&[0xf8], Ok(b"&")),
            (&[0xf8, 0xff], Err(LONG)),
            (&[0xff, 0xff, 0xff], Err(LONG)),
            (&[0xff, 0xff, 0xff, 0xfc], Err(MARK)),
            (&[0xff, 0xff, 0xff, 0xff], Err(MARK)),
            (&[0xff; 12], Err(MARK)),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(MARK)),
            // A line feed is 30 bits, 0x3ffffffc.
            (&[0xff, 0xff, 0xff, 0xf3], Ok(b"\n")),
            (&[0xff, 0xff, 0xff, 0xf0], Err(ZEROS)),
        ];
        for (input, expected) in rows {
            assert_eq!(decoded(input), expected.map(<[u8]>::to_vec), "{input:x?}");
        }
    }
}
