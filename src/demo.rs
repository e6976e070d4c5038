//! `evenkeel demo`: the main job on an embedded default, live, and checked.
//!
//! One process holds three small backends, the real node with a real config, and a steady client. Backends are
//! killed, hang and fail their health page, one after the other, and come back; what the node then does is set
//! beside what the arithmetic of the window promised. `--once` tells the story one time and exits 0 only if every
//! claim held, so the demo is also a test of the whole that a stranger can run.
//!
//! ```text
//! stage.rs     backends, node, admin pages      backend.rs   one small server with switches
//! client.rs    steady requests                  stalls.rs    how late this process is itself
//! story.rs     who does what when               record.rs    what was seen, as plain values
//! claims.rs    record -> claims that held       screen.rs    record -> lines; terminal.rs prints them
//! ```
//!
//! Nothing is faked: faults happen on sockets, failures are what the client read off the wire, verdicts are the
//! node's own events. The claims never look at what the story intended, only at what was recorded.

mod backend;
mod claims;
mod client;
mod record;
mod screen;
mod stage;
mod stalls;
mod story;
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Arguments {
    /// Tell the story once, in less than a minute, check its claims, and exit 0 or 1.
    #[arg(long)]
    pub once: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    story::run(arguments.once)
}

/// Everything of the demo that the node needs to know, shown to the user as it is. The addresses are filled in.
const CONFIG: &str = include_str!("demo/demo.toml");
/// Where the backends answer probes; what `path` says in [`CONFIG`].
const HEALTH_PATH: &str = "/health";
const BACKENDS: [&str; 3] = ["a", "b", "c"];

/// Small enough for any laptop, and every backend still gets one request per hundredth of a second or two.
const REQUESTS_PER_SECOND: u32 = 200;
/// Connections the client keeps while all is well. While a backend hangs, requests wait on further ones.
const CONNECTIONS_KEPT: usize = 8;
/// A third of the requests waits 1.5 s on a hanging backend: about 100 at once. Four times that is trouble.
const CONNECTIONS_MAX: usize = 400;
/// After this the client calls a request lost without an answer. The node has to answer within its
/// `response_timeout`; so much more than that only a node that forgot the request takes, or a machine that stands still.
const CLIENT_PATIENCE: Duration = Duration::from_secs(20);

/// Time to see a healthy pool before anything happens.
const WARM_UP: Duration = Duration::from_secs(3);
/// Time to see the effect of each verdict; up to one interval of the check is added. More than `response_timeout`, so that all requests of a window have
/// ended before the next one begins and no failure can be laid at the wrong door.
const DWELL: Duration = Duration::from_millis(3500);
/// A verdict that has not come after this will not come. Room for two void probes above the longest window.
const VERDICT_PATIENCE: Duration = Duration::from_secs(9);

/// What a well backend of the demo may take for one probe. It takes a fraction of a millisecond on an idle machine.
const PROBE_TAKES: Duration = Duration::from_millis(10);
/// Allowed beside the computed bounds: some twenty wake-ups of threads lie between a fault and its verdict, and a
/// busy machine delays each by some milliseconds.
const TOLERANCE: Duration = Duration::from_millis(250);
/// A wake-up later than this is a standstill of the machine; it is measured and allowed on top of the tolerance.
const STALL: Duration = Duration::from_millis(10);

/// A machine that stood still for more than this percentage of the story is named beside a broken claim.
const STALLED_PERCENT: u128 = 5;

const FRAMES_PER_SECOND: u32 = 5;
/// Plain output, for pipes and dumb terminals, gets one line of figures in this time.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Requests that rate, shares and latencies on the screen are taken from.
const RECENT: Duration = Duration::from_secs(2);
