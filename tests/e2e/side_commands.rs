//! Command checks: the program's word is the verdict, its output the evidence, and nothing of it outlives its time.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::backend::{backend, polite};
use crate::client::Wire;
use crate::daemon::{Daemon, Folder, Setup, free_address, until};

fn start(name: &str, listen: std::net::SocketAddr, backend: std::net::SocketAddr, check: &str) -> Daemon {
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{backend}\"]\n[pool.check]\nkind = \"command\"\n\
         interval = \"20ms\"\nhealthy_threshold = 1\nunhealthy_threshold = 2\n{check}\n"
    );
    Daemon::start_with(&Setup { name, node: "allow_commands = true", body: &body, namespace: None })
}

/// Waits until no process has this number.
fn is_gone(pid: &str) {
    until(&format!("the end of process {pid}"), || (!Path::new("/proc").join(pid).exists()).then_some(()));
}

#[test]
fn a_command_is_told_whom_to_look_at_and_its_status_is_the_verdict() {
    let folder = Folder::new("side_commands");
    let (status, listen, server) = (folder.0.join("status"), free_address(), backend(polite));
    fs::write(&status, "0").expect("the folder can be written");
    let script = format!(
        "echo \"$EVENKEEL_ADDRESS $EVENKEEL_PORT $1\"; echo \"\\t\\033[31mred\"; exit $(cat {})",
        status.display()
    );
    let check = format!("command = [\"/bin/sh\", \"-c\", '''{script}''', \"sh\", \"argument\"]");
    let daemon = start("side_commands", listen, server, &check);
    daemon.wait_verdict("web", &server.to_string(), "healthy");
    let told = format!("exit status 0, it said \"{} {} argument | \\\\u{{1b}}[31mred\"", server.ip(), server.port());
    let page = daemon.page("/status").1;
    assert!(page.contains(&told.replace('"', "\\\"")), "{told} is not in {page}");
    assert_eq!(Wire::open(listen).get("/").status, 200);
    fs::write(&status, "2").expect("the folder can be written");
    let event = daemon.wait_event(0, &["backend.unhealthy", "exit status 2, it said"]);
    assert!(event.contains("2 probes in a row failed"), "{event}");
    assert_eq!(Wire::open(listen).get("/").status, 502);
    fs::write(&status, "0").expect("the folder can be written");
    daemon.wait_verdict("web", &server.to_string(), "healthy");
}

#[test]
fn a_command_that_hangs_dies_with_its_children_at_the_timeout_and_at_the_end_of_the_node() {
    let folder = Folder::new("side_hangs");
    let (listen, server) = (free_address(), backend(polite));
    let pids = folder.0.join("pids");
    let script = format!("sleep 1000 & echo $$ $! >> {}; wait", pids.display());
    let check = format!("command = [\"/bin/sh\", \"-c\", '''{script}''']\ntimeout = \"300ms\"");
    let mut daemon = start("side_hangs", listen, server, &check);
    daemon.wait_event(0, &["backend.unhealthy", "timed out"]);
    let before: String = fs::read_to_string(&pids).expect("it ran");
    for pid in before.lines().take(2).flat_map(str::split_whitespace) {
        is_gone(pid);
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_exit().success());
    for pid in fs::read_to_string(&pids).expect("it ran").split_whitespace() {
        is_gone(pid);
    }
}

#[test]
fn a_command_that_is_not_there_is_said_so() {
    let (listen, server) = (free_address(), backend(polite));
    let daemon = start("side_missing", listen, server, "command = [\"/nonexistent/look\"]");
    daemon.wait_event(0, &["backend.unhealthy", "cannot be started: there is no such file"]);
}

#[test]
fn a_reload_that_takes_the_check_away_kills_the_command() {
    let folder = Folder::new("side_reload");
    let (listen, server) = (free_address(), backend(polite));
    let pids = folder.0.join("pids");
    let script = format!("echo $$ >> {}; exec sleep 1000", pids.display());
    let check = format!("command = [\"/bin/sh\", \"-c\", '''{script}''']\ntimeout = \"300s\"");
    let daemon = start("side_reload", listen, server, &check);
    let pid = until("the command", || fs::read_to_string(&pids).ok().filter(|text| text.ends_with('\n')));
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{server}\"]\ncheck = \"off\"\n"
    );
    let told = daemon.reload(&body);
    assert!(told.contains("node.reloaded"), "{told}");
    is_gone(pid.trim());
}
