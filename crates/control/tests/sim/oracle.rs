//! What should be true, recounted naively: no timetable, no judge, no ids, only lists of what happened.
//!
//! It shares no code with health or control but the words of the model. Where the two disagree, one of
//! them is wrong, and this one is short enough to be read.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::{Obeyed, ProbeKey};
use evenkeel_health::settings::{CheckSettings, ProbeSettings};
use evenkeel_model::Instant;
use evenkeel_model::event::{Because, Refused, VerdictChanged};
use evenkeel_model::finding::{Failure, FailureReason, Finding, Pass, ProbeKind, ProbeResult};
use evenkeel_model::limits;
use evenkeel_model::standing::{Order, Verdict};

use crate::support::{CheckSpec, PoolSpec};

pub type TargetName = (SocketAddr, CheckSettings);
pub type BackendName = (Arc<str>, SocketAddr);

#[derive(Clone, Debug)]
pub struct Target {
    verdict: Verdict,
    /// Order and percentage that its agent said last.
    word: Option<(Order, u16)>,
    /// Whether one result is enough because nothing, or nothing recent, is known.
    alone: bool,
    /// When a probe last said anything.
    heard: Option<Instant>,
    /// Made by the reload that is being carried out.
    fresh: bool,
    /// Since it started to be probed by this check; void ones left out.
    findings: Vec<Finding>,
    pub probing: bool,
    pub in_flight: Option<ProbeKey>,
    /// When its last probe ended, since it started to be probed.
    ended: Option<Instant>,
    /// When somebody last did not want to wait for the next one.
    hastened: Option<Instant>,
    /// When the next probe must start, while none is in flight.
    pub due: Instant,
    /// It may start so much later, where many joined at once and are spread.
    pub spread: Duration,
}

#[derive(Clone, Debug)]
struct Backend {
    asked: Asked,
    word: (Order, u16),
    verdict: Verdict,
    /// By the names of its checks.
    targets: Vec<(Arc<str>, TargetName)>,
}

/// What the operator asked for, and whether that is to outlive a restart.
#[derive(Clone, Debug, Default)]
struct Asked {
    order: Order,
    until: Option<Instant>,
    kept: bool,
    weight: Option<(u32, bool)>,
}

/// Something the operator asks of a backend.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Order(Order, Option<Instant>, bool),
    Weight(Option<u32>, bool),
    Probe,
}

impl Backend {
    fn rests_on(&self, target: &TargetName) -> bool {
        self.targets.iter().any(|(_, one)| one == target)
    }

    fn target(&self, check: &str) -> Option<&TargetName> {
        self.targets.iter().find(|(name, _)| **name == *check).map(|(_, target)| target)
    }
}

#[derive(Debug, Default)]
pub struct Oracle {
    pub targets: HashMap<TargetName, Target>,
    backends: BTreeMap<BackendName, Backend>,
    keys: HashMap<ProbeKey, TargetName>,
    /// What the step before last left, to tell which verdicts the last step changed.
    verdicts_before: BTreeMap<BackendName, Verdict>,
    /// Whether a verdict, an order or the plan changed since the last comparison.
    moved: bool,
}

impl Oracle {
    pub fn reload(&mut self, pools: &[PoolSpec], now: Instant) {
        self.moved = true;
        let old = std::mem::take(&mut self.backends);
        let said: HashMap<TargetName, Verdict> =
            self.targets.iter().map(|(name, target)| (name.clone(), target.verdict)).collect();
        let mut targets: HashMap<TargetName, Target> = HashMap::new();
        for spec in pools {
            for &(address, _) in &spec.backends {
                let name = (Arc::clone(&spec.name), address);
                let asked = old.get(&name).map(|backend| backend.asked.clone()).unwrap_or_default();
                let target = |check: &CheckSpec| (check.place(address), check.settings.clone());
                let targets = spec.checks.iter().map(|check| (Arc::clone(&check.name), target(check))).collect();
                let word = (Order::Serve, 100);
                self.backends.insert(name, Backend { asked, word, verdict: Verdict::Unknown, targets });
            }
        }
        let all = self.backends.values().flat_map(|backend| backend.targets.iter().map(|(_, target)| target.clone()));
        for name in all {
            let target = self.targets.remove(&name).or_else(|| targets.remove(&name));
            let target = target.unwrap_or_else(|| {
                let verdict = self.carried(&name, &old, &said);
                let alone = verdict == Verdict::Unknown;
                let (findings, in_flight) = (Vec::new(), None);
                let word = self.carried_word(&name, &old);
                let heard = None;
                Target {
                    verdict,
                    word,
                    heard,
                    alone,
                    fresh: true,
                    findings,
                    probing: false,
                    in_flight,
                    ended: None,
                    hastened: None,
                    due: now,
                    spread: Duration::ZERO,
                }
            });
            targets.insert(name, target);
        }
        self.targets = targets;
        let names: Vec<TargetName> = self.targets.keys().cloned().collect();
        self.keys.retain(|_, name| self.targets.contains_key(name));
        for name in names {
            self.review(&name, now);
            self.targets.get_mut(&name).expect("just reviewed").fresh = false;
        }
        self.spread_verdicts();
    }

    /// The verdict its backends would have it start with, if they agree.
    fn carried(
        &self,
        target: &TargetName,
        old: &BTreeMap<BackendName, Backend>,
        said: &HashMap<TargetName, Verdict>,
    ) -> Verdict {
        let mut wishes = Vec::new();
        for (name, backend) in self.backends.iter().filter(|(_, backend)| backend.rests_on(target)) {
            let Some(old) = old.get(name) else { continue };
            let said_before = |check: &str| old.target(check).map(|target| said[target]);
            let check = &backend.targets.iter().find(|(_, one)| one == target).expect("it rests on it").0;
            let mut blamed = backend.targets.iter().map(|(check, one)| said.get(one).copied().or(said_before(check)));
            wishes.push(match (said_before(check), old.verdict) {
                (Some(edited), _) => edited,
                (None, Verdict::Unhealthy) if blamed.any(|it| it == Some(Verdict::Unhealthy)) => Verdict::Unknown,
                (None, verdict) => verdict,
            });
        }
        let asked = |verdict| wishes.contains(&verdict);
        match (asked(Verdict::Healthy), asked(Verdict::Unhealthy)) {
            (true, false) => Verdict::Healthy,
            (false, true) => Verdict::Unhealthy,
            (true, true) | (false, false) => Verdict::Unknown,
        }
    }

    /// The word that the agents of its backends had, if they agree.
    fn carried_word(&self, target: &TargetName, old: &BTreeMap<BackendName, Backend>) -> Option<(Order, u16)> {
        let is_agent = |name: &TargetName| matches!(name.1.probe, ProbeSettings::Agent(_));
        let resting = self.backends.iter().filter(|(_, backend)| backend.rests_on(target));
        let before = resting.filter_map(|(name, _)| old.get(name));
        let with_agents = before.filter(|old| old.targets.iter().any(|(_, name)| is_agent(name)));
        let mut words: Vec<(Order, u16)> = with_agents.map(|old| old.word).collect();
        words.dedup();
        if let [agreed] = words[..] { Some(agreed).filter(|_| is_agent(target)) } else { None }
    }

    /// Takes an ask and says what the answer must be. Whoever asks names a pool and a backend together or neither.
    pub fn asked(&mut self, name: &BackendName, ask: Ask, now: Instant) -> Result<Obeyed, Refused> {
        let backend = self.backends.get_mut(name).ok_or(Refused::NoSuchPool)?;
        match ask {
            Ask::Order(Order::Serve, Some(_), _) => Err(Refused::ServeHasNoEnd),
            Ask::Order(order, until, keep) => {
                let asked = &mut backend.asked;
                let kept = keep && order != Order::Serve;
                let before = (asked.order, asked.until, asked.kept);
                (asked.order, asked.until, asked.kept) = (order, until, kept);
                if before == (order, until, kept) {
                    return Ok(Obeyed::AsBefore);
                }
                self.review_all_of(name, now);
                Ok(Obeyed::Changed)
            }
            Ask::Weight(Some(101..), _) => Err(Refused::WeightOutOfRange { most: 100 }),
            Ask::Weight(weight, keep) => {
                let weight = weight.map(|weight| (weight, keep));
                if std::mem::replace(&mut backend.asked.weight, weight) == weight {
                    return Ok(Obeyed::AsBefore);
                }
                self.moved = true;
                Ok(Obeyed::Changed)
            }
            Ask::Probe => {
                let mut names: Vec<TargetName> = Vec::new();
                for (_, target) in &backend.targets {
                    if !names.contains(target) {
                        names.push(target.clone());
                    }
                }
                if names.is_empty() {
                    return Err(Refused::NoCheck);
                }
                if !names.iter().any(|name| self.targets[name].probing) {
                    return Err(Refused::NotProbed);
                }
                let (mut waiting, mut in_flight) = (0, 0);
                for name in names {
                    let target = self.targets.get_mut(&name).expect("every target of a backend is listed");
                    if target.in_flight.is_some() {
                        in_flight += 1;
                    } else if target.probing {
                        waiting += 1;
                        let earliest = target.ended.map_or(now, |ended| now.max(ended + Duration::from_millis(100)));
                        if earliest < target.due + target.spread {
                            (target.due, target.spread) = (earliest, Duration::ZERO);
                            target.hastened = Some(now);
                        }
                    }
                }
                Ok(Obeyed::Probing { waiting, in_flight })
            }
        }
    }

    /// Orders whose time is over are so from now on.
    pub fn end_orders(&mut self, now: Instant) -> Vec<BackendName> {
        let over = |backend: &Backend| backend.asked.until.is_some_and(|until| until <= now);
        let names: Vec<_> = self.backends.iter().filter(|(_, one)| over(one)).map(|(name, _)| name.clone()).collect();
        for name in &names {
            let asked = &mut self.backends.get_mut(name).expect("just found").asked;
            (asked.order, asked.until, asked.kept) = (Order::Serve, None, false);
            self.review_all_of(name, now);
        }
        names
    }

    fn review_all_of(&mut self, name: &BackendName, now: Instant) {
        self.moved = true;
        for (_, target) in self.backends[name].targets.clone() {
            self.review(&target, now);
        }
    }

    /// Probing stops when every backend is under `maintain` and starts again, at once, when one is not.
    fn review(&mut self, name: &TargetName, now: Instant) {
        let resting = self.backends.values().filter(|backend| backend.rests_on(name));
        let wanted = resting.into_iter().any(|backend| backend.asked.order != Order::Maintain);
        let target = self.targets.get_mut(name).expect("every target of a backend is listed");
        if target.probing && !wanted {
            target.in_flight = None;
            self.keys.retain(|_, one| one != name);
        } else if !target.probing && wanted {
            (target.due, target.spread, target.ended) = (now, Duration::ZERO, None);
            // Nobody has looked for a while: what was heard is too old to count with what comes.
            if !target.fresh {
                target.findings.clear();
                target.alone = true;
            }
        }
        target.probing = wanted;
    }

    pub fn started(&mut self, key: ProbeKey, name: TargetName, now: Instant) {
        let target = self.targets.get_mut(&name).unwrap_or_else(|| panic!("{name:?} is probed but not configured"));
        assert!(target.probing, "a probe of {name:?}, which nobody wants");
        assert_eq!(target.in_flight, None, "two probes of {name:?} at once");
        assert!(now >= target.due, "probe of {name:?} at {now:?}, less than an interval after the last ended");
        target.in_flight = Some(key);
        self.keys.insert(key, name);
    }

    /// Whether the probe is still wanted, and if so, what its finding means and when the next one is due.
    pub fn ended(&mut self, key: ProbeKey, finding: &Finding) -> bool {
        let Some(name) = self.keys.get(&key).cloned() else { return false };
        let target = self.targets.get_mut(&name).expect("keys are forgotten with their target");
        if target.in_flight != Some(key) {
            return false;
        }
        target.in_flight = None;
        self.hear(&name, finding);
        let target = self.targets.get_mut(&name).expect("it was there a line before");
        let timing = &name.1.timing;
        let says = |last: &Finding| if last.result.passed() { Verdict::Healthy } else { Verdict::Unhealthy };
        let in_doubt = target.alone || target.findings.last().is_some_and(|last| says(last) != target.verdict);
        let gap = match target.verdict {
            _ if in_doubt => timing.transition_interval,
            Verdict::Unhealthy => timing.unhealthy_interval,
            Verdict::Healthy | Verdict::Unknown => timing.interval,
        };
        (target.due, target.spread, target.ended) = (finding.ended + gap, Duration::ZERO, Some(finding.ended));
        true
    }

    fn hear(&mut self, name: &TargetName, finding: &Finding) {
        let target = self.targets.get_mut(name).expect("whoever was probed is known");
        let passed = finding.result.passed();
        let said = match &finding.result {
            ProbeResult::Passed(Pass::Agent(says)) => Some(says),
            ProbeResult::Failed(Failure { reason: FailureReason::AgentDown { says, .. }, .. }) => Some(says),
            _ => None,
        };
        if let Some(says) = said {
            let (order, percent) = target.word.unwrap_or((Order::Serve, 100));
            target.word = Some((says.order.unwrap_or(order), says.weight.unwrap_or(percent)));
        }
        // An agent that could not be asked, as opposed to one that spoke gibberish.
        let unheard = finding.kind == ProbeKind::Agent && said.is_none();
        let gibberish = |failure: &Failure| matches!(failure.reason, FailureReason::NotAgent { .. });
        match &finding.result {
            ProbeResult::Void(_) => return,
            ProbeResult::Failed(failure) if unheard && !gibberish(failure) => return,
            ProbeResult::Failed(_) | ProbeResult::Passed(_) => {}
        }
        target.heard = Some(finding.ended);
        target.findings.push(finding.clone());
        let same = target.findings.iter().rev().take_while(|one| one.result.passed() == passed).count();
        let (verdict, threshold) = if passed {
            (Verdict::Healthy, name.1.timing.healthy_threshold)
        } else {
            (Verdict::Unhealthy, name.1.timing.unhealthy_threshold)
        };
        let needed = if target.alone { 1 } else { threshold as usize };
        target.alone = false;
        let changes = same >= needed && target.verdict != verdict;
        if changes {
            target.verdict = verdict;
        }
        if target.findings.len() > 300 {
            target.findings.drain(..100);
        }
        if changes || said.is_some() {
            self.spread_verdicts();
        }
    }

    /// A process ends, and so long after it the next one begins, with the same plan and what was kept.
    pub fn restart(&mut self, now: Instant, away: Duration, max_age: Duration, upgrade: bool) -> Vec<BackendName> {
        self.keys.clear();
        for (name, target) in &mut self.targets {
            let timing = &name.1.timing;
            let kept = away <= max_age && target.heard.is_some_and(|heard| now - heard <= max_age);
            let gap = timing.interval.max(timing.unhealthy_interval).max(timing.transition_interval);
            let missed = target.heard.is_none_or(|heard| now - heard > gap + timing.timeout);
            if !kept {
                (target.verdict, target.word, target.heard) = (Verdict::Unknown, None, None);
            }
            target.alone = missed || target.verdict == Verdict::Unknown;
            target.findings.clear();
            (target.in_flight, target.ended, target.due) = (None, None, now);
            (target.probing, target.fresh) = (false, true);
        }
        let mut over = Vec::new();
        for (name, Backend { asked, .. }) in &mut self.backends {
            if away > max_age {
                *asked = Asked::default();
            }
            let recalled = upgrade || asked.kept;
            let is_over = asked.until.is_some_and(|until| until <= now);
            over.extend((recalled && is_over).then(|| name.clone()));
            if !recalled || is_over {
                (asked.order, asked.until, asked.kept) = (Order::Serve, None, false);
            }
            asked.weight = asked.weight.filter(|(_, kept)| upgrade || *kept);
        }
        for name in self.targets.keys().cloned().collect::<Vec<_>>() {
            self.review(&name, now);
            self.targets.get_mut(&name).expect("just reviewed").fresh = false;
        }
        let many = self.targets.len() as u64 > limits::FIRST_PROBES_AT_ONCE.value;
        for (name, target) in self.targets.iter_mut().filter(|_| many) {
            target.spread = name.1.timing.interval;
        }
        self.spread_verdicts();
        // The new process tells nobody what it was told itself.
        self.verdicts_before.clear();
        self.moved = true;
        over
    }

    fn spread_verdicts(&mut self) {
        for backend in self.backends.values_mut() {
            let say =
                |verdict| backend.targets.iter().filter(|(_, name)| self.targets[name].verdict == verdict).count();
            let verdict = if say(Verdict::Unhealthy) > 0 {
                Verdict::Unhealthy
            } else if say(Verdict::Healthy) == backend.targets.len() && !backend.targets.is_empty() {
                Verdict::Healthy
            } else {
                Verdict::Unknown
            };
            let words = backend.targets.iter().filter_map(|(_, name)| self.targets[name].word);
            let (mut order, mut percent) = (Order::Serve, None);
            for (said, more) in words {
                if order == Order::Serve || said == Order::Maintain {
                    order = said;
                }
                percent = Some(percent.map_or(more, |least: u16| least.min(more)));
            }
            let word = (order, percent.unwrap_or(100));
            self.moved |= (verdict, word) != (backend.verdict, backend.word);
            (backend.verdict, backend.word) = (verdict, word);
        }
    }

    pub fn verdict(&self, name: &BackendName) -> Verdict {
        self.backends[name].verdict
    }

    pub fn word(&self, name: &BackendName) -> (Order, u16) {
        self.backends[name].word
    }

    pub fn order(&self, name: &BackendName) -> Order {
        self.backends[name].asked.order
    }

    pub fn weight(&self, name: &BackendName) -> Option<u32> {
        self.backends[name].asked.weight.map(|(weight, _)| weight)
    }

    /// Backends that differ from the config, by what.
    pub fn changes(&self) -> impl Iterator<Item = (&BackendName, Order, Option<Instant>, Option<u32>)> {
        let all = self.backends.iter().map(|(name, it)| (name, it.asked.order, it.asked.until, it.asked.weight));
        let changed = all.filter(|(_, order, _, weight)| *order != Order::Serve || weight.is_some());
        changed.map(|(name, order, until, weight)| (name, order, until, weight.map(|(weight, _)| weight)))
    }

    pub fn backends(&self) -> impl Iterator<Item = &BackendName> {
        self.backends.keys()
    }

    /// Every verdict that changed since the last call was told once, with the findings that led to it,
    /// and nothing else was told. Says whether anything changed at all.
    pub fn settle(&mut self, told: &[VerdictChanged]) -> bool {
        if !std::mem::take(&mut self.moved) {
            assert_eq!(told, [], "told but not so");
            return false;
        }
        let verdicts: BTreeMap<BackendName, Verdict> =
            self.backends.iter().map(|(name, backend)| (name.clone(), backend.verdict)).collect();
        let before = std::mem::replace(&mut self.verdicts_before, verdicts);
        let mut wanted = BTreeMap::new();
        for (name, &to) in &self.verdicts_before {
            if let Some(&from) = before.get(name).filter(|&&from| from != to) {
                wanted.insert(name.clone(), (from, to));
            }
        }
        for changed in told {
            let name = (Arc::clone(&changed.pool), changed.backend);
            let found = wanted.remove(&name);
            assert_eq!(found, Some((changed.from, changed.to)), "told but not so, or told twice: {changed:?}");
            self.check_evidence(&name, changed);
        }
        assert!(wanted.is_empty(), "changed but not told: {wanted:?}");
        true
    }

    fn check_evidence(&self, name: &BackendName, changed: &VerdictChanged) {
        let backend = &self.backends[name];
        assert_eq!(changed.checks, backend.targets.len());
        let (evidence, threshold) = match &changed.because {
            Because::CheckOff => return assert_eq!((backend.targets.len(), &changed.check), (0, &None)),
            Because::CheckChanged => return assert!(!backend.targets.is_empty() && changed.check.is_none()),
            Because::FirstProbe(evidence) => (evidence, 1),
            Because::Run { threshold, evidence } => (evidence, *threshold),
        };
        let check = changed.check.as_ref().expect("findings are of a check");
        let target_name = backend.target(check).expect("a check of this backend");
        let target = &self.targets[target_name];
        let findings = &target.findings;
        let shown = (threshold as usize).min(limits::RECENT_FINDINGS.value as usize);
        assert_eq!(evidence.findings[..], findings[findings.len() - shown..], "the findings that led to it");
        assert_eq!(evidence.probes, threshold);
        let run = &findings[findings.len() - threshold as usize..];
        let between = target_name.1.timing.transition_interval;
        let computed = run.iter().map(Finding::duration).sum::<Duration>() + between * (threshold - 1);
        assert_eq!(evidence.computed, computed);
        assert_eq!(evidence.window, run[run.len() - 1].ended - run[0].started);
        let waited = target.hastened.is_none_or(|at| at < run[0].started);
        assert!(!waited || evidence.window >= computed, "shorter than the sum of its parts");
    }
}
