//! What the node remembers of its own history: recent events, and void probes since the last report.
//!
//! Void probes are gathered and told once per period. An overloaded node is late for every probe,
//! and one line for each would add to the load that made it late.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel_model::event::{Event, Voids, What};
use evenkeel_model::finding::Void;
use evenkeel_model::{Instant, limits};

#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    events: VecDeque<Event>,
    /// Of the event kept last.
    seq: u64,
    voids: Voids,
    /// Set from the first void probe of a period on.
    report_at: Option<Instant>,
}

const PERIOD: Duration = Duration::from_secs(limits::VOID_REPORT.value);

impl Journal {
    /// Gives what happened its number and keeps it.
    pub(crate) fn keep(&mut self, at: Instant, what: What) -> Event {
        self.seq += 1;
        let event = Event { seq: self.seq, at, what };
        if self.events.len() == limits::RECENT_EVENTS.value as usize {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }

    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    pub(crate) fn events_after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        // Numbers are without gaps, so the place follows from the number.
        let first = self.events.front().map_or(0, |first| first.seq);
        let skipped = usize::try_from(seq.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.events.range(skipped.min(self.events.len())..)
    }

    pub(crate) fn count_void(&mut self, void: &Void, now: Instant) {
        match void {
            Void::Late { by } => {
                self.voids.late += 1;
                self.voids.late_by = self.voids.late_by.max(*by);
            }
            Void::NoResources { errno } => {
                self.voids.no_resources += 1;
                self.voids.errno = Some(*errno);
            }
            Void::EchoForbidden => self.voids.forbidden += 1,
            // We gave it up, or the operator said that silence means nothing: the node is well.
            Void::Cancelled | Void::Silent | Void::Doubtful(_) => return,
        }
        self.report_at.get_or_insert(now + PERIOD);
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.report_at
    }

    /// The report of a period that is over.
    pub(crate) fn voids_due(&mut self, now: Instant) -> Option<Voids> {
        if self.report_at? > now {
            return None;
        }
        self.report_at = None;
        Some(Voids { period: PERIOD, ..std::mem::take(&mut self.voids) })
    }
}
