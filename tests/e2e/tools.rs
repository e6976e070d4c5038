//! What the tests with real clients share: certificates by openssl, peers in Python, programs that come to an end.
//!
//! The programs are those of the distribution, and Python is the distribution's own, since its modules (grpcio,
//! websockets, h2) are installed beside them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::backend::read_head;
use crate::daemon::{Folder, has, skipped};

const PYTHON: &str = "/usr/bin/python3";

/// Whether all of these programs and Python modules are here; says so aloud when one is not.
pub fn have_all(test: &str, programs: &[&str], modules: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has(program)).map(|program| (*program).to_owned()).or_else(|| {
        let imports = |module: &str| {
            let import = Command::new(PYTHON).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
            import.is_ok_and(|status| status.success())
        };
        modules.iter().find(|module| !imports(module)).map(|module| format!("Python's {module}"))
    });
    if let Some(what) = &missing {
        skipped(test, what);
    }
    missing.is_none()
}

/// What a program said and whether it was content.
pub struct Said {
    pub fine: bool,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, which `timeout` brings about at the latest.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("coreutils are here");
    // A program that was refused may end before it has read everything.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    let done = child.wait_with_output().expect("it is our child");
    Said {
        fine: done.status.success(),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

fn script(name: &str) -> String {
    format!("{}/tests/e2e/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs one of our scripts, which prints one JSON object.
pub fn python(name: &str, arguments: &[&str]) -> Value {
    let said = run(PYTHON, &[&[script(name).as_str()], arguments].concat(), "");
    assert!(said.fine, "{name} {arguments:?}: {}", said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error} in {}", said.out))
}

/// A server in Python. It prints its port first and serves until its input ends, so it cannot outlive the test.
pub struct Peer {
    child: Child,
    pub address: SocketAddr,
}

impl Peer {
    pub fn start(name: &str, host: &str, arguments: &[&str]) -> Peer {
        let mut child = Command::new(PYTHON)
            .arg(script(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python was found before");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("it prints its port");
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{name} said {line:?} instead of its port"));
        Peer { child, address: SocketAddr::new(host.parse().expect("an address"), port) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate and its key, as files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// As a listener's or a test's keys.
    pub fn keys(&self) -> String {
        format!("certificate = \"{}\"\nkey = \"{}\"\n", self.certificate.display(), self.key.display())
    }
}

#[derive(Clone, Copy)]
pub enum Key {
    Ecdsa,
    Rsa,
}

/// Somebody who signs certificates; the files go away with it.
pub struct Authority {
    folder: Folder,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let authority = Authority { folder: Folder::new(name) };
        authority.openssl("ca", "CA:TRUE", "CN=e2e authority", &[], Key::Ecdsa, false);
        authority
    }

    pub fn file(&self) -> PathBuf {
        self.folder.0.join("ca.pem")
    }

    /// A certificate for `names`; its subject is `CN=stem`.
    pub fn issue(&self, stem: &str, key: Key, names: &[&str]) -> Pair {
        self.openssl(stem, "CA:FALSE", &format!("CN={stem}"), names, key, true)
    }

    fn openssl(&self, stem: &str, kind: &str, subject: &str, names: &[&str], key: Key, signed: bool) -> Pair {
        let at = |end: &str| self.folder.0.join(format!("{stem}{end}"));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (certificate, private, config) = (at(".pem"), at(".key"), at(".cnf"));
        // The names of a certificate are in its extension only, so the system's own openssl.cnf adds nothing to it.
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let names = if names.is_empty() { String::new() } else { format!("subjectAltName={}\n", names.join(",")) };
        let extensions =
            format!("[req]\ndistinguished_name=dn\n[dn]\n[ext]\nbasicConstraints=critical,{kind}\n{names}");
        fs::write(&config, extensions).expect("the folder can be written");
        let (ca, ca_key) = (text(&self.file()), text(&self.folder.0.join("ca.key")));
        let (subject, config) = (format!("/{subject}"), text(&config));
        let (out, private_text) = (text(&certificate), text(&private));
        let mut words =
            vec!["req", "-x509", "-nodes", "-days", "90", "-sha256", "-config", &config, "-extensions", "ext"];
        words.extend(["-subj", &subject, "-keyout", &private_text, "-out", &out]);
        words.extend(match key {
            Key::Ecdsa => ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"].as_slice(),
            Key::Rsa => ["-newkey", "rsa:2048"].as_slice(),
        });
        if signed {
            words.extend(["-CA", &ca, "-CAkey", &ca_key]);
        }
        let said = run("openssl", &words, "");
        assert!(said.fine, "openssl {words:?}: {}", said.err);
        if signed {
            // The chain as an operator should give it; a daemon that warns would bury what a failed test has to say.
            let chain = [certificate.as_path(), &self.file()].map(|file| fs::read(file).expect("openssl wrote it"));
            fs::write(&certificate, chain.concat()).expect("the folder can be written");
        }
        Pair { certificate, key: private }
    }
}

/// An https listener with these certificates in front of the pool "web"; `keys` are more keys and tables of it.
pub fn https(name: &str, address: SocketAddr, certificates: &[&Pair], keys: &str) -> String {
    let tables: String = certificates.iter().map(|pair| format!("[[listener.certificate]]\n{}", pair.keys())).collect();
    format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"https\"\npool = \"web\"\n{keys}\n{tables}"
    )
}

/// The pool "web" without a check; `keys` are more keys and tables of it.
pub fn pool(backends: &[SocketAddr], keys: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    format!("[[pool]]\nname = \"web\"\nbackends = [{}]\ncheck = \"off\"\n{keys}\n", backends.join(", "))
}

/// A backend that answers every request with the head it was asked with.
pub fn mirror(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
