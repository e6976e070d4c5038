//! The windows as one JSON document: times in milliseconds, `null` for never.
//!
//! Names are those of the table's rows, and stable: scripts compare them with what they are willing to wait.

use std::time::Duration;

use evenkeel_health::window::Span;
use serde_json::{Value, json};

use super::{CheckWindows, Fault, PoolWindows, Row, Seen, Transition};

/// `evenkeel window FILE --json`.
pub fn json(pools: &[PoolWindows], seen: &Seen) -> String {
    let (transitions, unasked) = match &seen.transitions {
        Ok(transitions) => (Some(&transitions[..]), None),
        Err(why) => (None, Some(why)),
    };
    let pools: Vec<Value> = pools.iter().map(|pool| of_pool(pool, transitions)).collect();
    let document = json!({ "pools": pools, "node": seen.node, "not_asked": unasked });
    serde_json::to_string_pretty(&document).expect("texts and numbers always have a JSON form")
}

fn of_pool(pool: &PoolWindows, transitions: Option<&[Transition]>) -> Value {
    let checks: Vec<Value> = pool.checks.iter().map(check).collect();
    let seen =
        transitions.map(|all| all.iter().filter(|one| one.pool == pool.pool).map(transition).collect::<Vec<Value>>());
    json!({ "pool": pool.pool, "checks": checks, "together": rows(&pool.together), "seen": seen })
}

fn check(check: &CheckWindows) -> Value {
    let timing = &check.timing;
    json!({
        "name": check.name,
        "kind": check.kind,
        "timeout_ms": millis(timing.timeout),
        "interval_ms": millis(timing.interval),
        "unhealthy_interval_ms": millis(timing.unhealthy_interval),
        "transition_interval_ms": millis(timing.transition_interval),
        "trust_traffic_ms": timing.trust_traffic.map(millis),
        "jitter_percent": timing.jitter,
        "unhealthy_threshold": timing.unhealthy_threshold,
        "healthy_threshold": timing.healthy_threshold,
        "response_ms": millis(check.response),
        "windows": rows(&check.rows),
    })
}

fn rows(rows: &[Row; 3]) -> Value {
    let mut all = json!({});
    for row in rows {
        let fault = match row.fault {
            Fault::Refuses => "refuses",
            Fault::Silent => "silent",
            Fault::AnswersWrongly => "answers_wrongly",
        };
        all[fault] = json!({
            "detection": row.detection.map(span),
            "detection_in_traffic": row.detection_in_traffic.map(span),
            "recovery": row.recovery.map(span),
        });
    }
    all
}

fn span(span: Span) -> Value {
    json!({ "best_ms": millis(span.best), "typical_ms": millis(span.typical), "worst_ms": millis(span.worst) })
}

fn transition(seen: &Transition) -> Value {
    json!({
        "time": seen.at,
        "backend": seen.backend,
        "check": seen.check,
        "to": seen.to,
        "probes": seen.probes,
        "void": seen.void,
        "window_ms": seen.window.map(millis),
        "computed_ms": seen.computed.map(millis),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::super::tests::{TCP, UDP, check, plan, tcp, transition, udp};
    use super::*;
    use evenkeel_health::settings::{Silence, Timing};

    #[test]
    fn json_has_milliseconds_and_null_for_never() {
        let half = Timing { timeout: Duration::from_micros(12_500), ..TCP };
        let pools = table(
            &plan(vec![
                ("quick", vec![check("tcp", tcp(), half)]),
                ("dns", vec![check("udp", udp(None, Silence::Pass), UDP)]),
                ("batch", Vec::new()),
            ]),
            Duration::ZERO,
        );
        let transitions = Ok(vec![transition("quick", "10.0.0.1:80".parse().unwrap())]);
        let seen = Seen { node: Some("127.0.0.1:9900".to_owned()), transitions };
        let document: Value = serde_json::from_str(&json(&pools, &seen)).unwrap();
        let [quick, dns, batch] = [0, 1, 2].map(|pool| &document["pools"][pool]);
        assert_eq!(quick["checks"][0]["timeout_ms"], 12.5);
        assert_eq!(quick["checks"][0]["windows"]["refuses"]["detection"]["worst_ms"], 6000.0);
        assert_eq!(quick["seen"][0]["window_ms"], 4012.0);
        assert_eq!((&dns["together"]["silent"]["detection"], &dns["seen"]), (&Value::Null, &json!([])));
        assert_eq!(batch["checks"], json!([]));
        assert_eq!((&document["node"], &document["not_asked"]), (&json!("127.0.0.1:9900"), &Value::Null));
        let unasked = Seen { node: None, transitions: Err("no admin address".to_owned()) };
        let document: Value = serde_json::from_str(&json(&pools, &unasked)).unwrap();
        assert_eq!((&document["not_asked"], &document["pools"][0]["seen"]), (&json!("no admin address"), &Value::Null));
    }
}
