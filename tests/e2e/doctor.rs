//! `evenkeel doctor` beside a running daemon: real faults behind it, and the judgement each must come to.
//!
//! The table of `crates/diagnose/tests/doctor.rs` has the judgements; here it is seen that the facts for them are collected,
//! that only what was announced is sent, and that no secret of the config, the request or the answers gets into a report.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::backend::{backend, hold, polite, read_head, reset};
use crate::daemon::{BINARY, Daemon, free_address, own_ip, until};

/// Serves its page of health; everything else is up to `otherwise`.
fn green(otherwise: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    backend(move |mut stream| {
        let Ok(copy) = stream.try_clone() else { return };
        // What was read is gone for `otherwise`, which reads nothing more.
        match read_head(&mut stream) {
            Some(head) if head.contains(" /health ") => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            Some(_) => otherwise(copy),
            None => {}
        }
    })
}

fn writes(bytes: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        let _ = stream.write_all(bytes);
    }
}

const DEAD_APPLICATION: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\n\
    Content-Length: 94\r\nConnection: close\r\n\r\n\
    <html><body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx/1.22.1</center></body>\n";

struct Case {
    name: &'static str,
    backends: Vec<SocketAddr>,
    /// Keys of the pool.
    pool: &'static str,
    whose: Option<&'static str>,
    cause: Option<&'static str>,
    says: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let case = |name, backends, pool, whose, cause, says| Case { name, backends, pool, whose, cause, says };
    let huge = format!("HTTP/1.1 200 OK\r\nSet-Cookie: a={}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000));
    let slow = |mut stream: TcpStream| {
        std::thread::park_timeout(Duration::from_millis(1500));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    vec![
        case("well", vec![green(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))], "", None, None, &[]),
        case(
            "dead-application",
            vec![green(writes(DEAD_APPLICATION)), green(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))],
            "",
            Some("backend"),
            Some("backend_answered_error"),
            &["One of 2 backends", "the probes see a page that does not need what fails"],
        ),
        case(
            "slow",
            vec![green(slow)],
            "response_timeout = \"1s\"",
            Some("backend"),
            Some("backend_response_timeout"),
            &["answers, but only after", "waits 1.0 s"],
        ),
        case(
            "huge-head",
            vec![green(writes(huge.leak().as_bytes()))],
            "",
            Some("backend"),
            Some("backend_header_too_large"),
            &["Set-Cookie with 40002 bytes"],
        ),
        case(
            "cut",
            vec![green(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"))],
            "",
            Some("backend"),
            Some("backend_reset_mid_response"),
            &["before it is whole"],
        ),
        case(
            "resets",
            vec![green(|stream| reset(&stream))],
            "",
            Some("backend"),
            Some("backend_reset_before_response"),
            &["resets the connection instead of an answer"],
        ),
        case(
            "not-http",
            vec![green(writes(b"SSH-2.0-OpenSSH_9.2\r\n"))],
            "",
            Some("backend"),
            Some("backend_malformed_response"),
            &["is an SSH server"],
        ),
        case(
            "refuses",
            vec![free_address()],
            "check = \"off\"",
            Some("backend"),
            Some("backend_connect_refused"),
            &["nothing listens on that port"],
        ),
        case(
            "silent",
            vec![green(hold)],
            "response_timeout = \"1s\"",
            Some("backend"),
            Some("backend_response_timeout"),
            &["sends nothing for"],
        ),
    ]
}

fn doctor(arguments: &[&str]) -> (String, i32) {
    let done = Command::new(BINARY).arg("doctor").args(arguments).stdin(Stdio::null()).output().expect("it was built");
    (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code().expect("it ends by itself"))
}

fn judged(daemon: &Daemon, arguments: &[&str]) -> (Value, i32) {
    let config = daemon.config().display().to_string();
    let (out, code) = doctor(&[arguments, &["--json", "--config", &config]].concat());
    (serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}")), code)
}

#[test]
fn each_fault_behind_a_running_node_comes_to_its_judgement() {
    let cases = cases();
    let mut body = String::new();
    let mut addresses = Vec::new();
    for Case { name, backends, pool, .. } in &cases {
        let listen = free_address();
        let list = backends.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        let check = if pool.contains("check") { "" } else { "[pool.check]\nmethod = \"GET\"\npath = \"/health\"\n" };
        body += &format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{listen}\"\nprotocol = \"http\"\npool = \"{name}\"\n\
             [[pool]]\nname = \"{name}\"\nbackends = [{list}]\n{pool}\n{check}"
        );
        addresses.push(listen);
    }
    let daemon = Daemon::start("doctor", &body);
    until("first verdicts", || {
        let status = daemon.status();
        let mut backends =
            status["pools"].as_array()?.iter().flat_map(|pool| pool["backends"].as_array().into_iter().flatten());
        backends
            .all(|backend| backend["checks"].as_array().is_some_and(Vec::is_empty) || backend["verdict"] != "unknown")
            .then_some(())
    });
    let (daemon, addresses) = (&daemon, &addresses);
    let told = std::thread::scope(|scope| {
        let asked: Vec<_> = addresses
            .iter()
            .map(|address| scope.spawn(move || judged(daemon, &[&format!("http://{address}/page"), "--count", "3"])))
            .collect();
        asked.into_iter().map(|asking| asking.join().expect("a case panics with its own words")).collect::<Vec<_>>()
    });
    for (case, (document, code)) in cases.iter().zip(told) {
        let judgement = &document["judgement"];
        let what = format!("{}: {document:#}", case.name);
        assert_eq!(judgement["whose"].as_str(), case.whose, "{what}");
        assert_eq!(judgement["cause"].as_str(), case.cause, "{what}");
        assert_eq!(code, i32::from(case.whose.is_some()), "{what}");
        let text = judgement.to_string();
        for words in case.says {
            assert!(text.contains(words), "\"{words}\" is missing in {what}");
        }
    }
}

#[test]
fn what_it_sends_only_reads_and_a_report_of_it_holds_no_secret() {
    const SECRET: &str = "pl4nt3d";
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let served = backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let status = if head.contains(" /health ") { "200 OK" } else { "500 Oops" };
            hears.lock().expect("no thread panics with it").push(head);
            let answer = format!(
                "HTTP/1.1 {status}\r\nSet-Cookie: SID={SECRET}\r\nX-Debug: {SECRET}\r\nLocation: /?k={SECRET}\r\nContent-Length: 7\r\n\r\n{SECRET}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let listen = free_address();
    let daemon = Daemon::start(
        "doctor-report",
        &format!(
            "[[node.hook]]\nurl = \"http://127.0.0.1:9/{SECRET}\"\n\
             [[listener]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"http\"\n\
             [[listener.rule]]\npath = \"/\"\npool = \"web\"\nrequest_headers = {{ set = {{ X-Inner = \"{SECRET}\" }} }}\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{served}\"]\n\
             [pool.check]\nmethod = \"GET\"\npath = \"/health\"\nheaders = {{ Authorization = \"Bearer {SECRET}\" }}\n"
        ),
    );
    let folder = daemon.config().parent().expect("it is in a folder").to_owned();
    let report = folder.join("report.txt");
    let url = format!("http://{listen}/cart?token={SECRET}");
    let config = daemon.config().display().to_string();
    let (out, code) = doctor(&[
        &url,
        "--config",
        &config,
        "--header",
        &format!("Authorization: Basic {SECRET}"),
        "--header",
        &format!("Cookie: a={SECRET}"),
        "--report",
        &report.display().to_string(),
    ]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("Nothing is changed") && out.contains("cause backend_answered_error"), "{out}");
    let text = std::fs::read_to_string(&report).expect("it was written");
    let leaks: Vec<&str> = text.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    for kept in [
        "JUDGEMENT",
        "Last events of the node",
        "[pool.check]",
        "Authorization",
        "X-Inner",
        &format!("Backend {served}"),
    ] {
        assert!(text.contains(kept), "{kept} is missing in:\n{text}");
    }
    // Rules are carried out on what goes straight too, and nobody is asked to change anything.
    let heard = heard.lock().expect("no thread panics with it").clone();
    assert!(heard.iter().all(|head| head.starts_with("GET ") || head.starts_with("HEAD ")), "{heard:#?}");
    let straight = heard
        .iter()
        .find(|head| head.contains("evenkeel-doctor") && head.contains("GET /cart"))
        .expect("it was asked straight");
    assert!(straight.contains("X-Inner: ") && straight.contains("X-Forwarded-For: "), "{straight}");
}

#[test]
fn a_captured_log_names_the_bad_backend() {
    let (good, bad) = (backend(polite), backend(|stream| reset(&stream)));
    let listen = free_address();
    let daemon = Daemon::start(
        "doctor-log",
        &format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"http\"\npool = \"web\"\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{good}\", \"{bad}\"]\nretries = 0\ncheck = \"off\"\n"
        ),
    );
    for _ in 0..20 {
        let mut wire = crate::client::Wire::open(listen);
        wire.send(format!("POST /pay HTTP/1.1\r\nHost: {listen}\r\nContent-Length: 0\r\n\r\n"));
        let _ = wire.answer();
    }
    until("twenty lines", || (daemon.log().len() >= 20).then_some(()));
    let log = daemon.config().with_file_name("access.log").display().to_string();
    let (out, code) = doctor(&["--log", &log, "--json", &format!("http://{listen}/pay")]);
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!(code, 1);
    assert_eq!(document["matched"], 20, "{document:#}");
    assert_eq!(document["judgement"]["about"], bad.to_string(), "{document:#}");
    assert_eq!(document["judgement"]["whose"], "backend");
    let (out, code) = doctor(&["--log", &log, "http://other.example/"]);
    assert!(out.contains("this cannot be told"), "{out}");
    assert_eq!(code, 1);
}

#[test]
fn a_balancer_that_is_not_there_and_rules_that_do_not_know_the_host_are_told_apart() {
    let nobody = SocketAddr::from((own_ip(), 9));
    let (out, code) = doctor(&[&format!("http://{nobody}/"), "--config", "/nowhere/evenkeel.toml"]);
    assert!(out.contains("Nothing listens on") && code == 1, "{out}");
    let listen = free_address();
    let daemon = Daemon::start(
        "doctor-rules",
        &format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"http\"\n\
             [[listener.rule]]\nhost = \"www.example.com\"\npool = \"web\"\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n",
            backend(polite)
        ),
    );
    let port = listen.port();
    let resolve = format!("shop.example:{}", listen.ip());
    let (document, _) = judged(&daemon, &[&format!("http://shop.example:{port}/"), "--resolve", &resolve]);
    assert_eq!(document["judgement"]["whose"], "rule", "{document:#}");
    assert_eq!(document["judgement"]["cause"], "host_not_configured");
    let resolve = format!("www.example.com:{}", listen.ip());
    let (document, code) = judged(&daemon, &[&format!("http://www.example.com:{port}/"), "--resolve", &resolve]);
    assert_eq!((document["judgement"]["outcome"].as_str(), code), (Some("nothing_wrong"), 0), "{document:#}");
    assert_eq!(doctor(&["ftp://x/"]).1, 2);
}
