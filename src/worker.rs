//! One worker: a loop that turns readiness, timers and new plans into calls of the serving rooms.
//!
//! Generic over the driver, so the simulation runs this very loop under a virtual clock.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use evenkeel_l4::{Accepted, Arena, Core, Key, ListenerSlot, Owner, Relays, Sessions, Turned, owner_of, token};
use evenkeel_l7::Http;
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_plan::{Listener, Protocol, Reader, Refuse};
use evenkeel_reactor::{Close, Driver, Errno, Event, ListenOptions, Sock, TcpOptions, Token, WOKEN};
use std::net::SocketAddr;

/// How long accepting rests when the process is out of files.
const ACCEPT_REST: Duration = Duration::from_millis(50);

const FAREWELL: Duration = Duration::from_millis(limits::LISTEN_FAREWELL.value);

/// What a worker is told besides the snapshot.
pub enum Command<B> {
    /// Serve what arrives at this socket as the listener of this name, once the plan has it. Sockets for connections come in
    /// rounds: those of a later one take the place of all that the worker has at their address.
    Listen { listener: Arc<str>, address: SocketAddr, arrives: Arrives, bound: B, round: u64 },
    /// The address has left the plan: sockets of its listeners that still wait for theirs are not needed.
    Forget { address: SocketAddr, arrives: Arrives },
    /// Let nothing new in, end what runs by the deadline, then stop.
    Drain { deadline: Instant, after: After },
}

/// Who serves after a worker that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Nobody,
    /// Another process, at the same sockets. Datagrams are its own from now on, those of clients that had a session here too.
    Successor,
}

/// What comes in at a listening socket. One address can have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrives {
    Connections,
    Datagrams,
}

impl Arrives {
    pub const fn at(protocol: Protocol) -> Self {
        if protocol.is_stream() { Arrives::Connections } else { Arrives::Datagrams }
    }
}

pub struct Worker<D: Driver> {
    core: Core<D>,
    relays: Relays<D>,
    sessions: Sessions,
    http: Http,
    reader: Reader,
    commands: Receiver<Command<D::Bound>>,
    /// Sockets that came before the plan that names them.
    early: Vec<Early<D::Bound>>,
    listening: Arena<Listening>,
    /// Listeners that may have more waiting than one batch took.
    crowded: Vec<Key>,
    /// Listeners that are gone, and when their connections must be.
    leaving: Vec<(Instant, Rc<ListenerSlot>)>,
    deadline: Option<Instant>,
    events: Vec<Event>,
    fired: Vec<Token>,
}

struct Early<B> {
    listener: Arc<str>,
    address: SocketAddr,
    arrives: Arrives,
    bound: B,
    round: u64,
}

struct Listening {
    sock: Sock,
    round: u64,
    address: SocketAddr,
    slot: Rc<ListenerSlot>,
    /// As the socket has them now.
    options: ListenOptions,
    /// It is about to be closed: only handshakes that have begun still come in, see [`crate::ports`].
    closes: Option<Instant>,
}

impl<D: Driver> Worker<D> {
    pub fn new(mut core: Core<D>, mut http: Http, mut reader: Reader, commands: Receiver<Command<D::Bound>>) -> Self {
        let snapshot = Arc::clone(reader.load());
        core.roster.follow(&snapshot);
        http.follow_traces(&core);
        let sessions = Sessions::new(&core);
        Worker {
            core,
            relays: Relays::default(),
            sessions,
            http,
            reader,
            commands,
            early: Vec::new(),
            listening: Arena::default(),
            crowded: Vec::new(),
            leaving: Vec::new(),
            deadline: None,
            events: Vec::with_capacity(256),
            fired: Vec::new(),
        }
    }

    /// Waits for something to do and does it. False when the worker has drained and is done.
    pub fn turn(&mut self) -> bool {
        let crowded = !self.crowded.is_empty() || self.sessions.is_crowded();
        let until = if crowded { Some(Instant::START) } else { self.poll_timeout() };
        let mut events = std::mem::take(&mut self.events);
        self.core.driver.poll(&mut events, until);
        let now = self.core.driver.now();
        if events.iter().any(|event| event.token == WOKEN) {
            self.take_commands(now);
        }
        self.follow(now);
        for &event in &events {
            self.event(event, now);
        }
        self.events = events;
        for key in std::mem::take(&mut self.crowded) {
            self.accept(key, now);
        }
        self.sessions.go_on(&mut self.core, now);
        self.timers(now);
        self.http.flush(&mut self.core, now);
        self.sessions.flush(&mut self.core);
        if self.is_done() {
            self.sessions.finish(&mut self.core);
            return false;
        }
        true
    }

    /// When [`Worker::turn`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(|(deadline, _)| *deadline).min();
        let rooms = [self.http.poll_timeout(), self.sessions.poll_timeout()];
        let closes = self.listening.iter().filter_map(|listening| listening.closes).min();
        let own = [self.core.wheel.next(), self.core.observer.poll_timeout(), self.deadline, leaving, closes];
        rooms.into_iter().chain(own).flatten().min()
    }

    /// Takes what was commanded and any new snapshot; for a first time before the loop.
    pub fn take_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen { listener, address, arrives, bound, round } => {
                    self.early.push(Early { listener, address, arrives, bound, round });
                }
                Command::Forget { address, arrives } => {
                    self.early.retain(|early| (early.address, early.arrives) != (address, arrives));
                }
                Command::Drain { deadline, after } => self.drain(deadline, after, now),
            }
        }
        self.listen_early(now);
    }

    pub fn core(&self) -> &Core<D> {
        &self.core
    }

    /// UDP sessions, and the names they are found by.
    pub fn sessions(&self) -> (usize, usize) {
        (self.sessions.len(), self.sessions.names())
    }

    /// Client connections, relays and sessions included.
    pub fn connections(&self) -> usize {
        self.core.connections()
    }

    pub fn backend_connections(&self) -> usize {
        self.http.backend_connections()
    }

    fn event(&mut self, event: Event, now: Instant) {
        let Some((owner, key)) = owner_of(event.token) else { return };
        match owner {
            Owner::Listener => {
                self.accept(key, now);
            }
            Owner::RelayClient => self.relays.client_event(&mut self.core, key, event, now),
            Owner::RelayBackend => self.relays.backend_event(&mut self.core, key, event, now),
            Owner::HttpClient => self.http.client_event(&mut self.core, key, event, now),
            Owner::HttpBackend => self.http.backend_event(&mut self.core, key, event, now),
            Owner::UdpListener => {
                if event.readable {
                    self.sessions.arrived(&mut self.core, key, now);
                }
            }
            Owner::UdpSession => {
                if event.readable || event.hangup {
                    self.sessions.answered(&mut self.core, key, now);
                }
            }
        }
    }

    fn timers(&mut self, now: Instant) {
        let mut fired = std::mem::take(&mut self.fired);
        fired.clear();
        self.core.wheel.fire(now, &mut fired);
        for &token in &fired {
            let Some((owner, key)) = owner_of(token) else { continue };
            match owner {
                Owner::Listener => {
                    self.accept(key, now);
                }
                Owner::RelayClient | Owner::RelayBackend => self.relays.timer(&mut self.core, key, now),
                Owner::HttpClient => self.http.client_timer(&mut self.core, key, now),
                Owner::HttpBackend => self.http.backend_timer(&mut self.core, key, now),
                Owner::UdpListener => {}
                Owner::UdpSession => self.sessions.timer(&mut self.core, key, now),
            }
        }
        self.fired = fired;
        self.sessions.handle_timeout(&mut self.core, now);
        self.core.observer.handle_timeout(now);
        self.end_overdue(now);
    }

    /// Looks whether there is a new snapshot and acts on what it changed.
    fn follow(&mut self, now: Instant) {
        let snapshot = self.reader.load();
        let before = self.core.roster.generation();
        let plan_changed = self.core.roster.follow(snapshot);
        if self.core.roster.generation() != before {
            self.http.verdicts_changed(&mut self.core, now);
            self.relays.verdicts_changed(&mut self.core, now);
            self.sessions.verdicts_changed(&mut self.core, now);
        }
        if !plan_changed {
            return;
        }
        let snapshot = self.reader.load();
        let drain_timeout = snapshot.plan.node.drain_timeout;
        self.http.plan_changed(&mut self.core, now);
        self.sessions.plan_changed(&mut self.core, snapshot, now);
        self.listen_early(now);
        for key in self.listening.keys() {
            let Some(listening) = self.listening.get_mut(key) else { continue };
            let slot = Rc::clone(&listening.slot);
            let address = listening.address;
            let wanted = |settings: &Listener| settings.protocol.is_stream() && settings.listen.contains(&address);
            if !slot.is_removed() && slot.read(wanted) {
                // A plan that comes after the order to stop opens nothing again.
                if self.deadline.is_none() {
                    listening.closes = None;
                }
                let options = slot.read(listen_options);
                if options != std::mem::replace(&mut listening.options, options) {
                    self.core.driver.tune(listening.sock, &options);
                }
                continue;
            }
            listening.closes.get_or_insert(now + FAREWELL);
            if slot.is_removed() && !self.leaving.iter().any(|(_, other)| Rc::ptr_eq(other, &slot)) {
                self.leaving.push((now + drain_timeout, slot));
            }
        }
    }

    fn listen_early(&mut self, now: Instant) {
        for early in std::mem::take(&mut self.early) {
            // Its plan may not have come yet: there is no such listener, or it still is one of another protocol or elsewhere.
            let slot = self.core.roster.listener(&early.listener);
            let is_its = |settings: &Listener| {
                early.arrives == Arrives::at(settings.protocol) && settings.listen.contains(&early.address)
            };
            let fits = |slot: &&Rc<ListenerSlot>| slot.read(is_its);
            let Some(slot) = slot.filter(fits).map(Rc::clone) else {
                self.early.push(early);
                continue;
            };
            let Early { address, arrives, bound, round, .. } = early;
            // Where the kernel cannot watch one more file the other workers' sockets still serve the address.
            match arrives {
                Arrives::Datagrams => {
                    let _ = self.sessions.listen(&mut self.core, &slot, address, bound);
                }
                Arrives::Connections => {
                    // The same sockets, held a second time, where the address passes from one listener to another or comes back.
                    for key in self.listening.keys() {
                        if self.listening.get(key).is_some_and(|old| old.address == address && old.round < round) {
                            self.stop_listening(key, now);
                        }
                    }
                    let driver = &mut self.core.driver;
                    let listened = self.listening.try_insert_with(|key| {
                        let sock = driver.listen(bound, token(Owner::Listener, key))?;
                        Ok::<_, Errno>(Listening {
                            sock,
                            round,
                            address,
                            options: slot.read(listen_options),
                            slot,
                            closes: self.deadline.map(|deadline| deadline.min(now + FAREWELL)),
                        })
                    });
                    self.crowded.extend(listened);
                }
            }
        }
    }

    /// Takes what waits in the queue, then lets the socket go: those clients had their handshake already.
    fn stop_listening(&mut self, key: Key, now: Instant) {
        while self.accept(key, now) {}
        if let Some(listening) = self.listening.remove(key) {
            self.core.driver.close(listening.sock, Close::Orderly);
        }
    }

    /// Accepts a batch. True when there may be more.
    fn accept(&mut self, key: Key, now: Instant) -> bool {
        for _ in 0..limits::ACCEPT_BATCH.value {
            let Some(listening) = self.listening.get(key) else { return false };
            match self.core.driver.accept(listening.sock) {
                Ok(Some((sock, client))) => {
                    let listener = Rc::clone(&listening.slot);
                    let admitted = self.core.admit(&listener, client, now);
                    let protocol = listener.read(|settings| settings.protocol);
                    match (protocol, admitted) {
                        (Protocol::Tcp | Protocol::TlsPassthrough, Ok(pass)) => {
                            self.relays.open(&mut self.core, Accepted { sock, client, listener, at: now, pass });
                        }
                        (Protocol::Http | Protocol::Https, Ok(pass)) => {
                            self.http.open(&mut self.core, Accepted { sock, client, listener, at: now, pass });
                        }
                        (Protocol::Udp, Ok(pass)) => {
                            // It came while the listener changed its protocol.
                            drop(pass);
                            self.core.discharge(&listener);
                            let detail = Detail::Text("the listener is one of another protocol now");
                            let turned = Turned { cause: Cause::BalancerDraining, detail };
                            self.core.refuse(&listener, client, turned, None, now);
                            self.core.driver.close(sock, Close::Reset);
                        }
                        (Protocol::Http, Err(turned)) => {
                            self.http.turn_away(&mut self.core, sock, client, &listener, turned, now);
                        }
                        (_, Err(turned)) => {
                            self.core.refuse(&listener, client, turned, None, now);
                            let how = match listener.read(|settings| settings.refuse) {
                                Refuse::Reset => Close::Reset,
                                Refuse::Silence => Close::Silent,
                            };
                            self.core.driver.close(sock, how);
                        }
                    }
                }
                Ok(None) => return false,
                Err(errno) if errno.is_our_shortage() => {
                    self.core.wheel.set(now + ACCEPT_REST, token(Owner::Listener, key));
                    return false;
                }
                // The client left between its handshake and our call.
                Err(_) => {}
            }
        }
        if !self.crowded.contains(&key) {
            self.crowded.push(key);
        }
        true
    }

    fn drain(&mut self, deadline: Instant, after: After, now: Instant) {
        self.core.drain();
        self.deadline = Some(self.deadline.map_or(deadline, |before| before.min(deadline)));
        for key in self.listening.keys() {
            if let Some(listening) = self.listening.get_mut(key) {
                // No later than the deadline, behind which nothing is waited for: a turn would find its time come again and again.
                let closes = listening.closes.unwrap_or(now + FAREWELL);
                listening.closes = Some(closes.min(deadline));
            }
        }
        if after == After::Successor {
            self.sessions.stop_hearing();
        }
        self.sessions.drain(&mut self.core);
        self.http.close_idle(&mut self.core, now);
    }

    fn end_overdue(&mut self, now: Instant) {
        for key in self.listening.keys() {
            if self.listening.get(key).and_then(|listening| listening.closes).is_some_and(|at| now >= at) {
                self.stop_listening(key, now);
            }
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.relays.end_all(&mut self.core, now, |_| true);
            self.http.end_all(&mut self.core, now, |_| true);
            self.sessions.end_all(&mut self.core, now, |_| true);
        }
        if self.leaving.iter().any(|(deadline, _)| now >= *deadline) {
            let overdue: Vec<Rc<ListenerSlot>> =
                self.leaving.extract_if(.., |(deadline, _)| now >= *deadline).map(|(_, slot)| slot).collect();
            let which = |slot: &ListenerSlot| overdue.iter().any(|other| std::ptr::eq(&raw const **other, slot));
            self.relays.end_all(&mut self.core, now, which);
            self.http.end_all(&mut self.core, now, which);
        }
    }

    fn is_done(&self) -> bool {
        self.deadline.is_some() && self.core.connections() == 0 && self.listening.is_empty()
    }
}

/// How the kernel is to treat the connections of a listener.
pub fn listen_options(listener: &Listener) -> ListenOptions {
    let tcp = &listener.tcp;
    ListenOptions {
        tcp: TcpOptions { keepalive: tcp.socket.keepalive, user_timeout: tcp.socket.user_timeout },
        backlog: listener.backlog,
        fast_open: tcp.fast_open,
        defer_accept: tcp.defer_accept,
    }
}
