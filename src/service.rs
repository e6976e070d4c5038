//! A node in service until SIGTERM: the one task that owns the node and changes its plan.
//!
//! It hears signals, new answers to names of backends, and what others ask at the [`Desk`], one after the other. A bad file at
//! the start ends the process, a bad file later changes nothing: at the start there is nobody to serve yet.

mod admin_server;
mod current;
mod desk;

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_config::Format;
use evenkeel_model::Epoch;
use evenkeel_model::event::{Beside, Event, Way};
use evenkeel_plan::{Plan, Resolved};
use evenkeel_reactor::Clock;
use evenkeel_tls::Tickets;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::files::DiskFiles;
use crate::node::Node;
use crate::upgrade::{Legacy, Predecessor, Successor};

pub use desk::{Ask, ConfigText, Desk, Judged, Keep, NotTaken, Running};

use admin_server::AdminServer;
use current::{Current, answers};

/// Who asks when nobody of a name does.
const BY_SIGNAL: &str = "SIGHUP";

/// Runs until the process is told to stop. `files` stay for all reloads, since clients resume their TLS sessions by what is
/// in them.
pub fn run(file: &Path, lacks: impl Fn(&Plan) -> String) -> ExitCode {
    let (predecessor, mut legacy) = match Predecessor::meet() {
        Ok(Some((predecessor, legacy))) => (Some(predecessor), legacy),
        Ok(None) => (None, Legacy::default()),
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(1);
        }
    };
    let mut files = DiskFiles::with_tickets(file, Tickets::inherited(std::mem::take(&mut legacy.tickets)));
    let judged = match current::read(file).map(|text| current::judge(text, &mut files)) {
        Ok((judged, recipe)) => {
            eprint!("{}", judged.render(std::io::stderr().is_terminal()));
            recipe.map(|recipe| (judged.text, recipe))
        }
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let Some((text, recipe)) = judged else { return ExitCode::from(1) };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("admin runtime: {error}");
            return ExitCode::from(1);
        }
    };
    let known = runtime.block_on(answers(&recipe, &Resolved::new()));
    let plan = Arc::new(recipe.plan(&known));
    let current = Current { file: file.to_owned(), text, recipe, known: Arc::clone(&known) };
    eprint!("{}", lacks(&plan));
    let (clock, epoch) = Clock::start();
    let sink = Box::new(move |event: &Event| print_event(event, epoch));
    let node = match Node::prepare(plan, known, clock, epoch, sink, &mut legacy) {
        Ok(node) => node,
        Err(refused) => {
            eprintln!("{refused}");
            return ExitCode::from(1);
        }
    };
    let (desk, asked) = Desk::open();
    let service = Service { node, current, files, epoch, admin: None, desk, asked };
    runtime.block_on(service.serve(predecessor, legacy.admin))
}

struct Service {
    node: Node,
    current: Current,
    files: DiskFiles,
    epoch: Epoch,
    admin: Option<AdminServer>,
    desk: Desk,
    asked: mpsc::Receiver<Ask>,
}

/// How the service ends.
enum End {
    Told,
    /// Another process serves.
    Succeeded,
}

/// What the process is told from outside.
struct Signals {
    hangup: Signal,
    upgrade: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Service {
    async fn serve(mut self, predecessor: Option<Predecessor>, left: Vec<(String, OwnedFd)>) -> ExitCode {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("cannot listen for signals: {error}");
                return ExitCode::from(1);
            }
        };
        if let Err(text) = AdminServer::follow(&mut self.admin, &self.node, &self.desk, left).await {
            eprintln!("{text}");
            self.leave(predecessor.is_some());
            return ExitCode::from(1);
        }
        let place = match self.take_place(predecessor) {
            Ok(place) => place,
            Err(error) => {
                eprintln!("the process before went on without this one: {error}");
                self.leave(true);
                return ExitCode::from(1);
            }
        };
        // Last, so that whoever waits for this line may ask the admin pages at once.
        self.say("node.started", &format!("{}{place}", describe(self.node.plan())));
        let mut names = self.node.names();
        let end = loop {
            let until = self.node.poll_timeout();
            let patience = until.map_or(Duration::MAX, |until| until - self.node.view().clock.now());
            tokio::select! {
                () = tokio::time::sleep(patience), if until.is_some() => self.node.handle_timeout(),
                _ = signals.hangup.recv() => {
                    // What is wrong is in the log by then.
                    let _ = self.reload(BY_SIGNAL).await;
                }
                // The side thread lives as long as the node.
                Ok(()) = names.changed() => {
                    let heard = Arc::clone(&names.borrow_and_update());
                    self.current.rename(&mut self.node, &heard);
                }
                // We hold a desk ourselves, so that there is always somebody to ask.
                Some(ask) = self.asked.recv() => match ask {
                    Ask::Upgrade { by, reply } => {
                        let upgraded = self.upgrade(&by, &mut signals).await;
                        let serves = upgraded.is_ok();
                        let _ = reply.send(upgraded);
                        if serves {
                            break End::Succeeded;
                        }
                    }
                    ask => self.answer(ask).await,
                },
                _ = signals.upgrade.recv() => {
                    if self.upgrade("SIGUSR2", &mut signals).await.is_ok() {
                        break End::Succeeded;
                    }
                }
                _ = signals.terminate.recv() => break End::Told,
                _ = signals.interrupt.recv() => break End::Told,
            }
        };
        self.stop(signals, end).await
    }

    /// Ends before it has served. Sockets that are another process's must not notice.
    fn leave(self, shared: bool) {
        if shared { self.node.hand_over(Duration::ZERO) } else { self.node.drain(Duration::ZERO) }
    }

    /// Begins to serve; where another process served before, in agreement with it.
    fn take_place(&mut self, predecessor: Option<Predecessor>) -> std::io::Result<String> {
        let Some(mut predecessor) = predecessor else {
            self.node.open();
            return Ok(String::new());
        };
        let place = format!("; in place of process {} of version {}", predecessor.pid, predecessor.version);
        predecessor.ready()?;
        self.node.open();
        predecessor.serving();
        Ok(place)
    }

    /// Lets another process take this one's place. When it cannot, everything is as it was.
    async fn upgrade(&mut self, by: &str, signals: &mut Signals) -> Result<u32, NotTaken> {
        self.say("node.upgrading", &format!("by {by}"));
        let upgraded = self.find_successor().await;
        match upgraded {
            Ok(successor) => {
                let pid = successor.pid();
                successor.farewell();
                // Whoever wanted the node to stop meanwhile did not mean this process only.
                let told = [signals.terminate.recv(), signals.interrupt.recv()];
                for told in told {
                    if tokio::time::timeout(Duration::ZERO, told).await.is_ok() {
                        terminate(pid);
                    }
                }
                self.say("node.succeeded", &format!("process {pid} serves from now on"));
                Ok(pid)
            }
            Err(why) => {
                self.node.boss().noted(Beside::UpgradeFailed { why: why.as_str().into() });
                Err(NotTaken::Refused(why))
            }
        }
    }

    async fn find_successor(&self) -> Result<Successor, String> {
        if std::process::id() == 1 {
            // The end of process 1 is the end of its container, whoever serves in it.
            return Err("this is process 1, and its container would end with it: start a new container".to_owned());
        }
        let mut legacy = self.node.legacy().map_err(|error| format!("copies of the sockets: {error}"))?;
        legacy.tickets = self.files.ticket_secrets();
        let admin = self.admin.as_ref().map_or(Ok(Vec::new()), AdminServer::sockets);
        legacy.admin = admin.map_err(|error| format!("copies of the sockets: {error}"))?;
        let started = tokio::task::spawn_blocking(move || Successor::start(legacy)?.go()).await;
        started.map_err(|error| error.to_string())?.map_err(|failed| failed.to_string())
    }

    async fn stop(self, mut signals: Signals, end: End) -> ExitCode {
        let timeout = self.node.plan().node.drain_timeout;
        self.say("node.draining", &format!("for at most {timeout:?}; a second signal stops at once"));
        let node = self.node;
        let drained = match end {
            End::Told => tokio::task::spawn_blocking(move || node.drain(timeout)),
            End::Succeeded => {
                self.admin.into_iter().for_each(AdminServer::leave);
                tokio::task::spawn_blocking(move || node.hand_over(timeout))
            }
        };
        tokio::select! {
            _ = drained => ExitCode::SUCCESS,
            _ = signals.terminate.recv() => ExitCode::from(1),
            _ = signals.interrupt.recv() => ExitCode::from(1),
        }
    }

    /// Who asked may have gone; what was done for them stays done.
    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Reload { by, reply } => {
                let _ = reply.send(self.reload(&by).await);
            }
            Ask::Apply { text, format, keep, by, reply } => {
                let text = ConfigText { name: self.current.text.name.clone(), text, format };
                let _ = reply.send(self.apply(text, keep, &by).await);
            }
            Ask::Judge { text, reply } => {
                let text = match text {
                    Some((text, format)) => Ok(ConfigText { name: self.current.text.name.clone(), text, format }),
                    None => current::read(&self.current.file).map_err(NotTaken::File),
                };
                let _ = reply.send(text.map(|text| self.current.judge(text, &mut self.files)));
            }
            // The loop's, since it ends with it.
            Ask::Upgrade { reply, .. } => drop(reply),
            Ask::Running { reply } => {
                let _ = reply.send(self.running());
            }
        }
    }

    fn running(&self) -> Running {
        Running {
            file: self.current.file.clone(),
            text: self.current.text.clone(),
            recipe: Arc::clone(&self.current.recipe),
            plan: Arc::clone(self.node.plan()),
        }
    }

    /// Reads the file again. Whatever is wrong with it is reported, and the running plan stays.
    async fn reload(&mut self, by: &str) -> Result<Running, NotTaken> {
        let taken = match current::read(&self.current.file) {
            Ok(text) => self.take(text).await,
            Err(text) => Err(NotTaken::File(text)),
        };
        self.tell(Way::Reloaded, by, taken)
    }

    /// Runs with a text that somebody brought.
    async fn apply(&mut self, text: ConfigText, keep: Keep, by: &str) -> Result<Running, NotTaken> {
        let file = &self.current.file;
        let written = Format::of_path(&file.display().to_string());
        if keep == Keep::InFile && written != text.format {
            let (file, is, got) = (file.display(), written.word(), text.format.word());
            return Err(NotTaken::File(format!(
                "\"{file}\" is {is}, and what was sent is {got}: send {is}, or do not keep it"
            )));
        }
        let before = self.current.text.clone();
        let mut taken = self.take(text.clone()).await;
        if taken.is_ok()
            && keep == Keep::InFile
            && let Err(unwritten) = current::write(&self.current.file, &text.text)
        {
            // What runs and what a restart would run must not part over a full disk.
            let _ = self.take(before).await;
            taken = Err(NotTaken::File(unwritten));
        }
        self.tell(Way::Applied, by, taken)
    }

    fn tell(&self, way: Way, by: &str, taken: Result<Running, NotTaken>) -> Result<Running, NotTaken> {
        let boss = self.node.boss();
        match &taken {
            Ok(running) => {
                boss.noted(Beside::ConfigTaken { way, by: by.into(), now: describe(&running.plan).into() });
            }
            Err(why) => boss.refused(why.count(), why.to_string().into(), by.into()),
        }
        taken
    }

    /// Makes a text the running one, or changes nothing.
    async fn take(&mut self, text: ConfigText) -> Result<Running, NotTaken> {
        let (judged, recipe) = current::judge(text, &mut self.files);
        eprint!("{}", judged.render(std::io::stderr().is_terminal()));
        let Some(recipe) = recipe else { return Err(NotTaken::Problems(judged)) };
        // A new name is asked for first: with the plan it would stand for nobody until it is answered.
        let known = answers(&recipe, &self.current.known).await;
        let plan = Arc::new(recipe.plan(&known));
        self.node.reload(plan, Arc::clone(&known)).map_err(|refused| NotTaken::Refused(refused.to_string()))?;
        self.current.text = judged.text;
        self.current.recipe = recipe;
        self.current.known = known;
        if let Err(text) = AdminServer::follow(&mut self.admin, &self.node, &self.desk, Vec::new()).await {
            self.say("admin.refused", &text);
        }
        Ok(self.running())
    }

    /// A line about the process itself, in the form of the events.
    fn say(&self, name: &str, text: &str) {
        eprintln!("{} info {name} {text}", self.epoch.rfc3339(self.node.view().clock.now()));
    }
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn describe(plan: &Plan) -> String {
    let listeners: Vec<String> = plan
        .listeners
        .iter()
        .map(|listener| {
            let addresses: Vec<String> = listener.listen.iter().map(ToString::to_string).collect();
            format!("{} {} {}", listener.name, listener.protocol.word(), addresses.join(" "))
        })
        .collect();
    format!("{}; {} pools, {} backends", listeners.join(", "), plan.pools.len(), plan.backends.len())
}

fn print_event(event: &Event, epoch: Epoch) {
    eprintln!("{} {} {} {event}", epoch.rfc3339(event.at), event.level().word(), event.name());
}
