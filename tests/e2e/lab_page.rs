//! What the fault lab saw of each fault, held against what it had to be, and written down as a page of the docs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Child;

use serde_json::Value;

use crate::lab_rows::{Row, Verdict};
use crate::lab_sites::HOSTS;

/// What the client of a row saw.
#[derive(Debug)]
pub struct Seen {
    pub status: Option<u16>,
    /// How the exchange ended, in curl's numbers; 0 is well.
    pub exit: i32,
    pub proxy_status: Vec<String>,
    pub body: u64,
}

/// All that was seen of one row.
pub struct Told {
    pub seen: Seen,
    /// The access log, the line with the cause first.
    pub lines: Vec<Value>,
    /// The event of an ejection.
    pub ejected: Option<String>,
    /// Of each backend the latest finding.
    pub findings: Vec<String>,
    pub port: u16,
    /// The judgement of `evenkeel doctor`.
    pub doctor: Value,
    /// Requests that stay until the row is over.
    pub held: Vec<Child>,
}

impl Drop for Told {
    fn drop(&mut self) {
        for child in &mut self.held {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Told {
    /// What is wrong with it.
    pub fn judge(&self, row: &Row) -> Option<String> {
        let line = &self.lines[0];
        let code = row.cause.map_or(Value::Null, |cause| cause.code().into());
        let blame = row.cause.map_or(Value::Null, |cause| cause.entry().blame.word().into());
        let wrong = [
            (self.seen.status != row.status, "the client saw another status"),
            (line["cause"] != code, "another cause"),
            (line["blame"] != blame, "another blame"),
            // Where an answer came, it says whose fault it was in its own field.
            (
                self.seen.status.is_some_and(|status| status >= 500) && self.seen.proxy_status.is_empty(),
                "a 5xx without Proxy-Status",
            ),
        ];
        if let Some((_, wrong)) = wrong.into_iter().find(|(is, _)| *is) {
            return Some(format!("{}: {wrong}: {:?}\n  {line}", row.name, self.seen));
        }
        let wanted = row.whose.or(row.cause.map(|cause| cause.entry().blame.word())).unwrap_or("nothing_wrong");
        let whose = self.whose();
        (whose != wanted).then(|| format!("{}: doctor blames {whose} instead of {wanted}: {}", row.name, self.doctor))
    }

    fn whose(&self) -> &str {
        self.doctor["whose"].as_str().or(self.doctor["outcome"].as_str()).unwrap_or_default()
    }

    fn client(&self) -> String {
        let Seen { status, exit, body, .. } = &self.seen;
        match (status, exit) {
            (Some(status), 0) => format!("{status}"),
            (Some(status), _) => {
                format!("{status}, {} of the body, then a cut", if *body == 0 { "nothing" } else { "a part" })
            }
            (None, 28) => "nothing, it gave up".to_owned(),
            (None, 35) => "a TLS alert".to_owned(),
            (None, 52 | 56) => "no answer: the connection is closed".to_owned(),
            (None, exit) => format!("no answer (curl says {exit})"),
        }
    }

    /// The line without what differs from run to run, and without what says nothing of the fault.
    fn line(&self, row: &Row, line: &Value) -> String {
        const KEPT: [&str; 14] = [
            "listener",
            "sni",
            "status",
            "cause",
            "blame",
            "phase",
            "detail",
            "errno",
            "limit",
            "timeout_ms",
            "pool",
            "backend",
            "reused",
            "attempts",
        ];
        let mut line = line.clone();
        for attempt in line["attempts"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            attempt.retain(|name, _| matches!(name.as_str(), "backend" | "cause"));
        }
        // Where it says nothing of the fault it is chance.
        let evidence = row.cause.map_or([].as_slice(), |cause| cause.entry().evidence);
        let chance = |name: &str| name == "reused" && (row.ask.repeats() || !evidence.contains(&name));
        let usual = |name: &str| name == "listener" && line[name] == "web";
        let kept = KEPT.iter().filter(|name| !(line[**name].is_null() || usual(name) || chance(name)));
        let kept: Vec<String> = kept.map(|name| format!("\"{name}\":{}", line[name])).collect();
        let text = format!("{{{}}}", kept.join(","));
        let port = format!(":{}", self.port);
        if row.ask.repeats() { text.replace(&port, ":80") } else { in_order(&text).replace(&port, ":80") }
    }
}

/// Two hosts that are alike are called in the order of their appearance.
fn in_order(text: &str) -> String {
    let [first, second] = HOSTS.map(|host| format!("{host}:"));
    match (text.find(&first), text.find(&second)) {
        (None, Some(_)) => text.replace(&second, &first),
        (Some(one), Some(other)) if other < one => {
            text.replace(&first, "\u{1}").replace(&second, &first).replace('\u{1}', &second)
        }
        _ => text.to_owned(),
    }
}

/// The latest finding behind each backend's verdict, without its time. One against it, or a void one, says something of
/// the machine that the test ran on.
pub fn findings(status: &Value, pool: &str) -> Vec<String> {
    let found = backends(status, pool).into_iter().filter_map(|backend| {
        let wanted = if backend["verdict"] == "unhealthy" { "failed" } else { "passed" };
        let recent = backend["checks"][0]["recent"].as_array()?;
        let finding = recent.iter().find(|finding| finding["result"] == wanted)?;
        Some(without_time(finding["text"].as_str()?))
    });
    found.collect()
}

pub fn backends<'a>(status: &'a Value, pool: &str) -> Vec<&'a Value> {
    let pools = status["pools"].as_array().into_iter().flatten();
    let shown = pools.filter(|shown| shown["name"] == pool);
    shown.flat_map(|shown| shown["backends"].as_array().into_iter().flatten()).collect()
}

/// "http failed in connect after 0.1ms: refused" without what the clock had to do with it.
fn without_time(finding: &str) -> String {
    let Some((begin, rest)) = finding.split_once(" after ") else { return finding.to_owned() };
    match rest.split_once(": ") {
        Some((_, what)) => format!("{begin}: {what}"),
        None => begin.to_owned(),
    }
}

/// Times of a run are not those of the next.
fn timeless(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let bare = |word: &'_ str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    let is_unit = |word: Option<&&str>| matches!(word.map(|word| bare(word)).as_deref(), Some("s" | "ms" | "days"));
    let shown = words.iter().enumerate().map(|(at, word)| {
        let is_time = bare(word).parse::<f64>().is_ok() && is_unit(words.get(at + 1));
        if is_time { "…" } else { word }
    });
    shown.collect::<Vec<_>>().join(" ")
}

const HEAD: &str = "\
# The fault lab

What common faults of a web site with nginx and php-fpm look like from the balancer in front of it: what the client gets, whom
the balancer blames, and what the log says. Made by `tests/e2e/lab_table.rs` (root), which breaks real servers in each of
these ways and demands the status, cause and blame of the table.

Every pool has two backends, nginx with php-fpm (Debian's packages) on ports and hosts of their own, behind one https listener. The
check, where nothing else is said, asks for a static file by HTTP. Log lines are shown without times, ids and addresses of
clients. `received-status` without `error` in `Proxy-Status` marks an answer of the backend's own. The doctor is `evenkeel doctor URL` on the balancer's
host while the fault lasts; its first sentence is shown, and its words on evidence and next steps are left out.
";

pub fn page(rows: &[Row], told: &[Told]) -> String {
    let mut text = HEAD.to_owned();
    text += "\n| fault | client gets | cause | blame | verdict | doctor blames |\n|---|---|---|---|---|---|\n";
    for (row, told) in rows.iter().zip(told) {
        let (cause, blame) = match row.cause {
            Some(cause) => {
                let code = cause.code();
                (format!("[`{code}`](reference/causes.md#{code})"), cause.entry().blame.word())
            }
            None => ("none".to_owned(), "–"),
        };
        let verdict = verdict(row, told);
        let _ = writeln!(
            text,
            "| [{}](#{}) | {} | {cause} | {blame} | {verdict} | {} |",
            row.title,
            anchor(row.title),
            told.client(),
            told.whose().replace('_', " ")
        );
    }
    for (row, told) in rows.iter().zip(told) {
        let _ = write!(text, "\n## {}\n\n{}\n\n", row.title, row.story);
        let _ = writeln!(text, "- Client: {}.", told.client());
        for value in &told.seen.proxy_status {
            let _ = writeln!(text, "- `Proxy-Status: {value}`");
        }
        for line in &told.lines {
            let _ = writeln!(text, "- Log: `{}`", told.line(row, line));
        }
        if row.verdict != Verdict::Unasked {
            let _ = writeln!(text, "- Verdict: {}.{}", verdict(row, told), last_findings(told));
        }
        if let Some((_, said)) = told.ejected.as_ref().and_then(|event| event.split_once(": ")) {
            // More than the limit of a run may have failed by the time it is told.
            let said = said.split(" (").next().unwrap_or_default();
            let _ = writeln!(text, "- Event `backend.ejected`: {said}.");
        }
        if let Some(sentence) = told.doctor["sentence"].as_str() {
            let _ = writeln!(
                text,
                "- Doctor blames **{}**: {}",
                told.whose().replace('_', " "),
                timeless(&in_order(sentence)).replace(&format!(":{}", told.port), ":80")
            );
        }
        if !row.note.is_empty() {
            let _ = writeln!(text, "\n{}", row.note);
        }
    }
    text
}

fn verdict(row: &Row, told: &Told) -> &'static str {
    match (row.verdict, &told.ejected) {
        (Verdict::Healthy, None) => "healthy",
        (Verdict::Healthy, Some(_)) => "healthy, one ejected",
        (Verdict::FirstUnhealthy, _) => "one unhealthy",
        (Verdict::Unhealthy, _) => "unhealthy",
        (Verdict::Unasked, _) => "–",
    }
}

fn last_findings(told: &Told) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &told.findings {
        *counts.entry(finding).or_default() += 1;
    }
    let words: Vec<String> = counts.keys().map(|finding| format!("`{finding}`")).collect();
    if words.is_empty() { String::new() } else { format!(" Last finding: {}.", words.join(", ")) }
}

/// As GitHub and mdBook make it of a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

pub fn keep(page: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fault-lab.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&file, page).expect("the project can be written");
    }
    let kept = fs::read_to_string(&file).expect("docs/fault-lab.md is there; UPDATE_GOLDEN=1 writes it");
    let differ = kept.lines().zip(page.lines()).find(|(kept, page)| kept != page);
    assert!(kept == page, "docs/fault-lab.md says something else, first {differ:#?}; UPDATE_GOLDEN=1 writes it anew");
}
