//! TLS as real clients speak it: openssl's s_client for versions, names, resumption and client certificates, curl and
//! Python's websockets for what runs inside, nginx as a backend with TLS of its own.
//!
//! What rustls does inside is its own tests' matter. These ask what an operator asks after the change of a listener:
//! who gets in, who is shown which certificate, and what the log says of those who do not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::backend::backend;
use crate::daemon::{Daemon, Folder, free_address, until};
use crate::tools::{Authority, Key, Pair, Peer, Said, have_all, https, mirror, pool, python, run};

/// What openssl says of one connection with one request in it.
fn s_client(address: SocketAddr, authority: &Authority, name: Option<&str>, more: &[&str], target: &str) -> Said {
    let (address, ca) = (address.to_string(), authority.file());
    let ca = ca.to_string_lossy();
    let mut words = vec!["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error", "-ign_eof"];
    match name {
        Some(name) => words.extend(["-servername", name, "-verify_hostname", name]),
        None => words.push("-noservername"),
    }
    words.extend(more);
    let host = name.unwrap_or("site.test");
    run("openssl", &words, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

fn served(said: &Said) -> bool {
    said.out.contains("HTTP/1.1 200 OK")
}

/// The subject's common name as openssl writes it; versions differ in their spaces.
fn shown(said: &Said) -> String {
    let line = said.out.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or("none");
    line.replace(' ', "")
}

/// Waits for the log line of a connection that ended before any request.
fn refused(daemon: &Daemon, listener: &str, cause: &str, times: usize) -> Vec<Value> {
    until(&format!("{times} lines with {cause} of {listener}"), || {
        let lines: Vec<Value> =
            daemon.log().into_iter().filter(|line| line["listener"] == listener && line["cause"] == cause).collect();
        (lines.len() >= times).then_some(lines)
    })
}

#[test]
fn versions_of_tls_are_those_of_the_policy() {
    if !have_all("tls-versions", &["openssl"], &[]) {
        return;
    }
    let (authority, server) = (Authority::new("tls-versions"), backend(mirror));
    let pair = authority.issue("site", Key::Ecdsa, &["site.test"]);
    let (intermediate, modern) = (free_address(), free_address());
    let text = https("intermediate", intermediate, &[&pair], "")
        + &https("modern", modern, &[&pair], "[listener.tls]\npolicy = \"modern\"\n")
        + &pool(&[server], "");
    let daemon = Daemon::start("tls-versions", &text);
    // Security level 0, or openssl itself would refuse to offer 1.1.
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let table: [(&str, SocketAddr, &[&str], Option<&str>); 6] = [
        ("intermediate", intermediate, &old, None),
        ("intermediate", intermediate, &["-tls1_2"], Some("TLSv1.2")),
        ("intermediate", intermediate, &["-tls1_3"], Some("TLSv1.3")),
        ("modern", modern, &old, None),
        ("modern", modern, &["-tls1_2"], None),
        ("modern", modern, &["-tls1_3"], Some("TLSv1.3")),
    ];
    let mut turned_away = [("intermediate", 0), ("modern", 0)];
    for (row, (listener, address, offers, agreed)) in table.into_iter().enumerate() {
        let target = format!("/{row}");
        let said = s_client(address, &authority, Some("site.test"), offers, &target);
        match agreed {
            Some(version) => {
                assert!(served(&said), "{listener} {offers:?}: {}{}", said.out, said.err);
                assert!(said.out.contains(&format!("New, {version}, Cipher is ")), "{offers:?}: {}", said.out);
                assert!(said.out.to_ascii_lowercase().contains("x-forwarded-proto: https"), "{}", said.out);
                let line = daemon.wait_log(&target);
                assert_eq!((&line["status"], &line["listener"]), (&200.into(), &listener.into()), "{line}");
            }
            None => {
                assert!(!served(&said) && !said.fine, "{listener} took {offers:?}: {}", said.out);
                // Below 1.2 the hello also lacks what says which signatures it can check, and that is noticed first.
                let told =
                    ["alert protocol version", "alert handshake failure"].iter().any(|told| said.err.contains(told));
                assert!(told, "{offers:?}: {}", said.err);
                let times = turned_away.iter_mut().find(|(name, _)| *name == listener).expect("one of the two");
                times.1 += 1;
                refused(&daemon, listener, "tls_handshake_failed", times.1);
            }
        }
    }
    for (listener, times) in turned_away {
        let labels = [&format!("listener=\"{listener}\"") as &str, "cause=\"tls_handshake_failed\""];
        assert_eq!(daemon.metric("evenkeel_failures_total", &labels), times as f64, "{listener}");
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    if !have_all("sni", &["openssl"], &[]) {
        return;
    }
    let (authority, server, address) = (Authority::new("sni"), backend(mirror), free_address());
    let issue = |stem: &str, key, name: &str| authority.issue(stem, key, &[name]);
    let certificates = [
        issue("first", Key::Ecdsa, "site.test"),
        issue("exact", Key::Ecdsa, "www.shop.test"),
        issue("wildcard", Key::Ecdsa, "*.shop.test"),
        issue("both-ecdsa", Key::Ecdsa, "both.test"),
        issue("both-rsa", Key::Rsa, "both.test"),
    ];
    let certificates: Vec<&Pair> = certificates.iter().collect();
    let daemon = Daemon::start("sni", &(https("web", address, &certificates, "") + &pool(&[server], "")));
    let only_rsa = ["-sigalgs", "rsa_pss_rsae_sha256"];
    let table: [(Option<&str>, &[&str], &str); 7] = [
        (Some("site.test"), &[], "CN=first"),
        (Some("www.shop.test"), &[], "CN=exact"),
        (Some("other.shop.test"), &[], "CN=wildcard"),
        (Some("both.test"), &[], "CN=both-ecdsa"),
        (Some("both.test"), &only_rsa, "CN=both-rsa"),
        (Some("both.test"), &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "CN=both-rsa"),
        (None, &[], "CN=first"),
    ];
    for (row, (name, more, subject)) in table.into_iter().enumerate() {
        let target = format!("/{row}");
        let said = s_client(address, &authority, name, more, &target);
        assert_eq!(shown(&said), subject, "{name:?} {more:?}: {}{}", said.out, said.err);
        assert!(served(&said), "{name:?} {more:?}: {}", said.out);
        let line = daemon.wait_log(&target);
        assert_eq!((&line["status"], &line["host"]), (&200.into(), &name.unwrap_or("site.test").into()), "{line}");
    }

    let said = s_client(address, &authority, Some("nobody.test"), &[], "/nobody");
    assert!(!served(&said) && said.err.contains("unrecognized name"), "{}{}", said.out, said.err);
    let line = refused(&daemon, "web", "tls_no_certificate_for_name", 1).remove(0);
    assert_eq!(line["sni"], "nobody.test", "{line}");
    assert_eq!(daemon.metric("evenkeel_failures_total", &["cause=\"tls_no_certificate_for_name\""]), 1.0);
}

#[test]
fn sessions_resume_on_any_worker_and_after_a_reload() {
    if !have_all("resumption", &["openssl"], &[]) {
        return;
    }
    let (authority, server, address) = (Authority::new("resumption"), backend(mirror), free_address());
    let pair = authority.issue("site", Key::Ecdsa, &["site.test"]);
    let text = https("web", address, &[&pair], "") + &pool(&[server], "");
    let daemon = Daemon::start("resumption", &text);
    let folder = Folder::new("sessions");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = folder.0.join(version).to_string_lossy().into_owned();
        let said = s_client(address, &authority, Some("site.test"), &[version, "-sess_out", &file], "/full");
        assert!(served(&said) && said.out.contains("New, TLS"), "{version}: {}{}", said.out, said.err);
        // Six connections meet both workers with near certainty, and the ticket must be good at each.
        for round in 0..7 {
            if round == 6 {
                assert!(daemon.reload(&text).contains(" node.reloaded "));
            }
            let target = format!("/resumed{version}-{round}");
            let said = s_client(address, &authority, Some("site.test"), &[version, "-sess_in", &file], &target);
            assert!(served(&said) && said.out.contains("Reused, TLS"), "{target}: {}{}", said.out, said.err);
            assert_eq!(daemon.wait_log(&target)["status"], 200);
        }
    }
}

#[test]
fn a_listener_without_tickets_gives_none() {
    if !have_all("no-tickets", &["openssl"], &[]) {
        return;
    }
    let (authority, server, address) = (Authority::new("no-tickets"), backend(mirror), free_address());
    let pair = authority.issue("site", Key::Ecdsa, &["site.test"]);
    let text = https("web", address, &[&pair], "[listener.tls]\ntickets = false\n") + &pool(&[server], "");
    let daemon = Daemon::start("no-tickets", &text);
    let folder = Folder::new("no-sessions");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = folder.0.join(version).to_string_lossy().into_owned();
        s_client(address, &authority, Some("site.test"), &[version, "-sess_out", &file], "/full");
        if fs::exists(&file).expect("the folder can be read") {
            let target = format!("/again{version}");
            let said = s_client(address, &authority, Some("site.test"), &[version, "-sess_in", &file], &target);
            assert!(served(&said) && said.out.contains("New, TLS"), "{version}: {}", said.out);
            assert_eq!(daemon.wait_log(&target)["status"], 200);
        }
    }
}

#[test]
fn a_required_client_certificate_lets_in_who_has_one_and_names_them_to_the_backend() {
    if !have_all("client-certificates", &["openssl"], &[]) {
        return;
    }
    let (authority, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let (server, required, optional) = (backend(mirror), free_address(), free_address());
    let pair = authority.issue("site", Key::Ecdsa, &["site.test"]);
    let tls = |word: &str| {
        format!("[listener.tls]\nclient_ca = \"{}\"\nclient_certificate = \"{word}\"\n", authority.file().display())
    };
    let text = https("required", required, &[&pair], &tls("required"))
        + &https("optional", optional, &[&pair], &tls("optional"))
        + &pool(&[server], "");
    let daemon = Daemon::start("client-certificates", &text);
    let (anna, mallory) = (authority.issue("anna", Key::Ecdsa, &[]), strangers.issue("mallory", Key::Ecdsa, &[]));
    let ask = |address, who: Option<&Pair>, version: &str, target: &str| {
        let files = who.map(|pair| (pair.certificate.to_string_lossy(), pair.key.to_string_lossy()));
        let mut more = vec![version];
        if let Some((certificate, key)) = &files {
            more.extend(["-cert", certificate, "-key", key]);
        }
        // The claim must not pass for the truth.
        let target = format!("{target} HTTP/1.1\r\nX-Client-Cert-Subject: CN=root\r\nX-Ignored: /");
        s_client(address, &authority, Some("site.test"), &more, &target)
    };
    let mut failed = 0;
    for version in ["-tls1_2", "-tls1_3"] {
        let target = format!("/anna{version}");
        let said = ask(required, Some(&anna), version, &target);
        assert!(served(&said), "{version}: {}{}", said.out, said.err);
        let head = said.out.to_ascii_lowercase();
        assert!(head.contains("x-client-cert-subject: cn=anna\r\n"), "{}", said.out);
        assert!(!head.contains("cn=root"), "the client's own claim reached the backend: {}", said.out);
        assert_eq!(daemon.wait_log(&target)["status"], 200);

        for who in [None, Some(&mallory)] {
            let said = ask(required, who, version, "/stranger");
            assert!(!served(&said), "{version}: a stranger was let in: {}", said.out);
            failed += 1;
            refused(&daemon, "required", "tls_handshake_failed", failed);
        }

        let target = format!("/nobody{version}");
        let said = ask(optional, None, version, &target);
        assert!(served(&said), "{version}: {}{}", said.out, said.err);
        assert!(!said.out.to_ascii_lowercase().contains("x-client-cert-subject"), "{}", said.out);
        assert_eq!(daemon.wait_log(&target)["status"], 200);
    }
    assert!(daemon.log().iter().all(|line| line["target"] != "/stranger"), "{:#?}", daemon.log());
}

/// A connection that openssl holds open, for requests one after the other.
struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    fn open(address: SocketAddr, authority: &Authority, name: &str) -> Held {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-servername", name, "-connect", &address.to_string()])
            .arg("-CAfile")
            .arg(authority.file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl was found before");
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Held { child, input, output }
    }

    /// The status line of the answer; the mirrored head behind it is read to its end.
    fn get(&mut self, target: &str) -> String {
        write!(self.input, "GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n").expect("the connection stands");
        self.input.flush().expect("the connection stands");
        let mut status = String::new();
        // Two empty lines: the answer's head, and the mirrored one that is its body.
        let mut ends = 0;
        while ends < 2 {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("openssl writes text");
            assert!(read > 0, "the connection ended in the answer to {target}, after {status:?}");
            if status.is_empty() {
                status = line.trim_end().to_owned();
            }
            ends += u32::from(line.trim_end().is_empty());
        }
        status
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reload_with_another_certificate_is_for_new_connections_only() {
    if !have_all("new-certificate", &["openssl"], &[]) {
        return;
    }
    let (authority, server, address) = (Authority::new("new-certificate"), backend(mirror), free_address());
    let old = authority.issue("old", Key::Ecdsa, &["site.test"]);
    let new = authority.issue("new", Key::Ecdsa, &["site.test"]);
    let text = https("web", address, &[&old], "keep_alive_timeout = \"60s\"") + &pool(&[server], "");
    let daemon = Daemon::start("new-certificate", &text);
    assert_eq!(shown(&s_client(address, &authority, Some("site.test"), &[], "/before")), "CN=old");
    let mut held = Held::open(address, &authority, "site.test");
    assert_eq!(held.get("/held-before"), "HTTP/1.1 200 OK");
    let connections = daemon.metric("evenkeel_listener_connections_total", &["listener=\"web\""]);

    // The files change first, and nothing happens until the reload; a pair that does not match changes nothing.
    fs::copy(&new.certificate, &old.certificate).expect("the folder can be written");
    assert_eq!(shown(&s_client(address, &authority, Some("site.test"), &[], "/unasked")), "CN=old");
    assert!(daemon.reload(&text).contains(" plan.refused "), "the new certificate with the old key");
    assert_eq!(shown(&s_client(address, &authority, Some("site.test"), &[], "/refused")), "CN=old");
    fs::copy(&new.key, &old.key).expect("the folder can be written");
    assert!(daemon.reload(&text).contains(" node.reloaded "));

    let said = s_client(address, &authority, Some("site.test"), &[], "/after");
    assert_eq!((shown(&said), served(&said)), ("CN=new".to_owned(), true), "{}{}", said.out, said.err);
    assert_eq!(held.get("/held-after"), "HTTP/1.1 200 OK", "the connection from before goes on");
    for target in ["/before", "/held-before", "/unasked", "/refused", "/after", "/held-after"] {
        assert_eq!(daemon.wait_log(target)["status"], 200, "{target}");
    }
    let line = daemon.wait_log("/held-after");
    assert_eq!(line["client_requests"], 1, "it is the same connection: {line}");
    assert_eq!(daemon.metric("evenkeel_listener_connections_total", &["listener=\"web\""]), connections + 3.0);
}

#[test]
fn a_websocket_runs_through_tls() {
    if !have_all("wss", &["openssl"], &["websockets"]) {
        return;
    }
    let (authority, address) = (Authority::new("wss"), free_address());
    let host = crate::daemon::own_ip().to_string();
    let peer = Peer::start("websocket_peer.py", &host, &["serve", &host]);
    let pair = authority.issue("localhost", Key::Ecdsa, &["localhost"]);
    let daemon = Daemon::start("wss", &(https("web", address, &[&pair], "") + &pool(&[peer.address], "")));
    let ca = authority.file().to_string_lossy().into_owned();
    let told = python("websocket_peer.py", &["http1", &format!("wss://{address}/chat"), &ca, "localhost"]);
    assert_eq!(
        told,
        serde_json::json!({"text": "grüße", "large": true, "closed": [4001, "as told"]}),
        "what the client saw"
    );
    let line = daemon.wait_log("/chat");
    assert_eq!((&line["status"], &line["cause"]), (&101.into(), &Value::Null), "{line}");
    let bytes = |key: &str| line[key].as_u64().expect("a count");
    assert!(bytes("bytes_in") > 1 << 20 && bytes("bytes_out") > 1 << 20, "{line}");
}

#[test]
fn backends_are_spoken_to_in_tls_only_when_they_are_who_they_should_be() {
    if !have_all("backend-tls", &["openssl", "nginx", "curl"], &[]) {
        return;
    }
    let (authority, strangers) = (Authority::new("backend-tls"), Authority::new("backend-strangers"));
    let folder = Folder::new("backend-tls");
    let pair = authority.issue("inside", Key::Ecdsa, &["inside.test"]);
    let server = NginxTls::start(&folder, &pair);
    let keys = |name: &str, by: &Authority| format!("name = \"{name}\"\nca = \"{}\"\n", by.file().display());
    let table = [
        ("right", keys("inside.test", &authority), 200),
        ("name", keys("other.test", &authority), 502),
        ("authority", keys("inside.test", &strangers), 502),
        ("unverified", "verify = false\n".to_owned(), 200),
    ];
    for (what, keys, status) in table {
        let address = free_address();
        let text = format!("[[listener]]\nname = \"web\"\nlisten = \"{address}\"\npool = \"web\"\n")
            + &pool(&[server.address], &format!("[pool.tls]\n{keys}"));
        let daemon = Daemon::start("backend-tls", &text);
        let said = run("curl", &["-sS", "--max-time", "60", "-o", "-", &format!("http://{address}/{what}")], "");
        let line = daemon.wait_log(&format!("/{what}"));
        assert_eq!(line["status"], status, "{what}: {line}");
        if status == 200 {
            assert_eq!((said.out.as_str(), &line["cause"]), ("over TLSv1.3\n", &Value::Null), "{what}: {line}");
        } else {
            assert_eq!(line["cause"], "backend_tls_failed", "{what}: {line}");
            assert_eq!(daemon.metric("evenkeel_failures_total", &["cause=\"backend_tls_failed\""]), 1.0, "{what}");
        }
    }
}

struct NginxTls {
    child: Child,
    address: SocketAddr,
}

impl NginxTls {
    fn start(folder: &Folder, pair: &Pair) -> NginxTls {
        let (address, place) = (free_address(), folder.0.display());
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let text = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {place}/body;\n\
             server {{ listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             ssl_protocols TLSv1.2 TLSv1.3; location / {{ return 200 \"over $ssl_protocol\\n\"; }} }} }}\n"
        );
        let config = folder.0.join("nginx.conf");
        fs::write(&config, text).expect("the folder can be written");
        let child = Command::new("nginx")
            .args(["-p", &place.to_string(), "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx was found before");
        let nginx = NginxTls { child, address };
        until("nginx to listen", || TcpStream::connect(address).ok());
        nginx
    }
}

impl Drop for NginxTls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
