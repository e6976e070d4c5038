//! The two tables of HPACK: the fixed one of RFC 7541 appendix A, and the one both sides build up.
//!
//! Entries of the second lie behind one another in one buffer and are dropped from its start, so that each is one
//! slice and inserting is one copy. A ring would cut entries in two, boxes would be an allocation each.

use std::collections::VecDeque;

/// How our encoder treats a field with a static name. What it does with others it decides by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Into the table at once: few values, each for long.
    Index,
    /// Into the table when it was seen before.
    Twice,
    /// Never into the table: seldom the same again.
    Plain,
    /// As `Twice`, but short ones could be guessed by trying and are never indexed.
    Cookie,
    /// A secret: no one on the way may index it either (RFC 7541 section 7.1.3).
    Never,
}

pub const STATIC: [(&[u8], &[u8], Policy); 61] = [
    (b":authority", b"", Policy::Index),
    (b":method", b"GET", Policy::Index),
    (b":method", b"POST", Policy::Index),
    (b":path", b"/", Policy::Plain),
    (b":path", b"/index.html", Policy::Plain),
    (b":scheme", b"http", Policy::Index),
    (b":scheme", b"https", Policy::Index),
    (b":status", b"200", Policy::Index),
    (b":status", b"204", Policy::Index),
    (b":status", b"206", Policy::Index),
    (b":status", b"304", Policy::Index),
    (b":status", b"400", Policy::Index),
    (b":status", b"404", Policy::Index),
    (b":status", b"500", Policy::Index),
    (b"accept-charset", b"", Policy::Index),
    (b"accept-encoding", b"gzip, deflate", Policy::Index),
    (b"accept-language", b"", Policy::Index),
    (b"accept-ranges", b"", Policy::Index),
    (b"accept", b"", Policy::Index),
    (b"access-control-allow-origin", b"", Policy::Index),
    (b"age", b"", Policy::Plain),
    (b"allow", b"", Policy::Index),
    (b"authorization", b"", Policy::Never),
    (b"cache-control", b"", Policy::Index),
    (b"content-disposition", b"", Policy::Twice),
    (b"content-encoding", b"", Policy::Index),
    (b"content-language", b"", Policy::Index),
    (b"content-length", b"", Policy::Plain),
    (b"content-location", b"", Policy::Plain),
    (b"content-range", b"", Policy::Plain),
    (b"content-type", b"", Policy::Index),
    (b"cookie", b"", Policy::Cookie),
    (b"date", b"", Policy::Twice),
    (b"etag", b"", Policy::Plain),
    (b"expect", b"", Policy::Index),
    (b"expires", b"", Policy::Twice),
    (b"from", b"", Policy::Index),
    (b"host", b"", Policy::Index),
    (b"if-match", b"", Policy::Plain),
    (b"if-modified-since", b"", Policy::Plain),
    (b"if-none-match", b"", Policy::Plain),
    (b"if-range", b"", Policy::Plain),
    (b"if-unmodified-since", b"", Policy::Plain),
    (b"last-modified", b"", Policy::Plain),
    (b"link", b"", Policy::Twice),
    (b"location", b"", Policy::Plain),
    (b"max-forwards", b"", Policy::Index),
    (b"proxy-authenticate", b"", Policy::Plain),
    (b"proxy-authorization", b"", Policy::Never),
    (b"range", b"", Policy::Plain),
    (b"referer", b"", Policy::Twice),
    (b"refresh", b"", Policy::Index),
    (b"retry-after", b"", Policy::Plain),
    (b"server", b"", Policy::Index),
    (b"set-cookie", b"", Policy::Plain),
    (b"strict-transport-security", b"", Policy::Index),
    (b"transfer-encoding", b"", Policy::Index),
    (b"user-agent", b"", Policy::Index),
    (b"vary", b"", Policy::Index),
    (b"via", b"", Policy::Index),
    (b"www-authenticate", b"", Policy::Plain),
];

pub const STATIC_LENGTH: usize = STATIC.len();

/// What an entry counts for besides its strings (RFC 7541 section 4.1); RFC 9113 counts lists the same way.
pub const ENTRY_OVERHEAD: usize = 32;

const SLOTS: usize = 128;

/// Number of the first static entry of a name, by where the name's hash points; 0 is an empty slot.
static BY_NAME: [u8; SLOTS] = {
    let mut slots = [0; SLOTS];
    let mut number = 1;
    while number <= STATIC_LENGTH {
        let name = STATIC[number - 1].0;
        // Entries of one name stand behind one another; the first one is listed.
        if number == 1 || !same(STATIC[number - 2].0, name) {
            let mut slot = slot_of(name);
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = number as u8;
        }
        number += 1;
    }
    slots
};

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Length and three bytes tell all static names well enough apart.
#[inline]
const fn slot_of(name: &[u8]) -> usize {
    let [first, .., last] = *name else { return name.len() };
    let middle = name[name.len() / 2];
    (name.len() * 19 + first as usize * 5 + middle as usize * 3 + last as usize * 11) % SLOTS
}

/// Number of the first static entry with that name.
#[inline]
pub fn static_name(name: &[u8]) -> Option<usize> {
    let mut slot = slot_of(name);
    loop {
        match BY_NAME[slot] {
            0 => return None,
            number if STATIC[usize::from(number) - 1].0 == name => return Some(usize::from(number)),
            _ => slot = (slot + 1) % SLOTS,
        }
    }
}

/// Number of the static entry with that name and value; `first` is the name's first one.
#[inline]
pub fn static_field(first: usize, value: &[u8]) -> Option<usize> {
    if value.is_empty() {
        return STATIC[first - 1].1.is_empty().then_some(first);
    }
    let name = STATIC[first - 1].0;
    let same_name = STATIC[first - 1..].iter().take_while(|entry| entry.0.len() == name.len() && entry.0 == name);
    same_name.zip(first..).find(|(entry, _)| entry.1 == value).map(|(_, number)| number)
}

/// The dynamic table.
#[derive(Debug)]
pub struct Table {
    bytes: Vec<u8>,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// What `bytes[0]` counts as: positions go on when the start is dropped. Wraps.
    dropped: u32,
    /// By the rule of RFC 7541 section 4.1.
    size: usize,
    limit: usize,
    /// How many entries were ever inserted. Wraps; only differences are looked at.
    inserted: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name: u32,
    value: u32,
}

impl Entry {
    const fn size(self) -> usize {
        self.name as usize + self.value as usize + ENTRY_OVERHEAD
    }
}

impl Table {
    pub const fn new(limit: usize) -> Table {
        Table { bytes: Vec::new(), entries: VecDeque::new(), dropped: 0, size: 0, limit, inserted: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries were ever inserted, wrapping: the number of the newest entry.
    #[inline]
    pub const fn inserted(&self) -> u32 {
        self.inserted
    }

    /// The entry inserted `age` entries before the newest.
    #[inline]
    pub fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let position = self.entries.len().checked_sub(age + 1)?;
        let entry = self.entries[position];
        let start = entry.start.wrapping_sub(self.dropped) as usize;
        let (name, rest) = self.bytes[start..].split_at(entry.name as usize);
        Some((name, &rest[..entry.value as usize]))
    }

    /// One that is larger than the table empties it (RFC 7541 section 4.4); says whether it is in.
    pub fn insert(&mut self, name: &[u8], value: &[u8]) -> bool {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict_to(self.limit.saturating_sub(size));
        if size > self.limit {
            return false;
        }
        self.make_room();
        let narrow = |length| u32::try_from(length).expect("a table has a limit of 32 bits");
        let start = self.dropped.wrapping_add(narrow(self.bytes.len()));
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name: narrow(name.len()), value: narrow(value.len()) });
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
        true
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.evict_to(limit);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= entry.size();
        }
    }

    /// Drops what evicted entries left behind, as seldom as keeps it below the table's own size.
    fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            // What a browser's first request needs, at once instead of in five steps.
            self.bytes.reserve(self.limit.min(1024));
            self.entries.reserve(16);
        }
        let dead = match self.entries.front() {
            Some(oldest) => oldest.start.wrapping_sub(self.dropped) as usize,
            None => self.bytes.len(),
        };
        if dead > 0 && (dead >= self.limit || dead == self.bytes.len()) {
            self.bytes.drain(..dead);
            self.dropped = self.dropped.wrapping_add(u32::try_from(dead).expect("less than twice a 32-bit limit"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_names_are_found_and_others_are_not() {
        for (position, (name, value, _)) in STATIC.iter().enumerate() {
            let first = static_name(name).expect("it stands in the table");
            assert_eq!(STATIC[first - 1].0, *name);
            assert!(first == 1 || STATIC[first - 2].0 != *name, "{first} is not the first of its name");
            assert_eq!(static_field(first, value), Some(position + 1));
        }
        for name in [b"".as_slice(), b"x", b":", b"accept-", b"x-forwarded-for", b"sec-fetch-mode"] {
            assert_eq!(static_name(name), None);
        }
        assert_eq!(static_field(2, b"PUT"), None);
        assert_eq!(static_field(2, b""), None);
    }

    #[test]
    fn a_table_is_a_queue_of_bounded_size() {
        let mut table = Table::new(100);
        assert!(table.insert(b"one", b"1"));
        assert!(table.insert(b"two", b"2"));
        assert_eq!((table.get(0), table.get(1)), (Some((&b"two"[..], &b"2"[..])), Some((&b"one"[..], &b"1"[..]))));
        assert_eq!(table.get(2), None);
        assert!(table.insert(b"three", b"3"));
        assert_eq!((table.len(), table.get(1)), (2, Some((&b"two"[..], &b"2"[..]))));
        table.set_limit(40);
        assert_eq!((table.len(), table.get(0)), (1, Some((&b"three"[..], &b"3"[..]))));
        assert!(!table.insert(b"a name", b"and a value"));
        assert_eq!((table.len(), table.get(0)), (0, None));
        table.set_limit(0);
        assert!(!table.insert(b"", b""));
    }

    #[test]
    fn a_long_life_does_not_grow_the_buffer() {
        let mut table = Table::new(4096);
        for number in 0_u32..100_000 {
            let value = vec![number as u8; (number % 1500) as usize];
            assert!(table.insert(&number.to_be_bytes(), &value));
            assert_eq!(table.get(0), Some((&number.to_be_bytes()[..], &value[..])));
            let oldest = number + 1 - u32::try_from(table.len()).expect("few");
            assert_eq!(table.get(table.len() - 1).expect("it is there").0, oldest.to_be_bytes());
            assert!(table.bytes.len() <= 2 * 4096, "{} bytes", table.bytes.len());
        }
    }
}
