//! Traces as a collector gets them: who is whose parent, when each span was, what it says; and a collector that is dead.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::backend::{backend, polite, read_head, serve};
use crate::client::Wire;
use crate::daemon::{Daemon, PATIENCE, Setup, free_address, own_ip, until};

/// What one POST brought.
struct Posted {
    head: String,
    service: String,
    spans: Vec<Span>,
}

/// A collector that answers each POST with the next of `statuses`, the last one for ever.
struct Collector {
    address: SocketAddr,
    posted: Receiver<Posted>,
    seen: Vec<Span>,
}

impl Collector {
    fn start(statuses: &'static [u16]) -> Collector {
        let listener = TcpListener::bind((own_ip(), 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let (to, posted) = channel();
        let posts = Arc::new(Mutex::new((0_usize, to)));
        serve(listener, move |stream| take(stream, &posts, statuses));
        Collector { address, posted, seen: Vec::new() }
    }

    fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Waits for the spans of a trace: as many as `count`.
    fn trace(&mut self, trace: &[u8], count: usize) -> Vec<Span> {
        until("the spans of the trace", || {
            while let Ok(posted) = self.posted.try_recv() {
                self.seen.extend(posted.spans);
            }
            let spans: Vec<Span> = self.seen.iter().filter(|span| span.trace_id == trace).cloned().collect();
            (spans.len() >= count).then_some(spans)
        })
    }
}

fn take(mut stream: TcpStream, posts: &Mutex<(usize, Sender<Posted>)>, statuses: &[u16]) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut space = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut space) else { return };
        bytes.extend_from_slice(&space[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            bytes.drain(..end + 4);
            break (head, length.expect("a length"));
        }
    };
    while bytes.len() < length {
        let mut space = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut space) else { return };
        bytes.extend_from_slice(&space[..count]);
    }
    let mut posts = posts.lock().expect("no collector thread panics");
    let status = statuses[posts.0.min(statuses.len() - 1)];
    posts.0 += 1;
    if status == 200 {
        let request = ExportTraceServiceRequest::decode(&*bytes).expect("protobuf of OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
            let service = text(&attributes, "service.name");
            let _ = posts.1.send(Posted { head: head.clone(), service, spans });
        }
    }
    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    let AnyValue { value } = found.value.clone()?;
    value
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match value(attributes, key) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

/// A backend that tells what `traceparent` and `tracestate` it was sent, by target.
fn told(heads: &Arc<Mutex<HashMap<String, Vec<String>>>>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    let heads = Arc::clone(heads);
    move |mut stream: TcpStream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let fields = head.lines().map(str::to_ascii_lowercase).filter(|line| line.starts_with("trace"));
            heads.lock().expect("no backend panics").entry(target).or_default().extend(fields);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").is_err() {
                return;
            }
        }
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn a_clients_trace_goes_on_through_each_try_to_the_backend_that_answered() {
    let mut collector = Collector::start(&[200]);
    let heads: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let (listen, dead, good) = (free_address(), free_address(), backend(told(&heads)));
    let body = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{listen}\"\npool = \"p\"\n\
         [[pool]]\nname = \"p\"\ncheck = \"off\"\nschedule = \"rr\"\nretries = 1\nbackends = [\"{dead}\", \"{good}\"]\n"
    );
    let node = format!("[node.traces]\nendpoint = \"{}\"\nsample_percent = 0\nservice = \"edge\"\n", collector.url());
    let daemon = Daemon::start_with(&Setup { name: "traces", node: &node, body: &body, namespace: None });
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    // Round robin begins somewhere: of two requests on one connection, and so on one worker, one meets the dead port first and is
    // tried again.
    let mut traces = Vec::new();
    let mut wire = Wire::open(listen);
    for number in 0..2 {
        let trace = format!("{number}{}", &TRACE[1..]);
        wire.send(format!(
            "GET /{number}?secret=1 HTTP/1.1\r\nHost: shop.example\r\ntraceparent: 00-{trace}-{PARENT}-01\r\ntracestate: a=b\r\n\r\n"
        ));
        assert_eq!(wire.answer().expect("an answer").status, 200);
        traces.push(trace);
    }
    let after = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let mut tries = Vec::new();
    for (number, trace) in traces.iter().enumerate() {
        let mut spans = collector.trace(&bytes(trace), 2);
        spans.sort_by_key(|span| span.start_time_unix_nano);
        let server: Vec<&Span> = spans.iter().filter(|span| span.kind == SpanKind::Server as i32).collect();
        assert_eq!(server.len(), 1);
        let server = server[0];
        assert_eq!((hex(&server.parent_span_id), &*server.name), (PARENT.to_owned(), "GET"));
        let says = |key: &str| text(&server.attributes, key);
        assert_eq!(says("http.request.method"), "GET");
        assert_eq!(says("url.path"), format!("/{number}"), "a query is nobody's business");
        assert_eq!(says("server.address"), "shop.example");
        assert_eq!(says("http.response.status_code"), "200");
        assert_eq!((says("evenkeel.listener"), says("evenkeel.pool")), ("web".to_owned(), "p".to_owned()));
        let line = daemon.wait_log(&format!("/{number}?secret=1"));
        assert_eq!(line["id"], says("evenkeel.request_id"));
        assert!(before <= server.start_time_unix_nano && server.start_time_unix_nano <= server.end_time_unix_nano);
        assert!(server.end_time_unix_nano <= after + 1_000_000_000);
        assert!(server.events.iter().any(|event| event.name == "head"));
        let clients: Vec<&Span> = spans.iter().filter(|span| span.kind == SpanKind::Client as i32).collect();
        for (at, client) in clients.iter().enumerate() {
            assert_eq!(client.parent_span_id, server.span_id);
            assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
            assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
            let says = |key: &str| text(&client.attributes, key);
            let failed = client.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
            if at + 1 == clients.len() {
                assert_eq!((says("server.port"), failed), (good.port().to_string(), false));
                let mut events: Vec<&str> = client.events.iter().map(|event| &*event.name).collect();
                events.sort_unstable();
                assert_eq!(events, ["connected", "first_byte", "request_sent"]);
                let sent = heads.lock().expect("no backend panics")[&format!("/{number}?secret=1")].clone();
                let expected = format!("traceparent: 00-{trace}-{}-01", hex(&client.span_id));
                assert!(sent.contains(&expected) && sent.contains(&"tracestate: a=b".to_owned()), "{sent:?}");
                assert_eq!(sent.len(), 2, "one of each: {sent:?}");
            } else {
                assert_eq!((says("server.port"), failed), (dead.port().to_string(), true));
                assert_eq!(says("error.type"), "backend_connect_refused");
                assert_eq!(says("evenkeel.blame"), "backend");
            }
            assert_eq!(says("http.request.resend_count"), if at == 0 { String::new() } else { at.to_string() });
        }
        tries.push(clients.len());
    }
    assert!(tries.contains(&2), "{tries:?}");
    let sent = until("the count", || {
        Some(daemon.metric("evenkeel_traced_requests_total", &["sent"])).filter(|sent| *sent >= 2.0)
    });
    assert_eq!(sent, 2.0);
}

#[test]
fn who_is_traced_is_said_by_the_client_or_by_the_share_and_nothing_else_is_touched() {
    let mut collector = Collector::start(&[200]);
    let heads: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let (listen, good) = (free_address(), backend(told(&heads)));
    let body = format!(
        "[[listener]]\nlisten = \"{listen}\"\npool = \"p\"\n[[pool]]\nname = \"p\"\ncheck = \"off\"\nbackends = [\"{good}\"]\n"
    );
    // Without traces the fields go through as they came; with them a trace that nobody records does too.
    let unsampled = format!("traceparent: 00-{TRACE}-{PARENT}-00");
    let sampled = format!("traceparent: 00-{TRACE}-{PARENT}-01");
    let state = "tracestate: a=b".to_owned();
    let url = collector.url();
    let with = |share: &str, trust: &str| {
        format!("[node.traces]\nendpoint = \"{url}\"\nsample_percent = {share}\ntrust_traceparent = {trust}\n")
    };
    let ours = |sent: &[String]| sent.len() == 1 && sent[0].ends_with("-01") && !sent[0].contains(TRACE);
    type Expected<'a> = &'a dyn Fn(&[String]) -> bool;
    let as_it_came = |field: &String| [field.clone(), state.clone()];
    let none = |sent: &[String]| sent.is_empty();
    let table: [(&str, String, Option<&String>, Expected<'_>); 7] = [
        ("off", String::new(), Some(&sampled), &|sent| sent == as_it_came(&sampled)),
        ("unsampled", with("100", "true"), Some(&unsampled), &|sent| sent == as_it_came(&unsampled)),
        ("share", with("100", "true"), None, &ours),
        ("no-share", with("0", "true"), None, &none),
        ("untrusted", with("0", "false"), Some(&sampled), &none),
        ("begun", with("100", "false"), Some(&sampled), &ours),
        ("continued", with("0", "true"), Some(&sampled), &|sent| {
            sent.len() == 2
                && sent.contains(&state)
                && sent.iter().any(|line| line.contains(TRACE) && !line.contains(PARENT))
        }),
    ];
    for (name, node, field, expected) in table {
        let daemon = Daemon::start_with(&Setup { name: "traces-who", node: &node, body: &body, namespace: None });
        let field = field.map_or(String::new(), |field| format!("{field}\r\n{state}\r\n"));
        let mut wire = Wire::open(listen);
        wire.send(format!("GET /{name} HTTP/1.1\r\nHost: e2e\r\n{field}\r\n"));
        assert_eq!(wire.answer().expect("an answer").status, 200);
        let sent = heads.lock().expect("no backend panics")[&format!("/{name}")].clone();
        assert!(expected(&sent), "{name}: {sent:?}");
        if name == "share" || name == "begun" {
            let trace = bytes(sent[0].split('-').nth(1).expect("a trace"));
            let spans = collector.trace(&trace, 2);
            let server = spans.iter().find(|span| span.kind == SpanKind::Server as i32).expect("the request's");
            assert!(server.parent_span_id.is_empty(), "the trace begins here");
        }
        drop(daemon);
    }
}

#[test]
fn a_collector_that_fails_is_asked_again_and_one_that_is_dead_costs_traces_alone() {
    let mut collector = Collector::start(&[503, 200]);
    let (listen, good) = (free_address(), backend(polite));
    let body = format!(
        "[[listener]]\nlisten = \"{listen}\"\npool = \"p\"\n[[pool]]\nname = \"p\"\ncheck = \"off\"\nbackends = [\"{good}\"]\n"
    );
    let node = format!("[node.traces]\nendpoint = \"{}\"\nservice = \"edge\"\n", collector.url());
    let mut daemon = Daemon::start_with(&Setup { name: "traces-dead", node: &node, body: &body, namespace: None });
    let ask = |trace: &str| {
        let mut wire = Wire::open(listen);
        wire.send(format!("GET / HTTP/1.1\r\nHost: e2e\r\ntraceparent: 00-{trace}-{PARENT}-01\r\n\r\n"));
        assert_eq!(wire.answer().expect("an answer").status, 200);
    };
    ask(TRACE);
    let first = collector.posted.recv_timeout(PATIENCE).expect("the second try");
    assert!(first.head.contains("content-type: application/x-protobuf") && first.head.starts_with("post /v1/traces "));
    assert_eq!(first.service, "edge");
    collector.seen.extend(first.spans);
    assert_eq!(collector.trace(&bytes(TRACE), 2).len(), 2);
    assert_eq!(daemon.metric("evenkeel_traced_requests_total", &["batch_failed"]), 1.0);

    // A refusal that would be the same next time is not repeated.
    let refusing = Collector::start(&[400]);
    let gone = free_address();
    for address in [refusing.address, gone] {
        let node = format!("[node.traces]\nendpoint = \"http://{address}/v1/traces\"\n");
        drop(daemon);
        daemon = Daemon::start_with(&Setup { name: "traces-dead", node: &node, body: &body, namespace: None });
        ask(TRACE);
        until("the failure to be counted", || {
            (daemon.metric("evenkeel_traced_requests_total", &["batch_failed"]) >= 1.0).then_some(())
        });
        if address == refusing.address {
            until("the loss", || (daemon.metric("evenkeel_traced_requests_total", &["dropped"]) == 1.0).then_some(()));
        }
        assert_eq!(daemon.metric("evenkeel_traced_requests_total", &["sent"]), 0.0);
        ask(TRACE);
    }
    // Nor does a dead collector hold up the end.
    let asked = std::time::Instant::now();
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait_exit().success());
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
}
