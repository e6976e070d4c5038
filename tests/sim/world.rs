//! The node under test in its network: the real worker on the simulated driver, fed with plans by hand, and
//! an observer that keeps every outcome.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use evenkeel::worker::{After, Arrives, Command, Worker};
use evenkeel_balance::sticky::{Aside, Bystander};
use evenkeel_balance::{BackendKey, Candidates, Member};
use evenkeel_config::{Format, Source, compile_with};
use evenkeel_l4::{Core, Gates, Origin, Roster};
use evenkeel_l7::Http;
use evenkeel_model::exchange::{Attempt, Datagrams, Detail, ExchangeId, Outcome, Times};
use evenkeel_model::standing::{Standing, Verdict};
use evenkeel_model::{Cause, Epoch, Instant};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_observe::{Observer, Registry};
use evenkeel_plan::{Plan, PoolView, Publisher, Snapshot};
use evenkeel_reactor::sim::{DriverId, Ended, Faults, Net, SimDriver, SimWaker, run};

use crate::certificates::Folder;

pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

pub fn listener_address(port: u16) -> SocketAddr {
    SocketAddr::new(NODE, port)
}

pub fn backend_address(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, number)), 8080)
}

/// The times of a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As an operator would set them, or shorter.
    Usual,
    /// So long that even a network that brings a byte every tenth of a second is quick enough.
    Endless,
}

/// The longest that one exchange with finite peers may hang on each of its waits, added up, with
/// `Patience::Usual`: keep-alive, head, three connects, body, write, answer, its body, client, linger.
pub const DEADLINES: Duration = Duration::from_secs(5 + 10 + 3 * 2 + 20 + 10 + 10 + 10 + 20 + 5 + 30 + 4);

/// What is spoken to the backends of `web`, and how they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    pub tls: bool,
    pub http2: bool,
    pub try_timeout: bool,
    pub hedge: bool,
    /// They are told of the client by a PROXY header first of all.
    pub header: bool,
    /// Requests at once at each of them; 0 is no limit.
    pub limit: u32,
}

/// Ports at which clients are senders of PROXY headers.
pub const TOLD: [u16; 2] = [83, 444];

/// The config of all stories. `web` listens at port 80, `side` at 81, `raw` at 82, `secure` at 443, `told` and `told-secure`
/// at [`TOLD`].
pub fn config(patience: Patience, backends: &[u8], listeners: &[&str]) -> String {
    config_with(patience, backends, listeners, Behind::default())
}

pub fn config_with(patience: Patience, backends: &[u8], listeners: &[&str], behind: Behind) -> String {
    let times = match patience {
        Patience::Usual => [("idle", 30), ("keep", 5), ("head", 10), ("body", 20), ("connect", 2), ("answer", 10)],
        Patience::Endless => {
            // Where a handshake takes more than SYN and ACK, it takes its time as well.
            let connect = if behind.tls { 300 } else { 5 };
            [("idle", 50_000), ("keep", 3000), ("head", 3000), ("body", 3000), ("connect", connect), ("answer", 3000)]
        }
    };
    let time = |name: &str| times.iter().find(|(known, _)| *known == name).map_or(0, |(_, seconds)| *seconds);
    let mut text = String::from("[node]\ndrain_timeout = \"30s\"\n");
    for listener in listeners {
        let (port, protocol, pool) = match *listener {
            "web" => (80, "http", "web"),
            "side" => (81, "http", "web"),
            "secure" => (443, "https", "web"),
            "told" => (TOLD[0], "http", "web"),
            "told-secure" => (TOLD[1], "https", "web"),
            _ => (82, "tcp", "raw"),
        };
        text.push_str(&format!(
            "[[listener]]\nname = \"{listener}\"\nlisten = \"{}\"\nprotocol = \"{protocol}\"\npool = \"{pool}\"\nidle_timeout = \"{}s\"\n",
            listener_address(port),
            time("idle")
        ));
        if TOLD.contains(&port) {
            text.push_str("proxy_protocol = { from = [\"192.0.2.0/24\"] }\n");
        }
        if protocol != "tcp" {
            text.push_str(&format!(
                "keep_alive_timeout = \"{}s\"\nheader_timeout = \"{}s\"\nbody_timeout = \"{}s\"\nheader_limit = \"1KiB\"\n",
                time("keep"),
                time("head"),
                time("body")
            ));
        }
        if protocol == "https" {
            text.push_str("[[listener.certificate]]\ncertificate = \"node.pem\"\nkey = \"node.key\"\n");
            text.push_str(&format!("[listener.tls]\nhandshake_timeout = \"{}s\"\n", time("head").min(300)));
        }
    }
    for (pool, port) in [("web", 8080), ("raw", 8081)] {
        let list: Vec<String> =
            backends.iter().map(|number| format!("{{ address = \"10.0.1.{number}:{port}\" }}")).collect();
        text.push_str(&format!(
            "[[pool]]\nname = \"{pool}\"\ncheck = \"off\"\nbackends = [{}]\nconnect_timeout = \"{}s\"\n",
            list.join(", "),
            time("connect")
        ));
        text.push_str(&format!(
            "response_timeout = \"{0}s\"\nbody_timeout = \"{0}s\"\nidle_timeout = \"4s\"\nretries = 2\n",
            time("answer")
        ));
        if pool == "web" && behind.http2 {
            text.push_str("protocol = \"h2\"\n");
        }
        if pool == "web" && behind.header {
            text.push_str("proxy_protocol = \"v2\"\n");
        }
        if pool == "web" && behind.try_timeout {
            text.push_str("try_timeout = \"1s\"\n");
        }
        if pool == "web" && behind.hedge {
            text.push_str("hedge_after = \"100ms\"\n");
        }
        if pool == "web" && behind.limit > 0 {
            text.push_str(&format!("backend_limit = {}\nqueue = 3\nqueue_timeout = \"2s\"\n", behind.limit));
        }
        if pool == "web" && behind.tls {
            text.push_str("[pool.tls]\nname = \"backend.example\"\nca = \"authority.pem\"\n");
        }
    }
    text
}

pub fn plan(text: &str) -> Arc<Plan> {
    let source = Source { name: "sim", text, format: Format::Toml };
    let compiled = compile_with(&source, &mut Folder::default());
    Arc::new(
        compiled.plan.unwrap_or_else(|| panic!("the config of the story has errors: {:#?}\n{text}", compiled.problems)),
    )
}

/// A snapshot in which the backends for which `healthy` says no are out.
pub fn snapshot(generation: u64, plan: &Arc<Plan>, healthy: impl Fn(SocketAddr) -> bool) -> Snapshot {
    let standing = |address: SocketAddr| Standing {
        verdict: if healthy(address) { Verdict::Healthy } else { Verdict::Unhealthy },
        ..Standing::default()
    };
    let standings: Vec<Standing> = plan.backends.iter().map(|backend| standing(backend.address)).collect();
    let pools = (0..plan.pools.len()).map(|index| {
        let members = plan.backends_of(evenkeel_model::PoolId::from_index(index)).map(|(id, backend)| {
            Member::new(id, backend.address, standings[id.index()].effective_weight(backend.weight))
        });
        let aside = plan.backends_of(evenkeel_model::PoolId::from_index(index)).filter_map(|(id, backend)| {
            let why = Aside::of(&standings[id.index()], backend.weight, Instant::START)?;
            Some(Bystander { backend: id, key: BackendKey::of(backend.address), why })
        });
        let candidates = Candidates::new(plan.pools[index].schedule, members).with_bystanders(aside.collect());
        let refusal = candidates.is_empty().then_some(Cause::AllBackendsUnhealthy);
        Arc::new(PoolView { candidates, refusal, panic: false })
    });
    let pools = pools.collect();
    Snapshot { generation, made: Instant::START, plan: Arc::clone(plan), standings, pools }
}

/// What an outcome said, kept.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: ExchangeId,
    pub listener: String,
    pub client: SocketAddr,
    pub target: Option<String>,
    pub status: Option<u16>,
    pub cause: Option<Cause>,
    pub detail: Option<Detail>,
    pub pool: Option<String>,
    pub backend: Option<SocketAddr>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub datagrams: Option<Datagrams>,
    pub times: Times,
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Default)]
pub struct Records(Rc<RefCell<Vec<Record>>>);

impl Records {
    pub fn all(&self) -> Vec<Record> {
        self.0.borrow().clone()
    }

    pub fn of(&self, client: SocketAddr) -> Vec<Record> {
        self.0.borrow().iter().filter(|record| record.client == client).cloned().collect()
    }
}

impl Observer for Records {
    fn ended(&mut self, outcome: &Outcome<'_>) {
        self.0.borrow_mut().push(Record {
            id: outcome.id,
            listener: outcome.listener.to_owned(),
            client: outcome.client,
            target: outcome.request.map(|line| String::from_utf8_lossy(line.target).into_owned()),
            status: outcome.status,
            cause: outcome.cause,
            detail: outcome.detail,
            pool: outcome.pool.map(str::to_owned),
            backend: outcome.backend,
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            datagrams: outcome.datagrams,
            times: outcome.times,
            attempts: outcome.attempts.to_vec(),
        });
    }
}

pub struct World {
    pub net: Net,
    pub seed: u64,
    pub faults: Faults,
    pub driver: DriverId,
    pub records: Records,
    pub registry: Arc<Registry>,
    pub worker: Option<Worker<SimDriver>>,
    pub drained_at: Option<Instant>,
    pub complaints: Vec<String>,
    pub operator: Operator,
    /// The config may have a second backend asked beside the first.
    pub hedges: bool,
}

/// The writing end of snapshots and commands.
pub struct Operator {
    publisher: Publisher,
    commands: Sender<Command<SocketAddr>>,
    waker: SimWaker,
    generation: u64,
}

impl Operator {
    pub fn publish(&mut self, plan: &Arc<Plan>, healthy: impl Fn(SocketAddr) -> bool) {
        self.generation += 1;
        self.publisher.publish(Arc::new(snapshot(self.generation, plan, healthy)));
        self.waker.wake();
    }

    pub fn listen(&self, listener: &str, port: u16) {
        self.bound(listener, listener_address(port), Arrives::Connections);
    }

    pub fn bound(&self, listener: &str, address: SocketAddr, arrives: Arrives) {
        self.command(Command::Listen {
            listener: listener.into(),
            address,
            arrives,
            bound: address,
            round: self.generation,
        });
    }

    pub fn drain(&self, deadline: Instant) {
        self.command(Command::Drain { deadline, after: After::Nobody });
    }

    fn command(&self, command: Command<SocketAddr>) {
        // After a drain nobody listens to commands, as in a node that ends.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

impl World {
    pub fn new(seed: u64, faults: Faults, text: &str) -> World {
        World::of(seed, faults, &plan(text))
    }

    pub fn of(seed: u64, faults: Faults, plan: &Arc<Plan>) -> World {
        let net = Net::new(seed, faults.clone());
        let publisher = Publisher::new(snapshot(1, plan, |_| true));
        let reader = publisher.reader();
        let driver = SimDriver::new(&net, NODE);
        let (id, waker) = (driver.id(), driver.waker());
        let (commands, commanded) = channel();
        let registry = Arc::new(Registry::new());
        let roster = Roster::new(0, seed, Arc::clone(&registry), Arc::new(Gates::new([seed as u8; 32])));
        let records = Records::default();
        let origin = Origin { process: seed, worker: 0 };
        let core = Core::new(driver, roster, Box::new(records.clone()), origin, 1000);
        let worker = Worker::new(core, Http::new(b"evenkeel-sim", Epoch::default()), reader, commanded);
        let operator = Operator { publisher, commands, waker, generation: 1 };
        for listener in &plan.listeners {
            operator.bound(&listener.name, listener.listen[0], Arrives::at(listener.protocol));
        }
        World {
            net,
            seed,
            faults,
            driver: id,
            records,
            registry,
            worker: Some(worker),
            drained_at: None,
            complaints: Vec::new(),
            operator,
            hedges: plan.pools.iter().any(|pool| pool.hedge_after.is_some()),
        }
    }

    /// Runs until nothing can happen any more, or `reached`.
    pub fn run(&mut self, act: &mut dyn FnMut(&Net, &mut Operator), reached: impl FnMut(&Net) -> bool) -> Ended {
        let World { net, worker, drained_at, operator, .. } = self;
        let here = net.clone();
        let mut node = || {
            if let Some(serving) = worker
                && !serving.turn()
            {
                *worker = None;
                *drained_at = Some(here.now());
            }
        };
        run(net, &mut [&mut node], &mut [&mut |net: &Net| act(net, operator)], reached)
    }

    pub fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into());
    }

    /// What must hold once nothing can happen any more, whatever happened before.
    pub fn check_rest(&mut self, listeners: &[&str]) {
        let all = self.records.all();
        let mut ids = HashSet::new();
        for record in &all {
            if !ids.insert((record.id.process, record.id.sequence)) {
                self.complain(format!("the id of {record:?} was given twice"));
            }
            if record.times.ended < record.times.started {
                self.complain(format!("{record:?} ended before it began"));
            }
        }
        let open = self.net.open_sockets(self.driver);
        let is_udp_listener = |what: &str| what.contains("(udp ") && !what.contains(" to ");
        let is_listener = |what: &str| what.contains("(listener") || is_udp_listener(what);
        for socket in open.iter().filter(|socket| !is_listener(&socket.what)) {
            self.complain(format!("a socket is left open: {socket:?}"));
        }
        if let Some(worker) = &self.worker {
            let (clients, backends) = (worker.connections(), worker.backend_connections());
            let timers = worker.core().wheel.len();
            let sessions = worker.sessions();
            if sessions != (0, 0) {
                self.complaints.push(format!("at rest there are {sessions:?} sessions and names of them"));
            }
            if (clients, backends, timers) != (0, 0, 0) {
                self.complain(format!(
                    "at rest the worker still counts {clients} clients, {backends} backend connections, {timers} timers"
                ));
            }
        }
        for name in listeners {
            let now = self.registry.sum_listener(name, |metrics| metrics.connections_now.read());
            if now != 0 {
                self.complain(format!("connections_now of {name} is {now}"));
            }
        }
        for number in 1..=4 {
            for (pool, port) in [("web", 8080), ("raw", 8081), ("game", 8083)] {
                let backend = SocketAddr::new(backend_address(number).ip(), port).to_string().into();
                let label = BackendLabel { pool: pool.into(), backend };
                let now = self.registry.sum_backend(&label, |metrics| metrics.in_flight.read());
                if now != 0 {
                    self.complain(format!("in_flight of {label:?} is {now}"));
                }
            }
        }
        let accepted = self.registry.sum_listener("raw", |metrics| metrics.connections.read());
        let ended = all.iter().filter(|record| record.listener == "raw").count() as u64;
        if accepted != ended {
            self.complain(format!("{accepted} tcp connections were accepted and {ended} outcomes recorded"));
        }
    }

    /// # Panics
    /// When anything was complained of.
    pub fn finish(&self, story: &dyn Fn() -> String) {
        if self.complaints.is_empty() {
            return;
        }
        let records: String = self.records.all().iter().map(|record| format!("{record:?}\n")).collect();
        let complaints: String = self.complaints.iter().take(8).map(|what| format!("  - {what}\n")).collect();
        panic!(
            "{} broken promises; see them again with SIM_SEED={}\n{complaints}\nfaults: {:?}\n\n{}\noutcomes:\n{records}\nthe end of the trace:\n{}",
            self.complaints.len(),
            self.seed,
            self.faults,
            story(),
            self.net.story()
        );
    }
}
