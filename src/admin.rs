//! The admin side: status, events, history and orders over HTTP, described by an OpenAPI document.
//!
//! Runs on the main thread's small runtime, away from the workers. Questions about state go to the control thread, which owns
//! it, in short looks; a scrape therefore never takes a lock that traffic could want, and no page makes a probe late.
//!
//! ```text
//! doors.rs     who may connect at all: addresses, a socket of the file system, TLS, slow clients
//! guard.rs     who asks, and may they; what a browser must not be made to ask
//! ask.rs       what is asked: queries, bodies, names
//! read/        pages that change nothing          order.rs, config.rs   what changes something
//! page.rs      the dashboard
//! problem.rs   every answer that is no success    describe.rs           all of it as an OpenAPI document
//! ```

mod ask;
mod config;
mod describe;
mod diff;
mod doors;
mod feed;
mod guard;
mod history;
mod order;
mod page;
mod problem;
mod read;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use evenkeel_model::limits;
use rustix::process::setpriority_process;

pub use describe::document as openapi;
pub use doors::Doors;
pub use feed::Feed;
pub use guard::{Came, Door, Tokens};
pub use history::History;
pub use problem::Problem;

use crate::node::View;
use crate::service::Desk;
use stream::Streams;

/// A ninth of the CPU that an ordinary thread beside it gets.
const PAGES_NICE: i32 = 10;

/// What the pages are made from.
pub struct Admin {
    view: View,
    /// `None` where nobody serves a config file, as in the demo.
    desk: Option<Desk>,
    history: Arc<History>,
    streams: Streams,
}

impl Admin {
    pub fn new(view: View, desk: Option<Desk>) -> Arc<Admin> {
        Arc::new(Admin { view, desk, history: Arc::default(), streams: Streams::default() })
    }

    /// Keeps the history; never ends by itself.
    pub async fn keep_history(self: Arc<Self>) {
        let mut step = tokio::time::interval(Duration::from_secs(limits::HISTORY_STEP.value));
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            step.tick().await;
            let (history, view) = (Arc::clone(&self.history), self.view.clone());
            run(move || history.sample(&view.registry, view.clock.now())).await;
        }
    }
}

/// What every handler gets.
type Shared = axum::extract::State<Arc<Admin>>;

/// The pages.
pub fn router(admin: Arc<Admin>) -> Router {
    let pages: Arc<[&str]> = page::paths().collect();
    let routes = describe::routes().with_state(admin).merge(page::router());
    routes
        .method_not_allowed_fallback(|| async { Problem::method("GET, HEAD") })
        .layer(axum::middleware::from_fn_with_state(pages, guard::guard))
}

/// Waiting for the control thread's answer blocks, so it gets a thread of its own. That gives way to all other threads of
/// the node: a page of 100,000 backends is seconds of work, and where probes have the same core it must not make them late.
async fn run<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let gently = || {
        // To Linux the thread that asks is what is meant by no number. It can only fail where it is so already.
        let _ = setpriority_process(None, PAGES_NICE);
        ask()
    };
    tokio::task::spawn_blocking(gently).await.ok()
}

/// The same for what has no answer once the node stops, written out as JSON there, since a large page is long work too.
async fn page<T: serde::Serialize>(ask: impl FnOnce() -> Option<T> + Send + 'static) -> Result<Response, Problem> {
    answer(move || ask().ok_or_else(Problem::stopping)).await
}

/// The same for what may be absent or wrong.
async fn answer<T: serde::Serialize>(
    ask: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let told =
        run(move || ask().map(|told| serde_json::to_vec(&told).expect("texts and numbers always have a JSON form")));
    let text = told.await.unwrap_or_else(|| Err(Problem::stopping()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
