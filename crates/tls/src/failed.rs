//! Why a session failed, in words for the operator.
//!
//! The words are fixed: they become a cause's `detail` in log and metric, and nothing the other side chose may get in there.
//! They name what happened and not who did it, since the same words serve for clients and for backends.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub detail: &'static str,
    /// The name a client asked for, in lower case.
    pub sni: Option<Box<str>>,
    /// Whether it failed because no certificate bears that name: the cause is `tls_no_certificate_for_name`.
    pub unknown_name: bool,
    /// Whether the other side spoke plain HTTP. No alert waits in the output then; a client may be told in its own words.
    pub plain_http: bool,
}

impl Failed {
    pub(crate) fn new(detail: &'static str) -> Self {
        Failed { detail, sni: None, unknown_name: false, plain_http: false }
    }
}

/// What somebody spoke who did not speak TLS, by the first five bytes.
pub(crate) fn not_tls(first: &[u8; 5]) -> Option<Failed> {
    if matches!(first, [20..=23, 3, 0..=4, ..]) {
        return None;
    }
    let http: [&[u8]; 10] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELET", b"PATCH", b"OPTIO", b"CONNE", b"TRACE", b"HTTP/"];
    if http.iter().any(|start| first.starts_with(start)) || first == b"PRI *" {
        return Some(Failed { plain_http: true, ..Failed::new("plain HTTP where TLS was expected") });
    }
    Some(Failed::new(match first {
        b"PROXY" | b"\r\n\r\n\0" => "a PROXY protocol header where TLS was expected",
        b"SSH-2" | b"SSH-1" => "SSH where TLS was expected",
        [first, _, 1, ..] if first & 0x80 != 0 => "an SSL 2.0 hello; TLS 1.2 or 1.3 is expected",
        _ => "something that is not TLS",
    }))
}

pub(crate) fn words(error: &Error) -> &'static str {
    match error {
        Error::AlertReceived(alert) => alert_words(*alert),
        Error::InvalidCertificate(error) => certificate_words(error),
        Error::NoCertificatesPresented => "no certificate shown, but one is required",
        Error::PeerIncompatible(error) => incompatible_words(error),
        Error::PeerMisbehaved(error) => misbehaved_words(error),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion | InvalidMessage::InvalidContentType) => {
            "something that is not TLS"
        }
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => "handshake message too long",
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) | Error::PeerSentOversizedRecord => "record too long",
        Error::InvalidMessage(_) => "malformed TLS message",
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "TLS message at a moment where it has no place"
        }
        Error::DecryptError => "record that cannot be decrypted: damaged or forged on the way",
        Error::NoApplicationProtocol => "no application protocol (ALPN) in common",
        Error::FailedToGetRandomBytes => "the system gave no random bytes",
        Error::FailedToGetCurrentTime => "the time is not known",
        Error::UnsupportedNameType => "a name of a kind that cannot be checked",
        Error::General(text) if text.contains("no server certificate chain resolved") => {
            "no certificate for this client"
        }
        _ => "TLS failed within our own library",
    }
}

fn incompatible_words(error: &PeerIncompatible) -> &'static str {
    match error {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => "no TLS version in common",
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common",
        PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
            "no key exchange group in common"
        }
        // A hello of TLS 1.2 or 1.3 lists signature algorithms; one of 1.1 or older has no place for them.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired => "no TLS version in common: 1.1 or older was offered",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => "no signature algorithm in common",
        _ => "a TLS feature that is not spoken here",
    }
}

fn misbehaved_words(error: &PeerMisbehaved) -> &'static str {
    match error {
        PeerMisbehaved::TooManyEmptyFragments => "too many empty records",
        PeerMisbehaved::TooManyRenegotiationRequests => "renegotiation is not done here",
        PeerMisbehaved::TooManyWarningAlertsReceived => "too many warnings",
        PeerMisbehaved::TooManyKeyUpdateRequests => "too many key updates",
        PeerMisbehaved::ServerNameMustContainOneHostName | PeerMisbehaved::ServerNameDifferedOnRetry => {
            "server name that is not a name"
        }
        PeerMisbehaved::InvalidKeyShare | PeerMisbehaved::WrongGroupForKeyShare => "broken key share",
        PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme | PeerMisbehaved::SignedKxWithWrongAlgorithm => {
            "signed with an algorithm that was not offered"
        }
        _ => "a break of the TLS protocol",
    }
}

fn certificate_words(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate is not valid yet",
        CertificateError::Revoked => "certificate is revoked",
        CertificateError::UnknownIssuer => "certificate from an unknown authority",
        CertificateError::BadSignature => "certificate with a wrong signature",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate for another name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate not meant for this use"
        }
        CertificateError::BadEncoding => "certificate that cannot be read",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate signed with an algorithm that is not accepted"
        }
        // webpki says it in no other way. OpenSSL's `req -x509` makes such a certificate unless told otherwise.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "an authority's certificate (CA:TRUE) shown as a server's"
        }
        _ => "certificate refused",
    }
}

pub(crate) fn alert_words(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "closed within the handshake",
        AlertDescription::UnexpectedMessage => "alert received: unexpected_message",
        AlertDescription::BadRecordMac => "alert received: bad_record_mac",
        AlertDescription::RecordOverflow => "alert received: record_overflow",
        AlertDescription::HandshakeFailure => "alert received: handshake_failure",
        AlertDescription::BadCertificate => "alert received: bad_certificate",
        AlertDescription::UnsupportedCertificate => "alert received: unsupported_certificate",
        AlertDescription::CertificateRevoked => "alert received: certificate_revoked",
        AlertDescription::CertificateExpired => "alert received: certificate_expired",
        AlertDescription::CertificateUnknown => "alert received: certificate_unknown",
        AlertDescription::IllegalParameter => "alert received: illegal_parameter",
        AlertDescription::UnknownCA => "alert received: unknown_ca",
        AlertDescription::AccessDenied => "alert received: access_denied",
        AlertDescription::DecodeError => "alert received: decode_error",
        AlertDescription::DecryptError => "alert received: decrypt_error",
        AlertDescription::ProtocolVersion => "alert received: protocol_version",
        AlertDescription::InsufficientSecurity => "alert received: insufficient_security",
        AlertDescription::InternalError => "alert received: internal_error",
        AlertDescription::InappropriateFallback => "alert received: inappropriate_fallback",
        AlertDescription::UserCanceled => "alert received: user_canceled",
        AlertDescription::NoRenegotiation => "alert received: no_renegotiation",
        AlertDescription::MissingExtension => "alert received: missing_extension",
        AlertDescription::UnsupportedExtension => "alert received: unsupported_extension",
        AlertDescription::UnrecognisedName => "alert received: unrecognized_name",
        AlertDescription::BadCertificateStatusResponse => "alert received: bad_certificate_status_response",
        AlertDescription::UnknownPSKIdentity => "alert received: unknown_psk_identity",
        AlertDescription::CertificateRequired => "alert received: certificate_required",
        AlertDescription::NoApplicationProtocol => "alert received: no_application_protocol",
        _ => "alert received: one that we do not know",
    }
}
