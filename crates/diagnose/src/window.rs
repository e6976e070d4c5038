//! How long each pool takes to notice that a backend fails, and that it is back.
//!
//! The arithmetic is `health`'s; this file asks it for each pool of a plan and prints the answer. It also knows
//! what arithmetic alone does not: a udp check whose verdict rests on silence never notices a silent
//! backend, and its good probes take the whole timeout.

use std::fmt::Write;
use std::time::Duration;

use evenkeel_health::settings::{CheckSettings, ProbeSettings, Silence, Timing, UdpProbe};
use evenkeel_health::window::{self, Failing, Span};
use evenkeel_plan::Plan;
use serde::Serialize;

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    pub pool: String,
    /// `None` when the check is off: nothing is ever noticed.
    pub check: Option<CheckWindows>,
}

/// What a pool's check can promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckWindows {
    /// `http`, `tcp` or `udp`.
    pub kind: &'static str,
    pub timing: Timing,
    /// How long the probe of a healthy backend is taken to last: nothing, unless it waits for silence.
    pub response: Duration,
    /// From the failure of a backend whose host refuses to its verdict.
    pub refused: Span,
    /// The same for one that falls silent; `None` when the check takes silence for health or for
    /// nothing at all.
    pub silent: Option<Span>,
    /// From the return of a backend that refused to its verdict.
    pub recovery_from_refused: Span,
    pub recovery_from_silent: Option<Span>,
}

/// A row for each pool, in the order of the plan.
pub fn table(plan: &Plan) -> Vec<WindowRow> {
    let row = |pool: &evenkeel_plan::Pool| WindowRow {
        pool: pool.name.to_string(),
        check: pool.checks.first().map(|check| CheckWindows::of(&check.settings)),
    };
    plan.pools.iter().map(|pool| row(pool)).collect()
}

impl CheckWindows {
    fn of(check: &CheckSettings) -> Self {
        let timing = check.timing;
        let (response, silence_fails) = match &check.probe {
            ProbeSettings::Udp(UdpProbe { expect: Some(_), .. }) => (Duration::ZERO, true),
            ProbeSettings::Udp(UdpProbe { expect: None, silence, .. }) => match silence {
                Silence::Pass => (timing.timeout, false),
                Silence::Keep => (Duration::ZERO, false),
                Silence::Fail => (Duration::ZERO, true),
            },
            _ => (Duration::ZERO, true),
        };
        let silent = |span: fn(&Timing, Failing, Duration) -> Span| {
            silence_fails.then(|| span(&timing, Failing::Silent, response))
        };
        CheckWindows {
            kind: check.probe.kind().word(),
            timing,
            response,
            refused: window::detection(&timing, Failing::Refused, response),
            silent: silent(window::detection),
            recovery_from_refused: window::recovery(&timing, Failing::Refused, response),
            recovery_from_silent: silent(window::recovery),
        }
    }

    fn lines(&self) -> [(&'static str, Option<Span>); 4] {
        [
            ("refuses  -> unhealthy", Some(self.refused)),
            ("silent   -> unhealthy", self.silent),
            ("back after refusing -> healthy", Some(self.recovery_from_refused)),
            ("back after silence  -> healthy", self.recovery_from_silent),
        ]
    }
}

/// `evenkeel window FILE`.
pub fn text(rows: &[WindowRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let Some(check) = &row.check else {
            let _ = writeln!(text, "pool \"{}\": the check is off; a failed backend is never noticed\n", row.pool);
            continue;
        };
        let Timing { timeout, interval, healthy_threshold, unhealthy_threshold, .. } = check.timing;
        let _ = writeln!(
            text,
            "pool \"{}\": {} probe, timeout {}, interval {}, unhealthy after {unhealthy_threshold}, healthy after {healthy_threshold}",
            row.pool,
            check.kind,
            Seconds(timeout),
            Seconds(interval),
        );
        let _ = writeln!(text, "  {:<32}{:>10}{:>10}{:>10}", "a backend that", "best", "typical", "worst");
        for (what, span) in check.lines() {
            let _ = match span {
                Some(Span { best, typical, worst }) => {
                    let [best, typical, worst] = [best, typical, worst].map(|time| Seconds(time).to_string());
                    writeln!(text, "  {what:<32}{best:>10}{typical:>10}{worst:>10}")
                }
                None => writeln!(text, "  {what:<32}{:>10}{:>10}{:>10}", "never", "never", "never"),
            };
        }
        text.push('\n');
    }
    text.push_str(NOTE);
    text
}

const NOTE: &str = "\
Times run from the moment it happens to the verdict. Best: just before a probe would have noticed; worst: just after.
Healthy backends are taken to answer at once; a response time r adds up to r to detection and r x the healthy
threshold to recovery. A probe that we served late is void and repeated, and adds one interval.
\"never\": the check takes silence for health, or for nothing; set `expect` or `silence = \"fail\"` to notice it.
";

/// `evenkeel window FILE --json`: the rows, times in milliseconds, `null` for never.
pub fn json(rows: &[WindowRow]) -> String {
    let rows: Vec<JsonRow<'_>> = rows.iter().map(JsonRow::from).collect();
    serde_json::to_string_pretty(&rows).expect("texts and numbers always have a JSON form")
}

#[derive(Serialize)]
struct JsonRow<'a> {
    pool: &'a str,
    check: Option<JsonCheck>,
}

#[derive(Serialize)]
struct JsonCheck {
    kind: &'static str,
    timeout_ms: f64,
    interval_ms: f64,
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    response_ms: f64,
    refused: Option<JsonSpan>,
    silent: Option<JsonSpan>,
    recovery_from_refused: Option<JsonSpan>,
    recovery_from_silent: Option<JsonSpan>,
}

#[derive(Serialize)]
struct JsonSpan {
    best_ms: f64,
    typical_ms: f64,
    worst_ms: f64,
}

impl<'a> From<&'a WindowRow> for JsonRow<'a> {
    fn from(row: &'a WindowRow) -> Self {
        let check = row.check.as_ref().map(|check| JsonCheck {
            kind: check.kind,
            timeout_ms: millis(check.timing.timeout),
            interval_ms: millis(check.timing.interval),
            unhealthy_threshold: check.timing.unhealthy_threshold,
            healthy_threshold: check.timing.healthy_threshold,
            response_ms: millis(check.response),
            refused: Some(check.refused.into()),
            silent: check.silent.map(JsonSpan::from),
            recovery_from_refused: Some(check.recovery_from_refused.into()),
            recovery_from_silent: check.recovery_from_silent.map(JsonSpan::from),
        });
        JsonRow { pool: &row.pool, check }
    }
}

impl From<Span> for JsonSpan {
    fn from(span: Span) -> Self {
        JsonSpan { best_ms: millis(span.best), typical_ms: millis(span.typical), worst_ms: millis(span.worst) }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// A time as an operator writes it: `19s`, `4.5s`, `250ms`.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis();
        if millis > 0 && millis < 1000 {
            return write!(f, "{millis}ms");
        }
        let tail = format!("{:03}", millis % 1000);
        match tail.trim_end_matches('0') {
            "" => write!(f, "{}s", millis / 1000),
            tail => write!(f, "{}.{tail}s", millis / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_health::pattern::{Covers, Pattern};
    use std::sync::Arc;

    use evenkeel_health::settings::TcpProbe;

    use evenkeel_plan::{AccessLog, Check, Node, Pool};

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn plan(checks: Vec<(&str, Option<(ProbeSettings, Timing)>)>) -> Plan {
        let pool = |(name, check): (&str, Option<(ProbeSettings, Timing)>)| {
            let check = check.map(|(probe, timing)| Check {
                name: probe.kind().word().into(),
                settings: Arc::new(CheckSettings { probe, timing, sources: Default::default() }),
            });
            Arc::new(Pool { checks: check.into_iter().collect(), ..Pool::with_defaults(name) })
        };
        let node = Node {
            workers: 1,
            connections: 0,
            drain_timeout: secs(30),
            access_log: AccessLog::Off,
            cluster: None,
            sticky_secret: None,
            hold_on_suspicion: None,
            state: None,
            hooks: Vec::new(),
            resolver: evenkeel_plan::Resolver::default(),
        };
        Plan {
            node,
            admin: None,
            listeners: Vec::new(),
            pools: checks.into_iter().map(pool).collect(),
            backends: Vec::new(),
            targets: Vec::new(),
            names: Vec::new(),
        }
    }

    const TCP: Timing = Timing::new(secs(5), secs(2), 3, 3);
    const UDP: Timing = Timing::new(secs(10), secs(5), 3, 3);

    fn tcp() -> ProbeSettings {
        ProbeSettings::Tcp(TcpProbe::HalfOpen)
    }

    fn udp(expect: Option<&[u8]>, silence: Silence) -> ProbeSettings {
        ProbeSettings::Udp(UdpProbe {
            send: Vec::new(),
            expect: expect.map(|expected| Pattern::literal(expected, Covers::Whole)),
            silence,
            ..UdpProbe::default()
        })
    }

    #[test]
    fn the_table_reads_like_this() {
        let rows = table(&plan(vec![
            ("web", Some((tcp(), TCP))),
            ("dns", Some((udp(None, Silence::Pass), UDP))),
            ("batch", None),
        ]));
        let expected = "\
pool \"web\": tcp probe, timeout 5s, interval 2s, unhealthy after 3, healthy after 3
  a backend that                        best   typical     worst
  refuses  -> unhealthy                   4s        5s        6s
  silent   -> unhealthy                  19s       20s       21s
  back after refusing -> healthy          4s        5s        6s
  back after silence  -> healthy          4s      7.5s       11s

pool \"dns\": udp probe, timeout 10s, interval 5s, unhealthy after 3, healthy after 3
  a backend that                        best   typical     worst
  refuses  -> unhealthy                  10s     17.5s       25s
  silent   -> unhealthy                never     never     never
  back after refusing -> healthy         40s     42.5s       45s
  back after silence  -> healthy       never     never     never

pool \"batch\": the check is off; a failed backend is never noticed

";
        assert_eq!(text(&rows), format!("{expected}{NOTE}"));
    }

    #[test]
    fn silence_is_noticed_only_where_it_fails() {
        let table = [
            (udp(None, Silence::Pass), false),
            (udp(None, Silence::Keep), false),
            (udp(None, Silence::Fail), true),
            // With an expectation silence always fails, whatever `silence` says.
            (udp(Some(b"pong"), Silence::Pass), true),
            (tcp(), true),
        ];
        for (probe, noticed) in table {
            let rows = super::table(&plan(vec![("p", Some((probe.clone(), UDP)))]));
            let check = rows[0].check.as_ref().unwrap();
            assert_eq!(check.silent.is_some(), noticed, "{probe:?}");
            assert_eq!(check.recovery_from_silent.is_some(), noticed, "{probe:?}");
        }
    }

    #[test]
    fn json_has_milliseconds_and_null_for_never() {
        let half = Timing { timeout: Duration::from_micros(12_500), ..TCP };
        let rows = table(&plan(vec![
            ("quick", Some((tcp(), half))),
            ("dns", Some((udp(None, Silence::Pass), UDP))),
            ("batch", None),
        ]));
        let json: serde_json::Value = serde_json::from_str(&json(&rows)).unwrap();
        assert_eq!(json[0]["check"]["timeout_ms"], 12.5);
        assert_eq!(json[0]["check"]["refused"]["worst_ms"], 6000.0);
        assert_eq!(json[1]["check"]["silent"], serde_json::Value::Null);
        assert_eq!(json[2]["check"], serde_json::Value::Null);
    }

    #[test]
    fn times_are_written_as_an_operator_writes_them() {
        let table = [(0, "0s"), (1, "1ms"), (250, "250ms"), (4500, "4.5s"), (19_000, "19s"), (61_005, "61.005s")];
        for (millis, expected) in table {
            assert_eq!(Seconds(Duration::from_millis(millis)).to_string(), expected);
        }
    }
}
