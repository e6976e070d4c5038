//! One backend as one worker knows it: what runs there, what is kept for it, whether it answers.
//!
//! It outlives its place in the plan: kept connections and the count over all workers are found again by pool and address. Who
//! may receive work is the pool's to say.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::silence::{Awaited, Request};
use evenkeel_balance::sticky::Moved;
use evenkeel_balance::{BackendKey, InFlight, Silence, Ticket};
use evenkeel_model::standing::Harm;
use evenkeel_model::{Cause, Instant, limits};
use evenkeel_observe::BackendMetrics;

use crate::arena::Key;
use crate::gate::{Occupancy, Occupant};
use crate::harm::Watch;

pub struct BackendSlot {
    pub address: SocketAddr,
    /// What a sticky cookie names it by.
    pub key: BackendKey,
    pub metrics: Arc<BackendMetrics>,
    pub(super) in_flight: InFlight,
    /// Over all workers.
    pub(super) occupancy: Arc<Occupancy>,
    silence: Cell<Silence>,
    /// Where its pool has passive checks.
    watch: RefCell<Option<Watch>>,
    /// When its host last refused a datagram.
    refused: Cell<Option<Instant>>,
    /// Kept connections, the one used last at the end.
    pub idle: RefCell<Vec<Key>>,
    /// Connections that carry streams, or will.
    pub carriers: RefCell<Vec<Key>>,
    pub(super) removed: Cell<bool>,
}

impl BackendSlot {
    pub(super) fn new(address: SocketAddr, metrics: Arc<BackendMetrics>, occupancy: Arc<Occupancy>) -> Self {
        BackendSlot {
            address,
            key: BackendKey::of(address),
            metrics,
            in_flight: InFlight::default(),
            occupancy,
            silence: Cell::default(),
            watch: RefCell::default(),
            refused: Cell::default(),
            idle: RefCell::default(),
            carriers: RefCell::default(),
            removed: Cell::new(false),
        }
    }

    /// The same backend for a pool that speaks to it in another manner: its counts go on, and its connections stay behind.
    pub(super) fn without_connections(&self) -> Self {
        BackendSlot {
            address: self.address,
            key: self.key,
            metrics: Arc::clone(&self.metrics),
            in_flight: self.in_flight.clone(),
            occupancy: Arc::clone(&self.occupancy),
            silence: self.silence.clone(),
            // Set by whoever brings it into a plan.
            watch: RefCell::default(),
            refused: self.refused.clone(),
            idle: RefCell::default(),
            carriers: RefCell::default(),
            removed: Cell::new(false),
        }
    }

    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    pub(super) fn set_watch(&self, watch: Option<Watch>) {
        *self.watch.borrow_mut() = watch;
    }

    /// An attempt here failed.
    pub fn failed(&self, cause: Cause) {
        self.metrics.causes.one(cause);
        if let (Some(watch), Some(harm)) = (&*self.watch.borrow(), Harm::of(cause)) {
            watch.failed(harm);
        }
    }

    /// A connection to it stands.
    pub fn connected(&self) {
        if let Some(watch) = &*self.watch.borrow() {
            watch.connected();
        }
    }

    /// It answered a request with this status, after such a time.
    pub fn answered(&self, status: u16, took: Duration) {
        self.metrics.response(status);
        self.metrics.first_byte.record(took);
        if let Some(watch) = &*self.watch.borrow() {
            watch.answered(status >= 500);
        }
    }

    /// Bytes of it reached a client of a listener without requests.
    pub fn spoke(&self) {
        if let Some(watch) = &*self.watch.borrow() {
            watch.answered(false);
        }
    }

    /// A request goes to it: say so when its first byte is sent, or when a connection is begun for it.
    pub fn asked(&self, now: Instant) {
        let mut silence = self.silence.get();
        silence.asked(now);
        self.silence.set(silence);
    }

    /// Something came from it: a byte, a finished handshake, a refusal.
    pub fn heard(&self) {
        let mut silence = self.silence.get();
        silence.heard();
        self.silence.set(silence);
    }

    /// Whether it was asked and has said nothing for longer than [`evenkeel_model::limits::SILENCE`].
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silence.get().is_silent(now)
    }

    /// Its host refused a datagram (ICMP): nobody listens there.
    pub fn refused(&self, now: Instant) {
        self.refused.set(Some(now));
    }

    /// Whether it did so within [`limits::UDP_REFUSAL_MEMORY`].
    pub(super) fn has_refused(&self, now: Instant) -> bool {
        let memory = Duration::from_millis(limits::UDP_REFUSAL_MEMORY.value);
        self.refused.get().is_some_and(|at| now < at + memory)
    }

    /// Whether `request` is the one of this second that goes there in spite of its silence.
    pub(super) fn try_again(&self, request: Request, now: Instant) -> bool {
        let awaited = if self.in_flight.count() > 0 { Awaited::Something } else { Awaited::Nothing };
        let mut silence = self.silence.get();
        let go = silence.try_again(request, awaited, now);
        self.silence.set(silence);
        go
    }

    /// A place within `limit`, or without one.
    pub(super) fn enter(&self, limit: Option<u32>) -> Option<Option<Occupant>> {
        match limit {
            None => Some(None),
            Some(limit) => self.occupancy.enter(limit).map(Some),
        }
    }
}

/// A backend and the right to use it. Dropping it takes the work off the backend's counts.
pub struct Picked {
    pub backend: Rc<BackendSlot>,
    /// Why a sticky client is not where its cookie says.
    pub moved: Option<Moved>,
    _ticket: Ticket,
    _occupant: Option<Occupant>,
}

impl Picked {
    pub(super) fn new(backend: Rc<BackendSlot>, occupant: Option<Occupant>, moved: Option<Moved>) -> Self {
        backend.metrics.in_flight.one();
        backend.metrics.attempts.one();
        let ticket = backend.in_flight.take();
        Picked { backend, moved, _ticket: ticket, _occupant: occupant }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.backend.metrics.in_flight.less_one();
    }
}
