//! The new process's side: what it was left, and the words to be exchanged before it serves.
//!
//! It never takes anything on its own: until the old process has heard that it is ready, the old one is in charge.
//! It waits for the process before, and never for ever: one that is gone before we serve ends us too, since the sockets that we hold then may be
//! wanted by whoever is started next.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use evenkeel_model::limits;

use super::{Legacy, passage};

/// Names the process that hands over. It is set by that one only, for the process it starts.
pub(super) const VARIABLE: &str = "EVENKEEL_TAKES_OVER_FROM";

const WAIT: Duration = Duration::from_secs(limits::UPGRADE_WAIT.value);

/// The process that hands over.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    pub pid: u32,
    pub version: String,
}

impl Predecessor {
    /// `None` in a process that takes nobody's place.
    ///
    /// # Errors
    /// When it was started to take a place and the process before does not say what it leaves.
    pub fn meet() -> Result<Option<(Predecessor, Legacy)>, String> {
        // What this process starts inherits the word too, and is not meant.
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        if parent.is_none() || std::env::var(VARIABLE).ok() != parent {
            return Ok(None);
        }
        let met = || -> io::Result<(Predecessor, Legacy)> {
            let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            // What is started from here must not hold the other end of a conversation.
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            stream.set_read_timeout(Some(WAIT))?;
            stream.set_write_timeout(Some(WAIT))?;
            let (document, files) = passage::receive(&mut stream, Legacy::count)?;
            let legacy = Legacy::read(&document, files).map_err(io::Error::other)?;
            Ok((Predecessor { stream, pid: legacy.pid, version: legacy.version.clone() }, legacy))
        };
        met().map(Some).map_err(|error| format!("cannot take over from the process before: {error}"))
    }

    /// Everything is prepared. Waits until it is our turn to listen.
    ///
    /// # Errors
    /// When the process before is gone or has given up on us.
    pub fn ready(&mut self) -> io::Result<()> {
        passage::say(&mut self.stream, "ready")?;
        passage::hear(&mut self.stream, "go")
    }

    /// Every worker listens. Waits for the process before to say that from now on we are in charge; when it has gone without a word, we
    /// are all the more.
    pub fn serving(mut self) {
        let _ = passage::say(&mut self.stream, "serving");
        let _ = passage::hear(&mut self.stream, "farewell");
    }
}
