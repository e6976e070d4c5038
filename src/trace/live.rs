//! Access-log lines for whoever watches, as they come.
//!
//! Each reader has its own place in one bounded queue. A slow one loses lines and is told how many; it never holds up the
//! others, and no worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;

/// Which lines a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    All,
    /// Those with a cause.
    Failed,
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// One line of the access log, without its end.
    Line(Arc<str>),
    /// So many lines came too fast for this reader.
    Dropped(u64),
}

#[derive(Debug)]
pub struct LiveReader {
    lines: broadcast::Receiver<Arc<str>>,
    shared: Arc<Shared>,
    which: Lines,
}

impl LiveReader {
    pub(super) fn new(shared: &Arc<Shared>, which: Lines) -> Self {
        let lines = match which {
            Lines::All => shared.all.subscribe(),
            Lines::Failed => shared.failed.subscribe(),
        };
        readers(shared, which).fetch_add(1, Ordering::Relaxed);
        LiveReader { lines, shared: Arc::clone(shared), which }
    }

    /// Waits for the next line. May be given up at any time without losing one.
    pub async fn next(&mut self) -> Said {
        match self.lines.recv().await {
            Ok(line) => Said::Line(line),
            Err(RecvError::Lagged(missed)) => Said::Dropped(missed),
            // We hold the other end ourselves.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        readers(&self.shared, self.which).fetch_sub(1, Ordering::Relaxed);
    }
}

fn readers(shared: &Shared, which: Lines) -> &AtomicUsize {
    match which {
        Lines::All => &shared.readers_of_all,
        Lines::Failed => &shared.readers_of_failed,
    }
}
