//! Decides whether the node should suspect itself (SPEC W7).
//!
//! When most of what a node checks turns to failing at one moment, and the failing pools have
//! nothing in common, the likeliest culprit is what they do share: this node and its network. The
//! node then says so. It changes no verdict: a node that overruled its own probes would
//! send traffic into a real outage.
//!
//! **Unrelated.** Pools that have a target host (IP address) in common belong to one group, also through
//! a third pool. Pools of different groups are unrelated. Sharing is made transitive because a
//! group then is one fact, known at reload, and not a search for the best choice of pools.
//!
//! **Turned.** A check turned when a failure follows a pass, and that counts for one interval of the check.
//! Checks that have failed for longer, or said nothing yet, count on neither side: a
//! graveyard of dead backends neither raises nor hides a suspicion.
//!
//! **Rule.** Suspicion begins when more than `limits::SUSPICION_SHARE` percent of all counted checks
//! of the node turned, and the same holds inside at least `limits::SUSPICION_GROUPS` groups. The share
//! of the whole is asked for because three small pools may well die together in one rack
//! while ninety others prove that the node is fine. It is over when the checks still failing are no more than
//! that share; while it holds, turned checks do not expire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_model::event::Struck;
use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::timetable::ProbeKey;

#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    checks: BTreeMap<ProbeKey, Check>,
    /// By group.
    tallies: Vec<Tally>,
    node: Tally,
    group_of_host: BTreeMap<IpAddr, usize>,
    /// Turned checks by the moment at which that is one interval ago.
    turned: BTreeSet<(Instant, ProbeKey)>,
    since: Option<Instant>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// All checks of a new plan, probed or not. Those named before keep what was heard of them.
    Regrouped(Vec<Checked>),
    /// A check of the plan is probed again, under a new key.
    Joined {
        key: ProbeKey,
        host: IpAddr,
        interval: Duration,
    },
    Passed(ProbeKey),
    Failed(ProbeKey),
    Left(ProbeKey),
}

/// One check as the plan has it. A check that several pools rest on is listed once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `None` while it is not probed.
    pub key: Option<ProbeKey>,
    pub host: IpAddr,
    /// Any number that tells pools apart.
    pub pool: u32,
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Suspected(Struck),
    Over { lasted: Duration },
}

#[derive(Clone, Copy, Debug)]
struct Check {
    group: usize,
    interval: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No result yet.
    Silent,
    Passing,
    Turned {
        expires: Instant,
    },
    /// Failing from its first result on, or for longer than an interval.
    Failing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passing: usize,
    turned: usize,
}

impl Suspicion {
    pub fn new() -> Self {
        Suspicion::default()
    }

    pub fn handle(&mut self, event: Event, now: Instant) {
        self.expire(now);
        match event {
            Event::Regrouped(checked) => self.regroup(&checked),
            Event::Joined { key, host, interval } => self.join(key, host, interval),
            Event::Passed(key) => self.become_state(key, State::Passing),
            Event::Failed(key) => self.fail(key, now),
            Event::Left(key) => {
                self.become_state(key, State::Silent);
                self.checks.remove(&key);
            }
        }
        self.judge(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Since when the node suspects itself.
    pub const fn since(&self) -> Option<Instant> {
        self.since
    }

    fn fail(&mut self, key: ProbeKey, now: Instant) {
        let Some(check) = self.checks.get(&key) else { return };
        match check.state {
            State::Passing => {
                let expires = now + check.interval;
                self.become_state(key, State::Turned { expires });
            }
            State::Silent => self.become_state(key, State::Failing),
            State::Turned { .. } | State::Failing => {}
        }
    }

    fn judge(&mut self, now: Instant) {
        match self.since {
            None => {
                let struck = self.struck();
                if self.node.is_struck() && struck.groups as u64 >= limits::SUSPICION_GROUPS.value {
                    self.since = Some(now);
                    self.outputs.push_back(Output::Suspected(struck));
                }
            }
            Some(since) if !self.node.is_struck() => {
                self.since = None;
                self.outputs.push_back(Output::Over { lasted: now - since });
            }
            Some(_) => {}
        }
    }

    fn struck(&self) -> Struck {
        // Counting groups costs their number; it is reached only in an outage, because the node's own
        // tally is looked at first.
        let groups =
            if self.node.is_struck() { self.tallies.iter().filter(|group| group.is_struck()).count() } else { 0 };
        Struck { failing: self.node.turned, of: self.node.turned + self.node.passing, groups }
    }

    /// Turned checks whose interval is over count no more, unless the node suspects itself already.
    fn expire(&mut self, now: Instant) {
        while self.since.is_none() {
            let Some(&(expires, key)) = self.turned.first() else { return };
            if expires > now {
                return;
            }
            self.become_state(key, State::Failing);
        }
    }

    fn become_state(&mut self, key: ProbeKey, state: State) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        if check.state == state {
            return;
        }
        let old = std::mem::replace(&mut check.state, state);
        let group = &mut self.tallies[check.group];
        for tally in [group, &mut self.node] {
            tally.forget(old);
            tally.count(state);
        }
        if let State::Turned { expires } = old {
            self.turned.remove(&(expires, key));
        }
        if let State::Turned { expires } = state {
            self.turned.insert((expires, key));
        }
    }

    fn regroup(&mut self, checked: &[Checked]) {
        let old = std::mem::take(&mut self.checks);
        self.group_of_host = groups_of_hosts(checked);
        self.turned.clear();
        self.node = Tally::default();
        let count = self.group_of_host.values().max().map_or(0, |highest| highest + 1);
        self.tallies = vec![Tally::default(); count];
        for one in checked {
            let Some(key) = one.key else { continue };
            self.join(key, one.host, one.interval);
            if let Some(check) = old.get(&key) {
                self.become_state(key, check.state);
            }
        }
    }

    fn join(&mut self, key: ProbeKey, host: IpAddr, interval: Duration) {
        // A host that no pool named cannot be grouped and is left out rather than counted wrongly.
        let Some(&group) = self.group_of_host.get(&host) else { return };
        self.checks.entry(key).or_insert(Check { group, interval, state: State::Silent });
    }
}

impl Tally {
    fn count(&mut self, state: State) {
        match state {
            State::Passing => self.passing += 1,
            State::Turned { .. } => self.turned += 1,
            State::Silent | State::Failing => {}
        }
    }

    fn forget(&mut self, state: State) {
        match state {
            State::Passing => self.passing -= 1,
            State::Turned { .. } => self.turned -= 1,
            State::Silent | State::Failing => {}
        }
    }

    const fn is_struck(self) -> bool {
        self.turned as u64 * 100 > (self.turned + self.passing) as u64 * limits::SUSPICION_SHARE.value
    }
}

/// Numbers the groups: union-find over rows, where the first row of a pool and the first row of a
/// host stand for them.
fn groups_of_hosts(checked: &[Checked]) -> BTreeMap<IpAddr, usize> {
    let mut parent: Vec<usize> = (0..checked.len()).collect();
    let mut pools: BTreeMap<u32, usize> = BTreeMap::new();
    let mut hosts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (row, one) in checked.iter().enumerate() {
        for first in [*pools.entry(one.pool).or_insert(row), *hosts.entry(one.host).or_insert(row)] {
            let (a, b) = (root(&mut parent, first), root(&mut parent, row));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
    for group in hosts.values_mut() {
        let next = numbers.len();
        *group = *numbers.entry(root(&mut parent, *group)).or_insert(next);
    }
    hosts
}

fn root(parent: &mut [usize], mut row: usize) -> usize {
    while parent[row] != row {
        parent[row] = parent[parent[row]];
        row = parent[row];
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const INTERVAL: Duration = Duration::from_secs(2);

    /// Pools of four checks each, `hosts[pool]` saying on which hosts.
    fn plan(hosts: &[[u8; 4]]) -> Vec<Checked> {
        let mut checked = Vec::new();
        for (pool, hosts) in hosts.iter().enumerate() {
            for host in hosts {
                checked.push(Checked {
                    key: Some(ProbeKey(checked.len() as u64)),
                    host: Ipv4Addr::new(10, 0, 0, *host).into(),
                    pool: pool as u32,
                    interval: INTERVAL,
                });
            }
        }
        checked
    }

    struct Node {
        suspicion: Suspicion,
        now: Instant,
    }

    impl Node {
        /// A node whose checks all pass.
        fn well(hosts: &[[u8; 4]]) -> Self {
            let checked = plan(hosts);
            let mut node = Node { suspicion: Suspicion::new(), now: Instant::START };
            let keys = 0..checked.len() as u64;
            assert_eq!(node.tell(Event::Regrouped(checked)), None);
            assert_eq!(node.pass(keys), None);
            node
        }

        fn tell(&mut self, event: Event) -> Option<Output> {
            self.suspicion.handle(event, self.now);
            let output = self.suspicion.poll_output();
            assert_eq!(self.suspicion.poll_output(), None);
            output
        }

        fn pass(&mut self, keys: std::ops::Range<u64>) -> Option<Output> {
            keys.fold(None, |said, key| said.or(self.tell(Event::Passed(ProbeKey(key)))))
        }

        fn fail(&mut self, keys: impl IntoIterator<Item = u64>) -> Option<Output> {
            keys.into_iter().fold(None, |said, key| said.or(self.tell(Event::Failed(ProbeKey(key)))))
        }

        fn wait(&mut self, duration: Duration) {
            self.now += duration;
        }
    }

    const UNRELATED: [[u8; 4]; 3] = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]];

    #[test]
    fn most_checks_of_three_unrelated_pools_failing_together_is_suspicious() {
        let mut node = Node::well(&UNRELATED);
        assert_eq!(node.fail([0, 1, 2, 4, 5, 6, 8, 9]), None, "half of the last pool still passes");
        assert_eq!(node.fail([10]), Some(Output::Suspected(Struck { failing: 9, of: 12, groups: 3 })));
        assert_eq!(node.suspicion.since(), Some(node.now));
        assert_eq!(node.fail([11]), None, "said once");
    }

    #[test]
    fn suspicion_is_over_when_the_share_is_no_longer_exceeded() {
        let mut node = Node::well(&UNRELATED);
        assert!(node.fail(0..12).is_some());
        node.wait(INTERVAL * 100);
        assert_eq!(node.pass(0..5), None, "7 of 12 still fail");
        assert_eq!(node.pass(5..6), Some(Output::Over { lasted: INTERVAL * 100 }));
        assert_eq!(node.suspicion.since(), None);
    }

    #[test]
    fn two_pools_are_not_enough() {
        let mut node = Node::well(&UNRELATED);
        assert_eq!(node.fail(0..8), None);
    }

    #[test]
    fn pools_that_share_a_host_are_one_group_even_through_a_third() {
        // 0 and 1 share host 4, 1 and 2 share host 8: one group, whatever fails.
        let mut node = Node::well(&[[1, 2, 3, 4], [4, 5, 6, 8], [8, 9, 10, 11]]);
        assert_eq!(node.fail(0..12), None);
        let mut node = Node::well(&[[1, 2, 3, 4], [4, 5, 6, 8], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]);
        assert!(node.fail(0..12).is_none(), "one group of three struck pools");
        assert_eq!(node.fail(12..15), None, "two groups");
        assert_eq!(node.fail(16..19), Some(Output::Suspected(Struck { failing: 18, of: 20, groups: 3 })));
    }

    #[test]
    fn three_small_pools_do_not_accuse_a_node_whose_other_checks_pass() {
        let mut node = Node::well(&[
            [1, 2, 3, 4],
            [5, 6, 7, 8],
            [9, 10, 11, 12],
            [13, 14, 15, 16],
            [17, 18, 19, 20],
            [21, 22, 23, 24],
        ]);
        assert_eq!(node.fail(0..12), None, "12 of 24 is not more than half");
        assert_eq!(node.fail([12]), Some(Output::Suspected(Struck { failing: 13, of: 24, groups: 3 })));
    }

    #[test]
    fn failures_further_apart_than_an_interval_are_not_together() {
        let mut node = Node::well(&UNRELATED);
        assert_eq!(node.fail(0..8), None);
        node.wait(INTERVAL);
        assert_eq!(node.fail(8..12), None);
    }

    #[test]
    fn a_graveyard_neither_raises_nor_hides_a_suspicion() {
        let mut graves = UNRELATED.to_vec();
        graves.extend((0..20u8).map(|pool| [100 + pool; 4]));
        let checked = plan(&graves);
        let dead = 12..checked.len() as u64;
        let mut node = Node { suspicion: Suspicion::new(), now: Instant::START };
        assert_eq!(node.tell(Event::Regrouped(checked)), None);
        assert_eq!(node.fail(dead), None, "dead from the start");
        assert_eq!(node.pass(0..12), None);
        assert!(node.fail(0..12).is_some(), "all that was alive turned");
    }

    #[test]
    fn a_regrouping_keeps_what_was_heard_and_a_check_that_left_counts_no_more() {
        let mut node = Node::well(&UNRELATED);
        assert_eq!(node.fail(0..8), None);
        assert_eq!(node.tell(Event::Regrouped(plan(&UNRELATED))), None);
        assert_eq!(node.fail([8, 9]), None);
        let left = node.tell(Event::Left(ProbeKey(11)));
        assert_eq!(left, Some(Output::Suspected(Struck { failing: 10, of: 11, groups: 3 })));
        let host = Ipv4Addr::new(10, 0, 0, 12).into();
        assert_eq!(node.tell(Event::Joined { key: ProbeKey(99), host, interval: INTERVAL }), None);
        assert_eq!(node.tell(Event::Passed(ProbeKey(99))), None);
        assert_eq!(node.pass(0..3), None, "7 of 12 still fail");
        assert_eq!(node.pass(3..4), Some(Output::Over { lasted: Duration::ZERO }));
    }
}
