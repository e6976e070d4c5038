//! Sessions beside rustls' own connections: every suite, every cut of the stream, every way to end.
//!
//! Our records against theirs: whoever misreads the standard twice in the same way would not notice alone.

mod support;

use std::sync::Arc;

use evenkeel_tls::{Client, Policy, Server, ServerSettings, Session, Tickets, client, server};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConnection, SupportedCipherSuite};
use std::io::{Read, Write};
use support::{Authority, BACKEND, Key, Pair, client_settings, plain_client, plain_server, settings, shaken};

/// One side of a conversation: ours, or rustls' with its own record layer.
trait Side {
    fn take(&mut self) -> Vec<u8>;
    fn give(&mut self, bytes: &[u8]);
    fn say(&mut self, plain: &[u8]);
    fn heard(&mut self) -> Vec<u8>;
}

struct Ours {
    session: Session,
    heard: Vec<u8>,
}

impl Side for Ours {
    fn take(&mut self) -> Vec<u8> {
        let bytes = self.session.output().to_vec();
        self.session.sent(bytes.len());
        bytes
    }

    fn give(&mut self, bytes: &[u8]) {
        self.session.receive(&mut bytes.to_vec(), &mut self.heard).expect("nothing is wrong");
    }

    fn say(&mut self, plain: &[u8]) {
        self.session.send(plain).expect("nothing is wrong");
    }

    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

struct Theirs(rustls::Connection, Vec<u8>);

impl Side for Theirs {
    fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes).expect("it writes to memory");
        }
        bytes
    }

    fn give(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes).expect("it reads from memory");
            self.0.process_new_packets().expect("nothing is wrong");
            // It holds little, and says so by an error.
            let _ = self.0.reader().read_to_end(&mut self.1);
        }
    }

    fn say(&mut self, plain: &[u8]) {
        self.0.writer().write_all(plain).expect("it is buffered");
    }

    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.1)
    }
}

fn settle(one: &mut dyn Side, other: &mut dyn Side) {
    loop {
        let (up, down) = (one.take(), other.take());
        other.give(&up);
        one.give(&down);
        if up.is_empty() && down.is_empty() {
            return;
        }
    }
}

fn client_config(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let version = match suite {
        SupportedCipherSuite::Tls12(_) => &TLS12,
        SupportedCipherSuite::Tls13(_) => &TLS13,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("they fit")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(support::Trusting))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("a.example").expect("a name")
}

#[test]
fn rustls_understands_us_and_we_it_in_every_suite() {
    let authority = Authority::new("Test authority");
    let certificates =
        || vec![authority.leaf(&["a.example"], Key::P256).load(), authority.leaf(&["a.example"], Key::Rsa).load()];
    let tickets = Tickets::new().of("web", None, false).expect("keys");
    let server = server(ServerSettings { tickets: Some(tickets), ..settings(certificates()) }).expect("a server");
    for suite in aws_lc_rs::DEFAULT_CIPHER_SUITES {
        let config = client_config(*suite);
        let ours = || Ours { session: Session::server(&server).expect("a session"), heard: Vec::new() };
        let theirs = || Theirs(ClientConnection::new(config.clone(), name()).expect("a client").into(), Vec::new());
        converse(&mut theirs(), &mut ours());
        // Taken up again, the same. For TLS 1.3 this is also where sequence numbers begin behind the tickets.
        let mut again = ours();
        converse(&mut theirs(), &mut again);
        assert!(again.session.is_resumed(), "{suite:?}");

        let mut client = plain_client(&authority, "a.example");
        client.config = config.clone();
        let ours = || Ours { session: Session::client(&client, BACKEND).expect("a session"), heard: Vec::new() };
        let theirs = || Theirs(ServerConnection::new(server.config.clone()).expect("a server").into(), Vec::new());
        converse(&mut ours(), &mut theirs());
        let mut again = ours();
        converse(&mut again, &mut theirs());
        assert!(again.session.is_resumed(), "{suite:?}");
    }
}

fn converse(client: &mut dyn Side, server: &mut dyn Side) {
    settle(client, server);
    for length in [1, 2, 1024, 16_384, 16_385, 60_000] {
        let question = text(length);
        client.say(&question);
        settle(client, server);
        assert!(server.heard() == question, "{length} bytes up");
        server.say(&question);
        settle(client, server);
        assert!(client.heard() == question, "{length} bytes down");
    }
}

#[test]
fn keys_are_changed_by_either_side_as_often_as_it_likes() {
    let authority = Authority::new("Test authority");
    let server = plain_server(&authority);
    for suite in aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let mut ours = Ours { session: Session::server(&server).expect("a session"), heard: Vec::new() };
        let mut theirs =
            Theirs(ClientConnection::new(client_config(*suite), name()).expect("a client").into(), Vec::new());
        settle(&mut theirs, &mut ours);
        for round in 0..100 {
            theirs.0.refresh_traffic_keys().expect("TLS 1.3");
            converse_once(&mut theirs, &mut ours, round);
        }
    }
}

fn converse_once(client: &mut Theirs, server: &mut Ours, round: usize) {
    let question = text(round + 1);
    client.say(&question);
    settle(client, server);
    assert!(server.heard() == question);
    server.say(&question);
    settle(client, server);
    assert!(client.heard() == question);
}

/// Everything a client says in a short life: hello, finish, a request, goodbye; what is heard by a server that gets it in
/// the given pieces.
fn served(client: &Client, server: &Server, pieces: impl Fn(usize) -> usize) -> (Vec<u8>, bool) {
    let mut near = Session::client(client, BACKEND).expect("a client");
    let mut far = Session::server(server).expect("a server");
    let (mut heard, mut answer) = (Vec::new(), Vec::new());
    near.send(b"GET / HTTP/1.1\r\n\r\n").expect("it waits for the handshake");
    near.close();
    let mut established = 0;
    loop {
        let bytes = near.output().to_vec();
        near.sent(bytes.len());
        if bytes.is_empty() {
            break;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(pieces(rest.len()).min(rest.len()).max(1));
            let progress = far.receive(&mut piece.to_vec(), &mut heard).expect("nothing is wrong");
            established += usize::from(progress.established);
            rest = behind;
        }
        let mut bytes = far.output().to_vec();
        far.sent(bytes.len());
        near.receive(&mut bytes, &mut answer).expect("nothing is wrong");
    }
    assert_eq!(established, 1, "said once");
    (heard, far.has_closed())
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let authority = Authority::new("Test authority");
    let server = plain_server(&authority);
    for suite in [
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        let mut client = plain_client(&authority, "a.example");
        client.config = client_config(suite);
        let expected = (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true);
        assert_eq!(served(&client, &server, |rest| rest), expected, "in one piece");
        assert_eq!(served(&client, &server, |_| 1), expected, "byte by byte");
        for cut in 1..420 {
            assert_eq!(served(&client, &server, |rest| if rest > cut { cut } else { rest }), expected, "cut at {cut}");
            assert_eq!(served(&client, &server, |rest| if rest > cut { rest - cut } else { rest }), expected);
        }
    }
}

#[test]
fn the_servers_side_of_a_stream_may_be_cut_anywhere_too() {
    let authority = Authority::new("Test authority");
    let tickets = Tickets::new().of("web", None, false).ok();
    let certificates = vec![authority.leaf(&["a.example"], Key::P256).load()];
    let server = server(ServerSettings { tickets, ..settings(certificates) }).expect("a server");
    let client = plain_client(&authority, "a.example");
    for size in (1..64).chain([100, 255, 256, 1000, 5000]) {
        let mut pair = Pair::new(&client, &server);
        pair.server.send(b"HTTP/1.1 200 OK\r\n\r\n").expect("it waits");
        pair.server.close();
        loop {
            let mut up = pair.client.output().to_vec();
            pair.client.sent(up.len());
            pair.server.receive(&mut up, &mut pair.server_heard).expect("nothing is wrong");
            let down = pair.server.output().to_vec();
            pair.server.sent(down.len());
            for piece in down.chunks(size) {
                pair.client.receive(&mut piece.to_vec(), &mut pair.client_heard).expect("nothing is wrong");
            }
            if up.is_empty() && down.is_empty() {
                break;
            }
        }
        assert_eq!(pair.client_heard, b"HTTP/1.1 200 OK\r\n\r\n", "pieces of {size}");
        assert!(pair.client.has_closed());
    }
}

#[test]
fn a_whole_receive_buffer_is_taken_at_once() {
    let authority = Authority::new("Test authority");
    let mut pair = shaken(&plain_client(&authority, "a.example"), &plain_server(&authority));
    let body = text(1 << 20);
    pair.client.send(&body).expect("sealed");
    let bytes = pair.client.output().to_vec();
    pair.client.sent(bytes.len());
    for piece in bytes.chunks(262_144) {
        pair.server.receive(&mut piece.to_vec(), &mut pair.server_heard).expect("opened");
    }
    assert!(pair.server_heard == body);
}

#[test]
fn a_goodbye_goes_out_behind_the_last_data_in_the_same_write() {
    let authority = Authority::new("Test authority");
    let mut pair = shaken(&plain_client(&authority, "a.example"), &plain_server(&authority));
    pair.server.send(b"the end").expect("sealed");
    pair.server.close();
    pair.server.close();
    pair.server.send(b"too late").expect("ignored");
    let mut bytes = pair.server.output().to_vec();
    let mut heard = Vec::new();
    let progress = pair.client.receive(&mut bytes, &mut heard).expect("nothing is wrong");
    assert!(progress.closed && pair.client.has_closed());
    assert_eq!(heard, b"the end");
    // Whoever said goodbye still listens, and what comes behind a goodbye is not read.
    pair.client.send(b"one more thing").expect("sealed");
    let mut bytes = pair.client.output().to_vec();
    assert!(!pair.server.receive(&mut bytes, &mut pair.server_heard).expect("heard").closed);
    assert_eq!(pair.server_heard, b"one more thing");
    let progress = pair.client.receive(&mut b"GET / HTTP/1.1\r\n".to_vec(), &mut heard).expect("ignored");
    assert!(!progress.closed, "said once");
    assert_eq!(heard, b"the end");
}

#[test]
fn a_connection_cut_without_goodbye_is_told_from_one_that_ended() {
    let authority = Authority::new("Test authority");
    let mut pair = shaken(&plain_client(&authority, "a.example"), &plain_server(&authority));
    pair.server.send(&text(5000)).expect("sealed");
    pair.server.close();
    let bytes = pair.server.output().to_vec();
    for cut in [0, 1, 100, 5000, bytes.len() - 1] {
        let mut pair = shaken(&plain_client(&authority, "a.example"), &plain_server(&authority));
        pair.server.send(&text(5000)).expect("sealed");
        pair.server.close();
        let mut bytes = pair.server.output()[..cut].to_vec();
        pair.client.receive(&mut bytes, &mut pair.client_heard).expect("so far so good");
        assert!(!pair.client.has_closed(), "cut at {cut}");
    }
}

#[test]
fn what_is_said_before_the_handshake_is_done_waits_for_it() {
    let authority = Authority::new("Test authority");
    for policy in Policy::ALL {
        let certificates = vec![authority.leaf(&["a.example"], Key::P256).load()];
        let server = server(ServerSettings { policy, ..settings(certificates) }).expect("a server");
        let mut pair = Pair::new(&plain_client(&authority, "a.example"), &server);
        pair.client.send(b"first ").expect("it waits");
        pair.client.send(b"second").expect("it waits");
        pair.settle().expect("the handshake works");
        assert_eq!(pair.server_heard, b"first second");
    }
}

#[test]
fn an_ocsp_answer_is_stapled() {
    let ocsp = include_bytes!("files/ocsp.der");
    let files = evenkeel_tls::CertificateFiles {
        chain: include_bytes!("files/sha1.pem"),
        key: include_bytes!("files/sha1.key"),
        ocsp: Some(ocsp),
    };
    let (certificate, _) = evenkeel_tls::certificate(&files, support::NOW + 2 * support::DAY).expect("it works");
    let server = server(settings(vec![certificate])).expect("a server");
    for version in [&TLS12, &TLS13] {
        let seen = Arc::new(Stapled::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .dangerous()
            .with_custom_certificate_verifier(seen.clone())
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let authority = Authority::new("Test authority");
        let mut client = client(client_settings(&authority.pem, "sha1.example")).expect("a client");
        client.config = Arc::new(config);
        shaken(&client, &server);
        assert!(*seen.0.lock().expect("nobody panicked") == ocsp, "{version:?}");
    }
}

/// Keeps the answer it was shown.
#[derive(Debug, Default)]
struct Stapled(std::sync::Mutex<Vec<u8>>);

impl rustls::client::danger::ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("nobody panicked") = ocsp.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
