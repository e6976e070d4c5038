//! Sessions taken up again: after a reload, and not where something else is asked of the client.
//!
//! rustls does not look at that when it opens a ticket, so each ticket is carried to every place where it must be worth nothing.

mod support;

use std::sync::Arc;

use evenkeel_tls::{Certificate, Client, Policy, ProducesTickets, Server, ServerSettings, Tickets, client, server};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use support::{Authority, Key, client_settings, settings, shaken};

/// A client that speaks one version and comes with a memory of its own.
fn speaking(authority: &Authority, version: &'static rustls::SupportedProtocolVersion) -> Client {
    let mut client = client(client_settings(&authority.pem, "a.example")).expect("a client");
    let config = ClientConfig::builder_with_provider(client.config.crypto_provider().clone())
        .with_protocol_versions(&[version])
        .expect("the version is spoken");
    let mut config =
        config.dangerous().with_custom_certificate_verifier(Arc::new(support::Trusting)).with_no_client_auth();
    config.enable_secret_extraction = true;
    client.config = Arc::new(config);
    client
}

fn listener(certificate: &Certificate, tickets: Option<Arc<dyn ProducesTickets>>) -> Server {
    server(ServerSettings { tickets, ..settings(vec![certificate.clone()]) }).expect("a server")
}

#[test]
fn a_session_is_taken_up_again_after_a_reload() {
    let authority = Authority::new("Test authority");
    let before = authority.leaf(&["a.example"], Key::P256).load();
    let renewed = authority.leaf(&["a.example"], Key::P256).load();
    let tickets = Tickets::new();
    for (word, version) in [("1.2", &TLS12), ("1.3", &TLS13)] {
        let client = speaking(&authority, version);
        let old = listener(&before, tickets.of("web", None, false).ok());
        assert!(!shaken(&client, &old).server.is_resumed());
        let new = listener(&renewed, tickets.of("web", None, false).ok());
        assert!(old != new, "another certificate makes other settings");
        drop(old);
        let again = shaken(&client, &new);
        assert!(again.server.is_resumed() && again.client.is_resumed(), "{word}");
        assert_eq!(again.server.version(), Some(word));
        assert_eq!(again.server.sni(), Some("a.example"));
    }
}

#[test]
fn tickets_are_worth_nothing_where_something_else_is_asked_of_the_client() {
    let authority = Authority::new("Test authority");
    let other_authority = Authority::new("Another authority");
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    let tickets = Tickets::new();
    let (ca, other_ca) = (authority.pem.as_bytes(), other_authority.pem.as_bytes());
    let places = [
        ("web", None, false),
        ("other", None, false),
        ("web", Some(ca), false),
        ("web", Some(ca), true),
        ("web", Some(other_ca), false),
    ];
    let keys: Vec<_> = places.map(|(name, ca, required)| tickets.of(name, ca, required).expect("keys")).into();
    for (version, _) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        for (from, (_, from_ca, from_required)) in places.iter().enumerate() {
            for (to, (_, to_ca, to_required)) in places.iter().enumerate() {
                if *from_required || *to_required {
                    continue;
                }
                let client = speaking(&authority, version);
                let at = |index: usize, client_ca| {
                    let tickets = Some(keys[index].clone());
                    server(ServerSettings { tickets, client_ca, ..settings(vec![certificate.clone()]) })
                        .expect("a server")
                };
                assert!(!shaken(&client, &at(from, *from_ca)).server.is_resumed());
                let second = shaken(&client, &at(to, *to_ca));
                assert_eq!(second.server.is_resumed(), from == to, "from {from} to {to}");
            }
        }
    }
}

#[test]
fn a_client_let_in_without_a_certificate_does_not_get_in_by_ticket_where_one_is_required() {
    let authority = Authority::new("Test authority");
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    let tickets = Tickets::new();
    let ca = authority.pem.as_bytes();
    let with = |client_required| {
        let tickets = tickets.of("web", Some(ca), client_required).ok();
        server(ServerSettings { tickets, client_ca: Some(ca), client_required, ..settings(vec![certificate.clone()]) })
            .expect("a server")
    };
    for version in [&TLS12, &TLS13] {
        let client = speaking(&authority, version);
        shaken(&client, &with(false));
        assert!(shaken(&client, &with(false)).server.is_resumed());
        let (_, failed) = support::Pair::new(&client, &with(true)).settle().expect_err("turned away");
        assert_eq!(failed.expect("by the server").detail, "no certificate shown, but one is required");
    }
}

#[test]
fn without_tickets_nothing_is_remembered() {
    let authority = Authority::new("Test authority");
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    for version in [&TLS12, &TLS13] {
        let client = speaking(&authority, version);
        let server = listener(&certificate, None);
        shaken(&client, &server);
        assert!(!shaken(&client, &server).server.is_resumed());
    }
}

#[test]
fn keys_live_as_long_as_settings_made_with_them() {
    let tickets = Tickets::new();
    let keys = tickets.of("web", None, false).expect("keys");
    assert!(Arc::ptr_eq(&keys, &tickets.of("web", None, false).expect("keys")));
    let forgotten = Arc::downgrade(&tickets.of("gone", None, false).expect("keys"));
    assert!(forgotten.upgrade().is_some());
    tickets.of("web", None, false).expect("keys");
    assert!(forgotten.upgrade().is_none(), "nobody uses them, so they are gone with the next reload");
}

#[test]
fn tickets_last_twice_the_life_of_a_key() {
    let keys = Tickets::new().of("web", None, false).expect("keys");
    assert_eq!(u64::from(keys.lifetime()), 2 * evenkeel_tls::TICKET_KEY_SECONDS);
}

#[test]
fn equal_settings_are_equal_and_others_are_not() {
    let authority = Authority::new("Test authority");
    let certificate = authority.leaf(&["a.example"], Key::P256).load();
    let other = authority.leaf(&["a.example"], Key::P256).load();
    let make = |change: fn(&mut ServerSettings<'static>)| {
        let mut settings = settings(vec![certificate.clone()]);
        change(&mut settings);
        server(settings).expect("a server")
    };
    assert!(make(|_| {}) == make(|_| {}));
    assert!(make(|_| {}) != make(|settings| settings.http2 = false));
    assert!(make(|_| {}) != make(|settings| settings.policy = Policy::Modern));
    assert!(make(|_| {}) != server(settings(vec![other])).expect("a server"));
    assert!(support::plain_client(&authority, "a.example") == support::plain_client(&authority, "a.example"));
    assert!(support::plain_client(&authority, "a.example") != support::plain_client(&authority, "b.example"));
}
