//! A record out of a line of the access log, so that the story of a request can be told without its node.
//!
//! The line has less than the node had: not when the connection was taken, not what was known of the backend, and of each
//! try only when it began and how long it took. What is not there stays untold; a line that makes no sense gives nothing.

use std::io::BufRead;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::exchange::record::{Request, Rule};
use evenkeel_model::exchange::{Attempt, Datagrams, Detail, ExchangeId, Record, Reuse, Secured, Timer, Times};
use evenkeel_model::{Cause, Epoch, Instant};
use serde_json::Value;

/// What [`record`] counts its moments from: the log has dates.
pub const EPOCH: Epoch = Epoch { unix_nanos: 0 };

/// The record of the request `id`, from the last line of `log` that tells of it.
///
/// # Errors
/// When the log cannot be read.
pub fn find(log: impl BufRead, id: ExchangeId) -> std::io::Result<Option<Record>> {
    let wanted = format!("\"id\":\"{id}\"");
    let mut found = None;
    for line in log.split(b'\n') {
        let line = line?;
        if memchr::memmem::find(&line, wanted.as_bytes()).is_some() {
            found = record(&line).filter(|record| record.id == id).or(found);
        }
    }
    Ok(found)
}

/// The record of one line; `None` when it is no line of an access log.
pub fn record(line: &[u8]) -> Option<Record> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let started = Instant::from_nanos(unix_nanos(line["time"].as_str()?)?);
    let millis = |key: &str| line[key].as_f64().and_then(millis);
    let mark = |key: &str| millis(key).map(|after| started + after);
    let address = |value: &Value| value.as_str()?.parse::<SocketAddr>().ok();
    let bytes = |key: &str| Box::from(line[key].as_str().unwrap_or_default().as_bytes());
    let cause = line["cause"].as_str().and_then(Cause::from_code);
    let reuse = match line["reused"].as_bool() {
        Some(true) => Some(Reuse::Reused { idle: millis("idle_ms").unwrap_or_default() }),
        Some(false) => Some(Reuse::Fresh),
        None => None,
    };
    let detail = if let Some(timeout) = millis("timeout_ms") {
        Some(Detail::Timeout(timeout))
    } else if let Some(errno) = line["errno"].as_i64() {
        i32::try_from(errno).ok().map(Detail::Errno)
    } else if let Some(limit) = line["limit"].as_u64() {
        Some(Detail::Limit(limit))
    } else {
        line["detail"].as_str().map(|text| Detail::Text(lasting(text)))
    };
    let ended = started + millis("duration_ms")?;
    let times = Times {
        accepted: None,
        secured: None,
        started,
        head: mark("head_ms"),
        queued: mark("queued_ms"),
        dequeued: mark("dequeued_ms"),
        picked: mark("picked_ms"),
        connected: mark("connected_ms"),
        request_sent: mark("sent_ms"),
        first_byte: mark("first_byte_ms"),
        answered: mark("answered_ms"),
        ended,
    };
    let backend = address(&line["backend"]);
    let timer = line["timer"].as_str().and_then(Timer::from_key);
    let mut attempts: Box<[Attempt]> = match line["attempts"].as_array() {
        Some(attempts) => attempts.iter().filter_map(|attempt| tried(attempt, started)).collect(),
        // A single good try is left out of the line.
        None => backend
            .zip(times.picked)
            .map(|(backend, picked)| only(backend, picked, &times, reuse))
            .into_iter()
            .collect(),
    };
    // What the line says of its cause is what the last try met.
    if let Some(last) = attempts.last_mut().filter(|last| last.cause.is_some() && last.cause == cause) {
        (last.detail, last.timer) = (detail, timer);
    }
    let phase = line["phase"].as_str().and_then(|word| {
        // Every phase there is stands with some cause.
        Cause::ALL.iter().map(|cause| cause.entry().phase).find(|phase| phase.word() == word)
    });
    Some(Record {
        id: ExchangeId::from_hex(line["id"].as_str()?)?,
        listener: line["listener"].as_str()?.into(),
        pool: line["pool"].as_str().map(Into::into),
        client: address(&line["client"])?,
        backend,
        request: line["method"].is_string().then(|| Request {
            method: bytes("method"),
            host: bytes("host"),
            target: bytes("target"),
            version: lasting(line["version"].as_str().unwrap_or_default()),
            user_agent: bytes("user_agent"),
        }),
        sni: line["sni"].as_str().map(Into::into),
        tls: line["tls"].as_str().map(|version| Secured {
            version: lasting(version),
            suite: lasting(line["tls_suite"].as_str().unwrap_or_default()),
            resumed: line["tls_resumed"] == true,
        }),
        status: line["status"].as_u64().and_then(|status| u16::try_from(status).ok()),
        cause,
        phase: phase.filter(|_| cause.is_some()),
        detail: detail.filter(|_| cause.is_some()),
        bytes_in: line["bytes_in"].as_u64().unwrap_or(0),
        bytes_out: line["bytes_out"].as_u64().unwrap_or(0),
        datagrams: line["datagrams_in"]
            .as_u64()
            .map(|received| Datagrams { received, sent: line["datagrams_out"].as_u64().unwrap_or(0) }),
        times,
        attempts,
        reuse,
        client_requests: line["client_requests"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        rule: line["rule"].as_str().map(|name| Rule { position: None, name: name.into() }),
        timer,
        then: None,
        trace: None,
    })
}

fn tried(attempt: &Value, started: Instant) -> Option<Attempt> {
    let backend = attempt["backend"].as_str()?.parse().ok()?;
    let at = started + attempt["at_ms"].as_f64().and_then(millis).unwrap_or_default();
    let took = attempt["ms"].as_f64().and_then(millis)?;
    let cause = attempt["cause"].as_str().and_then(Cause::from_code);
    // Where it got before it failed follows from how it failed.
    let connected = cause.is_none_or(|cause| {
        use evenkeel_model::Phase::{BackendTls, Connect};
        !matches!(cause.entry().phase, Connect | BackendTls)
    });
    Some(Attempt { cause, connected: connected.then_some(at), ..Attempt::new(backend, at, at + took) })
}

fn only(backend: SocketAddr, picked: Instant, times: &Times, reuse: Option<Reuse>) -> Attempt {
    Attempt {
        connected: times.connected,
        sent: times.request_sent,
        first_byte: times.first_byte,
        reuse,
        ..Attempt::new(backend, picked, times.first_byte.unwrap_or(times.ended))
    }
}

/// Of a number that may be anything.
fn millis(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number / 1000.0).ok()
}

/// The log's own words, which the command shows once before it ends.
fn lasting(text: &str) -> &'static str {
    text.to_owned().leak()
}

/// Of `2026-11-22T17:31:36.000000Z`.
fn unix_nanos(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..2554).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 || fraction.len() > 9 {
        return None;
    }
    // Days from the civil date, as Howard Hinnant counts them: years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    let seconds = u64::try_from(days).ok()? * 86_400 + hour * 3600 + minute * 60 + second;
    let fraction = format!("{fraction:0<9}").parse::<u64>().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_observe::write_line;

    const LINE: &str = concat!(
        r#"{"time":"2026-11-22T17:31:36.000250Z","id":"0000000000000abc0000000000000007","listener":"web","#,
        r#""client":"192.0.2.1:5000","method":"GET","host":"example.com","target":"/a?b=\"","version":"HTTP/1.1","#,
        r#""status":504,"bytes_in":120,"bytes_out":300,"duration_ms":60001.000,"pool":"shop","backend":"10.0.0.2:80","#,
        r#""reused":true,"idle_ms":1500.000,"head_ms":0.000,"picked_ms":0.125,"client_requests":2,"#,
        r#""cause":"backend_response_timeout","#,
        r#""blame":"backend","phase":"response_head","timeout_ms":60000.000,"timer":"listener.rule.response_timeout","#,
        r#""rule":"api","#,
        r#""attempts":[{"backend":"10.0.0.1:80","at_ms":0.125,"ms":0.250,"cause":"backend_connect_refused"},"#,
        r#"{"backend":"10.0.0.2:80","at_ms":1.000,"ms":60000.000,"cause":"backend_response_timeout"}]}"#,
        "\n"
    );

    #[test]
    fn a_line_that_is_read_and_written_again_is_the_same_line() {
        let record = record(LINE.as_bytes()).expect("a good line");
        let mut again = Vec::new();
        write_line(&record.outcome(), EPOCH, &mut again);
        assert_eq!(String::from_utf8(again).expect("UTF-8"), LINE);
    }

    #[test]
    fn the_last_line_of_an_id_is_found_among_others_and_among_garbage() {
        let other = LINE.replace("000007\"", "000008\"");
        let later = LINE.replace("504", "502");
        let log = format!("{other}garbage \"id\":\"0000000000000abc0000000000000007\"\n{LINE}\n{later}{other}");
        let id = ExchangeId { process: 0xabc, sequence: 7 };
        let found = find(log.as_bytes(), id).expect("it can be read").expect("it is there");
        assert_eq!((found.id, found.status), (id, Some(502)));
        let absent = find(log.as_bytes(), ExchangeId { process: 1, sequence: 7 }).expect("it can be read");
        assert_eq!(absent, None);
    }

    #[test]
    fn whatever_a_log_holds_it_is_read_or_left() {
        for cut in 0..LINE.len() - 2 {
            assert_eq!(record(&LINE.as_bytes()[..cut]), None);
        }
        for (from, to) in [
            ("60001.000", "-1"),
            ("60001.000", "1e300"),
            ("2026-11", "2026-13"),
            ("192.0.2.1:5000", "nobody"),
            ("0000000000000abc", "x"),
        ] {
            assert_eq!(record(LINE.replace(from, to).as_bytes()), None, "{to}");
        }
        // What is not understood is left out.
        let strange = LINE
            .replace("backend_response_timeout", "no_such_cause")
            .replace("\"timeout_ms\":60000.000", "\"timeout_ms\":null");
        let record = record(strange.as_bytes()).expect("the rest of the line is good");
        assert_eq!((record.cause, record.detail), (None, None));
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 951_868_799, 1_795_368_696, 4_102_444_800] {
            let epoch = Epoch { unix_nanos: seconds * 1_000_000_000 };
            let text = epoch.rfc3339(Instant::START);
            assert_eq!(unix_nanos(&text), Some(epoch.unix_nanos), "{text}");
        }
        for strange in
            ["", "2026-11-22", "2026-11-22T25:00:00Z", "2026-11-22T17:31Z", "x-y-zT1:2:3Z", "2026-00-01T00:00:00Z"]
        {
            assert_eq!(unix_nanos(strange), None, "{strange}");
        }
    }
}
