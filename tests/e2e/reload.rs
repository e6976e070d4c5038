//! Reloads and the end: what SIGHUP and SIGTERM promise to those who are connected.
//!
//! The losses other balancers have here are single requests out of thousands, so clients count every one and the
//! access log has to agree with them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use crate::backend::{backend, polite, read_head};
use crate::client::{Answer, End, Steady, Wire};
use crate::daemon::{Daemon, PATIENCE, Setup, free_address, until};

const CHECK: &str = "check = { kind = \"http\", interval = \"200ms\", timeout = \"2s\" }";

/// One listener and pool of the same name.
fn site(name: &str, address: SocketAddr, backends: &[SocketAddr], check: &str) -> String {
    let mut text = String::new();
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    let _ = writeln!(text, "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\npool = \"{name}\"");
    let _ = writeln!(text, "keep_alive_timeout = \"60s\"");
    let _ = writeln!(text, "[[pool]]\nname = \"{name}\"\nbackends = [{}]\n{check}", backends.join(", "));
    text
}

#[test]
fn a_bad_file_changes_nothing_and_is_reported_with_its_line() {
    let (address, server) = (free_address(), backend(polite));
    let good = site("web", address, &[server], CHECK);
    let daemon = Daemon::start("bad-file", &good);
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    let mut kept = Wire::open(address);
    kept.get("/before");
    let generation = daemon.status()["generation"].clone();
    let inodes = daemon.listening_inodes(address);
    assert_eq!(inodes.len(), 2, "one listening socket for each of two workers");
    let taken = std::net::TcpListener::bind(free_address()).expect("it was free");
    let in_use = taken.local_addr().expect("it is bound");
    let bad = [
        ("syntax", good.replace("[[pool]]", "[[pool]"), "evenkeel.toml:"),
        ("unknown pool", good.replacen("pool = \"web\"", "pool = \"wbe\"", 1), "wbe"),
        ("unknown key", format!("{good}retris = 1\n"), "retris"),
        ("address in use", format!("{good}{}", site("new", in_use, &[server], CHECK)), "in use"),
    ];
    for (what, text, word) in bad {
        let line = daemon.reload(&text);
        assert!(line.contains(" warn plan.refused "), "{what}: {line}");
        assert!(line.contains(word), "{what}: the event does not say \"{word}\": {line}");
        assert_eq!(kept.get("/after").status, 200, "{what}");
        assert_eq!(Wire::open(address).get("/new").status, 200, "{what}");
        assert_eq!(daemon.status()["generation"], generation, "{what}");
        assert_eq!(daemon.listening_inodes(address), inodes, "{what}");
    }
    let line = daemon.reload(&good);
    assert!(line.contains(" node.reloaded "), "the good file is taken after the bad ones: {line}");
}

#[test]
fn a_reload_adds_and_removes_and_leaves_the_rest_alone() {
    let (old, new) = (free_address(), free_address());
    let (first, second, third) = (backend(polite), backend(polite), backend(polite));
    let before = site("stays", old, &[first, second], CHECK);
    let daemon = Daemon::start("reload", &before);
    daemon.wait_verdict("stays", &first.to_string(), "healthy");
    daemon.wait_verdict("stays", &second.to_string(), "healthy");
    let mut kept = Wire::open(old);
    kept.get("/");
    let inodes = daemon.listening_inodes(old);
    let since = daemon.backend("stays", &first.to_string())["since"].clone();
    let events = daemon.events().len();

    // A listener, a pool and a backend more.
    let more = format!("{}{}", site("stays", old, &[first, second, third], CHECK), site("comes", new, &[third], CHECK));
    assert!(daemon.reload(&more).contains(" node.reloaded "));
    assert_eq!(daemon.listening_inodes(old), inodes, "the unchanged listener keeps its sockets");
    assert_eq!(daemon.listening_inodes(new).len(), 2, "the new one is bound when the reload is reported");
    daemon.wait_verdict("stays", &third.to_string(), "healthy");
    assert_eq!(Wire::open(new).get("/").status, 200);
    assert_eq!(kept.get("/").status, 200, "a connection from before the reload is served after it");

    // And less again: the second backend leaves the pool too.
    let mut idle = Wire::open(new);
    idle.get("/");
    let less = site("stays", old, &[first, third], CHECK);
    assert!(daemon.reload(&less).contains(" node.reloaded "));
    until("the removed listener's sockets to close", || daemon.listening_inodes(new).is_empty().then_some(()));
    let last = idle.get("/last");
    assert_eq!((last.status, last.says_close()), (200, true), "the removed listener answers once more: {}", last.head);
    assert_eq!(idle.rest().1, End::Closed);
    assert_eq!(daemon.listening_inodes(old), inodes);
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(daemon.backend("stays", &second.to_string()), serde_json::Value::Null, "the removed backend is gone");

    // The backend that nobody touched has kept its verdict, and nobody re-learned it.
    assert_eq!(daemon.backend("stays", &first.to_string())["since"], since);
    let first = first.to_string();
    let again: Vec<String> = daemon
        .events()
        .into_iter()
        .skip(events)
        .filter(|line| line.contains(&first) && line.contains("backend."))
        .collect();
    assert!(again.is_empty(), "an unchanged backend's verdict was given again: {again:#?}");
}

#[test]
fn a_request_that_a_reload_meets_in_mid_head_goes_where_the_rules_of_its_listener_meant() {
    let named = |name: &'static str| {
        backend(move |mut stream| {
            while read_head(&mut stream).is_some() {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    };
    let (meant, other) = (named("meant"), named("other"));
    let (going, staying) = (free_address(), free_address());
    let pool = |name: &str, backend: SocketAddr| {
        format!("[[pool]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\ncheck = \"off\"\n")
    };
    let stays = format!("[[listener]]\nname = \"stays\"\nlisten = \"{staying}\"\nprotocol = \"http\"\npool = \"b\"\n");
    let goes = format!(
        "[[listener]]\nname = \"goes\"\nlisten = \"{going}\"\nprotocol = \"http\"\n\
         [[listener.rule]]\nhost = \"e2e\"\npool = \"a\"\n"
    );
    let before = format!("{stays}{goes}{}{}", pool("a", meant), pool("b", other));
    let daemon = Daemon::start("reload_mid_head", &before);
    let mut wire = Wire::open(going);
    // The answer to the first says that the half of the second was read with it.
    wire.send("GET /1 HTTP/1.1\r\nHost: e2e\r\n\r\nGET /2 HTTP/1.1\r\nHost: ");
    assert_eq!(wire.answer().expect("an answer").payload(), b"meant");
    // Without the rule's pool, and with another in the place that it had.
    let told = daemon.reload(&format!("{stays}{}", pool("b", other)));
    assert!(told.contains("node.reloaded"), "{told}");
    until("the worker to follow", || Wire::try_open(going).is_err().then_some(()));
    wire.send("e2e\r\n\r\n");
    assert_eq!(wire.answer().expect("an answer").payload(), b"meant");
}

#[test]
fn a_reload_is_no_reason_to_probe_an_unchanged_backend() {
    let (address, server) = (free_address(), backend(polite));
    // The first probe comes at once and the next one long after this test.
    let text = site("web", address, &[server], "check = { kind = \"http\", interval = \"1h\" }");
    let daemon = Daemon::start("no-probes", &text);
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    for round in 0..5 {
        let other = format!("{text}[[pool]]\nname = \"other-{round}\"\nbackends = []\n");
        assert!(daemon.reload(&other).contains(" node.reloaded "));
    }
    let target = format!("target=\"{server}\"");
    assert_eq!(daemon.metric("evenkeel_probes_total", &[&target, "result=\"passed\""]), 1.0);
}

#[test]
fn twenty_reloads_under_load_lose_no_request() {
    let (address, other) = (free_address(), free_address());
    let (first, second, third) = (backend(polite), backend(polite), backend(polite));
    let small = site("web", address, &[first, second], CHECK);
    let large =
        format!("{}{}", site("web", address, &[first, second, third], CHECK), site("other", other, &[third], CHECK));
    let daemon = Daemon::start("reloads", &small);
    daemon.wait_verdict("web", &first.to_string(), "healthy");
    let steady = Steady::start(address, "/", 10, 500);
    for round in 0..20 {
        // Traffic in between, or the reloads would all fall into one pause.
        let before = steady.so_far().good;
        until("traffic between two reloads", || (steady.so_far().good >= before + 50).then_some(()));
        let line = daemon.reload(if round % 2 == 0 { &large } else { &small });
        assert!(line.contains(" node.reloaded "), "{line}");
    }
    let tally = steady.stop();
    assert!(tally.losses.is_empty(), "{} of {}: {:#?}", tally.losses.len(), tally.good, tally.losses);
    assert!(tally.good >= 1000 && tally.refused == 0, "{tally:?}");
    let failed: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A backend whose answers to `/slow` wait until they are let go.
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn backend(asked: std::sync::mpsc::Sender<()>) -> (Gate, SocketAddr) {
        let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (held, asked) = (Arc::clone(&gate), Mutex::new(asked));
        let address = backend(move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                if head.starts_with("GET /slow ") {
                    let _ = asked.lock().expect("no thread panics with it").send(());
                    let mut open = held.0.lock().expect("no thread panics with it");
                    while !*open {
                        open = held.1.wait(open).expect("no thread panics with it");
                    }
                }
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").is_err() {
                    return;
                }
            }
        });
        (Gate(gate), address)
    }

    fn open(&self) {
        *self.0.0.lock().expect("no thread panics with it") = true;
        self.0.1.notify_all();
    }
}

fn slow_request(address: SocketAddr) -> std::thread::JoinHandle<Result<Answer, End>> {
    let mut wire = Wire::open(address);
    wire.send("GET /slow HTTP/1.1\r\nHost: e2e\r\n\r\n");
    std::thread::spawn(move || wire.answer())
}

#[test]
fn sigterm_answers_idle_connections_once_more_and_lets_running_requests_end() {
    let address = free_address();
    let (asked, heard) = channel();
    let (gate, server) = Gate::backend(asked);
    let mut daemon = Daemon::start("drain", &site("web", address, &[server], "check = \"off\""));
    let mut idle = Wire::open(address);
    idle.get("/");
    let slow = slow_request(address);
    heard.recv_timeout(PATIENCE).expect("the backend is asked");
    daemon.signal(Signal::TERM);
    daemon.wait_event(0, &[" node.draining "]);
    until("the listening sockets to close", || daemon.listening_inodes(address).is_empty().then_some(()));
    let last = idle.get("/last");
    assert_eq!((last.status, last.says_close()), (200, true), "{}", last.head);
    assert_eq!(idle.rest().1, End::Closed);
    gate.open();
    let answer = slow.join().expect("the client does not panic").expect("the running request is answered");
    assert_eq!((answer.status, answer.says_close()), (200, true), "{}", answer.head);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(daemon.log().iter().all(|line| line["cause"].is_null()), "{:#?}", daemon.log());
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let address = free_address();
    let (first, second) = (backend(polite), backend(polite));
    let mut daemon = Daemon::start("drain-load", &site("web", address, &[first, second], CHECK));
    daemon.wait_verdict("web", &first.to_string(), "healthy");
    let steady = Steady::start(address, "/", 10, 500);
    until("some traffic", || (steady.so_far().good > 300).then_some(()));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    let tally = steady.stop();
    // Refused connections say that the service has ended; whatever was accepted must have been answered.
    assert!(tally.losses.is_empty(), "{} of {}: {:#?}", tally.losses.len(), tally.good, tally.losses);
    let failed: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(daemon.log().len() as u64, tally.good, "a line for every request");
}

#[test]
fn the_drain_deadline_cuts_what_still_runs_and_says_why() {
    let (web, tcp) = (free_address(), free_address());
    let (asked, heard) = channel();
    let (gate, server) = Gate::backend(asked);
    let text = format!(
        "{}[[listener]]\nname = \"tcp\"\nlisten = \"{tcp}\"\nprotocol = \"tcp\"\npool = \"web\"\n",
        site("web", web, &[server], "check = \"off\"")
    );
    let setup = Setup { name: "deadline", node: "drain_timeout = \"300ms\"", body: &text, namespace: None };
    let mut daemon = Daemon::start_with(&setup);
    let slow = slow_request(web);
    let mut relayed = Wire::open(tcp);
    relayed.get("/");
    heard.recv_timeout(PATIENCE).expect("the backend is asked");
    daemon.signal(Signal::TERM);
    assert_eq!(slow.join().expect("the client does not panic").expect_err("nothing was answered"), End::Reset);
    assert_eq!(relayed.rest().1, End::Reset);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    gate.open();
    let log = daemon.log();
    let cut: BTreeSet<(&str, &str, &str)> = log
        .iter()
        .filter(|line| !line["cause"].is_null())
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap_or("none");
            (word("listener"), word("cause"), word("phase"))
        })
        .collect();
    let expected =
        BTreeSet::from([("web", "balancer_draining", "response_head"), ("tcp", "balancer_draining", "relay")]);
    assert_eq!(cut, expected, "{log:#?}");
}

#[test]
fn a_connection_that_waits_during_a_drain_ends_with_the_keep_alive_timeout() {
    let (address, server) = (free_address(), backend(polite));
    let text = site("web", address, &[server], "check = \"off\"").replace("\"60s\"", "\"300ms\"");
    let mut daemon = Daemon::start("drain-idle", &text);
    let mut idle = Wire::open(address);
    idle.get("/");
    daemon.signal(Signal::TERM);
    let begun = std::time::Instant::now();
    assert_eq!(idle.rest().1, End::Closed);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    // Far below the drain timeout of 30 s: nobody waited for it.
    assert!(begun.elapsed() < Duration::from_secs(20), "the drain took {:?}", begun.elapsed());
}
