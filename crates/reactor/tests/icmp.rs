//! Echo requests, and what the way says of datagrams, as a kernel does them. Each test has a network namespace of its own,
//! and is skipped aloud where it may not have one.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use evenkeel_reactor::epoll::EpollDriver;
use evenkeel_reactor::{Clock, Driver, Recv, Send, Sock, Source, Token, errno};
use nix::sched::{CloneFlags, unshare};

const PATIENCE: Duration = Duration::from_secs(20);

const T: Token = Token(7);

fn in_a_network_of_its_own(test: fn(&mut EpollDriver)) {
    let thread = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || !try_run("ip link set lo up") {
            eprintln!("skipped: it needs root and ip, to make network namespaces");
            return;
        }
        test(&mut EpollDriver::new(Clock::start().0).expect("an epoll file can be had"));
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

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What comes next at a socket.
fn next(driver: &mut EpollDriver, sock: Sock) -> Result<Vec<u8>, i32> {
    let until = driver.now() + PATIENCE;
    let mut events = Vec::new();
    let mut space = [0; 100];
    while driver.now() < until {
        match driver.recv(sock, &mut space) {
            Recv::Bytes(bytes) => return Ok(space[..bytes].to_vec()),
            Recv::Failed(error) => return Err(error.0),
            Recv::Dry | Recv::End => driver.poll(&mut events, Some(until)),
        }
    }
    panic!("nothing came within {PATIENCE:?}");
}

/// A network on which nobody is but us, and a host that gives up on its neighbours soon.
fn lonely_network() {
    run("ip link add ours type veth peer name theirs");
    run("ip address add 10.9.0.1/24 dev ours");
    run("ip -6 address add fd09::1/64 dev ours nodad");
    run("ip link set ours up");
    run("ip link set theirs up");
    run("sysctl -qw net.ipv4.neigh.ours.retrans_time_ms=20");
    run("sysctl -qw net.ipv6.neigh.ours.retrans_time_ms=20");
}

#[test]
fn an_echo_request_comes_back_as_a_reply_with_the_same_payload() {
    in_a_network_of_its_own(|driver| {
        run("sysctl -qw net.ipv4.ping_group_range=0\t2147483647");
        for (host, request, reply) in [("127.0.0.1", 8, 0), ("::1", 128, 129)] {
            for from in [Source::Kernel, Source::Own(ip(host))] {
                let sock = driver.dial_icmp(ip(host), from, T).expect("we may");
                let asked = [request, 0, 0, 0, 0, 0, 0, 1, b'o', b'u', b'r', b's'];
                assert_eq!(driver.send(sock, &asked), Send::Taken(asked.len()));
                let answer = next(driver, sock).expect("loopback answers");
                assert_eq!((answer[0], &answer[6..]), (reply, &asked[6..]), "{host}");
            }
        }
    });
}

#[test]
fn without_the_right_to_echo_requests_dialling_says_so() {
    in_a_network_of_its_own(|driver| {
        // As a new network has it: for nobody, not even root.
        run("sysctl -qw net.ipv4.ping_group_range=1\t0");
        for host in ["127.0.0.1", "::1"] {
            assert_eq!(driver.dial_icmp(ip(host), Source::Kernel, T), Err(errno::EPERM));
        }
        assert_eq!(driver.open_sockets(), 0);
    });
}

#[test]
fn an_absent_neighbour_is_an_error_to_echo_requests_and_to_datagrams_that_want_to_hear_of_it() {
    in_a_network_of_its_own(|driver| {
        run("sysctl -qw net.ipv4.ping_group_range=0\t2147483647");
        lonely_network();
        for (host, request) in [("10.9.0.77", 8), ("fd09::77", 128)] {
            let echo = driver.dial_icmp(ip(host), Source::Kernel, T).expect("we may");
            assert_eq!(driver.send(echo, &[request, 0, 0, 0, 0, 0, 0, 1]), Send::Taken(8));
            assert_eq!(next(driver, echo), Err(errno::EHOSTUNREACH.0), "{host}");

            let to = SocketAddr::new(ip(host), 53);
            let [deaf, hearing] = [Token(1), Token(2)].map(|token| {
                let sock = driver.dial_udp(to, Source::Kernel, token).expect("nothing is short");
                if token == Token(2) {
                    driver.hear_unreachable(sock);
                }
                assert_eq!(driver.send(sock, b"anybody?"), Send::Taken(8));
                sock
            });
            assert_eq!(next(driver, hearing), Err(errno::EHOSTUNREACH.0), "{host}");
            assert_eq!(driver.recv(deaf, &mut [0; 9]), Recv::Dry, "the kernel has changed its mind");
        }
    });
}

#[test]
fn a_route_that_leads_nowhere_fails_the_dial() {
    in_a_network_of_its_own(|driver| {
        run("sysctl -qw net.ipv4.ping_group_range=0\t2147483647");
        assert_eq!(driver.dial_icmp(ip("192.0.2.1"), Source::Kernel, T), Err(errno::ENETUNREACH));
        run("ip route add prohibit 192.0.2.0/24");
        assert_eq!(driver.dial_icmp(ip("192.0.2.1"), Source::Kernel, T), Err(errno::EACCES));
        assert_eq!(driver.open_sockets(), 0);
    });
}
