//! What the demo claims, and whether the record bears it out.
//!
//! A pure function from record to claims. A claim that cannot be true of an empty record does not pass by
//! having nothing to look at: where it speaks of all, it also wants some.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_model::Cause;

use super::record::{Answer, Change, Mode, Record};
use super::{BACKENDS, TOLERANCE};

pub struct Claim {
    pub text: &'static str,
    /// What bears it out, or what broke it.
    pub outcome: Result<String, String>,
}

/// All claims, in the order they are shown.
pub fn examine(record: &Record) -> Vec<Claim> {
    let claims: [(&'static str, Check); 11] = [
        ("every fault and every return led to its verdict", verdicts_came),
        ("nothing else changed a verdict", no_strays),
        ("every detection lies within its computed bounds", |record| within_bounds(record, true)),
        ("every recovery lies within its computed bounds", |record| within_bounds(record, false)),
        ("no request failed outside a fault's window", none_outside),
        ("every failure has the cause and the blame of its fault", causes_fit),
        ("killing a backend cost no request", |record| free_of_charge(record, Mode::Killed)),
        ("failing the health page cost no request", |record| free_of_charge(record, Mode::HealthFails)),
        ("an unhealthy backend got no new request", no_new_work),
        ("a backend that came back was given requests again", work_again),
        ("the node counted the failures that the client saw", counted_alike),
    ];
    let mut examined: Vec<Claim> =
        claims.into_iter().map(|(text, check)| Claim { text, outcome: check(record) }).collect();
    examined.push(Claim { text: "the client was served all the time", outcome: served_throughout(record) });
    examined
}

type Check = fn(&Record) -> Result<String, String>;

fn verdicts_came(record: &Record) -> Result<String, String> {
    let mut came = 0;
    for change in &record.changes {
        let ruling = change.ruling.as_ref().ok_or_else(|| format!("{}: no verdict came", what(change)))?;
        let needed =
            if change.is_fault() { record.timing.unhealthy_threshold } else { record.timing.healthy_threshold };
        if ruling.to != change.expected_verdict() || ruling.probes != needed {
            let (word, probes) = (ruling.to.word(), ruling.probes);
            return Err(format!("{}: {word} after {probes} probes in a row, not {needed}", what(change)));
        }
        came += 1;
    }
    some(came, "nothing was done")?;
    Ok(format!("{came} verdicts, each after the configured run of probes"))
}

fn no_strays(record: &Record) -> Result<String, String> {
    match record.strays.first() {
        Some(stray) => Err(stray.clone()),
        None => Ok("all other backends kept theirs".to_owned()),
    }
}

fn within_bounds(record: &Record, faults: bool) -> Result<String, String> {
    let mut seen = 0;
    let mut used = Duration::ZERO;
    let mut beyond_scheduling = Duration::ZERO;
    for change in record.changes.iter().filter(|change| change.is_fault() == faults) {
        let Some(observed) = change.observed() else { return Err(format!("{}: no verdict came", what(change))) };
        let (bounds, allowance) = (change.bounds(&record.timing), change.allowance(&record.timing));
        if observed + TOLERANCE < bounds.best || observed > bounds.worst + allowance {
            return Err(format!(
                "{}: {} is not within {} to {}, with {} allowed above it",
                what(change),
                seconds(observed),
                seconds(bounds.best),
                seconds(bounds.worst),
                seconds(allowance),
            ));
        }
        used = used.max(observed.saturating_sub(bounds.worst)).max(bounds.best.saturating_sub(observed));
        beyond_scheduling = beyond_scheduling.max(allowance - TOLERANCE);
        seen += 1;
    }
    some(seen, "nothing was done")?;
    let (used, tolerance) = (millis(used), millis(TOLERANCE));
    if beyond_scheduling.is_zero() {
        return Ok(format!("{seen} of {seen}; used {used} of the {tolerance} tolerance"));
    }
    let allowed = millis(TOLERANCE + beyond_scheduling);
    Ok(format!(
        "{seen} of {seen}; used {used} of at most {allowed}: {tolerance} tolerance, the rest standstills and void probes"
    ))
}

fn none_outside(record: &Record) -> Result<String, String> {
    let mut inside = 0;
    // Of the failing requests, how close to the verdict the last one was sent.
    let mut margin: Option<(bool, Duration)> = None;
    for failure in record.failures() {
        let Some(fault) = record.changes.iter().find(|change| change.touches(failure)) else {
            let since = record.samples.first().map_or(failure.started, |first| first.started);
            return Err(format!("{}, sent {} into the story", told(&failure.answer), seconds(failure.started - since)));
        };
        inside += 1;
        if let Some(ruling) = &fault.ruling {
            let after = failure.started > ruling.at;
            let by = if after { failure.started - ruling.at } else { ruling.at - failure.started };
            margin = Some(match margin {
                Some((true, worst)) if !after || worst > by => (true, worst),
                Some((false, least)) if !after && least < by => (false, least),
                _ => (after, by),
            });
        }
    }
    some(record.samples.len(), "nothing was sent")?;
    Ok(match margin {
        None => format!("{} served, none failed", record.samples.len()),
        Some((true, by)) => {
            format!("{inside} failed; the last was sent {} after the verdict, while it spread", millis(by))
        }
        Some((false, by)) => format!("{inside} failed; the last was sent {} before the verdict", millis(by)),
    })
}

fn causes_fit(record: &Record) -> Result<String, String> {
    let mut by_cause: BTreeMap<Cause, u64> = BTreeMap::new();
    for failure in record.failures() {
        let Some(cause) = failure.answer.cause() else {
            return Err(format!("{}: not on the closed list", told(&failure.answer)));
        };
        let expected = record.changes.iter().filter(|change| change.touches(failure));
        if !expected.clone().any(|change| change.to.expected_cause() == Some(cause)) {
            let during = expected.map(what).next().unwrap_or_else(|| "no fault".to_owned());
            return Err(format!("{} during: {during}", told(&failure.answer)));
        }
        *by_cause.entry(cause).or_default() += 1;
    }
    // A hanging backend must cost something, or we have been looking at something else.
    if record.changes.iter().any(|change| change.to == Mode::Hangs) && by_cause.is_empty() {
        return Err("a backend hung and no request failed".to_owned());
    }
    let each = by_cause
        .iter()
        .map(|(cause, count)| format!("{count} {} (blame: {})", cause.code(), cause.entry().blame.word()));
    Ok(each.collect::<Vec<_>>().join(", "))
}

fn free_of_charge(record: &Record, mode: Mode) -> Result<String, String> {
    let mut sent = 0;
    for fault in record.changes.iter().filter(|change| change.to == mode) {
        if let Some(failure) = record.failures_in(fault).next() {
            let count = record.failures_in(fault).count();
            return Err(format!("{count} failed, first: {}", told(&failure.answer)));
        }
        sent += record.samples.iter().filter(|sample| fault.touches(sample)).count();
    }
    some(sent, "nothing was sent in its window")?;
    Ok(format!("{sent} sent in its window, all served"))
}

/// Each fault with the return that ends it.
fn faults(record: &Record) -> impl Iterator<Item = (&Change, Option<&Change>)> {
    record.changes.iter().enumerate().filter(|(_, change)| change.is_fault()).map(|(position, fault)| {
        let back = record.changes[position + 1..].iter().find(|change| change.backend == fault.backend);
        (fault, back)
    })
}

fn no_new_work(record: &Record) -> Result<String, String> {
    for (fault, back) in faults(record) {
        let until = back.and_then(|back| back.ruling.as_ref()).map(|ruling| ruling.at);
        let by_it = record.samples.iter().filter(|sample| sample.answer == Answer::Served { backend: fault.backend });
        let early = by_it
            .filter(|sample| sample.started > fault.window_end() && until.is_none_or(|until| sample.ended < until));
        let count = early.count();
        if count > 0 {
            return Err(format!("{}: {count} answers between its verdicts", what(fault)));
        }
    }
    some(record.changes.len(), "nothing was done")?;
    Ok("no answer between its two verdicts came from it".to_owned())
}

fn work_again(record: &Record) -> Result<String, String> {
    let mut least = usize::MAX;
    for change in record.changes.iter().filter(|change| !change.is_fault()) {
        let Some(ruling) = &change.ruling else { return Err(format!("{}: no verdict came", what(change))) };
        let answer = Answer::Served { backend: change.backend };
        let count =
            record.samples.iter().filter(|sample| sample.started >= ruling.at && sample.answer == answer).count();
        if count == 0 {
            return Err(format!("{}: none", what(change)));
        }
        least = least.min(count);
    }
    if least == usize::MAX {
        return Err("nothing came back".to_owned());
    }
    Ok(format!("at least {least} each"))
}

fn counted_alike(record: &Record) -> Result<String, String> {
    let mut total = 0;
    for &cause in Cause::ALL {
        let seen = record.failures().filter(|failure| failure.answer.cause() == Some(cause)).count() as u64;
        let counted = record.counted.iter().find(|(of, _)| *of == cause).map_or(0, |(_, count)| *count);
        // The node may have counted more: whoever tries the URLs is a client too.
        if seen > counted {
            return Err(format!("{seen} {}, of which it counted {counted}", cause.code()));
        }
        total += seen;
    }
    Ok(format!("all {total} of them, by the same causes"))
}

fn served_throughout(record: &Record) -> Result<String, String> {
    let mut served: Vec<_> =
        record.samples.iter().filter(|sample| !sample.answer.is_failure()).map(|sample| sample.ended).collect();
    served.sort_unstable();
    some(served.len(), "nothing was served")?;
    let pause = served.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let allowed = TOLERANCE + record.stalled;
    if pause > allowed {
        return Err(format!("for {} nothing was served; allowed: {}", millis(pause), millis(allowed)));
    }
    Ok(format!("longest time between two answers: {}", millis(pause)))
}

fn some(count: usize, otherwise: &str) -> Result<(), String> {
    if count == 0 { Err(otherwise.to_owned()) } else { Ok(()) }
}

/// `a killed`, `b back`.
pub fn what(change: &Change) -> String {
    let name = BACKENDS[change.backend];
    match change.to {
        Mode::Works => format!("{name} back"),
        Mode::Killed => format!("{name} killed"),
        Mode::Hangs => format!("{name} hangs"),
        Mode::HealthFails => format!("{name} health page 500"),
    }
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Served { backend } => format!("served by {}", BACKENDS[*backend]),
        Answer::Failed { status, code: Some(code) } => format!("status {status} {code}"),
        Answer::Failed { status, code: None } => format!("status {status} without a cause"),
        Answer::Broken { why } => format!("no answer ({why})"),
    }
}

pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

pub fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::record::{Ruling, Sample};
    use evenkeel_health::settings::Timing;
    use evenkeel_model::Instant;
    use evenkeel_model::standing::Verdict;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    fn sample(started: u64, took: u64, answer: Answer) -> Sample {
        Sample { started: at(started), ended: at(started + took), answer }
    }

    fn failed(code: &str) -> Answer {
        Answer::Failed { status: 504, code: Some(code.to_owned()) }
    }

    fn change(backend: usize, from: Mode, to: Mode, ordered: u64, verdict: u64) -> Change {
        let word = if to == Mode::Works { Verdict::Healthy } else { Verdict::Unhealthy };
        let ruling = Ruling { at: at(verdict), to: word, probes: 3, voids: 0, stalled: Duration::ZERO };
        Change { backend, from, to, ordered: at(ordered), ruling: Some(ruling) }
    }

    /// A story that went as promised: requests every 10 ms by the backends that may serve.
    fn good() -> Record {
        let second = Duration::from_secs(1);
        let timing = Timing::new(second, second / 2, 3, 3);
        let mut record = Record::new(timing);
        record.changes = vec![
            change(0, Mode::Works, Mode::Killed, 1000, 2200),
            change(0, Mode::Killed, Mode::Works, 4000, 5300),
            change(1, Mode::Works, Mode::Hangs, 7000, 11_250),
            change(1, Mode::Hangs, Mode::Works, 13_000, 14_700),
            change(2, Mode::Works, Mode::HealthFails, 17_000, 18_400),
            change(2, Mode::HealthFails, Mode::Works, 20_000, 21_100),
        ];
        let out = [(0, 1000, 5310), (1, 7000, 14_710), (2, 18_400, 21_110)];
        for (turn, started) in (0..24_000).step_by(10).enumerate() {
            let mut backend = turn % 3;
            while out.iter().any(|&(of, from, to)| of == backend && (from..to).contains(&started)) {
                backend = (backend + 1) % 3;
            }
            record.samples.push(sample(started, 1, Answer::Served { backend }));
            if (7000..11_250).contains(&started) && started % 50 == 0 {
                record.samples.push(sample(started, 1500, failed("backend_response_timeout")));
            }
        }
        record.counted = vec![(Cause::BackendResponseTimeout, 85)];
        record
    }

    /// Texts of the claims that a record breaks.
    fn broken(record: &Record) -> Vec<String> {
        let broken = examine(record).into_iter().filter_map(|claim| claim.outcome.err().map(|why| (claim.text, why)));
        broken.map(|(text, why)| format!("{text}: {why}")).collect()
    }

    fn breaks(record: &Record, claims: &[&str]) {
        let broken = broken(record);
        assert_eq!(broken.len(), claims.len(), "{broken:?}");
        for (broken, claim) in broken.iter().zip(claims) {
            assert!(broken.contains(claim), "{broken:?} should be about {claim:?}");
        }
    }

    #[test]
    fn a_story_that_went_as_promised_holds_every_claim() {
        breaks(&good(), &[]);
    }

    #[test]
    fn an_empty_record_proves_nothing() {
        let record = Record::new(good().timing);
        assert!(broken(&record).len() >= 7, "{:?}", broken(&record));
    }

    #[test]
    fn a_verdict_that_never_came_is_told() {
        let mut record = good();
        record.changes[5].ruling = None;
        record.samples.retain(|sample| sample.started < at(21_110) || sample.answer != Answer::Served { backend: 2 });
        breaks(&record, &["led to its verdict: c back: no verdict", "every recovery", "given requests again"]);
    }

    #[test]
    fn a_verdict_after_too_few_probes_is_told() {
        let mut record = good();
        record.changes[0].ruling.as_mut().expect("given").probes = 2;
        breaks(&record, &["a killed: unhealthy after 2 probes"]);
    }

    #[test]
    fn a_verdict_nobody_ordered_is_told() {
        let mut record = good();
        record.strays.push("backend b unhealthy".to_owned());
        breaks(&record, &["nothing else changed a verdict: backend b unhealthy"]);
    }

    #[test]
    fn detection_may_be_late_by_the_tolerance_and_no_more() {
        let mut record = good();
        let killed = &mut record.changes[0];
        let limit = killed.bounds(&record.timing).worst + TOLERANCE;
        killed.ruling.as_mut().expect("given").at = killed.ordered + limit;
        breaks(&record, &[]);
        record.changes[0].ruling.as_mut().expect("given").at += Duration::from_nanos(1);
        breaks(&record, &["every detection lies within its computed bounds: a killed: 1.76 s is not within"]);
    }

    #[test]
    fn detection_before_the_best_case_is_as_wrong_as_after_the_worst() {
        let mut record = good();
        record.changes[2].ruling.as_mut().expect("given").at = at(7000 + 3990 - 251);
        let broken = broken(&record);
        assert!(broken.iter().any(|text| text.contains("b hangs: 3.74 s is not within")), "{broken:?}");
    }

    #[test]
    fn void_probes_and_standstills_lengthen_what_is_allowed_and_are_named() {
        let mut record = good();
        let late = 13_000 + 2530 + 1500 + 250;
        record.changes[3].ruling.as_mut().expect("given").at = at(late);
        let early = |sample: &Sample| (at(13_000)..at(late)).contains(&sample.started);
        record.samples.retain(|sample| !early(sample) || sample.answer != Answer::Served { backend: 1 });
        breaks(&record, &["every recovery lies within its computed bounds: b back"]);
        record.changes[3].ruling.as_mut().expect("given").voids = 1;
        breaks(&record, &[]);
        let claims = examine(&record);
        let recovery = claims.iter().find(|claim| claim.text.contains("recovery")).expect("a claim");
        let borne_out = recovery.outcome.as_ref().expect("it held");
        assert!(borne_out.contains("of at most 1750 ms: 250 ms tolerance, the rest"), "{borne_out}");
    }

    #[test]
    fn a_failure_between_two_windows_is_told_with_its_moment() {
        let mut record = good();
        record.samples.push(sample(6000, 5, failed("backend_response_timeout")));
        record.counted[0].1 += 1;
        breaks(
            &record,
            &[
                "no request failed outside a fault's window: status 504 backend_response_timeout, sent 6.00 s",
                "no fault",
            ],
        );
    }

    #[test]
    fn a_failure_sent_after_the_verdict_is_outside() {
        let mut record = good();
        record.samples.push(sample(11_250 + 250, 1500, failed("backend_response_timeout")));
        record.counted[0].1 += 1;
        breaks(&record, &[]);
        record.samples.push(sample(11_250 + 251, 1500, failed("backend_response_timeout")));
        record.counted[0].1 += 1;
        breaks(&record, &["outside a fault's window", "no fault"]);
    }

    #[test]
    fn a_failure_without_a_cause_is_told() {
        let mut record = good();
        record.samples.push(sample(8000, 5, Answer::Failed { status: 500, code: None }));
        record.samples.push(sample(8000, 5, Answer::Broken { why: "reset".to_owned() }));
        breaks(&record, &["status 500 without a cause: not on the closed list"]);
        record.samples.retain(|sample| !matches!(sample.answer, Answer::Failed { code: None, .. }));
        breaks(&record, &["no answer (reset): not on the closed list"]);
    }

    #[test]
    fn a_cause_that_is_not_the_faults_is_told() {
        let mut record = good();
        record.samples.push(sample(8000, 5, failed("balancer_internal")));
        record.counted.push((Cause::BalancerInternal, 1));
        breaks(&record, &["balancer_internal during: b hangs"]);
    }

    #[test]
    fn one_request_lost_to_a_killed_backend_is_too_many() {
        let mut record = good();
        record.samples.push(sample(1500, 5, failed("backend_connect_refused")));
        record.counted.push((Cause::BackendConnectRefused, 1));
        breaks(&record, &["backend_connect_refused during: a killed", "killing a backend cost no request: 1 failed"]);
    }

    #[test]
    fn one_request_lost_to_a_failing_health_page_is_too_many() {
        let mut record = good();
        record.samples.push(sample(17_500, 5, failed("backend_response_timeout")));
        record.counted[0].1 += 1;
        breaks(&record, &["during: c health page 500", "failing the health page cost no request: 1 failed"]);
    }

    #[test]
    fn an_answer_from_an_unhealthy_backend_is_told() {
        let mut record = good();
        record.samples.push(sample(19_500, 1, Answer::Served { backend: 2 }));
        breaks(&record, &["an unhealthy backend got no new request: c health page 500: 1 answers"]);
    }

    #[test]
    fn a_backend_that_is_forgotten_after_its_return_is_told() {
        let mut record = good();
        record.samples.retain(|sample| sample.started < at(21_100) || sample.answer != Answer::Served { backend: 2 });
        breaks(&record, &["given requests again: c back: none"]);
    }

    #[test]
    fn failures_that_the_node_did_not_count_are_told() {
        let mut record = good();
        record.counted[0].1 = 84;
        breaks(&record, &["85 backend_response_timeout, of which it counted 84"]);
        record.counted[0].1 = 90;
        breaks(&record, &[]);
    }

    #[test]
    fn a_hang_that_cost_nothing_means_that_we_looked_at_something_else() {
        let mut record = good();
        record.samples.retain(|sample| !sample.answer.is_failure());
        breaks(&record, &["a backend hung and no request failed"]);
    }

    #[test]
    fn a_pause_in_serving_is_told_unless_the_machine_stood_still() {
        let mut record = good();
        record.samples.retain(|sample| !(at(3000)..at(3400)).contains(&sample.started));
        breaks(&record, &["the client was served all the time: for 410 ms"]);
        record.stalled = Duration::from_millis(160);
        breaks(&record, &[]);
    }
}
