//! Batches of datagrams: scripts that both drivers must answer alike, then what happens to datagrams on a bad day.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_reactor::sim::{Chance, Faults, Net, Segments, SimDriver, Way, seeds};
use evenkeel_reactor::{Batch, Close, Driver, Event, RecvMany, SendMany, Sock, Source, Token, errno};

use crate::contract::on_both;
use crate::worlds::{RealWorld, SimWorld, World};

const T: Token = Token(7);

/// The largest datagram of IPv4.
const LARGEST: usize = 65_507;

on_both! {
    a_listener_tells_of_datagrams_and_not_of_room: [
        "then: []", "readable", "one, two", "Dry", "sent 2", "then: []", "far got one", "far got two",
    ];
    a_batch_without_room_takes_nothing_and_loses_nothing: [
        "Some { packets: 0, drained: false }", "32 in the batch", "late", "Dry",
    ];
    a_batch_is_filled_up_and_the_rest_waits: ["Some { packets: 1, drained: false }", "second, third"];
    an_empty_datagram_is_a_datagram: ["1 of 0 bytes", "sent 1", "far got "];
    the_largest_datagram_comes_and_goes_whole: ["1 of 65507 bytes", "sent 1", "far got the same: true"];
    a_burst_keeps_its_borders: ["sent 5", "far got aaaa", "far got bbbb", "far got cc", "far got dddd", "far got "];
    a_dialled_socket_sends_to_its_address_whatever_stands_beside: ["sent 1", "far got x"];
    what_is_too_long_keeps_back_what_stands_behind_it: [
        "taken 1, failed Some(Errno(90))", "far got before", "sent 1", "far got behind",
    ];
    a_part_of_a_batch_can_be_sent: ["sent 2", "far got 1", "far got 2", "sent 0"];
    a_refusal_is_told_once_to_a_dialled_socket: [
        "sent 1", "readable writable hangup", "Failed(Errno(111))", "Dry", "sent 1", "taken 0, failed Some(Errno(111))", "sent 1",
    ];
    a_listener_is_not_told_who_has_gone: ["sent 3", "far got still here", "then: []", "Dry", "readable", "hello"];
    a_dialled_socket_hears_only_its_backend: ["then: []", "Dry"];
    answers_come_back_to_a_dialled_socket: ["readable", "a, b, c, d, e", "readable", "f"];
}

mod script {
    use super::*;

    type Seen = Vec<String>;

    pub fn a_listener_tells_of_datagrams_and_not_of_room<W: World>(world: &mut W) -> Seen {
        world.far_udp();
        let (sock, at) = world.listen_udp(T);
        let mut seen = vec![told(world)];
        world.far_udp_send(at, b"one");
        world.far_udp_send(at, b"two");
        seen.push(words(world.wait(T, |event| event.readable)));
        let mut batch = Batch::new();
        seen.push(gather(world, sock, &mut batch, 2));
        seen.push(format!("{:?}", world.driver().recv_many(sock, &mut Batch::new())));
        let packets = batch.len();
        assert!(world.driver().send_many(sock, &batch, 0..packets) == SendMany { taken: packets, failed: None });
        seen.push("sent 2".to_owned());
        seen.push(told(world));
        // Jitter may turn them round.
        let mut got: Seen = (0..2).map(|_| far_got(world)).collect();
        got.sort();
        [seen, got].concat()
    }

    pub fn a_batch_without_room_takes_nothing_and_loses_nothing<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let (sock, at) = world.listen_udp(T);
        let mut batch = Batch::new();
        while batch.push(far, None, &[b"ours"]) {}
        world.far_udp_send(at, b"late");
        let mut seen = vec![format!("{:?}", world.driver().recv_many(sock, &mut batch))];
        seen.push(format!("{} in the batch", batch.len()));
        batch.clear();
        seen.push(gather(world, sock, &mut batch, 1));
        seen.push(format!("{:?}", world.driver().recv_many(sock, &mut batch)));
        seen
    }

    pub fn a_batch_is_filled_up_and_the_rest_waits<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let (sock, at) = world.listen_udp(T);
        let mut batch = Batch::new();
        while batch.push(far, None, &[b"ours"]) {}
        let full = batch.len();
        batch.clear();
        for _ in 1..full {
            assert!(batch.push(far, None, &[b"ours"]));
        }
        for bytes in [&b"1"[..], b"second", b"third"] {
            world.far_udp_send(at, bytes);
        }
        let seen = format!("{:?}", world.driver().recv_many(sock, &mut batch));
        assert_eq!(batch.bytes(full - 1), b"1");
        batch.clear();
        vec![seen, gather(world, sock, &mut batch, 2)]
    }

    pub fn an_empty_datagram_is_a_datagram<W: World>(world: &mut W) -> Seen {
        world.far_udp();
        let (sock, at) = world.listen_udp(T);
        world.far_udp_send(at, b"");
        let mut batch = Batch::new();
        gather(world, sock, &mut batch, 1);
        let seen = format!("{} of {} bytes", batch.len(), batch.bytes(0).len());
        vec![seen, send(world, sock, &batch), far_got(world)]
    }

    pub fn the_largest_datagram_comes_and_goes_whole<W: World>(world: &mut W) -> Seen {
        world.far_udp();
        let (sock, at) = world.listen_udp(T);
        let largest: Vec<u8> = (0..LARGEST).map(|at| (at % 251) as u8).collect();
        world.far_udp_send(at, &largest);
        let mut batch = Batch::new();
        gather(world, sock, &mut batch, 1);
        let mut seen = vec![format!("{} of {} bytes", batch.len(), batch.bytes(0).len())];
        seen.push(send(world, sock, &batch));
        seen.push(format!("far got the same: {}", world.far_udp_take() == largest));
        seen
    }

    pub fn a_burst_keeps_its_borders<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let sock = world.driver().dial_udp(far, Source::Kernel, T).expect("nothing is short");
        let mut batch = Batch::new();
        for bytes in [&b"aaaa"[..], b"bbbb", b"cc", b"dddd", b""] {
            assert!(batch.push(far, None, &[bytes]));
        }
        let mut seen = Vec::new();
        // One after the other, since jitter may turn datagrams round, which loopback does not.
        let sent = (0..batch.len()).map(|at| one(world, sock, &batch, at)).sum::<usize>();
        seen.push(format!("sent {sent}"));
        seen.extend((0..5).map(|_| far_got(world)));
        seen
    }

    pub fn a_dialled_socket_sends_to_its_address_whatever_stands_beside<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let elsewhere = world.closed_port();
        let sock = world.driver().dial_udp(far, Source::Kernel, T).expect("nothing is short");
        let mut batch = Batch::new();
        assert!(batch.push(elsewhere, Some(elsewhere.ip()), &[b"x"]));
        vec![send(world, sock, &batch), far_got(world)]
    }

    pub fn what_is_too_long_keeps_back_what_stands_behind_it<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let (sock, _) = world.listen_udp(T);
        let mut batch = Batch::new();
        let too_long = vec![7; LARGEST + 1];
        for bytes in [&b"before"[..], &too_long, b"behind"] {
            assert!(batch.push(far, None, &[bytes]));
        }
        let mut seen = vec![send(world, sock, &batch), far_got(world)];
        seen.push(format!("sent {}", one(world, sock, &batch, 2)));
        seen.push(far_got(world));
        seen
    }

    pub fn a_part_of_a_batch_can_be_sent<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let (sock, _) = world.listen_udp(T);
        let mut batch = Batch::new();
        for bytes in [b"0", b"1", b"2", b"3"] {
            assert!(batch.push(far, None, &[bytes]));
        }
        let sent = one(world, sock, &batch, 1) + one(world, sock, &batch, 2);
        let mut seen = vec![format!("sent {sent}"), far_got(world), far_got(world)];
        seen.push(format!("sent {}", world.driver().send_many(sock, &batch, 2..2).taken));
        seen
    }

    pub fn a_refusal_is_told_once_to_a_dialled_socket<W: World>(world: &mut W) -> Seen {
        let at = world.closed_port();
        let sock = world.driver().dial_udp(at, Source::Kernel, T).expect("nothing is short");
        let mut batch = Batch::new();
        assert!(batch.push(at, None, &[b"ping"]));
        let mut seen = vec![send(world, sock, &batch), words(world.wait(T, |event| event.hangup))];
        let mut into = Batch::new();
        seen.extend((0..2).map(|_| format!("{:?}", world.driver().recv_many(sock, &mut into))));
        seen.push(send(world, sock, &batch));
        world.wait(T, |event| event.hangup);
        seen.extend((0..2).map(|_| send(world, sock, &batch)));
        seen
    }

    pub fn a_listener_is_not_told_who_has_gone<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let gone = world.closed_port();
        let (sock, at) = world.listen_udp(T);
        let mut batch = Batch::new();
        for (peer, bytes) in [(gone, &b"to nobody"[..]), (far, b"still here"), (gone, b"to nobody again")] {
            assert!(batch.push(peer, None, &[bytes]));
        }
        let mut seen = vec![send(world, sock, &batch), far_got(world), told(world)];
        batch.clear();
        seen.push(format!("{:?}", world.driver().recv_many(sock, &mut batch)));
        world.far_udp_send(at, b"hello");
        seen.push(words(world.wait(T, |event| event.readable)));
        seen.push(gather(world, sock, &mut batch, 1));
        seen
    }

    pub fn a_dialled_socket_hears_only_its_backend<W: World>(world: &mut W) -> Seen {
        let backend = world.closed_port();
        world.far_udp();
        let sock = world.driver().dial_udp(backend, Source::Kernel, T).expect("nothing is short");
        let ours = world.driver().local_address(sock).expect("a dialled socket has an address");
        world.far_udp_send(ours, b"not who was asked");
        vec![told(world), format!("{:?}", world.driver().recv_many(sock, &mut Batch::new()))]
    }

    pub fn answers_come_back_to_a_dialled_socket<W: World>(world: &mut W) -> Seen {
        let far = world.far_udp();
        let sock = world.driver().dial_udp(far, Source::Kernel, T).expect("nothing is short");
        let ours = world.driver().local_address(sock).expect("a dialled socket has an address");
        for bytes in [b"a", b"b", b"c", b"d", b"e"] {
            world.far_udp_send(ours, bytes);
        }
        let mut batch = Batch::new();
        let mut seen = vec![words(world.wait(T, |event| event.readable)), gather(world, sock, &mut batch, 5)];
        world.poll_now();
        batch.clear();
        world.far_udp_send(ours, b"f");
        seen.push(words(world.wait(T, |event| event.readable)));
        seen.push(gather(world, sock, &mut batch, 1));
        seen
    }

    /// Receives until so many datagrams are there.
    fn gather<W: World>(world: &mut W, sock: Sock, batch: &mut Batch, datagrams: u32) -> String {
        while (0..batch.len()).map(|at| batch.datagrams(at)).sum::<u32>() < datagrams {
            match world.driver().recv_many(sock, batch) {
                RecvMany::Some { .. } => {}
                other => panic!("it has arrived: {other:?}"),
            }
        }
        let each = (0..batch.len()).flat_map(|at| batch.each(at));
        each.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<Vec<_>>().join(", ")
    }

    fn send<W: World>(world: &mut W, sock: Sock, batch: &Batch) -> String {
        match world.driver().send_many(sock, batch, 0..batch.len()) {
            SendMany { taken, failed: None } => format!("sent {taken}"),
            SendMany { taken, failed } => format!("taken {taken}, failed {failed:?}"),
        }
    }

    /// Sends one packet and lets it arrive; how many were taken.
    fn one<W: World>(world: &mut W, sock: Sock, batch: &Batch, at: usize) -> usize {
        let sent = world.driver().send_many(sock, batch, at..at + 1);
        assert_eq!(sent.failed, None);
        world.settle();
        sent.taken
    }

    fn far_got<W: World>(world: &mut W) -> String {
        format!("far got {}", String::from_utf8_lossy(&world.far_udp_take()))
    }

    fn told<W: World>(world: &mut W) -> String {
        let events: Vec<String> = world.poll_now().into_iter().map(words).collect();
        format!("then: {events:?}")
    }

    fn words(event: Event) -> String {
        let words = [(event.readable, "readable"), (event.writable, "writable"), (event.hangup, "hangup")];
        let said: Vec<&str> = words.into_iter().filter(|&(is, _)| is).map(|(_, word)| word).collect();
        said.join(" ")
    }
}

fn host() -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 1).into()
}

fn client(number: u8) -> SocketAddr {
    ([192, 0, 2, number], 4000).into()
}

/// Sends `count` datagrams to a listener under these faults: what it received, in its order.
fn received_under(seed: u64, faults: Faults, count: u8) -> Vec<u8> {
    let net = Net::new(seed, faults);
    let mut driver = SimDriver::new(&net, host());
    let sock = driver.listen_udp((host(), 53).into(), T).expect("nothing is short");
    let client = net.udp_service(client(1));
    for number in 0..count {
        client.send((host(), 53).into(), &[number]);
    }
    while net.step() {}
    let (mut batch, mut received) = (Batch::new(), Vec::new());
    while let RecvMany::Some { .. } = driver.recv_many(sock, &mut batch) {
        received.extend((0..batch.len()).flat_map(|at| batch.each(at).map(|bytes| bytes[0]).collect::<Vec<_>>()));
        batch.clear();
    }
    received
}

#[test]
fn datagrams_get_lost_come_twice_and_overtake_each_other_when_told_to() {
    let all: Vec<u8> = (0..50).collect();
    assert_eq!(received_under(0, Faults::none(), 50), all);
    assert_eq!(received_under(0, Faults { datagram_loss: Chance::ALWAYS, ..Faults::none() }, 50), []);
    let half = received_under(0, Faults { datagram_loss: Chance::per_mille(500), ..Faults::none() }, 50);
    assert!((10..40).contains(&half.len()) && half.is_sorted(), "{half:?}");
    let twice: Vec<u8> = all.iter().flat_map(|&number| [number, number]).collect();
    assert_eq!(received_under(0, Faults { datagram_double: Chance::ALWAYS, ..Faults::none() }, 50), twice);
    let mut turned = received_under(0, Faults { jitter: std::time::Duration::from_millis(5), ..Faults::none() }, 50);
    assert!(!turned.is_sorted());
    turned.sort_unstable();
    assert_eq!(turned, all);
}

#[test]
fn datagrams_that_come_together_are_the_same_datagrams() {
    let together = Faults { datagram_together: Chance::ALWAYS, ..Faults::none() };
    assert_eq!(received_under(0, together, 50), (0..50).collect::<Vec<u8>>());
}

#[test]
fn each_client_always_meets_the_same_of_the_workers() {
    let net = Net::new(0, Faults::none());
    let mut workers: Vec<SimDriver> = (0..3).map(|_| SimDriver::new(&net, host())).collect();
    let at: SocketAddr = (host(), 53).into();
    let socks: Vec<Sock> =
        workers.iter_mut().map(|worker| worker.listen_udp(at, T).expect("nothing is short")).collect();
    let mut met = vec![std::collections::BTreeSet::new(); 40];
    for number in (0..40).chain(0..40) {
        let service = net.udp_service(client(number));
        service.send(at, &[number]);
        while net.step() {}
        service.close();
        for (worker, (driver, &sock)) in workers.iter_mut().zip(&socks).enumerate() {
            let mut batch = Batch::new();
            if let RecvMany::Some { .. } = driver.recv_many(sock, &mut batch) {
                assert_eq!(batch.peer(0), client(number));
                met[usize::from(number)].insert(worker);
            }
        }
    }
    assert!(met.iter().all(|workers| workers.len() == 1), "{met:?}");
    let all: std::collections::BTreeSet<usize> = met.into_iter().flatten().collect();
    assert_eq!(all.len(), 3, "nobody gets everything");
}

#[test]
fn a_wildcard_listener_says_which_address_was_asked_and_answers_from_it() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, host());
    let sock = driver.listen_udp("0.0.0.0:53".parse().expect("an address"), T).expect("nothing is short");
    let other: IpAddr = Ipv4Addr::new(10, 0, 0, 9).into();
    let client = net.udp_service(client(1));
    client.send((other, 53).into(), b"ask");
    while net.step() {}
    let mut batch = Batch::new();
    assert_eq!(driver.recv_many(sock, &mut batch), RecvMany::Some { packets: 1, drained: true });
    assert_eq!(batch.local(0), Some(other));
    assert_eq!(driver.send_many(sock, &batch, 0..1), SendMany { taken: 1, failed: None });
    while net.step() {}
    assert_eq!(client.recv(), Some(((other, 53).into(), b"ask".to_vec())));
}

#[test]
fn a_full_socket_keeps_the_rest_back_and_tells_of_room() {
    for seed in seeds(20) {
        let net = Net::new(seed, Faults { datagram_full: Chance::per_mille(300), ..Faults::none() });
        let mut driver = SimDriver::new(&net, host());
        let service = net.udp_service(client(1));
        let sock = driver.dial_udp(client(1), Source::Kernel, T).expect("nothing is short");
        let mut batch = Batch::new();
        for number in 0..20 {
            assert!(batch.push(client(1), None, &[&[number]]));
        }
        let (mut at, mut refusals) = (0, 0);
        loop {
            let sent = driver.send_many(sock, &batch, at..batch.len());
            at += sent.taken;
            if at == batch.len() {
                break;
            }
            assert_eq!(sent.failed, None);
            refusals += 1;
            let mut events = Vec::new();
            while !events.iter().any(|event: &Event| event.writable) {
                assert!(net.step(), "room is never told of, SIM_SEED={seed}");
                driver.poll(&mut events, None);
            }
        }
        while net.step() {}
        let got: Vec<u8> = std::iter::from_fn(|| service.recv()).map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(got, (0..20).collect::<Vec<u8>>(), "SIM_SEED={seed}");
        assert!(refusals > 0, "SIM_SEED={seed}");
        let mut events = Vec::new();
        driver.poll(&mut events, None);
        assert_eq!(events, [], "a socket that is not full says nothing of room, SIM_SEED={seed}");
    }
}

#[test]
fn a_router_that_says_no_is_told_to_a_dialled_socket_and_not_to_a_listener() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, host());
    net.set_way(client(1), Way::Unreachable);
    let dialled = driver.dial_udp(client(1), Source::Kernel, T).expect("nothing is short");
    let listener = driver.listen_udp((host(), 53).into(), Token(8)).expect("nothing is short");
    let mut batch = Batch::new();
    assert!(batch.push(client(1), None, &[b"x"]));
    for sock in [dialled, listener] {
        assert_eq!(driver.send_many(sock, &batch, 0..1), SendMany { taken: 1, failed: None });
    }
    while net.step() {}
    let mut into = Batch::new();
    assert_eq!(driver.recv_many(dialled, &mut into), RecvMany::Failed(errno::EHOSTUNREACH));
    assert_eq!(driver.recv_many(listener, &mut into), RecvMany::Dry);
    driver.close(dialled, Close::Orderly);
    driver.close(listener, Close::Orderly);
}
