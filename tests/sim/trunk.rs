//! A peer's HTTP/2 connection and the streams on it.
//!
//! The protocol is spoken by the h2 room itself, in the other role: it is tested against recorded and foreign peers in its
//! own folder, and what is looked at here is the engine between two of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use evenkeel_h2::frame::ErrorCode;
use evenkeel_h2::{Close, Connection, Event, Role, Settings, StreamId, StreamRecv};
use evenkeel_model::Instant;
use evenkeel_reactor::sim::Net;

use crate::line::Line;

pub type SharedTrunk = Rc<RefCell<Trunk>>;

pub struct Trunk {
    pub line: Line,
    machine: Connection,
    /// Streams that the node opened and nobody has taken over.
    opened: VecDeque<StreamId>,
    /// The node sent what HTTP/2 forbids.
    pub complaint: Option<String>,
    alarm: Option<Instant>,
    /// Closed without a word then.
    pub close_at: Option<Instant>,
    finishing: bool,
    pub over: bool,
}

impl Trunk {
    pub fn new(line: Line, role: Role, settings: &Settings, net: &Net) -> SharedTrunk {
        let machine = Connection::new(role, settings, net.now());
        let trunk = Trunk {
            line,
            machine,
            opened: VecDeque::new(),
            complaint: None,
            alarm: None,
            close_at: None,
            finishing: false,
            over: false,
        };
        Rc::new(RefCell::new(trunk))
    }

    /// Takes bytes in that were received.
    pub fn hear(&mut self, bytes: &[u8], net: &Net) {
        if !self.finishing
            && let Err(failure) = self.machine.receive(bytes, net.now())
            && self.complaint.is_none()
        {
            self.complaint = Some(format!("the node broke HTTP/2: {failure:?}"));
        }
    }

    /// Takes in what came and sends what is owed.
    pub fn act(&mut self, net: &Net) {
        if self.over {
            return;
        }
        let bytes = self.line.take();
        self.hear(&bytes, net);
        if self.machine.poll_timeout().is_some_and(|at| at <= net.now()) {
            // Who is too slow to acknowledge is cut off by us, as by anybody.
            let _ = self.machine.handle_timeout(net.now());
        }
        while let Some(event) = self.machine.next_event() {
            match event {
                Event::Opened(stream) => self.opened.push_back(stream),
                Event::Malformed { detail, .. } => {
                    self.complaint = Some(format!("the node sent a request with {detail}"))
                }
                Event::Reset { detail: Some(detail), .. } => {
                    self.complaint.get_or_insert(format!("the node broke a rule of streams: {detail}"));
                }
                Event::Readable { .. }
                | Event::Writable { .. }
                | Event::Reset { .. }
                | Event::PeerGoingAway { .. }
                | Event::SettingsKnown => {}
            }
        }
        self.flush();
        if self.close_at.is_some_and(|at| at <= net.now()) {
            self.close();
            return;
        }
        if let Some(at) = self.machine.poll_timeout()
            && self.alarm.is_none_or(|alarm| alarm > at || alarm <= net.now())
        {
            self.alarm = Some(at);
            net.alarm(at);
        }
        if self.line.saw_reset() || self.line.saw_fin() {
            self.close();
        } else if self.machine.is_finished() && !self.finishing {
            // What still comes would reset our last words away if we closed over it.
            self.finishing = true;
            self.line.finish();
        }
    }

    pub fn flush(&mut self) {
        if self.over || self.finishing {
            return;
        }
        loop {
            let output = self.machine.output();
            let all = output.len();
            if all == 0 {
                return;
            }
            self.line.send(output);
            self.machine.sent(all);
        }
    }

    /// The next stream that the node opened.
    pub fn next_opened(&mut self) -> Option<StreamId> {
        self.opened.pop_front()
    }

    pub fn go_away(&mut self, net: &Net) {
        self.machine.go_away(ErrorCode::NO_ERROR, net.now());
        self.flush();
        if let Some(at) = self.machine.poll_timeout() {
            net.alarm(at);
        }
    }

    /// Whether the other side still holds its socket though this one waits for it.
    pub fn is_held(&self) -> bool {
        !self.over && self.line.end().other_side_is_open()
    }

    pub fn close(&mut self) {
        self.flush();
        self.over = true;
        self.line.close();
    }

    pub fn reset(&mut self) {
        self.over = true;
        self.line.reset();
    }
}

/// One stream, with the face of a connection that carries one exchange.
pub struct Stream {
    pub trunk: SharedTrunk,
    id: Option<StreamId>,
    /// Opened only when the other side's settings are known.
    pub patient: bool,
    closed: bool,
    pending: Vec<u8>,
    finishing: bool,
    received: Vec<u8>,
    paused: bool,
    fin: bool,
    reset: bool,
    /// The connection takes no streams any more.
    pub turned_away: bool,
}

impl Stream {
    /// Opened by the node when `id` is known, by its user with the first byte when not.
    pub fn new(trunk: &SharedTrunk, id: Option<StreamId>) -> Stream {
        Stream {
            trunk: Rc::clone(trunk),
            id,
            patient: false,
            closed: false,
            pending: Vec::new(),
            finishing: false,
            received: Vec::new(),
            paused: false,
            fin: false,
            reset: false,
            turned_away: false,
        }
    }

    fn pump(&mut self) {
        if self.closed {
            return;
        }
        let trunk = Rc::clone(&self.trunk);
        let mut trunk = trunk.borrow_mut();
        let told = trunk.machine.settings_known() || !self.patient;
        if self.id.is_none() && !self.pending.is_empty() && !trunk.over && told {
            self.id = trunk.machine.open(0);
            if self.id.is_none() && trunk.machine.settings_known() {
                self.turned_away = true;
            }
        }
        let Some(id) = self.id else {
            self.turned_away |= trunk.over;
            return;
        };
        if !self.pending.is_empty() {
            match trunk.machine.send(id, &self.pending) {
                Ok(taken) => drop(self.pending.drain(..taken)),
                // Reading tells what became of the stream.
                Err(_) => self.pending.clear(),
            }
        }
        if self.finishing && self.pending.is_empty() {
            self.finishing = false;
            trunk.machine.finish(id);
        }
        let mut room = [0; 4096];
        while !self.paused && !self.fin && !self.reset {
            match trunk.machine.recv(id, &mut room) {
                StreamRecv::Bytes(bytes) => self.received.extend_from_slice(&room[..bytes]),
                StreamRecv::End => self.fin = true,
                StreamRecv::Reset(_) => self.reset = true,
                StreamRecv::Dry => {
                    self.reset |= trunk.over;
                    break;
                }
            }
        }
        trunk.flush();
    }

    pub fn has_received(&mut self) -> bool {
        self.pump();
        !self.received.is_empty()
    }

    pub fn take(&mut self) -> Vec<u8> {
        self.pump();
        std::mem::take(&mut self.received)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.pump();
    }

    pub fn owes(&self) -> bool {
        !self.reset && !self.trunk.borrow().over && (!self.pending.is_empty() || self.finishing)
    }

    pub fn finish(&mut self) {
        self.finishing = true;
        self.pump();
    }

    pub fn pause_reading(&mut self) {
        self.paused = true;
    }

    pub fn resume_reading(&mut self) {
        self.paused = false;
        self.pump();
    }

    pub fn saw_fin(&mut self) -> bool {
        self.pump();
        self.fin
    }

    pub fn saw_reset(&mut self) -> bool {
        self.pump();
        self.reset
    }

    pub fn close(&mut self, how: Close) {
        if self.closed {
            return;
        }
        if how == Close::Orderly {
            self.pump();
        }
        self.closed = true;
        let mut trunk = self.trunk.borrow_mut();
        if let Some(id) = self.id {
            trunk.machine.close(id, how);
            trunk.flush();
        }
    }
}
