//! What a datagram costs on its way into and out of this process, one by one and in batches: a table of nanoseconds.
//!
//! `datagrams [ROUNDS]` (2000). One thread does both sides in turn and times its own, so that waiting and other
//! processors stay out of it. On loopback, sending holds the kernel's work for the receiving side too.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use evenkeel_reactor::epoll::{EpollDriver, bind_udp};
use evenkeel_reactor::{Batch, Clock, Close, Driver, Recv, RecvMany, Send, Sock, Source, Token};

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map_or(Ok(2000), |text| text.parse()) {
        Ok(rounds) => rounds,
        Err(_) => {
            eprintln!("usage: datagrams [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    println!("{:>5} {:>4}  {:<44} {:>8}", "bytes", "wait", "", "ns each");
    for (bytes, waiting) in [(64, 1), (64, 8), (64, 32), (1200, 1), (1200, 8), (1200, 32)] {
        let mut bench = Bench::new(bytes, waiting, rounds);
        bench.row("recv", Bench::recv_one_by_one);
        bench.row("recv_many, a listener", Bench::recv_many_listener);
        bench.row("recv_many, dialled", Bench::recv_many_dialled);
        bench.row("send", Bench::send_one_by_one);
        bench.row("send_many, dialled", Bench::send_many_dialled);
        bench.row("send_many, a listener to one client", Bench::send_many_one_client);
        bench.row("send_many, a listener to many clients", Bench::send_many_clients);
        bench.row("send_many, a wildcard listener to many", Bench::send_many_everywhere);
        bench.row("dial_udp, and close", Bench::dial);
    }
    ExitCode::SUCCESS
}

struct Bench {
    driver: EpollDriver,
    bytes: usize,
    waiting: usize,
    rounds: u32,
    listener: Sock,
    everywhere: Sock,
    /// Talks to `far`.
    dialled: Sock,
    far: UdpSocket,
    far_driver_side: Sock,
    clients: Vec<UdpSocket>,
    batch: Batch,
}

impl Bench {
    fn new(bytes: usize, waiting: usize, rounds: u32) -> Self {
        let mut driver = EpollDriver::new(Clock::start().0).expect("an epoll file can be had");
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        far.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut listen = |ip: Ipv4Addr| {
            let bound = bind_udp((ip, 0).into()).expect("loopback has a free port");
            driver.listen_udp(bound, Token(1)).expect("nothing is short")
        };
        let (listener, everywhere) = (listen(Ipv4Addr::LOCALHOST), listen(Ipv4Addr::UNSPECIFIED));
        let at = far.local_addr().expect("it is bound");
        let dialled = driver.dial_udp(at, Source::Kernel, Token(2)).expect("nothing is short");
        let far_driver_side = driver.dial_udp(at, Source::Kernel, Token(3)).expect("nothing is short");
        let clients = (0..32)
            .map(|_| {
                let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
                client.set_nonblocking(true).expect("a socket can be non-blocking");
                client
            })
            .collect();
        let batch = Batch::new();
        Bench { driver, bytes, waiting, rounds, listener, everywhere, dialled, far, far_driver_side, clients, batch }
    }

    fn row(&mut self, what: &str, one: fn(&mut Bench) -> Duration) {
        for _ in 0..self.rounds / 10 {
            one(self);
        }
        let mut spent: Vec<Duration> = (0..self.rounds).map(|_| one(self)).collect();
        spent.sort_unstable();
        // Rounds in which somebody else had the processor are the long ones.
        let each = spent[spent.len() / 4].as_nanos() / self.waiting as u128;
        println!("{:>5} {:>4}  {what:<44} {each:>8}", self.bytes, self.waiting);
    }

    fn address(&self, sock: Sock) -> SocketAddr {
        self.driver.local_address(sock).expect("it is bound")
    }

    /// `waiting` datagrams wait at a socket of ours, each sent by another client.
    fn fill(&self, to: SocketAddr) {
        let bytes = vec![7; self.bytes];
        for at in 0..self.waiting {
            self.clients[at % self.clients.len()].send_to(&bytes, to).expect("loopback takes datagrams");
        }
    }

    fn fill_from_far(&self, sock: Sock) {
        let bytes = vec![7; self.bytes];
        for _ in 0..self.waiting {
            self.far.send_to(&bytes, self.address(sock)).expect("loopback takes datagrams");
        }
    }

    fn recv_one_by_one(&mut self) -> Duration {
        self.fill_from_far(self.far_driver_side);
        let mut space = [0; 65_536];
        let started = Instant::now();
        while let Recv::Bytes(_) = self.driver.recv(self.far_driver_side, &mut space) {}
        started.elapsed()
    }

    fn recv_many(&mut self, sock: Sock) -> Duration {
        self.batch.clear();
        let started = Instant::now();
        while let RecvMany::Some { drained: false, .. } = self.driver.recv_many(sock, &mut self.batch) {
            if !self.batch.has_room() {
                self.batch.clear();
            }
        }
        started.elapsed()
    }

    fn recv_many_listener(&mut self) -> Duration {
        self.fill(self.address(self.listener));
        self.recv_many(self.listener)
    }

    fn recv_many_dialled(&mut self) -> Duration {
        self.fill_from_far(self.dialled);
        self.recv_many(self.dialled)
    }

    fn empty(&self) {
        let mut space = [0; 65_536];
        while self.far.recv_from(&mut space).is_ok() {}
        for client in &self.clients {
            while client.recv_from(&mut space).is_ok() {}
        }
    }

    fn send_one_by_one(&mut self) -> Duration {
        self.empty();
        let bytes = vec![7; self.bytes];
        let started = Instant::now();
        for _ in 0..self.waiting {
            assert_eq!(self.driver.send(self.dialled, &bytes), Send::Taken(self.bytes));
        }
        started.elapsed()
    }

    fn send_many(&mut self, sock: Sock, to: impl Fn(&Bench, usize) -> SocketAddr, sizes: usize) -> Duration {
        self.empty();
        self.batch.clear();
        for at in 0..self.waiting {
            let bytes = vec![7; self.bytes + at % sizes];
            let peer = to(self, at);
            assert!(self.batch.push(peer, Some(Ipv4Addr::LOCALHOST.into()), &[&bytes]));
        }
        let started = Instant::now();
        let sent = self.driver.send_many(sock, &self.batch, 0..self.waiting);
        let spent = started.elapsed();
        assert_eq!((sent.taken, sent.failed), (self.waiting, None));
        spent
    }

    fn dial(&mut self) -> Duration {
        let at = self.far.local_addr().expect("it is bound");
        let started = Instant::now();
        for _ in 0..self.waiting {
            let sock = self.driver.dial_udp(at, Source::Kernel, Token(9)).expect("nothing is short");
            self.driver.close(sock, Close::Orderly);
        }
        started.elapsed()
    }

    fn send_many_dialled(&mut self) -> Duration {
        self.send_many(self.dialled, |bench, _| bench.far.local_addr().expect("it is bound"), 1)
    }

    fn send_many_one_client(&mut self) -> Duration {
        self.send_many(self.listener, |bench, _| bench.clients[0].local_addr().expect("it is bound"), 1)
    }

    fn send_many_clients(&mut self) -> Duration {
        self.send_many(self.listener, |bench, at| bench.clients[at].local_addr().expect("it is bound"), 1)
    }

    fn send_many_everywhere(&mut self) -> Duration {
        self.send_many(self.everywhere, |bench, at| bench.clients[at].local_addr().expect("it is bound"), 1)
    }
}
