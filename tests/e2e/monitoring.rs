//! What is packed for Prometheus and Grafana asks for metrics that there are, and the manual explains each of them.
//!
//! A rule whose metric was renamed never fires, and nobody notices: that silence is what this holds against. The page is that of
//! a real node which has seen every kind of listener, check and failure that has rows of its own. `UPDATE_GOLDEN=1` writes
//! `docs/reference/metrics.md` anew. Whether the expressions mean what they should is promtool's question (`packaging/check`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::{fs, io::Write as _};

use serde_json::Value;

use crate::backend::{backend, polite, read_head};
use crate::client::Wire;
use crate::daemon::{Daemon, free_address, own_ip, until};

struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Families of the page, each with the labels that its rows have.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    let mut help = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, text);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let help = help.get(name).unwrap_or_else(|| panic!("{name} has no HELP")).to_string();
            let family = Family { kind: kind.to_owned(), help, labels: BTreeSet::new() };
            assert!(found.insert(name.to_owned(), family).is_none(), "{name} stands twice on the page");
        } else if let Some((row, _)) = line.rsplit_once(' ') {
            let (name, labels) = row.split_once('{').unwrap_or((row, ""));
            let family = family_of(&found, name).unwrap_or_else(|| panic!("a row of no family: {line}")).to_owned();
            let names = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next());
            let names = names.filter(|name| !name.is_empty() && *name != "}").map(str::to_owned);
            found.get_mut(&family).expect("it was just found").labels.extend(names);
        }
    }
    found
}

/// The family that a name in a row or an expression belongs to: histograms have three kinds of rows.
fn family_of<'f>(families: &'f BTreeMap<String, Family>, name: &str) -> Option<&'f str> {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let histogram = of_histogram.filter(|base| families.get(*base).is_some_and(|family| family.kind == "histogram"));
    families.get_key_value(histogram.unwrap_or(name)).map(|(name, _)| name.as_str())
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A page with rows of every family.
fn page() -> String {
    let broken = backend(|mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            if !head.starts_with("HEAD ") {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let (web, dns, well) = (free_address(), free_address(), backend(polite));
    let silent = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    let silent_address = silent.local_addr().expect("a bound socket has an address");
    let daemon = Daemon::start(
        "monitoring",
        &format!(
            "[[listener]]\nname = \"web\"\nlisten = \"{web}\"\nrule = [{{ path = \"/broken\", pool = \"broken\" }}]\npool = \"well\"\n\
             [[listener]]\nname = \"dns\"\nlisten = \"{dns}\"\nprotocol = \"udp\"\npool = \"dns\"\n\
             [[pool]]\nname = \"well\"\nbackends = [\"{well}\"]\n\
             [[pool]]\nname = \"broken\"\nbackends = [\"{broken}\"]\n\
             [[pool]]\nname = \"dns\"\nbackends = [\"{silent_address}\"]\ncheck = {{ kind = \"udp\", timeout = \"20ms\" }}\n"
        ),
    );
    for (pool, address) in [("well", well), ("broken", broken), ("dns", silent_address)] {
        daemon.wait_verdict(pool, &address.to_string(), "healthy");
    }
    assert_eq!(Wire::open(web).get("/").status, 200);
    assert_eq!(Wire::open(web).get("/broken").status, 502);
    let client = UdpSocket::bind((own_ip(), 0)).expect("loopback has free ports");
    client.send_to(b"hello", dns).expect("loopback takes a datagram");
    // Counters of workers are read without waiting for them.
    until("rows of every family", || {
        let page = daemon.page("/metrics").1;
        let rows = |name: &str| page.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
        let all = [
            "evenkeel_listener_received_datagrams_total",
            "evenkeel_requests_total",
            "evenkeel_failures_total",
            "evenkeel_backend_failures_total",
            "evenkeel_backend_rests_on_silence",
        ];
        all.iter().all(|name| rows(name)).then_some(page)
    })
}

/// Every `evenkeel_…` word of a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("evenkeel_")).map(str::to_owned).collect()
}

/// Labels by which an expression chooses and groups.
fn labels(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut take = |inside: &str| {
        let names = inside.split(',').map(|part| part.split(['=', '!', '~']).next().unwrap_or_default().trim());
        found.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    };
    for (open, close) in [("{", '}'), ("by (", ')'), ("on (", ')')] {
        for rest in expression.split(open).skip(1) {
            take(rest.split(close).next().unwrap_or_default());
        }
    }
    found
}

fn expressions_of_the_dashboard() -> Vec<String> {
    let text = fs::read_to_string(file("packaging/monitoring/dashboard.json")).expect("the dashboard is there");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked = targets.map(|target| target["expr"].as_str().expect("a target has an expression").to_owned());
    let variables = dashboard["templating"]["list"].as_array().expect("a dashboard has variables");
    asked.chain(variables.iter().filter_map(|one| Some(one["definition"].as_str()?.to_owned()))).collect()
}

/// The values of `expr:` in the file of rules, with the lines that belong to them.
fn expressions_of_the_rules() -> Vec<String> {
    let text = fs::read_to_string(file("packaging/monitoring/alerts.yml")).expect("the rules are there");
    let mut found: Vec<String> = Vec::new();
    let mut within = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if let Some(rest) = line.trim_start().strip_prefix("expr:") {
            found.push(rest.to_owned());
            within = Some(depth);
        } else if within.is_some_and(|of| depth > of) {
            let last = found.last_mut().expect("an expression began");
            last.push(' ');
            last.push_str(line.trim());
        } else {
            within = None;
        }
    }
    found
}

/// A family stands in the first section one of whose beginnings its name has.
const SECTIONS: [(&str, &[&str]); 3] = [
    (
        "Listeners: what clients meet",
        &["evenkeel_listener_", "evenkeel_requests_", "evenkeel_failures_", "evenkeel_exchange_"],
    ),
    ("Backends and pools", &["evenkeel_backend_", "evenkeel_pool_"]),
    ("Checks, and the node itself", &["evenkeel_"]),
];

fn reference(families: &BTreeMap<String, Family>) -> String {
    let mut out = String::from(INTRODUCTION);
    let section =
        |name: &str| SECTIONS.iter().position(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
    for (position, (title, _)) in SECTIONS.iter().enumerate() {
        let _ = write!(out, "\n## {title}\n\n| metric | kind | labels | what it says |\n|---|---|---|---|\n");
        for (name, family) in families.iter().filter(|(name, _)| section(name) == Some(position)) {
            let labels: Vec<String> =
                family.labels.iter().filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
            let _ = writeln!(out, "| `{name}` | {} | {} | {} |", family.kind, labels.join(", "), family.help);
        }
    }
    out
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Printed from a real /metrics page by tests/e2e/monitoring.rs. To change it, change the HELP text where the metric is counted and run
     `UPDATE_GOLDEN=1 cargo test --test e2e monitoring`. -->

`GET /metrics` on the admin port, in Prometheus' text format. Counters begin at nothing with each process; a reload keeps them.

| label | values |
|---|---|
| `listener`, `pool`, `backend`, `check` | names and addresses of the config, so there are no more rows than the config has things |
| `cause` | a code of [the closed list](causes.md); a row appears when it happens for the first time |
| `blame` | `client`, `balancer`, `backend`, `network`, `operator` |
| `status` | `1xx` to `5xx`: what was sent to clients, or what a backend answered |
| `verdict` | `unknown`, `healthy`, `unhealthy`: one row for each, 1 for the one that holds |
| `target`, `kind`, `result` | what probes go to; [kind of check](../health-checks.md); `passed`, `failed`, `void` |

Histograms have rows `_bucket` (with `le`, in seconds), `_sum` and `_count`. A dashboard for Grafana and alert rules made of these metrics:
[monitoring](../monitoring.md).
";

#[test]
fn every_metric_is_explained_and_dashboard_and_rules_ask_for_no_other() {
    let page = page();
    let families = families(&page);
    let known: BTreeSet<&str> = families.values().flat_map(|family| &family.labels).map(String::as_str).collect();
    // What Prometheus adds to every row, and to those of alerts.
    let added = ["instance", "job"];
    let mut asked = BTreeSet::new();
    for expression in expressions_of_the_dashboard().iter().chain(&expressions_of_the_rules()) {
        for name in names(expression) {
            let family = family_of(&families, &name);
            assert!(family.is_some(), "there is no metric {name}, for which this asks: {expression}");
            asked.extend(family.map(str::to_owned));
        }
        for label in labels(expression) {
            assert!(known.contains(&*label) || added.contains(&&*label), "no row has \"{label}\": {expression}");
        }
    }
    let unseen: Vec<&String> = families.keys().filter(|name| !asked.contains(*name)).collect();
    assert!(
        unseen.is_empty(),
        "neither a panel nor a rule shows {unseen:?}; whoever counts something wants it looked at"
    );

    let (path, text) = (file("docs/reference/metrics.md"), reference(&families));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("the reference can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/reference/metrics.md is not current; rewrite it with UPDATE_GOLDEN=1");
}
