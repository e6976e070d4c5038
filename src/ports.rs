//! The listening sockets of a node: which addresses a plan wants, who has them already, and which worker gets which socket.
//!
//! The node holds a copy of each socket that its workers listen at. A socket lives as long as anybody holds it, so an address
//! can pass from one listener to another, or from this process to the next, without the moment in which nobody has it: what
//! waits to be accepted in a socket is reset when its last holder lets go.
//!
//! An address that leaves the plan is let go in two steps. First its sockets take nobody new, while handshakes that have
//! begun come to their end (`limits::LISTEN_FAREWELL`); then they are closed. To accept until nothing is left and then close lost:
//! under load there is always one more in between. `net.ipv4.tcp_migrate_req` moves such connections to another socket of the
//! address, and here there is none.
//!
//! Sockets for datagrams are not held here once their address has left: workers keep them for their sessions.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{Instant, limits};
use evenkeel_plan::{Listener, Plan};
use evenkeel_reactor::epoll::{
    address_in_use, bind_tcp, bind_udp, prepare_udp, refuse_new, take_new, tune, udp_address_in_use,
};

use crate::node::Refused;
use crate::worker::{Arrives, listen_options};

/// With some room for workers to see what they were told.
const ROOM: Duration = Duration::from_secs(1);

const FAREWELL: Duration = Duration::from_millis(limits::LISTEN_FAREWELL.value);

/// What is bound, and what is about to be let go.
#[derive(Debug, Default)]
pub struct Ports {
    held: Vec<Port>,
    leaving: Vec<(Instant, Port)>,
    /// Inherited from a process that still serves, and in no plan of ours.
    unwanted: Vec<Port>,
    opened: bool,
    /// Addresses for datagrams that a reload took away, and until when workers may hold them for their last sessions.
    left: Vec<(SocketAddr, Instant)>,
    workers: usize,
}

/// One bound address.
#[derive(Debug)]
pub struct Port {
    pub listener: Arc<str>,
    pub address: SocketAddr,
    pub arrives: Arrives,
    pub socks: Vec<OwnedFd>,
    /// Somebody outside holds them too, as systemd does: closing ends nothing, and what waits is the next process's.
    pub lent: bool,
}

/// A socket for a worker.
#[derive(Debug)]
pub struct Given {
    pub listener: Arc<str>,
    pub address: SocketAddr,
    pub arrives: Arrives,
    pub worker: usize,
    pub sock: OwnedFd,
}

/// What workers are to be told of a plan before it comes.
#[derive(Debug, Default)]
pub struct Told {
    pub given: Vec<Given>,
    pub gone: Vec<(SocketAddr, Arrives)>,
}

/// A socket that was there before the node.
#[derive(Debug)]
pub struct Inherited {
    pub address: SocketAddr,
    pub arrives: Arrives,
    pub sock: OwnedFd,
    pub lent: bool,
}

/// What a plan needs that is not there yet. Nothing has happened until it is taken.
#[derive(Debug, Default)]
pub struct Change {
    fresh: Vec<Port>,
}

impl Ports {
    pub fn new(workers: usize, inherited: Vec<Inherited>) -> Ports {
        let mut ports = Ports { workers, ..Ports::default() };
        for Inherited { address, arrives, sock, lent } in inherited {
            if arrives == Arrives::Connections && !lent {
                take_new(sock.as_fd());
            }
            if arrives == Arrives::Datagrams && lent {
                // Somebody else made it. Where it cannot be told what we need, it serves as well as it can.
                let _ = prepare_udp(sock.as_fd(), address);
            }
            match ports.held.iter_mut().find(|port| port.is_at(address, arrives)) {
                Some(port) => port.socks.push(sock),
                None => ports.held.push(Port { listener: "".into(), address, arrives, socks: vec![sock], lent }),
            }
        }
        ports
    }

    /// Binds what a plan wants and nobody here has.
    ///
    /// # Errors
    /// When an address cannot be had. Everything is as it was then.
    pub fn prepare(&self, plan: &Plan, now: Instant) -> Result<Change, Refused> {
        let mut change = Change::default();
        for wanted in addresses(plan) {
            let leaving = self.leaving.iter().map(|(_, port)| port);
            if self.held.iter().chain(leaving).any(|port| port.is_at(wanted.address, wanted.arrives)) {
                continue;
            }
            let is_ours = wanted.arrives == Arrives::Datagrams
                && self.left.iter().any(|(address, until)| *address == wanted.address && *until > now);
            change.fresh.push(wanted.bind(self.workers, is_ours)?);
        }
        Ok(change)
    }

    /// Makes what is held what the plan wants; What workers are to be told of it is the answer.
    pub fn take(&mut self, plan: &Plan, change: Change, now: Instant) -> Told {
        self.left.retain(|(_, until)| *until > now);
        let mut before = std::mem::take(&mut self.held);
        let mut fresh = change.fresh;
        let mut told = Told::default();
        for wanted in addresses(plan) {
            let is_it = |port: &Port| port.is_at(wanted.address, wanted.arrives);
            let known = before.iter().position(is_it).map(|at| before.swap_remove(at));
            let returned = || self.leaving.iter().position(|(_, port)| is_it(port));
            let mut port = match known {
                // Sessions need their socket, whichever listener has the address.
                Some(port) if wanted.arrives == Arrives::Datagrams && !port.listener.is_empty() => {
                    self.held.push(port);
                    continue;
                }
                Some(port) if port.listener == wanted.listener.name => {
                    self.held.push(port);
                    continue;
                }
                Some(port) => {
                    port.tune(wanted.listener);
                    port
                }
                None => match returned() {
                    Some(at) => {
                        let (_, port) = self.leaving.swap_remove(at);
                        port.take_new();
                        port.tune(wanted.listener);
                        port
                    }
                    None => match fresh.iter().position(is_it) {
                        Some(at) => fresh.swap_remove(at),
                        None => continue,
                    },
                },
            };
            port.listener = Arc::clone(&wanted.listener.name);
            port.fill(wanted.listener, self.workers);
            told.given.extend(port.give(self.workers));
            if arrives_again(&self.left, &port) {
                // Workers may have kept those of before for their sessions, and let these go then. A copy of ours would go on taking datagrams
                // that nobody reads.
                port.socks.clear();
            }
            self.held.push(port);
        }
        if !self.opened {
            self.unwanted = before;
            return told;
        }
        for port in before {
            told.gone.push((port.address, port.arrives));
            match port.arrives {
                Arrives::Connections => {
                    port.refuse_new();
                    self.leaving.push((now + FAREWELL + ROOM, port));
                }
                Arrives::Datagrams => self.left.push((port.address, now + plan.node.drain_timeout + ROOM)),
            }
        }
        told
    }

    /// The node serves from now on. What it was left and does not want is let go.
    pub fn open(&mut self, now: Instant) {
        self.opened = true;
        for port in std::mem::take(&mut self.unwanted) {
            if port.arrives == Arrives::Connections && !port.lent {
                port.refuse_new();
                self.leaving.push((now + FAREWELL + ROOM, port));
            }
        }
    }

    /// Lets go of what nobody can need any more.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.leaving.retain(|(until, _)| *until > now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.leaving.iter().map(|(until, _)| *until).min()
    }

    /// The node stops, and nobody comes after it.
    pub fn close(self) {
        for port in self.held.into_iter().filter(|port| port.arrives == Arrives::Connections) {
            port.refuse_new();
        }
    }

    /// Copies of everything, for the next process.
    ///
    /// # Errors
    /// When the process is out of files.
    pub fn copies(&self) -> io::Result<Vec<Inherited>> {
        let mut copies = Vec::new();
        for port in &self.held {
            for sock in &port.socks {
                let (address, arrives, lent) = (port.address, port.arrives, port.lent);
                copies.push(Inherited { address, arrives, sock: sock.try_clone()?, lent });
            }
        }
        Ok(copies)
    }

    /// Addresses of sockets that were given to the process and that no listener has; to be asked before it is opened.
    pub fn unclaimed(&self) -> impl Iterator<Item = SocketAddr> {
        self.unwanted.iter().filter(|port| port.lent).map(|port| port.address)
    }
}

impl Port {
    fn is_at(&self, address: SocketAddr, arrives: Arrives) -> bool {
        // Connections and datagrams do not meet.
        (self.address, self.arrives) == (address, arrives)
    }

    fn refuse_new(&self) {
        if self.lent {
            return;
        }
        for sock in &self.socks {
            // Where the process may not, a connection that comes at the wrong moment is reset.
            let _ = refuse_new(sock.as_fd());
        }
    }

    fn take_new(&self) {
        for sock in self.socks.iter().filter(|_| !self.lent) {
            take_new(sock.as_fd());
        }
    }

    fn tune(&self, listener: &Listener) {
        if self.arrives == Arrives::Connections {
            for sock in &self.socks {
                // What the kernel took from one listener it takes from another.
                let _ = tune(sock.as_fd(), &listen_options(listener));
            }
        }
    }

    /// Sees to it that each worker has a socket of its own, where there are fewer. Not for datagrams: one more socket would
    /// scatter the clients of those that are there.
    fn fill(&mut self, listener: &Listener, workers: usize) {
        if self.arrives == Arrives::Datagrams || self.lent {
            return;
        }
        while self.socks.len() < workers {
            match bind_tcp(self.address, &listen_options(listener)) {
                Ok(sock) => self.socks.push(sock),
                // Then workers share.
                Err(_) => break,
            }
        }
    }

    /// A copy for each worker; where there are more sockets than workers, some get several, and where there are fewer, workers
    /// share one. Not those of datagrams: what one client sends must reach one worker.
    fn give(&self, workers: usize) -> Vec<Given> {
        let places = match self.arrives {
            Arrives::Connections => self.socks.len().max(workers),
            Arrives::Datagrams => self.socks.len(),
        };
        let copies = (0..places).filter_map(|place| {
            // Out of files: the other workers' sockets still serve the address.
            let sock = self.socks[place % self.socks.len()].try_clone().ok()?;
            let (listener, worker) = (Arc::clone(&self.listener), place % workers);
            Some(Given { listener, address: self.address, arrives: self.arrives, worker, sock })
        });
        copies.collect()
    }
}

/// Whether workers may still have other sockets of the port, from before it left.
fn arrives_again(left: &[(SocketAddr, Instant)], port: &Port) -> bool {
    port.arrives == Arrives::Datagrams && left.iter().any(|(address, _)| *address == port.address)
}

/// One address of one listener of a plan.
struct Wanted<'a> {
    listener: &'a Listener,
    address: SocketAddr,
    arrives: Arrives,
}

impl Wanted<'_> {
    /// Once per worker. An address that is ours may be in use: by ourselves.
    fn bind(&self, workers: usize, is_ours: bool) -> Result<Port, Refused> {
        let (listener, address, arrives) = (Arc::clone(&self.listener.name), self.address, self.arrives);
        let (is_taken, bind): (bool, &dyn Fn() -> io::Result<OwnedFd>) = match arrives {
            Arrives::Connections => (address_in_use(address), &|| bind_tcp(address, &listen_options(self.listener))),
            Arrives::Datagrams => (udp_address_in_use(address), &|| bind_udp(address)),
        };
        if is_taken && !is_ours {
            return Err(Refused::InUse { listener, address, arrives });
        }
        match (0..workers).map(|_| bind()).collect() {
            Ok(socks) => Ok(Port { listener, address, arrives, socks, lent: false }),
            Err(error) => Err(Refused::Bind { listener, address, error }),
        }
    }
}

fn addresses(plan: &Plan) -> impl Iterator<Item = Wanted<'_>> {
    plan.listeners.iter().flat_map(|listener| {
        let arrives = Arrives::at(listener.protocol);
        listener.listen.iter().map(move |&address| Wanted { listener, address, arrives })
    })
}
