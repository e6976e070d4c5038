//! `evenkeel events`: what changed, and with `--follow` what changes from now on.
//!
//! A stream that breaks is taken up behind the last event that was seen, so that a reload of the admin address, or a restart,
//! loses nothing that the node still knows.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Failure, Told};

/// Between two tries to reach a node that is gone.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub struct Arguments {
    /// Go on with what comes, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// The last so many.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
    limit: u64,
    /// Only those behind this number.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    #[command(flatten)]
    pub node: super::Node,
}

pub fn events(client: &Client, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let after = arguments.after.map(|after| format!("&after={after}")).unwrap_or_default();
    let mut last = arguments.after;
    if arguments.limit > 0 {
        let document = client.get(&format!("/api/v1/events?limit={}{after}", arguments.limit))?;
        if let Some(missed) = document["missed"].as_u64().filter(|missed| *missed > 0) {
            eprintln!("{missed} events behind number {} are no longer kept", arguments.after.unwrap_or_default());
        }
        for event in document["events"].as_array().into_iter().flatten() {
            show(event, arguments.node.json);
            last = event["seq"].as_u64().or(last);
        }
    }
    if !arguments.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let mut stream = client.events("/api/v1/events/stream", last)?;
    loop {
        match stream.next() {
            Ok(Some(told)) => hear(&told, &mut last, arguments.node.json),
            ended => {
                let why = ended.err().map_or_else(|| "it ended the stream".to_owned(), |error| error.to_string());
                eprintln!("the node at {} is gone ({why}); waiting for it", client.place);
                stream = again(client, last)?;
            }
        }
    }
}

/// The stream of a node that has come back.
fn again(client: &Client, last: Option<u64>) -> Result<super::client::Stream, Failure> {
    loop {
        sleep(AGAIN);
        match client.events("/api/v1/events/stream", last) {
            Ok(stream) => {
                eprintln!("it is back");
                return Ok(stream);
            }
            Err(Failure::NoNode { .. }) => {}
            Err(refused) => return Err(refused),
        }
    }
}

fn hear(told: &Told, last: &mut Option<u64>, json: bool) {
    if told.event.as_deref() == Some("dropped") {
        let missed = serde_json::from_str::<Value>(&told.data).map(|data| data["missed"].clone()).unwrap_or_default();
        eprintln!("{missed} events were missed: they are no longer kept");
        return;
    }
    let Ok(event) = serde_json::from_str::<Value>(&told.data) else { return };
    show(&event, json);
    *last = told.id.as_ref().and_then(|id| id.parse().ok()).or(*last);
}

/// One line: as in the log, or as JSON.
fn show(event: &Value, json: bool) {
    if json {
        println!("{event}");
    } else {
        let text = |key: &str| event[key].as_str().unwrap_or("-");
        println!("{} {} {} {}", text("time"), text("level"), text("event"), text("text"));
    }
}
