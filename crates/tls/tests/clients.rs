//! Certificates of clients, and what we ask of backends.
//!
//! Who gets in is a table of certificates by settings; a backend is held to the same rules the other way.

mod support;

use evenkeel_tls::{
    ClientSettings, Offers, Part, Server, ServerSettings, client, client_fingerprint, client_subject, server,
};
use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use support::{
    Authority, BACKEND, Key, Pair, client_settings, now, plain_client, plain_params, plain_server, settings, shaken,
};

fn asking(authority: &Authority, ca: &Authority, client_required: bool) -> Server {
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    let ca = Some(ca.pem.as_bytes());
    server(ServerSettings { client_ca: ca, client_required, ..settings(vec![certificate]) }).expect("a server")
}

#[test]
fn who_gets_in_with_which_certificate() {
    let authority = Authority::new("Test authority");
    let people = Authority::new("People");
    let known = people.client_leaf("anna");
    let stranger = Authority::new("Elsewhere").client_leaf("anna");
    let mut ended = plain_params("anna", &[]);
    ended.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let valid = people.sign(&ended, Key::P256);
    ended.not_after = date_time_ymd(2026, 11, 1);
    let ended_files = people.sign(&ended, Key::P256);
    // An expired file is refused when it is loaded, so the client gets it from a time when it was good.
    let (ended, _) =
        evenkeel_tls::certificate(&ended_files.as_files(), support::NOW - 60 * support::DAY).expect("then good");
    let for_servers = {
        let mut params = plain_params("anna", &["anna.example"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        people.sign(&params, Key::P256)
    };
    let required_detail = "no certificate shown, but one is required";
    let table = [
        ("required, known", true, Some(known.load()), None),
        ("required, another known", true, Some(valid.load()), None),
        ("required, none", true, None, Some(required_detail)),
        ("required, unknown authority", true, Some(stranger.load()), Some("certificate from an unknown authority")),
        ("required, expired", true, Some(ended.clone()), Some("certificate has expired")),
        ("required, for servers", true, Some(for_servers.load()), Some("certificate not meant for this use")),
        ("optional, known", false, Some(known.load()), None),
        ("optional, none", false, None, None),
        ("optional, unknown authority", false, Some(stranger.load()), Some("certificate from an unknown authority")),
        ("optional, expired", false, Some(ended), Some("certificate has expired")),
    ];
    for (what, required, certificate, refusal) in table {
        let shows = certificate.is_some();
        let client =
            client(ClientSettings { certificate, ..client_settings(&authority.pem, "a.example") }).expect("a client");
        let mut pair = Pair::new(&client, &asking(&authority, &people, required));
        match (pair.settle(), refusal) {
            (Ok(()), None) => {
                let subject = pair.server.certificates().and_then(client_subject);
                assert_eq!(subject.as_deref(), shows.then_some("CN=anna"), "{what}");
            }
            (Err((_, failed)), Some(words)) => {
                assert_eq!(failed.expect("the server fails").detail, words, "{what}");
                assert!(pair.server.certificates().is_none(), "{what}");
            }
            (outcome, _) => panic!("{what}: {outcome:?}"),
        }
    }
}

#[test]
fn a_refused_client_learns_why_by_the_alert() {
    let authority = Authority::new("Test authority");
    let mut pair = Pair::new(&plain_client(&authority, "a.example"), &asking(&authority, &authority, true));
    let (client, _) = pair.settle().expect_err("refused");
    assert_eq!(client.expect("the client fails too").detail, "alert received: certificate_required");
}

#[test]
fn a_subject_is_one_line_that_no_header_trips_over() {
    let authority = Authority::new("Test authority");
    let table = [
        ("anna", "CN=anna,O=Shop"),
        ("Smith, John", "CN=Smith\\, John,O=Shop"),
        ("a=b+c\"d\"<e>;f\\g", "CN=a\\=b\\+c\\\"d\\\"\\<e\\>\\;f\\\\g,O=Shop"),
        ("#first", "CN=\\#first,O=Shop"),
        (" edges ", "CN=\\20edges\\20,O=Shop"),
        ("line\r\nX-Admin: 1", "CN=line\\0d\\0aX-Admin: 1,O=Shop"),
        ("Jürgen\u{0}\u{7f}", "CN=J\\c3\\bcrgen\\00\\7f,O=Shop"),
    ];
    for (name, expected) in table {
        let mut params = plain_params(name, &[]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = authority.sign(&params, Key::P256).load();
        let subject = client_subject(certificate.chain()).expect("a subject");
        assert_eq!(subject, expected);
        assert!(subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    assert_eq!(client_subject(&[]), None);
    assert_eq!(client_subject(&[vec![0x30, 0x80, 1].into()]), None);
}

#[test]
fn a_fingerprint_is_sha_256_in_hexadecimal() {
    let der = [evenkeel_tls::CertificateDer::from(b"abc".to_vec())];
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(client_fingerprint(&der).as_deref(), Some(expected));
    assert_eq!(client_fingerprint(&[]), None);
}

#[test]
fn a_backend_is_who_its_certificate_says_or_it_is_refused() {
    let authority = Authority::new("Test authority");
    let stranger = Authority::new("Elsewhere");
    let server = plain_server(&authority);
    let mut by_address = plain_params("address", &[]);
    by_address.subject_alt_names.push(rcgen::SanType::IpAddress(BACKEND));
    let addressed =
        evenkeel_tls::server(settings(vec![authority.sign(&by_address, Key::P256).load()])).expect("a server");
    let nobody_asked = |name| ClientSettings { verify: false, ca: None, ..client_settings("", name) };
    let table = [
        ("right", &server, client_settings(&authority.pem, "a.example"), None),
        (
            "unknown authority",
            &server,
            client_settings(&stranger.pem, "a.example"),
            Some("certificate from an unknown authority"),
        ),
        ("by address", &addressed, ClientSettings { name: None, ..client_settings(&authority.pem, "a.example") }, None),
        (
            "address not in it",
            &server,
            ClientSettings { name: None, ..client_settings(&authority.pem, "a.example") },
            Some("certificate for another name"),
        ),
        (
            "another name",
            &addressed,
            ClientSettings { name: Some("127.0.0.2"), ..client_settings(&authority.pem, "a.example") },
            Some("certificate for another name"),
        ),
        ("verify off", &server, nobody_asked("a.example"), None),
    ];
    for (what, server, settings, refusal) in table {
        let mut pair = Pair::new(&client(settings).expect("a client"), server);
        match (pair.settle(), refusal) {
            (Ok(()), None) => {}
            (Err((failed, _)), Some(words)) => assert_eq!(failed.expect("the client fails").detail, words, "{what}"),
            (outcome, _) => panic!("{what}: {outcome:?}"),
        }
    }
}

#[test]
fn the_time_is_the_one_that_was_told() {
    let authority = Authority::new("Test authority");
    let server = plain_server(&authority);
    let clock = now();
    let client = client(ClientSettings { clock: clock.clone(), ..client_settings(&authority.pem, "a.example") })
        .expect("a client");
    shaken(&client, &server);
    clock.0.store(support::NOW + 365 * support::DAY, std::sync::atomic::Ordering::Relaxed);
    let (failed, _) = Pair::new(&client, &server).settle().expect_err("its certificate has ended");
    assert_eq!(failed.expect("the client fails").detail, "certificate has expired");
}

#[test]
fn both_sides_agree_on_a_protocol_or_say_that_there_is_none() {
    let authority = Authority::new("Test authority");
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    let table = [
        (true, Offers::Http2, Ok(Some(&b"h2"[..]))),
        (true, Offers::Http1, Ok(Some(b"http/1.1"))),
        (true, Offers::Nothing, Ok(None)),
        (false, Offers::Http1, Ok(Some(b"http/1.1"))),
        (false, Offers::Nothing, Ok(None)),
        (false, Offers::Http2, Err("no application protocol (ALPN) in common")),
    ];
    for (http2, offers, expected) in table {
        let server = server(ServerSettings { http2, ..settings(vec![certificate.clone()]) }).expect("a server");
        let client =
            client(ClientSettings { offers, ..client_settings(&authority.pem, "a.example") }).expect("a client");
        let mut pair = Pair::new(&client, &server);
        let got = pair.settle().map_err(|(_, failed)| failed.expect("the server fails").detail);
        assert_eq!(got.map(|()| pair.server.alpn()), expected);
        assert_eq!(got.map(|()| pair.client.alpn()), expected);
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let authority = Authority::new("Test authority");
    let fault = |settings| client(settings).map(|_| ()).map_err(|fault| (fault.part, fault.code));
    let good = || client_settings(&authority.pem, "a.example");
    assert_eq!(fault(good()), Ok(()));
    assert_eq!(fault(ClientSettings { ca: None, ..good() }), Err((Part::Ca, "no_roots")));
    assert_eq!(fault(ClientSettings { ca: Some(b"hello"), ..good() }), Err((Part::Ca, "not_pem")));
    assert_eq!(fault(ClientSettings { ca: Some(b""), ..good() }), Err((Part::Ca, "no_certificate")));
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(fault(ClientSettings { ca: Some(nonsense), ..good() }), Err((Part::Ca, "broken_certificate")));
    assert_eq!(fault(ClientSettings { name: Some("https://a.example"), ..good() }), Err((Part::Name, "not_a_name")));
    let none = server(settings(Vec::new())).expect_err("nothing to show");
    assert_eq!((none.part, none.code), (Part::Settings, "no_certificate"));
    let certificate = || vec![authority.leaf(&["a.example"], Key::P256).load()];
    let broken =
        server(ServerSettings { client_ca: Some(nonsense), ..settings(certificate()) }).expect_err("no authority");
    assert_eq!((broken.part, broken.code), (Part::ClientCa, "broken_certificate"));
}
