//! What an event says of the node's own troubles: why it suspects itself, and probes that say nothing through its fault.
//!
//! Beside the events of backends because its readers differ: whoever reads these looks at this machine, not at a server.

use std::fmt;
use std::time::Duration;

use super::{Counted, Short, Value};

/// Why a node suspects itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    Struck(Struck),
    Hampered(Hampered),
}

/// How many last probes say nothing for faults of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hampered {
    /// Timers served late.
    pub late: usize,
    /// No file, port or memory.
    pub shortage: usize,
    /// Checks that were probed at all.
    pub of: usize,
}

/// How much of what the node checks turned to failing together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Checks that turned within one interval.
    pub failing: usize,
    /// Those and the ones that still pass.
    pub of: usize,
    /// Groups of pools, unrelated to each other, in which most checks turned.
    pub groups: usize,
    /// Checks that turned because this node's own kernel knew no way to the backend.
    pub no_route: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voids {
    pub period: Duration,
    pub late: u64,
    /// The worst lateness among them.
    pub late_by: Duration,
    pub no_resources: u64,
    /// Of the last probe that could not be started.
    pub errno: Option<i32>,
    /// Echo requests that the kernel does not let us send.
    pub forbidden: u64,
}

impl Ground {
    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        match self {
            Ground::Struck(struck) => {
                each("because", Value::Text("failing_together"));
                each("failing", Value::Count(struck.failing as u64));
                each("of", Value::Count(struck.of as u64));
                each("groups", Value::Count(struck.groups as u64));
                each("no_route", Value::Count(struck.no_route as u64));
            }
            Ground::Hampered(hampered) => {
                each("because", Value::Text("void_probes"));
                each("late", Value::Count(hampered.late as u64));
                each("no_resources", Value::Count(hampered.shortage as u64));
                each("of", Value::Count(hampered.of as u64));
            }
        }
    }
}

impl Voids {
    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        each("period", Value::Time(self.period));
        each("late", Value::Count(self.late));
        each("late_by", Value::Time(self.late_by));
        each("no_resources", Value::Count(self.no_resources));
        if let Some(errno) = self.errno {
            each("errno", Value::Signed(i64::from(errno)));
        }
        each("echo_forbidden", Value::Count(self.forbidden));
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ground::Struck(struck) => {
                write!(
                    f,
                    "{} of {} in {} turned to failing within one interval",
                    struck.failing,
                    Counted(struck.of as u64, "check"),
                    Counted(struck.groups as u64, "unrelated group of pools"),
                )?;
                if struck.no_route > 0 {
                    write!(f, ", {} because its own kernel knows no way", struck.no_route)?;
                }
                f.write_str("; look at its own network first")
            }
            Ground::Hampered(hampered) => write!(
                f,
                "the last probes of {} of {} say nothing, {} because it was late and {} for want of files, ports or memory; look at its own load first",
                hampered.late + hampered.shortage,
                Counted(hampered.of as u64, "check"),
                hampered.late,
                hampered.shortage,
            ),
        }
    }
}

impl fmt::Display for Voids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Counted(self.late + self.no_resources + self.forbidden, "probe");
        write!(f, "{all} void within {}, through no fault of the backends: ", Short(self.period))?;
        let mut joint = "";
        if self.late > 0 {
            write!(f, "{} late, the worst by {}", self.late, Short(self.late_by))?;
            joint = "; ";
        }
        if self.no_resources > 0 {
            write!(f, "{joint}{} not started for want of resources", self.no_resources)?;
            if let Some(errno) = self.errno {
                write!(f, " (errno {errno})")?;
            }
            joint = "; ";
        }
        if self.forbidden > 0 {
            write!(
                f,
                "{joint}{} echo requests we may not send (net.ipv4.ping_group_range leaves our group out)",
                self.forbidden
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, What};
    use crate::time::Instant;

    #[test]
    fn the_node_says_what_it_suspects_itself_for_and_where_to_look() {
        let table = [
            (
                Ground::Struck(Struck { failing: 4, of: 4, groups: 1, no_route: 3 }),
                "this node suspects itself: 4 of 4 checks in 1 unrelated group of pools turned to failing within one interval, 3 because its own kernel knows no way; look at its own network first",
            ),
            (
                Ground::Hampered(Hampered { late: 6, shortage: 1, of: 12 }),
                "this node suspects itself: the last probes of 7 of 12 checks say nothing, 6 because it was late and 1 for want of files, ports or memory; look at its own load first",
            ),
        ];
        for (ground, text) in table {
            let event = Event { seq: 1, at: Instant::START, what: What::SelfSuspected(ground) };
            assert_eq!((event.name(), event.to_string().as_str()), ("node.suspects_itself", text));
        }
    }
}
