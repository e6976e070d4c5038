//! HTTP/2 connections: their bytes in and out, their streams as clients and backends of their own.
//!
//! The machine of each connection says which stream has something to read or room to write; the engine then treats the
//! stream like any other connection. What is written is sent once at the end of the worker's turn.

use std::time::Duration;

use evenkeel_h2::{Connection, Event as Carried, Failure, Role, Settings};
use evenkeel_l4::{Arena, BackendSlot, Core, Key, Owner, owner_of, token};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_plan::Protocol;
use evenkeel_reactor::{Close, Driver, Event, Recv, Send, Token};

use crate::backend::Backend;
use crate::carriers::{Holder, Lane};
use crate::client::{Client, Output, Standing, Watching};
use crate::http::{Http, listener_timeouts};
use crate::link::Link;
use crate::machine::{LINGER, Wait};

/// For a look at what is there already.
pub(crate) const NOTHING_NEW: Event = Event { token: Token(0), readable: false, writable: false, hangup: false };

/// A connection that carries streams, a client's or one to a backend.
struct Held<'a> {
    link: &'a mut Link,
    readable: &'a mut bool,
    hangup: bool,
    carries: Option<Key>,
    /// Of the backend.
    slot: Option<&'a BackendSlot>,
}

/// Not a method, since the carrier is looked at beside it.
fn connection_of<'a>(
    clients: &'a mut Arena<Client>,
    backends: &'a mut Arena<Backend>,
    holder: Holder,
) -> Option<Held<'a>> {
    Some(match holder {
        Holder::Client(key) => {
            let Client { link, readable, hangup, carries, .. } = clients.get_mut(key)?;
            Held { link, readable, hangup: *hangup, carries: *carries, slot: None }
        }
        Holder::Backend(key) => {
            let Backend { link, readable, hangup, carries, slot, .. } = backends.get_mut(key)?;
            Held { link, readable, hangup: *hangup, carries: *carries, slot: Some(slot) }
        }
    })
}

impl Http {
    /// Sends what streams wrote in this turn.
    pub fn flush<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        self.wake_queued(core, now);
        while self.carriers.has_touched() {
            let touched = self.carriers.take_touched();
            for &carrier in &touched {
                self.flush_carrier(core, carrier, now);
            }
            self.carriers.give_back(touched);
        }
    }

    fn flush_carrier<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        loop {
            self.dispatch(core, key, now);
            let Some(carrier) = self.carriers.get_mut(key) else { return };
            let Some(held) = connection_of(&mut self.clients, &mut self.backends, carrier.holder) else { return };
            let output = carrier.machine.output();
            if output.is_empty() {
                break;
            }
            match held.link.send_below(&mut core.driver, output) {
                Send::Taken(0) => break,
                Send::Taken(taken) => {
                    carrier.machine.sent(taken);
                    carrier.moved = now;
                }
                Send::Failed(_) => {
                    self.carrier_broken(core, key, now);
                    return;
                }
            }
        }
        self.settle_carrier(core, key, now);
    }

    /// Tells the users of streams what happened to them.
    fn dispatch<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        while let Some(event) = self.carriers.get_mut(key).and_then(|carrier| carrier.machine.next_event()) {
            let (tag, readable, writable, hangup) = match event {
                Carried::Opened(stream) => {
                    self.open_stream(core, Lane { carrier: key, stream }, now);
                    continue;
                }
                Carried::PeerGoingAway { .. } => {
                    self.leave_carrier(key);
                    continue;
                }
                Carried::SettingsKnown => {
                    if let Some(Holder::Backend(made)) = self.carriers.get(key).map(|carrier| carrier.holder) {
                        self.join_waiting(core, made, now);
                    }
                    continue;
                }
                Carried::Malformed { detail, .. } => {
                    self.stream_refused(core, key, detail, now);
                    continue;
                }
                Carried::Readable { tag, .. } => (tag, true, false, false),
                Carried::Writable { tag, .. } => (tag, false, true, false),
                Carried::Reset { tag, refused, detail, .. } => {
                    self.stream_reset(Token(tag), refused, detail);
                    (tag, true, true, true)
                }
            };
            self.tell(core, Token(tag), Event { token: Token(tag), readable, writable, hangup }, now);
        }
    }

    /// Notes why a stream was reset, for whoever is told that it was.
    fn stream_reset(&mut self, user: Token, refused: bool, detail: Option<&'static str>) {
        match owner_of(user) {
            Some((Owner::HttpClient, client)) => {
                if let Some((client, detail)) = self.clients.get_mut(client).zip(detail) {
                    let failure = (Cause::ClientMalformedRequest, Some(Detail::Text(detail)));
                    client.exchange.failure.get_or_insert(failure);
                }
            }
            Some((Owner::HttpBackend, backend)) => {
                if let Some(backend) = self.backends.get_mut(backend) {
                    backend.refused = refused;
                    backend.broke = detail;
                    // The connection is alive: it was an answer of the backend's, and no free try.
                    backend.reused = false;
                }
            }
            _ => {}
        }
    }

    /// A request broke a rule and never became one.
    fn stream_refused<D: Driver>(&mut self, core: &mut Core<D>, key: Key, detail: &'static str, now: Instant) {
        let Some(Holder::Client(holder)) = self.carriers.get(key).map(|carrier| carrier.holder) else { return };
        self.record_refusal(core, holder, Cause::ClientMalformedRequest, Detail::Text(detail), now);
    }

    /// Records something that befell a connection that carries streams, and none of its requests.
    fn record_refusal<D: Driver>(&mut self, core: &mut Core<D>, key: Key, cause: Cause, detail: Detail, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.reset(core.next_id(), now);
        client.exchange.failure = Some((cause, Some(detail)));
        self.record(core, key, now);
    }

    fn tell<D: Driver>(&mut self, core: &mut Core<D>, user: Token, event: Event, now: Instant) {
        match owner_of(user) {
            Some((Owner::HttpClient, client)) => self.client_event(core, client, event, now),
            Some((Owner::HttpBackend, backend)) => self.backend_event(core, backend, event, now),
            _ => {}
        }
    }

    /// The client speaks HTTP/2: its connection carries streams from here on. `first` was received already.
    pub(crate) fn begin_carrying<D: Driver>(&mut self, core: &mut Core<D>, key: Key, first: &[u8], now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let settings = client.listener.read(|settings| Settings {
            streams: settings.http.streams.streams,
            stream_window: settings.http.streams.stream_window,
            connection_window: settings.http.streams.connection_window,
            header_limit: settings.http.header_limit as u32,
            max_frame: limits::HTTP2_FRAME.value as u32,
            extended_connect: true,
            secure: settings.protocol == Protocol::Https,
        });
        let machine = Connection::new(Role::Server, &settings, now);
        let carrier = self.carriers.insert(machine, Holder::Client(key));
        if core.is_draining(&client.listener) {
            self.carriers.go_away(carrier, now);
        }
        client.standing = Standing::Carrying;
        client.carries = Some(carrier);
        client.input = Vec::new();
        if first.is_empty() || self.received(core, carrier, first, now) {
            self.carry(core, Holder::Client(key), NOTHING_NEW, now);
        }
    }

    /// Something happened to a connection that carries streams.
    pub(crate) fn carry<D: Driver>(&mut self, core: &mut Core<D>, holder: Holder, event: Event, now: Instant) {
        let Some(held) = connection_of(&mut self.clients, &mut self.backends, holder) else { return };
        let Some(carrier) = held.carries else { return };
        if event.writable {
            if held.link.flush(&mut core.driver).is_err() {
                self.carrier_broken(core, carrier, now);
                return;
            }
            if let Some(carrier) = self.carriers.get_mut(carrier) {
                carrier.moved = now;
            }
            self.carriers.touch(carrier);
        }
        while let Some(held) = connection_of(&mut self.clients, &mut self.backends, holder) {
            if !*held.readable || held.carries != Some(carrier) {
                break;
            }
            let mut scratch = core.scratch();
            let received = held.link.recv(&mut core.driver, &mut self.carriers, &mut scratch);
            let went_on = match received {
                Recv::Bytes(bytes) => {
                    *held.readable = !held.link.is_drained(bytes, scratch.len()) || held.hangup;
                    if let Some(slot) = held.slot {
                        slot.metrics.bytes_in.add(bytes as u64);
                    }
                    self.received(core, carrier, &scratch[..bytes], now)
                }
                Recv::Dry => {
                    *held.readable = false;
                    false
                }
                Recv::End | Recv::Failed(_) => {
                    self.carrier_broken(core, carrier, now);
                    false
                }
            };
            core.give_back(scratch);
            if !went_on {
                break;
            }
        }
    }

    /// Takes bytes of the other side in. False when the connection is over.
    fn received<D: Driver>(&mut self, core: &mut Core<D>, key: Key, bytes: &[u8], now: Instant) -> bool {
        let Some(carrier) = self.carriers.get_mut(key) else { return false };
        let received = carrier.machine.receive(bytes, now);
        self.carriers.touch(key);
        self.dispatch(core, key, now);
        match received {
            Ok(()) => true,
            Err(fault) => {
                self.carrier_failed(core, key, &fault, now);
                false
            }
        }
    }

    /// A request came on a stream of its own.
    fn open_stream<D: Driver>(&mut self, core: &mut Core<D>, lane: Lane, now: Instant) {
        let Some(Holder::Client(holder)) = self.carriers.get(lane.carrier).map(|carrier| carrier.holder) else {
            return;
        };
        let Some(parent) = self.clients.get_mut(holder) else { return };
        let timeouts = listener_timeouts(&parent.listener);
        let (exchange, attempt) = self.spare.pop().unwrap_or_default();
        let client = Client {
            link: Link::Stream(lane),
            address: parent.address,
            listener: std::rc::Rc::clone(&parent.listener),
            secure: parent.secure,
            identity: parent.identity.clone(),
            tls: parent.tls,
            sni: None,
            local: parent.local,
            carries: None,
            standing: Standing::Idle,
            input: Vec::new(),
            output: Output::default(),
            watching: Watching::Now,
            readable: true,
            hangup: false,
            served: parent.served,
            accepted: parent.accepted,
            secured: parent.secured,
            wait: Wait::KeepAlive,
            deadline: now + timeouts.keep_alive,
            armed: Instant::NEVER,
            timeouts,
            exchange,
            attempt,
            tunnel: None,
            coder: None,
            pass: None,
        };
        parent.served += 1;
        if parent.local.is_none() {
            parent.local = parent.link.sock().and_then(|sock| core.driver.local_address(sock));
        }
        let local = parent.local;
        let key = self.clients.insert_with(|_| Client { local, ..client });
        self.carriers.assign(lane, token(Owner::HttpClient, key));
        self.drive(core, key, now);
    }

    /// The other side broke the protocol, or did too much of what is cheap for it: only its own connection ends.
    fn carrier_failed<D: Driver>(&mut self, core: &mut Core<D>, key: Key, fault: &Failure, now: Instant) {
        let Some(carrier) = self.carriers.get_mut(key) else { return };
        match carrier.holder {
            Holder::Client(client) => {
                // The last word says why; that it does not arrive is no news.
                let output = carrier.machine.output();
                if let Some(client) = self.clients.get_mut(client) {
                    let _ = client.link.send_below(&mut core.driver, output);
                }
                self.record_refusal(core, client, fault.cause, Detail::Text(fault.detail), now);
                self.carrier_broken(core, key, now);
            }
            Holder::Backend(holder) => {
                for user in self.carriers.remove(key) {
                    let Some((Owner::HttpBackend, made)) = owner_of(user) else { continue };
                    let Some(client) = self.backends.get(made).and_then(|backend| backend.client) else { continue };
                    let detail = Some(Detail::Text(fault.detail));
                    self.attempt_failed(core, client, Cause::BackendMalformedResponse, detail, now);
                    self.drive(core, client, now);
                }
                let detail = Some(Detail::Text(fault.detail));
                self.drop_unmade_carrier(core, holder, Cause::BackendMalformedResponse, detail, now);
            }
        }
    }

    /// The connection is gone, and all its streams with it. What a backend said in full before is passed on.
    fn carrier_broken<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(holder) = self.carriers.get(key).map(|carrier| carrier.holder) else { return };
        let users = match holder {
            Holder::Client(_) => self.carriers.remove(key),
            Holder::Backend(_) => self.carriers.cut_off(key),
        };
        for user in users {
            self.tell(core, user, Event { token: user, readable: true, writable: true, hangup: true }, now);
        }
        match holder {
            Holder::Client(client) => self.drop_client(core, client, Close::Orderly),
            Holder::Backend(backend) => {
                self.drop_unmade_carrier(core, backend, Cause::BackendClosedBeforeResponse, None, now);
            }
        }
    }

    /// Sets the timer of a connection that carries streams, or ends it when it has nothing more to do.
    fn settle_carrier<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(carrier) = self.carriers.get_mut(key) else { return };
        let idle = carrier.machine.streams() == 0;
        carrier.idle_since = if idle { Some(carrier.idle_since.unwrap_or(now)) } else { None };
        let finished = idle && carrier.machine.is_finished();
        let owes = !carrier.machine.output().is_empty();
        let moved = carrier.moved;
        let idle_since = carrier.idle_since.filter(|_| !carrier.is_leaving());
        let machine_timeout = carrier.machine.poll_timeout();
        carrier.head_since = carrier.machine.is_mid_head().then(|| carrier.head_since.unwrap_or(now));
        let head_since = carrier.head_since;
        match carrier.holder {
            Holder::Client(holder) => {
                let Some(client) = self.clients.get_mut(holder) else { return };
                if finished && !owes && client.link.is_flushed() {
                    self.carriers.remove(key);
                    self.end_in_good_order(core, holder, now);
                    return;
                }
                client.wait = Wait::KeepAlive;
                let keep_alive = idle_since.map(|since| since + client.timeouts.keep_alive);
                // Who does not read its last answers is waited for as on any connection.
                let farewell = finished.then(|| moved + client.timeouts.of(Wait::ClientRead));
                let head = head_since.map(|since| since + client.timeouts.header);
                client.deadline = earliest(keep_alive, machine_timeout).min(earliest(farewell, head));
                self.arm_client(core, holder);
            }
            Holder::Backend(holder) => {
                let Some(backend) = self.backends.get_mut(holder) else { return };
                if finished && !owes && backend.link.is_flushed() {
                    self.carriers.remove(key);
                    self.drop_unmade_carrier(core, holder, Cause::BackendClosedBeforeResponse, None, now);
                    return;
                }
                let served = backend.exclusive && backend.waiting.is_empty();
                let kept = match &backend.pool {
                    Some(_) if served => Some(Duration::ZERO),
                    pool => pool.as_ref().map(|pool| pool.read(|settings| settings.idle_timeout)),
                };
                let farewell = finished.then(|| moved + kept.unwrap_or_default().max(LINGER));
                backend.deadline = earliest(idle_since.zip(kept).map(|(since, kept)| since + kept), machine_timeout)
                    .min(farewell.unwrap_or(Instant::NEVER));
                core.arm(token(Owner::HttpBackend, holder), backend.deadline, &mut backend.armed);
            }
        }
    }

    /// A client of HTTP/2 still acknowledges what it reads. Closing over that would reset its last answers away, so it is
    /// read and thrown away until the client has seen the end.
    pub(crate) fn end_in_good_order<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.carries = None;
        if client.hangup {
            self.drop_client(core, key, Close::Orderly);
            return;
        }
        client.link.finish(&mut core.driver, &mut self.carriers);
        client.standing = Standing::Lingering;
        client.wait_for(Wait::Linger, now);
        self.drive(core, key, now);
    }

    /// The time of a client's connection that carries streams is up: the machine's, or that of an idle one.
    pub(crate) fn carrying_timed_out<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        if let Some(carrier) = self.clients.get(key).and_then(|client| client.carries) {
            self.carrier_timed_out(core, carrier, now);
        }
    }

    /// The same for a connection to a backend.
    pub(crate) fn rest_carrier<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        if let Some(carrier) = self.backends.get(key).and_then(|backend| backend.carries) {
            self.carrier_timed_out(core, carrier, now);
        }
    }

    fn carrier_timed_out<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(carrier) = self.carriers.get_mut(key) else { return };
        if let (Some(since), Holder::Client(holder)) = (carrier.head_since, carrier.holder)
            && let Some(header) = self.clients.get(holder).map(|client| client.timeouts.header)
            && now >= since + header
        {
            self.record_refusal(core, holder, Cause::ClientHeaderTimeout, Detail::Timeout(header), now);
            self.carrier_broken(core, key, now);
            return;
        }
        if carrier.machine.poll_timeout().is_some_and(|due| now >= due) {
            if let Err(fault) = carrier.machine.handle_timeout(now) {
                self.carrier_failed(core, key, &fault, now);
                return;
            }
        } else if carrier.idle_since.is_some() && carrier.machine.is_finished() {
            // The other side does not take its last words.
            let holder = carrier.holder;
            self.carriers.remove(key);
            match holder {
                Holder::Client(holder) => self.drop_client(core, holder, Close::Reset),
                Holder::Backend(holder) => {
                    self.drop_unmade_carrier(core, holder, Cause::BackendClosedBeforeResponse, None, now);
                }
            }
            return;
        } else if carrier.idle_since.is_some() {
            self.leave_carrier(key);
            self.carriers.go_away(key, now);
        }
        self.carriers.touch(key);
        self.flush_carrier(core, key, now);
    }

    /// Tells clients whose listener is to end that their connections take no more requests.
    pub(crate) fn announce_drain<D: Driver>(&mut self, core: &mut Core<D>, now: Instant) {
        for key in self.clients.keys() {
            let Some(client) = self.clients.get(key) else { continue };
            let Some(carrier) = client.carries else { continue };
            if core.is_draining(&client.listener) {
                self.carriers.go_away(carrier, now);
            }
        }
    }

    /// The drain deadline has passed: what still runs is cut.
    pub(crate) fn end_carrying<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(carrier) = self.clients.get(key).and_then(|client| client.carries) else { return };
        let users = self.carriers.get(carrier).map(|carrier| carrier.users()).unwrap_or_default();
        for user in users {
            if let Some((Owner::HttpClient, client)) = owner_of(user) {
                self.cut(core, client, Cause::BalancerDraining, None, now);
            }
        }
        self.carriers.go_away(carrier, now);
        self.flush_carrier(core, carrier, now);
        // With a full socket it cannot be told; it has had its time.
        self.carriers.remove(carrier);
        self.drop_client(core, key, Close::Orderly);
    }

    /// No new streams on a connection to a backend.
    pub(crate) fn retire_carrier(&mut self, key: Key, now: Instant) {
        let Some(carrier) = self.backends.get(key).and_then(|backend| backend.carries) else { return };
        self.leave_carrier(carrier);
        self.carriers.go_away(carrier, now);
    }

    fn leave_carrier(&mut self, carrier: Key) {
        if let Some(Holder::Backend(holder)) = self.carriers.get(carrier).map(|carrier| carrier.holder)
            && let Some(backend) = self.backends.get(holder)
        {
            backend.slot.carriers.borrow_mut().retain(|&kept| kept != holder);
        }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Instant {
    one.unwrap_or(Instant::NEVER).min(other.unwrap_or(Instant::NEVER))
}
