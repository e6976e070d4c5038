//! One request as it is told: its line of the access log, and the story that `diagnose` makes of its record.
//!
//! The line is written by the code that writes the log, so the two can never differ. The story needs to know where settings
//! stand, which only a config at hand can say.

use evenkeel_config::{Of, Recipe};
use evenkeel_diagnose::timeline::{Config, Timeline, Told};
use evenkeel_model::Epoch;
use evenkeel_model::exchange::{Record, Timer};
use evenkeel_observe::write_line;
use serde_json::{Map, Value};

/// A config that knows where its keys stand.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    pub recipe: &'a Recipe,
    /// What the recipe was made of, and what that is called.
    pub text: &'a str,
    pub file: &'a str,
}

/// Tells of `record`. Without a config nobody knows where its timer is set.
pub fn told(record: &Record, epoch: Epoch, config: Option<Written<'_>>) -> Told {
    let mut line = Vec::new();
    write_line(&record.outcome(), epoch, &mut line);
    // The log writes JSON; were it ever not, the story would still be told.
    let line: Map<String, Value> = serde_json::from_slice(&line).unwrap_or_default();
    let places = |timer: Timer, record: &Record| match config {
        Some(config) => config.place(timer, record),
        None => Config::UNKNOWN,
    };
    let mut told = Told { line, timeline: Timeline::of(record, epoch, &places) };
    // The story has it with its value and its place.
    told.line.remove("timer");
    told
}

impl Written<'_> {
    fn place(&self, timer: Timer, record: &Record) -> Config {
        let listener = &*record.listener;
        let key = timer.key();
        let (of, key) = if let Some(key) = key.strip_prefix("listener.rule.") {
            let Some(rule) = &record.rule else { return Config::UNKNOWN };
            (Of::Rule { listener, name: &rule.name }, key)
        } else if let Some(key) = key.strip_prefix("listener.") {
            (Of::Listener(listener), key)
        } else {
            let (Some(pool), Some(key)) = (&record.pool, key.strip_prefix("pool.")) else { return Config::UNKNOWN };
            (Of::Pool(pool), key)
        };
        match self.recipe.place_of(of, key, self.text) {
            Some(place) => Config::Line { file: self.file.to_owned(), line: place.line },
            None => Config::DEFAULT,
        }
    }
}
