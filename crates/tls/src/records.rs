//! The record layer after the handshake: opening and sealing, in place, one record at a time.
//!
//! rustls hands over the keys (its kernel API, made for kTLS) and we do what the kernel would do. Opening is still done by
//! rustls' own decrypters, which work in the caller's buffer. Sealing is ours, because rustls' encrypters give each record a
//! buffer of its own, to be copied again: here the text is copied once, behind its header, and encrypted where it lies.
//!
//! RFC 8446 section 5 for TLS 1.3; RFC 5246 section 6 with RFC 5288 (AES-GCM) and RFC 7905 (ChaCha20) for TLS 1.2.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::cipher::{AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, Nonce as RecordNonce};
use rustls::crypto::cipher::{make_tls12_aad, make_tls13_aad};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite};

/// Type, version, length.
pub(crate) const HEADER: usize = 5;

/// Plain bytes in one record.
pub(crate) const RECORD: usize = 16_384;

/// The most a record may have behind its header: what encryption may add by RFC 8446 5.2, the stricter of the two versions.
pub(crate) const RECORD_SEALED: usize = RECORD + 256;

const TAG: usize = 16;

/// The part of a TLS 1.2 GCM nonce that travels in front of the text.
const EXPLICIT_NONCE: usize = 8;

/// How much sealing adds to a record at most.
pub(crate) const OVERHEAD: usize = HEADER + EXPLICIT_NONCE + TAG + 1;

/// The front of a stream cut into records.
pub(crate) enum Frame {
    /// So many bytes are missing before the next question makes sense.
    Partial(usize),
    /// Length of the first record, header included.
    Whole(usize),
    TooLong,
}

pub(crate) fn frame(bytes: &[u8], longest: usize) -> Frame {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Frame::Partial(HEADER - bytes.len());
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > longest {
        return Frame::TooLong;
    }
    match (HEADER + length).checked_sub(bytes.len()) {
        None | Some(0) => Frame::Whole(HEADER + length),
        Some(missing) => Frame::Partial(missing),
    }
}

pub(crate) struct Sealer {
    key: LessSafeKey,
    iv: Iv,
    layout: Layout,
    sequence: u64,
    /// Records one key may seal.
    pub(crate) limit: u64,
}

/// How a record looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Tls13,
    /// GCM in TLS 1.2: half of the nonce is in the record.
    Explicit,
    /// ChaCha20 in TLS 1.2.
    Implicit,
}

impl Sealer {
    pub(crate) fn new(
        secrets: ConnectionTrafficSecrets,
        sequence: u64,
        suite: SupportedCipherSuite,
    ) -> Result<Self, Error> {
        let (key, iv, algorithm) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (key, iv, &AES_128_GCM),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (key, iv, &AES_256_GCM),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv, &CHACHA20_POLY1305),
            _ => return Err(Error::General("a cipher this room does not know".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let (layout, limit) = match suite {
            SupportedCipherSuite::Tls13(suite) => (Layout::Tls13, suite.common.confidentiality_limit),
            SupportedCipherSuite::Tls12(suite) => {
                let explicit = suite.aead_alg.key_block_shape().explicit_nonce_len == EXPLICIT_NONCE;
                let layout = if explicit { Layout::Explicit } else { Layout::Implicit };
                (layout, suite.common.confidentiality_limit)
            }
        };
        // Never near the end of the counter, whatever the cipher allows: a nonce must not come back.
        let limit = limit.min(1 << 60);
        Ok(Sealer { key: LessSafeKey::new(key), iv, layout, sequence, limit })
    }

    /// Whether this key has one record left: the one that says that the next comes under another key.
    pub(crate) fn worn_out(&self) -> bool {
        self.sequence + 1 >= self.limit
    }

    /// Appends one record to `out`. At most [`RECORD`] bytes of `plain`.
    ///
    /// It does not look at the limit: a last alert may go over it by one or two, which weakens nothing.
    pub(crate) fn seal(&mut self, kind: ContentType, plain: &[u8], out: &mut Vec<u8>) {
        debug_assert!(plain.len() <= RECORD, "a record holds at most 16 KiB");
        let nonce = RecordNonce::new(&self.iv, self.sequence).0;
        let (outer, length) = match self.layout {
            Layout::Tls13 => (ContentType::ApplicationData, plain.len() + 1 + TAG),
            Layout::Explicit => (kind, EXPLICIT_NONCE + plain.len() + TAG),
            Layout::Implicit => (kind, plain.len() + TAG),
        };
        let [high, low] = (length as u16).to_be_bytes();
        out.extend_from_slice(&[u8::from(outer), 3, 3, high, low]);
        if self.layout == Layout::Explicit {
            out.extend_from_slice(&nonce[NONCE_LEN - EXPLICIT_NONCE..]);
        }
        let text = out.len();
        out.extend_from_slice(plain);
        let tls13 = make_tls13_aad(length);
        let tls12 = make_tls12_aad(self.sequence, kind, ProtocolVersion::TLSv1_2, plain.len());
        let aad: &[u8] = match self.layout {
            Layout::Tls13 => {
                out.push(u8::from(kind));
                &tls13
            }
            Layout::Explicit | Layout::Implicit => &tls12,
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[text..]);
        out.extend_from_slice(tag.expect("a record is far below what the cipher can take").as_ref());
        self.sequence += 1;
    }
}

pub(crate) struct Opener {
    key: Box<dyn MessageDecrypter>,
    sequence: u64,
}

impl Opener {
    pub(crate) fn new(
        secrets: ConnectionTrafficSecrets,
        sequence: u64,
        suite: SupportedCipherSuite,
    ) -> Result<Self, Error> {
        let (key, iv): (AeadKey, Iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => return Err(Error::General("a cipher this room does not know".into())),
        };
        let key = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
            }
        };
        Ok(Opener { key, sequence })
    }

    /// What is in a whole record, header included; the text lies within it.
    pub(crate) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(ContentType, &'a [u8]), Error> {
        let (header, sealed) = record.split_at_mut(HEADER);
        let message = InboundOpaqueMessage::new(ContentType::from(header[0]), ProtocolVersion::TLSv1_2, sealed);
        let opened = self.key.decrypt(message, self.sequence)?;
        self.sequence += 1;
        Ok((opened.typ, opened.payload))
    }
}
