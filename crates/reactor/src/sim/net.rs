//! What a test can set up in the virtual network, ask of it, and break in it.
//!
//! The handle tests hold. The network itself, and what follows from a fault, is in `world` and `flow`.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use evenkeel_model::Instant;

use super::faults::Faults;
use super::peer::{Backend, End, UdpService};
use super::refusals::Refuses;
use super::socket::{Kind, Owner};
use super::trace::Mark;
use super::world::{Happening, World};
use crate::{Handshake, Sock, Token};

/// The network. Clones are the same network; it lives in one thread.
#[derive(Clone)]
pub struct Net {
    pub(super) world: Rc<RefCell<World>>,
}

/// Which [`super::SimDriver`] of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverId(pub(super) usize);

/// What is between everybody and one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Whatever goes there or comes from there vanishes: the host lost its power. A connection that
    /// loses a packet to it stays silent even when the way opens again.
    BlackHole,
    /// A router answers that the host cannot be reached: `EHOSTUNREACH` after a while.
    Unreachable,
    /// The own host knows no route: dialling fails at once with `ENETUNREACH`.
    NoRoute,
}

/// A socket that a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    pub sock: Sock,
    /// `None` while it is not watched.
    pub token: Option<Token>,
    pub age: Duration,
    /// Kind and addresses, for the message of a failed test.
    pub what: String,
}

/// Sockets a node has opened (dialled, accepted, listened) and closed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub opened: u64,
    pub closed: u64,
}

impl Net {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Net { world: Rc::new(RefCell::new(World::new(seed, faults))) }
    }

    pub fn seed(&self) -> u64 {
        self.world.borrow().seed
    }

    pub fn now(&self) -> Instant {
        self.world.borrow().now
    }

    /// Lets the next thing happen, at its time; false when nothing is going to.
    pub fn step(&self) -> bool {
        self.world.borrow_mut().step()
    }

    /// Lets everything happen that is due until `at`, and makes it `at`.
    pub fn advance_to(&self, at: Instant) {
        let mut world = self.world.borrow_mut();
        while world.next_happening().is_some_and(|next| next <= at) {
            world.step();
        }
        world.now = world.now.max(at);
    }

    /// Moves to whatever comes first, a happening or a time a node waits for; false when neither will
    /// ever come.
    pub fn advance(&self) -> bool {
        let mut world = self.world.borrow_mut();
        let wake = if world.paused_until > world.now { Some(world.paused_until) } else { world.next_timeout() };
        match (world.next_happening(), wake) {
            (None, None) => false,
            (Some(happening), wake) if wake.is_none_or(|wake| happening <= wake) => world.step(),
            (_, Some(wake)) => {
                world.now = world.now.max(wake);
                true
            }
            (Some(_), None) => unreachable!("the arm before takes a happening without a wake-up"),
        }
    }

    /// Makes [`super::run`] come round at `at`, for an actor that waits.
    pub fn alarm(&self, at: Instant) {
        self.world.borrow_mut().schedule(at, Happening::Alarm);
    }

    /// A number below `bound` from the network's own dice, for actors that vary with the seed.
    pub fn below(&self, bound: u64) -> u64 {
        self.world.borrow_mut().dice.below(bound)
    }

    /// Faults from now on; buffer sizes hold for sockets opened from now on.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.world.borrow_mut().faults);
    }

    pub fn set_way(&self, to: SocketAddr, way: Way) {
        self.world.borrow_mut().ways.insert(to, way);
    }

    /// Everything of a host at once, and whether it answers echo requests. An address with a way of its own keeps that.
    pub fn set_way_to_host(&self, host: IpAddr, way: Way) {
        self.world.borrow_mut().ways_to_hosts.insert(host, way);
    }

    pub fn set_refuses(&self, host: IpAddr, refuses: Refuses) {
        self.world.borrow_mut().budgets.set(host, refuses);
    }

    /// Nodes may have no sockets for echo requests from now on.
    pub fn forbid_echo(&self) {
        self.world.borrow_mut().echo_is_forbidden = true;
    }

    /// Steps after which [`super::run`] calls a run endless.
    pub fn limit_steps(&self, steps: u64) {
        self.world.borrow_mut().steps_max = steps;
    }

    /// A client dials from an address of its own.
    pub fn client_connect(&self, to: SocketAddr) -> End {
        self.client_connect_from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), to)
    }

    pub fn client_connect_from(&self, host: IpAddr, to: SocketAddr) -> End {
        let mut world = self.world.borrow_mut();
        let from = world.unused_address(host);
        let id = world.connect(Owner::Actor, from, to, Handshake::Full, None);
        End::new(self, id)
    }

    /// A server that the test plays starts listening.
    pub fn backend_listen(&self, at: SocketAddr) -> Backend {
        let mut world = self.world.borrow_mut();
        let backlog = world.faults.backlog;
        let id = world.open_listener(Owner::Actor, at, None, backlog);
        Backend::new(self, id)
    }

    /// A UDP server that the test plays, or a client: what they can do is the same.
    pub fn udp_service(&self, at: SocketAddr) -> UdpService {
        let mut world = self.world.borrow_mut();
        let id = world.open_udp(Owner::Actor, at, None, None);
        UdpService::new(self, id)
    }

    /// Packets of data and FINs so far: the points at which a [`super::Strike`] can be planned.
    pub fn packets(&self) -> u64 {
        self.world.borrow().packets
    }

    /// Everything that happened so far.
    pub fn marks(&self) -> Vec<Mark> {
        self.world.borrow().marks.clone()
    }

    /// The end of what happened, for people.
    pub fn story(&self) -> String {
        const LINES: usize = 60;
        let world = self.world.borrow();
        let lines = &world.marks[world.marks.len().saturating_sub(LINES)..];
        lines.iter().map(|mark| format!("{:?} {:?} {:?}\n", mark.at, mark.socket, mark.fact)).collect()
    }

    pub fn open_sockets(&self, driver: DriverId) -> Vec<OpenSocket> {
        let world = self.world.borrow();
        let held = world
            .sockets
            .iter()
            .enumerate()
            .filter(|(_, socket)| socket.owner == Owner::Driver(driver) && socket.held && socket.closed.is_none());
        held.map(|(id, socket)| OpenSocket {
            sock: Sock(id as u32),
            token: socket.token,
            age: world.now.since(socket.opened_at),
            what: world.describe(id as u32),
        })
        .collect()
    }

    pub fn totals(&self, driver: DriverId) -> Totals {
        self.world.borrow_mut().driver(driver).totals
    }

    /// Panics when the node holds a socket that is not a listener.
    pub fn assert_no_connection_left(&self, driver: DriverId) {
        let open = self.open_sockets(driver);
        let left: Vec<&OpenSocket> = open.iter().filter(|open| !self.is_listener(open.sock)).collect();
        assert!(
            left.is_empty(),
            "{driver:?} still holds {} connections at {:?} (seed {}): {left:#?}",
            left.len(),
            self.now(),
            self.seed()
        );
    }

    fn is_listener(&self, sock: Sock) -> bool {
        matches!(self.world.borrow().sockets[sock.0 as usize].kind, Kind::Listener(_))
    }
}
