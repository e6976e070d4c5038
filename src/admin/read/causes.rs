//! What went wrong, by cause and by whose fault it is.
//!
//! Counts are those of the digest; what a cause means stands in one table, and is told as `evenkeel explain` tells it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use evenkeel_diagnose::explain::{self, Explained};
use evenkeel_model::{Cause, Epoch};
use evenkeel_observe::Struck;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::ask::Name;
use crate::admin::problem::Problem;
use crate::admin::{Shared, answer, page};

/// What went wrong since `since`.
#[derive(Serialize, ToSchema)]
pub struct Causes {
    since: String,
    /// Those that came at all; the most frequent of the last hour first.
    causes: Vec<CauseCount>,
    /// Sums by whose fault it is: `client`, `balancer`, `backend`, `network`, `operator`.
    by_blame: BTreeMap<&'static str, Counts>,
}

#[derive(Serialize, ToSchema)]
pub struct CauseCount {
    code: &'static str,
    blame: &'static str,
    phase: &'static str,
    #[serde(flatten)]
    counts: Counts,
    by: Vec<Where>,
    last: Last,
}

#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub struct Counts {
    total: u64,
    last_minute: u64,
    last_15_minutes: u64,
    last_hour: u64,
}

/// Where exchanges ended with it; `pool` and `backend` where they had come so far.
#[derive(Serialize, ToSchema)]
pub struct Where {
    listener: String,
    pool: Option<String>,
    backend: Option<String>,
    total: u64,
}

/// The exchange that it struck last.
#[derive(Serialize, ToSchema)]
pub struct Last {
    time: String,
    /// Its id, for `/api/v1/requests/{id}`.
    request: String,
}

/// Places told of one cause: those where it came most often.
const PLACES: usize = 20;

/// What went wrong.
#[utoipa::path(
    get, path = "/api/v1/causes", tag = "causes",
    responses((status = 200, description = "Counts by cause and by blame", body = Causes)),
)]
pub async fn causes(State(admin): Shared) -> Result<Response, Problem> {
    let view = admin.view.clone();
    page(move || {
        let mut by_blame: BTreeMap<&'static str, Counts> = BTreeMap::new();
        let (since, struck) = view.requests.causes(view.clock.now());
        let causes = struck.into_iter().map(|struck| {
            let counts = Counts::from(&struck);
            by_blame.entry(struck.cause.entry().blame.word()).or_default().add(counts);
            told(struck, counts, view.epoch)
        });
        let causes = causes.collect();
        Some(Causes { since: view.epoch.rfc3339(since), causes, by_blame })
    })
    .await
}

impl From<&Struck> for Counts {
    fn from(struck: &Struck) -> Counts {
        Counts {
            total: struck.total,
            last_minute: struck.last_minute,
            last_15_minutes: struck.last_15_minutes,
            last_hour: struck.last_hour,
        }
    }
}

impl Counts {
    fn add(&mut self, more: Counts) {
        self.total += more.total;
        self.last_minute += more.last_minute;
        self.last_15_minutes += more.last_15_minutes;
        self.last_hour += more.last_hour;
    }
}

fn told(struck: Struck, counts: Counts, epoch: Epoch) -> CauseCount {
    let entry = struck.cause.entry();
    let by = struck.by.into_iter().take(PLACES).map(|(place, total)| Where {
        listener: place.listener.into(),
        pool: place.pool.map(Into::into),
        backend: place.backend.map(|backend| backend.to_string()),
        total,
    });
    CauseCount {
        code: entry.code,
        blame: entry.blame.word(),
        phase: entry.phase.word(),
        counts,
        by: by.collect(),
        last: Last { time: epoch.rfc3339(struck.last), request: struck.id.to_string() },
    }
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
