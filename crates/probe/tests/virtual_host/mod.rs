//! A prober on the simulated network, its loop, and backends for it to probe.
//!
//! The stories told with it are in `sim.rs`; asserted here is only what holds in all of them.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, HttpProbe, ProbeSettings, Silence, TcpProbe, Timing, UdpProbe};
use evenkeel_model::finding::{Failure, FailureReason, Finding, ProbePhase, ProbeResult};
use evenkeel_probe::{Done, Job, Prober};
use evenkeel_reactor::sim::{Backend, DriverId, End, Ended, Net, SimDriver, UdpService, run};
use evenkeel_reactor::{Driver, Event};

pub const TIMEOUT: Duration = Duration::from_secs(5);

pub fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

pub fn check(probe: ProbeSettings) -> Arc<CheckSettings> {
    let timing = Timing::new(TIMEOUT, Duration::from_secs(2), 3, 3);
    Arc::new(CheckSettings { probe, timing, sources: Default::default() })
}

pub fn http() -> ProbeSettings {
    ProbeSettings::Http(HttpProbe::default())
}

pub fn tcp() -> ProbeSettings {
    ProbeSettings::Tcp(TcpProbe::HalfOpen)
}

pub fn udp(silence: Silence) -> ProbeSettings {
    ProbeSettings::Udp(UdpProbe { send: b"ping".to_vec(), silence, ..UdpProbe::default() })
}

pub fn failed(phase: ProbePhase, reason: FailureReason) -> ProbeResult {
    ProbeResult::Failed(Failure { phase, reason })
}

/// A prober, its driver and its loop.
pub struct Probing {
    net: Net,
    pub driver: SimDriver,
    pub prober: Prober,
    events: Vec<Event>,
    pub done: Vec<Done>,
}

impl Probing {
    pub fn on(net: &Net) -> Self {
        let driver = SimDriver::new(net, IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)));
        Probing { net: net.clone(), driver, prober: Prober::new(), events: Vec::new(), done: Vec::new() }
    }

    pub fn id(&self) -> DriverId {
        self.driver.id()
    }

    pub fn start(&mut self, key: u64, address: SocketAddr, probe: ProbeSettings) {
        self.prober.start(&mut self.driver, Job { key, address, check: check(probe) });
    }

    /// One pass of the loop a probing thread has.
    pub fn turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.driver.poll(&mut events, self.prober.poll_timeout());
        self.handle(&events);
        self.events = events;
        self.handle_timeout();
    }

    pub fn handle(&mut self, events: &[Event]) {
        for &event in events {
            self.prober.handle(&mut self.driver, event);
        }
        self.done.extend(std::iter::from_fn(|| self.prober.poll_done()));
    }

    pub fn handle_timeout(&mut self) {
        let now = self.driver.now();
        self.prober.handle_timeout(&mut self.driver, now);
        self.done.extend(std::iter::from_fn(|| self.prober.poll_done()));
    }

    /// Takes events without handling them: a thread that stands still.
    pub fn miss(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.driver.poll(&mut events, None);
        events
    }

    /// Runs the loop until all probes have ended.
    pub fn finish(&mut self, actors: &mut [&mut dyn FnMut(&Net)]) {
        let net = self.net.clone();
        let running = Rc::new(RefCell::new(usize::MAX));
        let mut node = || {
            self.turn();
            *running.borrow_mut() = self.prober.running();
        };
        let ended = run(&net, &mut [&mut node], actors, |_| *running.borrow() == 0);
        assert_eq!(ended, Ended::Reached, "{} probes never end\n{}", running.borrow(), net.story());
        if self.prober.resting() == 0 {
            net.assert_no_connection_left(self.id());
        }
    }

    pub fn only(&mut self) -> Finding {
        assert_eq!(self.done.len(), 1, "{:?}", self.done);
        self.done.remove(0).finding
    }
}

/// An http backend: answers each request with `answer`, then closes.
pub fn serve<'a>(backend: &'a Backend, ends: &'a mut Vec<End>, answer: &'a [u8]) -> impl FnMut(&Net) + 'a {
    move |_: &Net| {
        ends.extend(std::iter::from_fn(|| backend.accept()));
        for end in ends.iter() {
            if end.is_open() && end.received().ends_with(b"\r\n\r\n") {
                end.send(answer);
                end.close();
            }
        }
    }
}

pub fn echo(service: &UdpService) -> impl FnMut(&Net) + '_ {
    move |_: &Net| {
        while let Some((from, datagram)) = service.recv() {
            service.send(from, &datagram);
        }
    }
}
