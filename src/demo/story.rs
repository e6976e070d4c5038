//! The story: who does what when, what the node says to it, and what is shown meanwhile.
//!
//! Acts wait for verdicts and not for times: each fault lasts until the node has seen it and for a while after, so
//! a slow machine makes a longer story and not a wrong one.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use evenkeel_health::judge::Progress;
use evenkeel_model::event::{Because, Event, Level, VerdictChanged, What};
use evenkeel_model::standing::Verdict;
use evenkeel_model::{Blame, Cause, Instant};

use super::claims::{examine, millis, seconds, what};
use super::client::{Client, Ledger};
use super::record::{Answer, Change, Mode, Record, Ruling, Sample, percentile};
use super::screen::{BackendRow, Entry, Figures, Frame, Line, Tone, picture, verdict_on, windows};
use super::stage::{Known, News, Stage};
use super::stalls::Stalls;
use super::terminal::Terminal;
use super::{BACKENDS, DWELL, FRAMES_PER_SECOND, PLAIN_EVERY, RECENT, STALLED_PERCENT, VERDICT_PATIENCE, WARM_UP};

/// What befalls whom, in order. Each comes back before the next one is struck.
const ACTS: [(usize, Mode); 3] = [(0, Mode::Killed), (1, Mode::Hangs), (2, Mode::HealthFails)];
/// Lines of the log that are kept.
const LOG_LINES: usize = 200;
/// Columns of the summary where no terminal says otherwise.
const SUMMARY_WIDTH: usize = 120;

pub fn run(once: bool) -> ExitCode {
    let stage = match Stage::set() {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(1);
        }
    };
    let stalls = Stalls::start(stage.clock);
    let client = Client::start(stage.web, stage.clock);
    let (stalls, client) = match (stalls, client) {
        (Ok(stalls), Ok(client)) => (stalls, client),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("cannot start a thread: {error}");
            return ExitCode::from(1);
        }
    };
    let mut story = Story::new(stage, stalls, client, once);
    story.introduce();
    let stopped = story.tell_all();
    story.conclude(&stopped)
}

/// Why the telling ended.
enum Stopped {
    /// Told once, as asked.
    Told,
    Interrupted,
    /// What was waited for did not come; the claims say what.
    Stuck(String),
}

struct Story {
    stage: Stage,
    stalls: Stalls,
    client: Option<Client>,
    terminal: Terminal,
    once: bool,
    telling: u32,
    act: String,
    record: Record,
    /// The open change's measures at its order.
    before: Before,
    recent: VecDeque<Sample>,
    served: u64,
    causes: BTreeMap<String, (Option<Blame>, u64)>,
    log: Vec<Entry>,
    next_frame: Instant,
    next_figures: Instant,
    /// Tellings of which a claim was broken.
    broken: u32,
}

#[derive(Clone, Debug, Default)]
struct Before {
    voids: u64,
    stalled: Duration,
    counted: Vec<u64>,
    stalled_at_start: Duration,
}

impl Story {
    fn new(stage: Stage, stalls: Stalls, client: Client, once: bool) -> Story {
        let timing = stage.plan.pools[0].checks[0].settings.timing;
        let now = stage.clock.now();
        Story {
            stage,
            stalls,
            client: Some(client),
            terminal: Terminal::new(),
            once,
            telling: 0,
            act: String::new(),
            record: Record::new(timing),
            before: Before::default(),
            recent: VecDeque::new(),
            served: 0,
            causes: BTreeMap::new(),
            log: Vec::new(),
            next_frame: now,
            next_figures: now + PLAIN_EVERY,
            broken: 0,
        }
    }

    fn introduce(&mut self) {
        let mut lines = vec![
            Line::new(Tone::Strong, "evenkeel demo: three backends, the balancer and a client in one process"),
            Line::new(Tone::Plain, format!("balancer   http://{}/", self.stage.web)),
            Line::new(Tone::Plain, format!("admin      http://{}/status  /metrics  /ready", self.stage.admin)),
            Line::new(Tone::Plain, "the whole config:"),
        ];
        lines.extend(self.stage.config.lines().map(|line| Line::new(Tone::Faint, format!("    {line}"))));
        lines.push(Line::default());
        self.terminal.say(&lines);
    }

    fn tell_all(&mut self) -> Stopped {
        loop {
            let told = self.tell();
            if let Err(stopped) = told {
                return stopped;
            }
            if self.once {
                return Stopped::Told;
            }
            self.complete();
            let claims = examine(&self.record);
            let broken = claims.iter().filter_map(|claim| claim.outcome.as_ref().err().map(|why| (claim.text, why)));
            let mut held = true;
            for (text, why) in broken {
                held = false;
                self.log.push(Entry { at: self.elapsed(), tone: Tone::Bad, text: format!("BROKEN: {text}: {why}") });
            }
            if held {
                self.note(Tone::Good, format!("story {} is told: all {} claims held", self.telling, claims.len()));
            } else {
                self.broken += 1;
            }
        }
    }

    fn tell(&mut self) -> Result<(), Stopped> {
        self.telling += 1;
        self.record = Record::new(self.record.timing);
        self.before.counted = self.stage.counted();
        self.before.stalled_at_start = self.stalls.total();
        "all backends are well".clone_into(&mut self.act);
        let deadline = self.stage.clock.now() + VERDICT_PATIENCE;
        let well = |story: &Story| story.stage.known().iter().all(|known| known.verdict == Verdict::Healthy);
        self.pump(deadline, well)?;
        if !well(self) {
            return Err(Stopped::Stuck("the backends did not become healthy in the first place".to_owned()));
        }
        self.pause_about(WARM_UP)?;
        for (backend, fault) in ACTS {
            self.change(backend, fault)?;
            self.pause_about(DWELL)?;
            self.change(backend, Mode::Works)?;
            self.pause_about(DWELL)?;
        }
        Ok(())
    }

    /// Gives a backend another mode and waits for the verdict on it.
    fn change(&mut self, backend: usize, to: Mode) -> Result<(), Stopped> {
        let from = self.mode(backend);
        self.before.voids = self.stage.known().get(backend).map_or(0, |known| known.voids);
        self.before.stalled = self.stalls.total();
        let name = BACKENDS[backend];
        self.act = match (to, from) {
            (Mode::Killed, _) => format!("{name} is killed: its port refuses, its connections are reset"),
            (Mode::Hangs, _) => format!("{name} hangs: it accepts and never answers"),
            (Mode::HealthFails, _) => format!("{name} answers 500 on its health page, and works otherwise"),
            (Mode::Works, Mode::Killed) => format!("{name} is started again"),
            (Mode::Works, Mode::Hangs) => format!("{name} answers again"),
            (Mode::Works, _) => format!("{name} passes its health page again"),
        };
        self.note(Tone::Notable, self.act.clone());
        let ordered = self.stage.clock.now();
        let change = Change { backend, from, to, ordered, ruling: None };
        let bounds = change.bounds(&self.record.timing);
        self.record.changes.push(change);
        if let Err(error) = self.stage.backends[backend].switch(to) {
            return Err(Stopped::Stuck(format!("backend {name}: {error}")));
        }
        let ruled = |story: &Story| story.record.changes.last().is_none_or(|change| change.ruling.is_some());
        self.pump(ordered + VERDICT_PATIENCE, ruled)?;
        // The machine may have used our patience up.
        let lost = self.allowance(backend);
        self.pump(ordered + VERDICT_PATIENCE + lost, ruled)?;
        self.gather();
        let Some(change) = self.record.changes.last().filter(|change| change.ruling.is_some()) else {
            return Err(Stopped::Stuck(format!("no verdict on \"{}\" within {VERDICT_PATIENCE:?}", self.act)));
        };
        if let Some(observed) = change.observed() {
            let failed = if change.is_fault() {
                format!("; {} failed so far", self.record.failures_in(change).count())
            } else {
                String::new()
            };
            let text = format!(
                "{}: verdict after {}, computed {:.2} to {}{failed}",
                what(change),
                seconds(observed),
                bounds.best.as_secs_f64(),
                seconds(bounds.worst),
            );
            self.note(Tone::Strong, text);
        }
        Ok(())
    }

    /// What standstills and void probes have cost since the open change was ordered.
    fn allowance(&self, backend: usize) -> Duration {
        let timing = &self.record.timing;
        let voids = self.stage.known().get(backend).map_or(0, |known| known.voids).saturating_sub(self.before.voids);
        let stalled = self.stalls.total().saturating_sub(self.before.stalled);
        stalled + (timing.timeout + timing.interval).saturating_mul(u32::try_from(voids).unwrap_or(u32::MAX))
    }

    fn mode(&self, backend: usize) -> Mode {
        let last = self.record.changes.iter().rev().find(|change| change.backend == backend);
        last.map_or(Mode::Works, |change| change.to)
    }

    /// Waits so long and up to one interval of the check more. Verdicts come with probes: without a random part
    /// everything would be done right after one, and each observation would be the same near the best case.
    fn pause_about(&mut self, duration: Duration) -> Result<(), Stopped> {
        let random = RandomState::new().build_hasher().finish() % 1000;
        let more = self.record.timing.interval * (random as u32) / 1000;
        let until = self.stage.clock.now() + duration + more;
        self.pump(until, |_| false)
    }

    /// Hears news and shows pictures until something is so, or until a moment.
    fn pump(&mut self, until: Instant, so: impl Fn(&Story) -> bool) -> Result<(), Stopped> {
        loop {
            let now = self.stage.clock.now();
            if now >= self.next_frame {
                self.show();
                self.next_frame = now + Duration::from_secs(1) / FRAMES_PER_SECOND;
            }
            if now >= until || so(self) {
                return Ok(());
            }
            // Told once, the exit code is still wanted; told for ever, nothing is.
            if self.terminal.is_gone() && !self.once {
                return Err(Stopped::Interrupted);
            }
            match self.stage.news.recv_timeout(until.min(self.next_frame) - now) {
                Ok(News::Recorded(event)) => self.hear(&event),
                Ok(News::Interrupted) => return Err(Stopped::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Stopped::Stuck("the node is gone".to_owned())),
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        if let What::VerdictChanged(changed) = &event.what {
            self.rule(event, changed);
        }
        let tone = match event.level() {
            Level::Info => Tone::Plain,
            Level::Warn => Tone::Notable,
            Level::Error => Tone::Bad,
        };
        let mut text = event.to_string();
        for backend in &self.stage.backends {
            text = text
                .replace(&format!("backend {} of pool \"web\"", backend.address), &format!("backend {}", backend.name));
        }
        self.log.push(Entry { at: event.at - Instant::START, tone, text });
        self.say_last();
    }

    /// Enters a verdict into the record.
    fn rule(&mut self, event: &Event, changed: &VerdictChanged) {
        let open = self.record.changes.last_mut().filter(|change| change.ruling.is_none());
        let ours = open.filter(|change| {
            self.stage.name_of(changed.backend) == Some(change.backend) && changed.to == change.expected_verdict()
        });
        match (&changed.because, ours) {
            (Because::Run { evidence, .. }, Some(change)) => {
                let voids = self.stage.known().get(change.backend).map_or(0, |known| known.voids);
                change.ruling = Some(Ruling {
                    at: event.at,
                    to: changed.to,
                    probes: evidence.probes,
                    voids: voids.saturating_sub(self.before.voids),
                    stalled: self.stalls.total().saturating_sub(self.before.stalled),
                });
            }
            // The first verdict of a backend, at the start.
            (Because::FirstProbe(_), None) if changed.to == Verdict::Healthy => {}
            _ => self.record.strays.push(event.to_string()),
        }
    }

    fn elapsed(&self) -> Duration {
        self.stage.clock.now() - Instant::START
    }

    fn note(&mut self, tone: Tone, text: String) {
        self.log.push(Entry { at: self.elapsed(), tone, text });
        self.say_last();
    }

    /// On a terminal the log is part of the picture.
    fn say_last(&mut self) {
        if !self.terminal.is_live()
            && let Some(entry) = self.log.last()
        {
            self.terminal.say(&[entry.line()]);
        }
        if self.log.len() > LOG_LINES {
            self.log.remove(0);
        }
    }

    /// Takes over what the client has seen.
    fn gather(&mut self) {
        if let Some(ledger) = self.client.as_ref().map(Client::take) {
            self.enter(ledger);
        }
    }

    fn enter(&mut self, ledger: Ledger) {
        self.record.unsent += ledger.unsent;
        for sample in &ledger.samples {
            let (label, blame) = match &sample.answer {
                Answer::Served { .. } => {
                    self.served += 1;
                    continue;
                }
                Answer::Failed { status, code } => {
                    let blame = sample.answer.cause().map(|cause| cause.entry().blame);
                    (code.clone().unwrap_or_else(|| format!("status {status} without a cause")), blame)
                }
                Answer::Broken { why } => (why.clone(), None),
            };
            self.causes.entry(label).or_insert((blame, 0)).1 += 1;
        }
        let now = self.stage.clock.now();
        self.recent.extend(ledger.samples.iter().cloned());
        self.recent.retain(|sample| now - sample.ended <= RECENT);
        self.record.samples.extend(ledger.samples);
    }

    fn figures(&self) -> Figures {
        let mut latencies: Vec<Duration> = self
            .recent
            .iter()
            .filter(|sample| !sample.answer.is_failure())
            .map(|sample| sample.ended - sample.started)
            .collect();
        let over = RECENT.min(self.elapsed()).as_secs_f64().max(0.1);
        let causes = self.causes.iter().map(|(label, (blame, count))| (label.clone(), *blame, *count));
        Figures {
            served: self.served,
            failed: self.causes.values().map(|(_, count)| count).sum(),
            causes: causes.collect(),
            rate: self.recent.len() as f64 / over,
            p50: percentile(&mut latencies, 50),
            p99: percentile(&mut latencies, 99),
        }
    }

    fn rows(&self) -> Vec<BackendRow> {
        let served = self.recent.iter().filter(|sample| !sample.answer.is_failure()).count().max(1);
        let known = self.stage.known();
        let row = |(index, known): (usize, &Known)| {
            let answer = Answer::Served { backend: index };
            let by_it = self.recent.iter().filter(|sample| sample.answer == answer).count();
            BackendRow {
                name: self.stage.backends[index].name,
                address: self.stage.backends[index].address.to_string(),
                mode: self.mode(index),
                verdict: known.verdict,
                progress: known.progress.map(progress).unwrap_or_default(),
                in_flight: known.in_flight,
                share: u32::try_from(by_it * 100 / served).unwrap_or(100),
            }
        };
        known.iter().enumerate().map(row).collect()
    }

    fn show(&mut self) {
        self.gather();
        if !self.terminal.is_live() {
            let now = self.stage.clock.now();
            if now >= self.next_figures {
                self.next_figures = now + PLAIN_EVERY;
                let Figures { served, failed, rate, p50, p99, .. } = self.figures();
                let latency = |latency: Option<Duration>| latency.map_or("-".to_owned(), millis);
                let text = format!(
                    "{served} served, {failed} failed, {rate:.0}/s, p50 {}, p99 {}; {}",
                    latency(p50),
                    latency(p99),
                    self.rows().iter().map(told).collect::<Vec<_>>().join(", "),
                );
                self.note(Tone::Faint, text);
            }
            return;
        }
        let (figures, rows) = (self.figures(), self.rows());
        let frame = Frame {
            elapsed: self.elapsed(),
            telling: self.telling,
            once: self.once,
            act: &self.act,
            figures: &figures,
            backends: &rows,
            record: &self.record,
            log: &self.log,
            config: &self.stage.config,
            web: self.stage.web.to_string(),
            admin: self.stage.admin.to_string(),
        };
        let (width, height) = self.terminal.size();
        let lines = picture(&frame, width, height);
        self.terminal.draw(&lines);
    }

    /// What the record still lacks when a telling has ended.
    fn complete(&mut self) {
        self.gather();
        let counted = self.stage.counted();
        let more = Cause::ALL.iter().zip(counted).zip(&self.before.counted);
        self.record.counted =
            more.map(|((&cause, after), before)| (cause, after - before)).filter(|(_, count)| *count > 0).collect();
        self.record.stalled = self.stalls.total().saturating_sub(self.before.stalled_at_start);
    }

    /// Stops everything and says what came of it.
    fn conclude(mut self, stopped: &Stopped) -> ExitCode {
        if let Some(client) = self.client.take() {
            let ledger = client.finish();
            self.enter(ledger);
        }
        self.complete();
        let width = if self.terminal.is_live() { self.terminal.size().0 } else { SUMMARY_WIDTH };
        let mut lines = vec![Line::default(), Line::new(Tone::Strong, "summary")];
        lines.extend(self.totals());
        lines.push(Line::default());
        lines.extend(windows(&self.record, width));
        let code = match stopped {
            Stopped::Interrupted => {
                lines.push(Line::default());
                lines.push(self.interrupted());
                u8::from(self.once || self.broken > 0)
            }
            Stopped::Told | Stopped::Stuck(_) => {
                let claims = examine(&self.record);
                lines.push(Line::default());
                lines.extend(verdict_on(&claims, width));
                lines.push(Line::default());
                if let Stopped::Stuck(why) = stopped {
                    lines.push(Line::new(Tone::Bad, format!("the story could not go on: {why}")));
                }
                let broken = claims.iter().filter(|claim| claim.outcome.is_err()).count();
                let (tone, text) = match (broken, stopped) {
                    (0, Stopped::Told) => (Tone::Good, format!("all {} claims held", claims.len())),
                    _ => (Tone::Bad, format!("{broken} of {} claims are broken", claims.len())),
                };
                lines.push(Line::new(tone, text));
                if tone == Tone::Bad && self.is_machine_to_doubt() {
                    let text = "the machine stood still too often for this to say much; try again when it is less busy";
                    lines.push(Line::new(Tone::Notable, text));
                }
                u8::from(tone == Tone::Bad)
            }
        };
        self.terminal.say(&lines);
        self.stage.strike();
        ExitCode::from(code)
    }

    fn is_machine_to_doubt(&self) -> bool {
        self.record.stalled.as_nanos() * 100 > self.elapsed().as_nanos() * STALLED_PERCENT
    }

    fn interrupted(&self) -> Line {
        if self.once {
            return Line::new(Tone::Bad, "stopped before the story was told; no claim was checked");
        }
        let told = self.telling.saturating_sub(1);
        match self.broken {
            0 if told == 0 => Line::new(Tone::Plain, "no story was told to its end, so no claim was checked"),
            0 => Line::new(Tone::Good, format!("stories told: {told}; every claim of each held")),
            broken => Line::new(Tone::Bad, format!("stories told: {told}; claims were broken in {broken}")),
        }
    }

    fn totals(&self) -> Vec<Line> {
        let mut latencies: Vec<Duration> = self
            .record
            .samples
            .iter()
            .filter(|sample| !sample.answer.is_failure())
            .map(|sample| sample.ended - sample.started)
            .collect();
        let latency = |latency: Option<Duration>| latency.map_or("-".to_owned(), millis);
        let figures = self.figures();
        let mut lines = vec![Line::new(
            Tone::Plain,
            format!(
                "{} requests served, {} failed; p50 {}, p99 {}; told in {:.0} s",
                figures.served,
                figures.failed,
                latency(percentile(&mut latencies, 50)),
                latency(percentile(&mut latencies, 99)),
                self.elapsed().as_secs_f64(),
            ),
        )];
        for (label, blame, count) in figures.causes {
            let blame = blame.map_or(String::new(), |blame| format!(", blame: {}", blame.word()));
            lines.push(Line::new(Tone::Plain, format!("{count} failed with {label}{blame}")));
        }
        if self.record.unsent > 0 {
            let text = format!("{} requests were not sent: too many were waiting", self.record.unsent);
            lines.push(Line::new(Tone::Notable, text));
        }
        let stalled = self.record.stalled;
        if !stalled.is_zero() {
            let text = format!("this process was kept from running for {} in all by a busy machine", millis(stalled));
            lines.push(Line::new(Tone::Notable, text));
        }
        lines
    }
}

fn progress(progress: Progress) -> String {
    let of = match progress.toward {
        Verdict::Unhealthy => "failures",
        Verdict::Healthy | Verdict::Unknown => "passes",
    };
    format!("{} of {} {of}", progress.results, progress.needed)
}

fn told(row: &BackendRow) -> String {
    format!("{} {} {} %", row.name, row.verdict.word(), row.share)
}
