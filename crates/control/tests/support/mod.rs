//! Plans made by hand, for tests: what the compiler of configs would make of a few lines.
//!
//! Not the compiler itself, because control must not depend on config, and because a test of control
//! should not fail for a change of syntax.
//!
//! The compiler itself is not used: `control` has no arrow to `config`, and a test of one should not fail with
//! the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::Schedule;
use evenkeel_health::settings::{CheckSettings, ProbeSettings, TcpProbe, Timing};
use evenkeel_model::finding::{Failure, FailureReason, Pass, ProbePhase, ProbeResult, Void};
use evenkeel_model::{BackendId, PoolId, TargetId};
use evenkeel_plan::{AccessLog, Backend, Check, Node, Plan, Pool, StateFile, Target};

#[derive(Clone, Debug)]
pub struct PoolSpec {
    pub name: Arc<str>,
    pub schedule: Schedule,
    pub slow_start: Duration,
    pub checks: Vec<CheckSpec>,
    pub backends: Vec<(SocketAddr, u32)>,
}

#[derive(Clone, Debug)]
pub struct CheckSpec {
    pub name: Arc<str>,
    pub settings: CheckSettings,
    /// The backend's own when `None`.
    pub port: Option<u16>,
}

impl CheckSpec {
    pub fn new(name: &str, settings: CheckSettings) -> Self {
        CheckSpec { name: name.into(), settings, port: None }
    }

    /// What it probes of a backend.
    pub fn place(&self, backend: SocketAddr) -> SocketAddr {
        SocketAddr::new(backend.ip(), self.port.unwrap_or(backend.port()))
    }
}

/// The checks of a pool that has this one.
pub fn one(settings: CheckSettings) -> Vec<CheckSpec> {
    vec![CheckSpec::new("tcp", settings)]
}

/// Address `10.0.0.host:8080`.
pub fn address(host: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, host), 8080).into()
}

/// A tcp check with timeout 5 s, interval 2 s and these thresholds.
pub fn check(healthy_threshold: u32, unhealthy_threshold: u32) -> CheckSettings {
    let (timeout, interval) = (Duration::from_secs(5), Duration::from_secs(2));
    CheckSettings {
        probe: ProbeSettings::Tcp(TcpProbe::HalfOpen),
        timing: Timing::new(timeout, interval, healthy_threshold, unhealthy_threshold),
        sources: Default::default(),
    }
}

/// A pool with [`check`]`(2, 3)` and weight 100 for each backend.
pub fn pool(name: &str, hosts: &[u8]) -> PoolSpec {
    PoolSpec {
        name: name.into(),
        schedule: Schedule::Wrr,
        slow_start: Duration::ZERO,
        checks: one(check(2, 3)),
        backends: hosts.iter().map(|&host| (address(host), 100)).collect(),
    }
}

pub fn plan(pools: &[PoolSpec]) -> Arc<Plan> {
    let drain_timeout = Duration::from_secs(30);
    let node = Node {
        workers: 1,
        connections: 0,
        drain_timeout,
        access_log: AccessLog::Off,
        cluster: None,
        sticky_secret: None,
        hold_on_suspicion: None,
        slow_request: None,
        shutdown_delay: Duration::ZERO,
        watch: false,
        kept_requests: 0,
        traces: None,
        state: Some(StateFile { path: "/state".into(), max_age: Duration::from_secs(600) }),
        hooks: Vec::new(),
        resolver: evenkeel_plan::Resolver::default(),
    };
    let (listeners, targets) = (Vec::new(), Vec::new());
    let mut plan =
        Plan { node, admin: None, listeners, pools: Vec::new(), backends: Vec::new(), targets, names: Vec::new() };
    for (index, spec) in pools.iter().enumerate() {
        let check = |one: &CheckSpec| Check { name: Arc::clone(&one.name), settings: Arc::new(one.settings.clone()) };
        let checks: Vec<Check> = spec.checks.iter().map(check).collect();
        let first_backend = BackendId::from_index(plan.backends.len());
        for &(address, weight) in &spec.backends {
            let places = spec.checks.iter().map(|check| check.place(address));
            let targets = places.zip(&checks).map(|(place, check)| target(&mut plan, place, &check.settings)).collect();
            plan.backends.push(Backend { targets, ..Backend::new(PoolId::from_index(index), address, weight) });
        }
        plan.pools.push(Arc::new(Pool {
            schedule: spec.schedule,
            first_backend,
            backend_count: spec.backends.len() as u32,
            slow_start: spec.slow_start,
            checks,
            ..Pool::with_defaults(&spec.name)
        }));
    }
    Arc::new(plan)
}

fn target(plan: &mut Plan, address: SocketAddr, check: &Arc<CheckSettings>) -> TargetId {
    let new = Target { address, check: Arc::clone(check) };
    let index = plan.targets.iter().position(|target| *target == new).unwrap_or_else(|| {
        plan.targets.push(new);
        plan.targets.len() - 1
    });
    TargetId::from_index(index)
}

pub fn pass() -> ProbeResult {
    ProbeResult::Passed(Pass::Connected)
}

pub fn refusal() -> ProbeResult {
    ProbeResult::Failed(Failure { phase: ProbePhase::Connect, reason: FailureReason::Refused })
}

pub fn late() -> ProbeResult {
    ProbeResult::Void(Void::Late { by: Duration::from_millis(300) })
}
