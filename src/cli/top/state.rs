//! What `top` shows and what keys do. Pure: it is told news and keys, and says what is wanted.
//!
//! The selection hangs on the backend and not on its line: lines move when something becomes wrong, and an order must not
//! hit whoever has moved under the cursor. For the same reason an order names its backend once more before it is given.

use std::collections::BTreeMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};

use crate::cli::operate::seen::{Backend, Status};

/// What the thread that asks has to tell.
pub enum News {
    Seen {
        status: Value,
        causes: Value,
        history: Value,
    },
    /// The node does not answer.
    Failed(String),
    /// What became of an act.
    Done(String),
}

impl News {
    pub fn documents(&self) -> Value {
        match self {
            News::Seen { status, causes, history } => {
                json!({ "status": status, "causes": causes, "history": history })
            }
            News::Failed(text) | News::Done(text) => json!(text),
        }
    }
}

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Leave,
    Order { pool: String, backend: String, order: &'static str, lasts: Option<String> },
    Probe { pool: String, backend: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Watching,
    Help,
    /// The filter is being written.
    Filtering,
    /// An order waits for a yes. What is written is its time limit.
    Confirming {
        pool: String,
        backend: String,
        order: &'static str,
        lasts: String,
    },
}

/// What a backend, a pool or a listener did in the last step of the history.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub per_second: f64,
    pub failed_per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub pool: String,
    pub backend: Backend,
    pub rates: Rates,
}

/// A cause that came in the last minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    pub code: String,
    pub blame: String,
    pub last_minute: u64,
    pub last_hour: u64,
    pub place: String,
}

pub struct State {
    pub place: String,
    pub status: Status,
    pub causes: Vec<Struck>,
    pub listeners: BTreeMap<String, Rates>,
    /// The worst first; as the filter lets them through.
    pub rows: Vec<Row>,
    pub filter: String,
    pub mode: Mode,
    /// Pool and address.
    pub selected: Option<(String, String)>,
    /// Why the node does not answer, while it does not.
    pub failing: Option<String>,
    /// What became of the last act.
    pub message: Option<String>,
    backends: BTreeMap<String, Rates>,
}

impl State {
    pub fn new(place: String, filter: String) -> State {
        State {
            place,
            status: Status::default(),
            causes: Vec::new(),
            listeners: BTreeMap::new(),
            rows: Vec::new(),
            filter,
            mode: Mode::Watching,
            selected: None,
            failing: None,
            message: None,
            backends: BTreeMap::new(),
        }
    }

    pub fn hear(&mut self, news: News) {
        match news {
            News::Failed(text) => self.failing = text.lines().next().map(str::to_owned),
            News::Done(text) => self.message = Some(text.lines().next().unwrap_or_default().to_owned()),
            News::Seen { status, causes, history } => {
                match serde_json::from_value(status) {
                    Ok(status) => (self.status, self.failing) = (status, None),
                    Err(error) => self.failing = Some(format!("its status cannot be read: {error}")),
                }
                self.causes = struck(&causes);
                let last = history["samples"].as_array().and_then(|samples| samples.last()).unwrap_or(&Value::Null);
                let seconds = history["step_ms"].as_f64().filter(|step| *step > 0.0).unwrap_or(5000.0) / 1000.0;
                self.backends = rates(&last["backends"], "attempts", seconds);
                self.listeners = rates(&last["listeners"], "requests", seconds);
                self.arrange();
            }
        }
    }

    fn arrange(&mut self) {
        let has = |text: &str| text.to_lowercase().contains(&self.filter.to_lowercase());
        let rows = self.status.backends().filter_map(|(pool, backend)| {
            let name = format!("{}/{}", pool.name, backend.address);
            let words = [&backend.verdict, &backend.order];
            let shown = has(&name) || words.iter().any(|word| has(word));
            let rates = self.backends.get(&name).copied().unwrap_or_default();
            shown.then(|| Row { pool: pool.name.clone(), backend: backend.clone(), rates })
        });
        let mut rows: Vec<Row> = rows.collect();
        // In the order of the config among those that want the same attention.
        rows.sort_by_key(|row| row.backend.concern());
        self.rows = rows;
        if self.position().is_none() {
            self.selected = self.rows.first().map(name);
        }
    }

    /// The line of the selected backend.
    pub fn position(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.rows.iter().position(|row| name(row) == *selected)
    }

    pub fn key(&mut self, key: KeyEvent) -> Option<Act> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c')) {
            return Some(Act::Leave);
        }
        match std::mem::replace(&mut self.mode, Mode::Watching) {
            Mode::Watching => self.watching(key.code),
            // Any key leads back.
            Mode::Help => None,
            Mode::Filtering => {
                self.filtering(key.code);
                None
            }
            Mode::Confirming { pool, backend, order, lasts } => self.confirming(key.code, pool, backend, order, lasts),
        }
    }

    fn watching(&mut self, code: KeyCode) -> Option<Act> {
        match code {
            KeyCode::Char('q') => return Some(Act::Leave),
            KeyCode::Esc if self.filter.is_empty() => return Some(Act::Leave),
            KeyCode::Esc => {
                self.filter.clear();
                self.arrange();
            }
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filtering,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('d') => self.confirm("drain"),
            KeyCode::Char('s') => self.confirm("serve"),
            KeyCode::Char('m') => self.confirm("maintain"),
            KeyCode::Char('p') => {
                let (pool, backend) = self.selected.clone()?;
                return Some(Act::Probe { pool, backend });
            }
            _ => {}
        }
        None
    }

    fn step(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        let next = self.position().unwrap_or(0).saturating_add_signed(by).min(last);
        self.selected = self.rows.get(next).map(name);
        self.message = None;
    }

    fn confirm(&mut self, order: &'static str) {
        if let Some((pool, backend)) = self.selected.clone() {
            self.mode = Mode::Confirming { pool, backend, order, lasts: String::new() };
        }
    }

    fn filtering(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return self.arrange();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.mode = Mode::Filtering;
        self.arrange();
    }

    fn confirming(
        &mut self,
        code: KeyCode,
        pool: String,
        backend: String,
        order: &'static str,
        mut lasts: String,
    ) -> Option<Act> {
        match code {
            KeyCode::Char('y') | KeyCode::Enter => {
                let lasts = Some(lasts).filter(|lasts| !lasts.is_empty());
                self.message = Some(format!("{order} {pool}/{backend} …"));
                return Some(Act::Order { pool, backend, order, lasts });
            }
            KeyCode::Esc | KeyCode::Char('n' | 'q') => return None,
            KeyCode::Backspace => drop(lasts.pop()),
            // A time limit: 10m. Serving has none.
            KeyCode::Char(letter @ ('0'..='9' | 's' | 'm' | 'h')) if order != "serve" => lasts.push(letter),
            _ => {}
        }
        self.mode = Mode::Confirming { pool, backend, order, lasts };
        None
    }
}

fn name(row: &Row) -> (String, String) {
    (row.pool.clone(), row.backend.address.clone())
}

fn rates(of: &Value, count: &str, seconds: f64) -> BTreeMap<String, Rates> {
    let rate = |one: &Value| Rates {
        per_second: one[count].as_f64().unwrap_or(0.0) / seconds,
        failed_per_second: one["failed"].as_f64().unwrap_or(0.0) / seconds,
        p50_ms: one["p50_ms"].as_f64(),
        p99_ms: one["p99_ms"].as_f64(),
    };
    of.as_object().into_iter().flatten().map(|(name, one)| (name.clone(), rate(one))).collect()
}

/// Those of the last minute before those of the last hour; older ones are history.
fn struck(causes: &Value) -> Vec<Struck> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let place = |by: &Value| {
        let parts = ["listener", "pool", "backend"].map(|key| text(&by[key]));
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" > ")
    };
    let all = causes["causes"].as_array().into_iter().flatten().map(|cause| Struck {
        code: text(&cause["code"]),
        blame: text(&cause["blame"]),
        last_minute: cause["last_minute"].as_u64().unwrap_or(0),
        last_hour: cause["last_hour"].as_u64().unwrap_or(0),
        place: place(&cause["by"][0]),
    });
    let mut recent: Vec<Struck> = all.filter(|cause| cause.last_hour > 0 || cause.last_minute > 0).collect();
    recent.sort_by_key(|cause| std::cmp::Reverse((cause.last_minute, cause.last_hour)));
    recent
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
