//! The `traceparent` field (W3C Trace Context): whose trace a request belongs to.
//!
//! Read strictly, as the specification asks: a field that is off by a letter is as good as none, and a trace that begins anew
//! is better than one that is glued to the wrong parent.

/// `00-` trace `-` span `-` flags.
pub const TRACEPARENT_LEN: usize = 55;

/// Where the span's id stands in a value.
pub const SPAN_AT: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    /// Whether whoever sent it records its part.
    pub sampled: bool,
}

impl TraceParent {
    /// `None` for what is no such value, or one without ids.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let version = hex::<1>(value.get(..2)?)?[0];
        // Later versions may have more behind a hyphen; 255 is forbidden.
        let ends_well = match version {
            0 => value.len() == TRACEPARENT_LEN,
            0xff => false,
            _ => value.get(TRACEPARENT_LEN).is_none_or(|&behind| behind == b'-'),
        };
        let hyphens = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
        if !ends_well || !hyphens {
            return None;
        }
        let trace = hex::<16>(value.get(3..35)?)?;
        let span = hex::<8>(value.get(SPAN_AT..52)?)?;
        let flags = hex::<1>(value.get(53..TRACEPARENT_LEN)?)?[0];
        (trace != [0; 16] && span != [0; 8]).then_some(TraceParent { trace, span, sampled: flags & 1 == 1 })
    }

    /// As version 00 has it.
    pub fn write(&self) -> [u8; TRACEPARENT_LEN] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace, &mut value[3..35]);
        write_hex(&self.span, &mut value[SPAN_AT..52]);
        value[TRACEPARENT_LEN - 1] = b'0' + u8::from(self.sampled);
        value
    }
}

/// Writes two digits for each byte.
///
/// # Panics
/// When there is not room for just as many.
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    assert_eq!(out.len(), 2 * bytes.len(), "two digits for each byte");
    for (byte, digits) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower case only, as the specification wants it.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_only_the_flag_decides() {
        for sampled in [true, false] {
            let parent = TraceParent { trace: *b"0123456789abcdef", span: *b"\x00fghijk\xff", sampled };
            assert_eq!(TraceParent::parse(&parent.write()), Some(parent));
        }
        let other_flags = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";
        assert_eq!(TraceParent::parse(other_flags).map(|parent| parent.sampled), Some(false));
        let later = b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(TraceParent::parse(later).map(|parent| parent.sampled), Some(true));
    }

    #[test]
    fn a_value_that_is_off_by_a_letter_is_none() {
        let strange: [&[u8]; 12] = [
            b"",
            b"00",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for value in strange {
            assert_eq!(TraceParent::parse(value), None, "{}", String::from_utf8_lossy(value));
        }
    }
}
