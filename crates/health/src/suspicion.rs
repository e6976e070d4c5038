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
//! while ninety others prove that the node is fine. Where most of them failed because this node's own kernel knew no way
//! (network down, network unreachable), the groups are not asked for: a dead link strikes a node of one pool too.
//! It is over when the checks still failing are no more than that share; while it holds, turned checks do not expire.
//!
//! **Hampered.** The other ground needs no failure: the last probes of more than that share of all checks were void,
//! because the node was late or out of files, ports or memory. Then what little it still finds out may be wrong as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use evenkeel_model::event::{Ground, Hampered, Struck};
use evenkeel_model::limits;
use evenkeel_model::time::Instant;

use crate::keys::ByNumber;
use crate::timetable::ProbeKey;

#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    checks: ByNumber<ProbeKey, Check>,
    /// By group.
    tallies: Vec<Tally>,
    node: Tally,
    /// Checks by what their last probe said.
    last: Last,
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
    Failed {
        key: ProbeKey,
        why: Why,
    },
    /// The probe says nothing, and it is our fault.
    Void {
        key: ProbeKey,
        why: Own,
    },
    Left(ProbeKey),
}

/// As far as it tells the backend from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This node's kernel knew no way to it.
    NoRoute,
    Other,
}

/// What kept a probe from saying anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// We served its timer late.
    Late,
    /// We had no file, port or memory for it.
    Shortage,
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
    Suspected(Ground),
    Over { lasted: Duration },
}

#[derive(Clone, Copy, Debug)]
struct Check {
    group: usize,
    interval: Duration,
    state: State,
    said: Said,
}

/// What the last probe of a check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// There was none yet.
    Nothing,
    Something,
    Void(Own),
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    something: usize,
    late: usize,
    shortage: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No result yet.
    Silent,
    Passing,
    Turned {
        expires: Instant,
        why: Why,
    },
    /// Failing from its first result on, or for longer than an interval.
    Failing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passing: usize,
    turned: usize,
    /// Of the turned.
    no_route: usize,
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
            Event::Passed(key) => {
                self.become_state(key, State::Passing);
                self.hear(key, Said::Something);
            }
            Event::Failed { key, why } => {
                self.fail(key, why, now);
                self.hear(key, Said::Something);
            }
            Event::Void { key, why } => self.hear(key, Said::Void(why)),
            Event::Left(key) => {
                self.become_state(key, State::Silent);
                self.hear(key, Said::Nothing);
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

    fn fail(&mut self, key: ProbeKey, why: Why, now: Instant) {
        let Some(check) = self.checks.get(&key) else { return };
        match check.state {
            State::Passing => {
                let expires = now + check.interval;
                self.become_state(key, State::Turned { expires, why });
            }
            State::Silent => self.become_state(key, State::Failing),
            State::Turned { .. } | State::Failing => {}
        }
    }

    fn judge(&mut self, now: Instant) {
        match self.since {
            None => {
                if let Some(ground) = self.ground() {
                    self.since = Some(now);
                    self.outputs.push_back(Output::Suspected(ground));
                }
            }
            Some(since) if !self.node.is_struck() && !self.last.is_hampered() => {
                self.since = None;
                self.outputs.push_back(Output::Over { lasted: now - since });
            }
            Some(_) => {}
        }
    }

    /// What there is to suspect the node for.
    fn ground(&self) -> Option<Ground> {
        if self.node.is_struck() {
            // Counting groups costs their number; it is reached only in an outage, because the node's own
            // tally is looked at first.
            let groups = self.tallies.iter().filter(|group| group.is_struck()).count();
            let Tally { passing, turned, no_route } = self.node;
            let no_way_out = no_route * 2 > turned && no_route as u64 >= limits::SUSPICION_CHECKS.value;
            if no_way_out || groups as u64 >= limits::SUSPICION_GROUPS.value {
                return Some(Ground::Struck(Struck { failing: turned, of: turned + passing, groups, no_route }));
            }
        }
        let Last { something, late, shortage } = self.last;
        let of = something + late + shortage;
        self.last.is_hampered().then_some(Ground::Hampered(Hampered { late, shortage, of }))
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
        if let State::Turned { expires, .. } = old {
            self.turned.remove(&(expires, key));
        }
        if let State::Turned { expires, .. } = state {
            self.turned.insert((expires, key));
        }
    }

    fn hear(&mut self, key: ProbeKey, said: Said) {
        let Some(check) = self.checks.get_mut(&key) else { return };
        let before = std::mem::replace(&mut check.said, said);
        if let Some(count) = self.last.of(before) {
            *count -= 1;
        }
        if let Some(count) = self.last.of(said) {
            *count += 1;
        }
    }

    fn regroup(&mut self, checked: &[Checked]) {
        let old = std::mem::take(&mut self.checks);
        self.group_of_host = groups_of_hosts(checked);
        self.turned.clear();
        self.node = Tally::default();
        self.last = Last::default();
        let count = self.group_of_host.values().max().map_or(0, |highest| highest + 1);
        self.tallies = vec![Tally::default(); count];
        for one in checked {
            let Some(key) = one.key else { continue };
            self.join(key, one.host, one.interval);
            if let Some(check) = old.get(&key) {
                self.become_state(key, check.state);
                self.hear(key, check.said);
            }
        }
    }

    fn join(&mut self, key: ProbeKey, host: IpAddr, interval: Duration) {
        // A host that no pool named cannot be grouped and is left out rather than counted wrongly.
        let Some(&group) = self.group_of_host.get(&host) else { return };
        self.checks.entry(key).or_insert(Check { group, interval, state: State::Silent, said: Said::Nothing });
    }
}

impl Tally {
    fn count(&mut self, state: State) {
        match state {
            State::Passing => self.passing += 1,
            State::Turned { why, .. } => {
                self.turned += 1;
                self.no_route += usize::from(why == Why::NoRoute);
            }
            State::Silent | State::Failing => {}
        }
    }

    fn forget(&mut self, state: State) {
        match state {
            State::Passing => self.passing -= 1,
            State::Turned { why, .. } => {
                self.turned -= 1;
                self.no_route -= usize::from(why == Why::NoRoute);
            }
            State::Silent | State::Failing => {}
        }
    }

    const fn is_struck(self) -> bool {
        self.turned as u64 * 100 > (self.turned + self.passing) as u64 * limits::SUSPICION_SHARE.value
    }
}

impl Last {
    const fn of(&mut self, said: Said) -> Option<&mut usize> {
        match said {
            Said::Nothing => None,
            Said::Something => Some(&mut self.something),
            Said::Void(Own::Late) => Some(&mut self.late),
            Said::Void(Own::Shortage) => Some(&mut self.shortage),
        }
    }

    const fn is_hampered(self) -> bool {
        let (void, all) = ((self.late + self.shortage) as u64, (self.something + self.late + self.shortage) as u64);
        void >= limits::SUSPICION_CHECKS.value && void * 100 > all * limits::SUSPICION_SHARE.value
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

    fn struck(failing: usize, of: usize, groups: usize) -> Output {
        Output::Suspected(Ground::Struck(Struck { failing, of, groups, no_route: 0 }))
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
            keys.into_iter()
                .fold(None, |said, key| said.or(self.tell(Event::Failed { key: ProbeKey(key), why: Why::Other })))
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
        assert_eq!(node.fail([10]), Some(struck(9, 12, 3)));
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
        assert_eq!(node.fail(16..19), Some(struck(18, 20, 3)));
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
        assert_eq!(node.fail([12]), Some(struck(13, 24, 3)));
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
        assert_eq!(left, Some(struck(10, 11, 3)));
        let host = Ipv4Addr::new(10, 0, 0, 12).into();
        assert_eq!(node.tell(Event::Joined { key: ProbeKey(99), host, interval: INTERVAL }), None);
        assert_eq!(node.tell(Event::Passed(ProbeKey(99))), None);
        assert_eq!(node.pass(0..3), None, "7 of 12 still fail");
        assert_eq!(node.pass(3..4), Some(Output::Over { lasted: Duration::ZERO }));
    }
    #[test]
    fn a_node_whose_kernel_knows_no_way_is_suspicious_with_a_single_pool() {
        let fail = |node: &mut Node, keys: std::ops::Range<u64>, why| {
            keys.fold(None, |said, key| said.or(node.tell(Event::Failed { key: ProbeKey(key), why })))
        };
        let mut node = Node::well(&UNRELATED[..1]);
        assert_eq!(fail(&mut node, 0..4, Why::Other), None, "four dead servers of one pool");
        let mut node = Node::well(&UNRELATED[..1]);
        assert_eq!(fail(&mut node, 0..2, Why::NoRoute), None, "half of them, and two are a hiccup");
        let said = fail(&mut node, 2..3, Why::NoRoute);
        let ground = Ground::Struck(Struck { failing: 3, of: 4, groups: 1, no_route: 3 });
        assert_eq!(said, Some(Output::Suspected(ground)));
        assert_eq!(node.pass(0..1), Some(Output::Over { lasted: Duration::ZERO }));
        // Most failed for other reasons: then the groups are asked for as ever.
        let mut node = Node::well(&[[1, 2, 3, 4], [4, 5, 6, 7]]);
        assert_eq!(fail(&mut node, 0..4, Why::Other), None);
        assert_eq!(fail(&mut node, 4..8, Why::NoRoute), None, "four of eight is not most");
    }

    #[test]
    fn a_node_that_is_late_for_most_of_its_checks_suspects_itself_though_none_fails() {
        let void = |node: &mut Node, keys: std::ops::Range<u64>, why| {
            keys.fold(None, |said, key| said.or(node.tell(Event::Void { key: ProbeKey(key), why })))
        };
        let mut node = Node::well(&UNRELATED);
        assert_eq!(void(&mut node, 0..6, Own::Late), None, "half");
        assert_eq!(void(&mut node, 0..6, Own::Late), None, "the same ones again");
        let said = void(&mut node, 6..7, Own::Shortage);
        assert_eq!(said, Some(Output::Suspected(Ground::Hampered(Hampered { late: 6, shortage: 1, of: 12 }))));
        assert_eq!(void(&mut node, 7..12, Own::Late), None, "said once");
        assert_eq!(node.pass(0..5), None, "7 of 12");
        assert_eq!(node.fail(5..6), Some(Output::Over { lasted: Duration::ZERO }), "a failure says something too");
        // Two checks, both void: nobody is woken for that.
        let mut node = Node::well(&UNRELATED[..1]);
        for key in 2..4 {
            assert_eq!(node.tell(Event::Left(ProbeKey(key))), None);
        }
        assert_eq!(void(&mut node, 0..2, Own::Late), None);
    }

    #[test]
    fn what_last_probes_said_is_kept_by_a_regrouping_and_forgotten_with_the_check() {
        let void = |node: &mut Node, key| node.tell(Event::Void { key: ProbeKey(key), why: Own::Late });
        let mut node = Node::well(&UNRELATED);
        for key in 0..6 {
            assert_eq!(void(&mut node, key), None);
        }
        assert_eq!(node.tell(Event::Regrouped(plan(&UNRELATED))), None);
        let left = node.tell(Event::Left(ProbeKey(11)));
        assert_eq!(left, Some(Output::Suspected(Ground::Hampered(Hampered { late: 6, shortage: 0, of: 11 }))));
        assert_eq!(node.tell(Event::Left(ProbeKey(0))), Some(Output::Over { lasted: Duration::ZERO }), "5 of 10");
    }
}
