//! What `source` promises: a client stays where it is, and few move when the pool changes.
//!
//! The figures are SPEC's (about 1/N of the clients move) with the tolerance written beside each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use evenkeel_balance::{Candidates, Member, Picker, Schedule, Wanted};
use evenkeel_model::BackendId;

const CLIENTS: u32 = 50_000;

fn member(id: u32, weight: u32) -> Member {
    Member::new(BackendId(id), SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + id), 8080)), weight)
}

fn pool(members: impl IntoIterator<Item = Member>) -> Candidates {
    Candidates::new(Schedule::Source, members)
}

fn home(candidates: &Candidates, client: IpAddr) -> u32 {
    avoiding(candidates, client, &[])
}

fn avoiding(candidates: &Candidates, client: IpAddr, tried: &[BackendId]) -> u32 {
    let nothing = |_: BackendId| 0;
    Picker::new(0)
        .pick(candidates, &nothing, &Wanted { tried, ..Wanted::first(client) })
        .expect("there are candidates")
        .0
}

fn clients() -> impl Iterator<Item = IpAddr> {
    (0..CLIENTS).map(|number| IpAddr::V4(Ipv4Addr::from(0xc612_0000 + number)))
}

#[test]
fn removing_one_of_n_moves_its_own_clients_and_few_others() {
    for n in [3, 10, 50] {
        let before = pool((0..n).map(|id| member(id, 100)));
        let after = pool((0..n).filter(|id| *id != n / 2).map(|id| member(id, 100)));
        let (mut moved, mut others, mut others_moved) = (0, 0, 0);
        for client in clients() {
            let (old, new) = (home(&before, client), home(&after, client));
            moved += u32::from(old != new);
            others += u32::from(old != n / 2);
            others_moved += u32::from(old != n / 2 && old != new);
        }
        let moved_share = f64::from(moved) / f64::from(CLIENTS);
        let others_share = f64::from(others_moved) / f64::from(others);
        println!("N = {n}: {:.2} % moved, of the others {:.2} %", moved_share * 100.0, others_share * 100.0);
        assert!(moved_share <= 1.0 / f64::from(n) + 0.03, "N = {n}: {moved_share} of all clients moved");
        assert!(others_share <= 0.03, "N = {n}: {others_share} of the other backends' clients moved");
    }
}

#[test]
fn a_backend_that_comes_back_gets_its_clients_back() {
    let whole = pool((0..5).map(|id| member(id, 100)));
    let again = pool([3, 0, 4, 2, 1].map(|id| member(id, 100)));
    // The order of lines in the config does not matter either.
    assert!(clients().all(|client| home(&whole, client) == home(&again, client)));
}

#[test]
fn other_ids_for_the_same_addresses_move_nobody() {
    let before = pool((0..5).map(|id| member(id, 100)));
    let after = pool((0..5).map(|id| Member { backend: BackendId(id + 20), ..member(id, 100) }));
    assert!(clients().all(|client| home(&before, client) + 20 == home(&after, client)));
}

#[test]
fn clients_are_shared_by_weight() {
    for weights in [vec![100, 100, 100], vec![10, 20, 70], vec![1, 99], vec![100, 50, 25, 25, 10]] {
        let total: u32 = weights.iter().sum();
        let candidates = pool((0..).zip(&weights).map(|(id, weight)| member(id, *weight)));
        let mut counts = vec![0u32; weights.len()];
        for client in clients() {
            counts[home(&candidates, client) as usize] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let (share, due) = (f64::from(*count) / f64::from(CLIENTS), f64::from(*weight) / f64::from(total));
            assert!((share - due).abs() <= 0.02, "{weights:?}: {counts:?} of {CLIENTS} clients");
        }
    }
}

#[test]
fn both_families_are_spread() {
    let candidates = pool((0..4).map(|id| member(id, 100)));
    let mut counts = [0u32; 4];
    for number in 0..20_000u128 {
        // Clients of one provider differ in the middle of the address, not at its end.
        let client = IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) | number << 64 | 1));
        counts[home(&candidates, client) as usize] += 1;
    }
    assert!(counts.iter().all(|count| count.abs_diff(5000) < 400), "{counts:?}");
}

#[test]
fn a_mapped_address_finds_the_same_backend() {
    let candidates = pool((0..7).map(|id| member(id, 100)));
    for number in 0..200 {
        let v4 = Ipv4Addr::from(0xcb00_7100 + number);
        assert_eq!(home(&candidates, IpAddr::V4(v4)), home(&candidates, IpAddr::V6(v4.to_ipv6_mapped())));
    }
}

#[test]
fn stand_ins_are_distinct_and_the_same_every_time() {
    let candidates = pool((0..6).map(|id| member(id, 100)));
    let mut seconds = [0u32; 6];
    for client in clients().take(6000) {
        let walk = || {
            let mut tried: Vec<BackendId> = Vec::new();
            while tried.len() < 6 {
                tried.push(BackendId(avoiding(&candidates, client, &tried)));
            }
            tried
        };
        let order = walk();
        assert_eq!(order, walk(), "{client}");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..6).map(BackendId).collect::<Vec<_>>(), "{client}");
        if order[0] == BackendId(0) {
            seconds[order[1].index()] += 1;
        }
    }
    // The clients of a dead backend go to all of the others: about 200 to each.
    assert!(seconds[1..].iter().all(|count| (120..280).contains(count)), "{seconds:?}");
}

// Recorded from the first release: nodes of two releases side by side must agree, so this table may never change.
#[test]
fn every_release_makes_the_same_table() {
    let candidates = pool((0..5).map(|id| member(id, 10 + id)));
    let homes: Vec<u32> =
        (1..=16).map(|number| home(&candidates, IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))).collect();
    assert_eq!(homes, [3, 3, 2, 2, 4, 4, 2, 1, 2, 4, 3, 0, 3, 0, 3, 3]);
}
