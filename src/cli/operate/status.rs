//! `evenkeel status`: what is wrong, then listeners, pools and backends, each in a line.
//!
//! It prints once and judges nothing: it ends with 0 also when something is wrong, for it was the node's state that was asked.

use std::process::ExitCode;

use super::client::{Client, Failure};
use super::seen::{Backend, Pool, Status, age, seconds_between};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this pool, or POOL/BACKEND.
    of: Option<String>,
    #[command(flatten)]
    pub node: super::Node,
}

pub fn status(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let document = client.get("/api/v1/status")?;
    let status: Status = serde_json::from_value(document.clone()).map_err(|error| Failure::NoNode {
        place: client.place.to_string(),
        why: format!("its status cannot be read: {error}"),
    })?;
    let wanted = Wanted::of(arguments.of.as_deref());
    if let Some(missing) = wanted.missing(&status) {
        return Err(Failure::Usage(missing));
    }
    if arguments.node.json {
        println!("{:#}", wanted.slice(document));
    } else {
        print!("{}", text(&status, &wanted));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be shown.
pub struct Wanted<'a> {
    pool: Option<&'a str>,
    backend: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    pub fn of(given: Option<&'a str>) -> Self {
        match given.map(|given| given.rsplit_once('/').map_or((given, None), |(pool, backend)| (pool, Some(backend)))) {
            None => Wanted { pool: None, backend: None },
            Some((pool, backend)) => Wanted { pool: Some(pool), backend },
        }
    }

    fn missing(&self, status: &Status) -> Option<String> {
        let wanted = self.pool?;
        let Some(pool) = status.pools.iter().find(|pool| pool.name == wanted) else {
            let names: Vec<&str> = status.pools.iter().map(|pool| &*pool.name).collect();
            return Some(format!("no pool is named \"{wanted}\"; there are: {}", names.join(", ")));
        };
        let backend = self.backend?;
        let found = pool.backends.iter().any(|one| one.address == backend);
        (!found).then(|| {
            let all: Vec<&str> = pool.backends.iter().map(|one| &*one.address).collect();
            format!("pool \"{wanted}\" has no backend {backend}; it has: {}", all.join(", "))
        })
    }

    fn slice(&self, mut document: serde_json::Value) -> serde_json::Value {
        let Some(wanted) = self.pool else { return document };
        let pools = document["pools"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut pool = pools.into_iter().find(|pool| pool["name"] == wanted).unwrap_or_default();
        let Some(backend) = self.backend else { return pool };
        let backends = pool["backends"].as_array_mut().map(std::mem::take).unwrap_or_default();
        backends.into_iter().find(|one| one["address"] == backend).unwrap_or_default()
    }

    fn has(&self, pool: &Pool, backend: &Backend) -> bool {
        self.pool.is_none_or(|wanted| wanted == pool.name)
            && self.backend.is_none_or(|wanted| wanted == backend.address)
    }
}

pub fn text(status: &Status, wanted: &Wanted<'_>) -> String {
    let mut out = String::new();
    if wanted.pool.is_none() {
        head(status, &mut out);
    }
    let rows = status.backends().filter(|(pool, backend)| wanted.has(pool, backend)).map(|(pool, backend)| {
        let since = seconds_between(&backend.since, &status.time).map(age).unwrap_or_default();
        [
            format!("{}/{}", pool.name, backend.address),
            backend.verdict.clone(),
            since,
            backend.order_text(&status.time),
            format!("{}", backend.effective_weight),
            backend.in_flight.to_string(),
            backend.evidence(&status.time),
        ]
    });
    table(["BACKEND", "VERDICT", "FOR", "ORDER", "WEIGHT", "AT WORK", "EVIDENCE"], rows.collect(), &mut out);
    out
}

fn head(status: &Status, out: &mut String) {
    let up = seconds_between(&status.started, &status.time).map(age).unwrap_or_default();
    let config = match &status.config {
        None => String::new(),
        Some(config) => {
            let same = if config.same { "as it runs" } else { "differs from what runs" };
            let changes = match config.changes {
                0 => String::new(),
                1 => ", 1 change at run time".to_owned(),
                many => format!(", {many} changes at run time"),
            };
            format!("; {} {same}{changes}", config.file)
        }
    };
    out.push_str(&format!("evenkeel {}, up {up}{config}\n", status.version));
    let wrong = status.wrong();
    if wrong.is_empty() {
        out.push_str("nothing is wrong\n");
    }
    for line in wrong {
        out.push_str(&format!("! {line}\n"));
    }
    out.push('\n');
    let rows = status.listeners.iter().map(|listener| {
        [
            listener.name.clone(),
            listener.protocol.clone(),
            listener.listen.join(" "),
            listener.connections.to_string(),
            listener.requests_total.to_string(),
        ]
    });
    table(["LISTENER", "PROTOCOL", "ADDRESS", "CONNECTIONS", "REQUESTS SO FAR"], rows.collect(), out);
    out.push('\n');
}

/// Columns as wide as they must be; the last one is as long as it is.
fn table<const N: usize>(titles: [&str; N], rows: Vec<[String; N]>, out: &mut String) {
    let mut widths = titles.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let titles = titles.map(str::to_owned);
    for row in std::iter::once(&titles).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
