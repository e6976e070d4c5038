//! The side thread: what needs processes or libraries, away from the control thread and the workers.
//!
//! One thread with a small tokio runtime, as DESIGN wants it: a command that hangs, a hook whose receiver is slow or a
//! disk that stalls holds up neither a probe of the reactor nor a request. It takes orders and answers the boss; what is decided
//! here is decided in the machines of its files, which are told the time.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_control::Memory;
use evenkeel_control::memory::Outlives;
use evenkeel_health::settings::CheckSettings;
use evenkeel_model::event::{Event, What};
use evenkeel_model::{Epoch, Instant, limits};
use evenkeel_plan::{NameAsked, Plan, Resolved};
use evenkeel_reactor::Clock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::boss::Boss;
use hooks::{Act, Hooks};
use keeper::Keeper;
use names::{Found, Names};
use resolve::Asker;

pub use resolve::first_answers;

mod commands;
mod hooks;
mod keeper;
mod names;
pub mod post;
mod program;
mod resolve;
mod said;
mod srv;
pub mod state;
mod teller;

/// What the side thread is told.
#[derive(Debug)]
enum Order {
    /// A command probe; answered by one finding, unless it is cancelled.
    Probe {
        key: u64,
        address: SocketAddr,
        check: Arc<CheckSettings>,
    },
    CancelProbe {
        key: u64,
    },
    /// Something changed on the node that hooks may want to hear of.
    Happened(Event),
    /// With the answers to its names that it was compiled with.
    Plan {
        plan: Arc<Plan>,
        known: Arc<Resolved>,
    },
    /// Another process has taken over: it tells the hooks and keeps the state file.
    Retire,
    /// What the control room knows, for the state file.
    Remembered(Memory),
    Stop,
}

/// The other threads' end.
#[derive(Clone, Debug)]
pub struct Orders(UnboundedSender<Order>);

impl Orders {
    pub fn probe(&self, key: u64, address: SocketAddr, check: Arc<CheckSettings>) {
        self.give(Order::Probe { key, address, check });
    }

    /// Kills the command and sees to it that nothing more is heard of it.
    pub fn cancel_probe(&self, key: u64) {
        self.give(Order::CancelProbe { key });
    }

    pub fn happened(&self, event: Event) {
        self.give(Order::Happened(event));
    }

    pub fn plan(&self, plan: Arc<Plan>, known: Arc<Resolved>) {
        self.give(Order::Plan { plan, known });
    }

    /// Another process has taken over: hooks are told of nothing more, and the state file is written no more.
    pub fn retire(&self) {
        self.give(Order::Retire);
    }

    fn give(&self, order: Order) {
        // The thread ends only after Stop; nothing ordered later matters.
        let _ = self.0.send(order);
    }
}

/// What is ordered of a thread that does not run yet.
#[derive(Debug)]
pub struct Ordered(UnboundedReceiver<Order>);

/// Orders and their other end, which [`Side::start`] takes. In two steps because the boss gives orders and gets the answers.
pub fn orders() -> (Orders, Ordered) {
    let (orders, ordered) = unbounded_channel();
    (Orders(orders), Ordered(ordered))
}

/// The running thread.
#[derive(Debug)]
pub struct Side {
    orders: Orders,
    thread: JoinHandle<()>,
}

impl Side {
    /// Whoever makes plans hears by `resolved` what names of backends stand for, whenever that has changed.
    ///
    /// # Errors
    /// When the process is out of files or threads.
    pub fn start(
        orders: Orders,
        ordered: Ordered,
        boss: Boss,
        clock: Clock,
        epoch: Epoch,
        resolved: watch::Sender<Arc<Resolved>>,
    ) -> io::Result<Side> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING)
            .thread_name("side-blocking")
            .build()?;
        let own_orders = orders.clone();
        let thread = std::thread::Builder::new().name("side".to_owned()).spawn(move || {
            runtime.block_on(Room::new(boss, own_orders, clock, epoch, resolved).serve(ordered.0));
            // A thread may hang in a start on a disk that does not answer; nobody waits for it.
            runtime.shutdown_timeout(FAREWELL);
        })?;
        Ok(Side { orders, thread })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Kills the commands that still run, gives hooks that are being told a moment, writes the state file, and ends the thread. The
    /// boss has to run until then.
    pub fn stop(self) {
        self.orders.give(Order::Stop);
        // A panic of the thread was printed by itself.
        let _ = self.thread.join();
    }
}

/// Starts of commands and their funerals run beside the loop; so many at once, and some more for files.
const BLOCKING: usize = limits::COMMANDS_AT_ONCE.value as usize + 16;

/// Time for killed commands to be reaped at the end.
const FAREWELL: Duration = Duration::from_millis(500);

const HOOK_FAREWELL: Duration = Duration::from_millis(limits::HOOK_FAREWELL.value);
const STATE_FAREWELL: Duration = Duration::from_secs(limits::STATE_FAREWELL.value);

struct Room {
    boss: Boss,
    orders: Orders,
    clock: Clock,
    epoch: Epoch,
    /// Bounds the command probes that run at once.
    places: Arc<Semaphore>,
    probes: HashMap<u64, AbortHandle>,
    hooks: Hooks,
    names: Names,
    /// With the resolver of the plan; `None` before there was a name to ask for.
    asker: Option<Asker>,
    resolved: watch::Sender<Arc<Resolved>>,
    keeper: Keeper,
    tasks: JoinSet<Done>,
    /// Another process has taken over.
    retired: bool,
    /// Since when the thread is to end.
    ending: Option<Instant>,
}

/// What a task of the room has done.
enum Done {
    Probe { key: u64 },
    Telling { number: u64, result: Result<(), Arc<str>> },
    Asked { name: NameAsked, result: Result<Found, Arc<str>> },
    Examined(Result<(), String>),
    Written(Result<(), String>),
}

impl Room {
    fn new(boss: Boss, orders: Orders, clock: Clock, epoch: Epoch, resolved: watch::Sender<Arc<Resolved>>) -> Self {
        Room {
            boss,
            orders,
            clock,
            epoch,
            places: Arc::new(Semaphore::new(limits::COMMANDS_AT_ONCE.value as usize)),
            probes: HashMap::new(),
            hooks: Hooks::default(),
            names: Names::default(),
            asker: None,
            resolved,
            keeper: Keeper::default(),
            tasks: JoinSet::new(),
            retired: false,
            ending: None,
        }
    }

    async fn serve(mut self, mut ordered: UnboundedReceiver<Order>) {
        while !self.is_over() {
            let until = self.poll_timeout();
            let patience = until.map_or(Duration::MAX, |until| until - self.clock.now());
            tokio::select! {
                order = ordered.recv() => self.follow(order.unwrap_or(Order::Stop)),
                Some(done) = self.tasks.join_next() => {
                    // A task that was aborted is forgotten already.
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                () = tokio::time::sleep(patience), if until.is_some() => {}
            }
            let now = self.clock.now();
            self.hooks.handle_timeout(now);
            self.names.handle_timeout(now);
            self.keeper.handle_timeout(now);
            self.execute();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let machines = [self.hooks.poll_timeout(), self.names.poll_timeout(), self.keeper.poll_timeout()];
        let ends = self.ending.map(|since| [Some(since + HOOK_FAREWELL), Some(since + STATE_FAREWELL)]);
        let now = self.clock.now();
        let ends = ends.into_iter().flatten().filter(|end| *end > Some(now));
        machines.into_iter().chain(ends).flatten().min()
    }

    /// Whether everything is at its end, or has had its time.
    fn is_over(&self) -> bool {
        let now = self.clock.now();
        self.ending.is_some_and(|since| {
            (!self.hooks.are_telling() || since + HOOK_FAREWELL <= now)
                && (self.keeper.is_over() || since + STATE_FAREWELL <= now)
        })
    }

    fn follow(&mut self, order: Order) {
        let now = self.clock.now();
        match order {
            Order::Probe { key, address, check } => self.probe(key, address, check),
            Order::CancelProbe { key } => {
                if let Some(probe) = self.probes.remove(&key) {
                    probe.abort();
                }
            }
            Order::Retire => {
                self.retired = true;
                self.keeper.handle(keeper::Event::Wanted(None), now);
            }
            Order::Happened(event) => {
                if !self.retired && self.hooks.wants(&event) {
                    let told = crate::status::event(&event, self.epoch);
                    let json = serde_json::to_string(&told).expect("texts and numbers always have a JSON form");
                    self.hooks.happened(&event, json, now);
                }
                if matches!(&event.what, What::Operated(_)) {
                    self.keeper.handle(keeper::Event::Operated, now);
                }
            }
            Order::Plan { plan, known } => {
                self.hooks.follow(&plan.node.hooks);
                // Anew for each plan: /etc/resolv.conf may be another one.
                self.asker = (!plan.names.is_empty()).then(|| Asker::new(&plan));
                let (names, resolver) = (plan.names.clone(), plan.node.resolver.clone());
                self.names.handle(names::Event::Wanted { names, known: (*known).clone(), resolver }, now);
                self.keeper.handle(keeper::Event::Wanted(plan.node.state.clone()), now);
            }
            Order::Remembered(memory) => self.keeper.handle(keeper::Event::Remembered(memory), now),
            Order::Stop => {
                self.probes.drain().for_each(|(_, probe)| probe.abort());
                self.keeper.handle(keeper::Event::Ending, now);
                self.ending = Some(now);
            }
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Probe { key } => {
                self.probes.remove(&key);
            }
            Done::Telling { number, result } => self.hooks.told(number, result, now),
            Done::Asked { name, result } => {
                let event = match result {
                    Ok(found) => names::Event::Answered { name, found },
                    Err(why) => names::Event::Failed { name, why },
                };
                self.names.handle(event, now);
            }
            Done::Examined(Ok(())) => {}
            Done::Examined(Err(why)) => self.keeper.handle(keeper::Event::Forbidden(why.into()), now),
            Done::Written(Ok(())) => self.keeper.handle(keeper::Event::Written, now),
            Done::Written(Err(why)) => self.keeper.handle(keeper::Event::Failed(why.into()), now),
        }
    }

    /// Does what the machines ordered.
    fn execute(&mut self) {
        while let Some(act) = self.hooks.poll_output() {
            match act {
                Act::Note(beside) => self.boss.noted(beside),
                Act::Tell(telling) => {
                    let number = telling.number;
                    self.tasks.spawn(async move { Done::Telling { number, result: telling.carry_out().await } });
                }
            }
        }
        let mut renamed = false;
        while let Some(output) = self.names.poll_output() {
            match output {
                names::Output::Note(beside) => self.boss.noted(beside),
                names::Output::Changed => renamed = true,
                names::Output::Ask(name) => {
                    let asker = self.asker.clone().expect("whoever wants names has brought an asker");
                    self.tasks.spawn(async move { Done::Asked { result: asker.ask(&name).await, name } });
                }
            }
        }
        if renamed {
            // Nobody hears of it when the node is about to end.
            let _ = self.resolved.send(Arc::new(self.names.resolved()));
        }
        while let Some(output) = self.keeper.poll_output() {
            match output {
                keeper::Output::Note(beside) => self.boss.noted(beside),
                keeper::Output::Look => {
                    let (orders, clock) = (self.orders.clone(), self.clock);
                    self.boss.look_and_go(move |control| {
                        orders.give(Order::Remembered(control.memory(clock.now(), Outlives::Restart)))
                    });
                }
                keeper::Output::Examine(path) => self.on_disk(move || Done::Examined(state::examine(&path))),
                keeper::Output::Write(path, memory) => {
                    self.on_disk(move || Done::Written(state::write(&path, &memory)));
                }
            }
        }
    }

    /// A disk may stall; the loop does not wait for it.
    fn on_disk(&mut self, work: impl FnOnce() -> Done + Send + 'static) {
        self.tasks.spawn_blocking(work);
    }

    fn probe(&mut self, key: u64, address: SocketAddr, check: Arc<CheckSettings>) {
        let (boss, clock, places) = (self.boss.clone(), self.clock, Arc::clone(&self.places));
        let probe = self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire_owned().await;
            boss.probed(key, commands::probe(address, &check, clock).await);
            Done::Probe { key }
        });
        self.probes.insert(key, probe);
    }
}
