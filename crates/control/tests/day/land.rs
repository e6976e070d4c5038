//! The plan of the day: 10,000 backends in a hundred pools, every second of them with jitter.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, ProbeSettings, TcpProbe, Timing};
use evenkeel_model::{BackendId, PoolId, TargetId};
use evenkeel_plan::{AccessLog, Backend, Check, Node, Plan, Pool, Resolver, Target};

pub const POOLS: usize = 100;
pub const BACKENDS: usize = 10_000;
const EACH: usize = BACKENDS / POOLS;
const FIRST: u32 = 0x0a00_0000;

static TIMINGS: LazyLock<[Timing; 2]> = LazyLock::new(|| {
    let secs = Duration::from_secs;
    let even =
        Timing { unhealthy_interval: secs(15), transition_interval: secs(2), ..Timing::new(secs(2), secs(10), 2, 3) };
    [even, Timing { jitter: 10, ..even }]
});

pub fn timing_of(backend: usize) -> Timing {
    TIMINGS[backend / EACH % 2]
}

pub fn index_of(address: SocketAddr) -> usize {
    let IpAddr::V4(ip) = address.ip() else { panic!("{address} is not of this land") };
    (ip.to_bits() - FIRST) as usize
}

pub fn plan() -> Arc<Plan> {
    let address = |index: usize| SocketAddr::from((Ipv4Addr::from(FIRST + index as u32), 8080));
    let check = |timing| {
        let probe = ProbeSettings::Tcp(TcpProbe::HalfOpen);
        Arc::new(CheckSettings { probe, timing, sources: Default::default() })
    };
    let checks = TIMINGS.map(check);
    let check_of = |index: usize| Arc::clone(&checks[index / EACH % 2]);
    let pool = |number: usize| {
        let first = number * EACH;
        Arc::new(Pool {
            first_backend: BackendId::from_index(first),
            backend_count: EACH as u32,
            checks: vec![Check { name: "tcp".into(), settings: check_of(first) }],
            ..Pool::with_defaults(&format!("pool-{number}"))
        })
    };
    let backend = |index: usize| Backend {
        targets: Box::new([TargetId::from_index(index)]),
        ..Backend::new(PoolId::from_index(index / EACH), address(index), 100)
    };
    Arc::new(Plan {
        node: Node {
            workers: 1,
            connections: 0,
            drain_timeout: Duration::from_secs(1),
            access_log: AccessLog::Off,
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
            resolver: Resolver::default(),
        },
        admin: None,
        listeners: Vec::new(),
        pools: (0..POOLS).map(pool).collect(),
        backends: (0..BACKENDS).map(backend).collect(),
        targets: (0..BACKENDS).map(|index| Target { address: address(index), check: check_of(index) }).collect(),
        names: Vec::new(),
    })
}
