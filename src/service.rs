//! A node in service until SIGTERM: the one task that owns the node and changes its plan.
//!
//! It hears signals, new answers to names of backends, and what others ask at the [`Desk`], one after the other. A bad file at
//! the start ends the process, a bad file later changes nothing: at the start there is nobody to serve yet.

mod admin_server;
mod current;
mod desk;
mod watch;

use std::io::{IsTerminal, Write};
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

use crate::files::{Content, DiskFiles, digest};
use crate::node::Node;
use crate::systemd::{self, Notify};
use crate::upgrade::{Legacy, Predecessor, Successor};

pub use desk::{Ask, ConfigText, Desk, Judged, Keep, NotTaken, Running};

use admin_server::AdminServer;
use current::{Current, answers};
use watch::Watch;

/// Who asks when nobody of a name does.
const BY_SIGNAL: &str = "SIGHUP";
const BY_WATCH: &str = "node.watch";

/// Runs until the process is told to stop. `files` stay for all reloads, since clients resume their TLS sessions by what is
/// in them.
pub fn run(file: &Path, lacks: impl Fn(&Plan) -> String) -> ExitCode {
    let given = systemd::sockets();
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
    if predecessor.is_none() {
        legacy.sockets = given.sockets;
        legacy.admin = given.local;
        // One address for the admin side among them: it is no listener's.
        let admin = plan.admin.as_ref().and_then(|admin| admin.listen);
        for socket in legacy.sockets.extract_if(.., |socket| Some(socket.address) == admin) {
            legacy.admin.push((socket.address.to_string(), socket.sock));
        }
        given.refused.iter().for_each(|text| eprintln!("systemd's {text}"));
    }
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
    let service = Service {
        node,
        current,
        files,
        epoch,
        admin: None,
        desk,
        asked,
        notify: Notify::from_environment(),
        watch: None,
    };
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
    notify: Notify,
    watch: Option<Watch>,
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
    reopen: Signal,
    stop: Stop,
}

/// The node is to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            reopen: signal(SignalKind::user_defined1())?,
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            },
        })
    }
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
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
        for address in self.node.unclaimed() {
            self.say("node.socket_unused", &format!("{address} was given to this process, and no listener has it"));
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
        self.notify.ready(&describe(self.node.plan()));
        let content = self.content();
        self.watch(content);
        let watchdog = systemd::watchdog();
        let mut alive = tokio::time::interval(watchdog.unwrap_or(Duration::from_secs(3600)));
        let mut names = self.node.names();
        let end = loop {
            let until = self.node.poll_timeout();
            let patience = until.map_or(Duration::MAX, |until| until - self.node.view().clock.now());
            tokio::select! {
                () = tokio::time::sleep(patience), if until.is_some() => self.node.handle_timeout(),
                () = changed(&mut self.watch), if self.watch.is_some() => {
                    let _ = self.reload(BY_WATCH).await;
                }
                _ = alive.tick(), if watchdog.is_some() => self.prove_life(),
                _ = signals.reopen.recv() => self.reopen_log(),
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
                () = signals.stop.told() => break End::Told,
            }
        };
        self.stop(signals, end).await
    }

    /// Ends before it has served. Sockets that are another process's must not notice.
    fn leave(self, shared: bool) {
        if shared {
            self.admin.into_iter().for_each(AdminServer::leave);
        }
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
                // First, so that what the other says is heard as the main process's.
                self.notify.succeeded(pid);
                successor.farewell();
                // Whoever wanted the node to stop meanwhile did not mean this process only.
                if tokio::time::timeout(Duration::ZERO, signals.stop.told()).await.is_ok() {
                    terminate(pid);
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

    /// Other lines go to a file of the old name from now on.
    fn reopen_log(&self) {
        match self.node.reopen_log() {
            Ok(Some(path)) => self.say("node.log_reopened", &format!("\"{}\"", path.display())),
            Ok(None) => self.say("node.log_reopened", "the access log is no file, so there is nothing to reopen"),
            Err(refused) => self.node.boss().noted(Beside::LogStuck { why: refused.to_string().into() }),
        }
    }

    /// Alive is who decides: a control thread that hangs, or a loop that does not come here, is not.
    fn prove_life(&self) {
        let (boss, notify) = (self.node.boss().clone(), self.notify.clone());
        tokio::task::spawn_blocking(move || {
            if boss.look(|_| ()).is_some() {
                notify.alive();
            }
        });
    }

    /// What the config and the files it names held when they were read.
    fn content(&self) -> Content {
        let mut content = self.files.seen().clone();
        content.insert(self.current.file.clone(), Some(digest(self.current.text.text.as_bytes())));
        content
    }

    /// Watches files, if the plan says so.
    fn watch(&mut self, content: Content) {
        self.watch = None;
        if !self.node.plan().node.watch {
            return;
        }
        match Watch::new(content) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => self.node.boss().noted(Beside::WatchFailed { why: error.to_string().into() }),
        }
    }

    async fn stop(mut self, mut signals: Signals, end: End) -> ExitCode {
        let delay = self.node.plan().node.shutdown_delay;
        if matches!(end, End::Told) {
            self.notify.stopping();
            self.node.announce_stop();
            if !delay.is_zero() {
                self.say(
                    "node.stopping",
                    &format!("not ready from now on, and drains in {delay:?}; a second signal drains at once"),
                );
                let until = tokio::time::Instant::now() + delay;
                loop {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => break,
                        () = signals.stop.told() => break,
                        // Whoever decides whether to send somebody asks the pages, and those ask here.
                        Some(ask) = self.asked.recv() => self.answer(ask).await,
                    }
                }
            }
        }
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
            () = signals.stop.told() => ExitCode::from(1),
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
        self.notify.reloading();
        let before = self.content();
        self.files.forget();
        let (read, taken) = match current::read(&self.current.file) {
            Ok(text) => (Some(digest(text.text.as_bytes())), self.take(text).await),
            Err(text) => (None, Err(NotTaken::File(text))),
        };
        // What was refused is not tried again before it is another, and where reading came to an early end the rest is watched as before.
        let mut content = self.files.seen().clone();
        if taken.is_err() {
            content.extend(before.into_iter().filter(|(file, _)| !self.files.seen().contains_key(file)));
        }
        content.insert(self.current.file.clone(), read);
        self.watch(content);
        self.notify.ready(&match &taken {
            Ok(running) => describe(&running.plan),
            Err(why) => format!("the config was refused, the one before runs: {why}").replace('\n', " "),
        });
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
        // A file that was written here is no news.
        if taken.is_ok() && keep == Keep::InFile {
            let content = self.content();
            self.watch(content);
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
        print_line(format!("{} info {name} {text}", self.epoch.rfc3339(self.node.view().clock.now())));
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
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
    print_line(format!("{} {} {} {event}", epoch.rfc3339(event.at), event.level().word(), event.name()));
}

/// With one call: during an upgrade two processes write here, and `eprintln!` would let them into each other's lines.
fn print_line(mut line: String) {
    line.push('\n');
    // Nobody reads any more.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
