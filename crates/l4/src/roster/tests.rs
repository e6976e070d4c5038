//! What a pick makes of cookies, limits and silence, with two workers where they share something.
//!
//! Schedules, tokens and queues have their own tests in balance; here it is that they are asked together and in the right order.

use std::time::Duration;

use evenkeel_balance::silence::Request;
use evenkeel_balance::sticky::{Aside, Bystander, Moved};
use evenkeel_balance::{BackendKey, Candidates, Member, Schedule, Woken};
use evenkeel_model::{BackendId, Cause, Instant, PoolId};
use evenkeel_plan::{AccessLog, Backend, Node, Plan, Pool, PoolView, Snapshot, Sticky, StickyMode};

use super::*;
use crate::arena::Arena;
use crate::arena::Key;

fn at(millis: u64) -> Instant {
    Instant::START + Duration::from_millis(60_000 + millis)
}

fn client() -> IpAddr {
    "192.0.2.1".parse().expect("an address")
}

fn address(id: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + id as u8], 80))
}

fn key(id: usize) -> BackendKey {
    BackendKey::of(address(id))
}

fn plan(backends: usize, change: impl FnOnce(&mut Pool)) -> Arc<Plan> {
    let second = Duration::from_secs(1);
    let mut pool = Pool {
        schedule: Schedule::Rr,
        backend_count: backends as u32,
        queue: 2,
        queue_timeout: second,
        sticky: Some(Sticky {
            mode: StickyMode::Insert,
            cookie: "SERVERID".into(),
            max_age: None,
            drain_timeout: second,
        }),
        ..Pool::with_defaults("web")
    };
    change(&mut pool);
    let backend = |id| Backend::new(PoolId(0), address(id), 1);
    Arc::new(Plan {
        node: Node {
            workers: 1,
            connections: 0,
            drain_timeout: second,
            access_log: AccessLog::Off,
            cluster: None,
            sticky_secret: None,
        },
        admin: None,
        listeners: Vec::new(),
        pools: vec![Arc::new(pool)],
        backends: (0..backends).map(backend).collect(),
        targets: Vec::new(),
    })
}

/// A snapshot in which the backends of `aside` are no candidates.
fn snapshot(plan: &Arc<Plan>, generation: u64, aside: &[(usize, Aside)]) -> Snapshot {
    let is_candidate = |id: &usize| aside.iter().all(|(other, _)| other != id);
    let members = (0..plan.backends.len()).filter(is_candidate);
    let members = members.map(|id| Member::new(BackendId::from_index(id), address(id), 1));
    let bystander =
        |(id, why): &(usize, Aside)| Bystander { backend: BackendId::from_index(*id), key: key(*id), why: *why };
    let candidates =
        Candidates::new(plan.pools[0].schedule, members).with_bystanders(aside.iter().map(bystander).collect());
    let refusal = candidates.is_empty().then_some(Cause::AllBackendsDrained);
    Snapshot {
        generation,
        made: at(0),
        plan: Arc::clone(plan),
        standings: Vec::new(),
        pools: vec![Arc::new(PoolView { candidates, refusal })],
    }
}

fn workers<const N: usize>(plan: &Arc<Plan>, aside: &[(usize, Aside)]) -> [Roster; N] {
    let gates = Arc::new(Gates::new([3; 32]));
    std::array::from_fn(|worker| {
        let mut roster = Roster::new(worker, 1, Arc::new(Registry::new()), Arc::clone(&gates));
        roster.follow(&snapshot(plan, 1, aside));
        roster
    })
}

fn pool(roster: &Roster) -> Rc<PoolSlot> {
    Rc::clone(roster.pool(PoolId(0)).expect("there is one pool"))
}

fn picked(result: Result<Picked, Refused>) -> Picked {
    result.unwrap_or_else(|refused| panic!("refused: {refused:?}"))
}

/// Backends of `count` picks one after the other, each over before the next.
fn backends_of(pool: &PoolSlot, count: usize, wanted: &PickFor<'_>) -> Vec<SocketAddr> {
    (0..count).map(|_| picked(pool.pick(wanted)).backend.address).collect()
}

fn keys(count: usize) -> Vec<Key> {
    let mut arena = Arena::default();
    (0..count).map(|_| arena.insert_with(|_| ())).collect()
}

#[test]
fn a_silent_backend_is_passed_over_but_for_one_request_a_second() {
    let [worker] = workers(&plan(3, |_| {}), &[]);
    let pool = pool(&worker);
    let stuck = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
    stuck.backend.asked(at(0));
    let went_there = |from: u64, to: u64, request| {
        let asks = (from..to).map(|millis| PickFor { request, ..PickFor::new(client(), &[], at(millis)) });
        asks.filter(|wanted| picked(pool.pick(wanted)).backend.address == stuck.backend.address).count()
    };
    // Its share, for the first second.
    assert_eq!(went_there(100, 400, Request::Repeatable), 100);
    assert!(stuck.backend.is_silent(at(1000)));
    assert_eq!(went_there(1000, 1900, Request::Repeatable), 0);
    // What cannot be repeated does not go while another waits there; what can, once a second.
    assert_eq!(went_there(2000, 4000, Request::Once), 0);
    assert_eq!(went_there(4000, 7000, Request::Repeatable), 3);
    // A byte ends it at once.
    stuck.backend.heard();
    assert_eq!(went_there(7000, 7300, Request::Once), 100);
}

#[test]
fn when_all_are_silent_all_are_used() {
    let [worker] = workers(&plan(2, |_| {}), &[]);
    let pool = pool(&worker);
    let stuck: Vec<Picked> = (0..2).map(|_| picked(pool.pick(&PickFor::new(client(), &[], at(0))))).collect();
    stuck.iter().for_each(|picked| picked.backend.asked(at(0)));
    let went = backends_of(&pool, 100, &PickFor::new(client(), &[], at(1500)));
    for picked in &stuck {
        let share = went.iter().filter(|address| **address == picked.backend.address).count();
        // Drawn by lot: mean 50, deviation 5.
        assert!((25..=75).contains(&share), "{share} of 100");
    }
}

#[test]
fn a_client_that_belongs_to_a_backend_is_not_parted_from_it_by_a_slow_answer() {
    for schedule in [Schedule::Source, Schedule::Maglev, Schedule::Rr] {
        let [worker] = workers(&plan(3, |pool| pool.schedule = schedule), &[]);
        let pool = pool(&worker);
        let sticky = (schedule == Schedule::Rr).then(|| key(1));
        let wanted = |millis| PickFor { sticky, ..PickFor::new(client(), &[], at(millis)) };
        let stuck = picked(pool.pick(&wanted(0)));
        stuck.backend.asked(at(0));
        let went = backends_of(&pool, 50, &wanted(1500));
        assert!(went.iter().all(|address| *address == stuck.backend.address), "{schedule:?}");
    }
}

#[test]
fn a_backend_limit_holds_over_all_workers() {
    let [one, other] = workers(&plan(2, |pool| pool.backend_limit = Some(3)), &[]);
    let pools = [pool(&one), pool(&other)];
    let wanted = PickFor::new(client(), &[], at(0));
    let mut running: Vec<Picked> = (0..6).map(|turn| picked(pools[turn % 2].pick(&wanted))).collect();
    for id in 0..2 {
        assert_eq!(running.iter().filter(|picked| picked.backend.address == address(id)).count(), 3);
    }
    for pool in &pools {
        assert_eq!(pool.pick(&wanted).err(), Some(Refused::Full));
    }
    let freed = running.pop().expect("six").backend.address;
    assert_eq!(picked(pools[0].pick(&wanted)).backend.address, freed);
}

#[test]
fn a_retry_finds_the_one_with_room_and_never_a_full_one() {
    let [worker] = workers(&plan(3, |pool| pool.backend_limit = Some(1)), &[]);
    let pool = pool(&worker);
    let first = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
    let second = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
    let failed = Rc::clone(&first.backend);
    drop(first);
    let tried = [failed];
    let retry = picked(pool.pick(&PickFor::new(client(), &tried, at(0))));
    assert!(!Rc::ptr_eq(&retry.backend, &tried[0]) && !Rc::ptr_eq(&retry.backend, &second.backend));
    // All others are full: then the one that failed is better than none.
    assert!(Rc::ptr_eq(&picked(pool.pick(&PickFor::new(client(), &tried, at(0)))).backend, &tried[0]));
}

#[test]
fn those_in_the_queue_come_before_those_who_just_arrived() {
    let [worker, other] = workers(&plan(1, |pool| pool.backend_limit = Some(1)), &[]);
    let (pool, elsewhere) = (pool(&worker), pool(&other));
    let new = PickFor::new(client(), &[], at(0));
    let woken = PickFor { arrival: Arrival::Woken, ..new };
    let running = picked(pool.pick(&new));
    let keys = keys(3);
    assert_eq!(pool.wait(keys[0], None, at(0)), Ok(at(1000)));
    assert_eq!(pool.wait(keys[1], None, at(10)), Ok(at(1010)));
    assert_eq!(pool.wait(keys[2], None, at(20)), Err(Cause::BackendQueueFull));
    assert_eq!(pool.wake(at(20)), None);
    drop(running);
    for sticky in [None, Some(key(0))] {
        let newcomer = PickFor { sticky, ..new };
        assert_eq!(pool.pick(&newcomer).err(), Some(Refused::Full), "a newcomer must not overtake");
    }
    assert_eq!(pool.wake(at(20)), Some(Woken::Turn(keys[0])));
    // Another worker is faster; the request stays the first in the queue, with the time it had.
    let stolen = picked(elsewhere.pick(&new));
    assert_eq!(pool.pick(&woken).err(), Some(Refused::Full));
    pool.wait_on(keys[0], None, at(1000));
    assert_eq!(pool.wake(at(20)), None);
    assert_eq!(pool.poll_timeout(), Some(at(25)));
    drop(stolen);
    assert_eq!(pool.wake(at(25)), Some(Woken::Turn(keys[0])));
    let _running = picked(pool.pick(&woken));
    assert_eq!(pool.wake(at(25)), None);
    assert_eq!(pool.wake(at(1010)), Some(Woken::TimedOut(keys[1])));
    assert_eq!((pool.waiting(), pool.poll_timeout()), (0, None));
}

#[test]
fn a_pool_that_loses_its_last_backend_wakes_all_who_wait() {
    let plan = plan(1, |pool| pool.backend_limit = Some(1));
    let [mut worker] = workers(&plan, &[]);
    let pool = pool(&worker);
    let _running = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
    let keys = keys(1);
    assert!(pool.wait(keys[0], None, at(0)).is_ok());
    worker.follow(&snapshot(&plan, 2, &[(0, Aside::Unhealthy)]));
    assert_eq!(pool.wake(at(1)), Some(Woken::Turn(keys[0])));
    let woken = PickFor { arrival: Arrival::Woken, ..PickFor::new(client(), &[], at(1)) };
    assert_eq!(pool.pick(&woken).err(), Some(Refused::Nobody(Cause::AllBackendsDrained)));
}

#[test]
fn a_cookie_finds_its_backend_and_says_why_when_it_cannot() {
    let until = at(5000);
    let aside = [(1, Aside::Unhealthy), (2, Aside::Drained { until }), (3, Aside::NoWeight), (4, Aside::Maintained)];
    let [worker] = workers(&plan(6, |_| {}), &aside);
    let pool = pool(&worker);
    let table = [
        //  cookie  at    lands at   because
        (Some(key(0)), 0, Some(0), None),
        (Some(key(1)), 0, None, Some(Moved::Unhealthy)),
        (Some(key(2)), 4999, Some(2), None),
        (Some(key(2)), 5000, None, Some(Moved::Drained)),
        (Some(key(3)), 0, Some(3), None),
        (Some(key(4)), 0, None, Some(Moved::Maintained)),
        (Some(key(9)), 0, None, Some(Moved::Removed)),
        (None, 0, None, None),
    ];
    for (sticky, millis, lands, moved) in table {
        for _ in 0..4 {
            let got = picked(pool.pick(&PickFor { sticky, ..PickFor::new(client(), &[], at(millis)) }));
            assert_eq!(got.moved, moved, "{sticky:?}");
            let candidate = [address(0), address(5)].contains(&got.backend.address);
            assert!(lands.map_or(candidate, |id| got.backend.address == address(id)), "{sticky:?}");
            assert_eq!(got.backend.key, BackendKey::of(got.backend.address));
        }
    }
    // It failed this very request: another, and the cookie follows.
    let tried = [Rc::clone(&picked(pool.pick(&PickFor::new(client(), &[], at(0)))).backend)];
    let retry = PickFor { sticky: Some(tried[0].key), ..PickFor::new(client(), &tried, at(0)) };
    let got = picked(pool.pick(&retry));
    assert_eq!(got.moved, Some(Moved::Failed));
    assert!(!Rc::ptr_eq(&got.backend, &tried[0]));
}

#[test]
fn a_drained_pool_serves_its_sticky_clients_and_refuses_the_others() {
    let [worker] = workers(&plan(1, |_| {}), &[(0, Aside::Drained { until: at(1000) })]);
    let pool = pool(&worker);
    let sticky = PickFor { sticky: Some(key(0)), ..PickFor::new(client(), &[], at(999)) };
    assert_eq!(picked(pool.pick(&sticky)).backend.address, address(0));
    let late = PickFor { now: at(1000), ..sticky };
    for refused in [PickFor::new(client(), &[], at(0)), late] {
        assert_eq!(pool.pick(&refused).err(), Some(Refused::Nobody(Cause::AllBackendsDrained)));
    }
}

#[test]
fn a_sticky_client_waits_for_its_own_backend_and_holds_up_nobody() {
    let [worker] = workers(&plan(2, |pool| pool.backend_limit = Some(1)), &[]);
    let pool = pool(&worker);
    let sticky = PickFor { sticky: Some(key(0)), ..PickFor::new(client(), &[], at(0)) };
    let its_own = picked(pool.pick(&sticky));
    assert_eq!(pool.pick(&sticky).err(), Some(Refused::Full), "the other has room, but it waits for its own");
    let other = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
    let keys = keys(2);
    assert!(pool.wait(keys[0], Some(key(0)), at(0)).is_ok() && pool.wait(keys[1], None, at(0)).is_ok());
    drop(other);
    assert!(pool.leave(keys[1]));
    drop(picked(pool.pick(&PickFor::new(client(), &[], at(1)))));
    assert!(pool.wait(keys[1], None, at(0)).is_ok());
    assert_eq!(pool.wake(at(1)), Some(Woken::Turn(keys[1])));
    let _other = picked(pool.pick(&PickFor { arrival: Arrival::Woken, ..PickFor::new(client(), &[], at(1)) }));
    assert_eq!(pool.wake(at(1)), None);
    drop(its_own);
    assert_eq!(pool.wake(at(1)), Some(Woken::Turn(keys[0])));
}

#[test]
fn tokens_of_one_worker_are_read_by_another_and_those_of_another_pool_are_not() {
    let [one, other] = workers(&plan(1, |_| {}), &[]);
    let token = pool(&one).sticky().expect("a sticky pool").issue(key(0), 1_800_000_000);
    let held = pool(&other).sticky().expect("a sticky pool").read(token.as_bytes(), 1_800_000_000);
    assert_eq!(held.map(|held| held.backend), Some(key(0)));
    let [renamed] = workers(&plan(1, |pool| pool.name = "api".into()), &[]);
    assert_eq!(pool(&renamed).sticky().expect("a sticky pool").read(token.as_bytes(), 1_800_000_000), None);
    let [plain] = workers(&plan(1, |pool| pool.sticky = None), &[]);
    assert!(pool(&plain).sticky().is_none());
}
