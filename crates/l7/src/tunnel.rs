//! Upgraded requests (WebSocket and kin): after 101 the bytes belong to client and backend alone.
//!
//! They go through the same `Flow` as tcp relays. Nothing here looks into them, and the connection
//! never becomes HTTP again.

use evenkeel_l4::machine::Flow;
use evenkeel_l4::{Core, Key, Then, pump};
use evenkeel_model::exchange::Attempt;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Close, Driver, Event};
use evenkeel_wire::{Connection, OutFraming, ResponseEdits, ResponseHead, Version, forward};

use crate::http::Http;
use crate::machine::{Stage, Wait};

/// Both directions of an upgraded request.
#[derive(Default)]
pub(crate) struct Tunnel {
    up: Flow,
    down: Flow,
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
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.begin_answer(head, true, now);
        client.exchange.stage = Stage::Relaying;
        if let Some(picked) = &client.attempt.picked {
            let took = now - client.attempt.started;
            picked.backend.metrics.response(head.status);
            picked.backend.metrics.first_byte.record(took);
            client.attempt.attempts.push(Attempt { backend: picked.backend.address, cause: None, took });
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
        self.pump_tunnel(core, key, now);
    }

    fn pump_tunnel<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Some(backend_sock) = client.attempt.backend.and_then(|made| self.backends.get(made)).map(|made| made.sock)
        else {
            return;
        };
        let Some(tunnel) = client.tunnel.as_mut() else { return };
        let client_sock = client.sock;
        let before = (tunnel.up.bytes(), tunnel.down.bytes());
        let progress = (tunnel.up.progress(), tunnel.down.progress());
        let broken = pump(core, &mut tunnel.up, Then::after(&tunnel.down), None, client_sock, backend_sock)
            .map(|broken| if broken.source { Cause::ClientAborted } else { Cause::BackendResetRelay })
            .or_else(|| {
                pump(core, &mut tunnel.down, Then::after(&tunnel.up), None, backend_sock, client_sock)
                    .map(|broken| if broken.source { Cause::BackendResetRelay } else { Cause::ClientAborted })
            });
        let after = (tunnel.up.bytes(), tunnel.down.bytes());
        let over = tunnel.up.is_finished() && tunnel.down.is_finished();
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
                core.driver.close(backend.sock, Close::Orderly);
            }
            self.record(core, key, now);
            self.drop_client(core, key, Close::Orderly);
        } else {
            self.arm_client(core, key);
        }
    }
}
