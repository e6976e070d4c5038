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

use evenkeel_health::settings::CheckSettings;
use evenkeel_model::event::Event;
use evenkeel_model::{Epoch, Instant, limits};
use evenkeel_plan::Plan;
use evenkeel_reactor::Clock;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use crate::boss::Boss;
use hooks::{Act, Hooks};

mod commands;
mod hooks;
mod names;
mod program;
mod resolve;
mod said;
mod srv;
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
    Plan(Arc<Plan>),
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

    pub fn plan(&self, plan: Arc<Plan>) {
        self.give(Order::Plan(plan));
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
    /// # Errors
    /// When the process is out of files or threads.
    pub fn start(orders: Orders, ordered: Ordered, boss: Boss, clock: Clock, epoch: Epoch) -> io::Result<Side> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING)
            .thread_name("side-blocking")
            .build()?;
        let thread = std::thread::Builder::new().name("side".to_owned()).spawn(move || {
            runtime.block_on(Room::new(boss, clock, epoch).serve(ordered.0));
            // A thread may hang in a start on a disk that does not answer; nobody waits for it.
            runtime.shutdown_timeout(FAREWELL);
        })?;
        Ok(Side { orders, thread })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Kills the commands that still run, gives hooks that are being told a moment, and ends the thread.
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

struct Room {
    boss: Boss,
    clock: Clock,
    epoch: Epoch,
    /// Bounds the command probes that run at once.
    places: Arc<Semaphore>,
    probes: HashMap<u64, AbortHandle>,
    hooks: Hooks,
    tasks: JoinSet<Done>,
    /// Set by the order to stop: when the thread ends at the latest.
    end_at: Option<Instant>,
}

/// What a task of the room has done.
enum Done {
    Probe { key: u64 },
    Telling { number: u64, result: Result<(), Arc<str>> },
}

impl Room {
    fn new(boss: Boss, clock: Clock, epoch: Epoch) -> Self {
        Room {
            boss,
            clock,
            epoch,
            places: Arc::new(Semaphore::new(limits::COMMANDS_AT_ONCE.value as usize)),
            probes: HashMap::new(),
            hooks: Hooks::default(),
            tasks: JoinSet::new(),
            end_at: None,
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
            self.hooks.handle_timeout(self.clock.now());
            self.execute();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.hooks.poll_timeout(), self.end_at].into_iter().flatten().min()
    }

    fn is_over(&self) -> bool {
        self.end_at.is_some_and(|at| at <= self.clock.now() || !self.hooks.are_telling())
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Probe { key, address, check } => self.probe(key, address, check),
            Order::CancelProbe { key } => {
                if let Some(probe) = self.probes.remove(&key) {
                    probe.abort();
                }
            }
            Order::Happened(event) => {
                if self.hooks.wants(&event) {
                    let json = crate::status::event(&event, self.epoch).to_string();
                    self.hooks.happened(&event, json, self.clock.now());
                }
            }
            Order::Plan(plan) => self.hooks.follow(&plan.node.hooks),
            Order::Stop => {
                self.probes.drain().for_each(|(_, probe)| probe.abort());
                self.end_at = Some(self.clock.now() + HOOK_FAREWELL);
            }
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Probe { key } => {
                self.probes.remove(&key);
            }
            Done::Telling { number, result } => self.hooks.told(number, result, self.clock.now()),
        }
    }

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
