//! What the running node says of itself, by its admin API.
//!
//! Over TCP or a unix socket, with a token where one is given. It only reads. An answer that lacks a field is an older or
//! newer node's; what it lacks stays unknown.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_diagnose::doctor::facts::{CheckStanding, Finding, Standing, Told};
use serde_json::Value;

use super::super::node::reachable;
use evenkeel_diagnose::timeline::shown as escaped;

const PATIENCE: Duration = Duration::from_secs(3);
const PATIENCE_IN_ALL: Duration = Duration::from_secs(15);
/// Largest document: 100,000 checks with ten findings each are less.
const SIZE_MAX: u64 = 1 << 28;
const EVENTS_MAX: usize = 30;

/// Where a node may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Address(address) => write!(f, "{address}"),
            Place::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

pub struct Admin {
    pub place: Place,
    pub token: Option<String>,
}

impl Admin {
    /// A document, or why there is none.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let words = |error: std::io::Error| error.to_string();
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n{token}\r\n");
        let answer = match &self.place {
            Place::Address(address) => {
                let stream = TcpStream::connect_timeout(&reachable(*address), PATIENCE).map_err(words)?;
                stream
                    .set_read_timeout(Some(PATIENCE))
                    .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                    .map_err(words)?;
                exchange(stream, &request)?
            }
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).map_err(words)?;
                stream
                    .set_read_timeout(Some(PATIENCE))
                    .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                    .map_err(words)?;
                exchange(stream, &request)?
            }
        };
        document(&answer)
    }

    /// Whether a node there is this host's.
    pub fn is_here(&self, own: &[std::net::IpAddr]) -> bool {
        match &self.place {
            Place::Socket(_) => true,
            Place::Address(address) => {
                let ip = reachable(*address).ip();
                ip.is_loopback() || own.contains(&ip)
            }
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Result<Vec<u8>, String> {
    let words = |error: std::io::Error| error.to_string();
    stream.write_all(request.as_bytes()).map_err(words)?;
    let until = Instant::now() + PATIENCE_IN_ALL;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match stream.read(&mut piece).map_err(words)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&piece[..read]),
        }
        if answer.len() as u64 > SIZE_MAX || Instant::now() > until {
            return Err("the answer does not end".to_owned());
        }
    }
}

fn document(answer: &[u8]) -> Result<Value, String> {
    let strange = || "what answers there is no evenkeel node".to_owned();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(strange)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| strange())?;
    let status =
        head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)).ok_or_else(strange)?;
    match status {
        "200" => serde_json::from_slice(&answer[end + 4..]).map_err(|_| strange()),
        "401" => Err("it wants a token: --token-file FILE".to_owned()),
        "403" => Err("the token does not allow it".to_owned()),
        other => {
            // An error of the API says what is wrong.
            let problem: Option<Value> = serde_json::from_slice(&answer[end + 4..]).ok();
            let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
            Err(detail.map_or_else(|| format!("it answers {other}"), |detail| escaped(detail.as_bytes())))
        }
    }
}

pub fn told(status: &Value, causes: Option<&Value>, listener: Option<&str>, place: &Place, is_here: bool) -> Told {
    let events = status["events"].as_array().into_iter().flatten().take(EVENTS_MAX);
    Told {
        place: place.to_string(),
        version: text(&status["version"]),
        time: status["time"].as_str().and_then(unix),
        started: text(&status["started"]),
        generation: status["generation"].as_u64().unwrap_or(0),
        suspects_itself_since: status["suspects_itself_since"].as_str().map(str::to_owned),
        probe_lateness_p99_ms: status["probing"]["lateness"]["p99_ms"].as_f64().unwrap_or(0.0),
        is_here,
        config_differs: status["config"]["same"] == false,
        events: events.map(|event| (text(&event["time"]), text(&event["text"]))).collect(),
        causes: causes.map(|causes| counted(causes, listener)).unwrap_or_default(),
    }
}

/// Failures so far by cause, of one listener where the document tells them apart.
fn counted(causes: &Value, listener: Option<&str>) -> Vec<(String, u64)> {
    let all = causes["causes"].as_array().into_iter().flatten();
    all.filter_map(|cause| {
        let by = cause["by"].as_array();
        let of_listener = |by: &Vec<Value>| {
            by.iter()
                .filter(|part| listener.is_none_or(|name| part["listener"] == name))
                .filter_map(|part| part["total"].as_u64())
                .sum()
        };
        let count = by.map_or_else(|| cause["total"].as_u64().unwrap_or(0), of_listener);
        Some((cause["code"].as_str()?.to_owned(), count))
    })
    .collect()
}

/// The entry of a pool.
pub fn pool<'v>(status: &'v Value, name: &str) -> Option<&'v Value> {
    status["pools"].as_array()?.iter().find(|pool| pool["name"] == name)
}

pub fn backends(pool: &Value) -> Vec<(SocketAddr, Standing)> {
    let all = pool["backends"].as_array().into_iter().flatten();
    all.filter_map(|backend| Some((backend["address"].as_str()?.parse().ok()?, standing(backend)))).collect()
}

fn standing(backend: &Value) -> Standing {
    let number = |name: &str| backend[name].as_u64().unwrap_or(0);
    Standing {
        verdict: text(&backend["verdict"]),
        since: text(&backend["since"]),
        order: text(&backend["order"]),
        ejected_until: backend["ejected_until"].as_str().map(str::to_owned),
        weight: number("weight"),
        effective_weight: number("effective_weight"),
        in_flight: number("in_flight"),
        checks: backend["checks"].as_array().into_iter().flatten().map(check).collect(),
    }
}

fn check(check: &Value) -> CheckStanding {
    let recent = check["recent"].as_array().into_iter().flatten().map(|finding| Finding {
        started: text(&finding["started"]),
        result: text(&finding["result"]),
        phase: finding["phase"].as_str().map(str::to_owned),
        reason: finding["reason"].as_str().map(str::to_owned),
        status: finding["status"].as_u64().and_then(|status| u16::try_from(status).ok()),
        text: text(&finding["text"]),
    });
    CheckStanding { name: text(&check["name"]), verdict: text(&check["verdict"]), recent: recent.collect() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Seconds since 1970 of a time as the node writes it: `2026-11-22T17:31:36.000000Z`.
pub fn unix(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-03-01 of years that begin in March, so that leap days are the last of theirs.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_node_are_read_to_the_second() {
        let table = [
            ("1970-01-01T00:00:00.000000Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2026-11-22T17:31:36.5Z", Some(1_795_368_696)),
            ("yesterday", None),
            ("", None),
        ];
        for (time, expected) in table {
            assert_eq!(unix(time), expected, "{time}");
        }
    }

    #[test]
    fn what_is_no_node_is_told_from_one_that_wants_a_token() {
        assert_eq!(document(b"HTTP/1.0 200 OK\r\n\r\n{\"a\":1}").map(|value| value["a"].clone()), Ok(1.into()));
        assert!(document(b"HTTP/1.0 401 Unauthorized\r\n\r\n").is_err_and(|why| why.contains("--token-file")));
        for strange in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello", b"\xff\r\n\r\n"] {
            assert!(document(strange).is_err_and(|why| why.contains("no evenkeel node")));
        }
    }
}
