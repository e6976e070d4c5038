//! A day in the life of a node, many times over: control, health and balance under a virtual clock.
//!
//! Hosts crash, hang, flap and slow down, sometimes in the middle of a probe; the operator orders and
//! reloads; control is sometimes kept from running and hears of everything late. After every
//! step the whole state is compared with `sim/oracle.rs`, a naive recount.
//!
//! `SIM_SEED=17` replays one seed, `SIM_SEEDS=1000` runs so many. A failure prints its seed.

mod support;

#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::{Picker, Wanted};
use evenkeel_control::memory::Outlives;
use evenkeel_control::{Changed, Control, Event, Obeyed, Output, ProbeKey};
use evenkeel_model::event::{Operation, Refused, VerdictChanged, What};
use evenkeel_model::finding::{Failure, FailureReason, Finding, ProbePhase, ProbeResult};
use evenkeel_model::standing::{Order, Verdict};
use evenkeel_model::{BackendId, Instant, PoolId};
use evenkeel_plan::Snapshot;
use oracle::{Ask, BackendName, Oracle};
use support::PoolSpec;
use world::{Dice, HOSTS, Land, Mood};

/// What a state file may be old.
const MAX_AGE: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn control_agrees_with_a_naive_recount_through_a_day_of_trouble() {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("SIM_SEED and SIM_SEEDS are numbers"));
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(3),
    };
    let mut all = Tally::default();
    for seed in seeds.clone() {
        match catch_unwind(|| Sim::new(seed).run()) {
            Ok(day) => {
                day.assert_eventful(seed);
                all.add(&day);
            }
            Err(failure) => {
                eprintln!("the day of seed {seed} went wrong; SIM_SEED={seed} replays it");
                resume_unwind(failure);
            }
        }
    }
    println!("{} days: {all:?}", seeds.end - seeds.start);
    assert!(all.suspicions > 0 || seeds.end - seeds.start < 4, "the network was lost and no node noticed: {all:?}");
}

/// What is to happen, in order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    ProbeEnds(ProbeKey),
    MoodChanges(u8),
    NetworkLost,
    NetworkBack,
    Order,
    Reload,
    /// Control does not run for a while.
    Stall,
    /// The process ends and another one begins.
    Restart,
}

struct Sim {
    dice: Dice,
    land: Land,
    control: Control,
    oracle: Oracle,
    pools: Vec<PoolSpec>,
    moods: BTreeMap<u8, Mood>,
    network: bool,
    agenda: BTreeSet<(Instant, Happening)>,
    probes: BTreeMap<ProbeKey, Running>,
    /// Until then control hears nothing.
    stalled_until: Instant,
    now: Instant,
    snapshot: Arc<Snapshot>,
    /// Generation that was compared last.
    checked: u64,
    pickers: BTreeMap<Arc<str>, Picker>,
    suspects: bool,
    told: Vec<VerdictChanged>,
    /// Backends whose orders are over and that nobody has told of yet.
    over: Vec<BackendName>,
    /// The answer that is due.
    answer: Option<Result<Obeyed, Refused>>,
    /// Number of the event that came last.
    seq: u64,
    tally: Tally,
}

/// A probe under way: how it will end, if nothing comes in between.
struct Running {
    host: u8,
    finding: Finding,
}

/// What a day had in it, so that a simulation in which nothing happens cannot pass.
#[derive(Debug, Default)]
struct Tally {
    probes: u64,
    verdicts: u64,
    picks: u64,
    refusals: u64,
    reloads: u64,
    orders: u64,
    /// Orders that ended by themselves.
    over: u64,
    cancelled: u64,
    void: u64,
    suspicions: u64,
    exact_windows: u64,
    restarts: u64,
    /// Restarts that some backend was known to be unhealthy after.
    recalled: u64,
}

impl Tally {
    fn add(&mut self, day: &Tally) {
        self.probes += day.probes;
        self.verdicts += day.verdicts;
        self.picks += day.picks;
        self.refusals += day.refusals;
        self.reloads += day.reloads;
        self.orders += day.orders;
        self.over += day.over;
        self.cancelled += day.cancelled;
        self.void += day.void;
        self.suspicions += day.suspicions;
        self.exact_windows += day.exact_windows;
        self.restarts += day.restarts;
        self.recalled += day.recalled;
    }

    fn assert_eventful(&self, seed: u64) {
        let seen = [
            self.probes / 1000,
            self.verdicts / 20,
            self.picks / 1000,
            self.exact_windows,
            self.cancelled,
            self.void,
            self.recalled,
            self.over,
        ];
        assert!(seen.iter().all(|&count| count > 0), "seed {seed} saw a dull day: {self:?}");
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let land = if seed.is_multiple_of(2) { Land::Shared } else { Land::Apart };
        let pools = land.some_pools(&mut dice);
        let now = Instant::from_nanos(dice.below(1_000_000_000));
        let control = Control::new(support::plan(&pools), now, seed);
        let snapshot = control.snapshot();
        let mut oracle = Oracle::default();
        oracle.reload(&pools, now);
        oracle.settle(&[]);
        let mut sim = Sim {
            dice,
            land,
            control,
            oracle,
            pools,
            moods: (1..=HOSTS).map(|host| (host, Mood::Well)).collect(),
            network: true,
            agenda: BTreeSet::new(),
            probes: BTreeMap::new(),
            stalled_until: now,
            now,
            snapshot,
            checked: 0,
            pickers: BTreeMap::new(),
            suspects: false,
            told: Vec::new(),
            over: Vec::new(),
            answer: None,
            seq: 0,
            tally: Tally::default(),
        };
        for host in 1..=HOSTS {
            sim.plan_next(Happening::MoodChanges(host));
        }
        for happening in
            [Happening::NetworkLost, Happening::Order, Happening::Reload, Happening::Stall, Happening::Restart]
        {
            sim.plan_next(happening);
        }
        sim.settle();
        sim
    }

    fn run(mut self) -> Tally {
        let end = self.now + DAY;
        loop {
            let timer = self.control.poll_timeout().unwrap_or(Instant::NEVER);
            let happens = self.agenda.first().map_or(Instant::NEVER, |first| first.0);
            let next = timer.min(happens);
            if next > end {
                return self.tally;
            }
            self.now = next.max(self.stalled_until).max(self.now);
            if timer <= happens {
                let punctual = self.now == timer;
                self.over = self.oracle.end_orders(self.now);
                self.control.handle_timeout(self.now);
                let later = self.control.poll_timeout().is_none_or(|next| next > self.now);
                assert!(later, "due again at once: the caller would spin");
                let busy = self.settle();
                assert!(busy || !punctual, "woken at {:?} for nothing", self.now);
            } else if let Some((at, happening)) = self.agenda.pop_first() {
                self.happen(at, happening);
            }
        }
    }

    fn plan_next(&mut self, happening: Happening) {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let most = match happening {
            Happening::MoodChanges(_) => minutes(40),
            Happening::NetworkLost => minutes(480),
            Happening::NetworkBack => minutes(3),
            Happening::Order => minutes(4),
            Happening::Reload => minutes(10),
            Happening::Stall => minutes(30),
            Happening::Restart => minutes(120),
            Happening::ProbeEnds(_) => unreachable!("a probe knows its own end"),
        };
        let at = self.now + self.dice.time(Duration::from_millis(1), most);
        self.agenda.insert((at, happening));
    }

    fn happen(&mut self, at: Instant, happening: Happening) {
        match happening {
            Happening::ProbeEnds(key) => return self.probe_ends(key),
            Happening::MoodChanges(host) => self.change_mood(host, at),
            Happening::NetworkLost => {
                self.network = false;
                self.plan_next(Happening::NetworkBack);
                return;
            }
            Happening::NetworkBack => {
                self.network = true;
                self.plan_next(Happening::NetworkLost);
                return;
            }
            Happening::Order => self.give_order(),
            Happening::Reload => self.reload(),
            Happening::Restart => self.restart(),
            Happening::Stall => {
                self.stalled_until = self.now + self.dice.time(Duration::ZERO, Duration::from_secs(8));
            }
        }
        self.plan_next(happening);
    }

    /// A host that crashes may take probes under way with it.
    fn change_mood(&mut self, host: u8, at: Instant) {
        let mood = Mood::thrown(&mut self.dice);
        self.moods.insert(host, mood);
        if mood != Mood::Crashed || self.dice.percent(50) {
            return;
        }
        for (&key, running) in self.probes.iter_mut().filter(|(_, running)| running.host == host) {
            if running.finding.ended <= at || running.finding.started > at {
                continue;
            }
            assert!(self.agenda.remove(&(running.finding.ended, Happening::ProbeEnds(key))));
            running.finding.ended = at;
            running.finding.result =
                ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason: FailureReason::Reset });
            self.agenda.insert((at, Happening::ProbeEnds(key)));
        }
    }

    fn probe_ends(&mut self, key: ProbeKey) {
        let running = self.probes.remove(&key).expect("the agenda holds no probe that does not run");
        self.tally.void += u64::from(!running.finding.result.passed() && !running.finding.result.failed());
        assert!(self.oracle.ended(key, &running.finding), "cancelled probes were taken off the agenda");
        self.control.handle(Event::ProbeDone { key, finding: running.finding.clone() }, self.now);
        self.settle();
        // Now and then the answer arrives twice; while no other probe runs the second must change nothing.
        if self.dice.percent(1) && !self.probes.contains_key(&key) {
            self.control.handle(Event::ProbeDone { key, finding: running.finding }, self.now);
            self.settle();
        }
    }

    fn give_order(&mut self) {
        let (name, ask) = world::some_ask(&self.pools, &mut self.dice, self.now);
        self.tally.orders += 1;
        self.answer = Some(self.oracle.asked(&name, ask, self.now));
        let ((pool, backend), by) = (name, "ops".into());
        let event = match ask {
            Ask::Order(order, until, keep) => Event::Ordered { pool, backend, order, until, keep, by },
            Ask::Weight(weight, keep) => Event::Weighed { pool, backend, weight, keep, by },
            Ask::Probe => Event::ProbeNow { pool, backend, by },
        };
        self.control.handle(event, self.now);
        self.settle();
    }

    fn reload(&mut self) {
        for _ in 0..self.dice.below(4) {
            self.land.edit(&mut self.pools, &mut self.dice);
        }
        self.tally.reloads += 1;
        self.oracle.reload(&self.pools, self.now);
        self.control.handle(Event::PlanChanged(support::plan(&self.pools)), self.now);
        self.settle();
    }

    /// Everything goes but what control remembers, and some time passes.
    fn restart(&mut self) {
        self.tally.restarts += 1;
        let upgrade = self.dice.percent(30);
        let outlives = if upgrade { Outlives::Upgrade } else { Outlives::Restart };
        let mut memory = self.control.memory(self.now, outlives);
        memory.age = match self.dice.below(3) {
            0 => self.dice.time(Duration::ZERO, Duration::from_secs(5)),
            1 => self.dice.time(Duration::ZERO, Duration::from_secs(60)),
            _ => self.dice.time(Duration::ZERO, 2 * MAX_AGE),
        };
        self.now += memory.age;
        self.agenda.retain(|(_, happening)| !matches!(happening, Happening::ProbeEnds(_)));
        self.probes.clear();
        self.suspects = false;
        let (plan, seed) = (support::plan(&self.pools), self.dice.next());
        self.control = Control::with_memory(plan, &memory, MAX_AGE, self.now, seed);
        self.snapshot = self.control.snapshot();
        self.checked = 0;
        self.over = self.oracle.restart(self.now, memory.age, MAX_AGE, upgrade);
        self.seq = 0;
        let known = self.oracle.backends().any(|name| self.oracle.verdict(name) == Verdict::Unhealthy);
        self.tally.recalled += u64::from(known);
        self.settle();
    }

    /// Carries out what control orders, then compares everything. Says whether there was anything.
    fn settle(&mut self) -> bool {
        let mut busy = false;
        while let Some(output) = self.control.poll_output() {
            busy = true;
            match output {
                Output::StartProbe { key, address, check } => {
                    self.tally.probes += 1;
                    self.oracle.started(key, (address, (*check).clone()), self.now);
                    let host = world::host_of(address.ip());
                    let mood = if self.network { self.moods[&host] } else { Mood::Hung };
                    let (takes, result) = mood.answer(&check, &mut self.dice);
                    let ended = self.now + takes;
                    let finding = Finding { kind: check.probe.kind(), started: self.now, ended, result };
                    self.agenda.insert((ended, Happening::ProbeEnds(key)));
                    assert!(self.probes.insert(key, Running { host, finding }).is_none(), "a key used twice");
                }
                Output::CancelProbe { key } => {
                    self.tally.cancelled += 1;
                    let running = self.probes.remove(&key).expect("only a running probe is cancelled");
                    assert!(self.agenda.remove(&(running.finding.ended, Happening::ProbeEnds(key))));
                }
                Output::Publish(snapshot) => self.publish(snapshot),
                Output::LookAtTraffic { pool, .. } => panic!("no pool of these stories compares rates, {pool} does"),
                Output::Answered(answer) => assert_eq!(self.answer.take(), Some(answer)),
                Output::Record(event) => {
                    assert_eq!(event.seq, self.seq + 1, "a gap in the numbers of events");
                    self.seq = event.seq;
                    self.hear(event.what);
                }
            }
        }
        assert!(self.over.is_empty(), "orders that ended and nobody said so: {:?}", self.over);
        assert_eq!(self.answer, None, "an ask without an answer");
        let told = std::mem::take(&mut self.told);
        let moved = self.oracle.settle(&told);
        self.check_probing();
        // Snapshots do not change, so that an old one needs no second look while the recount agrees.
        assert!(Arc::ptr_eq(&self.snapshot, &self.control.snapshot()), "a snapshot that was not among the outputs");
        if moved || self.checked != self.snapshot.generation {
            self.checked = self.snapshot.generation;
            self.check_snapshot();
        }
        self.pick();
        busy
    }

    fn hear(&mut self, what: What) {
        match what {
            What::VerdictChanged(changed) => {
                self.tally.verdicts += 1;
                let exact = changed.because.evidence().is_some_and(|it| it.window == it.computed);
                self.tally.exact_windows += u64::from(exact);
                self.told.push(changed);
            }
            What::SelfSuspected(_) => {
                assert!(!self.suspects, "suspected twice without an end");
                self.suspects = true;
                self.tally.suspicions += 1;
            }
            What::SuspicionOver { .. } => {
                assert!(self.suspects, "an end without a beginning");
                self.suspects = false;
            }
            What::StateRecalled(recalled) => assert_eq!(recalled.absent, 0, "the plan is the same"),
            What::StateTooOld { age, max_age } => assert!(age > max_age),
            What::Operated(operated) => {
                if let Operation::OrderOver { .. } = operated.what {
                    let name = (operated.pool, operated.backend);
                    let found = self.over.iter().position(|one| *one == name);
                    self.over.swap_remove(found.unwrap_or_else(|| panic!("the order of {name:?} is not over")));
                    self.tally.over += 1;
                }
            }
            What::AgentSaid { .. }
            | What::PlanChanged(_)
            | What::PlanRefused { .. }
            | What::ProbesVoid(_)
            | What::Silence(_)
            | What::Beside(_) => {}
            What::TrafficFailed(_) | What::EjectionOver { .. } => panic!("there is no traffic in these stories"),
            What::HoldBegan { .. } | What::VerdictHeldBack(_) | What::HoldEnded { .. } => {
                panic!("these plans hold no verdicts")
            }
            What::PoolPanicked(_) | What::PoolCalm(_) => panic!("these plans know no panic"),
        }
    }

    fn publish(&mut self, new: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, new);
        assert_eq!(self.snapshot.generation, old.generation + 1);
        assert_eq!(self.snapshot.made, self.now);
        for (position, pool) in self.snapshot.plan.pools.iter().enumerate() {
            let before = old.plan.pools.iter().position(|other| other.name == pool.name);
            if let Some(before) = before.filter(|&before| old.pools[before] == self.snapshot.pools[position]) {
                assert!(Arc::ptr_eq(&old.pools[before], &self.snapshot.pools[position]), "an equal view made anew");
            }
        }
    }

    /// Whoever is to be probed by now is being probed, and nobody else.
    fn check_probing(&self) {
        let mut running = 0;
        for (name, target) in &self.oracle.targets {
            running += usize::from(target.in_flight.is_some());
            let overdue = target.probing && target.in_flight.is_none() && target.due + target.spread <= self.now;
            assert!(!overdue, "{name:?} was due at {:?}, it is {:?}", target.due, self.now);
        }
        assert_eq!((running, self.control.probes_in_flight()), (self.probes.len(), self.probes.len()));
    }

    /// The snapshot is of one generation and says what the recount says.
    fn check_snapshot(&self) {
        let Snapshot { plan, standings, pools, .. } = &*self.snapshot;
        assert_eq!(plan.pools.len(), self.pools.len(), "not the plan of the last reload");
        assert_eq!((standings.len(), pools.len()), (plan.backends.len(), plan.pools.len()));
        assert_eq!(self.oracle.backends().count(), plan.backends.len());
        for (position, (pool, spec)) in plan.pools.iter().zip(&self.pools).enumerate() {
            assert_eq!(pool.name, spec.name);
            let id = PoolId::from_index(position);
            let view = &pools[position];
            let mut members = view.candidates.members().iter();
            for ((backend, settings), &(address, weight)) in plan.backends_of(id).zip(&spec.backends) {
                assert_eq!((settings.address, settings.weight, settings.pool), (address, weight, id));
                let standing = standings[backend.index()];
                let name = (Arc::clone(&spec.name), address);
                assert_eq!(standing.verdict, self.oracle.verdict(&name), "{name:?}");
                assert_eq!(standing.order, self.oracle.order(&name), "{name:?}");
                let (said, percent) = self.oracle.word(&name);
                assert_eq!((standing.agent.order, standing.agent.percent), (said, percent), "{name:?}");
                assert_eq!(standing.weight, self.oracle.weight(&name), "{name:?}");
                let given = standing.weight.unwrap_or(weight);
                let serves = standing.order == Order::Serve && said == Order::Serve;
                let eligible = given > 0 && percent > 0 && serves && standing.verdict != Verdict::Unhealthy;
                assert_eq!(eligible, standing.effective_weight(weight) > 0);
                if eligible {
                    let member = members.next().expect("whoever is eligible is a candidate");
                    assert_eq!((member.backend, member.weight), (backend, standing.effective_weight(weight)));
                }
            }
            assert_eq!(members.next(), None, "a candidate that is not eligible");
            assert_eq!(view.refusal.is_some(), view.candidates.is_empty());
            assert_eq!(view.candidates.schedule(), spec.schedule);
        }
        self.check_changes();
    }

    /// What differs from the config is listed whole, and nothing else is.
    fn check_changes(&self) {
        let mut listed: BTreeMap<BackendName, (Order, Option<Instant>, Option<u32>)> = BTreeMap::new();
        for change in self.control.changes() {
            let of = listed.entry((change.pool, change.backend)).or_default();
            match change.what {
                Changed::Order(order) => (of.0, of.1) = (order, change.until),
                Changed::Weight { given, .. } => of.2 = Some(given),
            }
        }
        let wanted = self.oracle.changes().map(|(name, order, until, weight)| (name.clone(), (order, until, weight)));
        assert_eq!(listed, wanted.collect());
    }

    /// Where there is a candidate, a pick finds one. Another pool at each step.
    fn pick(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        let Some(count) = std::num::NonZeroU64::new(snapshot.pools.len() as u64) else { return };
        let position = self.dice.below(count.get()) as usize;
        let (pool, view) = (&snapshot.plan.pools[position], &snapshot.pools[position]);
        let picker = self.pickers.entry(Arc::clone(&pool.name)).or_insert_with(|| Picker::new(1));
        let client = Ipv4Addr::from(self.dice.next() as u32).into();
        let load = |_: BackendId| 0;
        match picker.pick(&view.candidates, &load, &Wanted::first(client)) {
            Some(backend) => {
                self.tally.picks += 1;
                assert!(view.candidates.members().iter().any(|member| member.backend == backend));
            }
            None => {
                self.tally.refusals += 1;
                assert!(view.candidates.is_empty(), "an eligible backend, and the pick failed");
            }
        }
    }
}
