//! CRC32C, the checksum a PROXY header may carry (RFC 3720 appendix B.4; section 2.2.3 of the PROXY protocol).
//!
//! A header is checked once per connection and is short, so one table is enough and a crate would be more to read.

/// Of `parts`, as if they stood in one piece.
pub fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = parts.into_iter().flatten();
    !bytes.fold(!0, |sum, &byte| TABLE[((sum ^ u32::from(byte)) & 0xff) as usize] ^ (sum >> 8))
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    // Castagnoli's polynomial with its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_3720() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        let table: &[(&[u8], u32)] = &[
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&falling, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ];
        for (bytes, sum) in table {
            assert_eq!(crc32c([*bytes]), *sum, "{bytes:?}");
            let (front, back) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c([front, back]), *sum, "in two pieces: {bytes:?}");
        }
    }
}
