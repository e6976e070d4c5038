//! Reloads under load, counted: whatever a config changes, no request is without its answer and no connection is cut.
//!
//! Changes are drawn from a seed, which a failure prints. `EVENKEEL_RELOADS=1000` makes it as many, `EVENKEEL_SEED` plays one
//! again. Everything changes but two things, since clients need an address to ask at: four listeners stay, with other
//! settings each time, and each pool has a backend that stays.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{backend, polite};
use crate::counting::{Crew, Dice, Who, datagram_echo, line_echo, rounds, told};
use crate::daemon::{Daemon, free_address, until};
use crate::l7_speak::{Forge, Front, Issued, NAME};

/// Few enough for CI; each comes after some traffic.
const RELOADS: u32 = 200;

/// Addresses that come and go.
const PLACES: usize = 4;

struct Scene {
    forge: Arc<Forge>,
    web: SocketAddr,
    secure: SocketAddr,
    relay: SocketAddr,
    datagrams: SocketAddr,
    places: Vec<SocketAddr>,
    more_datagrams: SocketAddr,
    sites: Vec<SocketAddr>,
    lines: Vec<SocketAddr>,
    echoes: Vec<SocketAddr>,
    certificates: Vec<Issued>,
    renewed: Vec<Issued>,
}

impl Scene {
    fn new() -> Scene {
        let forge = Arc::new(Forge::new("reload_loss"));
        let certificate = |stem: &str| forge.issue(stem, &[NAME]);
        let certificates = vec![certificate("one"), certificate("two")];
        let renewed = vec![certificate("renewed-one"), certificate("renewed-two")];
        Scene {
            web: free_address(),
            secure: free_address(),
            relay: free_address(),
            datagrams: free_address(),
            more_datagrams: free_address(),
            places: (0..PLACES).map(|_| free_address()).collect(),
            sites: (0..4).map(|_| backend(polite)).collect(),
            lines: (0..2).map(|_| backend(line_echo)).collect(),
            echoes: (0..2).map(|_| datagram_echo()).collect(),
            certificates,
            renewed,
            forge,
        }
    }

    fn clients(&self) -> Vec<Who> {
        let mut clients = Vec::new();
        for front in Front::ALL {
            let address = if front.is_tls() { self.secure } else { self.web };
            clients.push(Who::Keeps(front, address));
            clients.push(Who::Keeps(front, address));
            clients.push(Who::Comes(front, address));
        }
        // Many, since each waits a second whenever it comes to an address that is about to be closed.
        clients.extend((0..12).map(|_| Who::Visits(self.places.clone())));
        for _ in 0..3 {
            clients.push(Who::Relayed(self.relay));
            clients.push(Who::Datagrams(self.datagrams));
        }
        clients
    }

    /// A certificate file gets other content, as when it is renewed.
    fn renew(&self, dice: &mut Dice) {
        let at = dice.below(self.certificates.len());
        let (from, to) = (&self.renewed[at], &self.certificates[at]);
        for (from, to) in [(&from.certificate, &to.certificate), (&from.key, &to.key)] {
            fs::copy(from, to).expect("the folder can be written");
        }
    }

    /// The same config without the listeners whose addresses come and go.
    fn without_guests(&self, config: &str) -> String {
        let mut rest = String::new();
        for (number, table) in config.split("[[listener]]").enumerate() {
            let is_guest = table.trim_start().starts_with("name = \"guest-");
            let kept = if is_guest { table.find("[[pool]]").map_or("", |pools| &table[pools..]) } else { table };
            if number > 0 && !is_guest {
                rest += "[[listener]]";
            }
            rest += kept;
        }
        rest
    }

    /// The next config. Everything in it is drawn anew, so that any follows any.
    fn config(&self, dice: &mut Dice) -> String {
        let mut text = String::new();
        let rules = |dice: &mut Dice| {
            let mut text = String::new();
            for (name, pool) in [("a", "web"), ("b", "other")] {
                if dice.heads() {
                    let _ = writeln!(
                        text,
                        "[[listener.rule]]\nname = \"{name}\"\nhost = \"{NAME}\"\npath = \"/\"\nmethod = \"GET\"\npool = \"{pool}\""
                    );
                    break;
                }
            }
            text
        };
        let web_keys = |dice: &mut Dice| {
            let timeout = dice.of(&["20s", "30s", "60s"]);
            let limit = dice.of(&["16KiB", "32KiB"]);
            format!(
                "pool = \"web\"\nkeep_alive_timeout = \"{timeout}\"\nheader_limit = \"{limit}\"\nbacklog = {}\n",
                512 + dice.below(3) * 512
            )
        };
        let _ =
            write!(text, "[[listener]]\nname = \"web\"\nlisten = \"{}\"\n{}{}", self.web, web_keys(dice), rules(dice));
        let _ = write!(
            text,
            "[[listener]]\nname = \"secure\"\nlisten = \"{}\"\nprotocol = \"https\"\n{}",
            self.secure,
            web_keys(dice)
        );
        for issued in &self.certificates[..1 + dice.below(2)] {
            let _ = write!(text, "[[listener.certificate]]\n{}", issued.keys());
        }
        let policy = dice.of(&["intermediate", "modern"]);
        let _ = write!(text, "[listener.tls]\npolicy = \"{policy}\"\n{}", rules(dice));
        let idle = dice.of(&["5m", "10m"]);
        let _ = writeln!(
            text,
            "[[listener]]\nname = \"relay\"\nlisten = \"{}\"\nprotocol = \"tcp\"\npool = \"lines\"\nidle_timeout = \"{idle}\"",
            self.relay
        );
        let _ = writeln!(
            text,
            "[[listener]]\nname = \"datagrams\"\nlisten = \"{}\"\nprotocol = \"udp\"\npool = \"echoes\"\nidle_timeout = \"{idle}\"",
            self.datagrams
        );
        if dice.heads() {
            let _ = writeln!(
                text,
                "[[listener]]\nname = \"more\"\nlisten = \"{}\"\nprotocol = \"udp\"\npool = \"echoes\"",
                self.more_datagrams
            );
        }
        // Addresses pass from name to name, come and go; some names have two.
        let mut free: Vec<SocketAddr> = self.places.clone();
        for number in 0..PLACES {
            let count = dice.below(3).min(free.len());
            let have: Vec<String> =
                (0..count).map(|_| format!("\"{}\"", free.swap_remove(dice.below(free.len())))).collect();
            if have.is_empty() {
                continue;
            }
            let _ = write!(
                text,
                "[[listener]]\nname = \"guest-{number}\"\nlisten = [{}]\nprotocol = \"http\"\n{}",
                have.join(", "),
                web_keys(dice)
            );
        }
        for name in ["web", "other"] {
            let first = dice.below(self.sites.len());
            let count = 1 + dice.below(self.sites.len());
            let backends: Vec<String> = (0..count)
                .map(|at| {
                    let address = self.sites[(first + at) % self.sites.len()];
                    format!("{{ address = \"{address}\", weight = {} }}", 1 + dice.below(10))
                })
                .collect();
            let schedule = dice.of(&["wrr", "rr", "wlc", "p2c"]);
            let check = dice.of(&[
                "check = \"off\"",
                "check = { kind = \"http\", interval = \"500ms\", timeout = \"5s\" }",
                "check = { kind = \"tcp\", interval = \"1s\", timeout = \"5s\" }",
            ]);
            let _ = writeln!(
                text,
                "[[pool]]\nname = \"{name}\"\nbackends = [{}]\nschedule = \"{schedule}\"\n{check}",
                backends.join(", ")
            );
        }
        for (name, staying, other) in
            [("lines", self.lines[0], self.lines[1]), ("echoes", self.echoes[0], self.echoes[1])]
        {
            let backends = if dice.heads() { format!("\"{staying}\", \"{other}\"") } else { format!("\"{staying}\"") };
            let _ = writeln!(text, "[[pool]]\nname = \"{name}\"\nbackends = [{backends}]\ncheck = \"off\"");
        }
        if dice.heads() {
            let _ = writeln!(text, "[[pool]]\nname = \"extra-{}\"\nbackends = []", dice.below(5));
        }
        text
    }
}

#[test]
fn reloads_of_anything_under_load_lose_no_request_and_cut_no_connection() {
    let seed = u64::from(rounds("EVENKEEL_SEED", std::process::id()));
    let reloads = rounds("EVENKEEL_RELOADS", RELOADS);
    let scene = Scene::new();
    let mut dice = Dice::new(seed);
    let daemon = Daemon::start("reload_loss", &scene.config(&mut dice));
    let crew = Crew::start(&scene.forge, Duration::from_millis(15), &scene.clients());
    let begun = Instant::now();
    for round in 1..=reloads {
        // Traffic in between, or the reloads would all fall into one pause.
        let before = crew.answered();
        until("traffic between two reloads", || (crew.answered() >= before + 30).then_some(()));
        if dice.below(4) == 0 {
            scene.renew(&mut dice);
        }
        // Addresses that come back soon get their sockets back. Now and then all of them leave until those are closed.
        let all_leave = round % 40 == 0;
        let mut config = scene.config(&mut dice);
        if all_leave {
            config = scene.without_guests(&config);
        }
        let line = daemon.reload(&config);
        assert!(line.contains(" node.reloaded "), "seed {seed}: {line}");
        if all_leave {
            until("the sockets of those that left to close", || {
                scene.places.iter().all(|place| daemon.listening_inodes(*place).is_empty()).then_some(())
            });
        }
    }
    let took = begun.elapsed();
    let books = crew.stop();
    let table = told(&books);
    eprintln!("{reloads} reloads in {took:?}, seed {seed}:\n{table}");
    assert!(books.values().all(|book| book.lost.is_empty() && book.asked == book.answered), "seed {seed}:\n{table}");
    assert!(
        books.values().all(|book| book.answered >= 10),
        "a kind of client that hardly asked proves nothing:\n{table}"
    );
    let refused = books.values().map(|book| book.refused).sum::<u64>();
    assert!(refused > 0 || reloads < 40, "nobody came to an address that was closed:\n{table}");
    // The node has seen the same: whatever it wrote of a failure would be a request that a client was not given.
    let failed: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(failed.is_empty(), "seed {seed}: {} failures in the log, the first: {:#?}", failed.len(), failed.first());
}
