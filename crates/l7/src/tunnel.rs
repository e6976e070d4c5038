//! Upgraded requests (WebSocket and kin): after 101 the bytes belong to client and backend alone.
//!
//! They go through the same `Flow` as tcp relays. Nothing here looks into them, and the connection
//! never becomes HTTP again.

use evenkeel_l4::machine::Flow;
use evenkeel_l4::{Core, Ends, Key, Then, pump};
use evenkeel_model::exchange::Attempt;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Close, Driver, Event, Recv, Send};
use evenkeel_wire::{Connection, OutFraming, ResponseEdits, ResponseHead, Version, forward};

use crate::carriers::Carriers;
use crate::http::Http;
use crate::link::Link;
use crate::machine::{Stage, Wait};

/// Both directions of an upgraded request.
#[derive(Default)]
pub(crate) struct Tunnel {
    up: Flow,
    down: Flow,
}

/// Where one direction of a tunnel begins and ends.
struct Links<'a> {
    from: &'a mut Link,
    to: &'a mut Link,
    carriers: &'a mut Carriers,
}

impl<D: Driver> Ends<D> for Links<'_> {
    fn recv(&mut self, driver: &mut D, into: &mut [u8]) -> Recv {
        self.from.recv(driver, self.carriers, into)
    }

    fn send(&mut self, driver: &mut D, from: &[u8]) -> Send {
        self.to.send(driver, self.carriers, from)
    }

    fn finish(&mut self, driver: &mut D) {
        self.to.finish(driver, self.carriers);
    }

    fn is_drained(&self, bytes: usize, room: usize) -> bool {
        self.from.is_drained(bytes, room)
    }
}

impl Http {
    /// The backend agreed to switch. `rest` came right behind its head.
    pub(crate) fn begin_tunnel<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        head: &ResponseHead<'_, '_>,
        rest: &[u8],
        now: Instant,
    ) {
        self.drop_hedge(core, key);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.begin_answer(head, false, true, now);
        client.exchange.stage = Stage::Relaying;
        if let Some(picked) = &client.attempt.picked {
            picked.backend.answered(head.status, now - client.attempt.started);
            let answered = client.attempt_over(picked.backend.address, now);
            client.attempt.attempts.push(Attempt { first_byte: Some(now), ..answered });
        }
        let mut tunnel = Box::<Tunnel>::default();
        let edits = ResponseEdits {
            client_version: Version::Http11,
            connection: Connection::Upgrade,
            framing: OutFraming::AsIs,
            proxy_status: None,
        };
        // An interim answer may still wait for the client; its bytes were counted when it was passed on.
        let mut out = client.output.take();
        let counted = out.len();
        forward::write_response(head, &edits, &mut out);
        out.extend_from_slice(rest);
        tunnel.down.preload(&out);
        client.exchange.bytes_out += (out.len() - counted) as u64;
        client.exchange.bytes_in += client.input.len() as u64;
        tunnel.up.preload(&std::mem::take(&mut client.input));
        tunnel.up.readable(client.hangup);
        let hangup = client.attempt.backend.and_then(|made| self.backends.get(made)).is_some_and(|made| made.hangup);
        tunnel.down.readable(hangup);
        client.tunnel = Some(tunnel);
        self.pump_tunnel(core, key, now);
    }

    pub(crate) fn tunnel_client_event<D: Driver>(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        if let Some(tunnel) = self.clients.get_mut(key).and_then(|client| client.tunnel.as_mut()) {
            if event.readable {
                tunnel.up.readable(event.hangup);
            }
            if event.writable {
                tunnel.down.writable();
            }
        }
        if let Some(client) = self.clients.get_mut(key)
            && event.writable
            && client.link.flush(&mut core.driver).is_err()
        {
            self.cut(core, key, Cause::ClientAborted, None, now);
            return;
        }
        self.pump_tunnel(core, key, now);
    }

    pub(crate) fn tunnel_backend_event<D: Driver>(&mut self, core: &mut Core<D>, key: Key, event: Event, now: Instant) {
        if let Some(tunnel) = self.clients.get_mut(key).and_then(|client| client.tunnel.as_mut()) {
            if event.readable {
                tunnel.down.readable(event.hangup);
            }
            if event.writable {
                tunnel.up.writable();
            }
        }
        let made = self.clients.get(key).and_then(|client| client.attempt.backend);
        if let Some(backend) = made.and_then(|made| self.backends.get_mut(made))
            && event.writable
            && backend.link.flush(&mut core.driver).is_err()
        {
            self.cut(core, key, Cause::BackendResetRelay, None, now);
            return;
        }
        self.pump_tunnel(core, key, now);
    }

    fn pump_tunnel<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(backend) = client.attempt.backend.and_then(|made| self.backends.get_mut(made)) else { return };
        let Some(tunnel) = client.tunnel.as_mut() else { return };
        let before = (tunnel.up.bytes(), tunnel.down.bytes());
        let progress = (tunnel.up.progress(), tunnel.down.progress());
        let carriers = &mut self.carriers;
        let mut ends = Links { from: &mut client.link, to: &mut backend.link, carriers };
        let mut broken = pump(core, &mut tunnel.up, Then::after(&tunnel.down), &mut ends)
            .map(|broken| if broken.source { Cause::ClientAborted } else { Cause::BackendResetRelay });
        if broken.is_none() {
            let mut ends = Links { from: &mut backend.link, to: &mut client.link, carriers: &mut self.carriers };
            broken = pump(core, &mut tunnel.down, Then::after(&tunnel.up), &mut ends)
                .map(|broken| if broken.source { Cause::BackendResetRelay } else { Cause::ClientAborted });
        }
        let after = (tunnel.up.bytes(), tunnel.down.bytes());
        let over = tunnel.up.is_finished()
            && tunnel.down.is_finished()
            && client.link.say_goodbye(&mut core.driver)
            && backend.link.say_goodbye(&mut core.driver);
        client.exchange.bytes_in += after.0 - before.0;
        client.exchange.bytes_out += after.1 - before.1;
        if (tunnel.up.progress(), tunnel.down.progress()) != progress || client.wait != Wait::Relay {
            client.wait_for(Wait::Relay, now);
        }
        if let Some(cause) = broken {
            self.cut(core, key, cause, None, now);
        } else if over {
            // In good order: what the backend's socket still holds must reach it.
            if let Some(backend) = client.attempt.backend.take().and_then(|made| self.backends.remove(made)) {
                backend.link.close(&mut core.driver, &mut self.carriers, Close::Orderly);
            }
            self.record(core, key, now);
            self.drop_client(core, key, Close::Orderly);
        } else {
            self.arm_client(core, key);
        }
    }
}
