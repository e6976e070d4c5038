//! What becomes of a request whose head was read: sent on to a pool, sent elsewhere, answered, or refused.
//!
//! The rules, the pools and the gates decide; here their words are carried out. The head for the backend is written before
//! anything else is looked at, because what is behind it in the buffer may be another request's.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_l4::{Core, Key, PoolSlot};
use evenkeel_model::exchange::Detail;
use evenkeel_model::{Cause, Instant};
use evenkeel_plan::{Action, Asked, Coding, HeaderEdits, Listener, Rule, StickyMode, Traces};
use evenkeel_reactor::Driver;
use evenkeel_wire::encoding::Accepted;
use evenkeel_wire::{ClientCertificate, Forwarding, RequestEdits, RequestHead, cookie, forward};

use crate::client::{Client, Ruled, Standing};
use crate::dialing::is_one_clients;
use crate::http::Http;
use crate::machine::{Patience, is_grpc};
use crate::requesting::Connection;
use crate::traced;

/// A request as rules and schedules ask about it.
struct Seen<'a, 'h, 'b>(&'a RequestHead<'h, 'b>);

impl Asked for Seen<'_, '_, '_> {
    fn host(&self) -> &[u8] {
        self.0.host.unwrap_or_default()
    }

    fn path(&self) -> &[u8] {
        self.0.path
    }

    fn method(&self) -> &[u8] {
        self.0.method
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let fields = self.0.fields.iter();
        fields.filter(move |(given, _)| given.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        cookie::find(&self.0.fields, name.as_bytes())
    }
}

/// Where a request goes.
enum Destination {
    Pool(Rc<PoolSlot>, Option<Ruled>),
    /// To the HTTPS twin at this port.
    Https(u16),
    /// Where, or to what, its rule says.
    Rule(Ruled),
    Nowhere(Cause),
}

impl Http {
    /// A whole head: writes it anew for the backend, takes the body that came with it, and sees where it goes.
    pub(crate) fn begin<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        head: &RequestHead<'_, '_>,
        rest: &[u8],
        now: Instant,
    ) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.standing = Standing::Busy;
        let listener = Rc::clone(&client.listener);
        let settings = listener.settings();
        let local = local_address(&core.driver, client, &settings);
        let peer = client.address.ip();
        // Only HTTP/1.0 may leave the host out; then the address it reached is what it asked for.
        let default_host = if head.host.is_none() { local.to_string() } else { String::new() };
        let forwarding = Forwarding {
            client: peer,
            client_port: client.address.port(),
            local,
            scheme: if client.secure { "https" } else { "http" },
            trusted_peer: settings.http.trusted.iter().any(|cidr| cidr.contains(peer)),
            trusted: &settings.http.trusted,
            x_forwarded: settings.http.x_forwarded,
            forwarded: settings.http.forwarded,
            loop_id: &self.loop_id,
            default_host: default_host.as_bytes(),
        };
        client.exchange.begin(head, settings.http.body_limit, now);
        if client.link.is_stream() {
            client.exchange.line.came_by_http2();
        }
        if let Some(traces) = &self.traces {
            client.exchange.trace = traced::decide(traces, head, client.exchange.id);
        }
        client.attempt.wants.grpc = grpc_type(head);
        let destination = destination(client, &settings, head);
        if let Destination::Pool(pool, ruled) = &destination {
            let unix = self.epoch.unix_nanos_at(now) / 1_000_000_000;
            let traces = self.traces.as_deref();
            let passed = Passed { head, forwarding: &forwarding, traces, unix };
            prepare(client, pool, ruled.as_ref(), &settings, &passed);
            pool.budget().request(now);
        }
        // First of all, since what is behind this request is another's, whatever becomes of this one.
        match client.exchange.body(rest) {
            Ok(consumed) => client.input.extend_from_slice(&rest[consumed..]),
            Err((cause, detail)) => {
                self.answer(core, key, cause, Some(detail), now);
                return;
            }
        }
        let refusal = if forward::has_loop(head, &self.loop_id) {
            Some((Cause::LoopDetected, None))
        } else if client.exchange.announces_too_much(head.framing) {
            Some((Cause::ClientBodyTooLarge, Some(Detail::Limit(settings.http.body_limit))))
        } else {
            let whose = forward::client_address(head, &forwarding);
            listener.request(whose, now).err().map(|turned| (turned.cause, Some(turned.detail)))
        };
        if let Some((cause, detail)) = refusal {
            self.answer(core, key, cause, detail, now);
            return;
        }
        match destination {
            Destination::Pool(..) => self.attempt(core, key, Connection::Any, now),
            Destination::Nowhere(cause) => self.answer(core, key, cause, None, now),
            Destination::Https(port) => self.send_to_https(core, key, head, port, now),
            Destination::Rule(ruled) => self.carry_out(core, key, &ruled, head, now),
        }
    }

    /// Plain requests go to the HTTPS twin: GET and HEAD by 301, which every client knows, others by 308, which keeps
    /// method and body (RFC 9110 section 15.4).
    fn send_to_https<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        head: &RequestHead<'_, '_>,
        port: u16,
        now: Instant,
    ) {
        let status = if matches!(head.method, b"GET" | b"HEAD") { 301 } else { 308 };
        let mut location = Vec::with_capacity(128);
        match evenkeel_wire::https_location(head.host, port, head.path, &mut location) {
            Ok(()) => self.answer_redirect(core, key, status, &location, now),
            Err(refusal) => self.answer(core, key, refusal.cause, Some(Detail::Text(refusal.detail)), now),
        }
    }

    /// Does what a rule says that names no pool.
    fn carry_out<D: Driver>(
        &mut self,
        core: &mut Core<D>,
        key: Key,
        ruled: &Ruled,
        head: &RequestHead<'_, '_>,
        now: Instant,
    ) {
        let Some(rule) = ruled.rule() else { return };
        if let Some(client) = self.clients.get_mut(key) {
            client.attempt.wants.ruled = Some(ruled.clone());
        }
        match &rule.action {
            Action::Redirect { status, to } => {
                let secure = self.clients.get(key).is_some_and(|client| client.secure);
                let scheme: &[u8] = if secure { b"https" } else { b"http" };
                let mut location = Vec::with_capacity(128);
                let written =
                    evenkeel_wire::redirect_location(to.as_bytes(), scheme, head.host, head.path, &mut location);
                match written {
                    Ok(()) => self.answer_redirect(core, key, *status, &location, now),
                    Err(refusal) => self.answer(core, key, refusal.cause, Some(Detail::Text(refusal.detail)), now),
                }
            }
            Action::Answer { status, content_type, body } => {
                self.answer_fixed(core, key, *status, content_type, body.as_bytes(), now);
            }
            Action::Pool(_) => {}
        }
    }
}

fn destination(client: &Client, settings: &Arc<Listener>, head: &RequestHead<'_, '_>) -> Destination {
    if let (Some(port), false) = (settings.http.redirect_to_https, client.secure) {
        return Destination::Https(port);
    }
    let missed = if settings.rules.is_empty() {
        None
    } else {
        match settings.rules.winner(&Seen(head)) {
            Ok(position) => {
                let ruled = Ruled { settings: Arc::clone(settings), position };
                return match settings.rules.get(position).map(|rule| &rule.action) {
                    Some(Action::Pool(pool)) => match client.listener.ruled(*pool) {
                        Some(pool) => Destination::Pool(pool, Some(ruled)),
                        // A listener knows the pools of its rules; should that ever break, refusing beats a panic.
                        None => Destination::Nowhere(Cause::NoBackendConfigured),
                    },
                    _ => Destination::Rule(ruled),
                };
            }
            Err(miss) => Some(miss.cause()),
        }
    };
    match client.listener.pool() {
        Some(pool) => Destination::Pool(pool, None),
        None => Destination::Nowhere(missed.unwrap_or(Cause::HostNotConfigured)),
    }
}

/// A request on its way to a pool.
struct Passed<'a, 'h, 'b> {
    head: &'a RequestHead<'h, 'b>,
    forwarding: &'a Forwarding<'a>,
    traces: Option<&'a Traces>,
    unix: u64,
}

/// Notes what the attempts at a pool need to know, and writes the head for its backends.
fn prepare(
    client: &mut Client,
    pool: &Rc<PoolSlot>,
    ruled: Option<&Ruled>,
    settings: &Arc<Listener>,
    passed: &Passed<'_, '_, '_>,
) {
    let Passed { head, forwarding, traces, unix } = *passed;
    let rule = ruled.and_then(Ruled::rule);
    let wants = &mut client.attempt.wants;
    let mut cut = None;
    let mut exclusive = false;
    pool.read(|pool_settings| {
        let of_rule = |of: fn(&Rule) -> Option<std::time::Duration>| rule.and_then(of);
        client.timeouts.connect = pool_settings.connect_timeout;
        client.timeouts.response = of_rule(|rule| rule.response_timeout).unwrap_or(pool_settings.response_timeout);
        client.timeouts.backend_body = of_rule(|rule| rule.body_timeout).unwrap_or(pool_settings.body_timeout);
        wants.retries = rule.and_then(|rule| rule.retries).unwrap_or(pool_settings.retries);
        wants.patience = Patience {
            hedge_after: pool_settings.hedge_after.filter(|_| head.safe),
            try_timeout: of_rule(|rule| rule.try_timeout).or(pool_settings.try_timeout),
        };
        exclusive = is_one_clients(pool_settings);
        wants.hash = pool_settings.hash_on.key(&Seen(head));
        if let (Some(sticky), Some(tokens)) = (&pool_settings.sticky, pool.sticky()) {
            let name = sticky.cookie.as_bytes();
            wants.held = match sticky.mode {
                StickyMode::Insert => cookie::values(&head.fields, name).find_map(|token| tokens.read(token, unix)),
                StickyMode::Rewrite => cookie::marked(&head.fields, name).find_map(|marked| {
                    let held = tokens.read(marked.token, unix)?;
                    cut = Some(marked.cut);
                    Some(held)
                }),
            };
        }
    });
    wants.accepted = settings.http.compression.as_ref().map(|compression| {
        Accepted::<Coding>::read(head, compression.codings.iter().map(|coding| (*coding, coding.word())))
    });
    let mut path = Vec::new();
    if let Some((rule, replacement)) = rule.and_then(|rule| Some((rule, rule.rewrite_path.as_ref()?))) {
        evenkeel_wire::rewrite_path(head.path, rule.path.as_bytes(), replacement.as_bytes(), &mut path);
    }
    let traceparent = client.exchange.trace.map(|trace| traced::value(trace, client.exchange.id));
    let edits = RequestEdits {
        path: (!path.is_empty()).then_some(&path[..]),
        headers: rule.map_or(evenkeel_wire::HeaderEdits::NONE, |rule| edits_of(&rule.request_headers)),
        cut,
        client_certificate: client.identity.as_ref().map(|identity| ClientCertificate::Verified {
            subject: identity.subject.as_bytes(),
            fingerprint: identity.fingerprint.as_bytes(),
        }),
        // The backend need not keep what will not be used again. Of a connection that is to change its protocol it knows.
        close: exclusive && head.upgrade.is_none(),
        trace: traced::field(traces, client.exchange.trace, traceparent.as_ref().map_or(&[], |value| &value[..])),
    };
    forward::write_request_edited(head, forwarding, &edits, client.exchange.request_buffer());
    if let Some(traceparent) = &traceparent {
        client.exchange.traced(traceparent);
    }
    client.attempt.wants.ruled = ruled.cloned();
    client.attempt.pool = Some(Rc::clone(pool));
}

pub(crate) fn edits_of(edits: &HeaderEdits) -> evenkeel_wire::HeaderEdits<'_> {
    evenkeel_wire::HeaderEdits { remove: &edits.remove, set: &edits.set, add: &edits.add }
}

/// The Content-Type of a gRPC request, which decides how failures are told.
fn grpc_type(head: &RequestHead<'_, '_>) -> Option<Box<[u8]>> {
    // gRPC's protocol demands both, which spares all others the search.
    if !head.trailers_accepted || head.method != b"POST" {
        return None;
    }
    let mut fields = head.fields.iter();
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"))?;
    is_grpc(value).then(|| value.into())
}

/// The address the client reached us at.
fn local_address<D: Driver>(driver: &D, client: &mut Client, settings: &Listener) -> SocketAddr {
    if let Some(local) = client.local {
        return local;
    }
    if !settings.listen[0].ip().is_unspecified() && settings.listen.len() == 1 {
        return settings.listen[0];
    }
    let asked = client.link.sock().and_then(|sock| driver.local_address(sock));
    *client.local.insert(asked.unwrap_or(settings.listen[0]))
}
