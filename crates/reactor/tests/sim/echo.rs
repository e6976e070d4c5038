//! A small server written against `Driver`: sends back what it gets.
//!
//! It follows the rules that serving code has to follow (read until a short read, write until a short
//! write, after a hangup read to the end, look out for late timers) with buffers so small that every
//! rule is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_model::Instant;
use evenkeel_reactor::{Close, Driver, Errno, Event, Recv, Send, Sock, Token};

/// Bytes held for a client that does not read; beyond it the server stops reading too.
const BACKLOG: usize = 64;

/// A connection on which nothing moved for so long is reset.
pub const IDLE: Duration = Duration::from_secs(10);

/// When accepting failed for want of files, it is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const LISTENER: Token = Token(0);

pub struct Echo<D: Driver> {
    pub driver: D,
    listener: Sock,
    accept_at: Option<Instant>,
    connections: BTreeMap<Token, Connection>,
    next_token: u64,
    events: Vec<Event>,
    /// Connections that ended, in whatever way.
    pub ended: usize,
}

struct Connection {
    sock: Sock,
    backlog: Vec<u8>,
    readable: bool,
    writable: bool,
    hangup: bool,
    read_up: bool,
    idle_at: Instant,
}

enum Fate {
    GoesOn,
    Ends(Close),
}

impl<D: Driver> Echo<D> {
    pub fn new(mut driver: D, bound: D::Bound) -> Self {
        let listener = driver.listen(bound, LISTENER).expect("a listener can be watched");
        Echo {
            driver,
            listener,
            accept_at: None,
            connections: BTreeMap::new(),
            next_token: 1,
            events: Vec::new(),
            ended: 0,
        }
    }

    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// One pass of the loop.
    pub fn turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        let idle = self.connections.values().map(|connection| connection.idle_at);
        let until = idle.chain(self.accept_at).min();
        self.driver.poll(&mut events, until);
        for event in events.drain(..) {
            if event.token == LISTENER {
                self.accept();
            } else if let Some(connection) = self.connections.get_mut(&event.token) {
                connection.readable |= event.readable;
                connection.writable |= event.writable;
                connection.hangup |= event.hangup;
                self.serve(event.token);
            }
        }
        self.events = events;
        self.handle_timeouts();
    }

    fn handle_timeouts(&mut self) {
        let now = self.driver.now();
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.accept();
        }
        let idle: Vec<Token> =
            self.connections.iter().filter(|(_, of)| of.idle_at <= now).map(|(&token, _)| token).collect();
        for token in idle {
            self.end(token, Close::Reset);
        }
    }

    fn accept(&mut self) {
        loop {
            match self.driver.accept(self.listener) {
                Ok(Some((sock, _))) => self.open(sock),
                Ok(None) => return,
                Err(error) if error.is_our_shortage() => {
                    self.accept_at = Some(self.driver.now() + ACCEPT_AGAIN);
                    return;
                }
                // It died in the queue; the next one may be well.
                Err(Errno(_)) => {}
            }
        }
    }

    fn open(&mut self, sock: Sock) {
        let token = Token(self.next_token);
        self.next_token += 1;
        if self.driver.watch(sock, token).is_err() {
            self.driver.close(sock, Close::Reset);
            self.ended += 1;
            return;
        }
        let idle_at = self.driver.now() + IDLE;
        let connection = Connection {
            sock,
            backlog: Vec::new(),
            readable: false,
            writable: false,
            hangup: false,
            read_up: false,
            idle_at,
        };
        self.connections.insert(token, connection);
    }

    fn serve(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.serve(&mut self.driver) {
            Fate::GoesOn => {}
            Fate::Ends(how) => self.end(token, how),
        }
    }

    fn end(&mut self, token: Token, how: Close) {
        if let Some(connection) = self.connections.remove(&token) {
            self.driver.close(connection.sock, how);
            self.ended += 1;
        }
    }
}

impl Connection {
    fn serve<D: Driver>(&mut self, driver: &mut D) -> Fate {
        loop {
            let room = BACKLOG - self.backlog.len();
            let reads = self.readable && !self.read_up && room > 0;
            let writes = self.writable && !self.backlog.is_empty();
            if !reads && !writes {
                break;
            }
            if reads && self.read(driver, room).is_err() {
                return Fate::Ends(Close::Reset);
            }
            if writes && self.write(driver).is_err() {
                return Fate::Ends(Close::Reset);
            }
        }
        if self.read_up && self.backlog.is_empty() { Fate::Ends(Close::Orderly) } else { Fate::GoesOn }
    }

    fn read<D: Driver>(&mut self, driver: &mut D, room: usize) -> Result<(), Errno> {
        let mut into = [0; BACKLOG];
        match driver.recv(self.sock, &mut into[..room]) {
            Recv::Bytes(bytes) => {
                self.backlog.extend_from_slice(&into[..bytes]);
                self.idle_at = driver.now() + IDLE;
                // A short read means dry, unless the end may lie right behind it.
                self.readable = bytes == room || self.hangup;
            }
            Recv::Dry => self.readable = false,
            Recv::End => self.read_up = true,
            Recv::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn write<D: Driver>(&mut self, driver: &mut D) -> Result<(), Errno> {
        match driver.send(self.sock, &self.backlog) {
            Send::Taken(bytes) => {
                self.writable = bytes == self.backlog.len();
                self.backlog.drain(..bytes);
                if bytes > 0 {
                    self.idle_at = driver.now() + IDLE;
                }
                Ok(())
            }
            Send::Failed(error) => Err(error),
        }
    }
}
