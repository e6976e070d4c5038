//! The [`Driver`] that stands in the virtual network: one for each worker or prober of a test.
//!
//! It never waits and never moves the clock; [`super::run`] does, when all drivers have nothing to say.
//! Misuse that a kernel would answer with `EBADF`, or worse with somebody else's connection, is a
//! panic that names the socket and tells its story. Handles are never used again for that reason.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use evenkeel_model::{Instant, limits};

use super::datagrams::ECHO_PORT;
use super::net::{DriverId, Net, Totals, Way};
use super::socket::{Datagram, Owner, Phase};
use super::trace::Fact;
use super::world::{DriverState, World};
use crate::{
    Batch, Close, Dial, Driver, Errno, Event, ListenOptions, Recv, RecvMany, Send, SendMany, Sock, Source, Token, errno,
};

pub struct SimDriver {
    net: Net,
    id: DriverId,
}

/// Makes the driver's next `poll` report [`crate::WOKEN`].
#[derive(Clone)]
pub struct SimWaker {
    net: Net,
    id: DriverId,
}

impl SimWaker {
    pub fn wake(&self) {
        self.net.world.borrow_mut().driver(self.id).woken = true;
    }
}

impl SimDriver {
    /// A driver whose connections come from `host` unless they say otherwise.
    pub fn new(net: &Net, host: IpAddr) -> Self {
        let mut world = net.world.borrow_mut();
        let id = DriverId(world.drivers.len());
        world.drivers.push(DriverState {
            host,
            ready: std::collections::VecDeque::new(),
            woken: false,
            until: None,
            quiet: false,
            totals: Totals::default(),
            gone: false,
        });
        SimDriver { net: net.clone(), id }
    }

    /// For questions to the network once the driver itself belongs to the code under test.
    pub fn id(&self) -> DriverId {
        self.id
    }

    pub fn waker(&self) -> SimWaker {
        SimWaker { net: self.net.clone(), id: self.id }
    }

    /// The world, and the socket behind a handle that this driver may use.
    fn held(&mut self, sock: Sock, doing: &str) -> (std::cell::RefMut<'_, World>, u32) {
        let world = self.net.world.borrow_mut();
        let id = world.held(self.id, sock, doing);
        (world, id)
    }

    /// Where a new socket comes from, or why there can be none.
    fn source(&self, to: SocketAddr, from: Source) -> Result<SocketAddr, Errno> {
        let mut world = self.net.world.borrow_mut();
        let chance = world.faults.dial_error;
        if world.dice.happens(chance) {
            return Err(world.dice.pick(&[errno::EADDRNOTAVAIL, errno::EMFILE, errno::ENOBUFS]));
        }
        if world.way(to) == Way::NoRoute {
            return Err(errno::ENETUNREACH);
        }
        let host = match from {
            Source::Kernel => world.driver(self.id).host,
            Source::Own(host) | Source::Foreign(host) => host,
        };
        Ok(world.unused_address(host))
    }
}

impl Driver for SimDriver {
    /// The address to listen at; port 0 lets the network choose.
    type Bound = SocketAddr;
    type Pipe = Vec<u8>;

    fn now(&self) -> Instant {
        self.net.now()
    }

    /// Reports what is there and returns at once. The loop that waits is [`super::run`], which takes
    /// `until` from here.
    fn poll(&mut self, events: &mut Vec<Event>, until: Option<Instant>) {
        events.clear();
        self.net.world.borrow_mut().take_events(self.id, events, until);
    }

    fn listen(&mut self, bound: SocketAddr, token: Token) -> Result<Sock, Errno> {
        let mut world = self.net.world.borrow_mut();
        let backlog = world.faults.backlog;
        let id = world.open_listener(Owner::Driver(self.id), bound, Some(token), backlog);
        Ok(Sock(id))
    }

    /// Of the options only the backlog shows in this network.
    fn tune(&mut self, listener: Sock, options: &ListenOptions) {
        let (mut world, id) = self.held(listener, "tune");
        world.listener(id).backlog = options.backlog as usize;
    }

    fn accept(&mut self, listener: Sock) -> Result<Option<(Sock, SocketAddr)>, Errno> {
        let (mut world, id) = self.held(listener, "accept");
        if world.listener(id).waiting.is_empty() {
            return Ok(None);
        }
        let (out_of_files, died) = (world.faults.accept_error, world.faults.accept_abort);
        if world.dice.happens(out_of_files) {
            return Err(world.dice.pick(&[errno::EMFILE, errno::ENFILE]));
        }
        if world.dice.happens(died) {
            if let Some(connection) = world.accept(id) {
                world.close(connection, Close::Reset);
            }
            return Err(errno::ECONNABORTED);
        }
        let accepted = world.accept(id);
        Ok(accepted.map(|connection| (Sock(connection), world.tcp(connection).remote)))
    }

    fn local_address(&self, sock: Sock) -> Option<SocketAddr> {
        let mut world = self.net.world.borrow_mut();
        let id = world.held(self.id, sock, "local_address");
        Some(world.socket(id).local)
    }

    fn watch(&mut self, sock: Sock, token: Token) -> Result<(), Errno> {
        let (mut world, id) = self.held(sock, "watch");
        if let Some(before) = world.socket(id).token {
            panic!("watch on {}, which is watched already as {before:?}", world.describe(id));
        }
        let chance = world.faults.watch_error;
        if world.dice.happens(chance) {
            return Err(errno::ENOMEM);
        }
        world.socket(id).token = Some(token);
        world.mark(id, Fact::Watched(token));
        world.notify(id);
        Ok(())
    }

    fn dial(&mut self, dial: Dial, token: Token) -> Result<Sock, Errno> {
        let from = self.source(dial.to, dial.from)?;
        let mut world = self.net.world.borrow_mut();
        Ok(Sock(world.connect(Owner::Driver(self.id), from, dial.to, dial.handshake, Some(token))))
    }

    fn connected(&mut self, sock: Sock) -> Option<Result<(), Errno>> {
        let (mut world, id) = self.held(sock, "connected");
        let tcp = world.tcp(id);
        if tcp.phase == Phase::Dialling {
            return None;
        }
        if let Some(refusal) = tcp.refusal {
            // As `SO_ERROR` does, asking takes the error.
            tcp.error = None;
            return Some(Err(refusal));
        }
        Some(tcp.error.take().map_or(Ok(()), Err))
    }

    fn dial_udp(&mut self, to: SocketAddr, from: Source, token: Token) -> Result<Sock, Errno> {
        let from = self.source(to, from)?;
        let mut world = self.net.world.borrow_mut();
        Ok(Sock(world.open_udp(Owner::Driver(self.id), from, Some(to), Some(token))))
    }

    /// In this network every dialled UDP socket is told.
    fn hear_unreachable(&mut self, sock: Sock) {
        let _ = self.held(sock, "hear_unreachable");
    }

    fn dial_icmp(&mut self, to: IpAddr, from: Source, token: Token) -> Result<Sock, Errno> {
        let to = SocketAddr::new(to, ECHO_PORT);
        let from = self.source(to, from)?;
        let mut world = self.net.world.borrow_mut();
        if world.echo_is_forbidden {
            return Err(errno::EPERM);
        }
        Ok(Sock(world.open_udp(Owner::Driver(self.id), from, Some(to), Some(token))))
    }

    fn listen_udp(&mut self, bound: SocketAddr, token: Token) -> Result<Sock, Errno> {
        let mut world = self.net.world.borrow_mut();
        Ok(Sock(world.open_udp(Owner::Driver(self.id), bound, None, Some(token))))
    }

    fn recv_many(&mut self, sock: Sock, into: &mut Batch) -> RecvMany {
        let (mut world, id) = self.held(sock, "recv_many");
        world.receive_datagrams(id, into)
    }

    fn send_many(&mut self, sock: Sock, batch: &Batch, packets: Range<usize>) -> SendMany {
        let (mut world, id) = self.held(sock, "send_many");
        world.send_datagrams(id, batch, packets)
    }

    fn pipe(&mut self) -> Result<Vec<u8>, Errno> {
        Ok(Vec::new())
    }

    fn fill(&mut self, from: Sock, pipe: &mut Vec<u8>) -> Recv {
        assert!(pipe.is_empty(), "fill of a pipe that holds {} bytes", pipe.len());
        let mut space = vec![0; limits::PIPE.value as usize];
        let received = self.recv(from, &mut space);
        if let Recv::Bytes(bytes) = received {
            pipe.extend_from_slice(&space[..bytes]);
        }
        received
    }

    fn drain(&mut self, pipe: &mut Vec<u8>, bytes: usize, to: Sock) -> Send {
        assert_eq!(bytes, pipe.len(), "drain of another number of bytes than the pipe holds");
        let sent = self.send(to, pipe);
        if let Send::Taken(taken) = sent {
            pipe.drain(..taken);
        }
        sent
    }

    fn recv(&mut self, sock: Sock, into: &mut [u8]) -> Recv {
        assert!(!into.is_empty(), "recv without room on {sock:?}: a kernel answers that like the end of the stream");
        let (mut world, id) = self.held(sock, "recv");
        let Some(udp) = world.udp(id) else {
            return world.receive(id, into);
        };
        if let Some(error) = udp.error.take() {
            return Recv::Failed(error);
        }
        let Some(Datagram { bytes: datagram, .. }) = udp.inbox.pop_front() else {
            return Recv::Dry;
        };
        let size = datagram.len().min(into.len());
        into[..size].copy_from_slice(&datagram[..size]);
        world.mark(id, Fact::Received(size));
        // An empty datagram looks like the end of a stream to the real driver as well.
        if size == 0 { Recv::End } else { Recv::Bytes(size) }
    }

    fn peek(&mut self, sock: Sock) -> Recv {
        let (mut world, id) = self.held(sock, "peek");
        let Some(udp) = world.udp(id) else {
            return world.peek(id);
        };
        if let Some(error) = udp.error.take() {
            return Recv::Failed(error);
        }
        match udp.inbox.front() {
            None => Recv::Dry,
            Some(datagram) if datagram.bytes.is_empty() => Recv::End,
            Some(_) => Recv::Bytes(1),
        }
    }

    fn send(&mut self, sock: Sock, from: &[u8]) -> Send {
        let (mut world, id) = self.held(sock, "send");
        if world.udp(id).is_some() {
            return match world.send_from(id, None, from) {
                Ok(()) => Send::Taken(from.len()),
                Err(errno::EAGAIN) => Send::Taken(0),
                Err(error) => Send::Failed(error),
            };
        }
        match world.tcp(id).phase {
            Phase::Dialling => return Send::Taken(0),
            Phase::Answered | Phase::Established => {
                let chance = world.faults.send_error;
                if world.dice.happens(chance) {
                    world.give_up(id, errno::ETIMEDOUT);
                }
            }
            Phase::Greeted | Phase::Dead => {}
        }
        world.send(id, from)
    }

    fn send_final(&mut self, sock: Sock, from: &[u8]) -> Send {
        self.send(sock, from)
    }

    fn send_vectored(&mut self, sock: Sock, from: &[IoSlice<'_>]) -> Send {
        let joined: Vec<u8> = from.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.send(sock, &joined)
    }

    fn finish(&mut self, sock: Sock) {
        let (mut world, id) = self.held(sock, "finish");
        assert!(
            world.tcp(id).phase != Phase::Dialling,
            "finish on {} before it was connected, which Linux takes as a disconnect",
            world.describe(id)
        );
        world.finish(id);
    }

    fn close(&mut self, sock: Sock, how: Close) {
        let (mut world, id) = self.held(sock, "close");
        world.close(id, how);
    }
}

impl Drop for SimDriver {
    /// The process is gone, and its kernel closes what it held.
    fn drop(&mut self) {
        // While a test fails the world may be borrowed, and a second panic would hide the first.
        if std::thread::panicking() {
            return;
        }
        for open in self.net.open_sockets(self.id) {
            self.net.world.borrow_mut().close(open.sock.0, Close::Orderly);
        }
        self.net.world.borrow_mut().driver(self.id).gone = true;
    }
}
