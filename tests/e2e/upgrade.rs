//! One process takes the place of another, counted: no request, no connection and no datagram is lost, and nobody has to
//! begin anew.
//!
//! `EVENKEEL_UPGRADES=100` makes it as many.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{backend, polite};
use crate::counting::{Crew, Who, datagram_echo, line_echo, rounds, told};
use crate::daemon::{Daemon, Setup, free_address, until};
use crate::l7_speak::{Forge, Front, NAME};

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
    assert!(books.values().all(|book| book.moved == 0), "a backend saw somebody new:\n{table}");
    let failed: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(failed.is_empty(), "{} failures in the log, the first: {:#?}", failed.len(), failed.first());
}
