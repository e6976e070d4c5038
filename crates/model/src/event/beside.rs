//! Events of what is done beside traffic and probes: hooks, names of backends, the state file, changes of the config.
//!
//! Each is told when it turns from working to failing and when it turns back, not once per try. A hook that failed all night is
//! two lines in the morning.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Level, Short, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A hook could not be told of an event. It is tried again.
    HookFailed {
        hook: Arc<str>,
        why: Arc<str>,
    },
    /// An event was given up that a hook should have heard of; those after it are counted.
    HookLost {
        hook: Arc<str>,
        event: &'static str,
        why: Lost,
    },
    /// A hook was told of an event again.
    HookRecovered {
        hook: Arc<str>,
        lost: u64,
    },
    /// A name of backends has other answers than before, or the first ones.
    NameChanged {
        name: Arc<str>,
        backends: usize,
        added: usize,
        removed: usize,
    },
    /// A name has no answer now. The last good one is kept.
    NameFailed {
        name: Arc<str>,
        why: Arc<str>,
        kept: usize,
    },
    /// A name is answered again, after so long.
    NameRecovered {
        name: Arc<str>,
        failed_for: Duration,
    },
    /// There is a state file, but it is of no use.
    StateIgnored {
        path: Arc<str>,
        why: Arc<str>,
    },
    StateFailed {
        path: Arc<str>,
        why: Arc<str>,
    },
    StateRecovered {
        path: Arc<str>,
    },
    /// Another process was to take this one's place, and could not. This one goes on.
    UpgradeFailed {
        why: Arc<str>,
    },
    /// Files cannot be watched.
    WatchFailed {
        why: Arc<str>,
    },
    /// The access log cannot be opened anew, and the open one is written on.
    LogStuck {
        why: Arc<str>,
    },
    /// Another config runs.
    ConfigTaken {
        way: Way,
        by: Arc<str>,
        /// What it has, in short.
        now: Arc<str>,
    },
}

/// How a config came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The file was read again.
    Reloaded,
    /// Somebody brought it.
    Applied,
}

/// Why an event never reached a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was tried so many times.
    Tried(u32),
    /// So many newer ones wait.
    Crowded(usize),
}

impl Beside {
    pub const fn name(&self) -> &'static str {
        match self {
            Beside::HookFailed { .. } => "hook.failed",
            Beside::HookLost { .. } => "hook.lost",
            Beside::HookRecovered { .. } => "hook.recovered",
            Beside::NameChanged { .. } => "name.changed",
            Beside::NameFailed { .. } => "name.failed",
            Beside::NameRecovered { .. } => "name.recovered",
            Beside::StateIgnored { .. } => "state.ignored",
            Beside::StateFailed { .. } => "state.failed",
            Beside::StateRecovered { .. } => "state.recovered",
            Beside::ConfigTaken { way: Way::Reloaded, .. } => "node.reloaded",
            Beside::ConfigTaken { way: Way::Applied, .. } => "node.applied",
            Beside::UpgradeFailed { .. } => "node.upgrade_failed",
            Beside::WatchFailed { .. } => "node.watch_failed",
            Beside::LogStuck { .. } => "node.log_stuck",
        }
    }

    pub const fn level(&self) -> Level {
        match self {
            Beside::HookFailed { .. }
            | Beside::HookLost { .. }
            | Beside::NameFailed { .. }
            | Beside::StateIgnored { .. }
            | Beside::StateFailed { .. }
            | Beside::UpgradeFailed { .. }
            | Beside::WatchFailed { .. }
            | Beside::LogStuck { .. } => Level::Warn,
            Beside::HookRecovered { .. }
            | Beside::NameChanged { .. }
            | Beside::NameRecovered { .. }
            | Beside::StateRecovered { .. }
            | Beside::ConfigTaken { .. } => Level::Info,
        }
    }

    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        match self {
            Beside::HookFailed { hook, why } => {
                each("hook", Value::Text(hook));
                each("because", Value::Text(why));
            }
            Beside::HookLost { hook, event, why } => {
                each("hook", Value::Text(hook));
                each("lost_event", Value::Text(event));
                each("because", Value::Text(why.word()));
            }
            Beside::HookRecovered { hook, lost } => {
                each("hook", Value::Text(hook));
                each("lost", Value::Count(*lost));
            }
            Beside::NameChanged { name, backends, added, removed } => {
                each("name", Value::Text(name));
                each("backends", Value::Count(*backends as u64));
                each("backends_added", Value::Count(*added as u64));
                each("backends_removed", Value::Count(*removed as u64));
            }
            Beside::NameFailed { name, why, kept } => {
                each("name", Value::Text(name));
                each("because", Value::Text(why));
                each("backends_kept", Value::Count(*kept as u64));
            }
            Beside::NameRecovered { name, failed_for } => {
                each("name", Value::Text(name));
                each("failed_for", Value::Time(*failed_for));
            }
            Beside::StateIgnored { path, why } | Beside::StateFailed { path, why } => {
                each("path", Value::Text(path));
                each("because", Value::Text(why));
            }
            Beside::StateRecovered { path } => each("path", Value::Text(path)),
            Beside::ConfigTaken { way: _, by, now } => {
                each("by", Value::Text(by));
                each("now", Value::Text(now));
            }
            Beside::UpgradeFailed { why } | Beside::WatchFailed { why } | Beside::LogStuck { why } => {
                each("because", Value::Text(why))
            }
        }
    }
}

impl Lost {
    pub const fn word(self) -> &'static str {
        match self {
            Lost::Tried(_) => "tried",
            Lost::Crowded(_) => "crowded",
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Beside::HookFailed { hook, why } => write!(f, "hook {hook} could not be told, it is tried again: {why}"),
            Beside::HookLost { hook, event, why: Lost::Tried(tries) } => {
                write!(f, "hook {hook} never heard of {event}, tried {}; ", Counted(u64::from(*tries), "time"))?;
                f.write_str("further losses are counted")
            }
            Beside::HookLost { hook, event, why: Lost::Crowded(waiting) } => {
                write!(
                    f,
                    "hook {hook} never heard of {event}, {} wait already; ",
                    Counted(*waiting as u64, "newer event")
                )?;
                f.write_str("further losses are counted")
            }
            Beside::HookRecovered { hook, lost: 0 } => write!(f, "hook {hook} hears again, nothing was lost"),
            Beside::HookRecovered { hook, lost } => {
                write!(f, "hook {hook} hears again, of {} it never did", Counted(*lost, "event"))
            }
            Beside::NameChanged { name, backends, added, removed } => {
                let backends = Counted(*backends as u64, "backend");
                write!(f, "name \"{name}\" stands for {backends} now ({added} added, {removed} removed)")
            }
            Beside::NameFailed { name, why, kept: 0 } => {
                write!(f, "name \"{name}\" has no answer, and never had one, so it stands for no backend: {why}")
            }
            Beside::NameFailed { name, why, kept } => {
                let kept = Counted(*kept as u64, "backend");
                write!(f, "name \"{name}\" has no answer now, the last one is kept ({kept}): {why}")
            }
            Beside::NameRecovered { name, failed_for } => {
                write!(f, "name \"{name}\" is answered again, after {}", Short(*failed_for))
            }
            Beside::StateIgnored { path, why } => write!(f, "state file \"{path}\" is not used: {why}"),
            Beside::StateFailed { path, why } => {
                write!(f, "state file \"{path}\" cannot be written, a restart would begin with what it has now: {why}")
            }
            Beside::WatchFailed { why } => write!(f, "files are not watched until the next reload: {why}"),
            Beside::LogStuck { why } => write!(f, "lines go where they went before: {why}"),
            Beside::UpgradeFailed { why } => {
                write!(f, "no other process took over, this one goes on as before: {why}")
            }
            Beside::StateRecovered { path } => write!(f, "state file \"{path}\" is written again"),
            Beside::ConfigTaken { way: _, by, now } => write!(f, "by {by}: {now}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reads_as_one_sentence() {
        let hook = || Arc::<str>::from("https://pager.example");
        let name = || Arc::<str>::from("app.internal");
        let table = [
            (
                Beside::HookFailed { hook: hook(), why: "status 500".into() },
                "hook https://pager.example could not be told, it is tried again: status 500",
            ),
            (
                Beside::HookLost { hook: hook(), event: "backend.unhealthy", why: Lost::Tried(4) },
                "hook https://pager.example never heard of backend.unhealthy, tried 4 times; further losses are counted",
            ),
            (
                Beside::HookRecovered { hook: hook(), lost: 1 },
                "hook https://pager.example hears again, of 1 event it never did",
            ),
            (
                Beside::NameChanged { name: name(), backends: 1, added: 0, removed: 2 },
                "name \"app.internal\" stands for 1 backend now (0 added, 2 removed)",
            ),
            (
                Beside::NameFailed { name: name(), why: "NXDOMAIN".into(), kept: 3 },
                "name \"app.internal\" has no answer now, the last one is kept (3 backends): NXDOMAIN",
            ),
            (
                Beside::NameFailed { name: name(), why: "timed out".into(), kept: 0 },
                "name \"app.internal\" has no answer, and never had one, so it stands for no backend: timed out",
            ),
        ];
        for (event, text) in table {
            assert_eq!(event.to_string(), text);
        }
    }
}
