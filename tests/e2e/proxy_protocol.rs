//! The PROXY protocol with real software at both ends: Dovecot, nginx and HAProxy read what we send, HAProxy sends
//! what we read.
//!
//! Clients are told apart by their loopback addresses, and each reader says whom it took for its client. What nobody
//! well-behaved sends (forged, broken and late headers) is sent by hand.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use evenkeel_wire::proxy::{self, Parsed, Sent};

use crate::backend::{backend, hold};
use crate::client::{End, Wire};
use crate::daemon::{Daemon, PATIENCE, free_address, own_ip, skipped};
use crate::servers::Server;
use crate::tools::{Authority, Key, have_all, run};

/// What nginx makes of a PROXY header: the client's and the server's address and port.
const SHOWS: &str = "return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
                     $proxy_protocol_server_port\";";

fn listener(name: &str, address: SocketAddr, protocol: &str, pool: &str, keys: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"{protocol}\"\npool = \"{pool}\"\n{keys}\n"
    )
}

fn pool(name: &str, backend: SocketAddr, keys: &str) -> String {
    format!("[[pool]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\ncheck = \"off\"\n{keys}\n")
}

fn curl(words: &[&str]) -> String {
    let said = run("curl", &[&["-sS", "--max-time", "30"], words].concat(), "");
    assert!(said.fine, "curl {words:?}: {}", said.err);
    said.out
}

/// A backend that hands out all it was sent on each connection, once the client has ended.
fn recorder() -> (SocketAddr, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let address = backend(move |mut stream: TcpStream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(b"got it");
        let _ = sender.lock().expect("nobody panics with it").send(all);
    });
    (address, receiver)
}

#[test]
fn dovecot_logs_the_address_of_the_client() {
    let programs = ["/usr/lib/dovecot/imap", "/usr/lib/dovecot/pop3", "curl"];
    if !have_all("proxy-dovecot", &programs, &[]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skipped("proxy-dovecot", "root, as whom Dovecot starts");
    }
    let [imap, pop3, front_imap, front_pop3] = std::array::from_fn(|_| free_address());
    let service = |protocol: &str, at: SocketAddr| {
        format!(
            "service {protocol}-login {{\n inet_listener {protocol} {{\n address = {}\n port = {}\n haproxy = yes\n }}\n \
             inet_listener {protocol}s {{\n port = 0\n }}\n}}\n",
            at.ip(),
            at.port()
        )
    };
    let text = format!("haproxy_trusted_networks = 127.0.0.0/8\n{}{}", service("imap", imap), service("pop3", pop3));
    let dovecot = Server::dovecot(&[imap, pop3], "ann", "secret", &text);
    for version in ["v1", "v2"] {
        let keys = format!("proxy_protocol = \"{version}\"");
        let text = listener("imap", front_imap, "tcp", "imap", "")
            + &listener("pop3", front_pop3, "tcp", "pop3", "")
            + &pool("imap", imap, &keys)
            + &pool("pop3", pop3, &keys);
        let daemon = Daemon::start("proxy-dovecot", &text);
        for (protocol, front) in [("imap", front_imap), ("pop3", front_pop3)] {
            let client = own_ip().to_string();
            let url = format!("{protocol}://{front}/");
            let out = curl(&["--interface", &client, "--user", "ann:secret", &url]);
            assert_eq!(out.contains("INBOX"), protocol == "imap", "{protocol}: {out}");
            let login = format!("{protocol}-login: ");
            dovecot.wait_log(&[&login, "Login: user=<ann>", &format!("rip={client},"), &format!("lip={}", front.ip())]);
            let line = daemon.wait_log_where(protocol, |line| line["listener"] == protocol);
            assert!(line["cause"].is_null(), "{line}");
        }
    }
}

#[test]
fn nginx_is_told_both_ends_in_both_versions_and_families() {
    if !have_all("proxy-nginx", &["nginx", "curl"], &[]) {
        return;
    }
    let server = free_address();
    let _nginx =
        Server::nginx(&[server], &format!("server {{ listen {server} proxy_protocol; location / {{ {SHOWS} }} }}"));
    for version in ["v1", "v2"] {
        let (v4, v6) = (free_address(), free_six());
        let text = listener("four", v4, "tcp", "web", "")
            + &listener("six", v6, "tcp", "web", "")
            + &pool("web", server, &format!("proxy_protocol = \"{version}\""));
        let daemon = Daemon::start("proxy-nginx", &text);
        for (name, front, client) in
            [("four", v4, IpAddr::V4(own_ip())), ("six", v6, "::1".parse().expect("an address"))]
        {
            let mut wire = Wire::open_from(client, front);
            let port = wire.stream.local_addr().expect("it is bound").port();
            wire.send("GET / HTTP/1.0\r\n\r\n");
            let answer = wire.answer().expect("an answer");
            let expected = format!("{client} {port} {} {}", front.ip(), front.port());
            assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{version} {name}");
            drop(wire);
            let line = daemon.wait_log_where(name, |line| line["listener"] == name);
            assert!(line["cause"].is_null(), "{line}");
        }
    }
}

fn free_six() -> SocketAddr {
    let socket = std::net::TcpListener::bind("[::1]:0").expect("loopback has IPv6");
    socket.local_addr().expect("a bound socket has an address")
}

#[test]
fn haproxy_reads_the_name_and_the_id_that_the_log_has_too() {
    if !have_all("proxy-haproxy", &["haproxy", "curl", "openssl"], &[]) {
        return;
    }
    let (authority, server, front) = (Authority::new("proxy-haproxy"), free_address(), free_address());
    let pair = authority.issue("site", Key::Ecdsa, &["shop.test"]);
    let both = pair.certificate.with_extension("both");
    let read = |path| std::fs::read(path).expect("openssl wrote it");
    std::fs::write(&both, [read(&pair.certificate), read(&pair.key)].concat()).expect("the folder can be written");
    let _haproxy = Server::haproxy(
        &[server],
        &format!(
            "frontend f\n mode http\n bind {server} accept-proxy ssl crt {}\n http-request return status 200 content-type \
             text/plain lf-string \"%[src] %[dst] %[fc_pp_authority] %[fc_pp_unique_id,hex]\"",
            both.display()
        ),
    );
    let text = listener("tls", front, "tls-passthrough", "web", "")
        + &pool(
            "web",
            server,
            "proxy_protocol = { version = \"v2\", tlvs = [\"authority\", \"alpn\", \"unique_id\"] }",
        );
    let daemon = Daemon::start("proxy-haproxy", &text);
    let (client, ca) = (own_ip().to_string(), authority.file());
    let to = format!("shop.test:443:{front}");
    let words = ["--interface", &client, "--cacert", &ca.to_string_lossy(), "--connect-to", &to, "https://shop.test/"];
    let out = curl(&words);
    let line = daemon.wait_log_where("tls", |line| line["listener"] == "tls");
    let id = line["id"].as_str().unwrap_or_else(|| panic!("no id in {line}"));
    let hex: String = id.bytes().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(out, format!("{client} {} shop.test {hex}", front.ip()));
}

#[test]
fn the_protocol_is_told_when_the_client_offers_one_only() {
    if !have_all("proxy-alpn", &["openssl"], &[]) {
        return;
    }
    let (sender, got) = channel();
    let sender = Mutex::new(sender);
    // It hangs up on the hello, so that openssl need not wait for an answer.
    let server = backend(move |mut stream| {
        let (mut all, mut space) = (Vec::new(), [0; 4096]);
        while !matches!(proxy::parse(&all), Parsed::Whole(_, used) if all.len() > used) {
            match stream.read(&mut space) {
                Ok(count @ 1..) => all.extend_from_slice(&space[..count]),
                _ => break,
            }
        }
        let _ = sender.lock().expect("nobody panics with it").send(all);
    });
    let front = free_address();
    let text = listener("tls", front, "tls-passthrough", "web", "")
        + &pool("web", server, "proxy_protocol = { version = \"v2\", tlvs = [\"alpn\"] }");
    let _daemon = Daemon::start("proxy-alpn", &text);
    for (offers, told) in [("imap", Some(&b"imap"[..])), ("h2,http/1.1", None)] {
        let words = ["s_client", "-connect", &front.to_string(), "-servername", "a.test", "-alpn", offers];
        run("openssl", &words, "");
        let all = got.recv_timeout(PATIENCE).expect("the backend was reached");
        let Parsed::Whole(header, used) = proxy::parse(&all) else { panic!("{}", all.escape_ascii()) };
        assert_eq!(header.alpn, told, "{offers}");
        assert_eq!(all[used], 22, "behind it the hello as it came");
    }
}

#[test]
fn what_haproxy_says_of_its_client_is_believed_and_passed_on() {
    if !have_all("proxy-accept", &["haproxy", "nginx", "curl"], &[]) {
        return;
    }
    let (server, ours, web) = (free_address(), free_address(), free_address());
    let fronts = [free_address(), free_address(), free_address()];
    let _nginx =
        Server::nginx(&[server], &format!("server {{ listen {server} proxy_protocol; location / {{ {SHOWS} }} }}"));
    let proxy = own_ip();
    let [v1, v2, http] = fronts;
    let part = |name: &str, front: SocketAddr, to: SocketAddr, send: &str| {
        format!("listen {name}\n mode tcp\n bind {front}\n source {proxy}\n server s {to} {send}\n")
    };
    let options = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
    let text = part("v1", v1, ours, "send-proxy")
        + &part("v2", v2, ours, options)
        + " unique-id-format %{+X}o%ci%cp%Ts\n"
        + &part("http", http, web, options);
    let _haproxy = Server::haproxy(&fronts, &text);
    let trusts = format!("proxy_protocol = {{ from = [\"{proxy}/32\"] }}");
    let mirror = backend(crate::tools::mirror);
    let text = listener("tcp", ours, "tcp", "shows", &trusts)
        + &listener("http", web, "http", "mirror", &trusts)
        + &pool("shows", server, "proxy_protocol = \"v2\"")
        + &pool("mirror", mirror, "");
    let daemon = Daemon::start("proxy-accept", &text);
    for front in [v1, v2] {
        let client = own_ip().to_string();
        let out = curl(&["--interface", &client, &format!("http://{front}/")]);
        let words: Vec<&str> = out.split(' ').collect();
        // Where the client went is what HAProxy was asked for, not what it asked of us.
        assert_eq!((words[0], words[2], words[3]), (&*client, &*front.ip().to_string(), &*front.port().to_string()));
        let line = daemon.wait_log_where(&client, |line| {
            line["client"].as_str().is_some_and(|shown| shown.split(':').next() == Some(&client))
        });
        assert!(line["cause"].is_null(), "{line}");
    }
    // The same for requests: the header's client is the one backends are told of.
    let client = own_ip().to_string();
    let out = curl(&["--interface", &client, &format!("http://{http}/asked")]);
    assert!(out.to_ascii_lowercase().contains(&format!("x-forwarded-for: {client}\r\n")), "{out}");
    assert!(out.to_ascii_lowercase().contains(&format!("x-forwarded-port: {}\r\n", http.port())), "{out}");
    let line = daemon.wait_log("/asked");
    assert!(line["client"].to_string().contains(&client), "{line}");
}

/// What a sender that is believed may do wrong, and what the log says of it.
#[test]
fn a_believed_sender_without_a_good_header_gets_nowhere() {
    let ((server, got), front, proxy) = (recorder(), free_address(), own_ip());
    let keys = format!("header_timeout = \"300ms\"\nproxy_protocol = {{ from = [\"{proxy}\"] }}");
    let text = listener("tcp", front, "tcp", "web", &keys) + &pool("web", server, "");
    let daemon = Daemon::start("proxy-invalid", &text);
    let mut wrong_sum = Vec::new();
    let from = SocketAddr::from(([192, 0, 2, 7], 4711));
    let sent = Sent { client: from, local: from, datagram: false, authority: None, alpn: None, unique_id: None };
    proxy::write_v2(&mut wrong_sum, &sent);
    wrong_sum[15] += 7;
    wrong_sum.extend([3, 0, 4, 0, 0, 0, 0]);
    // Without words for the fault it is the time that ran out.
    let table: [(&str, &[u8], Option<&str>); 5] = [
        ("none", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some("no PROXY header")),
        ("broken", b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\nhello", Some("bad port")),
        ("checksum", &wrong_sum, Some("checksum")),
        ("slow", b"PROXY TCP4 192.0.2.7", None),
        ("silent", b"", None),
    ];
    for (count, (name, bytes, detail)) in table.into_iter().enumerate() {
        let mut wire = Wire::open_from(proxy.into(), front);
        wire.send(bytes);
        let (answer, _) = wire.rest();
        assert!(answer.is_empty(), "{name}: {answer:?}");
        let from = wire.stream.local_addr().expect("it is bound").to_string();
        let line = daemon.wait_log_where(name, |line| line["client"] == from);
        assert_eq!((&line["cause"], &line["bytes_in"]), (&"client_proxy_header_invalid".into(), &bytes.len().into()));
        match detail {
            Some(words) => assert!(line["detail"].to_string().contains(words), "{line}"),
            None => assert_eq!(line["timeout_ms"], 300.0, "{line}"),
        }
        assert_eq!((&line["phase"], &line["blame"]), (&"accept".into(), &"operator".into()), "{line}");
        let labels = ["listener=\"tcp\"", "cause=\"client_proxy_header_invalid\""];
        assert_eq!(daemon.metric("evenkeel_failures_total", &labels), (count + 1) as f64, "{name}");
    }
    assert!(got.try_recv().is_err(), "no backend was asked");
}

#[test]
fn a_header_of_a_stranger_is_plain_bytes_for_the_backend() {
    let ((server, got), front, proxy) = (recorder(), free_address(), own_ip());
    let keys = format!("proxy_protocol = {{ from = [\"{proxy}\"] }}");
    let text = listener("tcp", front, "tcp", "web", &keys) + &pool("web", server, "");
    let daemon = Daemon::start("proxy-forged", &text);
    let stranger = own_ip();
    let forged = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello";
    let mut wire = Wire::open_from(stranger.into(), front);
    wire.send(forged);
    wire.stream.shutdown(std::net::Shutdown::Write).expect("the connection stands");
    assert_eq!(wire.rest(), (b"got it".to_vec(), End::Closed));
    assert_eq!(got.recv_timeout(PATIENCE).expect("the backend was reached"), forged);
    let line = daemon.wait_log_where("the stranger", |line| line["listener"] == "tcp");
    assert!(line["client"].to_string().contains(&stranger.to_string()), "{line}");
    assert!(line["cause"].is_null(), "{line}");
}

#[test]
fn lists_and_limits_mean_the_client_of_the_header() {
    let (server, front, proxy) = (backend(hold), free_address(), own_ip());
    let keys = format!(
        "proxy_protocol = {{ from = [\"{proxy}\"] }}\n[listener.access]\ndeny = [\"192.0.2.0/24\", \"2001:db8:bad::/48\"]\n\
         [listener.limit]\nclient_connections = 1\n"
    );
    let text = listener("tcp", front, "tcp", "web", &keys) + &pool("web", server, "");
    let daemon = Daemon::start("proxy-lists", &text);
    let open = |client: &str| {
        let mut wire = Wire::open_from(proxy.into(), front);
        let family = if client.contains(':') { "TCP6 {} ::1 4711 443\r\n" } else { "TCP4 {} 127.0.0.1 4711 443\r\n" };
        wire.send(format!("PROXY {}", family.replace("{}", client)));
        wire
    };
    for (client, known_as) in
        [("192.0.2.7", "192.0.2.7"), ("2001:db8:bad::7", "2001:db8:bad::7"), ("::ffff:192.0.2.8", "192.0.2.8")]
    {
        assert_eq!(open(client).rest(), (Vec::new(), End::Reset), "{client}");
        let line = daemon.wait_log_where(client, |line| line["client"].to_string().contains(known_as));
        assert_eq!(line["cause"], "client_denied_by_acl", "{line}");
    }
    // The second connection of one client is one too many, and one of another is not.
    let (_first, _other) = (open("198.51.100.1"), open("198.51.100.2"));
    let reached = || daemon.metric("evenkeel_backend_connections_total", &["pool=\"web\""]);
    crate::daemon::until("both to reach the backend", || (reached() == 2.0).then_some(()));
    assert_eq!(open("198.51.100.1").rest(), (Vec::new(), End::Reset));
    daemon.wait_log_where("one too many", |line| line["cause"] == "client_too_many_connections");
}

#[test]
fn udp_backends_are_told_on_the_first_datagram_or_on_each() {
    for (datagrams, on) in [("first", [true, false]), ("each", [true, true])] {
        let server = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        let (backend, front) = (server.local_addr().expect("it is bound"), free_address());
        let text = listener("udp", front, "udp", "web", "")
            + &pool("web", backend, &format!("proxy_protocol = {{ version = \"v2\", datagrams = \"{datagrams}\" }}"));
        let _daemon = Daemon::start("proxy-udp", &text);
        let client = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        let mut space = [0; 2048];
        for headed in on {
            client.send_to(b"question", front).expect("it is sent");
            let (count, from) = server.recv_from(&mut space).expect("it arrives");
            let expected = Some((client.local_addr().expect("it is bound"), front));
            let payload = match proxy::parse(&space[..count]) {
                Parsed::Whole(header, used) => {
                    assert_eq!((headed, header.client, header.datagram), (true, expected, true), "{datagrams}");
                    &space[used..count]
                }
                other => {
                    assert!(!headed, "{datagrams}: {other:?}");
                    &space[..count]
                }
            };
            assert_eq!(payload, b"question");
            // Answers carry no header in either direction.
            server.send_to(b"answer", from).expect("it is sent");
            let (count, from) = client.recv_from(&mut space).expect("it arrives");
            assert_eq!((&space[..count], from), (&b"answer"[..], front));
        }
    }
}

#[test]
fn udp_senders_that_are_believed_begin_with_a_header() {
    let server = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    server.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let (backend, front, proxy) = (server.local_addr().expect("it is bound"), free_address(), own_ip());
    let keys = format!("proxy_protocol = {{ from = [\"{proxy}\"] }}\n[listener.access]\ndeny = [\"192.0.2.0/24\"]");
    let text = listener("udp", front, "udp", "web", &keys) + &pool("web", backend, "proxy_protocol = \"v2\"");
    let daemon = Daemon::start("proxy-udp-from", &text);
    let sender = UdpSocket::bind((proxy, 0)).expect("loopback has free ports");
    let said = |client: Ipv4Addr| {
        let mut bytes = Vec::new();
        let (client, local) = ((client, 4711).into(), ([198, 51, 100, 1], 53).into());
        let sent = Sent { client, local, datagram: true, authority: None, alpn: None, unique_id: None };
        proxy::write_v2(&mut bytes, &sent);
        bytes.extend(b"question");
        bytes
    };
    sender.send_to(b"bare", front).expect("it is sent");
    let labels = ["listener=\"udp\"", "cause=\"client_proxy_header_invalid\""];
    crate::daemon::until("the bare datagram to be counted", || {
        (daemon.metric("evenkeel_failures_total", &labels) == 1.0).then_some(())
    });
    sender.send_to(&said(Ipv4Addr::new(192, 0, 2, 7)), front).expect("it is sent");
    daemon.wait_log_where("the denied client", |line| line["cause"] == "client_denied_by_acl");
    sender.send_to(&said(Ipv4Addr::new(203, 0, 113, 7)), front).expect("it is sent");
    let mut space = [0; 2048];
    let (count, _) = server.recv_from(&mut space).expect("it arrives");
    let Parsed::Whole(header, used) = proxy::parse(&space[..count]) else { panic!("no header") };
    let expected = (SocketAddr::from(([203, 0, 113, 7], 4711)), SocketAddr::from(([198, 51, 100, 1], 53)));
    assert_eq!((header.client, &space[used..count]), (Some(expected), &b"question"[..]));
}
