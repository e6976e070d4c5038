//! Reads header blocks, and refuses what would cost more than it should.
//!
//! A block of a few bytes can stand for megabytes: many references to one large entry. So the list is counted while it
//! grows and nothing is copied once it is over its limit. The rest of such a block is still read, because the
//! table must stay in step for the other streams; when even the counted size goes far beyond, staying in step costs more than the
//! connection is worth and it ends.

use evenkeel_model::limits;

use super::fields::FieldList;
use super::huffman;
use super::table::{ENTRY_OVERHEAD, STATIC, STATIC_LENGTH, Table};
use crate::frame::{ErrorCode, Fault};

/// How a block ended that kept to the rules of HPACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    Whole,
    /// The list is larger than allowed and holds its first fields only. The table is in step all the same, so only the
    /// stream has to end.
    TooLarge,
}

const PATIENCE: usize = limits::H2_HEADER_EXCESS.value as usize;

/// One direction's decoder; lives as long as its connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    table_limit: usize,
    list_limit: usize,
}

impl Decoder {
    /// `table_limit` is the SETTINGS_HEADER_TABLE_SIZE we announced, `list_limit` the largest list, counted as
    /// RFC 9113 section 6.5.2 does: name, value and 32 for each field.
    pub const fn new(table_limit: u32, list_limit: usize) -> Decoder {
        let table_limit = table_limit as usize;
        Decoder { table: Table::new(table_limit), table_limit, list_limit }
    }

    /// Replaces what is in `list` by the fields of one whole block.
    ///
    /// # Errors
    /// The table can no longer be trusted, so the connection must end.
    pub fn decode(&mut self, block: &[u8], list: &mut FieldList) -> Result<Decoded, Fault> {
        list.clear();
        let mut input = Input { rest: block };
        let mut size = 0_usize;
        let mut first = true;
        while let Some(&byte) = input.rest.first() {
            let kept = size <= self.list_limit;
            let start = list.bytes.len();
            if byte & 0x80 != 0 {
                let (name, value) = self.entry(input.integer(7)?)?;
                size += name.len() + value.len() + ENTRY_OVERHEAD;
                if size <= self.list_limit {
                    list.push(name, value);
                }
            } else if byte & 0xe0 == 0x20 {
                let limit = input.integer(5)?;
                if !first {
                    return broken("table size update behind a field (RFC 7541 4.2)");
                }
                if limit > self.table_limit {
                    return broken("table size update above what we allowed (RFC 7541 6.3)");
                }
                self.table.set_limit(limit);
                continue;
            } else {
                let indexed = byte & 0x40 != 0;
                let number = input.integer(if indexed { 6 } else { 4 })?;
                if !indexed && !kept {
                    // It changes nothing any more, so it is read past.
                    size += if number == 0 { input.skip_string()? } else { self.entry(number)?.0.len() };
                    size += input.skip_string()? + ENTRY_OVERHEAD;
                } else {
                    if number == 0 {
                        input.string(&mut list.bytes)?;
                    } else {
                        list.bytes.extend_from_slice(self.entry(number)?.0);
                    }
                    let value = list.bytes.len();
                    input.string(&mut list.bytes)?;
                    size += list.bytes.len() - start + ENTRY_OVERHEAD;
                    if indexed {
                        self.table.insert(&list.bytes[start..value], &list.bytes[value..]);
                    }
                    if size <= self.list_limit {
                        list.close(start, value);
                    } else {
                        list.bytes.truncate(start);
                    }
                }
            }
            first = false;
            if size > self.list_limit.saturating_mul(PATIENCE) {
                let detail = "header list many times over its limit (RFC 9113 10.5.1)";
                return Err(Fault::connection(ErrorCode::ENHANCE_YOUR_CALM, detail));
            }
        }
        Ok(if size <= self.list_limit { Decoded::Whole } else { Decoded::TooLarge })
    }

    #[inline]
    fn entry(&self, number: usize) -> Result<(&[u8], &[u8]), Fault> {
        if let Some((name, value, _)) = STATIC.get(number.wrapping_sub(1)) {
            return Ok((name, value));
        }
        if number == 0 {
            return broken("header index 0 (RFC 7541 6.1)");
        }
        match self.table.get(number - STATIC_LENGTH - 1) {
            Some(entry) => Ok(entry),
            None => broken("header index outside both tables (RFC 7541 2.3.3)"),
        }
    }
}

const fn broken<T>(detail: &'static str) -> Result<T, Fault> {
    Err(Fault::connection(ErrorCode::COMPRESSION_ERROR, detail))
}

const CUT_SHORT: &str = "header block ends inside a field (RFC 9113 4.3)";

struct Input<'b> {
    rest: &'b [u8],
}

impl<'b> Input<'b> {
    /// A number whose start is the low `prefix` bits of the next byte. We need none above 28 bits, so a fifth
    /// further byte is refused whatever it says: leading zeros hide nothing good.
    #[inline]
    fn integer(&mut self, prefix: u32) -> Result<usize, Fault> {
        let mask = (1_u8 << prefix) - 1;
        let Some((&byte, rest)) = self.rest.split_first() else { return broken(CUT_SHORT) };
        self.rest = rest;
        if byte & mask < mask {
            return Ok(usize::from(byte & mask));
        }
        let mut value = usize::from(mask);
        for shift in [0, 7, 14, 21] {
            let Some((&byte, rest)) = self.rest.split_first() else { return broken(CUT_SHORT) };
            self.rest = rest;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        broken("header block with a number above 28 bits (RFC 7541 5.1)")
    }

    /// The bytes of a string as sent, and whether they are Huffman-coded.
    #[inline]
    fn raw_string(&mut self) -> Result<(&'b [u8], bool), Fault> {
        let huffman = self.rest.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        match self.rest.split_at_checked(length) {
            Some((string, rest)) => {
                self.rest = rest;
                Ok((string, huffman))
            }
            None => broken("string longer than its header block (RFC 7541 5.2)"),
        }
    }

    #[inline]
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let (string, huffman) = self.raw_string()?;
        if huffman {
            return huffman::decode(string, out).or_else(broken);
        }
        out.extend_from_slice(string);
        Ok(())
    }

    /// Its length as sent, which is about that of the text.
    fn skip_string(&mut self) -> Result<usize, Fault> {
        Ok(self.raw_string()?.0.len())
    }
}
