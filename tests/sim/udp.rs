//! UDP sessions on a network that loses, doubles and overtakes, while backends die, verdicts change, plans come and go and
//! nodes drain.
//!
//! Every datagram says whose it is, and every answer to what it answers. A second, naive book is kept of which client the
//! node's sockets speak for, so that one datagram at the wrong backend's session or at the wrong client shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::worker::Arrives;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::sim::{Chance, Dice, Faults, Net, UdpService, Way};

use crate::count;
use crate::world::{Operator, World, listener_address, plan};

const PORTS: [u16; 2] = [83, 84];

pub fn backend_address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, number], 8083))
}

/// `game` at port 83 and `chat` at 84, as far as they are among `listeners`; one pool.
pub fn config(listeners: &[&str], backends: &[u8], listener: &str, pool: &str) -> String {
    let mut text = String::from("[node]\ndrain_timeout = \"30s\"\n");
    for name in listeners {
        let port = if *name == "game" { PORTS[0] } else { PORTS[1] };
        let address = listener_address(port);
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\nprotocol = \"udp\"\npool = \"game\"\n{listener}\n"
        ));
    }
    let list: Vec<String> = backends.iter().map(|number| format!("\"{}\"", backend_address(*number))).collect();
    text.push_str(&format!(
        "[[pool]]\nname = \"game\"\nschedule = \"rr\"\ncheck = \"off\"\nbackends = [{}]\n{pool}\n",
        list.join(", ")
    ));
    text
}

/// A client's socket, and what it will send when.
struct Client {
    socket: UdpService,
    number: usize,
    to: SocketAddr,
    due: Vec<(Instant, usize)>,
    sent: usize,
    heard: BTreeMap<String, u32>,
}

struct Server {
    number: u8,
    socket: Option<UdpService>,
    /// Answers for each datagram.
    answers: usize,
}

enum Order {
    Verdicts(Vec<u8>),
    Plan { listeners: Vec<&'static str>, backends: Vec<u8> },
    Kill(u8),
    Start(u8),
    Way(u8, Way),
    Drain(Duration),
}

struct Story {
    world: World,
    clients: Vec<Client>,
    servers: Vec<Server>,
    orders: Vec<(Instant, Order)>,
    text: String,
    listeners: Vec<&'static str>,
    extra: (String, String),
    out: Vec<u8>,
    /// Which client each socket of the node speaks for.
    speaks_for: BTreeMap<SocketAddr, usize>,
    /// Datagrams that came to a backend.
    served: BTreeMap<String, u32>,
    deadline: Option<Instant>,
}

/// What client `number` says as its `turn`th, of at least `size` bytes.
fn question(number: usize, turn: usize, size: usize) -> Vec<u8> {
    let mut bytes = format!("client {number} turn {turn}\n").into_bytes();
    bytes.resize(bytes.len().max(size), b'.');
    bytes
}

fn head(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

fn number_of(head: &str) -> Option<usize> {
    head.strip_prefix("client ")?.split(' ').next()?.parse().ok()
}

impl Story {
    fn new(seed: u64, faults: Faults, dice: &mut Dice) -> Story {
        let listener = [
            "idle_timeout = \"5s\"\n".to_owned(),
            "idle_timeout = \"5s\"\nresponses = 1\n".to_owned(),
            "idle_timeout = \"5s\"\nrequests = 1\n".to_owned(),
            "idle_timeout = \"5s\"\nrequests = 3\nresponses = 2\nlifetime = \"4s\"\n".to_owned(),
        ];
        let listener = listener[dice.below(4) as usize].clone();
        let pools = ["", "on_unhealthy = \"reset\"\n", "schedule_\n", ""];
        let pool = pools[dice.below(4) as usize].replace("schedule_", "[pool.sticky]\nmode = \"address\"");
        let text = config(&["game", "chat"], &[1, 2, 3], &listener, &pool);
        let world = World::new(seed, faults, &text);
        let servers = (1..=3)
            .map(|number| Server {
                number,
                socket: Some(world.net.udp_service(backend_address(number))),
                answers: dice.below(3) as usize,
            })
            .collect();
        let mut story = Story {
            world,
            clients: Vec::new(),
            servers,
            orders: Vec::new(),
            text,
            listeners: vec!["game", "chat"],
            extra: (listener, pool),
            out: Vec::new(),
            speaks_for: BTreeMap::new(),
            served: BTreeMap::new(),
            deadline: None,
        };
        for number in 0..1 + dice.below(12) as usize {
            // Several of one host, told apart by their ports.
            let from = SocketAddr::from(([192, 0, 2, 1 + (number / 3) as u8], 4000 + number as u16));
            let socket = story.world.net.udp_service(from);
            let to = listener_address(dice.pick(&PORTS));
            let mut due = Vec::new();
            let size = dice.below(1200) as usize;
            for _ in 0..1 + dice.below(6) {
                let at = Instant::START + Duration::from_millis(dice.below(20_000));
                for _ in 0..1 + dice.below(9) {
                    due.push((at, if dice.below(4) == 0 { dice.below(1200) as usize } else { size }));
                }
                story.world.net.alarm(at);
            }
            due.sort_by_key(|(at, _)| *at);
            story.clients.push(Client { socket, number, to, due, sent: 0, heard: BTreeMap::new() });
        }
        story
    }

    fn order(&mut self, at: Instant, order: Order) {
        self.world.net.alarm(at);
        self.orders.push((at, order));
        self.orders.sort_by_key(|(at, _)| *at);
    }

    fn run(&mut self) {
        let mut world = std::mem::replace(&mut self.world, World::new(0, Faults::none(), &self.text));
        world.run(&mut |net, operator| self.act(net, operator), |_| false);
        self.world = world;
    }

    fn act(&mut self, net: &Net, operator: &mut Operator) {
        while self.orders.first().is_some_and(|(at, _)| *at <= net.now()) {
            let (_, order) = self.orders.remove(0);
            self.follow(net, operator, order);
        }
        for client in &mut self.clients {
            while client.sent < client.due.len() && client.due[client.sent].0 <= net.now() {
                let size = client.due[client.sent].1;
                client.socket.send(client.to, &question(client.number, client.sent, size));
                client.sent += 1;
            }
            while let Some((from, bytes)) = client.socket.recv() {
                let said = head(&bytes);
                if from != client.to || number_of(&said) != Some(client.number) {
                    panic!("SIM_SEED={}: client {} got \"{said}\" from {from}", net.seed(), client.number);
                }
                *client.heard.entry(said).or_default() += 1;
            }
        }
        for server in &mut self.servers {
            let Some(socket) = &server.socket else { continue };
            while let Some((from, bytes)) = socket.recv() {
                let said = head(&bytes);
                let number =
                    number_of(&said).unwrap_or_else(|| panic!("SIM_SEED={}: a backend got \"{said}\"", net.seed()));
                let known = *self.speaks_for.entry(from).or_insert(number);
                assert_eq!(known, number, "SIM_SEED={}: {from} speaks for two clients", net.seed());
                *self.served.entry(said.clone()).or_default() += 1;
                for answer in 0..server.answers {
                    let mut back = format!("{said} answer {answer} of {}\n", server.number).into_bytes();
                    back.resize(back.len().max(bytes.len()), b'.');
                    socket.send(from, &back);
                }
            }
        }
    }

    fn follow(&mut self, net: &Net, operator: &mut Operator, order: Order) {
        match order {
            Order::Verdicts(out) => self.out = out,
            Order::Plan { listeners, backends } => {
                for (name, port) in [("game", PORTS[0]), ("chat", PORTS[1])] {
                    if listeners.contains(&name) && !self.listeners.contains(&name) {
                        operator.bound(name, listener_address(port), Arrives::Datagrams);
                    }
                }
                self.text = config(&listeners, &backends, &self.extra.0, &self.extra.1);
                self.listeners = listeners;
            }
            Order::Kill(number) => {
                if let Some(socket) = self.servers[usize::from(number) - 1].socket.take() {
                    socket.close();
                }
                return;
            }
            Order::Start(number) => {
                let server = &mut self.servers[usize::from(number) - 1];
                server.socket.get_or_insert_with(|| net.udp_service(backend_address(number)));
                return;
            }
            Order::Way(number, way) => return net.set_way(backend_address(number), way),
            Order::Drain(timeout) => {
                let deadline = net.now() + timeout;
                self.deadline = Some(deadline);
                return operator.drain(deadline);
            }
        }
        let plan = plan(&self.text);
        let out: Vec<SocketAddr> = self.out.iter().map(|number| backend_address(*number)).collect();
        operator.publish(&plan, |address| !out.contains(&address));
    }

    /// What must hold whatever happened.
    fn check(&mut self) {
        let doubles = self.world.faults.datagram_double != Chance::NEVER;
        let most = if doubles { u32::MAX } else { 1 };
        for client in &self.clients {
            for (said, times) in &client.heard {
                if *times > most {
                    self.world.complaints.push(format!("client {} heard \"{said}\" {times} times", client.number));
                }
            }
        }
        for (said, times) in &self.served {
            if *times > most {
                self.world.complaints.push(format!("backends got \"{said}\" {times} times"));
            }
        }
        self.world.check_rest(&["game", "chat"]);
        let records = self.world.records.all();
        let metric = |of: fn(&evenkeel_observe::ListenerMetrics) -> u64| {
            ["game", "chat"].iter().map(|name| self.world.registry.sum_listener(name, of)).sum::<u64>()
        };
        let received: u64 = records.iter().filter_map(|record| record.datagrams).map(|all| all.received).sum();
        let sent: u64 = records.iter().filter_map(|record| record.datagrams).map(|all| all.sent).sum();
        let (came, left) = (metric(|m| m.datagrams_in.read()), metric(|m| m.datagrams_out.read()));
        let dropped = metric(|m| m.datagrams_dropped.read());
        let sessions = records.iter().filter(|record| record.pool.is_some()).count() as u64;
        let begun = metric(|m| m.connections.read());
        if received != came {
            self.world.complain(format!("{came} datagrams came, outcomes tell of {received}"));
        }
        if left > sent || sent > left + dropped {
            self.world.complain(format!("{left} datagrams left, {dropped} were lost here, outcomes tell of {sent}"));
        }
        if begun != sessions {
            self.world.complain(format!("{begun} sessions began and {sessions} ended"));
        }
        for record in &records {
            if record.times.ended < record.times.started || record.datagrams.is_none() {
                self.world.complaints.push(format!("no good record: {record:?}"));
            }
        }
    }

    fn finish(&mut self) {
        self.check();
        self.world.finish(&|| self.text.clone());
    }

    fn asked(&self) -> usize {
        self.clients.iter().map(|client| client.sent).sum()
    }
}

fn kind(seed: u64) -> Faults {
    Faults { datagram_full: Chance::NEVER, ..Faults::awkward(seed) }
}

fn rough(seed: u64) -> Faults {
    // What belongs to TCP costs nothing here and is left in.
    Faults::from_seed(seed)
}

/// Nothing is lost where the network loses nothing, however it holds up, reorders and keeps together.
#[test]
fn every_datagram_arrives_once_and_every_answer_comes_back_on_an_awkward_network() {
    let mut answers = 0;
    for seed in count(120) {
        let mut dice = Dice::new(seed ^ 0x7564_7021);
        let mut story = Story::new(seed, kind(seed), &mut dice);
        story.run();
        let asked: BTreeSet<String> = story
            .clients
            .iter()
            .flat_map(|client| (0..client.sent).map(|turn| head(&question(client.number, turn, 0))))
            .collect();
        let served: BTreeSet<String> = story.served.keys().cloned().collect();
        if asked != served {
            let lost: Vec<&String> = asked.difference(&served).collect();
            story.world.complain(format!("never came to a backend: {lost:?}"));
        }
        // One-shot sessions end with their last answer, and what comes behind it is nobody's.
        if !story.text.contains("responses") && !story.text.contains("lifetime") {
            let heard: u32 = story.clients.iter().flat_map(|client| client.heard.values()).sum();
            let expected: u64 =
                story.world.records.all().iter().filter_map(|record| record.datagrams).map(|all| all.sent).sum();
            if u64::from(heard) != expected {
                story.world.complain(format!("{expected} answers were sent and {heard} came"));
            }
            answers += heard;
        }
        let causes: Vec<Cause> = story.world.records.all().iter().filter_map(|record| record.cause).collect();
        let unanswered = |cause: &Cause| *cause == Cause::BackendNoReply || *cause == Cause::RelayLifetimeOver;
        if causes.iter().any(|cause| !unanswered(cause)) {
            story.world.complain(format!("nothing failed, and yet: {causes:?}"));
        }
        story.finish();
    }
    assert!(answers > 0, "no story had an answer");
}

#[test]
fn no_datagram_goes_astray_and_no_session_stays_behind_whatever_fails() {
    let (mut asked, mut refused, mut moved) = (0, 0, 0);
    for seed in count(250) {
        let mut dice = Dice::new(seed ^ 0x7564_7022);
        let mut story = Story::new(seed, rough(seed), &mut dice);
        for _ in 0..dice.below(10) {
            let at = Instant::START + Duration::from_millis(dice.below(20_000));
            let number = 1 + dice.below(3) as u8;
            let order = match dice.below(6) {
                0 => Order::Verdicts((1..=3).filter(|_| dice.below(2) == 0).collect()),
                1 => {
                    let backends = (1..=3).filter(|kept| *kept == number || dice.below(2) == 0).collect();
                    let listeners = dice.pick(&[&["game"][..], &["chat"], &["game", "chat"]]).to_vec();
                    Order::Plan { listeners, backends }
                }
                2 => Order::Kill(number),
                3 => Order::Start(number),
                4 => Order::Way(number, dice.pick(&[Way::BlackHole, Way::Unreachable, Way::NoRoute])),
                _ => Order::Way(number, Way::Open),
            };
            story.order(at, order);
        }
        story.run();
        asked += story.asked();
        let records = story.world.records.all();
        refused += records.iter().filter(|record| record.pool.is_none()).count();
        moved += records.iter().filter(|record| record.attempts.len() > 1).count();
        story.finish();
    }
    let few = std::env::var("SIM_SEED").is_ok();
    assert!(few || (asked > 1000 && refused > 0 && moved > 0), "{asked} asked, {refused} refused, {moved} moved");
}

#[test]
fn a_drain_serves_known_clients_until_its_deadline_and_nobody_new() {
    let mut cut = 0;
    for seed in count(100) {
        let mut dice = Dice::new(seed ^ 0x7564_7023);
        let faults = rough(seed);
        let mut story = Story::new(seed, faults.clone(), &mut dice);
        let at = Instant::START + Duration::from_millis(dice.below(20_000));
        story.order(at, Order::Drain(Duration::from_millis(dice.below(8000))));
        story.run();
        let Some(deadline) = story.deadline else { panic!("SIM_SEED={seed}: no drain") };
        match story.world.drained_at {
            None => story.world.complain("the worker never said that it had drained"),
            Some(done) if done > deadline + faults.pause_max * 2 + Duration::from_millis(2) => {
                story.world.complain(format!("drained at {done:?}, the deadline was {deadline:?}"));
            }
            Some(_) => {}
        }
        for record in story.world.records.all() {
            let session = record.pool.is_some();
            if session && record.times.started > at + faults.pause_max * 2 {
                story.world.complain(format!("a session began after the drain at {at:?}: {record:?}"));
            }
            if session && record.cause == Some(Cause::BalancerDraining) {
                cut += 1;
                if record.times.ended < deadline {
                    story.world.complain(format!("cut before the deadline {deadline:?}: {record:?}"));
                }
            }
        }
        story.finish();
    }
    assert!(cut > 0 || std::env::var("SIM_SEED").is_ok(), "no session met the deadline");
}
