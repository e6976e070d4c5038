//! Writes header blocks.

#[derive(Debug, Default)]
pub struct Encoder {}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder {}
    }

    /// The other side's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_peer_limit(&mut self, bytes: u32) {
        let _ = bytes;
    }

    /// Starts a block. What is appended until the next `begin` must be sent as one.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Appends one field; `name` is in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let _ = (name, value, out);
    }
}
