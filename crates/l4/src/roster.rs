//! What one worker keeps of each listener, pool and backend from one snapshot to the next.
//!
//! Plan ids change with every reload, so connections hold on to slots instead. A slot is found again by name
//! and address, and it outlives its place in the plan for as long as a connection needs it: a request on
//! a removed listener still has a pool to go to while it drains.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use evenkeel_model::exchange::BackendThen;
use evenkeel_model::{Instant, PoolId};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_observe::{ListenerMetrics, Registry};
use evenkeel_plan::{Listener, OnUnhealthy, Plan, Pool, Snapshot};

use crate::gate::{Gate, Gates, Pass, Turned};

mod backend;
mod pool;
mod source;

pub use backend::{BackendSlot, Picked};
pub use evenkeel_balance::quic::Asked;
pub use pool::{Arrival, PickFor, PoolSlot, Refused};

pub struct ListenerSlot {
    pub name: Arc<str>,
    pub metrics: Arc<ListenerMetrics>,
    settings: RefCell<Arc<Listener>>,
    gate: RefCell<Gate>,
    pool: RefCell<Option<Rc<PoolSlot>>>,
    /// The pools that its settings name, by the ids of that plan and in their order: a removed listener's settings
    /// are of an older plan than the roster's.
    pools: RefCell<Vec<(PoolId, Rc<PoolSlot>)>>,
    /// No longer in the plan: its connections end after the request they are at.
    removed: Cell<bool>,
}

impl ListenerSlot {
    pub fn settings(&self) -> Arc<Listener> {
        Arc::clone(&self.settings.borrow())
    }

    /// Reads one value of the settings without touching the shared reference count.
    pub fn read<T>(&self, of: impl FnOnce(&Listener) -> T) -> T {
        of(&self.settings.borrow())
    }

    /// Where everything goes that no rule takes.
    pub fn pool(&self) -> Option<Rc<PoolSlot>> {
        self.pool.borrow().clone()
    }

    /// The pool that a rule of its settings names.
    pub fn ruled(&self, id: PoolId) -> Option<Rc<PoolSlot>> {
        let pools = self.pools.borrow();
        let position = pools.binary_search_by_key(&id.index(), |(known, _)| known.index()).ok()?;
        Some(Rc::clone(&pools[position].1))
    }

    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Whether a client may connect, see [`Gate::connection`]. The pass is kept for as long as the connection is.
    ///
    /// # Errors
    /// Why not.
    pub fn connection(&self, client: IpAddr, now: Instant) -> Result<Pass, Turned> {
        self.gate.borrow().connection(client, now)
    }

    /// Whether the client may come in that a PROXY header has named, see [`Gate::known`].
    ///
    /// # Errors
    /// Why not.
    pub fn known(&self, pass: &mut Pass, client: IpAddr, now: Instant) -> Result<(), Turned> {
        self.gate.borrow().known(pass, client, now)
    }

    /// Whether a client may make one more request, see [`Gate::request`].
    ///
    /// # Errors
    /// Why not.
    pub fn request(&self, client: IpAddr, now: Instant) -> Result<(), Turned> {
        self.gate.borrow().request(client, now)
    }
}

/// All slots of one worker, in step with one snapshot.
pub struct Roster {
    worker: usize,
    seed: u64,
    registry: Arc<Registry>,
    gates: Arc<Gates>,
    generation: u64,
    plan: Option<Arc<Plan>>,
    /// What was followed last.
    snapshot: Option<Arc<Snapshot>>,
    listeners: HashMap<Arc<str>, Rc<ListenerSlot>>,
    pools: HashMap<Arc<str>, Rc<PoolSlot>>,
    /// By [`PoolId`] of the plan followed.
    by_id: Vec<Rc<PoolSlot>>,
}

impl Roster {
    pub fn new(worker: usize, seed: u64, registry: Arc<Registry>, gates: Arc<Gates>) -> Self {
        Roster {
            worker,
            seed,
            registry,
            gates,
            generation: 0,
            plan: None,
            snapshot: None,
            listeners: HashMap::new(),
            pools: HashMap::new(),
            by_id: Vec::new(),
        }
    }

    /// Of the snapshot followed last.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The plan followed last.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// For tables whose keys others choose.
    pub(crate) fn table_seed(&self) -> u64 {
        self.gates.seed()
    }

    pub fn listener(&self, name: &str) -> Option<&Rc<ListenerSlot>> {
        self.listeners.get(name)
    }

    /// The pool that a rule of the plan followed last names.
    pub fn pool(&self, id: PoolId) -> Option<&Rc<PoolSlot>> {
        self.by_id.get(id.index())
    }

    /// What is known now of a backend of a pool, for the record of an exchange; nothing of one that has left the plan.
    pub fn then(&self, pool: &PoolSlot, backend: &Rc<BackendSlot>) -> Option<BackendThen> {
        let standing = self.snapshot.as_ref()?.standings.get(pool.id_of(backend)?.index())?;
        Some(BackendThen {
            verdict: standing.verdict,
            since: standing.verdict_since,
            order: standing.order_in_force(),
            traffic: standing.traffic,
            in_flight: backend.in_flight.count(),
        })
    }

    /// Whether any pool wants what its unhealthy backends hold ended: if not, nobody need be looked through for it.
    pub fn resets_on_unhealthy(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.pools.iter().any(|pool| pool.on_unhealthy == OnUnhealthy::Reset))
    }

    /// Brings the slots in step with `snapshot`. True when the plan itself changed, not only verdicts.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>) -> bool {
        if snapshot.generation == self.generation && self.plan.is_some() {
            return false;
        }
        self.generation = snapshot.generation;
        self.snapshot = Some(Arc::clone(snapshot));
        let same_plan = self.plan.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &snapshot.plan));
        if same_plan {
            for (pool, view) in snapshot.plan.pools.iter().zip(&snapshot.pools) {
                if let Some(slot) = self.pools.get(&pool.name) {
                    slot.set_view(view);
                }
            }
            return false;
        }
        self.plan = Some(Arc::clone(&snapshot.plan));
        self.follow_pools(snapshot);
        self.follow_listeners(&snapshot.plan);
        true
    }

    fn follow_pools(&mut self, snapshot: &Snapshot) {
        let plan = &snapshot.plan;
        let mut before = std::mem::take(&mut self.pools);
        self.by_id.clear();
        for (pool, view) in plan.pools.iter().zip(&snapshot.pools) {
            let old = before.remove(&pool.name);
            let first = pool.first_backend.index();
            let backends = &plan.backends[first..first + pool.backend_count as usize];
            let old_members = old.as_ref().map(|slot| slot.members().to_vec()).unwrap_or_default();
            let same_manner = old.as_ref().is_none_or(|slot| slot.read(|before| in_one_manner(before, pool)));
            let members: Vec<Rc<BackendSlot>> = backends
                .iter()
                .map(|backend| {
                    let kept = old_members.iter().find(|slot| slot.address == backend.address);
                    match kept {
                        Some(slot) if same_manner => Rc::clone(slot),
                        Some(slot) => Rc::new(slot.without_connections()),
                        None => self.new_backend(&pool.name, backend.address),
                    }
                })
                .collect();
            for member in &members {
                let watch = |passive| self.gates.watch(&pool.name, member.address, passive);
                member.set_watch(pool.passive.as_ref().map(watch));
            }
            for slot in &old_members {
                slot.removed.set(!members.iter().any(|member| Rc::ptr_eq(member, slot)));
            }
            let slot = old.unwrap_or_else(|| Rc::new(PoolSlot::new(pool, view, self.seed ^ self.worker as u64)));
            slot.follow(pool, backends, &self.gates, plan.node.sticky_secret.as_deref());
            slot.set_view(view);
            slot.set_members(pool.first_backend, members);
            self.by_id.push(Rc::clone(&slot));
            self.pools.insert(Arc::clone(&pool.name), slot);
        }
        // Pools that are gone keep their members for connections of removed listeners; no new connection
        // of theirs is kept for reuse.
        for slot in before.values() {
            for member in slot.members().iter() {
                member.removed.set(true);
            }
        }
    }

    fn new_backend(&self, pool: &Arc<str>, address: SocketAddr) -> Rc<BackendSlot> {
        let label = BackendLabel { pool: Arc::clone(pool), backend: address.to_string().into() };
        let metrics = self.registry.backend(self.worker, &label);
        Rc::new(BackendSlot::new(address, metrics, self.gates.backend(pool, address)))
    }

    fn follow_listeners(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.listeners);
        for listener in &plan.listeners {
            let pool = listener.pool.and_then(|id| self.pool(id)).cloned();
            let pools = listener.pools().into_iter().filter_map(|id| Some((id, Rc::clone(self.pool(id)?))));
            let pools = pools.collect();
            let slot = match before.remove(&listener.name) {
                Some(slot) => {
                    *slot.settings.borrow_mut() = Arc::clone(listener);
                    *slot.gate.borrow_mut() = self.gates.listener(listener);
                    *slot.pool.borrow_mut() = pool;
                    *slot.pools.borrow_mut() = pools;
                    slot
                }
                None => Rc::new(ListenerSlot {
                    name: Arc::clone(&listener.name),
                    metrics: self.registry.listener(self.worker, &listener.name),
                    settings: RefCell::new(Arc::clone(listener)),
                    gate: RefCell::new(self.gates.listener(listener)),
                    pool: RefCell::new(pool),
                    pools: RefCell::new(pools),
                    removed: Cell::new(false),
                }),
            };
            self.listeners.insert(Arc::clone(&listener.name), slot);
        }
        for slot in before.values() {
            slot.removed.set(true);
        }
    }
}

/// Whether connections made for the one pool may be used for the other: nothing differs in what is spoken on them, in what
/// their backend was told of the client, or in where they come from.
fn in_one_manner(one: &Pool, other: &Pool) -> bool {
    one.speaks == other.speaks
        && one.tls == other.tls
        && one.proxy_protocol == other.proxy_protocol
        && one.source == other.source
}

#[cfg(test)]
mod tests;
