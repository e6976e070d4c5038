//! What changed: the last events, and those to come as a stream.
//!
//! Numbers go on through the life of a process. Who asks behind a number that is not there any more is told how many were missed.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event as Line;
use evenkeel_model::{Epoch, limits};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::ask::Query;
use crate::admin::feed::Feed;
use crate::admin::problem::Problem;
use crate::admin::stream::{self, Lines};
use crate::admin::{Shared, page};
use crate::status::shape;

/// Events handed over in one piece of a stream.
const AT_ONCE: usize = 100;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only those behind this number.
    after: Option<u64>,
    /// At most so many: the first behind `after`, or without it the latest.
    #[param(minimum = 1, maximum = 5000)]
    limit: Option<u64>,
}

/// Oldest first.
#[derive(Serialize, ToSchema)]
pub struct Events {
    /// Events behind `after` that are no longer kept.
    missed: u64,
    events: Vec<shape::Event>,
}

/// What changed.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(Wanted),
    responses(
        (status = 200, description = "Events, oldest first", body = Events),
        (status = 400, description = "The query does not fit", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn events(State(admin): Shared, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let most = limits::RECENT_EVENTS.value;
    let limit = wanted.limit.unwrap_or(most);
    if !(1..=most).contains(&limit) {
        return Err(Problem::bad(format!("limit is {limit}, but it takes 1 to {most}")));
    }
    // OpenAPI knows whole numbers of 63 bits, and nobody counts further.
    if wanted.after.is_some_and(|after| i64::try_from(after).is_err()) {
        return Err(Problem::bad("after is beyond the number of any event"));
    }
    let (view, limit) = (admin.view.clone(), usize::try_from(limit).unwrap_or(usize::MAX));
    page(move || {
        let (missed, events) = match wanted.after {
            None => (0, view.feed.latest(limit)),
            Some(after) => {
                let news = view.feed.after(after, limit);
                (news.missed, news.events)
            }
        };
        Some(Events { missed, events: events.iter().map(|event| crate::status::event(event, view.epoch)).collect() })
    })
    .await
}

/// What changes, as it does: server-sent events, whose id is the event's number. `Last-Event-ID` goes on behind that one. A
/// reader that was too slow is told so by an event `dropped` with the number of those it missed.
#[utoipa::path(
    get, path = "/api/v1/events/stream", tag = "events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event that was seen")),
    responses(
        (status = 200, description = "A stream that does not end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "Last-Event-ID is no number", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams are open", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn stream(State(admin): Shared, headers: HeaderMap) -> Result<Response, Problem> {
    let from = match headers.get("last-event-id") {
        None => admin.view.feed.last(),
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            id.ok_or_else(|| Problem::bad("Last-Event-ID is not the number of an event"))?
        }
    };
    let place = admin.streams.place()?;
    let (feed, epoch) = (admin.view.feed.clone(), admin.view.epoch);
    Ok(stream::answer(place, move |lines| follow(feed, epoch, from, lines)))
}

/// Goes on until nobody reads.
async fn follow(feed: Feed, epoch: Epoch, from: u64, lines: Lines) {
    let mut news = feed.news();
    let mut last = from;
    loop {
        let more = feed.after(last, AT_ONCE);
        if more.missed > 0 {
            lines.send(Line::default().event("dropped").data(format!("{{\"missed\":{}}}", more.missed))).await;
        }
        for event in &more.events {
            last = event.seq;
            let text = serde_json::to_string(&crate::status::event(event, epoch))
                .expect("texts and numbers always have a JSON form");
            lines.send(Line::default().id(event.seq.to_string()).data(text)).await;
        }
        // The node holds the other end, and its last event has been told by then.
        if more.events.is_empty() && news.changed().await.is_err() {
            return;
        }
    }
}
