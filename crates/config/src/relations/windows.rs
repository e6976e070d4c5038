//! Whether the windows of a pool's checks fit to each other and to its other times.
//!
//! A window is the time a verdict takes, and nobody sees it in the file: it follows from timeout, gaps and thresholds. Where
//! another time was set as if the window were shorter, the two undo each other. Only ever warnings, for no timing is wrong
//! everywhere; each says the window in seconds, and `evenkeel window` shows the rest.
//!
//! Silence is what is reckoned with wherever a check notices it, since it takes longest.

use std::time::Duration;

use evenkeel_health::gap::{Pace, Witness};
use evenkeel_health::settings::{Silence, Timing};
use evenkeel_health::window::{self, Failing};
use evenkeel_model::finding::ProbeKind;

use super::checks::is_known;
use crate::config::{Check, Config, Pool, place_of};
use crate::lower::checks::{kind_of, timing};
use crate::problem::{Note, Notes};
use crate::values::show_duration;

pub(super) fn check(config: &Config, users_known: bool, notes: &mut Notes) {
    let mut held: Option<(Duration, &str)> = None;
    for pool in &config.pools {
        ejections_panic(pool, notes);
        if pool.checks_incomplete || !pool.checks.iter().all(|check| is_known(check, users_known)) {
            continue;
        }
        let checks: Vec<Timed<'_>> = pool.checks.iter().map(|check| Timed::of(config, pool, check)).collect();
        for check in &checks {
            hold_too_late(config, check, notes);
            slower_in_transition(check, notes);
            slow_recovery(check, notes);
            wide_jitter(check, notes);
        }
        let takes = checks.iter().filter_map(Timed::after_first_failure).min();
        held = held.max(takes.map(|takes| (takes, pool.label.as_str())));
        slow_detection(pool, &checks, notes);
        ejection_shorter(pool, &checks, notes);
        ramp_shorter(pool, &checks, notes);
    }
    if let Some((takes, pool)) = held {
        hold_shorter(config, takes, pool, notes);
    }
}

/// A check whose kind is known, and with it the timing it will have.
struct Timed<'c> {
    check: &'c Check,
    kind: ProbeKind,
    timing: Timing,
}

impl<'c> Timed<'c> {
    fn of(config: &Config, pool: &Pool, check: &'c Check) -> Self {
        let kind = kind_of(config, pool, check);
        Timed { check, kind, timing: timing(check, kind) }
    }

    /// The longest from the fault to the verdict, of a backend that answers at once while it is well; `None`: never.
    fn worst(&self, failing: Failing) -> Option<Duration> {
        let notices = match (failing, self.kind) {
            (Failing::Silent, ProbeKind::Udp) => {
                let udp = &self.check.udp;
                udp.expect.is_some() || udp.ping || udp.silence == Silence::Fail
            }
            (Failing::Refused, ProbeKind::Icmp) => false,
            // One that cannot be asked says nothing of the service beside it.
            (Failing::Refused | Failing::Silent, ProbeKind::Agent) => false,
            (_, _) => true,
        };
        notices.then(|| window::detection(&self.timing, failing, Duration::ZERO).worst)
    }

    /// From the first failed probe of a silent backend, which is what makes a node suspicious, to its verdict; `None` where
    /// silence is not noticed.
    fn after_first_failure(&self) -> Option<Duration> {
        // What a program does about silence only its author knows.
        self.worst(Failing::Silent).filter(|_| self.kind != ProbeKind::Command)?;
        Some(window::fail_window(&self.timing, Failing::Silent) - self.timing.timeout)
    }
}

/// Of the check that notices first.
fn first(checks: &[Timed<'_>], failing: Failing) -> Option<Duration> {
    checks.iter().filter_map(|check| check.worst(failing)).min()
}

/// For a backend that fails in the slowest way that any check notices.
fn slowest(checks: &[Timed<'_>]) -> Option<(Duration, &'static str)> {
    let silent = first(checks, Failing::Silent).map(|worst| (worst, "falls silent"));
    silent.or(first(checks, Failing::Refused).map(|worst| (worst, "refuses")))
}

fn slower_in_transition(Timed { check, timing, .. }: &Timed<'_>, notes: &mut Notes) {
    let Some(written) = &check.transition_interval else { return };
    if timing.transition_interval <= timing.interval {
        return;
    }
    let worst = |timing: &Timing| show_duration(window::detection(timing, Failing::Refused, Duration::ZERO).worst);
    let text = format!(
        "{} of {} is longer than the interval of {}, so a backend that refuses is out after up to {} instead of {}",
        check.says("transition_interval"),
        show_duration(timing.transition_interval),
        show_duration(timing.interval),
        worst(timing),
        worst(&Timing { transition_interval: timing.interval, ..*timing }),
    );
    let help = "make it shorter than the interval, or leave it out: it is the gap while a verdict is in doubt";
    notes.add(Note::warning("transition_slower_than_interval", written.span.clone(), text).help(help));
}

/// From there on a dead backend is looked after so rarely that its recovery goes unnoticed for long.
const RARELY: u32 = 10;
const LONG: Duration = Duration::from_secs(60);

fn slow_recovery(Timed { check, timing, .. }: &Timed<'_>, notes: &mut Notes) {
    let Some(written) = &check.unhealthy_interval else { return };
    let worst = window::recovery(timing, Failing::Refused, Duration::ZERO).worst;
    if timing.unhealthy_interval < timing.interval * RARELY || worst <= LONG {
        return;
    }
    let text = format!(
        "{} is {}, so a backend that is back gets no work for up to {}",
        check.says("unhealthy_interval"),
        show_duration(timing.unhealthy_interval),
        show_duration(worst),
    );
    let help = format!("a few times the interval of {} spares most probes too", show_duration(timing.interval));
    notes.add(Note::warning("slow_recovery", written.span.clone(), text).help(help));
}

/// Percent from which on a window says little.
const WIDE: u32 = 30;

fn wide_jitter(Timed { check, timing, .. }: &Timed<'_>, notes: &mut Notes) {
    if timing.jitter < WIDE {
        return;
    }
    let gap = timing.gap(Pace::Steady, Witness::Probes);
    let span = window::detection(timing, Failing::Refused, Duration::ZERO);
    let text = format!(
        "{} of {} % makes gaps between {} and {}: a backend that refuses is out after {} to {}",
        check.says("jitter"),
        timing.jitter,
        show_duration(gap.shortest()),
        show_duration(gap.longest()),
        show_duration(span.best),
        show_duration(span.worst),
    );
    let help = "10 keeps nodes from probing in step as well; checks of one node are spread without it";
    notes.add(Note::warning("wide_jitter", check.place("jitter"), text).help(help));
}

fn slow_detection(pool: &Pool, checks: &[Timed<'_>], notes: &mut Notes) {
    let Some((worst, fails)) = slowest(checks).filter(|(worst, _)| *worst > LONG) else { return };
    if pool.passive.is_some() {
        return;
    }
    let first = &checks[0].check;
    let text = format!("{}: a backend that {fails} gets new work for up to {}", pool.label, show_duration(worst));
    let help = "shorten timeout or interval, set a transition_interval, lower unhealthy_threshold, or let traffic eject it: passive = {}";
    notes.add(Note::warning("slow_detection", first.head.clone(), text).help(help));
}

fn ejection_shorter(pool: &Pool, checks: &[Timed<'_>], notes: &mut Notes) {
    let Some(passive) = &pool.passive else { return };
    let lasts = passive.settings.ejection_time;
    let Some((worst, fails)) = slowest(checks).filter(|(worst, _)| lasts < *worst) else { return };
    let place = place_of(&passive.written, "ejection_time").or_else(|| place_of(&pool.written, "passive"));
    let text = format!(
        "{}: passive.ejection_time is {}, and checks take up to {} to find a backend that {fails}: it is back among clients before",
        pool.label,
        show_duration(lasts),
        show_duration(worst),
    );
    let help = format!("make it {} or longer, or the checks faster", show_duration(round_up(worst)));
    let span = place.unwrap_or_else(|| pool.head.clone());
    notes.add(Note::warning("ejection_shorter_than_detection", span, text).help(help));
}

fn ramp_shorter(pool: &Pool, checks: &[Timed<'_>], notes: &mut Notes) {
    let Some((worst, fails)) = slowest(checks) else { return };
    if pool.slow_start.is_zero() || pool.slow_start >= worst {
        return;
    }
    let Some(place) = place_of(&pool.written, "slow_start") else { return };
    let text = format!(
        "{}: slow_start is {}, and checks take up to {} to find a backend that {fails}: one that fails again under its first load has all of it by then",
        pool.label,
        show_duration(pool.slow_start),
        show_duration(worst),
    );
    let help = format!("make it {} or longer, or the checks faster", show_duration(round_up(worst)));
    notes.add(Note::warning("ramp_shorter_than_detection", place, text).help(help));
}

/// A threshold of one: the verdict has fallen before there is anything to suspect.
fn hold_too_late(config: &Config, Timed { check, timing, .. }: &Timed<'_>, notes: &mut Notes) {
    if config.node.hold_on_suspicion.is_none() || timing.unhealthy_threshold > 1 {
        return;
    }
    let Some(hold) = place_of(&config.node.written, "hold_on_suspicion") else { return };
    let text = format!(
        "{} is 1, so verdicts fall with the first failure, and hold_on_suspicion comes too late for most of them",
        check.says("unhealthy_threshold"),
    );
    notes.add(
        Note::warning("hold_comes_too_late", check.place("unhealthy_threshold"), text)
            .related(hold, "the hold")
            .help("use 2 or more: the node suspects itself when most checks have failed once")
            .about_the_file(),
    );
}

fn hold_shorter(config: &Config, takes: Duration, pool: &str, notes: &mut Notes) {
    let Some(hold) = config.node.hold_on_suspicion.filter(|hold| *hold < takes) else { return };
    let Some(place) = place_of(&config.node.written, "hold_on_suspicion") else { return };
    let text = format!(
        "hold_on_suspicion is {}, and {pool} takes {} from its first failed probe to a verdict when everything is silent: the hold is over before there is anything to hold",
        show_duration(hold),
        show_duration(takes),
    );
    let help = format!("make it longer than {}, by as long as you are willing to wait", show_duration(round_up(takes)));
    notes.add(Note::warning("hold_shorter_than_window", place, text).help(help).about_the_file());
}

/// Ejections alone may bring the pool to a panic, which then brings the ejected back.
fn ejections_panic(pool: &Pool, notes: &mut Notes) {
    let (Some(below), Some(passive)) = (&pool.panic_below, &pool.passive) else { return };
    let ejected = u64::from(passive.settings.max_ejected);
    if 100 - ejected.min(100) >= below.value {
        return;
    }
    let text = format!(
        "{}: passive may eject {ejected} % of the pool, and below {} % panic_below sends work to the ejected again",
        pool.label, below.value,
    );
    let help = format!("set passive.max_ejected to {} or less, or a lower panic_below", 100 - below.value);
    notes.add(Note::warning("ejections_cause_panic", below.span.clone(), text).help(help));
}

/// To whole seconds, as people write them.
fn round_up(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}
