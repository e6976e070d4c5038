//! The two worlds in which a script can run: the simulated network and this machine's loopback.
//!
//! A script has a driver on one side and a far end, played by the test, on the other. In the real world
//! the far end is a plain blocking `std` socket; loopback delivers before `write` returns.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use evenkeel_reactor::epoll::{EpollDriver, bind_tcp, bind_udp};
use evenkeel_reactor::sim::{Backend, End, Faults, Net, SimDriver, UdpService};
use evenkeel_reactor::{Clock, Driver, Event, ListenOptions, Sock, Token};

/// A wait that takes longer has failed. Nothing here waits for time to pass.
const PATIENCE: Duration = Duration::from_secs(20);

pub trait World {
    type D: Driver;
    type Far: Far;

    fn driver(&mut self) -> &mut Self::D;

    /// Lets everything that is on its way arrive.
    fn settle(&mut self);

    /// Polls until an event of `token` is as wanted.
    fn wait(&mut self, token: Token, wanted: fn(&Event) -> bool) -> Event;

    /// What a poll that does not wait reports once all has arrived.
    fn poll_now(&mut self) -> Vec<Event>;

    fn wake(&mut self);

    fn listen(&mut self, token: Token) -> (Sock, SocketAddr);

    /// A port of the far side at which nobody listens.
    fn closed_port(&mut self) -> SocketAddr;

    fn far_connect(&mut self, to: SocketAddr) -> Self::Far;

    /// The far side listens; [`World::far_accept`] takes what came.
    fn far_listen(&mut self) -> SocketAddr;

    fn far_accept(&mut self) -> Option<Self::Far>;

    /// The far side opens a UDP service.
    fn far_udp(&mut self) -> SocketAddr;

    /// The UDP service takes one datagram and sends each of `answers` back.
    fn far_udp_answer(&mut self, answers: &[&[u8]]) -> Vec<u8>;

    fn listen_udp(&mut self, token: Token) -> (Sock, SocketAddr);

    /// The UDP service sends one datagram, which arrives before this returns.
    fn far_udp_send(&mut self, to: SocketAddr, bytes: &[u8]);

    /// The next datagram at the UDP service.
    fn far_udp_take(&mut self) -> Vec<u8>;

    /// A connection as serving code gets it: accepted and watched, its first event taken.
    fn served(&mut self, token: Token) -> (Sock, Self::Far) {
        let listener_token = Token(token.0 + 1000);
        let (listener, at) = self.listen(listener_token);
        let far = self.far_connect(at);
        self.wait(listener_token, |event| event.readable);
        let accepted = self.driver().accept(listener).expect("nothing is short");
        let (sock, _) = accepted.expect("the event said that a connection waits");
        self.driver().watch(sock, token).expect("nothing is short");
        self.wait(token, |event| event.writable);
        (sock, far)
    }
}

pub trait Far {
    fn local(&self) -> SocketAddr;
    fn send(&mut self, bytes: &[u8]);
    /// Reads exactly so many bytes.
    fn read(&mut self, bytes: usize) -> Vec<u8>;
    /// How the stream ends, once all bytes before are read: their count, and `fin` or `reset`.
    fn end(&mut self) -> String;
    fn finish(&mut self);
    fn close(self);
    fn reset(self);
}

pub struct SimWorld {
    net: Net,
    driver: SimDriver,
    backend: Option<Backend>,
    udp: Option<UdpService>,
}

pub struct SimFar {
    net: Net,
    end: End,
}

impl SimWorld {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let net = Net::new(seed, faults);
        let driver = SimDriver::new(&net, Ipv4Addr::new(10, 0, 0, 1).into());
        SimWorld { net, driver, backend: None, udp: None }
    }

    fn far(&self, end: End) -> SimFar {
        end.pause_reading();
        SimFar { net: self.net.clone(), end }
    }
}

fn backend_address(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 2).into(), port)
}

impl World for SimWorld {
    type D = SimDriver;
    type Far = SimFar;

    fn driver(&mut self) -> &mut SimDriver {
        &mut self.driver
    }

    fn settle(&mut self) {
        while self.net.step() {}
    }

    fn wait(&mut self, token: Token, wanted: fn(&Event) -> bool) -> Event {
        let mut events = Vec::new();
        loop {
            self.driver.poll(&mut events, None);
            if let Some(event) = events.iter().find(|event| event.token == token && wanted(event)) {
                return *event;
            }
            assert!(self.net.step(), "the event never comes\n{}", self.net.story());
        }
    }

    fn poll_now(&mut self) -> Vec<Event> {
        self.settle();
        let mut events = Vec::new();
        let now = self.driver.now();
        self.driver.poll(&mut events, Some(now));
        events
    }

    fn wake(&mut self) {
        self.driver.waker().wake();
    }

    fn listen(&mut self, token: Token) -> (Sock, SocketAddr) {
        let any = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0);
        let sock = self.driver.listen(any, token).expect("nothing is short");
        let at = self.driver.local_address(sock).expect("a listener has an address");
        (sock, at)
    }

    fn closed_port(&mut self) -> SocketAddr {
        backend_address(9)
    }

    fn far_connect(&mut self, to: SocketAddr) -> SimFar {
        let end = self.net.client_connect(to);
        self.settle();
        self.far(end)
    }

    fn far_listen(&mut self) -> SocketAddr {
        let backend = self.net.backend_listen(backend_address(80));
        let at = backend.address();
        self.backend = Some(backend);
        at
    }

    fn far_accept(&mut self) -> Option<SimFar> {
        self.settle();
        let end = self.backend.as_ref().and_then(Backend::accept)?;
        Some(self.far(end))
    }

    fn far_udp(&mut self) -> SocketAddr {
        let service = self.net.udp_service(backend_address(53));
        let at = service.address();
        self.udp = Some(service);
        at
    }

    fn far_udp_answer(&mut self, answers: &[&[u8]]) -> Vec<u8> {
        self.settle();
        let service = self.udp.as_ref().expect("far_udp comes first");
        let (from, asked) = service.recv().expect("the datagram arrived");
        for answer in answers {
            service.send(from, answer);
            // One after the other, since jitter may turn datagrams round, which loopback does not.
            while self.net.step() {}
        }
        asked
    }

    fn listen_udp(&mut self, token: Token) -> (Sock, SocketAddr) {
        let any = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0);
        let sock = self.driver.listen_udp(any, token).expect("nothing is short");
        let at = self.driver.local_address(sock).expect("a bound socket has an address");
        (sock, at)
    }

    fn far_udp_send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.udp.as_ref().expect("far_udp comes first").send(to, bytes);
        self.settle();
    }

    fn far_udp_take(&mut self) -> Vec<u8> {
        let service = self.udp.as_ref().expect("far_udp comes first");
        loop {
            if let Some((_, bytes)) = service.recv() {
                return bytes;
            }
            assert!(self.net.step(), "the datagram never comes\n{}", self.net.story());
        }
    }
}

impl SimFar {
    /// Reads what is there and lets what that sets free arrive, until nothing more comes.
    fn read_up_to(&mut self, bytes: usize) {
        while self.end.received_len() < bytes {
            let read = self.end.read(bytes - self.end.received_len());
            if !self.net.step() && read == 0 {
                return;
            }
        }
    }
}

impl Far for SimFar {
    fn local(&self) -> SocketAddr {
        self.end.local()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.end.send(bytes);
    }

    fn read(&mut self, bytes: usize) -> Vec<u8> {
        self.read_up_to(bytes);
        self.end.take()
    }

    fn end(&mut self) -> String {
        self.read_up_to(usize::MAX);
        let bytes = self.end.take().len();
        let ending = match (self.end.saw_fin(), self.end.saw_reset()) {
            (true, _) => "fin",
            (false, true) => "reset",
            (false, false) => "nothing",
        };
        format!("{bytes} bytes, {ending}")
    }

    fn finish(&mut self) {
        self.end.finish();
    }

    fn close(self) {
        self.end.close();
    }

    fn reset(self) {
        self.end.reset();
    }
}

pub struct RealWorld {
    driver: EpollDriver,
    listener: Option<TcpListener>,
    udp: Option<UdpSocket>,
    /// Sockets that only keep a port from being given to somebody else.
    kept: Vec<socket_keeper::Kept>,
    seen: VecDeque<Event>,
}

impl RealWorld {
    pub fn new() -> Self {
        let (clock, _) = Clock::start();
        let driver = EpollDriver::new(clock).expect("an epoll file can be had");
        RealWorld { driver, listener: None, udp: None, kept: Vec::new(), seen: VecDeque::new() }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

impl World for RealWorld {
    type D = EpollDriver;
    type Far = TcpStream;

    fn driver(&mut self) -> &mut EpollDriver {
        &mut self.driver
    }

    fn settle(&mut self) {}

    fn wait(&mut self, token: Token, wanted: fn(&Event) -> bool) -> Event {
        let give_up = self.driver.now() + PATIENCE;
        let mut events = Vec::new();
        loop {
            while let Some(event) = self.seen.pop_front() {
                if event.token == token && wanted(&event) {
                    return event;
                }
            }
            assert!(self.driver.now() < give_up, "the event did not come within {PATIENCE:?}");
            self.driver.poll(&mut events, Some(give_up));
            self.seen.extend(events.drain(..));
        }
    }

    fn poll_now(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let now = self.driver.now();
        self.driver.poll(&mut events, Some(now));
        self.seen.drain(..).chain(events).collect()
    }

    fn wake(&mut self) {
        self.driver.waker().wake();
    }

    fn listen(&mut self, token: Token) -> (Sock, SocketAddr) {
        let bound = bind_tcp(loopback(), &ListenOptions::plain(128)).expect("a loopback port can be had");
        let sock = self.driver.listen(bound, token).expect("nothing is short");
        let at = self.driver.local_address(sock).expect("a listener has an address");
        (sock, at)
    }

    fn closed_port(&mut self) -> SocketAddr {
        let kept = socket_keeper::Kept::new();
        let at = kept.address();
        self.kept.push(kept);
        at
    }

    fn far_connect(&mut self, to: SocketAddr) -> TcpStream {
        patient(TcpStream::connect(to).expect("the driver listens"))
    }

    fn far_listen(&mut self) -> SocketAddr {
        let listener = TcpListener::bind(loopback()).expect("a loopback port can be had");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let at = listener.local_addr().expect("a listener has an address");
        self.listener = Some(listener);
        at
    }

    fn far_accept(&mut self) -> Option<TcpStream> {
        match self.listener.as_ref().expect("far_listen comes first").accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).expect("a socket can be blocking");
                Some(patient(stream))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept on the far side: {error}"),
        }
    }

    fn far_udp(&mut self) -> SocketAddr {
        let socket = UdpSocket::bind(loopback()).expect("a loopback port can be had");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let at = socket.local_addr().expect("a socket has an address");
        self.udp = Some(socket);
        at
    }

    fn far_udp_answer(&mut self, answers: &[&[u8]]) -> Vec<u8> {
        let socket = self.udp.as_ref().expect("far_udp comes first");
        let mut asked = [0; 100];
        let (bytes, from) = socket.recv_from(&mut asked).expect("the datagram arrived");
        for answer in answers {
            socket.send_to(answer, from).expect("loopback takes datagrams");
        }
        asked[..bytes].to_vec()
    }

    fn listen_udp(&mut self, token: Token) -> (Sock, SocketAddr) {
        let bound = bind_udp(loopback()).expect("a loopback port can be had");
        let sock = self.driver.listen_udp(bound, token).expect("nothing is short");
        let at = self.driver.local_address(sock).expect("a bound socket has an address");
        (sock, at)
    }

    fn far_udp_send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let sent = self.udp.as_ref().expect("far_udp comes first").send_to(bytes, to);
        assert_eq!(sent.expect("loopback takes datagrams"), bytes.len());
    }

    fn far_udp_take(&mut self) -> Vec<u8> {
        let mut space = vec![0; 65_536];
        let bytes = self.udp.as_ref().expect("far_udp comes first").recv(&mut space).expect("the datagram arrived");
        space.truncate(bytes);
        space
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_nodelay(true).expect("a socket can be told not to wait");
    stream
}

impl Far for TcpStream {
    fn local(&self) -> SocketAddr {
        self.local_addr().expect("a connected socket has an address")
    }

    fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect("the driver's side is open");
    }

    fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.read_exact(&mut read).expect("the bytes come");
        read
    }

    fn end(&mut self) -> String {
        let mut bytes = Vec::new();
        let ending = match self.read_to_end(&mut bytes) {
            Ok(_) => "fin",
            Err(error) if error.kind() == ErrorKind::ConnectionReset => "reset",
            Err(error) => panic!("the far side reads: {error}"),
        };
        format!("{} bytes, {ending}", bytes.len())
    }

    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).expect("the driver's side is open");
    }

    fn close(self) {}

    fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self, Some(Duration::ZERO)).expect("linger can be set");
    }
}

mod socket_keeper {
    //! A port that is taken for TCP and UDP and answers on neither.

    use std::net::SocketAddr;
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketType};

    /// A TCP socket that is bound and does not listen. The kernel gives its port to nobody else.
    pub struct Kept {
        fd: OwnedFd,
    }

    impl Kept {
        pub fn new() -> Self {
            let fd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a file can be had");
            rustix::net::bind(&fd, &super::loopback()).expect("a loopback port can be had");
            Kept { fd }
        }

        pub fn address(&self) -> SocketAddr {
            let address = rustix::net::getsockname(&self.fd).expect("a bound socket has an address");
            address.try_into().expect("it is an internet address")
        }
    }
}
