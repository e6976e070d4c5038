//! Connections to backends on their way: dialled, told whose they are, secured, ready for a request or for streams.
//!
//! How one that does not come about counts, and what is tried then, is decided where requests are.

use std::rc::Rc;

use evenkeel_l4::{BackendSlot, Core, Key, Owner, dial_failure, token};
use evenkeel_model::exchange::{Detail, Reuse};
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{self as plan, Pool, ProxyProtocol, ProxyVersion};
use evenkeel_reactor::{Driver, Errno, Event, Send, errno};
use evenkeel_wire::proxy::{self, Sent};

use crate::backend::{Backend, State};
use crate::carriers::Holder;
use crate::client::Client;
use crate::http::Http;
use crate::link::Link;

/// What a new connection is to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bears {
    /// The request it is made for, and perhaps others after it.
    Request,
    Streams,
}

/// A connection that cannot even be begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotDialed {
    pub cause: Cause,
    pub errno: i32,
}

/// Whether the backends of a pool know each connection as one client's, by its PROXY header or by where it comes from. Then it
/// serves one request and no more: the next one on it could be another's.
pub(crate) fn is_one_clients(pool: &Pool) -> bool {
    pool.proxy_protocol.is_some() || pool.source == plan::Source::Client
}

impl Http {
    /// Starts a connection for the request of `key` alone.
    pub(crate) fn dial_for<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        slot: &Rc<BackendSlot>,
        now: Instant,
    ) -> Result<(), NotDialed> {
        let made = self.dial(core, slot, key, Bears::Request)?;
        if let Some(client) = self.clients.get_mut(key) {
            client.attempt.backend = Some(made);
            client.attempt.reuse = Some(Reuse::Fresh);
            client.wait_on_exchange(now);
        }
        Ok(())
    }

    /// Starts a connection to `slot` on behalf of the client `key`.
    pub(crate) fn dial<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        slot: &Rc<BackendSlot>,
        key: Key,
        bears: Bears,
    ) -> Result<Key, NotDialed> {
        let client = self.clients.get(key);
        let Some((client, pool)) = client.and_then(|client| Some((client, client.attempt.pool.as_ref()?))) else {
            return Err(NotDialed { cause: Cause::ClientAborted, errno: 0 });
        };
        slot.metrics.connections.one();
        let dial = pool.dial(client.address.ip(), slot.address);
        let (tls, exclusive, header) =
            pool.read(|settings| (settings.tls.clone(), is_one_clients(settings), settings.proxy_protocol));
        let header = header.map_or_else(Vec::new, |protocol| self.header_for(client, protocol));
        let mut dialed = Err(0);
        let made = self.backends.insert_with(|made| {
            dialed = core.driver.dial(dial, token(Owner::HttpBackend, made)).map_err(|errno| errno.0);
            // A failed dial has no socket; the entry is taken out again below.
            let link = Link::Plain(dialed.unwrap_or(evenkeel_reactor::Sock(u32::MAX)));
            let client = (bears == Bears::Request).then_some(key);
            Backend { client, tls, exclusive, header, from: dial.from, ..Backend::new(link, Rc::clone(slot)) }
        });
        if let Err(errno) = dialed {
            self.backends.remove(made);
            return Err(NotDialed { cause: dial_failure(Errno(errno), dial.from), errno });
        }
        Ok(made)
    }

    /// What a backend is told of the client before all else.
    fn header_for(&self, client: &Client, protocol: ProxyProtocol) -> Vec<u8> {
        let mut header = Vec::with_capacity(64);
        // A listener at one address needs not be asked which one it was.
        let local = client.local.unwrap_or_else(|| client.listener.read(|settings| settings.listen[0]));
        if protocol.version == ProxyVersion::V1 {
            proxy::write_v1(&mut header, client.address, local);
            return header;
        }
        let carrier = match &client.link {
            Link::Stream(lane) => self.carriers.get(lane.carrier).map(|carrier| carrier.holder),
            Link::Plain(_) | Link::Tls(_) => None,
        };
        let link = match carrier {
            Some(Holder::Client(holder)) => self.clients.get(holder).map(|holder| &holder.link),
            Some(Holder::Backend(_)) => None,
            None => Some(&client.link),
        };
        let session = match link {
            Some(Link::Tls(secured)) => Some(&secured.session),
            Some(Link::Plain(_) | Link::Stream(_)) | None => None,
        };
        let id = protocol.unique_id.then(|| client.exchange.id.to_string());
        let sent = Sent {
            client: client.address,
            local,
            datagram: false,
            authority: session.filter(|_| protocol.authority).and_then(|session| session.sni()).map(str::as_bytes),
            alpn: session.filter(|_| protocol.alpn).and_then(|session| session.alpn()),
            unique_id: id.as_ref().map(String::as_bytes),
        };
        proxy::write_v2(&mut header, &sent);
        header
    }

    pub(crate) fn dial_decided<D: Driver>(&mut self, core: &mut Core<D>, made: Key, event: Event, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Some(sock) = backend.link.sock() else { return };
        match core.dialed(sock, backend.slot.address, event) {
            None => {}
            Some(Ok(())) => self.greet(core, made, now),
            Some(Err(errno)) => {
                let cause = dial_failure(errno, backend.from);
                self.backend_not_made(core, made, cause, Some(Detail::Errno(errno.0)), now);
            }
        }
    }

    /// The socket stands: the PROXY header goes first of all, then TLS begins, each where the pool asks for it.
    pub(crate) fn greet<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Some(sock) = backend.link.sock() else { return };
        while !backend.header.is_empty() {
            match core.driver.send(sock, &backend.header) {
                Send::Taken(0) => {
                    backend.state = State::Greeting;
                    return;
                }
                Send::Taken(taken) => drop(backend.header.drain(..taken)),
                Send::Failed(errno) => {
                    let cause = match errno {
                        errno::EPIPE => Cause::BackendClosedBeforeResponse,
                        _ => Cause::BackendResetBeforeResponse,
                    };
                    self.backend_not_made(core, made, cause, Some(Detail::Errno(errno.0)), now);
                    return;
                }
            }
        }
        match backend.tls.take() {
            Some(tls) => self.begin_securing_backend(core, made, sock, &tls, now),
            None => self.backend_ready(core, made, now),
        }
    }

    /// The connection stands, with TLS if the pool wants it.
    pub(crate) fn backend_ready<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Some(key) = backend.client else {
            self.begin_carrying_backend(core, made, now);
            return;
        };
        backend.state = State::Busy;
        backend.slot.heard();
        backend.slot.connected();
        backend.slot.asked(now);
        if self.is_hedge(made) {
            self.send_hedge(core, key);
            return;
        }
        if let Some(client) = self.clients.get_mut(key) {
            client.exchange.connected(now);
        }
        self.send_request(core, key, now);
        self.read_answer(core, key, now);
        self.drive(core, key, now);
    }

    /// The connection did not come about.
    pub(crate) fn backend_not_made<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        made: Key,
        cause: Cause,
        detail: Option<Detail>,
        now: Instant,
    ) {
        match self.backends.get(made).map(|backend| backend.client) {
            None => {}
            Some(Some(key)) if self.is_hedge(made) => self.drop_hedge(core, key),
            Some(Some(key)) => {
                self.attempt_failed(core, key, cause, detail, now);
                self.drive(core, key, now);
            }
            Some(None) => self.drop_unmade_carrier(core, made, cause, detail, now),
        }
    }
}
