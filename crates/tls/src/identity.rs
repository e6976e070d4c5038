//! What makes two settings the same: a digest of everything they were made of.
//!
//! rustls' configs cannot be compared, and a reload has to know whether anything changed.

use aws_lc_rs::digest::{Context, SHA256};

/// Of settings, or of what ticket keys belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    #[expect(clippy::new_ret_no_self, reason = "the identity is what comes out at the end")]
    pub(crate) fn new(of: &str) -> Builder {
        Builder(Context::new(&SHA256)).part(of.as_bytes())
    }

    /// One that [`Identity::array`] gave, in another process.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Identity {
        Identity(bytes)
    }

    pub(crate) fn array(&self) -> &[u8; 32] {
        &self.0
    }

    /// To make one identity part of another.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) struct Builder(Context);

impl Builder {
    /// Lengths go in too, so that two parts cannot pass for one.
    pub(crate) fn part(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn maybe(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.part(b"some").part(bytes),
            None => self.part(b"none"),
        }
    }

    pub(crate) fn finish(self) -> Identity {
        Identity(digest_bytes(self.0))
    }
}

fn digest_bytes(context: Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}
