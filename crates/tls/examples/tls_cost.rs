//! What TLS costs here: handshakes per second, nanoseconds per small record, gigabytes per second of large ones.
//!
//! Both sides run on one thread in memory and are timed apart, so a figure is the CPU of one side. Run with
//! `cargo run --release -p evenkeel-tls --example tls_cost`. For comparison the same records go through rustls' own
//! connection without our record layer.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_tls::{Client, Server, ServerSettings, Session, Tickets, server};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use support::{Authority, BACKEND, Key, plain_client, settings};

fn main() {
    let authority = Authority::new("Test authority");
    let tickets = Tickets::new().of("web", None, false).ok();
    let certificates = vec![authority.leaf(&["a.example"], Key::P256).load()];
    let server = server(ServerSettings { tickets, ..settings(certificates) }).expect("a server");
    println!("handshakes, P-256 certificate, figures of the server's side");
    for (word, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        for resumed in [false, true] {
            let client = client(&authority, version, resumed);
            handshakes(&client, &server);
            let each = handshakes(&client, &server);
            let kind = if resumed { "resumed" } else { "full" };
            println!(
                "  TLS {word} {kind:8} {:>8.0} /s  ({:.1} us)",
                1.0 / each.as_secs_f64(),
                each.as_secs_f64() * 1e6
            );
        }
    }
    for (word, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        let client = client(&authority, version, false);
        println!("records, TLS {word}, {}", shaken(&client, &server).1.suite().unwrap_or("?"));
        for size in [1024, 16_384] {
            let (seal, open) = records(&client, &server, size);
            println!("  ours   {size:>6} B: seal {}  open {}", figure(seal, size), figure(open, size));
            let (seal, open) = rustls_records(&client, &server, size);
            println!("  rustls {size:>6} B: seal {}  open {}", figure(seal, size), figure(open, size));
        }
    }
}

fn figure(each: Duration, size: usize) -> String {
    let nanos = each.as_secs_f64() * 1e9;
    format!("{nanos:>7.0} ns ({:.2} GB/s)", size as f64 / nanos)
}

fn client(authority: &Authority, version: &'static rustls::SupportedProtocolVersion, resumes: bool) -> Client {
    let mut client = plain_client(authority, "a.example");
    let mut config = ClientConfig::builder_with_provider(client.config.crypto_provider().clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(support::Trusting))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    if !resumes {
        config.resumption = rustls::client::Resumption::disabled();
    }
    client.config = Arc::new(config);
    client
}

fn shaken(client: &Client, server: &Server) -> (Session, Session) {
    let pair = support::shaken(client, server);
    (pair.client, pair.server)
}

fn handshakes(client: &Client, server: &Server) -> Duration {
    let rounds = 1000;
    let mut spent = Duration::ZERO;
    let mut heard = Vec::new();
    for _ in 0..rounds {
        let mut near = Session::client(client, BACKEND).expect("a client");
        let start = Instant::now();
        let mut far = Session::server(server).expect("a server");
        spent += start.elapsed();
        while near.is_handshaking() || far.is_handshaking() {
            let mut bytes = near.output().to_vec();
            near.sent(bytes.len());
            let start = Instant::now();
            far.receive(&mut bytes, &mut heard).expect("it works");
            spent += start.elapsed();
            let mut bytes = far.output().to_vec();
            far.sent(bytes.len());
            near.receive(&mut bytes, &mut heard).expect("it works");
        }
    }
    spent / rounds
}

/// Time of one record out and of one in.
fn records(client: &Client, server: &Server, size: usize) -> (Duration, Duration) {
    let (mut near, mut far) = shaken(client, server);
    let text = vec![7; size];
    let batch = 262_144 / size;
    let rounds = 400;
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let mut heard = Vec::with_capacity(300_000);
    let mut wire = Vec::with_capacity(300_000);
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..batch {
            near.send(&text).expect("sealed");
        }
        sealing += start.elapsed();
        wire.clear();
        wire.extend_from_slice(near.output());
        near.sent(wire.len());
        heard.clear();
        let start = Instant::now();
        far.receive(&mut wire, &mut heard).expect("opened");
        opening += start.elapsed();
        assert_eq!(heard.len(), batch * size);
    }
    let count = rounds * batch as u32;
    (sealing / count, opening / count)
}

fn rustls_records(client: &Client, server: &Server, size: usize) -> (Duration, Duration) {
    let name = ServerName::try_from("a.example").expect("a name");
    let mut near = ClientConnection::new(client.config.clone(), name).expect("a client");
    let mut far = ServerConnection::new(server.config.clone()).expect("a server");
    let mut wire = Vec::with_capacity(300_000);
    while near.is_handshaking() || far.is_handshaking() {
        pass(&mut near, &mut far);
        pass(&mut far, &mut near);
    }
    pass(&mut far, &mut near);
    let text = vec![7; size];
    let count = 400 * (262_144 / size) as u32;
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let mut heard = vec![0; 300_000];
    for _ in 0..count {
        let start = Instant::now();
        near.writer().write_all(&text).expect("sealed");
        wire.clear();
        while near.wants_write() {
            near.write_tls(&mut wire).expect("it writes to memory");
        }
        sealing += start.elapsed();
        let mut rest = &wire[..];
        let start = Instant::now();
        while !rest.is_empty() {
            far.read_tls(&mut rest).expect("it reads from memory");
            far.process_new_packets().expect("opened");
        }
        let got = far.reader().read(&mut heard).expect("heard");
        opening += start.elapsed();
        assert_eq!(got, size);
    }
    (sealing / count, opening / count)
}

fn pass<A, B>(
    from: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<A>>,
    to: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<B>>,
) where
    A: rustls::SideData,
    B: rustls::SideData,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("it writes to memory");
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("it reads from memory");
        to.process_new_packets().expect("it works");
    }
}
