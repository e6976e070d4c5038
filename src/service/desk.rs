//! What others ask of the service, and the way there.
//!
//! Changes of the plan happen one after the other, on the one task that owns the node; whoever wants one, a page, a watched
//! file, a successor, asks here and waits for the answer. A lock around the node lost: a change waits for name servers, and
//! nobody may hold a lock while it does.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use evenkeel_config::{Format, Problem, Recipe, Severity, Source, render, secrets};
use evenkeel_plan::Plan;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

/// Asks that wait while one is carried out. More is a client gone mad: it waits for a place.
const ASKS_WAITING: usize = 16;

/// The text of a config, and what to call it in problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    pub name: Arc<str>,
    pub text: Arc<str>,
    pub format: Format,
}

impl ConfigText {
    pub fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text, format: self.format }
    }

    /// SHA-256 of the text, in hex.
    pub fn hash(&self) -> String {
        Sha256::digest(self.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the node runs with.
#[derive(Clone, Debug)]
pub struct Running {
    /// The file that a reload reads.
    pub file: PathBuf,
    /// What the plan was made of: the file's text at the last reload, or what was applied since.
    pub text: ConfigText,
    /// Knows where in the text a key stands.
    pub recipe: Arc<Recipe>,
    pub plan: Arc<Plan>,
}

/// What came of a text that was only looked at.
#[derive(Clone, Debug)]
pub struct Judged {
    pub text: ConfigText,
    pub problems: Vec<Problem>,
    /// `None` when any problem is an error. Names of backends that the running plan has no answer for stand for nobody in it.
    pub plan: Option<Arc<Plan>>,
}

impl Judged {
    /// As `check` shows them, but that nothing in a line it shows may be secret: it goes to a log.
    pub fn render(&self, colour: bool) -> String {
        let text = secrets(&self.text.source()).mask(&self.text.text);
        render(&Source { text: &text, ..self.text.source() }, &self.problems, colour)
    }

    fn errors(&self) -> impl Iterator<Item = &Problem> + Clone {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

/// Why the old plan stays.
#[derive(Clone, Debug)]
pub enum NotTaken {
    /// The file cannot be read or written.
    File(String),
    /// It has errors.
    Problems(Judged),
    /// A port, or the operating system, said no.
    Refused(String),
    /// The service is ending.
    Ending,
}

impl NotTaken {
    /// How many reasons there are.
    pub fn count(&self) -> usize {
        match self {
            NotTaken::Problems(judged) => judged.errors().count(),
            NotTaken::File(_) | NotTaken::Refused(_) | NotTaken::Ending => 1,
        }
    }
}

/// The first reason.
impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTaken::File(text) | NotTaken::Refused(text) => f.write_str(text),
            NotTaken::Ending => f.write_str("this node is stopping"),
            NotTaken::Problems(judged) => match judged.errors().next() {
                Some(problem) => write!(f, "{}:{}: {}", judged.text.name, problem.place.line, problem.text),
                None => f.write_str("the config has no plan"),
            },
        }
    }
}

/// Whether an applied config is written to the file as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It lasts until the next reload or restart.
    UntilReload,
    /// It takes the file's place; what stood there stays beside it.
    InFile,
}

#[derive(Debug)]
pub enum Ask {
    /// Read the file again.
    Reload { by: Arc<str>, reply: oneshot::Sender<Result<Running, NotTaken>> },
    /// Run with this text.
    Apply {
        text: Arc<str>,
        format: Format,
        keep: Keep,
        by: Arc<str>,
        reply: oneshot::Sender<Result<Running, NotTaken>>,
    },
    /// Say what this text, or without one the file, would be; change nothing.
    Judge { text: Option<(Arc<str>, Format)>, reply: oneshot::Sender<Result<Judged, NotTaken>> },
    /// Let the binary that lies there now take this process's place; answered with the new process's id once it serves.
    Upgrade { by: Arc<str>, reply: oneshot::Sender<Result<u32, NotTaken>> },
    /// Say what runs.
    Running { reply: oneshot::Sender<Running> },
}

/// Where to ask. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Ask>);

impl Desk {
    pub fn open() -> (Desk, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_WAITING);
        (Desk(asks), asked)
    }

    pub async fn reload(&self, by: Arc<str>) -> Result<Running, NotTaken> {
        self.ask(|reply| Ask::Reload { by, reply }).await.unwrap_or(Err(NotTaken::Ending))
    }

    pub async fn apply(&self, text: Arc<str>, format: Format, keep: Keep, by: Arc<str>) -> Result<Running, NotTaken> {
        let answer = self.ask(|reply| Ask::Apply { text, format, keep, by, reply }).await;
        answer.unwrap_or(Err(NotTaken::Ending))
    }

    pub async fn judge(&self, text: Option<(Arc<str>, Format)>) -> Result<Judged, NotTaken> {
        self.ask(|reply| Ask::Judge { text, reply }).await.unwrap_or(Err(NotTaken::Ending))
    }

    /// Answers with the id of the process that serves now. Nobody answers who asks that one's connections, so ask another time.
    pub async fn upgrade(&self, by: Arc<str>) -> Result<u32, NotTaken> {
        self.ask(|reply| Ask::Upgrade { by, reply }).await.unwrap_or(Err(NotTaken::Ending))
    }

    /// `None` when the service is ending.
    pub async fn running(&self) -> Option<Running> {
        self.ask(|reply| Ask::Running { reply }).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(ask(reply)).await.ok()?;
        answer.await.ok()
    }
}
