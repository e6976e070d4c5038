//! What changes a node besides an operator at a terminal: files that are watched, logs that are rotated, systemd, a balancer in front.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::backend::{backend, polite};
use crate::client::{Steady, Wire};
use crate::daemon::{BINARY, Daemon, Folder, PATIENCE, Setup, free_address, has, skipped, until};
use crate::l7_speak::{Forge, NAME};

fn site(address: impl std::fmt::Display) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\nprotocol = \"http\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{}\"]\ncheck = \"off\"\n",
        backend(polite)
    )
}

/// A program that starts the real one in other circumstances.
fn wrapped(folder: &Folder, lines: &str) -> PathBuf {
    let path = folder.0.join("start");
    fs::write(&path, format!("#!/bin/sh\n{lines} {BINARY} \"$@\"\n")).expect("the folder can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn reloaded(daemon: &Daemon, from: usize) -> String {
    daemon.wait_event(from, &["by node.watch"])
}

#[test]
fn a_watched_config_is_taken_however_it_is_written_and_a_bad_one_is_told() {
    let (address, more) = (free_address(), free_address());
    let body = site(address);
    let setup = Setup { name: "watch", node: "watch = true", body: &body, namespace: None };
    let daemon = Daemon::start_with(&setup);
    let config = daemon.config();
    let first = fs::read_to_string(&config).expect("it was written");
    let other =
        format!("{first}[[listener]]\nname = \"more\"\nlisten = \"{more}\"\nprotocol = \"http\"\npool = \"web\"\n");
    let beside = config.with_extension("new");

    // In place, as a shell does; by a rename, as editors do.
    fs::write(&config, &other).expect("it can be written");
    reloaded(&daemon, 0);
    assert_eq!(Wire::open(more).get("/").status, 200);
    let from = daemon.events().len();
    fs::write(&beside, &first).and_then(|()| fs::rename(&beside, &config)).expect("it can be written");
    reloaded(&daemon, from);

    // One with an error is told once, and the next good one is taken.
    let from = daemon.events().len();
    fs::write(&config, "[[listener]\n").expect("it can be written");
    daemon.wait_event(from, &[" warn plan.refused "]);
    assert_eq!(Wire::open(address).get("/").status, 200);
    let from = daemon.events().len();
    fs::write(&config, &other).expect("it can be written");
    reloaded(&daemon, from);
    assert_eq!(Wire::open(more).get("/").status, 200);
    // A signal still counts, and what was read by it is not read again.
    let from = daemon.events().len();
    fs::write(&config, &first).expect("it can be written");
    daemon.signal(Signal::HUP);
    daemon.wait_event(from, &["node.reloaded", "by SIGHUP"]);
    fs::write(&config, &other).expect("it can be written");
    reloaded(&daemon, from);
    let by_watch = daemon.events().iter().filter(|line| line.contains("by node.watch")).count();
    assert_eq!(by_watch, 4, "{:#?}", daemon.events());
}

#[test]
fn a_watched_certificate_is_renewed_by_a_swap_of_links_as_kubernetes_does_it() {
    let forge = Forge::new("watch_links");
    let address = free_address();
    let (old, new) = (forge.issue("old", &[NAME]), forge.issue("new", &[NAME]));
    let mount = Folder::new("watch_links_mount");
    let put = |version: &str, issued: &crate::l7_speak::Issued| {
        let folder = mount.0.join(version);
        fs::create_dir(&folder).expect("the folder can be written");
        fs::copy(&issued.certificate, folder.join("tls.crt")).expect("the folder can be written");
        fs::copy(&issued.key, folder.join("tls.key")).expect("the folder can be written");
    };
    put("..first", &old);
    symlink("..first", mount.0.join("..data")).expect("the folder can be written");
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), mount.0.join(file)).expect("the folder can be written");
    }
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{address}\"\nprotocol = \"https\"\npool = \"web\"\n\
         [[listener.certificate]]\ncertificate = \"{0}/tls.crt\"\nkey = \"{0}/tls.key\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"{1}\"]\ncheck = \"off\"\n",
        mount.0.display(),
        backend(polite)
    );
    let daemon = Daemon::start_with(&Setup { name: "watch_links", node: "watch = true", body: &body, namespace: None });
    assert_eq!(forge.shown(address, NAME).expect("a handshake"), old.der());
    put("..second", &new);
    symlink("..second", mount.0.join("..data_tmp")).expect("the folder can be written");
    fs::rename(mount.0.join("..data_tmp"), mount.0.join("..data")).expect("the folder can be written");
    reloaded(&daemon, 0);
    assert_eq!(forge.shown(address, NAME).expect("a handshake"), new.der());
    // And once more, since everything that is watched is another folder now.
    let from = daemon.events().len();
    put("..third", &old);
    symlink("..third", mount.0.join("..data_tmp")).expect("the folder can be written");
    fs::rename(mount.0.join("..data_tmp"), mount.0.join("..data")).expect("the folder can be written");
    reloaded(&daemon, from);
    assert_eq!(forge.shown(address, NAME).expect("a handshake"), old.der());
}

#[test]
fn no_line_is_lost_when_the_access_log_is_renamed_and_reopened_under_load() {
    const ROTATIONS: usize = 10;
    let address = free_address();
    let body = site(address);
    let mut daemon = Daemon::start("rotate", &body);
    let log = daemon.config().with_file_name("access.log");
    let rotated = |number: usize| log.with_file_name(format!("access.log.{number}"));
    let steady = Steady::start(address, "/", 8, 400);
    for number in 0..ROTATIONS {
        let before = steady.so_far().good;
        until("traffic between two rotations", || (steady.so_far().good >= before + 40).then_some(()));
        // Workers hand lines over some times a second.
        until("lines in the log", || fs::metadata(&log).is_ok_and(|file| file.len() > 0).then_some(()));
        let from = daemon.events().len();
        fs::rename(&log, rotated(number)).expect("the folder is ours");
        daemon.signal(Signal::USR1);
        daemon.wait_event(from, &["node.log_reopened"]);
    }
    let tally = steady.stop();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(tally.losses.is_empty(), "{tally:?}");
    let lines = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends in mid-line", path.display());
        text.lines().count() as u64
    };
    let files: Vec<PathBuf> = (0..ROTATIONS).map(rotated).chain([log.clone()]).collect();
    assert_eq!(files.iter().map(|file| lines(file)).sum::<u64>(), tally.good);
    assert!(files[..ROTATIONS].iter().all(|file| lines(file) > 0), "a rotation that changed nothing proves nothing");
}

#[test]
fn a_node_that_is_told_to_stop_says_so_before_it_stops() {
    let address = free_address();
    let body = site(address);
    let setup = Setup { name: "delay", node: "shutdown_delay = \"5m\"", body: &body, namespace: None };
    let mut daemon = Daemon::start_with(&setup);
    assert_eq!(daemon.page("/ready").0, 200);
    daemon.signal(Signal::TERM);
    daemon.wait_event(0, &["node.stopping"]);
    let (status, text) = daemon.page("/ready");
    assert!(status == 503 && text.contains("\"stopping\":true"), "{status} {text}");
    let mut wire = Wire::open(address);
    let answer = wire.get("/");
    assert!(answer.status == 200 && !answer.says_close(), "it serves as before: {}", answer.head);
    daemon.signal(Signal::TERM);
    daemon.wait_event(0, &["node.draining"]);
    assert!(wire.get("/").says_close());
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// What systemd would have heard.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new(folder: &Folder) -> Systemd {
        let path = folder.0.join("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is short enough");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        Systemd { socket, path }
    }

    /// The next message that is no sign of life.
    fn hear(&self) -> String {
        let mut space = [0; 4096];
        loop {
            let count = self.socket.recv(&mut space).expect("the daemon says something");
            let text = String::from_utf8_lossy(&space[..count]).into_owned();
            if !text.starts_with("WATCHDOG=1") {
                return text;
            }
        }
    }

    fn hear_life(&self) {
        let mut space = [0; 4096];
        until("a sign of life", || {
            let count = self.socket.recv(&mut space).expect("the daemon says something");
            space[..count].starts_with(b"WATCHDOG=1").then_some(())
        });
    }
}

#[test]
fn systemd_hears_of_the_start_of_reloads_of_who_is_in_charge_and_of_the_end() {
    let folder = Folder::new("notify");
    let systemd = Systemd::new(&folder);
    let start =
        wrapped(&folder, &format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=200000\nexec", systemd.path.display()));
    let body = site(free_address());
    let setup = Setup { name: "notify", node: "", body: &body, namespace: None };
    let mut daemon = Daemon::start_as(&setup, &start);
    assert!(systemd.hear().starts_with("READY=1\n"));
    systemd.hear_life();

    assert!(daemon.reload(&body).contains("node.reloaded"));
    let reloading = systemd.hear();
    let micros =
        reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|text| text.trim().parse::<u64>().ok());
    assert!(micros.is_some_and(|micros| micros > 0), "{reloading}");
    assert!(systemd.hear().starts_with("READY=1\n"));
    // A reload that is refused has an end too.
    assert!(daemon.reload("[[listener]").contains("plan.refused"));
    assert!(systemd.hear().starts_with("RELOADING=1\n"));
    let refused = systemd.hear();
    assert!(refused.starts_with("READY=1\nSTATUS=") && refused.contains("refused"), "{refused}");

    fs::write(daemon.config(), fs::read_to_string(daemon.config()).expect("ours").replace("[[listener]", &body))
        .expect("ours");
    daemon.upgrade().expect("the same binary");
    assert_eq!(systemd.hear(), format!("MAINPID={}\n", daemon.pid()));
    assert!(systemd.hear().starts_with("READY=1\n"));
    systemd.hear_life();
    daemon.signal(Signal::TERM);
    assert!(systemd.hear().starts_with("STOPPING=1\n"));
}

#[test]
fn sockets_of_systemd_are_served_by_the_listeners_that_have_their_addresses() {
    if !has("systemd-socket-activate") {
        return skipped("socket activation", "systemd-socket-activate");
    }
    let folder = Folder::new("activated");
    // Ports that the kernel has just chosen and nobody has bound since.
    let (address, other) = (free_address(), free_address());
    let start = wrapped(&folder, &format!("exec systemd-socket-activate -l {address} -l {other}"));
    let body = site(address);
    let setup = Setup { name: "activated", node: "", body: &body, namespace: None };
    // The first client is who the program is started for.
    let first = std::thread::spawn(move || {
        let mut wire = until("systemd's socket", || Wire::try_open(address).ok());
        wire.get("/first").status
    });
    let mut daemon = Daemon::start_as(&setup, &start);
    assert_eq!(first.join().expect("the client does not panic"), 200);
    daemon.wait_event(0, &["node.socket_unused", &other.to_string()]);
    assert_eq!(daemon.listening_inodes(address).len(), 1, "systemd's socket, and none beside it");
    let mut kept = Wire::open(address);
    for _ in 0..20 {
        assert_eq!(Wire::open(address).get("/").status, 200);
    }
    // It passes on to the next process like any other.
    daemon.upgrade().expect("the same binary");
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(Wire::open(address).get("/").status, 200);
}

#[test]
fn an_address_that_somebody_else_has_is_not_taken_by_a_new_process_either() {
    let taken = TcpListener::bind(free_address()).expect("it was free");
    let body = site(taken.local_addr().expect("it is bound"));
    let folder = Folder::new("taken");
    let config = folder.0.join("evenkeel.toml");
    fs::write(&config, format!("[admin]\nlisten = \"off\"\n{body}")).expect("the folder can be written");
    // The word alone makes nobody a successor: who says it has to be the parent.
    let mut command = Command::new(BINARY);
    command.arg("run").arg("--config").arg(&config).env("EVENKEEL_TAKES_OVER_FROM", "1").stdin(Stdio::null());
    let said = command.output().expect("it was built for this test");
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("in use"), "{said:?}");
}
