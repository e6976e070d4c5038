//! The clients in front of the node: they send what their script says and write down what they got.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_h2::{Role, Settings};
use evenkeel_model::Instant;
use evenkeel_reactor::sim::Net;
use evenkeel_tls::Session;
use evenkeel_wire::proxy::{Sent, write_v1, write_v2};

use crate::book::{Request, Shared};
use crate::http1::{Framing, Message, Reader, Step};
use crate::line::Line;
use crate::trunk::{SharedTrunk, Stream, Trunk};
use crate::voice::Voice;
use crate::world::TOLD;

/// How a client sends its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All at once, whatever comes back.
    Pipelined,
    /// Each when the one before was answered, and after this time.
    OneByOne(Duration),
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// When it has all its answers.
    Content,
    /// Never: the node has to close.
    Never,
    /// At this time, whatever it has.
    Early { after: Duration, reset: bool },
    /// It says that it will send no more behind its last request.
    HalfClosed,
    /// It sends only so many thousandths of its last request and then nothing.
    Silent { thousandths: u64 },
}

#[derive(Clone, Debug)]
pub struct Script {
    pub requests: Vec<u64>,
    pub pace: Pace,
    pub leaves: Leaves,
    pub start: Duration,
    /// What is sent goes out in pieces of up to this size,
    pub piece: usize,
    /// this long apart.
    pub gap: Duration,
    /// It reads nothing for so long at first.
    pub deaf: Duration,
}

/// What a client's requests go over.
#[derive(Clone)]
pub enum Speech {
    Plain,
    Tls(evenkeel_tls::Client),
    /// A stream of a connection that others use as well.
    Stream(Rc<Caller>),
}

impl Speech {
    pub fn word(&self) -> &'static str {
        match self {
            Speech::Plain => "plain",
            Speech::Tls(_) => "tls",
            Speech::Stream(caller) if caller.tls.is_some() => "a stream inside tls",
            Speech::Stream(_) => "a stream",
        }
    }
}

/// Several clients' HTTP/2 connection: the first who has something to say opens it, the last one to go closes it.
pub struct Caller {
    to: SocketAddr,
    tls: Option<evenkeel_tls::Client>,
    settings: Settings,
    trunk: RefCell<Option<SharedTrunk>>,
    users: Cell<usize>,
}

impl Caller {
    pub fn new(to: SocketAddr, tls: Option<evenkeel_tls::Client>, settings: Settings, users: usize) -> Rc<Caller> {
        Rc::new(Caller { to, tls, settings, trunk: RefCell::default(), users: Cell::new(users) })
    }

    fn trunk(&self, net: &Net) -> SharedTrunk {
        let mut trunk = self.trunk.borrow_mut();
        let trunk = trunk.get_or_insert_with(|| {
            let line = dial(net, self.to, self.tls.as_ref());
            Trunk::new(line, Role::Client, &self.settings, net)
        });
        Rc::clone(trunk)
    }

    pub fn act(&self, net: &Net, book: &Shared) {
        let Some(trunk) = &*self.trunk.borrow() else { return };
        let mut trunk = trunk.borrow_mut();
        trunk.act(net);
        let broken = trunk.line.broken.take();
        if let Some(complaint) = trunk.complaint.take().or(broken) {
            book.borrow_mut().complain(format!("client {:?}: {complaint}", trunk.line.end().local()));
        }
    }

    fn leave(&self, tunnelled: bool) {
        // What a tunnel still has in the node would be lost with the connection; the node closes it when it has rested.
        if tunnelled {
            return;
        }
        self.users.set(self.users.get() - 1);
        let Some(trunk) = &*self.trunk.borrow() else { return };
        let mut trunk = trunk.borrow_mut();
        if self.users.get() == 0 && !trunk.over {
            trunk.close();
        }
    }
}

fn dial(net: &Net, to: SocketAddr, tls: Option<&evenkeel_tls::Client>) -> Line {
    let session = tls.map(|tls| Session::client(tls, to.ip()).expect("the settings were accepted"));
    let end = net.client_connect(to);
    if TOLD.contains(&to.port()) {
        // It names itself, so that its outcomes are found.
        end.send(&header(end.local(), to));
    }
    Line::new(end, session)
}

/// Of either version.
fn header(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = Vec::new();
    if client.port().is_multiple_of(2) {
        write_v1(&mut header, client, local);
    } else {
        let (authority, alpn, unique_id) = (Some(&b"a.example"[..]), None, Some(&b"one"[..]));
        write_v2(&mut header, &Sent { client, local, datagram: false, authority, alpn, unique_id });
    }
    header
}

/// What a client saw of one answer.
#[derive(Debug)]
pub struct View {
    pub id: u64,
    pub message: Message,
    pub interim: Vec<Message>,
    pub whole: bool,
}

pub struct Client {
    pub script: Script,
    pub to: SocketAddr,
    pub speech: Speech,
    pub voice: Option<Voice>,
    pub address: Option<SocketAddr>,
    /// What was answered, in order.
    pub views: Vec<View>,
    pub received: usize,
    pub tunnel: Option<Vec<u8>>,
    pub saw_fin: bool,
    pub saw_reset: bool,
    pub refused: bool,
    /// Left by its own will before it had everything.
    pub left: bool,
    pub over: bool,
    /// Requests of which a byte went out, or was handed to the network.
    pub begun: usize,
    pub ended_at: Instant,
    book: Shared,
    reader: Reader,
    interim: Vec<Message>,
    to_send: VecDeque<u8>,
    next_send: Instant,
    /// The body that waits for a 100, until a time.
    held: Option<(Vec<u8>, Instant)>,
    next_request: usize,
    next_request_at: Instant,
    finish_behind: bool,
    /// It got an answer in this turn and takes its time before the next request.
    thinks: Option<Duration>,
}

impl Client {
    pub fn new(book: &Shared, to: SocketAddr, speech: Speech, script: Script) -> Self {
        Client {
            script,
            to,
            speech,
            voice: None,
            address: None,
            views: Vec::new(),
            received: 0,
            tunnel: None,
            saw_fin: false,
            saw_reset: false,
            refused: false,
            left: false,
            over: false,
            begun: 0,
            ended_at: Instant::START,
            book: book.clone(),
            reader: Reader::default(),
            interim: Vec::new(),
            to_send: VecDeque::new(),
            next_send: Instant::START,
            held: None,
            next_request: 0,
            next_request_at: Instant::START,
            finish_behind: false,
            thinks: None,
        }
    }

    fn start_at(&self) -> Instant {
        Instant::START + self.script.start
    }

    fn request(&self, position: usize) -> Request {
        self.book.borrow().requests[&self.script.requests[position]].clone()
    }

    pub fn act(&mut self, net: &Net) {
        if self.over {
            return;
        }
        match self.voice.take() {
            Some(mut voice) => {
                self.go_on(&mut voice, net);
                self.voice = Some(voice);
            }
            None => self.connect(net),
        }
    }

    fn go_on(&mut self, voice: &mut Voice, net: &Net) {
        let now = net.now();
        if matches!(voice.connected(), Some(Err(_))) || voice.is_turned_away() {
            self.refused = true;
            self.leave(voice, now, false);
            return;
        }
        if let Leaves::Early { after, reset } = self.script.leaves
            && now >= self.start_at() + after
        {
            self.left = true;
            self.leave(voice, now, reset);
            return;
        }
        if !self.script.deaf.is_zero() && now >= self.start_at() + self.script.deaf {
            self.script.deaf = Duration::ZERO;
            voice.resume_reading();
        }
        if voice.has_received() {
            let bytes = voice.take();
            self.received += bytes.len();
            for byte in bytes {
                self.byte(byte);
            }
        }
        if let Some(think) = self.thinks.take() {
            self.next_request_at = now + think;
            net.alarm(self.next_request_at);
        }
        if self.ended(voice, now) {
            return;
        }
        self.send(voice, net);
    }

    fn connect(&mut self, net: &Net) {
        let at = self.start_at();
        if net.now() < at {
            if net.now() == Instant::START {
                net.alarm(at);
            }
            return;
        }
        let mut voice = match &self.speech {
            Speech::Plain => Voice::Line(dial(net, self.to, None)),
            Speech::Tls(tls) => Voice::Line(dial(net, self.to, Some(tls))),
            Speech::Stream(caller) => {
                // Whether a tunnel can be had is known when the node's settings are.
                let mut stream = Stream::new(&caller.trunk(net), None);
                stream.patient = self.request(0).wire.windows(9).any(|word| word == b"websocket");
                Voice::Stream(stream)
            }
        };
        self.address = Some(voice.local());
        if !self.script.deaf.is_zero() {
            voice.pause_reading();
            net.alarm(at + self.script.deaf);
        }
        if let Leaves::Early { after, .. } = self.script.leaves {
            net.alarm(at + after);
        }
        self.next_request_at = net.now();
        self.send(&mut voice, net);
        self.voice = Some(voice);
    }

    fn leave(&mut self, voice: &mut Voice, now: Instant, reset: bool) {
        if let Voice::Line(line) = voice
            && let Some(broken) = &line.broken
        {
            self.book.borrow_mut().complain(format!("client {:?}: the node broke TLS: {broken}", self.address));
        }
        if reset {
            voice.reset()
        } else {
            voice.close()
        }
        if let Speech::Stream(caller) = &self.speech {
            caller.leave(self.tunnel.is_some());
        }
        self.over = true;
        self.ended_at = now;
    }

    /// Looks whether it is time to go. True when it has gone.
    fn ended(&mut self, voice: &mut Voice, now: Instant) -> bool {
        if !self.script.deaf.is_zero() {
            return false;
        }
        if voice.saw_reset() {
            self.saw_reset = true;
            self.leave(voice, now, false);
            return true;
        }
        if voice.saw_fin() {
            self.saw_fin = true;
            if self.tunnel.is_some() && (self.finish_behind || !self.to_send.is_empty() || voice.owes()) {
                return false;
            }
            if self.reader.is_until_close() {
                self.answered(true);
            }
            self.leave(voice, now, false);
            return true;
        }
        let content = self.views.len() == self.script.requests.len()
            && self.tunnel.is_none()
            && self.views.last().is_none_or(|view| view.whole);
        if content && self.script.leaves == Leaves::Content {
            self.leave(voice, now, false);
            return true;
        }
        // A client that is told that nothing more will come does not wait for it; nor does one that gave up its
        // upload for an early answer.
        if self.views.last().is_some_and(|view| view.whole && view.message.head.has("connection", "close")) {
            self.leave(voice, now, false);
            return true;
        }
        false
    }

    fn send(&mut self, voice: &mut Voice, net: &Net) {
        let now = net.now();
        loop {
            if let Some((_, until)) = &self.held
                && *until <= now
            {
                self.release();
            }
            if self.to_send.is_empty() && self.held.is_none() {
                self.next(now, net);
            }
            if self.to_send.is_empty() {
                break;
            }
            if now < self.next_send {
                return;
            }
            let size = self.script.piece.min(self.to_send.len());
            let bytes: Vec<u8> = self.to_send.drain(..size).collect();
            voice.send(&bytes);
            if !self.script.gap.is_zero() {
                self.next_send = now + self.script.gap;
                net.alarm(self.next_send);
            }
        }
        if self.finish_behind && self.held.is_none() {
            self.finish_behind = false;
            voice.finish();
        }
    }

    /// Puts the next request behind what is to be sent, when its time has come.
    fn next(&mut self, now: Instant, net: &Net) {
        let position = self.next_request;
        if position >= self.script.requests.len() {
            return;
        }
        if let Pace::OneByOne(_) = self.script.pace
            && (self.views.len() < position
                || !self.views.last().is_none_or(|view| view.whole)
                || now < self.next_request_at)
        {
            return;
        }
        self.next_request += 1;
        self.begun += 1;
        let request = self.request(position);
        let last = self.next_request == self.script.requests.len();
        let mut wire = request.wire.clone();
        match self.script.leaves {
            Leaves::Silent { thousandths } if last => {
                wire.truncate((wire.len() as u64 * thousandths / 1000) as usize);
                if wire.is_empty() {
                    self.begun -= 1;
                }
            }
            Leaves::HalfClosed if last => self.finish_behind = true,
            Leaves::Content | Leaves::Never | Leaves::Early { .. } | Leaves::HalfClosed | Leaves::Silent { .. } => {}
        }
        if request.expects && wire.len() > request.head_len {
            let body = wire.split_off(request.head_len);
            let until = now + Duration::from_secs(1);
            net.alarm(until);
            self.held = Some((body, until));
        }
        self.to_send.extend(wire);
    }

    fn release(&mut self) {
        if let Some((body, _)) = self.held.take() {
            self.to_send.extend(body);
        }
    }

    fn byte(&mut self, byte: u8) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.push(byte);
            return;
        }
        let position = self.views.len() - usize::from(self.views.last().is_some_and(|view| !view.whole));
        let Some(&id) = self.script.requests.get(position) else {
            let what = format!("client {:?} got bytes that it did not ask for", self.address);
            self.book.borrow_mut().complain(what);
            self.tunnel = Some(Vec::new());
            return;
        };
        let to_head = self.book.borrow().requests[&id].method == "HEAD" && self.told_method(position);
        let step = self.reader.feed(byte, |head| Framing::of_answer(head, to_head));
        if step == Step::Nothing {
            if let Some(view) = self.views.last_mut().filter(|view| !view.whole)
                && view.message.body.len() < self.reader.message.body.len()
            {
                view.message.body.push(byte);
            }
            return;
        }
        if self.reader.begun && !self.reader.message.head.is_final() {
            let interim = self.reader.take();
            if interim.head.status() == 100 {
                self.release();
            }
            self.interim.push(interim);
            return;
        }
        if self.views.len() == position {
            let message = Message { head: self.reader.message.head.clone(), ..Message::default() };
            let interim = std::mem::take(&mut self.interim);
            self.views.push(View { id, message, interim, whole: false });
            if position + 1 == self.next_request {
                // The answer is final: whatever of the request was held back stays where it is.
                self.held = None;
            }
        }
        if step == Step::Done {
            self.answered(true);
        }
    }

    /// A client that fell silent in the middle of a head gets a body in its answer: nobody knows that it said HEAD.
    fn told_method(&self, position: usize) -> bool {
        let Leaves::Silent { thousandths } = self.script.leaves else { return true };
        let request = self.request(position);
        let sent = (request.wire.len() as u64 * thousandths / 1000) as usize;
        position + 1 < self.script.requests.len() || sent >= request.head_len
    }

    fn answered(&mut self, whole: bool) {
        let message = self.reader.take();
        let Some(view) = self.views.last_mut() else { return };
        view.whole = whole;
        let switched = message.head.status() == 101;
        view.message = message;
        if switched {
            self.tunnel = Some(Vec::new());
            let upgrade = self.book.borrow().requests[&view.id].upgrade.clone().unwrap_or_default();
            self.to_send.extend(upgrade);
            self.finish_behind = true;
        } else if let Pace::OneByOne(think) = self.script.pace {
            self.thinks = Some(think);
        }
    }
}
