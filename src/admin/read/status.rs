//! The status document and slices of it.
//!
//! A slice is looked up by itself: one backend of 100,000 costs one look, and not the whole document.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::ask::{Name, Place};
use crate::admin::problem::Problem;
use crate::admin::{Shared, answer, page};
use crate::node::View;
use crate::status::Absent;
use crate::status::shape::{Backend, Listener, Pool, Status};

/// All pools with their backends.
#[derive(Serialize, ToSchema)]
pub struct Pools {
    pools: Vec<Pool>,
}

#[derive(Serialize, ToSchema)]
pub struct Listeners {
    listeners: Vec<Listener>,
}

/// Everything the node knows.
#[utoipa::path(
    get, path = "/api/v1/status", tag = "status",
    responses((status = 200, description = "The status document, also at /status", body = Status)),
)]
pub async fn status(State(admin): Shared) -> Result<Response, Problem> {
    let config = super::super::config::state(&admin).await;
    let view = admin.view.clone();
    page(move || {
        let mut status = view.status()?;
        status.config = config;
        Some(status)
    })
    .await
}

/// All pools, with backends, verdicts, checks and what probes found.
#[utoipa::path(
    get, path = "/api/v1/pools", tag = "status",
    responses((status = 200, description = "Pools in the order of the config", body = Pools)),
)]
pub async fn pools(State(admin): Shared) -> Result<Response, Problem> {
    let view = admin.view.clone();
    page(move || view.status().map(|status| Pools { pools: status.pools })).await
}

/// One pool.
#[utoipa::path(
    get, path = "/api/v1/pools/{pool}", tag = "status",
    params(("pool" = String, Path, description = "Name of the pool")),
    responses(
        (status = 200, description = "The pool", body = Pool),
        (status = 404, description = "There is none of that name", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn pool(State(admin): Shared, Name(name): Name) -> Result<Response, Problem> {
    let view = admin.view.clone();
    answer(move || {
        let found = crate::status::one_pool(&view.boss, &view.registry, view.epoch, view.clock, &name);
        let absent = |names: Vec<String>| Problem::absent("pool", &name, names.iter().map(String::as_str));
        found.ok_or_else(Problem::stopping)?.map_err(absent)
    })
    .await
}

/// One backend of a pool.
#[utoipa::path(
    get, path = "/api/v1/pools/{pool}/backends/{backend}", tag = "status",
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("backend" = String, Path, description = "Its address and port", example = "10.0.0.11:8080"),
    ),
    responses(
        (status = 200, description = "The backend", body = Backend),
        (status = 404, description = "The pool has none of that address, or there is no such pool", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn backend(State(admin): Shared, place: Place) -> Result<Response, Problem> {
    let view = admin.view.clone();
    answer(move || find(&view, &place)).await
}

/// The listeners.
#[utoipa::path(
    get, path = "/api/v1/listeners", tag = "status",
    responses((status = 200, description = "Listeners in the order of the config", body = Listeners)),
)]
pub async fn listeners(State(admin): Shared) -> Result<Response, Problem> {
    let view = admin.view.clone();
    page(move || crate::status::all_listeners(&view.boss, &view.registry).map(|listeners| Listeners { listeners }))
        .await
}

/// The backend that a path names, or which names there are.
pub fn find(view: &View, Place { pool, backend }: &Place) -> Result<Backend, Problem> {
    let found = crate::status::one_backend(&view.boss, &view.registry, view.epoch, view.clock, (pool, *backend));
    found.ok_or_else(Problem::stopping)?.map_err(|absent| match absent {
        Absent::Pool(names) => Problem::absent("pool", pool, names.iter().map(String::as_str)),
        Absent::Backend(addresses) => {
            let what = format!("backend in pool \"{pool}\" with address");
            Problem::absent(&what, &backend.to_string(), addresses.iter().map(String::as_str))
        }
    })
}
