//! What only the simulated network can do: black holes, lost SYNs, clocks that jump, and the panics
//! that catch misuse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use evenkeel_model::Instant;
use evenkeel_reactor::sim::{Chance, Ended, Faults, Net, Refuses, Segments, SimDriver, Totals, Way, run};
use evenkeel_reactor::{Close, Dial, Driver, Errno, Event, Handshake, Recv, Send, Sock, Source, Token, errno};

const T: Token = Token(7);

fn node() -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 1).into()
}

fn backend() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), 80)
}

fn seconds(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}

fn dial(driver: &mut SimDriver, handshake: Handshake) -> Result<Sock, Errno> {
    driver.dial(Dial { handshake, ..Dial::to(backend()) }, T)
}

/// Dials and runs until it is decided: how, and when.
fn dial_and_see(net: &Net, driver: &mut SimDriver) -> (Option<Result<(), Errno>>, Instant) {
    let sock = dial(driver, Handshake::Full).expect("nothing is short");
    let mut decided = None;
    while decided.is_none() && net.step() {
        decided = driver.connected(sock);
    }
    driver.close(sock, Close::Reset);
    (decided, net.now())
}

/// A backend, and a connection to it that is established on both sides.
fn connected(net: &Net, driver: &mut SimDriver) -> (Sock, evenkeel_reactor::sim::End) {
    let backend = net.backend_listen(backend());
    let sock = dial(driver, Handshake::Full).expect("nothing is short");
    while net.step() {}
    assert_eq!(driver.connected(sock), Some(Ok(())));
    (sock, backend.accept().expect("the handshake is complete"))
}

fn events(driver: &mut SimDriver) -> Vec<Event> {
    let mut events = Vec::new();
    driver.poll(&mut events, None);
    events
}

#[test]
fn each_way_to_a_backend_decides_a_dial_in_its_own_manner() {
    let syn = Duration::from_micros(100);
    let table = [
        // way            listens  how it is decided               when
        (Way::Open, true, Some(Ok(())), Instant::START + 2 * syn),
        (Way::Open, false, Some(Err(errno::ECONNREFUSED)), Instant::START + 2 * syn),
        (Way::Unreachable, true, Some(Err(errno::EHOSTUNREACH)), Instant::START + 2 * syn),
        // 1 + 2 + 4 + … + 64 s: Linux's seven SYNs.
        (Way::BlackHole, true, Some(Err(errno::ETIMEDOUT)), seconds(127) + syn),
    ];
    for (way, listens, decided, at) in table {
        let net = Net::new(0, Faults::none());
        let mut driver = SimDriver::new(&net, node());
        net.set_way(backend(), way);
        let _listens = listens.then(|| net.backend_listen(backend()));
        assert_eq!(dial_and_see(&net, &mut driver), (decided, at), "{way:?}");
    }
}

#[test]
fn without_a_route_dialling_fails_at_once() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    net.set_way(backend(), Way::NoRoute);
    assert_eq!(dial(&mut driver, Handshake::Full), Err(errno::ENETUNREACH));
    assert_eq!(driver.dial_udp(backend(), Source::Kernel, T), Err(errno::ENETUNREACH));
    assert_eq!(net.totals(driver.id()), Totals::default());
}

#[test]
fn a_shortage_fails_a_dial_at_once() {
    let net = Net::new(0, Faults { dial_error: Chance::ALWAYS, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    for _ in 0..10 {
        assert!(dial(&mut driver, Handshake::Full).is_err_and(Errno::is_our_shortage));
    }
}

#[test]
fn a_dial_from_an_address_arrives_from_it() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let listens = net.backend_listen(backend());
    let source: IpAddr = Ipv4Addr::new(100, 64, 0, 1).into();
    let wanted = Dial { from: Source::Own(source), ..Dial::to(backend()) };
    driver.dial(wanted, T).expect("nothing is short");
    while net.step() {}
    assert_eq!(listens.accept().map(|end| end.remote().ip()), Some(source));
}

#[test]
fn a_lost_syn_is_repeated_after_one_second() {
    let net = Net::new(0, Faults { syn_loss: Chance::ALWAYS, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let _listens = net.backend_listen(backend());
    let sock = dial(&mut driver, Handshake::Full).expect("nothing is short");
    net.advance_to(seconds(1));
    assert_eq!(driver.connected(sock), None);
    net.change_faults(|faults| faults.syn_loss = Chance::NEVER);
    net.advance_to(seconds(1) + Duration::from_millis(1));
    assert_eq!(driver.connected(sock), Some(Ok(())));
}

#[test]
fn a_full_accept_queue_keeps_clients_waiting_until_there_is_room() {
    let net = Net::new(0, Faults { backlog: 1, ..Faults::none() });
    let listens = net.backend_listen(backend());
    let first = net.client_connect(backend());
    net.advance_to(seconds(0) + Duration::from_millis(1));
    let second = net.client_connect(backend());
    net.advance_to(seconds(0) + Duration::from_millis(500));
    assert_eq!((first.connected(), second.connected()), (Some(Ok(())), None));
    assert!(listens.accept().is_some());
    net.advance_to(seconds(2));
    assert_eq!(second.connected(), Some(Ok(())));
}

#[test]
fn a_black_hole_takes_bytes_and_says_nothing() {
    let net = Net::new(0, Faults { send_buffer: 10, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    events(&mut driver);
    end.black_hole();
    assert_eq!(driver.send(sock, &[1; 20]), Send::Taken(10));
    end.send(b"lost as well");
    while net.step() {}
    assert_eq!((driver.send(sock, b"x"), driver.recv(sock, &mut [0; 9])), (Send::Taken(0), Recv::Dry));
    assert_eq!((events(&mut driver), end.received_len()), (vec![], 0));
    driver.close(sock, Close::Reset);
    while net.step() {}
    assert!(!end.saw_reset() && !end.other_side_is_open());
}

#[test]
fn a_host_that_lost_its_power_silences_the_connections_it_had() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    net.set_way(backend(), Way::BlackHole);
    end.send(b"never");
    assert_eq!(driver.send(sock, b"never"), Send::Taken(5));
    while net.step() {}
    assert_eq!((driver.recv(sock, &mut [0; 9]), end.received_len()), (Recv::Dry, 0));
}

#[test]
fn a_small_window_holds_the_sender_back_until_the_reader_reads() {
    let net = Net::new(0, Faults { receive_window: 4, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    end.send(b"0123456789");
    let mut into = [0; 9];
    let mut seen = Vec::new();
    while net.step() {}
    assert_eq!(end.unsent(), 6);
    while let Recv::Bytes(bytes) = driver.recv(sock, &mut into) {
        seen.extend_from_slice(&into[..bytes]);
        while net.step() {}
    }
    assert_eq!((seen.as_slice(), end.unsent()), (b"0123456789".as_slice(), 0));
}

#[test]
fn a_client_that_does_not_read_fills_our_send_buffer() {
    let net = Net::new(0, Faults { receive_window: 4, send_buffer: 9, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    end.pause_reading();
    events(&mut driver);
    assert_eq!(driver.send(sock, b"0123456789abcdef"), Send::Taken(9));
    while net.step() {}
    // Four bytes arrived, which leaves less than a full buffer: that much is taken at once.
    assert_eq!(driver.send(sock, b"9abcdef"), Send::Taken(4));
    assert_eq!(driver.send(sock, b"def"), Send::Taken(0));
    assert_eq!(events(&mut driver), []);
    assert_eq!(end.read(100), 4);
    while net.step() {}
    assert!(events(&mut driver).iter().any(|event| event.writable));
}

#[test]
fn one_byte_segments_come_at_times_of_their_own() {
    let net = Net::new(0, Faults { segments: Segments::OneByte, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    events(&mut driver);
    end.send(b"abcde");
    let mut into = [0; 9];
    let (mut reads, mut last) = (Vec::new(), net.now());
    while net.step() {
        if events(&mut driver).iter().any(|event| event.readable) {
            reads.push(driver.recv(sock, &mut into));
            assert!(net.now() > last, "two bytes came at one time");
            last = net.now();
        }
    }
    assert_eq!(reads, [Recv::Bytes(1); 5]);
}

#[test]
fn a_send_error_ends_the_connection_and_the_other_side_never_hears() {
    let net = Net::new(0, Faults { send_error: Chance::ALWAYS, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    assert_eq!(driver.send(sock, b"x"), Send::Failed(errno::ETIMEDOUT));
    assert_eq!(driver.send(sock, b"x"), Send::Failed(errno::EPIPE));
    while net.step() {}
    assert!(!end.saw_fin() && !end.saw_reset());
}

#[test]
fn a_killed_backend_ends_its_connections_and_refuses_new_ones() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let listens = net.backend_listen(backend());
    let idle = dial(&mut driver, Handshake::Full).expect("nothing is short");
    let unread = dial(&mut driver, Handshake::Full).expect("nothing is short");
    let waiting = dial(&mut driver, Handshake::Full).expect("nothing is short");
    while net.step() {}
    listens.accept().expect("the first one waits");
    listens.accept().expect("the second one waits").pause_reading();
    driver.send(unread, b"a request it never reads");
    while net.step() {}
    listens.kill();
    while net.step() {}
    let mut into = [0; 9];
    let seen = [idle, unread, waiting].map(|sock| driver.recv(sock, &mut into));
    assert_eq!(seen, [Recv::End, Recv::Failed(errno::ECONNRESET), Recv::Failed(errno::ECONNRESET)]);
    assert_eq!(dial_and_see(&net, &mut driver).0, Some(Err(errno::ECONNREFUSED)));
}

#[test]
fn half_open_dials_are_counted_apart_and_become_whole_after_200_ms() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let listens = net.backend_listen(backend());
    let probe = dial(&mut driver, Handshake::HalfOpen).expect("nothing is short");
    net.advance_to(Instant::START + Duration::from_millis(10));
    driver.close(probe, Close::Reset);
    net.advance_to(Instant::START + Duration::from_millis(20));
    assert_eq!((listens.half_open(), listens.completed()), (1, 0));
    let slow = dial(&mut driver, Handshake::HalfOpen).expect("nothing is short");
    net.advance_to(Instant::START + Duration::from_millis(200));
    assert_eq!((driver.connected(slow), listens.completed()), (Some(Ok(())), 0));
    net.advance_to(Instant::START + Duration::from_millis(250));
    assert_eq!((listens.half_open(), listens.completed()), (1, 1), "Linux does not withhold the ACK for ever");
}

#[test]
fn bytes_carry_the_withheld_ack() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let listens = net.backend_listen(backend());
    let sock = dial(&mut driver, Handshake::HalfOpen).expect("nothing is short");
    net.advance_to(Instant::START + Duration::from_millis(1));
    assert_eq!((driver.send(sock, b"hi"), listens.completed()), (Send::Taken(2), 0));
    net.advance_to(Instant::START + Duration::from_millis(2));
    assert_eq!(listens.accept().map(|end| end.received()), Some(b"hi".to_vec()));
}

#[test]
fn finish_wakes_its_own_caller_before_the_other_side_knows() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let (sock, end) = connected(&net, &mut driver);
    events(&mut driver);
    driver.finish(sock);
    assert_eq!(events(&mut driver), [Event { token: T, readable: false, writable: true, hangup: false }]);
    assert!(!end.saw_fin());
}

#[test]
fn split_events_tell_of_both_directions() {
    let net = Net::new(0, Faults { split_events: Chance::ALWAYS, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let (_, end) = connected(&net, &mut driver);
    end.finish();
    while net.step() {}
    let halves = events(&mut driver);
    assert_eq!(halves.len(), 2);
    assert!(halves.contains(&Event { token: T, readable: false, writable: true, hangup: true }));
    assert!(halves.contains(&Event { token: T, readable: true, writable: false, hangup: true }));
}

#[test]
fn udp_tells_silence_from_refusal() {
    let table = [
        // way             a service  what the prober reads
        (Way::Open, true, Recv::Bytes(2)),
        (Way::Open, false, Recv::Failed(errno::ECONNREFUSED)),
        (Way::Unreachable, true, Recv::Failed(errno::EHOSTUNREACH)),
        (Way::BlackHole, true, Recv::Dry),
    ];
    for (way, serves, expected) in table {
        let net = Net::new(0, Faults::none());
        let mut driver = SimDriver::new(&net, node());
        net.set_way(backend(), way);
        let service = serves.then(|| net.udp_service(backend()));
        let sock = driver.dial_udp(backend(), Source::Kernel, T).expect("nothing is short");
        assert_eq!(driver.send(sock, b"ping"), Send::Taken(4));
        while net.step() {}
        if let Some((service, (from, _))) = service.and_then(|service| service.recv().map(|asked| (service, asked))) {
            service.send(from, b"ok");
        }
        while net.step() {}
        assert_eq!(driver.recv(sock, &mut [0; 9]), expected, "{way:?}");
    }
}

#[test]
fn a_lost_datagram_or_refusal_looks_like_silence() {
    let net = Net::new(0, Faults { datagram_loss: Chance::ALWAYS, ..Faults::none() });
    let mut driver = SimDriver::new(&net, node());
    let service = net.udp_service(backend());
    let sock = driver.dial_udp(backend(), Source::Kernel, T).expect("nothing is short");
    driver.send(sock, b"ping");
    while net.step() {}
    assert_eq!((driver.recv(sock, &mut [0; 9]), service.recv()), (Recv::Dry, None));
    // The datagram goes through, the ICMP answer to it does not.
    service.close();
    net.change_faults(|faults| faults.datagram_loss = Chance::NEVER);
    driver.send(sock, b"ping");
    net.change_faults(|faults| faults.datagram_loss = Chance::ALWAYS);
    while net.step() {}
    assert_eq!(driver.recv(sock, &mut [0; 9]), Recv::Dry);
}

#[test]
fn two_workers_share_one_address() {
    let net = Net::new(3, Faults::none());
    let at = SocketAddr::new(node(), 80);
    let mut workers = [SimDriver::new(&net, node()), SimDriver::new(&net, node())];
    let listeners = workers.each_mut().map(|worker| worker.listen(at, T).expect("nothing is short"));
    let clients: Vec<_> = (0..40).map(|_| net.client_connect(at)).collect();
    while net.step() {}
    let mut accepted = [0; 2];
    for (index, worker) in workers.iter_mut().enumerate() {
        while worker.accept(listeners[index]).expect("nothing is short").is_some() {
            accepted[index] += 1;
        }
    }
    assert_eq!(accepted[0] + accepted[1], clients.len());
    assert!(accepted.iter().all(|&share| share > 5), "{accepted:?}");
}

#[test]
fn a_timer_is_served_exactly_when_it_is_due() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let mut due = vec![seconds(1), seconds(5), seconds(86_400)];
    let mut served = Vec::new();
    let mut turn = || {
        driver.poll(&mut Vec::new(), due.first().copied());
        while due.first().is_some_and(|&at| at <= driver.now()) {
            served.push((due.remove(0), driver.now()));
        }
    };
    assert_eq!(run(&net, &mut [&mut turn], &mut [], |_| false), Ended::Quiet);
    assert_eq!(served, [1, 5, 86_400].map(|at| (seconds(at), seconds(at))));
}

#[test]
fn a_pause_makes_timers_late_and_events_come_together() {
    let faults = Faults { pause: Chance::ALWAYS, pause_max: Duration::from_secs(3), ..Faults::none() };
    let net = Net::new(5, faults);
    let mut driver = SimDriver::new(&net, node());
    let due = Instant::START + Duration::from_micros(150);
    let client = net.client_connect(backend());
    let mut served_at = None;
    let mut turn = || {
        driver.poll(&mut Vec::new(), (served_at.is_none()).then_some(due));
        if served_at.is_none() && driver.now() >= due {
            served_at = Some(driver.now());
        }
    };
    run(&net, &mut [&mut turn], &mut [], |_| false);
    assert_eq!(client.connected(), Some(Err(errno::ECONNREFUSED)), "the rest of the world was not paused");
    assert!(served_at.is_some_and(|at| at > due + Duration::from_millis(1)), "{served_at:?}");
}

#[test]
fn actors_are_called_at_the_time_they_asked_for() {
    let net = Net::new(0, Faults::none());
    net.alarm(seconds(2));
    let mut called = Vec::new();
    run(&net, &mut [], &mut [&mut |net| called.push(net.now())], |_| false);
    assert_eq!(called, [seconds(0), seconds(2)]);
}

#[test]
fn open_sockets_are_listed_and_a_dead_process_holds_none() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let id = driver.id();
    let (sock, end) = connected(&net, &mut driver);
    net.advance_to(seconds(3));
    let open = net.open_sockets(id);
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].sock, open[0].token, open[0].age), (sock, Some(T), Duration::from_secs(3)));
    assert!(end.other_side_is_open());
    drop(driver);
    while net.step() {}
    assert!(end.saw_fin() && !end.other_side_is_open() && net.open_sockets(id).is_empty());
    assert_eq!(net.totals(id), Totals { opened: 1, closed: 1 });
}

#[test]
#[should_panic(expected = "still holds 1 connections")]
fn a_leaked_connection_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let _ = connected(&net, &mut driver);
    net.assert_no_connection_left(driver.id());
}

#[test]
#[should_panic(expected = "close on socket 1 (connection 10.0.0.1:32769 to 10.0.0.2:80)")]
fn closing_twice_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let (sock, _) = connected(&net, &mut driver);
    driver.close(sock, Close::Orderly);
    driver.close(sock, Close::Reset);
}

#[test]
#[should_panic(expected = "but it was closed (Reset) at ")]
fn reading_a_closed_socket_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let (sock, _) = connected(&net, &mut driver);
    driver.close(sock, Close::Reset);
    driver.recv(sock, &mut [0; 9]);
}

#[test]
#[should_panic(expected = "which is held by Driver(DriverId(0)), not by DriverId(1)")]
fn using_the_socket_of_another_worker_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let mut other = SimDriver::new(&net, node());
    let (sock, _) = connected(&net, &mut driver);
    other.send(sock, b"x");
}

#[test]
#[should_panic(expected = "which is watched already as Token(7)")]
fn watching_twice_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let (sock, _) = connected(&net, &mut driver);
    let _ = driver.watch(sock, Token(8));
}

#[test]
#[should_panic(expected = "livelock at ")]
fn a_node_that_never_comes_to_rest_is_noticed() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    let mut turn = || driver.poll(&mut Vec::new(), Some(Instant::START));
    run(&net, &mut [&mut turn], &mut [], |_| false);
}

#[test]
#[should_panic(expected = "no end after 1000 steps")]
fn a_run_without_end_is_noticed() {
    let net = Net::new(0, Faults::none());
    net.limit_steps(1000);
    let mut driver = SimDriver::new(&net, node());
    let mut turn = || {
        let soon = driver.now() + Duration::from_millis(1);
        driver.poll(&mut Vec::new(), Some(soon));
    };
    run(&net, &mut [&mut turn], &mut [], |_| false);
}

#[test]
fn a_host_answers_echo_requests_unless_it_is_gone() {
    let table = [
        (Way::Open, Recv::Bytes(9)),
        (Way::Unreachable, Recv::Failed(errno::EHOSTUNREACH)),
        (Way::BlackHole, Recv::Dry),
    ];
    for (way, expected) in table {
        let net = Net::new(0, Faults::none());
        let mut driver = SimDriver::new(&net, node());
        net.set_way_to_host(backend().ip(), way);
        let sock = driver.dial_icmp(backend().ip(), Source::Kernel, T).expect("nothing is short");
        assert_eq!(driver.send(sock, b"\x08\0\0\0\0\0\0\x01!"), Send::Taken(9));
        while net.step() {}
        let mut reply = [0; 9];
        assert_eq!(driver.recv(sock, &mut reply), expected, "{way:?}");
        assert!(way != Way::Open || reply == *b"\0\0\0\0\0\0\0\x01!", "{reply:?}");
    }
}

#[test]
fn a_node_without_the_right_cannot_send_echo_requests() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    net.forbid_echo();
    assert_eq!(driver.dial_icmp(backend().ip(), Source::Kernel, T), Err(errno::EPERM));
}

#[test]
fn a_sparing_host_refuses_six_at_once_and_one_a_second_and_counts_by_sender() {
    let net = Net::new(0, Faults::none());
    let mut driver = SimDriver::new(&net, node());
    net.set_refuses(backend().ip(), Refuses::Sparingly);
    let mut refused = |from: Source| {
        let sock = driver.dial_udp(backend(), from, T).expect("nothing is short");
        driver.send(sock, b"ping");
        while net.step() {}
        let refused = driver.recv(sock, &mut [0; 9]) == Recv::Failed(errno::ECONNREFUSED);
        driver.close(sock, Close::Orderly);
        refused
    };
    let burst: Vec<bool> = (0..8).map(|_| refused(Source::Kernel)).collect();
    assert_eq!(burst, [true, true, true, true, true, true, false, false]);
    assert!(refused(Source::Own(Ipv4Addr::new(10, 0, 0, 3).into())), "another sender has a budget of its own");
    net.advance_to(net.now() + Duration::from_secs(1));
    assert_eq!([refused(Source::Kernel), refused(Source::Kernel)], [true, false]);
    net.set_refuses(backend().ip(), Refuses::Never);
    net.advance_to(net.now() + Duration::from_secs(60));
    assert!(!refused(Source::Kernel));
}
