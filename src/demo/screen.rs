//! Turns what is known into lines of a given width. Pure: a test can look at any terminal.
//!
//! Lines carry tones instead of escape codes, so that width is counted in characters and colour is left out in one
//! place. A table that does not fit drops its least important columns; a screen that does not fit shortens the log.

use std::time::Duration;

use evenkeel_model::Blame;
use evenkeel_model::standing::Verdict;

use super::claims::{Claim, millis, seconds, what};
use super::record::{Mode, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Faint,
    Strong,
    Good,
    Bad,
    Notable,
}

impl Tone {
    /// The escape sequence that turns it on.
    pub const fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Faint => "\x1b[2m",
            Tone::Strong => "\x1b[1m",
            Tone::Good => "\x1b[32m",
            Tone::Bad => "\x1b[31m",
            Tone::Notable => "\x1b[33m",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Tone, String)>);

impl Line {
    pub fn new(tone: Tone, text: impl Into<String>) -> Line {
        Line(vec![(tone, text.into())])
    }

    pub fn then(mut self, tone: Tone, text: impl Into<String>) -> Line {
        self.0.push((tone, text.into()));
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// At most `width` characters; what is cut off is marked.
    fn fit(mut self, width: usize) -> Line {
        if self.width() <= width {
            return self;
        }
        let mut room = width.saturating_sub(1);
        for (_, text) in &mut self.0 {
            *text = text.chars().take(room).collect();
            room -= text.chars().count();
        }
        if width > 0 {
            self.0.push((Tone::Faint, "…".to_owned()));
        }
        self
    }

    pub fn write(&self, out: &mut String, color: bool) {
        for (tone, text) in &self.0 {
            let code = if color { tone.code() } else { "" };
            out.push_str(code);
            out.push_str(text);
            if !code.is_empty() {
                out.push_str("\x1b[0m");
            }
        }
    }

    #[cfg(test)]
    pub fn text(&self) -> String {
        self.0.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// Everything one picture shows.
pub struct Frame<'a> {
    pub elapsed: Duration,
    pub telling: u32,
    pub once: bool,
    /// What is being done, in a sentence.
    pub act: &'a str,
    pub figures: &'a Figures,
    pub backends: &'a [BackendRow],
    pub record: &'a Record,
    pub log: &'a [Entry],
    pub config: &'a str,
    pub web: String,
    pub admin: String,
}

/// Counts since the start, and what the last seconds looked like.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub served: u64,
    pub failed: u64,
    /// Failures by what the client was told: code and blame, or what it saw instead.
    pub causes: Vec<(String, Option<Blame>, u64)>,
    pub rate: f64,
    /// Of served requests.
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct BackendRow {
    pub name: &'static str,
    pub address: String,
    pub mode: Mode,
    pub verdict: Verdict,
    /// `2 of 3 failures`, empty while nothing contradicts the verdict.
    pub progress: String,
    pub in_flight: u64,
    /// Percent of the requests served lately.
    pub share: u32,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Duration,
    pub tone: Tone,
    pub text: String,
}

impl Entry {
    pub fn line(&self) -> Line {
        Line::new(Tone::Faint, format!("{:6.1} s  ", self.at.as_secs_f64())).then(self.tone, &self.text)
    }
}

/// Rows of the table of windows when a story has been told: a fault and a return for each backend.
const CHANGES: usize = 6;
/// A log shorter than this gives way to nothing, the config to it.
const LOG_LEAST: usize = 8;

/// The whole picture, at most `height` lines of at most `width` characters.
pub fn picture(frame: &Frame<'_>, width: usize, height: usize) -> Vec<Line> {
    let mut top = vec![
        Line::new(Tone::Strong, "evenkeel demo")
            .then(Tone::Faint, "  three backends, the balancer, a client, in one process  ")
            .then(Tone::Plain, clock(frame))
            .fit(width),
        Line::new(Tone::Faint, "now       ").then(Tone::Notable, frame.act),
    ];
    top.extend(figures(frame.figures));
    top.push(Line::default());
    top.extend(backends(frame.backends, width));
    top.push(Line::default());
    top.extend(windows(frame.record, width));
    let bottom = Line::new(Tone::Faint, "try  ")
        .then(Tone::Plain, format!("curl -i {}", frame.web))
        .then(Tone::Plain, format!("   curl {}/status", frame.admin))
        .then(Tone::Faint, " or /metrics   Ctrl-C");
    let mut room = height.saturating_sub(top.len() + 1);
    if room > 1 {
        top.push(Line::default());
        room -= 1;
    }
    let log = frame.log;
    let config: Vec<&str> = frame.config.lines().collect();
    // On a tall screen the config has a place of its own; on a small one it is shown until the first fault.
    let rows_to_come = CHANGES.saturating_sub(frame.record.changes.len());
    if room >= config.len() + LOG_LEAST + rows_to_come + 2 {
        room -= config.len() + 2;
        top.extend(logged(log, room));
        top.push(Line::new(Tone::Faint, "the whole config:"));
        top.extend(config.iter().map(|line| Line::new(Tone::Faint, format!("  {line}"))));
        top.push(Line::default());
    } else if frame.record.changes.is_empty() && frame.telling == 1 {
        let kept = config.iter().filter(|line| !line.is_empty()).take(room);
        top.extend(kept.map(|line| Line::new(Tone::Faint, format!("  {line}"))));
    } else {
        top.extend(logged(log, room));
    }
    top.truncate(height.saturating_sub(1));
    while top.len() + 1 < height {
        top.push(Line::default());
    }
    top.push(bottom);
    top.into_iter().take(height).map(|line| line.fit(width)).collect()
}

fn clock(frame: &Frame<'_>) -> String {
    let seconds = frame.elapsed.as_secs();
    let clock = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    if frame.once { clock } else { format!("{clock}  story {}", frame.telling) }
}

fn figures(figures: &Figures) -> [Line; 2] {
    let latency = |latency: Option<Duration>| latency.map_or("-".to_owned(), millis);
    let failed = if figures.failed == 0 { Tone::Plain } else { Tone::Bad };
    let counts = Line::new(Tone::Faint, "requests  ")
        .then(Tone::Strong, format!("{} served", figures.served))
        .then(Tone::Plain, "  ")
        .then(failed, format!("{} failed", figures.failed))
        .then(Tone::Plain, format!("  {:.0} answers/s", figures.rate))
        .then(Tone::Plain, format!("  p50 {}  p99 {}", latency(figures.p50), latency(figures.p99)));
    let mut causes = Line::new(Tone::Faint, "failed    ");
    if figures.causes.is_empty() {
        causes = causes.then(Tone::Faint, "none");
    }
    for (position, (code, blame, count)) in figures.causes.iter().enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        let blame = blame.map_or(String::new(), |blame| format!(" (blame: {})", blame.word()));
        causes = causes.then(Tone::Bad, format!("{comma}{count} {code}{blame}"));
    }
    [counts, causes]
}

fn backends(rows: &[BackendRow], width: usize) -> Vec<Line> {
    let mut table = Table::new(&[
        ("backend", Side::Left, 9),
        ("address", Side::Left, 1),
        ("is made to", Side::Left, 4),
        ("verdict", Side::Left, 8),
        ("progress", Side::Left, 5),
        ("in flight", Side::Right, 3),
        ("share", Side::Right, 7),
        ("", Side::Left, 0),
    ]);
    for row in rows {
        let made = if row.mode == Mode::Works { Tone::Plain } else { Tone::Notable };
        let verdict = match row.verdict {
            Verdict::Healthy => Tone::Good,
            Verdict::Unhealthy => Tone::Bad,
            Verdict::Unknown => Tone::Plain,
        };
        let mode = match row.mode {
            Mode::Works => "work",
            Mode::Killed => "be dead",
            Mode::Hangs => "hang",
            Mode::HealthFails => "500 on /health",
        };
        table.rows.push(vec![
            (Tone::Strong, row.name.to_owned()),
            (Tone::Faint, row.address.clone()),
            (made, format!("{mode:<14}")),
            (verdict, format!("{:<9}", row.verdict.word())),
            (Tone::Notable, format!("{:<15}", row.progress)),
            (Tone::Plain, row.in_flight.to_string()),
            (Tone::Plain, format!("{} %", row.share)),
            (Tone::Good, "█".repeat((row.share as usize + 5) / 10)),
        ]);
    }
    table.lines(width)
}

/// Computed against observed, one row for each thing that was done.
pub fn windows(record: &Record, width: usize) -> Vec<Line> {
    let mut table = Table::new(&[
        ("what happened", Side::Left, 9),
        ("verdict after", Side::Right, 8),
        ("computed", Side::Left, 7),
        ("failed in the window", Side::Left, 6),
    ]);
    for change in &record.changes {
        let bounds = change.bounds(&record.timing);
        let allowed = bounds.worst + change.allowance(&record.timing);
        let observed = match change.observed() {
            None => (Tone::Notable, "not yet".to_owned()),
            Some(observed) if observed > allowed => (Tone::Bad, seconds(observed)),
            Some(observed) => (Tone::Good, seconds(observed)),
        };
        let mut computed = format!("{:.2} to {}", bounds.best.as_secs_f64(), seconds(bounds.worst));
        let voids = change.ruling.as_ref().map_or(0, |ruling| ruling.voids);
        if voids > 0 {
            computed.push_str(&format!(", {voids} void"));
        }
        let failed = record.failures_in(change).count();
        let cause = record.failures_in(change).find_map(|failure| failure.answer.cause());
        let failed = match (change.is_fault(), failed, cause) {
            (false, ..) => (Tone::Plain, String::new()),
            (true, 0, _) => (Tone::Plain, "0".to_owned()),
            (true, _, Some(cause)) => (Tone::Bad, format!("{failed} {}", cause.code())),
            (true, _, None) => (Tone::Bad, format!("{failed} without a cause")),
        };
        table.rows.push(vec![(Tone::Plain, what(change)), observed, (Tone::Plain, computed), failed]);
    }
    table.lines(width)
}

/// The claims, each with what bears it out or broke it.
pub fn verdict_on(claims: &[Claim], width: usize) -> Vec<Line> {
    let longest = claims.iter().map(|claim| claim.text.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for claim in claims {
        let (tone, word, why) = match &claim.outcome {
            Ok(why) => (Tone::Good, "held  ", why),
            Err(why) => (Tone::Bad, "BROKEN", why),
        };
        let line = Line::new(tone, word).then(Tone::Plain, format!("  {}", claim.text));
        let gap = " ".repeat(longest - claim.text.chars().count());
        let whole = line.clone().then(Tone::Faint, format!("{gap}  {why}"));
        if whole.width() <= width {
            lines.push(whole);
        } else {
            lines.push(line);
            let indent = " ".repeat(10.min(width / 4));
            let folded = fold(why, width.saturating_sub(indent.len()).max(10));
            lines.extend(folded.into_iter().map(|part| Line::new(Tone::Faint, format!("{indent}{part}"))));
        }
    }
    lines
}

/// Breaks a text between words.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("it starts with one");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn logged(log: &[Entry], room: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = log[log.len().saturating_sub(room)..].iter().map(Entry::line).collect();
    lines.resize(room, Line::default());
    lines
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

struct Table {
    /// Heading, side, and importance: the least important column is dropped first.
    columns: Vec<(&'static str, Side, u8)>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    fn new(columns: &[(&'static str, Side, u8)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    fn lines(mut self, width: usize) -> Vec<Line> {
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width_of(column)).collect();
        while widths.iter().sum::<usize>() + 2 * (widths.len() - 1) > width && widths.len() > 1 {
            let least = (0..self.columns.len()).min_by_key(|&column| self.columns[column].2).unwrap_or(0);
            widths.remove(least);
            self.columns.remove(least);
            for row in &mut self.rows {
                row.remove(least);
            }
        }
        let head = self.columns.iter().map(|(head, ..)| (Tone::Faint, (*head).to_owned())).collect();
        let mut lines = Vec::new();
        for row in std::iter::once(head).chain(self.rows) {
            let mut line = Line::default();
            for (column, (tone, text)) in row.into_iter().enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Nothing stands to the right of the last one.
                let filled = column + 1 < widths.len() || self.columns[column].1 == Side::Right;
                let room = if filled { widths[column] } else { 0 };
                let cell = match self.columns[column].1 {
                    Side::Left => format!("{text:<room$}"),
                    Side::Right => format!("{text:>room$}"),
                };
                if !cell.is_empty() {
                    line = line.then(Tone::Plain, gap).then(tone, cell);
                }
            }
            lines.push(line.fit(width));
        }
        lines
    }

    fn width_of(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].1.chars().count());
        cells.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::record::Change;
    use evenkeel_health::settings::Timing;
    use evenkeel_model::Instant;

    fn draw(width: usize, height: usize) -> Vec<String> {
        let second = Duration::from_secs(1);
        let timing = Timing::new(second, second / 2, 3, 3);
        let mut record = Record::new(timing);
        let ordered = Instant::START;
        record.changes.push(Change { backend: 1, from: Mode::Works, to: Mode::Hangs, ordered, ruling: None });
        let figures = Figures {
            served: 1234,
            failed: 56,
            causes: vec![("backend_response_timeout".to_owned(), Some(Blame::Backend), 56)],
            rate: 199.6,
            p50: Some(Duration::from_micros(400)),
            p99: Some(Duration::from_millis(12)),
        };
        let row = |name, share| BackendRow {
            name,
            address: "127.0.0.1:40001".to_owned(),
            mode: Mode::Hangs,
            verdict: Verdict::Healthy,
            progress: "2 of 3 failures".to_owned(),
            in_flight: 97,
            share,
        };
        let entry = |number| Entry { at: second, tone: Tone::Plain, text: format!("entry {number}") };
        let frame = Frame {
            elapsed: second * 75,
            telling: 2,
            once: false,
            act: "b hangs",
            figures: &figures,
            backends: &[row("a", 50), row("b", 0), row("c", 50)],
            record: &record,
            log: &(0..50).map(entry).collect::<Vec<_>>(),
            config: "[node]\nworkers = 1\n",
            web: "127.0.0.1:40004".to_owned(),
            admin: "127.0.0.1:40005".to_owned(),
        };
        picture(&frame, width, height).iter().map(Line::text).collect()
    }

    #[test]
    fn no_terminal_is_too_small() {
        for width in 0..140 {
            for height in 0..60 {
                let lines = draw(width, height);
                assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
                let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(widest <= width, "{width}x{height}: a line of {widest}");
            }
        }
    }

    #[test]
    fn eighty_columns_show_what_matters() {
        let text = draw(80, 24).join("\n");
        for wanted in [
            "1234 served  56 failed  200 answers/s  p50 0.4 ms  p99 12 ms",
            "56 backend_response_timeout (blame: backend)",
            "2 of 3 failures",
            "97",
            "50 %",
            "3.99 to 4.51 s",
            "not yet",
            "entry 49",
            "curl -i 127.0.0.1:40004",
            "curl 127.0.0.1:40005/status",
            "Ctrl-C",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }

    #[test]
    fn forty_columns_keep_names_verdicts_and_shares() {
        let text = draw(40, 24).join("\n");
        for wanted in ["backend", "verdict", "healthy", "share", "50 %", "b hangs"] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(!text.contains("address"), "the address gives way\n{text}");
    }

    #[test]
    fn a_tall_terminal_shows_the_config_beside_the_log() {
        let text = draw(100, 52).join("\n");
        assert!(text.contains("workers = 1") && text.contains("entry 49"), "{text}");
    }

    #[test]
    fn what_bears_a_claim_out_is_folded_between_words() {
        assert_eq!(fold("three of three and more", 8), ["three of", "three", "and more"]);
        let claims = [Claim { text: "it is so", outcome: Ok("because of this and of that".to_owned()) }];
        let text: Vec<String> = verdict_on(&claims, 30).iter().map(Line::text).collect();
        assert_eq!(text, ["held    it is so", "       because of this and of", "       that"]);
        assert_eq!(verdict_on(&claims, 80).len(), 1);
    }

    #[test]
    fn colour_is_left_out_as_a_whole() {
        let line = Line::new(Tone::Bad, "x").then(Tone::Plain, "y");
        let (mut with, mut without) = (String::new(), String::new());
        line.write(&mut with, true);
        line.write(&mut without, false);
        assert_eq!((with.as_str(), without.as_str()), ("\x1b[31mx\x1b[0my", "xy"));
    }
}
