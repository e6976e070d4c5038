//! UDP listeners from outside: sessions that answer from where they were asked, survive what changes around them, and name
//! what ended them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, PATIENCE, Setup, own_ip, until};
use crate::lab::{BACKENDS, Lab};

/// How long a client waits for an answer that does not come. Loopback needs a thousandth of it.
const SILENCE: Duration = Duration::from_millis(300);

/// Answers each datagram with its own name and what it got, while it is told to.
struct Echo {
    address: SocketAddr,
    mute: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Echo {
    fn new() -> Echo {
        Echo::at(UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports"))
    }

    fn at(socket: UdpSocket) -> Echo {
        let address = socket.local_addr().expect("a bound socket has an address");
        let (mute, stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (quiet, ends) = (Arc::clone(&mute), Arc::clone(&stopped));
        // Looks up from time to time, so that it can be stopped and its port closed.
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout can be set");
        std::thread::spawn(move || {
            let mut space = [0; 65_535];
            while !ends.load(Ordering::Relaxed) {
                let Ok((bytes, from)) = socket.recv_from(&mut space) else { continue };
                if !quiet.load(Ordering::Relaxed) {
                    let answer = [format!("{address} ").as_bytes(), &space[..bytes]].concat();
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Echo { address, mute, stopped }
    }

    /// Its port is closed when this returns.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        until("the backend's port to close", || UdpSocket::bind(self.address).ok().map(drop));
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind((own_ip(), 0)).and_then(|socket| socket.local_addr()).expect("loopback has free ports")
}

fn client(to: SocketAddr) -> UdpSocket {
    let ip: IpAddr = if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { "::1".parse().expect("an address") };
    let socket = UdpSocket::bind((ip, 0)).expect("loopback has free ports");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout can be set");
    socket
}

/// The answer to `bytes`, and where it came from.
fn ask(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> Option<(String, SocketAddr)> {
    client.send_to(bytes, to).expect("loopback takes datagrams");
    let mut space = [0; 65_535];
    let (count, from) = client.recv_from(&mut space).ok()?;
    Some((String::from_utf8_lossy(&space[..count]).into_owned(), from))
}

/// The same from a client that asks again, as clients of UDP must.
fn insist(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> (String, SocketAddr) {
    until("an answer", || ask(client, to, bytes))
}

fn config(listen: &str, backends: &[&Echo], listener: &str, pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
    format!(
        "[[listener]]\nname = \"udp\"\nlisten = \"{listen}\"\nprotocol = \"udp\"\npool = \"udp\"\n{listener}\n\
         [[pool]]\nname = \"udp\"\nschedule = \"rr\"\nbackends = [{}]\n{pool}\n",
        backends.join(", ")
    )
}

const OFF: &str = "check = \"off\"";

fn serve(name: &str, backends: &[&Echo], listener: &str, pool: &str) -> (Daemon, SocketAddr) {
    let address = free_udp();
    (Daemon::start(name, &config(&address.to_string(), backends, listener, pool)), address)
}

fn caused(daemon: &Daemon, cause: &str) -> Value {
    let line = daemon.wait_log_where(cause, |line| line["cause"] == cause);
    let label = format!("cause=\"{cause}\"");
    assert!(daemon.metric("evenkeel_failures_total", &["listener=\"udp\"", &label]) >= 1.0, "no metric of {cause}");
    line
}

#[test]
fn a_session_is_one_line_with_its_datagrams_and_its_time() {
    let backend = Echo::new();
    let (daemon, address) = serve("udp-echo", &[&backend], "idle_timeout = \"500ms\"", OFF);
    let client = client(address);
    let mut answers = 0;
    for turn in 0..20 {
        let (answer, from) = ask(&client, address, format!("turn {turn}").as_bytes()).expect("an answer");
        assert_eq!((answer, from), (format!("{} turn {turn}", backend.address), address));
        answers += 1;
    }
    // What a datagram can carry over IPv4 at all.
    let largest = vec![b'x'; 65_000];
    assert_eq!(
        ask(&client, address, &largest).map(|(answer, _)| answer.len()),
        Some(65_001 + backend.address.to_string().len())
    );
    assert_eq!(ask(&client, address, b"").map(|(answer, _)| answer), Some(format!("{} ", backend.address)));
    let line = daemon.wait_log_where("the session", |line| line["listener"] == "udp");
    assert!(line["cause"].is_null(), "{line}");
    let told = (&line["datagrams_in"], &line["datagrams_out"], &line["client"], &line["backend"]);
    let from = client.local_addr().expect("it is bound").to_string();
    assert_eq!(told, (&22.into(), &(answers + 2).into(), &from.into(), &backend.address.to_string().into()), "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|duration| duration >= 500.0), "{line}");
    let metric = |family: &str| daemon.metric(family, &["listener=\"udp\""]);
    assert_eq!(metric("evenkeel_listener_received_datagrams_total"), 22.0);
    assert_eq!(metric("evenkeel_listener_sent_datagrams_total"), 22.0);
    assert_eq!(metric("evenkeel_listener_dropped_datagrams_total"), 0.0);
    assert_eq!(metric("evenkeel_listener_connections_total"), 1.0);
    assert_eq!(metric("evenkeel_listener_connections"), 0.0);
}

#[test]
fn on_a_wildcard_each_answer_leaves_from_the_address_that_was_asked() {
    let backend = Echo::new();
    // A port that is free on all addresses.
    let port = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let daemon =
        Daemon::start("udp-wildcard", &config(&format!("0.0.0.0:{port}"), &[&backend], "idle_timeout = \"1s\"", OFF));
    let client = client(SocketAddr::from(([127, 0, 0, 1], port)));
    for _ in 0..3 {
        for last in [1, 2, 77] {
            let to = SocketAddr::from(([127, 0, 0, last], port));
            assert_eq!(ask(&client, to, b"ping").map(|(_, from)| from), Some(to));
        }
    }
    until("one session for each address", || (daemon.log().len() == 3).then_some(()));
}

#[test]
fn ipv6_is_served_and_another_family_behind_it() {
    let backend = Echo::new();
    let port = UdpSocket::bind("[::1]:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let _daemon = Daemon::start("udp-ipv6", &config(&format!("[::]:{port}"), &[&backend], "", OFF));
    let address = SocketAddr::new("::1".parse().expect("an address"), port);
    let client = client(address);
    let (answer, from) = ask(&client, address, b"six").expect("an answer");
    assert_eq!((answer, from), (format!("{} six", backend.address), address));
}

#[test]
fn a_refused_session_is_named_and_the_client_is_served_elsewhere() {
    let (gone, backend) = (Echo::new(), Echo::new());
    gone.stop();
    let (daemon, address) = serve("udp-refused", &[&gone, &backend], "", OFF);
    let clients: Vec<UdpSocket> = (0..8).map(|_| client(address)).collect();
    for client in &clients {
        let (answer, _) = insist(client, address, b"hello");
        assert_eq!(answer, format!("{} hello", backend.address));
    }
    let line = caused(&daemon, "backend_connect_refused");
    assert_eq!((&line["backend"], &line["errno"]), (&gone.address.to_string().into(), &111.into()), "{line}");
    assert_eq!((&line["phase"], &line["blame"]), (&"connect".into(), &"backend".into()), "{line}");
    let label = format!("backend=\"{}\"", gone.address);
    assert!(daemon.metric("evenkeel_backend_failures_total", &[&label, "backend_connect_refused"]) >= 1.0);
}

const CHECK: &str = "[pool.check]\nkind = \"udp\"\nsend = \"probe\"\nexpect = \"\"\ntimeout = \"200ms\"\ninterval = \"50ms\"\n\
                     healthy_threshold = 1\nunhealthy_threshold = 2\n";

/// A check that only a backend which speaks passes.
fn check(backends: &[&Echo]) -> String {
    // Backends put their own address before what they got, so the answer differs; any answer passes.
    assert!(!backends.is_empty());
    CHECK.replace("expect = \"\"\n", "silence = \"fail\"\n")
}

#[test]
fn sessions_move_when_their_backend_fails_and_stay_when_it_drains() {
    let backends = [Echo::new(), Echo::new()];
    let both = [&backends[0], &backends[1]];
    let (daemon, address) = serve("udp-move", &both, "idle_timeout = \"2s\"", &check(&both));
    let client = client(address);
    let (answer, _) = insist(&client, address, b"one");
    let first = usize::from(answer.starts_with(&backends[1].address.to_string()));
    backends[first].mute.store(true, Ordering::Relaxed);
    daemon.wait_verdict("udp", &backends[first].address.to_string(), "unhealthy");
    let (answer, _) = insist(&client, address, b"two");
    assert!(answer.starts_with(&backends[1 - first].address.to_string()), "{answer}");
    // One session all the time: the client has one line.
    let from = client.local_addr().expect("it is bound").to_string();
    let line = daemon.wait_log_where("the session", |line| line["client"] == from.as_str());
    assert!(line["cause"].is_null(), "{line}");
    let tried: Vec<(&Value, &Value)> =
        line["attempts"].as_array().expect("both").iter().map(|a| (&a["backend"], &a["cause"])).collect();
    let name = |at: usize| Value::from(backends[at].address.to_string());
    assert_eq!(tried, [(&name(first), &"backend_turned_unhealthy".into()), (&name(1 - first), &Value::Null)]);

    backends[1 - first].mute.store(true, Ordering::Relaxed);
    daemon.wait_verdict("udp", &backends[1 - first].address.to_string(), "unhealthy");
    assert_eq!(ask(&client, address, b"nobody"), None);
    caused(&daemon, "all_backends_unhealthy");
}

#[test]
fn on_unhealthy_reset_ends_the_session_at_once() {
    let backend = Echo::new();
    let pool = format!("on_unhealthy = \"reset\"\n{}", check(&[&backend]));
    let (daemon, address) = serve("udp-reset", &[&backend], "", &pool);
    let client = client(address);
    insist(&client, address, b"one");
    backend.mute.store(true, Ordering::Relaxed);
    let line = caused(&daemon, "backend_turned_unhealthy");
    assert_eq!(line["phase"], "relay", "{line}");
}

#[test]
fn a_reload_keeps_sessions_serves_new_addresses_and_drains_old_ones() {
    let (backend, other) = (Echo::new(), Echo::new());
    let address = free_udp();
    let daemon = Daemon::start("udp-reload", &config(&address.to_string(), &[&backend], "", OFF));
    let known = client(address);
    insist(&known, address, b"one");
    // Another backend and another timeout: the session stays where it is.
    let told = daemon.reload(&config(&address.to_string(), &[&other], "idle_timeout = \"60s\"", OFF));
    assert!(told.contains("node.reloaded"), "{told}");
    let (answer, _) = ask(&known, address, b"two").expect("an answer");
    assert!(answer.starts_with(&backend.address.to_string()), "{answer}");
    let newcomer = client(address);
    until("the new plan", || {
        ask(&newcomer, address, b"new").filter(|(answer, _)| answer.starts_with(&other.address.to_string()))
    });
    // The address goes: whoever is known is served on, nobody else.
    let elsewhere = free_udp();
    let told = daemon.reload(&config(&elsewhere.to_string(), &[&other], "", OFF));
    assert!(told.contains("node.reloaded"), "{told}");
    let late = client(address);
    until("the old address to take nobody new", || ask(&late, address, b"late").is_none().then_some(()));
    assert!(ask(&known, address, b"three").is_some());
    assert!(ask(&client(elsewhere), elsewhere, b"there").is_some());
    caused(&daemon, "balancer_draining");
    // And comes back, while its sockets are still there for the known.
    let told = daemon.reload(&config(&address.to_string(), &[&other], "", OFF));
    assert!(told.contains("node.reloaded"), "{told}");
    insist(&client(address), address, b"again");
    insist(&known, address, b"four");
}

#[test]
fn an_address_can_change_its_protocol_and_be_shared_by_both() {
    let backend = Echo::new();
    let address = free_udp();
    let udp = config(&address.to_string(), &[&backend], "", OFF);
    let tcp = udp.replace("protocol = \"udp\"", "protocol = \"tcp\"");
    let daemon = Daemon::start("udp-tcp", &udp);
    insist(&client(address), address, b"one");
    let told = daemon.reload(&tcp);
    assert!(told.contains("node.reloaded"), "{told}");
    until("the tcp listener", || std::net::TcpStream::connect(address).ok());
    let both = format!(
        "{udp}{}",
        tcp.split("[[pool]]").next().expect("a listener").replace("name = \"udp\"", "name = \"tcp\"")
    );
    let told = daemon.reload(&both);
    assert!(told.contains("node.reloaded"), "{told}");
    insist(&client(address), address, b"two");
    std::net::TcpStream::connect(address).expect("the tcp listener is still there");
}

#[test]
fn an_address_in_use_is_refused_with_the_command_that_shows_who() {
    let backend = Echo::new();
    let (daemon, _) = serve("udp-in-use", &[&backend], "", OFF);
    let taken = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound");
    let told = daemon.reload(&config(&taken.1.to_string(), &[&backend], "", OFF));
    assert!(told.contains("plan.refused") && told.contains("ss -lunp"), "{told}");
}

#[test]
fn a_drained_node_serves_known_clients_to_the_end_and_nobody_new() {
    let backend = Echo::new();
    let address = free_udp();
    let body = config(&address.to_string(), &[&backend], "idle_timeout = \"1s\"", OFF);
    let mut daemon =
        Daemon::start_with(&Setup { name: "udp-drain", node: "drain_timeout = \"20s\"", body: &body, namespace: None });
    let (known, newcomer) = (client(address), client(address));
    insist(&known, address, b"one");
    daemon.signal(Signal::TERM);
    daemon.wait_event(0, &["node.draining"]);
    until("the drain", || ask(&newcomer, address, b"new").is_none().then_some(()));
    assert!(ask(&known, address, b"two").is_some());
    assert!(daemon.wait_exit().success());
    let causes: Vec<Value> = daemon.log().iter().map(|line| line["cause"].clone()).collect();
    assert!(causes.contains(&"balancer_draining".into()) && causes.contains(&Value::Null), "{causes:?}");
}

#[test]
fn a_full_table_serves_whom_it_knows() {
    let backend = Echo::new();
    let (daemon, address) = serve("udp-limit", &[&backend], "[listener.limit]\nconnections = 3\n", OFF);
    let known: Vec<UdpSocket> = (0..3).map(|_| client(address)).collect();
    for client in &known {
        insist(client, address, b"in");
    }
    let late = client(address);
    for _ in 0..5 {
        assert_eq!(ask(&late, address, b"let me in"), None);
    }
    assert!(known.iter().all(|client| ask(client, address, b"still").is_some()));
    let line = caused(&daemon, "client_too_many_connections");
    assert_eq!(line["detail"], "connections", "{line}");
    until("all five to be counted", || {
        (daemon.metric("evenkeel_failures_total", &["client_too_many_connections"]) == 5.0).then_some(())
    });
}

#[test]
fn a_node_at_its_own_limit_serves_whom_it_knows() {
    let backend = Echo::new();
    let address = free_udp();
    let body = config(&address.to_string(), &[&backend], "", OFF);
    // One for each of the two workers.
    let daemon = Daemon::start_with(&Setup { name: "udp-full", node: "connections = 2", body: &body, namespace: None });
    let clients: Vec<UdpSocket> = (0..12).map(|_| client(address)).collect();
    let served: Vec<&UdpSocket> = clients.iter().filter(|client| ask(client, address, b"in").is_some()).collect();
    assert!((1..=2).contains(&served.len()), "{} were served", served.len());
    assert!(served.iter().all(|client| ask(client, address, b"still").is_some()));
    assert_eq!(caused(&daemon, "balancer_overloaded")["limit"], 1);
}

#[test]
fn lists_and_rates_hold_for_datagrams_and_a_flood_is_one_line() {
    let backend = Echo::new();
    let (daemon, address) = serve("udp-acl", &[&backend], "[listener.access]\ndeny = [\"127.0.0.9\"]\n", OFF);
    let denied = UdpSocket::bind("127.0.0.9:0").expect("loopback has free ports");
    denied.set_read_timeout(Some(SILENCE)).expect("a timeout can be set");
    for _ in 0..200 {
        denied.send_to(b"flood", address).expect("loopback takes datagrams");
    }
    assert!(denied.recv(&mut [0; 64]).is_err(), "silence is what it gets");
    let line = caused(&daemon, "client_denied_by_acl");
    assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.9:")), "{line}");
    until("all to be counted", || {
        (daemon.metric("evenkeel_failures_total", &["client_denied_by_acl"]) == 200.0).then_some(())
    });
    let told: u64 = until("all to be told", || {
        let lines = daemon.log();
        let told = lines.iter().filter(|line| line["cause"] == "client_denied_by_acl");
        let told: u64 = told.filter_map(|line| line["datagrams_in"].as_u64()).sum();
        (told == 200).then_some(told)
    });
    assert!(daemon.log().len() <= 3, "{told} datagrams in {} lines", daemon.log().len());
    assert!(ask(&client(address), address, b"hello").is_some(), "others are served");

    let (daemon, address) =
        serve("udp-rate", &[&backend], "[listener.limit]\nclient_connections_per_second = 2\n", OFF);
    let answered = (0..6).filter(|_| ask(&client(address), address, b"hello").is_some()).count();
    assert!((2..=5).contains(&answered), "{answered} of 6 sessions at once");
    assert_eq!(caused(&daemon, "client_rate_limited")["detail"], "client_connections_per_second");
}

#[test]
fn what_ends_a_session_is_named() {
    let backend = Echo::new();
    backend.mute.store(true, Ordering::Relaxed);
    let (daemon, address) = serve("udp-no-reply", &[&backend], "responses = 1\nidle_timeout = \"200ms\"", OFF);
    assert_eq!(ask(&client(address), address, b"anybody?"), None);
    let line = caused(&daemon, "backend_no_reply");
    assert_eq!(line["timeout_ms"].as_f64(), Some(200.0), "{line}");

    backend.mute.store(false, Ordering::Relaxed);
    let (daemon, address) = serve("udp-one-shot", &[&backend], "responses = 1", OFF);
    assert!(ask(&client(address), address, b"question").is_some());
    let line = daemon.wait_log_where("the session", |line| line["listener"] == "udp");
    assert!(line["cause"].is_null() && line["datagrams_out"] == 1, "{line}");

    let (daemon, address) = serve("udp-lifetime", &[&backend], "lifetime = \"300ms\"", OFF);
    assert!(ask(&client(address), address, b"question").is_some());
    assert_eq!(caused(&daemon, "relay_lifetime_over")["timeout_ms"].as_f64(), Some(300.0));

    // An address that is on no interface of this host.
    let (daemon, address) = serve("udp-source", &[&backend], "", &format!("source = \"192.0.2.77\"\n{OFF}"));
    assert_eq!(ask(&client(address), address, b"question"), None);
    assert_eq!(caused(&daemon, "source_unusable")["errno"], 99);
}

/// The header of version 2 for UDP over IPv4 (PROXY protocol, section 2.2).
fn header(client: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c".to_vec();
    bytes.extend([client.0, to.0].concat());
    bytes.extend(client.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes
}

#[test]
fn proxy_headers_are_taken_from_whom_the_listener_names_and_given_to_backends() {
    let backend = Echo::new();
    let told = "proxy_protocol = { from = [\"127.0.0.0/8\"] }";
    let (daemon, address) = serve("udp-proxy-in", &[&backend], &format!("{told}\nidle_timeout = \"1s\""), OFF);
    let proxy = client(address);
    assert_eq!(ask(&proxy, address, b"bare"), None);
    assert!(caused(&daemon, "client_proxy_header_invalid")["detail"].is_string());
    let first = [header(([198, 51, 100, 1], 5000), ([203, 0, 113, 1], 53)), b"one".to_vec()].concat();
    let second = [header(([198, 51, 100, 2], 5000), ([203, 0, 113, 1], 53)), b"two".to_vec()].concat();
    let name = backend.address;
    assert_eq!(ask(&proxy, address, &first).map(|(answer, _)| answer), Some(format!("{name} one")));
    assert_eq!(ask(&proxy, address, &second).map(|(answer, _)| answer), Some(format!("{name} two")));
    assert_eq!(ask(&proxy, address, b"more").map(|(answer, _)| answer), Some(format!("{name} more")));
    let of = |client: &str| daemon.wait_log_where(client, |line| line["client"] == client);
    assert_eq!(of("198.51.100.1:5000")["datagrams_in"], 1);
    assert_eq!(of("198.51.100.2:5000")["datagrams_in"], 2, "a datagram without a header is of the client named last");

    for (which, expected) in [("first", [true, false]), ("each", [true, true])] {
        let pool = format!("proxy_protocol = {{ version = \"v2\", datagrams = \"{which}\" }}\n{OFF}");
        let socket = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let plain =
            Echo { address: socket.local_addr().expect("bound"), mute: Arc::default(), stopped: Arc::default() };
        let (_daemon, address) = serve("udp-proxy-out", &[&plain], "", &pool);
        let client = client(address);
        let from = client.local_addr().expect("it is bound");
        let (IpAddr::V4(ip), IpAddr::V4(to)) = (from.ip(), address.ip()) else { panic!("loopback") };
        let header = header((ip.octets(), from.port()), (to.octets(), address.port()));
        for has_header in expected {
            client.send_to(b"question", address).expect("loopback takes datagrams");
            let mut space = [0; 1000];
            let (count, _) = socket.recv_from(&mut space).expect("it comes");
            let expected = if has_header { [&header[..], b"question"].concat() } else { b"question".to_vec() };
            assert_eq!(&space[..count], &expected[..], "{which}");
        }
    }
}

#[test]
fn what_a_firewall_says_of_a_backend_ends_the_session() {
    let Some(lab) = Lab::build("udp: what a firewall says of a backend ends the session") else { return };
    lab.firewall("udp dport 5300 reject with icmp type admin-prohibited");
    let listen = "127.0.0.1:5300";
    let body = format!(
        "[[listener]]\nname = \"udp\"\nlisten = \"{listen}\"\nprotocol = \"udp\"\npool = \"udp\"\n\
         [[pool]]\nname = \"udp\"\nbackends = [\"{}:5300\"]\n{OFF}\n",
        BACKENDS[0]
    );
    let front = lab.front.clone();
    let line = lab.on_front(move || {
        let daemon =
            Daemon::start_with(&Setup { name: "udp-firewall", node: "", body: &body, namespace: Some(&front) });
        let address: SocketAddr = listen.parse().expect("an address");
        assert_eq!(ask(&client(address), address, b"hello"), None);
        caused(&daemon, "backend_unreachable")
    });
    assert_eq!(line["errno"], 113, "{line}");
}
