//! What went wrong, by cause and by whose fault it is.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use evenkeel_diagnose::explain::{self, Explained};
use evenkeel_model::{Cause, Instant, limits};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::ask::Name;
use crate::admin::problem::Problem;
use crate::admin::{Shared, answer, page};
use crate::node::View;

/// What went wrong since `since`.
#[derive(Serialize, ToSchema)]
pub struct Causes {
    since: String,
    /// Those that came at all; the most frequent of the last quarter of an hour first.
    causes: Vec<CauseCount>,
    /// Sums by whose fault it is: `client`, `backend`, `operator`, `evenkeel`.
    by_blame: BTreeMap<&'static str, Counts>,
}

#[derive(Serialize, ToSchema)]
pub struct CauseCount {
    code: &'static str,
    blame: &'static str,
    phase: &'static str,
    #[serde(flatten)]
    counts: Counts,
    by: Vec<Place>,
}

#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub struct Counts {
    total: u64,
    last_minute: u64,
    last_15_minutes: u64,
    last_hour: u64,
}

/// Where it came: exchanges of a listener, or attempts at a backend of a pool.
#[derive(Serialize, ToSchema)]
pub struct Place {
    listener: Option<String>,
    pool: Option<String>,
    backend: Option<String>,
    total: u64,
}

/// Places told of one cause: those where it came most often.
const PLACES: usize = 20;

/// What went wrong.
#[utoipa::path(
    get, path = "/api/v1/causes", tag = "causes",
    responses((status = 200, description = "Counts by cause and by blame", body = Causes)),
)]
pub async fn causes(State(admin): Shared) -> Result<Response, Problem> {
    let (view, history) = (admin.view.clone(), admin.history.clone());
    page(move || {
        let samples = |minutes: u64| (minutes * 60 / limits::HISTORY_STEP.value) as usize;
        let mut causes = Vec::new();
        let mut by_blame: BTreeMap<&'static str, Counts> = BTreeMap::new();
        for (cause, total, by) in places(&view) {
            let entry = cause.entry();
            let within = |minutes| history.cause(cause, samples(minutes));
            let counts = Counts { total, last_minute: within(1), last_15_minutes: within(15), last_hour: within(60) };
            let sum = by_blame.entry(entry.blame.word()).or_default();
            sum.total += counts.total;
            sum.last_minute += counts.last_minute;
            sum.last_15_minutes += counts.last_15_minutes;
            sum.last_hour += counts.last_hour;
            causes.push(CauseCount {
                code: entry.code,
                blame: entry.blame.word(),
                phase: entry.phase.word(),
                counts,
                by,
            });
        }
        causes.sort_by_key(|cause| std::cmp::Reverse((cause.counts.last_15_minutes, cause.counts.total)));
        Some(Causes { since: view.epoch.rfc3339(Instant::START), causes, by_blame })
    })
    .await
}

/// Each cause that came, how often exchanges ended with it, and where it came.
fn places(view: &View) -> Vec<(Cause, u64, Vec<Place>)> {
    let mut totals = vec![0; Cause::ALL.len()];
    let mut places: Vec<Vec<Place>> = Cause::ALL.iter().map(|_| Vec::new()).collect();
    view.registry.each_listener(|name, workers| {
        for cause in Cause::ALL {
            let total: u64 = workers.iter().map(|set| set.causes.read(*cause)).sum();
            if total > 0 {
                totals[cause.index()] += total;
                let listener = Some(name.to_string());
                places[cause.index()].push(Place { listener, pool: None, backend: None, total });
            }
        }
    });
    view.registry.each_backend(|label, workers| {
        for cause in Cause::ALL {
            let total: u64 = workers.iter().map(|set| set.causes.read(*cause)).sum();
            if total > 0 {
                let (pool, backend) = (Some(label.pool.to_string()), Some(label.backend.to_string()));
                places[cause.index()].push(Place { listener: None, pool, backend, total });
            }
        }
    });
    let told = Cause::ALL.iter().zip(totals).zip(places).filter(|(_, places)| !places.is_empty());
    let told = told.map(|((cause, total), mut places)| {
        places.sort_by_key(|place| std::cmp::Reverse(place.total));
        places.truncate(PLACES);
        (*cause, total, places)
    });
    told.collect()
}

/// What a cause means, who is to blame and what to do: as `evenkeel explain --json CODE`.
#[utoipa::path(
    get, path = "/api/v1/causes/{code}", tag = "causes",
    params(("code" = String, Path, description = "Code of the cause", example = "backend_connect_refused")),
    responses(
        (status = 200, description = "The cause", body = Explained),
        (status = 404, description = "There is none of that code", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn cause(Name(code): Name) -> Result<Response, Problem> {
    answer(move || match Cause::from_code(&code) {
        Some(cause) => Ok(Explained::from(cause)),
        None => Err(match explain::closest(&code) {
            Some(near) => Problem::absent("cause", &code, std::iter::once(near.code())),
            None => Problem::absent("cause", &code, std::iter::empty()),
        }),
    })
    .await
}
