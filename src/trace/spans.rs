//! A record as spans of OpenTelemetry: one for the request, one for each try at a backend.
//!
//! Names of attributes are those of the semantic conventions for HTTP; what they have no word for is under `evenkeel.`.
//! The query of a request is left out, because secrets stand in it more often than anything of use.

use std::net::SocketAddr;

use evenkeel_model::exchange::{Attempt, Record, Traced};
use evenkeel_model::{Blame, Epoch, Instant};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// All there are in HTTP and PATCH; others are `_OTHER`, so that clients cannot make up names of spans.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The sampled flag.
const SAMPLED: u32 = 1;

/// What is posted to a collector at once.
pub fn batch(records: &[Record], service: &str, epoch: Epoch) -> ResourceSpans {
    let mut resource = Attributes::default();
    resource.text("service.name", service);
    if let Some(record) = records.first() {
        resource.text("service.instance.id", format!("{:016x}", record.id.process));
    }
    let scope = InstrumentationScope {
        name: "evenkeel".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = records.iter().flat_map(|record| spans(record, epoch)).collect();
    ResourceSpans {
        resource: Some(Resource { attributes: resource.0, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// The request's span first. None for a record that is not traced.
pub fn spans(record: &Record, epoch: Epoch) -> Vec<Span> {
    let Some(traced) = record.trace else { return Vec::new() };
    let mut spans = vec![of_request(record, traced, epoch)];
    let tries = record.attempts.iter().enumerate();
    spans.extend(tries.map(|(number, attempt)| of_try(record, traced, number, attempt, epoch)));
    spans
}

fn of_request(record: &Record, traced: Traced, epoch: Epoch) -> Span {
    let mut attributes = Attributes::default();
    let method = method(record, &mut attributes);
    if let Some(request) = &record.request {
        let path = request.target.split(|&byte| byte == b'?').next().unwrap_or_default();
        attributes.text("url.path", String::from_utf8_lossy(path));
        attributes.text("server.address", String::from_utf8_lossy(&request.host));
        attributes.text("network.protocol.version", request.version.strip_prefix("HTTP/").unwrap_or(request.version));
        if !request.user_agent.is_empty() {
            attributes.text("user_agent.original", String::from_utf8_lossy(&request.user_agent));
        }
    }
    attributes.text("url.scheme", if record.tls.is_some() { "https" } else { "http" });
    attributes.text("client.address", record.client.ip().to_string());
    attributes.number("client.port", i64::from(record.client.port()));
    if let Some(status) = record.status {
        attributes.number("http.response.status_code", i64::from(status));
    }
    attributes.text("evenkeel.request_id", record.id.to_string());
    attributes.text("evenkeel.listener", &*record.listener);
    if let Some(rule) = &record.rule {
        attributes.text("evenkeel.rule", &*rule.name);
    }
    if let Some(pool) = &record.pool {
        attributes.text("evenkeel.pool", &**pool);
    }
    if let Some(cause) = record.cause {
        attributes.text("error.type", cause.code());
        attributes.text("evenkeel.cause", cause.code());
        attributes.text("evenkeel.blame", cause.entry().blame.word());
        attributes.text("evenkeel.phase", record.phase().map_or("", evenkeel_model::Phase::word));
    }
    let times = &record.times;
    let moments = [
        ("head", times.head),
        ("queued", times.queued),
        ("dequeued", times.dequeued),
        ("picked", times.picked),
        ("first_byte", times.first_byte),
        ("answered", times.answered),
    ];
    // What the client broke is its own error, and not one of this span (semantic conventions for HTTP).
    let at_fault = record.cause.is_some_and(|cause| cause.entry().blame != Blame::Client);
    let failed = record.status.map_or(at_fault, |status| status >= 500 || at_fault && status < 400);
    Span {
        trace_id: traced.trace.to_vec(),
        span_id: Traced::span(record.id, 0).to_vec(),
        parent_span_id: traced.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name: method,
        kind: SpanKind::Server.into(),
        start_time_unix_nano: epoch.unix_nanos_at(times.started),
        end_time_unix_nano: epoch.unix_nanos_at(times.ended),
        attributes: attributes.0,
        events: events(&moments, epoch),
        status: Some(status(failed.then(|| record.cause.map_or("", |cause| cause.entry().meaning)))),
        ..Span::default()
    }
}

fn of_try(record: &Record, traced: Traced, number: usize, attempt: &Attempt, epoch: Epoch) -> Span {
    let mut attributes = Attributes::default();
    let method = method(record, &mut attributes);
    let last = number + 1 == record.attempts.len();
    attributes.address(attempt.backend);
    if number > 0 {
        attributes.number("http.request.resend_count", number as i64);
    }
    let answered = record.status.filter(|_| last && attempt.first_byte.is_some());
    if let Some(status) = answered {
        attributes.number("http.response.status_code", i64::from(status));
    }
    if let Some(cause) = attempt.cause {
        attributes.text("error.type", cause.code());
        attributes.text("evenkeel.cause", cause.code());
        attributes.text("evenkeel.blame", cause.entry().blame.word());
    } else if let Some(status) = answered.filter(|status| *status >= 400) {
        attributes.text("error.type", status.to_string());
    }
    if let Some(reuse) = attempt.reuse {
        let reused = matches!(reuse, evenkeel_model::exchange::Reuse::Reused { .. });
        attributes.flag("evenkeel.connection_reused", reused);
    }
    if let Some(timer) = attempt.timer {
        attributes.text("evenkeel.timer", timer.key());
    }
    let moments =
        [("connected", attempt.connected), ("request_sent", attempt.sent), ("first_byte", attempt.first_byte)];
    // An attempt is over for the log when the answer begins; for a trace when the answer is there.
    let answer_ended = record.times.answered.unwrap_or(record.times.ended);
    let ended = if attempt.first_byte.is_some() && last { answer_ended } else { attempt.ended() };
    let failed =
        attempt.cause.map(|cause| cause.entry().meaning).or(answered.filter(|status| *status >= 400).map(|_| ""));
    Span {
        trace_id: traced.trace.to_vec(),
        span_id: Traced::span(record.id, number as u64 + 1).to_vec(),
        parent_span_id: Traced::span(record.id, 0).to_vec(),
        flags: SAMPLED,
        name: method,
        kind: SpanKind::Client.into(),
        start_time_unix_nano: epoch.unix_nanos_at(attempt.started),
        end_time_unix_nano: epoch.unix_nanos_at(ended),
        attributes: attributes.0,
        events: events(&moments, epoch),
        status: Some(status(failed)),
        ..Span::default()
    }
}

/// As attribute and as the span's name.
fn method(record: &Record, attributes: &mut Attributes) -> String {
    let Some(request) = &record.request else { return "connection".to_owned() };
    let known = METHODS.into_iter().find(|method| method.as_bytes() == &*request.method);
    attributes.text("http.request.method", known.unwrap_or("_OTHER"));
    if known.is_none() {
        attributes.text("http.request.method_original", String::from_utf8_lossy(&request.method));
    }
    known.unwrap_or("HTTP").to_owned()
}

fn events(moments: &[(&str, Option<Instant>)], epoch: Epoch) -> Vec<Event> {
    let reached = moments.iter().filter_map(|(name, at)| Some((name, (*at)?)));
    let event = |(name, at): (&&str, Instant)| Event {
        time_unix_nano: epoch.unix_nanos_at(at),
        name: (*name).to_owned(),
        ..Event::default()
    };
    reached.map(event).collect()
}

/// `None` leaves it unset, as it is for what went well.
fn status(failed: Option<&str>) -> Status {
    match failed {
        None => Status { message: String::new(), code: StatusCode::Unset.into() },
        Some(message) => Status { message: message.to_owned(), code: StatusCode::Error.into() },
    }
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, text: impl Into<String>) {
        self.put(key, Value::StringValue(text.into()));
    }

    fn number(&mut self, key: &str, number: i64) {
        self.put(key, Value::IntValue(number));
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.put(key, Value::BoolValue(flag));
    }

    fn address(&mut self, address: SocketAddr) {
        self.text("server.address", address.ip().to_string());
        self.number("server.port", i64::from(address.port()));
        self.text("network.peer.address", address.ip().to_string());
        self.number("network.peer.port", i64::from(address.port()));
    }
}
