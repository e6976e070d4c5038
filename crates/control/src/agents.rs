//! What agents say reaches the standings: percentages of the weight, and orders of their own.
//!
//! An agent's word is kept for its target, since several backends may rest on it, and what a line leaves out stays as it
//! was. The backend has what all its agents say together. It is a fact beside the operator's order: of the two the
//! stricter is in force (`Standing::order_in_force`).
//!
//! - An agent that cannot be asked leaves its last word standing, for as long as that lasts, and the verdict of its check
//!   as it is (`Finding::verdict`). HAProxy does the same: whether the backend lives is for its other checks to find out,
//!   and an agent that is restarted must not undo the drain it had asked for.
//! - `maint` does not stop the probes, else its end would never be heard.
//! - A new percentage is no event, for an agent that reports its load has a new one each time.

use evenkeel_model::event::What;
use evenkeel_model::finding::AgentSays;
use evenkeel_model::standing::{AgentWord, Order};
use evenkeel_model::{BackendId, TargetId};

use crate::control::Control;

impl Control {
    pub(crate) fn agent_said(&mut self, id: TargetId, says: AgentSays) {
        let target = &mut self.targets[id.index()];
        let word = target.word.unwrap_or_default().after(says);
        if target.word.replace(word) == Some(word) {
            return;
        }
        for position in 0..self.targets[id.index()].backends.len() {
            self.heed_agents(self.targets[id.index()].backends[position]);
        }
    }

    /// What the agents of a backend say together.
    pub(crate) fn agents_of(&self, id: BackendId) -> AgentWord {
        let targets = self.plan.backends[id.index()].targets.iter();
        targets.filter_map(|target| self.targets[target.index()].word).reduce(AgentWord::and).unwrap_or_default()
    }

    /// Brings the standing of a backend in line with its agents.
    pub(crate) fn heed_agents(&mut self, id: BackendId) {
        let to = self.agents_of(id);
        let standing = &mut self.standings[id.index()];
        let in_force = standing.order_in_force();
        let from = std::mem::replace(&mut standing.agent, to);
        if from == to {
            return;
        }
        self.touch(id);
        self.order_changed(id, in_force);
        let backend = &mut self.backends[id.index()];
        if from.order != to.order {
            backend.agent_ordered_at = self.now;
        }
        if from.order != to.order || (from.percent == 0) != (to.percent == 0) {
            let said = What::AgentSaid { pool: backend.pool.clone(), backend: backend.address, from, to };
            self.record(self.now, said);
        }
    }

    /// Slow start after the order in force was another one.
    pub(crate) fn order_changed(&mut self, id: BackendId, from: Order) {
        match (from, self.standings[id.index()].order_in_force()) {
            (Order::Maintain, Order::Maintain) => {}
            (_, Order::Maintain) => self.set_climb(id, None),
            // It was as if absent and joins again.
            (Order::Maintain, Order::Serve | Order::Drain) => self.start_climb(id),
            (Order::Serve | Order::Drain, Order::Serve | Order::Drain) => {}
        }
    }
}
