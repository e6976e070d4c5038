//! Which versions, suites and groups are spoken: two lists, written down once for code and manual.
//!
//! They follow Mozilla's Server Side TLS guideline 5.7 (wiki.mozilla.org/Security/Server_Side_TLS) as far as rustls goes
//! with it. Left out of `intermediate` are the two suites with finite-field Diffie-Hellman, which rustls does not have and
//! clients since 2014 do not need. Added in front of the groups is X25519MLKEM768, which the guideline had not yet: browsers
//! prefer it, and it keeps what is recorded today unreadable for a quantum computer.
//!
//! The client's order decides among what both sides know, as the guideline has it: a telephone without AES in hardware asks
//! for ChaCha20 first and should get it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// TLS 1.2 and 1.3: everything sold since about 2014.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

/// In our order; a client's own order wins.
const SUITES: [(&str, &str, SupportedCipherSuite); 9] = [
    ("1.3", "TLS_AES_128_GCM_SHA256", TLS13_AES_128_GCM_SHA256),
    ("1.3", "TLS_AES_256_GCM_SHA384", TLS13_AES_256_GCM_SHA384),
    ("1.3", "TLS_CHACHA20_POLY1305_SHA256", TLS13_CHACHA20_POLY1305_SHA256),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("1.2", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const GROUPS: [(&str, &dyn SupportedKxGroup); 4] =
    [("X25519MLKEM768", X25519MLKEM768), ("X25519", X25519), ("secp256r1", SECP256R1), ("secp384r1", SECP384R1)];

impl Policy {
    pub const ALL: [Policy; 2] = [Policy::Intermediate, Policy::Modern];

    pub const fn word(self) -> &'static str {
        match self {
            Policy::Intermediate => "intermediate",
            Policy::Modern => "modern",
        }
    }

    /// As an operator says it: `1.3`.
    pub const fn versions(self) -> &'static [&'static str] {
        match self {
            Policy::Intermediate => &["1.2", "1.3"],
            Policy::Modern => &["1.3"],
        }
    }

    /// Version and IANA name of each suite, in our order.
    pub fn suites(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        SUITES
            .iter()
            .filter(move |(version, ..)| self.versions().contains(version))
            .map(|(version, name, _)| (*version, *name))
    }

    pub fn groups(self) -> impl Iterator<Item = &'static str> {
        GROUPS.iter().map(|(name, _)| *name)
    }

    pub(crate) fn protocol_versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Policy::Intermediate => &VERSIONS,
            Policy::Modern => &VERSIONS[..1],
        }
    }

    pub(crate) fn provider(self) -> Arc<CryptoProvider> {
        let suites = SUITES.iter().filter(|(version, ..)| self.versions().contains(version));
        Arc::new(CryptoProvider {
            cipher_suites: suites.map(|(_, _, suite)| *suite).collect(),
            kx_groups: GROUPS.iter().map(|(_, group)| *group).collect(),
            ..aws_lc_rs::default_provider()
        })
    }
}

/// The name IANA gave a suite we speak.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> Option<&'static str> {
    SUITES.iter().find(|(_, _, known)| known.suite() == suite.suite()).map(|(_, name, _)| *name)
}
