//! Several checks on one backend, and an agent beside it: what status, metrics and events say of each.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::backend::{backend, read_head, serve};
use crate::client::Wire;
use crate::daemon::{Daemon, free_address, until};

/// A front page that is always well, and a login behind it that fails while `broken` holds.
fn application(broken: &Arc<AtomicBool>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let broken = Arc::clone(broken);
    move |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            let fails = head.contains(" /login ") && broken.load(Ordering::SeqCst);
            let status = if fails { "503 Service Unavailable" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn agent(line: &Arc<Mutex<&'static str>>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let line = Arc::clone(line);
    move |mut stream: TcpStream| {
        // Whether the probe still listens is its own affair.
        let _ = writeln!(stream, "{}", line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Listens on another port of a backend's host.
fn beside(host: SocketAddr, script: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((host.ip(), 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    serve(listener, script);
    address
}

fn setup(listen: SocketAddr, backend: SocketAddr, agent: SocketAddr) -> String {
    let check = |more: &str| format!("[[pool.check]]\ninterval = \"50ms\"\n{more}\n");
    let checks = [
        check("name = \"front\"\nkind = \"http\"\npath = \"/front\""),
        check("name = \"login\"\nkind = \"http\"\npath = \"/login\"\nunhealthy_threshold = 2"),
        check(&format!("kind = \"agent\"\nport = {}", agent.port())),
    ];
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"http\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{backend}\"]\n{}",
        checks.concat()
    )
}

fn check_named(backend: &Value, name: &str) -> Value {
    let checks = backend["checks"].as_array().cloned().unwrap_or_default();
    checks.into_iter().find(|check| check["name"] == name).unwrap_or(Value::Null)
}

#[test]
fn each_check_of_a_backend_is_its_own_finding_and_one_that_fails_is_enough() {
    let (broken, line) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new("up 100%")));
    let well = backend(application(&broken));
    let beside = beside(well, agent(&line));
    let listen = free_address();
    let daemon = Daemon::start("checks", &setup(listen, well, beside));
    let address = well.to_string();
    daemon.wait_verdict("web", &address, "healthy");
    assert_eq!(Wire::open(listen).get("/").status, 200);
    broken.store(true, Ordering::SeqCst);
    let told = daemon.wait_event(0, &["backend.unhealthy", &address]);
    assert!(told.contains("2 probes of check \"login\" in a row failed, last: status 503 is not expected"), "{told}");
    assert_eq!(Wire::open(listen).get("/").status, 502);
    let shown = daemon.backend("web", &address);
    let verdicts = ["front", "login", "agent"].map(|name| check_named(&shown, name)["verdict"].clone());
    assert_eq!(verdicts, ["healthy", "unhealthy", "healthy"]);
    let login = check_named(&shown, "login");
    assert_eq!((&login["kind"], &login["recent"][0]["status"]), (&Value::from("http"), &Value::from(503)));
    assert!(login["since"].is_string() && login["probing"]["state"].is_string(), "{login}");
    let row = |check: &str, verdict: &str| {
        let labels = [format!("backend=\"{address}\""), format!("check=\"{check}\""), format!("\"{verdict}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        daemon.metric("evenkeel_check_verdict", &labels)
    };
    assert_eq!((row("front", "healthy"), row("login", "unhealthy"), row("login", "healthy")), (1.0, 1.0, 0.0));
    assert!(daemon.metric("evenkeel_check_probe_seconds", &["check=\"login\""]) > 0.0);
    broken.store(false, Ordering::SeqCst);
    let told = daemon.wait_event(0, &["backend.healthy", "check \"login\"", "in a row passed"]);
    assert!(told.contains("; all its checks pass"), "{told}");
}

#[test]
fn an_agent_scales_and_drains_its_backend_and_gives_it_back() {
    let (broken, line) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new("up 40%")));
    let say = |words| *line.lock().unwrap_or_else(PoisonError::into_inner) = words;
    let well = backend(application(&broken));
    let beside = beside(well, agent(&line));
    let listen = free_address();
    let daemon = Daemon::start("agent_says", &setup(listen, well, beside));
    let address = well.to_string();
    let weight = || daemon.metric("evenkeel_backend_effective_weight", &[]);
    until("the agent's percentage in force", || (weight() == 40.0).then_some(()));
    say("drain");
    let told = daemon.wait_event(0, &["backend.agent", &address]);
    assert!(told.contains("its agent says drain 40%, was serve 40%"), "{told}");
    let shown = daemon.backend("web", &address);
    assert_eq!((&shown["order"], &shown["agent"]["order"]), (&Value::from("serve"), &Value::from("drain")));
    assert_eq!(weight(), 0.0);
    assert_eq!(Wire::open(listen).get("/").status, 503);
    say("ready 100%");
    daemon.wait_event(0, &["backend.agent", "its agent says serve 100%"]);
    assert_eq!((weight(), Wire::open(listen).get("/").status), (100.0, 200));
}
