//! What is different between two plans, in sentences an operator reads: `response_timeout 60s -> 10s`.
//!
//! Plans are compared and not texts: a key that was moved, commented on or left out for its default is no difference, and a file that a
//! config names is one when what is in it changed. Things are found again by what an operator calls them, as in a reload: listeners,
//! pools and checks by name, backends by pool and address, certificates by their fingerprint.
//!
//! Every field is taken apart without `..`, so that one that is added to a plan does not compile before somebody has said how its
//! change reads. Secrets are never shown: that one is another is all there is to say.

mod listener;
mod node;
mod pool;
mod say;

use std::fmt;

use crate::plan::Plan;

pub use say::Sentences;

/// All differences, by what they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanDiff {
    pub listeners: Part,
    pub rules: Part,
    pub pools: Part,
    pub backends: Part,
    pub checks: Part,
    pub certificates: Part,
    /// Of the node itself and its admin address; only ever changed.
    pub node: Part,
}

/// What was added, removed and changed, each in the order of its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<Altered>,
}

/// One thing that is in both plans, and what is different about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    pub name: String,
    pub what: Vec<String>,
}

/// From the one to the other.
pub fn diff(old: &Plan, new: &Plan) -> PlanDiff {
    let mut diff = PlanDiff::default();
    // Targets follow from backends and checks.
    let Plan { node: _, admin: _, listeners: _, pools: _, backends: _, targets: _, names: _ } = old;
    node::compare(old, new, &mut diff);
    listener::compare(old, new, &mut diff);
    pool::compare(old, new, &mut diff);
    diff
}

impl PlanDiff {
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(|(_, part)| part.is_empty())
    }

    /// With what each is called, in the order they are shown.
    pub const fn parts(&self) -> [(&'static str, &Part); 7] {
        [
            ("listener", &self.listeners),
            ("rule", &self.rules),
            ("pool", &self.pools),
            ("backend", &self.backends),
            ("check", &self.checks),
            ("certificate", &self.certificates),
            ("node", &self.node),
        ]
    }
}

impl Part {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Finds again what is in both plans.
    fn pair<'a, T>(
        &mut self,
        old: &'a [(String, T)],
        new: &'a [(String, T)],
        compare: impl Fn(&T, &T, &mut Sentences),
    ) {
        let before: std::collections::BTreeMap<&str, &T> = old.iter().map(|(name, one)| (&**name, one)).collect();
        let after: std::collections::BTreeSet<&str> = new.iter().map(|(name, _)| &**name).collect();
        self.removed.extend(old.iter().filter(|(name, _)| !after.contains(&**name)).map(|(name, _)| name.clone()));
        for (name, one) in new {
            let Some(was) = before.get(&**name) else {
                self.added.push(name.clone());
                continue;
            };
            let mut sentences = Sentences::default();
            compare(was, one, &mut sentences);
            let what = sentences.into_vec();
            if !what.is_empty() {
                self.changed.push(Altered { name: name.clone(), what });
            }
        }
    }
}

impl fmt::Display for PlanDiff {
    /// For people: one line for each difference, `+` for what is new, `-` for what goes, `~` for what is another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (noun, part) in self.parts() {
            for name in &part.removed {
                writeln!(f, "- {noun} {name}")?;
            }
            for name in &part.added {
                writeln!(f, "+ {noun} {name}")?;
            }
            for Altered { name, what } in &part.changed {
                for sentence in what {
                    match noun {
                        "node" => writeln!(f, "~ {name}: {sentence}")?,
                        _ => writeln!(f, "~ {noun} {name}: {sentence}")?,
                    }
                }
            }
        }
        Ok(())
    }
}
