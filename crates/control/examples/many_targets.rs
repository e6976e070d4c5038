//! How much CPU control needs for many targets: `cargo run --release -p evenkeel-control --example
//! many_targets [TARGETS] [INTERVAL_SECONDS]`, by default 100,000 at 5 s.
//!
//! The world is virtual and free: every probe answers after a millisecond, so that the time measured is
//! control's and health's own. It is time on the clock, so let the machine do nothing else. Three
//! phases: all is well, every backend fails at once, a reload.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Control, Event, Output, ProbeKey};
use evenkeel_health::settings::{CheckSettings, ProbeSettings, TcpProbe, Timing};
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbePhase, ProbeResult};
use evenkeel_model::{BackendId, Instant, PoolId, TargetId};
use evenkeel_plan::{AccessLog, Backend, Check, Node, Plan, Pool, Target};

const PER_POOL: usize = 100;
const RESPONSE: Duration = Duration::from_millis(1);
/// A virtual stretch of time per phase, in intervals.
const INTERVALS: u32 = 12;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("TARGETS and INTERVAL are numbers"));
    let targets = arguments.next().unwrap_or(100_000);
    let interval = Duration::from_secs(arguments.next().unwrap_or(5) as u64);
    let plan = plan(targets, interval);

    let started = std::time::Instant::now();
    let mut node = Bench::new(Arc::clone(&plan));
    println!("{targets} targets at {interval:?}: first plan {:.1} ms", millis(started.elapsed()));

    node.run(interval, ProbeResult::Passed(Pass::Connected)); // first probes, first verdicts
    node.phase("all is well", interval, ProbeResult::Passed(Pass::Connected));
    let refused = Failure { phase: ProbePhase::Connect, reason: FailureReason::Refused };
    node.phase("every backend fails", interval, ProbeResult::Failed(refused));

    let started = std::time::Instant::now();
    node.control.handle(Event::PlanChanged(plan), node.now);
    node.drain();
    println!("reload of an equal plan: {:.1} ms", millis(started.elapsed()));
}

struct Bench {
    control: Control,
    now: Instant,
    /// Probes under way in the order of their end: all take equally long.
    probes: VecDeque<(Instant, ProbeKey)>,
    published: u64,
    recorded: u64,
    ended: u64,
}

impl Bench {
    fn new(plan: Arc<Plan>) -> Self {
        let now = Instant::START;
        let control = Control::new(plan, now, 1);
        let mut node = Bench { control, now, probes: VecDeque::new(), published: 0, recorded: 0, ended: 0 };
        node.drain();
        node
    }

    fn phase(&mut self, name: &str, interval: Duration, result: ProbeResult) {
        (self.published, self.recorded, self.ended) = (0, 0, 0);
        let stretch = interval * INTERVALS;
        let started = std::time::Instant::now();
        self.run(stretch, result);
        let took = started.elapsed();
        println!(
            "{name}: {} probes in {stretch:?}, {:.2} µs each, {:.2} % of one core; {} events, {} snapshots",
            self.ended,
            took.as_secs_f64() * 1e6 / self.ended as f64,
            took.as_secs_f64() * 100.0 / stretch.as_secs_f64(),
            self.recorded,
            self.published,
        );
    }

    /// Lets virtual time pass the way a probing thread would: whatever happened within a millisecond is
    /// handed in together, then outputs are polled.
    fn run(&mut self, stretch: Duration, result: ProbeResult) {
        let end = self.now + stretch;
        loop {
            let timer = self.control.poll_timeout().unwrap_or(Instant::NEVER);
            let probe = self.probes.front().map_or(Instant::NEVER, |probe| probe.0);
            let next = timer.min(probe);
            if next > end {
                return;
            }
            self.now = self.now.max(next) + Duration::from_millis(1);
            while let Some(&(ended, key)) = self.probes.front().filter(|probe| probe.0 <= self.now) {
                self.probes.pop_front();
                self.ended += 1;
                let started = Instant::from_nanos(ended.as_nanos() - RESPONSE.as_nanos() as u64);
                let finding = Finding { kind: ProbeKind::Tcp, started, ended, result: result.clone() };
                self.control.handle(Event::ProbeDone { key, finding }, self.now);
            }
            self.control.handle_timeout(self.now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::StartProbe { key, .. } => self.probes.push_back((self.now + RESPONSE, key)),
                Output::CancelProbe { .. } | Output::LookAtTraffic { .. } => {}
                Output::Publish(_) => self.published += 1,
                Output::Answered(_) => {}
                Output::Record(_) => self.recorded += 1,
            }
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn plan(targets: usize, interval: Duration) -> Arc<Plan> {
    let second = Duration::from_secs(1);
    let timing = Timing::new(5 * second, interval, 3, 3);
    let check =
        Arc::new(CheckSettings { probe: ProbeSettings::Tcp(TcpProbe::HalfOpen), timing, sources: Default::default() });
    let address = |index: usize| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + index as u32), 8080));
    let pool = |first: usize| {
        Arc::new(Pool {
            first_backend: BackendId::from_index(first),
            backend_count: PER_POOL.min(targets - first) as u32,
            checks: vec![Check { name: "tcp".into(), settings: Arc::clone(&check) }],
            ..Pool::with_defaults(&format!("pool-{}", first / PER_POOL))
        })
    };
    let backend = |index: usize| Backend {
        targets: Box::new([TargetId::from_index(index)]),
        ..Backend::new(PoolId::from_index(index / PER_POOL), address(index), 100)
    };
    let access_log = AccessLog::Off;
    Arc::new(Plan {
        node: Node {
            workers: 1,
            connections: 0,
            drain_timeout: second,
            access_log,
            cluster: None,
            sticky_secret: None,
            hold_on_suspicion: None,
            slow_request: None,
            shutdown_delay: Duration::ZERO,
            watch: false,
            kept_requests: 0,
            traces: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        },
        admin: None,
        listeners: Vec::new(),
        pools: (0..targets).step_by(PER_POOL).map(pool).collect(),
        backends: (0..targets).map(backend).collect(),
        targets: (0..targets).map(|index| Target { address: address(index), check: Arc::clone(&check) }).collect(),
        names: Vec::new(),
    })
}
