//! What the other side, and whoever dials, see of sockets that the real driver dials again: nothing.
//!
//! A connection that is taken for the one before it would make probes pass that should fail.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use evenkeel_model::limits;
use evenkeel_reactor::epoll::EpollDriver;
use evenkeel_reactor::{Clock, Close, Dial, Driver, Event, Handshake, Life, Recv, Send, Sock, Token, errno};

const PATIENCE: Duration = Duration::from_secs(20);

fn driver() -> EpollDriver {
    EpollDriver::new(Clock::start().0).expect("an epoll file can be had")
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

fn again(to: SocketAddr, handshake: Handshake) -> Dial {
    Dial { handshake, life: Life::Again, ..Dial::to(to) }
}

/// The next event; it must be of `token`.
fn next(driver: &mut EpollDriver, token: Token) -> Event {
    let until = driver.now() + PATIENCE;
    let mut events = Vec::new();
    while driver.now() < until {
        driver.poll(&mut events, Some(until));
        if let Some(event) = events.first() {
            assert_eq!((event.token, events.len()), (token, 1), "{events:?}");
            return *event;
        }
    }
    panic!("no event came within {PATIENCE:?}");
}

fn no_event(driver: &mut EpollDriver) {
    let mut events = Vec::new();
    let now = driver.now();
    driver.poll(&mut events, Some(now));
    assert_eq!(events, [], "nobody is interested in this");
}

/// Dials and waits until it is decided.
fn dialled(driver: &mut EpollDriver, dial: Dial, token: Token) -> Sock {
    let sock = driver.dial(dial, token).expect("nothing is short");
    next(driver, token);
    assert_eq!(driver.connected(sock), Some(Ok(())));
    sock
}

#[test]
fn a_reset_connection_leaves_nothing_to_the_next_one_of_its_socket() {
    let mut driver = driver();
    let ((first, first_at), (second, second_at)) = (listener(), listener());
    let sock = dialled(&mut driver, again(first_at, Handshake::Full), Token(1));
    let (mut backend, _) = first.accept().expect("a connection waits");
    // Unread on our side, and half of an answer.
    backend.write_all(b"old").expect("it is connected");
    next(&mut driver, Token(1));
    assert_eq!(driver.send(sock, b"bye"), Send::Taken(3));
    let old_port = driver.local_address(sock);
    driver.close(sock, Close::Reset);
    let mut got = Vec::new();
    let end = backend.read_to_end(&mut got).expect_err("it was reset");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);

    let sock = dialled(&mut driver, again(second_at, Handshake::Full), Token(2));
    assert_eq!((driver.open_sockets(), driver.idle_sockets()), (1, 0), "the socket of before");
    let (mut backend, from) = second.accept().expect("a connection waits");
    assert_eq!(Some(from), driver.local_address(sock));
    assert_ne!(Some(from), old_port, "each connection has a port of its own");
    assert_eq!(driver.recv(sock, &mut [0; 16]), Recv::Dry, "what the first backend said is gone");
    backend.write_all(b"new").expect("it is connected");
    assert!(next(&mut driver, Token(2)).readable);
    let mut got = [0; 16];
    assert_eq!(driver.recv(sock, &mut got), Recv::Bytes(3));
    assert_eq!(&got[..3], b"new");
}

#[test]
fn half_open_dials_stay_half_open_again_and_again() {
    let mut driver = driver();
    let (listener, address) = listener();
    listener.set_nonblocking(true).expect("a listener takes the option");
    for number in 0..5 {
        let sock = dialled(&mut driver, again(address, Handshake::HalfOpen), Token(number));
        driver.close(sock, Close::Reset);
        no_event(&mut driver);
    }
    assert_eq!((driver.open_sockets(), driver.idle_sockets()), (0, 1));
    let accepted = listener.accept().expect_err("the application never saw a connection");
    assert_eq!(accepted.kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_first_bytes_of_a_half_open_connection_complete_it() {
    let mut driver = driver();
    let (listener, address) = listener();
    let sock = dialled(&mut driver, again(address, Handshake::HalfOpen), Token(1));
    assert_eq!(driver.send(sock, b"hello"), Send::Taken(5));
    let (mut backend, _) = listener.accept().expect("a connection waits");
    let mut got = [0; 5];
    backend.read_exact(&mut got).expect("it is connected");
    assert_eq!(&got, b"hello");
}

#[test]
fn a_refused_dial_is_told_each_time_and_spoils_no_later_one() {
    let mut driver = driver();
    let (listener, open) = listener();
    let closed = {
        let (gone, address) = self::listener();
        drop(gone);
        address
    };
    for number in 0..3 {
        let refused = driver.dial(again(closed, Handshake::Full), Token(number)).expect("it is decided later");
        next(&mut driver, Token(number));
        assert_eq!(driver.connected(refused), Some(Err(errno::ECONNREFUSED)));
        driver.close(refused, Close::Reset);
        let sock = dialled(&mut driver, again(open, Handshake::Full), Token(10 + number));
        let _held = listener.accept().expect("a connection waits");
        assert_eq!(driver.recv(sock, &mut [0; 16]), Recv::Dry, "no error is left of the refusal");
        driver.close(sock, Close::Reset);
    }
}

#[test]
fn a_connection_that_the_other_side_closed_ends_in_good_order_and_its_socket_comes_back() {
    let mut driver = driver();
    let (listener, address) = listener();
    for number in 0..3 {
        let sock = dialled(&mut driver, again(address, Handshake::Full), Token(number));
        let (mut backend, _) = listener.accept().expect("a connection waits");
        backend.shutdown(std::net::Shutdown::Write).expect("it is connected");
        assert!(next(&mut driver, Token(number)).hangup);
        driver.close(sock, Close::Orderly);
        assert_eq!(backend.read(&mut [0; 16]).expect("no reset came"), 0, "a FIN");
        no_event(&mut driver);
    }
    assert_eq!((driver.open_sockets(), driver.idle_sockets()), (0, 1), "one socket did them all");
}

#[test]
fn an_orderly_close_before_the_other_side_has_closed_is_left_to_the_kernel() {
    let mut driver = driver();
    let (listener, address) = listener();
    let sock = dialled(&mut driver, again(address, Handshake::Full), Token(1));
    let (mut backend, _) = listener.accept().expect("a connection waits");
    assert_eq!(driver.send(sock, b"last word"), Send::Taken(9));
    driver.close(sock, Close::Orderly);
    assert_eq!((driver.open_sockets(), driver.idle_sockets()), (0, 0));
    let mut got = Vec::new();
    backend.read_to_end(&mut got).expect("no reset overtook the bytes");
    assert_eq!(got, b"last word");
}

#[test]
fn no_more_sockets_are_kept_than_the_limit_says() {
    let mut driver = driver();
    let (_listener, address) = listener();
    let most = limits::SPARE_SOCKETS.value as usize;
    let dial = again(address, Handshake::HalfOpen);
    let socks: Vec<Sock> =
        (0..most + 10).map(|token| driver.dial(dial, Token(token as u64)).expect("nothing is short")).collect();
    assert_eq!(driver.open_sockets(), most + 10);
    for sock in socks {
        driver.close(sock, Close::Reset);
    }
    assert_eq!((driver.open_sockets(), driver.idle_sockets()), (0, most));
    no_event(&mut driver);
}
