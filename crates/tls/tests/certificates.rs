//! Every fault of certificate files that can be known before the first client comes, and every warning.
//!
//! What a client would find out must be found by whoever runs `check`, and said with a way out.

mod support;

use evenkeel_tls::{CertificateFiles, Kind, Part, certificate};
use rcgen::{CertificateParams, SanType, date_time_ymd};
use support::{Authority, DAY, Files, Key, NOW, plain_params};

const SHA1: &str = include_str!("files/sha1.pem");
const SHA1_KEY: &str = include_str!("files/sha1.key");
const RSA_1024: &str = include_str!("files/rsa1024.pem");
const RSA_1024_KEY: &str = include_str!("files/rsa1024.key");
const PKCS1: &str = include_str!("files/pkcs1.pem");
const PKCS1_KEY: &str = include_str!("files/pkcs1.key");
const OCSP: &[u8] = include_bytes!("files/ocsp.der");

fn with(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = plain_params("a.example", &["a.example"]);
    change(&mut params);
    params
}

fn one_certificate(pem: &str) -> String {
    let end = "-----END CERTIFICATE-----\n";
    let at = pem.replace("\r\n", "\n").find(end).expect("a certificate") + end.len();
    pem.replace("\r\n", "\n")[..at].to_owned()
}

#[test]
fn each_fault_has_its_code_and_a_way_out() {
    let authority = Authority::new("Test authority");
    let good = authority.leaf(&["a.example"], Key::P256);
    let other = authority.leaf(&["b.example"], Key::P256);
    let ended = authority.sign(&with(|params| params.not_after = date_time_ymd(2026, 11, 21)), Key::P256);
    let ahead = authority.sign(&with(|params| params.not_before = date_time_ymd(2026, 11, 24)), Key::P256);
    let cut = &good.chain[..good.chain.len() / 4];
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let unreadable = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let table: [(&str, &str, Part, &str, &str); 17] = [
        ("", &good.key, Part::Chain, "no_certificate", "is empty, but it takes certificates in PEM"),
        ("hello\n", &good.key, Part::Chain, "not_pem", "has no PEM block, but it takes certificates in PEM"),
        ("0\u{2}", &good.key, Part::Chain, "not_pem", "is DER, but it takes PEM"),
        (cut, &good.key, Part::Chain, "not_pem", "has a broken PEM block"),
        (&good.key, &good.key, Part::Chain, "no_certificate", "holds a private key, but no certificate"),
        (nonsense, &good.key, Part::Chain, "broken_certificate", "has a certificate that cannot be read, number 1"),
        (&good.chain, "", Part::Key, "key_missing", "is empty, but it takes a private key in PEM"),
        (&good.chain, "hello", Part::Key, "not_pem", "has no PEM block, but it takes a private key in PEM"),
        (&good.chain, &good.chain, Part::Key, "key_missing", "holds a certificate, but no private key"),
        (&good.chain, encrypted, Part::Key, "key_encrypted", "is encrypted with a passphrase"),
        (&good.chain, old_encrypted, Part::Key, "key_encrypted", "is encrypted with a passphrase"),
        (&good.chain, unreadable, Part::Key, "unsupported_key", "is a key of a kind that cannot be used"),
        (&good.chain, &other.key, Part::Key, "key_mismatch", "is not the key of this certificate (\"a.example\")"),
        (RSA_1024, RSA_1024_KEY, Part::Key, "unsupported_key", "is a key of a kind that cannot be used"),
        (&ended.chain, &ended.key, Part::Chain, "expired", "expired on 2026-11-21 (a day ago)"),
        (&ahead.chain, &ahead.key, Part::Chain, "not_yet_valid", "is valid only from 2026-11-24, in 2 days"),
        (&ended.chain, &good.key, Part::Key, "key_mismatch", "is not the key of this certificate (\"a.example\")"),
    ];
    for (chain, key, part, code, what) in table {
        let files = CertificateFiles { chain: chain.as_bytes(), key: key.as_bytes(), ocsp: None };
        let fault = certificate(&files, NOW).expect_err(code);
        assert_eq!((fault.part, fault.code), (part, code), "{fault}");
        assert!(fault.what.starts_with(what), "{what:?} expected, {:?} got", fault.what);
        assert!(!fault.help.is_empty() && !fault.help.ends_with('.') && !fault.what.ends_with('.'), "{fault}");
    }
}

#[test]
fn keys_of_every_form_are_taken() {
    let authority = Authority::new("Test authority");
    for (key, kind) in
        [(Key::P256, Kind::Ecdsa), (Key::P384, Kind::Ecdsa), (Key::Ed25519, Kind::Ed25519), (Key::Rsa, Kind::Rsa)]
    {
        assert_eq!(authority.leaf(&["a.example"], key).load().kind, kind);
    }
    let files = |chain: &str, key: &str| Files { chain: chain.into(), key: key.into() };
    assert!(PKCS1_KEY.starts_with("-----BEGIN RSA PRIVATE KEY"));
    let (pkcs1, _) = certificate(&files(PKCS1, PKCS1_KEY).as_files(), NOW + 2 * DAY).expect("PKCS #1 is taken");
    assert_eq!((pkcs1.kind, pkcs1.names), (Kind::Rsa, vec!["pkcs1.example".to_owned()]));
    assert!(SHA1_KEY.starts_with("-----BEGIN EC PRIVATE KEY"));
    let (sec1, _) = certificate(&files(SHA1, SHA1_KEY).as_files(), NOW + 2 * DAY).expect("SEC1 is taken");
    assert_eq!(sec1.kind, Kind::Ecdsa);
}

#[test]
fn what_works_but_should_be_looked_at_is_warned_of() {
    let authority = Authority::new("Test authority");
    let between = authority.intermediate("In between");
    let leaf = between.leaf(&["a.example"], Key::P256);
    let alone = one_certificate(&leaf.chain);
    let stranger = Authority::new("Stranger").pem;
    let whole = alone.clone() + &between.pem;
    let with_root = whole.clone() + &authority.pem;
    let turned = between.pem.clone() + &alone;
    let shuffled = alone.clone() + &authority.pem + &between.pem;
    let stray = whole.clone() + &stranger;
    let soon = between.sign(&with(|params| params.not_after = date_time_ymd(2026, 12, 2)), Key::P256);
    let nameless = between.sign(&plain_params("c.example", &[]), Key::P256);
    let chain_key = |chain: &str, key: &str| Files { chain: chain.to_owned(), key: key.to_owned() };
    let table = [
        ("in order", chain_key(&whole, &leaf.key), vec![]),
        ("with its root", chain_key(&with_root, &leaf.key), vec![]),
        ("alone", chain_key(&alone, &leaf.key), vec!["intermediate_missing"]),
        ("leaf second", chain_key(&turned, &leaf.key), vec!["leaf_not_first"]),
        ("shuffled", chain_key(&shuffled, &leaf.key), vec!["chain_out_of_order"]),
        ("with a stranger", chain_key(&stray, &leaf.key), vec!["chain_stray"]),
        ("ends soon", soon, vec!["expires_soon"]),
        ("only a common name", nameless, vec!["no_alternative_names"]),
        ("SHA-1, alone", chain_key(SHA1, SHA1_KEY), vec!["weak_signature", "intermediate_missing"]),
    ];
    for (what, files, expected) in table {
        let (certificate, warnings) = certificate(&files.as_files(), NOW + 2 * DAY).expect(what);
        let codes: Vec<&str> = warnings.iter().map(|warning| warning.code).collect();
        assert_eq!(codes, expected, "{what}: {warnings:?}");
        assert!(!certificate.names.is_empty(), "{what}");
    }
    // Whatever the order in the file, it is sent in the order in which one vouches for the other.
    let in_order = chain_key(&with_root, &leaf.key).load();
    assert_eq!(chain_key(&shuffled, &leaf.key).load().chain(), in_order.chain());
    assert_eq!(chain_key(&turned, &leaf.key).load().chain(), &in_order.chain()[..2]);
}

#[test]
fn the_notice_comes_fourteen_days_ahead_and_not_before() {
    let authority = Authority::new("Test authority");
    let files = authority.sign(&with(|params| params.not_after = date_time_ymd(2027, 1, 1)), Key::P256);
    let end = files.load().not_after;
    let warned = |now| certificate(&files.as_files(), now).expect("valid").1.iter().any(|w| w.code == "expires_soon");
    assert!(!warned(end - 14 * DAY));
    assert!(warned(end - 14 * DAY + 1));
    assert!(warned(end));
    assert_eq!(certificate(&files.as_files(), end + 1).expect_err("over").code, "expired");
}

#[test]
fn names_are_those_clients_look_at() {
    let authority = Authority::new("Test authority");
    let mut params = plain_params("ignored.example", &["A.Example", "*.B.example"]);
    params.subject_alt_names.push(SanType::IpAddress("192.0.2.1".parse().expect("an address")));
    assert_eq!(authority.sign(&params, Key::P256).load().names, ["a.example", "*.b.example"]);
    assert_eq!(authority.sign(&plain_params("C.example", &[]), Key::P256).load().names, ["c.example"]);
    assert!(authority.sign(&plain_params("Our shop, inc.", &[]), Key::P256).load().names.is_empty());
}

#[test]
fn an_ocsp_answer_is_taken_or_named_wrong() {
    let good = CertificateFiles { chain: SHA1.as_bytes(), key: SHA1_KEY.as_bytes(), ocsp: Some(OCSP) };
    let codes = |ocsp: &[u8], now| {
        certificate(&CertificateFiles { ocsp: Some(ocsp), ..good }, now)
            .map(|(_, warnings)| warnings.iter().map(|warning| warning.code).collect::<Vec<_>>())
            .map_err(|fault| (fault.part, fault.code))
    };
    let usual = vec!["weak_signature", "intermediate_missing"];
    assert_eq!(codes(OCSP, NOW + 2 * DAY), Ok(usual.clone()));
    let stale: Vec<_> = usual.into_iter().chain(["ocsp_expired"]).collect();
    assert_eq!(codes(OCSP, NOW + 60 * DAY), Ok(stale));
    let not_der = Err((Part::Ocsp, "ocsp_not_der"));
    assert_eq!(codes(b"", NOW + 2 * DAY), not_der);
    assert_eq!(codes(b"-----BEGIN OCSP RESPONSE-----\n", NOW + 2 * DAY), not_der);
    assert_eq!(codes(&OCSP[..OCSP.len() - 1], NOW + 2 * DAY), not_der);
    // try_later, as a responder in trouble answers.
    assert_eq!(codes(&[0x30, 3, 0x0a, 1, 3], NOW + 2 * DAY), Err((Part::Ocsp, "ocsp_refused")));
    // Any cut or changed byte of it is judged, never a panic.
    for at in 0..OCSP.len() {
        let mut changed = OCSP.to_vec();
        changed[at] ^= 0xff;
        let _ = codes(&changed, NOW + 2 * DAY);
    }
}

#[test]
fn damaged_files_are_named_wrong_and_never_panic() {
    let authority = Authority::new("Test authority");
    let files = authority.leaf(&["a.example"], Key::P256);
    for (chain, key) in [(true, false), (false, true)] {
        let length = if chain { files.chain.len() } else { files.key.len() };
        for at in (0..length).step_by(3) {
            let mut damaged = files.clone();
            let text = if chain { &mut damaged.chain } else { &mut damaged.key };
            text.replace_range(at..=at, if &text[at..=at] == "A" { "B" } else { "A" });
            let _ = certificate(&damaged.as_files(), NOW);
            let cut = Files {
                chain: if chain { files.chain[..at].into() } else { files.chain.clone() },
                key: if key { files.key[..at].into() } else { files.key.clone() },
            };
            let _ = certificate(&cut.as_files(), NOW);
        }
    }
}
