//! A client that shakes hands with anybody and keeps what it was shown: for a command that has to describe an expired
//! certificate, and not merely be refused by it.
//!
//! Nothing secret may be sent over such a connection. The signature of the handshake is verified all the same, so that what
//! is described is at least the owner's own.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::client::Offers;
use crate::clock::{Clock, Told};
use crate::fault::{Fault, Part};
use crate::policy::Policy;
use crate::server::authorities;
use crate::subject::one_line;

/// Names of one certificate that are kept; some have hundreds.
const NAMES_MAX: usize = 32;

/// For one handshake.
#[derive(Debug)]
pub struct Witness {
    pub config: Arc<ClientConfig>,
    seen: Arc<Mutex<Seen>>,
}

/// What the other side showed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Leaf first.
    pub chain: Vec<Described>,
    /// Why it is not to be trusted; `None` when it is, or nobody was there to vouch.
    pub untrusted: Option<String>,
}

/// A certificate for a reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

impl Witness {
    /// `ca`: PEM of those who may vouch; without it everybody passes for trusted.
    ///
    /// # Errors
    /// When `ca` cannot be read.
    pub fn new(ca: Option<&[u8]>, offers: Offers, clock: Arc<dyn Clock>) -> Result<Witness, Fault> {
        let policy = Policy::Intermediate;
        let provider = policy.provider();
        let judge = match ca {
            Some(ca) => {
                let roots = Arc::new(authorities(ca, Part::Ca)?);
                let judge = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                Some(judge.map_err(|error| {
                    Fault::new(
                        Part::Ca,
                        "broken_certificate",
                        format!("cannot be used: {error}"),
                        "give a file of CA certificates",
                    )
                })?)
            }
            None => None,
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let verifier = Recorder { provider: provider.clone(), judge, seen: Arc::clone(&seen) };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(Told(clock)))
            .with_protocol_versions(policy.protocol_versions())
            .map_err(|error| Fault::new(Part::Settings, "policy", error.to_string(), "use another tls policy"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = offers.protocols();
        Ok(Witness { config: Arc::new(config), seen })
    }

    /// What the last handshake showed, so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    judge: Option<Arc<WebPkiServerVerifier>>,
    seen: Arc<Mutex<Seen>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let untrusted =
            self.judge.as_ref().and_then(|judge| judge.verify_server_cert(leaf, intermediates, name, ocsp, now).err());
        let chain = std::iter::once(leaf).chain(intermediates).filter_map(described).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Seen { chain, untrusted: untrusted.map(|error| error.to_string()) };
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn described(der: &CertificateDer<'_>) -> Option<Described> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    Some(Described {
        subject: one_line(certificate.subject()),
        issuer: one_line(certificate.issuer()),
        names: names.take(NAMES_MAX).collect(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    v4.or(v6).map(|address| address.to_string())
}
