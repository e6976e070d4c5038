//! What would become of a request, by the rules and verdicts that hold now.
//!
//! The same as `evenkeel route test`, but of the running node, so that it knows verdicts and orders. Nothing is sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use evenkeel_config::Secrets;
use evenkeel_diagnose::route;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, SchemaFormat, Type};

use crate::admin::ask::Json;
use crate::admin::config::running_secrets;
use crate::admin::problem::Problem;
use crate::admin::{Shared, answer};
use crate::route::Question;

/// A request that is not made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Whole; its scheme, port and address choose the listener. `tls://NAME:PORT` asks for a client of a tls-passthrough
    /// listener.
    #[schema(example = "https://www.example.com/")]
    url: String,
    #[schema(default = "GET")]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The client's address, for access lists and schedules that hash it.
    #[schema(schema_with = address)]
    client: Option<String>,
    /// The listener's name, where the URL does not tell which one.
    listener: Option<String>,
    /// Protocols that a client of a tls-passthrough listener offers.
    #[serde(default)]
    alpn: Vec<String>,
}

/// An IP address of either family, or none.
fn address() -> Schema {
    let of = |format: &str| {
        ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom(format.to_owned())))
    };
    AnyOfBuilder::new()
        .item(of("ipv4"))
        .item(of("ipv6"))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .build()
        .into()
}

/// Which listener, rule, pool and backend a request would come to, and why: as `evenkeel route test --json`. Nothing is sent.
#[utoipa::path(
    post, path = "/api/v1/route", tag = "status", request_body = Asked,
    responses(
        (status = 200, description = "What would become of it", body = Value),
        (status = 400, description = "The body does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No listener would get the request, or several could", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn route(State(admin): Shared, Json(asked): Json<Asked>) -> Result<Response, Problem> {
    let client = match &asked.client {
        None => None,
        Some(text) => {
            let client = text.parse::<IpAddr>();
            Some(client.map_err(|_| Problem::bad("client is no IP address; write for example \"192.0.2.7\""))?)
        }
    };
    let tls = asked.url.to_ascii_lowercase().starts_with("tls://");
    let question = Question {
        method: asked.method.or_else(|| (!tls).then(|| "GET".to_owned())),
        url: asked.url,
        headers: asked.headers.into_iter().collect(),
        alpn: asked.alpn,
        client,
        listener: asked.listener,
    };
    let boss = admin.view.boss.clone();
    // Rules may ask for a field that only those behind a proxy know.
    let secrets = running_secrets(&admin).await;
    answer(move || {
        let snapshot = boss.look(evenkeel_control::Control::snapshot).ok_or_else(Problem::stopping)?;
        let report = crate::route::ask(&snapshot, &question);
        let report = report.map_err(|why| Problem::new(axum::http::StatusCode::CONFLICT, why))?;
        let mut told: Value = serde_json::from_str(&route::json(&report)).expect("a report is JSON");
        scrub(&mut told, &secrets);
        Ok(told)
    })
    .await
}

fn scrub(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => *text = secrets.scrub(text),
        Value::Array(items) => items.iter_mut().for_each(|item| scrub(item, secrets)),
        Value::Object(entries) => entries.values_mut().for_each(|entry| scrub(entry, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
