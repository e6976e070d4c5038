//! What was done in the last minutes.
//!
//! Taken from memory: to ask for it makes nobody count anything.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use evenkeel_model::limits;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::ask::Query;
use crate::admin::history::{BackendSample, ListenerSample};
use crate::admin::problem::Problem;
use crate::admin::{Shared, page};

/// Minutes of history that are kept, and told when nothing else is asked for.
const KEPT: u64 = limits::HISTORY_STEP.value * limits::HISTORY_SAMPLES.value / 60;
const USUAL: u64 = 15;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// How far back.
    #[param(minimum = 1, maximum = 60, default = 15)]
    minutes: Option<u64>,
}

/// Samples of what was done, oldest first.
#[derive(Serialize, ToSchema)]
pub struct Told {
    step_ms: u64,
    samples: Vec<ToldSample>,
}

#[derive(Serialize, ToSchema)]
pub struct ToldSample {
    /// The end of the step.
    time: String,
    listeners: BTreeMap<String, ListenerSample>,
    pools: BTreeMap<String, BackendSample>,
    /// By `pool/address`. Empty where there are more than 256 backends.
    backends: BTreeMap<String, BackendSample>,
}

/// What listeners, pools and backends did, a sample each five seconds.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "status", params(Wanted),
    responses(
        (status = 200, description = "The samples", body = Told),
        (status = 400, description = "The query does not fit", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn history(State(admin): Shared, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let minutes = wanted.minutes.unwrap_or(USUAL);
    if !(1..=KEPT).contains(&minutes) {
        return Err(Problem::bad(format!("minutes is {minutes}, but it takes 1 to {KEPT}")));
    }
    let (history, epoch) = (admin.history.clone(), admin.view.epoch);
    page(move || {
        let samples = history.last((minutes * 60 / limits::HISTORY_STEP.value) as usize, |sample| ToldSample {
            time: epoch.rfc3339(sample.at),
            listeners: sample.listeners.clone(),
            pools: sample.pools.clone(),
            backends: sample.backends.clone(),
        });
        Some(Told { step_ms: limits::HISTORY_STEP.value * 1000, samples })
    })
    .await
}
