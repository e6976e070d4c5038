//! What TLS costs here: handshakes per second, nanoseconds per small record, gigabytes per second of large ones.
//!
//! Both sides run on one thread in memory. Handshakes are those of the server's side alone, records are sealed by one side
//! and opened by the other. What is counted is CPU time of the thread, so that neighbours on the machine do not matter
//! much. Run with `cargo run --release -p evenkeel-tls --example tls_cost`. For comparison the same records go through
//! rustls' own connection without our record layer.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_tls::{Client, Server, ServerSettings, Session, Tickets, server};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
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
    for (word, version, group) in [
        ("1.3 X25519MLKEM768", &TLS13, kx_group::X25519MLKEM768),
        ("1.3 X25519", &TLS13, kx_group::X25519),
        ("1.2 X25519", &TLS12, kx_group::X25519),
    ] {
        for resumed in [false, true] {
            let client = client(&authority, version, group, resumed);
            handshakes(&client, &server);
            let each = handshakes(&client, &server);
            let kind = if resumed { "resumed" } else { "full" };
            println!("  {word:19} {kind:8} {:>8.0} /s  ({:.1} us)", 1.0 / each.as_secs_f64(), each.as_secs_f64() * 1e6);
        }
    }
    println!("records, sealed and opened");
    for (word, version) in [("1.3", &TLS13), ("1.2", &TLS12)] {
        let client = client(&authority, version, kx_group::X25519, false);
        println!("  TLS {word}, {}", shaken(&client, &server).1.suite().unwrap_or("?"));
        for size in [1024, 16_384] {
            let (seal, open) = records(&client, &server, size);
            let both = figure(seal + open, size);
            println!("    ours   {size:>6} B: {both} = seal {} + open {}", figure(seal, size), figure(open, size));
            println!("    rustls {size:>6} B: {}", figure(rustls_records(&client, &server, size), size));
        }
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn figure(each: Duration, size: usize) -> String {
    let nanos = each.as_secs_f64() * 1e9;
    format!("{nanos:>7.0} ns ({:.2} GB/s)", size as f64 / nanos)
}

fn client(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
    group: &'static dyn rustls::crypto::SupportedKxGroup,
    resumes: bool,
) -> Client {
    let mut client = plain_client(authority, "a.example");
    let provider = CryptoProvider { kx_groups: vec![group], ..(**client.config.crypto_provider()).clone() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
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
        let start = cpu();
        let mut far = Session::server(server).expect("a server");
        spent += cpu() - start;
        while near.is_handshaking() || far.is_handshaking() {
            let mut bytes = near.output().to_vec();
            near.sent(bytes.len());
            let start = cpu();
            far.receive(&mut bytes, &mut heard).expect("it works");
            spent += cpu() - start;
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
        let start = cpu();
        for _ in 0..batch {
            near.send(&text).expect("sealed");
        }
        sealing += cpu() - start;
        wire.clear();
        wire.extend_from_slice(near.output());
        near.sent(wire.len());
        heard.clear();
        let start = cpu();
        far.receive(&mut wire, &mut heard).expect("opened");
        opening += cpu() - start;
        assert_eq!(heard.len(), batch * size);
    }
    let count = rounds * batch as u32;
    (sealing / count, opening / count)
}

/// Time of one record out and in again.
fn rustls_records(client: &Client, server: &Server, size: usize) -> Duration {
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
    let mut heard = vec![0; 300_000];
    let start = cpu();
    for _ in 0..count {
        near.writer().write_all(&text).expect("sealed");
        wire.clear();
        while near.wants_write() {
            near.write_tls(&mut wire).expect("it writes to memory");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            far.read_tls(&mut rest).expect("it reads from memory");
            far.process_new_packets().expect("opened");
        }
        assert_eq!(far.reader().read(&mut heard).expect("heard"), size);
    }
    (cpu() - start) / count
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
