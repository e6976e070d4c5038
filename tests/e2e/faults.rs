//! The main job: servers die, hang and come back behind a running balancer, and every window and failure is explained.
//!
//! Three real nginx and three echo servers on a host of their own; the balancer with its clients on another. For each
//! fault: the verdict with its evidence, the observed times against SPEC W5 and W6 computed from the config, and
//! every failed request with its cause. None may fall outside the window. The table that is printed is also
//! written to the target folder as `fault-table.md`.
//!
//! Times are the daemon's own: of its events and its access log. Only the moment of a fault is the test's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, detection, fail_window, recovery, success_window};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::Steady;
use crate::daemon::{Daemon, Folder, Setup, connections_to, has, skipped, unix_time, until};
use crate::lab::{BACKENDS, Lab};

const TIMING: Timing = Timing::new(Duration::from_secs(1), Duration::from_millis(500), 3, 3);

/// A well backend answers its probe within this, on a busy machine too.
const RESPONSE: Duration = Duration::from_millis(50);

/// A probe under way when a fault came had begun so much before it at most. Lower bounds are computed for
/// backends that answer in no time and lowered by this.
const UNDER_WAY: Duration = Duration::from_millis(150);

/// Added to every upper bound: what a machine under load may hold up between a fault, a probe, and an event.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How long after a verdict a worker may still pick the backend: the snapshot is on its way, and the verdict's
/// time is written in milliseconds.
const PUBLISHING: Duration = Duration::from_millis(200);

const WEB: &str = "10.98.0.1:80";
const DATABASE: &str = "10.98.0.1:5432";

const CONFIG: &str = r#"
[[listener]]
name = "web"
listen = "10.98.0.1:80"
pool = "web"

[[pool]]
name = "web"
backends = ["10.98.0.11:8080", "10.98.0.12:8080", "10.98.0.13:8080"]
connect_timeout = "1s"
response_timeout = "1s"
check = { kind = "http", path = "/health", timeout = "1s", interval = "500ms", healthy_threshold = 3, unhealthy_threshold = 3 }

[[listener]]
name = "database"
listen = "10.98.0.1:5432"
protocol = "tcp"
idle_timeout = "5m"
pool = "database"

[[pool]]
name = "database"
schedule = "wlc"
backends = ["10.98.0.11:5432", "10.98.0.12:5432", "10.98.0.13:5432"]
connect_timeout = "1s"
check = { kind = "tcp", timeout = "1s", interval = "500ms", healthy_threshold = 3, unhealthy_threshold = 3 }
"#;

const ECHO: &str = r#"
import asyncio, sys
async def session(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(session, sys.argv[1], 5432)
    await server.serve_forever()
asyncio.run(main())
"#;

/// A server of a backend's host.
pub struct Server {
    child: Child,
}

impl Server {
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid"), signal)
            .expect("the child is not reaped yet");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL ends stopped processes too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn nginx(lab: &Lab, folder: &Path, address: &str) -> Server {
    let config = folder.join(format!("{address}.conf"));
    let place = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {place}/{address}.pid; error_log {place}/{address}.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {place}/{address}.body;\n\
         server {{ listen {address}:8080;\n\
         location = /health {{ if (-f {place}/{address}.sick) {{ return 500; }} return 200 \"well\\n\"; }}\n\
         location / {{ return 200 \"hello from {address}\\n\"; }} }} }}\n"
    );
    fs::write(&config, text).expect("the folder can be written");
    let mut command = lab.backend_command("nginx");
    command.args(["-p", &place.to_string(), "-c"]).arg(&config);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server { child: child.expect("nginx was found before") };
    until("nginx to listen", || lab.listens(address, 8080).then_some(()));
    server
}

fn echo(lab: &Lab, address: &str) -> Server {
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let mut command = lab.backend_command(python);
    let child = command.args(["-c", ECHO, address]).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server { child: child.expect("python3 was found before") };
    until("the echo server to listen", || lab.listens(address, 5432).then_some(()));
    server
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Stop,
    Kill,
    Drop,
    RejectIcmp,
    RejectReset,
    SickHealthPage,
}

impl Fault {
    const ALL: [Fault; 6] =
        [Fault::Stop, Fault::Kill, Fault::Drop, Fault::RejectIcmp, Fault::RejectReset, Fault::SickHealthPage];

    const fn words(self) -> &'static str {
        match self {
            Fault::Stop => "`kill -STOP`",
            Fault::Kill => "`kill -9`",
            Fault::Drop => "nft `drop`",
            Fault::RejectIcmp => "nft `reject` (ICMP)",
            Fault::RejectReset => "nft `reject` (TCP reset)",
            Fault::SickHealthPage => "500 on the health path",
        }
    }

    /// How probes of a pool end under it: the quickest and the slowest way. `None`: they pass.
    fn failing(self, pool: &str) -> Option<[Failing; 2]> {
        let http = pool == "web";
        let both = |failing| Some([failing, failing]);
        match self {
            // The kernel completes handshakes for a stopped process, so a tcp probe cannot see it.
            Fault::Stop if http => both(Failing::Silent),
            Fault::SickHealthPage if http => both(Failing::Refused),
            Fault::Stop | Fault::SickHealthPage => None,
            Fault::Drop => both(Failing::Silent),
            Fault::Kill | Fault::RejectReset => both(Failing::Refused),
            // A kernel sends about one ICMP error a second to each host, and our own traffic uses them up: most
            // probes meet silence, some are refused.
            Fault::RejectIcmp => Some([Failing::Refused, Failing::Silent]),
        }
    }

    /// Causes that requests or new connections inside the window may fail with.
    const fn causes(self) -> &'static [&'static str] {
        match self {
            // Connects and what waits on kept connections come to nothing in their time
            // (established connections take an ICMP error for a passing one).
            Fault::Stop | Fault::Drop | Fault::RejectIcmp => &["backend_response_timeout", "backend_connect_timeout"],
            // Repeated on another backend, within the retry budget.
            Fault::Kill => &["retry_budget_exhausted", "backend_reset_relay"],
            Fault::RejectReset => &["retry_budget_exhausted", "backend_reset_relay"],
            Fault::SickHealthPage => &[],
        }
    }
}

/// The servers and what can be done to one of them.
struct Scene<'a> {
    lab: &'a Lab,
    folder: Folder,
    web: Vec<Server>,
    database: Vec<Server>,
}

impl Scene<'_> {
    fn make(&mut self, fault: Fault, victim: usize) {
        let address = BACKENDS[victim];
        match fault {
            Fault::Stop | Fault::Kill => {
                let signal = if fault == Fault::Stop { Signal::STOP } else { Signal::KILL };
                self.web[victim].signal(signal);
                self.database[victim].signal(signal);
            }
            Fault::Drop => self.lab.firewall(&format!("ip daddr {address} drop")),
            Fault::RejectIcmp => {
                self.lab.firewall(&format!("ip daddr {address} reject with icmp type admin-prohibited"))
            }
            Fault::RejectReset => {
                self.lab.firewall(&format!("ip daddr {address} meta l4proto tcp reject with tcp reset"))
            }
            Fault::SickHealthPage => {
                fs::write(self.sick(victim), "").expect("the folder can be written");
            }
        }
    }

    fn heal(&mut self, fault: Fault, victim: usize) {
        match fault {
            Fault::Stop => {
                self.web[victim].signal(Signal::CONT);
                self.database[victim].signal(Signal::CONT);
            }
            Fault::Kill => {
                let (lab, address) = (self.lab, BACKENDS[victim]);
                self.web[victim] = nginx(lab, &self.folder.0, address);
                self.database[victim] = echo(lab, address);
            }
            Fault::Drop | Fault::RejectIcmp | Fault::RejectReset => self.lab.open_firewall(),
            Fault::SickHealthPage => fs::remove_file(self.sick(victim)).expect("it was made above"),
        }
    }

    fn sick(&self, victim: usize) -> std::path::PathBuf {
        self.folder.0.join(format!("{}.sick", BACKENDS[victim]))
    }
}

/// Clients of the echo servers: sessions that stay, and a trickle of new ones.
struct Sessions {
    stop: Arc<AtomicBool>,
    /// Sessions that ended although nobody wanted them to.
    broken: Arc<AtomicU64>,
    echoes: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
    /// When new connections failed.
    refused: Arc<Mutex<Vec<Duration>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Sessions {
    const LONG: usize = 9;

    fn start() -> Sessions {
        let mut sessions = Sessions {
            stop: Arc::default(),
            broken: Arc::default(),
            echoes: Arc::default(),
            opened: Arc::default(),
            refused: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..Sessions::LONG {
            let (stop, broken, echoes) =
                (Arc::clone(&sessions.stop), Arc::clone(&sessions.broken), Arc::clone(&sessions.echoes));
            sessions.threads.push(std::thread::spawn(move || {
                let mut session = None;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(50));
                    // A session waits as long as a database client would: through the whole fault.
                    let said = session.take().or_else(|| connect(Duration::from_secs(60)));
                    session = said.and_then(say);
                    let count = if session.is_some() { &echoes } else { &broken };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let (stop, opened, refused) =
            (Arc::clone(&sessions.stop), Arc::clone(&sessions.opened), Arc::clone(&sessions.refused));
        sessions.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(50));
                let begun = now();
                if connect(Duration::from_secs(3)).and_then(say).is_some() {
                    opened.fetch_add(1, Ordering::Relaxed);
                } else {
                    refused.lock().expect("no client panics with it").push(begun);
                }
            }
        }));
        sessions
    }

    /// When new sessions failed, how many did not, and how many long ones broke.
    fn stop(self) -> (Vec<Duration>, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        let refused = self.refused.lock().expect("no client panics with it").clone();
        (refused, self.opened.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed))
    }
}

fn connect(patience: Duration) -> Option<TcpStream> {
    let stream = TcpStream::connect(DATABASE).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    Some(stream)
}

/// Whether an access-log line is of something that began before `begun` and ended between it and `over`.
fn ended_between(line: &Value, begun: Duration, over: Duration) -> bool {
    let started = unix_time(line["time"].as_str().expect("a line has a time"));
    let lasted = Duration::from_secs_f64(line["duration_ms"].as_f64().expect("a line has a duration") / 1000.0);
    started < begun && (begun..=over).contains(&(started + lasted))
}

/// One question and its answer.
fn say(mut stream: TcpStream) -> Option<TcpStream> {
    let mut answer = [0; 16];
    stream.write_all(b"select 1 + 1; --").ok()?;
    stream.read_exact(&mut answer).ok()?;
    assert_eq!(&answer, b"select 1 + 1; --", "bytes of somebody else");
    Some(stream)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A verdict as the status page tells it.
struct Verdict {
    at: Duration,
    event: Value,
}

fn wait_verdict(daemon: &Daemon, name: &str, backend: &str, since: Duration) -> Verdict {
    until(&format!("{name} of {backend}"), || {
        let status = daemon.status();
        let event = status["events"].as_array()?.iter().find(|event| {
            event["event"] == name
                && event["backend"] == backend
                // Events are dated in milliseconds.
                && unix_time(event["time"].as_str().unwrap_or_default()) + Duration::from_millis(1) >= since
        })?;
        Some(Verdict { at: unix_time(event["time"].as_str()?), event: event.clone() })
    })
}

/// Compares an observed time with its span and the event's own window with SPEC W5 or W6.
fn check_times(
    what: &str,
    verdict: &Verdict,
    begun: Duration,
    done: Duration,
    best: Duration,
    worst: Duration,
) -> Duration {
    let observed = verdict.at.saturating_sub(done);
    let void = verdict.event["void"].as_u64().unwrap_or(0) as u32;
    let bound = worst + (TIMING.timeout + TIMING.interval) * void + TOLERANCE;
    assert!(observed <= bound, "{what}: {observed:?}, bound {bound:?}: {}", verdict.event);
    // Not earlier than the formula allows either: a run was really counted.
    let least = best.saturating_sub(UNDER_WAY);
    assert!(verdict.at.saturating_sub(begun) >= least, "{what}: sooner than {least:?}: {}", verdict.event);
    assert_eq!(verdict.event["probes"], 3, "{what}: {}", verdict.event);
    assert_eq!(verdict.event["findings"].as_array().map(Vec::len), Some(3), "{what}: the evidence is whole");
    let milliseconds = |key: &str| verdict.event[key].as_f64().expect("an event has its windows");
    let late = milliseconds("window") - milliseconds("window_computed");
    assert!((0.0..1000.0).contains(&late), "{what}: window and computed window differ: {}", verdict.event);
    observed
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(cause, count)| format!("{count} `{cause}`")).collect::<Vec<_>>().join(", ")
}

struct Table {
    web: String,
    database: String,
}

/// One fault of one backend, from the fault until everybody is well again.
fn play(scene: &mut Scene<'_>, daemon: &Daemon, steady: &Steady, fault: Fault, table: &mut Table) {
    let victim = 1;
    let backends = [("web", format!("{}:8080", BACKENDS[victim])), ("database", format!("{}:5432", BACKENDS[victim]))];
    let served_before = steady.so_far().good;
    let sessions = Sessions::start();
    let database: SocketAddr = backends[1].1.parse().expect("an address");
    until("long sessions", || (sessions.echoes.load(Ordering::Relaxed) > 30).then_some(()));
    let on_victim = until("long sessions on the victim", || Some(connections_to(database)).filter(|open| *open > 0));
    eprintln!("{}", fault.words());

    let begun = now();
    scene.make(fault, victim);
    let made = now();
    let verdicts: Vec<Option<Verdict>> = backends
        .iter()
        .map(|(pool, backend)| fault.failing(pool).map(|_| wait_verdict(daemon, "backend.unhealthy", backend, begun)))
        .collect();
    // The others serve while the victim is away: traffic must be seen to flow before it is healed.
    let good = steady.so_far().good;
    until("traffic without the victim", || (steady.so_far().good >= good + 100).then_some(()));
    let healing = now();
    scene.heal(fault, victim);
    let healed = now();
    let recoveries: Vec<Option<Verdict>> = backends
        .iter()
        .zip(&verdicts)
        .map(|((_, backend), verdict)| {
            verdict.as_ref().map(|_| wait_verdict(daemon, "backend.healthy", backend, healing))
        })
        .collect();
    // The victim serves again, and what the fault held up has been logged.
    let before = daemon.backend("web", &backends[0].1)["attempts_total"].as_u64().expect("a count");
    until("new work for the healed backend", || {
        (daemon.backend("web", &backends[0].1)["attempts_total"].as_u64()? > before + 20).then_some(())
    });
    let over = now();
    let (refused, opened, broken) = sessions.stop();

    for (index, (pool, backend)) in backends.iter().enumerate() {
        let what = format!("{} / {pool}", fault.words());
        // Failures by cause, of everything that began since the fault was made.
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        let until_when = verdicts[index].as_ref().map_or(healed, |verdict| verdict.at + PUBLISHING);
        for line in daemon.log().iter().filter(|line| line["listener"] == *pool && !line["cause"].is_null()) {
            let started = unix_time(line["time"].as_str().expect("a line has a time"));
            // Clients that give up on a connection are counted by themselves below; sessions from before the
            // fault are too.
            if started < begun || started > over || line["cause"] == "client_aborted" {
                continue;
            }
            *failures.entry(line["cause"].as_str().expect("a word").to_owned()).or_default() += 1;
            assert!(
                started <= until_when,
                "{what}: failed outside the window, {:?} after its end: {line}",
                started - until_when
            );
            let cause = line["cause"].as_str().expect("a word");
            assert!(fault.causes().contains(&cause), "{what}: an unexpected cause: {line}");
        }
        let (times, evidence) = match (&verdicts[index], &recoveries[index], fault.failing(pool)) {
            (Some(verdict), Some(recovered), Some([quick, slow])) => {
                let instant = Duration::ZERO;
                let down = detection(&TIMING, slow, RESPONSE).worst;
                let seen_down = check_times(&what, verdict, begun, made, detection(&TIMING, quick, instant).best, down);
                let up = recovery(&TIMING, slow, RESPONSE).worst;
                let seen_up =
                    check_times(&what, recovered, healing, healed, recovery(&TIMING, quick, instant).best, up);
                let times = format!(
                    "{} ({} to {}) | {} ({} to {})",
                    seconds(seen_down),
                    seconds(fail_window(&TIMING, quick)),
                    seconds(down),
                    seconds(seen_up),
                    seconds(success_window(&TIMING, Duration::ZERO)),
                    seconds(up),
                );
                let text = verdict.event["text"].as_str().expect("an event has a text");
                (times, text.split_once("unhealthy: ").map_or(text, |(_, because)| because).to_owned())
            }
            _ => {
                assert_eq!(daemon.backend(pool, backend)["verdict"], "healthy", "{what}");
                ("none | none".to_owned(), "probes pass".to_owned())
            }
        };
        if *pool == "web" {
            let served = steady.so_far().good - served_before;
            let _ = writeln!(
                table.web,
                "| {} | {times} | {evidence} | {served} | {} | 0 |",
                fault.words(),
                listed(&failures)
            );
        } else {
            // New sessions are lost only inside the window too; without a verdict it lasts until the end.
            let lost: Vec<Duration> = refused.iter().copied().filter(|at| *at >= begun && *at <= over).collect();
            assert!(lost.iter().all(|at| *at <= until_when), "{what}: new sessions lost outside the window: {lost:?}");
            let ends = matches!(fault, Fault::Kill | Fault::RejectReset);
            assert!(ends || broken == 0, "{what}: {broken} sessions broke, but none had been ended");
            let ended = daemon
                .log()
                .iter()
                .filter(|line| line["backend"] == **backend && ended_between(line, begun, over))
                .count();
            assert!(ended as u64 >= broken, "{what}: {broken} sessions broke, the log knows of {ended}");
            let _ = writeln!(
                table.database,
                "| {} | {times} | {evidence} | {opened} | {} | {broken} of {on_victim} |",
                fault.words(),
                lost.len(),
            );
        }
    }
}

#[test]
fn every_fault_is_detected_and_healed_within_its_window_and_every_failure_explained() {
    const TEST: &str = "every_fault_is_detected_and_healed_within_its_window_and_every_failure_explained";
    if let Some(tool) = ["nginx", "python3"].into_iter().find(|tool| !has(tool)) {
        return skipped(TEST, tool);
    }
    let Some(lab) = Lab::build(TEST) else { return };
    let table = lab.on_front(|| run(&lab));
    println!("{table}");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault-table.md");
    fs::write(&file, table).expect("the target folder can be written");
    println!("written to {}", file.display());
}

fn run(lab: &Lab) -> String {
    let folder = Folder::new("faults");
    let web = BACKENDS.iter().map(|address| nginx(lab, &folder.0, address)).collect();
    let database = BACKENDS.iter().map(|address| echo(lab, address)).collect();
    let mut scene = Scene { lab, folder, web, database };
    let namespace = Some(lab.front.as_str());
    let daemon = Daemon::start_with(&Setup { name: "faults", node: "", body: CONFIG, namespace });
    for address in BACKENDS {
        daemon.wait_verdict("web", &format!("{address}:8080"), "healthy");
        daemon.wait_verdict("database", &format!("{address}:5432"), "healthy");
    }
    let web_address: SocketAddr = WEB.parse().expect("an address");
    let steady = Steady::start(web_address, "/", 30, 300);
    until("traffic", || (steady.so_far().good > 100).then_some(()));
    let mut table = Table { web: String::new(), database: String::new() };
    let begun = Instant::now();
    for fault in Fault::ALL {
        play(&mut scene, &daemon, &steady, fault, &mut table);
    }
    let took = begun.elapsed();
    let tally = steady.stop();
    // What the client saw is what the log says: nobody lost a request that the balancer does not know of.
    let logged = until("the log to be complete", || {
        let log = daemon.log();
        let of_web = log.iter().filter(|line| line["listener"] == "web");
        (of_web.count() as u64 == tally.good + tally.losses.len() as u64).then_some(log)
    });
    let failed = logged.iter().filter(|line| line["listener"] == "web" && !line["cause"].is_null()).count();
    assert_eq!(failed, tally.losses.len(), "{:#?}", tally.losses);
    render(&table, tally.good, took)
}

fn render(table: &Table, good: u64, took: Duration) -> String {
    let version = Command::new("nginx")
        .arg("-v")
        .output()
        .map_or(String::new(), |output| String::from_utf8_lossy(&output.stderr).trim().replace("nginx version: ", ""));
    format!(
        "# Faults behind a running balancer\n\n\
         Printed by `cargo test --test e2e faults -- --nocapture` (root; `tests/e2e/faults.rs`), which also asserts every bound\n\
         in it. One of three backends on a host of their own (a network namespace behind a veth pair) is struck, found\n\
         unhealthy, healed, and found healthy, while clients go on. {good} requests were served in the {} s of this run.\n\n\
         Check: timeout 1 s, interval 500 ms, thresholds 3 and 3; connect and response timeout 1 s. Times run from the end of\n\
         the command that made or healed the fault to the time of the daemon's event. In brackets what SPEC W5 and W6 allow: the\n\
         window, and the window plus one interval plus one probe. A request is outside the window when it began later than\n\
         200 ms after the verdict, time for the verdict to reach the workers.\n\n\
         What to read from it:\n\n\
         - `kill -9` and a firewall that answers with resets cost no request: what is refused goes to another backend.\n\
         - A stopped process keeps its place in the kernel: connects succeed, so a tcp probe passes and only the http probe sees\n\
         \x20 it. Put an http check on a tcp pool if its servers can hang.\n\
         - A firewall that drops costs what waited on kept connections; new connects time out and go to another backend.\n\
         - A firewall that rejects by ICMP mostly looks like one that drops: Linux sends about one ICMP error a second to each\n\
         \x20 host, and the traffic itself uses them up. Hence its wide bracket.\n\
         - Long sessions go on over a verdict. What ends them is the backend's host: the kernel closes for a killed process, and\n\
         \x20 a firewall resets (`backend_reset_relay` in the access log).\n\
         - New sessions come from one client that waits for each: one that hangs holds up the next.\n\n\
         ## http listener before three {version}, 300 requests/s over 30 kept connections\n\n\
         | fault | unhealthy after (W5) | healthy after (W6) | evidence of the verdict | served | failed, by cause | failed outside the window |\n\
         |---|---|---|---|---|---|---|\n{}\n\
         ## tcp listener before three echo servers, {} long sessions and up to 20 new ones a second\n\n\
         | fault | unhealthy after (W5) | healthy after (W6) | evidence of the verdict | new sessions | lost new sessions, all in the window | long sessions on it, ended |\n\
         |---|---|---|---|---|---|---|\n{}",
        took.as_secs(),
        table.web,
        Sessions::LONG,
        table.database,
    )
}
