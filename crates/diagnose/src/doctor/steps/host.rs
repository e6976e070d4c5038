//! The steps about this host: kernel settings and counters, files, memory, clock.
//!
//! Where the balancer runs elsewhere they are of the wrong host, and the step says so instead of accusing anybody.

use super::super::facts::{Facts, Host, Node};
use super::super::judge::CLOCK_SKEW;
use super::super::{Mark, Step};

/// Below this a burst of clients fills the accept queue of a listener. The kernel's default since 5.4.
const ACCEPT_QUEUE: u64 = 4096;

pub(super) fn host(facts: &Facts) -> Step {
    let Some(host) = &facts.host else { return Step::skipped("host", "the kernel's settings could not be read") };
    let complaints = of(host);
    let here = matches!(&facts.node, Node::Answered(told) if told.is_here);
    let (mark, means) = match (complaints.is_empty(), here) {
        (true, true) => (Mark::Good, ""),
        (false, true) => (Mark::Note, "of the balancer's host"),
        (_, false) => (Mark::Skipped, "of the host this command runs on, which is not known to be the balancer's"),
    };
    Step::new("host", mark, means).saw_all(complaints).saw_all(settings(host))
}

/// What of the host may explain failures; empty where the balancer runs elsewhere.
pub(in crate::doctor) fn complaints(facts: &Facts) -> Vec<String> {
    match (&facts.host, &facts.node) {
        (Some(host), Node::Answered(told)) if told.is_here => of(host),
        _ => Vec::new(),
    }
}

fn of(host: &Host) -> Vec<String> {
    let mut found = Vec::new();
    let strict: Vec<&str> =
        host.rp_filter.iter().filter(|(_, value)| *value == 1).map(|(name, _)| name.as_str()).collect();
    if !strict.is_empty() {
        found.push(format!(
            "rp_filter is strict on {}: packets whose way back leads elsewhere are dropped without a word. It matters with several interfaces or routing by policy; sysctl -w net.ipv4.conf.all.rp_filter=2 is loose",
            strict.join(", ")
        ));
    }
    if let Some(queue) = host.accept_queue.filter(|queue| *queue < ACCEPT_QUEUE) {
        found.push(format!("somaxconn is {queue}: accept queues are cut to it, and a burst of clients beyond waits for its SYN to be sent again"));
    }
    if host.abort_on_overflow == Some(1) {
        found.push(
            "tcp_abort_on_overflow is on: clients are reset when an accept queue is full, instead of tried again"
                .to_owned(),
        );
    }
    if let Some(overflows) = host.overflows_meanwhile.filter(|count| *count > 0) {
        found.push(format!("accept queues of this host overflowed {overflows} times while this command ran (TcpExtListenOverflows): a service here takes its connections too slowly"));
    }
    if let (Some(used), Some((first, last))) = (host.ports_in_use, host.source_ports) {
        let all = u64::from(last.saturating_sub(first)) + 1;
        if used * 10 >= all * 8 {
            found.push(format!("{used} of {all} source ports are in use: connects to backends will begin to fail (EADDRNOTAVAIL). Widen ip_local_port_range, or give the pool several source addresses"));
        }
    }
    if let Some((used, most)) = host.conntrack.filter(|(used, most)| *most > 0 && used * 10 >= most * 9) {
        found.push(format!("conntrack holds {used} of {most} connections: beyond it packets are dropped. Raise net.netfilter.nf_conntrack_max"));
    }
    if let Some((open, most)) = host.files.filter(|(open, most)| *most > 0 && open * 10 >= most * 9) {
        found.push(format!("the node has {open} of {most} files open: beyond it clients are refused (LimitNOFILE)"));
    }
    if let Some((open, most)) = host.files_of_host.filter(|(open, most)| *most > 0 && open * 10 >= most * 9) {
        found.push(format!("this host has {open} of {most} files open (fs.file-max)"));
    }
    if let Some((free, all)) = host.memory.filter(|(free, all)| *all > 0 && free * 20 < *all) {
        found.push(format!("{} MiB of {} MiB of memory are free", free >> 20, all >> 20));
    }
    if let Some((load, cpus)) = host.load.filter(|(load, cpus)| *cpus > 0 && load / 100 > cpus * 2) {
        found.push(format!("the load is {}.{:02} on {cpus} CPUs", load / 100, load % 100));
    }
    found
}

fn settings(host: &Host) -> Vec<String> {
    let mut line = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        line.push(format!("{name} {}", value.unwrap_or_else(|| "unknown".to_owned())))
    };
    say("somaxconn", host.accept_queue.map(|value| value.to_string()));
    say("tcp_tw_reuse", host.reuse_time_wait.map(|value| value.to_string()));
    say(
        "ports",
        host.source_ports.map(|(first, last)| {
            format!(
                "{first}-{last} with {} in use",
                host.ports_in_use.map_or_else(|| "unknown".to_owned(), |used| used.to_string())
            )
        }),
    );
    say("conntrack", host.conntrack.map(|(used, most)| format!("{used}/{most}")));
    say("files", host.files.map(|(open, most)| format!("{open}/{most}")));
    say("accept queue overflows since the host came up", host.listen_overflows.map(|value| value.to_string()));
    say("listen drops", host.listen_drops.map(|value| value.to_string()));
    vec![line.join(", ")]
}

pub(super) fn clock(facts: &Facts) -> Step {
    let Node::Answered(told) = &facts.node else { return Step::skipped("clock", "no node told the time") };
    let Some(time) = told.time else { return Step::skipped("clock", "the node did not say what time it has") };
    let skew = time.abs_diff(facts.now);
    let seen = format!("the node's clock and this host's are {skew} s apart");
    if skew > CLOCK_SKEW {
        return Step::new(
            "clock",
            Mark::Note,
            "times in logs do not compare, and certificates may seem expired or not yet valid",
        )
        .saw(seen);
    }
    Step::new("clock", Mark::Good, "").saw(seen)
}
