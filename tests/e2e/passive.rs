//! What traffic shows and probes do not: backends that are well by their check and fail their clients.
//!
//! Traffic is a loop of requests that the test makes itself, so what is counted is exact.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::backend::{backend, polite, read_head};
use crate::client::Wire;
use crate::daemon::{Daemon, free_address};

/// A front server with its page of health, and an application behind it that fails while `dead` holds.
fn application(dead: &Arc<AtomicBool>, asked: &Arc<AtomicU32>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let (dead, asked) = (Arc::clone(dead), Arc::clone(asked));
    move |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            let health = head.contains(" /health ");
            if !health {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            let answer: &[u8] = if health || !dead.load(Ordering::SeqCst) {
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            } else {
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn setup(listen: SocketAddr, backends: [SocketAddr; 2], passive: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\nprotocol = \"http\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nschedule = \"rr\"\nbackends = [\"{}\", \"{}\"]\n{passive}\n\
         check = {{ kind = \"http\", method = \"GET\", path = \"/health\", interval = \"50ms\" }}\n",
        backends[0], backends[1]
    )
}

fn errors(wire: &mut Wire, requests: usize) -> usize {
    (0..requests).filter(|_| wire.get("/").status >= 500).count()
}

#[test]
fn a_green_health_page_before_a_dead_application_is_seen_through() {
    let (dead, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let sick = backend(application(&dead, &asked));
    let well = backend(polite);
    let listen = free_address();
    let passive = "passive = { server_errors = 5, ejection_time = \"100ms\", ejection_max = \"100ms\" }";
    let daemon = Daemon::start("passive", &setup(listen, [sick, well], passive));
    daemon.wait_verdict("web", &sick.to_string(), "healthy");
    daemon.wait_verdict("web", &well.to_string(), "healthy");
    let mut wire = Wire::open(listen);
    let mut failed = 0;
    while failed < 5 {
        failed += errors(&mut wire, 1);
    }
    let told = daemon.wait_event(0, &["backend.ejected", &sick.to_string()]);
    assert!(told.contains("it answered 5xx (5 times in a row)"), "{told}");
    let back = daemon.wait_event(0, &["backend.ejection_over", &sick.to_string()]);
    assert!(back.contains("it gets new work again"), "{back}");
    // Its first failure after that is enough, for no success has ended the run.
    while errors(&mut wire, 1) == 0 {}
    daemon.wait_event(0, &["backend.ejected", "6 times in a row"]);
    // And once the application is back, it stays.
    dead.store(false, Ordering::SeqCst);
    let before = asked.load(Ordering::SeqCst);
    while asked.load(Ordering::SeqCst) < before + 20 {
        assert_eq!(errors(&mut wire, 1), 0);
    }
    assert_eq!(daemon.backend("web", &sick.to_string())["verdict"], "healthy", "its probes passed all the time");
    assert!(daemon.backend("web", &sick.to_string())["ejected_until"].is_null());
}

#[test]
fn an_ejected_backend_gets_no_request_and_shows_it_in_status_and_metrics() {
    let (dead, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let sick = backend(application(&dead, &asked));
    let well = backend(polite);
    let listen = free_address();
    let daemon = Daemon::start("passive_shown", &setup(listen, [sick, well], "passive = { server_errors = 3 }"));
    daemon.wait_verdict("web", &sick.to_string(), "healthy");
    daemon.wait_verdict("web", &well.to_string(), "healthy");
    let mut wire = Wire::open(listen);
    let mut failed = 0;
    while failed < 3 {
        failed += errors(&mut wire, 1);
    }
    daemon.wait_event(0, &["backend.ejected", &sick.to_string()]);
    let labels = [format!("backend=\"{sick}\"")];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    assert!(!daemon.backend("web", &sick.to_string())["ejected_until"].is_null());
    assert_eq!(daemon.metric("evenkeel_backend_ejected", &labels), 1.0);
    assert_eq!(daemon.metric("evenkeel_backend_effective_weight", &labels), 0.0);
    // The worker has the snapshot before the event is told.
    let before = asked.load(Ordering::SeqCst);
    assert_eq!(errors(&mut wire, 50), 0);
    assert_eq!(asked.load(Ordering::SeqCst), before);
}

#[test]
fn a_backend_that_fails_more_often_than_the_rest_is_ejected_by_its_rate() {
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    // Every second answer is an error, so that no run ever comes about.
    let sick = backend(move |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            let bad = !head.contains(" /health ") && counter.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            let answer: &[u8] = if bad {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let well = backend(polite);
    let listen = free_address();
    let passive = "passive = { failure_percent = 30, min_requests = 10, interval = \"200ms\" }";
    let daemon = Daemon::start("passive_rate", &setup(listen, [sick, well], passive));
    daemon.wait_verdict("web", &sick.to_string(), "healthy");
    daemon.wait_verdict("web", &well.to_string(), "healthy");
    let mut wire = Wire::open(listen);
    let ejected = || daemon.events().iter().any(|event| event.contains("backend.ejected"));
    while !ejected() {
        errors(&mut wire, 20);
    }
    let told = daemon.wait_event(0, &["backend.ejected", &sick.to_string()]);
    assert!(told.contains("% of its attempts failed, and 0 % of those at the others"), "{told}");
    assert_eq!(errors(&mut wire, 30), 0);
}
