//! What a pool's schedule promises, seen from outside: shares, order, load, retries.
//!
//! Seeds are fixed, so a run that passed passes again. Where a schedule draws lots, the bound is stated with
//! the figure it rests on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_balance::{Candidates, InFlight, Load, Member, Picker, Schedule, Wanted};
use evenkeel_model::BackendId;
use proptest::prelude::*;

const IDLE: fn(BackendId) -> u32 = |_| 0;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn member(id: u32, weight: u32) -> Member {
    Member::new(BackendId(id), SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + id), 80)), weight)
}

fn pool(schedule: Schedule, weights: &[u32]) -> Candidates {
    Candidates::new(schedule, weights.iter().zip(0..).map(|(weight, id)| member(id, *weight)))
}

fn pick(picker: &mut Picker, candidates: &Candidates, load: &impl Load) -> u32 {
    picker.pick(candidates, load, &Wanted::first(CLIENT)).expect("there are candidates").0
}

fn retry(picker: &mut Picker, candidates: &Candidates, client: IpAddr, tried: &[u32]) -> u32 {
    let tried: Vec<BackendId> = tried.iter().map(|id| BackendId(*id)).collect();
    picker.pick(candidates, &IDLE, &Wanted { tried: &tried, ..Wanted::first(client) }).expect("there are candidates").0
}

fn counts(picks: impl IntoIterator<Item = u32>) -> HashMap<u32, u32> {
    let mut counts = HashMap::new();
    for backend in picks {
        *counts.entry(backend).or_default() += 1;
    }
    counts
}

#[test]
fn wrr_follows_nginxs_order_from_wherever_it_starts() {
    let candidates = pool(Schedule::Wrr, &[5, 1, 1]);
    let order = [0, 0, 1, 0, 2, 0, 0];
    let mut starts = std::collections::HashSet::new();
    for seed in 0..50 {
        let mut picker = Picker::new(seed);
        let picks: Vec<u32> = (0..21).map(|_| pick(&mut picker, &candidates, &IDLE)).collect();
        let start = (0..7).find(|start| (0..21).all(|step| picks[step] == order[(start + step) % 7]));
        starts.insert(start.unwrap_or_else(|| panic!("seed {seed}: {picks:?} is not nginx's order")));
    }
    assert_eq!(starts.len(), 7, "workers must not all start at the same place");
}

#[test]
fn rr_takes_turns_and_ignores_weights() {
    let candidates = pool(Schedule::Rr, &[100, 1, 50]);
    let mut picker = Picker::new(4);
    let first = pick(&mut picker, &candidates, &IDLE);
    for step in 1..30 {
        assert_eq!(pick(&mut picker, &candidates, &IDLE), (first + step) % 3);
    }
}

#[test]
fn long_periods_keep_their_shares_without_a_sequence() {
    // 300 backends of weights 1 to 100: a period of some 15,000 picks is not precomputed.
    let weights: Vec<u32> = (0..300).map(|id| id % 100 + 1).collect();
    let total: u32 = weights.iter().sum();
    let candidates = pool(Schedule::Wrr, &weights);
    let mut picker = Picker::new(9);
    let picks = counts((0..total * 3).map(|_| pick(&mut picker, &candidates, &IDLE)));
    for (id, weight) in (0..).zip(&weights) {
        let count = picks.get(&id).copied().unwrap_or(0);
        // Evenly spaced picks: any stretch of three periods holds three times the weight, give or
        // take the one at its edge.
        assert!(count.abs_diff(weight * 3) <= 1, "backend {id} of weight {weight}: {count} picks in three periods");
    }
}

#[test]
fn long_periods_spread_a_heavy_backend_evenly() {
    let mut weights = vec![1; 5000];
    weights[17] = 100;
    let candidates = pool(Schedule::Wrr, &weights);
    let mut picker = Picker::new(9);
    let picks: Vec<u32> = (0..5100).map(|_| pick(&mut picker, &candidates, &IDLE)).collect();
    let places: Vec<usize> = (0..picks.len()).filter(|step| picks[*step] == 17).collect();
    // Its share is one pick in 51. The others' random phases put 51 ± 7 (one deviation) between
    // two of them; nginx's rule would be exact, a plain weighted rotation would put 1.
    let gaps: Vec<usize> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 98 && gaps.iter().all(|gap| (15..=90).contains(gap)), "{gaps:?}");
}

#[test]
fn an_equal_view_published_again_continues_the_rotation() {
    let weights = [3, 1, 2];
    let mut picker = Picker::new(2);
    let candidates = pool(Schedule::Wrr, &weights);
    // The reload numbers the same backends differently.
    let renumbered = Candidates::new(
        Schedule::Wrr,
        weights.iter().zip(0..).map(|(weight, id)| Member { backend: BackendId(id + 100), ..member(id, *weight) }),
    );
    let mixed: Vec<u32> = (0..60)
        .map(|step| pick(&mut picker, if step % 2 == 0 { &candidates } else { &renumbered }, &IDLE) % 100)
        .collect();
    let mut other = Picker::new(2);
    let steady: Vec<u32> = (0..60).map(|_| pick(&mut other, &candidates, &IDLE)).collect();
    assert_eq!(mixed, steady);
}

#[test]
fn a_flap_before_every_pick_gives_nobody_a_burst_and_starves_nobody() {
    for (schedule, weights) in [
        (Schedule::Rr, vec![1, 1, 1, 1]),
        (Schedule::Wrr, vec![1, 1, 1, 1]),
        (Schedule::Wrr, vec![7, 7, 6, 7]),
        (Schedule::Wrr, vec![9973, 9973, 9967, 9973]),
    ] {
        let all = pool(schedule, &weights);
        let flapped = pool(schedule, &[weights[0], weights[1], weights[2], 0]);
        let mut picker = Picker::new(11);
        let picks = counts((0..8000).map(|step| {
            let candidates = if step % 2 == 0 { &all } else { &flapped };
            pick(&mut picker, candidates, &IDLE)
        }));
        // Each is due its share of the picks from either view; the deviation of a count is below 42.
        let sum = |weights: &[u32]| f64::from(weights.iter().sum::<u32>());
        for (id, weight) in weights.iter().enumerate() {
            let due_of_flapped = if id == 3 { 0.0 } else { f64::from(*weight) / sum(&weights[..3]) };
            let due = 4000.0 * (f64::from(*weight) / sum(&weights) + due_of_flapped);
            let count = f64::from(picks[&(id as u32)]);
            assert!((count - due).abs() < 170.0, "{schedule:?} {weights:?}: {id} is due {due} of {picks:?}");
        }
    }
}

#[test]
fn wlc_picks_the_least_loaded_for_its_weight() {
    let candidates = pool(Schedule::Wlc, &[10, 20, 5]);
    let mut picker = Picker::new(1);
    let table = [
        // in flight, expected
        ([3, 3, 3], 1),
        ([1, 3, 1], 0),
        ([2, 4, 0], 2),
        ([10, 19, 5], 1),
    ];
    for (running, expected) in table {
        let load = |backend: BackendId| running[backend.index()];
        assert_eq!(pick(&mut picker, &candidates, &load), expected, "{running:?}");
    }
}

#[test]
fn wlc_ties_are_shared_by_weight() {
    let candidates = pool(Schedule::Wlc, &[1, 2, 1]);
    let mut picker = Picker::new(5);
    let picks = counts((0..8000).map(|_| pick(&mut picker, &candidates, &IDLE)));
    // Binomial with means 2000, 4000, 2000 and deviations below 45.
    assert!(picks[&0].abs_diff(2000) < 200 && picks[&1].abs_diff(4000) < 200, "{picks:?}");
}

#[test]
fn wlc_evens_out_work_that_stays() {
    let weights = [1, 2, 3, 4];
    let candidates = pool(Schedule::Wlc, &weights);
    let mut picker = Picker::new(3);
    let table: Vec<InFlight> = weights.iter().map(|_| InFlight::new()).collect();
    let tickets: Vec<_> = (0..1000)
        .map(|_| {
            let wanted = Wanted::first(CLIENT);
            let backend = picker.pick(&candidates, table.as_slice(), &wanted).unwrap();
            table[backend.index()].take()
        })
        .collect();
    let running: Vec<u32> = table.iter().map(InFlight::count).collect();
    assert_eq!(running, [100, 200, 300, 400]);
    drop(tickets);
    assert!(table.iter().all(|counter| counter.count() == 0));
}

// Azar, Broder, Karlin, Upfal (1999), Berenbrink et al. (2006): with two choices the fullest of n bins is
// ln ln n / ln 2 + O(1) above the mean however many balls there are: about 2.2 for n = 100, and we
// grant 3 for the rest. One choice would be about 30 above at 100 balls per bin.
#[test]
fn p2c_keeps_the_fullest_backend_near_the_mean() {
    for weights in [vec![1; 100], (0..100).map(|id| if id % 2 == 0 { 100 } else { 99 }).collect()] {
        let candidates = pool(Schedule::P2c, &weights);
        for seed in 0..5 {
            let mut picker = Picker::new(seed);
            let running = RefCell::new(vec![0u32; 100]);
            for _ in 0..10_000 {
                let load = |backend: BackendId| running.borrow()[backend.index()];
                let picked = pick(&mut picker, &candidates, &load);
                running.borrow_mut()[picked as usize] += 1;
            }
            let fullest = *running.borrow().iter().max().unwrap();
            assert!(fullest <= 105, "seed {seed}: the fullest has {fullest} where the mean is 100");
        }
    }
}

#[test]
fn p2c_without_load_follows_weights() {
    let candidates = pool(Schedule::P2c, &[10, 20, 70]);
    let mut picker = Picker::new(8);
    let picks = counts((0..10_000).map(|_| pick(&mut picker, &candidates, &IDLE)));
    // Deviations of the counts are below 46.
    for (id, mean) in [(0, 1000u32), (1, 2000), (2, 7000)] {
        assert!(picks[&id].abs_diff(mean) < 200, "{picks:?}");
    }
}

#[test]
fn p2c_of_two_always_compares_both() {
    for weights in [[1, 1], [100, 1]] {
        let candidates = pool(Schedule::P2c, &weights);
        let mut picker = Picker::new(8);
        for _ in 0..200 {
            let busy = |backend: BackendId| if backend == BackendId(0) { 1000 } else { 0 };
            assert_eq!(pick(&mut picker, &candidates, &busy), 1);
        }
    }
}

#[test]
fn retries_leave_the_rotation_of_first_attempts_alone() {
    // Backend 0 is dead and every attempt on it is repeated. First attempts must still meet it every
    // second time, not every time.
    for schedule in [Schedule::Rr, Schedule::Wrr] {
        let candidates = pool(schedule, &[1, 1]);
        let mut picker = Picker::new(6);
        let mut met_the_dead = 0;
        for _ in 0..100 {
            if pick(&mut picker, &candidates, &IDLE) == 0 {
                met_the_dead += 1;
                assert_eq!(retry(&mut picker, &candidates, CLIENT, &[0]), 1);
            }
        }
        assert_eq!(met_the_dead, 50, "{schedule:?}");
    }
}

#[test]
fn retries_of_wrr_are_shared_by_weight_among_the_others() {
    let candidates = pool(Schedule::Wrr, &[50, 30, 10]);
    let mut picker = Picker::new(6);
    let picks = counts((0..4000).map(|_| retry(&mut picker, &candidates, CLIENT, &[0])));
    // Mean 3000 and 1000, deviation 27.
    assert!(picks[&1].abs_diff(3000) < 150 && !picks.contains_key(&0), "{picks:?}");
}

#[test]
fn when_all_were_tried_the_one_tried_longest_ago_comes_again() {
    for schedule in Schedule::ALL {
        let candidates = pool(schedule, &[1, 2, 3]);
        let mut picker = Picker::new(0);
        assert_eq!(retry(&mut picker, &candidates, CLIENT, &[2, 0, 1]), 2, "{schedule:?}");
        assert_eq!(retry(&mut picker, &candidates, CLIENT, &[2, 0, 1, 2]), 0, "{schedule:?}");
        // One that was tried and is no candidate any more does not come again.
        assert_eq!(retry(&mut picker, &candidates, CLIENT, &[7, 1, 2, 0]), 1, "{schedule:?}");
    }
}

fn any_pool() -> impl Strategy<Value = (Schedule, Vec<u32>)> {
    (prop::sample::select(&Schedule::ALL[..]), prop::collection::vec(0u32..=100, 0..12))
}

proptest! {
    // Tables of 65537 slots are slow to build unoptimised; 64 pools find what 256 would.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pick_succeeds_exactly_when_there_is_a_candidate(
        (schedule, weights) in any_pool(),
        (_, other_weights) in any_pool(),
        tried in prop::collection::vec(0u32..14, 0..14),
        client in any::<u128>(),
        seed in any::<u64>(),
    ) {
        let client = IpAddr::from(client.to_be_bytes());
        let tried: Vec<BackendId> = tried.into_iter().map(BackendId).collect();
        let mut picker = Picker::new(seed);
        let load = |backend: BackendId| backend.0 * 7 % 5;
        let views = [pool(schedule, &weights), pool(schedule, &other_weights)];
        // Alternating views: the place in one must never lead out of the other.
        for step in 0..12 {
            let candidates = &views[step % 2];
            for tried in [&[][..], &tried[..]] {
                let picked = picker.pick(candidates, &load, &Wanted { tried, ..Wanted::first(client) });
                prop_assert_eq!(picked.is_some(), !candidates.is_empty());
                let Some(picked) = picked else { continue };
                let is_candidate = |backend: BackendId| candidates.members().iter().any(|m| m.backend == backend);
                prop_assert!(is_candidate(picked), "{:?} is not eligible", picked);
                if candidates.members().iter().any(|member| !tried.contains(&member.backend)) {
                    prop_assert!(!tried.contains(&picked), "{:?} was tried and others were not", picked);
                }
            }
        }
    }

    #[test]
    fn wrr_gives_exact_shares_over_a_period(
        weights in prop::collection::vec(1u32..=100, 1..30),
        seed in any::<u64>(),
    ) {
        let total: u32 = weights.iter().sum();
        let candidates = pool(Schedule::Wrr, &weights);
        let mut picker = Picker::new(seed);
        let picks = counts((0..total).map(|_| pick(&mut picker, &candidates, &IDLE)));
        for (id, weight) in (0..).zip(&weights) {
            prop_assert_eq!(picks.get(&id).copied().unwrap_or(0), *weight);
        }
    }
}

#[test]
fn whom_to_avoid_is_passed_over_and_whom_is_full_is_never_picked() {
    let ids = |ids: &[u32]| ids.iter().map(|id| BackendId(*id)).collect::<Vec<_>>();
    // Of the four, who may be picked.
    type Ids = &'static [u32];
    let table: [(Ids, Ids, Ids, Ids); 8] = [
        //  tried     avoid         full           allowed
        (&[], &[1, 2], &[], &[0, 3]),
        (&[0], &[1, 2], &[], &[3]),
        (&[], &[0, 1, 2, 3], &[], &[0, 1, 2, 3]),
        // One to be avoided is better than one that failed a moment ago.
        (&[0, 3], &[1, 2], &[], &[1, 2]),
        (&[], &[], &[0, 1], &[2, 3]),
        (&[2], &[3], &[0, 1], &[3]),
        // Those tried come again only when all others are full.
        (&[3, 2], &[], &[0, 1], &[3]),
        (&[], &[2], &[0, 1, 2, 3], &[]),
    ];
    for schedule in Schedule::ALL {
        let candidates = pool(schedule, &[1, 2, 3, 4]);
        for (tried, avoid, full, allowed) in table {
            let (tried, avoid, full) = (ids(tried), ids(avoid), ids(full));
            let mut picker = Picker::new(1);
            let mut seen = std::collections::BTreeSet::new();
            for client in 0..200u32 {
                let client = IpAddr::V4(Ipv4Addr::from(client));
                let wanted = Wanted { tried: &tried, avoid: &avoid, full: &full, ..Wanted::first(client) };
                seen.extend(picker.pick(&candidates, &IDLE, &wanted).map(|backend| backend.0));
            }
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), allowed, "{schedule:?} {tried:?} {avoid:?} {full:?}");
        }
    }
}
