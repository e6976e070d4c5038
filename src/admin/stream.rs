//! Answers that do not end: server-sent events, for whoever follows something live.
//!
//! Each stream is a task that writes a line when there is place for it. Between it and the connection lie a few lines and no
//! more: a reader that takes nothing stops its task, and its connection is closed after a time (`doors`). The number of streams
//! is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use evenkeel_model::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;

/// Lines between a stream's task and its connection.
const LINES: usize = 16;

/// A line that says nothing, so often: proxies and browsers give up a connection on which nothing comes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The places for streams.
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Streams(Arc::new(Semaphore::new(limits::ADMIN_STREAMS.value as usize)))
    }
}

impl Streams {
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let detail = format!("{} streams are open already; close one", limits::ADMIN_STREAMS.value);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }
}

/// Where a stream writes to.
pub struct Lines(mpsc::Sender<Event>);

impl Lines {
    /// Waits for a place. Once the reader has gone nothing goes anywhere, and the task is ended.
    pub async fn send(&self, line: Event) {
        let _ = self.0.send(line).await;
    }
}

/// The lines that `write` makes, until it ends or the reader goes.
pub fn answer<F>(place: OwnedSemaphorePermit, write: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (to, lines) = mpsc::channel(LINES);
    let writing = write(Lines(to.clone()));
    tokio::spawn(async move {
        tokio::select! {
            () = writing => {}
            () = to.closed() => {}
        }
        drop(place);
    });
    let lines = ReceiverStream::new(lines).map(Ok::<_, Infallible>);
    Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
