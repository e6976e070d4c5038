//! Backends by name, answered by dnsmasq: what it says is followed, what it no longer says is kept, and clients notice nothing.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::backend::{polite, serve};
use crate::client::{Steady, Wire};
use crate::daemon::{Daemon, Folder, Setup, free_address, own_ip, until};
use crate::tools::have_all;

/// A name server for side.test, whose addresses are lines of a file.
struct Zone {
    child: Child,
    address: SocketAddr,
    hosts: PathBuf,
    records: Vec<String>,
}

impl Zone {
    /// `records` are arguments for what is no address.
    fn start(address: SocketAddr, folder: &Folder, lines: &[(Ipv4Addr, &str)], records: Vec<String>) -> Zone {
        let hosts = folder.0.join("hosts");
        write(&hosts, lines);
        let child = run(address, &hosts, &records);
        let zone = Zone { child, address, hosts, records };
        zone.wait();
        zone
    }

    /// Listens over TCP too, which is how one sees that it is there.
    fn wait(&self) {
        until("dnsmasq", || std::net::TcpStream::connect(self.address).ok());
    }

    fn says(&self, lines: &[(Ipv4Addr, &str)]) {
        write(&self.hosts, lines);
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        kill_process(pid, Signal::HUP).expect("the child is not reaped yet");
    }

    fn die(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn rise(&mut self) {
        self.child = run(self.address, &self.hosts, &self.records);
        self.wait();
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.die();
    }
}

fn write(hosts: &Path, lines: &[(Ipv4Addr, &str)]) {
    let text: String = lines.iter().map(|(ip, name)| format!("{ip} {name}\n")).collect();
    fs::write(hosts, text).expect("the folder can be written");
}

fn run(address: SocketAddr, hosts: &Path, records: &[String]) -> Child {
    Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--user=root", "--group=root", "--pid-file=", "--conf-file=/dev/null"])
        .args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/side.test/", "--local-ttl=1"])
        .args(["--log-facility=-", "--no-negcache"])
        .arg(format!("--addn-hosts={}", hosts.display()))
        .arg(format!("--listen-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .args(records)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("dnsmasq was found before")
}

/// Polite backends on addresses of their own that share one port.
fn backends(count: usize) -> (Vec<Ipv4Addr>, u16) {
    let first = TcpListener::bind((own_ip(), 0)).expect("loopback has free ports");
    let port = first.local_addr().expect("it is bound").port();
    let more = (1..count).map(|_| TcpListener::bind((own_ip(), port)).expect("addresses of our own"));
    let listeners: Vec<TcpListener> = std::iter::once(first).chain(more).collect();
    let ips = listeners.iter().map(|listener| match listener.local_addr() {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        other => panic!("{other:?} is no address of IPv4"),
    });
    let ips = ips.collect();
    for listener in listeners {
        serve(listener, polite);
    }
    (ips, port)
}

fn start(name: &str, listen: SocketAddr, server: SocketAddr, backends: &str) -> Daemon {
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [{backends}]\n[pool.check]\nkind = \"tcp\"\ninterval = \"50ms\"\n"
    );
    let node = format!("[node.resolver]\nservers = [\"{server}\"]\ntimeout = \"200ms\"\n");
    Daemon::start_with(&Setup { name, node: &node, body: &body, namespace: None })
}

/// The backends of the pool, as the status page has them.
fn shown(daemon: &Daemon) -> Vec<(String, u64)> {
    let status = daemon.status();
    let backends = status["pools"][0]["backends"].as_array().cloned().unwrap_or_default();
    let mut shown: Vec<(String, u64)> = backends
        .iter()
        .map(|backend| {
            (backend["address"].as_str().unwrap_or_default().to_owned(), backend["weight"].as_u64().unwrap_or(0))
        })
        .collect();
    shown.sort();
    shown
}

fn wait_shown(daemon: &Daemon, ips: &[Ipv4Addr], port: u16) {
    let mut wanted: Vec<String> = ips.iter().map(|ip| format!("{ip}:{port}")).collect();
    wanted.sort();
    until(&format!("the pool to have {wanted:?}"), || {
        let shown: Vec<String> = shown(daemon).into_iter().map(|(address, _)| address).collect();
        (shown == wanted).then_some(())
    });
}

#[test]
fn records_come_and_go_and_a_name_server_dies_while_clients_notice_nothing() {
    if !have_all("side_names", &["dnsmasq"], &[]) {
        return;
    }
    let folder = Folder::new("side_names");
    let (ips, port) = backends(3);
    let mut zone = Zone::start(free_address(), &folder, &[(ips[0], "app.side.test")], Vec::new());
    let listen = free_address();
    let daemon = start("side_names", listen, zone.address, &format!("\"app.side.test:{port}\""));
    // Answered before the first client could come.
    assert_eq!(Wire::open(listen).get("/").status, 200);
    let sockets = daemon.listening_inodes(listen);
    let first = format!("{}:{port}", ips[0]);
    daemon.wait_verdict("web", &first, "healthy");
    let since = daemon.backend("web", &first)["since"].clone();
    let clients = Steady::start(listen, "/", 4, 200);

    zone.says(&[(ips[1], "app.side.test"), (ips[0], "app.side.test")]);
    daemon.wait_event(0, &[" info name.changed ", "app.side.test", "2 backends now (1 added, 0 removed)"]);
    wait_shown(&daemon, &ips[..2], port);
    assert_eq!(daemon.backend("web", &first)["since"], since, "who stays keeps its verdict");

    zone.says(&[(ips[1], "app.side.test"), (ips[2], "app.side.test")]);
    daemon.wait_event(0, &["name.changed", "2 backends now (1 added, 1 removed)"]);
    wait_shown(&daemon, &ips[1..], port);

    // The zone is emptied by mistake: NXDOMAIN.
    let from = daemon.events().len();
    zone.says(&[]);
    daemon.wait_event(from, &[" warn name.failed ", "the last one is kept (2 backends)", "NXDOMAIN"]);
    zone.says(&[(ips[1], "app.side.test"), (ips[2], "app.side.test")]);
    daemon.wait_event(from, &[" info name.recovered ", "app.side.test"]);

    let from = daemon.events().len();
    zone.die();
    daemon.wait_event(from, &[" warn name.failed ", "the last one is kept (2 backends)"]);
    wait_shown(&daemon, &ips[1..], port);
    zone.rise();
    daemon.wait_event(from, &["name.recovered"]);
    wait_shown(&daemon, &ips[1..], port);

    let tally = clients.stop();
    assert!(tally.losses.is_empty() && tally.refused == 0, "{tally:?}");
    assert!(tally.good > 0, "{tally:?}");
    assert_eq!(daemon.listening_inodes(listen), sockets, "nothing was bound anew");
}

#[test]
fn srv_records_bring_ports_and_weights() {
    if !have_all("side_srv", &["dnsmasq"], &[]) {
        return;
    }
    let folder = Folder::new("side_srv");
    let (ips, port) = backends(3);
    let hosts = [(ips[0], "one.side.test"), (ips[1], "two.side.test"), (ips[2], "spare.side.test")];
    let record =
        |host: &str, priority, weight| format!("--srv-host=_http._tcp.side.test,{host},{port},{priority},{weight}");
    let records =
        vec![record("one.side.test", 0, 60), record("two.side.test", 0, 20), record("spare.side.test", 10, 100)];
    let zone = Zone::start(free_address(), &folder, &hosts, records);
    let listen = free_address();
    let backends = "{ name = \"_http._tcp.side.test\", records = \"srv\", weight = 7 }";
    let daemon = start("side_srv", listen, zone.address, backends);
    let mut expected = vec![(format!("{}:{port}", ips[0]), 60), (format!("{}:{port}", ips[1]), 20)];
    expected.sort();
    assert_eq!(shown(&daemon), expected);
    assert_eq!(Wire::open(listen).get("/").status, 200);
}

#[test]
fn a_node_starts_without_an_answer_and_serves_as_soon_as_there_is_one() {
    if !have_all("side_unanswered", &["dnsmasq"], &[]) {
        return;
    }
    let folder = Folder::new("side_unanswered");
    let (ips, port) = backends(1);
    let (server, listen) = (free_address(), free_address());
    let daemon = start("side_unanswered", listen, server, &format!("\"app.side.test:{port}\""));
    daemon.wait_event(0, &[" warn name.failed ", "stands for no backend"]);
    assert_eq!(Wire::open(listen).get("/").status, 503);
    let _zone = Zone::start(server, &folder, &[(ips[0], "app.side.test")], Vec::new());
    daemon.wait_event(0, &["name.changed", "1 backend now"]);
    until("an answer", || (Wire::open(listen).get("/").status == 200).then_some(()));
}

#[test]
fn a_reload_from_an_address_to_its_name_loses_nothing() {
    if !have_all("side_renamed", &["dnsmasq"], &[]) {
        return;
    }
    let folder = Folder::new("side_renamed");
    let (ips, port) = backends(1);
    let mut zone = Zone::start(free_address(), &folder, &[(ips[0], "app.side.test")], Vec::new());
    let listen = free_address();
    let address = format!("{}:{port}", ips[0]);
    let daemon = start("side_renamed", listen, zone.address, &format!("\"{address}\""));
    daemon.wait_verdict("web", &address, "healthy");
    let since = daemon.backend("web", &address)["since"].clone();
    let clients = Steady::start(listen, "/", 4, 200);
    let body = format!(
        "[[listener]]\nname = \"front\"\nlisten = \"{listen}\"\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = [\"app.side.test:{port}\"]\n[pool.check]\nkind = \"tcp\"\ninterval = \"50ms\"\n"
    );
    let told = daemon.reload(&body);
    assert!(told.contains("node.reloaded"), "{told}");
    assert_eq!(daemon.backend("web", &address)["since"], since, "an address is the same backend by whatever name");
    // What a reload learnt is not asked again by the next one, whose name server is gone.
    zone.die();
    let told = daemon.reload(&body);
    assert!(told.contains("node.reloaded"), "{told}");
    assert_eq!(daemon.backend("web", &address)["since"], since);
    let tally = clients.stop();
    assert!(tally.losses.is_empty() && tally.refused == 0, "{tally:?}");
}
