//! `evenkeel explain [CODE | ID]`: what a cause means, or what happened to one request.
//!
//! The words are `diagnose`'s. A request is asked of the running node, which keeps those that failed or were slow, or looked
//! up in an access log. An unknown code is an error with the closest one as a proposal, never a guess.

use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use evenkeel::files::DiskFiles;
use evenkeel::trace::{Written, from_log, told};
use evenkeel_config::{Format, Source, compile_with};
use evenkeel_diagnose::explain as diagnose;
use evenkeel_diagnose::timeline::{Told, text};
use evenkeel_model::Cause;
use evenkeel_model::exchange::ExchangeId;
use evenkeel_model::limits::ADMIN_LISTEN;

use super::doctor::node::{Admin, Place};

#[derive(clap::Args)]
pub struct Arguments {
    /// The code of a cause, or the id of a request: 32 hexadecimal digits, as the access log and our own answers have them.
    /// Without it: all causes.
    #[arg(value_name = "CODE | ID")]
    what: Option<String>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// An access log to look the request up in, instead of asking the node.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "socket"])]
    log: Option<PathBuf>,
    /// The config: says where the node may be asked, and with --log where settings stand.
    #[arg(long, short, default_value = "/etc/evenkeel/evenkeel.toml")]
    config: PathBuf,
    /// The node's admin address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "socket")]
    admin: Option<SocketAddr>,
    /// The node's admin socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A file with the token for the admin API.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub fn explain(arguments: &Arguments) -> ExitCode {
    let Some(what) = arguments.what.as_deref() else {
        print!("{}", if arguments.json { diagnose::all_json() } else { diagnose::all() });
        return ExitCode::SUCCESS;
    };
    match ExchangeId::from_hex(what) {
        Some(id) => request(id, arguments),
        None => cause(what, arguments.json),
    }
}

fn cause(code: &str, json: bool) -> ExitCode {
    let Some(cause) = Cause::from_code(code) else {
        eprint!("there is no cause \"{}\"", code.escape_debug());
        match diagnose::closest(code) {
            Some(close) => eprintln!("; did you mean \"{}\"?", close.code()),
            None => eprintln!("; `evenkeel explain` lists all, and the id of a request has 32 hexadecimal digits"),
        }
        return ExitCode::from(1);
    };
    print!("{}", if json { diagnose::cause_json(cause) } else { diagnose::cause(cause) });
    ExitCode::SUCCESS
}

fn request(id: ExchangeId, arguments: &Arguments) -> ExitCode {
    let story = match &arguments.log {
        Some(log) => in_log(log, id, &arguments.config),
        None => ask(id, arguments),
    };
    match story {
        Ok(told) if arguments.json => {
            println!("{}", serde_json::to_string_pretty(&told).expect("texts and numbers always have a JSON form"));
            ExitCode::SUCCESS
        }
        Ok(told) => {
            print!("{}", text(&told));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(1)
        }
    }
}

fn in_log(log: &Path, id: ExchangeId, config: &Path) -> Result<Told, String> {
    let words = |error: std::io::Error| format!("cannot read \"{}\": {error}", log.display());
    let found = from_log::find(BufReader::new(File::open(log).map_err(words)?), id).map_err(words)?;
    let record = found.ok_or_else(|| format!("no request {id} stands in \"{}\"", log.display()))?;
    let name = config.display().to_string();
    // Without the config the story lacks one thing, and a broken one is not this command's to report.
    let source = std::fs::read_to_string(config).ok();
    let recipe = source.as_ref().and_then(|text| {
        let source = Source { name: &name, text, format: Format::of_path(&name) };
        compile_with(&source, &mut DiskFiles::beside(config)).recipe
    });
    let written = recipe.as_ref().zip(source.as_ref());
    let written = written.map(|(recipe, text)| Written { recipe, text, file: &name });
    Ok(told(&record, from_log::EPOCH, written))
}

fn ask(id: ExchangeId, arguments: &Arguments) -> Result<Told, String> {
    let token = match &arguments.token_file {
        None => None,
        Some(file) => {
            let token = std::fs::read_to_string(file);
            let token = token.map_err(|error| format!("cannot read \"{}\": {error}", file.display()))?;
            Some(token.trim().to_owned())
        }
    };
    let mut failures = Vec::new();
    for place in places(arguments) {
        let admin = Admin { place, token: token.clone() };
        match admin.get(&format!("/api/v1/requests/{id}")) {
            Ok(told) => {
                return Told::read(told)
                    .ok_or_else(|| "what the node tells cannot be read: is it of another version?".into());
            }
            Err(why) => failures.push(format!("node at {}: {why}", admin.place)),
        }
    }
    Err(failures.join("\n"))
}

/// Where the node may be: as was said, else as the config says, else where nodes usually are.
fn places(arguments: &Arguments) -> Vec<Place> {
    if let Some(socket) = &arguments.socket {
        return vec![Place::Socket(socket.clone())];
    }
    if let Some(address) = arguments.admin {
        return vec![Place::Address(address)];
    }
    let name = arguments.config.display().to_string();
    let plan = std::fs::read_to_string(&arguments.config).ok().and_then(|text| {
        let source = Source { name: &name, text: &text, format: Format::of_path(&name) };
        compile_with(&source, &mut DiskFiles::beside(&arguments.config)).plan
    });
    match plan.and_then(|plan| plan.admin) {
        Some(admin) => {
            let socket = admin.socket.map(Place::Socket);
            socket.into_iter().chain(admin.listen.map(Place::Address)).collect()
        }
        None => vec![Place::Address(ADMIN_LISTEN.parse().expect("the default is an address"))],
    }
}
