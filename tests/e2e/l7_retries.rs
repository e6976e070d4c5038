//! What a failing backend costs the clients of the others: some time, and no request that may be asked twice.
//!
//! Real faults behind a pool with default settings, except that its check is quicker: what is waited for is the verdict,
//! and the default check takes nineteen seconds to see that a backend is silent. And the other side of it: what may not be
//! asked twice is counted at the backends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::{backend, hold, polite, read_head, reset};
use crate::client::Steady;
use crate::daemon::{Daemon, Folder, Setup, free_address, has, skipped, until};
use crate::faults::nginx;
use crate::l7_speak::{Forge, Front, NAME, Site, Talk};
use crate::lab::{BACKENDS, Lab};

const PER_SECOND: u32 = 500;

#[test]
fn a_backend_that_dies_hangs_or_is_cut_off_costs_no_get() {
    let test = "a_backend_that_dies_hangs_or_is_cut_off_costs_no_get";
    if !has("nginx") {
        skipped(test, "nginx");
        return;
    }
    let Some(lab) = Lab::build(test) else { return };
    let folder = Folder::new("retries");
    let mut servers: Vec<_> = BACKENDS.iter().map(|address| nginx(&lab, &folder.0, address)).collect();
    let listed = BACKENDS.map(|address| format!("\"{address}:8080\"")).join(", ");
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"10.98.0.1:80\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [{listed}]\n\
         check = {{ kind = \"http\", path = \"/health\", interval = \"500ms\", timeout = \"1s\" }}\n"
    );
    lab.on_front(|| {
        let setup = Setup { name: "retries", node: "", body: &body, namespace: Some(&lab.front) };
        let daemon = Daemon::start_with(&setup);
        for address in BACKENDS {
            daemon.wait_verdict("web", &format!("{address}:8080"), "healthy");
        }
        let address: SocketAddr = "10.98.0.1:80".parse().expect("an address");
        let clients = Steady::start(address, "/", 50, PER_SECOND);
        // Until so many more requests were answered.
        let served = |more: u64| {
            let goal = clients.so_far().good + more;
            until("requests to be answered", || (clients.so_far().good >= goal).then_some(()));
        };
        for (victim, fault) in ["kill -9", "SIGSTOP", "nft drop"].into_iter().enumerate() {
            let name = format!("{}:8080", BACKENDS[victim]);
            served(u64::from(PER_SECOND) / 2);
            let begun = Instant::now();
            match fault {
                "kill -9" => servers[victim].signal(Signal::KILL),
                "SIGSTOP" => servers[victim].signal(Signal::STOP),
                _ => lab.firewall(&format!("ip daddr {} drop", BACKENDS[victim])),
            }
            daemon.wait_verdict("web", &name, "unhealthy");
            let took = begun.elapsed();
            served(u64::from(PER_SECOND) / 2);
            match fault {
                "kill -9" => servers[victim] = nginx(&lab, &folder.0, BACKENDS[victim]),
                "SIGSTOP" => servers[victim].signal(Signal::CONT),
                _ => lab.open_firewall(),
            }
            daemon.wait_verdict("web", &name, "healthy");
            let lost = clients.so_far().losses;
            eprintln!("{fault}: unhealthy after {took:?}, {} answered so far, lost {lost:?}", clients.so_far().good);
            assert!(lost.is_empty(), "{fault}: {lost:#?}");
        }
        let tally = clients.stop();
        assert!(tally.losses.is_empty() && tally.refused == 0, "{tally:#?}");
        let log = daemon.log();
        let failed: Vec<_> = log.iter().filter(|line| !line["cause"].is_null()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        // The faults were met: somebody was asked again.
        let again = log.iter().filter(|line| line["attempts"].as_array().is_some_and(|tries| tries.len() > 1)).count();
        assert!(again > 0, "of {} requests none met a fault", log.len());
    });
}

/// Counts what it is asked, and behaves as the target wants it to.
fn counting(counts: &Arc<Mutex<BTreeMap<String, u32>>>) -> SocketAddr {
    let counts = Arc::clone(counts);
    backend(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let mut words = head.split(' ');
            let asked = format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let times = {
                let mut counts = counts.lock().expect("no backend panics with it");
                let times = counts.entry(asked.clone()).or_default();
                *times += 1;
                *times
            };
            // Only whoever is asked first fails.
            if times == 1 && asked.contains("/reset") {
                reset(&stream);
                return;
            }
            if times == 1 && asked.contains("/close") {
                return;
            }
            if times == 1 && asked.contains("/silent") {
                hold(stream);
                return;
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").is_err() {
                return;
            }
        }
    })
}

#[test]
fn what_may_not_be_asked_twice_never_is() {
    let forge = Forge::new("once");
    let site = Site { plain: free_address(), tls: free_address() };
    let counts = Arc::default();
    let (one, two) = (counting(&counts), counting(&counts));
    let body = forge.listeners("web", site, &forge.issue("listener", &[NAME]), "pool = \"web\"")
        + &format!(
            "[[pool]]\nname = \"web\"\nbackends = [\"{one}\", \"{two}\"]\ncheck = \"off\"\nretry_budget = 100\n\
             try_timeout = \"100ms\"\nhedge_after = \"50ms\"\nresponse_timeout = \"400ms\"\n"
        );
    let daemon = Daemon::start("once", &body);
    let (post, get, put) = ("POST", "GET", "PUT");
    // Method, how the first backend fails, whether the client gets an answer all the same.
    let table = [
        (post, "fine", 200, 1),
        (post, "reset", 502, 1),
        (post, "close", 502, 1),
        (post, "silent", 504, 1),
        (get, "reset", 200, 2),
        (get, "close", 200, 2),
        (get, "silent", 200, 2),
        (put, "reset", 200, 2),
        (put, "silent", 200, 2),
    ];
    for front in Front::ALL {
        let mut talk = Talk::open(front, site, &forge);
        for turn in 0..3 {
            for (method, fault, status, times) in table {
                let target = format!("/{fault}-{turn}-{method}-{}", front.word());
                talk.send(format!("{method} {target} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n"));
                let answer = talk.answer().unwrap_or_else(|end| panic!("{target}: {end:?}"));
                assert_eq!(answer.status, status, "{target}: {}", answer.head);
                let asked = counts.lock().expect("no backend panics with it")[&format!("{method} {target}")];
                assert_eq!(asked, times, "{target}: how often backends were asked");
                if answer.says_close() {
                    talk = Talk::open(front, site, &forge);
                }
            }
        }
    }
    let posts = counts.lock().expect("no backend panics with it");
    assert!(posts.iter().filter(|(asked, _)| asked.starts_with("POST")).all(|(_, times)| *times == 1), "{posts:#?}");
    drop(posts);
    let causes = ["backend_reset_before_response", "backend_closed_before_response", "backend_response_timeout"];
    for cause in causes {
        let failed = daemon.log().into_iter().filter(|line| line["cause"] == cause).count();
        assert_eq!(failed, 12, "{cause}: only POSTs fail, three in each way");
    }
}

#[test]
fn a_slow_backend_is_asked_beside_another_and_a_silent_one_only_for_its_try() {
    let forge = Forge::new("hedges");
    let (hedged, tried) =
        (Site { plain: free_address(), tls: free_address() }, Site { plain: free_address(), tls: free_address() });
    // Ends with the test.
    let (keep, ends) = channel::<()>();
    let ends = Mutex::new(ends);
    let slow = backend(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let waited = ends.lock().expect("no backend panics with it").recv_timeout(Duration::from_secs(2));
            if waited != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nslow\n");
        }
    });
    let silent = backend(|mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
    let quick = backend(polite);
    let certificate = forge.issue("listener", &[NAME]);
    let body = forge.listeners("hedged", hedged, &certificate, "pool = \"hedged\"")
        + &forge.listeners("tried", tried, &certificate, "pool = \"tried\"")
        + &format!(
            "[[pool]]\nname = \"hedged\"\nbackends = [\"{slow}\", \"{quick}\"]\ncheck = \"off\"\n\
             hedge_after = \"50ms\"\nretry_budget = 100\n\
             [[pool]]\nname = \"tried\"\nbackends = [\"{silent}\", \"{quick}\"]\ncheck = \"off\"\n\
             try_timeout = \"100ms\"\nretry_budget = 100\n"
        );
    let daemon = Daemon::start("hedges", &body);
    for (name, site, bound) in
        [("hedged", hedged, Duration::from_millis(1500)), ("tried", tried, Duration::from_secs(20))]
    {
        for front in Front::ALL {
            let mut talk = Talk::open(front, site, &forge);
            for _ in 0..4 {
                let begun = Instant::now();
                let answer = talk.get("/", "");
                assert_eq!((answer.status, &answer.body[..]), (200, &b"ok\n"[..]), "{name}: {}", answer.head);
                // The slow one takes two seconds and the silent one for ever; on an idle machine this takes what is
                // configured and a few milliseconds.
                assert!(begun.elapsed() < bound, "{name} over {}: {:?}", front.word(), begun.elapsed());
            }
        }
        let mut lines = until("a line for each request", || {
            let lines: Vec<_> = daemon.log().into_iter().filter(|line| line["pool"] == name).collect();
            (lines.len() == 4 * Front::ALL.len()).then_some(lines)
        });
        lines.retain(|line| line["attempts"].is_array());
        assert!(!lines.is_empty(), "{name}: nobody met the slow backend");
        // One that would have answered has done nothing wrong; one whose time was over has.
        let expected = if name == "hedged" { Value::Null } else { "backend_response_timeout".into() };
        assert!(lines.iter().all(|line| line["attempts"][0]["cause"] == expected), "{lines:#?}");
        let held_against = |backend| {
            let labels = [format!("pool=\"{name}\""), format!("backend=\"{backend}\"")];
            let labels: Vec<&str> =
                labels.iter().map(String::as_str).chain(["cause=\"backend_response_timeout\""]).collect();
            daemon.metric("evenkeel_backend_failures_total", &labels)
        };
        if name == "hedged" {
            assert_eq!(held_against(slow), 0.0);
        } else {
            assert_eq!(held_against(silent), lines.len() as f64);
        }
        let took: Vec<f64> = lines.iter().filter_map(|line| line["duration_ms"].as_f64()).collect();
        eprintln!("{name}: {took:?} ms");
        let configured = if name == "hedged" { 50.0 } else { 100.0 };
        assert!(took.iter().all(|took| *took >= configured), "{lines:#?}");
    }
    drop(keep);
}
