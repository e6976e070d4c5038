//! `/metrics` and `/ready`, for machines that look every few seconds.
//!
//! They stand outside of `/api/v1`, where every scraper and orchestrator looks for them.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::admin::{Problem, Shared, run};
use crate::status::shape::Ready;

/// Counters in the text format of Prometheus. On loopback it wants no token.
#[utoipa::path(
    get, path = "/metrics", tag = "machines", security((), ("token" = [])),
    responses((status = 200, description = "The counters", body = String, content_type = "text/plain")),
)]
pub async fn metrics(State(admin): Shared) -> Result<Response, Problem> {
    let view = admin.view.clone();
    let text = run(move || view.metrics()).await.ok_or_else(Problem::stopping)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Whether every pool that a listener serves has somebody to offer. Never wants a token.
#[utoipa::path(
    get, path = "/ready", tag = "machines", security(()),
    responses(
        (status = 200, description = "It has", body = Ready),
        (status = 503, description = "Some have not", body = Ready),
    ),
)]
pub async fn ready(State(admin): Shared) -> Result<Response, Problem> {
    let boss = admin.view.boss.clone();
    let mut ready = run(move || boss.look(crate::status::ready)).await.flatten().ok_or_else(Problem::stopping)?;
    if admin.view.stopping.load(Ordering::Relaxed) {
        (ready.ready, ready.stopping) = (false, true);
    }
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(ready)).into_response())
}
