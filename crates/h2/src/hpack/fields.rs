//! A decoded header list: one run of bytes and where each field lies in it.
//!
//! Strings are decoded straight into it, and it is cleared and used again for the next list, so that in the long run
//! a connection allocates nothing for its headers. A list per field of strings would be an allocation per string.

/// Name and value.
pub type Field<'f> = (&'f [u8], &'f [u8]);

/// Names and values in their order.
#[derive(Clone, Debug, Default)]
pub struct FieldList {
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Span>,
}

/// Where a field lies: the value stands right behind the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: u32,
    pub value: u32,
    pub end: u32,
}

impl FieldList {
    pub const fn new() -> FieldList {
        FieldList { bytes: Vec::new(), fields: Vec::new() }
    }

    pub fn clear(&mut self) {
        // One list of an unusual size must not be paid for by an idle connection.
        const KEPT: usize = 16 * 1024;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.fields.clear();
    }

    #[inline]
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.close(start, start + name.len());
    }

    /// Makes a field of the bytes from `start` on.
    #[inline]
    pub(super) fn close(&mut self, start: usize, value: usize) {
        let narrow = |position| u32::try_from(position).expect("a list is limited to far less than 4 GiB");
        self.fields.push(Span { start: narrow(start), value: narrow(value), end: narrow(self.bytes.len()) });
    }

    /// The same with the name in lower case, which is returned.
    #[inline]
    pub fn push_lower(&mut self, name: &[u8], value: &[u8]) -> &[u8] {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes[start..].make_ascii_lowercase();
        let end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.close(start, end);
        &self.bytes[start..end]
    }

    /// Takes the last field back.
    pub fn pop(&mut self) {
        if let Some(span) = self.fields.pop() {
            self.bytes.truncate(span.start as usize);
        }
    }

    /// Takes all fields with that name out.
    pub fn remove(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        self.fields.retain(|span| &bytes[span.start as usize..span.value as usize] != name);
    }

    /// Bytes of the fields as lines of text.
    pub fn text_size(&self) -> usize {
        self.bytes.len() + ": \r\n".len() * self.fields.len()
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|span| {
            let (start, value, end) = (span.start as usize, span.value as usize, span.end as usize);
            (&self.bytes[start..value], &self.bytes[value..end])
        })
    }
}
