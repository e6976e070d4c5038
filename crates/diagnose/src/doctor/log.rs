//! The same question put to a captured access log: what failed, by whose fault, at which backends, when, for whom.
//!
//! Lines go in one by one, so a log of any size is read; what is kept of them is bounded. The judgement is the log's own:
//! causes stand in it, so nothing has to be guessed, but nothing can be tried out either.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use evenkeel_model::Cause;
use serde_json::{Value, json as value};

use super::render::wrap;
use super::seen::{list, often};
use super::{Confidence, Judgement, Outcome, Whose, render};

/// Different values that are kept of anything; a log of an attack has more.
const KEPT: usize = 1000;
/// Shown of a list.
const SHOWN: usize = 5;

/// Which lines are meant. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Host, with or without its port; without one all of them are meant.
    pub host: Option<String>,
    /// What the path begins with, without its query.
    pub path: Option<String>,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Log {
    wanted: Wanted,
    lines: u64,
    unreadable: u64,
    matched: u64,
    failed: u64,
    first: Option<String>,
    last: Option<String>,
    groups: BTreeMap<String, Group>,
    /// Requests at each backend, good and bad.
    at_backends: BTreeMap<String, u64>,
    /// Attempts that failed before another one served.
    spared: BTreeMap<(String, String), u64>,
}

/// Failures of one cause.
#[derive(Debug, Default)]
struct Group {
    total: u64,
    phases: BTreeMap<String, u64>,
    backends: BTreeMap<String, u64>,
    targets: BTreeMap<String, u64>,
    minutes: BTreeMap<String, u64>,
    details: BTreeMap<String, u64>,
    statuses: BTreeMap<u64, u64>,
    clients: BTreeSet<String>,
    slowest_ms: f64,
    reused: u64,
    first: String,
    last: String,
}

impl Log {
    pub fn new(wanted: Wanted) -> Self {
        Log { wanted, ..Log::default() }
    }

    pub fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        self.lines += 1;
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            self.unreadable += 1;
            return;
        };
        let Some(time) = entry["time"].as_str() else {
            self.unreadable += 1;
            return;
        };
        if !self.wanted.takes(&entry) {
            return;
        }
        self.matched += 1;
        if self.first.is_none() {
            self.first = Some(time.to_owned());
        }
        self.last = Some(time.to_owned());
        let backend = entry["backend"].as_str().unwrap_or_default();
        if !backend.is_empty() {
            count(&mut self.at_backends, backend.to_owned());
        }
        let code = entry["cause"].as_str();
        // Whoever served in the end, somebody failed before.
        for attempt in entry["attempts"].as_array().into_iter().flatten().filter(|_| code.is_none()) {
            if let (Some(backend), Some(cause)) = (attempt["backend"].as_str(), attempt["cause"].as_str()) {
                count(&mut self.spared, (cause.to_owned(), backend.to_owned()));
            }
        }
        let Some(code) = code else { return };
        self.failed += 1;
        if self.groups.len() >= KEPT && !self.groups.contains_key(code) {
            return;
        }
        self.groups.entry(code.to_owned()).or_default().add(&entry, time, backend);
    }

    fn sorted(&self) -> Vec<(&str, &Group)> {
        let mut groups: Vec<(&str, &Group)> = self.groups.iter().map(|(code, group)| (code.as_str(), group)).collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.total));
        groups
    }

    /// Whose fault most of it is.
    pub fn judge(&self) -> Judgement {
        let what = self.wanted.words();
        if self.matched == 0 {
            let why = match (self.lines, self.unreadable) {
                (0, _) => "the log is empty".to_owned(),
                (lines, unreadable) if lines == unreadable => {
                    "no line of it is one of evenkeel's access log".to_owned()
                }
                (lines, _) => format!("none of its {lines} lines is about {what}"),
            };
            return Judgement::new(Outcome::CannotTell, format!("This log tells nothing: {why}."));
        }
        let groups = self.sorted();
        // Clients that leave are often the shadow of something slow; they lead only where nobody else does.
        let lead = groups.iter().find(|(code, _)| *code != Cause::ClientAborted.code()).or(groups.first());
        let Some((code, group)) = lead else {
            let judgement = Judgement::new(
                Outcome::NothingWrong,
                format!("Nothing wrong was seen: none of {} requests to {what} has a cause.", self.matched),
            );
            return judgement.because_all(self.spared_words());
        };
        let cause = Cause::from_code(code);
        let backends: Vec<(&String, u64)> = sorted(&group.backends);
        let single = self.single_backend(group);
        let whose = cause.map_or(Whose::Balancer, Whose::from);
        let meaning = cause.map_or("a cause that this version does not know", |cause| cause.entry().meaning);
        let to = if what == "everything" { String::new() } else { format!(" to {what}") };
        let share =
            format!("{} of {} requests{to} failed, {} of them by {code}.", self.failed, self.matched, group.total);
        let mut judgement = Judgement::fault(whose, format!("{share} {meaning}"))
            .confidence(if group.total * 5 >= self.failed * 4 { Confidence::Sure } else { Confidence::Likely });
        judgement.cause = cause;
        if let Some(backend) = single {
            judgement = judgement.about(backend.clone()).because(format!(
                "all but a few of these are at {backend}, and {} other backends served in that time: it is one bad backend",
                self.at_backends.len() - 1
            ));
        } else if backends.len() > 1 {
            let names: Vec<&String> = backends.iter().map(|(name, _)| *name).collect();
            judgement = judgement.because(format!(
                "they are spread over {} backends ({}): not one bad backend",
                backends.len(),
                list(&names)
            ));
        }
        judgement = judgement.because(format!("first {}, last {}", group.first, group.last));
        if let Some((minute, most)) = sorted(&group.minutes).first() {
            judgement = judgement.because(format!(
                "most in one minute: {most} at {minute}, in {} minutes altogether",
                group.minutes.len()
            ));
        }
        judgement = judgement.because(match group.clients.len() {
            1 => "one client only: look at it, and at what is in its way".to_owned(),
            KEPT.. => format!("at least {KEPT} clients: not somebody's own trouble"),
            clients => format!("{clients} clients"),
        });
        for (detail, times) in sorted(&group.details).into_iter().take(2) {
            judgement = judgement.because(format!("{detail}, {}", often(times as usize, group.total as usize)));
        }
        if group.reused * 10 >= group.total * 9 && group.total > 1 {
            judgement = judgement.because("nearly all on kept connections: compare idle_timeout of the pool with the backend's keep-alive timeout");
        }
        for (target, times) in sorted(&group.targets).into_iter().take(2) {
            judgement = judgement.because(format!("{times} at {target}"));
        }
        if let Some(cause) = cause {
            judgement = judgement.next(cause.entry().advice);
        }
        judgement = judgement
            .next("while it happens, evenkeel doctor URL beside the node tries it out and asks the backends straight");
        judgement.beside.extend(self.spared_words());
        judgement.beside.extend(
            groups
                .iter()
                .filter(|(other, _)| other != code)
                .take(SHOWN)
                .map(|(other, group)| format!("{} by {other}", group.total)),
        );
        judgement
    }

    /// The one that nine in ten of these failures are at, though others serve too.
    fn single_backend<'g>(&self, group: &'g Group) -> Option<&'g String> {
        let (backend, most) = sorted(&group.backends).into_iter().next()?;
        let serves: u64 = self.at_backends.values().sum();
        let its = self.at_backends.get(backend).copied().unwrap_or(0);
        // Where it has nearly all of the traffic it has nearly all of the failures too.
        (most * 10 >= group.total * 9 && self.at_backends.len() > 1 && its * 10 < serves * 9).then_some(backend)
    }

    fn spared_words(&self) -> Vec<String> {
        let mut spared: Vec<_> = self.spared.iter().collect();
        spared.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        spared
            .into_iter()
            .take(SHOWN)
            .map(|((cause, backend), count)| {
                format!(
                    "{count} attempts at {backend} failed by {cause}, and another backend served: clients felt nothing"
                )
            })
            .collect()
    }

    /// The table, then the judgement.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{} lines, {} about {}, {} failed{}",
            self.lines,
            self.matched,
            self.wanted.words(),
            self.failed,
            if self.unreadable > 0 { format!(", {} could not be read", self.unreadable) } else { String::new() }
        );
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            let _ = writeln!(out, "from {first} to {last}");
        }
        let groups = self.sorted();
        if !groups.is_empty() {
            let _ = writeln!(out, "\n{:>8}  {:<9} {:<32} where, status, first to last", "failed", "blame", "cause");
        }
        for (code, group) in groups {
            let blame = Cause::from_code(code).map_or("?", |cause| cause.entry().blame.word());
            let statuses: Vec<&u64> = group.statuses.keys().collect();
            let names: Vec<String> =
                sorted(&group.backends).iter().map(|(name, count)| format!("{name} ({count})")).collect();
            let label = format!("{:>8}  {blame:<9} {code:<32} ", group.total);
            let of = if names.is_empty() { "no backend".to_owned() } else { list(&names) };
            let text = format!("{of}; status {}; {} to {}", list(&statuses), group.first, group.last);
            wrap(&mut out, &label, &text, 53);
        }
        out.push('\n');
        render::put_judgement(&mut out, &self.judge());
        out
    }

    pub fn json(&self) -> Value {
        let groups: Vec<Value> = self
            .sorted()
            .into_iter()
            .map(|(code, group)| {
                let cause = Cause::from_code(code);
                value!({
                    "cause": code,
                    "blame": cause.map(|cause| cause.entry().blame.word()),
                    "total": group.total,
                    "backends": group.backends,
                    "phases": group.phases,
                    "minutes": group.minutes,
                    "statuses": group.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect::<BTreeMap<_, _>>(),
                    "clients": group.clients.len(),
                    "slowest_ms": group.slowest_ms,
                    "first": group.first,
                    "last": group.last,
                })
            })
            .collect();
        value!({
            "lines": self.lines,
            "unreadable": self.unreadable,
            "matched": self.matched,
            "failed": self.failed,
            "first": self.first,
            "last": self.last,
            "causes": groups,
            "judgement": render::judgement_json(&self.judge()),
        })
    }
}

impl Wanted {
    fn takes(&self, entry: &Value) -> bool {
        let host = entry["host"].as_str().or(entry["sni"].as_str()).unwrap_or_default();
        let path = entry["target"].as_str().unwrap_or_default().split('?').next().unwrap_or_default();
        self.host.as_ref().is_none_or(|wanted| is_same_host(wanted, host))
            && self.path.as_ref().is_none_or(|wanted| path.starts_with(wanted.as_str()))
    }

    fn words(&self) -> String {
        match (&self.host, &self.path) {
            (None, None) => "everything".to_owned(),
            (Some(host), None) => host.clone(),
            (host, Some(path)) => format!("{}{path}", host.clone().unwrap_or_default()),
        }
    }
}

/// A port that only one of them names makes no difference: clients leave the usual one out.
fn is_same_host(wanted: &str, host: &str) -> bool {
    let parts = |host: &str| match host.rsplit_once(':') {
        // The colons inside brackets are the address's own.
        Some((name, port)) if !port.contains(']') => (name.to_ascii_lowercase(), Some(port.to_owned())),
        _ => (host.to_ascii_lowercase(), None),
    };
    let ((wanted, wanted_port), (host, port)) = (parts(wanted), parts(host));
    wanted == host && wanted_port.zip(port).is_none_or(|(wanted, port)| wanted == port)
}

impl Group {
    fn add(&mut self, entry: &Value, time: &str, backend: &str) {
        self.total += 1;
        if self.first.is_empty() {
            time.clone_into(&mut self.first);
        }
        time.clone_into(&mut self.last);
        let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        count(&mut self.phases, word("phase"));
        if !backend.is_empty() {
            count(&mut self.backends, backend.to_owned());
        }
        let target = word("target");
        let path = target.split('?').next().unwrap_or_default();
        if !path.is_empty() {
            count(&mut self.targets, format!("{}{path}", word("host")));
        }
        // To the minute.
        count(&mut self.minutes, time.get(..16).unwrap_or(time).to_owned());
        for (name, words) in
            [("detail", "detail"), ("errno", "errno"), ("limit", "limit"), ("timeout_ms", "timeout (ms)")]
        {
            match &entry[name] {
                Value::String(text) => count(&mut self.details, format!("{words}: {text}")),
                Value::Number(number) => count(&mut self.details, format!("{words}: {number}")),
                _ => {}
            }
        }
        if let Some(status) = entry["status"].as_u64() {
            *self.statuses.entry(status).or_default() += 1;
        }
        let client = word("client");
        if self.clients.len() < KEPT && !client.is_empty() {
            self.clients.insert(client.rsplit_once(':').map_or(client.clone(), |(address, _)| address.to_owned()));
        }
        self.slowest_ms = self.slowest_ms.max(entry["duration_ms"].as_f64().unwrap_or(0.0));
        self.reused += u64::from(entry["reused"] == true);
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if counts.len() < KEPT || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    }
}

fn sorted(counts: &BTreeMap<String, u64>) -> Vec<(&String, u64)> {
    let mut all: Vec<_> = counts.iter().map(|(key, count)| (key, *count)).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(time: &str, backend: &str, client: &str, cause: Cause) -> String {
        let entry = cause.entry();
        value!({
            "time": time, "client": client, "host": "shop.example", "target": "/cart?id=1", "status": entry.status,
            "backend": backend, "cause": entry.code, "blame": entry.blame.word(), "phase": entry.phase.word(),
            "duration_ms": 12.5, "reused": false,
        })
        .to_string()
    }

    fn good(backend: &str) -> String {
        value!({"time": "2026-11-22T10:00:00.000000Z", "client": "192.0.2.9:1", "host": "shop.example", "target": "/", "status": 200, "backend": backend}).to_string()
    }

    #[test]
    fn one_bad_backend_among_good_ones_is_named() {
        let mut log = Log::new(Wanted::default());
        for number in 0..20 {
            log.line(&good("10.0.0.2:80"));
            log.line(&failed(
                "2026-11-22T10:01:00.000000Z",
                "10.0.0.1:80",
                &format!("192.0.2.{number}:99"),
                Cause::BackendResponseTimeout,
            ));
        }
        let judgement = log.judge();
        assert_eq!(judgement.outcome, Outcome::Fault(Whose::Backend));
        assert_eq!(judgement.cause, Some(Cause::BackendResponseTimeout));
        assert_eq!(judgement.about.as_deref(), Some("10.0.0.1:80"));
        assert!(judgement.evidence.iter().any(|line| line == "20 clients"), "{judgement:?}");
        assert!(log.text().contains("backend_response_timeout"));
    }

    #[test]
    fn failures_of_all_backends_accuse_none_of_them() {
        let mut log = Log::new(Wanted::default());
        for backend in ["10.0.0.1:80", "10.0.0.2:80"] {
            for _ in 0..5 {
                log.line(&failed("2026-11-22T10:01:00.000000Z", backend, "192.0.2.1:1", Cause::BackendConnectRefused));
            }
        }
        let judgement = log.judge();
        assert_eq!(judgement.about, None);
        assert!(judgement.evidence.iter().any(|line| line.contains("not one bad backend")));
        assert!(judgement.evidence.iter().any(|line| line.starts_with("one client only")));
    }

    #[test]
    fn who_left_early_is_not_blamed_while_something_else_fails() {
        let mut log = Log::new(Wanted::default());
        for _ in 0..9 {
            log.line(&failed("2026-11-22T10:01:00.000000Z", "10.0.0.1:80", "192.0.2.1:1", Cause::ClientAborted));
        }
        log.line(&failed("2026-11-22T10:01:00.000000Z", "10.0.0.1:80", "192.0.2.1:1", Cause::BackendResponseTimeout));
        assert_eq!(log.judge().cause, Some(Cause::BackendResponseTimeout));
        assert!(log.judge().beside.iter().any(|line| line == "9 by client_aborted"));
    }

    #[test]
    fn only_lines_about_the_url_count_and_strange_ones_are_counted_apart() {
        let wanted = Wanted { host: Some("shop.example".to_owned()), path: Some("/cart".to_owned()) };
        let mut log = Log::new(wanted);
        log.line(&failed("2026-11-22T10:01:00.000000Z", "10.0.0.1:80", "192.0.2.1:1", Cause::BackendResponseTimeout));
        log.line(&good("10.0.0.1:80"));
        for strange in ["", "hello", "{}", "[1]", "{\"time\":5}", "null"] {
            log.line(strange);
        }
        let json = log.json();
        assert_eq!(
            (json["lines"].as_u64(), json["matched"].as_u64(), json["unreadable"].as_u64()),
            (Some(7), Some(1), Some(5))
        );
    }

    #[test]
    fn a_port_counts_where_both_name_one() {
        let table = [
            ("a.example", "A.example", true),
            ("a.example:8080", "a.example:8080", true),
            ("a.example:8080", "a.example:8081", false),
            ("a.example:443", "a.example", true),
            ("a.example", "a.example:8080", true),
            ("[2001:db8::1]:80", "[2001:db8::1]", true),
            ("[2001:db8::1]", "[2001:db8::2]", false),
            ("a.example", "b.example", false),
        ];
        for (wanted, host, expected) in table {
            assert_eq!(is_same_host(wanted, host), expected, "{wanted} {host}");
        }
    }

    #[test]
    fn a_log_that_tells_nothing_is_no_proof_of_health() {
        assert_eq!(Log::default().judge().outcome, Outcome::CannotTell);
        let mut log = Log::new(Wanted { host: Some("other.example".to_owned()), path: None });
        log.line(&good("10.0.0.1:80"));
        assert_eq!(log.judge().outcome, Outcome::CannotTell);
        let mut log = Log::new(Wanted::default());
        log.line(&good("10.0.0.1:80"));
        assert_eq!(log.judge().outcome, Outcome::NothingWrong);
    }
}
