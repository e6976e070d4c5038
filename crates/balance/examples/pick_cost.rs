//! Nanoseconds per pick for each schedule at 3, 100 and 1000 backends, the cost of preparing, and of sticky cookies.
//!
//! `cargo run --release -p evenkeel-balance --example pick_cost`. An example and not a test, because
//! a figure that depends on the machine is something to look at and nothing to fail on.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use evenkeel_balance::sticky::Sticky;
use evenkeel_balance::{BackendKey, Candidates, InFlight, Member, Picker, Schedule, Wanted};
use evenkeel_model::BackendId;

const PICKS: u32 = 2_000_000;

fn main() {
    println!("{:<22}{:>10}{:>12}{:>12}{:>14}", "schedule", "backends", "ns/pick", "ns/retry", "µs to prepare");
    for (schedule, weights) in [
        (Schedule::Rr, Weights::Equal),
        (Schedule::Wrr, Weights::Equal),
        (Schedule::Wrr, Weights::Mixed),
        (Schedule::Wlc, Weights::Mixed),
        (Schedule::P2c, Weights::Equal),
        (Schedule::P2c, Weights::Mixed),
        (Schedule::Source, Weights::Mixed),
        (Schedule::Maglev, Weights::Mixed),
    ] {
        for backends in [3, 100, 1000] {
            measure(schedule, weights, backends, None);
        }
    }
    for backends in [3, 100, 1000] {
        measure(Schedule::Maglev, Weights::Mixed, backends, Some(125));
    }
    measure_cookies();
}

#[derive(Clone, Copy, Debug)]
enum Weights {
    Equal,
    Mixed,
}

fn measure(schedule: Schedule, weights: Weights, backends: u32, bound: Option<u32>) {
    let members: Vec<Member> = (0..backends)
        .map(|id| {
            let weight = match weights {
                Weights::Equal => 100,
                Weights::Mixed => 1 + id * 37 % 100,
            };
            Member::new(BackendId(id), SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + id), 80)), weight)
        })
        .collect();

    let started = Instant::now();
    let candidates = Candidates::new(schedule, members).with_bounded_load(bound);
    let prepared = started.elapsed();

    let load: Vec<InFlight> = (0..backends).map(|_| InFlight::new()).collect();
    let first = nanos_per_pick(&candidates, &load, &[]);
    let retry = nanos_per_pick(&candidates, &load, &[BackendId(1)]);
    let bounded = if bound.is_some() { " bounded" } else { "" };
    let name = format!("{} {}{bounded}", schedule.word(), format!("{weights:?}").to_lowercase());
    println!("{name:<22}{backends:>10}{first:>12.1}{retry:>12.1}{:>14.1}", prepared.as_secs_f64() * 1e6);
}

/// Holds 64 tickets at a time, so that load-aware schedules have something to compare.
fn nanos_per_pick(candidates: &Candidates, load: &[InFlight], tried: &[BackendId]) -> f64 {
    let mut picker = Picker::new(1);
    let mut tickets: [Option<evenkeel_balance::Ticket>; 64] = [const { None }; 64];
    let started = Instant::now();
    for number in 0..PICKS {
        let client = IpAddr::V4(Ipv4Addr::from(number.wrapping_mul(2_654_435_761)));
        let picked =
            picker.pick(candidates, load, &Wanted { tried, ..Wanted::first(client) }).expect("there are candidates");
        tickets[(number % 64) as usize] = Some(load[black_box(picked).index()].take());
    }
    started.elapsed().as_nanos() as f64 / f64::from(PICKS)
}

/// What a sticky request costs beside its pick.
fn measure_cookies() {
    const COOKIES: u32 = 500_000;
    let sticky = Sticky::new(b"a secret of some length, as files have", "web", Some(Duration::from_secs(3600)));
    let token = sticky.issue(BackendKey(1), 1_800_000_000);
    let started = Instant::now();
    for number in 0..COOKIES {
        black_box(sticky.issue(BackendKey(u64::from(number)), 1_800_000_000));
    }
    let issue = started.elapsed().as_nanos() as f64 / f64::from(COOKIES);
    let started = Instant::now();
    for _ in 0..COOKIES {
        black_box(sticky.read(black_box(token.as_bytes()), 1_800_000_000)).expect("our own token");
    }
    let read = started.elapsed().as_nanos() as f64 / f64::from(COOKIES);
    println!("sticky cookie: {issue:.0} ns to issue, {read:.0} ns to read");
}
