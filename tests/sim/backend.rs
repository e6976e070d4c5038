//! The HTTP servers behind the node: they look into the book what to do with each request, and write
//! down what they saw.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use evenkeel_h2::{Role, Settings};
use evenkeel_model::Instant;
use evenkeel_reactor::sim::{Backend, End, Net};
use evenkeel_tls::Session;
use evenkeel_wire::proxy::{self, Parsed};

use crate::book::{After, Answer, Answered, Ends, Form, Framed, Reply, Seen, Shared, chunked};
use crate::http1::{Framing, Head, Reader, Step};
use crate::line::Line;
use crate::trunk::{SharedTrunk, Stream, Trunk};
use crate::voice::Voice;

/// What a server understands.
#[derive(Clone, Default)]
pub struct Understands {
    /// Each connection begins with a PROXY header.
    pub header: bool,
    pub tls: Option<evenkeel_tls::Server>,
    pub http2: Option<Settings>,
}

pub struct HttpServer {
    pub address: SocketAddr,
    understands: Understands,
    listening: Backend,
    /// Their header has not come whole.
    unnamed: Vec<End>,
    ready: Vec<End>,
    trunks: Vec<SharedTrunk>,
    connections: Vec<Connection>,
    book: Shared,
}

/// One that carries requests, or one stream of one.
struct Connection {
    voice: Voice,
    read: usize,
    reader: Reader,
    /// Id and row of the request that is being read or answered.
    current: Option<(u64, usize)>,
    request_whole: bool,
    answering: bool,
    queue: VecDeque<(Instant, Deed)>,
    tunnel: Option<Vec<u8>>,
    /// All is said, and the other side does not take it yet.
    closing: bool,
    over: bool,
}

enum Deed {
    Send(Vec<u8>),
    /// The answer is out.
    Answered(After),
    /// Says that nothing more comes, and reads on.
    Finish,
    Ends(Ends),
}

impl HttpServer {
    pub fn new(net: &Net, address: SocketAddr, understands: &Understands, book: &Shared) -> Self {
        let listening = net.backend_listen(address);
        HttpServer {
            address,
            understands: understands.clone(),
            listening,
            unnamed: Vec::new(),
            ready: Vec::new(),
            trunks: Vec::new(),
            connections: Vec::new(),
            book: book.clone(),
        }
    }

    pub fn act(&mut self, net: &Net) {
        while let Some(end) = self.listening.accept() {
            if self.understands.header {
                // The header alone is taken out of what comes.
                end.pause_reading();
                self.unnamed.push(end);
            } else {
                self.ready.push(end);
            }
        }
        self.unnamed.retain(|end| {
            while end.read(1) == 1 {
                match proxy::parse(&end.received()) {
                    Parsed::Partial => {}
                    Parsed::Whole(header, _) if header.client.is_some() => {
                        end.take();
                        end.resume_reading();
                        self.ready.push(end.clone());
                        return false;
                    }
                    other => {
                        self.book.borrow_mut().complain(format!("backend {}: {other:?}", self.address));
                        return false;
                    }
                }
            }
            let over = end.saw_fin() || end.saw_reset();
            if over {
                end.close();
            }
            !over
        });
        for end in std::mem::take(&mut self.ready) {
            let session = |tls| Session::server(tls).expect("the settings were accepted");
            let line = Line::new(end, self.understands.tls.as_ref().map(session));
            match &self.understands.http2 {
                Some(settings) => self.trunks.push(Trunk::new(line, Role::Server, settings, net)),
                None => self.connections.push(Connection::new(Voice::Line(line))),
            }
        }
        for trunk in &self.trunks {
            let mut held = trunk.borrow_mut();
            held.act(net);
            while let Some(stream) = held.next_opened() {
                self.connections.push(Connection::new(Voice::Stream(Stream::new(trunk, Some(stream)))));
            }
            if let Some(complaint) = held.complaint.take() {
                self.book.borrow_mut().complain(format!("backend {}: {complaint}", self.address));
            }
        }
        for connection in &mut self.connections {
            connection.act(net, self.address, &self.book);
        }
        self.connections.retain(|connection| !connection.over);
        self.trunks.retain(|trunk| !trunk.borrow().over || Rc::strong_count(trunk) > 1);
    }
}

impl Connection {
    fn new(voice: Voice) -> Connection {
        Connection {
            voice,
            read: 0,
            reader: Reader::default(),
            current: None,
            request_whole: false,
            answering: false,
            queue: VecDeque::new(),
            tunnel: None,
            closing: false,
            over: false,
        }
    }

    fn act(&mut self, net: &Net, backend: SocketAddr, book: &Shared) {
        if self.closing {
            self.voice.saw_reset();
            self.close();
            return;
        }
        if self.voice.has_received() {
            for byte in self.voice.take() {
                self.read += 1;
                self.byte(byte, net, backend, book);
            }
        }
        while !self.over && !self.closing && self.queue.front().is_some_and(|(at, _)| *at <= net.now()) {
            let (_, deed) = self.queue.pop_front().expect("looked a line above");
            match deed {
                Deed::Send(bytes) => self.voice.send(&bytes),
                Deed::Answered(after) => self.answered(net, after),
                Deed::Finish => self.voice.finish(),
                Deed::Ends(Ends::Fin) => self.close(),
                Deed::Ends(Ends::Reset) => self.reset(),
            }
        }
        if !self.over && !self.closing && self.voice.saw_reset() {
            self.close();
        }
        if !self.over && !self.closing && self.input_is_over() && self.voice.saw_fin() {
            self.input_ended(book);
        }
    }

    /// A stream's direction ends with each request; of a connection it says that nobody waits for more.
    fn input_is_over(&self) -> bool {
        !self.voice.is_stream() || self.tunnel.is_some()
    }

    /// A stream dies alone, or with its connection and all that are on it.
    fn reset(&mut self) {
        match (&mut self.voice, self.current) {
            (Voice::Stream(stream), Some((id, _))) if id.is_multiple_of(3) => stream.trunk.borrow_mut().reset(),
            (voice, _) => voice.reset(),
        }
        self.over = true;
    }

    fn close(&mut self) {
        self.closing = true;
        if self.voice.owes() {
            return;
        }
        self.voice.close();
        self.over = true;
    }

    fn input_ended(&mut self, book: &Shared) {
        if let (Some(received), Some((id, _))) = (self.tunnel.take(), self.current) {
            let mut book = book.borrow_mut();
            let meant = book.requests[&id].upgrade.clone().unwrap_or_default();
            if !meant.starts_with(&received) {
                book.complain(format!("request {id}: the tunnel brought other bytes than its client sent"));
            }
            book.tunnelled.insert(id, received);
        }
        // What is still to be sent may go out: only the other direction has ended.
        if self.queue.is_empty() {
            self.close();
        }
    }

    fn byte(&mut self, byte: u8, net: &Net, backend: SocketAddr, book: &Shared) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.push(byte);
            return;
        }
        if self.request_whole {
            let what = format!("{backend} got a byte behind request {:?} before its answer was out", self.current);
            book.borrow_mut().complain(what);
            return;
        }
        let step = self.reader.feed(byte, Framing::of_request);
        if self.reader.begun && self.current.is_none() {
            let head = self.reader.message.head.clone();
            self.head_came(&head, net, backend, book);
        }
        if step == Step::Done {
            self.request_came(net, book);
        }
        if self.reader.is_broken() {
            book.borrow_mut().complain(format!("{backend} got a broken body: {:?}", self.reader));
        }
    }

    fn head_came(&mut self, head: &Head, net: &Net, backend: SocketAddr, book: &Shared) {
        let mut book = book.borrow_mut();
        let Some(id) = head.number("x-id").filter(|id| book.requests.contains_key(id)) else {
            book.complain(format!("{backend} got a request that nobody sent: {head:?}"));
            return;
        };
        let request = book.requests[&id].clone();
        let rows = book.seen.entry(id).or_default();
        rows.push(Seen { backend, whole: false });
        let row = rows.len() - 1;
        self.current = Some((id, row));
        let expected = format!("{} /r{id} HTTP/1.1", request.method);
        if head.start != expected {
            book.complain(format!("request {id} reached {backend} as {:?}", head.start));
        }
        if request.form == Form::BadHead {
            book.complain(format!("malformed request {id} reached {backend}: {head:?}"));
        }
        let early = match &request.reply {
            Reply::Answer(answer) => answer.early,
            _ => false,
        };
        if request.expects && !early && matches!(request.reply, Reply::Answer(_)) && !id.is_multiple_of(3) {
            self.queue.push_back((net.now(), Deed::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())));
            net.alarm(net.now());
        }
        if early {
            drop(book);
            self.reply(&request.reply, net, id, row, request.method == "HEAD");
        }
    }

    fn request_came(&mut self, net: &Net, book: &Shared) {
        self.request_whole = true;
        let message = self.reader.take();
        let Some((id, row)) = self.current else { return };
        let mut held = book.borrow_mut();
        let request = held.requests[&id].clone();
        if let Some(seen) = held.seen.get_mut(&id).and_then(|rows| rows.get_mut(row)) {
            seen.whole = true;
        }
        if message.body != request.body {
            held.complain(format!("request {id} reached its backend with another body: {:?}", text(&message.body)));
        }
        if request.form == Form::BadBody {
            held.complain(format!("request {id} with a malformed body reached its backend as a whole one"));
        }
        if request.trailer && !message.has_sum(id) {
            held.complain(format!("request {id} lost its trailer: {:?}", message.trailers));
        }
        drop(held);
        if self.answering {
            self.finish_early();
            return;
        }
        self.reply(&request.reply, net, id, row, request.method == "HEAD");
    }

    /// The rest of an upload that was answered early.
    fn finish_early(&mut self) {
        if self.queue.is_empty() {
            self.ready_for_next();
        }
    }

    fn reply(&mut self, reply: &Reply, net: &Net, id: u64, row: usize, to_head: bool) {
        self.answering = true;
        let now = net.now();
        match reply {
            Reply::Answer(answer) => self.answer(answer, net, id, row, to_head),
            Reply::EndsOnce(ends, answer) => {
                if row == 0 {
                    self.queue.push_back((now, Deed::Ends(*ends)));
                } else {
                    self.answer(answer, net, id, row, to_head);
                }
            }
            Reply::Switch(bytes) => {
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Id: {id}\r\nX-Try: {row}\r\n\r\n"
                );
                // An interim answer in front, in the same segment.
                let hint = if id.is_multiple_of(2) {
                    format!("HTTP/1.1 103 Early Hints\r\nX-Id: {id}\r\n\r\n")
                } else {
                    String::new()
                };
                self.voice.send(&[hint.as_bytes(), head.as_bytes(), bytes].concat());
                self.voice.finish();
                self.tunnel = Some(Vec::new());
            }
            Reply::Garbage(bytes) => {
                match &self.voice {
                    Voice::Line(_) => self.queue.push_back((now, Deed::Send(bytes.clone()))),
                    // Where frames should be; each stream of the connection suffers.
                    Voice::Stream(stream) if id.is_multiple_of(3) => stream.trunk.borrow_mut().line.send(bytes),
                    Voice::Stream(_) => {}
                }
                self.queue.push_back((now, Deed::Ends(Ends::Fin)));
            }
            Reply::Ends(ends) => self.queue.push_back((now, Deed::Ends(*ends))),
            Reply::Never => {}
        }
        net.alarm(now);
    }

    fn answer(&mut self, answer: &Answer, net: &Net, id: u64, row: usize, to_head: bool) {
        let start = net.now() + answer.delay;
        for status in &answer.interim {
            let interim = format!("HTTP/1.1 {status} Wait\r\nX-Id: {id}\r\n\r\n");
            self.queue.push_back((start, Deed::Send(interim.into_bytes())));
        }
        let mut wire = wire(answer, id, row, to_head);
        if let Some((thousandths, _)) = answer.cut {
            wire.truncate((wire.len() as u64 * thousandths / 1000) as usize);
        }
        let second = wire.split_off(wire.len() / 2);
        self.queue.push_back((start, Deed::Send(wire)));
        let last = start + answer.pause;
        self.queue.push_back((last, Deed::Send(second)));
        let end = match (answer.cut, answer.framed) {
            (Some((_, ends)), _) => Deed::Ends(ends),
            // Closing with the upload still coming would reset the answer away.
            (None, Framed::UntilClose) if answer.early => Deed::Finish,
            (None, Framed::UntilClose) if !to_head => Deed::Ends(Ends::Fin),
            (None, _) => Deed::Answered(answer.after),
        };
        self.queue.push_back((last, end));
        net.alarm(start);
        net.alarm(last);
    }

    fn answered(&mut self, net: &Net, after: After) {
        if let Voice::Stream(stream) = &mut self.voice {
            match after {
                After::Kept => {}
                After::Announced => stream.trunk.borrow_mut().go_away(net),
                After::Silent(wait) => {
                    stream.trunk.borrow_mut().close_at = Some(net.now() + wait);
                    net.alarm(net.now() + wait);
                }
            }
            if self.request_whole {
                self.close();
            }
            return;
        }
        match after {
            After::Announced if self.request_whole => self.close(),
            After::Announced => self.voice.finish(),
            // An early answer may be followed by the rest of the request.
            _ if !self.request_whole => {}
            After::Kept => self.ready_for_next(),
            After::Silent(wait) => {
                self.ready_for_next();
                self.queue.push_back((net.now() + wait, Deed::Ends(Ends::Fin)));
                net.alarm(net.now() + wait);
            }
        }
    }

    fn ready_for_next(&mut self) {
        if self.voice.is_stream() {
            self.close();
            return;
        }
        self.current = None;
        self.request_whole = false;
        self.answering = false;
    }
}

fn wire(answer: &Answer, id: u64, row: usize, to_head: bool) -> Vec<u8> {
    let bodiless = to_head || matches!(answer.status, 204 | 304);
    let mut head = format!("HTTP/1.1 {} Said\r\nX-Id: {id}\r\nX-Try: {row}\r\n", answer.status);
    match answer.framed {
        _ if matches!(answer.status, 204 | 304) => {}
        Framed::Length => head.push_str(&format!("Content-Length: {}\r\n", answer.body.len())),
        Framed::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framed::UntilClose => {}
    }
    // Without a body an answer has no end that only the close tells of, so the close has to be said.
    let closes = answer.framed == Framed::UntilClose && matches!(answer.status, 204 | 304);
    if answer.after == After::Announced || closes {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let mut out = head.into_bytes();
    if !bodiless {
        match answer.framed {
            Framed::Length | Framed::UntilClose => out.extend_from_slice(&answer.body),
            Framed::Chunked => {
                let trailer = answer.trailer.then(|| format!("X-Sum: {id}"));
                out.extend_from_slice(&chunked(&answer.body, 1 + answer.body.len() / 3, trailer.as_deref()));
            }
        }
    }
    out
}

/// What a client may get to see of the reply of this row.
pub fn planned(reply: &Reply, row: usize) -> Option<Answered> {
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::EndsOnce(_, answer) if row > 0 => answer,
        Reply::EndsOnce(..) | Reply::Switch(_) | Reply::Garbage(_) | Reply::Ends(_) | Reply::Never => return None,
    };
    let bodiless = matches!(answer.status, 204 | 304);
    Some(Answered {
        status: answer.status,
        body: if bodiless { Vec::new() } else { answer.body.clone() },
        trailer: answer.trailer && answer.framed == Framed::Chunked && !bodiless,
        whole: answer.cut.is_none(),
    })
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
