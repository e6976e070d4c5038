//! Which requests are traced, and what their backends are told of it.
//!
//! Decided once, when the head is read. A traced request goes on with a `traceparent` of ours, in which the span is that of
//! the try under way: each try finds its own id in the same bytes. A request that is not traced goes on as it came, so that
//! somebody else's trace does not break here.

use std::sync::Arc;

use evenkeel_l4::Core;
use evenkeel_model::exchange::{ExchangeId, Traced, is_sampled};
use evenkeel_plan::Traces;
use evenkeel_reactor::Driver;
use evenkeel_wire::trace_context::{TRACEPARENT_LEN, TraceParent};
use evenkeel_wire::{RequestHead, TraceField};

use crate::http::Http;

impl Http {
    /// Takes over what the plan says of traces.
    pub fn follow_traces<D: Driver>(&mut self, core: &Core<D>) {
        let traces = core.roster.plan().and_then(|plan| plan.node.traces.clone());
        self.traces = traces.map(Arc::new);
    }
}

/// Whether a request is traced.
pub(crate) fn decide(traces: &Traces, head: &RequestHead<'_, '_>, id: ExchangeId) -> Option<Traced> {
    match parent(head).filter(|_| traces.trust_traceparent) {
        Some(parent) => parent.sampled.then_some(Traced { trace: parent.trace, parent: Some(parent.span) }),
        None => is_sampled(id, traces.per_million).then(|| Traced::begun(id)),
    }
}

/// What becomes of the fields of a trace. `value` is what goes into `traceparent`, see [`value`].
pub(crate) fn field<'a>(traces: Option<&Traces>, traced: Option<Traced>, value: &'a [u8]) -> TraceField<'a> {
    match (traces, traced) {
        (_, Some(Traced { parent: Some(_), .. })) => TraceField::Continued(value),
        (_, Some(Traced { parent: None, .. })) => TraceField::Begun(value),
        (Some(traces), None) if !traces.trust_traceparent => TraceField::Removed,
        (_, None) => TraceField::AsIs,
    }
}

/// The `traceparent` of a request's first try.
pub(crate) fn value(traced: Traced, id: ExchangeId) -> [u8; TRACEPARENT_LEN] {
    TraceParent { trace: traced.trace, span: Traced::span(id, 1), sampled: true }.write()
}

/// The one field of the name; with two of them nobody knows which is meant.
fn parent(head: &RequestHead<'_, '_>) -> Option<TraceParent> {
    let mut fields = head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"traceparent"));
    match (fields.next(), fields.next()) {
        (Some((_, value)), None) => TraceParent::parse(value),
        _ => None,
    }
}
