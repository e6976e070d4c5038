//! What operators ask of backends: orders with or without an end, weights, probes at once. Each ask has one answer.
//!
//! The plan stays what the config says; what is given here stands beside it, hangs on (pool, address), survives reloads and goes
//! with its backend. What differs from the config is listed by [`Control::changes`], with who asked for it and since when.
//!
//! Whatever is asked for last holds, as a whole: a drain without a limit after one of ten minutes has none, and one that is not to be
//! kept after one that was is not kept. An order that is over, or taken back, leaves nothing to be kept. The lost alternative, a
//! kept order under a passing one that comes back at the next start, is two orders for an operator to remember.
//!
//! A probe that is asked for is the next one brought forward: it counts like any other, the gap to the one after it counts from its
//! end (W1), and one that is in flight already is not doubled (W2).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::timetable::{self, Turn};
use evenkeel_model::event::{Asked, Operated, Operation, Refused, What};
use evenkeel_model::standing::Order;
use evenkeel_model::{BackendId, Instant, PoolId, TargetId, limits};

use crate::control::{Control, Output};

/// What became of an ask that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    Changed,
    /// It was so already.
    AsBefore,
    /// So many probes were brought forward, so many were in flight anyway.
    Probing {
        waiting: usize,
        in_flight: usize,
    },
}

/// Something in which the running node differs from its config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeChange {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    pub what: Changed,
    pub by: Arc<str>,
    pub since: Instant,
    /// When it ends by itself.
    pub until: Option<Instant>,
    /// Whether it outlives a restart.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Order(Order),
    Weight { given: u32, configured: u32 },
}

/// Of an order other than `serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub by: Arc<str>,
    pub until: Option<Instant>,
    pub kept: bool,
}

/// Of a weight that is not the config's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub by: Arc<str>,
    pub at: Instant,
    pub kept: bool,
}

/// What is asked of one backend.
pub(crate) enum Wish {
    Order { order: Order, until: Option<Instant>, keep: bool },
    Weight { weight: Option<u32>, keep: bool },
    Probe,
}

impl Wish {
    const fn asked(&self) -> Asked {
        match self {
            Wish::Order { order, .. } => Asked::Order(*order),
            Wish::Weight { weight, .. } => Asked::Weight(*weight),
            Wish::Probe => Asked::Probe,
        }
    }
}

impl Control {
    /// In what the running node differs from its plan, in the plan's order.
    pub fn changes(&self) -> impl Iterator<Item = RuntimeChange> {
        let of = |position: usize, what, by: &Arc<str>, since, until, kept| {
            let backend = &self.backends[position];
            let (pool, by) = (Arc::clone(&backend.pool), Arc::clone(by));
            RuntimeChange { pool, backend: backend.address, what, by, since, until, kept }
        };
        self.backends.iter().enumerate().flat_map(move |(position, backend)| {
            let standing = &self.standings[position];
            let order = backend.given.as_deref().map(|given| {
                let (what, since) = (Changed::Order(standing.order), backend.ordered_at);
                of(position, what, &given.by, since, given.until, given.kept)
            });
            let configured = self.plan.backends[position].weight;
            let weight = standing.weight.zip(backend.weighed.as_deref()).map(|(given, weighed)| {
                let what = Changed::Weight { given, configured };
                of(position, what, &weighed.by, weighed.at, None, weighed.kept)
            });
            order.into_iter().chain(weight)
        })
    }

    /// When the order of a backend ends by itself, and whether it outlives a restart; `None` under `serve`.
    ///
    /// # Panics
    /// When `id` is not of the current plan.
    pub fn order_of(&self, id: BackendId) -> Option<(Option<Instant>, bool)> {
        self.backends[id.index()].given.as_deref().map(|given| (given.until, given.kept))
    }

    /// Does what is asked, or says why not; either way there is one answer.
    pub(crate) fn operate(&mut self, pool: Arc<str>, address: SocketAddr, by: Arc<str>, wish: Wish) {
        let found = self.may_be_asked(&pool, address, &wish);
        let answer = found.map(|ids| {
            // One backend, however often a plan may have it.
            let each = ids.into_iter().map(|id| match wish {
                Wish::Order { order, until, keep } => self.give_order(id, order, until, keep, &by),
                Wish::Weight { weight, keep } => self.give_weight(id, weight, keep, &by),
                Wish::Probe => self.bring_forward(id, &by),
            });
            each.fold(Obeyed::AsBefore, |so_far, one| if one == Obeyed::AsBefore { so_far } else { one })
        });
        if let Err(why) = answer {
            let what = Operation::Refused { asked: wish.asked(), why };
            self.record(self.now, What::Operated(Operated { pool, backend: address, by, what }));
        }
        self.outputs.push_back(Output::Answered(answer));
    }

    /// The backends that are meant.
    fn may_be_asked(&self, pool: &str, address: SocketAddr, wish: &Wish) -> Result<Vec<BackendId>, Refused> {
        let found = self.plan.pools.iter().position(|one| *one.name == *pool).ok_or(Refused::NoSuchPool)?;
        let backends = self.plan.backends_of(PoolId::from_index(found));
        let meant: Vec<BackendId> = backends.filter(|(_, one)| one.address == address).map(|(id, _)| id).collect();
        if meant.is_empty() {
            return Err(Refused::NoSuchBackend);
        }
        let most = limits::WEIGHT.max as u32;
        let keeps = match *wish {
            Wish::Order { order: Order::Serve, until: Some(_), .. } => return Err(Refused::ServeHasNoEnd),
            // Whoever serves as the config says has nothing to be kept.
            Wish::Order { order: Order::Serve, .. } | Wish::Weight { weight: None, .. } => false,
            Wish::Weight { weight: Some(weight), .. } if weight > most => {
                return Err(Refused::WeightOutOfRange { most });
            }
            Wish::Order { keep, .. } | Wish::Weight { keep, .. } => keep,
            Wish::Probe => {
                let mut targets = meant.iter().flat_map(|id| &self.plan.backends[id.index()].targets).peekable();
                if targets.peek().is_none() {
                    return Err(Refused::NoCheck);
                }
                if targets.all(|target| self.targets[target.index()].key.is_none()) {
                    return Err(Refused::NotProbed);
                }
                false
            }
        };
        if keeps && self.plan.node.state.is_none() {
            return Err(Refused::NoStateFile);
        }
        Ok(meant)
    }

    fn give_order(&mut self, id: BackendId, order: Order, until: Option<Instant>, keep: bool, by: &Arc<str>) -> Obeyed {
        let given = (order != Order::Serve).then(|| Box::new(Given { by: Arc::clone(by), until, kept: keep }));
        let said = |given: &Option<Box<Given>>| given.as_ref().map(|given| (given.until, given.kept));
        let from = self.standings[id.index()].order;
        if (from, said(&self.backends[id.index()].given)) == (order, said(&given)) {
            return Obeyed::AsBefore;
        }
        let kept = given.as_ref().is_some_and(|given| given.kept);
        self.set_order(id, order, given);
        let lasts = until.map(|until| until - self.now);
        self.tell_operated(id, by, Operation::Ordered { from, to: order, lasts, kept });
        Obeyed::Changed
    }

    /// Another order, or another end of the same.
    fn set_order(&mut self, id: BackendId, order: Order, given: Option<Box<Given>>) {
        let until = given.as_ref().and_then(|given| given.until);
        let before = std::mem::replace(&mut self.backends[id.index()].given, given);
        if let Some(until) = before.and_then(|before| before.until) {
            self.ends.remove(&(until, id));
        }
        self.ends.extend(until.map(|until| (until, id)));
        let standing = &mut self.standings[id.index()];
        let in_force = standing.order_in_force();
        if std::mem::replace(&mut standing.order, order) == order {
            return;
        }
        self.backends[id.index()].ordered_at = self.now;
        self.touch(id);
        self.order_changed(id, in_force);
        let plan = Arc::clone(&self.plan);
        for &target in &plan.backends[id.index()].targets {
            self.review_probing(target);
        }
    }

    /// Ends the orders whose time is over.
    pub(crate) fn end_orders(&mut self) {
        while let Some(&(at, id)) = self.ends.first() {
            if at > self.now {
                return;
            }
            self.ends.pop_first();
            let from = self.standings[id.index()].order;
            let by = self.backends[id.index()].given.as_ref().map(|given| Arc::clone(&given.by));
            self.set_order(id, Order::Serve, None);
            self.tell_operated(id, &by.unwrap_or_default(), Operation::OrderOver { from });
        }
    }

    /// The ends of orders under the ids of a new plan.
    pub(crate) fn adopt_ends(&mut self) {
        let ends = self.backends.iter().enumerate().filter_map(|(position, backend)| {
            let until = backend.given.as_ref()?.until?;
            Some((until, BackendId::from_index(position)))
        });
        self.ends = ends.collect();
    }

    fn give_weight(&mut self, id: BackendId, weight: Option<u32>, keep: bool, by: &Arc<str>) -> Obeyed {
        let weighed = weight.map(|_| Box::new(Weighed { by: Arc::clone(by), at: self.now, kept: keep }));
        let said = |weighed: &Option<Box<Weighed>>| weighed.as_ref().map(|weighed| weighed.kept);
        let kept = said(&weighed);
        let backend = &mut self.backends[id.index()];
        if (self.standings[id.index()].weight, said(&backend.weighed)) == (weight, kept) {
            return Obeyed::AsBefore;
        }
        backend.weighed = weighed;
        let configured = self.plan.backends[id.index()].weight;
        let standing = &mut self.standings[id.index()];
        let from = standing.weight_given(configured);
        standing.weight = weight;
        let to = standing.weight_given(configured);
        self.touch(id);
        let kept = kept.unwrap_or(false);
        self.tell_operated(id, by, Operation::Weighed { from, to, of_file: weight.is_none(), kept });
        Obeyed::Changed
    }

    fn bring_forward(&mut self, id: BackendId, by: &Arc<str>) -> Obeyed {
        let mut targets: Vec<TargetId> = self.plan.backends[id.index()].targets.to_vec();
        targets.sort_unstable_by_key(|target| target.index());
        targets.dedup();
        let (mut waiting, mut in_flight) = (0, 0);
        for key in targets.iter().filter_map(|target| self.targets[target.index()].key) {
            match self.timetable.turn(key) {
                Some(Turn::Due(_)) => {
                    waiting += 1;
                    let after = Duration::from_millis(limits::PROBE_ASKED_GAP.value);
                    self.timetable.handle(timetable::Event::AskedFor { key, after }, self.now);
                }
                Some(Turn::InFlight { .. }) => in_flight += 1,
                None => {}
            }
        }
        self.tell_operated(id, by, Operation::ProbesBroughtForward { waiting, in_flight });
        Obeyed::Probing { waiting, in_flight }
    }

    pub(crate) fn tell_operated(&mut self, id: BackendId, by: &Arc<str>, what: Operation) {
        let backend = &self.backends[id.index()];
        let (pool, by) = (Arc::clone(&backend.pool), Arc::clone(by));
        let operated = Operated { pool, backend: backend.address, by, what };
        self.record(self.now, What::Operated(operated));
    }
}
