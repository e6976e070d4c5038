//! Virtual hosts that crash, hang, flap and slow down, and an operator who edits and orders. All from
//! one seed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{AgentProbe, CheckSettings, HttpProbe, ProbeSettings, TcpProbe, Timing, UdpProbe};
use evenkeel_model::Instant;
use evenkeel_model::finding::{AgentSays, Failure, FailureReason, Pass, ProbePhase, ProbeResult, Proof, Void};
use evenkeel_model::standing::Order;

use crate::oracle::{Ask, BackendName};
use crate::support::{CheckSpec, PoolSpec, address, late, pass, pool, refusal};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_nanos(self.below((to - from).as_nanos() as u64 + 1))
    }
}

/// How a host answers probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// The process is gone, the host is not.
    Crashed,
    /// Nothing comes back.
    Hung,
    /// Answers around the timeout, on both sides of it.
    Slow,
    /// Each probe as a coin falls.
    Flapping,
    /// Answers, but badly.
    Broken,
}

pub const HOSTS: u8 = 24;
/// Names that pools can have, each with hosts of its own where pools live apart.
const NAMES: u8 = 8;

impl Mood {
    pub fn thrown(dice: &mut Dice) -> Mood {
        // Well twice as likely as all else together, so that there are long healthy stretches.
        let all = [Mood::Crashed, Mood::Hung, Mood::Slow, Mood::Flapping, Mood::Broken];
        if dice.percent(65) { Mood::Well } else { *dice.one_of(&all) }
    }

    /// How long a probe that starts now takes, and how it ends.
    pub fn answer(self, check: &CheckSettings, dice: &mut Dice) -> (Duration, ProbeResult) {
        let timeout = check.timing.timeout;
        if dice.percent(2) {
            // Our own fault: late by some, or not started at all.
            let unstarted = (Duration::ZERO, ProbeResult::Void(Void::NoResources { errno: 24 }));
            return if dice.percent(50) { unstarted } else { (timeout + Duration::from_millis(300), late()) };
        }
        let failed = |phase, reason| ProbeResult::Failed(Failure { phase, reason });
        let quick = dice.time(Duration::from_micros(50), timeout / 50);
        if matches!(check.probe, ProbeSettings::Agent(_)) && matches!(self, Mood::Well | Mood::Broken) {
            return (quick, line(self, dice));
        }
        match self {
            Mood::Well => (quick, pass()),
            Mood::Crashed => (dice.time(Duration::ZERO, Duration::from_micros(300)), refusal()),
            Mood::Hung => silence(check),
            Mood::Slow => match dice.time(timeout / 2, timeout * 3 / 2) {
                takes if takes < timeout => (takes, pass()),
                _ => silence(check),
            },
            Mood::Flapping if dice.percent(50) => (quick, pass()),
            Mood::Flapping => (quick, failed(ProbePhase::Read, FailureReason::Reset)),
            Mood::Broken => (quick, failed(ProbePhase::Read, FailureReason::Status { got: 500 })),
        }
    }
}

/// One line of an agent.
fn line(mood: Mood, dice: &mut Dice) -> ProbeResult {
    let order = *dice.one_of(&[None, None, None, None, Some(Order::Serve), Some(Order::Drain), Some(Order::Maintain)]);
    let weight = *dice.one_of(&[None, None, None, Some(100), Some(100), Some(40), Some(0), Some(150)]);
    let says = AgentSays { order, weight, maxconn: None };
    let failed = |reason| ProbeResult::Failed(Failure { phase: ProbePhase::Read, reason });
    match mood {
        Mood::Broken if dice.percent(20) => failed(FailureReason::NotAgent { why: "gibberish", got: Vec::new() }),
        Mood::Broken => failed(FailureReason::AgentDown { says, word: "down", because: Vec::new() }),
        _ => ProbeResult::Passed(Pass::Agent(says)),
    }
}

/// What no answer means depends on the check.
fn silence(check: &CheckSettings) -> (Duration, ProbeResult) {
    use evenkeel_health::settings::Silence;
    let result = match &check.probe {
        ProbeSettings::Udp(UdpProbe { silence: Silence::Pass, .. }) => ProbeResult::Passed(Pass::Silent(Proof::None)),
        ProbeSettings::Udp(UdpProbe { silence: Silence::Keep, .. }) => ProbeResult::Void(Void::Silent),
        _ => ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason: FailureReason::TimedOut }),
    };
    (check.timing.timeout, result)
}

pub fn host_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => unreachable!("the simulation has IPv4 hosts only"),
    }
}

pub fn some_check(dice: &mut Dice) -> CheckSettings {
    use evenkeel_health::settings::Silence;
    let silence = *dice.one_of(&[Silence::Pass, Silence::Fail, Silence::Keep]);
    let probe = match dice.below(5) {
        4 => ProbeSettings::Agent(AgentProbe { send: Vec::new() }),
        0 => ProbeSettings::Udp(UdpProbe { silence, ..UdpProbe::default() }),
        1 => ProbeSettings::Http(HttpProbe { path: (*dice.one_of(&["/", "/health"])).into(), ..HttpProbe::default() }),
        _ => ProbeSettings::Tcp(TcpProbe::HalfOpen),
    };
    let seconds = |dice: &mut Dice, list: &[u64]| Duration::from_secs(*dice.one_of(list));
    let timing = Timing::new(
        seconds(dice, &[1, 5, 10]),
        seconds(dice, &[5, 10, 20, 50]),
        1 + dice.below(5) as u32,
        1 + dice.below(5) as u32,
    );
    // Half of them look as often whatever is known.
    let timing = if dice.below(2) == 0 {
        timing
    } else {
        let transition_interval = seconds(dice, &[4, 30]);
        Timing { unhealthy_interval: seconds(dice, &[10, 60]), transition_interval, ..timing }
    };
    CheckSettings { probe, timing, sources: Default::default() }
}

/// Names that checks can have; an edit may bring one back that was gone.
const CHECKS: [&str; 4] = ["front", "login", "disk", "ping"];

fn another_check(checks: &mut Vec<CheckSpec>, dice: &mut Dice) {
    let free: Vec<&str> = CHECKS.into_iter().filter(|name| checks.iter().all(|one| *one.name != **name)).collect();
    let name = *dice.one_of(&free[..]);
    let port = dice.percent(20).then_some(9000);
    checks.push(CheckSpec { port, ..CheckSpec::new(name, some_check(dice)) });
}

fn some_checks(dice: &mut Dice) -> Vec<CheckSpec> {
    let mut checks = Vec::new();
    for _ in 0..*dice.one_of(&[0, 1, 1, 1, 1, 1, 2, 2, 2, 3]) {
        another_check(&mut checks, dice);
    }
    checks
}

/// Where the hosts of pools are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Land {
    /// Any pool may use any host: many pools on one target, none unrelated.
    Shared,
    /// No two pools share a host, so that a lost network looks like one.
    Apart,
}

/// Hash schedules differ in what is hashed alone, which control never asks, and their tables take most of this test's time.
const SCHEDULES: [Schedule; 6] =
    [Schedule::Rr, Schedule::Wrr, Schedule::Wlc, Schedule::P2c, Schedule::Maglev, Schedule::QuicCid];

impl Land {
    fn hosts(self, name: u8) -> std::ops::RangeInclusive<u8> {
        let each = HOSTS / NAMES;
        match self {
            Land::Shared => 1..=HOSTS,
            Land::Apart => 1 + name * each..=(name + 1) * each,
        }
    }

    fn some_pool(self, name: u8, dice: &mut Dice) -> PoolSpec {
        let share = if self == Land::Shared { 20 } else { 80 };
        let hosts: Vec<u8> = self.hosts(name).filter(|_| dice.percent(share)).collect();
        let checks = some_checks(dice);
        PoolSpec { schedule: *dice.one_of(&SCHEDULES), checks, ..pool(&name_of(name), &hosts) }
    }

    pub fn some_pools(self, dice: &mut Dice) -> Vec<PoolSpec> {
        (0..5).map(|name| self.some_pool(name, dice)).collect()
    }

    /// One edit of the configuration, sometimes none.
    pub fn edit(self, pools: &mut Vec<PoolSpec>, dice: &mut Dice) {
        let name = dice.below(u64::from(NAMES)) as u8;
        let found = pools.iter().position(|pool| *pool.name == *name_of(name));
        let Some(position) = found else {
            if dice.percent(20) {
                pools.push(self.some_pool(name, dice));
            }
            return;
        };
        let host = *dice.one_of(&self.hosts(name).collect::<Vec<_>>());
        match dice.below(40) {
            0 => drop(pools.remove(position)),
            1..4 => pools.swap(0, position),
            // One set of checks for all: pools that shared nothing but hosts share targets now.
            4 => {
                let checks = pools[position].checks.clone();
                for other in pools.iter_mut() {
                    other.checks.clone_from(&checks);
                }
            }
            // One check of it for some, under whatever name.
            5..7 if !pools[position].checks.is_empty() => {
                let shared = dice.one_of(&pools[position].checks).clone();
                for other in pools.iter_mut() {
                    if let Some(check) = other.checks.last_mut().filter(|_| dice.percent(50)) {
                        (check.settings, check.port) = (shared.settings.clone(), shared.port);
                    }
                }
            }
            _ => edit_pool(&mut pools[position], address(host), dice),
        }
    }
}

fn name_of(name: u8) -> String {
    format!("pool-{name}")
}

fn edit_pool(pool: &mut PoolSpec, new: SocketAddr, dice: &mut Dice) {
    let checks = pool.checks.len() as u64;
    match dice.below(15) {
        0 => pool.backends.reverse(),
        1..4 if pool.backends.iter().all(|(old, _)| *old != new) => {
            pool.backends.push((new, 1 + dice.below(100) as u32));
        }
        4 if pool.backends.len() > 1 => drop(pool.backends.remove(dice.below(pool.backends.len() as u64) as usize)),
        5 => {
            for (_, weight) in &mut pool.backends {
                *weight = *dice.one_of(&[0, 1, 50, 100, 100]);
            }
        }
        6 => pool.checks = some_checks(dice),
        7 | 8 if checks > 0 => {
            let timing = &mut pool.checks[dice.below(checks) as usize].settings.timing;
            timing.unhealthy_threshold = 1 + dice.below(5) as u32;
            timing.healthy_threshold = 1 + dice.below(5) as u32;
        }
        9 if checks > 0 => {
            let check = &mut pool.checks[dice.below(checks) as usize];
            check.port = if check.port.is_some() { None } else { Some(9000) };
        }
        10 if checks < 3 => another_check(&mut pool.checks, dice),
        11 if checks > 0 => drop(pool.checks.remove(dice.below(checks) as usize)),
        12 if checks > 0 => {
            // Another name for the same, and with luck another place among them.
            let renamed = pool.checks.remove(0);
            another_check(&mut pool.checks, dice);
            let check = pool.checks.last_mut().expect("just added");
            (check.settings, check.port) = (renamed.settings, renamed.port);
        }
        13 => pool.slow_start = Duration::from_secs(*dice.one_of(&[0, 10, 300])),
        _ => {}
    }
}

pub fn some_ask(pools: &[PoolSpec], dice: &mut Dice, now: Instant) -> (BackendName, Ask) {
    let ask = match dice.below(4) {
        0 => Ask::Probe,
        1 => {
            Ask::Weight(*dice.one_of(&[None, None, Some(0), Some(1), Some(40), Some(100), Some(101)]), dice.percent(50))
        }
        _ => {
            let order = *dice.one_of(&[Order::Serve, Order::Serve, Order::Drain, Order::Maintain]);
            let ends = dice.percent(40) && (order != Order::Serve || dice.percent(20));
            let until = ends.then(|| now + dice.time(Duration::ZERO, Duration::from_secs(1200)));
            Ask::Order(order, until, dice.percent(50))
        }
    };
    let backends: Vec<BackendName> = pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(|(address, _)| (Arc::clone(&pool.name), *address)))
        .collect();
    if backends.is_empty() || dice.percent(5) {
        return (("nowhere".into(), address(1)), ask);
    }
    (dice.one_of(&backends).clone(), ask)
}
