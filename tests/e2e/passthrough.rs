//! tls-passthrough before real servers: two nginx with certificates of their own, told apart by name and protocol.
//!
//! The balancer holds no key here, so whatever a client verifies was sent by the server it was meant for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use crate::client::{End, Wire};
use crate::daemon::{Daemon, PATIENCE, free_address, until};
use crate::servers::Server;
use crate::tools::{Authority, Key, Said, have_all, run};

struct Stage {
    daemon: Daemon,
    address: SocketAddr,
    authority: Authority,
    _servers: [Server; 2],
}

/// Two servers that say who they are, what name they were asked for and what protocol was agreed on.
fn stage(test: &str, listener: &str) -> Option<Stage> {
    if !have_all(test, &["nginx", "curl", "openssl"], &[]) {
        return None;
    }
    let authority = Authority::new(test);
    let addresses = [free_address(), free_address()];
    let server = |index: usize, stem: &str, names: &[&str]| {
        let (pair, address) = (authority.issue(stem, Key::Ecdsa, names), addresses[index]);
        let text = format!(
            "server {{ listen {address} ssl http2; ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ return 200 \"{stem} $ssl_server_name $ssl_alpn_protocol\"; }} }}",
            pair.certificate.display(),
            pair.key.display()
        );
        Server::nginx(&[address], &text)
    };
    // Either could show a certificate for mixed.test, so only the rule decides who gets it.
    let servers = [
        server(0, "first", &["one.test", "mixed.test"]),
        server(1, "second", &["*.two.test", "two.test", "mixed.test"]),
    ];
    let address = free_address();
    let [first, second] = addresses;
    let text = format!(
        "[[listener]]\nname = \"tls\"\nlisten = \"{address}\"\nprotocol = \"tls-passthrough\"\n{listener}\n\
         [[listener.rule]]\nname = \"one\"\nhost = \"one.test\"\npool = \"first\"\n\
         [[listener.rule]]\nname = \"two\"\nhost = [\"two.test\", \"*.two.test\"]\npool = \"second\"\n\
         [[listener.rule]]\nname = \"old\"\nhost = \"mixed.test\"\npool = \"second\"\n\
         [[listener.rule]]\nname = \"new\"\nhost = \"mixed.test\"\nalpn = \"h2\"\npool = \"first\"\n\
         [[listener.rule]]\nname = \"h2-only\"\nhost = \"modern.test\"\nalpn = \"h2\"\npool = \"first\"\n\
         [[pool]]\nname = \"first\"\nbackends = [\"{first}\"]\ncheck = \"off\"\n\
         [[pool]]\nname = \"second\"\nbackends = [\"{second}\"]\ncheck = \"off\"\n"
    );
    Some(Stage { daemon: Daemon::start(test, &text), address, authority, _servers: servers })
}

impl Stage {
    /// What curl gets for a name; it verifies the certificate.
    fn curl(&self, name: &str, more: &[&str]) -> Said {
        let (to, ca) = (format!("{name}:443:{}", self.address), self.authority.file());
        let (ca, url) = (ca.to_string_lossy(), format!("https://{name}/"));
        run("curl", &[&["-sS", "--max-time", "30", "--cacert", &ca, "--connect-to", &to, &url], more].concat(), "")
    }

    fn failures(&self, cause: &str) -> f64 {
        self.daemon.metric("evenkeel_failures_total", &["listener=\"tls\"", &format!("cause=\"{cause}\"")])
    }

    fn line(&self, cause: &str) -> Value {
        self.daemon.wait_log_where(cause, |line| line["cause"] == cause)
    }

    /// A TLS client whose bytes the test moves itself.
    fn client(&self, name: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.authority.file()).expect("openssl wrote it");
        roots.add(ca).expect("it is an authority's");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        ClientConnection::new(Arc::new(config), name).expect("a client")
    }
}

#[test]
fn each_name_reaches_the_server_that_has_its_certificate() {
    let Some(stage) = stage("passthrough-names", "") else { return };
    let table: [(&str, &[&str], &str); 6] = [
        ("one.test", &[], "first one.test h2"),
        ("ONE.test", &["--http1.1"], "first one.test http/1.1"),
        ("two.test", &[], "second two.test h2"),
        ("deep.two.test", &["--no-alpn"], "second deep.two.test "),
        // The same name, by what the client speaks.
        ("mixed.test", &[], "first mixed.test h2"),
        ("mixed.test", &["--http1.1"], "second mixed.test http/1.1"),
    ];
    for (row, (name, more, expected)) in table.into_iter().enumerate() {
        let said = stage.curl(name, more);
        assert!(said.fine, "{name} {more:?}: {}", said.err);
        assert_eq!(said.out, expected, "{name} {more:?}");
        let line = until("a line of each connection", || {
            let lines: Vec<Value> = stage.daemon.log();
            (lines.len() == row + 1).then(|| lines[row].clone())
        });
        assert!(line["cause"].is_null(), "{line}");
        let pool = expected.split(' ').next().expect("a word");
        assert_eq!((&line["pool"], &line["sni"]), (&pool.into(), &name.to_ascii_lowercase().into()), "{line}");
    }
}

#[test]
fn a_name_nobody_has_is_refused_and_named_in_the_log() {
    let Some(stage) = stage("passthrough-unknown", "") else { return };
    let said = stage.curl("stranger.test", &[]);
    assert!(!said.fine && said.out.is_empty(), "{}", said.out);
    assert!(said.err.contains("reset"), "a reset, as refuse says by default: {}", said.err);
    let line = stage.line("host_not_configured");
    assert_eq!(line["sni"], "stranger.test", "{line}");
    assert_eq!(line["backend"], Value::Null, "{line}");
    assert_eq!(stage.failures("host_not_configured"), 1.0);
    // A host that is known, for a protocol that is not offered.
    let said = stage.curl("modern.test", &["--http1.1"]);
    assert!(!said.fine && said.out.is_empty(), "{}", said.out);
    stage.line("rule_not_found");
    assert_eq!(stage.failures("rule_not_found"), 1.0);
    // And no server was asked for either.
    for pool in ["first", "second"] {
        let label = format!("pool=\"{pool}\"");
        assert_eq!(stage.daemon.metric("evenkeel_backend_connections_total", &[&label]), 0.0, "{pool}");
    }
}

#[test]
fn a_hello_of_one_byte_segments_is_routed_like_any_other() {
    let Some(stage) = stage("passthrough-bytes", "") else { return };
    let mut client = stage.client("deep.two.test");
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello).expect("a vector takes everything");
    }
    let mut stream = TcpStream::connect(stage.address).expect("somebody listens");
    stream.set_nodelay(true).expect("a socket takes the option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    for byte in hello {
        stream.write_all(&[byte]).expect("the balancer waits for the rest");
    }
    let mut tls = rustls::Stream::new(&mut client, &mut stream);
    tls.write_all(b"GET / HTTP/1.0\r\nHost: deep.two.test\r\n\r\n").expect("the handshake comes to its end");
    let mut answer = String::new();
    match tls.read_to_string(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => panic!("{error} behind {answer:?}"),
    }
    assert!(answer.ends_with("second deep.two.test "), "{answer}");
}

#[test]
fn what_is_no_tls_or_stops_halfway_ends_with_its_cause() {
    let Some(stage) = stage("passthrough-broken", "header_timeout = \"300ms\"") else { return };
    let mut wire = Wire::open(stage.address);
    wire.send("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(wire.rest(), (Vec::new(), End::Reset));
    let detail = |line: &Value| line["detail"].as_str().unwrap_or_default().to_owned();
    let line = stage.line("tls_handshake_failed");
    assert!(detail(&line).contains("http"), "{line}");
    assert_eq!(line["phase"], "tls", "{line}");
    assert_eq!(stage.failures("tls_handshake_failed"), 1.0);

    let mut client = stage.client("one.test");
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello).expect("a vector takes everything");
    }
    let mut slow = Wire::open(stage.address);
    slow.send(&hello[..hello.len() / 2]);
    let (answer, _) = slow.rest();
    assert!(answer.is_empty(), "nobody answers half a hello");
    let late = |line: &Value| line["cause"] == "tls_handshake_failed" && line["timeout_ms"] == 300.0;
    stage.daemon.wait_log_where("the hello that stops", late);
    assert_eq!(stage.failures("tls_handshake_failed"), 2.0);

    // Who leaves in the middle has not kept anybody waiting.
    let mut gone = Wire::open(stage.address);
    gone.send(&hello[..hello.len() / 2]);
    gone.stream.shutdown(std::net::Shutdown::Write).expect("the connection stands");
    gone.rest();
    stage.daemon.wait_log_where("the hello that ends", |line| detail(line).contains("ended in the middle"));
    assert_eq!(stage.failures("tls_handshake_failed"), 3.0);
}

#[test]
fn who_is_turned_away_may_meet_silence_until_it_speaks() {
    let keys = "refuse = \"silence\"\n[listener.access]\ndeny = [\"127.0.0.0/8\"]\n";
    let Some(stage) = stage("passthrough-silence", keys) else { return };
    let mut wire = Wire::open(stage.address);
    stage.line("client_denied_by_acl");
    assert_eq!(stage.failures("client_denied_by_acl"), 1.0);
    wire.stream.set_nonblocking(true).expect("a socket takes the option");
    let heard = wire.stream.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock), "it is over, and the client was not told");
    // What it sends finds no connection any more, and the kernel says so: docs/layer4.md has the way out.
    wire.stream.set_nonblocking(false).expect("a socket takes the option");
    wire.send("hello");
    assert_eq!(wire.rest(), (Vec::new(), End::Reset));
}
