//! The admin address: `/metrics`, `/ready`, `/status`, and the dashboard at `/`.
//!
//! Runs on the main thread's small runtime, away from the workers. Questions about state go to the control
//! thread, which owns it; a scrape therefore never takes a lock that traffic could want.

mod page;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustix::process::setpriority_process;

use crate::node::View;
use crate::service::Desk;

/// A ninth of the CPU that an ordinary thread beside it gets.
const PAGES_NICE: i32 = 10;

/// The pages over one node's view. Changes of the plan are asked at the desk; a node whose plan is not
/// of a file (the demo's) has none.
pub fn router(view: View, _desk: Option<Desk>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .with_state(view)
        .merge(page::router())
}

async fn metrics(State(view): State<View>) -> Response {
    match run(move || Some(view.metrics())).await {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        None => stopped(),
    }
}

async fn ready(State(view): State<View>) -> Response {
    match run(move || view.boss.look(crate::status::ready)).await {
        Some(body) => {
            let status = if body.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, axum::Json(body)).into_response()
        }
        None => stopped(),
    }
}

async fn status(State(view): State<View>) -> Response {
    match run(move || view.status()).await {
        Some(body) => axum::Json(body).into_response(),
        None => stopped(),
    }
}

/// Waiting for the control thread's answer blocks, so it gets a thread of its own. That gives way to all other threads of
/// the node: a page of 100,000 backends is seconds of work, and where probes have the same core it must not make them late.
async fn run<T: Send + 'static>(ask: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    let gently = || {
        // To Linux the thread that asks is what is meant by no number. It can only fail where it is so already.
        let _ = setpriority_process(None, PAGES_NICE);
        ask()
    };
    tokio::task::spawn_blocking(gently).await.ok().flatten()
}

fn stopped() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the node is stopping\n").into_response()
}
