//! The windows as a table for people.
//!
//! A pool of one check reads as if there were no other way; only where there are several is each named, with what they
//! promise together below.

use std::fmt::Write;
use std::time::Duration;

use evenkeel_health::settings::Timing;
use evenkeel_health::window::Span;

use super::{CheckWindows, Fault, PoolWindows, Row, Seen, Transition};

/// `evenkeel window FILE`.
pub fn text(pools: &[PoolWindows], seen: &Seen) -> String {
    let mut text = String::new();
    for pool in pools {
        match &pool.checks[..] {
            [] => {
                let _ = writeln!(text, "pool \"{}\": the check is off; a failed backend is never noticed", pool.pool);
            }
            [check] => {
                let _ = writeln!(text, "pool \"{}\": {}", pool.pool, settings(check));
                rows(&mut text, &check.rows);
            }
            checks => {
                for check in checks {
                    let _ = writeln!(text, "pool \"{}\", check \"{}\": {}", pool.pool, check.name, settings(check));
                    rows(&mut text, &check.rows);
                }
                let _ = writeln!(text, "pool \"{}\", its {} checks together", pool.pool, checks.len());
                rows(&mut text, &pool.together);
            }
        }
        if let Ok(transitions) = &seen.transitions {
            let of_pool = || transitions.iter().filter(|transition| transition.pool == pool.pool);
            if of_pool().next().is_some() {
                text.push_str("  seen on the running node\n");
                of_pool().take(SHOWN).for_each(|one| transition(&mut text, one, pool.checks.len()));
            }
        }
        text.push('\n');
    }
    text.push_str(NOTE);
    let node = seen.node.as_deref().unwrap_or("the running node");
    let _ = match &seen.transitions {
        Ok(transitions) if transitions.is_empty() => {
            writeln!(text, "{node} has seen no run of probes change a verdict lately.")
        }
        Ok(_) => {
            writeln!(text, "Seen: from the start of the first probe of the run to the verdict, as {node} tells it.")
        }
        Err(why) => writeln!(text, "What a running node has seen is not here: {why}."),
    };
    text
}

/// Transitions of one pool.
const SHOWN: usize = 6;

fn settings(check: &CheckWindows) -> String {
    let Timing { timeout, interval, unhealthy_interval, transition_interval, jitter, trust_traffic, .. } = check.timing;
    let Timing { healthy_threshold, unhealthy_threshold, .. } = check.timing;
    let mut text = format!("{} probe, timeout {}, interval {}", check.kind, Seconds(timeout), Seconds(interval));
    if transition_interval != interval {
        let _ = write!(text, " ({} in transition)", Seconds(transition_interval));
    }
    if unhealthy_interval != interval {
        let _ = write!(text, " ({} while unhealthy)", Seconds(unhealthy_interval));
    }
    if let Some(trusted) = trust_traffic {
        let _ = write!(text, " ({} while traffic passes)", Seconds(trusted));
    }
    if jitter > 0 {
        let _ = write!(text, ", jitter {jitter} %");
    }
    let _ = write!(text, ", unhealthy after {unhealthy_threshold}, healthy after {healthy_threshold}");
    text
}

fn rows(text: &mut String, rows: &[Row; 3]) {
    let _ = writeln!(text, "  {:<36}{:>10}{:>10}{:>10}", "a backend that", "best", "typical", "worst");
    for row in rows {
        let what = match row.fault {
            Fault::Refuses => "refuses -> unhealthy",
            Fault::Silent => "is silent -> unhealthy",
            Fault::AnswersWrongly => "answers wrongly -> unhealthy",
        };
        line(text, what, row.detection);
        if row.detection_in_traffic.is_some() {
            line(text, "  the same while its traffic passes", row.detection_in_traffic);
        }
    }
    for row in rows {
        let what = match row.fault {
            Fault::Refuses => "is back after refusing -> healthy",
            Fault::Silent => "is back after silence -> healthy",
            Fault::AnswersWrongly => "answers rightly again -> healthy",
        };
        line(text, what, row.recovery);
    }
}

fn line(text: &mut String, what: &str, span: Option<Span>) {
    let never = || "never".to_owned();
    let [best, typical, worst] = match span {
        Some(Span { best, typical, worst }) => [best, typical, worst].map(|time| Seconds(time).to_string()),
        None => [never(), never(), never()],
    };
    let _ = writeln!(text, "  {what:<36}{best:>10}{typical:>10}{worst:>10}");
}

fn transition(text: &mut String, seen: &Transition, checks: usize) {
    let Transition { at, backend, to, probes, void, .. } = seen;
    let _ = write!(text, "    {at}  {backend} {to}");
    // Where there is but one check its name says nothing.
    if let Some(check) = seen.check.as_ref().filter(|_| checks > 1) {
        let _ = write!(text, " by check \"{check}\"");
    }
    let _ = write!(text, " after {probes} {}", if *probes == 1 { "probe" } else { "probes" });
    if let (Some(window), Some(computed)) = (seen.window, seen.computed) {
        let _ = write!(text, " in {}, computed {}", Seconds(window), Seconds(computed));
    }
    if *void > 0 {
        let _ = write!(text, ", {void} void in between");
    }
    text.push('\n');
}

const NOTE: &str = "\
Times run from the moment it happens to the verdict. Best: just before a probe would have noticed; worst: just after.
Healthy backends are taken to answer at once, or as `--response` says; so are wrong answers.
A probe that we served late is void and repeated, and adds one gap.
\"never\": the check cannot see it, or takes silence for health; another kind, `expect` or `silence = \"fail\"` would.
";

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
    use super::super::tests::{TCP, UDP, check, http, plan, secs, tcp, transition, udp};
    use super::super::{Seen, table};
    use super::*;
    use evenkeel_health::settings::Silence;

    fn unasked() -> Seen {
        Seen { node: None, transitions: Err("nobody was asked".to_owned()) }
    }

    #[test]
    fn the_table_reads_like_this() {
        let pools = table(
            &plan(vec![
                ("web", vec![check("tcp", tcp(), TCP)]),
                ("dns", vec![check("udp", udp(None, Silence::Pass), UDP)]),
                ("batch", Vec::new()),
            ]),
            Duration::ZERO,
        );
        let expected = "\
pool \"web\": tcp probe, timeout 5s, interval 2s, unhealthy after 3, healthy after 3
  a backend that                            best   typical     worst
  refuses -> unhealthy                        4s        5s        6s
  is silent -> unhealthy                     19s       20s       21s
  answers wrongly -> unhealthy             never     never     never
  is back after refusing -> healthy           4s        5s        6s
  is back after silence -> healthy            4s      7.5s       11s
  answers rightly again -> healthy         never     never     never

pool \"dns\": udp probe, timeout 10s, interval 5s, unhealthy after 3, healthy after 3
  a backend that                            best   typical     worst
  refuses -> unhealthy                       10s     17.5s       25s
  is silent -> unhealthy                   never     never     never
  answers wrongly -> unhealthy             never     never     never
  is back after refusing -> healthy          40s     42.5s       45s
  is back after silence -> healthy         never     never     never
  answers rightly again -> healthy         never     never     never

pool \"batch\": the check is off; a failed backend is never noticed

";
        let end = "What a running node has seen is not here: nobody was asked.\n";
        assert_eq!(text(&pools, &unasked()), format!("{expected}{NOTE}{end}"));
    }

    #[test]
    fn several_checks_are_named_and_added_up_and_gaps_that_differ_are_told() {
        let by_state = Timing {
            transition_interval: Duration::from_millis(500),
            unhealthy_interval: secs(10),
            trust_traffic: Some(secs(30)),
            jitter: 10,
            ..TCP
        };
        let checks = vec![check("login", http(), by_state), check("port", tcp(), TCP)];
        let text = text(&table(&plan(vec![("shop", checks)]), Duration::ZERO), &unasked());
        let expected = "\
pool \"shop\", check \"login\": http probe, timeout 5s, interval 2s (500ms in transition) (10s while unhealthy) (30s while traffic passes), jitter 10 %, unhealthy after 3, healthy after 3
  a backend that                            best   typical     worst
  refuses -> unhealthy                     900ms        2s      3.3s
    the same while its traffic passes      900ms       16s     34.1s
";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("\npool \"shop\", check \"port\": tcp probe, timeout 5s, interval 2s, unhealthy"),
            "{text}"
        );
        let together = text.split("pool \"shop\", its 2 checks together\n").nth(1).expect("they are added up");
        let lines: Vec<&str> = together.lines().skip(1).take(2).collect();
        let expected = [
            "  refuses -> unhealthy                     900ms        2s      3.3s",
            "    the same while its traffic passes      900ms        5s        6s",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_a_node_has_seen_stands_below_its_pool() {
        let web = || transition("web", "10.0.0.1:80".parse().unwrap());
        let late = Transition { check: Some("login".to_owned()), void: 2, ..web() };
        let gone = transition("gone", "10.0.0.9:80".parse().unwrap());
        let node = Some("127.0.0.1:9900".to_owned());
        let seen = Seen { node: node.clone(), transitions: Ok(vec![web(), late, gone]) };
        let both = vec![check("login", http(), TCP), check("tcp", tcp(), TCP)];
        let pools = table(&plan(vec![("web", both)]), Duration::ZERO);
        let told = text(&pools, &seen);
        let lines = "  seen on the running node
    2026-03-01T12:00:04.000Z  10.0.0.1:80 unhealthy after 3 probes in 4.012s, computed 4.01s
    2026-03-01T12:00:04.000Z  10.0.0.1:80 unhealthy by check \"login\" after 3 probes in 4.012s, computed 4.01s, 2 void in between

";
        assert!(told.contains(lines) && !told.contains("10.0.0.9"), "{told}");
        assert!(told.ends_with("to the verdict, as 127.0.0.1:9900 tells it.\n"), "{told}");
        let told = text(&pools, &Seen { node, transitions: Ok(Vec::new()) });
        assert!(told.ends_with("127.0.0.1:9900 has seen no run of probes change a verdict lately.\n"), "{told}");
    }

    #[test]
    fn times_are_written_as_an_operator_writes_them() {
        let table = [(0, "0s"), (1, "1ms"), (250, "250ms"), (4500, "4.5s"), (19_000, "19s"), (61_005, "61.005s")];
        for (millis, expected) in table {
            assert_eq!(Seconds(Duration::from_millis(millis)).to_string(), expected);
        }
    }
}
