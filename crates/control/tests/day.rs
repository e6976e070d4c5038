//! A day of flapping over 10,000 backends: each verdict within its window, each snapshot true, and the same seed the same
//! day to the last event.
//!
//! Backends crash, hang and come back at rhythms of their own, from steady ones that fail once in hours to some that
//! change within a second, and racks of fifty fail together. Probes are a model: they know the backend's state and how long it
//! lasts. What hears of them is the real control room under a virtual clock.
//!
//! By default it is a few minutes, since the tests are built without optimisation. The whole day, with its time:
//!
//! ```text
//! DAY_SECONDS=86400 cargo test --release -p evenkeel-control --test day -- --nocapture
//! ```
//!
//! `SIM_SEED=17` replays one seed. A failure prints its seed.

#[path = "day/backend.rs"]
mod backend;
#[path = "day/land.rs"]
mod land;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, Dice};
use evenkeel_control::{Control, Event, Output, ProbeKey};
use evenkeel_model::event::{Because, VerdictChanged, What};
use evenkeel_model::finding::Finding;
use evenkeel_model::standing::Verdict;
use evenkeel_model::{BackendId, Instant};
use evenkeel_plan::{Plan, Snapshot};
use land::{BACKENDS, POOLS, index_of, plan, timing_of};

/// What the tests run, twice. A day has 360 times as much.
const SHORT: Duration = Duration::from_secs(240);

/// How often the whole snapshot is compared; what is published in between is compared where it changed.
const LOOK: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn a_day_of_flapping_keeps_its_windows_and_replays_from_its_seed() {
    let seed = number("SIM_SEED").unwrap_or(5);
    let length = number("DAY_SECONDS").map_or(SHORT, Duration::from_secs);
    let run = |seed| {
        let began = std::time::Instant::now();
        let told = catch_unwind(|| Day::new(seed).run(length)).unwrap_or_else(|failure| {
            eprintln!("the day of seed {seed} went wrong; SIM_SEED={seed} replays it");
            resume_unwind(failure);
        });
        println!("seed {seed}, {length:?} in {:?}: {told:?}", began.elapsed());
        told
    };
    let first = run(seed);
    first.assert_eventful(length);
    assert_eq!(first, run(seed), "seed {seed} does not replay");
    let other = Day::new(seed + 1).run(Duration::from_secs(20));
    assert_ne!(other.digest, Day::new(seed).run(Duration::from_secs(20)).digest, "the seed changes nothing");
}

/// What a day came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Over every event that control recorded: its moment and all its words.
    digest: u64,
    events: u64,
    probes: u64,
    void: u64,
    changes: u64,
    fallen: u64,
    risen: u64,
    snapshots: u64,
    /// Stretches of one state that were long enough to demand a verdict.
    demanded: u64,
}

impl Told {
    fn assert_eventful(&self, length: Duration) {
        let minutes = length.as_secs() / 60;
        let seen = [self.fallen, self.risen, self.demanded, self.void, self.snapshots];
        assert!(seen.iter().all(|&count| count > 100 * minutes), "a dull day: {self:?}");
        assert!(self.probes > 30_000 * minutes, "{self:?}");
    }

    fn note(&mut self, event: &evenkeel_model::event::Event) {
        self.events += 1;
        // FNV-1a: small, and the same on every machine.
        let mut hash = self.digest ^ 0xcbf2_9ce4_8422_2325;
        let text = event.to_string();
        for byte in event.at.as_nanos().to_le_bytes().into_iter().chain(text.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.digest = hash;
    }
}

/// In the order of time. A backend changes before probes of that moment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Changes(usize),
    Ends { probe: usize },
    Look,
}

struct Day {
    control: Control,
    plan: Arc<Plan>,
    dice: Dice,
    now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, Happening)>>,
    backends: Vec<Backend>,
    /// Probes under way; places are used again.
    probes: Vec<Option<(ProbeKey, Finding)>>,
    free: Vec<usize>,
    snapshot: Arc<Snapshot>,
    told: Told,
}

impl Day {
    fn new(seed: u64) -> Self {
        let plan = plan();
        let mut dice = Dice(seed);
        let now = Instant::START;
        let control = Control::new(Arc::clone(&plan), now, seed);
        let snapshot = control.snapshot();
        let backends: Vec<Backend> = (0..BACKENDS).map(|index| Backend::new(index, &mut dice)).collect();
        let mut day = Day {
            control,
            plan,
            dice,
            now,
            agenda: BinaryHeap::new(),
            backends,
            probes: Vec::new(),
            free: Vec::new(),
            snapshot,
            told: Told::default(),
        };
        for index in 0..BACKENDS {
            day.agenda.push(Reverse((day.backends[index].until, Happening::Changes(index))));
        }
        day.agenda.push(Reverse((now + LOOK, Happening::Look)));
        day.settle();
        day
    }

    fn run(mut self, length: Duration) -> Told {
        let end = self.now + length;
        loop {
            let timer = self.control.poll_timeout().unwrap_or(Instant::NEVER);
            let happens = self.agenda.peek().map_or(Instant::NEVER, |Reverse(first)| first.0);
            if timer.min(happens) > end {
                self.look();
                return self.told;
            }
            if timer < happens {
                self.now = timer;
                self.control.handle_timeout(timer);
                self.settle();
            } else if let Some(Reverse((at, happening))) = self.agenda.pop() {
                self.now = at;
                self.happen(happening);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Changes(index) => {
                self.demand(index);
                let next = self.backends[index].change(self.now, &mut self.dice);
                self.agenda.push(Reverse((next, Happening::Changes(index))));
                self.told.changes += 1;
            }
            Happening::Ends { probe } => {
                let (key, finding) = self.probes[probe].take().expect("a probe ends once");
                self.free.push(probe);
                self.control.handle(Event::ProbeDone { key, finding }, self.now);
                self.settle();
            }
            Happening::Look => {
                self.look();
                self.agenda.push(Reverse((self.now + LOOK, Happening::Look)));
            }
        }
    }

    /// A state that has lasted longer than the worst window must be the verdict by now.
    fn demand(&mut self, index: usize) {
        let backend = &self.backends[index];
        let lasted = self.now.since(backend.since);
        let verdict = self.control.standing(BackendId::from_index(index)).verdict;
        let (wanted, within) = backend.wanted(&timing_of(index));
        if lasted <= within {
            return;
        }
        self.told.demanded += 1;
        assert_eq!(
            verdict, wanted,
            "backend {index} has been {:?} for {lasted:?} at {:?}, and {within:?} is the worst",
            backend.state, self.now
        );
    }

    fn settle(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::StartProbe { key, address, .. } => self.start(key, index_of(address)),
                Output::Publish(snapshot) => self.publish(snapshot),
                Output::Record(event) => {
                    self.told.note(&event);
                    if let What::VerdictChanged(changed) = event.what {
                        self.hear(&changed);
                    }
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    fn start(&mut self, key: ProbeKey, index: usize) {
        let timing = timing_of(index);
        let finding = self.backends[index].probe(self.now, &timing, &mut self.dice);
        self.told.probes += 1;
        self.told.void += u64::from(!finding.result.passed() && !finding.result.failed());
        let ends = finding.ended;
        let probe = self.free.pop().unwrap_or_else(|| {
            self.probes.push(None);
            self.probes.len() - 1
        });
        self.probes[probe] = Some((key, finding));
        self.agenda.push(Reverse((ends, Happening::Ends { probe })));
    }

    /// A changed verdict has the whole run behind it, each of its probes went as the backend was, and the run took no
    /// longer and no shorter than the gaps between.
    fn hear(&mut self, changed: &VerdictChanged) {
        let index = index_of(changed.backend);
        let timing = timing_of(index);
        let (threshold, passed) = match changed.to {
            Verdict::Unhealthy => {
                self.told.fallen += 1;
                (timing.unhealthy_threshold, false)
            }
            Verdict::Healthy => {
                self.told.risen += 1;
                (timing.healthy_threshold, true)
            }
            Verdict::Unknown => panic!("{changed:?}: nobody took its check away"),
        };
        let evidence = changed.because.evidence().unwrap_or_else(|| panic!("a verdict without evidence: {changed:?}"));
        let run = match changed.because {
            Because::FirstProbe(_) => 1,
            _ => threshold,
        };
        assert_eq!(evidence.probes, run, "{changed:?}");
        assert!(evidence.findings.iter().all(|finding| finding.result.passed() == passed), "{changed:?}");
        if evidence.void == 0 {
            let swing = timing.gap(evenkeel_health::gap::Pace::Transition, Default::default());
            let most = (swing.longest() - swing.length) * (run - 1);
            let off = evidence.window.abs_diff(evidence.computed);
            assert!(off <= most, "the window is off by {off:?}, and jitter allows {most:?}: {changed:?}");
        }
    }

    /// Pools that nobody touched keep their view, and the others' candidates are those that may receive work.
    fn publish(&mut self, new: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, new);
        self.told.snapshots += 1;
        assert_eq!(self.snapshot.generation, old.generation + 1);
        for pool in 0..POOLS {
            if !Arc::ptr_eq(&old.pools[pool], &self.snapshot.pools[pool]) {
                self.check_pool(pool);
            }
        }
    }

    fn look(&self) {
        assert_eq!(self.snapshot.generation, self.control.snapshot().generation);
        for pool in 0..POOLS {
            self.check_pool(pool);
        }
        for backend in 0..BACKENDS {
            let id = BackendId::from_index(backend);
            assert_eq!(self.snapshot.standings[backend], self.control.standing(id), "backend {backend}");
        }
    }

    fn check_pool(&self, pool: usize) {
        let id = evenkeel_model::PoolId::from_index(pool);
        let mut members = self.snapshot.pools[pool].candidates.members().iter().map(|member| member.backend);
        for (backend, _) in self.plan.backends_of(id) {
            if self.snapshot.standings[backend.index()].verdict != Verdict::Unhealthy {
                assert_eq!(members.next(), Some(backend), "pool {pool} of generation {}", self.snapshot.generation);
            }
        }
        assert_eq!(members.next(), None, "pool {pool}: a candidate that is unhealthy");
    }
}
