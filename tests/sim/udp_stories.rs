//! Stories of UDP sessions told by hand.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::worker::Arrives;
use evenkeel_model::exchange::{Datagrams, Detail};
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::sim::{Chance, Faults, UdpService};

use crate::udp::{backend_address, config};
use crate::world::{Record, World, listener_address, plan};

struct Scene {
    world: World,
    backends: Vec<UdpService>,
    text: String,
}

const LISTENER: u16 = 83;

fn node() -> SocketAddr {
    listener_address(LISTENER)
}

impl Scene {
    /// Three backends behind listener `game`.
    fn new(listener: &str, pool: &str) -> Scene {
        Scene::with(&config(&["game"], &[1, 2, 3], listener, pool))
    }

    fn with(text: &str) -> Scene {
        let faults = Faults { datagram_together: Chance::ALWAYS, ..Faults::none() };
        let world = World::new(7, faults, text);
        let backends = (1..=3).map(|number| world.net.udp_service(backend_address(number))).collect();
        Scene { world, backends, text: text.to_owned() }
    }

    fn client(&self, number: u16) -> UdpService {
        self.world.net.udp_service(SocketAddr::from(([192, 0, 2, 1], number)))
    }

    fn pass(&mut self, time: Duration) {
        let until = self.world.net.now() + time;
        self.world.net.alarm(until);
        self.world.run(&mut |_, _| {}, |net| net.now() >= until);
    }

    /// A moment, in which whatever was sent arrives.
    fn settle(&mut self) {
        self.pass(Duration::from_millis(1));
    }

    /// Sends, and says which backend got it by which of the node's sockets.
    fn ask(&mut self, client: &UdpService, bytes: &[u8]) -> Option<(usize, SocketAddr, Vec<u8>)> {
        client.send(node(), bytes);
        self.settle();
        self.heard()
    }

    fn heard(&self) -> Option<(usize, SocketAddr, Vec<u8>)> {
        let mut heard = self.backends.iter().enumerate().filter_map(|(at, backend)| {
            let (from, bytes) = backend.recv()?;
            Some((at, from, bytes))
        });
        heard.next()
    }

    fn publish(&mut self, text: &str, out: &[usize]) {
        self.text = text.to_owned();
        let out: Vec<SocketAddr> = out.iter().map(|at| backend_address(1 + *at as u8)).collect();
        self.world.operator.publish(&plan(text), |address| !out.contains(&address));
        self.settle();
    }

    fn until_rest(&mut self) -> Vec<Record> {
        self.world.run(&mut |_, _| {}, |_| false);
        self.world.check_rest(&["game"]);
        self.world.finish(&|| self.text.clone());
        self.world.records.all()
    }

    fn sessions(&self) -> usize {
        self.world.worker.as_ref().map_or(0, |worker| worker.sessions().0)
    }

    fn metric(&self, of: fn(&evenkeel_observe::ListenerMetrics) -> u64) -> u64 {
        self.world.registry.sum_listener("game", of)
    }
}

#[test]
fn answers_leave_from_the_address_that_was_asked_also_on_a_wildcard() {
    let text = config(&["game"], &[1], "", "").replace("10.0.0.1:83", "0.0.0.0:83");
    let mut scene = Scene::with(&text);
    let client = scene.client(5000);
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], LISTENER));
    let mut sockets = Vec::new();
    for last in [1, 2, 1] {
        client.send(at(last), b"ping");
        scene.settle();
        let (_, from, _) = scene.heard().expect("the backend is asked");
        scene.backends[0].send(from, b"pong");
        scene.settle();
        assert_eq!(client.recv(), Some((at(last), b"pong".to_vec())));
        sockets.push(from);
    }
    // One client at two addresses of ours is two sessions.
    assert_eq!((sockets[0], scene.sessions()), (sockets[2], 2));
    assert_ne!(sockets[0], sockets[1]);
    assert!(scene.until_rest().iter().all(|record| record.cause.is_none()));
}

#[test]
fn one_shot_sessions_are_over_with_their_answer_and_leave_no_timers_behind() {
    let mut scene = Scene::new("responses = 1\nidle_timeout = \"90s\"\n", "");
    let client = scene.client(5000);
    let mut before = None;
    for _ in 0..200 {
        let (backend, from, _) = scene.ask(&client, b"question").expect("asked");
        assert_eq!(scene.sessions(), 1);
        assert_eq!(before.map_or(backend, |at: usize| (at + 1) % 3), backend, "every question is a pick of its own");
        before = Some(backend);
        scene.backends[backend].send(from, b"answer");
        scene.settle();
        assert!(client.recv().is_some());
        assert_eq!(scene.sessions(), 0);
    }
    let timers = scene.world.worker.as_ref().map_or(0, |worker| worker.core().wheel.len());
    assert!(timers <= 2, "{timers} timers after 200 sessions in one place");
    let records = scene.until_rest();
    assert_eq!(records.len(), 200);
    let one = Some(Datagrams { received: 1, sent: 1 });
    assert!(records.iter().all(|record| record.cause.is_none() && record.datagrams == one));
}

#[test]
fn a_session_takes_no_more_than_its_requests_even_when_they_come_as_one_packet() {
    let mut scene = Scene::new("requests = 2\n", "");
    let client = scene.client(5000);
    for _ in 0..5 {
        client.send(node(), b"same size");
    }
    scene.settle();
    let got: Vec<usize> = scene.backends.iter().map(|backend| std::iter::from_fn(|| backend.recv()).count()).collect();
    // Whoever has its turn first; the last of the three has one.
    assert_eq!((got.iter().sum::<usize>(), got.iter().max()), (5, Some(&2)), "{got:?}");
    assert_eq!(scene.sessions(), 3, "those that are taken up wait for their answers");
    assert_eq!(scene.until_rest().len(), 3);
}

#[test]
fn a_backend_without_its_answer_is_named() {
    let mut scene = Scene::new("responses = 1\nidle_timeout = \"5s\"\n", "");
    let client = scene.client(5000);
    let (backend, ..) = scene.ask(&client, b"question").expect("asked");
    let records = scene.until_rest();
    assert_eq!(
        (records[0].cause, records[0].detail),
        (Some(Cause::BackendNoReply), Some(Detail::Timeout(Duration::from_secs(5))))
    );
    assert_eq!(records[0].backend, Some(backend_address(1 + backend as u8)));
}

#[test]
fn a_session_moves_with_the_next_datagram_when_its_backend_is_unhealthy_and_stays_the_same_session() {
    let mut scene = Scene::new("", "");
    let client = scene.client(5000);
    let (first, from, _) = scene.ask(&client, b"one").expect("asked");
    let text = scene.text.clone();
    scene.publish(&text, &[first]);
    // Until the client speaks, the backend may: it is only its check that failed.
    scene.backends[first].send(from, b"late answer");
    scene.settle();
    assert!(client.recv().is_some());
    let (second, other, _) = scene.ask(&client, b"two").expect("asked");
    assert!(second != first && other != from);
    // The verdict of the one it left is nothing to it any more.
    scene.publish(&text, &[]);
    assert_eq!(scene.ask(&client, b"three").map(|(at, from, _)| (at, from)), Some((second, other)));
    let records = scene.until_rest();
    assert_eq!(records.len(), 1);
    let tried: Vec<_> = records[0].attempts.iter().map(|attempt| (attempt.backend, attempt.cause)).collect();
    let address = |at: usize| backend_address(1 + at as u8);
    assert_eq!(tried, [(address(first), Some(Cause::BackendTurnedUnhealthy)), (address(second), None)]);
    assert_eq!((records[0].cause, records[0].backend), (None, Some(address(second))));
    assert_eq!(records[0].datagrams, Some(Datagrams { received: 3, sent: 1 }));
}

#[test]
fn with_nobody_healthy_a_session_ends_when_its_client_speaks_and_others_do_not_begin() {
    let mut scene = Scene::new("", "");
    let client = scene.client(5000);
    scene.ask(&client, b"one").expect("asked");
    let text = scene.text.clone();
    scene.publish(&text, &[0, 1, 2]);
    assert_eq!(scene.sessions(), 1);
    assert_eq!(scene.ask(&client, b"two"), None);
    assert_eq!(scene.ask(&scene.client(5001), b"three"), None);
    assert_eq!(scene.sessions(), 0);
    let records = scene.until_rest();
    assert_eq!(records.iter().map(|record| record.cause).collect::<Vec<_>>(), [Some(Cause::AllBackendsUnhealthy); 2]);
    assert_eq!(records[1].datagrams, Some(Datagrams { received: 2, sent: 0 }), "both datagrams in one line");
    let cause = |metrics: &evenkeel_observe::ListenerMetrics| metrics.causes.read(Cause::AllBackendsUnhealthy);
    assert_eq!(scene.metric(cause), 3);
}

#[test]
fn on_unhealthy_reset_ends_sessions_at_once() {
    let mut scene = Scene::new("", "on_unhealthy = \"reset\"\n");
    let client = scene.client(5000);
    let (first, ..) = scene.ask(&client, b"one").expect("asked");
    let text = scene.text.clone();
    scene.publish(&text, &[first]);
    assert_eq!(scene.sessions(), 0);
    assert_eq!(scene.world.records.all()[0].cause, Some(Cause::BackendTurnedUnhealthy));
    assert_ne!(scene.ask(&client, b"two").map(|(at, ..)| at), Some(first));
    assert_eq!(scene.until_rest().len(), 2);
}

#[test]
fn a_refusal_ends_the_session_and_the_next_ones_go_elsewhere() {
    let mut scene = Scene::new("", "");
    scene.backends[0].close();
    let clients: Vec<UdpService> = (0..12).map(|number| scene.client(5000 + number)).collect();
    // The first pick of one of the first three is the closed one; a second later it may be back, so it is tried again.
    for client in &clients {
        scene.ask(client, b"hello");
    }
    let refused = |scene: &Scene| {
        scene.world.records.all().iter().filter(|record| record.cause == Some(Cause::BackendConnectRefused)).count()
    };
    assert_eq!(refused(&scene), 1);
    scene.pass(Duration::from_secs(1));
    for client in &clients {
        scene.ask(client, b"hello");
    }
    assert!(refused(&scene) >= 1);
    // The client that was refused has another backend since it spoke again.
    assert_eq!(scene.sessions(), clients.len());
    let records = scene.until_rest();
    assert_eq!(records.iter().filter(|record| record.cause.is_none()).count(), clients.len());
}

#[test]
fn a_full_worker_serves_whom_it_knows_and_tells_of_the_others_in_one_line() {
    let mut scene = Scene::new("idle_timeout = \"900s\"\n", "");
    let known: Vec<UdpService> = (0..1000).map(|number| scene.client(2000 + number)).collect();
    known.iter().for_each(|client| client.send(node(), b"hello"));
    scene.settle();
    assert_eq!(scene.sessions(), 1000);
    while scene.heard().is_some() {}
    for number in 0..500 {
        assert_eq!(scene.ask(&scene.client(4000 + number), b"let me in"), None);
    }
    assert!(scene.ask(&known[500], b"still here").is_some());
    let records = scene.until_rest();
    let refused: Vec<&Record> = records.iter().filter(|record| record.pool.is_none()).collect();
    assert_eq!(refused.len(), 1, "500 datagrams of half a second");
    assert_eq!((refused[0].cause, refused[0].detail), (Some(Cause::BalancerOverloaded), Some(Detail::Limit(1000))));
    assert_eq!(refused[0].datagrams, Some(Datagrams { received: 500, sent: 0 }));
}

#[test]
fn a_removed_listener_serves_its_sessions_until_the_drain_deadline_and_can_come_back() {
    let mut scene = Scene::new("", "");
    let client = scene.client(5000);
    let (backend, from, _) = scene.ask(&client, b"one").expect("asked");
    let with = scene.text.clone();
    let without = with.replace("10.0.0.1:83", "10.0.0.1:84").replace("\"game\"\nlisten", "\"other\"\nlisten");
    scene.publish(&without, &[]);
    scene.backends[backend].send(from, b"answer");
    assert_eq!(scene.ask(&client, b"two").map(|(at, from, _)| (at, from)), Some((backend, from)));
    assert!(client.recv().is_some());
    assert_eq!(scene.ask(&scene.client(5001), b"new"), None);
    // Back again: the socket is used on, and so is the session.
    scene.world.operator.bound("game", node(), Arrives::Datagrams);
    scene.publish(&with, &[]);
    assert_eq!(scene.ask(&client, b"three").map(|(at, from, _)| (at, from)), Some((backend, from)));
    assert!(scene.ask(&scene.client(5002), b"new").is_some());
    scene.publish(&without, &[]);
    let gone = scene.world.net.now() + Duration::from_secs(30);
    while scene.world.net.now() < gone {
        client.send(node(), b"busy");
        scene.pass(Duration::from_secs(1));
    }
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.sessions(), 0);
    let records = scene.until_rest();
    let cut = records.iter().filter(|record| record.pool.is_some() && record.cause == Some(Cause::BalancerDraining));
    assert_eq!(cut.count(), 2);
}

#[test]
fn an_address_that_another_listener_takes_over_keeps_its_socket_and_its_sessions() {
    let mut scene = Scene::new("", "");
    let client = scene.client(5000);
    let before = scene.ask(&client, b"one").map(|(at, from, _)| (at, from));
    let renamed = scene.text.replace("\"game\"\nlisten", "\"renamed\"\nlisten");
    scene.publish(&renamed, &[]);
    assert_eq!(scene.ask(&client, b"two").map(|(at, from, _)| (at, from)), before);
    assert!(scene.ask(&scene.client(5001), b"new").is_some());
    scene.world.run(&mut |_, _| {}, |_| false);
    let listeners: Vec<String> = scene.world.records.all().into_iter().map(|record| record.listener).collect();
    assert_eq!(listeners.iter().filter(|name| *name == "renamed").count(), 1, "{listeners:?}");
    assert_eq!(listeners.len(), 2);
}

#[test]
fn sessions_of_a_removed_backend_stay_for_the_drain_time_and_then_move() {
    let mut scene = Scene::new("", "");
    let client = scene.client(5000);
    let (first, ..) = scene.ask(&client, b"one").expect("asked");
    let left: Vec<u8> = (1..=3).filter(|number| usize::from(*number) != first + 1).collect();
    let text = config(&["game"], &left, "", "");
    scene.publish(&text, &[]);
    for _ in 0..30 {
        assert_eq!(scene.ask(&client, b"still").map(|(at, ..)| at), Some(first));
        scene.pass(Duration::from_secs(1));
    }
    assert_ne!(scene.ask(&client, b"moved").map(|(at, ..)| at), Some(first));
    let records = scene.until_rest();
    assert_eq!((records.len(), records[0].cause, records[0].attempts.len()), (1, None, 2));
}

#[test]
fn a_node_that_drains_serves_known_clients_only() {
    let mut scene = Scene::new("idle_timeout = \"3s\"\n", "");
    let client = scene.client(5000);
    let before = scene.ask(&client, b"one").map(|(at, from, _)| (at, from));
    scene.world.operator.drain(scene.world.net.now() + Duration::from_secs(60));
    scene.settle();
    assert_eq!(scene.ask(&client, b"two").map(|(at, from, _)| (at, from)), before);
    assert_eq!(scene.ask(&scene.client(5001), b"new"), None);
    scene.pass(Duration::from_secs(4));
    assert!(scene.world.drained_at.is_some_and(|at| at < Instant::START + Duration::from_secs(5)));
    let records = scene.world.records.all();
    // The newcomer's line is written after a second, the session's when it has ended.
    assert_eq!(records.iter().map(|record| record.cause).collect::<Vec<_>>(), [Some(Cause::BalancerDraining), None]);
}
