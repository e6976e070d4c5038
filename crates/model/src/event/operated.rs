//! What operators did to backends of a running node, what ended by itself, and what the node would not do.
//!
//! One event for each change. Who asks for what is so already changes nothing and makes none.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Counted, Level, Short, Value};
use crate::standing::Order;

/// Something an operator did, or asked for in vain, to one backend of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operated {
    pub pool: Arc<str>,
    pub backend: SocketAddr,
    /// Who: the name of a token, or how somebody without one came in.
    pub by: Arc<str>,
    pub what: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An order, its time limit, or whether it outlives a restart, is another than before.
    Ordered {
        from: Order,
        to: Order,
        lasts: Option<Duration>,
        kept: bool,
    },
    /// The time limit of an order is over, and the backend is to serve again.
    OrderOver {
        from: Order,
    },
    /// The weight, or whether it outlives a restart, is another than before.
    Weighed {
        from: u32,
        to: u32,
        of_file: bool,
        kept: bool,
    },
    /// Probes were brought forward: so many, while as many others were under way anyway.
    ProbesBroughtForward {
        waiting: usize,
        in_flight: usize,
    },
    Refused {
        asked: Asked,
        why: Refused,
    },
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Order(Order),
    /// `None`: that of the config.
    Weight(Option<u32>),
    Probe,
}

/// Why an operator is not obeyed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoSuchPool,
    NoSuchBackend,
    /// It is to be kept, and the config names no `node.state_file`.
    NoStateFile,
    /// Serving is what a time limit leads back to.
    ServeHasNoEnd,
    /// Out of the range that a config may say.
    WeightOutOfRange {
        most: u32,
    },
    /// Its pool has no checks.
    NoCheck,
    /// Under order `maintain` nothing is probed.
    NotProbed,
}

impl Refused {
    pub const ALL: [Refused; 7] = [
        Refused::NoSuchPool,
        Refused::NoSuchBackend,
        Refused::NoStateFile,
        Refused::ServeHasNoEnd,
        Refused::WeightOutOfRange { most: 100 },
        Refused::NoCheck,
        Refused::NotProbed,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Refused::NoSuchPool => "no_such_pool",
            Refused::NoSuchBackend => "no_such_backend",
            Refused::NoStateFile => "no_state_file",
            Refused::ServeHasNoEnd => "serve_has_no_end",
            Refused::WeightOutOfRange { .. } => "weight_out_of_range",
            Refused::NoCheck => "no_check",
            Refused::NotProbed => "not_probed",
        }
    }

    /// The whole sentence, of this pool and backend.
    pub fn sentence(self, pool: &str, backend: SocketAddr) -> String {
        match self {
            Refused::NoSuchPool => format!("no pool is named \"{pool}\""),
            Refused::NoSuchBackend => format!("pool \"{pool}\" has no backend {backend}"),
            Refused::NoStateFile => "it is to be kept over a restart, but the config has no node.state_file; \
                name one, or ask without keeping"
                .to_owned(),
            Refused::ServeHasNoEnd => {
                "a time limit leads back to serve, so serve itself has none; leave the time out".to_owned()
            }
            Refused::WeightOutOfRange { most } => format!("a weight is 0 to {most}"),
            Refused::NoCheck => format!("pool \"{pool}\" has no checks, so there is nothing to probe"),
            Refused::NotProbed => {
                format!(
                    "backend {backend} of pool \"{pool}\" is in maintenance and not probed; order serve or drain first"
                )
            }
        }
    }
}

impl Asked {
    pub const fn word(self) -> &'static str {
        match self {
            Asked::Order(order) => order.word(),
            Asked::Weight(_) => "weight",
            Asked::Probe => "probe",
        }
    }
}

impl Operated {
    pub const fn name(&self) -> &'static str {
        match self.what {
            Operation::Ordered { .. } => "backend.ordered",
            Operation::OrderOver { .. } => "backend.order_over",
            Operation::Weighed { .. } => "backend.weighed",
            Operation::ProbesBroughtForward { .. } => "backend.probe_asked",
            Operation::Refused { asked: Asked::Order(_), .. } => "order.refused",
            Operation::Refused { asked: Asked::Weight(_), .. } => "weight.refused",
            Operation::Refused { asked: Asked::Probe, .. } => "probe.refused",
        }
    }

    pub const fn level(&self) -> Level {
        match self.what {
            Operation::Refused { .. } => Level::Warn,
            Operation::Ordered { .. }
            | Operation::OrderOver { .. }
            | Operation::Weighed { .. }
            | Operation::ProbesBroughtForward { .. } => Level::Info,
        }
    }

    pub(super) fn fields<'a>(&'a self, each: &mut dyn FnMut(&'static str, Value<'a>)) {
        each("pool", Value::Text(&self.pool));
        each("backend", Value::Address(self.backend));
        match &self.what {
            Operation::Ordered { from, to, lasts, kept } => {
                each("from", Value::Text(from.word()));
                each("to", Value::Text(to.word()));
                if let Some(lasts) = lasts {
                    each("for", Value::Time(*lasts));
                }
                each("kept", Value::Truth(*kept));
            }
            Operation::OrderOver { from } => {
                each("from", Value::Text(from.word()));
                each("to", Value::Text(Order::Serve.word()));
            }
            Operation::Weighed { from, to, of_file, kept } => {
                each("from", Value::Count(u64::from(*from)));
                each("to", Value::Count(u64::from(*to)));
                each("of_file", Value::Truth(*of_file));
                each("kept", Value::Truth(*kept));
            }
            Operation::ProbesBroughtForward { waiting, in_flight } => {
                each("brought_forward", Value::Count(*waiting as u64));
                each("in_flight", Value::Count(*in_flight as u64));
            }
            Operation::Refused { asked, why } => {
                each("asked", Value::Text(asked.word()));
                each("because", Value::Text(why.word()));
            }
        }
        each("by", Value::Text(&self.by));
    }
}

impl fmt::Display for Operated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operated { pool, backend, by, what } = self;
        match what {
            Operation::Ordered { from, to, lasts, kept } => {
                write!(f, "backend {backend} of pool \"{pool}\": order {}", to.word())?;
                match lasts {
                    Some(lasts) => write!(f, " for {}", Whole(*lasts))?,
                    None if from == to => f.write_str(" without an end")?,
                    None => {}
                }
                if from != to {
                    write!(f, ", was {}", from.word())?;
                }
                write!(f, ", by {by}{}", keeping(*kept))
            }
            Operation::OrderOver { from } => {
                write!(
                    f,
                    "backend {backend} of pool \"{pool}\": the time of its order {} is over, it serves again; \
                     given by {by}",
                    from.word()
                )
            }
            Operation::Weighed { from, to, of_file, kept } => {
                write!(f, "backend {backend} of pool \"{pool}\": weight {to}")?;
                if *of_file {
                    f.write_str(" as in the config")?;
                }
                if from != to {
                    write!(f, ", was {from}")?;
                }
                write!(f, ", by {by}{}", keeping(*kept))
            }
            Operation::ProbesBroughtForward { waiting, in_flight } => {
                write!(
                    f,
                    "backend {backend} of pool \"{pool}\": {} brought forward, {} under way, by {by}",
                    Counted(*waiting as u64, "probe"),
                    in_flight,
                )
            }
            Operation::Refused { asked, why } => {
                write!(f, "{} for backend {backend} of pool \"{pool}\" refused: ", asked.word())?;
                write!(f, "{}, by {by}", why.sentence(pool, *backend))
            }
        }
    }
}

/// A time that an operator gave, as it was most likely given.
struct Whole(Duration);

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (1.., 1..) | (0, _) => Short(self.0).fmt(f),
            (seconds, _) if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            (seconds, _) if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            (seconds, _) => write!(f, "{seconds}s"),
        }
    }
}

const fn keeping(kept: bool) -> &'static str {
    if kept { "; kept over a restart" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(what: Operation) -> String {
        let backend = "10.0.0.1:80".parse().expect("an address");
        Operated { pool: "web".into(), backend, by: "ops".into(), what }.to_string()
    }

    #[test]
    fn each_operation_is_one_sentence_that_names_who_did_it() {
        use Order::{Drain, Serve};
        let minutes = Some(Duration::from_secs(600));
        let refused = |asked, why| Operation::Refused { asked, why };
        let table = [
            (
                Operation::Ordered { from: Serve, to: Drain, lasts: minutes, kept: true },
                "backend 10.0.0.1:80 of pool \"web\": order drain for 10m, was serve, by ops; kept over a restart",
            ),
            (
                Operation::Ordered { from: Drain, to: Drain, lasts: None, kept: false },
                "backend 10.0.0.1:80 of pool \"web\": order drain without an end, by ops",
            ),
            (
                Operation::OrderOver { from: Drain },
                "backend 10.0.0.1:80 of pool \"web\": the time of its order drain is over, it serves again; given by ops",
            ),
            (
                Operation::Weighed { from: 100, to: 20, of_file: false, kept: false },
                "backend 10.0.0.1:80 of pool \"web\": weight 20, was 100, by ops",
            ),
            (
                Operation::Weighed { from: 20, to: 100, of_file: true, kept: false },
                "backend 10.0.0.1:80 of pool \"web\": weight 100 as in the config, was 20, by ops",
            ),
            (
                Operation::ProbesBroughtForward { waiting: 1, in_flight: 2 },
                "backend 10.0.0.1:80 of pool \"web\": 1 probe brought forward, 2 under way, by ops",
            ),
            (
                refused(Asked::Order(Drain), Refused::NoSuchPool),
                "drain for backend 10.0.0.1:80 of pool \"web\" refused: no pool is named \"web\", by ops",
            ),
            (
                refused(Asked::Weight(Some(101)), Refused::WeightOutOfRange { most: 100 }),
                "weight for backend 10.0.0.1:80 of pool \"web\" refused: a weight is 0 to 100, by ops",
            ),
        ];
        for (what, expected) in table {
            assert_eq!(told(what), expected);
        }
    }

    #[test]
    fn refusals_have_words_of_their_own() {
        let words: std::collections::BTreeSet<_> = Refused::ALL.iter().map(|why| why.word()).collect();
        assert_eq!(words.len(), Refused::ALL.len());
    }
}
