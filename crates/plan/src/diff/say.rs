//! How values read in a difference, and where the sentences are gathered.
//!
//! Each value is written as the config writes it, so that a sentence can be looked up there. It compares and judges nothing.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The sentences of one thing.
#[derive(Debug, Default)]
pub struct Sentences(Vec<String>);

impl Sentences {
    /// `key old -> new`, if they differ.
    pub(super) fn compare<T: PartialEq + Say>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{key} {} -> {}", old.say(), new.say()));
        }
    }

    /// `key is another`, if they differ: of secrets, and of what is too long for a line.
    pub(super) fn compare_unseen<T: PartialEq>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{key} is another"));
        }
    }

    pub(super) fn push(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// Compares fields of a struct by their names. Those behind the semicolon are somebody else's. All have to be named, or it does
/// not compile.
macro_rules! compare {
    ($sentences:expr, $old:expr, $new:expr, $type:path { $($field:ident $(as $key:literal)?),* $(,)? ; $($rest:ident),* $(,)? }) => {{
        #[allow(unused_variables)]
        let $type { $($field,)* $($rest: _,)* } = $old;
        $($sentences.compare(compare!(@key $field $($key)?), $field, &$new.$field);)*
    }};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

pub(super) use compare;

/// A value as the config would write it, nearly.
pub(super) trait Say {
    fn say(&self) -> String;
}

impl Say for Duration {
    fn say(&self) -> String {
        match (self.as_nanos(), self.as_millis()) {
            (nanos, millis) if nanos % 1_000_000_000 == 0 => format!("{}s", millis / 1000),
            (nanos, millis) if nanos % 1_000_000 == 0 => format!("{millis}ms"),
            (nanos, _) => format!("{nanos}ns"),
        }
    }
}

macro_rules! say_as_shown {
    ($($type:ty),*) => { $(impl Say for $type { fn say(&self) -> String { self.to_string() } })* };
}

say_as_shown!(u8, u16, u32, u64, usize, SocketAddr, IpAddr, evenkeel_model::Cidr);

impl Say for bool {
    fn say(&self) -> String {
        if *self { "on" } else { "off" }.to_owned()
    }
}

impl Say for str {
    fn say(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Say for String {
    fn say(&self) -> String {
        self.as_str().say()
    }
}

impl Say for PathBuf {
    fn say(&self) -> String {
        self.display().to_string().say()
    }
}

impl<T: Say + ?Sized> Say for Box<T> {
    fn say(&self) -> String {
        (**self).say()
    }
}

impl<T: Say + ?Sized> Say for Arc<T> {
    fn say(&self) -> String {
        (**self).say()
    }
}

impl<T: Say + ?Sized> Say for &T {
    fn say(&self) -> String {
        (**self).say()
    }
}

impl<T: Say> Say for Option<T> {
    fn say(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Say::say)
    }
}

impl<T: Say> Say for [T] {
    fn say(&self) -> String {
        let all: Vec<String> = self.iter().map(Say::say).collect();
        if all.is_empty() { "none".to_owned() } else { format!("[{}]", all.join(", ")) }
    }
}

impl<T: Say> Say for Vec<T> {
    fn say(&self) -> String {
        self.as_slice().say()
    }
}

/// A word of the config, told without quotes.
#[derive(PartialEq)]
pub(super) struct Word(pub String);

impl Word {
    pub(super) fn of(shown: impl Display) -> Word {
        Word(shown.to_string())
    }
}

impl Say for Word {
    fn say(&self) -> String {
        self.0.clone()
    }
}
