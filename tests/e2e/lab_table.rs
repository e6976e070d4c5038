//! The fault lab: real nginx and php-fpm behind the balancer, every fault of `lab_faults` at once, each asked about by a real
//! client, and what was seen of it where an operator looks.
//!
//! What a fault must come to (status, cause, verdict) is in its row. What else was seen, in the words of the log and the
//! status page, is `docs/fault-lab.md`, which this test writes with `UPDATE_GOLDEN=1` and holds itself to otherwise. Times
//! and ids differ from run to run and are left out; which of two hosts that are alike was asked is, too.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_model::Cause;
use serde_json::Value;

use crate::backend::serve;
use crate::daemon::{Daemon, Setup, has, skipped, until};
use crate::l7_speak::{Forge, Issued};
use crate::lab::{Lab, run};
use crate::lab_faults::{PHP_POOLS, STOPPED_POOLS, rows};
use crate::lab_page::{Seen, Told, backends, findings, keep, page};
use crate::lab_rows::{Ask, Behind, Certificate, Row, Until, Verdict, check};
use crate::lab_sites::{HOSTS, PhpFpm, Place, nginx, on_front, php_fpm};
use crate::servers::Server;

const BALANCER: &str = "10.98.0.1";
const FIRST_PORT: u16 = 8001;
/// Doctors at once: each waits most of the time, but not for ever in vain.
const AT_ONCE: usize = 8;

struct Stage<'a> {
    lab: &'a Lab,
    place: &'a Place,
    forge: &'a Forge,
    daemon: Daemon,
    rows: &'a [Row],
    _servers: (Server, PhpFpm),
}

#[test]
fn every_fault_behind_nginx_and_php_is_blamed_on_whom_it_should_be() {
    const TEST: &str = "every_fault_behind_nginx_and_php_is_blamed_on_whom_it_should_be";
    if let Some(tool) = ["nginx", "curl"].into_iter().find(|tool| !has(tool)) {
        return skipped(TEST, tool);
    }
    if php_fpm().is_none() {
        return skipped(TEST, "php-fpm");
    }
    let Some(lab) = Lab::build(TEST) else { return };
    let (place, forge) = (Place::new(), Forge::new("fault-lab"));
    let rows = rows(&place, &forge.ca());
    let stage = Stage::build(&lab, &place, &forge, &rows);
    stage.strike();
    let stage = &stage;
    let mut told = std::thread::scope(|scope| {
        let asked: Vec<_> = rows.iter().enumerate().map(|(at, row)| scope.spawn(move || stage.play(at, row))).collect();
        asked.into_iter().map(|row| row.join().expect("a row panics with its own words")).collect::<Vec<_>>()
    });
    for (told, judgement) in told.iter_mut().zip(stage.doctor()) {
        told.doctor = judgement;
    }
    let wrong: Vec<String> = rows.iter().zip(&told).filter_map(|(row, told)| told.judge(row)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    keep(&page(&rows, &told));
}

impl<'a> Stage<'a> {
    fn build(lab: &'a Lab, place: &'a Place, forge: &'a Forge, rows: &'a [Row]) -> Stage<'a> {
        // A kernel answers one host with some ICMP errors a second; here two hosts are one.
        for setting in ["icmp_ratelimit=0", "icmp_msgs_per_sec=100000"] {
            run(&["ip", "netns", "exec", &lab.back, "sysctl", "-qw", &format!("net.ipv4.{setting}")]);
        }
        for address in ["10.98.0.2/24", "10.98.0.3/24"] {
            run(&["ip", "-n", &lab.front, "addr", "add", address, "dev", "veth0"]);
        }
        let php = PhpFpm::start(lab, place, "php", &PHP_POOLS);
        // Its socket stays behind with nobody at it.
        PhpFpm::start(lab, place, "stopped", &STOPPED_POOLS).stop();
        let mut servers = String::new();
        let mut listens = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let port = port(at);
            let tls = |kind| certificate(forge, row, kind);
            let one = |hosts: &[&str], tls, lines: &str| place.server(hosts, port, tls, lines);
            match &row.behind {
                Behind::Nginx(lines) => servers += &one(&HOSTS, false, lines),
                Behind::Unlike(first, second) => {
                    servers += &(one(&HOSTS[..1], false, first) + &one(&HOSTS[1..], false, second));
                }
                Behind::Tls(kind) => servers += &one(&HOSTS, true, &tls(*kind)),
                Behind::Script(script) => lab.on_back(|| {
                    for host in HOSTS {
                        let address = SocketAddr::new(host.parse().expect("an address"), port);
                        serve(std::net::TcpListener::bind(address).expect("the port is free"), *script);
                    }
                }),
                Behind::Nobody | Behind::Port(_) => continue,
            }
            listens.push(SocketAddr::new(HOSTS[0].parse().expect("an address"), port));
        }
        let server = nginx(lab, place, &servers, &listens);
        let setup = Setup {
            name: "fault-lab",
            node: "cluster = \"lab\"",
            body: &config(forge, rows),
            namespace: Some(&lab.front),
        };
        let daemon = Daemon::start_with(&setup);
        let stage = Stage { lab, place, forge, daemon, rows, _servers: (server, php) };
        // What is struck later is well first, so that the verdict follows from the fault.
        stage.wait_verdicts(|row| if row.strike.is_some() { Verdict::Healthy } else { row.verdict });
        stage
    }

    fn strike(&self) {
        for (at, row) in self.rows.iter().enumerate() {
            if let Some(strike) = &row.strike {
                strike(self.lab, port(at));
            }
        }
        self.wait_verdicts(|row| row.verdict);
    }

    fn wait_verdicts(&self, wanted: impl Fn(&Row) -> Verdict) {
        let mut missing = Vec::new();
        until("the verdicts of all rows", || {
            let status = self.on_front_status();
            missing = self
                .rows
                .iter()
                .filter(|row| row.verdict != Verdict::Unasked && verdict_of(&status, row.name) != Some(wanted(row)))
                .map(|row| row.name)
                .collect();
            missing.is_empty().then_some(())
        });
    }

    fn on_front_status(&self) -> Value {
        self.lab.on_front(|| self.daemon.status())
    }

    fn play(&self, at: usize, row: &Row) -> Told {
        let held = match row.ask {
            Ask::BesideHeld(count, so_far) => self.hold(row, count, so_far),
            _ => Vec::new(),
        };
        let seen = self.ask(row);
        let lines = self.lines(row, &seen);
        let ejected = matches!(row.ask, Ask::UntilEjected).then(|| self.ejected(row));
        let findings = findings(&self.on_front_status(), row.name);
        Told { seen, lines, ejected, findings, port: port(at), doctor: Value::Null, held }
    }

    /// What `evenkeel doctor` says of each row, while everything is as it was for the clients.
    fn doctor(&self) -> Vec<Value> {
        // Held requests do not stay for ever.
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|at| !matches!(self.rows[*at].ask, Ask::BesideHeld(..)));
        let (next, order) = (AtomicUsize::new(0), &order);
        let judge = || {
            let own = || next.fetch_add(1, Ordering::Relaxed);
            let rows = std::iter::repeat_with(own).map_while(|turn| order.get(turn).copied());
            rows.map(|at| (at, self.judgement(&self.rows[at]))).collect::<Vec<_>>()
        };
        let mut judged: Vec<(usize, Value)> = std::thread::scope(|scope| {
            let doctors: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(judge)).collect();
            doctors.into_iter().flat_map(|doctor| doctor.join().expect("a doctor panics with its own words")).collect()
        });
        judged.sort_by_key(|(at, _)| *at);
        judged.into_iter().map(|(_, judgement)| judgement).collect()
    }

    fn judgement(&self, row: &Row) -> Value {
        let mut command = on_front(self.lab, env!("CARGO_BIN_EXE_evenkeel"));
        // What curl makes of the URL itself, the doctor has to be told.
        let long = if row.name == "big-uri" { "u".repeat(40_000) } else { String::new() };
        command.args(["doctor", &format!("{}{long}", row.url), "--json", "--timeout", "6"]);
        if !row.doctor.iter().any(|argument| argument == "--count") {
            command.args(["--count", "2"]);
        }
        let host =
            row.url.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next()).expect("a URL has a host");
        command.args(["--resolve", &format!("{host}:{BALANCER}")]).args(&row.doctor);
        // What clients of the site trust.
        command.env("SSL_CERT_FILE", self.forge.ca());
        let done = command.stdin(Stdio::null()).output().expect("it was built");
        let said: Value = serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", row.name, String::from_utf8_lossy(&done.stderr)));
        fs::write(self.place.file(&format!("{}.doctor", row.name)), &done.stdout).expect("the folder is ours");
        said["judgement"].clone()
    }

    fn ask(&self, row: &Row) -> Seen {
        match row.ask {
            Ask::Once(arguments) => self.curl(row, arguments),
            Ask::BesideHeld(..) => self.curl(row, &[]),
            Ask::UntilSeen | Ask::UntilEjected => until("a request that meets the fault", || {
                let seen = self.curl(row, &[]);
                (row.status == seen.status && self.found(row).is_some()).then_some(seen)
            }),
            Ask::Burst(count) => (0..count)
                .map(|_| self.curl(row, &[]))
                .find(|seen| seen.status != Some(200))
                .expect("not all of so many are let through"),
        }
    }

    /// So many requests that stay.
    fn hold(&self, row: &Row, count: usize, so_far: Until) -> Vec<Child> {
        let one_more = || {
            let mut command = self.curl_command(row, &format!("{}&held={}", row.url, row.name));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl was found before")
        };
        let mut held = vec![one_more()];
        let marker = self.place.path().join("held").join(row.name);
        until("a script of a held request to run", || marker.exists().then_some(()));
        held.extend((1..count).map(|_| one_more()));
        until(&format!("the held requests of {}", row.name), || {
            let far_enough = match so_far {
                Until::AtBackends => {
                    let status = self.on_front_status();
                    let of_pool = backends(&status, row.name);
                    let running: u64 = of_pool.iter().filter_map(|backend| backend["in_flight"].as_u64()).sum();
                    running >= count as u64
                }
                Until::Running => true,
                Until::TurnedAway => held.iter_mut().any(|child| matches!(child.try_wait(), Ok(Some(_)))),
            };
            far_enough.then_some(())
        });
        held
    }

    fn curl_command(&self, row: &Row, url: &str) -> std::process::Command {
        let mut command = on_front(self.lab, "curl");
        let (head, body) =
            (self.place.file(&format!("{}.head", row.name)), self.place.file(&format!("{}.body", row.name)));
        command.current_dir(self.place.path()).args(["--http1.1", "-sS", "--cacert", &self.forge.ca()]);
        // Before the real address: a name that nobody has to resolve.
        command.args(["--connect-to", &format!("::{BALANCER}:"), "--max-time", "60"]);
        command.args(["-w", "%{http_code} %{size_download}", "-D", &head, "-o", &body]).stdin(Stdio::null());
        command.arg(url);
        command
    }

    fn curl(&self, row: &Row, arguments: &[&str]) -> Seen {
        let head = self.place.file(&format!("{}.head", row.name));
        let _ = fs::remove_file(&head);
        let done = self.curl_command(row, &row.url).args(arguments).output().expect("curl was found before");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let mut words = said.split(' ');
        let status = words.next().and_then(|word| word.parse().ok()).filter(|status| *status != 0);
        let body = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let head = fs::read_to_string(head).unwrap_or_default();
        let proxy_status = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-status"))
            .map(|(_, value)| value.trim().to_owned())
            .collect();
        Seen { status, exit: done.status.code().unwrap_or(-1), proxy_status, body }
    }

    /// The lines of the log that tell of this row's request, the one with its cause first.
    fn lines(&self, row: &Row, seen: &Seen) -> Vec<Value> {
        let found = until(&format!("{}'s line in the access log, after {seen:?}", row.name), || self.found(row));
        let mut lines = vec![found];
        // A loop is seen from both sides.
        if row.cause == Some(Cause::LoopDetected) {
            lines.push(self.daemon.wait_log_where("the outer request", |line| {
                line["host"] == row.host() && line["cause"] == Cause::BackendAnsweredError.code()
            }));
        }
        lines
    }

    fn found(&self, row: &Row) -> Option<Value> {
        let code = row.cause.map_or(Value::Null, |cause| cause.code().into());
        self.daemon.log().into_iter().find(|line| {
            let right = line["cause"] == code && !line["target"].as_str().is_some_and(|it| it.contains("&held="));
            let tried = !matches!(row.ask, Ask::UntilSeen) || line["attempts"].is_array();
            // Who was refused before a request was read has a cause of its own in this lab.
            let own = row.verdict == Verdict::Unasked && row.cause.is_some() || line["host"] == row.host();
            right && tried && own
        })
    }

    fn ejected(&self, row: &Row) -> String {
        until(&format!("{}'s ejection", row.name), || {
            let wanted = format!("of pool \"{}\" ", row.name);
            let events = self.daemon.events();
            let event = events.iter().find(|line| line.contains("backend.ejected") && line.contains(&wanted)).cloned();
            if event.is_none() {
                self.curl(row, &[]);
            }
            event
        })
    }
}

fn port(at: usize) -> u16 {
    FIRST_PORT + at as u16
}

fn certificate(forge: &Forge, row: &Row, kind: Certificate) -> String {
    let host = row.host();
    let Issued { certificate, key } = match kind {
        Certificate::Good => forge.issue(row.name, &[&host]),
        Certificate::Expired => forge.expired(row.name, &[&host]),
        Certificate::OtherName => forge.issue(row.name, &["www.other.test"]),
    };
    format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
}

fn config(forge: &Forge, rows: &[Row]) -> String {
    let front = forge.issue("front", &["*.lab.test"]);
    let mut text = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{BALANCER}:443\"\nprotocol = \"https\"\nbody_limit = \"50KiB\"\n\
         [[listener.certificate]]\n{}\
         [[listener.rule]]\nhost = \"norule.lab.test\"\npath = \"/api\"\npool = \"www\"\n\
         [[listener.rule]]\nhost = \"www.lab.test\"\npool = \"www\"\n",
        front.keys()
    );
    let own = || rows.iter().enumerate().filter(|(_, row)| row.verdict != Verdict::Unasked);
    for (_, row) in own() {
        let _ = write!(text, "[[listener.rule]]\nhost = \"{}\"\npool = \"{}\"\n", row.host(), row.name);
    }
    let _ = write!(
        text,
        "[[listener]]\nname = \"plain\"\nlisten = \"{BALANCER}:80\"\npool = \"www\"\n\
         access = {{ deny = [\"10.98.0.3/32\"] }}\n\
         limit = {{ client_requests_per_second = {{ rate = 1, burst = 3 }} }}\n\
         [[pool]]\nname = \"www\"\nbackends = [\"{}:8000\", \"{}:8000\"]\n\
         [pool.check]\npath = \"/health.html\"\n",
        HOSTS[0], HOSTS[1]
    );
    for (at, row) in own() {
        let port = match row.behind {
            Behind::Port(port) => port,
            _ => port(at),
        };
        let weight = if row.cause == Some(Cause::NoBackendConfigured) { 0 } else { 100 };
        let backends = HOSTS.map(|host| format!("{{ address = \"{host}:{port}\", weight = {weight} }}")).join(", ");
        let Row { name, pool, .. } = row;
        let _ = write!(text, "[[pool]]\nname = \"{name}\"\nbackends = [{backends}]\n{pool}\n{}", check(row));
    }
    text
}

fn verdict_of(status: &Value, pool: &str) -> Option<Verdict> {
    let words: Vec<&str> = backends(status, pool).iter().filter_map(|backend| backend["verdict"].as_str()).collect();
    match words[..] {
        ["healthy", "healthy"] => Some(Verdict::Healthy),
        ["unhealthy", "healthy"] => Some(Verdict::FirstUnhealthy),
        ["unhealthy", "unhealthy"] => Some(Verdict::Unhealthy),
        _ => None,
    }
}
