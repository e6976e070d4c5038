//! The last changes of verdict on a running node, read from its status document.
//!
//! Whoever fetched the document hands it in; this only knows its fields. A field that is missing makes a transition
//! poorer and never an error, since the node may be of another version.

use std::time::Duration;

use serde_json::Value;

/// What a running node has to say, or why it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Address of the node's status document.
    pub node: Option<String>,
    /// Newest first; or why nobody could be asked.
    pub transitions: Result<Vec<Transition>, String>,
}

/// One change of verdict that probes led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub at: String,
    pub pool: String,
    pub backend: String,
    /// The check that led to it, where it is told.
    pub check: Option<String>,
    /// `healthy` or `unhealthy`.
    pub to: String,
    pub probes: u64,
    /// Probes in between that said nothing; each makes the window longer.
    pub void: u64,
    /// From the start of the first probe of the run to the verdict.
    pub window: Option<Duration>,
    /// What the durations of these probes and the gaps between them add up to, jitter left out.
    pub computed: Option<Duration>,
}

/// The changes of verdict in a status document, newest first. First results are left out: one probe has no window.
pub fn seen(document: &Value) -> Vec<Transition> {
    let events = document["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter(|event| event["because"] == "run").filter_map(transition).collect()
}

fn transition(event: &Value) -> Option<Transition> {
    let text = |key: &str| event[key].as_str().map(str::to_owned);
    let time = |key: &str| event[key].as_f64().and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
    Some(Transition {
        at: text("time").unwrap_or_default(),
        pool: text("pool")?,
        backend: text("backend")?,
        check: text("check"),
        to: text("to")?,
        probes: event["probes"].as_u64().unwrap_or(0),
        void: event["void"].as_u64().unwrap_or(0),
        window: time("window"),
        computed: time("window_computed"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_are_read_and_everything_else_is_passed_over() {
        let document = json!({ "events": [
            { "time": "t1", "event": "backend.unhealthy", "pool": "web", "backend": "10.0.0.1:80", "check": "login",
              "from": "healthy", "to": "unhealthy", "because": "run", "probes": 3, "void": 1,
              "window": 6010.5, "window_computed": 4010.0 },
            { "time": "t0", "event": "backend.healthy", "pool": "web", "backend": "10.0.0.1:80", "to": "healthy",
              "because": "first_probe", "window": 1.0 },
            { "event": "backend.ejected", "pool": "web", "backend": "10.0.0.1:80", "because": "server_errors" },
            { "event": "backend.unhealthy", "because": "run", "pool": 7 },
            "no event at all",
        ]});
        let millis = |millis: f64| Some(Duration::from_secs_f64(millis / 1000.0));
        let expected = Transition {
            at: "t1".to_owned(),
            pool: "web".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            check: Some("login".to_owned()),
            to: "unhealthy".to_owned(),
            probes: 3,
            void: 1,
            window: millis(6010.5),
            computed: millis(4010.0),
        };
        assert_eq!(seen(&document), [expected]);
        for strange in
            [json!(null), json!([]), json!({ "events": "none" }), json!({ "events": [{ "because": "run" }] })]
        {
            assert_eq!(seen(&strange), [], "{strange}");
        }
    }
}
