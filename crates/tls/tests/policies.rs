//! What each policy speaks and what it refuses, seen by clients that know one thing each.
//!
//! The manual's lists are compared with what is spoken, so neither can change alone.

mod support;

use std::sync::Arc;

use evenkeel_tls::{Failed, Policy, Server, ServerSettings, Session, server};
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suites, kx_group as groups};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};
use support::{Authority, Key, settings};

/// Version and suite, or how it failed.
fn negotiate(server: &Server, config: ClientConfig) -> Result<(&'static str, &'static str), Failed> {
    let name = ServerName::try_from("a.example").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut session = Session::server(server).expect("a session");
    let mut heard = Vec::new();
    while client.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("it writes to memory");
        }
        session.receive(&mut bytes, &mut heard)?;
        let answer = session.output().to_vec();
        session.sent(answer.len());
        let mut answer = &mut answer[..].as_ref();
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("it reads from memory");
            client.process_new_packets().expect("the client goes along");
        }
    }
    assert!(!session.is_handshaking());
    Ok((session.version().expect("a version"), session.suite().expect("a suite")))
}

fn config(
    versions: &[&'static SupportedProtocolVersion],
    suites: &[SupportedCipherSuite],
    groups: &[&'static dyn SupportedKxGroup],
) -> ClientConfig {
    let provider =
        CryptoProvider { cipher_suites: suites.to_vec(), kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions and suites fit")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(support::Trusting));
    config
}

/// rustls writes TLS 1.3 suites with the version in front; the registry of IANA does not.
fn iana(suite: SupportedCipherSuite) -> String {
    suite.suite().as_str().expect("a known suite").replace("TLS13_", "TLS_")
}

fn listed_name(policy: Policy, name: &str) -> &'static str {
    policy.suites().find(|(_, listed)| *listed == name).expect("it is listed").1
}

#[test]
fn every_suite_of_a_policy_is_spoken_and_no_other() {
    let authority = Authority::new("Test authority");
    let certificates =
        || vec![authority.leaf(&["a.example"], Key::P256).load(), authority.leaf(&["a.example"], Key::Rsa).load()];
    for policy in Policy::ALL {
        let server = server(ServerSettings { policy, ..settings(certificates()) }).expect("a server");
        let listed: Vec<(&str, &str)> = policy.suites().collect();
        let mut spoken = 0;
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            let (version, word): (&'static SupportedProtocolVersion, &str) = match suite {
                SupportedCipherSuite::Tls12(_) => (&TLS12, "1.2"),
                SupportedCipherSuite::Tls13(_) => (&TLS13, "1.3"),
            };
            let name = iana(*suite);
            let got = negotiate(&server, config(&[version], &[*suite], &[groups::X25519]));
            match listed.contains(&(word, name.as_str())) {
                true => {
                    spoken += 1;
                    assert_eq!(got, Ok((word, listed_name(policy, &name))), "{}", policy.word());
                }
                false => assert_eq!(got.expect_err("refused").detail, "no TLS version in common", "{name}"),
            }
        }
        assert_eq!(spoken, listed.len(), "{}: the list has what nobody can speak", policy.word());
    }
}

#[test]
fn every_group_of_a_policy_is_spoken_and_no_other() {
    let authority = Authority::new("Test authority");
    for policy in Policy::ALL {
        let certificates = vec![authority.leaf(&["a.example"], Key::P256).load()];
        let server = server(ServerSettings { policy, ..settings(certificates) }).expect("a server");
        let listed: Vec<&str> = policy.groups().collect();
        let table: [(&str, &'static dyn SupportedKxGroup); 6] = [
            ("X25519MLKEM768", groups::X25519MLKEM768),
            ("X25519", groups::X25519),
            ("secp256r1", groups::SECP256R1),
            ("secp384r1", groups::SECP384R1),
            ("SecP256r1MLKEM768", groups::SECP256R1MLKEM768),
            ("MLKEM1024", groups::MLKEM1024),
        ];
        for (name, group) in table {
            let got = negotiate(&server, config(&[&TLS13], &[suites::TLS13_AES_128_GCM_SHA256], &[group]));
            match listed.contains(&name) {
                true => assert!(got.is_ok(), "{name}: {got:?}"),
                false => assert_eq!(got.expect_err(name).detail, "no key exchange group in common"),
            }
        }
    }
}

#[test]
fn the_clients_order_decides_among_suites() {
    let authority = Authority::new("Test authority");
    let server = support::plain_server(&authority);
    let orders = [
        [suites::TLS13_CHACHA20_POLY1305_SHA256, suites::TLS13_AES_128_GCM_SHA256],
        [suites::TLS13_AES_128_GCM_SHA256, suites::TLS13_CHACHA20_POLY1305_SHA256],
    ];
    for order in orders {
        let got = negotiate(&server, config(&[&TLS13], &order, &[groups::X25519])).expect("it works");
        assert_eq!(got.1, iana(order[0]));
    }
}

#[test]
fn the_manual_names_what_the_code_speaks() {
    assert_eq!(Policy::Intermediate.versions(), ["1.2", "1.3"]);
    assert_eq!(Policy::Modern.versions(), ["1.3"]);
    assert_eq!(Policy::Intermediate.suites().count(), 9);
    assert_eq!(Policy::Modern.suites().count(), 3);
    assert!(Policy::Modern.suites().all(|(version, _)| version == "1.3"));
}
