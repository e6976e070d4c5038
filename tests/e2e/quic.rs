//! QUIC through a udp listener with `schedule = "quic-cid"`, as a real client and real servers speak it: aioquic.
//!
//! A QUIC connection outlives the address of its client. What is asked here is whether a client that comes from elsewhere still
//! talks to the server that knows it, which says its name in every answer; any other server would stay silent. The servers
//! make connection ids that carry a server id where the config gives them one, and random ones otherwise.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::daemon::{Daemon, free_address, has, skipped};
use crate::tools::{Authority, Key, Pair};

const SERVERS: [(&str, &str); 3] = [("one", "0a01"), ("two", "0a02"), ("three", "0a03")];

/// By chance alone all of twelve would stay with one of three servers once in half a million runs.
const CLIENTS: usize = 12;

/// A Python that has aioquic: the distribution's where it packs it, else the one that `./test` makes.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python3");
    [PathBuf::from("/usr/bin/python3"), made].into_iter().find(|python| {
        let import = Command::new(python).args(["-c", "import aioquic"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    })
}

/// One run of `quic_peer.py`. It ends with its input, so it cannot outlive the test.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, arguments: &[&str]) -> Peer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/python/quic_peer.py");
        let mut command = Command::new(python);
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python was found before");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Peer { input: child.stdin.take(), output, child }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("Python writes text");
        assert!(!line.is_empty(), "the peer has ended; what it complained of is above");
        line
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three servers; with ids, they and the config know them.
struct Site {
    python: PathBuf,
    authority: Authority,
    listen: SocketAddr,
    servers: Vec<(SocketAddr, Peer)>,
    with_ids: bool,
}

impl Site {
    fn new(test: &str, with_ids: bool) -> Option<Site> {
        let Some(python) = python().filter(|_| has("openssl")) else {
            skipped(test, "Python's aioquic, and openssl");
            return None;
        };
        let authority = Authority::new(test);
        let Pair { certificate, key } = authority.issue("localhost", Key::Ecdsa, &["localhost"]);
        let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
        let serve = |(name, id): &(&str, &str)| {
            let id = if with_ids { id } else { "" };
            let mut peer = Peer::start(&python, &["serve", name, &certificate, &key, id]);
            let port: u16 = peer.line().trim().parse().expect("it prints its port");
            (SocketAddr::from(([127, 0, 0, 1], port)), peer)
        };
        let servers = SERVERS.iter().map(serve).collect();
        Some(Site { python, authority, listen: free_address(), servers, with_ids })
    }

    /// The weights are those of the servers.
    fn config(&self, weights: [u32; 3]) -> String {
        let backend = |at: usize| {
            let (address, id, weight) = (self.servers[at].0, SERVERS[at].1, weights[at]);
            let id = if self.with_ids { format!(", server_id = \"{id}\"") } else { String::new() };
            format!("{{ address = \"{address}\", weight = {weight}{id} }}")
        };
        let backends: Vec<String> = (0..weights.len()).map(backend).collect();
        format!(
            "[[listener]]\nname = \"quic\"\nlisten = \"{}\"\nprotocol = \"udp\"\npool = \"quic\"\n\
             [[pool]]\nname = \"quic\"\nschedule = \"quic-cid\"\nbackends = [{}]\ncheck = \"off\"\n",
            self.listen,
            backends.join(", ")
        )
    }

    /// Each test's groups come from addresses of their own: sessions that are not over yet would lead to their backends.
    fn clients(&self, from: &str) -> Clients {
        let (host, port) = (self.listen.ip().to_string(), self.listen.port().to_string());
        let (ca, count) = (self.authority.file(), CLIENTS.to_string());
        Clients(Peer::start(&self.python, &["client", &host, &port, &ca.to_string_lossy(), &count, from]))
    }
}

struct Clients(Peer);

impl Clients {
    /// The name that each of them heard; `None` for those that heard nothing.
    fn told(&mut self, command: &str) -> Vec<Option<String>> {
        let input = self.0.input.as_mut().expect("taken by drop alone");
        writeln!(input, "{command}").expect("the client reads commands");
        let line = self.0.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Where they are at first.
    fn homes(&mut self) -> Vec<Option<String>> {
        let homes = self.told("ask");
        let used: BTreeSet<&String> = homes.iter().flatten().collect();
        assert!(!homes.contains(&None) && used.len() > 1, "twelve random ids are at one of three servers: {homes:?}");
        homes
    }
}

#[test]
fn a_quic_client_whose_address_changes_stays_with_its_server() {
    let Some(site) = Site::new("quic-rebinding", false) else { return };
    let daemon = Daemon::start("quic-rebinding", &site.config([100, 100, 100]));
    let mut clients = site.clients("127.0.0.1");
    let homes = clients.homes();
    for turn in 0..3 {
        assert_eq!(clients.told("rebind"), homes, "after {} changes", turn + 1);
    }
    // Nor when a client gets the address of another, whose session leads to that one's server.
    assert_eq!(clients.told("rotate"), homes);
    // Nor when one server takes no new connections any more.
    assert!(daemon.reload(&site.config([0, 100, 100])).contains("node.reloaded"));
    assert_eq!(clients.told("rebind"), homes);
    let mut newcomers = site.clients("127.0.0.2");
    assert!(!newcomers.homes().contains(&Some("one".to_owned())));
}

#[test]
fn a_quic_client_that_takes_another_connection_id_is_led_by_the_server_id_in_it() {
    let Some(site) = Site::new("quic-migration", true) else { return };
    let daemon = Daemon::start("quic-migration", &site.config([100, 100, 100]));
    let mut clients = site.clients("127.0.0.1");
    let homes = clients.homes();
    for command in ["move", "rebind", "move"] {
        assert_eq!(clients.told(command), homes, "{command}");
    }
    // A balancer that knows nothing of them, as another node of the cluster does.
    drop(daemon);
    let daemon = Daemon::start("quic-migration", &site.config([100, 100, 100]));
    for command in ["rebind", "move"] {
        assert_eq!(clients.told(command), homes, "{command} after the restart");
    }
    assert!(daemon.reload(&site.config([0, 100, 100])).contains("node.reloaded"));
    assert_eq!(clients.told("move"), homes);
}
