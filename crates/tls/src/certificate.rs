//! Files of a certificate to something a handshake can use, or to what is wrong with them.
//!
//! Everything that can be known before the first client comes is found here: a key of another certificate, a date that has
//! passed, an authority in between that was left out. A chain in the wrong order is put right and warned of, since some
//! authorities hand them out so and clients differ in what they forgive.
//!
//! Whether the chain leads to an authority that clients trust is not judged: we do not know whom they trust.

use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;

use evenkeel_model::limits;

use crate::fault::{Fault, Part, Warning};
use crate::ocsp;

/// The bytes of the files of one certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFiles<'a> {
    /// PEM: the certificate, then those that vouch for it.
    pub chain: &'a [u8],
    /// PEM: PKCS #8, PKCS #1 or SEC1.
    pub key: &'a [u8],
    /// DER, as an OCSP responder answers.
    pub ocsp: Option<&'a [u8]>,
}

/// In the order we prefer them: the smaller the signature, the cheaper the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl Kind {
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Ecdsa => "ecdsa",
            Kind::Ed25519 => "ed25519",
            Kind::Rsa => "rsa",
        }
    }
}

/// A certificate with its key, ready for use.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names it bears, in lower case, wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: u64,
    pub not_after: u64,
    pub kind: Kind,
}

impl Certificate {
    /// DER, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(crate) fn ocsp(&self) -> Option<&[u8]> {
        self.key.ocsp.as_deref()
    }
}

/// A certificate ready for use and what to look at, or what is wrong.
pub fn certificate(files: &CertificateFiles<'_>, now_unix: u64) -> Result<(Certificate, Vec<Warning>), Fault> {
    let mut warnings = Vec::new();
    let chain = read_chain(files.chain)?;
    let parsed = parse_chain(&chain)?;
    let (key, kind) = read_key(files.key)?;
    let leaf = leaf_of(&parsed, &*key)?;
    let leaf_certificate = &parsed[leaf];
    let (not_before, not_after) = judge_dates(leaf_certificate, now_unix, &mut warnings)?;
    judge_strength(&parsed, &mut warnings);
    let order = order_chain(&parsed, leaf, &mut warnings);
    for at in order.iter().skip(1) {
        judge_intermediate_date(&parsed[*at], now_unix, &mut warnings);
    }
    let names = names_of(leaf_certificate, &mut warnings);
    let ocsp = files.ocsp.map(|bytes| ocsp::read(bytes, now_unix, &mut warnings)).transpose()?;
    let cert = order.into_iter().map(|at| chain[at].clone()).collect();
    let certified = CertifiedKey { ocsp, ..CertifiedKey::new(cert, key) };
    Ok((Certificate { key: Arc::new(certified), names, not_before, not_after, kind }, warnings))
}

/// All certificates of a PEM file.
fn read_chain(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    certificates_of(bytes, Part::Chain)
}

pub(crate) fn certificates_of(bytes: &[u8], part: Part) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |code, what: &str, help: &str| Err(Fault::new(part, code, what, help));
    if !contains(bytes, b"-----BEGIN ") {
        return match bytes.first() {
            None => fault("no_certificate", "is empty, but it takes certificates in PEM", "write the chain into it"),
            Some(0x30) => fault(
                "not_pem",
                "is DER, but it takes PEM",
                "convert it: openssl x509 -inform der -in FILE -out FILE.pem",
            ),
            Some(_) => fault(
                "not_pem",
                "has no PEM block, but it takes certificates in PEM",
                "it begins with -----BEGIN CERTIFICATE-----",
            ),
        };
    }
    let mut chain = Vec::new();
    for found in CertificateDer::pem_slice_iter(bytes) {
        match found {
            Ok(certificate) => chain.push(certificate),
            Err(_) => {
                return fault("not_pem", "has a broken PEM block", "copy the file again; a line may be cut or missing");
            }
        }
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    match contains(bytes, b"PRIVATE KEY-----") {
        true => fault(
            "no_certificate",
            "holds a private key, but no certificate",
            "the two files may be swapped: certificate takes the chain, key the private key",
        ),
        false => fault("no_certificate", "holds no certificate", "it begins with -----BEGIN CERTIFICATE-----"),
    }
}

fn parse_chain<'a>(chain: &'a [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'a>>, Fault> {
    let parse = |(at, der): (usize, &'a CertificateDer<'static>)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Fault::new(
            Part::Chain,
            "broken_certificate",
            format!("has a certificate that cannot be read, number {}", at + 1),
            "ask for the file again where it came from",
        )),
    };
    chain.iter().enumerate().map(parse).collect()
}

fn read_key(bytes: &[u8]) -> Result<(Arc<dyn SigningKey>, Kind), Fault> {
    let fault = |code, what: &str, help: &str| Err(Fault::new(Part::Key, code, what, help));
    if contains(bytes, b"ENCRYPTED") {
        return fault(
            "key_encrypted",
            "is encrypted with a passphrase, but nobody is there to type it when the node starts",
            "remove it: openssl pkey -in FILE -out FILE.plain, readable by evenkeel's user only",
        );
    }
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) if contains(bytes, b"-----BEGIN CERTIFICATE-----") => {
            return fault(
                "key_missing",
                "holds a certificate, but no private key",
                "the two files may be swapped: certificate takes the chain, key the private key",
            );
        }
        Err(pem::Error::NoItemsFound) if contains(bytes, b"-----BEGIN ") => {
            return fault("key_missing", "holds no private key", "it begins with -----BEGIN PRIVATE KEY-----");
        }
        Err(pem::Error::NoItemsFound) if bytes.is_empty() => {
            return fault("key_missing", "is empty, but it takes a private key in PEM", "write the key into it");
        }
        Err(pem::Error::NoItemsFound) => {
            return fault(
                "not_pem",
                "has no PEM block, but it takes a private key in PEM",
                "convert it: openssl pkey -inform der -in FILE -out FILE.pem",
            );
        }
        Err(_) => {
            return fault("not_pem", "has a broken PEM block", "copy the file again; a line may be cut or missing");
        }
    };
    let unsupported = || {
        fault(
            "unsupported_key",
            "is a key of a kind that cannot be used",
            "use ECDSA on P-256 or P-384 (P-521 works), Ed25519, or RSA of 2048 to 8192 bits",
        )
    };
    let Ok(key) = any_supported_type(&key) else {
        return unsupported();
    };
    let kind = match key.algorithm() {
        SignatureAlgorithm::ECDSA => Kind::Ecdsa,
        SignatureAlgorithm::ED25519 => Kind::Ed25519,
        SignatureAlgorithm::RSA => Kind::Rsa,
        _ => return unsupported(),
    };
    Ok((key, kind))
}

/// The certificate the key belongs to, wherever in the file it is.
fn leaf_of(parsed: &[X509Certificate<'_>], key: &dyn SigningKey) -> Result<usize, Fault> {
    let public = key.public_key();
    let public = public.as_deref().unwrap_or_default();
    parsed.iter().position(|certificate| certificate.public_key().raw == public).ok_or_else(|| {
        Fault::new(
            Part::Key,
            "key_mismatch",
            format!("is not the key of this certificate ({})", title(&parsed[0])),
            "give the key the certificate was asked for with, or ask for a new certificate with this key",
        )
    })
}

fn judge_dates(certificate: &X509Certificate<'_>, now: u64, warnings: &mut Vec<Warning>) -> Result<(u64, u64), Fault> {
    let validity = certificate.validity();
    let (from, to) = (seconds(validity.not_before), seconds(validity.not_after));
    if now > to {
        return Err(Fault::new(
            Part::Chain,
            "expired",
            format!("expired on {} ({})", day(validity.not_after), ago(now - to)),
            "renew it; every client refuses it now",
        ));
    }
    if now < from {
        return Err(Fault::new(
            Part::Chain,
            "not_yet_valid",
            format!("is valid only from {}, {}", day(validity.not_before), ahead(from - now)),
            "wait for that day or use the certificate before it; if the day has come, look at this node's clock",
        ));
    }
    if to - now < limits::CERTIFICATE_NOTICE.value * DAY {
        warnings.push(Warning::new(
            Part::Chain,
            "expires_soon",
            format!("expires on {}, {}", day(validity.not_after), ahead(to - now)),
            "renew it, and look why the renewal that should have come before did not",
        ));
    }
    Ok((from, to))
}

fn judge_intermediate_date(certificate: &X509Certificate<'_>, now: u64, warnings: &mut Vec<Warning>) {
    let end = certificate.validity().not_after;
    if now > seconds(end) {
        warnings.push(Warning::new(
            Part::Chain,
            "intermediate_expired",
            format!("holds {}, which expired on {}", title(certificate), day(end)),
            "take the authority's present intermediate certificate into the file in its place",
        ));
    }
}

fn judge_strength(parsed: &[X509Certificate<'_>], warnings: &mut Vec<Warning>) {
    for certificate in parsed {
        // A root signs itself, and nobody checks that signature.
        let signed_by_another = certificate.issuer().as_raw() != certificate.subject().as_raw();
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        if signed_by_another && SHA1_SIGNATURES.contains(&algorithm.as_str()) {
            warnings.push(Warning::new(
                Part::Chain,
                "weak_signature",
                format!("holds {}, which is signed with SHA-1", title(certificate)),
                "ask for a certificate signed with SHA-256; clients have refused SHA-1 since 2017",
            ));
        }
        if let Ok(PublicKey::RSA(rsa)) = certificate.public_key().parsed()
            && rsa.key_size() < RSA_BITS
        {
            warnings.push(Warning::new(
                Part::Chain,
                "weak_key",
                format!("holds {}, whose RSA key has {} bits", title(certificate), rsa.key_size()),
                "clients refuse RSA below 2048 bits; take a stronger one",
            ));
        }
    }
}

/// The leaf, then who vouches for whom, then what belongs to nobody.
fn order_chain(parsed: &[X509Certificate<'_>], leaf: usize, warnings: &mut Vec<Warning>) -> Vec<usize> {
    let mut order = vec![leaf];
    let mut last = leaf;
    while parsed[last].issuer().as_raw() != parsed[last].subject().as_raw() {
        let issuer = parsed[last].issuer().as_raw();
        let next = (0..parsed.len()).find(|at| !order.contains(at) && parsed[*at].subject().as_raw() == issuer);
        let Some(next) = next else { break };
        order.push(next);
        last = next;
    }
    let linked = order.len();
    order.extend((0..parsed.len()).filter(|at| !order[..linked].contains(at)).collect::<Vec<_>>());
    if leaf != 0 {
        warnings.push(Warning::new(
            Part::Chain,
            "leaf_not_first",
            format!("has its own certificate ({}) in place {}, behind another", title(&parsed[leaf]), leaf + 1),
            "it is sent in the right order; put it first all the same, other software will not do that",
        ));
    } else if order.iter().enumerate().any(|(place, at)| place != *at) {
        warnings.push(Warning::new(
            Part::Chain,
            "chain_out_of_order",
            "does not hold its certificates in the order in which they vouch for each other",
            "it is sent in the right order; sort the file all the same, other software will not do that",
        ));
    }
    if linked < order.len() {
        let stray = &parsed[order[linked]];
        warnings.push(Warning::new(
            Part::Chain,
            "chain_stray",
            format!("holds {}, which vouches for nothing in it", title(stray)),
            "remove it; every client pays for its bytes",
        ));
    }
    let end = &parsed[order[linked - 1]];
    let own_root = end.issuer().as_raw() == end.subject().as_raw();
    if linked == 1 && !own_root {
        warnings.push(Warning::new(
            Part::Chain,
            "intermediate_missing",
            format!("has no certificate of its issuer, {}", one_line(&end.issuer().to_string())),
            "append the authority's intermediate certificate; many clients cannot find it by themselves",
        ));
    }
    order
}

/// DNS names of the alternative names; where there are none, a common name that looks like one.
fn names_of(certificate: &X509Certificate<'_>, warnings: &mut Vec<Warning>) -> Vec<String> {
    let mut names = Vec::new();
    let mut addresses = false;
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.trim_end_matches('.').to_ascii_lowercase()),
                GeneralName::IPAddress(_) => addresses = true,
                _ => {}
            }
        }
    }
    if names.is_empty() && !addresses {
        let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        names.extend(common.filter(|name| looks_like_a_name(name)).map(str::to_ascii_lowercase));
        warnings.push(Warning::new(
            Part::Chain,
            "no_alternative_names",
            "bears no name in subjectAltName",
            "ask for one that does; clients have not looked at the common name since 2017",
        ));
    }
    names.dedup();
    names
}

fn looks_like_a_name(text: &str) -> bool {
    text.contains('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'))
}

/// How a certificate is called in a message: its common name, else its whole subject.
fn title(certificate: &X509Certificate<'_>) -> String {
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    match common {
        Some(name) => format!("\"{}\"", one_line(name)),
        None => format!("\"{}\"", one_line(&certificate.subject().to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

const RSA_BITS: usize = 2048;
pub(crate) const DAY: u64 = 86_400;

/// sha1WithRSAEncryption, its older twin, dsa-with-sha1, ecdsa-with-SHA1.
const SHA1_SIGNATURES: [&str; 4] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29", "1.2.840.10040.4.3", "1.2.840.10045.4.1"];

fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn day(time: ASN1Time) -> String {
    let date = time.to_datetime();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn ago(seconds: u64) -> String {
    match seconds / DAY {
        0 => "today".into(),
        1 => "a day ago".into(),
        days => format!("{days} days ago"),
    }
}

pub(crate) fn ahead(seconds: u64) -> String {
    match seconds / DAY {
        0 => "within a day".into(),
        1 => "in a day".into(),
        days => format!("in {days} days"),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
