//! The steps of a record, in the order in which they happened.
//!
//! Each phase that was reached has one step, each try at a backend its own pick, connect, request and first byte. What
//! struck stands at the step where it struck; where no step of that phase came about, one is made for it.

use evenkeel_model::exchange::{Attempt, Detail, Record, Reuse};
use evenkeel_model::{Cause, Instant, Phase};

use super::words::{shown, span};
use super::{Step, step_of};

pub(super) fn of(record: &Record) -> Vec<Step> {
    let mut telling = Telling { record, steps: Vec::new() };
    telling.arrival();
    telling.head();
    telling.queue();
    for (number, attempt) in record.attempts.iter().enumerate() {
        telling.attempt(number, attempt);
    }
    if record.attempts.is_empty() {
        telling.unfinished();
    }
    telling.body();
    telling.fault();
    // Told by subject; what was queued for, or asked beside a first try, belongs between.
    telling.steps.sort_by_key(|(at, _)| *at);
    telling.steps.into_iter().map(|(_, step)| step).collect()
}

struct Telling<'a> {
    record: &'a Record,
    steps: Vec<(Instant, Step)>,
}

impl Telling<'_> {
    fn tell(&mut self, phase: &'static str, at: Instant, until: Option<Instant>, what: String) -> &mut Step {
        let started = self.record.times.started;
        let millis = |from: Instant, to: Instant| (to - from).as_micros() as f64 / 1000.0;
        let at_ms = if at < started { -millis(at, started) } else { millis(started, at) };
        let took_ms = until.map(|until| millis(at, until));
        self.steps.push((at, Step { phase: phase.to_owned(), at_ms, took_ms, what, evidence: None, cause: None }));
        let (_, step) = self.steps.last_mut().expect("one was just pushed");
        step
    }

    fn arrival(&mut self) {
        let record = self.record;
        let times = &record.times;
        let accepted = times.accepted.unwrap_or(times.started);
        let what = if record.datagrams.is_some() {
            format!("{} spoke to listener \"{}\"", record.client, record.listener)
        } else {
            format!("{} connected to listener \"{}\"", record.client, record.listener)
        };
        let served = record.client_requests;
        let step = self.tell("accept", accepted, None, what);
        if served > 0 {
            step.evidence = Some(format!("{served} requests were served before on this connection"));
        }
        if let (Some(tls), true) = (record.tls, times.secured.is_none_or(|secured| secured <= times.ended)) {
            let resumed = if tls.resumed { ", resumed" } else { "" };
            let what = format!("TLS {} {}{resumed}", tls.version, tls.suite);
            let from = if times.secured.is_some() { accepted } else { times.started };
            self.tell("tls", from, times.secured, what);
        }
    }

    fn head(&mut self) {
        let record = self.record;
        let times = &record.times;
        let Some(head) = times.head else { return };
        let what = match &record.request {
            Some(request) => format!(
                "{} {}{} {}",
                shown(&request.method),
                shown(&request.host),
                shown(&request.target),
                request.version
            ),
            None => match &record.sni {
                Some(sni) => format!("asked for \"{}\"", shown(sni.as_bytes())),
                None => "what comes before the connection was read".to_owned(),
            },
        };
        self.tell("head", times.started, Some(head), what);
        let to = record.pool.as_ref().map_or(String::new(), |pool| format!(", to pool \"{pool}\""));
        match &record.rule {
            Some(rule) => {
                let which = rule.position.map(|position| format!(" ({} of the listener)", ordinal(position + 1)));
                let what = format!("rule \"{}\"{} took it{to}", rule.name, which.unwrap_or_default());
                self.tell("rule", head, None, what);
            }
            None if record.pool.is_some() => {
                self.tell("rule", head, None, format!("no rule took it: the listener's own pool{to}"));
            }
            None => {}
        }
    }

    fn queue(&mut self) {
        let times = &self.record.times;
        let Some(queued) = times.queued else { return };
        let (until, what) = match times.dequeued {
            Some(dequeued) => (dequeued, "waited for a place at a backend, and got one"),
            None => (times.ended, "waited for a place at a backend, and got none"),
        };
        self.tell("queue", queued, Some(until), what.to_owned());
    }

    fn attempt(&mut self, number: usize, attempt: &Attempt) {
        let tries = self.record.attempts.len();
        let which = if tries > 1 { format!(", try {}", number + 1) } else { String::new() };
        self.tell("pick", attempt.started, None, format!("backend {}{which}", attempt.backend));
        let ended = attempt.ended();
        match (attempt.connected, attempt.reuse) {
            (Some(connected), Some(Reuse::Reused { idle })) => {
                let what = format!("a kept connection that had lain idle for {}", span(idle));
                self.tell("connect", connected, None, what);
            }
            (Some(connected), _) => {
                self.tell("connect", attempt.started, Some(connected), "connected".to_owned());
            }
            (None, _) => {
                let Some(cause) = attempt.cause else { return };
                let step = self.tell("connect", attempt.started, Some(ended), fault(cause, attempt.detail));
                (step.cause, step.evidence) = (Some(cause.code().to_owned()), timer(attempt));
                return;
            }
        }
        let connected = attempt.connected.unwrap_or(attempt.started);
        if let Some(sent) = attempt.sent {
            self.tell("request", connected, Some(sent), "the whole request was sent".to_owned());
        }
        if let Some(first) = attempt.first_byte {
            let status = self.record.status.map_or(String::new(), |status| format!(": status {status}"));
            let since = attempt.sent.filter(|sent| *sent <= first).unwrap_or(connected);
            self.tell("first_byte", since, Some(first), format!("the answer began{status}"));
            return;
        }
        let Some(cause) = attempt.cause else {
            if self.record.request.is_some() && number + 1 < tries {
                let what = "let go, because another try was quicker".to_owned();
                self.tell("first_byte", attempt.sent.unwrap_or(connected), Some(ended), what);
            }
            return;
        };
        let phase = match (cause.entry().phase, attempt.sent) {
            (Phase::RequestBody, _) => "request",
            (Phase::Relay, _) if self.record.request.is_none() => "relay",
            (_, _) => "first_byte",
        };
        let since = attempt.sent.unwrap_or(connected);
        let step = self.tell(phase, since, Some(ended), fault(cause, attempt.detail));
        (step.cause, step.evidence) = (Some(cause.code().to_owned()), timer(attempt));
    }

    /// A try that the end of the request cut short, so that it came to no end of its own.
    fn unfinished(&mut self) {
        let record = self.record;
        let times = &record.times;
        let (Some(picked), Some(backend)) = (times.picked, record.backend) else { return };
        self.tell("pick", picked, None, format!("backend {backend}"));
        let Some(connected) = times.connected else { return };
        match record.reuse {
            Some(Reuse::Reused { idle }) => {
                let what = format!("a kept connection that had lain idle for {}", span(idle));
                self.tell("connect", connected, None, what);
            }
            Some(Reuse::Fresh) | None => {
                self.tell("connect", picked, Some(connected), "connected".to_owned());
            }
        }
        if let Some(sent) = times.request_sent.filter(|_| record.request.is_some()) {
            self.tell("request", connected, Some(sent), "the whole request was sent".to_owned());
        }
    }

    fn body(&mut self) {
        let record = self.record;
        let times = &record.times;
        let is_over = |step: &str| record.phase().map(step_of) == Some(step);
        let bytes = format!("{} bytes to the client, {} from it", record.bytes_out, record.bytes_in);
        if let Some(first) = times.first_byte.filter(|_| record.request.is_some()) {
            if !is_over("body") && !is_over("relay") {
                let what = format!("the answer was passed on: {bytes}");
                self.tell("body", first, Some(times.ended), what);
                if let Some(answered) = times.answered.filter(|answered| *answered < times.ended) {
                    let (_, step) = self.steps.last_mut().expect("the step of the body");
                    let late = span(times.ended - answered);
                    step.evidence =
                        Some(format!("the client took the last of it {late} after the backend had sent it"));
                }
            }
        } else if record.request.is_none()
            && let Some(connected) = times.connected.or(times.picked).filter(|_| record.cause.is_none())
        {
            self.tell("relay", connected, Some(times.ended), bytes);
        }
    }

    /// What struck, unless a try has told it.
    fn fault(&mut self) {
        let record = self.record;
        let (Some(cause), Some(phase)) = (record.cause, record.phase()) else { return };
        if cause == Cause::BackendAnsweredError
            && let Some((_, step)) = self.steps.iter_mut().rfind(|(_, step)| step.phase == "first_byte")
        {
            step.cause = Some(cause.code().to_owned());
            return;
        }
        let last = record.attempts.last().and_then(|attempt| attempt.cause);
        let told = self.steps.iter().any(|(_, step)| step.cause.as_deref() == Some(cause.code()));
        if told && last == Some(cause) && !matches!(phase, Phase::ResponseBody | Phase::Relay) {
            return;
        }
        // In the middle of an answer the try that began it was good until then.
        self.steps.retain(|(_, step)| !(step.cause.as_deref() == Some(cause.code()) && last == Some(cause)));
        let times = &record.times;
        let since = match phase {
            Phase::Accept => times.accepted,
            Phase::Tls => times.accepted.or(Some(times.started)),
            Phase::RequestHead => Some(times.started),
            Phase::RequestBody => times.connected.or(times.head),
            Phase::Rule => times.head,
            Phase::Pick => times.head,
            Phase::Queue => times.queued,
            Phase::Connect | Phase::BackendTls => times.picked,
            Phase::ResponseHead => times.request_sent,
            Phase::ResponseBody => times.first_byte,
            Phase::Relay => times.connected.or(times.first_byte).or(times.picked),
        };
        let (since, until) = (since.unwrap_or(times.started), times.ended);
        let what = fault(cause, record.detail);
        // The wait in the queue is a step already.
        self.steps.retain(|(_, step)| phase != Phase::Queue || step.phase != "queue");
        let step = self.tell(step_of(phase), since, Some(until), what);
        step.cause = Some(cause.code().to_owned());
        step.evidence = match phase {
            Phase::ResponseBody | Phase::Relay | Phase::RequestBody => {
                Some(format!("{} bytes had come from the client, {} had gone to it", record.bytes_in, record.bytes_out))
            }
            _ => None,
        };
    }
}

/// What struck, in a few words: the code says the rest.
fn fault(cause: Cause, detail: Option<Detail>) -> String {
    let code = cause.code();
    match detail {
        Some(Detail::Text(text)) => format!("{code}: {}", shown(text.as_bytes())),
        Some(Detail::Errno(0)) | None => code.to_owned(),
        Some(Detail::Errno(errno)) => format!("{code}: errno {errno}{}", errno_words(errno)),
        Some(Detail::Limit(limit)) => format!("{code}: the limit is {limit}"),
        Some(Detail::Timeout(timeout)) => format!("{code}: nothing for {}", super::words::setting(timeout)),
    }
}

fn timer(attempt: &Attempt) -> Option<String> {
    Some(format!("{} ran out", attempt.timer?.key()))
}

/// Those of Linux that a connection meets.
const fn errno_words(errno: i32) -> &'static str {
    match errno {
        1 => " (not permitted)",
        13 => " (permission denied: a firewall)",
        24 => " (too many open files)",
        32 => " (broken pipe)",
        97 => " (address family not supported)",
        99 => " (cannot assign requested address)",
        101 => " (network is unreachable)",
        104 => " (connection reset)",
        110 => " (connection timed out)",
        111 => " (connection refused)",
        112 => " (host is down)",
        113 => " (no route to host)",
        _ => "",
    }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
