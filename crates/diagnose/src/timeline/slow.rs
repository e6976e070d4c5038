//! Where the time of a slow request went, when nothing failed.
//!
//! The longest part is named and nothing else: an operator asks whom to ask next, and a list of eight numbers, which the steps
//! are anyway, does not say.

use std::time::Duration;

use evenkeel_model::exchange::Record;

use super::words::span;

/// One part of a request's time, and whose it is.
struct Part {
    took: Duration,
    /// Goes on from "were spent".
    whose: &'static str,
}

fn parts(record: &Record) -> Vec<Part> {
    let times = &record.times;
    let between = |from: Option<_>, to: Option<_>| match (from, to) {
        (Some(from), Some(to)) => to - from,
        _ => Duration::ZERO,
    };
    let last = record.attempts.last();
    let failed: Duration =
        record.attempts.iter().filter(|attempt| attempt.cause.is_some()).map(|attempt| attempt.took).sum();
    let (started, connected, sent) = match last {
        Some(attempt) => (Some(attempt.started), attempt.connected, attempt.sent),
        None => (times.picked, times.connected, times.request_sent),
    };
    let backend_done = times.answered.unwrap_or(times.ended);
    vec![
        Part {
            took: between(Some(times.started), times.head),
            whose: "before the client had sent the head of its request: the client, or the way from it",
        },
        Part {
            took: between(times.queued, times.dequeued),
            whose: "in the queue for a place at a backend: the pool is at its limit",
        },
        Part { took: failed, whose: "in tries that failed, before the one that answered" },
        Part {
            took: between(started, connected),
            whose: "connecting to the backend: the network, or a full accept queue",
        },
        Part {
            took: between(connected, sent),
            whose: "sending the request: the client's upload, or a backend that does not read it",
        },
        Part {
            took: between(sent, times.first_byte),
            whose: "waiting for the first byte of the answer: the backend's application",
        },
        Part {
            took: between(times.first_byte, Some(backend_done)),
            whose: "while the answer came: its size, the backend, or a client that reads slowly",
        },
        Part {
            took: times.ended - backend_done,
            whose: "waiting for the client to take the rest of the answer: the client, or the way to it",
        },
    ]
}

pub(super) fn sentence(record: &Record) -> String {
    let total = record.times.ended - record.times.started;
    let longest = parts(record).into_iter().max_by_key(|part| part.took);
    match longest.filter(|part| !part.took.is_zero()) {
        Some(part) => {
            format!("Nothing failed. It took {}, of which {} were spent {}.", span(total), span(part.took), part.whose)
        }
        None => format!("Nothing failed. It took {}.", span(total)),
    }
}
