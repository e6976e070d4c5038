//! The echo server on both drivers, and on the simulated one under everything that can go wrong.
//!
//! What holds on real sockets must hold on virtual ones, and the other way round; a difference is a bug of the
//! simulation, found here before it misleads another room.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

use evenkeel_reactor::epoll::{EpollDriver, bind_tcp};
use evenkeel_reactor::sim::{Chance, End, Ended, Faults, Mark, Net, Segments, SimDriver, Strike, Totals, run, seeds};
use evenkeel_reactor::{Clock, ListenOptions};

use crate::echo::Echo;

/// What the clients of a run send: nothing, less than the server's buffer, and far more.
fn messages() -> Vec<Vec<u8>> {
    [0, 1, 63, 64, 65, 3000].into_iter().map(|size| (0..size).map(|byte| (byte % 251) as u8).collect()).collect()
}

struct Story {
    net: Net,
    totals: Totals,
    /// Each client's end and what it sent.
    clients: Vec<(End, Vec<u8>)>,
    ended: Ended,
    marks: Vec<Mark>,
}

/// Clients send and finish at once; the run goes on until nothing can happen any more.
fn simulate(seed: u64, faults: Faults) -> Story {
    let net = Net::new(seed, faults);
    let at = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 7);
    let sim = SimDriver::new(&net, at.ip());
    let driver = sim.id();
    let mut server = Echo::new(sim, at);
    let clients: Vec<(End, Vec<u8>)> =
        messages().into_iter().map(|message| (net.client_connect(at), message)).collect();
    for (end, message) in &clients {
        end.send(message);
        end.finish();
    }
    let mut close_when_done = |_: &Net| {
        for (end, _) in &clients {
            if end.saw_fin() || end.saw_reset() {
                end.close();
            }
        }
    };
    let ended = run(&net, &mut [&mut || server.turn()], &mut [&mut close_when_done], |_| false);
    net.assert_no_connection_left(driver);
    assert_eq!(server.open_connections(), 0, "SIM_SEED={seed}");
    let (totals, marks) = (net.totals(driver), net.marks());
    Story { net, totals, clients, ended, marks }
}

#[test]
fn every_byte_comes_back_over_an_awkward_network() {
    for seed in seeds(300) {
        let faults = Faults::awkward(seed);
        let story = simulate(seed, faults.clone());
        assert_eq!(story.ended, Ended::Quiet);
        for (end, message) in &story.clients {
            assert_eq!(&end.received(), message, "SIM_SEED={seed} {faults:?}");
            assert!(end.saw_fin() && !end.saw_reset(), "SIM_SEED={seed} {faults:?}");
        }
        assert_eq!(story.totals, Totals { opened: 7, closed: 6 }, "SIM_SEED={seed}: all but the listener");
    }
}

#[test]
fn under_faults_a_client_gets_a_prefix_and_the_server_keeps_nothing() {
    let (mut whole, mut cut) = (0, 0);
    for seed in seeds(1000) {
        let story = simulate(seed, Faults::from_seed(seed));
        for (end, message) in &story.clients {
            let received = end.received();
            assert!(message.starts_with(&received), "SIM_SEED={seed}: bytes that were never sent");
            if received.len() == message.len() { whole += 1 } else { cut += 1 }
        }
    }
    assert!(
        seeds(1000).len() == 1 || (whole > 1000 && cut > 100),
        "faults must sometimes hit: {whole} whole, {cut} cut"
    );
}

#[test]
fn a_strike_at_any_packet_is_survived() {
    for seed in seeds(8) {
        for strike in [Strike::Reset, Strike::BlackHole] {
            let mut struck = 0;
            for point in 0.. {
                let faults = Faults { strike: Some((point, strike)), ..Faults::awkward(seed) };
                // Byte by byte there would be thousands of points that differ in nothing.
                let faults = Faults { segments: Segments::Whole, ..faults };
                let faults = Faults { send_buffer: 1000, receive_window: 1000, ..faults };
                let story = simulate(seed, faults);
                if story.net.packets() <= point {
                    break;
                }
                struck += 1;
                let hurt = story.clients.iter().filter(|(end, _)| !end.saw_fin() || end.saw_reset()).count();
                assert!(hurt <= 1, "SIM_SEED={seed} {strike:?} at {point}: {hurt} of the others were hurt too");
                for (end, message) in &story.clients {
                    assert!(message.starts_with(&end.received()), "SIM_SEED={seed} {strike:?} at {point}");
                }
            }
            assert!(struck > 20, "SIM_SEED={seed}: only {struck} points");
        }
    }
}

#[test]
fn a_seed_replays_to_the_last_mark_and_another_one_differs() {
    let seeds = seeds(20);
    for &seed in &seeds {
        let first = simulate(seed, Faults::from_seed(seed)).marks;
        let second = simulate(seed, Faults::from_seed(seed)).marks;
        assert!(!first.is_empty());
        assert_eq!(first, second, "SIM_SEED={seed}");
    }
    // The same faults, so that only the dice differ.
    let one = simulate(1, Faults::from_seed(9)).marks;
    let other = simulate(2, Faults { jitter: std::time::Duration::from_millis(1), ..Faults::from_seed(9) }).marks;
    assert_ne!(one, other);
}

#[test]
fn every_byte_comes_back_over_the_real_driver() {
    let (clock, _) = Clock::start();
    let bound = bind_tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), &ListenOptions::plain(128))
        .expect("a loopback port can be had");
    let at: SocketAddr =
        rustix::net::getsockname(&bound).expect("it is bound").try_into().expect("it is an internet address");
    let mut server = Echo::new(EpollDriver::new(clock).expect("an epoll file can be had"), bound);
    let clients: Vec<_> = messages()
        .into_iter()
        .map(|message| {
            thread::spawn(move || {
                let mut reads = TcpStream::connect(at).expect("the server listens");
                let mut writes = reads.try_clone().expect("a file can be had");
                let sent = message.clone();
                let writer = thread::spawn(move || {
                    writes.write_all(&sent).expect("the server reads");
                    writes.shutdown(Shutdown::Write).expect("the server is there");
                });
                let mut received = Vec::new();
                reads.read_to_end(&mut received).expect("the server answers and closes");
                writer.join().expect("the writer ends");
                assert_eq!(received, message);
            })
        })
        .collect();
    while server.ended < clients.len() {
        server.turn();
    }
    for client in clients {
        client.join().expect("the client got what it sent");
    }
}

#[test]
fn a_listener_survives_running_out_of_files() {
    let net = Net::new(1, Faults::none());
    let at = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 7);
    let mut server = Echo::new(SimDriver::new(&net, at.ip()), at);
    net.change_faults(|faults| faults.accept_error = Chance::ALWAYS);
    let client = net.client_connect(at);
    client.send(b"hello");
    let reached = run(&net, &mut [&mut || server.turn()], &mut [], |net| net.now().as_nanos() > 1_000_000_000);
    assert_eq!(reached, Ended::Reached);
    assert_eq!(client.received_len(), 0);
    net.change_faults(|faults| faults.accept_error = Chance::NEVER);
    let reached = run(&net, &mut [&mut || server.turn()], &mut [], |_| client.received() == b"hello");
    assert_eq!(reached, Ended::Reached, "the connection waited in the queue and nothing new told of it");
}

#[test]
fn a_listener_survives_connections_that_die_in_the_queue() {
    let net = Net::new(1, Faults { accept_abort: Chance::per_mille(500), ..Faults::none() });
    let at = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 7);
    let mut server = Echo::new(SimDriver::new(&net, at.ip()), at);
    let clients: Vec<End> = (0..20).map(|_| net.client_connect(at)).collect();
    for client in &clients {
        client.send(b"hello");
    }
    let served = |client: &&End| client.received() == b"hello";
    run(&net, &mut [&mut || server.turn()], &mut [], |_| clients.iter().all(|end| end.saw_reset() || served(&end)));
    let died = clients.iter().filter(|client| client.saw_reset()).count();
    assert!((1..20).contains(&died), "{died} of 20");
    assert_eq!(clients.iter().filter(served).count(), 20 - died, "the others were served");
}
