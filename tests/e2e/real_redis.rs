//! Redis through a tcp listener, while its backends are drained and killed under load.
//!
//! Redis counts for us: each command is an INCR, so the counters on the backends say exactly which commands ran. What
//! a client was told and what Redis counted have to agree, but for the one command that each connection to a killed
//! backend had under way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::daemon::{Daemon, Folder, PATIENCE, free_address, until};
use crate::tools::{have_all, run};

const CLIENTS: usize = 12;

pub struct Redis {
    child: Child,
    pub address: SocketAddr,
    _folder: Folder,
}

impl Redis {
    /// Nothing is kept on disk. Its key `name` tells a client whom it got.
    pub fn start(name: &str) -> Redis {
        let (folder, address) = (Folder::new("redis"), free_address());
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let child = Command::new("redis-server")
            .args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", "no"])
            .args(["--protected-mode", "no", "--daemonize", "no", "--dir"])
            .arg(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server was found before");
        let redis = Redis { child, address, _folder: folder };
        until("redis-server to listen", || TcpStream::connect(address).ok());
        assert_eq!(redis.ask(&["SET", "name", name]), "OK");
        redis
    }

    /// One command by redis-cli, past the balancer.
    pub fn ask(&self, command: &[&str]) -> String {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let said = run("redis-cli", &[&["-h", &ip, "-p", &port], command].concat(), "");
        assert!(said.fine, "redis-cli {command:?}: {}{}", said.out, said.err);
        said.out.trim().to_owned()
    }

    fn count(&self, key: &str) -> u64 {
        let text = self.ask(&["GET", key]);
        if text.is_empty() { 0 } else { text.parse().unwrap_or_else(|_| panic!("{key} is {text:?}")) }
    }

    /// SIGSTOP: its kernel goes on taking connections.
    pub fn stand_still(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it is our child");
    }

    /// SIGKILL: no goodbye of its own, the kernel closes its sockets.
    fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The backends in turn, each with a weight.
fn config(address: SocketAddr, backends: &[(&Redis, u32)]) -> String {
    let mut list = String::new();
    for (redis, weight) in backends {
        let _ = write!(list, "{{ address = \"{}\", weight = {weight} }}, ", redis.address);
    }
    format!(
        "[[listener]]\nname = \"redis\"\nlisten = \"{address}\"\nprotocol = \"tcp\"\npool = \"redis\"\n\
         [[pool]]\nname = \"redis\"\nschedule = \"rr\"\nbackends = [{list}]\n\
         check = {{ kind = \"tcp\", interval = \"200ms\", timeout = \"5s\", unhealthy_threshold = 2 }}\n"
    )
}

fn stage(test: &str, name: &str) -> Option<(Redis, Redis, Daemon, SocketAddr)> {
    have_all(test, &["redis-server", "redis-cli", "redis-benchmark"], &[]).then(|| {
        let (one, two, address) = (Redis::start("one"), Redis::start("two"), free_address());
        let daemon = Daemon::start(name, &config(address, &[(&one, 100), (&two, 100)]));
        for redis in [&one, &two] {
            daemon.wait_verdict("redis", &redis.address.to_string(), "healthy");
        }
        (one, two, daemon, address)
    })
}

/// redis-benchmark, to its end: INCR of one key, `count` times.
fn benchmark(address: SocketAddr, count: u32, more: &'static [&'static str]) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (ip, port, count) = (address.ip().to_string(), address.port().to_string(), count.to_string());
        let words = ["-h", &ip, "-p", &port, "-n", &count, "-c", "16", "-t", "incr", "-q"];
        let said = run("redis-benchmark", &[&words, more].concat(), "");
        assert!(said.fine && !said.out.contains("Error"), "redis-benchmark: {}{}", said.out, said.err);
    })
}

/// The key that redis-benchmark counts in when it is not told to choose among several.
const BENCHMARK_KEY: &str = "counter:__rand_int__";

fn lines_of(daemon: &Daemon, backend: SocketAddr) -> usize {
    daemon.log().iter().filter(|line| line["backend"] == backend.to_string()).count()
}

#[test]
fn redis_benchmark_loses_nothing_while_a_backend_is_drained() {
    let test = "redis_benchmark_loses_nothing_while_a_backend_is_drained";
    let Some((one, two, daemon, address)) = stage(test, "redis-drain") else { return };

    // Connections that last: the drained backend goes on with those it has.
    let lasting = benchmark(address, 60_000, &[]);
    until("both backends to be counting", || {
        (one.count(BENCHMARK_KEY) > 500 && two.count(BENCHMARK_KEY) > 500).then_some(())
    });
    let line = daemon.reload(&config(address, &[(&one, 0), (&two, 100)]));
    assert!(line.contains(" node.reloaded "), "{line}");
    let (at_the_drain, asked) = (one.count(BENCHMARK_KEY), lasting.is_finished());
    lasting.join().expect("redis-benchmark is content");
    let (first, second) = (one.count(BENCHMARK_KEY), two.count(BENCHMARK_KEY));
    assert_eq!(first + second, 60_000, "every command ran once, {first} on the drained backend");
    assert!(!asked && first > at_the_drain, "connections from before the drain were served to their end");

    // A connection for each command: all of them are new, so none may reach the drained backend.
    benchmark(address, 2_000, &["-k", "0"]).join().expect("redis-benchmark is content");
    assert_eq!((one.count(BENCHMARK_KEY), two.count(BENCHMARK_KEY)), (first, second + 2_000));

    // And back: it gets its share of new ones at once.
    assert!(daemon.reload(&config(address, &[(&one, 100), (&two, 100)])).contains(" node.reloaded "));
    benchmark(address, 2_000, &["-k", "0"]).join().expect("redis-benchmark is content");
    let share = one.count(BENCHMARK_KEY) - first;
    assert!((800..=1_200).contains(&share), "{share} of 2000 after the drain");
    let ended_badly: Vec<_> = daemon.log().into_iter().filter(|line| !line["cause"].is_null()).collect();
    assert!(ended_badly.is_empty(), "{ended_badly:#?}");
}

/// What one client has seen.
#[derive(Default, Clone, Debug)]
struct Seen {
    /// INCRs that were answered, by the name of the backend.
    answered: BTreeMap<String, u64>,
    /// The backend and the error of each connection that ended under a command.
    lost: Vec<(String, String)>,
    /// Connections that ended before their first answer.
    refused: Vec<String>,
}

/// Clients that each count in a key of their own over one connection, and take a new one when it is lost.
struct Counters {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Connection {
    stream: BufReader<TcpStream>,
    backend: String,
}

impl Connection {
    fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream: BufReader::new(stream), backend: String::new() };
        let length = connection.ask("GET name")?;
        assert_eq!(length, "$3");
        connection.backend = connection.line()?;
        Ok(connection)
    }

    /// One command in Redis's inline form, and the first line of its answer.
    fn ask(&mut self, command: &str) -> std::io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.line()
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed"));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Counters {
    fn start(address: SocketAddr) -> Counters {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![Seen::default(); CLIENTS])));
        let threads = (0..CLIENTS)
            .map(|number| {
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match Connection::open(address) {
                            Ok(mut connection) => count(&mut connection, number, &stop, &seen),
                            Err(error) => {
                                let mut seen = seen.lock().expect("no client panics with it");
                                seen[number].refused.push(error.to_string());
                            }
                        }
                    }
                })
            })
            .collect();
        Counters { stop, seen, threads }
    }

    fn so_far(&self) -> Vec<Seen> {
        self.seen.lock().expect("no client panics with it").clone()
    }

    fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        self.seen.lock().expect("no client panics with it").clone()
    }
}

fn count(connection: &mut Connection, number: usize, stop: &AtomicBool, seen: &Mutex<Vec<Seen>>) {
    let with = |change: &dyn Fn(&mut Seen)| change(&mut seen.lock().expect("no client panics with it")[number]);
    let name = connection.backend.clone();
    while !stop.load(Ordering::Relaxed) {
        match connection.ask(&format!("INCR client:{number}")) {
            Ok(answer) => {
                assert!(answer.starts_with(':'), "INCR was answered {answer:?}");
                with(&|seen| *seen.answered.entry(name.clone()).or_default() += 1);
            }
            Err(error) => {
                with(&|seen| seen.lost.push((name.clone(), error.to_string())));
                return;
            }
        }
    }
}

fn answered(seen: &[Seen], backend: &str) -> Vec<u64> {
    seen.iter().map(|seen| seen.answered.get(backend).copied().unwrap_or(0)).collect()
}

#[test]
fn a_killed_redis_takes_its_own_connections_with_it_and_nobody_elses() {
    let test = "a_killed_redis_takes_its_own_connections_with_it_and_nobody_elses";
    let Some((mut one, two, daemon, address)) = stage(test, "redis-kill") else { return };
    let counters = Counters::start(address);
    let on_one = until("all clients to be counting", || {
        let seen = counters.so_far();
        let busy = |name| answered(&seen, name).iter().filter(|count| **count > 100).count();
        (busy("one") + busy("two") == CLIENTS).then_some(busy("one"))
    });
    assert!((1..CLIENTS).contains(&on_one), "backends in turn get clients each");
    one.kill();
    until("those that were cut off to be counting on the other", || {
        let seen = counters.so_far();
        answered(&seen, "two").iter().all(|count| *count > 100).then_some(())
    });
    daemon.wait_verdict("redis", &one.address.to_string(), "unhealthy");
    let seen = counters.stop();

    // One command for each connection that the killed one had, and nothing else.
    let lost: Vec<_> = seen.iter().flat_map(|seen| &seen.lost).collect();
    assert_eq!(lost.len(), on_one, "{seen:#?}");
    assert!(lost.iter().all(|(backend, _)| backend == "one"), "{lost:?}");
    // A client that comes back is served at once, verdict or not. Only while the process dies can its kernel still
    // take a connection, and reset it then; such a one has a line of the killed backend, or the count below is wrong.
    let met_it_dying = seen.iter().map(|seen| seen.refused.len()).sum::<usize>();
    for (number, count) in answered(&seen, "two").into_iter().enumerate() {
        assert_eq!(two.count(&format!("client:{number}")), count, "client {number}: every answer was of one INCR");
    }

    // The log tells the same: the killed backend's connections were ended by the backend, the others went well.
    until("a line for every connection", || {
        let lines = (lines_of(&daemon, one.address), lines_of(&daemon, two.address));
        (lines == (on_one + met_it_dying, CLIENTS)).then_some(())
    });
    for line in daemon.log() {
        if line["backend"] == one.address.to_string() {
            // What Redis had not read yet when it died makes its kernel reset; otherwise it is an orderly end.
            assert!(line["cause"].is_null() || line["cause"] == "backend_reset_relay", "{line}");
        } else {
            assert!(line["cause"].is_null(), "{line}");
        }
        // The last attempt is the one that went well.
        let attempts = line["attempts"].as_array().map_or(&[][..], |attempts| &attempts[..]);
        for attempt in attempts.iter().rev().skip(1) {
            assert_eq!(attempt["cause"], "backend_connect_refused", "{line}");
            assert_eq!(attempt["backend"], one.address.to_string(), "{line}");
        }
    }

    // It comes back, and gets new connections again.
    let again = Command::new("redis-server")
        .args(["--bind", &one.address.ip().to_string(), "--port", &one.address.port().to_string()])
        .args(["--save", "", "--daemonize", "no"])
        .stdout(Stdio::null())
        .spawn();
    one.child = again.expect("redis-server was found before");
    daemon.wait_verdict("redis", &one.address.to_string(), "healthy");
    benchmark(address, 1_000, &["-k", "0"]).join().expect("redis-benchmark is content");
    assert_eq!(one.count(BENCHMARK_KEY) + two.count(BENCHMARK_KEY), 1_000);
    assert!(one.count(BENCHMARK_KEY) >= 400, "{} of 1000 after its return", one.count(BENCHMARK_KEY));
}
