//! What certificates say of themselves: who a client is, as text that fits into a header, and when a backend's ends.
//!
//! Call these with what [`crate::Session::certificates`] gives, which a handshake has verified; they verify nothing.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The subject in one line as RFC 4514 writes it, most specific part first: `CN=anna,OU=shop,O=Example`. Only printable
/// ASCII: everything else is a backslash and two hexadecimal digits per byte, as the RFC allows.
pub fn client_subject(certificates: &[CertificateDer<'_>]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificates.first()?).ok()?;
    Some(one_line(certificate.subject()))
}

/// SHA-256 of the certificate, 64 lower-case hexadecimal digits.
pub fn client_fingerprint(certificates: &[CertificateDer<'_>]) -> Option<String> {
    let digest = digest(&SHA256, certificates.first()?);
    Some(digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Whole days from `now` (seconds since 1970) to the end of the first certificate; negative when it has ended.
pub(crate) fn days_left(certificates: &[CertificateDer<'_>], now: u64) -> Option<i64> {
    const DAY: i64 = 86_400;
    let (_, certificate) = X509Certificate::from_der(certificates.first()?).ok()?;
    let ends = certificate.validity().not_after.timestamp();
    Some(ends.saturating_sub(i64::try_from(now).ok()?).div_euclid(DAY))
}

pub(crate) fn one_line(name: &X509Name<'_>) -> String {
    let mut line = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        for (place, attribute) in part.iter().enumerate() {
            match (place, line.is_empty()) {
                (0, true) => {}
                (0, false) => line.push(','),
                _ => line.push('+'),
            }
            append(&mut line, attribute);
        }
    }
    line
}

fn append(line: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type();
    let dotted = oid.to_id_string();
    match NAMES.iter().find(|(known, _)| *known == dotted) {
        Some((_, name)) => line.push_str(name),
        None => line.push_str(&dotted),
    }
    line.push('=');
    let value = attribute.attr_value();
    // Text is written as text; what is not text by RFC 4514 2.4 as `#` and its bytes.
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::T61String | Tag::NumericString => {
            escape(line, value.data);
        }
        _ => {
            line.push('#');
            for byte in value.data {
                let _ = write!(line, "{byte:02x}");
            }
        }
    }
}

fn escape(line: &mut String, value: &[u8]) {
    let last = value.len().saturating_sub(1);
    for (place, byte) in value.iter().enumerate() {
        let edge = place == 0 || place == last;
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                line.push('\\');
                line.push(char::from(*byte));
            }
            b' ' if edge => line.push_str("\\20"),
            b'#' if place == 0 => line.push_str("\\#"),
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => {
                let _ = write!(line, "\\{byte:02x}");
            }
        }
    }
}

/// RFC 4514 section 3, and what certificates of people and machines often have besides.
const NAMES: [(&str, &str); 12] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.12", "title"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];
