//! `evenkeel doctor URL`: collects facts and decides nothing; what they mean is said by `evenkeel_diagnose::doctor`.
//!
//! Before it sends anything it says what it will send. Requests go out as a client's would, then to the node's admin API,
//! then straight to the backends; nothing is written anywhere but to the report that was asked for.
//!
//! Exit code 0: nothing wrong was seen. 1: a fault was found, or nothing could be told. 2: there was nothing to ask.

mod client;
mod host;
mod log;
pub(super) mod node;
mod plan;
mod straight;
mod url;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel::files;
use evenkeel_diagnose::doctor::facts::{Connect, Facts, Listener, Node, Question, Scheme, Try};
use evenkeel_diagnose::doctor::{self, Extra, Outcome};
use evenkeel_model::limits;
use evenkeel_plan::Plan;
use evenkeel_tls::{Offers, Witness};
use rustls::pki_types::ServerName;

use client::Way;
use node::{Admin, Place};
use url::Url;

/// Where a config and a node are looked for when nobody says.
const CONFIG: &str = "/etc/evenkeel/evenkeel.toml";
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9900);
const SOCKET: &str = "/run/evenkeel/admin.sock";

/// For each connect beside the requests.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Between the beginnings of requests, so that they are not one burst.
const STAGGER: Duration = Duration::from_millis(50);
/// More would be a load test.
const COUNT_MAX: usize = 200;
/// Requests under way at once.
const AT_ONCE: usize = 10;

#[derive(clap::Args)]
pub struct Arguments {
    /// The URL that fails: http, https, tcp://HOST:PORT or udp://HOST:PORT.
    #[arg(required_unless_present = "log")]
    url: Option<String>,
    /// The config of the balancer, for when the node cannot be asked; TOML, or YAML or JSON by its name.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's admin address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "socket")]
    admin: Option<SocketAddr>,
    /// The node's admin socket.
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// A file with the token for the admin API.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The method; anything but GET and HEAD may change something, so it is yours to choose.
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// A field of the request; can be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// A body to send.
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// An address for a name, in the place of DNS; can be given several times.
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = url::given)]
    resolve: Vec<(String, IpAddr)>,
    /// Requests through the balancer.
    #[arg(long, default_value_t = 5)]
    count: usize,
    /// Seconds that each request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// Write everything a stranger needs to help into one file, without secrets.
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    report: Option<PathBuf>,
    /// Ask a captured access log instead of a running node; with a URL, its host and path only.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

pub fn doctor(arguments: &Arguments) -> ExitCode {
    if let Some(file) = &arguments.log {
        return log::doctor(file, arguments.url.as_deref(), arguments.json);
    }
    let (facts, known) = match collect(arguments) {
        Ok(collected) => collected,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let diagnosis = doctor::diagnose(&facts);
    if arguments.json {
        let document = doctor::json(&diagnosis);
        println!("{}", serde_json::to_string_pretty(&document).expect("texts and numbers always have a JSON form"));
    } else {
        print!("{}", doctor::text(&diagnosis));
    }
    if let Some(file) = &arguments.report {
        let text = doctor::report(&facts, &diagnosis, &extra(arguments, known));
        // Who may read it is the operator's to say.
        let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
        if let Err(error) = written.and_then(|mut file| file.write_all(text.as_bytes())) {
            eprintln!("the report {} cannot be written: {error}", file.display());
            return ExitCode::from(2);
        }
        eprintln!("the report is in {}; read it before you pass it on", file.display());
    }
    exit_code(diagnosis.judgement.outcome)
}

const fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::NothingWrong => ExitCode::SUCCESS,
        Outcome::Fault(_) | Outcome::CannotTell => ExitCode::FAILURE,
    }
}

fn extra(arguments: &Arguments, known: Known) -> Extra {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let headers = arguments.headers.iter().filter_map(|field| Some(field.split_once(':')?.1.trim().to_owned()));
    Extra {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        system: format!("Linux {}, {}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH),
        config: known.text,
        secrets: headers.chain(arguments.data.clone()).chain(known.token).collect(),
    }
}

/// # Errors
/// Says what is wrong with the question.
fn collect(arguments: &Arguments) -> Result<(Facts, Known), String> {
    let asked = arguments.url.as_deref().unwrap_or_default();
    let url = Url::read(asked)?;
    let head = head(arguments, &url)?;
    let patience = Duration::from_secs(arguments.timeout.clamp(1, 3600));
    let count = arguments.count.clamp(1, COUNT_MAX);
    let mut facts = Facts {
        question: Question {
            url: asked.to_owned(),
            scheme: url.scheme,
            method: arguments.method.clone(),
            authority: url.authority.clone(),
            host: url.host.clone(),
            port: url.port,
            path: url.path.clone(),
            head_bytes: head.len(),
            timeout: patience,
        },
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        ..Facts::default()
    };
    if !arguments.json {
        announce(&facts.question, count);
    }
    let before = host::look(None);
    let (resolution, addresses) = url::resolve(&url, &arguments.resolve);
    facts.name = Some(resolution);
    let to = connects(&url, &addresses, &mut facts);
    if let Some(to) = to {
        through(&url, to, &head, arguments, count, &mut facts);
    }
    let known = ask_node(arguments, &mut facts);
    let pid =
        known.status.as_ref().and_then(|status| status["node"]["pid"].as_u64()).and_then(|pid| u32::try_from(pid).ok());
    let is_here = matches!(&facts.node, Node::Answered(told) if told.is_here);
    facts.host = Some(host::look_again(pid.filter(|_| is_here), &before));
    match &known.plan {
        Ok(plan) => {
            let to = to.or_else(|| addresses.first().map(|address| SocketAddr::new(*address, url.port)));
            plan::look(plan, &url, to, &head, arguments, known.status.as_ref(), &mut facts);
        }
        Err(why) => facts.no_config = Some(why.clone()),
    }
    recount(&known, &mut facts);
    Ok((facts, known))
}

fn announce(question: &Question, count: usize) {
    let what = match question.scheme {
        Scheme::Http | Scheme::Https => {
            format!("sends {} {} as a client would, {count} times", question.method, question.url)
        }
        Scheme::Tcp => format!("connects to {} as a client would, {count} times", question.url),
        Scheme::Udp => "sends nothing as a client: what an answer is, only you know".to_owned(),
    };
    println!("evenkeel doctor {}", question.url);
    println!("It {what}; asks the node and reads its config; then asks each backend straight. Nothing is changed.\n");
}

/// The request as a client would send it.
fn head(arguments: &Arguments, url: &Url) -> Result<Vec<u8>, String> {
    let method = &arguments.method;
    if method.is_empty()
        || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    {
        return Err(format!("\"{}\" is no method; write one word such as GET", method.escape_debug()));
    }
    let mut host = url.authority.as_str();
    let mut agent = Some(concat!("User-Agent: evenkeel-doctor/", env!("CARGO_PKG_VERSION"), "\r\nAccept: */*\r\n"));
    let mut fields = String::new();
    for field in &arguments.headers {
        // The value may be a secret, so it is not repeated.
        let Some((name, value)) = field.split_once(':') else {
            return Err("a --header has no colon; write it \"Name: value\"".to_owned());
        };
        if let Some(bad) = field.chars().find(|character| matches!(character, '\r' | '\n' | '\0')) {
            return Err(format!("header {} holds {bad:?}, which no field can", name.escape_debug()));
        }
        if name.trim().eq_ignore_ascii_case("host") {
            host = value.trim();
        } else {
            if name.trim().eq_ignore_ascii_case("user-agent") || name.trim().eq_ignore_ascii_case("accept") {
                agent = None;
            }
            fields += &format!("{}: {}\r\n", name.trim(), value.trim());
        }
    }
    let length = arguments.data.as_ref().map_or_else(String::new, |data| format!("Content-Length: {}\r\n", data.len()));
    let text = format!(
        "{method} {} HTTP/1.1\r\nHost: {host}\r\n{}{fields}{length}Connection: close\r\n\r\n",
        url.path,
        agent.unwrap_or_default()
    );
    Ok(text.into_bytes())
}

/// Tries each address, and gives the first that takes a connection.
fn connects(url: &Url, addresses: &[IpAddr], facts: &mut Facts) -> Option<SocketAddr> {
    if url.scheme == Scheme::Udp {
        return addresses.first().map(|address| SocketAddr::new(*address, url.port));
    }
    for address in addresses {
        let to = SocketAddr::new(*address, url.port);
        let began = std::time::Instant::now();
        let result = client::dial(to, None, CONNECT_PATIENCE).map(|_| began.elapsed());
        facts.connects.push(Connect { to, from: None, result });
    }
    facts.connects.iter().find(|connect| connect.result.is_ok()).map(|connect| connect.to)
}

/// What goes out through the balancer.
fn through(url: &Url, to: SocketAddr, head: &[u8], arguments: &Arguments, count: usize, facts: &mut Facts) {
    let patience = facts.question.timeout;
    match url.scheme {
        Scheme::Udp => {}
        Scheme::Tcp => facts.through = repeat(count, || client::greet(to, None, patience)),
        Scheme::Http | Scheme::Https => {
            let tls = if url.scheme == Scheme::Https {
                let Some((witness, name)) = witness(&url.host) else { return };
                let seen = client::shake_hands(
                    to,
                    None,
                    &witness,
                    &name,
                    CONNECT_PATIENCE.max(patience.min(Duration::from_secs(10))),
                );
                let failed = seen.failed.is_some();
                facts.tls = Some(seen);
                if failed {
                    return;
                }
                Some((Arc::clone(&witness.config), name))
            } else {
                None
            };
            // What the balancer refuses of a backend is judged straight; here a client is asked, who takes more.
            let way = Way { to, from: None, tls, proxy: None, patience, header_limit: CLIENT_HEADER_LIMIT };
            let request = with_body(head, arguments);
            facts.through = repeat(count, || client::ask(&way, &request, &arguments.method));
        }
    }
}

/// Browsers take 256 KiB.
const CLIENT_HEADER_LIMIT: usize = 256 << 10;

fn with_body(head: &[u8], arguments: &Arguments) -> Vec<u8> {
    [head, arguments.data.as_deref().unwrap_or_default().as_bytes()].concat()
}

/// A witness for a server of that name.
fn witness(host: &str) -> Option<(Witness, ServerName<'static>)> {
    let authorities = files::authorities();
    let witness = Witness::new(authorities.as_deref(), Offers::Http1, Arc::new(files::WallClock)).ok()?;
    Some((witness, ServerName::try_from(host.to_owned()).ok()?))
}

/// The same several times, some at once: a fault of one in several backends shows, and slow answers do not add up.
fn repeat(count: usize, ask: impl Fn() -> Try + Sync) -> Vec<Try> {
    let numbers: Vec<usize> = (0..count).collect();
    let mut tries = Vec::with_capacity(count);
    for group in numbers.chunks(AT_ONCE) {
        tries.extend(std::thread::scope(|scope| {
            let started: Vec<_> = group
                .iter()
                .map(|_| {
                    let started = scope.spawn(&ask);
                    std::thread::park_timeout(STAGGER);
                    started
                })
                .collect();
            started.into_iter().filter_map(|asking| asking.join().ok()).collect::<Vec<_>>()
        }));
    }
    tries
}

/// What is known of the balancer besides its answers.
struct Known {
    plan: Result<Plan, String>,
    /// The config's name and text.
    text: Option<(String, String)>,
    token: Option<String>,
    status: Option<serde_json::Value>,
    causes: Option<serde_json::Value>,
}

fn ask_node(arguments: &Arguments, facts: &mut Facts) -> Known {
    let token = arguments
        .token_file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok())
        .map(|token| token.trim().to_owned());
    let from_file = arguments.config.as_deref().map(plan::read);
    let places: Vec<Place> = match (&arguments.admin, &arguments.socket) {
        (Some(address), _) => vec![Place::Address(*address)],
        (None, Some(socket)) => vec![Place::Socket(socket.clone())],
        (None, None) => match from_file.as_ref().and_then(|plan| plan.as_ref().ok()?.admin.as_ref()) {
            Some(admin) => {
                let socket = admin.socket.clone().map(Place::Socket);
                socket.into_iter().chain(admin.listen.map(Place::Address)).collect()
            }
            None if arguments.config.is_some() => Vec::new(),
            None => vec![Place::Socket(PathBuf::from(SOCKET)), Place::Address(ADMIN)],
        },
    };
    let mut known = Known { plan: Err(String::new()), text: None, token: token.clone(), status: None, causes: None };
    for place in places {
        let admin = Admin { place, token: token.clone() };
        match admin.get("/status") {
            Ok(status) => {
                let is_here = admin.is_here(&files::own_addresses());
                known.causes = admin.get("/api/v1/causes").ok();
                facts.node = Node::Answered(Box::new(node::told(&status, None, None, &admin.place, is_here)));
                known.status = Some(status);
                break;
            }
            Err(why) => facts.node = Node::Absent { place: admin.place.to_string(), why },
        }
    }
    let named = known.status.as_ref().and_then(|status| status["config"]["file"].as_str()).map(PathBuf::from);
    let file = arguments.config.clone().or(named).unwrap_or_else(|| PathBuf::from(CONFIG));
    known.text = std::fs::read_to_string(&file).ok().map(|text| (file.display().to_string(), text));
    known.plan = from_file.unwrap_or_else(|| {
        if Path::new(&file).exists() {
            plan::read(&file)
        } else {
            Err("no config is known; --config FILE names it".to_owned())
        }
    });
    known
}

/// Failures are counted for the listener, which is known last.
fn recount(known: &Known, facts: &mut Facts) {
    let listener = facts.listener.as_ref().map(|Listener { name, .. }| name.clone());
    if let (Node::Answered(told), Some(status)) = (&facts.node, &known.status) {
        let place = told.place.clone();
        let (is_here, causes) = (told.is_here, known.causes.as_ref());
        let mut told = node::told(status, causes, listener.as_deref(), &Place::Socket(PathBuf::new()), is_here);
        told.place = place;
        facts.node = Node::Answered(Box::new(told));
    }
}

/// What a listener takes of a head when nothing is known of it.
fn usual_header_limit() -> usize {
    limits::HEADER_LIMIT.default as usize
}
