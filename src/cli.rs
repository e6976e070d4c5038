//! Commands, their arguments and exit codes: 0, 1 (a problem), 2 (usage).
//!
//! It parses and dispatches; what a command does is in the file of its name.

#[macro_use]
mod out;

mod check;
mod doctor;
mod explain;
mod generate;
mod node;
mod operate;
mod route;
mod run;
mod top;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use operate::carry_out;

/// A load balancer that tells the truth about health and explains every failure.
#[derive(Parser)]
#[command(name = "evenkeel", version, about, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job live: three backends, a client, faults, verdicts. Needs no config and no root.
    Demo(evenkeel::demo::Arguments),
    /// Serve. SIGHUP reloads the config, SIGTERM drains and stops.
    Run {
        /// The config: TOML, or YAML or JSON by its name.
        #[arg(long, short, default_value = "/etc/evenkeel/evenkeel.toml")]
        config: PathBuf,
    },
    /// Show every problem of a config, each with its place and a way out, and what this host lacks for it.
    Check {
        file: PathBuf,
        /// One JSON document instead of text.
        #[arg(long)]
        json: bool,
        /// Judge the file alone, and not whether this host can do what it asks for.
        #[arg(long)]
        no_host: bool,
    },
    /// Show how long detection and recovery take with a config: best, typical, worst. Beside them stands what the running
    /// node has seen lately, when there is one.
    Window(window::Arguments),
    /// Explain a cause (who is to blame, in which phase, what to do) or a request that failed or was slow: what happened to
    /// it, step by step. Without either: list all causes.
    Explain(explain::Arguments),
    /// Print the JSON Schema of the config, for editors and for tools that write configs.
    Schema,
    /// Ask the rules of a config what would become of a request.
    #[command(subcommand)]
    Route(Route),
    /// Find out what is wrong with a URL and whose fault it is: asks through the balancer, asks the node, asks each backend
    /// straight, compares. It only reads: GET or HEAD unless told otherwise.
    Doctor(doctor::Arguments),
    /// Show how a running node is: what is wrong first, then each backend with its verdict and the evidence.
    Status(operate::status::Arguments),
    /// Watch a running node live, and act on its backends.
    Top(top::Arguments),
    /// Show what changed on a running node: verdicts, orders, plans.
    Events(operate::events::Arguments),
    /// Send a backend no new work; what runs there may finish.
    Drain(operate::orders::LimitedOrder),
    /// Send a backend work again.
    Serve(operate::orders::Order),
    /// Treat a backend as absent, and do not probe it.
    Maintain(operate::orders::LimitedOrder),
    /// Give a backend another weight than its config says.
    Weight(operate::orders::Weight),
    /// Probe a backend at once, and show what is found.
    Probe(operate::orders::Probe),
    /// Show in what a config file differs from what runs.
    Diff(operate::config::Diff),
    /// Make a running node run another config.
    Apply(operate::config::Apply),
    /// Make a running node read its config file again.
    Reload(operate::config::Reload),
    /// Print completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write one for each command into a folder.
    Man { folder: Option<PathBuf> },
}

#[derive(Subcommand)]
enum Route {
    /// Name the listener, rule, pool and backend that a request would come to, and why. Asks no running node.
    Test(route::Arguments),
}

pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Demo(arguments) => evenkeel::demo::run(&arguments),
        Command::Run { config } => run::run(&config),
        Command::Check { file, json, no_host } => {
            check::check(&file, json, if no_host { check::Host::LeftOut } else { check::Host::Included })
        }
        Command::Window(arguments) => window::window(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Schema => {
            println!("{:#}", evenkeel_config::schema());
            ExitCode::SUCCESS
        }
        Command::Route(Route::Test(arguments)) => route::test(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Status(it) => carry_out(&it.node, |client| operate::status::status(client, &it)),
        Command::Top(it) => carry_out(&it.node, |client| top::top(client, &it)),
        Command::Events(it) => carry_out(&it.node, |client| operate::events::events(client, &it)),
        Command::Drain(it) => carry_out(&it.order.node, |client| operate::orders::limited(client, "drain", &it)),
        Command::Serve(it) => carry_out(&it.node, |client| operate::orders::order(client, "serve", None, &it)),
        Command::Maintain(it) => carry_out(&it.order.node, |client| operate::orders::limited(client, "maintain", &it)),
        Command::Weight(it) => carry_out(&it.node, |client| operate::orders::weigh(client, &it)),
        Command::Probe(it) => carry_out(&it.node, |client| operate::orders::probe(client, &it)),
        Command::Diff(it) => carry_out(&it.node, |client| operate::config::diff(client, &it)),
        Command::Apply(it) => carry_out(&it.node, |client| operate::config::apply(client, &it)),
        Command::Reload(it) => carry_out(&it.node, |client| operate::config::reload(client, &it)),
        Command::Completions { shell } => generate::completions(Arguments::command(), shell),
        Command::Man { folder } => generate::man(Arguments::command(), folder.as_deref()),
    }
}
