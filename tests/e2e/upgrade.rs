//! One process takes the place of another, counted: no request, no connection and no datagram is lost, and nobody has to
//! begin anew.
//!
//! `EVENKEEL_UPGRADES=100` makes it as many.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::{backend, polite, read_head};
use crate::client::Wire;
use crate::counting::{Crew, Who, datagram_echo, line_echo, rounds, told};
use crate::daemon::{Daemon, Folder, Setup, free_address, has, skipped, until};
use crate::l7_speak::{Forge, Front, NAME};
use crate::tools::run;

const UPGRADES: u32 = 20;

/// Everything there is, in front of servers that answer.
pub struct Site {
    pub forge: Arc<Forge>,
    pub web: SocketAddr,
    secure: SocketAddr,
    relay: SocketAddr,
    datagrams: SocketAddr,
    pub config: String,
}

impl Site {
    pub fn new(name: &str) -> Site {
        let forge = Arc::new(Forge::new(name));
        let [web, secure, relay, datagrams] = std::array::from_fn(|_| free_address());
        let certificate = forge.issue("site", &[NAME]);
        let (first, second, lines, echo) = (backend(polite), backend(polite), backend(line_echo), datagram_echo());
        let config = format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{web}\"\nprotocol = \"http\"\npool = \"web\"\n\
             [[listener]]\nname = \"secure\"\nlisten = \"{secure}\"\nprotocol = \"https\"\npool = \"web\"\n\
             [[listener.certificate]]\n{}\n\
             [[listener]]\nname = \"relay\"\nlisten = \"{relay}\"\nprotocol = \"tcp\"\npool = \"lines\"\n\
             [[listener]]\nname = \"datagrams\"\nlisten = \"{datagrams}\"\nprotocol = \"udp\"\npool = \"echo\"\n\
             [[pool]]\nname = \"web\"\nbackends = [\"{first}\", \"{second}\"]\n\
             check = {{ kind = \"http\", interval = \"200ms\", timeout = \"5s\" }}\n\
             [[pool]]\nname = \"lines\"\nbackends = [\"{lines}\"]\ncheck = \"off\"\n\
             [[pool]]\nname = \"echo\"\nbackends = [\"{echo}\"]\ncheck = \"off\"\n",
            certificate.keys()
        );
        Site { forge, web, secure, relay, datagrams, config }
    }

    pub fn clients(&self) -> Vec<Who> {
        let mut clients = Vec::new();
        for front in Front::ALL {
            let address = if front.is_tls() { self.secure } else { self.web };
            clients.extend([Who::Keeps(front, address), Who::Keeps(front, address), Who::Comes(front, address)]);
        }
        clients.extend([Who::Relayed(self.relay), Who::Relayed(self.relay)]);
        clients.extend([Who::Datagrams(self.datagrams), Who::Datagrams(self.datagrams)]);
        clients
    }
}

#[test]
fn one_process_after_another_takes_over_and_nobody_notices() {
    let upgrades = rounds("EVENKEEL_UPGRADES", UPGRADES);
    let site = Site::new("upgrades");
    // Relayed connections last as long as the test; the processes that have them, too.
    let setup = Setup { name: "upgrades", node: "drain_timeout = \"1h\"", body: &site.config, namespace: None };
    let mut daemon = Daemon::start_with(&setup);
    let crew = Crew::start(&site.forge, Duration::from_millis(15), &site.clients());
    let begun = Instant::now();
    let mut failed = Vec::new();
    for _ in 0..upgrades {
        let before = crew.answered();
        until("traffic between two upgrades", || (crew.answered() >= before + 100).then_some(()));
        daemon.upgrade().unwrap_or_else(|line| failed.push(line));
    }
    let took = begun.elapsed();
    let books = crew.stop();
    let table = told(&books);
    eprintln!("{upgrades} upgrades in {took:?}:\n{table}");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(books.values().all(|book| book.lost.is_empty() && book.asked == book.answered), "{table}");
    assert!(
        books.values().all(|book| book.answered >= 50),
        "a kind of client that hardly asked proves nothing:\n{table}"
    );
    // A session of UDP begins anew with each process; a connection does not.
    assert_eq!(books["tcp"].moved, 0, "a backend saw somebody new:\n{table}");
    let failed: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(failed.is_empty(), "{} failures in the log, the first: {:#?}", failed.len(), failed.first());
}

#[test]
fn clients_and_verdicts_stay_where_they_are() {
    if !has("openssl") {
        return skipped("what stays over an upgrade", "openssl");
    }
    let forge = Forge::new("upgrade_stays");
    let [plain, tls, by_address] = std::array::from_fn(|_| free_address());
    let certificate = forge.issue("site", &[NAME]);
    let servers: Vec<String> = (0..4).map(|_| format!("\"{}\"", backend(named))).collect();
    let pool = |name: &str, sticky: &str| {
        format!(
            "[[pool]]\nname = \"{name}\"\nbackends = [{}]\ncheck = {{ kind = \"tcp\", interval = \"1h\" }}\n\
             [pool.sticky]\n{sticky}\n",
            servers.join(", ")
        )
    };
    let listener = |name: &str, address: SocketAddr, protocol: &str, pool: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"{protocol}\"\npool = \"{pool}\"\n"
        )
    };
    let body = listener("plain", plain, "http", "cookie")
        + &listener("by-address", by_address, "tcp", "address")
        + &listener("tls", tls, "https", "cookie")
        + &format!("[[listener.certificate]]\n{}", certificate.keys())
        + &pool("cookie", "mode = \"insert\"")
        + &pool("address", "mode = \"address\"\ntimeout = \"1h\"");
    let mut daemon = Daemon::start("upgrade_stays", &body);
    let addresses: Vec<&str> = servers.iter().map(|server| server.trim_matches('"')).collect();
    for address in &addresses {
        daemon.wait_verdict("cookie", address, "healthy");
    }
    let since = |daemon: &Daemon| -> Vec<Value> {
        addresses.iter().map(|address| daemon.backend("cookie", address)["verdict"].clone()).collect()
    };
    let verdicts = since(&daemon);

    let first = Wire::open(plain).get("/");
    let server = first.payload();
    let cookie = first.field("set-cookie").and_then(|field| field.split(';').next()).expect("a cookie").to_owned();
    let home = Wire::open(by_address).get("/").payload();
    let session = Folder::new("upgrade_session");
    let file = session.0.join("ticket").display().to_string();
    let handshake = |option: &str, target: &str| {
        let connect = tls.to_string();
        let arguments = ["s_client", "-connect", &connect, "-servername", NAME, "-quiet", option, &file];
        let said =
            run("openssl", &arguments, &format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"));
        assert!(said.out.contains("200 OK"), "{} {}", said.out, said.err);
    };
    handshake("-sess_out", "/new");
    assert_eq!(daemon.wait_log("/new")["tls_resumed"], false);

    for round in 0..3 {
        let from = daemon.events().len();
        daemon.upgrade().expect("the same binary");
        assert_eq!(since(&daemon), verdicts, "known from the first moment on");
        for _ in 0..8 {
            let mut wire = Wire::open(plain);
            wire.send(format!("GET / HTTP/1.1\r\nHost: e2e\r\nCookie: {cookie}\r\n\r\n"));
            assert_eq!(wire.answer().expect("an answer").payload(), server, "the cookie still names its backend");
            assert_eq!(Wire::open(by_address).get("/").payload(), home, "the address is still known");
        }
        let target = format!("/again-{round}");
        handshake("-sess_in", &target);
        assert_eq!(daemon.wait_log(&target)["tls_resumed"], true);
        let flaps: Vec<String> =
            daemon.events().into_iter().skip(from).filter(|line| line.contains(" backend.")).collect();
        assert!(flaps.is_empty(), "a verdict was given anew: {flaps:#?}");
    }
}

/// Answers each request with its own address.
fn named(mut stream: TcpStream) {
    let Ok(own) = stream.local_addr().map(|address| address.to_string()) else { return };
    while read_head(&mut stream).is_some() {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{own}", own.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
