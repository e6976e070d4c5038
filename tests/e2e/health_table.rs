//! Failure kinds by probe kinds: what each probe must see of each failure, what it says, and in what time.
//!
//! One daemon probes a backend for every row, all at once. Every row is well, then struck, then healed, and has to change
//! its verdict inside the window that `health::window` computes for it, or to keep it where the probe cannot see the
//! failure. What must be seen is in [`expected`], which asks for a word on every pair of kinds. `docs/health-table.md` is
//! made of it; `UPDATE_GOLDEN=1` writes that file anew, with the times of that run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, detection};

use crate::daemon::{Daemon, has, skipped, until};
use crate::health_expected::{Expected, Fault, Kind, expected};
use crate::health_scene::{Scene, Seen, Subject, wait_for};
use crate::health_times::{Change, Faults, Metronome, Probes, changes, hold, last, millis, now};
use crate::lab::Lab;

const TIMING: Timing = Timing::new(Duration::from_secs(1), Duration::from_millis(400), 2, 3);

#[test]
fn every_probe_sees_the_failures_it_can_see_within_its_window_and_says_what_it_saw() {
    const TEST: &str = "every_probe_sees_the_failures_it_can_see_within_its_window_and_says_what_it_saw";
    if !has("curl") {
        return skipped(TEST, "curl");
    }
    hold(TEST, play);
}

fn play(lab: &Lab) -> Faults {
    let scene = Scene::new(lab, "health-table");
    let mut rows = rows(&scene);
    let daemon = scene.daemon("health-table", &rows);
    let metronome = Metronome::start();
    wait_for(&daemon, &rows, "healthy", |row, changes| last(changes, &row.pool).is_some_and(|last| !last.unhealthy));
    let mut probes = Probes::default();
    probes.look(&daemon);

    rows.iter_mut().for_each(|row| row.strike(&scene));
    wait_for(&daemon, &rows, "as expected", Subject::has_fallen);
    // What cannot be seen stays unseen for longer than any window of the others.
    let longest = detection(&TIMING, Failing::Silent, TIMING.timeout).worst;
    until("probes that see nothing", || (now() > rows.last()?.struck[1] + longest).then_some(()));
    assert!(scene.names_asked() > 0, "nobody asked for a name after it was gone");
    probes.look(&daemon);

    rows.iter_mut().for_each(|row| row.heal(&scene));
    wait_for(&daemon, &rows, "healthy again", Subject::has_risen);
    probes.look(&daemon);
    let changes = changes(&daemon);
    let mut faults = Faults::new();
    let mut seen = Vec::new();
    for row in &rows {
        match row.judge(&changes, &probes.of(&row.pool), &metronome) {
            Ok(row_seen) => seen.push(row_seen),
            Err(fault) => {
                faults.insert(format!("{} / {}", row.fault.words(), row.kind.words()), fault);
            }
        }
    }
    faults.extend(flap(&daemon, &mut rows));
    let spoilt = seen.iter().filter(|seen| seen.fell.is_some() && seen.rose.is_none()).count();
    if spoilt > rows.len() / 4 {
        faults.insert("the machine".to_owned(), format!("{spoilt} well backends did not get to answer in time"));
    }
    if faults.is_empty() {
        keep(&rows, &seen);
    }
    faults
}

/// A backend that is sick for so many probes and well for so many, in turn; and what becomes of its verdict.
struct Rhythm {
    sick: u64,
    well: u64,
    becomes: Becomes,
    /// Whose servers flap so.
    of: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    Stays,
    FallsOnce,
    Follows,
}

impl Becomes {
    const fn words(self) -> &'static str {
        match self {
            Becomes::Stays => "stays healthy: no run of failures is long enough",
            Becomes::FallsOnce => "unhealthy, and stays so: no run of passes is long enough",
            Becomes::Follows => "follows: unhealthy and healthy in turn",
        }
    }
}

const fn rhythm(sick: u64, well: u64, becomes: Becomes, of: Fault) -> Rhythm {
    Rhythm { sick, well, becomes, of }
}

/// With 3 failures in a row for a fall and 2 passes for a rise.
const RHYTHMS: [Rhythm; 5] = [
    rhythm(1, 1, Becomes::Stays, Fault::Refuses),
    rhythm(2, 1, Becomes::Stays, Fault::Drops),
    rhythm(2, 4, Becomes::Stays, Fault::HostGone),
    rhythm(3, 1, Becomes::FallsOnce, Fault::WrongBody),
    rhythm(3, 2, Becomes::Follows, Fault::Rejects),
];

/// Kinds that hear a backend say that it is sick, each probe in one conversation.
const FLAPPING: [Kind; 9] =
    [Kind::Http, Kind::Https, Kind::Http2, Kind::Grpc, Kind::GrpcTls, Kind::Steps, Kind::Agent, Kind::Udp, Kind::Dns];

/// All rhythms at once. Says what went otherwise than it should.
fn flap(daemon: &Daemon, rows: &mut [Subject]) -> Faults {
    let begun = now();
    let mut flapping: Vec<(&mut Subject, &Rhythm)> = rows
        .iter_mut()
        .filter(|row| FLAPPING.contains(&row.kind))
        .filter_map(|row| RHYTHMS.iter().find(|rhythm| rhythm.of == row.fault).map(|rhythm| (row, rhythm)))
        .collect();
    for (row, rhythm) in &mut flapping {
        row.flap(rhythm.sick, rhythm.well);
    }
    let count = |changes: &[Change], pool: &str, unhealthy| {
        changes
            .iter()
            .filter(|change| change.at > begun && change.pool == pool && change.unhealthy == unhealthy)
            .count()
    };
    // As many turns as show that nothing more comes of it.
    let mut last = 0;
    until("all rhythms to be heard", || {
        let changes = changes(daemon);
        let missing = flapping.iter().filter(|(row, rhythm)| {
            let heard = match rhythm.becomes {
                Becomes::Stays | Becomes::FallsOnce => row.asked() >= 20,
                Becomes::Follows => count(&changes, &row.pool, false) >= 3,
            };
            !heard
        });
        let missing = missing.count();
        if missing != last {
            last = missing;
            eprintln!("{missing} rhythms are not yet heard");
        }
        (missing == 0).then_some(())
    });
    let changes = changes(daemon);
    let wrong = flapping.iter().filter_map(|(row, rhythm)| {
        let (fell, rose) = (count(&changes, &row.pool, true), count(&changes, &row.pool, false));
        let right = match rhythm.becomes {
            Becomes::Stays => (fell, rose) == (0, 0),
            Becomes::FallsOnce => (fell, rose) == (1, 0),
            Becomes::Follows => fell == rose || fell == rose + 1,
        };
        // A machine that was too slow for a well backend to answer in time has played another rhythm.
        let slow = changes.iter().any(|it| it.at > begun && it.pool == row.pool && it.because.contains("timed out"));
        let Rhythm { sick, well, .. } = rhythm;
        let who = format!("flapping {sick}/{well} / {}", row.kind.words());
        (!right && !slow).then(|| (who, format!("it fell {fell} and rose {rose} times")))
    });
    wrong.collect()
}

fn rows(scene: &Scene<'_>) -> Vec<Subject> {
    let pairs = Fault::ALL.into_iter().flat_map(|fault| Kind::ALL.map(|kind| (kind, fault)));
    let real = pairs.filter(|(kind, fault)| !matches!(expected(*kind, *fault), Expected::NoSuch));
    real.enumerate().map(|(number, (kind, fault))| Subject::new(scene, number, kind, fault, TIMING)).collect()
}

const MEASURED: &str = "\n## Times of one run\n";

/// The words have to be those of the file; its times are those of the run that wrote it.
fn keep(rows: &[Subject], seen: &[Seen]) {
    let words = words(rows);
    let times = times(rows, seen);
    println!("{times}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/health-table.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&file, words + MEASURED + &times).expect("the project can be written");
    }
    let kept = fs::read_to_string(&file).expect("docs/health-table.md is there; UPDATE_GOLDEN=1 writes it");
    let kept = kept.split_once(MEASURED).map_or(kept.as_str(), |(kept, _)| kept);
    assert_eq!(kept, words, "docs/health-table.md says something else; UPDATE_GOLDEN=1 writes it anew");
}

fn words(rows: &[Subject]) -> String {
    let mut text = HEAD.to_owned();
    for fault in Fault::ALL {
        let _ = write!(text, "\n## {}\n\n| probe | verdict | evidence |\n|---|---|---|\n", fault.words());
        for row in rows.iter().filter(|row| row.fault == fault) {
            let probe = row.kind.words();
            let _ = match row.expected {
                Expected::Falls(evidence, _) => {
                    let told: Vec<String> = evidence.iter().map(|told| format!("`{told}`")).collect();
                    writeln!(text, "| {probe} | unhealthy | {} |", told.join(" or "))
                }
                Expected::Stays(why) => writeln!(text, "| {probe} | stays healthy | none: {why} |"),
                Expected::NoSuch => Ok(()),
            };
        }
    }
    let kinds: Vec<&str> = FLAPPING.iter().map(|kind| kind.words()).collect();
    let _ = write!(
        text,
        "\n## Flapping\n\nWith `unhealthy_threshold = {}` and `healthy_threshold = {}`, the same for {}.\n\n\
         | failing probes, passing probes, and so on | verdict |\n|---|---|\n",
        TIMING.unhealthy_threshold,
        TIMING.healthy_threshold,
        kinds.join("; "),
    );
    for Rhythm { sick, well, becomes, .. } in &RHYTHMS {
        let _ = writeln!(text, "| {sick}, {well} | {} |", becomes.words());
    }
    text
}

const HEAD: &str = "\
# Failures and the probes that see them

What each kind of probe makes of each kind of failure: the verdict, and what the last probe of the run says, as the event
`backend.unhealthy` has it. Made by `tests/e2e/health_table.rs` (root), which strikes a real backend for every row,
demands this verdict and these words, and that verdict and recovery come inside the computed window.

A pair that is not here does not exist: a udp service has no connection to reset. Where the verdict stays, the probe cannot
see the failure; choose another kind, or add a second check to the pool.
";

fn times(rows: &[Subject], seen: &[Seen]) -> String {
    let timing = format!(
        "Check: timeout {}, interval {}, healthy after {}, unhealthy after {}.",
        millis(TIMING.timeout),
        millis(TIMING.interval),
        TIMING.healthy_threshold,
        TIMING.unhealthy_threshold
    );
    let mut text = format!(
        "\n{timing} All rows were probed and struck at once, by one daemon built for debugging, on two shared cores.\n\
         Observed: from the end of the command that struck or healed to the verdict. Computed: best and worst of\n\
         `health::window`, for probes that take as long as they were seen to take. Allowed beyond it: what the machine\n\
         itself was late by (`tests/e2e/health_times.rs`).\n\n\
         | failure | probe | unhealthy after | computed | healthy after | computed | allowed beyond | void |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for (row, seen) in rows.iter().zip(seen) {
        let (Some((fell, down)), Some((rose, up))) = (seen.fell, seen.rose) else { continue };
        let fault = row.fault.words().split(':').next().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {fault} | {} | {} | {down} | {} | {up} | {} | {} |",
            row.kind.words(),
            millis(fell.took),
            millis(rose.took),
            millis(fell.allowed.max(rose.allowed)),
            seen.void
        );
    }
    text
}
