//! The config: what runs, what the file says, and changes of it.
//!
//! Nothing is decided here. The service judges texts and takes them, one after the other, and says what came of it; what is
//! told of a config is without what may be secret in it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use evenkeel_config::{Format, Secrets, secrets};
use evenkeel_control::{Changed, RuntimeChange};
use evenkeel_health::settings::ProbeSettings;
use evenkeel_model::Epoch;
use evenkeel_plan::{AccessLog, HookTo, Plan};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{Query, body, media_type, unsupported};
use super::diff::{Diff, diff};
use super::guard::{Asker, LOOPBACK};
use super::problem::{Fault, Problem};
use super::{Admin, Shared, answer, run};
use crate::service::{ConfigText, Desk, Keep, Running};
use crate::status::shape::ConfigState;

/// What runs.
#[derive(Serialize, ToSchema)]
pub struct Config {
    file: String,
    /// SHA-256 of the text that runs.
    hash: String,
    /// The same of the file as it is now; `null` when it cannot be read.
    file_hash: Option<String>,
    same: bool,
    /// `toml`, `yaml` or `json`.
    format: &'static str,
    /// What runs, without comments, and with `***` for what may be secret.
    text: String,
    /// In what the running node differs from this text.
    changes: Vec<Change>,
}

/// Something an operator has changed beside the config.
#[derive(Clone, Serialize, ToSchema)]
pub struct Change {
    pub pool: String,
    pub backend: String,
    /// `order` or `weight`.
    pub what: &'static str,
    /// The order, or the weight as a number.
    #[schema(value_type = serde_json::Value)]
    pub value: serde_json::Value,
    /// What the config says.
    #[schema(value_type = serde_json::Value)]
    pub configured: serde_json::Value,
    pub by: String,
    pub since: String,
    /// When it ends by itself.
    pub until: Option<String>,
    /// Whether it outlives a restart.
    pub kept: bool,
}

impl Change {
    fn of(change: &RuntimeChange, epoch: Epoch) -> Change {
        let (what, value, configured) = match change.what {
            Changed::Order(order) => ("order", order.word().into(), "serve".into()),
            Changed::Weight { given, configured } => ("weight", given.into(), configured.into()),
        };
        Change {
            pool: change.pool.to_string(),
            backend: change.backend.to_string(),
            what,
            value,
            configured,
            by: change.by.to_string(),
            since: epoch.rfc3339(change.since),
            until: change.until.map(|until| epoch.rfc3339(until)),
            kept: change.kept,
        }
    }
}

/// What came of a config that was sent.
#[derive(Serialize, ToSchema)]
pub struct Taken {
    /// Whether it runs now; `false` after a dry run.
    applied: bool,
    /// Whether it stands in the file too.
    kept: bool,
    /// SHA-256 of the text.
    hash: String,
    diff: Diff,
    warnings: Vec<Fault>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct How {
    /// Say what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Write it to the file too; what stood there stays beside it. Otherwise it runs until the next reload or restart.
    #[serde(default)]
    keep: bool,
}

/// What runs and what the file says; for the status document. `None` where no file stands behind the node.
pub async fn state(admin: &Admin) -> Option<ConfigState> {
    let running = admin.desk.as_ref()?.running().await?;
    let boss = admin.view.boss.clone();
    run(move || {
        let changes = boss.look(|control| control.changes().count())?;
        Some(state_of(&running, changes))
    })
    .await
    .flatten()
}

/// Reads the file.
fn state_of(running: &Running, changes: usize) -> ConfigState {
    let hash = running.text.hash();
    let text = std::fs::read_to_string(&running.file).ok();
    let file_hash = text.map(|text| ConfigText { text: text.into(), ..running.text.clone() }.hash());
    let same = file_hash.as_ref() == Some(&hash);
    ConfigState { file: running.file.display().to_string(), hash, file_hash, same, changes }
}

fn desk(admin: &Admin) -> Result<&Desk, Problem> {
    let none = || Problem::new(StatusCode::CONFLICT, "no config file stands behind this node");
    admin.desk.as_ref().ok_or_else(none)
}

async fn running(admin: &Admin) -> Result<Running, Problem> {
    desk(admin)?.running().await.ok_or_else(Problem::stopping)
}

/// What may be secret in what runs.
pub async fn running_secrets(admin: &Admin) -> Secrets {
    match running(admin).await {
        Ok(running) => run(move || secrets(&running.text.source())).await.unwrap_or_default(),
        Err(_) => Secrets::default(),
    }
}

/// What runs, whether the file says the same, and in what the node differs from both.
#[utoipa::path(
    get, path = "/api/v1/config", tag = "config",
    responses((status = 200, description = "The running config", body = Config)),
)]
pub async fn config(State(admin): Shared) -> Result<Response, Problem> {
    let running = running(&admin).await?;
    let (boss, epoch) = (admin.view.boss.clone(), admin.view.epoch);
    answer(move || {
        let changes = boss.look(|control| control.changes().collect::<Vec<_>>()).ok_or_else(Problem::stopping)?;
        let changes: Vec<Change> = changes.iter().map(|change| Change::of(change, epoch)).collect();
        let ConfigState { file, hash, file_hash, same, changes: _ } = state_of(&running, changes.len());
        Ok(Config {
            file,
            hash,
            file_hash,
            same,
            format: running.text.format.word(),
            text: secrets(&running.text.source()).hide(&running.text.text),
            changes,
        })
    })
    .await
}

/// What a reload would change: the file against what runs.
#[utoipa::path(
    get, path = "/api/v1/config/diff", tag = "config",
    responses(
        (status = 200, description = "The difference", body = Diff),
        (status = 409, description = "The file cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The file has errors", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn diff_of_file(State(admin): Shared) -> Result<Response, Problem> {
    let running = running(&admin).await?;
    let judged = desk(&admin)?.judge(None).await.map_err(|why| Problem::not_taken(&why))?;
    let Some(plan) = judged.plan.clone() else { return Err(Problem::judged(&judged)) };
    let boss = admin.view.boss.clone();
    let epoch = admin.view.epoch;
    answer(move || compare(&boss, epoch, &running.plan, &plan, [&running.text, &judged.text])).await
}

fn compare(
    boss: &crate::boss::Boss,
    epoch: Epoch,
    old: &Plan,
    new: &Plan,
    texts: [&ConfigText; 2],
) -> Result<Diff, Problem> {
    let changes = boss.look(|control| control.changes().collect::<Vec<_>>()).ok_or_else(Problem::stopping)?;
    let changes = changes.iter().map(|change| Change::of(change, epoch)).collect();
    let secrets = texts.map(|text| secrets(&text.source()));
    let scrub = |text: &str| secrets.iter().fold(text.to_owned(), |text, secrets| secrets.scrub(&text));
    Ok(diff(old, new, changes, scrub))
}

/// Reads the file again, as SIGHUP does.
#[utoipa::path(
    post, path = "/api/v1/config/reload", tag = "config",
    responses(
        (status = 200, description = "The file runs now", body = Taken),
        (status = 409, description = "The file cannot be read, or a port not be had", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The file has errors", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn reload(State(admin): Shared, Extension(Asker(by)): Extension<Asker>) -> Result<Response, Problem> {
    let before = running(&admin).await?;
    let taken = desk(&admin)?.reload(by).await.map_err(|why| Problem::not_taken(&why))?;
    let (boss, epoch) = (admin.view.boss.clone(), admin.view.epoch);
    answer(move || {
        let diff = compare(&boss, epoch, &before.plan, &taken.plan, [&before.text, &taken.text])?;
        Ok(Taken { applied: true, kept: true, hash: taken.text.hash(), diff, warnings: Vec::new() })
    })
    .await
}

/// Runs with the config in the body, or says what it would change.
#[utoipa::path(
    put, path = "/api/v1/config", tag = "config", params(How),
    request_body(content(
        (String = "application/toml"),
        (String = "application/yaml"),
        (serde_json::Value = "application/json"),
    )),
    responses(
        (status = 200, description = "It runs now, or would", body = Taken),
        (status = 400, description = "The query or the body does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A port or the file cannot be had; what ran before runs", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "It is no toml, yaml or json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It has errors, all of which are listed; what ran before runs", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn apply(
    State(admin): Shared,
    Extension(Asker(by)): Extension<Asker>,
    Query(how): Query<How>,
    request: Request,
) -> Result<Response, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).map_or_else(String::new, |kind| media_type(kind.as_bytes()));
    let format = match kind.as_str() {
        "application/toml" | "text/toml" | "text/x-toml" => Format::Toml,
        "application/yaml" | "text/yaml" | "application/x-yaml" => Format::Yaml,
        "application/json" => Format::Json,
        other => return Err(unsupported(other, "application/toml, application/yaml or application/json")),
    };
    if how.dry_run && how.keep {
        return Err(Problem::bad("dry_run and keep exclude each other: a dry run changes nothing"));
    }
    let bytes = body(request).await?;
    let text: Arc<str> = String::from_utf8(bytes).map_err(|_| Problem::bad("the body is no UTF-8"))?.into();
    let before = running(&admin).await?;
    let judged = desk(&admin)?.judge(Some((Arc::clone(&text), format))).await;
    let judged = judged.map_err(|why| Problem::not_taken(&why))?;
    let Some(mut plan) = judged.plan.clone() else { return Err(Problem::judged(&judged)) };
    if *by == *LOOPBACK
        && let Some(reach) = reaches_further(&before.plan, &plan)
    {
        let detail = format!(
            "{reach}, which whoever comes over loopback without a token may not bring; write it into the file and reload, or \
             come by the socket or with a token"
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if !how.dry_run {
        let keep = if how.keep { Keep::InFile } else { Keep::UntilReload };
        let taken = desk(&admin)?.apply(text, format, keep, by).await;
        plan = taken.map_err(|why| Problem::not_taken(&why))?.plan;
    }
    let (boss, epoch) = (admin.view.boss.clone(), admin.view.epoch);
    answer(move || {
        let diff = compare(&boss, epoch, &before.plan, &plan, [&before.text, &judged.text])?;
        let warnings = judged.problems.iter().map(Fault::of).collect();
        Ok(Taken { applied: !how.dry_run, kept: how.keep, hash: judged.text.hash(), diff, warnings })
    })
    .await
}

/// What a config would do to this host in evenkeel's name that the running one does not: run another program, write another
/// file. Every account of the host can connect to loopback, and must not become evenkeel's by it.
fn reaches_further(old: &Plan, new: &Plan) -> Option<String> {
    let programs = |plan: &Plan| {
        let hooks = plan.node.hooks.iter().filter_map(|hook| match &hook.to {
            HookTo::Command(words) => Some(words.clone()),
            HookTo::Url(_) => None,
        });
        let checks = plan.pools.iter().flat_map(|pool| &pool.checks).filter_map(|check| match &check.settings.probe {
            ProbeSettings::Command(probe) => Some(probe.command.to_vec()),
            _ => None,
        });
        hooks.chain(checks).collect::<Vec<_>>()
    };
    let known = programs(old);
    if programs(new).iter().any(|program| !known.contains(program)) {
        return Some("it runs a program that the running config does not".to_owned());
    }
    if new.node.access_log != old.node.access_log && matches!(new.node.access_log, AccessLog::File(_)) {
        return Some("it writes access_log to another file".to_owned());
    }
    if new.node.state != old.node.state && new.node.state.is_some() {
        return Some("it writes another state_file".to_owned());
    }
    let socket = |plan: &Plan| plan.admin.as_ref().and_then(|admin| admin.socket.clone());
    if socket(new) != socket(old) && socket(new).is_some() {
        return Some("it makes another admin.socket".to_owned());
    }
    None
}
