//! `evenkeel drain|serve|maintain|weight|probe POOL/BACKEND`.
//!
//! What was done is read back from the node and shown: an order that its agent, a verdict or an ejection makes pointless is
//! seen at once.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, Failure, escaped};
use super::seen::Backend;

/// How long `probe` waits for what its probes find, and how often it looks.
const FINDINGS: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub struct Order {
    /// The backend: POOL/ADDRESS:PORT, as `status` shows it.
    #[arg(value_name = "POOL/BACKEND", value_parser = target)]
    of: Target,
    /// Outlive a restart of the node; it needs `node.state_file`.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    pub node: super::Node,
}

#[derive(clap::Args)]
pub struct LimitedOrder {
    /// Serve again by itself after this time, such as 90s, 10m or 2h.
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<String>,
    #[command(flatten)]
    pub order: Order,
}

#[derive(clap::Args)]
pub struct Weight {
    /// The backend: POOL/ADDRESS:PORT, as `status` shows it.
    #[arg(value_name = "POOL/BACKEND", value_parser = target)]
    of: Target,
    /// 0 to 100, or `file` for what the config says.
    #[arg(value_parser = weight)]
    weight: Given,
    /// Outlive a restart of the node; it needs `node.state_file`.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    pub node: super::Node,
}

#[derive(clap::Args)]
pub struct Probe {
    /// The backend: POOL/ADDRESS:PORT, as `status` shows it.
    #[arg(value_name = "POOL/BACKEND", value_parser = target)]
    of: Target,
    /// Do not wait for what the probes find.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    pub node: super::Node,
}

/// A backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pool: String,
    pub backend: String,
}

impl Target {
    fn path(&self) -> String {
        format!("/api/v1/pools/{}/backends/{}", escaped(&self.pool), escaped(&self.backend))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Weight(u32),
    OfFile,
}

fn target(text: &str) -> Result<Target, String> {
    let (pool, backend) = text.rsplit_once('/').ok_or("write it POOL/ADDRESS:PORT, such as web/10.0.0.1:8080")?;
    let address = backend.parse::<std::net::SocketAddr>();
    let address = address.map_err(|_| "the backend is an address with a port, such as web/10.0.0.1:8080")?;
    if pool.is_empty() {
        return Err("write the pool in front: web/10.0.0.1:8080".to_owned());
    }
    Ok(Target { pool: pool.to_owned(), backend: address.to_string() })
}

fn weight(text: &str) -> Result<Given, String> {
    match (text, text.parse()) {
        ("file", _) => Ok(Given::OfFile),
        (_, Ok(weight @ 0..=100)) => Ok(Given::Weight(weight)),
        _ => Err("0 to 100, or file".to_owned()),
    }
}

pub fn order(client: &Client, word: &str, lasts: Option<&str>, order: &Order) -> Result<ExitCode, Failure> {
    post_order(client, &order.of, word, lasts, order.keep)
        .and_then(|answer| shown(client, &order.of, &answer, order.node.json))
}

pub fn limited(client: &Client, word: &str, limited: &LimitedOrder) -> Result<ExitCode, Failure> {
    order(client, word, limited.lasts.as_deref(), &limited.order)
}

/// Gives the order and nothing else.
pub fn post_order(client: &Client, of: &Target, word: &str, lasts: Option<&str>, keep: bool) -> Result<Value, Failure> {
    let mut body = json!({ "order": word, "keep": keep });
    if let Some(lasts) = lasts {
        body["for"] = lasts.into();
    }
    client.post(&format!("{}/order", of.path()), &body)
}

/// Asks for the probes and nothing else.
pub fn post_probe(client: &Client, of: &Target) -> Result<Value, Failure> {
    client.post(&format!("{}/probe", of.path()), &json!({}))
}

pub fn weigh(client: &Client, arguments: &Weight) -> Result<ExitCode, Failure> {
    let weight = match arguments.weight {
        Given::Weight(weight) => json!(weight),
        Given::OfFile => Value::Null,
    };
    let body = json!({ "weight": weight, "keep": arguments.keep });
    let answer = client.post(&format!("{}/weight", arguments.of.path()), &body)?;
    shown(client, &arguments.of, &answer, arguments.node.json)
}

pub fn probe(client: &Client, arguments: &Probe) -> Result<ExitCode, Failure> {
    let newest = |backend: &Backend| -> Vec<Option<String>> {
        backend.checks.iter().map(|check| check.recent.first().map(|last| last.started.clone())).collect()
    };
    let before = newest(&read(client, &arguments.of)?.0);
    let answer = post_probe(client, &arguments.of)?;
    if arguments.no_wait {
        return shown(client, &arguments.of, &answer, arguments.node.json);
    }
    let until = Instant::now() + FINDINGS;
    loop {
        let (backend, document) = read(client, &arguments.of)?;
        let heard = newest(&backend).iter().zip(&before).all(|(now, before)| now != before);
        if heard {
            if arguments.node.json {
                println!("{document:#}");
            } else {
                findings(&arguments.of, &backend);
            }
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() > until {
            eprintln!(
                "the probes have not ended within {} s; evenkeel status shows them when they have",
                FINDINGS.as_secs()
            );
            return Ok(ExitCode::from(1));
        }
        sleep(LOOK);
    }
}

fn findings(of: &Target, backend: &Backend) {
    for check in &backend.checks {
        let Some(last) = check.recent.first() else { continue };
        println!("{}/{} {}: {}", of.pool, of.backend, check.name, last.text);
    }
    println!("{}/{} is {}", of.pool, of.backend, backend.verdict);
}

/// The backend as it stands.
fn read(client: &Client, of: &Target) -> Result<(Backend, Value), Failure> {
    let document = client.get(&of.path())?;
    Ok((serde_json::from_value(document.clone()).unwrap_or_default(), document))
}

fn shown(client: &Client, of: &Target, answer: &Value, json: bool) -> Result<ExitCode, Failure> {
    if json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let backend = read(client, of)?.0;
    let until = backend.order_until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
    let kept = if backend.order_kept { ", kept over a restart" } else { "" };
    let weight = match backend.weight_of_file {
        Some(of_file) if of_file != backend.weight => format!("{} (the file says {of_file})", backend.weight),
        _ => backend.weight.to_string(),
    };
    println!(
        "{}/{}: order {}{until}{kept}; {}, weight {weight}, {} at work",
        of.pool, of.backend, backend.order, backend.verdict, backend.in_flight
    );
    if backend.effective_weight == 0 && backend.order == "serve" {
        println!("      it gets no new work all the same: {}", backend.evidence(""));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_named_by_its_pool_and_its_address() {
        let good = |pool: &str, backend: &str| Ok(Target { pool: pool.to_owned(), backend: backend.to_owned() });
        assert_eq!(target("web/10.0.0.1:80"), good("web", "10.0.0.1:80"));
        assert_eq!(target("a/b/[2001:db8::1]:80"), good("a/b", "[2001:db8::1]:80"));
        for bad in ["web", "web/", "/10.0.0.1:80", "web/10.0.0.1", "web/host:80", "10.0.0.1:80"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_weight_is_a_number_up_to_a_hundred_or_that_of_the_file() {
        assert_eq!(
            (weight("0"), weight("100"), weight("file")),
            (Ok(Given::Weight(0)), Ok(Given::Weight(100)), Ok(Given::OfFile))
        );
        for bad in ["101", "-1", "", "half", "File"] {
            assert!(weight(bad).is_err(), "{bad}");
        }
    }
}
