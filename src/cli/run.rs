//! `evenkeel run`: a node until SIGTERM, with SIGHUP reloading its config.
//!
//! A bad file at the start ends the process, a bad file at a reload changes nothing: one has nobody to serve yet.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use evenkeel::admin;
use evenkeel::files::DiskFiles;
use evenkeel::node::{Node, View};
use evenkeel::side;
use evenkeel_config::{Format, Recipe, Severity, Source, compile_with, render};
use evenkeel_model::event::Event;
use evenkeel_model::{Epoch, Instant};
use evenkeel_plan::{Plan, Resolved};
use evenkeel_reactor::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub fn run(file: &Path) -> ExitCode {
    let mut files = DiskFiles::beside(file);
    let recipe = match super::check::recipe_with(file, &mut files) {
        Ok(recipe) => recipe,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("admin runtime: {error}");
            return ExitCode::from(1);
        }
    };
    let known = runtime.block_on(answers(&recipe, &Resolved::new()));
    let plan = Arc::new(recipe.plan(&known));
    let current = Current { recipe, known: Arc::clone(&known) };
    eprint!("{}", evenkeel_diagnose::host::text(&super::check::missing(&plan)));
    let (clock, epoch) = Clock::start();
    let sink = Box::new(move |event: &Event| print_event(event, epoch));
    let node = match Node::start(plan, known, clock, epoch, sink) {
        Ok(node) => node,
        Err(refused) => {
            eprintln!("{refused}");
            return ExitCode::from(1);
        }
    };
    runtime.block_on(serve(node, current, file, files, epoch))
}

/// The answers to all names of a config, as far as they are `known` or come in good time.
async fn answers(recipe: &Recipe, known: &Resolved) -> Arc<Resolved> {
    let plan = recipe.plan(known);
    let mut answers = Resolved::new();
    let mut unknown = Vec::new();
    for name in &plan.names {
        match known.get(name) {
            Some(known) => {
                answers.insert(name.clone(), known.clone());
            }
            None => unknown.push(name.clone()),
        }
    }
    if !unknown.is_empty() {
        answers.extend(side::first_answers(&unknown, &plan).await);
    }
    Arc::new(answers)
}

async fn serve(mut node: Node, mut current: Current, file: &Path, mut files: DiskFiles, epoch: Epoch) -> ExitCode {
    let (Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::hangup()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("cannot listen for signals");
        return ExitCode::from(1);
    };
    let mut admin = None;
    if let Err(text) = follow_admin(&mut admin, &node).await {
        eprintln!("{text}");
        node.drain(std::time::Duration::ZERO);
        return ExitCode::from(1);
    }
    // Last, so that whoever waits for this line may ask the admin pages at once.
    say(epoch, &node, "node.started", &describe(node.plan()));
    let mut names = node.names();
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&mut node, &mut current, &mut admin, file, &mut files, epoch).await,
            // The side thread lives as long as the node.
            Ok(()) = names.changed() => {
                let heard = Arc::clone(&names.borrow_and_update());
                current.rename(&mut node, &heard);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let timeout = node.plan().node.drain_timeout;
    say(epoch, &node, "node.draining", &format!("for at most {timeout:?}; a second signal stops at once"));
    let drained = tokio::task::spawn_blocking(move || node.drain(timeout));
    tokio::select! {
        _ = drained => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::from(1),
        _ = interrupt.recv() => ExitCode::from(1),
    }
}

/// What the running plan was made of.
struct Current {
    recipe: Arc<Recipe>,
    /// Every answer there is. What the side thread tells may be older than the plan, and lacks then what the plan's new names
    /// stand for.
    known: Arc<Resolved>,
}

impl Current {
    /// The same config with other answers to its names. The files it names are not read again: what happens to them meanwhile
    /// is the next reload's.
    fn rename(&mut self, node: &mut Node, heard: &Resolved) {
        let mut known = (*self.known).clone();
        known.extend(heard.clone());
        known.retain(|name, _| node.plan().names.contains(name));
        self.known = Arc::new(known);
        if let Err(refused) = node.reload(Arc::new(self.recipe.plan(&self.known)), Arc::clone(&self.known)) {
            node.boss().refused(1, refused.to_string().into());
        }
    }
}

/// Reads the file again. Whatever is wrong with it is reported, and the running plan stays.
async fn reload(
    node: &mut Node,
    current: &mut Current,
    admin: &mut Option<Admin>,
    file: &Path,
    files: &mut DiskFiles,
    epoch: Epoch,
) {
    let name = file.display().to_string();
    let refuse = |node: &Node, problems: usize, first: &str| node.boss().refused(problems, first.into());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return refuse(node, 1, &format!("cannot read \"{name}\": {error}")),
    };
    let source = Source { name: &name, text: &text, format: Format::of_path(&name) };
    let compiled = compile_with(&source, files);
    eprint!("{}", render(&source, &compiled.problems, std::io::stderr().is_terminal()));
    let Some(new) = compiled.recipe else {
        let errors = compiled.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let first = errors.clone().next().map(|problem| format!("{name}:{}: {}", problem.place.line, problem.text));
        return refuse(node, errors.count(), &first.unwrap_or_default());
    };
    // A new name is asked for first: with the plan it would stand for nobody until it is answered.
    let known = answers(&new, &current.known).await;
    if let Err(refused) = node.reload(Arc::new(new.plan(&known)), Arc::clone(&known)) {
        return refuse(node, 1, &refused.to_string());
    }
    *current = Current { recipe: new, known };
    if let Err(text) = follow_admin(admin, node).await {
        say(epoch, node, "admin.refused", &text);
    }
    say(epoch, node, "node.reloaded", &describe(node.plan()));
}

/// A running admin server.
struct Admin {
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

/// Starts, moves or stops the admin server as the plan says.
async fn follow_admin(admin: &mut Option<Admin>, node: &Node) -> Result<(), String> {
    let wanted = node.plan().admin.as_ref().map(|admin| admin.listen);
    if admin.as_ref().map(|admin| admin.address) == wanted {
        return Ok(());
    }
    let started = match wanted {
        None => None,
        Some(address) => {
            let view: View = node.view();
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| format!("admin: cannot listen on {address}: {error}"))?;
            let task = tokio::spawn(async move {
                // Ends only with the runtime.
                let _ = axum::serve(listener, admin::router(view)).await;
            });
            Some(Admin { address, task })
        }
    };
    if let Some(before) = std::mem::replace(admin, started) {
        before.task.abort();
    }
    Ok(())
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

/// A line about the process itself, in the form of the events.
fn say(epoch: Epoch, node: &Node, name: &str, text: &str) {
    eprintln!("{} info {name} {text}", epoch.rfc3339(now(node)));
}

fn now(node: &Node) -> Instant {
    node.view().clock.now()
}
