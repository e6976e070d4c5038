//! What a row of the fault lab is made of: what is broken, how it is asked for, and who must be blamed for it.
//!
//! A row is a host name of its own, `NAME.lab.test`, with a rule, a pool and a site of its own, so that all faults can
//! stand side by side behind one balancer and none spoils another.

use std::net::TcpStream;

use evenkeel_model::Cause;

use crate::lab::Lab;

/// Who is behind the addresses of a row's pool.
pub enum Behind {
    /// nginx with these lines in its `server`, on both hosts.
    Nginx(String),
    /// nginx with other lines on the second host.
    Unlike(String, String),
    /// nginx that speaks TLS with this certificate.
    Tls(Certificate),
    /// A program with bad manners.
    Script(fn(TcpStream)),
    /// Nobody.
    Nobody,
    /// What stands at this port of the hosts already.
    Port(u16),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    Good,
    Expired,
    OtherName,
}

/// What is shown of the backends when the request is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Healthy,
    /// The first of the two hosts only.
    FirstUnhealthy,
    Unhealthy,
    /// The row has no pool of its own.
    Unasked,
}

/// What the client does.
pub enum Ask {
    /// curl with these arguments; the URL is the row's.
    Once(&'static [&'static str]),
    /// The same until the log line has attempts, or has a cause.
    UntilSeen,
    /// The same until a backend is ejected for it.
    UntilEjected,
    /// So many requests that stay, and one more when it has come so far.
    BesideHeld(usize, Until),
    /// So many at once; the first one that is not answered 200 counts.
    Burst(usize),
}

impl Ask {
    /// Whether chance decides which request is looked at.
    pub const fn repeats(&self) -> bool {
        matches!(self, Ask::UntilSeen | Ask::UntilEjected)
    }
}

/// How far held requests have to have come.
#[derive(Clone, Copy)]
pub enum Until {
    /// All of them are at backends.
    AtBackends,
    /// A script runs.
    Running,
    /// One of them was turned away.
    TurnedAway,
}

pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    /// What was done, for the page.
    pub story: &'static str,
    pub behind: Behind,
    /// Keys of the pool.
    pub pool: String,
    /// The pool's check; left out: HTTP of a static page.
    pub check: &'static str,
    pub verdict: Verdict,
    pub url: String,
    pub ask: Ask,
    pub strike: Option<Strike>,
    /// The status that the client must see; `None`: no answer.
    pub status: Option<u16>,
    pub cause: Option<Cause>,
    /// What `evenkeel doctor` is told beside the URL.
    pub doctor: Vec<String>,
    /// Whom it must blame; left out: whom the cause blames.
    pub whose: Option<&'static str>,
    /// Why nothing is wrong in the eyes of the balancer, or what else a reader should know.
    pub note: &'static str,
}

type Strike = Box<dyn Fn(&Lab, u16) + Send + Sync>;

impl Row {
    pub fn new(name: &'static str, title: &'static str, story: &'static str) -> Row {
        Row {
            name,
            title,
            story,
            behind: Behind::Nobody,
            pool: String::new(),
            check: "",
            verdict: Verdict::Healthy,
            url: format!("https://{name}.lab.test/app.php"),
            ask: Ask::Once(&[]),
            strike: None,
            status: None,
            cause: None,
            doctor: Vec::new(),
            whose: None,
            note: "",
        }
    }

    pub fn asks(mut self, what: &str) -> Row {
        self.url = format!("https://{}.lab.test/app.php?do={what}", self.name);
        self
    }

    pub fn at(mut self, url: &str) -> Row {
        self.url = url.to_owned();
        self
    }

    pub fn by(mut self, ask: Ask) -> Row {
        self.ask = ask;
        self
    }

    pub fn behind(mut self, behind: Behind) -> Row {
        self.behind = behind;
        self
    }

    pub fn nginx(self, lines: &str) -> Row {
        self.behind(Behind::Nginx(lines.to_owned()))
    }

    pub fn pool(mut self, keys: &str) -> Row {
        self.pool = keys.to_owned();
        self
    }

    pub fn check(mut self, table: &'static str) -> Row {
        self.check = table;
        self
    }

    pub fn strike(mut self, strike: impl Fn(&Lab, u16) + Send + Sync + 'static) -> Row {
        self.strike = Some(Box::new(strike));
        self
    }

    pub fn is(mut self, verdict: Verdict) -> Row {
        self.verdict = verdict;
        self
    }

    /// What must come of it.
    pub fn gives(mut self, status: impl Into<Option<u16>>, cause: impl Into<Option<Cause>>) -> Row {
        (self.status, self.cause) = (status.into(), cause.into());
        self
    }

    /// Whom `evenkeel doctor` must blame, where that is not whom the cause blames.
    pub fn blames(mut self, whose: &'static str) -> Row {
        self.whose = Some(whose);
        self
    }

    pub fn doctor<const N: usize>(mut self, arguments: [&str; N]) -> Row {
        self.doctor = arguments.map(str::to_owned).into();
        self
    }

    pub fn note(mut self, note: &'static str) -> Row {
        self.note = note;
        self
    }

    pub fn host(&self) -> String {
        format!("{}.lab.test", self.name)
    }
}

/// The table of a row's check, as the config has it.
pub fn check(row: &Row) -> String {
    let table = if row.check.is_empty() { "kind = \"http\"\npath = \"/health.html\"" } else { row.check };
    format!("[pool.check]\n{table}\ntimeout = \"1s\"\ninterval = \"500ms\"\n")
}
