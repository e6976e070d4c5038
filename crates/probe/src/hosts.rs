//! What is known of hosts whose silence is measured, one entry for each host and source address of ours.
//!
//! Plans come and go while a prober lives, so what was not used for long is forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_health::refusals::Refusals;
use evenkeel_model::{Instant, limits};
use evenkeel_reactor::Source;

#[derive(Debug)]
pub struct Hosts {
    known: HashMap<(IpAddr, Option<IpAddr>), Refusals>,
    /// Entries at which those that are old are looked for.
    sweep_at: usize,
}

const KEPT: usize = limits::REFUSAL_HOSTS.value as usize;

/// Longer than the longest gap between two probes of a usual check.
const OLD: Duration = Duration::from_secs(600);

impl Hosts {
    pub fn new() -> Self {
        Hosts { known: HashMap::new(), sweep_at: KEPT }
    }

    /// The host's entry, if it has one.
    pub fn known(&mut self, (host, from): (IpAddr, Source)) -> Option<&mut Refusals> {
        self.known.get_mut(&(host, address(from)))
    }

    pub fn entry(&mut self, (host, from): (IpAddr, Source), now: Instant) -> &mut Refusals {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, refusals| refusals.used().is_some_and(|used| now.since(used) < OLD));
            self.sweep_at = KEPT.max(2 * self.known.len());
        }
        self.known.entry((host, address(from))).or_default()
    }
}

fn address(from: Source) -> Option<IpAddr> {
    match from {
        Source::Kernel => None,
        Source::Own(address) | Source::Foreign(address) => Some(address),
    }
}
