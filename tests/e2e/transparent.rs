//! Whom backends see: the client itself (transparent), or addresses of the balancer that their firewall knows (source).
//!
//! Three hosts in a row: clients, the balancer, backends whose gateway it is. The commands that make it theirs are those
//! of `docs/layer4.md`, and the backends say who came.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::backend::serve;
use crate::client::{End, Wire};
use crate::daemon::{Daemon, Folder, PATIENCE, Setup, has, skipped, until};
use crate::lab::{enter, nft, run, try_run};

const MANUAL: &str = include_str!("../../docs/layer4.md");

/// Client, balancer towards clients, balancer towards backends, backend; in both families.
const CLIENT: [&str; 2] = ["10.97.0.9", "fd97::9"];
const FRONT: [&str; 2] = ["10.97.0.1", "fd97::1"];
const GATEWAY: [&str; 2] = ["10.98.0.1", "fd98::1"];
const BACKEND: [&str; 2] = ["10.98.0.11", "fd98::11"];

struct Row {
    clients: String,
    balancer: String,
    backends: String,
}

impl Row {
    /// Builds the hosts; says so and gives `None` where that is not possible.
    fn build(test: &str) -> Option<Row> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        if let Some(tool) = ["ip", "nft"].into_iter().find(|tool| !has(tool)) {
            skipped(test, tool);
            return None;
        }
        let number = BUILT.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("evenkeel-row-{}-{number}-{role}", std::process::id());
        let row = Row { clients: name("clients"), balancer: name("balancer"), backends: name("backends") };
        if !rustix::process::geteuid().is_root() || !try_run(&["ip", "netns", "add", &row.clients]) {
            skipped(test, "root, to make network namespaces");
            return None;
        }
        run(&["ip", "netns", "add", &row.balancer]);
        run(&["ip", "netns", "add", &row.backends]);
        let Row { clients, balancer, backends } = &row;
        for (host, ours, theirs, far, near) in
            [(clients, "front", "eth0", CLIENT, FRONT), (backends, "back", "eth0", BACKEND, GATEWAY)]
        {
            run(&["ip", "-n", balancer, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", host]);
            for (at, addresses, device) in [(host, far, theirs), (balancer, near, ours)] {
                run(&["ip", "-n", at, "addr", "add", &format!("{}/24", addresses[0]), "dev", device]);
                // Without duplicate address detection, or the address could not be used for a second.
                run(&["ip", "-n", at, "addr", "add", &format!("{}/64", addresses[1]), "dev", device, "nodad"]);
                run(&["ip", "-n", at, "link", "set", device, "up"]);
                run(&["ip", "-n", at, "link", "set", "lo", "up"]);
            }
        }
        // The balancer is the backends' gateway, which transparent needs, and where sources of its own are found.
        run(&["ip", "-n", backends, "route", "add", "default", "via", GATEWAY[0]]);
        run(&["ip", "-n", backends, "-6", "route", "add", "default", "via", GATEWAY[1]]);
        Some(row)
    }

    /// Runs `work` on one of the hosts, on a thread of its own. Sockets it makes stay there.
    fn on<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                enter(host);
                work()
            });
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Servers at port 8080 of each family, over TCP and UDP, that tell everybody who they are to them; over TCP in words
    /// that are an answer of HTTP as well.
    fn serve(&self) {
        for ip in BACKEND {
            let at = at(ip, 8080);
            let (tcp, udp) = self.on(&self.backends, || {
                (TcpListener::bind(at).expect("its own address"), UdpSocket::bind(at).expect("its own address"))
            });
            serve(tcp, |mut stream: TcpStream| {
                let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
                let length = peer.len();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{peer}");
                let _ = stream.read(&mut [0; 4096]);
            });
            std::thread::spawn(move || {
                let mut space = [0; 2048];
                while let Ok((_, peer)) = udp.recv_from(&mut space) {
                    let _ = udp.send_to(peer.to_string().as_bytes(), peer);
                }
            });
        }
    }

    fn daemon(&self, name: &str, body: &str) -> Daemon {
        Daemon::start_with(&Setup { name, node: "", body, namespace: Some(&self.balancer) })
    }

    /// What `evenkeel check` says on the balancer.
    fn check(&self, name: &str, body: &str) -> String {
        let folder = Folder::new(name);
        let config = folder.0.join("evenkeel.toml");
        std::fs::write(&config, body).expect("the folder can be written");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.balancer, env!("CARGO_BIN_EXE_evenkeel"), "check"]);
        let said = command.arg(config).output().expect("ip is here");
        [said.stdout, said.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
    }

    /// A client's address and port, and who it was to the backend.
    fn ask_tcp(&self, to: SocketAddr) -> Result<(SocketAddr, SocketAddr), End> {
        self.on(&self.clients, || {
            let Ok(mut wire) = Wire::try_open(to) else { return Err(End::Reset) };
            let client = wire.stream.local_addr().expect("it is connected");
            wire.stream.shutdown(std::net::Shutdown::Write).expect("the connection stands");
            let (said, end) = wire.rest();
            let said = String::from_utf8(said).expect("text");
            let seen = said.rsplit("\r\n\r\n").next().unwrap_or_default();
            seen.parse().map(|seen| (client, seen)).map_err(|_| end)
        })
    }

    /// Who a client was to the backend in two requests on one connection of its own.
    fn ask_http(&self, to: SocketAddr) -> (SocketAddr, [SocketAddr; 2]) {
        self.on(&self.clients, || {
            let mut wire = Wire::open(to);
            let client = wire.stream.local_addr().expect("it is connected");
            let seen = [(); 2].map(|()| String::from_utf8(wire.get("/").payload()).expect("text"));
            (client, seen.map(|seen| seen.parse().expect("an address")))
        })
    }

    fn ask_udp(&self, to: SocketAddr) -> (SocketAddr, SocketAddr) {
        self.on(&self.clients, || {
            let any: IpAddr = if to.is_ipv4() { CLIENT[0] } else { CLIENT[1] }.parse().expect("an address");
            let client = UdpSocket::bind((any, 0)).expect("its own address");
            client.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
            client.send_to(b"who am I", to).expect("it is sent");
            let mut space = [0; 2048];
            let (count, from) = client.recv_from(&mut space).expect("an answer");
            assert_eq!(from, to, "answers come from where the client sent to");
            let said = std::str::from_utf8(&space[..count]).expect("text");
            (client.local_addr().expect("it is bound"), said.parse().expect("an address"))
        })
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for namespace in [&self.clients, &self.balancer, &self.backends] {
            try_run(&["ip", "netns", "del", namespace]);
        }
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// A listener and a pool of one backend, of one family, for each of tcp and udp.
fn both(family: usize, port: u16, name: &str, pool: &str) -> String {
    let (listen, backend) = (at(FRONT[family], port), at(BACKEND[family], 8080));
    ["tcp", "udp"]
        .map(|protocol| {
            format!(
                "[[listener]]\nname = \"{name}-{protocol}\"\nlisten = \"{listen}\"\nprotocol = \"{protocol}\"\n\
                 pool = \"{name}-{protocol}\"\n\
                 [[pool]]\nname = \"{name}-{protocol}\"\nbackends = [\"{backend}\"]\n{pool}\n"
            )
        })
        .concat()
}

/// The manual's block of commands with these words, for a host whose backends are behind the interface "back".
fn commands(words: &str) -> &'static str {
    let mut blocks = MANUAL.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(words)).unwrap_or_else(|| panic!("the manual has no commands with {words}"))
}

/// Before `commands` the check asks for the rules by ports, afterwards for nothing.
fn sees_the_client_itself(test: &str, commands: &str) {
    let Some(row) = Row::build(test) else { return };
    row.serve();
    let text = both(0, 80, "four", "transparent = true\ncheck = \"off\"")
        + &both(1, 80, "six", "transparent = true\ncheck = \"off\"")
        + &[(0, "four"), (1, "six")]
            .map(|(family, name)| {
                let listen = at(FRONT[family], 81);
                format!("[[listener]]\nname = \"{name}-http\"\nlisten = \"{listen}\"\npool = \"{name}-tcp\"\n")
            })
            .concat();
    let checked = row.check(test, &text);
    for command in by_ports().lines() {
        assert!(checked.contains(command), "{command} is not in {checked}");
    }
    let done = row.on(&row.balancer, || Command::new("sh").args(["-ec", commands]).status().expect("a shell is here"));
    assert!(done.success(), "the commands of the manual: {done}");
    let checked = row.check(test, &text);
    assert!(!checked.contains("no_way_back"), "{checked}");
    let daemon = row.daemon(test, &text);
    for front in FRONT {
        let to = at(front, 80);
        let (client, seen) = row.ask_tcp(to).unwrap_or_else(|end| panic!("{to} over tcp: {end:?}"));
        assert_eq!(seen.ip(), client.ip(), "{to} over tcp");
        let (client, seen) = row.ask_udp(to);
        assert_eq!(seen.ip(), client.ip(), "{to} over udp");
        let (client, [first, second]) = row.ask_http(at(front, 81));
        assert_eq!([first.ip(), second.ip()], [client.ip(); 2], "{to} over http");
        assert_ne!(first, second, "a connection in a client's name serves one request");
    }
    let line = daemon.wait_log_where("the tcp connection", |line| line["listener"] == "four-tcp");
    assert!(line["cause"].is_null(), "{line}");
}

/// The manual has them for tcp.
fn by_ports() -> String {
    let tcp = commands("sport 8080");
    let udp = tcp.lines().filter(|line| line.contains("ipproto")).map(|line| line.replace("tcp", "udp") + "\n");
    tcp.to_owned() + &udp.collect::<String>()
}

#[test]
fn transparent_backends_see_the_client_itself_by_marks() {
    sees_the_client_itself("transparent-marks", commands("socket transparent"));
}

#[test]
fn transparent_backends_see_the_client_itself_by_ports() {
    sees_the_client_itself("transparent-ports", &by_ports());
}

#[test]
fn a_firewall_that_knows_one_range_lets_probes_and_clients_through_from_there_only() {
    let Some(row) = Row::build("source") else { return };
    row.serve();
    for address in ["100.64.0.5/32", "100.64.0.6/32"] {
        run(&["ip", "-n", &row.balancer, "addr", "add", address, "dev", "back"]);
    }
    nft(&row.backends, "add table inet t");
    nft(&row.backends, "add chain inet t c { type filter hook input priority 0; }");
    nft(&row.backends, "add rule inet t c ip saddr 100.64.0.0/10 accept");
    nft(&row.backends, "add rule inet t c meta l4proto tcp reject with tcp reset");
    nft(&row.backends, "add rule inet t c meta l4proto udp reject");
    let check = "[pool.check]\ninterval = \"100ms\"\ntimeout = \"500ms\"\n";
    let from = "source = \"100.64.0.0/10\"\n";
    let text = both(0, 80, "with", &format!("{from}{check}{from}")) + &both(0, 81, "without", check);
    let daemon = row.daemon("source", &text);
    let backend = at(BACKEND[0], 8080).to_string();
    row.on(&row.balancer, || {
        daemon.wait_verdict("with-tcp", &backend, "healthy");
        daemon.wait_verdict("with-udp", &backend, "healthy");
        daemon.wait_verdict("without-tcp", &backend, "unhealthy");
        daemon.wait_verdict("without-udp", &backend, "unhealthy");
    });
    let with = at(FRONT[0], 80);
    let sources: [IpAddr; 2] = ["100.64.0.5", "100.64.0.6"].map(|ip| ip.parse().expect("an address"));
    let mut seen = Vec::new();
    until("both addresses of the range to be used", || {
        seen.push(row.ask_tcp(with).expect("it is served").1.ip());
        assert!(sources.contains(seen.last().expect("one more")), "{seen:?}");
        sources.iter().all(|source| seen.contains(source)).then_some(())
    });
    assert!(sources.contains(&row.ask_udp(with).1.ip()));
    assert_eq!(row.ask_tcp(at(FRONT[0], 81)), Err(End::Reset));
    let line = daemon.wait_log_where("the refused one", |line| line["listener"] == "without-tcp");
    assert_eq!(line["cause"], "all_backends_unhealthy", "{line}");
}

#[test]
fn a_client_of_another_family_cannot_be_the_sender_and_says_so() {
    let Some(row) = Row::build("transparent-family") else { return };
    row.serve();
    let text = format!(
        "[[listener]]\nname = \"mixed\"\nlisten = \"{}\"\nprotocol = \"tcp\"\npool = \"four\"\n\
         [[pool]]\nname = \"four\"\nbackends = [\"{}\"]\ntransparent = true\ncheck = \"off\"\n",
        at(FRONT[1], 80),
        at(BACKEND[0], 8080)
    );
    let daemon = row.daemon("transparent-family", &text);
    assert_eq!(row.ask_tcp(at(FRONT[1], 80)), Err(End::Reset));
    let line: Value = daemon.wait_log_where("the connection", |line| line["listener"] == "mixed");
    assert_eq!(line["cause"], "source_unusable", "{line}");
}
