//! The paths, and the OpenAPI document that describes them: one list for both.
//!
//! A path that is served and not described, or the other way round, cannot be written: handlers carry their description, and
//! a test compares the document with the one in the manual.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};

use super::read::{causes, events, history, host, metrics, requests, route, status};
use super::{Admin, Problem, config, order};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "evenkeel admin API",
        description = "Status, events and orders of one node. Errors are application/problem+json (RFC 9457).",
        license(name = "Apache-2.0 OR MIT"),
    ),
    servers((url = "/")),
    paths(
        status::status, status::pools, status::pool, status::backend, status::listeners,
        events::events, events::stream,
        causes::causes, causes::cause,
        requests::requests, requests::request, requests::stream,
        history::history, host::host, route::route,
        order::order, order::weight, order::probe,
        config::config, config::diff_of_file, config::reload, config::apply,
        metrics::metrics, metrics::ready,
    ),
    tags(
        (name = "status", description = "What is so now"),
        (name = "events", description = "What changed"),
        (name = "causes", description = "What went wrong"),
        (name = "requests", description = "Failed and slow requests, and what happened to them"),
        (name = "orders", description = "What operators have done to backends"),
        (name = "config", description = "What runs, what the file says, and changes of it"),
        (name = "machines", description = "For machines that look every few seconds"),
    ),
    security(("token" = [])),
)]
struct Description;

/// The OpenAPI document.
pub fn document() -> String {
    let mut document = Description::openapi();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Where tokens are configured. Loopback without tokens, and the unix socket, want none."))
        .build();
    document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(token));
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    for (path, item) in &mut document.paths.paths {
        let changes = [&mut item.post, &mut item.put].into_iter().flatten().map(|operation| (operation, true));
        let looks = item.get.iter_mut().map(|operation| (operation, false));
        for (operation, changes) in changes.chain(looks) {
            describe_refusals(path, operation, changes);
        }
    }
    document.to_pretty_json().expect("a description always has a JSON form") + "\n"
}

/// What every path of its kind may be answered with, by the guard or by what reads the request.
fn describe_refusals(path: &str, operation: &mut Operation, changes: bool) {
    if path == "/ready" {
        return;
    }
    let takes_body = operation.request_body.is_some();
    let mut add = |status: &str, what: &str| {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let refused = ResponseBuilder::new().description(what).content("application/problem+json", problem).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(refused.into());
    };
    add("401", "There is no token, or none that is known");
    add("421", "Without tokens: Host is neither an IP address nor localhost");
    add("503", "The node is stopping");
    if path.contains('{') {
        add("400", "A name in the path is not percent-encoded UTF-8");
    }
    if changes {
        add("403", "The token has another role, or the request comes from another page");
    }
    if takes_body {
        add("408", "The body was not here in time");
        add("413", "The body is too large");
        add("415", "The body is of another type");
    }
}

/// This document.
async fn description() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// Each path once, with what it takes.
pub fn routes() -> Router<Arc<Admin>> {
    let reads: [(&str, MethodRouter<Arc<Admin>>); 19] = [
        ("/metrics", get(metrics::metrics)),
        ("/ready", get(metrics::ready)),
        ("/status", get(status::status)),
        ("/api/v1/status", get(status::status)),
        ("/api/v1/pools", get(status::pools)),
        ("/api/v1/pools/{pool}", get(status::pool)),
        ("/api/v1/pools/{pool}/backends/{backend}", get(status::backend)),
        ("/api/v1/listeners", get(status::listeners)),
        ("/api/v1/config/diff", get(config::diff_of_file)),
        ("/api/v1/events", get(events::events)),
        ("/api/v1/events/stream", get(events::stream)),
        ("/api/v1/causes", get(causes::causes)),
        ("/api/v1/causes/{code}", get(causes::cause)),
        ("/api/v1/requests", get(requests::requests)),
        ("/api/v1/requests/stream", get(requests::stream)),
        ("/api/v1/requests/{id}", get(requests::request)),
        ("/api/v1/history", get(history::history)),
        ("/api/v1/host", get(host::host)),
        ("/api/v1/openapi.json", get(description)),
    ];
    let writes: [(&str, MethodRouter<Arc<Admin>>); 5] = [
        ("/api/v1/route", post(route::route)),
        ("/api/v1/pools/{pool}/backends/{backend}/order", post(order::order)),
        ("/api/v1/pools/{pool}/backends/{backend}/weight", post(order::weight)),
        ("/api/v1/pools/{pool}/backends/{backend}/probe", post(order::probe)),
        ("/api/v1/config/reload", post(config::reload)),
    ];
    let mut routes = Router::new();
    for (path, handlers) in reads {
        routes = routes.route(path, handlers.fallback(|| async { Problem::method("GET, HEAD") }));
    }
    for (path, handlers) in writes {
        routes = routes.route(path, handlers.fallback(|| async { Problem::method("POST") }));
    }
    let both = get(config::config).put(config::apply).fallback(|| async { Problem::method("GET, HEAD, PUT") });
    routes.route("/api/v1/config", both).fallback(nothing_here)
}

async fn nothing_here(request: Request) -> Problem {
    let path = super::problem::shown(request.uri().path());
    let there = Description::openapi().paths.paths;
    Problem::absent("path", &path, there.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_the_manual_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/openapi.json");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, document()).expect("the manual can be written");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == document(),
            "run UPDATE_GOLDEN=1 cargo test -p evenkeel --lib describe, and look at the difference"
        );
    }
}
