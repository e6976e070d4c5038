//! Writes header blocks, small for what repeats and without leaking what is secret.
//!
//! A field goes into the table when it is likely to come again: at once for names whose values stay
//! (`server`, `user-agent`), the second time for others, so that a stream of request ids does not wash the useful entries out.
//! Secrets never do: who can make us send a guess beside a secret and see the length of the block could try the
//! secret out (RFC 7541 section 7.1).
//!
//! What is in the table is found by a hash with a few places for each value. When these are all taken, that costs a few
//! bytes on the wire and nothing else, so there are no chains to walk and nothing to clean up.

use evenkeel_model::limits;

use super::fields::{Field, FieldList};
use super::huffman;
use super::table::{Policy, STATIC, STATIC_LENGTH, Table, static_field, static_name};

const LIMIT: usize = limits::HEADER_TABLE.value as usize;

/// More than entries that fit into the table.
const SLOTS: usize = 256;

/// Cookies shorter than this might be guessed. nghttp2 and Chromium draw the line there too.
const SHORT_COOKIE: usize = 20;

/// One direction's encoder; lives as long as its connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    places: Box<Places>,
    /// Size updates to announce at the start of the next block: the smallest limit since the last one, and the last.
    update: Option<(usize, usize)>,
    limit: usize,
    /// Where a list is gathered before it is encoded; kept for its room.
    list: FieldList,
}

/// Numbers of entries (see [`Table::inserted`]), found by hash. Any may be stale and is compared before use.
#[derive(Debug)]
struct Places {
    fields: [u32; SLOTS],
    names: [u32; SLOTS],
    /// Parts of the hashes of what was sent as a literal lately.
    seen: [u16; SLOTS],
}

impl Places {
    /// Whether a field with that hash was here lately; it is from now on. Each group of places remembers four.
    fn was_seen(&mut self, hash: u64) -> bool {
        let (group, mark) = ((hash >> 56) as usize & !3, hash as u16);
        let four = &mut self.seen[group..group + 4];
        let seen = four.contains(&mark);
        if !seen {
            four.rotate_right(1);
            four[0] = mark;
        }
        seen
    }
}

enum Representation {
    Indexed = 0x40,
    Plain = 0x00,
    Never = 0x10,
}

impl Encoder {
    pub fn new() -> Encoder {
        let places = Box::new(Places { fields: [0; SLOTS], names: [0; SLOTS], seen: [0; SLOTS] });
        Encoder { table: Table::new(LIMIT), places, update: None, limit: LIMIT, list: FieldList::new() }
    }

    /// The other side's SETTINGS_HEADER_TABLE_SIZE. We never use more than the default, whatever it offers.
    pub fn set_peer_limit(&mut self, bytes: u32) {
        let limit = usize::try_from(bytes).map_or(LIMIT, |bytes| bytes.min(LIMIT));
        if limit == self.limit {
            return;
        }
        self.limit = limit;
        let smallest = self.update.map_or(limit, |(smallest, _)| smallest.min(limit));
        self.update = Some((smallest, limit));
    }

    /// Starts a block. What is appended until the next `begin` must be sent as one.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((smallest, last)) = self.update.take() else { return };
        // RFC 7541 §4.2: the smallest must be said too, since the other side has evicted down to it.
        for limit in [Some(smallest).filter(|&smallest| smallest < last), Some(last)].into_iter().flatten() {
            self.table.set_limit(limit);
            integer(limit, 5, 0x20, out);
        }
    }

    /// Appends one field; `name` is in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let static_number = static_name(name);
        let policy = match static_number {
            Some(first) => {
                if let Some(number) = static_field(first, value) {
                    return integer(number, 7, 0x80, out);
                }
                STATIC[first - 1].2
            }
            None => Policy::Twice,
        };
        let twice = match policy {
            Policy::Index => false,
            Policy::Cookie if value.len() < SHORT_COOKIE => {
                return self.literal(Representation::Never, static_number, name, value, out);
            }
            Policy::Twice | Policy::Cookie => true,
            Policy::Plain => return self.literal(Representation::Plain, static_number, name, value, out),
            Policy::Never => return self.literal(Representation::Never, static_number, name, value, out),
        };
        let name_hash = hash(0, name);
        let field_hash = hash(name_hash, value);
        if let Some(age) = self.find(&self.places.fields, field_hash, |entry| entry == (name, value)) {
            return integer(STATIC_LENGTH + 1 + age, 7, 0x80, out);
        }
        let number = static_number.or_else(|| {
            let age = self.find(&self.places.names, name_hash, |entry| entry.0 == name)?;
            Some(STATIC_LENGTH + 1 + age)
        });
        if twice && !self.places.was_seen(field_hash) {
            return self.literal(Representation::Plain, number, name, value, out);
        }
        self.literal(Representation::Indexed, number, name, value, out);
        if self.table.insert(name, value) {
            let (field, name) = (self.free(&self.places.fields, field_hash), self.free(&self.places.names, name_hash));
            self.places.fields[field] = self.table.inserted();
            self.places.names[name] = self.table.inserted();
        }
    }

    /// The age of the entry that `hash` leads to and `is` recognises.
    #[inline]
    fn find(&self, places: &[u32; SLOTS], hash: u64, is: impl Fn(Field<'_>) -> bool) -> Option<usize> {
        for slot in slots(hash) {
            if let Some(age) = self.age(places[slot])
                && self.table.get(age).is_some_and(&is)
            {
                return Some(age);
            }
        }
        None
    }

    /// Where to note a new entry: in place of one that is gone, or else of the oldest.
    fn free(&self, places: &[u32; SLOTS], hash: u64) -> usize {
        let age = |slot: &usize| self.age(places[*slot]).unwrap_or(usize::MAX);
        slots(hash).into_iter().max_by_key(age).expect("there are several")
    }

    /// Appends one block: first the `Some` ones of what `gather` returns, then what it put into the list.
    ///
    /// # Errors
    /// Those of `gather`; then nothing was encoded, so that the table stays in step.
    pub(crate) fn block<'f, const N: usize, T, E>(
        &mut self,
        out: &mut Vec<u8>,
        gather: impl FnOnce(&mut FieldList) -> Result<([Option<Field<'f>>; N], T), E>,
    ) -> Result<T, E> {
        let mut list = std::mem::take(&mut self.list);
        list.clear();
        let gathered = gather(&mut list).map(|(first, answer)| {
            self.begin(out);
            for (name, value) in first.into_iter().flatten().chain(list.iter()) {
                self.field(name, value, out);
            }
            answer
        });
        self.list = list;
        gathered
    }

    /// How long ago an entry was inserted, while it is still in the table.
    #[inline]
    fn age(&self, inserted: u32) -> Option<usize> {
        let age = self.table.inserted().wrapping_sub(inserted) as usize;
        (age < self.table.len()).then_some(age)
    }

    fn literal(&self, how: Representation, number: Option<usize>, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let prefix = match how {
            Representation::Indexed => 6,
            Representation::Plain | Representation::Never => 4,
        };
        integer(number.unwrap_or(0), prefix, how as u8, out);
        if number.is_none() {
            string(name, out);
        }
        string(value, out);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

/// Appends a number whose start fills the low `prefix` bits of a byte that begins with `start`.
#[inline]
fn integer(value: usize, prefix: u32, start: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(start | value as u8);
    } else {
        out.push(start | mask as u8);
        long_integer(value - mask, out);
    }
}

fn long_integer(mut rest: usize, out: &mut Vec<u8>) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a string in the shorter of its two forms.
fn string(text: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_length(text);
    if length < text.len() {
        integer(length, 7, 0x80, out);
        huffman::encode(text, out);
    } else {
        integer(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

/// Of a long text only its length and four samples. It need not withstand an attacker nor tell all texts apart: a
/// collision only costs a literal.
#[inline]
fn hash(seed: u64, text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    // Both halves of the product, so that every bit of the word reaches the high and the low bits.
    let mix = |sum: u64, word: u64| {
        let product = u128::from(sum.rotate_left(5) ^ word) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    };
    let word =
        |at: usize| text.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word));
    let seed = seed ^ text.len() as u64;
    match text.len() {
        0..8 => mix(seed, text.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))),
        8..=16 => mix(mix(seed, word(0)), word(text.len() - 8)),
        length => [0, length / 3, length / 3 * 2 - 4, length - 8].into_iter().fold(seed, |sum, at| mix(sum, word(at))),
    }
}

/// Where to look for a hash. The best bits of such a hash are the high ones.
#[inline]
fn slots(hash: u64) -> [usize; 4] {
    let first = (hash >> 56) as usize;
    [first, (first + 1) % SLOTS, (first + 2) % SLOTS, (first + 3) % SLOTS]
}
