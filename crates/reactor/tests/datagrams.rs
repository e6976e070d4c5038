//! Batches of datagrams on this machine's loopback: what only the real driver can show, such as which address an
//! answer leaves from, and what the kernel keeps together.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use evenkeel_reactor::epoll::{EpollDriver, bind_udp};
use evenkeel_reactor::{Batch, Clock, Driver, Event, RecvMany, SendMany, Sock, Source, Token};

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
