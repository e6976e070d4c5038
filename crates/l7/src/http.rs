//! The hands of http listeners: which event concerns whom.
//!
//! It sorts events and timers and keeps the connections; what follows from them is in `requesting`,
//! `answering` and `ending`. A timeout has one meaning, that of the `Wait` it was set for.

use std::rc::Rc;
use std::time::Duration;

use evenkeel_l4::{Accepted, Arena, Core, Key, ListenerSlot, Owner, token};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_reactor::{Close, Driver, Event, Recv};

use crate::backend::{Backend, State};
use crate::client::{Attempting, Client, Output, Standing, Watching};
use crate::machine::{Exchange, Stage, Timeouts, Wait};

/// How long a new connection is served without watching its socket.
const WATCH_AFTER: Duration = Duration::from_millis(limits::WATCH_AFTER.value);

/// All HTTP connections of one worker.
pub struct Http {
    pub(crate) clients: Arena<Client>,
    pub(crate) backends: Arena<Backend>,
    /// Where heads are written before they are sent.
    pub(crate) head: Vec<u8>,
    /// What this cluster signs CDN-Loop with.
    pub(crate) loop_id: Rc<[u8]>,
}

impl Http {
    pub fn new(loop_id: &[u8]) -> Self {
        Http {
            clients: Arena::default(),
            backends: Arena::default(),
            head: Vec::with_capacity(4096),
            loop_id: loop_id.into(),
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
        let Accepted { sock, client: address, listener, at } = accepted;
        let timeouts = listener_timeouts(&listener);
        let key = self.clients.insert_with(|_| Client {
            sock,
            address,
            listener,
            standing: Standing::Idle,
            input: Vec::new(),
            output: Output::default(),
            watching: Watching::From(at + WATCH_AFTER),
            // The request often arrives with the handshake's last packet.
            readable: true,
            hangup: false,
            served: 0,
            wait: Wait::KeepAlive,
            deadline: at + timeouts.keep_alive,
            armed: Instant::NEVER,
            timeouts,
            exchange: Exchange::default(),
            attempt: Attempting::default(),
            tunnel: None,
        });
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
        if event.writable && !client.output.is_empty() {
            if client.flush(&mut core.driver).is_err() {
                self.client_gone(core, key, now);
                return;
            }
            if client.output.is_empty() {
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
            (State::Dialing, Some(client)) => self.dial_decided(core, key, client, event, now),
            (State::Busy, Some(client)) => {
                if self.clients.get(client).is_some_and(|client| client.tunnel.is_some()) {
                    self.tunnel_backend_event(core, client, event, now);
                    return;
                }
                if event.writable {
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
        if backend.state != State::Idle {
            return;
        }
        if now >= backend.deadline {
            self.discard_idle(core, key);
        } else {
            core.arm(token(Owner::HttpBackend, key), backend.deadline, &mut backend.armed);
        }
    }

    /// The plan changed: connections kept for backends that are gone are of no more use.
    pub fn plan_changed<D: Driver>(&mut self, core: &mut Core<D>) {
        for key in self.backends.keys() {
            let useless =
                self.backends.get(key).is_some_and(|backend| backend.state == State::Idle && backend.slot.is_removed());
            if useless {
                self.discard_idle(core, key);
            }
        }
    }

    /// Ends every connection for which `which` says so: the drain deadline has passed.
    pub fn end_all<D: Driver>(&mut self, core: &mut Core<D>, now: Instant, which: impl Fn(&ListenerSlot) -> bool) {
        for key in self.clients.keys() {
            let Some(client) = self.clients.get_mut(key) else { continue };
            if !which(&client.listener) {
                continue;
            }
            match client.standing {
                Standing::Idle | Standing::Lingering => self.drop_client(core, key, Close::Orderly),
                Standing::Head | Standing::Busy => self.cut(core, key, Cause::BalancerDraining, None, now),
            }
        }
    }

    /// Closes kept connections; for the end of the process.
    pub fn close_idle<D: Driver>(&mut self, core: &mut Core<D>) {
        for key in self.backends.keys() {
            if self.backends.get(key).is_some_and(|backend| backend.state == State::Idle) {
                self.discard_idle(core, key);
            }
        }
    }

    /// Goes on with a connection as far as what has been received allows.
    pub(crate) fn drive<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        while let Some(client) = self.clients.get_mut(key) {
            let went_on = match client.standing {
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
        if let Err(errno) = core.driver.watch(client.sock, token(Owner::HttpClient, key)) {
            if client.standing == Standing::Idle {
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
            Wait::KeepAlive => {
                // A request may have arrived in this very moment: look before closing.
                if matches!(core.driver.peek(client.sock), Recv::Bytes(_)) {
                    client.readable = true;
                    client.wait_for(Wait::KeepAlive, now);
                    self.drive(core, key, now);
                } else {
                    self.drop_client(core, key, Close::Orderly);
                }
            }
            Wait::Linger => self.drop_client(core, key, Close::Orderly),
            Wait::Header => self.answer(core, key, Cause::ClientHeaderTimeout, timeout, now),
            Wait::Connect => self.attempt_failed(core, key, Cause::BackendConnectTimeout, timeout, now),
            Wait::ClientBody => self.answer(core, key, Cause::ClientBodyTimeout, timeout, now),
            Wait::BackendWrite => self.attempt_failed(core, key, Cause::BackendWriteTimeout, timeout, now),
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
        keep_alive: settings.http.keep_alive_timeout,
        header: settings.http.header_timeout,
        client_body: settings.http.body_timeout,
        connect: settings.idle_timeout,
        response: settings.idle_timeout,
        backend_body: settings.idle_timeout,
        relay: settings.idle_timeout,
    })
}
