//! Everything that exists in one virtual network: the clock, what is still to happen, the sockets,
//! and who has to be told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use evenkeel_model::Instant;

use super::faults::{Dice, Faults};
use super::net::{DriverId, Totals, Way};
use super::refusals::Budgets;
use super::socket::{Datagram, Kind, Listener, Owner, Socket, Tcp, Udp};
use super::trace::{Fact, Mark};
use crate::{Close, Errno, Event, Sock, Token, WOKEN};

/// Steps of one `run` before it is called endless. The longest sensible simulation takes some
/// hundred thousand.
pub(super) const STEPS_MAX: u64 = 5_000_000;

pub(super) struct World {
    pub seed: u64,
    pub now: Instant,
    pub dice: Dice,
    pub faults: Faults,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub sockets: Vec<Socket>,
    pub listening: BTreeMap<SocketAddr, Vec<u32>>,
    pub udp_bound: BTreeMap<SocketAddr, Vec<u32>>,
    pub ways: BTreeMap<SocketAddr, Way>,
    /// The way to a host, for addresses without a way of their own.
    pub ways_to_hosts: BTreeMap<IpAddr, Way>,
    pub budgets: Budgets,
    /// Nodes may not have sockets for echo requests.
    pub echo_is_forbidden: bool,
    pub drivers: Vec<DriverState>,
    /// Packets of data and FINs that arrived or were struck.
    pub packets: u64,
    /// Nodes do not run before it.
    pub paused_until: Instant,
    next_port: u16,
    pub steps_max: u64,
    pub marks: Vec<Mark>,
}

pub(super) struct DriverState {
    pub host: IpAddr,
    /// Sockets with news, oldest first.
    pub ready: VecDeque<u32>,
    pub woken: bool,
    /// What the last `poll` said it would wait for.
    pub until: Option<Instant>,
    /// The last `poll` reported nothing, left nothing, and its time had not come.
    pub quiet: bool,
    pub totals: Totals,
    pub gone: bool,
}

struct Scheduled {
    at: Instant,
    /// Of two happenings at one time the one that was scheduled first comes first.
    order: u64,
    what: Happening,
}

pub(super) enum Happening {
    Syn {
        from: u32,
        attempt: u32,
    },
    Packet {
        to: u32,
        packet: Packet,
    },
    /// Linux withholds the last ACK of a handshake for 200 ms, not for ever.
    DelayedAck {
        of: u32,
    },
    Datagram {
        by: u32,
        datagram: Datagram,
    },
    /// A full socket has sent what it held.
    Room {
        at: u32,
    },
    /// A router or the other host says no.
    Icmp {
        to: u32,
        error: Errno,
    },
    /// Somebody who plays a client or a backend wanted to be called at this time.
    Alarm,
}

pub(super) enum Packet {
    SynAck,
    Ack,
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        World {
            seed,
            now: Instant::START,
            dice: Dice::new(seed),
            faults,
            queue: BinaryHeap::new(),
            scheduled: 0,
            sockets: Vec::new(),
            listening: BTreeMap::new(),
            udp_bound: BTreeMap::new(),
            ways: BTreeMap::new(),
            ways_to_hosts: BTreeMap::new(),
            budgets: Budgets::default(),
            echo_is_forbidden: false,
            drivers: Vec::new(),
            packets: 0,
            paused_until: Instant::START,
            next_port: 32_768,
            steps_max: STEPS_MAX,
            marks: Vec::new(),
        }
    }

    pub fn schedule(&mut self, at: Instant, what: Happening) {
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), order: self.scheduled, what }));
        self.scheduled += 1;
    }

    pub fn next_happening(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(next)| next.at)
    }

    /// The earliest time a node wants to run again of its own accord.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.drivers
            .iter()
            .filter(|driver| !driver.gone)
            .filter_map(|driver| driver.until)
            .filter(|&at| at != Instant::NEVER)
            .min()
    }

    /// Moves the clock to the next happening and lets it happen; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(Reverse(Scheduled { at, what, .. })) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        match what {
            Happening::Syn { from, attempt } => self.syn_arrived(from, attempt),
            Happening::Packet { to, packet } => self.packet_arrived(to, packet),
            Happening::DelayedAck { of } => self.acknowledge_handshake(of),
            Happening::Datagram { by, datagram } => self.datagram_arrived(by, datagram),
            Happening::Room { at } => self.notify(at),
            Happening::Icmp { to, error } => self.icmp_arrived(to, error),
            Happening::Alarm => {}
        }
        if self.dice.happens(self.faults.pause) {
            self.paused_until = self.now + self.dice.up_to(self.faults.pause_max);
            self.mark(0, Fact::Paused);
        }
        true
    }

    /// One way through the network, by the dice.
    pub fn travel(&mut self) -> Duration {
        let jitter = self.dice.up_to(self.faults.jitter);
        self.faults.latency + jitter
    }

    pub fn way(&self, to: SocketAddr) -> Way {
        let way = self.ways.get(&to).or_else(|| self.ways_to_hosts.get(&to.ip()));
        way.copied().unwrap_or(Way::Open)
    }

    /// Finds the sockets that listen at an address, by name or for all addresses of the host.
    pub fn listeners_at(&self, to: SocketAddr) -> &[u32] {
        let found = self.listening.get(&to).filter(|found| !found.is_empty());
        found.or_else(|| self.listening.get(&everywhere(to))).map_or(&[], Vec::as_slice)
    }

    /// The same for datagrams.
    pub fn udp_receivers(&self, to: SocketAddr) -> &[u32] {
        let found = self.udp_bound.get(&to).filter(|found| !found.is_empty());
        found.or_else(|| self.udp_bound.get(&everywhere(to))).map_or(&[], Vec::as_slice)
    }

    /// An address that nobody has used yet.
    pub fn unused_address(&mut self, host: IpAddr) -> SocketAddr {
        loop {
            self.next_port = if self.next_port == u16::MAX { 1024 } else { self.next_port + 1 };
            let address = SocketAddr::new(host, self.next_port);
            if self.listeners_at(address).is_empty() && self.udp_receivers(address).is_empty() {
                return address;
            }
        }
    }

    pub fn open(&mut self, owner: Owner, local: SocketAddr, token: Option<Token>, kind: Kind) -> u32 {
        let id = u32::try_from(self.sockets.len()).expect("a test opens fewer than 2^32 sockets");
        if let Owner::Driver(driver) = owner {
            self.driver(driver).totals.opened += 1;
        }
        self.sockets.push(Socket {
            owner,
            local,
            opened_at: self.now,
            held: true,
            closed: None,
            token,
            queued: false,
            kind,
        });
        id
    }

    pub fn open_listener(&mut self, owner: Owner, at: SocketAddr, token: Option<Token>, backlog: usize) -> u32 {
        let at = if at.port() == 0 { self.unused_address(at.ip()) } else { at };
        let listener = Listener { backlog, waiting: VecDeque::new(), half_open: 0, completed: 0 };
        let id = self.open(owner, at, token, Kind::Listener(listener));
        self.listening.entry(at).or_default().push(id);
        self.mark(id, Fact::Listened);
        id
    }

    pub fn open_udp(&mut self, owner: Owner, at: SocketAddr, remote: Option<SocketAddr>, token: Option<Token>) -> u32 {
        let at = if at.port() == 0 { self.unused_address(at.ip()) } else { at };
        let id = self.open(owner, at, token, Kind::Udp(Udp::new(remote)));
        self.udp_bound.entry(at).or_default().push(id);
        self.mark(id, if remote.is_some() { Fact::Dialled } else { Fact::Listened });
        id
    }

    /// The owner lets go. Calling it twice is the caller's mistake and was caught before.
    pub fn close(&mut self, id: u32, how: Close) {
        self.mark(id, Fact::Closed(how));
        let now = self.now;
        let socket = self.socket(id);
        socket.closed = Some((how, now));
        socket.token = None;
        let local = socket.local;
        if let Owner::Driver(driver) = socket.owner {
            self.driver(driver).totals.closed += 1;
        }
        match &mut self.socket(id).kind {
            Kind::Listener(listener) => {
                let waiting = std::mem::take(&mut listener.waiting);
                self.listening.entry(local).or_default().retain(|&other| other != id);
                for connection in waiting {
                    self.socket(connection).closed = Some((Close::Reset, now));
                    self.close_connection(connection, Close::Reset);
                }
            }
            Kind::Tcp(_) => self.close_connection(id, how),
            Kind::Udp(_) => {
                self.udp_bound.entry(local).or_default().retain(|&other| other != id);
            }
        }
    }

    /// Something changed at this socket: its driver hears of it at the next `poll`.
    pub fn notify(&mut self, id: u32) {
        let socket = self.socket(id);
        if socket.token.is_none() || socket.queued {
            return;
        }
        let Owner::Driver(driver) = socket.owner else { return };
        socket.queued = true;
        self.driver(driver).ready.push_back(id);
    }

    /// What `poll` of this driver reports now.
    pub fn take_events(&mut self, driver: DriverId, events: &mut Vec<Event>, until: Option<Instant>) {
        if std::mem::take(&mut self.driver(driver).woken) {
            events.push(Event { token: WOKEN, readable: true, writable: false, hangup: false });
        }
        let mut batch = self.driver(driver).ready.len();
        if batch > 1 && self.dice.happens(self.faults.short_poll) {
            batch = 1;
        }
        for _ in 0..batch {
            let id = self.driver(driver).ready.pop_front().expect("the batch is no longer than the list");
            let socket = self.socket(id);
            socket.queued = false;
            // A closed socket has no token and says nothing.
            let Some(event) = socket.event() else { continue };
            self.mark(id, Fact::Notified(event.token));
            if event.readable && event.writable && self.dice.happens(self.faults.split_events) {
                // Both tell of a hangup: writable without it would say that a dialled connection stands.
                let mut halves = [Event { readable: false, ..event }, Event { writable: false, ..event }];
                if self.dice.below(2) == 0 {
                    halves.reverse();
                }
                events.extend(halves);
            } else {
                events.push(event);
            }
        }
        let now = self.now;
        let state = self.driver(driver);
        state.until = until;
        state.quiet = events.is_empty() && state.ready.is_empty() && until.is_none_or(|until| until > now);
    }

    pub fn mark(&mut self, socket: u32, fact: Fact) {
        self.marks.push(Mark { at: self.now, socket, fact });
    }

    pub fn driver(&mut self, id: DriverId) -> &mut DriverState {
        &mut self.drivers[id.0]
    }

    pub fn socket(&mut self, id: u32) -> &mut Socket {
        &mut self.sockets[id as usize]
    }

    /// For ids that are known to be connections.
    pub fn tcp(&mut self, id: u32) -> &mut Tcp {
        match &mut self.sockets[id as usize].kind {
            Kind::Tcp(tcp) => tcp,
            Kind::Listener(_) | Kind::Udp(_) => panic!("socket {id} is not a connection"),
        }
    }

    pub fn udp(&mut self, id: u32) -> Option<&mut Udp> {
        match &mut self.sockets[id as usize].kind {
            Kind::Udp(udp) => Some(udp),
            Kind::Listener(_) | Kind::Tcp(_) => None,
        }
    }

    pub fn listener(&mut self, id: u32) -> &mut Listener {
        match &mut self.sockets[id as usize].kind {
            Kind::Listener(listener) => listener,
            Kind::Tcp(_) | Kind::Udp(_) => panic!("socket {id} is not a listener"),
        }
    }

    /// Checks that a driver may use the handle, and panics with the handle's story when it may not.
    pub fn held(&self, driver: DriverId, sock: Sock, doing: &str) -> u32 {
        let seed = self.seed;
        let Some(socket) = self.sockets.get(sock.0 as usize) else {
            panic!("{doing} on socket {}, which never existed (seed {seed})", sock.0);
        };
        assert!(
            socket.owner == Owner::Driver(driver) && socket.held,
            "{doing} on {}, which is held by {:?}, not by {driver:?} (seed {seed})",
            self.describe(sock.0),
            socket.owner,
        );
        if let Some((how, at)) = socket.closed {
            panic!(
                "{doing} on {} at {:?}, but it was closed ({how:?}) at {at:?} (seed {seed})\n{}",
                self.describe(sock.0),
                self.now,
                self.story_of(sock.0),
            );
        }
        sock.0
    }

    pub fn describe(&self, id: u32) -> String {
        let socket = &self.sockets[id as usize];
        let local = socket.local;
        let kind = match &socket.kind {
            Kind::Listener(_) => format!("listener {local}"),
            Kind::Tcp(tcp) => format!("connection {local} to {}", tcp.remote),
            Kind::Udp(Udp { remote: Some(remote), .. }) => format!("udp {local} to {remote}"),
            Kind::Udp(_) => format!("udp {local}"),
        };
        format!("socket {id} ({kind})")
    }

    /// The last lines of the trace that speak of one socket.
    pub fn story_of(&self, id: u32) -> String {
        let lines: Vec<&Mark> = self.marks.iter().rev().filter(|mark| mark.socket == id).take(12).collect();
        lines.iter().rev().map(|mark| format!("  {:?} {:?}\n", mark.at, mark.fact)).collect()
    }
}

/// All addresses of a host, with the port of one.
fn everywhere(address: SocketAddr) -> SocketAddr {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, address.port())
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
