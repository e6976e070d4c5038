//! The recipes of the manual as they stand, with other addresses in them, in front of the servers they are for.
//!
//! A recipe that compiles may still be wrong: a check that its servers do not pass, a timer that cuts what it should carry. Each is
//! asked for the one thing it promises. PHP and mail are not here: the fault lab has nginx with php-fpm, and `proxy_protocol.rs`
//! Dovecot; their checks are tried in `health_kinds.rs`.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, free_address, own_ip, until};
use crate::real_dns::Dnsmasq;
use crate::real_redis::Redis;
use crate::servers::Server;
use crate::tools::{Authority, Key, Peer, have_all, python, run};

/// The recipe with each of the `swaps` made, every one of which it has to hold. Its `[node]`, always last, is the daemon's own.
fn recipe(name: &str, swaps: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/recipes/{name}.toml"));
    let mut text = fs::read_to_string(path).expect("the recipe is part of the project");
    for (theirs, ours) in swaps {
        assert!(text.contains(theirs), "{name}.toml has no {theirs}");
        text = text.replace(theirs, ours);
    }
    text.split("\n[node]").next().expect("a text has a beginning").to_owned()
}

fn quoted(address: SocketAddr) -> String {
    format!("\"{address}\"")
}

fn listed(address: SocketAddr) -> String {
    format!("[\"{address}\"]")
}

#[test]
fn web_serves_by_tls_and_sends_the_rest_there() {
    if !have_all("recipe web", &["openssl", "nginx", "curl"], &[]) {
        return;
    }
    let (one, two, tls, plain) = (free_address(), free_address(), free_address(), free_address());
    let site = |address: SocketAddr, word: &str| {
        format!("server {{ listen {address}; location / {{ return 200 '{word}'; }} }}\n")
    };
    let _nginx = Server::nginx(&[one, two], &(site(one, "one") + &site(two, "two")));
    let authority = Authority::new("recipe-web");
    let pair = authority.issue("www", Key::Ecdsa, &["www.example.com"]);
    let daemon = Daemon::start(
        "recipe-web",
        &recipe(
            "web",
            &[
                ("[\"0.0.0.0:443\", \"[::]:443\"]", listed(tls)),
                ("[\"0.0.0.0:80\", \"[::]:80\"]", listed(plain)),
                ("redirect_to_https = true", format!("redirect_to_https = {}", tls.port())),
                ("\"/etc/evenkeel/www.pem\"", format!("\"{}\"", pair.certificate.display())),
                ("\"/etc/evenkeel/www.key\"", format!("\"{}\"", pair.key.display())),
                ("\"10.0.0.11:8080\"", quoted(one)),
                ("\"10.0.0.12:8080\"", quoted(two)),
            ],
        ),
    );
    daemon.wait_verdict("web", &one.to_string(), "healthy");
    daemon.wait_verdict("web", &two.to_string(), "healthy");
    // From the plain address to the other by the redirect.
    let to = |address: SocketAddr| format!("www.example.com:{}:{}:{}", address.port(), address.ip(), address.port());
    let (authority, url) =
        (authority.file().display().to_string(), format!("http://www.example.com:{}/x", plain.port()));
    let (first, second) = (to(plain), to(tls));
    let said =
        run("curl", &["-fsSLi", "--cacert", &authority, "--connect-to", &first, "--connect-to", &second, &url], "");
    assert!(said.fine, "{}{}", said.out, said.err);
    let head = said.out.to_ascii_lowercase();
    assert!(head.contains("301") && head.contains("strict-transport-security: max-age=3600"), "{}", said.out);
    assert!(said.out.ends_with("one") || said.out.ends_with("two"), "{}", said.out);
}

#[test]
fn grpc_calls_pass_and_the_service_says_itself_that_it_is_well() {
    if !have_all("recipe grpc", &["openssl"], &["grpc"]) {
        return;
    }
    let (host, listen) = (own_ip().to_string(), free_address());
    let peers = [(); 2].map(|()| Peer::start("grpc_peer.py", &host, &["serve", &format!("{host}:0")]));
    let authority = Authority::new("recipe-grpc");
    let pair = authority.issue("www", Key::Ecdsa, &["localhost"]);
    let daemon = Daemon::start(
        "recipe-grpc",
        &recipe(
            "grpc",
            &[
                ("\"0.0.0.0:443\"", quoted(listen)),
                ("\"/etc/evenkeel/www.pem\"", format!("\"{}\"", pair.certificate.display())),
                ("\"/etc/evenkeel/www.key\"", format!("\"{}\"", pair.key.display())),
                ("\"10.0.0.11:50051\"", quoted(peers[0].address)),
                ("\"10.0.0.12:50051\"", quoted(peers[1].address)),
                ("\"shop.v1.Orders\"", "\"\"".to_owned()),
            ],
        ),
    );
    for peer in &peers {
        daemon.wait_verdict("orders", &peer.address.to_string(), "healthy");
    }
    let words = ["ask", &listen.to_string(), &authority.file().display().to_string(), "localhost"];
    assert_eq!(python("grpc_peer.py", &words)["status"], "OK");
}

#[test]
fn websocket_tunnels_run_beside_pages() {
    if !have_all("recipe websocket", &[], &["websockets", "h2"]) {
        return;
    }
    let (host, listen) = (own_ip().to_string(), free_address());
    let peers = [(); 2].map(|()| Peer::start("websocket_peer.py", &host, &["serve", &host]));
    let page = crate::backend::backend(crate::backend::polite);
    let daemon = Daemon::start(
        "recipe-websocket",
        &recipe(
            "websocket",
            &[
                ("\"0.0.0.0:80\"", quoted(listen)),
                ("\"10.0.0.11:8080\", \"10.0.0.12:8080\"", quoted(page)),
                ("\"10.0.0.21:8080\"", quoted(peers[0].address)),
                ("\"10.0.0.22:8080\"", quoted(peers[1].address)),
                // The peer speaks nothing else than WebSocket.
                ("[pool.check]\npath = \"/health\"", "[pool.check]\nkind = \"tcp\"".to_owned()),
            ],
        ),
    );
    daemon.wait_verdict("pages", &page.to_string(), "healthy");
    for peer in &peers {
        daemon.wait_verdict("sockets", &peer.address.to_string(), "healthy");
    }
    let (ip, port) = (listen.ip().to_string(), listen.port().to_string());
    let told = python("websocket_peer.py", &["http2", &ip, &port, "/socket/chat"]);
    assert_eq!(
        (&told["status"], &told["text"], &told["large"]),
        (&json!("200"), &json!("grüße"), &json!(true)),
        "{told}"
    );
    assert_eq!(daemon.wait_log("/socket/chat")["pool"], "sockets");
    assert_eq!(crate::client::Wire::open(listen).get("/page").status, 200);
    assert_eq!(daemon.wait_log("/page")["pool"], "pages");
}

#[test]
fn dns_answers_come_back_and_a_server_with_wrong_ones_is_out() {
    if !have_all("recipe dns", &["dnsmasq"], &[]) {
        return;
    }
    let (right, wrong, udp, tcp) = (Dnsmasq::start(), Dnsmasq::start(), free_address(), free_address());
    let ask = |answer: &str| {
        recipe(
            "dns",
            &[
                ("[\"0.0.0.0:53\", \"[::]:53\"]\nprotocol = \"udp\"", format!("\"{udp}\"\nprotocol = \"udp\"")),
                ("[\"0.0.0.0:53\", \"[::]:53\"]\nprotocol = \"tcp\"", format!("\"{tcp}\"\nprotocol = \"tcp\"")),
                ("\"10.0.0.51:53\"", quoted(right.address)),
                ("\"10.0.0.52:53\"", quoted(wrong.address)),
                ("\"www.example.com\"", "\"a.bench.test\"".to_owned()),
                ("\"192.0.2.80\"", format!("\"{answer}\"")),
            ],
        )
    };
    let daemon = Daemon::start("recipe-dns", &ask("192.0.2.7"));
    daemon.wait_verdict("dns", &right.address.to_string(), "healthy");
    daemon.wait_verdict("dns", &wrong.address.to_string(), "healthy");
    let client = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes a timeout");
    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x05bench\x04test\x00\x00\x01\x00\x01";
    let mut answer = [0; 512];
    let size = until("an answer by the balancer", || {
        client.send_to(QUERY, udp).ok()?;
        client.recv(&mut answer).ok()
    });
    assert!(answer[..size].ends_with(&[192, 0, 2, 7]), "{:x?}", &answer[..size]);
    // The servers answer as before; what is expected of them is another address now.
    daemon.reload(&ask("192.0.2.80"));
    daemon.wait_verdict("dns", &right.address.to_string(), "unhealthy");
    daemon.wait_verdict("dns", &wrong.address.to_string(), "unhealthy");
}

#[test]
fn redis_writes_follow_the_master() {
    if !have_all("recipe redis", &["redis-server", "redis-cli"], &[]) {
        return;
    }
    let redis = ["first", "second", "third"].map(Redis::start);
    let follow = |which: usize, of: usize| {
        let (ip, port) = (redis[of].address.ip().to_string(), redis[of].address.port().to_string());
        assert_eq!(redis[which].ask(&["REPLICAOF", &ip, &port]), "OK");
    };
    follow(1, 0);
    follow(2, 0);
    let (writes, reads) = (free_address(), free_address());
    let mut swaps = vec![("\"127.0.0.1:6379\"", quoted(writes)), ("\"127.0.0.1:6380\"", quoted(reads))];
    let theirs = ["\"10.0.0.71:6379\"", "\"10.0.0.72:6379\"", "\"10.0.0.73:6379\""];
    swaps.extend(theirs.into_iter().zip(&redis).map(|(theirs, redis)| (theirs, quoted(redis.address))));
    let daemon = Daemon::start("recipe-redis", &recipe("redis", &swaps));
    let wait = |pool: &str, verdicts: [&str; 3]| {
        for (redis, verdict) in redis.iter().zip(verdicts) {
            daemon.wait_verdict(pool, &redis.address.to_string(), verdict);
        }
    };
    let ask = |at: SocketAddr, command: &[&str]| {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        run("redis-cli", &[&["-h", &ip, "-p", &port], command].concat(), "").out.trim().to_owned()
    };
    wait("master", ["healthy", "unhealthy", "unhealthy"]);
    wait("replicas", ["unhealthy", "healthy", "healthy"]);
    assert_eq!(ask(writes, &["SET", "order", "7"]), "OK");
    until("a replica with the write", || (ask(reads, &["GET", "order"]) == "7").then_some(()));
    // What Sentinel would do.
    assert_eq!(redis[1].ask(&["REPLICAOF", "NO", "ONE"]), "OK");
    follow(0, 1);
    follow(2, 1);
    wait("master", ["unhealthy", "healthy", "unhealthy"]);
    assert_eq!(ask(writes, &["SET", "order", "8"]), "OK");
    assert_eq!(redis[1].ask(&["GET", "order"]), "8");
}

#[test]
fn a_player_stays_with_its_game_and_finds_it_again() {
    let listen = free_address();
    let lobby = |name: &'static str| {
        let socket = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
        let address = socket.local_addr().expect("a bound socket has an address");
        // It lives as long as the test's process.
        std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((size, player)) = socket.recv_from(&mut bytes) {
                let asked = bytes[..size].ends_with(b"Source Engine Query\0");
                let answer = if asked { b"\xff\xff\xff\xffI\x11a game\0".as_slice() } else { name.as_bytes() };
                let _ = socket.send_to(answer, player);
            }
        });
        address
    };
    let lobbies = [lobby("red"), lobby("blue")];
    let daemon = Daemon::start(
        "recipe-game",
        &recipe(
            "game",
            &[
                ("\"0.0.0.0:27015\"", quoted(listen)),
                ("\"10.0.0.61:27015\"", quoted(lobbies[0])),
                ("\"10.0.0.62:27015\"", quoted(lobbies[1])),
            ],
        ),
    );
    for lobby in lobbies {
        daemon.wait_verdict("game", &lobby.to_string(), "healthy");
    }
    let ip = own_ip();
    let play = || {
        let socket = UdpSocket::bind((ip, 0)).expect("loopback has free ports");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes a timeout");
        let mut bytes = [0; 64];
        let size = until("an answer of the game", || {
            socket.send_to(b"move", listen).ok()?;
            socket.recv(&mut bytes).ok()
        });
        String::from_utf8_lossy(&bytes[..size]).into_owned()
    };
    // Each time with another port, as after a drop of the line.
    let first = play();
    for _ in 0..10 {
        assert_eq!(play(), first);
    }
}
