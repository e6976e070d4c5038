//! The control thread: runs the one writer and the prober, publishes snapshots, answers questions.
//!
//! It has a reactor of its own, so load on the data path cannot delay a probe (SPEC 4.1). What it does with
//! a probe's result is the control room's decision; this file only carries words back and forth.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use evenkeel_control::{Control, Event, Obeyed, Output, ProbeKey, Totals};
use evenkeel_health::passive::Sample;
use evenkeel_health::settings::ProbeSettings;
use evenkeel_l4::{Gates, Harmed};
use evenkeel_model::event::{self, Refused};
use evenkeel_model::finding::Finding;
use evenkeel_model::standing::{Harm, Order};
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_observe::{BackendMetrics, Registry};
use evenkeel_plan::{Plan, Publisher, Reader};
use evenkeel_probe::{Job, Prober};
use evenkeel_reactor::epoll::{EpollDriver, Waker};
use evenkeel_reactor::{Clock, Driver, Errno, WOKEN};
use tokio::sync::oneshot;

use crate::hearsay::Hearsay;
use crate::side;

/// What the control thread is asked.
enum Ask {
    Plan(Arc<Plan>),
    /// An operator wants something of a backend.
    Operate {
        of: Operated,
        wish: Wish,
        answer: oneshot::Sender<Result<Obeyed, Refused>>,
    },
    /// A configuration was refused; for the record.
    Refused {
        problems: usize,
        first: Arc<str>,
        by: Arc<str>,
    },
    /// A command probe ended.
    Probed {
        key: u64,
        finding: Finding,
    },
    /// Something changed on the side thread; for the record.
    Noted(event::Beside),
    /// Run this on the thread that owns the control room.
    Look(Box<dyn FnOnce(&Control) + Send>),
    Stop,
}

/// Which backend, and who asks.
#[derive(Clone, Debug)]
pub struct Operated {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    /// Stands in the event: the name of a token, or how somebody without one came in.
    pub by: Arc<str>,
}

/// What an operator wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Order {
        order: Order,
        /// After which it falls back to `serve`.
        lasts: Option<Duration>,
        keep: bool,
    },
    /// `None`: that of the config.
    Weight {
        weight: Option<u32>,
        keep: bool,
    },
    Probe,
}

impl Operated {
    fn asks(self, wish: Wish, now: Instant) -> Event {
        let Operated { pool, backend, by } = self;
        match wish {
            Wish::Order { order, lasts, keep } => {
                Event::Ordered { pool, backend, order, until: lasts.map(|lasts| now + lasts), keep, by }
            }
            Wish::Weight { weight, keep } => Event::Weighed { pool, backend, weight, keep, by },
            Wish::Probe => Event::ProbeNow { pool, backend, by },
        }
    }
}

/// Hears of every event, on the control thread.
pub type EventSink = Box<dyn FnMut(&event::Event) + Send>;

/// The other threads' end.
#[derive(Clone)]
pub struct Boss {
    asks: Sender<Ask>,
    waker: Waker,
}

pub struct Started {
    pub boss: Boss,
    pub reader: Reader,
    pub thread: JoinHandle<()>,
}

impl Boss {
    /// Starts the thread with a control room that has just been made by the same clock. `wake_workers` is called after each publication; what traffic shows is read from `traffic`. Probes that
    /// are programs are `side`'s to run.
    ///
    /// # Errors
    /// When the process is out of files or threads.
    pub fn start(
        control: Control,
        clock: Clock,
        mut sink: EventSink,
        wake_workers: Box<dyn Fn() + Send>,
        traffic: Traffic,
        side: side::Orders,
    ) -> Result<Started, std::io::Error> {
        let os = |Errno(number)| std::io::Error::from_raw_os_error(number);
        let mut driver = EpollDriver::new(clock).map_err(os)?;
        let publisher = Publisher::new((*control.snapshot()).clone());
        let reader = publisher.reader();
        let (asks, asked) = channel();
        let boss = Boss { asks, waker: driver.waker() };
        let waker = driver.waker();
        traffic.gates.harms().wake_with(Box::new(move || waker.wake()));
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            let (prober, away) = (Prober::new(), HashSet::new());
            let (slack, hearsay) = (slack(&control.snapshot().plan), Hearsay::default());
            let askers = VecDeque::new();
            let mut room =
                Room { control, prober, publisher, wake_workers, asked, askers, traffic, side, hearsay, away, slack };
            while room.turn(&mut driver, &mut sink) {}
        })?;
        Ok(Started { boss, reader, thread })
    }

    pub fn plan(&self, plan: Arc<Plan>) {
        self.ask(Ask::Plan(plan));
    }

    /// Has something done to a backend. The answer comes when workers have the snapshot that shows it, and never when the
    /// thread has stopped.
    pub fn operate(&self, of: Operated, wish: Wish) -> oneshot::Receiver<Result<Obeyed, Refused>> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Operate { of, wish, answer });
        answered
    }

    pub fn refused(&self, problems: usize, first: Arc<str>, by: Arc<str>) {
        self.ask(Ask::Refused { problems, first, by });
    }

    /// A command probe of this key ended. Nobody listens any more when it was cancelled.
    pub fn probed(&self, key: u64, finding: Finding) {
        self.ask(Ask::Probed { key, finding });
    }

    pub fn noted(&self, beside: event::Beside) {
        self.ask(Ask::Noted(beside));
    }

    /// Computes something from the control room's state, on its thread. `None` when it has stopped.
    pub fn look<T: Send + 'static>(&self, look: impl FnOnce(&Control) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = channel();
        self.ask(Ask::Look(Box::new(move |control| {
            // Nobody waits any more when the asker was cancelled.
            let _ = answer.send(look(control));
        })));
        answered.recv().ok()
    }

    /// The same for who does not wait for it.
    pub fn look_and_go(&self, look: impl FnOnce(&Control) + Send + 'static) {
        self.ask(Ask::Look(Box::new(look)));
    }

    pub fn stop(&self) {
        self.ask(Ask::Stop);
    }

    fn ask(&self, ask: Ask) {
        // The thread ends only after Stop; nothing asked later matters.
        let _ = self.asks.send(ask);
        self.waker.wake();
    }
}

/// Where the control thread sees what traffic does.
pub struct Traffic {
    pub gates: Arc<Gates>,
    pub registry: Arc<Registry>,
}

impl Traffic {
    /// What the backends of a pool have done since the node runs, all workers together.
    fn totals(&self, control: &Control, pool: &Arc<str>) -> Vec<Totals> {
        let plan = Arc::clone(&control.snapshot().plan);
        let of_pool = plan.backends.iter().filter(|backend| plan.pools[backend.pool.index()].name == *pool);
        let totals = of_pool.map(|backend| {
            let label = BackendLabel { pool: Arc::clone(pool), backend: backend.address.to_string().into() };
            let number = |of: fn(&BackendMetrics) -> u64| self.registry.sum_backend(&label, of);
            let harmed = number(|set| {
                let harms = Cause::ALL.iter().filter(|cause| Harm::of(**cause).is_some());
                harms.map(|cause| set.causes.read(*cause)).sum()
            });
            let answered = number(|set| set.first_byte.count());
            let totals = Sample {
                attempts: answered + harmed,
                failed: harmed + number(|set| set.responses[4].read()),
                waited: Duration::from_micros(number(|set| set.first_byte.sum_us())),
                answered,
            };
            Totals { backend: backend.address, totals }
        });
        totals.collect()
    }
}

struct Room {
    control: Control,
    prober: Prober,
    publisher: Publisher,
    wake_workers: Box<dyn Fn() + Send>,
    asked: Receiver<Ask>,
    /// Operators who have no answer yet, in the order of their asks.
    askers: VecDeque<oneshot::Sender<Result<Obeyed, Refused>>>,
    traffic: Traffic,
    side: side::Orders,
    /// What clients met at backends that were silent to probes.
    hearsay: Hearsay,
    /// Probes that run on the side thread.
    away: HashSet<u64>,
    /// How long a due probe may wait for others.
    slack: Duration,
}

/// The most that due probes of a plan are let wait, so that one wake-up starts several. With a cold
/// cache each wake-up costs as much as the probe itself.
fn slack(plan: &Plan) -> Duration {
    const SHARE: u32 = 200;
    let gaps = plan.targets.iter().map(|target| {
        let timing = &target.check.timing;
        timing.interval.min(timing.unhealthy_interval).min(timing.transition_interval)
    });
    let most = Duration::from_millis(limits::PROBE_SLACK.value);
    gaps.min().map_or(Duration::ZERO, |shortest| (shortest / SHARE).min(most))
}

impl Room {
    /// One turn of the loop; false after [`Ask::Stop`].
    fn turn(&mut self, driver: &mut EpollDriver, sink: &mut EventSink) -> bool {
        self.execute(driver, sink);
        // Deadlines of running probes are kept to the moment: what comes after them is another finding.
        let due = self.control.poll_timeout().map(|due| due + self.slack);
        let until = [due, self.prober.poll_timeout()].into_iter().flatten().min();
        let mut events = Vec::new();
        driver.poll(&mut events, until);
        for event in events {
            if event.token == WOKEN {
                for harmed in self.traffic.gates.harms().take() {
                    let Harmed { pool, backend, harm, failures } = harmed;
                    self.control.handle(Event::Harmed { pool, backend, harm, failures }, driver.now());
                }
                while let Ok(ask) = self.asked.try_recv() {
                    let now = driver.now();
                    match ask {
                        Ask::Plan(plan) => {
                            self.slack = slack(&plan);
                            self.control.handle(Event::PlanChanged(plan), now);
                            self.hearsay.plan_changed(&self.control);
                        }
                        Ask::Operate { of, wish, answer } => {
                            self.askers.push_back(answer);
                            self.control.handle(of.asks(wish, now), now);
                        }
                        Ask::Refused { problems, first, by } => {
                            self.control.handle(Event::PlanRefused { problems, first, by }, now);
                        }
                        Ask::Probed { key, finding } => {
                            if self.away.remove(&key) {
                                self.control.handle(Event::ProbeDone { key: ProbeKey(key), finding }, now);
                            }
                        }
                        Ask::Noted(beside) => self.control.handle(Event::Noted(beside), now),
                        Ask::Look(look) => look(&self.control),
                        Ask::Stop => return false,
                    }
                }
            } else {
                self.prober.handle(driver, event);
            }
        }
        // Answers before deadlines: one that is there counts, however late we are (SPEC W7).
        let now = driver.now();
        self.prober.handle_timeout(driver, now);
        self.hand_over(driver);
        self.control.handle_timeout(driver.now());
        true
    }

    fn hand_over(&mut self, driver: &EpollDriver) {
        while let Some(mut done) = self.prober.poll_done() {
            self.hearsay.weigh(&self.control, &self.traffic.registry, done.key, &mut done.finding);
            let event = Event::ProbeDone { key: ProbeKey(done.key), finding: done.finding };
            self.control.handle(event, driver.now());
        }
    }

    /// Does what the control room ordered until it orders nothing more.
    fn execute(&mut self, driver: &mut EpollDriver, sink: &mut EventSink) {
        loop {
            let mut published = false;
            let mut idle = true;
            while let Some(output) = self.control.poll_output() {
                idle = false;
                match output {
                    Output::StartProbe { key, address, check } => {
                        if let ProbeSettings::Command(_) = check.probe {
                            self.away.insert(key.0);
                            self.side.probe(key.0, address, check);
                        } else {
                            self.prober.start(driver, Job { key: key.0, address, check });
                        }
                    }
                    Output::CancelProbe { key } => {
                        if self.away.remove(&key.0) {
                            self.side.cancel_probe(key.0);
                        } else {
                            self.prober.cancel(driver, key.0);
                        }
                    }
                    Output::LookAtTraffic { pool, look } => {
                        let totals = self.traffic.totals(&self.control, &pool);
                        self.control.handle(Event::Sampled { pool, look, totals }, driver.now());
                    }
                    Output::Publish(snapshot) => {
                        self.publisher.publish(snapshot);
                        published = true;
                    }
                    Output::Answered(answer) => {
                        let asker = self.askers.pop_front().expect("control answers each ask once");
                        // Nobody waits any more when the asker was cancelled.
                        let _ = asker.send(answer);
                    }
                    Output::Record(event) => {
                        sink(&event);
                        self.side.happened(event);
                    }
                }
            }
            if published {
                (self.wake_workers)();
            }
            if idle {
                return;
            }
            self.hand_over(driver);
        }
    }
}
