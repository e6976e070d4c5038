//! What a pick makes of cookies, limits and silence, with two workers where they share something.
//!
//! Schedules, tokens and queues have their own tests in balance; here it is that they are asked together and in the right order.

use std::time::Duration;

use evenkeel_balance::silence::Request;
use evenkeel_balance::sticky::{Aside, Bystander, Moved};
use evenkeel_balance::{BackendKey, Candidates, Member, Schedule, Woken};
use evenkeel_model::{BackendId, Cause, Instant, PoolId};
use evenkeel_plan::{
    AccessLog, Affinity, Backend, NameRule, Names, Node, Plan, Pool, PoolView, Protocol, ProxyDatagrams, ProxyProtocol,
    ProxyVersion, Snapshot, Source, Speaks, Sticky, StickyMode,
};
use evenkeel_tls::{ClientSettings, Offers};

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
            hold_on_suspicion: None,
            slow_request: None,
            shutdown_delay: Duration::ZERO,
            watch: false,
            kept_requests: 0,
            traces: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        },
        admin: None,
        listeners: Vec::new(),
        pools: vec![Arc::new(pool)],
        backends: (0..backends).map(backend).collect(),
        targets: Vec::new(),
        names: Vec::new(),
    })
}

/// A snapshot in which the backends of `aside` are no candidates.
fn snapshot(plan: &Arc<Plan>, generation: u64, aside: &[(usize, Aside)]) -> Arc<Snapshot> {
    let is_candidate = |id: &usize| aside.iter().all(|(other, _)| other != id);
    let members = (0..plan.backends.len()).filter(is_candidate);
    let members = members.map(|id| Member::new(BackendId::from_index(id), address(id), 1));
    let bystander =
        |(id, why): &(usize, Aside)| Bystander { backend: BackendId::from_index(*id), key: key(*id), why: *why };
    let candidates =
        Candidates::new(plan.pools[0].schedule, members).with_bystanders(aside.iter().map(bystander).collect());
    let refusal = candidates.is_empty().then_some(Cause::AllBackendsDrained);
    Arc::new(Snapshot {
        generation,
        made: at(0),
        plan: Arc::clone(plan),
        standings: Vec::new(),
        pools: vec![Arc::new(PoolView { candidates, refusal, panic: false })],
    })
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

#[derive(Debug)]
struct Midnight;

impl evenkeel_tls::Clock for Midnight {
    fn unix_seconds(&self) -> u64 {
        1_800_000_000
    }
}

#[test]
fn connections_of_another_protocol_or_without_tls_are_not_kept_over_a_reload() {
    let tls = || {
        let (name, ca, certificate, clock) = (None, None, None, Arc::new(Midnight));
        let settings = ClientSettings { name, ca, verify: false, certificate, offers: Offers::Http1, clock };
        Some(Arc::new(evenkeel_tls::client(settings).expect("nothing that could be wrong")))
    };
    let header = |version| ProxyProtocol {
        version,
        authority: false,
        alpn: false,
        unique_id: false,
        datagrams: ProxyDatagrams::First,
    };
    type Change = Box<dyn Fn(&mut Pool)>;
    let change = |change: fn(&mut Pool)| -> Change { Box::new(change) };
    // What the reload changes, and whether connections made before it are still of use.
    let table: [(&str, Change, bool); 9] = [
        ("nothing", change(|_| {}), true),
        ("retries", change(|pool| pool.retries = 7), true),
        ("schedule", change(|pool| pool.schedule = Schedule::Wlc), true),
        ("speaks", change(|pool| pool.speaks = Speaks::Http2), false),
        ("tls", Box::new(move |pool| pool.tls = tls()), false),
        ("source", change(|pool| pool.source = Source::Own([client()].into())), false),
        ("transparent", change(|pool| pool.source = Source::Client), false),
        ("proxy_protocol", Box::new(move |pool| pool.proxy_protocol = Some(header(ProxyVersion::V1))), false),
        ("both of them", change(|pool| (pool.speaks, pool.source) = (Speaks::Http2, Source::Client)), false),
    ];
    for (what, change, kept) in table {
        let [mut worker] = workers(&plan(1, |_| {}), &[]);
        let pool = pool(&worker);
        let running = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
        running.backend.idle.borrow_mut().extend(keys(1));
        worker.follow(&snapshot(&plan(1, &change), 2, &[]));
        let next = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
        assert_eq!(Rc::ptr_eq(&running.backend, &next.backend), kept, "{what}");
        assert_eq!(running.backend.is_removed(), !kept, "{what}: connections made before must end");
        assert_eq!(next.backend.idle.borrow().is_empty(), !kept, "{what}");
        assert!(!next.backend.is_removed());
        // Work that runs on the old connections still counts.
        assert_eq!(next.backend.in_flight.count(), 2, "{what}");
        drop(running);
        assert_eq!(next.backend.in_flight.count(), 1, "{what}");
        // The next reload changes nothing more, and keeps what there is.
        worker.follow(&snapshot(&plan(1, &change), 3, &[]));
        let later = picked(pool.pick(&PickFor::new(client(), &[], at(0))));
        assert!(Rc::ptr_eq(&next.backend, &later.backend), "{what}");
    }
}

fn affine(timeout: u64) -> impl Fn(&mut Pool) {
    move |pool| {
        pool.sticky = None;
        pool.affinity = Some(Affinity {
            timeout: Duration::from_secs(timeout),
            ipv4_prefix: 24,
            ipv6_prefix: 64,
            drain_timeout: Duration::from_secs(1),
        });
    }
}

/// What every connection does: asks, picks, remembers.
fn connect(pool: &PoolSlot, client: &str, now: Instant) -> Picked {
    let client = client.parse().expect("an address");
    let got = picked(pool.pick(&PickFor { sticky: pool.affine(client, now), ..PickFor::new(client, &[], now) }));
    pool.settled(client, &got.backend, now);
    got
}

#[test]
fn clients_of_one_network_stay_with_their_backend_whichever_worker_they_come_to() {
    let [one, other] = workers(&plan(5, affine(300)), &[]);
    let pools = [pool(&one), pool(&other)];
    let home = connect(&pools[0], "192.0.2.1", at(0)).backend.address;
    for turn in 0..20 {
        let client = format!("192.0.2.{}", 7 * turn);
        assert_eq!(connect(&pools[turn % 2], &client, at(100_000 * turn as u64)).backend.address, home);
    }
    // Another network goes by the schedule, and over five picks of rr meets all.
    let others: std::collections::BTreeSet<SocketAddr> =
        (0..5).map(|net| connect(&pools[0], &format!("198.51.{net}.1"), at(0)).backend.address).collect();
    assert_eq!(others.len(), 5);
}

#[test]
fn a_client_stays_with_a_drained_backend_for_a_while_and_leaves_an_unhealthy_one_at_once() {
    let plan = plan(3, affine(300));
    let [mut worker] = workers(&plan, &[]);
    let pool = pool(&worker);
    let home = connect(&pool, "192.0.2.1", at(0)).backend.address;
    let id = (0..3).find(|id| address(*id) == home).expect("one of the three");
    worker.follow(&snapshot(&plan, 2, &[(id, Aside::Drained { until: at(1000) })]));
    assert_eq!(connect(&pool, "192.0.2.1", at(999)).backend.address, home);
    assert_ne!(connect(&pool, "198.51.100.1", at(999)).backend.address, home, "a newcomer");
    worker.follow(&snapshot(&plan, 3, &[(id, Aside::Unhealthy)]));
    let moved = connect(&pool, "192.0.2.1", at(1000));
    assert_eq!(moved.moved, Some(Moved::Unhealthy));
    // It has recovered, but the client has moved house.
    worker.follow(&snapshot(&plan, 4, &[]));
    for millis in 2000..2010 {
        let again = connect(&pool, "192.0.2.1", at(millis));
        assert_eq!((again.backend.address, again.moved), (moved.backend.address, None));
    }
}

#[test]
fn what_is_known_of_clients_outlives_a_reload_and_ends_with_the_setting() {
    let generation = Cell::new(1);
    let reload = |worker: &mut Roster, plan: &Arc<Plan>| {
        generation.set(generation.get() + 1);
        worker.follow(&snapshot(plan, generation.get(), &[]));
    };
    let [mut one, mut other] = workers(&plan(7, affine(300)), &[]);
    let pool = pool(&one);
    let home = connect(&pool, "192.0.2.1", at(0)).backend.address;
    // One after the other, as workers come to it; the backend has another id now.
    let mut reordered = Plan::clone(&plan(7, affine(600)));
    reordered.backends.reverse();
    let reordered = Arc::new(reordered);
    for worker in [&mut one, &mut other] {
        reload(worker, &reordered);
    }
    assert_eq!(pool.affine(client(), at(599_999)), Some(BackendKey::of(home)));
    assert_eq!(pool.affine(client(), at(600_000)), None);
    for off in [plan(7, affine(0)), plan(7, |_| {})] {
        for worker in [&mut one, &mut other] {
            reload(worker, &off);
        }
        assert_eq!(pool.affine(client(), at(1)), None);
        reload(&mut one, &reordered);
        assert_eq!(pool.affine(client(), at(1)), None, "nobody held it any more");
    }
}

#[test]
fn a_backend_that_refuses_datagrams_is_passed_over_for_a_while_by_every_schedule() {
    for schedule in Schedule::ALL {
        let [worker] = workers(&plan(3, |pool| pool.schedule = schedule), &[]);
        let pool = pool(&worker);
        let datagram = |millis| PickFor { datagram: true, key: Some(7), ..PickFor::new(client(), &[], at(millis)) };
        let closed = Rc::clone(&picked(pool.pick(&datagram(0))).backend);
        let goes_there = |wanted: &PickFor<'_>| backends_of(&pool, 30, wanted).contains(&closed.address);
        assert!(goes_there(&datagram(0)), "{schedule:?}");
        closed.refused(at(0));
        assert!(!goes_there(&datagram(999)), "{schedule:?}");
        assert!(
            goes_there(&PickFor { datagram: false, ..datagram(999) }),
            "{schedule:?}: connections have their own ways"
        );
        // Nor does a client stay there that has been there before.
        let stuck = PickFor { sticky: Some(closed.key), ..datagram(999) };
        assert_eq!(picked(pool.pick(&stuck)).moved, Some(Moved::Failed));
        assert!(goes_there(&datagram(1000)), "{schedule:?}");
        // When all refuse, all are used: one may be back.
        pool.members().iter().for_each(|member| member.refused(at(2000)));
        assert!(pool.pick(&datagram(2000)).is_ok());
    }
}

#[test]
fn only_a_tuple_pool_goes_by_ports() {
    let from = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
    for schedule in Schedule::ALL {
        let [worker] = workers(&plan(4, |pool| pool.schedule = schedule), &[]);
        let pool = pool(&worker);
        let key = pool.tuple_key(from(5000), Some(address(9)));
        assert_eq!(key.is_some(), schedule == Schedule::Tuple, "{schedule:?}");
    }
    let [worker] = workers(&plan(4, |pool| pool.schedule = Schedule::Tuple), &[]);
    let pool = pool(&worker);
    let go = |port: u16, local| {
        let key = pool.tuple_key(from(port), local);
        picked(pool.pick(&PickFor { key, ..PickFor::new(client(), &[], at(0)) })).backend.address
    };
    let used: std::collections::BTreeSet<SocketAddr> = (0..100).map(|port| go(port, Some(address(9)))).collect();
    assert_eq!(used.len(), 4, "the connections of one client are spread");
    for local in [None, Some(address(9))] {
        assert_eq!(go(5000, local), go(5000, local));
    }
}

/// A QUIC long header of version 1.
fn long(initial: bool, dcid: &[u8], scid: &[u8]) -> Vec<u8> {
    let first = if initial { 0xc0 } else { 0xe0 };
    let ids = [&[dcid.len() as u8][..], dcid, &[scid.len() as u8][..], scid].concat();
    [&[first, 0, 0, 0, 1][..], &ids, &[0xab; 40]].concat()
}

fn short(dcid: &[u8]) -> Vec<u8> {
    [&[0x40][..], dcid, &[0xab; 40]].concat()
}

#[test]
fn a_quic_connection_stays_with_its_backend_when_its_client_comes_from_elsewhere() {
    let plan = plan(4, |pool| (pool.schedule, pool.sticky) = (Schedule::QuicCid, None));
    let [mut one, other] = workers(&plan, &[]);
    let pools = [pool(&one), pool(&other)];
    let go = |pool: &PoolSlot, from: &str, datagram: &[u8], millis| {
        let Asked { key, sticky } = pool.of_datagram(datagram, at(millis));
        let client = from.parse().expect("an address");
        picked(pool.pick(&PickFor { key, sticky, datagram: true, ..PickFor::new(client, &[], at(millis)) }))
    };
    // A new client is sent to one backend on every worker, from wherever it sends again.
    let first = long(true, b"chosen by the client", b"");
    let home = go(&pools[0], "192.0.2.1", &first, 0);
    let used: std::collections::BTreeSet<SocketAddr> =
        (0..99u8).map(|id| go(&pools[0], "192.0.2.1", &long(true, &[id; 8], b""), 0).backend.address).collect();
    assert_eq!(used.len(), 4);
    for (worker, from) in [(0, "192.0.2.1"), (1, "192.0.2.1"), (1, "2001:db8::1")] {
        assert_eq!(go(&pools[worker], from, &first, 1).backend.address, home.backend.address);
    }
    // It was not the hash that sent this one there, as after a refusal: it stays all the same.
    let else_where = Rc::clone(pools[0].members().iter().find(|slot| !Rc::ptr_eq(slot, &home.backend)).expect("four"));
    pools[0].sent_datagram(&first, &else_where, at(2));
    assert_eq!(go(&pools[1], "198.51.100.1", &first, 2).backend.address, else_where.address);
    // The backend answers with an id of its own; the client uses it, later without its length.
    pools[0].heard_datagram(&long(false, b"", b"serverid"), &else_where, at(2));
    for datagram in [long(true, b"serverid", b""), long(false, b"serverid", b""), short(b"serverid")] {
        assert_eq!(go(&pools[1], "203.0.113.1", &datagram, 3).backend.address, else_where.address);
    }
    // Datagrams that show no id, or are none of QUIC's, teach nothing and go somewhere.
    for strange in [&b""[..], b"\x80", b"\xc0\0\0\0\x01\xff", &short(b""), &[0; 1500]] {
        pools[0].heard_datagram(strange, &else_where, at(3));
        pools[0].sent_datagram(strange, &else_where, at(3));
        assert_eq!(pools[0].of_datagram(strange, at(3)).sticky, None, "{strange:?}");
        go(&pools[0], "192.0.2.1", strange, 3);
    }
    // Drained, it keeps the connection; unhealthy, it does not.
    let id = (0..4).find(|id| address(*id) == else_where.address).expect("one of the four");
    one.follow(&snapshot(&plan, 2, &[(id, Aside::Drained { until: at(5000) })]));
    assert_eq!(go(&pools[0], "203.0.113.9", &short(b"serverid"), 4).backend.address, else_where.address);
    one.follow(&snapshot(&plan, 3, &[(id, Aside::Unhealthy)]));
    assert_eq!(go(&pools[0], "203.0.113.9", &short(b"serverid"), 5).moved, Some(Moved::Unhealthy));
}

#[test]
fn a_server_id_leads_to_its_backend_though_nobody_has_seen_the_connection() {
    let mut named = Plan::clone(&plan(2, |pool| pool.schedule = Schedule::QuicCid));
    for (id, backend) in named.backends.iter_mut().enumerate() {
        backend.server_id = Some([0x0a, id as u8].into());
    }
    let named = Arc::new(named);
    let [mut worker] = workers(&named, &[]);
    let pool = pool(&worker);
    for (id, first) in [(0u8, 0x00), (1, 0x00), (0, 0xff), (1, 0x5c)] {
        let cid = [first, 0x0a, id, 1, 2, 3, 4, 5];
        for datagram in [short(&cid), long(false, &cid, b"client")] {
            assert_eq!(pool.of_datagram(&datagram, at(0)).sticky, Some(key(id.into())));
        }
    }
    // A reload without them: what a worker knows follows the plan. And pools of other schedules do not look.
    for schedule in Schedule::ALL {
        let generation = worker.generation() + 1;
        worker.follow(&snapshot(&plan(2, |pool| pool.schedule = schedule), generation, &[]));
        pool.heard_datagram(&long(false, b"", b"known"), &pool.members()[0], at(0));
        assert_eq!(pool.of_datagram(&short(&[0, 0x0a, 1]), at(0)), Asked::default(), "{schedule:?}");
        let is_learned = pool.of_datagram(&short(b"known"), at(0)).sticky.is_some();
        assert_eq!(is_learned, schedule == Schedule::QuicCid, "{schedule:?}");
    }
}

/// The ids of a removed listener's rules were looked up in the plan that had replaced its own, where they may mean another pool.
#[test]
fn a_removed_listeners_rules_mean_the_pools_of_its_own_plan() {
    let with = |pools: &[&str], ruled: Option<usize>| {
        let mut plan = Plan::clone(&plan(0, |_| {}));
        plan.pools = pools.iter().map(|name| Arc::new(Pool::with_defaults(name))).collect();
        plan.listeners = ruled.map_or_else(Vec::new, |pool| {
            let rule =
                NameRule { name: "r".into(), hosts: Vec::new(), alpn: Vec::new(), pool: PoolId::from_index(pool) };
            let names = Names::new(vec![rule]);
            vec![Arc::new(Listener { names, ..Listener::with_defaults("tls", Protocol::TlsPassthrough) })]
        });
        let plan = Arc::new(plan);
        let view = || {
            Arc::new(PoolView {
                candidates: Candidates::new(Schedule::Rr, []),
                refusal: Some(Cause::NoBackendConfigured),
                panic: false,
            })
        };
        let pools = plan.pools.iter().map(|_| view()).collect();
        Arc::new(Snapshot { generation: plan.pools.len() as u64, made: at(0), plan, standings: Vec::new(), pools })
    };
    let mut roster = Roster::new(0, 1, Arc::new(Registry::new()), Arc::new(Gates::new([7; 32])));
    roster.follow(&with(&["first", "second"], Some(1)));
    let listener = Rc::clone(roster.listener("tls").expect("the plan has it"));
    let ruled = || listener.ruled(PoolId::from_index(1)).map(|pool| pool.name.to_string());
    assert_eq!(ruled(), Some("second".to_owned()));
    roster.follow(&with(&["other", "another", "second"], None));
    assert!(listener.is_removed());
    assert_eq!(ruled(), Some("second".to_owned()));
    assert_eq!(roster.pool(PoolId::from_index(1)).map(|pool| pool.name.to_string()), Some("another".to_owned()));
}

#[test]
fn a_session_whose_address_has_another_client_now_is_told_by_the_connection_id() {
    let plan = plan(3, |pool| (pool.schedule, pool.sticky) = (Schedule::QuicCid, None));
    let [mut worker] = workers(&plan, &[]);
    let pool = pool(&worker);
    let members: Vec<Rc<BackendSlot>> = pool.members().to_vec();
    for (slot, cid) in members.iter().zip([b"first id", b"other id", b"third id"]) {
        pool.heard_datagram(&long(false, b"", cid), slot, at(0));
    }
    let mut shown = 0;
    let mut elsewhere = |datagram: &[u8], millis| pool.leads_elsewhere(datagram, &members[0], &mut shown, at(millis));
    assert!(!elsewhere(&short(b"first id"), 0) && !elsewhere(&long(true, b"of a new one", b""), 0));
    assert!(elsewhere(&short(b"other id"), 1) && elsewhere(&long(false, b"third id", b""), 1));
    // Looked up once for each id in a row: the session has moved by then, or cannot.
    assert!(!elsewhere(&short(b"third id"), 1));
    assert!(!elsewhere(&short(b"unknown!"), 2) && !elsewhere(b"", 2) && !elsewhere(&[0x40, 1, 2], 2));
    assert!(elsewhere(&short(b"other id"), 3));
    // It is not sent to one that could not take it.
    worker.follow(&snapshot(&plan, 2, &[(1, Aside::Unhealthy)]));
    let mut shown = 0;
    assert!(!pool.leads_elsewhere(&short(b"other id"), &members[0], &mut shown, at(4)));
}
