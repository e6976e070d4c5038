//! The state file: what a node knew of its backends outlives it, however it ended, and never stops the next one.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::backend::{backend, polite, read_head};
use crate::client::Wire;
use crate::daemon::{Daemon, Folder, Setup, free_address, until};

/// Fails its probes, or holds them for good once told so, and counts the requests of clients.
fn sick(requests: &Arc<AtomicU32>, hold_from: &Arc<AtomicU32>) -> SocketAddr {
    let (requests, hold_from) = (Arc::clone(requests), Arc::clone(hold_from));
    backend(move |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            if !head.contains(" /health ") {
                requests.fetch_add(1, Ordering::SeqCst);
            } else if hold_from.load(Ordering::SeqCst) > 0 {
                return crate::backend::hold(stream);
            }
            let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

fn start(name: &str, state: &Path, listen: SocketAddr, backends: [SocketAddr; 2]) -> Daemon {
    let [first, second] = backends;
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{first}\", \"{second}\"]\n\
         [pool.check]\nkind = \"http\"\npath = \"/health\"\nmethod = \"GET\"\ninterval = \"50ms\"\ntimeout = \"60s\"\n"
    );
    let node = format!("state_file = \"{}\"", state.display());
    Daemon::start_with(&Setup { name, node: &node, body: &body, namespace: None })
}

fn restarted(name: &str, end: impl Fn(&mut Daemon, &Path)) {
    let folder = Folder::new(name);
    let state = folder.0.join("state.json");
    let (requests, hold_from) = (Arc::default(), Arc::default());
    let (sick, well, listen) = (sick(&requests, &hold_from), backend(polite), free_address());
    let mut daemon = start(name, &state, listen, [sick, well]);
    daemon.wait_verdict("web", &sick.to_string(), "unhealthy");
    daemon.wait_verdict("web", &well.to_string(), "healthy");
    end(&mut daemon, &state);
    drop(daemon);
    requests.store(0, Ordering::SeqCst);
    // No probe of the next node ends, so that all it knows is what it was left.
    hold_from.store(1, Ordering::SeqCst);
    let daemon = start(name, &state, listen, [sick, well]);
    for _ in 0..20 {
        assert_eq!(Wire::open(listen).get("/").status, 200);
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0, "requests to a backend known to be unhealthy");
    assert_eq!(daemon.backend("web", &sick.to_string())["verdict"], "unhealthy");
    daemon.wait_event(0, &[" info state.recalled ", "2 backends"]);
}

#[test]
fn an_unhealthy_backend_gets_no_request_after_a_kill_and_a_restart() {
    restarted("side_killed", |daemon, state| {
        until("the state file to know of it", || {
            fs::read_to_string(state).ok().filter(|text| text.contains("\"unhealthy\"") && text.contains("\"healthy\""))
        });
        daemon.signal(Signal::KILL);
        assert!(!daemon.wait_exit().success());
    });
}

#[test]
fn what_was_learnt_last_is_written_at_the_end() {
    restarted("side_ended", |daemon, state| {
        // Written or not so far, the end does not depend on it.
        let _ = fs::remove_file(state);
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_exit().success());
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(state).expect("it was written at the end"));
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn a_state_file_that_is_of_no_use_never_stops_a_start() {
    let folder = Folder::new("side_useless");
    let table = [
        ("version", "{\"evenkeel_state\":99,\"backends\":[]}", "form 99 of another version", true),
        ("broken", "{\"evenkeel_state\":1,\"written_unix_ms\":", "it is broken", true),
        ("foreign", "root:x:0:0:root:/root:/bin/bash\n", "evenkeel did not write it", false),
    ];
    for (name, text, words, is_ours) in table {
        let state = folder.0.join(name);
        fs::write(&state, text).expect("the folder can be written");
        let listen = free_address();
        let mut daemon = start(&format!("side_{name}"), &state, listen, [backend(polite), backend(polite)]);
        daemon.wait_event(0, &[" warn state.ignored ", words]);
        assert_eq!(Wire::open(listen).get("/").status, 200);
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_exit().success());
        let now = fs::read_to_string(&state).expect("a file is there");
        if is_ours {
            let kept = fs::read_to_string(folder.0.join(format!("{name}.broken"))).expect("it was kept aside");
            assert_eq!(kept, text);
            assert!(now.starts_with("{\"evenkeel_state\":1,"), "{now}");
        } else {
            assert_eq!(now, text, "somebody else's file");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_told_of_and_the_node_serves() {
    let listen = free_address();
    let mut daemon =
        start("side_read_only", Path::new("/proc/evenkeel-state.json"), listen, [backend(polite), backend(polite)]);
    assert_eq!(Wire::open(listen).get("/").status, 200);
    daemon.wait_event(0, &[" warn state.failed ", "/proc/evenkeel-state.json"]);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit().success());
}
