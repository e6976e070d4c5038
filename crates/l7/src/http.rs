//! The hands of http listeners: which event concerns whom.
//!
//! It sorts events and timers and keeps the connections; what follows from them is in `requesting`,
//! `answering` and `ending`. A timeout has one meaning, that of the `Wait` it was set for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_l4::{Accepted, Arena, Core, Key, ListenerSlot, Owner, PoolSlot, token};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Epoch, Instant, limits};
use evenkeel_plan::Traces;
use evenkeel_reactor::{Close, Driver, Event, Recv};
use evenkeel_tls::Session;

use crate::backend::{Backend, State};
use crate::carriers::{Carriers, Holder};
use crate::client::{Attempting, Client, Output, Standing, Watching};
use crate::link::Link;
use crate::machine::{Compressors, Exchange, Stage, Timeouts, Wait};
use crate::secured::Secured;

/// How long a new connection is served without watching its socket.
const WATCH_AFTER: Duration = Duration::from_millis(limits::WATCH_AFTER.value);

/// All HTTP connections of one worker.
pub struct Http {
    pub(crate) clients: Arena<Client>,
    pub(crate) backends: Arena<Backend>,
    pub(crate) carriers: Carriers,
    /// Pools with requests that wait for a place.
    pub(crate) queued: Vec<Rc<PoolSlot>>,
    pub(crate) compressors: Compressors,
    /// Buffers of requests that are over, for those that come on streams: each of these is a client of its own.
    pub(crate) spare: Vec<(Exchange, Attempting)>,
    /// Where heads are written before they are sent.
    pub(crate) head: Vec<u8>,
    /// What this cluster signs CDN-Loop with.
    pub(crate) loop_id: Rc<[u8]>,
    /// Dates tokens.
    pub(crate) epoch: Epoch,
    /// `None`: nothing is traced.
    pub(crate) traces: Option<Arc<Traces>>,
}

impl Http {
    pub fn new(loop_id: &[u8], epoch: Epoch) -> Self {
        Http {
            clients: Arena::default(),
            backends: Arena::default(),
            carriers: Carriers::default(),
            queued: Vec::new(),
            compressors: Compressors::default(),
            spare: Vec::new(),
            head: Vec::with_capacity(4096),
            loop_id: loop_id.into(),
            epoch,
            traces: None,
        }
    }

    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    pub fn backend_connections(&self) -> usize {
        self.backends.len()
    }

    /// Takes over a connection that was admitted.
    pub fn open<D: Driver>(&mut self, core: &mut Core<D>, accepted: Accepted) {
        let Accepted { sock, client: address, listener, at, pass } = accepted;
        let timeouts = listener_timeouts(&listener);
        let (session, unnamed) = listener.read(|settings| {
            let unnamed = !settings.proxies.is_empty() && settings.proxies.contains(address.ip());
            let tls = settings.tls.as_ref().filter(|_| !unnamed);
            (tls.map(|tls| Session::server(tls)), unnamed)
        });
        let secure = session.is_some();
        let link = match session {
            None => Link::Plain(sock),
            Some(Ok(session)) => Link::Tls(Box::new(Secured::new(sock, session, false))),
            // Only a config that rustls refuses at every session could do that, and such a config is not compiled.
            Some(Err(_)) => {
                core.driver.close(sock, Close::Reset);
                core.discharge(&listener);
                return;
            }
        };
        let (standing, wait) = match (unnamed, secure) {
            (true, _) => (Standing::Unnamed, Wait::Introduction),
            (false, true) => (Standing::Securing, Wait::Handshake),
            (false, false) => (Standing::Idle, Wait::KeepAlive),
        };
        let key = self.clients.insert_with(|_| Client {
            link,
            address,
            listener,
            secure,
            identity: None,
            tls: None,
            sni: None,
            local: None,
            carries: None,
            standing,
            input: Vec::new(),
            output: Output::default(),
            watching: Watching::From(at + WATCH_AFTER),
            // The request often arrives with the handshake's last packet.
            readable: true,
            hangup: false,
            served: 0,
            accepted: at,
            secured: None,
            wait,
            deadline: at + timeouts.of(wait),
            armed: Instant::NEVER,
            timeouts,
            exchange: Exchange::default(),
            attempt: Attempting::default(),
            tunnel: None,
            coder: None,
            pass: Some(pass),
        });
        if standing != Standing::Idle {
            let id = core.next_id();
            if let Some(client) = self.clients.get_mut(key) {
                client.exchange.reset(id, at);
            }
        }
        self.drive(core, key, at);
    }

    pub fn client_event<D: Driver>(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.readable |= event.readable;
        client.hangup |= event.hangup;
        if client.tunnel.is_some() {
            self.tunnel_client_event(core, key, event, now);
            return;
        }
        if client.standing == Standing::Carrying {
            self.carry(core, Holder::Client(key), event, now);
            return;
        }
        if event.writable && client.is_behind() && client.standing != Standing::Securing {
            if client.flush(&mut core.driver, &mut self.carriers).is_err() {
                match client.standing {
                    // Its exchange is over and told of; only a goodbye did not arrive.
                    Standing::Idle | Standing::Lingering => self.drop_client(core, key, Close::Reset),
                    Standing::Unnamed | Standing::Securing | Standing::Carrying | Standing::Head | Standing::Busy => {
                        self.client_gone(core, key, now);
                    }
                }
                return;
            }
            if !client.is_behind() {
                self.output_drained(core, key, now);
            } else if client.wait == Wait::ClientRead {
                // It reads, if slowly: the time is counted from the last progress.
                client.wait_for(Wait::ClientRead, now);
            }
        }
        self.drive(core, key, now);
    }

    pub fn backend_event<D: Driver>(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        let Some(backend) = self.backends.get_mut(key) else { return };
        backend.readable |= event.readable;
        backend.hangup |= event.hangup;
        let client = backend.client;
        match (backend.state, client) {
            (State::Dialing, _) => self.dial_decided(core, key, event, now),
            (State::Greeting, _) => self.greet(core, key, now),
            (State::Securing, _) => self.secure_backend(core, key, now),
            (State::Carrying, _) => self.carry(core, Holder::Backend(key), event, now),
            (State::Busy, Some(client)) => {
                let Some(Client { attempt, tunnel, .. }) = self.clients.get(client) else { return };
                if attempt.hedges_on(key) {
                    self.hedge_event(core, client, event, now);
                    return;
                }
                if tunnel.is_some() {
                    self.tunnel_backend_event(core, client, event, now);
                    return;
                }
                let Some(backend) = self.backends.get_mut(key) else { return };
                if event.writable {
                    if backend.link.flush(&mut core.driver).is_err() {
                        // Reading tells what became of it.
                        backend.readable = true;
                        backend.hangup = true;
                    }
                    self.send_request(core, client, now);
                }
                self.read_answer(core, client, now);
                self.drive(core, client, now);
            }
            (State::Idle, _) | (_, None) => {
                // HTTP/1 lets a server say nothing unasked: it closed, or it is confused.
                if event.readable || event.hangup {
                    self.discard_idle(core, key);
                }
            }
        }
    }

    pub fn client_timer<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if now >= client.armed {
            client.armed = Instant::NEVER;
        }
        if now >= client.deadline {
            self.timed_out(core, key, now);
        } else if matches!(client.watching, Watching::From(from) if now >= from) {
            self.watch(core, key, now);
        }
        self.arm_client(core, key);
    }

    pub fn backend_timer<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(key) else { return };
        if now >= backend.armed {
            backend.armed = Instant::NEVER;
        }
        match backend.state {
            State::Busy => return,
            State::Idle | State::Carrying | State::Dialing | State::Greeting | State::Securing => {}
        }
        if now >= backend.deadline {
            match backend.state {
                State::Idle => self.discard_idle(core, key),
                State::Carrying => self.rest_carrier(core, key, now),
                State::Dialing | State::Greeting | State::Securing | State::Busy => {
                    self.carrier_not_made(core, key, now);
                }
            }
        } else {
            core.arm(token(Owner::HttpBackend, key), backend.deadline, &mut backend.armed);
        }
    }

    /// The plan changed: connections kept for backends that are gone are of no more use.
    pub fn plan_changed<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        self.follow_traces(core);
        for key in self.backends.keys() {
            let Some(backend) = self.backends.get(key).filter(|backend| backend.slot.is_removed()) else { continue };
            match backend.state {
                State::Idle => self.discard_idle(core, key),
                State::Carrying => self.retire_carrier(key, now),
                State::Dialing | State::Greeting | State::Securing | State::Busy => {}
            }
        }
        self.announce_drain(core, now);
    }

    /// Ends every connection for which `which` says so: the drain deadline has passed.
    pub fn end_all<D: Driver>(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&ListenerSlot) -> bool) {
        for key in self.clients.keys() {
            let Some(client) = self.clients.get_mut(key) else { continue };
            if !which(&client.listener) {
                continue;
            }
            match client.standing {
                Standing::Unnamed | Standing::Idle | Standing::Lingering | Standing::Securing => {
                    self.drop_client(core, key, Close::Orderly);
                }
                Standing::Carrying => self.end_carrying(core, key, now),
                Standing::Head | Standing::Busy => self.cut(core, key, Cause::BalancerDraining, None, now),
            }
        }
    }

    /// Closes kept connections; for the end of the process.
    pub fn close_idle<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        for key in self.backends.keys() {
            match self.backends.get(key).map(|backend| backend.state) {
                Some(State::Idle) => self.discard_idle(core, key),
                Some(State::Carrying) => self.retire_carrier(key, now),
                _ => {}
            }
        }
        self.announce_drain(core, now);
    }

    /// Goes on with a connection as far as what has been received allows.
    pub(crate) fn drive<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        while let Some(client) = self.clients.get_mut(key) {
            let went_on = match client.standing {
                Standing::Unnamed => self.introduce(core, key, now),
                Standing::Securing => self.secure_client(core, key, now),
                Standing::Carrying => false,
                Standing::Idle | Standing::Head => self.read_head(core, key, now),
                Standing::Busy => {
                    self.read_body(core, key, now);
                    // A finished exchange may have left the next request in the buffer.
                    self.clients.get(key).is_some_and(|client| client.standing == Standing::Idle)
                }
                Standing::Lingering => self.linger(core, key),
            };
            if !went_on {
                break;
            }
        }
        self.arm_client(core, key);
    }

    /// Sets the timer of whatever the connection waits for, and has its socket watched once that matters.
    pub(crate) fn arm_client<D: Driver>(&mut self, core: &mut Core<D>, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let mut deadline = client.deadline;
        if let Watching::From(from) = client.watching {
            if !client.only_the_backend_matters() {
                self.watch(core, key, core.driver.now());
                return;
            }
            deadline = deadline.min(from);
        }
        core.arm(token(Owner::HttpClient, key), deadline, &mut client.armed);
    }

    /// Has the socket report its readiness from now on.
    fn watch<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.watching = Watching::Now;
        if let Err(errno) = client.link.watch(&mut core.driver, Owner::HttpClient, key) {
            if matches!(client.standing, Standing::Idle | Standing::Securing | Standing::Carrying) {
                let id = core.next_id();
                client.exchange.reset(id, now);
            }
            self.cut(core, key, Cause::BalancerOverloaded, Some(Detail::Errno(errno.0)), now);
            return;
        }
        core.arm(token(Owner::HttpClient, key), client.deadline, &mut client.armed);
    }

    /// Everything the client was to be sent has been taken by its socket.
    fn output_drained<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.standing != Standing::Busy {
            return;
        }
        match client.exchange.stage {
            Stage::Flushing => self.exchange_over(core, key, now),
            Stage::Connecting | Stage::Awaiting | Stage::Answering => {
                client.wait_on_exchange(now);
                // The answer waited in the backend's socket while the client did not read.
                self.read_answer(core, key, now);
            }
            Stage::Relaying => {}
        }
    }

    fn timed_out<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let timeout = Some(Detail::Timeout(client.timeouts.of(client.wait)));
        match client.wait {
            Wait::KeepAlive if client.standing == Standing::Carrying => self.carrying_timed_out(core, key, now),
            Wait::KeepAlive => {
                // A request may have arrived in this very moment: look before closing.
                if matches!(client.link.peek(&mut core.driver, &mut self.carriers), Recv::Bytes(_)) {
                    client.readable = true;
                    client.wait_for(Wait::KeepAlive, now);
                    self.drive(core, key, now);
                } else if client.link.say_goodbye(&mut core.driver) {
                    self.drop_client(core, key, Close::Orderly);
                } else {
                    self.end_in_good_order(core, key, now);
                }
            }
            Wait::Introduction => {
                let detail = Detail::Timeout(client.timeouts.header);
                self.not_introduced(core, key, detail, now);
            }
            Wait::Handshake => {
                let detail = Detail::Timeout(client.timeouts.handshake);
                self.securing_failed(core, key, Cause::TlsHandshakeFailed, detail, now);
            }
            Wait::Linger => self.drop_client(core, key, Close::Orderly),
            Wait::Header => self.answer(core, key, Cause::ClientHeaderTimeout, timeout, now),
            Wait::Queue => self.queued_too_long(core, key, now),
            Wait::Connect => {
                let securing = client.attempt.backend.and_then(|made| self.backends.get(made));
                let cause = match securing.map(|backend| backend.state) {
                    Some(State::Securing) => Cause::BackendTlsFailed,
                    _ => Cause::BackendConnectTimeout,
                };
                self.attempt_failed(core, key, cause, timeout, now);
            }
            Wait::ClientBody => self.answer(core, key, Cause::ClientBodyTimeout, timeout, now),
            Wait::BackendWrite => self.attempt_failed(core, key, Cause::BackendWriteTimeout, timeout, now),
            Wait::Hedge | Wait::Try => self.patience_over(core, key, now),
            Wait::Response => self.attempt_failed(core, key, Cause::BackendResponseTimeout, timeout, now),
            Wait::BackendBody => self.cut(core, key, Cause::BackendBodyTimeout, timeout, now),
            Wait::ClientRead => self.cut(core, key, Cause::ClientStalled, timeout, now),
            Wait::Relay => self.cut(core, key, Cause::RelayIdleTimeout, timeout, now),
        }
        self.drive(core, key, now);
    }
}

/// The times of a listener; those of the pool are added when one is chosen.
pub(crate) fn listener_timeouts(listener: &ListenerSlot) -> Timeouts {
    listener.read(|settings| Timeouts {
        handshake: settings.http.handshake_timeout,
        keep_alive: settings.http.keep_alive_timeout,
        header: settings.header_timeout,
        client_body: settings.http.body_timeout,
        connect: settings.idle_timeout,
        response: settings.idle_timeout,
        backend_body: settings.idle_timeout,
        relay: settings.idle_timeout,
    })
}
