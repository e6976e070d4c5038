//! One probe on real sockets, the way a probing thread runs it.
//!
//! It repeats a probe only when it is void; anything else is what the test asked for.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::pattern::{Covers, Pattern};
use evenkeel_health::settings::{CheckSettings, HttpProbe, ProbeSettings, Silence, StatusSet, Timing, UdpProbe};
use evenkeel_model::finding::{Failure, FailureReason, Finding, ProbePhase, ProbeResult, Void};
use evenkeel_probe::{Job, Prober};
use evenkeel_reactor::epoll::EpollDriver;
use evenkeel_reactor::{Clock, Driver};

/// For probes that are answered: long enough for any machine.
pub const PATIENT: Duration = Duration::from_secs(60);
/// For probes that are not.
pub const BRIEF: Duration = Duration::from_millis(200);

pub fn settings(probe: ProbeSettings, timeout: Duration) -> CheckSettings {
    let timing = Timing::new(timeout, BRIEF, 3, 3);
    CheckSettings { probe, timing, sources: Default::default() }
}

pub fn http(method: &str, host: Option<&str>, expect_status: StatusSet) -> ProbeSettings {
    ProbeSettings::Http(HttpProbe {
        method: method.to_owned(),
        path: "/health?deep=1".to_owned(),
        host: host.map(str::to_owned),
        expect_status,
        ..HttpProbe::default()
    })
}

pub fn udp(expect: Option<&[u8]>, silence: Silence) -> ProbeSettings {
    ProbeSettings::Udp(UdpProbe {
        send: b"ping".to_vec(),
        expect: expect.map(|expected| Pattern::literal(expected, Covers::Whole)),
        silence,
        ..UdpProbe::default()
    })
}

pub fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase, reason })
}

/// Runs one probe to its end. Only a stalled machine makes it void for lateness (W7); it is then repeated, as
/// the timetable would.
pub fn probe(address: SocketAddr, check: CheckSettings) -> Finding {
    let check = Arc::new(check);
    loop {
        let (clock, _) = Clock::start();
        let mut driver = EpollDriver::new(clock).expect("the process has files left");
        let mut prober = Prober::new();
        let mut events = Vec::new();
        prober.start(&mut driver, Job { key: 1, address, check: Arc::clone(&check) });
        let finding = loop {
            if let Some(done) = prober.poll_done() {
                break done.finding;
            }
            driver.poll(&mut events, prober.poll_timeout());
            for &event in &events {
                prober.handle(&mut driver, event);
            }
            let now = driver.now();
            prober.handle_timeout(&mut driver, now);
        };
        assert_eq!((prober.running(), driver.open_sockets()), (0, 0), "{finding}: the socket is still open");
        if !matches!(finding.result, ProbeResult::Void(Void::Late { .. })) {
            return finding;
        }
    }
}
