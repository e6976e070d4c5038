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

use evenkeel_balance::{InFlight, Load, Picker, RetryBudget, Ticket, Wanted};
use evenkeel_model::{BackendId, Cause, PoolId};
use evenkeel_observe::metrics::BackendLabel;
use evenkeel_observe::{BackendMetrics, ListenerMetrics, Registry};
use evenkeel_plan::{Listener, Plan, Pool, PoolView, Snapshot};

use crate::arena::Key;

pub struct ListenerSlot {
    pub name: Arc<str>,
    pub metrics: Arc<ListenerMetrics>,
    settings: RefCell<Arc<Listener>>,
    pool: RefCell<Option<Rc<PoolSlot>>>,
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

    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }
}

pub struct PoolSlot {
    pub name: Arc<str>,
    settings: RefCell<Arc<Pool>>,
    view: RefCell<Arc<PoolView>>,
    /// The id of the first member, and the members in the order of their ids: what the view's ids mean.
    first: Cell<u32>,
    members: RefCell<Vec<Rc<BackendSlot>>>,
    picker: RefCell<Picker>,
    budget: RefCell<RetryBudget>,
}

pub struct BackendSlot {
    pub address: SocketAddr,
    pub metrics: Arc<BackendMetrics>,
    in_flight: InFlight,
    /// Kept connections, the one used last at the end.
    pub idle: RefCell<Vec<Key>>,
    /// Connections that carry streams, or will.
    pub carriers: RefCell<Vec<Key>>,
    removed: Cell<bool>,
}

impl BackendSlot {
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }
}

/// A backend and the right to use it. Dropping it takes the work off the backend's count.
pub struct Picked {
    pub backend: Rc<BackendSlot>,
    _ticket: Ticket,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.backend.metrics.in_flight.less_one();
    }
}

impl PoolSlot {
    pub fn read<T>(&self, of: impl FnOnce(&Pool) -> T) -> T {
        of(&self.settings.borrow())
    }

    /// Picks a backend for `client`, none of `tried` while there is another.
    ///
    /// # Errors
    /// The cause why the pool has none to offer.
    pub fn pick(&self, client: IpAddr, tried: &[Rc<BackendSlot>]) -> Result<Picked, Cause> {
        let view = self.view.borrow();
        if let Some(refusal) = view.refusal {
            return Err(refusal);
        }
        let members = self.members.borrow();
        let load = Members { members: &members, first: self.first.get() };
        let id = if tried.is_empty() {
            self.picker.borrow_mut().pick(&view.candidates, &load, &Wanted { client, tried: &[] })
        } else {
            let tried: Vec<BackendId> = tried.iter().filter_map(|slot| load.id_of(slot)).collect();
            self.picker.borrow_mut().pick(&view.candidates, &load, &Wanted { client, tried: &tried })
        };
        // A view without a refusal has a candidate; should that ever break, refusing beats a panic.
        let backend = Rc::clone(id.and_then(|id| load.slot(id)).ok_or(Cause::NoBackendConfigured)?);
        backend.metrics.in_flight.one();
        backend.metrics.attempts.one();
        if !tried.is_empty() {
            backend.metrics.retries.one();
        }
        let ticket = backend.in_flight.take();
        Ok(Picked { backend, _ticket: ticket })
    }

    /// Whether a backend other than `tried` could be picked now.
    pub fn has_other(&self, tried: &[Rc<BackendSlot>]) -> bool {
        let view = self.view.borrow();
        let members = self.members.borrow();
        let load = Members { members: &members, first: self.first.get() };
        view.candidates.members().iter().any(|member| {
            load.slot(member.backend).is_some_and(|slot| !tried.iter().any(|other| Rc::ptr_eq(other, slot)))
        })
    }

    pub fn budget(&self) -> std::cell::RefMut<'_, RetryBudget> {
        self.budget.borrow_mut()
    }
}

struct Members<'a> {
    members: &'a [Rc<BackendSlot>],
    first: u32,
}

impl Members<'_> {
    fn slot(&self, id: BackendId) -> Option<&Rc<BackendSlot>> {
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

/// All slots of one worker, in step with one snapshot.
pub struct Roster {
    worker: usize,
    seed: u64,
    registry: Arc<Registry>,
    generation: u64,
    plan: Option<Arc<Plan>>,
    listeners: HashMap<Arc<str>, Rc<ListenerSlot>>,
    pools: HashMap<Arc<str>, Rc<PoolSlot>>,
    /// By [`PoolId`] of the plan followed.
    by_id: Vec<Rc<PoolSlot>>,
}

impl Roster {
    pub fn new(worker: usize, seed: u64, registry: Arc<Registry>) -> Self {
        Roster {
            worker,
            seed,
            registry,
            generation: 0,
            plan: None,
            listeners: HashMap::new(),
            pools: HashMap::new(),
            by_id: Vec::new(),
        }
    }

    pub fn listener(&self, name: &str) -> Option<&Rc<ListenerSlot>> {
        self.listeners.get(name)
    }

    /// The pool that a rule of the plan followed last names.
    pub fn pool(&self, id: PoolId) -> Option<&Rc<PoolSlot>> {
        self.by_id.get(id.index())
    }

    /// Brings the slots in step with `snapshot`. True when the plan itself changed, not only verdicts.
    pub fn follow(&mut self, snapshot: &Snapshot) -> bool {
        if snapshot.generation == self.generation && self.plan.is_some() {
            return false;
        }
        self.generation = snapshot.generation;
        let same_plan = self.plan.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &snapshot.plan));
        if same_plan {
            for (pool, view) in snapshot.plan.pools.iter().zip(&snapshot.pools) {
                if let Some(slot) = self.pools.get(&pool.name) {
                    *slot.view.borrow_mut() = Arc::clone(view);
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
            let old_members = old.as_ref().map(|slot| slot.members.take()).unwrap_or_default();
            let members: Vec<Rc<BackendSlot>> = backends
                .iter()
                .map(|backend| {
                    let kept = old_members.iter().find(|slot| slot.address == backend.address);
                    kept.map_or_else(|| self.new_backend(&pool.name, backend.address), Rc::clone)
                })
                .collect();
            for slot in &old_members {
                slot.removed.set(!members.iter().any(|member| Rc::ptr_eq(member, slot)));
            }
            let slot = match old {
                Some(slot) => {
                    let old_percent = slot.read(|settings| settings.retry_budget);
                    if old_percent != pool.retry_budget {
                        *slot.budget.borrow_mut() = RetryBudget::new(pool.retry_budget);
                    }
                    *slot.settings.borrow_mut() = Arc::clone(pool);
                    *slot.view.borrow_mut() = Arc::clone(view);
                    slot
                }
                None => Rc::new(PoolSlot {
                    name: Arc::clone(&pool.name),
                    settings: RefCell::new(Arc::clone(pool)),
                    view: RefCell::new(Arc::clone(view)),
                    first: Cell::new(0),
                    members: RefCell::default(),
                    picker: RefCell::new(Picker::new(self.seed ^ self.worker as u64)),
                    budget: RefCell::new(RetryBudget::new(pool.retry_budget)),
                }),
            };
            slot.first.set(pool.first_backend.0);
            *slot.members.borrow_mut() = members;
            self.by_id.push(Rc::clone(&slot));
            self.pools.insert(Arc::clone(&pool.name), slot);
        }
        // Pools that are gone keep their members for connections of removed listeners; no new connection
        // of theirs is kept for reuse.
        for slot in before.values() {
            for member in slot.members.borrow().iter() {
                member.removed.set(true);
            }
        }
    }

    fn new_backend(&self, pool: &Arc<str>, address: SocketAddr) -> Rc<BackendSlot> {
        let label = BackendLabel { pool: Arc::clone(pool), backend: address.to_string().into() };
        Rc::new(BackendSlot {
            address,
            metrics: self.registry.backend(self.worker, &label),
            in_flight: InFlight::default(),
            idle: RefCell::default(),
            carriers: RefCell::default(),
            removed: Cell::new(false),
        })
    }

    fn follow_listeners(&mut self, plan: &Plan) {
        let mut before = std::mem::take(&mut self.listeners);
        for listener in &plan.listeners {
            let pool = listener.pool.and_then(|id| self.pool(id)).cloned();
            let slot = match before.remove(&listener.name) {
                Some(slot) => {
                    *slot.settings.borrow_mut() = Arc::clone(listener);
                    *slot.pool.borrow_mut() = pool;
                    slot
                }
                None => Rc::new(ListenerSlot {
                    name: Arc::clone(&listener.name),
                    metrics: self.registry.listener(self.worker, &listener.name),
                    settings: RefCell::new(Arc::clone(listener)),
                    pool: RefCell::new(pool),
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
