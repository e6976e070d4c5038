//! One worker: a loop that turns readiness, timers and new plans into calls of the serving rooms.
//!
//! Generic over the driver, so the simulation runs this very loop under a virtual clock.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use evenkeel_l4::{Accepted, Arena, Core, Key, ListenerSlot, Owner, Relays, owner_of, token};
use evenkeel_l7::Http;
use evenkeel_model::{Instant, limits};
use evenkeel_plan::{Protocol, Reader};
use evenkeel_reactor::{Close, Driver, Event, Sock, Token, WOKEN};
use std::net::SocketAddr;

/// How long accepting rests when the process is out of files.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a worker is told besides the snapshot.
pub enum Command<B> {
    /// Serve what arrives at this socket as the listener of this name, once the plan has it.
    Listen { listener: Arc<str>, address: SocketAddr, bound: B },
    /// Let nothing new in, end what runs by the deadline, then stop.
    Drain { deadline: Instant },
}

pub struct Worker<D: Driver> {
    core: Core<D>,
    relays: Relays<D>,
    http: Http,
    reader: Reader,
    commands: Receiver<Command<D::Bound>>,
    /// Sockets that came before the plan that names them.
    early: Vec<(Arc<str>, SocketAddr, D::Bound)>,
    listening: Arena<Listening>,
    /// Listeners that may have more waiting than one batch took.
    crowded: Vec<Key>,
    /// Listeners that are gone, and when their connections must be.
    leaving: Vec<(Instant, Rc<ListenerSlot>)>,
    deadline: Option<Instant>,
    events: Vec<Event>,
    fired: Vec<Token>,
}

struct Listening {
    sock: Sock,
    address: SocketAddr,
    slot: Rc<ListenerSlot>,
}

impl<D: Driver> Worker<D> {
    pub fn new(mut core: Core<D>, http: Http, mut reader: Reader, commands: Receiver<Command<D::Bound>>) -> Self {
        let snapshot = Arc::clone(reader.load());
        core.roster.follow(&snapshot);
        Worker {
            core,
            relays: Relays::default(),
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
        let until = if self.crowded.is_empty() { self.poll_timeout() } else { Some(Instant::START) };
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
        self.timers(now);
        self.http.flush(&mut self.core, now);
        !self.is_done()
    }

    /// When [`Worker::turn`] has something to do even if nothing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(|(deadline, _)| *deadline).min();
        [self.core.wheel.next(), self.core.observer.poll_timeout(), self.http.poll_timeout(), self.deadline, leaving]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes what was commanded and any new snapshot; for a first time before the loop.
    pub fn take_commands(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen { listener, address, bound } => self.early.push((listener, address, bound)),
                Command::Drain { deadline } => self.drain(deadline, now),
            }
        }
        self.listen_early();
    }

    pub fn core(&self) -> &Core<D> {
        &self.core
    }

    /// Client connections, relays included.
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
            // None is made yet.
            Owner::UdpSession => {}
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
                Owner::UdpSession => {}
            }
        }
        self.fired = fired;
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
        }
        if !plan_changed {
            return;
        }
        let snapshot = self.reader.load();
        let drain_timeout = snapshot.plan.node.drain_timeout;
        self.http.plan_changed(&mut self.core, now);
        self.listen_early();
        for key in self.listening.keys() {
            let Some(listening) = self.listening.get(key) else { continue };
            let slot = Rc::clone(&listening.slot);
            let kept = !slot.is_removed() && slot.read(|settings| settings.listen.contains(&listening.address));
            if kept {
                continue;
            }
            self.stop_listening(key, now);
            if slot.is_removed() && !self.leaving.iter().any(|(_, other)| Rc::ptr_eq(other, &slot)) {
                self.leaving.push((now + drain_timeout, slot));
            }
        }
    }

    fn listen_early(&mut self) {
        for (name, address, bound) in std::mem::take(&mut self.early) {
            let Some(slot) = self.core.roster.listener(&name) else {
                self.early.push((name, address, bound));
                continue;
            };
            let slot = Rc::clone(slot);
            let driver = &mut self.core.driver;
            let mut listened = Ok(());
            let key = self.listening.insert_with(|key| {
                let sock = driver.listen(bound, token(Owner::Listener, key));
                listened = sock.map(|_| ());
                Listening { sock: sock.unwrap_or(Sock(u32::MAX)), address, slot }
            });
            if listened.is_err() {
                // The kernel could not watch one more file. The other workers' sockets still serve it.
                self.listening.remove(key);
            } else {
                self.crowded.push(key);
            }
        }
    }

    /// Takes what waits in the queue, then closes the socket: those clients had their handshake already.
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
                        (Protocol::Tcp | Protocol::Udp | Protocol::TlsPassthrough, Ok(pass)) => {
                            self.relays.open(&mut self.core, Accepted { sock, client, listener, at: now, pass });
                        }
                        (Protocol::Http | Protocol::Https, Ok(pass)) => {
                            self.http.open(&mut self.core, Accepted { sock, client, listener, at: now, pass });
                        }
                        (Protocol::Http, Err(turned)) => {
                            self.http.turn_away(&mut self.core, sock, client, &listener, turned, now);
                        }
                        (_, Err(turned)) => {
                            self.core.refuse(&listener, client, turned, None, now);
                            self.core.driver.close(sock, Close::Reset);
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

    fn drain(&mut self, deadline: Instant, now: Instant) {
        self.core.drain();
        self.deadline = Some(self.deadline.map_or(deadline, |before| before.min(deadline)));
        for key in self.listening.keys() {
            self.stop_listening(key, now);
        }
        self.http.close_idle(&mut self.core, now);
    }

    fn end_overdue(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.relays.end_all(&mut self.core, now, |_| true);
            self.http.end_all(&mut self.core, now, |_| true);
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
        self.deadline.is_some() && self.core.connections() == 0
    }
}
