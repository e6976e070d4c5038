//! What would become of one request: listener, rule, pool and backend, each with its reason, or the cause why not.
//!
//! Every answer is asked of the code that serves: the rules, the access list, the picker. What hangs on the moment (whose
//! turn it is, who is busy) is not guessed: then all candidates are named with their shares.
//!
//! It works on any snapshot. One that was made of a config alone knows no verdicts, and the report says so.

mod names;
mod render;

use std::net::{IpAddr, SocketAddr};

use evenkeel_balance::{Candidates, Picker, Schedule, Wanted};
use evenkeel_model::standing::{Order, Standing, Verdict};
use evenkeel_model::{BackendId, Cause, ListenerId, PoolId};
use evenkeel_plan::{Action, Asked, Candidate, HashOn, Listener, Miss, Plan, Pool, Reason, Rule, Snapshot};

pub use names::{Hello, report_hello};
pub use render::{json, text};

/// A request as the data plane has read it. The texts that a rule makes of it are the wire room's, so they are asked for.
pub trait Request: Asked {
    /// Path and query with `replacement` in the place of `prefix`.
    fn rewritten(&self, prefix: &str, replacement: &str) -> String;

    /// Where a rule's redirect leads.
    ///
    /// # Errors
    /// As the data plane refuses it.
    fn location(&self, template: &str) -> Result<String, Refused>;

    /// The same request at the HTTPS twin.
    ///
    /// # Errors
    /// As the data plane refuses it.
    fn https_location(&self, port: u16) -> Result<String, Refused>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub listener: String,
    pub protocol: &'static str,
    /// All rules: the one taken, the runners-up, the others. Empty when the request did not come so far.
    pub rules: Vec<RuleLine>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLine {
    pub name: String,
    pub place: RulePlace,
    /// [`Reason::word`].
    pub reason: &'static str,
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulePlace {
    Taken,
    /// Would take the request if those in front of it were not there.
    RunnerUp,
    Out,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Refused(Refused),
    Redirect { status: u16, location: String },
    Answer { status: u16, content_type: String, bytes: usize },
    Pool(Sent),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub cause: Cause,
    /// What of this request and this config brought it about.
    pub detail: String,
}

/// A request that goes to a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub pool: String,
    pub schedule: Schedule,
    /// Set when no rule took it and the pool is the listener's own.
    pub by_default: Option<Miss>,
    /// The path the backend sees, when a rule rewrites it.
    pub path: Option<String>,
    pub pick: Pick,
    pub because: String,
    /// Backends of the pool that may not receive new work, with the reason.
    pub aside: Vec<(SocketAddr, &'static str)>,
    /// What else may decide, in sentences.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    Backend(SocketAddr),
    /// Whose turn it is cannot be known; in the long run each gets so many percent.
    Shares(Vec<(SocketAddr, f64)>),
}

impl Report {
    /// The cause with which the balancer itself would refuse the request.
    pub const fn cause(&self) -> Option<Cause> {
        match &self.outcome {
            Outcome::Refused(refused) => Some(refused.cause),
            Outcome::Redirect { .. } | Outcome::Answer { .. } | Outcome::Pool(_) => None,
        }
    }

    /// For a request that the balancer refuses before it looks at rules.
    pub fn refused(listener: &Listener, cause: Cause, detail: String) -> Self {
        let (name, protocol) = (listener.name.to_string(), listener.protocol.word());
        let outcome = Outcome::Refused(Refused { cause, detail });
        Report { listener: name, protocol, rules: Vec::new(), outcome }
    }
}

/// What becomes of `request` when `client` sends it to a listener. Without a client access lists are not asked.
pub fn report(snapshot: &Snapshot, listener: ListenerId, request: &impl Request, client: Option<IpAddr>) -> Report {
    let plan = &*snapshot.plan;
    let listener = &*plan.listeners[listener.index()];
    if let Some(client) = client
        && let Some(detail) = denied(listener, client)
    {
        return Report::refused(listener, Cause::ClientDeniedByAcl, detail);
    }
    let (name, protocol) = (listener.name.to_string(), listener.protocol.word());
    if let Some(port) = listener.http.redirect_to_https {
        // A POST must stay one, so 308; GET and HEAD get the status that every client knows.
        let status = if matches!(request.method(), b"GET" | b"HEAD") { 301 } else { 308 };
        let outcome = located(status, request.https_location(port));
        return Report { listener: name, protocol, rules: Vec::new(), outcome };
    }
    let rules = listener.rules.explain(request).iter().map(RuleLine::from).collect();
    let outcome = match (listener.rules.route(request), listener.pool) {
        (Ok(rule), _) => act(snapshot, rule, request, client),
        (Err(miss), Some(pool)) => send(snapshot, pool, Err(miss), request, client),
        (Err(miss), None) => Outcome::Refused(missed(miss, request)),
    };
    Report { listener: name, protocol, rules, outcome }
}

/// Which list turns the client away, if one does.
fn denied(listener: &Listener, client: IpAddr) -> Option<String> {
    let access = &listener.access;
    if access.deny.contains(client) {
        return Some(format!("{client} is in `deny`"));
    }
    let let_in = access.allow.is_empty() || access.allow.contains(client);
    (!let_in).then(|| format!("{client} is not in `allow`"))
}

fn missed(miss: Miss, request: &impl Asked) -> Refused {
    let detail = match miss {
        Miss::Host => format!("no rule names the host \"{}\"", request.host().escape_ascii()),
        Miss::Rule => "no rule takes host, path, method and fields together".to_string(),
    };
    Refused { cause: miss.cause(), detail }
}

fn located(status: u16, location: Result<String, Refused>) -> Outcome {
    match location {
        Ok(location) => Outcome::Redirect { status, location },
        Err(refused) => Outcome::Refused(refused),
    }
}

fn act(snapshot: &Snapshot, rule: &Rule, request: &impl Request, client: Option<IpAddr>) -> Outcome {
    match &rule.action {
        Action::Pool(pool) => send(snapshot, *pool, Ok(rule), request, client),
        Action::Redirect { status, to } => located(*status, request.location(to)),
        Action::Answer { status, content_type, body } => {
            Outcome::Answer { status: *status, content_type: content_type.to_string(), bytes: body.len() }
        }
    }
}

fn send(
    snapshot: &Snapshot,
    id: PoolId,
    by: Result<&Rule, Miss>,
    request: &impl Request,
    client: Option<IpAddr>,
) -> Outcome {
    let rewritten = by.ok().and_then(|rule| Some(request.rewritten(&rule.path, rule.rewrite_path.as_deref()?)));
    let hash_on = &snapshot.plan.pools[id.index()].hash_on;
    let outcome = offered(snapshot, id, request, hash_on, client);
    match outcome {
        Outcome::Pool(sent) => Outcome::Pool(Sent { by_default: by.err(), path: rewritten, ..sent }),
        other => other,
    }
}

/// What a pool makes of it, whoever sent it there.
fn offered(snapshot: &Snapshot, id: PoolId, request: &impl Asked, hash_on: &HashOn, client: Option<IpAddr>) -> Outcome {
    let plan = &*snapshot.plan;
    let pool = &*plan.pools[id.index()];
    let view = snapshot.pool(id);
    if let Some(cause) = view.refusal {
        return Outcome::Refused(Refused { cause, detail: format!("pool \"{}\" has no backend to offer", pool.name) });
    }
    let (pick, because) = pick(plan, pool, &view.candidates, request, hash_on, client);
    let members = view.candidates.members();
    let is_candidate = |backend: BackendId| members.iter().any(|member| member.backend == backend);
    let aside = plan.backends_of(id).filter(|(backend, _)| !is_candidate(*backend));
    let standing = |backend: BackendId| snapshot.standings.get(backend.index()).copied().unwrap_or_default();
    Outcome::Pool(Sent {
        pool: pool.name.to_string(),
        schedule: pool.schedule,
        by_default: None,
        path: None,
        pick,
        because,
        aside: aside.map(|(backend, settings)| (settings.address, why_aside(standing(backend)))).collect(),
        notes: notes(pool, plan.backends_of(id).map(|(backend, _)| standing(backend)), request),
    })
}

fn why_aside(standing: Standing) -> &'static str {
    match (standing.order_in_force(), standing.verdict) {
        (Order::Drain, _) => "is drained",
        (Order::Maintain, _) => "is maintained",
        (Order::Serve, Verdict::Unhealthy) => "is unhealthy",
        (Order::Serve, Verdict::Unknown | Verdict::Healthy) => "has weight 0",
    }
}

fn pick(
    plan: &Plan,
    pool: &Pool,
    candidates: &Candidates,
    request: &impl Asked,
    hash_on: &HashOn,
    client: Option<IpAddr>,
) -> (Pick, String) {
    let members = candidates.members();
    let address = |backend: BackendId| plan.backends[backend.index()].address;
    if let [only] = members {
        return (Pick::Backend(address(only.backend)), "it is the only one that may receive new work".to_string());
    }
    let by_weight = || {
        let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        let percent = |weight: u32| f64::from(weight) * 100.0 / total as f64;
        Pick::Shares(members.iter().map(|member| (address(member.backend), percent(member.weight))).collect())
    };
    let equally = || {
        let percent = 100.0 / members.len() as f64;
        Pick::Shares(members.iter().map(|member| (address(member.backend), percent)).collect())
    };
    match pool.schedule {
        Schedule::Wrr => {
            (by_weight(), "each worker goes round by weight; whose turn it is can only be known there and then".into())
        }
        Schedule::Rr => (equally(), "each worker goes round; whose turn it is can only be known there and then".into()),
        Schedule::Wlc => (
            by_weight(),
            "the one with the least in flight for its weight gets it; the shares are those of equal load".into(),
        ),
        Schedule::P2c => (
            by_weight(),
            "two are drawn by weight and the less loaded gets it; the shares are those of equal load".into(),
        ),
        Schedule::Tuple => (
            by_weight(),
            "the hash of the addresses and ports of client and listener decides; the shares are those of all connections"
                .into(),
        ),
        Schedule::QuicCid => (
            by_weight(),
            "the hash of a QUIC connection id decides; the shares are those of all connections".into(),
        ),
        Schedule::Source | Schedule::Maglev => {
            let (key, because) = match pool.schedule {
                Schedule::Maglev => key(hash_on, request, client),
                _ => (None, of_client(client)),
            };
            // With a key nobody asks for the address.
            let Some(client) = client.or(key.map(|_| IpAddr::from([0; 4]))) else { return (by_weight(), because) };
            let wanted = Wanted { key, ..Wanted::first(client) };
            // Hash schedules have no place in a rotation, so a new picker answers as every worker's does.
            let picked = Picker::new(0).pick(candidates, &|_: BackendId| 0, &wanted);
            let picked = picked.expect("a view without refusal has candidates");
            (Pick::Backend(address(picked)), because)
        }
    }
}

/// What `maglev` hashes, and that in words.
fn key(hash_on: &HashOn, request: &impl Asked, client: Option<IpAddr>) -> (Option<u64>, String) {
    let what = match hash_on {
        HashOn::Address => return (None, of_client(client)),
        HashOn::Header(name) => format!("field \"{name}\""),
        HashOn::Cookie(name) => format!("cookie \"{name}\""),
        HashOn::Uri => "path and query".to_string(),
    };
    match hash_on.key(request) {
        Some(key) => (Some(key), format!("the hash of its {what} leads there")),
        None => (None, format!("the request has no {what}, so: {}", of_client(client))),
    }
}

fn of_client(client: Option<IpAddr>) -> String {
    match client {
        Some(client) => format!("the hash of the client's address {client} leads there"),
        None => "the client's address decides, and it was not given; over all clients the shares are these".to_string(),
    }
}

fn notes(pool: &Pool, standings: impl Iterator<Item = Standing>, request: &impl Asked) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(sticky) = &pool.sticky {
        let name = &sticky.cookie;
        notes.push(match request.cookie(name) {
            Some(_) => format!(
                "the pool is sticky and the request has a cookie \"{name}\": where it is one of ours, the backend it names comes first"
            ),
            None => format!("the pool is sticky: with the cookie \"{name}\" of the answer the client stays where it got to"),
        });
    }
    if pool.affinity.is_some() {
        notes.push(
            "the pool keeps clients by their address: one that was here lately goes back to its backend".to_string(),
        );
    }
    if let Some(percent) = pool.bounded_load.filter(|_| pool.schedule.is_hashed()) {
        notes.push(format!(
            "a backend with more than {percent} % of the mean load is passed over for the next (bounded_load)"
        ));
    }
    if !pool.checks.is_empty() && standings.into_iter().all(|standing| standing.verdict == Verdict::Unknown) {
        notes.push("no verdicts are known: every backend is taken for fit".to_string());
    }
    notes
}

impl From<&Candidate<'_>> for RuleLine {
    fn from(candidate: &Candidate<'_>) -> Self {
        let Candidate { rule, reason } = candidate;
        let place = match reason {
            Reason::Taken => RulePlace::Taken,
            _ if reason.is_runner_up() => RulePlace::RunnerUp,
            _ => RulePlace::Out,
        };
        RuleLine { name: rule.name.to_string(), place, reason: reason.word(), sentence: reason.to_string() }
    }
}
