//! Failed and slow requests: those that are kept, the story of one, and lines of the access log as they come.
//!
//! The words of a story are `diagnose`'s. Where settings stand is asked of the service each time, so that a line that moved with a
//! reload is told as it is now.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event as Line;
use evenkeel_diagnose::explain;
use evenkeel_diagnose::timeline::{Fired, Step, Then, Told};
use evenkeel_model::exchange::{ExchangeId, Record};
use evenkeel_model::{Blame, Cause};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::ask::{Name, Query};
use crate::admin::problem::{Problem, shown};
use crate::admin::stream;
use crate::admin::{Admin, Shared, answer};
use crate::service::Running;
use crate::trace::{Lines, LiveReader, Said, Written, told};

/// Stories told when nothing else is asked for, and at most.
const USUAL: u64 = 50;
const MOST: u64 = 1000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only those with this cause.
    cause: Option<String>,
    /// Only those whose cause has this blame: `client`, `balancer`, `backend`, `network` or `operator`.
    blame: Option<String>,
    listener: Option<String>,
    pool: Option<String>,
    /// Only those whose last backend was this one.
    backend: Option<String>,
    /// Only those that were slow and went well, or with `false` only those that failed.
    slow: Option<bool>,
    /// At most so many, the newest.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u64>,
}

/// Newest first.
#[derive(Serialize, ToSchema)]
pub struct Requests {
    /// All that are kept now.
    kept: usize,
    /// Failed or slow requests that were only counted, because others of their cause were kept in the same second.
    counted_only: u64,
    #[schema(value_type = Vec<Request>)]
    requests: Vec<Told>,
}

/// A request: the fields of its line in the access log, those that apply, and its story.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what a line of the log and a story make together")]
pub struct Request {
    /// When its first byte came.
    time: String,
    id: String,
    listener: String,
    client: String,
    method: Option<String>,
    host: Option<String>,
    target: Option<String>,
    status: Option<u16>,
    duration_ms: f64,
    pool: Option<String>,
    backend: Option<String>,
    cause: Option<String>,
    blame: Option<String>,
    timeline: Vec<Step>,
    backend_then: Option<Then>,
    timer: Option<Fired>,
    /// For people: whose fault it was, and what to do.
    explanation: Vec<String>,
}

/// Failed and slow requests that are kept.
#[utoipa::path(
    get, path = "/api/v1/requests", tag = "requests", params(Wanted),
    responses(
        (status = 200, description = "Requests, newest first", body = Requests),
        (status = 400, description = "The query does not fit", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn requests(State(admin): Shared, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let filter = Filter::of(&wanted)?;
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad(format!("limit is {limit}, but it takes 1 to {MOST}")));
    }
    let running = running(&admin).await;
    let view = admin.view.clone();
    answer(move || {
        let found = view.requests.newest(limit as usize, |record| filter.takes(record));
        let written = running.as_ref().map(written);
        let requests = found.iter().map(|record| told(record, view.epoch, written)).collect();
        Ok(Requests { kept: view.requests.kept(), counted_only: view.requests.sampled_out(), requests })
    })
    .await
}

/// The story of one request: every step, who is to blame, which time ran out and where that is set.
#[utoipa::path(
    get, path = "/api/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path, description = "Its id, as the access log and our own answers have it", example = "6d1fca0e5c1a33b80001000000000007")),
    responses(
        (status = 200, description = "The request", body = Request),
        (status = 404, description = "None of this id is kept", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn request(State(admin): Shared, Name(id): Name) -> Result<Response, Problem> {
    let Some(wanted) = ExchangeId::from_hex(&id) else {
        let detail = format!("\"{}\" is no id of a request: those are 32 hexadecimal digits", shown(&id));
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let running = running(&admin).await;
    let view = admin.view.clone();
    answer(move || {
        let record = view.requests.find(wanted).ok_or_else(|| {
            let detail = format!(
                "no request \"{wanted}\" is kept: it went well, it is older than the {} that are, or others of its cause were \
                 kept in its stead; `evenkeel explain {wanted} --log FILE` finds it in an access log",
                view.requests.kept()
            );
            Problem::new(StatusCode::NOT_FOUND, detail)
        })?;
        Ok(told(&record, view.epoch, running.as_ref().map(written)))
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Followed {
    /// Only lines of requests that failed.
    failed: Option<bool>,
}

/// Lines of the access log as they come, whether or not it is written anywhere: server-sent events. A reader that was too slow is
/// told so by an event `dropped` with the number of those it missed.
#[utoipa::path(
    get, path = "/api/v1/requests/stream", tag = "requests", params(Followed),
    responses(
        (status = 200, description = "A stream that does not end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "The query does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams are open", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn stream(State(admin): Shared, Query(wanted): Query<Followed>) -> Result<Response, Problem> {
    let place = admin.streams.place()?;
    let which = if wanted.failed == Some(true) { Lines::Failed } else { Lines::All };
    let reader = admin.view.requests.live(which);
    Ok(stream::answer(place, move |lines| follow(reader, lines)))
}

/// Goes on until nobody reads.
async fn follow(mut reader: LiveReader, lines: stream::Lines) {
    loop {
        let line = match reader.next().await {
            Said::Line(text) => Line::default().data(text),
            Said::Dropped(missed) => Line::default().event("dropped").data(format!("{{\"missed\":{missed}}}")),
        };
        lines.send(line).await;
    }
}

/// What runs, for the places of settings; `None` where nobody serves a config file.
async fn running(admin: &Admin) -> Option<Running> {
    admin.desk.as_ref()?.running().await
}

fn written(running: &Running) -> Written<'_> {
    Written { recipe: &running.recipe, text: &running.text.text, file: &running.text.name }
}

/// What a query asks for, its words understood.
struct Filter {
    cause: Option<Cause>,
    blame: Option<Blame>,
    listener: Option<String>,
    pool: Option<String>,
    backend: Option<SocketAddr>,
    slow: Option<bool>,
}

impl Filter {
    fn of(wanted: &Wanted) -> Result<Filter, Problem> {
        let cause = match &wanted.cause {
            None => None,
            Some(code) => Some(Cause::from_code(code).ok_or_else(|| {
                let near = explain::closest(code).map(|near| format!("; did you mean \"{}\"?", near.code()));
                Problem::bad(format!("there is no cause \"{}\"{}", shown(code), near.unwrap_or_default()))
            })?),
        };
        let blame = match &wanted.blame {
            None => None,
            Some(word) => Some(BLAMES.into_iter().find(|blame| blame.word() == word).ok_or_else(|| {
                let words = BLAMES.map(Blame::word).join(", ");
                Problem::bad(format!("blame is \"{}\", but it takes one of {words}", shown(word)))
            })?),
        };
        let backend = match &wanted.backend {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Problem::bad(format!("backend is \"{}\", but it takes an address with its port", shown(text)))
            })?),
        };
        let (listener, pool) = (wanted.listener.clone(), wanted.pool.clone());
        Ok(Filter { cause, blame, listener, pool, backend, slow: wanted.slow })
    }

    fn takes(&self, record: &Record) -> bool {
        let blame = record.cause.map(|cause| cause.entry().blame);
        self.cause.is_none_or(|cause| record.cause == Some(cause))
            && self.blame.is_none_or(|wanted| blame == Some(wanted))
            && self.listener.as_deref().is_none_or(|name| *record.listener == *name)
            && self.pool.as_deref().is_none_or(|name| record.pool.as_deref() == Some(name))
            && self.backend.is_none_or(|address| record.backend == Some(address))
            && self.slow.is_none_or(|slow| record.cause.is_none() == slow)
    }
}

const BLAMES: [Blame; 5] = [Blame::Client, Blame::Balancer, Blame::Backend, Blame::Network, Blame::Operator];
