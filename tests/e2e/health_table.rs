//! Failure kinds by probe kinds: what each probe must see of each failure, what it says, and in what time.
//!
//! One daemon probes a backend for every row, all at once. Every row is well, then struck, then healed, and has to change
//! its verdict inside the window that `health::window` computes for it, or to keep it where the probe cannot see the
//! failure. What must be seen is in [`expected`], which asks for a word on every pair of kinds. `docs/health-table.md` is
//! made of it; `UPDATE_GOLDEN=1` writes that file anew, with the times of that run.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::{Failing, Span, detection, recovery};

use crate::daemon::{Daemon, Folder, Setup, has, skipped, until};
use crate::health_expected::{Expected, Fault, Kind, Took, expected};
use crate::health_servers::{Keys, Mood, Server};
use crate::health_times::{
    Bounds, Change, Lasted, Metronome, Observed, Probes, Within, changes, first, last, millis, now,
};
use crate::lab::{Lab, run};

const TIMING: Timing = Timing::new(Duration::from_secs(1), Duration::from_millis(400), 2, 3);

impl Took {
    /// The quickest and the slowest a failing probe may end, where such probes were seen to take so long.
    const fn failing(self, lasted: &Lasted) -> [Failing; 2] {
        match self {
            Took::NoTime => [Failing::Refused, Failing::After(lasted.failed)],
            Took::Timeout => [Failing::Silent, Failing::Silent],
            Took::Between => [Failing::Refused, Failing::Silent],
        }
    }

    /// From the best that the quickest allows to the worst of the slowest.
    fn bounds(self, span: fn(&Timing, Failing, Duration) -> Span, lasted: &Lasted) -> Bounds {
        let [quick, slow] = self.failing(lasted);
        // A probe that was under way makes a fall shorter, and one that takes its time makes a rise longer.
        let best = span(&TIMING, quick, Duration::ZERO).best.min(span(&TIMING, quick, lasted.passed).best);
        Bounds { best, worst: span(&TIMING, slow, lasted.passed).worst }
    }
}

/// One pair: a pool of one backend, and its server.
struct Row {
    kind: Kind,
    fault: Fault,
    expected: Expected,
    pool: String,
    address: SocketAddr,
    server: Option<Server>,
    /// When it was struck, and when it was healed: before and behind the command.
    struck: [Duration; 2],
    healed: [Duration; 2],
}

/// What was seen of a row, for the table of times.
struct Seen {
    fell: Option<(Within, Bounds)>,
    rose: Option<(Within, Bounds)>,
    void: u64,
}

#[test]
fn every_probe_sees_the_failures_it_can_see_within_its_window_and_says_what_it_saw() {
    const TEST: &str = "every_probe_sees_the_failures_it_can_see_within_its_window_and_says_what_it_saw";
    if !has("curl") {
        return skipped(TEST, "curl");
    }
    let Some(lab) = Lab::build(TEST) else { return };
    // A kernel answers one host with some ICMP errors a second; here are many firewalls on one host.
    for name in ["icmp_ratelimit", "icmp_msgs_per_sec"] {
        let value = if name == "icmp_ratelimit" { "0" } else { "100000" };
        run(&["ip", "netns", "exec", &lab.back, "sysctl", "-qw", &format!("net.ipv4.{name}={value}")]);
    }
    // Or it would take three seconds to be sure that a neighbour is gone.
    run(&["ip", "netns", "exec", &lab.front, "sysctl", "-qw", "net.ipv4.neigh.veth0.retrans_time_ms=50"]);
    lab.on_front(|| play(&lab));
}

fn play(lab: &Lab) {
    let keys = Keys::new("health-table");
    let folder = Folder::new("health-table-program");
    let program = folder.0.join("probe");
    fs::write(&program, "#!/bin/sh\nexec curl -fs -o /dev/null http://$EVENKEEL_ADDRESS:$EVENKEEL_PORT/health\n")
        .expect("the folder can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut rows = rows(lab, &keys);
    let mut body = "[[listener]]\nlisten = \"10.98.0.1:80\"\nprotocol = \"tcp\"\npool = \"http-refuses\"\n".to_owned();
    for row in &rows {
        let _ = write!(
            body,
            "[[pool]]\nname = \"{}\"\nbackends = [\"{}\"]\ncheck = {{ timeout = \"{}ms\", interval = \"{}ms\", \
             healthy_threshold = {}, unhealthy_threshold = {}, {} }}\n",
            row.pool,
            row.address,
            TIMING.timeout.as_millis(),
            TIMING.interval.as_millis(),
            TIMING.healthy_threshold,
            TIMING.unhealthy_threshold,
            row.kind.keys(&keys, &program),
        );
    }
    let namespace = Some(lab.front.as_str());
    let daemon =
        Daemon::start_with(&Setup { name: "health-table", node: "allow_commands = true", body: &body, namespace });
    let metronome = Metronome::start();
    wait_for(&daemon, &rows, "healthy", |row, changes| last(changes, &row.pool).is_some_and(|last| !last.unhealthy));
    let mut probes = Probes::default();
    probes.look(&daemon);

    strike(lab, &mut rows);
    wait_for(&daemon, &rows, "as expected", |row, changes| match row.expected {
        Expected::Falls(..) => first(changes, &row.pool, true, row.struck[0]).is_some(),
        Expected::Stays(_) | Expected::NoSuch => true,
    });
    // What cannot be seen stays unseen for longer than any window of the others.
    let longest = detection(&TIMING, Failing::Silent, TIMING.timeout).worst;
    until("probes that see nothing", || (now() > rows.last()?.struck[1] + longest).then_some(()));
    probes.look(&daemon);

    heal(lab, &mut rows);
    wait_for(&daemon, &rows, "healthy again", |row, changes| match row.expected {
        Expected::Falls(..) => first(changes, &row.pool, false, row.healed[0]).is_some(),
        Expected::Stays(_) | Expected::NoSuch => true,
    });

    probes.look(&daemon);
    let changes = changes(&daemon);
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    for row in &rows {
        match judge(row, &changes, &probes.of(&row.pool), &metronome) {
            Ok(row_seen) => seen.push(row_seen),
            Err(fault) => faults.push(format!("{} / {}: {fault}", row.fault.words(), row.kind.words())),
        }
    }
    faults.extend(flap(&daemon, &mut rows));
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
    keep(&rows, &seen);
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
fn flap(daemon: &Daemon, rows: &mut [Row]) -> Vec<String> {
    let begun = now();
    let mut flapping: Vec<(&mut Row, &Rhythm)> = rows
        .iter_mut()
        .filter(|row| FLAPPING.contains(&row.kind))
        .filter_map(|row| RHYTHMS.iter().find(|rhythm| rhythm.of == row.fault).map(|rhythm| (row, rhythm)))
        .collect();
    for (row, rhythm) in &mut flapping {
        if let Some(server) = &mut row.server {
            server.be(Mood::Turns { sick: rhythm.sick, well: rhythm.well });
        }
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
            let asked = row.server.as_ref().map_or(0, Server::asked);
            let heard = match rhythm.becomes {
                Becomes::Stays | Becomes::FallsOnce => asked >= 20,
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
        let what = format!("flapping {sick}/{well} / {}: it fell {fell} and rose {rose} times", row.kind.words());
        (!right && !slow).then_some(what)
    });
    wrong.collect()
}

fn rows(lab: &Lab, keys: &Arc<Keys>) -> Vec<Row> {
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Icmp)) {
            let expected = expected(kind, fault);
            if matches!(expected, Expected::NoSuch) {
                continue;
            }
            let last = 20 + u8::try_from(rows.len()).expect("a net has room for them");
            let address = SocketAddr::from(([10, 98, 0, last], 8000));
            run(&["ip", "-n", &lab.back, "addr", "add", &format!("{}/24", address.ip()), "dev", "veth0"]);
            let server = kind.server().map(|speaks| Server::start(lab, keys, speaks, address));
            let pool = format!("{kind:?}-{fault:?}").to_lowercase();
            let never = [Duration::ZERO; 2];
            rows.push(Row { kind, fault, expected, pool, address, server, struck: never, healed: never });
        }
    }
    rows
}

/// Waits until `there` holds for every row, and names those for which it does not.
fn wait_for(daemon: &Daemon, rows: &[Row], what: &str, there: impl Fn(&Row, &[Change]) -> bool) {
    let mut last = 0;
    until(&format!("all rows to be {what}"), || {
        let changes = changes(daemon);
        let missing: Vec<&str> = rows.iter().filter(|row| !there(row, &changes)).map(|row| row.pool.as_str()).collect();
        if missing.len() != last {
            last = missing.len();
            eprintln!("{last} rows are not yet {what}: {}", missing.join(" "));
        }
        missing.is_empty().then_some(())
    });
}

fn timed(act: impl FnOnce()) -> [Duration; 2] {
    let begun = now();
    act();
    [begun, now()]
}

fn strike(lab: &Lab, rows: &mut [Row]) {
    for row in rows.iter_mut() {
        row.struck = timed(|| match (row.fault.mood(), &mut row.server) {
            (Some(mood), Some(server)) => server.be(mood),
            _ => {}
        });
    }
    let rules: String = rows
        .iter()
        .filter_map(|row| {
            let what = match row.fault {
                Fault::Drops => "drop",
                Fault::Rejects => "reject with icmp type admin-prohibited",
                _ => return None,
            };
            Some(format!("add rule inet t c ip daddr {} {what}\n", row.address.ip()))
        })
        .collect();
    let by_firewall = timed(|| nft_all(&lab.back, &rules));
    let gone: String = rows
        .iter()
        .filter(|row| row.fault == Fault::HostGone)
        .map(|row| format!("addr del {}/24 dev veth0\n", row.address.ip()))
        .collect();
    let forgotten: String = rows
        .iter()
        .filter(|row| row.fault == Fault::HostGone)
        .map(|row| format!("neigh del {} dev veth0\n", row.address.ip()))
        .collect();
    let by_wire = timed(|| {
        ip_all(&lab.back, &gone);
        ip_all(&lab.front, &forgotten);
    });
    for row in rows {
        match row.fault {
            Fault::Drops | Fault::Rejects => row.struck = by_firewall,
            Fault::HostGone => row.struck = by_wire,
            _ => {}
        }
    }
}

fn heal(lab: &Lab, rows: &mut [Row]) {
    let back: String = rows
        .iter()
        .filter(|row| row.fault == Fault::HostGone)
        .map(|row| format!("addr add {}/24 dev veth0\n", row.address.ip()))
        .collect();
    let by_wire = timed(|| ip_all(&lab.back, &back));
    let by_firewall = timed(|| lab.open_firewall());
    for row in rows.iter_mut() {
        row.healed = match row.fault {
            Fault::Drops | Fault::Rejects => by_firewall,
            Fault::HostGone => by_wire,
            _ => timed(|| {
                if let Some(server) = &mut row.server {
                    server.be(Mood::Well);
                }
            }),
        };
    }
}

/// Many commands of `nft` or `ip` at once, given line by line.
fn nft_all(namespace: &str, lines: &str) {
    fed(Command::new("ip").args(["netns", "exec", namespace, "nft", "-f", "-"]), lines);
}

fn ip_all(namespace: &str, lines: &str) {
    fed(Command::new("ip").args(["-n", namespace, "-force", "-batch", "-"]).stderr(Stdio::null()), lines);
}

fn fed(command: &mut Command, lines: &str) {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the lab uses it too");
    child.stdin.take().expect("stdin is piped").write_all(lines.as_bytes()).expect("it reads its commands");
    child.wait().expect("it is our child");
}

/// Compares what was seen of a row with what must be.
fn judge(row: &Row, changes: &[Change], lasted: &Lasted, metronome: &Metronome) -> Result<Seen, String> {
    let void = lasted.void;
    let fell = first(changes, &row.pool, true, row.struck[0]);
    let (evidence, took) = match row.expected {
        Expected::Falls(evidence, took) => (evidence, took),
        Expected::Stays(_) | Expected::NoSuch => {
            return match fell {
                Some(fell) => Err(format!("it fell, and was to stay: {}", fell.because)),
                None => Ok(Seen { fell: None, rose: None, void }),
            };
        }
    };
    let fell = fell.ok_or("it never fell")?;
    let rose = first(changes, &row.pool, false, row.healed[0]).ok_or("it never rose again")?;
    if !evidence.iter().any(|expected| fell.last_finding() == *expected) {
        return Err(format!("its evidence is \"{}\", and one of {evidence:?} is expected", fell.last_finding()));
    }
    let bounds = took.bounds(detection, lasted);
    let down = Observed { begun: row.struck[0], done: row.struck[1], verdict: fell, void };
    let down = (down.within(&bounds, &TIMING, TIMING.unhealthy_threshold, metronome)?, bounds);
    let bounds = took.bounds(recovery, lasted);
    let up = Observed { begun: row.healed[0], done: row.healed[1], verdict: rose, void };
    let up = (up.within(&bounds, &TIMING, TIMING.healthy_threshold, metronome)?, bounds);
    Ok(Seen { fell: Some(down), rose: Some(up), void })
}

const MEASURED: &str = "\n## Times of one run\n";

/// The words have to be those of the file; its times are those of the run that wrote it.
fn keep(rows: &[Row], seen: &[Seen]) {
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

fn words(rows: &[Row]) -> String {
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

fn times(rows: &[Row], seen: &[Seen]) -> String {
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
