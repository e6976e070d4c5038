//! What a cause means, as text for a terminal, as JSON and as a page of the manual.
//!
//! An operator at night has a code from a log line and one question: who broke it, and what do I do? So the
//! answer begins with the blame and ends with the advice; the rest stands between for those who
//! want it.

use std::fmt::Write;

use evenkeel_model::cause::Entry;
use evenkeel_model::{Cause, Phase};
use serde::Serialize;
use utoipa::ToSchema;

use crate::evidence;

/// Widest line of a text for a terminal.
const WIDTH: usize = 96;

/// Column at which the values of a text begin.
const INDENT: usize = 13;

/// `evenkeel explain CODE`.
pub fn cause(cause: Cause) -> String {
    let entry = cause.entry();
    let mut text = format!("{}\n\n", entry.code);
    wrapped(&mut text, "", entry.meaning, 2);
    text.push('\n');
    field(&mut text, "blame", entry.blame.word());
    field(&mut text, "phase", &format!("{} ({})", entry.phase.word(), phase_meaning(entry.phase)));
    field(&mut text, "client gets", &client_gets(entry));
    field(&mut text, "proxy-status", &proxy_status(entry));
    let width = entry.evidence.iter().map(|name| name.len()).max().unwrap_or(0);
    for (position, name) in entry.evidence.iter().enumerate() {
        let label = if position == 0 { "evidence" } else { "" };
        let label = format!("  {label:INDENT$}{name}");
        wrapped(&mut text, &label, evidence::meaning(name), INDENT + 2 + width + 2);
    }
    text.push('\n');
    wrapped(&mut text, "  what to do", entry.advice, INDENT + 2);
    text
}

/// `evenkeel explain`: one line for each cause.
pub fn all() -> String {
    let width = Cause::ALL.iter().map(|cause| cause.code().len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  {:8}  {:13}  status\n", "code", "blame", "phase");
    for cause in Cause::ALL {
        let entry = cause.entry();
        let status = entry.status.map_or_else(|| "-".to_string(), |status| status.to_string());
        let _ = writeln!(text, "{:width$}  {:8}  {:13}  {status}", entry.code, entry.blame.word(), entry.phase.word());
    }
    text.push_str("\nevenkeel explain CODE tells what to do about one of them\n");
    text
}

/// `evenkeel explain CODE --json`.
pub fn cause_json(cause: Cause) -> String {
    json(&Explained::from(cause))
}

/// `evenkeel explain --json`.
pub fn all_json() -> String {
    let all: Vec<Explained> = Cause::ALL.iter().map(|cause| Explained::from(*cause)).collect();
    json(&all)
}

/// The cause whose code was probably meant.
///
/// Case and hyphens are forgiven, then a few wrong letters, then a code of which only a part was
/// given, if no other has that part.
pub fn closest(code: &str) -> Option<Cause> {
    let wanted = code.trim().to_lowercase().replace(['-', ' '], "_");
    let distance = |cause: &Cause| strsim::damerau_levenshtein(&wanted, cause.code());
    let nearest = Cause::ALL.iter().copied().min_by_key(|cause| distance(cause))?;
    // A third of the letters wrong is no slip of the fingers any more.
    if distance(&nearest) * 3 <= nearest.code().len() {
        return Some(nearest);
    }
    let mut holders = Cause::ALL.iter().filter(|cause| wanted.len() >= 3 && cause.code().contains(&wanted));
    match (holders.next(), holders.next()) {
        (Some(only), None) => Some(*only),
        _ => None,
    }
}

/// The page of the manual about causes, in Markdown.
pub fn manual() -> String {
    let mut page = String::from(MANUAL_HEAD);
    page.push_str("| code | blame | phase | status | `Proxy-Status` error |\n|---|---|---|---|---|\n");
    for cause in Cause::ALL {
        let Entry { code, blame, phase, status, token, .. } = cause.entry();
        let status = status.map_or_else(|| "–".to_string(), |status| status.to_string());
        let token = token.map_or_else(|| "–".to_string(), |token| format!("`{token}`"));
        let _ = writeln!(page, "| [`{code}`](#{code}) | {} | {} | {status} | {token} |", blame.word(), phase.word());
    }
    for cause in Cause::ALL {
        let entry = cause.entry();
        let _ = write!(page, "\n## {}\n\n{}\n\n", entry.code, entry.meaning);
        let _ = writeln!(page, "- Blame: {}. Phase: {}.", entry.blame.word(), entry.phase.word());
        let _ = writeln!(page, "- The client gets: {}.", client_gets(entry));
        let _ = writeln!(page, "- Evidence: {}.", quoted_list(entry.evidence));
        let _ = writeln!(page, "- What to do: {}", entry.advice);
    }
    page.push_str("\n## Evidence fields\n\n| field | meaning |\n|---|---|\n");
    for (name, meaning) in evidence::FIELDS {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}

const MANUAL_HEAD: &str = "\
# Causes

<!-- Printed from the table in crates/model/src/cause.rs. To change it, change the table and run
     `UPDATE_GOLDEN=1 cargo test -p evenkeel-diagnose`. -->

Every answer, reset or cut that evenkeel itself makes has one of these causes. The same code is in the `Proxy-Status`
field of the answer (RFC 9209), in the access log (`cause`), in the labels of `/metrics`, in events, and in
`evenkeel explain CODE`. A 5xx without `error=` in `Proxy-Status` is the backend's own. Codes are stable: alert on them.

";

/// One cause as JSON shows it.
#[derive(Serialize, ToSchema)]
pub struct Explained {
    code: &'static str,
    blame: &'static str,
    phase: &'static str,
    status: Option<u16>,
    proxy_status_error: Option<&'static str>,
    client_gets: String,
    meaning: &'static str,
    evidence: Vec<ExplainedField>,
    advice: &'static str,
}

#[derive(Serialize, ToSchema)]
pub struct ExplainedField {
    field: &'static str,
    meaning: &'static str,
}

impl From<Cause> for Explained {
    fn from(cause: Cause) -> Self {
        let entry = cause.entry();
        let field = |field: &&'static str| ExplainedField { field, meaning: evidence::meaning(field) };
        Explained {
            code: entry.code,
            blame: entry.blame.word(),
            phase: entry.phase.word(),
            status: entry.status,
            proxy_status_error: entry.token,
            client_gets: client_gets(entry),
            meaning: entry.meaning,
            evidence: entry.evidence.iter().map(field).collect(),
            advice: entry.advice,
        }
    }
}

fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("texts and numbers always have a JSON form");
    text + "\n"
}

const fn phase_meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Accept => "the client's connection was just taken",
        Phase::Tls => "handshake with the client",
        Phase::RequestHead => "reading the request's head",
        Phase::RequestBody => "taking and passing on the request's body",
        Phase::Rule => "finding the rule for host and path",
        Phase::Pick => "choosing a backend",
        Phase::Queue => "waiting for a free backend connection",
        Phase::Connect => "connecting to the backend",
        Phase::BackendTls => "handshake with the backend",
        Phase::ResponseHead => "waiting for the backend's answer",
        Phase::ResponseBody => "passing on the backend's answer",
        Phase::Relay => "relaying both ways",
    }
}

fn client_gets(entry: &Entry) -> String {
    let happens_on_tcp = matches!(entry.phase, Phase::Accept | Phase::Pick | Phase::Queue | Phase::Connect);
    match (entry.status, entry.phase) {
        (Some(499), _) => "nothing, it has gone; 499 stands in the log".to_string(),
        (Some(status), _) if happens_on_tcp => format!("status {status}, or a reset on a tcp listener"),
        (Some(status), _) => format!("status {status}"),
        (None, Phase::Tls) => "an alert that ends the handshake".to_string(),
        (None, Phase::ResponseHead) => "the backend's own answer, unchanged".to_string(),
        (None, Phase::ResponseBody) => "a part of the answer, then a cut".to_string(),
        (None, Phase::Relay) => "what came so far, then a close or a reset".to_string(),
        (
            None,
            Phase::Accept
            | Phase::RequestHead
            | Phase::RequestBody
            | Phase::Rule
            | Phase::Pick
            | Phase::Queue
            | Phase::Connect
            | Phase::BackendTls,
        ) => "a reset".to_string(),
    }
}

fn proxy_status(entry: &Entry) -> String {
    match (entry.token, entry.status) {
        (Some(token), Some(_)) => format!("error={token}"),
        // The head was sent before the fault, or never will be.
        (Some(token), None) => format!("none sent; RFC 9209 calls it {token}"),
        (None, Some(_)) => "none sent; nobody is there to read it".to_string(),
        (None, None) if matches!(entry.phase, Phase::ResponseHead) => "received-status, without an error".to_string(),
        (None, None) => "none sent".to_string(),
    }
}

fn quoted_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A labelled value; further lines of it begin under the first.
fn field(text: &mut String, label: &str, value: &str) {
    wrapped(text, &format!("  {label}"), value, INDENT + 2);
}

/// `value` from column `indent` on, in lines of [`WIDTH`], behind `label`.
pub(crate) fn wrapped(text: &mut String, label: &str, value: &str, indent: usize) {
    let mut line = format!("{label:indent$}");
    let mut fresh = true;
    for word in value.split(' ') {
        if !fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_from_blame_to_advice() {
        let expected = "\
backend_closed_before_response

  The backend closed the connection in good order before it sent its whole response head.

  blame        backend
  phase        response_head (waiting for the backend's answer)
  client gets  status 502
  proxy-status error=connection_terminated
  evidence     backend   address of the backend that was tried last
               reused    whether the backend connection had served a request before
               idle_age  how long the reused backend connection had lain unused (`idle_ms` in
                         the log)
               attempts  each backend that was tried, how long it took and the cause of its
                         failure

  what to do   As for a reset: on a reused connection compare keep-alive timeouts; on a fresh
               one read the application's log. nginx's `return 444` looks like this too: a host
               or client that it wants nothing of.
";
        assert_eq!(cause(Cause::BackendClosedBeforeResponse), expected);
    }

    #[test]
    fn every_explanation_is_whole_and_fits_a_terminal() {
        for each in Cause::ALL {
            let (text, entry) = (cause(*each), each.entry());
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>().join(" ");
            let flat = words(&text);
            for part in [entry.code, entry.blame.word(), entry.phase.word(), entry.meaning, entry.advice] {
                assert!(flat.contains(&words(part)), "\"{part}\" is missing in:\n{text}");
            }
            for name in entry.evidence {
                assert!(flat.contains(&words(evidence::meaning(name))), "{name} is missing in:\n{text}");
            }
        }
    }

    #[test]
    fn the_list_has_a_line_for_every_cause() {
        let text = all();
        for cause in Cause::ALL {
            assert_eq!(text.lines().filter(|line| line.starts_with(&format!("{} ", cause.code()))).count(), 1);
        }
    }

    #[test]
    fn json_says_the_same_as_the_table() {
        let all: serde_json::Value = serde_json::from_str(&all_json()).unwrap();
        let all = all.as_array().unwrap();
        assert_eq!(all.len(), Cause::ALL.len());
        for (cause, value) in Cause::ALL.iter().zip(all) {
            let entry = cause.entry();
            assert_eq!(value["code"], entry.code);
            assert_eq!(value["status"].as_u64(), entry.status.map(u64::from));
            assert_eq!(value["proxy_status_error"].as_str(), entry.token);
            assert_eq!(value["advice"], entry.advice);
            assert_eq!(value["evidence"].as_array().unwrap().len(), entry.evidence.len());
            assert_eq!(*value, serde_json::from_str::<serde_json::Value>(&cause_json(*cause)).unwrap());
        }
    }

    #[test]
    fn a_misspelt_code_finds_the_one_that_was_meant() {
        let table = [
            ("backend_conect_refused", Some(Cause::BackendConnectRefused)),
            ("backend_connect_timout", Some(Cause::BackendConnectTimeout)),
            ("Backend-Connect-Timeout", Some(Cause::BackendConnectTimeout)),
            ("all_backend_unhealthy", Some(Cause::AllBackendsUnhealthy)),
            ("loop", Some(Cause::LoopDetected)),
            ("overloaded", Some(Cause::BalancerOverloaded)),
            ("backend", None), // many have it
            ("be", None),
            ("", None),
            ("segmentation_fault", None),
        ];
        for (code, expected) in table {
            assert_eq!(closest(code), expected, "\"{code}\"");
        }
    }

    #[test]
    fn a_cut_never_promises_a_status() {
        for cause in Cause::ALL {
            let promised = client_gets(cause.entry()).contains("status ");
            assert_eq!(promised, cause.entry().status.is_some_and(|status| status != 499), "{}", cause.code());
        }
    }
}
