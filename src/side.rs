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
use evenkeel_model::limits;
use evenkeel_reactor::Clock;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

use crate::boss::Boss;

mod commands;
mod program;
mod said;

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
    pub fn start(orders: Orders, ordered: Ordered, boss: Boss, clock: Clock) -> io::Result<Side> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING)
            .thread_name("side-blocking")
            .build()?;
        let thread = std::thread::Builder::new().name("side".to_owned()).spawn(move || {
            runtime.block_on(Room::new(boss, clock).serve(ordered.0));
            // A thread may hang in a start on a disk that does not answer; nobody waits for it.
            runtime.shutdown_timeout(FAREWELL);
        })?;
        Ok(Side { orders, thread })
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Kills what still runs and ends the thread.
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

struct Room {
    boss: Boss,
    clock: Clock,
    /// Bounds the command probes that run at once.
    places: Arc<Semaphore>,
    probes: HashMap<u64, AbortHandle>,
    tasks: JoinSet<Done>,
}

/// What a task of the room was for.
enum Done {
    Probe { key: u64 },
}

impl Room {
    fn new(boss: Boss, clock: Clock) -> Self {
        let places = Arc::new(Semaphore::new(limits::COMMANDS_AT_ONCE.value as usize));
        Room { boss, clock, places, probes: HashMap::new(), tasks: JoinSet::new() }
    }

    async fn serve(mut self, mut ordered: UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                order = ordered.recv() => match order {
                    Some(Order::Probe { key, address, check }) => self.probe(key, address, check),
                    Some(Order::CancelProbe { key }) => {
                        if let Some(probe) = self.probes.remove(&key) {
                            probe.abort();
                        }
                    }
                    Some(Order::Stop) | None => return,
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(Done::Probe { key }) => {
                        self.probes.remove(&key);
                    }
                    // Aborted: whoever did it has forgotten it already.
                    Err(_) => {}
                },
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
