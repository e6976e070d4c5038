//! Which backend a request or connection gets, as one worker sees its pool: stickiness first, then the schedule, around
//! those that are silent or full.
//!
//! The common pick is one look at the schedule's answer: not silent, no limit, done. Only when that answer will not
//! do are the backends gone through to see who else will.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_balance::quic::{Asked, CidRoutes, Dcid};
use evenkeel_balance::silence::Request;
use evenkeel_balance::sticky::{self, Aside, Known, Moved, Place, Room, Stick, Sticky, Tries};
use evenkeel_balance::{
    AffinityTable, BackendKey, Load, Picker, Queue, RetryBudget, Schedule, Wanted, Woken, hash, prefix,
};
use evenkeel_model::{BackendId, Cause, Instant};
use evenkeel_plan::{Affinity, Backend, Pool, PoolView};
use evenkeel_wire::quic::{self, Packet};

use super::backend::{BackendSlot, Picked};
use crate::arena::Key;
use crate::gate::Gates;

pub struct PoolSlot {
    pub name: Arc<str>,
    settings: RefCell<Arc<Pool>>,
    view: RefCell<Arc<PoolView>>,
    /// The id of the first member, and the members in the order of their ids: what the view's ids mean.
    first: Cell<u32>,
    members: RefCell<Vec<Rc<BackendSlot>>>,
    /// The settings' `backend_limit`, at hand.
    limit: Cell<Option<u32>>,
    picker: RefCell<Picker>,
    /// Whose turn it is among the addresses of `source`.
    pub(super) turn: Cell<usize>,
    budget: RefCell<RetryBudget>,
    queue: RefCell<Queue<Key, Option<BackendKey>>>,
    /// Makes and reads the cookies of a sticky pool.
    sticky: RefCell<Option<Rc<Sticky>>>,
    /// Remembers the clients of a pool that keeps them by address.
    affinity: RefCell<Option<(Affinity, Arc<AffinityTable>)>>,
    /// Knows where the connection ids of a `quic-cid` pool lead.
    cids: RefCell<Option<CidRoutes>>,
}

/// Whom a pick is for. Fields that [`PickFor::new`] leaves out are set where they are known.
#[derive(Clone, Copy)]
pub struct PickFor<'a> {
    pub client: IpAddr,
    /// In the order they were tried; none of them while there is another.
    pub tried: &'a [Rc<BackendSlot>],
    pub now: Instant,
    /// What the pool's `hash_on` names, by [`evenkeel_balance::hash::of_bytes`], or [`PoolSlot::tuple_key`]; `None` takes the
    /// client's address.
    pub key: Option<u64>,
    /// The backend that the client's cookie names, or [`PoolSlot::affine`].
    pub sticky: Option<BackendKey>,
    /// Only what may be repeated is sent to see whether a silent backend is back.
    pub request: Request,
    pub arrival: Arrival,
    /// Whether datagrams are to go there: none to a backend that refused some a moment ago, while there is another.
    pub datagram: bool,
}

/// Who may pass those that wait in the pool's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Stands behind them.
    New,
    /// Was told by [`PoolSlot::wake`] that it is its turn.
    Woken,
}

impl<'a> PickFor<'a> {
    pub const fn new(client: IpAddr, tried: &'a [Rc<BackendSlot>], now: Instant) -> Self {
        PickFor {
            client,
            tried,
            now,
            key: None,
            sticky: None,
            request: Request::Once,
            arrival: Arrival::New,
            datagram: false,
        }
    }
}

/// Why there is no backend to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Nobody(Cause),
    /// All that would do are at their limit. It may wait, see [`PoolSlot::wait`].
    Full,
}

impl Refused {
    /// For those who do not wait.
    pub const fn cause(self) -> Cause {
        match self {
            Refused::Nobody(cause) => cause,
            Refused::Full => Cause::BackendQueueFull,
        }
    }
}

impl PoolSlot {
    pub(super) fn new(pool: &Arc<Pool>, view: &Arc<PoolView>, seed: u64) -> Self {
        PoolSlot {
            name: Arc::clone(&pool.name),
            settings: RefCell::new(Arc::clone(pool)),
            view: RefCell::new(Arc::clone(view)),
            first: Cell::new(0),
            members: RefCell::default(),
            limit: Cell::new(pool.backend_limit),
            picker: RefCell::new(Picker::new(seed)),
            turn: Cell::default(),
            budget: RefCell::new(RetryBudget::new(pool.retry_budget)),
            queue: RefCell::default(),
            sticky: RefCell::default(),
            affinity: RefCell::default(),
            cids: RefCell::default(),
        }
    }

    /// Takes over what a new plan says of the pool. Its members follow, see [`PoolSlot::set_members`].
    pub(super) fn follow(&self, pool: &Arc<Pool>, backends: &[Backend], gates: &Gates, secret: Option<&[u8]>) {
        let secret = secret.unwrap_or(gates.secret());
        let sticky = pool.sticky.as_ref().map(|sticky| Rc::new(Sticky::new(secret, &pool.name, sticky.max_age)));
        *self.sticky.borrow_mut() = sticky;
        if self.read(|settings| settings.retry_budget) != pool.retry_budget {
            *self.budget.borrow_mut() = RetryBudget::new(pool.retry_budget);
        }
        let affinity = pool.affinity.filter(|affinity| !affinity.timeout.is_zero());
        // Both are taken from the gates before the old ones are let go of, or the last worker to follow would find them
        // forgotten.
        let affinity = affinity.map(|affinity| (affinity, gates.affinity(&pool.name)));
        *self.affinity.borrow_mut() = affinity;
        let server_id = |backend: &Backend| Some((backend.server_id.clone()?, BackendKey::of(backend.address)));
        let cids = (pool.schedule == Schedule::QuicCid)
            .then(|| CidRoutes::new(backends.iter().filter_map(server_id), gates.cids(&pool.name)));
        *self.cids.borrow_mut() = cids;
        self.limit.set(pool.backend_limit);
        *self.settings.borrow_mut() = Arc::clone(pool);
    }

    pub(super) fn set_view(&self, view: &Arc<PoolView>) {
        *self.view.borrow_mut() = Arc::clone(view);
    }

    pub(super) fn set_members(&self, first: BackendId, members: Vec<Rc<BackendSlot>>) {
        self.first.set(first.0);
        *self.members.borrow_mut() = members;
    }

    pub(super) fn members(&self) -> Ref<'_, [Rc<BackendSlot>]> {
        Ref::map(self.members.borrow(), Vec::as_slice)
    }

    pub fn read<T>(&self, of: impl FnOnce(&Pool) -> T) -> T {
        of(&self.settings.borrow())
    }

    /// Picks a backend: the one the client is stuck to, else one by schedule, none of those tried while there is another.
    ///
    /// # Errors
    /// Why the pool has none to offer now.
    pub fn pick(&self, wanted: &PickFor<'_>) -> Result<Picked, Refused> {
        let view = self.view.borrow();
        let members = self.members.borrow();
        let members = Members { members: &members, first: self.first.get() };
        let limit = self.limit.get();
        if limit.is_some() && wanted.arrival == Arrival::New && self.must_stand_behind(&view, &members, wanted.now) {
            return Err(Refused::Full);
        }
        let mut moved = None;
        if let Some(key) = wanted.sticky {
            let (slot, stick) = self.stick(&view, &members, key, wanted);
            match (stick, slot) {
                (Stick::Stay, Some(slot)) => match slot.enter(limit) {
                    Some(occupant) => return Ok(Picked::new(Rc::clone(slot), occupant, None)),
                    None => return Err(Refused::Full),
                },
                (Stick::Wait, Some(_)) => return Err(Refused::Full),
                (Stick::Stay | Stick::Wait, None) => {}
                (Stick::Move(why), _) => moved = Some(why),
            }
        }
        if let Some(refusal) = view.refusal {
            return Err(Refused::Nobody(refusal));
        }
        let tried: Vec<BackendId> = wanted.tried.iter().filter_map(|slot| members.id_of(slot)).collect();
        let open = Wanted { key: wanted.key, tried: &tried, ..Wanted::first(wanted.client) };
        let id = self.picker.borrow_mut().pick(&view.candidates, &members, &open);
        // A view without a refusal has a candidate; should that ever break, refusing beats a panic.
        let slot = id.and_then(|id| members.slot(id)).ok_or(Refused::Nobody(Cause::NoBackendConfigured))?;
        let (slot, occupant) = match slot.enter(limit) {
            Some(occupant) if !passes_over(&view, slot, wanted) => (slot, occupant),
            _ => self.pick_around(&view, &members, &open, wanted)?,
        };
        if !wanted.tried.is_empty() {
            slot.metrics.retries.one();
        }
        Ok(Picked::new(Rc::clone(slot), occupant, moved))
    }

    /// Its id in the plan that the pool follows.
    pub(super) fn id_of(&self, slot: &Rc<BackendSlot>) -> Option<BackendId> {
        let members = self.members.borrow();
        Members { members: &members, first: self.first.get() }.id_of(slot)
    }

    /// Whether a backend other than `tried` could be picked now.
    pub fn has_other(&self, tried: &[Rc<BackendSlot>]) -> bool {
        let view = self.view.borrow();
        let members = self.members.borrow();
        let members = Members { members: &members, first: self.first.get() };
        view.candidates.members().iter().any(|member| {
            members.slot(member.backend).is_some_and(|slot| !tried.iter().any(|other| Rc::ptr_eq(other, slot)))
        })
    }

    /// Whether `slot` is out because of its verdict.
    pub fn is_unhealthy(&self, slot: &BackendSlot) -> bool {
        let found = self.view.borrow().candidates.find(slot.key);
        matches!(found, Some((_, Place::Aside(Aside::Unhealthy))))
    }

    /// What makes and reads the pool's cookies; `None` when it is not sticky. What it reads goes into [`PickFor::sticky`]; a
    /// cookie is due when the [`Picked`] backend's key is another, or when it says so itself.
    pub fn sticky(&self) -> Option<Rc<Sticky>> {
        self.sticky.borrow().clone()
    }

    /// What `tuple` goes by, for [`PickFor::key`]; `None` with other schedules. `local` is the address of ours that the client
    /// reached.
    pub fn tuple_key(&self, client: SocketAddr, local: Option<SocketAddr>) -> Option<u64> {
        let is_tuple = self.read(|settings| settings.schedule == Schedule::Tuple);
        is_tuple.then(|| hash::of_tuple(client, local.unwrap_or(SocketAddr::from(([0; 4], 0)))))
    }

    /// The backend that the client was with, for [`PickFor::sticky`], in a pool that keeps clients by address.
    pub fn affine(&self, client: IpAddr, now: Instant) -> Option<BackendKey> {
        let affinity = self.affinity.borrow();
        let (affinity, table) = affinity.as_ref()?;
        table.find(client_of(affinity, client), affinity.timeout, now)
    }

    /// Remembers where the client is now: call it for every connection or session that began. All workers know it then.
    pub fn settled(&self, client: IpAddr, backend: &BackendSlot, now: Instant) {
        if let Some((affinity, table)) = &*self.affinity.borrow() {
            table.settle(client_of(affinity, client), backend.key, affinity.timeout, now);
        }
    }

    /// Whether [`PoolSlot::heard_datagram`] has something to learn.
    pub fn follows_cids(&self) -> bool {
        self.cids.borrow().is_some()
    }

    /// Where the first datagram of a session goes, for [`PickFor::key`] and [`PickFor::sticky`]; nothing where the pool is not
    /// `quic-cid` or the datagram is not QUIC.
    pub fn of_datagram(&self, datagram: &[u8], now: Instant) -> Asked {
        let cids = self.cids.borrow();
        let Some(cids) = &*cids else { return Asked::default() };
        match quic::parse(datagram) {
            Some(Packet::Long { dcid, .. }) => cids.of(Dcid::Whole(dcid), now),
            Some(Packet::Short { rest }) => cids.of(Dcid::Leading(rest), now),
            None => Asked::default(),
        }
    }

    /// Whether a client's datagram belongs to a connection at a backend other than its session's, which would take it: the
    /// client has an address that another had a moment ago. `shown` is what the session's datagrams began with so far, so that
    /// only the first one of each connection id is looked up.
    pub fn leads_elsewhere(&self, datagram: &[u8], backend: &BackendSlot, shown: &mut u64, now: Instant) -> bool {
        let dcid = match quic::parse(datagram) {
            Some(Packet::Long { dcid, .. }) => dcid,
            Some(Packet::Short { rest }) => rest,
            None => return false,
        };
        let start = dcid.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
        if std::mem::replace(shown, start) == start {
            return false;
        }
        let Some(key) = self.of_datagram(datagram, now).sticky.filter(|key| *key != backend.key) else { return false };
        let known = |place| Known { place, tries: Tries::None, room: Room::Left };
        let found = self.view.borrow().candidates.find(key);
        found.is_some_and(|(_, place)| sticky::choose(known(place), now) == Stick::Stay)
    }

    /// The first datagram of a session was sent to `backend`: a client that is not answered may send it again from elsewhere.
    pub fn sent_datagram(&self, datagram: &[u8], backend: &BackendSlot, now: Instant) {
        self.learn(datagram, backend, now, |packet| match packet {
            Packet::Long { dcid, initial: true, .. } => Some(dcid),
            Packet::Long { .. } | Packet::Short { .. } => None,
        });
    }

    /// A datagram came from `backend`: if it shows a connection id, that is one by which the backend knows its client.
    pub fn heard_datagram(&self, datagram: &[u8], backend: &BackendSlot, now: Instant) {
        self.learn(datagram, backend, now, |packet| match packet {
            Packet::Long { scid, .. } => Some(scid),
            Packet::Short { .. } => None,
        });
    }

    fn learn<'d>(
        &self,
        datagram: &'d [u8],
        backend: &BackendSlot,
        now: Instant,
        of: impl FnOnce(Packet<'d>) -> Option<&'d [u8]>,
    ) {
        if let Some(cids) = &*self.cids.borrow()
            && let Some(cid) = quic::parse(datagram).and_then(of)
        {
            cids.learn(cid, backend.key, now);
        }
    }

    pub fn budget(&self) -> RefMut<'_, RetryBudget> {
        self.budget.borrow_mut()
    }

    /// Gives a request that was refused as [`Refused::Full`] a place in the queue; says until when it may wait.
    ///
    /// # Errors
    /// When the queue is full as well.
    pub fn wait(&self, key: Key, sticky: Option<BackendKey>, now: Instant) -> Result<Instant, Cause> {
        let (limit, timeout) = self.read(|settings| (settings.queue, settings.queue_timeout));
        let deadline = now + timeout;
        let has_place = self.queue.borrow_mut().push(key, sticky, deadline, limit as usize);
        if has_place { Ok(deadline) } else { Err(Cause::BackendQueueFull) }
    }

    /// For a request that was woken and refused nevertheless: another worker was faster. It stays the first.
    pub fn wait_on(&self, key: Key, sticky: Option<BackendKey>, deadline: Instant) {
        self.queue.borrow_mut().push_front(key, sticky, deadline);
    }

    /// A request that waits is not wanted any more. False when it did not wait.
    pub fn leave(&self, key: Key) -> bool {
        self.queue.borrow_mut().remove(key)
    }

    /// Whose wait is over. Call until `None` after a [`Picked`] of the pool was dropped, after a new snapshot, and at
    /// [`PoolSlot::poll_timeout`]; pick for the one whose turn it is before the next call, with [`Arrival::Woken`].
    pub fn wake(&self, now: Instant) -> Option<Woken<Key>> {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            return None;
        }
        let view = self.view.borrow();
        let members = self.members.borrow();
        let members = Members { members: &members, first: self.first.get() };
        queue.wake(now, self.room(&view, &members, now))
    }

    /// When [`PoolSlot::wake`] is to be called though nothing has happened on this worker.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.borrow().poll_timeout()
    }

    /// Requests in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Whether somebody waits who could go now.
    fn must_stand_behind(&self, view: &PoolView, members: &Members<'_>, now: Instant) -> bool {
        let queue = self.queue.borrow();
        !queue.is_empty() && queue.has_turn(self.room(view, members, now))
    }

    /// Answers whether there is room for one who waits for the backend of its cookie, or for anybody.
    fn room(&self, view: &PoolView, members: &Members<'_>, now: Instant) -> impl Fn(&Option<BackendKey>) -> bool {
        let limit = self.limit.get();
        let has_room = move |slot: &Rc<BackendSlot>| limit.is_none_or(|limit| !slot.occupancy.is_full(limit));
        // Where nobody is left to wait for, all are woken to be told so.
        let anybody = view.refusal.is_some()
            || view.candidates.members().iter().any(|member| members.slot(member.backend).is_some_and(has_room));
        move |sticky: &Option<BackendKey>| {
            let Some((id, place)) = sticky.and_then(|key| view.candidates.find(key)) else { return anybody };
            let known = Known { place, tries: Tries::None, room: Room::Left };
            match (sticky::choose(known, now), members.slot(id)) {
                (Stick::Stay | Stick::Wait, Some(slot)) => has_room(slot),
                (Stick::Stay | Stick::Wait | Stick::Move(_), _) => anybody,
            }
        }
    }

    /// Where the backend of a sticky client is, and whether the client stays.
    fn stick<'m>(
        &self,
        view: &PoolView,
        members: &Members<'m>,
        key: BackendKey,
        wanted: &PickFor<'_>,
    ) -> (Option<&'m Rc<BackendSlot>>, Stick) {
        let found = view.candidates.find(key).and_then(|(id, place)| Some((members.slot(id)?, place)));
        let Some((slot, place)) = found else { return (None, Stick::Move(Moved::Removed)) };
        let failed = wanted.tried.iter().any(|tried| Rc::ptr_eq(tried, slot)) || has_refused(slot, wanted);
        let full = self.limit.get().is_some_and(|limit| slot.occupancy.is_full(limit));
        let known = Known {
            place,
            tries: if failed { Tries::Failed } else { Tries::None },
            room: if full { Room::Full } else { Room::Left },
        };
        (Some(slot), sticky::choose(known, wanted.now))
    }

    /// The schedule's first answer would not do: goes through all to see whom to leave out, and asks again.
    fn pick_around<'m>(
        &self,
        view: &PoolView,
        members: &Members<'m>,
        open: &Wanted<'_>,
        wanted: &PickFor<'_>,
    ) -> Result<(&'m Rc<BackendSlot>, Option<crate::gate::Occupant>), Refused> {
        let limit = self.limit.get();
        let candidates = view.candidates.members();
        let those = |which: &dyn Fn(&BackendSlot) -> bool| -> Vec<BackendId> {
            let ids = candidates.iter().map(|member| member.backend);
            ids.filter(|id| members.slot(*id).is_some_and(|slot| which(slot))).collect()
        };
        let minds_silence = !view.candidates.schedule().is_hashed();
        let avoid =
            those(&|slot: &BackendSlot| minds_silence && slot.is_silent(wanted.now) || has_refused(slot, wanted));
        let mut full = limit.map_or_else(Vec::new, |limit| those(&|slot: &BackendSlot| slot.occupancy.is_full(limit)));
        while full.len() < candidates.len() {
            let open = Wanted { avoid: &avoid, full: &full, ..*open };
            let picked = self.picker.borrow_mut().pick(&view.candidates, members, &open);
            let Some((id, slot)) = picked.and_then(|id| Some((id, members.slot(id)?))) else { break };
            match slot.enter(limit) {
                Some(occupant) => return Ok((slot, occupant)),
                // Another worker took the last place since we looked.
                None => full.push(id),
            }
        }
        Err(Refused::Full)
    }
}

/// A refusal is no silence: whatever the client has there, nobody answers it.
fn has_refused(slot: &BackendSlot, wanted: &PickFor<'_>) -> bool {
    wanted.datagram && slot.has_refused(wanted.now)
}

fn client_of(affinity: &Affinity, client: IpAddr) -> u128 {
    prefix::cut(client, affinity.ipv4_prefix, affinity.ipv6_prefix)
}

/// Whether a request that the schedule gave to `slot` should go elsewhere because of its silence. A client that belongs to a
/// backend by its key stays there, since a slow answer is no reason to part it from what it has there.
fn passes_over(view: &PoolView, slot: &BackendSlot, wanted: &PickFor<'_>) -> bool {
    if has_refused(slot, wanted) {
        return true;
    }
    if !slot.is_silent(wanted.now) || view.candidates.schedule().is_hashed() {
        return false;
    }
    !(wanted.tried.is_empty() && slot.try_again(wanted.request, wanted.now))
}

struct Members<'a> {
    members: &'a [Rc<BackendSlot>],
    first: u32,
}

impl<'a> Members<'a> {
    fn slot(&self, id: BackendId) -> Option<&'a Rc<BackendSlot>> {
        self.members.get(id.0.checked_sub(self.first)? as usize)
    }

    fn id_of(&self, slot: &Rc<BackendSlot>) -> Option<BackendId> {
        let position = self.members.iter().position(|member| Rc::ptr_eq(member, slot))?;
        Some(BackendId(self.first + position as u32))
    }
}

impl Load for Members<'_> {
    fn in_flight(&self, backend: BackendId) -> u32 {
        self.slot(backend).map_or(0, |slot| slot.in_flight.count())
    }
}
