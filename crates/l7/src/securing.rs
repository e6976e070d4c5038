//! TLS handshakes: clients' with us, and ours with backends.
//!
//! Until a handshake is over no byte of HTTP is read or sent. How one fails is told in the cause's own words: a name without a
//! certificate is the operator's, anything else the client's; with a backend it is the backend's.

use evenkeel_l4::{Core, Key};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_reactor::{Close, Driver, Sock};
use evenkeel_tls::{Failed, Session};

use crate::backend::State;
use crate::client::Standing;
use crate::http::Http;
use crate::link::Link;
use crate::machine::Wait;
use crate::own_answer::{Explained, Sending, write_explained};
use crate::secured::{Secured, Shaken};

/// The name of HTTP/2 in ALPN (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

impl Http {
    /// Goes on with a client's handshake. True when it is over and the connection should be driven on.
    pub(crate) fn secure_client<D: Driver>(&mut self, core: &mut Core<D>, key: Key, now: Instant) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Link::Tls(secured) = &mut client.link else { return false };
        let mut scratch = core.scratch();
        let shaken = secured.shake(&mut core.driver, &mut scratch);
        core.give_back(scratch);
        self.client_shaken(core, key, shaken, now)
    }

    /// What follows from how far a client's handshake has come.
    pub(crate) fn client_shaken<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        shaken: Shaken,
        now: Instant,
    ) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let Link::Tls(secured) = &mut client.link else { return false };
        match shaken {
            Shaken::Waiting => {
                client.readable = false;
                false
            }
            Shaken::Done => {
                client.identity = secured.identity();
                client.tls = secured.agreed();
                client.secured = Some(now);
                client.readable = !secured.is_drained() || client.hangup;
                let http2 = secured.session.alpn() == Some(HTTP2);
                client.standing = Standing::Idle;
                client.wait_for(Wait::KeepAlive, now);
                if http2 {
                    self.begin_carrying(core, key, &[], now);
                    return false;
                }
                true
            }
            Shaken::Gone(_) if !secured.was_heard() => {
                // It came and left without a word, as the probes of a balancer in front of us do.
                self.drop_client(core, key, Close::Orderly);
                false
            }
            Shaken::Gone(errno) => {
                let detail =
                    errno.map_or(Detail::Text("client closed in mid-handshake"), |errno| Detail::Errno(errno.0));
                self.securing_failed(core, key, Cause::TlsHandshakeFailed, detail, now);
                false
            }
            Shaken::Failed(failed) if failed.plain_http => {
                let sock = secured.sock;
                self.answer_unsecured(core, key, sock, failed.detail, now);
                false
            }
            Shaken::Failed(Failed { detail, unknown_name, sni, .. }) => {
                client.sni = sni;
                let cause = if unknown_name { Cause::TlsNoCertificateForName } else { Cause::TlsHandshakeFailed };
                self.securing_failed(core, key, cause, Detail::Text(detail), now);
                false
            }
        }
    }

    /// Tells a client that speaks plain HTTP so in its own words: an alert would mean nothing to it.
    fn answer_unsecured<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        sock: Sock,
        detail: &'static str,
        now: Instant,
    ) {
        const BAD_REQUEST: u16 = 400;
        let Some(client) = self.clients.get_mut(key) else { return };
        let (cause, detail) = (Cause::TlsHandshakeFailed, Detail::Text(detail));
        let id = client.exchange.id;
        let explained = Explained { cause, detail: Some(detail), status: BAD_REQUEST, id, grpc: None };
        let mut out = std::mem::take(&mut self.head);
        out.clear();
        write_explained(&mut out, &explained, &Sending { close: true, ..Sending::default() });
        client.exchange.status = Some(BAD_REQUEST);
        client.exchange.bytes_out += out.len() as u64;
        // A full socket this early is a client that does not read. Not held back for the end, which may be a reset.
        let _ = core.driver.send(sock, &out);
        self.head = out;
        self.securing_failed(core, key, cause, detail, now);
    }

    pub(crate) fn securing_failed<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        cause: Cause,
        detail: Detail,
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.exchange.failure = Some((cause, Some(detail)));
        self.record(core, key, now);
        // In good order, so that the alert arrives.
        self.drop_client(core, key, Close::Orderly);
    }

    /// The socket to a backend stands; its pool wants TLS on it.
    pub(crate) fn begin_securing_backend<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        made: Key,
        sock: Sock,
        tls: &evenkeel_tls::Client,
        now: Instant,
    ) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        match Session::client(tls, backend.slot.address.ip()) {
            Ok(session) => {
                backend.link = Link::Tls(Box::new(Secured::new(sock, session, true)));
                backend.state = State::Securing;
                self.secure_backend(core, made, now);
            }
            Err(failed) => {
                self.backend_not_made(core, made, Cause::BackendTlsFailed, Some(Detail::Text(failed.detail)), now)
            }
        }
    }

    /// Goes on with the handshake with a backend.
    pub(crate) fn secure_backend<D: Driver>(&mut self, core: &mut Core<D>, made: Key, now: Instant) {
        let Some(backend) = self.backends.get_mut(made) else { return };
        let Link::Tls(secured) = &mut backend.link else { return };
        let mut scratch = core.scratch();
        let shaken = secured.shake(&mut core.driver, &mut scratch);
        core.give_back(scratch);
        let detail = match shaken {
            Shaken::Waiting => {
                backend.readable = false;
                return;
            }
            Shaken::Done if backend.client.is_none() && secured.session.alpn() != Some(HTTP2) => {
                Detail::Text("the backend does not offer HTTP/2 (ALPN h2)")
            }
            Shaken::Done => {
                backend.readable = !secured.is_drained() || backend.hangup;
                self.backend_ready(core, made, now);
                return;
            }
            Shaken::Gone(None) => Detail::Text("the backend closed in mid-handshake"),
            Shaken::Gone(Some(errno)) => Detail::Errno(errno.0),
            Shaken::Failed(failed) => Detail::Text(failed.detail),
        };
        self.backend_not_made(core, made, Cause::BackendTlsFailed, Some(detail), now);
    }
}
