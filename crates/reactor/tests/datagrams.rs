//! Batches of datagrams on this machine's loopback: what only the real driver can show, such as which address an
//! answer leaves from, and what the kernel keeps together.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use evenkeel_reactor::epoll::{EpollDriver, bind_udp, udp_address_in_use};
use evenkeel_reactor::{Batch, Clock, Driver, Event, Recv, RecvMany, Send, SendMany, Sock, Source, Token, errno};

const PATIENCE: Duration = Duration::from_secs(20);

fn driver() -> EpollDriver {
    EpollDriver::new(Clock::start().0).expect("an epoll file can be had")
}

fn client(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("loopback has a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket
}

/// A listening socket, and its port.
fn listen(driver: &mut EpollDriver, at: &str, token: u64) -> (Sock, u16) {
    let address: SocketAddr = at.parse().expect("an address");
    let bound = bind_udp(address).expect("loopback has a free port");
    let sock = driver.listen_udp(bound, Token(token)).expect("nothing is short");
    let port = driver.local_address(sock).expect("a bound socket has an address").port();
    (sock, port)
}

fn wait(driver: &mut EpollDriver, token: u64) -> Event {
    let until = driver.now() + PATIENCE;
    let mut events = Vec::new();
    while driver.now() < until {
        driver.poll(&mut events, Some(until));
        if let Some(event) = events.iter().find(|event| event.token == Token(token)) {
            return *event;
        }
    }
    panic!("no event of {token} within {PATIENCE:?}");
}

/// Receives until so many datagrams are in the batch.
fn gather(driver: &mut EpollDriver, sock: Sock, token: u64, batch: &mut Batch, datagrams: u32) {
    while (0..batch.len()).map(|at| batch.datagrams(at)).sum::<u32>() < datagrams {
        match driver.recv_many(sock, batch) {
            RecvMany::Some { .. } => {}
            RecvMany::Dry => {
                wait(driver, token);
            }
            RecvMany::Failed(errno) => panic!("nothing failed: {errno:?}"),
        }
    }
}

fn flat(batch: &Batch) -> Vec<Vec<u8>> {
    (0..batch.len()).flat_map(|at| batch.each(at)).map(<[u8]>::to_vec).collect()
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut space = vec![0; 65_535];
    let (bytes, from) = socket.recv_from(&mut space).expect("it comes");
    space.truncate(bytes);
    (space, from)
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for (everywhere, loopbacks, at) in
        [("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"][..], "127.0.0.1:0"), ("[::]:0", &["::1"][..], "[::1]:0")]
    {
        let mut driver = driver();
        let (sock, port) = listen(&mut driver, everywhere, 1);
        let client = client(at);
        for loopback in loopbacks {
            let asked = SocketAddr::new(loopback.parse().expect("an address"), port);
            client.send_to(b"ping", asked).expect("loopback takes datagrams");
        }
        let mut batch = Batch::new();
        gather(&mut driver, sock, 1, &mut batch, loopbacks.len() as u32);
        assert_eq!(batch.peer(0), client.local_addr().expect("it is bound"));
        let sent = driver.send_many(sock, &batch, 0..batch.len());
        assert_eq!(sent, SendMany { taken: loopbacks.len(), failed: None });
        for loopback in loopbacks {
            assert_eq!(received(&client), (b"ping".to_vec(), SocketAddr::new(loopback.parse().expect("one"), port)));
        }
    }
}

#[test]
fn a_batch_goes_from_a_listener_to_a_backend_and_back() {
    let mut driver = driver();
    let (sock, port) = listen(&mut driver, "127.0.0.1:0", 1);
    let (clients, backend) = (["a", "bb", "ccc"].map(|_| client("127.0.0.1:0")), client("127.0.0.1:0"));
    for (number, client) in clients.iter().enumerate() {
        client.send_to(&vec![number as u8; 10 + number], ("127.0.0.1", port)).expect("loopback takes datagrams");
    }
    let mut batch = Batch::new();
    gather(&mut driver, sock, 1, &mut batch, 3);
    let to = backend.local_addr().expect("it is bound");
    let dialled = driver.dial_udp(to, Source::Kernel, Token(2)).expect("nothing is short");
    assert_eq!(driver.send_many(dialled, &batch, 0..3), SendMany { taken: 3, failed: None });
    for number in 0..3 {
        assert_eq!(received(&backend).0, vec![number as u8; 10 + number]);
    }
    assert_eq!(driver.send_many(sock, &batch, 0..3), SendMany { taken: 3, failed: None });
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(received(client).0, vec![number as u8; 10 + number]);
    }
    batch.clear();
    assert_eq!(driver.recv_many(sock, &mut batch), RecvMany::Dry);
    assert!(flat(&batch).is_empty());
}

/// Lets the driver send packets of these sizes to a client, and says what arrived there.
fn sent_to_a_client(sizes: &[usize], at: &str) -> (SendMany, Vec<Vec<u8>>) {
    let mut driver = driver();
    let (sock, _) = listen(&mut driver, at, 1);
    let client = client(if at.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" });
    let mut batch = Batch::new();
    for datagram in made(sizes) {
        let to = client.local_addr().expect("it is bound");
        // From where it goes to: on loopback that is an address of ours.
        assert!(batch.push(to, Some(to.ip()), &[&datagram]));
    }
    let sent = driver.send_many(sock, &batch, 0..batch.len());
    client.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut space = vec![0; 65_535];
    let arrived = std::iter::from_fn(|| client.recv(&mut space).ok().map(|bytes| space[..bytes].to_vec())).collect();
    (sent, arrived)
}

/// Datagrams of these sizes, each unlike the others.
fn made(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().enumerate().map(|(number, &size)| (0..size).map(|at| (at * 7 + number) as u8).collect()).collect()
}

#[test]
fn what_is_sent_as_one_arrives_as_what_it_was() {
    let table: [&[usize]; 9] = [
        &[1],
        &[100, 100, 100],
        &[100, 100, 40, 100, 100],
        &[100, 40, 100],
        &[40, 100],
        &[0, 0, 100, 0, 100],
        &[1200; 32],
        // More than one datagram's worth of bytes must not be put together.
        &[30_000; 5],
        &[65_507, 65_507, 1],
    ];
    for sizes in table {
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let (sent, arrived) = sent_to_a_client(sizes, at);
            assert_eq!(sent, SendMany { taken: sizes.len(), failed: None }, "{sizes:?} from {at}");
            assert!(arrived == made(sizes), "{sizes:?} from {at}");
        }
    }
}

#[test]
fn a_burst_to_a_listener_is_received_as_one_packet_and_forwarded_as_one() {
    let mut driver = driver();
    let (front, port) = listen(&mut driver, "127.0.0.1:0", 1);
    let (back, back_port) = listen(&mut driver, "127.0.0.1:0", 2);
    let client = driver.dial_udp(([127, 0, 0, 1], port).into(), Source::Kernel, Token(3)).expect("nothing is short");
    let sizes = [[1200; 10].as_slice(), &[700]].concat();
    let mut batch = Batch::new();
    for datagram in made(&sizes) {
        assert!(batch.push(([127, 0, 0, 1], port).into(), None, &[&datagram]));
    }
    assert_eq!(driver.send_many(client, &batch, 0..11), SendMany { taken: 11, failed: None });
    batch.clear();
    assert_eq!(driver.recv_many(front, &mut batch), RecvMany::Some { packets: 1, drained: true });
    assert_eq!((batch.segment(0), batch.datagrams(0), batch.bytes(0).len()), (Some(1200), 11, 12_700));
    batch.address(0, ([127, 0, 0, 1], back_port).into(), None);
    assert_eq!(driver.send_many(front, &batch, 0..1), SendMany { taken: 1, failed: None });
    batch.clear();
    assert_eq!(driver.recv_many(back, &mut batch), RecvMany::Some { packets: 1, drained: true });
    assert_eq!((batch.segment(0), flat(&batch)), (Some(1200), made(&sizes)));
    assert_eq!(batch.peer(0), ([127, 0, 0, 1], port).into());
}

#[test]
fn what_a_client_sent_as_one_is_forwarded_whole_however_many_it_is() {
    for (size, count) in [(1200, 3), (100, 64), (10, 128), (1, 100)] {
        let mut driver = driver();
        let (front, port) = listen(&mut driver, "127.0.0.1:0", 1);
        let backend = client("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::UdpGsoSegment, &size).expect("Linux 4.18");
        let bytes: Vec<u8> = (0..size * count).map(|at| (at % 251) as u8).collect();
        if client.send_to(&bytes, ("127.0.0.1", port)).is_err() {
            // Before Linux 6.9 there were 64 at most.
            assert!(count > 64);
            continue;
        }
        let to = backend.local_addr().expect("it is bound");
        let sock = driver.dial_udp(to, Source::Kernel, Token(2)).expect("nothing is short");
        let mut batch = Batch::new();
        gather(&mut driver, front, 1, &mut batch, count as u32);
        assert_eq!(driver.send_many(sock, &batch, 0..batch.len()), SendMany { taken: batch.len(), failed: None });
        for expected in bytes.chunks(size as usize) {
            assert_eq!(received(&backend).0, expected);
        }
    }
}

#[test]
fn a_dialled_socket_receives_bursts_as_one_packet_once_it_has_seen_one() {
    let mut driver = driver();
    let (backend, port) = listen(&mut driver, "127.0.0.1:0", 1);
    let sock = driver.dial_udp(([127, 0, 0, 1], port).into(), Source::Kernel, Token(2)).expect("nothing is short");
    let to = driver.local_address(sock).expect("a dialled socket has an address");
    let mut packets = Vec::new();
    for _ in 0..2 {
        let mut batch = Batch::new();
        for datagram in made(&[500; 8]) {
            assert!(batch.push(to, None, &[&datagram]));
        }
        assert_eq!(driver.send_many(backend, &batch, 0..8), SendMany { taken: 8, failed: None });
        batch.clear();
        gather(&mut driver, sock, 2, &mut batch, 8);
        assert!(flat(&batch) == made(&[500; 8]));
        packets.push(batch.len());
    }
    assert_eq!(packets, [8, 1]);
}

#[test]
fn a_refusal_over_ipv6_is_told_like_any_other() {
    let mut driver = driver();
    let gone = client("[::1]:0").local_addr().expect("it is bound");
    let sock = driver.dial_udp(gone, Source::Kernel, Token(1)).expect("nothing is short");
    assert_eq!(driver.send(sock, b"x"), Send::Taken(1));
    let event = wait(&mut driver, 1);
    assert!(event.hangup && event.readable);
    assert_eq!(driver.recv_many(sock, &mut Batch::new()), RecvMany::Failed(errno::ECONNREFUSED));
}

#[test]
fn a_plain_read_never_sees_two_datagrams_in_one() {
    let mut driver = driver();
    let (backend, port) = listen(&mut driver, "127.0.0.1:0", 1);
    let sock = driver.dial_udp(([127, 0, 0, 1], port).into(), Source::Kernel, Token(2)).expect("nothing is short");
    let to = driver.local_address(sock).expect("a dialled socket has an address");
    let mut batch = Batch::new();
    for datagram in made(&[500; 8]) {
        assert!(batch.push(to, None, &[&datagram]));
    }
    assert_eq!(driver.send_many(backend, &batch, 0..8), SendMany { taken: 8, failed: None });
    let mut space = [0; 65_535];
    for _ in 0..8 {
        assert_eq!(driver.recv(sock, &mut space), Recv::Bytes(500));
    }
    assert_eq!(driver.recv(sock, &mut space), Recv::Dry);
}

#[test]
fn room_is_not_told_of_unasked() {
    let mut driver = driver();
    let backend = client("127.0.0.1:0");
    let sock = driver
        .dial_udp(backend.local_addr().expect("it is bound"), Source::Kernel, Token(1))
        .expect("nothing is short");
    let mut events = Vec::new();
    let now = driver.now();
    driver.poll(&mut events, Some(now));
    assert_eq!(events, [], "a socket with room says nothing of it");
    assert_eq!(driver.send(sock, b"x"), Send::Taken(1));
    driver.poll(&mut events, Some(now));
    assert_eq!(events, [], "nor does it when it has sent");
}

#[test]
fn a_listener_has_the_room_it_asked_for_and_hears_one_family() {
    let v4 = bind_udp(([127, 0, 0, 1], 0).into()).expect("loopback has a free port");
    let room = rustix::net::sockopt::socket_recv_buffer_size(&v4).expect("it can be asked");
    let before = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let usual = rustix::net::sockopt::socket_recv_buffer_size(&before).expect("it can be asked");
    assert!(room >= usual, "{room} of {usual}");
    let v6 = bind_udp("[::]:0".parse().expect("an address")).expect("loopback has a free port");
    let port = UdpSocket::from(v6).local_addr().expect("it is bound").port();
    let other = UdpSocket::bind(("0.0.0.0", port));
    assert!(other.is_ok(), "an IPv6 listener leaves the IPv4 port to others: {other:?}");
}

#[test]
fn the_address_of_somebody_else_is_seen_before_it_is_shared() {
    let theirs = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let at = theirs.local_addr().expect("it is bound");
    assert!(udp_address_in_use(at));
    drop(theirs);
    assert!(!udp_address_in_use(at));
    let _ours = [(); 2].map(|()| bind_udp(at).expect("workers share an address"));
    assert!(udp_address_in_use(at));
}
