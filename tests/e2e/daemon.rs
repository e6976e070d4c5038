//! The real binary, started on a config, watched from outside: its events, access log, pages and sockets.
//!
//! Nothing here waits for a time to pass. A test says what it waits for, and fails with what was seen instead when
//! that does not come within a deadline made for a machine under heavy load.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Long enough for a machine on which ten builds run; a good run never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A loopback address that no other test, of this process or another, uses. The kernel's choice of outgoing
/// ports is made on 127.0.0.1, so a port chosen here stays free.
pub fn own_ip() -> Ipv4Addr {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    Ipv4Addr::new(127, 16 + (pid % 200) as u8, 1 + (pid / 200 % 250) as u8, 1 + (number % 250) as u8)
}

/// An address with a port of the kernel's choice on which nobody listens.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((own_ip(), 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address")
}

/// Asks `look` again and again until it has an answer.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Says aloud that a test did not run. With EVENKEEL_REQUIRE_ALL=1 that is a failure.
pub fn skipped(test: &str, wants: &str) {
    assert!(
        std::env::var_os("EVENKEEL_REQUIRE_ALL").is_none(),
        "{test}: wants {wants}, which is not here, and EVENKEEL_REQUIRE_ALL is set"
    );
    eprintln!("SKIPPED: {test}: wants {wants}, which is not here");
}

pub fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// A directory of its own, removed with everything in it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the target folder can be written");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failing test leaves its folder: log and config are what one looks at first.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// How a daemon is started; `body` is the config without `[node]` and `[admin]`.
pub struct Setup<'a> {
    pub name: &'a str,
    pub node: &'a str,
    pub body: &'a str,
    /// Network namespace, entered by `ip netns exec`.
    pub namespace: Option<&'a str>,
}

/// The binary that was built for the tests.
pub const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");

pub struct Daemon {
    child: Child,
    pub admin: SocketAddr,
    folder: Folder,
    head: String,
    events: Arc<Mutex<Vec<String>>>,
    exited: bool,
    /// The process that took the first one's place, if one has.
    successor: Option<u32>,
}

impl Daemon {
    pub fn start(name: &str, body: &str) -> Daemon {
        Daemon::start_with(&Setup { name, node: "", body, namespace: None })
    }

    pub fn start_with(setup: &Setup<'_>) -> Daemon {
        Daemon::start_as(setup, Path::new(BINARY))
    }

    /// From another place: whoever upgrades puts another binary there.
    pub fn start_as(setup: &Setup<'_>, binary: &Path) -> Daemon {
        let folder = Folder::new(setup.name);
        let admin = match setup.namespace {
            // A namespace has all ports to itself.
            Some(_) => SocketAddr::from(([127, 0, 0, 1], 9900)),
            None => free_address(),
        };
        let log = folder.0.join("access.log");
        let head = format!(
            "[node]\nworkers = 2\naccess_log = \"{}\"\n{}\n[admin]\nlisten = \"{admin}\"\n",
            log.display(),
            setup.node
        );
        let config = folder.0.join("evenkeel.toml");
        fs::write(&config, format!("{head}{}", setup.body)).expect("the folder can be written");
        let mut command = match setup.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("run").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary was built for this test");
        let said = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let mut daemon = Daemon { child, admin, folder, head, events, exited: false, successor: None };
        until("node.started", || {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                panic!("the daemon ended with {status} before it served: {:#?}", daemon.events());
            }
            daemon.events().iter().any(|line| line.contains(" node.started ")).then_some(())
        });
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// Lets the binary that lies there now take the place of the process; its event when it does not. The old process may still drain.
    pub fn upgrade(&mut self) -> Result<(), String> {
        let from = self.events().len();
        self.signal(Signal::USR2);
        let words = [" node.succeeded process ", " node.upgrade_failed "];
        let line = until("the upgrade's event", || {
            let events = self.events();
            events.into_iter().skip(from).find(|line| words.iter().any(|word| line.contains(word)))
        });
        let Some((_, rest)) = line.split_once(words[0]) else { return Err(line) };
        let pid = rest.split(' ').next().and_then(|word| word.parse().ok()).expect("the event says who");
        self.successor = Some(pid);
        self.wait_event(from, &[" node.started ", "in place of process"]);
        Ok(())
    }

    pub fn config(&self) -> PathBuf {
        self.folder.0.join("evenkeel.toml")
    }

    /// Bytes of memory the process has in RAM now, and the most it ever had.
    pub fn memory(&self) -> (u64, u64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("our own child");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event line with all of `words`; lines before `from` do not count.
    pub fn wait_event(&self, from: usize, words: &[&str]) -> String {
        until(&format!("an event with {words:?}"), || {
            let events = self.events();
            events.into_iter().skip(from).find(|line| words.iter().all(|word| line.contains(word)))
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process has a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// Writes the config and sends SIGHUP; the line that says how it went.
    pub fn reload(&self, body: &str) -> String {
        let config = self.folder.0.join("evenkeel.toml");
        fs::write(&config, format!("{}{body}", self.head)).expect("the folder can be written");
        let from = self.events().len();
        self.signal(Signal::HUP);
        until("the reload's event", || {
            let events = self.events();
            events
                .into_iter()
                .skip(from)
                .find(|line| line.contains(" node.reloaded ") || line.contains(" plan.refused "))
        })
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = until("the daemon's exit", || self.child.try_wait().expect("it is our child"));
        self.exited = true;
        status
    }

    /// All whole lines of the access log.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.0.join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in log line {line}")))
            .collect()
    }

    /// Waits for the access-log line of the request with this target.
    pub fn wait_log(&self, target: &str) -> Value {
        self.wait_log_where(target, |line| line["target"] == target)
    }

    pub fn wait_log_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        until(&format!("an access-log line for {what}"), || self.log().into_iter().find(|line| fits(line)))
    }

    /// One of the admin pages: status and text.
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin address is served");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin).expect("the admin page reads requests");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the admin page answers with text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("an answer has a status");
        (status, body.to_owned())
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.page("/status").1).expect("the status page is JSON")
    }

    /// The value of the first metric row of `family` that has all of `labels`. A row that is not there counts
    /// as 0, as it does for Prometheus; the family has to be there.
    pub fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let page = self.page("/metrics").1;
        assert!(page.contains(&format!("# TYPE {family} ")), "there is no metric {family}");
        let row = page.lines().find(|row| {
            let rest = row.strip_prefix(family).filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some() && labels.iter().all(|label| row.contains(label))
        });
        row.and_then(|row| row.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// What the status page says of a backend.
    pub fn backend(&self, pool: &str, address: &str) -> Value {
        let status = self.status();
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        let found = pools.iter().filter(|shown| shown["name"] == pool).flat_map(|shown| {
            shown["backends"].as_array().into_iter().flatten().filter(|backend| backend["address"] == address)
        });
        found.last().cloned().unwrap_or(Value::Null)
    }

    pub fn wait_verdict(&self, pool: &str, address: &str, verdict: &str) {
        until(&format!("{address} of pool {pool} to be {verdict}"), || {
            (self.backend(pool, address)["verdict"] == verdict).then_some(())
        });
    }

    /// Inodes of the sockets that listen on `address`, as far as this process holds them.
    pub fn listening_inodes(&self, address: SocketAddr) -> Vec<u64> {
        let held: Vec<u64> = fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("our own child")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .collect();
        let mut inodes: Vec<u64> = tcp_table()
            .into_iter()
            .filter(|row| row.local == address && row.state == State::LISTEN && held.contains(&row.inode))
            .map(|row| row.inode)
            .collect();
        inodes.sort_unstable();
        inodes
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = self.successor.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !self.exited {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("events of the daemon in {}: {:#?}", self.folder.0.display(), self.events());
        }
    }
}

/// A time as the daemon writes it, `2026-01-31T12:00:00.123Z`, since 1970.
pub fn unix_time(text: &str) -> Duration {
    let numbers: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().expect("digits"))
        .collect();
    let [year, month, day, hour, minute, second, ..] = numbers[..] else { panic!("\"{text}\" is not a time") };
    // Days since 0000-03-01 and back, as in Hinnant's "chrono-compatible low-level date algorithms".
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest.trim_end_matches('Z'));
    let nanos: u32 = format!("{fraction:0<9}").parse().expect("digits");
    Duration::new(((days * 24 + hour) * 60 + minute) * 60 + second, nanos)
}

/// The kernel's letters for a TCP socket's state in /proc/net/tcp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State(u8);

impl State {
    pub const LISTEN: State = State(0x0a);
    pub const TIME_WAIT: State = State(0x06);
}

pub struct TcpRow {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    pub inode: u64,
}

/// Every IPv4 TCP socket of this thread's network namespace.
pub fn tcp_table() -> Vec<TcpRow> {
    let text = fs::read_to_string("/proc/thread-self/net/tcp").expect("Linux");
    let address = |word: &str| {
        let (ip, port) = word.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_le_bytes());
        Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
    };
    let rows = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(TcpRow {
            local: address(words.get(1)?)?,
            remote: address(words.get(2)?)?,
            state: State(u8::from_str_radix(words.get(3)?, 16).ok()?),
            inode: words.get(9)?.parse().ok()?,
        })
    });
    rows.collect()
}

/// Connections that somebody in this namespace holds to `backend`.
pub fn connections_to(backend: SocketAddr) -> usize {
    tcp_table().iter().filter(|row| row.remote == backend && row.state != State::TIME_WAIT).count()
}
