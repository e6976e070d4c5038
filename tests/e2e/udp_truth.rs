//! A dead UDP service on a host whose ICMP budget is used up: found where clients are refused in the probe's place, and
//! marked where nobody is.
//!
//! Linux sends one refusal a second to each address. Whoever probes a busy host meets silence then, from a closed port as
//! from a quiet service, and a balancer that takes silence for health sends clients to a dead one. The kernel's own counters say in
//! each test that the budget was used up.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::daemon::{Daemon, Setup, until};
use crate::lab::{BACKENDS, Lab};

const LISTEN: &str = "127.0.0.1:5300";

/// A service that hears and says nothing, as many that speak only when there is something to say.
fn quiet_service(lab: &Lab) -> UdpSocket {
    lab.on_back(|| UdpSocket::bind((BACKENDS[0], 5300)).expect("nobody else has the port"))
}

fn pool(name: &str, closed_port: &str) -> String {
    format!(
        "[[pool]]\nname = \"{name}\"\nbackends = [\"{}:5300\"]\n[pool.check]\nkind = \"udp\"\ninterval = \"200ms\"\n\
         timeout = \"200ms\"\n{closed_port}\n",
        BACKENDS[0]
    )
}

fn body() -> String {
    format!(
        "[[listener]]\nname = \"udp\"\nlisten = \"{LISTEN}\"\nprotocol = \"udp\"\npool = \"measured\"\n\
         idle_timeout = \"5s\"\n{}{}",
        pool("measured", "closed_port = 1"),
        pool("unmeasured", ""),
    )
}

/// Runs `work` while `noise` is done again and again on the balancer's host.
fn during<T>(lab: &Lab, noise: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            lab.on_front(|| {
                while !over.load(Ordering::Relaxed) {
                    noise();
                }
            });
        });
        // When the work fails, too, or the noise would go on for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        making.join().expect("the noise ends in peace");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until the host of the backends has held refusals back, and gives how many so far.
fn wait_used_up(lab: &Lab, before: u64) -> u64 {
    until("the icmp budget is used up", || Some(lab.icmp_held_back()).filter(|held| *held > before + 50))
}

fn check(daemon: &Daemon, pool: &str) -> Value {
    daemon.backend(pool, &format!("{}:5300", BACKENDS[0]))["checks"][0].clone()
}

fn marked(daemon: &Daemon, pool: &str, word: &str) -> f64 {
    let (pool, word) = (format!("pool=\"{pool}\""), format!("silence=\"{word}\""));
    daemon.metric("evenkeel_backend_rests_on_silence", &[&pool, &word])
}

fn start(lab: &Lab, name: &str) -> Daemon {
    lab.ration_icmp();
    let body = body();
    let daemon =
        lab.on_front(|| Daemon::start_with(&Setup { name, node: "", body: &body, namespace: Some(&lab.front) }));
    let address = format!("{}:5300", BACKENDS[0]);
    lab.on_front(|| {
        daemon.wait_verdict("measured", &address, "healthy");
        daemon.wait_verdict("unmeasured", &address, "healthy");
        until("silence that is proved", || (check(&daemon, "measured")["silence"] == "trusted").then_some(()));
        assert_eq!(check(&daemon, "unmeasured")["silence"], "unmeasured");
        assert_eq!([marked(&daemon, "measured", "trusted"), marked(&daemon, "unmeasured", "unmeasured")], [1.0, 1.0]);
    });
    daemon
}

#[test]
fn a_dead_service_is_found_by_the_refusals_that_its_clients_take_from_the_probes() {
    let Some(lab) = Lab::build("udp truth: a dead service is found by what its clients meet") else { return };
    let service = quiet_service(&lab);
    let daemon = start(&lab, "udp-truth-clients");
    // Each datagram is a client of its own, and begins a session.
    let clients = || {
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        for _ in 0..20 {
            let _ = client.send_to(b"hello", LISTEN);
        }
    };
    let told = during(&lab, clients, || {
        drop(service);
        let before = lab.icmp_held_back();
        wait_used_up(&lab, before);
        lab.on_front(|| daemon.wait_event(0, &["backend.unhealthy", "measured"]))
    });
    assert!(told.contains("refused"), "{told}");
    let findings = lab.on_front(|| check(&daemon, "measured")["recent"].to_string());
    assert!(findings.contains("of clients were refused") || findings.contains("of a client was refused"), "{findings}");
}

#[test]
fn a_dead_service_that_nobody_can_hear_of_is_marked_and_found_once_the_budget_is_back() {
    let Some(lab) = Lab::build("udp truth: a dead service that nobody can hear of is marked") else { return };
    let service = quiet_service(&lab);
    let daemon = start(&lab, "udp-truth-mark");
    let address = format!("{}:5300", BACKENDS[0]);
    // Somebody else on the balancer's host, or behind its address: none of it passes through the balancer.
    let stranger = lab.on_front(|| UdpSocket::bind("10.98.0.1:0").expect("the address has free ports"));
    let noise = || {
        for _ in 0..50 {
            let _ = stranger.send_to(b"noise", (BACKENDS[0], 9));
        }
    };
    during(&lab, noise, || {
        let before = lab.icmp_held_back();
        wait_used_up(&lab, before);
        drop(service);
        lab.on_front(|| {
            let told = daemon.wait_event(0, &["backend.silence_untrusted", "measured"]);
            assert!(told.contains("stays healthy, and nobody can say whether it is"), "{told}");
            assert!(told.contains("closed port 1 was not refused either (it was "), "{told}");
            until("the mark", || (check(&daemon, "measured")["silence"] == "untrusted").then_some(()));
            assert_eq!(marked(&daemon, "measured", "untrusted"), 1.0);
            // What every balancer says that does not measure.
            assert_eq!(daemon.backend("unmeasured", &address)["verdict"], "healthy");
            assert_eq!(check(&daemon, "unmeasured")["silence"], "unmeasured");
        });
        let held_back = lab.icmp_held_back();
        assert!(held_back > before + 1000, "{held_back} after {before}: there was a budget left");
    });
    lab.on_front(|| {
        let told = daemon.wait_event(0, &["backend.unhealthy", "measured"]);
        assert!(told.contains("refused"), "{told}");
        daemon.wait_event(0, &["backend.silence_over", "measured"]);
        assert_eq!(marked(&daemon, "measured", "untrusted"), 0.0);
    });
}

#[test]
fn a_live_service_stays_healthy_through_a_storm_and_its_silence_is_proved_again_after_it() {
    let Some(lab) = Lab::build("udp truth: a live service stays healthy through a storm") else { return };
    let _service = quiet_service(&lab);
    let daemon = start(&lab, "udp-truth-live");
    let stranger = lab.on_front(|| UdpSocket::bind("10.98.0.1:0").expect("the address has free ports"));
    let noise = || {
        for _ in 0..50 {
            let _ = stranger.send_to(b"noise", (BACKENDS[0], 9));
        }
    };
    during(&lab, noise, || {
        lab.on_front(|| daemon.wait_event(0, &["backend.silence_untrusted", "measured"]));
    });
    lab.on_front(|| {
        daemon.wait_event(0, &["backend.silence_over", "measured"]);
        until("silence that is proved", || (check(&daemon, "measured")["silence"] == "trusted").then_some(()));
        let changes = daemon.events().into_iter().filter(|event| event.contains("backend.unhealthy")).count();
        assert_eq!(changes, 0, "{:#?}", daemon.events());
    });
}
