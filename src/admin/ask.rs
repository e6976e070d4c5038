//! Reads what a request says: its query, its body, the names in its path. Whatever is wrong becomes a problem with what would be right.
//!
//! Unknown names are refused, in queries and in bodies: `"oder": "drain"` must not be taken for an order that was left out. The
//! sizes are bounded before anything is read, and so is the time a body may take.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query as AnyQuery, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use evenkeel_config::closest;
use evenkeel_model::limits;
use serde::de::DeserializeOwned;

use super::problem::{Problem, shown};

/// A body in JSON, whole.
pub struct Json<T>(pub T);

/// The part behind the question mark.
pub struct Query<T>(pub T);

/// A name in the path.
pub struct Name(pub String);

/// Pool and backend in the path.
pub struct Place {
    pub pool: String,
    pub backend: SocketAddr,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
        let bytes = body(request).await?;
        match kind.as_deref().map(media_type) {
            Some(kind) if kind == "application/json" => {}
            // Nothing was sent, and nothing need be said of it.
            None if bytes.is_empty() => {}
            Some(kind) => return Err(unsupported(&kind, "application/json")),
            None => return Err(unsupported("", "application/json")),
        }
        // Every field of some bodies may be left out; then so may the body.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Json).map_err(|error| {
            let what = if error.is_data() { "the body does not fit" } else { "the body is no JSON" };
            Problem::bad(format!("{what}: {}", with_proposal(&error.to_string())))
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = AnyQuery::<T>::from_request_parts(parts, state).await;
        read.map(|AnyQuery(query)| Query(query)).map_err(|refused| {
            let text = refused.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::bad(format!("the query does not fit: {}", with_proposal(&shown(text).replace("\\\"", "\""))))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(name)| Name(name)).map_err(|_| no_utf8())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((pool, backend)) = read.map_err(|_| no_utf8())?;
        match backend.parse() {
            Ok(backend) => Ok(Place { pool, backend }),
            Err(_) => {
                let detail = format!(
                    "\"{}\" is no backend: write address and port, as in 10.0.0.11:8080 or [2001:db8::7]:8080",
                    shown(&backend)
                );
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }
}

fn no_utf8() -> Problem {
    Problem::bad("a name in the path is not percent-encoded UTF-8")
}

/// The bytes of a body, if they are not too many and come in time.
pub async fn body(request: Request) -> Result<Vec<u8>, Problem> {
    let most = limits::ADMIN_BODY.value;
    let told = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let detail = format!("the body is larger than {most} bytes, the most that is taken here");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if told.is_some_and(|told| told > most) {
        return Err(too_large());
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let read = to_bytes(Body::new(request.into_body()), most);
    match tokio::time::timeout(Duration::from_secs(limits::ADMIN_PATIENCE.value), read).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        // Without a length there are two reasons, and only one of them leaves somebody who hears us.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            let detail = format!("the body was not here within {} s", limits::ADMIN_PATIENCE.value);
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

pub fn unsupported(got: &str, wanted: &str) -> Problem {
    let got = if got.is_empty() { "there is no Content-Type".to_owned() } else { format!("it is {}", shown(got)) };
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {wanted}, but {got}"))
}

/// Without its parameters, in lower case.
pub fn media_type(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// serde's words, which list what it would take: the nearest of that is proposed.
fn with_proposal(text: &str) -> String {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let near = quoted.next().and_then(|got| closest(got, quoted).map(str::to_owned));
    let text = text.replace('`', "\"");
    match near {
        Some(near) => format!("{text}; did you mean \"{near}\"?"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_answered_with_the_one_that_was_meant() {
        assert_eq!(
            with_proposal("unknown field `oder`, expected one of `order`, `for`, `keep` at line 1 column 7"),
            "unknown field \"oder\", expected one of \"order\", \"for\", \"keep\" at line 1 column 7; did you mean \"order\"?"
        );
        assert_eq!(with_proposal("missing field `url`"), "missing field \"url\"");
    }

    #[test]
    fn a_media_type_is_compared_without_its_parameters() {
        assert_eq!(media_type(b"Application/JSON; charset=utf-8"), "application/json");
        assert_eq!(media_type(b"\xff"), "\u{fffd}");
    }
}
