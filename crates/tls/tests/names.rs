//! Which certificate a client is shown: by name, and by what it can check.
//!
//! Asked by real clients of rustls, one of which can verify RSA only, since the choice hangs on what they offer.

mod support;

use evenkeel_tls::{Server, Session, server};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::{Authority, Key, settings};

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// What the server showed a client that asked for `name`, or why it refused.
fn shown(
    server: &Server,
    config: &Arc<ClientConfig>,
    name: &str,
) -> Result<CertificateDer<'static>, evenkeel_tls::Failed> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(config.clone(), name).expect("a client");
    let mut session = Session::server(server).expect("a session");
    let mut heard = Vec::new();
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("it writes to memory");
        }
        if bytes.is_empty() {
            break;
        }
        session.receive(&mut bytes, &mut heard)?;
        let mut answer = session.output();
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("it reads from memory");
            client.process_new_packets().expect("the client goes along");
        }
        let count = session.output().len();
        session.sent(count);
    }
    Ok(client.peer_certificates().expect("certificates were shown")[0].clone())
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a root");
    roots
}

fn config(authority: &Authority, provider: CryptoProvider) -> ClientConfig {
    ClientConfig::builder_with_details(Arc::new(provider), Arc::new(Now))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(authority))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Now;

impl rustls::time_provider::TimeProvider for Now {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(support::NOW)))
    }
}

#[test]
fn the_name_decides_exact_before_wildcard() {
    let authority = Authority::new("Test authority");
    let first = authority.leaf(&["first.example"], Key::P256).load();
    let exact = authority.leaf(&["www.example.com", "example.com"], Key::P256).load();
    let wildcard = authority.leaf(&["*.example.com"], Key::P256).load();
    let deep = authority.leaf(&["*.a.example.com"], Key::P256).load();
    let certificates = vec![first.clone(), exact.clone(), wildcard.clone(), deep.clone()];
    let server = server(settings(certificates)).expect("a server");
    let mut config = config(&authority, aws_lc_rs::default_provider());
    // The certificates are right for their names, so what is shown verifies; an address gets the first, which is not.
    let table = [
        ("first.example", Some(&first)),
        ("www.example.com", Some(&exact)),
        ("WWW.Example.COM", Some(&exact)),
        ("example.com", Some(&exact)),
        ("shop.example.com", Some(&wildcard)),
        ("Shop.example.com", Some(&wildcard)),
        ("a.example.com", Some(&wildcard)),
        ("b.a.example.com", Some(&deep)),
        ("c.b.a.example.com", None),
        ("b.shop.example.com", None),
        ("other.example", None),
        ("com", None),
    ];
    for (name, expected) in table {
        let got = shown(&server, &Arc::new(config.clone()), name);
        match expected {
            Some(certificate) => assert_eq!(got.as_ref(), Ok(&certificate.chain()[0]), "{name}"),
            None => {
                let failed = got.expect_err(name);
                assert!(failed.unknown_name, "{name}: {failed:?}");
                assert_eq!(failed.sni.as_deref(), Some(name));
                assert_eq!(failed.detail, "no certificate bears this name");
            }
        }
        assert_eq!(server.covers(name), expected.is_some(), "{name}");
    }
    // Without a name and with an address the first is shown; the test's client does not mind whose it is.
    config.enable_sni = false;
    let by_address = support::client_settings(&authority.pem, "127.0.0.1");
    let by_address =
        evenkeel_tls::client(evenkeel_tls::ClientSettings { verify: false, ..by_address }).expect("a client");
    let pair = support::shaken(&by_address, &server);
    assert_eq!(pair.server.sni(), None);
    assert_eq!(shown(&server, &Arc::new(config), "first.example").as_ref(), Ok(&first.chain()[0]));
}

#[test]
fn an_unknown_name_is_told_by_the_alert_made_for_it() {
    let authority = Authority::new("Test authority");
    let server = support::plain_server(&authority);
    let mut pair = support::Pair::new(&support::plain_client(&authority, "b.example"), &server);
    let (client, server) = pair.settle().expect_err("there is no such certificate");
    assert_eq!(client.expect("the client failed").detail, "alert received: unrecognized_name");
    let server = server.expect("the server failed");
    assert!(server.unknown_name);
    assert_eq!(server.sni.as_deref(), Some("b.example"));
}

#[test]
fn ecdsa_is_preferred_and_rsa_shown_to_who_knows_nothing_else() {
    let authority = Authority::new("Test authority");
    let ecdsa = authority.leaf(&["a.example"], Key::P256).load();
    let rsa = authority.leaf(&["a.example"], Key::Rsa).load();
    let both = server(settings(vec![rsa.clone(), ecdsa.clone()])).expect("a server");
    let only_suites = |suites: Vec<rustls::SupportedCipherSuite>| CryptoProvider {
        cipher_suites: suites,
        ..aws_lc_rs::default_provider()
    };
    let all = config(&authority, aws_lc_rs::default_provider());
    let rsa_suites = config(&authority, only_suites(vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]));
    let ecdsa_suites = config(&authority, only_suites(vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]));
    let mut no_name = rsa_suites.clone();
    no_name.enable_sni = false;
    let table = [
        ("everything", all.clone(), &ecdsa),
        ("TLS 1.2 with RSA suites", rsa_suites, &rsa),
        ("TLS 1.2 with ECDSA suites", ecdsa_suites, &ecdsa),
        ("no name, TLS 1.2 with RSA suites", no_name, &rsa),
    ];
    for (what, config, expected) in table {
        let got = shown(&both, &Arc::new(config), "a.example");
        assert_eq!(got.as_ref(), Ok(&expected.chain()[0]), "{what}");
    }
    // TLS 1.3: the signature algorithms decide, not the suites.
    let table = [("openssl's RSA-PSS only", true, &rsa), ("everything", false, &ecdsa)];
    for (what, only_rsa, expected) in table {
        let mut config = all.clone();
        if only_rsa {
            config.dangerous().set_certificate_verifier(Arc::new(OnlyRsa));
        }
        assert_eq!(shown(&both, &Arc::new(config), "a.example").as_ref(), Ok(&expected.chain()[0]), "{what}");
    }
    // Where nothing fits, the handshake says so itself.
    let rsa_only = server(settings(vec![rsa])).expect("a server");
    let provider = only_suites(vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]);
    let failed = shown(&rsa_only, &Arc::new(config(&authority, provider)), "a.example").expect_err("no suite fits");
    assert!(!failed.unknown_name);
    assert_eq!(failed.detail, "no cipher suite in common");
}

/// A client that can check RSA signatures only.
#[derive(Debug)]
struct OnlyRsa;

impl rustls::client::danger::ServerCertVerifier for OnlyRsa {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::RSA_PSS_SHA256]
    }
}
