//! Probes inside TLS against another's TLS on real sockets: OpenSSL's own server, on a port the kernel chose.
//!
//! A session of our own on both sides, as in `secured.rs`, would agree with itself on any mistake.

mod real;

#[path = "../../tls/tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use evenkeel_health::pattern::Pattern;
use evenkeel_health::settings::{HttpProbe, ProbeSettings, Step, StepsProbe, TlsProbe};
use evenkeel_model::finding::{FailureReason, Pass, ProbePhase, ProbeResult};
use evenkeel_tls::{Client, ClientSettings, Offers};
use real::{PATIENT, failed, probe};
use support::{Authority, Key, client_settings};

/// `openssl s_server` with a certificate for `a.example`; ends with the test.
struct Openssl {
    address: SocketAddr,
    child: Child,
    files: PathBuf,
}

impl Openssl {
    fn start(authority: &Authority, name: &str, options: &[&str]) -> Self {
        let files = std::env::temp_dir().join(format!("evenkeel-probe-{}-{name}", std::process::id()));
        fs::create_dir_all(&files).expect("a folder for its files");
        let leaf = authority.leaf(&["a.example"], Key::P256);
        fs::write(files.join("chain.pem"), &leaf.chain).expect("its certificate is written");
        fs::write(files.join("key.pem"), &leaf.key).expect("its key is written");
        fs::write(files.join("ca.pem"), &authority.pem).expect("its authority is written");
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", "chain.pem", "-key", "key.pem"])
            .args(options)
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        // It says where it listens once it does: "ACCEPT 127.0.0.1:43211".
        let said = BufReader::new(child.stdout.take().expect("its output is ours"));
        let address =
            said.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("ACCEPT ")?.trim().parse().ok());
        Openssl { address: address.expect("it listens"), child, files }
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.files);
    }
}

fn client(settings: ClientSettings<'_>) -> Arc<Client> {
    Arc::new(evenkeel_tls::client(settings).expect("a client").for_probes(Offers::Http1))
}

/// `-www` knows GET alone.
fn https(client: &Arc<Client>) -> ProbeSettings {
    ProbeSettings::Http(HttpProbe { method: "GET".into(), tls: Some(Arc::clone(client)), ..HttpProbe::default() })
}

fn handshake(client: &Arc<Client>) -> ProbeSettings {
    ProbeSettings::Tls(TlsProbe { client: Arc::clone(client), min_days_left: Some(1) })
}

fn tls(why: &'static str) -> ProbeResult {
    failed(ProbePhase::Tls, FailureReason::Tls { why })
}

#[test]
fn both_versions_are_spoken_and_certificates_judged() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let good = client(client_settings(&ours.pem, "a.example"));
    let other_name = client(client_settings(&ours.pem, "b.example"));
    let other_authority = client(client_settings(&strangers.pem, "a.example"));
    for version in ["-tls1_2", "-tls1_3"] {
        let openssl = Openssl::start(&ours, version, &[version]);
        let found = |check| probe(openssl.address, real::settings(check, PATIENT)).result;
        assert_eq!(found(https(&good)), ProbeResult::Passed(Pass::Status(200)), "{version}");
        let days_left = Some(191);
        assert_eq!(found(handshake(&good)), ProbeResult::Passed(Pass::Secured { days_left }), "{version}");
        for kind in [https, handshake] {
            assert_eq!(found(kind(&other_name)), tls("certificate for another name"), "{version}");
            assert_eq!(found(kind(&other_authority)), tls("certificate from an unknown authority"), "{version}");
        }
    }
}

#[test]
fn a_conversation_goes_on_behind_the_handshake() {
    let ours = Authority::new("ours");
    let good = client(client_settings(&ours.pem, "a.example"));
    let send = |words: &str| Step::Send(words.into());
    let line = |wanted: &str| Step::Expect(Pattern::regex(wanted).expect("valid"));
    let talk = |steps: &[Step]| ProbeSettings::Steps(StepsProbe { steps: steps.into(), tls: Some(Arc::clone(&good)) });
    for version in ["-tls1_2", "-tls1_3"] {
        let openssl = Openssl::start(&ours, &format!("talk{version}"), &[version]);
        let found = |check| probe(openssl.address, real::settings(check, PATIENT)).result;
        let asked = [send("GET / HT"), send("TP/1.0\r\n\r\n"), line("^HTTP/1.0 200 ok$")];
        assert_eq!(found(talk(&asked)), ProbeResult::Passed(Pass::Answered), "{version}");
        let wanting = [&asked[..], &[line("</pre>"), line("nothing behind it")]].concat();
        match found(talk(&wanting)) {
            ProbeResult::Failed(failure) => {
                let told = failure.reason.to_string();
                // Its page ends with the stream, with a goodbye or without.
                assert!(told.starts_with("step 5 of 5 expected /nothing behind it/, got "), "{told}");
                assert!(told.ends_with(" and then the backend closed"), "{told}");
            }
            other => panic!("{version}: {other:?}"),
        }
    }
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let ours = Authority::new("ours");
    let openssl = Openssl::start(&ours, "mutual", &["-CAfile", "ca.pem", "-Verify", "1", "-verify_return_error"]);
    let without = client(client_settings(&ours.pem, "a.example"));
    let certificate = Some(ours.client_leaf("probe").load());
    let with = client(ClientSettings { certificate, ..client_settings(&ours.pem, "a.example") });
    let found = |check| probe(openssl.address, real::settings(check, PATIENT)).result;
    assert_eq!(found(https(&with)), ProbeResult::Passed(Pass::Status(200)));
    assert_eq!(found(https(&without)), tls("alert received: certificate_required"));
}

#[test]
fn a_server_below_tls_1_2_is_no_backend() {
    let ours = Authority::new("ours");
    let good = client(client_settings(&ours.pem, "a.example"));
    let openssl = Openssl::start(&ours, "old", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let found = probe(openssl.address, real::settings(handshake(&good), PATIENT)).result;
    assert_eq!(found, tls("alert received: protocol_version"));
}
