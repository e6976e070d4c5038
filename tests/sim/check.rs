//! Compares what clients, backends and outcomes say of the same requests.

use crate::backend::{planned, text};
use crate::book::{Book, Form, Framed, Reply, Request};
use crate::client::{Client, Leaves, Speech, View};
use crate::generate::Temper;
use crate::world::{Record, World};

use std::time::Duration;

use evenkeel_model::Cause;
use evenkeel_reactor::sim::{Faults, Segments};

/// Attempts that the config of the stories allows, the first included.
const ATTEMPTS: usize = 3;

pub fn check_http(world: &mut World, book: &Book, clients: &[Client], temper: Temper) {
    let mut complaints = book.complaints.clone();
    for (id, rows) in &book.seen {
        let request = &book.requests[id];
        // Stories that ask a second backend beside the first allow it as one more.
        let most = if request.is_idempotent() { ATTEMPTS + usize::from(world.hedges) } else { 1 };
        if rows.len() > most {
            complaints.push(format!("{} request {id} reached backends {} times: {rows:?}", request.method, rows.len()));
        }
        if !world.records.all().iter().any(|record| record.target.as_deref() == Some(&format!("/r{id}"))) {
            complaints.push(format!("request {id} reached a backend and has no outcome"));
        }
    }
    for client in clients {
        let Some(address) = client.address else { continue };
        let mut records = world.records.of(address);
        if let Speech::Stream(_) = client.speech {
            let own = |id: &u64| Some(format!("/r{id}"));
            records.retain(|record| client.script.requests.iter().any(|id| own(id) == record.target));
        }
        check_client(book, client, &records, &mut complaints);
        if temper == Temper::Kind {
            check_kindness(book, client, &records, is_slow(&world.faults), &mut complaints);
        }
    }
    world.complaints.extend(complaints);
}

fn check_client(book: &Book, client: &Client, records: &[Record], complaints: &mut Vec<String>) {
    let who = client.address;
    // A connection that we cannot go on with between two requests, or that ends in its header, is told of as well.
    let before = [Some(Cause::BalancerOverloaded), Some(Cause::ClientProxyHeaderInvalid)];
    let is_request = |record: &&Record| !before.contains(&record.cause) || record.target.is_some();
    if records.iter().filter(is_request).count() > client.begun {
        complaints.push(format!("client {who:?} began {} requests and has {} outcomes", client.begun, records.len()));
    }
    if records.len() < client.views.len() {
        complaints.push(format!(
            "client {who:?} got {} answers and has {} outcomes",
            client.views.len(),
            records.len()
        ));
    }
    let sent: u64 = records.iter().map(|record| record.bytes_out).sum();
    // A stream is written as text once more by the client's own codec.
    if (client.received as u64) > sent && !matches!(client.speech, Speech::Stream(_)) {
        complaints.push(format!("client {who:?} got {} bytes, the outcomes count {sent}", client.received));
    }
    for (position, record) in records.iter().enumerate() {
        let Some(id) = client.script.requests.get(position) else { continue };
        if record.target.as_ref().is_some_and(|target| *target != format!("/r{id}")) {
            complaints.push(format!("outcome {position} of client {who:?} is not of request {id}: {record:?}"));
        }
        if record.cause.is_none() && record.status.is_none() {
            complaints.push(format!("an outcome without status and without cause: {record:?}"));
        }
        if let Some(view) = client.views.get(position) {
            check_view(book, client, view, record, complaints);
        }
    }
}

/// What the client saw of one answer, beside what was said of it.
fn check_view(book: &Book, client: &Client, view: &View, record: &Record, complaints: &mut Vec<String>) {
    let id = view.id;
    let request = &book.requests[&id];
    let head = &view.message.head;
    let status = head.status();
    for interim in &view.interim {
        let of_ours = interim.head.status() == 100 && interim.head.field("x-id").is_none();
        if !of_ours && interim.head.number("x-id") != Some(id) {
            complaints.push(format!("request {id} got the interim answer of another: {interim:?}"));
        }
        if request.http10 {
            complaints.push(format!("request {id} of http/1.0 got an interim answer"));
        }
    }
    if record.status != Some(status) {
        complaints.push(format!("request {id}: the client got {status}, the outcome says {:?}", record.status));
    }
    let code = record.cause.map(Cause::code);
    if let Some(proxy) = head.field("proxy-status").filter(|value| value.contains("details=")) {
        let said = proxy.split("details=\"").nth(1).and_then(|rest| rest.split('"').next());
        // What became of the answer on its way to the client may be the last word.
        let on_its_way = [Cause::ClientAborted, Cause::ClientStalled, Cause::BalancerDraining];
        if said != code && (view.whole || !record.cause.is_some_and(|cause| on_its_way.contains(&cause))) {
            complaints.push(format!("request {id}: the client was told {said:?}, the outcome says {code:?}"));
        }
        if head.field("x-id").is_some() {
            complaints.push(format!("request {id}: an answer of ours with a backend's field: {head:?}"));
        }
        return;
    }
    if request.form != Form::Good {
        complaints.push(format!("malformed request {id} was answered by {head:?}"));
    }
    if head.number("x-id") != Some(id) {
        complaints.push(format!("request {id} got the answer of another, or of nobody: {head:?}"));
        return;
    }
    let row = head.number("x-try").map_or(usize::MAX, |row| row as usize);
    if row >= book.seen(id).len() {
        complaints.push(format!("request {id} got an answer to a try that did not reach a backend: {head:?}"));
        return;
    }
    let answerer = record.attempts.last().map(|attempt| attempt.backend);
    if answerer != Some(book.seen(id)[row].backend) {
        complaints.push(format!("request {id} was answered by {:?}: {record:?}", book.seen(id)[row]));
    }
    if let Reply::Switch(bytes) = &request.reply {
        let received = client.tunnel.clone().unwrap_or_default();
        if !bytes.starts_with(&received) {
            complaints.push(format!("request {id}: the tunnel brought other bytes than its backend sent"));
        }
        return;
    }
    let Some(answered) = planned(&request.reply, row) else {
        complaints.push(format!("request {id} got an answer where none was given: {head:?}"));
        return;
    };
    let body = if request.method == "HEAD" { &[][..] } else { &answered.body[..] };
    if status != answered.status || !body.starts_with(&view.message.body) {
        complaints.push(format!(
            "request {id}: the backend said {} {:?}, the client read {status} {:?}",
            answered.status,
            text(body),
            text(&view.message.body)
        ));
    }
    if view.whole {
        let until_close = !head.has("transfer-encoding", "chunked") && head.field("content-length").is_none();
        // A backend that cuts an answer without a length by FIN says that it is whole.
        let told_until_close = match &request.reply {
            Reply::Answer(answer) | Reply::EndsOnce(_, answer) => answer.framed == Framed::UntilClose,
            _ => false,
        };
        let cut_unseen = !answered.whole && (until_close || told_until_close);
        if view.message.body != body && !cut_unseen {
            complaints.push(format!("request {id}: a part of the answer looks whole to the client: {view:?}"));
        }
        let expected_cause = (status >= 500).then_some("backend_answered_error");
        // Told that nothing will follow, a client may leave before it has heard the goodbye of TLS.
        let goodbye_unheard = matches!(client.speech, Speech::Tls(_))
            && record.cause == Some(Cause::ClientAborted)
            && head.has("connection", "close");
        if code != expected_cause && !cut_unseen && !goodbye_unheard {
            complaints.push(format!("request {id} was answered in full, and its outcome says {code:?}"));
        }
        let trailer = answered.trailer && !request.http10 && request.method != "HEAD";
        if trailer && !view.message.has_sum(id) {
            complaints.push(format!("request {id} lost the trailer of its answer: {:?}", view.message.trailers));
        }
    } else if client.saw_fin && !client.saw_reset && code.is_none() {
        complaints
            .push(format!("request {id}: the answer was cut in good order, and its outcome has no cause: {record:?}"));
    }
}

/// On a network where nothing fails, with well-behaved clients and backends, everything succeeds.
///
/// `slow`: what a client still sends behind the last answer of its connection takes longer than the five seconds for
/// which it is read and thrown away; the reset that follows may then overtake the answer.
fn check_kindness(book: &Book, client: &Client, records: &[Record], slow: bool, complaints: &mut Vec<String>) {
    let who = client.address;
    let ends = |request: &Request| match &request.reply {
        Reply::Answer(answer) => answer.early || answer.framed == Framed::UntilClose || request.http10,
        _ => false,
    };
    let last = client.views.len().saturating_sub(1);
    let still_sending = |position: usize| {
        let early = |answer: &Reply| matches!(answer, Reply::Answer(answer) if answer.early);
        let request = client.script.requests.get(position).and_then(|id| book.requests.get(id));
        request.is_some_and(|request| {
            ends(request) && (early(&request.reply) || position + 1 < client.script.requests.len())
        })
    };
    if slow && (still_sending(last) || still_sending(last + 1)) {
        return;
    }
    if client.refused || client.saw_reset {
        complaints.push(format!("client {who:?} was turned away or reset"));
    }
    for (position, id) in client.script.requests.iter().enumerate() {
        let Some(view) = client.views.get(position) else {
            let closed =
                client.views.last().is_some_and(|view| view.whole && ends_connection(&book.requests[&view.id], view));
            if !closed {
                complaints.push(format!("request {id} of client {who:?} was never answered"));
            }
            break;
        };
        let request = &book.requests[id];
        if let Some(told) = view.message.head.field("proxy-status").filter(|value| value.contains("details=")) {
            complaints.push(format!("request {id} failed: {told}"));
            break;
        }
        if !view.whole {
            complaints.push(format!("request {id} was not answered in full: {view:?}"));
        }
        if let Reply::Switch(bytes) = &request.reply
            && (client.tunnel.as_ref() != Some(bytes) || book.tunnelled.get(id) != request.upgrade.as_ref())
        {
            let (down, up) = (client.tunnel.as_ref().map(Vec::len), book.tunnelled.get(id).map(Vec::len));
            let meant = (bytes.len(), request.upgrade.as_ref().map(Vec::len));
            complaints.push(format!("request {id}: the tunnel brought {down:?} down and {up:?} up of {meant:?}"));
        }
        let interim = view.interim.iter().filter(|interim| interim.head.status() == 103).count();
        let meant = match &request.reply {
            _ if request.http10 => 0,
            Reply::Answer(answer) => answer.interim.iter().filter(|status| **status == 103).count(),
            Reply::Switch(_) => usize::from(id.is_multiple_of(2)),
            _ => 0,
        };
        // Who is tried again may have heard the first one's hints.
        let tries = records.get(position).map_or(1, |record| record.attempts.len().max(1));
        if interim < meant || interim > meant * tries {
            complaints.push(format!("request {id}: {interim} of {meant} early hints came through"));
        }
    }
    if client.script.leaves == Leaves::Content && records.len() != client.views.len() {
        let closed = client.views.last().is_some_and(|view| ends_connection(&book.requests[&view.id], view));
        if !closed {
            complaints.push(format!(
                "client {who:?} got {} answers and has {} outcomes",
                client.views.len(),
                records.len()
            ));
        }
    }
}

/// Whether nothing can follow this answer.
fn ends_connection(request: &Request, view: &View) -> bool {
    let head = &view.message.head;
    head.has("connection", "close") || (request.http10 && !head.has("connection", "keep-alive"))
}

fn is_slow(faults: &Faults) -> bool {
    let narrow = faults.send_buffer.min(faults.receive_window) < 4096 || faults.segments == Segments::OneByte;
    narrow || faults.latency + faults.jitter > Duration::from_millis(10)
}
