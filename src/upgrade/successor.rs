//! The old process's side: starting the new one, hearing that it serves, and giving up on it.
//!
//! Everything blocks, for `limits::UPGRADE_WAIT` at a time at most; who must not wait calls it from a thread of its own.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evenkeel_model::limits;

use super::predecessor::VARIABLE;
use super::{Legacy, passage};

const WAIT: Duration = Duration::from_secs(limits::UPGRADE_WAIT.value);

/// A process that is to take this one's place.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    stream: UnixStream,
}

/// Why this process goes on as before.
#[derive(Debug)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Successor {
    /// Starts the binary by the name that this one was started by, with its arguments, and waits until it is prepared to listen.
    ///
    /// # Errors
    /// When there is no such binary, it ends, or it says nothing for too long. It is gone then.
    pub fn start(legacy: Legacy) -> Result<Successor, Failed> {
        let mut words = std::env::args_os();
        let binary = words.next().unwrap_or_else(|| OsString::from("evenkeel"));
        let (here, there) = UnixStream::pair().map_err(|error| Failed(format!("no pair of sockets: {error}")))?;
        let prepared = here.set_read_timeout(Some(WAIT)).and_then(|()| here.set_write_timeout(Some(WAIT)));
        prepared.map_err(|error| Failed(format!("no pair of sockets: {error}")))?;
        let child = Command::new(&binary)
            .args(words)
            .stdin(Stdio::from(OwnedFd::from(there)))
            .env(VARIABLE, std::process::id().to_string())
            // They name sockets that it gets by another way.
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .spawn()
            .map_err(|error| Failed(format!("cannot start \"{}\": {error}", binary.display())))?;
        let mut successor = Successor { child, stream: here };
        let (document, sockets) = legacy.write();
        let told = passage::send(&mut successor.stream, &document, &sockets);
        match told.and_then(|()| passage::hear(&mut successor.stream, "ready")) {
            Ok(()) => Ok(successor),
            Err(error) => Err(successor.give_up(&error)),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it listen, and waits until it does.
    ///
    /// # Errors
    /// When it ends or says nothing. It is gone then.
    pub fn go(mut self) -> Result<Successor, Failed> {
        let said = passage::say(&mut self.stream, "go");
        match said.and_then(|()| passage::hear(&mut self.stream, "serving")) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.give_up(&error)),
        }
    }

    /// It is in charge. Should it be gone by now, somebody else has to start it: this process has let go.
    pub fn farewell(mut self) {
        let _ = passage::say(&mut self.stream, "farewell");
    }

    /// Ends it, and says how it failed.
    fn give_up(mut self, error: &io::Error) -> Failed {
        let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        // One that left has closed its end a moment before it can be waited for.
        let ended = if silent { None } else { wait(&mut self.child) };
        let _ = self.child.kill();
        let _ = self.child.wait();
        Failed(match ended {
            Some(status) => format!("the new process ended before it served: {status}"),
            None if silent => format!("the new process was not ready within {WAIT:?} and was killed"),
            None => format!("the new process did not do its part and was killed: {error}"),
        })
    }
}

/// How a process ended that is about to.
fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::park_timeout(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    None
}
