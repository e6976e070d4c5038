//! The machine: which event touches what, and in which order orders go out.
//!
//! Probe results reach the judge of their target, verdicts reach every backend that rests on it, and
//! whatever changed a backend's standing marks its pool. Marked pools are rebuilt when the outputs are
//! polled, not when the event comes: a caller that hands in all it has before it polls pays for
//! one snapshot instead of one per event, without a timer and without a moment of staleness.
//!
//! The lost alternative was one actor per backend. Then "one generation" would be a protocol; with one
//! writer it is a struct.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::ProbeKey;
use evenkeel_health::hold::Hold;
use evenkeel_health::judge::{self, Change};
use evenkeel_health::keys::ByNumber;
use evenkeel_health::settings::CheckSettings;
use evenkeel_health::suspicion::Suspicion;
use evenkeel_health::timetable::{self, Timetable, Turn, Waits};
use evenkeel_model::event::{Because, Refused, VerdictChanged, What};
use evenkeel_model::finding::{Finding, ProbeResult};
use evenkeel_model::standing::{Harm, Order, Standing, Verdict};
use evenkeel_model::{BackendId, Instant, PoolId, TargetId, event};
use evenkeel_plan::{Plan, PoolView, Snapshot};

use crate::backends::BackendState;
use crate::journal::Journal;
use crate::memory::{Memory, Remembered};
use crate::operate::{Obeyed, Wish};
use crate::passive::{Look, Totals};
use crate::targets::TargetState;

#[derive(Debug)]
pub struct Control {
    pub(crate) plan: Arc<Plan>,
    pub(crate) now: Instant,
    /// By [`TargetId`].
    pub(crate) targets: Vec<TargetState>,
    pub(crate) target_of_key: ByNumber<ProbeKey, TargetId>,
    pub(crate) next_key: u64,
    /// By [`BackendId`], like `standings`.
    pub(crate) backends: Vec<BackendState>,
    pub(crate) standings: Vec<Standing>,
    /// Backends in slow start by the moment of their next step.
    pub(crate) steps: BTreeSet<(Instant, BackendId)>,
    /// Orders that end by themselves, by the moment.
    pub(crate) ends: BTreeSet<(Instant, BackendId)>,
    /// Ejected backends by the moment they come back.
    pub(crate) returns: BTreeSet<(Instant, BackendId)>,
    /// Pools whose backends are compared by rates, by the moment of the next look.
    pub(crate) looks: BTreeSet<(Instant, PoolId)>,
    /// Pools with checks that trust traffic, by the moment of the next look.
    pub(crate) trust_looks: BTreeSet<(Instant, PoolId)>,
    pub(crate) timetable: Timetable,
    pub(crate) suspicion: Suspicion,
    pub(crate) hold: Hold,
    pub(crate) journal: Journal,
    pub(crate) snapshot: Arc<Snapshot>,
    /// By [`PoolId`]; those of `touched` are out of date.
    pub(crate) views: Vec<Arc<PoolView>>,
    /// Pools with a standing that their view does not show yet.
    pub(crate) touched: BTreeSet<PoolId>,
    /// Whether something is to be published.
    pub(crate) stale: bool,
    /// What is still to be recalled of an earlier process.
    pub(crate) remembered: Option<Remembered>,
    pub(crate) outputs: VecDeque<Output>,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A configuration was read and compiled. Listeners of the new plan are bound before this.
    PlanChanged(Arc<Plan>),
    /// A configuration was read and has problems; only for the record.
    PlanRefused { problems: usize, first: Arc<str>, by: Arc<str> },
    /// Something beside traffic and probes changed; only for the record.
    Noted(event::Beside),
    /// A started probe ended. Answers to cancelled probes are ignored.
    ProbeDone { key: ProbeKey, finding: Finding },
    /// An operator orders a backend. Each of these three is answered once, by [`Output::Answered`].
    Ordered {
        pool: Arc<str>,
        backend: SocketAddr,
        order: Order,
        /// When it falls back to `serve`; only of the other two.
        until: Option<Instant>,
        /// Whether it is to outlive a restart.
        keep: bool,
        /// Who says so.
        by: Arc<str>,
    },
    /// An operator gives a backend a weight; `None`: that of the config again.
    Weighed { pool: Arc<str>, backend: SocketAddr, weight: Option<u32>, keep: bool, by: Arc<str> },
    /// An operator does not want to wait for the next probes of a backend.
    ProbeNow { pool: Arc<str>, backend: SocketAddr, by: Arc<str> },
    /// A backend failed its clients so many times in a row in one way, workers taken together. May be told again for
    /// the same run.
    Harmed { pool: Arc<str>, backend: SocketAddr, harm: Harm, failures: u32 },
    /// The answer to [`Output::LookAtTraffic`].
    Sampled { pool: Arc<str>, look: Look, totals: Vec<Totals> },
}

#[derive(Clone, Debug)]
pub enum Output {
    /// Start it now and answer with exactly one [`Event::ProbeDone`]. The next probe of the same target may come under
    /// the same key, so that a second answer could be taken for that one's.
    StartProbe {
        key: ProbeKey,
        address: SocketAddr,
        check: Arc<CheckSettings>,
    },
    /// Give it up and do not answer; the key is never used again.
    CancelProbe {
        key: ProbeKey,
    },
    /// Answer with the totals of this pool's backends, and the same look.
    LookAtTraffic {
        pool: Arc<str>,
        look: Look,
    },
    Publish(Arc<Snapshot>),
    /// To the operator's ask that came first of those not yet answered. What it changed has been published by then.
    Answered(Result<Obeyed, Refused>),
    Record(event::Event),
}

impl Control {
    /// The first snapshot is ready at once, see [`Control::snapshot`]; first probes are among the outputs.
    /// `seed` spreads first probes, so that nodes started together do not probe in step.
    pub fn new(plan: Arc<Plan>, now: Instant, seed: u64) -> Self {
        let mut control = Control::at_rest(&plan, now, seed);
        control.begin(plan);
        control
    }

    /// One that takes up what an earlier process knew; nobody has ever seen it without.
    pub fn with_memory(plan: Arc<Plan>, memory: &Memory, max_age: Duration, now: Instant, seed: u64) -> Self {
        let mut control = Control::at_rest(&plan, now, seed);
        control.remember(memory, max_age);
        control.begin(plan);
        control
    }

    fn begin(&mut self, plan: Arc<Plan>) {
        self.adopt(plan);
        self.publish();
        self.start_due();
    }

    fn at_rest(plan: &Arc<Plan>, now: Instant, seed: u64) -> Self {
        let nothing =
            Snapshot { generation: 0, made: now, plan: Arc::clone(plan), standings: Vec::new(), pools: Vec::new() };
        Control {
            plan: Arc::clone(plan),
            now,
            targets: Vec::new(),
            target_of_key: ByNumber::default(),
            next_key: 0,
            backends: Vec::new(),
            standings: Vec::new(),
            steps: BTreeSet::new(),
            ends: BTreeSet::new(),
            returns: BTreeSet::new(),
            looks: BTreeSet::new(),
            trust_looks: BTreeSet::new(),
            timetable: Timetable::new(seed),
            suspicion: Suspicion::new(),
            hold: Hold::default(),
            journal: Journal::default(),
            snapshot: Arc::new(nothing),
            views: Vec::new(),
            touched: BTreeSet::new(),
            stale: false,
            remembered: None,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, event: Event, now: Instant) {
        self.now = now;
        match event {
            Event::PlanChanged(plan) => {
                let change = self.adopt(plan);
                self.record(now, What::PlanChanged(change));
            }
            Event::PlanRefused { problems, first, by } => {
                self.record(now, What::PlanRefused { problems, first, by });
            }
            Event::Noted(beside) => self.record(now, What::Beside(beside)),
            Event::ProbeDone { key, finding } => self.probe_done(key, finding),
            Event::Ordered { pool, backend, order, until, keep, by } => {
                self.operate(pool, backend, by, Wish::Order { order, until, keep });
            }
            Event::Weighed { pool, backend, weight, keep, by } => {
                self.operate(pool, backend, by, Wish::Weight { weight, keep });
            }
            Event::ProbeNow { pool, backend, by } => self.operate(pool, backend, by, Wish::Probe),
            Event::Harmed { pool, backend, harm, failures } => self.harmed(&pool, backend, harm, failures),
            Event::Sampled { pool, look, totals } => self.sampled(&pool, look, &totals),
        }
        self.start_due();
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.end_orders();
        self.climb();
        self.bring_back();
        self.look_at_rates();
        self.look_for_trust();
        self.review_hold();
        if let Some(voids) = self.journal.voids_due(now) {
            self.record(now, What::ProbesVoid(voids));
        }
        self.start_due();
    }

    /// When [`Control::handle_timeout`] has something to do next, exactly.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let step = self.steps.first().map(|&(at, _)| at);
        let order = self.ends.first().map(|&(at, _)| at);
        [
            self.timetable.poll_timeout(),
            step,
            order,
            self.next_of_traffic(),
            self.hold.poll_timeout(),
            self.journal.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Call until `None` after each event or batch of events.
    pub fn poll_output(&mut self) -> Option<Output> {
        // Published before probes are started and events recorded: workers come first.
        if self.stale {
            return Some(Output::Publish(self.publish()));
        }
        self.outputs.pop_front()
    }

    /// The snapshot published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Recent events, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &event::Event> {
        self.journal.events()
    }

    /// Those with a greater number than `seq`, oldest first. Older ones than are kept are left out: whoever goes on after one
    /// that is gone sees it by the number of the first.
    pub fn events_after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &event::Event> + ExactSizeIterator {
        self.journal.events_after(seq)
    }

    pub const fn probes_in_flight(&self) -> usize {
        self.timetable.in_flight()
    }

    /// How long due probes waited for their start.
    pub const fn probe_waits(&self) -> Waits {
        self.timetable.waits()
    }

    /// Since when the node suspects itself.
    pub const fn suspects_itself_since(&self) -> Option<Instant> {
        self.suspicion.since()
    }

    /// Whether no verdict turns unhealthy now, since the node suspects itself.
    pub const fn holds_verdicts(&self) -> bool {
        self.hold.holds()
    }

    fn probe_done(&mut self, key: ProbeKey, finding: Finding) {
        let Some(&id) = self.target_of_key.get(&key) else { return };
        if !matches!(self.timetable.turn(key), Some(Turn::InFlight { .. })) {
            return;
        }
        // The gap counts from the end of the probe, not from the moment we got to hear of it.
        let at = finding.ended.min(self.now);
        if let ProbeResult::Void(void) = &finding.result {
            self.journal.count_void(void, self.now);
        }
        if let Some(says) = finding.agent() {
            self.agent_said(id, says);
        }
        // Before the judge: the failure that makes the node suspect itself may be the last one of a run.
        self.suspect_by(key, &finding);
        let target = &mut self.targets[id.index()];
        let was_held_back = target.judge.is_held_back();
        target.judge.handle(judge::Event::ProbeEnded(&finding));
        if target.judge.is_held_back() && !was_held_back {
            self.tell_held_back(id, &finding);
        }
        self.targets[id.index()].remember(finding.clone());
        self.hear_judge(id);
        self.mark_silence(id, &finding);
        let target = &self.targets[id.index()];
        let gap = target.check.timing.gap(target.judge.pace(), self.witness(id));
        self.timetable.handle(timetable::Event::ProbeEnded { key, at, gap }, self.now);
    }

    /// Does what a judge concluded.
    pub(crate) fn hear_judge(&mut self, id: TargetId) {
        while let Some(change) = self.targets[id.index()].judge.poll_output() {
            self.verdict_changed(id, change);
        }
    }

    fn verdict_changed(&mut self, id: TargetId, change: Change) {
        self.targets[id.index()].before_start.held = Duration::ZERO;
        let because = match change.threshold {
            None => Because::FirstProbe(change.evidence),
            Some(threshold) => Because::Run { threshold, evidence: change.evidence },
        };
        for position in 0..self.targets[id.index()].backends.len() {
            let backend = self.targets[id.index()].backends[position];
            let (verdict, _) = self.resting_on(backend);
            // One of several checks that changed its mind may change nothing for the backend.
            if verdict != self.standings[backend.index()].verdict {
                let check = self.check_of(backend, id);
                self.set_verdict(backend, verdict, change.at, check, because.clone());
            }
        }
    }

    /// One backend takes on a verdict: standing, slow start and event.
    pub(crate) fn set_verdict(
        &mut self,
        id: BackendId,
        to: Verdict,
        since: Instant,
        check: Option<Arc<str>>,
        because: Because,
    ) {
        let standing = &mut self.standings[id.index()];
        let from = std::mem::replace(&mut standing.verdict, to);
        standing.verdict_since = since;
        self.touch(id);
        match (from, to) {
            (_, Verdict::Unhealthy) => self.set_climb(id, None),
            (Verdict::Unhealthy, Verdict::Healthy | Verdict::Unknown) => self.start_climb(id),
            (Verdict::Healthy | Verdict::Unknown, Verdict::Healthy | Verdict::Unknown) => {}
        }
        let backend = &self.backends[id.index()];
        let (pool, address) = (Arc::clone(&backend.pool), backend.address);
        let checks = self.plan.backends[id.index()].targets.len();
        let changed = VerdictChanged { pool, backend: address, from, to, check, checks, because };
        // A verdict that probes reached dates from the last of them, not from when we heard of it.
        let at = if changed.because.evidence().is_some() { since } else { self.now };
        self.record(at, What::VerdictChanged(changed));
    }

    fn start_due(&mut self) {
        self.timetable.handle_timeout(self.now);
        while let Some(timetable::Output::Start { key }) = self.timetable.poll_output() {
            let id = self.target_of_key[&key];
            let target = &self.targets[id.index()];
            let (address, check) = (target.address, Arc::clone(&target.check));
            self.outputs.push_back(Output::StartProbe { key, address, check });
        }
    }

    pub(crate) fn record(&mut self, at: Instant, what: What) {
        let event = self.journal.keep(at, what);
        self.outputs.push_back(Output::Record(event));
    }

    pub(crate) fn touch(&mut self, id: BackendId) {
        self.touched.insert(self.plan.backends[id.index()].pool);
        self.stale = true;
    }
}
