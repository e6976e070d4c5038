//! The shapes of the status document, for JSON and for the description of the API.
//!
//! One definition feeds both, so that the description cannot promise what the document does not hold. Words are those of the
//! config and the log; times are RFC 3339, durations milliseconds.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Everything the node knows, as one document.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    pub version: &'static str,
    pub time: String,
    pub started: String,
    /// Counts the snapshots that workers were given.
    pub generation: u64,
    pub suspects_itself_since: Option<String>,
    /// Whether no verdict turns unhealthy now, since the node suspects itself.
    pub holds_verdicts: bool,
    pub probing: ProbingNode,
    /// Left out where no file stands behind the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigState>,
    pub node: NodeFacts,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
    pub events: Vec<Event>,
}

/// What runs and what the file says.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConfigState {
    pub file: String,
    /// SHA-256 of the text that runs.
    pub hash: String,
    /// The same of the file as it is now; `null` when it cannot be read.
    pub file_hash: Option<String>,
    pub same: bool,
    /// Orders and weights that differ from the file.
    pub changes: usize,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeFacts {
    pub pid: u32,
}

/// How the node keeps up with its probes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProbingNode {
    pub targets: usize,
    pub in_flight: usize,
    pub lateness: Lateness,
}

/// How long due probes waited for their start.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lateness {
    pub probes: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub longest_ms: f64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Listener {
    pub name: String,
    pub protocol: &'static str,
    pub listen: Vec<String>,
    pub pool: Option<String>,
    pub connections: u64,
    pub connections_total: u64,
    pub requests_total: u64,
    /// In the order of the config. Told by `/api/v1/listeners` only: there may be thousands, and they do not change by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// What a listener does with some of its requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rule {
    pub name: String,
    /// What a request must be like, in the words of the config; empty when every one will do.
    pub when: String,
    /// Where it goes, or what it is answered.
    pub does: String,
    pub pool: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Pool {
    pub name: String,
    pub schedule: &'static str,
    pub sticky: Option<&'static str>,
    /// Backends that may get new work.
    pub eligible: usize,
    /// The cause that clients of this pool get now.
    pub refusal: Option<&'static str>,
    pub panic: bool,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Backend {
    pub address: String,
    /// What an operator gave it at run time, or that of the config.
    pub weight: u32,
    pub weight_of_file: u32,
    /// In hex digits.
    pub server_id: Option<String>,
    /// What is left of it by orders, agents and slow start.
    pub effective_weight: u32,
    /// `unknown`, `healthy` or `unhealthy`.
    pub verdict: &'static str,
    pub since: String,
    /// `serve`, `drain` or `maintain`.
    pub order: &'static str,
    /// When the order falls back to `serve` by itself.
    pub order_until: Option<String>,
    /// Whether the order outlives a restart.
    pub order_kept: bool,
    pub agent: Option<Agent>,
    pub ejected_until: Option<String>,
    pub ramp_percent: u8,
    pub in_flight: u64,
    pub attempts_total: u64,
    pub checks: Vec<Check>,
}

/// What the agents of a backend say together.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agent {
    pub order: &'static str,
    pub percent: u16,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub kind: &'static str,
    pub address: String,
    pub verdict: &'static str,
    pub since: String,
    pub agent: Option<String>,
    pub rests_on_silence: bool,
    pub silence: Option<&'static str>,
    /// `null` while no result contradicts the verdict.
    pub progress: Option<Progress>,
    pub passed_total: u64,
    pub failed_total: u64,
    pub void_total: u64,
    pub kept_total: u64,
    pub probing: ProbingTarget,
    /// Newest first.
    pub recent: Vec<Finding>,
}

/// How far a run against the verdict has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct Progress {
    pub toward: &'static str,
    pub results: u32,
    pub needed: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ProbingTarget {
    /// `waiting`, `in_flight` or `stopped`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_in_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<f64>,
}

/// What one probe found.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Finding {
    pub kind: &'static str,
    pub started: String,
    pub duration_ms: f64,
    /// `passed`, `failed` or `void`.
    pub result: &'static str,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// Something that changed, and when. Each name has fields of its own beside these.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// Counted from 1 in this process.
    pub seq: u64,
    pub time: String,
    /// Stable, for example `backend.unhealthy`.
    pub event: &'static str,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// For people.
    pub text: String,
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Whether the node can do its job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    pub ready: bool,
    /// The node was told to stop.
    pub stopping: bool,
    pub refusing: Vec<Refusing>,
}

/// A listener one of whose pools has nobody to offer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refusing {
    pub listener: String,
    pub pool: String,
    pub cause: &'static str,
}
