//! Who may come in: tokens and TLS where others can connect, pages of other sites nowhere, and slow clients not for long.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};

use crate::admin_client::{ask, get, post, written};
use crate::backend::{backend, polite};
use crate::client::Wire;
use crate::daemon::{Daemon, free_address, until};
use crate::tools::{Authority, Key};

const OPS: &str = "Authorization: Bearer operator-token-of-the-test";
const READER: &str = "Authorization: Bearer reader-token-of-the-test";

fn tokens() -> String {
    let table = |name: &str, role: &str, token: &str| {
        let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[admin.token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{digest}\"\n")
    };
    table("ops", "operate", "operator-token-of-the-test") + &table("grafana", "read", "reader-token-of-the-test")
}

fn site(listen: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{backend}\"]\ncheck = \"off\"\n"
    )
}

#[test]
fn a_token_opens_what_its_role_says_and_a_reload_takes_it_away_at_once() {
    let (one, listen) = (backend(polite), free_address());
    let daemon = Daemon::start("admin_tokens", &format!("{}{}", tokens(), site(listen, one)));
    let order = format!("POST /api/v1/pools/web/backends/{one}/order");
    let drain = Some(r#"{"order":"drain"}"#);
    let none = ask(daemon.admin, "GET /api/v1/status", &[], None);
    assert_eq!(none.status, 401);
    assert!(none.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{none:?}");
    none.problem();
    for (fields, asked, body, status) in [
        (&[][..], "GET /ready", None, 200),
        (&[], "GET /metrics", None, 200),
        (&[], "GET /", None, 200),
        (&[], "GET /api/v1/nothing", None, 401),
        (&["Authorization: Bearer wrong"], "GET /status", None, 401),
        (&[READER], "GET /status", None, 200),
        (&[READER], order.as_str(), drain, 403),
        (&[READER], "PUT /api/v1/config?dry_run=true", Some("x"), 403),
        (&[OPS], "GET /status", None, 200),
        (&[OPS], order.as_str(), drain, 200),
    ] {
        let told = ask(daemon.admin, asked, fields, body);
        assert_eq!(told.status, status, "{asked} {fields:?}: {told:?}");
    }
    let event = daemon.wait_event(0, &[" backend.ordered "]);
    assert!(event.contains("ops"), "{event}");

    // A connection that is open already asks again after a reload.
    let mut kept = Wire::open(daemon.admin);
    let status = format!("GET /api/v1/pools HTTP/1.1\r\nHost: {}\r\n{OPS}\r\n\r\n", daemon.admin);
    kept.send(&status);
    assert_eq!(kept.answer().expect("an answer").status, 200);
    let without = tokens().replace("operate", "read").replace("\"ops\"", "\"former-ops\"");
    assert!(daemon.reload(&format!("{without}{}", site(listen, one))).contains(" node.reloaded "));
    until("the new tokens", || {
        let told = ask(daemon.admin, &order, &[OPS], drain);
        (told.status == 403).then_some(())
    });
    kept.send(&status);
    assert_eq!(kept.answer().expect("an answer").status, 200, "it may still read");
}

#[test]
fn the_admin_address_speaks_tls_with_its_certificate() {
    let authority = Authority::new("admin_tls_ca");
    let pair = authority.issue("admin", Key::Ecdsa, &["admin.example"]);
    let (one, listen) = (backend(polite), free_address());
    let body = format!("{}[[admin.certificate]]\n{}{}", tokens(), pair.keys(), site(listen, one));
    let daemon = Daemon::start("admin_tls", &body);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority.file()).expect("openssl wrote it") {
        roots.add(certificate.expect("a certificate")).expect("it is an authority");
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("admin.example").expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = Wire::open(daemon.admin).stream;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(written("admin.example", "GET /status", &[READER], None).as_bytes()).expect("the node reads");
    let mut text = Vec::new();
    // The node closes without telling TLS so, as most servers do.
    let _ = tls.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    // Whoever does not speak TLS learns nothing.
    let mut plain = Wire::open(daemon.admin);
    plain.send("GET /status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!String::from_utf8_lossy(&plain.rest().0).contains("HTTP/1.1"));
}

#[test]
fn a_browser_cannot_be_made_to_read_or_change_anything_by_a_page_from_elsewhere() {
    let (one, listen) = (backend(polite), free_address());
    let daemon = Daemon::start("admin_browser", &site(listen, one));
    let rebound = "GET /api/v1/status HTTP/1.1\r\nHost: evil.example:9900\r\nConnection: close\r\n\r\n";
    let mut wire = Wire::open(daemon.admin);
    wire.send(rebound);
    assert_eq!(wire.answer().expect("an answer").status, 421);
    let order = format!("POST /api/v1/pools/web/backends/{one}/order");
    let body = Some(r#"{"order":"drain"}"#);
    for (fields, status) in [
        (&["Origin: http://evil.example"][..], 403),
        (&["Origin: null"], 403),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (&["Content-Type: text/plain"], 415),
        (&["Content-Type: application/x-www-form-urlencoded"], 415),
    ] {
        let told = ask(daemon.admin, &order, fields, body);
        assert_eq!(told.status, status, "{fields:?}: {told:?}");
        told.problem();
    }
    let asked = ask(
        daemon.admin,
        "OPTIONS /api/v1/config",
        &["Origin: http://evil.example", "Access-Control-Request-Method: PUT"],
        None,
    );
    assert_eq!(asked.status, 403);
    assert!(!asked.head.to_ascii_lowercase().contains("access-control"), "{asked:?}");
    assert_eq!(daemon.backend("web", &one.to_string())["order"], "serve");
    let own = format!("Origin: http://{}", daemon.admin);
    assert_eq!(ask(daemon.admin, &order, &[&own, "Sec-Fetch-Site: same-origin"], body).status, 200);
}

#[test]
fn who_comes_over_loopback_without_a_token_cannot_run_programs_or_write_files_as_evenkeel() {
    let (one, listen) = (backend(polite), free_address());
    let daemon = Daemon::start("admin_escalation", &site(listen, one));
    let file = std::fs::read_to_string(daemon.config()).expect("the daemon reads it too");
    let with = |what: &str| file.replacen("[node]\n", &format!("[node]\n{what}\n"), 1);
    let hook =
        with("allow_commands = true").replacen("[admin]", "[[node.hook]]\ncommand = [\"/bin/true\"]\n[admin]", 1);
    let check = with("allow_commands = true")
        .replace("check = \"off\"", "[pool.check]\nkind = \"command\"\ncommand = [\"/bin/true\"]");
    let log = file.replace("access.log", "other.log");
    let state = with("state_file = \"/tmp/evenkeel-of-somebody-else\"");
    for (text, why) in [(hook, "runs a program"), (check, "runs a program"), (log, "access_log"), (state, "state_file")]
    {
        let kind = "Content-Type: application/toml";
        let told = ask(daemon.admin, "PUT /api/v1/config", &[kind], Some(&text));
        assert_eq!(told.status, 403, "{why}: {told:?}");
        assert!(told.problem().contains(why), "{told:?}");
    }
}

#[test]
fn too_much_is_refused_and_too_slow_is_cut_while_others_are_answered() {
    let (one, listen) = (backend(polite), free_address());
    let daemon = Daemon::start("admin_hostile", &site(listen, one));
    // More than is taken, said at once and said by the way.
    let mut wire = Wire::open(daemon.admin);
    let host = daemon.admin;
    let head = format!("PUT /api/v1/config HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/toml\r\n");
    wire.send(format!("{head}Content-Length: 99999999999\r\n\r\n"));
    assert_eq!(wire.answer().expect("an answer").status, 413);
    let mut wire = Wire::open(daemon.admin);
    wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024)));
    assert_eq!(wire.answer().map(|answer| answer.status).unwrap_or(431), 431);
    // Streams have places of their own, fewer than connections.
    let streams: Vec<Wire> = (0..32)
        .map(|_| {
            let mut wire = Wire::open(daemon.admin);
            wire.send(format!("GET /api/v1/events/stream HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let mut first = [0; 12];
            wire.stream.read_exact(&mut first).expect("a status line");
            assert_eq!(&first, b"HTTP/1.1 200");
            wire
        })
        .collect();
    assert_eq!(ask(host, "GET /api/v1/events/stream", &[], None).status, 503);
    assert_eq!(get(&daemon, "/api/v1/listeners")["listeners"][0]["name"], "front");
    drop(streams);
    until("a place for a stream", || {
        let mut wire = Wire::open(daemon.admin);
        wire.send(format!("GET /api/v1/events/stream HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let mut first = [0; 12];
        wire.stream.read_exact(&mut first).expect("a status line");
        (&first == b"HTTP/1.1 200").then_some(())
    });
    // Half a head, half a body, and nothing at all, on as many connections as there are: they are cut, and others come in.
    let half = ["GET /sta".to_owned(), format!("{head}Content-Length: 10\r\n\r\nab"), String::new()];
    let slow: Vec<Wire> = (0..128)
        .map(|number: usize| {
            let mut wire = Wire::open(daemon.admin);
            wire.send(&half[number % half.len()]);
            wire
        })
        .collect();
    assert_eq!(post(&daemon, "/api/v1/route", &format!("{{\"url\":\"http://{listen}/\"}}")).status, 200);
    for mut wire in slow {
        let (last, _) = wire.rest();
        let last = String::from_utf8_lossy(&last);
        assert!(last.is_empty() || last.starts_with("HTTP/1.1 408 "), "{last}");
    }
    assert!(daemon.events().iter().all(|line| !line.contains("panicked")));
}
