//! What the kernel makes of the options a socket is given. Most of it shows only in a network namespace, where the
//! test may count packets and say what the way is like; each test's is its thread's and goes with it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_reactor::epoll::{EpollDriver, bind_tcp, bind_udp};
use evenkeel_reactor::{
    Batch, Clock, Close, Dial, Driver, Errno, Event, ListenOptions, SendMany, Sock, Source, TcpOptions, Token, errno,
};
use nix::sched::{CloneFlags, unshare};
use rustix::net::sockopt;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

const PATIENCE: Duration = Duration::from_secs(20);

const SECOND: Duration = Duration::from_secs(1);

fn driver() -> EpollDriver {
    EpollDriver::new(Clock::start().0).expect("an epoll file can be had")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn local(fd: impl AsFd) -> SocketAddr {
    let address = rustix::net::getsockname(fd).expect("a bound socket has an address");
    address.try_into().expect("it is an internet address")
}

/// Runs a test on a thread with a network of its own, unless this machine does not let us.
fn in_a_network_of_its_own(test: fn()) {
    let thread = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || !try_run("ip link set lo up") {
            eprintln!("skipped: it needs root and ip, to make network namespaces");
            return;
        }
        test();
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn try_run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a name");
    Command::new(program).args(words).status().is_ok_and(|status| status.success())
}

fn run(command: &str) {
    assert!(try_run(command), "{command}");
}

fn wait(driver: &mut EpollDriver, wanted: impl Fn(&Event) -> bool) -> Event {
    let until = driver.now() + PATIENCE;
    let mut events = Vec::new();
    while driver.now() < until {
        driver.poll(&mut events, Some(until));
        if let Some(event) = events.iter().find(|event| wanted(event)) {
            return *event;
        }
    }
    panic!("the event did not come within {PATIENCE:?}");
}

fn events_now(driver: &mut EpollDriver) -> Vec<Event> {
    let mut events = Vec::new();
    let now = driver.now();
    driver.poll(&mut events, Some(now));
    events
}

/// A listener with such options, a connection to it as the client sees it, and as we do.
fn connected(driver: &mut EpollDriver, options: &ListenOptions) -> (Sock, TcpStream, Sock) {
    let listener = driver
        .listen(bind_tcp(loopback(0), options).expect("loopback has a free port"), Token(1))
        .expect("nothing is short");
    let at = driver.local_address(listener).expect("a listener has an address");
    let client = TcpStream::connect(at).expect("we listen");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let (sock, _) = driver.accept(listener).expect("nothing is short").expect("it is connected");
    (listener, client, sock)
}

/// Keepalive, its three numbers, user timeout and whether small packets go at once.
fn tcp_options(fd: BorrowedFd<'_>) -> (bool, Duration, Duration, u32, u32, bool) {
    (
        sockopt::socket_keepalive(fd).expect("it can be asked"),
        sockopt::tcp_keepidle(fd).expect("it can be asked"),
        sockopt::tcp_keepintvl(fd).expect("it can be asked"),
        sockopt::tcp_keepcnt(fd).expect("it can be asked"),
        sockopt::tcp_user_timeout(fd).expect("it can be asked"),
        sockopt::tcp_nodelay(fd).expect("it can be asked"),
    )
}

fn accepted_by(listener: &OwnedFd) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(local(listener)).expect("we listen");
    let listener = TcpListener::from(listener.try_clone().expect("a file can be had"));
    listener.set_nonblocking(false).expect("a listener can wait");
    (client, listener.accept().expect("it is connected").0)
}

#[test]
fn accepted_connections_inherit_what_the_listener_was_told_and_a_reload_changes_it_for_new_ones() {
    let tcp = TcpOptions { keepalive: Some(60 * SECOND), user_timeout: Some(30 * SECOND) };
    let options = ListenOptions { tcp, ..ListenOptions::plain(16) };
    let bound = bind_tcp(loopback(0), &options).expect("loopback has a free port");
    let (_client, before) = accepted_by(&bound);
    let (interval, probes) = (10 * SECOND, limits::KEEPALIVE_PROBES.value as u32);
    assert_eq!(tcp_options(before.as_fd()), (true, 60 * SECOND, interval, probes, 30_000, true));

    let mut driver = driver();
    let sock = driver.listen(bound.try_clone().expect("a file can be had"), Token(1)).expect("nothing is short");
    driver.tune(sock, &ListenOptions::plain(32));
    let (_client, after) = accepted_by(&bound);
    assert_eq!(tcp_options(before.as_fd()), (true, 60 * SECOND, interval, probes, 30_000, true));
    let (keepalive, _, _, _, user_timeout, nodelay) = tcp_options(after.as_fd());
    assert_eq!((keepalive, user_timeout, nodelay), (false, 0, true));
}

#[test]
fn a_new_backlog_holds_from_then_on() {
    let mut driver = driver();
    let bound = bind_tcp(loopback(0), &ListenOptions::plain(1)).expect("loopback has a free port");
    let at = local(&bound);
    let sock = driver.listen(bound, Token(1)).expect("nothing is short");
    // Linux lets one more in than it was told.
    let dial = |driver: &mut EpollDriver, token| driver.dial(Dial::to(at), Token(token)).expect("nothing is short");
    let waiting: Vec<Sock> = (2..4).map(|token| dial(&mut driver, token)).collect();
    let third = dial(&mut driver, 4);
    assert!(waiting.iter().all(|&sock| driver.connected(sock) == Some(Ok(()))));
    assert_eq!(driver.connected(third), None, "its SYN was dropped");
    driver.tune(sock, &ListenOptions::plain(8));
    let fourth = dial(&mut driver, 5);
    assert_eq!(driver.connected(fourth), Some(Ok(())));
}

#[test]
fn a_deferred_connection_is_told_of_when_it_has_sent_something() {
    in_a_network_of_its_own(|| {
        let mut driver = driver();
        let options = ListenOptions { defer_accept: Some(3 * SECOND), ..ListenOptions::plain(16) };
        let bound = bind_tcp(loopback(0), &options).expect("loopback has a free port");
        let at = local(&bound);
        let listener = driver.listen(bound, Token(1)).expect("nothing is short");
        let mut client = TcpStream::connect(at).expect("we listen");
        assert_eq!(events_now(&mut driver), []);
        assert_eq!(driver.accept(listener), Ok(None));
        client.write_all(b"hello").expect("we listen");
        wait(&mut driver, |event| event.token == Token(1) && event.readable);
        let (sock, _) = driver.accept(listener).expect("nothing is short").expect("the event said so");
        assert_eq!(driver.recv(sock, &mut [0; 100]), evenkeel_reactor::Recv::Bytes(5));
    });
}

#[test]
fn data_in_the_first_packet_is_taken_where_it_is_allowed() {
    in_a_network_of_its_own(|| {
        // Clients and servers, both without cookies.
        run("sysctl -qw net.ipv4.tcp_fastopen=519");
        for (queue, taken) in [(16, 1), (0, 0)] {
            let before = fast_opened();
            let options = ListenOptions { fast_open: queue, ..ListenOptions::plain(16) };
            let bound = bind_tcp(loopback(0), &options).expect("loopback has a free port");
            let client = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .expect("a file can be had");
            // MSG_FASTOPEN, which rustix has no name for.
            let in_the_first_packet = rustix::net::SendFlags::from_bits_retain(0x2000_0000);
            let sent = rustix::net::sendto(&client, b"hello", in_the_first_packet, &local(&bound));
            assert_eq!(sent, Ok(5));
            assert_eq!(fast_opened() - before, taken, "with a queue of {queue}");
        }
    });
}

/// Connections of this namespace whose first packet had data that was taken.
fn fast_opened() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").expect("the kernel counts");
    let mut lines = text.lines();
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let found = names.split(' ').zip(numbers.split(' ')).find(|(name, _)| *name == "TCPFastOpenPassive");
    found.expect("it is counted").1.parse().expect("a number")
}

/// Packets that left this namespace with FIN or RST.
fn endings_sent() -> u64 {
    let listed = Command::new("nft").args(["list", "counter", "ip", "t", "endings"]).output().expect("nft runs");
    let text = String::from_utf8(listed.stdout).expect("nft prints text");
    let mut words = text.split_whitespace().skip_while(|&word| word != "packets");
    words.nth(1).expect("a counter has a number").parse().expect("a number")
}

fn count_endings() -> bool {
    try_run("nft add table ip t")
        && try_run("nft add counter ip t endings")
        && try_run("nft add chain ip t out { type filter hook output priority 0 ; }")
        && try_run("nft add rule ip t out tcp flags & (fin | rst) != 0 counter name endings")
}

#[test]
fn a_silent_close_sends_nothing_and_the_next_word_of_the_client_meets_no_connection() {
    in_a_network_of_its_own(|| {
        if !count_endings() {
            eprintln!("skipped: it needs nft");
            return;
        }
        // What waits unread makes no difference.
        for words in [&b""[..], b"hello"] {
            let mut driver = driver();
            let (_, mut client, sock) = connected(&mut driver, &ListenOptions::plain(16));
            client.write_all(words).expect("it is connected");
            let before = endings_sent();
            driver.close(sock, Close::Silent);
            assert_eq!(endings_sent() - before, 0);
            client.set_nonblocking(true).expect("a socket can be non-blocking");
            assert_eq!(client.read(&mut [0; 10]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
            client.write_all(b"anybody?").expect("the client thinks so");
            assert_eq!(endings_sent() - before, 1, "Linux answers what belongs to no connection");
            assert_eq!(client.read(&mut [0; 10]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        }
    });
}

/// The thread gives up what makes it the master of its network.
fn without_rights() {
    let mut sets = capabilities(None).expect("they can be asked");
    sets.effective.remove(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
    set_capabilities(None, sets).expect("they can be given up");
}

#[test]
fn without_the_right_a_silent_close_is_a_reset_and_a_foreign_source_is_refused() {
    in_a_network_of_its_own(|| {
        let mut driver = driver();
        let (listener, mut client, sock) = connected(&mut driver, &ListenOptions::plain(16));
        without_rights();
        driver.close(sock, Close::Silent);
        assert_eq!(client.read(&mut [0; 10]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
        let to = driver.local_address(listener).expect("a listener has an address");
        let from = Source::Foreign(Ipv4Addr::new(192, 0, 2, 9).into());
        let open = driver.open_sockets();
        assert_eq!(driver.dial(Dial { from, ..Dial::to(to) }, Token(2)), Err(errno::EPERM));
        assert_eq!(driver.dial_udp(to, from, Token(2)), Err(errno::EPERM));
        assert_eq!(driver.open_sockets(), open);
    });
}

#[test]
fn a_source_that_is_not_ours_is_an_error() {
    let mut driver = driver();
    for (to, from) in [("127.0.0.1:9", "192.0.2.9"), ("[::1]:9", "2001:db8::9")] {
        let (to, from) = (to.parse().expect("an address"), Source::Own(from.parse().expect("an address")));
        assert_eq!(driver.dial(Dial { from, ..Dial::to(to) }, Token(2)), Err(errno::EADDRNOTAVAIL));
        assert_eq!(driver.dial_udp(to, from, Token(2)), Err(errno::EADDRNOTAVAIL));
    }
    // One of the other family is the kernel's to refuse as well.
    let wrong = Source::Own("::1".parse().expect("an address"));
    assert!(driver.dial(Dial { from: wrong, ..Dial::to(loopback(9)) }, Token(2)).is_err());
    assert_eq!(driver.open_sockets(), 0);
}

#[test]
fn a_source_address_has_its_ports_once_for_each_destination() {
    in_a_network_of_its_own(|| {
        run("sysctl -qw net.ipv4.ip_local_port_range=50000\t50003");
        let mut driver = driver();
        let backends: Vec<OwnedFd> = (1..=8)
            .map(|last| {
                let at = (Ipv4Addr::new(127, 0, 1, last), 80).into();
                bind_tcp(at, &ListenOptions::plain(64)).expect("the port is free here")
            })
            .collect();
        let from = Source::Own(Ipv4Addr::new(127, 0, 0, 2).into());
        let mut dialled = Vec::new();
        for backend in &backends {
            for _ in 0..4 {
                let sock = driver.dial(Dial { from, ..Dial::to(local(backend)) }, Token(2)).expect("a port is left");
                assert_eq!(driver.connected(sock), Some(Ok(())));
                dialled.push(driver.local_address(sock).expect("it is connected"));
            }
        }
        assert_eq!(dialled.len(), 32);
        assert!(dialled.iter().all(|local| (50_000..=50_003).contains(&local.port())));
        let again = driver.dial(Dial { from, ..Dial::to(local(&backends[0])) }, Token(2));
        assert_eq!(again, Err(errno::EADDRNOTAVAIL));
        // Of datagrams an address has each port once.
        let to = (Ipv4Addr::new(127, 0, 1, 1), 53).into();
        let ports: Vec<Result<Sock, Errno>> = (0..5).map(|_| driver.dial_udp(to, from, Token(3))).collect();
        assert!(ports[..4].iter().all(Result::is_ok), "{ports:?}");
        assert_eq!(ports[4], Err(errno::EADDRNOTAVAIL));
    });
}

#[test]
fn dialled_connections_are_watched_by_the_kernel() {
    in_a_network_of_its_own(|| {
        let mut driver = driver();
        let backend = TcpListener::bind(loopback(0)).expect("loopback has a free port");
        let to = backend.local_addr().expect("it is bound");
        for (keepalive, watched) in [(Some(7 * SECOND), true), (None, false)] {
            let options = TcpOptions { keepalive, user_timeout: Some(3 * SECOND) };
            let sock = driver.dial(Dial { options, ..Dial::to(to) }, Token(2)).expect("nothing is short");
            // The kernel's own view of a socket that the driver holds.
            let seen = Command::new("ss").args(["-Htno", "dst", &to.to_string()]).output();
            let seen = String::from_utf8(seen.expect("ss runs").stdout).expect("ss prints text");
            assert_eq!(seen.contains("timer:(keepalive,"), watched, "{seen:?}");
            driver.close(sock, Close::Reset);
        }
    });
}

#[test]
fn a_connection_from_a_foreign_address_shows_it_to_the_backend() {
    in_a_network_of_its_own(|| {
        // The backends' host, on another thread: it says where it is, then waits to be told that all is done.
        let (here, there) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let backend = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("it worked a moment ago");
            let thread = rustix::thread::gettid().as_raw_nonzero();
            here.0.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).expect("the test waits");
            there.1.recv().expect("the test goes on");
            for command in [
                "ip addr add 10.99.0.2/24 dev veth1",
                "ip -6 addr add fd99::2/64 dev veth1 nodad",
                "ip link set veth1 up",
                "ip route add default via 10.99.0.1",
                "ip -6 route add default via fd99::1",
            ] {
                run(command);
            }
            let sockets = ["10.99.0.2:80", "[fd99::2]:80"].map(|at| {
                (TcpListener::bind(at).expect("the port is free"), UdpSocket::bind(at).expect("the port is free"))
            });
            here.0.send(String::new()).expect("the test waits");
            sockets.map(|(listener, udp)| {
                udp.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
                let (mut stream, client) = listener.accept().expect("somebody dials");
                stream.write_all(b"hello").expect("it is connected");
                let (_, sender) = udp.recv_from(&mut [0; 10]).expect("somebody asks");
                udp.send_to(b"answer", sender).expect("there is a way back");
                (client.ip(), sender.ip())
            })
        });
        let namespace = here.1.recv().expect("the backend starts");
        for command in [
            "ip link add veth0 type veth peer name veth1",
            &format!("ip link set veth1 netns {namespace}"),
            "ip addr add 10.99.0.1/24 dev veth0",
            "ip -6 addr add fd99::1/64 dev veth0 nodad",
            "ip link set veth0 up",
            // What the manual asks for: answers to the clients come to us.
            "ip rule add iif veth0 lookup 100",
            "ip route add local default dev lo table 100",
            "ip -6 rule add iif veth0 lookup 100",
            "ip -6 route add local default dev lo table 100",
        ] {
            run(command);
        }
        there.0.send(()).expect("the backend waits");
        here.1.recv().expect("the backend listens");
        let mut driver = driver();
        let table = [("10.99.0.2:80", "192.0.2.9"), ("[fd99::2]:80", "2001:db8::9")];
        for ((to, client), token) in table.into_iter().zip([2, 4]) {
            let to: SocketAddr = to.parse().expect("an address");
            let from = Source::Foreign(client.parse().expect("an address"));
            let sock = driver.dial(Dial { from, ..Dial::to(to) }, Token(token)).expect("we may");
            wait(&mut driver, |event| event.token == Token(token) && event.readable);
            assert_eq!(driver.recv(sock, &mut [0; 10]), evenkeel_reactor::Recv::Bytes(5));
            let sock = driver.dial_udp(to, from, Token(token + 1)).expect("we may");
            assert_eq!(driver.send(sock, b"ask"), evenkeel_reactor::Send::Taken(3));
            wait(&mut driver, |event| event.token == Token(token + 1) && event.readable);
            assert_eq!(driver.recv(sock, &mut [0; 10]), evenkeel_reactor::Recv::Bytes(6));
        }
        let seen = backend.join().expect("the backend is content");
        let clients = table.map(|(_, client)| client.parse().expect("an address"));
        assert_eq!(seen, clients.map(|client| (client, client)));
    });
}

#[test]
fn a_segment_that_the_way_does_not_take_goes_in_pieces() {
    in_a_network_of_its_own(|| {
        // Larger datagrams are cut into fragments, and Linux does not do that to several at once.
        run("ip link set lo mtu 1500");
        for at in ["127.0.0.1:0", "0.0.0.0:0"] {
            let mut driver = driver();
            let bound = bind_udp(at.parse().expect("an address")).expect("loopback has a free port");
            let listener = driver.listen_udp(bound, Token(1)).expect("nothing is short");
            let far = UdpSocket::bind(loopback(0)).expect("loopback has a free port");
            far.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            let to = far.local_addr().expect("it is bound");
            let dialled = driver.dial_udp(to, Source::Kernel, Token(2)).expect("nothing is short");
            let mut batch = Batch::new();
            for number in 0..10 {
                // Small ones again behind the large ones.
                let size = if number < 6 { 3000 } else { 1000 };
                assert!(batch.push(to, Some(Ipv4Addr::LOCALHOST.into()), &[&vec![number; size]]));
            }
            for sock in [listener, dialled, dialled] {
                assert_eq!(driver.send_many(sock, &batch, 0..10), SendMany { taken: 10, failed: None }, "{at}");
                let mut space = [0; 4000];
                for number in 0..10 {
                    let bytes = far.recv(&mut space).expect("it comes");
                    assert_eq!((bytes, space[0]), (batch.bytes(number).len(), number as u8), "{at}");
                }
            }
        }
    });
}

#[test]
fn a_full_socket_keeps_the_rest_back_and_tells_of_room() {
    in_a_network_of_its_own(|| {
        // A slow way: what waits for it still counts as the socket's.
        if !try_run("tc qdisc add dev lo root tbf rate 200mbit burst 10kb limit 10mb") {
            eprintln!("skipped: it needs tc with tbf");
            return;
        }
        let mut driver = driver();
        // With room for all that can be on its way.
        let far = UdpSocket::from(bind_udp(loopback(0)).expect("loopback has a free port"));
        let to = far.local_addr().expect("it is bound");
        let sock = driver.dial_udp(to, Source::Kernel, Token(2)).expect("nothing is short");
        let mut batch = Batch::new();
        // Of sizes that cannot go together.
        for number in 0..32_u8 {
            assert!(batch.push(to, None, &[&vec![number; 1000 + usize::from(number)]]));
        }
        let (mut sent, mut received, mut refusals) = (0, 0, 0);
        let mut take = |far: &UdpSocket| {
            let mut space = [0; 2000];
            while let Ok(bytes) = far.recv(&mut space) {
                assert_eq!((bytes, space[0]), (1000 + received % 32, (received % 32) as u8));
                received += 1;
            }
            received
        };
        while refusals < 3 {
            let at = sent % 32;
            let now = driver.send_many(sock, &batch, at..32);
            assert_eq!(now.failed, None);
            sent += now.taken;
            if now.taken < 32 - at {
                refusals += 1;
                wait(&mut driver, |event| event.token == Token(2) && event.writable);
            }
            take(&far);
        }
        while take(&far) < sent {
            rustix::event::poll(&mut [rustix::event::PollFd::new(&far, rustix::event::PollFlags::IN)], None)
                .expect("a socket can be waited for");
        }
    });
}
