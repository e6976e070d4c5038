//! How freely a host sends ICMP refusals of datagrams: Linux's token bucket for each address it refuses.
//!
//! `net.ipv4.icmp_ratelimit`: one refusal a second to each address, and six after a quiet time. Whoever shares an address
//! with us shares the bucket, so a port can be closed and silent. Echo replies are not limited.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_model::Instant;

use super::world::World;

/// What a host does about datagrams to ports that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    Always,
    /// As Linux does, within its budget.
    Sparingly,
    /// A firewall keeps its ICMP back.
    Never,
}

/// Between two refusals in the long run.
const EACH: Duration = Duration::from_secs(1);

/// Refusals after a quiet time (`XRLIM_BURST_FACTOR`).
const BURST: u32 = 6;

#[derive(Default)]
pub(super) struct Budgets {
    manners: BTreeMap<IpAddr, Refuses>,
    /// By host and refused address: what was saved up, and when that was counted.
    saved: BTreeMap<(IpAddr, IpAddr), (Duration, Instant)>,
}

impl Budgets {
    pub fn set(&mut self, host: IpAddr, refuses: Refuses) {
        self.manners.insert(host, refuses);
    }
}

impl World {
    /// Whether `host` tells `sender` now that a port is closed, which costs it one of its budget.
    pub fn may_refuse(&mut self, host: IpAddr, sender: IpAddr) -> bool {
        match self.budgets.manners.get(&host).copied().unwrap_or(Refuses::Always) {
            Refuses::Always => return true,
            Refuses::Never => return false,
            Refuses::Sparingly => {}
        }
        let now = self.now;
        let (saved, counted) = self.budgets.saved.entry((host, sender)).or_insert((EACH * BURST, now));
        *saved = saved.saturating_add(now.since(*counted)).min(EACH * BURST);
        *counted = now;
        let affords = *saved >= EACH;
        if affords {
            *saved -= EACH;
        }
        affords
    }
}
