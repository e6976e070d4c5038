//! What stands in a sticky cookie: the backend and when it was given, sealed.
//!
//! ```text
//!  version (1) │ tag (16) │ backend key (8), issued (4), both encrypted     29 bytes, 39 characters of base64url
//! ```
//!
//! Authenticated, so that nobody picks a backend by making a cookie up, and so that a cookie of one pool is worth nothing in
//! another. Encrypted too, because a backend's key is made from its address by steps that anybody can repeat: it would tell
//! every visitor the addresses behind the balancer, which is how other balancers' cookies are read.
//!
//! The tag is HMAC-SHA256 over the fields, cut to 16 bytes, and the fields are covered by a second HMAC of the tag (the order of
//! SIV, RFC 5297). Nothing is drawn by lot, so every node with the same secret makes the same token, and there is no
//! nonce to repeat. Two clients of one backend can see that they share it, as they could from its answers.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::hash::BackendKey;

const VERSION: u8 = 1;
const TAG: usize = 16;
const FIELDS: usize = 12;
const BYTES: usize = 1 + TAG + FIELDS;

/// Length of every token.
pub const TOKEN_LENGTH: usize = (BYTES * 8).div_ceil(6);

/// RFC 4648 section 5: fit for cookies and URLs alike.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes and reads the tokens of one pool.
#[derive(Clone)]
pub struct Sticky {
    tag: Hmac<Sha256>,
    cover: Hmac<Sha256>,
    max_age: Option<u64>,
    step: u64,
}

/// What a token said that was ours and not too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub backend: BackendKey,
    /// Whether the client should be given a new one: half of the cookie's age is over. A client that keeps coming keeps its
    /// backend that way, and most answers carry no cookie.
    pub renew: bool,
}

impl Sticky {
    /// `secret` is what all nodes of a cluster share, of any length; `max_age` is that of the pool's cookie.
    pub fn new(secret: &[u8], pool: &str, max_age: Option<Duration>) -> Self {
        let max_age = max_age.map(|age| age.as_secs().max(1));
        Sticky {
            tag: keyed(secret, b"evenkeel sticky tag", pool),
            cover: keyed(secret, b"evenkeel sticky cover", pool),
            max_age,
            // Coarse, so that a cookie tells little of when it was given; fine enough for the shortest age.
            step: max_age.map_or(60, |age| (age / 60).clamp(1, 60)),
        }
    }

    /// `now` counts seconds since 1970, so that nodes and restarts agree.
    pub fn issue(&self, backend: BackendKey, now: u64) -> Token {
        let issued = (now / self.step * self.step) as u32;
        let mut fields = [0; FIELDS];
        fields[..8].copy_from_slice(&backend.0.to_le_bytes());
        fields[8..].copy_from_slice(&issued.to_le_bytes());
        let tag = self.tag(&fields);
        self.cover(&tag, &mut fields);
        let mut bytes = [VERSION; BYTES];
        bytes[1..=TAG].copy_from_slice(&tag);
        bytes[1 + TAG..].copy_from_slice(&fields);
        Token(encoded(&bytes))
    }

    /// `None` for whatever this pool did not issue, and for what is older than a cookie of the pool may be.
    pub fn read(&self, token: &[u8], now: u64) -> Option<Held> {
        let bytes = decoded(token)?;
        if bytes[0] != VERSION {
            return None;
        }
        let mut tag = [0; TAG];
        tag.copy_from_slice(&bytes[1..=TAG]);
        let mut fields = [0; FIELDS];
        fields.copy_from_slice(&bytes[1 + TAG..]);
        self.cover(&tag, &mut fields);
        // Compares in constant time: how much of a guess was right must not show.
        self.tag.clone().chain_update(fields).verify_truncated_left(&tag).ok()?;
        let (backend, issued) = fields.split_at(8);
        let backend = BackendKey(u64::from_le_bytes(backend.try_into().ok()?));
        let issued = u64::from(u32::from_le_bytes(issued.try_into().ok()?));
        // From the future: a node whose clock runs ahead gave it out.
        let age = now.saturating_sub(issued);
        match self.max_age {
            // The step is what rounding down made it seem older by.
            Some(max_age) if age >= max_age + self.step => None,
            Some(max_age) => Some(Held { backend, renew: age >= max_age.div_ceil(2) }),
            None => Some(Held { backend, renew: false }),
        }
    }

    fn tag(&self, fields: &[u8; FIELDS]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.tag.clone().chain_update(fields).finalize().into_bytes()[..TAG]);
        tag
    }

    /// Covers fields, or uncovers them.
    fn cover(&self, tag: &[u8; TAG], fields: &mut [u8; FIELDS]) {
        let cover = self.cover.clone().chain_update(tag).finalize().into_bytes();
        fields.iter_mut().zip(cover).for_each(|(field, cover)| *field ^= cover);
    }
}

/// Keys are not for logs.
impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// A key of its own for each pool and use. The use is of fixed text, so that no pool's name can lead from one to the other.
fn keyed(secret: &[u8], usage: &[u8], pool: &str) -> Hmac<Sha256> {
    let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac(&mac(secret).chain_update(usage).chain_update([0]).chain_update(pool).finalize().into_bytes())
}

/// The text of a cookie. On the stack, as it is made for many answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; TOKEN_LENGTH]);

impl Token {
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn encoded(bytes: &[u8; BYTES]) -> [u8; TOKEN_LENGTH] {
    let mut text = [0; TOKEN_LENGTH];
    for (three, four) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let bits = three.iter().zip([16, 8, 0]).fold(0u32, |bits, (byte, place)| bits | u32::from(*byte) << place);
        for (place, letter) in [18, 12, 6, 0].into_iter().zip(four) {
            *letter = ALPHABET[(bits >> place & 63) as usize];
        }
    }
    text
}

fn decoded(text: &[u8]) -> Option<[u8; BYTES]> {
    let text: &[u8; TOKEN_LENGTH] = text.try_into().ok()?;
    let mut bytes = [0; BYTES];
    for (four, three) in text.chunks(4).zip(bytes.chunks_mut(3)) {
        let mut bits = 0u32;
        for (letter, place) in four.iter().zip([18, 12, 6, 0]) {
            bits |= u32::from(value_of(*letter)?) << place;
        }
        for (place, byte) in [16, 8, 0].into_iter().zip(three) {
            *byte = (bits >> place) as u8;
        }
    }
    // The last letter carries two bits that stand for nothing: one text for each token, not four.
    (encoded(&bytes) == *text).then_some(bytes)
}

const fn value_of(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const BACKEND: BackendKey = BackendKey(0x1234_5678_9abc_def0);

    fn sticky(max_age: Option<u64>) -> Sticky {
        Sticky::new(b"a secret of at least 32 bytes....", "web", max_age.map(Duration::from_secs))
    }

    fn backend_of(held: Option<Held>) -> Option<BackendKey> {
        held.map(|held| held.backend)
    }

    #[test]
    fn what_was_issued_is_read_by_every_node_with_the_secret() {
        let token = sticky(None).issue(BACKEND, NOW);
        assert_eq!(backend_of(sticky(None).read(token.as_bytes(), NOW + 1_000_000)), Some(BACKEND));
        assert!(token.as_str().bytes().all(|letter| letter.is_ascii_alphanumeric() || b"-_".contains(&letter)));
        // Computed with another HMAC; nodes of two releases side by side must read each other's cookies.
        assert_eq!(token.as_str(), "ASwzHGOR13UIZTulpiNj333DTJ6vKXyN9L9jIjY");
    }

    #[test]
    fn another_secret_another_pool_and_another_version_are_not_read() {
        let token = sticky(None).issue(BACKEND, NOW);
        let other_secret = Sticky::new(b"another secret", "web", None);
        let other_pool = Sticky::new(b"a secret of at least 32 bytes....", "api", None);
        assert_eq!(other_secret.read(token.as_bytes(), NOW), None);
        assert_eq!(other_pool.read(token.as_bytes(), NOW), None);
        let mut bytes = decoded(token.as_bytes()).expect("our own");
        bytes[0] = 2;
        assert_eq!(sticky(None).read(&encoded(&bytes), NOW), None);
    }

    #[test]
    fn no_single_letter_can_be_changed_left_out_or_added() {
        let sticky = sticky(None);
        let token = sticky.issue(BACKEND, NOW);
        for place in 0..TOKEN_LENGTH {
            for letter in ALPHABET.iter().chain(b"=+/ ~\xff") {
                let mut forged = token.0;
                forged[place] = *letter;
                assert_eq!(sticky.read(&forged, NOW).is_some(), forged == token.0, "{letter} at {place}");
            }
            let mut shorter = token.0.to_vec();
            shorter.remove(place);
            assert_eq!(sticky.read(&shorter, NOW), None);
            let mut longer = token.0.to_vec();
            longer.insert(place, b'A');
            assert_eq!(sticky.read(&longer, NOW), None);
        }
    }

    #[test]
    fn a_token_does_not_show_the_backend() {
        // Neither the key's bytes nor anything two keys have in common stands in the token.
        let bytes = |key| decoded(sticky(None).issue(BackendKey(key), NOW).as_bytes()).expect("our own");
        let (one, other) = (bytes(0x1111_1111_1111_1111), bytes(0x1111_1111_1111_1112));
        assert!(!one.windows(4).any(|window| window == [0x11; 4]));
        let alike = one[1..].iter().zip(&other[1..]).filter(|(a, b)| a == b).count();
        assert!(alike < 4, "{alike} of 28 bytes are alike");
    }

    #[test]
    fn a_token_ends_with_its_cookie_and_is_renewed_at_half_its_age() {
        let table = [
            //  max age, age, readable and to be renewed
            (Some(60), 0, Some(false)),
            (Some(60), 29, Some(false)),
            (Some(60), 30, Some(true)),
            (Some(60), 60, Some(true)),
            (Some(60), 61, None),
            (Some(1), 0, Some(false)),
            (Some(1), 1, Some(true)),
            (Some(1), 2, None),
            (Some(86_400), 43_199, Some(false)),
            (Some(86_400), 43_200, Some(true)),
            (Some(86_400), 86_460, None),
            (None, 1_000_000, Some(false)),
        ];
        for (max_age, age, expected) in table {
            let sticky = sticky(max_age);
            // A moment at which nothing is rounded.
            let token = sticky.issue(BACKEND, NOW);
            let renew = sticky.read(token.as_bytes(), NOW + age).map(|held| held.renew);
            assert_eq!(renew, expected, "{max_age:?} after {age}");
        }
        let token = sticky(Some(60)).issue(BACKEND, NOW + 500);
        assert_eq!(
            backend_of(sticky(Some(60)).read(token.as_bytes(), NOW)),
            Some(BACKEND),
            "from a clock ahead of ours"
        );
    }

    proptest! {
        #[test]
        fn every_backend_comes_back_as_it_went(key: u64, now in 0u64..1 << 32) {
            let sticky = sticky(None);
            let token = sticky.issue(BackendKey(key), now);
            prop_assert_eq!(backend_of(sticky.read(token.as_bytes(), now)), Some(BackendKey(key)));
        }

        #[test]
        fn no_bytes_are_taken_for_a_token(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(sticky(None).read(&bytes, NOW), None);
        }
    }
}
