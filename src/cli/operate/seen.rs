//! The status document as the terminal reads it, and what of it wants looking at. What an older or newer node leaves out has
//! its default.
//!
//! Not the shapes that the node writes it by: a terminal of tomorrow asks nodes of today.

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub time: String,
    pub started: String,
    pub suspects_itself_since: Option<String>,
    pub holds_verdicts: bool,
    pub config: Option<Config>,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    pub file: String,
    pub same: bool,
    pub changes: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listener {
    pub name: String,
    pub protocol: String,
    pub listen: Vec<String>,
    pub connections: u64,
    pub requests_total: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pool {
    pub name: String,
    pub schedule: String,
    pub eligible: usize,
    pub refusal: Option<String>,
    pub panic: bool,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Backend {
    pub address: String,
    pub weight: u32,
    pub weight_of_file: Option<u32>,
    pub effective_weight: u32,
    pub verdict: String,
    pub since: String,
    pub order: String,
    pub order_until: Option<String>,
    pub order_kept: bool,
    pub agent: Option<Agent>,
    pub ejected_until: Option<String>,
    pub ramp_percent: u8,
    pub in_flight: u64,
    pub attempts_total: u64,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Agent {
    pub order: String,
    pub percent: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub name: String,
    pub kind: String,
    pub verdict: String,
    pub progress: Option<Progress>,
    pub probing: Probing,
    pub recent: Vec<Finding>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub toward: String,
    pub results: u32,
    pub needed: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Probing {
    pub state: String,
    pub next_in_ms: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Finding {
    pub started: String,
    pub duration_ms: f64,
    pub result: String,
    pub text: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    pub seq: Option<u64>,
    pub time: String,
    pub event: String,
    pub level: String,
    pub text: String,
}

/// How much a backend wants looking at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// It fails, or its clients fail with it.
    Wrong,
    /// It may change soon, or somebody set it aside.
    Watch,
    Fine,
}

impl Backend {
    pub fn concern(&self) -> Concern {
        let doubted = self.checks.iter().any(|check| check.progress.is_some());
        if self.verdict == "unhealthy" || self.ejected_until.is_some() {
            Concern::Wrong
        } else if doubted || self.is_changed() || self.agent.is_some() || self.ramp_percent < 100 {
            Concern::Watch
        } else {
            Concern::Fine
        }
    }

    /// Whether an operator changed it.
    pub fn is_changed(&self) -> bool {
        self.order != "serve" || self.weight_of_file.is_some_and(|of_file| of_file != self.weight)
    }

    /// What the order is, and when it ends.
    pub fn order_text(&self, now: &str) -> String {
        let mut text = self.order.clone();
        if let Some(left) = self.order_until.as_deref().and_then(|until| seconds_between(now, until)) {
            text.push_str(&format!(" {}", age(left)));
        }
        text
    }

    /// Why it is as it is, in one line.
    pub fn evidence(&self, now: &str) -> String {
        let mut parts = Vec::new();
        if let Some(until) = &self.ejected_until {
            let left = seconds_between(now, until).map(age).unwrap_or_default();
            parts.push(format!("ejected for {left}: its traffic failed"));
        }
        for check in &self.checks {
            let name = |text: String| if self.checks.len() > 1 { format!("{}: {text}", check.name) } else { text };
            if let Some(progress) = &check.progress {
                let word = if progress.toward == "unhealthy" { "failures" } else { "passes" };
                let next = match check.probing.next_in_ms {
                    Some(ms) => format!(", next in {:.1}s", ms / 1000.0),
                    None if check.probing.state == "in_flight" => ", one in flight".to_owned(),
                    None => String::new(),
                };
                parts.push(name(format!("{} of {} {word}{next}", progress.results, progress.needed)));
            }
            if check.verdict == "unhealthy" || check.progress.as_ref().is_some_and(|it| it.toward == "unhealthy") {
                let failed = check.recent.iter().find(|finding| finding.result == "failed");
                parts.extend(failed.map(|failed| name(failed.text.clone())));
            }
        }
        if self.weight_of_file.is_some_and(|of_file| of_file != self.weight) {
            parts.push(format!("weight {} (file: {})", self.weight, self.weight_of_file.unwrap_or_default()));
        }
        if let Some(agent) = &self.agent {
            parts.push(format!("agent says {} {}%", agent.order, agent.percent));
        }
        if self.ramp_percent < 100 {
            parts.push(format!("slow start, {}%", self.ramp_percent));
        }
        if self.order_kept {
            parts.push("kept over a restart".to_owned());
        }
        if parts.is_empty() {
            let last = self.checks.first().and_then(|check| check.recent.first());
            parts.extend(last.map(|last| last.text.clone()));
        }
        parts.join("; ")
    }
}

impl Status {
    /// What is wrong now, the worst first.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(since) = &self.suspects_itself_since {
            let hold = if self.holds_verdicts { ", and no verdict turns unhealthy meanwhile" } else { "" };
            let since = seconds_between(since, &self.time).map(age).unwrap_or_default();
            wrong.push(format!("this node suspects itself, for {since}{hold}: look at its own network first"));
        }
        for pool in &self.pools {
            if let Some(cause) = &pool.refusal {
                wrong.push(format!("pool {}: nobody may be sent work, clients get {cause}", pool.name));
            }
            if pool.panic {
                wrong.push(format!("pool {}: panics, unhealthy backends get work too", pool.name));
            }
        }
        for (pool, backend) in self.backends().filter(|(_, backend)| backend.concern() == Concern::Wrong) {
            let since = seconds_between(&backend.since, &self.time).map(age).unwrap_or_default();
            let evidence = backend.evidence(&self.time);
            wrong.push(format!(
                "backend {}/{}: {} for {since}: {evidence}",
                pool.name, backend.address, backend.verdict
            ));
        }
        if self.config.as_ref().is_some_and(|config| !config.same) {
            wrong.push("the config file differs from what runs: evenkeel diff shows how".to_owned());
        }
        wrong
    }

    pub fn backends(&self) -> impl Iterator<Item = (&Pool, &Backend)> {
        self.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
    }
}

/// Seconds from one RFC 3339 moment to a later one, both in UTC as the node writes them.
pub fn seconds_between(from: &str, to: &str) -> Option<f64> {
    Some((seconds(to)? - seconds(from)?).max(0.0))
}

fn seconds(text: &str) -> Option<f64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let clock = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest: f64 =
        text.get(19..).and_then(|rest| rest.strip_suffix('Z')).map_or("0", |rest| rest).parse().unwrap_or(0.0);
    // Days since 1970 of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1;
    Some(((days - 719_468) * 86_400 + clock) as f64 + rest)
}

/// `4s`, `12m`, `3h 5m`, `2d 4h`.
pub fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..=99 => format!("{whole}s"),
        100..=5999 => format!("{}m", whole / 60),
        6000..=172_799 => format!("{}h {}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_node_are_told_apart_to_the_millisecond() {
        let table = [
            ("1970-01-01T00:00:00.000Z", "1970-01-02T00:00:01.500Z", Some(86_401.5)),
            ("2024-02-28T23:59:59.000Z", "2024-03-01T00:00:00.000Z", Some(86_401.0)),
            ("2026-11-22T17:18:15.250Z", "2026-11-22T17:18:15.000Z", Some(0.0)),
            ("2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", Some(1.0)),
            ("", "2027-01-01T00:00:00Z", None),
            ("yesterday, about noon", "2027-01-01T00:00:00Z", None),
        ];
        for (from, to, expected) in table {
            assert_eq!(seconds_between(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn ages_are_short() {
        let table =
            [(0.4, "0s"), (99.9, "99s"), (100.0, "1m"), (3600.0, "60m"), (7260.0, "2h 1m"), (180_000.0, "2d 2h")];
        for (seconds, expected) in table {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn a_document_of_another_version_is_read_as_far_as_it_goes() {
        let text =
            r#"{"pools":[{"name":"web","backends":[{"address":"10.0.0.1:80","verdict":"healthy","later":[1]}]}]}"#;
        let status: Status = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(status.backends().count(), 1);
        assert_eq!(status.pools[0].backends[0].verdict, "healthy");
    }
}
