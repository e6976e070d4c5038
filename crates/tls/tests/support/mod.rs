//! An authority that signs whatever a test needs, a clock that stands where it is put, and the wire between two sessions.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel_tls::{
    Certificate, CertificateFiles, Client, ClientSettings, Clock, Failed, Offers, Policy, Server, ServerSettings,
    Session, certificate, client, server,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// 2026-11-22.
pub const NOW: u64 = 1_795_305_600;
pub const DAY: u64 = 86_400;
pub const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug)]
pub struct At(pub AtomicU64);

impl Clock for At {
    fn unix_seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn now() -> Arc<At> {
    Arc::new(At(AtomicU64::new(NOW)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    P256,
    P384,
    Ed25519,
    Rsa,
}

pub fn key(kind: Key) -> KeyPair {
    let algorithm = match kind {
        Key::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Key::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Key::Ed25519 => &rcgen::PKCS_ED25519,
        Key::Rsa => &rcgen::PKCS_RSA_SHA256,
    };
    KeyPair::generate_for(algorithm).expect("keys can be made")
}

pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// Chain and key as an operator has them in files.
#[derive(Clone)]
pub struct Files {
    pub chain: String,
    pub key: String,
}

pub fn plain_params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let mut params = CertificateParams::new(names).expect("names are names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 6, 1);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = plain_params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_after = date_time_ymd(2036, 1, 1);
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let params = authority_params(name);
        let key = key(Key::P256);
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// An authority in between.
    pub fn intermediate(&self, name: &str) -> Self {
        let params = authority_params(name);
        let key = key(Key::P256);
        let pem = params.signed_by(&key, &self.issuer).expect("it signs").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn sign(&self, params: &CertificateParams, kind: Key) -> Files {
        let key = key(kind);
        let chain = params.signed_by(&key, &self.issuer).expect("it signs").pem();
        Files { chain: chain + &self.pem, key: key.serialize_pem() }
    }

    /// A server's certificate for these names.
    pub fn leaf(&self, names: &[&str], kind: Key) -> Files {
        self.sign(&plain_params(names[0], names), kind)
    }

    pub fn client_leaf(&self, common_name: &str) -> Files {
        let mut params = plain_params(common_name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, Key::P256)
    }
}

impl Files {
    pub fn as_files(&self) -> CertificateFiles<'_> {
        CertificateFiles { chain: self.chain.as_bytes(), key: self.key.as_bytes(), ocsp: None }
    }

    pub fn load(&self) -> Certificate {
        certificate(&self.as_files(), NOW).expect("the certificate is in order").0
    }
}

/// Settings of a listener to change what a test is about.
pub fn settings(certificates: Vec<Certificate>) -> ServerSettings<'static> {
    ServerSettings {
        certificates,
        policy: Policy::Intermediate,
        client_ca: None,
        client_required: false,
        http2: true,
        tickets: None,
        clock: now(),
    }
}

pub fn plain_server(authority: &Authority) -> Server {
    server(settings(vec![authority.leaf(&["a.example"], Key::P256).load()])).expect("a server")
}

pub fn client_settings<'a>(ca: &'a str, name: &'a str) -> ClientSettings<'a> {
    ClientSettings {
        name: Some(name),
        ca: Some(ca.as_bytes()),
        verify: true,
        certificate: None,
        offers: Offers::Http1,
        clock: now(),
    }
}

pub fn plain_client(authority: &Authority, name: &str) -> Client {
    client(client_settings(&authority.pem, name)).expect("a client")
}

/// Two sessions and the bytes between them.
pub struct Pair {
    pub client: Session,
    pub server: Session,
    pub client_heard: Vec<u8>,
    pub server_heard: Vec<u8>,
}

/// How a pair failed: what each side said of it, the side that failed first before.
pub type Broken = (Option<Failed>, Option<Failed>);

impl Pair {
    pub fn new(client: &Client, server: &Server) -> Self {
        Pair {
            client: Session::client(client, BACKEND).expect("a client session"),
            server: Session::server(server).expect("a server session"),
            client_heard: Vec::new(),
            server_heard: Vec::new(),
        }
    }

    /// Carries bytes until nobody has any; what client and server say when one of them fails.
    pub fn settle(&mut self) -> Result<(), Broken> {
        let (mut client_failed, mut server_failed) = (None, None);
        loop {
            let up = carry(&mut self.client, &mut self.server, &mut self.server_heard, &mut server_failed);
            let down = carry(&mut self.server, &mut self.client, &mut self.client_heard, &mut client_failed);
            if !up && !down {
                break;
            }
        }
        match (&client_failed, &server_failed) {
            (None, None) => Ok(()),
            _ => Err((client_failed, server_failed)),
        }
    }
}

fn carry(from: &mut Session, to: &mut Session, heard: &mut Vec<u8>, failed: &mut Option<Failed>) -> bool {
    let mut bytes = from.output().to_vec();
    from.sent(bytes.len());
    if bytes.is_empty() {
        return false;
    }
    if failed.is_none()
        && let Err(error) = to.receive(&mut bytes, heard)
    {
        *failed = Some(error);
    }
    true
}

/// A pair whose handshake is done.
pub fn shaken(client: &Client, server: &Server) -> Pair {
    let mut pair = Pair::new(client, server);
    pair.settle().expect("the handshake works");
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    pair
}

/// A client that believes everybody: for tests about something else.
#[derive(Debug)]
pub struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
