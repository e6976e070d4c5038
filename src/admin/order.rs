//! What operators have done to backends: orders, weights, probes. Each is one event that tells who asked.
//!
//! Whether it can be done is for the control room to say; here words become wishes, and refusals become problems.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use evenkeel_config::closest;
use evenkeel_control::Obeyed;
use evenkeel_model::event::Refused;
use evenkeel_model::limits;
use evenkeel_model::standing::Order;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::ask::{Json, Place};
use super::guard::Asker;
use super::problem::{Problem, shown};
use super::read::status::find;
use super::{Admin, Shared, answer};
use crate::boss::{Operated, Wish};
use crate::status::shape::Backend;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedOrder {
    /// `serve`: work as the verdict allows. `drain`: no new work, but probes. `maintain`: neither.
    #[schema(pattern = "^(serve|drain|maintain)$", example = "drain")]
    order: String,
    /// After which it falls back to `serve`: a whole number and `ms`, `s`, `m`, `h` or `d`, at most 365 days. Not with `serve`.
    #[serde(rename = "for")]
    #[schema(pattern = "^[1-9][0-9]{0,3}(s|m)$", example = "10m")]
    lasts: Option<String>,
    /// Whether it outlives a restart; wants `node.state_file`.
    #[serde(default)]
    keep: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedWeight {
    /// `null`: that of the config.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 100, required = true)]
    weight: Option<u32>,
    /// Whether it outlives a restart; wants `node.state_file`.
    #[serde(default)]
    keep: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedProbe {}

/// What was done, and how the backend stands now.
#[derive(Serialize, ToSchema)]
pub struct Done {
    /// `false`: it was so already.
    changed: bool,
    backend: Backend,
}

/// Probes on their way.
#[derive(Serialize, ToSchema)]
pub struct Probing {
    /// Probes that were brought forward.
    brought_forward: usize,
    /// Probes that were in flight anyway.
    in_flight: usize,
}

/// Orders a backend to serve, drain or be in maintenance.
#[utoipa::path(
    post, path = "/api/v1/pools/{pool}/backends/{backend}/order", tag = "orders", request_body = AskedOrder,
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("backend" = String, Path, description = "Its address and port", example = "10.0.0.11:8080"),
    ),
    responses(
        (status = 200, description = "It is so now", body = Done),
        (status = 400, description = "The body does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such pool or backend", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It cannot be done with this config", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn order(
    State(admin): Shared,
    Extension(asker): Extension<Asker>,
    place: Place,
    Json(asked): Json<AskedOrder>,
) -> Result<Response, Problem> {
    let known = || Order::ALL.iter().map(|order| order.word());
    let Some(order) = Order::ALL.iter().copied().find(|order| order.word() == asked.order) else {
        let near = closest(&asked.order, known()).map(|near| format!("; did you mean \"{near}\"?"));
        let words = known().collect::<Vec<_>>().join(", ");
        let near = near.unwrap_or_default();
        return Err(Problem::bad(format!("order is \"{}\", but it takes {words}{near}", shown(&asked.order))));
    };
    let lasts = asked.lasts.as_deref().map(time).transpose()?;
    let obeyed = operate(&admin, &place, asker, Wish::Order { order, lasts, keep: asked.keep }).await?;
    done(&admin, place, obeyed).await
}

/// Gives a backend another weight, or the config's back.
#[utoipa::path(
    post, path = "/api/v1/pools/{pool}/backends/{backend}/weight", tag = "orders", request_body = AskedWeight,
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("backend" = String, Path, description = "Its address and port", example = "10.0.0.11:8080"),
    ),
    responses(
        (status = 200, description = "It is so now", body = Done),
        (status = 400, description = "The body does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such pool or backend", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It cannot be done with this config", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn weight(
    State(admin): Shared,
    Extension(asker): Extension<Asker>,
    place: Place,
    Json(asked): Json<AskedWeight>,
) -> Result<Response, Problem> {
    let obeyed = operate(&admin, &place, asker, Wish::Weight { weight: asked.weight, keep: asked.keep }).await?;
    done(&admin, place, obeyed).await
}

/// Probes a backend now, by all its checks. The answer comes before they end.
#[utoipa::path(
    post, path = "/api/v1/pools/{pool}/backends/{backend}/probe", tag = "orders", request_body = Option<AskedProbe>,
    params(
        ("pool" = String, Path, description = "Name of the pool"),
        ("backend" = String, Path, description = "Its address and port", example = "10.0.0.11:8080"),
    ),
    responses(
        (status = 202, description = "Probes are on their way", body = Probing),
        (status = 400, description = "The body does not fit", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such pool or backend", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not probed", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn probe(
    State(admin): Shared,
    Extension(asker): Extension<Asker>,
    place: Place,
    // There is nothing to say yet, but a misspelt wish is refused.
    Json(_asked): Json<Option<AskedProbe>>,
) -> Result<Response, Problem> {
    let probing = match operate(&admin, &place, asker, Wish::Probe).await? {
        Obeyed::Probing { waiting, in_flight } => Probing { brought_forward: waiting, in_flight },
        Obeyed::Changed | Obeyed::AsBefore => Probing { brought_forward: 0, in_flight: 0 },
    };
    Ok((StatusCode::ACCEPTED, axum::Json(probing)).into_response())
}

async fn operate(admin: &Admin, place: &Place, Asker(by): Asker, wish: Wish) -> Result<Obeyed, Problem> {
    let of = Operated { pool: place.pool.as_str().into(), backend: place.backend, by };
    let answered = admin.view.boss.operate(of, wish).await;
    match answered.map_err(|_| Problem::stopping())? {
        Ok(obeyed) => Ok(obeyed),
        Err(why) => Err(refused(admin, place, why).await),
    }
}

async fn refused(admin: &Admin, place: &Place, why: Refused) -> Problem {
    let detail = why.sentence(&place.pool, place.backend);
    match why {
        // Said with the names that were perhaps meant.
        Refused::NoSuchPool | Refused::NoSuchBackend => {
            let (view, place) = (admin.view.clone(), Place { pool: place.pool.clone(), backend: place.backend });
            let found = super::run(move || find(&view, &place).err()).await.flatten();
            found.unwrap_or_else(|| Problem::new(StatusCode::NOT_FOUND, detail))
        }
        Refused::ServeHasNoEnd | Refused::WeightOutOfRange { .. } => Problem::bad(detail),
        Refused::NoStateFile | Refused::NoCheck | Refused::NotProbed => Problem::new(StatusCode::CONFLICT, detail),
    }
}

async fn done(admin: &Arc<Admin>, place: Place, obeyed: Obeyed) -> Result<Response, Problem> {
    let view = admin.view.clone();
    let changed = obeyed != Obeyed::AsBefore;
    answer(move || Ok(Done { changed, backend: find(&view, &place)? })).await
}

/// Has to be there, as a number or as `null`: to leave it out must not take a weight back. JSON knows one kind of number, so 44.0
/// is 44.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        return Ok(Some(number as u32));
    }
    Err(D::Error::custom(format!("weight is {number}, but it takes a whole number from 0 to {}", limits::WEIGHT.max)))
}

/// A whole number and a unit.
fn time(text: &str) -> Result<Duration, Problem> {
    let wrong = |what: &str| Problem::bad(format!("for is \"{}\", but {what}; write for example \"10m\"", shown(text)));
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| wrong("it begins with a whole number"))?;
    let unit = match &text[split..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" | "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        "d" => Duration::from_secs(86_400),
        _ => return Err(wrong("it ends with ms, s, m, h or d")),
    };
    let most = Duration::from_secs(limits::ORDER_LASTS.value);
    let time = u32::try_from(number).ok().and_then(|number| unit.checked_mul(number)).filter(|time| *time <= most);
    match time {
        Some(time) if !time.is_zero() => Ok(time),
        Some(_) => Err(wrong("no time is no limit; leave it out for an order without an end")),
        None => Err(wrong("it is at most 365d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_is_a_number_with_a_unit_and_has_a_length() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("5min", 300), ("2h", 7200), ("365d", 31_536_000)] {
            assert_eq!(time(text).ok(), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "10", "m", "-1m", "1.5h", "366d", "99999999999999999999s", "10 m", "10M", "١m"] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }
}
