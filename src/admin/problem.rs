//! What is wrong with a request, as RFC 9457 has it: said so that it can be mended without looking anything up.
//!
//! Every answer of the admin side that is no success is one of these, unknown paths and methods included. The type is
//! `about:blank`, as the RFC wants it where the status says all that a program needs; the words are for people. Problems of a
//! config come along one by one, with their places.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use evenkeel_config::closest;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::{Judged, NotTaken};

/// The body of every answer that is no success (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says it.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong and what would be right.
    detail: String,
    /// Where there are several: each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip)]
    /// Boxed: it is empty nearly always, and every answer of the admin side may be a problem.
    headers: Box<HeaderMap>,
}

/// One thing that is wrong with a config.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Fault {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// Stable, for example `unknown_key`.
    pub code: &'static str,
    pub line: usize,
    pub column: usize,
    pub text: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn of(problem: &evenkeel_config::Problem) -> Fault {
        Fault {
            severity: problem.severity.word(),
            code: problem.code,
            line: problem.place.line,
            column: problem.place.column,
            text: problem.text.clone(),
            help: problem.help.clone(),
        }
    }
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            headers: Box::default(),
        }
    }

    pub fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Nothing of this name; the nearest of those there are is proposed.
    pub fn absent<'c>(what: &str, name: &str, there: impl Iterator<Item = &'c str>) -> Problem {
        let name = shown(name);
        let near = closest(&name, there).map(|near| format!("; did you mean \"{near}\"?"));
        Problem::new(StatusCode::NOT_FOUND, format!("there is no {what} \"{name}\"{}", near.unwrap_or_default()))
    }

    /// The control thread has ended.
    pub fn stopping() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping")
    }

    pub fn unknown(detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
        problem.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"evenkeel\""));
        problem
    }

    pub fn method(allow: &str) -> Problem {
        let detail = format!("this path takes {allow}");
        let mut problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail);
        problem.headers.extend(HeaderValue::from_str(allow).ok().map(|allow| (ALLOW, allow)));
        problem
    }

    pub fn with(mut self, errors: Vec<Fault>) -> Problem {
        self.errors = errors;
        self
    }

    /// A config has errors.
    pub fn judged(judged: &Judged) -> Problem {
        Problem::not_taken(&NotTaken::Problems(judged.clone()))
    }

    /// Why a config was not taken.
    pub fn not_taken(why: &NotTaken) -> Problem {
        match why {
            NotTaken::Problems(judged) => {
                let errors = judged.problems.iter().map(Fault::of).collect();
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string()).with(errors)
            }
            NotTaken::File(text) => Problem::new(StatusCode::CONFLICT, text.clone()),
            NotTaken::Refused(text) => Problem::new(StatusCode::CONFLICT, text.clone()),
            NotTaken::Ending => Problem::stopping(),
        }
    }
}

/// What somebody sent, fit to be said back: on one line, and not at any length.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = HeaderMap::clone(&self.headers);
        let mut response = (status, headers, Json(self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_said_back_on_one_line_and_not_at_any_length() {
        assert_eq!(shown("a\r\n\"b\"\u{1b}"), "a\\r\\n\\\"b\\\"\\u{1b}");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), 101);
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is_nearest() {
        let problem = Problem::absent("pool", "crat", ["cart", "web"].into_iter());
        assert_eq!((problem.status, &*problem.detail), (404, "there is no pool \"crat\"; did you mean \"cart\"?"));
        let problem = Problem::absent("pool", "xyz", ["cart", "web"].into_iter());
        assert_eq!(problem.detail, "there is no pool \"xyz\"");
    }
}
