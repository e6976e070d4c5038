//! Probes over HTTP/2 against others' servers: nginx and the gRPC of grpcio, plain and inside TLS.
//!
//! Our own machine on both sides, as in the tests of the probe room, would agree with itself on any mistake.

use std::net::SocketAddr;

use serde_json::Value;

use crate::daemon::{Daemon, Folder, free_address, own_ip, until};
use crate::servers::Server;
use crate::tools::{Authority, Key, Peer, have_all};

const QUICK: &str = "interval = \"100ms\"\ntimeout = \"5s\"\nhealthy_threshold = 1\nunhealthy_threshold = 2\n";

/// A pool with these checks: a name and more keys for each.
fn pool(name: &str, backend: SocketAddr, checks: &[(&str, String)]) -> String {
    let listen = free_address();
    let mut text = format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{listen}\"\nprotocol = \"tcp\"\npool = \"{name}\"\n\
         [[pool]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\n"
    );
    for (check, keys) in checks {
        text += &format!("[[pool.check]]\nname = \"{check}\"\n{QUICK}{keys}\n");
    }
    text
}

/// The last finding of a check of the only backend of a pool, once there is one.
fn finding(daemon: &Daemon, pool: &str, check: &str) -> Value {
    until(&format!("a finding of {check} of {pool}"), || {
        let status = daemon.status();
        let shown = status["pools"].as_array()?.iter().find(|shown| shown["name"] == pool)?;
        let checks = shown["backends"][0]["checks"].as_array()?;
        let found = checks.iter().find(|shown| shown["name"] == check)?;
        found["recent"][0].is_object().then(|| found["recent"][0].clone())
    })
}

/// Compares each check's finding with its result and the end of its evidence.
fn assert_findings(daemon: &Daemon, pool: &str, expected: &[(&str, &str, &str)]) {
    for (check, result, evidence) in expected {
        let finding = finding(daemon, pool, check);
        let text = finding["text"].as_str().expect("a finding has a text");
        assert_eq!(finding["result"], *result, "{pool} {check}: {text}");
        assert!(text.ends_with(evidence), "{pool} {check}: {text}, and not {evidence}");
    }
}

#[test]
fn nginx_is_asked_over_http_2() {
    let test = "nginx_is_asked_over_http_2";
    if !have_all(test, &["nginx", "openssl"], &[]) {
        return;
    }
    let [plain, secured, old, old_secured] = std::array::from_fn(|_| free_address());
    let (authority, folder) = (Authority::new("streams"), Folder::new("streams-nginx"));
    let pair = authority.issue("nginx", Key::Ecdsa, &["health.example"]);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    // Larger than the window of a stream; what is looked for stands behind that.
    let large = [vec![b'.'; 65_530], b"ready\n".to_vec()].concat();
    std::fs::write(folder.0.join("large"), large).expect("the folder can be written");
    let root = folder.0.display();
    let pages = format!(
        "ssl_certificate {certificate}; ssl_certificate_key {key}; root {root};\n\
         location = /ready {{ if ($server_protocol != 'HTTP/2.0') {{ return 426; }} return 200 'all is well\\nready\\n'; }}\n\
         location = /field {{ if ($http_x_probe != 'right') {{ return 403; }} return 204; }}\n\
         location = /large {{ }}\n location / {{ return 404; }}\n"
    );
    let _nginx = Server::nginx(
        &[plain, secured, old, old_secured],
        &format!(
            "server {{ listen {plain} http2; listen {secured} ssl http2;\n{pages} }}\n\
             server {{ listen {old}; listen {old_secured} ssl;\n{pages} }}\n"
        ),
    );
    let checks = |tls: &str| {
        [
            ("head", "path = \"/ready\"\n"),
            ("ready", "path = \"/ready\"\nexpect_body = { regex = '^ready$' }\n"),
            ("unlike", "path = \"/ready\"\nexpect_body = 'steady'\n"),
            ("field", "path = \"/field\"\nheaders = { X-Probe = \"right\" }\n"),
            ("no-field", "path = \"/field\"\n"),
            ("large", "path = \"/large\"\nexpect_body = 'ready'\n"),
        ]
        .map(|(name, keys)| (name, format!("kind = \"http\"\nversion = \"h2\"\n{tls}{keys}")))
    };
    let tls = format!("tls = {{ name = \"health.example\", ca = \"{}\" }}\n", authority.file().display());
    let one = |tls: &str| [("head", format!("kind = \"http\"\nversion = \"h2\"\npath = \"/ready\"\n{tls}"))];
    let body = [
        pool("plain", plain, &checks("")),
        pool("secured", secured, &checks(&tls)),
        pool("old", old, &one("")),
        pool("old-secured", old_secured, &one(&tls)),
    ];
    let daemon = Daemon::start("streams-nginx", &body.concat());
    for name in ["plain", "secured"] {
        assert_findings(
            &daemon,
            name,
            &[
                ("head", "passed", "status 200"),
                ("ready", "passed", "status 200"),
                ("unlike", "failed", "body lacks \"steady\": it begins with \"all is well\\nready\\n\""),
                ("field", "passed", "status 204"),
                ("no-field", "failed", "status 403 is not expected"),
                ("large", "passed", "status 200"),
            ],
        );
    }
    assert_findings(&daemon, "old", &[("head", "failed", "answer is not http/2: the port speaks http/1")]);
    assert_findings(&daemon, "old-secured", &[("head", "failed", "alert received: no_application_protocol")]);
}

#[test]
fn grpcio_is_asked_how_its_services_are() {
    if !have_all("grpcio_is_asked_how_its_services_are", &["openssl"], &["grpc"]) {
        return;
    }
    let authority = Authority::new("streams-grpc");
    let pair = authority.issue("grpc", Key::Ecdsa, &["localhost"]);
    let host = own_ip().to_string();
    let plain = Peer::start("grpc_peer.py", &host, &["serve", &format!("{host}:0")]);
    let files = [&pair.certificate, &pair.key].map(|file| file.display().to_string());
    let secured = Peer::start("grpc_peer.py", &host, &["serve", &format!("{host}:0"), &files[0], &files[1]]);
    let mute = Peer::start("grpc_peer.py", &host, &["serve-without-health", &format!("{host}:0")]);
    let checks = |tls: &str| {
        [
            ("server", ""),
            ("service", "service = \"evenkeel.Test\"\n"),
            ("sick", "service = \"evenkeel.Sick\"\n"),
            ("unknown", "service = \"shop.Cart\"\n"),
        ]
        .map(|(name, keys)| (name, format!("kind = \"grpc\"\n{tls}{keys}")))
    };
    let tls = format!("tls = {{ name = \"localhost\", ca = \"{}\" }}\n", authority.file().display());
    let body = [
        pool("plain", plain.address, &checks("")),
        pool("secured", secured.address, &checks(&tls)),
        pool("mute", mute.address, &[("server", "kind = \"grpc\"\n".to_owned())]),
    ];
    let daemon = Daemon::start("streams-grpc", &body.concat());
    for name in ["plain", "secured"] {
        assert_findings(
            &daemon,
            name,
            &[
                ("server", "passed", "SERVING"),
                ("service", "passed", "SERVING"),
                ("sick", "failed", "service says NOT_SERVING"),
                ("unknown", "failed", "grpc status 5 (NOT_FOUND): \"unknown service\""),
            ],
        );
    }
    assert_findings(&daemon, "mute", &[("server", "failed", "grpc status 12 (UNIMPLEMENTED): \"Method not found!\"")]);
    // All four must pass.
    daemon.wait_verdict("plain", &plain.address.to_string(), "unhealthy");
}
