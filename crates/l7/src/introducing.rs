//! Connections of those who send PROXY headers: whose each of them is must be told before all else.
//!
//! The header comes before TLS and before any request, from the senders that the listener names and from nobody else.
//! From then on the client it names is the client, for lists and limits, fields, backends and the log; the next to be asked
//! about it is `trusted`, as if it had connected itself. A header that names nobody leaves the sender to be the client: that
//! is how a balancer in front sends its own probes.

use evenkeel_l4::{Core, Key, Turned};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::Refuse;
use evenkeel_reactor::{Close, Driver, Recv};
use evenkeel_tls::Session;
use evenkeel_wire::proxy::{self, Parsed};

use crate::client::Standing;
use crate::http::Http;
use crate::link::Link;
use crate::machine::Wait;
use crate::secured::Secured;

impl Http {
    /// Reads the header as far as it is there. True when it is over and the connection should be driven on.
    pub(crate) fn introduce<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key).filter(|client| client.readable) else { return false };
        let mut scratch = core.scratch();
        let received = client.link.recv(&mut core.driver, &mut self.carriers, &mut scratch);
        if let Recv::Bytes(bytes) = received {
            client.readable = !client.link.is_drained(bytes, scratch.len()) || client.hangup;
            client.input.extend_from_slice(&scratch[..bytes]);
        }
        core.give_back(scratch);
        match received {
            Recv::Bytes(_) => self.read_header(core, key, now),
            Recv::Dry => {
                client.readable = false;
                false
            }
            // It came and left without a word, as the probes of a balancer in front of us do.
            Recv::End | Recv::Failed(_) if client.input.is_empty() => {
                self.drop_client(core, key, Close::Orderly);
                false
            }
            Recv::End | Recv::Failed(_) => {
                self.not_introduced(core, key, Detail::Text("ended in the middle of the PROXY header"), now);
                false
            }
        }
    }

    fn read_header<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let (named, used) = match proxy::parse(&client.input) {
            Parsed::Partial => return client.readable,
            Parsed::Refused(rule) => {
                self.not_introduced(core, key, Detail::Text(rule), now);
                return false;
            }
            Parsed::Whole(header, used) => (header.client, used),
        };
        if let Some((address, reached)) = named {
            client.address = address;
            client.local = Some(reached);
        }
        let mut pass = client.pass.take().unwrap_or_default();
        let known = client.listener.known(&mut pass, client.address.ip(), now);
        client.pass = Some(pass);
        match known {
            Ok(()) => self.introduced(core, key, used, now),
            Err(turned) => {
                self.turn_away_introduced(core, key, turned, now);
                false
            }
        }
    }

    /// The client is known and may come in. `used` bytes were the header's; what is behind them is its own.
    fn introduced<D: Driver>(&mut self, core: &mut Core<D>, key: Key, used: usize, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        client.input.drain(..used);
        let session = client.listener.read(|settings| settings.tls.as_ref().map(|tls| Session::server(tls)));
        let (session, sock) = match (session, client.link.sock()) {
            (Some(Ok(session)), Some(sock)) => (session, sock),
            // Only a config that rustls refuses at every session could do that, and such a config is not compiled.
            (Some(_), _) => {
                self.drop_client(core, key, Close::Reset);
                return false;
            }
            (None, _) => {
                client.standing = Standing::Idle;
                client.wait_for(Wait::KeepAlive, now);
                return true;
            }
        };
        let mut secured = Box::new(Secured::new(sock, session, false));
        let mut first = std::mem::take(&mut client.input);
        let failed = if first.is_empty() { None } else { secured.take_in(&mut core.driver, &mut first) };
        client.link = Link::Tls(secured);
        client.secure = true;
        client.standing = Standing::Securing;
        client.wait_for(Wait::Handshake, now);
        match failed {
            None => true,
            Some(shaken) => self.client_shaken(core, key, shaken, now),
        }
    }

    /// The client that was named may not come in.
    fn turn_away_introduced<D: Driver>(&mut self, core: &mut Core<D>, key: Key, turned: Turned, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Turned { cause, detail } = turned;
        let (secure, refuse) = client.listener.read(|settings| (settings.tls.is_some(), settings.refuse));
        if !secure {
            self.answer(core, key, cause, Some(detail), now);
            return;
        }
        // There are no words before the handshake.
        client.exchange.failure = Some((cause, Some(detail)));
        self.record(core, key, now);
        let how = match refuse {
            Refuse::Reset => Close::Reset,
            Refuse::Silence => Close::Silent,
        };
        self.drop_client(core, key, how);
    }

    /// There was no good header.
    pub(crate) fn not_introduced<D: Driver>(&mut self, core: &mut Core<D>, key: Key, detail: Detail, now: Instant) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.failure = Some((Cause::ClientProxyHeaderInvalid, Some(detail)));
        self.record(core, key, now);
        self.drop_client(core, key, Close::Reset);
    }
}
