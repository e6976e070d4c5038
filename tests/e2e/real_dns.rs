//! dnsmasq behind a udp listener under dnsperf: nothing is lost in quiet, and what a killed backend loses is told.
//!
//! dnsperf counts what it asked and what was answered, the access log counts what came and what went for each
//! session, and both have to tell the same story.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, Folder, free_address, until};
use crate::tools::{have_all, run};

/// A query for the address of `a.bench.test`, as it goes over the wire.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x05bench\x04test\x00\x00\x01\x00\x01";

/// Queries that dnsperf leaves unanswered before it waits.
const OUTSTANDING: u64 = 64;

pub struct Dnsmasq {
    child: Child,
    pub address: SocketAddr,
}

impl Dnsmasq {
    /// Knows every name under bench.test by itself.
    pub fn start() -> Dnsmasq {
        let address = free_address();
        let child = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--user=root", "--group=root", "--pid-file=", "--conf-file=/dev/null"])
            .args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--address=/bench.test/192.0.2.7"])
            .arg("--log-facility=-")
            .arg(format!("--listen-address={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq was found before");
        let dnsmasq = Dnsmasq { child, address };
        until("dnsmasq to answer", || ask(address));
        dnsmasq
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One query, one short wait; the number of bytes that came back.
fn ask(address: SocketAddr) -> Option<usize> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    socket.send_to(QUERY, address).ok()?;
    socket.recv(&mut [0; 512]).ok()
}

/// What dnsperf says of its queries.
struct Told {
    sent: u64,
    lost: u64,
    text: String,
}

fn dnsperf(address: SocketAddr, folder: &Folder, seconds: &'static str) -> JoinHandle<Told> {
    let queries = folder.0.join("queries");
    let names: String = (0..100).map(|number| format!("name-{number}.bench.test A\n")).collect();
    fs::write(&queries, names).expect("the folder can be written");
    std::thread::spawn(move || {
        let (ip, port, queries) = (address.ip().to_string(), address.port().to_string(), queries.display().to_string());
        let outstanding = OUTSTANDING.to_string();
        let words = ["-s", &ip, "-p", &port, "-d", &queries, "-l", seconds, "-c", "16", "-q", &outstanding];
        let said = run("dnsperf", &[&words[..], &["-Q", "2000", "-t", "2"]].concat(), "");
        assert!(said.fine, "dnsperf: {}{}", said.out, said.err);
        let number = |name: &str| {
            let line = said.out.lines().find_map(|line| line.trim().strip_prefix(name)).expect("dnsperf counts");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        Told { sent: number("Queries sent:"), lost: number("Queries lost:"), text: said.out.clone() }
    })
}

fn config(address: SocketAddr, backends: [SocketAddr; 2]) -> String {
    // An unanswered query is given up by its session soon, so that its line comes within the test.
    format!(
        "[[listener]]\nname = \"dns\"\nlisten = \"{address}\"\nprotocol = \"udp\"\npool = \"dns\"\n\
         responses = 1\nidle_timeout = \"2s\"\n\
         [[pool]]\nname = \"dns\"\nschedule = \"rr\"\nbackends = [\"{}\", \"{}\"]\n\
         check = {{ kind = \"udp\", interval = \"500ms\", timeout = \"1s\", unhealthy_threshold = 2 }}\n",
        backends[0], backends[1]
    )
}

/// Datagrams of the clients and of the backends in these lines.
fn datagrams(lines: &[Value]) -> (u64, u64) {
    let sum = |key: &str| lines.iter().map(|line| line[key].as_u64().expect("a session's line counts them")).sum();
    (sum("datagrams_in"), sum("datagrams_out"))
}

fn stage(test: &str, name: &str) -> Option<(Dnsmasq, Dnsmasq, Daemon, SocketAddr, Folder)> {
    have_all(test, &["dnsmasq", "dnsperf"], &[]).then(|| {
        let (one, two, address) = (Dnsmasq::start(), Dnsmasq::start(), free_address());
        let daemon = Daemon::start(name, &config(address, [one.address, two.address]));
        (one, two, daemon, address, Folder::new(name))
    })
}

#[test]
fn dnsperf_loses_nothing_in_quiet_and_every_query_is_in_the_log() {
    let test = "dnsperf_loses_nothing_in_quiet_and_every_query_is_in_the_log";
    let Some((one, two, daemon, address, folder)) = stage(test, "dns-quiet") else { return };
    let told = dnsperf(address, &folder, "2").join().expect("dnsperf is content");
    assert!(told.sent > 1_000 && told.lost == 0, "{}", told.text);
    // Each answer ends its session, so nothing is left to wait for.
    until("the log to have every query", || (datagrams(&daemon.log()).0 >= told.sent).then_some(()));
    let lines = daemon.log();
    assert_eq!(datagrams(&lines), (told.sent, told.sent));
    for backend in [&one, &two] {
        let count = lines.iter().filter(|line| line["backend"] == backend.address.to_string()).count();
        assert!(count * 3 > lines.len(), "{count} of {} sessions on {}", lines.len(), backend.address);
    }
    assert!(lines.iter().all(|line| line["cause"].is_null()), "{lines:#?}");
}

#[test]
fn what_a_killed_dns_server_loses_is_little_and_told() {
    let test = "what_a_killed_dns_server_loses_is_little_and_told";
    let Some((mut one, two, daemon, address, folder)) = stage(test, "dns-kill") else { return };
    let running = dnsperf(address, &folder, "4");
    until("queries on both", || {
        let lines = daemon.log();
        let some = |server: &Dnsmasq| lines.iter().any(|line| line["backend"] == server.address.to_string());
        (some(&one) && some(&two)).then_some(())
    });
    one.kill();
    let told = running.join().expect("dnsperf is content");

    // Those that were under way, and some that were the first to find out.
    assert!(told.lost <= 2 * OUTSTANDING, "{}", told.text);
    daemon.wait_verdict("dns", &one.address.to_string(), "unhealthy");
    until("the log to have every query", || (datagrams(&daemon.log()).0 >= told.sent).then_some(()));
    let lines = daemon.log();
    assert_eq!(datagrams(&lines), (told.sent, told.sent - told.lost), "{}", told.text);
    let (failed, served): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| !line["cause"].is_null());
    let (asked, answered) = datagrams(&served);
    assert_eq!(asked, answered, "a session without a cause has lost nothing");
    for line in &failed {
        assert_eq!(line["backend"], one.address.to_string(), "{line}");
        let cause = line["cause"].as_str().expect("a cause is a word");
        assert!(["backend_connect_refused", "backend_no_reply"].contains(&cause), "{line}");
    }
    for cause in ["backend_connect_refused", "backend_no_reply"] {
        let count = failed.iter().filter(|line| line["cause"] == cause).count();
        let label = format!("cause=\"{cause}\"");
        assert_eq!(daemon.metric("evenkeel_failures_total", &["listener=\"dns\"", &label]), count as f64, "{cause}");
    }
}
