//! What of this host bears on the node: what `check` says of it, and what the kernel counts and allows.
//!
//! Read anew for each asker, since it changes without us. What cannot be read is `null`, not a guess.

use std::fs;

use axum::extract::State;
use axum::response::Response;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::problem::Problem;
use crate::admin::{Shared, page};

/// What is so on this host; `null` where it cannot be read.
#[derive(Serialize, ToSchema)]
pub struct Host {
    /// What the plan asks of the host in vain.
    missing: Vec<Missing>,
    net_admin: Option<bool>,
    net_raw: Option<bool>,
    files: Files,
    accept_queue: AcceptQueue,
    conntrack: Option<Conntrack>,
    source_ports: Option<SourcePorts>,
    sockets: Option<Sockets>,
    /// `net.ipv4.tcp_fastopen`.
    fast_open: Option<u64>,
    /// `net.core.rmem_max`, in bytes.
    receive_buffer: Option<u64>,
    /// `net.ipv4.conf.all.rp_filter`.
    rp_filter: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct Missing {
    code: &'static str,
    text: String,
    help: &'static str,
    /// For a shell of root, in this order.
    commands: Vec<String>,
}

/// Files of this process.
#[derive(Serialize, ToSchema)]
pub struct Files {
    open: Option<u64>,
    limit: Option<u64>,
}

/// Connections that wait to be taken. Counted since the host started, of all its listeners.
#[derive(Serialize, ToSchema)]
pub struct AcceptQueue {
    /// `net.core.somaxconn`: a longer `backlog` is cut to it.
    longest: Option<u64>,
    /// Connections that came when a queue was full.
    overflows: Option<u64>,
    /// These, and others that were dropped in front of a queue.
    drops: Option<u64>,
}

/// Connections the firewall follows.
#[derive(Serialize, ToSchema)]
pub struct Conntrack {
    count: u64,
    max: u64,
}

/// `net.ipv4.ip_local_port_range`: to one backend so many connections at once, from each source address.
#[derive(Serialize, ToSchema)]
pub struct SourcePorts {
    first: u16,
    last: u16,
}

/// TCP sockets of IPv4 on this host.
#[derive(Serialize, ToSchema)]
pub struct Sockets {
    in_use: u64,
    time_wait: u64,
}

/// What of the host bears on the node.
#[utoipa::path(
    get, path = "/api/v1/host", tag = "status",
    responses((status = 200, description = "Facts of this host", body = Host)),
)]
pub async fn host(State(admin): Shared) -> Result<Response, Problem> {
    let boss = admin.view.boss.clone();
    page(move || {
        let plan = boss.look(|control| control.snapshot())?.plan.clone();
        let facts = crate::host::facts(&plan);
        let missing = evenkeel_diagnose::host::missing(&plan, &facts).into_iter();
        let missing =
            missing.map(|one| Missing { code: one.code, text: one.text, help: one.help, commands: one.commands });
        let kernel = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let count = number("/proc/sys/net/netfilter/nf_conntrack_count");
        let max = number("/proc/sys/net/netfilter/nf_conntrack_max");
        Some(Host {
            missing: missing.collect(),
            net_admin: facts.net_admin,
            net_raw: facts.net_raw,
            files: Files {
                open: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
                limit: getrlimit(Resource::Nofile).current,
            },
            accept_queue: AcceptQueue {
                longest: facts.accept_queue,
                overflows: named(&kernel, "TcpExt:", "ListenOverflows"),
                drops: named(&kernel, "TcpExt:", "ListenDrops"),
            },
            conntrack: count.zip(max).map(|(count, max)| Conntrack { count, max }),
            source_ports: facts.source_ports.map(|(first, last)| SourcePorts { first, last }),
            sockets: fs::read_to_string("/proc/net/sockstat").ok().and_then(|text| sockets(&text)),
            fast_open: facts.fast_open,
            receive_buffer: facts.receive_buffer,
            rp_filter: number("/proc/sys/net/ipv4/conf/all/rp_filter"),
        })
    })
    .await
}

/// Of two lines with the same first word, the first has names and the second their numbers.
fn named(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let position = names.split_whitespace().position(|one| one == name)?;
    numbers.split_whitespace().nth(position)?.parse().ok()
}

fn sockets(text: &str) -> Option<Sockets> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = |name: &str| {
        let position = words.iter().position(|word| *word == name)?;
        words.get(position + 1)?.parse().ok()
    };
    Some(Sockets { in_use: of("inuse")?, time_wait: of("tw")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_found_by_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InOctets\nIpExt: 9\n";
        assert_eq!(named(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(named(text, "TcpExt:", "Other"), None);
        assert_eq!(named("", "TcpExt:", "ListenDrops"), None);
        let sockets = sockets("sockets: used 9\nTCP: inuse 7 orphan 0 tw 3 alloc 8 mem 1\n").expect("a line of TCP");
        assert_eq!((sockets.in_use, sockets.time_wait), (7, 3));
    }
}
