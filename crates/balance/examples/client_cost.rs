//! What it costs to know a client: an access list of 50,000 prefixes, a table of a million addresses, one of QUIC connection ids.
//!
//! `cargo run --release -p evenkeel-balance --example client_cost`. An example and not a test, because
//! a figure that depends on the machine is something to look at and nothing to fail on.

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_balance::quic::{CidRoutes, CidTable, Dcid};
use evenkeel_balance::{AffinityTable, BackendKey, hash, prefix};
use evenkeel_model::{Cidr, CidrSet, limits};

const LOOKS: u64 = 5_000_000;

fn main() {
    // The tables before the list, and the smaller one first, since what one frees the next would get for nothing.
    connection_ids();
    affinity();
    access_list();
}

/// Addresses all over IPv4, the same in every run.
fn address(number: u64) -> IpAddr {
    Ipv4Addr::from(hash::mix(number) as u32).into()
}

fn access_list() {
    let cidrs: Vec<Cidr> = (0..50_000)
        .map(|number| {
            let length = 16 + (number % 17) as u8;
            let network = hash::mix(number) as u32 & u32::MAX << (32 - length);
            Cidr::new(Ipv4Addr::from(network).into(), length).expect("masked")
        })
        .collect();
    let started = Instant::now();
    let set = CidrSet::new(cidrs);
    println!("access list of 50000 prefixes: built in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let inside = (0..LOOKS).filter(|number| set.contains(address(number ^ 0xabcd))).count();
    println!("  {:.0} ns for each look ({:.1} % inside)", nanos(started, LOOKS), inside as f64 / LOOKS as f64 * 100.0);
}

fn affinity() {
    let now = evenkeel_model::Instant::START;
    let timeout = Duration::from_secs(300);
    let clients = limits::AFFINITY_CLIENTS.value;
    let before = resident();
    let table = AffinityTable::new(1);
    let started = Instant::now();
    for number in 0..clients {
        table.settle(prefix::cut(address(number), 32, 64), BackendKey(number), timeout, now);
    }
    let settled = nanos(started, clients);
    let kept = table.len() as f64;
    println!("affinity of {kept:.0} clients: {:.0} bytes each", (resident() - before) / kept);
    println!("  {settled:.0} ns to remember a new one, the table's growth included");
    let started = Instant::now();
    for number in 0..LOOKS {
        black_box(table.find(prefix::cut(address(number % clients), 32, 64), timeout, now));
    }
    println!("  {:.0} ns to find one", nanos(started, LOOKS));
    let started = Instant::now();
    table.settle(prefix::cut(IpAddr::from([192, 0, 2, 1]), 32, 64), BackendKey(0), timeout, now + timeout);
    println!("  {:.0} µs to forget a full shard's", started.elapsed().as_secs_f64() * 1e6);
}

fn connection_ids() {
    let now = evenkeel_model::Instant::START;
    let ids = limits::CID_MEMORY.value;
    let before = resident();
    let routes = CidRoutes::new([], Arc::new(CidTable::new(1)));
    let cid = |number: u64| hash::mix(number).to_be_bytes();
    let started = Instant::now();
    for number in 0..4 * ids {
        routes.learn(&cid(number), BackendKey(number), now);
    }
    let learned = nanos(started, 4 * ids);
    println!("QUIC ids, {ids} at most: {:.0} bytes each", (resident() - before) / ids as f64);
    println!("  {learned:.0} ns to learn one");
    let started = Instant::now();
    let found = (0..LOOKS)
        .filter(|number| routes.of(Dcid::Leading(&cid(4 * ids - 1 - number % (ids / 4))), now).sticky.is_some())
        .count();
    println!("  {:.0} ns to find one ({} % found)", nanos(started, LOOKS), found as u64 * 100 / LOOKS);
}

fn nanos(started: Instant, times: u64) -> f64 {
    started.elapsed().as_secs_f64() * 1e9 / times as f64
}

/// Bytes of this process in RAM.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux tells it");
    let pages: f64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096.0
}
