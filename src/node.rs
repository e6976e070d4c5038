//! A whole node in one value: workers, control thread, log writer, listening sockets.
//!
//! The order of a change is bind, publish, drain: a worker that sees the new plan may be asked for its ports
//! at once, and a port that cannot be bound refuses the whole change before anything has happened.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, fs, io};

use evenkeel_control::memory::Outlives;
use evenkeel_control::{Control, Event};
use evenkeel_l4::{Core, Gates, Origin, Roster};
use evenkeel_l7::Http;
use evenkeel_model::{Epoch, Instant, limits};
use evenkeel_observe::metrics::{BackendLabel, render};
use evenkeel_observe::{LogWriter, Registry};
use evenkeel_plan::{AccessLog, Plan, Resolved};
use evenkeel_reactor::epoll::{EpollDriver, Waker};
use evenkeel_reactor::{Clock, Errno};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::watch;

use crate::admin::Feed;
use crate::boss::{Boss, EventSink, Started, Traffic};
use crate::ports::{Given, Ports, Told};
use crate::side::{self, Side, state};
use crate::trace::{Requests, Trace};
use crate::upgrade::Legacy;
use crate::worker::{After, Arrives, Command, Worker};

pub struct Node {
    boss: Boss,
    boss_thread: JoinHandle<()>,
    side: Side,
    names: watch::Receiver<Arc<Resolved>>,
    workers: Vec<WorkerHandle>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    registry: Arc<Registry>,
    log: Option<LogWriter>,
    trace: Trace,
    clock: Clock,
    epoch: Epoch,
    feed: Feed,
    plan: Arc<Plan>,
    ports: Ports,
    /// What the workers have not been told of, before the node is opened.
    unopened: Option<Told>,
    secret: [u8; 32],
    loop_id: String,
    stopping: Arc<AtomicBool>,
    gates: Arc<Gates>,
    /// How often sockets were given to workers.
    round: u64,
}

struct WorkerHandle {
    commands: Sender<Command<OwnedFd>>,
    waker: Waker,
    thread: JoinHandle<()>,
}

/// Why a node did not start, or a plan was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The address of a listener cannot be bound.
    Bind {
        listener: Arc<str>,
        address: SocketAddr,
        error: io::Error,
    },
    /// Somebody listens there already.
    InUse {
        listener: Arc<str>,
        address: SocketAddr,
        arrives: Arrives,
    },
    AccessLog {
        path: PathBuf,
        error: io::Error,
    },
    System {
        what: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Bind { listener, address, error } => {
                write!(f, "listener \"{listener}\": cannot listen on {address}: {error}")
            }
            Refused::InUse { listener, address, arrives } => {
                let shows = match arrives {
                    Arrives::Connections => "ss -ltnp",
                    Arrives::Datagrams => "ss -lunp",
                };
                write!(
                    f,
                    "listener \"{listener}\": {address} is in use by another process; stop it or choose another address ({shows} shows who)"
                )
            }
            Refused::AccessLog { path, error } => {
                write!(f, "node.access_log: cannot append to \"{}\": {error}", path.display())
            }
            Refused::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

/// Everything a question about the node's state needs; cheap to hand to the admin side.
#[derive(Clone)]
pub struct View {
    pub boss: Boss,
    pub registry: Arc<Registry>,
    pub clock: Clock,
    pub epoch: Epoch,
    pub log_dropped: Option<Arc<std::sync::atomic::AtomicU64>>,
    /// Failed and slow requests, their causes, and lines as they come.
    pub requests: Requests,
    /// What changed.
    pub feed: Feed,
    /// The node was told to stop, and is not ready for anybody new.
    pub stopping: Arc<AtomicBool>,
}

impl Node {
    /// Binds, starts the threads and serves. `known` are the answers to names of backends that the plan was compiled with.
    ///
    /// # Errors
    /// When an address, the access log or the operating system says no. Nothing runs then.
    pub fn start(
        plan: Arc<Plan>,
        known: Arc<Resolved>,
        clock: Clock,
        epoch: Epoch,
        sink: EventSink,
    ) -> Result<Node, Refused> {
        let mut node = Node::prepare(plan, known, clock, epoch, sink, &mut Legacy::default())?;
        node.open();
        Ok(node)
    }

    /// The same with what an earlier process left, and without serving anybody until [`Node::open`].
    ///
    /// # Errors
    /// As those of [`Node::start`].
    pub fn prepare(
        plan: Arc<Plan>,
        known: Arc<Resolved>,
        clock: Clock,
        epoch: Epoch,
        mut sink: EventSink,
        legacy: &mut Legacy,
    ) -> Result<Node, Refused> {
        let feed = Feed::default();
        let fed = feed.clone();
        let sink: EventSink = Box::new(move |event| {
            fed.put(event);
            sink(event);
        });
        let system = |what| move |error| Refused::System { what, error };
        let files = raise_file_limit();
        let worker_count = match plan.node.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        };
        let log = match &plan.node.access_log {
            AccessLog::Off => None,
            AccessLog::Stdout => Some(LogWriter::start(Box::new(io::stdout())).map_err(system("access log thread"))?),
            AccessLog::File(path) => {
                Some(LogWriter::start(Box::new(log_file(path)?)).map_err(system("access log thread"))?)
            }
        };
        let mut ports = Ports::new(worker_count, std::mem::take(&mut legacy.sockets));
        let change = ports.prepare(&plan, clock.now())?;
        let seed = random();
        let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let wake = {
            let wakers = Arc::clone(&wakers);
            Box::new(move || {
                for waker in wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    waker.wake();
                }
            })
        };
        let registry = Arc::new(Registry::new());
        let secret = match legacy.secret {
            Some(secret) => secret,
            None => secret().map_err(system("random numbers"))?,
        };
        let gates = Arc::new(Gates::new(secret));
        gates.recall(std::mem::take(&mut legacy.homes));
        let traffic = Traffic { gates: Arc::clone(&gates), registry: Arc::clone(&registry) };
        let (orders, ordered) = side::orders();
        // Before the first event can happen.
        orders.plan(Arc::clone(&plan), Arc::clone(&known));
        let (resolved, names) = watch::channel(known);
        let control = match legacy.memory.take() {
            Some(memory) => {
                let max_age = plan.node.state.as_ref().map_or(limits::STATE_MAX_AGE.default, |file| file.max_age);
                Control::with_memory(Arc::clone(&plan), &memory, max_age, clock.now(), seed)
            }
            None => recalled(Arc::clone(&plan), clock.now(), seed),
        };
        let Started { boss, reader, thread: boss_thread } =
            Boss::start(control, clock, sink, wake, traffic, orders.clone()).map_err(system("control thread"))?;
        let side = Side::start(orders, ordered, boss.clone(), clock, epoch, resolved).map_err(system("side thread"))?;

        let trace = Trace::start(&plan, clock.now(), epoch).map_err(system("trace thread"))?;
        let connections_max = match plan.node.connections {
            0 => (files / 2).saturating_sub(64).max(16),
            connections => connections,
        } / worker_count;
        let drawn = legacy.loop_id.take().unwrap_or_else(|| format!("evenkeel-{seed:016x}"));
        let loop_id = plan.node.loop_id().unwrap_or_else(|| drawn.clone());
        let mut workers = Vec::with_capacity(worker_count);
        for index in 0..worker_count {
            let driver = EpollDriver::new(clock)
                .map_err(|Errno(number)| system("worker")(io::Error::from_raw_os_error(number)))?;
            let waker = driver.waker();
            wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
            let (commands, commanded) = channel();
            let (registry, reader, loop_id) = (Arc::clone(&registry), reader.clone(), loop_id.clone());
            let gates = Arc::clone(&gates);
            let recorder = trace.recorder(log.as_ref().map(|log| log.buffer(epoch)));
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let roster = Roster::new(index, seed, registry, gates);
                let origin = Origin { process: seed, worker: index as u16 };
                let core = Core::new(driver, roster, Box::new(recorder), origin, connections_max);
                let http = Http::new(loop_id.as_bytes(), epoch);
                let mut worker = Worker::new(core, http, reader, commanded);
                while worker.turn() {}
            });
            workers.push(WorkerHandle { commands, waker, thread: thread.map_err(system("worker thread"))? });
        }
        let told = ports.take(&plan, change, clock.now());
        Ok(Node {
            boss,
            boss_thread,
            side,
            names,
            workers,
            wakers,
            registry,
            log,
            trace,
            clock,
            epoch,
            feed,
            plan,
            ports,
            unopened: Some(told),
            secret,
            loop_id: drawn,
            stopping: Arc::default(),
            gates,
            round: 0,
        })
    }

    /// Serves from now on.
    pub fn open(&mut self) {
        if let Some(told) = self.unopened.take() {
            self.ports.open(self.clock.now());
            self.tell(told);
        }
    }

    /// Takes a new plan over without losing a connection, or refuses it and changes nothing.
    ///
    /// # Errors
    /// When a new listener's address cannot be bound.
    pub fn reload(&mut self, plan: Arc<Plan>, known: Arc<Resolved>) -> Result<(), Refused> {
        let now = self.clock.now();
        let change = self.ports.prepare(&plan, now)?;
        let told = self.ports.take(&plan, change, now);
        self.tell(told);
        self.boss.plan(Arc::clone(&plan));
        self.side.orders().plan(Arc::clone(&plan), known);
        let backends = labels(&plan);
        self.registry.retain(
            |name| plan.listeners.iter().any(|listener| &*listener.name == name),
            |label| backends.contains(label),
        );
        self.trace.plan(&plan);
        self.plan = plan;
        Ok(())
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// When [`Node::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ports.poll_timeout()
    }

    /// Lets go of addresses that have left the plan.
    pub fn handle_timeout(&mut self) {
        self.ports.handle_timeout(self.clock.now());
    }

    /// What names of backends stand for. Changes when a name server says something else; then it is time for a plan with that.
    pub fn names(&self) -> watch::Receiver<Arc<Resolved>> {
        self.names.clone()
    }

    pub fn boss(&self) -> &Boss {
        &self.boss
    }

    pub fn view(&self) -> View {
        View {
            boss: self.boss.clone(),
            registry: Arc::clone(&self.registry),
            clock: self.clock,
            epoch: self.epoch,
            log_dropped: self.log.as_ref().map(LogWriter::dropped),
            requests: self.trace.requests(),
            feed: self.feed.clone(),
            stopping: Arc::clone(&self.stopping),
        }
    }

    /// Opens the access log anew, for one that was renamed. `None` when it is no file.
    ///
    /// # Errors
    /// When it cannot be opened. The one that is open is written on.
    pub fn reopen_log(&self) -> Result<Option<PathBuf>, Refused> {
        let (Some(log), AccessLog::File(path)) = (&self.log, &self.plan.node.access_log) else { return Ok(None) };
        log.replace(Box::new(log_file(path)?));
        Ok(Some(path.clone()))
    }

    /// Says to whoever asks `/ready` that nobody new should be sent.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// What another process needs to take this one's place. Blocks until the control thread has answered.
    ///
    /// # Errors
    /// When the process is out of files.
    pub fn legacy(&self) -> io::Result<Legacy> {
        let clock = self.clock;
        Ok(Legacy {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sockets: self.ports.copies()?,
            memory: self.boss.look(move |control| control.memory(clock.now(), Outlives::Upgrade)),
            secret: Some(self.secret),
            loop_id: Some(self.loop_id.clone()),
            homes: self.gates.homes(),
            ..Legacy::default()
        })
    }

    /// Addresses whose sockets the process was given, and that no listener has.
    pub fn unclaimed(&self) -> Vec<SocketAddr> {
        self.ports.unclaimed().collect()
    }

    /// Lets nothing new in and waits until what runs has ended, for `timeout` at most; then stops.
    pub fn drain(mut self, timeout: Duration) {
        // Before the workers hear of it, or what comes in between would be reset.
        std::mem::take(&mut self.ports).close();
        self.end(timeout, After::Nobody);
    }

    /// The same when another process listens at the same sockets. Hooks, and the state file, are that one's from now on.
    pub fn hand_over(mut self, timeout: Duration) {
        drop(std::mem::take(&mut self.ports));
        self.side.orders().retire();
        self.end(timeout, After::Successor);
    }

    fn end(self, timeout: Duration, after: After) {
        let deadline = self.clock.now() + timeout;
        for worker in &self.workers {
            // A worker that is gone has nothing left to drain.
            let _ = worker.commands.send(Command::Drain { deadline, after });
            worker.waker.wake();
        }
        for worker in self.workers {
            // A panic of a worker was printed by its own thread.
            let _ = worker.thread.join();
        }
        self.side.stop();
        self.boss.stop();
        let _ = self.boss_thread.join();
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.trace.stop();
        if let Some(log) = self.log {
            log.finish();
        }
    }

    fn tell(&mut self, told: Told) {
        self.round += 1;
        let round = self.round;
        for (address, arrives) in told.gone {
            for worker in &self.workers {
                let _ = worker.commands.send(Command::Forget { address, arrives });
            }
        }
        for Given { listener, address, arrives, worker, sock } in told.given {
            // A worker that is gone was a panic, which its own thread has printed.
            let _ =
                self.workers[worker].commands.send(Command::Listen { listener, address, arrives, bound: sock, round });
        }
        for worker in &self.workers {
            worker.waker.wake();
        }
    }
}

impl View {
    /// The Prometheus page.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        render(&self.registry, &mut out);
        let health = crate::health_metrics::page(&self.boss).unwrap_or_default();
        out.push_str(&health);
        self.requests.metrics(&mut out);
        if let Some(dropped) = &self.log_dropped {
            let dropped = dropped.load(Ordering::Relaxed);
            out.push_str(
                "# HELP evenkeel_access_log_dropped_lines_total Log lines lost because the sink was slow or failed.\n",
            );
            out.push_str("# TYPE evenkeel_access_log_dropped_lines_total counter\n");
            out.push_str(&format!("evenkeel_access_log_dropped_lines_total {dropped}\n"));
        }
        out
    }

    /// The status document.
    pub fn status(&self) -> Option<crate::status::shape::Status> {
        crate::status::document(&self.boss, &self.registry, self.epoch, self.clock)
    }
}

/// With what an earlier process left behind, where the plan says so and it is of use.
fn recalled(plan: Arc<Plan>, now: Instant, seed: u64) -> Control {
    let Some(file) = plan.node.state.clone() else { return Control::new(plan, now, seed) };
    match state::read(&file.path) {
        Ok(memory) => Control::with_memory(plan, &memory, file.max_age, now, seed),
        Err(unused) => {
            let mut control = Control::new(plan, now, seed);
            if let Some(event) = unused.event(&file.path) {
                control.handle(Event::Noted(event), now);
            }
            control
        }
    }
}

fn log_file(path: &Path) -> Result<fs::File, Refused> {
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| Refused::AccessLog { path: path.to_owned(), error })
}

/// The names that the metrics of a plan's backends have.
fn labels(plan: &Plan) -> BTreeSet<BackendLabel> {
    let label = |backend: &evenkeel_plan::Backend| BackendLabel {
        pool: Arc::clone(&plan.pools[backend.pool.index()].name),
        backend: backend.address.to_string().into(),
    };
    plan.backends.iter().map(label).collect()
}

/// Raises the soft limit of open files to the hard one, as HAProxy and nginx do, and says what it is.
fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Not allowed: the soft limit stands, and the connection limit follows from it.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files).unwrap_or(usize::MAX).min(2 * limits::CONNECTIONS.max as usize)
}

/// What nobody can guess. From the kernel, since it signs cookies where the config names no secret.
fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    // Up to 256 bytes come whole (getrandom(2)); less would be a kernel that breaks its word.
    let filled = getrandom(&mut secret, GetRandomFlags::empty())?;
    if filled == secret.len() { Ok(secret) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A number no other process has: the standard library's hash keys are random for each process.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
