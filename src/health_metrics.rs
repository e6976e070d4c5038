//! The metrics of health: verdicts, weights, probes and how punctual they are.
//!
//! Read from the control room in short looks that copy numbers, since with 100,000 targets a single one would keep probes
//! waiting, and to write the words takes ten times as long. The rows of a metric have to stand together, so each backend
//! adds to all of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_control::Control;
use evenkeel_health::judge::Counts;
use evenkeel_model::finding::{Finding, Trust};
use evenkeel_model::standing::{Standing, Verdict};
use evenkeel_model::{BackendId, TargetId};
use evenkeel_observe::metrics::escape;
use evenkeel_plan::Plan;

use crate::boss::Boss;
use crate::status::{look_at, parts};

/// The page; `None` when the node has stopped.
pub fn page(boss: &Boss) -> Option<String> {
    loop {
        let (plan, node) = boss.look(|control| (Arc::clone(&control.snapshot().plan), of_node(control)))?;
        if let Some(page) = page_of(boss, &plan, &node)? {
            return Some(page);
        }
    }
}

/// The inner one is `None` when another plan came in between.
fn page_of(boss: &Boss, plan: &Arc<Plan>, node: &str) -> Option<Option<String>> {
    let mut rows = Rows::default();
    for part in parts(plan.backends.len()) {
        let told_of = part.clone();
        match look_at(boss, plan, move |control| part.map(|index| Seen::of(control, index)).collect::<Vec<_>>())? {
            Some(seen) => told_of.zip(&seen).for_each(|(index, seen)| rows.add(plan, index, seen)),
            None => return Some(None),
        }
    }
    let mut probes = Probes::new();
    for part in parts(plan.targets.len()) {
        let told_of = part.clone();
        let count = |control: &Control, index| control.target(TargetId::from_index(index)).counts();
        match look_at(boss, plan, move |control| part.map(|index| count(control, index)).collect::<Vec<_>>())? {
            Some(counts) => told_of.zip(counts).for_each(|(index, counts)| add(&mut probes, plan, index, counts)),
            None => return Some(None),
        }
    }
    let mut out = rows.told();
    out.push_str(node);
    tell_probes(&probes, &mut out);
    Some(Some(out))
}

/// Lines of each metric that has one per backend or check.
#[derive(Default)]
struct Rows {
    verdicts: String,
    ejected: String,
    weights: String,
    check_verdicts: String,
    silence: String,
    durations: String,
}

/// What the control room knows of one backend, as far as the page tells it.
struct Seen {
    standing: Standing,
    /// By the position of the pool's checks.
    checks: Vec<SeenCheck>,
}

struct SeenCheck {
    verdict: Verdict,
    silence: Option<Trust>,
    took: Option<Duration>,
}

impl Seen {
    fn of(control: &Control, index: usize) -> Self {
        let check = |&target: &TargetId| {
            let target = control.target(target);
            let counts = |finding: &&Finding| finding.result.passed() || finding.result.failed();
            let took = target.recent().rev().find(counts).map(Finding::duration);
            SeenCheck { verdict: target.verdict(), silence: target.silence(), took }
        };
        let checks = control.snapshot().plan.backends[index].targets.iter().map(check).collect();
        Seen { standing: control.standing(BackendId::from_index(index)), checks }
    }
}

impl Rows {
    fn add(&mut self, plan: &Plan, index: usize, seen: &Seen) {
        let (backend, standing) = (&plan.backends[index], &seen.standing);
        let pool = &plan.pools[backend.pool.index()];
        let labels = format!("pool=\"{}\",backend=\"{}\"", escape(&pool.name), backend.address);
        tell_verdict(&mut self.verdicts, "evenkeel_backend_verdict", &labels, standing.verdict);
        let ejected = u8::from(standing.traffic.is_ejected());
        let _ = writeln!(self.ejected, "evenkeel_backend_ejected{{{labels}}} {ejected}");
        let weight = standing.effective_weight(backend.weight);
        let _ = writeln!(self.weights, "evenkeel_backend_effective_weight{{{labels}}} {weight}");
        // Rows of a target that several backends rest on say the same: people look for their backend, not for our targets.
        for (check, seen) in pool.checks.iter().zip(&seen.checks) {
            let labels = format!("{labels},check=\"{}\"", escape(&check.name));
            tell_verdict(&mut self.check_verdicts, "evenkeel_check_verdict", &labels, seen.verdict);
            for trust in Trust::ALL.into_iter().filter(|_| check.settings.probe.takes_silence()) {
                let (word, holds) = (trust.word(), u8::from(seen.silence == Some(trust)));
                let _ =
                    writeln!(self.silence, "evenkeel_backend_rests_on_silence{{{labels},silence=\"{word}\"}} {holds}");
            }
            if let Some(took) = seen.took {
                let _ = writeln!(self.durations, "evenkeel_check_probe_seconds{{{labels}}} {}", took.as_secs_f64());
            }
        }
    }

    fn told(&self) -> String {
        let mut out = String::new();
        for (name, help, rows) in [
            ("evenkeel_backend_verdict", "Verdict of the backend: 1 for the word that holds.", &self.verdicts),
            (
                "evenkeel_backend_ejected",
                "Whether traffic spoke against the backend and it is set aside.",
                &self.ejected,
            ),
            ("evenkeel_backend_effective_weight", "Weight that schedules see: 0 takes no new work.", &self.weights),
            (
                "evenkeel_check_verdict",
                "Verdict of one check of the backend: 1 for the word that holds.",
                &self.check_verdicts,
            ),
            (
                "evenkeel_backend_rests_on_silence",
                "Whether the last word of a check that takes silence for health was silence, and whether it can be trusted.",
                &self.silence,
            ),
            (
                "evenkeel_check_probe_seconds",
                "How long the last probe of the check took that passed or failed.",
                &self.durations,
            ),
        ] {
            head(&mut out, name, "gauge", help);
            out.push_str(rows);
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn tell_verdict(out: &mut String, name: &str, labels: &str, verdict: Verdict) {
    for word in Verdict::ALL {
        let holds = u8::from(verdict == word);
        let _ = writeln!(out, "{name}{{{labels},verdict=\"{}\"}} {holds}", word.word());
    }
}

/// What there is once for the node or once for a pool.
fn of_node(control: &Control) -> String {
    let mut out = String::new();
    let snapshot = control.snapshot();
    head(
        &mut out,
        "evenkeel_pool_panic",
        "gauge",
        "Whether too little of the pool may be used and new work goes to unhealthy backends too.",
    );
    for (pool, view) in snapshot.plan.pools.iter().zip(&snapshot.pools) {
        let _ = writeln!(out, "evenkeel_pool_panic{{pool=\"{}\"}} {}", escape(&pool.name), u8::from(view.panic));
    }
    let suspects = control.suspects_itself_since().is_some();
    for (name, help, holds) in [
        ("evenkeel_suspects_itself", "Whether most checks turned to failing, or became void, together.", suspects),
        ("evenkeel_holds_verdicts", "Whether no verdict turns unhealthy for that reason.", control.holds_verdicts()),
    ] {
        head(&mut out, name, "gauge", help);
        let _ = writeln!(out, "{name} {}", u8::from(holds));
    }
    tell_lateness(control, &mut out);
    out
}

/// How long after their time probes started, as a histogram.
fn tell_lateness(control: &Control, out: &mut String) {
    let name = "evenkeel_probe_lateness_seconds";
    let waits = control.probe_waits();
    head(out, name, "histogram", "How long due probes waited for the node to start them.");
    for (bound, probes) in waits.up_to() {
        let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {probes}", bound.as_secs_f64());
    }
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", waits.probes);
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {}", waits.total.as_secs_f64(), waits.probes);
    let name = "evenkeel_probe_lateness_longest_seconds";
    head(out, name, "gauge", "The longest of these waits.");
    let _ = writeln!(out, "{name} {}", waits.longest.as_secs_f64());
}

/// Probes by target and kind: passed, failed, void.
type Probes = BTreeMap<(SocketAddr, &'static str), [u64; 3]>;

/// Two checks of one address differ in their settings only; their numbers are added up.
fn add(probes: &mut Probes, plan: &Plan, index: usize, counts: Counts) {
    let target = &plan.targets[index];
    let sum = probes.entry((target.address, target.check.probe.kind().word())).or_default();
    for (total, more) in sum.iter_mut().zip([counts.passed, counts.failed, counts.void]) {
        *total += more;
    }
}

fn tell_probes(probes: &Probes, out: &mut String) {
    let name = "evenkeel_probes_total";
    head(out, name, "counter", "Probes ended, by result.");
    for ((address, kind), counts) in probes {
        for (result, count) in ["passed", "failed", "void"].into_iter().zip(counts) {
            let _ = writeln!(out, "{name}{{target=\"{address}\",kind=\"{kind}\",result=\"{result}\"}} {count}");
        }
    }
}
