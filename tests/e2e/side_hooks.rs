//! Hooks hear of every change of verdict, in order, and a receiver that is away for a moment misses none.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::backend::{backend, read_head};
use crate::daemon::{Daemon, Folder, Setup, free_address, until};

/// A backend that is well or not, as told.
fn moody(well: &Arc<AtomicBool>) -> SocketAddr {
    let well = Arc::clone(well);
    backend(move |mut stream: TcpStream| {
        while read_head(&mut stream).is_some() {
            let status = if well.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
            if stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn start(name: &str, server: SocketAddr, hook: &str) -> Daemon {
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\n[pool.check]\nkind = \"http\"\ninterval = \"20ms\"\n\
         healthy_threshold = 1\nunhealthy_threshold = 1\n",
        free_address()
    );
    let node = format!("allow_commands = true\n[[node.hook]]\n{hook}\n");
    Daemon::start_with(&Setup { name, node: &node, body: &body, namespace: None })
}

#[test]
fn a_receiver_that_fails_at_first_hears_of_everything_in_order() {
    let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let (told, asked) = (Arc::clone(&heard), AtomicU32::new(0));
    let receiver = backend(move |mut stream: TcpStream| {
        let mut bytes = Vec::new();
        let mut space = [0; 4096];
        let (head, body) = loop {
            let Ok(count @ 1..) = stream.read(&mut space) else { return };
            bytes.extend_from_slice(&space[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.expect("a POST has a length") {
                break (head.to_owned(), body.to_owned());
            }
        };
        // The first event is refused twice.
        if asked.fetch_add(1, Ordering::SeqCst) < 2 {
            let _ = stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let event = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"));
        told.lock().unwrap_or_else(PoisonError::into_inner).push((head, event));
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    });
    let well = Arc::new(AtomicBool::new(true));
    let server = moody(&well);
    let daemon = start("side_hooks", server, &format!("url = \"http://{receiver}/services/s3cret?x=1\""));
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    for turn in 0..3 {
        well.store(false, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "unhealthy");
        well.store(true, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "healthy");
        if turn == 0 {
            daemon.wait_event(0, &[" warn hook.failed ", &format!("http://{receiver}"), "status 500"]);
        }
    }
    let events = until("six events at the receiver", || {
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (heard.len() >= 6).then_some(heard)
    });
    let names: Vec<&str> = events.iter().map(|(_, event)| event["event"].as_str().expect("a name")).collect();
    // The first good verdict is no news.
    assert_eq!(names, ["backend.unhealthy", "backend.healthy"].repeat(3));
    let (head, first) = &events[0];
    assert!(head.starts_with("POST /services/s3cret?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(first["pool"], "web");
    assert_eq!(first["backend"], server.to_string());
    assert_eq!(first["findings"][0]["status"], 503, "{first}");
    daemon.wait_event(0, &[" info hook.recovered ", "nothing was lost"]);
    let told = daemon.events();
    assert_eq!(told.iter().filter(|line| line.contains(" hook.failed ")).count(), 1, "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("s3cret")), "{told:#?}");
}

#[test]
fn a_command_gets_the_event_on_its_input_and_what_it_is_about_in_its_environment() {
    let folder = Folder::new("side_hook_command");
    let file = folder.0.join("heard");
    let script = format!(
        "{{ echo \"$EVENKEEL_EVENT $EVENKEEL_POOL $EVENKEEL_ADDRESS $EVENKEEL_PORT\"; cat; }} >> {}",
        file.display()
    );
    let well = Arc::new(AtomicBool::new(true));
    let server = moody(&well);
    let hook = format!("command = [\"/bin/sh\", \"-c\", '''{script}''']\non = [\"unhealthy\"]");
    let daemon = start("side_hook_command", server, &hook);
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    for _ in 0..2 {
        well.store(false, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "unhealthy");
        well.store(true, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "healthy");
    }
    let text =
        until("two events in the file", || fs::read_to_string(&file).ok().filter(|text| text.lines().count() >= 4));
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks(2) {
        assert_eq!(pair[0], format!("backend.unhealthy web {} {}", server.ip(), server.port()));
        let event: Value = serde_json::from_str(pair[1]).unwrap_or_else(|error| panic!("{error} in {}", pair[1]));
        assert_eq!(event["event"], "backend.unhealthy");
    }
    assert_eq!(lines.len(), 4, "recoveries were not asked for: {text}");
}

#[test]
fn a_hook_that_hangs_holds_up_neither_verdicts_nor_the_end() {
    let well = Arc::new(AtomicBool::new(true));
    let server = moody(&well);
    let receiver = backend(crate::backend::hold);
    let hook = format!("url = \"http://{receiver}/\"\ntimeout = \"100s\"");
    let mut daemon = start("side_hook_hangs", server, &hook);
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    for _ in 0..3 {
        well.store(false, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "unhealthy");
        well.store(true, Ordering::SeqCst);
        daemon.wait_verdict("web", &server.to_string(), "healthy");
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait_exit().success());
}
